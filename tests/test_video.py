"""video.py: frames, their order, and the sentence about them."""

import itertools
from dataclasses import replace

import pytest
import torch

from mbm_lab import datasets, postcards, stored, training, video, writing


@pytest.fixture(scope="module")
def films():
    return video.filmed(datasets.load_postcards("test", parts=("clip",)))


@pytest.fixture(scope="module")
def features(films):
    return video.frame_features(torch.stack(films.clips))


# Frames


def test_differences_say_where_a_light_went():
    film = torch.eye(4)[:3]
    change = video.differences(film)
    assert change.tolist() == [[-1, 1, 0, 0], [0, -1, 1, 0]]
    assert torch.equal(video.differences(film.flip(0)), -change.flip(0))


@pytest.mark.parametrize(
    "call",
    [
        lambda: video.differences(torch.zeros(1, 5)),
        lambda: video.frame_features(torch.zeros(2, 1, 3, 64, 64)),
        lambda: video.FilmEncoder()(torch.zeros(2, 1, video.FRAME)),
    ],
)
def test_a_film_of_one_frame_is_one_sentence(call):
    with pytest.raises(ValueError, match="at least two frames, and this one has 1: in a single"):
        call()


def test_films_of_another_shape_are_one_sentence():
    with pytest.raises(ValueError, match=r"Films have the shape \(N, T, 3, 64, 64\), and not"):
        video.frame_features(torch.zeros(8, 3, 64, 64))


def test_frame_features_know_the_place(films):
    """A mirrored frame has mirrored maps: what the mean over places would not show."""
    images = films.clips[0][:1]
    encoder = video.FrameEncoder(stored.load("captioner")[0].encoder)
    plain, mirror = training.predict(encoder, torch.cat([images, images.flip(-1)]))
    assert plain.shape == (video.FRAME,)
    assert (plain - mirror).abs().max() > 0.5


def test_frames_of_a_clip_are_what_the_generator_says(films):
    for card in films.cards[:12]:
        shown = [postcards.frame_of(card, k) for k in range(postcards.CLIP_FRAMES)]
        first, last = shown[0], shown[-1]
        if card.change == "mood":
            assert (last.expression > first.expression) == (card.change_to == "happier")
        elif card.change == "place":
            assert (last.face_x > first.face_x) == (card.change_to == "right")
        else:
            assert [first.blend, last.blend] == [0, 1]
        assert (
            sum(a != b for a, b in zip(vars(first).values(), vars(last).values(), strict=True)) == 1
        )


# Films, turned around


def test_a_mirror_and_playing_backwards_change_what_they_must():
    place = next(
        card
        for card in datasets.load_postcards("train", parts=()).cards
        if card.change_to == "left"
    )
    sides = [video.retold(place, back, mirror)[-5:] for back, mirror in
             [(False, False), (True, False), (False, True), (True, True)]]  # fmt: skip
    assert [side.strip() for side in sides] == ["left", "right", "right", "left"]


def test_turned_films_are_true(films):
    cards = films[:20]
    clips = torch.stack(cards.clips)
    features, sentences = video.turned_around(clips, cards.cards)
    assert features.shape == (80, 8, video.FRAME)
    assert sentences[:20] == cards.summaries
    assert torch.equal(features[20:40], features[:20].flip(1))
    assert torch.allclose(features[40:60], video.frame_features(clips.flip(-1)))
    for card, back, mirror in zip(cards.cards, sentences[20:40], sentences[40:60], strict=True):
        assert back != card.summary
        assert (mirror != card.summary) == (card.change == "place")


def test_shuffling_keeps_the_frames_and_changes_their_order():
    films = torch.arange(60.0).view(10, 6, 1)
    shuffled = video.shuffle_frames(films, 1)
    assert torch.equal(shuffled.sort(1).values, films)
    assert len({tuple((film - film.min()).flatten().tolist()) for film in shuffled}) > 5


def test_two_frames_are_told_by_what_changes_and_nothing_between_them_counts():
    generator = torch.Generator().manual_seed(0)
    films = torch.randn(200, 4, 6, generator=generator)
    rises = films[:, -1, 0] > films[:, 0, 0]
    said = ["it rises" if rise else "it falls" for rise in rises.tolist()]
    told = video.two_frames(films[:150], said[:150], films[150:])
    assert sum(one == true for one, true in zip(told, said[150:], strict=True)) > 45
    between = films[150:].clone()
    between[:, 1:3] = torch.randn(50, 2, 6, generator=generator)
    assert video.two_frames(films[:150], said[:150], between) == told
    returned = films[150:].clone()
    returned[:, -1] = returned[:, 0]  # whatever went and came back
    again = returned.clone()
    again[:, 1] += 5
    both = [video.two_frames(films[:150], said[:150], one) for one in (returned, again)]
    assert both[0] == both[1]


# The limit of one frame


@pytest.fixture(scope="module")
def fresh():
    """Films of fresh cards, as the course's are drawn."""
    return [postcards.with_clip(card, 3) for card in postcards.draw(1500, seed=31)]


def test_every_frame_is_ambiguous(fresh):
    limits = [video.expected(fresh, frame) for frame in range(postcards.CLIP_FRAMES)]
    assert all(1 / 4 < limit < 0.40 for limit in limits)
    for early, late in zip(limits, reversed(limits), strict=True):
        assert early == pytest.approx(late, abs=0.03), "a film and its reverse are as likely"


def test_what_does_not_change_says_nothing_of_what_does(fresh):
    for change, still in (("mood", "clip_x"), ("place", "clip_expression")):
        one, other = (
            [getattr(film, still) for film in fresh if film.change_to == to]
            for to in postcards.DIRECTIONS[change]
        )
        reach = postcards.CLIP_RANGE["place" if still == "clip_x" else "mood"]
        assert abs(sum(one) / len(one) - sum(other) / len(other)) < 0.2 * reach


def test_the_truth_is_always_possible(fresh):
    for film in fresh[::3]:
        for frame in range(postcards.CLIP_FRAMES):
            assert video.chances(film, frame).get(film.summary, 0) > 0


def test_who_knows_the_kind_of_change_still_guesses_the_direction(fresh):
    for change in postcards.CHANGES:
        films = [film for film in fresh if film.change == change]
        for frame in range(postcards.CLIP_FRAMES):
            sure = 0.0
            for film in films:
                texts = _sentences(film)
                own = [p for text, p in video.chances(film, frame).items() if text in texts]
                sure += max(own) / sum(own)
            assert sure / len(films) < 0.83, (change, frame)


def _sentences(film):
    """All that may be said of a film when this is what changes."""
    if film.change == "weather":
        pairs = itertools.permutations(postcards.WEATHERS, 2)
        return {postcards.summary_of(film.colour, a, "weather", b) for a, b in pairs}
    ways = postcards.DIRECTIONS[film.change]
    return {postcards.summary_of(film.colour, film.weather, film.change, to) for to in ways}


@pytest.mark.parametrize("frame", [0, 1, 3, 6, 7])
def test_chances_are_the_shares_that_come_true(frame, fresh):
    """Of the sentences that are said to have a chance near p, a share of p is true."""
    said = [(p, text == film.summary) for film in fresh
            for text, p in video.chances(film, frame).items()]  # fmt: skip
    assert sum(p for p, _ in said) == pytest.approx(len(fresh))
    for low, high in ((0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.6)):
        near = [(p, true) for p, true in said if low <= p < high]
        if len(near) > 150:
            expected, came = (sum(column) / len(near) for column in zip(*near, strict=True))
            assert came == pytest.approx(expected, abs=4 * (expected / len(near)) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("frame", [0, 3])
def test_no_reader_of_one_frame_passes_its_limit(frame, fresh):
    """A strong one tries, from all that is visible, with 3,000 films to learn from."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def visible(films):
        rows = []
        for film in films:
            shown = postcards.frame_of(film, frame)
            shares = dict.fromkeys(postcards.WEATHERS, 0.0)
            shares[film.weather] = 1 - shown.blend
            if film.change == "weather":
                shares[film.change_to] = shown.blend
            rows.append([shown.expression, shown.face_x, *shares.values()])
        answers = [film.summary.removeprefix(f"the {film.colour} ") for film in films]
        return rows, answers

    cards = postcards.draw(3000, seed=32)
    reader = HistGradientBoostingClassifier(max_iter=12, random_state=0)
    reader.fit(*visible([postcards.with_clip(card, 4) for card in cards]))
    limit = video.expected(fresh, frame)
    noise = (limit / len(fresh)) ** 0.5
    assert 0.7 * limit < reader.score(*visible(fresh)) < limit + 2 * noise


def test_a_fade_and_its_reverse_are_the_same_pictures(fresh):
    """To the last bit: no rounding tells a mixture of rain and snow from one of snow and rain."""
    for film in [film for film in fresh if film.change == "weather"][:6]:
        last = postcards.CLIP_FRAMES - 1
        reverse = replace(
            film, weather=film.change_to, change_to=film.weather, clip_from=last - film.clip_until,
            clip_until=last - film.clip_from, clip_light=(film.clip_light + last) % 2,
        )  # fmt: skip
        for one, other in zip(postcards.clip(film), reversed(postcards.clip(reverse)), strict=True):
            assert one.tobytes() == other.tobytes()


def test_two_weathers_half_and_half_are_a_coins_throw(fresh):
    halves = [film for film in fresh if film.change == "weather"
              and film.clip_until - film.clip_from == 2]  # fmt: skip
    for film in halves[:20]:
        chances = video.chances(film, film.clip_from + 1)
        assert list(chances.values()) == pytest.approx([1 / 2, 1 / 2])
        assert set(chances) == {video.retold(film, backwards, False) for backwards in (0, 1)}


# The model


def test_the_mean_forgets_the_order_and_the_gru_does_not():
    torch.manual_seed(0)
    frames = torch.randn(5, 8, video.FRAME)
    shuffled = video.shuffle_frames(frames)
    mean, gru = video.FilmEncoder(order=False).eval(), video.FilmEncoder().eval()
    assert torch.allclose(mean(frames), mean(shuffled), atol=1e-5)
    assert not torch.allclose(gru(frames), gru(shuffled), atol=1e-2)


@pytest.mark.parametrize("order", [True, False])
def test_every_parameter_learns(order):
    torch.manual_seed(0)
    model = video.Summariser(20, order=order)
    prefix = torch.randint(4, 20, (6, 1, 5))
    scores = model({"frames": torch.randn(6, 8, video.FRAME), "prefix": prefix})
    assert scores.shape == (6, 1, 5, 20)
    writing.next_word_loss(scores, prefix).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_shuffled_frames_hurt_and_backwards_is_the_opposite(films, features):
    model, vocabulary = stored.load("summariser")
    told = writing.exact(video.summarise(model, features, vocabulary), films.summaries)
    shuffled = video.summarise(model, video.shuffle_frames(features), vocabulary)
    backwards = video.summarise(model, features.flip(1), vocabulary)
    opposite = [video.retold(card, True, False) for card in films.cards]
    assert told.float().mean() > 0.85
    assert writing.exact(shuffled, films.summaries).float().mean() < 0.5
    assert writing.exact(backwards, films.summaries).float().mean() < 0.1
    assert writing.exact(backwards, opposite).float().mean() > 0.85
