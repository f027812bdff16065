"""The graph of one tree of a git dir. What a text says is remembered by its blob, so that only new texts are read again.

The texts are read by processes of `bot.runners.parse`, one a core. A file that is too large, binary, or takes too long to
read is left out, with the reason; none can hold up the rest.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from typing import Any, Final

import pygit2

from bot.rules.impact import Graph, document
from bot.rules.imports import edges
from bot.rules.sources import Source, language
from bot.runners.workspace import text, walk

MAX_SOURCE, MAX_DOCUMENT, MAX_MEMORY = 1_000_000, 500_000, 64 * 2**20
MAX_DEATHS: Final = 20
"""Files in one survey that may end a reader before the rest is left for the next survey."""
MEMORY: Final = Path("interlock", "impact.jsonl")
"""Where a git dir's blobs are remembered, below it."""
VERSION: Final = 1
"""Of what is remembered: another parser or another shape is another number."""
_Facts = dict[str, Any]
_Text = tuple[str, str, str]
"""Key, language, blob."""


def survey(
    git_dir: Path, commit: str, memory: Path | None = None, *, seconds: float = 600, file_seconds: float = 3
) -> Graph:
    """The graph of a commit or tree. `memory` is the file in which blobs are remembered; one that cannot be written is
    done without. Files not read after `seconds`, and those that take more than `file_seconds` of CPU, are left out.
    Raises KeyError for an unknown id, OSError if no text can be read here.
    """
    repo = pygit2.Repository(str(git_dir))
    files = {name: file for file in walk(repo[commit].peel(pygit2.Tree)) if (name := text(file.path)) is not None}
    sizes = {name: repo.odb.read_header(file.oid)[1] if file.regular else 0 for name, file in files.items()}
    kinds = {name: kind for name, file in files.items() if file.regular and (kind := language(name))}
    keys = {name: f"{VERSION}{kind}{files[name].oid}" for name, kind in kinds.items() if sizes[name] <= MAX_SOURCE}
    known = _remembered(memory, set(keys.values()))
    missing = {key: (key, kinds[name], files[name].oid) for name, key in keys.items() if key not in known}
    if missing:
        fresh = _read(git_dir, list(missing.values()), seconds, file_seconds)
        known |= fresh
        _remember(memory, fresh)
    said: dict[str, Source] = {}
    unread: dict[str, str] = {}
    for name in kinds:
        facts = known.get(keys.get(name, ""), {"unread": "no time" if name in keys else "too large"})
        if "unread" in facts:
            unread[name] = facts["unread"]
        said[name] = Source(**{key: tuple(value) for key, value in facts.items() if key != "unread"})
    documents = {
        name: text(repo[file.oid].peel(pygit2.Blob).data) or ""
        for name, file in files.items()
        if document(name) and file.regular and sizes[name] <= MAX_DOCUMENT
    }
    public = {name: source.public for name, source in said.items() if source.public}
    return Graph(sizes, edges(said, files, documents), public, unread, documents)


def _remembered(memory: Path | None, wanted: Collection[str]) -> dict[str, _Facts]:
    """What the file holds of the wanted keys: a line each, a cut one (a kill, a full disk) is as good as none."""
    found = {}
    with contextlib.suppress(OSError):
        for line in memory.read_bytes().splitlines() if memory else ():
            key, _, facts = line.partition(b" ")
            if (name := key.decode("ascii", "replace")) in wanted:
                with contextlib.suppress(ValueError):
                    found[name] = json.loads(facts)
    return found


def _remember(memory: Path | None, fresh: Mapping[str, _Facts]) -> None:
    """Add lines, in one write, since others may add theirs. A file that has grown too large begins anew."""
    with contextlib.suppress(OSError):
        if memory and fresh:
            memory.parent.mkdir(parents=True, exist_ok=True)
            anew = memory.exists() and memory.stat().st_size > MAX_MEMORY
            lines = "".join(f"{key} {json.dumps(facts, separators=(',', ':'))}\n" for key, facts in fresh.items())
            with memory.open("wb" if anew else "ab", buffering=0) as file:
                file.write(f"\n{lines}".encode())


def _read(git_dir: Path, texts: Sequence[_Text], *limits: float) -> dict[str, _Facts]:
    readers = min(os.cpu_count() or 1, 4, len(texts) // 50 + 1)
    with ThreadPoolExecutor(readers) as pool:
        parts = pool.map(lambda n: _reader(git_dir, texts[n::readers], *limits), range(readers))
        return {key: facts for part in parts for key, facts in part.items()}


def _reader(git_dir: Path, texts: Sequence[_Text], seconds: float, file_seconds: float) -> dict[str, _Facts]:
    """What one process after the other says of these texts; a text that ends its process is left out."""
    repo = pygit2.Repository(str(git_dir))
    found: dict[str, _Facts] = {}
    queued: list[tuple[str, int]] = []
    over = Event()
    with tempfile.TemporaryFile() as spool:
        for key, language, oid in texts:
            data = repo[oid].peel(pygit2.Blob).data
            if b"\0" in data:
                found[key] = {"unread": "binary"}
                continue
            spool.write(f"{language} {len(data)}\n".encode() + data)
            queued.append((key, spool.tell()))
        spool.flush()
        start = deaths = 0
        while queued and deaths < MAX_DEATHS and not over.is_set():
            spool.seek(start)
            lines = _lines(spool.fileno(), seconds, file_seconds, over)
            found |= {key: json.loads(line) for (key, _), line in zip(queued, lines, strict=False)}
            if len(lines) < len(queued) and not over.is_set():
                key, start = queued[len(lines)]
                found[key] = {"unread": "it takes too much time or memory to read"}
            queued, deaths = queued[len(lines) + 1 :], deaths + 1
    return found


def _lines(stdin: int, seconds: float, file_seconds: float, over: Event) -> list[bytes]:
    """The whole lines of a reader until it ends; `over` is set if it was us who ended it."""
    reader = [sys.executable, "-I", str(Path(__file__).with_name("parse.py")), str(file_seconds)]
    with subprocess.Popen(reader, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}) as process:

        def end() -> None:
            over.set()
            process.kill()

        timer = Timer(seconds, end)
        timer.start()
        said = process.stdout.read() if process.stdout else b""
        timer.cancel()
    if process.returncode > 0:
        raise OSError(f"source files cannot be read: see why with `{' '.join(reader)} </dev/null`, or set up anew")
    return [line for line in said.splitlines(keepends=True) if line.endswith(b"\n")]
