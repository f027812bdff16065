"""dev.py: what it says of machines that do not fit, that it is quick when nothing changed, and what files may not name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("system", "machine", "libc", "python", "venv", "git", "word"),
    [
        ("Linux", "x86_64", "glibc", (3, 11), True, True, None),
        ("Linux", "aarch64", "glibc", (3, 13), True, True, None),
        ("Darwin", "arm64", "", (3, 12), True, True, "Linux"),
        ("Linux", "x86_64", "musl", (3, 12), True, True, "glibc"),
        ("Linux", "riscv64", "glibc", (3, 12), True, True, "riscv64"),
        ("Linux", "x86_64", "glibc", (3, 9), True, True, "3.11"),
        ("Linux", "x86_64", "glibc", (3, 11), False, True, "python3-venv"),
        ("Linux", "x86_64", "glibc", (3, 11), True, False, "apt install git"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_in_one_line(
    dev: ModuleType,
    system: str,
    machine: str,
    libc: str,
    python: tuple[int, int],
    venv: bool,
    git: bool,
    word: str | None,
) -> None:
    found = dev.unfit(system, machine, libc, python, venv=venv, git=git)
    assert found is None if word is None else (word in found and "\n" not in found)


def test_it_is_quick_when_nothing_changed() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "dev.py"), "setup"], check=True, cwd="/")
    assert time.monotonic() - began < 3
    assert (
        subprocess.run([sys.executable, str(ROOT / "dev.py"), "fly"], capture_output=True, check=False).returncode == 2
    )


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_package_index() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    hosts = ["pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "deb.debian" + ".org"]
    named = [name for name in files if any(host in (ROOT / name).read_text("utf-8", "replace") for host in hosts)]
    assert not named
