"""exercises/retrieval.py: mistakes and right answers in other words than the catalogue's."""

import pytest
import torch

from mbm_lab import retrieval
from mbm_lab.exercises import retrieval as ex


def test_the_solutions_are_what_the_course_computes():
    for (scores,) in ex.info_nce.cases().values():
        theirs = retrieval.info_nce(scores, torch.arange(len(scores)))
        assert torch.allclose(ex.my_info_nce(scores), theirs, atol=1e-5)
    captions = [chr(97 + i % 4) for i in range(9)]
    found = torch.stack([torch.randperm(9) for _ in range(6)])
    wanted = list("abcdab")
    pairs = zip(found, wanted, strict=True)
    right = torch.tensor([[captions[place] == own for place in row] for row, own in pairs])
    for k in (1, 3):
        theirs = retrieval.recall(found, captions, wanted, k).float().mean()
        assert ex.my_recall(right, k) == theirs
    gallery = torch.nn.functional.normalize(torch.randn(8, 5), dim=1)
    theirs = retrieval.search(gallery, gallery, 1, torch.arange(8))[:, 0]
    assert torch.equal(ex.my_nearest(gallery @ gallery.T, torch.arange(8)), theirs)


def test_the_tiny_examples_of_the_tasks():
    assert ex.my_info_nce(torch.zeros(2, 2)).item() == pytest.approx(0.693, abs=1e-3)
    right = torch.tensor([[False, True], [False, False]])
    assert [ex.my_recall(right, k).item() for k in (1, 2)] == [0, 0.5]
    scores, itself = next(iter(ex.nearest.cases().values()))
    assert ex.my_nearest(scores, itself).tolist() == [1]


def test_other_right_answers(said):
    def by_hand(scores):
        total = 0.0
        for table in (scores, scores.T):
            for i, row in enumerate(table):
                total = total + (row.logsumexp(0) - row[i])
        return total / (2 * len(scores))

    def by_loop(right, k):
        hits = [bool(row[:k].sum() > 0) for row in right]
        return torch.tensor(sum(hits) / len(hits))

    def by_masking(scores, itself):
        own = torch.nn.functional.one_hot(itself, scores.shape[1]).bool()
        return scores.masked_fill(own, float("-inf")).max(dim=1).indices

    for one, answer in ((ex.info_nce, by_hand), (ex.recall, by_loop), (ex.nearest, by_masking)):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def rows_only(scores):
        return -scores.log_softmax(1).diagonal().mean()

    def precision(right, k):
        return torch.stack([row[:k].float().mean() for row in right]).mean()

    def small(scores, itself):
        scores = scores.clone()
        for i, place in enumerate(itself):
            scores[i, place] = -1.0
        return scores.argmax(1)

    assert "only the pictures look for their texts" in said(ex.info_nce, rows_only)
    assert "That is the precision" in said(ex.recall, precision)
    assert "is not small enough: scaled scores" in said(ex.nearest, small)
