"""Writing a file whole or not at all: for weights, checkpoints, lessons, words and progress."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def make_folder(folder: str | Path) -> None:
    """Makes a folder, and those that it is in, if they are not there yet.

    Raises OSError with one sentence when a file has its name, or the disk is read-only or full.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"Could not make the folder {folder} ({error.strerror}): choose another place, or make "
            "room there and allow yourself to write."
        ) from error


@contextlib.contextmanager
def new_folder(start: str) -> Iterator[Path]:
    """A new folder among the temporary files, whose name starts so. It stays if all goes well, and
    is removed if not.

    Raises OSError with one sentence when the disk is full or read-only.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=start))
        yield folder
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.strerror:
            raise OSError(
                f"Could not write into {tempfile.gettempdir()} ({error.strerror}): make room "
                "there, or let the variable TMPDIR name another folder."
            ) from error
        raise


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with the name of a file beside `path`, which then takes the place of `path`.

    So no half-written file is ever there, and an old file gives way only to a whole new one. Two
    programs that write the same file do not disturb each other: the later one wins.
    Raises OSError with one sentence when the folder is missing, read-only or full, and what else
    `write` raises. In each case what was there before is untouched. What is written is on the disk
    before it gets its name, so that a power cut leaves no empty file.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))  # a link stays a link
    part = real.with_name(f"{real.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, real)
    except (OSError, RuntimeError) as error:  # PyTorch and zip files raise the second
        if os.path.isdir(path):
            raise IsADirectoryError(
                f"Could not save to {path}: it is a folder. Give it another name."
            ) from error
        raise OSError(
            f"Could not save to {path}: the folder is missing, read-only or full. Choose another "
            "folder or make room; what was there before is untouched."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def is_there(path: Path) -> bool:
    """Whether anything has this name: a file, a folder, or a link, also one that leads nowhere."""
    return os.path.lexists(path)
