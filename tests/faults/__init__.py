"""Faults from outside, planted one at a time: damaged files, wrong arguments, full disks, kills.

Each must end in one clear sentence or in the right result, and nothing that is the user's may be
removed or changed. A module of this folder holds the faults of one kind: its `faults(seed)` gives
them. `python -m tests.faults` (or `mbm-lab bench faults`) plants them all and prints a table.
"""

import contextlib
import io
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mbm_lab import __main__, place

OUTCOMES = ("sentence", "right", "raw error", "silently wrong", "no cure", "lost")
"""How a fault may end. The first two are as they should be."""


class Fault(NamedTuple):
    """One fault.

    kind: the row of the table that counts it; what: the fault in words.
    plant: makes the files in a folder, damaged; act: what the user then does there.
    names: what the sentence must name: the value that was wrong, or the file.
    right: whether a result is the right one, where the fault may do no harm; None: only a sentence
    will do. own: names of files (patterns) that the action may write, change or remove.
    """

    kind: str
    what: str
    act: Callable[[Path], object]
    names: tuple[str, ...] = ()
    plant: Callable[[Path], object] | None = None
    right: Callable[[object], bool] | None = None
    own: tuple[str, ...] = ()


class Ended(NamedTuple):
    """How a fault ended, and what was said."""

    outcome: str
    said: str


BYSTANDERS = {
    "my_best_epoch_10.safetensors": b"weights of the user's own",
    "notes.txt": "Überall Notizen.\n".encode(),
    "state.pt.old": b"a copy",
}
"""Files of the user's, which lie in every folder in which something goes wrong."""


def plant(fault: Fault, folder: Path) -> Ended:
    """Plants a fault in an empty folder, lets the user act there, and says how it ended."""
    for name, held in BYSTANDERS.items():
        (folder / name).write_bytes(held)
    if fault.plant is not None:
        fault.plant(folder)
    before = contents(folder)
    ended = _acted(fault, folder)
    after = contents(folder)
    for name, held in before.items():
        own = any(re.fullmatch(pattern, name) for pattern in fault.own)
        if not own and after.get(name) != held:
            verb = "changed" if name in after else "removed"
            return Ended("lost", f"{name} was {verb}; {ended.said}")
    return ended


def _acted(fault: Fault, folder: Path) -> Ended:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fault.act(folder)
    except Exception as error:
        return judged(error, fault.names)
    if fault.right is not None and fault.right(result):
        return Ended("right", "")
    return Ended("silently wrong", f"gave {repr(result)[:200]}")


def judged(error: Exception, names: tuple[str, ...]) -> Ended:
    """Whether an error is a sentence of the course: raised there, and it names value and cure."""
    said = str(error)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = isinstance(error, Said) or Path(last).is_relative_to(place.PACKAGE)
    if not ours or not isinstance(error, (ValueError, OSError, TypeError, RuntimeError, Said)):
        return Ended("raw error", f"{type(error).__name__}: {said}")
    if not said.endswith((".", "!")) or "\n" in said.strip() or len(said) > 700:
        return Ended("raw error", f"no sentence: {said[:900]}")
    if missing := [name for name in names if name not in said]:
        return Ended("no cure", f"does not name {missing[0]!r}: {said}")
    if not CURE.search(said):
        return Ended("no cure", f"says nothing to do: {said}")
    return Ended("sentence", said)


CURE = re.compile(
    r"(?:^|[.:;,(] |\(|\b(?:or|and|then) )(?:(?:please|so|first|only|instead|either) )*"
    r"(?:add|agree|allow|answer|ask|build|call|change|check|choose|close|connect|convert|copy|cut|"
    r"delete|describe|divide|download|draw|encode|end|enter|export|fetch|fill|find|free|get|give|"
    r"go|install|join|keep|leave|let|load|look|lower|make|mark|mend|move|name|open|pass|press|put|raise|"
    r"read|rebuild|record|reduce|remove|rename|repair|replace|restore|resume|run|save|say|"
    r"see|select|send|set|share|shorten|show|shut|sign|sort|spell|split|start|swap|take|train|try|"
    r"turn|type|unpack|update|use|wait|write)\b"
    r"(?! (?:of|is|are|was|were|has|have|and|or|differs?|off)\b|[,.;:()-])"
    r"|\bdid you mean |`(?:mbm-lab|make|pip|python|chmod|sudo|uv) ",
    re.I,
)
"""What to do: a sentence, or a part of one, that begins with a verb; or a command to type."""


def contents(folder: Path) -> dict[str, bytes]:
    """What all files of a folder hold, by their paths within it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


class Said(Exception):
    """What a command printed as its error."""


def command(*arguments: str) -> str:
    """Runs `mbm-lab` with these arguments, here; what it prints. Raises Said when it fails."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = __main__.main(list(arguments))
        except SystemExit as ending:
            code = ending.code
    if code:
        raise Said((err.getvalue() or out.getvalue()).strip())
    return out.getvalue()


def campaign(seed: int = 0) -> Iterator[Fault]:
    """All faults of all modules of this folder."""
    import importlib
    import pkgutil

    for module in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        if not module.startswith(("_", "test_")):
            yield from importlib.import_module(f"{__name__}.{module}").faults(seed)
