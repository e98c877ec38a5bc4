"""exercises/preprocessing.py: mistakes and right answers in other words than the catalogue's."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from mbm_lab import preprocessing
from mbm_lab.exercises import preprocessing as ex


def test_the_solutions_are_what_the_course_computes():
    for image, side in ex.crop.cases().values():
        if side == min(image.shape[-2:]):
            assert torch.equal(ex.my_crop(image, side), preprocessing.crop_square(image))
    for (rows,) in ex.pad.cases().values():
        if not all(rows):
            continue  # the course's own refuses an empty text
        assert torch.equal(ex.my_pad(rows)[0], preprocessing.pad(rows))
    for train, test in ex.normalise.cases().values():
        normal, _ = ex.my_normalise(train, test)
        assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(1).to(normal.dtype), atol=1e-5)
        spread = normal.std((0, 2, 3), correction=0)
        assert torch.allclose(spread, torch.ones_like(spread), atol=1e-5)
    for values, lengths in ex.masked_mean.cases().values():
        expected = [row[:n].mean().item() for row, n in zip(values, lengths, strict=True)]
        assert ex.my_masked_mean(values, lengths).tolist() == pytest.approx(expected, abs=1e-6)


def test_other_right_answers(said):
    def by_library(rows):
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return pad_sequence(tensors, batch_first=True), torch.tensor(list(map(len, rows)))

    def one_by_one(values, lengths):
        means = [row[:n].sum() / n for row, n in zip(values, lengths, strict=True)]
        return torch.stack(means) if means else values.new_zeros(0)

    def by_narrow(image, side):
        height, width = image.shape[-2:]
        rows = image.narrow(-2, (height - side) // 2, side)
        return rows.narrow(-1, (width - side) // 2, side)

    assert "correct" in said(ex.pad, by_library)
    assert "correct" in said(ex.masked_mean, one_by_one)
    assert "correct" in said(ex.crop, by_narrow)


def test_the_same_mistakes_in_other_words(said):
    def corner(image, side):
        return image.narrow(-2, 0, side).narrow(-1, 0, side)

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

    def on_the_left(rows):
        width = max(map(len, rows))
        full = [[0] * (width - len(row)) + row for row in rows]
        return torch.tensor(full), torch.tensor([len(row) for row in rows])

    assert "top left corner" in said(ex.crop, corner)
    assert "one mean for all three colours" in said(ex.normalise, grey_mean)
    assert "You averaged over the padding too" in said(ex.masked_mean, by_width)
    assert "one place too long" in said(ex.masked_mean, one_too_long)
    assert "You filled up on the left" in said(ex.pad, on_the_left)
    in_place = lambda train, test: (train.sub_(1), test)  # noqa: E731
    assert "changes its input train" in said(ex.normalise, in_place)
