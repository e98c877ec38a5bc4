"""Weights that are no longer numbers, and the last good ones, which come back (lesson 05)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class LastGood:
    """The weights and buffers of the last good epoch of a training, and of before its first one.

    weights: a copy of them; epoch: how many epochs they have seen. Raises ValueError when the
    model's weights are spoilt already. (A frozen weight or a buffer may hold inf, as a mask does;
    NaN is never right.)
    """

    def __init__(self, model: nn.Module, epoch: int = 0) -> None:
        learning = {name for name, one in model.named_parameters() if one.requires_grad}
        spoilt = _not_finite(model)
        self.masks = {
            name
            for name, values in spoilt.items()
            if name not in learning and not bool(values.isnan().any())
        }
        for name, values in spoilt.items():
            if name not in self.masks:
                raise ValueError(
                    f'The weights of this {type(model).__name__} are spoilt: "{name}" holds '
                    f"{_first_bad(values)}, and training cannot mend that. Build the model anew, "
                    "or load good weights into it."
                )
        self.model = model
        self.keep(epoch)

    def keep(self, epoch: int) -> None:
        """These weights are good: they come back if later ones are not."""
        self.epoch = epoch
        self.weights: dict[str, Tensor] = {
            name: one.detach().clone() if isinstance(one, Tensor) else copy.deepcopy(one)
            for name, one in self.model.state_dict().items()
        }

    def check_loss(self, mean: float, learning_rate: float) -> None:
        """After an epoch: raises ValueError when its mean loss, a weight or a buffer is not finite.
        The model then has the last good weights back."""
        rate = f"try a lower learning rate than {learning_rate}"
        if not math.isfinite(mean):
            said = f"The loss became {mean} in epoch {self.epoch + 1}: {rate}"
        else:
            spoilt = [name for name in _not_finite(self.model) if name not in self.masks]
            if not spoilt:
                return
            bad = _first_bad(self.model.state_dict()[spoilt[0]])
            said = f'The weights "{spoilt[0]}" became {bad} in epoch {self.epoch + 1}: {rate}'
        raise ValueError(
            f"{said} or shorter gradients (clip_norm=1), and check that the inputs hold no NaN. "
            f"{self._put_back()}"
        )

    def check_validation(self, value: float, train: float) -> None:
        """Raises ValueError when the validation loss is not finite, though that of training is.
        The model then has the last good weights back."""
        if not math.isfinite(value):
            raise ValueError(
                f"The validation loss became {value} in epoch {self.epoch + 1}, though the loss of "
                f"training was {train:.4g}: check that the validation inputs and targets hold no "
                f"NaN or inf. {self._put_back()}"
            )

    def given_up(self, error: ValueError) -> ValueError:
        """An error for an epoch that cannot be ended, as when a batch is of another form. The model
        then has the last good weights back."""
        return ValueError(f"{error} {self._put_back()}")

    def _put_back(self) -> str:
        self.model.load_state_dict(self.weights)
        for parameter in self.model.parameters():
            parameter.grad = None
        back = f"those of epoch {self.epoch}" if self.epoch else "those before training"
        return f"The weights of this epoch were given up: the model has {back} back."


def _not_finite(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of which a number is NaN or inf."""
    values = {
        name: one.detach()
        for name, one in model.state_dict().items()
        if isinstance(one, Tensor) and (one.is_floating_point() or one.is_complex())
        if one.device.type != "meta"
    }
    if not values or bool(torch.stack([v.isfinite().all() for v in values.values()]).all()):
        return {}  # one look at a graphics card is enough for a sound model
    return {name: one for name, one in values.items() if not bool(one.isfinite().all())}


def _first_bad(values: Tensor) -> str:
    return "nan" if bool(values.isnan().any()) else "inf"
