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


# The decoders


DECODERS = {
    captioning.SumDecoder: (48,),
    captioning.ConcatDecoder: (48,),
    captioning.Decoder: (48,),
    captioning.AttentionDecoder: (64, 32),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_every_decoder_writes_as_it_reads_and_all_of_it_learns(kind):
    torch.manual_seed(0)
    decoder, prefix = kind(20), torch.randint(4, 20, (3, 7))
    picture = torch.randn(3, *DECODERS[kind])
    at_once, state, steps = decoder(picture, prefix), decoder.start(picture), []
    for words in prefix.unbind(1):
        scores, state = decoder.step(words, state)
        steps.append(scores)
    assert torch.allclose(torch.stack(steps, 1), at_once, atol=1e-5)
    changed = prefix.clone()
    changed[1, 4] = 3
    moved = (decoder(picture, changed) != at_once).any(2).nonzero().tolist()
    assert {tuple(place) for place in moved} <= {(1, 4), (1, 5), (1, 6)}
    assert not torch.allclose(decoder(picture.flip(0), prefix), at_once)
    writing.next_word_loss(at_once, prefix).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_sum_is_the_articles_formula():
    torch.manual_seed(0)
    decoder, h, f = captioning.SumDecoder(9), torch.randn(2, 3, 64), torch.randn(2, 48)
    with torch.no_grad():
        decoder.alpha.fill_(2.0)
        decoder.beta.fill_(-0.5)
        for row in range(2):
            for place in range(3):
                v = 2.0 * f[row] - 0.5 * decoder.g(h[row, place])
                ours = decoder.score(h, f)[row, place]
                assert torch.allclose(ours, decoder.out(v), atol=1e-5)


def test_the_attention_looks_where_the_object_is(test_cards):
    """In each seed at least 0.8 of it lies there when the object is named; its area is 0.3."""
    cards = test_cards[:150]
    nouns = {english.split()[-1] for english, _ in postcards.OBJECTS.values()}
    for seed in stored.SEEDS:
        decoder, words = stored.load("attention_decoder", seed)
        cells = captioning.image_cells(stored.load("captioner", seed)[0].encoder, cards.images)
        prefix, target = writing.teacher_forcing([("en", cards.captions)], words)
        with torch.no_grad():
            looks = decoder.attention(cells, prefix[:, 0])
        assert torch.allclose(looks.sum(2), torch.ones(looks.shape[:2]), atol=1e-5)
        shares = []
        for card, row, say in zip(cards.cards, looks, target[:, 0].tolist(), strict=True):
            place = next(i for i, word in enumerate(say) if words.words[word] in nouns)
            here = cnn.part_mask(card, "object").float()[None, None]
            here = nn.functional.avg_pool2d(here, 8).flatten() > 0.25
            shares.append(row[place][here].sum())
        assert torch.stack(shares).mean() > 0.8


# A rival, and a limit


def test_twins_have_the_same_picture_and_another_caption(test_cards):
    others = captioning.twins(test_cards)
    assert len(others) == 24
    painted = datasets.paint(others.cards)
    for row, (name, card) in enumerate(zip(others.names, others.cards, strict=True)):
        own = test_cards.cards[test_cards.names.index(name)]
        assert torch.equal(painted[row], others.images[row])
        assert others.captions[row] == card.caption != own.caption
        assert postcards.mood_word(card.expression) != postcards.mood_word(own.expression)
        assert abs(card.expression - own.expression) < captioning.NEAR / 2


@pytest.mark.parametrize("seed", [0, 7])
def test_a_reader_that_knows_everything_reaches_the_limit_and_never_passes_it(test_cards, seed):
    """It has the true caption of each picture by heart, and of two it takes either one."""
    cards = datasets.draw_postcards(150, seed) if seed else test_cards
    others = captioning.twins(cards)
    images = torch.cat([cards.images, others.images])
    captions = cards.captions + others.captions
    limit = captioning.limit(images, captions)
    assert limit == pytest.approx(len(cards) / len(captions))
    for first in (1, -1):
        pairs = list(zip(images, captions, strict=True))[::first]
        by_heart = {image.numpy().tobytes(): caption for image, caption in pairs}
        written = [by_heart[image.numpy().tobytes()] for image in images]
        assert writing.exact(written, captions).float().mean() == pytest.approx(limit)


def test_the_limit_of_pictures_that_differ_is_one():
    images = torch.zeros(5, 3, 2, 2)
    assert captioning.limit(images, ["a", "b", "a", "a", "c"]) == pytest.approx(0.6)
    images[1], images[4] = 0.1, 0.2
    assert captioning.limit(images, ["a", "b", "a", "a", "c"]) == 1


def test_a_rival_without_a_decoder_fills_in_what_it_reads():
    captions = ["a sad red face beside a bat in the rain", "a blue face with a hat on its head at "
                "night"]  # fmt: skip
    captions += ["a happy red face with a bat on its head at night", captions[0]]
    features = 5 * torch.eye(4)
    assert captioning.factor_by_factor(features, captions, features) == captions


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


def test_a_captioner_learns_the_languages_that_one_asks_for(vocabulary, test_cards):
    few = test_cards[:32]
    english, both = (captioning.new_captioner(vocabulary, seed=0) for _ in range(2))
    captioning.train_captioner(english, few, vocabulary, epochs=1, languages=["en"])
    captioning.train_captioner(both, few, vocabulary, epochs=1)
    before = captioning.new_captioner(vocabulary, seed=0)
    start = vocabulary.index[writing.START["zh"]]
    for model, moved in ((english, False), (both, True)):
        now, old = (one.decoder.embedding.weight[start] for one in (model, before))
        assert (not torch.equal(now, old)) == moved
    with pytest.raises(ValueError, match="Unknown language 'fr': use one of"):
        captioning.train_captioner(both, few, vocabulary, epochs=1, languages=["en", "fr"])
    with pytest.raises(ValueError, match="languages"):
        captioning.train_captioner(both, few, vocabulary, epochs=1, languages=[])


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
