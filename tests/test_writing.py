"""writing.py: word after word, greedily and with a beam; sentences as numbers; scores."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mbm_lab import datasets, preprocessing, stored, training, writing
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
    return stored.load("captioner")[1]


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
    ours = writing.beam_search(Table(p), state, width=200, longest=4)
    true = best_by_trying(p, 4)
    assert ours[0][0] == true[0][0]
    assert ours[0][1] == pytest.approx(true[0][1], abs=1e-4)
    assert [words for words, _ in ours[:5]] == [words for words, _ in true[:5]]


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed):
    p = random_table(9, seed)
    (words, _), *_ = writing.beam_search(Table(p), (torch.zeros(1, 1),), width=1, longest=12)
    written = writing.greedy(Table(p), (torch.zeros(1, 1),), longest=12)[0].tolist()
    assert [word for word in written if word not in (EOS, PAD)] == words


def test_greedy_follows_the_table_and_a_beam_does_better():
    p = torch.zeros(8, 8)
    p[BOS, 4], p[BOS, 5] = 0.6, 0.4
    p[4, 6] = p[4, 7] = 0.5
    p[5, 6], p[5, 7] = 0.9, 0.1
    p[6, EOS] = p[7, EOS] = 1.0
    state = (torch.zeros(1, 1),)
    assert writing.greedy(Table(p), state).tolist() == [[4, 6, EOS]]
    best, second = writing.beam_search(Table(p), state, width=2)
    assert best[0] == [5, 6]
    assert best[1] == pytest.approx(torch.tensor(0.36).log().item(), abs=1e-5)
    assert second[1] == pytest.approx(torch.tensor(0.30).log().item(), abs=1e-5)


def test_length_counts_only_when_it_is_asked_for():
    """"face" has 0.40, "a red face" 0.36: a mean over its four words makes up for its length."""
    p = torch.zeros(8, 8)
    p[BOS, 4], p[BOS, 5], p[5, 6], p[5, 7] = 0.4, 0.6, 0.6, 0.4
    p[[6, 7], 4] = p[4, EOS] = 1.0
    state = (torch.zeros(1, 1),)
    assert writing.beam_search(Table(p), state, width=3)[0][0] == [4]
    best, second, _ = writing.beam_search(Table(p), state, width=3, length_power=1)
    assert best[0] == [5, 6, 4]
    assert best[1] == pytest.approx(torch.tensor(0.36).log().item(), abs=1e-5)
    assert second[1] == pytest.approx(torch.tensor(0.24).log().item(), abs=1e-5)


def test_greedy_fills_up_after_the_end_and_stops_at_the_longest():
    class Alternate:
        """Row 0 ends after one word, row 1 never does."""

        def step(self, words, state):
            scores = torch.zeros(2, 6)
            scores[0, 4 if words[0] == BOS else EOS] = 1
            scores[1, 5] = 1
            return scores, state

    written = writing.greedy(Alternate(), (torch.zeros(2, 1),), longest=4)
    assert written.tolist() == [[4, EOS, PAD, PAD], [5, 5, 5, 5]]


def test_a_beam_wants_one_example_and_a_width():
    table = Table(random_table(6, 0))
    with pytest.raises(ValueError, match="one example at a time.* got 2 examples and width 3"):
        writing.beam_search(table, (torch.zeros(2, 1),))
    with pytest.raises(ValueError, match="width is 0"):
        writing.beam_search(table, (torch.zeros(1, 1),), width=0)


# Drawing words

ONE = (torch.zeros(1, 1),)


def test_the_likeliest_words_are_as_few_as_have_the_probability():
    chances = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]])
    found = writing.likeliest(chances, 0.7)
    assert torch.allclose(found, torch.tensor([[0, 2 / 3, 0, 1 / 3], [1.0, 0, 0, 0]]))
    assert torch.equal(writing.likeliest(chances, 0.4), torch.eye(4)[[1, 0]])
    assert torch.equal(writing.likeliest(chances, 0.5)[0], torch.tensor([0, 1.0, 0, 0]))  # at least
    assert (writing.likeliest(chances, 0.76)[0] > 0).tolist() == [False, True, True, True]
    assert torch.equal(writing.likeliest(chances, 1e-9), torch.eye(4)[[1, 0]])  # always one
    assert torch.equal(writing.likeliest(chances, 1), chances)
    even = torch.full((1, 4), 0.25)
    assert writing.likeliest(even, 0.5).tolist() == [[0.5, 0.5, 0, 0]]  # of equals the first


@given(words=st.integers(1, 40), top_p=st.floats(0.01, 1), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_likeliest_words_by_trying(words, top_p, seed):
    scores = 3 * torch.randn(2, words, generator=torch.Generator().manual_seed(seed)).double()
    chances = scores.softmax(1)
    found = writing.likeliest(chances, top_p)
    assert torch.allclose(found.sum(1), torch.ones(2).double())
    for row, kept in zip(chances.tolist(), found.tolist(), strict=True):
        falling = sorted(row, reverse=True)
        least = next(n for n in range(1, words + 1) if sum(falling[:n]) >= top_p or n == words)
        count = sum(chance > 0 for chance in kept)
        assert abs(count - least) <= (abs(sum(falling[:least]) - top_p) < 1e-9)
        total = sum(falling[:count])
        for chance, ours in zip(row, kept, strict=True):
            assert ours == pytest.approx(chance / total if chance >= falling[count - 1] else 0)


def test_all_words_can_be_drawn_when_top_p_is_one_however_the_sum_is_rounded():
    chances = torch.full((1, 225), 1e-8)
    chances[0, :9] = 1 / 9
    assert bool((writing.likeliest(chances, 1.0) > 0).all())


def drawn(p, count=4000, **options):
    """How often each first word is drawn."""
    state = (torch.zeros(count, 1),)
    words = writing.sample(Table(p), state, longest=1, **options)[:, 0]
    return torch.bincount(words, minlength=len(p)) / count


def two_words(first=0.8):
    p = torch.zeros(8, 8)
    p[BOS, 4], p[BOS, 5], p[BOS, 6] = first, 0.9 - first, 0.1
    p[[4, 5, 6], EOS] = 1.0
    return p


def test_words_are_drawn_by_their_probability_and_the_temperature_changes_it():
    p = two_words(0.6)
    for temperature in (0.5, 1.0, 2.0):
        wanted = p[BOS] ** (1 / temperature)
        wanted = wanted / wanted.sum()
        found = drawn(p, temperature=temperature)
        spread = (wanted * (1 - wanted) / 4000).sqrt()
        assert bool(((found - wanted).abs() <= 4 * spread + 1e-9).all())
    likely = [drawn(p, temperature=one)[4] for one in (0.2, 0.5, 1.0, 2.0, 9.0)]
    assert likely == sorted(likely, reverse=True)


def test_what_top_p_leaves_out_is_never_drawn():
    p = two_words(0.6)
    assert (drawn(p, top_p=0.85) > 0).nonzero().flatten().tolist() == [4, 5]
    assert drawn(p, top_p=0.85)[4].item() == pytest.approx(2 / 3, abs=0.04)
    assert drawn(p, top_p=0.5)[4] == 1
    hot = drawn(p, temperature=9.0, top_p=0.6)  # the temperature comes first: (0.37, 0.34, 0.3)
    assert (hot > 0).nonzero().flatten().tolist() == [4, 5]


@pytest.mark.parametrize("options", [
    {"temperature": 1e-3}, {"temperature": 1e-40}, {"temperature": 1e-300}, {"top_p": 1e-9},
])  # fmt: skip
def test_drawing_the_likeliest_alone_is_greedy(options):
    for seed in range(3):
        p = random_table(9, seed)
        state = (torch.zeros(3, 1),)
        wanted = writing.greedy(Table(p), state)
        assert torch.equal(writing.sample(Table(p), state, seed=seed, **options), wanted)


def test_the_seed_decides_the_draws():
    p, state = random_table(9, 1), (torch.zeros(6, 1),)
    first = writing.sample(Table(p), state, seed=5)
    assert torch.equal(writing.sample(Table(p), state, seed=5), first)
    others = [writing.sample(Table(p), state, seed=seed) for seed in range(5)]
    assert not all(one.shape == first.shape and torch.equal(one, first) for one in others)
    assert len({tuple(row) for row in first.tolist()}) > 1  # each sentence draws its own


def test_a_drawn_sentence_ends_and_is_filled_up_and_begins_where_it_should():
    p = torch.zeros(8, 8)
    p[BOS, EOS] = p[BOS, 4] = 0.5
    p[5, 4] = p[4, 4] = p[EOS, 6] = p[6, 6] = 1.0
    written = writing.sample(Table(p), (torch.zeros(40, 1),), longest=4)
    rows = {tuple(row) for row in written.tolist()}
    assert rows == {(EOS, PAD, PAD, PAD), (4, 4, 4, 4)}
    assert writing.sample(Table(p), ONE, first=5, longest=3).tolist() == [[4, 4, 4]]
    assert writing.sample(Table(two_words()), (torch.zeros(9, 1),)).shape == (9, 2)


def test_scores_of_minus_infinity_are_never_drawn_and_nan_is_refused():
    class Broken:
        def step(self, words, state):
            return torch.full((len(words), 6), torch.nan), state

    assert drawn(two_words())[7] == 0
    with pytest.raises(ValueError, match="probabilities hold nan in example 0.*: leave"):
        writing.sample(Broken(), (torch.zeros(2, 1),))


THIRDS = torch.ones(1, 3) / 3
DRAWS_REFUSED = {
    "temperature is 0: give a number above 0, such as 0.7": {"temperature": 0},
    "temperature is -1: give": {"temperature": -1},
    "temperature is nan: give": {"temperature": torch.nan},
    "temperature is inf: give": {"temperature": torch.inf},
    "temperature is the text 'hot': give": {"temperature": "hot"},
    "top_p is 0: give a number above 0": {"top_p": 0},
    "top_p is None: give": {"top_p": None},
    "top_p of at most 1, and got .* and 1.1: pass": {"top_p": 1.1},
    "seed is -1: give": {"seed": -1},
    "seed is 1.5: give": {"seed": 1.5},
    "longest is 0: give": {"longest": 0},
    "first is the text '<bos>': give": {"first": "<bos>"},
    "state is None and must be a tuple": {"state": None},
    "state holds no sentence: pass": {"state": (torch.zeros(0, 1),)},
}


@pytest.mark.parametrize("said", DRAWS_REFUSED)
def test_what_cannot_be_drawn_is_one_sentence(said):
    with pytest.raises(ValueError, match=said):
        writing.sample(Table(random_table(6, 0)), **{"state": ONE} | DRAWS_REFUSED[said])


@pytest.mark.parametrize(("chances", "top_p", "said"), [
    ([[0.5, 0.5]], 0.5, "chances is a list and must be a tensor: make"),
    (THIRDS[0], 0.5, r"got \(3,\) and 0.5: pass scores.softmax"),
    (THIRDS[:, :0], 0.5, r"got \(1, 0\) and 0.5: pass"),
    (THIRDS, 1.5, r"got \(1, 3\) and 1.5: pass"),
    (THIRDS, 0, "top_p is 0: give"),
    (THIRDS, torch.nan, "top_p is nan: give"),
    (THIRDS * torch.nan, 0.5, "probabilities hold nan in example 0"),
    (torch.cat([THIRDS, 3 * THIRDS]), 0.5, "sum to 3 in row 1: pass scores.softmax"),
    (torch.tensor([[-1.0, 2.0]]), 0.5, "these go from -1 to 2, .*: pass scores.softmax"),
    (torch.tensor([[0, 1]]), 0.5, "are fractions .*: pass scores.softmax"),
])  # fmt: skip
def test_what_is_no_probability_is_one_sentence(chances, top_p, said):
    with pytest.raises(ValueError, match=said):
        writing.likeliest(chances, top_p)


@pytest.mark.parametrize("write", [writing.greedy, writing.beam_search])
def test_a_first_word_that_is_no_number_is_one_sentence(write):
    with pytest.raises(ValueError, match="first is the text '<bos>': give a whole number"):
        write(Table(random_table(6, 0)), ONE, "<bos>")


def test_the_beam_of_a_trained_model_is_never_less_likely_than_greedy(vocabulary):
    model, _ = stored.load("captioner")
    images = datasets.draw_postcards(6, seed=6).images
    features = training.predict(model.encoder, images)
    start = vocabulary.index["<en>"]
    for one in features.split(1):
        state = model.decoder.start(one)
        wide = writing.beam_search(model.decoder, state, start, 4)[0]
        narrow = writing.beam_search(model.decoder, state, start, 1)[0]
        assert wide[1] >= narrow[1] - 1e-5
        prefix = torch.tensor([[start, *wide[0]]])
        log_p = model.decoder(one, prefix)[0].log_softmax(1)
        words = torch.tensor([*wide[0], EOS])
        assert log_p[range(len(words)), words].sum().item() == pytest.approx(wide[1], abs=1e-3)


# Sentences as numbers


def test_a_vocabulary_begins_with_the_languages_however_often_words_occur():
    captions = [("en", ["a red face", "a face", "a cat"]), ("zh", ["一张脸", "脸"])]
    for min_count, rare in ((1, {"cat", "red", "一张"}), (2, set())):
        start, chinese, most, *rest = writing.build_vocabulary(captions, min_count).words[4:]
        assert (start, chinese, most) == ("<en>", "<zh>", "a")
        assert set(rest) == {"face", "脸"} | rare


def test_prefix_and_target_are_shifted_by_one(vocabulary):
    captions = [("en", ["a red face", "a sad blue face"]), ("zh", ["一张红色的脸", "一张蓝色的脸"])]
    prefix, target = writing.teacher_forcing(captions, vocabulary)
    assert prefix.shape == target.shape == (2, 2, 5)
    words = [[vocabulary.words[i] for i in row] for row in (prefix[0, 0], target[0, 0])]
    assert words == [["<en>", "a", "red", "face", "<pad>"], ["a", "red", "face", "<eos>", "<pad>"]]
    assert vocabulary.words[prefix[1, 1, 0]] == "<zh>"
    assert torch.equal(prefix[1, 0, 1:], target[1, 0, :-1])


@pytest.mark.parametrize("text", ["Счастливое лицо", "εὐτυχής", "顔が笑う。"])
def test_a_script_that_the_vocabulary_never_saw_is_one_sentence(vocabulary, text):
    with pytest.raises(ValueError, match="knows no word of .* write in a language and script"):
        writing.encode(text, "en", vocabulary)


def test_unknown_words_among_known_ones_are_allowed_and_empty_text_is_not(vocabulary):
    assert preprocessing.UNK in writing.encode("a turquoise face", "en", vocabulary)
    with pytest.raises(ValueError, match="The text is empty"):
        writing.encode("  ", "en", vocabulary)
    with pytest.raises(ValueError, match="as many captions"):
        writing.teacher_forcing([("en", ["a face"]), ("zh", [])], vocabulary)


def test_a_written_row_reads_as_a_sentence(vocabulary):
    numbers = vocabulary.encode(["a", "red", "face"])
    rows = torch.tensor([[*numbers, EOS, PAD], [*numbers, numbers[0], numbers[1]]])
    assert writing.read_out(rows, vocabulary, "en") == ["a red face", "a red face a red"]
    assert writing.spell(["一张", "脸"], "zh") == "一张脸"


# How good is it?


def test_the_loss_is_that_of_the_words_and_not_of_the_padding():
    scores = torch.randn(2, 3, 4, 9)
    target = torch.randint(1, 9, (2, 3, 4))
    target[1, 2, 2:] = PAD
    kept = target != PAD
    right = nn.functional.cross_entropy(scores[kept], target[kept])
    assert torch.allclose(writing.next_word_loss(scores, target), right)


def test_scores_of_texts():
    true = ["a red face beside a fish", "a blue face beside a key"]
    assert writing.bleu(true, true) == pytest.approx(100)
    assert writing.bleu(["a red face beside a key", true[1]], true) < 90
    assert writing.exact(["a red face", true[1]], true).tolist() == [False, True]
    assert writing.bleu(["雨中一张脸"], ["雨中一张脸,旁边"], "zh") < 100
