"""exercises/video.py: mistakes and right answers in other words than the catalogue's."""

import pytest
import torch

from mbm_lab import datasets, postcards, video
from mbm_lab.exercises import video as ex


def test_the_solutions_are_what_the_course_computes():
    for (films,) in ex.motion.cases().values():
        for film, ours in zip(films, ex.my_motion(films), strict=True):
            assert torch.allclose(video.differences(film).abs().mean(), ours)
    for card in video.filmed(datasets.load_postcards("train", parts=())).cards[:40]:
        start = card.weather if card.change == "weather" else ""
        for back in (False, True):
            for mirror in (False, True):
                now, to = ex.my_retell(card.change, start, card.change_to, back, mirror)
                told = postcards.summary_of(card.colour, now or card.weather, card.change, to)
                assert told == video.retold(card, back, mirror)
    films = torch.rand(6, 5, 3)
    keys = torch.rand(6, 5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ex.my_shuffle(films, keys), video.shuffle_frames(films, 4))


def test_the_tiny_examples_of_the_tasks():
    assert ex.my_motion(ex.LIGHT).tolist() == [pytest.approx(0.4)]
    films, keys = next(iter(ex.shuffle.cases().values()))
    assert ex.my_shuffle(films, keys).flatten().tolist() == [6, 7, 5]


def test_other_right_answers(said):
    def by_diff(films):
        return torch.diff(films, dim=1).abs().flatten(1).mean(1)

    def by_counting(change, start, to, backwards, mirrored):
        pairs = [("left", "right"), ("happier", "sadder")]
        turns = {"weather": 0, "mood": int(backwards), "place": backwards + mirrored}[change]
        if change == "weather" and backwards:
            start, to = to, start
        for one, other in pairs:
            if turns % 2 and to in (one, other):
                return start, other if to == one else one
        return start, to

    def by_loop(films, keys):
        return torch.stack([film[key.argsort()] for film, key in zip(films, keys, strict=True)])

    for one, answer in ((ex.motion, by_diff), (ex.retell, by_counting), (ex.shuffle, by_loop)):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def without_abs(films):
        return torch.diff(films, dim=1).mean(dim=(1, 2))

    def deaf_mirror(change, start, to, backwards, mirrored):
        other = {"left": "right", "right": "left", "happier": "sadder", "sadder": "happier"}
        if not backwards:
            return start, to
        return (to, start) if change == "weather" else (start, other[to])

    def one_order(films, keys):
        return torch.stack([film[keys[0].argsort()] for film in films])

    assert "forgot the absolute value" in said(ex.motion, without_abs)
    assert "Now the mirror changes nothing" in said(ex.retell, deaf_mirror)
    assert "used the first film's order" in said(ex.shuffle, one_order)
