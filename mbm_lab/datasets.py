"""Loads the Postcards data set through `preprocessing` (every lesson), scikit-learn's digits
(lesson 02), and published digits, recordings and sentences (lesson 12), of which a small sample of
digits comes with the course.

All loaders give the same kinds of things: pictures (N, 3, 64, 64) in [0, 1], sounds as lists of
(T,) samples at 16,000 a second, texts as lists, numbers as tensors (N,).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor, nn

from mbm_lab import downloads, postcards, preprocessing
from mbm_lab.tables import load_table as load_table  # datasets.load_table: a table of one's own

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
        indices = torch.as_tensor(indices, dtype=None if len(indices) else torch.long)
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

    The pictures go through the same crop and resize as those read from files. Raises ValueError as
    `postcards.draw` does.
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


# --- A sample of both that comes with the course

SAMPLE = DATA / "digits"
SAMPLE_RECORDINGS = {"train": range(5, 11), "val": range(11, 13), "test": range(3)}
"""The numbers of the sample's recordings, of each digit by each speaker: FSDD's own split."""
SAMPLE_PICTURES = {"train": 72, "val": 12, "test": 36}
"""So many pictures of each digit; those of "test" are from MNIST's test files, in its order."""
SAMPLE_GAP = 160
"""Samples of silence behind each recording, so that none leaks into the next."""


def load_digit_sample(
    split: str = "train", root: str | Path = SAMPLE
) -> tuple[Tensor, Tensor, SpokenDigits]:
    """The course's sample of written and spoken digits: images (N, 1, 28, 28) float32 in [0, 1],
    their digits (N,), and the recordings, which are of no picture in particular.

    split: "train" (720 pictures, 360 recordings), "val" (120, 120) or "test" (360, 180).
    data/README.md says what it holds, and `write_digit_sample` how it was made. Lesson 12.

    Raises FileNotFoundError when a file is missing, ValueError for an unknown split, when the files
    do not belong together, and as `preprocessing.read_image` and `preprocessing.read_audio`.
    """
    if split not in SAMPLE_PICTURES:
        raise ValueError(f'Unknown split {split!r}: the sample has "train", "val" and "test".')
    root = Path(root)
    sheet = preprocessing.read_image(root / "written.webp")[0].float() / 255  # a row for each digit
    with open(root / "spoken.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lengths = [int(row["samples"]) + SAMPLE_GAP for row in rows]  # 8,000 a second
    sound = preprocessing.read_audio(root / "spoken.ogg", FSDD_RATE)
    times = preprocessing.SAMPLE_RATE // FSDD_RATE
    wide = sum(SAMPLE_PICTURES.values())
    if sheet.shape != (10 * 28, wide * 28) or len(sound) != times * sum(lengths):
        raise ValueError(f"The files in {root} do not belong together: get the course anew.")
    tiles = sheet.view(10, 28, wide, 28).permute(0, 2, 1, 3)  # (10, wide, 28, 28)
    before = list(SAMPLE_PICTURES).index(split)
    first = sum(list(SAMPLE_PICTURES.values())[:before])
    images = tiles[:, first : first + SAMPLE_PICTURES[split]]
    chosen = [
        (row["name"], part[: -times * SAMPLE_GAP])
        for row, part in zip(rows, sound.split([times * n for n in lengths]), strict=True)
        if int(FSDD_NAME.fullmatch(f"{row['name']}.wav")[3]) in SAMPLE_RECORDINGS[split]
    ]
    parts = [name.split("_") for name, _ in chosen]  # digit, speaker, number
    spoken = SpokenDigits(
        [name for name, _ in chosen],
        [part for _, part in chosen],
        torch.tensor([int(digit) for digit, _, _ in parts]),
        [speaker for _, speaker, _ in parts],
    )
    digits = torch.arange(10).repeat_interleave(images.shape[1])
    return images.reshape(-1, 1, 28, 28), digits, spoken


def write_digit_sample(
    folder: str | Path, mnist: str | Path | None = None, fsdd: str | Path | None = None
) -> None:
    """Writes the sample anew from the whole MNIST and FSDD: `mbm-lab data sample FOLDER`.

    Pictures: one sheet, a row for each digit, with 16 levels of grey instead of 256 (webp without
    loss). Recordings: the first second of each, one behind the other (Opus, 8,000 a second).
    Everything else is as published. Existing files of these names are replaced. Raises as
    `load_mnist` and `load_spoken_digits`, OSError when the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    strips = []
    for split, count in SAMPLE_PICTURES.items():
        images, digits = load_mnist("test" if split == "test" else "train", mnist)
        skipped = SAMPLE_PICTURES["train"] if split == "val" else 0
        rows = [images[digits == d][skipped : skipped + count, 0] for d in range(10)]
        strips.append(torch.stack(rows).permute(0, 2, 1, 3).reshape(10 * 28, count * 28))
    grey = (torch.cat(strips, 1) * 15).round().byte() * 17
    sheet = Image.fromarray(grey.numpy())
    sheet.save(folder / "written.webp", lossless=True, quality=100, method=6)
    spoken = load_spoken_digits("all", fsdd)
    numbers = {number for chosen in SAMPLE_RECORDINGS.values() for number in chosen}
    lines, sounds, gap = ["name,samples"], [], np.zeros(SAMPLE_GAP, np.float32)
    times = preprocessing.SAMPLE_RATE // FSDD_RATE
    for name, sound in zip(spoken.names, spoken.sounds, strict=True):
        if int(name.rpartition("_")[2]) in numbers:
            samples = sound[::times][:FSDD_RATE].numpy()
            lines.append(f"{name},{len(samples)}")
            sounds += [samples, gap]
    (folder / "spoken.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    soundfile.write(
        folder / "spoken.ogg", np.concatenate(sounds), FSDD_RATE,
        format="OGG", subtype="OPUS", compression_level=0.99,
    )  # fmt: skip


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
