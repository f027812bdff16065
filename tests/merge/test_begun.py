"""What counts as a crash: an entry that was begun and of whose outcome a dead process knows, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.merge.lander import Lander
from bot.ports import no_faults
from tests.store.parts import BRANCH, T0, ManualClock, entry, open_ticket, opened


async def test_an_entry_is_begun_once_however_often_it_is_composed_before_its_outcome(tmp_path: Path) -> None:
    clock = ManualClock()
    nothing: Any = None
    async with opened(tmp_path, clock) as store:
        await open_ticket(store, enqueue=(entry("octo/app#12/1.1"), entry("octo/app#12/2.1", content="other\n")))
        for starts in (1, 2):
            lander = Lander(
                queue=store, remote=nothing, checker=nothing, confirmer=nothing, clock=clock, owner="me", faults=no_faults
            )  # fmt: skip
            lease = await store.lease_lane(BRANCH, "me", 60)
            await lander._begin(lease, ["octo/app#12/1.1"])
            await lander._begin(lease, ["octo/app#12/1.1", "octo/app#12/2.1"])
            await lander._begin(lease, ["octo/app#12/1.1", "octo/app#12/2.1"])
            await store.release_lane(lease)
            begun = await store.due_entries(BRANCH, 9, T0)
            assert [one.deliveries for one in begun] == [starts, starts]
