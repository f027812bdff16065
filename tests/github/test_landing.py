"""The ways onto a protected branch against the stand-in: which one, commits that GitHub signs, refusals, GitHub's queue."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.clock import SystemClock
from bot.github.app import GitHubApp
from bot.github.landing import GitHubLanding
from bot.github.remote import GitHubRemote, Mirrors
from bot.merge.landing import Landings
from bot.merge.objects import Objects
from bot.merge.trees import tree_digest
from bot.ports import Confirmation, no_faults
from schemas import lane as q
from schemas.base import Person, RepoRef
from schemas.landing import Merging
from schemas.ticket import PullRequest, Ticket, TicketState
from tests.standin.scene import Scene, scene

SIGNED = {"type": "required_signatures"}
BUILD = {"type": "required_status_checks", "parameters": {
    "required_status_checks": [{"context": "build"}], "strict_required_status_checks_policy": False}}  # fmt: skip
BOT = "interlock[bot]"


def queue_rule(method: str = "MERGE") -> dict[str, Any]:
    return {"type": "merge_queue", "parameters": {"merge_method": method}}


@dataclass
class Ground:
    """`confirmation` is what the gate says; `ticket` has a pull request once there is one."""

    scene: Scene
    app: GitHubApp
    landing: GitHubLanding
    landings: Landings
    remote: GitHubRemote
    ticket: Ticket
    confirmation: Confirmation

    @property
    def lane(self) -> q.Lane:
        key = f"{self.scene.repo.id}:refs/heads/main"
        return q.Lane(key=key, ref="refs/heads/main")

    async def confirm(self, entry: q.Entry, carriage: q.Carriage) -> Confirmation:
        return self.confirmation

    async def rules(self, *rules: Mapping[str, Any], bypass: tuple[str, ...] = (), **more: Any) -> None:
        found = [{"branches": ["main"], "rules": list(rules), "bypass": list(bypass)}] if rules else []
        await self.scene.github.control(f"repositories/{self.scene.repo.id}/rules", {"rulesets": found, **more})

    async def queue(self, **act: Any) -> list[dict[str, Any]]:
        found = await self.scene.github.control(f"repositories/{self.scene.repo.id}/queue", act)
        return list(found["queue"])

    async def ci(self, sha: str, conclusion: str) -> None:
        body = {"head_sha": sha, "app": "github-actions", "name": "build", "conclusion": conclusion}
        await self.scene.github.control(f"repositories/{self.scene.repo.id}/ci", body)

    async def pull(self, branch: str, *files: str) -> tuple[int, str]:
        """A pull request of somebody's, one commit a file, each with our trailers; its number and head."""
        git = self.scene.git
        git("checkout", "-q", "-B", branch, "origin-main")
        for number, name in enumerate(files, 1):
            (self.scene.source / name).write_text(f"{name}\n")
            git("add", "-A")
            git("commit", "-qm", f"Add {name}\n\nTicket: octo/app#1\nChange-Request: {branch}/{number}.1")
        await self.scene.push(self.scene.github._tokens["octo"], f"{branch}:refs/heads/{branch}", "--force")
        body = {"title": branch, "head": branch, "base": "main"}
        made = await self.scene.github.as_user("alice", "POST", "/repos/octo/app/pulls", body)
        return made["number"], made["head"]["sha"]


@pytest_asyncio.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with scene(tmp_path) as found:
        app = found.as_the_bot()
        repo, installation = RepoRef(id=found.repo.id, full_name="octo/app"), int(found.app["installation"])
        remote = await Mirrors(app, f"{found.github.url}/{{owner}}/{{repo}}.git", tmp_path / "mirrors").remote(
            repo, installation
        )
        who = Person(id=1, login="alice")
        ticket = Ticket(
            id="octo/app#1", repo=repo, installation=installation, issue=1, requester=who, author=who, title="", body="",
            opened_at=datetime.now(UTC), base_ref="main", state=TicketState.LANDING,
        )  # fmt: skip

        async def place(_: str) -> tuple[RepoRef, int, GitHubRemote]:
            return repo, installation, remote

        async def known(_: str) -> Ticket:
            return made.ticket

        landing = GitHubLanding(app, place, known, SystemClock())
        made = Ground(found, app, landing, None, remote, ticket, Confirmation("ok"))  # type: ignore[arg-type]
        made.landings = Landings(confirmer=made, landing=landing, clock=SystemClock(), faults=no_faults)
        found.git("branch", "origin-main")
        await remote.head("refs/heads/main")
        yield made


def entry(ground: Ground, **fields: Any) -> q.Entry:
    whole = {"id": "e", "lane": ground.lane.key, "ticket": "octo/app#1", "seq": 1, "accepted": datetime.now(UTC)}
    return q.Entry.model_validate({**whole, **fields})


# --- which way --------------------------------------------------------------------------------------------------------
async def test_the_way_is_what_the_rules_ask_for_unless_the_policy_names_one(ground: Ground) -> None:
    async def way(*rules: Mapping[str, Any], wanted: Any = "auto", **more: Any) -> str:
        await ground.rules(*rules, **more)
        return await ground.landing.way(ground.lane.key, wanted, fresh=True)

    assert await way() == "push"
    assert await way({"type": "pull_request", "parameters": {}}) == "push"  # refused, and said, unless we may bypass it
    assert await way(SIGNED) == "api"
    assert await way(SIGNED, bypass=(BOT,)) == "api"  # who asks for signatures gets them
    assert await way(SIGNED, queue_rule()) == "merge_queue"
    assert await way(queue_rule(), bypass=(BOT,)) == "push"
    assert await way(queue_rule(), bypass=("alice",)) == "merge_queue"
    assert await way(SIGNED, wanted="push") == "push"
    assert await way(protection={"main": {"required_signatures": True}}) == "api"
    assert await way(protection={"main": {"merge_queue": "SQUASH"}}) == "merge_queue"
    await ground.rules()
    assert await ground.landing.way(ground.lane.key, "auto") == "merge_queue"  # remembered for a minute
    other = f"{ground.scene.repo.id}:refs/heads/interlock/1"
    await ground.rules({"type": "required_signatures"})
    assert await ground.landing.way(other, "auto") == "push"  # its branch has no such rule


async def test_rules_that_cannot_be_read_ask_for_nothing(ground: Ground) -> None:
    await ground.rules(SIGNED)
    for match in ("/rules/branches", "/graphql"):
        await ground.scene.github.control("faults", {"match": match, "status": 403, "times": 1})
    assert await ground.landing.way(ground.lane.key, "auto") == "push"


# --- commits that GitHub makes ---------------------------------------------------------------------------------------
async def trained(ground: Ground) -> q.Train:
    """The source's newest commits as a train on the remote's main, their objects in the mirror alone."""
    source, base = ground.scene.source, await ground.remote.head("refs/heads/main")
    assert base is not None
    tip = ground.scene.git("rev-parse", "HEAD")
    fetch = ["git", f"--git-dir={ground.remote.git_dir}", "fetch", "-q", str(source), "HEAD"]
    subprocess.run(fetch, check=True)
    tree = ground.scene.git("rev-parse", "HEAD^{tree}")
    carriage = q.Carriage(entry="e", commit=tip, tree=tree, rung="merge-tree", commits=(("c", tip),))
    return q.Train(state=q.TrainState.CHECKED, base=base, old=base, tip=tip, tree=tree, carriages=(carriage,))


async def confirmed(ground: Ground, train: q.Train) -> q.Confirmed:
    rules = entry(ground, landing="api", change=None)
    return await ground.landings.confirm(ground.lane, train, ground.remote, [rules])


async def test_every_kind_of_file_is_made_again_to_the_byte_in_the_same_order(ground: Ground) -> None:
    await ground.rules(SIGNED)
    source, git = ground.scene.source, ground.scene.git
    (source / "deep/er").mkdir(parents=True)
    for name, data in {"deep/er/ü ß.txt": b"\xc3\xa9\n", "bin": bytes(range(256)), "crlf": b"a\r\n\0"[:3], "empty": b"",
                       "big": b"0123456789\n" * 120_000, "gone": b"x\n", "run.sh": b"#!/bin/sh\n"}.items():  # fmt: skip
        (source / name).write_bytes(data)
    (source / "link").symlink_to("deep")
    git("add", "-A")
    git("commit", "-qm", "First\n\nChange-Request: r/1.1")
    (source / "gone").unlink()
    (source / "run.sh").chmod(0o755)
    git("mv", "bin", "deep/bin")
    git("add", "-A")
    git("commit", "-qm", "By a person")
    git("commit", "-q", "--allow-empty", "-m", "Nothing\n\nChange-Request: r/2.1")
    train = await trained(ground)
    said = await confirmed(ground, train)
    assert said.way == "api" and not said.refusal and not said.unknown
    assert len(said.made) == 3 and said.made[-1][0] == train.tip
    intent = q.Intent(ref="refs/heads/main", expected_old=train.old, new_oid=dict(said.made)[train.tip])
    assert (await ground.landing.move(ground.lane.key, intent)).status == "ok"
    head = await ground.remote.head("refs/heads/main")
    objects = Objects(ground.remote.git_dir)
    assert head == intent.new_oid and objects.tree_of(head) == train.tree
    made = [objects.commit(new) for _, new in said.made]
    old = [objects.commit(was) for was, _ in said.made]
    assert [one.tree for one in made] == [one.tree for one in old] and made[0].parents == old[0].parents
    assert [one.parents for one in made[1:]] == [(one.oid,) for one in made[:-1]]
    assert made[0].message == old[0].message
    assert made[1].message == "By a person\n\nCo-authored-by: A <a@example.org>\n"
    path = "/repos/octo/app/commits?sha=main"
    listed = await ground.scene.github.as_user("alice", "GET", path)
    assert [one["commit"]["verification"]["verified"] for one in listed[:3]] == [True] * 3
    # What is signed and stays where it is, is itself: nothing is made again.
    again = train.model_copy(
        update={"tip": head, "carriages": (train.carriages[0].model_copy(update={"commit": head}),)}
    )
    assert (await confirmed(ground, again)).made == ()


async def test_a_commit_that_is_not_what_was_asked_for_goes_nowhere(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground.scene.source / "a.txt").write_text("two\n")
    ground.scene.git("commit", "-qam", "Two\n\nChange-Request: r/1.1")
    train = await trained(ground)

    honest, told = ground.app.call, dict[str, Any](place="", lie={})

    async def lying(*args: Any) -> Any:
        answer = await honest(*args)
        return {**answer, **told["lie"]} if args[3] == told["place"] else answer

    monkeypatch.setattr(ground.app, "call", lying)
    unsigned = {"verification": {"verified": False, "reason": "unsigned"}}
    for where, lie in (
        ("/git/trees", {"sha": "0" * 40}),
        ("/git/commits", unsigned),
        ("/git/commits", {"parents": []}),
    ):
        told.update(place=where, lie=lie)
        said = await confirmed(ground, train)
        assert said.refusal.startswith("GitHub ") and not said.made, lie
    monkeypatch.undo()
    assert (await confirmed(ground, train)).made


async def test_moving_is_a_compare_and_swap(ground: Ground) -> None:
    (ground.scene.source / "a.txt").write_text("two\n")
    ground.scene.git("commit", "-qam", "Two\n\nChange-Request: r/1.1")
    train = await trained(ground)
    new = dict((await confirmed(ground, train)).made)[train.tip]

    async def move(old: str | None, commit: str = new, ref: str = "refs/heads/main", *, force: bool = False) -> str:
        intent = q.Intent(ref=ref, expected_old=old, new_oid=commit, force=force)
        return (await ground.landing.move(ground.lane.key, intent)).status

    assert await move("1" * 40) == "unknown" and await ground.remote.head("refs/heads/main") == train.base
    assert await move(None) == "unknown"  # it must not exist, but does
    assert await move(train.base, "2" * 40) == "closed"
    await ground.scene.github.control("faults", {"match": "/graphql", "status": 502, "after": True})
    assert await move(train.base) == "unknown" and await ground.remote.head("refs/heads/main") == new
    assert await move(new, train.base) == "closed"  # backwards
    assert await move(new, train.base, force=True) == "ok"
    assert await move(None, new, "refs/heads/interlock/9") == "ok"
    # A server without updateRefs: PATCH takes what descends from the ref's commit, and cannot say more.
    await ground.rules(missing_operations={"MoveRef": "updateRefs"})
    assert await move(train.base) == "ok" and await ground.remote.head("refs/heads/main") == new
    assert await move(new, train.base, force=True) == "closed"
    assert await move(None, new, "refs/heads/interlock/10") == "closed"


# --- refusals ---------------------------------------------------------------------------------------------------------
async def test_a_refused_push_names_each_rule(ground: Ground) -> None:
    (ground.scene.source / "a.txt").write_text("two\n")
    ground.scene.git("commit", "-qam", "Two")
    train = await trained(ground)

    async def pushed() -> tuple[str, str]:
        found = await ground.remote.push("refs/heads/main", train.base, train.tip)
        assert await ground.remote.head("refs/heads/main") == train.base
        return found.status, found.message

    await ground.rules({"type": "pull_request"}, SIGNED, BUILD)
    assert await pushed() == (
        "closed",
        "GH013: Repository rule violations found for refs/heads/main: Changes must be made through a pull request; "
        'Commits must have verified signatures; Required status check "build" is expected',
    )
    await ground.rules(protection={"main": {"required_reviews": True}})
    assert await pushed() == (
        "closed",
        "GH006: Protected branch update failed for refs/heads/main: "
        "At least 1 approving review is required by reviewers with write access",
    )
    await ground.ci(train.tip, "success")
    await ground.rules(BUILD)
    assert (await ground.remote.push("refs/heads/main", train.base, train.tip)).status == "ok"


# --- GitHub's merge queue ---------------------------------------------------------------------------------------------
async def enqueued(ground: Ground, method: str, *more: Mapping[str, Any]) -> tuple[q.Train, q.Entry, int]:
    await ground.rules(queue_rule(method), *(more or (BUILD,)))
    number, head = await ground.pull("mine", "m1", "m2")
    ground.ticket = ground.ticket.model_copy(update={"pull_request": PullRequest(number=number, head=head)})
    assert await ground.remote.head("refs/heads/mine") == head
    base, objects = await ground.remote.head("refs/heads/main") or "", Objects(ground.remote.git_dir)
    digest = tree_digest(objects, objects.tree_of(base), objects.tree_of(head))
    mine = entry(ground, series=q.Series(fork=base, tip=head, digest=digest, branch="mine"))
    carriage = q.Carriage(entry="e", commit=head, tree=objects.tree_of(head), digest=digest, branch_old=head)
    train = q.Train(
        state=q.TrainState.CHECKED, base=base, old=base, tip=head, tree=carriage.tree, carriages=(carriage,)
    )
    said = await ground.landings.confirm(ground.lane, train, ground.remote, [mine])
    assert said.way == "merge_queue"
    carriage = carriage.model_copy(update={"removal": dict(said.removals)["e"]})
    train = train.model_copy(update={"state": q.TrainState.LANDING, "way": "merge_queue", "carriages": (carriage,)})
    return train, mine, number


async def looked(ground: Ground, train: q.Train, mine: q.Entry) -> Merging:
    (found,) = (await ground.landings.follow(ground.lane, train, ground.remote, [mine])).results
    return found


@pytest.mark.parametrize("method", ["MERGE", "SQUASH", "REBASE"])
async def test_what_githubs_queue_made_is_held_against_what_was_approved(ground: Ground, method: str) -> None:
    train, mine, number = await enqueued(ground, method)
    theirs, _ = await ground.pull("theirs", "t1")
    assert (await looked(ground, train, mine)).state == "waiting"
    assert (await looked(ground, train, mine)).state == "waiting"  # asked once: it is there
    assert [one["number"] for one in await ground.queue()] == [number]
    await ground.queue(enqueue=theirs, login="bob")
    first, second = await ground.queue(order=[theirs, number])
    assert (await looked(ground, train, mine)).state == "waiting"
    await ground.ci(first["group"], "success")
    await ground.ci(second["group"], "success")
    found = await looked(ground, train, mine)
    assert found.state == "merged" and found.commit == second["group"]
    assert found.tree == Objects(ground.remote.git_dir).tree_of(second["group"])
    where = dict(found.commits)
    assert list(where) == ["mine/1.1", "mine/2.1"] and where["mine/2.1"] == second["group"]
    assert (where["mine/1.1"] == second["group"]) == (method != "REBASE")
    assert ("trailers" if method == "REBASE" else "pull request") in found.said


async def test_our_check_is_on_the_groups_commit_and_keeps_wrong_bytes_out(ground: Ground) -> None:
    ours = {"context": "interlock", "integration_id": ground.app.app_id}
    parameters = {"required_status_checks": [ours], "strict_required_status_checks_policy": False}
    required = {"type": "required_status_checks", "parameters": parameters}
    train, mine, number = await enqueued(ground, "SQUASH", required)
    await looked(ground, train, mine)
    await ground.queue(spoil=number)
    (group,) = await ground.queue()
    await looked(ground, train, mine)  # reports on the group; the queue lets go of it
    found = await looked(ground, train, mine)
    assert found.state == "check" and found.evidence is not None and "(interlock)" in found.evidence.reason
    path = f"/repos/octo/app/commits/{group['group']}/check-runs"
    (run,) = (await ground.scene.github.as_user("alice", "GET", path))["check_runs"]
    assert run["conclusion"] == "failure" and "not the one that was approved" in run["output"]["title"]
    assert await ground.remote.head("refs/heads/main") == train.base


async def test_without_our_check_wrong_bytes_are_seen_afterwards(ground: Ground) -> None:
    train, mine, number = await enqueued(ground, "SQUASH")
    await looked(ground, train, mine)
    await ground.queue(spoil=number)
    (group,) = await ground.queue()
    await ground.ci(group["group"], "success")
    found = await looked(ground, train, mine)
    assert found.state == "person" and found.evidence is not None
    assert group["group"] in found.evidence.reason and "not the one that was approved" in found.evidence.reason


@pytest.mark.parametrize(
    ("reason", "state"),
    [("manual", "person"), ("merge_conflict", "conflict"), ("failed_checks", "check"), ("timed_out", "check"),
     ("something new", "person"), ("merged", "waiting")],
)  # fmt: skip
async def test_whose_turn_it_is_when_githubs_queue_lets_go(ground: Ground, reason: str, state: str) -> None:
    train, mine, number = await enqueued(ground, "SQUASH")
    await looked(ground, train, mine)
    await ground.queue(remove=number, reason=reason, login="bob")
    found = await looked(ground, train, mine)
    assert found.state == state and not await ground.queue()
    if found.evidence:
        assert found.evidence.reason == f"GitHub's merge queue let go of it: {reason} by bob"
    if state != "person":
        return
    # Approved again it goes in again: that it was let go of is old by then.
    said = await ground.landings.confirm(ground.lane, train, ground.remote, [mine])
    carriage = train.carriages[0].model_copy(update={"removal": dict(said.removals)["e"]})
    again = train.model_copy(update={"carriages": (carriage,)})
    assert (await looked(ground, again, mine)).state == "waiting" and await ground.queue()


async def test_what_githubs_queue_does_not_take_is_said_in_its_words(ground: Ground) -> None:
    reviews = {"type": "pull_request", "parameters": {"required_approving_review_count": 2}}
    train, mine, number = await enqueued(ground, "SQUASH", reviews)
    found = await looked(ground, train, mine)
    assert found.state == "closed" and found.evidence is not None
    assert (
        found.evidence.reason == "Pull request At least 2 approving review is required by reviewers with write access."
    )
    body = {"state": "closed"}
    await ground.scene.github.as_user("bob", "PATCH", f"/repos/octo/app/pulls/{number}", body)
    assert (await looked(ground, train, mine)).state == "person"


async def test_a_withdrawn_approval_takes_it_out_unless_it_is_merged(ground: Ground) -> None:
    train, mine, _ = await enqueued(ground, "SQUASH")
    await looked(ground, train, mine)
    (group,) = await ground.queue()
    ground.confirmation = Confirmation("unknown", "GitHub is away")
    assert (await looked(ground, train, mine)).state == "waiting" and await ground.queue()
    ground.confirmation = Confirmation("refused", "nobody approves it any more")
    found = await looked(ground, train, mine)
    assert found.state == "policy" and not await ground.queue()
    ground.confirmation = Confirmation("ok")
    said = await ground.landings.confirm(ground.lane, train, ground.remote, [mine])
    carriage = train.carriages[0].model_copy(update={"removal": dict(said.removals)["e"]})
    again = train.model_copy(update={"carriages": (carriage,)})
    await looked(ground, again, mine)
    (group,) = await ground.queue()
    await ground.ci(group["group"], "success")
    ground.confirmation = Confirmation("refused", "too late")
    assert (await looked(ground, again, mine)).state == "merged"


async def test_it_goes_in_only_with_the_head_that_was_approved(ground: Ground) -> None:
    train, mine, _ = await enqueued(ground, "SQUASH")
    ground.scene.git("commit", "-q", "--allow-empty", "-m", "More")
    await ground.scene.push(ground.scene.github._tokens["octo"], "mine:refs/heads/mine")
    found = await looked(ground, train, mine)
    assert found.state == "closed" and found.evidence is not None and "Expected head oid" in found.evidence.reason
