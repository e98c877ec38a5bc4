"""A folder to write into, which then takes its place whole or not at all: for data sets."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DAY = 24 * 60 * 60.0


@contextlib.contextmanager
def folder(place: str | Path) -> Iterator[Path]:
    """A new empty folder beside `place`, on the same disk; it is gone afterwards, with all that was
    not moved out of it. What a run that was killed left there is removed first.

    Raises OSError, as the system says it, when the folder cannot be made.
    """
    place = Path(place)
    remove_remains(place)
    with tempfile.TemporaryDirectory(
        prefix=f".{place.name}-{_computer()}-{os.getpid()}-", dir=place.parent,
        ignore_cleanup_errors=True,
    ) as made:  # fmt: skip
        yield Path(made)


def remove_remains(place: str | Path) -> None:
    """Removes what runs that no longer run have left beside `place`."""
    place = Path(place)
    name = re.compile(rf"\.{re.escape(place.name)}-({re.escape(_computer())})-(\d+)-\w+")
    with contextlib.suppress(OSError):
        for one in list(place.parent.iterdir()):
            found = name.fullmatch(one.name)
            if found and one.is_dir() and not one.is_symlink() and not _runs(int(found[2]), one):
                shutil.rmtree(one, ignore_errors=True)


def _computer() -> str:
    """This computer's name, in letters and digits."""
    return re.sub(r"\W", "", socket.gethostname()) or "here"


def _runs(process: int, made: Path) -> bool:
    """Whether the process that made this folder may still be running."""
    if os.name == "nt":  # asking for a process by its number would end it
        return time.time() - made.stat().st_mtime < DAY
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return process != os.getpid()
