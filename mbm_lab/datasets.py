"""Loads the Postcards data set through `preprocessing` (every lesson), scikit-learn's digits
(lesson 02), and published digits, recordings and sentences (lesson 12), of which a small sample of
digits comes with the course.

All loaders give the same kinds of things: pictures (N, 3, 64, 64) in [0, 1], sounds as lists of
(T,) samples at 16,000 a second, texts as lists, numbers as tensors (N,).
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mbm_lab import beside, downloads, place, postcards, preprocessing
from mbm_lab.tables import load_table as load_table  # one's own table, lesson 12
from mbm_lab.tables import places

DATA = place.COURSE / "data"
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
        """The cards at these indices (or where a (N,) bool tensor is true), in this order. Raises
        TypeError or ValueError when these are no whole numbers, or no such cards are here."""
        chosen = places(indices, len(self), "cards")

        def take(values: Tensor | list | None) -> Tensor | list | None:
            if isinstance(values, list):
                return [values[i] for i in chosen.tolist()]
            return None if values is None else values[chosen]

        return Postcards(**{field.name: take(getattr(self, field.name)) for field in fields(self)})

    def __getitem__(self, which: slice) -> Postcards:
        if not isinstance(which, slice):
            raise TypeError(f"Several cards are taken at once: write cards[3:4] or "
                            f"cards.subset([3]), not cards[{which!r}].")  # fmt: skip
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


def of_cards(cards: Sequence[postcards.Card]) -> Postcards:
    """Cards as a data set without pictures, voices, notes and films: what was drawn, as tensors and
    lists. Lesson 13."""
    return _gather(list(cards), None, None, None, None)


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
            raise ValueError(f"Unknown part {part!r}: choose from {', '.join(CARD_PARTS)}.")
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
    """Grey images (N, 1, H, W), fractions, as the course's pictures: (N, 3, 64, 64).

    Raises ValueError for another shape or whole numbers.
    """
    if images.ndim != 4 or images.shape[1] != 1 or 0 in images.shape:
        raise ValueError(f"as_pictures needs grey images (N, 1, H, W), and got "
                         f"{tuple(images.shape)}: add the missing dimension with images[:, None], "
                         "or take the mean of the colours.")  # fmt: skip
    preprocessing.check_pixels(images, "as_pictures")
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

    Raises FileNotFoundError when they are not here, ValueError for an unknown split, for a file
    that is damaged, and for images or digits that are not MNIST's.
    """
    if split not in MNIST_FILES:
        raise ValueError(f'Unknown split {split!r}: use "train" or "test".')
    root = Path(root or downloads.path("mnist"))
    kinds = ("images-idx3", "labels-idx1")
    files = [root / f"{MNIST_FILES[split]}-{kind}-ubyte.gz" for kind in kinds]
    images, digits = (_read_idx(file, dims) for file, dims in zip(files, (3, 1), strict=True))
    again = "remove the files and type `mbm-lab data get mnist`"
    if len(images) != len(digits):
        raise ValueError(
            f"The images {tuple(images.shape)} and the digits {tuple(digits.shape)} in {root} do "
            f"not belong together: {again}."
        )
    if images.shape[1:] != (28, 28):
        raise ValueError(
            f"{files[0]} holds images of {images.shape[1]} × {images.shape[2]} pixels, and those "
            f"of MNIST have 28 × 28: {again}."
        )
    if (highest := int(digits.max())) > 9:
        raise ValueError(
            f"{files[1]} says that image {int(digits.argmax())} shows a {highest}, and digits go "
            f"from 0 to 9: {again}."
        )
    return images[:, None].float().div_(255), digits.long()


MOST_UNPACKED = 200_000_000
"""Bytes that a file of these data sets may have when it is unpacked; the largest has 47 million."""


def _gunzip(path: Path) -> bytes:
    """What a gzip file holds.

    Raises FileNotFoundError without it, ValueError when it is none, is cut off, is damaged (the
    checksum within tells), or holds far too much.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: fetch the data set again.")
    packed, parts, room = path.read_bytes(), [], MOST_UNPACKED
    again = "remove it and fetch the data set again with `mbm-lab data get`"
    while packed:
        member = zlib.decompressobj(wbits=31)  # a gzip file may have several, one behind the other
        try:
            parts.append(member.decompress(packed, room + 1))
        except zlib.error:
            parts, member = [], None
        room -= len(parts[-1]) if parts else 0
        if room < 0:
            raise ValueError(f"{path} holds more than {MOST_UNPACKED // 10**6} MB: {again}.")
        if member is None or not member.eof:
            raise ValueError(f"{path} is not a whole gzip file: {again}.")
        packed = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _read_idx(path: Path, dimensions: int) -> Tensor:
    """Reads a gzipped IDX file of bytes: two zeros, the kind 8, the number of dimensions, each
    dimension in four bytes, and then the values. Returns uint8."""
    data = _gunzip(path)
    again = "remove it and fetch the data set again with `mbm-lab data get`"
    own = data[3] if len(data) > 3 else 0
    start = 4 + 4 * own
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if data[:3] != b"\0\0\x08" or len(data) != start + math.prod(shape):
        raise ValueError(f"{path} is not a whole IDX file of bytes: {again}.")
    if len(data) == start:
        raise ValueError(f"{path} holds no values: {again}.")
    if own != dimensions:
        raise ValueError(f"{path} has {own} dimensions and should have {dimensions}, as if images "
                         f"and digits were swapped: {again}.")  # fmt: skip
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
    files = sorted(file for file in folder.glob("*.wav") if not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"There are no recordings in {folder}: fetch the data set again.")
    names, sounds, digits, speakers = [], [], [], []
    for file in files:
        found = FSDD_NAME.fullmatch(file.name)
        if not found:
            raise ValueError(f"{file} should be named as 7_theo_12.wav is: digit, speaker, number. "
                             "Rename it, or move it away.")  # fmt: skip
        if split != "all" and (int(found[3]) in FSDD_TEST) != (split == "test"):
            continue
        names.append(file.stem)
        sounds.append(preprocessing.read_audio(file, FSDD_RATE))
        digits.append(int(found[1]))
        speakers.append(found[2])
    if not names:
        which = "the first five" if split == "test" else "all but the first five"
        raise FileNotFoundError(f"There are no recordings for {split!r} in {folder} ({which} of "
                                "each digit and speaker): fetch the data set again.")  # fmt: skip
    return SpokenDigits(names, sounds, torch.tensor(digits), speakers)


# --- A sample of both that comes with the course

SAMPLE = DATA / "digits"
SAMPLE_RECORDINGS = {"train": range(5, 11), "val": range(11, 13), "test": range(3)}
"""The numbers of the sample's recordings, of each digit by each speaker: FSDD's own split."""
SAMPLE_PICTURES = {"train": 72, "val": 12, "test": 36}
"""So many pictures of each digit; those of "test" are from MNIST's test files, in its order."""
SAMPLE_HASH = "f7354daf87d5248d41d4431043bb20b5d91de04b5c8fd3a74b591f982204044c"
"""`_sample_hash` of the sample."""
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
        raise ValueError(f'Unknown split {split!r}: use "train", "val" or "test".')
    root = Path(root)
    anew = "download the course again"
    pixels = preprocessing.read_image(root / "written.webp")[0]  # a row for each digit
    text = preprocessing.read_text(root / "spoken.csv")
    rows = [row for row in csv.DictReader(text.splitlines()) if None not in row.values()]
    known = [row for row in rows if _is_sample_row(row)]
    lengths = [int(row["samples"]) + SAMPLE_GAP for row in known]  # 8,000 a second
    sound = preprocessing.read_audio(root / "spoken.ogg", FSDD_RATE)
    times = preprocessing.SAMPLE_RATE // FSDD_RATE
    wide = sum(SAMPLE_PICTURES.values())
    right = pixels.shape == (10 * 28, wide * 28) and len(lengths) == len(rows)
    if not right or len(sound) != times * sum(lengths):
        raise ValueError(f"The files in {root} do not belong together: {anew}.")
    if _sample_hash(pixels, rows) != SAMPLE_HASH:
        raise ValueError(f"The files in {root} are not those of the course, something in "
                         f"written.webp or spoken.csv is another: {anew}.")  # fmt: skip
    sheet = pixels.float() / 255
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


def _is_sample_row(row: dict[str, str]) -> bool:
    """Whether a line of spoken.csv tells digit, speaker, number, and how many samples there are."""
    name, samples = row.get("name") or "", row.get("samples") or ""
    return bool(FSDD_NAME.fullmatch(f"{name}.wav") and re.fullmatch(r"[0-9]{1,9}", samples))


def _sample_hash(pixels: Tensor, rows: list[dict[str, str]]) -> str:
    """SHA-256 of the written digits' pixels and of which recordings there are: files of pictures
    and tables have no checksum of their own. (A page of an Ogg file has.)"""
    sha = hashlib.sha256(pixels.numpy().tobytes())
    sha.update("".join(f"{row['name']},{row['samples']}\n" for row in rows).encode())
    return sha.hexdigest()


def write_digit_sample(
    folder: str | Path, mnist: str | Path | None = None, fsdd: str | Path | None = None
) -> None:
    """Writes the sample anew from the whole MNIST and FSDD: `mbm-lab data sample FOLDER`.

    Pictures: one sheet, a row for each digit, with 16 levels of grey instead of 256 (webp without
    loss). Recordings: the first second of each, one behind the other (Opus, 8,000 a second).
    Everything else is as published. Existing files of these names are replaced. Raises as
    `load_mnist` and `load_spoken_digits`, OSError when the folder cannot be written.
    """
    folder = Path(os.path.expanduser(folder)).absolute()
    names = ("written.webp", "spoken.csv", "spoken.ogg")
    for there in (folder, *(folder / name for name in names)):
        if os.path.lexists(there) and there.is_dir() != (there == folder):
            what = "no folder" if there == folder else "a folder"
            raise FileExistsError(f"{there} is {what}: name another folder, or move it away.")
    strips = []
    for split, count in SAMPLE_PICTURES.items():
        images, digits = load_mnist("test" if split == "test" else "train", mnist)
        skipped = SAMPLE_PICTURES["train"] if split == "val" else 0
        rows = [images[digits == d][skipped : skipped + count, 0] for d in range(10)]
        strips.append(torch.stack(rows).permute(0, 2, 1, 3).reshape(10 * 28, count * 28))
    grey = (torch.cat(strips, 1) * 15).round().byte() * 17
    sheet = Image.fromarray(grey.numpy())
    spoken = load_spoken_digits("all", fsdd)
    numbers = {number for chosen in SAMPLE_RECORDINGS.values() for number in chosen}
    lines, sounds, gap = ["name,samples"], [], np.zeros(SAMPLE_GAP, np.float32)
    times = preprocessing.SAMPLE_RATE // FSDD_RATE
    for name, sound in zip(spoken.names, spoken.sounds, strict=True):
        if int(name.rpartition("_")[2]) in numbers:
            samples = sound[::times][:FSDD_RATE].numpy()
            lines.append(f"{name},{len(samples)}")
            sounds += [samples, gap]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside.folder(folder / "sample") as made:
            postcards.write_picture(
                sheet, made / "written.webp", lossless=True, quality=100, method=6
            )
            (made / "spoken.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            postcards.write_sound(np.concatenate(sounds), made / "spoken.ogg", 0.99, FSDD_RATE)
            for name in names:
                os.replace(made / name, folder / name)
    except OSError as error:
        raise OSError(f"The sample could not be written into {folder} ({error.strerror or error}): "
                      "make room, or name another folder.") from None  # fmt: skip


# --- Sentences in two languages

MULTI30K_FILES = {"train": "train", "val": "val", "test": "test_2016_flickr"}


def load_multi30k(
    split: str = "train", root: str | Path | None = None
) -> tuple[list[str], list[str]]:
    """Multi30k, descriptions of photographs (Elliott et al., 2016): N English sentences, and the
    same N in German. 29,000 for "train", 1,014 for "val", 1,000 for "test" (flickr 2016).

    root: the folder of the gzipped files; `downloads.path` finds it. Lesson 12.

    Raises FileNotFoundError when they are not here, ValueError for an unknown split, for a file
    that is damaged, and for an empty line.
    """
    if split not in MULTI30K_FILES:
        raise ValueError(f'Unknown split {split!r}: use "train", "val" or "test".')
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
    """The lines of a gzipped text, cut at line feeds and nowhere else: a line may hold other signs
    that end lines elsewhere, and the other language's line does not."""
    try:
        text = _gunzip(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start:,} is wrong): fetch the data set again."
        ) from None
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(
                f"Line {number:,} of {path} is empty, where a sentence should be: fetch the data "
                "set again, or take this line out in both languages."
            )
    return lines
