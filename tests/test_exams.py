"""exams.py: the recipes of lessons 02 to 05, on cards of their own, beside rivals and limits."""

import pytest
import torch

from mbm_lab import datasets, exams, fusion, training


@pytest.fixture(scope="module")
def few():
    """The first cards of each split: {split: cards}."""
    return {split: datasets.load_postcards(split)[:28] for split in datasets.SPLITS}


TRAINED_IN_THE_EXAM = {
    exams.picture_reader: ((10, 64, 6e-3, None, "augment"), "R² of the expression", 0.96),
    exams.message_reader: ((20, 64, 6e-3, None, None), "R² of the sentiment", 0.95),
}
"""The recipe of the lesson, what is measured of seen and unseen cards, and its bound."""


@pytest.mark.parametrize("exam", TRAINED_IN_THE_EXAM, ids=lambda exam: exam.__name__)
def test_an_exam_that_trains_follows_the_lesson(exam, few, monkeypatch):
    recipe, what, at_least = TRAINED_IN_THE_EXAM[exam]
    cards = few | {"val": few["train"]}
    monkeypatch.setattr(datasets, "load_postcards", lambda split="train", parts=(): cards[split])
    runs = []

    def fit(model, inputs, targets, loss, *, epochs, learning_rate, one_cycle, seed, progress,
            batch_size=64, clip_norm=None, augment=None):  # fmt: skip
        name = getattr(augment, "__name__", None)
        runs.append(((epochs, batch_size, learning_rate, clip_norm, name), one_cycle, seed))
        assert len(targets) == len(few["train"])
        return training.History()

    monkeypatch.setattr(training, "fit", fit)
    results = exam(1)
    assert runs == [(recipe, True, 1)]
    assert [one.what for one in results] == [f"{what}, seen", f"{what}, unseen"]
    for one in results:
        assert (one.at_least, one.limit, one.less_is_better) == (at_least, 1.0, False)
        assert one.rival.startswith("ridge on ")
        assert one.baseline < 1
    torch.manual_seed(77)  # what was drawn before must not matter
    assert exam(1) == results
    assert [one.value for one in exam(2)] != [one.value for one in results]


@pytest.mark.slow
def test_the_exam_is_held_on_cards_of_its_seed(monkeypatch):
    wanted, weights = exams.weights(0, cards=300)
    assert wanted.holds
    assert weights.holds
    assert wanted.value > wanted.baseline - 0.01
    assert exams.weights(1, cards=300)[0].value != wanted.value
    bayes = fusion.bayes_weights
    monkeypatch.setattr(fusion, "bayes_weights", lambda *a: fusion.Weights(*bayes(*a)[1::-1]))
    assert not exams.weights(0, cards=300)[1].holds, "α and β exchanged are seen"


@pytest.mark.slow
def test_the_exam_trains_its_readers_and_names_the_strongest_rival(monkeypatch):
    """With one epoch each it reaches less, and the bound says so."""
    (short,) = exams.whole_model(0, image_epochs=1, message_epochs=1, cards=200)
    assert not short.holds
    assert short.limit > short.baseline
    assert short.rival in ("picture alone", "message alone", "mean of both", "hand-made features")
