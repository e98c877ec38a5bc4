"""exercises/real_data.py: mistakes and right answers in other words than the catalogue's."""

import itertools

import pytest
import torch
from torch import nn

from mbm_lab import fusion, real_data
from mbm_lab.exercises import real_data as ex


class Fixed(nn.Module):
    """A reader that gives these scores, whatever it is shown."""

    def __init__(self, modality, scores):
        super().__init__()
        self.encoders = nn.ModuleDict({modality: nn.Identity()})
        self.scores = scores

    def forward(self, inputs):
        return self.scores


def test_the_solutions_are_what_the_course_computes():
    for f, g in ex.reading.cases().values():
        readers = [Fixed("image", f), Fixed("sound", g)]
        alone = [real_data.LogProbabilities(one) for one in readers]
        encoders = dict(zip(real_data.DIGIT_MODALITIES, alone, strict=True))
        together = fusion.WeightedSum(real_data.DIGIT_MODALITIES, f.shape[1])
        model = fusion.MultimodalModel(encoders, together, nn.Identity())
        v = model({"image": f, "sound": g})
        assert torch.equal(ex.my_reading(f, g), v.argmax(1))
    for speakers, new in ex.split.cases().values():
        train, test = ex.my_split(speakers, new)
        if new:
            theirs = real_data.among(speakers, new, True).nonzero()[:, 0].tolist()
            others = real_data.among(speakers, new, False).nonzero()[:, 0].tolist()
            assert (train, test) == (others, theirs)
        assert not {speakers[i] for i in train} & {speakers[i] for i in test}
        assert sorted(train + test) == list(range(len(speakers)))


def test_over_all_orders_the_mean_is_that_of_the_whole_table():
    fits = ex._fits(4, 0)
    orders = torch.tensor(list(itertools.permutations(range(4))))
    mean, sd = ex.my_spread(fits, orders)
    assert mean.item() == pytest.approx(fits.mean().item(), abs=1e-5)
    assert sd > 0


def test_the_tiny_examples_of_the_tasks():
    f, g = next(iter(ex.reading.cases().values()))
    assert ex.my_reading(f, g).tolist() == [1]
    assert (f.softmax(1) + g.softmax(1)).argmax(1).tolist() == [0]  # as the task says
    assert ex.my_split(["theo", "lucas", "theo"], ["theo"]) == ([1], [0, 2])
    fits, orders = next(iter(ex.spread.cases().values()))
    mean, sd = ex.my_spread(fits, orders)
    assert mean.item() == 3
    assert sd.item() == pytest.approx(2.12, abs=0.005)


def test_other_right_answers(said):
    def raw(f, g):  # a row's constant changes no choice
        return torch.stack([f, g]).sum(0).max(dim=1).indices

    def log_of_softmax(f, g):
        return (f.softmax(1).log() + g.softmax(1).log()).argmax(1)

    def by_comprehension(speakers, new):
        places = range(len(speakers))
        known = set(speakers) - set(new)
        return [i for i in places if speakers[i] in known], [
            i for i in places if speakers[i] not in known
        ]

    def by_gather(fits, orders):
        scores = torch.stack([fits.gather(0, order[None])[0].mean() for order in orders])
        middle = scores.sum() / len(scores)
        return middle, ((scores - middle) ** 2).sum().div(len(scores) - 1).sqrt()

    def as_numbers(fits, orders):
        mean, sd = by_gather(fits, orders)
        return mean.item(), sd.item()

    for one, answer in (
        (ex.reading, raw),
        (ex.reading, log_of_softmax),
        (ex.split, by_comprehension),
        (ex.spread, by_gather),
        (ex.spread, as_numbers),
    ):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def mean_of_softmax(f, g):
        return torch.stack([f, g]).softmax(2).mean(0).max(1).indices

    def leaky(speakers, new):
        test = [i for i, name in enumerate(speakers) if name in new]
        return [i for i, _ in enumerate(speakers)], test

    def everything(fits, orders):
        flat = torch.cat([fits[order, torch.arange(len(fits))] for order in orders])
        return flat.mean(), flat.std()

    assert "You added the probabilities" in said(ex.reading, mean_of_softmax)
    assert "The new speakers are in training, too" in said(ex.split, leaky)
    assert "You took the spread of all single scores" in said(ex.spread, everything)
