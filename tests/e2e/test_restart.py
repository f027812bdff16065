"""A conversation outlives the process: stopped between question and answer, started an hour later."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from schemas.ticket import TicketState
from tests.e2e.test_main_job import FILES, PLAYBOOK
from tests.e2e.world import Zygote, world

POLICY_KEY = ".github/interlock.yml"


async def test_stopped_between_question_and_answer_and_started_an_hour_later(tmp_path: Path, zygote: Zygote) -> None:
    async with world(tmp_path, zygote, FILES, PLAYBOOK) as scene:
        await scene.start()
        person = await scene.label("Make the list useful", "Outside the terminal.")
        await scene.until(lambda comments: any("before the work starts" in comment["body"] for comment in comments))
        await scene.stop()
        asked = (await scene.tickets())[0]
        assert asked.state is TicketState.ASKING
        person.read_already({comment["id"] for comment in await scene.comments(person.issue)})
        path = f"/repos/octo/app/issues/{person.issue}/comments"
        await scene.github.as_user("alice", "POST", path, {"body": "CSV, and one limit for all."})
        await scene.github.control("clock", {"advance": 3600})
        await scene.start(hours=1)
        await scene.until_closed(person)
        done = (await scene.tickets())[0]
        assert done.state is TicketState.DONE
        assert [question.answer.text for question in done.questions if question.answer] == [
            "CSV, and one limit for all."
        ] * 2
        assert done.approved_plan and done.approved_plan.at - done.opened_at > timedelta(minutes=59)


async def test_silence_stops_the_ticket_by_the_clock(tmp_path: Path, zygote: Zygote) -> None:
    files = {**FILES, POLICY_KEY: FILES[POLICY_KEY] + "questions:\n  deadline_hours: 2\n"}
    async with world(tmp_path, zygote, files, PLAYBOOK) as scene:
        await scene.start()
        await scene.label("Make the list useful", "Outside the terminal.")
        await scene.until(lambda comments: any("before the work starts" in comment["body"] for comment in comments))
        await scene.stop()
        await scene.github.control("clock", {"advance": 3 * 3600})
        await scene.start(hours=3)
        await scene.until(
            lambda comments: any("Nobody answered within 2 hours" in comment["body"] for comment in comments)
        )
        assert (await scene.tickets())[0].state is TicketState.STOPPED
