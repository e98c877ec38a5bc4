"""v = αf + βg for few rows, in two steps: readings first, then their weights (lesson 12).

Networks that learn everything at once need thousands of rows. With a few hundred it is better to
let simple, robust features speak, to read the target off each modality alone, and to weigh the
readings afterwards:

1. Features: colours and edges of a picture, words and pairs of words of a text, loudness in bands
   of a sound, numbers as they are; or any function of your own.
2. Readings f, g, …: ridge regression (Hoerl and Kennard, 1970), for classes logistic regression;
   always of rows that the reader has not seen (out of fold).
3. α, β, …: least squares (`fusion.best_weights`), for classes maximum likelihood. This is stacking
   (Wolpert, 1992).

What "the best α and β" means is what it means in lesson 04: those of these readings, on rows that
their readers have not seen. A reading is already in the units of the target, so the weight of a
modality that speaks alone is about 1, and less where another modality says the same. The intervals
of α and β are the bootstrap's (Efron, 1979), over rows, or over groups of rows where there are
groups; they cover the best weights of the same readers on endlessly many new rows.

Everything that is fitted (means, vocabularies, penalties, readings, weights) is fitted without the
rows on which it is judged: for each fold k, readings of the other rows come from readers that have
seen neither these rows nor fold k, α and β from these readings, and v on fold k from α, β and
readers that have not seen fold k.
"""

from __future__ import annotations

import array
import functools
import hashlib
import importlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from mbm_lab import atomic, cnn, fusion, preprocessing, training
from mbm_lab.device import seeded
from mbm_lab.rows import shown
from mbm_lab.tables import Table

GREEK = ("α", "β", "γ", "δ", "ε")
"""The weights' names, in the order of a table's modalities."""
NOUNS = {"image": "picture", "text": "text", "sound": "sound", "clip": "clip", "numbers": "numbers"}

FOLDS = 5
FEW_ROWS = 200
"""Below this the report warns that the intervals are wide."""
FEW_GROUPS = 20
NETWORK_ROWS = 1_000
"""From so many rows on the networks of lesson 04 are tried as well."""
DRAWS = 1_000
"""So often the bootstrap draws the rows again."""
CLASS_DRAWS = 200
"""So often it does for the weights of classes, which take longer."""
SURE = 0.99
"""A gain counts when the interval of this confidence is above 0; all other intervals have 0.95."""
WORST = 10

Progress = Callable[[str, int, int], object]
"""progress(what is done, how much of it, of how much)."""
Encoder = Callable[[list], object] | nn.Module | str
"""Vectors (N, D) from a list of pictures (PIL) or texts; a network gets pictures (B, 3, 64, 64);
or a name such as "timm:resnet18"."""


# --- What comes out


class Interval(NamedTuple):
    """A number, and between which bounds it may be."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:z.2f} ({self.low:z.2f} to {self.high:z.2f})"


class Score(NamedTuple):
    """How good one way to predict is on rows that it has not seen: R², or accuracy for classes.

    name: "constant guess", "picture alone", …, "untrained sum", "v", and the networks' fusions.
    """

    name: str
    value: Interval
    rows: int


class Fitted(NamedTuple):
    """All that is needed to predict new rows: plain arrays, and words as JSON holds them.

    arrays: "image.coefficients" (D, C), "image.bias" (C,), what scales the features, "weights" (M,)
    and "intercept" (C,), where C is 1 for a number. facts: modalities, columns, target, classes,
    vocabularies, encoders.
    """

    arrays: dict[str, np.ndarray]
    facts: dict

    def tensors(self) -> dict[str, Tensor]:
        """The arrays as tensors, for `stored.save_tensors`."""
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in self.arrays.items()}

    def about(self) -> dict:
        """Everything else, as JSON can hold it."""
        return self.facts

    @classmethod
    def rebuild(cls, tensors: dict[str, Tensor], about: dict) -> Fitted:
        """The same model again, from `tensors` and `about`. Raises ValueError when parts lack, or
        are of another kind."""
        kinds = {"modalities": list, "columns": dict, "classes": list, "encoders": dict}
        if not isinstance(about, dict) or not all(
            isinstance(about.get(name), kind) for name, kind in kinds.items()
        ):
            raise ValueError("This is no model of a table: train it anew with `mbm-lab train`.")
        needed = {"weights", "intercept"} | {
            f"{modality}.{part}"
            for modality in about.get("modalities", [])
            for part in ("coefficients", "bias")
        }
        if not needed <= set(tensors):
            raise ValueError("This is no model of a table: train it anew with `mbm-lab train`.")
        return cls({name: tensor.numpy() for name, tensor in tensors.items()}, dict(about))


class Analysis(NamedTuple):
    """What an honest analyst found in a table of N rows.

    readings: f, g, … by modality, (N,), or (N, C) centred log-probabilities, of rows that the
    reader has not seen. v: (N,), or (N, C) probabilities; its weights come from other rows, too.
    weights and intercept: α, β, … fitted on the readings of all rows. gains: how much better v is
    than without a modality, than the "constant guess", and than the "untrained sum", with
    intervals of the confidence SURE; the best network, if any was trained, is among
    them. shuffled: what v loses when the readings of a modality are
    those of other rows: mean over many orders, and where 95 % of them lie. contributions: the
    standard deviation of αf, of βg, … (lesson 04). worst: the rows that v misses most.
    """

    table: Table
    readings: dict[str, Tensor]
    v: Tensor
    weights: dict[str, Interval]
    intercept: Tensor  # () or (C,)
    scores: list[Score]
    metric: str  # "R²" or "accuracy"
    gains: dict[str, Interval]
    shuffled: dict[str, Interval]
    contributions: dict[str, Interval]
    worst: list[int]
    sentences: list[str]
    folds: Tensor  # (N,): in which fold a row is
    model: Fitted


# --- Features

GRID = 4
CELL = 8
BANDS, STRETCHES = 20, 4
BATCH = 64
"""So many pictures or sounds are in memory at once."""


def picture_features(images: Tensor) -> Tensor:
    """Colours and edges: (B, 3, 64, 64) to (B, 816).

    The mean colours of 4 x 4 fields, and `cnn.edge_histograms` of squares of 8 pixels.
    """
    colours = nn.functional.adaptive_avg_pool2d(images, GRID).flatten(1)
    return torch.cat([colours, cnn.edge_histograms(images, CELL).flatten(1)], 1)


def sound_features(sound: Tensor) -> Tensor:
    """How loud it is, band by band: (T,) samples to (120,).

    Of the log-mel in 20 bands: mean and standard deviation over the time, and the means of four
    equal stretches.
    """
    n_fft = 400
    if len(sound) < n_fft * STRETCHES:
        sound = nn.functional.pad(sound, (0, n_fft * STRETCHES - len(sound)))
    mel = preprocessing.log_mel(sound, BANDS)  # (20, frames)
    stretches = nn.functional.adaptive_avg_pool1d(mel[None], STRETCHES)[0]
    return torch.cat([mel.mean(1), mel.std(1), stretches.flatten()])


def clip_features(clip: Tensor) -> Tensor:
    """First and last frame, and what moves between: (T, 3, 64, 64) to (1888,)."""
    moved = (clip[1:] - clip[:-1]).abs().mean(0) if len(clip) > 1 else torch.zeros_like(clip[0])
    ends = picture_features(torch.stack([clip[0], clip[-1]]))
    moved = nn.functional.adaptive_avg_pool2d(moved.mean(0)[None], 16)
    return torch.cat([ends.flatten(), moved.flatten()])


def _pil(path: Path) -> object:
    from PIL import Image

    return Image.fromarray(preprocessing.read_image(path).permute(1, 2, 0).contiguous().numpy())


def encoder_named(name: str) -> Callable[[list], np.ndarray]:
    """A pre-trained encoder by name: "timm:resnet18", "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "sentence-transformers:all-MiniLM-L6-v2".

    Returns a function from a list of pictures (PIL) or texts to (N, D). Raises ValueError for
    another name, ImportError when the package is not installed: the sentence says how to get it.
    """
    kind, _, model = name.partition(":")
    makers = {
        "timm": ("timm", _timm),
        "open_clip": ("open_clip_torch", _open_clip),
        "sentence-transformers": ("sentence-transformers", _sentence_transformer),
    }
    if kind not in makers or not model:
        raise ValueError(
            f'There is no encoder "{name}": write it like "timm:resnet18", '
            '"open_clip:ViT-B-32/laion2b_s34b_b79k" or "sentence-transformers:all-MiniLM-L6-v2".'
        )
    package, make = makers[kind]
    try:
        importlib.import_module(kind.replace("-", "_"))
    except ImportError:
        raise ImportError(
            f"The encoder {name} needs {package}, which is not installed: type `pip install "
            f"{package}`, or leave the encoder out."
        ) from None
    return make(model)


def _timm(model: str) -> Callable[[list], np.ndarray]:
    import timm

    network = timm.create_model(model, pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(network)
    ready = timm.data.create_transform(**config, is_training=False)

    @torch.no_grad()
    def encode(pictures: list) -> np.ndarray:
        return network(torch.stack([ready(picture) for picture in pictures])).numpy()

    return encode


def _open_clip(model: str) -> Callable[[list], np.ndarray]:
    import open_clip

    name, _, weights = model.partition("/")
    network, _, ready = open_clip.create_model_and_transforms(name, pretrained=weights or None)
    tokenizer = open_clip.get_tokenizer(name)
    network.eval()

    @torch.no_grad()
    def encode(inputs: list) -> np.ndarray:
        if isinstance(inputs[0], str):
            return network.encode_text(tokenizer(inputs)).numpy()
        return network.encode_image(torch.stack([ready(picture) for picture in inputs])).numpy()

    return encode


def _sentence_transformer(model: str) -> Callable[[list], np.ndarray]:
    from sentence_transformers import SentenceTransformer

    network = SentenceTransformer(model)
    return lambda texts: np.asarray(network.encode(list(texts)))


def features_of(
    table: Table,
    modality: str,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> np.ndarray | Counts:
    """What the rows say in one modality: (N, D) float32; of texts without an encoder the counts of
    their words.

    Files are read in batches of BATCH; with a memory each batch is kept, and not computed again. A
    file that cannot be read gives a row of NaN, which later counts as the mean.
    """
    memory = memory or Memory(None, "")
    if modality == "numbers":
        return table.numbers.numpy()
    if modality == "text" and encoder is None:
        return count_words(map(words, table.texts))
    if isinstance(encoder, str):
        encoder = encoder_named(encoder)
    parts = []
    for start in range(0, len(table), BATCH):
        if progress:
            progress(f"reading {_plural(modality)}", start, len(table))
        part = table.subset(range(start, min(start + BATCH, len(table))))
        make = functools.partial(_batch, part, modality, encoder)
        parts.append(memory.get(f"{modality}-{start:06}", make)["features"])
    if progress:
        progress(f"reading {_plural(modality)}", len(table), len(table))
    width = max(part.shape[1] for part in parts)
    parts = [p if p.shape[1] == width else np.full((len(p), width), np.nan, np.float32)
             for p in parts]  # fmt: skip
    return np.concatenate(parts)


def _plural(modality: str) -> str:
    return NOUNS[modality] if modality == "numbers" else f"{NOUNS[modality]}s"


LONGEST_TEXT = 1_000
"""So many words of a text are read."""
NEGATIONS = frozenset(
    "not no never nobody nothing none neither nor without cannot nicht nie niemals niemand nichts "
    "ohne kein keine keinen keinem keiner ne jamais rien sans nunca sin "
    "不 没 没有 无 非 别 未".split()
)
NEW_CLAUSE = frozenset(
    "and but or yet though although because while und aber oder doch obwohl weil denn et mais ou y "
    "pero o 而 但 但是 虽然 和 或".split()
)


def words(text: str) -> list[str]:
    """The words of a text in small letters, and each pair of neighbours as one word with a space.

    jieba cuts Chinese. A word behind a negation, up to the end of the clause, is another word:
    "not really boring" gives "not", "not:really", "not:boring" (Das and Chen, 2001; Pang, Lee and
    Vaithyanathan, 2002), since few rows are too few to learn what each pair of words means.
    """
    text = preprocessing.clean(text)
    language = "zh" if preprocessing.CHINESE.search(text) else "en"
    found, negated = [], False
    for word in preprocessing.segment(text, language)[:LONGEST_TEXT]:
        if not any(c.isalnum() for c in word) or word in NEW_CLAUSE:
            negated = False
        if any(c.isalnum() for c in word):
            found.append(f"not:{word}" if negated else word)
        if word in NEGATIONS or word.endswith(("n't", "n’t")):
            negated = True
    return found + [f"{a} {b}" for a, b in itertools.pairwise(found)]


def _batch(part: Table, modality: str, encoder: Encoder | None) -> dict[str, np.ndarray]:
    """The features of some rows."""
    if modality == "text":
        return {"features": _called(encoder, part.texts, len(part))}
    files = {"image": part.images, "sound": part.sounds, "clip": part.clips}[modality]
    pictures = isinstance(encoder, Callable) and not isinstance(encoder, nn.Module)
    read = {
        "image": _pil if pictures else preprocessing.load_image,
        "sound": _sound,
        "clip": preprocessing.read_clip,
    }[modality]
    inputs = []
    for file in files:
        try:
            inputs.append(read(file))
        except (ValueError, OSError):
            inputs.append(None)
    there = [one for one in inputs if one is not None]
    if not there:
        return {"features": np.full((len(part), 1), np.nan, np.float32)}
    if encoder is not None:
        batch = torch.stack(there) if isinstance(encoder, nn.Module) else there
        found = _called(encoder, batch, len(there))
    elif modality == "image":
        found = picture_features(torch.stack(there)).numpy()
    else:
        own = {"sound": sound_features, "clip": clip_features}[modality]
        found = torch.stack([own(one) for one in there]).numpy()
    features = np.full((len(part), found.shape[1]), np.nan, np.float32)
    features[[one is not None for one in inputs]] = found
    return {"features": features}


def _sound(path: Path) -> Tensor:
    return preprocessing.read_audio(path, say=lambda _: None)


@torch.no_grad()
def _called(encoder: Callable, inputs: object, count: int) -> np.ndarray:
    """What an encoder of one's own gives, checked. Raises ValueError when it is not (N, D)."""
    if isinstance(encoder, nn.Module):
        found = training.predict(encoder, inputs)
    else:
        found = encoder(inputs)
    found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    try:
        found = found.astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            "An encoder must give numbers, one row of them for each input, and gave "
            f"{shown(repr(found))}: let it return a tensor (N, D)."
        ) from None
    if found.ndim == 1 and len(found) == count:
        found = found[:, None]
    if found.ndim != 2 or len(found) != count:
        raise ValueError(
            f"An encoder must give one row of numbers for each of its {count} inputs, (N, D), and "
            f"gave the shape {found.shape}: change what it returns."
        )
    found[~np.isfinite(found)] = np.nan
    return found


# --- What was done once is not done again


class Memory:
    """Keeps results in a folder, one file each, so that an interrupted analysis goes on.

    key: of the table and the settings; another key is another folder. Without a folder nothing is
    kept. A damaged file, or one of another program, is made anew: each has a checksum in it.
    """

    def __init__(self, folder: str | Path | None, key: str):
        self.folder = None if folder is None else Path(folder) / key

    def get(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays that `make` made under this name, now or before."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {part: file[part] for part in file.files}
            if found.pop(CHECKSUM).tobytes() == _checksum(name, found):
                return found
        except Exception:  # absent, or cut off: NumPy and zip raise many kinds
            pass
        made = make()
        atomic.make_folder(self.folder)

        def write(part: Path) -> None:
            with part.open("wb") as file:
                seal = np.frombuffer(_checksum(name, made), np.uint8)
                np.savez(file, **made, **{CHECKSUM: seal})

        atomic.write_whole(path, write)
        return made


CHECKSUM = "checksum"
"""The array of a kept file that says whether the others are as they were written."""


def _checksum(name: str, arrays: dict[str, np.ndarray]) -> bytes:
    sha = hashlib.sha256(name.encode())
    for part, values in sorted(arrays.items()):
        sha.update(f"{part} {values.dtype} {values.shape}".encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.digest()


def key_of(table: Table, encoders: dict[str, Encoder], folds: int = FOLDS, seed: int = 0) -> str:
    """A name for everything on which an analysis depends: rows, files, and settings."""
    sha = hashlib.sha256()

    def add(*values: object) -> None:
        sha.update("\0".join(map(str, values)).encode("utf-8", "surrogateescape") + b"\n")

    add("version 1", folds, seed, table.target_name, *table.classes, *(table.groups or []))
    for name, encoder in sorted(encoders.items()):
        add(name, encoder if isinstance(encoder, str) else _name_of(encoder))
    for files in (table.images, table.sounds, table.clips):
        for file in files or []:
            stat = file.stat()
            add(file, stat.st_size, stat.st_mtime_ns)
    add(*(table.texts or []))
    for values in (table.numbers, table.target):
        sha.update(b"" if values is None else values.numpy().tobytes())
    return sha.hexdigest()[:16]


def _name_of(encoder: Encoder) -> str:
    if isinstance(encoder, str):
        return encoder
    return getattr(encoder, "__qualname__", type(encoder).__qualname__)


# --- Matrices: what is fitted on some rows, and applied to all

MOST_WORDS = 3_000
"""So many words and pairs of words, the most frequent ones of the rows that are fitted on."""


class Counts(NamedTuple):
    """How often each word is in each text: (N, V), sparse, and the words."""

    matrix: sparse.csr_matrix
    words: np.ndarray


def count_words(texts: Iterable[Sequence[str]]) -> Counts:
    """Counts the words of all rows. Which of them a reader knows is decided by its own rows."""
    number: dict[str, int] = {}
    columns, starts = array.array("q"), [0]
    for text in texts:
        columns.extend(number.setdefault(word, len(number)) for word in text)
        starts.append(len(columns))
    shape = (len(starts) - 1, max(1, len(number)))
    matrix = sparse.csr_matrix((np.ones(len(columns)), np.array(columns, int), starts), shape)
    matrix.sum_duplicates()
    return Counts(matrix, np.array(list(number) or [""], dtype=object))


def _known_words(counts: Counts, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the words that these rows hold, and their weights: idf = 1 + ln((1 + n) /
    (1 + df)) (Spärck Jones, 1972)."""
    some = counts.matrix[train]
    frequency = np.bincount(some.indices, minlength=some.shape[1])  # in how many texts
    least = 2 if len(train) >= 100 else 1
    order = np.argsort(-frequency, kind="stable")[:MOST_WORDS]
    known = np.sort(order[frequency[order] >= least])
    if len(known) == 0:
        known = np.flatnonzero(frequency)[:1] if frequency.any() else np.array([0])
    return known, np.log((1 + len(train)) / (1 + frequency[known])) + 1


def _tf_idf(matrix: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
    """Counts times idf, each row of length 1."""
    weighed = matrix.multiply(idf[None]).tocsr()
    length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
    return sparse.diags(1 / np.maximum(length, 1e-12)) @ weighed


class Scaled(NamedTuple):
    """How columns of numbers become comparable: (D,) each. flags: the columns of which it counts
    whether a value is missing."""

    mean: np.ndarray
    scale: np.ndarray
    flags: np.ndarray
    flag_mean: np.ndarray


def _fit_scale(features: np.ndarray, columns_alike: bool, flagged: bool) -> Scaled:
    """columns_alike: all columns have one unit and keep their own spread. Together they have the
    variance 1, so that one penalty is as strong for 10 columns as for 1,000."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        mean = np.nan_to_num(np.nanmean(features, 0, dtype=np.float64))
        sd = np.nan_to_num(np.nanstd(features, 0, dtype=np.float64))
    missing = np.isnan(features)
    flags = np.flatnonzero(missing.any(0) & ~missing.all(0)) if flagged else np.array([], int)
    spread = np.sqrt((sd**2).sum()) if columns_alike else sd * np.sqrt(max(1, (sd > 1e-9).sum()))
    scale = np.where(sd > 1e-9 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-12), 0)
    return Scaled(mean, scale, flags, missing[:, flags].mean(0))


def _apply_scale(features: np.ndarray, scaled: Scaled) -> np.ndarray:
    missing = np.isnan(features)
    plain = np.where(missing, 0, (features - scaled.mean) * scaled.scale)
    if len(scaled.flags) == 0:
        return plain
    width = np.sqrt(max(1, features.shape[1]))
    return np.hstack([plain, (missing[:, scaled.flags] - scaled.flag_mean) / width])


class Design:
    """The features of one modality, ready to be fitted on any part of the rows."""

    def __init__(self, features: np.ndarray | Counts, modality: str, own: bool):
        self.counts = features if isinstance(features, Counts) else None
        self.features = None if isinstance(features, Counts) else features
        self.alike = modality in ("image", "clip") and not own
        self.flagged = modality == "numbers"

    def matrix(self, train: np.ndarray) -> tuple[np.ndarray | sparse.csr_matrix, dict]:
        """All rows (N, D), prepared with what the rows `train` tell; and how it was prepared."""
        if self.counts is not None:
            known, idf = _known_words(self.counts, train)
            x = _tf_idf(self.counts.matrix[:, known], idf)
            return x, {"idf": idf, "words": self.counts.words[known].tolist()}
        scaled = _fit_scale(self.features[train], self.alike, self.flagged)
        return _apply_scale(self.features, scaled), scaled._asdict()


MOST_AXES = 1_000
"""So many principal axes are looked along: it bounds memory and time."""


class Axes(NamedTuple):
    """The principal axes of a matrix: directions (D, r), squares of their lengths (r,), and the
    mean (D,) of the rows that were fitted on."""

    directions: np.ndarray
    squares: np.ndarray
    mean: np.ndarray


def principal_axes(x: np.ndarray | sparse.csr_matrix) -> Axes:
    """The principal axes of (n, D), the MOST_AXES longest, longest first. The smaller of the two
    matrices of products, (D, D) or (n, n), is taken apart."""
    n, width = x.shape
    mean = np.asarray(x.mean(0)).ravel()
    if width <= n:
        product = x.T @ x
        product = product.toarray() if sparse.issparse(product) else product
        squares, directions = np.linalg.eigh(product - n * np.outer(mean, mean))
    else:
        product = x @ x.T
        product = product.toarray() if sparse.issparse(product) else product
        along = np.asarray(x @ mean).ravel()
        squares, left = np.linalg.eigh(product - along[:, None] - along[None] + mean @ mean)
        directions = np.asarray(x.T @ left) - np.outer(mean, left.sum(0))
        directions = directions / np.sqrt(np.maximum(squares, 1e-12))
    kept = np.flatnonzero(squares > 1e-9 * max(squares[-1], 1e-12))[::-1][:MOST_AXES]
    return Axes(directions[:, kept], squares[kept], mean)


def _along(x: np.ndarray | sparse.csr_matrix, axes: Axes) -> np.ndarray:
    """Rows (N, D) as seen along the axes: (N, r)."""
    return np.asarray(x @ axes.directions) - axes.mean @ axes.directions


# --- Readers: ridge and logistic regression, for every penalty at once

RIDGE = np.append(np.logspace(-3, 3, 13), np.inf)
"""Penalties among which unseen rows choose; with the last the reading is constant."""
LOGISTIC = np.append(np.logspace(-2.5, 1.5, 5), np.inf)
LOGISTIC_AXES = 200
"""Logistic regression reads along so many principal axes."""


def ridge_path(z: np.ndarray, squares: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge regression along principal axes, for every penalty of RIDGE: (P, r, 1).

    z: (n, r) with z.T @ z = diag(squares); y: (n,) of mean 0.
    """
    return np.stack([(z.T @ y / (squares + penalty))[:, None] for penalty in RIDGE])


def logistic_path(z: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression for every penalty of LOGISTIC: coefficients (P, r, C), biases (P, C).

    z: (n, r); y: (n,) classes below `count`. A class that is not among them gets a small share.
    """
    from sklearn.linear_model import LogisticRegression

    shares = (np.bincount(y, minlength=count) + 0.5) / (len(y) + 0.5 * count)
    coefficients = np.zeros((len(LOGISTIC), z.shape[1], count))
    biases = np.tile(np.log(shares), (len(LOGISTIC), 1))
    present = np.unique(y)
    if len(present) < 2:
        return coefficients, biases
    model = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3)
    for place in range(len(LOGISTIC) - 2, -1, -1):  # from strong to weak, each from the last one
        model.C = 1 / LOGISTIC[place]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # many classes; not quite converged
            model.fit(z, y)
        weights, bias = model.coef_, model.intercept_
        if len(present) == 2:
            weights, bias = np.vstack([-weights, weights]) / 2, np.append(-bias, bias) / 2
        coefficients[place][:, present] = weights.T
        biases[place] = bias.min() - 3
        biases[place][present] = bias
    return coefficients, biases


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    top = scores - scores.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))


class Target(NamedTuple):
    """The target as an array: (N,) numbers, or classes below `count` (1 for a number)."""

    y: np.ndarray
    count: int

    @property
    def is_class(self) -> bool:
        return self.count > 1

    def base(self, rows: np.ndarray) -> np.ndarray:
        """What says nothing but what is usual among these rows: the mean (1,), or the logarithms of
        the classes' shares (C,)."""
        if not self.is_class:
            return self.y[rows].mean(keepdims=True)
        counts = np.bincount(self.y[rows], minlength=self.count)
        return np.log((counts + 0.5) / (len(rows) + 0.5 * self.count))

    def loss(self, scores: np.ndarray) -> np.ndarray:
        """Squared errors, or -log p, of scores (..., N, C): (..., N)."""
        if not self.is_class:
            return (scores[..., 0] - self.y) ** 2
        return -_log_softmax(scores)[..., np.arange(len(self.y)), self.y]

    def at(self, rows: np.ndarray) -> Target:
        return Target(self.y[rows], self.count)


class Reader(NamedTuple):
    """A linear reader: what it says beyond `base`, for each penalty.

    said: (P, R, C), of the rows that were asked for.
    """

    said: np.ndarray
    components: np.ndarray | None = None  # (N, COMPONENTS), for networks


COMPONENTS = 128
"""Networks see so many principal axes of each modality."""


def _read(
    design: Design, target: Target, train: np.ndarray, asked: np.ndarray, networks: bool
) -> Reader:
    """Fits a reader on the rows `train` for each penalty, and asks it about other rows."""
    x, _ = design.matrix(train)
    axes = principal_axes(x[train])
    z = _along(x, axes)
    components = None
    if networks:
        spread = np.sqrt(axes.squares[0] / len(train)) if len(axes.squares) else 1
        components = np.zeros((len(z), COMPONENTS), np.float32)
        components[:, : min(COMPONENTS, z.shape[1])] = z[:, :COMPONENTS] / spread
    if target.is_class:
        z = z[:, :LOGISTIC_AXES]
        coefficients, biases = logistic_path(z[train], target.y[train], target.count)
        said = z[asked] @ coefficients + biases[:, None]
        said = _log_softmax(said) - target.base(train)
        said[-1] = 0
    else:
        y = target.y[train] - target.y[train].mean()
        said = z[asked] @ ridge_path(z[train], axes.squares, y)
    return Reader(said.astype(np.float32), components)


class Readings(NamedTuple):
    """What the readers of one modality say beyond `Target.base`.

    outer: (N, C), of each row by a reader without its fold. inner: (K, N, C), of each row by a
    reader with neither its fold nor fold k; nothing (0) in fold k. penalty: the place in RIDGE or
    LOGISTIC that all rows choose. pairs and singles: components for networks, by fold.
    """

    outer: np.ndarray
    inner: np.ndarray
    penalty: int
    singles: np.ndarray | None
    pairs: np.ndarray | None


def read_all(
    design: Design,
    target: Target,
    folds: np.ndarray,
    networks: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Readings:
    """Reads every row by readers that have not seen it; the penalty is chosen on unseen rows, too.

    A reader is fitted without each fold, and without each two folds: K + K (K - 1) / 2 readers.
    """
    count, n, width = folds.max() + 1, len(folds), target.count
    penalties = len(LOGISTIC if target.is_class else RIDGE)
    every = np.zeros((count, penalties, n, width), np.float32)  # [k, :, i]: without k and i's fold
    single = np.zeros((penalties, n, width), np.float32)
    singles, pairs = [], [None] * count
    steps = [(k,) for k in range(count)] + list(itertools.combinations(range(count), 2))
    for done, out in enumerate(steps):
        if progress:
            progress(done, len(steps))
        train = np.flatnonzero(~np.isin(folds, out))
        asked = np.flatnonzero(np.isin(folds, out))
        follow = len(out) == 2 and (out[1] - out[0] in (1, count - 1))
        reader = _read(design, target, train, asked, networks and (len(out) == 1 or follow))
        if len(out) == 1:
            single[:, asked] = reader.said
            singles.append(reader.components)
            continue
        for k, other in (out, out[::-1]):
            every[k][:, folds == other] = reader.said[:, folds[asked] == other]
        if follow:
            first = out[0] if out[1] - out[0] == 1 else out[1]
            pairs[first] = reader.components  # without fold k and the one after it
    outer, inner = np.zeros((n, width)), np.zeros((count, n, width))
    for k in range(count):
        rows, others = folds == k, np.flatnonzero(folds != k)
        base = np.zeros((n, width)) + target.base(others)
        losses = target.at(others).loss(every[k][:, others] + base[others]).mean(1)
        choice = _choose(losses)
        inner[k], outer[rows] = every[k][choice], single[choice][rows]
        inner[k][rows] = 0
    base = target.base(np.arange(n))
    penalty = _choose(target.loss(single + base).mean(1))
    stacked = (np.stack(singles), np.stack(pairs)) if networks else (None, None)
    return Readings(outer, inner, penalty, *stacked)


def _choose(losses: np.ndarray) -> int:
    """The penalty with the least loss; of equal ones the strongest."""
    return len(losses) - 1 - int(np.argmin(losses[::-1]))


# --- The weights


def best_weights(f: np.ndarray, y: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The weights and the intercept of least squares, for any number of readings: (M + 1,).

    f: (M, N); y: (N,). As `fusion.best_weights`, but a reading that says nothing, or the same as
    another, makes no error: it gets the smallest weight that is as good. counts: (B, N), how often
    a row was drawn; then (B, M + 1).
    """
    counts = np.ones((1, len(y))) if counts is None else counts
    total = counts.sum(1)
    columns = np.vstack([f, y])  # (M + 1, N)
    centre = columns.mean(1, keepdims=True)
    columns = columns - centre
    places = [(i, j) for i in range(len(columns)) for j in range(i, len(columns))]
    means = counts @ columns.T / total[:, None]  # (B, M + 1)
    products = counts @ np.stack([columns[i] * columns[j] for i, j in places]).T / total[:, None]
    moments = np.zeros((len(counts), len(columns), len(columns)))
    for at, (i, j) in enumerate(places):
        moments[:, i, j] = moments[:, j, i] = products[:, at]
    moments -= means[:, :, None] * means[:, None]
    scale = np.sqrt(np.maximum(np.diagonal(moments[:, :-1, :-1], axis1=1, axis2=2), 0))
    tiny = scale <= 1e-9 * (np.abs(centre[:-1, 0]) + np.sqrt(moments[:, -1, -1])[:, None]) + 1e-300
    scale = np.where(tiny, np.inf, scale)
    ratios = moments[:, :-1, :-1] / scale[:, :, None] / scale[:, None]
    answer = np.linalg.pinv(ratios, rcond=1e-10, hermitian=True)
    weights = (answer @ (moments[:, :-1, -1] / scale)[..., None])[..., 0] / scale
    intercept = means[:, -1] - (weights * means[:, :-1]).sum(1)
    intercept = intercept + centre[-1] - weights @ centre[:-1, 0]
    both = np.hstack([weights, intercept[:, None]])
    return both[0] if len(both) == 1 else both


HOLD = 1e-3
"""A hint of a penalty, as of a thousandth of a row, holds the weights where classes are told apart
without a fault, and no weight is best."""


def best_class_weights(
    f: np.ndarray, y: np.ndarray, counts: np.ndarray | None = None, start: np.ndarray | None = None
) -> np.ndarray:
    """The most likely weights of softmax(αf + βg + b): α, β, … and then b (C,), which sum to 0.

    f: (M, N, C); y: (N,) classes; counts: (N,) how often a row counts. Newton's steps on a convex
    function: (M + C,).
    """
    m, n, c = f.shape
    counts = np.ones(n) if counts is None else counts
    truth = np.zeros((n, c))
    truth[np.arange(n), y] = 1
    theta = np.append(np.ones(m) / m, np.zeros(c)) if start is None else start.copy()
    centre = np.append(np.ones(m) / m, np.zeros(c))

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = _log_softmax(np.tensordot(theta[:m], f, 1) + theta[m:])
        away = theta - centre
        return float(-(counts * log_p[np.arange(n), y]).sum() + HOLD / 2 * away @ away), log_p

    now, log_p = value(theta)
    for _ in range(50):
        p = np.exp(log_p)
        error = counts[:, None] * (p - truth)
        slope = np.append((f * error).sum((1, 2)), error.sum(0)) + HOLD * (theta - centre)
        wp = counts[:, None] * p
        mean = (f * p).sum(2)  # (M, N)
        around = f - mean[:, :, None]
        curve = np.zeros((m + c, m + c))
        curve[:m, :m] = np.einsum("anc,bnc,nc->ab", around, around, wp, optimize=True)
        curve[:m, m:] = np.einsum("anc,nc->ac", around, wp)
        curve[m:, :m] = curve[:m, m:].T
        curve[m:, m:] = np.diag(wp.sum(0)) - p.T @ wp
        curve += HOLD * np.eye(m + c)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6:
            new, new_log_p = value(theta - size * step)
            if new <= now:
                break
            size /= 2
        theta, gain, now, log_p = theta - size * step, now - new, new, new_log_p
        if gain < 1e-7 * (1 + abs(now)):
            break
    theta[m:] -= theta[m:].mean()
    return theta


def _weigh(f: np.ndarray, target: Target) -> np.ndarray:
    """α, β, … and the intercept, (M + C,), of readings (M, N, C)."""
    if target.is_class:
        return best_class_weights(f, target.y)
    return best_weights(f[..., 0], target.y)


def _fuse(f: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """v = αf + βg + … + intercept: (M, N, C) to (N, C)."""
    return np.tensordot(weights[: len(f)], f, 1) + weights[len(f) :]


def nested(
    outer: np.ndarray, inner: np.ndarray, target: Target, folds: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """v of every row, with weights from readings of other folds: (N, C), and these weights by fold.

    outer: (M, N, C); inner: (M, K, N, C).
    """
    v, all_weights = np.zeros(outer.shape[1:]), []
    for k in range(folds.max() + 1):
        others = np.flatnonzero(folds != k)
        weights = _weigh(inner[:, k][:, others], target.at(others))
        v[folds == k] = _fuse(outer[:, folds == k], weights)
        all_weights.append(weights)
    return v, all_weights


# --- Folds, and rows drawn again


def make_folds(table: Table, count: int = FOLDS, seed: int = 0) -> np.ndarray:
    """In which fold each row is: (N,). Rows of a group are in one fold; the classes are spread.

    Raises ValueError for fewer than three folds.
    """
    from sklearn import model_selection as ms

    y, rows = table.target.numpy(), np.zeros(len(table))
    groups = table.groups and np.unique(table.groups, return_inverse=True)[1]
    if groups is not None:
        count = min(count, groups.max() + 1)
    if table.classes and groups is not None:
        splitter = ms.StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    elif table.classes and np.bincount(y).max() >= count:
        splitter = ms.StratifiedKFold(count, shuffle=True, random_state=seed)
    elif groups is not None:
        splitter = ms.GroupKFold(count, shuffle=True, random_state=seed)
    else:
        splitter = ms.KFold(count, shuffle=True, random_state=seed)
    folds = np.zeros(len(table), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds
        for k, (_, test) in enumerate(splitter.split(rows, y, groups)):
            folds[test] = k
    folds = np.unique(folds, return_inverse=True)[1]  # without empty folds
    if folds.max() < 2:
        raise ValueError(
            "An analysis needs three folds or more, to learn readings, to learn their weights, and "
            "to test: set folds to at least 3, and give groups of three kinds or more."
        )
    return folds


def draw_again(
    n: int, groups: Sequence[str] | None, seed: int, draws: int = DRAWS
) -> Iterator[np.ndarray]:
    """How often each row is in each drawing, (B, N) at a time; groups are drawn whole."""
    generator = np.random.default_rng([seed, 77])
    members = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = members.max() + 1
    each = max(1, min(draws, 2_000_000 // max(n, 1)))
    for start in range(0, draws, each):
        drawn = generator.multinomial(count, np.ones(count) / count, min(each, draws - start))
        yield drawn[:, members].astype(float)


def _interval(value: float, drawn: np.ndarray, confidence: float = 0.95) -> Interval:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))


class Judge:
    """Scores predictions on the same drawings of rows, so that they can be compared."""

    def __init__(self, target: Target, groups: Sequence[str] | None, seed: int):
        self.target = target
        self.counts = [c.astype(np.uint16) for c in draw_again(len(target.y), groups, seed)]

    def score(self, scores: np.ndarray) -> float:
        """R² or accuracy of scores (N, C)."""
        right = self.right(scores).mean()
        return float(right if self.target.is_class else 1 - right / self.target.y.var())

    def right(self, scores: np.ndarray) -> np.ndarray:
        """Squared errors, or whether the class is right: (N,)."""
        if self.target.is_class:
            return (scores.argmax(1) == self.target.y).astype(float)
        return self.target.loss(scores)

    def drawn(self, scores: np.ndarray) -> np.ndarray:
        """R² or accuracy of scores (N, C): first of all rows, then of each drawing. R² compares
        with the mean of all rows, which has R² 0 in every drawing."""
        y, right = self.target.y - self.target.y.mean(), self.right(scores)
        found = []
        for counts in [np.ones((1, len(y))), *self.counts]:
            counts = counts.astype(float)  # kept small, since there are many
            total = counts.sum(1)
            if self.target.is_class:
                found.append(counts @ right / total)
                continue
            found.append(1 - counts @ right / np.maximum(counts @ y**2, 1e-300))
        return np.concatenate(found)


# --- The networks of lesson 04, for rows enough

FUSIONS = {
    "weighted sum": fusion.WeightedSum,
    "concat": fusion.Concat,
    "gated": fusion.Gated,
    "low-rank": fusion.LowRankTensor,
    "cross-attention": fusion.CrossAttention,
}
NETWORK = "network: "
"""How the names of their scores begin."""
DIM = 16
BUDGET = 2_500
"""Parameters of a fusion and its head, so that all fusions have as many (lesson 04)."""
DECAYS = (0.05, 1.0)
"""Strengths of weight decay among which validation rows choose."""
EPOCHS = 10
BATCHES = 10
"""So many batches an epoch, however many rows there are: so the time is bounded."""


def _new_network(names: Sequence[str], kind: type[nn.Module], outputs: int) -> nn.Module:
    encoders = {name: nn.Sequential(nn.Linear(COMPONENTS, DIM), nn.Tanh()) for name in names}
    together = kind(tuple(names), DIM)
    return fusion.MultimodalModel(
        encoders, together, fusion.matched_head(together, BUDGET, outputs)
    )


def _network_scores(
    kind: type[nn.Module],
    read: dict[str, Readings],
    target: Target,
    folds: np.ndarray,
    seed: int,
) -> np.ndarray:
    """What a network with this fusion says of each row, (N, C); it has not seen the row's fold.

    In each fold the weight decay and the number of epochs are those with the least loss on the fold
    that follows; the network is then trained again with that fold's rows, too.
    """
    said = np.zeros((len(folds), target.count))
    count = folds.max() + 1
    for k in range(count):
        test, others = folds == k, np.flatnonzero(folds != k)
        held = np.flatnonzero(folds == (k + 1) % count)
        first = np.setdiff1d(others, held)
        best = None
        for decay in DECAYS:
            inputs = {name: one.pairs[k] for name, one in read.items()}
            model, history = _train(kind, inputs, target, first, held, decay, EPOCHS, seed)
            epoch = int(np.argmin(history.val_loss))
            if best is None or history.val_loss[epoch] < best[0]:
                best = (history.val_loss[epoch], decay, epoch + 1)
        inputs = {name: one.singles[k] for name, one in read.items()}
        model, _ = _train(kind, inputs, target, others, None, best[1], best[2], seed)
        out = training.predict(model, _taken(inputs, np.flatnonzero(test))).double().cpu().numpy()
        if target.is_class:
            said[test] = out
        else:
            y = target.y[others]
            said[test] = out[:, None] * max(y.std(), 1e-12) + y.mean()
    return said


def _taken(inputs: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values[rows]) for name, values in inputs.items()}


def _train(
    kind: type[nn.Module],
    inputs: dict[str, np.ndarray],
    target: Target,
    rows: np.ndarray,
    held: np.ndarray | None,
    decay: float,
    epochs: int,
    seed: int,
) -> tuple[nn.Module, training.History]:
    y = torch.from_numpy(target.y)
    if not target.is_class:
        some = target.y[rows]
        y = ((y - some.mean()) / max(some.std(), 1e-12)).float()
    loss = nn.functional.cross_entropy if target.is_class else nn.functional.mse_loss
    with seeded(seed):
        model = _new_network(list(inputs), kind, target.count)
    history = training.fit(
        model, _taken(inputs, rows), y[rows], loss,
        val=None if held is None else (_taken(inputs, held), y[held]),
        epochs=epochs, batch_size=max(32, math.ceil(len(rows) / BATCHES)), learning_rate=1e-2,
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=decay),
        seed=seed, progress=False,
    )  # fmt: skip
    return model, history


# --- The analysis


def analyse(
    table: Table,
    encoders: dict[str, Encoder] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    networks: bool = True,
    progress: Progress | None = None,
    remember: str | Path | None = None,
) -> Analysis:
    """Asks a table what predicts its target, and how surely: v = αf + βg + ….

    encoders: for a modality, features other than the course's (see `Encoder`). networks: also train
    the fusions of lesson 04, where there are NETWORK_ROWS rows or more, and two modalities.
    progress: is told what is done. remember: a folder that keeps what was computed; called again
    with the same table and settings, the analysis goes on where it was interrupted.

    Raises ValueError for a table without a target or without a modality, for an encoder of a
    modality that the table has not, and as `encoder_named` and `make_folds`.
    """
    encoders = encoders or {}
    _check(table, encoders)
    tell = progress or (lambda what, done, total: None)
    memory = Memory(remember, key_of(table, encoders, folds, seed) if remember else "")
    target = Target(table.target.double().numpy() if not table.classes else table.target.numpy(),
                    max(1, len(table.classes)))  # fmt: skip
    fold = make_folds(table, folds, seed)
    names = table.modalities
    networks = networks and len(table) >= NETWORK_ROWS and 2 <= len(names) <= len(fusion.LETTERS)

    read: dict[str, Readings] = {}
    fitted: dict[str, np.ndarray] = {}
    facts: dict = {"encoders": {}, "words": {}}
    unread = {}
    for name in names:
        features = features_of(table, name, encoders.get(name), tell, memory)
        if not isinstance(features, Counts) and name != "numbers":
            unread[name] = np.flatnonzero(np.isnan(features).all(1)).tolist()
        design = Design(features, name, name in encoders)
        read[name] = _remembered_readings(
            memory, name, design, target, fold, networks,
            lambda done, total, name=name: tell(f"learning from {_plural(name)}", done, total),
        )  # fmt: skip
        arrays, known = _fit_reader(design, target, read[name].penalty)
        fitted |= {f"{name}.{part}": array for part, array in arrays.items()}
        if known is not None:
            facts["words"][name] = known
        if name in encoders:
            facts["encoders"][name] = _name_of(encoders[name])

    base = target.base(np.arange(len(table)))
    outer = np.stack([read[name].outer for name in names]) + base  # (M, N, C)
    inner = np.stack([read[name].inner for name in names]) + base
    v, by_fold = nested(outer, inner, target, fold)
    weights = _weigh(outer, target)
    scores = {"constant guess": np.zeros_like(v) + base}
    scores |= {f"{NOUNS[name]} alone": outer[i] for i, name in enumerate(names)}
    if len(names) > 1:
        scores["untrained sum"] = outer.sum(0) - (len(names) - 1) * base
    scores["v"] = v
    if networks:
        for at, (name, kind) in enumerate(FUSIONS.items()):
            tell("training networks", at, len(FUSIONS))
            make = functools.partial(_network_scores, kind, read, target, fold, seed)
            found = memory.get(f"network-{at}", lambda make=make: {"said": make()})
            scores[f"{NETWORK}{name}"] = found["said"]
        tell("training networks", len(FUSIONS), len(FUSIONS))

    tell("weighing", 0, 1)
    judge = Judge(target, table.groups, seed)
    drawn = {name: judge.drawn(one) for name, one in scores.items()}
    without = {}
    for i, name in enumerate(names):
        if len(names) > 1:
            rest = [j for j in range(len(names)) if j != i]
            without[name] = judge.drawn(nested(outer[rest], inner[rest], target, fold)[0])
    rivals = {"constant guess": drawn["constant guess"], **without}
    if len(names) > 1:
        rivals["untrained sum"] = drawn["untrained sum"]
    if networks:
        best = max((n for n in drawn if n.startswith(NETWORK)), key=lambda n: drawn[n][0])
        rivals[best] = drawn[best]
    gains = {name: _difference(drawn["v"], one) for name, one in rivals.items()}
    bounds, contributions = _bootstrap_weights(outer, target, weights, table.groups, names, seed)
    shuffled = _shuffled(outer, by_fold, judge, drawn["v"][0], fold, names, seed)
    misses = target.loss(v)
    facts |= _facts(table, names, read, target)
    fitted |= {"weights": weights[: len(names)], "intercept": weights[len(names) :]}
    tell("weighing", 1, 1)
    found = Analysis(
        table=table,
        readings={name: _as_reading(outer[i], target) for i, name in enumerate(names)},
        v=torch.from_numpy(np.exp(_log_softmax(v)) if target.is_class else v[:, 0]),
        weights=bounds,
        intercept=torch.from_numpy(weights[len(names) :].copy()).squeeze(),
        scores=[Score(name, _interval(d[0], d[1:]), len(table)) for name, d in drawn.items()],
        metric="accuracy" if target.is_class else "R²",
        gains=gains,
        shuffled=shuffled,
        contributions=contributions,
        worst=np.argsort(-misses, kind="stable")[:WORST].tolist(),
        sentences=[],
        folds=torch.from_numpy(fold),
        model=Fitted(fitted, facts),
    )
    found.sentences.extend(_verdict(found, unread))
    return found


def _check(table: Table, encoders: dict[str, Encoder]) -> None:
    if table.target is None or not table.modalities:
        raise ValueError(
            "An analysis needs a table with a target and something to predict it from: load it "
            "with tables.load_table(FOLDER, target=…)."
        )
    for name in encoders:
        if name not in table.modalities or name == "numbers":
            has = [one for one in table.modalities if one != "numbers"]
            raise ValueError(
                f'There is an encoder for "{name}", and this table has '
                f"{' and '.join(has) or 'nothing to encode'}: name one of these."
            )


def _remembered_readings(
    memory: Memory,
    name: str,
    design: Design,
    target: Target,
    fold: np.ndarray,
    networks: bool,
    progress: Callable[[int, int], object],
) -> Readings:
    def make() -> dict[str, np.ndarray]:
        made = read_all(design, target, fold, networks, progress)._asdict()
        return {part: np.asarray(value) for part, value in made.items() if value is not None}

    kept = memory.get(f"{name}-readings{'-networks' * networks}", make)
    return Readings(kept["outer"], kept["inner"], int(kept["penalty"]),
                    kept.get("singles"), kept.get("pairs"))  # fmt: skip


def _fit_reader(
    design: Design, target: Target, penalty: int
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """The reader that has seen all rows: its arrays, and the words that it knows."""
    every = np.arange(len(target.y))
    x, made = design.matrix(every)
    axes = principal_axes(x)
    z = _along(x, axes)
    if target.is_class:
        coefficients, biases = logistic_path(z[:, :LOGISTIC_AXES], target.y, target.count)
        along, bias = coefficients[penalty], biases[penalty] - target.base(every)
        directions = axes.directions[:, :LOGISTIC_AXES]
        if penalty == len(LOGISTIC) - 1:
            bias = np.zeros_like(bias)
    else:
        along = ridge_path(z, axes.squares, target.y - target.y.mean())[penalty]
        bias, directions = np.zeros(1), axes.directions
    full = directions @ along
    known = made.pop("words", None)
    arrays = {"coefficients": full, "bias": bias - axes.mean @ full, **made}
    return {part: np.asarray(array) for part, array in arrays.items()}, known


def _facts(table: Table, names: Sequence[str], read: dict, target: Target) -> dict:
    return {
        "kind": "two-step table model",
        "modalities": list(names),
        "columns": table.columns,
        "target": table.target_name,
        "classes": table.classes,
        "language": table.language,
        "number_names": table.number_names,
        "rows": len(table),
        "base": target.base(np.arange(len(table))).tolist(),
    }


def _as_reading(outer: np.ndarray, target: Target) -> Tensor:
    reading = outer - outer.mean(1, keepdims=True) if target.is_class else outer[:, 0]
    return torch.from_numpy(reading)


def _difference(one: np.ndarray, other: np.ndarray) -> Interval:
    return _interval(one[0] - other[0], one[1:] - other[1:], SURE)


def _bootstrap_weights(
    outer: np.ndarray,
    target: Target,
    weights: np.ndarray,
    groups: Sequence[str] | None,
    names: Sequence[str],
    seed: int,
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Intervals of α, β, …, and of the contributions, when the rows are drawn again."""
    m = len(names)
    bounds, spreads = weight_intervals(outer, target, groups, seed, weights)
    return (
        {name: bounds[i] for i, name in enumerate(names[:m])},
        {name: spreads[i] for i, name in enumerate(names[:m])},
    )


def weight_intervals(
    f: np.ndarray,
    target: Target,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    weights: np.ndarray | None = None,
    draws: int | None = None,
) -> tuple[list[Interval], list[Interval]]:
    """α, β, … of readings (M, N, C), and their contributions sd(αf), …, with 95 % intervals.

    Rows, or groups, are drawn again `draws` times, DRAWS or CLASS_DRAWS without it (Efron, 1979).
    """
    m = len(f)
    weights = _weigh(f, target) if weights is None else weights
    drawn, spread = [], []
    draws = draws or (CLASS_DRAWS if target.is_class else DRAWS)
    for counts in draw_again(f.shape[1], groups, seed, draws):
        if target.is_class:
            drawn += [best_class_weights(f, target.y, one, weights)[:m] for one in counts]
        else:
            drawn.append(best_weights(f[..., 0], target.y, counts).reshape(len(counts), -1)[:, :m])
        spread.append(_spread(f, counts))
    drawn, spread = np.vstack(drawn), np.vstack(spread)
    own = _spread(f, np.ones((1, f.shape[1])))[0]
    return (
        [_interval(weights[i], drawn[:, i]) for i in range(m)],
        [_interval(abs(weights[i]) * own[i], abs(drawn[:, i]) * spread[:, i]) for i in range(m)],
    )


def _spread(f: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The standard deviation of each reading over the rows as they were drawn: (B, M); of classes,
    the root of the mean of the classes' variances."""
    f = f - f.mean(1, keepdims=True)
    total = counts.sum(1, keepdims=True)
    mean = np.tensordot(counts, f, (1, 1)) / total[..., None]  # (B, M, C)
    square = np.tensordot(counts, f**2, (1, 1)) / total[..., None]
    return np.sqrt(np.maximum(square - mean**2, 0).mean(2))


ORDERS = 50


def _shuffled(
    outer: np.ndarray,
    by_fold: list[np.ndarray],
    judge: Judge,
    whole: float,
    fold: np.ndarray,
    names: Sequence[str],
    seed: int,
) -> dict[str, Interval]:
    """What v loses when the readings of one modality are those of other rows of the same fold."""
    generator = np.random.default_rng([seed, 99])
    lost = {}
    for i, name in enumerate(names):
        found = []
        for _ in range(ORDERS):
            v = np.zeros(outer.shape[1:])
            for k, weights in enumerate(by_fold):
                rows = np.flatnonzero(fold == k)
                f = outer[:, rows].copy()
                f[i] = f[i][generator.permutation(len(rows))]
                v[rows] = _fuse(f, weights)
            found.append(whole - judge.score(v))
        lost[name] = _interval(float(np.mean(found)), np.array(found))
    return lost


# --- What an honest analyst says


def _verdict(a: Analysis, unread: dict[str, list[int]]) -> list[str]:
    table, said = a.table, []
    names, what = list(a.readings), a.table.target_name or "the target"
    score = {one.name: one.value for one in a.scores}
    guess = "guessing the mean" if a.metric == "R²" else "always guessing the most frequent class"
    v, useless = score["v"], a.gains["constant guess"].low <= 0
    rows = f"{len(table):,} rows"
    if a.metric == "R²":
        share = f"{v.value:.0%}" if v.value > 0 else "nothing"
        said.append(
            f"On {rows} that it had not seen, v explains {share} of the variance of {what} "
            f"(R² {v.value:z.2f}, 95 %: {v.low:z.2f} to {v.high:z.2f})."
        )
    else:
        said.append(f"On {rows} that it had not seen, v names the right class of {what} in "
                    f"{v.value:.0%} (95 %: {v.low:.0%} to {v.high:.0%}); {guess} is right in "
                    f"{score['constant guess'].value:.0%}.")  # fmt: skip
    if useless:
        said.append(f"Nothing helps: v is no better than {guess}, as far as {rows} can tell.")
    for i, name in enumerate(names):
        noun, verb = NOUNS[name], "do" if name == "numbers" else "does"
        gain = a.gains.get(name)
        if gain is None or useless:
            continue
        span = f"(99 %: {gain.low:z.2f} to {gain.high:z.2f})"
        if gain.low > 0:
            said.append(f"Your {noun} {'help' if verb == 'do' else 'helps'}: without "
                        f"{'them' if verb == 'do' else 'it'}, v loses {gain.value:z.2f} of its "
                        f"{a.metric} {span}.")  # fmt: skip
        else:
            alone = ", beside the rest" if len(names) > 1 else ""
            said.append(f"Your {noun} {verb} not help{alone}: v gains {gain.value:z.2f} by "
                        f"{'them' if verb == 'do' else 'it'} {span}, which may be nothing."
                        )  # fmt: skip
        weight = a.weights[name]
        wide = weight.low <= 0 or weight.high > 3 * weight.low
        if wide and weight.low < weight.high:
            said.append(f"{GREEK[i]}, the weight of your {noun}, could be anything between "
                        f"{weight.low:z.2f} and {weight.high:z.2f}.")  # fmt: skip
    if not useless and len(names) > 1 and all(a.gains[name].low <= 0 for name in names):
        said.append(
            f"Your {' and your '.join(NOUNS[name] for name in names)} say much the same: v can do "
            "without each of them, but not without all."
        )
    if not useless and "untrained sum" in a.gains and a.gains["untrained sum"].low <= 0:
        letters = ", ".join(GREEK[: len(names)])
        said.append(f"The untrained sum of the readings is as good as v here "
                    f"({score['untrained sum'].value:z.2f} and {v.value:z.2f}): {letters} need not "
                    "be learned.")  # fmt: skip
    for name, gain in a.gains.items():
        if name.startswith(NETWORK) and not useless:
            kind, span = name.removeprefix(NETWORK), f"(99 %: {gain.low:z.2f} to {gain.high:z.2f})"
            if gain.high < 0:
                said.append(f"A network is better than v: {kind}, by {-gain.value:z.2f} {span}.")
            elif gain.low > 0:
                said.append(f"No network is as good as v: the best, {kind}, loses to it by "
                            f"{gain.value:z.2f} {span}.")  # fmt: skip
            else:
                said.append(f"The best network, {kind}, is neither better nor worse than v, as far "
                            f"as {rows} can tell {span}.")  # fmt: skip
    for name, places in unread.items():
        if places:
            first = table.names[places[0]]
            noun = NOUNS[name] if len(places) == 1 else f"{NOUNS[name]}s"
            more = ", …" if len(places) > 1 else ""
            said.append(
                f"{len(places)} {noun} cannot be read ({first}{more}), and count as average."
            )
    if len(table) < FEW_ROWS:
        said.append(f"{rows} are few: all intervals are wide, and {FEW_ROWS} or more would tell "
                    "more.")  # fmt: skip
    if table.groups is not None:
        count = len(set(table.groups))
        said.append(f"Rows of one group were always on the same side of a split ({count:,} groups)."
                    )  # fmt: skip
        if count < FEW_GROUPS:
            said.append(f"{count} groups are few: what holds for them may not hold for others.")
    if table.classes:
        counts = torch.bincount(table.target, minlength=len(table.classes))
        if counts.min() < 10:
            rare = table.classes[int(counts.argmin())]
            said.append(f'The class "{rare}" has {int(counts.min())} rows only: hardly '
                        "anything can be said of it.")  # fmt: skip
    if len(table) < NETWORK_ROWS and len(names) > 1:
        said.append(f"Networks were not trained: they need {NETWORK_ROWS:,} rows or more.")
    return said


# --- New rows


def predict(
    fitted: Fitted,
    table: Table,
    encoders: dict[str, Encoder] | None = None,
    memory: Memory | None = None,
) -> Tensor:
    """What a fitted model says of new rows: (N,) numbers, or (N, C) probabilities of its classes.

    encoders: the functions with which it was fitted, if these were your own; those with a name are
    found by it. Raises ValueError when the table lacks something that the model reads.
    """
    facts, arrays = fitted.facts, fitted.arrays
    names, given = facts["modalities"], encoders or {}
    is_class = bool(facts["classes"])
    base = np.array(facts["base"])
    readings = []
    for name in names:
        if name not in table.modalities:
            raise ValueError(
                f"This model reads {' and '.join(names)}, and the rows have no {NOUNS[name]}: give "
                f"the column {facts['columns'].get(name, name)}."
            )
        encoder = given.get(name, facts["encoders"].get(name))
        if isinstance(encoder, str) and ":" not in encoder:
            raise ValueError(
                f"This model was fitted with an encoder of your own, {encoder}: pass it again, "
                f'encoders={{"{name}": {encoder}}}.'
            )
        features = features_of(table, name, encoder, memory=memory)
        x = _prepared(features, name, arrays, facts)
        said = np.asarray(x @ arrays[f"{name}.coefficients"]) + arrays[f"{name}.bias"]
        if is_class and np.any(arrays[f"{name}.coefficients"]):
            said = _log_softmax(said + base) - base
        readings.append(said + base)
    weights = np.append(arrays["weights"], arrays["intercept"])
    v = _fuse(np.stack(readings), weights)
    return torch.from_numpy(np.exp(_log_softmax(v)) if is_class else v[:, 0])


def _prepared(
    features: np.ndarray | Counts, name: str, arrays: dict, facts: dict
) -> np.ndarray | sparse.csr_matrix:
    """New rows' features, prepared as the model's own were."""
    if isinstance(features, Counts):
        place = {word: at for at, word in enumerate(features.words)}
        nowhere = sparse.csr_matrix((features.matrix.shape[0], 1))  # for words that no row holds
        columns = [place.get(word, len(place)) for word in facts["words"][name]]
        counts = sparse.hstack([features.matrix, nowhere], "csr")[:, columns]
        return _tf_idf(counts, arrays[f"{name}.idf"])
    scaled = Scaled(*(arrays[f"{name}.{part}"] for part in Scaled._fields))
    if features.shape[1] != len(scaled.mean):
        if np.isnan(features).all():
            features = np.full((len(features), len(scaled.mean)), np.nan)
        else:
            raise ValueError(
                f"The {NOUNS[name]} features have {features.shape[1]} numbers a row, and the model "
                f"was fitted with {len(scaled.mean)}: use the same encoder."
            )
    return _apply_scale(features, scaled)
