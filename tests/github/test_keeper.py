"""The process that holds the private key: it signs, holds nothing else, and lives and dies as it should."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from bot.errors import Misconfigured
from bot.github.tokens import Keeper
from tests.standin.scene import PEM, PUBLIC

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def keepers(parent: int) -> list[int]:
    """The keepers that this process started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:
            continue
        if b"bot.github.keeper" in words and int(stat.rsplit(")", 1)[1].split()[1]) == parent:
            found.append(int(folder.name))
    return found


async def test_it_signs_for_the_time_asked_for_and_is_started_anew_when_it_dies(tmp_path: Path) -> None:
    pem = tmp_path / "app.pem"
    pem.write_text(PEM)
    keeper = Keeper(pem, 7)
    try:
        began = time.monotonic()
        said = await keeper.sign(NOW)
        print(f"the first signature after {time.monotonic() - began:.2f} s")
        claims = jwt.decode(said, PUBLIC, algorithms=["RS256"], options={"verify_exp": False})
        assert claims["iss"] == "7" and claims["exp"] - claims["iat"] <= 600
        assert claims["iat"] == int(NOW.timestamp()) - 60
        [first] = keepers(os.getpid())
        assert Path(f"/proc/{first}/environ").read_bytes() == b""
        assert PEM.split("\n")[1].encode() not in Path(f"/proc/{first}/cmdline").read_bytes()
        os.kill(first, signal.SIGKILL)
        answers = await asyncio.gather(*(keeper.sign(NOW) for _ in range(5)))
        assert set(answers) == {said}
        assert keepers(os.getpid()) != [first]
        leaving = asyncio.create_task(keeper.sign(datetime(2030, 1, 1, tzinfo=UTC)))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await keeper.sign(NOW) == said  # and not the answer that nobody waited for
    finally:
        await keeper.close()
    assert keepers(os.getpid()) == []


@pytest.mark.parametrize("text", ["", "not a key", "-----BEGIN PRIVATE KEY-----\nMIIx\n-----END PRIVATE KEY-----\n"])
async def test_a_key_that_cannot_sign_is_a_sentence(tmp_path: Path, text: str) -> None:
    pem = tmp_path / "app.pem"
    pem.write_text(text)
    keeper = Keeper(pem, 7)
    with pytest.raises(Misconfigured, match="PRIVATE_KEY_FILE"):
        await keeper.sign(NOW)
    await keeper.close()


def test_it_dies_with_its_server_even_by_kill_9(tmp_path: Path) -> None:
    pem = tmp_path / "app.pem"
    pem.write_text(PEM)
    code = (
        "import asyncio, sys; from datetime import datetime, UTC; from pathlib import Path\n"
        "from bot.github.tokens import Keeper\n"
        "async def main():\n"
        "    keeper = Keeper(Path(sys.argv[1]), 7); await keeper.sign(datetime.now(UTC)); print('signed', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(pem)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "signed\n"
        [child] = keepers(server.pid)
        handle = os.pidfd_open(child)
        server.kill()
        server.wait()
    import select

    ready, _, _ = select.select([handle], [], [], 20)  # readable once the process has ended
    os.close(handle)
    assert ready
