"""What a repository's checks need beyond its files: installed once for each state of its lock files, then only read.

The policy's set-up commands run in a sandbox of their own that holds the files of one tree and none of our secrets. It
has no network either, but a way to the registries that are named: HTTPS through a proxy on our side. What they leave in
$INTERLOCK_ENV, and in the folders to keep, is what runs and checks then find, without any network.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.errors import Rejected
from bot.rules import globs
from bot.rules.sanitise import redacted
from bot.runners import workspace
from bot.runners.layers import Trees
from bot.runners.registries import PROXY, open_proxy
from bot.runners.sandbox import PATH, Installed, Sandbox
from bot.runners.workspace import Workspace
from schemas.base import Environment

KEPT = 10
"""How many are kept while nobody uses them."""
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "PIP_CERT")
"""By these the usual tools find the machine's own certificates, which may hold a company's."""


@dataclass(eq=False)
class Environments:
    """Installs and lends. `operators`: the registries that the operator allows whatever their address is."""

    sandbox: Sandbox
    trees: Trees
    folder: Path
    operators: tuple[str, ...] = ()
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), init=False)
    _users: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int), init=False)

    @asynccontextmanager
    async def lent(self, space: Workspace, wanted: Environment) -> AsyncIterator[None]:
        """What is wanted, there in the workspace's sandbox while the block runs. Raises Rejected with why it cannot be."""
        if not wanted.setup:
            yield
            return
        key = _key(space, wanted)
        place = self.folder / key
        self._users[key] += 1
        try:
            async with self._locks[key]:
                if not (place / ".done").exists():
                    await self._install(space, wanted, place)
                os.utime(place / ".done")
            kept = tuple((place / ".kept" / str(number), name) for number, name in enumerate(wanted.keep))
            self.sandbox.installed[space.folder] = Installed(place, kept, _variables(wanted, place))
            if self.sandbox.mode == "off":
                for source, name in kept:
                    await asyncio.to_thread(shutil.copytree, source, space.folder / name, symlinks=True)
            yield
        finally:
            self._users[key] -= 1
            self.sandbox.installed.pop(space.folder, None)
            await asyncio.to_thread(self._forget)

    async def _install(self, space: Workspace, wanted: Environment, place: Path) -> None:
        folder, home, way = (self.sandbox.fresh(name) for name in ("install", "home-of-install", "proxy"))
        await asyncio.to_thread(workspace.remove, place)
        place.mkdir(parents=True)
        home.mkdir()
        env = {**_variables(wanted, place), "HOME": str(home), "TMPDIR": str(home)}
        if self.sandbox.mode != "off":
            env |= PROXY
        if os.path.exists(_BUNDLE):
            env |= dict.fromkeys(_CERTIFICATES, _BUNDLE)
        try:
            async with (
                open_proxy(way, wanted.registries, self.operators) as proxy,
                self.trees.workspace(space.git_dir, space.tree, folder, git=False) as fresh,
            ):
                for command in wanted.setup:
                    done = await self.sandbox.run(
                        command, folder, wanted.minutes * 60, env, more=(place, home), proxy=proxy
                    )  # fmt: skip
                    if done.timed_out or done.exit_code:
                        how = (
                            f"had no end after {wanted.minutes} minutes"
                            if done.timed_out
                            else f"exited {done.exit_code}"
                        )
                        refused = f" (the way to {', '.join(sorted(proxy.refused))} is closed)" if proxy.refused else ""
                        tail = redacted(done.output).strip()[-1500:]
                        raise Rejected(f"the set-up command {command!r} {how}{refused}:\n{tail}")
                await asyncio.to_thread(_keep, fresh.upper or fresh.folder, wanted, place)
            (place / ".done").touch()
        except BaseException:
            await asyncio.to_thread(workspace.remove, place)
            raise
        finally:
            await asyncio.to_thread(workspace.remove, home)

    def _forget(self) -> None:
        """Take those away that nobody used for longest."""
        with contextlib.suppress(FileNotFoundError):
            idle = [place for place in self.folder.iterdir() if not self._users[place.name]]
            newest = sorted(idle, key=lambda place: _used(place), reverse=True)
            for place in newest[KEPT:]:
                workspace.remove(place)


def _key(space: Workspace, wanted: Environment) -> str:
    """Two trees share what was installed if their lock files are the same, and so is what the policy says."""
    locked = [(name, file.oid) for name, file in sorted(space.named.items()) if globs.matches(wanted.lock_files, name)]
    said = json.dumps([wanted.model_dump(mode="json"), locked], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _variables(wanted: Environment, place: Path) -> Mapping[str, str]:
    said = {name: value.replace("$INTERLOCK_ENV", str(place)) for name, value in wanted.variables.items()}
    return {"INTERLOCK_ENV": str(place), "PATH": f"{place}/bin:{PATH}", **said}


def _keep(source: Path, wanted: Environment, place: Path) -> None:
    """Move the folders to keep out of the workspace. Raises Rejected for one that is not there."""
    (place / ".kept").mkdir()
    for number, name in enumerate(wanted.keep):
        made = source / name
        if not made.is_dir() or made.is_symlink() or made.resolve() != source.resolve() / name:
            raise Rejected(f"the set-up made no folder {name!r}, which the policy's environment says to keep")
        shutil.move(made, place / ".kept" / str(number))


def _used(place: Path) -> float:
    stamp = place / ".done"
    return stamp.stat().st_mtime if stamp.exists() else 0.0
