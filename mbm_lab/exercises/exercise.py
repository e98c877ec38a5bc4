"""How an exercise checks an answer and finds the likely mistake.

An exercise holds a solution, inputs to try, and a catalogue of mistakes: wrong answers that people
give, each with its sentence. A check runs the learner's function on every input. If its results
are those of a catalogued mistake, then this is the likely mistake, and its sentence is said. If
not, what can be seen from the results is said: nothing returned, a shape, a sign, a factor, an
input that was changed, an error, no end.

When is a result that of a mistake? Where both raised no error, they must hold the same, whatever
it is kept in (a list, a tensor, an array), and at least half of the inputs must tell so, one of
them with a wrong result. Of several such mistakes the most specific is said: the one that agrees
also in kind and in errors, on every input; else the one that agrees on most inputs, and of these
the first of the catalogue.

`running` runs the answer, `kept` puts back what it changed, `plain` copies its results,
`comparing` compares them, `describing` and `patterns` say what is seen in them, `showing` shows
them, `sources` reads the learner's code.

What the learner's function prints for the first input is shown once, below the verdict; what it
prints for the others is left out.
"""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from mbm_lab.exercises import kept, progress, running, sources
from mbm_lab.exercises.comparing import exactly_same, loose, loosely, same, same_loosely
from mbm_lab.exercises.describing import describe, describe_error
from mbm_lab.exercises.hints import Hints, cell
from mbm_lab.exercises.plain import a, class_name, holds_ellipsis, is_class, plain
from mbm_lab.exercises.running import Cases, Outcome, Raised, Run
from mbm_lab.exercises.showing import show, show_pair, wrap

SECONDS = 10.0
"""How long an answer may take for all inputs together."""

__all__ = ["COLOURS", "NOT_YET", "RIGHT", "UNTOUCHED", "Cases", "Choice", "Exercise", "Verdict"]

# --- Verdicts

RIGHT, NOT_YET, UNTOUCHED = "Right.", "Not yet.", "Not attempted yet."

COLOURS = {RIGHT: "48;2;0;110;60", NOT_YET: "48;2;170;30;40"}
"""The backgrounds of two verdicts, dark green and dark red: with white letters they can be read on
a light page and on a dark one."""


class Verdict(NamedTuple):
    """What a check finds. word: RIGHT, NOT_YET or UNTOUCHED; paragraphs: what there is to say;
    advice: one step further, or None; printed: what the answer printed, line by line;
    is_try: whether it counts as a try; mistake: the sentence of the catalogue that was said."""

    word: str
    paragraphs: tuple[str, ...] = ()
    advice: str | None = None
    printed: tuple[str, ...] = ()
    is_try: bool = True
    mistake: str | None = None


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
    if hasattr(shell, "kernel"):
        return True
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # there is no page, or it is closed
        return False


def _put(text: str) -> None:
    """Prints a text, also where the page was closed or cannot write every letter."""
    for page in (sys.stdout, sys.__stdout__, sys.stderr):
        try:
            page.write(text + "\n")
            page.flush()
            return
        except UnicodeEncodeError:
            letters = page.encoding or "ascii"
            page.write(text.encode(letters, "replace").decode(letters) + "\n")
            return
        except (AttributeError, OSError, ValueError):  # there is none, or it is closed
            continue


# --- Two kinds of exercise


@dataclass(kw_only=True, repr=False)
class _Common:
    """What every exercise has. key: the name by which progress is remembered."""

    lesson: str
    name: str
    title: str
    minutes: int
    difficulty: int
    hints: tuple[str, ...]
    why: str
    _given_hints: Hints = field(default_factory=Hints, init=False)

    def __repr__(self) -> str:
        return f"<exercise {self.key}: {self.title}>"

    @property
    def key(self) -> str:
        return f"{self.lesson}.{self.name}"

    @property
    def difficulty_in_words(self) -> str:
        return {1: "easy", 2: "medium", 3: "hard"}[self.difficulty]

    def hint(self) -> None:
        """Prints the next hint; each call is one step more explicit (see `hints.Hints`)."""
        place = min(self._given_hints.next(cell()), len(self.hints) - 1)
        _put(wrap(f"Hint {place + 1} of {len(self.hints)}: {self.hints[place]}"))
        if place + 1 == len(self.hints):
            _put("This was the last hint. ex.solution() shows the answer.")

    def solution(self) -> None:
        """Prints the solution, and why it is right."""
        note = self._remember(solution_seen=True)
        heading = f"{self.title} A" if self.title[-1] in "?!." else f"{self.title}: a"
        _put(f"{heading} solution.\n\n{self.solution_source()}\n\n{wrap(self.why)}{note}")

    def solution_source(self) -> str:
        """The solution, as it would stand in the notebook."""
        raise NotImplementedError

    def catalogue(self) -> list[str]:
        """The sentences of the mistakes that a check knows by name."""
        raise NotImplementedError

    def judge(self, answer: Any) -> Verdict:
        """What there is to say of an answer; prints and remembers nothing."""
        raise NotImplementedError

    def check(self, answer: Any) -> None:
        """Judges an answer, prints what it finds, and remembers the try.

        Nothing that an answer does or returns ends in an error here, and what it changed for
        everybody is put back (`kept`).
        """
        verdicts: list[Verdict] = []
        with kept.as_imported():
            running.run_limited(lambda: verdicts.append(self._judge_anything(answer)), None)
        verdict = verdicts[0]
        lines = [f"{_marked(verdict.word)} {self.title}"]
        lines += [wrap(one) if "\n" not in one else one for one in verdict.paragraphs]
        if verdict.advice is not None:
            lines += ["", wrap(verdict.advice)]
        lines += verdict.printed
        note = ""
        if verdict.is_try:
            solved = {"solved": True} if verdict.word == RIGHT else {}
            note = self._remember(verdict.mistake, tried=True, **solved)
        _put("\n".join(lines) + note)

    def _judge_anything(self, answer: Any) -> Verdict:
        """The last guard: whatever goes wrong while an answer is judged becomes one sentence."""
        try:
            return self.judge(answer)
        except Exception as error:
            return Verdict(
                NOT_YET,
                (
                    f"Your result could not be compared ({class_name(error)}). Return plain "
                    "tensors, numbers, texts, or lists of them.",
                ),
            )

    def _remember(self, mistake: str | None = None, **changes: bool) -> str:
        """Remembers a try, a success, a mistake or a look. Returns a note to print: why this was
        not possible, said once; else nothing."""
        try:
            progress.record(self.key, mistake, **changes)
        except (OSError, ValueError) as error:
            if str(error) not in _told:
                _told.add(str(error))
                return "\n" + wrap(f"(Not remembered in your list of exercises: {error})")
        return ""


_told: set[str] = set()
"""What is said once, and not again: why nothing is remembered, and advice, by exercise."""


@dataclass(kw_only=True, repr=False)
class Exercise(_Common):
    """An exercise whose answer is a function (or a class).

    solution_function: the right answer, under the name that it has in the notebook.
    cases: makes the inputs that count, smallest first, {what it is: arguments}.
    beyond: inputs one step further (double precision, an empty batch): whoever is right on the
    cases is right; what fails here is told as advice, once.
    mistakes: the catalogue, {sentence: wrong answer}.
    given: for "break and fix", the faulty answer that stands in the notebook at the start.
    call: how an answer is used; called with the answer and a case's arguments.
    results: where several values are returned, what each is called ("the lengths").
    """

    solution_function: Callable
    cases: Callable[[], Cases]
    mistakes: dict[str, Callable]
    given: Callable | None = None
    call: Callable[..., Any] = lambda answer, *arguments: answer(*arguments)
    beyond: Callable[[], Cases] = dict
    results: tuple[str, ...] = ()
    seconds: float = SECONDS
    _known: dict[Any, list[Outcome]] = field(default_factory=dict, init=False)

    def solution_source(self) -> str:
        """The code of the solution, as it would stand in the notebook."""
        return textwrap.dedent(inspect.getsource(self.solution_function)).rstrip()

    def catalogue(self) -> list[str]:
        """The sentences of the mistakes that a check knows by name."""
        return list(self.mistakes)

    def judge(self, answer: Any) -> Verdict:
        """Tries the answer on several inputs. What there is to say of it."""
        if answer is ...:
            return Verdict(UNTOUCHED, is_try=False)
        if problem := self._cannot_be_tried(answer):
            return Verdict(NOT_YET, (problem,), is_try=False)
        cases = self.cases()
        run = self._run(answer, cases)
        verdict = self._untouched(answer, cases, run.outcomes)
        if verdict is None:
            finding = self._diagnose(answer, cases, run)
            if finding is None:
                tried = f"It holds for all {len(cases)} inputs: {'; '.join(cases)}."
                verdict = Verdict(RIGHT, (tried,), self._one_step_further(answer))
            else:
                end = "Change the cell and run it again. Stuck? ex.hint()"
                said = next((one for one in finding if one in self.mistakes), None)
                verdict = Verdict(NOT_YET, (*finding, end), mistake=said)
        return verdict._replace(printed=_shown_as_printed(run, next(iter(cases))))

    def is_right(self, answer: Callable) -> bool:
        """Whether an answer is right on every input that counts."""
        cases = self.cases()
        run = self._run(answer, cases)
        return not self._wrong(run.outcomes, cases) and run.ended and run.changed is None

    # Running

    def _run(self, answer: Callable, cases: Cases, quiet: bool = False) -> Run:
        run = running.run(self.call, answer, cases, self._names(cases), self.seconds, quiet)
        if not run.ended:
            run.outcomes.append(Outcome(error=_NO_END))
        return run

    def _outcomes_of(self, known: Callable, cases: Cases) -> list[Outcome]:
        """What comes of the solution, the given code or a mistake; run once and remembered."""
        key = (known, *cases)
        if key not in self._known:
            self._known[key] = self._run(known, cases, quiet=True).outcomes
        return self._known[key]

    def _expected(self, cases: Cases) -> list[Any]:
        return [outcome.value for outcome in self._outcomes_of(self.solution_function, cases)]

    def _wrong(self, outcomes: list[Outcome], cases: Cases) -> list[int]:
        """The places of the inputs for which an answer is wrong."""
        return [
            place
            for place, (outcome, wanted) in enumerate(
                zip(outcomes, self._expected(cases), strict=False)
            )
            if outcome.error is not None or not same(wanted, outcome.value)
        ]

    def _names(self, cases: Cases) -> list[str]:
        """The names of a case's arguments: those of `call`, and for the others the solution's."""
        count = max((len(arguments) for arguments in cases.values()), default=0)
        solution = self.solution_function
        theirs = list(
            inspect.signature(solution.forward if is_class(solution) else solution).parameters
        )
        theirs = theirs[1:] if is_class(solution) else theirs
        kinds = list(inspect.signature(self.call).parameters.values())[1:]
        named = [one.name for one in kinds if one.kind is one.POSITIONAL_OR_KEYWORD]
        if len(named) < count:
            rest = theirs[len(named) :]
            named += rest[: count - len(named)]
        return named + [f"argument {place + 1}" for place in range(len(named), count)]

    # Is it an answer?

    def _cannot_be_tried(self, answer: Any) -> str | None:
        """Why what was handed in is no answer, whatever it computes."""
        name = self.solution_function.__name__
        asks_for_class = is_class(self.solution_function)
        if asks_for_class and issubclass(type(answer), nn.Module):
            return f"Hand in the class itself, without parentheses: ex.check({name})"
        if not callable(answer):
            noun = "class" if asks_for_class else "function"
            quotes = " and without quotation marks" if issubclass(type(answer), str) else ""
            return (
                f"check needs the {noun} itself, and got {a(class_name(answer))}. "
                f"Write its name without parentheses{quotes}: ex.check({name})"
            )
        if not asks_for_class and is_class(answer):
            return f"check needs a function, and got a class: ex.check({name})"
        return None

    def _untouched(self, answer: Callable, cases: Cases, outcomes: list[Outcome]) -> Verdict | None:
        """The verdict on an answer that is still the stub, or still has a `...` in it."""
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if len(errors) == len(outcomes):
            if all(one.name == "NotImplementedError" and one.by_answer for one in errors):
                said = "It raises NotImplementedError: write your code, then run the cell again."
                return Verdict(UNTOUCHED, (said,), is_try=False)
        open_places = [
            place for place, outcome in enumerate(outcomes) if holds_ellipsis(outcome.value)
        ]
        if open_places:
            return self._still_open(answer, cases, outcomes, open_places)
        if self.given is not None:
            theirs = self._outcomes_of(self.given, cases)
            if len(theirs) == len(outcomes) and all(map(_same_outcome, theirs, outcomes)):
                return self._still_as_given(answer)
        return None

    def _still_open(
        self, answer: Callable, cases: Cases, outcomes: list[Outcome], places: list[int]
    ) -> Verdict:
        node = sources.definition(answer)
        if sources.is_empty(node) if node else len(places) == len(outcomes):
            said = "Replace the ... by your code, then run the cell again."
            return Verdict(UNTOUCHED, (said,), is_try=False)
        note, arguments = list(cases.items())[places[0]]
        return Verdict(
            NOT_YET,
            (
                f"Your code still returns `...` for {len(places)} of {len(cases)} inputs: write "
                "something in its place.",
                f"The smallest input that shows it: {note}.\n{self._inputs(arguments, cases)}",
            ),
        )

    def _still_as_given(self, answer: Callable) -> Verdict:
        module = self.solution_function.__module__.rpartition(".")[2]
        stub = sources.stub(self.lesson, module, self.name, self.solution_function.__name__)
        mine = sources.definition(answer)
        still = "are still those of the code as given. Find its fault and mend it."
        if answer is self.given or None in (stub, mine) or sources.body(stub) == sources.body(mine):
            return Verdict(UNTOUCHED, (f"The results {still}",), is_try=False)
        idle = sources.idle_line(mine)
        said = f"You changed the code, but its results {still}"
        return Verdict(NOT_YET, (*([idle] if idle else []), said, "Stuck? ex.hint()"))

    # What is wrong with it?

    def _diagnose(self, answer: Callable, cases: Cases, run: Run) -> list[str] | None:
        """What to say of a wrong answer; None when it is right."""
        outcomes = run.outcomes
        wrong = self._wrong(outcomes, cases)
        if not wrong:
            if run.changed is None:
                return None
            return [
                f"The results are right, but your function changes its input {run.changed}. "
                "Whoever called it still needs that: make a new tensor instead of writing into "
                "the old one."
            ]
        if outcomes[wrong[0]].error is _NO_END:
            return self._no_end(cases, run, wrong[0])
        expected = self._expected(cases)
        valued = [place for place in wrong if outcomes[place].error is None]
        failed = [place for place in wrong if outcomes[place].error is not None]
        said = []
        if idle := sources.idle_line(sources.definition(answer)):
            said.append(idle)
        if mistake := self._likely_mistake(outcomes, cases):
            said.append(mistake)
            shown = valued[0] if valued else wrong[0]
        elif valued and (wrong[0] == valued[0] or 2 * len(valued) >= len(outcomes)):
            shown = valued[0]
            said.append(self._seen(answer, cases, run))
        else:
            shown = failed[0]
            said.append(self._error(outcomes[shown].error, cases))
            good = len(outcomes) - len(wrong)
            if good:
                said[-1] += f" It is right for {good} of {len(cases)} inputs."
        if failed and shown in valued:
            said.append(self._also_fails(outcomes[failed[0]].error, list(cases)[failed[0]]))
        note, arguments = list(cases.items())[shown]
        said.append(f"The smallest input that shows it: {note}.\n{self._inputs(arguments, cases)}")
        if outcomes[shown].error is not None:
            wanted, got = show(expected[shown]), "an error"
        else:
            wanted, got = show_pair(expected[shown], outcomes[shown].value)
        return [*said, f"    expected: {wanted}\n    got:      {got}"]

    def _no_end(self, cases: Cases, run: Run, place: int) -> list[str]:
        note, arguments = list(cases.items())[place]
        where = f" It was in the line `{run.line}`." if run.line else ""
        said = f"Your code did not end within {self.seconds:.0f} seconds ({note}).{where}"
        if run.deep:
            said += " It calls itself again and again: does every call come nearer to its end?"
        else:
            said += " Look for a loop whose condition never becomes false."
        if not run.stopped:
            said += " It could not be stopped: restart the kernel before you go on."
        return [said, self._inputs(arguments, cases)]

    def _likely_mistake(self, outcomes: list[Outcome], cases: Cases) -> str | None:
        """The sentence of the most specific mistake whose results are these."""
        expected = [(one, loose(one)) for one in self._expected(cases)]
        ours = [(one, loose(one.value)) for one in outcomes]
        best, sentence = None, None
        for one, mistake in self.mistakes.items():
            agrees = _agreement(expected, self._outcomes_of(mistake, cases), ours)
            if agrees is not None and (best is None or agrees > best):
                best, sentence = agrees, one
        return sentence

    def _seen(self, answer: Callable, cases: Cases, run: Run) -> str:
        names = self._names(cases)
        given = [dict(zip(names, arguments, strict=False)) for arguments in cases.values()]
        expected = self._expected(cases)[: len(run.outcomes)]
        with warnings.catch_warnings(action="ignore"):  # of relations that were tried
            seen = describe(
                expected, run.outcomes, given[: len(run.outcomes)], self.results, list(cases)
            )
        if run.changed is not None:
            return (
                f"Your function changes its input {run.changed}, and its results are wrong. {seen}"
            )
        if self._is_random(answer, cases, run):
            return f"{seen} Called a second time with the same input, it gives another result."
        return seen

    def _is_random(self, answer: Callable, cases: Cases, run: Run) -> bool:
        """Whether a second call gives something else."""
        note, arguments = next(iter(cases.items()))
        with kept.kept():
            torch.manual_seed(torch.initial_seed() + 1)
            again = self._run(answer, {note: arguments}, quiet=True).outcomes[0]
        first = run.outcomes[0]
        return (
            first.error is None
            and again.error is None
            and not same_loosely(first.value, again.value)
        )

    def _error(self, error: Raised, cases: Cases) -> str:
        names = self._names(cases)
        return describe_error(error, names, len(names))

    def _also_fails(self, error: Raised, note: str) -> str:
        if error is _NO_END:
            return f"Besides, it does not end for this input: {note}."
        where = f" in the line `{error.line}`" if error.line else ""
        return f"Besides, it raises {error.name}{where} for this input: {note}."

    def _inputs(self, arguments: tuple, cases: Cases) -> str:
        return "\n".join(
            f"    {name} = {show(value)}"
            for name, value in zip(self._names(cases), arguments, strict=False)
        )

    # One step further

    def _one_step_further(self, answer: Callable) -> str | None:
        """Advice for somebody who is right: what fails on the inputs beyond. Said once."""
        cases = self.beyond()
        if not cases or self.key in _told:
            return None
        outcomes = self._run(answer, cases, quiet=True).outcomes
        wrong = self._wrong(outcomes, cases)
        if not wrong:
            return None
        _told.add(self.key)
        note, outcome = list(cases)[wrong[0]], outcomes[wrong[0]]
        begin = f"One step further: with {note}"
        if outcome.error is _NO_END:
            return f"{begin} your code does not end. (This does not count here.)"
        if outcome.error is not None:
            line = f"your line `{outcome.error.line}`" if outcome.error.line else "your code"
            why = f", because: {outcome.error.text}" if outcome.error.text else ""
            return f"{begin} {line} fails{why} ({outcome.error.name}). (This does not count here.)"
        wanted, got = show_pair(self._expected(cases)[wrong[0]], outcome.value)
        return f"{begin} the result is another: {got}, not {wanted}. (This does not count here.)"


_NO_END = Raised("TooSlow", ("TooSlow",), "", "", False)
"""Stands where an answer was stopped."""


def _same_outcome(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are the same value of one kind, or errors of one class."""
    if one.error is not None or other.error is not None:
        return bool(one.error and other.error and one.error.name == other.error.name)
    return exactly_same(one.value, other.value)


def _agreement(
    expected: list[tuple[Any, Any]], theirs: list[Outcome], ours: list[tuple[Outcome, Any]]
) -> tuple[int, int] | None:
    """How well an answer agrees with a mistake; None if it does not. More is more specific.

    expected and ours: with what `loose` makes of each. See the top of this module. Errors alone
    count only if they say the same.
    """
    exact = agreeing = valued = telling = 0
    for (wanted, loose_wanted), mistake, (mine, loose_mine) in zip(
        expected, theirs, ours, strict=False
    ):
        if mistake.error is not None or mine.error is not None:
            if mistake.error and mine.error and mistake.error.name == mine.error.name:
                agreeing += 1
                exact += mistake.error.text == mine.error.text
            continue
        valued += 1
        loose_mistake = loose(mistake.value)
        if exactly_same(mistake.value, mine.value):
            exact += 1
            telling += not same(wanted, mine.value)
        elif not loosely(loose_mistake, loose_mine):
            return None
        elif not loosely(loose_wanted, loose_mistake):
            telling += 1
        agreeing += 1
    if exact == len(ours) == len(theirs):
        return 2, agreeing
    if telling and (2 * valued >= len(expected) or agreeing == len(ours)):
        return 1, agreeing
    return None


def _shown_as_printed(run: Run, note: str) -> tuple[str, ...]:
    """What an answer printed, below a heading."""
    lines = run.printed.lines()
    if not lines:
        return ()
    heading = f"Your function printed, for the first input ({note}):"
    return ("", heading, *(f"    {line}" for line in lines))


@dataclass(kw_only=True, repr=False)
class Choice(_Common):
    """A question to answer before a figure or a table shows the truth.

    options: {letter: text}; answer: the right letter; wrong: for every other letter, what its idea
    misses. truth: measures the right letter from the course's own data (the tests use it).
    """

    options: dict[str, str]
    answer: str
    wrong: dict[str, str]
    truth: Callable[[], str]

    def catalogue(self) -> list[str]:
        """What is said of each wrong letter."""
        return list(self.wrong.values())

    def judge(self, answer: Any) -> Verdict:
        """Whether the chosen letter is right, and if not, what its idea misses."""
        letters = ", ".join(f'"{letter}"' for letter in self.options)
        if answer is ... or answer is None:
            return Verdict(UNTOUCHED, (f"Replace the ... by one of {letters}.",), is_try=False)
        chosen = _letter(plain(answer))
        if chosen not in self.options:
            said = f"Answer with one of {letters}, in quotation marks."
            return Verdict(NOT_YET, (said,), is_try=False)
        if chosen == self.answer:
            return Verdict(RIGHT, (self.why,))
        said = self.wrong[chosen]
        return Verdict(NOT_YET, (said, "Think again, or run on and see."), mistake=said)

    def solution_source(self) -> str:
        """The answer, as it would stand in the notebook."""
        return f'my_answer: str = "{self.answer}"'


def _letter(answer: Any) -> str:
    """The letter of "(c)", "c.", "C" or "ｃ"; anything else is no letter."""
    if not isinstance(answer, str) or len(answer) > 20:
        return ""
    return unicodedata.normalize("NFKC", answer).strip(" \t\n()[]{}.,:;'\"").lower()
