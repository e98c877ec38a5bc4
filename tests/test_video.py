"""video.py: frames, their order, and the sentence about them."""

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


# The limit of one frame


@pytest.mark.slow
def test_the_limit_of_one_frame_is_what_can_be_worked_out():
    cards = datasets.load_postcards("all", parts=()).cards
    first, middle, last = (video.single_frame_limit(cards, k, 4) for k in (0, 3, 7))
    # first frame: all places are told, one weather in four, and moods are told but for films of
    # the weather, whose faces may look the same: between 1/3 + 1/12 + 1/6 and 1/3 + 1/12 + 1/3
    assert 1 / 3 + 1 / 12 + 1 / 6 < first < 1 / 3 + 1 / 12 + 1 / 3
    assert last == pytest.approx(first, abs=0.03)
    # middle: all weathers are told; mood or place, and which way, is a guess among four at worst
    assert 1 / 3 + 2 / 3 / 4 < middle < 0.85
    assert middle > first


def test_the_limit_of_one_frame_by_hand(monkeypatch):
    """Five films: the first three look alike, and two of them are told alike."""
    card = postcards.with_clip(postcards.draw(1, 0)[0], 0)
    films = [
        ("mood", "happier", 0.50, 0.001), ("mood", "happier", 0.54, -0.001),
        ("place", "left", 0.47, 0.004), ("place", "right", 0.60, 0.0), ("place", "left", 0.5, 0.02),
    ]  # fmt: skip

    def shown(film, frame):
        *_, expression, place = films[int(film.name)]
        return postcards.Frame(expression, place, 0.0)

    def filmed(card, draw):
        change, to, *_ = films[draw]
        return replace(card, name=str(draw), change=change, change_to=to)

    monkeypatch.setattr(postcards, "with_clip", filmed)
    monkeypatch.setattr(postcards, "frame_of", shown)
    assert video.single_frame_limit([card], frame=0, draws=5) == pytest.approx(4 / 5)
    assert video.single_frame_limit([card] * 3, frame=0, draws=3) == pytest.approx(2 / 3)


def test_a_frame_shows_the_mixture_of_its_weathers(monkeypatch):
    """Two films of the weather are told apart when both weathers show, whatever the order."""
    card = replace(postcards.draw(1, 0)[0], weather="sun")
    changes = {"rain": 0.0, "snow": 0.0}
    monkeypatch.setattr(
        postcards, "with_clip",
        lambda card, draw: replace(card, change="weather", change_to=list(changes)[draw]),
    )  # fmt: skip
    for blend, limit in ((0.0, 1 / 2), (0.3, 1.0), (1.0, 1.0)):
        monkeypatch.setattr(
            postcards, "frame_of", lambda film, k, blend=blend: postcards.Frame(0.1, 0.0, blend)
        )
        assert video.single_frame_limit([card], frame=3, draws=2) == limit


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
