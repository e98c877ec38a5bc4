"""widgets/: what the sliders show is what the formula says."""

import asyncio
import base64
import io
import math
import re
import time

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from mbm_lab import (
    albums,
    captioning,
    datasets,
    fusion,
    one_model,
    preprocessing,
    real_data,
    retrieval,
    stored,
    training,
    video,
    welcome,
    widgets,
    writing,
)
from mbm_lab.widgets.fusion_figure import dial_point
from mbm_lab.widgets.parts import IntSlider, LogSlider, Slider
from mbm_lab.widgets.still import side_by_side
from mbm_lab.widgets.waiting import Later
from mbm_lab.widgets.witnesses import Witnesses


@pytest.fixture(scope="module")
def shared():
    return widgets.FusionPlayground()


@pytest.fixture
def playground(shared):
    """The playground as at its start."""
    shared.use_picture.value = shared.use_message.value = True
    shared.noise.value = shared.dropout.value = 0.0
    shared.settle()
    shared.set(1.0, 1.0)
    shared.show_card(0)
    return shared


def spoken(playground) -> dict[str, float]:
    """The numbers in the playground's line of text, with both witnesses on."""
    found = re.search(
        r"f = (\S+), message g = (\S+), v = (\S+) · f \+ (\S+) · g = (\S+), "
        r"mood m = (\S+)\. .* R² = (\S+)\. Best: α = (\S+), β = (\S+)\.",
        playground.said,
    )
    names = ("f", "g", "alpha", "beta", "v", "m", "r2", "best_alpha", "best_beta")
    return dict(zip(names, map(float, found.groups()), strict=True))


# α and β


@pytest.mark.parametrize(("alpha", "beta"), [(0.33, 0.47), (1.0, -0.25), (-0.5, 0.0)])
def test_text_says_what_the_formula_gives(playground, alpha, beta):
    playground.set(alpha, beta)
    said = spoken(playground)
    assert (said["alpha"], said["beta"]) == (alpha, beta)
    assert said["v"] == pytest.approx(alpha * said["f"] + beta * said["g"], abs=0.015)
    assert said["m"] == pytest.approx(playground.cards.mood[playground.index].item(), abs=0.006)
    variance = playground.cards.mood.var(correction=0)
    pair = torch.tensor([[alpha], [beta]])
    error = fusion.error_surface(playground.f, playground.g, playground.cards.mood, *pair)
    assert said["r2"] == pytest.approx(float(1 - error / variance), abs=0.006)
    best = fusion.best_weights(playground.f, playground.g, playground.cards.mood)
    assert (said["best_alpha"], said["best_beta"]) == pytest.approx(best[:2], abs=0.006)


def test_each_slider_alone_changes_text_and_still_picture(playground):
    for slider in (playground.alpha, playground.beta):
        playground.set(0.1, 0.2)
        text, before = playground.said, playground.still()
        slider.value = 0.9
        assert playground.said != text
        assert playground.still() != before


def test_sliders_stay_within_their_ends(playground):
    playground.set(7.0, -7.0)
    assert (playground.alpha.value, playground.beta.value) == (1.25, -0.5)
    playground.noise.value = 3.0
    assert playground.noise.value == 0.8


def test_code_that_moves_the_sliders_forgets_the_path(playground):
    playground.path = [[1.0, 1.0], [0.9, 0.8]]
    assert playground.said.endswith("Training: step 1.")
    playground.set(0.5, 0.5)
    assert "Training" not in playground.said


def test_cards_are_shown_by_their_place(playground):
    text = playground.said
    playground.show_card(1)
    assert playground.said.startswith("Card 2: ")
    assert playground.said != text
    playground.show_card(len(playground.cards))
    assert playground.index == 0


def test_the_browser_gets_what_the_cards_say(playground):
    state = playground.get_state()
    for name, values in (("f", playground.f), ("g", playground.g), ("m", playground.cards.mood)):
        assert state[name] == values.tolist()
    assert state["messages"] == playground.cards.messages
    assert state["captions"] == playground.cards.captions
    pictures = np.asarray(Image.open(io.BytesIO(state["sprite"])))
    for place in (0, 9, 10, 99):
        row, column = divmod(place, 10)
        shown = pictures[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] / 255
        assert np.allclose(shown, playground.cards.images[place].permute(1, 2, 0), atol=1e-6)


def test_the_still_picture_stands_beside_the_live_view(playground):
    data, metadata = playground._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == playground.said
    assert data["text/plain"] == "FusionPlayground: run this cell to make it live."
    assert "application/vnd.jupyter.widget-view+json" in data
    still = base64.b64decode(data["image/png"])
    assert Image.open(io.BytesIO(still)).width > 600
    assert len(still) < 100_000


def test_the_still_picture_needs_no_witness(playground):
    for place in ("use_picture", "use_message"):
        getattr(playground, place).value = False
        assert playground.still()


def test_where_a_mood_stands_on_the_dial():
    for x, place in ((-1, (-1, 0)), (0, (0, 1)), (1, (1, 0)), (5, (1, 0))):
        assert dial_point(x, 1.0) == pytest.approx(place, abs=1e-9)


def test_readings_must_fit_the_cards():
    cards = datasets.load_postcards("test")[:3]
    with pytest.raises(ValueError, match="one reading f and one reading g for each card"):
        widgets.FusionPlayground(cards, torch.zeros(2), torch.zeros(2))


# Worse witnesses


class Brightness(torch.nn.Module):
    """A reader of pictures that one can check."""

    def forward(self, images):
        return images.flatten(1).mean(1)


class KnownWords(torch.nn.Module):
    """A reader of messages that one can check: it counts the words that are not smudged."""

    def forward(self, tokens):
        return (tokens > preprocessing.UNK).float().sum(1)


@pytest.fixture(scope="module")
def witnesses():
    """The witnesses of 40 cards, with made-up clean readings."""
    cards = datasets.load_postcards("test")[:40]
    clean = torch.full((40,), 0.25), torch.full((40,), 0.75)
    readers = Brightness(), KnownWords()
    _, vocabulary = stored.load("message_reader")
    return Witnesses(cards, clean, readers, vocabulary)


def test_clean_witnesses_are_shown_and_read_as_they_are(witnesses):
    assert torch.equal(witnesses.noisy_images(slice(None), 0.0), witnesses.cards.images)
    assert not witnesses.dropped(slice(None), 0.0).any()
    assert witnesses.message(5, 0.0) == witnesses.cards.messages[5]
    f, g = witnesses.read(0.0, 0.0)
    assert f is witnesses.clean[0]
    assert g is witnesses.clean[1]


def test_more_noise_scales_the_noise_of_the_same_pixels(witnesses):
    images = witnesses.cards.images
    little, more = (witnesses.noisy_images(slice(None), noise) - images for noise in (0.01, 0.02))
    inside = (images > 0.1) & (images < 0.9)  # where nothing is cut off
    assert float(little[inside].std()) == pytest.approx(0.01, rel=0.01)
    assert torch.allclose(more[inside], 2 * little[inside], atol=1e-6)
    loud = witnesses.noisy_images(slice(None), 0.8)
    assert (float(loud.min()), float(loud.max())) == (0.0, 1.0)
    assert torch.equal(witnesses.noisy_images(7, 0.8), loud[7])
    f, g = witnesses.read(0.8, 0.0)
    assert torch.allclose(f, loud.flatten(1).mean(1))
    assert g is witnesses.clean[1]


def test_more_dropout_smudges_more_words_and_the_same_ones(witnesses):
    half, most = (witnesses.dropped(slice(None), dropout) for dropout in (0.5, 0.8))
    words = witnesses.tokens > preprocessing.UNK
    for dropped, share in ((half, 0.5), (most, 0.8)):
        assert not (dropped & ~words).any()
        assert float(dropped.sum() / words.sum()) == pytest.approx(share, abs=0.05)
    assert (half <= most).all()
    said = witnesses.message(3, 0.5).split()
    whole = preprocessing.tokenize(witnesses.cards.messages[3])
    gone = half[3, : len(whole)].tolist()
    assert said == ["____" if lost else word for lost, word in zip(gone, whole, strict=True)]
    f, g = witnesses.read(0.0, 0.5)
    assert f is witnesses.clean[0]
    assert g.tolist() == (words & ~half).sum(1).tolist()


def contribution(playground, letter: str) -> float:
    """The best weight of a reading, times how much the reading varies."""
    return spoken(playground)[f"best_{'alpha' if letter == 'f' else 'beta'}"] * float(
        getattr(playground, letter).std()
    )


def test_picture_noise_makes_the_picture_a_worse_witness(playground):
    clean, before = playground.witnesses.clean, spoken(playground)
    was = contribution(playground, "f")
    playground.noise.value = 0.5
    noisy = playground.witnesses.noisy_images(slice(None), 0.5)
    assert torch.allclose(playground.f, training.predict(playground.witnesses.readers[0], noisy))
    assert contribution(playground, "f") < 0.7 * was
    assert spoken(playground)["best_beta"] > before["best_beta"] + 0.1
    assert torch.equal(playground.g, clean[1])
    playground.noise.value = 0.0
    assert torch.equal(playground.f, clean[0])


def test_word_dropout_smudges_words_and_makes_the_message_a_worse_witness(playground):
    before, witnesses = spoken(playground), playground.witnesses
    was = contribution(playground, "g")
    playground.dropout.value = 0.6
    dropped = witnesses.dropped(slice(None), 0.6)
    for card in (0, 17, 99):
        assert witnesses.message(card, 0.6).count("____") == int(dropped[card].sum())
    smudged = witnesses.tokens.masked_fill(dropped, preprocessing.UNK)
    assert torch.allclose(playground.g, training.predict(witnesses.readers[1], smudged))
    assert contribution(playground, "g") < 0.7 * was
    assert spoken(playground)["best_alpha"] > before["best_alpha"] + 0.1


def test_the_browser_gets_each_words_fate(witnesses):
    for card, words in enumerate(witnesses.words()):
        for dropout in (0.1, 0.5, 0.8):
            gone = [fate < dropout for _, fate in words]
            assert gone == witnesses.dropped(card, dropout)[: len(words)].tolist()


def test_a_witness_that_is_switched_off_is_out_of_the_formula(playground):
    playground.use_picture.value = False
    text = playground.said
    assert "picture off" in text
    assert "· f" not in text
    found = re.search(r"v = (\S+) · g = (\S+), mood", text)
    g = float(playground.g[playground.index])
    assert float(found[2]) == pytest.approx(float(found[1]) * g, abs=0.015)
    assert torch.equal(playground.v(), playground.beta.value * playground.g)
    m, reading = playground.cards.mood - playground.cards.mood.mean(), playground.g
    alone = float((reading - reading.mean()) @ m / (reading - reading.mean()).square().sum())
    assert text.endswith(f"Best: β = {alone:.2f}.")
    playground.use_message.value = False
    assert "v = 0 = 0.00" in playground.said
    assert "nothing to weigh" in playground.said


# Now or a moment later


def test_later_acts_once_for_the_newest_value():
    setting, seen = {"noise": 0.0}, []
    later = Later(lambda: seen.append(setting["noise"]), 0.05)

    async def drag():
        for step in range(1, 6):
            setting["noise"] = 0.1 * step
            assert later.ask()
            assert later.waits
        assert seen == []
        await asyncio.sleep(0.2)
        assert seen == [0.5]
        assert not later.waits
        setting["noise"] = 0.8
        later.ask()
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert seen == [0.5, 0.8]


def test_later_comes_though_it_is_asked_for_without_end():
    seen = []
    later = Later(lambda: seen.append(1), 0.05)

    async def drag():
        while not seen:
            later.ask()
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(drag(), 5))


def test_later_can_be_called_off_and_asked_for_again():
    seen = []
    later = Later(lambda: seen.append(1), 0.05)

    async def change_ones_mind():
        later.cancel()  # nothing to call off: nothing happens
        later.ask()
        later.cancel()
        assert not later.waits
        await asyncio.sleep(0.2)
        assert seen == []
        later.ask()
        await asyncio.sleep(0.2)

    asyncio.run(change_ones_mind())
    assert seen == [1]


def test_later_can_be_asked_for_by_its_own_action():
    seen = []

    def act():
        seen.append(1)
        if len(seen) < 3:
            later.ask()

    later = Later(act, 0.01)

    async def session():
        later.ask()
        await asyncio.sleep(0.2)

    asyncio.run(session())
    assert seen == [1, 1, 1]


def test_without_an_event_loop_nothing_comes_later():
    seen = []
    later = Later(lambda: seen.append(1), 0.0)
    assert not later.ask()
    assert not later.waits
    assert seen == []


# Speed


def test_while_dragging_the_encoders_run_once_for_the_newest_value(playground, monkeypatch):
    calls, read = [], playground.witnesses.read
    monkeypatch.setattr(
        playground.witnesses, "read", lambda *worse: calls.append(worse) or read(*worse)
    )

    async def drag():
        start = time.perf_counter()
        for step in range(1, 16):
            playground.noise.value = 0.05 * step
        took = time.perf_counter() - start
        await asyncio.sleep(0.5)
        return took

    assert asyncio.run(drag()) < 15 * 3 * 0.030
    assert calls == [(pytest.approx(0.75), 0.0)]
    noisy = playground.witnesses.noisy_images(slice(None), playground.noise.value)
    assert torch.allclose(playground.f, training.predict(playground.witnesses.readers[0], noisy))


# The small ones


@pytest.fixture(scope="module")
def grey():
    return datasets.load_postcards("test", parts=("image",))[:4].images[3].mean(0)


@pytest.fixture(scope="module")
def readings():
    """f, g and the mood of 100 validation cards."""
    val = datasets.load_postcards("val")[:100]
    return *welcome.read(val, *welcome.load_readers()), val.mood


@pytest.mark.parametrize("name", list(widgets.PRESETS))
def test_the_kernel_does_what_a_convolution_does(grey, name):
    kernel = widgets.KernelPlayground(grey, row=20, column=30)
    next(button for button in kernel.presets if button.description == name).click()
    assert kernel.kernel().tolist() == widgets.PRESETS[name]
    weight = torch.tensor(widgets.PRESETS[name]).float()[None, None]
    library = torch.nn.functional.conv2d(grey[None, None], weight, padding=1)[0, 0]
    assert torch.allclose(kernel.result(), library, atol=1e-5)
    said = float(re.search(r" = (\S+)\. In the whole", kernel.said)[1])
    assert said == pytest.approx(float(library[20, 30]), abs=0.006)
    shown = np.asarray(Image.open(io.BytesIO(kernel.after.value)))[..., 0] / 255
    largest = float(library[1:-1, 1:-1].abs().max())
    wanted = (0.5 + 0.5 * library / largest).clamp(0, 1)
    assert np.allclose(shown[2::4, 2::4], wanted, atol=0.01)


def test_every_number_of_the_kernel_counts(grey):
    kernel = widgets.KernelPlayground(grey, row=40, column=32)
    for place, number in enumerate(kernel.numbers):
        kernel.set([[0] * 3] * 3)
        number.value = 2.0
        assert kernel.kernel().flatten().nonzero().item() == place
        i, j = divmod(place, 3)
        moved = grey[39 + i, 31 + j]
        assert float(kernel.result()[40, 32]) == pytest.approx(2 * float(moved), abs=1e-5)


def test_the_kernel_begins_at_the_strongest_edge(grey):
    kernel = widgets.KernelPlayground(grey)
    assert kernel.kernel().tolist() == widgets.PRESETS["bright → dark"]
    inside = kernel.result()[1:-1, 1:-1]
    place = (kernel.row.value, kernel.column.value)
    assert kernel.result()[place] == inside.max() > 1
    step = torch.zeros(9, 12)
    step[:, :5] = 1.0  # bright to dark between columns 4 and 5
    assert widgets.KernelPlayground(step).column.value in (4, 5)
    assert widgets.KernelPlayground(grey, row=36).row.value == 36
    smallest = widgets.KernelPlayground(torch.rand(3, 3))
    assert (smallest.row.value, smallest.column.value) == (1, 1)


def test_the_marked_window_moves_and_shows_its_nine_products(grey):
    kernel = widgets.KernelPlayground(grey, row=36, column=19)
    for row, column in ((36, 20), (7, 20), (62, 62)):
        marked = kernel.before.value
        kernel.row.value, kernel.column.value = row, column
        assert kernel.before.value != marked
        assert f"row {row}, column {column}" in kernel.before.alt
        shown = np.asarray(Image.open(io.BytesIO(kernel.before.value))).astype(int)[2::4, 2::4]
        red = shown[..., 0] > shown[..., 1] + 20
        assert np.argwhere(red).mean(0).tolist() == [row, column]
        assert red.sum() == 9
        cells = re.findall(r">(-?[\d.]+) · ([\d.]+)<br>= (\S+)</td>", kernel.products.value)
        numbers, pixels, products = np.array(cells, float).T
        assert numbers.tolist() == kernel.kernel().flatten().tolist()
        window = grey[row - 1 : row + 2, column - 1 : column + 2].flatten()
        assert pixels == pytest.approx(window.numpy(), abs=0.006)
        assert products == pytest.approx(numbers * window.numpy(), abs=0.006)
        total = float(re.search(r" = (\S+)\. In the whole", kernel.said)[1])
        assert products.sum() == pytest.approx(total, abs=0.05)


def test_the_kernel_needs_a_grey_picture():
    with pytest.raises(ValueError, match="grey picture"):
        widgets.KernelPlayground(torch.zeros(3, 64, 64))


@pytest.fixture(scope="module")
def sentence():
    return widgets.SentencePlayground(*stored.load("message_reader"))


def test_the_sentence_is_read_along(sentence):
    sentence.sentence.value = "The bus was not bad"
    assert sentence.count.value == sentence.count.max == 5
    vocabulary = sentence.vocabulary
    for count in (1, 3, 5):
        sentence.count.value = count
        words = "the bus was not bad".split()[:count]
        y = torch.tensor([vocabulary.encode([*words, "."])])
        with torch.no_grad():
            reading = float(sentence.reader(y)[0])
        said = re.search(r"After (\d) of 5 words, “(.*)”: reading (\S+)\.$", sentence.said)
        assert said[1] == str(count)
        assert said[2] == " ".join(words)
        assert float(said[3]) == pytest.approx(reading, abs=0.006)
        assert len(sentence.drawing.moving[0].get_xdata()) == count


def test_unknown_words_are_named_and_nothing_is_a_full_stop(sentence):
    sentence.sentence.value = "The <b>flurb</b> was good."
    assert "Unknown to g" in sentence.text.value
    assert "flurb" in sentence.text.value
    sentence.sentence.value = "   "
    assert "After 1 of 1 words" in sentence.text.value


def test_the_learning_rate_decides_where_the_path_ends(readings):
    f, g, m = readings
    rate = widgets.LearningRatePlayground(f, g, m)
    endings = {0.01: "away from the best point", 1.0: "has arrived", 9.0: "it flies away"}
    for value, ending in endings.items():
        rate.rate.value = value
        assert re.search(ending, rate.text.value)
        x = [values - values.mean() for values in (f, g, m)]
        path = fusion.descend(*x, start=rate.START, learning_rate=value, steps=rate.STEPS)
        said = float(re.search(r"α = (\S+),", rate.text.value)[1])
        assert said == pytest.approx(float(path[-1, 0]), rel=0.01, abs=0.001)
    rate.rate.value = 0.5
    walk = rate.walk()
    assert len(rate.drawing.moving[0].get_xdata()) == len(walk) == rate.STEPS + 1
    assert math.dist(walk[0].tolist(), rate.START) < 1e-9


def test_the_learning_rate_arrives_up_to_two_by_the_largest_curvature():
    """On the lesson's cards, as its text says: at 3.9 it arrives, at 4.2 not."""
    val = datasets.load_postcards("val")
    f, g = welcome.read(val, *welcome.load_readers())
    rate = widgets.LearningRatePlayground(f, g, val.mood)
    limit = fusion.largest_rate(f, g)
    assert 3.9 < limit < 4.2
    for value, ending in ((3.9, "has arrived"), (4.2, "flies away")):
        rate.rate.value = value
        assert ending in rate.said
    for share, error in ((0.97, False), (1.03, True)):
        path = fusion.descend(f, g, val.mood, rate.START, share * limit, steps=300)
        far = math.dist(path[-1, :2].tolist(), fusion.best_weights(f, g, val.mood)[:2])
        assert (far > 100) if error else (far < 1e-3)


def test_small_widgets_answer_quickly(grey, sentence, readings, compose, answers):
    kernel = widgets.KernelPlayground(grey)
    rate = widgets.LearningRatePlayground(*readings)
    for move in (
        lambda step: setattr(kernel.numbers[step % 9], "value", step % 5 - 2),
        lambda step: setattr(kernel.row, "value", 1 + step % 60),
        lambda step: setattr(compose.alpha, "value", 0.05 * (step % 20)),
        lambda step: setattr(sentence.count, "value", step % 4 + 1),
        lambda step: setattr(rate.rate, "value", 0.01 * 1.2**step),
        lambda step: setattr(answers.alpha, "value", 0.05 * (step % 20)),
    ):
        times = []
        for step in range(1, 22):
            start = time.perf_counter()
            move(step)
            times.append(time.perf_counter() - start)
        assert sorted(times)[10] < 3 * 0.030


def png(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def small(grey, sentence, readings, next_word, compose, film, digits, answers, moods, drawing):
    """Every small widget, with a control of it and two values that it shows differently."""
    kernel = widgets.KernelPlayground(grey)
    rate = widgets.LearningRatePlayground(*readings)
    sentence.sentence.value = sentence.FIRST
    moves = (
        (kernel, kernel.row, (5, 40)), (kernel, kernel.numbers[4], (0.5, 3)),
        (sentence, sentence.count, (1, 4)), (rate, rate.rate, (0.1, 4)),
        (next_word, next_word.card, (1, 9)), (compose, compose.card, (2, 8)),
        (compose, compose.alpha, (0.1, 0.9)), (film, film.seen, (3, 7)),
        (digits, digits.pair, (1, 4)), (digits, digits.alpha, (0.3, 1.2)),
        (answers, answers.card, (0, 2)), (answers, answers.beta, (0.2, 1.4)),
        (moods, moods.alpha, (0.1, 1.5)), (drawing, drawing.card, (0, 1)),
        (drawing, drawing.temperature, (0.3, 2.5)), (drawing, drawing.top_p, (0.1, 0.9)),
    )  # fmt: skip
    return moves


def test_a_still_picture_stands_beside_every_live_view_and_follows_it(small):
    assert len({type(playground) for playground, _, _ in small}) == 9
    for playground, control, values in small:
        stills = set()
        for control.value in values:
            bundle, metadata = playground._repr_mimebundle_()
            assert metadata["image/png"]["alt"] == playground.said
            assert "application/vnd.jupyter.widget-view+json" in bundle
            name = type(playground).__name__
            assert bundle["text/plain"] == f"{name}: run this cell to make it live."
            data = base64.b64decode(bundle["image/png"])
            assert len(data) < 60_000
            width, height = png(data).size
            assert 480 <= width <= 1000
            assert 180 <= height <= 500
            stills.add(data)
        assert len(stills) == 2, name


def test_a_still_picture_ends_on_the_line_of_text(small):
    for playground, *_ in small:
        pictures = playground.pictures()
        bare = np.asarray(png(side_by_side(*pictures)))
        still = np.asarray(png(playground.still()))
        assert (still[: len(bare), : bare.shape[1]] == bare).all()
        ink = (still[len(bare) :] < 128).any(2).mean()
        assert 0.01 < ink < 0.3


def test_a_still_picture_without_pictures_holds_the_words():
    assert png(side_by_side(words="Nothing was found.")).size == (480, 24)


def test_every_picture_has_an_alt_text_and_every_control_a_name(small):
    for playground, *_ in small:
        found, rest = [], [playground]
        while rest:
            one = rest.pop()
            rest += getattr(one, "children", ())
            found.append(one)
        alts = [one.alt for one in found if isinstance(one, ipywidgets.Image)]
        if playground.__class__ is widgets.ComposePlayground:
            images = re.findall(r"<img [^>]+>", playground.figures.value)
            alts += [re.search(r"alt='([^']*)'", image)[1] for image in images]
        assert alts
        assert all(len(alt) > 5 for alt in alts)
        controls = [one for one in found if isinstance(one, ipywidgets.ValueWidget)]
        names = [one.description for one in controls if hasattr(one, "min")]
        assert names
        assert len(set(names)) == len(names)
        assert all(names)


def test_sliders_keep_to_their_bounds():
    slider, log = Slider(min=0, max=2, step=0.1, value=1), LogSlider(min=-2, max=1, value=0.1)
    slider.value, log.value = 5, 100
    assert (slider.value, log.value) == (2, 10)
    whole = IntSlider(min=0, max=9, value=7)
    whole.max = 4
    assert whole.value == 4
    assert isinstance(whole.value, int)
    for one in (slider, log, whole):
        assert one._view_module == "anywidget"
        assert "type='range'" in one.get_state()["_esm"]
        assert ".mbm-slider" in one.get_state()["_css"]


# The next word


@pytest.fixture(scope="module")
def next_word():
    images = datasets.load_postcards("test").images[:24]
    return widgets.NextWordPlayground(*stored.load("captioner"), images)


def test_the_next_word_is_what_the_decoder_finds_likeliest(next_word):
    model, vocabulary = next_word.captioner, next_word.vocabulary
    for card, count in ((0, 0), (22, 1), (5, 4), (22, 99)):
        next_word.card.value = card
        next_word.count.value = count = min(count, next_word.count.max)
        words = [vocabulary.words[word] for word in next_word.words]
        image = next_word.images[card][None]
        assert " ".join(words) == captioning.caption(model, image, "en", vocabulary)[0]
        state = model.decoder.start(model.encoder(image))
        with torch.no_grad():
            for word in ["<en>", *words[:count]]:
                scores, state = model.decoder.step(torch.tensor([vocabulary.index[word]]), state)
        p = scores.softmax(1)[0]
        best = vocabulary.words[int(p.argmax())].replace("<eos>", "(end)")
        written = " ".join(words[:count])
        place = f"After “{written}”" if written else "At the beginning of the caption"
        start = f"{place}: {best} {p.max():.2f}, "
        assert next_word.said.startswith(start)
        assert next_word.likely.bars[0].get_width() == pytest.approx(p.max().item(), abs=1e-4)


def test_the_next_word_redraws_when_the_slider_moves(next_word):
    next_word.card.value, next_word.count.value = 22, 0
    before, picture = next_word.plot.value, next_word.picture.value
    next_word.count.value = 1
    assert next_word.plot.value != before
    assert next_word.picture.value == picture
    next_word.card.value = 3
    assert next_word.picture.value != picture


# This card, but ...


@pytest.fixture(scope="module")
def compose():
    gallery = retrieval.draw_gallery(datasets.load_postcards("test")[:40])
    features = captioning.image_features(gallery.images)
    model, vocabulary = stored.load("dual_encoder")
    return widgets.ComposePlayground(model, vocabulary, gallery, features)


def found_by(playground):
    """The captions that a playground says it found."""
    said = re.search(r" finds: (.*?)\. (As wished|Has the words): ", playground.said)[1].split("; ")
    assert said == [playground.gallery.captions[place] for place in playground.found]
    return said


def test_the_search_follows_alpha_and_beta(compose):
    compose.alpha.value, compose.beta.value = 0.45, 0.55
    fulfilled = 0
    for card in range(0, 40, 3):
        compose.card.value = card
        wish = compose.gallery.wishes[card]
        assert compose.words.value == wish.text
        fulfilled += wish.caption in found_by(compose)
    assert fulfilled >= 13
    compose.card.value = 3
    own = compose.gallery.captions[3]
    compose.alpha.value, compose.beta.value = 1.0, 0.0
    assert own in found_by(compose), "without words the twin is found"
    picture = compose.figures.value
    compose.words.value, compose.alpha.value, compose.beta.value = "in the rain", 0.0, 1.0
    assert all("in the rain" in caption for caption in found_by(compose))
    assert compose.figures.value != picture


def test_a_search_without_a_query_says_so(compose):
    compose.words.value, compose.beta.value = "in the rain", 0.0
    compose.alpha.value = 0.0
    assert compose.said.startswith("α and β are both 0")
    compose.alpha.value, compose.words.value = 0.5, "  "
    assert compose.said.startswith("The query is empty")
    compose.words.value = "<b>zzz</b>"
    assert compose.said.startswith("None of the words")
    assert compose.found == compose.fulfilled == []
    assert compose.figures.value.count("<figure") == 1  # the card alone


def test_a_weight_of_0_says_what_does_not_count(compose):
    compose.card.value = 1
    compose.alpha.value, compose.beta.value = 0.5, 0.5
    assert "does not count" not in compose.said
    assert "do not count" not in compose.said
    compose.beta.value = 0.0
    compose.words.value = "in the rain"
    assert compose.said.endswith("β = 0: the words do not count; move β.")
    found = compose.found
    compose.words.value = "at night"
    assert compose.found == found
    compose.beta.value, compose.alpha.value = 0.5, 0.0
    compose.card.value = 2
    assert compose.said.endswith("α = 0: the card does not count; move α.")


def titled(playground) -> list[tuple[str, str]]:
    """The title and the caption of each picture that is shown."""
    return re.findall(r"<b>(.*?)</b> (.*?)</figcaption>", playground.figures.value)


def test_what_fulfils_the_wish_is_marked(compose):
    compose.alpha.value, compose.beta.value = 0.45, 0.55
    fulfilled = 0
    for card in range(0, 40, 3):
        compose.card.value = card
        wish, (query, *found) = compose.gallery.wishes[card], titled(compose)
        assert query == ("This card:", compose.gallery.captions[card])
        for title, caption in found:
            assert title == ("✓ As wished:" if caption == wish.caption else "")
        right = sum(caption == wish.caption for _, caption in found)
        assert f"As wished: {right} of 5." in compose.said
        assert compose.figures.value.count("class='mbm-fulfilled'") == right
        fulfilled += right > 0
    assert fulfilled >= 13
    compose.words.value = "  At NIGHT"
    _, *found = titled(compose)
    assert {title for title, caption in found if "at night" in caption} == {"✓ Has the words:"}
    assert {title for title, caption in found if "at night" not in caption} <= {""}
    compose.alpha.value = 0.0
    assert all(title != "This card:" for title, _ in titled(compose))


def test_a_frame_in_the_still_picture_marks_what_fulfils_the_wish(compose):
    compose.alpha.value, compose.beta.value, compose.card.value = 0.45, 0.55, 0
    assert compose.fulfilled
    card, *found = compose.pictures()
    assert png(card).getpixel((0, 0)) == (255, 255, 255)
    for place, picture in zip(compose.found, found, strict=True):
        edge = png(picture).getpixel((70, 2))
        assert edge == (compose.GREEN if place in compose.fulfilled else (255, 255, 255))


def test_typed_words_are_searched_with_once_the_hands_rest(compose, monkeypatch):
    compose.alpha.value, compose.beta.value = 0.0, 1.0
    searched, search = [], compose._search
    monkeypatch.setattr(
        compose, "_search", lambda: searched.append(compose.words.value) or search()
    )

    async def type_words():
        for end in range(1, 12):
            compose.words.value = "in the rain"[:end]
            await asyncio.sleep(compose.PAUSE / 10)
        assert searched == []
        await asyncio.sleep(2 * compose.PAUSE)
        assert searched == ["in the rain"]
        compose.words.value = "at night"
        assert "“at night” finds" in compose.said  # code need not wait
        compose.card.value = 4
        assert searched[-1] == compose.gallery.wishes[4].text
        count = len(searched)
        await asyncio.sleep(2 * compose.PAUSE)
        assert len(searched) == count  # and nothing is searched for twice

    asyncio.run(type_words())


# A film, frame by frame


@pytest.fixture(scope="module")
def film():
    cards = datasets.load_postcards("test", parts=("clip",))[:6]
    return widgets.FilmPlayground(*stored.load("summariser"), torch.stack(cards.clips))


def test_a_film_is_told_from_the_frames_seen_so_far(film):
    playground, clips = film, film.clips
    model, vocabulary = stored.load("summariser")
    features = video.frame_features(clips)
    pictures = set()
    for film_number, seen in ((0, 2), (0, 5), (3, 8), (5, 8)):
        playground.film.value, playground.seen.value = film_number, seen
        told = video.summarise(model, features[film_number : film_number + 1, :seen], vocabulary)[0]
        assert playground.said == f"After {seen} of 8 frames: {told}."
        pictures.add(playground.plot.value)
        sheet = np.asarray(png(playground.plot.value))
        for k in range(8):
            top, left = (134 * place for place in divmod(k, playground.ACROSS))
            frame = (clips[film_number, k] * 255).byte().permute(1, 2, 0).numpy()
            shown = sheet[top : top + 128 : 2, left : left + 128 : 2]
            assert (shown == (frame if k < seen else 235)).all()
    assert len(pictures) == 4


# Real digits, and an album of one's own


@pytest.fixture(scope="module")
def digits():
    torch.manual_seed(0)
    model = real_data.new_reader(real_data.DIGIT_MODALITIES, fusion.WeightedSum).eval()
    inputs = {name: torch.rand(12, 3, 64, 64) for name in real_data.DIGIT_MODALITIES}
    return widgets.DigitsPlayground(
        model, real_data.Pairs(inputs, torch.arange(12) % 10, [""] * 12)
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.0, 1.3), (1.2, 0.0), (0.0, 0.0)])
def test_digits_are_read_from_alpha_f_plus_beta_g(digits, alpha, beta):
    digits.alpha.value, digits.beta.value, digits.pair.value = alpha, beta, 7
    f, g = digits.f, digits.g
    scores = digits.head(alpha * f + beta * g).detach()
    read = scores.argmax(1)
    right = (read == digits.pairs.digits).float().mean()
    assert digits.said.startswith(
        f"α = {alpha:.2f}, β = {beta:.2f}: pair 7 is a 7, read as {read[7]}"
    )
    assert digits.said.endswith(f"Of all 12 pairs {right:.2f} are right.")
    heights = [bar.get_height() for bar in digits.bars]
    assert heights == pytest.approx(scores[7].softmax(0).tolist(), abs=1e-5)


def test_each_slider_of_the_digits_changes_the_picture(digits):
    pictures = set()
    for slider, value in ((digits.alpha, 0.4), (digits.beta, 1.7), (digits.pair, 3)):
        slider.value = value
        pictures.add((digits.plot.value, digits.picture.value))
    assert len(pictures) == 3
    assert len({picture for _, picture in pictures}) == 2  # α and β leave the pair as it is


@pytest.mark.slow
def test_an_album_is_searched_by_words_by_a_picture_and_by_both():
    album = albums.load_album(albums.example_album())
    search = widgets.AlbumPlayground(album)
    assert (search.alpha.value, search.beta.value) == (0.0, 1.0)
    for place in (0, 7, 19):
        search.words.value = album.captions[place][0]
        assert found_by(search)[0] == album.captions[place][0]
    search.alpha.value, search.beta.value, search.card.value = 1.0, 0.0, 5
    assert len(found_by(search)) == 5
    assert album.captions[5][0] not in found_by(search)[:1]  # the picture itself is left out


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_album_of_large_pictures_is_searched_with_any_encoder(count):
    images = torch.rand(count, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    album = albums.Album(list("abc")[:count], images, [["a dog"], ["a cat"], ["snow"]][:count])
    search = widgets.AlbumPlayground(album, real_data.ColourGrid())
    search.words.value = "a dog"
    assert len(found_by(search)) == count
    search.alpha.value = 1.0
    if count == 1:
        assert "the only picture" in search.said
    else:
        assert len(found_by(search)) == count - 1


# One model: α and β of its tokens, temperature and top-p

WORDS = "a blue red face happy is it night no yes the in rain what colour ? 雨中 脸".split()
KNOWN = preprocessing.Vocabulary(
    [*preprocessing.SPECIAL_WORDS, *one_model.TASKS, *one_model.MOODS, *WORDS]
)
TEXTS = ["what colour is the face?", "is it night?", "is the face red?"]


@pytest.fixture(scope="module")
def untrained():
    """A small model whose parameters are all random, so that its answers differ."""
    torch.manual_seed(0)
    model = one_model.OneModel(len(KNOWN), width=16, blocks=2).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model, torch.rand(3, 3, 64, 64), torch.randn(3, 16, 128)


@pytest.fixture(scope="module")
def answers(untrained):
    model, images, picture = untrained
    return widgets.TokensPlayground(model, KNOWN, images, picture, "<ask>", TEXTS)


@pytest.fixture(scope="module")
def moods(untrained):
    model, images, picture = untrained
    true = ["<-0.1>", "<+0.0>", "<+0.3>"]
    return widgets.TokensPlayground(model, KNOWN, images, picture, "<mood>", TEXTS, true)


@pytest.fixture(scope="module")
def drawing(untrained):
    model, images, picture = untrained
    return widgets.SamplingPlayground(model, KNOWN, images, picture)


def first_scores(untrained, task, card, alpha, beta):
    """The scores of the answer's first word, by the model itself with its tokens scaled."""
    model, _, picture = untrained
    model.alpha, model.beta = alpha, beta
    words = [*one_model.prompt(task, TEXTS[card], KNOWN), preprocessing.BOS]
    with torch.no_grad():
        scores = model({"picture": picture[card : card + 1], "words": torch.tensor([words])})
    model.alpha = model.beta = 1.0
    return scores[0, -1]


@pytest.mark.parametrize(
    ("alpha", "beta", "card"), [(1, 1, 0), (0, 1.3, 1), (0.4, 0, 2), (2, 2, 0)]
)
def test_answers_are_those_of_the_model_with_its_tokens_scaled(
    untrained, answers, alpha, beta, card
):
    answers.alpha.value, answers.beta.value, answers.card.value = alpha, beta, card
    p = first_scores(untrained, "<ask>", card, alpha, beta).softmax(0)
    english = [i for i, word in enumerate(KNOWN.words) if word.isascii()]
    best = sorted(english, key=lambda i: -p[i])[:5]
    told = ", ".join(f"{KNOWN.words[i]} {p[i]:.2f}" for i in best[:3])
    assert answers.said == f"α = {alpha:.2f}, β = {beta:.2f}: “{TEXTS[card]}” {told}."
    widths = [bar.get_width() for bar in answers.likely.bars]
    assert widths == pytest.approx(p[best].tolist(), abs=1e-5)


@pytest.mark.parametrize(("alpha", "beta", "card"), [(1, 1, 0), (0.5, 1.5, 2)])
def test_a_mood_is_the_mean_over_its_words(untrained, moods, alpha, beta, card):
    moods.alpha.value, moods.beta.value, moods.card.value = alpha, beta, card
    scores = first_scores(untrained, "<mood>", card, alpha, beta)
    p = scores[KNOWN.encode(one_model.MOODS)].softmax(0)
    assert [bar.get_height() for bar in moods.bars] == pytest.approx(p.tolist(), abs=1e-5)
    mean = sum(float(one) * tenth / 10 for one, tenth in zip(p, range(-10, 11), strict=True))
    assert f"mood {mean:.2f}, likeliest {one_model.MOODS[int(p.argmax())]}." in moods.said
    assert moods.said.endswith(f"True: {moods.true[card]}.")


def test_moving_the_sliders_leaves_the_model_as_it_was(untrained, answers):
    model = untrained[0]
    answers.alpha.value, answers.beta.value = 0.3, 1.7
    assert (model.alpha, model.beta) == (1.0, 1.0)
    before = model.training
    model.train()
    answers.alpha.value = 0.6
    assert model.training
    model.train(before)


def test_what_is_drawn_follows_temperature_and_top_p(untrained, drawing):
    model, _, picture = untrained
    for card, count, temperature, top_p in ((0, 0, 1, 1), (1, 1, 0.4, 0.7), (2, 9, 2.0, 0.3)):
        drawing.card.value, drawing.temperature.value = card, temperature
        drawing.top_p.value = top_p
        drawing.count.value = count = min(count, drawing.count.max)
        words = drawing.words[:count]
        told = [KNOWN.index["<caption en>"], preprocessing.BOS, *words]
        with torch.no_grad():
            inputs = {"picture": picture[card : card + 1], "words": torch.tensor([told])}
            scores = model(inputs)[0, -1]
        p = (scores / temperature).softmax(0).sort(descending=True)
        kept = int((p.values.cumsum(0) - p.values < top_p).sum())  # not enough before it
        assert f". Next, of {kept} words: " in drawing.said
        best, total = p.values[0] / p.values[:kept].sum(), drawing.chances().sum()
        assert float(drawing.chances().max()) == pytest.approx(float(best), abs=1e-5)
        assert float(total) == pytest.approx(1, abs=1e-5)


def test_sentences_are_drawn_with_the_same_settings(untrained, drawing):
    model, _, picture = untrained
    drawing.card.value, drawing.temperature.value, drawing.top_p.value = 1, 1.5, 0.8
    inputs = one_model.ask(model, "<caption en>", {"picture": picture[[1] * 4]}, KNOWN)
    with torch.no_grad():
        written = writing.sample(model, model.start(inputs), temperature=1.5, top_p=0.8)
    sentences = writing.read_out(written, KNOWN, "en")
    assert drawing.drawn == sentences
    assert drawing.said.endswith("Drawn: “" + "”, “".join(sentences) + "”.")
    drawing.temperature.value, drawing.top_p.value = 0.1, 0.05
    assert len(set(drawing.drawn)) == 1  # the likeliest word alone is left: greedy
    told = KNOWN.decode(drawing.words)
    assert drawing.drawn[0] == " ".join(told)


def test_sentences_come_a_moment_later_and_once(drawing, monkeypatch):
    drawn, sample = [], writing.sample
    monkeypatch.setattr(writing, "sample", lambda *a, **o: drawn.append(o) or sample(*a, **o))

    async def move():
        for step in range(1, 9):
            drawing.temperature.value = 0.2 * step
            assert "Drawn" not in drawing.text.value
        assert drawn == []
        await asyncio.sleep(4 * drawing.PAUSE)
        assert [one["temperature"] for one in drawn] == [pytest.approx(1.6)]
        drawing.temperature.value = 0.5
        assert "Drawn" in drawing.said  # code need not wait
        await asyncio.sleep(2 * drawing.PAUSE)
        assert len(drawn) == 2

    asyncio.run(move())
