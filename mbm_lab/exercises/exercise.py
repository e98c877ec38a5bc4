"""How an exercise checks an answer and finds the likely mistake.

An exercise holds a solution, inputs to try, and a catalogue of mistakes: wrong answers that people
give, each with its sentence. A check runs the learner's function on every input. If its results
are those of a catalogued mistake, on every input, then this is the likely mistake, and its sentence
is said. If not, what can be seen from the results is said: nothing returned, a shape, a sign, a
factor, an input that was changed, an error, no end.

What the learner's function prints for the first input is shown once, below the verdict; what it
prints for the others is left out.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import inspect
import io
import linecache
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab.exercises import progress

SECONDS = 10.0
"""How long an answer may take for all inputs together."""

Cases = dict[str, tuple]
"""The inputs to try, smallest first: what each one is, and its arguments."""


class Outcome(NamedTuple):
    """What came of one call: a value, or an error."""

    value: Any = None
    error: BaseException | None = None


class Run(NamedTuple):
    """What came of all calls of an answer.

    outcomes: one a case, up to the first that does not end; changed: what the answer changed in
    its input, or None; stopped: whether it could be stopped; printed: what it printed.
    """

    outcomes: list[Outcome]
    changed: str | None
    stopped: bool
    printed: Printed


class TooSlow(BaseException):
    """Raised inside an answer that does not end. Not an Exception, so `except Exception` lets it
    through."""


class Printed(io.TextIOBase):
    """Stands in for the page while an answer runs. It keeps the beginning of what is printed until
    `close_ears` is called, and nothing after that; a loop that prints for ever fills no memory."""

    MOST_LINES, MOST_CHARACTERS = 10, 2000

    def __init__(self):
        super().__init__()
        self._text = ""
        self._listens = True

    def write(self, text: str) -> int:
        if self._listens and len(self._text) <= self.MOST_CHARACTERS:
            self._text += text[: self.MOST_CHARACTERS + 1]
        return len(text)

    def close_ears(self) -> None:
        """From now on, whatever is printed is left out."""
        self._listens = False

    def lines(self) -> list[str]:
        """What was kept, and "…" for more than 10 lines or 2,000 characters."""
        lines = self._text[: self.MOST_CHARACTERS].rstrip().splitlines()
        whole = len(self._text) <= self.MOST_CHARACTERS and len(lines) <= self.MOST_LINES
        return lines[: self.MOST_LINES] + ([] if whole else ["…"])


# --- Verdicts

RIGHT, NOT_YET, UNTOUCHED = "Right.", "Not yet.", "Not attempted yet."

COLOURS = {RIGHT: "48;2;0;110;60", NOT_YET: "48;2;170;30;40"}
"""The backgrounds of two verdicts, dark green and dark red: with white letters they can be read on
a light page and on a dark one."""


def _marked(verdict: str) -> str:
    """A verdict on its colour, in a notebook or a terminal; elsewhere as it is."""
    if verdict not in COLOURS or not _shows_colours():
        return verdict
    return f"\x1b[1;38;2;255;255;255;{COLOURS[verdict]}m {verdict} \x1b[0m"


def _shows_colours() -> bool:
    """Whether this page turns codes for colours into colours (and nobody set NO_COLOR)."""
    if os.environ.get("NO_COLOR"):
        return False
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel") or sys.stdout.isatty()


# --- Two kinds of exercise


@dataclass(kw_only=True)
class _Common:
    """What every exercise has. key: the name by which progress is remembered."""

    lesson: str
    name: str
    title: str
    minutes: int
    difficulty: int
    hints: tuple[str, ...]
    why: str
    _hints_given: int = field(default=0, init=False, repr=False)

    @property
    def key(self) -> str:
        return f"{self.lesson}.{self.name}"

    @property
    def difficulty_in_words(self) -> str:
        return {1: "easy", 2: "medium", 3: "hard"}[self.difficulty]

    def hint(self) -> None:
        """Prints the next hint; each call is one step more explicit."""
        given = min(self._hints_given, len(self.hints) - 1)
        self._hints_given = given + 1
        print(_wrap(f"Hint {given + 1} of {len(self.hints)}: {self.hints[given]}"))
        if self._hints_given == len(self.hints):
            print("This was the last hint. ex.solution() shows the answer.")

    def _say(self, verdict: str, *paragraphs: str) -> None:
        """Prints the verdict, RIGHT, NOT_YET or UNTOUCHED, and what there is to say of it."""
        print(f"{_marked(verdict)} {self.title}")
        for paragraph in paragraphs:
            print(_wrap(paragraph) if "\n" not in paragraph else paragraph)

    def _remember(self, **changes: bool) -> None:
        try:
            progress.record(self.key, **changes)
        except (OSError, ValueError) as error:
            print(_wrap(f"(Not remembered in your list of exercises: {error})"))


@dataclass(kw_only=True)
class Exercise(_Common):
    """An exercise whose answer is a function (or a class).

    solution: the right answer, under the name that it has in the notebook.
    cases: makes the inputs that count, smallest first, {what it is: arguments}.
    beyond: inputs one step further (double precision, an empty batch): whoever is right on the
    cases is right; what fails here is told as advice.
    mistakes: the catalogue, {sentence: wrong answer}.
    given: for "break and fix", the faulty answer that stands in the notebook at the start.
    call: how an answer is used; called with the answer and a case's arguments.
    """

    solution_function: Callable
    cases: Callable[[], Cases]
    mistakes: dict[str, Callable]
    given: Callable | None = None
    call: Callable[..., Any] = lambda answer, *arguments: answer(*arguments)
    beyond: Callable[[], Cases] = dict
    seconds: float = SECONDS

    def check(self, answer: Any) -> None:
        """Tries the answer on several inputs and prints what it finds."""
        if answer is ...:
            return self._say(UNTOUCHED)
        if not callable(answer):
            name = self.solution_function.__name__
            return self._say(
                NOT_YET,
                f"check needs the function itself, and got {_a(type(answer).__name__)}. "
                f"Write its name without parentheses: ex.check({name})",
            )
        cases = self.cases()
        run = self._run(answer, cases, self.seconds)
        self._judge(answer, cases, run)
        if printed := run.printed.lines():
            print(f"\nYour function printed, for the first input ({next(iter(cases))}):")
            print(textwrap.indent("\n".join(printed), "    ", lambda line: True))

    def _judge(self, answer: Callable, cases: Cases, run: Run) -> None:
        """Says and remembers what came of an answer."""
        if any(_holds_ellipsis(outcome.value) for outcome in run.outcomes):
            return self._say(UNTOUCHED, "Replace the ... by your code, then run the cell again.")
        if self.given is not None and self._same_as(self.given, cases, run.outcomes):
            return self._say(
                UNTOUCHED,
                "The results are still those of the code as given. Find its fault and mend it.",
            )
        finding = self._diagnose(answer, cases, run)
        self._remember(tried=True)
        if finding is None:
            self._remember(solved=True)
            tried = "; ".join(cases)
            return self._say(RIGHT, f"It holds for all {len(cases)} inputs: {tried}.")
        self._say(NOT_YET, *finding, "Change the cell and run it again. Stuck? ex.hint()")

    def solution(self) -> None:
        """Prints the code of the solution, and why it is right."""
        self._remember(solution_seen=True)
        print(f"{self.title}: a solution.\n\n{self.solution_source()}\n\n{_wrap(self.why)}")

    def solution_source(self) -> str:
        """The code of the solution, as it would stand in the notebook."""
        return textwrap.dedent(inspect.getsource(self.solution_function)).rstrip()

    def _run(self, answer: Callable, cases: Cases, seconds: float) -> Run:
        """Calls an answer on copies of every case. What it prints does not reach the page."""
        outcomes: list[Outcome] = []
        changed: list[str] = []
        printed = Printed()

        def work() -> None:
            for note, arguments in cases.items():
                mine = copy.deepcopy(arguments)
                try:
                    value = self.call(answer, *mine)
                    outcomes.append(Outcome(value=value))
                except TooSlow:
                    raise
                except BaseException as error:
                    outcomes.append(Outcome(error=error))
                printed.close_ears()
                names = _names(self.solution_function, len(arguments))
                for name, before, after in zip(names, arguments, mine, strict=False):
                    if not changed and _state(before) != _state(after):
                        changed.append(f"{name} ({note})")

        with contextlib.redirect_stdout(printed):
            stopped = run_limited(work, seconds)
        if len(outcomes) < len(cases):
            outcomes.append(Outcome(error=TooSlow()))
        return Run(outcomes, changed[0] if changed else None, stopped, printed)

    def _same_as(self, wrong: Callable, cases: Cases, outcomes: list[Outcome]) -> bool:
        """Whether a known answer gives these very outcomes, on every input."""
        with warnings.catch_warnings(action="ignore"):  # they are about our wrong answer
            theirs = self._run(wrong, cases, self.seconds).outcomes
        return len(theirs) == len(outcomes) and all(map(_same_outcome, theirs, outcomes))

    def _diagnose(self, answer: Callable, cases: Cases, run: Run) -> list[str] | None:
        """What to say of a wrong answer; None when it is right."""
        outcomes, changed, stopped, _ = run
        expected = [
            self.call(self.solution_function, *copy.deepcopy(arguments))
            for arguments in cases.values()
        ]
        wrong = [
            place
            for place, outcome in enumerate(outcomes)
            if outcome.error is not None or not same(expected[place], outcome.value)
        ]
        if not wrong:
            if changed is None:
                return None
            return [
                f"The results are right, but your function changes its input {changed}. Whoever "
                "called it still needs that: make a new tensor instead of writing into the old one."
            ]
        first = wrong[0]
        note, arguments = list(cases.items())[first]
        outcome = outcomes[first]
        names = _names(self.solution_function, len(arguments))
        if isinstance(outcome.error, TooSlow):
            said = f"Your code did not end within {self.seconds:.0f} seconds ({note})."
            said += " Look for a loop whose condition never becomes false."
            if not stopped:
                said += " It could not be stopped: restart the kernel before you go on."
            return [said, _inputs(names, arguments)]
        fits = (
            sentence
            for sentence, mistake in self.mistakes.items()
            if self._same_as(mistake, cases, outcomes)
        )
        sentence = next(fits, None) or _describe(answer, expected, outcomes, wrong, changed)
        shown = [
            sentence,
            f"The smallest input that shows it: {note}.\n" + _inputs(names, arguments),
        ]
        got = "an error" if outcome.error is not None else show(outcome.value)
        return [*shown, f"    expected: {show(expected[first])}\n    got:      {got}"]


@dataclass(kw_only=True)
class Choice(_Common):
    """A question to answer before a figure or a table shows the truth.

    options: {letter: text}; answer: the right letter; wrong: for every other letter, what its idea
    misses. truth: measures the right letter from the course's own data (the tests use it).
    """

    options: dict[str, str]
    answer: str
    wrong: dict[str, str]
    truth: Callable[[], str]

    def check(self, answer: Any) -> None:
        """Says whether the chosen letter is right, and if not, what its idea misses."""
        letters = ", ".join(f'"{letter}"' for letter in self.options)
        if answer is ... or answer is None:
            return self._say(UNTOUCHED, f"Replace the ... by one of {letters}.")
        chosen = answer.strip().lower() if isinstance(answer, str) else answer
        if not isinstance(chosen, str) or chosen not in self.options:
            return self._say(NOT_YET, f"Answer with one of {letters}, in quotation marks.")
        self._remember(tried=True)
        if chosen == self.answer:
            self._remember(solved=True)
            return self._say(RIGHT, self.why)
        self._say(NOT_YET, self.wrong[chosen], "Think again, or run on and see.")

    def solution(self) -> None:
        """Prints the right letter, and why."""
        self._remember(solution_seen=True)
        print(f"{self.title}: a solution.\n\n{self.solution_source()}\n\n{_wrap(self.why)}")

    def solution_source(self) -> str:
        """The answer, as it would stand in the notebook."""
        return f'my_answer: str = "{self.answer}"'


# --- Running somebody's code


def run_limited(action: Callable[[], None], seconds: float) -> bool:
    """Runs an action in a thread of its own, for so many seconds at most, on any system.

    After that, TooSlow is raised inside it. Returns False if it runs on nevertheless: code of a
    library, such as time.sleep, cannot be stopped from outside before it returns.
    """
    thread = threading.Thread(target=_until_too_slow, args=(action,), daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:  # also when the learner presses "stop"
        for _ in range(20):
            if not thread.is_alive():
                break
            stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
            stop(ctypes.c_ulong(thread.ident), ctypes.py_object(TooSlow))
            thread.join(0.05)
    return not thread.is_alive()


def _until_too_slow(action: Callable[[], None]) -> None:
    try:
        action()
    except TooSlow:
        pass


# --- Comparing


def same(expected: Any, got: Any) -> bool:
    """Whether a result is the expected one: tensors of one shape and kind with close numbers.

    A number and a tensor of one number count as the same, and so do a list and a tuple. Numbers
    may differ by rounding: 1e-5 plus 1e-4 of the number.
    """
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and expected.keys() == got.keys()
            and all(same(expected[key], got[key]) for key in expected)
        )
    if isinstance(expected, tuple | list):
        return (
            isinstance(got, tuple | list)
            and len(expected) == len(got)
            and all(map(same, expected, got))
        )
    if isinstance(expected, str | bool) or expected is None:
        return type(got) is type(expected) and got == expected
    if isinstance(expected, Tensor) and expected.ndim > 0 and not isinstance(got, Tensor):
        return False
    theirs, ours = _as_tensor(expected), _as_tensor(got)
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return False
    if theirs.dtype == torch.bool or ours.dtype == torch.bool:
        return theirs.dtype == ours.dtype and torch.equal(theirs, ours)
    if isinstance(expected, Tensor) and theirs.is_floating_point() != ours.is_floating_point():
        return False
    return torch.allclose(theirs.double(), ours.double(), rtol=1e-4, atol=1e-5, equal_nan=True)


def _same_outcome(one: Outcome, other: Outcome) -> bool:
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error)
    return type(one.value) is type(other.value) and same(one.value, other.value)


def _as_tensor(value: Any) -> Tensor | None:
    """A number, an array or a tensor as a tensor on the CPU; None for anything else."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, bool | int | float | np.ndarray | np.number):
        return torch.as_tensor(value)
    return None


def _state(value: Any) -> Any:
    """Something that is equal before and after a call if the value was not changed."""
    if isinstance(value, Tensor):
        return (
            tuple(value.shape),
            value.dtype,
            value.detach().cpu().contiguous().numpy().tobytes(),
        )
    if isinstance(value, nn.Module):
        tensors = {name: _state(tensor) for name, tensor in value.state_dict().items()}
        return (value.training, tensors)
    if isinstance(value, dict):
        return {key: _state(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_state(one) for one in value]
    return value if isinstance(value, str | int | float | bool) else None


def _holds_ellipsis(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_ellipsis, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_ellipsis, value))
    return value is ...


# --- Saying what is wrong


def _describe(
    answer: Callable,
    expected: list[Any],
    outcomes: list[Outcome],
    wrong: list[int],
    changed: str | None,
) -> str:
    """One sentence on what can be seen from wrong results when no catalogued mistake fits."""
    outcome, wanted = outcomes[wrong[0]], expected[wrong[0]]
    if outcome.error is not None:
        return _describe_error(answer, outcome.error)
    got = outcome.value
    if got is None:
        return "Your function returns nothing. Let it end with `return` and the result."
    if changed is not None:
        return f"Your function changes its input {changed}, and then its results are wrong."
    ours, theirs = _as_tensor(got), _as_tensor(wanted)
    if ours is None or theirs is None or isinstance(got, Tensor) < isinstance(wanted, Tensor):
        if _kind(got) != _kind(wanted):
            return f"It returns {_kind(got)}; {_kind(wanted)} is expected."
        if isinstance(wanted, tuple | list) and len(got) != len(wanted):
            return f"It returns {len(got)} values; {len(wanted)} are expected."
        if isinstance(wanted, dict) and got.keys() != wanted.keys():
            return f"It returns the names {sorted(got)}; {sorted(wanted)} are expected."
        return "Its results differ." + _right_so_far(wrong, outcomes)
    if ours.shape != theirs.shape:
        said = (
            f"Its result has the shape {tuple(ours.shape)}; it should have {tuple(theirs.shape)}."
        )
        return said + _right_so_far(wrong, outcomes)
    if ours.is_floating_point() != theirs.is_floating_point():
        return f"Its result holds {ours.dtype} numbers; they should be {theirs.dtype}."
    if not ours.double().isfinite().all() and theirs.double().isfinite().all():
        return "Its result holds nan or inf: look for a division by zero, or a number too large."
    return _pattern(expected, outcomes) or "The numbers differ." + _right_so_far(wrong, outcomes)


def _describe_error(answer: Callable, error: BaseException) -> str:
    """What was raised, and in which line of the learner's code."""
    where = ""
    files = _files(answer)
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name in files:
            line = linecache.getline(name, trace.tb_lineno).strip()
            where = f" in the line `{line}`" if line else ""
        trace = trace.tb_next
    what = str(error).strip().split("\n")[0]
    return f"Your code raises {type(error).__name__}{where}" + (f": {what}" if what else ".")


def _files(answer: Callable) -> set[str]:
    """The files (or cells) that hold the code of a function or of a class's methods."""
    functions = [answer, *vars(answer).values()] if inspect.isclass(answer) else [answer]
    return {f.__code__.co_filename for f in functions if hasattr(f, "__code__")}


def _pattern(expected: list[Any], outcomes: list[Outcome]) -> str | None:
    """A relation between what is expected and what came, if one holds on every input."""
    pairs = [
        (_as_tensor(wanted), _as_tensor(outcome.value))
        for wanted, outcome in zip(expected, outcomes, strict=False)
    ]
    if any(a is None or b is None or a.shape != b.shape for a, b in pairs):
        return None
    theirs = torch.cat([wanted.double().flatten() for wanted, _ in pairs])
    ours = torch.cat([got.double().flatten() for _, got in pairs])
    if len(theirs) < 3:
        return None
    if _close(ours, -theirs):
        return "Every number has the wrong sign."
    if ours.abs().max() < 1e-12:
        return "Every number is zero."
    factor = float(ours @ theirs / theirs.square().sum().clamp(min=1e-12))
    if abs(factor) > 1e-6 and _close(ours, factor * theirs):
        return f"Every number is {factor:.4g} times what it should be."
    shift = float((ours - theirs).mean())
    if _close(ours, theirs + shift):
        return f"Every number is off by {shift:+.4g}."
    return None


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def _right_so_far(wrong: list[int], outcomes: list[Outcome]) -> str:
    right = len(outcomes) - len(wrong)
    return f" It is right for {right} of {len(outcomes)} inputs." if right else ""


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, int | float | np.number):
        return "a number"
    return _a(type(value).__name__)


def _a(noun: str) -> str:
    return ("an " if noun[:1].lower() in "aeiou" else "a ") + noun


def _names(function: Callable, count: int) -> list[str]:
    """The names of a function's arguments (for a class, those of its forward)."""
    if inspect.isclass(function):
        names = list(inspect.signature(function.forward).parameters)[1:]
    else:
        names = list(inspect.signature(function).parameters)
    return (names + [f"argument {place + 1}" for place in range(len(names), count)])[:count]


def _inputs(names: list[str], arguments: tuple) -> str:
    return "\n".join(
        f"    {name} = {show(value)}" for name, value in zip(names, arguments, strict=False)
    )


def show(value: Any) -> str:
    """A value in a few words: small tensors whole, large ones by shape and first numbers."""
    if isinstance(value, Tensor):
        if value.numel() == 0:
            return f"an empty tensor of shape {tuple(value.shape)}"
        if value.numel() <= 16:
            return f"tensor({_rounded(value.tolist())})"
        first = ", ".join(_rounded(one) for one in value.flatten()[:4].tolist())
        return f"tensor of shape {tuple(value.shape)}: {first}, …"
    if isinstance(value, nn.Module):
        return (
            f"{_a(type(value).__name__)} in {'training' if value.training else 'evaluation'} mode"
        )
    if inspect.isfunction(value):
        return f"the function {value.__name__}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {show(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(show, value))})"
    text = _rounded(value)
    return text if len(text) <= 200 else text[:197] + "…"


def _rounded(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float | np.floating):
        return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1e4 else f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_rounded, value))}]"
    return repr(value)


def _wrap(text: str) -> str:
    return textwrap.fill(text, 80)
