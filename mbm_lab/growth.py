"""How one model grows, and what its parts are for: many small models compared (lesson 13).

`python -m mbm_lab.growth` trains them, three seeds each, and writes what each reached to
`data/growth.csv`, which lesson 13 reads. All see the same fresh cards and are judged on other ones.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mbm_lab import (
    arguments,
    atomic,
    captioning,
    costs,
    datasets,
    fusion,
    one_model,
    postcards,
    preprocessing,
    questions,
    stored,
    training,
    writing,
)
from mbm_lab.one_model import Examples, OneModel

FILE = datasets.DATA / "growth.csv"
"""What the runs of the course reached."""

COMMAND = "python -m mbm_lab.growth"

SMALL = {"width": 48, "blocks": 2}
"""The sizes of a model here, where nothing else is said: 90,000 parameters."""

STEPS, BATCH = 1000, 64
JUDGED = 600
"""Cards on which each model is judged. None of the runs learns from them."""


class Run(NamedTuple):
    """What one small model reached.

    experiment: of EXPERIMENTS; setting: which of its models; cards, parameters, steps: what it had;
    what, value: what was measured.
    """

    experiment: str
    setting: str
    seed: int
    cards: int
    parameters: int
    steps: int
    what: str
    value: float


# --- Cards


class Pool(NamedTuple):
    """N cards with their pictures' patches (N, 16, 128)."""

    cards: datasets.Postcards
    picture: Tensor

    def take(self, rows: Sequence[int]) -> Pool:
        """Some of the cards."""
        return Pool(self.cards.subset(rows), self.picture[list(rows)])


@functools.cache
def pool(count: int, seed: int) -> Pool:
    """`count` fresh cards of combinations that training may see, without their pixels: two and a
    half minutes for 50,000."""
    several = []
    for start in range(0, count, 1000):
        cards = datasets.draw_postcards(min(1000, count - start), seed + start, "seen")
        several.append((cards, one_model.picture_patches(cards.images)))
    cards = [card for part, _ in several for card in part.cards]
    whole = datasets.of_cards(cards)
    return Pool(whole, torch.cat([picture for _, picture in several]))


LEARNED, EXAMINED = 1_390_000, 1_380_000
"""The seeds of the cards from which the runs learn, and on which they are judged."""


def new_cards() -> Pool:
    """The cards on which each run is judged."""
    return pool(JUDGED, EXAMINED)


# --- One run


def learn(
    several: Sequence[Examples],
    vocabulary: preprocessing.Vocabulary,
    seed: int,
    steps: int | None = None,
    val: Examples | None = None,
    blindfold: float = 0.0,
    **sizes: int,
) -> tuple[OneModel, float]:
    """Trains a small model on examples: the model, and the least validation loss of ten looks."""
    model = one_model.new_model(vocabulary, seed, **(SMALL | sizes))
    steps = STEPS if steps is None else steps
    epochs = min(10, steps)
    batches = one_model.Batches(several, steps // epochs, BATCH, blindfold, seed)
    history = training.fit(
        model,
        DataLoader(batches, batch_size=None),
        loss=writing.next_word_loss,
        val=None if val is None else val.take(torch.arange(len(val))),
        epochs=epochs,
        learning_rate=3e-3,
        one_cycle=True,
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=0.05),
        clip_norm=1.0,
        seed=seed,
        progress=False,
    )
    return model, min(history.val_loss, default=math.nan)


def captions(cards: Pool, vocabulary: preprocessing.Vocabulary) -> Examples:
    """English captions of these cards."""
    seen = {"picture": cards.picture}
    return one_model.examples("<caption en>", seen, None, cards.cards.captions, vocabulary)


def exact_captions(
    model: OneModel, vocabulary: preprocessing.Vocabulary, cards: Pool, language: str = "en"
) -> Tensor:
    """Whether the model's caption of each card is the true one: (N,) bool."""
    written = one_model.answer(
        model, f"<caption {language}>", {"picture": cards.picture}, vocabulary
    )
    true = dict(captioning.captions_of(cards.cards))[language]
    return writing.exact(written, writing.tidy(true, language))


# --- Growing: cards, parameters, steps

GROWN = {
    "cards": (500, 1500, 5000, 15_000, 50_000),
    "width": (8, 16, 32, 64),
    "steps": (80, 160, 320, 640, 1280, 2560),
}
"""What grows, and how large it becomes. The last of each is for the reader to predict."""

MIDDLE = 15_000
"""Cards of the runs in which something else grows."""


def grow(what: str, seed: int) -> Iterator[Run]:
    """Models that learn English captions, of which one thing grows: the loss of the next word, on
    cards that they have not seen. Raises ValueError unless that is one of GROWN."""
    arguments.check_choice("what", what, GROWN)
    vocabulary, most = one_model.course_vocabulary(), max(GROWN["cards"])
    val = captions(new_cards(), vocabulary)
    order = torch.randperm(most, generator=torch.Generator().manual_seed(seed)).tolist()
    for size in GROWN[what]:
        cards = size if what == "cards" else MIDDLE
        steps = size if what == "steps" else STEPS
        sizes = {"width": size} if what == "width" else {}
        shown = captions(pool(most, LEARNED).take(order[:cards]), vocabulary)
        model, loss = learn([shown], vocabulary, seed, steps, val, **sizes)
        parameters = fusion.parameter_count(model)
        yield Run(what, str(size), seed, cards, parameters, steps, "loss", loss)


# --- What each part is for

PARTS = {
    "whole": {},
    "no residual": {"residual": 0},
    "no normalisation": {"norm": 0},
    "no positions": {"positions": 0},
}


def take_out(seed: int) -> Iterator[Run]:
    """The same model, of three blocks, without one of its parts: captions and questions."""
    vocabulary, cards = one_model.course_vocabulary(), pool(4000, LEARNED)
    tasks = ("<caption en>", "<ask>")
    shown, val = (
        [one for one in one_model.picture_examples(*part, vocabulary) if one.task in tasks]
        for part in (cards, new_cards())
    )
    for part, sizes in PARTS.items():
        model, loss = learn(shown, vocabulary, seed, val=val[0], blocks=3, **sizes)
        right = exact_captions(model, vocabulary, new_cards())
        facts = (seed, 4000, fusion.parameter_count(model), STEPS)
        yield Run("parts", part, *facts, "loss", loss)
        yield Run("parts", part, *facts, "captions, exact", right.float().mean().item())


# --- What a picture's tokens are


def patches(seed: int) -> Iterator[Run]:
    """Lesson 06's convolutions as patches, or raw pixels: captions from the course's cards."""
    vocabulary = one_model.course_vocabulary()
    train, val = datasets.load_postcards("train"), datasets.load_postcards("val")
    for cut in (one_model.picture_patches, one_model.raw_patches):
        shown, judged = Pool(train, cut(train.images)), Pool(val, cut(val.images))
        for count in (500, 2000):
            numbers = shown.picture.shape[2]
            model, loss = learn(
                [captions(shown.take(range(count)), vocabulary)], vocabulary, seed,
                val=captions(judged, vocabulary), patch=numbers,
            )  # fmt: skip
            right = exact_captions(model, vocabulary, judged).float().mean().item()
            facts = (seed, count, fusion.parameter_count(model), STEPS)
            yield Run("patches", cut.__name__, *facts, "loss", loss)
            yield Run("patches", cut.__name__, *facts, "captions, exact", right)


# --- Answers only, or the prompt's words, too


def prompts_too(seed: int) -> Iterator[Run]:
    """A model whose loss counts the answers' words, and one that learns the prompts, too."""
    vocabulary, cards = one_model.course_vocabulary(), pool(4000, LEARNED)
    tasks = ("<translate>", "<ask>")
    answers = [one for one in one_model.picture_examples(*cards, vocabulary) if one.task in tasks]
    for setting, shown in (("answers", answers), ("prompts, too", list(map(with_prompt, answers)))):
        model, _ = learn(shown, vocabulary, seed, 2 * STEPS)
        asked = questions.ask_all(new_cards().cards, seed=1)
        facts = (seed, 4000, fusion.parameter_count(model), 2 * STEPS)
        for what, share in right_answers(model, vocabulary, new_cards(), asked).items():
            yield Run("loss", setting, *facts, what, share)


def with_prompt(one: Examples) -> Examples:
    """The same examples, whose target is every next word, those of the prompt among them."""
    target = torch.zeros_like(one.target)
    target[:, :-1] = one.words[:, 1:]
    return Examples(
        one.task, one.seen, one.card, one.words, target.where(one.target == 0, one.target)
    )


def right_answers(
    model: OneModel,
    vocabulary: preprocessing.Vocabulary,
    cards: Pool,
    asked: Sequence[questions.Question],
) -> dict[str, float]:
    """The shares of exact translations, and of right answers to these questions."""
    seen = {"picture": cards.picture}
    about = {"picture": cards.picture[[one.place for one in asked]]}
    texts, true = [one.text for one in asked], [one.answer for one in asked]
    written = one_model.answer(model, "<translate>", seen, vocabulary, cards.cards.captions)
    answered = one_model.answer(model, "<ask>", about, vocabulary, texts)
    right = writing.exact(written, writing.tidy(cards.cards.captions_zh, "zh"))
    return {
        "translation, exact": right.float().mean().item(),
        "questions": writing.exact(answered, true).float().mean().item(),
    }


# --- Does what is learned for one task help in another?

HELD_OUT = ("umbrella", "balloon", "fish", "key", "crane (bird)", "bat (sport)")
"""Objects that no Chinese caption names while `transfer` trains."""

HELPERS = {
    "Chinese captions alone": (),
    "and English captions": ("<caption en>",),
    "and translation": ("<translate>",),
    "and both": ("<caption en>", "<translate>"),
}
"""The tasks that are learned beside Chinese captions, on all cards."""


def transfer(seed: int) -> Iterator[Run]:
    """Chinese captions of objects that were captioned in English, or translated, and not captioned
    in Chinese: the share whose object is named rightly. Two rivals: the English caption of the same
    model, translated by it without its picture and with it; and Chinese captions of all objects."""
    vocabulary, cards = one_model.course_vocabulary(), pool(4000, LEARNED)
    new = [row for row, card in enumerate(new_cards().cards.cards) if card.object in HELD_OUT]
    judged = new_cards().take(new)
    shown = [row for row, card in enumerate(cards.cards.cards) if card.object not in HELD_OUT]
    true = writing.tidy(judged.cards.captions_zh, "zh")
    everything = one_model.picture_examples(*cards, vocabulary)
    by_task = {one.task: one for one in everything}
    limited = one_model.picture_examples(*cards.take(shown), vocabulary)
    chinese = next(one for one in limited if one.task == "<caption zh>")

    def named(written: Sequence[str]) -> float:
        return captioning.factors_right(written, true, "zh")["object"].float().mean().item()

    runs = {name: [chinese, *(by_task[t] for t in tasks)] for name, tasks in HELPERS.items()}
    runs["Chinese captions of all objects"] = [by_task["<caption zh>"]]
    seen = {"picture": judged.picture}
    for setting, several in runs.items():
        model, _ = learn(several, vocabulary, seed)
        facts = (seed, 4000, fusion.parameter_count(model), STEPS)
        written = one_model.answer(model, "<caption zh>", seen, vocabulary)
        yield Run("transfer", setting, *facts, "held-out object", named(written))
        if len(several) == 3:
            english = one_model.answer(model, "<caption en>", seen, vocabulary)
            written = one_model.answer(model, "<translate>", seen, vocabulary, english)
            yield Run("transfer", "in two steps", *facts, "held-out object", named(written))


# --- Without the picture, without the words


def blindfolds(seed: int) -> Iterator[Run]:
    """The mood from both, from one alone: a model that always had both while it learned, and one
    that went without one of them in every fifth batch (modality dropout)."""
    vocabulary, cards = one_model.course_vocabulary(), pool(MIDDLE, LEARNED)
    both, picture_only = (
        one for one in one_model.picture_examples(*cards, vocabulary) if one.task == "<mood>"
    )
    judged, mood = new_cards(), new_cards().cards.mood
    seen, messages = {"picture": judged.picture}, judged.cards.messages
    for setting, several, share in (
        ("always both", [both], 0.0),
        ("modality dropout", [both, picture_only], 0.2),
    ):
        model, _ = learn(several, vocabulary, seed, 2 * STEPS, blindfold=share)
        facts = (seed, MIDDLE, fusion.parameter_count(model), 2 * STEPS)
        for what, given in (
            ("both", (seen, messages)), ("picture alone", (seen, None)),
            ("message alone", ({}, messages)),
        ):  # fmt: skip
            read = one_model.read_mood(model, given[0], vocabulary, given[1])
            r_squared = training.r_squared(read, mood)
            yield Run("blindfold", setting, *facts, f"mood, {what}, R²", r_squared)


# --- Questions that ask for two things


def simple_first(seed: int) -> Iterator[Run]:
    """Lesson 07's questions alone, or among simpler ones: "is it raining?", "is the face red?".
    How often two things at once are answered rightly, and how often where only one of them is
    wrong."""
    vocabulary, cards = one_model.course_vocabulary(), pool(4000, LEARNED)
    asked = [one for one in questions.ask_all(new_cards().cards, seed=1) if one.kind == "both"]
    about = {"picture": new_cards().picture[[one.place for one in asked]]}
    half = torch.tensor([half_wrong(one, new_cards().cards.cards[one.place]) for one in asked])
    for setting, simple in (("lesson 07's questions", 0), ("and simple ones", one_model.SIMPLE)):
        shown = one_model.picture_examples(*cards, vocabulary, simple=simple)[-1]
        model, _ = learn([shown], vocabulary, seed, 2 * STEPS)
        said = one_model.answer(model, "<ask>", about, vocabulary, [one.text for one in asked])
        right = writing.exact(said, [one.answer for one in asked]).float()
        facts = (seed, 4000, fusion.parameter_count(model), 2 * STEPS)
        yield Run("simple", setting, *facts, "two at once", right.mean().item())
        yield Run("simple", setting, *facts, "one of two wrong", right[half].mean().item())


def half_wrong(asked: questions.Question, card: postcards.Card) -> bool:
    """Whether a question for weather and colour is wrong in just one of them."""
    weather = questions.SAY_WEATHER[card.weather] in asked.text
    return weather != asked.text.endswith(f"{card.colour}?")


# --- All of them

EXPERIMENTS: dict[str, Callable[[int], Iterator[Run]]] = {
    "parts": take_out,
    "patches": patches,
    "loss": prompts_too,
    "transfer": transfer,
    "blindfold": blindfolds,
    "simple": simple_first,
    **{what: functools.partial(grow, what) for what in GROWN},
}


def load(path: str | Path = FILE) -> list[Run]:
    """What the runs reached, as `write` wrote it. Raises FileNotFoundError without the file, and
    ValueError when it does not hold runs."""
    text, runs, kinds = preprocessing.read_text(path), [], get_type_hints(Run)
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
        try:
            runs.append(Run(*(kind(row[name]) for name, kind in kinds.items())))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"Line {number} of {path} holds no run ({', '.join(Run._fields)}): write the file "
                f"anew with {COMMAND}, or replace it by a whole copy."
            ) from None
    return runs


def write(runs: Sequence[Run], path: str | Path = FILE) -> None:
    """Writes runs as a table, a line each; values with four digits. Raises OSError when the file
    cannot be written; an old one is then as it was."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Run._fields)
    table.writerows([*run[:-1], f"{run.value:.4f}"] for run in runs)
    atomic.write_whole(
        path, lambda part: part.write_text(text.getvalue(), encoding="utf-8", newline="\n")
    )


def of(runs: Sequence[Run], experiment: str, what: str | None = None) -> dict[str, list[float]]:
    """The values of an experiment, one a seed, for each setting in its order. Raises ValueError
    when there are no such runs."""
    values: dict[str, list[float]] = {}
    for run in runs:
        if run.experiment == experiment and what in (None, run.what):
            values.setdefault(run.setting, []).append(run.value)
    if not values:
        raise ValueError(
            f"There are no runs of {what or 'anything'} in the experiment {experiment!r}: choose "
            f"from {', '.join(sorted({run.experiment for run in runs})) or 'none'}."
        )
    return values


def medians(runs: Sequence[Run], what: str) -> tuple[list[int], list[float]]:
    """How large each model of GROWN was (cards, parameters or steps), and the median of its losses
    over the seeds. Raises ValueError as `of`, and unless `what` is one of GROWN."""
    arguments.check_choice("what", what, GROWN)
    counted = {"width": "parameters"}.get(what, what)
    losses = of(runs, what, "loss")
    sizes = {run.setting: getattr(run, counted) for run in runs if run.experiment == what}
    return [sizes[name] for name in losses], [statistics.median(one) for one in losses.values()]


def log_line(x: Sequence[float], y: Sequence[float]) -> costs.Line:
    """The straight line through points whose logarithms (base 10) are taken first: y = 10^intercept
    · x^slope. Raises ValueError as `costs.fit_line`, and for numbers that are not above 0."""
    for name, values in (("x", x), ("y", y)):
        for value in values:
            arguments.check_positive(name, value, 1.0)
    return costs.fit_line([math.log10(value) for value in x], [math.log10(value) for value in y])


def main(words: Sequence[str] | None = None) -> int:
    """Trains the models of the named experiments, or of all, and writes what they reached; runs of
    other experiments that the file holds stay in it."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("experiments", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; all if none")
    parser.add_argument("--out", default=FILE, type=Path, help="the file of the runs")
    options = parser.parse_args(words)
    try:
        for name in options.experiments:
            arguments.check_choice("experiment", name, EXPERIMENTS)
        wanted = options.experiments or list(EXPERIMENTS)
        runs = load(options.out) if options.out.exists() else []
        for name in wanted:
            made = []
            for seed in stored.SEEDS:
                for run in EXPERIMENTS[name](seed):
                    print(*run, flush=True)
                    made.append(run)
            runs = [run for run in runs if run.experiment != name] + made
            write(runs, options.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
