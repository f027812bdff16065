"""Whose word counts, for what, and when: the approval cases of the hostile corpus through the real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.standin.person import Person
from schemas.ticket import TicketState
from tests.e2e.fruit import LINES, TWO, orchard
from tests.e2e.world import Zygote


def ripe(fruit: str) -> str:
    return LINES.replace("line 10\n", f"ripe {fruit}\n")


@pytest.mark.slow
async def test_who_counts_and_what_a_review_becomes(tmp_path: Path, zygote: Zygote) -> None:
    async with orchard(tmp_path, zygote, TWO) as garden:
        await garden.label("apple")
        first = await garden.review("apple")
        await garden.reviews("eve", "apple")
        await garden.reviews("robot[bot]", "apple")
        for who in ("eve", "robot[bot]"):
            await garden.decided("apple", "review_submitted", f"the review of {who} does not count")
        await garden.reviews("alice", "apple")
        await garden.reviews("carol", "apple", "COMMENT", body="Nice.")
        await garden.decided("apple", "review_submitted", "carol says something")
        await garden.reviews("carol", "apple")
        ticket = await garden.until("apple", lambda one: len(one.approvals) == 2)
        assert ticket.state is TicketState.REVIEWING, "alice asked for it, so one of two is missing"

        remark = {"path": "apple.txt", "line": 10, "body": "This is not ripe."}
        objection = await garden.reviews(
            "bob", "apple", "REQUEST_CHANGES", body="Look at the fruit.", comments=[remark]
        )
        second = await garden.until("apple", lambda one: len(one.tasks) == 2 and one.state is TicketState.REVIEWING)
        assert "apple.txt:10: This is not ripe." in second.tasks[1].task.brief
        assert second.tasks[1].task.owns == ("apple.txt",) and not second.approvals
        second = await garden.review("apple")
        said = await garden.told("apple", "@carol", "@bob", "review #")
        assert len(said.strip().splitlines()) <= 9  # a hidden line and eight visible ones
        body = (await garden.pull("apple"))["body"]
        assert "-+apple\n++ripe apple" in body, body

        await garden.reviews("carol", "apple", commit_id=first.tip)
        await garden.decided("apple", "review_submitted", "is not the head any more")
        await garden.reviews("carol", "apple")
        await garden.decided("apple", "review_submitted", "carol approved within seconds of a push")
        await garden.told("apple", "@carol, your approval was sent while it was changed")
        await garden.reviews("carol", "apple")
        await garden.reviews("dave", "apple")
        await garden.reviews("dave", "apple")
        blocked = await garden.until("apple", lambda one: len(one.approvals) == 2)
        assert blocked.state is TicketState.REVIEWING, "bob's word stands"
        path = f"/repos/octo/app/pulls/{blocked.pull_request.number}/reviews/{objection}/dismissals"  # type: ignore[union-attr]
        await garden.scene.github.as_user("bob", "PUT", path, {"message": "It is ripe."})
        await garden.until("apple", lambda one: one.state is TicketState.DONE)
        assert await garden.on_main("apple") == ripe("apple")


@pytest.mark.slow
async def test_what_was_approved_is_what_lands(tmp_path: Path, zygote: Zygote) -> None:
    async with orchard(tmp_path, zygote, TWO) as garden:
        await asyncio.gather(*(garden.label(fruit) for fruit in ("pear", "plum", "fig", "kiwi")))
        old = (await garden.review("pear")).tip
        review = await garden.reviews("carol", "pear")
        await garden.until("pear", lambda one: bool(one.approvals))
        new = await garden.push(
            "dave", "interlock/" + str(garden.issues["pear"]), "pear.txt", lambda text: text + "evil\n"
        )
        await garden.until("pear", lambda one: one.tip == new and one.state is TicketState.REVIEWING)
        moved = {"repository": garden.scene.repo.id, "review": review, "commit_id": new}
        pull = await garden.pull("pear")
        await garden.scene.github.control("move-review", {**moved, "number": pull["number"]})  # GitHub does, by itself
        await garden.reviews("dave", "pear")
        await garden.reviews("dave", "pear")
        await garden.reviews("bob", "pear")
        await garden.reviews("bob", "pear")
        await garden.told("pear", "@carol: review #")
        waiting = await garden.until("pear", lambda one: len(one.approvals) == 2)
        assert waiting.state is TicketState.REVIEWING, "carol approved something else, dave has pushed it himself"
        assert "++evil" in (await garden.pull("pear"))["body"]

        # Whoever approved and may not any more does not count, at the last moment.
        await garden.review("plum")
        await garden.reviews("carol", "plum")
        await garden.until("plum", lambda one: bool(one.approvals))
        await garden.roles(carol="read")
        await garden.reviews("bob", "plum")
        await garden.decided("plum", "entry_returned", "carol may not approve any more")
        await garden.told("plum", "carol may not approve any more", "@carol, @bob: review #")
        await garden.roles(carol="write")

        # A base that moves elsewhere leaves the approval alone; one that moves around the change does not.
        for fruit in ("fig", "kiwi"):
            await garden.review(fruit)
            await garden.reviews("carol", fruit)
            await garden.until(fruit, lambda one: bool(one.approvals))
        before = await garden.push("bob", "main", "fig.txt", lambda text: text.replace("line 20\n", "line twenty\n"))
        await garden.decided("fig", "base_moved", f"because the base moved to {before[:12]}")
        await garden.push("bob", "main", "kiwi.txt", lambda text: text.replace("line 12\n", "line twelve\n"))
        await garden.told("kiwi", "@carol: review #", "description shows")
        kiwi = await garden.until("kiwi", lambda one: one.state is TicketState.REVIEWING)
        assert not kiwi.approvals and "- line 12\n+ line twelve" in (await garden.pull("kiwi"))["body"]
        fig = await garden.ticket("fig")
        assert fig is not None and [one.by.login for one in fig.approvals] == ["carol"]
        await garden.reviews("bob", "fig")
        await garden.until("fig", lambda one: one.state is TicketState.DONE)
        assert "line twenty" in await garden.on_main("fig") and "fig\n" in await garden.on_main("fig")
        for fruit in ("pear", "plum", "kiwi"):
            assert await garden.on_main(fruit) == (
                LINES if fruit != "kiwi" else LINES.replace("line 12", "line twelve")
            )
        assert old != new


@pytest.mark.slow
async def test_the_person_of_the_demo_approves_again_when_told_to(tmp_path: Path, zygote: Zygote) -> None:
    async with orchard(tmp_path, zygote) as garden:
        await garden.label("lime")
        await garden.review("lime")
        await garden.reviews("carol", "lime", "REQUEST_CHANGES", body="It is not ripe.")
        await garden.until("lime", lambda one: len(one.tasks) == 2 and one.state is TicketState.REVIEWING)
        person = Person(
            garden.scene.github, garden.scene.repo, garden.issues["lime"], (), lambda _: None, reviewer="carol"
        )
        await garden.scene.until_closed(person)  # it looks at once, so that its approval comes too soon
        assert await garden.on_main("lime") == ripe("lime")
        assert len(await garden.scene.get(f"/pulls/{(await garden.pull('lime'))['number']}/reviews")) >= 2
