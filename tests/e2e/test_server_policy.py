"""The server's policy over a repository's own, as people read it: in the status comment and with the plan."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.test_main_job import FILES, PLAYBOOK
from tests.e2e.world import Zygote, world

OWN = ".github/interlock.yml"
SAID = "The server's policy is stricter than .github/interlock.yml: limits.tokens is 300000 instead of 900000."


async def test_a_repository_that_asks_for_more_is_told_with_the_plan(tmp_path: Path, zygote: Zygote) -> None:
    files = FILES | {OWN: FILES[OWN] + "limits:\n  tokens: 900000\n"}
    policy = tmp_path / "policy.yml"
    policy.write_text("defaults: {approve: {plan: always}}\nceilings: {limits: {tokens: 300000}}\n")
    async with world(tmp_path, zygote, files, PLAYBOOK, INTERLOCK_POLICY=str(policy)) as scene:
        await scene.start()
        person = await scene.label("Make the list useful outside the terminal", "It should leave the terminal.")
        sequence = 0
        while not person.plan:
            await person.act()
            sequence = await scene.github.wait(sequence, 5.0)
        bodies = [comment["body"] for comment in await scene.comments(1)]
        assert SAID in next(body for body in bodies if "**Plan `" in body)
        assert SAID in next(body for body in bodies if "### Interlock" in body)
        held = (await scene.tickets())[0].policy
        assert (held.limits.tokens, held.approve.plan, [check.name for check in held.checks]) == (
            300000,
            "always",
            ["tests"],
        )


async def test_a_policy_that_cannot_be_read_starts_no_server(tmp_path: Path, zygote: Zygote) -> None:
    policy = tmp_path / "policy.yml"
    policy.write_text("ceilings: {limits: {token: 1}}\n")
    async with world(tmp_path, zygote, {"a": "b"}, {"rules": []}, INTERLOCK_POLICY=str(policy)) as scene:
        await scene.start()
        log = (tmp_path / "bot.log").read_text()
        assert f"Misconfigured: POLICY {policy}: ceilings.limits.token: " in log
