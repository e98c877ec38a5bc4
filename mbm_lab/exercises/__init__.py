"""The exercises of the lessons, one module a lesson, named as the lesson's module is.

In a notebook an exercise looks like this:

    from mbm_lab.exercises.fusion import weighted_sum as ex

    def my_weighted_sum(f: Tensor, g: Tensor, alpha: float, beta: float) -> Tensor:
        return ...  # your code

    ex.check(my_weighted_sum)

`ex.hint()` gives one hint more with each call, `ex.solution()` shows the answer and why. How a
check finds the likely mistake stands in `mbm_lab.exercises.exercise`.
"""

from __future__ import annotations

import importlib

from mbm_lab.exercises.exercise import Choice, Exercise

LESSONS = {
    "01": "preprocessing",
    "02": "cnn",
    "03": "rnn",
    "04": "fusion",
    "05": "training",
    "06": "captioning",
    "07": "retrieval",
    "08": "video",
    "09": "speech",
    "10": "translation",
    "11": "scaling",
    "12": "real_data",
    "13": "one_model",
}
"""The lessons that have exercises: number and module."""


def of_lesson(number: str) -> list[Exercise | Choice]:
    """The exercises of a lesson ("04"), in their order."""
    module = importlib.import_module(f"mbm_lab.exercises.{LESSONS[number]}")
    return [value for value in vars(module).values() if isinstance(value, Exercise | Choice)]


def in_order() -> dict[str, Exercise | Choice]:
    """All exercises in the order of the course: {"04.1": exercise, …}."""
    return {
        f"{number}.{place}": one
        for number in LESSONS
        for place, one in enumerate(of_lesson(number), start=1)
    }


def overview(states: dict[str, dict]) -> str:
    """A table of all exercises with minutes, difficulty and the learner's state."""
    every = in_order()
    width = max(len(one.title) for one in every.values())
    lines = [f"{'exercise':8}  {'title':{width}}  {'minutes':>7}  {'difficulty':10}  state"]
    for label, one in every.items():
        state = say_state(states.get(one.key, {}))
        level = one.difficulty_in_words
        lines.append(f"{label:8}  {one.title:{width}}  {one.minutes:>7}  {level:10}  {state}")
    return "\n".join(lines)


def say_state(state: dict) -> str:
    """What is remembered of one exercise, in words."""
    if state.get("solved"):
        return "solved, after seeing the solution" if state.get("solution_seen") else "solved"
    tries = state.get("tries", 0)
    if tries:
        return f"tried {tries} {'time' if tries == 1 else 'times'}"
    return "solution seen" if state.get("solution_seen") else "not attempted"
