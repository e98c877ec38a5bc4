"""The folder from which an interrupted training goes on (lesson 05): see `training.fit`."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mbm_lab import atomic, identity, stored, workers
from mbm_lab.device import device_of


@dataclass
class History:
    """What happened in training, epoch by epoch.

    best_epoch: the epoch (counted from 0) with the lowest validation loss; -1 without validation.
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


STATE = "state.pt"
FORM = 2
"""Which form of checkpoint this is; 1 had no checksum."""

FORMER = {"recipe", "history", "optimizer", "schedule", "generator", "torch", "cuda"}
"""What a state of the first form held."""

OF_A_RUN = re.compile(r"(last|best)_epoch_(\d{4,})\.safetensors")
"""The names of a run's weights."""


@dataclass
class Checkpoint:
    """A run's folder: weights as safetensors, everything else in state.pt.

    recipe: all that decides the run's bits, in words (see `identity`); a run with another one is
    not this run. loaders: those of which the run takes its batches, if any.

    Before its first epoch a run writes state.pt, with the weights that it begins with. Each epoch
    writes its weights under a new name, then state.pt, which says which files count and what is in
    them (SHA-256), and only then removes the old weights. So a run that is killed at any moment
    leaves a whole checkpoint, and no flipped bit passes. A file is the run's own when it says so
    itself, in its metadata: run and name. No other is ever changed or removed.
    """

    folder: Path
    recipe: identity.Words
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    scaler: torch.amp.GradScaler | None
    generator: torch.Generator
    numbers: workers.Numbers
    loss: Callable
    loaders: tuple[DataLoader, ...] = ()

    def __post_init__(self) -> None:
        self.recipe = json.loads(json.dumps(identity.plain(self.recipe)))
        self.run = secrets.token_hex(8)
        self.files: dict[str, str] = {}  # name: SHA-256, of the weights that count now
        self.probe: dict[str, Any] = {}  # two examples, and what was said of them
        self.changing: set[str] = set()  # what in the recipe training itself changes

    # --- Beginning

    def begin(self, example: tuple[Any, Any] | None = None) -> None:
        """Begins a run in a folder that holds none. Of several processes the first one writes.

        example: inputs and targets as the model will see them, for a probe, where it is known.
        Raises FileExistsError when the folder holds a checkpoint of at least one epoch, or weights
        of a run whose state.pt is gone; OSError when it cannot be written.
        """
        drawn = self.numbers.state()
        workers.first_does(lambda: self._begin(example, drawn))

    def _begin(self, example: tuple[Any, Any] | None, drawn: dict[str, Any]) -> None:
        if atomic.is_there(self.folder / STATE):
            self._take_over_a_run_of_no_epochs()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Could not make the folder {self.folder}: choose one that you may write to."
            ) from error
        remains = [path.name for path, _ in self._weights() if not self._is_own(path)]
        if remains:
            raise FileExistsError(
                f"{self.folder} holds {_listed(remains)}, weights of a run whose {STATE} is gone, "
                "and nothing of them is overwritten: name another folder, or move them away."
            )
        if example is not None:
            self._set_probe(*example)
        self._save(History(), None, self.model.state_dict(), drawn)
        self._remove_remains([], 0)

    def _take_over_a_run_of_no_epochs(self) -> None:
        """Nothing is lost when a run begins anew that was cut off before its first epoch ended."""
        with contextlib.suppress(ValueError, OSError):
            state = self._read()
            if not json.loads(state["history"])["train_loss"]:
                new, self.run = self.run, state["run"]
                for name in self._names(History([0.0], best_epoch=0)):
                    self._remove(name)
                self.run = new
                return
        raise FileExistsError(
            f"{self.folder} already holds a checkpoint: pass resume=True to go on with that "
            "run, or name another folder."
        )

    # --- Saving

    def watched(self, batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The same batches; the first two examples of the run become its probe."""
        for x, y in batches:
            if not self.probe:
                self._set_probe(x, y)
            yield x, y

    def _set_probe(self, inputs: Any, targets: Any) -> None:
        self.probe = {"inputs": identity.two(inputs), "targets": identity.two(targets)}

    def _look(self) -> dict[str, Any]:
        """The probe, and what the model says of it now; what the loss is stays as it was first."""
        if not self.probe:
            return {}
        said = identity.outputs(self.model, self.probe["inputs"])
        self.probe |= {"outputs": said, "device": device_of(self.model).type}
        if said is not None and self.probe.get("losses") is None:
            self.probe["said"] = said
            self.probe["losses"] = self._losses()
        return self.probe

    def _losses(self) -> Any:
        here = device_of(self.model)
        return identity.losses(self.loss, self.probe["said"], self.probe["targets"], here)

    def save(
        self, history: History, best: dict[str, Tensor] | None, last: dict[str, Tensor]
    ) -> None:
        """Writes the state after an epoch; last and best: the weights now, and of the best epoch.
        Of several processes the first one writes, and all must call.

        Raises FileExistsError when a file of someone else has a name that is needed, OSError when
        it cannot be written; the last checkpoint is then still whole.
        """
        drawn = self.numbers.state()
        workers.first_does(lambda: self._save(history, best, last, drawn))

    def _save(
        self,
        history: History,
        best: dict[str, Tensor] | None,
        last: dict[str, Tensor],
        drawn: dict[str, Any],
    ) -> None:
        begun = len(history.train_loss) > 0
        files = {}
        for name, tensors in zip(self._names(history), (last, best), strict=True):
            if begun and tensors is not None:
                known = self.files.get(name) if (self.folder / name).is_file() else None
                files[name] = known or self._write(name, tensors)
        replaced = [name for name in self.files if name not in files]
        if len(history.train_loss) == 1:  # what an epoch changes, such as a counter, is no recipe
            now = self.recipe | identity.of_model(self.model)
            self.changing |= {name for name in now if now[name] != self.recipe.get(name)}
        state = {
            "form": FORM,
            "run": self.run,
            "recipe": json.dumps(self.recipe),
            "changing": sorted(self.changing),
            "history": json.dumps(asdict(history)),
            "weights": None if begun else identity.to_cpu(dict(last)),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "generator": self.generator.get_state(),
            "loaders": [one.get_state() for one in self._generators()],
            **drawn,
            "probe": identity.to_cpu(self._look()),
            "files": files,
            "replaced": replaced,
        }
        state = self._keepable(state)
        state["checksum"] = identity.digest(state)
        atomic.write_whole(self.folder / STATE, lambda part: torch.save(state, part))
        self.files = files
        for name in replaced:
            self._remove(name)

    def _keepable(self, value: Any) -> Any:
        """The same, of what can be read again without running a program: numpy's numbers become
        Python's. Raises ValueError when an optimizer or a schedule holds something else."""
        if isinstance(value, dict):
            return {self._keepable(name): self._keepable(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._keepable, value))
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, Tensor | bool | int | float | str):
            return value
        raise ValueError(
            f"The state of this {type(self.optimizer).__name__} holds a {type(value).__name__}, "
            "which no checkpoint can keep: train without checkpoint=, or use an optimizer whose "
            "options are numbers."
        )

    def _write(self, name: str, tensors: dict[str, Tensor]) -> str:
        path = self.folder / name
        if atomic.is_there(path) and not self._is_own(path):
            raise FileExistsError(_foreign(path))
        return stored.save_tensors(tensors, path, {"run": self.run, "file": name})

    def _generators(self) -> list[torch.Generator]:
        """The loaders' own random numbers; most use PyTorch's."""
        found = {}
        for loader in self.loaders:
            batches = getattr(loader, "batch_sampler", None)
            for one in (loader, loader.sampler, batches, getattr(batches, "sampler", None)):
                generator = getattr(one, "generator", None)
                if isinstance(generator, torch.Generator):
                    found[id(generator)] = generator
        return list(found.values())

    # --- Whose file it is

    def _names(self, history: History) -> tuple[str, str]:
        last, best = len(history.train_loss), history.best_epoch + 1
        return f"last_epoch_{last:04}.safetensors", f"best_epoch_{best:04}.safetensors"

    def _weights(self) -> list[tuple[Path, int]]:
        """Whatever in the folder has the name of a run's weights, and of which epoch."""
        try:
            paths = sorted(self.folder.iterdir())
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be read: choose a folder that you may read and write."
            ) from error
        found = [(path, OF_A_RUN.fullmatch(path.name)) for path in paths]
        return [(path, int(match[2])) for path, match in found if match]

    def _is_own(self, path: Path) -> bool:
        """Whether a file was written by this run, under this name."""
        if path.is_symlink() or not path.is_file():
            return False
        try:
            said = stored.read_metadata(path)
        except (OSError, ValueError):
            return False
        return (said.get("run"), said.get("file")) == (self.run, path.name)

    def _remove(self, name: str) -> None:
        if self._is_own(self.folder / name):
            with contextlib.suppress(OSError):  # it stays, and nothing refers to it
                (self.folder / name).unlink()

    def _remove_remains(self, names: Iterable[str], done: int) -> None:
        """What kills left: old weights, and files that were not yet whole."""
        for name in names:
            self._remove(name)
        ours = {STATE, *names, *self.files}
        ours |= {f"{kind}_epoch_{done + 1:04}.safetensors" for kind in ("last", "best")}
        for path in self.folder.iterdir():
            cut = re.fullmatch(r"(.+)\.\d+\.part", path.name)
            if cut and cut[1] in ours and path.is_file():
                with contextlib.suppress(OSError):
                    path.unlink()

    # --- Resuming

    def load(self, epochs: int) -> tuple[History, dict[str, Tensor] | None]:
        """Puts the run back where it was: its history, and the weights of its best epoch.

        Everything is checked before anything is changed. Raises FileNotFoundError without a
        checkpoint; ValueError when it is damaged, was made by an older version of the course, or is
        of another model, optimizer, loss, data or recipe; FileExistsError when someone else's file
        has a name that the next epochs need.
        """
        state = self._read()
        history = History(**json.loads(state["history"]))
        done = len(history.train_loss)
        self.run, self.files, self.probe = state["run"], state["files"], state["probe"]
        self.changing = set(state["changing"])
        last_name, best_name = self._names(history)
        last = self._tensors(last_name, state["weights"])
        best = self._tensors(best_name, None) if history.best_epoch >= 0 else None
        self._compare(json.loads(state["recipe"]))
        for path, epoch in self._weights():
            if done < epoch <= epochs and not self._is_own(path):
                raise FileExistsError(_foreign(path))
        with self._put_back_on_error():
            self._put(state, last)
            self._try_probe()
        self._remove_remains(state["replaced"], done)
        return history, best

    def _read(self) -> dict[str, Any]:
        """What state.pt holds, if it is whole."""
        path = self.folder / STATE
        if not os.path.isfile(path):
            weights = [one.name for one, _ in self._weights()] if os.path.isdir(self.folder) else []
            if weights:
                raise FileNotFoundError(
                    f"{path} is missing, so the run cannot go on: put it back, or start anew in "
                    f"another folder. Its weights can still be loaded with stored.load_weights: "
                    f"{_listed(weights)}."
                )
            raise FileNotFoundError(
                f"There is no checkpoint in {self.folder}: check the name, or train without "
                "resume=True first."
            )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            whole = state.pop("checksum", None) == identity.digest(state)
        except PermissionError as error:
            raise OSError(f"You may not read {path}: ask for the right to, or copy it.") from error
        except Exception as error:  # a damaged file can fail in many ways
            raise ValueError(_damaged(path)) from error
        if not whole and set(state) == FORMER:
            raise ValueError(
                f"The checkpoint in {self.folder} was made by an older version of the course, "
                "which kept no checksum: start the run anew in another folder. Its weights can "
                "still be loaded with stored.load_weights."
            )
        if not whole or state.get("form") != FORM:
            raise ValueError(_damaged(path))
        return state

    def _tensors(self, name: str, held: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The weights in a file of the run, or those that state.pt itself holds."""
        path = self.folder / name
        if held is not None:
            stored.check_fit(self.model, held, self.folder / STATE)
            return held
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"The checkpoint in {self.folder} lacks its {name}: put it back, or start the run "
                "anew in another folder."
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise OSError(f"You may not read {path}: ask for the right to, or copy it.") from error
        if hashlib.sha256(data).hexdigest() != self.files.get(name):
            raise ValueError(
                f"{path} is damaged, or not the file that this run wrote: put a whole copy of it "
                "in its place, or start the run anew in another folder."
            )
        tensors = stored.tensors_in(data, path)
        stored.check_fit(self.model, tensors, path)
        return tensors

    def _compare(self, was: identity.Words) -> None:
        now, self.recipe = self.recipe, was
        was, now = identity.AS_USUAL | was, identity.AS_USUAL | now
        was = {name: value for name, value in was.items() if name not in self.changing}
        now = {name: value for name, value in now.items() if name not in self.changing}
        own = any(str(one.get("loss")).startswith(identity.OWN) for one in (was, now))
        if own and self.probe.get("losses") is not None:  # then what it says is compared
            now["loss"] = was.get("loss")
        found = identity.differs(was, now)
        if found is not None:
            name, old, new = found
            raise ValueError(
                f"The checkpoint in {self.folder} is of another run: its {name} is {old}, not "
                f"{new}. Resume with what the run began with."
            )

    def _put(self, state: dict[str, Any], last: dict[str, Tensor]) -> None:
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
            if self.scaler is not None:
                self.scaler.load_state_dict(state["scaler"])
        except Exception as error:
            raise ValueError(
                f"The checkpoint in {self.folder} is of another optimizer: resume with the one "
                "that the run began with."
            ) from error
        self.model.load_state_dict(last)
        self.generator.set_state(state["generator"])
        own = self._generators()
        if len(own) != len(state["loaders"]):
            raise ValueError(
                f"The checkpoint in {self.folder} is of another run: its DataLoaders had "
                f"{len(state['loaders'])} generators of their own, not {len(own)}. Resume with "
                "what the run began with."
            )
        for generator, saved in zip(own, state["loaders"], strict=True):
            generator.set_state(saved)
        self.numbers.put_back(state)

    def _try_probe(self) -> None:
        """Whether the model, with the run's weights, and the loss say what they said before."""
        probe = self.probe
        exact = probe.get("device") == device_of(self.model).type == "cpu"
        tolerance = 1e-4 if exact else 1e-2
        if probe.get("outputs") is not None:
            said = identity.outputs(self.model, probe["inputs"])
            if not identity.alike(probe["outputs"], said, tolerance):
                raise ValueError(
                    f"The checkpoint in {self.folder} is of another model: with the run's weights "
                    f"this {type(self.model).__name__} says something else of the same two "
                    "examples, so what it computes was changed (an activation, say). Resume with "
                    "the model that the run began with."
                )
        if probe.get("losses") is not None:
            value = self._losses()
            pairs = zip(probe["losses"], value or [], strict=False)  # on a GPU there is one
            if not value or not all(
                before is None or identity.alike(before, now, tolerance) for before, now in pairs
            ):
                raise ValueError(
                    f"The checkpoint in {self.folder} is of another loss: of the same two examples "
                    f"it was {_number(probe['losses'])} and is {_number(value)}. Resume with the "
                    "loss that the run began with."
                )

    @contextlib.contextmanager
    def _put_back_on_error(self) -> Iterator[None]:
        """Whatever fails in the block, everything is as it was before."""
        weights = copy.deepcopy(self.model.state_dict())
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        schedule = copy.deepcopy(self.schedule.state_dict()) if self.schedule else None
        scaler = copy.deepcopy(self.scaler.state_dict()) if self.scaler else None
        generators = [(one, one.get_state()) for one in (self.generator, *self._generators())]
        random = torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        try:
            yield
        except BaseException:
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(optimizer)
            if schedule is not None:
                self.schedule.load_state_dict(schedule)
            if scaler is not None:
                self.scaler.load_state_dict(scaler)
            for generator, state in generators:
                generator.set_state(state)
            torch.set_rng_state(random)
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)
            raise


def _number(values: list | None) -> str:
    if not values or not isinstance(values[0], Tensor) or values[0].numel() != 1:
        return "no number"
    return f"{values[0].item():.6g}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _damaged(path: Path) -> str:
    return f"{path} is damaged: start the run anew in another folder, or put a whole copy back."


def _foreign(path: Path) -> str:
    return (
        f"{path} was not written by this run, which needs that name, and it is not overwritten: "
        "move it to another folder or give it another name."
    )
