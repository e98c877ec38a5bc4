"""The exercises of lesson 07: searching, and what pulls and pushes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import captioning, datasets, preprocessing, stored
from mbm_lab import retrieval as lesson
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. Predict: pull, and nothing else


def _pull_alone() -> str:
    """Trains with the pulling loss alone, and looks at the loss and at the search."""
    train, test = datasets.load_postcards("train"), datasets.load_postcards("test")[:200]
    _, vocabulary = stored.load("dual_encoder")
    torch.manual_seed(0)
    model = lesson.DualEncoder(len(vocabulary))
    model.log_scale.requires_grad_(False).zero_()
    features = captioning.image_features(train.images)
    history = lesson.train_dual_encoder(
        model, features, train.captions, vocabulary, lesson.pull_together, epochs=8
    )
    tokens = preprocessing.text_to_tensor(test.captions, vocabulary)
    with torch.no_grad():
        f, g = model.image(captioning.image_features(test.images)), model.text(tokens)
    found = lesson.recall(lesson.search(g, f, 5), test.captions, test.captions, 5)
    if history.train_loss[-1] > 0.3:
        return "c"
    return "a" if found.float().mean() > 0.5 else "b"


pull = Choice(
    lesson="07",
    name="pull",
    title="Predict: pull, and nothing else",
    minutes=3,
    difficulty=1,
    hints=(
        "Look for the easiest way in which f and g can make this loss 0.",
        "What if f gave the same vector for every picture, and g the same for every text?",
    ),
    why="If f and g answer every input with one and the same vector, each pair agrees exactly and "
    "the loss is 0. Nothing in this loss asks that different cards have different vectors.",
    options={
        "a": "the loss falls, and pictures find their texts",
        "b": "the loss falls nearly to 0, but most texts do not find their pictures",
        "c": "the loss does not fall",
    },
    answer="b",
    wrong={
        "a": "Must a picture be different from the others to be near its own text?",
        "c": "There is a very easy way to make this loss small. Gradient descent finds it.",
    },
    truth=_pull_alone,
)


# --- 2. The contrastive loss


def my_info_nce(scores: Tensor) -> Tensor:
    """The contrastive loss of scores (N, N): a tensor with one number."""
    pairs = torch.arange(len(scores))
    find_text = torch.nn.functional.cross_entropy(scores, pairs)
    find_picture = torch.nn.functional.cross_entropy(scores.T, pairs)
    return (find_text + find_picture) / 2


def _scores(size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(size, size, generator=generator, dtype=dtype)


def _info_nce_cases() -> Cases:
    return {
        "two pairs, all scores 0": (torch.zeros(2, 2),),
        "two pairs": (torch.tensor([[2.0, 0.0], [1.0, 3.0]]),),
        "the three pairs of section 1": (
            torch.tensor([[0.8, 0.6, 0.0], [0.96, 1.0, 0.8], [0.6, 0.8, 1.0]]),
        ),
        "one pair": (torch.tensor([[5.0]]),),
        "seven pairs": (_scores(7, 0),),
        "double precision": (_scores(4, 1, torch.float64),),
        "a strided table": (_scores(10, 2)[::2, ::2],),
        "large scores": (30 * _scores(5, 3),),
    }


def _sum_not_mean(scores: Tensor) -> Tensor:
    return 2 * my_info_nce(scores)


def _over_all(scores: Tensor) -> Tensor:
    return -scores.flatten().log_softmax(0).unflatten(0, scores.shape).diagonal().mean()


info_nce = Exercise(
    lesson="07",
    name="info_nce",
    title="The contrastive loss",
    minutes=10,
    difficulty=2,
    hints=(
        "Each row is a choice among N texts, and the right one for row i is text i. That is a "
        "cross-entropy with the targets 0, 1, 2, ….",
        "torch.nn.functional.cross_entropy(scores, torch.arange(len(scores))) does the rows. The "
        "columns are the rows of scores.T.",
        "Compute it for scores and for scores.T, add the two and divide by 2.",
    ),
    why="A row asks: which text belongs to this picture? A column asks: which picture belongs to "
    "this text? The diagonal is right in both. All other entries are the negatives.",
    solution_function=my_info_nce,
    cases=_info_nce_cases,
    mistakes={
        "You let only the pictures look for their texts: do the same for the columns, scores.T.": (
            lambda scores: nn.functional.cross_entropy(scores, torch.arange(len(scores)))
        ),
        "You let only the texts look for their pictures: do the same for the rows.": (
            lambda scores: nn.functional.cross_entropy(scores.T, torch.arange(len(scores)))
        ),
        "You added rows and columns. Take the mean of the two.": _sum_not_mean,
        "You took the softmax over the whole table. Each row is a choice of its own.": _over_all,
        "You only pull: minus the mean of the diagonal, without the negatives. This collapses.": (
            lambda scores: -scores.diagonal().mean()
        ),
        "You forgot the minus sign: the loss is minus the logarithm.": (
            lambda scores: -my_info_nce(scores)
        ),
        "You summed over the pairs: take the mean, so that the loss does not grow with N.": (
            lambda scores: my_info_nce(scores) * len(scores)
        ),
    },
)


# --- 3. Recall at k


def my_recall(right: Tensor, k: int) -> Tensor:
    """The share of queries (Q, N) with a right picture among the first k."""
    return right[:, :k].any(1).float().mean()


def _right(queries: int, found: int, share: float, seed: int) -> Tensor:
    return torch.rand(queries, found, generator=torch.Generator().manual_seed(seed)) < share


def _recall_cases() -> Cases:
    two = torch.tensor([[False, True], [False, False]])
    return {
        "two queries, k = 1": (two, 1),
        "two queries, k = 2": (two, 2),
        "one query with two right pictures": (torch.tensor([[False, True, True]]), 3),
        "nine queries, k = 3": (_right(9, 8, 0.3, 0), 3),
        "the same, k = 1": (_right(9, 8, 0.3, 0), 1),
        "more than there are": (_right(5, 4, 0.3, 1), 9),
        "every second query (a strided tensor)": (_right(12, 6, 0.2, 2)[::2], 4),
    }


recall = Exercise(
    lesson="07",
    name="recall",
    title="Recall at k",
    minutes=5,
    difficulty=1,
    hints=(
        "Only the first k columns count: right[:, :k].",
        "any(1) tells for each row whether one of them is right. The mean of True and False needs "
        ".float() first.",
        "right[:, :k].any(1).float().mean()",
    ),
    why="A query counts once, whether it finds one right picture or three. So first any over the "
    "first k, then the mean over the queries.",
    solution_function=my_recall,
    cases=_recall_cases,
    mistakes={
        "You counted every right picture. A query counts once, however many it finds: use any.": (
            lambda right, k: right[:, :k].float().sum(1).mean()
        ),
        "You took the share of right pictures among the first k. That is the precision.": (
            lambda right, k: right[:, :k].float().mean()
        ),
        "You looked at the picture number k alone: all of the first k count.": (
            lambda right, k: right[:, min(k, right.shape[1]) - 1].float().mean()
        ),
        "You looked at one picture too few: the first k are right[:, :k].": (
            lambda right, k: right[:, : k - 1].any(1).float().mean()
        ),
        "You asked that all of the first k be right: one is enough.": (
            lambda right, k: right[:, :k].all(1).float().mean()
        ),
        "You looked at all pictures: cut after the first k.": (
            lambda right, k: right.any(1).float().mean()
        ),
        "You counted the queries: divide by how many there are.": (
            lambda right, k: right[:, :k].any(1).float().sum()
        ),
    },
)


# --- 4. Break and fix: the card that finds itself


def my_nearest(scores: Tensor, itself: Tensor) -> Tensor:
    """For each query the number of the nearest picture that is not itself: (Q, N) to (Q,)."""
    scores = scores.clone()
    scores[torch.arange(len(scores)), itself] = -torch.inf
    return scores.argmax(1)


def _given_nearest(scores: Tensor, itself: Tensor) -> Tensor:
    scores = scores.clone()
    scores[torch.arange(len(scores)), itself] = 0
    return scores.argmax(1)


def _cosines(queries: int, gallery: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(queries, gallery, generator=generator) * 2 - 1 + shift).clamp(-1, 1)


def _nearest_cases() -> Cases:
    return {
        "one query": (torch.tensor([[0.9, -0.2, -0.5]]), torch.tensor([0])),
        "two queries": (torch.tensor([[1.0, 0.3, 0.5], [0.3, 1.0, -0.9]]), torch.tensor([0, 1])),
        "six queries": (_cosines(6, 9, 0), torch.tensor([3, 0, 8, 8, 1, 5])),
        "negative cosines only": (_cosines(4, 5, 1, -1.2), torch.tensor([4, 2, 0, 1])),
        "below -1, as scaled scores can be": (20 * _cosines(4, 5, 2, -1.0), torch.arange(4)),
        "double precision": (_cosines(5, 6, 3).double(), torch.tensor([5, 4, 3, 2, 1])),
    }


def _minus_one(scores: Tensor, itself: Tensor) -> Tensor:
    scores = scores.clone()
    scores[torch.arange(len(scores)), itself] = -1
    return scores.argmax(1)


def _second(scores: Tensor, itself: Tensor) -> Tensor:
    return scores.argsort(1, descending=True)[:, 1]


def _whole_column(scores: Tensor, itself: Tensor) -> Tensor:
    scores = scores.clone()
    scores[:, itself] = -torch.inf
    return scores.argmax(1)


nearest = Exercise(
    lesson="07",
    name="nearest",
    title="Break and fix: the card that finds itself",
    minutes=4,
    difficulty=2,
    hints=(
        "Which number is smaller than every score that there can be?",
        "-torch.inf, minus infinity, never wins.",
    ),
    why="A place that must not be found needs a score that cannot win: minus infinity. Any finite "
    "number, 0 or -1, wins as soon as all other scores are smaller.",
    given=_given_nearest,
    solution_function=my_nearest,
    cases=_nearest_cases,
    mistakes={
        "-1 is not small enough: scores that were multiplied by the scale go far below -1.": (
            _minus_one
        ),
        "You took the second nearest. The query itself need not be the nearest of all.": _second,
        "You left out these places for all queries: leave out only each query's own.": (
            _whole_column
        ),
        "Now nothing is left out: the query finds itself.": (
            lambda scores, itself: scores.argmax(1)
        ),
        "You returned the score of the nearest picture: return its number, with argmax.": (
            lambda scores, itself: scores.scatter(1, itself[:, None], -torch.inf).max(1).values
        ),
        "You took the farthest picture: the nearest has the largest cosine.": (
            lambda scores, itself: scores.scatter(1, itself[:, None], torch.inf).argmin(1)
        ),
    },
)
