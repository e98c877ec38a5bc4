"""exercises/translation.py: mistakes and right answers in other words than the catalogue's."""

import torch
from torch import nn

from mbm_lab import datasets, translation
from mbm_lab.exercises import translation as ex


def test_the_solutions_are_what_pytorch_and_the_course_compute():
    for query, keys, values, mask in ex.attend.cases().values():
        found, weights = ex.my_attend(query, keys, values, mask)
        theirs = nn.functional.scaled_dot_product_attention(
            query[None, None], keys[None], values[None], attn_mask=mask[None, None]
        )[0, 0]
        assert torch.allclose(found, theirs, atol=1e-5)
        batch = translation.attend(query[None], keys[None], values[None], mask[None])
        assert torch.allclose(weights, batch[1][0], atol=1e-6)
    cards = datasets.load_postcards("train", parts=())[:6]
    english, chinese = translation.in_all_colours(cards.captions, cards.captions_zh)
    words = {name: (name, zh) for name, (_, zh) in translation.postcards.COLOURS.items()}
    for k, new in enumerate(words):
        for i, card in enumerate(cards.cards):
            pair = ex.my_recolour(card.caption, card.caption_zh, card.colour, new, words)
            assert pair == (english[6 * k + i], chinese[6 * k + i])


def test_other_right_answers(said):
    def by_loop(query, keys, values, mask):
        fits = [(key * query).sum() / len(query) ** 0.5 for key in keys]
        largest = max(fit for fit, there in zip(fits, mask, strict=True) if there)
        fits = [fit - largest for fit in fits]
        total = sum(fit.exp() for fit, there in zip(fits, mask, strict=True) if there)
        weights = torch.stack(
            [
                fit.exp() / total if there else 0 * total
                for fit, there in zip(fits, mask, strict=True)
            ]
        )
        return (weights[:, None] * values).sum(0), weights

    def by_words(english, chinese, old, new, words):
        out = english.split()
        for i, word in enumerate(out[:-1]):
            if word == words[old][0] and out[i + 1] == "face":
                out[i] = words[new][0]
        return " ".join(out), words[new][1].join(chinese.split(words[old][1]))

    for one, answer in ((ex.attend, by_loop), (ex.recolour, by_words)):
        assert "Right." in said(one, answer), one.title


def test_the_same_mistakes_written_otherwise(said):
    def unscaled(query, keys, values, mask):
        weights = torch.where(mask, (keys * query).sum(1), torch.tensor(-1e30)).softmax(0)
        return weights @ values, weights

    def careless(english, chinese, old, new, words):
        pieces = words[new][0].join(english.split(words[old][0]))
        return pieces, chinese.replace(words[old][1], words[new][1])

    assert "forgot to divide by" in said(ex.attend, unscaled)
    assert "also inside other words" in said(ex.recolour, careless)
