"""Faults from outside, planted one at a time: damaged files, wrong arguments, full disks.

Each must end in one clear sentence or in the right result; nothing that is the user's may be
removed or changed, and no remains may be left behind. A module of this folder holds the faults of
one part: its `faults(seed)` gives them. `python -m tests.faults` (or `mbm-lab bench faults`) plants
them all and prints a table; in `make test` each of them is a test.
"""

import contextlib
import dis
import faulthandler
import importlib
import io
import os
import pkgutil
import random
import re
import signal
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import pyplot

from mbm_lab import place
from mbm_lab.__main__ import main

OUTCOMES = (
    "sentence", "right",
    "raw error", "silently wrong", "no cure", "lost", "left behind", "hung",
)  # fmt: skip
"""How a fault may end. The first two are as they should be."""

LIMIT = 60
"""Seconds after which an action hangs: many, for a computer with much else to do."""

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where folders cost little time: the folders of faults lie there, if there is such a place."""


class Fault(NamedTuple):
    """One fault.

    kind: the row of the table that counts it; what: the fault in words.
    plant: makes the files in a folder, damaged; act: what the user then does there. The folder is
    the working folder, too.
    names: what the sentence must name: the value that was wrong, or the file.
    right: whether a result is the right one, where the fault may do no harm; None: only a sentence
    will do. own: names of files (patterns) that the action may write, change or remove; `../` and
    `~/` begin those outside of the folder. nothing_new: after a sentence, no file is new there.
    """

    kind: str
    what: str
    act: Callable[[Path], object]
    names: tuple[str, ...] = ()
    plant: Callable[[Path], object] | None = None
    right: Callable[[object], bool] | None = None
    own: tuple[str, ...] = ()
    nothing_new: bool = False


class Ended(NamedTuple):
    """How a fault ended, and what was said."""

    outcome: str
    said: str


class Said(Exception):
    """What a command printed as its error. code: its exit status; with 1 it lists what it found."""

    def __init__(self, text: str, code: int = 2):
        super().__init__(text)
        self.code = code


class Hung(BaseException):
    """Raised in an action that does not end. No `except Exception` stops it."""


def campaign(seed: int = 0) -> Iterator[Fault]:
    """All faults of all modules of this folder."""
    for module in modules():
        yield from faults_of(module, seed)


def modules() -> list[str]:
    """The modules of this folder that hold faults."""
    names = sorted(one.name for one in pkgutil.iter_modules(__path__))
    others = ("_", "test_", "conftest")
    return [name for name in names if not name.startswith(others)]


def faults_of(module: str, seed: int = 0) -> Iterator[Fault]:
    """The faults of one module. (Of those drawn at random, two may be the same: one is enough.)"""
    known = set()
    for fault in importlib.import_module(f"{__name__}.{module}").faults(seed):
        if (fault.kind, fault.what) not in known:
            known.add((fault.kind, fault.what))
            yield fault


# --- Plant


BYSTANDERS = {
    "my_best_epoch_10.safetensors": b"weights of the user's own",
    "notes.txt": "Überall Notizen.\n".encode(),
    "state.pt.old": b"a copy",
}
"""Files of the user's in the folder in which something goes wrong."""

AROUND = {
    "work/.older/best_epoch_0002.safetensors": b"an older run's",
    "work/.older/cards.csv.part": b"a file of another program",
    "diary.txt": b"outside of the folder",
    "last_epoch_0001.safetensors": b"of another run, outside",
    "home/letter.txt": b"at home",
}
"""Files of the user's in folders within it, and outside of it: `work` is the folder itself."""


def planted(fault: Fault) -> Ended:
    """How a fault ends in a new folder, of which nothing is left."""
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
        return plant(fault, Path(folder))


def plant(fault: Fault, folder: Path, limit: float = LIMIT) -> Ended:
    """Plants a fault in an empty folder, lets the user act there, and says how it ended."""
    work = folder / "work"
    for name in ("home", "tmp", "work/.older"):
        (folder / name).mkdir(parents=True)
    put(folder, AROUND)
    put(work, BYSTANDERS)
    (work / ".linked").symlink_to(folder / "diary.txt")
    with _put_back(folder):
        try:
            if fault.plant is not None:
                fault.plant(work)
            before = _seen(folder)
            ended = _acted(fault, work, limit)
        finally:
            written = _Watch.stop()
        after = _seen(folder)
    return _with_losses(fault, ended, before, after, written)


def _with_losses(
    fault: Fault, ended: Ended, before: dict[str, object], after: dict[str, object], written: set
) -> Ended:
    """How it ended, when what the folders held before and after is compared."""
    own = [re.compile(pattern) for pattern in fault.own]
    theirs = {name for name in before | after if not any(one.fullmatch(name) for one in own)}
    for name in sorted(theirs & before.keys()):
        if after.get(name) != before[name]:
            verb = "changed" if name in after else "removed"
            return Ended("lost", f"{name} was {verb}; {ended.said}")
    if written:
        return Ended("lost", f"wrote outside of its folders: {min(written)}; {ended.said}")
    refused = fault.nothing_new and ended.outcome != "right"
    for name in sorted(theirs - before.keys()):
        new = refused and after[name] != stat.S_IFDIR  # an empty folder does no harm
        outside = name.startswith(("~/", "$TMPDIR/", "../")) and not OTHERS.match(name)
        if new or outside or REMAINS.search(name):
            return Ended("left behind", f"{name}; {ended.said}")
    return ended


REMAINS = re.compile(r"^\.[^/]*$|\.(part|tmp|temp)$", re.I)
"""Names of remains: hidden ones, and those of files that were not finished."""

OTHERS = re.compile(r"~/\.(cache|config|ipython|jupyter|local)\b|\$TMPDIR/torchinductor_")
"""What Jupyter, PyTorch and other programs keep for themselves."""


def contents(folder: Path) -> dict[str, object]:
    """What lies in a folder, by the paths within it; links are not followed."""
    return {
        path.relative_to(folder).as_posix(): _held(path)
        for where, folders, files in os.walk(folder)
        for path in (Path(where, name) for name in [*folders, *files])
    }


def _seen(folder: Path) -> dict[str, object]:
    """What lies in a fault's folders, by paths as the user says them, who is in `work`."""
    found = {}
    for name, held in contents(folder).items():
        first, _, rest = name.partition("/")
        start = {"work": "", "home": "~/", "tmp": "$TMPDIR/"}.get(first)
        if start is None:
            found[f"../{name}"] = held
        elif rest:
            found[start + rest] = held
    return found


def _held(path: Path) -> object:
    """What a file holds (of a large one: its size and time), where a link leads, or its kind."""
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        return f"-> {os.readlink(path)}"
    if not stat.S_ISREG(about.st_mode):
        return stat.S_IFMT(about.st_mode)
    if about.st_size < 2**20 and os.access(path, os.R_OK):
        return path.read_bytes()
    return about.st_size, about.st_mtime_ns


def _acted(fault: Fault, folder: Path, limit: float) -> Ended:
    quiet = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
        _libraries_quiet() as errors,
    ):
        warnings.simplefilter("always")
        try:
            with _ended_after(limit, errors):
                _Watch.start(folder.parent)
                ended = _result(fault, fault.act(folder))
        except Hung:
            return Ended("hung", f"has not ended after {limit} seconds")
        except (Exception, SystemExit) as error:
            ended = judged(error, fault.names)
    return _with_warnings(ended, warned)


def _result(fault: Fault, result: object) -> Ended:
    if fault.right is not None and fault.right(result):
        return Ended("right", "")
    return Ended("silently wrong", f"gave {repr(result)[:200]}")


def _with_warnings(ended: Ended, warned: list[warnings.WarningMessage]) -> Ended:
    """A warning is a part of what is said: another package's own words are a raw error."""
    unseen = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    for one in warned:
        if issubclass(one.category, unseen):  # Python does not show them
            continue
        said = f"{ended.said} (warned: {one.message})"
        ours = Path(one.filename).is_relative_to(place.COURSE)
        good = ended.outcome in OUTCOMES[:2]
        if good and (not ours or RAW.search(str(one.message)) or "\n" in str(one.message)):
            return Ended("raw error", f"warned in another package's words: {one.message}; {said}")
        ended = Ended(ended.outcome, said)
    return ended


# --- Judge


def judged(error: BaseException, names: tuple[str, ...]) -> Ended:
    """Whether an error is a sentence of the course: raised there, and it names value and cure."""
    said = str(error)
    if why := _not_ours(error):
        return Ended("raw error", f"{why}: {type(error).__name__}: {said[:900]}")
    if found := RAW.search(said):
        return Ended("raw error", f"says {found[0]!r}: {said[:900]}")
    if said.startswith("usage: "):  # argparse: what may be given, then what was wrong
        missing = [name for name in names if name not in said.splitlines()[-1]]
        return Ended("no cure" if missing else "sentence", said)
    lists = isinstance(error, Said) and error.code == 1
    if not said.endswith((".", "!", "?")) or not lists and ("\n" in said or len(said) > 700):
        return Ended("raw error", f"no sentence: {said[:900]}")
    if missing := [name for name in names if name not in said]:
        return Ended("no cure", f"does not name {missing[0]!r}: {said}")
    if not CURE.search(said):
        return Ended("no cure", f"says nothing to do: {said}")
    return Ended("sentence", said)


OURS = (place.PACKAGE, place.COURSE / "workshop")
"""Where the course's sentences are raised."""


def _not_ours(error: BaseException) -> str:
    """Why an error is not one of the course ("" if it is): where, and by which line, it was raised.

    Python's own errors come out of the course's lines, too: so the line must be one that raises.
    """
    if isinstance(error, Said):
        named = error.code == 1 or str(error).startswith(("mbm-lab: ", "usage: "))
        return "" if named else "a command's error begins with its name"
    if not isinstance(error, (ValueError, OSError, TypeError, RuntimeError, IndexError)):
        return "of another kind"
    last = _last(error.__traceback__)
    code = last.tb_frame.f_code
    if not any(Path(code.co_filename).is_relative_to(one) for one in OURS):
        return f"raised in {Path(code.co_filename).name}"
    if code.co_code[last.tb_lasti] != dis.opmap["RAISE_VARARGS"]:
        return f"raised by Python in {Path(code.co_filename).name}, line {last.tb_lineno}"
    return ""


def _last(trace: TracebackType) -> TracebackType:
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace


RAW = re.compile(
    r"NoneType|Traceback|tensor\(\[|array\(\[|object at 0x|<lambda>|<locals>|<class '|\[?Errno\b|"
    r"\b(?:KeyError|IndexError|AttributeError|SafetensorError|UnicodeDecodeError)\b|"
    r"dtype\('|\bPosixPath\(|\bWindowsPath\(|unpickl|__\w+__"
)
"""What only a programmer reads."""

CURE = re.compile(
    r"(?:^|[.:;,(] |\(|\b(?:or|and|then) )(?:(?:please|so|first|only|instead|either) )*`?"
    r"(?:add|agree|allow|answer|ask|begin|bring|build|call|change|check|choose|close|"
    r"connect|convert|copy|correct|cut|delete|describe|divide|download|draw|encode|"
    r"end|enter|export|fetch|fill|find|free|get|give|go|install|join|keep|leave|"
    r"let|load|look|lower|make|mark|mend|move|name|open|pass|press|put|raise|"
    r"read|rebuild|record|reduce|remove|rename|repair|replace|restore|resume|"
    r"retrain|run|save|say|see|select|send|set|share|shorten|show|shut|sign|solve|sort|"
    r"spell|split|start|swap|take|train|try|turn|type|unpack|update|use|wait|"
    r"write)\b"
    r"(?! (?:of|is|are|was|were|has|have|and|or|differs?|off)\b|[,.;:()-])"
    r"|\bdid you mean |`(?:mbm-lab|make|pip|python|chmod|sudo|uv) ",
    re.I,
)
"""What to do: a sentence, or a part of one, that begins with a verb; or a command to type."""


# --- What the user has at hand


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files, by their paths within a folder."""
    for name, held in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(held)


def flipped(data: bytes, place: float) -> bytes:
    """The bytes with one bit turned over. place: where, as a share of all of them (0 to 1)."""
    at = int(place * 8 * len(data))
    held = bytearray(data)
    held[at // 8] ^= 1 << at % 8
    return bytes(held)


def command(*arguments: str) -> str:
    """Runs `mbm-lab` with these arguments, here; what it prints. Raises Said when it fails."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as ending:
            code = ending.code
    if code:
        said = (err.getvalue() or out.getvalue()).strip()
        if not said.startswith("usage: "):  # progress bars may stand above it
            said = re.sub(r"(?s)^.*\n(?=mbm-lab: )", "", said)
        raise Said(said, code)
    return out.getvalue()


# --- What is put back


@contextlib.contextmanager
def _put_back(folder: Path) -> Iterator[None]:
    """A home, a folder for temporary files and a working folder of this fault's own, and the same
    random numbers for each; afterwards everything is as it was."""
    environment, here = os.environ.copy(), os.getcwd()
    chance = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, kind, temporary = torch.get_num_threads(), torch.get_default_dtype(), tempfile.tempdir
    path, depth, umask = list(sys.path), sys.getrecursionlimit(), _umask()
    os.environ.update(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))
    os.environ["MBM_PROGRESS"] = str(folder / "home" / "progress.json")
    tempfile.tempdir = os.environ["TMPDIR"]
    random.seed(0), np.random.seed(0), torch.default_generator.manual_seed(0)
    os.chdir(folder / "work")
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir, sys.path[:] = temporary, path
        random.setstate(chance[0]), np.random.set_state(chance[1]), torch.set_rng_state(chance[2])
        torch.set_num_threads(threads), torch.set_default_dtype(kind)
        sys.setrecursionlimit(depth), os.umask(umask)
        pyplot.close("all")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _libraries_quiet() -> Iterator[int]:
    """Nothing that libraries write to the error stream by themselves is seen; gives the stream."""
    stream, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield stream
    finally:
        os.dup2(stream, 2)
        os.close(stream), os.close(nothing)


@contextlib.contextmanager
def _ended_after(seconds: float, errors: int) -> Iterator[None]:
    """Raises Hung in what takes longer. Where a library waits without end, the process ends."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return

    def end(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=errors)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


class _Watch:
    """Sees which files are written, moved or removed outside of a folder, while it is on."""

    folder: Path | None = None
    outside: set[str] = set()
    hooked = False

    @classmethod
    def start(cls, folder: Path) -> None:
        if not cls.hooked:
            sys.addaudithook(cls.see)  # which cannot be taken off again
            cls.hooked = True
        cls.folder, cls.outside = folder.resolve(), set()

    @classmethod
    def stop(cls) -> set[str]:
        """Off again; returns what was seen."""
        found, cls.folder, cls.outside = cls.outside, None, set()
        return found

    @classmethod
    def see(cls, event: str, arguments: tuple) -> None:
        if cls.folder is None or event not in WRITING:
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        for name in arguments[: WRITING[event]]:
            if not isinstance(name, (str, bytes, os.PathLike)):  # an open file, by its number
                continue
            path = os.path.abspath(os.fsdecode(name))
            real = os.path.realpath(os.path.dirname(path))
            if not Path(real).is_relative_to(cls.folder) and not HARMLESS.search(path):
                cls.outside.add(path)


WRITING = {
    "open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1,
    "os.link": 2, "os.symlink": 2, "shutil.rmtree": 1,
}  # fmt: skip
"""What Python tells of before it does it, and how many of its arguments are names of files."""

HARMLESS = re.compile(r"^/(dev|proc)(/|$)|/__pycache__/")
"""No files of a user's, and Python's own copies of modules."""
