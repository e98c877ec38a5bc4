"""What training accepts, and what it says to the rest (lesson 05).

PyTorch says what went wrong inside of it; a learner wants to know what to change. So `training`
looks at what it is given before anything is changed, watches the first batch meet the loss, and,
where PyTorch raises an error whose cause is known, says the cause in one sentence. All other errors
pass as they are, and while all goes well the loop does not wait for any of this.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset


class ArgumentError(ValueError):
    """Something that was given cannot be right: what it is, and what to do. Nothing was changed."""


class MissingModality(ArgumentError, KeyError):  # noqa: N818
    """A model asked its inputs for a modality that they do not have."""

    __str__ = ValueError.__str__


class Modalities(dict):
    """Inputs by modality, which say what is missing when a model asks for another."""

    def __missing__(self, name: object) -> None:
        raise MissingModality(
            f'The model asks for the modality "{name}", and the inputs have '
            f"{' and '.join(map(str, self)) or 'none'}: pass it, or change its name."
        )


# --- In words


def shape(tensor: Tensor) -> str:
    """A tensor's shape as one writes it: "(4, 1)"."""
    return str(tuple(tensor.shape))


def kind(value: object) -> str:
    """What a value is, in words: "None", "a list", "a NumPy array", "the text 'x'"."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Tensor):
        return f"a tensor of shape {shape(value)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    if name == "ndarray":
        return "a NumPy array"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def dtype(tensor: Tensor) -> str:
    """What kind of numbers a tensor holds: "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def as_float(name: str, tensor: Tensor) -> str:
    """How to make float32 of a tensor: as code."""
    return f"{name}.float() / 255" if tensor.dtype == torch.uint8 else f"{name}.float()"


# --- Numbers


def check_count(
    name: str, value: object, least: int = 1, such_as: int | None = None, most: int | None = None
) -> None:
    """Raises ArgumentError unless the value is a whole number from `least` to `most`."""
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least or most is not None and whole > most:
        wanted = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        example = "" if such_as is None else f", such as {such_as}"
        raise ArgumentError(f"{_given(name, value)}: give a whole number {wanted}{example}.")


def check_positive(name: str, value: object, such_as: float) -> None:
    """Raises ArgumentError unless the value is a finite number above 0."""
    if not 0 < _finite(value):
        raise ArgumentError(f"{_given(name, value)}: give a number above 0, such as {such_as}.")


def check_number(name: str, value: object, such_as: float) -> None:
    """Raises ArgumentError unless the value is a finite number."""
    if math.isnan(_finite(value)):
        raise ArgumentError(f"{_given(name, value)}: give a finite number, such as {such_as}.")


def _given(name: str, value: object) -> str:
    return f"{name} is {kind(value).removeprefix('the number ')}"


def _finite(value: object) -> float:
    """The value as a number; NaN when it is none, or not finite."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def check_switch(name: str, value: object) -> None:
    """Raises ArgumentError unless the value is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} is {kind(value)}: give True or False.")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raises ArgumentError unless the value is one of the choices."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in choices)
        raise ArgumentError(f"Unknown {name} {value!r}: use one of {listed}.")


# --- Tensors and lists that belong together


def check_tensor(name: str, value: object) -> None:
    """Raises ArgumentError unless the value is a tensor."""
    if not isinstance(value, Tensor):
        listed = isinstance(value, list | int | float) or hasattr(value, "__array__")
        cure = "make one with torch.as_tensor(…)" if listed else "pass one"
        raise ArgumentError(f"{name} is {kind(value)} and must be a tensor: {cure}.")


def check_one_shape(function: str, **tensors: Tensor) -> None:
    """Raises ArgumentError unless these are tensors of one shape.

    PyTorch would broadcast (N, 1) against (N,): it compares every number with every other.
    """
    for name, tensor in tensors.items():
        check_tensor(name, tensor)
    (first, a), *others = tensors.items()
    for name, b in others:
        if a.shape != b.shape:
            raise ArgumentError(
                f"{function} needs {' and '.join(tensors)} of one shape, and {first} has "
                f"{shape(a)} and {name} has {shape(b)}: {_cure(first, a, name, b)}."
            )


def _cure(first: str, a: Tensor, second: str, b: Tensor) -> str:
    """How two tensors of different shapes can be brought to one."""
    for name, x, other in ((first, a, b), (second, b, a)):
        if x.ndim == 2 and other.ndim == 1 and x.numel() == other.numel():
            return f"write {name}[{':, 0' if x.shape[1] == 1 else '0'}]"
    if a.numel() == b.numel():
        return f"write {first}.reshape({second}.shape), if their order is the same"
    return "give both one number for the same things"


def check_vector(function: str, **tensors: Tensor) -> None:
    """Raises ArgumentError unless these are tensors (N,) of one length, with N of at least 1."""
    for name, tensor in tensors.items():
        check_tensor(name, tensor)
        if tensor.ndim != 1 or len(tensor) == 0:
            column = tensor.ndim == 2 and tensor.shape[1] == 1
            raise ArgumentError(
                f"{function} needs one number a card, (N,), and {name} has the shape "
                f"{shape(tensor)}: {f'write {name}[:, 0]' if column else 'pass one column of it'}."
            )
    check_one_shape(function, **tensors)


def check_some(function: str, values: Tensor) -> None:
    """Raises ArgumentError when a tensor holds no number."""
    if values.numel() == 0:
        raise ArgumentError(f"{function} has nothing to do, since no card is left: pass at least "
                            "one.")  # fmt: skip


def check_readings(function: str, **tensors: Tensor) -> None:
    """As `check_vector`; and each number must be finite."""
    check_vector(function, **tensors)
    for name, tensor in tensors.items():
        check_finite(f"{function}: the readings {name}", tensor)


def check_fractions(function: str, **tensors: Tensor) -> None:
    """As `check_readings`; and the numbers must be fractions (float32)."""
    check_readings(function, **tensors)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ArgumentError(
                f"{function} needs fractions (float32), and {name} holds {dtype(tensor)}: write "
                f"{name}.float()."
            )


def check_columns(function: str, values: Tensor, **tensors: Tensor) -> None:
    """Raises ArgumentError unless each tensor is one number, or has one for each column."""
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and tensor.numel() > 1 and tensor.shape != values.shape[1:]:
            raise ArgumentError(
                f"{function} needs one {name} for each column of {shape(values)}, and {name} has "
                f"the shape {shape(tensor)}: pass what was computed over the cards, {name}(0)."
            )


def check_lists(function: str, **lists: Sequence | Tensor) -> None:
    """Raises ArgumentError unless these, lists or tensors, are not empty, and equally long."""
    for name, values in lists.items():
        if isinstance(values, str | bytes):
            raise ArgumentError(
                f"{function} needs a list as {name}, and got {kind(values)}: write [{name}], with "
                "one text a line."
            )
        if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
            raise ArgumentError(f"{function} needs a list as {name}, and got {kind(values)}: "
                                f"write list({name}).")  # fmt: skip
        if len(values) == 0:
            raise ArgumentError(f"{function} has nothing to do, since {name} is empty: pass at "
                                "least one.")  # fmt: skip
    sizes = {name: len(values) for name, values in lists.items()}
    if len(set(sizes.values())) > 1:
        listed = " and ".join(f"{size:,} of {name}" for name, size in sizes.items())
        raise ArgumentError(f"{function} compares pairs, and got {listed}: pass as many of each.")


def check_dims(function: str, **vectors: Tensor) -> None:
    """Raises ArgumentError unless these are tensors (N, dim) of finite fractions, with one dim."""
    for name, tensor in vectors.items():
        check_tensor(name, tensor)
        if not tensor.is_floating_point():
            raise ArgumentError(
                f"{function} needs vectors of fractions (float32), and {name} holds "
                f"{dtype(tensor)}: write {name}.float()."
            )
        if tensor.ndim != 2:
            row = "" if tensor.ndim != 1 else f", such as {name}[None]"
            raise ArgumentError(
                f"{function} needs vectors (N, dim), and {name} has the shape {shape(tensor)}: "
                f"pass one row each{row}."
            )
    if len({tensor.shape[1] for tensor in vectors.values()}) > 1:
        listed = " and ".join(f"{name} of {tensor.shape[1]}" for name, tensor in vectors.items())
        raise ArgumentError(
            f"{function} needs vectors of one length, and got {listed} numbers: pass vectors of "
            "one space."
        )
    for name, tensor in vectors.items():
        check_finite(f"{function}: the vectors {name}", tensor)


def check_tokens(function: str, tokens: Tensor, most: int, what: str = "word") -> None:
    """Raises ArgumentError unless these are numbers (N, T) of so many words (or `what`)."""
    check_tensor("The tokens", tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ArgumentError(
            f"{function} needs the numbers of each {what}, (N, T), as whole numbers, and got "
            f"{dtype(tokens)} of shape {shape(tokens)}: pass whole numbers, one row each."
        )
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < most:
        wrong = int(tokens.max()) if tokens.max() >= most else int(tokens.min())
        known = "the vocabulary that the numbers came from" if what == "word" else f"another {what}"
        raise ArgumentError(
            f"A {what} has the number {wrong}, and {function} knows {most} {what}s (numbered from "
            f"0 to {most - 1}): use {known}."
        )


def check_places(function: str, places: Tensor, count: int, most: int) -> None:
    """Raises ArgumentError unless these are `count` places (count,), numbered below `most`."""
    check_tensor("The places", places)
    if places.shape != (count,):
        raise ArgumentError(
            f"{function} needs one place for each of the {count} rows, and got places of shape "
            f"{shape(places)}: pass as many."
        )
    check_tokens(function, places[:, None], most, "place")


def check_texts(function: str, **lists: Sequence[str]) -> None:
    """As `check_lists`; and each entry must be a text."""
    check_lists(function, **lists)
    for name, values in lists.items():
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise ArgumentError(
                    f"{function} needs texts, and {name}[{place}] is {kind(value)}: pass a list of "
                    "texts."
                )


def check_finite(name: str, values: Tensor) -> None:
    """Raises ArgumentError when a tensor holds NaN or infinity: says which example is the first.

    The sum tells most often, since NaN and infinity stay in it.
    """
    if not values.is_floating_point() or values.numel() == 0 or values.device.type == "meta":
        return
    if math.isfinite(values.sum().item()):
        return
    bad = ~values.isfinite()
    if bool(bad.any()):
        first = bad.nonzero()[0].tolist()
        where = f" in example {first[0]} (counted from 0)" if first else ""
        raise ArgumentError(
            f"{name} hold {values[tuple(first)].item()}{where}: leave such examples out, or "
            "replace the number, for example with torch.nan_to_num."
        )


def check_varied(function: str, target: Tensor) -> None:
    """Raises ArgumentError unless a target differs from card to card."""
    if target.numel() == 0 or bool((target == target.flatten()[0]).all()):
        raise ArgumentError(
            f"{function} needs targets that differ, and these {target.numel()} do not: pass more "
            "cards."
        )


def check_pictures(who: str, images: Tensor) -> None:
    """Raises ArgumentError unless pictures hold fractions, about from 0 to 1.

    Noise may leave that range, so that only what is far outside is refused: a forgotten / 255.
    """
    check_tensor("images", images)
    if not images.is_floating_point():
        raise ArgumentError(
            f"{who} needs pictures with numbers from 0 to 1 (float32), and got {dtype(images)}: "
            f"load them with preprocessing.load_image, or write {as_float('images', images)}."
        )
    if images.numel() == 0 or images.device.type == "meta":
        return
    low, high = (value.item() for value in images.detach().aminmax())
    if math.isnan(low) or math.isnan(high):
        raise ArgumentError(f"{who} got pictures that hold nan: leave them out, or load them anew.")
    if max(-low, high) > FARTHEST:
        raise ArgumentError(
            f"{who} needs pictures with numbers from 0 to 1, and these go from {low:.3g} to "
            f"{high:.3g}: divide by 255, or load them with preprocessing.load_image."
        )


FARTHEST = 16.0
"""Pictures under noise of standard deviation 1 stay within it, and pictures of 0 to 255 do not."""


# --- What `fit` and its parts are given


def check_model(model: object) -> None:
    """Raises ArgumentError unless this is a model, made and not only its class."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise ArgumentError(
            f"The model is the class {model.__name__}: make one of it, {model.__name__}(…), and "
            "pass that."
        )
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"The model is {kind(model)}: pass an nn.Module.")


def check_learner(model: object) -> None:
    """As `check_model`; and something in it must be able to learn."""
    check_model(model)
    for name, held in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(held):
            raise ArgumentError(
                f'"{name}" of the model has no size yet, as in nn.LazyLinear: show the model two '
                "examples first, model(inputs[:2]), and then train it."
            )
    parameters = list(model.parameters())
    if not parameters:
        raise ArgumentError(
            f"The model ({type(model).__name__}) has no parameters, so nothing can learn: give it "
            "layers as attributes, or in an nn.ModuleList (a plain list is not seen)."
        )
    if not any(parameter.requires_grad for parameter in parameters):
        raise ArgumentError(
            f"All parameters of the model ({type(model).__name__}) are frozen, so nothing can "
            "learn: call requires_grad_(True) on what should."
        )


def check_loss(loss: object) -> None:
    """Raises ArgumentError unless this can be called as loss(output, target)."""
    if loss is None:
        raise ArgumentError(
            "Say what to learn: pass loss=, for example loss=nn.functional.mse_loss."
        )
    if isinstance(loss, type):
        raise ArgumentError(
            f"loss is the class {loss.__name__}: pass one of it, with brackets, {loss.__name__}()."
        )
    if not callable(loss):
        raise ArgumentError(
            f"loss is {kind(loss)} and must be a function of output and target: pass for example "
            "nn.functional.mse_loss."
        )


def check_optimizer(optimizer: object) -> None:
    """Raises ArgumentError unless this can be called with parameters and lr."""
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise ArgumentError(
            f"optimizer is an {name} that is made already: pass the class, torch.optim.{name}; fit "
            "gives it the parameters and the learning rate."
        )
    if optimizer is torch.optim.LBFGS:
        raise ArgumentError(
            "LBFGS wants to compute the loss several times a step, which this loop does not: use "
            "torch.optim.Adam."
        )
    if not callable(optimizer):
        raise ArgumentError(
            f"optimizer is {kind(optimizer)}: pass a class, such as torch.optim.Adam."
        )


def check_step(model: object, loss: object, optimizer: object, clip_norm: object) -> None:
    """What `one_epoch` is given, but for its batches."""
    check_learner(model)
    check_loss(loss)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"optimizer is {kind(optimizer)}: make one of the model's parameters, such as "
            "torch.optim.Adam(model.parameters())."
        )
    if clip_norm is not None:
        check_positive("clip_norm", clip_norm, 1.0)


def check_options(
    epochs: object,
    batch_size: object,
    learning_rate: object,
    clip_norm: object,
    patience: object,
    seed: object,
) -> None:
    """The numbers that `fit` is given."""
    check_count("epochs", epochs, 0, 10)
    check_count("batch_size", batch_size, 1, 64)
    check_positive("learning_rate", learning_rate, 0.001)
    if clip_norm is not None:
        check_positive("clip_norm", clip_norm, 1.0)
    if patience is not None:
        check_count("patience", patience, 1, 5)
    check_seed(seed)


def check_others(
    one_cycle: object, resume: object, progress: object, augment: object, checkpoint: object
) -> None:
    """The switches that `fit` is given, its folder, and what changes the inputs."""
    for name, value in {"one_cycle": one_cycle, "resume": resume, "progress": progress}.items():
        check_switch(name, value)
    if augment is not None and not callable(augment):
        raise ArgumentError(
            f"augment is {kind(augment)}: pass a function of inputs and generator, such as "
            "preprocessing.augment."
        )
    if checkpoint is not None and (
        not isinstance(checkpoint, str | os.PathLike) or not str(checkpoint)
    ):
        raise ArgumentError(
            f'checkpoint is {kind(checkpoint)}: name a folder, such as checkpoint="my_run".'
        )


def check_growth(accumulate: object, autocast: object) -> None:
    """How `fit` makes one step of several batches, and in how many bits it computes."""
    check_count("accumulate", accumulate, 1, 4)
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise ArgumentError(
            f"autocast is {kind(autocast) if not isinstance(autocast, torch.dtype) else autocast}: "
            "use torch.bfloat16 or torch.float16, or leave it out."
        )


def check_seed(seed: object) -> None:
    """Raises ArgumentError unless this can begin random numbers."""
    check_count("seed", seed, 0, 0)
    if operator.index(seed) >= 1 << 63:
        raise ArgumentError(f"seed is {seed}, which is too large: choose one below 2**63.")


def check_inputs(inputs: object, what: str = "inputs", to: str = "look at") -> None:
    """Raises ArgumentError unless these are inputs: a tensor, or one for each modality, equally
    long, with examples in it."""
    if isinstance(inputs, dict) and not inputs:
        raise ArgumentError(f"The {what} are an empty dictionary: pass a tensor a modality.")
    if isinstance(inputs, DataLoader):
        raise ArgumentError(f"The {what} are a DataLoader: pass its tensors instead.")
    named = inputs if isinstance(inputs, dict) else {what: inputs}
    for name, values in named.items():
        check_tensor(f"The modality {name!r}" if named is inputs else f"{what}", values)
        if values.ndim == 0:
            raise ArgumentError(
                f"{name} is a single number, and its first dimension must count the examples: "
                f"write {name}[None]."
            )
        if len(values) == 0:
            raise ArgumentError(
                f"There is nothing to {to}: {name} hold no example. Pass at least one."
            )
    sizes = {name: len(values) for name, values in named.items()}
    if len(set(sizes.values())) > 1:
        listed = " and ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ArgumentError(f"{listed} examples: pass as many of each modality.")


def check_targets(targets: object, what: str = "") -> None:
    """Raises ArgumentError unless these are targets, the first dimension of which counts them."""
    check_tensor(f"{what}targets", targets)
    if targets.ndim == 0:
        raise ArgumentError(f"The {what}targets are a single number: pass one for each example.")


def check_examples(inputs: object, targets: object, what: str = "") -> None:
    """Raises ArgumentError unless these are inputs and as many targets, of finite numbers.

    what: "validation " where they are these.
    """
    check_targets(targets, what)
    named = inputs if isinstance(inputs, dict) else {f"{what}inputs": inputs}
    for name, values in named.items():
        if isinstance(values, Tensor) and values.ndim and len(values) != len(targets):
            raise ArgumentError(
                f"{name} has {len(values)} examples and the {what}targets have {len(targets)}: "
                "they must match, so pass one target for each example."
            )
    check_inputs(inputs, f"{what}inputs", "train on")
    check_all_finite(inputs, targets, what)


def check_no_dataset(inputs: object) -> None:
    """Raises ArgumentError for a data set, which needs a DataLoader around it."""
    if isinstance(inputs, Dataset):
        raise ArgumentError(
            f"inputs is {kind(inputs)}, a data set: make a DataLoader of it, such as "
            "DataLoader(data, batch_size=64, shuffle=True), and pass that."
        )


def check_readers(model: object, inputs: object, wanted: int | None = None) -> None:
    """Raises ArgumentError unless this is a model of readers, and the inputs have its modalities.

    wanted: how many readers it must have.
    """
    check_model(model)
    encoders = getattr(model, "encoders", None)
    if not isinstance(encoders, nn.ModuleDict):
        raise ArgumentError(
            f"The model is {kind(model)}, without encoders by name: pass a fusion.MultimodalModel."
        )
    if wanted is not None and (
        len(encoders) != wanted or not hasattr(getattr(model, "fusion", None), "beta")
    ):
        raise ArgumentError(
            f"α and β are those of {wanted} readers, and this model has {len(encoders)} with a "
            f"{type(getattr(model, 'fusion', None)).__name__}: pass a fusion.MultimodalModel of "
            "two readers and a fusion.WeightedSum."
        )
    if not isinstance(inputs, dict):
        raise ArgumentError(f"The inputs are {kind(inputs)}: pass a dictionary, a tensor a "
                            f"modality, {' and '.join(encoders)}.")  # fmt: skip
    for name in encoders:
        if name not in inputs:
            raise ArgumentError(
                f'The modality "{name}" is missing, and the inputs have '
                f"{' and '.join(map(str, inputs)) or 'none'}: pass it."
            )
    check_inputs(inputs)


def check_pair(pair: object, what: str) -> None:
    """Raises ArgumentError unless this is a pair, inputs and targets."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        found = f"of length {len(pair)}" if isinstance(pair, tuple | list) else kind(pair)
        raise ArgumentError(f"{what} is {found}: pass a pair, {what}=(inputs, targets).")


def check_all_finite(inputs: object, targets: object = None, what: str = "") -> None:
    """Raises ArgumentError when inputs or targets hold NaN or infinity."""
    named = {f"The {what}inputs": inputs}
    if isinstance(inputs, dict):
        named = {f'The {what}inputs "{name}"': values for name, values in inputs.items()}
    for name, values in {**named, f"The {what}targets": targets}.items():
        if isinstance(values, Tensor):
            check_finite(name, values)


def find_no_number(batches: object, what: str = "") -> None:
    """Looks for NaN or infinity in the batches of a DataLoader, after a loss was not finite."""
    if isinstance(batches, DataLoader):
        for inputs, targets in batches:
            check_all_finite(inputs, targets, what)


# --- Batches on their way


def pairs(batches: Iterable) -> Iterator[tuple]:
    """The batches, each of which must be inputs and targets, of tensors."""
    try:
        iterator = iter(batches)
    except TypeError:
        raise ArgumentError(
            f"batches is {kind(batches)}: pass a list of pairs (inputs, targets), or a DataLoader."
        ) from None
    for batch in iterator:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ArgumentError(
                "Each batch of the DataLoader must be a pair, inputs and targets, and this one is "
                "not: give it a data set whose examples are such pairs."
            )
        inputs, targets = batch
        if not _matched(inputs, targets):
            check_inputs(inputs, "inputs of a batch", "train on")
            check_targets(targets)
            first = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
            raise ArgumentError(
                f"A batch has {len(first)} inputs and {len(targets)} targets: give one target for "
                "each example."
            )
        yield inputs, targets


def _matched(inputs: object, targets: object) -> bool:
    """Whether these are tensors with as many examples, and at least one."""
    if (
        not isinstance(targets, Tensor)
        or targets.ndim == 0
        or isinstance(inputs, dict)
        and not inputs
    ):
        return False
    count = len(targets)
    tensors = inputs.values() if isinstance(inputs, dict) else (inputs,)
    return count > 0 and all(
        isinstance(one, Tensor) and one.ndim > 0 and len(one) == count for one in tensors
    )


def augmented(augment: Callable, batches: Iterable, generator: torch.Generator) -> Iterator[tuple]:
    """The batches with their inputs changed by `augment`, which must keep their number."""
    for inputs, targets in batches:
        changed = augment(inputs, generator)
        named = changed if isinstance(changed, dict) else {"": changed}
        if not named or not all(isinstance(values, Tensor) for values in named.values()):
            found = next((one for one in named.values() if not isinstance(one, Tensor)), changed)
            raise ArgumentError(
                f"augment gave {kind(found)}: let it return the changed inputs, a tensor or one a "
                "modality."
            )
        for name, values in named.items():
            if len(values) != len(targets):
                whose = f' of "{name}"' if name else ""
                raise ArgumentError(
                    f"augment gave {len(values)} examples{whose}, and the batch has "
                    f"{len(targets)} targets: let it return as many as it gets."
                )
        yield changed, targets


# --- As it was


def unharmed(function: Callable) -> Callable:
    """A function whose first argument is a model: where it refuses something (ArgumentError), the
    model has afterwards the weights, statistics and modes that it had before, and the next random
    numbers are those that would have come."""

    @functools.wraps(function)
    def careful(model, *args, **options):
        parts = list(model.modules()) if isinstance(model, nn.Module) else []
        modes = [(part, part.training) for part in parts]
        held = [*model.parameters(), *model.buffers()] if parts else []
        before = [(one, one.detach().clone()) for one in held if not nn.parameter.is_lazy(one)]
        drawn = torch.get_rng_state()
        cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        try:
            return function(model, *args, **options)
        except ArgumentError:
            with torch.no_grad():
                for tensor, values in before:
                    tensor.copy_(values)
            for part, mode in modes:
                part.training = mode
            torch.set_rng_state(drawn)
            if cards is not None:
                torch.cuda.set_rng_state_all(cards)
            raise

    return careful


# --- The loss, and what it is given

ARITHMETIC = {"sub", "add", "mul", "div", "rsub", "subtract", "add_", "sub_", "mul_", "div_",
              "true_divide", "eq", "ne", "maximum", "minimum", "pow", "dist"}  # fmt: skip
"""Functions that take two tensors number by number."""

SYMMETRIC = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
"""Losses to which it is all the same which is the output and which the target."""

ONE_SIDED = {"binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss",
             "poisson_nll_loss", "hinge_embedding_loss", "kl_div", "gaussian_nll_loss"}  # fmt: skip
"""Losses that take output and target number by number, and must get the output first."""


def watched(loss: Callable) -> Callable:
    """The loss, watched while it sees its first batch, and when it raises an error.

    The first value must be one number that gradients go through, and while it is computed no target
    may be broadcast against an output of another shape (see `Meeting`).
    """
    first = True

    def one_number(output: Tensor, target: Tensor) -> Tensor:
        nonlocal first
        if not first:
            try:
                return loss(output, target)
            except Exception:
                first = True  # look at it again, closely
        with Meeting(output, target), _loss_explained(output):
            value = loss(output, target)
        check_value(value, output)
        first = False
        return value

    return one_number


def check_output(output: object) -> None:
    """Raises ArgumentError unless a model's output is a tensor."""
    if not isinstance(output, Tensor):
        held = f" of {len(output)} things" if isinstance(output, tuple | list) else ""
        raise ArgumentError(
            f"The model returns {kind(output)}{held}: let its forward return one tensor."
        )


def check_value(value: object, output: object) -> None:
    """Raises ArgumentError unless a loss's value is one number that can be learned from."""
    if not isinstance(value, Tensor):
        raise ArgumentError(
            f"The loss gives {kind(value)} and must give a tensor with one number: let it return "
            "what PyTorch computes, without item() or float()."
        )
    if value.numel() != 1:
        raise ArgumentError(
            f"The loss gives {shape(value)} numbers and must give one: take their mean, "
            'loss(output, target).mean(), or leave reduction="none" out.'
        )
    if torch.is_grad_enabled() and not value.requires_grad:
        if isinstance(output, Tensor) and not output.requires_grad:
            raise ArgumentError(
                "No gradient reaches the model's output, so nothing can learn: leave detach(), "
                "argmax, item() and torch.no_grad() out of its forward."
            )
        raise ArgumentError(
            "No gradient goes through the loss, so nothing can learn: leave detach(), argmax, "
            "round and comparisons out of it."
        )


@contextlib.contextmanager
def _loss_explained(output: object) -> Iterator[None]:
    """Says so where a loss fails because the model's output is no tensor."""
    try:
        yield
    except (AttributeError, TypeError, RuntimeError, IndexError) as error:
        if isinstance(output, Tensor):
            raise
        held = f" of {len(output)} things" if isinstance(output, tuple | list) else ""
        raise ArgumentError(
            f"The model returns {kind(output)}{held}, and the loss cannot use it: let its forward "
            "return one tensor, or write a loss that takes it apart."
        ) from error


class Meeting(TorchFunctionMode):
    """While a loss is computed, watches where output and target meet.

    What is computed from the one or the other is followed. Where both enter one function number by
    number in different shapes, PyTorch would broadcast them: (N, 1) with (N,) compares every
    example with every other. That is refused, unless the loss itself has brought them into these
    shapes (`target[:, None]`). So it does not matter how the loss is written.
    """

    def __init__(self, output: object, target: Tensor):
        super().__init__()
        outputs = list(output.values()) if isinstance(output, dict) else output
        outputs = outputs if isinstance(outputs, tuple | list) else [output]
        self.target = target
        self.shapes = {tuple(one.shape) for one in outputs if isinstance(one, Tensor)}
        self.of = {id(one): {"output"} for one in outputs} | {id(target): {"target"}}
        self.kept = [outputs, target]  # so that no number of `id` is given anew

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        sources = [self.of.get(id(one), set()) for one in given]
        self._check(getattr(func, "__name__", ""), args, kwargs)
        results = func(*args, **kwargs)
        for one in results if isinstance(results, tuple | list) else (results,):
            if isinstance(one, Tensor) and id(one) not in self.of:
                self.of[id(one)] = set().union(*sources)
                self.kept.append(one)
        return results

    def _check(self, name: str, args: tuple, kwargs: dict) -> None:
        pair = [*args, *(kwargs[key] for key in ("input", "target", "other") if key in kwargs)][:2]
        if len(pair) < 2 or not all(isinstance(one, Tensor) for one in pair):
            return
        one, other = pair
        both = self.of.get(id(one)), self.of.get(id(other))
        if both == ({"target"}, {"output"}) and (
            name in ONE_SIDED
            and (name != "kl_div" or one is self.target)
            or name in ("cross_entropy", "nll_loss")
        ):
            raise ArgumentError(
                f"The loss calls {name}(target, output), and the output must come first: write "
                f"{name}(output, target)."
            )
        if name in ("cross_entropy", "nll_loss") and both[0] and both[1]:
            check_classes(name, one, other, kwargs.get("ignore_index", -100))
        elif name in SYMMETRIC | ONE_SIDED | ARITHMETIC:
            if both == ({"output"}, {"target"}):
                self._check_shapes(name, one, other)
            elif both == ({"target"}, {"output"}):
                self._check_shapes(name, other, one)
            if name.startswith("binary_cross_entropy"):
                check_shares(name, one, other)

    def _check_shapes(self, name: str, output: Tensor, target: Tensor) -> None:
        """Refuses shapes that would be broadcast, and that the loss has not made on purpose."""
        a, b = output.shape, target.shape
        if a == b or output.numel() <= 1 or target.numel() <= 1:
            return
        if a.numel() == b.numel() == math.prod(_broadcast(a, b)):
            return  # (1, N) and (N,): still pairs
        given = tuple(a) in self.shapes, b == self.target.shape
        if len(a) == len(b):
            meant = not all(given)
        else:
            larger, made = (a, not given[0]) if len(a) > len(b) else (b, not given[1])
            meant = made or not (all(given) or larger[-1] == 1)
        if meant and (name not in SYMMETRIC or _broadcast(a, b)):
            return
        raise ArgumentError(
            f"The model's output has the shape {shape(output)} and the targets have {shape(target)}"
            f", so that the loss compares {_mixed(a, b)}: {_cure_of_targets(output, target)}."
        )


def _broadcast(a: torch.Size, b: torch.Size) -> Sequence[int]:
    try:
        return torch.broadcast_shapes(a, b)
    except RuntimeError:
        return ()


def _mixed(a: torch.Size, b: torch.Size) -> str:
    """What broadcasting would do, in words."""
    if not _broadcast(a, b):
        return "what does not belong together"
    if len(a) == len(b) and a[0] == b[0]:
        return "several numbers with one"
    return "every example with every other"


def _cure_of_targets(output: Tensor, target: Tensor) -> str:
    """What to do about outputs and targets of different shapes."""
    if output.numel() == target.numel():
        if target.ndim == output.ndim + 1 and target.shape[-1] == 1:
            return "pass targets[:, 0], or let the model return output[:, None]" if (
                target.ndim == 2) else "pass targets.squeeze(-1)"  # fmt: skip
        if output.ndim == target.ndim + 1 and output.shape[-1] == 1:
            return (
                "pass targets[:, None], or let the model return output[:, 0], with squeeze(1)"
                if output.ndim == 2
                else "pass targets[..., None], or let the model return output.squeeze(-1)"
            )
        return "pass targets.reshape(…) in the output's shape, if the order is the same"
    if output.ndim == target.ndim == 2 and target.shape[1] == 1:
        return (
            f"let the model return one number an example, or pass targets of shape {shape(output)}"
        )
    return f"pass targets of shape {shape(output)}, or let the model return {shape(target)}"


def check_classes(name: str, scores: Tensor, target: Tensor, ignored: int = -100) -> None:
    """Raises ArgumentError unless these are scores (N, C, …) and the numbers (N, …) of classes, or
    the shares (N, C, …) of all classes."""
    if scores.ndim == 1 and len(scores) > 1 and target.ndim == 1:
        raise ArgumentError(
            f"{name} needs a score for each class, (N, C), and the model returns {shape(scores)}, "
            "one number an example: let it return as many as there are classes, or use "
            "binary_cross_entropy_with_logits or mse_loss."
        )
    if scores.ndim > 1 and scores.shape[1] == 1:
        raise ArgumentError(
            f"{name} sees one class only, since the model returns {shape(scores)}, and would "
            "always be 0: let the model return a score for each class, or use "
            "binary_cross_entropy_with_logits."
        )
    if scores.ndim > 1 and target.ndim == scores.ndim and target.shape[1] == 1:
        raise ArgumentError(
            f"{name} needs the numbers of classes as {shape(scores[:, 0])}, and the targets have "
            f"{shape(target)}: pass targets[:, 0]."
        )
    if target.is_floating_point():
        if target.shape != scores.shape:
            raise ArgumentError(
                f"{name} needs classes as whole numbers (int64), and the targets are "
                f"{dtype(target)} of shape {shape(target)}: pass targets.long(), if they number "
                "classes; for quantities use mse_loss."
            )
        return
    if target.dtype != torch.int64:
        raise ArgumentError(
            f"{name} needs classes as int64, and the targets are {dtype(target)}: pass "
            "targets.long()."
        )
    if scores.ndim > 1 and target.shape != scores[:, 0].shape:
        raise ArgumentError(
            f"{name} needs the numbers of classes as {shape(scores[:, 0])}, and the targets have "
            f"{shape(target)}: change their shape."
        )
    classes = scores.shape[1 if scores.ndim > 1 else 0]
    used = target[target != ignored]
    if used.numel() and (used.max() >= classes or used.min() < 0):
        wrong = int(used.max()) if used.max() >= classes else int(used.min())
        raise ArgumentError(
            f"A target is class {wrong}, and the model gives scores of {classes} classes, numbered "
            f"from 0 to {classes - 1}: check the targets, or let the model return more scores."
        )


def check_shares(name: str, output: Tensor, target: Tensor) -> None:
    """Raises ArgumentError unless the targets lie between 0 and 1, and for the loss without logits
    the output, too."""
    if not target.is_floating_point():
        raise ArgumentError(
            f"{name} needs targets as float32, and they are {dtype(target)}: pass targets.float()."
        )
    if target.numel() and not (0 <= target.min() and target.max() <= 1):
        raise ArgumentError(
            f"{name} needs targets from 0 to 1, and they go from {target.min().item():.3g} to "
            f"{target.max().item():.3g}: scale them, or use mse_loss for such quantities."
        )
    if name == "binary_cross_entropy" and not (0 <= output.min() and output.max() <= 1):
        raise ArgumentError(
            f"{name} needs outputs from 0 to 1, and they go from {output.min().item():.3g} to "
            f"{output.max().item():.3g}: use binary_cross_entropy_with_logits."
        )


# --- Errors whose cause is known


class explained:  # noqa: N801 (it is used as a function)
    """An error of PyTorch in this block whose cause is known is said in one sentence.

    Any other passes as it is, so that an error in a learner's own forward shows where it is.
    """

    def __init__(self, model: nn.Module, inputs: object, targets: Tensor | None = None):
        self.given = model, inputs, targets

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ArgumentError):
            said = _cause(error, *self.given)
            if said is not None:
                raise ArgumentError(said) from error


def _cause(
    error: Exception, model: nn.Module, inputs: object, targets: Tensor | None
) -> str | None:
    said = str(error)
    if "Expected more than 1 value per channel" in said:
        return (
            "A batch holds a single example, and batch normalisation needs several to compute a "
            "variance: pass a larger batch_size, or drop_last=True to the DataLoader."
        )
    if "Found dtype" in said and targets is not None and targets.dtype != torch.float32:
        return (
            f"The targets are {dtype(targets)}, and the model computes in float32: pass "
            "targets.float()."
        )
    found = _layer(error, model)
    return None if found is None else _why_not(*found, inputs)


def _layer(error: Exception, model: nn.Module) -> tuple[str, nn.Module, Tensor] | None:
    """The layer of PyTorch's in which an error was raised, its name, and what it was given; None
    when it was raised elsewhere."""
    if not isinstance(error, RuntimeError | ValueError | IndexError | TypeError):
        return None
    names = {id(part): name for name, part in model.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        held = trace.tb_frame.f_locals
        part = held.get("self")
        if isinstance(part, nn.Module) and id(part) in names:
            given = held.get("input")
            own = type(part).__module__.startswith("torch.nn.")
            found = (names[id(part)], part, given) if own and isinstance(given, Tensor) else None
        trace = trace.tb_next
    return found


def _why_not(name: str, layer: nn.Module, given: Tensor, inputs: object) -> str | None:
    """Why this layer cannot take what it was given."""
    what = f"The layer {name} ({type(layer).__name__})" if name else f"The {type(layer).__name__}"
    if isinstance(layer, nn.Embedding):
        if given.dtype not in (torch.int64, torch.int32):
            return (
                f"{what} looks up numbers of words (int64), and got {dtype(given)}: pass "
                "tokens.long()."
            )
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < layer.num_embeddings:
            most = int(given.max()) if given.max() >= layer.num_embeddings else int(given.min())
            return (
                f"A word has the number {most}, and {what[0].lower()}{what[1:]} knows "
                f"{layer.num_embeddings} words, numbered from 0: use the vocabulary that the model "
                "was made for."
            )
        return None
    weight = next((one for one in layer.parameters() if one.is_floating_point()), None)
    if weight is not None and given.dtype != weight.dtype and weight.dtype == torch.float32:
        return (
            f"{what} computes in {dtype(weight)}, and got {dtype(given)}: pass "
            f"{as_float(_blamed(inputs, given), given)}."
        )
    wanted, place = _size_of(layer)
    if wanted is None:
        return None
    if given.ndim <= abs(place) - (place < 0) or given.shape[place] != wanted:
        form = _form(layer, wanted)
        return (
            f"{what} takes {form}, and got {shape(given)}: change the shape of the inputs, or make "
            "the layer in that size."
        )
    if isinstance(layer, nn.Conv2d) and given.ndim not in (3, 4):
        return f"{what} takes {_form(layer, wanted)}, and got {shape(given)}: change the shape."
    return None


def _blamed(inputs: object, given: Tensor) -> str:
    """Which of the inputs has numbers of this kind."""
    if isinstance(inputs, dict):
        alike = [name for name, one in inputs.items()
                 if isinstance(one, Tensor) and one.dtype == given.dtype]  # fmt: skip
        return f'inputs["{alike[0]}"]' if alike else "inputs"
    return "inputs"


def _size_of(layer: nn.Module) -> tuple[int | None, int]:
    """How many channels or features a layer takes, and in which dimension they stand."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, -1
    if isinstance(layer, nn.RNNBase):
        return layer.input_size, -1
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1], -1
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.num_features, 1
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.in_channels, -1 - len(layer.kernel_size)
    return None, 0


def _form(layer: nn.Module, size: int) -> str:
    """The shape that a layer takes."""
    if isinstance(layer, nn.Conv1d):
        return f"(B, {size}, T)"
    if isinstance(layer, nn.Conv2d):
        return f"(B, {size}, H, W)"
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return f"(B, {size}, …)"
    return f"(…, {size})"
