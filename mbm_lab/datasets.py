"""Loads the Postcards data set through `preprocessing` (every lesson), scikit-learn's digits
(lesson 02), and real data sets and folders of one's own (lesson 12).

All loaders give the same kinds of things: pictures (N, 3, 64, 64) in [0, 1], sounds as lists of
(T,) samples at 16,000 a second, texts as lists, numbers as tensors (N,).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import downloads, postcards, preprocessing

DATA = Path(__file__).resolve().parents[1] / "data"
POSTCARDS = DATA / "postcards"
CARD_PARTS = ("image", "message", "voice", "note", "clip")
SPLITS = tuple(postcards.SPLITS)  # "train", "val", "test"


@dataclass(frozen=True)
class Postcards:
    """N postcards, field by field.

    A modality that was not asked for, or that a card lacks, is None.
    """

    names: list[str]
    images: Tensor | None  # (N, 3, 64, 64) float32 in [0, 1]
    messages: list[str]
    captions: list[str]
    captions_zh: list[str]
    voices: list[Tensor | None] | None  # each (T,) samples: the message, read aloud
    notes: list[Tensor | None] | None  # each (T,) samples: the note, read aloud
    note_texts: list[str]
    clips: list[Tensor | None] | None  # each (frames, 3, 64, 64)
    summaries: list[str]
    mood: Tensor  # (N,) what the sender feels, -1 to 1
    expression: Tensor  # (N,) what the picture shows
    sentiment: Tensor  # (N,) what the message says
    tone: Tensor  # (N,) what the voice tells
    seen: Tensor  # (N,) bool: training shows this colour together with this object
    cards: list[postcards.Card]  # the factors behind each card: for analysis, never a model's input

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | Tensor) -> Postcards:
        """The cards at these indices, in this order."""
        indices = torch.as_tensor(indices)
        if indices.dtype == torch.bool:
            indices = indices.nonzero()[:, 0]

        def take(values: Tensor | list | None) -> Tensor | list | None:
            if isinstance(values, list):
                return [values[i] for i in indices.tolist()]
            return None if values is None else values[indices]

        return Postcards(**{field.name: take(getattr(self, field.name)) for field in fields(self)})

    def __getitem__(self, which: slice) -> Postcards:
        return self.subset(range(*which.indices(len(self))))


def _gather(
    cards: list[postcards.Card],
    images: Tensor | None,
    voices: list | None,
    notes: list | None,
    clips: list | None,
) -> Postcards:
    def ratings(name: str) -> Tensor:
        return torch.tensor([getattr(card, name) for card in cards], dtype=torch.float32)

    return Postcards(
        names=[card.name for card in cards],
        images=images,
        messages=[card.message for card in cards],
        captions=[card.caption for card in cards],
        captions_zh=[card.caption_zh for card in cards],
        voices=voices,
        notes=notes,
        note_texts=[postcards.note(card) for card in cards],
        clips=clips,
        summaries=[card.summary for card in cards],
        mood=ratings("mood"),
        expression=ratings("expression"),
        sentiment=ratings("sentiment"),
        tone=ratings("tone"),
        seen=torch.tensor([card.seen for card in cards]),
        cards=cards,
    )


def load_postcards(
    split: str = "train", parts: Sequence[str] = ("image", "message"), root: str | Path = POSTCARDS
) -> Postcards:
    """Loads the postcards of one split ("train", "val", "test") or of "all".

    parts: which files to read: "image", "message", "voice", "note", "clip". Cards without a voice,
    a note or a clip have None. No folder is looked into for a part that is not asked for.

    Raises ValueError for an unknown split or part, FileNotFoundError for a missing file, and what
    `postcards.read_cards` and `preprocessing` raise for a damaged one.
    """
    if split not in (*SPLITS, "all"):
        raise ValueError(f'Unknown split {split!r}: use "train", "val", "test" or "all".')
    parts = (parts,) if isinstance(parts, str) else parts
    for part in parts:
        if part not in CARD_PARTS:
            raise ValueError(f"Unknown part {part!r}: postcards have {', '.join(CARD_PARTS)}.")
    root = Path(root)
    cards = [card for card in postcards.read_cards(root) if split in (card.split, "all")]
    images = voices = notes = clips = None
    if "image" in parts:
        images = torch.empty(len(cards), 3, preprocessing.IMAGE_SIZE, preprocessing.IMAGE_SIZE)
        for row, card in zip(images, cards, strict=True):
            row.copy_(preprocessing.load_image(root / "images" / f"{card.name}.png"))
    if "voice" in parts:
        voices = [
            preprocessing.read_audio(root / "voices" / f"{card.name}.ogg") if card.voice else None
            for card in cards
        ]
    if "note" in parts:
        notes = [
            preprocessing.read_audio(root / "notes" / f"{card.name}.ogg")
            if postcards.has_note(card)
            else None
            for card in cards
        ]
    if "clip" in parts:
        clips = [
            preprocessing.read_clip(root / "clips" / f"{card.name}.webp") if card.change else None
            for card in cards
        ]
    return _gather(cards, images, voices, notes, clips)


def fingerprint(root: str | Path = POSTCARDS) -> str:
    """SHA-256 of all files of a data set, their names and what they hold: a stored model says from
    which data it was made."""
    sha = hashlib.sha256()
    for path in sorted(path for path in Path(root).rglob("*") if path.is_file()):
        content = path.read_bytes()
        sha.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode() + content)
    return sha.hexdigest()


def draw_postcards(n: int, seed: int, combinations: str = "all") -> Postcards:
    """Draws n fresh postcards (picture and message) that no file holds: a test set as large as you
    like.

    The pictures go through the same crop and resize as those read from files.
    """
    cards = postcards.draw(n, seed, combinations)
    return _gather(cards, paint(cards), None, None, None)


def paint(cards: Sequence[postcards.Card]) -> Tensor:
    """Paints cards, crops and resizes them as files are: (N, 3, 64, 64) float32 in [0, 1]."""
    images = torch.empty(len(cards), 3, preprocessing.IMAGE_SIZE, preprocessing.IMAGE_SIZE)
    for row, card in zip(images, cards, strict=True):
        pixels = torch.from_numpy(np.array(postcards.picture(card))).permute(2, 0, 1)
        small = preprocessing.resize(preprocessing.crop_square(pixels), preprocessing.IMAGE_SIZE)
        row.copy_(small.float() / 255)
    return images


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
    if reader.fieldnames is None or not {"image", "caption"} <= set(reader.fieldnames):
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
    present = {file.name for file in images.iterdir()}
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
    Lesson 12.
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
        places = torch.as_tensor(indices)
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
    """Loads a folder of pictures and captions: Flickr8k, or one's own. Lesson 12.

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


def load_flickr8k(most: int | None = None, root: str | Path | None = None) -> Album:
    """Flickr8k (Hodosh et al., 2013): photographs with five captions each, as an album. Lesson 12.

    most: only so many photographs, the first; all that are here can be a part of the 8,091. root:
    the folder of captions.txt; `downloads.path` finds it. Raises as `load_album`, and
    FileNotFoundError when the data set is not here.
    """
    return load_album(root or downloads.path("flickr8k"), most)


def count_photographs() -> str:
    """One sentence on how much of Flickr8k is here. Its authors publish no hash, so nothing but
    numbers can be checked. Raises FileNotFoundError as `load_flickr8k`. Lesson 12."""
    captions, images = _folder_files(downloads.path("flickr8k"))
    photographs = sum(1 for file in images.iterdir() if file.suffix.lower() == ".jpg")
    lines = captions.read_text(encoding="utf-8").count("\n") - 1
    whole = (photographs, lines) == (8_091, 40_455)
    return (
        f"{photographs:,} of 8,091 photographs and {lines:,} of 40,455 captions: "
        f"{'all of it' if whole else 'a part'}, going by the numbers; no hash of it is published."
    )


# --- Digits, seen and heard


def as_pictures(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) as the course's pictures: (N, 3, 64, 64)."""
    size = (preprocessing.IMAGE_SIZE, preprocessing.IMAGE_SIZE)
    return nn.functional.interpolate(images, size, mode="bilinear").expand(-1, 3, -1, -1)


def load_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's 1,797 handwritten digits (8 x 8 pixels, from UCI, 1998), resized to the
    course's size.

    Returns training images (1347, 3, 64, 64) float32 in [0, 1], their digits (1347,) int64, and the
    same for 450 test images. Lesson 02.
    """
    from sklearn.datasets import load_digits as bundled
    from sklearn.model_selection import train_test_split

    digits = bundled()
    images = as_pictures(torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16)
    train, test = train_test_split(
        np.arange(len(images)), test_size=450, random_state=0, stratify=digits.target
    )
    target = torch.tensor(digits.target)
    return images[train], target[train], images[test], target[test]


MNIST_FILES = {"train": "train", "test": "t10k"}


def load_mnist(split: str = "train", root: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """MNIST, handwritten digits (LeCun et al., 1998): 60,000 for "train", 10,000 for "test".

    root: the folder of the four files in IDX format; `downloads.path` finds it. Returns the images
    (N, 1, 28, 28) float32 in [0, 1], white on black, and their digits (N,) int64; `as_pictures`
    brings images to the course's size. Lesson 12.

    Raises FileNotFoundError when they are not here, ValueError for an unknown split and for a file
    that is damaged.
    """
    if split not in MNIST_FILES:
        raise ValueError(f'Unknown split {split!r}: MNIST has "train" and "test".')
    root = Path(root or downloads.path("mnist"))
    images = _read_idx(root / f"{MNIST_FILES[split]}-images-idx3-ubyte.gz")
    digits = _read_idx(root / f"{MNIST_FILES[split]}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or digits.ndim != 1 or len(images) != len(digits):
        raise ValueError(
            f"The images {tuple(images.shape)} and the digits {tuple(digits.shape)} in {root} do "
            "not belong together: remove the files and type `mbm-lab data get mnist`."
        )
    return images[:, None].float().div_(255), digits.long()


def _gunzip(path: Path) -> bytes:
    """What a gzip file holds. Raises FileNotFoundError without it, ValueError when it is none."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: fetch the data set again.")
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise ValueError(
            f"{path} is not a whole gzip file: remove it and fetch the data set again with "
            "`mbm-lab data get`."
        ) from None


def _read_idx(path: Path) -> Tensor:
    """Reads a gzipped IDX file of bytes: two zeros, the kind 8, the number of dimensions, each
    dimension in four bytes, and then the values. Returns uint8."""
    data = _gunzip(path)
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if data[:3] != b"\0\0\x08" or len(data) != start + math.prod(shape):
        raise ValueError(
            f"{path} is not a whole IDX file of bytes: remove it and fetch the data set again with "
            "`mbm-lab data get`."
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)


@dataclass(frozen=True)
class SpokenDigits:
    """N recordings of one spoken digit each."""

    names: list[str]
    sounds: list[Tensor]  # each (T,) float32 samples between -1 and 1, 16,000 a second
    digits: Tensor  # (N,) int64
    speakers: list[str]


FSDD_RATE = 8_000
FSDD_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
FSDD_TEST = range(5)
"""The official test split: the first five recordings of each digit by each speaker."""


def load_spoken_digits(split: str = "train", root: str | Path | None = None) -> SpokenDigits:
    """The Free Spoken Digit Dataset: 2,700 recordings for "train", 300 for "test", or "all".

    root: the folder that holds `recordings`; `downloads.path` finds it. The 8,000 samples a second
    are converted to the course's 16,000. Lesson 12.

    Raises FileNotFoundError when they are not here, ValueError for an unknown split, for a file
    whose name does not tell digit, speaker and number, and as `preprocessing.read_audio`.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f'Unknown split {split!r}: use "train", "test" or "all".')
    folder = Path(root or downloads.path("fsdd")) / "recordings"
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise FileNotFoundError(f"There are no recordings in {folder}: fetch the data set again.")
    names, sounds, digits, speakers = [], [], [], []
    for file in files:
        found = FSDD_NAME.fullmatch(file.name)
        if not found:
            raise ValueError(f"{file} should be named as 7_theo_12.wav is: digit, speaker, number.")
        if split != "all" and (int(found[3]) in FSDD_TEST) != (split == "test"):
            continue
        names.append(file.stem)
        sounds.append(preprocessing.read_audio(file, FSDD_RATE))
        digits.append(int(found[1]))
        speakers.append(found[2])
    return SpokenDigits(names, sounds, torch.tensor(digits), speakers)


# --- Sentences in two languages

MULTI30K_FILES = {"train": "train", "val": "val", "test": "test_2016_flickr"}


def load_multi30k(
    split: str = "train", root: str | Path | None = None
) -> tuple[list[str], list[str]]:
    """Multi30k, descriptions of photographs (Elliott et al., 2016): N English sentences, and the
    same N in German. 29,000 for "train", 1,014 for "val", 1,000 for "test" (flickr 2016).

    root: the folder of the gzipped files; `downloads.path` finds it. Lesson 12.

    Raises FileNotFoundError when they are not here, ValueError for an unknown split and for a file
    that is damaged.
    """
    if split not in MULTI30K_FILES:
        raise ValueError(f'Unknown split {split!r}: Multi30k has "train", "val" and "test".')
    root = Path(root or downloads.path("multi30k"))
    english, german = (_read_sentences(root / f"{MULTI30K_FILES[split]}.{language}.gz")
                       for language in ("en", "de"))  # fmt: skip
    if len(english) != len(german):
        raise ValueError(
            f"{root} has {len(english)} English and {len(german)} German sentences for {split!r}, "
            "which should be as many: fetch the data set again."
        )
    return english, german


def _read_sentences(path: Path) -> list[str]:
    try:
        return _gunzip(path).decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: fetch the data set again.") from None
