"""Files of rows, whoever wrote them: a spreadsheet, a program, an editor (lesson 12).

The first part turns a file into text, whatever its encoding; the second finds out how the text is
laid out (CSV of any kind, JSON Lines, a JSON list) and reads its rows; the third looks up the names
of files that rows hold, and never outside of their folder. What the columns mean is for others.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

csv.field_size_limit(2**31 - 1)  # else a text of more than 131,072 letters is "an error"


class Row(NamedTuple):
    """One row, and the line of the file in which it begins.

    values: the text of each column, "" where there is none. Numbers keep their spelling ("3,5").
    several: the cells of a JSON file that hold a list of texts (`values` has them as JSON).
    """

    line: int
    values: dict[str, str]
    several: dict[str, list[str]]


class Fault(NamedTuple):
    """A line that holds no row. kind: "encoding" or "form"; what: a sentence without its full stop,
    with the cure."""

    line: int
    kind: str
    what: str


@dataclass(frozen=True)
class Rows:
    """What a file of rows holds."""

    columns: list[str]
    rows: list[Row]
    layout: str  # in words: "CSV with semicolons, UTF-16"
    problems: list[Fault]

    def column(self, *names: str) -> str | None:
        """The first column that has one of these names, whatever its large letters, spaces and
        lines ("File name" for "file_name"); None without one."""
        plain = {_plain(column): column for column in reversed(self.columns)}
        return next((plain[_plain(name)] for name in names if _plain(name) in plain), None)


def _plain(name: str) -> str:
    """A column's name without what people write in different ways."""
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name)).casefold()


# --- Which file


def named(path: str | Path, what: str = "file") -> Path:
    """The file or folder that somebody names. what: a word for it.

    Raises TypeError when this is no name at all; ValueError for an empty one, one with a zero byte,
    and one that is longer than a name may be.
    """
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(
            f"The {what} is named by a text, not by {shown(repr(path))}: write its name in quotes."
        )
    if not str(path):
        raise ValueError(f"The name of the {what} is empty: write its name.")
    if "\0" in str(path):
        raise ValueError(
            f"{shown(str(path))} cannot be the name of a {what}: take the zero byte out."
        )
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(
                f"{shown(str(path))} is too long for the name of a {what}: check the name."
            ) from None
    except ValueError:  # half a character, as no name on a disk has
        pass
    return Path(path)


def kind_of(path: str | Path) -> str | None:
    """What is at this place, if it is no file: "a folder", "a pipe", "a link to nothing" …; None
    for a file, and where nothing is."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "a link to nothing" if os.path.islink(path) else None
    for is_one, words in (
        (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, None),
    ):  # fmt: skip
        if is_one(mode):
            return words
    return "a device"


FORBIDDEN = "may not be read: allow yourself to read it (its permissions forbid it)"
"""Half a sentence on a file or a folder."""


def forbidden(path: Path) -> PermissionError:
    """The error that a file, or a folder, may not be read, for whoever raises it."""
    return PermissionError(f"{in_full(path)} {FORBIDDEN}.")


# --- From bytes to text


class Text(NamedTuple):
    """A file's text and its encoding in words. Bytes that belong to no letter have become
    surrogates (Python's surrogateescape)."""

    text: str
    encoding: str


_AS_CSV = 'open it in a spreadsheet program and save it as "CSV UTF-8"'
_SIGNS = [
    (b"PAR1", "a Parquet table", "write it as CSV, in pandas with `.to_csv(name, index=False)`"),
    (b"ARROW1", "an Arrow table", "write it as CSV, in pandas with `.to_csv(name, index=False)`"),
    (b"\xd0\xcf\x11\xe0", "an old Office file (xls or doc)", _AS_CSV),
    (b"{\\rtf", "a text with formatting (RTF)", 'save it as "plain text"'),
    (b"%PDF", "a PDF", "a program cannot read rows from it: look for the data as CSV"),
    (b"SQLite format 3\0", "an SQLite database", "export the table from it as CSV"),
    (b"\x93NUMPY", "a NumPy array", "write it as CSV, with `numpy.savetxt` or pandas"),
    (b"\x89HDF", "an HDF5 file", "write it as CSV, for example with pandas"),
    (b"\x1f\x8b", "packed with gzip", "unpack it first"),
    (b"BZh", "packed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "packed with xz", "unpack it first"),
    (b"7z\xbc\xaf", "packed with 7-Zip", "unpack it first"),
    (b"Rar!", "packed with RAR", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", "unpack it first"),
    (b"\x89PNG", "a picture", "name the file of rows instead"),
    (b"\xff\xd8\xff", "a picture", "name the file of rows instead"),
    (b"GIF8", "a picture", "name the file of rows instead"),
    (b"\x80\x02", "a Python pickle", "write its data as CSV"),
    (b"\x80\x03", "a Python pickle", "write its data as CSV"),
    (b"\x80\x04", "a Python pickle", "write its data as CSV"),
    (b"\x80\x05", "a Python pickle", "write its data as CSV"),
]
"""How files begin that hold no plain text; what they are; what to do."""


def _other_kind(data: bytes) -> tuple[str, str] | None:
    """What a file is that holds no rows of text, and what to do; None if it may hold some."""
    if data.startswith(b"PK\x03\x04") or data.startswith(b"PK\x05\x06"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                inside = " ".join(packed.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return "a packed file (zip) that is not whole", "fetch it again"
        for part, what in (("xl/", "an Excel workbook"), ("content.xml", "an OpenDocument file"),
                           ("Index/", "an Apple Numbers document")):  # fmt: skip
            if part in inside:
                return what, _AS_CSV
        if "word/" in inside:
            return "a Word document", 'save it as "plain text", UTF-8'
        return "a packed folder (zip)", "unpack it first"
    for sign, what, cure in _SIGNS:
        if data.startswith(sign):
            return what, cure
    start = data[:600].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<table")):
        return "a web page", "download the file itself (a page is what a server sends for an error)"
    if start.startswith((b"<?xml", b"<svg")):
        return "XML", _AS_CSV
    return None


def decode(path: str | Path) -> Text:
    """A file's text: UTF-8, UTF-16 and UTF-32 with a mark or (16) without, GB 18030, Windows-1252.

    Raises FileNotFoundError without such a file, PermissionError when it may not be read, and
    ValueError when it is empty, holds no text, or has an encoding that cannot be told.
    """
    path = named(path, "file of rows")
    if kind := kind_of(path):
        raise ValueError(f"{in_full(path)} is {kind}: name a file of rows.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {in_full(path)}: check the name and the folder.")
    try:
        data = path.read_bytes()
    except PermissionError:
        raise forbidden(path) from None
    if not data.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        raise ValueError(f"{in_full(path)} is empty: fill it with rows, or name another file.")
    if other := _other_kind(data):
        what, cure = other
        raise ValueError(f"{in_full(path)} holds no rows of text, it looks like {what}: {cure}.")
    return _decoded(path, data)


def _decoded(path: Path, data: bytes) -> Text:
    for mark, codec, name in (
        (b"\xff\xfe\0\0", "utf-32", "UTF-32"), (b"\0\0\xfe\xff", "utf-32", "UTF-32"),
        (b"\xff\xfe", "utf-16", "UTF-16"), (b"\xfe\xff", "utf-16", "UTF-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return Text(_marked(data.decode(codec, errors="replace")), name)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if codec := _unmarked_utf16(data):
        return Text(_marked(data.decode(codec, errors="replace")), "UTF-16 without a mark")
    if len(data) - len(data.translate(None, _CONTROLS)) > max(8, len(data) / 30):
        raise ValueError(f"{in_full(path)} holds no text: name a file of rows, such as a CSV file.")
    try:
        return Text(data.decode("utf-8"), "UTF-8")
    except UnicodeDecodeError:
        pass
    if _is_chinese(data):
        return Text(data.decode("gb18030"), "GB 18030 (Chinese)")
    escaped = data.decode("utf-8", errors="surrogateescape")
    strange = len(re.findall("[\udc80-\udcff]", escaped))
    if 2 * strange <= sum(byte > 0x7F for byte in data):  # most are UTF-8, some lines are not
        return Text(escaped, "UTF-8")
    text = data.decode("cp1252", errors="surrogateescape")
    if _is_western(text):
        return Text(text, "Windows-1252")
    raise ValueError(
        f'{in_full(path)} is not UTF-8, and its encoding cannot be told: save it as "UTF-8" (in a '
        'spreadsheet program "CSV UTF-8").'
    )


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))


def _marked(text: str) -> str:
    """What cannot be decoded, as a surrogate, so that its line is found."""
    return text.replace("\ufffd", "\udcff")


def _unmarked_utf16(data: bytes) -> str | None:
    """The codec of UTF-16 without a mark: zeros at every second place, and text when decoded."""
    zeros, odd = data.count(0), data[1::2].count(0)
    if zeros < 2 or zeros < len(data) / 50 or 0.1 * zeros < odd < 0.9 * zeros:
        return None
    codec = "utf-16-le" if odd > zeros / 2 else "utf-16-be"
    text = data.decode(codec, errors="replace")
    strange = sum(unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\r\n" for c in text)
    return codec if strange <= len(text) / 50 else None


_HIGH = re.compile(rb"[\x80-\xff]+")


def _is_chinese(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 are GB 18030: pairs of high bytes, of the frequent words.

    The first level of GB 2312 has the 3,755 most frequent characters at B0A1 to D7FE, its
    punctuation is at A1 and A3.
    """
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    pairs = [run[i : i + 2] for run in _HIGH.findall(data) for i in range(0, len(run), 2)]
    frequent = sum(
        len(pair) == 2 and pair[1] >= 0xA1 and (0xB0 <= pair[0] <= 0xD7 or pair[0] in (0xA1, 0xA3))
        for pair in pairs
    )
    runs = len(_HIGH.findall(data))
    return frequent >= 0.8 * len(pairs) and len(pairs) >= 1.5 * runs


def _is_western(text: str) -> bool:
    """Whether a text that was read as Windows-1252 is one: single letters with accents in Latin
    words, no signs within words. Mojibake of Greek, Cyrillic, Japanese … is not."""
    high = [(i, c) for i, c in enumerate(text) if ord(c) > 0x7F]
    strange = 0
    for i, c in high:
        before, after = text[max(0, i - 1) : i], text[i + 1 : i + 2]
        within = before.isalpha() and after.isalpha()
        odd_sign = not c.isalpha() and c not in "’'·" and within
        odd_capital = c.isupper() and before.islower()
        strange += odd_sign or odd_capital or "\udc80" <= c <= "\udcff" or "\x80" <= c <= "\x9f"
    runs = re.findall(r"[^\x00-\x7f]+", text)
    return strange <= len(high) / 10 and len(high) <= 2 * len(runs)


# --- From text to rows

DELIMITERS = {"\t": "tabs", "|": "vertical bars", ";": "semicolons", ",": "commas"}
"""What cuts a line into cells, in words; of two that cut all lines alike the first is taken, since
commas are the most frequent in texts."""


def read(path: str | Path, columns: Sequence[str] | None = None) -> Rows:
    """The rows of a file: CSV with commas, semicolons, tabs or vertical bars; JSON Lines; a JSON
    list of objects. Its content tells which, not its name.

    columns: names for the columns of a file without a head. Lines that hold no row are in
    `problems`. Raises as `decode`, and ValueError when the text as a whole is no table.
    """
    return parse(path, *decode(path), columns)


def parse(
    path: str | Path, text: str, encoding: str = "UTF-8", columns: Sequence[str] | None = None
) -> Rows:
    """The rows of a text, as `read`; path: what messages name."""
    lines = list(io.StringIO(text, newline=""))
    if re.match(r"\s*\[\s*(\{|\]|$)", text):
        found, layout = _list_objects(text), "a JSON list"
    elif isinstance(whole := json_value(text), dict):
        if _nested(whole):
            raise ValueError(
                f"{in_full(path)} is one JSON object, and not a list of objects, one a row: write "
                'it so (in pandas with `orient="records"`).'
            )
        found, layout = iter([(1, len(lines), whole)]), "a JSON object"
    elif isinstance(whole, list):
        raise ValueError(
            f"{in_full(path)} is a JSON list, but not of objects {_LIKE_THIS}: write such a list."
        )
    elif _is_json_lines(lines):
        found, layout = _line_objects(lines), "JSON Lines"
    else:
        return _csv(Path(path), lines, encoding, columns)
    return _objects(lines, found, layout, encoding)


def _nested(value: dict) -> bool:
    """Whether an object holds other objects, or lists of what is no text."""
    parts = [[cell] if isinstance(cell, dict) else cell for cell in value.values()]
    return any(isinstance(one, (dict, list)) for part in parts if isinstance(part, list)
               for one in part)  # fmt: skip


def json_value(text: str) -> object:
    """What a JSON text says, with numbers as they are spelled; None when it is no JSON, says one
    name twice in an object, or holds more within one another than can be read."""
    try:
        return _JSON.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def name_twice(text: str) -> str | None:
    """The name that an object of a JSON text says twice, if it does so."""
    try:
        _JSON.decode(text.strip())
    except TwiceError as error:
        return error.name
    except (ValueError, RecursionError):
        pass
    return None


class TwiceError(ValueError):
    """An object that says one name twice: of its values one would be lost."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceError(next(name for name in names if names.count(name) > 1))
    return found


_JSON = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once
)


_LIKE_THIS = 'like {"name": "text", "name": "text"}'


def _is_json_lines(lines: list[str]) -> bool:
    """Whether most of the first lines are JSON objects, one a line."""
    first = list(islice((line for line in lines if line.strip()), 40))
    good = sum(line.lstrip().startswith("{") and isinstance(json_value(line), dict)
               for line in first)  # fmt: skip
    return 2 * good > len(first)


_Found = Iterator[tuple[int, int, dict | None]]
"""First line, last line, and the object, if it is one."""


def _line_objects(lines: list[str]) -> _Found:
    for number, line in enumerate(lines, 1):
        if line.strip():
            value = json_value(line)
            yield number, number, value if isinstance(value, dict) else None


def _list_objects(text: str) -> _Found:
    """The objects of a JSON list. After a damaged one, the next line that begins as it did."""
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = re.compile(r"[\s,]*").match(text, place).end()
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] in ("]", ""):
            return
        try:
            value, end = _JSON.raw_decode(text, place)
            last = line + text.count("\n", place, end)
            yield line, last, value if isinstance(value, dict) else None
        except (ValueError, RecursionError):
            yield line, line, None
            indent = text[text.rfind("\n", 0, place) + 1 : place]
            indent = indent if not indent.strip() else ""
            again = re.compile(r"\n" + re.escape(indent) + r"\{").search(text, place + 1)
            if again is None:
                return
            end = again.start()
        place = end


def _objects(lines: list[str], found: _Found, layout: str, encoding: str) -> Rows:
    columns: dict[str, None] = {}
    rows, problems = [], []
    for first, last, value in found:
        if fault := _fault_of(lines, first, last, encoding):
            problems.append(fault)
        elif (text := _as_json(value)) is None:
            what = "this is not a JSON object, or one that names a column twice: write it"
            problems.append(Fault(first, "form", f"{what} {_LIKE_THIS}"))
        elif not _whole(text):
            what = r"a text here has half a character (such as \ud83d): write it whole"
            problems.append(Fault(first, "encoding", what))
        else:
            columns |= dict.fromkeys(value)
            several = {
                name: [_as_text(one) for one in cell]
                for name, cell in value.items()
                if isinstance(cell, list) and all(isinstance(one, str) for one in cell)
            }
            texts = {name: _as_text(cell) for name, cell in value.items()}
            rows.append(Row(first, texts, several))
    rows = [row._replace(values=dict.fromkeys(columns, "") | row.values) for row in rows]
    return Rows(list(columns), rows, f"{layout}, {encoding}", problems)


def _as_json(value: dict | None) -> str | None:
    """An object as JSON; None for none, and for one that holds too much within one another."""
    try:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return None


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _whole(text: str) -> bool:
    """Whether a text has no half characters."""
    return not re.search("[\ud800-\udfff]", text)


def _fault_of(lines: list[str], first: int, last: int, encoding: str) -> Fault | None:
    """What is wrong with the letters of these lines, if anything is."""
    text = "".join(lines[first - 1 : last])
    if not _whole(text):
        name = encoding.split(" ")[0]
        what = f'this line is not {name} text: save the file as "UTF-8" in your editor'
        return Fault(first, "encoding", what)
    if "\0" in text:
        return Fault(
            first, "encoding", "this line has a zero byte in it, which no text has: write it anew"
        )
    return None


_Record = tuple[int, int, list[str] | None]
"""First line, last line, and the cells, if they are well."""


def _csv(path: Path, lines: list[str], encoding: str, columns: Sequence[str] | None) -> Rows:
    skipped = 0
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    chosen = None
    if found := re.fullmatch(r"sep=(.)\s*", lines[skipped], re.I):  # what Excel writes and reads
        chosen, skipped = found[1], skipped + 1
    delimiter, records = _best_layout(lines, skipped, chosen, columns)
    words = DELIMITERS.get(delimiter, f"{delimiter!r}")
    layout = f"CSV with {words}, {encoding}" if delimiter else f"one column of text, {encoding}"
    if columns is None:
        first, last, head = records.pop(0) if records else (skipped, skipped, None)
        if head is None or _fault_of(lines, first, last, encoding):
            start = shown(lines[skipped].strip()) if skipped < len(lines) else ""
            raise ValueError(
                f"{in_full(path)} should begin with a line that names its columns; it begins with "
                f'"{start}", which cannot be read: write such a line above the rows.'
            )
        columns = _names(head)
    rows, problems = [], []
    for first, last, cells in records:
        if fault := _fault_of(lines, first, last, encoding):
            problems.append(fault)
        elif cells is None:
            what = (
                'a quote " opens in this line, and nothing or the wrong thing follows: close it, '
                "or take it out"
            )
            problems.append(Fault(first, "form", what))
        elif any(cell.strip() for cell in cells[len(columns) :]):
            what = f'this line has too many {words}: put a text that has some in "quotes"'
            problems.append(Fault(first, "form", what))
        elif any(cell.strip() for cell in cells):
            cells = [*cells, *[""] * len(columns)]
            rows.append(Row(first, dict(zip(columns, cells, strict=False)), {}))
    return Rows(list(columns), rows, layout, problems)


def _names(head: list[str]) -> list[str]:
    """The names of columns: without spaces around them, each of its own."""
    while len(head) > 1 and not head[-1].strip():  # a spreadsheet's empty columns
        head = head[:-1]
    names: list[str] = []
    for number, cell in enumerate(head, 1):
        name = cell.replace("\ufeff", "").strip() or f"column {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names


_NOTHING = "\x1e"
"""The delimiter of a file with one column: a letter that no text has."""


def _best_layout(
    lines: list[str], skipped: int, chosen: str | None, columns: Sequence[str] | None
) -> tuple[str, list[_Record]]:
    """The delimiter that cuts the first line, and most of the others into as many cells."""
    best, delimiter, raw = 0.0, "", False
    for candidate in [chosen] if chosen else DELIMITERS:
        for unquoted in (False, True) if candidate in "\t|" else (False,):
            records = list(islice(_records(lines, skipped, candidate, unquoted), 200))
            wanted = len(columns or (records and records[0][2]) or ())
            if wanted < 2 and not chosen:
                continue
            fits = sum(
                cells is not None
                and len(cells) >= wanted
                and not any(map(str.strip, cells[wanted:]))
                for _, _, cells in records
            )
            if fits > best * len(records):
                best, delimiter, raw = fits / len(records), candidate, unquoted
    if delimiter and delimiter in "\t|" and not raw:  # a quote far below may still be a plain one
        records = list(_records(lines, skipped, delimiter, False))
        if any(cells is None for _, _, cells in records):
            raw = True
        else:
            return delimiter, records
    return delimiter, list(_records(lines, skipped, delimiter or _NOTHING, raw))


def _records(lines: list[str], skipped: int, delimiter: str, unquoted: bool) -> Iterator[_Record]:
    """The records of CSV; after a quote that is wrong it goes on in the next line. unquoted: a
    quote is a letter as any other, unless it stands around a whole cell."""
    tight = lines[skipped].count(delimiter) > lines[skipped].count(delimiter + " ")
    place = skipped
    while place < len(lines):
        if unquoted:
            cells = lines[place].rstrip("\r\n").split(delimiter)
            cells = cells if tight else [cells[0], *(cell.lstrip(" ") for cell in cells[1:])]
            if lines[place].strip():
                yield place + 1, place + 1, [_unquoted(cell) for cell in cells]
            place += 1
            continue
        rest = (lines[i] for i in range(place, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=not tight)
        start = place
        try:
            for cells in reader:
                if cells:
                    yield place + 1, start + reader.line_num, cells
                place = start + reader.line_num
        except csv.Error:
            yield place + 1, place + 1, None
            place += 1


def _unquoted(cell: str) -> str:
    """A cell without the quotes around it."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


# --- From names to files


def inside(folder: str | Path, name: str, what: str = "file") -> Path:
    """The file of this name in a folder, or in a folder of this folder.

    The name may have "/" or "\\", spaces around it, and letters with accents in another Unicode
    form than the disk's. what: a word for such a file. Nothing outside of the folder is found.

    Raises ValueError for a name that leads outside, by itself or by a link; FileNotFoundError, with
    what is alike, when there is no such file. Both are sentences without their full stop.
    """
    folder = Path(folder)
    if found := _file(folder, name):
        return _kept_inside(folder, found, shown(name))
    plain = name.strip().removeprefix("\ufeff")
    parts = [part for part in re.split(r"[/\\]", plain) if part not in ("", ".")]
    last = shown(parts[-1]) if parts and parts[-1] != ".." else ""
    only = f'write the name alone, "{last}"' if last else "write the name of a file"
    if re.match(r"[a-z][a-z+.-]+://", plain, re.I):
        raise ValueError(f"{shown(name)} is an address on the internet: fetch the file, and {only}")
    if re.match(r"[/\\~]|[a-z]:", plain, re.I):
        raise ValueError(f"{shown(name)} is a place on one computer, and is not read: {only}")
    if ".." in parts:
        raise ValueError(f"{shown(name)} leads out of {folder.name}, and is not read: {only}")
    if parts and (found := _file(folder, "/".join(parts)) or _same_letters(folder, parts)):
        return _kept_inside(folder, found, shown(name))
    raise FileNotFoundError(_missing(folder, shown(name), parts, what))


def shown(text: str, most: int = 60) -> str:
    """A name or a text as a message can show it: in one line, its first letters (`most`), with all
    that cannot be printed as codes."""
    return in_full(text[:most]) + ("…" if len(text) > most else "")


def in_full(text: str | Path) -> str:
    """As `shown`, but whole: for the places of files."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def _file(folder: Path, name: str) -> Path | None:
    """The file, if the name is that of one below the folder and holds no way out of it."""
    if not name or "\0" in name or os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
        return None
    try:
        path = os.path.join(folder, name)
        return folder / name if os.path.isfile(path) or os.path.islink(path) else None
    except (ValueError, UnicodeEncodeError):  # half a character
        return None


def _kept_inside(folder: Path, path: Path, name: str) -> Path:
    """The path, if it is a file that lies in the folder when all links are followed."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{name} is a link to a file that is not there: put the file there")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{name} is a link that leads out of {folder.name}, and is not read: put the file "
            "itself there"
        )
    if kind := kind_of(path):
        raise FileNotFoundError(_no_file(folder, name, kind))
    return path


def _no_file(folder: Path, name: str, kind: str) -> str:
    return f"{name} is {kind} in {folder.name}, and not a file: put a file there, or name another"


def _same_letters(folder: Path, parts: Sequence[str]) -> Path | None:
    """The file whose name has the same letters in another Unicode form (NFC, NFD)."""
    for part in parts:
        alike = _names_in(folder).whole.get(unicodedata.normalize("NFC", part))
        if alike is None:
            return None
        folder = folder / alike
    return folder if os.path.isfile(folder) or os.path.islink(folder) else None


class _Names(NamedTuple):
    """The names in a folder, each found by what is alike; of several, the first in the alphabet.

    whole: by the same letters, in Unicode's form NFC. alike: by what looks the same. stems: by
    what looks the same without its suffix.
    """

    whole: dict[str, str]
    alike: dict[str, str]
    stems: dict[str, str]


def _names_in(folder: Path) -> _Names:
    try:
        return _listed(folder, os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):
        return _Names({}, {}, {})


@lru_cache(maxsize=8)
def _listed(folder: Path, _changed: int) -> _Names:
    names = _Names({}, {}, {})
    for one in sorted(os.listdir(folder)):
        form = _look(one)
        names.whole.setdefault(unicodedata.normalize("NFC", one), one)
        names.alike.setdefault(form, one)
        names.stems.setdefault(os.path.splitext(form)[0], one)
    return names


def _look(name: str) -> str:
    """What a name looks like: in small letters of the usual width, without spaces and marks that
    one does not see, and with "%20" and its like as the letters that they stand for."""
    plain = unicodedata.normalize("NFKC", unquote(name))
    seen = (c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", "".join(seen)).casefold()


def _difference(asked: str, there: str) -> str:
    """In what two names differ that look alike, in words."""
    one, other = (unicodedata.normalize("NFC", name) for name in (asked, there))
    if one.casefold() == other.casefold():
        return "large and small letters differ"
    if "".join(one.split()).casefold() == "".join(other.split()).casefold():
        return "spaces differ"
    if unquote(one).casefold() == unquote(other).casefold():
        return "%-codes and letters differ"
    return "some letters only look the same"


def _missing(folder: Path, name: str, parts: Sequence[str], what: str) -> str:
    """Says that a file is not there, and which is alike."""
    if not parts:
        return f"no {what} is named: write its name"
    what = f"the {what} {name} is not in {folder.name}"
    if kind := kind_of(folder.joinpath(*parts)):
        return _no_file(folder, name, kind)
    asked = _look(parts[-1])
    names = _names_in(folder.joinpath(*parts[:-1]))
    if one := names.alike.get(asked):
        return f"{what} ({shown(one)} is: {_difference(parts[-1], one)}): write the same name"
    if one := names.stems.get(os.path.splitext(asked)[0]):
        return f"{what} ({shown(one)} is): write that name, or put the file there"
    return f"{what}: put it there, or write the name that it has"
