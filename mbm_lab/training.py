"""Training a model, any model: one readable loop (lesson 05). Its checkpoints: `checkpoints`."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mbm_lab import arguments, fusion, identity, workers
from mbm_lab.checkpoints import Checkpoint, History
from mbm_lab.device import device_of, lent, seeded
from mbm_lab.spoilt import LastGood

Inputs = Tensor | dict[str, Tensor]
"""What a model reads: a tensor, or one for each modality; the first dimension counts examples."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(output, target): one number."""

Batch = tuple[Inputs, Tensor]
"""Inputs and targets of some examples."""


def r_squared(prediction: Tensor, target: Tensor) -> float:
    """R²: the share of the target's variance that the prediction explains. Lessons 02 to 05.

    R² = 1 - Σ(target - prediction)² / Σ(target - mean)²: 1 is perfect, 0 is the mean, and worse
    than the mean is below 0. The two may be on different devices.

    Raises ValueError when the two tensors differ in shape, hold no number or NaN, and when all
    targets are equal, so that there is nothing to explain.
    """
    arguments.check_one_shape("r_squared", prediction=prediction, target=target)
    arguments.check_finite("r_squared: the predictions", prediction)
    arguments.check_finite("r_squared: the targets", target)
    arguments.check_varied("r_squared", target)
    prediction = prediction.to(target.device)
    residual = (target - prediction).square().sum()
    return float(1 - residual / (target - target.mean()).square().sum())


# --- Inputs of one modality or several


def take(inputs: Inputs, index: Tensor) -> Inputs:
    """The examples at `index`, whether the inputs are one tensor or one a modality."""
    if isinstance(inputs, dict):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs, one tensor or one a modality, on this device."""
    if isinstance(inputs, dict):
        return arguments.Modalities({n: values.to(device) for n, values in inputs.items()})
    return inputs.to(device)


def _first(inputs: Inputs) -> Tensor:
    return next(iter(inputs.values())) if isinstance(inputs, dict) else inputs


# --- Modes


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode, without gradients, for as long as the block lasts; afterwards
    each of its parts is in the mode (training or not) that it was in. Lesson 02."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def train_mode(model: nn.Module) -> None:
    """Training mode for all that can learn.

    A part whose parameters are all frozen (requires_grad=False) goes into evaluation mode, so that
    the running statistics of its batch normalisation stay as they are, and its dropout is off.
    """
    model.train()
    for part in model.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def predict(
    model: nn.Module, inputs: Inputs, batch_size: int = 256, device: torch.device | None = None
) -> Tensor:
    """The model's outputs for all inputs, in evaluation mode and without gradients: (N, …), where
    the inputs are. Lessons 02 to 05.

    device: where to compute, `pick_device()` unless you say else. The model is lent there, batch by
    batch the inputs are brought, and afterwards everything is where and as it was.
    Raises ValueError when there is no example, when the inputs hold NaN, and when the model cannot
    read them.
    """
    arguments.check_model(model)
    arguments.check_inputs(inputs)
    arguments.check_all_finite(inputs)
    arguments.check_count("batch_size", batch_size, 1, 256)
    first, outputs = _first(inputs), []
    with lent(model, device) as there, evaluating(model):
        for index in torch.arange(len(first)).split(batch_size):
            x = to_device(take(inputs, index), there)
            with arguments.explained(model, x):
                output = model(x)
            arguments.check_output(output)
            outputs.append(output.to(first.device))
    return torch.cat(outputs)


# --- The loop


@arguments.unharmed
def one_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
) -> float:
    """Learns from every batch once, where the model is; returns the mean loss over the examples.

    schedule: changes the learning rate after each step. clip_norm: gradients that are together
    longer than this are shortened to it (Pascanu, Mikolov and Bengio, 2013). accumulate, autocast:
    see `fit`. Raises ValueError when there is no batch, and when model, loss and batch do not fit
    together (see `arguments`).
    """
    arguments.check_step(model, loss, optimizer, clip_norm)
    arguments.check_growth(accumulate, autocast)
    alone = workers.inside(model) is model
    shares = workers.shares(arguments.pairs(batches), divided=alone or workers.divides(batches))
    scaler = _scaler(autocast, device_of(model))
    return _learn(model, shares, loss, optimizer, schedule, clip_norm, accumulate, autocast, scaler)


def _learn(
    model: nn.Module,
    shares: Iterable[workers.Share],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    clip_norm: float | None,
    accumulate: int,
    autocast: torch.dtype | None,
    scaler: torch.amp.GradScaler | None,
) -> float:
    """One epoch, of the shares that this process reads (all of each batch, if it is alone)."""
    here, itself = device_of(model), workers.inside(model)
    total, count, processes = 0.0, 0, workers.count()
    loss = arguments.watched(loss)
    while group := list(itertools.islice(shares, accumulate)):
        whole = sum(share.whole for share in group)
        optimizer.zero_grad()
        for share in group:
            x, y = to_device(share.inputs, here), share.targets.to(here)
            # Several processes talk once a step: after the last backward pass.
            quiet = model.no_sync() if model is not itself and share is not group[-1] else _AS_IS
            with quiet, arguments.explained(itself, x, y):
                with torch.autocast(here.type, autocast) if autocast is not None else _AS_IS:
                    value = loss(model(x), y)
                weight = processes * share.counted / whole  # see workers.Share
                scaled = value if scaler is None else scaler.scale(value)
                (scaled if weight == 1 else scaled * weight).backward()
            total += value.detach() * share.counted
            count += share.counted
        if scaler is not None:
            scaler.unscale_(optimizer)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(itself.parameters(), clip_norm)
        stepped = _step(optimizer, scaler)
        if schedule is not None and stepped:
            schedule.step()
    if model is not itself:
        both = torch.tensor([float(total), count], dtype=torch.float64, device=here)
        total, count = workers.summed(both).tolist()
    if count == 0:
        raise arguments.ArgumentError(
            "There is nothing to train on: no batch came. Pass at least one."
        )
    return float(total) / count


_AS_IS = contextlib.nullcontext()


def _scaler(autocast: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps the small gradients of float16 from becoming 0 (Micikevicius et al., 2018)."""
    return torch.amp.GradScaler(device.type) if autocast == torch.float16 else None


def _step(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> bool:
    """A step of the optimizer; of float16 only where no gradient is inf or NaN. Whether it was
    taken."""
    if scaler is None:
        optimizer.step()
        return True
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= before


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """How many of `count` examples each batch takes.

    A single example that is left over joins the batch before it: one alone has no variance, and
    batch normalisation could not use it.
    """
    sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    if len(sizes) > 1 and sizes[-1] == 1 < batch_size:
        sizes[-2:] = [batch_size + 1]
    return sizes


def shuffled(
    inputs: Inputs,
    targets: Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[Batch]:
    """All examples once, in random order, `batch_size` at a time (see `batch_sizes`)."""
    order = torch.randperm(len(targets), generator=generator)
    for index in order.split(batch_sizes(len(targets), batch_size)):
        yield take(inputs, index), targets[index]


@arguments.unharmed
def fit(
    model: nn.Module,
    inputs: Inputs | DataLoader,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    *,
    val: Batch | DataLoader | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    one_cycle: bool = False,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    clip_norm: float | None = None,
    augment: Callable[[Inputs, torch.Generator], Inputs] | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
) -> History:
    """Trains a model by mini-batch gradient descent and returns what happened.

    inputs: one tensor, or one a modality, (N, …); targets: (N, …); loss(output, target): a number.
    Or inputs is a `DataLoader` that gives pairs (inputs, targets): fit(model, loader, loss=…); its
    own batches are then taken, in its own order.
    val: inputs and targets, or a DataLoader, on which the loss is measured after each epoch.
    one_cycle: the learning rate climbs to `learning_rate` and falls back (Smith, 2018), instead
        of being constant.
    optimizer: called with the parameters and lr; Adam (Kingma and Ba, 2015) unless you say else.
    clip_norm: see `one_epoch`.
    augment: changes a batch's inputs before the model sees them. It is called once a batch: what
        it draws once (as `preprocessing.augment` does its move) is the same for all its examples.
    patience: stop after so many epochs without a better validation loss; the model gets the best
        epoch's weights back (Prechelt, 1998).
    checkpoint: a folder that receives the whole state after each epoch. With resume=True training
        goes on from there, if everything that decides the bits is what it was: data, model, loss,
        optimizer and options. (More epochs without one_cycle, and another patience, are allowed.)
        On a CPU it ends with the same bits as if it had never stopped, and the same seed gives the
        same bits again; on a GPU sums may differ in their last digit. Before the first epoch and
        after it, model and loss are also tried on two examples, which changes nothing.
    device: where to compute, `pick_device()` unless you say else. Model and data are where they
        were afterwards.
    seed: decides the order of the examples, and every other draw (dropout, augmentation). The
        random state of the caller is left as it was.
    accumulate: so many batches make one step, with the gradient of all their examples: as a batch
        so many times larger, with the memory of one (but for batch normalisation, which sees each
        batch alone).
    autocast: torch.bfloat16 or torch.float16: layers that gain from it compute in half the bits
        (Micikevicius et al., 2018); weights, optimizer and validation keep all. For float16 the
        loss is scaled up, so that small gradients do not become 0.

    Under torchrun (lesson 11) the same call trains one model with all processes. Each reads its
    share of every batch, and all take the same step, that of the whole batch, where the loss is a
    mean over examples that do not look at each other: batch normalisation sees each share alone
    (see `scaling.SyncBatchNorm`). A run of two processes resumes to the bit; three or more may add
    in another order, and differ in the last digit. Process 0 writes the checkpoint, into a folder
    that all can read, and shows the progress. batch_size counts the examples of all processes.

    Parts whose parameters are all frozen stay in evaluation mode (see `train_mode`); afterwards,
    and after an interruption, the whole model is in evaluation mode.

    Raises ValueError when something that is given cannot be right or does not fit together, which
    `arguments` says in a sentence and leaves the model as it was; when the weights are NaN from the
    start; when the loss, the validation loss or a weight is no longer a finite number (the model
    then has the weights of the last good epoch back); and when the checkpoint is damaged or of
    another model or run. FileExistsError when the folder already holds a checkpoint and resume is
    False, or files of someone else have the names that are needed; FileNotFoundError when there is
    none to resume; OSError when it cannot be read or written.
    """
    arguments.check_learner(model)
    arguments.check_options(epochs, batch_size, learning_rate, clip_norm, patience, seed)
    arguments.check_optimizer(optimizer)
    arguments.check_others(one_cycle, resume, progress, augment, checkpoint)
    arguments.check_growth(accumulate, autocast)
    _check_data(inputs, targets, loss, val)
    epochs, batch_size, seed = int(epochs), int(batch_size), int(seed)  # NumPy's numbers, too
    learning_rate, accumulate = float(learning_rate), int(accumulate)
    if patience is not None and val is None:
        raise ValueError(
            "Early stopping needs validation data: pass val=(inputs, targets) along with patience."
        )
    if resume and checkpoint is None:
        raise ValueError("To resume, say from where: pass checkpoint=FOLDER with resume=True.")
    with lent(model, device) as there, seeded(seed), workers.together():
        workers.join(there)
        generator = torch.Generator().manual_seed(seed)
        if isinstance(inputs, DataLoader):
            count, batches = None, _number_of_batches(inputs, one_cycle)
        else:
            inputs, targets = to_device(inputs, there), targets.to(there)
            count, batches = len(targets), len(batch_sizes(len(targets), batch_size))
        steps = math.ceil(batches / accumulate) * epochs
        optimizer = optimizer(model.parameters(), lr=learning_rate)
        if checkpoint is not None:
            recipe = {"cards": count, "batch_size": batch_size, "learning_rate": learning_rate,
                      "seed": seed, "steps": steps if one_cycle else None,
                      "clip_norm": clip_norm, "augment": identity.named(augment)}  # fmt: skip
            recipe |= identity.of_growth(workers.count(), accumulate, autocast)
            recipe |= identity.of_run(model, optimizer, loss, inputs, targets, val)
        schedule, scaler = None, _scaler(autocast, there)
        if one_cycle and steps > 0:
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
        history, best, files, numbers = History(), None, None, workers.Numbers(seed)
        if checkpoint is not None:
            files = Checkpoint(
                Path(checkpoint).expanduser(), recipe, model, optimizer, schedule, scaler,
                generator, numbers, loss,
                tuple(data for data in (inputs, val) if isinstance(data, DataLoader)),
            )  # fmt: skip
            if resume:
                history, best = files.load(epochs)
        good = LastGood(model, len(history.train_loss))
        if files is not None and not resume:
            as_it_is = targets is not None and augment is None
            files.begin((inputs, targets) if as_it_is else None)
        learner = workers.spread(model)
        start = time.perf_counter() - history.seconds
        epochs_left = range(len(history.train_loss), epochs)
        silent = not progress or workers.rank() > 0
        bar = tqdm(epochs_left, "epochs", disable=silent, leave=False)
        try:
            train_mode(model)
            for epoch in bar:
                if patience is not None and epoch - history.best_epoch > patience:
                    break
                batches = (
                    arguments.pairs(_of_epoch(inputs, epoch))
                    if isinstance(inputs, DataLoader)
                    else shuffled(inputs, targets, batch_size, generator)
                )
                if augment is not None:
                    batches = arguments.augmented(augment, batches, generator)
                if files is not None:
                    batches = files.watched(batches)
                shares = workers.shares(numbers.drawn_alike(batches), workers.divides(inputs))
                mean = _learn(
                    learner, shares, loss, optimizer, schedule, clip_norm, accumulate, autocast,
                    scaler,
                )  # fmt: skip
                workers.same_buffers(model)
                if not math.isfinite(mean):
                    arguments.find_no_number(inputs)
                good.check_loss(mean, learning_rate)
                history.train_loss.append(mean)
                if val is not None:
                    value = workers.first_does(lambda: _mean_loss(model, val, loss, there))
                    good.check_validation(value, mean)
                    history.val_loss.append(value)
                good.keep(epoch + 1)
                if val is not None and value <= min(history.val_loss):
                    history.best_epoch, best = epoch, good.weights
                bar.set_postfix(loss=f"{mean:.4f}")
                history.seconds = time.perf_counter() - start
                if files is not None:
                    files.save(history, best, good.weights)
            if patience is not None and best is not None:
                model.load_state_dict(best)
        except arguments.ArgumentError as error:
            if good.epoch > epochs_left.start:  # what it has learned is not given up
                raise good.given_up(error) from error
            raise
        finally:
            bar.close()
            model.eval()
    return history


def _of_epoch(loader: DataLoader, epoch: int) -> DataLoader:
    """A loader whose sampler deals the examples out to processes must be told the epoch."""
    if workers.divides(loader):
        loader.sampler.set_epoch(epoch)
    return loader


def _check_data(
    inputs: Inputs | DataLoader,
    targets: Tensor | None,
    loss: Loss | None,
    val: Batch | DataLoader | None,
) -> None:
    arguments.check_loss(loss)
    if isinstance(inputs, DataLoader):
        if targets is not None:
            raise ValueError(
                "A DataLoader brings its own targets: leave `targets` out, fit(model, loader, "
                "loss=…)."
            )
    elif targets is None:
        arguments.check_no_dataset(inputs)
        raise ValueError("Pass the targets along with the inputs: fit(model, inputs, targets, …).")
    else:
        arguments.check_examples(inputs, targets)
    if val is not None and not isinstance(val, DataLoader):
        arguments.check_pair(val, "val")
        arguments.check_examples(*val, what="validation ")


def _number_of_batches(loader: DataLoader, needed: bool) -> int:
    """How many batches a DataLoader gives; 0 when it does not know, which is an error if needed."""
    try:
        return len(loader)
    except TypeError:
        if needed:
            raise ValueError(
                "one_cycle needs to know how many batches there are, and this DataLoader's data "
                "set has no length: give it one, or leave one_cycle out."
            ) from None
        return 0


def _mean_loss(
    model: nn.Module, val: Batch | DataLoader, loss: Loss, device: torch.device
) -> float:
    """The loss on validation data; of a DataLoader, the mean over its batches, by their size."""
    if not isinstance(val, DataLoader):
        inputs, targets = val
        output = predict(model, inputs, device=device)
        with torch.no_grad():
            value = float(arguments.watched(loss)(output, targets.to(output.device)))
        if not math.isfinite(value):
            arguments.check_all_finite(inputs, targets, "validation ")
        return value
    total, count = 0.0, 0
    for x, y in arguments.pairs(val):
        total += _mean_loss(model, (x, y), loss, device) * len(y)
        count += len(y)
    if count == 0:
        raise arguments.ArgumentError("The validation DataLoader gives no batch: pass examples.")
    return total / count


# --- Gradient descent against random search


@arguments.unharmed
def least_loss(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    method: str = "gradient",
    steps: int = 200,
    size: float = 0.02,
    seed: int = 0,
) -> float:
    """The least loss on all cards that a method finds in so many looks at the model.

    method: "gradient" takes steps of Adam; "random" takes a random step of standard deviation
    `size` in all parameters and keeps it if the loss falls (Rastrigin, 1963). Computed where the
    model is, which keeps the weights that were found. Raises ValueError otherwise.
    """
    if method not in ("gradient", "random"):
        raise ValueError(f'Unknown method {method!r}: use "gradient" or "random".')
    arguments.check_learner(model)
    arguments.check_loss(loss)
    arguments.check_examples(inputs, targets)
    arguments.check_count("steps", steps, 1, 200)
    arguments.check_positive("size", size, 0.02)
    arguments.check_seed(seed)
    loss = arguments.watched(loss)
    here = device_of(model)
    inputs, targets = to_device(inputs, here), targets.to(here)
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=size)
    generator = torch.Generator().manual_seed(seed)
    least = math.inf
    for _ in range(steps):
        before = [parameter.detach().clone() for parameter in parameters]
        if method == "random" and least < math.inf:
            with torch.no_grad():
                for parameter in parameters:
                    parameter += size * torch.randn(parameter.shape, generator=generator).to(here)
        with arguments.explained(model, inputs, targets):
            value = loss(model(inputs), targets)
            if method == "gradient":
                adam.zero_grad()
                value.backward()
        if method == "gradient":
            adam.step()
        elif value.item() >= least:
            with torch.no_grad():
                for parameter, old in zip(parameters, before, strict=True):
                    parameter.copy_(old)
        least = min(least, value.item())
    return least


# --- The whole model


def readings(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """What each reader of a model says of all cards: one (N,) a modality. Lesson 05.

    Raises ValueError when a modality is missing, and as `predict` does.
    """
    arguments.check_readers(model, inputs)
    return [predict(reader, inputs[name])[:, 0] for name, reader in model.encoders.items()]


def fit_weights(model: nn.Module, inputs: dict[str, Tensor], m: Tensor) -> fusion.Weights:
    """Gives a model of two readers and a `fusion.WeightedSum` its best α and β on these cards.

    Returns them, and the intercept, which the model itself has not. Lesson 05.

    The cards must be new to the readers. Raises ValueError as `fusion.best_weights`.
    """
    arguments.check_readers(model, inputs, 2)
    best = fusion.best_weights(*readings(model, inputs), m)
    with torch.no_grad():
        model.fusion.alpha.fill_(best.alpha)
        model.fusion.beta.fill_(best.beta)
    return best
