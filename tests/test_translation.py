"""translation.py: attention, the translator, and what the picture adds."""

import pytest
import torch
from torch import nn

from mbm_lab import captioning, datasets, postcards, stored, translation, writing


@pytest.fixture(scope="module")
def vocabularies():
    return stored.load("translator")[1]


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


# Attention


def test_attention_is_pytorchs():
    torch.manual_seed(0)
    query, keys, values = torch.randn(3, 8), torch.randn(3, 5, 8), torch.randn(3, 5, 4)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 3:] = mask[2, 1:] = False
    found, weights = translation.attend(query, keys, values, mask)
    theirs = nn.functional.scaled_dot_product_attention(
        query[:, None], keys, values, attn_mask=mask[:, None]
    )[:, 0]
    assert torch.allclose(found, theirs, atol=1e-6)
    assert torch.allclose(weights.sum(1), torch.ones(3))
    assert (weights[~mask] == 0).all()
    assert torch.allclose(found[2], values[2, 0]), "with one word there is nothing to choose"


def test_attention_on_paper():
    keys = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    values = torch.tensor([[[10.0], [20.0]]])
    query = torch.tensor([[torch.tensor(3.0).log() / 2**0.5, 0.0]])  # the scores: log 3 and 0
    found, weights = translation.attend(query, keys, values, torch.ones(1, 2, dtype=torch.bool))
    assert weights[0].tolist() == pytest.approx([0.75, 0.25])
    assert found.item() == pytest.approx(12.5)


# The translator


def small_model():
    torch.manual_seed(0)
    return translation.Translator(20, 25, hidden=16)


def test_padding_changes_nothing():
    model = small_model().eval()
    short, longer = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 0, 0]])
    image, prefix = torch.randn(1, 48), torch.tensor([[4, 9, 8]])
    one = model({"source": short, "image": image, "prefix": prefix})
    two = model({"source": longer, "image": image, "prefix": prefix})
    assert torch.allclose(one, two, atol=1e-6)


def test_a_score_never_sees_the_word_that_it_guesses():
    model = small_model().eval()
    inputs = {
        "source": torch.randint(4, 20, (2, 6)),
        "image": torch.randn(2, 48),
        "prefix": torch.randint(4, 25, (2, 7)),
    }
    before = model(inputs)
    inputs["prefix"][1, 4] = 3
    moved = (model(inputs) != before).any(2)
    assert moved.nonzero().tolist() == [[1, 4], [1, 5], [1, 6]]


def test_every_parameter_learns():
    model = small_model()
    inputs = {
        "source": torch.randint(4, 20, (4, 6)),
        "image": torch.randn(4, 48),
        "prefix": torch.randint(4, 25, (4, 7)),
    }
    writing.next_word_loss(model(inputs), inputs["prefix"]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_a_picture_nothing_is_added():
    model = small_model().eval()
    inputs = {"source": torch.randint(4, 20, (2, 6)), "prefix": torch.randint(4, 25, (2, 7))}
    alone = model(inputs | {"image": torch.zeros(2, 48)})
    nn.init.normal_(model.ask.weight)
    nn.init.normal_(model.look.weight)
    assert torch.equal(alone, model(inputs | {"image": torch.zeros(2, 48)}))
    assert not torch.allclose(alone, model(inputs | {"image": torch.randn(2, 48)}))


def test_the_second_half_of_the_training_leaves_the_text_alone(vocabularies):
    cards = datasets.load_postcards("train")[:64]
    torch.manual_seed(0)
    model = translation.Translator(*map(len, vocabularies))
    before = {name: values.clone() for name, values in model.state_dict().items()}
    translation.train_picture(model, cards, torch.randn(64, 48), vocabularies, epochs=1)
    for name, values in model.state_dict().items():
        learns = name.startswith(("ask", "look"))
        assert torch.equal(values, before[name]) != learns, name
    assert all(parameter.requires_grad for parameter in model.parameters())


# Texts


def test_ambiguous_words_are_those_with_two_drawings(test_cards):
    phrases = {"glasses", "a bat", "a mouse", "a crane", "a bow", "a fan"}
    assert phrases == translation.AMBIGUOUS
    ambiguous = translation.is_ambiguous(test_cards.captions)
    assert int(ambiguous.sum()) >= 400
    for card, is_so in zip(test_cards.cards, ambiguous.tolist(), strict=True):
        assert is_so == ("(" in card.object or card.object in ("eyeglasses", "tumblers"))


def test_the_limit_of_the_text_is_half_where_both_are_as_likely():
    english = ["a red face beside a bat at night"] * 4
    chinese = ["夜里一张红色的脸，旁边有一只蝙蝠", "夜里一张红色的脸，旁边有一根球棒"] * 2
    assert translation.text_limit(english, chinese) == 0.5
    assert translation.text_limit(english[:2], [chinese[0]] * 2) == 1.0


@pytest.fixture(scope="module")
def both(test_cards):
    return translation.in_both_meanings(test_cards)


def test_twins_differ_in_the_object_alone(both, test_cards):
    half = len(both) // 2
    assert half == int(translation.is_ambiguous(test_cards.captions).sum())
    assert both.captions[:half] == both.captions[half:]
    for one, other in zip(both.cards[:half], both.cards[half:], strict=True):
        assert one.caption == other.caption
        assert translation.OTHER[one.object] == other.object
        assert one.face_x == other.face_x
        assert other.seen == ((other.colour, other.object) not in postcards.UNSEEN)
    moved = (both.images[:half] - both.images[half:]).abs().amax((1, 2, 3))
    assert (moved > 0.05).all(), "the picture tells"


def test_no_reader_of_the_text_passes_its_limit(both, test_cards):
    """Tables of any part of the sentence, made from the very answers, and a trained reader."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    one = test_cards.subset(translation.is_ambiguous(test_cards.captions))
    for cards in (one, both):
        limit = translation.text_limit(cards.captions, cards.captions_zh)
        for reads in (["object"], ["object", "colour"], ["object", "colour", "weather", "mood"]):
            assert translation.text_limit(cards.captions, cards.captions_zh, reads) <= limit
        words = CountVectorizer(ngram_range=(1, 2)).fit_transform(cards.captions)
        meant = [card.object for card in cards.cards]
        reader = LogisticRegression(C=100, max_iter=500).fit(words, meant)
        assert reader.score(words, meant) <= limit
    assert limit == 0.5
    assert translation.text_limit(one.captions, one.captions_zh, ["object"]) < 0.6
    assert translation.text_limit(one.captions, one.captions_zh) > 0.9, "learned by heart"


def test_a_share_of_the_pictures_is_exchanged_within_the_batch():
    inputs = {"image": torch.arange(4000.0)[:, None], "source": torch.zeros(4000, 2)}
    mixed = translation.exchange_pictures(inputs, torch.Generator().manual_seed(0))
    wrong = (mixed["image"] != inputs["image"]).float().mean().item()
    assert wrong == pytest.approx(translation.WRONG, abs=0.03)
    assert set(mixed["image"][:, 0].tolist()) <= set(range(4000))
    assert mixed["source"] is inputs["source"]


def test_covering_the_colour_costs_the_colour(vocabularies, test_cards):
    model = stored.load("translator")[0]
    source = translation.encode_source(test_cards.captions[:1], vocabularies[0])
    whole = torch.tensor([writing.encode(test_cards.captions_zh[0], "zh", vocabularies[1])])
    costs = translation.cover(model, source, torch.zeros(1, 48), whole)
    assert costs.shape == (whole.shape[1] - 1, source.shape[1])
    english = vocabularies[0].decode(source[0].tolist())
    chinese = vocabularies[1].decode(whole[0, 1:].tolist())
    colour = test_cards.cards[0].colour
    row = costs[chinese.index(postcards.COLOURS[colour][1])]
    assert row.argmax() == english.index(colour)
    assert row.max() > 0.3


def test_pasting_takes_the_object_of_the_caption():
    text, caption = "夜里一张红色的脸,旁边有一只蝙蝠", "夜里一张蓝色的脸,旁边有一根球棒"
    assert translation.paste([text, text], [caption, "夜里"]) == [
        "夜里一张红色的脸,旁边有一根球棒", text,
    ]  # fmt: skip


def test_every_sentence_in_all_colours():
    cards = datasets.load_postcards("train", parts=())[:30]
    english, chinese = translation.in_all_colours(cards.captions, cards.captions_zh)
    assert len(english) == len(chinese) == 180
    for one, other in zip(english, chinese, strict=True):
        colour = captioning.factor_in(one, "colour")
        assert postcards.COLOURS[colour][1] == captioning.factor_in(other, "colour", "zh")
    own = set(zip(cards.captions, cards.captions_zh, strict=True))
    assert own <= set(zip(english, chinese, strict=True))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The text is empty"),
        ("一张脸", "knows no word of"),
        ("a face " * 15, "The sentence has 30 words, and training saw at most 20: cut it into"),
    ],
)
def test_a_sentence_that_cannot_work_is_one_sentence(vocabularies, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        translation.encode_source([text], vocabularies[0])


# The trained models


def test_shuffled_pictures_hurt(vocabularies, test_cards):
    cards = test_cards[:250]
    features = captioning.image_features(cards.images)
    model, true = stored.load("translator")[0], writing.tidy(cards.captions_zh, "zh")
    source = translation.encode_source(cards.captions, vocabularies[0])
    ambiguous = translation.is_ambiguous(cards.captions)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(1))
    shares = []
    for image in (features, features[order]):
        written = translation.translate(model, source, image, vocabularies[1])
        right = captioning.factors_right(written, true, "zh")["object"]
        shares.append(right[ambiguous].float().mean().item())
    assert shares[0] > 0.9
    assert shares[1] < 0.65


def test_the_picture_moves_the_object_and_little_else(vocabularies, test_cards):
    model = stored.load("translator")[0]
    card = next(i for i, one in enumerate(test_cards.cards) if "bat" in one.object)
    source = translation.encode_source([test_cards.captions[card]], vocabularies[0])
    image = captioning.image_features(test_cards.images[card : card + 1])
    words = writing.encode(test_cards.captions_zh[card], "zh", vocabularies[1])
    model.train()
    attention, moved = translation.trace(model, source, image, torch.tensor([words[:-1]]))
    assert model.training
    assert not attention.requires_grad
    assert not moved.requires_grad
    assert attention.shape == (len(words) - 1, source.shape[1])
    assert torch.allclose(attention.sum(1), torch.ones(len(attention)), atol=1e-5)
    spelled = vocabularies[1].decode(words[1:])
    place = next(i for i, word in enumerate(spelled) if word in ("一只", "一根", "蝙蝠", "球棒"))
    assert moved[place : place + 2].max() == moved.max()
    blind = translation.trace(model, source, torch.zeros(1, 48), torch.tensor([words[:-1]]))[1]
    assert not blind.any(), "without a picture nothing moves"
