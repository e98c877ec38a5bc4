"""What training costs, in time and in memory, and what makes it cheaper (lesson 11).

Where the time goes, operation by operation; what this computer could do at best, and how near each
layer comes; what helps here, with and without; what grows with cards, batch and parameters; and
what a run of four hundred million pairs would cost.

Every clock is read after the device has finished. Models are copied before they are trained here:
afterwards yours is as it was, and so are the random numbers, the number of threads, and the rest.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from tqdm.auto import tqdm

from mbm_lab import arguments, training
from mbm_lab.device import lent, pick_device, seeded
from mbm_lab.training import Inputs, Loss

# --- One way to train, and its clock


class Way(NamedTuple):
    """How a step of training is done; without arguments: as lesson 05 does it.

    adam: options of torch.optim.Adam, as pairs. autocast: the kind of numbers for products and
    convolutions. read_loss: bring the loss to Python after each step, as for a progress bar.
    """

    batch_size: int = 64
    threads: int = 1
    channels_last: bool = False
    autocast: torch.dtype | None = None
    adam: tuple[tuple[str, bool], ...] = ()
    read_loss: bool = False


def learner(
    model: nn.Module, inputs: Inputs, targets: Tensor, loss: Loss, way: Way | None = None
) -> Callable[[], int]:
    """A function that trains a copy of the model on the next batch each time it is called, on the
    device of `pick_device`, and returns how many cards these were.

    After the last whole batch comes the first again. Raises ValueError when there are fewer cards
    than in one batch, and when model, inputs and targets do not fit together.
    """
    way = Way() if way is None else way
    arguments.check_learner(model)
    arguments.check_loss(loss)
    arguments.check_examples(inputs, targets)
    arguments.check_count("batch_size", way.batch_size, 1, 64)
    if len(targets) < way.batch_size:
        raise ValueError(
            f"A batch of {way.batch_size} needs as many cards, and there are {len(targets)}: "
            "pass more cards, or take a smaller batch_size."
        )
    here = pick_device()
    model = copy.deepcopy(model).to(here)
    training.train_mode(model)
    inputs, targets = training.to_device(inputs, here), targets.to(here)
    if way.channels_last:
        model, inputs = model.to(memory_format=torch.channels_last), _channels_last(inputs)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **dict(way.adam))
    whole = len(targets) - len(targets) % way.batch_size
    starts = itertools.cycle(range(0, whole, way.batch_size))

    def step() -> int:
        start = next(starts)
        now = slice(start, start + way.batch_size)
        x, y = training.take(inputs, now), targets[now]
        with arguments.explained(model, x, y), _autocast(here, way.autocast):
            value = loss(model(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if way.read_loss:
            value.item()
        return len(y)

    return step


def _channels_last(inputs: Inputs) -> Inputs:
    """The same pictures, the colours of each pixel side by side in memory."""
    if isinstance(inputs, dict):
        return arguments.Modalities({name: _channels_last(x) for name, x in inputs.items()})
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def seconds_of(action: Callable[[], object], device: torch.device | None = None) -> float:
    """How long an action takes, in seconds, until the device (`pick_device()`) has finished it.

    A GPU works behind Python's back: without waiting for it one measures how long it takes to ask.
    """
    device = pick_device() if device is None else torch.device(device)
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was asked to do."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        torch.cuda.synchronize(device)
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.synchronize()


def _least_seconds(
    action: Callable[[], object], limit: float, device: torch.device | None = None
) -> float:
    """The shortest of several times, in seconds, after a first one that does not count; it stops
    when `limit` seconds are over. What else the computer does can only make a time longer."""
    end = time.perf_counter() + limit
    seconds_of(action, device)
    best = seconds_of(action, device)
    while time.perf_counter() < end:
        best = min(best, seconds_of(action, device))
    return best


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads in this block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """How many processor cores this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- Where the time goes

PLAIN = {
    "aten::mkldnn_convolution": "convolution",
    "aten::_slow_conv2d_forward": "convolution",
    "aten::cudnn_convolution": "convolution",
    "aten::convolution_backward": "convolution, backward",
    "aten::native_batch_norm": "batch normalisation",
    "aten::cudnn_batch_norm": "batch normalisation",
    "aten::native_batch_norm_backward": "batch normalisation, backward",
    "aten::cudnn_batch_norm_backward": "batch normalisation, backward",
    "aten::max_pool2d_with_indices": "max pooling",
    "aten::max_pool2d_with_indices_backward": "max pooling, backward",
    "aten::clamp_min": "ReLU",
    "aten::threshold_backward": "ReLU, backward",
    "aten::mm": "products of matrices",
    "aten::addmm": "products of matrices",
    "aten::gru": "GRU",
    "aten::_cudnn_rnn": "GRU",
    "aten::_thnn_fused_gru_cell": "GRU",
    "aten::_cudnn_rnn_backward": "GRU, backward",
    "aten::fill_": "filling with one number",
    "aten::add_": "sums in place",
    "Optimizer.step#Adam.step": "Adam's Python",
}
"""PyTorch's own names of operations, and what they are in plain words."""

REST = "all other operations"
PYTHON = "Python, between the operations"


class Part(NamedTuple):
    """A part of the time of training: what it is, milliseconds for one batch, its share of all of
    the time, how often a batch calls it, and PyTorch's names of the operations in it."""

    name: str
    milliseconds: float
    share: float
    calls: float
    operations: tuple[str, ...]


def profile(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    *,
    batch_size: int = 64,
    batches: int = 4,
    most: int = 10,
) -> list[Part]:
    """Where the time of a training step goes, the most expensive part first, by torch.profiler.

    Each operation counts with its own time, without that of the operations that it calls; on a GPU
    it is the GPU's time. At most `most` parts are named; then come all other operations together,
    and last what is left of the clock's time: Python itself, and the profiler, which takes time of
    its own. So compare shares; for milliseconds, measure without it.
    Raises ValueError as `learner` does.
    """
    arguments.check_count("batches", batches, 1, 4)
    arguments.check_count("most", most, 1, 10)
    here, step = pick_device(), learner(model, inputs, targets, loss, Way(batch_size))
    activities = [torch.profiler.ProfilerActivity.CPU]
    if here.type == "cuda" and torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    quiet = _variable("KINETO_LOG_LEVEL", "99")  # or it tells the terminal when it starts
    with seeded(0), quiet:
        for _ in range(2):  # the first ones also fetch memory
            step()
        with torch.profiler.profile(activities=activities) as seen:
            wall = seconds_of(lambda: [step() for _ in range(batches)], here)
    return _parts(seen.key_averages(), wall, batches, most, len(activities) > 1)


def _parts(events: Iterable, wall: float, batches: int, most: int, gpu: bool) -> list[Part]:
    """The profiler's events in plain words; `wall`: the seconds of all batches by the clock."""
    spent, calls, operations = defaultdict(float), defaultdict(int), defaultdict(list)
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a GPU's own names: their time is that of the operation that asked for them
        seconds = (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6
        name = _plain(event.key)
        spent[name] += seconds
        calls[name] += event.count
        operations[name].append(event.key)
    names = sorted(spent, key=spent.get, reverse=True)
    groups = [(name, [name]) for name in names[:most]] + [(REST, names[most:])]
    parts = [
        Part(
            group,
            1000 * sum(spent[name] for name in within) / batches,
            sum(spent[name] for name in within) / wall,
            sum(calls[name] for name in within) / batches,
            tuple(sorted(one for name in within for one in operations[name])),
        )
        for group, within in groups
    ]
    left = max(wall - sum(spent.values()), 0.0)
    return [*parts, Part(PYTHON, 1000 * left / batches, left / wall, 0, ())]


def _plain(operation: str) -> str:
    """An operation in plain words; without any, PyTorch's own name."""
    if operation.startswith("autograd::") or operation.endswith("Backward0"):
        return "autograd, from operation to operation"
    return PLAIN.get(operation, operation.removeprefix("aten::"))


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """A variable of the environment has this value in this block, and its own after it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# --- The roofline (Williams, Waterman and Patterson, 2009)


class Machine(NamedTuple):
    """What a computer reaches at best: floating-point operations a second, bytes a second from
    memory, and bytes a second from its cache (NaN where that was not measured)."""

    flops: float
    bytes: float
    cache: float = math.nan

    @property
    def ridge(self) -> float:
        """The operations for each byte at which computing and memory take equally long."""
        return self.flops / self.bytes


def measure_machine(device: torch.device | None = None, seconds: float = 2.0) -> Machine:
    """Measures a device, `pick_device()` unless you say else: the best of many, on as many threads
    as PyTorch uses now.

    Operations: a product of two square matrices, and a convolution of 3 × 3 with many channels,
    both float32; the faster one counts, since each comes from a library of its own. Bytes: copying
    128 MB, more than the caches hold, and 2 MB, which they hold; all are read and all written.
    seconds: how long it may take in all. Raises ValueError when these are not above 0.
    """
    arguments.check_positive("seconds", seconds, 2.0)
    device = pick_device() if device is None else torch.device(device)
    n, channels = (512, 64) if device.type == "cpu" else (8192, 1024)
    a, b = torch.ones(2, n, n, device=device)
    x = torch.ones(64, channels, 8, 8, device=device)
    kernels = torch.ones(channels, channels, 3, 3, device=device)

    def rate(work: float, action: Callable[[], object]) -> float:
        return work / _least_seconds(action, seconds / 4, device)

    def copying(count: int) -> float:
        source = torch.ones(count, device=device)
        target = torch.empty_like(source)
        return rate(2 * source.nbytes, lambda: target.copy_(source))

    product = rate(2 * n**3, lambda: a @ b)
    windows = rate(
        2 * x.numel() * channels * 9, lambda: nn.functional.conv2d(x, kernels, padding=1)
    )
    return Machine(max(product, windows), copying(2**25), copying(2**19))


class Layer(NamedTuple):
    """A layer's forward pass: its name, and where in the model it is; its floating-point operations
    and the bytes that it must at least move; the seconds that it took."""

    name: str
    path: str
    flops: int
    bytes: int
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes


def flops(layer: nn.Module, given: Tensor | PackedSequence, out: object) -> int:
    """The floating-point operations of a layer's forward pass, from the shapes alone.

    A product and the sum that it is added to are two. What a linear layer, a convolution or a GRU
    does beside its products (biases, gates) is not counted, as it is little. Batch normalisation:
    one product and one sum a number; ReLU and tanh: one; pooling: one comparison for each number in
    a window; an embedding only looks up. Raises ValueError for other layers.
    """
    if isinstance(layer, nn.Conv2d):
        return 2 * out.numel() * layer.weight[0].numel()  # (C / groups) * K * L products each
    if isinstance(layer, nn.Linear):
        return 2 * out.numel() * layer.in_features
    if isinstance(layer, nn.GRU):
        words = given.data if isinstance(given, PackedSequence) else given
        matrices = sum(one.numel() for one in layer.parameters() if one.ndim == 2)
        return 2 * words.numel() // words.shape[-1] * matrices
    if isinstance(layer, nn.BatchNorm2d):
        return 2 * out.numel()
    if isinstance(layer, nn.ReLU | nn.Tanh):
        return out.numel()
    if isinstance(layer, nn.MaxPool2d):
        size = layer.kernel_size
        return out.numel() * (size**2 if isinstance(size, int) else math.prod(size))
    if isinstance(layer, nn.Embedding):
        return 0
    raise ValueError(
        f"The operations of {type(layer).__name__} are not known here: pass one of "
        f"{', '.join(kind.__name__ for kind in LAYERS)}."
    )


def bytes_moved(layer: nn.Module, given: Tensor | PackedSequence, out: object) -> int:
    """The bytes that a layer's forward pass must at least read and write: its inputs, its weights
    and statistics, and its outputs, each once. Of an embedding, the rows that it looks up."""
    read, written = _numbers(given), _numbers(out)
    if isinstance(layer, nn.Embedding):
        return read.nbytes + 2 * written.nbytes
    held = itertools.chain(layer.parameters(), layer.buffers())
    return read.nbytes + written.nbytes + sum(one.nbytes for one in held)


def _numbers(values: object) -> Tensor:
    """The tensor in what a layer reads or writes: of a GRU, the states of all words."""
    values = values[0] if type(values) is tuple else values
    return values.data if isinstance(values, PackedSequence) else values


LAYERS = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.GRU, nn.Embedding, nn.Tanh,
)  # fmt: skip
"""The layers whose operations are known."""


def layers(
    model: nn.Module,
    inputs: Inputs,
    device: torch.device | None = None,
    seconds: float = 0.08,
) -> list[Layer]:
    """The layers of a model in the order in which they compute, with what each costs for these
    inputs, in evaluation mode; of the kinds in LAYERS, others are left out.

    The seconds are the best of many, each layer alone with the inputs that it has in the model, so
    that these lie in the cache if they fit; seconds: how long one layer may take for all of them.
    device: `pick_device()` unless you say else.
    Raises ValueError when the model cannot read the inputs.
    """
    arguments.check_model(model)
    arguments.check_inputs(inputs)
    arguments.check_positive("seconds", seconds, 0.08)
    calls, hooks = [], []

    def note(layer: nn.Module, given: tuple, out: object) -> None:
        calls.append((layer, given, out))

    with lent(model, device) as there, training.evaluating(model):
        x = training.to_device(inputs, there)
        for layer in model.modules():
            if isinstance(layer, LAYERS):
                hooks.append(layer.register_forward_hook(note))
        try:
            with arguments.explained(model, x):
                model(x)
        finally:
            for hook in hooks:
                hook.remove()
        paths = {layer: path for path, layer in model.named_modules()}
        names = _numbered([type(layer).__name__ for layer, _, _ in calls])
        return [
            Layer(
                name,
                paths[layer],
                flops(layer, given[0], out),
                bytes_moved(layer, given[0], out),
                _least_seconds(lambda layer=layer, given=given: layer(*given), seconds, there),
            )
            for name, (layer, given, out) in zip(names, calls, strict=True)
        ]


def _numbered(kinds: list[str]) -> list[str]:
    """Conv2d, ReLU, Conv2d to Conv2d 1, ReLU, Conv2d 2."""
    seen, names = defaultdict(int), []
    for kind in kinds:
        seen[kind] += 1
        names.append(f"{kind} {seen[kind]}" if kinds.count(kind) > 1 else kind)
    return names


def predicted(layer: Layer, machine: Machine) -> float:
    """The seconds that a layer takes by the roofline: the longer of the time to compute and the
    time to bring its bytes from memory.

    The call itself costs microseconds more, however little there is to do, and not every operation
    is written as fast as the computer could; a layer whose tensors lie in the cache is faster.
    """
    return max(layer.flops / machine.flops, layer.bytes / machine.bytes)


# --- What helps on this computer

WAYS = {
    "2 threads": Way(threads=2),
    "batches of 16": Way(batch_size=16),
    "batches of 256": Way(batch_size=256),
    "channels-last": Way(channels_last=True),
    "bfloat16": Way(autocast=torch.bfloat16),
    "bfloat16 and channels-last": Way(autocast=torch.bfloat16, channels_last=True),
    "fused Adam": Way(adam=(("fused", True),)),
    "Adam on all tensors at once": Way(adam=(("foreach", True),)),
    "the loss read at each step": Way(read_loss=True),
}
"""What may help, each compared with `Way()`: one thread, batches of 64, float32."""


class Trial(NamedTuple):
    """Cards a second without and with something (the field is with_, as `with` is a word of
    Python's); NaN where it could not be tried, and `note` says why."""

    name: str
    without: float
    with_: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times as fast with it as without it; below 1 it is slower."""
        return self.with_ / self.without


def trial(
    name: str,
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    seconds: float = 1.0,
) -> Trial:
    """Trains copies of the model without and with one of the WAYS, by turns, a batch each; the
    medians of both, in cards a second, on the device of `pick_device`.

    By turns, so that what else the computer does disturbs both alike. It stops after the batch
    during which the seconds are over. Raises ValueError for an unknown name, and as `learner` does.
    """
    arguments.check_choice("way", name, WAYS)
    arguments.check_positive("seconds", seconds, 1.0)
    way = WAYS[name]
    if way.threads > cores():
        why = f"This computer lets the course use {cores()} core, so {name} have nothing to gain."
        return Trial(name, math.nan, math.nan, why)
    steps = [(one, learner(model, inputs, targets, loss, one)) for one in (Way(), way)]
    without, with_ = _by_turns(
        [lambda one=one, step=step: _timed(step, one.threads) for one, step in steps], seconds
    )
    return Trial(name, without, with_)


def _timed(step: Callable[[], int], threads: int) -> float:
    """Cards a second of one step."""
    cards = []
    with _threads(threads):
        took = seconds_of(lambda: cards.append(step()))
    return cards[0] / took


def _by_turns(rates: Sequence[Callable[[], float]], seconds: float) -> list[float]:
    """The median of what each measures, by turns, until the seconds are over; the first of each
    does not count, in which memory is fetched and threads start, unless there is time for no other.
    """
    end = time.perf_counter() + seconds
    measured = [[] for _ in rates]
    with seeded(0):
        for one, rate in itertools.cycle(list(zip(measured, rates, strict=True))):
            one.append(rate())
            if time.perf_counter() > end and all(measured):
                break
    return [statistics.median(one[1:] or one) for one in measured]


def what_helps(
    model: nn.Module, inputs: Inputs, targets: Tensor, loss: Loss, seconds: float = 1.0
) -> list[Trial]:
    """A `trial` of each of the WAYS, `seconds` for each, with a progress bar."""
    names = tqdm(WAYS, "trials", leave=False)
    return [trial(name, model, inputs, targets, loss, seconds) for name in names]


@torch.no_grad()
def compile_trial(layers: nn.Module, x: Tensor, seconds: float = 0.5) -> tuple[Trial, float]:
    """Layers without and with torch.compile (Ansel et al., 2024), in evaluation mode, the forward
    pass only: the trial, in examples a second, and the seconds that compiling took.

    What the compiler writes goes into a temporary folder. Where it cannot work (it needs a C++
    compiler on a CPU, and paths without spaces), the trial's note says so. On one thread.
    Raises ValueError when the layers cannot read x.
    """
    arguments.check_model(layers)
    arguments.check_tensor("x", x)
    arguments.check_positive("seconds", seconds, 0.5)
    here = pick_device()
    layers, x = copy.deepcopy(layers).to(here).eval(), x.to(here)
    with arguments.explained(layers, x):
        layers(x)
    why = _no_compiler(here)
    if why:
        return Trial("torch.compile", math.nan, math.nan, why), math.nan
    from torch._inductor import config, utils

    # In this process alone; and without trying out first what the processor says that it can do.
    options = {
        "compile_threads": 1, "cpp.vec_isa_ok": True, "cpp_cache_precompile_headers": False,
    }  # fmt: skip
    with (
        warnings.catch_warnings(action="ignore"),  # those of PyTorch about itself
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _variable("TORCHINDUCTOR_CACHE_DIR", folder),
        utils.fresh_cache(dir=folder),
        config.patch(options),
        _threads(1),
    ):
        try:
            faster = torch.compile(layers)
            took = seconds_of(lambda: faster(x))
            rates = [
                lambda run=run: len(x) / seconds_of(lambda: run(x)) for run in (layers, faster)
            ]
            return Trial("torch.compile", *_by_turns(rates, seconds)), took
        except Exception as error:  # whatever a compiler meets on a stranger's computer
            why = f"torch.compile stopped with {type(error).__name__}, so it is left out here."
            return Trial("torch.compile", math.nan, math.nan, why), math.nan
        finally:
            torch.compiler.reset()


def _no_compiler(device: torch.device) -> str:
    """Why torch.compile cannot work here; "" where it may."""
    compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")
    folders = [torch.__file__, sys.prefix, tempfile.gettempdir()]
    if device.type == "cpu" and not (shutil.which(compiler) or shutil.which("clang++")):
        return f"torch.compile needs a C++ compiler, and there is no {compiler} on this computer."
    spaced = [folder for folder in folders if " " in folder]
    if device.type == "cpu" and spaced:
        return f"torch.compile cannot work in a folder whose path has a space: {spaced[0]!r}."
    return ""


# --- What growth costs


class Line(NamedTuple):
    """A straight line, y = slope * x + intercept."""

    slope: float
    intercept: float

    def at(self, x: float) -> float:
        """The line's y at this x."""
        return self.slope * x + self.intercept


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line with the least squared distances from the points, in y (Gauss, 1809).

    Raises ValueError when x and y differ in length, hold NaN, or all x are equal.
    """
    x, y = (torch.as_tensor(values, dtype=torch.float64) for values in (x, y))
    arguments.check_readings("fit_line", x=x, y=y)
    away = x - x.mean()
    if not away.any():
        raise ValueError(
            f"All {len(x)} points of fit_line have x = {x[0]:g}, so that any slope would do: pass "
            "points with different x."
        )
    slope = float(away @ (y - y.mean()) / (away @ away))
    return Line(slope, float(y.mean() - slope * x.mean()))


def training_seconds(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    cards: int,
    *,
    batch_size: int = 64,
    repeats: int = 3,
) -> float:
    """The seconds to train a copy of the model once on the first `cards` cards, in whole batches;
    for each batch the least of several, since what else the computer does can only make it longer.

    Raises ValueError as `learner` does, and when `cards` is no whole number from 1 to all of them.
    """
    arguments.check_examples(inputs, targets)
    arguments.check_count("cards", cards, 1, 64, most=len(targets))
    arguments.check_count("repeats", repeats, 1, 3)
    first = slice(cards)
    step = learner(model, training.take(inputs, first), targets[first], loss, Way(batch_size))
    with seeded(0):
        step()
        times = [[seconds_of(step) for _ in range(cards // batch_size)] for _ in range(repeats)]
    return sum(map(min, zip(*times, strict=True)))


def activation_bytes(model: nn.Module, inputs: Inputs, targets: Tensor, loss: Loss) -> int:
    """The bytes that the forward pass of a training step keeps for the backward pass, beside the
    parameters: what autograd saves, each piece of memory once. Exact, and the same each time.

    Raises ValueError when model, inputs and targets do not fit together.
    """
    arguments.check_learner(model)
    arguments.check_loss(loss)
    arguments.check_examples(inputs, targets)
    here = pick_device()
    model = copy.deepcopy(model).to(here)
    training.train_mode(model)
    everything = slice(len(targets))
    x = training.to_device(_copied(training.take(inputs, everything)), here)
    y = targets.clone().to(here)
    held = {_place(one) for one in itertools.chain(model.parameters(), model.buffers())}
    saved = {}

    def keep(tensor: Tensor) -> Tensor:
        if _place(tensor) not in held:
            saved[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with seeded(0), arguments.explained(model, x, y), hooks:
        value = loss(model(x), y)  # keeps alive what was saved, until it is counted
    total = sum(saved.values())
    del value
    return total


def _copied(inputs: Inputs) -> Inputs:
    """The inputs in memory of their own: a part of a large tensor holds all of it."""
    if isinstance(inputs, dict):
        return {name: values.clone() for name, values in inputs.items()}
    return inputs.clone()


def _place(tensor: Tensor) -> int:
    """Where in memory a tensor's numbers begin, with all that share them."""
    return tensor.untyped_storage().data_ptr()


class State(NamedTuple):
    """The bytes that training keeps from step to step: weights (with the statistics of batch
    normalisation), their gradients, and what the optimizer remembers."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return sum(self)


def state_bytes(
    model: nn.Module, optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
) -> State:
    """Counts a copy of a model after one step with this optimizer: from its tensors, not by rule.

    With Adam in float32 it is 16 bytes a parameter (weight, gradient, two means), and four more for
    each tensor, whose steps are counted. Raises ValueError when nothing in the model can learn.
    """
    arguments.check_learner(model)
    arguments.check_optimizer(optimizer)
    model = copy.deepcopy(model)
    learned = [one for one in model.parameters() if one.requires_grad]
    for one in learned:
        one.grad = torch.zeros_like(one)
    optimizer = optimizer(learned, lr=1e-3)
    optimizer.step()
    remembered = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    held = itertools.chain(model.parameters(), model.buffers())
    return State(
        sum(one.nbytes for one in held),
        sum(one.grad.nbytes for one in learned),
        sum(value.nbytes for value in remembered),
    )


def peak_bytes(action: Callable[[], object], device: torch.device | None = None) -> int | None:
    """The most bytes that PyTorch held on a GPU (`pick_device()` unless you say else) while the
    action ran; None on a CPU, where PyTorch does not count them."""
    device = pick_device() if device is None else torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        action()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    seconds_of(action, device)
    return torch.cuda.max_memory_allocated(device)


def wide(width: int, seed: int = 0) -> nn.Module:
    """A model whose hidden layer is so wide, from 64 numbers to one: (B, 64) to (B,). It has
    width² parameters and a few more, so that its cost is no straight line against the width.

    Raises ValueError when the width is no whole number of at least 1.
    """
    arguments.check_count("width", width, 1, 256)
    arguments.check_seed(seed)
    with seeded(seed):
        return nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 1), nn.Flatten(0),
        )  # fmt: skip


# --- What a large run costs


def training_flops(layers: Sequence[Layer]) -> int:
    """The operations of a training step, from the forward pass of its layers: three times as many.

    The backward pass computes each product twice again, once for the gradient of the inputs and
    once for that of the weights (Kaplan et al., 2020). The first layer needs no gradient of its
    inputs, so this is a little too much.
    """
    return 3 * sum(layer.flops for layer in layers)


class Price(NamedTuple):
    """What a run costs: how many pairs are read in all; the operations; days of one device alone;
    days of all devices side by side; bytes of weights, gradients and Adam's means on each."""

    reads: float
    flops: float
    device_days: float
    days: float
    bytes: float


def price(
    pairs: float,
    epochs: float,
    flops_per_pair: float,
    flops_per_second: float,
    *,
    devices: int = 1,
    parameters: float = 0,
) -> Price:
    """What a run of so many pairs of picture and text would cost.

    flops_per_pair: operations to learn from one pair, forward and backward (`training_flops`);
    flops_per_second: what one device really reaches in training, not its peak. Of a measured speed,
    pass flops_per_pair * cards_per_second. The devices are taken to lose nothing by talking to each
    other, so that more of them only share the days.
    Raises ValueError for numbers that are not above 0.
    """
    arguments.check_positive("pairs", pairs, 4e8)
    arguments.check_positive("epochs", epochs, 32)
    arguments.check_positive("flops_per_pair", flops_per_pair, 1e9)
    arguments.check_positive("flops_per_second", flops_per_second, 1e10)
    arguments.check_count("devices", devices, 1, 8)
    arguments.check_number("parameters", parameters, 4e8)
    if parameters < 0:
        raise ValueError(f"parameters is {parameters:g}: give 0 or more.")
    reads = pairs * epochs
    device_days = reads * flops_per_pair / flops_per_second / DAY
    return Price(reads, reads * flops_per_pair, device_days, device_days / devices, 16 * parameters)


DAY = 24 * 60 * 60
"""Seconds."""

PEAK = {"V100": 125e12, "A100": 312e12}
"""What the makers promise, operations a second in 16-bit products of matrices (tensor cores).

NVIDIA, "Programming Tensor Cores in CUDA 9" (2017), for the V100; NVIDIA, "A100 Tensor Core GPU"
(data sheet, 2021), for the A100.
"""


class Run(NamedTuple):
    """A published run: pairs, epochs, which devices and how many, days; the operations of a forward
    pass of one pair; the source of its cost."""

    name: str
    pairs: float
    epochs: int
    device: str
    devices: int
    days: float
    forward_flops: float
    source: str

    @property
    def device_days(self) -> float:
        """Days of one device."""
        return self.days * self.devices

    @property
    def flops_per_second(self) -> float:
        """What one device reached: three forward passes a pair (see `training_flops`). Operations
        that were done again to save memory (gradient checkpointing) are not counted."""
        return 3 * self.forward_flops * self.pairs * self.epochs / (self.device_days * DAY)

    @property
    def share(self) -> float:
        """The share of the PEAK that it reached."""
        return self.flops_per_second / PEAK[self.device]


CLIP = "Radford et al., Learning Transferable Visual Models … (2021), section 2.5"
OPEN_CLIP = "OpenCLIP, docs/PRETRAINED.md, LAION-400M (2022)"

PUBLISHED = (
    Run("CLIP RN50x64", 4e8, 32, "V100", 592, 18, 552.65e9, CLIP),
    Run("CLIP ViT-L/14", 4e8, 32, "V100", 256, 12, 175.33e9, CLIP),
    Run("OpenCLIP ViT-B/32", 4e8, 32, "A100", 128, 36 / 24, 14.78e9, OPEN_CLIP),
    Run("OpenCLIP ViT-B/16", 4e8, 32, "A100", 176, 61 / 24, 41.09e9, OPEN_CLIP),
    Run("OpenCLIP ViT-L/14", 4e8, 32, "A100", 400, 127 / 24, 175.33e9, OPEN_CLIP),
)
"""Runs on 400 million pairs of picture and text. The operations of a forward pass are from
OpenCLIP, docs/model_profile.csv; its weights of LAION-400M are named after their 32 epochs."""
