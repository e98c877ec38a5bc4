"""costs.py: counted by hand and by PyTorch, never by the clock: clocks differ."""

import copy
import itertools
import math
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

from mbm_lab import cnn, costs, fusion, rnn
from mbm_lab.device import seeded
from tests.small_runs import MSE, same, small_model, small_task

pytestmark = pytest.mark.usefixtures("on_one_thread")

WORDS = 20


@pytest.fixture
def whole_model():
    """Lesson 05's model, with few words."""
    with seeded(0):
        encoders = {"image": cnn.ImageEncoder(), "message": rnn.TextEncoder(WORDS)}
        return fusion.MultimodalModel(
            encoders, fusion.WeightedSum(tuple(encoders), 32), nn.Linear(32, 1)
        )


def few_cards(n: int = 8, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs and moods of n make-believe cards; their messages have six words."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, 64, 64, generator=generator)
    tokens = torch.randint(1, WORDS, (n, 6), generator=generator)
    return {"image": images, "message": tokens}, torch.randn(n, generator=generator)


# --- One way to train


class Watching(nn.Module):
    """A small network of pictures that remembers how they came."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(1))
        self.layers(torch.zeros(1, 3, 8, 8))
        self.seen, self.modes = [], []

    def __deepcopy__(self, memo):
        other = Watching()
        other.load_state_dict(self.state_dict())
        other.seen, other.modes = self.seen, self.modes
        return other.train(self.training)

    def forward(self, x):
        self.modes.append(self.training)
        self.seen.append((len(x), x.is_contiguous(memory_format=torch.channels_last)))
        return self.layers(x)[:, 0]


PICTURES = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_learner_learns_and_leaves_the_model_as_it_was():
    model, (x, y), losses = small_model(), small_task(64), []
    before = copy.deepcopy(model)

    def loss(output, target):
        value = MSE(output, target)
        losses.append(value.detach())
        return value

    step = costs.learner(model, x, y, loss, costs.Way(batch_size=64))
    assert {step() for _ in range(100)} == {64}
    assert losses[-1] < 0.95 * losses[0]
    assert same(model, before)


def test_a_learner_takes_whole_batches_by_turns():
    model = Watching().eval()
    step = costs.learner(model, PICTURES, torch.zeros(20), MSE, costs.Way(batch_size=8))
    assert [step() for _ in range(3)] == [8, 8, 8]  # the third is the first again
    assert model.seen == [(8, False)] * 3
    assert model.modes == [True] * 3
    assert not model.training


def test_each_way_is_what_it_says(monkeypatch):
    model, read, options, kinds = Watching(), [], [], []
    item, adam = torch.Tensor.item, torch.optim.Adam
    monkeypatch.setattr(torch.Tensor, "item", lambda self: read.append(1) or item(self))
    monkeypatch.setattr(
        torch.optim, "Adam", lambda *args, **more: options.append(more) or adam(*args, **more)
    )

    def loss(output, target):
        kinds.append(output.dtype)
        return MSE(output, target)

    def done(**way):
        for values in (read, options, kinds, model.seen):
            values.clear()
        costs.learner(model, PICTURES, torch.zeros(20), loss, costs.Way(batch_size=4, **way))()

    done()
    assert (kinds, model.seen, options) == ([torch.float32], [(4, False)], [{"lr": 1e-3}])
    reads = len(read)
    done(read_loss=True)
    assert len(read) == reads + 1
    done(autocast=torch.bfloat16)
    assert kinds == [torch.bfloat16]
    done(channels_last=True)
    assert model.seen == [(4, True)]
    done(adam=(("foreach", True),))
    assert options == [{"lr": 1e-3, "foreach": True}]


def test_a_learner_needs_a_whole_batch():
    x, y = small_task(20)
    with pytest.raises(ValueError, match="A batch of 64 needs as many cards, and there are 20"):
        costs.learner(small_model(), x, y, MSE)
    with pytest.raises(ValueError, match="20 examples and the targets have 19"):
        costs.learner(small_model(), x, y[1:], MSE, costs.Way(4))


# --- Where the time goes


def test_the_parts_of_a_step_by_hand():
    def event(key, microseconds, count):
        return SimpleNamespace(
            key=key, count=count, self_cpu_time_total=microseconds,
            self_device_time_total=2 * microseconds, device_type=torch.autograd.DeviceType.CPU,
        )  # fmt: skip

    events = [
        event("aten::mm", 1000, 4), event("aten::addmm", 3000, 2),
        event("aten::mkldnn_convolution", 5000, 6), event("aten::tanh", 500, 2),
        event("aten::cos", 500, 8),
    ]  # fmt: skip
    kernel = event("kernel", 10_000, 1)
    kernel.device_type = torch.autograd.DeviceType.CUDA
    first, second, rest, python = costs._parts([*events, kernel], 0.02, 2, 2, gpu=False)
    assert first == ("convolution", 2.5, 0.25, 3, ("aten::mkldnn_convolution",))
    assert second == ("products of matrices", 2.0, 0.2, 3, ("aten::addmm", "aten::mm"))
    assert rest == (costs.REST, pytest.approx(0.5), 0.05, 5, ("aten::cos", "aten::tanh"))
    assert python == (costs.PYTHON, pytest.approx(5), pytest.approx(0.5), 0, ())
    assert costs._parts(events, 0.02, 2, 2, gpu=True)[0].share == 0.5


def test_operations_in_plain_words():
    assert costs._plain("aten::addmm") == "products of matrices"
    assert costs._plain("aten::cos") == "cos"
    autograd = {costs._plain(one) for one in ("autograd::engine::x", "MulBackward0")}
    assert autograd == {"autograd, from operation to operation"}


def test_profile_finds_the_parts_of_the_whole_model(whole_model, capfd, monkeypatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    before, state = copy.deepcopy(whole_model), torch.get_rng_state()
    parts = costs.profile(whole_model, *few_cards(16), MSE, batch_size=8, batches=2, most=8)
    assert len(parts) == 10
    assert [part.name for part in parts[-2:]] == [costs.REST, costs.PYTHON]
    assert sum(part.share for part in parts) == pytest.approx(1, abs=0.01)
    named = parts[:8]
    assert [part.share for part in named] == sorted((part.share for part in named), reverse=True)
    calls = {part.name: part.calls for part in parts}
    assert calls["convolution, backward"] == 3
    assert same(whole_model, before)
    assert torch.equal(state, torch.get_rng_state())
    assert "KINETO_LOG_LEVEL" not in os.environ
    assert capfd.readouterr() == ("", "")


# --- The roofline


def test_the_first_convolution_by_hand(whole_model):
    """Twelve kernels of 3 x 5 x 5, at 32 x 32 places, of 8 cards; a product and a sum are two."""
    inputs, _ = few_cards(8)
    first = costs.layers(whole_model, inputs, seconds=1e-3)[0]
    assert (first.name, first.path) == ("Conv2d 1", "encoders.image.convolutions.0")
    assert first.flops == 2 * 3 * 5 * 5 * 12 * 32 * 32 * 8
    pictures, weights, features = 8 * 3 * 64 * 64, 12 * 75 + 12, 8 * 12 * 32 * 32
    assert first.bytes == 4 * (pictures + weights + features)
    assert first.intensity == first.flops / first.bytes
    assert first.seconds > 0


def test_layers_come_in_their_order_and_the_model_is_as_it_was(whole_model):
    inputs, _ = few_cards(4)
    whole_model.encoders["image"].eval()
    before, modes = copy.deepcopy(whole_model), [part.training for part in whole_model.modules()]
    found = costs.layers(whole_model, inputs, seconds=1e-3)
    assert [layer.name for layer in found] == [
        "Conv2d 1", "BatchNorm2d 1", "ReLU 1", "MaxPool2d 1", "Conv2d 2", "BatchNorm2d 2", "ReLU 2",
        "MaxPool2d 2", "Conv2d 3", "BatchNorm2d 3", "ReLU 3", "Linear 1", "Tanh", "Embedding",
        "GRU", "Linear 2",
    ]  # fmt: skip
    assert same(whole_model, before)
    assert modes == [part.training for part in whole_model.modules()]
    assert not any(part._forward_hooks for part in whole_model.modules())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        whole_model(inputs)
    products = ("Conv2d", "Linear", "GRU")
    assert counter.get_total_flops() == sum(
        layer.flops for layer in found if layer.name.startswith(products)
    )


sizes = st.integers(1, 4)


@given(sizes, sizes, sizes, st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), sizes)
def test_convolutions_as_pytorch_counts_them(batch, channels, out, kernel, stride, padding, groups):
    layer = nn.Conv2d(channels * groups, out * groups, kernel, stride, padding, groups=groups)
    check(layer, torch.zeros(batch, channels * groups, 6, 5))


@given(sizes, sizes, sizes)
def test_linear_layers_as_pytorch_counts_them(batch, inputs, outputs):
    check(nn.Linear(inputs, outputs), torch.zeros(batch, 2, inputs))


@given(sizes, sizes, sizes, sizes, st.integers(1, 2), st.booleans())
def test_grus_as_pytorch_counts_them(batch, words, inputs, hidden, deep, both_ways):
    layer = nn.GRU(inputs, hidden, deep, batch_first=True, bidirectional=both_ways)
    check(layer, torch.zeros(batch, words, inputs))
    lengths = torch.arange(batch).clamp(max=words - 1) + 1
    check(layer, pack_padded_sequence(torch.zeros(batch, words, inputs), lengths, True, False))


def check(layer, given):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = layer(given)
    assert costs.flops(layer, given, out) == counter.get_total_flops()


BY_HAND = [
    (nn.BatchNorm2d(3).eval(), torch.zeros(2, 3, 4, 4), 2 * 96, 4 * (96 + 96 + 12) + 8),
    (nn.ReLU(), torch.zeros(2, 5), 10, 4 * 20),
    (nn.Tanh(), torch.zeros(2, 5), 10, 4 * 20),
    (nn.MaxPool2d(2), torch.zeros(1, 3, 4, 4), 12 * 4, 4 * (48 + 12)),
    (nn.MaxPool2d((2, 1)), torch.zeros(1, 3, 4, 4), 24 * 2, 4 * (48 + 24)),
    (nn.Embedding(9, 5), torch.zeros(2, 3, dtype=torch.long), 0, 8 * 6 + 2 * 4 * 30),
    (nn.Linear(3, 2), torch.zeros(5, 3), 2 * 5 * 6, 4 * (15 + 8 + 10)),
    (nn.GRU(2, 3, batch_first=True), torch.zeros(4, 5, 2), 2 * 20 * 9 * 5, 4 * (40 + 63 + 60)),
]


@pytest.mark.parametrize(("layer", "given", "flops", "moved"), BY_HAND)
def test_operations_and_bytes_by_hand(layer, given, flops, moved):
    with torch.no_grad():
        out = layer(given)
    assert costs.flops(layer, given, out) == flops
    assert costs.bytes_moved(layer, given, out) == moved


def test_a_layer_that_nobody_counted_is_said():
    with pytest.raises(ValueError, match=r"operations of LSTM are not known.*Conv2d, Linear"):
        costs.flops(nn.LSTM(2, 2), torch.zeros(1, 1, 2), None)


def test_predicted_is_the_longer_of_both_times():
    machine = costs.Machine(flops=100.0, bytes=10.0)
    assert machine.ridge == 10
    assert costs.predicted(costs.Layer("a", "", 1000, 5, 0), machine) == 10  # it computes
    assert costs.predicted(costs.Layer("a", "", 5, 1000, 0), machine) == 100  # it waits for bytes


def test_the_machine_by_a_clock_that_always_says_one_second(monkeypatch):
    monkeypatch.setattr(
        costs, "_least_seconds", lambda action, limit, device: action() is None or 1
    )
    product, windows = 2 * 512**3, 2 * 64 * 64 * 64 * 64 * 9
    assert costs.measure_machine() == (max(product, windows), 2 * 4 * 2**25, 2 * 4 * 2**19)
    with pytest.raises(ValueError, match="seconds is 0"):
        costs.measure_machine(seconds=0)


def test_the_least_of_several_times_counts(monkeypatch):
    times = iter([9.0, 3.0, 1.0, 2.0])  # the first one does not count
    clock = itertools.count()
    monkeypatch.setattr(costs, "seconds_of", lambda action, device: next(times))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(clock))
    assert costs._least_seconds(lambda: None, 3) == 1


# --- What helps


def test_trials_go_by_turns_and_the_first_of_each_does_not_count(monkeypatch):
    order, clock = [], itertools.count()
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(clock))
    slow, fast = iter([900, 1, 2, 3, 4]), iter([900, 10, 30, 20, 40])
    rates = [
        lambda: order.append("slow") or next(slow),
        lambda: order.append("fast") or next(fast),
    ]
    assert costs._by_turns(rates, 7) == [2, 20]
    assert order == ["slow", "fast"] * 4
    assert costs._by_turns([lambda: 5, lambda: 6], 0) == [5, 6]


@pytest.mark.slow
def test_every_way_trains(whole_model, monkeypatch):
    monkeypatch.setattr(costs, "cores", lambda: 2)
    before, state = copy.deepcopy(whole_model), torch.get_rng_state()
    trials = costs.what_helps(whole_model, *few_cards(256), MSE, seconds=1e-3)
    assert [one.name for one in trials] == list(costs.WAYS)
    for one in trials:
        assert one.without > 0 < one.with_
        assert one.ratio == one.with_ / one.without
        assert one.note == ""
    assert same(whole_model, before)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == 1


def test_two_threads_are_used_and_put_back(monkeypatch):
    threads = []
    monkeypatch.setattr(costs, "seconds_of", lambda step: step() or 0.5)

    def step():
        threads.append(torch.get_num_threads())
        return 64

    assert costs._timed(step, 2) == 128
    assert (threads, torch.get_num_threads()) == ([2], 1)


def test_one_core_is_said(monkeypatch):
    monkeypatch.setattr(costs, "cores", lambda: 1)
    one = costs.trial("2 threads", small_model(), *small_task(), MSE)
    assert math.isnan(one.without)
    assert math.isnan(one.ratio)
    assert (
        one.note == "This computer lets the course use 1 core, so 2 threads have nothing to gain."
    )
    with pytest.raises(ValueError, match="Unknown way 'magic'"):
        costs.trial("magic", small_model(), *small_task(), MSE)


def test_why_nothing_can_be_compiled_is_one_sentence(monkeypatch, capfd):
    layers, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(4, 2)

    def note():
        one, took = costs.compile_trial(layers, x)
        assert math.isnan(one.ratio)
        assert math.isnan(took)
        return one.note

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: None)
        patch.setenv("CXX", "g++-99")
        assert note() == (
            "torch.compile needs a C++ compiler, and there is no g++-99 on this computer."
        )
    monkeypatch.setattr(torch, "__file__", "/home/me/course/torch/__init__.py")
    monkeypatch.setattr(costs.tempfile, "gettempdir", lambda: "/tmp")
    with monkeypatch.context() as patch:
        patch.setattr(costs.sys, "prefix", "/home/me/my course")
        assert note().endswith("a folder whose path has a space: '/home/me/my course'.")

    with pytest.raises(ValueError, match=r"Linear.* takes \(…, 2\), and got \(4, 3\)"):
        costs.compile_trial(layers, torch.ones(4, 3))

    def fails(layers):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(costs.sys, "prefix", "/home/me/course")
        patch.setattr(torch, "compile", fails)
        assert note() == "torch.compile stopped with MemoryError, so it is left out here."
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_what_was_compiled_leaves_nothing_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(costs.tempfile, "tempdir", str(tmp_path))
    layer, before = nn.Tanh().train(), dict(os.environ)
    one, took = costs.compile_trial(layer, torch.randn(64, 8), seconds=0.1)
    if not one.note:
        assert took > 0
        assert one.without > 0 < one.with_
    assert "stopped" not in one.note
    assert layer.training
    assert list(tmp_path.iterdir()) == []
    own = "_TORCHINDUCTOR"  # for what was loaded, which stays in memory
    assert {k: v for k, v in os.environ.items() if not k.startswith(own)} == before
    assert torch.get_num_threads() == 1
    assert capfd.readouterr() == ("", "")


# --- What growth costs

numbers = st.integers(-1000, 1000)


@given(numbers, numbers, st.lists(numbers, min_size=2, max_size=9, unique=True))
def test_a_line_through_points_on_a_line_is_that_line(slope, intercept, x):
    line = costs.fit_line(x, [slope * one + intercept for one in x])
    assert line == pytest.approx((slope, intercept), abs=1e-6 * (1 + abs(slope) + abs(intercept)))
    assert line.at(12) == pytest.approx(12 * slope + intercept, abs=1e-4)


def test_the_line_with_the_least_squares_by_hand():
    line = costs.fit_line([0, 1, 2], [0, 3, 3])  # means 1 and 2: slope (2 + 1) / 2
    assert line == pytest.approx((1.5, 0.5))
    assert line.at(4) == pytest.approx(6.5)


def test_points_that_have_no_line():
    with pytest.raises(ValueError, match="All 2 points of fit_line have x = 3"):
        costs.fit_line([3, 3], [1, 2])
    with pytest.raises(ValueError, match="fit_line"):
        costs.fit_line([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="hold nan in example 1"):
        costs.fit_line([1, 2], [1, math.nan])


def test_the_seconds_of_training_are_those_of_whole_batches(monkeypatch):
    """Three batches, twice; of each batch the shorter time counts."""
    model, times = Watching(), iter([5.0, 3.0, 4.0, 1.0, 6.0, 2.0])
    monkeypatch.setattr(costs, "seconds_of", lambda action: next(times) * (action() == 4))
    model.seen.clear()
    moods = torch.zeros(20)
    seconds = costs.training_seconds(model, PICTURES, moods, MSE, 13, batch_size=4, repeats=2)
    assert seconds == 1 + 3 + 2
    assert [count for count, _ in model.seen] == [4] * 7  # one before the clock starts
    with pytest.raises(ValueError, match="cards is 21: give a whole number from 1 to 20"):
        costs.training_seconds(model, PICTURES, moods, MSE, 21, batch_size=4)


def test_activations_by_hand():
    """A linear layer keeps its inputs, 3 numbers a card; the loss keeps output and target."""
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    for n in (1, 7):
        assert costs.activation_bytes(model, *small_task(n), MSE) == n * 4 * (3 + 1 + 1)
    x, y = small_task(100)
    assert costs.activation_bytes(model, x[:7], y[:7], MSE) == 7 * 20  # a part is a part
    with_dropout = small_model()
    training = costs.activation_bytes(with_dropout.train(), x, y, MSE)
    assert costs.activation_bytes(with_dropout.eval(), x, y, MSE) == training


def test_the_memory_of_a_batch_is_a_line(whole_model):
    before = copy.deepcopy(whole_model)

    def kept(n):
        inputs, moods = few_cards(n)
        return costs.activation_bytes(whole_model, inputs, moods, MSE)

    sizes = (8, 16, 24)
    line = costs.fit_line(sizes, [kept(n) for n in sizes])
    assert line.at(96) == pytest.approx(kept(96), rel=0.01)
    assert line.slope > 100_000
    assert same(whole_model, before)


def test_the_state_of_training_by_hand():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    learned = 12 + 4 + 4 + 4 + 4 + 1
    statistics = 4 * (4 + 4) + 8  # float32, and the count of batches in int64
    state = costs.state_bytes(model)
    assert state == (4 * learned + statistics, 4 * learned, 8 * learned + 4 * 6)
    assert state.total == sum(state)
    assert costs.state_bytes(model, torch.optim.SGD) == (4 * learned + statistics, 4 * learned, 0)
    model[0].requires_grad_(False)
    assert costs.state_bytes(model)[1:] == (4 * (learned - 16), 8 * (learned - 16) + 4 * 4)
    assert all(one.grad is None for one in model.parameters())


def test_a_wide_model_has_its_width_squared():
    for width in (1, 8, 64):
        model = costs.wide(width)
        count = sum(one.numel() for one in model.parameters())
        assert count == width**2 + 67 * width + 1
        assert model(torch.zeros(5, 64)).shape == (5,)
    assert same(costs.wide(8), costs.wide(8))
    with pytest.raises(ValueError, match="width is 0"):
        costs.wide(0)


def test_the_peak_of_memory_is_counted_on_a_gpu_only():
    done = []
    assert costs.peak_bytes(lambda: done.append(1)) is None
    assert done == [1]


# --- What a large run costs


def test_a_price_by_hand():
    """Ten million pairs a second: 100 seconds for one epoch of a thousand million."""
    one = costs.price(1e9, 1, flops_per_pair=1e6, flops_per_second=1e13)
    assert one == (1e9, 1e15, pytest.approx(100 / 86400), pytest.approx(100 / 86400), 0)
    more = costs.price(1e9, 2, 1e6, 1e13, devices=4, parameters=1000)
    assert more == (2e9, 2e15, pytest.approx(200 / 86400), pytest.approx(50 / 86400), 16_000)
    with pytest.raises(ValueError, match="pairs is 0"):
        costs.price(0, 1, 1, 1)
    with pytest.raises(ValueError, match="devices is 0"):
        costs.price(1, 1, 1, 1, devices=0)
    with pytest.raises(ValueError, match="parameters is -1: give 0 or more"):
        costs.price(1, 1, 1, 1, parameters=-1)


def test_published_runs_by_hand():
    runs = {run.name: run for run in costs.PUBLISHED}
    assert runs["CLIP RN50x64"].device_days == 18 * 592
    large = runs["CLIP ViT-L/14"]
    assert large.device_days == 12 * 256
    reached = 3 * 175.33e9 * 4e8 * 32 / (12 * 256 * 86400)
    assert large.flops_per_second == pytest.approx(reached)
    assert large.share == pytest.approx(reached / 125e12)
    hours = {name: run.device_days * 24 for name, run in runs.items()}
    assert hours["OpenCLIP ViT-B/32"] == pytest.approx(4600, rel=0.01)  # as the source says
    assert hours["OpenCLIP ViT-B/16"] == pytest.approx(10_700, rel=0.01)
    assert hours["OpenCLIP ViT-L/14"] == pytest.approx(50_800, rel=0.01)
    assert all(0.1 < run.share < 0.25 for run in runs.values())


def test_the_price_of_a_published_run_is_what_it_took():
    for run in costs.PUBLISHED:
        speed, flops = run.flops_per_second, 3 * run.forward_flops
        one = costs.price(run.pairs, run.epochs, flops, speed, devices=run.devices)
        assert one.days == pytest.approx(run.days)


def test_a_training_step_computes_three_forward_passes(whole_model):
    """As PyTorch counts them, but for the first layer, whose inputs need no gradient."""
    inputs, moods = few_cards(8)
    found = costs.layers(whole_model, inputs, seconds=1e-3)
    with FlopCounterMode(display=False) as counter:
        MSE(whole_model(inputs), moods).backward()
    products = [one for one in found if one.name.startswith(("Conv2d", "Linear", "GRU"))]
    counted = counter.get_total_flops() + products[0].flops
    assert costs.training_flops(products) == pytest.approx(counted, rel=0.01)
