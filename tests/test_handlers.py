"""Deliveries to events: what counts, for whom, under which key; what is ours, foreign or malformed says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import handlers
from schemas import events as e

ALICE = {"id": 1, "login": "alice", "type": "User", "site_admin": False}
OURSELVES = {"id": 2, "login": "interlock[bot]", "type": "Bot"}
REPO = {"id": 7, "full_name": "octo/app", "private": True}
FORK = {"id": 8, "full_name": "eve/app"}
AT = "2026-01-02T03:04:05Z"
A, B, NOTHING = "a" * 40, "b" * 40, "0" * 40
ISSUE = {"id": 5, "number": 12, "title": "A title", "body": None, "user": ALICE, "updated_at": AT, "locked": False}


def translated(event: str, action: str | None = None, sender: Any = ALICE, **body: Any) -> list[e.Addressed]:
    whole = {"repository": REPO, "sender": sender, "installation": {"id": 3, "node_id": "x"}, **body}
    payload = whole if action is None else {**whole, "action": action}
    return list(handlers.translate(event, payload, slug="interlock", app_id=1))


def pull(ref: str, repo: Any = REPO) -> dict[str, Any]:
    return {"id": 6, "number": 13, "head": {"ref": ref, "sha": A, "repo": repo}, "merged": False, "updated_at": AT}


def review(**more: Any) -> dict[str, Any]:
    return {"id": 10, "state": "APPROVED", "body": None, "commit_id": A, "user": ALICE, "submitted_at": AT, **more}


def run(about: Any, app: Any = None) -> dict[str, Any]:
    return {"id": 11, "head_sha": A, "external_id": about, "app": app or {"id": 1, "slug": "interlock"}}


def test_a_label_carries_the_issue_and_says_nothing_about_permission() -> None:
    claimed = {**ALICE, "permission": "admin"}
    (found,) = translated("issues", "labeled", claimed, issue=ISSUE, label={"name": "interlock", "color": "fff"})
    assert found.key == "issues:labeled:5:interlock:1:2026-01-02T03:04:05+00:00"
    assert found.to == e.Address(repo_id=7, issue=12)
    assert isinstance(found.event, e.IssueLabelled)
    assert (found.event.installation, found.event.body, found.event.repo.full_name) == (3, "", "octo/app")
    assert found.event.by.permission is None


@pytest.mark.parametrize("action", ["closed", "deleted", "transferred"])
def test_the_end_of_an_issue_is_told_once_for_each_way(action: str) -> None:
    (found,) = translated("issues", action, issue=ISSUE)
    assert found.key == f"issues:{action}:5:2026-01-02T03:04:05+00:00"
    assert isinstance(found.event, e.IssueClosed) and found.event.how == action


def test_an_issues_handler_leaves_us_and_pull_requests_alone() -> None:
    label = {"name": "interlock"}
    assert not translated("issues", "labeled", OURSELVES, issue=ISSUE, label=label)
    assert not translated("issues", "labeled", issue={**ISSUE, "pull_request": {"url": "x"}}, label=label)
    assert not translated("issues", "labeled", issue=ISSUE)
    assert not translated("issues", "edited", issue=ISSUE)
    comment = {"id": 9, "body": "/interlock stop", "user": OURSELVES, "created_at": AT}
    assert not translated("issue_comment", "created", issue=ISSUE, comment=comment)
    (found,) = translated("issue_comment", "created", issue=ISSUE, comment={**comment, "user": ALICE})
    assert found.key == "issue_comment:9" and isinstance(found.event, e.CommentAdded)


def test_a_review_counts_on_our_own_branch_in_the_repository_itself() -> None:
    (found,) = translated("pull_request_review", "submitted", pull_request=pull("interlock/12-2"), review=review())
    assert found.to == e.Address(repo_id=7, issue=12, generation=2) and found.key == "review:10:approved"
    assert isinstance(found.event, e.ReviewSubmitted) and found.event.head == A
    for foreign in (pull("interlock/12", FORK), pull("interlock/12", None), pull("interlock/012"), pull("main")):
        assert not translated("pull_request_review", "submitted", pull_request=foreign, review=review())
        assert not translated("pull_request", "closed", pull_request=foreign)
    ours = pull("interlock/12")
    assert not translated("pull_request_review", "submitted", pull_request=ours, review=review(user=OURSELVES))
    assert not translated("pull_request_review", "submitted", pull_request=ours, review=review(state="pending"))
    assert not translated("pull_request", "closed", OURSELVES, pull_request=ours)
    (closed,) = translated("pull_request", "closed", pull_request=ours)
    assert closed.key == "pull_request:closed:6:2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("about", "issue", "generation"),
    [("octo/app#12", 12, 1), ("octo/app#12/3@" + A, 12, 1), ("octo/app#12~2/3@" + A, 12, 2), ("octo/app", None, None),
     ("a@octo/app#12", None, None), ("octo/app#x", None, None), (None, None, None)],
)  # fmt: skip
def test_a_button_is_for_the_ticket_in_its_external_id(about: Any, issue: int | None, generation: int | None) -> None:
    button = {"identifier": "release"}
    found = translated("check_run", "requested_action", check_run=run(about), requested_action=button)
    assert [item.to for item in found] == (
        [e.Address(repo_id=7, issue=issue, generation=generation)] if issue is not None else []
    )
    assert not translated("check_run", "requested_action", check_run=run(about, {"id": 2}), requested_action=button)


def test_each_delivery_of_a_press_is_a_press() -> None:
    """Two within one second are alike but for the delivery's id, which the loop makes the key of what has none."""
    (found,) = translated("check_run", "requested_action", check_run={**run("octo/app#12/3@x"), "completed_at": AT},
                          requested_action={"identifier": "retry"})  # fmt: skip
    assert isinstance(found.event, e.ButtonPressed) and found.event.by.permission is None and found.event.late
    assert found.key == ""


def test_what_is_ours_may_be_asked_for_anew() -> None:
    (one,) = translated("check_run", "rerequested", check_run=run("octo/app#12~2/3@x"))
    assert isinstance(one.event, e.CheckRerequested) and one.to == e.Address(repo_id=7, issue=12, generation=2)
    suite = {"id": 21, "head_sha": A, "head_branch": "interlock/12", "updated_at": AT, "app": {"id": 1}}
    (all_of_them,) = translated("check_suite", "rerequested", check_suite=suite)
    assert all_of_them.event == one.event and all_of_them.to == e.Address(repo_id=7, issue=12, generation=1)
    for foreign in ({"app": {"id": 2}}, {"head_branch": None}, {"head_branch": "main"}):
        assert not translated("check_suite", "rerequested", check_suite={**suite, **foreign})
    assert not translated("check_suite", "requested", check_suite=suite)
    assert not translated("check_run", "rerequested", check_run=run("octo/app#12", {"id": 2}))


def test_an_edit_of_the_issue_is_told_and_one_of_a_comment_is_nothing() -> None:
    (found,) = translated("issues", "edited", issue=ISSUE, changes={"body": {"from": "x"}})
    assert isinstance(found.event, e.IssueEdited) and found.to == e.Address(repo_id=7, issue=12)
    assert not translated("issues", "edited", issue=ISSUE, changes={"labels": {}})
    assert not translated("issues", "edited", OURSELVES, issue=ISSUE, changes={"body": {"from": "x"}})
    comment = {"id": 9, "body": "/interlock stop", "user": ALICE, "created_at": AT}
    assert not translated("issue_comment", "edited", issue=ISSUE, comment=comment, changes={"body": {"from": "hi"}})


def test_a_push_is_to_a_ticket_s_branch_or_moves_a_base() -> None:
    (found,) = translated("push", None, OURSELVES, ref="refs/heads/interlock/12", before=NOTHING, after=A, forced=True)
    assert (
        found.to == e.Address(repo_id=7, issue=12, generation=1) and found.key == ""
    )  # it may come again, and be another
    assert isinstance(found.event, e.BranchPushed) and found.event.ours and found.event.before is None
    (moved,) = translated("push", ref="refs/heads/main", before=A, after=B, forced=False)
    assert moved.to == e.Address(repo_id=7, base_ref="main") and moved.key == f"push:refs/heads/main:{A}:{B}"
    assert isinstance(moved.event, e.BaseMoved) and moved.event.policy  # its body lists no commit: who knows
    for paths, touched in ((["a.py"], False), ([".github/interlock.yml"], True)):
        commit = {"added": [], "modified": paths, "removed": []}
        (moved,) = translated("push", ref="refs/heads/main", before=A, after=B, commits=[commit])
        assert isinstance(moved.event, e.BaseMoved) and moved.event.policy is touched
    (gone,) = translated("push", ref="refs/heads/main", before=A, after=NOTHING)
    assert isinstance(gone.event, e.PlaceChanged) and gone.event.how == "base_deleted"
    assert not translated("push", ref="refs/tags/interlock/12", before=A, after=B)
    for base in ("main", "12", "interlock/12"):  # what CI is to check: no ticket's branch, and nobody's base
        (queue,) = translated("push", None, OURSELVES, ref=f"refs/heads/interlock/queue/{base}", before=A, after=B)
        assert isinstance(queue.event, e.BaseMoved)
        assert queue.to == e.Address(repo_id=7, base_ref=f"interlock/queue/{base}")


def test_what_we_do_not_know_is_nothing_and_what_does_not_fit_is_an_error() -> None:
    assert not translated("star", "created")
    with pytest.raises(ValueError):
        translated("issues", "closed", {"login": "no id"}, issue=ISSUE)
    with pytest.raises(ValueError):
        translated("issues", "closed", issue={**ISSUE, "number": "twelve"})


REPOSITORY = [("renamed", "renamed"), ("transferred", "transferred"), ("archived", "archived"), ("deleted", "deleted")]


@pytest.mark.parametrize(("action", "how"), REPOSITORY)
def test_a_repository_tells_all_its_tickets(action: str, how: str) -> None:
    (found,) = translated("repository", action, OURSELVES)  # whoever did it
    assert found.to == e.Address(repo_id=7) and found.key == ""
    assert isinstance(found.event, e.PlaceChanged) and found.event.how == how
    assert found.event.repo and found.event.repo.full_name == "octo/app" and found.event.installation == 3


def test_only_a_new_default_branch_is_an_edit_that_counts() -> None:
    assert not translated("repository", "edited", changes={"description": {"from": "old"}})
    (found,) = translated("repository", "edited", changes={"default_branch": {"from": "main"}})
    assert isinstance(found.event, e.PlaceChanged) and (found.event.how, found.event.old) == ("default_branch", "main")


def test_an_installation_tells_all_that_it_works_for() -> None:
    body = {"installation": {"id": 3, "created_at": 1_700_000_000}, "sender": ALICE, "repositories": [REPO]}
    for action, how in (("suspend", "suspended"), ("unsuspend", "unsuspended"), ("deleted", "uninstalled")):
        (found,) = handlers.translate("installation", {**body, "action": action}, slug="interlock", app_id=1)
        assert found.to == e.Address(installation=3) and found.repo is None
        assert isinstance(found.event, e.PlaceChanged) and found.event.how == how
    lists = {"repositories_removed": [REPO, FORK], "repositories_added": [{**REPO, "id": 9}]}
    names = [
        (one.to.repo_id if one.to else 0, one.event.how)
        for one in handlers.translate(
            "installation_repositories", {**body, **lists, "action": "removed"}, slug="i", app_id=1
        )
        if isinstance(one.event, e.PlaceChanged)
    ]
    assert names == [(7, "removed"), (8, "removed"), (9, "added")]
    assert not handlers.translate("installation", {**body, "action": "created"}, slug="interlock", app_id=1)
    with pytest.raises(ValueError):
        handlers.translate("installation", {"action": "suspend", "sender": ALICE}, slug="interlock", app_id=1)


def test_a_conversation_is_locked_and_a_pull_request_opened_again() -> None:
    (locked,) = translated("issues", "locked", issue=ISSUE)
    assert isinstance(locked.event, e.PlaceChanged) and locked.to == e.Address(repo_id=7, issue=12)
    assert not translated("issues", "locked", issue={**ISSUE, "pull_request": {"url": "x"}})
    (opened,) = translated("pull_request", "reopened", pull_request=pull("interlock/12"))
    assert isinstance(opened.event, e.PullRequestReopened)
    assert not translated("pull_request", "reopened", OURSELVES, pull_request=pull("interlock/12"))


def test_the_app_asks_for_every_event_that_we_act_on() -> None:
    """GitHub sends an App's own check suites and its installations unasked."""
    asked = yaml.safe_load((Path(__file__).parents[1] / "app.yml").read_text("utf-8"))["default_events"]
    assert {*handlers.ROUTES, *(event for event, _ in handlers.PLACES)} - {"check_suite"} == set(asked)
