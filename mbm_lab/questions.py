"""Questions to a picture, for which a sum of two vectors is not enough (lesson 07).

Pictures enter as the features of lesson 06's trained encoder, as in `retrieval`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mbm_lab import (
    arguments,
    captioning,
    datasets,
    fusion,
    postcards,
    preprocessing,
    rnn,
    stored,
    training,
)
from mbm_lab.device import seeded
from mbm_lab.preprocessing import PAD
from mbm_lab.stored import Result

# --- Questions

SAY_WEATHER = {
    "sun": "is it sunny",
    "rain": "is it raining",
    "snow": "is it snowing",
    "night": "is it night",
    "storm": "is there a storm",
}
QUESTION_KINDS = ("object", "colour", "weather", "both")


class Question(NamedTuple):
    """A question to the picture at `place`; kind: object, colour, weather, or both."""

    place: int
    kind: str
    text: str
    answer: str


def ask(card: postcards.Card, place: int, rng: random.Random) -> Question:
    """Draws a question to a card, and its true answer.

    Questions of the kind "both" ask for weather and colour at once; half of them are to be answered
    with yes.
    """
    kind = rng.choice((*QUESTION_KINDS, "both"))
    if kind == "object":
        noun = re.sub(r"^an? ", "", postcards.OBJECTS[card.object][0])
        text = {"beside": "what is beside the face?", "on": "what is on its head?"}[card.relation]
        return Question(place, kind, text, noun)
    if kind == "colour":
        return Question(place, kind, "what colour is the face?", card.colour)
    if kind == "weather":
        return Question(place, kind, "what is the weather?", card.weather)
    weather, colour, yes = card.weather, card.colour, rng.random() < 0.5
    if not yes:
        wrong = rng.choice(("weather", "colour", "either"))
        if wrong != "colour":
            weather = rng.choice([w for w in postcards.WEATHERS if w != weather])
        if wrong != "weather":
            colour = rng.choice([c for c in postcards.COLOURS if c != colour])
    text = f"{SAY_WEATHER[weather]} and is the face {colour}?"
    return Question(place, kind, text, "yes" if yes else "no")


def ask_all(cards: datasets.Postcards, per_card: int = 5, seed: int = 0) -> list[Question]:
    """`per_card` questions to each card. Raises ValueError when that is below 1, and for a seed
    that is no whole number."""
    arguments.check_count("per_card", per_card, 1, 5)
    arguments.check_seed(seed)
    rng = random.Random(seed)
    places = [place for place in range(len(cards)) for _ in range(per_card)]
    return [ask(cards.cards[place], place, rng) for place in places]


ANSWERER_FUSIONS = {
    "weighted sum": fusion.WeightedSum,
    "sum, hidden layer": fusion.WeightedSum,
    "low-rank": fusion.LowRankTensor,
}
HIDDEN = {"sum, hidden layer": 132}
"""Units of a hidden layer before the answers: with 132, the sum has as many parameters as the
low-rank fusion."""
QUESTION_MODALITIES = ("image", "question")


class Answerer(nn.Module):
    """A picture's features and a question to scores of every answer.

    {"image": (B, 48), "question": tokens (B, T)} to (B, answers): two encoders by name, a fusion of
    lesson 04, and a linear head, so that all products of the two must come from the fusion; or,
    with so many `hidden` units, a head with a hidden layer.
    """

    def __init__(self, fused: nn.Module, vocabulary_size: int, answers: int, hidden: int = 0):
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                "image": nn.Linear(captioning.FEATURES, captioning.FEATURES),
                "question": rnn.TextEncoder(vocabulary_size, captioning.FEATURES),
            }
        )
        self.fusion = fused
        self.head = nn.Linear(fused.out_dim, answers)
        if hidden:
            self.head = fusion.head(fused.out_dim, hidden, answers)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        features = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        return self.head(self.fusion(features))  # (B, answers)


class Quiz(NamedTuple):
    """Questions as tensors: what the model reads, the true answers' numbers, the kinds."""

    inputs: dict[str, Tensor]
    target: Tensor  # (Q,)
    kinds: list[str]


def question_tensors(
    questions: Sequence[Question],
    features: Tensor,
    vocabulary: preprocessing.Vocabulary,
    answers: Sequence[str],
) -> Quiz:
    """Questions about pictures with these features (N, 48) as tensors.

    Raises ValueError when there is no question, when one is about a picture without features, and
    when its answer is not among the answers.
    """
    arguments.check_lists("question_tensors", questions=questions)
    arguments.check_lists("question_tensors", answers=answers)
    arguments.check_dims("question_tensors", features=features)
    places = [question.place for question in questions]
    arguments.check_places(
        "question_tensors", torch.tensor(places), len(questions), len(features)
    )
    for question in questions:
        arguments.check_choice("answer", question.answer, answers)
    tokens = preprocessing.text_to_tensor([question.text for question in questions], vocabulary)
    target = torch.tensor([answers.index(question.answer) for question in questions])
    kinds = [question.kind for question in questions]
    return Quiz({"image": features[places], "question": tokens}, target, kinds)


# --- Trained models


def question_words(
    questions: Sequence[Question],
) -> tuple[preprocessing.Vocabulary, list[str]]:
    """The words of these questions, numbered, and their answers in the order of the alphabet."""
    words = [preprocessing.tokenize(question.text) for question in questions]
    answers = sorted({question.answer for question in questions})
    return preprocessing.Vocabulary.build(words), answers


def train_answerer(model: Answerer, quiz: Quiz, epochs: int = 8, seed: int = 0) -> training.History:
    """The recipe for questions: three seconds for 10,000 of them on one thread."""
    return training.fit(
        model,
        quiz.inputs,
        quiz.target,
        nn.functional.cross_entropy,
        epochs=epochs,
        batch_size=128,
        learning_rate=5e-3,
        one_cycle=True,
        seed=seed,
    )


class Answerers(nn.ModuleDict):
    """One `Answerer` for each fusion of ANSWERER_FUSIONS, by the fusion's name; words and answers:
    how many there are.
    """

    def __init__(self, words: int, answers: int):
        super().__init__(
            {
                name: Answerer(
                    fused(QUESTION_MODALITIES, captioning.FEATURES),
                    words,
                    answers,
                    HIDDEN.get(name, 0),
                )
                for name, fused in ANSWERER_FUSIONS.items()
            }
        )


def products(inputs: dict[str, Tensor], words: int) -> Tensor:
    """Every feature times every word of the question, by hand: pictures (B, 48) and tokens (B, T)
    to (B, 49 · words), with the features, the words and a 1 among them.

    Raises ValueError unless there are as many questions as pictures, in words below `words`.
    """
    for name in QUESTION_MODALITIES:
        if name not in inputs:
            raise ValueError(f'products needs the modality "{name}": pass it among the inputs.')
    arguments.check_inputs(inputs)
    arguments.check_tokens("products", inputs["question"], words)
    said = torch.zeros(len(inputs["question"]), words, device=inputs["question"].device)
    said = said.scatter(1, inputs["question"], 1.0)  # (B, words): is the word in the question?
    said[:, PAD] = 1.0  # no word: here stands the 1
    f = nn.functional.pad(inputs["image"], (0, 1), value=1.0)  # (B, 49)
    return (f[:, :, None] * said[:, None]).flatten(1)


def fit_products(quiz: Quiz, words: int, answers: int, weight: float = 30.0) -> Tensor:
    """A linear layer on all products, by ridge regression, in one step (49 · words, answers).

    No gradient descent: (XᵀX + weight · I)⁻¹ Xᵀ Y, with a 1 for the right answer in Y. Raises
    ValueError when the weight is not above 0, and as `products` does.
    """
    arguments.check_positive("weight", weight, 30.0)
    arguments.check_places("fit_products", quiz.target, len(quiz.target), answers)
    x = products(quiz.inputs, words).double()
    y = nn.functional.one_hot(quiz.target, answers).double()
    square = x.T @ x + weight * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.solve(square, x.T @ y).float()


def retrain(seed: int, epochs: int = 10) -> list[stored.Model]:
    """The answerers of `data/weights`, trained anew (half a minute)."""
    cards = datasets.load_postcards("train")
    asked = ask_all(cards)
    words, answers = question_words(asked)
    features = captioning.image_features(cards.images, seed)
    with seeded(seed):
        model = Answerers(len(words), len(answers))
    quiz = question_tensors(asked, features, words, answers)
    for answerer in model.values():
        train_answerer(answerer, quiz, epochs, seed)
    sizes = {"words": len(words), "answers": len(answers)}
    return [stored.Model("answerers", model, sizes, (words, answers))]


# --- How good are they?


def quality(
    answerers: Answerers, quiz: Quiz, seen: Tensor, by_hand: Tensor | None = None
) -> list[Result]:
    """The share of right answers of each fusion; seen (Q,): whether training showed such a card.

    The weighted sum should be no better than guessing where the answer needs a product. by_hand:
    the weights of `fit_products`, the rival. The limit is 1: colour, object and weather are drawn
    so that one sees them, and the answers follow from these.
    """
    bounds = {"weighted sum": {"at_most": 0.60}, "low-rank": {"at_least": 0.90}}
    both = torch.tensor([kind == "both" for kind in quiz.kinds])
    rival = None
    if by_hand is not None:
        scores = products(quiz.inputs, len(by_hand) // (captioning.FEATURES + 1)) @ by_hand
        rival = (scores.argmax(1) == quiz.target).float()
    results = []
    for fused, model in answerers.items():
        right = (training.predict(model, quiz.inputs).argmax(1) == quiz.target).float()
        for name, chosen in (("seen", seen), ("unseen", ~seen)):
            for what, asked in (("both at once", both), ("one question", ~both)):
                share = right[asked & chosen].mean().item()
                more = dict(bounds.get(fused, {})) if what == "both at once" else {}
                if fused == "low-rank" and rival is not None:
                    more |= {"baseline": rival[asked & chosen].mean().item(), "limit": 1.0}
                    more |= {"rival": "ridge on products"}
                results.append(Result(f"{what}, {fused}, {name}", share, **more))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored answerers of this seed (0, 1 or 2) reach on questions to test cards."""
    train, cards = (datasets.load_postcards(split) for split in ("train", "test"))
    asked = ask_all(cards, seed=1)
    answerers, (words, answers) = stored.load("answerers", seed)
    features = captioning.image_features(cards.images, seed)
    quiz = question_tensors(asked, features, words, answers)
    seen_features = captioning.image_features(train.images, seed)
    learned = question_tensors(ask_all(train), seen_features, words, answers)
    by_hand = fit_products(learned, len(words), len(answers))
    seen = cards.seen[[question.place for question in asked]]
    return quality(answerers, quiz, seen, by_hand)
