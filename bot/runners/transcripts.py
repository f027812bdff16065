"""What an agent did, line by line, without secrets: what `interlock logs` shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TextIO

from bot.ports import Clock
from bot.rules.sanitise import redacted
from schemas.agent import Activity

LINE_CHARACTERS = 8000
FILE_BYTES = 20 * 2**20


def path_for(folder: Path, run: str) -> Path:
    """The transcript's file of a run; ids hold characters that file names should not."""
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', run)}.jsonl"


class Transcript:
    """Appends while the run goes on; stops growing at 20 MiB and says so."""

    def __init__(self, folder: Path, run: str, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._file: TextIO = path_for(folder, run).open("a", encoding="utf-8")
        self._written = 0

    def add(self, activity: Activity) -> None:
        """One line."""
        if self._written > FILE_BYTES:
            return
        text = redacted(activity.text)[:LINE_CHARACTERS]
        line = json.dumps({"at": self._clock.wall().isoformat(), "kind": activity.kind, "text": text})
        self._written += len(line)
        if self._written > FILE_BYTES:
            line = json.dumps({"kind": "note", "text": "the transcript is full: the rest is not kept"})
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()
