"""`mbm-lab bench`: how fast the course runs on this computer."""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mbm_lab import cnn, datasets, lessons, preprocessing, training

Row = tuple[str, str, str]
"""What was measured, the figure, and what it should be."""


def main() -> None:
    """Prints a table of all figures. Takes about a minute, on one thread."""
    torch.set_num_threads(1)
    print(f"{'what':44} {'measured':>16}   {'should be'}")
    for measure in (loading, training_speed, slider, lesson_seconds):
        for what, figure, wanted in measure():
            print(f"{what:44} {figure:>16}   {wanted}", flush=True)


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def loading() -> list[Row]:
    """Reading all pictures of the data set from their files."""
    return [
        (
            "loading 3,500 pictures",
            f"{seconds(lambda: datasets.load_postcards('all')):.1f} s",
            "< 3 s",
        )
    ]


def bare_loop(model: nn.Module, images: Tensor, targets: Tensor, batch_size: int = 64) -> None:
    """One epoch as one would write it by hand: the yardstick for `training.fit`."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for index in torch.randperm(len(targets)).split(batch_size):
        loss = nn.functional.mse_loss(model(images[index]), targets[index])
        adam.zero_grad()
        loss.backward()
        adam.step()


def training_speed(cards: int = 640, rounds: int = 9) -> list[Row]:
    """Samples a second of `training.fit`, and of the same model in a bare loop, in turn."""
    generator = torch.Generator().manual_seed(0)
    size = preprocessing.IMAGE_SIZE
    images = torch.rand(cards, 3, size, size, generator=generator)
    targets = torch.rand(cards, generator=generator)
    model = cnn.Reader(cnn.ImageEncoder())
    fitted, bare = copy.deepcopy(model), copy.deepcopy(model)
    device = torch.device("cpu")

    def fit() -> None:
        options = {"epochs": 1, "device": device, "progress": False}
        training.fit(fitted, images, targets, nn.functional.mse_loss, **options)

    pairs = [
        (seconds(fit), seconds(lambda: bare_loop(bare, images, targets))) for _ in range(rounds)
    ]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(bare / fit for fit, bare in pairs)
    return [
        ("training.fit", f"{cards / ours:,.0f} cards/s", ""),
        ("the same model in a bare loop", f"{cards / theirs:,.0f} cards/s", ""),
        ("training.fit against the bare loop", f"{ratio:.2f}", ">= 0.95"),
    ]


def slider(moves: int = 100) -> list[Row]:
    """From a slider's new value to the new picture, in lesson 04's playground."""
    from mbm_lab import widgets

    playground = widgets.FusionPlayground()

    def move(step: int) -> None:
        playground.alpha.value = -0.4 + 0.01 * step

    times = sorted(seconds(lambda step=step: move(step)) for step in range(moves))
    return [
        ("slider, median", f"{1000 * times[moves // 2]:.1f} ms", "< 30 ms"),
        ("slider, 95th percentile", f"{1000 * times[int(0.95 * moves)]:.1f} ms", "< 80 ms"),
    ]


def lesson_seconds() -> list[Row]:
    """What each lesson's cells took when its outputs were stored."""
    rows = []
    for lesson in lessons.course_lessons():
        stored = lessons.read_notebook(lesson).metadata.get("mbm", {}).get("seconds", "?")
        rows.append((f"lesson {lesson.stem}", f"{stored} s", "< 60 s"))
    return rows
