"""Writes the data set into a folder, and reads its tables back."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from tqdm.auto import tqdm

from mbm_lab import beside
from mbm_lab.postcards.cards import NOTED, SPLITS, Card, course_cards
from mbm_lab.postcards.painting import clip, picture
from mbm_lab.postcards.voices import SPEECH_RATE, spoken_note, synthesizer, voice

CARD_COLUMNS = [field.name for field in fields(Card) if field.name != "caption"]
"""The columns of cards.csv: all that is known of a card but its caption."""
CLIP_COLUMNS = {"clip_expression": float, "clip_x": float} | dict.fromkeys(
    ("clip_from", "clip_until", "clip_light"), int
)
"""The columns that are empty for a card without a clip, and what kind of number they hold."""
CAPTION_COLUMNS = ["image", "caption"]
"""The columns of captions.txt."""


def has_note(card: Card) -> bool:
    """Whether the data set holds a spoken note of this card."""
    _, _, index = card.name.partition("_")
    return int(index) < NOTED.get(card.split, 0)


def write_sound(
    samples: np.ndarray, path: Path, level: float, rate: int = SPEECH_RATE
) -> None:
    """Writes (T,) samples as Opus; a higher level, from 0 to 1, makes a smaller file.

    Raises OSError when it cannot be written. (It is made in memory, since the library that makes it
    does not see that a disk is full.)
    """
    made = io.BytesIO()
    soundfile.write(made, samples, rate, format="OGG", subtype="OPUS", compression_level=level)
    Path(path).write_bytes(made.getvalue())


def write_picture(picture: Image.Image, path: Path, **options: object) -> None:
    """Writes a picture, or film, of the kind that the file's name says; options: Pillow's.

    Raises OSError when it cannot be written. (It is made in memory, since Pillow does not see that
    the last piece of a file had no room.)
    """
    made = io.BytesIO()
    picture.save(made, path.suffix.removeprefix("."), **options)
    path.write_bytes(made.getvalue())


def write_cards(cards: list[Card], path: Path) -> None:
    """Writes all that is known of every card but its caption: one line of a CSV file each."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CARD_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(card) for card in cards)


def write_captions(cards: list[Card], path: Path) -> None:
    """Writes `image,caption` lines: the layout of the widely used Flickr8k download."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CAPTION_COLUMNS)
        writer.writerows([f"{card.name}.png", card.caption] for card in cards)


def build(out: str | Path, cards: list[Card] | None = None) -> None:
    """Writes the whole data set (or the given cards) into the folder `out`, which must not exist
    yet.

    Writes images/*.png, voices/*.ogg and notes/*.ogg (Opus), clips/*.webp (lossless), captions.txt
    and cards.csv. They are made in a folder beside, which then takes its place: whole or not at
    all. Without espeak-ng it stops before it writes anything.

    Raises FileExistsError when `out` exists and is not empty, FileNotFoundError without espeak-ng,
    OSError when the folder cannot be written.
    """
    out = Path(os.path.expanduser(out)).absolute()
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} already exists and is not empty: name a new folder.")
    cards = course_cards() if cards is None else cards
    if any(card.voice for card in cards) and synthesizer() is None:
        raise FileNotFoundError(
            "Writing the voices needs the program espeak-ng: install it (for example "
            "`sudo apt install espeak-ng`), then try again."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with beside.folder(out) as made:
            whole = made / out.name
            _write_all(whole, cards)
            if out.is_dir():
                out.rmdir()  # it is empty
            whole.rename(out)
    except OSError as error:
        raise OSError(
            f"The postcards could not be written into {out} ({error.strerror or error}), and "
            "nothing is left of them: make room, or name another folder."
        ) from error


def _write_all(out: Path, cards: list[Card]) -> None:
    """Writes all files of these cards into a new folder."""
    for folder in ("images", "voices", "notes", "clips"):
        (out / folder).mkdir(parents=True)
    for card in tqdm(cards, desc="postcards", unit="card"):
        write_picture(picture(card), out / "images" / f"{card.name}.png", optimize=True)
        if card.voice:
            write_sound(voice(card), out / "voices" / f"{card.name}.ogg", level=0.95)
        if has_note(card):
            write_sound(spoken_note(card), out / "notes" / f"{card.name}.ogg", level=1.0)
        if card.change:
            first, *rest = clip(card)
            write_picture(
                first,
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


def read_cards(folder: str | Path) -> list[Card]:
    """Reads the cards of a folder: cards.csv, and each card's caption from captions.txt, as it
    stands there now. No other file is looked for.

    Raises FileNotFoundError when one of the two is missing, ValueError when one cannot be read or
    has other columns, and when a card has no caption.
    """
    folder = Path(folder)
    rows = _read_table(folder / "cards.csv", CARD_COLUMNS)
    lines = _read_table(folder / "captions.txt", CAPTION_COLUMNS)
    captions = {line["image"]: line["caption"] for line in lines}
    for path, names in (
        (folder / "cards.csv", [row["name"] for row in rows]),
        (folder / "captions.txt", [line["image"] for line in lines]),
    ):
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"{path} names {twice} twice: remove one of its lines.")
    cards = []
    for number, row in enumerate(rows, 2):
        caption = captions.get(f"{row['name']}.png", "")
        if not caption.strip():
            raise ValueError(
                f"{folder / 'captions.txt'} has no caption for {row['name']}.png, which cards.csv "
                "lists: repair the file, or draw the data anew with `mbm-lab postcards --out DIR`."
            )
        factors = {}
        for column in CARD_COLUMNS:
            try:
                factors[column] = _cast(column, row[column])
            except ValueError:
                raise ValueError(
                    f"{folder / 'cards.csv'}, row {number} ({row['name']}), cannot have "
                    f"{row[column][:40]!r} as {column}: repair the file, or draw the data anew "
                    "with `mbm-lab postcards --out DIR`."
                ) from None
        cards.append(Card(**factors, caption=caption))
    return cards


CASTS = {"width": int, "height": int} | dict.fromkeys(
    ("mood", "expression", "sentiment", "tone", "face_x", "face_y", "face_radius"), float
)


def _cast(column: str, text: str) -> object:
    """What stands in a cell of cards.csv. Raises ValueError for what cannot stand there."""
    if column == "seen":
        return ("False", "True").index(text) == 1
    if column == "split" and text not in (*SPLITS, "fresh"):
        raise ValueError
    if column in CLIP_COLUMNS:  # empty when there is no clip
        return CLIP_COLUMNS[column](text) if text else None
    value = CASTS.get(column, str)(text)
    if isinstance(value, float) and not abs(value) <= (1 if column in RATINGS else 10_000):
        raise ValueError
    return value


RATINGS = ("mood", "expression", "sentiment", "tone")
"""The columns with numbers between -1 and 1."""


def _read_table(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns. Raises as `read_cards`."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: it belongs to the postcards. Restore it, or draw the data anew "
            "with `mbm-lab postcards --out DIR`."
        )
    rows = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # Windows marks UTF-8 so
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != columns:
                raise ValueError(
                    f"{path} does not have the columns of the postcards: {', '.join(columns)}. "
                    "Repair it."
                )
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{path}, line {reader.line_num}, should have {len(columns)} cells: put a "
                        'text that has a comma in "quotes".'
                    )
                rows.append(row)
    except UnicodeDecodeError:
        raise ValueError(f'{path} is not UTF-8 text: save it as "UTF-8".') from None
    except csv.Error as error:
        raise ValueError(f'{path} has a quote " in the wrong place: {error}. Repair it.') from None
    return rows
