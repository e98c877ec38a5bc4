"""The exercises of lesson 04: two readings, two weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import fusion, postcards
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

F, G = torch.tensor([0.6, -0.2, 0.4]), torch.tensor([0.2, -0.6, 0.8])
M = torch.tensor([0.5, -0.5, 0.6])
"""The three cards of section 1."""


def _cards(count: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Readings and moods like those of the course: f and g tell m plus noise, and a little too much
    on average."""
    generator = torch.Generator().manual_seed(seed)
    m, noise_f, noise_g = torch.randn(3, count, generator=generator, dtype=torch.float64)
    m = 0.33 * m
    f, g = m + 0.26 * noise_f + 0.1, 1.5 * m + 0.3 * noise_g - 0.2
    return f.to(dtype), g.to(dtype), m.to(dtype)


# --- 1. The weighted sum


def my_weighted_sum(f: Tensor, g: Tensor, alpha: float, beta: float) -> Tensor:
    """v = αf + βg, for readings (N,) or vectors (N, dim)."""
    v = alpha * f + beta * g
    return v


def _weighted_sum_cases() -> Cases:
    f, g, _ = _cards(12, seed=0)
    return {
        "a batch of one": (F[:1], G[:1], 0.5, 0.25),
        "the three cards of section 1": (F, G, 0.5, 0.25),
        "a reading of zero": (torch.tensor([0.0, 0.5]), torch.tensor([0.4, 0.0]), 0.5, 0.25),
        "a negative α": (F, G, -0.9, 0.6),
        "a negative β, and α is zero": (F, G, 0.0, -0.5),
        "weights above 1": (F, G, 1.5, 3.0),
        "twelve cards": (f, g, 0.33, 0.47),
        "vectors instead of numbers": (f.view(4, 3), g.view(4, 3), 0.33, 0.47),
    }


def _weighted_sum_beyond() -> Cases:
    f, g, _ = _cards(12, seed=0)
    return {
        "weights that are tensors": (F, G, torch.tensor(0.3), torch.tensor(0.7)),
        "double precision": (F.double(), G.double(), 0.33, 0.47),
        "every second card (a strided tensor)": (f[::2], g[::2], 0.33, 0.47),
        "no card at all": (F[:0], G[:0], 0.5, 0.25),
    }


weighted_sum = Exercise(
    lesson="04",
    name="weighted_sum",
    title="The weighted sum",
    minutes=3,
    difficulty=1,
    hints=(
        "Each reading is multiplied by its own weight, and then the two are added.",
        "α is the picture's weight and f its reading; β and g belong to the message. A tensor "
        "times a number multiplies every entry.",
        "One line does it: v = alpha * f + beta * g. Do not forget to return v.",
    ),
    why="alpha * f multiplies all the picture's readings at once, beta * g all the message's. The "
    "same line works for vectors, because a number times a tensor works for every shape.",
    solution_function=my_weighted_sum,
    cases=_weighted_sum_cases,
    beyond=_weighted_sum_beyond,
    mistakes={
        "You swapped α and β: α belongs to f, the picture, and β to g, the message.": (
            lambda f, g, alpha, beta: beta * f + alpha * g
        ),
        "You added f and g without their weights. This is the article's code; its formula has α "
        "and β.": lambda f, g, alpha, beta: f + g,
        "You subtracted the message: the formula has a plus, αf + βg.": (
            lambda f, g, alpha, beta: alpha * f - beta * g
        ),
        "You left out β: the message counts with weight 1.": (
            lambda f, g, alpha, beta: alpha * f + g
        ),
        "You left out α: the picture counts with weight 1.": (
            lambda f, g, alpha, beta: f + beta * g
        ),
        "You divided by α + β. This makes a weighted mean; the formula is a sum, in which α + β "
        "may be less than 1.": lambda f, g, alpha, beta: (alpha * f + beta * g) / (alpha + beta),
        "You multiplied the two parts: the formula adds them.": (
            lambda f, g, alpha, beta: alpha * f * beta * g
        ),
        "You added everything up to one number: each card keeps its own v.": (
            lambda f, g, alpha, beta: (alpha * f + beta * g).sum()
        ),
        "You took the mean over the cards: each card keeps its own v.": (
            lambda f, g, alpha, beta: (alpha * f + beta * g).mean()
        ),
        "You used 1 − α for the message. β is a weight of its own.": (
            lambda f, g, alpha, beta: alpha * f + (1 - alpha) * g
        ),
        "You used 1 − β for the picture. α is a weight of its own.": (
            lambda f, g, alpha, beta: (1 - beta) * f + beta * g
        ),
        "α stands before both: β belongs to g.": lambda f, g, alpha, beta: alpha * f + alpha * g,
        "β stands before both: α belongs to f.": lambda f, g, alpha, beta: beta * f + beta * g,
        "The picture stands in both parts: β belongs to g, the message.": (
            lambda f, g, alpha, beta: alpha * f + beta * f
        ),
        "The message stands in both parts: α belongs to f, the picture.": (
            lambda f, g, alpha, beta: alpha * g + beta * g
        ),
        "The message is missing: this is α f alone.": lambda f, g, alpha, beta: alpha * f,
        "The picture is missing: this is β g alone.": lambda f, g, alpha, beta: beta * g,
        "You halved the sum. The formula is a sum, not a mean.": (
            lambda f, g, alpha, beta: (alpha * f + beta * g) / 2
        ),
        "Every part has both weights, (α + β)(f + g): each reading has one weight.": (
            lambda f, g, alpha, beta: (alpha + beta) * (f + g)
        ),
        "The parentheses are wrong: in α (f + βg) the message is multiplied by α, too.": (
            lambda f, g, alpha, beta: alpha * (f + beta * g)
        ),
        "You added the weights to the readings: multiply each reading by its weight.": (
            lambda f, g, alpha, beta: alpha + f + beta + g
        ),
        "You took the readings to the power of their weights. ** is a power, * a product.": (
            lambda f, g, alpha, beta: f**alpha + g**beta
        ),
        "You subtracted the picture: the formula has a plus, αf + βg.": (
            lambda f, g, alpha, beta: beta * g - alpha * f
        ),
        "Only the first card comes out. Does `return` stand inside a loop? f and g hold all "
        "cards: no loop is needed.": lambda f, g, alpha, beta: (alpha * f + beta * g)[:1],
        "You put the two parts one behind the other. Add them, card by card.": (
            lambda f, g, alpha, beta: torch.cat([alpha * f, beta * g])
        ),
        "You put the two parts one upon the other, in a new dimension. Add them, card by card.": (
            lambda f, g, alpha, beta: torch.stack([alpha * f, beta * g])
        ),
        "Every v is at least 0: you took absolute values. A negative mood stays negative.": (
            lambda f, g, alpha, beta: (alpha * f + beta * g).abs()
        ),
        "This is the example's result, whatever the input.": (
            lambda f, g, alpha, beta: torch.tensor([0.35])
        ),
        "This is 0.5 f + 0.25 g, whatever α and β are: use the weights that the function gets.": (
            lambda f, g, alpha, beta: 0.5 * f + 0.25 * g
        ),
        "int cuts the weights off to whole numbers. Use them as they are.": (
            lambda f, g, alpha, beta: int(alpha) * f + int(beta) * g
        ),
        "You put the sum through tanh. The formula is the sum alone.": (
            lambda f, g, alpha, beta: torch.tanh(alpha * f + beta * g)
        ),
        "You put the sum through a sigmoid. The formula is the sum alone.": (
            lambda f, g, alpha, beta: torch.sigmoid(alpha * f + beta * g)
        ),
        "Every card met every other: a table (N, N) comes out. Card i's f belongs to card i's g.": (
            lambda f, g, alpha, beta: alpha * f[:, None] + beta * g[None, :]
        ),
    },
)


# --- 2. Any number of witnesses


def my_best_weights(readings: Tensor, m: Tensor) -> Tensor:
    """The weights (K,) of least squares, with an intercept; readings (K, N), m (N,)."""
    readings = readings - readings.mean(1, keepdim=True)
    return torch.linalg.solve(readings @ readings.T, readings @ m)


def _solve(readings: Tensor, m: Tensor, cross: bool = True) -> Tensor:
    """The equations for readings as they are; without `cross` what they share is left out."""
    products = readings @ readings.T
    products = products if cross else products.diagonal().diag()
    return torch.linalg.solve(products, readings @ m)


def _centred(readings: Tensor) -> Tensor:
    return readings - readings.mean(1, keepdim=True)


def _to_sum_one(readings: Tensor, m: Tensor) -> Tensor:
    weights = my_best_weights(readings, m)
    return weights / weights.sum()


def _first_two(readings: Tensor, m: Tensor) -> Tensor:
    """Two witnesses as in the cell above; the others are not asked."""
    weights = torch.zeros_like(readings[:, 0])
    weights[:2] = my_best_weights(readings[:2], m)
    return weights


def _best_weights_cases() -> Cases:
    f, g, m = _cards(60, seed=1)
    voice = m + 0.3 * _cards(60, seed=5)[0] - 0.4
    two, three = torch.stack([f, g]), torch.stack([f, g, voice])
    return {
        "two witnesses, three cards": (torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 3.0]]),
                                       torch.tensor([0.5, 0.0, 2.0])),
        "two witnesses, sixty cards": (two, m),
        "three witnesses": (three, m),
        "one witness": (three[2:], m),
        "a witness who says the opposite": (torch.stack([f, -g]), m),
        "moods far from zero": (three, m + 5),
        "readings far from zero": (three + torch.tensor([[3.0], [-4.0], [1.0]]), m),
    }  # fmt: skip


def _best_weights_beyond() -> Cases:
    three, m = _best_weights_cases()["three witnesses"]
    return {
        "double precision": (three.double(), m.double()),
        "every second card (strided tensors)": (three[:, ::2], m[::2]),
    }


def _with_intercept(readings: Tensor, m: Tensor, last: bool) -> Tensor:
    """The weights and the intercept, as least squares gives both."""
    weights = my_best_weights(readings, m)
    intercept = (m.mean() - weights @ readings.mean(1))[None]
    return torch.cat([weights, intercept] if last else [intercept, weights])


def _with_factors(readings: Tensor, m: Tensor, matrix: str, right: str) -> Tensor:
    """Each side divided by "N", by "N - 1", or by "1"."""
    N = len(m)
    over = {"N": N, "N - 1": N - 1, "1": 1}
    return my_best_weights(readings, m) * over[matrix] / over[right]


def _correlations(readings: Tensor, m: Tensor) -> Tensor:
    scaled = fusion.standardise(readings.T).T
    return _solve(scaled, (m - m.mean()) / m.std(correction=0))


best_weights = Exercise(
    lesson="04",
    name="best_weights",
    title="Any number of witnesses",
    minutes=12,
    difficulty=3,
    hints=(
        "First let every row tell only differences from its own mean, so that the intercept drops "
        "out: readings.mean(1, keepdim=True).",
        "The matrix holds the product of each row with each row, summed over the cards: in one "
        "go, readings @ readings.T is (K, K). The right side is readings @ m, (K,). Dividing both "
        "by N changes nothing.",
        "torch.linalg.solve(readings @ readings.T, readings @ m) gives the K weights.",
    ),
    why="One matrix product makes all covariances at once, however many witnesses there are. Off "
    "the diagonal stands what two witnesses both say; without it, each would be paid for it. (The "
    "mean of m may stay: the rows have mean zero now, so a constant in m adds nothing.) Lesson 09 "
    "does this with the voice.",
    solution_function=my_best_weights,
    cases=_best_weights_cases,
    beyond=_best_weights_beyond,
    mistakes={
        "You did not subtract the mean of each witness. Without this the line is forced through "
        "zero, and the weights must do the intercept's work.": _solve,
        "You subtracted one mean for all witnesses together: each row has its own, "
        "mean(1, keepdim=True).": lambda readings, m: _solve(readings - readings.mean(), m),
        "You fitted each witness alone. What two witnesses both say is now counted twice: the "
        "matrix needs its entries off the diagonal.": (
            lambda readings, m: _solve(_centred(readings), m, cross=False)
        ),
        "You asked the first two witnesses only. There may be more, or just one.": _first_two,
        "You turned the order round: the first weight belongs to the first row.": (
            lambda readings, m: my_best_weights(readings, m).flip(0)
        ),
        "You divided the readings by their standard deviations. Then the weights belong to the "
        "standardised readings (section 5).": (
            lambda readings, m: _solve(fusion.standardise(readings.T).T, m - m.mean())
        ),
        "You stopped at the covariances with the mood. They still have to be put through the "
        "equations: solve for the weights.": (
            lambda readings, m: _centred(readings) @ (m - m.mean()) / len(m)
        ),
        "Your result has one number more: the last is the intercept. Only the K weights are "
        "wanted.": lambda readings, m: _with_intercept(readings, m, last=True),
        "Your result has one number more: the first is the intercept. Only the K weights are "
        "wanted.": lambda readings, m: _with_intercept(readings, m, last=False),
        "You subtracted the mean of m, but not those of the readings: each row of readings needs "
        "it.": lambda readings, m: _solve(readings, m - m.mean()),
        "You subtracted the mean over the witnesses, card by card. Each witness has its own mean, "
        "over the cards: mean(1, keepdim=True).": (
            lambda readings, m: _solve(readings - readings.mean(0), m)
        ),
        "You multiplied by the matrix. The weights solve the equations: "
        "torch.linalg.solve(matrix, right).": lambda readings, m: (
            _centred(readings) @ _centred(readings).T @ (_centred(readings) @ m)
        ),
        "You multiplied covariances by covariances, each divided by N. The weights solve the "
        "equations: torch.linalg.solve(matrix, right).": lambda readings, m: (
            _centred(readings) @ _centred(readings).T @ (_centred(readings) @ m) / len(m) ** 2
        ),
        "The two sides are divided by different numbers: the matrix by N − 1 (as torch.cov does), "
        "the right side by N. Divide both by the same.": (
            lambda readings, m: _with_factors(readings, m, "N - 1", "N")
        ),
        "The two sides are divided by different numbers: the matrix by N, the right side by N − 1. "
        "Divide both by the same.": lambda readings, m: _with_factors(readings, m, "N", "N - 1"),
        "The matrix is divided by N, and the right side is not. Divide both, or neither.": (
            lambda readings, m: _with_factors(readings, m, "N", "1")
        ),
        "The right side is divided by N, and the matrix is not. Divide both, or neither.": (
            lambda readings, m: _with_factors(readings, m, "1", "N")
        ),
        "The matrix is divided by N − 1 (as torch.cov does), and the right side not at all. "
        "Divide both, or neither.": lambda readings, m: _with_factors(readings, m, "N - 1", "1"),
        "Readings and moods are divided by their standard deviations. Then the weights belong to "
        "the standardised ones (section 5).": _correlations,
        "These are the sums of readings times mood. They still have to be put through the "
        "equations: solve for the weights.": lambda readings, m: _centred(readings) @ m,
        "You subtracted one mean for all witnesses together (and that of m). Each row has its own, "
        "mean(1, keepdim=True).": (
            lambda readings, m: _solve(readings - readings.mean(), m - m.mean())
        ),
        "You added 1 on the diagonal, as ridge does. Least squares has no penalty.": (
            lambda readings, m: torch.linalg.solve(
                _centred(readings) @ _centred(readings).T + torch.eye(len(readings)),
                _centred(readings) @ m,
            )
        ),
        "The signs are turned.": lambda readings, m: -my_best_weights(readings, m),
        "Every witness got the same weight. The equations give each its own.": (
            lambda readings, m: torch.full((len(readings),), 1 / len(readings))
        ),
        "This is v, one number a card. The K weights are wanted.": (
            lambda readings, m: my_best_weights(readings, m) @ readings
        ),
        "This is the example's result, whatever the input.": (
            lambda readings, m: torch.tensor([0.5, 0.2])
        ),
        "You made the weights sum to 1. That is the familiar rule without a prior; least squares "
        "does not ask for it.": _to_sum_one,
    },
)


# --- 3. One step of gradient descent


def my_step(
    f: Tensor, g: Tensor, m: Tensor, alpha: float, beta: float, learning_rate: float
) -> tuple[float, float]:
    """One step of gradient descent on the mean squared error of v = αf + βg, without intercept."""
    v = alpha * f + beta * g
    slope_alpha = 2 * ((v - m) * f).mean()
    slope_beta = 2 * ((v - m) * g).mean()
    return float(alpha - learning_rate * slope_alpha), float(beta - learning_rate * slope_beta)


def _step(
    f: Tensor,
    g: Tensor,
    m: Tensor,
    alpha: float,
    beta: float,
    learning_rate: float,
    factor: float = 2.0,
    total: bool = False,
) -> tuple[float, float]:
    """The step with another factor before the slope, or with the sum in place of the mean."""
    error = alpha * f + beta * g - m
    over = 1 if total else len(f)
    alpha_slope, beta_slope = ((error * f).sum() / over, (error * g).sum() / over)
    return (
        float(alpha - factor * learning_rate * alpha_slope),
        float(beta - factor * learning_rate * beta_slope),
    )


def _one_after_the_other(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    alpha = float(alpha - learning_rate * 2 * ((alpha * f + beta * g - m) * f).mean())
    return alpha, float(beta - learning_rate * 2 * ((alpha * f + beta * g - m) * g).mean())


def _wrong_reading(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    error = alpha * f + beta * g - m
    return (
        float(alpha - 2 * learning_rate * (error * g).mean()),
        float(beta - 2 * learning_rate * (error * f).mean()),
    )


def _without_reading(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    slope = float(2 * (alpha * f + beta * g - m).mean())
    return alpha - learning_rate * slope, beta - learning_rate * slope


def _step_cases() -> Cases:
    f, g, m = _cards(40, seed=2)
    return {
        "one card": (F[:1], G[:1], M[:1], 0.5, 0.25, 0.1),
        "the three cards of section 1": (F, G, M, 0.5, 0.25, 0.1),
        "from zero": (F, G, M, 0.0, 0.0, 0.5),
        "forty cards, from a bad start": (f, g, m, -0.9, 0.6, 0.5),
        "a learning rate of zero": (f, g, m, -0.9, 0.6, 0.0),
        "a learning rate above 1, and a negative β": (f, g, m, 0.2, -0.7, 1.5),
    }


def _step_beyond() -> Cases:
    f, g, m = (x.double()[::2] for x in _cards(40, seed=2))
    return {
        "double precision, every second card": (f, g, m, 0.3, 0.4, 0.5),
        "weights that are tensors": (f, g, m, torch.tensor(0.3), torch.tensor(0.4), 0.5),
    }


def _mixed(f, g, m, alpha, beta, learning_rate, for_alpha: str, for_beta: str):
    """The step with other factors beside the error in the two slopes."""
    error = alpha * f + beta * g - m
    beside = {
        "f": f, "g": g, "mean f": f.mean(), "mean g": g.mean(), "error": error,
        "error f": error * f, "error g": error * g, "nothing": torch.zeros(()),
    }  # fmt: skip
    return (
        float(alpha - 2 * learning_rate * (error * beside[for_alpha]).mean()),
        float(beta - 2 * learning_rate * (error * beside[for_beta]).mean()),
    )


def _of_changed(f, g, m, alpha, beta, learning_rate, change) -> tuple[float, float]:
    """The step on changed readings and moods."""
    return my_step(*change(f, g, m), alpha, beta, learning_rate)


def _slopes(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    error = alpha * f + beta * g - m
    return float(2 * (error * f).mean()), float(2 * (error * g).mean())


def _beta_first(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    beta = float(beta - learning_rate * 2 * ((alpha * f + beta * g - m) * g).mean())
    return float(alpha - learning_rate * 2 * ((alpha * f + beta * g - m) * f).mean()), beta


def _card_by_card(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    for i in range(len(f)):
        one = slice(i, i + 1)
        alpha, beta = my_step(f[one], g[one], m[one], alpha, beta, learning_rate)
    return alpha, beta


def _absolute(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    sign = (alpha * f + beta * g - m).sign()
    return (
        float(alpha - learning_rate * (sign * f).mean()),
        float(beta - learning_rate * (sign * g).mean()),
    )


def _without_error(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    return (
        float(alpha - 2 * learning_rate * ((alpha * f + beta * g) * f).mean()),
        float(beta - 2 * learning_rate * ((alpha * f + beta * g) * g).mean()),
    )


def _each_alone(f, g, m, alpha, beta, learning_rate) -> tuple[float, float]:
    return (
        float(alpha - 2 * learning_rate * ((alpha * f - m) * f).mean()),
        float(beta - 2 * learning_rate * ((beta * g - m) * g).mean()),
    )


step = Exercise(
    lesson="04",
    name="step",
    title="One step of gradient descent",
    minutes=8,
    difficulty=2,
    hints=(
        "Compute v, then the two slopes (the formula stands above; for β put g where α has f), "
        "then move both weights.",
        "The bar over a product is a mean over the cards: 2 * ((v - m) * f).mean().",
        "Downhill means minus: the new alpha is alpha - learning_rate * slope. Both slopes are "
        "computed at the old α and β.",
    ),
    why="Each slope says how the error changes when its weight grows a little. A step against both "
    "slopes goes downhill. Both are taken at the same point, before either weight moves.",
    solution_function=my_step,
    cases=_step_cases,
    beyond=_step_beyond,
    mistakes={
        "Your step leads uphill. It goes against the slope, alpha - learning_rate * slope, and the "
        "error in the slope is v − m, not m − v.": lambda *a: _step(*a, factor=-2.0),
        "You forgot the factor 2, which comes from the square in the error.": (
            lambda *a: _step(*a, factor=1.0)
        ),
        "You summed over the cards where the bar asks for a mean. With more cards the steps would "
        "become larger and larger.": lambda *a: _step(*a, total=True),
        "You moved α first and used the new α in the slope of β. Compute both slopes, then move "
        "both.": _one_after_the_other,
        "You used g in the slope of α and f in the slope of β: each weight's slope has its own "
        "reading.": _wrong_reading,
        "These are the slopes. The new α and β are wanted: alpha - learning_rate * slope.": _slopes,
        "These are the changes alone. The new α and β are wanted: the old ones minus "
        "learning_rate * slope.": lambda f, g, m, alpha, beta, learning_rate: tuple(
            -learning_rate * slope for slope in _slopes(f, g, m, alpha, beta, learning_rate)
        ),
        "β has not moved. Both weights take a step.": (
            lambda *a: _mixed(*a, for_alpha="f", for_beta="nothing")
        ),
        "α has not moved. Both weights take a step.": (
            lambda *a: _mixed(*a, for_alpha="nothing", for_beta="g")
        ),
        "You used f in both slopes: in the slope of β stands g.": (
            lambda *a: _mixed(*a, for_alpha="f", for_beta="f")
        ),
        "You used g in both slopes: in the slope of α stands f.": (
            lambda *a: _mixed(*a, for_alpha="g", for_beta="g")
        ),
        "You multiplied the mean error by the mean reading. Multiply card by card, then take the "
        "mean.": lambda *a: _mixed(*a, for_alpha="mean f", for_beta="mean g"),
        "You squared the error in the slopes. The slope holds the error itself times the "
        "reading.": lambda *a: _mixed(*a, for_alpha="error f", for_beta="error g"),
        "The squared error stands where a slope should: the slope holds the error times the "
        "reading.": lambda *a: _mixed(*a, for_alpha="error", for_beta="error"),
        "You took two steps. One is asked for.": lambda f, g, m, alpha, beta, learning_rate: (
            my_step(f, g, m, *my_step(f, g, m, alpha, beta, learning_rate), learning_rate)
        ),
        "You moved the weights after each card. Compute both slopes over all cards, then move "
        "once.": _card_by_card,
        "The learning rate is always 0.1 in your step: use the one that the function gets.": (
            lambda f, g, m, alpha, beta, learning_rate: my_step(f, g, m, alpha, beta, 0.1)
        ),
        "The step has always the same size: only the sign of the slope counts in it. Multiply the "
        "slope itself.": lambda f, g, m, alpha, beta, learning_rate: tuple(
            old - learning_rate * ((slope > 0) - (slope < 0))
            for old, slope in zip(
                (alpha, beta), _slopes(f, g, m, alpha, beta, learning_rate), strict=True
            )
        ),
        "These are the slopes of the mean absolute error. Here the errors are squared.": _absolute,
        "int cuts the new weights off to whole numbers. Use float.": (
            lambda *a: tuple(map(int, my_step(*a)))
        ),
        "The new weights are rounded to one digit. Return them as they are.": (
            lambda *a: tuple(round(new, 1) for new in my_step(*a))
        ),
        "You moved β first and used the new β in the slope of α. Compute both slopes, then move "
        "both.": _beta_first,
        "m is missing: the slope holds the error v − m, not v.": _without_error,
        "In each slope stands only one part of v. The error is αf + βg − m in both.": _each_alone,
        "The two new weights come out in the wrong order: first α, then β.": (
            lambda *a: my_step(*a)[::-1]
        ),
        "The learning rate is left out: the step is learning_rate * slope.": (
            lambda f, g, m, alpha, beta, learning_rate: my_step(f, g, m, alpha, beta, 1.0)
        ),
        "You divided by the learning rate: multiply the slope by it.": (
            lambda f, g, m, alpha, beta, learning_rate: (
                my_step(f, g, m, alpha, beta, 1 / learning_rate)
            )
        ),
        "You subtracted the means of f, g and m first. That is for a line with an intercept; here "
        "there is none.": lambda *a: _of_changed(
            *a, change=lambda *all_three: [x - x.mean() for x in all_three]
        ),
        "Only the first card counts in your slopes. Take the mean over all of them.": (
            lambda *a: _of_changed(*a, change=lambda *all_three: [x[:1] for x in all_three])
        ),
        "You summed over the cards and left out the factor 2. The slope is 2 times the mean of "
        "error times reading.": lambda *a: _step(*a, factor=1.0, total=True),
        "The factor 2 is there twice.": lambda *a: _step(*a, factor=4.0),
        "The old weights are not kept: you return learning_rate * slope with the wrong sign.": (
            lambda f, g, m, alpha, beta, learning_rate: tuple(
                learning_rate * slope for slope in _slopes(f, g, m, alpha, beta, learning_rate)
            )
        ),
        "This is the example's result, whatever the input.": lambda *a: (0.2, 0.0),
        "You left f and g out of the slopes: the error counts for a weight only as far as its "
        "reading was large.": _without_reading,
    },
)


# --- 4. Predict: what does β do?


def _what_beta_does() -> str:
    """Least squares on perfect readings, as they are and with noise added to the picture."""
    cards = postcards.draw(2000, seed=11)
    f, g, m = (
        torch.tensor([getattr(card, name) for card in cards])
        for name in ("expression", "sentiment", "mood")
    )
    noise = 0.8 * torch.randn(len(f), generator=torch.Generator().manual_seed(0))
    change = fusion.best_weights(f + noise, g, m).beta - fusion.best_weights(f, g, m).beta
    return "b" if abs(change) < 0.03 else "a" if change < 0 else "c"


worse_picture = Choice(
    lesson="04",
    name="worse_picture",
    title="Predict: what does β do?",
    minutes=2,
    difficulty=1,
    hints=(
        "The mood must be guessed from the two witnesses. One of them now knows less.",
        "Look at the formula for β: σ_f grows. What happens to the sum below the line?",
    ),
    why="β rises. The picture's precision leaves the sum below the line, and everything else "
    "keeps its place, so the message's share grows: what one witness loses, the other (and the "
    "prior) gets.",
    options={"a": "β falls too", "b": "β stays as it is", "c": "β rises"},
    answer="c",
    wrong={
        "a": "If both fell, v would be held near zero although the message is as good as before. "
        "Only a worse message would give a reason to trust it less.",
        "b": "Nothing happened to the message, true. But a weight says what a witness adds beside "
        "the others, and the other one now adds less.",
    },
    truth=_what_beta_does,
)


# --- 5. WeightedSum as a module


class MyWeightedSum(nn.Module):
    """v = αf + βg with α and β that learn; both begin at 1."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        return self.alpha * f + self.beta * g


def _learn(answer: type[nn.Module], f: Tensor, g: Tensor) -> dict | Tensor:
    """What a module computes with its own numbers and with others, which numbers an optimizer
    finds in it before the first call, and whether they move in a step of gradient descent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = answer()
    parameters = _learned(module)
    begin = {name: one.detach().flatten().clone() for name, one in parameters.items()}
    v = module(f, g)
    if not isinstance(v, Tensor):
        return v
    later = _learned(module)
    seen = {
        "v": v.detach(),
        "learned numbers before the first call": begin,
        "still the same after it": parameters.keys() == later.keys()
        and all(parameters[name] is later[name] for name in later),
        "all of them learn": all(one.requires_grad for one in parameters.values()),
    }
    if v.requires_grad:
        v.square().sum().backward()
    seen["slopes"] = {
        name: None if one.grad is None else one.grad.flatten() for name, one in parameters.items()
    }
    with torch.no_grad():
        for name, one in parameters.items():  # as an optimizer moves them
            one.fill_(-1.0 if name == "beta" else 2.0)
        moved = module(f, g)
    return seen | {"v when α has become 2 and β −1": moved}


def _learned(module: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimizer finds in a module, by the last part of its name."""
    return {name.split(".")[-1]: one for name, one in module.named_parameters()}


class _PlainNumbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha, self.beta = 1.0, 1.0

    def forward(self, f, g):
        return self.alpha * f + self.beta * g


class _NoGradient(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha.item() * f + self.beta.item() * g


class _FromZero(MyWeightedSum):
    def __init__(self):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))


class _OneWeight(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * f + (1 - self.alpha) * g


class _Shared(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * (f + g)


class _MadeInForward(nn.Module):
    def forward(self, f, g):
        self.alpha, self.beta = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        return self.alpha * f + self.beta * g


class _MadeAnew(MyWeightedSum):
    def forward(self, f, g):
        self.alpha, self.beta = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        return self.alpha * f + self.beta * g


class _Frozen(MyWeightedSum):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class _Unused(MyWeightedSum):
    def forward(self, f, g):
        return f + g


class _Swapped(MyWeightedSum):
    def forward(self, f, g):
        return self.beta * f + self.alpha * g


class _Minus(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * f - self.beta * g


class _Mean(MyWeightedSum):
    def forward(self, f, g):
        return (self.alpha * f + self.beta * g) / (self.alpha + self.beta)


class _Halved(MyWeightedSum):
    def forward(self, f, g):
        return (self.alpha * f + self.beta * g) / 2


class _Product(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * f * self.beta * g


class _Sigmoid(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha.sigmoid() * f + self.beta.sigmoid() * g


class _Softmax(MyWeightedSum):
    def forward(self, f, g):
        a, b = torch.stack([self.alpha.flatten()[0], self.beta.flatten()[0]]).softmax(0)
        return a * f + b * g


class _OneNumber(MyWeightedSum):
    def forward(self, f, g):
        return super().forward(f, g).sum()


class _AlphaAlone(MyWeightedSum):
    def __init__(self):
        super().__init__()
        del self.beta
        self.beta = 1.0


class _BetaAlone(MyWeightedSum):
    def __init__(self):
        super().__init__()
        del self.alpha
        self.alpha = 1.0


class _Random(MyWeightedSum):
    def __init__(self, draw=torch.randn):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(draw(1)), nn.Parameter(draw(1))


class _RandomShares(_Random):
    def __init__(self):
        super().__init__(torch.rand)


class _Half(MyWeightedSum):
    def __init__(self):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.5))


class _InOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))

    def forward(self, f, g):
        return self.weights[0] * f + self.weights[1] * g


class _SharedParameter(MyWeightedSum):
    def __init__(self):
        super().__init__()
        self.beta = self.alpha


class _OnlyAlphaUsed(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * f + g


class _OnlyBetaUsed(MyWeightedSum):
    def forward(self, f, g):
        return f + self.beta * g


class _OneMinus(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.0))

    def forward(self, f, g):
        return self.alpha * f + (1 - self.alpha) * g


class _Tables(MyWeightedSum):
    def __init__(self):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1, 1))


class _WithoutNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.tensor(1.0), torch.tensor(1.0)])

    def forward(self, f, g):
        return self.weights[0] * f + self.weights[1] * g


class _OnlyF(MyWeightedSum):
    def forward(self, f, g):
        return self.alpha * f


class _OnlyG(MyWeightedSum):
    def forward(self, f, g):
        return self.beta * g


weighted_sum_module = Exercise(
    lesson="04",
    name="weighted_sum_module",
    title="α and β that learn",
    minutes=8,
    difficulty=2,
    hints=(
        "In __init__, make two things that PyTorch can find and train. In forward, write the "
        "formula.",
        "nn.Parameter(torch.tensor(1.0)) is a number that learns. It must be stored directly as "
        "self.alpha: PyTorch does not look into lists.",
        "forward returns self.alpha * f + self.beta * g.",
    ),
    why="nn.Module registers every nn.Parameter that is stored as an attribute, and "
    "model.parameters() hands them to the optimizer. A plain number, or a parameter in a Python "
    "list, is not found: the model runs, and never learns. No error says so.",
    solution_function=MyWeightedSum,
    call=_learn,
    cases=lambda: {
        "one card": (F[:1], G[:1]),
        "the three cards of section 1": (F, G),
        "vectors": (torch.stack([F, G]), torch.stack([G, 2 * F])),
    },
    beyond=lambda: {
        "no card at all": (F[:0], G[:0]),
        "double precision": (F.double(), G.double()),
    },
    mistakes={
        "α and β are not registered: PyTorch finds no parameters in your module, so no optimizer "
        "will ever move them. Make each an nn.Parameter in __init__ and store it directly, as "
        "self.alpha and self.beta: not a plain number, a plain tensor, a buffer, or in a list.": (
            _PlainNumbers
        ),
        "Before the first call there are no parameters, so an optimizer finds none: you make them "
        "in forward, anew at each call. Make them once, in __init__.": _MadeInForward,
        "α and β are made anew at each call of forward, so what an optimizer moved is forgotten. "
        "Make them once, in __init__.": _MadeAnew,
        "α and β get no slope, though forward uses their values: .item(), float(), .data or "
        ".detach() cut off the way back for the gradient.": _NoGradient,
        "α and β have requires_grad=False: no optimizer will move them. An nn.Parameter learns if "
        "you leave that out.": _Frozen,
        "α and β are there, but forward does not use them: this is f + g, whatever they become.": (
            _Unused
        ),
        "You swapped α and β. At 1 and 1 nobody sees it, but once they move: α belongs to f, β to "
        "g.": _Swapped,
        "You subtracted the message: the formula has a plus, αf + βg.": _Minus,
        "You divided by α + β. The formula is a sum, not a mean.": _Mean,
        "You halved the sum. The formula is a sum, not a mean.": _Halved,
        "You multiplied the two parts: the formula adds them.": _Product,
        "You put α and β through a sigmoid, so that 1 counts as 0.73. They are used as they are.": (
            _Sigmoid
        ),
        "You put α and β through a softmax, so that they share 1. They are used as they are.": (
            _Softmax
        ),
        "forward returns one number, the sum over everything. Each card keeps its own v.": (
            _OneNumber
        ),
        "Only α is a parameter: β will never move. Make it an nn.Parameter, too.": _AlphaAlone,
        "Only β is a parameter: α will never move. Make it an nn.Parameter, too.": _BetaAlone,
        "α and β begin at chance, with torch.randn. They must begin at 1.": _Random,
        "α and β begin at chance, with torch.rand. They must begin at 1.": _RandomShares,
        "α and β begin at 0.5. They must begin at 1, where the model is the article's sum.": _Half,
        "There is one parameter of two numbers, `weights`. Two are wanted, named alpha and beta.": (
            _InOne
        ),
        "α and β are one and the same parameter: when one moves, so does the other. Make two.": (
            _SharedParameter
        ),
        "β is there, but forward does not use it: the message stands alone.": _OnlyAlphaUsed,
        "α is there, but forward does not use it: the picture stands alone.": _OnlyBetaUsed,
        "The only parameter is α, and the message gets 1 − α. β is a number of its own, which "
        "begins at 1.": _OneMinus,
        "α and β have the shape (1, 1), which turns readings (N,) into a table (1, N). Use "
        "torch.tensor(1.0).": _Tables,
        "Both numbers learn, but nobody finds them by name: call them self.alpha and self.beta.": (
            _WithoutNames
        ),
        "The message is missing: forward returns α f alone.": _OnlyF,
        "The picture is missing: forward returns β g alone.": _OnlyG,
        "α and β must begin at 1, where the model is the article's sum. You begin at 0.": _FromZero,
        "You used 1 - α for the message. Then the two weights cannot be chosen freely, and β never "
        "learns.": _OneWeight,
        "One weight serves both: the message must be multiplied by self.beta.": _Shared,
    },
)
