"""What a file system must be told so that a new name outlives a loss of power."""

import os
from pathlib import Path


def keep_names(*folders: Path) -> None:
    """Return once the names in these directories are on disk; fsync of a file makes only its content durable."""
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
