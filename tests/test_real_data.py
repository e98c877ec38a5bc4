"""real_data.py: digits seen and heard, photographs, sentences, albums."""

import gzip
import math
import struct

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from mbm_lab import (
    albums,
    captioning,
    datasets,
    fusion,
    preprocessing,
    real_data,
    retrieval,
    stored,
    tables,
    training,
    translation,
    writing,
)

# Digits, seen and heard


@pytest.fixture(scope="module")
def little_world(tmp_path_factory):
    """Ten digits in the publishers' formats: a bar whose place, and a tone whose pitch, tells the
    digit. The brightness of a bar tells the split, and its number."""
    home = tmp_path_factory.mktemp("data")
    (home / "mnist").mkdir()
    for prefix, count, light in (("train", 60, 100), ("t10k", 40, 200)):
        images, digits = np.zeros((count, 28, 28), np.uint8), np.arange(count) % 10
        for i, digit in enumerate(digits):
            images[i, 4:24, 2 * digit + 4 : 2 * digit + 7] = light + i // 10
        for name, values in (("images-idx3", images), ("labels-idx1", digits.astype(np.uint8))):
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            packed = gzip.compress(header + values.tobytes())
            (home / "mnist" / f"{prefix}-{name}-ubyte.gz").write_bytes(packed)
    (home / "fsdd" / "recordings").mkdir(parents=True)
    for digit in range(10):
        for speaker, pitch in (("theo", 1.0), ("eve", 1.02)):
            hertz = 300 * 1.25**digit * pitch
            tone = 0.5 * np.sin(2 * math.pi * hertz * np.arange(4000) / 8000)
            for i in (0, 5, 6):
                path = home / "fsdd" / "recordings" / f"{digit}_{speaker}_{i}.wav"
                soundfile.write(path, tone, 8000)
    return home


@pytest.fixture
def world(little_world, monkeypatch):
    monkeypatch.setenv("MBM_DATA_HOME", str(little_world))


def bar(picture):
    """Where the bar of a clean picture (3, 64, 64) stands, as a digit."""
    across = picture[0].mean(0)
    middle = float((across - across.min()) @ torch.arange(64.0) / (across - across.min()).sum())
    return round(((middle + 0.5) * 28 / 64 - 5.5) / 2)


def test_pairs_show_and_say_the_same_digit_of_the_same_split(world):
    lights = {}
    for split, count, repeats in (("train", 40, 1), ("test", 40, 2)):
        pairs = real_data.pair_digits(
            split, repeats, picture_noise=0, speech_noise=40, whole=True
        )
        assert len(pairs.digits) == count
        assert all(values.shape == (count, 3, 64, 64) for values in pairs.inputs.values())
        assert [bar(picture) for picture in pairs.inputs["image"]] == pairs.digits.tolist()
        heard = pairs.inputs["sound"][:, 0, :, :25].mean(2).argmax(1)
        loudest = {d: set(heard[pairs.digits == d].tolist()) for d in range(10)}
        means = [np.mean(list(loudest[d])) for d in range(10)]
        assert means == sorted(means)  # a larger digit has a higher tone
        assert set(pairs.speakers) == {"theo", "eve"}
        lights[split] = pairs
    # the test's second round has other pictures than its first
    first, second = lights["test"].inputs["image"].split(20)
    assert not torch.equal(first, second)


def test_the_same_seed_gives_the_same_pairs(world):
    one, same = (real_data.pair_digits("test", seed=3, whole=True) for _ in range(2))
    other = real_data.pair_digits("test", seed=4, whole=True)
    for name in real_data.DIGIT_MODALITIES:
        assert torch.equal(one.inputs[name], same.inputs[name])
        assert not torch.equal(one.inputs[name], other.inputs[name])


def test_no_two_noises_are_the_same(monkeypatch):
    """All noise of training, validation and test, of pictures and sounds, as it is drawn."""
    drawn = []
    randn = torch.randn

    def watch(*shape, **options):
        drawn.append(randn(*shape, **options).flatten())
        return drawn[-1]

    def watched(*shape, **options):
        return watch(*shape, **options).view(*shape)

    monkeypatch.setattr(torch, "randn", watched)
    monkeypatch.setattr(torch, "randn_like", lambda x, **o: watched(tuple(x.shape), **o))
    for split in ("val", "test"):
        for seed in (0, 1):
            real_data.pair_digits(split, seed=seed)
    starts = [values[:8].tolist() for values in drawn]
    assert len(drawn) == 2 * (1 + 120) + 2 * (1 + 180)
    assert len(set(map(tuple, starts))) == len(drawn)
    # nor does one noise begin somewhere inside another
    inside = torch.cat(drawn).round(decimals=6)
    pairs = torch.stack([inside[:-1], inside[1:]], 1)
    firsts = torch.stack([values[:2] for values in drawn]).round(decimals=6)
    for first in firsts[:4]:
        assert (pairs == first).all(1).sum() == 1


def test_degraded_pictures_have_the_course_s_range_and_more_noise_hides_more():
    tone = 0.5 * torch.sin(torch.arange(8000) * 0.2)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 8:20, 12:16] = 1.0
    for make, levels, given in (
        (real_data.sound_pictures, (40, 0, -20), [tone, tone.repeat(4)]),
        (real_data.noisy_pictures, (0.0, 0.5, 3.0), image),
    ):
        clean = make(given, levels[0])
        assert clean.shape[1:] == (3, 64, 64)
        assert clean.mean().item() == pytest.approx(0.5, abs=0.05)
        assert clean.std().item() == pytest.approx(0.25, abs=0.06)
        alike = [
            torch.corrcoef(torch.stack([clean[0].flatten(), make(given, level, 1)[0].flatten()]))
            for level in levels
        ]
        values = [matrix[0, 1].item() for matrix in alike]
        assert values == sorted(values, reverse=True)
        assert values[2] < 0.6 < values[0]


@pytest.mark.parametrize("name", real_data.DIGIT_FUSIONS)
def test_readers_have_ten_scores_and_the_same_size(name):
    model = real_data.new_reader(real_data.DIGIT_MODALITIES, real_data.DIGIT_FUSIONS[name])
    scores = model({name: torch.rand(4, 3, 64, 64) for name in real_data.DIGIT_MODALITIES})
    assert scores.shape == (4, 10)
    size = fusion.parameter_count(model.fusion) + fusion.parameter_count(model.head)
    assert abs(size - real_data.BUDGET) < 50


@pytest.mark.slow
def test_a_reader_learns_and_shuffled_sounds_hurt(world):
    clean = {"picture_noise": 1.0, "speech_noise": -5, "whole": True}
    pairs = real_data.pair_digits("train", 8, **clean)
    test = real_data.pair_digits("test", 4, seed=1, **clean)
    torch.manual_seed(0)
    model = real_data.new_reader(real_data.DIGIT_MODALITIES, fusion.WeightedSum)
    real_data.train_reader(model, pairs, epochs=6)
    right = real_data.accuracy(model, test)
    order = torch.randperm(len(test.digits), generator=torch.Generator().manual_seed(0))
    shuffled = {**test.inputs, "sound": test.inputs["sound"][order]}
    wrong = real_data.accuracy(model, real_data.Pairs(shuffled, test.digits, test.speakers))
    assert right > 0.9
    assert wrong < right - 0.3


def test_speakers_are_held_out():
    speakers = ["theo", "eve", "theo", "ada"]
    assert real_data.among(speakers, ("theo", "ada"), True).tolist() == [True, False, True, True]
    kept = real_data.among(speakers, ("theo",), False)
    inputs = {"image": torch.arange(4.0)[:, None]}
    part = real_data.Pairs(inputs, torch.arange(4), speakers).subset(kept)
    assert (part.speakers, part.digits.tolist()) == (["eve", "ada"], [1, 3])
    assert part.inputs["image"][:, 0].tolist() == [1, 3]


def test_recordings_are_counted_for_each_digit_and_speaker():
    pairs = real_data.pair_digits("train", 2)
    part = pairs.subset(real_data.first_recordings(pairs, 4))
    assert len(part.digits) == 2 * 6 * 10 * 4
    few = real_data.among(pairs.speakers, real_data.HELD_OUT, False)
    assert int(few.sum()) == len(part.digits)  # four speakers, six recordings each
    assert torch.bincount(part.digits).tolist() == [48] * 10


class Fixed(nn.Module):
    """A "reader" whose scores are its input's first ten numbers."""

    def __init__(self, name):
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Identity()})

    def forward(self, inputs):
        (values,) = inputs.values()
        return values[:, :10]


def witnesses(count=400):
    generator = torch.Generator().manual_seed(0)
    digits = torch.arange(count) % 10
    true = nn.functional.one_hot(digits, 10).float()
    inputs = {
        name: strength * true + torch.randn(count, 10, generator=generator)
        for name, strength in (("image", 1.5), ("sound", 0.75))
    }
    return real_data.Pairs(inputs, digits, [""] * count)


def test_added_readers_are_the_sum_of_log_probabilities():
    pairs = witnesses()
    model = real_data.add_readers([Fixed("image"), Fixed("sound")])
    by_hand = sum(values.softmax(1).log() for values in pairs.inputs.values())
    assert torch.allclose(training.predict(model, pairs.inputs), by_hand, atol=1e-5)
    alone = [(values.argmax(1) == pairs.digits).float().mean() for values in pairs.inputs.values()]
    assert real_data.accuracy(model, pairs) > max(alone)
    assert real_data.shuffled_accuracy(model, pairs) < max(alone)
    surer = real_data.surer_accuracy(model, pairs)
    assert min(alone) <= surer <= real_data.accuracy(model, pairs) + 0.05


def test_learned_weights_have_the_least_cross_entropy():
    pairs = witnesses()
    model = real_data.add_readers([Fixed("image"), Fixed("sound")])
    f, g = (values.log_softmax(1) for values in pairs.inputs.values())

    def loss(alpha, beta):
        return nn.functional.cross_entropy(alpha * f + beta * g, pairs.digits).item()

    real_data.fit_weights(model, pairs)
    alpha, beta = model.fusion.alpha.item(), model.fusion.beta.item()
    assert loss(alpha, beta) < loss(1, 1)
    for away in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05)):
        assert loss(alpha, beta) < loss(alpha + away[0], beta + away[1])
    assert alpha > beta  # the better witness weighs more


@pytest.mark.slow
def test_the_exam_names_the_strongest_cheap_rival(monkeypatch):
    monkeypatch.setattr(real_data, "train_reader", lambda *arguments, **options: None)
    monkeypatch.setattr(real_data, "fit_weights", lambda *arguments: None)
    results = {one.what: one for one in real_data.exam(2)}
    learned = results["readers added, α and β learned"]
    values = {what: one.value for what, one in results.items()}
    assert learned.baseline >= max(values["image alone"], values["sound alone"],
                                   values["readers added, untrained"])  # fmt: skip
    assert learned.rival
    assert set(real_data.DIGIT_FUSIONS) <= {what.partition(",")[0] for what in values}
    assert not learned._replace(value=0.5).holds


@pytest.mark.slow
def test_adding_the_single_readers_is_far_better_than_either():
    train, test = real_data.pair_digits("train", 2), real_data.pair_digits("test", 4)
    readers = real_data._single_readers(train, 0)
    alone = [real_data.accuracy(one, test) for one in readers]
    added = real_data.add_readers(readers)
    assert min(alone) > 0.5
    assert real_data.accuracy(added, test) > max(alone) + 0.08
    assert real_data.shuffled_accuracy(added, test) < max(alone) - 0.2


# Photographs, sentences, albums


def test_the_colour_grid_is_the_mean_colour_of_each_field():
    image = torch.zeros(1, 3, 64, 64)
    image[0, 2, 16:32, 48:] = 1.0
    features = real_data.ColourGrid()(image)
    assert features.shape == (1, 48)
    assert features.view(3, 4, 4)[2, 1, 3] == 1
    assert (features == -1).sum() == 47


def test_pairs_of_sentences_are_neither_rubbish_nor_long():
    english = [
        "A dog runs .",
        "@@",
        "Two men sit on a bench in the park and talk of it all .",
        "A cat .",
    ]
    german = ["Ein Hund läuft .", "Ein Mann sitzt .", "Zwei Männer .", "@@"]
    assert real_data.short_pairs((english, german)) == (english[:1], german[:1])
    assert real_data.short_pairs((english[:1] * 5, german[:1] * 5), most=2)[0] == english[:1] * 2


def test_a_gallery_wishes_for_the_next_picture_of_the_album():
    album = albums.load_album(albums.example_album())
    gallery = real_data.album_gallery(album)
    assert gallery.wishes[0].caption == album.captions[1][0]
    assert gallery.wishes[0].text in album.captions[1][0]


@pytest.mark.slow
def test_search_in_an_album_and_shuffled_pictures_hurt():
    album = albums.load_album(albums.example_album(count=60))
    encoder = stored.load("captioner")[0].encoder
    model, vocabulary = real_data.search_model(encoder, album, steps=300)
    figures = real_data.album_recall(model, vocabulary, encoder, album)
    assert figures[1][0] > 0.9
    assert figures[5][1] == pytest.approx(5 / 60, abs=1e-6)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    mixed = albums.Album(album.names, album.images[order], album.captions)
    assert real_data.album_recall(model, vocabulary, encoder, mixed)[1][0] < 0.15


def test_an_album_with_chinese_captions_is_searched_by_words():
    images = torch.eye(4)[:, :3, None, None].expand(4, 3, 64, 64)  # red, green, blue, black
    captions = [["一只狗在海滩上"], ["桌子上有一个蛋糕"], ["两个孩子在下雪"], ["一只猫在睡觉"]]
    album = albums.Album(list("abcd"), images, captions)
    model, vocabulary = real_data.search_model(real_data.ColourGrid(), album, steps=60)
    assert {"狗", "蛋糕", "孩子"} <= set(vocabulary.words)
    gallery = retrieval.image_vectors(model, real_data.ColourGrid()(images))
    for place, word in ((0, "狗"), (1, "蛋糕"), (2, "孩子")):
        query = retrieval.text_vectors(model, retrieval.query_tokens(word, vocabulary))
        assert retrieval.search(query, gallery, 1).tolist() == [[place]]
    with pytest.raises(ValueError, match="use words such as .*[一-鿿]"):
        retrieval.query_tokens("飞机", vocabulary)
    figures = real_data.album_recall(model, vocabulary, real_data.ColourGrid(), album)
    assert figures[10] == (1.0, 1.0)  # four pictures: all are found


def test_any_module_that_gives_features_is_an_encoder():
    class Corner(nn.Module):
        def forward(self, images):
            return images[:, :, :4, :4].flatten(1).repeat(1, 2)  # (B, 96)

    album = albums.load_album(albums.example_album(count=12))
    model, vocabulary = real_data.search_model(Corner(), album, steps=2)
    assert model.f.in_features == 96
    figures = real_data.album_recall(model, vocabulary, Corner(), album, ks=(1, 3))
    assert set(figures) == {1, 3}


def test_an_album_goes_into_the_captioner_as_cards_do():
    images = torch.rand(3, 3, 64, 64)
    texts = [
        ["a dog runs", "a brown dog", "one more"],
        ["two men", "men sit"],
        ["a cat", "it is a cat"],
    ]
    album = albums.Album(["a", "b", "c"], images, texts)
    captions = captioning.captions_of(album)
    assert captions == [("en", ["a dog runs", "two men", "a cat"]),
                        ("en", ["a brown dog", "men sit", "it is a cat"])]  # fmt: skip
    vocabulary = writing.build_vocabulary(captions)
    model = captioning.new_captioner(vocabulary)
    history = captioning.train_captioner(model, album, vocabulary, epochs=2)
    assert len(history.train_loss) == 2
    assert len(captioning.caption(model, images, "en", vocabulary)) == 3


def test_rare_words_are_left_out_of_a_vocabulary_and_every_language_has_a_beginning():
    captions = [("en", ["a dog runs", "a dog sits"])]
    assert "runs" not in writing.build_vocabulary(captions, min_count=2).index
    vocabulary = writing.build_vocabulary([("de", ["ein Hund läuft"])])
    sentence = writing.encode("ein Hund", "de", vocabulary)
    assert sentence[0] == preprocessing.BOS
    assert vocabulary.decode(sentence[1:-1]) == ["ein", "hund"]


def test_phrases_of_any_caption():
    assert retrieval.phrases("A black dog is running in the water .") == [
        "a black dog", "is running", "in the water"]  # fmt: skip
    assert retrieval.phrases("children") == ["children"]


def test_bleu_against_several_true_sentences():
    true = [
        ["a dog runs in the grass", "the brown dog is running"],
        ["two men sit", "men on a bench"],
    ]
    assert writing.bleu(["the brown dog is running", "men on a bench"], true) == pytest.approx(100)
    only_first = [several[0] for several in true]
    assert writing.bleu(["the brown dog is running", "men on a bench"], only_first) < 50


@pytest.mark.slow
def test_the_translator_learns_another_language_and_a_shuffled_source_hurts():
    nouns = {"dog": "hund", "cat": "kater", "man": "mann", "bear": "bär"}
    verbs = {"runs": "läuft", "sits": "sitzt", "jumps": "springt"}
    pairs = [(f"the {n} {v} .", f"der {nouns[n]} {verbs[v]} .") for n in nouns for v in verbs]
    english, german = map(list, zip(*pairs, strict=True))
    words = (writing.build_vocabulary([("en", english)]),
             writing.build_vocabulary([("de", german)]))  # fmt: skip
    torch.manual_seed(0)
    model = translation.Translator(*map(len, words))
    translation.train_text(model, english, german, words, epochs=60, language="de")
    source = translation.encode_source(english, words[0])
    nothing = torch.zeros(len(source), captioning.FEATURES)
    assert translation.translate(model, source, nothing, words[1], "de") == german
    other = translation.translate(model, source.roll(5, 0), nothing, words[1], "de")
    assert not any(ours == true for ours, true in zip(other, german, strict=True))


def test_an_example_table_is_read_as_one_of_ones_own():
    folder = real_data.example_table(count=40)
    table = tables.load_table(folder, target="mood")
    assert table.modalities == ("image", "text")
    assert (len(table), table.classes, table.left_out) == (40, [], {})
    cards = {card.name: card for card in datasets.load_postcards("test", parts=()).cards}
    own = [cards[name.removesuffix(".png")] for name in table.names]
    assert [card.message for card in own] == table.texts
    assert [card.mood for card in own] == pytest.approx(table.target.tolist(), abs=0.001)
    assert real_data.example_table(count=2) != folder  # nothing is overwritten
