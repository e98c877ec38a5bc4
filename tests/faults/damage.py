"""Damaged files, drawn at random: a bit that flips, an end that is cut, bytes that come twice.

A format with a checksum of its own (`sealed`) must be refused, or read as before. Another may hold
something else afterwards, such as a text with another letter: then what is read must be of the
right kind. Each file is also tried empty, as noise, as text of another kind, and deeply nested.
"""

import functools
import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import nbformat
import numpy as np
import soundfile
import torch
from PIL import Image
from torch import nn

from mbm_lab import albums, datasets, fusion, lessons, postcards, preprocessing, rows, stored
from mbm_lab.exercises import progress
from mbm_lab.postcards import files
from mbm_lab.preprocessing import SPECIAL_WORDS, Vocabulary
from tests.faults import Fault, command, flipped


class Kind(NamedTuple):
    """A kind of file.

    make: writes a whole one of this name into a folder, and what belongs to it. read: what the
    course reads there. right: whether this is something that such a file can hold. sealed: whether
    the format has a checksum.
    """

    row: str
    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    right: Callable[[object], bool]
    sealed: bool = False


def _picture(folder: Path, name: str, **options: object) -> None:
    draw = np.random.default_rng(0)
    first, *others = (
        Image.fromarray(draw.integers(0, 255, (12, 16, 3), np.uint8))
        for _ in range(3 if options else 1)
    )
    first.save(folder / name, append_images=others, **options)


def _is_picture(pixels: torch.Tensor) -> bool:
    return pixels.dtype == torch.uint8 and pixels.ndim == 3 and pixels.shape[0] == 3


def _is_film(frames: torch.Tensor) -> bool:
    return frames.shape[1:] == (3, 64, 64) and 0 <= frames.min() and frames.max() <= 1


def _sound(folder: Path, name: str) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 1600).astype(np.float32)
    soundfile.write(folder / name, sound, 16_000)


def _read_sound(name: str, folder: Path) -> torch.Tensor:
    return preprocessing.read_audio(folder / name, say=lambda said: None)


def _is_sound(sound: torch.Tensor) -> bool:
    return sound.ndim == 1 and len(sound) > 0 and bool(sound.isfinite().all())


TABLE = "photo,review,stars\n" + "".join(
    f'{number}.png,"The sea, it was lovely {number}.",{number % 5}.5\n' for number in range(12)
)


def _is_rows(found: rows.Rows) -> bool:
    return len(found.columns) > 0


def _album(folder: Path) -> None:
    (folder / "images").mkdir()
    for number in range(3):
        _picture(folder / "images", f"{number}.png")
    lines = [f"{number}.png,A face by the sea {number}." for number in range(3)]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *lines]) + "\n")


def _are_captions(pairs: list[tuple[str, str]]) -> bool:
    return all((Path("images") / name).is_file() and caption.strip() for name, caption in pairs)


def _read_weights(folder: Path) -> bytes:
    model = stored.load_weights(nn.Linear(3, 2), folder / "weights.safetensors")
    return torch.cat([one.flatten() for one in model.state_dict().values()]).numpy().tobytes()


def _save_weights(folder: Path) -> None:
    torch.default_generator.manual_seed(0)
    stored.save_weights(nn.Linear(3, 2), folder / "weights.safetensors")


def _store(folder: Path) -> None:
    torch.default_generator.manual_seed(0)
    model = stored.Model("tiny", fusion.Concat([2, 2], 3), {"dims": [2, 2], "out": 3}, ["sea"])
    with mock.patch.object(datasets, "fingerprint", return_value="of the cards"):
        stored.save(model, 0, "mbm-lab weights 04", folder)


def _load_stored(folder: Path) -> object:
    model, words = stored.load("tiny", 0, folder)
    return [one.tolist() for one in model.state_dict().values()], words


def _notebook(folder: Path) -> None:
    cells = [nbformat.v4.new_markdown_cell("# 04 · Fusion"), nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "04_fusion.ipynb")


def _progress(folder: Path) -> None:
    states = {"04.weighted_sum": {"tries": 2, "solved": True, "solved_on": "2030-01-31"}}
    (folder / "progress.json").write_text(json.dumps(states, indent=1))


def _with_progress(folder: Path, act: Callable[[], object]) -> object:
    with mock.patch.dict(os.environ, MBM_PROGRESS=str(folder / "progress.json")):
        return act()


def _is_progress(states: dict) -> bool:
    return all(isinstance(state, dict) for state in states.values())


def _cards(folder: Path) -> None:
    cards = postcards.draw(3, 0)
    files.write_cards(cards, folder / "cards.csv")
    files.write_captions(cards, folder / "captions.txt")


def _are_cards(cards: list[postcards.Card]) -> bool:
    return all(-1 <= card.mood <= 1 and card.caption.strip() for card in cards)


def _mnist(folder: Path) -> None:
    def idx(values: np.ndarray) -> bytes:
        head = b"\0\0\x08" + bytes([values.ndim])
        return head + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()

    draw = np.random.default_rng(0)
    digits = draw.integers(0, 10, 5, np.uint8)
    for what, values in (
        ("images-idx3", draw.integers(0, 255, (5, 28, 28), np.uint8)), ("labels-idx1", digits)
    ):  # fmt: skip
        packed = gzip.compress(idx(values), mtime=0)
        (folder / f"t10k-{what}-ubyte.gz").write_bytes(packed)


def _read_mnist(folder: Path) -> tuple[bytes, list[int]]:
    images, digits = datasets.load_mnist("test", folder)
    return images.numpy().tobytes(), digits.tolist()


KINDS = [
    Kind("pictures", "a.png", lambda f: _picture(f, "a.png"),
         lambda f: preprocessing.read_image(f / "a.png"), _is_picture, sealed=True),
    Kind("pictures", "a.jpg", lambda f: _picture(f, "a.jpg"),
         lambda f: preprocessing.read_image(f / "a.jpg"), _is_picture),
    Kind("pictures", "a.webp", lambda f: _picture(f, "a.webp", save_all=True),
         lambda f: preprocessing.read_clip(f / "a.webp"), _is_film),
    Kind("pictures", "a.gif", lambda f: _picture(f, "a.gif", save_all=True),
         lambda f: preprocessing.read_clip(f / "a.gif"), _is_film),
    *(Kind("sounds", name, functools.partial(_sound, name=name),
           functools.partial(_read_sound, name), _is_sound)
      for name in ("a.wav", "a.ogg", "a.flac")),
    Kind("tables", "shop.csv", lambda f: (f / "shop.csv").write_text(TABLE),
         lambda f: rows.read(f / "shop.csv"), _is_rows),
    Kind("tables", "shop.jsonl",
         lambda f: (f / "shop.jsonl").write_text('{"photo": "1.png", "stars": 3}\n' * 9),
         lambda f: rows.read(f / "shop.jsonl"), _is_rows),
    Kind("albums", "captions.txt", _album, albums.read_captions, _are_captions),
    Kind("texts", "a.txt", lambda f: (f / "a.txt").write_text("the sea 海\n" * 3, "utf-8"),
         lambda f: preprocessing.read_text(f / "a.txt"), lambda text: isinstance(text, str)),
    Kind("vocabularies", "words.json",
         lambda f: Vocabulary([*SPECIAL_WORDS, "sea", "海"]).save(f / "words.json"),
         lambda f: Vocabulary.load(f / "words.json"),
         lambda words: words.words[:4] == list(SPECIAL_WORDS) and len(words.index) == len(words)),
    Kind("weights", "weights.safetensors", _save_weights, _read_weights, bool, sealed=True),
    Kind("weights", "tiny_0.safetensors", _store, _load_stored, bool, sealed=True),
    Kind("notebooks", "04_fusion.ipynb", _notebook,
         lambda f: lessons.read_notebook(f / "04_fusion.ipynb"),
         lambda notebook: all(isinstance(cell.source, str) for cell in notebook.cells)),
    Kind("progress", "progress.json", _progress,
         lambda f: _with_progress(f, progress.load), _is_progress),
    Kind("progress", "progress.json", _progress,
         lambda f: _with_progress(f, lambda: command("exercises")), lambda said: "04" in said),
    Kind("data sets", "cards.csv", _cards, postcards.read_cards, _are_cards),
    Kind("data sets", "t10k-labels-idx1-ubyte.gz", _mnist, _read_mnist, bool, sealed=True),
    Kind("data sets", "t10k-images-idx3-ubyte.gz", _mnist, _read_mnist, bool, sealed=True),
]  # fmt: skip
"""What the course reads."""


# --- Damage


def flip(data: bytes, draw: random.Random) -> bytes:
    return flipped(data, draw.random())


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(1, len(data))]


def insert(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.randint(1, 9)) + data[at:]


def remove(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.randint(1, 20) :]


def zero(data: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(data)), draw.randint(1, 40)
    return data[:at] + b"\0" * len(data[at : at + length]) + data[at + length :]


def twice(data: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(data)), draw.randint(1, 40)
    return data[: at + length] + data[at:]


def noise(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(len(data))


def add(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randint(1, 40))


def empty(data: bytes, draw: random.Random) -> bytes:
    return b""


def nested(data: bytes, draw: random.Random) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


def page(data: bytes, draw: random.Random) -> bytes:
    return b"<!DOCTYPE html><html><body>Please sign in.</body></html>\n"


def other_text(data: bytes, draw: random.Random) -> bytes:
    return "Grüße vom Meer\n".encode("utf-16")


DRAWN = (flip, cut, insert, remove, zero, twice)
"""Damage that differs from draw to draw."""

ONCE = (noise, add, empty, nested, page, other_text)


def faults(seed: int, draws: int = 1) -> Iterator[Fault]:
    for place, kind in enumerate(KINDS):
        for damage in DRAWN:
            for number in range(draws):
                yield damaged(kind, damage, f"{seed} {place} {damage.__name__} {number}")
        for damage in ONCE:
            yield damaged(kind, damage, f"{place} {damage.__name__}")


def damaged(kind: Kind, damage: Callable[[bytes, random.Random], bytes], drawn: str) -> Fault:
    """The fault that a file of this kind is read after this damage. drawn: the seed of the draw."""

    def plant(folder: Path) -> None:
        kind.make(folder)
        file = folder / kind.name
        file.write_bytes(damage(file.read_bytes(), random.Random(drawn)))

    def right(result: tuple[object, Path]) -> bool:
        found, folder = result
        (folder / "again").mkdir()
        kind.make(folder / "again")
        whole = (folder / "again" / kind.name).read_bytes()
        sealed = kind.sealed or damage is cut and kind.row in ("pictures", "sounds")
        if sealed and (folder / kind.name).read_bytes() != whole:
            return _equal(found, kind.read(folder / "again"))
        return kind.right(found)

    what = f"{kind.name} of {kind.row}: {damage.__name__.replace('_', ' ')}, {drawn}"
    return Fault("damaged files", what, lambda folder: (kind.read(folder), folder),
                 (Path(kind.name).stem,), plant, right)  # fmt: skip


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other
