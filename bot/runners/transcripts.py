"""What an agent did, line by line, without secrets: what `interlock logs` shows."""

import json
import re
from pathlib import Path

from bot.ports import Clock
from bot.rules.sanitise import redacted
from schemas.agent import Activity

LINE_CHARACTERS = 8000
FILE_BYTES = 20 * 2**20


def file_name(run: str) -> str:
    """A run's id without the characters that file names should not hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", run)


class Transcript:
    """Appends while the run goes on; stops growing at 20 MiB and says so."""

    def __init__(self, folder: Path, run: str, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock, self._left = clock, FILE_BYTES
        self._file = (folder / f"{file_name(run)}.jsonl").open("a", encoding="utf-8")

    def add(self, activity: Activity) -> None:
        """One line."""
        if self._left < 0:
            return
        text = redacted(activity.text)[:LINE_CHARACTERS]
        line = json.dumps({"at": self._clock.wall().isoformat(), "kind": activity.kind, "text": text})
        self._left -= len(line)
        if self._left < 0:
            line = json.dumps({"kind": "note", "text": "the transcript is full: the rest is not kept"})
        print(line, file=self._file, flush=True)

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()
