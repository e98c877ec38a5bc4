"""exercises/speech.py: mistakes and right answers in other words than the catalogue's."""

import itertools
import math

import pytest
import torch

from mbm_lab import speech
from mbm_lab.exercises import speech as ex


def test_the_solutions_are_what_the_course_and_torchmetrics_compute():
    from torchmetrics.functional.text import word_error_rate

    for (path,) in ex.collapse.cases().values():
        assert ex.my_collapse(path) == speech.collapse(path)
    for true, written in ex.word_errors.cases().values():
        if true and written:
            theirs = word_error_rate([" ".join(written)], [" ".join(true)]) * len(true)
            assert ex.my_word_errors(true, written) == round(float(theirs))
        assert ex.my_word_errors(true, written) == sum(
            a != b for a, b in speech.align(true, written)
        )
    for waveform, noise, snr in ex.add_noise.cases().values():
        added = ex.my_add_noise(waveform, noise, snr) - waveform
        ratio = waveform.square().mean() / added.square().mean()
        assert 10 * math.log10(ratio) == pytest.approx(snr, abs=0.01)


def test_the_tiny_examples_of_the_tasks():
    assert ex.my_collapse([0, 5, 5, 0, 5]) == [5, 5]
    assert ex.my_word_errors("a red face".split(), "the red face now".split()) == 2


def test_other_right_answers(said):
    def by_groups(path):
        return [word for word, _ in itertools.groupby(path) if word]

    def recursive(true, written):
        if not true or not written:
            return len(true) + len(written)
        table = [[0] * (len(written) + 1) for _ in range(len(true) + 1)]
        for i in range(len(true) + 1):
            for j in range(len(written) + 1):
                if i == 0 or j == 0:
                    table[i][j] = max(i, j)
                elif true[i - 1] == written[j - 1]:
                    table[i][j] = table[i - 1][j - 1]
                else:
                    around = table[i - 1][j - 1], table[i - 1][j], table[i][j - 1]
                    table[i][j] = 1 + min(around)
        return table[-1][-1]

    def in_decibels(waveform, noise, snr_db):
        now = 10 * torch.log10(waveform.pow(2).mean() / noise.pow(2).mean())
        return waveform + noise * 10 ** ((now - snr_db) / 20)

    for one, answer in (
        (ex.collapse, by_groups),
        (ex.word_errors, recursive),
        (ex.add_noise, in_decibels),
    ):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def drop_then_join(path):
        return [word for word, _ in itertools.groupby(filter(None, path))]

    def by_position(true, written):
        return sum(a != b for a, b in itertools.zip_longest(true, written))

    def upside_down(waveform, noise, snr_db):
        gain = (waveform.var(correction=0) + waveform.mean() ** 2) * 10 ** (snr_db / 10)
        return waveform + noise * (gain / noise.square().mean()).sqrt()

    assert "with a blank between them became one" in said(ex.collapse, drop_then_join)
    assert "compared place by place" in said(ex.word_errors, by_position)
    assert "swapped signal and noise" in said(ex.add_noise, upside_down)
