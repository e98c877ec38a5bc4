"""Whether two results are the same. All of them are plain (`plain.py`).

Two questions are asked. Is a result right? A list for a tuple, a number for a tensor of one number,
and single for double precision are right; a list for a tensor is not. And does it hold the same
numbers, whatever they are kept in? This tells which mistake was made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mbm_lab.exercises.plain import Named, Numbers, Several

SEQUENCES = ("list", "tuple")

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""How far two numbers may differ by rounding."""


def is_number(value: Any) -> bool:
    """Whether it is a number of Python (not a truth value)."""
    return isinstance(value, int | float | complex) and not isinstance(value, bool)


def same(expected: Any, got: Any) -> bool:
    """Whether a result is the expected one.

    A number and a tensor of one number (shape ()) count as the same, a list and a tuple, too.
    Numbers may differ by rounding: 1e-5 plus 1e-4 of the number, and in half precision by more.
    """
    if isinstance(expected, Named):
        return (
            isinstance(got, Named)
            and expected.items.keys() == got.items.keys()
            and all(same(one, got.items[key]) for key, one in expected.items.items())
        )
    if isinstance(expected, Several):
        return (
            isinstance(got, Several)
            and got.kind in SEQUENCES
            and expected.length == got.length == len(got.items)
            and all(map(same, expected.items, got.items))
        )
    if isinstance(expected, str | bytes) or expected is None:
        return type(got) is type(expected) and got == expected
    if not (isinstance(expected, Numbers) or is_number(expected) or isinstance(expected, bool)):
        return type(got) is type(expected) and got == expected
    if isinstance(expected, Numbers) and expected.shape != ():
        if not isinstance(got, Numbers) or got.kind != "tensor":
            return False
    if isinstance(got, Numbers) and got.kind not in ("tensor", "array", "number"):
        return False
    theirs, ours = as_tensor(expected), as_tensor(got)
    if theirs is None or ours is None:
        return is_number(expected) and is_number(got) and expected == got
    if family(theirs) != family(ours):
        if isinstance(expected, Numbers) or {family(theirs), family(ours)} != {"whole", "real"}:
            return False
    return theirs.shape == ours.shape and close(theirs, ours)


def family(numbers: Tensor) -> str:
    """Which kind of numbers a tensor holds: "truth", "whole", "real" or "complex"."""
    if numbers.dtype == torch.bool:
        return "truth"
    if numbers.is_complex():
        return "complex"
    return "real" if numbers.is_floating_point() else "whole"


def as_tensor(value: Any) -> Tensor | None:
    """Numbers, a number or a truth value as a tensor; None for anything else, and for too many."""
    if isinstance(value, Numbers):
        return value.values
    if isinstance(value, bool | int | float | complex):
        dtype = {bool: torch.bool, int: torch.int64, float: torch.float64}.get(type(value))
        try:
            return torch.tensor(value, dtype=dtype or torch.complex128)
        except (OverflowError, RuntimeError, ValueError):  # a very large whole number
            return None
    return None


def accuracy(*numbers: Tensor) -> float:
    """The relative rounding error of the coarsest of these, if it is coarse: of half precision."""
    steps = [torch.finfo(one.dtype).eps for one in numbers if one.is_floating_point()]
    coarsest = max(steps, default=0.0)
    return 8 * coarsest if coarsest > 1e-5 else 0.0


def wide(numbers: Tensor) -> Tensor:
    """In double precision."""
    return numbers.to(torch.complex128 if numbers.is_complex() else torch.float64)


def close(theirs: Tensor, ours: Tensor) -> bool:
    """Whether tensors of one shape hold the same numbers, but for rounding."""
    return bool(close_entries(theirs, ours).all())


def close_entries(theirs: Tensor, ours: Tensor) -> Tensor:
    """For each entry, whether both hold the same number, but for rounding. Nan is like nan."""
    coarse = accuracy(theirs, ours)
    theirs, ours = wide(theirs), wide(ours)
    if theirs.dtype != ours.dtype:
        theirs, ours = theirs.to(torch.complex128), ours.to(torch.complex128)
    finite = theirs.abs()[theirs.isfinite()]
    most = float(finite.max()) if len(finite) else 0.0
    relative, absolute = max(RELATIVE, coarse), max(ABSOLUTE, coarse * most)
    return torch.isclose(ours, theirs, rtol=relative, atol=absolute, equal_nan=True)


# --- Whatever the numbers are kept in


def loose(value: Any) -> Any:
    """The same numbers as one tensor where they can be one; a list for any sequence.

    A single number has the shape (), also where it stood in a list or a tensor of its own.
    """
    if isinstance(value, Numbers | int | float | complex):
        numbers = as_tensor(value)
        if numbers is None:
            return value
        return numbers.reshape(()) if numbers.numel() == 1 else numbers
    if isinstance(value, Named):
        return {key: loose(one) for key, one in value.items.items()}
    if isinstance(value, Several):
        if value.length != len(value.items):
            return f"{value.length} values, too many to compare"
        if stacked := _stacked(value):
            return stacked[0]
        return [loose(one) for one in value.items]
    return value


def _stacked(value: Several) -> list[Tensor] | None:
    """The numbers of a list (of lists) as one tensor, in a list; None where they are ragged."""
    if value.length != len(value.items):
        return None
    if len(value.items) > 1 and all(type(item) in (bool, int, float) for item in value.items):
        try:
            return [torch.tensor(value.items, dtype=torch.float64)]
        except (OverflowError, RuntimeError, ValueError):
            return None
    parts = []
    for item in value.items:
        if isinstance(item, Several):
            inner = _stacked(item)
            if inner is None:
                return None
            parts.append(inner[0])
        else:
            numbers = as_tensor(item) if isinstance(item, Numbers | int | float | complex) else None
            if numbers is None:
                return None
            parts.append(numbers)
    if not parts:
        return [torch.zeros(0)]
    if len({part.shape for part in parts}) != 1:
        return None
    stacked = torch.stack([wide(part) for part in parts]) if not any(
        part.is_complex() for part in parts
    ) else torch.stack([part.to(torch.complex128) for part in parts])  # fmt: skip
    return [stacked.reshape(()) if stacked.numel() == 1 else stacked]


def same_loosely(one: Any, other: Any) -> bool:
    """Whether two results hold the same, whatever it is kept in."""
    return loosely(loose(one), loose(other))


def loosely(one: Any, other: Any) -> bool:
    """`same_loosely`, for what `loose` made."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.numel() == other.numel() == 0:
            return True
        return one.shape == other.shape and close(one, other)
    if isinstance(one, Tensor) and isinstance(other, list):
        other, one = one, other
    if isinstance(one, list) and isinstance(other, Tensor):  # of tensors of one shape, and stacked
        return len(one) == (len(other) if other.ndim else 1) and all(
            map(loosely, one, other if other.ndim else [other])
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(loosely(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(loosely, one, other))
    return one == other


def same_kind(one: Any, other: Any) -> bool:
    """Whether two results are of one kind, down to the kinds of their parts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Numbers):
        return one.kind == other.kind
    if isinstance(one, Several):
        return one.kind == other.kind and all(map(same_kind, one.items, other.items))
    if isinstance(one, Named):
        return all(same_kind(value, other.items.get(key)) for key, value in one.items.items())
    return True


def exactly_same(one: Any, other: Any) -> bool:
    """Whether two results are the same, and of one kind."""
    return same_kind(one, other) and (same(one, other) or _equal_things(one, other))


def _equal_things(one: Any, other: Any) -> bool:
    """For results that `same` never calls right: of things, sets, arrays."""
    return (
        not isinstance(one, Numbers | Several | Named)
        and type(one) is type(other)
        and (one == other)
    )
