"""The widgets of lessons 02, 03, 05 to 08 and 12, moved in real JupyterLab."""

import re

import pytest
import torch

from mbm_lab import (
    albums,
    captioning,
    datasets,
    retrieval,
    stored,
    video,
    welcome,
    widgets,
)
from tests.browser.jupyter import (
    drag,
    eventually,
    picture_of,
    pixels,
    reads,
    same_picture,
    value_of,
    words_of,
    write_cell,
)


def assert_shows(page, mirror, containing: str, picture: int, image: bytes) -> None:
    """Words and pixels become those that this process computes for the same settings."""

    def says_the_same():
        return mirror.said == words_of(page, containing)

    eventually(page, says_the_same)

    def looks_the_same():
        return same_picture(picture_of(page, picture), pixels(image))

    eventually(page, looks_the_same)


def test_every_number_of_the_kernel(lesson_page, watched):
    page = watched(lesson_page("02_cnn"))
    image = datasets.load_postcards("test", parts=("image",)).images[3].mean(0)
    mirror = widgets.KernelPlayground(image, row=36, column=19)
    handles = page.locator(".noUi-handle")
    assert handles.count() == 9
    for place in range(9):
        handle = handles.nth(place)
        before = value_of(handle)
        handle.press("ArrowRight")
        handle.press("ArrowRight")
        drag(page, handle, -9 if place % 2 else 9)
        assert value_of(handle) != before
        values = [value_of(handles.nth(i)) for i in range(9)]
        mirror.set([values[0:3], values[3:6], values[6:9]])
        assert_shows(page, mirror, "In the marked window", 1, mirror.after.value)
    text = words_of(page, "In the marked window")
    terms = re.findall(r"(-?[\d.]+) · ([\d.]+)", text)
    total = float(re.search(r" = (\S+)\. In the whole", text)[1])
    assert sum(float(k) * float(x) for k, x in terms) == pytest.approx(total, abs=0.3)
    page.click("button:has-text('outlines')")
    mirror.set(widgets.PRESETS["outlines"])
    assert_shows(page, mirror, "In the marked window", 1, mirror.after.value)


def test_a_sentence_word_by_word(lesson_page, watched):
    page = watched(lesson_page("03_rnn"))
    mirror = widgets.SentencePlayground(*stored.load("message_reader"))
    handle = page.locator(".noUi-handle").first
    for move in (
        lambda: handle.press("ArrowRight"),
        lambda: drag(page, handle, 90),
        lambda: handle.press("ArrowLeft"),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before
        mirror.count.value = int(value_of(handle))
        assert_shows(page, mirror, "words, “", 0, mirror.plot.value)
    box = page.locator(".widget-text input").first
    box.fill("The weather was never boring!")
    box.press("Enter")
    mirror.sentence.value = "The weather was never boring!"
    assert_shows(page, mirror, "words, “", 0, mirror.plot.value)


def test_the_learning_rate(lesson_page, watched):
    page = watched(lesson_page("05_training"))
    val = datasets.load_postcards("val")
    readings = welcome.read(val, *welcome.load_readers())
    mirror = widgets.LearningRatePlayground(*readings, val.mood)
    handle = page.locator(".noUi-handle").first
    endings = set()
    for move in (
        lambda: [handle.press("ArrowRight") for _ in range(3)],
        lambda: drag(page, handle, -150),
        lambda: drag(page, handle, 400),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before

        def text_follows_handle():
            rate = float(reads(page, "Learning rate", r"Learning rate (\S+):")[1])
            return rate == pytest.approx(10 ** value_of(handle), rel=0.02, abs=0.002)

        eventually(page, text_follows_handle)
        mirror.rate.value = 10 ** value_of(handle)
        assert_shows(page, mirror, "Learning rate", 0, mirror.plot.value)
        endings.add(words_of(page, "Learning rate").split("; ")[1][:6])
    assert len(endings) == 2


def test_the_next_word(lesson_page, watched):
    page = watched(lesson_page("06_captioning"))
    images = datasets.load_postcards("test", parts=("image",)).images[:24]
    mirror = widgets.NextWordPlayground(*stored.load("captioner"), images)
    count, card = page.locator(".noUi-handle").all()
    for handle, move in (
        (count, lambda: count.press("ArrowRight")),
        (card, lambda: drag(page, card, -120)),
        (count, lambda: drag(page, count, 150)),
        (card, lambda: card.press("ArrowRight")),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before
        mirror.card.value = int(value_of(card))
        mirror.count.value = int(value_of(count))
        assert_shows(page, mirror, "After “", 1, mirror.plot.value)
        assert same_picture(picture_of(page, 0), pixels(mirror.picture.value))


def test_this_card_but(lesson_page, watched):
    page = watched(lesson_page("07_retrieval"))
    cards = datasets.load_postcards("test")
    gallery = retrieval.draw_gallery(cards[:300])
    mirror = widgets.ComposePlayground(
        *stored.load("dual_encoder"),
        gallery,
        captioning.image_features(gallery.images),
    )
    write_cell(  # the lesson's own model, trained there, is not the stored one
        page,
        "widgets.ComposePlayground",
        "playground = widgets.ComposePlayground("
        '*stored.load("dual_encoder"), gallery, gallery_features)\nplayground',
    )
    mirror.alpha.value, mirror.beta.value = 0.5, 0.5
    assert_shows(page, mirror, " finds: ", 0, mirror.plot.value)
    alpha, beta, card = page.locator(".noUi-handle").all()
    for handle, slider, move in (
        (alpha, mirror.alpha, lambda: alpha.press("ArrowRight")),
        (beta, mirror.beta, lambda: drag(page, beta, -60)),
        (card, mirror.card, lambda: drag(page, card, 80)),
        (beta, mirror.beta, lambda: drag(page, beta, 90)),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before
        slider.value = type(slider.value)(value_of(handle))
        assert_shows(page, mirror, " finds: ", 0, mirror.plot.value)
    box = page.locator(".widget-text input[type='text']").first
    for words in ("at night", "a lighthouse"):
        box.fill(words)
        box.press("Enter")
        mirror.words.value = words
        assert_shows(page, mirror, words, 0, mirror.plot.value)


def test_a_film_frame_by_frame(lesson_page, watched):
    page = watched(lesson_page("08_video"))
    cards = video.filmed(datasets.load_postcards("test", parts=("clip",)))
    mirror = widgets.FilmPlayground(*stored.load("summariser"), torch.stack(cards.clips)[:20])
    seen, film = page.locator(".noUi-handle").all()
    for handle, move in (
        (seen, lambda: seen.press("ArrowLeft")),
        (film, lambda: drag(page, film, 100)),
        (seen, lambda: drag(page, seen, -150)),
        (film, lambda: film.press("ArrowRight")),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before
        mirror.film.value = int(value_of(film))
        mirror.seen.value = int(value_of(seen))
        assert_shows(page, mirror, " frames: ", 0, mirror.plot.value)


def test_an_album_of_ones_own(lesson_page, watched):
    page = watched(lesson_page("12_real_data"))
    mirror = widgets.AlbumPlayground(albums.load_album(albums.example_album()))
    alpha, beta, card = page.locator(".noUi-handle").all()[-3:]
    box = page.locator(".widget-text input[type='text']").last
    picture = page.locator(".jp-OutputArea .widget-image").count() - 1
    for words in ("a boat", "fan in the snow"):
        box.fill(words)
        box.press("Enter")
        mirror.words.value = words
        assert_shows(page, mirror, " finds: ", picture, mirror.plot.value)
    for handle, slider, move in (
        (alpha, mirror.alpha, lambda: [alpha.press("ArrowRight") for _ in range(6)]),
        (card, mirror.card, lambda: drag(page, card, 120)),
        (beta, mirror.beta, lambda: drag(page, beta, -200)),
    ):
        before = value_of(handle)
        move()
        assert value_of(handle) != before
        slider.value = type(slider.value)(value_of(handle))
        assert_shows(page, mirror, " finds: ", picture, mirror.plot.value)


def test_real_digits_follow_alpha_and_beta(lesson_page, watched):
    page = watched(lesson_page("12_real_data"))
    alpha, beta, pair = page.locator(".noUi-handle").all()[:3]
    found = re.compile(r"α = (\S+), β = (\S+): pair (\d+) is a \d, .* pairs (\S+) are right")
    shares = []
    for handle, group, move in (
        (alpha, 1, lambda: alpha.press("ArrowRight")),
        (alpha, 1, lambda: drag(page, alpha, 150)),  # the lesson leaves it near 0
        (beta, 2, lambda: drag(page, beta, -400)),
        (pair, 3, lambda: drag(page, pair, 100)),
        (alpha, 1, lambda: drag(page, alpha, -400)),
    ):
        before, old = value_of(handle), picture_of(page, 1)
        move()
        assert value_of(handle) != before

        def text_follows_handle(handle=handle, group=group):
            said = reads(page, "are right", found)
            return float(said[group]) == pytest.approx(value_of(handle), abs=0.006)

        eventually(page, text_follows_handle)

        def bars_move(old=old):
            return not same_picture(picture_of(page, 1), old)

        if handle is pair or len(shares) == 4:  # one weight less may leave a sure answer sure
            eventually(page, bars_move)
        shares.append(float(reads(page, "are right", found)[4]))
    assert shares[2] < shares[1]  # without the voice fewer are right
    assert shares[4] == pytest.approx(0.1, abs=0.06)  # with neither it is chance
