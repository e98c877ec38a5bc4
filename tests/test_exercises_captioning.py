"""exercises/captioning.py: mistakes and right answers in other words than the catalogue's."""

import pytest
import torch

from mbm_lab import preprocessing, writing
from mbm_lab.exercises import captioning as ex


def test_the_solutions_are_what_the_course_computes():
    class Written:
        """`next_scores` as a decoder: the state holds the words so far."""

        def __init__(self, next_scores):
            self.next_scores = next_scores

        def step(self, words, state):
            (so_far,) = state
            so_far = torch.cat([so_far, words[:, None]], 1)
            return self.next_scores(so_far[0].tolist())[None], (so_far,)

    for next_scores, first, end, longest in ex.greedy.cases().values():
        if end != preprocessing.EOS:
            continue
        state = (torch.zeros(1, 0, dtype=torch.long),)
        theirs = writing.greedy(Written(next_scores), state, first, longest)[0].tolist()
        ours = ex.my_greedy(next_scores, first, end, longest)
        assert ours == [word for word in theirs if word not in (preprocessing.EOS,)][: len(ours)]
        assert len(theirs) in (len(ours), len(ours) + 1)
    for totals, log_p, width in ex.beam_step.cases().values():
        best, beginnings, words = ex.my_beam_step(totals, log_p, width)
        every = sorted(
            ((totals[k] + log_p[k, v]).item(), k, v)
            for k in range(len(totals))
            for v in range(log_p.shape[1])
        )[::-1][:width]
        assert best.tolist() == pytest.approx([total for total, _, _ in every])
        pairs = list(zip(beginnings.tolist(), words.tolist(), strict=True))
        assert pairs == [(k, v) for _, k, v in every]


def test_the_tiny_examples_of_the_tasks():
    log_p, words = next(iter(ex.log_likelihood.cases().values()))
    assert ex.my_log_likelihood(log_p, words).item() == pytest.approx(-1.2, abs=0.01)
    prefix, target = ex.my_shift(torch.tensor([[2, 7, 8, 3]]))
    assert prefix.tolist() == [[2, 7, 8]]
    assert target.tolist() == [[7, 8, 3]]


def test_other_right_answers(said):
    def by_loop(log_p, words):
        total = torch.zeros((), dtype=log_p.dtype)
        for row, word in zip(log_p, words.tolist(), strict=True):
            if word:
                total = total + row[word]
        return total

    def by_for(next_scores, first, end, longest):
        words = []
        for _ in range(longest):
            word = torch.argmax(next_scores([first] + words)).item()
            if word == end:
                return words
            words.append(word)
        return words

    def by_sorting(totals, log_p, width):
        table = log_p + totals.unsqueeze(1)
        order = table.reshape(-1).argsort(descending=True)[:width]
        rows = torch.div(order, table.size(1), rounding_mode="floor")
        return table.reshape(-1)[order], rows, order - rows * table.size(1)

    def by_narrow(sentences):
        length = sentences.shape[1] - 1
        return sentences.narrow(1, 0, length), sentences.narrow(1, 1, length)

    for one, answer in (
        (ex.log_likelihood, by_loop),
        (ex.greedy, by_for),
        (ex.beam_step, by_sorting),
        (ex.shift, by_narrow),
    ):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def padding_too(log_p, words):
        return log_p.gather(1, words[:, None]).sum()

    def with_end(next_scores, first, end, longest):
        words = []
        while len(words) < longest:
            words.append(int(torch.argmax(next_scores([first, *words]))))
            if words[-1] == end:
                break
        return words

    def alone(totals, log_p, width):
        best, places = log_p.reshape(-1).sort(descending=True)
        places = places[:width]
        return best[:width], places // log_p.shape[1], places % log_p.shape[1]

    def both_cut(sentences):
        whole = sentences[:, : sentences.shape[1] - 1]
        return whole, whole

    assert "You counted the padding too" in said(ex.log_likelihood, padding_too)
    assert "You kept the end" in said(ex.greedy, with_end)
    assert "You forgot how likely the beginnings are" in said(ex.beam_step, alone)
    assert "Now both leave out the end" in said(ex.shift, both_cut)
