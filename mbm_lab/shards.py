"""More cards than fit into memory (lesson 11): any number of postcards in tar files, called shards,
written and read with never more than one shard in memory.

The form is WebDataset's (Aizman, Maltby and Breuel, 2019): whatever in a tar file has the same name
before its first dot belongs to one example. A card is three files, `00000017.ppm` (the picture, as
the models read it), `00000017.txt` (the message) and `00000017.json` (mood, captions and factors).
Beside the shards lies `shards.json`: how they were drawn, and a checksum of each.

Pictures are PPM files, which are not compressed: in one second a processor core reads 7,000 cards
so (as PNG: 3,500), or 4,900 that it hands to another process, and lesson 05's model learns 1,400.
100,000 cards take 1.5 GB (as PNG: 0.65 GB).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm.auto import tqdm

from mbm_lab import arguments, atomic, datasets, postcards, rows
from mbm_lab.preprocessing import IMAGE_SIZE, Vocabulary, pad, tokenize
from mbm_lab.training import batch_sizes

CARDS_A_SHARD = 1000
RECIPE = "shards.json"
"""The file beside the shards that says how they were drawn, with a checksum of each."""
AHEAD = 4
"""Batches that a worker keeps ready: as many as are learned while it opens its next shard."""
MADE_BY = "mbm-lab postcards --shards"
PPM = f"P6\n{IMAGE_SIZE} {IMAGE_SIZE}\n255\n".encode()
"""What a picture's file begins with; red, green and blue of each pixel follow."""

Example = tuple[dict[str, Tensor], Tensor]
"""Inputs by modality, and the mood, of one card; or of a batch."""


class ShardError(ValueError):
    """A shard cannot be read: which, and what to do.

    A DataLoader raises an error of one of its workers anew, with the worker's whole traceback as
    its text. The sentence stands at the end of it, and only that is kept.
    """

    def __init__(self, said: str):
        super().__init__(said.rpartition("ShardError: ")[2].strip())


class Card(NamedTuple):
    """What a model reads of a card, as it lies in a shard."""

    picture: bytes
    message: str
    mood: float


# --- Writing


def write(
    folder: str | Path,
    cards: int,
    *,
    seed: int = 0,
    cards_per_shard: int = CARDS_A_SHARD,
    progress: bool = True,
) -> list[Path]:
    """Draws so many cards and writes them into a folder as shards, cards-000000.tar and so on;
    returns their paths. `mbm-lab postcards --shards DIR --cards N` does this. Lesson 11.

    Card i of a seed is the same however many are drawn, and is none of the course's own cards nor
    of `postcards.draw`; its colour and object are a pair that training may see. A run that was
    stopped goes on when it is called again, and ends with the same bytes. Each shard is made in
    memory (16 MB for 1,000 cards) and written whole or not at all.

    Raises ValueError for a number that cannot be right, FileExistsError when the folder holds
    something else or shards of another recipe (nothing is overwritten), ShardError when a shard of
    a stopped run is damaged, OSError when something cannot be written.
    """
    arguments.check_count("cards", cards, 1, 100_000, most=10**8)
    arguments.check_count("cards_per_shard", cards_per_shard, 1, CARDS_A_SHARD, most=10_000)
    arguments.check_seed(seed)
    arguments.check_switch("progress", progress)
    folder = _folder(folder).absolute()
    recipe = {"made by": MADE_BY, "seed": int(seed), "cards": int(cards),
              "cards a shard": int(cards_per_shard), "shards": {}}  # fmt: skip
    recipe["shards"] = _begun(folder, recipe)
    with tqdm(total=cards, desc="cards", unit="card", disable=not progress) as bar:
        for path, numbers in _plan(folder, recipe):
            if atomic.is_there(path):
                _checked(path, recipe["shards"].get(path.name))
                bar.update(len(numbers))
                continue
            packed = _packed(recipe["seed"], numbers, bar)
            recipe["shards"][path.name] = zlib.crc32(packed)
            _write_recipe(folder, recipe)
            atomic.write_whole(path, lambda part, packed=packed: part.write_bytes(packed))
    return find(folder)


def _folder(name: str | Path) -> Path:
    return Path(os.path.expanduser(rows.named(name, "folder")))


def _plan(folder: Path, recipe: dict) -> list[tuple[Path, range]]:
    """Each shard's path, and the numbers of the cards in it."""
    cards, size = recipe["cards"], recipe["cards a shard"]
    return [
        (folder / f"cards-{number:06}.tar", range(start, min(start + size, cards)))
        for number, start in enumerate(range(0, cards, size))
    ]


def _packed(seed: int, numbers: range, bar: tqdm) -> memoryview:
    """A tar file of the cards with these numbers. (Without times and owners: the same bytes.)"""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            card = postcards.sample_card(seed, number, "shards", "seen")
            for kind, content in _files(card).items():
                about = tarfile.TarInfo(f"{number:08}.{kind}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
            bar.update()
    return made.getbuffer()


def _files(card: postcards.Card) -> dict[str, bytes]:
    """A card's three files, by the endings of their names."""
    pixels = (255 * datasets.paint([card])[0]).round().byte().permute(1, 2, 0)
    factors = {name: value for name, value in asdict(card).items() if value not in ("", None)}
    message = factors.pop("message")
    return {
        "ppm": PPM + pixels.contiguous().numpy().tobytes(),
        "txt": message.encode(),
        "json": json.dumps(factors, ensure_ascii=False).encode(),
    }


def _begun(folder: Path, recipe: dict) -> dict[str, int]:
    """The checksums of a run that was stopped in this folder; none when it is new or empty."""
    if atomic.is_there(folder) and not folder.is_dir():
        raise FileExistsError(f"{folder} is no folder, which shards need: name another place.")
    atomic.make_folder(folder)
    _remove_remains(folder, recipe)
    if not atomic.is_there(folder / RECIPE):
        if there := _names(folder):
            raise FileExistsError(
                f"{folder} holds {min(there)}, and no {RECIPE} of a run that could go on: name a "
                "new or empty folder."
            )
        return {}
    was = _read_recipe(folder)
    for name in ("seed", "cards", "cards a shard"):
        if was[name] != recipe[name]:
            raise FileExistsError(
                f"{folder} holds shards of another recipe ({name}: {was[name]:,}, not "
                f"{recipe[name]:,}): name another folder, or go on with what it was begun with."
            )
    return was["shards"]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be read ({error.strerror}): allow yourself to, or name another."
        ) from error


def _remove_remains(folder: Path, recipe: dict) -> None:
    """Removes what a run that was killed had not finished."""
    own = {RECIPE, *(path.name for path, _ in _plan(folder, recipe))}
    for name in _names(folder):
        whole = re.sub(r"\.\d+\.part$", "", name)
        if whole != name and whole in own and (folder / name).is_file():
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def _write_recipe(folder: Path, recipe: dict) -> None:
    text = json.dumps(recipe | {"checksum": _sum_of(recipe)}, indent=1)
    atomic.write_whole(folder / RECIPE, lambda part: part.write_text(text, encoding="utf-8"))


def _sum_of(recipe: dict) -> int:
    return zlib.crc32(json.dumps(recipe).encode())


# --- Reading


def find(folder: str | Path) -> list[Path]:
    """The shards of a folder, in order. Lesson 11.

    Raises FileNotFoundError when there are none, or one is missing, and ValueError when
    `shards.json` is damaged. Whether a shard itself is whole is seen when it is read.
    """
    folder = _folder(folder)
    recipe = _read_recipe(folder)
    paths = [path for path, _ in _plan(folder, recipe)]
    for path in paths:
        if path.name not in recipe["shards"] or not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {_again(folder, recipe)}.")
    return paths


def _again(folder: Path, recipe: dict) -> str:
    """How to write what is missing in a folder of shards."""
    if recipe["cards a shard"] != CARDS_A_SHARD:
        return "call shards.write as before, which writes it"
    seed = f" --seed {recipe['seed']}" if recipe["seed"] else ""
    words = f"{MADE_BY} {shlex.quote(str(folder))} --cards {recipe['cards']}{seed}"
    return f"write it with `{words}`"


def _read_recipe(folder: Path) -> dict:
    """What shards.json says. Raises as `find`."""
    path = folder / RECIPE
    if not path.is_file():
        what = "There is no folder" if not folder.is_dir() else "There are no shards in"
        raise FileNotFoundError(
            f"{what} {folder}: check the name, or write some with `{MADE_BY} DIR --cards N`."
        )
    try:
        recipe = json.loads(path.read_bytes())
        whole = recipe.pop("checksum") == _sum_of(recipe) and recipe["made by"] == MADE_BY
    except OSError as error:
        raise OSError(
            f"{path} cannot be read ({error.strerror}): allow yourself to read it."
        ) from error
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged, or not of the course: put a whole copy in its place, "
                         "or write the shards anew into another folder.")  # fmt: skip
    return recipe


def _checked(path: Path, checksum: int | None) -> bytes:
    """The bytes of a shard. Raises ShardError unless they are those that were written."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}): put it back, or allow "
                         "yourself to read it.") from None  # fmt: skip
    if zlib.crc32(packed) != checksum:
        raise ShardError(f"{path} is damaged, or another file than was written: move it away, and "
                         f"call `{MADE_BY}` (or shards.write) as before, which writes it again."
                         )  # fmt: skip
    return packed


def _read(path: Path, checksum: int) -> list[Card]:
    """The cards of a shard. Raises as `_checked`."""
    with tarfile.open(fileobj=io.BytesIO(_checked(path, checksum))) as tar:
        files = [tar.extractfile(member).read() for member in tar]
    return [
        Card(picture, text.decode(), json.loads(factors)["mood"])
        for picture, text, factors in zip(files[0::3], files[1::3], files[2::3], strict=True)
    ]


class Shards(IterableDataset):
    """The cards of a folder of shards, one after the other, as a model reads them. Lesson 11.

    Gives examples: ({"image": (3, 64, 64) float32 in [0, 1], "message": (T,) int64}, mood ()); with
    a batch_size, batches as `collate` makes them. A batch has cards of one shard, so that each
    shard ends with a smaller one (see `training.batch_sizes`), and `len` counts exactly.

    Every worker of a DataLoader reads shards of its own, every k-th of k workers. shuffle: each
    time the shards come in another order, and the cards of each shard, too. The order is drawn from
    `generator`, or from PyTorch's own random numbers. With other numbers of workers the batches
    come in another order.

    Raises as `find`; while it is read, ShardError for a shard that is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        vocabulary: Vocabulary,
        *,
        batch_size: int | None = None,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
    ):
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError(
                f"vocabulary is {arguments.kind(vocabulary)}: pass a preprocessing.Vocabulary, the "
                "one that the model was made with."
            )
        if batch_size is not None:
            arguments.check_count("batch_size", batch_size, 1, 64)
        arguments.check_switch("shuffle", shuffle)
        if not isinstance(generator, torch.Generator | None):
            raise ValueError(
                f"generator is {arguments.kind(generator)}: pass a torch.Generator, or leave it "
                "out."
            )
        self.paths = find(folder)
        recipe = _read_recipe(self.paths[0].parent)
        self.checksums = [recipe["shards"][path.name] for path in self.paths]
        self.sizes = [len(numbers) for _, numbers in _plan(Path(), recipe)]
        self.vocabulary, self.batch_size = vocabulary, batch_size
        self.shuffle, self.generator = shuffle, generator

    def __len__(self) -> int:
        if self.batch_size is None:
            return sum(self.sizes)
        return sum(len(batch_sizes(size, self.batch_size)) for size in self.sizes)

    def __iter__(self) -> Iterator[Example]:
        worker = get_worker_info()  # None where there are no workers
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        draws = torch.Generator().manual_seed(self._seed())
        for shard in self._order(len(self.paths), draws)[first::step]:
            cards = _read(self.paths[shard], self.checksums[shard])
            examples = (self._example(cards[i]) for i in self._order(len(cards), draws))
            yield from examples if self.batch_size is None else self._batches(examples, len(cards))

    def _batches(self, examples: Iterator[Example], count: int) -> Iterator[Example]:
        for size in batch_sizes(count, self.batch_size):
            yield collate(list(itertools.islice(examples, size)))

    def __getstate__(self) -> dict[str, object]:
        """What is sent to a worker: all but the generator, which stays with the DataLoader."""
        return vars(self) | {"generator": None}

    def _seed(self) -> int:
        """The same for all workers: their DataLoader has drawn it, and gives each its number more.
        Without workers it is drawn here."""
        worker = get_worker_info()
        if worker is not None:
            return worker.seed - worker.id
        return int(torch.randint(2**62, (), generator=self.generator)) if self.shuffle else 0

    def _order(self, count: int, draws: torch.Generator) -> Tensor:
        return torch.randperm(count, generator=draws) if self.shuffle else torch.arange(count)

    def _example(self, card: Card) -> Example:
        pixels = np.frombuffer(card.picture, np.uint8, offset=len(PPM))
        pixels = pixels.reshape(IMAGE_SIZE, IMAGE_SIZE, 3).transpose(2, 0, 1)
        image = torch.from_numpy(np.ascontiguousarray(pixels)) / 255
        message = torch.tensor(self.vocabulary.encode(tokenize(card.message)))
        return {"image": image, "message": message}, torch.tensor(card.mood)

    def in_words(self) -> str:
        """What decides the examples and their order, in words: see `identity`."""
        cards, words = zlib.crc32(repr(self.checksums).encode()), self.vocabulary.words
        return (
            f"Shards of {sum(self.sizes)} cards (checksum {cards:08x}), words "
            f"{zlib.crc32(repr(words).encode()):08x}, batch size {self.batch_size}"
            f"{', shuffled' * self.shuffle}"
        )


def collate(examples: Sequence[Example]) -> Example:
    """Makes a batch of examples: ({"image": (B, 3, 64, 64), "message": (B, T)}, moods (B,)).

    Messages of different lengths are filled up with padding to the longest, T. Lesson 11.
    Raises ValueError when there is no example, or when they are no examples of `Shards`.
    """
    try:
        images = torch.stack([inputs["image"] for inputs, _ in examples])
        messages = pad([inputs["message"] for inputs, _ in examples])
        moods = torch.stack([mood for _, mood in examples])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        raise ValueError(
            f"collate makes a batch of examples of shards.Shards, and got "
            f"{arguments.kind(examples)}: pass a list of them, each a pair of inputs and mood."
        ) from None
    return {"image": images, "message": messages}, moods


def loader(
    folder: str | Path,
    vocabulary: Vocabulary,
    *,
    batch_size: int = 64,
    workers: int = 0,
    shuffle: bool = True,
    seed: int = 0,
    pin_memory: bool | None = None,
) -> DataLoader:
    """A DataLoader over a folder of shards, ready for `training.fit(model, loader, loss=…)`.

    workers: processes that read while the model learns; 0: it reads by turns. More than there are
    shards have nothing to do. seed: of the order, which is another one in each epoch; a new loader
    begins with the first again. pin_memory: lay batches where a GPU can fetch them (where there is
    one, unless you say else). Lesson 11.

    Raises as `Shards`.
    """
    arguments.check_count("batch_size", batch_size, 1, 64)
    arguments.check_count("workers", workers, 0, 1, most=64)
    arguments.check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    data = Shards(folder, vocabulary, batch_size=batch_size, shuffle=shuffle, generator=generator)
    pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
    arguments.check_switch("pin_memory", pin_memory)
    return DataLoader(
        data, batch_size=None, num_workers=workers, generator=generator, pin_memory=pin_memory,
        prefetch_factor=AHEAD if workers else None, worker_init_fn=_hand_over,
    )  # fmt: skip


def _hand_over(worker: int) -> None:
    """A worker hands its batches over in a thread of its own. While it unpacks a shard, that thread
    would wait 5 ms for each turn, several times a batch, and training with it."""
    sys.setswitchinterval(0.0005)
