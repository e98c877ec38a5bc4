"""From sound to words: speech recognition, alone and with the picture's help (lesson 09).

The first part is connectionist temporal classification (CTC) by hand; the second prepares sound and
noise; the third is the recogniser.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mbm_lab import arguments, captioning, datasets, postcards, preprocessing, stored, training
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import PAD
from mbm_lab.stored import Result

BLANK = PAD
"""The number of the blank, CTC's "no new word here"; it is also the padding of the targets."""
LONGEST_SECONDS = 4.0
"""The longest recording that the recogniser takes: training heard at most this much."""
LOWEST_PITCH, HIGHEST_PITCH = 70.0, 400.0
"""Between these, in hertz, a voice's pitch is looked for."""

# --- CTC by hand


def collapse(path: Sequence[int]) -> list[int]:
    """What a path says: repeated numbers become one, then the blanks go.

    [0, 5, 5, 0, 5] says [5, 5] (Graves et al., 2006).
    """
    return [word for word, _ in itertools.groupby(path) if word != BLANK]


def paths_of(target: Sequence[int], frames: int, words: int) -> list[tuple[int, ...]]:
    """All paths of `frames` numbers below `words` that say the target.

    There are words ** frames paths to look at, so this is for small cases only. Raises ValueError
    when there is no frame or no word.
    """
    arguments.check_count("frames", frames, 1, 4)
    arguments.check_count("words", words, 1, 3)
    wanted = list(target)
    every = itertools.product(range(words), repeat=frames)
    return [path for path in every if collapse(path) == wanted]


def ctc_log_likelihood(log_p: Tensor, target: Sequence[int]) -> Tensor:
    """log p(target): the sum over all paths that say it, without listing them.

    log_p: (T, V), the log probability of every word at each frame. The forward recursion of Graves
    et al. (2006): a table over the target with a blank before, between and after its words, whose
    row t holds the log probability of all beginnings of paths that have reached each place.
    Raises ValueError for another shape, and for words that log_p does not have.
    """
    if log_p.ndim != 2 or len(log_p) == 0 or not log_p.is_floating_point():
        raise ValueError(
            f"ctc_log_likelihood needs log probabilities (T, V), and got {tuple(log_p.shape)} of "
            f"{arguments.dtype(log_p)}: pass one recording's, such as log_p[0]."
        )
    if len(target) > 0:
        arguments.check_tokens(
            "ctc_log_likelihood", torch.as_tensor(target)[None], log_p.shape[1]
        )
    places = [BLANK]
    for word in target:
        places += [word, BLANK]
    alpha = log_p.new_full((len(places),), -math.inf)
    alpha[:2] = log_p[0, places[:2]]
    for now in log_p[1:]:
        before = alpha.clone()
        for s, word in enumerate(places):
            ways = [before[s]]  # stay
            if s >= 1:
                ways.append(before[s - 1])  # go on by one
            if s >= 2 and word not in (BLANK, places[s - 2]):
                ways.append(before[s - 2])  # jump over a blank
            alpha[s] = torch.stack(ways).logsumexp(0) + now[word]
    return alpha[-2:].logsumexp(0)  # the path ends on the last word or on the blank after it


def ctc_loss(log_p: Tensor, target: Tensor) -> Tensor:
    """nn.CTCLoss for whole batches: log_p (B, T, V), target (B, L) padded with 0.

    The mean over the batch of -log p(target), each divided by its number of words. Raises
    ValueError for other shapes, and for words that log_p does not have.
    """
    if log_p.ndim != 3 or len(log_p) == 0 or len(log_p) != len(target):
        raise ValueError(
            f"ctc_loss needs log probabilities (B, T, V) and as many targets (B, L), and got "
            f"{tuple(log_p.shape)} and {tuple(target.shape)}: pass as many of each."
        )
    arguments.check_tokens("ctc_loss", target, log_p.shape[2])
    frames = torch.full((len(log_p),), log_p.shape[1], dtype=torch.long)
    return nn.functional.ctc_loss(
        log_p.transpose(0, 1), target, frames, preprocessing.lengths(target), blank=BLANK,
        zero_infinity=True,
    )  # fmt: skip


def greedy_words(log_p: Tensor) -> list[list[int]]:
    """The likeliest number at each frame, collapsed: (B, T, V) to B lists of words. Raises
    ValueError for another shape."""
    if log_p.ndim != 3:
        raise ValueError(
            f"greedy_words needs log probabilities (B, T, V), and got {tuple(log_p.shape)}: for "
            "one recording, write log_p[None]."
        )
    return [collapse(path) for path in log_p.argmax(2).tolist()]


# --- Sound and noise


def seeded_generator(purpose: str) -> torch.Generator:
    """A generator of its own for each purpose, so that no two noises are the same."""
    return torch.Generator().manual_seed(random.Random(purpose).getrandbits(63))


def add_noise(waveform: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """Adds white noise, `snr_db` decibels weaker than the sound: (T,) to (T,).

    The signal-to-noise ratio in decibels is 10 · log10(power of the sound / power of the noise): at
    0 dB both are equally strong.
    """
    check_sound(waveform)
    arguments.check_number("snr_db", snr_db, -10)
    power = waveform.square().mean()
    noise = torch.randn(waveform.shape, generator=generator)
    return waveform + noise * (power / 10 ** (snr_db / 10)).sqrt()


def check_sound(waveform: Tensor) -> None:
    """Raises ValueError unless this is the sound of one channel, (T,) fractions."""
    arguments.check_tensor("The recording", waveform)
    if waveform.ndim != 1 or not waveform.is_floating_point():
        whole = "" if waveform.is_floating_point() else ", and waveform.float() / 32768 of int16"
        raise arguments.ArgumentError(
            f"A recording is one channel of samples between -1 and 1, (T,) as float32, and this is "
            f"{arguments.dtype(waveform)} of shape {arguments.shape(waveform)}: load it with "
            f"preprocessing.read_audio{whole}."
        )
    arguments.check_finite("The recording's samples", waveform)


def check_recording(waveform: Tensor) -> None:
    """Raises ValueError for a recording that is silent, or longer than training ever heard; and
    as `check_sound`."""
    check_sound(waveform)
    seconds = len(waveform) / preprocessing.SAMPLE_RATE
    if seconds > LONGEST_SECONDS:
        raise ValueError(
            f"The recording is {seconds:.1f} s long, and training heard at most "
            f"{LONGEST_SECONDS:.0f} s: cut it into shorter pieces."
        )
    if len(waveform) == 0 or waveform.abs().max() < 1e-4:
        raise ValueError(
            "The recording is silent: check the microphone, or the file, and record it again."
        )


def mels_of(waveforms: Sequence[Tensor]) -> dict[str, Tensor]:
    """Mel pictures of recordings: {"mel": powers (N, 40, T) padded with 0, "frames": (N,), "power":
    (N,)}.

    The powers are those whose logarithm is `preprocessing.log_mel`; "power" is the mean square of
    each waveform, for adding noise. Raises ValueError when there is none, and as `check_recording`
    does.
    """
    arguments.check_lists("mels_of", waveforms=waveforms)
    for waveform in waveforms:
        check_recording(waveform)
    mels = [preprocessing.log_mel(waveform).exp() for waveform in waveforms]
    frames = torch.tensor([mel.shape[1] for mel in mels])
    padded = torch.zeros(len(mels), len(mels[0]), int(frames.max()))
    for row, mel in zip(padded, mels, strict=True):
        row[:, : mel.shape[1]] = mel
    power = torch.stack([waveform.square().mean() for waveform in waveforms])
    return {"mel": padded, "frames": frames, "power": power}


@cache
def white_noise() -> Tensor:
    """Mel powers of half a minute of white noise of variance 1, for training: (40, 3001)."""
    generator = seeded_generator("training noise")
    noise = torch.randn(30 * preprocessing.SAMPLE_RATE, generator=generator)
    return preprocessing.log_mel(noise).exp()


def distort(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """An `augment`: other voices and worse microphones, out of the ones at hand.

    Shifts the bands of each recording up or down by at most two (a smaller or larger mouth),
    stretches the time by up to 15 % (a slower or faster speaker), adds white noise of 15 to -12 dB
    to every second recording, and blots out six bands and one moment (Park et al., 2019). Powers
    add up, so the noise is added to the mel powers.
    """
    count, here = len(inputs["mel"]), inputs["mel"].device

    def draw(low: float, high: float, *size: int) -> Tensor:
        return (low + (high - low) * torch.rand(size, generator=generator)).to(here)

    mel = inputs["mel"][:, :, : int(inputs["frames"].max())]
    bands = torch.arange(40, device=here) - draw(-2, 3, count, 1).floor().long()  # (B, 40)
    mel = mel.gather(1, bands.clamp(0, 39)[:, :, None].expand_as(mel))
    stretch = float(draw(0.85, 1.15))
    mel = nn.functional.interpolate(mel, scale_factor=stretch, mode="linear")
    frames = (inputs["frames"] * stretch).long().clamp(max=mel.shape[2])
    noise = white_noise().to(here)
    start = int(draw(0, noise.shape[1] - mel.shape[2]))
    strength = inputs["power"] / 10 ** (draw(-12, 15, count) / 10) * (draw(0, 1, count) < 1 / 2)
    mel = mel + strength[:, None, None] * noise[:, start : start + mel.shape[2]]
    usual = (mel + 1e-6).log().mean(2, keepdim=True).exp()  # (B, 40, 1): says nothing
    band = int(draw(0, 35))
    mel[:, band : band + 6] = usual[:, band : band + 6]
    moment = int(draw(0, mel.shape[2] - 8))
    mel[:, :, moment : moment + 8] = usual
    return {**inputs, "mel": mel, "frames": frames}


# --- The recogniser


class Recogniser(nn.Module):
    """Mel powers of speech to words.

    {"mel": (B, 40, T), "frames": (B,)} to log probabilities (B, T / 8, V) of every word and the
    blank, one row every 80 ms. Three convolutions over time, with stride 2 each, find sounds; a GRU
    that reads in both directions finds words. After a recording's end the blank is certain.
    """

    def __init__(self, vocabulary_size: int):
        super().__init__()
        self.sounds = nn.ModuleList(
            nn.Sequential(nn.Conv1d(n, 80, 5, stride=2, padding=2), nn.BatchNorm1d(80), nn.ReLU())
            for n in (40, 80, 80)
        )
        self.gru = nn.GRU(80, 64, batch_first=True, bidirectional=True)
        self.out = nn.Linear(128, vocabulary_size)

    def states(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The GRU's states (B, T / 8, 128), and where a recording is over (B, T / 8)."""
        x, length = log_standardised(inputs["mel"], inputs["frames"]), inputs["frames"]
        for convolution in self.sounds:
            x, length = convolution(x), (length + 1) // 2
            over = torch.arange(x.shape[2], device=x.device) >= length[:, None]
            x = x.masked_fill(over[:, None], 0)  # so that what follows a recording is never heard
        packed = pack_padded_sequence(
            x.transpose(1, 2), length.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=x.shape[2]
        )
        return states, over

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        states, over = self.states(inputs)  # (B, T / 8, 128) and (B, T / 8)
        return _silent_after(self.out(states), over)  # (B, T / 8, V)


class WithPicture(nn.Module):
    """v = f + β g: a trained recogniser that stays as it is, and what the picture says.

    f = log p(word | sound), the recogniser's. g = log p(word | picture) - log p(word), at every
    moment the same, and 0 for words that no picture shows. With β = 1 this is Bayes' rule for two
    independent witnesses. The inputs are those of `Recogniser`, and "image" (B, 48); without a
    picture (image = 0) g is 0. alone: the recogniser; a new one if None.
    """

    def __init__(self, vocabulary_size: int, alone: Recogniser | None = None):
        super().__init__()
        self.alone = Recogniser(vocabulary_size) if alone is None else alone
        self.picture = nn.Linear(captioning.FEATURES, vocabulary_size, bias=False)
        self.register_buffer("usual", torch.full((vocabulary_size,), UNSHOWN))  # log p(word)
        self.beta = nn.Parameter(torch.ones(1))
        nn.init.zeros_(self.picture.weight)
        self.alone.requires_grad_(False)
        self.picture.requires_grad_(False)

    def said_by_picture(self, image: Tensor) -> Tensor:
        """g: features (B, 48) to what the picture says for or against each word (B, V)."""
        log_p = (self.usual + self.picture(image)).log_softmax(1)
        return (log_p - self.usual).masked_fill(self.usual == UNSHOWN, 0)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        f, g = self.alone(inputs), self.said_by_picture(inputs["image"])
        return (f + self.beta * g[:, None]).log_softmax(2)


UNSHOWN = -1e4
"""In place of log p(word), for words that no picture shows."""


def _silent_after(scores: Tensor, over: Tensor) -> Tensor:
    """Scores (B, T, V) as log probabilities; where a recording is over, the blank is certain."""
    certain = torch.full_like(scores[0, 0], -1e4)
    certain[BLANK] = 0.0
    return torch.where(over[..., None], certain, scores.log_softmax(2))


def log_standardised(mel: Tensor, frames: Tensor) -> Tensor:
    """The logarithm of mel powers (B, 40, T), each band of each recording with mean 0 and standard
    deviation 1 over its frames (B,).

    This takes away the loudness, and a part of the voice and of the noise. Padding becomes 0.
    Raises ValueError for other shapes.
    """
    if mel.ndim != 3 or frames.shape != mel.shape[:1]:
        raise ValueError(
            f"log_standardised needs mel powers (B, 40, T) and frames (B,), and got "
            f"{tuple(mel.shape)} and {tuple(frames.shape)}: pass what mels_of gives."
        )
    inside = torch.arange(mel.shape[2], device=mel.device) < frames[:, None]  # (B, T)
    inside = inside[:, None].to(mel.dtype)  # (B, 1, T)
    count = frames[:, None, None].to(mel.dtype)
    x = (mel + 1e-6).log() * inside
    x = (x - x.sum(2, keepdim=True) / count) * inside
    deviation = (x.square().sum(2, keepdim=True) / count).sqrt()
    return x / deviation.clamp(min=1e-3)


# --- Which words go wrong

THINGS = {
    "colour": list(postcards.COLOURS),
    "object": sorted({noun.split()[-1] for noun, _ in postcards.OBJECTS.values()}),
    "weather": [phrase.split()[-1] for phrase, _ in postcards.WEATHERS.values()],
    "mood": list(postcards.MOOD_WORDS),
}
"""The words for each kind of thing that a picture shows: 28 in all."""

WORD_KINDS = {
    "shown": {word for words in THINGS.values() for word in words},
    "not shown": {word.lower() for word in (*postcards.NUMBERS, *postcards.NAMES)},
}
"""Words of a note that the picture shows, and words that it cannot show; all others are "small"."""


def align(true: Sequence[str], written: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (true word, written word) with the fewest errors; "" where one is missing.

    Levenshtein's distance (1966): each wrong, missing or surplus word costs 1. Raises ValueError
    for a text, which must be cut into words first.
    """
    for name, words in {"true": true, "written": written}.items():
        if isinstance(words, str):
            raise ValueError(f"align compares words, and {name} is a text: write {name}.split().")
    cost = [[i + j for j in range(len(written) + 1)] for i in range(len(true) + 1)]
    for i, a in enumerate(true, 1):
        for j, b in enumerate(written, 1):
            cost[i][j] = min(cost[i - 1][j - 1] + (a != b), cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    pairs, i, j = [], len(true), len(written)
    while i or j:
        same = i and j and cost[i][j] == cost[i - 1][j - 1] + (true[i - 1] != written[j - 1])
        if same:
            i, j = i - 1, j - 1
            pairs.append((true[i], written[j]))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            pairs.append((true[i], ""))
        else:
            j -= 1
            pairs.append(("", written[j]))
    return pairs[::-1]


def error_rates(written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """The word error rate, and for each kind of word the share that is wrong or missing.

    "all": by torchmetrics, wrong, missing and surplus words divided by the number of true words.
    Raises ValueError unless there are as many true texts as written ones, with a word among them.
    """
    arguments.check_texts("error_rates", written=written, true=true)
    if not any(text.split() for text in true):
        raise ValueError("error_rates counts errors in true words, and there is none: pass some.")
    from torchmetrics.functional.text import word_error_rate

    wrong, count = dict.fromkeys(WORD_KINDS, 0), dict.fromkeys(WORD_KINDS, 0)
    for ours, theirs in zip(written, true, strict=True):
        for word, heard in align(theirs.split(), ours.split()):
            for kind, words in WORD_KINDS.items():
                if word in words:
                    count[kind] += 1
                    wrong[kind] += word != heard
    rates = {"all": float(word_error_rate(list(written), list(true)))}
    return rates | {kind: wrong[kind] / max(1, count[kind]) for kind in WORD_KINDS}


# --- The voice as a third witness of the mood


def pitch(waveform: Tensor) -> float:
    """The median pitch in hertz of a voice, (T,) samples, by autocorrelation; NaN without a voice.

    A voiced sound repeats itself: shifted by one period it looks the same. For each 40 ms the shift
    with the largest correlation is taken (Rabiner, 1977), where it is above one half. Raises
    ValueError as `check_sound` does, and when the sound is shorter than 40 ms.
    """
    check_sound(waveform)
    if len(waveform) < 640:
        raise ValueError(
            f"pitch needs at least 640 samples (40 ms), and got {len(waveform)}: record more."
        )
    size, rate = 640, preprocessing.SAMPLE_RATE
    pieces = waveform[: len(waveform) // size * size].view(-1, size)
    pieces = pieces - pieces.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(pieces, 2 * size)
    correlation = torch.fft.irfft(spectrum.abs().square())[:, :size]  # (pieces, shift)
    correlation = correlation / correlation[:, :1].clamp(min=1e-9)
    first, last = int(rate / HIGHEST_PITCH), int(rate / LOWEST_PITCH)
    best, shift = correlation[:, first:last].max(1)
    voiced = best > 0.5
    if not bool(voiced.any()):
        return math.nan
    return float(rate / (first + shift[voiced]).float().median())


def pace(waveform: Tensor, text: str) -> float:
    """Letters a second, from the first loud moment of the (T,) samples to the last.

    Raises ValueError when there is no such time, and for a text without letters.
    """
    check_sound(waveform)
    if not isinstance(text, str) or not any(letter.isalpha() for letter in text):
        raise ValueError(f"pace counts letters, and the text is {text!r}: pass what is said.")
    loud = (waveform.abs() > 0.01).nonzero()[:, 0]
    if len(loud) < 2:
        raise ValueError("pace hears no voice, the recording is silent: record it again.")
    seconds = (loud[-1] - loud[0]).item() / preprocessing.SAMPLE_RATE
    return sum(letter.isalpha() for letter in text) / seconds


def best_weights(readings: Tensor, m: Tensor) -> Tensor:
    """The exact best weights of K readings (K, N) of the moods m (N,), and the intercept: (K + 1,).

    Least squares, as `fusion.best_weights`, for any number of witnesses. Raises ValueError for
    other shapes, and for NaN (a voice without a pitch).
    """
    arguments.check_tensor("readings", readings)
    if readings.ndim != 2:
        raise ValueError(
            f"best_weights needs readings (K, N), one row a witness, and got "
            f"{arguments.shape(readings)}: write torch.stack([f, g, …])."
        )
    for row in readings:
        arguments.check_readings("best_weights", readings=row, m=m)
    columns = torch.cat([readings, torch.ones_like(readings[:1])]).double().T  # (N, K + 1)
    return torch.linalg.lstsq(columns, m.double()).solution


# --- Trained models

NOISE = -10
"""The exam's signal-to-noise ratio in decibels, chosen on validation notes: of the words that a
picture shows, speech alone loses about half there, and more in new voices."""


def noted(split: str) -> datasets.Postcards:
    """The cards of a split that have a spoken note, with pictures and notes."""
    cards = datasets.load_postcards(split, parts=("image", "note"))
    return cards.subset([i for i, note in enumerate(cards.notes) if note is not None])


def train_recogniser(
    model: Recogniser | WithPicture,
    cards: datasets.Postcards,
    image: Tensor,
    vocabulary: preprocessing.Vocabulary,
    epochs: int,
    seed: int = 0,
) -> training.History:
    """The recipe of lesson 09, for speech alone (130 epochs, more than a second each), and for the
    one number β of a `WithPicture` (20 epochs, on notes that its recogniser never heard).

    image (N, 48): features of the pictures; a Recogniser does not look at them.
    """
    inputs = mels_of(cards.notes) | {"image": image}
    target = preprocessing.pad([vocabulary.encode(text.split()) for text in cards.note_texts])
    return training.fit(
        model, inputs, target, ctc_loss, epochs=epochs, batch_size=32, learning_rate=1e-2,
        one_cycle=True, clip_norm=0.5, augment=distort, seed=seed,
    )  # fmt: skip


def train_picture(
    model: WithPicture,
    cards: datasets.Postcards,
    image: Tensor,
    vocabulary: preprocessing.Vocabulary,
) -> None:
    """Fits what the picture says, without any sound: image (N, 48), the features of N cards.

    Softmax regression, 300 steps of Adam. Each thing that a card shows is as likely as the others
    to be named.
    """
    target = torch.zeros(len(cards), len(vocabulary))
    for row, card in zip(target, cards.cards, strict=True):
        words = vocabulary.encode(list(postcards.things_shown(card).values()))
        row[words] = 1 / len(words)
    here = device_of(model)
    image, target = image.to(here), target.to(here)
    share = target.mean(0)
    model.usual.copy_(share.log().where(share > 0, UNSHOWN))
    model.picture.requires_grad_(True)
    optimizer = torch.optim.Adam(model.picture.parameters(), lr=0.02)
    for _ in range(300):
        loss = nn.functional.cross_entropy(model.usual + model.picture(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.picture.requires_grad_(False)


def recognise(
    model: nn.Module,
    waveforms: Sequence[Tensor],
    image: Tensor,
    vocabulary: preprocessing.Vocabulary,
) -> list[str]:
    """Writes what was said in each recording, greedily; image (N, 48).

    Raises ValueError for a recording that is silent or too long, and unless there are as many
    pictures as recordings.
    """
    arguments.check_dims("recognise", image=image)
    arguments.check_lists("recognise", waveforms=waveforms, image=image)
    log_p = training.predict(model, mels_of(waveforms) | {"image": image})
    return [" ".join(vocabulary.decode(words)) for words in greedy_words(log_p)]


def retrain(seed: int, epochs: int = 130) -> list[stored.Model]:
    """The recogniser of `data/weights`, trained anew: alone, then the picture, then β (three
    minutes).

    `stored.load("recogniser")` gives both: the whole is a `WithPicture`, its `alone` is the other.
    """
    cards, held_out = noted("train"), noted("val")
    vocabulary = preprocessing.Vocabulary.build([text.split() for text in cards.note_texts])
    pictures = datasets.load_postcards("train", parts=("image",))
    features = captioning.image_features(pictures.images, seed)
    with seeded(seed):
        alone = Recogniser(len(vocabulary))
        helped = WithPicture(len(vocabulary), alone)
    train_recogniser(alone.requires_grad_(True), cards, features[: len(cards)], vocabulary, epochs,
                     seed)  # fmt: skip
    alone.requires_grad_(False)
    train_picture(helped, pictures, features, vocabulary)
    seen = captioning.image_features(held_out.images, seed)
    train_recogniser(helped, held_out, seen, vocabulary, max(1, epochs * 2 // 13), seed)
    return [stored.Model("recogniser", helped, {"vocabulary_size": len(vocabulary)}, vocabulary)]


# --- How good is it?


def noisy(cards: datasets.Postcards, snr_db: float, seed: int = 0) -> list[Tensor]:
    """The cards' notes with white noise at this signal-to-noise ratio, each with its own. Raises
    ValueError as `add_noise` does, and for a seed that is no whole number."""
    arguments.check_seed(seed)
    return [
        add_noise(note, snr_db, seeded_generator(f"{seed}/{name}/noise"))
        for name, note in zip(cards.names, cards.notes, strict=True)
    ]


def picture_words(
    model: WithPicture, image: Tensor, vocabulary: preprocessing.Vocabulary
) -> list[dict[str, str]]:
    """The likeliest word of each kind for each picture, image (N, 48); the likeliest kind first.

    Raises ValueError when these are no such features.
    """
    arguments.check_dims("picture_words", image=image)
    with training.evaluating(model):
        score = (model.usual + model.picture(image.to(device_of(model)))).cpu()
    guesses = []
    for row in score:
        of = {w: row[vocabulary.encode([w])[0]].item() for ws in THINGS.values() for w in ws}
        best = {kind: max(words, key=of.get) for kind, words in THINGS.items()}
        kinds = sorted(best, key=lambda kind: -of[best[kind]])
        guesses.append({kind: best[kind] for kind in kinds})
    return guesses


def paste(heard: Sequence[str], guesses: Sequence[dict[str, str]]) -> list[str]:
    """A rival without training: each thing that was heard gives way to the picture's word of the
    same kind, "for ana hat and rain" to "for ana bat and rain". Raises ValueError unless there are
    as many guesses as texts."""
    arguments.check_texts("paste", heard=heard)
    arguments.check_lists("paste", heard=heard, guesses=guesses)
    kind_of = {word: kind for kind, words in THINGS.items() for word in words}
    return [
        " ".join(guess[kind_of[word]] if word in kind_of else word for word in text.split())
        for text, guess in zip(heard, guesses, strict=True)
    ]


ORDERS = 20
"""Over so many orders of the pictures the exam's shuffled row is a mean."""


def rivals(
    helped: WithPicture,
    cards: datasets.Postcards,
    vocabulary: preprocessing.Vocabulary,
    image: Tensor,
    snr_db: float,
) -> dict[str, list[str]]:
    """What each way of reading writes of noisy notes: {way: N texts}; image (N, 48)."""
    log_p = training.predict(helped.alone, mels_of(noisy(cards, snr_db)))  # (N, T / 8, V)
    with training.evaluating(helped):
        g = helped.said_by_picture(image.to(device_of(helped))).to(log_p.device)[:, None]
    beta = helped.beta.item()
    guesses = picture_words(helped, image, vocabulary)

    def write(scores: Tensor) -> list[str]:
        return [" ".join(vocabulary.decode(words)) for words in greedy_words(scores)]

    alone = write(log_p)
    generator = seeded_generator("orders")
    orders = [torch.randperm(len(cards), generator=generator) for _ in range(ORDERS)]
    return {
        "alone": alone,
        "picture only": [" and ".join(list(guess.values())[:2]) for guess in guesses],
        "pasted": paste(alone, guesses),
        "the sum": write(log_p + g),
        "with the picture": write(log_p + beta * g),
        "shuffled pictures": [t for order in orders for t in write(log_p + beta * g[order])],
    }


def quality(
    helped: WithPicture,
    cards: datasets.Postcards,
    vocabulary: preprocessing.Vocabulary,
    seed: int = 0,
) -> list[Result]:
    """What a recogniser, alone and with the picture, reaches on test notes, in voices that training
    never heard. seed: that of lesson 06's captioner, whose features it sees."""
    features, true = captioning.image_features(cards.images, seed), cards.note_texts
    texts = rivals(helped, cards, vocabulary, features, NOISE)
    texts["clean"] = recognise(helped.alone, cards.notes, features, vocabulary)
    cheap, results = ("alone", "picture only", "pasted"), []
    for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
        rows = chosen.nonzero()[:, 0].tolist()
        spoken, rates = [true[i] for i in rows], {}
        for way, written in texts.items():
            rounds = range(0, len(written), len(true))  # one for each order of the pictures
            ours = [written[start + i] for start in rounds for i in rows]
            rates[way] = error_rates(ours, spoken * len(rounds))
        results.append(Result(f"WER, clean, {name}", rates["clean"]["all"], at_most=0.15))
        for kind, label, bound in (("all", "WER", 0.30), ("shown", "words shown wrong", 0.40)):
            for way in (*cheap, "the sum", "shuffled pictures"):
                what = f"{label}, {way}, {name}"
                results.append(Result(what, rates[way][kind], at_most=math.inf))
            rival = min(cheap, key=lambda way: rates[way][kind])
            best, ours = rates[rival][kind], rates["with the picture"][kind]
            what = f"{label}, with the picture, {name}"
            results.append(Result(what, ours, -math.inf, bound, best, rival, 0.0))
            what = f"{label}, fewer than {'/'.join(cheap)}, {name}"
            results.append(Result(what, best - ours, at_least=0.02))
        lost = rates["with the picture"]["shown"] - rates["the sum"]["shown"]
        results.append(Result(f"words shown wrong, more than the sum, {name}", lost, at_most=0.05))
        harm = rates["with the picture"]["not shown"] - rates["alone"]["not shown"]
        results.append(Result(f"harm to words not shown, {name}", harm, at_most=0.03))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored recogniser of this seed (0, 1 or 2) reaches on test notes."""
    helped, vocabulary = stored.load("recogniser", seed)
    return quality(helped, noted("test"), vocabulary, seed)
