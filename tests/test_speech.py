"""speech.py: CTC by hand, noise, alignment, the recogniser's shape."""

import itertools
import math

import jiwer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mbm_lab import captioning, datasets, fusion, postcards, preprocessing, speech, stored, training

# CTC


def test_collapse_joins_repeats_and_drops_blanks():
    assert speech.collapse([0, 5, 5, 0, 5, 7, 0]) == [5, 5, 7]
    assert speech.collapse([0, 0]) == speech.collapse([]) == []


def test_the_five_paths_of_two_words_in_three_frames():
    assert sorted(speech.paths_of([1, 2], frames=3, words=3)) == [
        (0, 1, 2), (1, 0, 2), (1, 1, 2), (1, 2, 0), (1, 2, 2),
    ]  # fmt: skip
    assert speech.paths_of([1, 1], frames=3, words=2) == [(1, 0, 1)]
    assert speech.paths_of([1, 1], frames=2, words=2) == []


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(1, 3))
def test_neither_pace_nor_blanks_around_the_words_change_what_a_path_says(path, pace):
    said = speech.collapse(path)
    assert speech.BLANK not in said
    assert speech.collapse([word for word in path for _ in range(pace)]) == said
    assert speech.collapse([speech.BLANK, *path, speech.BLANK]) == said
    apart = [number for word in said for number in (word, speech.BLANK)]
    assert speech.collapse(apart) == said
    assert len(said) <= sum(word != speech.BLANK for word in path)


@st.composite
def frames_and_target(draw):
    """Log probabilities of a few words in a few frames (T, V), and a target."""
    frames, words = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    scores = draw(st.lists(st.floats(-8, 8), min_size=frames * words, max_size=frames * words))
    log_p = torch.tensor(scores, dtype=torch.float64).view(frames, words).log_softmax(1)
    return log_p, draw(st.lists(st.integers(1, words - 1), max_size=frames + 1))


@given(frames_and_target())
def test_the_recursion_is_the_sum_over_all_paths_and_pytorchs(case):
    log_p, target = case
    frames, words = log_p.shape
    paths = speech.paths_of(target, frames, words)
    by_paths = sum(math.exp(sum(log_p[t, w].item() for t, w in enumerate(p))) for p in paths)
    ours = speech.ctc_log_likelihood(log_p, target)
    assert ours.exp().item() == pytest.approx(by_paths, rel=1e-9)
    theirs = nn.functional.ctc_loss(
        log_p[:, None], torch.tensor([target]).long(), [frames], [len(target)], reduction="sum"
    )
    assert -ours.item() == pytest.approx(theirs.item(), rel=1e-9, abs=1e-12)  # or both infinite


@given(frames_and_target())
def test_all_that_can_be_said_has_probability_one(case):
    log_p, _ = case
    every = itertools.product(range(log_p.shape[1]), repeat=len(log_p))
    said = {tuple(speech.collapse(path)) for path in every}
    total = sum(speech.ctc_log_likelihood(log_p, target).exp().item() for target in said)
    assert total == pytest.approx(1, abs=1e-9)


def test_the_loss_of_a_batch_is_the_mean_per_word():
    log_p = torch.randn(2, 6, 5).log_softmax(2)
    target = torch.tensor([[1, 2, 3], [4, 0, 0]])
    each = [
        -speech.ctc_log_likelihood(log_p[0], [1, 2, 3]) / 3,
        -speech.ctc_log_likelihood(log_p[1], [4]),
    ]
    assert torch.allclose(speech.ctc_loss(log_p, target), sum(each) / 2, atol=1e-5)


def test_greedy_words_can_miss_the_likeliest_sentence():
    log_p = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert speech.greedy_words(log_p) == [[]]
    assert speech.ctc_log_likelihood(log_p[0], [1]).exp().item() == pytest.approx(0.64)


# Sound


@pytest.mark.parametrize("snr", [20, 0, -10])
def test_noise_has_the_strength_that_was_asked_for(snr):
    waveform = 0.1 * torch.sin(torch.arange(32_000) / 5)
    noisy = speech.add_noise(waveform, snr, torch.Generator().manual_seed(0))
    noise = (noisy - waveform).square().mean()
    ratio = 10 * math.log10(waveform.square().mean() / noise)
    assert ratio == pytest.approx(snr, abs=0.2)


def test_powers_of_sound_and_noise_add_up():
    waveform = datasets.load_postcards("test", parts=("note",)).notes[0]
    strength = waveform.square().mean() / 10**0.5  # 5 dB
    noisy = speech.add_noise(waveform, 5, torch.Generator().manual_seed(0))
    true = preprocessing.log_mel(noisy).exp().mean(1)
    clean = preprocessing.log_mel(waveform).exp().mean(1)
    added = clean + strength * speech.white_noise().mean(1)
    assert torch.allclose(added, true, rtol=0.15)


@pytest.mark.parametrize(
    ("waveform", "sentence"),
    [
        (torch.zeros(16_000), "The recording is silent"),
        (torch.zeros(0), "The recording is silent"),
        (0.1 * torch.randn(160_000), "The recording is 10.0 s long, and training heard at most 4"),
    ],
)
def test_a_recording_that_cannot_work_is_one_sentence(waveform, sentence):
    with pytest.raises(ValueError, match=sentence):
        speech.mels_of([waveform])


@pytest.mark.slow
def test_the_longest_recording_allowed_is_about_the_longest_that_training_heard():
    longest = max(len(note) for note in speech.noted("train").notes) / preprocessing.SAMPLE_RATE
    assert 0.8 * speech.LONGEST_SECONDS < longest <= speech.LONGEST_SECONDS
    for split in ("val", "test"):
        for note in speech.noted(split).notes:
            speech.check_recording(note)


def test_standardised_bands_do_not_depend_on_loudness_or_padding():
    mel = torch.rand(1, 40, 50) + 0.1
    padded = torch.cat([mel, torch.zeros(1, 40, 30)], 2)
    frames = torch.tensor([50])
    one = speech.log_standardised(mel, frames)
    two = speech.log_standardised(padded, frames)
    assert torch.allclose(one, two[..., :50], atol=1e-5)
    assert (two[..., 50:] == 0).all()
    assert torch.allclose(one.mean(2), torch.zeros(1, 40), atol=1e-5)
    assert torch.allclose(one, speech.log_standardised(7 * mel, frames), atol=1e-3)


# The recogniser


def inputs_of(count=3):
    return {
        "mel": torch.rand(count, 40, 160),
        "frames": torch.tensor([160, 90, 40]),
        "image": torch.randn(count, 48),
    }


def test_every_parameter_learns_and_padding_is_silence():
    torch.manual_seed(0)
    model = speech.Recogniser(12)
    log_p = model(inputs_of())
    assert log_p.shape == (3, 20, 12)
    assert torch.allclose(log_p.logsumexp(2), torch.zeros(3, 20), atol=1e-5)
    assert (log_p[2, 5:].argmax(1) == speech.BLANK).all()
    speech.ctc_loss(log_p, torch.tensor([[3, 4], [5, 0], [6, 0]])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_a_picture_nothing_is_added_and_only_beta_learns():
    torch.manual_seed(0)
    alone = speech.Recogniser(12).eval()
    helped = speech.WithPicture(alone.out.out_features, alone)
    nn.init.normal_(helped.picture.weight)
    helped.usual[[4, 7, 9]] = torch.tensor([0.5, 0.3, 0.2]).log()
    inputs = inputs_of()
    blind = inputs | {"image": torch.zeros(3, 48)}
    assert torch.allclose(helped.eval()(blind), alone(inputs), atol=1e-5)
    assert not torch.allclose(helped(inputs), alone(inputs), atol=0.1)
    training.train_mode(helped)
    assert not helped.alone.training, "its normalisation stays as it is"
    speech.ctc_loss(helped(inputs), torch.tensor([[3, 4], [5, 0], [6, 0]])).backward()
    for name, parameter in helped.named_parameters():
        assert (parameter.grad is not None) == (name == "beta"), name


def test_what_the_picture_says_is_a_probability_over_the_usual_one():
    helped = speech.WithPicture(12, speech.Recogniser(12))
    nn.init.normal_(helped.picture.weight)
    shares = torch.tensor([0.5, 0.3, 0.2])
    helped.usual[[4, 7, 9]] = shares.log()
    g = helped.said_by_picture(torch.randn(5, 48)).detach()
    assert torch.allclose((g[:, [4, 7, 9]].exp() * shares).sum(1), torch.ones(5), atol=1e-5)
    assert (g[:, [0, 1, 2, 3, 5, 6, 8, 10, 11]] == 0).all()


def test_the_rival_pastes_a_word_of_the_same_kind():
    guess = {"object": "bat", "colour": "red", "weather": "rain", "mood": "sad"}
    assert speech.paste(["ten for ana hat and snow"], [guess]) == ["ten for ana bat and rain"]


def test_no_noise_is_heard_twice():
    cards = speech.noted("test")[:3]
    noises = [
        loud - note for loud, note in zip(speech.noisy(cards, 0), cards.notes, strict=True)
    ]
    pieces = [noise[:8000] / noise[:8000].norm() for noise in noises]
    seconds = torch.randn(480_000, generator=speech.seeded_generator("training noise"))[:8000]
    pieces = torch.stack([*pieces, seconds / seconds.norm()])
    alike = (pieces @ pieces.T - torch.eye(4)).abs().max()
    assert alike < 0.06
    assert torch.equal(speech.noisy(cards[1:], 0)[0], speech.noisy(cards, 0)[1])


def test_distortions_keep_shapes_and_leave_the_picture_alone():
    cards = speech.noted("test")[:8]
    inputs = speech.mels_of(cards.notes) | {"image": torch.ones(8, 48)}
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        out = speech.distort(inputs, generator)
        assert out["mel"].shape[:2] == (8, 40)
        assert (out["frames"] <= out["mel"].shape[2]).all()
        assert (out["mel"] >= 0).all()
        assert out["image"] is inputs["image"]


# Distortions: each is looked at alone, in recordings that are otherwise all alike


def alike(mel, power=0.0, count=64):
    """Inputs of `count` recordings that are all the same; without power no noise is added."""
    return {
        "mel": mel.expand(count, *mel.shape).clone(),
        "frames": torch.full((count,), mel.shape[1]),
        "power": torch.full((count,), power),
        "image": torch.ones(count, 48),
    }


def distorted(inputs, seed):
    return speech.distort(inputs, torch.Generator().manual_seed(seed))


def test_noise_is_drawn_for_each_recording_and_not_for_the_batch():
    """Nothing but noise is in these recordings, so what comes out is its strength."""
    out = distorted(alike(torch.zeros(40, 100), power=2.0, count=2000), 0)
    level = out["mel"].flatten(1).median(1).values / speech.white_noise().median()
    noisy = level > 1e-3
    assert noisy.float().mean() == pytest.approx(1 / 2, abs=0.03), "every second recording"
    decibels = 10 * (2 / level[noisy]).log10()
    assert len(decibels.unique()) > 0.9 * len(decibels)
    assert decibels.max() - decibels.min() == pytest.approx(27, abs=0.2)
    assert decibels.mean() == pytest.approx(1.5, abs=1.5)


def test_each_voice_is_shifted_by_two_bands_at_most_and_every_shift_occurs():
    """A sound that never changes: nothing in time can be seen, and only the bands move."""
    bands = torch.arange(1.0, 41.0)
    inputs, shifts = alike(bands[:, None].expand(40, 100), count=60), set()
    mel = distorted(inputs, 0)["mel"]
    for row in mel:
        shift = round(20 - row[19, 50].item())
        shifts.add(shift)
        wanted = (bands - shift).clamp(1, 40)[:, None].expand(row.shape)
        assert torch.allclose(row, wanted, rtol=1e-4)
    assert shifts == set(range(-2, 3))


def test_time_is_stretched_by_15_percent_at_most_and_the_frames_are_counted_along():
    inputs = alike(torch.rand(40, 200) + 0.1, count=2)
    inputs["frames"] = torch.tensor([200, 120])
    sizes = []
    for seed in range(60):
        out = distorted(inputs, seed)
        size = out["mel"].shape[2]
        assert (out["frames"] - torch.tensor([1.0, 0.6]) * size).abs().max() <= 1
        sizes.append(size)
    assert 170 <= min(sizes) < 176
    assert 224 < max(sizes) <= 230


def test_six_bands_and_a_moment_of_eight_frames_are_blotted_out():
    """What is blotted out has its band's usual power in every recording, and says nothing."""
    mel = torch.rand(40, 200, generator=torch.Generator().manual_seed(0)) + 0.1
    firsts, places, counts = set(), [], []
    for seed in range(300):
        out = distorted(alike(mel, count=1), seed)["mel"]
        blotted = (out - out.mode(2, keepdim=True).values).abs() < 1e-6  # (1, 40, T)
        bands, moments = (blotted[0].all(dim).nonzero()[:, 0].tolist() for dim in (1, 0))
        assert bands == list(range(bands[0], bands[0] + 6))
        for first, last in runs(moments):
            assert last - first == 7
            places += [first / out.shape[2], last / out.shape[2]]
        band = (bands[0] + 20) % 40
        usual, rest = out[0, band, moments[0]], out[0, band, ~blotted[0].all(0)]
        assert usual.log().item() == pytest.approx(rest.log().mean().item(), abs=0.1)
        firsts.add(bands[0])
        counts.append(len(moments))
    assert firsts == set(range(35)), "from the lowest band to the highest"
    assert min(places) < 0.02
    assert max(places) > 0.95
    assert set(counts) == {8}


def runs(places):
    """The first and last of each run of neighbours."""
    ends = [i for i, (a, b) in enumerate(itertools.pairwise(places)) if b > a + 1]
    starts = [0, *(i + 1 for i in ends)]
    return [(places[i], places[j]) for i, j in zip(starts, [*ends, -1], strict=True)]


# Errors and witnesses


def test_alignment_and_error_rates():
    pairs = speech.align("a red face".split(), "a the read face now".split())
    assert sum(a != b for a, b in pairs) == 3
    assert [a for a, _ in pairs if a] == ["a", "red", "face"]
    assert [b for _, b in pairs if b] == ["a", "the", "read", "face", "now"]
    true = ["two for mei red and bat"]
    rates = speech.error_rates([true[0].replace("mei", "leo").replace("red", "blue")], true)
    assert rates["all"] == pytest.approx(2 / 6)
    assert rates["not shown"] == pytest.approx(1 / 2)
    assert rates["shown"] == pytest.approx(1 / 2)
    assert speech.error_rates(true, true) == {"all": 0, "shown": 0, "not shown": 0}


SAID = st.lists(st.sampled_from(["a", "red", "bat", "at"]), max_size=7)


@settings(max_examples=200)  # few show that a step of the way back is wrong
@given(SAID, SAID)
def test_an_alignment_holds_both_sentences_and_has_the_fewest_errors(true, written):
    pairs = speech.align(true, written)
    assert [word for word, _ in pairs if word] == true
    assert [heard for _, heard in pairs if heard] == written
    assert ("", "") not in pairs
    theirs = jiwer.process_words(" ".join(true), " ".join(written))
    errors = theirs.substitutions + theirs.deletions + theirs.insertions
    assert sum(word != heard for word, heard in pairs) == errors


@given(st.lists(st.tuples(SAID.filter(bool), SAID), min_size=1, max_size=5))
def test_the_word_error_rate_is_that_of_jiwer(pairs):
    true, written = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    rate = speech.error_rates(written, true)["all"]
    assert rate == pytest.approx(jiwer.wer(true, written), rel=1e-6)


def test_every_word_of_a_note_has_at_most_one_kind():
    assert not speech.WORD_KINDS["shown"] & speech.WORD_KINDS["not shown"]
    for card in speech.noted("test").cards:
        words = postcards.note(card).split()
        assert sum(word in speech.WORD_KINDS["not shown"] for word in words) == 2
        assert sum(word in speech.WORD_KINDS["shown"] for word in words) == 2


def test_pitch_finds_a_sine_and_pace_counts_letters():
    seconds = torch.arange(16_000) / 16_000
    for hertz in (100, 150, 220):
        tone = 0.3 * torch.sin(2 * math.pi * hertz * seconds)
        assert speech.pitch(tone) == pytest.approx(hertz, rel=0.03)
    for hertz, heard in ((72, 72), (390, 390), (430, 215), (66, 70.5)):
        # above 400 Hz two periods are taken for one; below 70 Hz the longest shift fits best
        tone = 0.3 * torch.sin(2 * math.pi * hertz * seconds)
        assert speech.pitch(tone) == pytest.approx(heard, rel=0.03)
    assert math.isnan(speech.pitch(0.1 * torch.randn(16_000)))
    sound = torch.cat([torch.zeros(8_000), 0.3 * torch.ones(16_000), torch.zeros(8_000)])
    assert speech.pace(sound, "ten letters, 2 go.") == pytest.approx(12, rel=0.1)


def test_three_weights_are_least_squares_and_two_are_those_of_lesson_04():
    torch.manual_seed(0)
    m = torch.randn(200)
    readings = torch.stack([m + torch.randn(200) for _ in range(3)])
    best = speech.best_weights(readings, m)
    assert best.shape == (4,)
    error = (best[:3].float() @ readings + best[3].float() - m).square().mean()
    for k in range(4):
        for step in (-0.01, 0.01):
            moved = best.clone()
            moved[k] += step
            worse = (moved[:3].float() @ readings + moved[3].float() - m).square().mean()
            assert worse > error
    two = speech.best_weights(readings[:2], m).tolist()
    assert two == pytest.approx(list(fusion.best_weights(*readings[:2], m)), abs=1e-6)


# The trained models


def test_shuffled_pictures_hurt():
    cards, vocabulary = speech.noted("test")[:60], stored.load("recogniser")[1]
    features = captioning.image_features(cards.images)
    helped, loud = stored.load("recogniser")[0], speech.noisy(cards, speech.NOISE)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    wrong = [
        speech.error_rates(speech.recognise(helped, loud, image, vocabulary), cards.note_texts)
        for image in (features, features[order], 0 * features)
    ]
    own, shuffled, none = (rates["shown"] for rates in wrong)
    assert own < 0.4
    assert shuffled > none > own + 0.2


def test_what_is_heard_in_a_recording_does_not_depend_on_the_others_of_its_batch():
    cards, (helped, _) = speech.noted("test")[:6], stored.load("recogniser")
    together = training.predict(helped.alone, speech.mels_of(cards.notes))
    for row, note in zip(together, cards.notes, strict=True):
        own = training.predict(helped.alone, speech.mels_of([note]))[0]
        assert torch.allclose(row[: len(own)], own, atol=1e-4)


def test_test_voices_are_never_heard_in_training():
    voices = {
        split: {card.voice for card in speech.noted(split).cards if card.voice}
        for split in ("train", "test")
    }
    assert voices["train"] == set(postcards.VOICES)
    assert voices["test"] == set(postcards.HELD_OUT_VOICES)
