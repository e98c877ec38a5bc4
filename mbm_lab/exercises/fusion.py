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
        "a negative weight": (F, G, -0.9, 0.6),
        "weights that are tensors": (F, G, torch.tensor(0.3), torch.tensor(0.7)),
        "double precision": (F.double(), G.double(), 0.33, 0.47),
        "vectors instead of numbers": (f.view(4, 3), g.view(4, 3), 0.33, 0.47),
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
        "moods far from zero": (three, m + 5),
        "readings far from zero": (three + torch.tensor([[3.0], [-4.0], [1.0]]), m),
        "double precision": (three.double(), m.double()),
        "every second card (strided tensors)": (three[:, ::2], m[::2]),
    }  # fmt: skip


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
        "double precision, every second card": (f.double()[::2], g.double()[::2], m.double()[::2],
                                                0.3, 0.4, 0.5),
    }  # fmt: skip


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
    mistakes={
        "You walked uphill: the step goes against the slope, alpha - learning_rate * slope.": (
            lambda *a: _step(*a, factor=-2.0)
        ),
        "You forgot the factor 2, which comes from the square in the error.": (
            lambda *a: _step(*a, factor=1.0)
        ),
        "You summed over the cards where the bar asks for a mean. With more cards the steps would "
        "become larger and larger.": lambda *a: _step(*a, total=True),
        "You moved α first and used the new α in the slope of β. Compute both slopes, then move "
        "both.": _one_after_the_other,
        "You used g in the slope of α and f in the slope of β: each weight's slope has its own "
        "reading.": _wrong_reading,
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
    """What a module computes, which parameters it registers, and what one backward gives them."""
    module = answer()
    v = module(f, g)
    if v is ...:
        return v
    parameters = dict(module.named_parameters())
    if parameters and isinstance(v, Tensor) and v.requires_grad:
        v.square().sum().backward()
    slopes = {
        name: None if one.grad is None else one.grad.clone() for name, one in parameters.items()
    }
    return {"v": v.detach() if isinstance(v, Tensor) else v, "slopes of the parameters": slopes}


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
        "vectors": (F.repeat(2, 1), G.repeat(2, 1)),
        "no card at all": (F[:0], G[:0]),
    },
    mistakes={
        "α and β are not registered: PyTorch finds no parameters in your module, so no optimizer "
        "will ever move them. Make each an nn.Parameter and store it directly, as self.alpha and "
        "self.beta, not as plain numbers or in a list.": _PlainNumbers,
        "α and β get no slope: .item() or float() turns a parameter into a plain number, and the "
        "way back for the gradient is lost.": _NoGradient,
        "α and β must begin at 1, where the model is the article's sum. You begin at 0.": _FromZero,
        "You used 1 - α for the message. Then the two weights cannot be chosen freely, and β never "
        "learns.": _OneWeight,
        "One weight serves both: the message must be multiplied by self.beta.": _Shared,
    },
)
