"""retrieval.py: one space for pictures and texts, and searching it."""

import math
import random

import pytest
import torch
from torch import nn

from mbm_lab import captioning, datasets, postcards, preprocessing, retrieval, stored


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")[:120]


@pytest.fixture(scope="module")
def gallery(test_cards):
    return retrieval.draw_gallery(test_cards)


@pytest.fixture(scope="module")
def vocabulary():
    return stored.load("dual_encoder")[1]


# Losses


def test_similarities_are_cosines_whatever_the_lengths():
    f, g = torch.randn(4, 7), torch.randn(3, 7)
    ours = retrieval.similarities(5 * f, 0.1 * g)
    for i in range(4):
        for j in range(3):
            theirs = nn.functional.cosine_similarity(f[i], g[j], dim=0)
            assert ours[i, j].item() == pytest.approx(theirs.item(), abs=1e-6)


def test_pulling_is_the_squared_distance_of_the_pairs():
    f, g = (nn.functional.normalize(torch.randn(5, 6), dim=1) for _ in range(2))
    distance = (f - g).square().sum(1).mean()
    assert torch.allclose(retrieval.pull_together(f @ g.T), distance, atol=1e-6)


def test_info_nce_is_two_cross_entropies():
    scores = 3 * torch.randn(6, 6)
    pairs = torch.arange(6)
    theirs = nn.functional.cross_entropy(scores, pairs)
    theirs = (theirs + nn.functional.cross_entropy(scores.T, pairs)) / 2
    assert torch.allclose(retrieval.info_nce(scores, pairs), theirs)
    assert retrieval.info_nce(torch.zeros(6, 6), pairs).item() == pytest.approx(math.log(6))


def test_the_same_caption_is_no_negative():
    scores = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    alike, different = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    apart = scores.clone()
    apart[0, 1] = apart[1, 0] = 0.0
    assert retrieval.info_nce(apart, alike) > retrieval.info_nce(scores, alike)
    assert retrieval.info_nce(apart, different) < retrieval.info_nce(scores, different)


def test_the_scale_is_clamped_and_learns(vocabulary):
    model = retrieval.DualEncoder(len(vocabulary))
    with torch.no_grad():
        model.log_scale.fill_(50.0)
    assert model.scale.item() == 100
    with torch.no_grad():
        model.log_scale.fill_(-50.0)
    assert model.scale.item() == 1
    model = retrieval.DualEncoder(len(vocabulary))
    tokens = preprocessing.text_to_tensor(["red face", "blue face"], vocabulary)
    scores = model({"image": torch.randn(2, 48), "text": tokens})
    retrieval.info_nce(scores, torch.arange(2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_pulling_alone_collapses_and_the_contrastive_loss_does_not(vocabulary):
    cards = datasets.load_postcards("train")[:600]
    features = captioning.image_features(cards.images)
    spread = {}
    for loss in (retrieval.pull_together, retrieval.info_nce):
        torch.manual_seed(0)
        model = retrieval.DualEncoder(len(vocabulary))
        if loss is retrieval.pull_together:
            model.log_scale.requires_grad_(False).zero_()
        retrieval.train_dual_encoder(
            model, features, cards.captions, vocabulary, loss=loss, epochs=12
        )
        with torch.no_grad():
            f = model.image(features[:100])
        spread[loss] = 1 - (f @ f.T).mean().item()
    assert spread[retrieval.pull_together] < 0.1
    assert spread[retrieval.info_nce] > 0.5


# Texts


def test_phrases_of_every_caption():
    for split in ("train", "test"):
        for card in datasets.load_postcards(split, parts=()).cards:
            parts = retrieval.phrases(card.caption)
            mood = postcards.mood_word(card.expression)
            assert parts[0] == (mood or f"{card.colour} face")
            assert f"{card.colour} face" in parts
            assert parts[-1] == postcards.WEATHERS[card.weather][0]
            assert len(parts) == 3 + bool(mood)
            assert all(part in card.caption for part in parts)
    with pytest.raises(ValueError, match="An empty caption has no phrases"):
        retrieval.phrases("  ")


def test_variants_are_the_caption_and_some_of_its_phrases():
    caption = "a sad red face with a key on its head at night"
    texts = retrieval.variants(caption, random.Random(0), 30)
    assert texts[0] == caption
    assert len(texts) == 30
    assert "at night" in texts
    for text in texts[1:]:
        kept = [part for part in retrieval.phrases(caption) if part in text]
        assert text == " ".join(kept), "in their order"
    assert {len(text.split()) for text in texts} > {2}


def test_false_negatives_are_pictures_of_which_a_text_is_true():
    same = ["a sad red face beside a key at night"] * retrieval.BATCH
    assert set(retrieval.false_negatives(same)) == {0}, "the same caption is marked"
    mixed = [same[0], "a sad red face beside a fish at night"] * (retrieval.BATCH // 2)
    counts = retrieval.false_negatives(mixed)
    assert set(counts) == {0, retrieval.BATCH // 2}
    train = datasets.load_postcards("train", parts=())
    counts = retrieval.false_negatives(train.captions)
    assert 0.25 < sum(count > 0 for count in counts) / len(counts) < 0.33
    assert 2.5 < sum(counts) / len(counts) < 3.5


def test_the_caption_is_picked_half_of_the_time():
    texts = torch.arange(8).expand(4000, 8)[..., None] + 1
    inputs = {"image": torch.zeros(4000, 48), "texts": texts}
    picked = retrieval.pick_variant(inputs, torch.Generator().manual_seed(0))["text"][:, 0]
    counts = torch.bincount(picked, minlength=9)[1:] / 4000
    assert counts[0].item() == pytest.approx(0.5, abs=0.03)
    assert counts[1:].min() > 0.05


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("", "The query is empty"), ("  ", "The query is empty"), ("脸", "None of the words of")],
)
def test_a_query_that_cannot_work_is_one_sentence(vocabulary, query, sentence):
    with pytest.raises(ValueError, match=sentence):
        retrieval.query_tokens(query, vocabulary)


# Searching


def test_search_is_a_sorted_list_without_what_is_left_out():
    gallery = nn.functional.normalize(torch.randn(20, 5), dim=1)
    scores = gallery @ gallery.T
    found = retrieval.search(gallery, gallery, 20)
    assert torch.equal(found, scores.argsort(1, descending=True))
    without = retrieval.search(gallery, gallery, 19, torch.arange(20))
    assert torch.equal(without, found[:, 1:])
    with pytest.raises(ValueError, match="only 20 pictures"):
        retrieval.search(gallery, gallery, 20, torch.arange(20))


def test_recall_and_chance_on_a_small_gallery():
    found = torch.tensor([[2, 0, 1], [1, 2, 0]])
    captions, wanted = ["a", "b", "a"], ["b", "a"]
    assert retrieval.recall(found, captions, wanted, 1).tolist() == [False, False]
    assert retrieval.recall(found, captions, wanted, 2).tolist() == [False, True]
    assert retrieval.recall(found, captions, wanted, 3).tolist() == [True, True]
    assert retrieval.chance(captions, wanted, 1) == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert retrieval.chance(captions, wanted, 2) == pytest.approx((2 / 3 + 1) / 2)


def test_a_composed_query_is_the_weighted_sum_at_length_one():
    f, g = torch.randn(3, 4), torch.randn(3, 4)
    v = retrieval.compose(f, g, 0.3, 0.6)
    assert torch.allclose(v.norm(dim=1), torch.ones(3))
    assert torch.allclose(retrieval.similarities(v, 0.3 * f + 0.6 * g).diagonal(), torch.ones(3))
    assert torch.allclose(v, retrieval.compose(f, g, 3, 6), atol=1e-6)


def test_every_wish_has_its_answer_and_changes_one_thing(gallery, test_cards):
    size = len(test_cards)
    assert len(gallery.images) == len(gallery.captions) == 3 * size
    assert gallery.captions[:size] == test_cards.captions
    assert gallery.captions[size : 2 * size] == test_cards.captions, "the twins"
    for i, wish in enumerate(gallery.wishes):
        assert wish.caption in gallery.captions[2 * size :]
        assert wish.caption != gallery.captions[i]
        before = set(retrieval.phrases(gallery.captions[i]))
        after = set(retrieval.phrases(wish.caption))
        assert after - before == {wish.text}
    assert not torch.equal(gallery.images[:size], gallery.images[size : 2 * size])


def test_an_edited_caption_is_the_one_wished_for(gallery):
    own = gallery.captions[: len(gallery.wishes)]
    for caption, wish in zip(own, gallery.wishes, strict=True):
        assert retrieval.edit(caption, wish.text) == wish.caption


def test_captions_that_lesson_06_writes_are_edited_to_the_wish(gallery):
    features = captioning.image_features(gallery.images[: len(gallery.wishes)])
    edited = retrieval.edited_captions(features, gallery.wishes)
    right = [text == wish.caption for text, wish in zip(edited, gallery.wishes, strict=True)]
    assert 0.8 < sum(right) / len(right) <= 1
    for text, wish in zip(edited, gallery.wishes, strict=True):
        assert wish.text in text
    with pytest.raises(ValueError, match="zip"):
        retrieval.edited_captions(features[:2], gallery.wishes)


def test_the_rival_is_told_the_factors_and_finds_with_them(gallery):
    caption = "a sad red face with a key on its head at night"
    assert retrieval.factors_of(caption) == ["sad", "red", "a key", "at night", "on"]
    train = datasets.load_postcards("train")[:400]
    features = captioning.image_features(train.images)
    own = captioning.image_features(gallery.images)
    wanted = gallery.captions[:20]
    scores = retrieval.by_factors(features, train.captions, own, wanted)
    assert scores.shape == (20, len(own))
    found = scores.topk(5, dim=1).indices
    assert retrieval.recall(found, gallery.captions, wanted, 5).float().mean() > 0.8
    assert (scores < 0).all(), "sums of log p"


def test_a_redrawn_card_keeps_its_caption(test_cards):
    rng = random.Random(0)
    for card in test_cards.cards[:40]:
        twin = retrieval.redraw(card, rng)
        assert twin.caption == card.caption
        assert (twin.face_x, twin.face_y) != (card.face_x, card.face_y)
        other = retrieval.redraw(card, rng, mood="happy", colour="pink")
        assert postcards.mood_word(other.expression) == "happy"
        assert "happy pink face" in other.caption


@pytest.mark.parametrize("changes", [{"mood": "angry"}, {"colour": "grey"}, {"size": "large"}])
def test_a_card_is_redrawn_only_with_what_there_is(test_cards, changes):
    with pytest.raises(ValueError, match="cannot be redrawn with .* to one of"):
        retrieval.redraw(test_cards.cards[0], random.Random(0), **changes)


def test_a_redrawn_card_lies_where_any_card_may_lie(test_cards):
    rng = random.Random(0)
    twins = [retrieval.redraw(test_cards.cards[0], rng) for _ in range(300)]
    fresh = postcards.draw(300, seed=4)
    for name in ("face_x", "face_y", "face_radius"):
        ours, theirs = ([getattr(card, name) for card in cards] for cards in (twins, fresh))
        reach = max(theirs) - min(theirs)
        assert min(ours) == pytest.approx(min(theirs), abs=0.02 * reach)
        assert max(ours) == pytest.approx(max(theirs), abs=0.02 * reach)
    assert 120 < sum(card.side == "left" for card in twins) < 180


# The trained models


def test_shuffled_pictures_hurt(gallery, vocabulary, test_cards):
    model = stored.load("dual_encoder", 1)[0]
    order = torch.randperm(len(gallery.images), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        vectors = model.image(captioning.image_features(gallery.images, 1))
        g = model.text(preprocessing.text_to_tensor(test_cards.captions, vocabulary))
    captions = test_cards.captions
    found = retrieval.recall(retrieval.search(g, vectors, 5), gallery.captions, captions, 5)
    shuffled = retrieval.search(g, vectors[order], 5)
    lost = retrieval.recall(shuffled, gallery.captions, captions, 5)
    assert found.float().mean() > 0.9
    assert lost.float().mean() < 0.15
