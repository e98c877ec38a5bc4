"""Beyond one laptop: one model trained by several processes (lesson 11).

The first part averages gradients by hand, as the processes do; the second is the program that they
run, `torchrun --standalone --nproc-per-node 2 -m mbm_lab.scaling --epochs 3 --out DIR`; the third
starts it from a lesson. What a process knows of the others is in `workers`, files that are larger
than the memory are in `shards`, and what growth costs is in `costs`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from torch import Tensor, nn

from mbm_lab import (
    arguments,
    atomic,
    checkpoints,
    cnn,
    datasets,
    fusion,
    preprocessing,
    rnn,
    shards,
    stored,
    training,
    workers,
)
from mbm_lab.device import pick_device, seeded

# --- The same step by hand


def average_gradients(models: Sequence[nn.Module], counts: Sequence[int] | None = None) -> None:
    """All-reduce by hand: gives all copies of a model the mean of their gradients.

    counts: how many examples each copy has read, as many as there are copies. Each mean gradient
    then counts as often as there are examples behind it; without them all count alike.

    Raises ValueError when the models are no copies of one, or a count is missing or negative.
    """
    counts = [1] * len(models) if counts is None else list(counts)
    _check_copies(models, counts)
    for copies in zip(*(model.parameters() for model in models), strict=True):
        gradients = [one.grad for one in copies]
        if all(gradient is None for gradient in gradients):  # a frozen layer
            continue
        mean = sum(
            count / sum(counts) * gradient
            for count, gradient in zip(counts, gradients, strict=True)
            if gradient is not None
        )
        for one in copies:
            one.grad = mean.clone()


def _check_copies(models: Sequence[nn.Module], counts: list[int]) -> None:
    shapes = []
    for model in models:
        arguments.check_model(model)
        shapes.append([tuple(one.shape) for one in model.parameters()])
    if not shapes or any(one != shapes[0] for one in shapes):
        raise arguments.ArgumentError(
            f"average_gradients was given {len(shapes)} models, which are not copies of one: pass "
            "at least one, and make the others with copy.deepcopy."
        )
    if len(counts) != len(models) or any(count < 0 for count in counts) or sum(counts) <= 0:
        raise arguments.ArgumentError(
            f"counts is {counts} for {len(models)} models: give each the number of examples that "
            "it has read, 0 or more, and not 0 for all."
        )


def ring_all_reduce(values: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """The sum of n workers' numbers, given to all of them, in a ring (Patarasuk and Yuan, 2009):
    each worker talks to its neighbour only, and nobody has to read everything.

    values: one (K,) for each worker. Each is cut into n pieces. In n - 1 rounds every worker hands
    a piece to the next one, which adds its own; then every piece is complete somewhere, and goes
    round once more in n - 1 rounds. Returns what each worker holds at the end, and how many numbers
    each has sent: about 2 K (n - 1) / n, which hardly grows with the number of workers.

    Raises ValueError when there is no worker, or when their numbers differ in shape.
    """
    shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one) for one in values]
    if not shapes or any(one != shapes[0] for one in shapes) or len(values[0].shape) != 1:
        raise arguments.ArgumentError(
            f"ring_all_reduce needs one tensor (K,) for each worker, all equally long, and got "
            f"{shapes}: pass at least one, and flatten them first."
        )
    n = len(values)
    held = [list(one.clone().tensor_split(n)) for one in values]  # held[worker][piece]
    sent = 0
    for step in range(2 * (n - 1)):
        moving = [held[worker][(worker - step) % n].clone() for worker in range(n)]
        for worker in range(n):
            piece = (worker - step) % n
            after = held[(worker + 1) % n]
            after[piece] = after[piece] + moving[worker] if step < n - 1 else moving[worker]
        sent += len(moving[0])
    return [torch.cat(pieces) for pieces in held], sent


def largest_difference(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of two models' weights, number by number.

    Raises ValueError when they have not the same weights.
    """
    arguments.check_model(a)
    arguments.check_model(b)
    ours, theirs = a.state_dict(), b.state_dict()
    if {name: one.shape for name, one in ours.items()} != {
        name: one.shape for name, one in theirs.items()
    }:
        raise arguments.ArgumentError(
            f"The two models, {type(a).__name__} and {type(b).__name__}, do not have the same "
            "weights: pass copies of one model."
        )
    return max(
        (float((one.double().cpu() - theirs[name].double().cpu()).abs().max())
         for name, one in ours.items() if one.numel()),
        default=0.0,
    )  # fmt: skip


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes, through which gradients go: each process's numbers are in every
    process's sum, so their gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return workers.summed(values.clone())

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return workers.summed(gradient.clone())


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy, 2015) over the examples of all processes.

    `nn.BatchNorm2d` takes mean and variance over the examples that it sees, and each process sees
    its share alone. Here the processes add up what they need, so that n shares give what the whole
    batch gives. PyTorch's own `nn.SyncBatchNorm` does this on graphics cards, and on no CPU. (Where
    a batch has fewer examples than there are processes, one is seen, and counted, twice.)
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or workers.count() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        over = (0, 2, 3)
        n = workers.summed(x.new_tensor(x.numel() / x.shape[1]))
        mean = _SumOfAll.apply(x.sum(over)) / n  # (C,); gradients go through the sum, too
        centred = x - mean[:, None, None]
        variance = _SumOfAll.apply(centred.square().sum(over)) / n  # (C,)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


def synchronise(model: nn.Module) -> nn.Module:
    """The same model, in which every `nn.BatchNorm2d` has become a `SyncBatchNorm`; its weights and
    their names stay. Returns it. Raises ValueError when it is no model."""
    arguments.check_model(model)
    for part in model.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SyncBatchNorm
    return model


# --- The program that every process runs


def new_model(words: int, seed: int = 0, synchronised: bool = True) -> fusion.MultimodalModel:
    """Lesson 05's model, untrained: f reads the picture, g the message, α and β weigh the two.

    words: how many words the vocabulary has. synchronised: batch normalisation over the examples of
    all processes (see `SyncBatchNorm`). The biases before batch normalisation are frozen: it takes
    them away again, so their gradient is rounding and nothing else, of which Adam makes steps as
    long as any. Raises ValueError for a number that cannot be right.
    """
    arguments.check_count("words", words, 1, 300)
    arguments.check_seed(seed)
    with seeded(seed):
        readers = {
            "image": nn.Sequential(cnn.ImageEncoder(), nn.Linear(32, 1)),
            "message": nn.Sequential(rnn.TextEncoder(words), nn.Linear(32, 1)),
        }
        weighted_sum = fusion.WeightedSum(("image", "message"), 1)
        model = fusion.MultimodalModel(readers, weighted_sum, nn.Identity())
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias.requires_grad_(False)
    return synchronise(model) if synchronised else model


def cards_in_memory(
    cards: int, vocabulary: preprocessing.Vocabulary
) -> tuple[dict[str, Tensor], Tensor]:
    """The first training cards as lesson 05's model reads them, {"image": (N, 3, 64, 64),
    "message": (N, T)}, and their moods (N,). Raises ValueError when there are not so many."""
    known = datasets.load_postcards("train")
    arguments.check_count("--cards", cards, 2, 512)
    if cards > len(known):
        raise ValueError(
            f"--cards is {cards}, and {len(known)} cards are there to train on: ask for fewer, or "
            "write more with `mbm-lab postcards --shards DIR --cards N` and pass --shards DIR."
        )
    known = known[:cards]
    tokens = preprocessing.text_to_tensor(known.messages, vocabulary)
    return {"image": known.images, "message": tokens}, known.mood


RESULT = ("model.safetensors", "history.json")


def train(options: argparse.Namespace) -> None:
    """What each process does: the same as the others, but for its share of every batch."""
    workers.join(pick_device())
    out = options.out
    resume = workers.first_does(lambda: _ready(out))
    vocabulary = stored.load("message_reader")[1]
    model = new_model(len(vocabulary), options.seed, not options.own_batch_norm)
    if options.shards is not None:
        if options.double:
            raise ValueError("--double goes with cards in memory: leave out --shards, or --double.")
        data: tuple = (shards.loader(options.shards, vocabulary, batch_size=options.batch_size),)
    else:
        x, m = cards_in_memory(options.cards, vocabulary)
        if options.double:
            x["image"], m, model = x["image"].double(), m.double(), model.double()
        data = (x, m)
    history = training.fit(
        model, *data, loss=nn.functional.mse_loss, epochs=options.epochs,
        batch_size=options.batch_size, learning_rate=options.learning_rate, seed=options.seed,
        checkpoint=out / "checkpoint", resume=resume, progress=sys.stderr.isatty(),
    )  # fmt: skip
    workers.first_does(lambda: _write(model, history, out))


def _ready(out: Path) -> bool:
    """Whether a run is there to go on with. Removes what a kill has left half-written.

    Raises FileExistsError when results are there that no run has a checkpoint of.
    """
    atomic.make_folder(out)
    begun = (out / "checkpoint" / checkpoints.STATE).is_file()
    for name in RESULT:
        if not begun and atomic.is_there(out / name):
            raise FileExistsError(
                f"{out / name} is there, and no checkpoint of its run: name another folder with "
                "--out, or move the file away."
            )
    for path in out.iterdir():
        if re.fullmatch(rf"({'|'.join(map(re.escape, RESULT))})\.\d+\.part", path.name):
            with contextlib.suppress(OSError):
                path.unlink()
    return begun


def _write(model: nn.Module, history: checkpoints.History, out: Path) -> None:
    stored.save_weights(model, out / RESULT[0])
    said = {"processes": workers.count(), "seconds": history.seconds, "loss": history.train_loss}
    atomic.write_whole(
        out / RESULT[1], lambda part: part.write_text(json.dumps(said) + "\n", encoding="utf-8")
    )
    many = "1 process" if workers.count() == 1 else f"{workers.count()} processes"
    loss = f"loss {history.train_loss[-1]:.4f}, " if history.train_loss else ""
    print(f"{many}, {len(history.train_loss)} epochs: {loss}{history.seconds:.1f} s", flush=True)


def _talk(numbers: Sequence[int], rounds: int = 5) -> None:
    """Prints, as process 0, the seconds that one all-reduce takes: the fastest of some."""
    device = pick_device()
    workers.join(device)
    taken = []
    for many in numbers:
        values = torch.ones(many, device=device)
        times = []
        for _ in range(rounds):
            workers.summed(torch.ones(1, device=device)).item()  # all begin together
            start = time.perf_counter()
            workers.summed(values)
            values[:1].item()  # on a graphics card: wait until it is done
            times.append(time.perf_counter() - start)
        taken.append(min(times))
    if workers.rank() == 0:
        print(json.dumps(taken), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mbm_lab.scaling",
        description="Trains lesson 05's model; under torchrun with several processes. Ended at any "
        "moment, it goes on from its last epoch when called again.",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="weights, history, checkpoint")
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--cards", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--shards", metavar="DIR", help="read the cards from these shards instead")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="of all processes together (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument(
        "--own-batch-norm", action="store_true",
        help="each process normalises its own share of a batch, as nn.BatchNorm2d does",
    )  # fmt: skip
    parser.add_argument(
        "--all-reduce", type=int, nargs="+", metavar="K",
        help="train nothing: print the seconds that K numbers take from process to process",
    )  # fmt: skip
    return parser


def main(words: list[str] | None = None) -> int:
    """Runs the program; returns the exit status: 0 well, 2 an error, which is said in a line."""
    parser = _parser()
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        if options.all_reduce is not None:
            for many in options.all_reduce:
                arguments.check_count("--all-reduce", many, 1, 1000)
            _talk(options.all_reduce)
        elif options.out is None:
            raise ValueError("Nothing says where the weights go: pass --out DIR.")
        else:
            train(options)
    except (ValueError, OSError, workers.Parted) as error:
        print(f"mbm_lab.scaling, process {workers.rank()}: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


# --- Starting it from a lesson


class Run(NamedTuple):
    """A run of several processes that has ended well."""

    seconds: float  # of training, as process 0 counts them
    wall: float  # of everything: starting Python, PyTorch and the processes, too
    said: str  # what process 0 said
    killed: int  # how many processes were killed on the way


def torchrun(
    processes: int, out: str | Path, *words: str, kill_after: int | None = None, restarts: int = 3
) -> Run:
    """Starts `torchrun … -m mbm_lab.scaling --out OUT WORDS` and waits for its end.

    kill_after: as soon as the checkpoint of this epoch is there, the last process is killed, once;
    torchrun then starts all of them again.

    Raises ValueError for a number that cannot be right, RuntimeError with what was said when the
    run does not end well.
    """
    arguments.check_count("processes", processes, 1, 2)
    arguments.check_count("restarts", restarts, 0, 3)
    if kill_after is not None:
        arguments.check_count("kill_after", kill_after, 1, 1)
    out, killed, start = Path(out), 0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaints:
        running = subprocess.Popen(
            [*_command(processes, restarts), "--out", str(out), *words],
            stdout=said, stderr=complaints, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            while running.poll() is None:
                if kill_after is not None and not killed and _epochs(out) >= kill_after:
                    killed = int(_kill_last(running.pid))
                time.sleep(0.02)
        finally:
            _end(running)
        said.seek(0)
        complaints.seek(0)
        lines, why = said.read().strip(), complaints.read()
    if running.returncode != 0:
        found = re.search(r"mbm_lab\.scaling, process \d+: (.+)", why)
        last = found[1] if found else (why.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(
            f"The run of {processes} processes ended with {running.returncode}, and said: {last} "
            "Mend that and call again."
        )
    history = json.loads((out / RESULT[1]).read_text(encoding="utf-8"))
    return Run(history["seconds"], time.perf_counter() - start, lines, killed)


def _command(processes: int, restarts: int = 0) -> list[str]:
    """torchrun is `python -m torch.distributed.run`: so it is found without any PATH."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(processes), "--max-restarts", str(restarts),
        "-m", "mbm_lab.scaling",
    ]  # fmt: skip


def _epochs(out: Path) -> int:
    """How many epochs the checkpoint holds by now."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (out / "checkpoint").iterdir()]
        found = [checkpoints.OF_A_RUN.fullmatch(name) for name in names]
        return max((int(one[2]) for one in found if one), default=0)
    return 0


def _kill_last(torchrun: int) -> bool:
    """Kills, as an empty battery would, the last process that torchrun has started."""
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(torchrun).children()
        if started:
            max(started, key=lambda one: one.pid).kill()
            return True
    return False


def _end(running: subprocess.Popen) -> None:
    """Ends torchrun and what it has started, if they still run: after Ctrl+C."""
    if running.poll() is not None:
        return
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(running.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
    running.kill()
    running.wait()


def communication(numbers: Sequence[int], processes: int = 2) -> list[float]:
    """The seconds that one all-reduce of so many float32 takes: the fastest of five, each.

    Raises ValueError for numbers that cannot be right, RuntimeError when the run fails.
    """
    for many in numbers:
        arguments.check_count("numbers", many, 1, 1000)
    arguments.check_count("processes", processes, 1, 2)
    words = ["--all-reduce", *map(str, numbers)]
    done = subprocess.run(
        [*_command(processes), *words], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(
            f"The {processes} processes could not talk: {done.stderr.strip()[-300:]}. Look at the "
            "last line of that."
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
