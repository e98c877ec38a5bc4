"""identity.py: what decides a run's bits, in words that are the same in every session."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mbm_lab import identity
from tests.small_runs import MSE, small_model, small_task


def test_two_models_of_the_same_making_have_the_same_words():
    assert identity.of_model(small_model(0)) == identity.of_model(small_model(7))
    assert "0x" not in str(identity.of_model(nn.ModuleDict({"f": small_model()})))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: 1.5, lambda: 2.5),
        (lambda x: F.relu(x), lambda x: F.gelu(x)),
        (functools.partial(MSE, reduction="sum"), MSE),
        (nn.HuberLoss(delta=1.0), nn.HuberLoss(delta=2.0)),
        (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.arange(3.0))),
    ],
)
def test_functions_that_do_something_else_have_other_names(one, other):
    assert identity.named(one) != identity.named(other)
    assert "0x" not in identity.named(one)


def test_a_comment_or_the_name_of_a_variable_changes_nothing():
    def one():
        def f(x):
            """Doubles."""
            y = 2 * x
            return y

        return f

    def other():
        def f(x):
            """Twice as much."""
            # said differently
            twice = 2 * x
            return twice

        return f

    names = {identity.named(make()).split(".")[-1] for make in (one, other)}
    assert len(names) == 1


def test_another_python_cannot_compare_code():
    was = {"augment": "move (code 11112222 of Python 3.10)"}
    assert not identity.differs(was, {"augment": "move (code 33334444 of Python 3.13)"})
    assert identity.differs(was, {"augment": "turn (code 33334444 of Python 3.13)"})
    assert identity.differs(was, {"augment": "move (code 33334444 of Python 3.10)"})
    assert identity.differs(was, {}) == ("augment", was["augment"], "none")


def test_every_number_of_the_data_counts_and_its_layout_does_not():
    x, y = small_task()
    words = identity.of_training_data({"image": x}, y, None)
    assert words == identity.of_training_data({"image": x.t().contiguous().t()}, y, None)
    for row in (0, 50, 99):
        changed = x.clone()
        changed[row, 2] += 1e-6
        assert words != identity.of_training_data({"image": changed}, y, None)
    assert words != identity.of_training_data({"image": x.double()}, y, None)
    assert words != identity.of_training_data({"picture": x}, y, None)
    assert words != identity.of_training_data({"image": x}, y, (x, y))


def test_a_digest_tells_kinds_and_places_apart():
    different = [
        None, 0, 0.0, False, "0", [0], (0,), {0: 0}, {"0": 0}, [[0], []], [[], [0]],
        torch.zeros(2), torch.zeros(1, 2), torch.zeros(2).double(), torch.zeros(2).int(),
        torch.tensor(-0.0), torch.tensor(0.0), torch.zeros(0),
    ]  # fmt: skip
    assert len({identity.digest(one) for one in different}) == len(different)
    assert identity.digest({"a": torch.ones(3)}) == identity.digest({"a": torch.ones(3)})


class Restless(nn.Module):
    """Draws from everywhere, counts, notes, and moves its own mean, even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.calls, self.log, self.seen = 0, [], None
        self.register_buffer("mean", torch.zeros(()))
        self.drop = nn.Dropout()

    def forward(self, x):
        self.calls += 1
        self.log.append(self.training)
        self.seen = x
        self.mean += x.mean()
        self.kept = self.drop(x + torch.rand(()) + random.random() + np.random.rand())
        return self.kept


def test_a_probe_changes_nothing_and_says_the_same_each_time():
    model = Restless()
    model.drop.eval()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    x = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    first, second = identity.outputs(model, x), identity.outputs(model, x)
    assert torch.equal(first, second)
    assert (model.calls, model.log, model.seen, float(model.mean)) == (0, [], None, 0)
    assert (model.training, model.drop.training) == (True, False)
    assert not hasattr(model, "kept")
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_what_cannot_be_tried_is_left_out():
    assert identity.outputs(small_model(), torch.rand(2, 5)) is None
    assert identity.outputs(small_model(), None) is None
    assert identity.losses(lambda o, t: 1 / 0, torch.rand(2), None, torch.device("cpu")) is None


def test_alike_allows_rounding_and_nothing_else():
    x = torch.tensor([1.0, -100.0, float("nan")])
    assert identity.alike([x, {"a": x}], [x * (1 + 1e-6), {"a": x}])
    assert not identity.alike(x, x * 1.01)
    assert not identity.alike(x, x[:2])
    assert not identity.alike(x, None)
    assert not identity.alike(torch.arange(3), torch.arange(3) + 1)
