"""Runs a command to which the kernel refuses namespaces, or mounts, as a container's seccomp profile does; or everything that
a profile of Docker's form names.

python -m tests.cli.deny namespaces|mounts|PROFILE.json COMMAND...
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import struct
import sys
from pathlib import Path

MOUNT, UNSHARE, CLONE, CLONE3 = (165, 272, 56, 435) if platform.machine() == "x86_64" else (40, 97, 220, 435)
LOAD, EQUAL, HAS, RETURN = 0x20, 0x15, 0x45, 0x06
EPERM, ENOSYS, ALLOW = 0x00050001, 0x00050026, 0x7FFF0000
NEW_USER = 0x10000000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2

PROGRAMS = {
    "mounts": [(LOAD, 0, 0, 0), (EQUAL, 0, 1, MOUNT), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)],
    "namespaces": [
        (LOAD, 0, 0, 0), (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ENOSYS), (EQUAL, 1, 0, CLONE), (EQUAL, 0, 3, UNSHARE),
        (LOAD, 0, 0, 16), (HAS, 0, 1, NEW_USER), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW),
    ],
}  # fmt: skip
"""Classic BPF: operation, jump if true, jump if false, operand. Offset 0 is the call's number, 16 its first argument."""


HEADER = Path(f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h")


def from_profile(profile: Path) -> list[tuple[int, int, int, int]]:
    """A profile that allows all but some names."""
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    found = json.loads(profile.read_text())
    assert found["defaultAction"] == "SCMP_ACT_ALLOW" and [group["action"] for group in found["syscalls"]] == [
        "SCMP_ACT_ERRNO"
    ]
    names = [name for name in found["syscalls"][0]["names"] if name in numbers]
    program = [(LOAD, 0, 0, 0)]
    for name in names:
        program += [(EQUAL, 0, 1, int(numbers[name])), (RETURN, 0, 0, EPERM)]
    return [*program, (RETURN, 0, 0, ALLOW)]


def deny(what: str) -> None:
    program = PROGRAMS.get(what) or from_profile(Path(what))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HL", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    deny(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
