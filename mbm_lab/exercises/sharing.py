"""Progress for the instructor: one file from each learner who likes to give one, summed up.

`export` writes what a learner's own file of progress says of the course's exercises, and nothing
else: no name, no path, no time. `summary` counts a folder of such files. Nothing is sent anywhere:
the learner gives the file away, or does not.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mbm_lab import __version__, atomic, exercises, rows
from mbm_lab.exercises import progress
from mbm_lab.exercises.exercise import Choice, Exercise

KIND, FORM = "MBM Lab: exported progress", 1
"""What an exported file says of itself: its kind, and the number of its form."""

MOST_BYTES = 200_000
"""No exported file is larger."""

STATE = {"tries", "solved", "solution_seen", "mistakes"}
"""All that is exported of an exercise."""


# --- The learner's file


def export(path: str | Path | None = None) -> Path:
    """Writes a learner's progress as one small JSON file; returns where it is.

    path: a new file; None takes `mbm-progress-….json` in the present folder. Its number is random,
    made for this export alone. Raises FileExistsError when there is a file already (it is left as
    it is); ValueError or OSError as `progress.load` does, and when the file cannot be written.
    """
    number = secrets.token_hex(8)
    path = rows.named(path or f"mbm-progress-{number[:8]}.json")
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is already there, and is left as it is: name a new file.")
    content = {"kind": KIND, "form": FORM, "course": __version__, "number": number}
    content["exercises"] = _exported(progress.load())
    text = json.dumps(content, indent=1) + "\n"
    atomic.write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def _exported(states: dict[str, dict]) -> dict[str, dict]:
    """What leaves the computer: the course's own exercises and mistakes, and no day."""
    shared = {}
    for one in exercises.in_order().values():
        state = {name: value for name, value in states.get(one.key, {}).items() if name in STATE}
        known = set(map(progress.mistake_key, one.catalogue()))
        said = {key: count for key, count in state.pop("mistakes", {}).items() if key in known}
        if state or said:
            shared[one.key] = {**state, **({"mistakes": said} if said else {})}
    return shared


def in_words(path: Path) -> str:
    """What an exported file holds, in words, for the learner. Raises ValueError as `read` does."""
    shared = read(path).exercises
    lines = [
        f"{path} holds this, and nothing else: no name, no path, no time. It was sent nowhere;",
        "you give it to whom you like.",
        "",
    ]
    for label, one in exercises.in_order().items():
        if one.key in shared:
            state = shared[one.key]
            tries = state.get("tries", 0)
            words = exercises.say_state(state)
            if state.get("solved") and tries:
                words += f" (tries: {tries})"
            lines.append(f"{label:5} {one.title}: {words}")
            for sentence, count in _said(one, state).items():
                lines.append(f"        said {_times(count)}: {sentence}")
    if not shared:
        lines.append("You have not tried an exercise yet.")
    number = read(path).number
    lines += ["", f"A random number, made for this file alone, tells it from others: {number}."]
    return "\n".join(lines)


def _said(one: Exercise | Choice, state: dict) -> dict[str, int]:
    """The sentences of the catalogue that were said, and how often, the commonest first."""
    counts = state.get("mistakes", {})
    keys = {sentence: progress.mistake_key(sentence) for sentence in one.catalogue()}
    said = {sentence: counts[key] for sentence, key in keys.items() if key in counts}
    return dict(sorted(said.items(), key=lambda pair: -pair[1]))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


class Shared(NamedTuple):
    """An exported file. number: its random one; exercises: {key: state}, of this course only;
    unknown: how many exercises this course does not have."""

    number: str
    exercises: dict[str, dict]
    unknown: int


def read(path: Path) -> Shared:
    """Reads an exported file. Raises ValueError with one sentence, which names the file, for
    whatever is not one; OSError when it cannot be read."""
    name = _printable(path.name)
    if kind := rows.kind_of(path):
        raise ValueError(f"{name} is {kind}, and no exported progress: take it out.")
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{name} is too large to be exported progress: take it out.")
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError(
            f"{name} is damaged, or no file of exported progress: ask for it anew."
        ) from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        own = isinstance(content, dict) and content and all(key[2:3] == "." for key in content)
        raise ValueError(
            f"{name} is a learner's own progress: ask for what `mbm-lab exercises --export` writes."
            if own
            else f"{name} is the file of another program: take it out."
        )
    if content.get("form") != FORM:
        raise ValueError(
            f"{name} was written by another version of the course: ask for it anew, from this one."
        )
    number, states = content.get("number"), content.get("exercises")
    whole = isinstance(number, str) and len(number) == 16 and number.isalnum()
    if not (whole and isinstance(states, dict) and all(map(_is_state, states.values()))):
        raise ValueError(
            f"{name} is damaged: its counts are not what the course writes, so ask for it anew."
        )
    known = {one.key for one in exercises.in_order().values()}
    ours = {key: state for key, state in states.items() if key in known}
    return Shared(number, ours, len(states) - len(ours))


def _is_state(state: object) -> bool:
    """Whether this is what `export` writes of an exercise."""
    if not (isinstance(state, dict) and set(state) <= STATE):
        return False
    said, tries = state.get("mistakes", {}), state.get("tries", 0)
    return (
        progress.is_counts(said)
        and all(type(state.get(name, False)) is bool for name in ("solved", "solution_seen"))
        and type(tries) is int
        and 0 <= tries < progress.MOST_TRIES
    )


def _printable(name: str) -> str:
    """A file's name for the terminal: what cannot be shown, or would move the cursor, is "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


# --- The instructor's summary


class Row(NamedTuple):
    """One exercise in a room. tried, solved, stopped: numbers of learners; stopped: who tried it
    and did not solve it; mistake: the sentence that was said to most of them ("" for none);
    made_by: to how many."""

    label: str
    title: str
    tried: int
    solved: int
    stopped: int
    mistake: str
    made_by: int


class Summary(NamedTuple):
    """What a folder of exported files says. left_out: a sentence for each other file in it."""

    learners: int
    rows: list[Row]
    left_out: list[str]


def summary(folder: str | Path) -> Summary:
    """Sums up the exported files in a folder, and in the folders in it.

    A file that is no exported progress, is damaged, or is in the folder twice, counts nothing and
    gets a sentence. Raises FileNotFoundError without the folder; ValueError when it holds no
    exported file.
    """
    folder = rows.named(folder, "folder")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {_printable(str(folder))}: check its name.")
    shared: dict[str, Shared] = {}
    left_out = []
    for path in _files(folder):
        where = _printable(str(path.relative_to(folder)))
        try:
            one = read(path)
        except ValueError as error:
            left_out.append(str(error).replace(_printable(path.name), where, 1))
            continue
        except OSError as error:
            left_out.append(f"{where} cannot be read ({error.strerror}).")
            continue
        if one.number in shared:
            left_out.append(f"{where} is in the folder twice: it counts once.")
            continue
        if one.unknown:
            left_out.append(f"{where} has exercises that this course has not: they are left out.")
        shared[one.number] = one
    if not shared:
        more = [f"And {len(left_out) - 3} more."] if len(left_out) > 3 else []
        found = " ".join(["", *left_out[:3], *more])
        raise ValueError(
            f"There is no exported progress in {_printable(str(folder))}.{found} Put there what "
            "`mbm-lab exercises --export` writes."
        )
    states = [one.exercises for one in shared.values()]
    made = [_row(label, one, states) for label, one in exercises.in_order().items()]
    return Summary(len(shared), made, left_out)


def _files(folder: Path) -> list[Path]:
    """All files in a folder, and in the folders in it, but those that systems hide in folders."""
    found = []
    for inside, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        hidden = (".", "Thumbs.db", "desktop.ini")
        found += [Path(inside, name) for name in names if not name.startswith(hidden)]
    return sorted(found)


def _row(label: str, one: Exercise | Choice, states: list[dict[str, dict]]) -> Row:
    """One exercise, over all learners."""
    theirs = [state[one.key] for state in states if one.key in state]
    solved = [state for state in theirs if state.get("solved")]
    tried = [state for state in theirs if state.get("solved") or state.get("tries", 0)]
    makers, said = Counter(), Counter()
    for state in theirs:
        for sentence, count in _said(one, state).items():
            makers[sentence] += 1
            said[sentence] += count
    mistake = max(makers, key=lambda one: (makers[one], said[one]), default="")
    counts = len(tried), len(solved), len(tried) - len(solved)
    return Row(label, one.title, *counts, mistake, makers[mistake])


def table(of: Summary) -> str:
    """A summary in words: what stopped most learners, the commonest mistake, and every exercise
    that somebody tried."""
    lines = [f"{of.learners} {'learner' if of.learners == 1 else 'learners'}."]
    stops, common = _hardest(of), _commonest(of)
    if stops is not None:
        lines.append(
            f"Most were stopped by {stops.label} {stops.title}: {stops.stopped} of {stops.tried} "
            "who tried it did not solve it."
        )
    if common is not None:
        lines.append(
            f"The commonest mistake was made in {common.label}, by {common.made_by} of "
            f"{of.learners}: {common.mistake}"
        )
    rows = [row for row in of.rows if row.tried]
    if not rows:
        lines.append("Nobody has tried an exercise.")
    else:
        width = max(len(row.title) for row in rows)
        lines += ["", f"{'exercise':8}  {'title':{width}}  tried  solved  stopped"]
    for row in rows:
        counts = f"{row.tried:>5}  {row.solved:>6}  {row.stopped:>7}"
        lines.append(f"{row.label:8}  {row.title:{width}}  {counts}")
        if row.mistake:
            lines.append(f"{'':8}  most often said, to {row.made_by}: {row.mistake}")
    return "\n".join(lines + (["", "Left out:", *of.left_out] if of.left_out else []))


def _hardest(of: Summary) -> Row | None:
    """The exercise that stopped most learners, if one stopped any."""
    row = max(of.rows, key=lambda one: one.stopped)
    return row if row.stopped else None


def _commonest(of: Summary) -> Row | None:
    """The exercise with the mistake that most learners made, if there was one."""
    row = max(of.rows, key=lambda one: one.made_by)
    return row if row.made_by else None


MOST_BARS = 12
"""More bars than this cannot be read from the back of a room."""


def draw(of: Summary, path: str | Path) -> str:
    """Draws a summary as a PNG file, 1600 × 900 pixels; returns it in words, as an alt text.

    Of more than 12 exercises it shows those that stopped most learners. Raises ValueError when the
    name does not end with .png, FileExistsError when the file is there already, OSError when it
    cannot be written.
    """
    path = rows.named(path, "picture")
    if path.suffix.lower() != ".png":
        raise ValueError(f"The picture is a PNG file: name it so, as in {path.stem or 'room'}.png.")
    if path.exists():
        raise FileExistsError(f"{path} is already there, and is left as it is: name a new file.")
    tried = [row for row in of.rows if row.tried]
    most = sorted(tried, key=lambda row: (-row.stopped, -row.tried))[:MOST_BARS]
    bars = [row for row in tried if row in most]
    figure = _bars(of, bars)
    _save(figure, path)
    return _alt(of, bars)


def _bars(of: Summary, rows: list[Row]):
    """One bar an exercise: who solved it, and who was stopped by it."""
    import matplotlib.pyplot as plt

    from mbm_lab import plots

    figure, axes = plt.subplots(figsize=(16, 9))
    names = [f"{row.label}  {_short(row.title)}" for row in rows]
    solved, stopped = [row.solved for row in rows], [row.stopped for row in rows]
    axes.barh(names, solved, color=plots.PICTURE, label="solved")
    axes.barh(
        names, stopped, left=solved, color=plots.MESSAGE, label="tried, not solved",
        hatch="//", edgecolor="white",
    )  # fmt: skip
    for place, row in enumerate(rows):
        if row.stopped:
            axes.text(row.tried + of.learners / 100, place, row.stopped, va="center", fontsize=22)
    figure.get_layout_engine().set(w_pad=0.2, h_pad=0.15)
    axes.invert_yaxis()
    axes.set_xlim(0, of.learners * 1.04)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(f"learners (of {of.learners})", fontsize=22)
    axes.tick_params(labelsize=20)
    axes.grid(axis="y", visible=False)
    title = "Which exercise stopped how many?" if rows else "Nobody has tried an exercise yet"
    figure.suptitle(title, fontsize=28)
    if rows:
        figure.legend(loc="outside lower center", ncols=2, fontsize=22)
    return figure


def _short(title: str) -> str:
    """A title that fits beside its bar: without its kind, and not too long."""
    title = title.removeprefix("Break and fix: ").removeprefix("Predict: ")
    return title if len(title) <= 40 else title[:39].rstrip() + "…"


def _save(figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    try:
        atomic.write_whole(path, lambda part: figure.savefig(part, format="png", dpi=100))
    finally:
        plt.close(figure)


def _alt(of: Summary, rows: list[Row]) -> str:
    """The picture in words."""
    if not rows:
        return f"No bars: of {of.learners} learners, nobody has tried an exercise."
    bars = (
        f"{row.label} {row.title}: {row.solved} solved it, {row.stopped} tried and did not"
        for row in rows
    )
    return f"Bars for {len(rows)} exercises, of {of.learners} learners. {'; '.join(bars)}."
