"""What to do with a model that is already trained (lesson 14).

The first part names things by words alone (zero-shot), and counts how many labels that is worth.
The second adapts an encoder to a new task with few labels: a linear probe, full fine-tuning, and a
low-rank addition (LoRA). The third brings in encoders that others have trained. The last asks
lesson 13's model for things that are not there.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import importlib
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import (
    arguments,
    captioning,
    cnn,
    datasets,
    one_model,
    postcards,
    preprocessing,
    retrieval,
    training,
    writing,
)
from mbm_lab.device import device_of, seeded

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# --- Zero-shot: names instead of labels

NAMES = {
    "colour": list(postcards.COLOURS),
    "weather": [english for english, _ in postcards.WEATHERS.values()],
    "object": list(dict.fromkeys(english for english, _ in postcards.OBJECTS.values())),
}
"""What a card can be asked for, and the names of the answers, as captions write them."""

TEMPLATES = {
    "colour": ("{} face", "a {} face"),
    "weather": ("{}", "a face {}"),
    "object": (
        "{}", "beside {}", "with {} on its head", "a face beside {}", "a face with {} on its head",
    ),
}  # fmt: skip
"""Sentences in which a name can stand: all of one kind together are a prompt ensemble."""


def names_of(cards: datasets.Postcards, what: str) -> Tensor:
    """The number of each card's true name in `NAMES[what]`: (N,) int64.

    what: "colour", "weather" or "object"; the two drawings of "a bat" have one name. Raises
    ValueError for another.
    """
    arguments.check_choice("kind of name", what, NAMES)
    true = {
        "colour": [card.colour for card in cards.cards],
        "weather": [postcards.WEATHERS[card.weather][0] for card in cards.cards],
        "object": [postcards.OBJECTS[card.object][0] for card in cards.cards],
    }[what]
    return torch.tensor([NAMES[what].index(name) for name in true])


def class_vectors(
    model: retrieval.DualEncoder,
    names: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    templates: Sequence[str] = ("{}",),
) -> Tensor:
    """One vector of length 1 for each class, made of its name alone: (C, dim).

    Each name is put into each template at the place of {}; the class's vector is the mean of its
    texts' vectors, scaled to length 1. With several templates this is a prompt ensemble (Radford et
    al., 2021). Lesson 14.

    Raises ValueError when two names are the same, when a template has not exactly one {}, and when
    the vocabulary does not know a word of a name: then no training text told the model about it.
    Words of a template may be unknown.
    """
    arguments.check_texts("class_vectors", names=names)
    arguments.check_texts("class_vectors", templates=templates)
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise arguments.ArgumentError(
            f'Two classes have the name "{twice[0]}": give each class a name of its own.'
        )
    for template in templates:
        if template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
            raise arguments.ArgumentError(
                f'The template "{template}" needs one {{}}, where the name goes: write one such as '
                '"beside {}".'
            )
    for name in names:
        _check_known(name, vocabulary)
    texts = [template.format(name) for name in names for template in templates]
    tokens = preprocessing.text_to_tensor(texts, vocabulary)
    g = retrieval.text_vectors(model, tokens).unflatten(0, (len(names), -1))  # (C, templates, dim)
    return nn.functional.normalize(g.mean(1), dim=1)


def _check_known(name: str, vocabulary: preprocessing.Vocabulary) -> None:
    words = preprocessing.tokenize(preprocessing.spaced(name))
    unknown = [word for word in words if word not in vocabulary.words]
    if unknown or not words:
        raise arguments.ArgumentError(
            f'The word "{(unknown or [name])[0]}" was in no training text, so the model cannot '
            f'know what "{name}" looks like: use a name made of known words, or train a probe on '
            "labels."
        )


def zero_shot(
    model: retrieval.DualEncoder,
    features: Tensor,
    names: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    templates: Sequence[str] = ("{}",),
) -> Tensor:
    """The number of the class whose text is nearest to each picture: features (N, 48) to (N,).

    No label is used: a new list of names makes a new classifier. Raises ValueError as
    `class_vectors` and `retrieval.similarities`.
    """
    classes = class_vectors(model, names, vocabulary, templates).to(features.device)
    f = retrieval.image_vectors(model, features)  # (N, dim)
    return retrieval.similarities(f, classes).argmax(1)


LEFT_OUT = ("a boat", "a fish", "a key", "a candle")
"""Objects that `without` leaves out of training: each is one drawing."""
KNOWN = ("a hat", "a balloon", "an umbrella", "a flower")
"""Four others, for comparison."""


def showing(cards: datasets.Postcards, names: Sequence[str]) -> datasets.Postcards:
    """The cards that show one of these objects. Raises ValueError for a name that is no object, and
    when no card is left."""
    arguments.check_texts("showing", names=names)
    for name in names:
        arguments.check_choice("object", name, NAMES["object"])
    chosen = [NAMES["object"][number] in names for number in names_of(cards, "object").tolist()]
    if not any(chosen):
        raise arguments.ArgumentError(
            f"None of the {len(cards)} cards shows {' or '.join(names)}: pass more cards."
        )
    return cards.subset(torch.tensor(chosen))


def train_without(
    cards: datasets.Postcards,
    left_out: Sequence[str] = LEFT_OUT,
    epochs: int = 6,
    seed: int = 0,
) -> tuple[nn.Module, retrieval.DualEncoder, preprocessing.Vocabulary]:
    """A picture encoder and a dual encoder that were never shown these objects, nor their names.

    The encoder is trained by lesson 06's recipe, with English captions alone, and starts from
    lesson 02's convolutions, which learned to read expressions; then lesson 07's recipe, half as
    long. Returns encoder, dual encoder, and the vocabulary of the captions that were left: about 12
    seconds for 2,000 cards on one thread. Raises ValueError when no card is left.
    """
    arguments.check_count("epochs", epochs, 1, 6)
    arguments.check_seed(seed)
    kept = showing(cards, [name for name in NAMES["object"] if name not in left_out])
    words = writing.build_vocabulary([("en", kept.captions)])
    captioner = captioning.new_captioner(words, seed)
    captioning.train_captioner(captioner, kept, words, epochs, seed, languages=["en"])
    features = training.predict(captioner.encoder, kept.images)
    vocabulary = preprocessing.Vocabulary.build(map(preprocessing.tokenize, kept.captions))
    with seeded(seed):
        model = retrieval.DualEncoder(len(vocabulary))
    retrieval.train_dual_encoder(
        model, features, kept.captions, vocabulary, epochs=math.ceil(2.5 * epochs), seed=seed
    )
    return captioner.encoder, model, vocabulary


# --- What are labels worth?


def few(target: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """The places of `per_class` examples of each class, drawn by chance: (C * per_class,).

    target: (N,) numbers of classes. Raises ValueError when a class has fewer.
    """
    arguments.check_count("per_class", per_class, 1, 5)
    arguments.check_seed(seed)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    chosen = []
    for number in target.unique().tolist():
        places = order[(target.cpu() == number)[order]]
        if len(places) < per_class:
            raise arguments.ArgumentError(
                f"Class {number} has {len(places)} examples, and per_class is {per_class}: ask for "
                "fewer, or bring more examples."
            )
        chosen.append(places[:per_class])
    return torch.cat(chosen).to(target.device)


def label_curve(
    features: Tensor,
    target: Tensor,
    new_features: Tensor,
    new_target: Tensor,
    counts: Sequence[int],
    draws: int = 5,
    seed: int = 0,
) -> Tensor:
    """The share of right answers of a classifier that got k labels a class: (counts, draws).

    A logistic regression (scikit-learn's, C = 1) on frozen features (N, dim), trained on
    `few(target, k)`, judged on the new ones; each draw has other examples. Raises ValueError as
    `few`, and when features and targets do not match.
    """
    from sklearn.linear_model import LogisticRegression

    arguments.check_dims("label_curve", features=features, new_features=new_features)
    arguments.check_lists("label_curve", features=features, target=target)
    arguments.check_lists("label_curve", new_features=new_features, new_target=new_target)
    arguments.check_lists("label_curve", counts=counts)
    arguments.check_count("draws", draws, 1, 5)
    x, new = features.cpu().numpy(), new_features.cpu().numpy()
    right = torch.zeros(len(counts), draws)
    for row, count in enumerate(counts):
        for draw in range(draws):
            chosen = few(target.cpu(), count, seed + draw)
            reader = LogisticRegression(max_iter=1000).fit(x[chosen], target.cpu()[chosen].numpy())
            right[row, draw] = _share(reader.predict(new), new_target)
    return right


def _share(answers: np.ndarray | Tensor, target: Tensor) -> float:
    """The share of answers that are right."""
    return float((torch.as_tensor(answers).cpu() == target.cpu()).float().mean())


# --- Adapting an encoder


class LowRank(nn.Module):
    """A linear layer that stays as it is, and a small addition that learns: LoRA.

    y = W x + b + B A x, with A (rank, in) and B (out, rank). B begins as 0, so that at the start
    nothing is changed (Hu et al., 2022; their scale is 1 here). The layer that it is given is
    frozen. Raises ValueError for another layer, and for a rank that is no less than the layer's
    smaller side: then the addition could be any matrix.
    """

    def __init__(self, layer: nn.Linear, rank: int = 4):
        super().__init__()
        if not isinstance(layer, nn.Linear):
            raise arguments.ArgumentError(
                f"LowRank goes around a linear layer, and got {arguments.kind(layer)}: pass an "
                "nn.Linear."
            )
        arguments.check_count("rank", rank, 1, 4, min(layer.weight.shape) - 1)
        self.layer = layer.requires_grad_(False)
        like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.a = nn.Parameter(torch.randn(rank, layer.in_features, **like))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, **like))
        with torch.no_grad():
            self.a /= math.sqrt(layer.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.a.T @ self.b.T  # (…, in) to (…, out)

    def merged(self) -> nn.Linear:
        """One linear layer that does the same, with the weight W + B A: the addition is free."""
        layer = copy.deepcopy(self.layer)
        with torch.no_grad():
            layer.weight += self.b @ self.a  # (out, rank) @ (rank, in)
        return layer


class Classifier(nn.Module):
    """An encoder and a linear layer that scores classes: inputs to (B, classes).

    encoder: any `nn.Module` that returns (B, dim).
    """

    def __init__(self, encoder: nn.Module, dim: int, classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(dim, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs))


WAYS = ("scratch", "full", "low-rank")
"""Ways to train a classifier by gradient descent: without the encoder's weights, all of it, or the
low-rank addition alone."""

RANK = 4
"""The rank of the low-rank way."""


def new_classifier(
    encoder: cnn.ImageEncoder, classes: int, way: str, seed: int = 0, rank: int = RANK
) -> Classifier:
    """A classifier that is ready to be trained in one of the `WAYS`; the encoder is copied.

    "low-rank": the encoder is frozen, and its last linear layer gets a `LowRank`. Raises ValueError
    for another way, and for an encoder that is not lesson 02's.
    """
    arguments.check_choice("way", way, WAYS)
    arguments.check_count("classes", classes, 2, 10)
    arguments.check_seed(seed)
    if not isinstance(encoder, cnn.ImageEncoder):
        raise arguments.ArgumentError(
            f"new_classifier adapts lesson 02's encoder, and got {arguments.kind(encoder)}: pass a "
            "cnn.ImageEncoder, or use a probe on the features of yours."
        )
    encoder = copy.deepcopy(encoder)
    with seeded(seed):
        if way == "scratch":
            for part in encoder.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
        elif way == "low-rank":
            encoder.requires_grad_(False)
            encoder.project = LowRank(encoder.project, rank)
        return Classifier(encoder, encoder.dim, classes).to(device_of(encoder))


def learned(model: nn.Module) -> int:
    """How many numbers of a model can learn: those that are not frozen."""
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def fine_tune(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    epochs: int = 20,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> training.History:
    """Trains what can learn in a classifier on a few labelled pictures: a second for 50.

    images (N, …), target (N,) numbers of classes. The learning rate was chosen on other cards: for
    none of the `WAYS` was 0.003 or 0.03 better by more than 0.02, on the mean of the three `TASKS`.
    """
    return training.fit(
        model,
        images,
        target,
        nn.functional.cross_entropy,
        epochs=epochs,
        batch_size=25,
        learning_rate=learning_rate,
        one_cycle=True,
        seed=seed,
        progress=False,
    )


STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The C among which `probe` chooses."""


def probe(features: Tensor, target: Tensor) -> Pipeline:
    """A linear probe: a logistic regression on frozen features (N, dim), fitted, from scikit-learn.

    Each column is scaled; how strongly weights are kept small is chosen by cross-validation, in as
    many parts as the smallest class has examples, five at most (Alain and Bengio, 2016, call such
    readers probes). Its `predict` takes (M, dim) as NumPy. Raises ValueError when there are fewer
    than two examples of a class, or only one class.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    arguments.check_dims("probe", features=features)
    arguments.check_lists("probe", features=features, target=target)
    numbers, sizes = target.cpu().unique(return_counts=True)
    if len(numbers) < 2 or int(sizes.min()) < 2:
        raise arguments.ArgumentError(
            f"A probe needs two classes and two examples of each, and got {sizes.tolist()} "
            "examples of its classes: bring more."
        )
    parts = StratifiedKFold(min(5, int(sizes.min())), shuffle=True, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": STRENGTHS}, cv=parts)
    wide = [PCA()] if features.shape[1] > len(features) else []  # turns, and loses nothing
    reader = make_pipeline(StandardScaler(), *wide, search)
    return reader.fit(features.cpu().numpy(), target.cpu().numpy())


# --- Three new tasks, with few labels


class Task(NamedTuple):
    """Pictures (N, 3, 64, 64) and the number of each one's class (N,)."""

    images: Tensor
    target: Tensor
    classes: int


TASKS = ("drawing", "side", "digit")
"""drawing: which of ten drawings with an ambiguous name; side: on which side of the face the object
is; digit: a handwritten digit."""


def task(name: str, cards: datasets.Postcards, split: str = "train") -> Task:
    """A task for the captioner's encoder, by what it learned of it in lesson 06.

    "drawing": ten drawings that share five English names, such as both bats; the Chinese captions
    told them apart. "side": left or right; no caption said it. "digit": the course's sample of
    MNIST, another world; `split` says which part of it. Raises ValueError for another task, and
    when no card has what it asks for.
    """
    arguments.check_choice("task", name, TASKS)
    if name == "digit":
        images, target, _ = datasets.load_digit_sample(split)
        return Task(datasets.as_pictures(images), target, 10)
    if name == "side":
        chosen = [card.relation == "beside" for card in cards.cards]
        number = [int(card.side == "right") for card in cards.cards]
    else:
        drawings = [drawing for drawing in postcards.OBJECTS if "(" in drawing]
        chosen = [card.object in drawings for card in cards.cards]
        number = [drawings.index(card.object) if "(" in card.object else 0 for card in cards.cards]
    if not any(chosen):
        raise arguments.ArgumentError(
            f'None of the {len(cards)} cards can be asked for its "{name}": draw more cards.'
        )
    kept = torch.tensor(chosen)
    classes = 2 if name == "side" else len(drawings)
    return Task(cards.images[kept], torch.tensor(number)[kept], classes)


class Score(NamedTuple):
    """How a way to adapt did: how many numbers learned, the share of right answers on the labelled
    pictures that it learned from, and the share on new ones."""

    way: str
    learned: int
    known: float
    right: float


PIXELS, PROBE = "pixels, linear", "probe"


def compare(
    encoder: cnn.ImageEncoder, train: Task, test: Task, labels: int = 50, seed: int = 0
) -> list[Score]:
    """Five ways to a classifier, with the same few labels, judged on the same test pictures.

    A linear classifier of pixels and a network from scratch, which make no use of the encoder; a
    probe, full fine-tuning, and the low-rank addition, which do. About four seconds. Raises
    ValueError when there are fewer labels than two a class.
    """
    arguments.check_count("labels", labels, 2 * train.classes, 50)
    chosen = few(train.target, labels // train.classes, seed)
    images, target = train.images[chosen], train.target[chosen]
    scores = []
    for way, eye in ((PIXELS, Flat()), (PROBE, encoder)):
        x, new = training.predict(eye, images), training.predict(eye, test.images)
        reader = probe(x, target)
        known, right = (
            _share(reader.predict(one.cpu().numpy()), true)
            for one, true in ((x, target), (new, test.target))
        )
        scores.append(Score(way, train.classes * (x.shape[1] + 1), known, right))
    for way in WAYS:
        model = new_classifier(encoder, train.classes, way, seed)
        fine_tune(model, images, target, seed=seed)
        known, right = (
            _share(training.predict(model, one).argmax(1), true)
            for one, true in ((images, target), (test.images, test.target))
        )
        scores.append(Score(way, learned(model), known, right))
    return scores


class Flat(nn.Module):
    """The cheapest encoder: the pixels themselves, (B, 3, H, W) to (B, 3 * H * W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


# --- Encoders that others have trained

PACKAGES = ("torchvision", "timm", "transformers", "open_clip")


class Pretrained(nn.Module):
    """An encoder that others have trained: pictures (B, 3, H, W) in [0, 1] to features (B, dim).

    It brings pictures to the size that the network knows, and normalises them as it was done in its
    training; both belong to the model, so that nobody can forget them. network: pictures
    (B, 3, size, size) to (B, dim); mean, std: three numbers each. Raises ValueError when the
    network returns something else, and for pictures as `cnn.ImageEncoder` does.
    """

    def __init__(
        self, network: nn.Module, size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        with training.evaluating(self):
            features = self(torch.zeros(1, 3, size, size, device=device_of(network)))
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise arguments.ArgumentError(
                f"An encoder returns features (B, dim), and this {type(network).__name__} returned "
                f"{arguments.kind(features)}: take a network that reads pictures, without its "
                "last layer."
            )
        self.dim = features.shape[1]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        arguments.check_pictures("Pretrained", images)
        size = (self.size, self.size)
        x = nn.functional.interpolate(
            images, size, mode="bilinear", antialias=True, align_corners=False
        )
        return self.network((x - self.mean) / self.std)


def pretrained(package: str, name: str, weights: str = "", download: bool = False) -> Pretrained:
    """An encoder from another package, with its trained weights. Lesson 14.

    package: "torchvision" (name "resnet18"), "timm" ("resnet18.a1_in1k"), "transformers"
    ("facebook/dinov2-small", a name on the Hugging Face Hub), or "open_clip" ("ViT-B-32", which
    needs weights="laion2b_s34b_b79k", the name of what it was trained on). weights: a name, where a
    model has several. Weights that are on this computer already are used; others are fetched only
    with download=True.

    Raises ValueError for an unknown package, model or name of weights; ImportError when the package
    is missing or does not fit PyTorch; FileNotFoundError when the weights are not here.
    """
    arguments.check_choice("package", package, PACKAGES)
    arguments.check_switch("download", download)
    return _LOADERS[package](_imported(package), name, weights, download)


def _imported(package: str) -> object:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = (error.name or package).partition(".")[0]
        raise ImportError(
            f"The package {missing} is not installed here: type `pip install "
            f'"mbm-lab[pretrained]"`, then start Python anew.'
        ) from None
    except Exception as error:  # it is there, and made for another PyTorch
        raise ImportError(
            f"The package {package} does not work with PyTorch {torch.__version__} here "
            f"({type(error).__name__}): install the version of it that belongs to this PyTorch."
        ) from error


def _known_name(package: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.5) or list(known)[:3]
        raise arguments.ArgumentError(
            f'{package} has no "{name}": choose one of its {len(known)}, such as {", ".join(near)}.'
        )


def _not_here(package: str, name: str, where: str) -> FileNotFoundError:
    return FileNotFoundError(
        f'The weights of "{name}" are not on this computer ({where}): pass download=True to let '
        f"{package} fetch them, or copy them there."
    )


def _without_last(network: nn.Module) -> nn.Module:
    """The network with nothing in the place of its last linear layer: it returns features."""
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    above, _, last = linear[-1].rpartition(".")
    setattr(network.get_submodule(above), last, nn.Identity())
    return network


def _torchvision(package: object, name: str, weights: str, download: bool) -> Pretrained:
    models = importlib.import_module("torchvision.models")
    _known_name("torchvision", name, models.list_models(module=models))
    kinds = models.get_model_weights(name)
    _known_name(f"torchvision's {name}", weights or "DEFAULT", list(kinds.__members__))
    chosen = kinds[weights or "DEFAULT"]
    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(chosen.url))
    if not (download or os.path.isfile(path)):
        raise _not_here("torchvision", name, path.replace(os.path.expanduser("~"), "~", 1))
    prepare = chosen.transforms()
    network = _without_last(models.get_model(name, weights=chosen))
    return Pretrained(network, prepare.crop_size[0], prepare.mean, prepare.std)


def _on_disk(repository: str, *files: str) -> str:
    """Where the first of these files of a repository of the Hugging Face Hub lies; "" if none is
    here."""
    hub = _imported("huggingface_hub")
    found = (hub.try_to_load_from_cache(repository, file) for file in files)
    return next((path for path in found if isinstance(path, str)), "")


def _timm(package: object, name: str, weights: str, download: bool) -> Pretrained:
    full = f"{name}.{weights}" if weights else name
    known = package.list_models(pretrained=True)
    _known_name("timm", full, [*known, *{one.partition(".")[0] for one in known}])
    source = package.get_pretrained_cfg(full)
    files = ("model.safetensors", "pytorch_model.bin")
    path = _on_disk(source.hf_hub_id, *files) if source.hf_hub_id else ""
    if not (download or path):
        raise _not_here("timm", full, f"of {source.hf_hub_id}, in the cache of the Hub")
    here = {"pretrained_cfg_overlay": {"file": path}} if path else {}
    network = package.create_model(full, pretrained=True, num_classes=0, **here)
    _, size, _ = source.input_size
    return Pretrained(network, size, source.mean, source.std)


class _Pooled(nn.Module):
    """A transformers model that reads pictures, as a network (B, 3, H, W) to (B, dim): its pooled
    output, or else the mean over its places."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        out = self.network(pixel_values=images)
        pooled = getattr(out, "pooler_output", None)
        if pooled is None:
            states = out.last_hidden_state  # (B, places, dim), or (B, dim, H, W)
            pooled = states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)
        return pooled.flatten(1)


def _transformers(package: object, name: str, weights: str, download: bool) -> Pretrained:
    chosen = {"local_files_only": not download, "revision": weights or "main"}
    try:
        network = package.AutoModel.from_pretrained(name, **chosen)
        prepare = package.AutoImageProcessor.from_pretrained(name, **chosen)
    except OSError as error:
        if download:
            raise arguments.ArgumentError(
                f'transformers finds no model "{name}" that reads pictures on the Hugging Face '
                "Hub: check its name, and the network."
            ) from error
        raise _not_here("transformers", name, "in the cache of the Hub") from error
    eye = getattr(network, "vision_model", network)  # of a model of pictures and texts, the picture
    return Pretrained(_Pooled(eye), _side(prepare), prepare.image_mean, prepare.image_std)


def _side(prepare: object) -> int:
    """The side of the pictures that a transformers processor makes, in pixels."""
    cuts = getattr(prepare, "do_center_crop", None)
    size = dict(prepare.crop_size if cuts else prepare.size)
    return int(size.get("height") or size["shortest_edge"])


class _Eye(nn.Module):
    """The picture side of an open_clip model: (B, 3, H, W) to (B, dim)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.visual = network.visual

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


def _open_clip(package: object, name: str, weights: str, download: bool) -> Pretrained:
    _known_name("open_clip", name, package.list_models())
    _known_name(f"open_clip's {name}", weights, package.list_pretrained_tags_by_model(name))
    source = package.get_pretrained_cfg(name, weights)
    repository, _, file = source.get("hf_hub", "").rpartition("/")
    usual = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    path = _on_disk(repository, *([file] if file else usual)) if repository else ""
    if not (download or path):
        raise _not_here("open_clip", f"{name}, {weights}", f"of {repository or name}")
    network = package.create_model(
        name, pretrained=path or weights, force_quick_gelu=source.get("quick_gelu", False)
    )
    size = network.visual.image_size
    size = size if isinstance(size, int) else size[0]
    return Pretrained(_Eye(network), size, source["mean"], source["std"])


_LOADERS: dict[str, Callable[..., Pretrained]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
    "open_clip": _open_clip,
}


# --- What is not there

NOUNS = frozenset(re.sub("^an? ", "", english) for english, _ in postcards.OBJECTS.values())
"""The objects' names without their article: "hat", "glasses", …"""


def without_object(cards: datasets.Postcards) -> datasets.Postcards:
    """The same N cards, painted without their object: nothing beside the face, nothing on it.

    Their texts still name it, and are true no more. Lesson 14.
    """
    bare = [dataclasses.replace(card, object="") for card in cards.cards]
    return dataclasses.replace(cards, images=datasets.paint(bare), cards=bare)


def object_questions(cards: datasets.Postcards) -> list[str]:
    """Lesson 07's question for each card's object: "what is beside the face?", or on its head."""
    asked = {"beside": "what is beside the face?", "on": "what is on its head?"}
    return [asked[card.relation] for card in cards.cards]


def name_objects(texts: Sequence[str]) -> Tensor:
    """Whether each text names an object of the postcards: (N,) bool. Raises ValueError when there
    is no text."""
    arguments.check_texts("name_objects", texts=texts)
    return torch.tensor([not NOUNS.isdisjoint(preprocessing.tokenize(text)) for text in texts])


def interval(count: int, total: int) -> tuple[float, float]:
    """Between which shares the true one lies, 95 times in 100, when `count` of `total` were seen.

    Wilson's interval (1927), which also holds near 0 and 1. Raises ValueError unless
    0 <= count <= total, and total is at least 1.
    """
    from scipy.stats import binomtest  # takes long to import

    arguments.check_count("total", total, 1, 200)
    arguments.check_count("count", count, 0, most=total)
    found = binomtest(count, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def confidence(
    model: one_model.OneModel,
    seen: dict[str, Tensor],
    vocabulary: preprocessing.Vocabulary,
    texts: Sequence[str],
) -> Tensor:
    """How sure lesson 13's model is of its answers to N questions: the probability of the first
    word, (N,). Raises ValueError as `one_model.answer`."""
    inputs = one_model.ask(model, "<ask>", seen, vocabulary, texts)
    return one_model.first_scores(model, inputs).softmax(1).max(1).values


def refusals(
    cards: datasets.Postcards, vocabulary: preprocessing.Vocabulary, seed: int = 0
) -> list[one_model.Examples]:
    """Examples that teach to say "no", for N cards: all tasks on the cards as they are, so that
    nothing is forgotten; and among the questions, behind the others, N more: the one for the object
    of each card, with a picture from which it is gone, and the answer "no".

    seed: that of lesson 06's captioner, through which the pictures go. Four seconds for 600 cards.
    """
    bare = one_model.picture_patches(without_object(cards).images, seed)
    asked = object_questions(cards)
    no = one_model.examples("<ask>", {"picture": bare}, asked, ["no"] * len(asked), vocabulary)
    whole = one_model.picture_patches(cards.images, seed)
    *others, questions = one_model.picture_examples(cards, whole, vocabulary)
    return [*others, *one_model.joined([[questions], [no]])]
