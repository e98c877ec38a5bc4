"""Values in a few words: inputs as they are given, results in plain things (`plain.py`)."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab.exercises.comparing import as_tensor, close_entries
from mbm_lab.exercises.plain import Named, Numbers, Several, Thing, a, class_name

WIDE = 80
"""The characters of a line."""
WHOLE = 16
"""A tensor of so many numbers is shown whole."""
LONG = 200
"""The characters of a value."""
DIGITS = (4, 6, 9, 17)
"""So many digits are shown; more only where two values would look alike."""


def wrap(text: str) -> str:
    return textwrap.fill(text, WIDE)


def show(value: Any, digits: int = 4, start: int = 0) -> str:
    """A value in a few words: small tensors whole, large ones by shape and some numbers.

    start: the place in a large tensor, or a long list, at which to begin.
    """
    if isinstance(value, Numbers):
        return _show_numbers(value, digits, start)
    if isinstance(value, Several):
        return _show_several(value, digits, start)
    if isinstance(value, Named):
        value = value.items
    if isinstance(value, Thing):
        return value.name
    if isinstance(value, Tensor):
        return _show_numbers(
            Numbers(value.detach().cpu(), tuple(value.shape), value.dtype, "tensor"), digits, start
        )
    if isinstance(value, nn.Module):
        mode = "training" if value.training else "evaluation"
        return f"{a(class_name(value))} in {mode} mode"
    if inspect.isfunction(value):
        return f"the function {value.__name__}"
    if isinstance(value, dict):
        parts = [f"{key!r}: {show(one, digits)}" for key, one in list(value.items())[:WHOLE]]
        return _cut("{" + ", ".join(parts) + ("}" if len(value) <= WHOLE else ", …}"), 3 * LONG)
    if isinstance(value, list):
        return _show_several(Several(value, "list", len(value)), digits, start)
    if isinstance(value, tuple):
        return _show_several(Several(list(value), "tuple", len(value)), digits, start)
    return _cut(rounded(value, digits), LONG)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _show_numbers(value: Numbers, digits: int, start: int) -> str:
    name = {"array": "array", "number": ""}.get(value.kind, "tensor")
    if value.values is None:
        return f"a {name} of shape {value.shape}"
    if value.values.numel() == 0:
        return f"an empty {name} of shape {value.shape}"
    if value.kind == "number":
        return rounded(value.values.item(), digits)
    if value.values.numel() <= WHOLE:
        return f"{name}({rounded(value.values.tolist(), digits)})"
    numbers = value.values.flatten()
    first = ", ".join(rounded(one, digits) for one in numbers[start : start + 4].tolist())
    more = ", …" if start + 4 < len(numbers) else ""
    if not start:
        return f"{name} of shape {value.shape}: {first}{more}"
    return f"{name} of shape {value.shape}, from {place_of(start, value.shape)}: {first}{more}"


def _show_several(value: Several, digits: int, start: int) -> str:
    opens, closes = {"tuple": "()", "set": "{}", "frozenset": "{}"}.get(value.kind, "[]")
    items = [show(one, digits) for one in value.items[start : start + WHOLE]]
    length = 0
    for count, item in enumerate(items):
        length += len(item) + 2
        if length > 2 * LONG and count:
            items = items[:count]
            break
    more = [] if start + len(items) >= value.length else ["…"]
    comma = "," if value.kind == "tuple" and value.length == 1 else ""
    return opens + ", ".join((["…"] if start else []) + items + more) + comma + closes


def place_of(index: int, shape: tuple[int, ...]) -> list[int]:
    """The place, row and column …, of a number of a tensor."""
    return [int(one) for one in np.unravel_index(index, shape)]


def show_pair(expected: Any, got: Any) -> tuple[str, str]:
    """Two different results in a few words, from where they differ, and so that they look
    different."""
    start = first_difference(expected, got) or 0
    if not (isinstance(expected, Numbers) and expected.values is not None):
        start = max(start - 1, 0) if start >= 8 else 0
    elif expected.values.numel() <= WHOLE:
        start = 0
    for digits in DIGITS:
        pair = show(expected, digits, start), show(got, digits, start)
        if pair[0] != pair[1]:
            return pair
    kinds = _kind_in_brackets(expected), _kind_in_brackets(got)
    return f"{pair[0]}{kinds[0]}", f"{pair[1]}{kinds[1]}"


def _kind_in_brackets(value: Any) -> str:
    return f" ({value.dtype})" if isinstance(value, Numbers) else f" ({kind_of(value)})"


def first_difference(expected: Any, got: Any) -> int | None:
    """The place (in the flattened tensor, or in a list) at which two results first differ."""
    if isinstance(expected, Several) and isinstance(got, Several):
        pairs = zip(expected.items, got.items, strict=False)
        texts = [show(one, 17) != show(other, 17) for one, other in pairs]
        return texts.index(True) if True in texts else None
    theirs, ours = as_tensor(expected), as_tensor(got)
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return None
    differs = (~close_entries(theirs, ours)).flatten().nonzero()
    return int(differs[0]) if len(differs) else None


def rounded(value: Any, digits: int = 4) -> str:
    """A number with four digits after the point, or with as many as it needs; a list of them."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float | np.floating):
        value = float(value)
        if abs(value) >= 1e4 or 0 < abs(value) < 0.5 * 10**-digits:
            return f"{value:.{digits}g}"
        return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits < 17 else repr(value)
    if isinstance(value, int):
        if abs(value) < 10**30:
            return str(int(value))
        try:
            return f"{value:.3e}"
        except OverflowError:
            return "a whole number of more than 300 digits"
    if isinstance(value, list):
        return f"[{', '.join(rounded(one, digits) for one in value)}]"
    return repr(value)


def kind_of(value: Any) -> str:
    """What a result is, in words."""
    if value is None:
        return "nothing (None)"
    if value is ...:
        return "..."
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, complex):
        return "a complex number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Thing):
        return value.name
    if isinstance(value, Named):
        return "a dictionary"
    if isinstance(value, Several):
        return {"array": "a NumPy array"}.get(value.kind, a(value.kind))
    if isinstance(value, Numbers):
        if value.kind == "number":
            return "a number"
        return {"array": "a NumPy array"}.get(value.kind, a(value.kind))
    return a(class_name(value))


def numbers_in_words(dtype: torch.dtype) -> str:
    """What kind of numbers a dtype holds."""
    if dtype == torch.bool:
        return "True and False"
    if dtype.is_complex:
        return "complex numbers"
    return "numbers with a fraction" if dtype.is_floating_point else "whole numbers"
