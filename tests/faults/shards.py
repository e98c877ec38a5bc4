"""Faults in shards, in what stands around them, and in what they are asked for."""

import errno
import functools
import gzip
import io
import json
import os
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mbm_lab import shards
from mbm_lab.preprocessing import SPECIAL_WORDS, Vocabulary
from tests.faults import MEMORY, Fault, command, flipped, put
from tests.faults.disks import Writer, failing, full_disks, limited

WORDS = Vocabulary([*SPECIAL_WORDS, "the", "was", "sea", "lovely"])
CARDS, SIZE = 8, 3
"""Three shards: 3, 3 and 2 cards."""
SECOND = "cards-000001.tar"


def write(folder: Path, **options: object) -> list[Path]:
    return shards.write(folder, **{"cards": CARDS, "cards_per_shard": SIZE, "progress": False,
                                   **options})  # fmt: skip


@functools.cache
def whole() -> dict[str, bytes]:
    """The files of a folder of shards."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        write(Path(folder))
        return contents(Path(folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def plant(folder: Path, **changed: bytes | None) -> None:
    """A folder of shards, `cards`, with some files changed; None: such a file is missing."""
    files = whole() | changed
    put(folder, {f"cards/{name}": held for name, held in files.items() if held is not None})


def read(folder: Path, **options: object) -> list[float]:
    """The moods of all cards, as a model gets them."""
    options = {"batch_size": 2, "shuffle": False, **options}
    return [float(mood) for _, moods in shards.loader(folder / "cards", WORDS, **options)
            for mood in moods]  # fmt: skip


@functools.cache
def moods() -> list[float]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        plant(Path(folder))
        return read(Path(folder))


def faults(seed: int) -> Iterator[Fault]:
    rng = random.Random(f"shards {seed}")
    yield from damaged(rng)
    yield from recipes(rng)
    yield from odd()
    yield from places()
    yield from disks()
    yield from arguments()


# --- Shards that are not what they were


def changed(what: str, change: Callable[[bytes], bytes | None], name: str = SECOND) -> Fault:
    """A shard is read after this change."""
    return Fault("shards", f"{name}: {what}", read, (name,),
                 lambda folder: plant(folder, **{name: change(whole()[name])}))  # fmt: skip


def damaged(rng: random.Random) -> Iterator[Fault]:
    length = len(whole()[SECOND])
    header, picture, after = 512, 512 + 12_800, length - 10_240
    cuts = (0, 1, 511, header, header + 20, picture, picture + 512, after, length - 1)
    for at in (*cuts, *(rng.randrange(length) for _ in range(12))):
        yield changed(f"cut after {at} bytes", lambda data, at=at: data[:at])
    for share in (0.0, 0.005, 0.02, 0.5, 0.999, *(rng.random() for _ in range(40))):
        what = f"a flipped bit, at {share:.4f}"
        yield changed(what, lambda data, share=share: flipped(data, share))
    for name in ("cards-000000.tar", "cards-000002.tar"):
        yield changed("cut in half", lambda data: data[: len(data) // 2], name)
        yield changed("a flipped bit", lambda data: flipped(data, 0.3), name)
    for what, other in OTHERS.items():
        yield changed(what, lambda data, other=other: other())
    for name in sorted(whole()):
        if name != shards.RECIPE:
            yield changed("missing", lambda data: None, name)
    yield Fault("shards", "only their recipe is there", read, ("cards-000000.tar",),
                lambda f: put(f, {"cards/shards.json": whole()[shards.RECIPE]}))  # fmt: skip
    yield Fault("shards", "a folder has its name", read, (SECOND,), _folder_instead)
    yield Fault("shards", "a link that leads nowhere has its name", read, (SECOND,), _dead_link)


def _folder_instead(folder: Path) -> None:
    plant(folder, **{SECOND: None})
    (folder / "cards" / SECOND).mkdir()


def _dead_link(folder: Path) -> None:
    plant(folder, **{SECOND: None})
    (folder / "cards" / SECOND).symlink_to("gone.tar")


def _tar(mode: str = "w", **files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, held in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(held)
            tar.addfile(about, io.BytesIO(held))
    return made.getvalue()


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("00000003.ppm", b"P6")
    return made.getvalue()


OTHERS = {
    "another shard of the same run": lambda: whole()["cards-000000.tar"],
    "a tar of other files": lambda: _tar(**{"a.jpg": b"x", "a.cls": b"3"}),
    "an empty tar": _tar,
    "a tar, compressed": lambda: gzip.compress(whole()[SECOND]),
    "a zip": _zip,
    "a text": lambda: b"This was a shard.\n" * 50,
    "a page": lambda: b"<!DOCTYPE html><html><body>Please sign in.</body></html>\n",
    "noise": lambda: np.random.default_rng(0).bytes(30_000),
    "nothing but zeros": lambda: bytes(30_000),
    "the same, twice": lambda: whole()[SECOND] * 2,
    "the same, and a byte more": lambda: whole()[SECOND] + b"\0",
}
"""What may stand where a shard should."""


# --- The recipe


def recipe(what: str, held: bytes | None, right: Callable | None = None) -> Fault:
    return Fault("recipes of shards", what, read, ("cards",),
                 lambda folder: plant(folder, **{shards.RECIPE: held}), right)  # fmt: skip


def recipes(rng: random.Random) -> Iterator[Fault]:
    now = whole()[shards.RECIPE]
    for share in [rng.random() for _ in range(30)]:  # of a space, another space may come
        yield recipe(f"a flipped bit, at {share:.4f}", flipped(now, share), lambda found:
                     found == moods())  # fmt: skip
    for at in (0, 1, len(now) // 2, len(now) - 1):
        yield recipe(f"cut after {at} bytes", now[:at])
    for what, held in {
        "missing": None,
        "a list": b"[]",
        "a number": b"5",
        "null": b"null",
        "a text": b'"shards"',
        "of something else": b'{"name": "shop", "version": 3}',
        "nested deeply": b"[" * 100_000,
        "not UTF-8": "Grüße".encode("utf-16"),
        "a page": b"<html>Please sign in.</html>",
        "without its checksum": json.dumps({"cards": 8, "made by": shards.MADE_BY}).encode(),
        "with a checksum in words": json.dumps({"checksum": "right"}).encode(),
    }.items():
        yield recipe(what, held)
    for name, value in (("seed", 7), ("cards", 9), ("cards a shard", 2)):
        changed = json.loads(now) | {name: value}
        yield recipe(f"{name} was changed by hand", json.dumps(changed).encode())


# --- Odd, and right


def odd() -> Iterator[Fault]:
    for what, do in {
        "a folder that is a link": _through_a_link,
        "files of others beside the shards": _beside_others,
        "remains of a run that was killed": _with_remains,
        "a run that goes on where a shard is missing": _with_a_gap,
        "no time and room is lost on what is there": _again,
        "a loader that is read to its middle": _to_the_middle,
        "a batch that is larger than a shard": _large_batches,
    }.items():  # fmt: skip
        yield Fault("shards, odd and right", what, do, right=bool,
                    own=(r"cards(/.*)?", "through"))  # fmt: skip


def _through_a_link(folder: Path) -> bool:
    (folder / "cards").mkdir()
    (folder / "through").symlink_to("cards")
    write(folder / "through")
    return contents(folder / "cards") == whole() and (folder / "through").is_symlink()


def _beside_others(folder: Path) -> bool:
    plant(folder, **{SECOND: None})
    others = {"cards/notes.txt": b"mine", "cards/cards-000009.tar": b"mine, too",
              "cards/notes.txt.12.part": b"of another program"}  # fmt: skip
    put(folder, others)
    write(folder / "cards")
    return (
        contents(folder / "cards")
        == whole() | {name.removeprefix("cards/"): held for name, held in others.items()}
        and read(folder) == moods()
    )


def _with_remains(folder: Path) -> bool:
    plant(folder, **{SECOND: None})
    put(folder, {f"cards/{SECOND}.4711.part": b"half", "cards/shards.json.4711.part": b"{"})
    write(folder / "cards")
    return contents(folder / "cards") == whole()


def _with_a_gap(folder: Path) -> bool:
    plant(folder, **{SECOND: None})
    write(folder / "cards")
    return contents(folder / "cards") == whole()


def _again(folder: Path) -> bool:
    plant(folder)
    times = {path.name: path.stat().st_mtime_ns for path in (folder / "cards").iterdir()}
    write(folder / "cards")
    return times == {path.name: path.stat().st_mtime_ns for path in (folder / "cards").iterdir()}


def _to_the_middle(folder: Path) -> bool:
    plant(folder)
    loader = shards.loader(folder / "cards", WORDS, batch_size=2, shuffle=False)
    next(iter(loader))
    return [float(mood) for _, some in loader for mood in some] == moods()


def _large_batches(folder: Path) -> bool:
    plant(folder)
    return read(folder, batch_size=50) == moods()


# --- Places


def places() -> Iterator[Fault]:
    kind = "places of shards"
    common = {"nothing_new": True}
    for what, files, names in (
        ("a folder of somebody else's", {"cards/letter.txt": b"mine"}, ("letter.txt",)),
        ("a file has its name", {"cards": b"mine"}, ("cards",)),
        ("shards without a recipe", {f"cards/{SECOND}": b"mine"}, (SECOND,)),
        ("a recipe of somebody else's", {"cards/shards.json": b"{}"}, ("shards.json",)),
    ):
        for way, act in (
            ("write", lambda folder: write(folder / "cards")),
            ("the command", lambda folder: command("postcards", "--shards", "cards", "--cards",
                                                   "3")),
        ):  # fmt: skip
            yield Fault(kind, f"{what}: {way}", act, names, functools.partial(put, files=files),
                        **common)  # fmt: skip
    for what, options, names in (
        ("another seed", {"seed": 5}, ("cards", "5")),
        ("more cards", {"cards": 9}, ("cards", "9")),
        ("other shards", {"cards_per_shard": 4}, ("cards", "4")),
    ):
        yield Fault(kind, f"a run with {what} is there", functools.partial(_write_more, options),
                    names, plant, **common)  # fmt: skip
    for what, held in (("a damaged shard", whole()[SECOND][:3000]), ("a foreign file", b"mine")):
        yield Fault(kind, f"going on beside {what}", lambda folder: write(folder / "cards"),
                    (SECOND,), lambda folder, held=held: plant(folder, **{SECOND: held}),
                    **common)  # fmt: skip
    yield Fault(kind, "no folder", read, ("cards",), **common)
    yield Fault(kind, "an empty folder", read, ("cards",), lambda f: (f / "cards").mkdir())
    yield Fault(kind, "a folder of pictures", read, ("cards",),
                lambda f: put(f, {"cards/a.png": b"x"}), **common)  # fmt: skip
    yield Fault(kind, "the folder is a file", read, ("cards",), lambda f: put(f, {"cards": b"x"}))
    yield Fault(kind, "write into a file", lambda f: write(f / "notes.txt" / "cards"),
                ("notes.txt",), **common)  # fmt: skip
    yield Fault(kind, "write to a link that leads nowhere", lambda f: write(f / "cards"),
                ("cards",), lambda f: (f / "cards").symlink_to("gone"), **common)  # fmt: skip
    for words, names in {
        ("--shards", "cards"): ("cards", "--cards"),
        ("--shards", "cards", "--cards", "0"): ("0",),
        ("--shards", "cards", "--cards", "-3"): ("-3",),
        ("--shards", "cards", "--cards", "1000000000"): ("1000000000",),
        ("--shards", "cards", "--cards", "many"): ("many",),
        ("--shards", "cards", "--cards", "3", "--seed", "-1"): ("-1",),
        ("--shards", "", "--cards", "3"): ("folder",),
        ("--shards", "x" * 300, "--cards", "3"): ("xxx",),
        ("--shards", "cards", "--out", "cards", "--cards", "3"): ("--out",),
        ("--out", "cards", "--cards", "3"): ("3", "--shards"),
        ("--out", "cards", "--seed", "3"): ("3", "--shards"),
        ("--cards", "3"): ("--shards",),
        ("--shards", "notes.txt", "--cards", "3"): ("notes.txt",),
        ("--shards", "notes.txt/cards", "--cards", "3"): ("notes.txt",),
    }.items():
        what = " ".join(words)[:60]
        yield Fault("commands for shards", f"postcards {what}",
                    lambda _, words=words: command("postcards", *words), names,
                    **common)  # fmt: skip


def _write_more(options: dict, folder: Path) -> object:
    return write(folder / "cards", **options)


# --- Disks

OWN = (r"drawn(/(shards\.json|cards-\d{6}\.tar))?",)
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 17, 20)


def disks() -> Iterator[Fault]:
    writer = Writer("shards.write", lambda folder: write(folder / "drawn"), STEPS,
                    (0, 50, 1000, 30_000), own=OWN)  # fmt: skip
    yield from full_disks(writer)
    kind = "full disks, then with room"
    for step in STEPS:
        yield Fault(kind, f"shards.write: change {step} fails",
                    functools.partial(_then_with_room, lambda write, folder, step=step:
                                      failing(write, step, errno.ENOSPC, folder)),
                    right=bool, own=OWN)  # fmt: skip
    for size in (0, 50, 30_000) if os.name == "posix" else ():
        yield Fault(kind, f"shards.write: room for {size} bytes",
                    functools.partial(_then_with_room, lambda write, folder, size=size:
                                      limited(write, size, folder)),
                    right=bool, own=OWN)  # fmt: skip


def _then_with_room(fails: Callable, folder: Path) -> bool:
    try:
        fails(lambda folder: write(folder / "drawn"), folder)
    except OSError:
        write(folder / "drawn")
        return contents(folder / "drawn") == whole()
    return False


# --- Arguments


def arguments() -> Iterator[Fault]:
    for name, values in {
        "cards": (0, -1, 1.5, "many", None, True, 10**9, float("nan"), torch.ones(3)),
        "cards_per_shard": (0, -1, 2.5, 20_000, None, "few"),
        "seed": (-1, 1.5, 2**63, None, "one"),
        "progress": ("yes", None, 1),
    }.items():
        for value in values:
            yield argument("write", name, value, functools.partial(_write, name, value))
    for value in (None, 5, "", "a\0b", "x" * 300, b"cards"):
        for name in ("write", "find", "Shards", "loader"):
            yield Fault("arguments of shards", f"{name}: the folder is {repr(value)[:20]}",
                        functools.partial(_named, name, value), ("folder",),
                        nothing_new=True)  # fmt: skip
    for name, values in {
        "vocabulary": (None, ["sea"], 5, nn.Linear(1, 1), WORDS.words, Vocabulary),
        "batch_size": (0, -1, 2.5, "64", True),
        "shuffle": ("yes", 1, 8),
        "generator": (5, "cpu", torch.Generator),
    }.items():
        for value in values:
            yield argument("Shards", name, value, functools.partial(_shards, name, value), plant)
    for name, values in {
        "workers": (-1, 1.5, None, 65, "two"),
        "batch_size": (0, None, 2.5),
        "seed": (-1, None, 2**63),
        "pin_memory": ("yes", 3),
        "shuffle": (None, 7),
    }.items():
        for value in values:
            yield argument("loader", name, value,
                           lambda f, name=name, v=value: read(f, **{name: v}), plant)  # fmt: skip
    card = {"image": torch.rand(3, 64, 64), "message": torch.tensor([4, 5])}, torch.tensor(0.5)
    for what, value in {
        "None": None,
        "a number": 5,
        "no examples": [],
        "a tensor": torch.ones(3),
        "numbers": [1, 2],
        "one example, not a list": card,
        "pairs of numbers": [(1, 2)],
        "pictures alone": [({"image": card[0]["image"]}, card[1])],
        "inputs without a mood": [card[0]],
        "a mood that is no tensor": [(card[0], 0.5)],
        "pictures of two sizes": [card, ({**card[0], "image": torch.rand(3, 32, 32)}, card[1])],
        "an empty message": [({**card[0], "message": torch.tensor([]).long()}, card[1])],
        "a text": "cards",
    }.items():
        yield Fault("arguments of shards", f"collate: {what}",
                    lambda _, value=value: shards.collate(value), ("collate",),
                    nothing_new=True)  # fmt: skip


def argument(function: str, name: str, value: object, act: Callable, plant=None) -> Fault:
    return Fault("arguments of shards", f"{function}: {name} is {repr(value)[:40]}", act, (name,),
                 plant, nothing_new=True)  # fmt: skip


def _write(name: str, value: object, folder: Path) -> object:
    return write(folder / "cards", **{name: value})


def _named(function: str, name: object, folder: Path) -> object:
    more = {"write": (CARDS,), "find": ()}.get(function, (WORDS,))
    return getattr(shards, function)(name, *more)


def _shards(name: str, value: object, folder: Path) -> object:
    options = {"folder": folder / "cards", "vocabulary": WORDS, "generator": None, name: value}
    return list(shards.Shards(**options))
