"""exercises/: the solution passes, each mistake gets its own sentence, no mutant passes."""

import ast
import importlib
import inspect
import io
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

from mbm_lab import exercises, lessons
from mbm_lab.__main__ import main
from mbm_lab.exercises import progress
from mbm_lab.exercises.exercise import COLOURS, NOT_YET, RIGHT, Choice, Exercise
from mbm_lab.exercises.hints import Hints
from mbm_lab.exercises.plain import plain as plain_copy
from mbm_lab.exercises.showing import show, show_pair

NUMBERS = list(exercises.LESSONS)
ALL = [one for number in NUMBERS for one in exercises.of_lesson(number)]
WRITTEN = [one for one in ALL if isinstance(one, Exercise)]
CHOSEN = [one for one in ALL if isinstance(one, Choice)]


def by_key(one):
    return one.key


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """Every test has a file of progress of its own."""
    monkeypatch.setenv("MBM_PROGRESS", str(tmp_path / "progress.json"))


def without_day(state: dict) -> dict:
    """What is remembered of an exercise, but for the day of solving it."""
    return {name: value for name, value in state.items() if name != "solved_on"}


def plain(text: str) -> str:
    return " ".join(text.split())


# Every lesson


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_has_three_to_five_exercises_of_several_kinds(number):
    ones = exercises.of_lesson(number)
    assert 3 <= len(ones) <= 5
    assert len({one.name for one in ones}) == len({one.title for one in ones}) == len(ones)
    module = importlib.import_module(f"mbm_lab.exercises.{exercises.LESSONS[number]}")
    for one in ones:
        assert getattr(module, one.name) is one
        assert one.lesson == number
        assert one.difficulty in (1, 2, 3)
        assert 1 <= one.minutes <= 20
        assert len(one.hints) >= 2
        assert len(one.why) > 60


def test_the_course_has_every_kind():
    assert sum(isinstance(one, Choice) for one in ALL) >= 3
    assert sum(isinstance(one, Exercise) and one.given is not None for one in ALL) >= 4
    assert sum(isinstance(one, Exercise) and one.given is None for one in ALL) >= 8


def cell_of(notebook, one):
    """The place of the cell in which an exercise is answered."""
    line = f"from mbm_lab.exercises.{exercises.LESSONS[one.lesson]} import {one.name} as ex"
    places = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith(line)]
    assert len(places) == 2, f"{one.key}: its import begins two cells, to answer and to be helped"
    assert places[1] == places[0] + 1
    return places[0]


HELP = [
    "",
    '# Remove the "#" before a line and run the cell:',
    "# ex.hint()",
    "# ex.solution()",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_exercises_stand_in_their_lesson_in_order(number):
    notebook = lessons.read_notebook(lessons.find_lesson(number))
    ones = exercises.of_lesson(number)
    places = [cell_of(notebook, one) for one in ones]
    assert places == sorted(places)
    assert sum("ex.check(" in cell.source for cell in notebook.cells) == len(ones)
    for count, (one, place) in enumerate(zip(ones, places, strict=True), start=1):
        task, stub, helped = notebook.cells[place - 1 : place + 2]
        opening = f"### Exercise {number}.{count} · {one.title}\n\n"
        opening += f"*{one.minutes} minutes, {one.difficulty_in_words}.* "
        assert task.source.startswith(opening)
        assert helped.source.split("\n")[1:] == HELP
        assert helped.outputs == []
        assert stub.outputs[0].text.startswith(f"Not attempted yet. {one.title}\n")
        name = one.solution_function.__name__ if isinstance(one, Exercise) else "my_answer"
        assert stub.source.endswith(f"ex.check({name})")
        if isinstance(one, Choice):
            for letter, text in one.options.items():
                assert f"- ({letter}) {text}" in task.source
    assert lessons.exercise_minutes(notebook) == sum(one.minutes for one in ones)


# Solutions, mistakes, mutants


@pytest.mark.parametrize("one", ALL, ids=by_key)
def test_the_solution_is_correct_and_untouched_is_not_attempted(one, said):
    answer = one.answer if isinstance(one, Choice) else one.solution_function
    assert f"Right. {one.title}" in said(one, answer)
    assert without_day(progress.load()[one.key]) == {"tries": 1, "solved": True}
    assert f"Not attempted yet. {one.title}" in said(one, ...)
    if isinstance(one, Exercise) and one.given is not None:
        assert f"Not attempted yet. {one.title}" in said(one, one.given)
    assert progress.load()[one.key]["tries"] == 1


@pytest.mark.parametrize("one", WRITTEN, ids=by_key)
def test_each_mistake_gets_its_own_sentence(one, said):
    assert len(one.mistakes) >= 3
    for sentence, mistake in one.mistakes.items():
        words = said(one, mistake)
        assert f"Not yet. {one.title}" in words
        assert plain(sentence) in words
        assert "The smallest input that shows it" in words
        assert sum(plain(other) in words for other in one.mistakes) == 1
    counts = {progress.mistake_key(sentence): 1 for sentence in one.mistakes}
    assert progress.load()[one.key] == {"tries": len(one.mistakes), "mistakes": counts}


@pytest.mark.parametrize("one", CHOSEN, ids=by_key)
def test_each_wrong_choice_gets_its_own_sentence(one, said):
    assert set(one.wrong) == set(one.options) - {one.answer}
    for letter, sentence in one.wrong.items():
        words = said(one, letter)
        assert plain(sentence) in words
        assert "Not yet." in words
    for strange in ("z", 3, ["a"], "", "a or b"):
        assert "Answer with one of" in said(one, strange)
    wide = chr(ord(one.answer) + 0xFEE0)
    for spelling in (f" {one.answer.upper()} ", f"({one.answer})", f"{one.answer}).", wide):
        assert "Right." in said(one, spelling)


@pytest.mark.slow
@pytest.mark.parametrize("one", CHOSEN, ids=by_key)
def test_the_right_choice_is_what_is_measured(one):
    assert one.truth() == one.answer


SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}  # fmt: skip
TWINS = {"mean": "sum", "sum": "mean", "max": "min", "min": "max", "argmax": "argmin",
         "argmin": "argmax", "floor": "ceil", "ceil": "floor", "eval": "train",
         "zeros": "ones", "log_softmax": "softmax",
         "append": "remove"}  # fmt: skip

EQUIVALENT: dict[str, set[str]] = {
    # a first row that is longer is only seen where nothing was said, which is one step further
    "09.word_errors": {"1 -> 2"},
}
"""Mutants that compute the same as the solution, and why."""


def mutants(function):
    """Copies of a function's code, each with one small change: (what was changed, the code)."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):  # annotations and docstrings do nothing
        if isinstance(node, ast.FunctionDef):
            node.returns, node.args.defaults = None, []
            for argument in node.args.args:
                argument.annotation = None
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and len(body) > 1:
                del body[0]
    # Parsed anew each time. A copy would take along all that hangs on the nodes; Python shares some
    # nodes among all trees, and IPython ties them to whole modules.
    text = ast.unparse(tree)
    for place in range(sum(1 for _ in ast.walk(ast.parse(text)))):
        for variant in range(3):
            changed = ast.parse(text)
            node = list(ast.walk(changed))[place]
            before = ast.unparse(node)
            if mutate(node, variant):
                what = f"{before} -> {ast.unparse(node)}"
                yield what, ast.unparse(ast.fix_missing_locations(changed))


def mutate(node: ast.AST, variant: int) -> bool:
    """Changes one node; False when it has no such variant."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and variant == 0 and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and variant == 0 and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and variant == 0:
        node.op = ast.UAdd()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert) and variant == 0:
        node.op = ast.UAdd()
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and variant == 0:
        node.value.elts.reverse()
    elif isinstance(node, ast.With | ast.Expr) and variant == 0:  # a statement that has no effect
        node.__class__, node.test, node.orelse = ast.If, ast.Constant(True), []
        node.body = getattr(node, "body", [ast.Pass()])
    elif isinstance(node, ast.Attribute) and node.attr in TWINS and variant == 0:
        node.attr = TWINS[node.attr]
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool) and variant == 0:
        node.value = not node.value
    elif isinstance(node, ast.Constant) and type(node.value) is int and variant < 2:
        node.value += (1, -1)[variant]
    elif isinstance(node, ast.Constant) and type(node.value) is float and variant == 0:
        node.value = node.value * 1.5 + 0.25
    else:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("one", WRITTEN, ids=by_key)
def test_no_mutant_of_the_solution_passes(one):
    module = importlib.import_module(one.solution_function.__module__)
    name, passed, tried = one.solution_function.__name__, [], 0
    quick = replace(one, seconds=1.0)
    for what, code in mutants(one.solution_function):
        namespace = dict(vars(module))
        exec(compile(code, "<mutant>", "exec"), namespace)
        tried += 1
        if quick.is_right(namespace[name]):
            passed.append(what)
    assert tried >= 2
    assert set(passed) == EQUIVALENT.get(one.key, set())


# What is said of answers that no catalogue holds


ADD = exercises.of_lesson("04")[0]  # the weighted sum


def a_sum(f, g, alpha, beta):
    return torch.stack([alpha * f, beta * g]).sum(0)


def test_another_way_to_write_it_is_correct_too(said):
    assert "Right. The weighted sum It holds for all 8 inputs" in said(ADD, a_sum)


def test_the_same_mistake_written_otherwise_is_found(said):
    def loop(f, g, alpha, beta):
        v = torch.zeros_like(f)
        for i in range(len(f)):
            v[i] = beta * f[i] + alpha * g[i]
        return v

    words = said(ADD, loop)
    assert "You swapped α and β" in words
    assert "a batch of one. f = tensor([0.6]) g = tensor([0.2]) alpha = 0.5 beta = 0.25" in words
    assert "expected: tensor([0.35]) got: tensor([0.25])" in words


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda f, g, alpha, beta: None, "returns nothing"),
        (lambda f, g, alpha, beta: (alpha * f + beta * g).tolist(),
         "The numbers are right. But: it returns a list; a tensor is expected."),
        (lambda f, g, alpha, beta: "v", "It returns a text; a tensor is expected"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta)[None],
         "The numbers are right, but in the shape (1, 3); (3,) is expected"),
        (lambda f, g, alpha, beta: -a_sum(f, g, alpha, beta), "Every number has the wrong sign"),
        (lambda f, g, alpha, beta: 0.5 * a_sum(f, g, alpha, beta), "0.5 times what it should be"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta) + 1, "Every number is off by +1"),
        (lambda f, g, alpha, beta: f * 0, "Every number is zero"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta).int(), "whole numbers (torch.int32)"),
        (lambda f, g, alpha, beta: f / 0, "inf. Look for a division by zero"),
        (lambda f, g, alpha, beta: f, "Your result is the input `f`, unchanged"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta).numpy(),
         "The numbers are right. But: it returns a NumPy array; a tensor is expected. "
         "torch.from_numpy"),
        (lambda f, g, alpha, beta: (beta * f + alpha * g).tolist(), "You swapped α and β"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta).half() * 3,
         "numbers of half precision (torch.float16), and they differ by more"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta).flip(0), "The order is turned round"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta).abs(), "lost its sign"),
        (lambda f, g, alpha, beta: a_sum(f, g, alpha, beta) ** 2, "is the square of"),
        (lambda f, g: f + g, "raises TypeError"),
        (5, "check needs the function itself, and got an int"),
        (torch.zeros(3), "check needs the function itself, and got a Tensor"),
    ],
)  # fmt: skip
def test_results_are_described(said, answer, sentence):
    only_swapped = dict(list(ADD.mistakes.items())[:1])
    words = said(replace(ADD, mistakes=only_swapped), answer)
    assert "Not yet." in words
    assert sentence in words


def test_an_error_names_its_line(said):
    def broken(f, g, alpha, beta):
        v = alpha * f
        return v + beta * h  # noqa: F821

    words = said(ADD, broken)
    assert "raises NameError in the line `return v + beta * h # noqa: F821`" in words
    assert "name 'h' is not defined" in words
    assert "Traceback" not in words


def test_an_answer_that_is_right_for_some_inputs_says_for_how_many(said):
    def first_only(f, g, alpha, beta):
        return a_sum(f, g, alpha, beta) if f.ndim == 1 else f[:, 0]

    assert "It is right for 7 of 8 inputs" in said(ADD, first_only)


@pytest.mark.parametrize("guard", ["", "except Exception: pass", "except: pass"])
def test_an_answer_that_never_ends_is_stopped(said, guard):
    lines = "while True:\n        x = 1" if not guard else (
        f"while True:\n        try:\n            x = 1\n        {guard}"
    )  # fmt: skip
    namespace = {}
    exec(f"def endless(f, g, alpha, beta):\n    {lines}", namespace)
    words = said(replace(ADD, seconds=0.3), namespace["endless"])
    assert "did not end within 0 seconds" in words
    assert "a batch of one" in words


def test_an_answer_that_sleeps_too_long_is_left_behind(said):
    import time

    words = said(replace(ADD, seconds=0.2), lambda f, g, alpha, beta: time.sleep(3))
    assert "did not end" in words
    assert "restart the kernel" in words


def test_an_answer_that_changes_its_input_is_told(said):
    def in_place(f, g, alpha, beta):
        f *= alpha
        return f + beta * g

    words = said(ADD, in_place)
    assert "changes its input f (a batch of one)" in words


def chatty(f, g, alpha, beta):
    print(f"f = {f.tolist()}")
    return a_sum(f, g, alpha, beta)


def chatty_and_wrong(f, g, alpha, beta):
    print("one\n\ntwo")
    return f


def chatty_and_unfinished(f, g, alpha, beta):
    print("so far:", f.shape)
    return ...


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (chatty, "    f = [0.6000000238418579]"),
        (chatty_and_wrong, "    one\n    \n    two"),
        (chatty_and_unfinished, "    so far: torch.Size([1])"),
    ],
)
def test_what_an_answer_prints_is_shown_once_and_apart(answer, printed, capsys):
    ADD.check(answer)
    heading = "\nYour function printed, for the first input (a batch of one):\n"
    before, found, after = capsys.readouterr().out.partition(heading)
    assert found
    assert after == printed + "\n"
    assert before.startswith(("Right.", "Not yet."))


def test_a_silent_answer_has_no_heading(said):
    assert "printed" not in said(ADD, a_sum)


@pytest.mark.parametrize(("lines", "shown"), [(9, 9), (10, 10), (11, 10)])
def test_ten_printed_lines_are_shown_and_no_more(lines, shown, capsys):
    def talkative(f, g, alpha, beta):
        for number in range(lines):
            print("line", number)
        return a_sum(f, g, alpha, beta)

    ADD.check(talkative)
    words = capsys.readouterr().out
    assert words.count("    line ") == shown
    assert words.endswith("    …\n") == (lines > shown)


def test_an_endless_loop_that_prints_is_stopped_and_cut(capsys):
    def endless(f, g, alpha, beta):
        while True:
            print("x" * 300)

    replace(ADD, seconds=0.3).check(endless)
    words = capsys.readouterr().out
    assert "did not end" in words
    assert len(words) < 4000
    assert words.endswith("    …\n")


def test_the_page_is_given_back_after_an_error():
    before = sys.stdout
    ADD.check(lambda f, g, alpha, beta: 1 / 0)
    assert sys.stdout is before


def test_leaving_python_is_only_an_error(said):
    def leave(f, g, alpha, beta):
        raise SystemExit

    assert "raises SystemExit" in said(ADD, leave)


# Attempted or not


def not_implemented(f, g, alpha, beta):
    raise NotImplementedError


def stub(f, g, alpha, beta):
    """v = αf + βg"""
    return ...  # your code here


def one_branch_open(f, g, alpha, beta):
    if f.ndim == 1:
        return alpha * f + beta * g
    return ...


def test_only_an_untouched_stub_is_not_attempted(said):
    for answer in (..., stub, not_implemented):
        assert said(ADD, answer).startswith("Not attempted yet.")
    words = said(ADD, one_branch_open)
    assert words.startswith("Not yet.")
    assert "still returns `...` for 1 of 8 inputs" in words
    assert "an operator without a meaning" not in words
    assert "raises NotImplementedError" in said(ADD, lambda f, g, alpha, beta: (f**2) ^ 2)


READ = exercises.of_lesson("02")[2]


def as_given(model, images):
    # a comment, and another layout, are no change
    with torch.no_grad():

        return model(images)


def without_parentheses(model, images):
    model.eval  # noqa: B018
    with torch.no_grad():
        return model(images)


def test_an_edit_that_changes_no_result_is_an_attempt(said):
    assert READ.name == "read"
    assert said(READ, as_given).startswith("Not attempted yet.")
    words = said(READ, without_parentheses)
    assert words.startswith("Not yet.")
    assert "The line `model.eval` does nothing, because it has no parentheses" in words
    assert progress.load()[READ.key] == {"tries": 1}


# One step further


def single_only(f, g, alpha, beta):
    return alpha * f + beta * g + torch.zeros(len(f)).float() @ torch.zeros(len(f)).to(f.dtype)


def test_what_fails_one_step_further_is_advice_and_said_once(said):
    cases = ADD.cases()
    beyond = {"double precision": ADD.beyond()["double precision"]}
    cases = {"a batch of one": cases["a batch of one"]}
    one = replace(ADD, name="further", cases=lambda: cases, beyond=lambda: beyond)
    words = said(one, single_only)
    assert words.startswith("Right. The weighted sum It holds for all 1 inputs")
    assert "One step further: with double precision your line `return alpha * f" in words
    assert "fails, because: " in words
    assert without_day(progress.load()[one.key]) == {"tries": 1, "solved": True}
    assert "One step further" not in said(one, single_only)
    assert "One step further" not in said(replace(one, name="other"), a_sum)


def test_an_error_on_one_input_does_not_hide_the_mistake(said):
    def swapped(f, g, alpha, beta):
        if f.ndim > 1:
            raise IndexError("nothing here")
        return beta * f + alpha * g

    words = said(ADD, swapped)
    assert "You swapped α and β" in words
    assert 'Besides, it raises IndexError in the line `raise IndexError("nothing here")`' in words


# The parts of a result


def test_the_part_that_is_wrong_is_named(said):
    step = exercises.of_lesson("04")[2]
    named = replace(step, results=("the new α", "the new β"))

    def second_is_off(*a):
        alpha, beta = step.solution_function(*a)
        return alpha, beta + 1

    words = said(named, second_is_off)
    assert "The second value (the new β): every number is off by +1." in words
    assert "The first value is right." in words
    unknown = replace(step, mistakes={})
    assert "another order" in said(unknown, lambda *a: step.solution_function(*a)[::-1])
    assert "It returns 1 value; 2 are expected" in said(step, lambda *a: (0.5,))


def test_two_results_never_look_alike():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])
    assert len(set(show_pair(plain_copy(one), plain_copy(other)))) == 2
    large = torch.zeros(5, 7)
    large[3, 1] = 2e-8
    pair = show_pair(plain_copy(torch.ones(5, 7)), plain_copy(torch.ones(5, 7) + large * 1e8))
    assert pair[1] == "tensor of shape (5, 7), from [3, 1]: 3, 1, 1, 1, …"
    assert "2e-08" in show(large[3])


# The verdict's colour


class Page(io.StringIO):
    """A terminal, which shows colours."""

    def isatty(self):
        return True


def verdicts(monkeypatch, page):
    """What the first lines of a right, a wrong and no answer look like on this page."""
    monkeypatch.setattr(sys, "stdout", page)
    for answer in (a_sum, lambda f, g, alpha, beta: f, ...):
        ADD.check(answer)
    return [line for line in page.getvalue().splitlines() if ADD.title in line]


def test_right_and_wrong_have_different_words_and_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    right, wrong, untouched = verdicts(monkeypatch, Page())
    assert re.fullmatch(r"\x1b\[1;38;2;255;255;255;48;2;0;110;60m Right\. \x1b\[0m .*", right)
    assert re.fullmatch(r"\x1b\[1;38;2;255;255;255;48;2;170;30;40m Not yet\. \x1b\[0m .*", wrong)
    assert untouched == f"Not attempted yet. {ADD.title}"


def test_a_notebook_shows_colours_too(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    notebook = type("Shell", (), {"kernel": object()})()
    monkeypatch.setattr("IPython.get_ipython", lambda: notebook)
    assert all("\x1b" in line for line in verdicts(monkeypatch, io.StringIO())[:2])


@pytest.mark.parametrize("page", [Page, io.StringIO])
def test_there_are_no_colours_where_they_are_not_wanted_or_not_shown(page, monkeypatch):
    if page is Page:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    words = [f"{word} {ADD.title}" for word in ("Right.", "Not yet.", "Not attempted yet.")]
    assert verdicts(monkeypatch, page()) == words


@pytest.mark.parametrize("colour", [COLOURS[RIGHT], COLOURS[NOT_YET]])
def test_white_letters_can_be_read_on_a_verdicts_colour(colour):
    """The contrast that WCAG 2.1 asks for small letters: 4.5 to 1."""
    rgb = torch.tensor([int(part) for part in colour.split(";")[2:]]) / 255
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = (linear @ torch.tensor([0.2126, 0.7152, 0.0722])).item()
    assert 1.05 / (lightness + 0.05) >= 4.5


# Hints, solutions, progress


def test_an_exercise_does_not_tell_its_answer_when_it_is_shown():
    for one in ALL:
        assert repr(one) == f"<exercise {one.key}: {one.title}>"


@pytest.mark.parametrize(
    ("cells", "given"),
    [
        ([(1, "ex.hint()"), (2, "ex.hint()"), (3, "ex.hint()")], [0, 1, 2]),  # in a row
        ([(1, "ex.hint()"), (5, "ex.hint()"), (9, "ex.hint()")], [0, 0, 0]),  # left in a cell
        ([(1, "ex.hint()"), (5, "ex.hint()"), (6, "ex.hint()")], [0, 0, 1]),
        ([(1, "ex.hint()\nex.hint()")] * 2 + [(4, "ex.hint()\nex.hint()")] * 2, [0, 1, 0, 1]),
        ([(1, "ex.check(f)\nex.hint()"), (2, "ex.check(g)\nex.hint()")], [0, 0]),
        ([(1, "ex.hint()"), (3, "ex.hint() # more")], [0, 1]),
        ([None, None], [0, 1]),
    ],
)
def test_a_hint_that_was_left_in_a_cell_does_not_lead_on(cells, given):
    hints = Hints()
    assert [hints.next(cell) for cell in cells] == given


def test_hints_come_one_by_one_and_then_point_to_the_solution(capsys):
    one = replace(ADD)
    for place in range(len(one.hints)):
        one.hint()
        words = plain(capsys.readouterr().out)
        assert f"Hint {place + 1} of {len(one.hints)}" in words
        assert ("last hint" in words) == (place == len(one.hints) - 1)
    one.hint()
    assert f"Hint {len(one.hints)} of" in capsys.readouterr().out


@pytest.mark.parametrize("one", ALL, ids=by_key)
def test_the_solution_is_shown_with_its_reason(one, capsys):
    one.solution()
    words = capsys.readouterr().out
    assert one.solution_source() in words
    assert plain(one.why) in plain(words)
    assert progress.load()[one.key] == {"solution_seen": True}


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        (["solve"], "solved"),
        (["solve", "look"], "solved"),
        (["solve", "look", "solve"], "solved"),
        (["fail", "solve", "look"], "solved"),
        (["look", "solve"], "solved, after seeing the solution"),
        (["fail", "look", "solve", "look"], "solved, after seeing the solution"),
        (["fail", "look"], "tried 1 time"),
        (["look"], "solution seen"),
    ],
)
@pytest.mark.parametrize("one", [ADD, CHOSEN[0]], ids=by_key)
def test_the_order_of_solving_and_looking_counts(one, steps, state, capsys):
    if isinstance(one, Choice):
        right, wrong = one.answer, next(iter(one.wrong))
    else:
        right, wrong = one.solution_function, next(iter(one.mistakes.values()))
    for step in steps:
        if step == "look":
            one.solution()
        else:
            one.check(right if step == "solve" else wrong)
    assert exercises.say_state(progress.load()[one.key]) == state


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{half", "is damaged"),
        ("root:x:0:0:root:/root:/bin/bash\n", "or the file of another program"),
        ("[1, 2]", "or the file of another program"),
        ('{"name": "somebody", "version": 1}', "or the file of another program"),
        ('{"04.step": {"tries": "many"}}', "or the file of another program"),
        ("[" * 100_000, "is damaged"),
        (None, "is a folder, so your progress cannot be kept there"),
    ],
)
def test_a_file_that_is_not_one_of_progress_is_left_alone_and_told_once(text, sentence, said):
    if text is None:
        progress.path().mkdir()
    else:
        progress.path().write_text(text, encoding="utf-8")
    words = said(ADD, a_sum)
    assert words.startswith("Right.")
    assert f"(Not remembered in your list of exercises: {progress.path()}" in words
    assert sentence in words
    assert "Not remembered" not in said(ADD, a_sum)
    with pytest.raises((ValueError, OSError), match="MBM_PROGRESS"):
        progress.reset()
    assert text is None or progress.path().read_text(encoding="utf-8") == text


def test_progress_lies_beside_the_learners_copies_unless_the_variable_says_else(monkeypatch):
    monkeypatch.delenv("MBM_PROGRESS")
    assert progress.path() == lessons.MY_LESSONS / "progress.json"


def test_the_overview_lists_all_with_their_state():
    states = {ALL[0].key: {"tries": 2}, ALL[1].key: {"tries": 1, "solved": True}}
    rows = exercises.overview(states).splitlines()[1:]
    assert len(rows) == len(ALL)
    assert rows[0].endswith("tried 2 times")
    assert rows[1].endswith("solved")
    assert rows[2].endswith("not attempted")
    assert all(one.title in row for one, row in zip(ALL, rows, strict=True))
    assert re.match(r"01\.1 ", rows[0])


# The command


def test_the_command_lists_and_forgets_only_when_told_so(capsys, monkeypatch, said):
    assert main(["exercises", "--reset"]) == 0
    assert "no progress to forget" in capsys.readouterr().out
    said(ADD, a_sum)
    assert main(["exercises"]) == 0
    words = capsys.readouterr().out
    assert "1 solved." in words
    assert str(progress.path()) in words
    for answer, status in (("no", 1), ("", 1), ("yes", 0)):
        assert progress.load()
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert main(["exercises", "--reset"]) == status
    assert progress.load() == {}
    assert "Your notebooks are as they were" in capsys.readouterr().out


def test_nobody_to_answer_means_no(capsys, monkeypatch, said):
    def nobody(_):
        raise EOFError

    said(ADD, a_sum)
    monkeypatch.setattr("builtins.input", nobody)
    assert main(["exercises", "--reset"]) == 1
    assert progress.load()


@pytest.mark.slow
def test_progress_survives_a_restarted_kernel(tmp_path):
    code = (
        "from mbm_lab.exercises.fusion import weighted_sum as ex\n"
        "ex.check(lambda f, g, alpha, beta: alpha * f + beta * g)"
    )
    exec(code)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    (state,) = progress.load().values()
    assert without_day(state) == {"tries": 2, "solved": True}


def test_the_tests_never_touch_the_learners_own_progress():
    assert progress.path() != lessons.MY_LESSONS / "progress.json"
    assert os.environ["MBM_PROGRESS"] == str(progress.path())
