"""The exercises of lesson 10: attention, and what colours give away."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from mbm_lab import captioning, datasets, stored, training, writing
from mbm_lab import translation as lesson
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. Attention


def my_attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the query finds, (E,), and the weights of the words, (T,)."""
    fits = (keys @ query / len(query) ** 0.5).masked_fill(~mask, -torch.inf)  # (T,)
    likely = (fits - fits.max()).exp()  # at most 1, however large the fits are
    weights = likely / likely.sum()  # the softmax
    return weights @ values, weights


def _words(count: int, dim: int, out: int, seed: int, dtype=torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(dim, generator=generator, dtype=dtype)
    keys = torch.randn(count, dim, generator=generator, dtype=dtype)
    values = torch.randn(count, out, generator=generator, dtype=dtype)
    return query, keys, values


def _attend_cases() -> Cases:
    log3 = torch.tensor(3.0).log()
    paper = (torch.tensor([log3]), torch.tensor([[1.0], [0.0]]), torch.tensor([[10.0], [20.0]]))
    every = torch.ones(5, dtype=torch.bool)
    some = torch.tensor([True, True, False, True, False])
    return {
        "the two words of section 1": (*paper, every[:2]),
        "one word": (*_words(1, 4, 3, 0), every[:1]),
        "five words": (*_words(5, 4, 3, 1), every),
        "five words, two of them padding": (*_words(5, 4, 3, 2), some),
        "as many numbers as words": (*_words(5, 5, 5, 3), some),
        "long vectors": (*_words(5, 16, 2, 4), every),
        "two words and padding, with fits near 200": _far(20.0),
        "two words and padding, with fits near -200": _far(-20.0),
    }


def _far(size: float) -> tuple[Tensor, ...]:
    """Two words and padding that fit by about ten times this number."""
    keys = torch.tensor([[10.0, 3, 10, 1], [9.95, -2, 10, 5], [9, 0, 12, 0]])
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    return size * torch.tensor([1.0, 0, 1, 0]), keys, values, torch.tensor([True, True, False])


def _attend_beyond() -> Cases:
    some = torch.tensor([True, True, False, True, False])
    return {"double precision": (*_words(5, 9, 4, 5, torch.float64), some)}


def _weighted(weigh):
    """Attention with other weights: weigh(query, keys, mask) gives them."""

    def answer(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = weigh(query, keys, mask)
        return weights @ values, weights

    return answer


def _softmax(fits: Tensor, mask: Tensor) -> Tensor:
    return fits.masked_fill(~mask, -torch.inf).softmax(0)


def _overflowing(query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """exp without subtracting the largest fit first."""
    likely = (keys @ query / len(query) ** 0.5).exp() * mask
    return likely / likely.sum()


def _changed(change):
    """A wrong answer that makes something else of the right weights."""
    return lambda query, keys, values, mask: change(
        my_attend(query, keys, values, mask)[1], query, keys, values, mask
    )


def _no_root(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return my_attend(query * len(query) ** 0.5, keys, values, mask)


def _no_mask(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return my_attend(query, keys, values, torch.ones_like(mask))


def _mask_after(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    _, weights = _no_mask(query, keys, values, mask)
    weights = weights * mask
    return weights @ values, weights


def _mask_zero(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    weights = ((keys @ query / len(query) ** 0.5) * mask).softmax(0)
    return weights @ values, weights


def _upside_down(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple:
    return my_attend(query, keys, values, ~mask) if bool((~mask).any()) else (values.mean(0), mask)


def _best_only(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    _, weights = my_attend(query, keys, values, mask)
    chosen = torch.nn.functional.one_hot(weights.argmax(), len(weights)).to(values.dtype)
    return chosen @ values, chosen


attend = Exercise(
    lesson="10",
    name="attend",
    title="Attention",
    minutes=10,
    difficulty=2,
    hints=(
        "How well each word fits: keys @ query gives T dot products at once. Divide by the square "
        "root of the query's length.",
        "Where there is no word, the fit must be minus infinity before the softmax: "
        "masked_fill(~mask, -torch.inf).",
        "weights = fits.masked_fill(~mask, -torch.inf).softmax(0); the answer is weights @ values.",
    ),
    why="The softmax turns fits into weights that are positive and add up to 1. A fit of minus "
    "infinity becomes a weight of exactly 0, and the others still add up to 1.",
    results=("what is found", "the weights"),
    solution_function=my_attend,
    cases=_attend_cases,
    beyond=_attend_beyond,
    mistakes={
        "You forgot to divide by √D, the square root of the query's length.": _no_root,
        "You let padding take part: give it the fit minus infinity before the softmax.": _no_mask,
        "You set the weights of the padding to 0 after the softmax, so the others no longer add up "
        "to 1. Do it before.": _mask_after,
        "You multiplied the fits by the mask. A fit of 0 still has a weight: e⁰ = 1. Use minus "
        "infinity.": _mask_zero,
        "You turned the mask round: True is where there is a word.": _upside_down,
        "You took the best word alone. Attention is a mean over all, weighted by how well they "
        "fit.": (_best_only),
        "You divided by D: it is the square root of D.": (
            lambda query, keys, values, mask: my_attend(
                query / len(query) ** 0.5, keys, values, mask
            )
        ),
        "You returned the weights first: the answer comes first, then the weights.": (
            lambda query, keys, values, mask: my_attend(query, keys, values, mask)[::-1]
        ),
        "Fits far from 0 are too much for exp: exp(200) is inf and exp(−200) is 0, so your weights "
        "are nan. Use softmax, or subtract the largest fit first.": _weighted(_overflowing),
        "You multiplied by √D. Divide by it.": _weighted(
            lambda query, keys, mask: _softmax(keys @ query * len(query) ** 0.5, mask)
        ),
        "You divided by √T, the root of the number of words. Divide by √D, the root of the "
        "query's length.": _weighted(
            lambda query, keys, mask: _softmax(keys @ query / len(keys) ** 0.5, mask)
        ),
        "You divided by the lengths of query and keys as vectors, which gives cosines. Divide the "
        "dot products by √D.": _weighted(
            lambda query, keys, mask: _softmax(keys @ query / keys.norm(dim=1) / query.norm(), mask)
        ),
        "Your weights are the fits, divided by their sum. Take the softmax of the fits.": _weighted(
            lambda query, keys, mask: (
                (keys @ query / len(query) ** 0.5 * mask)
                / (keys @ query / len(query) ** 0.5 * mask).sum()
            )
        ),
        "You asked of each word alone how well it fits (with a sigmoid). The words share a weight "
        "of 1: a softmax.": _weighted(
            lambda query, keys, mask: (keys @ query / len(query) ** 0.5).sigmoid() * mask
        ),
        "All words have the same weight in your result. The query decides how much each one "
        "counts.": _weighted(lambda query, keys, mask: mask / mask.sum()),
        "You returned the fits. The second result is the weights, after the softmax.": _changed(
            lambda weights, query, keys, values, mask: (
                weights @ values,
                keys @ query / len(query) ** 0.5,
            )
        ),
        "You returned the fits, with −∞ at the padding. The second result is the weights, after "
        "the softmax.": _changed(
            lambda weights, query, keys, values, mask: (
                weights @ values,
                (keys @ query / len(query) ** 0.5).masked_fill(~mask, -torch.inf),
            )
        ),
        "You divided the weighted values by the number of words. The weights add up to 1 already, "
        "so take the sum.": _changed(
            lambda weights, query, keys, values, mask: (weights @ values / len(values), weights)
        ),
        "You took the mean of the keys. What is found is the mean of the values.": _changed(
            lambda weights, query, keys, values, mask: (weights @ keys, weights)
        ),
        "You returned each word's weighted values, (T, E): add them up over the words.": _changed(
            lambda weights, query, keys, values, mask: (weights[:, None] * values, weights)
        ),
        "Your padding's fit is a number such as −1, and so it still has a weight. Only minus "
        "infinity makes it 0.": _weighted(
            lambda query, keys, mask: (
                (keys @ query / len(query) ** 0.5).masked_fill(~mask, -1.0).softmax(0)
            )
        ),
        "Your padding's fit is not small enough: where all other fits are below it, the padding "
        "gets the weight. Only minus infinity is below every fit.": _weighted(
            lambda query, keys, mask: (
                (keys @ query / len(query) ** 0.5).masked_fill(~mask, -100.0).softmax(0)
            )
        ),
        "You left out the padding, and the weights became fewer. They are (T,), with 0 where there "
        "is no word.": _changed(
            lambda weights, query, keys, values, mask: (weights @ values, weights[mask])
        ),
        "You took the softmax twice.": _weighted(
            lambda query, keys, mask: _softmax(keys @ query / len(query) ** 0.5, mask).softmax(0)
        ),
        "You divided by a fixed number, √8. It is √D, the root of this query's length.": _weighted(
            lambda query, keys, mask: _softmax(keys @ query / 8**0.5, mask)
        ),
        "You divided by √E, the root of the length of the values. It is √D, that of the query.": (
            lambda query, keys, values, mask: my_attend(
                query * (len(query) / values.shape[1]) ** 0.5, keys, values, mask
            )
        ),
        "The worst fit gets the most weight in your result: leave out the minus sign.": _weighted(
            lambda query, keys, mask: _softmax(-keys @ query / len(query) ** 0.5, mask)
        ),
        "You left the padding out of the answer, but not out of the weights. It needs the fit "
        "minus infinity before the softmax.": lambda query, keys, values, mask: (
            my_attend(query, keys, values, mask)[0],
            _no_mask(query, keys, values, mask)[1],
        ),
        "You left the padding out of the weights, but not out of the answer.": (
            lambda query, keys, values, mask: (
                _no_mask(query, keys, values, mask)[0],
                my_attend(query, keys, values, mask)[1],
            )
        ),
        "The weights of the words do not add up to 1: the padding had a share (e⁰ = 1) before you "
        "set it to 0. Give it the fit minus infinity before the softmax.": _weighted(
            lambda query, keys, mask: (
                (keys @ query / len(query) ** 0.5).masked_fill(~mask, 0.0).softmax(0) * mask
            )
        ),
        "You returned the logarithms of the weights: softmax, not log_softmax.": _changed(
            lambda weights, query, keys, values, mask: (weights @ values, weights.log())
        ),
    },
)


# --- 2. Predict: text alone on unseen combinations


def _text_alone() -> str:
    """Trains a small translator on the captions as they are, and asks about unseen combinations."""
    train = datasets.load_postcards("train", parts=())
    test = datasets.load_postcards("test", parts=())
    test = test.subset(~test.seen & lesson.is_ambiguous(test.captions))
    _, (english, chinese) = stored.load("translator")
    torch.manual_seed(0)
    model = lesson.Translator(len(english), len(chinese), hidden=48)
    prefix, target = writing.teacher_forcing([("zh", train.captions_zh)], chinese)
    inputs = {
        "source": lesson.encode_source(train.captions, english),
        "image": torch.zeros(len(train), captioning.FEATURES),
        "prefix": prefix[:, 0],
    }
    training.fit(
        model, inputs, target[:, 0], writing.next_word_loss, epochs=14, batch_size=64,
        learning_rate=8e-3, one_cycle=True,
    )  # fmt: skip
    source = lesson.encode_source(test.captions, english)
    blind = torch.zeros(len(test), captioning.FEATURES)
    written = lesson.translate(model, source, blind, chinese)
    true = writing.tidy(test.captions_zh, "zh")
    right = captioning.factors_right(written, true, "zh")["object"].float().mean()
    return "b" if right > 0.57 else "a" if right > 0.43 else "c"


unseen = Choice(
    lesson="10",
    name="unseen",
    title="Predict: text alone on unseen combinations",
    minutes=3,
    difficulty=2,
    hints=(
        "Suppose training never showed a red sports bat, but a red animal bat. What does a model "
        "learn about “a red face beside a bat”?",
        "And which of the two do the unseen test cards show?",
    ),
    why="On unseen combinations the colour points to the other meaning, the one that training did "
    "show. A model that has learned this is wrong for sure there. It is not chance, it is a rule "
    "that does not hold.",
    options={
        "a": "about half the time, as chance would",
        "b": "clearly more than half",
        "c": "clearly less than half",
    },
    answer="c",
    wrong={
        "a": "Chance would be right half the time. But has the model really nothing to go by? "
        "Think of the colour.",
        "b": "The colour does give something away in training. Does it point the right way on "
        "combinations that training left out?",
    },
    truth=_text_alone,
)


# --- 3. Say it in another colour


def my_recolour(
    english: str, chinese: str, old: str, new: str, words: dict[str, tuple[str, str]]
) -> tuple[str, str]:
    """The pair of sentences with another colour."""
    spaced = f" {english}"  # so that each word begins with a space: "tired" does not hold " red"
    english = spaced.replace(f" {words[old][0]} face", f" {words[new][0]} face")[1:]
    return english, chinese.replace(words[old][1], words[new][1])


COLOURS = {"red": ("red", "红色"), "blue": ("blue", "蓝色"), "orange": ("orange", "橙色")}


def _recolour_cases() -> Cases:
    return {
        "red to blue": ("a red face at night", "夜里一张红色的脸", "red", "blue", COLOURS),
        "the colour stays": ("a blue face", "一张蓝色的脸", "blue", "blue", COLOURS),
        "a fruit of the same name": (
            "an orange face beside an orange",
            "一张橙色的脸，旁边有一个橙子",
            "orange",
            "red",
            COLOURS,
        ),
        "a word that holds the colour's letters": (
            "a tired red face in a hundred storms",
            "一张红色的脸",
            "red",
            "blue",
            COLOURS,
        ),
        "blue to red": ("a sad blue face", "一张难过的蓝色的脸", "blue", "red", COLOURS),
        "names that are not the English words": (
            "a red face", "一张红色的脸", "rot", "blau",
            {"rot": ("red", "红色"), "blau": ("blue", "蓝色")}),
        "a second face without a colour": (
            "a sad face beside a red face", "一张难过的脸，旁边有一张红色的脸",
            "red", "blue", COLOURS),
        "the fruit comes first": (
            "one orange beside one orange face", "一个橙子，旁边有一张橙色的脸",
            "orange", "blue", COLOURS),
    }  # fmt: skip


def _recolour_beyond() -> Cases:
    return {
        "a longer word that ends in the colour's letters, before face": (
            "a tired face", "一张疲惫的脸", "red", "blue", COLOURS),
    }  # fmt: skip


def _english(change):
    """A wrong English sentence beside the right Chinese one."""
    return lambda english, chinese, old, new, words: (
        change(english, words[old][0], words[new][0]),
        my_recolour(english, chinese, old, new, words)[1],
    )


def _names(english, chinese, old, new, words):
    english = re.sub(rf"\b{old} face\b", f"{new} face", english)
    return english, chinese.replace(words[old][1], words[new][1])


def _name_written(english, chinese, old, new, words):
    english = re.sub(rf"\b{words[old][0]} face\b", f"{new} face", english)
    return english, chinese.replace(words[old][1], words[new][1])


def _chinese_words(english, chinese, old, new, words):
    english = english.replace(f"{words[old][0]} face", f"{words[new][1]} face")
    return english, chinese.replace(words[old][1], words[new][1])


def _everywhere(english, chinese, old, new, words):
    english = english.replace(words[old][0], words[new][0])
    return english, chinese.replace(words[old][1], words[new][1])


def _english_only(english, chinese, old, new, words):
    return my_recolour(english, chinese, old, new, words)[0], chinese


def _chinese_only(english, chinese, old, new, words):
    return english, my_recolour(english, chinese, old, new, words)[1]


def _whole_words(english, chinese, old, new, words):
    written = [words[new][0] if word == words[old][0] else word for word in english.split()]
    return " ".join(written), my_recolour(english, chinese, old, new, words)[1]


def _lost_face(english, chinese, old, new, words):
    english = english.replace(f"{words[old][0]} face", words[new][0])
    return english, chinese.replace(words[old][1], words[new][1])


recolour = Exercise(
    lesson="10",
    name="recolour",
    title="Say it in another colour",
    minutes=6,
    difficulty=1,
    hints=(
        "str.replace(old, new) changes every place where the old text stands, also inside longer "
        "words. Which text stands only where the face's colour is?",
        'Replace "red face" by "blue face", and 红色 by 蓝色.',
    ),
    why="A counterfactual pair must be true on both sides and differ in nothing else. Replacing "
    "the bare word would also change a fruit, or letters inside another word.",
    results=("the English sentence", "the Chinese sentence"),
    solution_function=my_recolour,
    cases=_recolour_cases,
    beyond=_recolour_beyond,
    mistakes={
        "You changed these letters everywhere, also inside other words: look for the word before "
        "“face”.": _everywhere,
        "You changed the English sentence only: the two must say the same.": _english_only,
        "You changed the Chinese sentence only: the two must say the same.": _chinese_only,
        "You changed the word everywhere. The orange beside the face is a fruit.": _whole_words,
        "You lost the word “face”: put it back after the new colour.": _lost_face,
        "You swapped the results: English first.": (
            lambda *arguments: my_recolour(*arguments)[::-1]
        ),
        "You looked for the name of the colour, `old`. The English word is words[old][0].": _names,
        "You wrote the name of the colour, `new`. The English word is words[new][0].": (
            _name_written
        ),
        "You changed whatever word stands before “face”. Change it only if it is the old colour.": (
            _english(lambda english, old, new: re.sub(r"\w+ face", f"{new} face", english))
        ),
        "You put the Chinese word into the English sentence: words[new] holds the English word "
        "first, then the Chinese.": _chinese_words,
        "You changed the first place where these letters stand. The colour stands before “face”.": (
            _english(lambda english, old, new: english.replace(old, new, 1))
        ),
        "You changed the first word of this name. The colour stands before “face”.": (
            _english(lambda english, old, new: re.sub(rf"\b{old}\b", new, english, count=1))
        ),
        "You changed the last word of this name. The colour stands before “face”.": (
            _english(lambda english, old, new: new.join(english.rsplit(old, 1)))
        ),
        "The English colour stands in your Chinese sentence: words[new][1] is the Chinese word.": (
            lambda english, chinese, old, new, words: (
                my_recolour(english, chinese, old, new, words)[0],
                chinese.replace(words[old][1], words[new][0]),
            )
        ),
        "You looked for the first sign of the Chinese colour and put the whole word there, so 色 "
        "comes twice. Replace the whole word.": lambda english, chinese, old, new, words: (
            my_recolour(english, chinese, old, new, words)[0],
            chinese.replace(words[old][1][0], words[new][1]),
        ),
        "You changed single signs of the Chinese sentence, also inside other words: replace the "
        "whole word.": lambda english, chinese, old, new, words: (
            my_recolour(english, chinese, old, new, words)[0],
            chinese.replace(words[old][1][0], words[new][1][0]),
        ),
        "You removed the colour's name everywhere, also where it is a fruit. Only the word before "
        "“face” is exchanged.": _english(
            lambda english, old, new: re.sub(
                r"\bface\b", f"{new} face", re.sub(rf"\b{old}\b ?", "", english).strip(), count=1
            )
        ),
        "You changed whatever word stands before the first “face”. Change it only if it is the old "
        "colour, and look at every “face”.": _english(
            lambda english, old, new: re.sub(r"\w+ face\b", f"{new} face", english, count=1)
        ),
        "You looked at the first “face” only. Another face, without a colour, may come before.": (
            _english(
                lambda english, old, new: re.sub(
                    r"\w+ face\b",
                    lambda found: f"{new} face" if found[0] == f"{old} face" else found[0],
                    english,
                    count=1,
                )
            )
        ),
        "Your English sentence is a list of words. Join them with spaces.": _english(
            lambda english, old, new: re.sub(rf"\b{old} face\b", f"{new} face", english).split()
        ),
        "Your English words are joined without spaces.": _english(
            lambda english, old, new: re.sub(rf"\b{old} face\b", f"{new} face", english).replace(
                " ", ""
            )
        ),
        "Every word begins with a capital letter now. Nothing else than the colour may change.": (
            _english(
                lambda english, old, new: re.sub(rf"\b{old} face\b", f"{new} face", english).title()
            )
        ),
        "Your sentence begins with a capital letter now. Nothing else than the colour may "
        "change.": _english(
            lambda english, old, new: re.sub(
                rf"\b{old} face\b", f"{new} face", english
            ).capitalize()
        ),
        "You returned one text. A pair is asked for: the English sentence, the Chinese sentence.": (
            lambda *x: "\n".join(my_recolour(*x))
        ),
        "The sentences are the same every time, those of one example. Compute them from the "
        "arguments.": lambda *x: ("a blue face at night", "夜里一张蓝色的脸"),
        "You left out the old colour and did not put the new one in its place.": (
            _english(lambda english, old, new: english.replace(f"{old} face", "face"))
        ),
        "You put the new colour beside the old one. It takes its place.": (
            _english(lambda english, old, new: english.replace(f"{old} face", f"{old} {new} face"))
        ),
        "You lost the space before “face”.": (
            _english(lambda english, old, new: english.replace(f"{old} face", f"{new}face"))
        ),
        "Nothing has changed. Do you keep what str.replace returns? It makes a new text and leaves "
        "the old one as it is.": lambda english, chinese, old, new, words: (english, chinese),
        "You changed the word wherever a space stands before and behind it, and so a fruit, too. "
        "Change it only before “face”.": (
            _english(lambda english, old, new: english.replace(f" {old} ", f" {new} "))
        ),
    },
)
