"""Loads the Postcards data set through `preprocessing` (every lesson), and scikit-learn's digits
(lesson 02).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mbm_lab import postcards, preprocessing

DATA = Path(__file__).resolve().parents[1] / "data"
POSTCARDS = DATA / "postcards"
PARTS = ("image", "message", "voice", "note", "clip")
SPLITS = ("train", "val", "test")


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
    a note or a clip have None.

    Raises ValueError for an unknown split or part, FileNotFoundError for a missing file, and what
    `preprocessing` raises for a damaged one.
    """
    if split not in (*SPLITS, "all"):
        raise ValueError(f'Unknown split {split!r}: use "train", "val", "test" or "all".')
    parts = (parts,) if isinstance(parts, str) else parts
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"Unknown part {part!r}: postcards have {', '.join(PARTS)}.")
    root = Path(root)
    cards = [
        card for card in postcards.read_cards(root / "cards.csv") if split in (card.split, "all")
    ]
    captions = dict(read_captions(root))
    for card in cards:
        if f"{card.name}.png" not in captions:
            raise ValueError(
                f"{root / 'captions.txt'} has no caption for {card.name}.png, which cards.csv "
                "lists: restore the file, or rebuild the data with `mbm-lab postcards --out DIR`."
            )
    cards = [replace(card, caption=captions[f"{card.name}.png"]) for card in cards]
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


def read_captions(folder: str | Path) -> list[tuple[str, str]]:
    """Reads `captions.txt` (CSV with the columns image and caption) beside a folder `images` or
    `Images`.

    Returns (file name, caption) pairs in the file's order; an image may have several captions.

    Raises FileNotFoundError when the file or an image that it names is missing; ValueError when the
    file is not UTF-8, has not the two columns, or holds an empty caption.
    """
    folder = Path(folder)
    path = folder / "captions.txt"
    text = preprocessing.read_text(path)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if reader.fieldnames is None or not {"image", "caption"} <= set(reader.fieldnames):
        raise ValueError(
            f'{path} must begin with the line "image,caption"; '
            f'it begins with "{text.splitlines()[0]}".'
        )
    images = next(
        (folder / name for name in ("images", "Images") if (folder / name).is_dir()), None
    )
    if images is None:
        raise FileNotFoundError(f"{folder} needs a folder `images` beside captions.txt.")
    present = {file.name for file in images.iterdir()}
    pairs = []
    for row in reader:
        name, caption = row["image"], row["caption"]
        if name not in present:
            raise FileNotFoundError(
                f"{path}, line {reader.line_num}: the image {name} is not in {images}."
            )
        if not caption or not caption.strip():
            raise ValueError(f"{path}, line {reader.line_num}: the caption of {name} is empty.")
        pairs.append((name, caption))
    return pairs


def load_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's 1,797 handwritten digits (8 x 8 pixels, from UCI, 1998), resized to the
    course's size.

    Returns training images (1347, 3, 64, 64) float32 in [0, 1], their digits (1347,) int64, and the
    same for 450 test images. Lesson 02.
    """
    from sklearn.datasets import load_digits as bundled
    from sklearn.model_selection import train_test_split

    digits = bundled()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    size = preprocessing.IMAGE_SIZE
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear").expand(
        -1, 3, -1, -1
    )
    train, test = train_test_split(
        np.arange(len(images)), test_size=450, random_state=0, stratify=digits.target
    )
    target = torch.tensor(digits.target)
    return images[train], target[train], images[test], target[test]
