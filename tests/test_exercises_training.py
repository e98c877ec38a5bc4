"""exercises/training.py: lesson 05's exercises against PyTorch, the course, and other answers."""

import pytest
import torch
from torch import nn

from mbm_lab import training
from mbm_lab.exercises import training as ours

# The solutions are what PyTorch and the course do


@pytest.mark.parametrize("rate", [0.001, 0.3])
def test_twenty_steps_are_those_of_adam(rate):
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(6, generator=generator, dtype=torch.float64)
    theirs = nn.Parameter(start.clone())
    adam = torch.optim.Adam([theirs], lr=rate)
    mine, s, q = start, torch.zeros(6).double(), torch.zeros(6).double()
    for step in range(1, 21):
        slope = torch.randn(6, generator=generator, dtype=torch.float64) * 10.0 ** (step % 5 - 3)
        theirs.grad = slope.clone()
        adam.step()
        mine, s, q = ours.my_adam_step(mine, slope, s, q, step, rate)
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-10, atol=1e-12)


def test_the_mended_loop_descends_by_the_formula_of_the_slope():
    for start, x, y, steps, rate in ours.train.cases().values():
        got = ours.train.call(ours.my_train, start, x, y, steps, rate)
        weights, losses = start.clone(), []
        for _ in range(steps):
            losses.append(float((x @ weights - y).square().mean()))
            weights = weights - rate * 2 * x.T @ (x @ weights - y) / len(y)
        assert got["losses"] == pytest.approx(losses, rel=1e-4)
        torch.testing.assert_close(got["weights"], weights, rtol=1e-4, atol=1e-5)


class Scripted(nn.Module):
    """A model whose loss on validation cards in each epoch is written down beforehand."""

    def __init__(self, losses):
        super().__init__()
        self.weight, self.losses = nn.Parameter(torch.zeros(1)), iter(losses)

    def forward(self, x):
        return x * self.weight if self.training else torch.full_like(x, next(self.losses))


def test_early_stopping_is_the_rule_of_fit():
    generator = torch.Generator().manual_seed(4)
    tried = [(list(losses), patience) for losses, patience in ours.early_stop.cases().values()]
    for _ in range(60):  # losses with many ties
        losses = (torch.randint(1, 7, (9,), generator=generator) / 8).tolist()
        tried.append((losses, int(torch.randint(1, 5, (), generator=generator))))
    card = torch.ones(1)
    for losses, patience in tried:
        history = training.fit(
            Scripted(losses), card, card, lambda output, target: output.mean(),
            val=(card, card), epochs=len(losses), patience=patience, progress=False,
        )  # fmt: skip
        wanted = (history.best_epoch, len(history.val_loss) - 1)
        assert ours.my_early_stop(losses, patience) == wanted, (losses, patience)


def test_random_search_is_that_of_the_course():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(5))
    y = x @ torch.tensor([1.0, -0.5, 0.2])
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    least = training.least_loss(
        model, x, y[:, None], nn.functional.mse_loss, "random", steps=50, size=0.2, seed=6
    )
    generator = torch.Generator().manual_seed(6)
    steps = torch.cat([0.2 * torch.randn(1, 3, generator=generator) for _ in range(49)])
    point, error = ours.my_random_search(
        lambda w: float((x @ w - y).square().mean()), torch.zeros(3), steps
    )
    assert error == pytest.approx(least, rel=1e-5)
    torch.testing.assert_close(point, model.weight.detach()[0])


def test_no_card_is_on_both_sides_and_no_row_is_lost():
    for cards, count in ours.split.cases().values():
        first, second = ours.my_split(cards, count)
        assert not set(cards[first].tolist()) & set(cards[second].tolist())
        assert len(cards[first].unique()) == count
        assert sorted(first.tolist() + second.tolist()) == list(range(len(cards)))


def test_the_given_split_leaks():
    cards, count = ours.split.cases()["two cards, two copies of each"]
    first, second = ours.split.given(cards, count)
    assert set(cards[first].tolist()) & set(cards[second].tolist())


# Other right answers


def adam(a, slope, s, q, step, rate, *, keep=(0.9, 0.999), sign=-1, power=2, fair=True):
    """Adam in PyTorch's own order of operations, or with a mistake."""
    s, q = s.lerp(slope, 1 - keep[0]), keep[1] * q + (1 - keep[1]) * slope.abs().pow(power)
    one, two = (1 - keep[0] ** step, 1 - keep[1] ** step) if fair else (1, 1)
    return a.addcdiv(s, (q / two).sqrt().add(1e-8), value=sign * rate / one), s, q


def loop(model, x, y, steps, rate, *, forget="before", into=-1, total=False):
    """The loop without an optimizer, or with a mistake."""
    losses = []
    for _ in range(steps):
        errors = (model(x).flatten() - y).pow(2)
        loss = errors.sum() if total else errors.sum() / len(y)
        if forget == "before":
            model.zero_grad()
        loss.backward()
        if forget == "after":
            model.zero_grad()
        for weight in model.parameters():
            if weight.grad is not None:
                weight.data += into * rate * weight.grad
        losses.append(loss.item())
    return losses


def stop(losses, patience, *, more=0, ties=True, last=False, only_when_bad=False):
    """Early stopping that counts bad epochs one by one, or with a mistake."""
    best, least, bad = -1, float("inf"), 0
    for epoch, loss in enumerate(losses):
        better = loss < least or (ties and loss == least)
        if better:
            best, least, bad = epoch, loss, 0
        else:
            bad += 1
        if bad >= patience + more and not (only_when_bad and better):
            break
    return (epoch if last else best), epoch


def search(error, start, steps, *, undo=True, again=False):
    """Random search that steps forward and back again, or with a mistake."""
    here, least = start.clone(), error(start)
    for step in steps:
        before = (start if again else here).clone()
        there = before + step
        if error(there) < least or not undo:
            here, least = there, error(there)
    return here, least


def split(cards, count, *, largest=False, shift=0, numbers=False):
    """The split by loops over rows, or with a mistake."""
    different = sorted(set(cards.tolist()), reverse=largest)
    chosen = set(different[: max(count + shift, 0)])
    sides = [], []
    for row, card in enumerate(cards.tolist()):
        sides[card not in chosen].append(card if numbers else row)
    return tuple(torch.tensor(side, dtype=torch.long) for side in sides)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [(ours.adam_step, adam), (ours.train, loop), (ours.early_stop, stop),
     (ours.random_search, search), (ours.split, split)],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_another_way_to_write_it_is_correct_too(said, exercise, answer):
    assert f"Right. {exercise.title}" in said(exercise, answer)


def test_forgetting_the_slopes_at_the_end_of_each_step_is_right_too(said):
    def at_the_end(model, x, y, steps, rate):
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=rate), []
        for _ in range(steps):
            losses.append(nn.functional.mse_loss(model(x)[:, 0], y))
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
        return [loss.item() for loss in losses]

    assert "Right." in said(ours.train, at_the_end)


# The same mistakes, written otherwise


MISTAKES = [
    (ours.adam_step, adam, {"sign": 1}, "You walked uphill"),
    (ours.adam_step, adam, {"fair": False}, "You did not make s and q fair"),
    (ours.adam_step, adam, {"keep": (0.999, 0.9)}, "You swapped the two rates"),
    (ours.adam_step, adam, {"power": 1}, "running mean of the SQUARED slope"),
    (ours.train, loop, {"forget": "after"}, "Nothing is learned"),
    (ours.train, loop, {"into": 0}, "Nothing is learned"),
    (ours.train, loop, {"into": 1}, "You walk uphill"),
    (ours.train, loop, {"total": True}, "You sum the squared errors"),
    (ours.train, loop, {"forget": "never"}, "The results are still those of the code as given"),
    (ours.early_stop, stop, {"more": 1}, "one epoch too late"),
    (ours.early_stop, stop, {"more": -1}, "one epoch too early"),
    (ours.early_stop, stop, {"more": -1, "only_when_bad": True}, "one bad epoch too early"),
    (ours.early_stop, stop, {"ties": False}, "A tie: an epoch that is as good"),
    (ours.early_stop, stop, {"last": True}, "You return the last epoch as the best"),
    (ours.random_search, search, {"undo": False}, "You never go back"),
    (ours.random_search, search, {"again": True}, "Every step begins at the start again"),
    (ours.split, split, {"largest": True}, "the cards with the largest numbers"),
    (ours.split, split, {"shift": -1}, "One card too few"),
    (ours.split, split, {"shift": 1}, "One card too many"),
    (ours.split, split, {"numbers": True}, "You return the cards' numbers"),
]


@pytest.mark.parametrize(("exercise", "answer", "wrong", "sentence"), MISTAKES)
def test_the_same_mistake_written_otherwise_is_found(said, exercise, answer, wrong, sentence):
    words = said(exercise, lambda *arguments: answer(*arguments, **wrong))
    assert sentence in words
    assert "Right." not in words


def test_a_walk_that_remembers_the_best_point_is_told_to_go_back(said):
    def walk(error, point, steps):
        seen = [(error(point), point)]
        for step in steps:
            point = point + step
            seen.append((error(point), point))
        least, best = min(seen, key=lambda pair: pair[0])
        return best, least

    assert "walk on from the last one" in said(ours.random_search, walk)


def test_cutting_the_sorted_rows_still_splits_a_card(said):
    def cut(cards, count):
        rows = sorted(range(len(cards)), key=lambda row: int(cards[row]))
        share = len(rows) * count // len(cards.unique())
        return torch.tensor(rows[:share]).long(), torch.tensor(rows[share:]).long()

    assert "still cut by the number of rows" in said(ours.split, cut)
