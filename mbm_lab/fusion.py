"""v = αf + βg: fusing what several encoders say (lesson 04).

The first half works on *readings*: f, g and the mood m are (N,) tensors, one number a card, and the
best α and β are known exactly. The second half works on *features*: vectors (B, dim), one a
modality.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import arguments, datasets, postcards

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer


class Weights(NamedTuple):
    """The weights of a fusion of two readings: v = alpha * f + beta * g + intercept."""

    alpha: float
    beta: float
    intercept: float = 0.0


# --- Two readings, two weights


def weighted_sum(f: Tensor, g: Tensor, alpha: float | Tensor, beta: float | Tensor) -> Tensor:
    """v = αf + βg, for readings (N,) or feature vectors (N, dim) of one shape.

    Raises ValueError when f and g have different shapes (broadcasting would add every f to every
    g).
    """
    arguments.check_one_shape("weighted_sum", f=f, g=g)
    v = alpha * f + beta * g
    return v


def mean_squared_error(v: Tensor, m: Tensor) -> Tensor:
    """The mean of (v - m)² over the cards: a tensor with one number.

    Raises ValueError when v and m have different shapes (broadcasting would compare every v with
    every m), or hold no number.
    """
    arguments.check_one_shape("mean_squared_error", v=v, m=m)
    arguments.check_some("mean_squared_error", v)
    return (v - m).square().mean()


def best_weights(f: Tensor, g: Tensor, m: Tensor) -> Weights:
    """The α, β and intercept with the least mean squared error on these cards.

    Least squares (Gauss, 1809): (α, β) = Cov(f, g)⁻¹ Cov((f, g), m); the intercept then makes the
    mean error zero. f, g, m: (N,), computed in double precision.
    Raises ValueError when one reading is constant or a multiple of the other, since then no α and β
    are best; and when the three are not (N,) of one length, or hold NaN.
    """
    arguments.check_readings("best_weights", f=f, g=g, m=m)
    F = torch.stack([f, g]).double()  # (2, N)
    m = m.double()
    F_centred, m_centred = F - F.mean(1, keepdim=True), m - m.mean()
    covariance = F_centred @ F_centred.T / len(m)  # (2, 2)
    if torch.linalg.cond(covariance) > 1e10:
        f_sd, g_sd = covariance.diagonal().sqrt().tolist()
        raise ValueError(
            "f and g say the same thing (or one of them is constant), so no single α and β are "
            f"best. Their standard deviations are {f_sd:.3g} and {g_sd:.3g}: pass two readings "
            "that differ."
        )
    alpha, beta = torch.linalg.solve(covariance, F_centred @ m_centred / len(m)).tolist()
    intercept = m.mean() - alpha * F[0].mean() - beta * F[1].mean()
    return Weights(alpha, beta, intercept.item())


def bayes_weights(f_noise: float, g_noise: float, mood_sd: float) -> Weights:
    """The best weights of two perfect readings f = m + noise, g = m + noise, from the noises alone.

    The mean of the posterior of m (Bayes, 1763): each witness counts by its precision 1 / sd², and
    so does the prior, which holds v back towards 0. sd: standard deviations of the noises and of
    the mood. Raises ValueError when one is not above 0.
    """
    for name, sd in {"f_noise": f_noise, "g_noise": g_noise, "mood_sd": mood_sd}.items():
        arguments.check_positive(name, sd, 0.3)
    f_precision, g_precision, prior = 1 / f_noise**2, 1 / g_noise**2, 1 / mood_sd**2
    total = f_precision + g_precision + prior
    return Weights(f_precision / total, g_precision / total)


def posterior_mean(
    expression: Tensor, sentiment: Tensor, f_noise: float, g_noise: float, mood_sd: float
) -> Tensor:
    """The best answer to a card of which expression and sentiment are known without fault: (N,).

    The mean of m given both (Bayes, 1763), as `bayes_weights`, but also right at the ends of the
    scale, where mood and ratings were cut off at -1 and 1: what is 1 may have been more. Computed
    on a grid of moods. No reader of the cards has a smaller mean squared error over all cards that
    the generator may draw. Raises ValueError when the two are not (N,) of one length, and when a
    standard deviation is not above 0.
    """
    arguments.check_fractions("posterior_mean", expression=expression, sentiment=sentiment)
    for name, sd in {"f_noise": f_noise, "g_noise": g_noise, "mood_sd": mood_sd}.items():
        arguments.check_positive(name, sd, 0.3)
    normal = torch.distributions.Normal(0.0, 1.0)
    moods = torch.linspace(-1, 1, 801, dtype=torch.float64)
    prior = torch.exp(normal.log_prob(moods / mood_sd)) / mood_sd * (moods[1] - moods[0])
    prior[[0, -1]] = normal.cdf(torch.tensor(-1 / mood_sd, dtype=torch.float64))

    def likelihood(reading: Tensor, noise: float) -> Tensor:
        """How likely this rating is for each mood: (N, 801); at an end all that was cut off."""
        away = (reading.double()[:, None] - moods) / noise
        inside = torch.exp(normal.log_prob(away)) / noise
        beyond = normal.cdf(-away * reading.sign()[:, None])
        return torch.where(reading.abs()[:, None] >= 1, beyond, inside)

    weight = prior * likelihood(expression, f_noise) * likelihood(sentiment, g_noise)
    return ((weight @ moods) / weight.sum(1)).to(expression.dtype)


def inverse_variance_weights(f_noise: float, g_noise: float) -> Weights:
    """The familiar rule: weigh each unbiased witness by 1 / sd², so that α + β = 1.

    No prior. Raises ValueError when one is not above 0.
    """
    for name, sd in {"f_noise": f_noise, "g_noise": g_noise}.items():
        arguments.check_positive(name, sd, 0.3)
    f_precision, g_precision = 1 / f_noise**2, 1 / g_noise**2
    return Weights(
        f_precision / (f_precision + g_precision), g_precision / (f_precision + g_precision)
    )


def error_surface(f: Tensor, g: Tensor, m: Tensor, alphas: Tensor, betas: Tensor) -> Tensor:
    """The mean squared error of v = αf + βg + best intercept for every pair (α, β): (len(betas),
    len(alphas)).

    Expands the square, so that the cards are visited once and not once for each pair. Raises
    ValueError when f, g and m are not (N,) of one length.
    """
    arguments.check_fractions("error_surface", f=f, g=g, m=m)
    arguments.check_vector("error_surface", alphas=alphas)
    arguments.check_vector("error_surface", betas=betas)
    f, g, m = f - f.mean(), g - g.mean(), m - m.mean()
    a, b = alphas[None, :], betas[:, None]
    return (
        a**2 * (f * f).mean()
        + b**2 * (g * g).mean()
        + (m * m).mean()
        + 2 * a * b * (f * g).mean()
        - 2 * a * (f * m).mean()
        - 2 * b * (g * m).mean()
    )


def descend(
    f: Tensor,
    g: Tensor,
    m: Tensor,
    start: tuple[float, float] = (0.0, 0.0),
    learning_rate: float = 0.5,
    steps: int = 200,
) -> Tensor:
    """Gradient descent on α and β: the path, (steps + 1, 3), from `start`; the third column is the
    intercept that is best for each α and β.

    Each step moves against the slope of the mean squared error (Cauchy, 1847). f, g and m are taken
    as differences from their means, so that the intercept has no curvature of its own: the path
    arrives if the learning rate is less than `largest_rate`. Raises ValueError when f, g and m are
    not finite (N,) of one length, and when the rate is not above 0.
    """
    arguments.check_readings("descend", f=f, g=g, m=m)
    arguments.check_positive("learning_rate", learning_rate, 0.5)
    arguments.check_count("steps", steps, 0, 200)
    centred_f, centred_g, centred_m = (x.double() - x.double().mean() for x in (f, g, m))
    alpha, beta = (torch.tensor(value, dtype=torch.float64) for value in start)
    path = [torch.stack([alpha, beta])]
    for _ in range(steps):
        error = weighted_sum(centred_f, centred_g, alpha, beta) - centred_m
        slope_alpha = 2 * (error * centred_f).mean()
        slope_beta = 2 * (error * centred_g).mean()
        alpha, beta = alpha - learning_rate * slope_alpha, beta - learning_rate * slope_beta
        path.append(torch.stack([alpha, beta]))
    weights = torch.stack(path)  # (steps + 1, 2)
    means = torch.stack([f.double().mean(), g.double().mean()])
    intercept = m.double().mean() - weights @ means
    return torch.cat([weights, intercept[:, None]], 1)


def largest_rate(f: Tensor, g: Tensor) -> float:
    """The learning rate at which gradient descent on α and β stops arriving: 2 / curvature.

    The curvature of the mean squared error is twice the covariance of f and g; its largest
    eigenvalue counts. A step multiplies the distance along that direction by 1 - rate · curvature,
    which is -1 there. Raises ValueError when f and g are not (N,) of one length.
    """
    arguments.check_readings("largest_rate", f=f, g=g)
    curvature = 2 * torch.cov(torch.stack([f, g]).double(), correction=0)
    return 2 / float(torch.linalg.eigvalsh(curvature)[-1])


def random_search(
    f: Tensor, g: Tensor, m: Tensor, tries: int = 200, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random search (Rastrigin, 1963): tries of (α, β) drawn evenly from the square -1 to 1, and
    their errors.

    Returns (tries, 2) and (tries,). The intercept of each is its best. Raises ValueError when f, g
    and m are not (N,) of one length.
    """
    arguments.check_fractions("random_search", f=f, g=g, m=m)
    arguments.check_count("tries", tries, 1, 200)
    arguments.check_seed(seed)
    points = 2 * torch.rand(tries, 2, generator=torch.Generator().manual_seed(seed)) - 1
    errors = [error_surface(f, g, m, a[None], b[None])[0, 0] for a, b in points]
    return points, torch.stack(errors)


def standardise(values: Tensor, mean: Tensor | None = None, sd: Tensor | None = None) -> Tensor:
    """Shifts and scales (N,) or (N, dim) to mean 0 and standard deviation 1 over the cards.

    Pass the mean and sd of other cards (the ones that were fitted on) to treat new cards alike.
    Raises ValueError when these are not one number, or one for each of the dim features.
    """
    mean = values.mean(0) if mean is None else mean
    sd = values.std(0, correction=0) if sd is None else sd
    arguments.check_columns("standardise", values, mean=mean, sd=sd)
    return (values - mean) / sd.clamp(min=1e-6)


# --- Feature vectors: ways to fuse
# Each takes {modality: (B, dim)} and returns (B, out_dim). `modalities` fixes names and order.

LETTERS = ("alpha", "beta", "gamma", "delta")


class WeightedSum(nn.Module):
    """v = αf + βg (+ γh + δk): one learned number a modality; the article's formula.

    Its parameters are named alpha, beta, … in the order of `modalities`. With the article's code,
    which sums f + g, they would stay at their starting value 1.
    Raises ValueError for more than four modalities, or none.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int):
        super().__init__()
        if not 1 <= len(modalities) <= len(LETTERS):
            raise ValueError(
                f"WeightedSum fuses one to {len(LETTERS)} modalities, and got {len(modalities)}: "
                "change their number."
            )
        self.letters = dict(zip(modalities, LETTERS, strict=False))
        for letter in self.letters.values():
            self.register_parameter(letter, nn.Parameter(torch.tensor(1.0)))
        self.out_dim = dim

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        weighed = [getattr(self, letter) * features[name] for name, letter in self.letters.items()]
        return torch.stack(weighed).sum(0)  # (B, dim)


class Concat(nn.Module):
    """v = [f; g], the vectors side by side.

    A linear head on it contains every weighted sum.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int):
        super().__init__()
        self.modalities, self.out_dim = modalities, len(modalities) * dim

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return torch.cat([features[name] for name in self.modalities], dim=1)  # (B, M * dim)


class DotProduct(nn.Module):
    """v = f · g / √dim: how much two vectors agree, one number.

    Lesson 07 searches with it. Raises ValueError unless there are two modalities.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int):
        super().__init__()
        if len(modalities) != 2:
            raise ValueError(
                f"A dot product takes two modalities, and got {len(modalities)}: name two."
            )
        self.modalities, self.out_dim = modalities, 1

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        f, g = (features[name] for name in self.modalities)
        return (f * g).sum(1, keepdim=True) / math.sqrt(f.shape[1])  # (B, 1)


class Gated(nn.Module):
    """A gate for each modality, looking at all of them, decides how much of each vector passes.

    v = Σ σ(W [f; g]) ⊙ f, after the gated multimodal unit (Arevalo et al., 2017): α and β that
    depend on the card, one for each feature.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int):
        super().__init__()
        self.modalities, self.out_dim = modalities, dim
        self.gates = nn.ModuleDict(
            {name: nn.Linear(len(modalities) * dim, dim) for name in modalities}
        )

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        everything = torch.cat([features[name] for name in self.modalities], dim=1)  # (B, M * dim)
        passed = [
            torch.sigmoid(self.gates[name](everything)) * features[name] for name in self.modalities
        ]
        return torch.stack(passed).sum(0)  # (B, dim)


class LowRankTensor(nn.Module):
    """All products of a feature of f with a feature of g, through a low-rank bottleneck.

    v = Σ over `rank` of (W_f [f; 1]) ⊙ (W_g [g; 1]) (Liu et al., 2018). The 1 keeps f and g
    themselves among the products. The factors are registered parameters: every one of them learns.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int, rank: int = 4):
        super().__init__()
        self.modalities, self.out_dim = modalities, dim // 2
        self.rank = rank
        self.factors = nn.ModuleDict(
            {name: nn.Linear(dim, rank * self.out_dim) for name in modalities}
        )

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        product = None
        for name in self.modalities:
            factor = self.factors[name](
                features[name]
            )  # (B, rank * out_dim); the bias is the appended 1
            product = factor if product is None else product * factor
        return product.unflatten(1, (self.rank, self.out_dim)).sum(1)  # (B, out_dim)


class CrossAttention(nn.Module):
    """The sub-models "communicate": each modality asks the others, and adds what it hears.

    A vector is cut into `pieces`; the pieces of one modality are the queries, those of the others
    are the keys and values of scaled dot-product attention (Vaswani et al., 2017). Returns the
    vectors side by side.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int, pieces: int = 4):
        super().__init__()
        if dim % pieces:
            raise ValueError(
                f"A vector of {dim} numbers cannot be cut into {pieces} equal pieces: change dim "
                "or pieces."
            )
        self.modalities, self.pieces, self.out_dim = modalities, pieces, len(modalities) * dim
        size = dim // pieces
        self.place = nn.ParameterDict(
            {name: nn.Parameter(0.1 * torch.randn(pieces, size)) for name in modalities}
        )
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        cut = {
            name: features[name].unflatten(1, (self.pieces, -1)) + self.place[name]
            for name in self.modalities
        }  # (B, pieces, size)
        heard = []
        for name in self.modalities:
            others = torch.cat([cut[other] for other in self.modalities if other != name], dim=1)
            scores = (
                self.query(cut[name]) @ self.key(others).mT
            )  # (B, pieces, pieces of the others)
            attention = (scores / math.sqrt(others.shape[-1])).softmax(-1)
            heard.append(features[name] + (attention @ self.value(others)).flatten(1))
        return torch.cat(heard, dim=1)  # (B, M * dim)


def head(in_dim: int, hidden: int, outputs: int = 1) -> nn.Sequential:
    """A small network that reads one number, or several, off a fused vector: (B, in_dim) to
    (B, outputs).
    """
    return nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def parameter_count(model: nn.Module) -> int:
    """How many numbers a model can learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matched_head(fusion: nn.Module, budget: int, outputs: int = 1) -> nn.Sequential:
    """The head that brings fusion + head as near as possible to `budget` parameters.

    Fusions must be compared at one size, or the larger one wins for being larger.
    Raises ValueError when the fusion alone is already too large.
    """
    left = budget - parameter_count(fusion)
    # a head has hidden * (out_dim + 1 + outputs) + outputs parameters
    hidden = round((left - outputs) / (fusion.out_dim + 1 + outputs))
    if hidden < 1:
        raise ValueError(
            f"{type(fusion).__name__} alone has more than {budget} parameters: raise the budget."
        )
    return head(fusion.out_dim, hidden, outputs)


# --- The whole model


def drop_modalities(features: dict[str, Tensor], p: float) -> dict[str, Tensor]:
    """Modality dropout: each card loses each modality with probability p, but never all of them.

    A lost modality's features are zeros, which is their mean once they are standardised (Neverova
    et al., 2016).
    """
    names = list(features)
    first = features[names[0]]
    kept = torch.rand(len(first), len(names), device=first.device) >= p  # (B, M)
    alone = torch.randint(len(names), (len(first),), device=first.device)
    nothing_left = ~kept.any(1)
    kept[nothing_left, alone[nothing_left]] = True
    return {
        name: values * kept[:, i].to(values.dtype).view(-1, *[1] * (values.ndim - 1))
        for i, (name, values) in enumerate(features.items())
    }


class MultimodalModel(nn.Module):
    """The whole model: an encoder for each modality, by name, a fusion, a head. Lessons 04 and 05.

    forward takes {modality: inputs} and returns (B,): the head's one number; of a head with several
    (B, outputs). With modality_dropout > 0 it learns to do without one modality, and then accepts
    inputs in which one is missing.

    Raises ValueError for an unknown modality, and without modality_dropout for a missing one.
    """

    def __init__(
        self,
        encoders: dict[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module,
        modality_dropout: float = 0.0,
    ):
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion, self.head = fusion, head
        self.modality_dropout = modality_dropout

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        known = list(self.encoders)
        for name in inputs:
            if name not in known:
                raise arguments.ArgumentError(
                    f'This model has no modality "{name}": it has {" and ".join(known)}. '
                    "Leave it out, or check its name."
                )
        features = {name: self.encoders[name](inputs[name]) for name in known if name in inputs}
        missing = [name for name in known if name not in inputs]
        if missing and (self.modality_dropout == 0 or not features):
            raise arguments.ArgumentError(
                f'The modality "{missing[0]}" is missing: this model reads {" and ".join(known)}. '
                "Pass it, or train with modality_dropout so that the model learns to do without."
            )
        if self.training and self.modality_dropout > 0:
            features = drop_modalities(features, self.modality_dropout)
        for name in missing:
            features[name] = torch.zeros_like(next(iter(features.values())))
        fused = self.fusion(features)  # (B, out_dim)
        return self.head(fused).squeeze(1)  # (B,), or (B, outputs) for a head of several


class WithReadings(nn.Module):
    """A model whose encoders are readers, with their readings in view: v, f, g, … as (B, 1 + M).

    Its loss can hold each reader to a rating of its own while v learns the mood (lesson 05). It
    shares all parameters with the model that it is given.
    """

    def __init__(self, model: MultimodalModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        read = {name: encoder(inputs[name]) for name, encoder in self.model.encoders.items()}
        v = self.model.head(self.model.fusion(read))  # (B, 1)
        return torch.cat([v, *read.values()], 1)


# --- What is asked of α and β


def hand_made(cards: datasets.Postcards, counter: CountVectorizer) -> Tensor:
    """Features without any learning, as one made them before neural networks: (N, number).

    counter: scikit-learn's, fitted on messages; it counts words, or pairs of words. Beside its
    counts stands a grey picture of 16 × 16 pixels.
    """
    counts = torch.tensor(counter.transform(cards.messages).toarray()).float()
    grey = nn.functional.adaptive_avg_pool2d(cards.images.mean(1), 16).flatten(1)
    return torch.cat([grey, counts], 1)


RIDGE = np.logspace(-1, 4, 26)
"""The strengths of ridge among which `RidgeCV` chooses, on the cards that it is fitted on."""

ALLOWANCE = 16
"""Four standard deviations, squared: see `limit_of`."""


def limit_of(cards: datasets.Postcards) -> float:
    """The R² of the mood on these cards that nobody reaches who has not seen their moods.

    The posterior mean p from expression and sentiment is the best over all cards; on N of them
    another answer may be better by luck. If it differs from p by d, the sum of its squared errors
    is less than that of p by 2 Σ d · (m - p) - Σ d², of which the mean is -Σ d² and the standard
    deviation 2 σ √(Σ d²), σ being the error of p. So it is less by 16 σ² or more only where four
    standard deviations are passed, whatever d is: R² gains at most 16 (1 - R²) / N.
    """
    from sklearn.metrics import r2_score  # takes long to import

    best = posterior_mean(
        cards.expression, cards.sentiment, postcards.PICTURE_NOISE, postcards.MESSAGE_NOISE,
        postcards.MOOD_SD,
    )  # fmt: skip
    reached = r2_score(cards.mood, best)
    return reached + ALLOWANCE * (1 - reached) / len(cards.mood)
