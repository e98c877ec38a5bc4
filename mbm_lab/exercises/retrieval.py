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
        "five pairs with large scores": (30 * _scores(5, 3),),
    }


def _info_nce_beyond() -> Cases:
    return {
        "double precision": (_scores(4, 1, torch.float64),),
        "a strided table": (_scores(10, 2)[::2, ::2],),
    }


def _sum_not_mean(scores: Tensor) -> Tensor:
    return 2 * my_info_nce(scores)


def _of_probabilities(loss):
    """A wrong loss, made of the probability that each choice of a row gives, (N, N)."""
    return lambda scores: (loss(scores.softmax(1)) + loss(scores.T.softmax(1))) / 2


def _overflows(scores: Tensor) -> Tensor:
    """exp without subtracting the largest score first."""
    likely = scores.exp().diagonal()
    rows, columns = scores.exp().sum(1), scores.exp().sum(0)
    return -((likely / rows).log().mean() + (likely / columns).log().mean()) / 2


def _negatives_only(scores: Tensor) -> Tensor:
    """Leaves the pair itself out of the sum below the line."""
    others = scores.masked_fill(torch.eye(len(scores)).bool(), -torch.inf)
    pairs = scores.diagonal()
    return (others.logsumexp(1) - pairs + others.logsumexp(0) - pairs).mean() / 2


def _row_and_column(scores: Tensor) -> Tensor:
    """One softmax over a pair's row and column together."""
    both = torch.stack([scores.logsumexp(1), scores.logsumexp(0)]).logsumexp(0)
    return (both - scores.diagonal()).mean()


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
    beyond=_info_nce_beyond,
    mistakes={
        "Your loss is that of the rows alone: only the pictures look for their texts. Do the same "
        "for the columns, scores.T.": (
            lambda scores: nn.functional.cross_entropy(scores, torch.arange(len(scores)))
        ),
        "Your loss is that of the columns alone: only the texts look for their pictures. Do the "
        "same for the rows.": (
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
        "You summed over the pairs, and over rows and columns. Take the means.": (
            lambda scores: my_info_nce(scores) * len(scores) * 2
        ),
        "You took the softmax twice: cross_entropy wants the scores, not probabilities.": (
            _of_probabilities(lambda p: nn.functional.cross_entropy(p, torch.arange(len(p))))
        ),
        "You added a small number inside the logarithm. With large scores it changes the loss: "
        "log_softmax (or cross_entropy) needs none.": _of_probabilities(
            lambda p: -(p + 1e-9).log().diagonal().mean()
        ),
        "Large scores overflow: exp(200) is inf. Use log_softmax or cross_entropy, or subtract the "
        "largest score of the row first.": _overflows,
        "Small probabilities become 0, and log 0 is −∞. Take log_softmax in one step, not first "
        "softmax and then log.": _of_probabilities(lambda p: -p.log().diagonal().mean()),
        "You divided by N once more: cross_entropy takes the mean already.": (
            lambda scores: my_info_nce(scores) / len(scores)
        ),
        "You took the mean over the whole table. Only the diagonal, the pairs, counts.": (
            _of_probabilities(lambda p: -p.clamp(min=1e-38).log().mean())
        ),
        "You forgot the logarithm: this is minus the mean probability of the pairs.": (
            _of_probabilities(lambda p: -p.diagonal().mean())
        ),
        "This is how improbable the pairs are, 1 − p. The cross-entropy is −log p.": (
            _of_probabilities(lambda p: 1 - p.diagonal().mean())
        ),
        "You asked of each score alone whether it is a pair (with a sigmoid). Each row is one "
        "choice among N: a softmax.": lambda scores: nn.functional.binary_cross_entropy_with_logits(
            scores, torch.eye(len(scores))
        ),
        "Each row has text 0 as its target. The targets are 0, 1, 2, …: the diagonal.": (
            lambda scores: (
                (
                    nn.functional.cross_entropy(scores, torch.zeros(len(scores)).long())
                    + nn.functional.cross_entropy(scores.T, torch.zeros(len(scores)).long())
                )
                / 2
            )
        ),
        "You left the pair itself out of the sum in the denominator. It is one of the N choices.": (
            _negatives_only
        ),
        "You made one choice of a row and a column together. They are two choices, and the loss is "
        "the mean of both.": _row_and_column,
        "You only pull: 1 minus the mean of the diagonal. The negatives must count, or all "
        "vectors become one.": lambda scores: 1 - scores.diagonal().mean(),
        "You took the mean of the table and its transpose first. Take the loss of the rows and "
        "that of the columns, then their mean.": lambda scores: nn.functional.cross_entropy(
            (scores + scores.T) / 2, torch.arange(len(scores))
        ),
        "You added the table and its transpose first. Take the two cross-entropies, then their "
        "mean.": lambda scores: nn.functional.cross_entropy(
            scores + scores.T, torch.arange(len(scores))
        ),
        "You took the rows twice, and added: the columns are the rows of scores.T.": (
            lambda scores: 2 * nn.functional.cross_entropy(scores, torch.arange(len(scores)))
        ),
        "You subtracted the columns' cross-entropy: add the two, and halve.": lambda scores: (
            nn.functional.cross_entropy(scores, torch.arange(len(scores)))
            - nn.functional.cross_entropy(scores.T, torch.arange(len(scores)))
        ),
        "You took the mean of the whole table as the loss of all pairs: only the diagonal counts, "
        "after log_softmax.": lambda scores: -scores.mean(),
        "Your loss is the distance of the probabilities from 0 and 1, squared. The loss is "
        "−log p of the pairs.": lambda scores: (
            (scores.softmax(1) - torch.eye(len(scores))).square().mean()
        ),
        "Your result is log 2 every time, as in the task's example. Compute it from the scores.": (
            lambda scores: torch.tensor(2.0).log()
        ),
        "You returned one number for each pair: take the mean over the pairs.": (
            lambda scores: -(scores.log_softmax(1) + scores.log_softmax(0)).diagonal() / 2
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
        "six queries, k = 4": (_right(6, 6, 0.2, 2).flip(1), 4),
    }


def _recall_beyond() -> Cases:
    return {
        "a k larger than the number of pictures": (_right(5, 4, 0.3, 1), 9),
        "every second query (a strided tensor)": (_right(12, 6, 0.2, 2)[::2], 4),
    }


def _mean_rank(right: Tensor, k: int) -> Tensor:
    """The mean of 1 / place of the first right picture among the first k."""
    places = torch.arange(1, right[:, :k].shape[1] + 1)
    return (right[:, :k].float() / places).max(1).values.mean()


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
    beyond=_recall_beyond,
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
        "You looked at one picture too many: the first k are right[:, :k].": (
            lambda right, k: right[:, : k + 1].any(1).float().mean()
        ),
        "You looked at the last k pictures. The nearest stand first.": (
            lambda right, k: right[:, -k:].any(1).float().mean()
        ),
        "You divided by the number of right pictures. The share of the queries is asked for.": (
            lambda right, k: right[:, :k].float().sum() / right.sum()
        ),
        "You took, for each query, the share of its right pictures that were found. A query that "
        "finds one counts whole.": lambda right, k: (
            right[:, :k].float().sum(1) / right.sum(1).clamp(min=1)
        ).mean(),
        "You divided by k, too. Divide by the number of queries alone.": (
            lambda right, k: my_recall(right, k) / k
        ),
        "You divided by the number of pictures. Divide by the number of queries.": (
            lambda right, k: right[:, :k].any(1).float().sum() / right.shape[1]
        ),
        "You took the share of the places 1 to k at which some query is right: any(1) goes along "
        "the pictures, any(0) along the queries.": (
            lambda right, k: right[:, :k].any(0).float().mean()
        ),
        "You took the first k queries. The first k pictures of every query are right[:, :k].": (
            lambda right, k: right[:k].any(1).float().mean()
        ),
        "Only the first query counts in your result. Is there a `return` inside the loop?": (
            lambda right, k: right[0, :k].any().float()
        ),
        "You asked for exactly one right picture among the first k. Two are as good as one.": (
            lambda right, k: (right[:, :k].sum(1) == 1).float().mean()
        ),
        "You returned the share of the queries that find nothing. The others are asked for.": (
            lambda right, k: 1 - my_recall(right, k)
        ),
        "You returned per cent. A share is a number between 0 and 1.": (
            lambda right, k: 100 * my_recall(right, k)
        ),
        "Your result says whether any query finds something. The share of the queries is asked "
        "for.": lambda right, k: right[:, :k].any().float(),
        "You returned one number for each query: take their mean.": (
            lambda right, k: right[:, :k].any(1).float()
        ),
        "Only the first query counts in your result, divided by the number of all. Is the `return` "
        "inside the loop?": lambda right, k: right[0, :k].any().float() / len(right),
        "You only looked at the first picture, whatever k is.": (
            lambda right, k: right[:, 0].float().mean()
        ),
        "You only looked at the first two pictures at most: all of the first k count.": (
            lambda right, k: right[:, : min(k, 2)].any(1).float().mean()
        ),
        "You rounded down to a whole number. A share lies between 0 and 1: divide with /.": (
            lambda right, k: my_recall(right, k).floor().long()
        ),
        "You took the share of pictures that are right, over all of them: cut after the first k, "
        "and let a query count once.": lambda right, k: right.float().mean(),
        "A query counts in your result only if more than half of its first k pictures are right: "
        "one is enough.": lambda right, k: (right[:, :k].float().mean(1) > 0.5).float().mean(),
        "An early picture counts more in your result than a late one. All the first k places count "
        "the same.": _mean_rank,
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
        "two candidates, one of them the picture itself": (
            torch.tensor([[0.9, -0.2]]), torch.tensor([0])),
        "scores far below -1, as scaled ones can be": (
            200 * _cosines(4, 5, 2, -1.0) - 300, torch.tensor([0, 3, 1, 2])),
    }  # fmt: skip


def _nearest_beyond() -> Cases:
    return {
        "double precision": (_cosines(5, 6, 3).double(), torch.tensor([5, 4, 3, 2, 1])),
        "every second picture (strided scores)": (_cosines(4, 10, 4)[:, ::2], torch.arange(4)),
    }


def _put(scores: Tensor, itself: Tensor, value: float | Tensor) -> Tensor:
    """The scores with another value at each query's own place."""
    scores = scores.clone()
    scores[torch.arange(len(scores)), itself] = value
    return scores


def _without(scores: Tensor, itself: Tensor) -> Tensor:
    """The scores without each query's own place, (Q, N - 1)."""
    keep = torch.ones_like(scores, dtype=torch.bool)
    keep[torch.arange(len(scores)), itself] = False
    return scores[keep].view(len(scores), -1)


def _whole_rows(scores: Tensor, itself: Tensor) -> Tensor:
    scores = scores.clone()
    scores[itself.clamp(max=len(scores) - 1)] = -torch.inf
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
    "number, 0 or -1 or -2, wins as soon as all other scores are smaller.",
    given=_given_nearest,
    solution_function=my_nearest,
    cases=_nearest_cases,
    beyond=_nearest_beyond,
    mistakes={
        "The number that you put there is not small enough: scaled scores can all be below it, and "
        "then it wins. What is smaller than every number?": lambda scores, itself: _put(
            scores, itself, -1
        ).argmax(1),
        "What you put there can be as large as the best of the others, and then argmax takes the "
        "first of the two. It must be smaller than all the others.": (
            lambda scores, itself: _put(scores, itself, scores.min(1).values).argmax(1)
        ),
        "Your answer is always the picture itself: what you put there (+∞, nan?) wins over "
        "everything.": lambda scores, itself: itself.clone(),
        "Your numbers count the pictures without the one left out, so those behind it are one too "
        "small.": lambda scores, itself: _without(scores, itself).argmax(1),
        "You left out itself[i] + 1, the place behind its own. Both are counted from 0.": (
            lambda scores, itself: _put(scores, (itself + 1) % scores.shape[1], -torch.inf).argmax(
                1
            )
        ),
        "You left out itself[i] − 1, the place before its own. Both are counted from 0.": (
            lambda scores, itself: _put(scores, itself - 1, -torch.inf).argmax(1)
        ),
        "Only the first query has an answer. Is there a `return` inside the loop?": (
            lambda scores, itself: torch.cat(
                [
                    _put(scores, itself, -torch.inf).argmax(1)[:1],
                    torch.zeros(len(scores) - 1, dtype=torch.long),
                ]
            )
        ),
        "Only the first query's answer is returned. Is there a `return` inside the loop?": (
            lambda scores, itself: _put(scores, itself, -torch.inf).argmax(1)[0]
        ),
        "You counted the pictures from 1. The first one has the number 0.": (
            lambda scores, itself: _put(scores, itself, -torch.inf).argmax(1) + 1
        ),
        "You return one number for all queries together: argmax(1) gives one for each.": (
            lambda scores, itself: _put(scores, itself, -torch.inf).argmax()
        ),
        "You left out place i for query i. Its own place is itself[i].": (
            lambda scores, itself: _put(
                scores, torch.arange(len(scores)) % scores.shape[1], -torch.inf
            ).argmax(1)
        ),
        "You left out all pictures for some queries: scores[itself] are whole rows. One place of "
        "each row is scores[torch.arange(len(scores)), itself].": _whole_rows,
        "You looked for the nearest query of each picture: argmax(1) goes along the pictures.": (
            lambda scores, itself: _put(scores, itself, -torch.inf).argmax(0)
        ),
        "You left out the signs: a score of −0.9 is far, not near.": (
            lambda scores, itself: _put(scores.abs(), itself, -torch.inf).argmax(1)
        ),
        "You took the second nearest of the others. With its own place left out, the nearest is "
        "the largest of the rest.": lambda scores, itself: _put(scores, itself, -torch.inf).argsort(
            1, descending=True
        )[:, min(1, scores.shape[1])],
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
