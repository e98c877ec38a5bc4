"""`mbm-lab bench`: how fast the course runs on this computer; `mbm-lab bench browser`: how fast the
playground of α and β answers in a browser; `mbm-lab bench quality`: how good the models are;
`mbm-lab bench faults`: what happens when files, arguments and disks are not as they should be;
`mbm-lab bench scale`: what more cards and more processes cost here."""

import asyncio
import contextlib
import copy
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ipywidgets
import psutil
import torch
from torch import Tensor, nn

from mbm_lab import (
    captioning,
    cnn,
    costs,
    datasets,
    downloads,
    exams,
    fusion,
    lessons,
    one_model,
    place,
    preprocessing,
    real_data,
    retrieval,
    scaling,
    shards,
    stored,
    training,
    widgets,
)
from mbm_lab.widgets import projector

Row = tuple[str, str, str]
"""What was measured, the figure, and what it should be."""


def main() -> None:
    """Prints a table of all figures. Takes about two minutes, on one thread."""
    torch.set_num_threads(1)
    _print_table(loading, training_speed, sliders, checkpoint_speed, lesson_seconds)


def browser() -> None:
    """Prints how long it takes in Chromium from a key to the new pixels of the playground.

    Raises ValueError when there is no Chromium, or no Playwright to drive it.
    """
    _print_table(frames)


def _print_table(*measures: Callable[[], list[Row]]) -> None:
    print(f"{'what':44} {'measured':>16}   {'should be'}")
    for measure in measures:
        for what, figure, wanted in measure():
            print(f"{what:44} {figure:>16}   {wanted}", flush=True)


def examiners() -> dict[str, Callable[[int], list[stored.Result]]]:
    """The lessons whose models are examined, and what examines those of one seed."""
    known = [lesson for lesson in stored.LESSONS if lesson != "00"]
    trained_here = {
        "02": exams.picture_reader, "03": exams.message_reader, "04": exams.weights,
        "05": exams.whole_model,
    }  # fmt: skip
    return (
        {f"lesson {lesson}": exam for lesson, exam in trained_here.items()}
        | {f"lesson {lesson}": partial(stored.exam, lesson) for lesson in known}
        | {"lesson 12": real_data.exam}
    )


def quality() -> None:
    """Prints every result of the lessons' models: least, median and most of three seeds.

    Beside a lesson's main results stand the strongest cheap baseline of the three seeds, with its
    name, and the limit (where each seed has cards of its own: the farthest of the three). A result
    that is not as it should be for every seed, or passes its seed's limit, is marked. The models
    of lessons 02 to 05 and 12 are trained here, so it takes about fifteen minutes.
    """
    torch.set_num_threads(1)
    heads = f"{'least':>7} {'median':>7} {'most':>7} {'base':>7} {'limit':>7}"
    print(f"{'lesson':12} {'what':56} {heads}   should be")
    for lesson, exam in examiners().items():
        try:
            runs = [exam(seed) for seed in stored.SEEDS]
        except FileNotFoundError as error:  # real data that this computer lacks
            print(f"{lesson:12} {error}")
            continue
        for worst, *rows in zip(stored.worst(runs), *runs, strict=True):
            print(f"{lesson:12} {worst.what:56} {_figures(worst, rows)}", flush=True)


def _figures(worst: stored.Result, rows: list[stored.Result]) -> str:
    """One result of all seeds: figures, bound, the baseline's name, and whether it holds."""
    values = [f"{value:7.3f}" for value in sorted(one.value for one in rows)]
    strongest = min if worst.less_is_better else max
    rivals = [one for one in rows if one.baseline is not None]
    rival = strongest(rivals, key=lambda one: one.baseline) if rivals else worst
    limits = [one.limit for one in rows if one.limit is not None]
    for figure in (rival.baseline, strongest(limits, default=None)):
        values.append(" " * 7 if figure is None else f"{figure:7.3f}")
    mark = "" if all(one.holds for one in rows) else "   NOT SO"
    named = f"   base: {rival.rival}" if rival.rival else ""
    return f"{' '.join(values)}   {worst.wanted:7}{named}{mark}"


def faults() -> int:
    """Plants every fault of the campaign on this computer and prints how each kind of them ended;
    then ends a training a hundred times at random moments, and kills one of two processes that
    train together, twenty times. Takes some minutes.

    Returns 0 when each fault ended in one sentence or in the right result, and each training with
    the same bits. Raises ValueError where the campaign is not: it lies in the course's `tests`.
    """
    if not (place.COURSE / "tests" / "faults").is_dir():
        raise ValueError(
            "The faults are planted by the course's tests, which the installed package does not "
            "have: download the course (README.md says how), and run `mbm-lab bench faults` there."
        )
    alone = os.environ | {"OMP_NUM_THREADS": "1", "MBM_DEVICE": "cpu"}
    worst = 0
    for words in (["tests.faults"], ["tests.faults.kills", "100"], ["tests.torn", "20"]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=place.COURSE, env=alone)
        worst = max(worst, abs(done.returncode))
    return worst


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def loading() -> list[Row]:
    """Reading all pictures of the data set from their files; and real data, where they are here."""
    rows = [("loading 3,500 pictures", lambda: datasets.load_postcards("all"), "< 3 s")]
    real = {
        "mnist": ("loading 70,000 written digits", _written_digits, "< 2 s"),
        "fsdd": ("3,000 recordings to log-mel", _log_mels, "< 10 s"),
        "multi30k": ("29,000 pairs of sentences to numbers", _numbered_sentences, "< 3 s"),
    }
    rows += [row for name, row in real.items() if downloads.find(name)]
    return [(what, f"{seconds(action):.1f} s", wanted) for what, action, wanted in rows]


def _written_digits() -> None:
    for split in ("train", "test"):
        datasets.load_mnist(split)


def _log_mels() -> None:
    for sound in datasets.load_spoken_digits("all").sounds:
        preprocessing.log_mel(sound)


def _numbered_sentences() -> None:
    for language, sentences in zip(("en", "de"), datasets.load_multi30k(), strict=True):
        words = [preprocessing.tokenize(sentence, language) for sentence in sentences]
        vocabulary = preprocessing.Vocabulary.build(words, min_count=2)
        for sentence in words:
            vocabulary.encode(sentence)


def bare_loop(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    """One epoch in batches of 64, written by hand: the yardstick for `training.fit`."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for index in torch.randperm(len(targets)).split(64):
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
        ("training.fit against the bare loop", f"{ratio:.2f}", ">= 0.97"),
    ]


def checkpoint_speed(cards: int = 2000, rounds: int = 3, epochs: int = 4) -> list[Row]:
    """`training.fit` with checkpoints every epoch against the same model in a bare loop, in turn,
    on as many cards as lesson 05 has; and what each checkpoint costs beyond `training.fit`."""
    generator = torch.Generator().manual_seed(0)
    size = preprocessing.IMAGE_SIZE
    images = torch.rand(cards, 3, size, size, generator=generator)
    targets = torch.rand(cards, generator=generator)
    model = cnn.Reader(cnn.ImageEncoder())

    def fit(folder: str | None = None) -> None:
        options = {"epochs": epochs, "device": torch.device("cpu"), "progress": False}
        loss, copied = nn.functional.mse_loss, copy.deepcopy(model)
        training.fit(copied, images, targets, loss, checkpoint=folder, **options)

    def saving() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(folder)

    def bare() -> None:
        copied = copy.deepcopy(model)
        for _ in range(epochs):
            bare_loop(copied, images, targets)

    runs = [(seconds(bare), seconds(fit), seconds(saving)) for _ in range(rounds)]
    ratio = statistics.median(loop / saved for loop, _, saved in runs)
    cost = statistics.median(1000 * (saved - fitted) / epochs for _, fitted, saved in runs)
    return [
        ("fit with checkpoints against the bare loop", f"{ratio:.2f}", ">= 0.97"),
        ("a checkpoint", f"{cost:.0f} ms", "< 3 % of an epoch"),
    ]


def sliders(moves: int = 100) -> list[Row]:
    """From a slider's new value to the new picture, for every kind of slider that Python draws.

    The sliders move while an event loop runs, as in Jupyter. In the playground of α and β, picture
    noise and word dropout show the worse card at once, and what the readers then say of all cards
    arrives a moment later. The last row is the time that it takes.
    """
    playground = widgets.FusionPlayground()
    witnesses, cards = playground.witnesses, playground.cards
    kernel = widgets.KernelPlayground(cards.images[3].mean(0))
    sentence = widgets.SentencePlayground(witnesses.readers[1], witnesses.vocabulary)
    rate = widgets.LearningRatePlayground(*witnesses.clean, cards.mood)
    words, count = _caption_slider()
    compose = _search_slider()
    film, digits = _film_slider(), _digits_slider()
    answers, drawing = _token_sliders()
    sliders = {
        "kernel": lambda step: setattr(kernel.numbers[step % 9], "value", step % 7 - 3),
        "words read": lambda step: setattr(sentence.count, "value", 1 + step % 11),
        "α of a search": lambda step: setattr(compose.alpha, "value", 0.05 * (step % 20)),
        "card of a search": lambda step: setattr(compose.card, "value", step % 50),
        "frames of a film": lambda step: setattr(film.seen, "value", 2 + step % 7),
        "α of spoken and written digits": lambda s: setattr(digits.alpha, "value", 0.05 * (s % 40)),
        "words written": lambda step: setattr(words.count, "value", step % count),
        "α of one model's tokens": lambda s: setattr(answers.alpha, "value", 0.05 * (s % 40)),
        "temperature": lambda step: setattr(drawing.temperature, "value", 0.1 * (1 + step % 30)),
        "learning rate": lambda step: setattr(rate.rate, "value", 0.01 * 1.07**step),
    }

    async def measured() -> list[Row]:
        return [latency(f"slider {name}", move, moves, (30, 80)) for name, move in sliders.items()]

    again = "the readers read 100 cards again"
    rows = asyncio.run(measured())
    return [*rows, latency(again, lambda _: playground.settle(), 10, (300, 600))]


def _caption_slider() -> tuple[ipywidgets.VBox, int]:
    """The playground of lesson 06, and how many places its slider has."""
    cards = datasets.load_postcards("test")[:4]
    model, vocabulary = stored.load("captioner")
    words = widgets.NextWordPlayground(model, vocabulary, cards.images)
    return words, words.count.max + 1


def _search_slider() -> ipywidgets.VBox:
    """The playground of lesson 07, over a gallery of 900 pictures."""
    gallery = retrieval.draw_gallery(datasets.load_postcards("test")[: retrieval.CARDS])
    features = captioning.image_features(gallery.images)
    model, vocabulary = stored.load("dual_encoder")
    return widgets.ComposePlayground(model, vocabulary, gallery, features)


def _film_slider() -> ipywidgets.VBox:
    """The playground of lesson 08."""
    cards = datasets.load_postcards("test", parts=("clip",))[:6]
    model, vocabulary = stored.load("summariser")
    return widgets.FilmPlayground(model, vocabulary, torch.stack(cards.clips))


def _token_sliders() -> tuple[ipywidgets.VBox, ipywidgets.VBox]:
    """The two playgrounds of lesson 13."""
    cards = datasets.load_postcards("test")[:4]
    model, vocabulary = stored.load("one_model")
    seen = cards.images, one_model.picture_patches(cards.images)
    answers = widgets.TokensPlayground(model, vocabulary, *seen, "<mood>", cards.messages)
    return answers, widgets.SamplingPlayground(model, vocabulary, *seen)


def _digits_slider() -> ipywidgets.VBox:
    """The playground of lesson 12, over as many pairs as there; their content does not matter."""
    inputs = {name: torch.rand(1500, 3, 64, 64) for name in real_data.DIGIT_MODALITIES}
    pairs = real_data.Pairs(inputs, torch.arange(1500) % 10, [""] * 1500)
    model = real_data.new_reader(real_data.DIGIT_MODALITIES, fusion.WeightedSum)
    return widgets.DigitsPlayground(model, pairs)


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
"""The browser that measures, and that tests drive; None where there is none."""

UNTIL_PAINTED = """
globalThis.times = [];
document.addEventListener("keydown", (event) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();  // its message comes when the frame is painted
    port1.onmessage = () => times.push(performance.now() - event.timeStamp);
    port2.postMessage(null);
}), true);
"""


def frames(moves: int = 100) -> list[Row]:
    """From an arrow key on a slider to the frame with the new pixels, in Chromium: by its clock.

    The page is the projector's; the drawing is the same in a lesson. Then all of it with the
    processor slowed down four times, as in an old telephone.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("This needs Playwright: install it with `make test-quick`.") from None
    if CHROMIUM is None:
        raise ValueError("This needs Chromium: install it (Debian: apt install chromium).")
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "playground.html"
        file.write_text(projector.page(), encoding="utf-8")
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.goto(file.as_uri())
        page.evaluate(UNTIL_PAINTED)
        for slower, wanted in ((1, "< 16 / 33 ms (median / 95th percentile)"), (4, "< 50 / 50 ms")):
            throttle = {"rate": slower}
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", throttle)
            for name in ("α picture", "β message", "picture noise", "word dropout"):
                figure = _painted(page, name, moves)
                rows.append((f"slider {name}" + ", slowed 4 times" * (slower > 1), figure, wanted))
        chromium.close()
    return rows


def _painted(page, name: str, moves: int) -> str:
    """Median and 95th percentile of the milliseconds from a key on a slider to its frame."""
    slider = page.get_by_label(name)
    slider.focus()
    page.evaluate("times.length = 0")
    for step in range(moves):
        page.keyboard.press("ArrowLeft" if step // 7 % 2 else "ArrowRight")
        page.wait_for_timeout(33)  # as a key that is held down repeats
    page.wait_for_function("moves => times.length === moves", arg=moves)
    return _milliseconds(page.evaluate("times"))


def latency(what: str, move: Callable[[int], object], moves: int, wanted: tuple[int, int]) -> Row:
    """Median and 95th percentile of the milliseconds that a move takes."""
    times = [1000 * seconds(lambda step=step: move(step)) for step in range(1, moves + 1)]
    wish = f"< {wanted[0]} / {wanted[1]} ms (median / 95th percentile)"
    return what, _milliseconds(times), wish


def _milliseconds(times: list[float]) -> str:
    """Median and 95th percentile."""
    times = sorted(times)
    return f"{times[len(times) // 2]:.1f} / {times[int(0.95 * len(times))]:.1f} ms"


def lesson_seconds() -> list[Row]:
    """What each lesson's cells took when its outputs were stored."""
    rows = []
    for lesson in lessons.course_lessons():
        took = lessons.read_notebook(lesson).metadata.get("mbm", {}).get("seconds", "?")
        wanted = f"< {lessons.most_seconds(lesson)} s"
        rows.append((f"lesson {lesson.stem}", f"{took} s", wanted))
    return rows


# --- More cards, and more processes


def scale() -> None:
    """Prints how fast lesson 05's model learns from cards in memory and from shards, with one
    process and with two, in how much memory, and what one card more costs. Takes about two minutes.

    Each figure is that of a process of its own, which computes on one thread.
    """
    _print_table(scaling_speed, slopes)


EPOCHS = 2


class Measured(NamedTuple):
    """Cards a second, and the most megabytes that one of its processes held."""

    rate: float
    megabytes: float


def scaling_speed(cards: int = 2000) -> list[Row]:
    """Training from memory, from shards with 0, 1 and 2 workers, and with 1 and 2 processes;
    reading the shards alone; and the memory of each. cards: 2 or more, at most 2,000, in memory;
    the shards hold five times as many, since workers begin anew in each epoch."""
    rows = []

    def measured(what: str, wanted: str, measure: Callable[..., float], *given: object) -> float:
        rate, megabytes = in_a_process(measure, *given)
        rows.append((what, f"{rate:,.0f} cards/s", wanted))
        rows.append((f"{what}: memory", f"{megabytes:,.0f} MB", "< 1,000 MB"))
        return rate

    with tempfile.TemporaryDirectory() as folder:
        half = min(-(-cards // 2), shards.CARDS_A_SHARD)  # so that two workers have a shard each
        shards.write(folder, 5 * cards, cards_per_shard=half, progress=False)
        rate = measured("training, cards in memory", "", _train_from_memory, cards)
        for workers in (0, 1, 2):
            named = f"{workers} worker{'s' * (workers != 1)}"
            more = f"> {1.5 * rate:,.0f} cards/s" if workers == 1 else ""
            measured(f"reading shards, {named}", more, _read_shards, folder, workers)
            most = f"> {0.8 * rate:,.0f} cards/s" if workers == 1 else ""
            measured(f"training from shards, {named}", most, _train_from_shards, folder, workers)
    for processes in (1, 2):
        named = f"{processes} process{'es' * (processes > 1)}"
        measured(f"training with {named}", "", _train_together, cards, processes)
    return rows


def in_a_process(measure: Callable[..., float], *given: object) -> Measured:
    """Measures in a new process, so that its memory is its own. measure: gives cards a second."""
    anew = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=anew) as pool:
        return pool.submit(_with_memory, measure, *given).result()


def _with_memory(measure: Callable[..., float], *given: object) -> Measured:
    multiprocessing.set_start_method(None, force=True)  # workers begin as they do for a learner
    torch.set_num_threads(1)
    rate = measure(*given)
    return Measured(rate, peak_megabytes())


def peak_megabytes() -> float:
    """The most memory that this process has held, or one of those that it started, if that is more.
    (On Windows: that this process holds now.)"""
    try:
        import resource
    except ImportError:
        return psutil.Process().memory_info().rss / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    of_others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    return max(_own_megabytes(unit), of_others)


def _own_megabytes(unit: int) -> float:
    """The most that this process has held. (On Linux, what `resource` says of it includes what the
    process that started it held at that moment.)"""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _train_from_memory(cards: int) -> float:
    words = stored.load("message_reader")[1]
    return _train(len(words), cards, *scaling.cards_in_memory(cards, words))


def _train_from_shards(folder: str, workers: int) -> float:
    words = stored.load("message_reader")[1]
    loader = shards.loader(folder, words, workers=workers)
    return _train(len(words), sum(loader.dataset.sizes), loader)


def _train(words: int, cards: int, *data: object) -> float:
    options = {"loss": nn.functional.mse_loss, "epochs": EPOCHS, "progress": False}
    history = training.fit(scaling.new_model(words), *data, **options)
    return EPOCHS * cards / history.seconds


def _train_together(cards: int, processes: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = ("--epochs", str(EPOCHS), "--cards", str(cards))
        run = scaling.torchrun(processes, Path(folder) / "run", *words)
    return EPOCHS * cards / run.seconds


def _read_shards(folder: str, workers: int) -> float:
    loader = shards.loader(folder, stored.load("message_reader")[1], workers=workers)
    best = min(seconds(lambda: [None for _ in loader]) for _ in range(EPOCHS))
    return sum(loader.dataset.sizes) / best


def slopes(
    cards: tuple[int, ...] = (256, 512, 1024), sizes: tuple[int, ...] = (16, 32, 64)
) -> list[Row]:
    """What one card more costs: in seconds of training, and, in a batch, in bytes of memory."""
    torch.set_num_threads(1)
    words = stored.load("message_reader")[1]
    model, loss = scaling.new_model(len(words)), nn.functional.mse_loss
    inputs, moods = scaling.cards_in_memory(max(*cards, *sizes), words)
    took = [costs.training_seconds(model, inputs, moods, loss, count) for count in cards]
    held = [
        costs.activation_bytes(
            model, {name: values[:size] for name, values in inputs.items()}, moods[:size], loss
        )
        for size in sizes
    ]
    return [
        ("one card more in an epoch", f"{1000 * costs.fit_line(cards, took).slope:.2f} ms", ""),
        ("one card more in a batch", f"{costs.fit_line(sizes, held).slope / 1000:,.0f} KB", ""),
    ]
