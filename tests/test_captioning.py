"""captioning.py: writing word after word, the captioner, and its figures."""

import itertools

import pytest
import torch
from torch import nn

from mbm_lab import captioning, cnn, datasets, preprocessing, training
from mbm_lab.preprocessing import BOS, EOS, PAD


class Table:
    """A decoder whose next word depends on the last word alone."""

    def __init__(self, p):
        self.log_p = p.log()

    def step(self, words, state):
        return self.log_p[words], state


def random_table(words, seed):
    """Probabilities of the next word: after EOS and the special words nothing comes back."""
    p = torch.rand(words, words, generator=torch.Generator().manual_seed(seed)) ** 3
    p[:, [PAD, 1, BOS]] = 0
    return p / p.sum(1, keepdim=True)


@pytest.fixture(scope="module")
def vocabulary():
    return captioning.load_vocabulary()


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


# Greedy and beam


def best_by_trying(p, longest):
    """Every finished sentence of at most `longest` words with EOS, best first."""
    found = []
    for length in range(longest):
        for words in itertools.product(range(4, len(p)), repeat=length):
            path = [BOS, *words, EOS]
            total = sum(p[a, b].log().item() for a, b in itertools.pairwise(path))
            found.append((list(words), total))
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all_sentences(seed):
    p = random_table(8, seed)
    state = (torch.zeros(1, 1),)
    ours = captioning.beam_search(Table(p), state, width=200, longest=4)
    true = best_by_trying(p, 4)
    assert ours[0][0] == true[0][0]
    assert ours[0][1] == pytest.approx(true[0][1], abs=1e-4)
    assert [words for words, _ in ours[:5]] == [words for words, _ in true[:5]]


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed):
    p = random_table(9, seed)
    (words, _), *_ = captioning.beam_search(Table(p), (torch.zeros(1, 1),), width=1, longest=12)
    written = captioning.greedy(Table(p), (torch.zeros(1, 1),), longest=12)[0].tolist()
    assert [word for word in written if word not in (EOS, PAD)] == words


def test_greedy_follows_the_table_and_a_beam_does_better():
    p = torch.zeros(8, 8)
    p[BOS, 4], p[BOS, 5] = 0.6, 0.4
    p[4, 6] = p[4, 7] = 0.5
    p[5, 6], p[5, 7] = 0.9, 0.1
    p[6, EOS] = p[7, EOS] = 1.0
    state = (torch.zeros(1, 1),)
    assert captioning.greedy(Table(p), state).tolist() == [[4, 6, EOS]]
    best, second = captioning.beam_search(Table(p), state, width=2)
    assert best[0] == [5, 6]
    assert best[1] == pytest.approx(torch.tensor(0.36).log().item(), abs=1e-5)
    assert second[1] == pytest.approx(torch.tensor(0.30).log().item(), abs=1e-5)


def test_greedy_fills_up_after_the_end_and_stops_at_the_longest():
    class Alternate:
        """Row 0 ends after one word, row 1 never does."""

        def step(self, words, state):
            scores = torch.zeros(2, 6)
            scores[0, 4 if words[0] == BOS else EOS] = 1
            scores[1, 5] = 1
            return scores, state

    written = captioning.greedy(Alternate(), (torch.zeros(2, 1),), longest=4)
    assert written.tolist() == [[4, EOS, PAD, PAD], [5, 5, 5, 5]]


def test_a_beam_wants_one_example_and_a_width():
    table = Table(random_table(6, 0))
    with pytest.raises(ValueError, match="one example at a time.* got 2 examples and width 3"):
        captioning.beam_search(table, (torch.zeros(2, 1),))
    with pytest.raises(ValueError, match="width 0"):
        captioning.beam_search(table, (torch.zeros(1, 1),), width=0)


def test_the_beam_of_a_trained_model_is_never_less_likely_than_greedy(vocabulary, test_cards):
    model = captioning.load_captioner(0)
    features = training.predict(model.encoder, test_cards.images[:6])
    start = vocabulary.index["<en>"]
    for one in features.split(1):
        state = model.decoder.start(one)
        wide = captioning.beam_search(model.decoder, state, start, 4)[0]
        narrow = captioning.beam_search(model.decoder, state, start, 1)[0]
        assert wide[1] >= narrow[1] - 1e-5
        prefix = torch.tensor([[start, *wide[0]]])
        log_p = model.decoder(one, prefix)[0].log_softmax(1)
        words = torch.tensor([*wide[0], EOS])
        assert log_p[range(len(words)), words].sum().item() == pytest.approx(wide[1], abs=1e-3)


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
    assert moved.sum(2).tolist() == [[0, 3], [0, 0]]
    assert moved[0, 1].nonzero()[:, 0].tolist() == [5, 6, 7]


def test_every_parameter_learns_and_the_picture_matters():
    torch.manual_seed(0)
    model = captioning.Captioner(20)
    inputs = {"image": torch.rand(4, 3, 64, 64), "prefix": torch.randint(4, 20, (4, 2, 6))}
    scores = model(inputs)
    assert scores.shape == (4, 2, 6, 20)
    captioning.next_word_loss(scores, inputs["prefix"]).backward()
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


def test_the_loss_is_that_of_the_words_and_not_of_the_padding():
    scores = torch.randn(2, 3, 4, 9)
    target = torch.randint(1, 9, (2, 3, 4))
    target[1, 2, 2:] = PAD
    kept = target != PAD
    right = nn.functional.cross_entropy(scores[kept], target[kept])
    assert torch.allclose(captioning.next_word_loss(scores, target), right)


# Texts


def test_prefix_and_target_are_shifted_by_one(vocabulary):
    captions = [("en", ["a red face", "a sad blue face"]), ("zh", ["一张红色的脸", "一张蓝色的脸"])]
    prefix, target = captioning.teacher_forcing(captions, vocabulary)
    assert prefix.shape == target.shape == (2, 2, 5)
    words = [[vocabulary.words[i] for i in row] for row in (prefix[0, 0], target[0, 0])]
    assert words == [["<en>", "a", "red", "face", "<pad>"], ["a", "red", "face", "<eos>", "<pad>"]]
    assert vocabulary.words[prefix[1, 1, 0]] == "<zh>"
    assert torch.equal(prefix[1, 0, 1:], target[1, 0, :-1])


def test_the_vocabulary_holds_both_languages_and_their_starts(vocabulary):
    cards = datasets.load_postcards("train", parts=())
    assert captioning.build_vocabulary(captioning.captions_of(cards)).words == vocabulary.words
    assert {"<en>", "<zh>", "face", "起重机"} <= set(vocabulary.words)


@pytest.mark.parametrize("text", ["Счастливое лицо", "εὐτυχής", "顔が笑う。"])
def test_a_script_that_the_vocabulary_never_saw_is_one_sentence(vocabulary, text):
    with pytest.raises(ValueError, match="knows no word of .* write in a language and script"):
        captioning.encode(text, "en", vocabulary)


def test_unknown_words_among_known_ones_are_allowed_and_empty_text_is_not(vocabulary):
    assert preprocessing.UNK in captioning.encode("a turquoise face", "en", vocabulary)
    with pytest.raises(ValueError, match="The text is empty"):
        captioning.encode("  ", "en", vocabulary)
    with pytest.raises(ValueError, match="as many captions"):
        captioning.teacher_forcing([("en", ["a face"]), ("zh", [])], vocabulary)


def test_a_written_row_reads_as_a_sentence(vocabulary):
    numbers = vocabulary.encode(["a", "red", "face"])
    rows = torch.tensor([[*numbers, EOS, PAD], [*numbers, numbers[0], numbers[1]]])
    assert captioning.read_out(rows, vocabulary, "en") == ["a red face", "a red face a red"]
    assert captioning.spell(["一张", "脸"], "zh") == "一张脸"


def test_what_a_caption_says_of_each_factor():
    english = "a sad purple face beside a crane in a storm"
    said = {f: captioning.factor_in(english, f) for f in captioning.PHRASES["en"]}
    assert said == {"colour": "purple", "object": "a crane", "weather": "in a storm", "mood": "sad"}
    assert captioning.factor_in("a red face at night", "mood") == ""
    chinese = "雷电中一张难过的紫色的脸,旁边有一台起重机"
    assert captioning.factor_in(chinese, "object", "zh") == "一台起重机"


def test_factors_find_every_card_of_the_data(test_cards):
    for card in test_cards.cards:
        assert captioning.factor_in(card.caption, "colour") == card.colour
        assert captioning.factor_in(card.caption, "object") in card.caption
        assert captioning.factor_in(card.caption_zh, "object", "zh")
        assert captioning.factor_in(card.caption_zh, "weather", "zh")


def test_scores_of_texts():
    true = ["a red face beside a fish", "a blue face beside a key"]
    assert captioning.bleu(true, true) == pytest.approx(100)
    assert captioning.bleu(["a red face beside a key", true[1]], true) < 90
    assert captioning.exact(["a red face", true[1]], true).tolist() == [False, True]
    assert captioning.bleu(["雨中一张脸"], ["雨中一张脸,旁边"], "zh") < 100


# The trained models


@pytest.mark.slow
def test_stored_captioners_reach_their_figures(vocabulary, test_cards):
    runs = [
        captioning.quality(captioning.load_captioner(seed), test_cards, vocabulary)
        for seed in range(3)
    ]
    for what, value, wanted in training.worst(runs):
        assert training.holds(value, wanted), f"{what}: {value:.3f}, should be {wanted}"


def test_shuffled_pictures_hurt(vocabulary, test_cards):
    cards = test_cards[:200]
    model, true = captioning.load_captioner(0), captioning.tidy(test_cards[:200].captions, "en")
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    written = captioning.caption(model, cards.images, "en", vocabulary)
    shuffled = captioning.caption(model, cards.images[order], "en", vocabulary)
    assert captioning.exact(written, true).float().mean() > 0.8
    assert captioning.exact(shuffled, true).float().mean() < 0.03
    for factor, right in captioning.factors_right(shuffled, true).items():
        assert right.float().mean() < 0.4, factor


def test_a_model_with_other_weights_fails_the_figures(vocabulary, test_cards):
    model = captioning.load_captioner(0)
    nn.init.normal_(model.decoder.ask.weight)
    figures = captioning.quality(model, test_cards[:100], vocabulary)
    assert not all(training.holds(value, wanted) for _, value, wanted in figures)


def test_weights_are_small():
    for seed in range(3):
        path = captioning.WEIGHTS / f"captioner_{seed}.safetensors"
        assert path.stat().st_size < 400_000


@pytest.mark.slow
def test_retraining_writes_what_loading_reads(tmp_path, monkeypatch, vocabulary):
    few = datasets.load_postcards("train")[:64]
    monkeypatch.setattr(captioning.datasets, "load_postcards", lambda split: few)
    captioning.retrain(tmp_path, epochs=1, seeds=(0,))
    words = preprocessing.Vocabulary.load(tmp_path / "caption_words.json")
    model = captioning.Captioner(len(words))
    training.load_weights(model, tmp_path / "captioner_0.safetensors")
    assert len(captioning.caption(model, few.images[:2], "en", words)) == 2


@pytest.mark.slow
def test_ten_live_epochs_learn_most_of_it(vocabulary, test_cards):
    train = datasets.load_postcards("train")
    model = captioning.new_captioner(vocabulary, seed=3)
    captioning.train(model, train, vocabulary, epochs=6, seed=3)
    true = captioning.tidy(test_cards.captions, "en")
    written = captioning.caption(model, test_cards.images, "en", vocabulary)
    right = captioning.factors_right(written, true)
    assert right["colour"].float().mean() > 0.9
    assert right["weather"].float().mean() > 0.95
