"""What can be seen from wrong results when no catalogued mistake fits.

A sentence states what is seen; it names a cause only where nothing else could cause it.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch

from mbm_lab.exercises import patterns
from mbm_lab.exercises.comparing import (
    SEQUENCES,
    accuracy,
    as_tensor,
    family,
    is_number,
    same,
    same_loosely,
)
from mbm_lab.exercises.plain import Named, Numbers, Several, Thing
from mbm_lab.exercises.running import Outcome, Raised
from mbm_lab.exercises.showing import kind_of, numbers_in_words, show

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

DIFFER = "The numbers differ."


class Part(NamedTuple):
    """A part of a result. path: keys and places that lead to it; name: what it is called."""

    path: tuple
    name: str


def describe(
    expected: list[Any],
    outcomes: list[Outcome],
    arguments: list[dict[str, Any]],
    results: tuple[str, ...] = (),
    notes: list[str] | None = None,
) -> str:
    """What is seen in wrong results.

    expected: what should have come of each input; arguments: {name: value} of each; results: what
    the values are called, where an answer returns several; notes: what each input is.
    """
    valued = [place for place, outcome in enumerate(outcomes) if outcome.error is None]
    wrong = [place for place in valued if not same(expected[place], outcomes[place].value)]
    if not wrong:
        return ""
    got = [outcomes[place].value for place in valued]
    if all(outcomes[place].value is None for place in wrong) and expected[wrong[0]] is not None:
        if len(wrong) == len(valued):
            return "Your function returns nothing. Let it end with `return` and the result."
        return "For this input your function returns nothing: one of its ways has no `return`."
    wanted = [expected[place] for place in valued]
    given = [arguments[place] for place in valued]
    so_far = _right_so_far(wrong, valued, len(outcomes), notes or [])
    if order := _other_order(wanted, got):
        return order + so_far
    part = _first_wrong_part(wanted, got, results)
    sentence = _of_part(wanted, got, given, part)
    return sentence + _others(wanted, got, part) + so_far


def _right_so_far(wrong: list[int], valued: list[int], count: int, notes: list[str]) -> str:
    """For how many inputs it is right, and for which, where this takes few words."""
    right = [place for place in valued if place not in wrong]
    if not right:
        return ""
    said = f" It is right for {len(right)} of {count} inputs"
    if notes and len(right) <= 2:
        return f"{said} ({'; '.join(notes[place] for place in right)})."
    if notes and len(wrong) <= 2:
        return f"{said}, and wrong for {'; '.join(notes[place] for place in wrong)}."
    return said + "."


def _other_order(wanted: list[Any], got: list[Any]) -> str | None:
    """Whether several values are right, but stand in another order."""
    keys = _keys(wanted, got)
    if keys is None or not 2 <= len(keys) <= 4 or isinstance(wanted[0], Named):
        return None
    for order in itertools.permutations(keys):
        if all(
            same_loosely(at(theirs, (key,)), at(ours, (place,)))
            for key, place in enumerate(order)
            for theirs, ours in zip(wanted, got, strict=True)
        ):
            moved = next(key for key, place in enumerate(order) if key != place)
            return (
                f"The values are right, but in another order: what should come "
                f"{ORDINALS[moved]} comes {ORDINALS[order[moved]]}."
            ) if list(order) != keys else None  # fmt: skip
    return None


# --- Down into tuples and dictionaries


def _first_wrong_part(wanted: list[Any], got: list[Any], results: tuple[str, ...]) -> Part:
    """The first part of the results that is wrong, as far down as all have one structure."""
    part = Part((), "")
    for _ in range(3):
        theirs = [at(one, part.path) for one in wanted]
        ours = [at(one, part.path) for one in got]
        keys = _keys(theirs, ours)
        if keys is None:
            return part
        for key in keys:
            if not all(
                same(at(one, (key,)), at(other, (key,)))
                for one, other in zip(theirs, ours, strict=True)
            ):
                part = Part((*part.path, key), _name(key, part, theirs[0], results))
                break
        else:
            return part
    return part


def _keys(theirs: list[Any], ours: list[Any]) -> list | None:
    """The parts that all these results have; None where they are not all tuples of one length,
    or not all dictionaries with the same names."""
    both = [*theirs, *ours]
    if all(isinstance(one, Named) for one in both):
        first = list(theirs[0].items)
        return first if all(set(one.items) == set(first) for one in both) else None
    if all(isinstance(one, Several) and one.kind in SEQUENCES for one in both):
        # a tuple has parts of different meaning; a list is one whole, unless it holds tensors
        has_parts = theirs[0].kind == "tuple" or any(
            isinstance(one, Numbers) and one.shape for one in theirs[0].items
        )
        if has_parts and len({one.length for one in both}) == 1:
            return list(range(theirs[0].length))
    return None


def at(value: Any, path: tuple) -> Any:
    """A part of a plain result."""
    for key in path:
        value = value.items[key]
    return value


def _name(key: Any, above: Part, whole: Any, results: tuple[str, ...]) -> str:
    """What a part is called, to begin a sentence with."""
    within = f"{above.name}, " if above.name else ""
    if isinstance(whole, Named):
        return f"{within}“{key}”"
    name = f"the {ORDINALS[key]} value" if key < len(ORDINALS) else f"value number {key + 1}"
    called = f" ({results[key]})" if not above.path and key < len(results) else ""
    name = within + name + called
    return name


def _others(wanted: list[Any], got: list[Any], part: Part) -> str:
    """Which of the other parts are right."""
    if len(part.path) != 1 or isinstance(wanted[0], Named):
        return ""
    right = [
        key
        for key in range(wanted[0].length)
        if all(
            same(at(one, (key,)), at(other, (key,))) for one, other in zip(wanted, got, strict=True)
        )
    ]
    if not right or wanted[0].length > len(ORDINALS):
        return ""
    if len(right) == 1:
        return f" The {ORDINALS[right[0]]} value is right."
    return " The others are right." if len(right) == wanted[0].length - 1 else ""


# --- One part


def _of_part(wanted: list[Any], got: list[Any], given: list[dict], part: Part) -> str:
    theirs = [at(one, part.path) for one in wanted]
    ours = [at(one, part.path) for one in got]
    begins = part.name[:1].upper() + part.name[1:]
    it = begins or "Its result"
    first = next(
        place for place, (one, other) in enumerate(zip(theirs, ours, strict=True))
        if not same(one, other)
    )  # fmt: skip
    misfit = _misfit(theirs[first], ours[first], begins)
    numbers_right = all(map(same_loosely, theirs, ours))
    if misfit and numbers_right and isinstance(theirs[first], Numbers | Several | int | float):
        if _is_convertible(theirs[first], ours[first]):
            values = "numbers are" if _holds_numbers(theirs[first]) else "content is"
            return f"The {values} right. But: {misfit[0].lower()}{misfit[1:]}"
    seen = _seen(theirs, ours, given)
    if seen and begins:
        seen = f"{begins}: {seen[0].lower()}{seen[1:]}"
    if misfit and seen:
        return f"{seen} Also: {misfit[0].lower()}{misfit[1:]}"
    if misfit:
        wrong_too = ""
        if _is_convertible(theirs[first], ours[first]) and _comparable(theirs[first], ours[first]):
            wrong_too = " Its numbers differ, too."
        return misfit + wrong_too
    return seen or (f"{it} differs." if part.name else DIFFER)


def _comparable(theirs: Any, ours: Any) -> bool:
    return _holds_numbers(theirs) and not isinstance(ours, Thing | str)


def _holds_numbers(value: Any) -> bool:
    if isinstance(value, Several):
        return all(map(_holds_numbers, value.items))
    return isinstance(value, Numbers | int | float | complex)


def _is_convertible(theirs: Any, ours: Any) -> bool:
    """Whether both hold values, in whatever."""
    kinds = Numbers | Several | int | float | complex | bool
    return isinstance(theirs, kinds) and isinstance(ours, kinds)


def _seen(theirs: list[Any], ours: list[Any], given: list[dict]) -> str | None:
    """A relation of the values of a part, or what can be counted of them."""
    paired = patterns.as_pairs(theirs, ours, given)
    if paired is None:
        return _seen_otherwise(theirs, ours)
    pairs, text = paired
    if all(_is_truth(one) for one in theirs) and all(_is_truth(one) for one in ours):
        return patterns.truths(pairs)
    if not text and (said := patterns.holes(pairs)):
        return said
    if said := patterns.pattern(pairs, text):
        return said
    if shape := _shape(theirs, ours):
        return shape
    return patterns.counted(pairs, text)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, Numbers) and value.dtype == torch.bool)


def _shape(theirs: list[Any], ours: list[Any]) -> str | None:
    """The first shape, or length, that is another."""
    for one, other in zip(theirs, ours, strict=True):
        if isinstance(one, Numbers) and isinstance(other, Numbers) and one.shape != other.shape:
            return f"Its result has the shape {other.shape}; it should have {one.shape}."
        if isinstance(one, Several) and isinstance(other, Several) and one.length != other.length:
            return f"It returns {_values(other.length)}; {_are(one.length)} expected."
    return None


def _values(count: int) -> str:
    return f"{count} value" + ("" if count == 1 else "s")


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def _seen_otherwise(theirs: list[Any], ours: list[Any]) -> str | None:
    """What is seen in texts and ragged lists."""
    if all(isinstance(one, str) for one in [*theirs, *ours]):
        return _seen_in_texts(theirs, ours)
    if all(isinstance(one, Several) for one in [*theirs, *ours]):
        if said := _shape(theirs, ours):
            return said
        for one, other in zip(theirs, ours, strict=True):
            for place, (a, b) in enumerate(zip(one.items, other.items, strict=False)):
                if not same(a, b):
                    return f"It differs at place {place} (counted from 0)."
    if all(isinstance(one, Named) for one in [*theirs, *ours]):
        return None
    return None


def _seen_in_texts(theirs: list[str], ours: list[str]) -> str | None:
    ways = {
        "Only capital and small letters differ.": lambda x: x.lower(),
        "Only spaces differ.": lambda x: "".join(x.split()),
        "Only punctuation differs.": lambda x: "".join(c for c in x if c.isalnum() or c == " "),
    }
    for sentence, way in ways.items():
        if all(way(one) == way(other) for one, other in zip(theirs, ours, strict=True)):
            return sentence
    if all(one == other[::-1] for one, other in zip(theirs, ours, strict=True)):
        return "The text is backwards."
    if len(set(ours)) == 1 and len(set(theirs)) > 1:
        return f"It is always {show(ours[0])}."
    return None


# --- Another kind


def _misfit(wanted: Any, got: Any, name: str) -> str | None:
    """A sentence on a result of another kind, length or dtype; None where these fit."""
    it = f"{name} is" if name else "It returns"
    if isinstance(got, Thing):
        advice = f" {got.advice}" if got.advice else ""
        if got.name.startswith("an object"):
            return f"Your result could not be compared: it is {got.name}.{advice}"
        return f"{it} {got.name}; {kind_of(wanted)} is expected.{advice}"
    if isinstance(wanted, Named):
        return _other_names(wanted, got, it)
    if isinstance(wanted, Several):
        if not isinstance(got, Several) or got.kind not in SEQUENCES:
            return f"{it} {kind_of(got)}; {kind_of(wanted)} is expected.{_convert(wanted, got)}"
        if got.length != wanted.length and wanted.kind == "tuple":
            has = f"{name} has" if name else "It returns"
            return f"{has} {_values(got.length)}; {_are(wanted.length)} expected."
        return None
    if isinstance(wanted, Numbers | int | float) and not isinstance(wanted, bool):
        return _other_numbers(wanted, got, it, name)
    if type(wanted) is not type(got) and not (_is_truth(wanted) and _is_truth(got)):
        return f"{it} {kind_of(got)}; {kind_of(wanted)} is expected."
    return None


def _other_names(wanted: Named, got: Any, it: str) -> str | None:
    if not isinstance(got, Named):
        return f"{it} {kind_of(got)}; {kind_of(wanted)} is expected."
    if missing := [key for key in wanted.items if key not in got.items]:
        return f"“{missing[0]}” is missing."
    if more := [key for key in got.items if key not in wanted.items]:
        return f"“{more[0]}” should not be there."
    return None


def _other_numbers(wanted: Any, got: Any, it: str, name: str) -> str | None:
    is_tensor = isinstance(wanted, Numbers)
    single = not is_tensor or wanted.shape == ()
    fits = isinstance(got, Numbers) and (got.kind == "tensor" or (single and got.shape == ()))
    fits = fits and got.kind in ("tensor", "array", "number")
    if not fits and not (single and is_number(got)):
        return f"{it} {kind_of(got)}; {kind_of(wanted)} is expected.{_convert(wanted, got)}"
    theirs, ours = as_tensor(wanted), as_tensor(got)
    if ours is None and isinstance(got, Numbers):
        return f"{it} a tensor of shape {got.shape}; the shape {tuple(theirs.shape)} is expected."
    if theirs is None or ours is None:
        return None
    holds = f"{name} holds" if name else "Its result holds"
    if family(theirs) != family(ours) and (
        is_tensor or {family(theirs), family(ours)} != {"whole", "real"}
    ):
        return (
            f"{holds} {numbers_in_words(ours.dtype)} ({ours.dtype}); "
            f"{numbers_in_words(theirs.dtype)} ({theirs.dtype}) are expected."
        )
    if accuracy(ours) and theirs.shape == ours.shape:
        return (
            f"{holds} numbers of half precision ({ours.dtype}), and they differ by more than that."
        )
    if is_tensor and theirs.ndim == 0 and ours.ndim and ours.numel() == 1:
        return (
            f"{it} a tensor of shape {tuple(ours.shape)}; a single number, of shape (), is "
            "expected. .squeeze() makes one."
        )
    if not is_tensor and ours.ndim:
        return f"{it} a tensor of shape {tuple(ours.shape)}; a single number is expected."
    return None


def _convert(wanted: Any, got: Any) -> str:
    """How to turn what came into what is expected."""
    if isinstance(wanted, Numbers) and wanted.shape != ():
        if isinstance(got, Numbers) and got.kind == "array":
            return " torch.from_numpy(…) makes one of a NumPy array."
        if isinstance(got, Numbers) and got.kind == "sparse tensor":
            return " .to_dense() makes one."
        if isinstance(got, Numbers) and got.kind == "quantized tensor":
            return " .dequantize() makes one."
        if isinstance(got, Several) and got.kind in ("list", "tuple", "range"):
            if any(isinstance(one, Numbers) for one in got.items):
                return " torch.stack(…) makes one of a list of tensors."
            return " torch.tensor(…) makes one."
    if isinstance(wanted, Several) and wanted.kind == "list":
        if isinstance(got, Numbers):
            return " .tolist() makes one."
        if isinstance(got, Several):
            no_order = (
                " A set has no order, and holds everything once." if "set" in got.kind else ""
            )
            return no_order or " list(…) makes one."
    if isinstance(wanted, int | float) and isinstance(got, Several) and got.length == 1:
        return " Take its only item."
    return ""


# --- Errors


def describe_error(error: Raised, names: list[str], count: int) -> str:
    """What was raised, and in which line of the learner's code."""
    where = f" in the line `{error.line}`" if error.line else ""
    if "RecursionError" in error.kinds:
        return (
            f"Your function calls itself again and again{where} (RecursionError). It needs a case "
            "in which it answers without calling itself, and every call must come nearer to it."
        )
    if "MemoryError" in error.kinds:
        return f"Your code asks for more memory than there is{where} (MemoryError)."
    text = error.text
    if error.name == "NotImplementedError" and '"forward"' in text:
        return "Your class has no `forward`: write the method, and spell it like this."
    said = f"Your code raises {error.name}{where}" + (f": {text}" if text else ".")
    if error.name == "TypeError" and not error.line and "argument" in text:
        called = f"It is called with {count} argument{'' if count == 1 else 's'}: "
        said += f". {called}{', '.join(names)}." if not text.endswith(".") else f" {called}"
    return said
