"""The only reader of time. Wall time is for people and deadlines, boot time for leases."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path


class SystemClock:
    """The machine's clocks (`bot.ports.Clock`)."""

    def wall(self) -> datetime:
        """Now, aware, in UTC."""
        return datetime.now(UTC)

    def boot(self) -> float:
        """Seconds since the machine started, counted through suspension; never jumps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """Changes with every start of the machine: leases of another boot have expired."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return "unknown"

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
