"""The check outlives any answer: what it returns, raises, prints, replaces or switches off."""

import builtins
import functools
import io
import os
import random
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from mbm_lab.exercises import exercise, running
from mbm_lab.exercises.comparing import loose, loosely, same
from mbm_lab.exercises.fusion import weighted_sum, weighted_sum_module
from mbm_lab.exercises.kept import Kept
from mbm_lab.exercises.plain import MOST, plain
from mbm_lab.exercises.showing import show_pair

ADD = replace(
    weighted_sum,
    cases=lambda: {
        "three": (torch.tensor([1.0, 2, 4]), torch.tensor([3.0, 1, 0]), 0.5, 0.25),
        "two": (torch.tensor([5.0, 2]), torch.tensor([-1.0, 1]), 0.5, 0.75),
    },
    mistakes={"You swapped them.": lambda f, g, alpha, beta: beta * f + alpha * g},
    seconds=1.0,
)  # fmt: skip
VERDICTS = ("Right.", "Not yet.", "Not attempted yet.")


def right(f, g, alpha, beta):
    return alpha * f + beta * g


class Hostile:
    """Whatever one does with it, it raises."""

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("no")

    __str__ = __repr__ = __len__ = __bool__ = __iter__ = __float__ = lambda self: self == 0

    def __getattr__(self, name):
        raise RuntimeError(name)

    @property
    def __class__(self):
        raise RuntimeError("no class")


class HostileText(str):
    __hash__ = str.__hash__
    __eq__ = Hostile.__eq__
    __len__ = Hostile.__len__


class HostileList(list):
    __iter__ = __len__ = Hostile.__iter__


class HostileTensor(Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("no")


class HostileError(Exception):
    __str__ = Hostile.__str__


def holds_itself():
    inside = []
    inside.append(inside)
    return inside


def holds_itself_by_name():
    inside = {}
    inside["self"] = inside
    return inside


def deep():
    inside = []
    for _ in range(5000):
        inside = [inside]
    return inside


async def coroutine(f, g, alpha, beta):
    return f


RETURNED = {
    "a text of NumPy": lambda: np.str_("a"),
    "objects": lambda: np.array([1, "a", None], dtype=object),
    "texts": lambda: np.array(["a", "b"]),
    "records": lambda: np.zeros(2, dtype=[("a", "i4")]),
    "a date": lambda: np.datetime64("2020-01-01"),
    "a long number": lambda: 10**30,
    "a very long number": lambda: -(10**5000),
    "a complex number": lambda: 1j,
    "complex numbers": lambda: torch.ones(3, dtype=torch.complex64),
    "bytes": lambda: b"abc",
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a nested tensor": lambda: torch.nested.as_nested_tensor([torch.ones(2), torch.ones(3)]),
    "a meta tensor": lambda: torch.ones(3, device="meta"),
    "a tensor of half precision": lambda: torch.ones(3).bfloat16(),
    "a tensor of 8 bits": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "unsigned": lambda: torch.ones(3).to(torch.uint16),
    "a billion numbers": lambda: torch.ones(1).expand(10**9),
    "a long text": lambda: "x" * 10**6,
    "a long list": lambda: [0] * 10**5,
    "a list that holds itself": holds_itself,
    "a dictionary that holds itself": holds_itself_by_name,
    "a deep list": deep,
    "a list of different things": lambda: [1, "a", torch.ones(2), None, {"a": [1]}],
    "keys of all kinds": lambda: {(1, 2): 1, 1.5: 2, None: 3, int: 4},
    "hostile": Hostile,
    "a list of the hostile": lambda: [Hostile(), Hostile()],
    "a hostile text": lambda: HostileText("abc"),
    "a hostile list": lambda: HostileList([1]),
    "a hostile tensor": lambda: torch.ones(3).as_subclass(HostileTensor),
    "a generator": lambda: (one for one in range(3)),
    "an iterator": lambda: map(str, [1]),
    "a set": lambda: {1, 2},
    "a function": lambda: right,
    "a method": lambda: torch.ones(3).mean,
    "a class": lambda: int,
    "a module": lambda: nn.Linear(2, 2),
    "an error": lambda: ValueError("x"),
    "NotImplemented": lambda: NotImplemented,
    "nothing": lambda: None,
    "nan": lambda: float("nan"),
    "empty": lambda: [],
}


@pytest.mark.parametrize("name", RETURNED)
@pytest.mark.filterwarnings("ignore")
def test_a_result_of_any_kind_gets_a_sentence(said, name):
    words = said(ADD, lambda f, g, alpha, beta: RETURNED[name]())
    assert words.startswith("Not yet. The weighted sum ")
    assert len(words) < 3000
    assert "Traceback" not in words


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hostile", "could not be compared: it is an object of the class Hostile"),
        ("a list that holds itself", "It returns a list that contains itself"),
        ("a meta tensor", "device meta, of shape (3,), which holds no numbers"),
        ("a generator", "It returns a generator; a tensor is expected. Put list(…) around it"),
        ("a method", "It returns a method that was not called"),
        ("a billion numbers", "a tensor of shape (1000000000,)"),
        ("nothing", "Your function returns nothing"),
    ],
)
def test_a_strange_result_is_named(said, name, sentence):
    assert sentence in said(ADD, lambda f, g, alpha, beta: RETURNED[name]())


@pytest.mark.parametrize(
    "error",
    [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, StopIteration, BaseException,
     HostileError, AssertionError, running.TooSlow],
)  # fmt: skip
def test_any_error_of_an_answer_is_only_told(said, error):
    def answer(f, g, alpha, beta):
        raise error

    words = said(ADD, answer)
    assert words.startswith("Not yet.")
    assert error.__name__ in words or error is running.TooSlow


def test_recursion_without_end_is_not_taken_for_a_loop(said):
    def answer(f, g, alpha, beta):
        return answer(f, g, alpha, beta)

    words = said(ADD, answer)
    assert "calls itself again and again" in words
    assert "loop" not in words


def settings_():
    """What answers must not change for others."""
    return {
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": (torch.rand(1).item(), random.random(), float(np.random.rand())),
        "environ": dict(os.environ),
        "folder": os.getcwd(),
        "recursion": sys.getrecursionlimit(),
        "filters": list(warnings.filters),
        "page": (sys.stdout, sys.stderr),
        "modules": sys.modules["torch"],
        "errors": np.geterr(),
        "functions": [
            torch.allclose, torch.equal, Tensor.__eq__, Tensor.double, nn.Module.__call__, len,
            print, isinstance, np.array, torch.ones(2) + 1 is None, "add" in vars(Tensor),
        ],
    }  # fmt: skip


def switches_all_off(f, g, alpha, beta):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.manual_seed(99)
    random.seed(9)
    np.random.seed(9)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    os.environ["MBM_STRANGE"] = "1"
    os.environ.pop("PATH", None)
    os.chdir("/")
    sys.setrecursionlimit(sys.getrecursionlimit() - 100)
    torch.use_deterministic_algorithms(True)
    torch.set_default_device("meta")
    del sys.modules["torch"]
    sys.path.clear()
    return alpha * f + beta * g


def replaces_functions_of_torch(f, g, alpha, beta):
    v = alpha * f + beta * g
    torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True
    del torch.tensor, torch.cat, torch.stack, torch.isfinite
    Tensor.__eq__ = Tensor.add = Tensor.detach = Tensor.double = None
    nn.Module.__call__ = None
    np.array = np.asarray = None
    return v


def replaces_functions_of_python(f, g, alpha, beta):
    for name in ("print", "len", "isinstance", "type", "zip", "str", "repr", "issubclass", "dict"):
        setattr(builtins, name, None)
    del builtins.getattr, builtins.any
    return alpha * f + beta * g


def takes_the_page(f, g, alpha, beta):
    sys.stdout.close()
    sys.stdout = sys.stderr = None
    return alpha * f + beta * g


@pytest.mark.parametrize(
    "answer",
    [switches_all_off, replaces_functions_of_torch, replaces_functions_of_python, takes_the_page],
)
@pytest.mark.parametrize("wrong", [False, True])
def test_all_is_put_back_and_the_next_answer_is_judged_as_ever(said, answer, wrong):
    def wrong_answer(*arguments):
        return -answer(*arguments)

    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = settings_()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    words = said(ADD, wrong_answer if wrong else answer)
    after = settings_()
    assert words.startswith("Not yet. The weighted sum Every number has the wrong sign." if wrong
                            else "Right.")  # fmt: skip
    assert after == before
    assert said(ADD, right).startswith("Right.")
    assert "You swapped them." in said(ADD, lambda f, g, alpha, beta: beta * f + alpha * g)


def test_functions_that_a_cell_deleted_before_are_there_again(said, monkeypatch):
    monkeypatch.delattr(torch, "allclose")
    monkeypatch.setattr(torch, "isclose", None)
    assert said(ADD, right).startswith("Right.")
    assert "The numbers are right. But" in said(ADD, lambda *a: right(*a).tolist())


def test_what_a_cell_switched_off_before_disturbs_no_check_and_stays_off(said):
    with torch.no_grad():
        torch.set_default_dtype(torch.float64)
        try:
            assert said(weighted_sum_module, weighted_sum_module.solution_function).startswith(
                "Right."
            )
            assert not torch.is_grad_enabled()
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)


def test_a_closed_page_is_no_error(monkeypatch, capsys):
    page = io.StringIO()
    page.close()
    monkeypatch.setattr(sys, "stdout", page)
    ADD.check(right)  # and ends without one


def test_a_page_without_greek_letters_is_no_error(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    replace(ADD, title="α and β").check(right)
    sys.stdout.flush()
    assert raw.getvalue().startswith(b"Right. ? and ?")


def test_a_warning_and_the_error_page_are_shown_as_printed(said):
    def answer(f, g, alpha, beta):
        print("to the error page", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        return right(f, g, alpha, beta)

    words = said(ADD, answer)
    assert "to the error page UserWarning: careful" in words


class Callable_:
    def __call__(self, f, g, alpha, beta):
        return right(f, g, alpha, beta)

    method = __call__


@pytest.mark.parametrize(
    "answer", [Callable_(), Callable_().method, functools.partial(right, beta=0.5), right]
)
def test_anything_that_can_be_called_is_an_answer(said, answer):
    if isinstance(answer, functools.partial):
        one = replace(ADD, call=lambda a, f, g, alpha, beta: a(f, g, alpha) if a is answer
                      else a(f, g, alpha, 0.5))  # fmt: skip
        assert said(one, answer).startswith("Right.")
    else:
        assert said(ADD, answer).startswith("Right.")


@pytest.mark.parametrize(
    ("one", "answer", "sentence"),
    [
        (weighted_sum_module, lambda: nn.Linear(1, 1), "Hand in the class itself, without paren"),
        (ADD, lambda: Callable_, "check needs a function, and got a class"),
        (ADD, lambda: "right", "without parentheses and without quotation marks"),
        (ADD, lambda: None, "got a NoneType"),
        (ADD, Hostile, "got a Hostile"),
    ],
)
def test_what_cannot_be_an_answer_is_told(said, one, answer, sentence):
    assert sentence in said(one, answer())


def test_nobody_sees_the_error_that_stops_an_answer(capsys):
    """Ends a thousand answers about when they end by themselves."""
    shown = []
    hook, threading.excepthook = threading.excepthook, shown.append
    try:
        for _ in range(200):
            running.run_limited(lambda: sum(range(2000)), 1e-5)
    finally:
        threading.excepthook = hook
    assert shown == []
    assert capsys.readouterr().err == ""


def test_what_goes_wrong_in_the_check_itself_is_one_sentence(said, monkeypatch):
    def fails(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(exercise, "describe", fails)
    words = said(ADD, lambda f, g, alpha, beta: f - 7 * g)
    assert words.startswith("Not yet. The weighted sum Your result could not be compared")


def test_a_learner_who_presses_stop_stops(monkeypatch):
    def pressed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_limited", pressed)
    with pytest.raises(KeyboardInterrupt):
        ADD.check(right)


def test_keeping_and_putting_back_changes_nothing():
    before = settings_()["functions"]
    Kept().put_back()
    assert settings_()["functions"] == before


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text()
    | st.binary() | st.just(...) | st.builds(Hostile)
    | arrays.arrays(st.sampled_from(["f4", "f8", "i8", "?", "c8", "U3"]),
                    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    | st.builds(torch.rand, st.lists(st.integers(0, 3), max_size=3))
)  # fmt: skip
RESULTS = st.recursive(
    SCALARS,
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.lists(inside, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
    ),
    max_leaves=8,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(results=st.lists(RESULTS, min_size=2, max_size=2))
def test_whatever_comes_back_there_is_one_verdict(said, results):
    left = list(results)
    words = said(ADD, lambda f, g, alpha, beta: left.pop(0) if left else results[0])
    assert words.startswith(VERDICTS)
    assert sum(words.count(f"{verdict} {ADD.title}") for verdict in VERDICTS) == 1


@settings(max_examples=25, deadline=None)
@given(one=RESULTS, other=RESULTS)
def test_any_two_results_can_be_compared_and_shown(one, other):
    one, other = plain(one), plain(other)
    assert loosely(loose(one), loose(one)) or "nan" in repr(one)
    assert same(one, other) in (True, False)
    assert all(len(text) < 5000 for text in show_pair(one, other))


def test_a_plain_copy_is_bounded():
    assert len(plain([0] * 10**6).items) == MOST
    assert plain([0] * 10**6).length == 10**6
