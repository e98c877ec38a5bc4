"""welcome.py: the stored readers read well, and the command that made them works."""

import pytest
import torch

from mbm_lab import captioning, datasets, preprocessing, training, welcome
from mbm_lab.__main__ import main


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


def test_stored_readers_read_cards_they_have_not_seen(test_cards):
    f, g = welcome.read(test_cards, *welcome.load_readers(), welcome.load_vocabulary())
    assert f.shape == g.shape == (700,)
    for chosen in (test_cards.seen, ~test_cards.seen):
        assert training.r_squared(f[chosen], test_cards.expression[chosen]) > 0.95
        assert training.r_squared(g[chosen], test_cards.sentiment[chosen]) > 0.95


def test_readers_read_nothing_from_shuffled_cards(test_cards):
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    f, g = welcome.read(test_cards, *welcome.load_readers(), welcome.load_vocabulary())
    assert training.r_squared(f[order], test_cards.expression) < 0
    assert training.r_squared(g[order], test_cards.sentiment) < 0


def test_vocabulary_is_that_of_the_training_messages():
    messages = datasets.load_postcards("train", parts=()).messages
    built = preprocessing.Vocabulary.build([preprocessing.tokenize(text) for text in messages])
    assert welcome.load_vocabulary().words == built.words


def test_weights_are_small():
    files = list(welcome.WEIGHTS.iterdir())
    assert files
    assert all(file.stat().st_size < 1e6 for file in files)


@pytest.mark.slow
def test_retrain_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new weights"
    welcome.retrain(out, epochs=1)
    assert "R² on validation cards" in capsys.readouterr().out
    written = sorted(path.name for path in out.iterdir())
    assert written == [
        "image_reader.safetensors",
        "message_reader.safetensors",
        "vocabulary.json",
    ]
    monkeypatch.setattr(welcome, "WEIGHTS", out)
    f, g = welcome.load_readers()
    assert f(torch.zeros(1, 3, 64, 64)).shape == g(torch.tensor([[5, 6]])).shape == (1,)


def test_the_command_retrains_the_models_of_the_lessons_that_it_is_told(monkeypatch, capsys):
    told = []
    monkeypatch.setattr(welcome, "retrain", lambda out: told.append(("00", out)))
    monkeypatch.setattr(captioning, "retrain", lambda out: told.append(("06", out)))
    assert main(["weights", "--out", "X", "6"]) == 0
    assert told == [("06", "X")]
    assert main(["weights", "6", "4"]) == 2
    said = capsys.readouterr().err
    assert "Lesson 04 has no stored models: the lessons 00, 06, 07, 08, 09, 10" in said
    assert len(told) == 1
