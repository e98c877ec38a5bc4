"""What a learner has solved: a small file beside the learner's copies of the lessons.

For each exercise it keeps the tries, whether it was solved and on which day, whether the solution
was seen, and how often each catalogued mistake was said.

It is never sent anywhere. Every function reads the file anew, so that it survives a restarted
kernel and two notebooks that are open at once.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

from mbm_lab import atomic, lessons, place, rows


def path() -> Path:
    """`my_lessons/progress.json`, or the file that the variable MBM_PROGRESS names. Raises
    ValueError when there can be no such file."""
    return place.named("MBM_PROGRESS") or lessons.MY_LESSONS / "progress.json"


def load() -> dict[str, dict]:
    """What is remembered: {"04.weighted_sum": {"tries": 2, "solved": True}, …}.

    A state may also have "solved_on" (the day, as in "2030-01-31"), "solution_seen", and
    "mistakes", {`mistake_key` of a sentence: how often it was said}. Files from before days and
    mistakes were kept have neither.

    Raises ValueError when there is something else at this place (another program's file, a damaged
    one), OSError when it cannot be read (a folder, no permission).
    """
    file = path()
    if kind := rows.kind_of(file):
        raise IsADirectoryError(_is_no_file(file, kind))
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OSError(
            f"{file} cannot be read ({error.strerror}): give yourself the right to read it, or "
            "let the variable MBM_PROGRESS name another file."
        ) from error
    try:
        states = json.loads(text.decode("utf-8-sig"))
        json.dumps(states)  # what cannot be written again would be lost later
    except (ValueError, RecursionError):
        raise ValueError(_damaged(file)) from None
    if not isinstance(states, dict) or not all(map(_is_state, states.values())):
        raise ValueError(_damaged(file))
    return states


def _is_state(state: object) -> bool:
    """Whether this is what `record` writes."""
    return (
        isinstance(state, dict)
        and type(state.get("tries", 0)) is int
        and 0 <= state.get("tries", 0) < MOST_TRIES
        and all(type(state.get(name, False)) is bool for name in ("solved", "solution_seen"))
        and is_counts(state.get("mistakes", {}))
        and ("solved_on" not in state or _is_day(state["solved_on"]))
    )


def is_counts(mistakes: object) -> bool:
    """Whether this is {key of a mistake: how often it was said}."""
    return isinstance(mistakes, dict) and all(
        type(count) is int and 0 < count < MOST_TRIES for count in mistakes.values()
    )


MOST_TRIES = 1_000_000
"""Nobody tries an exercise so often; a larger number was not written by the course."""


def _is_day(text: object) -> bool:
    try:
        return isinstance(text, str) and len(text) == 10 and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def mistake_key(sentence: str) -> str:
    """The short name of a catalogued mistake: 12 hexadecimal digits, made from its sentence."""
    return hashlib.sha256(" ".join(sentence.split()).encode()).hexdigest()[:12]


def _damaged(file: Path) -> str:
    return (
        f"{file} is damaged, or the file of another program, so your progress cannot be read: "
        "repair it, move it away to begin anew, or let the variable MBM_PROGRESS name another file."
    )


def _is_no_file(file: Path, kind: str) -> str:
    return (
        f"{file} is {kind}, so your progress cannot be kept there: let the variable "
        "MBM_PROGRESS name a file."
    )


def record(key: str, mistake: str | None = None, **changes: bool) -> None:
    """Counts one more try (tried=True), or remembers solved=True or solution_seen=True.

    mistake: the sentence of the catalogue that was said, which is counted. The day on which an
    exercise was first solved is remembered with it. Who solved an exercise and looks at the
    solution afterwards has solved it alone: a solution that is seen later is not remembered.

    Raises ValueError when the file is damaged or another program's (it is left as it is), OSError
    when it cannot be read or written.
    """
    states = load()
    state = states.setdefault(key, {})
    if changes.pop("tried", False):
        state["tries"] = state.get("tries", 0) + 1
    if state.get("solved"):
        changes.pop("solution_seen", None)
    elif changes.get("solved"):
        state["solved_on"] = datetime.date.today().isoformat()
    if mistake is not None:
        said = state.setdefault("mistakes", {})
        said[mistake_key(mistake)] = said.get(mistake_key(mistake), 0) + 1
    state.update(changes)
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The folder {path().parent} cannot be made ({error.strerror}): let the variable "
            "MBM_PROGRESS name a file in another one."
        ) from error
    text = json.dumps(states, indent=1)
    atomic.write_whole(path(), lambda part: part.write_text(text, encoding="utf-8"))


def reset() -> None:
    """Forgets everything. Raises ValueError or OSError, as `load` does, when the file there is not
    one of progress; it is left as it is."""
    load()
    path().unlink(missing_ok=True)
