"""Secrets that are planted, and where they must not be: files that a world leaves behind, and our processes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from pathlib import Path

OWN = ("app.pem", "github", "source")
"""What holds secrets by its nature: the key's own file, the stand-in's data, and what the test itself was started with."""


def forms(canaries: Mapping[str, str]) -> dict[str, bytes]:
    """Each as it is, and as git would send it."""
    found = {name: text.encode() for name, text in canaries.items()}
    for name, text in canaries.items():
        if text.startswith("gh"):
            found[f"{name}, in base64"] = base64.b64encode(f"x-access-token:{text}".encode()).rstrip(b"=")[:-2]
    return found


def in_files(folder: Path, canaries: Mapping[str, str], *, but: tuple[str, ...] = OWN) -> list[str]:
    """Which of them are in the files below a folder, and where."""
    found, wanted = [], forms(canaries)
    for path in folder.rglob("*"):
        if path.relative_to(folder).parts[0] in but or path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        found += [f"{name} in {path.relative_to(folder)}" for name, text in wanted.items() if text in data]
    return found


class Sampler(threading.Thread):
    """Looks again and again at the arguments and the environment of a process and of all that it started."""

    def __init__(self, parents: list[int]) -> None:
        super().__init__(daemon=True)
        self.parents, self.seen, self.ended = parents, dict[bytes, set[bytes]](), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.look()

    def look(self) -> None:
        """One look. A process that ends meanwhile is left out."""
        parent: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
        ours = set(self.parents)
        for _ in range(12):
            ours |= {child for child, of in parent.items() if of in ours}
        for pid in ours:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                self.seen.setdefault(words.split(b"\0")[0], set()).update(
                    (words, Path(f"/proc/{pid}/environ").read_bytes())
                )
            except OSError:
                continue

    def found(self, canaries: Mapping[str, str]) -> list[str]:
        """Which of them it has seen, and in what."""
        wanted = forms(canaries).items()
        return [
            f"{name} with {program.decode('utf-8', 'replace')}"
            for program, texts in self.seen.items()
            for name, secret in wanted
            if any(secret in text for text in texts)
        ]
