"""Weights and vocabularies on disk (lessons 02 to 14 load them, `mbm-lab weights` makes them).

A stored model knows itself: beside its weights, the file says which class of the course it is and
of which sizes, the words it knows, its seed, the command that made it and from which data. So
`load("dual_encoder", seed=0)` needs nothing else, and says what differs when something does.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from mbm_lab import arguments, atomic, datasets, rows
from mbm_lab.device import seeded
from mbm_lab.preprocessing import SPECIAL_WORDS, Vocabulary

WEIGHTS = datasets.DATA / "weights"
"""Where the course's own stored models are."""

SEEDS = (0, 1, 2)
"""The seeds with which the models of lessons 06 to 10 and 13 are trained."""

LESSONS = {
    "00": ("welcome",),
    "06": ("captioning",),
    "07": ("retrieval", "questions"),
    "08": ("video",),
    "09": ("speech",),
    "10": ("translation",),
    "13": ("one_model",),
}
"""The lessons with stored models, and the modules that train them: each has retrain(seed), and
from lesson 06 on exam(seed)."""

Words = Vocabulary | list[str] | tuple[Vocabulary | list[str], ...] | None
"""What a model reads or writes: a vocabulary, several (or a list of answers), or none."""


# --- Weights of any model


def save_weights(model: nn.Module, path: str | Path, half: bool = False) -> None:
    """Saves a model's weights as safetensors; an old file gives way only to a whole new one.

    half: write numbers of 16 bits, which makes the file half as large; three digits are kept (less
    than 0.00006 has fewer), and `load_weights` turns them into the model's own kind again.
    Raises ValueError when a weight is NaN, or too large for 16 bits; OSError with one sentence when
    the folder is missing, read-only or full. An old file is then untouched. Lesson 05.
    """
    path, tensors = Path(path), model.state_dict()
    for name, values in tensors.items():
        if values.is_floating_point() and bool(values.isnan().any()):
            raise ValueError(
                f'{path} is not written, because the weights are spoilt: "{name}" holds nan. Build '
                "the model anew, or load good weights into it, and train at a lower learning rate."
            )
    tensors = _halved(tensors) if half else tensors
    save_tensors(tensors, path, {"sha256": checksum({}, tensors)})


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Loads weights that `save_weights` wrote into a model of the same sizes, and returns it.

    Raises FileNotFoundError without the file; ValueError when it is damaged, of another model, or
    holds numbers that the model's own kind of numbers cannot. The model then keeps the weights
    that it had. Lesson 05.
    """
    model.load_state_dict(load_tensors(model, Path(path)))
    return model


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> str:
    """Writes named tensors, and what is said about them, as one safetensors file; returns the
    SHA-256 of the file.

    Raises OSError with one sentence when the folder is missing, read-only or full.
    """
    tensors = {name: values.detach().cpu().clone().contiguous() for name, values in tensors.items()}
    sha = hashlib.sha256()

    def write(part: Path) -> None:
        save_file(tensors, part, metadata)
        sha.update(part.read_bytes())

    atomic.write_whole(path, write)
    return sha.hexdigest()


def save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Writes a safetensors file, as the library's own function does, but straight into its place:
    that one leaves a hidden file of another name behind when it is killed."""
    path.write_bytes(bytes_of(tensors, metadata))


def load_tensors(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors in a file, after a check that they are those of this model. Raises as
    `load_weights` does."""
    weights, said = read_tensors(path)
    if said.get("sha256", "") not in ("", checksum({}, weights)):
        raise ValueError(
            f"{path} was changed after it was written: its weights are not those of its checksum. "
            "Replace it by a whole copy, or train and save them anew."
        )
    check_fit(model, weights, path)
    return weights


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors, and what it says of them. Raises FileNotFoundError without the file,
    OSError when it may not be read, ValueError when it is damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """What a file of weights says of them. Raises as `read_tensors` does."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    _check_there(path)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(_damaged(path)) from error
    except OSError as error:
        raise OSError(
            f"{path} cannot be read: ask for the right to read it, or replace it by a whole copy."
        ) from error


def _check_there(path: Path) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There are no weights at {path}: check the name, or train and save them first."
        )


def _damaged(path: Path) -> str:
    return f"{path} is damaged or not a safetensors file: replace it by a whole copy."


def tensors_in(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a file. Raises ValueError when they are damaged."""
    try:
        return tensors_of(data)
    except SafetensorError as error:
        raise ValueError(_damaged(path)) from error


def check_fit(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Raises ValueError when the weights are not those of a model like this one: other names,
    shapes or kinds of numbers. (Rounding is allowed, inf in place of a number is not.)"""
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        known = name in own and name in weights
        if not known or own[name].shape != weights[name].shape:
            raise ValueError(
                f"{path} holds the weights of another model than this {type(model).__name__}: "
                f'they differ at "{name}". Build the model with the sizes that it was trained with.'
            )
        ours, theirs = own[name], weights[name]
        if ours.dtype == theirs.dtype:
            continue
        real = ours.is_floating_point() and theirs.is_floating_point()
        if not real or bool((theirs.isfinite() & ~theirs.to(ours.dtype).isfinite()).any()):
            kinds = [arguments.dtype(values) for values in (theirs, ours)]
            raise ValueError(
                f'{path} holds "{name}" as {kinds[0]}, which does not fit into the {kinds[1]} of '
                f"this {type(model).__name__}: convert the model first, with "
                f"model.to(torch.{kinds[0]}), or build it as it was trained."
            )


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in 16 bits. Raises ValueError when one is too large for them."""
    halved = {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()}
    for name, values in halved.items():
        lost = values.isinf() & tensors[name].isfinite()
        if bool(lost.any()):
            value = tensors[name][lost].flatten()[0].item()
            raise ValueError(
                f'"{name}" holds {value:,.6g}, and numbers of 16 bits end at 65,504: save with '
                "half=False. Nothing was written."
            )
    return halved


# --- Models that know themselves


class Model(NamedTuple):
    """A trained model, and what is needed to build it again.

    name: that of its file, as in "dual_encoder"; sizes: the arguments of its class; words: what it
    reads or writes; half: numbers of 16 bits, of which three digits are kept, are enough, and the
    file is half as large.
    """

    name: str
    model: nn.Module
    sizes: dict[str, int]
    words: Words
    half: bool = True


def save(one: Model, seed: int, command: str, out: str | Path = WEIGHTS) -> Path:
    """Writes a trained model of the course with all that `load` needs; returns the file.

    command: that which trains it. Raises OSError as `save_weights`.
    """
    tensors = one.model.state_dict()
    tensors = _halved(tensors) if one.half else tensors
    kind = type(one.model)
    facts = {
        "name": one.name,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "sizes": json.dumps(one.sizes),
        "words": json.dumps(_plain(one.words), ensure_ascii=False),
        "seed": str(seed),
        "command": command,
        "data": datasets.fingerprint(),
    }
    path = Path(out) / f"{one.name}_{seed}.safetensors"
    save_tensors(tensors, path, facts | {"checksum": checksum(facts, tensors)})
    return path


def load(name: str, seed: int = 0, folder: str | Path = WEIGHTS) -> tuple[nn.Module, Words]:
    """A model that was trained with this seed, in evaluation mode, and its vocabulary.

    name: "image_reader", "message_reader" (one seed, 0), "captioner",
    "attention_decoder", "dual_encoder", "answerers", "summariser", "recogniser", "translator",
    "one_model" (seeds 0, 1, 2). The vocabulary is None for a model without words, and for one with
    several lists of words a tuple of them.

    Raises FileNotFoundError when there is no such model or seed; ValueError when the file is
    damaged, was changed after it was written, or is of another model, seed, class or size: the
    sentence says what differs.
    """
    path = Path(folder) / f"{name}_{seed}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no stored model "{name}" of seed {seed} in {folder}. '
            f"There are: {', '.join(sorted(_names(folder))) or 'none'}. `mbm-lab weights` trains "
            "them."
        )
    tensors, said = read_tensors(path)
    facts = _facts(said, path)
    for what, wanted in (("name", name), ("seed", str(seed))):
        if facts[what] != wanted:
            raise ValueError(
                f"{path} holds another model: its {what} is {facts[what]}, not {wanted}. Give the "
                "file its own name back, or train it anew with `mbm-lab weights`."
            )
    if facts.pop("checksum") != checksum(facts, tensors):
        raise ValueError(
            f"{path} was changed after it was written: its words, sizes or weights are not those "
            f"of its checksum. Replace it by a whole copy, or make it anew: {facts['command']}."
        )
    with seeded(seed):  # the first weights, which are replaced, cost the caller no random number
        model = _build(path, facts["class"], json.loads(facts["sizes"]))
    check_fit(model, tensors, path)
    model.load_state_dict(tensors)
    return model.eval(), _lively(json.loads(facts["words"]))


def described(path: str | Path) -> dict[str, str]:
    """What a stored model's file says of it: name, class, sizes, words, seed, command, data and
    checksum. Raises FileNotFoundError without the file, ValueError when it does not say all of it.
    """
    return _facts(read_tensors(Path(path))[1], Path(path))


def _facts(said: dict[str, str], path: Path) -> dict[str, str]:
    wanted = ("name", "class", "sizes", "words", "seed", "command", "data", "checksum")
    missing = [what for what in wanted if what not in said]
    if missing:
        raise ValueError(
            f"{path} does not say its {missing[0]}, so it is no stored model of the course: load "
            "its weights with stored.load_weights into the model that they belong to."
        )
    return {what: said[what] for what in wanted}


def _build(path: Path, kind: str, sizes: dict) -> nn.Module:
    """The untrained model. Only a network of the course itself is ever made."""
    module, _, name = kind.rpartition(".")
    found = None
    if module.startswith("mbm_lab."):
        with contextlib.suppress(ModuleNotFoundError):
            found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise ValueError(
            f"{path} says that it is a {kind}, which is no network of this course: update the "
            "course, or train the model anew with `mbm-lab weights`."
        )
    try:
        return found(**sizes)
    except TypeError as error:
        raise ValueError(
            f"{path} was made for a {name} of the sizes {sizes}, which this course's {name} does "
            "not take: train it anew with `mbm-lab weights`."
        ) from error


def _names(folder: str | Path) -> set[str]:
    return {path.stem for path in Path(folder).glob("*.safetensors")}


def _plain(words: Words) -> list | None:
    """Words as JSON can hold them: null, one list, or a list of lists."""
    if isinstance(words, Vocabulary):
        return words.words
    return [_plain(one) for one in words] if isinstance(words, tuple) else words


def _lively(words: list | None) -> Words:
    """The reverse of `_plain`: a list that begins with the special words is a vocabulary."""
    if words and isinstance(words[0], list):
        return tuple(_lively(one) for one in words)
    special = list(SPECIAL_WORDS)
    return Vocabulary(words) if words and words[: len(special)] == special else words


def checksum(facts: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that is said and of every weight."""
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())
    for name, values in sorted(tensors.items()):
        values = values.detach().cpu().clone(memory_format=torch.contiguous_format)
        sha.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        sha.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


# --- All models of a lesson


def retrain(
    lesson: str,
    out: str | Path = WEIGHTS,
    seeds: Sequence[int] = SEEDS,
    epochs: int | None = None,
) -> Iterator[Path]:
    """Trains the models of a lesson ("06") anew, and gives each file when it is written.

    epochs: fewer (or more) than the lesson's own recipe. Lesson 00 has one seed, 0.
    Raises ValueError for a lesson without stored models, OSError as `save`.
    """
    check_lesson(lesson)
    atomic.make_folder(out)
    shorter = {} if epochs is None else {"epochs": epochs}
    for seed in seeds[:1] if lesson == "00" else seeds:
        for module in _modules(lesson):
            for one in module.retrain(seed, **shorter):
                yield save(one, seed, f"mbm-lab weights {lesson}", out)


def check_lesson(lesson: str) -> None:
    """Raises ValueError for a lesson that has no stored models."""
    if lesson not in LESSONS:
        raise ValueError(
            f"Lesson {rows.shown(lesson) or 'without a number'} has no stored models: the lessons "
            f"{', '.join(LESSONS)} have; name one of these."
        )


def exam(lesson: str, seed: int) -> list[Result]:
    """What the stored models of this seed reach on test cards: all results of a lesson ("06")."""
    return [result for module in _modules(lesson) for result in module.exam(seed)]


def _modules(lesson: str) -> list:
    return [importlib.import_module(f"mbm_lab.{name}") for name in LESSONS[lesson]]


class Result(NamedTuple):
    """What was measured, its value, and the bound that it should keep: at_least or at_most.

    The bound says which direction is better, too. Where there is no bound, it is infinite:
    at_most=math.inf for an error rate that may be anything, and at_least=-math.inf, or nothing, for
    a share of right answers.

    A lesson's main results also have a baseline, the best that something cheap reaches on the same
    cards, with its name, the rival; and a limit, which nobody can pass on these cards. A result
    that passes its limit does not hold: then the limit is wrong, or something leaks.
    """

    what: str
    value: float
    at_least: float = -math.inf
    at_most: float | None = None
    baseline: float | None = None
    rival: str = ""
    limit: float | None = None

    @property
    def less_is_better(self) -> bool:
        """Whether it is something, as an error rate, of which less is better."""
        return self.at_most is not None

    @property
    def holds(self) -> bool:
        """Whether the value keeps its bound, and its limit."""
        if self.less_is_better:
            return self.value <= self.at_most and (self.limit is None or self.value >= self.limit)
        return self.value >= self.at_least and (self.limit is None or self.value <= self.limit)

    @property
    def wanted(self) -> str:
        """The bound in words: ">= 0.90", "<= 0.05", or "" for none."""
        bound = self.at_most if self.less_is_better else self.at_least
        sign = "<=" if self.less_is_better else ">="
        return f"{sign} {bound:.2f}" if math.isfinite(bound) else ""


def worst(runs: Sequence[Sequence[Result]]) -> list[Result]:
    """Of each result the worst of several runs: the least, or where less is better the largest.

    runs: one list of results a seed, all of the same things. Raises ValueError otherwise.
    """
    if not runs:
        raise ValueError(f"worst compares runs, and got {runs!r}: pass one list of results a seed.")
    kinds = [[(one.what, one.at_least, one.at_most) for one in run] for run in runs]
    for number, kind in enumerate(kinds, 1):
        if kind != kinds[0]:
            raise ValueError(
                "worst compares runs of the same results, in the same order, and run "
                f"{number} has others than run 1: pass what one function gave for several seeds."
            )
    return [
        (max if row[0].less_is_better else min)(row, key=lambda one: one.value)
        for row in zip(*runs, strict=True)
    ]
