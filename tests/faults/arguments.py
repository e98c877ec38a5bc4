"""Faults in what training, and what is trained with it, is given."""

import copy
import functools
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mbm_lab import (
    captioning,
    cnn,
    fusion,
    questions,
    retrieval,
    rnn,
    speech,
    stored,
    training,
    translation,
    video,
    writing,
)
from mbm_lab.device import lent
from tests.faults import Fault
from tests.small_runs import MSE, same, small_model, small_task

X, Y = small_task(20)
CE = nn.functional.cross_entropy


class Changed(Exception):
    """A refusal that left something changed."""


def refused(model: object, act: Callable[[], object]) -> object:
    """Does it; if it is refused, model, modes, random numbers and data must be as before."""
    is_model = isinstance(model, nn.Module)
    before = copy.deepcopy(model.state_dict()) if is_model else {}
    modes = [part.training for part in model.modules()] if is_model else []
    random_state, data = torch.get_rng_state(), (X.clone(), Y.clone())
    try:
        return act()
    except ValueError:
        if is_model:
            now = model.state_dict()
            if not all(torch.equal(before[key].nan_to_num(), now[key].nan_to_num()) for key in now):
                raise Changed("the weights are others") from None
            if modes != [part.training for part in model.modules()]:
                raise Changed("the mode is another") from None
        if not torch.equal(random_state, torch.get_rng_state()):
            raise Changed("random numbers were drawn") from None
        if not (torch.equal(data[0], X) and torch.equal(data[1], Y)):
            raise Changed("the data were changed") from None
        raise


def fit(model: object, *args, **options) -> Callable[[object], object]:
    """Calls training.fit, for a fault."""
    if len(args) < 3 and "loss" not in options:
        options["loss"] = MSE
    options = {"epochs": 1, "batch_size": 8, "progress": False, **options}

    def act(_: object) -> training.History:
        made = model() if callable(model) and not isinstance(model, nn.Module | type) else model
        return refused(made, lambda: training.fit(made, *args, **options))

    return act


def trained(history: object) -> bool:
    """Whether a run went through."""
    return isinstance(history, training.History) and len(history.train_loss) > 0


def reader(features: int = 3, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 4), nn.BatchNorm1d(4), nn.Linear(4, outputs))


def flat() -> nn.Module:
    return small_model()


class Tells(nn.Module):
    """A model with a forward of one's own."""

    def __init__(self, forward: Callable, layer: nn.Module | None = None):
        super().__init__()
        self.layer, self.told = layer or nn.Linear(3, 1), forward

    def forward(self, inputs):
        return self.told(self.layer, inputs)


def tells(forward: Callable, layer: Callable[[], nn.Module] = lambda: None) -> Callable:
    return lambda: Tells(forward, layer())


def faults(seed: int) -> Iterator[Fault]:
    """All of them; those of `_drawn` are others with another seed."""
    yield from _options()
    yield from _inputs()
    yield from _models()
    yield from _loaders()
    yield from _parts()
    yield from _legitimate()
    yield from _applications()
    yield from _drawn(random.Random(seed))


WRONG_NUMBERS = {
    "batch_size": (-1, 0, 1.5, "64", True, None, float("nan"), [64], torch.tensor(2.5)),
    "epochs": (-3, 1.5, None, "3", True),
    "learning_rate": (-1, 0, float("nan"), float("inf"), "0.1", None, True, 1j),
    "seed": (None, 1.5, -1, "0", 2**63, float("nan")),
    "clip_norm": (-1, 0, float("nan"), "1", float("inf")),
    "patience": (0, -1, 1.5, "3", True),
    "accumulate": (0, -2, 1.5, None, "2", True, float("nan")),
}
"""What is no number for each option of `fit`."""


def _options() -> Iterator[Fault]:
    for name, values in WRONG_NUMBERS.items():
        for value in values:
            named = repr(value) if isinstance(value, str) else str(value)[:12]
            if isinstance(value, list | Tensor | complex):
                named = ""
            yield Fault(
                "arguments of fit",
                f"{name}={value!r}",
                fit(flat, X, Y, val=(X, Y), **{name: value}),
                (name, named),
            )
    for name, values in {
        "one_cycle": ("yes", 1, None),
        "resume": ("yes", 1),
        "progress": (None, "no"),
        "checkpoint": (5, "", [], True),
        "augment": (5, "flip", [1]),
        "optimizer": ("adam", None, 3),
        "device": ("gpu", "cuda:x", 3.5, "cuda"),
        "autocast": ("bf16", torch.float32, torch.int8, 16, True),
        "loss": ("mse", 3, nn.MSELoss, None, [None]),
    }.items():
        for value in values:
            if value == "cuda" and torch.cuda.is_available():
                continue
            yield Fault(
                "arguments of fit", f"{name}={value!r}", fit(flat, X, Y, **{name: value}), (name,)
            )

    def made_already(_):
        model = flat()
        adam = torch.optim.Adam(model.parameters())
        return refused(model, lambda: training.fit(model, X, Y, MSE, optimizer=adam))

    yield Fault("arguments of fit", "an optimizer that is made", made_already, ("Adam", "class"))
    yield Fault("arguments of fit", "patience without val", fit(flat, X, Y, patience=2), ("val=",))
    yield Fault(
        "arguments of fit",
        "resume without a folder",
        fit(flat, X, Y, resume=True),
        ("checkpoint=",),
    )
    for what, val in {
        "one": (X,),
        "three": (X, Y, Y),
        "a tensor": X,
        "a dictionary": {"x": X},
        "None in it": (X, None),
        "empty": (X[:0], Y[:0]),
        "of other lengths": (X, Y[1:]),
    }.items():
        yield Fault("arguments of fit", f"val: {what}", fit(flat, X, Y, val=val), ("val",))
    for what, change in {
        "None": lambda x, g: None,
        "half": lambda x, g: x[::2],
        "a pair": lambda x, g: (x, g),
        "an array": lambda x, g: x.numpy(),
        "an empty dictionary": lambda x, g: {},
        "other features": lambda x, g: x[:, :2],
    }.items():
        named = "augment" if what != "other features" else "(8, 2)"
        yield Fault(
            "arguments of fit", f"augment gives {what}", fit(flat, X, Y, augment=change), (named,)
        )


def _inputs() -> Iterator[Fault]:
    def given(what: str, inputs: object, targets: object = Y, names: tuple = (), model=flat):
        return Fault("inputs of fit", what, fit(model, inputs, targets), names)

    yield given("a list", X.tolist(), names=("a list",))
    yield given("an array", X.numpy(), names=("a NumPy array",))
    yield given("None", None, names=("None",))
    yield given("an empty dictionary", {}, names=("empty",))
    yield given("a dictionary of lists", {"image": X.tolist()}, names=("image",))
    yield given("a dictionary of two lengths", {"image": X, "text": X[1:]}, names=("text", "19"))
    yield given("no example", X[:0], Y[:0], ("no example",))
    yield given("one number", torch.tensor(1.0), torch.tensor(1.0))
    yield given("a data set", TensorDataset(X, Y), None, ("DataLoader",))
    yield given("targets a list", X, Y.tolist(), ("targets", "a list"))
    yield given("targets an array", X, Y.numpy(), ("targets", "NumPy"))
    yield given("targets a number", X, 3.0, ("targets",))
    yield given("targets one number as a tensor", X, Y[0], ("targets", "single number"))
    yield given("fewer targets", X, Y[1:], ("20", "19"))
    for kind in (torch.float64, torch.float16, torch.uint8, torch.int64, torch.bfloat16):
        named = str(kind).removeprefix("torch.")
        cure = "/ 255" if kind == torch.uint8 else ".float()"
        yield given(f"inputs of {named}", X.abs().to(kind), names=(named, cure))
        image = torch.rand(20, 3, 8, 8).mul(255).to(kind)
        yield given(
            f"pictures of {named}",
            {"image": image},
            names=(named, "image"),
            model=tells(
                lambda layer, x: layer(x["image"]).flatten(1)[:, 0], lambda: nn.Conv2d(3, 2, 3)
            ),
        )
    yield given("two features instead of three", X[:, :2], names=("(8, 2)", "3"))
    yield given(
        "grey pictures",
        torch.rand(20, 1, 8, 8),
        names=("(8, 1, 8, 8)", "(B, 3, H, W)"),
        model=tells(lambda layer, x: layer(x).flatten(1)[:, 0], lambda: nn.Conv2d(3, 2, 3)),
    )
    yield given(
        "pictures with the channels behind",
        torch.rand(20, 8, 8, 3),
        names=("(8, 8, 8, 3)",),
        model=tells(lambda layer, x: layer(x).flatten(1)[:, 0], lambda: nn.Conv2d(3, 2, 3)),
    )
    yield given(
        "another length for a GRU",
        torch.rand(20, 5, 4),
        names=("(8, 5, 4)", "3"),
        model=tells(lambda layer, x: layer(x)[0][:, -1, 0], lambda: nn.GRU(3, 2, batch_first=True)),
    )
    words = torch.randint(0, 9, (20, 4))
    look_up = tells(lambda layer, x: layer(x).mean((1, 2)), lambda: nn.Embedding(9, 2))
    yield given("tokens as float", words.float(), names=("float32", "long()"), model=look_up)
    yield given("a word beyond the vocabulary", words + 3, names=("9 words",), model=look_up)
    yield given("a negative word", words - 1, names=("-1",), model=look_up)
    for bad in (float("nan"), float("inf"), -float("inf")):
        for where in ("inputs", "targets", "validation inputs", "validation targets"):
            x, y = X.clone(), Y.clone()
            (x if "inputs" in where else y)[7] = bad
            whole, val = ((x, y), None) if "val" not in where else ((X, Y), (x, y))
            yield Fault(
                "no numbers",
                f"{bad} in the {where}",
                fit(flat, *whole, val=val),
                (where, str(bad), "example 7"),
            )
        both = {"image": X, "sound": X.clone().index_fill(0, torch.tensor([3]), bad)}
        yield Fault(
            "no numbers", f"{bad} in a modality", fit(two_readers, both, Y), ("sound", "example 3")
        )
    yield Fault(
        "inputs of fit", "a modality is missing", fit(two_readers, {"image": X}, Y), ("sound",)
    )
    yield Fault(
        "inputs of fit",
        "a modality too many",
        fit(two_readers, {"image": X, "sound": X, "smell": X}, Y),
        ("smell",),
    )
    yield Fault(
        "inputs of fit",
        "a modality of another name",
        fit(tells(lambda layer, x: layer(x["picture"])[:, 0]), {"image": X}, Y),
        ("picture", "image"),
    )


def two_readers() -> nn.Module:
    torch.manual_seed(0)
    readers = {name: nn.Linear(3, 1) for name in ("image", "sound")}
    return fusion.MultimodalModel(readers, fusion.WeightedSum(tuple(readers), 1), nn.Identity())


def _models() -> Iterator[Fault]:
    def model(what: str, given: object, names: tuple = (), **options):
        return Fault("models", what, fit(given, X, Y, **options), names)

    yield model("a class", nn.Linear, ("Linear", "class"))
    yield Fault("models", "None", lambda _: training.fit(None, X, Y, MSE), ("None",))
    yield Fault("models", "a function", lambda _: training.fit(abs, X, Y, MSE), ("nn.Module",))
    lazy = nn.Sequential(nn.LazyLinear(1), nn.Flatten(0))
    yield Fault("models", "a layer without a size", lambda _: training.fit(lazy, X, Y, MSE),
                ("0.weight", "LazyLinear"))  # fmt: skip
    yield model("without parameters", lambda: nn.Flatten(0), ("no parameters",))
    yield model("all frozen", lambda: nn.Linear(3, 1).requires_grad_(False), ("frozen",))
    yield model("gives a tuple", tells(lambda layer, x: (layer(x), x)), ("tuple",))
    yield model("gives a dictionary", tells(lambda layer, x: {"v": layer(x)}), ("dict",))
    yield model("gives None", tells(lambda layer, x: None), ("None",))
    yield model(
        "gives a tuple, own loss",
        tells(lambda layer, x: (layer(x), x)),
        ("tuple",),
        loss=lambda o, t: (o - t).square().mean(),
    )
    yield model("detaches", tells(lambda layer, x: layer(x)[:, 0].detach()), ("gradient", "detach"))
    yield Fault(
        "models",
        "one example, batch normalisation",
        fit(reader, X[:1], Y[:1, None]),
        ("batch_size",),
    )
    yield Fault(
        "models",
        "batches of one, batch normalisation",
        fit(reader, X, Y[:, None], batch_size=1),
        ("batch_size",),
    )
    yield Fault(
        "models",
        "a last batch of one in a DataLoader",
        fit(reader, DataLoader(TensorDataset(X[:17], Y[:17, None]), 8)),
        ("drop_last=True",),
    )

    yield model("LBFGS", flat, ("LBFGS",), optimizer=torch.optim.LBFGS)
    yield Fault(
        "models",
        "flattens the examples, too",
        fit(tells(lambda layer, x: layer(x).flatten(), lambda: nn.Linear(3, 3)), X, Y),
        ("(24,)", "(8,)"),
    )
    yield model(
        "a tuple whose first is (N, 1)",
        tells(lambda layer, x: (layer(x), x)),
        ("(8, 1)",),
        loss=lambda o, t: MSE(o[0], t),
    )
    yield model(
        "a dictionary with (N, 1)",
        tells(lambda layer, x: {"v": layer(x)}),
        ("(8, 1)",),
        loss=lambda o, t: (o["v"] - t).abs().mean(),
    )

    def own(_):
        model = Tells(lambda layer, x: x.undefined)
        try:
            training.fit(model, X, Y, MSE, progress=False)
        except AttributeError as error:
            return "undefined" in str(error)

    yield Fault("models", "a learner's own error shows", own, right=bool)

    yield Fault(
        "models",
        "does without a modality that is missing",
        fit(tells(_without), {"image": X}, Y),
        right=trained,
    )

    def own_table(_):
        model = Tells(lambda layer, x: {"red": 1}["blue"] * layer(x["image"]))
        try:
            training.fit(model, {"image": X}, Y, MSE, progress=False)
        except KeyError as error:
            return error.args == ("blue",)
        except ValueError as error:
            return "modality" not in str(error)

    yield Fault("models", "a learner's own key", own_table, right=bool)


def _without(layer: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """A forward that can do without the sound."""
    try:
        return layer(inputs["sound"])[:, 0]
    except KeyError:
        return layer(inputs["image"])[:, 0]


def _loaders() -> Iterator[Fault]:
    def loader(what: str, data: object, names: tuple = (), model=flat, **options):
        def act(folder: object) -> object:
            made = DataLoader(data, batch_size=8) if not isinstance(data, DataLoader) else data
            return fit(model, made, **options)(folder)

        return Fault("DataLoaders", what, act, names)

    yield loader("empty", [], ("no batch",))
    yield loader("without targets", TensorDataset(X), ("pair",))
    yield loader("three things", TensorDataset(X, Y, Y), ("pair",))
    yield loader("only inputs, a dictionary", [{"x": x} for x in X], ("pair",))
    yield loader("with targets beside it", TensorDataset(X, Y), ("DataLoader",), targets=Y)
    yield loader(
        "arrays on the way",
        DataLoader(
            TensorDataset(X, Y),
            8,
            collate_fn=lambda some: (
                torch.stack([x for x, _ in some]).numpy(),
                torch.stack([y for _, y in some]),
            ),
        ),
        ("NumPy",),
    )
    lengths = DataLoader([(X[:8], Y[:7])], batch_size=None)
    yield loader("more inputs than targets in a batch", lengths, ("8", "7"))
    yield loader("no modality on the way", DataLoader([({}, Y[:7])], batch_size=None), ("empty",))
    yield loader("one target a batch", DataLoader([(X[:8], Y[0])], batch_size=None), ("targets",))
    yield loader("texts on the way", [("a", 1.0), ("b", 2.0)] * 8, ("inputs",))
    bad = X.clone()
    bad[9, 1] = float("nan")
    yield loader("NaN in a batch", TensorDataset(bad, Y), ("inputs", "nan"))
    yield loader("inf in the targets", TensorDataset(X, (Y / 0)), ("targets", "inf"))
    yield loader("double on the way", TensorDataset(X.double(), Y), ("float64",))
    yield loader("(N, 1) on the way", TensorDataset(X, Y[:, None]), ("(8, 1)", "(8,)"))
    for what, val in {
        "empty": DataLoader([]),
        "without targets": DataLoader(TensorDataset(X), 8),
        "NaN": DataLoader(TensorDataset(bad, Y), 8),
        "(N, 1)": DataLoader(TensorDataset(X, Y[:, None]), 8),
    }.items():
        yield Fault("DataLoaders", f"validation: {what}", fit(flat, X, Y, val=val))

    class Endless(IterableDataset):
        def __iter__(self):
            return iter([])

    yield loader("no length, one_cycle", Endless(), ("one_cycle",), one_cycle=True)


def _parts() -> Iterator[Fault]:
    """What is beside `fit` in `training`."""

    def part(what: str, act: Callable[[nn.Module], object], names: tuple = (), model=flat):
        def tried(_: object) -> object:
            made = model()
            return refused(made, lambda: act(made))

        return Fault("parts of training", what, tried, names)

    predict, epoch = training.predict, training.one_epoch
    yield part("predict: a class", lambda m: predict(nn.Linear, X), ("Linear",))
    yield part("predict: empty dictionary", lambda m: predict(m, {}), ("empty",))
    yield part("predict: a list", lambda m: predict(m, X.tolist()), ("a list",))
    yield part("predict: no example", lambda m: predict(m, X[:0]), ("no example",))
    for size in (-1, 0, 1.5, "8", None, True):
        yield part(
            f"predict: batch_size={size!r}",
            lambda m, size=size: predict(m, X, size),
            ("batch_size", repr(size)),
        )
    hole = X.clone()
    hole[4] = float("nan")
    yield part("predict: NaN", lambda m: predict(m, hole), ("example 4",))
    yield part("predict: float64", lambda m: predict(m, X.double()), ("float64",))
    yield part("predict: two features", lambda m: predict(m, X[:, :2]), ("(20, 2)",))
    yield part(
        "predict: a tuple",
        lambda m: predict(m, X),
        ("tuple",),
        tells(lambda layer, x: (layer(x), x)),
    )
    yield part("predict: device", lambda m: predict(m, X, device="gpu"), ("gpu",))
    yield part(
        "predict: a modality is missing",
        lambda m: predict(m, {"image": X}),
        ("sound",),
        two_readers,
    )

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters())

    yield part("one_epoch: no batch", lambda m: epoch(m, [], MSE, adam(m)), ("no batch",))
    yield part("one_epoch: None", lambda m: epoch(m, None, MSE, adam(m)), ("batches",))
    yield part("one_epoch: a tensor", lambda m: epoch(m, X, MSE, adam(m)), ("pair",))
    yield part(
        "one_epoch: optimizer a class",
        lambda m: epoch(m, [(X, Y)], MSE, torch.optim.Adam),
        ("optimizer",),
    )
    yield part(
        "one_epoch: loss a class", lambda m: epoch(m, [(X, Y)], nn.MSELoss, adam(m)), ("MSELoss",)
    )
    yield part(
        "one_epoch: clip_norm",
        lambda m: epoch(m, [(X, Y)], MSE, adam(m), None, -1),
        ("clip_norm", "-1"),
    )
    yield part(
        "one_epoch: (N, 1)",
        lambda m: epoch(m, [(X, Y[:, None])], MSE, adam(m)),
        ("(20, 1)", "(20,)"),
    )
    least = training.least_loss
    for what, options in {
        "steps": {"steps": 0},
        "size": {"size": -1},
        "seed": {"seed": None},
        "method": {"method": "luck"},
    }.items():
        yield part(
            f"least_loss: {what}",
            lambda m, options=options: least(m, X, Y, MSE, **options),
            (str(*options.values()),),
        )
    for method in ("gradient", "random"):
        yield part(
            f"least_loss, {method}: (N, 1)",
            lambda m, method=method: least(m, X, Y[:, None], MSE, method),
            ("(20, 1)", "(20,)"),
        )
        yield part(
            f"least_loss, {method}: float64",
            lambda m, method=method: least(m, X.double(), Y, MSE, method),
            ("float64",),
        )
    both = {"image": X, "sound": X**2}
    fit_weights = training.fit_weights
    yield part(
        "fit_weights: moods (N, 1)",
        lambda m: fit_weights(m, both, Y[:, None]),
        ("(20, 1)",),
        two_readers,
    )
    yield part(
        "fit_weights: a modality is missing",
        lambda m: fit_weights(m, {"image": X}, Y),
        ("sound",),
        two_readers,
    )
    yield part(
        "fit_weights: no such model", lambda m: fit_weights(m, both, Y), ("MultimodalModel",)
    )
    yield part(
        "readings: a tensor", lambda m: training.readings(m, X), ("dictionary",), two_readers
    )
    yield part("lent: device", lambda m: lent(m, "gpu").__enter__(), ("gpu",))


def _legitimate() -> Iterator[Fault]:
    """What looks odd, and is right."""

    def right(what: str, model: object, *args, **options):
        return Fault("odd, but right", what, fit(model, *args, **options), right=trained)

    yield right(
        "huge but finite numbers", flat, 1e15 * X, Y, learning_rate=1e-9, loss=nn.functional.l1_loss
    )
    yield right(
        "numbers whose sum is no number",
        flat,
        torch.full((4, 3), 1e38),
        Y[:4],
        loss=lambda o, t: (0 * o - t).abs().mean() + 0 * o.sum().clamp(-1, 1),
    )
    yield right(
        "NumPy's whole numbers",
        flat,
        X,
        Y,
        batch_size=np.int64(8),
        epochs=np.int32(1),
        seed=np.int64(3),
        learning_rate=np.float32(0.01),
    )
    yield right("a path as text for a checkpoint", flat, X, Y, optimizer=torch.optim.SGD)
    yield right(
        "a partial optimizer",
        flat,
        X,
        Y,
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=0.1),
    )
    yield right(
        "a lambda as optimizer",
        flat,
        X,
        Y,
        optimizer=lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    )
    yield right("device as a text", flat, X, Y, device="cpu")
    yield right("val as a list", flat, X, Y, val=[X, Y], patience=1)
    yield right(
        "a double model and double numbers", lambda: small_model().double(), X.double(), Y.double()
    )
    yield right("one example without batch normalisation", flat, X[:1], Y[:1])
    yield right("batches of one", flat, X, Y, batch_size=1)
    yield right("a batch larger than the data", flat, X, Y, batch_size=1000)
    yield right(
        "a tuple, and a loss that takes it apart",
        tells(lambda layer, x: (layer(x)[:, 0], x)),
        X,
        Y,
        loss=lambda o, t: MSE(o[0], t),
    )
    yield right(
        "a model that is partly frozen",
        lambda: nn.Sequential(
            nn.Linear(3, 2).requires_grad_(False), nn.Linear(2, 1), nn.Flatten(0)
        ),
        X,
        Y,
    )
    yield right(
        "a surplus modality that the model does not look at",
        tells(lambda layer, x: layer(x["image"])[:, 0]),
        {"image": X, "sound": X},
        Y,
    )
    yield right(
        "tokens and pictures",
        tells(lambda layer, x: layer(x["a"])[:, 0] + x["b"].sum(1)),
        {"a": X, "b": torch.ones(20, 4, dtype=torch.long)},
        Y,
    )
    yield right(
        "a dictionary from augment",
        tells(lambda layer, x: layer(x["image"])[:, 0]),
        X,
        Y,
        augment=lambda x, g: {"image": x},
    )
    yield right("a list of pairs as a data set", flat, DataLoader(list(zip(X, Y, strict=True)), 8))
    yield Fault(
        "odd, but right",
        "no epochs",
        fit(flat, X, Y, epochs=0, one_cycle=True),
        right=lambda history: history.train_loss == [],
    )

    def noisy(_):
        images = torch.rand(4, 3, 64, 64) + 2 * torch.randn(4, 3, 64, 64)
        return training.predict(cnn.ImageEncoder(), images)

    yield Fault(
        "odd, but right",
        "pictures under much noise",
        noisy,
        right=lambda out: bool(out.isfinite().all()),
    )

    def same_bits(_):
        watched, bare = small_model(), small_model()
        training.fit(watched, X, Y, MSE, epochs=1, batch_size=20, progress=False)
        torch.manual_seed(0)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        adam = torch.optim.Adam(bare.parameters(), lr=0.001)
        MSE(bare(X[order]), Y[order]).backward()
        adam.step()
        return same(watched, bare)

    yield Fault("odd, but right", "the same bits as a bare loop", same_bits, right=bool)


# --- Functions of the applications


@functools.cache
def stored_model(name: str):
    return stored.load(name)


def _applications() -> Iterator[Fault]:
    def asked(what: str, act: Callable[[], object], names: tuple = ()):
        return Fault("applications", what, lambda _: act(), names)

    def caption(images: Tensor, language: str = "en"):
        return captioning.caption(
            stored_model("captioner")[0], images, language, stored_model("captioner")[1]
        )

    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = (255 * picture).to(torch.uint8)
    hole = picture.clone()
    hole[1, 0, 5, 5] = float("nan")
    encoder = cnn.ImageEncoder()
    for language in ("fr", "de", "EN", "", None):
        yield asked(
            f"caption in {language!r}",
            lambda one=language: caption(picture, one),
            (repr(language),),
        )
    entrances = {
        "caption": caption,
        "image_features": captioning.image_features,
        "image_cells": lambda images: captioning.image_cells(encoder, images),
        "an encoder": lambda images: training.predict(encoder, images),
        "frame_features": lambda images: video.frame_features(images[None].expand(1, 2, 3, 64, 64)),
    }
    for name, entrance in entrances.items():
        yield asked(f"{name}: uint8", lambda e=entrance: e(whole), ("uint8", "255"))
        yield asked(f"{name}: 0 to 255", lambda e=entrance: e(255 * picture), ("255",))
        yield asked(f"{name}: NaN", lambda e=entrance: e(hole), ("nan",))
    yield asked(
        "fit: pictures from 0 to 255",
        lambda: training.fit(
            cnn.Reader(cnn.ImageEncoder()), 255 * picture, Y[:2], MSE, progress=False
        ),
        ("255",),
    )
    yield asked("caption: grey pictures", lambda: caption(picture[:, :1]), ("(2, 1, 64, 64)",))
    yield asked("caption: one picture", lambda: caption(picture[0]), ("(3, 64, 64)",))
    yield asked("caption: no picture", lambda: caption(picture[:0]), ("no example",))

    decoder, words = (stored_model("captioner")[0].decoder, stored_model("captioner")[1])
    start = decoder.start(torch.zeros(1, captioning.FEATURES))
    for width in (0, -1, 1.5, "3", None):
        yield asked(
            f"beam_search: width={width!r}",
            lambda w=width: writing.beam_search(decoder, start, width=w),
            ("width",),
        )
    for longest in (0, -1, 2.5):
        yield asked(
            f"beam_search: longest={longest}",
            lambda n=longest: writing.beam_search(decoder, start, longest=n),
            ("longest",),
        )
        yield asked(
            f"greedy: longest={longest}",
            lambda n=longest: writing.greedy(decoder, start, longest=n),
            ("longest",),
        )
    yield asked(
        "greedy: an empty state", lambda: writing.greedy(decoder, decoder.start(torch.zeros(0, 48)))
    )
    yield asked("greedy: features for a state", lambda: writing.greedy(decoder, torch.zeros(1, 48)))
    yield asked(
        "write in another language", lambda: writing.write(decoder, start, words, "fr"), ("fr",)
    )
    yield asked(
        "a word number beyond the vocabulary",
        lambda: writing.read_out(torch.tensor([[5, 99_999]]), words, "en"),
        ("99999",),
    )
    yield asked(
        "a negative word number",
        lambda: writing.read_out(torch.tensor([[5, -2]]), words, "en"),
        ("-2",),
    )
    yield asked("teacher_forcing without captions", lambda: writing.teacher_forcing([], words))
    yield asked(
        "teacher_forcing of a text",
        lambda: writing.teacher_forcing([("en", "a red face")], words),
        ("list",),
    )
    yield asked(
        "factor_in: another factor", lambda: captioning.factor_in("a red face", "color"), ("color",)
    )
    yield asked(
        "factor_in: another language",
        lambda: captioning.factor_in("a red face", "colour", "fr"),
        ("fr",),
    )

    gallery = torch.rand(6, 48)
    for k in (0, -1, 1.5, 7, "3", None):
        yield asked(f"search: k={k!r}", lambda k=k: retrieval.search(gallery[:2], gallery, k))
    found = torch.tensor([[0, 1, 2]])
    names = list("abcdef")
    for k in (0, -1, 1.5, 5):
        yield asked(
            f"recall: k={k}", lambda k=k: retrieval.recall(found, names, ["a"], k), (str(k),)
        )
    yield asked("recall: fewer queries", lambda: retrieval.recall(found, names, ["a", "b"], 1))
    yield asked(
        "recall: a negative place", lambda: retrieval.recall(found - 1, names, ["a"], 1), ("-1",)
    )
    yield asked("recall: a text", lambda: retrieval.recall(found, "abcdef", ["a"], 1), ("list",))
    for k in (0, 7, 1.5):
        yield asked(f"chance: k={k}", lambda k=k: retrieval.chance(names, ["a"], k), (str(k),))
    yield asked(
        "search: vectors of other lengths",
        lambda: retrieval.search(gallery[:, :4], gallery, 1),
        ("4", "48"),
    )
    yield asked("search: one vector", lambda: retrieval.search(gallery[0], gallery, 1), ("(48,)",))
    yield asked(
        "search: leave_out of another length",
        lambda: retrieval.search(gallery, gallery, 1, torch.tensor([0])),
        ("6",),
    )
    yield asked(
        "compose: one text, several pictures",
        lambda: retrieval.compose(gallery, gallery[:1], 0.5, 0.5),
        ("(6, 48)", "(1, 48)"),
    )
    yield asked("an empty query", lambda: retrieval.query_tokens(" ", words), ("empty",))
    yield asked("phrases of nothing", lambda: retrieval.phrases(""), ("empty",))
    yield asked("variants: count=0", lambda: retrieval.variants("a", random.Random(0), 0), ("0",))
    yield asked(
        "redraw with an unknown weather",
        lambda: retrieval.redraw(None, random.Random(0), weather="hail"),
        ("hail",),
    )
    yield asked("questions: per_card=0", lambda: questions.ask_all([], 0), ("0",))
    question = questions.Question(7, "colour", "what colour is the face?", "red")
    for what, one, answers in (
        ("a picture that is not there", question, ["red"]),
        ("a negative place", question._replace(place=-1), ["red"]),
        ("an answer that is not there", question._replace(place=0), ["blue"]),
    ):
        yield asked(
            f"questions: {what}",
            lambda o=one, a=answers: questions.question_tensors([o], gallery, words, a),
        )
    yield asked("questions: none", lambda: questions.question_tensors([], gallery, words, ["a"]))

    yield asked("a film of one frame", lambda: video.frame_features(picture[:1][None]), ("two",))
    yield asked("pictures as films", lambda: video.frame_features(picture), ("(2, 3, 64, 64)",))
    yield asked("differences of one frame", lambda: video.differences(picture[:1]), ("two",))
    yield asked("shuffle_frames of one film", lambda: video.shuffle_frames(picture[:, 0, 0, 0]))
    yield asked("expected of no film", lambda: video.expected([], 0), ("films",))

    sound = torch.sin(torch.arange(8000) / 20)
    recordings = {
        "int16": (32767 * sound).to(torch.int16),
        "two channels": sound.expand(2, -1),
        "silent": 0 * sound,
        "empty": sound[:0],
        "too long": sound.repeat(20),
        "NaN": sound / 0 * 0,
        "an array": sound.numpy(),
    }
    for what, recording in recordings.items():
        yield asked(f"recording: {what}", lambda one=recording: speech.mels_of([one]))
    yield asked("no recording", lambda: speech.mels_of([]))
    for snr in (float("nan"), "5", None):
        yield asked(
            f"add_noise: {snr!r} dB",
            lambda snr=snr: speech.add_noise(sound, snr, torch.Generator()),
            ("snr_db",),
        )
    yield asked("align of texts", lambda: speech.align("a b", ["a"]), ("split",))
    yield asked("best_weights: one reading", lambda: speech.best_weights(Y, Y), ("(20,)",))
    yield asked(
        "best_weights: moods (N, 1)", lambda: speech.best_weights(X.T, Y[:, None]), ("(20, 1)",)
    )
    yield asked(
        "best_weights: a voice without pitch", lambda: speech.best_weights(X.T / 0 * 0, Y), ("nan",)
    )

    model, (english, chinese) = stored_model("translator")
    source = torch.tensor([[5, 6, 3]])
    picture_features = torch.zeros(1, captioning.FEATURES)
    yield asked("translate: no sentence", lambda: translation.encode_source([], english))
    yield asked("translate: a text", lambda: translation.encode_source("a bat", english), ("list",))
    yield asked(
        "translate: fewer pictures",
        lambda: translation.translate(model, source.repeat(2, 1), picture_features, chinese),
        ("2", "1"),
    )
    yield asked(
        "translate: another language",
        lambda: translation.translate(model, source, picture_features, chinese, "fr"),
        ("fr",),
    )
    yield asked(
        "translate: words of another vocabulary",
        lambda: translation.translate(model, source + 9999, picture_features, chinese),
        ("10005",),
    )
    yield asked(
        "in_all_colours: no colour",
        lambda: translation.in_all_colours(["a bat"], ["b"]),
        ("a bat",),
    )
    nan_features = picture_features / 0 * 0
    for what, image, named in (
        ("NaN", nan_features, "nan"),
        ("uint8", picture_features.byte(), "uint8"),
        ("one row", picture_features[0], "(48,)"),
    ):
        yield asked(
            f"translate: features: {what}",
            lambda i=image: translation.translate(model, source, i, chinese),
            (named,),
        )
        yield asked(f"search: {what}", lambda i=image: retrieval.search(i, gallery, 1), (named,))
        yield asked(
            f"recognise: features: {what}",
            lambda i=image: speech.recognise(nn.Identity(), [sound], i, words),
        )
        yield asked(
            f"trace: features: {what}", lambda i=image: translation.trace(model, source, i, source)
        )
    two_of_each = source.repeat(2, 1), picture_features.repeat(2, 1), source.repeat(2, 1)
    yield asked("trace: two sentences", lambda: translation.trace(model, *two_of_each), ("2",))
    yield asked("cover: two sentences", lambda: translation.cover(model, *two_of_each), ("2",))
    yield asked("is_ambiguous of a text", lambda: translation.is_ambiguous("a bat"), ("list",))
    ones = torch.ones(2, 3, 4)
    log_p = ones.log_softmax(2)
    for what, target in {
        "beyond the vocabulary": torch.tensor([[1, 9], [1, 2]]),
        "negative": torch.tensor([[1, -2], [1, 2]]),
        "float": torch.ones(2, 2),
        "fewer": torch.ones(1, 2).long(),
    }.items():
        yield asked(f"ctc_loss: targets {what}", lambda t=target: speech.ctc_loss(log_p, t))
    yield asked("ctc by hand: a word too many", lambda: speech.ctc_log_likelihood(log_p[0], [9]))
    yield asked("ctc by hand: a batch", lambda: speech.ctc_log_likelihood(log_p, [1]))
    yield asked("paths_of: no frame", lambda: speech.paths_of([1], 0, 2), ("frames", "0"))
    yield asked(
        "log_standardised: one length for all",
        lambda: speech.log_standardised(ones, torch.tensor([3])),
        ("(1,)",),
    )
    yield asked("pitch of int16", lambda: speech.pitch(recordings["int16"]), ("int16",))
    yield asked("pitch of a moment", lambda: speech.pitch(sound[:9]), ("9",))
    yield asked("pace of silence", lambda: speech.pace(0 * sound, "hello"), ("silent",))
    yield asked("pace of no text", lambda: speech.pace(sound, ""))
    yield asked("differences of uint8", lambda: video.differences(whole), ("uint8",))
    yield asked("turned_around: fewer cards", lambda: video.turned_around(picture[None], []))
    for seed in (None, 1.5, "0", -1):
        yield asked(
            f"ask_all: seed={seed!r}", lambda s=seed: questions.ask_all([], 5, s), ("seed",)
        )
        yield asked(
            f"shuffle_frames: seed={seed!r}",
            lambda s=seed: video.shuffle_frames(picture[None], s),
            ("seed",),
        )
    inputs = {"image": gallery[:1], "question": torch.ones(3, 2).long()}
    yield asked("products: one picture, three questions", lambda: questions.products(inputs, 9))
    yield asked("products: no question", lambda: questions.products({"image": gallery}, 9))
    yield asked(
        "next_word_loss: another shape",
        lambda: writing.next_word_loss(ones, torch.ones(2, 4).long()),
        ("(2, 4)",),
    )
    yield asked(
        "next_word_loss: float targets", lambda: writing.next_word_loss(ones, torch.ones(2, 3))
    )
    yield asked("spell in another language", lambda: writing.spell(["a"], "fr"), ("fr",))
    yield asked("tidy of a text", lambda: writing.tidy("a red face", "en"), ("list",))
    reader = cnn.Reader(cnn.ImageEncoder()).eval()
    for what, images, named in (
        ("uint8", whole, "uint8"),
        ("0 to 255", 255 * picture, "255"),
        ("NaN", hole, "nan"),
    ):
        yield asked(f"saliency: {what}", lambda i=images: cnn.saliency(reader, i), (named,))
        yield asked(f"edge_histograms: {what}", lambda i=images: cnn.edge_histograms(i), (named,))
        yield asked(
            f"occlusion_map: {what}", lambda i=images: cnn.occlusion_map(reader, i[1]), (named,)
        )
    yield asked("edge_histograms: one picture", lambda: cnn.edge_histograms(picture[0]))
    yield asked("cover: fewer cards", lambda: cnn.cover(picture, [], "eyes"))
    step = (torch.rand(2, 3), torch.rand(2, 4), torch.rand(12, 3), torch.rand(12, 4))
    yield asked(
        "gru_step: a bias of one number", lambda: rnn.gru_step(*step, torch.rand(1), torch.rand(12))
    )
    yield asked(
        "gradient_by_distance: other features",
        lambda: rnn.gradient_by_distance(nn.GRU(3, 4, batch_first=True), torch.rand(2, 5, 4)),
        ("(2, 5, 4)",),
    )
    yield asked(
        "attend: mask of numbers",
        lambda: translation.attend(ones[:, 0], ones, ones, ones[..., 0]),
        ("float32",),
    )
    yield asked(
        "attend: another mask",
        lambda: translation.attend(ones[:, 0], ones, ones, ones[..., 0].bool()[:, :2]),
    )
    yield asked(
        "reader: tokens beyond the vocabulary",
        lambda: rnn.TextEncoder(9)(torch.tensor([[4, 9]])),
        ("9",),
    )
    yield asked(
        "reader: a row without a word",
        lambda: rnn.TextEncoder(9)(torch.tensor([[4], [0]])),
        ("word",),
    )
    yield asked(
        "reader: negative tokens", lambda: rnn.TextEncoder(9)(torch.tensor([[-4]])), ("-4",)
    )
    yield asked(
        "reader: tokens as float", lambda: rnn.TextEncoder(9)(torch.tensor([[4.0]])), ("float32",)
    )


# --- Drawn by chance


def _drawn(rng: random.Random) -> Iterator[Fault]:
    """Several wrong things at once, and other values of the kinds above."""
    for number in range(20):
        name = rng.choice(["batch_size", "epochs", "seed", "patience"])
        value = rng.choice([-rng.randint(1, 99), rng.random() + rng.randint(0, 9)])
        yield Fault(
            "drawn",
            f"{number}: {name}={value}",
            fit(flat, X, Y, val=(X, Y), **{name: value}),
            (name, str(value)),
        )
    for number in range(20):
        place, bad = rng.randrange(20), rng.choice([float("nan"), float("inf")])
        x = X.clone()
        x[place, rng.randrange(3)] = bad
        yield Fault(
            "drawn", f"{number}: {bad} in example {place}", fit(flat, x, Y), (f"example {place} ",)
        )
    for number in range(20):
        size = rng.choice([n for n in range(1, 12) if n != 3])
        yield Fault(
            "drawn",
            f"{number}: {size} features",
            fit(flat, torch.rand(20, size), Y),
            (f"(8, {size})",),
        )
