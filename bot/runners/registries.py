"""A way out of the sandbox to package registries alone: a proxy for HTTPS on a Unix socket, which speaks CONNECT only.

Inside, a few lines of Python listen on the sandbox's own loopback and pass on to the socket. A host must be named by the
policy and have a public address, or be named by the operator, who may have registries inside of the network.
"""

import asyncio
import contextlib
import inspect
import ipaddress
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.runners import workspace

PORT = 3128
PROXY = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), f"http://127.0.0.1:{PORT}")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


FORWARD = f"""import asyncio, sys
{inspect.getsource(_pump)}
async def meet(source, sink):
    try:
        other, out = await asyncio.open_unix_connection(sys.argv[1])
    except OSError:
        return sink.close()
    await asyncio.gather(_pump(source, out), _pump(other, sink))
async def main():
    await asyncio.start_server(meet, "127.0.0.1", {PORT})
    child = await asyncio.create_subprocess_exec("/bin/sh", "-c", sys.argv[2])
    sys.exit(await child.wait())
asyncio.run(main())
"""
"""Run with the socket's path and the command; ends as the command does."""


@dataclass
class Proxy:
    """The socket's path, and the hosts that were asked for in vain."""

    socket: Path
    refused: set[str] = field(default_factory=set)


@asynccontextmanager
async def open_proxy(folder: Path, hosts: Collection[str], operators: Collection[str]) -> AsyncIterator[Proxy]:
    """A proxy to these hosts, in a folder of its own that any user may enter."""
    folder.mkdir(mode=0o755)
    proxy = Proxy(folder / "proxy")
    allowed = {host.lower().rstrip(".") for host in hosts}

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, _, rest = head.partition(" ")
            host, _, port = rest.partition(" ")[0].lower().rpartition(":")
            host = host.rstrip(".")
            open_to = host in allowed and port == "443" and method == "CONNECT"
            address = await _address(host, trusted=host in operators) if open_to else None
            if address is None:
                proxy.refused.add(host[:200] or "a plain HTTP address")
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            else:
                there, out = await asyncio.open_connection(address, 443)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, out), _pump(there, writer))
        writer.close()

    server = await asyncio.start_unix_server(meet, proxy.socket)
    proxy.socket.chmod(0o666)
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.to_thread(workspace.remove, folder)


async def _address(host: str, *, trusted: bool) -> str | None:
    """The host's first address that may be spoken to."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    return next((one for one in addresses if trusted or ipaddress.ip_address(one).is_global), None)
