"""The exercises of lesson 05: Adam, the loop, early stopping, random search, leakage."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mbm_lab.exercises.exercise import Cases, Exercise

# --- 1. One step of Adam


def my_adam_step(
    a: Tensor, slope: Tensor, s: Tensor, q: Tensor, step: int, learning_rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam: the new parameters a and the new means s and q, all of one shape."""
    s = 0.9 * s + 0.1 * slope
    q = 0.999 * q + 0.001 * slope**2
    s_fair, q_fair = s / (1 - 0.9**step), q / (1 - 0.999**step)
    return a - learning_rate * s_fair / (q_fair.sqrt() + 1e-8), s, q


def _adam(
    a, slope, s, q, step, learning_rate, *,
    uphill=False, fair="sq", root=True, squared=True, keep=(0.9, 0.999), take=None, eps=1e-8,
    inside=0.0, momentum=True, of_s=False, root_first=False, one_for_all=False,
):  # fmt: skip
    """Adam with one of its parts left out or wrong.

    fair: which of the means are made fair; keep, take: the shares of the old and of the new;
    momentum: whether the step goes along s, or along the slope itself.
    """
    (keep_s, keep_q), (take_s, take_q) = keep, take or (1 - keep[0], 1 - keep[1])
    s = keep_s * s + take_s * slope
    new = (s if of_s else slope) ** 2 if squared else slope.abs()
    q = keep_q * q + take_q * (new.mean() if one_for_all else new)
    s_fair = s / (1 - keep_s**step) if "s" in fair else s
    q_fair = (q.sqrt() if root_first else q) / (1 - keep_q**step) if "q" in fair else q
    q_fair = q_fair + inside
    move = s_fair if momentum else slope
    move = move / ((q_fair.sqrt() if root and not root_first else q_fair) + eps)
    return a + learning_rate * move if uphill else a - learning_rate * move, s, q


def _adam_other_fairness(a, slope, s, q, step, learning_rate, fair):
    """Adam that divides s by fair(0.9) and q by fair(0.999)."""
    _, s, q = my_adam_step(a, slope, s, q, step, learning_rate)
    root = (q / fair(0.999)).sqrt() + 1e-8
    return a - learning_rate * s / fair(0.9) / root, s, q


def _adam_old_means(a, slope, s, q, step, learning_rate):
    """Takes the step with the means as they were, and returns the new ones."""
    _, new_s, new_q = my_adam_step(a, slope, s, q, step, learning_rate)
    root = (q / (1 - 0.999**step)).sqrt() + 1e-8
    return a - learning_rate * s / (1 - 0.9**step) / root, new_s, new_q


def _adam_early_eps(a, slope, s, q, step, learning_rate):
    """Adds 1e-8 to the root of q before that is made fair, as some write Adam."""
    _, s, q = my_adam_step(a, slope, s, q, step, learning_rate)
    rate = learning_rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
    return a - rate * s / (q.sqrt() + 1e-8), s, q


def _moved(a, slope, s, q, step, learning_rate):
    new, s, q = my_adam_step(a, slope, s, q, step, learning_rate)
    return new - a, s, q


def _fair_means(a: Tensor, s: Tensor, q: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
    return a, s / (1 - 0.9**step), q / (1 - 0.999**step)


def _load_optimizers() -> None:
    """The first optimizer loads a part of PyTorch. That time is not the answer's."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


def _adam_cases() -> Cases:
    _load_optimizers()
    one, generator = torch.tensor, torch.Generator().manual_seed(0)
    a, slope, s = torch.randn(3, 4, generator=generator).unbind(0)
    s, q = 3 * s, 5 * torch.rand(4, generator=generator)
    return {
        "the step of section 1": (one([2.0]), one([-0.4]), one([0.0]), one([0.0]), 1, 0.001),
        "a large slope, a large learning rate": (
            one([2.0]), one([30.0]), one([0.0]), one([0.0]), 1, 0.5),
        "the fifth step": (one([1.0]), one([0.2]), one([0.3]), one([0.05]), 5, 0.1),
        "four parameters": (a, slope, s, q, 3, 0.1),
        "a tiny slope, 2e-8 (it is shown as 0)": (
            one([2.0]), one([2e-8]), one([0.0]), one([0.0]), 1, 0.1),
        "a slope of zero": (a, torch.zeros(4), s, q, 7, 0.1),
        "nothing has happened yet": (a, torch.zeros(4), torch.zeros(4), torch.zeros(4), 1, 0.1),
    }  # fmt: skip


def _adam_beyond() -> Cases:
    a, slope, s, q = _adam_cases()["four parameters"][:4]
    return {
        "double precision, every second parameter": (
            a.double()[::2], slope.double()[::2], s.double()[::2], q.double()[::2], 20, 0.01),
    }  # fmt: skip


adam_step = Exercise(
    lesson="05",
    name="adam_step",
    title="One step of Adam",
    minutes=10,
    difficulty=2,
    hints=(
        "Three things happen: both running means take in the new slope, both are made fair, the "
        "parameter moves.",
        "A running mean keeps most of the old and takes a little of the new: s = 0.9 · s + 0.1 · "
        "slope, and q = 0.999 · q + 0.001 · slope². In step t they are divided by 1 − 0.9ᵗ and "
        "1 − 0.999ᵗ.",
        "a − learning_rate · s_fair / (√q_fair + 10⁻⁸). Return the means as they were before they "
        "were made fair.",
    ),
    why="s tells which way the slope points on average, √q how large it usually is. Their ratio is "
    "near ±1 for a steady slope, whatever its size, so the learning rate alone decides how far a "
    "parameter moves. The tiny number keeps a parameter without any slope from dividing by zero.",
    results=("the new parameter", "s", "q"),
    solution_function=my_adam_step,
    cases=_adam_cases,
    beyond=_adam_beyond,
    mistakes={
        "You walked uphill: subtract the step.": lambda *x: _adam(*x, uphill=True),
        "You did not make s and q fair. They begin at 0, so the first steps come out far from the "
        "learning rate.": lambda *x: _adam(*x, fair=""),
        "You forgot the root: divide by √q.": lambda *x: _adam(*x, root=False),
        "q is the running mean of the SQUARED slope.": lambda *x: _adam(*x, squared=False),
        "You swapped the two rates: s keeps 0.9 of the old, q keeps 0.999.": (
            lambda *x: _adam(*x, keep=(0.999, 0.9))
        ),
        "You made them fair as in step 1, dividing by 0.1 and 0.001. In step t it is 1 − 0.9ᵗ and "
        "1 − 0.999ᵗ.": lambda a, slope, s, q, step, rate: (
            my_adam_step(a, slope, s, q, 1, rate)[0],
            *my_adam_step(a, slope, s, q, step, rate)[1:],
        ),
        "Without any slope your step is 0 / 0, which is nan: 10⁻⁸ must be added to the root before "
        "you divide by it.": lambda *x: _adam(*x, eps=0.0),
        "You added 10⁻⁸ under the root. It is added to the root.": (
            lambda *x: _adam(*x, eps=0.0, inside=1e-8)
        ),
        "You return the means after they were made fair. The next step needs them as they were "
        "before.": lambda a, slope, s, q, step, rate: _fair_means(
            *my_adam_step(a, slope, s, q, step, rate), step
        ),
        "You return the old s and q. The next step needs the new ones.": (
            lambda a, slope, s, q, step, rate: (my_adam_step(a, slope, s, q, step, rate)[0], s, q)
        ),
        "This is plain gradient descent, a − learning_rate · slope. Adam divides by the usual size "
        "of the slope.": lambda a, slope, s, q, step, rate: (
            a - rate * slope,
            *my_adam_step(a, slope, s, q, step, rate)[1:],
        ),
        "The learning rate is not used: multiply the step by it.": (
            lambda a, slope, s, q, step, rate: my_adam_step(a, slope, s, q, step, 1.0)
        ),
        "Only s was made fair: q, too, is divided, by 1 − 0.999ᵗ.": (
            lambda *x: _adam(*x, fair="s")
        ),
        "Only q was made fair: s, too, is divided, by 1 − 0.9ᵗ.": lambda *x: _adam(*x, fair="q"),
        "You took the root of q first and made it fair afterwards. Make q fair, then take its "
        "root.": lambda *x: _adam(*x, root_first=True),
        "You divided by 0.9ᵗ and 0.999ᵗ. To make the means fair, divide by 1 − 0.9ᵗ and "
        "1 − 0.999ᵗ.": lambda a, slope, s, q, step, rate: _adam_other_fairness(
            a, slope, s, q, step, rate, lambda keep: keep**step
        ),
        "You divided by 1 − 0.9 · t and 1 − 0.999 · t. It is a power, 0.9ᵗ: in Python 0.9**step.": (
            lambda a, slope, s, q, step, rate: _adam_other_fairness(
                a, slope, s, q, step, rate, lambda keep: 1 - keep * step
            )
        ),
        "You made the means fair with the power t + 1. The steps are counted from 1, so it is t.": (
            lambda a, slope, s, q, step, rate: _adam_other_fairness(
                a, slope, s, q, step, rate, lambda keep: 1 - keep ** (step + 1)
            )
        ),
        "You made the means fair with (1 − 0.9)ᵗ and (1 − 0.999)ᵗ. Take the power first: 1 − 0.9ᵗ "
        "and 1 − 0.999ᵗ.": lambda a, slope, s, q, step, rate: _adam_other_fairness(
            a, slope, s, q, step, rate, lambda keep: (1 - keep) ** step
        ),
        "The new slope is added whole to the means. Only a tenth of it goes into s, and a "
        "thousandth of its square into q.": lambda *x: _adam(*x, take=(1.0, 1.0)),
        "You swapped old and new: s keeps 0.9 of the old and takes 0.1 of the slope (and q 0.999 "
        "and 0.001).": lambda *x: _adam(*x, keep=(0.1, 0.001)),
        "Both means keep 0.9 of the old in your step. q keeps 0.999.": (
            lambda *x: _adam(*x, keep=(0.9, 0.9))
        ),
        "Both means keep 0.999 of the old in your step. s keeps 0.9.": (
            lambda *x: _adam(*x, keep=(0.999, 0.999))
        ),
        "You moved by the slope itself, divided by the root. Move by s, its running mean.": (
            lambda *x: _adam(*x, momentum=False)
        ),
        "Your q is the running mean of s². It takes in the squared slope.": (
            lambda *x: _adam(*x, of_s=True)
        ),
        "You stepped with the old means. First s and q take in the new slope, then a moves.": (
            _adam_old_means
        ),
        "You added 10⁻⁸ to the root of q before q was made fair. Make q fair first, then take the "
        "root, then add 10⁻⁸.": _adam_early_eps,
        "You return how far the parameter moves. The new parameter is a plus that.": _moved,
        "You return the step, with a plus sign. The new parameter is a minus that.": (
            lambda *x: (-_moved(*x)[0], *my_adam_step(*x)[1:])
        ),
        "You swapped s and q in what you return: the parameter, then s, then q.": (
            lambda *x: tuple(my_adam_step(*x)[place] for place in (0, 2, 1))
        ),
        "You return the parameter last. It comes first, then s, then q.": (
            lambda *x: tuple(my_adam_step(*x)[place] for place in (1, 2, 0))
        ),
        "You return the slope's share alone as s and q: each mean also keeps 0.9 (or 0.999) of "
        "what it was.": lambda a, slope, s, q, step, rate: my_adam_step(
            a, slope, 0 * s, 0 * q, step, rate
        ),
        "Your q keeps 0.99 of the old. It is 0.999, and 0.001 of the squared slope goes in.": (
            lambda *x: _adam(*x, keep=(0.9, 0.99))
        ),
        "Your s keeps 0.99 of the old. It is 0.9, and 0.1 of the slope goes in.": (
            lambda *x: _adam(*x, keep=(0.99, 0.999))
        ),
        "You took the mean of the squared slopes of all parameters. Each parameter has its own "
        "q.": lambda *x: _adam(*x, one_for_all=True),
        "Your step is right for the numbers of the task and ignores others: use the arguments.": (
            lambda *x: (torch.tensor([2.001]), torch.tensor([-0.04]), torch.tensor([0.00016]))
        ),
    },
)


# --- 2. When to stop


def my_early_stop(val_losses: list[float], patience: int) -> tuple[int, int]:
    """The best epoch and the last epoch that was run, both counted from 0."""
    best = 0
    for epoch, loss in enumerate(val_losses):
        if epoch - best > patience:
            return best, epoch - 1
        if loss <= val_losses[best]:
            best = epoch
    return best, len(val_losses) - 1


def _stop(
    val_losses: list[float],
    patience: int,
    previous: bool = False,
    in_all: bool = False,
    strict: bool = False,
    early: int = 0,
) -> tuple[int, int]:
    """Counts bad epochs: worse than the one before, or (in_all) without ever starting anew, or
    (strict) also those that are as good as the best; stops at a bad epoch, `early` too early."""
    best, bad = 0, 0
    for epoch in range(1, len(val_losses)):
        against = val_losses[epoch - 1] if previous else val_losses[best]
        if val_losses[epoch] < against or (val_losses[epoch] == against and not strict):
            best, bad = epoch, bad if in_all else 0
        else:
            bad += 1
            if bad >= patience - early:
                return best, epoch
    return best, len(val_losses) - 1


def _falling_again(val_losses: list[float], patience: int) -> tuple[int, int]:
    """Remembers the best epoch, but counts anew after each epoch better than the one before."""
    best, bad = 0, 0
    for epoch in range(1, len(val_losses)):
        bad = 0 if val_losses[epoch] <= val_losses[epoch - 1] else bad + 1
        best = epoch if val_losses[epoch] <= val_losses[best] else best
        if bad == patience:
            return best, epoch
    return best, len(val_losses) - 1


def _first_of_ties(val_losses: list[float], patience: int) -> tuple[int, int]:
    """The right last epoch, but of equally good epochs the first."""
    last = my_early_stop(val_losses, patience)[1]
    return val_losses.index(min(val_losses[: last + 1])), last


def _best_begins_at_1(val_losses: list[float], patience: int) -> tuple[int, int]:
    """The rule, with 1.0 as the least loss before the first epoch."""
    best, least, bad = 0, 1.0, 0
    for epoch, loss in enumerate(val_losses):
        if loss <= least:
            best, least, bad = epoch, loss, 0
        else:
            bad += 1
            if bad >= patience:
                return best, epoch
    return best, len(val_losses) - 1


def _from_the_end_of_all(val_losses: list[float], patience: int) -> tuple[int, int]:
    """Looks for the best of all epochs, and stops `patience` epochs after it."""
    best = len(val_losses) - 1 - val_losses[::-1].index(min(val_losses))
    return best, min(best + patience, len(val_losses) - 1)


def _against_the_first(val_losses: list[float], patience: int) -> tuple[int, int]:
    """Counts the epochs that are worse than the first one."""
    best, bad = 0, 0
    for epoch in range(1, len(val_losses)):
        better = val_losses[epoch] <= val_losses[0]
        best, bad = (epoch, 0) if better else (best, bad + 1)
        if bad == patience:
            return best, epoch
    return best, len(val_losses) - 1


early_stop = Exercise(
    lesson="05",
    name="early_stop",
    title="When to stop",
    minutes=10,
    difficulty=2,
    hints=(
        "Go through the epochs and remember the best one so far. Before each epoch, ask: how many "
        "epochs in a row brought nothing better?",
        "Before epoch e there were e − best − 1 epochs without anything better. If these are "
        "`patience` epochs, e is not run any more.",
        "if epoch - best > patience: return best, epoch - 1. And a loss that is equal to the best "
        "counts as better: <=.",
    ),
    why="The best epoch is compared with, not the one before: validation losses jump up and down, "
    "and one that is better than a bad neighbour is still no progress. Each new best epoch starts "
    "the counting anew.",
    results=("the best epoch", "the last epoch"),
    solution_function=my_early_stop,
    cases=lambda: {
        "one epoch": ([0.5], 1),
        "the loss only falls": ([0.5, 0.4, 0.3], 1),
        "patience 1": ([0.5, 0.4, 0.6, 0.3], 1),
        "patience 2": ([0.5, 0.4, 0.6, 0.7, 0.3], 2),
        "a better epoch just in time": ([0.5, 0.4, 0.6, 0.3, 0.8, 0.9, 0.2], 2),
        "better than its neighbour, but not the best": ([0.5, 0.2, 0.6, 0.4, 0.3, 0.25, 0.1], 3),
        "a tie": ([0.5, 0.4, 0.4, 0.6, 0.7, 0.1], 2),
        "the first epoch was the best": ([0.1, 0.5, 0.4, 0.3, 0.2], 3),
        "patience longer than the list": ([0.5, 0.6, 0.7], 9),
        "it gets worse to the very end": ([0.5, 0.6, 0.7], 2),
        "losses below zero": ([-0.1, -0.4, -0.3, -0.2, -0.6], 2),
        "large losses": ([7000.0, 9000.0, 5000.0, 6000.0, 6500.0, 4000.0], 2),
    },
    mistakes={
        "You stop one epoch too early: after the best epoch, `patience` more are run.": (
            lambda losses, patience: my_early_stop(losses, patience - 1)
        ),
        "You stop one bad epoch too early: count to `patience`, not to patience − 1.": (
            lambda losses, patience: _stop(losses, patience, early=1)
        ),
        "You stop one epoch too late: after the best epoch, only `patience` more are run.": (
            lambda losses, patience: my_early_stop(losses, patience + 1)
        ),
        "You return the last epoch as the best. The weights of the best one are wanted.": (
            lambda losses, patience: (my_early_stop(losses, patience)[1],) * 2
        ),
        "You swapped the two: first the best epoch, then the last one that was run.": (
            lambda losses, patience: my_early_stop(losses, patience)[::-1]
        ),
        "You compare each epoch with the one before it. Compare with the best so far.": (
            lambda losses, patience: _stop(losses, patience, previous=True)
        ),
        "You count all bad epochs together. Each new best epoch starts the counting anew.": (
            lambda losses, patience: _stop(losses, patience, in_all=True)
        ),
        "A tie: an epoch that is as good as the best counts as better, so compare with <=.": (
            lambda losses, patience: _stop(losses, patience, strict=True)
        ),
        "You start counting anew when an epoch is better than its neighbour. Only a new best epoch "
        "starts the counting anew.": _falling_again,
        "You count the epochs from 1. The first one has the number 0.": (
            lambda losses, patience: tuple(e + 1 for e in my_early_stop(losses, patience))
        ),
        "You never stop: patience is not used.": (
            lambda losses, patience: my_early_stop(losses, len(losses))
        ),
        "You looked at epochs that were never run. After stopping, nothing is known of them.": (
            lambda losses, patience: (
                len(losses) - 1 - losses[::-1].index(min(losses)),
                my_early_stop(losses, patience)[1],
            )
        ),
        "You looked for the best of all epochs first. Training does not know what comes later: go "
        "through the epochs one by one and stop on the way.": _from_the_end_of_all,
        "You return how many epochs were run. The last one has a number one smaller, because the "
        "first has the number 0.": lambda losses, patience: (
            my_early_stop(losses, patience)[0],
            my_early_stop(losses, patience)[1] + 1,
        ),
        "Your best epoch is one too large: the first epoch has the number 0.": (
            lambda losses, patience: (
                my_early_stop(losses, patience)[0] + 1,
                my_early_stop(losses, patience)[1],
            )
        ),
        "You return the best loss. The number of its epoch is asked for.": (
            lambda losses, patience: (
                losses[my_early_stop(losses, patience)[0]],
                my_early_stop(losses, patience)[1],
            )
        ),
        "Your last epoch is always `patience` after the best, even where the list has ended "
        "before.": lambda losses, patience: (
            my_early_stop(losses, patience)[0],
            my_early_stop(losses, patience)[0] + patience,
        ),
        "Your best epoch is always `patience` before the last. That holds only if training was "
        "stopped.": lambda losses, patience: (
            my_early_stop(losses, patience)[1] - patience,
            my_early_stop(losses, patience)[1],
        ),
        "You return (0, 0) every time. Is there a `return` inside the loop?": (
            lambda losses, patience: (0, 0)
        ),
        "You stop at the first epoch that is not better, whatever the patience.": (
            lambda losses, patience: my_early_stop(losses, 1)
        ),
        "You compare each epoch with the first one. Compare with the best so far.": (
            _against_the_first
        ),
        "Losses above 1 never become the best with you. The best begins with the first loss, or "
        "with infinity.": _best_begins_at_1,
        "The last epoch is right. But of two equally good epochs the later one is the best, and "
        "you return the first.": _first_of_ties,
    },
)


# --- 3. Break and fix: the slopes that add up


def my_train(
    model: nn.Module, x: Tensor, y: Tensor, steps: int, learning_rate: float
) -> list[float]:
    """Gradient descent on all cards at once. Returns the loss before each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        loss = ((model(x).squeeze(1) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _train(
    model, x, y, steps, learning_rate, *,
    order=("zero", "backward", "step"), maximize=False, loss_of=lambda errors: errors**2,
    total=False, column=False, after=False, kind=torch.optim.SGD,
) -> list[float]:  # fmt: skip
    """The loop with its lines in another order, another loss, or another optimizer."""
    optimizer = kind(model.parameters(), lr=learning_rate, maximize=maximize)
    losses = []
    for _ in range(steps):
        v = model(x)
        each = loss_of((v if column else v.squeeze(1)) - y)
        loss = each.sum() if total else each.mean()
        does = {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
        for name in order:
            does[name]()
        if after:
            loss = (model(x).squeeze(1) - y).square().mean()
        losses.append(loss.item())
    return losses


def _with_momentum(parameters, **settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, momentum=0.9, **settings)


def _train_forgetting_rarely(model, x, y, steps, learning_rate) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses = []
    for step in range(steps):
        loss = (model(x).squeeze(1) - y).square().mean()
        if step % 2 == 0:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _train_and_look(answer: Callable, start: Tensor, *arguments) -> dict | object:
    """The losses, and the model's weights at the end. start: the weights it begins with."""
    model = nn.Linear(len(start), 1, bias=False).to(start.dtype)
    with torch.no_grad():
        model.weight.copy_(start[None])
    losses = answer(model, *arguments)
    if losses is ...:
        return losses
    return {"losses": losses, "weights": model.weight.detach()[0].clone()}


def _train_cases() -> Cases:
    _load_optimizers()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 3, generator=generator)
    y = x @ torch.tensor([0.5, -1.0, 0.2]) + 0.1 * torch.randn(20, generator=generator)
    start = torch.tensor([1.0, 1.0, 1.0])
    return {
        "two steps on two cards": (
            torch.tensor([1.0]), torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0]), 2, 0.1),
        "one step": (start, x, y, 1, 0.1),
        "ten steps": (start, x, y, 10, 0.1),
        "a single card": (start, x[:1], y[:1], 3, 0.1),
        "eight cards": (start, x[:8], y[:8], 5, 0.2),
    }  # fmt: skip


def _train_beyond() -> Cases:
    start, x, y, *_ = _train_cases()["ten steps"]
    return {
        "no step at all": (start, x, y, 0, 0.1),
        "double precision, every second card": (
            start.double(), x.double()[::2], y.double()[::2], 5, 0.2),
    }  # fmt: skip


train = Exercise(
    lesson="05",
    name="train",
    title="Break and fix: the loss that falls and climbs again",
    minutes=5,
    difficulty=1,
    hints=(
        "Compare the loop with that of section 1, line by line. How many lines does it have?",
        "backward() ADDS the new slopes to those that are already there.",
        "optimizer.zero_grad() must come before loss.backward(), in every step.",
    ),
    why="backward() adds to the stored slopes, which is useful when one step is made of several "
    "batches. In a plain loop the old slopes must be forgotten first; otherwise each step also "
    "repeats all the steps before it, runs past the lowest point and swings back.",
    solution_function=my_train,
    given=lambda *x: _train(*x, order=("backward", "step")),
    call=_train_and_look,
    cases=_train_cases,
    beyond=_train_beyond,
    mistakes={
        "Nothing is learned: either optimizer.step() is missing, or the slopes are forgotten "
        "between backward() and step().": lambda *x: _train(*x, order=("backward", "zero", "step")),
        "You take the step before backward(): it uses the slopes of the step before.": (
            lambda *x: _train(*x, order=("step", "zero", "backward"))
        ),
        "You walk uphill.": lambda *x: _train(*x, maximize=True),
        "You sum the squared errors where the mean is asked for. With more cards the steps become "
        "too large.": lambda *x: _train(*x, total=True),
        "You measure the loss after the step. The loss before each step is asked for.": (
            lambda *x: _train(*x, after=True)
        ),
        "You lost squeeze(1): a column minus a row gives every card minus every other, and no "
        "error message.": lambda *x: _train(*x, column=True),
        "You return after the first step: the `return` belongs behind the loop.": (
            lambda model, x, y, steps, rate: _train(model, x, y, 1, rate)
        ),
        "You return the last loss alone. The losses of all steps are asked for.": (
            lambda *x: _train(*x)[-1]
        ),
        "You changed the optimizer. SGD is meant: the fault is that the slopes add up.": (
            lambda *x: _train(*x, kind=torch.optim.Adam)
        ),
        "You take the absolute errors. The loss is the mean of their squares.": (
            lambda *x: _train(*x, loss_of=torch.abs)
        ),
        "You halved the loss, and so the slopes. It is the mean of the squared errors.": (
            lambda *x: _train(*x, loss_of=lambda errors: errors**2 / 2)
        ),
        "One step too few is taken.": (
            lambda model, x, y, steps, rate: _train(model, x, y, steps - 1, rate)
        ),
        "One step too many is taken.": (
            lambda model, x, y, steps, rate: _train(model, x, y, steps + 1, rate)
        ),
        "The losses are in order now, but the model still swings: sorting them mends nothing. "
        "Forget the old slopes in every step.": lambda *x: sorted(
            _train(*x, order=("backward", "step")), reverse=True
        ),
        "The optimizer has a momentum, and swings by that. Plain SGD is meant.": (
            lambda *x: _train(*x, kind=_with_momentum)
        ),
        "The losses are right, but the model that was handed in has not moved. Train this very "
        "model, not a copy.": lambda model, *x: _train(copy.deepcopy(model), *x),
        "You forget the slopes in every second step only.": _train_forgetting_rarely,
        "Your learning rate is ten times too small. Keep it, and forget the old slopes in every "
        "step.": lambda model, x, y, steps, rate: _train(
            model, x, y, steps, rate / 10, order=("backward", "step")
        ),
    },
)


# --- 4. Random search


def my_random_search(error, start: Tensor, steps: Tensor) -> tuple[Tensor, float]:
    """The best point (k,) that the random steps (T, k) find from `start`, and its error.

    error: a function that gives the error of a point, as a tensor with one number.
    """
    best, least = start, float(error(start))
    for step in steps:
        point = best + step
        value = float(error(point))
        if value < least:
            best, least = point, value
    return best, least


def bowl(point: Tensor) -> Tensor:
    """A round valley with its lowest point at (1, −1, 1, …)."""
    signs = torch.tensor([1.0, -1.0]).repeat(len(point))[: len(point)]
    return (point - signs).square().sum()


def stairs(point: Tensor) -> Tensor:
    """A valley of flat steps: many points have one error."""
    return (point - 3).abs().sum().ceil()


def _search(
    error, start, steps, *, always=False, worse=False, from_start=False, against_start=False,
    ties=False, turn=False, give_up=False,
) -> tuple[Tensor, float]:  # fmt: skip
    """Random search with one of its rules broken.

    turn: a bad step is taken the other way; give_up: the first bad step ends the search.
    """
    best, least = start, error(start)
    first = least
    for step in steps:
        point = (start if from_start else best) + step
        value = error(point)
        bar = first if against_start else least
        if always or (value > bar if worse else value <= bar if ties else value < bar):
            best, least = point, value
        elif turn:
            best, least = best - step, error(best - step)
        elif give_up:
            break
    return best, least


def _walk(error, start, steps) -> tuple[Tensor, float]:
    """Remembers the best point, but walks on from every point."""
    points = torch.cat([start[None], start + steps.cumsum(0)])
    errors = [error(point) for point in points]
    return points[errors.index(min(errors))], min(errors)


def _tried(error, start, steps) -> list[float]:
    """The errors of all points that a right search tries."""
    errors = []

    def remembered(point: Tensor) -> float:
        errors.append(float(error(point)))
        return errors[-1]

    my_random_search(remembered, start, steps)
    return errors[1:]


def _first_always(error, start, steps) -> tuple[Tensor, float]:
    return my_random_search(error, start + steps[0], steps[1:])


def _moves_along(error, start, steps) -> tuple[Tensor, float]:
    """The point moves with every step, and the error is the least one."""
    points = start + steps.cumsum(0)
    return points[-1], min([error(start), *map(error, points)])


def _number_of_the_step(error, start, steps) -> tuple[Tensor, float]:
    errors = _tried(error, start, steps)
    least = min(errors)
    if least >= error(start):
        return torch.tensor(0), float(error(start))
    return torch.tensor(errors.index(least)), least


def _search_cases() -> Cases:
    generator = torch.Generator().manual_seed(2)
    many = 0.5 * torch.randn(30, 3, generator=generator)
    line = torch.tensor([[0.5], [-0.75], [0.25], [2.0], [0.125]])
    return {
        "a step down": (bowl, torch.tensor([0.0]), torch.tensor([[0.5]])),
        "a step up": (bowl, torch.tensor([0.0]), torch.tensor([[-0.5]])),
        "two steps down, the third too far": (
            bowl, torch.tensor([0.0]), torch.tensor([[0.25], [0.5], [2.0]])),
        "five steps on a line": (bowl, torch.tensor([0.0]), line),
        "flat stairs, where some steps change nothing": (
            stairs, torch.tensor([0.5]), torch.tensor([[0.25], [1.0], [0.25], [-0.25], [-1.0]])),
        "thirty steps in three dimensions": (bowl, torch.tensor([3.0, -2.5, 0.5]), many),
    }  # fmt: skip


def _search_beyond() -> Cases:
    many = _search_cases()["thirty steps in three dimensions"][2].double()
    return {
        "no step at all": (bowl, torch.tensor([0.0]), torch.zeros(0, 1)),
        "double precision, every second step": (bowl, torch.zeros(3).double(), many[::2]),
    }


random_search = Exercise(
    lesson="05",
    name="random_search",
    title="Random search",
    minutes=8,
    difficulty=2,
    hints=(
        "Remember two things: the best point so far, and its error.",
        "Each step begins at the best point so far: point = best + step. If its error is smaller, "
        "it becomes the best; otherwise you stay where you were.",
        "if value < least: best, least = point, value",
    ),
    why="It needs no slopes, only the error. Each step is kept only if the error is smaller, so "
    "the error can never rise. And each step asks for the error once, which is why one look is "
    "one step. With many parameters few steps are lucky in all of them.",
    results=("the best point", "its error"),
    solution_function=my_random_search,
    cases=_search_cases,
    beyond=_search_beyond,
    mistakes={
        "You never go back: a step that makes the error larger must be undone.": (
            lambda *x: _search(*x, always=True)
        ),
        "You remember the best point, but walk on from the last one, even when it was worse. Step "
        "from the best point.": _walk,
        "You keep the steps that make the error LARGER. Turn the comparison round.": (
            lambda *x: _search(*x, worse=True)
        ),
        "Every step begins at the start again. It should begin at the best point so far.": (
            lambda *x: _search(*x, from_start=True)
        ),
        "You compare with the error of the start. Compare with the least error so far.": (
            lambda *x: _search(*x, against_start=True)
        ),
        "You also keep steps that change nothing. Keep a step only if the error is smaller: <.": (
            lambda *x: _search(*x, ties=True)
        ),
        "You return the error of the last point that was tried. Return the least one, which "
        "belongs to the point.": lambda error, start, steps: (
            my_random_search(error, start, steps)[0],
            error(my_random_search(error, start, steps[:-1])[0] + steps[-1])
            if len(steps)
            else error(start),
        ),
        "You swapped the two results: first the point, then its error.": (
            lambda *x: my_random_search(*x)[::-1]
        ),
        "You return how far the best point lies from the start. The point itself is asked for.": (
            lambda error, start, steps: (
                my_random_search(error, start, steps)[0] - start,
                my_random_search(error, start, steps)[1],
            )
        ),
        "The point is right, but its error is that of the start. Replace the error, too, whenever "
        "a step is kept.": lambda error, start, steps: (
            my_random_search(error, start, steps)[0],
            error(start),
        ),
        "You return after the first step. The `return` belongs behind the loop.": (
            lambda error, start, steps: my_random_search(error, start, steps[:1])
        ),
        "You stop at the first step that is no better. Undo it and try the next one.": (
            lambda *x: _search(*x, give_up=True)
        ),
        "You subtract the steps. A step is added to the point.": (
            lambda error, start, steps: my_random_search(error, start, -steps)
        ),
        "You take a bad step the other way. It should be undone, and nothing else.": (
            lambda *x: _search(*x, turn=True)
        ),
        "The first step is kept in your search even if it makes the error larger. The least error "
        "begins with that of the start.": _first_always,
        "The error that you return is the mean of all that were tried. Return the least one.": (
            lambda error, start, steps: (
                my_random_search(error, start, steps)[0],
                sum(_tried(error, start, steps)) / len(steps),
            )
        ),
        "You return which step was the last one kept. The point is asked for.": _number_of_the_step,
        "Your best point moves along with each step, kept or not: `+=` changes the tensor itself, "
        "under all its names. Make a new one: point = best + step.": _moves_along,
        "You return all errors that were tried. The least one is asked for.": (
            lambda error, start, steps: (
                my_random_search(error, start, steps)[0],
                _tried(error, start, steps),
            )
        ),
        "You leave out the first step.": (
            lambda error, start, steps: my_random_search(error, start, steps[1:])
        ),
        "You leave out the last step.": (
            lambda error, start, steps: my_random_search(error, start, steps[:-1])
        ),
        "Nothing ever moves: you return the start and its error.": (
            lambda error, start, steps: (start, error(start))
        ),
        "You return the last point that was tried. Return the best one.": (
            lambda error, start, steps: (
                my_random_search(error, start, steps[:-1])[0] + steps[-1],
                my_random_search(error, start, steps)[1],
            )
        ),
        "You return the last point that was tried, with its error. Return the best one and its "
        "own.": lambda error, start, steps: (
            my_random_search(error, start, steps[:-1])[0] + steps[-1],
            error(my_random_search(error, start, steps[:-1])[0] + steps[-1]),
        ),
    },
)


# --- 5. Break and fix: the same card on both sides


def my_split(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    """Row numbers for training and for the test; cards (N,) tells which card each row shows."""
    chosen = cards.unique()[:train_cards]  # the cards with the smallest numbers
    in_training = torch.isin(cards, chosen)
    rows = torch.arange(len(cards))
    return rows[in_training], rows[~in_training]


def _split_rows(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(cards))
    count = len(rows) * train_cards // max(len(cards.unique()), 1)
    return rows[:count], rows[count:]


def _split(cards: Tensor, train_cards: int, largest: bool = False) -> tuple[Tensor, Tensor]:
    different = cards.unique()
    chosen = different[len(different) - train_cards :] if largest else different[:train_cards]
    return torch.isin(cards, chosen).nonzero()[:, 0], (~torch.isin(cards, chosen)).nonzero()[:, 0]


def _cut_in_order(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    """Sorts the rows by card and then cuts by the number of rows, through the middle of a card."""
    order = cards.argsort(stable=True)
    count = len(cards) * train_cards // len(cards.unique())
    return order[:count], order[count:]


def _card_by_card(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    """The right rows, but all rows of the first card, then all of the second, and so on."""
    chosen, order = cards.unique()[:train_cards], cards.argsort(stable=True)
    inside = torch.isin(cards[order], chosen)
    return order[inside], order[~inside]


def _one_row_a_card(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    first = torch.tensor(
        [int((cards == card).nonzero()[0]) for card in cards.unique()], dtype=torch.long
    )
    return first[:train_cards].sort().values, first[train_cards:].sort().values


def _masks(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    inside = torch.isin(cards, cards.unique()[:train_cards])
    return inside, ~inside


def _first_to_come(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    order = list(dict.fromkeys(cards.tolist()))
    inside = torch.isin(cards, torch.tensor(order[:train_cards], dtype=cards.dtype))
    return inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]


def _most_copies(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    different, rows = cards.unique(return_counts=True)
    inside = torch.isin(cards, different[rows.argsort(descending=True, stable=True)[:train_cards]])
    return inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]


def _sorted_as_texts(cards: Tensor, train_cards: int) -> tuple[Tensor, Tensor]:
    chosen = sorted({str(card) for card in cards.tolist()})[:train_cards]
    inside = torch.tensor([str(card) in chosen for card in cards.tolist()])
    return inside.nonzero()[:, 0], (~inside).nonzero()[:, 0]


split = Exercise(
    lesson="05",
    name="split",
    title="Break and fix: the same card on both sides",
    minutes=8,
    difficulty=2,
    hints=(
        "Split the cards first, then give every row to the side of its card.",
        "cards.unique() lists the different cards in rising order. The first `train_cards` of them "
        "are the training cards.",
        "torch.isin(cards, chosen) is True for every row whose card is among the chosen. "
        ".nonzero()[:, 0] turns True and False into row numbers.",
    ),
    why="A mirrored or moved copy is almost the same picture. If one copy is trained on and "
    "another is tested, the test asks what was learned by heart, and the score is too good. "
    "Whatever belongs together (copies, frames of one film, messages of one person) must stay on "
    "one side.",
    results=("the rows for training", "the rows for the test"),
    solution_function=my_split,
    given=_split_rows,
    cases=lambda: {
        "two cards, two copies of each": (torch.tensor([7, 3, 3, 7]), 1),
        "three cards": (torch.tensor([5, 5, 2, 9, 9, 2]), 2),
        "copies lie apart": (torch.tensor([4, 1, 3, 1, 4, 3, 3, 2]), 3),
        "some cards have no copy": (torch.tensor([8, 6, 6, 6, 7, 5]), 2),
        "a card with the number 0": (torch.tensor([4, 0, 4, 2, 0]), 1),
        "numbers of one digit and of two": (torch.tensor([12, 3, 10, 3, 12]), 1),
    },
    beyond=lambda: {
        "all cards for training": (torch.tensor([2, 1, 2]), 2),
        "no card for training": (torch.tensor([2, 1, 2]), 0),
        "every second row (a strided tensor)": (torch.tensor([4, 0, 1, 0, 4, 0, 2, 0])[::2], 1),
    },
    mistakes={
        "You sorted the cards' numbers as texts, and there 10 comes before 3. Sort numbers.": (
            _sorted_as_texts
        ),
        "The training rows are now right, but the test still holds all rows: the training cards "
        "must leave it.": lambda cards, count: (
            my_split(cards, count)[0],
            torch.arange(len(cards)),
        ),
        "The test rows are now right, but training still holds all rows: the test cards must leave "
        "it.": lambda cards, count: (torch.arange(len(cards)), my_split(cards, count)[1]),
        "You took the first `train_cards` ROWS. It is the number of cards.": lambda cards, count: (
            torch.arange(len(cards))[:count],
            torch.arange(len(cards))[count:],
        ),
        "You sorted the rows by card, but still cut by the number of rows. Cards with many copies "
        "are cut in two: choose cards, not rows.": _cut_in_order,
        "The rows are right, but stand card by card. Return the row numbers in rising order.": (
            _card_by_card
        ),
        "You return True and False for each row. Row numbers are asked for: .nonzero()[:, 0].": (
            _masks
        ),
        "You swapped the two sides: first the training rows, then the test rows.": (
            lambda cards, count: my_split(cards, count)[::-1]
        ),
        "One card too few is in the training set.": (
            lambda cards, count: my_split(cards, max(count - 1, 0))
        ),
        "One card too many is in the training set.": (
            lambda cards, count: my_split(cards, count + 1)
        ),
        "You took the cards with the largest numbers for training. Take the smallest ones.": (
            lambda cards, count: _split(cards, count, largest=True)
        ),
        "You kept one row of each card and lost its copies. Every row goes to one side.": (
            _one_row_a_card
        ),
        "You took the cards in the order in which they come. Take those with the smallest "
        "numbers.": (_first_to_come),
        "You return the cards' numbers. The numbers of the rows are asked for.": (
            lambda cards, count: tuple(cards[rows] for rows in my_split(cards, count))
        ),
        "You return which cards are on each side. The numbers of their rows are asked for.": (
            lambda cards, count: (cards.unique()[:count], cards.unique()[count:])
        ),
        "You return the rows as a column, (…, 1), as .nonzero() gives them. Take [:, 0] of it.": (
            lambda cards, count: tuple(rows[:, None] for rows in my_split(cards, count))
        ),
        "You compare the cards' numbers with `train_cards`. The numbers say which card it is; "
        "`train_cards` says how many.": lambda cards, count: (
            (cards < count).nonzero()[:, 0],
            (cards >= count).nonzero()[:, 0],
        ),
        "You took the cards with the most rows for training. Take those with the smallest "
        "numbers.": _most_copies,
        "The rows of the task's example come every time. Compute them from `cards`.": (
            lambda cards, count: (torch.tensor([1, 2]), torch.tensor([0, 3]))
        ),
        "You return the rows' numbers from 1. The first row has the number 0.": (
            lambda cards, count: tuple(rows + 1 for rows in my_split(cards, count))
        ),
        "All rows are in training, and none is left for the test.": lambda cards, count: (
            torch.arange(len(cards)),
            torch.arange(0),
        ),
        "The rows run from the last to the first. Return them in rising order.": (
            lambda cards, count: tuple(rows.flip(0) for rows in my_split(cards, count))
        ),
        "The test rows are right, but training lost the copies: all rows of its cards belong "
        "there.": lambda cards, count: (
            _one_row_a_card(cards, count)[0],
            my_split(cards, count)[1],
        ),
    },
)
