"""exercises/preprocessing.py: mistakes and right answers in other words than the catalogue's."""

import pytest
import torch

from mbm_lab import preprocessing
from mbm_lab.exercises import preprocessing as ex


def every(one):
    """All inputs of an exercise, those one step further too."""
    return [*one.cases().values(), *one.beyond().values()]


def test_the_solutions_are_what_the_course_computes():
    for sentences, new, min_count in ex.numbers.cases().values():
        vocabulary = preprocessing.Vocabulary.build(sentences, min_count)
        assert ex.my_numbers(sentences, new, min_count) == vocabulary.encode(new)
    for text, words in ex.cut.cases().values():
        backwards = [word[::-1] for word in words]
        pieces = preprocessing.longest_match(text[::-1], backwards)
        assert ex.my_cut(text, words) == [piece[::-1] for piece in pieces[::-1]]
    for wave, size, hop in every(ex.loudness):
        squares = torch.nn.functional.avg_pool1d(wave[None].square(), size, hop)[0]
        assert torch.allclose(ex.my_loudness(wave, size, hop), squares)
    for train, test in every(ex.normalise):
        normal, _ = ex.my_normalise(train, test)
        assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(1).to(normal.dtype), atol=1e-5)
        spread = normal.std((0, 2, 3), correction=0)
        assert torch.allclose(spread, torch.ones_like(spread), atol=1e-5)
    for values, lengths in every(ex.masked_mean):
        expected = [row[:n].mean().item() for row, n in zip(values, lengths, strict=True)]
        assert ex.my_masked_mean(values, lengths).tolist() == pytest.approx(expected, abs=1e-6)


def test_other_right_answers(said):
    def one_by_one(values, lengths):
        means = [row[:n].sum() / n for row, n in zip(values, lengths, strict=True)]
        return torch.stack(means) if means else values.new_zeros(0)

    def slice_by_slice(wave, size, hop):
        starts = range(0, len(wave) - size + 1, hop)
        return torch.stack([(wave[i : i + size] ** 2).sum() / size for i in starts])

    def backwards(text, words):
        pieces = []
        while text:
            start = next(i for i in range(len(text)) if text[i:] in words or i == len(text) - 1)
            pieces.append(text[start:])
            text = text[:start]
        return pieces[::-1]

    def by_library(sentences, new, min_count):
        return preprocessing.Vocabulary.build(sentences, min_count).encode(new)

    assert "Right." in said(ex.masked_mean, one_by_one)
    assert "Right." in said(ex.loudness, slice_by_slice)
    assert "Right." in said(ex.cut, backwards)
    assert "Right." in said(ex.numbers, by_library)


def test_the_rule_from_the_right_mends_one_sentence_and_breaks_another():
    """What `why` of the exercise says."""
    words = ["研究", "研究生", "生命", "的", "起源", "从", "从小", "小学", "学", "电脑"]
    assert ex.my_cut("研究生命的起源", words) == ["研究", "生命", "的", "起源"]
    assert preprocessing.longest_match("从小学电脑", words) == ["从小", "学", "电脑"]
    assert ex.my_cut("从小学电脑", words) == ["从", "小学", "电脑"]


def test_the_same_mistakes_in_other_words(said):
    def grey_mean(train, test):
        mean, sd = train.flatten().mean(), train.flatten().std(correction=0)
        return (train - mean) / sd, (test - mean) / sd

    def by_width(values, lengths):
        return values.sum(1) / values.shape[1]

    def one_too_long(values, lengths):
        total = torch.zeros(len(values), dtype=values.dtype)
        for i, n in enumerate(lengths.tolist()):
            total[i] = values[i, : n + 1].sum() / n
        return total

    def looked_up(sentences, new, min_count):
        index = preprocessing.Vocabulary.build(sentences, min_count).index
        return [index[word] for word in new]

    def side_by_side(wave, size, hop):
        whole = len(wave) // size
        return wave[: whole * size].reshape(whole, size).square().mean(1)

    assert "stops your function" in said(ex.numbers, looked_up)
    assert "stand side by side" in said(ex.loudness, side_by_side)
    assert "cut from the left" in said(ex.cut, preprocessing.longest_match)
    assert "one mean for all three colours" in said(ex.normalise, grey_mean)
    assert "You averaged over the padding too" in said(ex.masked_mean, by_width)
    assert "one place too long" in said(ex.masked_mean, one_too_long)
    in_place = lambda train, test: (train.sub_(1), test)  # noqa: E731
    assert "changes its input train" in said(ex.normalise, in_place)
