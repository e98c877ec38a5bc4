"""What makes a training the same training (lesson 05): all that decides its bits, in plain words,
and a probe of two examples that tells what words cannot. `checkpoints` keeps both.

Nothing here changes a model, draws a random number, or takes a batch from a DataLoader.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import numbers
import random
import re
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
)

from mbm_lab.arguments import dtype
from mbm_lab.device import device_of

Words = dict[str, Any]
"""What decides the bits, by its name; each value as JSON can hold it."""


# --- In words


def of_optimizer(optimizer: torch.optim.Optimizer) -> Words:
    """The class of a fresh optimizer, and every option of each of its groups."""
    count = len(optimizer.param_groups)
    words: Words = {"optimizer": type(optimizer).__name__, "number of groups to learn": count}
    for number, group in enumerate(optimizer.param_groups):
        where = f" for group {number + 1}" if count > 1 else ""
        for option, value in group.items():
            if option == "params":
                words[f"number of tensors that learn{where}"] = len(value)
            else:
                words[f"{option} of the optimizer{where}"] = plain(value)
    return words


def of_model(model: nn.Module) -> Words:
    """Of each part of a model: its class, what it says of itself, its plain attributes, the kinds
    and shapes of its tensors, which of them are frozen, and (of classes of one's own) a hash of
    its code."""
    words: Words = {}
    for path, part in model.named_modules():
        where = f'part "{path}" of the model' if path else "model"
        words[where] = f"{type(part).__name__}({_without_addresses(part.extra_repr())})"
        for name, value in sorted(vars(part).items()):
            if name in _OF_EVERY_MODULE or name.startswith("_"):
                continue
            if callable(value):
                words[f"{name} in the {where}"] = named(value)
            elif _is_plain(value):
                words[f"{name} in the {where}"] = plain(value)
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                frozen = name in part._parameters and not tensor.requires_grad
                words[f"{name} in the {where}"] = (
                    f"{dtype(tensor)} {tuple(tensor.shape)}{', frozen' * frozen}"
                )
        if not type(part).__module__.startswith("torch."):
            words[f"code of forward in the {where}"] = _code_of(type(part).forward)
    return words


_OF_EVERY_MODULE = {*vars(nn.Module()), "call_super_init", "dump_patches"}


def of_data(data: object, what: str) -> Words:
    """Inputs, targets, or a DataLoader: kinds, shapes and a hash of all numbers (CRC-32: other data
    pass for the same once in four thousand million)."""
    if data is None:
        return {what: "none"}
    if isinstance(data, Tensor):
        return {what: _hashed(data)}
    if isinstance(data, dict):
        return {f'{what} "{name}"': _hashed(values) for name, values in data.items()}
    if not isinstance(data, DataLoader):
        return {what: _of_dataset(data)}
    sampler = type(data.sampler).__name__
    own = isinstance(getattr(data.sampler, "generator", None) or data.generator, torch.Generator)
    words = {
        f"data set of the {what}": _of_dataset(data.dataset),
        f"batch size of the {what}": plain(data.batch_size),
        f"sampler of the {what}": (
            f"{sampler}{', drop_last' * bool(data.drop_last)}{', own generator' * own}"
        ),
    }
    if isinstance(data.dataset, IterableDataset):  # its order may come from who reads what
        words[f"workers of the {what}"] = data.num_workers
    return words


def of_growth(processes: int, accumulate: int, autocast: torch.dtype | None) -> Words:
    """How many processes train together, and how (lesson 11), where this is not as usual."""
    words = {"number of processes": processes, "accumulate": accumulate}
    words = {name: number for name, number in words.items() if number != AS_USUAL[name]}
    return words if autocast is None else words | {"autocast": plain(autocast)}


AS_USUAL = {"number of processes": 1, "accumulate": 1}
"""What a run does of which nothing is said."""


def of_run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: object,
    inputs: object,
    targets: object,
    val: object,
) -> Words:
    """Everything but the numbers that `training.fit` is given. optimizer: fresh, since a schedule
    changes its options."""
    data = of_training_data(inputs, targets, val)
    return of_optimizer(optimizer) | of_loss(loss) | data | of_model(model)


def of_training_data(inputs: object, targets: object, val: object) -> Words:
    """What a run learns from, and on what it is measured."""
    if targets is None:
        words = of_data(inputs, "training data")
    else:
        words = of_data(inputs, "inputs") | of_data(targets, "targets")
    if isinstance(val, tuple | list):
        x, y = val
        words |= of_data(x, "validation inputs") | of_data(y, "validation targets")
        return words | {"validation data": "a pair"}
    return words | of_data(val, "validation data")


def _of_dataset(data: object) -> str:
    """What can be told of a data set without taking an example from it."""
    kind = type(data).__name__
    if isinstance(data, TensorDataset):
        return f"{kind}({'; '.join(_hashed(values) for values in data.tensors)})"
    if isinstance(data, Subset):
        chosen = zlib.crc32(repr([int(i) for i in data.indices]).encode())
        return f"{kind} {chosen:08x} of {_of_dataset(data.dataset)}"
    if isinstance(data, ConcatDataset):
        return f"{kind}({'; '.join(_of_dataset(one) for one in data.datasets)})"
    if isinstance(data, list | tuple):
        return f"{kind} of {len(data)}, hash {digest(data)[:8]}"
    if callable(getattr(data, "in_words", None)):  # it tells by itself what decides its examples
        return data.in_words()
    try:
        return f"{kind} of {len(data)}"
    except TypeError:
        return kind


def _hashed(values: object) -> str:
    if not isinstance(values, Tensor):
        return plain(values)
    return f"{dtype(values)} {tuple(values.shape)}, hash {_crc(values):08x}"


def _crc(values: Tensor) -> int:
    return zlib.crc32(_bytes(values))


def _bytes(values: Tensor) -> np.ndarray | bytes:
    """The bytes of a tensor; none for one without values (on the device meta)."""
    values = values.detach()
    if values.device.type == "meta":
        return b""
    if values.is_sparse:
        values = values.to_dense()
    values = values.cpu().contiguous().reshape(-1)
    return values.view(torch.uint8).numpy() if len(values) else b""


def named(function: object) -> str:
    """A function, class, network or partial in words that are the same in the next session; for
    functions of one's own with a hash of their code."""
    if function is None:
        return "none"
    if isinstance(function, functools.partial):
        given = [_said(one) for one in function.args]
        given += [f"{name}={_said(one)}" for name, one in sorted(function.keywords.items())]
        return f"{named(function.func)} with {', '.join(given)}"
    if isinstance(function, nn.Module):
        said = [" ".join(_without_addresses(repr(function)).split())]
        for part in function.modules():
            held = {**vars(part), **part._parameters, **part._buffers}
            said += [
                f"{option}={plain(value)}"
                for option, value in sorted(held.items())
                if option not in _OF_EVERY_MODULE and not option.startswith("_")
                if value is not None and (_is_plain(value) or isinstance(value, Tensor))
            ]
        return " ".join(said)
    name = getattr(function, "__qualname__", None)
    if name is None:  # an object that can be called
        held = {n: plain(v) for n, v in sorted(vars(function).items()) if _is_plain(v)}
        return f"{type(function).__qualname__}({held or ''})"
    name = name.rsplit("<locals>.")[-1].replace("<lambda>", "a lambda")
    return f"{name}{_code_of(function, ' (code {})')}"


def of_loss(loss: object) -> Words:
    """A loss by its name, which says all if it is one of PyTorch's."""
    first = loss
    while isinstance(first, functools.partial):
        first = first.func
    place = type(first) if isinstance(first, nn.Module) else first
    known = (getattr(place, "__module__", None) or "").startswith("torch.")
    return {"loss": f"{'' if known else OWN}{named(loss)}"}


OWN = "one of your own, "


def _said(value: object) -> str:
    return named(value) if callable(value) else str(plain(value))


def _code_of(function: object, form: str = "hash {}") -> str:
    """A hash of what a Python function does: not of its comments, names of variables or place."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return ""
    if (function.__module__ or "").startswith("torch."):
        return ""
    held = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is still empty
            held.append(cell.cell_contents)
    said = repr([plain(one) for one in held if _is_plain(one)])
    sha = hashlib.sha256(said.encode())
    _add_code(sha, function.__code__)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return form.format(f"{sha.hexdigest()[:8]} of Python {version}")


def _add_code(sha: Any, code: types.CodeType) -> None:
    sha.update(code.co_code)
    sha.update(repr((code.co_names, code.co_argcount)).encode())
    for number, one in enumerate(code.co_consts):
        if isinstance(one, types.CodeType):
            _add_code(sha, one)
        elif not (number == 0 and isinstance(one, str)):  # that is the docstring
            said = sorted(map(repr, one)) if isinstance(one, frozenset) else one
            sha.update(repr(said).encode())


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return all(isinstance(n, str) and _is_plain(v) for n, v in value.items())
    return value is None or isinstance(
        value, numbers.Number | str | torch.dtype | torch.device | torch.Size
    )


def plain(value: object) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Tensor):
        return plain(value.item()) if value.numel() == 1 else _hashed(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    return named(value) if callable(value) else _without_addresses(repr(value))


def _without_addresses(said: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", said)


def differs(was: Words, now: Words) -> tuple[str, str, str] | None:
    """The first thing that is not what it was: its name, what it was, and what it is."""
    for name in [*now, *(set(was) - set(now))]:
        old, new = was.get(name, "none"), now.get(name, "none")
        if old != new and not _of_another_python(old, new):
            return name, _in_words(old), _in_words(new)
    return None


def _of_another_python(was: object, now: object) -> bool:
    """Whether two descriptions differ in a hash of code only, and Pythons cannot be compared."""
    found = [re.findall(r"[0-9a-f]{8} of Python ([\d.]+)", str(one)) for one in (was, now)]
    rest = [re.sub(r"[0-9a-f]{8} of Python [\d.]+", "", str(one)) for one in (was, now)]
    return rest[0] == rest[1] and found[0] != found[1]


def _in_words(value: object) -> str:
    said = "none" if value is None or value == "" else str(value)
    return said if len(said) <= 150 else f"{said[:150]}…"


# --- A hash of anything that a state holds


def digest(*values: object) -> str:
    """SHA-256 of what these hold: numbers, words, tensors, and lists and dictionaries of them."""
    sha = hashlib.sha256()
    for value in values:
        _add(sha, value)
    return sha.hexdigest()


def _add(sha: Any, value: object) -> None:
    if isinstance(value, Tensor):
        learns = " learns" * value.requires_grad
        sha.update(f"tensor {value.dtype} {tuple(value.shape)}{learns};".encode())
        sha.update(_bytes(value))
    elif isinstance(value, dict):
        sha.update(f"dict {len(value)};".encode())
        for name, one in value.items():
            _add(sha, name)
            _add(sha, one)
    elif isinstance(value, list | tuple):
        sha.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for one in value:
            _add(sha, one)
    else:
        said = repr(value).encode()
        sha.update(f"{type(value).__name__} {len(said)};".encode() + said)


# --- A probe


@contextlib.contextmanager
def untouched(*things: object) -> Iterator[None]:
    """Networks in evaluation mode and without gradients, random numbers from one seed; afterwards
    everything is as it was: modes, attributes, buffers, and all random states."""
    parts = [part for one in things if isinstance(one, nn.Module) for part in one.modules()]
    before = [(part, dict(vars(part))) for part in parts]
    held = [
        (value, value.copy())
        for _, attributes in before
        for name, value in attributes.items()
        if type(value) in (list, dict, set)
        and (name not in _OF_EVERY_MODULE or name in ("_parameters", "_buffers"))
    ]
    buffers = [(b, b.clone()) for part in parts for b in part.buffers(recurse=False)]
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        for part in parts:
            part.training = False
        torch.default_generator.manual_seed(0)  # torch.manual_seed looks for every kind of card
        if of_cards:
            torch.cuda.manual_seed_all(0)
        random.seed(0)
        np.random.seed(0)
        with torch.no_grad():
            yield
    finally:
        torch.set_rng_state(of_torch)
        if of_cards:
            torch.cuda.set_rng_state_all(of_cards)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
        for value, copied in held:
            value.clear()
            (value.extend if isinstance(value, list) else value.update)(copied)
        for buffer, values in buffers:
            if not torch.equal(buffer, values):
                with torch.no_grad():
                    buffer.copy_(values)


def two(values: Any) -> Any:
    """The first two examples of a batch, copied; of inputs or targets."""
    if isinstance(values, Tensor):
        return values[:2].detach().clone()
    if isinstance(values, dict):
        return {name: two(one) for name, one in values.items()}
    return None


def outputs(model: nn.Module, inputs: Any) -> Any:
    """What a model says of a probe in evaluation mode; None where it cannot."""
    here = device_of(model)
    with contextlib.suppress(Exception), untouched(model):
        return to_cpu(model(_to(inputs, here)))
    return None


def losses(loss: Callable, said: Any, targets: Any, device: torch.device) -> Any:
    """A loss of a probe's outputs as they are, and of far larger ones; None where it cannot be
    computed. (Out of range, a loss can break a graphics card, so only the CPU tries.)"""
    values = []
    tried = [lambda x: x] if device.type != "cpu" else [lambda x: x, lambda x: 1000 * x - 70]
    for change in tried:
        with contextlib.suppress(Exception), untouched(loss):
            changed = _each(said, change)
            values.append(to_cpu(loss(_to(changed, device), _to(targets, device))))
            continue
        values.append(None)
    return values if values[0] is not None else None


def alike(was: Any, now: Any, tolerance: float = 1e-4) -> bool:
    """Whether two outputs agree, but for rounding."""
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        if was.shape != now.shape or was.dtype != now.dtype:
            return False
        if not was.is_floating_point():
            return torch.equal(was, now)
        finite = was[was.isfinite()].abs()
        size = float(finite.max()) if len(finite) else 0.0
        return torch.allclose(was, now, rtol=tolerance, atol=tolerance * size, equal_nan=True)
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(alike(was[n], now[n], tolerance) for n in was)
    if isinstance(was, list | tuple) and isinstance(now, list | tuple):
        pairs = zip(was, now, strict=False)
        return len(was) == len(now) and all(alike(a, b, tolerance) for a, b in pairs)
    return was == now


def to_cpu(values: Any) -> Any:
    """Tensors, and lists and dictionaries of them, on the CPU. Raises TypeError for others."""
    if isinstance(values, Tensor):
        return values.detach().cpu().clone()
    if isinstance(values, dict):
        return {name: to_cpu(one) for name, one in values.items()}
    if isinstance(values, list | tuple):
        return [to_cpu(one) for one in values]
    if values is None or isinstance(values, bool | int | float | str):
        return values
    raise TypeError("a probe keeps tensors")


def _to(values: Any, device: torch.device) -> Any:
    if isinstance(values, dict):
        return {name: _to(one, device) for name, one in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_to(one, device) for one in values)
    return values.to(device) if isinstance(values, Tensor) else values


def _each(values: Any, change: Callable) -> Any:
    if isinstance(values, Tensor):
        return change(values) if values.is_floating_point() else values
    if isinstance(values, dict):
        return {name: _each(one, change) for name, one in values.items()}
    return [_each(one, change) for one in values] if isinstance(values, list) else values
