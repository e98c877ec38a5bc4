"""A table of your own: pictures, texts, sounds, films or numbers in each row, and what you want to
know of it (lesson 12).

The first part is the table; the second reads a file or class folders; the third finds out what each
column holds; the last builds the table from it. Pictures and sounds are only looked for here: they
are read later, a batch at a time.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mbm_lab import preprocessing, rows

MODALITIES = ("image", "text", "sound", "clip", "numbers")
"""What a row may hold, in the order of α, β, γ, …"""

SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"),
    "sound": (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64"),
    "clip": (".gif", ".webp", ".apng"),
}
"""How the names of files end that can be read. A .gif or .webp is a clip where it moves."""
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg")
TABLE_FILES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet")

FEWEST_ROWS = 30
"""With fewer rows than this nothing can be both learned and tested."""
FEWEST_GROUPS = 3
MOST_CLASSES = 10
"""Whole numbers with more different values than this are a number, not classes."""

WORDS = {"image": "picture", "sound": "sound", "clip": "clip"}
ARGUMENTS = {"image": "image", "text": "text", "sound": "audio", "clip": "clip"}


# --- The table


@dataclass(frozen=True)
class Table:
    """N rows: what stands in them, a modality that they lack being None, and the target.

    target: (N,) float32, or of classes (N,) int64, places in `classes`; None in rows of which it is
    still to be predicted. numbers: (N, K) float32, NaN where a value is missing. columns: from
    which column each modality comes. notes: sentences on what was guessed, left out or done.
    """

    folder: Path
    names: list[str]  # what a row is called: its file's name, its id, or its line
    lines: list[int]  # where it stands in the file
    images: list[Path] | None = None
    texts: list[str] | None = None
    sounds: list[Path] | None = None
    clips: list[Path] | None = None
    numbers: Tensor | None = None
    number_names: list[str] = field(default_factory=list)
    target: Tensor | None = None
    target_name: str = ""
    classes: list[str] = field(default_factory=list)  # empty for a target that is a number
    groups: list[str] | None = None
    language: str | None = None  # "zh" for Chinese, or what was given
    columns: dict[str, str | list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)  # lines that are not here, and why

    def __len__(self) -> int:
        return len(self.names)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the rows hold, in the order of MODALITIES."""
        held = (self.images, self.texts, self.sounds, self.clips, self.numbers)
        return tuple(m for m, values in zip(MODALITIES, held, strict=True) if values is not None)

    def subset(self, indices: Sequence[int] | Tensor) -> Table:
        """The rows at these indices (or where a (N,) bool tensor is true), in this order."""
        chosen = places(indices, len(self), "rows")
        lists = {name: getattr(self, name) for name in
                 ("names", "lines", "images", "texts", "sounds", "clips", "groups")}  # fmt: skip
        tensors = {name: getattr(self, name) for name in ("numbers", "target")}
        taken = {n: v and [v[i] for i in chosen.tolist()] for n, v in lists.items()}
        taken |= {n: None if v is None else v[chosen] for n, v in tensors.items()}
        return replace(self, **taken)


def places(indices: Sequence[int], count: int, what: str) -> Tensor:
    """Indices of some of `count` things as a (N,) tensor of whole numbers, none of them negative;
    a (count,) bool tensor is true at those that are meant. what: a word for the things.

    Raises TypeError for what is no list of whole numbers, ValueError for one that is out of range.
    """
    try:
        found = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError):
        found = torch.zeros(())  # no list
    found = found.long() if found.numel() == 0 else found
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise TypeError(
            f"{rows.shown(repr(indices))} are no places of {what}: give a list of whole numbers."
        )
    if found.dtype == torch.bool:
        if len(found) != count:
            raise ValueError(f"There are {count} {what}, not {len(found)}: give a mask of {count}.")
        return found.nonzero()[:, 0]
    found = found.long()
    for one in found[(found < -count) | (found >= count)][:1].tolist():
        raise ValueError(f"There is no {one} among {count} {what}: give places from 0 on.")
    return found % count if count else found


def load_table(
    folder: str | Path,
    image: str | None = None,
    text: str | None = None,
    audio: str | None = None,
    clip: str | None = None,
    numbers: Sequence[str] | str = (),
    target: str | None = None,
    group: str | None = None,
    language: str | None = None,
    classes: bool | None = None,
) -> Table:
    """Loads a table of your own: `load_table("shop", image="photo", text="review", target="stars")`

    folder: the folder of one file of rows (CSV, TSV, JSON Lines; Parquet where pandas or pyarrow is
    installed), or that file itself; files that the rows name are beside it, or in a folder beside
    it. Or class folders: `cats/…`, `dogs/…` with pictures, sounds or .txt files, where the target
    is the folder's name; files of one name (`7.png`, `7.wav`) are one row.
    image, text, audio, clip, numbers: the columns to predict from. If none is named, they are found
    by what the columns hold. target: the column to predict. group: rows with the same value here
    (a patient, an author, a day) stay on one side of every split.
    language: "en", "de", "zh" or another; Chinese is found by its script. classes: True or False
    says whether the target is a class or a number; without it, the content decides.

    Rows that lack something are left out; `notes` says which, and why. Raises FileNotFoundError
    when there is no such folder or table, and ValueError, in one sentence, for an unknown column, a
    target that says nothing, or fewer than FEWEST_ROWS rows.
    """
    path = rows.named(folder, "folder of the table")
    if isinstance(numbers, str):
        numbers = (numbers,) if numbers else ()
    if classes not in (None, True, False):
        said = rows.shown(repr(classes))
        raise ValueError(f"classes is {said}: give True for classes, False for a number, or None.")
    if not (language is None or isinstance(language, str)):
        said = rows.shown(repr(language))
        raise TypeError(f'language is {said}: give a short text, as in language="en".')
    sheet = _read(path)
    for column in (image, text, audio, clip, target, group):
        if isinstance(column, (list, tuple, dict, set)):
            _check_column(column, sheet)
    if not isinstance(numbers, (list, tuple)):
        numbers = (numbers,)
    named = {"image": image, "text": text, "sound": audio, "clip": clip}
    named = {role: column for role, column in named.items() if column}
    named |= {"numbers": list(numbers)} if numbers else {}
    if target is None:
        target = sheet.target
    for column in [*named.values(), target, group]:
        for one in column if isinstance(column, list) else [column]:
            _check_column(one, sheet)
    if target is None:
        raise ValueError(
            f'Say which column is to be predicted: target="…"; {_there_are(sheet.columns)}.'
        )
    _check_once([*named.items(), ("target", target), ("group", group)])
    notes = list(sheet.notes)
    taken = [c for c in (target, group) if c]
    roles = named or _guess(sheet, taken, notes)
    if not roles:
        raise ValueError(
            f"{sheet.file} has nothing to predict {target} from: no column holds names of pictures "
            "or sounds, texts or numbers. Name one: image=, text=, audio=, clip= or numbers=."
        )
    if named:
        _mention_unused(sheet, named, taken, notes)
    return _build(sheet, roles, target, group, language, classes, notes)


def load_rows(
    path: str | Path, columns: dict[str, str | list[str]], language: str | None = None
) -> Table:
    """Rows of which the target is not known yet: those of a file, or of a folder of pictures.

    columns: from which column each modality comes, as `Table.columns` of the table on which a model
    was fitted. Rows that cannot be read are left out, and `notes` says which. Raises as
    `load_table`.
    """
    sheet = _read(rows.named(path, "table"), classless=True)
    for column in columns.values():
        for one in column if isinstance(column, list) else [column]:
            _check_column(one, sheet)
    return _build(sheet, columns, None, None, language, None, list(sheet.notes), fewest=1)


# --- Files


class Sheet(NamedTuple):
    """Rows as they were read: what stands in each column is a str, "" for nothing.

    folder: in which files are looked for. target: of class folders, the column of the class.
    """

    file: Path
    folder: Path
    columns: list[str]
    lines: list[int]
    rows: list[dict[str, str]]
    notes: list[str]
    target: str | None = None

    def values(self, column: str) -> list[str]:
        return [row.get(column, "") for row in self.rows]


def _read(path: Path, classless: bool = False) -> Sheet:
    if path.is_dir():
        file = _table_file(path)
        if file is None:
            return _read_class_folders(path, classless)
        path = file
    if kind := rows.kind_of(path):
        raise ValueError(f"{rows.in_full(path)} is {kind}: name a file of rows, or a folder.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {rows.in_full(path)}: check the name.")
    if path.suffix.lower() == ".parquet":
        columns, found, notes = _read_parquet(path)
        lines = range(1, len(found) + 1)
    else:
        read = rows.read(path)
        columns, notes = list(read.columns), [f"{path.name} was read as {read.layout}"]
        notes += [f"Line {fault.line} is left out: {fault.what}" for fault in read.problems]
        lines, found = [row.line for row in read.rows], [row.values for row in read.rows]
    notes += _mention_links(path.parent)
    found = [{name: _written(row.get(name)) for name in columns} for row in found]
    if not found:
        raise ValueError(
            f"{rows.in_full(path)} holds no rows below its first line, so there is nothing to "
            "read: add rows, or name another file."
        )
    return Sheet(path, path.parent, columns, list(lines), found, [_sentence(n) for n in notes])


def _written(value: object) -> str:
    """A value as text: "" for nothing, whatever a file calls nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _table_file(folder: Path) -> Path | None:
    """The one file of rows in a folder, or None. Raises ValueError for several."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    found = [f for f in files if f.suffix.lower() in TABLE_FILES]
    if not found and not _class_files(folder):
        texts = [f for f in files if f.suffix.lower() == ".txt" and "readme" not in f.name.lower()]
        found = texts if len(texts) == 1 else []  # several are texts, one a row
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds several tables ({_listed([f.name for f in found])}): name one of the "
            "files instead of the folder."
        )
    return found[0] if found else None


def _read_parquet(path: Path) -> tuple[list[str], list[dict], list[str]]:
    try:
        from pyarrow import parquet

        frame = parquet.read_table(path)
        return list(frame.column_names), frame.to_pylist(), [f"{path.name} was read as Parquet"]
    except ImportError:
        pass
    try:
        import pandas

        frame = pandas.read_parquet(path)
    except ImportError:
        raise ValueError(
            f"{path} is a Parquet file, and neither pandas nor pyarrow is installed to read it: "
            "install them with `pip install pandas pyarrow`, or save the table as CSV."
        ) from None
    columns = [str(column) for column in frame.columns]
    found = [dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False)]
    return columns, found, [f"{path.name} was read as Parquet"]


CLASS = "class"
"""The column of the class in a sheet made of class folders."""


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, without those that links bring in from outside of it."""
    return [one for one in _all_folders(folder) if not _leads_out(folder, one)]


def _all_folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__")))


def _leads_out(folder: Path, path: Path) -> bool:
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _mention_links(folder: Path) -> list[str]:
    return [
        f"The folder {one.name} is a link that leads out of {folder}, and is not read: put the "
        "folder itself there."
        for one in _all_folders(folder)
        if _leads_out(folder, one)
    ]


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return "text"
    return next((kind for kind in ("image", "sound") if suffix in SUFFIXES[kind]), None)


def _class_files(folder: Path) -> dict[Path, list[Path]]:
    """The folders inside this one that hold files of a known kind, and these files."""
    found = {}
    for one in _folders(folder):
        files = sorted(f for f in one.iterdir() if f.is_file() and not f.name.startswith("."))
        if known := [f for f in files if _kind(f)]:
            found[one] = known
    return found


def _read_class_folders(folder: Path, classless: bool) -> Sheet:
    found = _class_files(folder)
    if classless and not found:
        found = {folder: sorted(f for f in folder.iterdir() if f.is_file() and _kind(f))}
    if not any(found.values()) or (len(found) < 2 and not classless):
        inner = [one.name for one in _folders(folder) if _class_files(one)]
        if inner:
            raise ValueError(
                f"{folder} holds no table and no classes, but {_listed(inner)}, with folders of "
                "their own: name one of these."
            )
        raise FileNotFoundError(
            f"There is no table in {rows.in_full(folder)}: put one file of rows there (.csv, .tsv, "
            ".jsonl), or at least two folders of pictures, sounds or texts, one a class."
        )
    made: dict[tuple[str, str], dict[str, str]] = {}
    for one, files in found.items():
        name = "" if one == folder else one.name
        for file in files:
            row = made.setdefault((name, file.stem), {CLASS: name})
            inside = file.relative_to(folder).as_posix()
            row[_kind(file)] = _text_of(folder, inside) if _kind(file) == "text" else inside
    kinds = [kind for kind in ("image", "text", "sound")
             if 2 * sum(kind in row for row in made.values()) > len(made)]  # fmt: skip
    if not kinds:  # files of several kinds that do not belong together: the most frequent kind
        counts = Counter(kind for row in made.values() for kind in row if kind != CLASS)
        kinds = [counts.most_common(1)[0][0]]
    called = [WORDS.get(kind, kind) + "s" for kind in kinds]
    note = (
        f"{len(found)} folders of {' and '.join(called)} were read: a folder's name is the class."
    )
    kept = [row for row in made.values() if any(kind in row for kind in kinds)]
    full = [{k: row.get(k, "") for k in (*kinds, CLASS)} for row in kept]
    lines = list(range(1, len(full) + 1))
    notes = [note, *_mention_links(folder)]
    return Sheet(folder, folder, [*kinds, CLASS], lines, full, notes, CLASS)


def _text_of(folder: Path, name: str) -> str:
    """What a file of text says; nothing, if it cannot be read or lies elsewhere."""
    try:
        return preprocessing.read_text(rows.inside(folder, name)).strip()
    except (ValueError, OSError):
        return ""


# --- What a column holds


def _there_are(columns: Sequence[str]) -> str:
    return f"there are {_listed(columns, 12)}"


def _listed(words: Sequence[object], most: int = 5) -> str:
    """`a, b, c and 12 more`."""
    words = [rows.shown(str(word), 40) for word in words]
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _check_column(name: str | None, sheet: Sheet) -> None:
    if not (name is None or isinstance(name, str)):
        raise TypeError(
            f"A column is named by a text, not by {rows.shown(repr(name))}: write its name in "
            f"quotes; {_there_are(sheet.columns)}."
        )
    if name is None or name in sheet.columns:
        return
    lower = {column.casefold().strip(): column for column in sheet.columns}
    near = difflib.get_close_matches(str(name).casefold().strip(), lower, 1, 0.6)
    ask = f": did you mean {rows.shown(lower[near[0]])}? Then name that." if near else (
        ": name one of these.")  # fmt: skip
    raise ValueError(
        f'There is no column "{rows.shown(name)}" in {rows.in_full(sheet.file)}; '
        f"{_there_are(sheet.columns)}{ask}"
    )


def _check_once(roles: list[tuple[str, str | list[str] | None]]) -> None:
    """No column may be both what is predicted and what it is predicted from."""
    first: dict[str, str] = {}
    for role, columns in roles:
        for column in columns if isinstance(columns, list) else [columns] if columns else []:
            if column in first and "group" not in (role, first[column]):
                raise ValueError(
                    f'The column "{column}" cannot be both {first[column]} and {role}: name '
                    "another column for one of them."
                )
            first[column] = role


NOTHING = {"", "-", "?", "na", "n/a", "nan", "none", "null", "nil", "missing", "."}
"""What people write where a value is missing, in small letters."""


def is_missing(value: str) -> bool:
    """Whether a value says that there is none: "", "NA", "null", …"""
    return value.strip().casefold() in NOTHING


LARGEST_NUMBER = 3e38
"""What is larger is not taken as a number: 32 bits do not hold it."""

_SPACES = re.compile(r"[\s\u00a0\u202f'’_]")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.I)


def read_numbers(values: Sequence[str]) -> list[float] | None:
    """The values of a column as numbers, NaN where one is missing; None if they are not numbers.

    "3,5" is 3.5, "1.234,5" and "1,234.5" are 1234.5, "12 %" is 12. Whether a comma stands for
    thousands is decided for the whole column: it does where three digits follow it everywhere, and
    a dot, or a second comma, says so.
    """
    texts = [_SPACES.sub("", v).rstrip("%").replace("−", "-") for v in values]
    present = [t for t, v in zip(texts, values, strict=True) if not is_missing(v)]
    if not present:
        return None
    if any("," in t for t in present):
        with_comma = [t for t in present if "," in t]
        both = [t for t in with_comma if "." in t]
        if both:
            decimal = all(t.rfind(",") > t.rfind(".") for t in both)
        else:
            decimal = not (
                all(_THOUSANDS.fullmatch(t) for t in with_comma)
                and (any(t.count(",") > 1 for t in with_comma) or any("." in t for t in present))
            )
        texts = [t.replace(".", "").replace(",", ".") if decimal and ("," in t or both)
                 else t if decimal else t.replace(",", "") for t in texts]  # fmt: skip
    numbers = []
    for text, value in zip(texts, values, strict=True):
        if is_missing(value):
            numbers.append(math.nan)
        elif _NUMBER.fullmatch(text) and abs(float(text)) < LARGEST_NUMBER:
            numbers.append(float(text))
        else:
            return None
    return numbers


class Files:
    """Finds the files that a column names: beside the table, or in a folder beside it."""

    def __init__(self, folder: Path, kind: str):
        self.kind, self.suffixes = kind, SUFFIXES[kind]
        self.bases = [folder, *_folders(folder)]
        self.stems: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path | str:
        """The file of this name, or what is wrong with the name."""
        if not name:
            return f"no {WORDS[self.kind]} is named: write its name"
        missing = ""
        for base in self.bases:
            try:
                path = rows.inside(base, name, WORDS[self.kind])
            except FileNotFoundError as error:
                if (path := self._of_stem(base, name)) is None:
                    missing = missing or str(error)
                    continue
            except ValueError as error:
                return str(error)
            if path.suffix.lower() not in self.suffixes:
                can = ", ".join(self.suffixes[:3])
                return (
                    f"{rows.shown(name)} is no {WORDS[self.kind]} that can be read here: save it "
                    f"as one of {can}"
                )
            self.bases.sort(key=lambda one: one != base)  # the next ones are here, too
            return path
        return missing

    def _of_stem(self, base: Path, name: str) -> Path | None:
        """The file that is named without its suffix."""
        if base not in self.stems:
            self.stems[base] = {
                unicodedata.normalize("NFC", file.stem): file
                for file in sorted(base.iterdir())
                if file.suffix.lower() in self.suffixes
            }
        return self.stems[base].get(unicodedata.normalize("NFC", name))


def _says_something(text: str) -> bool:
    """Whether a text holds words, beside tags and marks."""
    try:
        return bool(_words_in(preprocessing.clean(text)))
    except ValueError:
        return False


def _share(found: Sequence[bool]) -> float:
    return sum(found) / max(1, len(found))


def _moves(path: Path) -> bool:
    """Whether a picture file holds several frames."""
    from PIL import Image

    try:
        with Image.open(path, formats=preprocessing.picture_kinds()) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError):
        return False


ID_NAME = re.compile(r"(^|[_\W])(id|uid|uuid|index|idx|key|nr|no|row|#)$|^unnamed|^$", re.I)
PROBE = 200
"""So many values of a column are looked at to guess what it holds."""


def _guess(sheet: Sheet, taken: Sequence[str], notes: list[str]) -> dict[str, str | list[str]]:
    """What each column holds that nobody named: {modality: column, or columns of numbers}."""
    held: dict[str, list[str]] = {role: [] for role in (*MODALITIES, "id", "video", "web", "other")}
    width: dict[str, float] = {}
    for column in sheet.columns:
        if column in taken:
            continue
        values = [value for value in sheet.values(column) if not is_missing(value)]
        if values:
            held[_content(column, values, sheet, width)].append(column)
    for role in ("image", "sound", "clip"):
        whole = [c for c in held[role] if _has_suffixes(sheet.values(c))]
        if len(whole) == 1:  # others only happen to be the names without their suffix
            held["id"] += [c for c in held[role] if c not in whole]
            held[role] = whole
        if len(held[role]) > 1:
            raise ValueError(
                f"{sheet.file} has several columns of {WORDS[role]}s ({_listed(held[role])}): say "
                f'which to use, for example {ARGUMENTS[role]}="{held[role][0]}".'
            )
    if held["video"] and not any(held[role] for role in MODALITIES):
        raise ValueError(
            f"The column {held['video'][0]} names films such as .mp4, which the course cannot read:"
            " save each as an animated .webp or .gif."
        )
    roles: dict[str, str | list[str]] = {}
    for role in ("image", "text", "sound", "clip"):
        if held[role]:
            column = max(held[role], key=lambda c: width.get(c, 0))
            roles[role] = column
            notes.append(
                f"The column {column} holds {'texts' if role == 'text' else WORDS[role] + 's'}."
            )
            for other in held[role]:
                if other != column:
                    notes.append(f'The column {other} holds texts, too, and is left out: text="'
                                 f'{other}" takes it instead.')  # fmt: skip
    if held["numbers"]:
        roles["numbers"] = held["numbers"]
        verb = "holds" if len(held["numbers"]) == 1 else "hold"
        noun = "column" if len(held["numbers"]) == 1 else "columns"
        notes.append(f"The {noun} {_listed(held['numbers'], 12)} {verb} numbers.")
    for role, what in (
        ("id", "looks like an id, and is left out"),
        ("video", "names films that the course cannot read (animated .webp and .gif it can)"),
        ("web", "names places on the web, and is left out"),
        ("other", "is neither a text nor a number nor a file's name, and is left out"),
    ):
        notes += [f"The column {column} {what}." for column in held[role]]
    return {role: roles[role] for role in MODALITIES if role in roles}


def _has_suffixes(values: Sequence[str]) -> bool:
    some = [value for value in values if value][:PROBE]
    return _share([os.path.splitext(value)[1] != "" for value in some]) > 0.5


def _content(column: str, values: list[str], sheet: Sheet, width: dict[str, float]) -> str:
    """What a column holds: a modality, "id", "video" or "other"."""
    some = values[:: max(1, len(values) // PROBE)]
    endings = [os.path.splitext(value.lower())[1] for value in some]
    if _share([ending in VIDEOS for ending in endings]) > 0.5:
        return "video"
    if _share([value.lower().startswith(("http://", "https://")) for value in some]) > 0.5:
        return "web"
    known = [e in (*SUFFIXES["image"], *SUFFIXES["sound"]) for e in endings]
    if not any(known) and _share([" " in value for value in some]) > 0.5:
        return _content_of_words(column, values, some, width)
    for kind in ("image", "sound"):
        files = Files(sheet.folder, kind)
        found = [files.find(value) for value in some]
        paths = [path for path in found if isinstance(path, Path)]
        named = _share([ending in SUFFIXES[kind] for ending in endings])
        if 2 * len(paths) > len(some) or (named > 0.5 and paths):
            moving = [_moves(p) for p in paths[:10] if p.suffix.lower() in SUFFIXES["clip"]]
            return "clip" if kind == "image" and moving and _share(moving) > 0.5 else kind
        if named > 0.5:
            raise ValueError(
                f"The column {column} names {WORDS[kind]}s such as {some[0]}, and none of them is "
                f"in {sheet.folder} or in a folder of it: put them there."
            )
    return _content_of_words(column, values, some, width)


def _content_of_words(
    column: str, values: list[str], some: list[str], width: dict[str, float]
) -> str:
    """What a column holds that names no files: "numbers", "text", "id" or "other"."""
    numbers = read_numbers(values)
    distinct = len(set(values))
    if numbers is not None:
        whole = all(number == int(number) for number in numbers)
        steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
        if whole and distinct == len(values) and (ID_NAME.search(column) or steps == {1.0}):
            return "id"
        return "numbers" if distinct > 1 else "other"
    words = sum(len(_words_in(value)) for value in some) / len(some)
    width[column] = words
    if words >= 3:
        return "text"
    if distinct == len(values) or (ID_NAME.search(column) and 2 * distinct > len(values)):
        return "id"
    return "other"


def _words_in(text: str) -> list[str]:
    """The words of a text, or its Chinese characters."""
    return re.findall(r"[\u3400-\u9fff]|\w+", text)


def _mention_unused(sheet: Sheet, named: dict, taken: list[str], notes: list[str]) -> None:
    used: set[str] = set()
    for column in named.values():
        used |= set(column) if isinstance(column, list) else {column}
    unused = [column for column in sheet.columns if column not in used and column not in taken]
    if unused:
        noun, verb = ("column", "is") if len(unused) == 1 else ("columns", "are")
        notes.append(f"The {noun} {_listed(unused, 12)} {verb} not used, since you named others.")


# --- From columns to a table


def _build(
    sheet: Sheet,
    roles: dict[str, str | list[str]],
    target: str | None,
    group: str | None,
    language: str | None,
    classes: bool | None,
    notes: list[str],
    fewest: int = FEWEST_ROWS,
) -> Table:
    reasons: list[str | None] = [None] * len(sheet.rows)  # why a row is left out

    def leave_out(at: int, reason: str) -> None:
        reasons[at] = reasons[at] or reason

    found: dict[str, list] = {}
    for role in MODALITIES:
        if role not in roles:
            continue
        if role == "numbers":
            found[role] = [_number_column(sheet, column) for column in roles[role]]
            continue
        column = roles[role]
        values = ["" if is_missing(v) else v for v in sheet.values(column)]
        if role == "text":
            found[role] = [unicodedata.normalize("NFC", value) for value in values]
            for at, value in enumerate(values):
                if not _says_something(value):
                    leave_out(at, f"its {column} holds no word")
            continue
        files = Files(sheet.folder, role)
        found[role] = [files.find(value) for value in values]
        wrong = [one for one in found[role] if isinstance(one, str)]
        if len(wrong) == len(values):
            raise ValueError(
                f'No value of the column "{column}" is the name of a {WORDS[role]} in '
                f"{sheet.folder} (line {sheet.lines[0]}: {wrong[0]}): check the names and the "
                "folder, or choose another column."
            )
        for at, one in enumerate(found[role]):
            if isinstance(one, str):
                leave_out(at, one)
    raw = sheet.values(target) if target else []
    for at, value in enumerate(raw):
        if is_missing(value):
            leave_out(at, f"it has no {target}")
    groups = sheet.values(group) if group else None
    for at, value in enumerate(groups or []):
        if is_missing(value):
            leave_out(at, f"it has no {group}")
    kept = [at for at, reason in enumerate(reasons) if reason is None]
    notes += _left_out(sheet, reasons)
    if len(kept) < fewest:
        gone = f" ({len(reasons) - len(kept)} were left out)" if len(kept) < len(reasons) else ""
        why = f" The first: {notes[-1]}" if gone and notes else ""
        raise ValueError(
            f"{sheet.file} has {len(kept)} whole rows{gone}, and at least {fewest} are needed to "
            f"learn from some and to test on others.{why} Add rows."
        )

    def keep(values: list | None) -> list | None:
        return None if values is None else [values[at] for at in kept]

    values, names = None, []
    if target:
        values, names = _target(target, keep(raw), classes, sheet, notes)
    texts = keep(found.get("text"))
    numbers = None
    if "numbers" in found:
        numbers = torch.tensor(found["numbers"], dtype=torch.float64).T[kept].float()
        _mention_missing(numbers, roles["numbers"], notes)
        _mention_copies(numbers, roles["numbers"], values, target, notes)
    table = Table(
        folder=sheet.folder,
        names=_row_names(sheet, found, kept),
        lines=keep(sheet.lines),
        images=keep(found.get("image")),
        texts=texts,
        sounds=keep(found.get("sound")),
        clips=keep(found.get("clip")),
        numbers=numbers,
        number_names=list(roles.get("numbers", [])),
        target=values,
        target_name=target or "",
        classes=names,
        groups=_check_groups(group, keep(groups)),
        language=language or _language(texts),
        columns=dict(roles),
        notes=notes,
        left_out={line: why for line, why in zip(sheet.lines, reasons, strict=True) if why},
    )
    if table.language == "zh" and language is None:
        notes.append("The texts hold Chinese, so jieba cuts them into words.")
    return _grouped_by_file(table) if target and group is None else table


def _number_column(sheet: Sheet, column: str) -> list[float]:
    values = sheet.values(column)
    numbers = read_numbers(values)
    if numbers is None:
        bad = next((at for at, v in enumerate(values) if v and read_numbers([v]) is None), 0)
        raise ValueError(
            f'The column "{rows.shown(column)}" is no column of numbers: line {sheet.lines[bad]} '
            f'holds "{rows.shown(values[bad], 40)}"; write a number there (below 3e38), or name '
            "another column."
        )
    return numbers


def _mention_missing(numbers: Tensor, columns: Sequence[str], notes: list[str]) -> None:
    missing = numbers.isnan().sum(0).tolist()
    if any(missing):
        said = [f"{name} ({count})" for name, count in zip(columns, missing, strict=True) if count]
        notes.append(f"Numbers are missing in {_listed(said)}: a mean stands in their place.")


def _mention_copies(
    numbers: Tensor, columns: Sequence[str], target: Tensor | None, name: str, notes: list[str]
) -> None:
    """Warns of numbers that are the target in other words."""
    for column, name_of in zip(numbers.T if target is not None else [], columns, strict=False):
        there = ~column.isnan()
        pair = torch.stack([column[there], target[there].float()]).double()
        if there.sum() > 2 and torch.corrcoef(pair)[0, 1].abs() > 0.9995:
            notes.append(
                f"{name_of} says almost the same as {name}: leave it out, unless it is known of "
                "new rows, too."
            )


def _left_out(sheet: Sheet, reasons: Sequence[str | None]) -> list[str]:
    """A sentence for each kind of reason, with the lines; of files the first is named."""
    lines: dict[str, list[tuple[int, str]]] = {}
    for line, reason in zip(sheet.lines, reasons, strict=True):
        if reason:
            kind = re.sub(r"the (picture|sound|clip) .+? is not in", r"the \1 is not in", reason)
            kind = re.sub(r"( \(.+? is.*\))?(: [^:]*)?$", "", kind)
            lines.setdefault(kind, []).append((line, reason))
    said = []
    for alike in lines.values():
        where = _listed([line for line, _ in alike], 10)
        if len(alike) == 1:
            said.append(f"Line {where} is left out: {alike[0][1]}.")
        else:
            said.append(f"{len(alike)} rows are left out (lines {where}): line {alike[0][0]}, for "
                        f"example: {alike[0][1]}.")  # fmt: skip
    return said


def _row_names(sheet: Sheet, found: dict[str, list], kept: Sequence[int]) -> list[str]:
    for role in ("image", "sound", "clip"):
        if role in found:
            names = [found[role][at].name for at in kept]
            return (
                names
                if len(set(names)) == len(names)
                else [
                    f"{name} (line {sheet.lines[at]})" for name, at in zip(names, kept, strict=True)
                ]
            )
    ids = [c for c in sheet.columns if ID_NAME.search(c) or c.casefold() == "name"]
    for column in ids:
        names = [sheet.rows[at][column] for at in kept]
        if all(names) and len(set(names)) == len(names):
            return names
    return [f"line {sheet.lines[at]}" for at in kept]


def _target(
    name: str, raw: list[str], classes: bool | None, sheet: Sheet, notes: list[str]
) -> tuple[Tensor, list[str]]:
    """The target as a tensor, and the names of its classes (none for a number)."""
    numbers = read_numbers(raw)
    distinct = sorted(set(raw if numbers is None else numbers))
    if len(distinct) < 2:
        raise ValueError(
            f'Every row has the same {name}, "{rows.shown(raw[0])}": a target with one value '
            "cannot be learned, so name another column."
        )
    if classes is False and numbers is None:
        bad = next(v for v in raw if read_numbers([v]) is None)
        raise ValueError(
            f'The target {name} cannot be a number, since it holds "{rows.shown(bad, 40)}": leave '
            "classes=False out."
        )
    if numbers is not None and not classes:
        few = len(distinct) <= MOST_CLASSES and all(n == int(n) for n in distinct)
        scale = len(distinct) > 2 and distinct[0] == 1  # 1, 2, 3, … as stars and grades are
        if classes is False or not few or scale:
            if few:
                notes.append(f"{name} is taken as a number; classes=True takes it as classes.")
            else:
                notes.append(f"{name} is a number.")
            return torch.tensor(numbers), []
        notes.append(f"{name} is taken as {len(distinct)} classes ({_listed_numbers(distinct)}); "
                     "classes=False takes it as a number.")  # fmt: skip
    labels = raw if numbers is None else [_plain(number) for number in numbers]
    names = sorted(set(raw)) if numbers is None else [_plain(number) for number in distinct]
    counts = Counter(labels)
    if 2 * len(names) > len(raw):
        raise ValueError(
            f"The target {name} has {len(names)} different values in {len(raw)} rows: a target is "
            "a number, or one of a few classes that come again. Name another column."
        )
    if alone := [one for one in names if counts[one] == 1]:
        raise ValueError(
            f'The class "{rows.shown(alone[0])}" of {name} has one row only (line '
            f"{_line_of(sheet, name, alone[0])}), so it cannot be both learned and tested: give it "
            "more rows, or take that row out."
        )
    if numbers is None or classes:
        notes.append(f"{name} has {len(names)} classes: {_listed(names, 12)}.")
    place = {one: at for at, one in enumerate(names)}
    return torch.tensor([place[one] for one in labels]), names


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _listed_numbers(numbers: Sequence[float]) -> str:
    return _listed([_plain(number) for number in numbers], 12)


def _line_of(sheet: Sheet, column: str, value: str) -> int:
    values = sheet.values(column)
    return next((line for line, v in zip(sheet.lines, values, strict=True) if v == value), 0)


def _check_groups(name: str | None, groups: list[str] | None) -> list[str] | None:
    if groups is not None and len(set(groups)) < 2:
        raise ValueError(
            f'All rows are of one group, {name} "{rows.shown(groups[0])}", so none can be kept for '
            "testing: leave group= out, or add rows of other groups."
        )
    if groups is not None and len(set(groups)) < FEWEST_GROUPS:
        raise ValueError(
            f"All rows are of {len(set(groups))} groups, {name} {_listed(sorted(set(groups)))}, "
            f"and at least {FEWEST_GROUPS} are needed, to learn readings, to learn their weights "
            "and to test: leave group= out, or add rows of other groups."
        )
    return groups


def _language(texts: list[str] | None) -> str | None:
    """ "zh" where a third of the letters are Chinese."""
    letters = "".join(c for text in (texts or [])[:PROBE] for c in text if c.isalpha())
    chinese = len(preprocessing.CHINESE.findall(letters))
    return "zh" if letters and 3 * chinese > len(letters) else None


def _grouped_by_file(table: Table) -> Table:
    """Rows that share a picture, a sound or a clip become a group: else a model could recognise in
    testing what it saw in training."""
    for files, what in ((table.images, "picture"), (table.sounds, "sound"), (table.clips, "clip")):
        if files is not None and FEWEST_GROUPS <= len(set(files)) < len(files):
            note = (
                f"Some rows share a {what}, so rows of one {what} stay on one side of every split."
            )
            return replace(table, groups=[str(file) for file in files], notes=[*table.notes, note])
    return table
