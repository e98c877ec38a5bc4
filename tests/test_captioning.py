"""captioning.py: the captioner, and what its captions say."""

import pytest
import torch
from torch import nn

from mbm_lab import captioning, cnn, datasets, postcards, stored, writing


@pytest.fixture(scope="module")
def vocabulary():
    return stored.load("captioner")[1]


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


# The decoder and the captioner


def test_step_by_step_is_the_same_as_all_at_once():
    torch.manual_seed(0)
    decoder = captioning.Decoder(20, dim=6, hidden=5).eval()
    features, prefix = torch.randn(3, 6), torch.randint(1, 20, (3, 7))
    at_once = decoder(features, prefix)
    state, steps = decoder.start(features), []
    for words in prefix.unbind(1):
        scores, state = decoder.step(words, state)
        steps.append(scores)
    assert torch.allclose(torch.stack(steps, 1), at_once, atol=1e-6)


def test_a_score_never_sees_the_word_that_it_guesses():
    torch.manual_seed(0)
    model = captioning.Captioner(20).eval()
    inputs = {"image": torch.rand(2, 3, 64, 64), "prefix": torch.randint(4, 20, (2, 2, 8))}
    before = model(inputs)
    inputs["prefix"][0, 1, 5] = 3
    moved = (model(inputs) != before).any(3)
    assert moved.nonzero().tolist() == [[0, 1, 5], [0, 1, 6], [0, 1, 7]]


def test_every_parameter_learns_and_the_picture_matters():
    torch.manual_seed(0)
    model = captioning.Captioner(20)
    inputs = {"image": torch.rand(4, 3, 64, 64), "prefix": torch.randint(4, 20, (4, 2, 6))}
    scores = model(inputs)
    assert scores.shape == (4, 2, 6, 20)
    writing.next_word_loss(scores, inputs["prefix"]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    other = model.eval()({**inputs, "image": torch.rand(4, 3, 64, 64)})
    assert not torch.allclose(other, model(inputs))


def test_layer_normalisation_takes_the_place_of_the_tanh():
    encoder = captioning.Captioner(20).encoder
    features = encoder.eval()(torch.rand(3, 3, 64, 64))
    assert torch.allclose(features.mean(1), torch.zeros(3), atol=1e-5)
    assert isinstance(cnn.ImageEncoder().last, nn.Tanh)


# What a caption says


def test_what_a_caption_says_of_each_factor():
    english = "a sad purple face beside a crane in a storm"
    said = {f: captioning.factor_in(english, f) for f in captioning.PHRASES["en"]}
    assert said == {"colour": "purple", "object": "a crane", "weather": "in a storm", "mood": "sad"}
    assert captioning.factor_in("a red face at night", "mood") == ""
    chinese = "雷电中一张难过的紫色的脸,旁边有一台起重机"
    assert captioning.factor_in(chinese, "object", "zh") == "一台起重机"


def test_factors_find_every_card_of_the_data(test_cards):
    for card in test_cards.cards:
        factors = {
            "colour": (card.colour, postcards.COLOURS[card.colour][1]),
            "object": postcards.OBJECTS[card.object],
            "weather": postcards.WEATHERS[card.weather],
        }
        for factor, (english, chinese) in factors.items():
            assert captioning.factor_in(card.caption, factor) == english
            assert captioning.factor_in(card.caption_zh, factor, "zh") == chinese
        mood = captioning.factor_in(card.caption, "mood")
        assert mood == postcards.mood_word(card.expression)
        assert captioning.factor_in(card.caption_zh, "mood", "zh") == (
            postcards.MOOD_WORDS_ZH[mood] if mood else ""
        )


# The trained models


def test_shuffled_pictures_hurt(vocabulary, test_cards):
    cards = test_cards[:200]
    model, true = stored.load("captioner")[0], writing.tidy(cards.captions, "en")
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    written = captioning.caption(model, cards.images, "en", vocabulary)
    shuffled = captioning.caption(model, cards.images[order], "en", vocabulary)
    assert writing.exact(written, true).float().mean() > 0.8
    assert writing.exact(shuffled, true).float().mean() < 0.03
    for factor, right in captioning.factors_right(shuffled, true).items():
        assert right.float().mean() < 0.4, factor


def test_a_model_with_other_weights_fails_the_figures(vocabulary, test_cards):
    model = stored.load("captioner")[0]
    nn.init.normal_(model.decoder.ask.weight)
    assert not all(one.holds for one in captioning.quality(model, test_cards[:100], vocabulary))


@pytest.mark.slow
def test_six_live_epochs_learn_most_of_it(vocabulary, test_cards):
    train = datasets.load_postcards("train")
    model = captioning.new_captioner(vocabulary, seed=3)
    captioning.train_captioner(model, train, vocabulary, epochs=6, seed=3)
    true = writing.tidy(test_cards.captions, "en")
    written = captioning.caption(model, test_cards.images, "en", vocabulary)
    right = captioning.factors_right(written, true)
    assert right["colour"].float().mean() > 0.9
    assert right["weather"].float().mean() > 0.95
