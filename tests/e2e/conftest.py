from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.world import Zygote


@pytest_asyncio.fixture
async def zygote() -> AsyncIterator[Zygote]:
    async with Zygote.open() as found:
        yield found
