"""growth.py: small models compared; what the stored runs hold, and how they are made."""

import math

import pytest
import torch

from mbm_lab import growth, one_model, postcards, preprocessing, questions, stored, writing
from mbm_lab.growth import Run

RUNS = [
    Run("cards", "500", 0, 500, 9, 10, "loss", 0.5),
    Run("cards", "500", 1, 500, 9, 10, "loss", 0.25),
    Run("cards", "1500", 0, 1500, 9, 10, "loss", 0.125),
    Run("parts", "whole, really", 0, 40, 9, 10, "exact", 1.0),
]


@pytest.fixture
def small(monkeypatch):
    """Every experiment with few cards, few steps and small sizes."""
    whole = growth.pool
    monkeypatch.setattr(
        growth, "pool", lambda count, seed: whole(30, seed).take(range(min(count, 30)))
    )
    monkeypatch.setattr(growth, "GROWN", {"cards": (10, 30), "width": (4, 8), "steps": (1, 20)})
    for name, value in {"STEPS": 3, "BATCH": 4, "JUDGED": 30, "MIDDLE": 20}.items():
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr(growth, "SMALL", {"width": 8, "blocks": 1})


# The stored runs


def test_the_file_holds_every_experiment_with_three_seeds():
    runs = growth.load()
    assert {run.experiment for run in runs} == set(growth.EXPERIMENTS)
    counts = {}
    for run in runs:
        one = (run.experiment, run.setting, run.cards, run.what)
        counts.setdefault(one, []).append(run.seed)
        assert math.isfinite(run.value)
        assert run.value <= 1 or run.what == "loss"
    assert all(seeds == list(stored.SEEDS) for seeds in counts.values()), "a run is missing"
    for what, sizes in growth.GROWN.items():
        assert list(growth.of(runs, what)) == [str(size) for size in sizes]
    assert list(growth.of(runs, "parts")) == list(growth.PARTS)


def test_runs_are_read_as_they_were_written(tmp_path):
    growth.write(RUNS, tmp_path / "runs.csv")
    assert growth.load(tmp_path / "runs.csv") == RUNS


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2\n", 2),
        (",".join(Run._fields) + "\nparts,whole,zero,1,1,1,loss,0.5\n", 2),
        (",".join(Run._fields) + "\nparts,whole,0,1,1,1,loss,0.5\nparts,whole,1\n", 3),
    ],
)
def test_a_file_without_runs_is_an_error(tmp_path, text, line):
    (tmp_path / "runs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"Line {line} of .* holds no run .* write the file anew"):
        growth.load(tmp_path / "runs.csv")
    with pytest.raises(FileNotFoundError):
        growth.load(tmp_path / "none.csv")


def test_the_values_of_an_experiment_are_those_of_its_seeds():
    assert growth.of(RUNS, "cards", "loss") == {"500": [0.5, 0.25], "1500": [0.125]}
    assert growth.of(RUNS, "parts") == {"whole, really": [1.0]}
    with pytest.raises(ValueError, match="no runs of loss in the experiment 'parts': choose from"):
        growth.of(RUNS, "parts", "loss")


def test_what_grew_has_the_median_loss_of_its_seeds():
    losses = {"8": (0.9, 0.1, 0.4), "16": (0.3, 0.2, 0.6)}
    runs = [
        Run("width", name, seed, 77, 100 * int(name), 55, "loss", loss)
        for name, three in losses.items()
        for seed, loss in enumerate(three)
    ]
    assert growth.medians(runs + RUNS, "width") == ([800, 1600], [0.4, 0.3])
    assert growth.medians(RUNS[:2], "cards") == ([500], [0.375])
    with pytest.raises(ValueError, match="Unknown what 'parts': use one of"):
        growth.medians(RUNS, "parts")


def test_a_power_law_is_a_line_of_logarithms():
    x = [1.0, 10.0, 100.0, 1000.0]
    line = growth.log_line(x, [3 * value**-0.5 for value in x])
    assert line.slope == pytest.approx(-0.5)
    assert 10**line.intercept == pytest.approx(3)
    with pytest.raises(ValueError, match="y is 0"):
        growth.log_line(x, [1.0, 1.0, 0.0, 1.0])


# How they are made


def test_the_prompt_is_learned_too_where_it_is_wanted():
    words = torch.tensor([[5, 9, 8, 2, 7], [6, 2, 7, 0, 0]])
    target = torch.tensor([[0, 0, 0, 7, 3], [0, 7, 3, 0, 0]])
    one = one_model.Examples("<translate>", {}, torch.arange(2), words, target)
    more = growth.with_prompt(one)
    assert more.target.tolist() == [[9, 8, 2, 7, 3], [2, 7, 3, 0, 0]]
    assert one.target.tolist() == target.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", growth.EXPERIMENTS)
def test_an_experiment_gives_a_run_for_each_of_its_models(name, small):
    stored_runs = [run for run in growth.load() if run.experiment == name and run.seed == 0]
    made = list(growth.EXPERIMENTS[name](1))
    if name not in growth.GROWN:
        assert [(r.setting, r.what) for r in made] == [(r.setting, r.what) for r in stored_runs]
    else:
        assert [run.setting for run in made] == [str(size) for size in growth.GROWN[name]]
    assert all(math.isfinite(run.value) and run.seed == 1 for run in made)
    assert list(growth.EXPERIMENTS[name](1)) == made, "the seed decides all"
    if name == "width":
        assert made[0].parameters < made[1].parameters


def test_no_chinese_caption_names_a_held_out_object_while_the_model_learns(small, monkeypatch):
    monkeypatch.setattr(growth, "HELD_OUT", ("hat", "boat", "mouse (animal)", "umbrella", "fish"))
    vocabulary, seen = one_model.course_vocabulary(), []
    learn = growth.learn
    monkeypatch.setattr(
        growth, "learn", lambda several, *a: seen.append(several) or learn(several, *a)
    )
    list(growth.transfer(0))
    cards = growth.pool(30, growth.LEARNED).cards.cards
    left = [card for card in cards if card.object not in growth.HELD_OUT]
    assert 0 < len(left) < len(cards)
    for several in seen[:-1]:
        assert several[0].task == "<caption zh>"
        said = writing.read_out(several[0].words[:, 2:], vocabulary, "zh")
        assert said == writing.tidy([card.caption_zh for card in left], "zh")
        assert all(len(one) == len(cards) for one in several[1:])


def test_the_command_keeps_the_runs_of_other_experiments(tmp_path, small, capsys, monkeypatch):
    monkeypatch.setattr(stored, "SEEDS", (0, 2))
    file = tmp_path / "runs.csv"
    growth.write([RUNS[3], *RUNS[:3]], file)
    assert growth.main(["cards", "--out", str(file)]) == 0
    runs = growth.load(file)
    assert runs[0] == RUNS[3]
    assert [(run.setting, run.seed) for run in runs[1:]] == [
        ("10", 0), ("30", 0), ("10", 2), ("30", 2)
    ]  # fmt: skip
    before = file.read_bytes()
    assert growth.main(["card", "--out", str(file)]) == 1
    assert "Unknown experiment 'card'" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_cards_of_a_pool_are_new_and_allowed():
    pool = growth.pool(6, growth.EXAMINED)
    assert pool.picture.shape == (6, 16, 128)
    assert all(card.seen for card in pool.cards.cards)
    assert pool.take([2, 4]).cards.captions == [pool.cards.captions[i] for i in (2, 4)]
    assert preprocessing.tokenize(pool.cards.captions[0])
    assert growth.LEARNED != growth.EXAMINED


def test_a_question_is_half_wrong_when_one_of_its_two_things_is():
    cards = growth.pool(30, growth.EXAMINED).cards
    both = [one for one in questions.ask_all(cards, seed=1) if one.kind == "both"]
    for one in both:
        if one.answer == "yes":
            assert not growth.half_wrong(one, cards.cards[one.place])
    card = cards.cards[0]
    other = next(colour for colour in postcards.COLOURS if colour != card.colour)
    rain = next(weather for weather in postcards.WEATHERS if weather != card.weather)
    for weather, colour, wanted in (
        (card.weather, card.colour, False), (rain, card.colour, True),
        (card.weather, other, True), (rain, other, False),
    ):  # fmt: skip
        text = f"{questions.SAY_WEATHER[weather]} and is the face {colour}?"
        assert growth.half_wrong(questions.Question(0, "both", text, ""), card) == wanted
