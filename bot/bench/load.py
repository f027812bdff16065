"""A load of HTTP requests that were made beforehand: as fast as they are answered, or so many a second."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

CONNECTIONS = 32


class Channel(asyncio.Protocol):
    """One kept connection, one request on it at a time. The answer's body is read past, its status kept."""

    def __init__(self) -> None:
        self._seen, self._answered = b"", asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of an answer, or the rest of it."""
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._seen = b""
            self._answered.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody waits for ever."""
        if not self._answered.done():
            self._answered.set_exception(error or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> int:
        """Send one request; returns the answer's status."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return int(await self._answered)


def _length(head: bytes) -> int:
    """Of the body that follows; servers that send it in chunks are not understood."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def channels(url: str, count: int = CONNECTIONS) -> list[Channel]:
    """Connections to a server."""
    to, loop = urlsplit(url), asyncio.get_running_loop()
    return [(await loop.create_connection(Channel, to.hostname or "", to.port or 80))[1] for _ in range(count)]


async def saturate(url: str, requests: Sequence[bytes]) -> Counter[int]:
    """All of them, on CONNECTIONS connections, each sending when it has been answered; counts of the statuses."""
    left, seen = iter(requests), Counter[int]()

    async def send(channel: Channel, left: Iterable[bytes]) -> None:
        for request in left:
            seen[await channel.ask(request)] += 1
        channel.transport.close()

    await asyncio.gather(*(send(channel, left) for channel in await channels(url)))
    return seen


async def paced(url: str, requests: Sequence[bytes], per_second: float) -> tuple[list[float], Counter[int]]:
    """All of them at their times; seconds from when each was due to its answer, however late it could be sent."""
    began, waits, seen = time.perf_counter(), list[float](), Counter[int]()
    due = iter((began + number / per_second, request) for number, request in enumerate(requests))

    async def send(channel: Channel, due: Iterator[tuple[float, bytes]]) -> None:
        for at, request in due:
            await asyncio.sleep(at - time.perf_counter())
            seen[await channel.ask(request)] += 1
            waits.append(time.perf_counter() - at)
        channel.transport.close()

    await asyncio.gather(*(send(channel, due) for channel in await channels(url)))
    return waits, seen
