"""spoilt.py: weights that are no numbers are seen, and the last good ones come back."""

import math

import pytest
import torch
from torch import nn

from mbm_lab import training
from mbm_lab.spoilt import LastGood
from tests.small_runs import MSE, PowerCut, cut_after, same, small_model, small_task, train


def fill(model, value, where="0.weight"):
    with torch.no_grad():
        model.state_dict()[where].view(-1)[-1] = value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_number_in_one_tensor_is_seen_and_the_kept_weights_come_back(value):
    model, before = small_model(), small_model()
    good = LastGood(model)
    good.check_loss(0.1, 0.01)
    fill(model, 3.0)
    good.keep(1)
    fill(before, 3.0)
    fill(model, value, "3.bias")
    with pytest.raises(ValueError, match=f'"3.bias" became {value} in epoch 2.*than 0.5 .*epoch 1'):
        good.check_loss(0.1, 0.5)
    assert same(model, before)


def test_a_mask_may_hold_inf_but_no_weight_may_and_nan_is_never_right():
    model = small_model()
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    LastGood(model).check_loss(0.1, 0.01)
    fill(model, math.nan, "mask")
    with pytest.raises(ValueError, match='"mask" holds nan'):
        LastGood(model)
    weight = small_model()
    fill(weight, math.inf)
    with pytest.raises(ValueError, match='"0.weight" holds inf.*Build the model anew'):
        LastGood(weight)
    weight[0].requires_grad_(False)
    LastGood(weight)


def test_the_statistics_of_batch_normalisation_come_back_too():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    x, y = small_task()
    x[99] = math.nan
    with pytest.raises(ValueError, match="hold nan in example 99"):
        training.fit(model, x, y, MSE, progress=False)
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert model[1].num_batches_tracked == 0


def test_an_interruption_leaves_a_model_that_can_be_used():
    """In evaluation mode, with what it learned until then."""
    model = small_model()
    x, y = small_task()
    with pytest.raises(PowerCut):
        training.fit(model, x, y, cut_after(9), batch_size=16, progress=False)
    assert not any(part.training for part in model.modules())
    assert not same(model, small_model())


def test_training_goes_on_at_a_lower_rate():
    model, clean = small_model(), small_model()
    with pytest.raises(ValueError, match="than 1e[+]30 or shorter gradients"):
        train(model, learning_rate=1e30, optimizer=torch.optim.SGD)
    assert train(model).train_loss == train(clean).train_loss


def test_a_batch_that_cannot_be_used_costs_no_more_than_its_epoch():
    """The third epoch brings a batch of another form: what two epochs learned stays."""

    class Odd(torch.utils.data.IterableDataset):
        taken = 0

        def __iter__(self):
            self.taken += 1
            x, y = small_task()
            yield from zip(x, y[:, None] if self.taken == 3 else y, strict=True)

    def learned(epochs: int, data: object) -> nn.Module:
        model = small_model()
        loader = torch.utils.data.DataLoader(data, batch_size=25)
        training.fit(model, loader, loss=MSE, epochs=epochs, progress=False)
        return model

    two = learned(2, Odd())
    model = small_model()
    loader = torch.utils.data.DataLoader(Odd(), batch_size=25)
    with pytest.raises(ValueError, match=r"\(25, 1\).*the model has those of epoch 2 back"):
        training.fit(model, loader, loss=MSE, epochs=5, progress=False)
    assert same(model, two)
