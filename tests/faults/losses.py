"""Faults in what losses and scores are given."""

import functools
import random
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from mbm_lab import (
    captioning,
    cnn,
    fusion,
    retrieval,
    speech,
    training,
    translation,
    writing,
)
from tests.faults import Fault
from tests.faults.arguments import Tells, X, Y, fit, trained


def faults(seed: int) -> Iterator[Fault]:
    """All of them; those of `_drawn` are others with another seed."""
    yield from _scores()
    yield from _shapes()
    yield from _kinds()
    yield from _values()
    yield from _legitimate()
    yield from _drawn(random.Random(seed))


def gives(*shape: int) -> Callable[[], nn.Module]:
    """A model whose output has this shape for each example."""

    def made() -> nn.Module:
        torch.manual_seed(0)
        size = int(torch.tensor(shape).prod()) if shape else 1
        return nn.Sequential(
            nn.Linear(3, size),
            nn.Unflatten(1, shape or (1,)),
            nn.Identity() if shape else nn.Flatten(0),
        )

    return made


ELEMENTWISE = {
    "mse_loss": F.mse_loss,
    "nn.MSELoss": nn.MSELoss(),
    "nn.L1Loss": nn.L1Loss(),
    "huber_loss": F.huber_loss,
    "smooth_l1, partial": functools.partial(F.smooth_l1_loss, beta=0.5),
    "sum": nn.MSELoss(reduction="sum"),
    "own square": lambda o, t: (o - t).square().mean(),
    "own, other way round": lambda o, t: ((t - o) ** 2).mean(),
    "own sum by N": lambda o, t: ((o - t) ** 2).sum() / len(t),
    "own root": lambda o, t: torch.sqrt(torch.mean((o - t) ** 2)),
    "own rows": lambda o, t: (o.float() - t.float()).abs().sum(-1).mean(),
    "own R²": lambda o, t: (o - t).square().sum() / (t - t.mean()).square().sum(),
    "own hinge": lambda o, t: (1 - o * t).relu().mean(),
    "fusion's": fusion.mean_squared_error,
    "torch.sub": lambda o, t: torch.sub(o, t).abs().mean(),
    "in place": lambda o, t: (1 * o).sub(t).square().mean(),
}
"""Losses that compare number by number."""


def _shapes() -> Iterator[Fault]:
    n = 8
    for what, loss in ELEMENTWISE.items():
        yield Fault(
            "shapes in losses",
            f"{what}: (N,) and (N, 1)",
            fit(gives(), X, Y[:, None], loss),
            (f"({n},)", f"({n}, 1)"),
        )
        yield Fault(
            "shapes in losses",
            f"{what}: (N, 1) and (N,)",
            fit(gives(1), X, Y, loss),
            (f"({n},)", f"({n}, 1)"),
        )
        yield Fault(
            "shapes in losses",
            f"{what}: (N, N) and (N,)",
            fit(gives(n), X, Y, loss),
            (f"({n},)", f"({n}, {n})"),
        )
        yield Fault(
            "shapes in losses",
            f"{what}: (N, 3) and (N, 1)",
            fit(gives(3), X, Y[:, None], loss),
            (f"({n}, 3)", f"({n}, 1)"),
        )
        yield Fault(
            "shapes in losses",
            f"{what}: validation (N, 1)",
            fit(gives(), X, Y, loss, val=(X, Y[:, None])),
            ("(20,)", "(20, 1)"),
        )
    yield Fault(
        "shapes in losses",
        "(N, 1) and (N, 3)",
        fit(gives(1), X, X, F.mse_loss),
        ("(8, 1)", "(8, 3)"),
    )
    yield Fault(
        "shapes in losses",
        "(N, 5, 1) and (N, 5)",
        fit(gives(5, 1), X, torch.rand(20, 5), F.l1_loss),
    )
    yield Fault(
        "shapes in losses",
        "(N, 4) and (N, 3)",
        fit(gives(4), X, X, F.mse_loss),
        ("(8, 4)", "(8, 3)"),
    )
    yield Fault(
        "shapes in losses",
        "bce: (N, 1) and (N,)",
        fit(gives(1), X, (Y > 0).float(), lambda o, t: F.binary_cross_entropy(o.sigmoid(), t)),
    )
    yield Fault(
        "shapes in losses",
        "bce with logits: (N, 1) and (N,)",
        fit(gives(1), X, (Y > 0).float(), F.binary_cross_entropy_with_logits),
    )
    weighed = torch.stack([Y, Y.abs()], 1)
    yield Fault(
        "shapes in losses",
        "a column of the targets against (N, 1)",
        fit(gives(1), X, weighed, lambda o, t: ((o - t[:, 0]) ** 2 * t[:, 1:]).mean()),
    )


def _kinds() -> Iterator[Fault]:
    classes = torch.arange(20) % 3
    for what, target, names in (
        ("float", classes.float(), ("float32", "long()")),
        ("int32", classes.int(), ("int32", "long()")),
        ("bool", classes.bool(), ("bool", "long()")),
        ("uint8", classes.byte(), ("uint8", "long()")),
        ("(N, 1)", classes[:, None], ("(8, 1)", "[:, 0]")),
        ("(N, 1) float", classes[:, None].float(), ("(8, 1)", "[:, 0]")),
        ("two for each example", torch.stack([classes, classes], 1), ("(8, 2)",)),
        ("too large", classes + 1, ("3", "0 to 2")),
        ("negative", classes - 1, ("-1", "0 to 2")),
    ):
        for name, loss in {
            "cross_entropy": F.cross_entropy,
            "nn.CrossEntropyLoss": nn.CrossEntropyLoss(label_smoothing=0.1),
            "nll_loss": lambda o, t: F.nll_loss(o.log_softmax(1), t),
        }.items():
            yield Fault(
                "targets of classes", f"{name}: {what}", fit(gives(3), X, target, loss), names
            )
    late = classes.clone()
    late[19] = 7
    yield Fault(
        "targets of classes",
        "too large in a later batch",
        fit(gives(3), X, late, F.cross_entropy),
        ("7", "0 to 2"),
    )
    yield Fault(
        "targets of classes",
        "validation too large",
        fit(gives(3), X, classes, F.cross_entropy, val=(X, classes + 1)),
        ("3",),
    )
    yield Fault(
        "targets of classes",
        "one number an example",
        fit(gives(), X, classes, F.cross_entropy),
        ("(8,)",),
    )
    yield Fault(
        "targets of classes",
        "one number an example, float",
        fit(gives(), X, Y, F.cross_entropy),
        ("(8,)",),
    )
    yield Fault(
        "targets of classes",
        "one class only",
        fit(gives(1), X, 0 * classes, F.cross_entropy),
        ("(8, 1)",),
    )
    yield Fault("targets of classes", "quantities", fit(gives(3), X, Y, F.cross_entropy), ("mse",))
    yes = (Y > 0).float()
    for what, target, names in (
        ("int64", yes.long(), ("int64", "float()")),
        ("bool", yes.bool(), ("bool", "float()")),
        ("-1 and 1", 2 * yes - 1, ("-1",)),
        ("0 to 255", 255 * yes, ("255",)),
    ):
        yield Fault(
            "targets of yes and no",
            what,
            fit(gives(), X, target, F.binary_cross_entropy_with_logits),
            names,
        )
    yield Fault(
        "targets of yes and no",
        "logits without with_logits",
        fit(gives(), X, yes, F.binary_cross_entropy),
        ("with_logits",),
    )
    for what, loss, target in (
        ("cross_entropy", lambda o, t: F.cross_entropy(t, o), classes),
        ("bce with logits", lambda o, t: F.binary_cross_entropy_with_logits(t, o), yes),
        ("bce", lambda o, t: F.binary_cross_entropy(t, o.sigmoid()), yes),
        ("cross_entropy of shares", lambda o, t: F.cross_entropy(t, o), X.softmax(1)),
    ):
        model = gives(3) if "cross" in what and "b" not in what[:1] else gives()
        yield Fault("swapped arguments", what, fit(model, X, target, loss), ("(output, target)",))


def _values() -> Iterator[Fault]:
    for what, loss, names in (
        ("a vector", functools.partial(F.mse_loss, reduction="none"), ("(8,)", "mean")),
        ("a vector of one's own", lambda o, t: (o - t) ** 2, ("(8,)", "mean")),
        ("a number", lambda o, t: F.mse_loss(o, t).item(), ("number", "item")),
        ("None", lambda o, t: None, ("None",)),
        ("a tuple", lambda o, t: (F.mse_loss(o, t), 0), ("tuple",)),
        ("an array", lambda o, t: F.mse_loss(o, t).detach().numpy(), ()),
        ("a detached value", lambda o, t: F.mse_loss(o.detach(), t), ("gradient",)),
        ("rounded outputs", lambda o, t: (o > 0).eq(t > 0).float().mean(), ("gradient",)),
    ):
        yield Fault("values of losses", what, fit(gives(), X, Y, loss), names)


def _legitimate() -> Iterator[Fault]:
    classes = torch.arange(20) % 3

    def right(what: str, model: object, target: torch.Tensor, loss: Callable, **options):
        return Fault(
            "odd losses, right", what, fit(model, X, target, loss, **options), right=trained
        )

    mse = F.mse_loss
    yield right("takes the column itself", gives(1), Y, lambda o, t: mse(o[:, 0], t))
    yield right("squeezes", gives(1), Y, lambda o, t: mse(o.squeeze(), t))
    yield right("flattens both", gives(1), Y, lambda o, t: mse(o.flatten(), t.flatten()))
    yield right("makes a column of the targets", gives(1), Y, lambda o, t: mse(o, t[:, None]))
    yield right("unsqueezes", gives(1), Y, lambda o, t: (o - t.unsqueeze(1)).abs().mean())
    yield right("views as", gives(1), Y, lambda o, t: mse(o, t.view_as(o)))
    yield right("reads two of three columns", gives(3), Y, lambda o, t: mse(o[:, 1], t))
    yield right("quantiles by l1_loss", gives(3), Y, lambda o, t: F.l1_loss(o, t[:, None]))
    yield right("quantiles", gives(3), Y, lambda o, t: (t[:, None] - o).relu().mean())
    yield right(
        "every pair on purpose", gives(), Y, lambda o, t: (o[:, None] - t[None]).abs().mean()
    )
    yield right("does not look at the targets", gives(1), Y, lambda o, t: o.square().mean())
    yield right("(N, 1) both", gives(1), Y[:, None], nn.MSELoss())
    yield right("an example at a time", gives(1), Y, mse, batch_size=1)
    yield right("cross-entropy", gives(3), classes, F.cross_entropy)
    yield right("cross-entropy where C is N", gives(8), classes, F.cross_entropy)
    yield right("cross-entropy of shares", gives(3), X.softmax(1), nn.CrossEntropyLoss())
    yield right(
        "cross-entropy at each place", gives(4, 5), torch.zeros(20, 5).long(), F.cross_entropy
    )
    yield right(
        "cross-entropy with ignored targets",
        gives(3),
        classes.masked_fill(classes == 1, -100),
        F.cross_entropy,
    )
    yield right(
        "cross-entropy with another ignored target",
        gives(3),
        classes,
        nn.CrossEntropyLoss(ignore_index=2),
    )
    yield right("nll", gives(3), classes, lambda o, t: F.nll_loss(o.log_softmax(1), t))
    yield right("shares as 0 or 1", gives(), (Y > 0).float(), nn.BCEWithLogitsLoss())
    yield right(
        "smoothed 0 or 1",
        gives(1),
        (Y > 0).float(),
        lambda o, t: F.binary_cross_entropy_with_logits(o, 0.9 * t[:, None] + 0.05),
    )
    yield right(
        "kl_div",
        gives(3),
        X.softmax(1),
        lambda o, t: F.kl_div(o.log_softmax(1), t, reduction="batchmean"),
    )
    yield right(
        "kl_div, reversed on purpose",
        gives(3),
        X.softmax(1),
        lambda o, t: F.kl_div(t.log(), o.softmax(1), reduction="batchmean"),
    )
    yield right("mse, swapped", gives(), Y, lambda o, t: mse(t, o))
    yield right("a weight a class", gives(3), classes, nn.CrossEntropyLoss(weight=torch.ones(3)))
    yield right(
        "standardised by the targets' mean", gives(3), X, lambda o, t: ((o - t.mean(0)) ** 2).mean()
    )
    yield right("whole numbers as quantities", gives(), classes, lambda o, t: mse(o, t.float()))
    yield right(
        "double targets, own loss", gives(), Y.double(), lambda o, t: (o - t).square().mean()
    )
    yield Fault(
        "odd losses, right",
        "contrastive",
        fit(
            lambda: Tells(lambda layer, x: layer(x) @ layer(x).T, nn.Linear(3, 4)),
            X,
            torch.arange(20) // 2,
            retrieval.info_nce,
        ),
        right=trained,
    )
    yield Fault(
        "odd losses, right",
        "pulled together",
        fit(
            lambda: Tells(lambda layer, x: layer(x) @ layer(x).T, nn.Linear(3, 4)),
            X,
            torch.arange(20),
            retrieval.pull_together,
        ),
        right=trained,
    )
    yield right("the next word", gives(5, 9), torch.ones(20, 5).long(), writing.next_word_loss)
    yield right(
        "CTC",
        gives(6, 5),
        torch.ones(20, 2).long(),
        lambda o, t: speech.ctc_loss(o.log_softmax(2), t),
    )
    yield right("a vector of one number", gives(), Y, lambda o, t: mse(o, t)[None])


# --- Scores

F3, G3, M3 = torch.tensor([[0.1, 0.5, -0.3, 0.7], [0.4, -0.2, 0.1, 0.9], [0.2, 0.1, 0.0, 0.8]])

SCORES = {
    "r_squared": lambda a, b, c: training.r_squared(a, b),
    "mean_squared_error": lambda a, b, c: fusion.mean_squared_error(a, b),
    "weighted_sum": lambda a, b, c: fusion.weighted_sum(a, b, 0.5, 0.5),
    "best_weights": lambda a, b, c: fusion.best_weights(c, a, b),
    "best_weights, f": lambda a, b, c: fusion.best_weights(a, b, c),
    "error_surface": lambda a, b, c: fusion.error_surface(a, b, c, c, c),
    "descend": lambda a, b, c: fusion.descend(c, a, b, steps=2),
    "largest_rate": lambda a, b, c: fusion.largest_rate(a, b),
    "random_search": lambda a, b, c: fusion.random_search(a, c, b, 2),
    "posterior_mean": lambda a, b, c: fusion.posterior_mean(a, b, 0.3, 0.3, 0.3),
    "compare": lambda a, b, c: cnn.compare("both", a, b),
}
"""Scores, and what is fitted by one, of two tensors that belong together and a third."""


def _scores() -> Iterator[Fault]:
    column = F3[:, None]
    for name, score in SCORES.items():
        for what, a, b in (
            ("(N, 1) and (N,)", column, G3),
            ("(N,) and (N, 1)", G3, column),
            ("(N,) and (1,)", G3, F3[:1]),
            ("(1,) and (N,)", F3[:1], G3),
            ("(N, D) and (N,)", F3.expand(4, 4), G3),
            ("(N, 1) and (1, N)", column, G3[None]),
            ("(N,) and (M,)", G3, F3[:3]),
            ("(N,) and ()", G3, F3[0]),
        ):
            shapes = tuple(str(tuple(one.shape)) for one in (a, b))
            names = shapes if name in ("r_squared", "mean_squared_error", "weighted_sum") else ()
            yield Fault(
                "shapes in scores",
                f"{name}: {what}",
                lambda _, s=score, a=a, b=b: s(a, b, M3),
                names,
            )
        if name not in ("weighted_sum",):
            yield Fault(
                "shapes in scores", f"{name}: nothing", lambda _, s=score: s(F3[:0], F3[:0], F3[:0])
            )
        yield Fault(
            "shapes in scores", f"{name}: a list", lambda _, s=score: s(F3.tolist(), G3, M3)
        )
    yield Fault(
        "scores", "r_squared of NaN", lambda _: training.r_squared(F3 / 0 * 0, G3), ("nan",)
    )
    yield Fault(
        "scores", "r_squared of equal targets", lambda _: training.r_squared(F3, torch.ones(4))
    )
    yield Fault(
        "scores",
        "best_weights with NaN",
        lambda _: fusion.best_weights(F3 / 0 * 0, G3, M3),
        ("f hold", "nan"),
    )
    for name in ("f_noise", "g_noise"):
        for sd in (0, -0.3, "0.3", float("nan")):
            noises = {"f_noise": 0.3, "g_noise": 0.3, name: sd}
            yield Fault(
                "scores",
                f"inverse_variance_weights: {name}={sd!r}",
                lambda _, n=noises: fusion.inverse_variance_weights(**n),
                (name,),
            )
            yield Fault(
                "scores",
                f"bayes_weights: {name}={sd!r}",
                lambda _, n=noises: fusion.bayes_weights(**n, mood_sd=0.3),
                (name,),
            )
    for rate in (0, -1, float("nan"), "0.5"):
        yield Fault(
            "scores",
            f"descend: learning_rate={rate!r}",
            lambda _, r=rate: fusion.descend(F3, G3, M3, learning_rate=r),
            ("learning_rate",),
        )
    yield Fault(
        "scores",
        "standardise by sds of the rows",
        lambda _: fusion.standardise(torch.rand(4, 4, 3), sd=torch.rand(4)),
        ("sd",),
    )
    two = ["a red face beside a bat", "a calm face in the rain"]
    three = [*two, "a mouse"]
    by_texts = {
        "bleu": writing.bleu,
        "exact": writing.exact,
        "error_rates": speech.error_rates,
        "factors_right": captioning.factors_right,
        "text_limit": translation.text_limit,
        "paste": translation.paste,
    }
    for name, score in by_texts.items():
        for what, written, true, named in (
            ("fewer written", two, three, ("2", "3")),
            ("fewer true", three, two, ("2", "3")),
            ("none", [], [], ()),
            ("none written", [], two, ()),
            ("a text", "abc", "abc", ("list",)),
            ("a text and a list", "ab", two, ("list",)),
            ("None in it", ["a", None], two, ("None",)),
            ("numbers", [1, 2], two, ()),
            ("None", None, two, ("None",)),
        ):
            yield Fault(
                "scores of sentences",
                f"{name}: {what}",
                lambda _, s=score, w=written, t=true: s(w, t),
                named,
            )
    yield Fault(
        "scores of sentences",
        "bleu: one true text too few",
        lambda _: writing.bleu(two, [["a", "b"], ["a"]]),
        ("1 to 2",),
    )
    yield Fault("scores of sentences", "bleu: no true text", lambda _: writing.bleu(two, [[], []]))
    yield Fault(
        "scores of sentences",
        "bleu: another language",
        lambda _: writing.bleu(two, two, "klingon"),
        ("klingon",),
    )
    yield Fault(
        "scores of sentences",
        "error_rates: no true word",
        lambda _: speech.error_rates(two, ["", " "]),
    )
    yield Fault(
        "scores of sentences",
        "limit: fewer captions",
        lambda _: captioning.limit(torch.rand(3, 3, 4, 4), two),
        ("3", "2"),
    )
    yield Fault(
        "shapes in losses",
        "info_nce: scores (N, M)",
        lambda _: retrieval.info_nce(torch.rand(4, 3), torch.arange(4)),
        ("(4, 3)",),
    )
    yield Fault(
        "shapes in losses",
        "info_nce: targets (N, 1)",
        lambda _: retrieval.info_nce(torch.rand(4, 4), torch.arange(4)[:, None]),
        ("(4, 1)",),
    )
    yield Fault(
        "shapes in losses",
        "pull_together: scores (N, M)",
        lambda _: retrieval.pull_together(torch.rand(4, 3)),
        ("(4, 3)",),
    )
    yield Fault(
        "odd losses, right",
        "bleu of the same sentences",
        lambda _: writing.bleu(tuple(two), [(one,) for one in two]),
        right=lambda score: score > 99,
    )


def _drawn(rng: random.Random) -> Iterator[Fault]:
    """Two different shapes that PyTorch would broadcast, to losses of every kind."""
    for number in range(24):
        what, loss = rng.choice(list(ELEMENTWISE.items()))
        count = rng.randint(2, 6)
        ours, theirs = rng.choice([((), (1,)), ((1,), ()), ((count,), (1,)), ((1,), (count,))])
        target = torch.rand(12, *theirs)
        yield Fault(
            "drawn",
            f"{number}: {what}: (N, {ours}) and (N, {theirs})",
            fit(gives(*ours), X[:12], target, loss, batch_size=rng.randint(2, 12)),
        )
