"""holes.py: it finds the input that a tiny exercise lacks, and nothing once the input is there."""

from dataclasses import replace

import torch

from mbm_lab.exercises.exercise import Exercise
from tests import holes


def my_mean(x, n):
    return _first(x, n).sum() / n


def _first(x, n):
    return x[:n]


mean = Exercise(
    lesson="00",
    name="mean",
    title="A mean",
    minutes=1,
    difficulty=1,
    hints=(),
    why="",
    solution_function=my_mean,
    cases=lambda: {"three of three": (torch.tensor([1.0, 2.0, 6.0]), 3)},
    mistakes={
        "You summed.": lambda x, n: _first(x, n).sum(),
        "You counted what is not zero.": lambda x, n: x.sum() / x.count_nonzero(),
    },
)


def passing(one):
    return {hole.answer.what.split(": ")[-1]: hole for hole in holes.search(one).holes}


def test_a_wrong_answer_that_passes_is_found_with_the_smallest_input_that_tells_it():
    assert holes.search(mean).told > 5
    whole = passing(mean)["return (x)"]  # nothing is cut off where n is the length
    assert whole.arguments[1] < len(whole.arguments[0]) <= 3
    assert whole.expected.value != whole.got.value


def test_with_the_missing_input_it_passes_no_longer():
    cases = mean.cases() | {"two of three": (torch.tensor([-1.0, 0.0, 6.0]), 2)}
    assert "return (x)" not in passing(replace(mean, cases=lambda: cases))


def test_lines_of_a_mistake_are_its_own_and_those_of_what_it_uses():
    source = open(__file__, encoding="utf-8").read()
    lines = source.splitlines()
    for function in (my_mean, mean.mistakes["You summed."]):
        own = [lines[number - 1].strip() for number in holes.lines_of(function, source)]
        assert "return x[:n]" in own
        assert not any("count_nonzero" in line for line in own)


def test_variations_keep_to_the_kind_of_the_input():
    cases = {"one": (torch.tensor([[1.0, -2.0]]), torch.tensor([3]), ["a", "b"], 2, True)}
    for note, arguments in holes.variations(cases):
        kinds = [type(value) for value in arguments]
        assert kinds == [torch.Tensor, torch.Tensor, list, int, bool], note
        assert arguments[0].is_floating_point(), note
        assert not arguments[1].is_floating_point(), note
