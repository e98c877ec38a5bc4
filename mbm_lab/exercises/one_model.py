"""The exercises of lesson 13: attention, masks, the answer's loss, a cache, and top-p."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mbm_lab.exercises.exercise import Cases, Exercise

# --- 1. Attention with a mask


def my_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What each query finds, (…, Q, E), and the weights of the keys, (…, Q, K)."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (…, Q, K)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ value, weights


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / query.shape[-1] ** 0.5


def _soft(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def _hard(scores: Tensor, mask: Tensor) -> Tensor:
    best = scores.masked_fill(~mask, -torch.inf).argmax(-1)
    return nn.functional.one_hot(best, scores.shape[-1]).to(scores.dtype)


def _weighed(weigh: Callable) -> Callable:
    """Attention with other weights: weigh(scores / √D, mask) gives them."""

    def answer(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = weigh(_scores(query, key), mask)
        return weights @ value, weights

    return answer


def _divided(by: Callable) -> Callable:
    """Attention whose dot products are divided by something else than √D: by(query, key, value)."""

    def answer(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = _soft(query @ key.mT / by(query, key, value), mask)
        return weights @ value, weights

    return answer


def _instead(make: Callable) -> Callable:
    """Makes something else of the right results: make(found, weights, query, key, value, mask)."""
    return lambda *x: make(*my_attention(*x), *x)


def _renormalised(scores: Tensor, mask: Tensor) -> Tensor:
    weights = scores.softmax(-1) * mask
    return weights / weights.sum(-1, keepdim=True)


def _overflowing(scores: Tensor, mask: Tensor) -> Tensor:
    likely = scores.exp() * mask
    return likely / likely.sum(-1, keepdim=True)


def _not_by_exp(scores: Tensor, mask: Tensor) -> Tensor:
    return scores * mask / (scores * mask).sum(-1, keepdim=True)


def _only_before(scores: Tensor, mask: Tensor) -> Tensor:
    return _soft(scores, torch.ones(scores.shape[-2:], dtype=torch.bool).tril())


def _tokens(
    *shape: int, seed: int, keys: int = 0, out: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Random query (…, Q, D), key (…, K, D) and value (…, K, E); K is Q and E is D unless said."""
    generator = torch.Generator().manual_seed(seed)
    *before, queries, dim = shape
    keys, out = keys or queries, out or dim
    return (
        torch.randn(*before, queries, dim, generator=generator, dtype=dtype),
        torch.randn(*before, keys, dim, generator=generator, dtype=dtype),
        torch.randn(*before, keys, out, generator=generator, dtype=dtype),
    )


def _some(*shape: int, seed: int) -> Tensor:
    """A random mask in which every query may look at itself at least."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.5
    return mask | torch.eye(*shape[-2:], dtype=torch.bool)


def _attention_cases() -> Cases:
    log3 = float(torch.tensor(3.0).log())
    half = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]])
    paper = (log3 * half[:1].repeat(2, 1), half, torch.tensor([[10.0], [20.0]]))
    before = torch.ones(4, 4, dtype=torch.bool).tril()
    far = torch.tensor([[20.0, 0, 1], [-20, 1, 0]])
    near = torch.tensor([[20.0, 1, 3], [19.9, -2, 0], [19, 0, 1]])
    return {
        "the two tokens of the task": (*paper, before[:2, :2]),
        "one query, one key": (*_tokens(1, 3, seed=0), before[:1, :1]),
        "three queries and five keys": (
            *_tokens(3, 2, seed=1, keys=5, out=3), torch.ones(3, 5, dtype=torch.bool)),
        "three queries and five keys, some of them hidden": (
            *_tokens(3, 6, seed=2, keys=5, out=2), _some(3, 5, seed=1)),
        "five tokens of five numbers": (*_tokens(5, 5, seed=3), _some(5, 5, seed=3)),
        "three sequences, each with its own mask": (
            *_tokens(3, 4, 7, seed=4), _some(3, 4, 4, seed=4)),
        "two sequences, three heads, and one mask for all": (
            *_tokens(2, 3, 4, 6, seed=5, out=5), before),
        "two sequences, three heads, and a mask for each sequence": (
            *_tokens(2, 3, 4, 2, seed=6), _some(2, 1, 4, 4, seed=6)),
        "scores near 230 and near -230": (
            far, near, torch.tensor([[1.0, 0], [0, 1], [3, 3]]), _known("110", "110")),
        "a hidden key that fits far better than the others": (
            20 * far[:1], near * torch.tensor([[1.0], [0.998], [0.6]]),
            torch.tensor([[1.0, 0], [0, 1], [3, 3]]), torch.tensor([[False, False, True]])),
    }  # fmt: skip


def _attention_beyond() -> Cases:
    return {
        "double precision, transposed": (
            *(one.mT.contiguous().mT for one in _tokens(4, 9, seed=7, dtype=torch.float64)),
            _some(4, 4, seed=7)),
        "no sequence at all": (*_tokens(0, 3, 4, seed=8), _some(3, 3, seed=8)),
    }  # fmt: skip


attention = Exercise(
    lesson="13",
    name="attention",
    title="Attention with a mask",
    minutes=8,
    difficulty=2,
    hints=(
        "All dot products at once are one product of matrices: query times the transposed key. "
        "Only the last two dimensions are swapped: key.transpose(-2, -1).",
        "Divide by the square root of D, the length of one query: query.shape[-1] ** 0.5. Where "
        "the mask is False, the score becomes minus infinity: masked_fill(~mask, -torch.inf).",
        "The softmax runs over the keys, the last dimension: weights = scores.softmax(-1). What is "
        "found is weights @ value.",
    ),
    why="Each row of the weights belongs to one query and sums to 1. A score of minus infinity "
    "becomes a weight of exactly 0, and the others share the whole 1. Dot products of D random "
    "numbers grow as √D, so dividing keeps the softmax from choosing one key alone before anything "
    "is learned (Vaswani et al., 2017).",
    results=("what is found", "the weights"),
    solution_function=my_attention,
    cases=_attention_cases,
    beyond=_attention_beyond,
    mistakes={
        "You forgot to divide by √D, the square root of a query's length.": (
            _divided(lambda query, key, value: 1)
        ),
        "You divided by D. It is the square root of D.": (
            _divided(lambda query, key, value: query.shape[-1])
        ),
        "You multiplied by √D. Divide by it.": (
            _divided(lambda query, key, value: query.shape[-1] ** -0.5)
        ),
        "You divided by √K, the root of the number of keys. It is √D, that of a query's length.": (
            _divided(lambda query, key, value: key.shape[-2] ** 0.5)
        ),
        "You divided by √E, the root of a value's length. It is √D, that of a query's length.": (
            _divided(lambda query, key, value: value.shape[-1] ** 0.5)
        ),
        "You divided by the root of the first dimension's length, len(query). D is the last one: "
        "query.shape[-1].": _divided(lambda query, key, value: len(query) ** 0.5),
        "You divided by the root of query.shape[1], which is D only where there are two "
        "dimensions: query.shape[-1].": _divided(lambda query, key, value: query.shape[1] ** 0.5),
        "You divided by 2, as in the example. It is √D, and D differs from input to input.": (
            _divided(lambda query, key, value: 2)
        ),
        "You divided by the lengths of the vectors, which gives cosines. Divide the dot products "
        "by √D.": _divided(
            lambda query, key, value: query.norm(dim=-1)[..., None] * key.norm(dim=-1)[..., None, :]
        ),
        "You let every query look at every key. Where the mask is False, the score becomes minus "
        "infinity.": _weighed(lambda scores, mask: scores.softmax(-1)),
        "You hid the keys after the softmax, so the weights of a row no longer sum to 1. Do it "
        "before.": _weighed(lambda scores, mask: scores.softmax(-1) * mask),
        "You took the softmax of all keys, hid some, and divided by what was left. If a hidden key "
        "fits far better than the others, nothing is left, and 0 / 0 is nan. Hide before the "
        "softmax.": _weighed(_renormalised),
        "You multiplied the scores by the mask. A score of 0 still has a weight: e⁰ = 1. Use minus "
        "infinity.": _weighed(lambda scores, mask: (scores * mask).softmax(-1)),
        "You added the mask to the scores, where True counts as 1. A hidden key's score becomes "
        "minus infinity.": _weighed(lambda scores, mask: (scores + mask).softmax(-1)),
        "A hidden key has the score −1 in your code, so it still has a weight. Use minus "
        "infinity.": _weighed(lambda scores, mask: scores.masked_fill(~mask, -1.0).softmax(-1)),
        "A hidden key's score is not small enough in your code: where all others are below it, it "
        "gets the weight. Only minus infinity is below every score.": (
            _weighed(lambda scores, mask: scores.masked_fill(~mask, -100.0).softmax(-1))
        ),
        "You turned the mask round: True is where a query may look.": (
            _weighed(lambda scores, mask: scores.masked_fill(mask, -torch.inf).softmax(-1))
        ),
        "You turned the mask on its side: its rows are the queries, its columns the keys.": (
            _weighed(lambda scores, mask: _soft(scores, mask.mT))
        ),
        "You always hide what comes later. Who may look at whom is what `mask` says.": (
            _weighed(_only_before)
        ),
        "Your softmax runs over the queries. It runs over the keys, the last dimension: each ROW "
        "sums to 1.": _weighed(
            lambda scores, mask: scores.masked_fill(~mask, -torch.inf).softmax(-2)
        ),
        "Your softmax runs over dimension 1, which is that of the keys only where there are two "
        "dimensions. The last one is −1.": _weighed(
            lambda scores, mask: scores.masked_fill(~mask, -torch.inf).softmax(1)
        ),
        "Your softmax runs over dimension 0. It runs over the keys, the last dimension: −1.": (
            _weighed(lambda scores, mask: scores.masked_fill(~mask, -torch.inf).softmax(0))
        ),
        "You took the best key alone. What is found is a mean of all that may be looked at.": (
            _weighed(_hard)
        ),
        "You asked of each key alone how well it fits (with a sigmoid). The keys share a weight of "
        "1: a softmax.": _weighed(lambda scores, mask: scores.sigmoid() * mask),
        "You divided the scores by their sum, without exp. Take the softmax.": (
            _weighed(_not_by_exp)
        ),
        "You took the softmax twice.": _weighed(
            lambda scores, mask: _soft(_soft(scores, mask), mask)
        ),
        "All keys have the same weight in your result. The dot products decide how much each one "
        "counts.": _weighed(lambda scores, mask: _soft(0 * scores, mask)),
        "The worst fit gets the most weight in your result: leave out the minus sign.": (
            _weighed(lambda scores, mask: _soft(-scores, mask))
        ),
        "exp of a large score is inf, and inf / inf is nan; exp of a very small one is 0. Use "
        "softmax, or subtract the row's largest score first.": _weighed(_overflowing),
        "You return the scores. The second result is the weights, after the softmax.": (
            _instead(lambda found, weights, query, key, *_: (found, _scores(query, key)))
        ),
        "You return the scores, with −∞ where a key is hidden. The second result is the weights, "
        "after the softmax.": _instead(
            lambda found, weights, query, key, value, mask: (
                found,
                _scores(query, key).masked_fill(~mask, -torch.inf),
            )
        ),
        "You return the logarithms of the weights: softmax, not log_softmax.": (
            _instead(lambda found, weights, *_: (found, weights.log()))
        ),
        "You took the mean of the keys. What is found is the mean of the values.": (
            _instead(lambda found, weights, query, key, *_: (weights @ key, weights))
        ),
        "You return the weights first. What is found comes first, then the weights.": (
            _instead(lambda found, weights, *_: (weights, found))
        ),
        "You return what is found alone. Return the weights, too.": (
            _instead(lambda found, weights, *_: found)
        ),
        "You return the weights alone. What is found comes first.": (
            _instead(lambda found, weights, *_: weights)
        ),
    },
)


# --- 2. The mask of a prefix


def my_prefix_mask(prefix: int, known: Tensor) -> Tensor:
    """Who may look at whom, (B, T, T) bool: row q, column k; known (B, T) is False at padding."""
    length = known.shape[1]
    may = torch.ones(length, length, dtype=torch.bool).tril()  # (T, T): what came before
    may[:, :prefix] = True
    may = may & known[:, None, :]  # (B, T, T)
    return may | torch.eye(length, dtype=torch.bool)


def _column_known(known: Tensor) -> Tensor:
    return known[:, None, :]


def _rule(q: Tensor, k: Tensor, prefix: int) -> Tensor:
    return (k <= q) | (k < prefix)


def _masked(
    rule: Callable = _rule, hide: Callable = _column_known, itself: bool = True
) -> Callable:
    """The mask with a part of it wrong.

    rule(q, k, prefix): who may look at whom without padding, from the places of queries (T, 1) and
    keys (1, T); hide(known): what stays of it, (B, T, T); itself: whether each token sees itself.
    """

    def answer(prefix: int, known: Tensor) -> Tensor:
        place = torch.arange(known.shape[1])
        mask = rule(place[:, None], place[None, :], prefix) & hide(known)
        return mask | torch.eye(len(place), dtype=torch.bool) if itself else mask

    return answer


def _of_mask(make: Callable) -> Callable:
    """Makes something else of the right mask: make(mask)."""
    return lambda prefix, known: make(my_prefix_mask(prefix, known))


def _hidden_in(where: Callable) -> Callable:
    """Hides only the padding at these places: where(places, prefix)."""

    def answer(prefix: int, known: Tensor) -> Tensor:
        known = known | ~where(torch.arange(known.shape[1]), prefix)
        return my_prefix_mask(prefix, known)

    return answer


def _never_empty(prefix: int, known: Tensor) -> Tensor:
    """Only rows in which nothing is left look at themselves."""
    mask = _masked(itself=False)(prefix, known)
    alone = ~mask.any(2, keepdim=True) & torch.eye(known.shape[1], dtype=torch.bool)
    return mask | alone


def _looks_at_nothing(prefix: int, known: Tensor) -> Tensor:
    return my_prefix_mask(prefix, known) & known[:, :, None]


def _known(*rows: str) -> Tensor:
    """Rows such as "110" as True, True, False."""
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def _prefix_mask_cases() -> Cases:
    return {
        "the two patches and two words of the task": (2, _known("1111")),
        "one word": (0, _known("1")),
        "three words without a picture": (0, _known("111")),
        "a picture of one patch, and two words": (1, _known("111")),
        "a picture alone": (4, _known("1111")),
        "three sequences, two of them with padding at the end": (
            2, _known("111111", "111100", "111000")),
        "a short voice: padding at the end of the prefix": (4, _known("110011", "111111")),
        "padding at the beginning": (0, _known("0011", "0111")),
        "a prefix that begins with padding, and words between padding": (
            3, _known("0111011", "0011101")),
        "as many sequences as tokens": (2, _known("1110", "1111", "1011", "1100")),
        "a prefix of nothing but padding": (2, _known("00111", "11110")),
    }  # fmt: skip


def _prefix_mask_beyond() -> Cases:
    return {
        "no sequence at all": (1, torch.zeros(0, 3, dtype=torch.bool)),
        "every second sequence (a strided tensor)": (
            2,
            _known("1110", "1111", "1100", "0000")[::2],
        ),
    }


prefix_mask = Exercise(
    lesson="13",
    name="prefix_mask",
    title="The mask of a prefix",
    minutes=10,
    difficulty=2,
    hints=(
        "Begin with one sequence without padding: torch.ones(T, T, dtype=torch.bool).tril(), which "
        "is True where the key does not come after the query.",
        "Everybody may look at the prefix, so its columns become True: may[:, :prefix] = True. "
        "This lets the tokens of the prefix see each other, and no word with them.",
        "Padding is hidden as a key, so `known` becomes one row for each sequence: may & known[:, "
        "None, :]. At last, | torch.eye(T, dtype=torch.bool) lets each token see itself.",
    ),
    why="A picture is there as a whole, so its tokens may all see each other. A word must not see "
    "a later word, because it has to learn to say it. And padding is nothing: who looks at it "
    "reads what is not there, and its answer depends on how long the others in the batch are. "
    "Padding sees itself only so that each row has something to take a mean of: a softmax over −∞ "
    "alone is nan, and one nan spoils the whole batch.",
    solution_function=my_prefix_mask,
    cases=_prefix_mask_cases,
    beyond=_prefix_mask_beyond,
    mistakes={
        "The tokens of the prefix see only what came before. They all see each other.": (
            _masked(lambda q, k, prefix: k <= q)
        ),
        "You let each token see what came before, and nothing else. The prefix sees itself as a "
        "whole, and nobody sees padding.": (
            _masked(lambda q, k, prefix: k <= q, lambda known: torch.ones_like(known)[:, None, :])
        ),
        "Everybody sees everything in your mask, padding and later words, too.": (
            _of_mask(torch.ones_like)
        ),
        "Everybody sees everybody: a word sees the words after it, which it should learn to say.": (
            _masked(lambda q, k, prefix: k == k)
        ),
        "The prefix sees the words. It comes first, and sees nothing but itself.": (
            _masked(lambda q, k, prefix: (k <= q) | (q < prefix))
        ),
        "The words do not see the prefix: how should they speak of the picture?": (
            _masked(lambda q, k, prefix: ((k < prefix) & (q < prefix)) | ((k >= prefix) & (k <= q)))
        ),
        "Words see all words, the later ones too. They see only what came before.": (
            _masked(lambda q, k, prefix: (k < prefix) | (q >= prefix))
        ),
        "The words see later words instead of earlier ones: k <= q, not k >= q.": (
            _masked(lambda q, k, prefix: (k >= q) | (k < prefix))
        ),
        "Your rows and columns are swapped: a row is a query, a column is a key.": (
            _of_mask(lambda mask: mask.mT)
        ),
        "You swapped queries and keys of the rule, though not of the padding: a row is a query, a "
        "column is a key.": _masked(lambda q, k, prefix: _rule(k, q, prefix)),
        "Your prefix is one token too long: the first word sees no other word, and is seen by the "
        "picture. Places count from 0: place < prefix.": (
            _masked(lambda q, k, prefix: _rule(q, k, prefix + 1))
        ),
        "Your prefix is one token too short. Places count from 0: place < prefix.": (
            _masked(lambda q, k, prefix: _rule(q, k, prefix - 1))
        ),
        "Your prefix stands at the end of the sequence. It comes first.": (
            _masked(lambda q, k, prefix: (k <= q) | (k >= len(q) - prefix))
        ),
        "The words see the prefix and themselves only. They see the earlier words, too.": (
            _masked(lambda q, k, prefix: (k < prefix) | (k == q))
        ),
        "The words see the prefix and one word before. They see all earlier words.": (
            _masked(lambda q, k, prefix: (k < prefix) | (k == q) | (k == q - 1))
        ),
        "You hide nothing of the padding. Nobody looks at it, but for itself.": (
            _masked(hide=lambda known: torch.ones_like(known)[:, None, :])
        ),
        "You hid the rows of padding instead of its columns: padding must not be LOOKED AT.": (
            _masked(hide=lambda known: known[:, :, None])
        ),
        "You hid the rows of padding instead of its columns, and a row that is all False gives "
        "nan: padding must not be LOOKED AT.": (
            _masked(hide=lambda known: known[:, :, None], itself=False)
        ),
        "You hid the rows of padding, too. In the task padding looks as others do: nobody reads "
        "what it finds, so this would do no harm, but it needs one step more.": (
            _masked(hide=lambda known: known[:, :, None] & known[:, None, :])
        ),
        "Padding does not see itself in your mask. A row may then be all False, and its softmax is "
        "nan.": _masked(itself=False),
        "A row of padding is all False in your mask, and its softmax is nan. Padding looks as "
        "others do, and at itself.": _looks_at_nothing,
        "Only rows in which nothing is left look at themselves in your mask. Each token does, "
        "padding too.": _never_empty,
        "A token does not see itself in your mask.": _masked(
            lambda q, k, prefix: (k < q) | (k < prefix), itself=False
        ),
        "You turned True and False round: True is where a query may look.": (
            _of_mask(lambda mask: ~mask)
        ),
        "You hide the padding of the words, but not that of the prefix: a voice may be shorter "
        "than its prefix.": _hidden_in(lambda place, prefix: place >= prefix),
        "You hide the padding of the prefix, but not that of the words.": (
            _hidden_in(lambda place, prefix: place < prefix)
        ),
        "You return one mask for all sequences, (T, T). Each has its own padding.": (
            lambda prefix, known: my_prefix_mask(prefix, known)[0]
        ),
        "Every sequence has the padding of the first in your mask. Each has its own.": (
            _masked(hide=lambda known: known[:1].expand_as(known)[:, None, :])
        ),
        "A place is hidden in your mask only where it is padding in every sequence. Each sequence "
        "has its own padding.": (
            _masked(hide=lambda known: known.any(0).expand_as(known)[:, None, :])
        ),
        "A place is hidden in your mask as soon as it is padding in one sequence. Each sequence "
        "has its own padding.": (
            _masked(hide=lambda known: known.all(0).expand_as(known)[:, None, :])
        ),
        "You added a dimension for the heads, (B, 1, T, T). (B, T, T) is asked for.": (
            _of_mask(lambda mask: mask[:, None])
        ),
        "You return what is added to the scores, 0 and −∞. True and False are asked for.": (
            _of_mask(lambda mask: torch.zeros(mask.shape).masked_fill(~mask, -torch.inf))
        ),
        "You return 1 and 0. True and False are asked for: mask.bool().": (
            _of_mask(lambda mask: mask.long())
        ),
        "The mask of the task's example comes every time. Make it from the arguments.": (
            lambda *_: my_prefix_mask(2, _known("1111"))
        ),
    },
)


# --- 3. A loss for the answer alone


def my_answer_loss(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    """The mean cross-entropy of the answers' words: scores (B, T, V), words (B, T), prompt (B,)."""
    place = torch.arange(1, words.shape[1])
    target = words[:, 1:] * (place >= prompt[:, None])  # the next word, or PAD: (B, T - 1)
    by_class = scores[:, :-1].transpose(1, 2)  # (B, V, T - 1)
    return nn.functional.cross_entropy(by_class, target, ignore_index=0)


def _word_losses(scores: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy of each word, (B, T): scores (B, T, V), target (B, T)."""
    return nn.functional.cross_entropy(scores.transpose(1, 2), target, reduction="none")


def _answers(words: Tensor, prompt: Tensor) -> Tensor:
    """Which words are those of an answer: (B, T)."""
    return (torch.arange(words.shape[1]) >= prompt[:, None]) & (words != 0)


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    return losses[counted].mean()


def _counting(counted: Callable) -> Callable:
    """The mean loss of other words: counted(words, prompt) says which, (B, T)."""

    def answer(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
        losses = _word_losses(scores[:, :-1], words[:, 1:])
        return _mean(losses, counted(words, prompt)[:, 1:])

    return answer


def _reduced(reduce: Callable) -> Callable:
    """Makes something else of the right losses: reduce(losses (B, T - 1), which count)."""

    def answer(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
        losses = _word_losses(scores[:, :-1], words[:, 1:])
        return reduce(losses, _answers(words, prompt)[:, 1:])

    return answer


def _prompt_of(change: Callable) -> Callable:
    """The right loss with other prompts: change(prompt)."""
    return lambda scores, words, prompt: my_answer_loss(scores, words, change(prompt))


def _unshifted(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    return _mean(_word_losses(scores, words), _answers(words, prompt))


def _shifted_back(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    losses = _word_losses(scores[:, 1:], words[:, :-1])
    return _mean(losses, _answers(words, prompt)[:, :-1])


def _mask_of_reading(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    """The loss counts where the word that was READ is one of the answer."""
    losses = _word_losses(scores[:, :-1], words[:, 1:])
    return _mean(losses, _answers(words, prompt)[:, :-1])


def _first_word(words: Tensor, prompt: Tensor) -> Tensor:
    return torch.arange(words.shape[1]) == prompt[:, None]


def _last_word(words: Tensor, prompt: Tensor) -> Tensor:
    return torch.arange(words.shape[1]) == (words != 0).sum(1, keepdim=True) - 1


def _zeroed_scores(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    counted = _answers(words, prompt)[:, 1:]
    return _word_losses(scores[:, :-1] * counted[:, :, None], words[:, 1:]).mean()


def _says_pad(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    """The prompt is replaced by PAD, and PAD is a word to be said."""
    target = words[:, 1:] * _answers(words, prompt)[:, 1:]
    return _word_losses(scores[:, :-1], target).mean()


def _of_probabilities(sign: int) -> Callable:
    return _reduced(lambda losses, counted: sign * (-losses[counted]).exp().mean())


def _no_softmax(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    chosen = scores[:, :-1].gather(2, words[:, 1:, None])[:, :, 0]
    return -chosen[_answers(words, prompt)[:, 1:]].mean()


def _reshaped(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    mixed = scores[:, :-1].reshape(len(scores), scores.shape[2], -1).transpose(1, 2)
    return _mean(_word_losses(mixed, words[:, 1:]), _answers(words, prompt)[:, 1:])


def _share_right(scores: Tensor, words: Tensor, prompt: Tensor) -> Tensor:
    right = scores[:, :-1].argmax(2) == words[:, 1:]
    return right[_answers(words, prompt)[:, 1:]].float().mean()


def _mean_of_means(losses: Tensor, counted: Tensor) -> Tensor:
    return ((losses * counted).sum(1) / counted.sum(1)).mean()


def _spoken(*sentences: tuple[list[int], list[int]], seed: int, words: int = 9, size: float = 1.0):
    """Scores, words and prompts of sentences (prompt, answer); every answer ends with 3."""
    longest = max(len(told) + len(said) for told, said in sentences)
    rows = [told + said + (longest - len(told + said)) * [0] for told, said in sentences]
    generator = torch.Generator().manual_seed(seed)
    scores = size * torch.randn(len(rows), longest, words, generator=generator)
    return scores, torch.tensor(rows), torch.tensor([len(told) for told, _ in sentences])


def _answer_loss_cases() -> Cases:
    paper = torch.tensor(
        [[[1.0, 1, 8, 2, 2, 2], [1, 1, 1, 2, 3, 8], [1, 1, 3, 1, 1, 1], [1, 1, 1, 1, 6, 6]]]
    )
    return {
        "the answer of two words of the task": (
            paper.log(), torch.tensor([[4, 2, 5, 3]]), torch.tensor([2])),
        "an answer of nothing but the end": _spoken(([5, 2], [3]), seed=1),
        "a prompt of one word": _spoken(([2], [6, 4, 3]), seed=2),
        "one answer with padding": tuple(
            one[:1] for one in _spoken(([5, 6, 2], [4, 3]), ([2], [4] * 7 + [3]), seed=3)),
        "three answers of one length, behind prompts of one length": _spoken(
            ([4, 5, 2], [7, 8, 3]), ([4, 6, 2], [6, 6, 3]), ([5, 8, 2], [8, 7, 3]), seed=4),
        "three prompts and three answers of different lengths": _spoken(
            ([4, 7, 8, 5, 2], [6, 3]), ([5, 2], [7, 7, 8, 4, 6, 3]), ([6, 5, 2], [3]), seed=5),
        "two answers, the longer prompt second": _spoken(
            ([4, 2], [8, 5, 7, 3]), ([5, 8, 6, 2], [5, 3]), seed=6),
        "scores far from 0": _spoken(
            ([4, 6, 2], [8, 5, 3]), ([5, 2], [5, 3]), seed=7, size=200.0),
    }  # fmt: skip


def _answer_loss_beyond() -> Cases:
    scores, words, prompt = _answer_loss_cases()["two answers, the longer prompt second"]
    never = scores.clone()
    never[:, :, 0] = -torch.inf
    return {
        "double precision": (scores.double(), words, prompt),
        "scores of −∞ for PAD, a word that may never be said": (never, words, prompt),
    }


answer_loss = Exercise(
    lesson="13",
    name="answer_loss",
    title="A loss for the answer alone",
    minutes=10,
    difficulty=2,
    hints=(
        "First the shift: at each place the model says the NEXT word. So the scores lose their "
        "last place, scores[:, :-1], and the target is words[:, 1:].",
        "target[:, 0] stands at place 1 of the words. With place = torch.arange(1, T), a word is "
        "one of the answer if place >= prompt[:, None] and if it is not 0. Make the words of the "
        "prompt 0, too: multiply the target by (place >= prompt[:, None]).",
        "nn.functional.cross_entropy(scores[:, :-1].transpose(1, 2), target, ignore_index=0) "
        "leaves out each 0 and takes the mean over the others. It wants the V scores of a place "
        "along dimension 1.",
    ),
    why="The prompt is given, and nobody will ask the model to say it. With its words in the loss, "
    "part of what is learned would be to guess questions. The model still READS the prompt; only "
    "what it would have said there does not count. Each word of the batch counts alike, as with "
    "writing.next_word_loss, so a long answer counts more than a short one.",
    solution_function=my_answer_loss,
    cases=_answer_loss_cases,
    beyond=_answer_loss_beyond,
    mistakes={
        "You compare each place with the word that was read there. The scores are about the NEXT "
        "word: scores[:, :-1] and words[:, 1:].": _unshifted,
        "You shifted the wrong way: the scores of a place are about the word after it, so "
        "scores[:, :-1] and words[:, 1:].": _shifted_back,
        "The shift is right, but the mask was not shifted with it: a place counts if the word that "
        "is SAID there, the next one, is of the answer.": _mask_of_reading,
        "The prompt counts in your loss. Leave out what stands before the place `prompt`.": (
            _counting(lambda words, prompt: words != 0)
        ),
        "The padding counts in your loss. Leave out the words that are 0.": (
            _counting(lambda words, prompt: torch.arange(words.shape[1]) >= prompt[:, None])
        ),
        "All places count in your loss, the prompt and the padding, too. Only the answer's words "
        "should.": _counting(lambda words, prompt: torch.ones_like(words) == 1),
        "You took the loss of the prompt. That of the answer is asked for.": (
            _counting(lambda words, prompt: ~_answers(words, prompt) & (words != 0))
        ),
        "The first word of the answer does not count in your loss. It stands at the place "
        "`prompt`, counted from 0: >=, not >.": _prompt_of(lambda prompt: prompt + 1),
        "Your answer begins one word too early: <bos> is a word of the prompt. Places count from "
        "0, and target[:, 0] stands at place 1.": _prompt_of(lambda prompt: prompt - 1),
        "All sentences have the prompt of the first in your loss. Each has its own.": (
            _prompt_of(lambda prompt: prompt[:1].expand_as(prompt))
        ),
        "All answers begin behind the longest prompt in your loss. Each has its own.": (
            _prompt_of(lambda prompt: prompt.max().expand_as(prompt))
        ),
        "All answers begin behind the shortest prompt in your loss. Each has its own.": (
            _prompt_of(lambda prompt: prompt.min().expand_as(prompt))
        ),
        "The end word does not count in your loss. The model must learn to stop.": (
            _counting(lambda words, prompt: _answers(words, prompt) & ~_last_word(words, prompt))
        ),
        "Only the first word of each answer counts in your loss.": _counting(_first_word),
        "Only the last word of each answer counts in your loss.": _counting(_last_word),
        "You took the mean of each sentence first, and then of the sentences. Each WORD counts "
        "alike: one mean over all words of all answers.": _reduced(_mean_of_means),
        "You added up the means of the sentences. Each WORD counts alike: one mean over all words "
        "of all answers.": _reduced(
            lambda losses, counted: ((losses * counted).sum(1) / counted.sum(1)).sum()
        ),
        "You took the sum. The mean over the answers' words is asked for.": (
            _reduced(lambda losses, counted: losses[counted].sum())
        ),
        "You divided by the number of sentences. Divide by the number of the answers' words.": (
            _reduced(lambda losses, counted: losses[counted].sum() / len(losses))
        ),
        "You added up the right words, but divided by all places. Divide by the number of words "
        "that count.": _reduced(lambda losses, counted: (losses * counted).mean()),
        "You added up the right words, but divided by all B · T places. Divide by the number of "
        "words that count.": lambda scores, words, prompt: (
            my_answer_loss(scores, words, prompt) * _answers(words, prompt).sum() / words.numel()
        ),
        "You added up the right words, but divided by all words that are not PAD. Divide by the "
        "number of words that count.": lambda scores, words, prompt: (
            my_answer_loss(scores, words, prompt)
            * _answers(words, prompt).sum()
            / (words[:, 1:] != 0).sum()
        ),
        "You set the scores to 0 where nothing counts. There the loss is then log V, not 0: leave "
        "these places out of the mean.": _zeroed_scores,
        "You wrote PAD in place of the prompt, and now the model has to say PAD. Leave these "
        "places out of the mean: ignore_index=0.": _says_pad,
        "You reshaped the scores to (B, V, T − 1), which mixes words and places. Swap the two "
        "dimensions instead: transpose(1, 2).": _reshaped,
        "You took a softmax before the cross-entropy, which takes one itself.": (
            lambda scores, *x: my_answer_loss(scores.softmax(2), *x)
        ),
        "You took no softmax: scores are no logarithms of probabilities yet.": _no_softmax,
        "You took the mean probability of the answers' words. The loss is minus the mean of their "
        "logarithms.": _of_probabilities(1),
        "You left out the logarithm: the loss is minus the mean log probability.": (
            _of_probabilities(-1)
        ),
        "The sign is wrong: a loss is minus the mean log probability, and never below 0.": (
            _reduced(lambda losses, counted: -losses[counted].mean())
        ),
        "You return the losses of the single words. Their mean is asked for.": (
            _reduced(lambda losses, counted: losses[counted])
        ),
        "You return a loss for each sentence. One mean over all words of all answers is asked "
        "for.": _reduced(lambda losses, counted: (losses * counted).sum(1) / counted.sum(1)),
        "You return the perplexity, e to the loss. The loss itself is asked for.": (
            _reduced(lambda losses, counted: losses[counted].mean().exp())
        ),
        "Your loss is in bits, with the logarithm to the base 2. The natural logarithm is meant: "
        "log, or log_softmax.": _reduced(
            lambda losses, counted: losses[counted].mean() / torch.tensor(2.0).log()
        ),
        "You return the share of the right words. The cross-entropy is asked for.": _share_right,
        "The answer of the task's example comes every time. Compute it from the arguments.": (
            lambda *_: torch.tensor(4.0).log()
        ),
    },
)


# --- 4. Break and fix: a cache that forgets places


class Reader(nn.Module):
    """One layer of attention, to read words with.

    words, places: the tables of words (V, D) and of places (P, D), to be called with whole numbers;
    query, key, value: what is made of a token, (…, D) each.
    """

    def __init__(self, words: int, places: int, width: int):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(places, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)


def my_read(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    """Reads the next words, (B, T): what each of them finds, (B, T, D), and the new cache."""
    old_keys, old_values = cache  # (B, before, D) each: what was read before
    before = old_keys.shape[1]
    place = before + torch.arange(words.shape[1])
    x = model.words(words) + model.places(place)  # (B, T, D)
    keys = torch.cat([old_keys, model.key(x)], 1)  # (B, before + T, D)
    values = torch.cat([old_values, model.value(x)], 1)
    scores = model.query(x) @ keys.transpose(1, 2) / x.shape[2] ** 0.5
    mask = torch.arange(keys.shape[1]) <= place[:, None]  # (T, before + T)
    found = scores.masked_fill(~mask, -torch.inf).softmax(2) @ values
    return found, (keys, values)


def _given_read(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    old_keys, old_values = cache  # (B, before, D) each: what was read before
    place = torch.arange(words.shape[1])
    x = model.words(words) + model.places(place)  # (B, T, D)
    keys = torch.cat([old_keys, model.key(x)], 1)  # (B, before + T, D)
    values = torch.cat([old_values, model.value(x)], 1)
    scores = model.query(x) @ keys.transpose(1, 2) / x.shape[2] ** 0.5
    mask = torch.ones(scores.shape[1:]).tril() == 1  # (T, before + T)
    found = scores.masked_fill(~mask, -torch.inf).softmax(2) @ values
    return found, (keys, values)


def _after(before: int, count: int) -> Tensor:
    """The places of `count` words that come after `before` others."""
    return before + torch.arange(count)


def _from_zero(before: int, count: int) -> Tensor:
    return torch.arange(count)


def _sees(q: Tensor, k: Tensor, before: int) -> Tensor:
    """Whether the new word q, counted from 0, sees the key k, counted from the very first word."""
    return k <= before + q


def _tril(q: Tensor, k: Tensor, before: int) -> Tensor:
    return k <= q


def _everywhere(x: Tensor, place: Tensor, model: Reader) -> tuple[Tensor, Tensor, Tensor]:
    """What queries, keys and values are made of: tokens with their places."""
    return (x + model.places(place),) * 3


def _with_old(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new], 1)


def _reading(
    model, words, cache, *, place=_after, sees=_sees, tokens=_everywhere, join=_with_old,
    join_values=None, root=0.5, kept=lambda old, new, whole: whole,
) -> tuple[Tensor, tuple]:  # fmt: skip
    """One piece is read with a part of it wrong.

    place(before, count): the places of the new words; sees(q, k, before): the mask; tokens: what
    queries, keys and values are made of; join, join_values: how old and new ones come together;
    root: the power of D that scores are divided by; kept(old, new, whole): what of keys and values
    goes into the new cache.
    """
    old_keys, old_values = cache
    before, count = old_keys.shape[1], words.shape[1]
    x = tokens(model.words(words), place(before, count), model)
    query, key, value = (
        layer(one) for layer, one in zip((model.query, model.key, model.value), x, strict=True)
    )
    keys, values = join(old_keys, key), (join_values or join)(old_values, value)
    scores = query @ keys.mT / query.shape[2] ** root
    q, k = torch.arange(count)[:, None], torch.arange(keys.shape[1])[None]
    found = scores.masked_fill(~sees(q, k, before), -torch.inf).softmax(2) @ values
    return found, (kept(old_keys, key, keys), kept(old_values, value, values))


def _misread(**what) -> Callable:
    """`_reading` with something wrong."""
    return lambda *x: _reading(*x, **what)


def _no_places(x: Tensor, place: Tensor, model: Reader) -> tuple[Tensor, Tensor, Tensor]:
    return (x,) * 3


def _only_with(*with_place: bool) -> Callable:
    """Queries, keys and values, of which only some are made of tokens with their places."""

    def tokens(x: Tensor, place: Tensor, model: Reader) -> tuple[Tensor, ...]:
        return tuple(x + model.places(place) if one else x for one in with_place)

    return tokens


def _scaled(x: Tensor, place: Tensor, model: Reader) -> tuple[Tensor, Tensor, Tensor]:
    return (x * model.places(place),) * 3


def _sentences_before(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    def place(before: int, count: int) -> Tensor:
        return _after(len(words), count)

    return _reading(model, words, cache, place=place)


def _moved_by_piece(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    return _reading(model, words, cache, sees=lambda q, k, before: k <= q + words.shape[1])


def _columns_swapped(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    return _reading(model, words, cache, sees=lambda q, k, before: (k <= q) | (k >= words.shape[1]))


def _read_again(model: nn.Module, words: Tensor, cache: tuple) -> tuple[Tensor, tuple]:
    """Keeps the words themselves and reads all of them again."""
    old = cache[0][:, :, 0].long() if cache[0].shape[1] else words[:, :0]
    whole = torch.cat([old, words], 1)
    nothing = torch.zeros(len(words), 0, cache[0].shape[2])
    found, _ = my_read(model, whole, (nothing, nothing))
    told = whole[:, :, None].expand(-1, -1, cache[0].shape[2]).float()
    return found[:, old.shape[1] :], (told, told)


def _reader(number: int) -> Reader:
    """A model with 12 words and 12 places; 0: that of the task, which can be checked on paper."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        model = Reader(12, 12, 6 if number else 1)
    if number == 0:
        with torch.no_grad():
            model.words.weight.copy_(torch.arange(12.0)[:, None])
            model.places.weight.copy_(10 * torch.arange(12.0)[:, None])
            model.query.weight.zero_()
            model.key.weight.fill_(1.0)
            model.value.weight.fill_(1.0)
    return model


def _read_and_look(answer: Callable, words: Tensor, pieces: list[int], model: int) -> Any:
    """What the words of each piece find, how many were read in all, and what the cache holds.

    pieces: how many words are read with each call; model: its number.
    """
    reader, read = _reader(model), [0]
    reader.key.register_forward_hook(lambda _, inputs, __: read.append(inputs[0][..., 0].numel()))
    empty = torch.zeros(len(words), 0, reader.key.in_features)
    cache, found, held = (empty, empty.clone()), [], []
    with torch.no_grad():
        for piece in words.split(pieces, 1):
            returned = answer(reader, piece, cache)
            if not isinstance(returned, tuple | list) or len(returned) != 2:
                return returned
            now, cache = returned
            found.append(now)
            if not isinstance(cache, tuple | list) or len(cache) != 2:
                return returned
            held.append([tuple(one.shape) if isinstance(one, Tensor) else one for one in cache])
    if all(isinstance(one, Tensor) and one.ndim == 3 for one in found):
        found = torch.cat(found, 1)
    return {
        "found": found,
        "keys that were made": sum(read),
        "shapes of the caches": held,
    }


def _sentences(rows: int, count: int, seed: int) -> Tensor:
    return torch.randint(12, (rows, count), generator=torch.Generator().manual_seed(seed))


def _cache_cases() -> Cases:
    return {
        "the three words of the task, one after the other": (
            torch.tensor([[1, 2, 3]]), [1, 1, 1], 0),
        "the three words of the task, all at once": (torch.tensor([[1, 2, 3]]), [3], 0),
        "a first word whose value is 0, and two words at once": (
            torch.tensor([[0, 2, 1]]), [2, 1], 0),
        "the same word three times": (torch.tensor([[4, 4, 4]]), [1, 1, 1], 1),
        "a prompt of three words, then one word after the other": (
            _sentences(1, 6, 1), [3, 1, 1, 1], 2),
        "two sentences, in pieces of two words": (_sentences(2, 6, 2), [2, 2, 2], 3),
        "three sentences, in pieces of one, four and two words": (
            _sentences(3, 7, 3), [1, 4, 2], 4),
        "a short piece, then a long one": (_sentences(2, 7, 4), [2, 5], 5),
    }  # fmt: skip


def _cache_beyond() -> Cases:
    return {
        "an empty piece": (_sentences(2, 3, 5), [2, 0, 1], 6),
        "no sentence at all": (_sentences(0, 3, 6), [2, 1], 7),
    }


cache = Exercise(
    lesson="13",
    name="cache",
    title="Break and fix: a cache that forgets places",
    minutes=12,
    difficulty=3,
    hints=(
        "Two lines still think that the piece is all there is. Read the sentence [1, 2, 3] on "
        "paper, one word after the other: which place does the second word get, and which keys "
        "does it see?",
        "What was read before is in the cache, and its length is old_keys.shape[1]. The places of "
        "the new words go on from there: place = before + torch.arange(words.shape[1]).",
        "The mask has a row for each NEW word and a column for each key, old and new. Word number "
        "q of the piece stands at before + q and sees the keys up to there: tril(diagonal=before), "
        "or torch.arange(keys.shape[1]) <= place[:, None].",
    ),
    why="A key is made once and stays as it is, because no later word changes it: the mask hides "
    "all later words. That is why it can be kept. But whatever depends on where a word stands has "
    "to know how much was read before. Without a cache both lines were right, and for a sentence "
    "read at once they still are: compare it with the same words read one after the other.",
    solution_function=my_read,
    given=_given_read,
    call=_read_and_look,
    cases=_cache_cases,
    beyond=_cache_beyond,
    mistakes={
        "The places are right now. The mask still lets the new words see the first keys only: it "
        "must know how much was read before, too.": _misread(sees=_tril),
        "The mask is right now. The places still begin at 0 with every piece: they go on from what "
        "was read before.": _misread(place=_from_zero),
        "The places are right now, but you left out the mask: within a piece a word sees the words "
        "after it.": _misread(sees=lambda q, k, before: k == k),
        "You left out the mask, and the places still begin at 0 with every piece.": (
            _misread(place=_from_zero, sees=lambda q, k, before: k == k)
        ),
        "All words of a piece have the same place in your code, that of its first word. They go "
        "on: before + torch.arange(words.shape[1]).": (
            _misread(place=lambda before, count: torch.full((count,), before))
        ),
        "All words of a piece have the same place in your code, that of its last word. They go on: "
        "before + torch.arange(words.shape[1]).": (
            _misread(place=lambda before, count: torch.full((count,), before + count - 1))
        ),
        "Your places are one too large: the first word of all stands at place 0.": (
            _misread(place=lambda before, count: _after(before, count) + 1)
        ),
        "Your places are one too small after the first piece: the next word stands at place "
        "`before`, since places count from 0.": (
            _misread(place=lambda before, count: _after(max(before - 1, 0), count))
        ),
        "You counted the sentences, len(old_keys). How many words were read before is the length "
        "of the second dimension, old_keys.shape[1].": _sentences_before,
        "Your places begin at 1 with every piece. They go on from what was read before.": (
            _misread(place=lambda before, count: 1 + torch.arange(count))
        ),
        "Your places count from the end of the piece backwards.": (
            _misread(place=lambda before, count: _after(before, count).flip(0))
        ),
        "You took the places out. A word then does not know where it stands.": (
            _misread(tokens=_no_places)
        ),
        "You took the places out, and the mask still lets the new words see the first keys only.": (
            _misread(tokens=_no_places, sees=_tril)
        ),
        "Queries have their places, but keys and values have not.": (
            _misread(tokens=_only_with(True, False, False))
        ),
        "Keys and values have their places, but queries have not.": (
            _misread(tokens=_only_with(False, True, True))
        ),
        "The keys have lost their places.": _misread(tokens=_only_with(True, False, True)),
        "The values have lost their places.": _misread(tokens=_only_with(True, True, False)),
        "You multiplied words and places. They are added.": _misread(tokens=_scaled),
        "A new word sees only the words of its piece, not what was read before.": (
            _misread(sees=lambda q, k, before: (k <= before + q) & (k >= before))
        ),
        "The old words are right, but a word does not see itself in your mask: <=, not <.": (
            _misread(sees=lambda q, k, before: k < before + q)
        ),
        "Your mask is one key too wide: a word sees the word after it.": (
            _misread(sees=lambda q, k, before: k <= before + q + 1)
        ),
        "Your mask is moved by the length of the new piece. It is moved by what was read before: "
        "tril(diagonal=before).": _moved_by_piece,
        "Your mask is moved the wrong way: tril(diagonal=before), without a minus sign.": (
            _misread(sees=lambda q, k, before: k <= q - before)
        ),
        "The columns of your mask are in the wrong order: first the keys that were read before, "
        "which all are seen, then those of the piece.": _columns_swapped,
        "Your mask is turned round: a word sees what comes after it.": (
            _misread(sees=lambda q, k, before: k >= before + q)
        ),
        "Your mask hides all that was read before, and what comes before in the piece.": (
            _misread(sees=lambda q, k, before: k == before + q)
        ),
        "Your new keys and values stand before the old ones. The mask and the order of reading "
        "want them behind.": _misread(join=lambda old, new: torch.cat([new, old], 1)),
        "The new values stand before the old ones, but the keys do not: each key then finds "
        "another word's value.": _misread(join_values=lambda old, new: torch.cat([new, old], 1)),
        "Your cache keeps only the newest piece. It holds all that was read.": (
            _misread(kept=lambda old, new, whole: new)
        ),
        "Your cache stays as it was. Return the new keys and values, too.": (
            _misread(kept=lambda old, new, whole: old)
        ),
        "Your cache holds the new piece twice.": (
            _misread(kept=lambda old, new, whole: torch.cat([whole, new], 1))
        ),
        "You swapped keys and values in the cache: keys first.": (
            lambda *x: (lambda found, kept: (found, kept[::-1]))(*my_read(*x))
        ),
        "You lost √D: the scores are divided by it.": _misread(root=0.0),
        "You read all words again with every call. That is right, but it is what the cache is "
        "there to save: make keys of the new words alone.": _read_again,
        "You return what was found alone. The cache comes with it.": lambda *x: my_read(*x)[0],
        "You return what the last word of a piece has found. Each word's is asked for.": (
            lambda *x: (lambda found, kept: (found[:, -1:], kept))(*my_read(*x))
        ),
    },
)


# --- 5. Top-p


def my_top_p(chances: Tensor, top_p: float) -> Tensor:
    """The probabilities of the likeliest words alone, (N, V); all others are 0."""
    falling, order = chances.sort(dim=1, descending=True)
    before = falling.cumsum(1) - falling  # the probability of all likelier words
    kept = falling * (before < top_p)
    kept = torch.zeros_like(chances).scatter(1, order, kept)
    return kept / kept.sum(1, keepdim=True)


def _share(kept: Tensor) -> Tensor:
    return kept / kept.sum(1, keepdim=True)


def _chosen(choose: Callable, share: Callable = _share) -> Callable:
    """Top-p with other words: choose(falling, top_p) says which of the sorted ones, (N, V); share
    makes probabilities of what is kept."""

    def answer(chances: Tensor, top_p: float) -> Tensor:
        falling, order = chances.sort(dim=1, descending=True, stable=True)
        kept = falling * choose(falling, top_p)
        return share(torch.zeros_like(chances).scatter(1, order, kept))

    return answer


def _directly(choose: Callable) -> Callable:
    """Top-p with words that are chosen without sorting: choose(chances, top_p), (N, V)."""
    return lambda chances, top_p: _share(chances * choose(chances, top_p))


def _fewest(falling: Tensor, top_p: float) -> Tensor:
    return falling.cumsum(1) - falling < top_p


def _of_kept(make: Callable) -> Callable:
    """Makes something else of the kept probabilities before they are divided: make(kept, top_p)."""

    def answer(chances: Tensor, top_p: float) -> Tensor:
        return make(_chosen(_fewest, share=lambda kept: kept)(chances, top_p), top_p)

    return answer


def _one_more(falling: Tensor, top_p: float) -> Tensor:
    chosen = _fewest(falling, top_p)
    return chosen | chosen.roll(1, 1) & (torch.arange(falling.shape[1]) > 0)


def _gathered(chances: Tensor, top_p: float) -> Tensor:
    falling, order = chances.sort(dim=1, descending=True, stable=True)
    return _share((falling * _fewest(falling, top_p)).gather(1, order))


def _not_put_back(chances: Tensor, top_p: float) -> Tensor:
    falling = chances.sort(dim=1, descending=True).values
    return _share(chances * _fewest(falling, top_p))


def _like_the_first(chances: Tensor, top_p: float) -> Tensor:
    """The words that the first row keeps, for all rows."""
    return _share(chances * (my_top_p(chances, top_p)[:1] > 0))


def _as_many_as_first(falling: Tensor, top_p: float) -> Tensor:
    return _fewest(falling, top_p)[:1].expand_as(falling)


def _all_tied(chances: Tensor, top_p: float) -> Tensor:
    """Also every word that is as likely as the last one needed."""
    falling = chances.sort(dim=1, descending=True).values
    last = _fewest(falling, top_p).sum(1, keepdim=True) - 1
    return _share(chances * (chances >= falling.gather(1, last)))


def _least_likely(chances: Tensor, top_p: float) -> Tensor:
    rising, order = chances.sort(dim=1, stable=True)
    kept = rising * _fewest(rising, top_p)
    return _share(torch.zeros_like(chances).scatter(1, order, kept))


def _of_columns(chances: Tensor, top_p: float) -> Tensor:
    return my_top_p(chances.mT, top_p).mT


def _top_p_and_look(answer: Callable, chances: Tensor, top_p: float) -> Any:
    """The probabilities, (N, V). Of equally likely words it does not matter which are kept: what
    they get is put in order, the largest first."""
    found = answer(chances, top_p)
    if not isinstance(found, Tensor) or found.shape != chances.shape or found.dtype == torch.bool:
        return found
    found = found.clone()
    for row in range(len(chances)):
        for chance in chances[row].unique():
            alike = chances[row] == chance
            if int(alike.sum()) > 1:
                found[row, alike] = found[row, alike].sort(descending=True).values
    return found


def _random_chances(rows: int, words: int, seed: int, size: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(rows, words, generator=generator)).softmax(1)


def _top_p_cases() -> Cases:
    one = torch.tensor
    eighths = one([[0.25, 0.5, 0.125, 0.125]])
    return {
        "the four words of the task": (eighths, 0.7),
        "exactly as much as one word has": (eighths, 0.5),
        "exactly as much as two words have": (eighths, 0.75),
        "less than the likeliest word has": (eighths, 0.01),
        "all words": (one([[0.125, 0.5, 0.25, 0.125]]), 1.0),
        "one word": (one([[1.0]]), 0.5),
        "a word that is certain, others with probability 0": (one([[0.0, 0.0, 1.0, 0.0]]), 0.9),
        "words of which no two have the same place when sorted": (
            one([[0.1, 0.2, 0.4, 0.3], [0.3, 0.1, 0.2, 0.4]]), 0.65),
        "three rows, which keep one, two and three words": (
            one([[0.05, 0.9, 0.05], [0.2, 0.45, 0.35], [0.34, 0.33, 0.33]]), 0.75),
        "four equally likely words": (one([[0.25, 0.25, 0.25, 0.25]]), 0.5),
        "four rows of four words": (_random_chances(4, 4, 1, 1.0), 0.6),
        "two rows of forty words": (_random_chances(2, 40, 2), 0.9),
    }  # fmt: skip


def _top_p_beyond() -> Cases:
    return {
        "double precision, transposed": (_random_chances(3, 3, 3).double().mT.softmax(1), 0.75),
        "no row at all": (torch.zeros(0, 4), 0.5),
    }


top_p = Exercise(
    lesson="13",
    name="top_p",
    title="The likeliest words: top-p",
    minutes=10,
    difficulty=2,
    hints=(
        "Sort each row from the likeliest word down: falling, order = chances.sort(dim=1, "
        "descending=True). `order` says where each number came from.",
        "falling.cumsum(1) is what a word has together with all likelier ones. Without itself, "
        "before = falling.cumsum(1) - falling, it tells whether the word is still needed: before < "
        "top_p. That is always so for the first one.",
        "Put the kept numbers back to where they came from: torch.zeros_like(chances).scatter(1, "
        "order, kept). Then divide each row by its sum.",
    ),
    why="A vocabulary has many words, each of them very improbable here, that together are still "
    "chosen now and then, and one such word spoils a sentence. Top-p cuts them off, and it keeps "
    "many words where the model is unsure and few where it is sure; a fixed number of words could "
    "not (Holtzman et al., 2020).",
    solution_function=my_top_p,
    call=_top_p_and_look,
    cases=_top_p_cases,
    beyond=_top_p_beyond,
    mistakes={
        "You keep the words that alone have top_p or more. What counts is what the likeliest words "
        "have together.": _directly(lambda chances, top_p: chances >= top_p),
        "You keep the words that have at least top_p times as much as the likeliest one. What "
        "counts is what the likeliest words have together.": (
            _directly(lambda chances, top_p: chances >= top_p * chances.amax(1, keepdim=True))
        ),
        "You keep the words that have at least 1 − top_p. What counts is what the likeliest words "
        "have together.": _directly(lambda chances, top_p: chances >= 1 - top_p),
        "The word with which top_p is reached is missing: together, the kept ones should have AT "
        "LEAST top_p. Look at what the likelier words have, without the word itself.": (
            _chosen(lambda falling, top_p: falling.cumsum(1) <= top_p)
        ),
        "The word with which top_p is reached is missing, and so is one that just reaches it. Look "
        "at what the likelier words have, without the word itself.": (
            _chosen(lambda falling, top_p: falling.cumsum(1) < top_p)
        ),
        "The word with which top_p is reached is missing, unless it is the first one.": (
            _chosen(
                lambda falling, top_p: (
                    (falling.cumsum(1) <= top_p) | (torch.arange(falling.shape[1]) == 0)
                )
            )
        ),
        "If some words have exactly top_p together, you keep one more. They suffice: before < "
        "top_p, not <=.": (_chosen(lambda falling, top_p: falling.cumsum(1) - falling <= top_p)),
        "You keep one word more than needed.": _chosen(_one_more),
        "You add up in the order of the vocabulary. Sort first: the likeliest words are kept.": (
            _directly(_fewest)
        ),
        "You keep the least likely words. Sort with descending=True.": _least_likely,
        "Your probabilities come sorted. Put each one back to its word: scatter.": (
            lambda chances, top_p: _share(
                (lambda falling: falling * _fewest(falling, top_p))(
                    chances.sort(dim=1, descending=True).values
                )
            )
        ),
        "You put the probabilities back to the wrong words. `order` says where each one came from, "
        "so scatter puts it back; gather sorts once more.": _gathered,
        "You sorted to find out how many places to keep, and then kept these places of the row "
        "that is not sorted. Put what you keep back to where it came from: scatter.": _not_put_back,
        "The kept probabilities no longer sum to 1. Divide each row by its sum.": (
            _of_kept(lambda kept, top_p: kept)
        ),
        "You divided by top_p. The kept words have a little more than that: divide by their sum.": (
            _of_kept(lambda kept, top_p: kept / top_p)
        ),
        "You divided by the sum of all rows. Each row has its own.": (
            _of_kept(lambda kept, top_p: kept / kept.sum())
        ),
        "You divided by each column's sum. Each ROW sums to 1.": (
            _of_kept(lambda kept, top_p: kept / kept.sum(0).clamp(min=1e-9))
        ),
        "You divided by the largest probability. Divide by the sum.": (
            _of_kept(lambda kept, top_p: kept / kept.amax(1, keepdim=True))
        ),
        "You took a softmax of the kept probabilities, so that words with 0 come back. Divide by "
        "the sum.": _of_kept(lambda kept, top_p: kept.softmax(1)),
        "You took a softmax of the kept probabilities. They are probabilities already: divide by "
        "the sum.": _of_kept(
            lambda kept, top_p: kept.masked_fill(kept == 0, -torch.inf).softmax(1)
        ),
        "All kept words are equally likely in your result. They keep their shares.": (
            _of_kept(lambda kept, top_p: _share((kept > 0).float()))
        ),
        "You keep the likeliest word alone, whatever top_p is.": (
            _chosen(lambda falling, top_p: torch.arange(falling.shape[1]) == 0)
        ),
        "You keep all words, whatever top_p is.": _chosen(lambda falling, top_p: falling >= 0),
        "You keep the share top_p of the WORDS. It is the share of the probability.": (
            _chosen(
                lambda falling, top_p: (
                    torch.arange(falling.shape[1]) < max(1, round(top_p * falling.shape[1]))
                )
            )
        ),
        "You cut off the probability top_p. It is what is kept: the rest, 1 − top_p, is cut off.": (
            _chosen(lambda falling, top_p: _fewest(falling, 1 - top_p))
        ),
        "All rows keep the words that the first row keeps. Each row has its own.": _like_the_first,
        "All rows keep as many words as the first. Each row has its own number.": (
            _chosen(_as_many_as_first)
        ),
        "You sorted and added down the columns. Each ROW is a choice of a word: dim=1.": (
            _of_columns
        ),
        "You keep every word that is as likely as the last one needed. As few as possible are to "
        "be kept, also if some are equally likely.": _all_tied,
        "You return which words are kept. Their probabilities are asked for.": (
            _of_kept(lambda kept, top_p: kept > 0)
        ),
        "You return the logarithms of the probabilities.": (
            lambda chances, top_p: my_top_p(chances, top_p).log()
        ),
        "The answer of the task's example comes every time. Compute it from the arguments.": (
            lambda *_: torch.tensor([[1 / 3, 2 / 3, 0.0, 0.0]])
        ),
    },
)
