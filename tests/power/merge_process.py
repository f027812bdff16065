"""`interlock merge` as a process that also prints each step of the lane, once the step's transaction has returned."""

from __future__ import annotations

import json
import logging
import os

from bot.cli.main import main


class Printed(logging.Handler):
    """Writes a step at once: a loss of power keeps no buffer."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "lane.step":
            values = vars(record)
            os.write(1, json.dumps({"step": values["step"], "why": values["why"]}).encode() + b"\n")


if __name__ == "__main__":
    steps = logging.getLogger("interlock.lander")
    steps.setLevel(logging.INFO)
    steps.addHandler(Printed())
    main(prog_name="interlock")
