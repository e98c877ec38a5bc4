"""The folder from which an interrupted training goes on (lesson 05): see `training.fit`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mbm_lab import atomic, stored


@dataclass
class History:
    """What happened in training, epoch by epoch.

    best_epoch: the epoch (counted from 0) with the lowest validation loss; -1 without validation.
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


@dataclass
class Checkpoint:
    """A run's folder: weights as safetensors, everything else in state.pt.

    Each epoch writes its weights under a new name, then state.pt, which says which epoch counts,
    and only then removes the old weights. So a run that is killed at any moment leaves a whole
    checkpoint.
    """

    folder: Path
    recipe: dict
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    generator: torch.Generator

    def refuse_to_overwrite(self) -> None:
        """Raises FileExistsError when the folder holds a checkpoint already."""
        if (self.folder / "state.pt").exists():
            raise FileExistsError(
                f"{self.folder} already holds a checkpoint: pass resume=True to go on with that "
                "run, or name another folder."
            )

    def save(self, history: History, best: dict[str, Tensor] | None) -> None:
        """Writes the state after an epoch; best: the weights of the best epoch so far.

        Raises OSError when it cannot be written; the last checkpoint is then still whole.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Could not make the folder {self.folder}: choose one that you may write to."
            ) from error
        last_file, best_file = self._files(history)
        stored.save_tensors(self.model.state_dict(), last_file)
        if best is not None and not best_file.exists():
            stored.save_tensors(best, best_file)
        state = {
            "recipe": json.dumps(self.recipe),
            "history": json.dumps(asdict(history)),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        atomic.write_whole(self.folder / "state.pt", lambda part: torch.save(state, part))
        for old in self.folder.glob("*_epoch_*.safetensors"):
            if old not in (last_file, best_file):
                old.unlink()

    def load(self) -> tuple[History, dict[str, Tensor] | None]:
        """Puts the run back where it was: its history, and the weights of its best epoch.

        Raises FileNotFoundError without a checkpoint, ValueError when it is damaged or of another
        model, optimizer or recipe.
        """
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
        last = stored.load_tensors(self.model, last_file)
        best = stored.load_tensors(self.model, best_file) if history.best_epoch >= 0 else None
        try:
            self.optimizer.load_state_dict(state["optimizer"])
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
