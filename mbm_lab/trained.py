"""What `mbm-lab train` leaves in a folder, and what `mbm-lab predict` makes of it (lesson 12).

A report's folder holds report.html, model.safetensors, predictions.csv and settings.json, which
says that the folder is the course's own. It is made under another name, `….unfinished`, where the
steps that are done are kept; so an interrupted run goes on, and a report is whole or not there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from mbm_lab import __version__, atomic, report, rows, stored, tables, two_step
from mbm_lab.tables import Table
from mbm_lab.two_step import Analysis, Fitted

FILES = ("report.html", "model.safetensors", "predictions.csv", "settings.json")
"""What a finished report consists of."""
MADE_BY = "mbm-lab train"


# --- The folder of a report


class Place(NamedTuple):
    """Where a report is to be, and where it is made."""

    out: Path
    unfinished: Path

    @property
    def steps(self) -> Path:
        """The folder in which finished steps are kept."""
        return self.unfinished / "steps"


def open_place(out: str | Path) -> Place:
    """The place for a report, after a look that nothing there belongs to somebody else.

    Raises FileExistsError when there is a file, or a folder that holds something other than a
    report; OSError when nothing can be written there. Nothing is changed yet.
    """
    out = rows.named(out, "report's folder").resolve()
    if not out.name:
        raise ValueError(f"{out} cannot be a report's folder: name another one with --out.")
    place = Place(out, out.with_name(f"{out.name}.unfinished"))
    for folder in place:
        if folder.is_dir():
            if _settings(folder) is None and any(f.suffix != ".part" for f in folder.iterdir()):
                raise FileExistsError(
                    f"{folder} is there already and is no report of mbm-lab train: name another "
                    "folder with --out, or move this one away."
                )
        elif folder.exists() or folder.is_symlink():
            raise FileExistsError(
                f"{folder} is there already and is no folder: name another one with --out."
            )
    return place


def _settings(folder: Path) -> dict | None:
    """What a report's folder says of itself; None for a folder that is not a report's."""
    try:
        said = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("made by") == MADE_BY else None


def _write_settings(folder: Path, said: dict) -> None:
    text = json.dumps({"made by": MADE_BY, "version": __version__, **said})
    _write_text(folder / "settings.json", text + "\n")


def _write_text(path: Path, text: str) -> None:
    """Writes a text whole, as UTF-8; half a character, as in the name of a file, becomes a ?."""
    data = text.encode("utf-8", "replace")
    atomic.write_whole(path, lambda part: part.write_bytes(data))


def begin(place: Place, key: str) -> str:
    """Makes the folder in which a report is made, and says in a sentence what is taken over from
    an interrupted run ("" for nothing).

    key: of the table and the settings. Steps of another key are thrown away. Raises OSError, in one
    sentence, when the folder cannot be written, and FileExistsError when a file is among the steps
    that is not the course's: nothing is thrown away then.
    """
    before = _settings(place.unfinished)
    try:
        if before is not None and before.get("key") != key:
            if other := _of_others(place.unfinished):
                raise FileExistsError(
                    f"{other} lies in what an interrupted run left, and is not of mbm-lab train: "
                    "move it away, or name another folder with --out."
                )
            shutil.rmtree(place.unfinished)
        place.unfinished.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            f"Could not write into {place.out.parent}: name a folder with --out in which you may."
        ) from error
    _write_settings(place.unfinished, {"key": key})
    if before is None:
        return ""
    if before.get("key") != key:
        return "The table or the settings have changed since the interrupted run: it starts anew."
    done = sum(1 for file in place.steps.rglob("*") if file.is_file())
    return f"An interrupted run goes on: {done} finished steps are taken over."


def _of_others(folder: Path) -> Path | None:
    """A file in an unfinished report's folder that mbm-lab train has not written, if there is
    one."""
    for one in sorted(folder.rglob("*")):
        name = one.relative_to(folder).as_posix()
        if not one.is_dir() and name not in FILES and not re.fullmatch(OWN_FILES, name):
            return one
    return None


OWN_FILES = r"steps/[0-9a-f]{16}/[^/]+\.npz|.*\.\d+\.part"
"""The files of a report's steps, and those that are being written."""


def finished(place: Place, key: str) -> list[str] | None:
    """The sentences of a whole report of this table and these settings, if it is there already."""
    said = _settings(place.out) or {}
    whole = all((place.out / name).is_file() for name in FILES)
    return said.get("sentences") if whole and said.get("key") == key else None


def finish(place: Place) -> Path | None:
    """Puts a report that is whole in its place; an earlier one is kept beside it, with a number.

    Returns where the earlier one is. Raises OSError, in one sentence, when it cannot be moved.
    """
    kept = None
    try:
        if place.out.is_dir() and not any(place.out.iterdir()):
            place.out.rmdir()
        elif place.out.is_dir():
            kept = next(
                free for number in range(1, 10_000)
                if not (free := place.out.with_name(f"{place.out.name}_{number}")).exists()
            )  # fmt: skip
            place.out.rename(kept)
        place.unfinished.rename(place.out)
        if _of_others(place.out) is None:
            shutil.rmtree(place.out / place.steps.name, ignore_errors=True)
    except OSError as error:
        raise OSError(
            f"Could not put the report at {place.out}: it is whole in "
            f"{place.unfinished}, so open it there, or move it."
        ) from error
    return kept


# --- Train


def train(
    table: Table,
    out: str | Path,
    encoders: dict[str, str] | None = None,
    say: Callable[[str], object] = print,
    progress: bool = True,
) -> Path:
    """Analyses a table and writes report, model and predictions into the folder `out`; returns it.

    encoders: by modality, names that `two_step.encoder_named` knows. say: gets each sentence.
    An interrupted run goes on when it is called again with the same table and encoders. An earlier
    report is kept beside the new one, with a number; when it is of the same table, nothing is done.
    Raises as `open_place`, `check_encoders`, `begin` and `two_step.analyse`.
    """
    place = open_place(out)
    key = _key(table, encoders or {})
    sentences = finished(place, key)
    if sentences is not None:
        for sentence in sentences:
            say(sentence)
        say(f"This report is there already, of the same table: {place.out / 'report.html'}")
        return place.out
    check_encoders((encoders or {}).values())
    if said := begin(place, key):
        say(said)
    bar = Bar(progress)
    try:
        analysis = two_step.analyse(table, encoders, remember=place.steps, progress=bar)
        bar("writing the report", 0, 1)
        _write_report(analysis, place)
        bar("writing the report", 1, 1)
    except KeyboardInterrupt:
        bar.close()
        say("Stopped. Give the same command again, and it goes on from here.")
        raise
    finally:
        bar.close()
    _write_settings(place.unfinished, {"key": key, "sentences": analysis.sentences})
    kept = finish(place)
    for sentence in analysis.sentences:
        say(sentence)
    if kept is not None:
        say(f"The earlier report is kept: {kept}")
    say(f"Report:      {place.out / 'report.html'}")
    say(f"Model:       {place.out / 'model.safetensors'}")
    say(f"Predictions: {place.out / 'predictions.csv'}")
    return place.out


def named_encoders(said: Sequence[str]) -> dict[str, str]:
    """Encoders by modality, of texts such as "image=timm:resnet18". Raises ValueError otherwise."""
    encoders = {}
    for one in said:
        modality, _, name = one.partition("=")
        modality = {"audio": "sound", "photo": "image", "picture": "image"}.get(modality, modality)
        if modality not in ("image", "text", "sound", "clip") or not name:
            raise ValueError(
                f"--encoder {rows.shown(one)} names no encoder: write it as in "
                "image=timm:resnet18, with image, text, audio or clip before the =."
            )
        encoders[modality] = name
    return encoders


def check_encoders(names: Iterable[str]) -> None:
    """Makes each encoder once, so that what is wrong with it is said before anything else.

    Raises ValueError, in one sentence, for one that is unknown, not installed, or cannot be had.
    """
    for name in names:
        try:
            two_step.encoder_named(name)
        except (ValueError, ImportError) as error:
            raise ValueError(str(error).splitlines()[0]) from error
        except Exception as error:  # each of these packages has errors of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"The encoder {name} cannot be had ({reason}): check its name, and that this "
                "computer is on the internet the first time."
            ) from error


def _key(table: Table, encoders: dict[str, str]) -> str:
    """A name for all that a report depends on: what is computed, and what is said of it."""
    parts = two_step.key_of(table, encoders), __version__, table.columns, table.names, table.notes
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class Bar:
    """The progress bar of an analysis: one line for each thing that is done."""

    def __init__(self, shown: bool = True):
        self.hidden = None if shown else True  # None shows it in a terminal, and not in a file
        self.what, self.bar = None, None

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.close()
            self.what = what
            self.bar = tqdm(total=total, desc=what, disable=self.hidden, leave=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _write_report(analysis: Analysis, place: Place) -> None:
    command = f"mbm-lab predict {place.out.name}/model.safetensors NEW.csv"
    texts = {
        "report.html": report.page(analysis, command),
        "predictions.csv": MARK + as_csv(predictions(analysis)),
    }
    for name, text in texts.items():
        _write_text(place.unfinished / name, text)
    save_model(analysis.model, place.unfinished / "model.safetensors")


# --- The model as a file


def save_model(fitted: Fitted, path: str | Path) -> None:
    """Writes a fitted model as safetensors; what is not a number goes into its metadata.

    Raises OSError, in one sentence, when the folder is missing, read-only or full.
    """
    facts = {"made by": MADE_BY, "version": __version__}
    facts["about"] = json.dumps(fitted.about())
    tensors = fitted.tensors()
    sealed = facts | {"checksum": stored.checksum(facts, tensors)}
    stored.save_tensors(tensors, Path(path), sealed)


def load_model(path: str | Path) -> Fitted:
    """The model that `save_model` wrote.

    Raises FileNotFoundError without the file; ValueError, in one sentence, when it is damaged, was
    changed, or is another file.
    """
    path = rows.named(path, "model")
    if path.is_dir() and (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no model at {rows.in_full(path)}: name the file model.safetensors in "
            "the folder that mbm-lab train wrote."
        )
    tensors, said = stored.read_tensors(path)
    if said.get("made by") != MADE_BY or "about" not in said:
        raise ValueError(
            f"{path} is no model of mbm-lab train: name the file model.safetensors in the folder "
            "that it wrote."
        )
    if said.pop("checksum", None) != stored.checksum(said, tensors):
        raise ValueError(
            f"{path} was changed after it was written, or is damaged: replace it by a whole copy, "
            "or train anew with mbm-lab train."
        )
    try:
        return Fitted.rebuild(tensors, json.loads(said["about"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} was written by another version of the course ({said.get('version')}) and "
            "cannot be read by this one: train anew with mbm-lab train."
        ) from error


# --- Tables of answers

MARK = "\ufeff"
"""At the beginning of a file it tells spreadsheets that the letters are UTF-8."""


def as_csv(rows: Sequence[Sequence[str | int | float]]) -> str:
    """Rows as CSV that a spreadsheet opens as it is: no text in it becomes a formula."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return lines.getvalue()


def _harmless(cell: str | int | float) -> str | int | float:
    """A cell of which no spreadsheet makes a formula: before =, +, - or @ goes a '."""
    if not isinstance(cell, str) or _is_number(cell):
        return cell
    first = unicodedata.normalize("NFKC", cell.lstrip()[:1])  # a wide ＝ is one, too
    return f"'{cell}" if first in ("=", "+", "-", "@") else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def predictions(analysis: Analysis) -> list[list]:
    """Every row of the table with the truth, v, and what each modality's reading says: the first
    row says what stands below it. All are answers to rows that were not learned from."""
    table = analysis.table
    readings = {
        f"{letter} ({report.WORDS[name]})": analysis.readings[name]
        for letter, name in zip(report.LETTERS, table.modalities, strict=False)
    }
    head = ["line", "row", "truth", *_answer_heads(table.classes), *readings]
    answers = _answers(analysis.v, table.classes)
    alone = [_answers(values, table.classes) for values in readings.values()]
    truths = [table.classes[int(t)] if table.classes else _short(float(t)) for t in table.target]
    rows = [
        [line, name, truth, *answers[place], *(one[place][0] for one in alone)]
        for place, (line, name, truth) in enumerate(
            zip(table.lines, table.names, truths, strict=True)
        )
    ]
    return [head, *rows]


def _answer_heads(classes: Sequence[str]) -> list[str]:
    return ["answer", "probability"] if classes else ["answer"]


def _answers(v: Tensor, classes: Sequence[str]) -> list[list]:
    """Each row's answer: a number, or a class and its probability."""
    if not classes:
        return [[_short(value)] for value in v.tolist()]
    best = v.argmax(1)
    return [[classes[i], _short(v[row, i].item())] for row, i in enumerate(best.tolist())]


def _short(value: float) -> float:
    """A number with the six digits that are worth writing down."""
    return float(f"{value:.6g}")


# --- Predict


def predict(
    model: str | Path,
    new: str | Path,
    out: str | Path | None = None,
    say: Callable[[str], object] = print,
    warn: Callable[[str], object] = print,
) -> list[list]:
    """Answers for new rows, written as CSV into the new file `out`, or said when that is None.

    new: the new rows, a file or folder as `tables.load_rows` takes it. A row that cannot be
    answered is in the list, too, with the reason. warn: gets what was noticed while the rows were
    read. Returns the rows of the CSV, the first of which says what stands below it.
    Raises FileExistsError when `out` exists; and as `load_model` and `tables.load_rows`.
    """
    if out is not None:
        _check_new(rows.named(out, "file of answers"))
    fitted = load_model(model)
    about = fitted.about()
    check_encoders(name for name in about["encoders"].values() if ":" in name)
    table = tables.load_rows(new, about["columns"], about.get("language"))
    for note in table.notes:
        warn(note)
    found = answers(fitted, table)
    text = as_csv(found)
    if out is None:
        say(text.rstrip("\n"))
        return found
    _write_text(Path(out), MARK + text)
    without = sum(1 for row in found[1:] if row[-1])
    say(
        f"{len(found) - 1 - without} rows answered, {without} not (the last column says why): {out}"
    )
    return found


def _check_new(out: Path) -> None:
    """Raises FileExistsError when something is at this place, FileNotFoundError when its folder is
    not there."""
    if os.path.lexists(out):
        raise FileExistsError(f"{rows.in_full(out)} is there already: name a new file with --out.")
    if not out.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {rows.in_full(out.parent)} for {rows.shown(out.name)}: make it, "
            "or name another file with --out."
        )


def answers(fitted: Fitted, table: Table) -> list[list]:
    """Line, name, answer and reason of every new row, those that cannot be read among them."""
    classes = fitted.about()["classes"]
    with tempfile.TemporaryDirectory(prefix="mbm-predict-") as folder:
        memory = two_step.Memory(folder, "features")  # so that files are read once
        unread = unreadable(fitted, table, memory)
        v = two_step.predict(fitted, table, memory=memory)
    nothing = [""] * len(_answer_heads(classes))
    made = [
        (line, [line, name, *nothing, unread[place]] if place in unread
         else [line, name, *answer, ""])
        for place, (line, name, answer) in enumerate(
            zip(table.lines, table.names, _answers(v, classes), strict=True)
        )
    ]  # fmt: skip
    made += [(line, [line, "", *nothing, why]) for line, why in table.left_out.items()]
    head = ["line", "row", *_answer_heads(classes), "not answered because"]
    return [head, *(row for _, row in sorted(made, key=lambda one: one[0]))]


def unreadable(fitted: Fitted, table: Table, memory: two_step.Memory) -> dict[int, str]:
    """Which rows name a file that cannot be read, and why that is no answer."""
    found = {}
    for name in set(fitted.about()["modalities"]) - {"text", "numbers"}:
        encoder = fitted.about()["encoders"].get(name)
        features = two_step.features_of(table, name, encoder, memory=memory)
        for place in torch.from_numpy(features).isnan().all(1).nonzero()[:, 0].tolist():
            found[place] = f"its {report.WORDS[name]} cannot be read"
    return found
