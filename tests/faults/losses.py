"""Faults in what losses and scores are given."""

from collections.abc import Iterator

import torch

from mbm_lab import training
from tests.faults import Fault


def faults(seed: int) -> Iterator[Fault]:
    column, row = torch.rand(4, 1), torch.rand(4)
    yield Fault("scores", "r_squared of (4, 1) and (4,)",
                lambda _: training.r_squared(column, row), ("(4, 1)", "(4,)"))  # fmt: skip
