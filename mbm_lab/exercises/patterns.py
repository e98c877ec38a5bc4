"""Relations between what is expected and what came, each with its sentence.

A relation is said only if it holds on every input to which there is a result. So a sentence is
true; it says what is seen, and names a cause only where there is one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mbm_lab.exercises.comparing import close, close_entries, loose
from mbm_lab.exercises.plain import Several, plain
from mbm_lab.exercises.showing import place_of, rounded


class Pair(NamedTuple):
    """Two results for one input, as tensors of double precision.

    theirs: the expected one; ours: what came; arguments: {name: loose value} of the input.
    """

    theirs: Tensor
    ours: Tensor
    arguments: dict[str, Any]


def pattern(pairs: list[Pair], text: bool = False) -> str | None:
    """A sentence on a relation that holds on every input; None where there is none.

    text: the numbers stand for words, so only their order and number mean something.
    """
    shapes = all(pair.theirs.shape == pair.ours.shape for pair in pairs)
    finite = all(bool(one.isfinite().all()) for pair in pairs for one in pair[:2])
    found: Iterator[str | None]
    searches: list[Callable[[list[Pair]], str | None]] = [_an_input]
    if shapes and finite and not text:
        searches += [_constant, _linear, _functions, _factors]
    if shapes:
        searches += [_order]
    if not shapes:
        searches += [_too_many_dimensions, _length]
        if not text:
            searches += [_reductions]
    found = (search(pairs) for search in searches)
    return next((sentence for sentence in found if sentence), None)


def _everywhere(
    pairs: list[Pair], right: Callable[[Tensor], Tensor], of: str = "theirs", least: int = 2
) -> bool:
    """Whether right(theirs) is ours (or right(ours) theirs) on every input, with at least so many
    different numbers to show it."""
    seen = 0
    for pair in pairs:
        one, other = (pair.theirs, pair.ours) if of == "theirs" else (pair.ours, pair.theirs)
        try:
            made = right(one)
        except (RuntimeError, IndexError, ValueError):
            return False
        if made.shape != other.shape or not close(other, made):
            return False
        seen += len(other.unique()) if other.numel() < 10_000 else 2
    return seen >= least


# --- The whole result is something else


def _an_input(pairs: list[Pair]) -> str | None:
    for name in pairs[0].arguments:
        values = [pair.arguments.get(name) for pair in pairs]
        if all(isinstance(one, Tensor) for one in values) and all(
            one.shape == pair.ours.shape and close(one, pair.ours)
            for one, pair in zip(values, pairs, strict=True)
        ):
            if sum(pair.ours.numel() for pair in pairs) >= 2:
                return f"Your result is the input `{name}`, unchanged."
    return None


def _constant(pairs: list[Pair]) -> str | None:
    ours = torch.cat([pair.ours.flatten() for pair in pairs])
    theirs = torch.cat([pair.theirs.flatten() for pair in pairs])
    if len(ours) < 2 or not close(ours, ours[:1].expand_as(ours)) or len(theirs.unique()) < 2:
        return None
    if float(ours[0].abs()) < 1e-12:
        return "Every number is zero."
    return f"It gives {rounded(float(ours[0]))} for every input."


def _linear(pairs: list[Pair]) -> str | None:
    ours = torch.cat([pair.ours.flatten() for pair in pairs])
    theirs = torch.cat([pair.theirs.flatten() for pair in pairs])
    if len(ours) < 3:
        return None
    if _near(ours, -theirs):
        return "Every number has the wrong sign."
    factor = float(ours @ theirs / theirs.square().sum().clamp(min=1e-12))
    if abs(factor) > 1e-6 and _near(ours, factor * theirs):
        return f"Every number is {factor:.4g} times what it should be."
    shift = float((ours - theirs).mean())
    if _near(ours, theirs + shift):
        return f"Every number is off by {shift:+.4g}."
    if _near(ours, 1 - theirs):
        return "Every number is 1 minus what it should be."
    both = torch.stack([theirs, torch.ones_like(theirs)], 1)
    if len(theirs.unique()) > 3 and len(pairs) > 1:
        slope, offset = torch.linalg.lstsq(both, ours[:, None]).solution.flatten().tolist()
        if abs(slope) > 1e-6 and _near(ours, slope * theirs + offset):
            return f"Every number is {slope:.4g} times what it should be, and {offset:+.4g} then."
    return None


def _near(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def _factors(pairs: list[Pair]) -> str | None:
    """Another factor for each input: a number of entries of an argument, or whatever it is."""
    factors = []
    for theirs, ours, _ in pairs:
        theirs, ours = theirs.flatten(), ours.flatten()
        size = float(theirs.square().sum())
        if not size:
            factors.append(None)
            if len(ours) and float(ours.abs().max()) > 1e-6:
                return None
            continue
        factor = float(ours @ theirs) / size
        if abs(factor) < 1e-9 or not _near(ours, factor * theirs):
            return None
        factors.append(factor)
    known = [one for one in factors if one is not None]
    if len(known) < 2:
        return None
    counts = list(_counts(pairs))
    ways = {
        "{} times what it should be": lambda n: n,
        "what it should be, divided by {}": lambda n: 1 / n,
        "√({}) times what it should be": lambda n: n**0.5,
        "what it should be, divided by √({})": lambda n: n**-0.5,
        "{} times what it should be, with the wrong sign": lambda n: -n,
    }
    for way, of in ways.items():
        for name, values in counts:
            if len(set(values)) > 1 and all(
                f is None or (n > 0 and abs(f - of(n)) <= 1e-3 * abs(f))
                for f, n in zip(factors, values, strict=True)
            ):
                return f"Every number is {way.format(name)}."
    if sum(pair.theirs.numel() for pair in pairs) >= 2 * len(pairs):
        first, second = known[0], next((f for f in known if abs(f - known[0]) > 1e-3), known[0])
        return (
            "For each input, all numbers are the same multiple of what they should be: "
            f"{first:.4g} times for one, {second:.4g} times for another."
        )
    return None


def _counts(pairs: list[Pair]) -> Iterator[tuple[str, list[float]]]:
    """What can be counted in the arguments, or is a number: name, and its value for each input."""
    for name, first in pairs[0].arguments.items():
        values = [pair.arguments.get(name) for pair in pairs]
        if all(isinstance(one, Tensor) and one.ndim == 0 for one in values):
            yield name, [float(one) if not one.is_complex() else 0.0 for one in values]
        elif all(isinstance(one, Tensor) for one in values):
            if len({one.ndim for one in values}) == 1:
                for place in range(first.ndim):
                    yield f"{name}.shape[{place}]", [one.shape[place] for one in values]
            if first.ndim != 1:
                yield f"{name}.numel()", [one.numel() for one in values]
        elif all(isinstance(one, list) for one in values):
            yield f"len({name})", [len(one) for one in values]
    yield "the number of its entries", [pair.theirs.numel() for pair in pairs]


# --- A function of what is expected

LAST, FIRST = {"dim": -1}, {"dim": 0}

MADE: dict[str, Callable[[Tensor], Tensor]] = {
    "Every number lost its sign: it is the absolute value of what it should be.": torch.abs,
    "Every number is the square of what it should be.": torch.square,
    "Every number is the root of what it should be.": torch.sqrt,
    "Every number is 1 divided by what it should be.": torch.reciprocal,
    "Every number is the exponential (exp) of what it should be.": torch.exp,
    "Every number is exp(−x), where x is what it should be.": lambda x: torch.exp(-x),
    "Every number is the logarithm of what it should be.": torch.log,
    "Every number is −log of what it should be.": lambda x: -torch.log(x),
    "Every number is the logarithm of 1 plus what it should be.": torch.log1p,
    "Every number is the sigmoid of what it should be.": torch.sigmoid,
    "Every number is tanh of what it should be.": torch.tanh,
    "Only the signs are left: every number is −1, 0 or 1.": torch.sign,
    "Every number is rounded.": torch.round,
    "Every number lost its fraction.": torch.trunc,
    "Every number is rounded down.": torch.floor,
    "Every number is rounded up.": torch.ceil,
    "Negative numbers became 0.": lambda x: x.clamp(min=0),
    "Positive numbers became 0.": lambda x: x.clamp(max=0),
    "Numbers are cut off at 1.": lambda x: x.clamp(max=1),
    "Numbers are cut off at 0 and 1.": lambda x: x.clamp(0, 1),
    "Numbers are cut off at −1 and 1.": lambda x: x.clamp(-1, 1),
    "It is the softmax, along the last dimension, of what it should be.": lambda x: x.softmax(-1),
    "It is the softmax, along the first dimension, of what it should be.": lambda x: x.softmax(0),
    "It is log_softmax, along the last dimension, of what it should be.": (
        lambda x: x.log_softmax(-1)
    ),
    "Numbers are added up along the last dimension (a running sum of what is expected).": (
        lambda x: x.cumsum(-1)
    ),
    "Numbers are added up along the first dimension (a running sum of what is expected).": (
        lambda x: x.cumsum(0)
    ),
    "It is what it should be, divided by its sum.": lambda x: x / x.sum(),
    "It is what it should be, divided by the sum of each row.": (
        lambda x: x / x.sum(-1, keepdim=True)
    ),
    "It is what it should be, divided by its length (the root of the sum of squares).": (
        lambda x: x / x.norm()
    ),
    "It is what it should be, each row divided by its length.": (
        lambda x: x / x.norm(dim=-1, keepdim=True)
    ),
    "It is what it should be, divided by its largest number.": lambda x: x / x.max(),
    "It is what it should be, minus its mean.": lambda x: x - x.mean(),
    "It is what it should be, minus the mean of each row.": lambda x: x - x.mean(-1, keepdim=True),
    "It is what it should be, minus the mean of each column.": lambda x: x - x.mean(0),
    "It is what it should be, minus its mean, divided by its standard deviation.": (
        lambda x: (x - x.mean()) / x.std()
    ),
    "Every number is True or False (1 or 0): whether it is not zero.": lambda x: (x != 0).double(),
    "Every number is True or False (1 or 0): whether it is above zero.": lambda x: (x > 0).double(),
}
"""What came, as a function of what is expected."""

MISSING: dict[str, Callable[[Tensor], Tensor]] = {
    "What you return would be right after a softmax along the last dimension.": (
        lambda x: x.softmax(-1)
    ),
    "What you return would be right after a softmax along the first dimension.": (
        lambda x: x.softmax(0)
    ),
    "What you return would be right after log_softmax along the last dimension.": (
        lambda x: x.log_softmax(-1)
    ),
    "What you return would be right after a sigmoid.": torch.sigmoid,
    "What you return would be right after tanh.": torch.tanh,
    "The absolute value of what you return is right.": torch.abs,
    "What you return would be right if every negative number were 0.": lambda x: x.clamp(min=0),
    "What you return would be right if no number were above 1.": lambda x: x.clamp(max=1),
    "What you return would be right after rounding.": torch.round,
    "What you return would be right after rounding down.": torch.floor,
    "What you return would be right divided by its sum.": lambda x: x / x.sum(),
    "What you return would be right with each row divided by its sum.": (
        lambda x: x / x.sum(-1, keepdim=True)
    ),
    "What you return would be right with each row divided by its length.": (
        lambda x: x / x.norm(dim=-1, keepdim=True)
    ),
    "What you return would be right minus its mean.": lambda x: x - x.mean(),
    "The running sum of what you return is right.": lambda x: x.cumsum(-1),
}
"""What is expected, as a function of what came."""


def _functions(pairs: list[Pair]) -> str | None:
    for sentence, right in MADE.items():
        if _everywhere(pairs, right, "theirs", least=3):
            return sentence
    for sentence, right in MISSING.items():
        if _everywhere(pairs, right, "ours", least=3):
            return sentence
    return None


# --- The same numbers, elsewhere


def _sorted(x: Tensor) -> Tensor:
    return x.sort(-1).values


def _order(pairs: list[Pair]) -> str | None:
    if not all(pair.theirs.ndim for pair in pairs):
        return None
    most = max(pair.theirs.ndim for pair in pairs)
    many = most > 1
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    if many:
        ways["The result is transposed: rows and columns are swapped."] = lambda x: x.mT
    for dim in range(most) if all(p.theirs.ndim == most for p in pairs) else [-1]:
        where = f" along dim {dim}" if many else ""
        ways |= {
            f"The order is turned round{where}: what should come first comes last.": (
                lambda x, dim=dim: x.flip(dim)
            ),
            f"Everything stands one place too late{where}.": lambda x, dim=dim: x.roll(1, dim),
            f"Everything stands one place too early{where}.": lambda x, dim=dim: x.roll(-1, dim),
            f"The result is sorted{where}; it should not be.": (
                lambda x, dim=dim: x.sort(dim).values
            ),
            f"The result is sorted{where} from large to small; it should not be.": (
                lambda x, dim=dim: x.sort(dim, descending=True).values
            ),
        }
    for sentence, right in ways.items():
        if _everywhere(pairs, right, least=3):
            return sentence
    if _everywhere(pairs, _sorted, "ours", least=3):
        return "The numbers are right, but they should be sorted."
    for theirs, ours, _ in pairs:
        if not close(theirs.flatten().sort().values, ours.flatten().sort().values):
            return None
    if any(pair.theirs.numel() > 1 for pair in pairs):
        return "It holds the right values, but in another order."
    return None


# --- Another shape


def _too_many_dimensions(pairs: list[Pair]) -> str | None:
    for theirs, ours, _ in pairs:
        if theirs.numel() != ours.numel():
            return None
    wanted, shape = _shapes(pairs)
    if _everywhere(pairs, lambda x: x.squeeze(), least=1) or _everywhere(
        [pair._replace(theirs=pair.theirs.squeeze(), ours=pair.ours.squeeze()) for pair in pairs],
        lambda x: x,
        least=1,
    ):
        return f"The numbers are right, but in the shape {shape}; {wanted} is expected."
    flat = [pair._replace(theirs=p.flatten(), ours=pair.ours.flatten()) for pair in pairs
            for p in [pair.theirs]]  # fmt: skip
    if _everywhere(
        [p for p in pairs if p.theirs.ndim > 1] or pairs,
        lambda x: x.mT if x.ndim > 1 else x[None],
        least=2,
    ):
        return (
            "The result is transposed: rows and columns are swapped, and so the shape is "
            f"{shape} instead of {wanted}."
        )
    if _everywhere(flat, lambda x: x, least=2):
        return (
            f"The numbers are right, and in the right order, but in the shape {shape}; "
            f"{wanted} is expected."
        )
    return None


def _shapes(pairs: list[Pair]) -> tuple[tuple, tuple]:
    """The shapes, expected and got, of the first pair in which they differ."""
    for theirs, ours, _ in pairs:
        if theirs.shape != ours.shape:
            return tuple(theirs.shape), tuple(ours.shape)
    return tuple(pairs[0].theirs.shape), tuple(pairs[0].ours.shape)


def _reductions(pairs: list[Pair]) -> str | None:
    """One of both is the other, summed, averaged, … along a dimension."""
    wanted, shape = _shapes(pairs)
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    for dim in (0, 1, 2, -1):
        ways |= {
            f"summed over dim {dim}": lambda x, dim=dim: x.sum(dim),
            f"averaged over dim {dim}": lambda x, dim=dim: x.mean(dim),
            f"the largest along dim {dim}": lambda x, dim=dim: x.amax(dim),
            f"the smallest along dim {dim}": lambda x, dim=dim: x.amin(dim),
            f"only the first along dim {dim}": lambda x, dim=dim: x.select(dim, 0),
            f"only the last along dim {dim}": lambda x, dim=dim: x.select(dim, -1),
        }
    ways["summed over everything"] = lambda x: x.sum()
    ways["averaged over everything"] = lambda x: x.mean()
    ways["the largest of all"] = lambda x: x.max()
    ways["the smallest of all"] = lambda x: x.min()
    alike = [pair for pair in pairs if pair.theirs.numel()]
    for words, right in ways.items():
        loose_right = lambda x, right=right: _single(right(x))  # noqa: E731
        if _everywhere(alike, loose_right, "theirs", least=min(2, len(alike))):
            return f"What you return is the right result, {words}; it should not be reduced so far."
        if _everywhere(alike, loose_right, "ours", least=min(2, len(alike))):
            return f"What you return is one step short: {words}, it would be right."
    squares = [p for p in pairs if p.ours.ndim == 2 and p.ours.shape[0] == p.ours.shape[1] > 1]
    if squares and all(len(pair.theirs) == len(pair.ours) for pair in squares if pair.theirs.ndim):
        if _everywhere(squares, lambda x: x.diagonal(), "ours"):
            return (
                f"The result has the shape {shape} instead of {wanted}; its diagonal is right. A "
                "column met a row, and each number was combined with every other."
            )
    return None


def _single(x: Tensor) -> Tensor:
    return x.reshape(()) if x.numel() == 1 else x


def _length(pairs: list[Pair]) -> str | None:
    """Something too long or too short at one end."""
    for dim in (0, 1):
        where = f" along dim {dim}" if dim else ""
        ways = {
            f"It is right, but one is missing at the beginning{where}.": (
                "theirs", lambda x, d=dim: x.narrow(d, 1, x.shape[d] - 1)),
            f"It is right, but one is missing at the end{where}.": (
                "theirs", lambda x, d=dim: x.narrow(d, 0, x.shape[d] - 1)),
            f"It is right, but there is one too many at the beginning{where}.": (
                "ours", lambda x, d=dim: x.narrow(d, 1, x.shape[d] - 1)),
            f"It is right, but there is one too many at the end{where}.": (
                "ours", lambda x, d=dim: x.narrow(d, 0, x.shape[d] - 1)),
        }  # fmt: skip
        for sentence, (of, right) in ways.items():
            if _everywhere(pairs, right, of):
                return sentence
    flat = [pair for pair in pairs if pair.theirs.ndim <= 1 and pair.ours.ndim <= 1]
    if len(flat) < len(pairs):
        return None
    both = [(pair.theirs.flatten(), pair.ours.flatten()) for pair in pairs]
    if all(len(o) <= len(t) and close(t[: len(o)], o) for t, o in both):
        return "It begins right, but ends too early." if any(len(o) for _, o in both) else None
    if all(len(o) >= len(t) and close(t, o[: len(t)]) for t, o in both):
        return "It begins right, but does not end where it should."
    if all(len(o) <= len(t) and close(t[len(t) - len(o) :], o) for t, o in both):
        return "It ends right, but its beginning is missing."
    if all(torch.equal(t.unique(), o) for t, o in both):
        return "What comes several times is there only once, and all is sorted."
    if all(sorted(set(t.tolist())) == sorted(set(o.tolist())) for t, o in both):
        return "It holds the right values, but not as often as it should."
    if all(_is_part(o.tolist(), t.tolist()) for t, o in both):
        return "What it holds is right and in the right order, but something is missing."
    if all(_is_part(t.tolist(), o.tolist()) for t, o in both):
        return (
            "What should be there is there, in the right order, but there is something else, too."
        )
    return None


def _is_part(part: list, whole: list) -> bool:
    """Whether all of a part comes, in its order, in the whole."""
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in part)


# --- No relation: what can be counted


def counted(pairs: list[Pair], text: bool = False) -> str | None:
    """Where the wrong numbers are, whether all err to one side, and how many are right."""
    if any(pair.theirs.shape != pair.ours.shape for pair in pairs):
        return None
    right = [close_entries(pair.theirs, pair.ours) for pair in pairs]
    total, good = sum(one.numel() for one in right), sum(int(one.sum()) for one in right)
    said = [place] if good and (place := _common_place(right)) else []
    if not text and (side := _side(pairs, right, "Every wrong number" if good else "Every number")):
        said.append(side)
    if not said:
        said.append("The order differs." if text else "The numbers differ.")
        if good and total > len(pairs):
            said.append(f"{good} of {total} {'places' if text else 'numbers'} are right.")
    return " ".join(said)


def _side(pairs: list[Pair], right: list[Tensor], noun: str) -> str | None:
    """Whether all wrong numbers err to one side."""
    theirs = torch.cat([p.theirs[~r].flatten() for p, r in zip(pairs, right, strict=True)])
    ours = torch.cat([p.ours[~r].flatten() for p, r in zip(pairs, right, strict=True)])
    differences = ours - theirs
    if len(differences) < 2 or not bool(differences.isfinite().all()):
        return None
    least, most = float(differences.min()), float(differences.max())
    if least > 0:
        return f"{noun} is too large, by {least:.3g} to {most:.3g}."
    if most < 0:
        return f"{noun} is too small, by {-most:.3g} to {-least:.3g}."
    if len(differences) >= 4 and bool((ours.abs() < theirs.abs()).all()):
        same_signs = bool((ours * theirs >= 0).all())
        return f"{noun} is too close to zero." if same_signs else None
    if len(differences) >= 4 and bool((ours.abs() > theirs.abs()).all()):
        return f"{noun} is too far from zero." if bool((ours * theirs >= 0).all()) else None
    return None


def _common_place(right: list[Tensor]) -> str | None:
    """Where the wrong numbers are, if it is the same corner for every input."""
    wrong = [~one for one in right if not bool(one.all())]
    ends = {
        "the first number": lambda x: x[0], "the last number": lambda x: x[-1],
    } if all(one.ndim == 1 for one in wrong) else {
        "the first row": lambda x: x[0], "the last row": lambda x: x[-1],
        "the first column": lambda x: x.select(-1, 0),
        "the last column": lambda x: x.select(-1, -1),
    }  # fmt: skip
    if not all(one.ndim and len(one) > 1 for one in wrong):
        return None
    for name, end in ends.items():
        if all(int(end(one).sum()) == int(one.sum()) for one in wrong):
            return f"Only {name} is wrong."
        if all(int((~end(one)).sum()) == int((~one).sum()) and not end(one).any() for one in wrong):
            return f"Only {name} is right."
    return None


def holes(pairs: list[Pair]) -> str | None:
    """What is nan or infinite where it should not be."""
    for theirs, ours, _ in pairs:
        if theirs.shape != ours.shape:
            continue
        bad = ~ours.isfinite() & theirs.isfinite()
        if not bad.any():
            continue
        nan, count = int((bad & ours.isnan()).sum()), int(bad.sum())
        name = "nan" if nan == count else "inf" if not nan else "nan or inf"
        rest = close_entries(theirs[~bad], ours[~bad]).all() if count < bad.numel() else None
        if theirs.ndim == 0:
            where = "Its result is " + name
        elif count == bad.numel():
            where = f"All numbers are {name}"
        else:
            first = int(bad.flatten().nonzero()[0])
            where = (
                f"Its result holds {name} in {count} of {bad.numel()} places, the first at "
                f"{place_of(first, tuple(bad.shape))}"
            )
            if (theirs[bad] == 0).all() and not (theirs[~bad] == 0).any():
                where += ": wherever 0 is expected"
        said = where + ("; the other numbers are right" if rest else "")
        return said + ". Look for a division by zero, log(0), or exp of a large number."
    return None


def truths(pairs: list[Pair]) -> str | None:
    """For results that are True or False."""
    theirs = torch.cat([pair.theirs.flatten() for pair in pairs])
    ours = torch.cat([pair.ours.flatten() for pair in pairs])
    if len(theirs) != len(ours):
        return None
    if torch.equal(theirs, 1 - ours) and len(theirs) > 1:
        return "Every True should be False, and every False True."
    if len(ours.unique()) == 1 and len(ours) > 1:
        return f"It is always {bool(ours[0])}."
    if bool((ours >= theirs).all()):
        return "It is True too often: where it should be True it is, and elsewhere sometimes, too."
    if bool((ours <= theirs).all()):
        return (
            "It is False too often: where it should be False it is, and elsewhere sometimes, too."
        )
    return None


# --- From plain things to pairs


def as_pairs(
    expected: list[Any], got: list[Any], arguments: list[dict[str, Any]]
) -> tuple[list[Pair], bool] | None:
    """Pairs of tensors, and whether they stand for text; None where they are neither."""
    pairs, text = [], False
    for theirs, ours, given in zip(expected, got, arguments, strict=True):
        given = {name: loose(plain(value)) for name, value in given.items()}
        one, other = loose(theirs), loose(ours)
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
            numbered = _numbered(theirs, ours)
            if numbered is None:
                return None
            one, other, text = *numbered, True
        if one.is_complex() or other.is_complex():
            return None
        if isinstance(theirs, Several) and one.ndim == 0:
            one = one[None]
        if isinstance(ours, Several) and other.ndim == 0:
            other = other[None]
        given = {
            name: value.double() if isinstance(value, Tensor) and not value.is_complex() else value
            for name, value in given.items()
        }
        pairs.append(Pair(one.double(), other.double(), {} if text else given))
    return pairs, text


def _numbered(theirs: Any, ours: Any) -> tuple[Tensor, Tensor] | None:
    """Two lists of texts (or two texts) as numbers, in alphabetical order."""
    parts = [list(one) if isinstance(one, str) else one.items if isinstance(one, Several) else None
             for one in (theirs, ours)]  # fmt: skip
    if parts[0] is None or parts[1] is None or type(theirs) is not type(ours):
        return None
    if not all(isinstance(word, str) for part in parts for word in part):
        return None
    places = {word: place for place, word in enumerate(sorted({*parts[0], *parts[1]}))}
    theirs, ours = (torch.tensor([float(places[word]) for word in part]) for part in parts)
    return theirs, ours
