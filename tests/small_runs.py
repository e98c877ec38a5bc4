"""A small model, a small task and a power cut, for the tests of training and its checkpoints."""

import torch
from torch import nn

from mbm_lab import training

MSE = nn.functional.mse_loss


def small_model(seed: int = 0, hidden: int = 8) -> nn.Module:
    """Three numbers to one; with dropout, so that the random state matters."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, 1), nn.Flatten(0)
    )


def small_task(n: int = 100, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(n, generator=generator)


def train(model, **options):
    x, y = small_task()
    options = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "progress": False, **options}
    return training.fit(model, x, y, MSE, val=small_task(50, 1), **options)


def same(model: nn.Module, other: nn.Module) -> bool:
    """Whether all weights and buffers are the same, bit for bit."""
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


class PowerCut(Exception):
    """Ends a run in the middle."""


def cut_after(batches: int):
    """A loss that fails after so many calls."""
    calls = iter(range(batches))

    def loss(output, target):
        if next(calls, None) is None:
            raise PowerCut
        return MSE(output, target)

    return loss


def contents(folder) -> dict[str, bytes]:
    """What the files of a folder hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
