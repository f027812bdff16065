"""What happens around a ticket, through the real server: issues, pull requests, branches, repositories, installations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.places import (
    POLICY,
    S,
    act,
    approve,
    approve_at_once,
    holds_reviews,
    nothing_left,
    patch,
    place,
    push,
    put,
    reads,
    requests,
    roles,
    says,
    ticket,
    under_review,
    until,
    until_state,
)  # fmt: skip
from tests.e2e.world import Zygote


@pytest.mark.slow
async def test_the_end_of_an_issue_ends_its_ticket_and_a_new_label_begins_anew(tmp_path: Path, zygote: Zygote) -> None:
    async with place(tmp_path, zygote, "Aabcd") as scene:
        issues = [await put(scene, name) for name in "abcd"]
        for issue in issues:
            await until(scene, issue, lambda found: found.agent_running)
        one, two, three, four = issues
        await patch(scene, f"/issues/{one}", state="closed")
        await scene.github.as_user("bob", "DELETE", f"/repos/octo/app/issues/{two}/labels/interlock")
        for number, action in ((three, "deleted"), (four, "transferred")):
            body = {"repository": scene.repo.id, "number": number, "action": action, "login": "bob"}
            await scene.github.control("issue-event", body)
        for issue, why in zip(issues, ("closed", "took the label off", "deleted", "transferred"), strict=True):
            found = await until_state(scene, issue, S.CANCELLED)
            assert why in found.note and "bob" in found.note and not found.agent_running
        await reads(scene, one, "Interlock · cancelled", "Label the issue again")
        await patch(scene, f"/issues/{one}", state="open")
        path = f"/repos/octo/app/issues/{one}/labels"
        await scene.github.as_user("bob", "DELETE", f"{path}/interlock")
        await scene.github.as_user("bob", "POST", path, {"labels": ["interlock"]})
        second = await until(scene, f"octo/app#{one}~2", lambda found: found.agent_running)
        assert (second.generation, second.branch) == (2, f"interlock/{one}-2")


@pytest.mark.slow
async def test_a_locked_issue_is_worked_on_and_hears_everything_when_it_is_unlocked(
    tmp_path: Path, zygote: Zygote
) -> None:
    async with place(tmp_path, zygote) as scene:
        (found,) = await under_review(scene, "A")
        await act(scene, "lock", number=found.issue)
        pull = found.pull_request
        assert pull is not None
        await patch(scene, f"/pulls/{pull.number}", state="closed")
        await until_state(scene, found.issue, S.STOPPED)
        refused = "octo/app#1:pr-closed"
        await until(scene, found.issue, lambda it: "because issue is locked" in it.notice and refused not in it.note)
        async with asyncio.timeout(30):
            sequence, path = 0, f"/commits/{found.tip}/check-runs?check_name=interlock"
            told = ("action_required", "bob closed the pull request")
            while told not in [
                (it["conclusion"], it["output"]["title"]) for it in (await scene.get(path))["check_runs"]
            ]:
                sequence = await scene.github.wait(sequence, 5.0)
        assert not any("closed the pull request, so" in one["body"] for one in await scene.comments(found.issue))
        await act(scene, "lock", number=found.issue, locked=False)
        await reads(scene, found.issue, "bob closed the pull request, so the work has stopped", "opens it again")
        await patch(scene, f"/pulls/{pull.number}", state="open")
        await until_state(scene, found.issue, S.REVIEWING)
        await approve(scene, found)
        await until_state(scene, found.issue, S.DONE)


@pytest.mark.slow
async def test_what_people_do_to_branches_and_pull_requests(tmp_path: Path, zygote: Zygote) -> None:
    async with place(tmp_path, zygote) as scene:
        plain, deleted, forced, closed = await under_review(scene, "A", "B", "C", "D")
        # A plain push is kept, and an approval that is waiting to count is not taken for it.
        await holds_reviews(scene)
        await approve(scene, plain)
        await until_state(scene, plain.issue, S.LANDING)
        hand = await push(scene, "HEAD:refs/heads/interlock/1", files={"hand": "made\n"}, onto="interlock/1")
        again = await until(scene, plain.issue, lambda it: it.state is S.REVIEWING and it.tip == hand)
        assert not again.approvals
        await reads(scene, plain.issue, "The approval does not count any more: bob pushed to its branch", "review")
        await act(scene, "calm")
        await scene.github.user("carol")
        await roles(scene, carol="write")
        await approve_at_once(scene, plain, "carol")  # whoever pushed has a part in the work
        done = await until_state(scene, plain.issue, S.DONE)
        assert len(done.landed) == 2 and (await scene.get("/contents/hand?ref=main"))["size"] == 5
        # A branch that is taken away can be brought back, and not otherwise resumed.
        await push(scene, ":refs/heads/interlock/2")
        await push(scene, "+HEAD:refs/heads/interlock/3", files={"other": "history\n"})
        for found, what in ((deleted, "deleted"), (forced, "moved by force")):
            await until(scene, found.issue, lambda it: it.state is S.STOPPED and it.branch_lost)
            await reads(scene, found.issue, f"was {what} by bob", f"back to {found.tip}", "take the label off")
            await says(scene, found.issue, "/interlock resume")
            await reads(scene, found.issue, "Someone who may write here: bring", "<!-- interlock:octo/app#", "reply:")
            await push(scene, f"+{found.tip}:refs/heads/{found.branch}")
            await until(scene, found.issue, lambda it: not it.branch_lost)
            await says(scene, found.issue, "/interlock resume")
            await until_state(scene, found.issue, S.REVIEWING)
            await approve(scene, found)
            await until_state(scene, found.issue, S.DONE)
        # A pull request that is closed by hand lands nothing, even when it was approved before.
        pull = f"/pulls/{closed.pull_request.number if closed.pull_request else 0}"
        await patch(scene, pull, state="closed")
        await until_state(scene, closed.issue, S.STOPPED)
        await says(scene, closed.issue, "/interlock resume")
        await until_state(scene, closed.issue, S.REVIEWING)
        async with asyncio.timeout(30):
            sequence = 0
            while (await scene.get(pull))["state"] != "open":
                sequence = await scene.github.wait(sequence, 5.0)


@pytest.mark.slow
async def test_a_repository_and_its_base_keep_being_found_under_new_names(tmp_path: Path, zygote: Zygote) -> None:
    async with place(tmp_path, zygote) as scene:
        (found,) = await under_review(scene, "A")
        await act(scene, "rename", name="renamed")
        await act(scene, "rename_branch", **{"from": "main", "to": "trunk"})
        found = await until(scene, found.issue, lambda it: it.base_ref == "trunk" and not it.rereading)
        assert (found.id, found.repo.full_name) == ("octo/app#1", "octo/renamed")
        await approve(scene, found)
        done = await until_state(scene, found.id, S.DONE)
        head = await scene.github.as_user("bob", "GET", "/repos/octo/renamed/branches/trunk")
        assert head["commit"]["sha"] == done.landed[-1]
        pull = await scene.github.as_user("bob", "GET", "/repos/octo/renamed/pulls/2")
        assert pull["merged"] and pull["base"]["ref"] == "trunk"


@pytest.mark.slow
async def test_a_policy_pauses_and_a_broken_one_is_not_used(tmp_path: Path, zygote: Zygote) -> None:
    path = ".github/interlock.yml"
    async with place(tmp_path, zygote) as scene:
        reviewed, approved = await under_review(scene, "A", "B")
        await holds_reviews(scene)
        await approve(scene, approved)
        await until_state(scene, approved.issue, S.LANDING)
        await push(scene, "HEAD:refs/heads/main", files={path: f"pause: the release is being cut\n{POLICY}"})
        for found in (reviewed, approved):
            await until(scene, found.issue, lambda it: it.policy.pause and not it.landed)
            text = await reads(scene, found.issue, "**Paused** by this repository's policy: the release is being cut")
            assert text.startswith("<!-- interlock:") and ":status -->" in text.split("\n")[0]
        fresh = await put(scene, "C")
        await reads(scene, fresh, "Interlock · clarifying", "**Paused**")
        await act(scene, "calm")
        await push(scene, "HEAD:refs/heads/main", files={path: "pauses: no such key\n"})
        broken = await until(scene, fresh, lambda it: it.policy_note)
        assert broken.policy.pause and not broken.agent_running and not broken.engineer_attempt
        await reads(scene, fresh, f"{path} is not used: pauses", "applies", "**Paused**")
        assert not (await ticket(scene, approved.id) or approved).landed
        await push(scene, "HEAD:refs/heads/main", files={path: POLICY})
        await until_state(scene, approved.issue, S.DONE)  # its approval is kept
        await until_state(scene, fresh, S.REVIEWING)


@pytest.mark.slow
async def test_a_base_that_is_forced_or_deleted_asks_people(tmp_path: Path, zygote: Zygote) -> None:
    async with place(tmp_path, zygote) as scene:
        (found,) = await under_review(scene, "A")
        await push(scene, "HEAD:refs/heads/next")
        await act(scene, "default_branch", branch="next")  # another default is not our base
        first = await push(scene, "HEAD:refs/heads/main", files={"more": "m\n"})
        await push(scene, f"+{first}~1:refs/heads/main")
        await until_state(scene, found.issue, S.STOPPED)
        await reads(scene, found.issue, "`main` was moved by force", "/interlock resume")
        await says(scene, found.issue, "/interlock resume")
        found = await until_state(scene, found.issue, S.REVIEWING)
        assert found.base_ref == "main"
        await push(scene, ":refs/heads/main")
        await until_state(scene, found.issue, S.STOPPED)
        await reads(scene, found.issue, "The branch `main` is not there any more", "/interlock resume")
        await push(scene, f"{first}~1:refs/heads/main", onto="next")
        await says(scene, found.issue, "/interlock resume")
        await until_state(scene, found.issue, S.REVIEWING)


@pytest.mark.slow
async def test_what_the_app_may_not_reach_waits_or_stops_and_nothing_is_tried_for_ever(
    tmp_path: Path, zygote: Zygote
) -> None:
    async with place(tmp_path, zygote, "ABC") as scene:
        found, other = await under_review(scene, "A", "B")
        # Suspended: everything waits, and goes on.
        await act(scene, "suspend")
        for one in (found, other):
            await until(scene, one.issue, lambda it: it.suspended and it.on_hold)
        await act(scene, "unsuspend")
        await until(scene, found.issue, lambda it: not it.on_hold and it.state is S.REVIEWING)
        # A permission that is missing is named, and what needed it is said once it is there.
        all_of_them = {"metadata": "read", "issues": "write", "pull_requests": "write", "contents": "write",
                       "statuses": "read", "checks": "write"}  # fmt: skip
        await act(scene, "permissions", permissions={**all_of_them, "checks": "read"})
        await says(scene, found.issue, "/interlock stop")
        await reads(scene, found.issue, "GitHub refused (publish check): the App lacks the permission checks=write")
        await act(scene, "permissions", permissions=all_of_them, accepted=True)
        await until(scene, found.issue, lambda it: not it.notice)
        await says(scene, found.issue, "/interlock resume")
        found = await until_state(scene, found.issue, S.REVIEWING)
        # Approved by somebody who may not write any more; asked for by somebody who may not.
        await holds_reviews(scene)
        for login, role, why in (
            ("carol", "write", "carol may not approve"),
            ("bob", "admin", "alice, who asked for this"),
        ):
            await scene.github.user(login)
            await roles(scene, **{login: role})
            await approve(scene, found, login)
            await until_state(scene, found.issue, S.LANDING)
            await roles(scene, carol="read", alice="write" if login == "carol" else "read")
            await act(scene, "calm")
            await reads(scene, found.issue, "The approval does not count any more", why, f"@{login}", ": review #")
            await until_state(scene, found.issue, S.REVIEWING)
            await holds_reviews(scene)
        await roles(scene, alice="write")
        await act(scene, "calm")
        # Archived, then taken off: stopped, said afterwards, resumable.
        for there, back in (("archive", "unarchive"), ("remove", "add")):
            await scene.quiet(0.5)
            await act(scene, there)
            await until_state(scene, found.issue, S.STOPPED)
            await act(scene, back)
            await reads(
                scene,
                found.issue,
                "The work stopped then, and could go on now",
                f"{there}d" if there == "archive" else "taken off",
            )
            await says(scene, found.issue, "/interlock resume")
            await until_state(scene, found.issue, S.REVIEWING)
        await act(scene, "transfer", owner="bob")
        moved = await until(scene, found.issue, lambda it: it.repo.full_name == "bob/app")
        assert moved.installation != found.installation and moved.id == "octo/app#1"
        await approve(scene, moved)
        await until_state(scene, found.issue, S.DONE)
        # Uninstalled: over, and GitHub is left alone.
        await act(scene, "uninstall")
        await until_state(scene, other.issue, S.CANCELLED)
        await nothing_left(scene)
        before = len(await requests(scene))
        await scene.quiet(1.5)
        assert len(await requests(scene)) == before
