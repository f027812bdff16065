"""What is installed for a repository: by its own lock files, from registries alone, once, and then used offline."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from pip._internal.models.index import PyPI

from bot.clock import SystemClock
from bot.errors import Rejected
from bot.runners.checks import SandboxChecker
from bot.runners.environment import Environments
from bot.runners.layers import Trees
from bot.runners.sandbox import Sandbox, area_for, emptied
from schemas.base import CheckCommand, Environment
from tests.runners.test_collect import git

PYTHON_HOSTS = (PyPI.netloc, PyPI.file_storage_domain)
OFFLINE = f"""python3 -c "
import socket, sys
try:
    socket.create_connection(('{PyPI.netloc}', 443), 3)
except OSError:
    sys.exit(0)
sys.exit('the network can be reached')" """
PYTHON = Environment(
    setup=("python3 -m venv $INTERLOCK_ENV", "pip install --no-cache-dir -q -r requirements.txt"),
    lock_files=("requirements.txt",), registries=PYTHON_HOSTS,
)  # fmt: skip


@pytest.fixture
async def environments(tmp_path: Path) -> AsyncIterator[Environments]:
    sandbox = Sandbox("required", area_for(tmp_path / "data"))
    with emptied(sandbox.area):
        assert await sandbox.self_test() == []
        made = Environments(sandbox, Trees(sandbox), sandbox.area.parent / "environments", PYTHON_HOSTS)
        yield made
        subprocess.run(["rm", "-rf", made.folder], check=True)


def repository(tmp_path: Path, files: Mapping[str, str]) -> tuple[Path, str]:
    """A mirror of a repository with these files, and its head."""
    source = tmp_path / "source"
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "--all")
    git(source, "commit", "-q", "-m", "x")
    return source / ".git", git(source, "rev-parse", "HEAD^{tree}")


async def checked(environments: Environments, at: tuple[Path, str], wanted: Environment, *commands: str) -> str:
    """`green`, or why not."""
    checker = SandboxChecker(environments.sandbox, environments.trees, environments, SystemClock())
    checks = tuple(CheckCommand(name=f"c{n}", command=command) for n, command in enumerate(commands))
    found = await checker.check(*at, checks, wanted)
    return found.outcome if found.outcome == "green" else f"{found.evidence}"


@pytest.mark.slow
async def test_python_installs_once_and_tests_offline(environments: Environments, tmp_path: Path) -> None:
    at = repository(tmp_path, {
        "requirements.txt": "iniconfig==2.0.0\npytest==8.3.4\n", "app.py": "import iniconfig\n",
        "tests/test_app.py": "import app\n\ndef test_it():\n    assert app.iniconfig.IniConfig\n",
    })  # fmt: skip
    suite = "python -m pytest -q -p no:cacheprovider"
    assert await checked(environments, at, PYTHON, suite, OFFLINE) == "green"
    (folder,) = environments.folder.iterdir()
    began, stamp = time.monotonic(), (folder / "pyvenv.cfg").stat()
    assert await checked(environments, at, PYTHON, "python -c 'import app'") == "green"
    assert time.monotonic() - began < 2.0, "the second run installs nothing"
    assert (folder / "pyvenv.cfg").stat() == stamp
    assert "Read-only file system" in await checked(environments, at, PYTHON, "touch $INTERLOCK_ENV/bin/x")


@pytest.mark.slow
async def test_node_keeps_its_folder(environments: Environments, tmp_path: Path) -> None:
    registry = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True).stdout
    node = Environment(setup=("npm install --no-audit --no-fund",), lock_files=("package.json",), keep=("node_modules",),
                       registries=(registry.split("/")[2],))  # fmt: skip
    environments.operators = node.registries
    at = repository(tmp_path, {
        "package.json": '{"dependencies": {"is-number": "7.0.0"}, "scripts": {"test": "node test.js"}}',
        "test.js": "if (!require('is-number')(5)) throw new Error('no')\n", ".gitignore": "node_modules\n",
    })  # fmt: skip
    write = "touch node_modules/.cache && test -e node_modules/is-number"
    assert await checked(environments, at, node, "npm test", write, "test ! -e node_modules/.cache", OFFLINE) == "green"


@pytest.mark.slow
async def test_a_compiled_language(environments: Environments, tmp_path: Path) -> None:
    wanted = PYTHON.model_copy(update={"variables": {"CPATH": "$INTERLOCK_ENV/include"}, "setup": (
        *PYTHON.setup, "cp -r $INTERLOCK_ENV/lib/python3*/site-packages/pybind11/include $INTERLOCK_ENV/")})  # fmt: skip
    at = repository(tmp_path, {
        "requirements.txt": "pybind11==2.13.6\n", "Makefile": "test: version\n\t./version\n",
        "version.cpp": "#include <pybind11/detail/common.h>\nint main() { return PYBIND11_VERSION_MAJOR == 2 ? 0 : 1; }\n",
    })  # fmt: skip
    compiled = "CPLUS_INCLUDE_PATH=$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"include\"))') make test"
    assert await checked(environments, at, wanted, compiled, OFFLINE) == "green"


async def test_what_lock_files_say_makes_another_and_nothing_else_does(
    environments: Environments, tmp_path: Path
) -> None:
    wanted = Environment(setup=("cp lock $INTERLOCK_ENV/lock; echo x >>/tmp/n",), lock_files=("lo?k",))
    at = repository(tmp_path, {"lock": "1", "other": "1"})
    runs = (checked(environments, at, wanted, "grep 1 $INTERLOCK_ENV/lock") for _ in range(3))
    assert await asyncio.gather(*runs) == ["green"] * 3
    at = repository(tmp_path, {"other": "2"})
    assert await checked(environments, at, wanted, "grep 1 $INTERLOCK_ENV/lock") == "green"
    assert len(list(environments.folder.iterdir())) == 1
    at = repository(tmp_path, {"lock": "2"})
    assert await checked(environments, at, wanted, "grep 2 $INTERLOCK_ENV/lock") == "green"
    assert len(list(environments.folder.iterdir())) == 2


async def test_why_it_cannot_be_set_up(environments: Environments, tmp_path: Path) -> None:
    at = repository(tmp_path, {"a": "1"})
    dead = await checked(environments, at, Environment(setup=("echo so; exit 3",)), "true")
    assert "'echo so; exit 3' exited 3:\\nso" in dead
    nothing = await checked(environments, at, Environment(setup=("true",), keep=("node_modules",)), "true")
    assert "made no folder 'node_modules'" in nothing
    link = Environment(setup=("ln -s /etc kept",), keep=("kept",))
    assert "made no folder 'kept'" in await checked(environments, at, link, "true")
    assert list(environments.folder.iterdir()) == []
    async with environments.trees.workspace(*at, environments.sandbox.area / "w", git=True) as space:
        with pytest.raises(Rejected, match="exited 3"):
            async with environments.lent(space, Environment(setup=("exit 3",))):
                pass


ASK = "python3 -c \"import urllib.request as r; r.urlopen('https://{}/', timeout=5)\""


async def test_only_registries_that_are_named_and_public(environments: Environments, tmp_path: Path) -> None:
    at = repository(tmp_path, {"a": "1"})
    unnamed = Environment(setup=(ASK.format(PyPI.netloc),), registries=("example.org",))
    assert f"(the way to {PyPI.netloc} is closed)" in await checked(environments, at, unnamed, "true")
    inside = Environment(setup=(ASK.format("localhost"),), registries=("localhost",))
    assert "(the way to localhost is closed)" in await checked(environments, at, inside, "true")
    environments.operators = ("localhost",)
    reached = await checked(environments, at, inside, "true")
    assert "is closed" not in reached and "exited 1" in reached, "nobody listens there, but it was asked"
    around = Environment(setup=("python3 -c \"import socket; socket.create_connection(('127.0.0.1', 443), 3)\"",))
    assert "refused" in await checked(environments, at, around, "true"), "the sandbox's loopback is its own"
