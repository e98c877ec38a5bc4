"""The exercises of lesson 05: Adam, the loop, early stopping, random search, leakage."""

from __future__ import annotations

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
    uphill=False, fair=True, root=True, squared=True, mixed=False, eps=1e-8, inside=0.0,
):  # fmt: skip
    """Adam with one of its parts left out or wrong."""
    keep_s, keep_q = (0.999, 0.9) if mixed else (0.9, 0.999)
    s = keep_s * s + (1 - keep_s) * slope
    q = keep_q * q + (1 - keep_q) * (slope**2 if squared else slope.abs())
    s_fair = s / (1 - keep_s**step) if fair else s
    q_fair = q / (1 - keep_q**step) if fair else q
    q_fair = q_fair + inside
    move = s_fair / ((q_fair.sqrt() if root else q_fair) + eps)
    return a + learning_rate * move if uphill else a - learning_rate * move, s, q


def _fair_means(a: Tensor, s: Tensor, q: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
    return a, s / (1 - 0.9**step), q / (1 - 0.999**step)


def _adam_cases() -> Cases:
    one, generator = torch.tensor, torch.Generator().manual_seed(0)
    a, slope, s = torch.randn(3, 4, generator=generator).unbind(0)
    q = torch.rand(4, generator=generator)
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
    solution_function=my_adam_step,
    cases=_adam_cases,
    mistakes={
        "You walked uphill: subtract the step.": lambda *x: _adam(*x, uphill=True),
        "You did not make s and q fair. They begin at 0, so the first steps come out far from the "
        "learning rate.": lambda *x: _adam(*x, fair=False),
        "You forgot the root: divide by √q.": lambda *x: _adam(*x, root=False),
        "q is the running mean of the SQUARED slope.": lambda *x: _adam(*x, squared=False),
        "You swapped the two rates: s keeps 0.9 of the old, q keeps 0.999.": (
            lambda *x: _adam(*x, mixed=True)
        ),
        "You made them fair as in step 1, dividing by 0.1 and 0.001. In step t it is 1 − 0.9ᵗ and "
        "1 − 0.999ᵗ.": lambda a, slope, s, q, step, rate: (
            my_adam_step(a, slope, s, q, 1, rate)[0],
            *my_adam_step(a, slope, s, q, step, rate)[1:],
        ),
        "You left out the 10⁻⁸: a parameter without any slope is divided by zero.": (
            lambda *x: _adam(*x, eps=0.0)
        ),
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
    order=("zero", "backward", "step"), maximize=False, total=False, column=False, after=False,
) -> list[float]:  # fmt: skip
    """The loop with its lines in another order, or another loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, maximize=maximize)
    losses = []
    for _ in range(steps):
        v = model(x)
        errors = (v if column else v.squeeze(1)) - y
        loss = errors.square().sum() if total else errors.square().mean()
        does = {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
        for name in order:
            does[name]()
        if after:
            loss = (model(x).squeeze(1) - y).square().mean()
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
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 3, generator=generator)
    y = x @ torch.tensor([0.5, -1.0, 0.2]) + 0.1 * torch.randn(20, generator=generator)
    start = torch.tensor([1.0, 1.0, 1.0])
    return {
        "two steps on two cards": (
            torch.tensor([1.0]), torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0]), 2, 0.1),
        "one step": (start, x, y, 1, 0.1),
        "ten steps": (start, x, y, 10, 0.1),
        "no step": (start, x, y, 0, 0.1),
        "a single card": (start, x[:1], y[:1], 3, 0.1),
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
    },
)


# --- 4. Random search


def my_random_search(error, start: Tensor, steps: Tensor) -> tuple[Tensor, float]:
    """The best point (k,) that the random steps (T, k) find from `start`, and its error.

    error: a function that gives the error of a point.
    """
    best, least = start, error(start)
    for step in steps:
        point = best + step
        value = error(point)
        if value < least:
            best, least = point, value
    return best, least


def bowl(point: Tensor) -> float:
    """A round valley with its lowest point at (1, −1, 1, …)."""
    signs = torch.tensor([1.0, -1.0]).repeat(len(point))[: len(point)]
    return float((point - signs).square().sum())


def stairs(point: Tensor) -> float:
    """A valley of flat steps: many points have one error."""
    return float((point - 3).abs().sum().ceil())


def _search(
    error, start, steps, *, always=False, worse=False, from_start=False, against_start=False,
    ties=False,
) -> tuple[Tensor, float]:  # fmt: skip
    """Random search with one of its rules broken."""
    best, least = start, error(start)
    first = least
    for step in steps:
        point = (start if from_start else best) + step
        value = error(point)
        bar = first if against_start else least
        if always or (value > bar if worse else value <= bar if ties else value < bar):
            best, least = point, value
    return best, least


def _walk(error, start, steps) -> tuple[Tensor, float]:
    """Remembers the best point, but walks on from every point."""
    points = torch.cat([start[None], start + steps.cumsum(0)])
    errors = [error(point) for point in points]
    return points[errors.index(min(errors))], min(errors)


def _search_cases() -> Cases:
    generator = torch.Generator().manual_seed(2)
    many = 0.5 * torch.randn(60, 3, generator=generator)
    line = torch.tensor([[0.5], [-0.75], [0.25], [2.0], [0.125]])
    return {
        "a step down": (bowl, torch.tensor([0.0]), torch.tensor([[0.5]])),
        "a step up": (bowl, torch.tensor([0.0]), torch.tensor([[-0.5]])),
        "no step": (bowl, torch.tensor([0.0]), torch.zeros(0, 1)),
        "five steps on a line": (bowl, torch.tensor([0.0]), line),
        "flat stairs, where some steps change nothing": (
            stairs, torch.tensor([0.5]), torch.tensor([[0.25], [1.0], [0.25], [-0.25], [-1.0]])),
        "sixty steps in three dimensions": (bowl, torch.zeros(3), many),
        "double precision, every second step": (bowl, torch.zeros(3).double(), many.double()[::2]),
    }  # fmt: skip


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
    solution_function=my_random_search,
    cases=_search_cases,
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
    solution_function=my_split,
    given=_split_rows,
    cases=lambda: {
        "two cards, two copies of each": (torch.tensor([7, 3, 3, 7]), 1),
        "three cards": (torch.tensor([5, 5, 2, 9, 9, 2]), 2),
        "copies lie apart": (torch.tensor([4, 1, 3, 1, 4, 3, 3, 2]), 3),
        "some cards have no copy": (torch.tensor([8, 6, 6, 6, 7, 5]), 2),
        "all cards for training": (torch.tensor([2, 1, 2]), 2),
        "no card for training": (torch.tensor([2, 1, 2]), 0),
        "every second row (a strided tensor)": (torch.tensor([4, 0, 1, 0, 4, 0, 2, 0])[::2], 1),
    },
    mistakes={
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
    },
)
