"""The course's own functions on real data, and on a folder of one's own (lesson 12).

The first part pairs spoken with written digits; the second makes real photographs, sentences and
albums ready for the models of lessons 06, 07 and 10.
"""

from __future__ import annotations

import copy
import csv
import math
import random
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import (
    albums,
    arguments,
    atomic,
    cnn,
    datasets,
    fusion,
    preprocessing,
    retrieval,
    speech,
    stored,
    training,
)
from mbm_lab.device import seeded

# --- Digits, spoken and written

SECONDS = 1.0
"""Of every recording the first second is heard; shorter ones are filled up with silence."""
SPEECH_NOISE = -10.0
"""The noise over every recording: its signal-to-noise ratio in decibels."""
PIXEL_NOISE = 1.0
"""The noise over every picture: its standard deviation, where white is 1 and black is 0."""
DIGIT_MODALITIES = ("image", "sound")
HELD_OUT = ("theo", "yweweler")
"""The two speakers whom the harder test keeps out of training."""
DIM = 32
EPOCHS = 8
BUDGET = 6_000
"""Parameters of a fusion and its head, so that all fusions have as many (lesson 04)."""

DIGIT_FUSIONS = {
    "weighted sum": fusion.WeightedSum,
    "concat": fusion.Concat,
    "dot product": fusion.DotProduct,
    "gated": fusion.Gated,
    "low-rank": fusion.LowRankTensor,
    "cross-attention": fusion.CrossAttention,
}


@dataclass(frozen=True)
class Pairs:
    """N digits, each seen and heard."""

    inputs: dict[str, Tensor]  # "image" and "sound", (N, 3, 64, 64) each
    digits: Tensor  # (N,) int64
    speakers: list[str]

    def subset(self, chosen: Tensor) -> Pairs:
        """The pairs for which `chosen` (N,) is true."""
        places = chosen.nonzero()[:, 0]
        inputs = {name: values[places] for name, values in self.inputs.items()}
        return Pairs(inputs, self.digits[places], [self.speakers[i] for i in places.tolist()])


def stream(what: str, seed: int | str) -> torch.Generator:
    """A source of random numbers for this purpose alone: another `what`, or another seed, gives
    numbers that have nothing to do with these."""
    return torch.Generator().manual_seed(zlib.crc32(f"{what}, seed {seed}".encode()))


def sound_pictures(sounds: Sequence[Tensor], snr_db: float, seed: int | str = 0) -> Tensor:
    """Recordings in noise as pictures: their log-mel, (N, 3, 64, 64).

    The first second of each, with noise `snr_db` decibels weaker than the voice (lesson 09). Each
    log-mel is scaled to mean 0.5 and standard deviation 0.25, about what pictures have.
    Raises ValueError for what is no sound, or silent.
    """
    if not math.isfinite(snr_db):
        raise ValueError(f"The signal-to-noise ratio is {snr_db}: give a number of decibels.")
    if len(sounds) == 0:
        raise ValueError("There are no sounds to make pictures of: give at least one.")
    for place, sound in enumerate(sounds):
        preprocessing.check_sound(sound, "sound_pictures")
        if not sound.any():
            raise ValueError(f"Sound {place} is silent, and no noise is weaker than that: leave it "
                             "out.")  # fmt: skip
    generator = stream("noise over sounds", seed)
    length = int(SECONDS * preprocessing.SAMPLE_RATE)
    mels = []
    for sound in sounds:
        second = torch.zeros(length)
        second[: len(sound)] = sound[:length]
        mel = preprocessing.log_mel(speech.add_noise(second, snr_db, generator))
        mels.append(0.5 + 0.25 * (mel - mel.mean()) / mel.std())
    return datasets.as_pictures(torch.stack(mels)[:, None])


def noisy_pictures(images: Tensor, sd: float, seed: int | str = 0) -> Tensor:
    """Grey images (N, 1, 28, 28) in noise as pictures (N, 3, 64, 64).

    sd: the noise's standard deviation. Each is scaled to mean 0.5 and standard deviation 0.25.
    Raises ValueError for whole numbers, for another shape, and for noise below 0.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"noisy_pictures needs fractions (N, 1, H, W), and got {images.dtype} of shape "
            f"{tuple(images.shape)}: convert them with images.float() / 255."
        )
    if not 0 <= sd < math.inf:
        raise ValueError(f"The noise's standard deviation is {sd}: give a number from 0.")
    noise = torch.randn(images.shape, generator=stream("noise over pictures", seed))
    noisy = images + sd * noise
    mean, scale = noisy.mean((1, 2, 3), keepdim=True), noisy.std((1, 2, 3), keepdim=True)
    return datasets.as_pictures(0.5 + 0.25 * (noisy - mean) / scale)


def pair_digits(
    split: str,
    repeats: int = 1,
    seed: int = 0,
    picture_noise: float = PIXEL_NOISE,
    speech_noise: float = SPEECH_NOISE,
    whole: bool = False,
) -> Pairs:
    """AV-MNIST rebuilt: each spoken digit of a split, with written ones of the same digit.

    (After Vielzeuf et al., 2018, who paired other recordings.) split: "train", "val" or "test" of
    the sample that comes with the course; with whole=True "train" or "test" of all of MNIST and
    FSDD. repeats: so many pictures for each recording; a picture comes again, in other noise, when
    there are too few. Both are degraded, by noise of the standard deviation `picture_noise` and of
    the signal-to-noise ratio `speech_noise` in decibels. Every noise is of its own: no two splits,
    and no picture and sound, share one.

    Raises as `datasets.load_digit_sample`, or `datasets.load_mnist` and
    `datasets.load_spoken_digits`.
    """
    if whole:
        (images, written), spoken = datasets.load_mnist(split), datasets.load_spoken_digits(split)
    else:
        images, written, spoken = datasets.load_digit_sample(split)
    arguments.check_count("repeats", repeats)
    own = f"{split} {seed}"
    generator = stream("pairing", own)
    digits = spoken.digits.repeat(repeats)
    places = torch.empty_like(digits)
    for digit in range(10):
        wanted = digits == digit
        found = (written == digit).nonzero()[:, 0]
        if wanted.any() and not len(found):
            raise ValueError(f"No picture shows the digit {digit}, which is spoken: fetch the data "
                             "set again.")  # fmt: skip
        order = found[torch.randperm(len(found), generator=generator)]
        places[wanted] = order[torch.arange(int(wanted.sum())) % len(order)]  # again, if too few
    sounds = spoken.sounds * repeats  # each time in other noise
    inputs = {
        "image": noisy_pictures(images[places], picture_noise, own),
        "sound": sound_pictures(sounds, speech_noise, own),
    }
    return Pairs(inputs, digits, spoken.speakers * repeats)


def among(speakers: Sequence[str], names: Sequence[str], wanted: bool) -> Tensor:
    """Where the speaker is one of these names (or, with wanted=False, is none): (N,) bool."""
    return torch.from_numpy(np.isin(speakers, names) == wanted)


def first_recordings(pairs: Pairs, each: int) -> Tensor:
    """Where the recording is one of the first `each` that its speaker made of its digit: (N,) bool.

    So a training set of more speakers can be made as small as one of fewer speakers. pairs: as
    `pair_digits` gives them for the sample's training recordings, six of each.
    """
    count = len(datasets.SAMPLE_RECORDINGS["train"])
    seen: dict[tuple[str, int], int] = {}
    chosen = []
    for speaker, digit in zip(pairs.speakers, pairs.digits.tolist(), strict=True):
        number = seen.get((speaker, digit), 0)
        seen[speaker, digit] = number + 1
        chosen.append(number % count < each)
    return torch.tensor(chosen)


def new_reader(modalities: Sequence[str], fused: type[nn.Module]) -> fusion.MultimodalModel:
    """An untrained model of digits: lesson 02's encoder for each modality, a fusion of lesson 04,
    and a head with ten scores."""
    encoders = {name: cnn.ImageEncoder(DIM) for name in modalities}
    together = fused(tuple(modalities), DIM)
    return fusion.MultimodalModel(
        encoders, together, fusion.matched_head(together, BUDGET, outputs=10)
    )


def only(modalities: Sequence[str], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of these modalities."""
    return {name: inputs[name] for name in modalities}


def train_reader(
    model: fusion.MultimodalModel,
    pairs: Pairs,
    epochs: int = EPOCHS,
    seed: int = 0,
    learning_rate: float = 5e-3,
) -> training.History:
    """The recipe for digits: a third of a second an epoch and modality for 720 pairs on one
    thread."""
    return training.fit(
        model,
        only(list(model.encoders), pairs.inputs),
        pairs.digits,
        nn.functional.cross_entropy,
        epochs=epochs,
        learning_rate=learning_rate,
        one_cycle=True,
        seed=seed,
    )


class LogProbabilities(nn.Module):
    """A trained reader of one modality as an encoder: its ten log-probabilities.

    (B, 3, 64, 64) to (B, 10). reader: is copied, so that it stays as it is.
    """

    def __init__(self, reader: fusion.MultimodalModel):
        super().__init__()
        (self.modality,) = reader.encoders
        self.reader = copy.deepcopy(reader)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.reader({self.modality: inputs}).log_softmax(1)  # (B, 10)


def add_readers(readers: Sequence[fusion.MultimodalModel]) -> fusion.MultimodalModel:
    """v = αf + βg of trained readers, one a modality, where f and g are their log-probabilities and
    v are the scores of the ten digits.

    α = β = 1 to begin with: nothing is trained. If, given the digit, the two witnesses are
    independent and each digit is as frequent as any other, this is the rule of Bayes (Kittler and
    others, On Combining Classifiers, 1998: the product rule).
    """
    encoders = {}
    for reader in readers:
        one = LogProbabilities(reader)
        encoders[one.modality] = one
    together = fusion.WeightedSum(tuple(encoders), 10)
    return fusion.MultimodalModel(encoders, together, nn.Identity())


def fit_weights(model: fusion.MultimodalModel, pairs: Pairs) -> None:
    """Learns α and β of `add_readers` on pairs that the readers have not seen, and nothing else.

    The cross-entropy of ten scores that are linear in α and β is convex: Newton-like steps (L-BFGS)
    find its one lowest point.
    """
    inputs = only(list(model.encoders), pairs.inputs)
    features = {name: training.predict(model.encoders[name], x) for name, x in inputs.items()}
    weights = torch.ones(len(features), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")
    both = torch.stack([features[name] for name in model.fusion.letters])  # (M, N, 10)

    def loss() -> Tensor:
        optimizer.zero_grad()
        v = (weights[:, None, None] * both).sum(0)
        error = nn.functional.cross_entropy(v, pairs.digits)
        error.backward()
        return error

    optimizer.step(loss)
    with torch.no_grad():
        for letter, weight in zip(model.fusion.letters.values(), weights, strict=True):
            getattr(model.fusion, letter).copy_(weight)


def answers(model: fusion.MultimodalModel, pairs: Pairs) -> Tensor:
    """The digit that the model reads in each pair: (N,)."""
    return training.predict(model, only(list(model.encoders), pairs.inputs)).argmax(1)


def accuracy(model: fusion.MultimodalModel, pairs: Pairs) -> float:
    """The share of digits that the model reads rightly."""
    return (answers(model, pairs) == pairs.digits).float().mean().item()


# --- Photographs, sentences, albums


class ColourGrid(nn.Module):
    """An encoder without anything to learn: the mean colours of 16 fields.

    (B, 3, 64, 64) to (B, 48), about between -1 and 1. It shows what an encoder has to be: any
    nn.Module that turns pictures into (B, dim).
    """

    def forward(self, images: Tensor) -> Tensor:
        fields = nn.functional.adaptive_avg_pool2d(images, 4)  # (B, 3, 4, 4)
        return 2 * fields.flatten(1) - 1


def short_pairs(
    pairs: tuple[list[str], list[str]], most: int | None = None
) -> tuple[list[str], list[str]]:
    """The pairs of sentences of 3 to 12 words, English and German; of them the first `most`.

    (Real data hold rubbish: some lines of Multi30k are nothing but "@@".)
    """
    kept = [
        (english, german)
        for english, german in zip(*pairs, strict=True)
        if 3 <= len(preprocessing.tokenize(english)) <= 12
        and 3 <= len(preprocessing.tokenize(german, "de")) <= 12
    ][:most]
    return [english for english, _ in kept], [german for _, german in kept]


def search_model(
    encoder: nn.Module, album: albums.Album, steps: int = 200, seed: int = 0
) -> tuple[retrieval.DualEncoder, preprocessing.Vocabulary]:
    """Lesson 07's dual encoder, trained on an album: every caption with its picture.

    encoder: gives the pictures' features, (B, dim); it stays as it is. steps: of training, at
    least; a small album goes by more often. Returns the model and the words that it knows.
    """
    captions = [preprocessing.spaced(one) for several in album.captions for one in several]
    picture = torch.tensor([i for i, several in enumerate(album.captions) for _ in several])
    vocabulary = preprocessing.Vocabulary.build([preprocessing.tokenize(c) for c in captions])
    features = training.predict(encoder, album.images)
    with seeded(seed):
        model = retrieval.DualEncoder(len(vocabulary), features=features.shape[1])
    epochs = math.ceil(steps / math.ceil(len(captions) / retrieval.BATCH))
    retrieval.train_dual_encoder(
        model, features[picture], captions, vocabulary, epochs=epochs, seed=seed, same=picture
    )
    return model, vocabulary


def album_recall(
    model: retrieval.DualEncoder,
    vocabulary: preprocessing.Vocabulary,
    encoder: nn.Module,
    album: albums.Album,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[int, tuple[float, float]]:
    """How often a caption finds its picture among the first k: {k: (recall, chance)}. In an album
    of fewer than k pictures all are found."""
    gallery = retrieval.image_vectors(model, training.predict(encoder, album.images))
    captions = [preprocessing.spaced(one) for several in album.captions for one in several]
    wanted = [name for name, several in zip(album.names, album.captions, strict=True)
              for _ in several]  # fmt: skip
    tokens = preprocessing.text_to_tensor(captions, vocabulary).to(gallery.device)
    queries = retrieval.text_vectors(model, tokens)
    found = retrieval.search(queries, gallery, min(max(ks), len(album)))
    return {
        k: (
            retrieval.recall(found, album.names, wanted, k).float().mean().item(),
            retrieval.chance(album.names, wanted, min(k, len(album))),
        )
        for k in ks
    }


def album_gallery(album: albums.Album) -> retrieval.Gallery:
    """An album as lesson 07's gallery; each picture comes with a phrase of the next one's caption
    as a wish."""
    captions = [several[0] for several in album.captions]
    wishes = [retrieval.Wish(retrieval.phrases(next_one)[-1], next_one)
              for next_one in [*captions[1:], captions[0]]]  # fmt: skip
    return retrieval.Gallery(album.images, captions, wishes, torch.ones(len(album)).bool())


# --- How good is it?


def shuffled_accuracy(model: fusion.MultimodalModel, pairs: Pairs, orders: int = 20) -> float:
    """The share of digits read rightly when the sounds are those of other pairs: a mean over so
    many orders. model: of `add_readers`."""
    f, g = (training.predict(model.encoders[name], pairs.inputs[name]) for name in DIGIT_MODALITIES)
    generator, right = stream("orders", 0), 0.0
    for _ in range(orders):
        order = torch.randperm(len(g), generator=generator).to(g.device)
        right += ((f + g[order]).argmax(1) == pairs.digits).float().mean().item()
    return right / orders


def surer_accuracy(model: fusion.MultimodalModel, pairs: Pairs) -> float:
    """The share of digits read rightly when, of each pair, only the reader counts that is surer of
    its answer. model: of `add_readers`."""
    both = torch.stack([training.predict(model.encoders[name], pairs.inputs[name])
                        for name in DIGIT_MODALITIES])  # fmt: skip
    likely, digits = both.max(2)  # (2, N) each
    chosen = likely.argmax(0)
    return (digits[chosen, torch.arange(len(chosen))] == pairs.digits).float().mean().item()


def exam(seed: int) -> list[stored.Result]:
    """What lesson 12 reaches for one seed on the sample of digits that comes with the course.

    Each modality alone; their readers added without training, with α and β learned, and trained on
    together; every fusion trained from nothing; voices held out. The models are trained here, which
    takes about a minute and a half.
    """
    train_pairs, val_pairs = pair_digits("train", 2, seed), pair_digits("val", 1, seed)
    test_pairs = pair_digits("test", 4, seed)
    new = test_pairs.subset(among(test_pairs.speakers, HELD_OUT, True))
    few = train_pairs.subset(among(train_pairs.speakers, HELD_OUT, False))
    many = train_pairs.subset(first_recordings(train_pairs, 4))
    readers = _single_readers(train_pairs, seed)
    alone = {f"{name} alone": accuracy(one, test_pairs)
             for name, one in zip(DIGIT_MODALITIES, readers, strict=True)}  # fmt: skip
    results = [stored.Result(what, right) for what, right in alone.items()]
    added = add_readers(readers)
    rivals = {**alone, "the surer reader": surer_accuracy(added, test_pairs)}

    def compared(what: str, right: float, **bounds: float) -> stored.Result:
        rival = max(rivals, key=rivals.__getitem__)
        return stored.Result(what, right, baseline=rivals[rival], rival=rival, **bounds)

    untrained = accuracy(added, test_pairs)
    results.append(compared("readers added, untrained", untrained, at_least=0.78))
    mixed = shuffled_accuracy(added, test_pairs)
    results.append(stored.Result("readers added, sounds shuffled", mixed, at_most=0.50))
    rivals["readers added, untrained"] = untrained
    fit_weights(added, val_pairs)
    learned = accuracy(added, test_pairs)
    results.append(compared("readers added, α and β learned", learned, at_least=0.78))
    for name, fused in DIGIT_FUSIONS.items():
        model = _trained(DIGIT_MODALITIES, fused, train_pairs, seed)
        results.append(compared(f"{name}, trained from nothing", accuracy(model, test_pairs)))
    for who, pairs in (("known", many), ("new", few)):
        readers = _single_readers(pairs, seed)
        results.append(stored.Result(f"sound alone, {who} speakers", accuracy(readers[1], new)))
        both = accuracy(add_readers(readers), new)
        results.append(stored.Result(f"readers added, {who} speakers", both))
    return results


def _single_readers(pairs: Pairs, seed: int) -> list[fusion.MultimodalModel]:
    """One trained reader for each modality."""
    return [_trained((name,), fusion.WeightedSum, pairs, seed) for name in DIGIT_MODALITIES]


def _trained(
    modalities: Sequence[str], fused: type[nn.Module], pairs: Pairs, seed: int
) -> fusion.MultimodalModel:
    """A new reader, trained."""
    with seeded(seed):
        model = new_reader(modalities, fused)
    train_reader(model, pairs, seed=seed)
    return model


# --- A table of one's own


def example_table(count: int = 450, seed: int = 0) -> Path:
    """Writes `count` postcards into a new folder, as a table of one's own could be: cards.csv with
    the columns photo, message and mood, beside it the pictures in `photos`. Raises ValueError for
    more than there are, OSError when there is no room."""
    cards = datasets.load_postcards("test", parts=()).cards
    arguments.check_count("count", count, most=len(cards))
    table = [["photo", "message", "mood"]]
    with atomic.new_folder("mbm-table-") as folder:
        (folder / "photos").mkdir()
        for card in random.Random(seed).sample(cards, count):
            shutil.copy(datasets.POSTCARDS / "images" / f"{card.name}.png", folder / "photos")
            table.append([f"{card.name}.png", card.message, f"{card.mood:.3f}"])
        with (folder / "cards.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(table)
    return folder
