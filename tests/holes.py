"""Looks for holes in the exercises: wrong answers that no input tells from the solution.

    python -m tests.holes --exercise 04.weighted_sum

A check can only be as good as its inputs. This program makes *mutants* (one small fault each) of an
exercise's solution and of every catalogued mistake, and *variations* of its inputs (a zero inside,
ties, negative numbers, one row only, …). A mutant that does the same as the solution on all
`cases`, and something else on a variation, has found a hole; the smallest such variation is
printed. If the task lets such an input count, add it to `cases`; else to `beyond`, or leave it.

This is a tool for those who change the course, not a test.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import inspect
import io
import itertools
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mbm_lab import exercises
from mbm_lab.exercises.comparing import same
from mbm_lab.exercises.exercise import Cases, Exercise
from mbm_lab.exercises.plain import plain
from mbm_lab.exercises.showing import show
from tests import mutants
from tests.mutants import altered, name_of

# --- Faults that learners make, beside those of tests.mutants

TWINS = {
    "mean": ("sum",), "sum": ("mean",), "max": ("min",), "min": ("max",), "argmax": ("argmin",),
    "argmin": ("argmax",), "amax": ("amin",), "amin": ("amax",), "abs": ("square",),
    "square": ("abs",), "zeros": ("ones",), "ones": ("zeros",), "tanh": ("sigmoid",),
    "softmax": ("log_softmax",), "log_softmax": ("softmax",), "std": ("var",), "floor": ("ceil",),
    "log": ("log2", "log10"), "endswith": ("startswith",), "startswith": ("endswith",),
    "removesuffix": ("removeprefix",), "removeprefix": ("removesuffix",), "insert": ("append",),
    "sorted": ("list",), "set": ("list",),
}  # fmt: skip


class Faults(mutants.Faults):
    """Also looks into lambdas, and puts in other names, left-out terms and left-out calls."""

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.functions.append(node)
        self.visit(node.body)
        self.functions.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if not node.name.endswith("_cases"):
            super().visit_FunctionDef(node)

    def visit_Name(self, node: ast.Name) -> None:
        if self.functions and isinstance(node.ctx, ast.Load):
            names = [argument.arg for argument in self.functions[-1].args.args]
            if node.id in names:
                for other in names:
                    if other not in (node.id, "self"):
                        self.add("another name", node, other)

    def visit_BinOp(self, node: ast.BinOp | ast.AugAssign) -> None:
        if isinstance(node, ast.BinOp):
            for part in (node.left, node.right):
                self.add("left out", node, f"({ast.unparse(part)})")
            self.add("turned round", node, altered(node, left=node.right, right=node.left))
        super().visit_BinOp(node)

    visit_AugAssign = visit_BinOp

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            inner = node.func.value
            if not (isinstance(inner, ast.Name) and inner.id in ("torch", "nn", "preprocessing")):
                self.add("left out", node, f"({ast.unparse(inner)})")
            elif len(node.args) == 1:
                self.add("left out", node, f"({ast.unparse(node.args[0])})")
        for other in TWINS.get(name_of(node), ()):
            which = "id" if isinstance(node.func, ast.Name) else "attr"
            func = altered(node.func, **{which: other})
            self.add("a twin", node, altered(node, func=func))
        if len(node.args) == 2:
            self.add("turned round", node, altered(node, args=node.args[::-1]))
        super().visit_Call(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Slice):
            self.add("left out", node, f"({ast.unparse(node.value)})")
        super().visit_Subscript(node)

    def visit_For(self, node: ast.For) -> None:
        """The first time only, and all times but the first."""
        for part in ("[:1]", "[1:]"):
            self.add("a loop", node.iter, f"list({ast.unparse(node.iter)}){part}")
        self.generic_visit(node)


class Answer(NamedTuple):
    """A wrong answer to try: what it is, and the function."""

    what: str
    function: Callable


def lines_of(function: Callable, source: str) -> set[int]:
    """The lines of a module that a function of it is made of: its own, and those of the module's
    functions and classes that it uses."""
    tree, found, seen = ast.parse(source), set(), set()
    lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]

    def add(one: Any) -> None:
        if id(one) in seen or getattr(one, "__module__", None) != function.__module__:
            return
        seen.add(id(one))
        if inspect.isclass(one):
            lines, first = inspect.getsourcelines(one)
            found.update(range(first, first + len(lines)))
            for part in (*one.__bases__, *vars(one).values()):
                add(part)
        elif inspect.isfunction(one):
            first = one.__code__.co_firstlineno
            if one.__name__ == "<lambda>":
                for node in lambdas:
                    if node.lineno == first:
                        found.update(range(first, node.end_lineno + 1))
            else:
                lines, first = inspect.getsourcelines(one)
                found.update(range(first, first + len(lines)))
            for name in names_in(one.__code__):
                add(one.__globals__.get(name))

    add(function)
    return found


def names_in(code: Any) -> Iterator[str]:
    """All global names that a code uses, also inside its inner functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from names_in(constant)


def wrong_answers(one: Exercise) -> Iterator[Answer]:
    """Mutants of the solution and of every mistake, and the solution of changed inputs."""
    module = importlib.import_module(one.solution_function.__module__)
    source = inspect.getsource(module)
    known = {"the solution": one.solution_function} | one.mistakes
    lines = {what: lines_of(function, source) for what, function in known.items()}
    for fault in Faults(module.__file__, source).found:
        concerned = [what for what in known if fault.line in lines[what]]
        if not concerned:
            continue
        namespace = {"__name__": module.__name__}
        try:
            exec(compile(fault.code, module.__file__, "exec"), namespace)
        except Exception:  # no program any more
            continue
        changed = namespace[one.name]
        for what in concerned:
            function = changed.mistakes.get(what, changed.solution_function)
            short = what if len(what) < 50 else what[:47] + "..."
            yield Answer(f"{short} | {fault.kind}, line {fault.line}: {fault.after}", function)
    if not inspect.isclass(one.solution_function):
        yield from with_changes(one.solution_function)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "the absolute values": lambda x: x.abs(),
    "what is below zero set to zero": lambda x: x.clamp(min=0),
    "at most 1": lambda x: x.clamp(-1, 1),
    "rounded": lambda x: x.round(),
    "as 32-bit floats": lambda x: x.float(),
    "a little more": lambda x: x + 1e-3,
    "sorted": lambda x: x.sort(0).values if x.ndim else x,
    "its first row only": lambda x: x[:1],
    "zeros turned into ones": lambda x: torch.where(x == 0, torch.ones_like(x), x),
}


def with_changes(solution: Callable) -> Iterator[Answer]:
    """The solution, with inputs or results that are changed on the way."""

    def changed(value: Any, change: Callable) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return change(value)
        if isinstance(value, float):
            return float(change(torch.tensor(value, dtype=torch.float64)))
        if isinstance(value, list | tuple):
            return type(value)(changed(part, change) for part in value)
        return value

    def of_inputs(change: Callable, place: int) -> Callable:
        return lambda *a: solution(
            *(changed(x, change) if i == place else x for i, x in enumerate(a))
        )

    for what, change in CHANGES.items():
        for place, name in enumerate(inspect.signature(solution).parameters):
            yield Answer(f"the solution | of {name}: {what}", of_inputs(change, place))
        yield Answer(
            f"the solution | its result: {what}",
            lambda *a, change=change: changed(solution(*a), change),
        )


# --- Variations of inputs


def varied(value: Any) -> Iterator[tuple[str, Any]]:
    """Variations of one value: (what was done, the new value)."""
    if isinstance(value, bool):
        yield "the other", not value
    elif isinstance(value, int | float):
        kind = type(value)
        for new in (0, 1, 2, value + 1, value - 1, -value, 200 * value, value / 1000):
            if kind(new) == new and new != value:
                yield f"{new:g}", kind(new)
    elif isinstance(value, str):
        for new in (value[:1], value[-1:], value + value, value[::-1], "", value + " " + value):
            if new != value:
                yield repr(new), new
    elif isinstance(value, Tensor):
        yield from varied_tensor(value)
    elif isinstance(value, list | tuple) and value:
        kind = type(value) if type(value) in (list, tuple) else tuple
        yield "backwards", kind(value[::-1])
        yield "the first only", kind(value[:1])
        yield "the first two", kind(value[:2])
        yield "without the first", kind(value[1:])
        yield "the first twice", kind([value[0], *value])
        yield "nothing", kind()
        for i, part in enumerate(value[:4]):
            for what, new in varied(part):
                yield f"[{i}] {what}", kind([*value[:i], new, *value[i + 1 :]])
            if isinstance(part, str) and len(value) > 1:
                other = value[i - 1]
                for new in (part + other if isinstance(other, str) else part, part[1:], part[:-1]):
                    yield f"[{i}] {new!r}", kind([*value[:i], new, *value[i + 1 :]])


def varied_tensor(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    if x.numel() == 0 or x.is_sparse or x.is_complex():
        return
    if x.dtype == torch.bool:
        yield "the other way", ~x
        yield "all true", torch.ones_like(x)
        yield "all false", torch.zeros_like(x)
        return
    least, most = x.min(), x.max()
    values = [least, most] if not x.is_floating_point() else [0 * least, 0 * least + 1, most, least]
    if not x.is_floating_point() and least <= 0 <= most:
        values.append(0 * least)
    for place in itertools.islice(range(x.numel()), 8):
        for value in values:
            new = x.clone().contiguous()
            new.view(-1)[place] = value
            yield f"number {place} is {float(value):g}", new
    yield "all as the first", torch.full_like(x, x.flatten()[0].item()).contiguous()
    for axis in range(x.ndim):
        if x.shape[axis] > 1:
            yield f"backwards along {axis}", x.flip(axis)
            new = x.clone()
            new.select(axis, 1).copy_(x.select(axis, 0))
            yield f"the second as the first along {axis}", new
            yield f"the next along {axis}", x.roll(1, axis)
    if x.is_floating_point():
        yield "all zeros", torch.zeros_like(x)
        yield "all ones", torch.ones_like(x)
        yield "turned signs", -x
        yield "absolute values", x.abs()
        yield "all negative", -x.abs() - 0.1
        yield "200 times", 200 * x
        yield "a thousandth", 1e-3 * x
        yield "rounded", x.round()
        yield "5 more", x + 5


def shortened(arguments: tuple) -> Iterator[tuple[str, tuple]]:
    """One or two rows (or columns) only, in every tensor and list that has as many; and these in
    another order."""
    sizes = {n for x in arguments if isinstance(x, Tensor) for n in x.shape if n > 1}

    def cut(x: Any, size: int, take: Sequence[int]) -> Any:
        if isinstance(x, Tensor):
            for axis, n in enumerate(x.shape):
                if n == size:
                    x = x.index_select(axis, torch.tensor(take))
        elif isinstance(x, list) and len(x) == size:
            return [x[i] for i in take]
        return x

    for size in sorted(sizes):
        takes = {
            "only the first of": [0], "only the last of": [size - 1], "two of": [0, 1],
            "the last two of": [size - 2, size - 1], "backwards, all": [*range(size)][::-1],
            "the first twice, of": [0, 0, *range(1, size)],
        }  # fmt: skip
        for what, take in takes.items():
            yield f"{what} {size}", tuple(cut(x, size, take) for x in arguments)


def variations(cases: Cases) -> Iterator[tuple[str, tuple]]:
    """Inputs like the given ones: (what they are, the arguments)."""
    for note, arguments in cases.items():
        for place, value in enumerate(arguments):
            for what, new in varied(value):
                yield (
                    f"{note}; argument {place + 1}: {what}",
                    (*arguments[:place], new, *arguments[place + 1 :]),
                )
        for what, new in shortened(arguments):
            yield f"{note}; {what}", new
        for i, j in itertools.combinations(range(len(arguments)), 2):
            a, b = arguments[i], arguments[j]
            if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
                if a.dtype == b.dtype:
                    both = list(arguments)
                    both[i] = both[j] = a
                    yield f"{note}; arguments {i + 1} and {j + 1} alike", tuple(both)


def size_of(value: Any) -> int:
    """How many numbers and letters there are."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(map(size_of, value)) + 1
    return 1


# --- Running


class TooLong(BaseException):
    """An answer that does not end."""


class Outcome(NamedTuple):
    """value or kind of error."""

    value: Any = None
    error: str | None = None


def outcome(one: Exercise, answer: Callable, arguments: tuple, seconds: float) -> Outcome:
    """What an answer makes of an input."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(0)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return Outcome(value=one.call(answer, *copy.deepcopy(arguments)))
    except (Exception, TooLong) as error:
        return Outcome(error=type(error).__name__)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alike(one: Outcome, other: Outcome) -> bool:
    if one.error or other.error:
        return one.error == other.error
    return same(plain(one.value), plain(other.value))


def finite(value: Any) -> bool:
    """Whether there is no nan in a result: else the input makes no sense."""
    if isinstance(value, Tensor):
        return bool(value.detach().double().isfinite().all())
    if isinstance(value, float):
        return value - value == 0
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, list | tuple) else True


class Hole(NamedTuple):
    """A wrong answer that passes; the smallest input found that tells it; both results."""

    answer: Answer
    note: str
    arguments: tuple
    expected: Outcome
    got: Outcome


class Search(NamedTuple):
    """What was found: how many answers the cases tell, which do the same everywhere, holes."""

    told: int
    same: list[Answer]
    holes: list[Hole]


def search(one: Exercise, seconds: float = 1.0) -> Search:
    """Tries all wrong answers on all cases, and those that pass on all variations."""

    def of_solution(arguments: tuple) -> Outcome:
        return outcome(one, one.solution_function, arguments, seconds)

    cases = [(arguments, of_solution(arguments)) for arguments in one.cases().values()]
    more = [(note, a, of_solution(a)) for note, a in variations(one.cases())]
    more = [(note, a, o) for note, a, o in more if o.error is None and finite(o.value)]
    more.sort(key=lambda row: size_of(row[1]))
    told, equal, holes = 0, [], []
    for answer in wrong_answers(one):

        def tells(arguments: tuple, expected: Outcome, answer: Answer = answer) -> bool:
            return not alike(expected, outcome(one, answer.function, arguments, seconds))

        if any(tells(*case) for case in cases):
            told += 1
            continue
        for note, arguments, expected in more:
            if tells(arguments, expected):
                got = outcome(one, answer.function, arguments, seconds)
                holes.append(Hole(answer, note, arguments, expected, got))
                break
        else:
            equal.append(answer)
    return Search(told, equal, holes)


# --- The command


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the holes of exercises. Returns 1 when there are some."""
    parser = argparse.ArgumentParser("python -m tests.holes", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--exercise", action="append", metavar="KEY", help="only this one; may be repeated")
    add("--lesson", action="append", metavar="NN", help="all of this lesson; may be repeated")
    add("--seconds", type=float, default=1.0, help="after which an answer is stopped")
    add("--same", action="store_true", help="also list what does the same on all variations")
    options = parser.parse_args(argv)
    everything = {
        one.key: one
        for number in exercises.LESSONS for one in exercises.of_lesson(number)
        if isinstance(one, Exercise)
    }  # fmt: skip
    keys = list(options.exercise or [])
    keys += [key for key, one in everything.items() if one.lesson in (options.lesson or [])]
    if unknown := [key for key in keys if key not in everything]:
        parser.error(f"there is no exercise {unknown[0]}; there are {', '.join(everything)}")
    count = 0
    for key in keys or everything:
        found = search(everything[key], options.seconds)
        count += len(found.holes)
        print(
            f"{key}: {found.told} wrong answers told by the cases, {len(found.holes)} holes, "
            f"{len(found.same)} the same on all variations",
            flush=True,
        )
        by_input: dict[str, list[Hole]] = {}
        for hole in found.holes:
            by_input.setdefault(hole.note, []).append(hole)
        for note, holes in by_input.items():
            first = holes[0]
            print(f"\n  {note}")
            print(f"    input    {show(plain(first.arguments))}")
            print(f"    expected {show(plain(first.expected.value))}")
            for hole in holes:
                got = hole.got.error or show(plain(hole.got.value))
                print(f"    {got}\n        {hole.answer.what}")
        for answer in found.same if options.same else ():
            print(f"  the same: {answer.what}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
