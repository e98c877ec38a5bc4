"""Full and read-only disks, and strange places: what every writer of the course does there.

A disk is full in two ways. `Failing` lets the k-th change of a folder fail, and all that come after
it: opening a file to write, each write, closing, making a folder, moving. Libraries that write
without Python (safetensors, PyTorch, libsndfile, Pillow) see it through the system's own limit of
how large a file may become.
"""

import builtins
import contextlib
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn

from mbm_lab import (
    albums,
    copies,
    datasets,
    downloads,
    lab,
    lessons,
    postcards,
    real_data,
    stored,
    tables,
    trained,
    training,
    two_step,
)
from mbm_lab.exercises import completion, progress, sharing
from mbm_lab.postcards import files
from mbm_lab.preprocessing import SPECIAL_WORDS, Vocabulary
from mbm_lab.widgets import projector
from tests.faults import Fault, command, put


class Writer(NamedTuple):
    """Something of the course that writes.

    write: writes in a folder. old: what lay there before, by name. target: the file it writes, if
    the caller chooses it. steps: the changes of the folder that may fail (there may be more).
    sizes: bytes at which a file can grow no more. own: as in Fault. refuses: whether a file that is
    there is left as it is.
    """

    name: str
    write: Callable[[Path], object]
    steps: tuple[int, ...] = ()
    sizes: tuple[int, ...] = (0,)
    target: str = ""
    old: dict[str, bytes] = {}
    own: tuple[str, ...] = ()
    refuses: bool = False


# --- The writers


def weights() -> nn.Module:
    return nn.Linear(50, 50)


def _retrain(folder: Path) -> None:
    model = stored.Model("tiny", weights(), {"in_features": 50, "out_features": 50}, None)
    module = SimpleNamespace(retrain=lambda seed: [model])
    with (
        mock.patch.object(stored, "_modules", return_value=[module]),
        mock.patch.object(datasets, "fingerprint", return_value="of the cards"),
    ):
        list(stored.retrain("06", folder / "new" / "weights"))


def _fit(folder: Path) -> None:
    inputs, targets = torch.rand(4, 2), torch.rand(4, 1)
    training.fit(
        nn.Linear(2, 1), (inputs, targets), nn.functional.mse_loss, epochs=2,
        checkpoint=folder / "run", progress=False,
    )  # fmt: skip


def _draw_postcards(folder: Path, run: Callable[[str], object]) -> None:
    cards = [postcards.with_voice(card, 0) for card in postcards.draw(2, 0)]
    silence = np.zeros(4_000, np.float32)
    picture = Image.effect_noise((40, 40), 50)
    with (
        mock.patch.multiple(files, course_cards=lambda: cards, synthesizer=lambda: "espeak-ng",
                            voice=lambda card: silence, picture=lambda card: picture),
    ):  # fmt: skip
        run(str(folder / "drawn"))


def _digit_sample(folder: Path) -> None:
    pictures, digits = torch.zeros(60, 1, 28, 28), torch.arange(10).repeat(6)
    numbers = [one for some in datasets.SAMPLE_RECORDINGS.values() for one in some]
    spoken = SimpleNamespace(
        names=[f"{digit}_theo_{number}" for digit in range(10) for number in numbers[:2]],
        sounds=[torch.rand(4_000) for _ in range(20)],
    )
    with (
        mock.patch.dict(datasets.SAMPLE_PICTURES, train=2, val=2, test=2),
        mock.patch.multiple(datasets, load_mnist=lambda *_: (pictures, digits),
                            load_spoken_digits=lambda *_: spoken),
    ):  # fmt: skip
        datasets.write_digit_sample(folder / "sample")


def _get_data(folder: Path) -> None:
    def fetch(address: str, file: Path, *_: object) -> None:
        file.write_bytes(b"pictures")

    with (
        mock.patch.dict(os.environ, MBM_DATA_HOME=str(folder / "sets")),
        mock.patch.object(downloads, "_fetch", fetch),
    ):
        downloads.get("mnist", lambda terms: True)


def _remember(folder: Path) -> None:
    made = {"features": np.ones((30, 30))}
    two_step.Memory(folder / "steps", "key").get("pictures", lambda: made)


def _train(folder: Path) -> None:
    def write(analysis: object, place: trained.Place) -> None:
        for name in trained.FILES:
            trained._write_text(place.unfinished / name, "é" * 100)

    with (
        mock.patch.object(two_step, "analyse", return_value=SimpleNamespace(sentences=["a."])),
        mock.patch.multiple(trained, _key=lambda *_: "key", _write_report=write),
    ):
        trained.train(None, folder / "report", say=lambda said: None, progress=False)


REPORT = {f"report/{name}": b"of an earlier run" for name in ("report.html", "predictions.csv")} | {
    "report/settings.json": json.dumps({"made by": trained.MADE_BY, "key": "old"}).encode()
}


def _predict(folder: Path) -> None:
    fitted = SimpleNamespace(about=lambda: {"encoders": {}, "columns": {}, "language": None})
    answered = [["line", "answer"], [2, "3.5", ""]]
    with (
        mock.patch.multiple(trained, load_model=lambda _: fitted, answers=lambda *_: answered),
        mock.patch.object(tables, "load_rows", return_value=SimpleNamespace(notes=[])),
    ):
        trained.predict("model", "rows", folder / "answers.csv", say=lambda said: None)


def _solve(folder: Path) -> None:
    with mock.patch.dict(os.environ, MBM_PROGRESS=str(folder / "mine" / "progress.json")):
        progress.record("04.weighted_sum", tried=True, solved=True)


def _solved(folder: Path, run: Callable[[Path], object]) -> None:
    """Lets somebody who has solved an exercise write."""
    solved = {"04.weighted_sum": {"tries": 1, "solved": True, "solved_on": "2030-01-31"}}
    with (
        mock.patch.object(progress, "load", return_value=solved),
        mock.patch.object(completion, "check_all", return_value=[]),
    ):
        run(folder)


def _picture(folder: Path) -> None:
    sharing.draw(sharing.Summary(0, [], []), folder / "class.png")


def _copies(folder: Path, run: Callable[[Path, Path], object]) -> None:
    """Runs with a course of one small lesson, and the learner's folder."""
    run(folder.parent / "course", folder / "my_lessons")


NOTEBOOK = json.dumps(
    {
        "cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# 04 · Fusion"}],
        "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
    }
).encode()  # fmt: skip


def _refresh(folder: Path) -> None:
    lesson = folder / "04_fusion.ipynb"
    with mock.patch.object(lessons, "_execute", return_value=1.0):
        lessons.refresh(None, folder)
    assert lesson.read_bytes() != NOTEBOOK


def _page(folder: Path) -> None:
    with mock.patch.object(projector, "page", return_value="α" * 500):
        command("playground", "--out", str(folder / "p.html"))


def _lab(folder: Path) -> None:
    with (
        mock.patch.multiple(lab, _serve=lambda *given: lab.write_settings(given[-1]),
                            choose_port=lambda *_: 8888, _on_ctrl_c=lambda *_: None),
        mock.patch.object(lab.copies, "prepare", return_value=[]),
        mock.patch.object(lab.doctor, "examine", return_value=[]),
    ):  # fmt: skip
        command("lab", "--no-browser")


WRITERS = [
    Writer("save_weights", lambda f: stored.save_weights(weights(), f / "w.safetensors"), (1,),
           (0, 5000), "w.safetensors"),
    Writer("save_weights(half=True)",
           lambda f: stored.save_weights(weights(), f / "w.safetensors", half=True), (1,), (0,),
           "w.safetensors"),
    Writer("mbm-lab weights", _retrain, (1, 2, 3), (0, 3000)),
    Writer("Vocabulary.save",
           lambda f: Vocabulary([*SPECIAL_WORDS, "sea", "猫"]).save(f / "v.json"),
           (1, 2, 3, 4), (0, 20), "v.json"),
    Writer("fit(checkpoint=…)", _fit, (1, 2, 3, 4, 5), (0, 100, 1000),
           own=(r"run(/(state\.pt|(last|best)_epoch_\d+\.safetensors))?",)),
    Writer("postcards.build", lambda f: _draw_postcards(f, postcards.build),
           (1, 2, 3, 5, 8, 13), (0, 300, 1000)),
    Writer("mbm-lab postcards",
           lambda f: _draw_postcards(f, lambda out: command("postcards", "--out", out)),
           (1, 4, 9), (0, 300)),
    Writer("mbm-lab data sample", _digit_sample, (1, 2, 3, 4, 5), (0, 200, 2000)),
    Writer("mbm-lab data get", _get_data, (1, 2, 3, 4, 5, 8, 15), (0,)),
    Writer("example_table", lambda f: real_data.example_table(3), (1, 2, 3, 4, 9), (0, 100)),
    Writer("example_album", lambda f: albums.example_album(3), (1, 2, 3, 4, 9), (0, 100)),
    Writer("the steps of mbm-lab train", _remember, (1, 2, 3, 5, 8), (0, 1000)),
    Writer("mbm-lab train", _train, (1, 2, 3, 4, 5, 7, 9, 12, 15, 17, 18, 19), (0, 120), old=REPORT,
           own=(r"report\.unfinished(/settings\.json|/[a-z]+\.[a-z]+)?",)),
    Writer("mbm-lab predict --out", _predict, (1, 2, 3, 4), (0, 10), "answers.csv", refuses=True),
    Writer("the check of an exercise", _solve, (1, 2, 3, 4, 5), (0, 10), own=("mine",)),
    Writer("mbm-lab exercises --export",
           lambda f: _solved(f, lambda f: sharing.export(f / "p.json")), (1, 2, 3, 4), (0, 100),
           "p.json", refuses=True),
    Writer("mbm-lab exercises --record",
           lambda f: _solved(f, lambda f: completion.write(f / "r.html", f, lambda said: None)),
           (1, 2, 3, 4), (0, 500), "r.html", refuses=True),
    Writer("mbm-lab exercises --summary --out", _picture, (1, 2, 3), (0, 500), "class.png"),
    Writer("a first copy of the lessons", lambda f: _copies(f, copies.copy_missing),
           (1, 2, 3, 4, 5, 7, 8, 9), (0, 100), old={"../course/04_fusion.ipynb": NOTEBOOK},
           own=(r"my_lessons/\.course.*",)),
    Writer("mbm-lab lessons --fresh", lambda f: _copies(f, partial(copies.fresh_copy, 4)),
           (1, 2, 3, 4, 5, 7, 8, 9), (0, 100),
           old={"my_lessons/04_fusion.ipynb": NOTEBOOK, "../course/04_fusion.ipynb": NOTEBOOK},
           own=(r"my_lessons/\.course.*",)),
    Writer("make outputs", _refresh, (1, 2, 3, 4), (0, 100), old={"04_fusion.ipynb": NOTEBOOK}),
    Writer("mbm-lab playground --out", _page, (1, 2, 3, 4), (0, 500), "p.html"),
    Writer("mbm-lab lab", _lab, (1, 2, 3, 4), (0,)),
]  # fmt: skip
"""Every writer of the package whose files are the user's."""


# --- Disks that fail


class Failing:
    """A folder whose k-th change fails, and all that come after it; but nothing needs room to be
    moved, so on a full disk this fails only if it is the k-th."""

    def __init__(self, folder: Path, at: int, number: int = errno.ENOSPC):
        self.folder, self.at, self.number = os.path.realpath(folder), at, number
        self.changes = 0

    def change(self, path: object, moved: bool = False) -> None:
        """Counts a change of a path; raises OSError from the k-th one on."""
        if isinstance(path, int) or not self.holds(path):
            return
        self.changes += 1
        needs_none = moved and self.number == errno.ENOSPC
        if self.changes == self.at or self.changes > self.at and not needs_none:
            raise OSError(self.number, os.strerror(self.number), os.fspath(path))

    def holds(self, path: object) -> bool:
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        with contextlib.ExitStack() as patches:
            for module, name in ((builtins, "open"), (io, "open")):
                patches.enter_context(mock.patch.object(module, name, self._open(io.open)))
            for name in ("mkdir", "replace", "rename"):
                first = self._first(getattr(os, name), moved=name != "mkdir")
                patches.enter_context(mock.patch.object(os, name, first))
            patches.enter_context(mock.patch.object(os, "open", self._low(os.open)))
            yield

    def _first(self, real: Callable, moved: bool) -> Callable:
        def changing(path, *rest, **named):
            self.change(path, moved)
            return real(path, *rest, **named)

        return changing

    def _low(self, real: Callable) -> Callable:
        def opening(path, flags, *rest, **named):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.change(path)
            return real(path, flags, *rest, **named)

        return opening

    def _open(self, real: Callable) -> Callable:
        def opening(path, mode="r", *rest, **named):
            writes = any(letter in mode for letter in "wax+")
            if isinstance(path, int) or not writes or not self.holds(path):
                return real(path, mode, *rest, **named)
            self.change(path)
            return File(real(path, mode, *rest, **named), path, self)

        return opening


class File:
    """An open file on a disk that may become full: half of what does not fit is written."""

    def __init__(self, file: io.IOBase, path: object, disk: Failing):
        self.file, self.path, self.disk = file, path, disk

    def write(self, content: object) -> int:
        try:
            self.disk.change(self.path)
        except OSError:
            self.file.write(content[: len(content) // 2])
            raise
        return self.file.write(content)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        if not self.file.closed:
            self.file.close()
            self.disk.change(self.path)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("so that all is written here")

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def failing(write: Callable[[Path], object], at: int, number: int, folder: Path) -> object:
    """Writes where the k-th change fails."""
    disk = Failing(folder.parent, at, number)
    with disk.planted():
        result = write(folder)
    if disk.changes < at:
        raise AssertionError(f"there are only {disk.changes} changes")
    return result


def limited(write: Callable[[Path], object], size: int, folder: Path) -> object:
    """Writes where no file may become larger than so many bytes: the system itself says so."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- Strange places


def _dead_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("of the user's own")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    (path.parent / "elsewhere").write_text("an older one")


def faults(seed: int) -> Iterator[Fault]:
    for one in WRITERS:
        yield from full_disks(one)
        if one.target:
            yield from _strange(one)


def full_disks(one: Writer) -> Iterator[Fault]:
    old = dict(one.old)
    if one.target and not one.refuses:
        old[one.target] = b"an older one"
    common = {"own": one.own, "nothing_new": True, "plant": partial(put, files=old)}
    for step in one.steps:
        act = partial(failing, one.write, step, errno.ENOSPC)
        yield Fault("full disks", f"{one.name}: change {step} fails", act, **common)
    for size in one.sizes if os.name == "posix" else ():
        act = partial(limited, one.write, size)
        yield Fault("full disks", f"{one.name}: room for {size} bytes", act, **common)
    for number in (errno.EROFS, errno.EACCES, errno.EIO):
        what = f"{one.name}: {os.strerror(number).lower()}"
        act = partial(failing, one.write, 1, number)
        yield Fault("disks one can't write", what, act, **common)


def _strange(one: Writer) -> Iterator[Fault]:
    kind, name = "strange targets", one.target
    write = one.write
    yield Fault(kind, f"{one.name}: a folder has its name", write, (name,),
                lambda f: _folder(f / name), nothing_new=True)  # fmt: skip
    yield Fault(kind, f"{one.name}: no such folder", lambda f: write(f / "none"), (name, "none"),
                nothing_new=True)  # fmt: skip
    yield Fault(kind, f"{one.name}: the folder is a file", lambda f: write(f / "notes.txt"),
                (name, "notes.txt"), nothing_new=True)  # fmt: skip
    yield Fault(kind, f"{one.name}: a dead link has its name", lambda f: (write(f), f)[1], (name,),
                lambda f: _dead_link(f / name), lambda f: (f / name).is_file(),
                own=(name, "gone"))  # fmt: skip
    if one.refuses:
        yield Fault(kind, f"{one.name}: a file is there", write, (name,),
                    lambda f: (f / name).write_text("of the user's own"))  # fmt: skip
        return
    yield Fault(kind, f"{one.name}: a link to a file has its name", lambda f: (write(f), f)[1], (),
                lambda f: _link(f / name),
                lambda f: (f / name).is_symlink() and (f / "elsewhere").stat().st_size != 12,
                own=("elsewhere",))  # fmt: skip
