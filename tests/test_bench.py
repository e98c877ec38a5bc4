"""bench.py: the table is complete, and its figures are measured."""

import math
import time
from types import SimpleNamespace

import pytest

from mbm_lab import __main__, bench, lessons, place, stored


def test_seconds_measures():
    assert 0.05 <= bench.seconds(lambda: time.sleep(0.05)) < 1


def test_lesson_seconds_are_those_of_the_notebooks():
    rows = bench.lesson_seconds()
    assert [row[0] for row in rows] == [f"lesson {path.stem}" for path in lessons.course_lessons()]
    assert all(row[1].split()[0].isdigit() for row in rows)


@pytest.mark.slow
def test_training_speed_compares_with_the_bare_loop():
    ours, bare, ratio = bench.training_speed(cards=128, rounds=3)
    assert float(ours[1].split()[0].replace(",", "")) > 10
    assert float(bare[1].split()[0].replace(",", "")) > 10
    assert float(ratio[1]) > 0.97 / 3


@pytest.mark.slow
def test_checkpoint_speed_compares_with_the_bare_loop():
    ratio, cost = bench.checkpoint_speed(cards=128, rounds=3, epochs=2)
    assert float(ratio[1]) > 0.97 / 4
    assert float(cost[1].removesuffix(" ms")) < 500


def assert_quick(rows: list[bench.Row], count: int) -> None:
    """So many sliders are measured, and none takes three times what it should."""
    names = [row[0] for row in rows]
    assert len(names) == len(set(names)) == count
    for what, figure, wanted in rows:
        median, slowest = (float(x) for x in figure.removesuffix(" ms").split(" / "))
        assert 0 < median <= slowest
        assert median < 3 * int(wanted.split()[1]), what


@pytest.mark.slow
def test_every_slider_is_measured_and_quick_enough():
    assert_quick(bench.sliders(moves=20), count=11)


def test_latency_gives_median_and_percentile():
    pauses = iter([0.01] * 9 + [0.2])
    _, figure, wanted = bench.latency("x", lambda _: time.sleep(next(pauses)), 10, (30, 80))
    median, slowest = (float(x) for x in figure.removesuffix(" ms").split(" / "))
    assert 10 <= median < 100 <= slowest
    assert wanted.startswith("< 30 / 80 ms")


@pytest.mark.slow
def test_what_cannot_be_loaded_here_is_not_measured(monkeypatch):
    monkeypatch.setattr(bench.downloads, "find", lambda name: None)
    ((what, took, _),) = bench.loading()
    assert what == "loading 3,500 pictures"
    assert float(took.removesuffix(" s")) < 9  # three times what it should be
    monkeypatch.setattr(bench.downloads, "find", lambda name: "there" if name == "mnist" else None)
    monkeypatch.setattr(bench.datasets, "load_postcards", lambda split: None)
    monkeypatch.setattr(bench, "_written_digits", lambda: None)
    assert [what for what, _, _ in bench.loading()][1:] == ["loading 70,000 written digits"]


def test_main_prints_every_figure(capsys, monkeypatch):
    measures = ("loading", "training_speed", "sliders", "checkpoint_speed")  # tested by themselves
    for name in measures:
        monkeypatch.setattr(bench, name, lambda name=name: [(f"{name} of it", "1 s", "< 2 s")])
    bench.main()
    _, *rows = capsys.readouterr().out.splitlines()
    for name, row in zip(measures, rows, strict=False):
        assert row.split() == [name, "of", "it", "1", "s", "<", "2", "s"]
    assert sum("lesson 04_fusion" in row for row in rows) == 1


def test_faults_are_planted_and_trainings_ended_by_the_courses_tests(monkeypatch):
    asked = []

    def run(command, cwd, env):
        asked.append((command[1:], cwd, env["OMP_NUM_THREADS"]))
        return SimpleNamespace(returncode=len(asked) - 1)

    monkeypatch.setattr(bench.subprocess, "run", run)
    assert __main__.main(["bench", "faults"]) == 2
    assert asked == [
        (["-m", "tests.faults"], place.COURSE, "1"),
        (["-m", "tests.faults.kills", "100"], place.COURSE, "1"),
        (["-m", "tests.torn", "20"], place.COURSE, "1"),
    ]


def test_an_installed_package_says_that_it_has_no_faults_to_plant(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench.place, "COURSE", tmp_path)
    assert __main__.main(["bench", "faults"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mbm-lab: The faults are planted by the course's tests")
    assert said.count("\n") == 1
    assert "download the course" in said


def test_quality_prints_least_median_and_most_and_marks_what_fails(capsys, monkeypatch):
    values = {0: (0.9, 0.1), 1: (0.7, 0.3), 2: (0.8, 0.2)}

    def exam(seed):
        right, errors = values[seed]
        return [
            stored.Result("right", right, at_least=0.75),
            stored.Result("errors", errors, at_most=0.5),
            stored.Result("too many errors", errors, at_most=0.25),
            stored.Result("rate", errors, at_most=math.inf),
            stored.Result("beside", right, 0.5, baseline=errors, rival="ridge", limit=0.95),
            stored.Result("passes", right, 0.5, limit=0.85),
            stored.Result("rates", errors, at_most=0.5, baseline=right, rival="mean", limit=0.05),
            stored.Result("too few", errors, at_most=0.5, limit=0.15),
            stored.Result("each its own", right, 0.5, limit=right + 0.05),
        ]

    monkeypatch.setattr(bench, "examiners", lambda: {"lesson 99": exam})
    bench.quality()
    _, *rows = capsys.readouterr().out.splitlines()
    assert [" ".join(row.split()) for row in rows] == [
        "lesson 99 right 0.700 0.800 0.900 >= 0.75 NOT SO",
        "lesson 99 errors 0.100 0.200 0.300 <= 0.50",
        "lesson 99 too many errors 0.100 0.200 0.300 <= 0.25 NOT SO",
        "lesson 99 rate 0.100 0.200 0.300",
        "lesson 99 beside 0.700 0.800 0.900 0.300 0.950 >= 0.50 base: ridge",
        "lesson 99 passes 0.700 0.800 0.900 0.850 >= 0.50 NOT SO",
        "lesson 99 rates 0.100 0.200 0.300 0.700 0.050 <= 0.50 base: mean",
        "lesson 99 too few 0.100 0.200 0.300 0.150 <= 0.50 NOT SO",
        "lesson 99 each its own 0.700 0.800 0.900 0.950 >= 0.50",
    ]


def test_quality_passes_over_a_lesson_whose_data_are_not_here(capsys, monkeypatch):
    def exam(seed):
        raise FileNotFoundError("The data set mnist is not here: fetch it.")

    monkeypatch.setattr(bench, "examiners", lambda: {"lesson 99": exam})
    bench.quality()
    _, said = capsys.readouterr().out.splitlines()
    assert said.split() == "lesson 99 The data set mnist is not here: fetch it.".split()


def test_every_lesson_with_stored_models_is_examined():
    wanted = [f"lesson {lesson}" for lesson in stored.LESSONS if lesson != "00"]
    trained = [f"lesson {lesson}" for lesson in ("02", "03", "04", "05")]
    assert list(bench.examiners()) == [*trained, *wanted, "lesson 12"]


def figure(row: bench.Row) -> float:
    return float(row[1].split()[0].replace(",", ""))


def test_scaling_is_measured_in_memory_from_shards_and_with_processes(monkeypatch):
    """On a few cards, in this process; torchrun is tested with `scaling`."""

    def torchrun(processes, out, *words):
        assert words == ("--epochs", "2", "--cards", "12")
        return SimpleNamespace(seconds=2.0 * processes)

    monkeypatch.setattr(bench.scaling, "torchrun", torchrun)
    monkeypatch.setattr(
        bench, "in_a_process", lambda measure, *given: bench.Measured(measure(*given), 321.4)
    )
    rows = bench.scaling_speed(cards=12)
    names = ["training, cards in memory"]
    for workers in ("0 workers", "1 worker", "2 workers"):
        names += [f"reading shards, {workers}", f"training from shards, {workers}"]
    names += ["training with 1 process", "training with 2 processes"]
    assert [row[0] for row in rows] == [one + end for one in names for end in ("", ": memory")]
    assert {row[1] for row in rows[1::2]} == {"321 MB"}
    assert all(figure(row) > 0 for row in rows[::2])
    assert [figure(row) for row in rows[-4::2]] == [12, 6]  # of 2 epochs, in 2 and in 4 seconds


@pytest.mark.slow
def test_what_is_measured_in_a_process_of_its_own_has_a_memory_of_its_own():
    rate, megabytes = bench.in_a_process(float, 7)
    assert rate == 7
    assert 50 < megabytes < 1000


def test_what_one_card_more_costs_is_the_slope_of_a_line(monkeypatch):
    monkeypatch.setattr(bench.costs, "training_seconds", lambda *given: 0.002 * given[-1] + 5)
    seconds, memory = bench.slopes(cards=(4, 8), sizes=(2, 3))
    assert seconds[:2] == ("one card more in an epoch", "2.00 ms")
    assert 50 < figure(memory) < 2000  # a picture alone takes 49 KB


def test_bench_scale_prints_them(monkeypatch, capsys):
    monkeypatch.setattr(bench, "scaling_speed", lambda: [("speed", "1 cards/s", "")])
    monkeypatch.setattr(bench, "slopes", lambda: [("slope", "2 ms", "")])
    assert __main__.main(["bench", "scale"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows] == [["speed", "1", "cards/s"], ["slope", "2", "ms"]]
