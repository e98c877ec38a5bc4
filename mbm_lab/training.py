"""Training a model, any model: one readable loop, checkpoints, weights in files (lesson 05)."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from mbm_lab.device import pick_device

Inputs = Tensor | dict[str, Tensor]
"""What a model reads: a tensor, or one for each modality; the first dimension counts examples."""


@dataclass
class History:
    """What happened in training, epoch by epoch.

    best_epoch: the epoch (counted from 0) with the lowest validation loss; -1 without validation.
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


def r_squared(prediction: Tensor, target: Tensor) -> float:
    """R²: the share of the target's variance that the prediction explains. Lessons 02 to 05.

    R² = 1 - Σ(target - prediction)² / Σ(target - mean)²: 1 is perfect, 0 is the mean, and worse
    than the mean is below 0.

    Raises ValueError when the two tensors differ in shape.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"r_squared needs two tensors of one shape and got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    residual = (target - prediction).square().sum()
    return float(1 - residual / (target - target.mean()).square().sum())


def take(inputs: Inputs, index: Tensor) -> Inputs:
    """The examples at `index`, whether the inputs are one tensor or one a modality."""
    if isinstance(inputs, dict):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Moves the inputs, one tensor or one a modality."""
    if isinstance(inputs, dict):
        return {name: values.to(device) for name, values in inputs.items()}
    return inputs.to(device)


def _check_lengths(inputs: Inputs, targets: Tensor, what: str = "targets") -> None:
    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    for name, values in named.items():
        if len(values) != len(targets):
            raise ValueError(
                f"{name} has {len(values)} examples and the {what} have {len(targets)}: "
                "they must match."
            )
    if len(targets) == 0:
        raise ValueError(f"There is nothing to train on: the {what} are empty.")


@torch.no_grad()
def predict(
    model: nn.Module, inputs: Inputs, batch_size: int = 256, device: torch.device | None = None
) -> Tensor:
    """The model's outputs for all inputs, in evaluation mode: (N, …) on the CPU. Lessons 02 to 05.

    No gradients are kept, and the model goes back to the mode (training or not) that it was in.
    """
    device = device or pick_device()
    was_training = model.training
    model.to(device).eval()
    size = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    batches = torch.arange(size).split(batch_size)
    try:
        outputs = [model(to_device(take(inputs, index), device)).cpu() for index in batches]
    finally:
        model.train(was_training)
    return torch.cat(outputs)


def fit(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    val: tuple[Inputs, Tensor] | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    one_cycle: bool = False,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    augment: Callable[[Inputs, torch.Generator], Inputs] | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Trains a model by mini-batch gradient descent and returns what happened. Lesson 05.

    inputs: one tensor, or one a modality, (N, …); targets: (N, …); loss(output, target): a number.
    val: inputs and targets on which the loss is measured after each epoch.
    one_cycle: the learning rate climbs to `learning_rate` and falls back (Smith, 2018), instead
        of being constant.
    optimizer: called with the parameters and lr; Adam (Kingma and Ba, 2015) unless you say else.
    augment: changes a batch's inputs before the model sees them.
    patience: stop after so many epochs without a better validation loss; the model gets the best
        epoch's weights back (Prechelt, 1998).
    checkpoint: a folder that receives the whole state after each epoch. With resume=True training
        goes on from there, to the same bits as if it had never stopped.
    seed: decides the order of the cards, and every other draw (dropout, augmentation).

    Raises ValueError when sizes do not match, when `patience` has no `val`, when the loss is no
    longer a finite number, and when the checkpoint is damaged or of another model or run;
    FileExistsError when the folder already holds a checkpoint and resume is False;
    FileNotFoundError when there is none to resume; OSError when it cannot be written.
    """
    _check_lengths(inputs, targets)
    if val is not None:
        _check_lengths(*val, what="validation targets")
    if patience is not None and val is None:
        raise ValueError(
            "Early stopping needs validation data: pass val=(inputs, targets) along with patience."
        )
    if resume and checkpoint is None:
        raise ValueError("To resume, say from where: pass checkpoint=FOLDER with resume=True.")

    device = device or pick_device()
    model.to(device).train()
    inputs, targets = to_device(inputs, device), targets.to(device)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(targets) / batch_size) * epochs
    optimiser = optimizer(model.parameters(), lr=learning_rate)
    schedule = None
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, steps)
    history, best = History(), None
    if checkpoint is not None:
        recipe = {"cards": len(targets), "batch_size": batch_size, "learning_rate": learning_rate,
                  "seed": seed, "steps": steps if one_cycle else None}  # fmt: skip
        files = _Checkpoint(Path(checkpoint), recipe, model, optimiser, schedule, generator)
        if resume:
            history, best = files.load()
        else:
            files.refuse_to_overwrite()
    start = time.perf_counter() - history.seconds

    bar = tqdm(range(len(history.train_loss), epochs), "epochs", disable=not progress, leave=False)
    for epoch in bar:
        if patience is not None and epoch - history.best_epoch > patience:
            break
        total = torch.zeros((), device=device)
        for index in torch.randperm(len(targets), generator=generator).split(batch_size):
            x, y = take(inputs, index), targets[index]
            if augment is not None:
                x = augment(x, generator)
            value = loss(model(x), y)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
            total += value.detach() * len(index)
        history.train_loss.append(total.item() / len(targets))
        if not math.isfinite(history.train_loss[-1]):
            raise ValueError(
                f"The loss became {history.train_loss[-1]} in epoch {epoch + 1}: try a lower "
                f"learning rate than {learning_rate}, and check that the inputs hold no NaN."
            )
        if val is not None:
            output = predict(model, val[0], device=device)
            history.val_loss.append(float(loss(output, val[1].cpu())))
            if history.val_loss[-1] <= min(history.val_loss):
                history.best_epoch = epoch
                best = copy.deepcopy(model.state_dict())
        bar.set_postfix(loss=f"{history.train_loss[-1]:.4f}")
        history.seconds = time.perf_counter() - start
        if checkpoint is not None:
            files.save(history, best)
    bar.close()
    if patience is not None and best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


# --- Results

Figure = tuple[str, float, str]
"""What was measured, its value, and what it should be: ">= 0.90", "<= 0.05", or "" for no bound."""


def worst(runs: Sequence[Sequence[Figure]]) -> list[Figure]:
    """For each figure the worst value of several runs: the least, or the largest where "<=" is
    asked. Lesson 06.

    runs: one list of figures a seed, all of the same figures. Raises ValueError otherwise.
    """
    if not runs or any([row[::2] for row in run] != [row[::2] for row in runs[0]] for run in runs):
        raise ValueError("worst compares runs of the same figures, in the same order.")
    choose = [max if wanted.startswith("<=") else min for _, _, wanted in runs[0]]
    return [
        (rows[0][0], pick(value for _, value, _ in rows), rows[0][2])
        for pick, rows in zip(choose, zip(*runs, strict=True), strict=True)
    ]


def holds(value: float, wanted: str) -> bool:
    """Whether a figure is as it should be: `wanted` as in Figure."""
    if not wanted:
        return True
    sign, bound = wanted.split()
    return value >= float(bound) if sign == ">=" else value <= float(bound)


# --- Files


def save_weights(model: nn.Module, path: str | Path, half: bool = False) -> None:
    """Saves a model's weights as safetensors; an old file gives way only to a whole new one.

    half: write numbers of 16 bits, which makes the file half as large; three digits are kept, and
    `load_weights` turns them into the model's own kind again.
    Raises OSError with one sentence when the folder is missing, read-only or full. Lesson 05.
    """
    tensors = model.state_dict()
    if half:
        tensors = {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()}
    _save_tensors(tensors, Path(path))


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Loads weights that `save_weights` wrote into a model of the same sizes, and returns it.

    Raises FileNotFoundError without the file; ValueError when it is damaged or of another model,
    which then keeps the weights that it had. Lesson 05.
    """
    model.load_state_dict(_load_tensors(model, Path(path)))
    return model


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    tensors = {name: values.detach().cpu().clone().contiguous() for name, values in tensors.items()}
    _write_whole(path, lambda part: save_file(tensors, part))


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside `path` and then takes its place, so that no half-written file is ever there."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OSError(
            f"Could not save to {path}: the folder is missing, read-only or full. Choose another "
            "folder or make room; what was there before is untouched."
        ) from error


def _load_tensors(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors in a file, after a check that they are those of this model."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no weights at {path}: check the name, or train and save them first."
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or not a safetensors file: replace it by a whole copy."
        ) from error
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        known = name in own and name in weights
        if not known or own[name].shape != weights[name].shape:
            raise ValueError(
                f"{path} holds the weights of another model than this {type(model).__name__}: "
                f'they differ at "{name}". Build the model with the sizes that it was trained with.'
            )
    return weights


@dataclass
class _Checkpoint:
    """The folder from which a run can go on: weights as safetensors, everything else in state.pt.

    Each epoch writes its weights under a new name, then state.pt, which says which epoch counts,
    and only then removes the old weights. So a run that is killed at any moment leaves a whole
    checkpoint.
    """

    folder: Path
    recipe: dict
    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    generator: torch.Generator

    def refuse_to_overwrite(self) -> None:
        if (self.folder / "state.pt").exists():
            raise FileExistsError(
                f"{self.folder} already holds a checkpoint: pass resume=True to go on with that "
                "run, or name another folder."
            )

    def save(self, history: History, best: dict[str, Tensor] | None) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Could not make the folder {self.folder}: choose one that you may write to."
            ) from error
        last_file, best_file = self._files(history)
        save_weights(self.model, last_file)
        if best is not None and not best_file.exists():
            _save_tensors(best, best_file)
        state = {
            "recipe": json.dumps(self.recipe),
            "history": json.dumps(asdict(history)),
            "optimizer": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        _write_whole(self.folder / "state.pt", lambda part: torch.save(state, part))
        for old in self.folder.glob("*_epoch_*.safetensors"):
            if old not in (last_file, best_file):
                old.unlink()

    def load(self) -> tuple[History, dict[str, Tensor] | None]:
        path = self.folder / "state.pt"
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no checkpoint in {self.folder}: check the name, or train without "
                "resume=True first."
            )
        try:
            state = torch.load(path, weights_only=True)
            history = History(**json.loads(state["history"]))
            recipe = json.loads(state["recipe"])
        except Exception as error:  # a damaged file can fail in many ways
            raise ValueError(f"{path} is damaged: start the run anew in another folder.") from error
        for name, value in self.recipe.items():
            if recipe.get(name) != value:
                raise ValueError(
                    f"The checkpoint in {self.folder} is of another run: its {name} is "
                    f"{recipe.get(name)}, not {value}. Resume with what the run began with."
                )
        last_file, best_file = self._files(history)
        last = _load_tensors(self.model, last_file)
        best = _load_tensors(self.model, best_file) if history.best_epoch >= 0 else None
        try:
            self.optimiser.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise ValueError(
                f"The checkpoint in {self.folder} is of another optimizer: resume with the one "
                "that the run began with."
            ) from error
        self.model.load_state_dict(last)
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        return history, best

    def _files(self, history: History) -> tuple[Path, Path]:
        last, best = len(history.train_loss), history.best_epoch + 1
        names = f"last_epoch_{last:04}.safetensors", f"best_epoch_{best:04}.safetensors"
        return self.folder / names[0], self.folder / names[1]


# --- Gradient descent against random search


def search(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    method: str = "gradient",
    steps: int = 200,
    size: float = 0.02,
    seed: int = 0,
) -> float:
    """The least loss on all cards that a method finds in so many looks at the model. Lesson 05.

    method: "gradient" takes steps of Adam; "random" takes a random step of standard deviation
    `size` in all parameters and keeps it if the loss falls (Rastrigin, 1963). Raises ValueError
    otherwise.
    """
    if method not in ("gradient", "random"):
        raise ValueError(f'Unknown method {method!r}: use "gradient" or "random".')
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=size)
    generator = torch.Generator().manual_seed(seed)
    least = math.inf
    for _ in range(steps):
        before = [parameter.detach().clone() for parameter in parameters]
        if method == "random" and least < math.inf:
            with torch.no_grad():
                for parameter in parameters:
                    parameter += size * torch.randn(parameter.shape, generator=generator)
        value = loss(model(inputs), targets)
        if method == "gradient":
            adam.zero_grad()
            value.backward()
            adam.step()
        elif value.item() >= least:
            with torch.no_grad():
                for parameter, old in zip(parameters, before, strict=True):
                    parameter.copy_(old)
        least = min(least, value.item())
    return least
