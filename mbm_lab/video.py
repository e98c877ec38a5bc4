"""From a film to one sentence (lesson 08).

Each frame goes through the convolutions of lesson 06's encoder, which stay as they are; a GRU reads
the frames in their order; the decoder of lesson 06 writes what changed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbm_lab import (
    arguments,
    captioning,
    cnn,
    datasets,
    postcards,
    preprocessing,
    stored,
    training,
    writing,
)
from mbm_lab.device import device_of, seeded
from mbm_lab.stored import Result

FRAME = 512
"""Numbers that `frame_features` gives for a frame: 32 maps of 4 x 4."""

OPPOSITE = {"happier": "sadder", "sadder": "happier", "left": "right", "right": "left"}

# --- Frames


def differences(frames: Tensor) -> Tensor:
    """What changes from each frame to the next: (T, …) to (T - 1, …).

    Raises ValueError when there is only one frame, in which nothing can change, and for uint8,
    which has no negative numbers.
    """
    arguments.check_tensor("frames", frames)
    if not frames.is_floating_point():
        raise ValueError(
            f"differences needs fractions (float32), and frames hold {arguments.dtype(frames)}: "
            f"write {arguments.as_float('frames', frames)}."
        )
    _check_length(len(frames))
    return frames[1:] - frames[:-1]


def _check_length(frames: int) -> None:
    if frames < 2:
        raise ValueError(
            f"A film needs at least two frames, and this one has {frames}: in a single picture "
            "nothing changes. Take two or more; lesson 06 describes pictures."
        )


class FrameEncoder(nn.Module):
    """The convolutions of a trained picture encoder, averaged over 2 x 2 places: (B, 3, 64, 64) to
    (B, 512).

    Unlike the encoder's last layer, the maps still tell where something is.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.convolutions = encoder.convolutions

    def forward(self, images: Tensor) -> Tensor:
        cnn.check_shape("FrameEncoder", images)
        arguments.check_pictures("FrameEncoder", images)
        maps = self.convolutions(preprocessing.normalise(images))  # (B, 32, 8, 8)
        return nn.functional.avg_pool2d(maps, 2).flatten(1)  # (B, 512)


def frame_features(clips: Tensor, seed: int = 0) -> Tensor:
    """Each frame of each film through the `FrameEncoder`: (N, T, 3, 64, 64) to (N, T, 512).

    Raises ValueError when the films have one frame, and for pictures as `cnn.ImageEncoder` does.
    """
    arguments.check_tensor("clips", clips)
    if clips.ndim != 5:
        raise ValueError(f"Films have the shape (N, T, 3, 64, 64), and not {tuple(clips.shape)}: "
                         "pass torch.stack(clips).")
    _check_length(clips.shape[1])
    captioner, _ = stored.load("captioner", seed)
    encoder = FrameEncoder(captioner.encoder)
    return training.predict(encoder, clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


# --- The model


class FilmEncoder(nn.Module):
    """Features of frames (B, T, 512) to one vector (B, 48): a GRU reads them in their order.

    order=False takes the mean over the frames instead, which forgets the order.
    Raises ValueError when there is one frame.
    """

    def __init__(self, order: bool = True):
        super().__init__()
        self.look = nn.Sequential(nn.Linear(FRAME, 48), nn.LayerNorm(48))
        self.gru = nn.GRU(48, 64, batch_first=True) if order else None
        self.project = nn.Linear(64 if order else 48, captioning.FEATURES)
        self.norm = nn.LayerNorm(captioning.FEATURES)

    def forward(self, frames: Tensor) -> Tensor:
        _check_length(frames.shape[1])
        seen = self.look(frames)  # (B, T, 48)
        if self.gru is None:
            h = seen.mean(1)  # (B, 48)
        else:
            _, last = self.gru(seen)
            h = last[0]  # (B, 64)
        return self.norm(self.project(h))  # (B, 48)


class Summariser(nn.Module):
    """Films and prefixes to scores of the next words, as `captioning.Captioner`.

    {"frames": (B, T, 512), "prefix": (B, K, W)} to (B, K, W, V).
    """

    def __init__(self, vocabulary_size: int, order: bool = True):
        super().__init__()
        self.encoder = FilmEncoder(order)
        self.decoder = captioning.Decoder(vocabulary_size)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        prefix = inputs["prefix"]  # (B, K, W)
        film = self.encoder(inputs["frames"])  # (B, 48)
        film = film.repeat_interleave(prefix.shape[1], 0)  # (B * K, 48)
        return self.decoder(film, prefix.flatten(0, 1)).unflatten(0, prefix.shape[:2])


def summarise(model: Summariser, frames: Tensor, vocabulary: preprocessing.Vocabulary) -> list[str]:
    """Writes one sentence for each film (N, T, 512).

    Raises ValueError when the films have one frame.
    """
    arguments.check_tensor("frames", frames)
    arguments.check_finite("The frames", frames)
    film = training.predict(model.encoder, frames).to(device_of(model.decoder))
    return writing.write(model.decoder, model.decoder.start(film), vocabulary, "en")


# --- Films, turned around


def filmed(cards: datasets.Postcards) -> datasets.Postcards:
    """The cards that have a film."""
    return cards.subset([i for i, card in enumerate(cards.cards) if card.change])


def retold(card: postcards.Card, backwards: bool, mirrored: bool) -> str:
    """The summary of a card's film that is played backwards, mirrored, or both.

    Backwards every change is its own reverse; in a mirror left is right.
    """
    start, to = card.weather, card.change_to
    if card.change == "weather":
        start, to = (to, start) if backwards else (start, to)
    elif card.change == "mood":
        to = OPPOSITE[to] if backwards else to
    else:
        to = OPPOSITE[to] if backwards != mirrored else to
    return postcards.summary_of(card.colour, start, card.change, to)


def turned_around(
    clips: Tensor, cards: Sequence[postcards.Card], seed: int = 0
) -> tuple[Tensor, list[str]]:
    """Every film four times, with true summaries: as it is, backwards, mirrored, both.

    clips (N, T, 3, 64, 64) to features (4 N, T, 512) and 4 N sentences. Raises ValueError unless
    there are as many cards as films.
    """
    arguments.check_lists("turned_around", clips=clips, cards=cards)
    plain, mirror = frame_features(clips, seed), frame_features(clips.flip(-1), seed)
    features = torch.cat([plain, plain.flip(1), mirror, mirror.flip(1)])
    sentences = [
        retold(card, backwards, mirrored)
        for mirrored in (False, True)
        for backwards in (False, True)
        for card in cards
    ]
    return features, sentences


def shuffle_frames(frames: Tensor, seed: int = 0) -> Tensor:
    """Each film's frames in an order of its own: (N, T, …). Raises ValueError for one frame."""
    arguments.check_tensor("frames", frames)
    arguments.check_seed(seed)
    if frames.ndim < 3:
        raise ValueError(
            f"shuffle_frames needs films (N, T, …), and got {tuple(frames.shape)}: write "
            "film[None] for one film."
        )
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(frames.shape[:2], generator=generator).argsort(1)  # (N, T)
    return frames[torch.arange(len(frames))[:, None], orders]


# --- What one frame can tell


def chances(film: postcards.Card, frame: int) -> dict[str, float]:
    """Bayes' rule on one frame: how probable each sentence is for who sees this frame alone.

    Reads off the frame exactly what it shows (`postcards.frame_of`: the expression, the face's
    place, the mixture of weathers), and knows how films are drawn (`postcards.with_clip`). What
    else is on a card was drawn without regard to the film, and tells nothing. Raises ValueError
    when the film has no such frame, and when the card has no film.
    """
    arguments.check_choice("frame", frame, range(postcards.CLIP_FRAMES))
    if not film.change:
        raise ValueError(f"The card {film.name} has no film: choose cards with video.filmed.")
    shown = postcards.frame_of(film, frame)
    seen = {"mood": shown.expression, "place": shown.face_x}
    shares = {film.weather: 1.0}
    if film.change == "weather":
        shares = {film.weather: 1 - shown.blend, film.change_to: shown.blend}
    shares = {weather: share for weather, share in shares.items() if share > 0}

    def told(change: str, start: str, to: str) -> str:
        return postcards.summary_of(film.colour, start, change, to)

    still = {change: _still_density(change, value) for change, value in seen.items()}
    scores = {}
    for change, other in (("mood", "place"), ("place", "mood")):
        for to in postcards.DIRECTIONS[change]:
            score = _density(change, to, seen[change], frame) * still[other] / 2
            scores[told(change, film.weather, to)] = score if len(shares) == 1 else 0.0
    both = still["mood"] * still["place"] / (len(postcards.WEATHERS) - 1)
    for start, to in itertools.permutations(postcards.WEATHERS, 2):
        if set(shares) <= {start, to}:
            share = shares.get(to, 0.0)  # of the new weather
            times = [p for done, p in _times(frame) if math.isclose(done, share, abs_tol=1e-6)]
            scores[told("weather", start, to)] = both * sum(times)
    total = sum(scores.values())
    return {sentence: score / total for sentence, score in scores.items() if score > 0}


def single_frame_limit(cards: Sequence[postcards.Card], frame: int, draws: int = 12) -> float:
    """How often the best possible reader of one frame says what changes.

    Draws `draws` films for each card, and takes the `expected` share over them.
    Raises ValueError when there is no card, and as `chances` does.
    """
    arguments.check_lists("single_frame_limit", cards=cards)
    arguments.check_count("draws", draws, 1, 12)
    return expected([postcards.with_clip(card, n) for card in cards for n in range(draws)], frame)


def expected(films: Sequence[postcards.Card], frame: int) -> float:
    """In what share of these films the best reader of one frame can expect to be right.

    It says what is most probable by Bayes' rule (`chances`), and is right with that probability.
    Raises ValueError when there is no film, and as `chances` does.
    """
    arguments.check_lists("expected", films=films)
    return sum(max(chances(film, frame).values()) for film in films) / len(films)


@functools.cache
def _times(frame: int) -> list[tuple[float, float]]:
    """For each time of a change: the share of it that is over in this frame, its probability."""
    times = []
    for span in postcards.CLIP_SPANS:
        starts = postcards.CLIP_FRAMES - span
        for start in range(starts):
            done = min(1.0, max(0.0, (frame - start) / span))
            times.append((done, 1 / (len(postcards.CLIP_SPANS) * starts)))
    return times


def _density(change: str, to: str, value: float, frame: int) -> float:
    """How probable an expression or a place is in this frame of a film in which it changes."""
    half = postcards.CLIP_STEP[change] / 2
    reach = postcards.CLIP_RANGE[change] - half  # of the middle, which is uniform
    direction = postcards.clip_direction(to)
    middles = [(value - direction * half * (2 * done - 1), p) for done, p in _times(frame)]
    return sum(p for middle, p in middles if abs(middle) <= reach + 1e-4) / (2 * reach)


def _still_density(change: str, value: float) -> float:
    """How probable an expression or a place is in a film in which something else changes."""
    ways = postcards.DIRECTIONS[change]
    return sum(_density(change, to, value, 0) for to in ways) / len(ways)


# --- Trained models


def train_summariser(
    model: Summariser,
    features: Tensor,
    sentences: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    epochs: int = 20,
    seed: int = 0,
) -> training.History:
    """The recipe of lesson 08: ten seconds for 2,560 films on one thread.

    Raises ValueError unless there are as many sentences as films.
    """
    arguments.check_texts("train_summariser", sentences=sentences)
    arguments.check_lists("train_summariser", features=features, sentences=sentences)
    prefix, target = writing.teacher_forcing([("en", sentences)], vocabulary)
    return training.fit(
        model,
        {"frames": features, "prefix": prefix},
        target,
        writing.next_word_loss,
        epochs=epochs,
        batch_size=32,
        learning_rate=5e-3,
        one_cycle=True,
        seed=seed,
    )


def two_frames(features: Tensor, sentences: Sequence[str], new: Tensor) -> list[str]:
    """Summaries without a GRU: one logistic regression, which sees the first frame and what has
    changed until the last, and chooses among the sentences that it knows.

    features (N, T, 512) of the films with these N sentences; new (M, T, 512): M sentences.
    Three seconds for 2,560 films. Raises ValueError unless there are as many sentences as films.
    """
    arguments.check_texts("two_frames", sentences=sentences)
    arguments.check_lists("two_frames", features=features, sentences=sentences)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ends, new_ends = (
        torch.cat([films[:, 0], films[:, -1] - films[:, 0]], dim=1).cpu().numpy()
        for films in (features, new)
    )
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=5e-4))
    return reader.fit(ends, list(sentences)).predict(new_ends).tolist()


def retrain(seed: int, epochs: int = 20) -> list[stored.Model]:
    """The summariser of `data/weights`, trained anew (15 seconds)."""
    cards = filmed(datasets.load_postcards("train", parts=("clip",)))
    vocabulary = writing.build_vocabulary([("en", cards.summaries)])
    features, sentences = turned_around(torch.stack(cards.clips), cards.cards, seed)
    with seeded(seed):
        model = Summariser(len(vocabulary))
    train_summariser(model, features, sentences, vocabulary, epochs, seed)
    return [stored.Model("summariser", model, {"vocabulary_size": len(vocabulary)}, vocabulary)]


# --- How good is it?


def quality(
    model: Summariser,
    features: Tensor,
    cards: datasets.Postcards,
    vocabulary: preprocessing.Vocabulary,
    rival: Sequence[str] | None = None,
) -> list[Result]:
    """What one model reaches on test films, of seen and unseen combinations.

    rival: what `two_frames` says of these films. The limit is 1: every film's first and last frame
    differ in what the sentence says.
    """
    right = writing.exact(summarise(model, features, vocabulary), cards.summaries).float()
    shuffled = summarise(model, shuffle_frames(features), vocabulary)
    shuffled = writing.exact(shuffled, cards.summaries).float()
    back = [retold(card, backwards=True, mirrored=False) for card in cards.cards]
    backwards = writing.exact(summarise(model, features.flip(1), vocabulary), back).float()
    theirs = None if rival is None else writing.exact(rival, cards.summaries).float()
    results = []
    for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
        against = {"limit": 1.0}
        if theirs is not None:
            against |= {"baseline": theirs[chosen].mean().item(), "rival": "two frames"}
        results += [
            Result(f"exact match, {name}", right[chosen].mean().item(), at_least=0.85, **against),
            Result(f"shuffled frames, {name}", shuffled[chosen].mean().item(), at_most=0.50),
            Result(f"backwards, told backwards, {name}", backwards[chosen].mean().item()),
        ]
    for change in postcards.CHANGES:
        chosen = torch.tensor([card.change == change for card in cards.cards])
        results.append(Result(f"exact match, change of {change}", right[chosen].mean().item()))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored summariser of this seed (0, 1 or 2) reaches on test films, and what one
    logistic regression reaches that sees two frames of each (six seconds)."""
    train, cards = (
        filmed(datasets.load_postcards(split, parts=("clip",))) for split in ("train", "test")
    )
    model, vocabulary = stored.load("summariser", seed)
    ends = torch.stack(train.clips)[:, [0, -1]]
    features = frame_features(torch.stack(cards.clips), seed)
    rival = two_frames(*turned_around(ends, train.cards, seed), features)
    return quality(model, features, cards, vocabulary, rival)
