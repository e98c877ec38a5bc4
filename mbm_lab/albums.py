"""Albums: pictures with captions, in a folder of one's own or of a published data set (lesson 12).

The first part reads a folder and finds what is wrong in it; the second loads it; the third is
Flickr8k.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mbm_lab import datasets, downloads, preprocessing

# --- A folder of pictures and captions


class Problem(NamedTuple):
    """What is wrong in a learner's folder, and where: a file, and a line of it (or None).

    kind: "missing", "unreadable" (a picture), "empty", "duplicate", "encoding", "form" (of a line)
    or "too few".
    """

    file: str
    line: int | None
    kind: str
    what: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.what}."


class Pair(NamedTuple):
    """The line of a file of captions, and the picture's file name and the caption that it holds."""

    line: int
    image: str
    caption: str


CAPTION_FILES = ("captions.txt", "captions.csv", "captions.jsonl")
"""CSV with the columns image and caption, or JSON Lines; the first that is there is read."""

FEWEST_PAIRS = 10
"""With fewer pairs of pictures and captions there is nothing to learn from."""


def _folder_files(folder: Path) -> tuple[Path, Path]:
    """The file of captions and the folder of pictures. Raises FileNotFoundError without them."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    captions = next((folder / n for n in CAPTION_FILES if (folder / n).is_file()), None)
    if captions is None:
        raise FileNotFoundError(
            f"There is no captions.txt in {folder}: it should hold one line for each caption, "
            'and begin with the line "image,caption".'
        )
    images = next((folder / n for n in ("images", "Images") if (folder / n).is_dir()), None)
    if images is None:
        raise FileNotFoundError(f"{folder} needs a folder `images` beside {captions.name}.")
    return captions, images


def _rows(path: Path) -> Iterator[Pair | Problem]:
    """Each row of a file of captions, or what is wrong with its line.

    Raises ValueError when the file as a whole cannot be read.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the mark of UTF-8 that Windows writes
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f'{path} is not UTF-8 text (it is UTF-16): save it as "UTF-8".')
    if not data.strip():
        raise ValueError(f"{path} is empty: it should hold captions.")
    lines = [line.decode(errors="surrogateescape") for line in data.splitlines(keepends=True)]
    last = 0
    for row in _json_rows(path, lines) if path.suffix == ".jsonl" else _csv_rows(path, lines):
        text = "".join(lines[last : row.line])
        last = row.line
        if any("\udc80" <= letter <= "\udcff" for letter in text):  # a byte that is no UTF-8
            what = 'this line is not UTF-8 text: save the file as "UTF-8" in your editor'
            yield Problem(path.name, row.line, "encoding", what)
        else:
            yield row


def _csv_rows(path: Path, lines: list[str]) -> Iterator[Pair | Problem]:
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = reader.fieldnames or []
    except csv.Error:  # the first line opens a quote, and nothing or the wrong thing follows
        columns = []
    if not {"image", "caption"} <= set(columns):
        raise ValueError(
            f'{path} must begin with the line "image,caption"; it begins with "{lines[0].strip()}".'
        )
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            what = 'a quote " opens in this line, and nothing or the wrong thing follows'
            yield Problem(path.name, first, "form", what)
            continue
        if None in row:
            what = 'this line has too many commas: put the caption in "quotes"'
            yield Problem(path.name, reader.line_num, "form", what)
        else:
            yield Pair(reader.line_num, row["image"] or "", row["caption"] or "")


def _json_rows(path: Path, lines: list[str]) -> Iterator[Pair | Problem]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = Pair(number, row["image"], row["caption"])
        except (json.JSONDecodeError, KeyError, TypeError):
            pair = None
        if pair and isinstance(pair.image, str) and isinstance(pair.caption, str):
            yield pair
        else:
            what = 'this line is not like {"image": "a.png", "caption": "a red card"}'
            yield Problem(path.name, number, "form", what)


def _scan(folder: Path) -> tuple[list[Pair], list[Problem]]:
    """The pairs of a folder that are well, and what is wrong with the other lines. A pair that is
    there twice is in both lists: it does no harm."""
    path, images = _folder_files(folder)
    present = {file.name for file in images.iterdir() if file.is_file()}
    pairs, problems, first_line = [], [], {}
    for row in _rows(path):
        if isinstance(row, Problem):
            problems.append(row)
            continue
        line, image, caption = row
        said = (image, caption.strip())
        if not image:
            problems.append(Problem(path.name, line, "form", "this line names no image"))
        elif image not in present:
            what = f"the image {image} is not in {images.name}"
            if alike := [name for name in present if name.lower() == image.lower()]:
                what += f" ({alike[0]} is: large and small letters differ)"
            problems.append(Problem(path.name, line, "missing", what))
        elif not said[1]:
            problems.append(Problem(path.name, line, "empty", f"the caption of {image} is empty"))
        else:
            if said in first_line:
                what = f"{image} has the same caption as in line {first_line[said]}"
                problems.append(Problem(path.name, line, "duplicate", what))
            first_line.setdefault(said, line)
            pairs.append(row)
    return pairs, problems


def read_captions(folder: str | Path) -> list[tuple[str, str]]:
    """Reads a folder in the layout of the widely used Flickr8k download: a folder `images` (or
    `Images`), and beside it `captions.txt` or `captions.csv`, CSV with the columns image and
    caption, or `captions.jsonl`, one {"image": …, "caption": …} a line.

    Returns (file name, caption) pairs in the file's order; an image may have several captions.

    Raises FileNotFoundError when the file of captions, the folder or an image is missing;
    ValueError when the file is not UTF-8, has not the two columns, or holds an empty caption. Only
    the first problem is told; `check_folder` tells all of them.
    """
    pairs, problems = _scan(Path(folder))
    for problem in problems:
        if problem.kind != "duplicate":
            error = FileNotFoundError if problem.kind == "missing" else ValueError
            raise error(f"In {folder}, {problem}")
    return [(pair.image, pair.caption) for pair in pairs]


def check_folder(folder: str | Path) -> list[Problem]:
    """Everything that is wrong in a folder of pictures and captions; empty when all is well.

    Every line of the captions is looked at, and every picture that they name is opened. Raises
    FileNotFoundError and ValueError when the file of captions as a whole is missing or unreadable.
    """
    folder = Path(folder)
    pairs, problems = _scan(folder)
    path, images = _folder_files(folder)
    unreadable = set()
    for pair in {pair.image: pair for pair in reversed(pairs)}.values():  # each picture once
        try:
            preprocessing.read_image(images / pair.image)
        except ValueError:
            unreadable.add(pair.image)
            what = f"the picture {pair.image} cannot be read (empty, cut off, or no picture)"
            problems.append(Problem(path.name, pair.line, "unreadable", what))
    count = len({(p.image, p.caption.strip()) for p in pairs if p.image not in unreadable})
    problems.sort(key=lambda problem: problem.line)
    if count < FEWEST_PAIRS:
        what = f"only {count} pairs are well, and a model needs at least {FEWEST_PAIRS}"
        problems.append(Problem(path.name, None, "too few", what))
    return problems


# --- An album


@dataclass(frozen=True)
class Album:
    """N pictures, each with one or more captions."""

    names: list[str]  # the files' names
    images: Tensor  # (N, 3, 64, 64) float32 in [0, 1]
    captions: list[list[str]]  # those of each picture

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | Tensor) -> Album:
        """The pictures at these indices, in this order."""
        places = torch.as_tensor(indices, dtype=None if len(indices) else torch.long)
        return Album(
            [self.names[i] for i in places.tolist()],
            self.images[places],
            [self.captions[i] for i in places.tolist()],
        )

    def __getitem__(self, which: slice) -> Album:
        return self.subset(range(*which.indices(len(self))))


def load_album(
    folder: str | Path, most: int | None = None, size: int = preprocessing.IMAGE_SIZE
) -> Album:
    """Loads a folder of pictures and captions: Flickr8k, or one's own.

    most: only so many pictures, the first. Raises as `read_captions`, and ValueError for a picture
    that cannot be read.
    """
    captions: dict[str, list[str]] = {}
    for name, caption in read_captions(folder):
        captions.setdefault(name, []).append(caption)
    names = list(captions)[:most]
    _, folder_of_images = _folder_files(Path(folder))
    images = torch.empty(len(names), 3, size, size)
    for row, name in zip(images, names, strict=True):
        row.copy_(preprocessing.load_image(folder_of_images / name, size))
    return Album(names, images, [captions[name] for name in names])


def example_album(count: int = 20, seed: int = 0) -> Path:
    """Writes `count` postcards and their captions into a new folder, as one of your own could be:
    pictures in `images`, beside it captions.txt."""
    folder = Path(tempfile.mkdtemp(prefix="mbm-album-"))
    cards = datasets.load_postcards("test", parts=()).cards
    chosen = random.Random(seed).sample(cards, count)
    (folder / "images").mkdir()
    lines = ["image,caption"]
    for card in chosen:
        shutil.copy(datasets.POSTCARDS / "images" / f"{card.name}.png", folder / "images")
        lines.append(f'{card.name}.png,"{card.caption}"')
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# --- Flickr8k


def load_flickr8k(
    most: int | None = None,
    root: str | Path | None = None,
    size: int = preprocessing.IMAGE_SIZE,
) -> Album:
    """Flickr8k (Hodosh et al., 2013): photographs with five captions each, as an album.

    most: only so many photographs, the first; all that are here can be a part of the 8,091. root:
    the folder of captions.txt; `downloads.path` finds it. size: of the pictures, in
    pixels. Raises as `load_album`, and FileNotFoundError when the data set is not here.
    """
    return load_album(root or downloads.path("flickr8k"), most, size)


def count_photographs() -> str:
    """One sentence on how much of Flickr8k is here. Its authors publish no hash, so nothing but
    numbers can be checked. Raises FileNotFoundError as `load_flickr8k`."""
    captions, images = _folder_files(downloads.path("flickr8k"))
    photographs = sum(1 for file in images.iterdir() if file.suffix.lower() == ".jpg")
    lines = captions.read_text(encoding="utf-8").count("\n") - 1
    whole = (photographs, lines) == (8_091, 40_455)
    return (
        f"{photographs:,} of 8,091 photographs and {lines:,} of 40,455 captions: "
        f"{'all of it' if whole else 'a part'}, going by the numbers; no hash of it is published."
    )
