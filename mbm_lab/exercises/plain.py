"""What an answer returned, told in plain things, so that nothing it made can hurt afterwards.

A result may hold anything: an object that raises when it is compared or printed, a list that holds
itself, a tensor without numbers. `plain` makes a copy of which every part is one of these: None, …,
a truth value, a number, a text, `Numbers`, `Several`, `Named`, or a `Thing`, which has only a name.
It calls no method that the answer could have written.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 20
"""Lists and dictionaries in each other: no more than so many."""
MOST = 20_000
"""So many items and characters are kept; of a tensor a hundred times as many numbers."""


@dataclass(frozen=True)
class Numbers:
    """A tensor on the CPU, detached, and what it was: "tensor", "array", "number", …

    values: None where there are too many of them; shape and dtype are always known.
    """

    values: Tensor | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str


@dataclass(frozen=True)
class Several:
    """What a list, a tuple, a set … held. length: also of what was too much to keep."""

    items: list
    kind: str
    length: int


@dataclass(frozen=True)
class Named:
    """What a dictionary held: keys and values."""

    items: dict
    kind: str = "dict"


@dataclass(frozen=True)
class Thing:
    """What cannot be compared. name: what it is, with its article; advice: what to do, or ""."""

    name: str
    advice: str = ""


def plain(value: Any) -> Any:
    """A copy of a value in plain things; never raises."""
    try:
        return _Copier().copy(value, ())
    except Exception as error:  # a strange tensor
        return Thing(f"{a(class_name(value))} that cannot be read ({class_name(error)})")


def class_name(value: Any) -> str:
    """The name of a value's class, whatever its metaclass says."""
    return type.__dict__["__name__"].__get__(type(value))


def a(noun: str) -> str:
    """A noun with its article."""
    return ("an " if noun[:1].lower() in "aeiou" else "a ") + noun


def holds_ellipsis(value: Any) -> bool:
    """Whether `...` stands somewhere in something plain."""
    if isinstance(value, Named):
        return any(map(holds_ellipsis, value.items.values()))
    if isinstance(value, Several):
        return any(map(holds_ellipsis, value.items))
    return value is ...


class _Copier:
    """Makes one plain copy, of no more than so many items."""

    def __init__(self):
        self.left = MOST

    def copy(self, value: Any, above: tuple[int, ...]) -> Any:
        """above: the identities of what this value lies in."""
        kind = type(value)
        if value is None or value is ... or kind in (bool, int, float, complex):
            return value
        if issubclass(kind, Tensor):
            return numbers_of(value)
        if issubclass(kind, np.ndarray):
            return self._array(value, above)
        if issubclass(kind, np.generic) and not issubclass(kind, str | bytes):
            return self._array(np.asarray(value), above, "number")
        if issubclass(kind, str):
            return str.__getitem__(value, slice(0, MOST))
        if issubclass(kind, bytes):
            return bytes.__getitem__(value, slice(0, MOST))
        if issubclass(kind, int):
            return int.__add__(value, 0)
        if issubclass(kind, float):
            return float.__add__(value, 0.0)
        for one, items in _ITEMS.items():
            if issubclass(kind, one):
                return self._several(value, one.__name__, items(value), one.__len__(value), above)
        if issubclass(kind, dict):
            return self._named(value, above)
        return _thing(value)

    def _lies_too_deep(self, value: Any, name: str, above: tuple[int, ...]) -> Thing | None:
        if id(value) in above:
            return Thing(f"{a(name)} that contains itself")
        if len(above) >= DEEPEST:
            return Thing(f"{a(name)} inside {DEEPEST} others")
        return None

    def _several(self, value: Any, name: str, items: Any, length: int, above: tuple) -> Any:
        if strange := self._lies_too_deep(value, name, above):
            return strange
        kept = []
        for item in items:
            if self.left <= 0:
                break
            self.left -= 1
            kept.append(self.copy(item, (*above, id(value))))
        strange = [one for one in kept if isinstance(one, Thing) and "itself" in one.name]
        return strange[0] if strange else Several(kept, name, length)

    def _named(self, value: dict, above: tuple) -> Any:
        if strange := self._lies_too_deep(value, "dictionary", above):
            return strange
        items = {}
        for key, item in list(dict.items(value)):
            if self.left <= 0:
                break
            self.left -= 1
            key = key if type(key) in (str, int, float, bool, type(None)) else _as_key(key)
            items[key] = self.copy(item, (*above, id(value)))
        return Named(items)

    def _array(self, value: np.ndarray, above: tuple, kind: str = "array") -> Any:
        value = np.array(value, subok=False)
        if value.dtype.kind in "biufc" and value.dtype.itemsize <= 8 * (
            1 + (value.dtype.kind == "c")
        ):
            native = value.astype(value.dtype.newbyteorder("="))
            return numbers_of(
                torch.from_numpy(np.ascontiguousarray(native).reshape(value.shape)), kind
            )
        if value.dtype.kind in "f":
            return numbers_of(torch.from_numpy(value.astype(np.float64)), kind)
        if value.dtype.kind in "SUO" and value.ndim == 1:
            return self._several(value, "array", value.tolist(), len(value), above)
        if value.dtype.kind in "SUO" and value.ndim == 0:
            return self.copy(value.item(), above)
        return Thing(f"a NumPy array of {value.dtype}")


_ITEMS = {
    list: list.__iter__,
    tuple: tuple.__iter__,
    range: range.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
}


def _as_key(key: Any) -> str:
    return class_name(key)


def numbers_of(value: Tensor, kind: str = "tensor") -> Numbers | Thing:
    """A tensor of any layout, device and class as an ordinary one."""
    with torch._C.DisableTorchFunctionSubclass():
        value = Tensor.detach(value)
        if type(value) is not Tensor:
            value = Tensor.as_subclass(value, Tensor)
        if value.is_nested:
            return Thing("a nested tensor", "Its rows have different lengths; give them one shape.")
        shape, dtype = tuple(value.shape), value.dtype
        if value.device.type == "meta":
            return Thing(
                f"a tensor on the device meta, of shape {shape}, which holds no numbers",
                "Make it on an ordinary device.",
            )
        if value.numel() > 100 * MOST:
            return Numbers(None, shape, dtype, kind)
        if value.is_quantized:
            value, kind = value.dequantize(), "quantized tensor"
        if value.layout != torch.strided:
            value, kind = value.to_dense(), "sparse tensor"
        value = value.cpu().resolve_conj().resolve_neg().contiguous()
        return Numbers(value.clone(), shape, dtype, kind)


def _thing(value: Any) -> Thing:
    """What a value is that holds no result."""
    kind, name = type(value), class_name(value)
    if issubclass(kind, types.GeneratorType):
        return Thing("a generator", "Put list(…) around it.")
    if kind in (map, filter, zip, enumerate, reversed):
        return Thing(f"{a(kind.__name__)} object", "Put list(…) around it.")
    if kind in (type({}.keys()), type({}.values()), type({}.items())):
        return Thing("a view of a dictionary", "Put list(…) around it.")
    if issubclass(kind, types.CoroutineType | types.AsyncGeneratorType):
        return Thing("a coroutine", "Write `def`, without `async`.")
    if issubclass(kind, types.BuiltinMethodType | types.MethodType):
        return Thing("a method that was not called", "Write parentheses behind its name: x.mean().")
    if issubclass(kind, types.FunctionType | functools.partial):
        return Thing("a function", "Return its result: call it, with parentheses.")
    if issubclass(kind, type):
        return Thing("a class")
    if issubclass(kind, nn.Module):
        return Thing(f"a module of the class {name}", "Return what it computes: model(x).")
    if issubclass(kind, BaseException):
        return Thing(f"an error ({name})", "Errors are raised, with `raise`, not returned.")
    return Thing(f"an object of the class {name}")


def state_of(value: Any) -> Any:
    """Something that is equal before and after a call if the value was not changed."""
    if issubclass(type(value), nn.Module):
        held = nn.Module.state_dict(value)
        return (value.training, {name: state_of(tensor) for name, tensor in held.items()})
    return _frozen(plain(value))


def _frozen(value: Any) -> Any:
    if isinstance(value, Numbers):
        return (value.shape, value.dtype, None if value.values is None else _bytes(value.values))
    if isinstance(value, Several):
        return (value.kind, [_frozen(one) for one in value.items])
    if isinstance(value, Named):
        return {key: _frozen(one) for key, one in value.items.items()}
    return repr(value) if isinstance(value, float) else value


def _bytes(values: Tensor) -> bytes:
    flat = values.reshape(-1)
    side_by_side = torch.empty(len(flat), dtype=flat.dtype, device="cpu").copy_(flat)
    return side_by_side.view(torch.uint8).numpy().tobytes()


def is_class(value: Any) -> bool:
    """`inspect.isclass`, whatever the value says of its class."""
    return issubclass(type(value), type)
