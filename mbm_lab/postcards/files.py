"""Writes the data set into a folder, and reads its tables back."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import soundfile
from tqdm.auto import tqdm

from mbm_lab.postcards.cards import NOTED, Card, course_cards
from mbm_lab.postcards.painting import clip, picture
from mbm_lab.postcards.voices import SPEECH_RATE, spoken_note, synthesizer, voice


def has_note(card: Card) -> bool:
    """Whether the data set holds a spoken note of this card."""
    _, _, index = card.name.partition("_")
    return bool(card.voice) and int(index) < NOTED.get(card.split, 0)


def write_sound(samples: np.ndarray, path: Path, level: float) -> None:
    """Writes (T,) samples as Opus; a higher level, from 0 to 1, makes a smaller file."""
    soundfile.write(
        path, samples, SPEECH_RATE, format="OGG", subtype="OPUS", compression_level=level
    )


def write_cards(cards: list[Card], path: Path) -> None:
    """Writes every factor of every card as one line of a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Card)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(card) for card in cards)


def write_captions(cards: list[Card], path: Path) -> None:
    """Writes `image,caption` lines: the layout of the widely used Flickr8k download."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "caption"])
        writer.writerows([f"{card.name}.png", card.caption] for card in cards)


def build(out: str | Path, cards: list[Card] | None = None) -> None:
    """Writes the whole data set (or the given cards) into the folder `out`, which must not exist
    yet.

    Writes images/*.png, voices/*.ogg (Opus), clips/*.webp (lossless), captions.txt and cards.csv.
    Without espeak-ng it stops before it writes anything.

    Raises FileExistsError when `out` exists and is not empty, FileNotFoundError without espeak-ng.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} already exists and is not empty: name a new folder.")
    cards = course_cards() if cards is None else cards
    if any(card.voice for card in cards) and synthesizer() is None:
        raise FileNotFoundError(
            "Writing the voices needs the program espeak-ng: install it (for "
            "example "
            "`sudo apt install espeak-ng`), then try again."
        )
    for folder in ("images", "voices", "notes", "clips"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for card in tqdm(cards, desc="postcards", unit="card"):
        picture(card).save(out / "images" / f"{card.name}.png", optimize=True)
        if card.voice:
            write_sound(voice(card), out / "voices" / f"{card.name}.ogg", level=0.95)
        if has_note(card):
            write_sound(spoken_note(card), out / "notes" / f"{card.name}.ogg", level=1.0)
        if card.change:
            first, *rest = clip(card)
            first.save(
                out / "clips" / f"{card.name}.webp",
                save_all=True,
                append_images=rest,
                duration=150,
                loop=0,
                lossless=True,
                exact=True,
                method=6,
            )
    write_cards(cards, out / "cards.csv")
    write_captions(cards, out / "captions.txt")


def read_cards(path: str | Path) -> list[Card]:
    """Reads the cards that `write_cards` wrote.

    Raises FileNotFoundError without the file, ValueError when its columns are not those of a card.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: it is the list of postcards. Restore it, or rebuild "
            "the "
            "data with `mbm-lab postcards --out DIR`."
        )
    casts = {"seen": lambda text: text == "True", "width": int, "height": int}
    casts |= dict.fromkeys(
        ("mood", "expression", "sentiment", "tone", "face_x", "face_y", "face_radius"), float
    )
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = [field.name for field in fields(Card)]
        if reader.fieldnames != names:
            raise ValueError(
                f"{path} does not have the columns of a list of postcards: {', '.join(names)}."
            )
        return [Card(**{name: casts.get(name, str)(row[name]) for name in names}) for row in reader]
