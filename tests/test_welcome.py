"""welcome.py: the stored readers read well, and the command that made them works."""

import pytest
import torch

from mbm_lab import datasets, stored, training, welcome
from mbm_lab.__main__ import main


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


def test_stored_readers_read_cards_they_have_not_seen(test_cards):
    f, g = welcome.read(test_cards, *welcome.load_readers())
    assert f.shape == g.shape == (700,)
    for chosen in (test_cards.seen, ~test_cards.seen):
        assert training.r_squared(f[chosen], test_cards.expression[chosen]) > 0.95
        assert training.r_squared(g[chosen], test_cards.sentiment[chosen]) > 0.95


def test_readers_read_nothing_from_shuffled_cards(test_cards):
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    f, g = welcome.read(test_cards, *welcome.load_readers())
    assert training.r_squared(f[order], test_cards.expression) < 0
    assert training.r_squared(g[order], test_cards.sentiment) < 0


def test_the_command_retrains_the_models_of_the_lessons_that_it_is_told(monkeypatch, capsys):
    told = []
    monkeypatch.setattr(stored, "retrain", lambda lesson, out: told.append((lesson, out)) or ["X"])
    assert main(["weights", "--out", "X", "6", "00"]) == 0
    assert told == [("06", "X"), ("00", "X")]
    assert capsys.readouterr().out == "Written: X\nWritten: X\n"
    assert main(["weights", "6", "4"]) == 2
    said = capsys.readouterr().err
    assert "Lesson 04 has no stored models: the lessons 00, 06, 07, 08, 09, 10" in said
    assert len(told) == 2
