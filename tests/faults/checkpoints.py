"""Faults in the folder of a run, in what a run is resumed with, in its losses, and in weights."""

import errno
import functools
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from mbm_lab import atomic, stored, training
from mbm_lab.preprocessing import Vocabulary
from tests.faults import Fault, flipped, put
from tests.small_runs import MSE, same, small_model, small_task, train

FLIPS = 200
OWN = (r"state\.pt", r"(last|best)_epoch_\d{4}\.safetensors")
"""Names of files that a run may write and remove."""

BASE = {"batch_size": 64, "epochs": 3}


def options(**changed):
    return {**BASE, **changed}


@functools.cache
def run(seed: int = 0, epochs: int = 2) -> dict[str, bytes]:
    """The files of a run that was cut off after two of three epochs."""
    with tempfile.TemporaryDirectory() as folder:
        train(small_model(seed), **options(epochs=epochs, seed=seed), checkpoint=folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@functools.cache
def whole() -> nn.Module:
    """What the run ends with."""
    model = small_model()
    train(model, **options())
    return model


def put_run(folder: Path) -> None:
    put(folder, run())


def planted(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        put_run(folder)
        change(folder)

    return plant


class Touched(Exception):
    """A refusal that changed something all the same."""


def refused_untouched(model: nn.Module, action: Callable[[], object]) -> nn.Module:
    """Acts; when it is refused, the model and the random numbers must be as they were."""
    weights = {name: values.clone() for name, values in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    grads = [one.requires_grad for one in model.parameters()]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    try:
        action()
    except Exception as error:
        after = model.state_dict()
        if not all(torch.equal(weights[name].nan_to_num(), after[name].nan_to_num())
                   for name in weights):  # fmt: skip
            raise Touched(f"the weights were changed: {error}") from error
        if modes != [part.training for part in model.modules()]:
            raise Touched(f"the modes were changed: {error}") from error
        if grads != [one.requires_grad for one in model.parameters()]:
            raise Touched(f"what learns was changed: {error}") from error
        if not torch.equal(state, torch.get_rng_state()):
            raise Touched(f"random numbers were drawn: {error}") from error
        raise
    if not torch.equal(state, torch.get_rng_state()):
        raise Touched("random numbers were drawn")
    return model


def resume(folder: Path, make: Callable[[], nn.Module] | None = None, **changed) -> nn.Module:
    model = small_model(seed=9) if make is None else make()
    return refused_untouched(
        model, lambda: train(model, **options(**changed), checkpoint=folder, resume=True)
    )


def is_whole(model: nn.Module) -> bool:
    return same(model, whole())


def faults(seed: int = 0) -> Iterator[Fault]:
    yield from flips(seed)
    yield from files(seed)
    yield from recipes()
    yield from models()
    yield from foreign()
    yield from losses()
    yield from weights(seed)
    yield from disks()


# --- Bits


def regions(name: str, held: bytes) -> dict[str, range]:
    """What a file is made of, and where that is."""
    size = len(held)
    if name != "state.pt":
        head = 8 + int.from_bytes(held[:8], "little")
        return {"length": range(8), "head": range(8, head), "numbers": range(head, size)}
    directory = held.index(b"PK\x01\x02")
    pickled = held.index(b"data.pkl") + len("data.pkl")
    end = held.index(b"PK\x03\x04", pickled)
    return {
        "pickle": range(pickled, end), "tensors": range(end, directory),
        "directory": range(directory, size),
    }  # fmt: skip


def flips(seed: int) -> Iterator[Fault]:
    draw = random.Random(seed)
    kind = "flipped bits of a checkpoint"
    for number in range(FLIPS):
        place = draw.random(), draw.random(), draw.randrange(8), draw.random()

        def plant(folder: Path, number=number, place=place) -> None:
            files = run()
            names = sorted(files)
            if number % 2:  # a region, as likely as any other
                spots = [(n, part) for n in names for part in regions(n, files[n]).values()]
                name, part = spots[number // 2 % len(spots)]
                where = part[int(place[1] * len(part))]
            else:  # a byte, as likely as any other
                where = int(place[0] * sum(map(len, files.values())))
                for name in names:
                    if where < len(files[name]):
                        break
                    where -= len(files[name])
            held = bytearray(files[name])
            held[where] ^= 1 << place[2]
            put(folder, files | {name: bytes(held)})

        yield Fault(kind, f"bit {number}", resume, plant=plant, right=is_whole, own=OWN)


# --- Files


def of_kind(folder: Path, kind: str) -> Path:
    return next(iter(sorted(folder.glob(f"{kind}*"))))


def cut(kind: str, share: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "state.pt" if kind == "state" else of_kind(folder, kind)
        held = path.read_bytes()
        path.write_bytes(held[: int(share * len(held)) if share < 1 else len(held) - 1])

    return change


def state_with(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = torch.load(folder / "state.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "state.pt")

    return planted(write)


STATE = (
    "form", "run", "recipe", "changing", "history", "weights", "optimizer", "schedule", "generator",
    "loaders", "torch", "cuda", "probe", "files", "replaced", "checksum",
)  # fmt: skip


def swap(folder: Path, one: str, other: str) -> None:
    first, second = folder / one, folder / other
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def names() -> tuple[str, str]:
    last = next(name for name in run() if name.startswith("last"))
    best = next(name for name in run() if name.startswith("best"))
    return last, best


def files(seed: int) -> Iterator[Fault]:
    kind = "files of a checkpoint"

    def fault(what, change, named=("put a whole copy",), act=resume):
        return Fault(kind, what, act, named, planted(change))

    for name in ("state", "last", "best"):
        for share in (0.0, 0.02, 0.5, 0.9, 1):
            yield fault(f"{name} cut to {share}", cut(name, share), ("another folder",))
        yield fault(f"{name} is words", lambda folder, name=name: (
            folder / "state.pt" if name == "state" else of_kind(folder, name)
        ).write_text("hello"), ("another folder",))  # fmt: skip
    for key in STATE:
        yield Fault(kind, f"state without {key}", resume, ("state.pt", "another folder"),
                    state_with(lambda state, key=key: state.pop(key)))  # fmt: skip
        for value in (None, {"a": torch.ones(2)}):

            def change(state, key=key, value=value):
                if state[key] == value if not isinstance(state[key], torch.Tensor) else False:
                    value = "something else"
                state[key] = value

            yield Fault(kind, f"{key} is {type(value).__name__}", resume,
                        ("state.pt", "another folder"), state_with(change))  # fmt: skip
    yield Fault(kind, "one more key", resume, ("state.pt",),
                state_with(lambda state: state.update(more=1)))  # fmt: skip
    yield Fault(kind, "another number in the optimizer", resume, ("state.pt",),
                state_with(lambda s: s["optimizer"]["param_groups"][0].update(lr=1)))  # fmt: skip
    yield Fault(kind, "another moment in the optimizer", resume, ("state.pt",),
                state_with(lambda s: s["optimizer"]["state"][0]["exp_avg"].add_(1)))  # fmt: skip
    yield Fault(kind, "state of the first form", resume, ("older version",), state_with(former))
    yield fault("state is gone", lambda folder: (folder / "state.pt").unlink(), ("state.pt",))
    for name in ("last", "best"):
        yield fault(f"{name} is gone", lambda folder, name=name: of_kind(folder, name).unlink(),
                    (name, "put it back"))  # fmt: skip
        yield fault(f"{name} of another run", lambda folder, name=name: of_kind(
            folder, name).write_bytes(next(
                held for n, held in run(1).items() if n.startswith(name))), (name,))  # fmt: skip

        def folder_instead(folder, name=name):
            path = of_kind(folder, name)
            path.unlink()
            path.mkdir()

        yield fault(f"{name} is a folder", folder_instead, (name,))
    yield fault("state of another run", lambda folder: (folder / "state.pt").write_bytes(
        run(1)["state.pt"]), ())  # fmt: skip
    yield fault("last and best exchanged", lambda folder: swap(folder, *names()), ("damaged",))
    for other in (0, 1):
        yield fault(f"state and weights {other} exchanged",
                    lambda folder, other=other: swap(folder, "state.pt", names()[other]),
                    ("damaged",))  # fmt: skip
    yield fault("all of another run", lambda folder: (
        [path.unlink() for path in folder.glob("*_epoch_0*")], put(folder, run(1))
    ), ("seed is 1, not 0",))  # fmt: skip
    yield fault("state is a folder", lambda folder: (
        (folder / "state.pt").unlink(), (folder / "state.pt").mkdir()), ("state.pt",))  # fmt: skip
    yield fault("all of it is a pickle that acts", lambda folder: (
        folder / "state.pt").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR."))  # fmt: skip
    draw = random.Random(seed)
    for number in range(10):
        noise = draw.randbytes(draw.randrange(1, 3000))
        where = draw.choice(("state", "last", "best"))
        yield fault(f"noise {number} in {where}", lambda folder, noise=noise, where=where: (
            folder / "state.pt" if where == "state" else of_kind(folder, where)
        ).write_bytes(noise), ("damaged",))  # fmt: skip


def former(state: dict) -> None:
    for key in set(state) - {"recipe", "history", "optimizer", "schedule", "generator", "torch",
                             "cuda"}:  # fmt: skip
        del state[key]


# --- Another recipe


def turned(inputs, generator):
    return -inputs


def shaken(inputs, generator):
    return inputs + 0.01 * torch.randn(inputs.shape, generator=generator)


def by_layer(parameters, lr):
    first, *rest = list(parameters)
    return torch.optim.Adam([{"params": [first]}, {"params": rest, "lr": lr / 2}], lr=lr)


def huber(output, target):
    return F.huber_loss(output, target)


class Scaled(nn.Module):
    """A loss with a setting."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, output, target):
        return self.factor * MSE(output, target)


def fit(folder: Path, **changed) -> nn.Module:
    """Resumes a run with any of fit's arguments changed, also its data."""
    x, y = changed.pop("data", small_task())
    loss, model = changed.pop("loss", MSE), changed.pop("model", None) or small_model(seed=9)
    settings = {"val": small_task(50, 1), "learning_rate": 0.01, "progress": False, **BASE}
    settings |= changed
    arguments = (x,) if isinstance(x, DataLoader) else (x, y)
    return refused_untouched(model, lambda: training.fit(
        model, *arguments, loss=loss, checkpoint=folder, resume=True, **settings))  # fmt: skip


def began(folder: Path, **changed) -> None:
    """Begins the run that is resumed later with something else."""
    x, y = changed.pop("data", small_task())
    loss, model = changed.pop("loss", MSE), changed.pop("model", None) or small_model()
    settings = {"val": small_task(50, 1), "learning_rate": 0.01, "progress": False, **BASE}
    settings |= {"epochs": 2, **changed}
    arguments = (x,) if isinstance(x, DataLoader) else (x, y)
    training.fit(model, *arguments, loss=loss, checkpoint=folder, **settings)


def changed_task(change: Callable) -> tuple:
    x, y = small_task()
    return change(x.clone(), y.clone())


def one_less(x, y):
    x[57, 1] += 1e-3
    return x, y


def another_target(x, y):
    y[99] = -y[99]
    return x, y


def recipes() -> Iterator[Fault]:
    kind = "another recipe"
    optim = torch.optim
    partial = functools.partial
    changes = [
        ("AdamW for Adam", {"optimizer": optim.AdamW}, ("Adam, not AdamW",)),
        ("SGD for Adam", {"optimizer": optim.SGD}, ("Adam, not SGD",)),
        ("RMSprop for Adam", {"optimizer": optim.RMSprop}, ("Adam, not RMSprop",)),
        ("NAdam for Adam", {"optimizer": optim.NAdam}, ("Adam, not NAdam",)),
        ("other betas", {"optimizer": partial(optim.Adam, betas=(0.8, 0.999))}, ("betas", "0.8")),
        ("weight decay", {"optimizer": partial(optim.Adam, weight_decay=0.1)}, ("decay", "0.1")),
        ("amsgrad", {"optimizer": partial(optim.Adam, amsgrad=True)}, ("amsgrad",)),
        ("eps", {"optimizer": partial(optim.Adam, eps=1e-3)}, ("eps", "0.001")),
        ("maximize", {"optimizer": lambda p, lr: optim.Adam(p, lr, maximize=True)}, ("maximize",)),
        ("two groups", {"optimizer": by_layer}, ("group",)),
        ("rate in the optimizer", {"optimizer": lambda p, lr: optim.Adam(p, 2 * lr)}, ("0.02",)),
        ("learning rate", {"learning_rate": 0.1}, ("learning_rate is 0.01, not 0.1",)),
        ("batch size", {"batch_size": 50}, ("batch_size is 64, not 50",)),
        ("seed", {"seed": 5}, ("seed is 0, not 5",)),
        ("one cycle", {"one_cycle": True}, ("steps",)),
        ("clip_norm", {"clip_norm": 0.5}, ("clip_norm is none, not 0.5",)),
        ("augment", {"augment": turned}, ("augment is none, not turned",)),
        ("l1 loss", {"loss": F.l1_loss}, ("loss is mse_loss, not l1_loss",)),
        ("loss as module", {"loss": nn.L1Loss()}, ("loss", "L1Loss")),
        ("huber loss of one's own", {"loss": huber}, ("loss",)),
        ("half the loss", {"loss": lambda o, t: 0.5 * MSE(o, t)}, ("loss",)),
        ("loss of a class", {"loss": Scaled(3)}, ("loss",)),
        ("sum for mean", {"loss": partial(MSE, reduction="sum")}, ("loss",)),
        ("no validation", {"val": None}, ("validation", "none")),
        ("other validation", {"val": small_task(50, 2)}, ("validation",)),
        ("fewer to validate", {"val": small_task(49, 1)}, ("validation", "(50, 3)", "(49, 3)")),
        ("targets of validation", {"val": (small_task(50, 1)[0], small_task(50, 2)[1])},
         ("validation targets",)),
        ("validation by a loader", {"val": DataLoader(TensorDataset(*small_task(50, 1)))},
         ("validation",)),
        ("one input", {"data": changed_task(one_less)}, ("inputs", "hash")),
        ("one target", {"data": changed_task(another_target)}, ("targets", "hash")),
        ("other order", {"data": changed_task(lambda x, y: (x.flip(0), y.flip(0)))}, ("inputs",)),
        ("other cards", {"data": small_task(100, 8)}, ("inputs",)),
        ("fewer cards", {"data": small_task(90)}, ("cards is 100, not 90",)),
        ("a loader for tensors", {"data": (DataLoader(TensorDataset(*small_task())), None)},
         ("cards",)),
    ]  # fmt: skip
    for what, changed, named in changes:
        yield Fault(kind, what, lambda folder, c=changed: fit(folder, **c),
                    named, put_run)  # fmt: skip
    pairs = [
        ("no decay", {"optimizer": partial(optim.AdamW, weight_decay=0.1)},
         {"optimizer": optim.AdamW}, ("decay",)),
        ("Adam after SGD with momentum", {"optimizer": partial(optim.SGD, momentum=0.9)},
         {"optimizer": optim.Adam}, ("SGD, not Adam",)),
        ("SGD with other momentum", {"optimizer": partial(optim.SGD, momentum=0.9)},
         {"optimizer": partial(optim.SGD, momentum=0.5)}, ("momentum", "0.9", "0.5")),
        ("SGD without momentum", {"optimizer": partial(optim.SGD, momentum=0.9)},
         {"optimizer": optim.SGD}, ("momentum",)),
        ("one group for two", {"optimizer": by_layer}, {}, ("group",)),
        ("two rates", {"optimizer": by_layer},
         {"optimizer": lambda p, lr: by_layer(p, lr * 2)}, ("lr",)),
        ("more epochs of one cycle", {"one_cycle": True, "epochs": 3},
         {"one_cycle": True, "epochs": 6}, ("steps is 6, not 12",)),
        ("no cycle", {"one_cycle": True}, {}, ("steps",)),
        ("validation where was none", {"val": None}, {}, ("validation",)),
        ("no clipping", {"clip_norm": 1.0}, {}, ("clip_norm",)),
        ("other groups of batches", {"accumulate": 2}, {}, ("accumulate is 2, not 1",)),
        ("groups where were none", {}, {"accumulate": 3}, ("accumulate is 1, not 3",)),
        ("no half precision", {"autocast": torch.bfloat16}, {}, ("autocast", "bfloat16")),
        ("another half precision", {"autocast": torch.bfloat16}, {"autocast": torch.float16},
         ("bfloat16", "float16")),
        ("another augment", {"augment": turned}, {"augment": shaken}, ("turned", "shaken")),
        ("no augment", {"augment": turned}, {}, ("turned", "none")),
        ("augment of the same name", {"augment": lambda x, g: 2 * x},
         {"augment": lambda x, g: 3 * x}, ("augment",)),
        ("augment with another setting", {"augment": partial(shaken_by, size=0.1)},
         {"augment": partial(shaken_by, size=0.2)}, ("0.1", "0.2")),
        ("loss with another setting", {"loss": Scaled(2)}, {"loss": Scaled(4)}, ("loss",)),
        ("lambda of the same name", {"loss": lambda o, t: MSE(o, t)},
         {"loss": lambda o, t: 2 * MSE(o, t)}, ("loss",)),
        ("huber's delta", {"loss": partial(F.huber_loss, delta=1)},
         {"loss": partial(F.huber_loss, delta=2)}, ("delta",)),
        ("huber's delta in a module", {"loss": nn.HuberLoss(delta=8)},
         {"loss": nn.HuberLoss(delta=9)}, ("delta=8", "delta=9")),
        ("huber's delta in a lambda", {"loss": lambda o, t: F.huber_loss(o, t, delta=8)},
         {"loss": lambda o, t: F.huber_loss(o, t, delta=9)}, ("loss",)),
        ("loader of other data", {"data": (loader(), None)}, {"data": (loader(seed=4), None)},
         ("training data", "hash")),
        ("loader of another subset", {"data": (loader(first=60), None)},
         {"data": (loader(first=60, start=1), None)}, ("training data", "Subset")),
        ("loader of another batch size", {"data": (loader(), None)},
         {"data": (loader(size=20), None)}, ("batch size", "25", "20")),
        ("loader without its own generator", {"data": (loader(own=True), None)},
         {"data": (loader(shuffle=True), None)}, ("own generator",)),
        ("loader that shuffles", {"data": (loader(), None)},
         {"data": (loader(shuffle=True), None)}, ("sampler",)),
    ]  # fmt: skip
    for what, first, then, named in pairs:
        yield Fault(kind, what, lambda folder, c=then: fit(folder, **c), named,
                    lambda folder, c=first: began(folder, **c))  # fmt: skip
    yield Fault(kind, "an optimizer that holds a function", lambda folder: began(
        folder, optimizer=HoldsAFunction), ("HoldsAFunction", "function"))  # fmt: skip
    kind = "the same recipe in other words"
    odd = [
        ("the same loss in a lambda", {}, {"loss": lambda o, t: MSE(o, t)}),
        ("a loss that counts", {"loss": counting()}, {"loss": counting()}),
        ("inputs in another layout", {}, {"data": changed_task(lambda x, y: (x.t().contiguous().t(),
                                                                             y))}),
        ("numbers of numpy", {"learning_rate": np.float64(0.01), "clip_norm": np.float32(9)},
         {"clip_norm": 9.0}),
        ("partial of Adam", {}, {"optimizer": partial(optim.Adam)}),
        ("Adam in a lambda", {}, {"optimizer": lambda p, lr: optim.Adam(p, lr=lr)}),
        ("more patience", {}, {"patience": 50}),
        ("the same augment", {"augment": shaken}, {"augment": shaken}),
        ("the same lambda", {"augment": lambda x, g: 2 * x}, {"augment": lambda x, g: 2 * x}),
        ("two groups", {"optimizer": by_layer}, {"optimizer": by_layer}),
        ("a loader with its own random numbers", {"data": (loader(own=True), None)},
         {"data": (loader(own=True), None)}),
        ("a loader of a list", {"data": (DataLoader(pairs_of()), None)},
         {"data": (DataLoader(pairs_of()), None)}),
    ]  # fmt: skip
    for what, first, then in odd:

        def right(model, first=first):
            again = small_model()
            clean = dict(first)
            if "data" in clean and isinstance(clean["data"][0], DataLoader):
                clean["data"] = then_data(clean["data"])
            with tempfile.TemporaryDirectory() as other:
                began(Path(other), **{**clean, "epochs": 3, "model": again})
            return same(model, again)

        yield Fault(kind, what, lambda folder, c=then: fit(folder, **c), (),
                    lambda folder, c=first: began(folder, **c), right, OWN)  # fmt: skip


def then_data(data):
    """The same loader anew: its own random numbers begin again."""
    if data[0].generator is None:
        return data
    return loader(own=True), None


def shaken_by(inputs, generator, size):
    return inputs + size


def counting():
    calls = []

    def loss(output, target):
        calls.append(1)
        return MSE(output, target)

    return loss


def pairs_of() -> list:
    return list(zip(*small_task(), strict=True))


def loader(seed=0, first=None, start=0, size=25, shuffle=False, own=False) -> DataLoader:
    data = TensorDataset(*small_task(100, seed))
    if first is not None:
        data = Subset(data, range(start, start + first))
    generator = torch.Generator().manual_seed(3) if own else None
    return DataLoader(data, size, shuffle or own, generator=generator)


# --- Another model


def layers(*parts: nn.Module) -> nn.Module:
    torch.manual_seed(9)
    return nn.Sequential(nn.Linear(3, 8), *parts, nn.Linear(8, 1), nn.Flatten(0))


def network(activate: str, attribute: bool = False, rate: float = 0.3, scale: float = 1.0):
    """A class of the same name whose forward uses another activation, in several ways."""
    made = {"relu": torch.relu, "tanh": torch.tanh, "gelu": F.gelu}[activate]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)
            if attribute:
                self.activate = made
            self.scale = scale

        if attribute:

            def forward(self, x):
                return self.last(self.activate(self.first(x)))[:, 0] * self.scale
        elif activate == "relu":

            def forward(self, x):
                return self.last(F.dropout(F.relu(self.first(x)), 0.3, self.training))[:, 0]
        elif rate != 0.3:

            def forward(self, x):
                return self.last(F.dropout(F.relu(self.first(x)), 0.6, self.training))[:, 0]
        else:

            def forward(self, x):
                return self.last(F.dropout(torch.tanh(self.first(x)), 0.3, self.training))[:, 0]

    return Network()  # fmt: skip


class Hidden(nn.Module):
    """What it does is in a global function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(_global(self.first(x)))[:, 0]


def _global(x):
    return F.relu(x)


class Counting(nn.Module):
    """Counts its calls, and keeps what it last saw."""

    def __init__(self, noise: float = 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)
        self.calls, self.seen, self.log = 0, None, []
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.noise = noise

    def forward(self, x):
        self.calls += 1
        self.seen = self.first(x)
        self.log.append(len(x))
        return self.last(self.seen)[:, 0] + self.noise * torch.randn(len(x))


def frozen(model: nn.Module) -> nn.Module:
    model[0].requires_grad_(False)
    return model


def models() -> Iterator[Fault]:
    kind = "another model"
    drop = nn.Dropout(0.3)
    small = {
        "Tanh": (lambda: layers(nn.Tanh(), drop), ("ReLU", "Tanh")),
        "GELU": (lambda: layers(nn.GELU(), drop), ("ReLU", "GELU")),
        "LeakyReLU": (lambda: layers(nn.LeakyReLU(), drop), ("ReLU", "LeakyReLU")),
        "another dropout": (lambda: layers(nn.ReLU(), nn.Dropout(0.5)), ("0.3", "0.5")),
        "no dropout": (lambda: layers(nn.ReLU(), nn.Identity()), ("Dropout", "Identity")),
        "dropout in place": (lambda: layers(nn.ReLU(), nn.Dropout(0.3, True)), ("inplace",)),
        "another order": (lambda: layers(nn.Dropout(0.3), nn.ReLU()), ("Dropout",)),
        "a frozen part": (lambda: frozen(small_model(9)), ("frozen",)),
        "double": (lambda: small_model(9).double(), ("float64",)),
        "half": (lambda: small_model(9).half(), ("float16",)),
        "wider": (lambda: small_model(9, hidden=9), ("another model",)),
        "one layer more": (lambda: nn.Sequential(*small_model(9), nn.Linear(1, 1)),
                           ("another model",)),
        "batch normalisation": (lambda: layers(nn.BatchNorm1d(8), drop), ("another model",)),
        "another class": (lambda: network("relu"), ("another model",)),
    }  # fmt: skip
    for what, (make, named) in small.items():
        yield Fault(kind, what, lambda folder, make=make: fit(folder, model=make()),
                    named, put_run)  # fmt: skip
    relu = lambda: network("relu")  # noqa: E731
    pairs = [
        ("tanh in forward", relu, lambda: network("tanh"), ("forward",)),
        ("another rate in forward", relu, lambda: network("gelu", rate=0.6), ("forward",)),
        ("a function as attribute", lambda: network("relu", True), lambda: network("tanh", True),
         ("activate", "tanh")),
        ("a number as attribute", lambda: network("relu", True),
         lambda: network("relu", True, scale=2.0), ("scale", "1.0", "2.0")),
        ("negative slope", lambda: layers(nn.LeakyReLU(0.1)), lambda: layers(nn.LeakyReLU(0.2)),
         ("0.1", "0.2")),
        ("momentum of batch normalisation", lambda: layers(nn.BatchNorm1d(8, momentum=0.1)),
         lambda: layers(nn.BatchNorm1d(8, momentum=0.9)), ("momentum=0.9",)),
        ("not frozen", lambda: frozen(small_model()), lambda: small_model(9), ("frozen",)),
        ("noise as attribute", Counting, lambda: Counting(0.5), ("noise",)),
    ]  # fmt: skip
    for what, first, then, named in pairs:
        yield Fault(kind, what, lambda folder, make=then: fit(folder, model=make()), named,
                    lambda folder, make=first: began(folder, model=make()))  # fmt: skip

    def elsewhere(folder):
        with mock.patch(f"{__name__}._global", torch.tanh):
            return fit(folder, model=Hidden())

    yield Fault(kind, "tanh in a global function", elsewhere, ("activation",),
                lambda folder: began(folder, model=Hidden()))  # fmt: skip

    def counted(folder):
        model = Counting()
        began(folder, model=model)
        with torch.no_grad():
            model(torch.ones(2, 3))
        return fit(folder, model=model)

    def as_without(model):
        plain = Counting()
        x, y = small_task()
        training.fit(plain, x, y, MSE, val=small_task(50, 1), learning_rate=0.01, progress=False,
                     **BASE)  # fmt: skip
        return same(model, plain) and model.calls == plain.calls + 1 == len(model.log)

    yield Fault(kind, "a model that counts its calls, and holds -inf", counted, (), None,
                as_without, OWN)  # fmt: skip


# --- Files of someone else


def foreign() -> Iterator[Fault]:
    kind = "files of someone else"
    others = {
        "my_best_epoch_10.safetensors": b"mine", "best_epoch_0099.safetensors": b"mine",
        "last_epoch_0042.safetensors": b"mine", "best_epoch_1.safetensors": b"mine",
        "last_epoch_0001.safetensors": b"mine", "last_epoch_0002.safetensors.bak": b"mine",
        "last_epoch_0002.safetensors.part": b"mine", "state.pt.1.part.txt": b"mine",
        "x_last_epoch_0003.safetensors.77.part": b"mine", "Last_epoch_0003.safetensors": b"mine",
        "weights.safetensors": b"mine", "state.pt~": b"mine",
    }  # fmt: skip

    def add(folder: Path) -> None:
        put_run(folder)
        for name, held in others.items():
            (folder / name).write_bytes(held)
        (folder / "best_epoch_0050.safetensors").mkdir()
        (folder / "best_epoch_0050.safetensors" / "inside.txt").write_text("mine")
        (folder / "last_epoch_0060.safetensors").symlink_to(folder / "notes.txt")

    yield Fault(kind, "beside a run that is resumed", resume, (), add, is_whole, OWN_NOW)

    def backup(folder: Path) -> None:
        put_run(folder)
        for name in names():
            shutil.copy(folder / name, folder / f"{name[:4]}_epoch_0001.safetensors")
            shutil.copy(folder / name, folder / f"{name[:4]}_epoch_0077.safetensors")

    own = tuple(f"{kind}_epoch_000[23]\\.safetensors" for kind in ("last", "best"))
    yield Fault(kind, "copies of the run's own, beside it", resume, (), backup, is_whole,
                (*own, r"state\.pt"))  # fmt: skip
    for name in ("last_epoch_0003.safetensors", "best_epoch_0003.safetensors"):
        for what in ("words", "folder", "link", "copy"):

            def occupy(folder, name=name, what=what):
                put_run(folder)
                path = folder / name
                if what == "words":
                    path.write_text("mine")
                elif what == "folder":
                    path.mkdir()
                elif what == "link":
                    path.symlink_to(folder / "nowhere")
                else:
                    shutil.copy(folder / names()[0], path)

            yield Fault(kind, f"{name} is a {what} already", resume, (name, "move"),
                        occupy)  # fmt: skip

    def fresh(folder: Path):
        return refused_untouched(model := small_model(), lambda: train(
            model, **options(), checkpoint=folder)) and model  # fmt: skip

    for name in ("last", "best", "both"):
        yield Fault(kind, f"{name} without state, and a new run", fresh, ("state.pt is gone",),
                    lambda folder, name=name: put(folder, {
                        n: h for n, h in run().items() if n.startswith(name) or name == "both"
                        and n != "state.pt"}))  # fmt: skip
    for what, change in (
        ("words", lambda path: path.write_text("mine")), ("a folder", lambda path: path.mkdir()),
        ("a link", lambda path: path.symlink_to("nowhere")),
    ):  # fmt: skip
        yield Fault(kind, f"state.pt is {what}, and a new run", fresh, ("name another folder",),
                    lambda folder, change=change: change(folder / "state.pt"))  # fmt: skip
        yield Fault(kind, f"a new run finds last_epoch_0002 as {what}", fresh, ("move",),
                    lambda folder, change=change: change(
                        folder / "last_epoch_0002.safetensors"))  # fmt: skip
    yield Fault(kind, "a run lies there, and a new one", fresh, ("resume=True",), put_run)
    yield Fault(kind, "a damaged run lies there, and a new one", fresh, ("name another folder",),
                planted(cut("state", 0.5)))  # fmt: skip
    yield Fault(kind, "a run of no epochs, and a new one", fresh, (),
                lambda folder: put(folder, run(epochs=0)), is_whole, OWN)  # fmt: skip
    yield Fault(kind, "no run, and resumed", resume, ("train without resume=True",))

    def remains(folder: Path) -> None:
        put_run(folder)
        for name in ("state.pt", *names(), "last_epoch_0003.safetensors"):
            (folder / f"{name}.4194000.part").write_bytes(b"torn")

    def no_remains(model):
        return is_whole(model)

    yield Fault(kind, "remains of kills", resume, (), remains, no_remains,
                (*OWN, r".+\.4194000\.part"))  # fmt: skip

    def in_a_place(name, make=lambda path: path.mkdir()):
        def act(folder: Path):
            make(folder / name)
            model = small_model()
            train(model, **options(epochs=2), checkpoint=folder / name)
            return resume(folder / name)

        return act

    for name in ("with spaces", "Übung 数据 ½", "a" * 200, "-x", "deep/er/still"):
        yield Fault(kind, f"a folder named {name[:20]}", in_a_place(name, lambda path: None), (),
                    None, is_whole, (f"{name}/.*",))  # fmt: skip
    yield Fault(kind, "a folder that is a link", in_a_place("link", lambda path: (
        (path.parent / "real").mkdir(), path.symlink_to("real"))), (), None, is_whole,
        ("(real|link)/.*",))  # fmt: skip
    yield Fault(kind, "a folder that is a dead link", in_a_place("link", lambda path: (
        path.symlink_to("nowhere"))), ("Could not make the folder",))  # fmt: skip
    yield Fault(kind, "a folder that is a file", lambda folder: train(
        small_model(), checkpoint=folder / "notes.txt"), ("notes.txt", "choose"))  # fmt: skip
    yield Fault(kind, "a folder below a file", lambda folder: train(
        small_model(), checkpoint=folder / "notes.txt" / "run"), ("notes.txt",))  # fmt: skip
    yield Fault(kind, "to resume from a file", lambda folder: resume(folder / "notes.txt"),
                ("no checkpoint",))  # fmt: skip


OWN_NOW = (r"state\.pt", *(rf"{k}_epoch_000[23]\.safetensors" for k in ("last", "best")))


# --- Losses that are no numbers


def spoiling(after: int, value: float) -> Callable:
    """A loss that is no number from its call number `after` on."""
    calls = []

    def loss(output, target):
        calls.append(1)
        return MSE(output, target) * (value if len(calls) > after else 1.0)

    return loss


def losses() -> Iterator[Fault]:
    kind = "losses that are no numbers"
    x, y = small_task()

    def spoilt(loss, wanted, x=x, y=y, **more):
        """Trains until it is refused; the weights must be those of epoch `wanted`."""

        def act(folder):
            model, clean = small_model(), small_model()
            settings = {"learning_rate": 0.01, "batch_size": 64, "progress": False}
            if wanted:
                training.fit(clean, *small_task(), MSE, epochs=wanted, **settings)
            try:
                training.fit(model, x, y, loss, epochs=4, **{**settings, **more})
            except ValueError:
                if not same(model, clean):
                    raise Touched("the weights are not those of the last good epoch") from None
                training.fit(model, *small_task(), MSE, epochs=1, **settings)
                if not all(bool(one.isfinite().all()) for one in model.parameters()):
                    raise Touched("it cannot be trained on") from None
                raise

        return act

    for value in (math.nan, math.inf, -math.inf):
        for epoch in range(3):  # two batches an epoch
            said = "before training" if epoch == 0 else f"those of epoch {epoch}"
            yield Fault(kind, f"{value} in epoch {epoch + 1}", spoilt(
                spoiling(2 * epoch, value), epoch),
                (f"epoch {epoch + 1}", said, "than 0.01"))  # fmt: skip
        poisoned = x.clone()
        poisoned[3, 0] = value
        yield Fault(kind, f"inputs hold {value}", spoilt(MSE, 0, poisoned), ("inputs",))
        poisoned = y.clone()
        poisoned[3] = value
        yield Fault(kind, f"targets hold {value}", spoilt(MSE, 0, x, poisoned), ("targets",))
        bad = small_task(50, 1)[0].clone()
        bad[7, 1] = value
        val = (bad, small_task(50, 1)[1])
        yield Fault(kind, f"validation inputs hold {value}", spoilt(MSE, 0, val=val),
                    ("validation inputs", "example 7"))  # fmt: skip
        val = (small_task(50, 1)[0], bad[:, 1])
        yield Fault(kind, f"validation targets hold {value}, with patience",
                    spoilt(MSE, 0, val=val, patience=2), ("validation",))  # fmt: skip

        def spoilt_model(folder, value=value):
            model = small_model()
            with torch.no_grad():
                model[0].weight[0, 0] = value
            return refused_untouched(model, lambda: train(model))

        yield Fault(kind, f"a weight is {value}", spoilt_model, ("0.weight", "anew"))
    yield Fault(kind, "a rate that is far too large", spoilt(
        MSE, 0, learning_rate=1e30, optimizer=torch.optim.SGD), ("1e+30",))  # fmt: skip
    yield Fault(kind, "the last step spoils the weights", spoilt(
        lambda o, t: MSE(o, t) * 1e30, 0, learning_rate=1e30, optimizer=torch.optim.SGD,
        batch_size=100), ("epoch 1",))  # fmt: skip

    def in_a_run(folder):
        """The folder keeps the last good epoch, and the run goes on from it."""
        with torch.no_grad():
            try:
                with torch.enable_grad():
                    train(small_model(), **options(), checkpoint=folder,
                          optimizer=spoils_in_epoch_3)  # fmt: skip
            except ValueError:
                pass
        return resume(folder)

    yield Fault(kind, "in the third epoch of a run", in_a_run, ("optimizer",), None, None, OWN)


class SpoilsLate(torch.optim.Adam):
    """Its fifth step gives NaN."""

    def step(self, *arguments):
        super().step(*arguments)
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 5:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.nan)


class HoldsAFunction(torch.optim.Adam):
    """An option that no file can keep."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr)
        self.param_groups[0]["rule"] = lambda: None


def spoils_in_epoch_3(parameters, lr):
    return SpoilsLate(parameters, lr=lr)


# --- Weights of a model


def saved(half=False, **tensors):
    def plant(folder: Path) -> None:
        stored.save_weights(small_model(), folder / "m.safetensors", half)

    return plant


def weights(seed: int) -> Iterator[Fault]:
    kind = "weights on disk"

    def with_value(value, half, name="0.weight"):
        def act(folder):
            stored.save_weights(small_model(), folder / "m.safetensors")
            model = small_model()
            with torch.no_grad():
                model.state_dict()[name].view(-1)[0] = value
            held = (folder / "m.safetensors").read_bytes()
            try:
                stored.save_weights(model, folder / "m.safetensors", half)
            finally:
                if half is not None and (folder / "m.safetensors").read_bytes() != held:
                    raise Touched("the old file is gone")

        return act  # fmt: skip

    for value, said in ((70_000, "70,000"), (-1e6, "-1e+06"), (65_520, "65,520"),
                        (3e38, "3e+38")):  # fmt: skip
        yield Fault(kind, f"{value} in 16 bits", with_value(value, True),
                    ("0.weight", said, "half=False"))  # fmt: skip
    for half in (True, False):
        yield Fault(kind, f"NaN, half={half}", with_value(math.nan, half), ("0.weight", "nan"))

    def roundtrip(value, half):
        def act(folder):
            model, other = small_model(), small_model(3)
            with torch.no_grad():
                model[0].weight[0, 0] = value
            stored.save_weights(model, folder / "m.safetensors", half)
            stored.load_weights(other, folder / "m.safetensors")
            return other[0].weight[0, 0].item()

        return act

    own = (r"m\.safetensors",)
    for value, half, wanted in ((65_504, True, 65_504), (70_000, False, 70_000),
                                (math.inf, True, math.inf), (0.0, True, 0)):  # fmt: skip
        yield Fault(kind, f"{value}, half={half}", roundtrip(value, half), (), None,
                    lambda got, wanted=wanted: got == wanted, own)  # fmt: skip

    def load(folder, make=lambda: small_model(3)):
        model = make()
        return refused_untouched(
            model, lambda: stored.load_weights(model, folder / "m.safetensors")
        )

    draw = random.Random(seed + 1)
    for number in range(40):
        place = draw.random()

        def plant(folder, place=place):
            saved()(folder)
            held = (folder / "m.safetensors").read_bytes()
            (folder / "m.safetensors").write_bytes(flipped(held, place))

        yield Fault(kind, f"flipped bit {number}", load, ("m.safetensors",), plant,
                    lambda model: same(model, small_model()))  # fmt: skip
    for share in (0, 0.01, 0.4, 0.99):

        def shorter(folder, share=share):
            saved()(folder)
            held = (folder / "m.safetensors").read_bytes()
            (folder / "m.safetensors").write_bytes(held[: int(share * len(held))])

        yield Fault(kind, f"cut to {share}", load, ("m.safetensors", "damaged"), shorter)
    for name, make in (
        ("double", lambda: small_model(3).double()),
        ("float16", lambda: small_model(3).half()),
    ):
        yield Fault(kind, f"float32 into {name}", lambda folder, make=make: load(folder, make), (),
                    saved(), lambda model: bool(model[0].weight.isfinite().all()))  # fmt: skip

    def large_doubles(folder):
        model = small_model().double()
        with torch.no_grad():
            model[0].weight[0, 0] = 1e300
        stored.save_weights(model, folder / "m.safetensors")

    yield Fault(kind, "1e300 into float32", load, ("float64", "float32"), large_doubles)

    def numbers(folder):
        tensors = {n: v.to(torch.int64) for n, v in small_model().state_dict().items()}
        stored.save_tensors(tensors, folder / "m.safetensors")

    yield Fault(kind, "whole numbers into float32", load, ("int64", "float32"), numbers)
    yield Fault(kind, "of another model", lambda folder: load(folder, lambda: nn.Linear(2, 2)),
                ("another model",), saved())  # fmt: skip
    yield Fault(kind, "a folder", load, ("no weights at",),
                lambda folder: (folder / "m.safetensors").mkdir())  # fmt: skip
    yield Fault(kind, "to save where a folder is", lambda folder: stored.save_weights(
        small_model(), folder / "m.safetensors"), ("it is a folder",),
        lambda folder: (folder / "m.safetensors").mkdir())  # fmt: skip


# --- Full disks


def full(number: int) -> mock._patch:
    return OSError(number, os.strerror(number))


WORDS = ["<pad>", "<unk>", "<bos>", "<eos>", "a", "b"]


def disks() -> Iterator[Fault]:
    """At each thing that writing does, the disk is full; what was there stays as it was."""
    kind = "a full disk"
    writers = {
        "weights": lambda folder: stored.save_weights(small_model(1), folder / "old"),
        "half weights": lambda folder: stored.save_weights(small_model(1), folder / "old", True),
        "words": lambda folder: Vocabulary(WORDS).save(folder / "old"),
        "text": lambda folder: atomic.write_whole(
            folder / "old", lambda part: part.write_text("new")
        ),
        "a run": lambda folder: train(small_model(9), **options(), checkpoint=folder, resume=True),
    }
    for what, write in writers.items():
        for step in ("os.fsync", "os.replace", "write"):

            def act(folder, write=write, step=step):
                failing = full(errno.ENOSPC)
                if step != "write":
                    with mock.patch(step, side_effect=failing):
                        write(folder)
                else:
                    with (
                        mock.patch.object(atomic.Path, "write_text", half_written(failing)),
                        mock.patch.object(stored, "save_file", half_written(failing, 1)),
                    ):
                        write(folder)  # fmt: skip

            def old(folder, what=what):
                if what == "a run":
                    put_run(folder)
                else:
                    (folder / "old").write_bytes(b"what was there before")

            yield Fault(kind, f"{what}, at {step}", act, ("make room",), old)

    def after_a_full_disk(folder):
        with mock.patch("os.replace", side_effect=full(errno.ENOSPC)):
            try:
                train(small_model(9), **options(), checkpoint=folder, resume=True)
            except OSError:
                left = [one.name for one in folder.iterdir() if one.name.endswith(".part")]
                if left:
                    raise Touched(f"{left} was left") from None
        return resume(folder)

    yield Fault(kind, "a run goes on when there is room again", after_a_full_disk, (), put_run,
                is_whole, OWN)  # fmt: skip

    def limited(folder):
        """A limit on the size of files, as on a full disk, in another process."""
        import subprocess
        import sys

        code = (
            "import resource, signal, sys\n"
            "from mbm_lab.preprocessing import Vocabulary\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
            "try:\n    Vocabulary(['<pad>', '<unk>', '<bos>', '<eos>', 'a']).save(sys.argv[1])\n"
            "except OSError as error:\n    print('mbm-lab:', error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "old")], capture_output=True, text=True
        )
        raise_said(done.stdout.strip() or done.stderr)

    if hasattr(os, "fork"):
        yield Fault(kind, "a limit of 9 bytes", limited, ("make room",),
                    lambda folder: (folder / "old").write_bytes(b"before"))  # fmt: skip


def raise_said(words: str) -> None:
    from tests.faults import Said

    raise Said(words)


def half_written(failing: OSError, where: int = 0) -> Callable:
    def write(*arguments, **named):
        with open(arguments[where], "wb") as file:
            file.write(b"half")
        raise failing

    return write
