"""One model, several processes: by hand, and for real."""

import argparse
import copy
import json
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mbm_lab import scaling, shards, stored, workers
from tests import torn

MSE = nn.functional.mse_loss
WORDS = ("--cards", "200", "--epochs", "3", "--batch-size", "64")


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()


# --- By hand


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_the_mean_of_the_gradients_is_the_gradient_of_all(counts, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(counts), 4, generator=generator, dtype=torch.float64)
    y = torch.randn(sum(counts), generator=generator, dtype=torch.float64)
    whole, copies = net(), [net() for _ in counts]
    MSE(whole(x), y).backward()
    for model, a, b in zip(copies, x.split(counts), y.split(counts), strict=True):
        MSE(model(a), b).backward()
    scaling.average_gradients(copies, counts)
    for model in copies:
        for ours, all_of_it in zip(model.parameters(), whole.parameters(), strict=True):
            assert torch.allclose(ours.grad, all_of_it.grad, rtol=0, atol=1e-13)
    grads = [next(model.parameters()).grad for model in copies]
    assert len({one.data_ptr() for one in grads}) == len(grads)  # each has its own


def test_without_counts_all_count_alike():
    a, b = net(), net()
    for model, value in ((a, 1.0), (b, 4.0)):
        for one in model.parameters():
            one.grad = torch.full_like(one, value)
    scaling.average_gradients([a, b])
    assert all((one.grad == 2.5).all() for one in (*a.parameters(), *b.parameters()))


def test_frozen_layers_have_no_gradient_to_average():
    a, b = net(), net()
    for model in (a, b):
        model[0].requires_grad_(False)
        model(torch.ones(2, 4).double()).sum().backward()
    scaling.average_gradients([a, b])
    assert a[0].weight.grad is None
    assert a[2].weight.grad is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 20), st.integers(0, 9))
def test_the_ring_adds_up(workers_, length, seed):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randint(-9, 9, (length,), generator=generator) for _ in range(workers_)]
    kept = [one.clone() for one in values]
    held, sent = scaling.ring_all_reduce(values)
    assert all(torch.equal(one, sum(kept)) for one in held)
    assert all(torch.equal(a, b) for a, b in zip(values, kept, strict=True))
    most = 2 * (workers_ - 1) * -(-length // workers_)  # each round at most the largest piece
    assert 2 * (workers_ - 1) * (length // workers_) <= sent <= most


def test_the_largest_difference_is_found_wherever_it_is():
    a = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    b = copy.deepcopy(a)
    assert scaling.largest_difference(a, b) == 0
    b[1].running_var[2] += 0.25
    assert scaling.largest_difference(a, b) == pytest.approx(0.25)
    assert scaling.largest_difference(a.double(), b) == pytest.approx(0.25)


def test_alone_synchronised_batch_normalisation_is_as_pytorchs():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    ours = scaling.synchronise(copy.deepcopy(model))
    assert isinstance(ours[1], scaling.SyncBatchNorm)
    assert list(ours.state_dict()) == list(model.state_dict())
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), ours(x))
    assert scaling.largest_difference(model, ours) == 0


def test_by_hand_it_normalises_as_pytorch_does(monkeypatch):
    """With two processes of which the other one sees the same: mean and variance do not change."""
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs, ours = nn.BatchNorm2d(3).double(), scaling.SyncBatchNorm(3).double()
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "summed", lambda values: values.mul_(2))
    assert torch.allclose(ours(x), theirs(x), rtol=0, atol=1e-12)
    assert torch.allclose(ours.running_mean, theirs.running_mean)
    n = x.numel() / 3
    variance = theirs.running_var - 0.9  # 0.1 of n / (n - 1) of it
    twice = variance * (n - 1) / n * 2 * n / (2 * n - 1)
    assert torch.allclose(ours.running_var, 0.9 + twice)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: scaling.average_gradients([]), "0 models"),
        (lambda: scaling.average_gradients([net(), nn.Linear(4, 8)]), "copies"),
        (lambda: scaling.average_gradients([net(), net()], [1]), r"counts is \[1\]"),
        (lambda: scaling.average_gradients([net(), net()], [0, 0]), r"\[0, 0\]"),
        (lambda: scaling.average_gradients([net(), net()], [-1, 3]), r"\[-1, 3\]"),
        (lambda: scaling.ring_all_reduce([]), r"got \[\]"),
        (lambda: scaling.ring_all_reduce([torch.ones(2), torch.ones(3)]), "equally long"),
        (lambda: scaling.largest_difference(net(), nn.Linear(4, 8)), "same weights"),
        (lambda: scaling.new_model(0), "words"),
        (lambda: scaling.torchrun(0, "x"), "processes"),
        (lambda: scaling.torchrun(2, "x", kill_after=0), "kill_after"),
        (lambda: scaling.communication([0]), "numbers"),
    ],
)
def test_what_cannot_be_right_is_said_in_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- The program, alone


def loaded(out, double=False):
    model = scaling.new_model(len(stored.load("message_reader")[1]), seed=9)
    return stored.load_weights(model.double() if double else model, out / "model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of one process, in doubles."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert scaling.main(["--out", str(out), "--double", *WORDS]) == 0
    return out


@pytest.mark.slow
def test_a_run_says_what_it_did_and_goes_on(alone, capsys):
    said = json.loads((alone / "history.json").read_text())
    assert said["processes"] == 1
    assert len(said["loss"]) == 3
    assert said["loss"][2] < said["loss"][0]
    before = (alone / "model.safetensors").read_bytes()
    half = alone.parent / "model.safetensors.123.part"
    (alone / half.name).write_bytes(b"half-written")
    assert scaling.main(["--out", str(alone), "--double", *WORDS]) == 0
    assert re.fullmatch(r"1 process, 3 epochs: loss 0\.\d{4}, \d+\.\d s\n", capsys.readouterr().out)
    assert (alone / "model.safetensors").read_bytes() == before
    assert not (alone / half.name).exists()


def test_the_biases_that_batch_normalisation_takes_away_are_frozen():
    model = scaling.new_model(30)
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert frozen == {f"encoders.image.0.convolutions.{k}.bias" for k in (0, 4, 8)}
    own = scaling.new_model(30, synchronised=False)
    assert not any(isinstance(part, scaling.SyncBatchNorm) for part in own.modules())
    assert scaling.largest_difference(model, own) == 0
    assert scaling.largest_difference(model, scaling.new_model(30, seed=1)) > 0.01


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "pass --out"),
        (["--out", "OUT", "--cards", "1"], "--cards"),
        (["--out", "OUT", "--cards", "9999"], "9999.*2000 cards"),
        (["--out", "OUT", "--cards", "8", "--epochs", "-1"], "epochs"),
        (["--out", "OUT", "--cards", "8", "--learning-rate", "0"], "learning_rate"),
        (["--out", "FILE"], "file.*choose another place"),
        (["--out", "OUT", "--shards", "NONE"], "none"),
        (["--out", "OUT", "--shards", "SHARDS", "--double"], "--double"),
        (["--all-reduce", "0"], "--all-reduce"),
    ],
)
def test_the_program_says_in_a_line_what_it_cannot_do(words, says, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    places = {"OUT": "out", "FILE": "file", "NONE": "none", "SHARDS": "shards"}
    if "SHARDS" in words:
        shards.write(tmp_path / "shards", 4, progress=False)
    words = [str(tmp_path / places[word]) if word in places else word for word in words]
    capsys.readouterr()
    assert scaling.main(words) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"mbm_lab\.scaling, process 0: [^\n]*{says}[^\n]*\n", said, re.S), said
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["--own-batch-norm"]])
def test_batch_normalisation_is_of_all_or_of_each(words, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(scaling.training, "fit", lambda model, *_, **__: seen.append(model))
    monkeypatch.setattr(scaling, "_write", lambda *_: None)
    assert scaling.main(["--out", str(tmp_path), "--cards", "8", *words]) == 0
    norms = {type(part) for part in seen[0].modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms == {nn.BatchNorm2d if words else scaling.SyncBatchNorm}


def test_nothing_of_others_is_overwritten(tmp_path, capsys):
    mine = tmp_path / "model.safetensors"
    mine.write_bytes(b"mine")
    assert scaling.main(["--out", str(tmp_path), *WORDS]) == 2
    assert "model.safetensors is there" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"


def test_it_reads_shards(tmp_path):
    shards.write(tmp_path / "shards", 40, cards_per_shard=20, progress=False)
    words = ["--out", str(tmp_path / "out"), "--shards", str(tmp_path / "shards"), "--epochs", "1"]
    assert scaling.main(words) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- The program, for real


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(alone, tmp_path):
    run = scaling.torchrun(2, tmp_path, "--double", *WORDS)
    assert run.said.startswith("2 processes, 3 epochs: loss 0.")
    assert run.killed == 0
    assert 0 < run.seconds < run.wall
    assert scaling.largest_difference(loaded(alone, True), loaded(tmp_path, True)) <= 1e-10
    losses = [json.loads((out / "history.json").read_text())["loss"] for out in (alone, tmp_path)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)


@pytest.mark.slow
def test_a_worker_dies_and_the_run_ends_as_if_nobody_had(tmp_path):
    """At a random moment; `python -m tests.torn 20` has more, and lesson 11 one after an epoch."""
    whole = scaling.torchrun(2, tmp_path / "whole", *torn.WORDS)
    wanted = torn.files(tmp_path / "whole")
    assert not re.search(rb"\.part|epoch_000[123]", wanted["names"])
    rng = random.Random()
    after = rng.uniform(0, 0.7 * whole.wall)
    with torn.one_killed(after, rng) as killed:
        scaling.torchrun(2, tmp_path / "torn", *torn.WORDS)
    assert torn.files(tmp_path / "torn") == wanted, f"killed after {after:.2f} s"
    assert len(killed) == 1


@pytest.mark.slow
def test_a_run_that_cannot_be_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 1, and said: --cards is 1: ") as error:
        scaling.torchrun(2, tmp_path, "--cards", "1", restarts=0)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_processes_talk():
    few, many = scaling.communication([10, 2_000_000])
    assert 0 < few < many < 5


def test_options_have_the_defaults_of_the_lesson():
    options = scaling._parser().parse_args([])
    assert isinstance(options, argparse.Namespace)
    assert (options.epochs, options.cards, options.batch_size, options.seed) == (3, 2000, 64, 0)
