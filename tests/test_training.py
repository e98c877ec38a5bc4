"""training.py: the loop, and how well the whole model learns."""

import copy
import math
import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mbm_lab import cnn, datasets, exams, fusion, preprocessing, rnn, stored, training
from tests.small_runs import MSE, PowerCut, cut_after, same, small_model, small_task, train

pytestmark = pytest.mark.usefixtures("on_one_thread")


# --- The measure


def test_r_squared_by_hand():
    target = torch.tensor([1.0, 2.0, 3.0])  # squares around the mean 2: 1 + 0 + 1 = 2
    assert training.r_squared(target, target) == 1
    assert training.r_squared(torch.full((3,), 2.0), target) == 0
    assert training.r_squared(torch.tensor([1.0, 2.0, 2.0]), target) == pytest.approx(0.5)
    assert training.r_squared(torch.tensor([3.0, 2.0, 1.0]), target) == pytest.approx(-3)
    with pytest.raises(ValueError, match="one shape"):
        training.r_squared(target[:, None], target)


# --- Inputs of one modality or several


def test_every_modality_goes_along():
    """To another device, and into a batch. The device "meta" is on every computer."""
    inputs = {"image": torch.arange(6.0).view(3, 2), "message": torch.arange(3)}
    there = training.to_device(inputs, torch.device("meta"))
    assert {name: values.device.type for name, values in there.items()} == dict.fromkeys(
        inputs, "meta"
    )
    assert training.to_device(inputs["image"], torch.device("meta")).device.type == "meta"
    taken = training.take(inputs, torch.tensor([2, 0]))
    assert {name: values.tolist() for name, values in taken.items()} == {
        "image": [[4, 5], [0, 1]], "message": [2, 0]
    }  # fmt: skip


# --- The loop


def test_several_batches_make_one_step_as_a_large_batch_does():
    """Also where the last group is smaller, and its batches differ in length."""
    x, y = (values.double() for values in small_task())
    for count in (96, 75):
        whole, parts = small_model().double(), small_model().double()
        options = {"epochs": 3, "one_cycle": True, "clip_norm": 0.3, "progress": False}
        large = training.fit(whole, x[:count], y[:count], MSE, batch_size=24, **options)
        small = training.fit(
            parts, x[:count], y[:count], MSE, batch_size=8, accumulate=3, **options
        )
        assert small.train_loss == pytest.approx(large.train_loss, abs=1e-12)
        for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-12)


def test_one_epoch_puts_batches_together_too():
    x, y = (values.double() for values in small_task())
    whole, parts = small_model().double().eval(), small_model().double().eval()
    for model, size, accumulate in ((whole, 24, 1), (parts, 8, 3)):
        batches = list(zip(x[:72].split(size), y[:72].split(size), strict=True))
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        training.one_epoch(model, batches, MSE, sgd, accumulate=accumulate)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_half_the_bits_and_keeps_the_weights_whole(dtype):
    x, y = small_task()
    half, whole, seen = small_model(), small_model(), set()
    layer = next(part for part in half.modules() if isinstance(part, nn.Linear))
    layer.register_forward_hook(lambda part, given, out: seen.add((part.training, out.dtype)))
    options = {"epochs": 3, "val": (x, y), "clip_norm": 1.0, "one_cycle": True, "progress": False}
    one = training.fit(half, x, y, MSE, autocast=dtype, **options)
    two = training.fit(whole, x, y, MSE, **options)
    assert seen == {(True, dtype), (False, torch.float32)}
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert not same(half, whole)
    assert one.val_loss == pytest.approx(two.val_loss, rel=0.05)


def test_small_gradients_survive_float16():
    """A loss of which float16 would lose every gradient: scaled up, it learns as float32 does."""
    x, y = small_task()
    half, whole = small_model(), small_model()

    def tiny(output, target):
        return 1e-6 * MSE(output, target)

    for model, autocast in ((half, torch.float16), (whole, None)):
        options = {"optimizer": torch.optim.SGD, "learning_rate": 3e4, "progress": False}
        training.fit(model, x, y, tiny, epochs=2, autocast=autocast, **options)
    untrained = small_model()
    for a, b, c in zip(*(m.parameters() for m in (half, whole, untrained)), strict=True):
        assert (a - b).abs().max() < 0.1 * (b - c).abs().max()


def test_a_step_whose_gradients_overflow_is_left_out():
    x, y = small_task()
    model, before = small_model(), small_model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(x[:8], y[:8])]
    training.one_epoch(model, batches, lambda a, b: 1e36 * MSE(a, b), sgd, autocast=torch.float16)
    assert same(model, before)


def test_a_float16_run_resumes_to_the_bit(tmp_path):
    x, y = small_task()
    options = {"autocast": torch.float16, "accumulate": 2, "progress": False, "batch_size": 8}
    at_once, cut = small_model(), small_model()
    training.fit(at_once, x, y, MSE, epochs=4, **options)
    training.fit(cut, x, y, MSE, epochs=2, checkpoint=tmp_path, **options)
    cut = small_model()
    training.fit(cut, x, y, MSE, epochs=4, checkpoint=tmp_path, resume=True, **options)
    assert same(at_once, cut)
    for other in ({"autocast": torch.bfloat16}, {"autocast": None}, {"accumulate": 1}):
        with pytest.raises(ValueError, match=f"its {next(iter(other))} is"):
            training.fit(cut, x, y, MSE, epochs=5, checkpoint=tmp_path, resume=True,
                         **options | other)  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"accumulate": 0}, "accumulate is 0"),
        ({"accumulate": 1.5}, "accumulate is 1.5"),
        ({"autocast": torch.float64}, "autocast is torch.float64"),
        ({"autocast": "bf16"}, "autocast is .*bf16"),
    ],
)
def test_what_accumulate_and_autocast_cannot_be(wrong, says):
    x, y = small_task()
    with pytest.raises(ValueError, match=says):
        training.fit(small_model(), x, y, MSE, progress=False, **wrong)


@pytest.mark.parametrize("one_cycle", [False, True])
def test_fit_is_the_bare_loop_bit_for_bit(one_cycle):
    x, y = small_task()
    fitted, bare = small_model(), small_model()
    history = training.fit(
        fitted, x, y, MSE, epochs=3, batch_size=32, one_cycle=one_cycle, seed=5, progress=False
    )

    torch.manual_seed(5)
    order = torch.Generator().manual_seed(5)
    adam = torch.optim.Adam(bare.parameters(), lr=0.001)
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 0.001, 12)
    losses = []
    for _ in range(3):
        total = 0.0
        for index in torch.randperm(100, generator=order).split(32):
            value = MSE(bare(x[index]), y[index])
            adam.zero_grad()
            value.backward()
            adam.step()
            if one_cycle:
                schedule.step()
            total += value.item() * len(index)
        losses.append(total / 100)
    assert same(fitted, bare)
    assert history.train_loss == pytest.approx(losses, rel=1e-6)
    assert history.val_loss == []
    assert history.best_epoch == -1
    assert not fitted.training


def test_the_seed_decides():
    first, again, other = small_model(), small_model(), small_model()
    train(first, seed=1)
    train(again, seed=1)
    train(other, seed=2)
    assert same(first, again)
    assert not same(first, other)


def test_validation_changes_no_weight():
    """Looking at validation cards draws no random number and moves no weight."""
    x, y = small_task()
    with_val, without = small_model(), small_model()
    train(with_val)
    training.fit(without, x, y, MSE, epochs=6, batch_size=16, learning_rate=0.01, progress=False)
    assert same(with_val, without)


def test_augment_sees_every_batch_and_the_runs_generator():
    seen = []

    def augment(x, generator):
        seen.append((len(x), torch.rand((), generator=generator).item()))
        return x

    train(small_model(), epochs=2, augment=augment)
    assert [size for size, _ in seen] == [16] * 6 + [4] + [16] * 6 + [4]
    first, seen = seen, []
    train(small_model(), epochs=2, augment=augment)
    assert seen == first


def test_early_stopping_gives_back_the_best_weights():
    """Validation targets that say the opposite: the best epoch is the first, and the run ends."""
    x, y = small_task()
    val = (x, -y)
    stopped, one_epoch = small_model(), small_model()
    options = {"batch_size": 16, "learning_rate": 0.01, "val": val, "progress": False}
    history = training.fit(stopped, x, y, MSE, epochs=50, patience=3, **options)
    training.fit(one_epoch, x, y, MSE, epochs=1, **options)
    assert history.best_epoch == 0
    assert len(history.val_loss) == len(history.train_loss) == 4
    assert same(stopped, one_epoch)
    reached = float(MSE(training.predict(stopped, x), -y))
    assert reached == history.val_loss[0] == min(history.val_loss)


def test_without_patience_the_last_weights_stay():
    x, y = small_task()
    model = small_model()
    history = training.fit(
        model, x, y, MSE, val=(x, -y), epochs=3, learning_rate=0.01, progress=False
    )
    assert history.best_epoch == 0
    assert float(MSE(training.predict(model, x), -y)) == history.val_loss[-1]


def test_predict_in_batches_leaves_the_mode_alone():
    model, (x, _) = small_model(), small_task()
    model.train()
    parts = training.predict(model, x, batch_size=7)
    assert model.training
    assert torch.allclose(parts, training.predict(model, x, batch_size=100), atol=1e-6)
    assert not parts.requires_grad


def test_progress_shows_a_bar_and_none(capsys):
    train(small_model(), epochs=2, progress=False)
    assert capsys.readouterr().err == ""
    train(small_model(), epochs=2, progress=True)
    assert "epochs" in capsys.readouterr().err


# --- What is left where it was


def test_the_same_random_numbers_come_after_training_as_without(tmp_path):
    """The seed is the run's own: the caller's random state goes on as if nothing had happened."""
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    model = small_model(seed=5)
    torch.manual_seed(3)
    train(model, checkpoint=tmp_path)
    assert torch.equal(torch.rand(4), wanted)


def test_frozen_parts_stay_as_they_are():
    """Weights, statistics of batch normalisation and dropout: all that is frozen rests."""
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    frozen.requires_grad_(False)
    model = nn.Sequential(
        frozen, nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)
    )
    before = copy.deepcopy(model)
    modes = []
    frozen[2].register_forward_hook(lambda part, *_: modes.append(part.training))
    x, y = small_task()
    training.fit(model, x, y, MSE, epochs=2, progress=False)
    assert same(frozen, before[0])
    assert not any(modes)
    assert not torch.equal(model[2].running_mean, before[2].running_mean), "this one is not frozen"
    assert not torch.equal(model[1].weight, before[1].weight)


def test_a_look_in_evaluation_mode_gives_every_part_its_own_mode_back():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Dropout()), nn.Dropout())
    model.train()
    model[0].eval()
    before = [part.training for part in model.modules()]
    with training.evaluating(model):
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
    assert (
        [part.training for part in model.modules()] == before == [True, False, False, False, True]
    )
    with pytest.raises(PowerCut), training.evaluating(model):
        raise PowerCut
    assert [part.training for part in model.modules()] == before


# --- Batches


@pytest.mark.parametrize(
    ("cards", "sizes"),
    [(33, [17, 16]), (32, [16, 16]), (34, [16, 16, 2]), (16, [16]), (1, [1]), (17, [17])],
)
def test_a_single_example_that_is_left_over_joins_the_batch_before_it(cards, sizes):
    x = torch.arange(cards)
    batches = list(training.shuffled(x, 10 * x, 16, torch.Generator().manual_seed(0)))
    assert sorted(len(y) for _, y in batches) == sorted(sizes)
    assert torch.equal(torch.cat([x for x, _ in batches]).sort().values, x)
    assert all(torch.equal(10 * x, y) for x, y in batches)


def test_batches_of_one_are_what_is_asked_for():
    x = torch.arange(5)
    batches = training.shuffled(x, x, 1, torch.Generator())
    assert [len(y) for _, y in batches] == [1] * 5


def test_batch_normalisation_and_one_example_left_over():
    """33 cards in batches of 16: PyTorch itself refuses a batch of one."""
    x, y = small_task(33)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, *args, **options):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **options)

    options = {"epochs": 2, "batch_size": 16, "one_cycle": True, "optimizer": Watched}
    history = training.fit(model, x, y, MSE, learning_rate=0.01, progress=False, **options)
    assert len(history.train_loss) == 2
    assert len(rates) == 4
    assert rates[-1] < 1e-6 < max(rates), "the cycle is counted in the batches that there are"


def test_no_epochs_train_nothing_also_in_one_cycle():
    x, y = small_task()
    for one_cycle in (False, True):
        model = small_model()
        before = copy.deepcopy(model)
        history = training.fit(model, x, y, MSE, epochs=0, one_cycle=one_cycle, progress=False)
        assert history.train_loss == []
        assert same(model, before)


def test_gradients_are_clipped_to_their_length():
    """With SGD the step is the learning rate times the gradient, however large the error."""
    x, y = small_task()
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    options = {"epochs": 1, "batch_size": 100, "learning_rate": 1.0, "progress": False}
    for clip_norm, length in ((0.01, 0.01), (None, 100)):
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        training.fit(
            model, x, 1000 * y, MSE, optimizer=torch.optim.SGD, clip_norm=clip_norm, **options
        )
        step = (nn.utils.parameters_to_vector(model.parameters()) - before).norm().item()
        assert step == pytest.approx(length, rel=1e-3) if clip_norm else step > length


# --- A DataLoader


def test_a_loader_gives_its_own_batches():
    """Unshuffled, it is the bare loop over its batches, bit for bit."""
    x, y = small_task()
    loaded, bare = small_model(), small_model()
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    history = training.fit(loaded, loader, loss=MSE, val=loader, epochs=2, progress=False)
    torch.manual_seed(0)
    adam = torch.optim.Adam(bare.parameters(), lr=0.001)
    for _ in range(2):
        for inputs, targets in loader:
            value = MSE(bare(inputs), targets)
            adam.zero_grad()
            value.backward()
            adam.step()
        iter(loader)  # the look at the validation data draws another
    assert same(loaded, bare)
    whole = float(MSE(training.predict(loaded, x), y))
    assert history.val_loss[-1] == pytest.approx(whole, rel=1e-5)


def test_a_shuffling_loader_follows_the_seed_and_resumes(tmp_path):
    x, y = small_task()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    options = {"loss": MSE, "progress": False, "one_cycle": True}
    whole, again, cut, resumed = (small_model() for _ in range(4))
    training.fit(whole, loader, epochs=4, **options)
    training.fit(again, loader, epochs=4, **options)
    assert same(whole, again)
    with pytest.raises(PowerCut):
        training.fit(cut, loader, epochs=4, **options | {"loss": cut_after(9)}, checkpoint=tmp_path)
    training.fit(resumed, loader, epochs=4, **options, checkpoint=tmp_path, resume=True)
    assert same(whole, resumed)


def test_a_loader_of_modalities_and_what_cannot_work():
    x, y = small_task()
    cards = [({"image": one}, target) for one, target in zip(x, y, strict=True)]

    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Linear(3, 1)

        def forward(self, inputs):
            return self.read(inputs["image"])[:, 0]

    loader = DataLoader(cards, batch_size=10)
    assert training.fit(Image(), loader, loss=MSE, epochs=1, progress=False).train_loss[0] > 0
    with pytest.raises(ValueError, match="brings its own targets"):
        training.fit(Image(), loader, y, MSE)
    with pytest.raises(ValueError, match="Pass the targets along"):
        training.fit(Image(), {"image": x}, loss=MSE)
    with pytest.raises(ValueError, match="pass loss=, for example"):
        training.fit(Image(), loader)

    class Endless(IterableDataset):
        def __iter__(self):
            return iter(cards)

    endless = DataLoader(Endless(), batch_size=10)
    assert training.fit(Image(), endless, loss=MSE, epochs=1, progress=False).train_loss[0] > 0
    with pytest.raises(ValueError, match="one_cycle needs to know how many batches"):
        training.fit(Image(), endless, loss=MSE, one_cycle=True)
    for odd in (TensorDataset(x), TensorDataset(x, y, y), [{"image": one} for one in x]):
        with pytest.raises(ValueError, match="must be a pair, inputs and targets"):
            training.fit(Image(), DataLoader(odd, batch_size=10), loss=MSE, progress=False)
    with pytest.raises(ValueError, match="nothing to train on: no batch came"):
        training.fit(Image(), DataLoader([]), loss=MSE, progress=False)


# --- Bad input: one sentence


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_inputs_that_are_no_number_say_which(bad):
    x, y = small_task()
    x[3, 0] = bad
    with pytest.raises(ValueError, match=f"The inputs hold {bad} in example 3"):
        training.fit(small_model(), x, y, MSE, progress=False)


def test_a_loss_that_is_no_number_says_so():
    x, y = small_task()
    with pytest.raises(ValueError, match="became (nan|inf) in epoch 1: try a lower learning rate"):
        training.fit(small_model(), 1e30 * x, 1e30 * y, MSE, progress=False)


def test_sizes_must_match():
    x, y = small_task()
    with pytest.raises(ValueError, match="inputs has 100 examples and the targets have 99"):
        training.fit(small_model(), x, y[1:], MSE)
    with pytest.raises(ValueError, match="message has 7 examples and the targets have 100"):
        training.fit(small_model(), {"image": x, "message": x[:7]}, y, MSE)
    with pytest.raises(ValueError, match="the validation targets have 99"):
        training.fit(small_model(), x, y, MSE, val=(x, y[1:]))
    with pytest.raises(ValueError, match="nothing to train on"):
        training.fit(small_model(), x[:0], y[:0], MSE)


def test_options_that_need_another():
    x, y = small_task()
    with pytest.raises(ValueError, match="pass val="):
        training.fit(small_model(), x, y, MSE, patience=2)
    with pytest.raises(ValueError, match="pass checkpoint=FOLDER"):
        training.fit(small_model(), x, y, MSE, resume=True)


# --- The whole model

NAMES = ("image", "message")


@pytest.mark.parametrize(
    "kind",
    [fusion.WeightedSum, fusion.Concat, fusion.DotProduct, fusion.Gated, fusion.LowRankTensor,
     fusion.CrossAttention],
)  # fmt: skip
def test_every_parameter_of_the_whole_model_learns(kind):
    torch.manual_seed(0)
    fused = kind(NAMES, 32)
    encoders = {"image": cnn.ImageEncoder(), "message": rnn.TextEncoder(20)}
    model = fusion.MultimodalModel(encoders, fused, fusion.head(fused.out_dim, 8))
    inputs = {
        "image": torch.rand(16, 3, 64, 64),
        "message": torch.arange(4, 20).repeat(4).view(16, 4).repeat(1, 2),
    }
    before = copy.deepcopy(model)
    MSE(model(inputs), torch.randn(16)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A bias before batch normalisation, or of all keys of an attention, changes no output.
        idle = "convolutions" in name and name.endswith("bias") or name == "fusion.key.bias"
        assert idle or parameter.grad.abs().max() > 0, name
    training.fit(model, inputs, torch.randn(16), MSE, epochs=1, progress=False)
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        assert "bias" in name or not torch.equal(old, new), name


def two_readers():
    torch.manual_seed(0)
    readers = {name: nn.Linear(3, 1) for name in NAMES}
    return fusion.MultimodalModel(readers, fusion.WeightedSum(NAMES, 1), nn.Identity())


def test_a_model_of_readers_shows_them_and_gets_its_best_weights():
    model = two_readers()
    x = {name: torch.randn(40, 3) for name in NAMES}
    f, g = training.readings(model, x)
    with torch.no_grad():
        shown = fusion.WithReadings(model)(x)
    torch.testing.assert_close(shown, torch.stack([f + g, f, g], 1))
    m = 0.3 * f - 0.7 * g + 0.1
    assert training.fit_weights(model, x, m) == pytest.approx((0.3, -0.7, 0.1), abs=1e-5)
    torch.testing.assert_close(training.predict(model, x) + 0.1, m)
    assert fusion.WithReadings(model).model is model


@pytest.fixture(scope="module")
def cards():
    """Training, validation and 1,000 fresh cards, with their inputs."""
    vocabulary = stored.load("message_reader")[1]
    packs = {
        "train": datasets.load_postcards("train"),
        "val": datasets.load_postcards("val"),
        "fresh": datasets.draw_postcards(1000, seed=505),
    }
    return {
        name: (
            pack,
            {
                "image": pack.images,
                "message": preprocessing.text_to_tensor(pack.messages, vocabulary),
            },
        )
        for name, pack in packs.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_lesson_05_claims_of_the_whole_model(cards, seed):
    """First alone, from ratings, then α and β: near the oracle; together from the mood: far below,
    and greedy. The last step together harms on the mood alone, and not with the ratings kept."""
    (train_cards, x), (val, x_val), (fresh, x_fresh) = (cards[n] for n in ("train", "val", "fresh"))
    recipe = {"batch_size": 32, "seed": seed, "progress": False}

    def augment(inputs, generator):
        return {**inputs, "image": preprocessing.augment(inputs["image"], generator)}

    model = exams.train_readers(seed)
    intercept = training.fit_weights(model, x_val, val.mood).intercept

    def score(network, c=intercept):
        return training.r_squared(training.predict(network, x_fresh) + c, fresh.mood)

    def correlations(network):
        pairs = zip(training.readings(network, x_fresh), (fresh.expression, fresh.sentiment),
                    strict=True)  # fmt: skip
        return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]

    best = fusion.best_weights(val.expression, val.sentiment, val.mood)
    perfect = best.alpha * fresh.expression + best.beta * fresh.sentiment + best.intercept
    oracle = training.r_squared(perfect, fresh.mood)
    assert 0.75 < oracle < 0.83
    reached = score(model)
    assert oracle - 0.05 <= reached <= fusion.limit_of(fresh)
    f, g = training.readings(model, x_fresh)
    assert reached > training.r_squared((f + g) / 2, fresh.mood) + 0.02
    for name in NAMES:  # leakage, or a witness that is not used, would show here
        shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
        mixed = {**x_fresh, name: x_fresh[name][shuffled]}
        answer = training.predict(model, mixed) + intercept
        assert training.r_squared(answer, fresh.mood) < reached - 0.3

    rated = torch.stack([train_cards.mood - intercept, train_cards.expression,
                         train_cards.sentiment], 1)  # fmt: skip
    harmed, kept = copy.deepcopy(model), copy.deepcopy(model)
    last = {"epochs": 1, "learning_rate": 5e-4, "augment": augment, **recipe}
    training.fit(harmed, x, train_cards.mood - intercept, MSE, **last)
    training.fit(fusion.WithReadings(kept), x, rated, lambda v, y: 3 * MSE(v, y), **last)
    assert score(harmed) < score(kept) - 0.003
    assert score(kept) > reached - 0.005
    assert correlations(harmed)[0] < correlations(kept)[0] - 0.005

    torch.manual_seed(seed)
    readers = {
        "image": nn.Sequential(cnn.ImageEncoder(), nn.Linear(32, 1)),
        "message": nn.Sequential(
            rnn.TextEncoder(len(stored.load("message_reader")[1])), nn.Linear(32, 1)
        ),
    }
    together = fusion.MultimodalModel(readers, fusion.WeightedSum(NAMES, 1), nn.Identity())
    training.fit(together, x, train_cards.mood, MSE, epochs=4, learning_rate=6e-3, one_cycle=True,
                 augment=augment, **recipe)  # fmt: skip
    assert min(weight.item() for weight in together.fusion.parameters()) > 0.75, "they hardly move"
    c = training.fit_weights(together, x_val, val.mood).intercept
    assert score(together, c) < reached - 0.15
    seen = correlations(together)
    assert seen[0] > 0.85
    assert seen[1] < 0.6, "g is neglected"


@pytest.mark.slow
def test_fit_costs_little_over_a_bare_loop(cards):
    """`mbm-lab bench` asks for 0.97; beside other work, a third of that is enough."""
    inputs, mood = cards["train"][1]["message"][:640], cards["train"][0].mood[:640]
    fitted = cnn.Reader(rnn.TextEncoder(len(stored.load("message_reader")[1])))
    bare = copy.deepcopy(fitted)
    adam = torch.optim.Adam(bare.parameters(), lr=0.001)
    ours, theirs = [], []
    for _ in range(5):
        start = time.perf_counter()
        training.fit(fitted, inputs, mood, MSE, epochs=1, progress=False)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for index in torch.randperm(640).split(64):
            value = MSE(bare(inputs[index]), mood[index])
            adam.zero_grad()
            value.backward()
            adam.step()
        theirs.append(time.perf_counter() - start)
    assert sorted(theirs)[2] / sorted(ours)[2] > 0.97 / 3


# --- Gradient descent against random search


@pytest.mark.slow
def test_random_search_tuned_keeps_up_with_65_parameters_and_not_with_thousands(cards):
    """Lesson 05's race: the best of each method's step sizes."""
    pack, inputs = cards["train"]
    encoders = stored.load("image_reader")[0].encoder, stored.load("message_reader")[0].encoder
    parts = [training.predict(f, inputs[n]) for f, n in zip(encoders, NAMES, strict=True)]
    x, y = fusion.standardise(torch.cat(parts, 1)), pack.mood
    least = {}
    for width in (None, 64):
        for method, sizes in (("gradient", (0.005, 0.02)), ("random", (0.002, 0.005, 0.02))):
            found = []
            for size in sizes:
                torch.manual_seed(0)
                hidden = [nn.Linear(64, width), nn.ReLU()] if width else []
                last = nn.Linear(width or 64, 1)
                if not width:
                    nn.init.zeros_(last.weight)
                    nn.init.zeros_(last.bias)
                model = nn.Sequential(*hidden, last, nn.Flatten(0))
                found.append(training.least_loss(model, x, y, MSE, method, steps=200, size=size))
            least[method, width] = min(found)
    assert least["random", 64] > 2 * least["gradient", 64]
    assert least["random", None] < 1.3 * least["gradient", None]


def test_search_finds_less_with_slopes_and_keeps_the_best():
    torch.manual_seed(0)
    x, y = torch.randn(200, 30), torch.randn(200)
    least = {}
    for method in ("gradient", "random"):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(30, 1), nn.Flatten(0))
        start = MSE(model(x), y).item()
        least[method] = training.least_loss(model, x, y, MSE, method=method, steps=100)
        assert least[method] < start
        if method == "random":  # its weights are those of the best look
            assert MSE(model(x), y).item() == pytest.approx(least[method])
    assert least["gradient"] < least["random"]
    with pytest.raises(ValueError, match="Unknown method 'luck'"):
        training.least_loss(model, x, y, MSE, method="luck")
