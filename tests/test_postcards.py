"""postcards/ and data/: what is committed is what the program draws, and what its card says."""

import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageSequence

from mbm_lab import datasets, fusion, postcards, training
from mbm_lab.postcards import cards as cards_module

DATA_CARD = (datasets.DATA / "README.md").read_text(encoding="utf-8")
AMBIGUOUS = {"glasses", "a bat", "a mouse", "a crane", "a bow", "a fan"}


@pytest.fixture(scope="module")
def cards():
    return postcards.read_cards(datasets.POSTCARDS)


def values(cards, name):
    return torch.tensor([getattr(card, name) for card in cards], dtype=torch.float64)


def table_row(first: str) -> list[str]:
    """The cells of the row of the data card's tables that begins with this cell."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", DATA_CARD, flags=re.M)
    return [cell.strip() for cell in row.split("|")]


# --- the committed files


def test_cards_and_captions_are_what_the_program_writes(cards, tmp_path):
    assert cards == postcards.course_cards()
    postcards.write_cards(cards, tmp_path / "cards.csv")
    postcards.write_captions(cards, tmp_path / "captions.txt")
    for name in ("cards.csv", "captions.txt"):
        committed = (datasets.POSTCARDS / name).read_text(encoding="utf-8")
        assert (tmp_path / name).read_text(encoding="utf-8") == committed


def test_pictures_are_what_the_program_draws(cards):
    for card in cards[::50]:
        committed = Image.open(datasets.POSTCARDS / "images" / f"{card.name}.png").convert("RGB")
        assert np.array_equal(np.asarray(committed), np.asarray(postcards.picture(card))), card.name


def test_clips_are_what_the_program_draws(cards):
    for card in [card for card in cards if card.change][::40]:
        file = Image.open(datasets.POSTCARDS / "clips" / f"{card.name}.webp")
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
        drawn = [np.asarray(frame) for frame in postcards.clip(card)]
        assert len(frames) == len(drawn) == postcards.CLIP_FRAMES
        assert all(np.array_equal(a, b) for a, b in zip(frames, drawn, strict=True)), card.name


@pytest.mark.skipif(postcards.synthesizer() is None, reason="needs espeak-ng: install it")
def test_voices_are_what_the_program_speaks(cards):
    for card in [card for card in cards if card.voice][::150]:
        committed, rate = soundfile.read(datasets.POSTCARDS / "voices" / f"{card.name}.ogg")
        assert rate == postcards.SPEECH_RATE
        spoken = postcards.voice(card)
        assert abs(len(committed) - len(spoken)) < 0.1 * rate
        length = min(len(committed), len(spoken))
        # Opus is lossy, so the two are alike but not equal
        assert np.corrcoef(committed[:length], spoken[:length])[0, 1] > 0.8, card.name


@pytest.mark.skipif(postcards.synthesizer() is None, reason="needs espeak-ng: install it")
def test_notes_are_what_the_program_speaks(cards, tmp_path):
    for card in [card for card in cards if postcards.has_note(card)][::110]:
        committed, rate = soundfile.read(datasets.POSTCARDS / "notes" / f"{card.name}.ogg")
        assert rate == postcards.SPEECH_RATE
        postcards.write_sound(postcards.spoken_note(card), tmp_path / "note.ogg", level=1.0)
        spoken, _ = soundfile.read(tmp_path / "note.ogg")
        assert len(spoken) == len(committed)
        assert np.corrcoef(spoken, committed)[0, 1] > 0.95


def test_a_note_says_what_the_picture_shows_and_what_it_cannot(cards):
    noted = [card for card in cards if postcards.has_note(card)]
    splits = [card.split for card in noted]
    assert {split: splits.count(split) for split in postcards.NOTED} == postcards.NOTED
    for card in noted:
        number, joined, name, first, also, second = postcards.note(card).split()
        assert (joined, also) == ("for", "and")
        assert number in postcards.NUMBERS
        assert name.title() in postcards.NAMES
        shown = postcards.things_shown(card)
        assert {first, second} <= set(shown.values())
        assert first != second
        assert all(word in card.caption.split() for word in shown.values())


def test_no_note_but_trainings_own_is_among_trainings(cards):
    noted = [card for card in cards if postcards.has_note(card)]
    known = {tuple(postcards.note(card).split()[:3]) for card in noted if card.split == "train"}
    others = [card for card in noted if card.split != "train"]
    for card in [*others, *postcards.draw(300, 1), *postcards.draw(300, 2)]:
        assert tuple(postcards.note(card).split()[:3]) not in known


def test_a_picture_does_not_tell_which_of_its_things_are_named():
    """Each kind comes equally often, first and second, and other draws draw other notes."""
    drawn = postcards.draw(1500, 3)
    notes = [postcards.note(card).split() for card in drawn]
    for place in (3, 5):
        named = [
            kind
            for card, words in zip(drawn, notes, strict=True)
            if "mood" in (shown := postcards.things_shown(card))
            for kind, word in shown.items()
            if word == words[place]
        ]
        for kind in ("colour", "object", "weather", "mood"):
            assert named.count(kind) / len(named) == pytest.approx(1 / 4, abs=0.05)
    assert notes[:20] != [postcards.note(card).split() for card in postcards.draw(20, 4)]


def test_every_file_belongs_to_a_card_and_the_data_is_small(cards):
    expected = {f"images/{card.name}.png" for card in cards}
    expected |= {f"voices/{card.name}.ogg" for card in cards if card.voice}
    expected |= {f"clips/{card.name}.webp" for card in cards if card.change}
    expected |= {f"notes/{card.name}.ogg" for card in cards if postcards.has_note(card)}
    expected |= {"captions.txt", "cards.csv"}
    files = [path for path in datasets.POSTCARDS.rglob("*") if path.is_file()]
    assert {path.relative_to(datasets.POSTCARDS).as_posix() for path in files} == expected
    assert sum(path.stat().st_size for path in datasets.DATA.rglob("*") if path.is_file()) < 33e6


# --- what the data card says


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_counts(cards, split):
    chosen = [card for card in cards if split in (card.split, "all")]
    counts = [
        len(chosen),
        sum(bool(card.voice) for card in chosen),
        sum(bool(card.change) for card in chosen),
        sum(bool(card.voice and card.change) for card in chosen),
    ]
    first_table = DATA_CARD[: DATA_CARD.index("Every card has")]
    (row,) = re.findall(rf"^\| {split} \|(.*)\|$", first_table, flags=re.M)
    assert [int(cell) for cell in row.split("|")] == counts


def test_enough_of_everything(cards):
    assert len(cards) >= 2400
    assert sum(bool(card.voice) for card in cards) >= 600
    assert sum(bool(card.voice and card.change) for card in cards) >= 400
    in_test = [card for card in cards if card.split == "test"]
    assert sum(postcards.OBJECTS[card.object][0] in AMBIGUOUS for card in in_test) >= 400


@pytest.mark.parametrize(
    ("witness", "rating", "noise"),
    [
        ("picture", "expression", postcards.PICTURE_NOISE),
        ("message", "sentiment", postcards.MESSAGE_NOISE),
        ("voice", "tone", postcards.VOICE_NOISE),
    ],
)
def test_witnesses(cards, witness, rating, noise):
    mood, reading = values(cards, "mood"), values(cards, rating)
    r2 = torch.corrcoef(torch.stack([mood, reading]))[0, 1].item() ** 2
    cells = table_row(witness)
    assert float(cells[2]) == noise
    assert float(cells[3]) == round(r2, 2)
    assert (reading - mood).std().item() == pytest.approx(noise, abs=0.01)
    assert (reading.abs() == 1).double().mean() < 0.03


def test_r_squared_of_the_design(cards):
    mood = values(cards, "mood")
    for rating, expected in (("expression", 0.62), ("sentiment", 0.70)):
        r2 = torch.corrcoef(torch.stack([mood, values(cards, rating)]))[0, 1].item() ** 2
        assert r2 == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_best_weights(cards, split):
    chosen = [card for card in cards if split in (card.split, "all")]
    f, g, m = (values(chosen, name) for name in ("expression", "sentiment", "mood"))
    alpha, beta, intercept = fusion.best_weights(f, g, m)
    r2 = training.r_squared(fusion.weighted_sum(f, g, alpha, beta) + intercept, m)
    second_table = DATA_CARD[DATA_CARD.index("| fitted on |") :]
    (row,) = re.findall(rf"^\| {split} \|(.*)\|$", second_table, flags=re.M)
    said = [float(cell) for cell in row.split("|")]
    assert said == [round(value, 3) for value in (alpha, beta, intercept, r2)]
    if split == "all":
        assert float(table_row("picture and message")[3]) == round(r2, 2)


def test_bayes_weights_of_the_data_card():
    alpha, beta, _ = fusion.bayes_weights(
        postcards.PICTURE_NOISE, postcards.MESSAGE_NOISE, postcards.MOOD_SD
    )
    assert f"α = {alpha:.3f} and β = {beta:.3f}" in DATA_CARD


def test_noises_are_independent(cards):
    mood = values(cards, "mood")
    noises = [values(cards, name) - mood for name in ("expression", "sentiment", "tone")]
    correlations = torch.corrcoef(torch.stack([mood, *noises])) - torch.eye(4)
    assert correlations.abs().max() < 0.06


# --- splits


def test_unseen_pairs_are_unseen(cards):
    assert len(postcards.UNSEEN) == 24
    trained = {(card.colour, card.object) for card in cards if card.split != "test"}
    assert not trained & postcards.UNSEEN
    assert len(trained) == 96
    for card in cards:
        assert card.seen == ((card.colour, card.object) not in postcards.UNSEEN)
    assert sum(not card.seen for card in cards) == 300


def test_held_out_voices_and_names(cards):
    for card in cards:
        held_out = card.voice in postcards.HELD_OUT_VOICES
        assert not card.voice or held_out == (card.split == "test")
        if card.split != "test":
            assert not any(name in card.message for name in postcards.NEW_NAMES)
    assert any("Zoe" in card.message for card in cards)


def test_no_message_is_in_two_splits(cards):
    """Short messages may repeat by chance; hardly any may be shared by training and test."""
    trained = {card.message for card in cards if card.split == "train"}
    tested = [card.message for card in cards if card.split == "test"]
    assert sum(message in trained for message in tested) < 0.01 * len(tested)


def test_every_change_is_as_likely_as_its_reverse(cards):
    changes = [(card.change, card.weather, card.change_to) for card in cards if card.change]
    for change, a, b in (("mood", "happier", "sadder"), ("place", "left", "right")):
        counts = [sum((c, to) == (change, end) for c, _, to in changes) for end in (a, b)]
        assert abs(counts[0] - counts[1]) < 3 * sum(counts) ** 0.5
    starts = [w for c, w, _ in changes if c == "weather"]
    ends = [to for c, _, to in changes if c == "weather"]
    for weather in postcards.WEATHERS:
        counts = starts.count(weather), ends.count(weather)
        assert abs(counts[0] - counts[1]) < 3 * sum(counts) ** 0.5


# --- the grammar, by hand


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        (-0.9, "sad"),
        (-0.35, "sad"),
        (-0.2, ""),
        (0.0, "calm"),
        (0.3, ""),
        (0.35, "happy"),
        (1, "happy"),
    ],
)
def test_mood_words_and_their_gaps(expression, word):
    assert postcards.mood_word(expression) == word


def test_captions_by_hand():
    drawn = (-0.5, "red", "bat (animal)", "on", "rain")
    assert postcards.caption_en(*drawn) == "a sad red face with a bat on its head in the rain"
    assert postcards.caption_zh(*drawn) == "雨中一张难过的红色的脸，头上有一只蝙蝠"
    drawn = (0.2, "blue", "umbrella", "beside", "night")
    assert postcards.caption_en(*drawn) == "a blue face beside an umbrella at night"
    assert postcards.caption_zh(*drawn) == "夜里一张蓝色的脸，旁边有一把雨伞"


def test_two_objects_of_one_word_have_one_english_and_two_chinese_captions():
    by_word = {}
    for thing, (word, _) in postcards.OBJECTS.items():
        by_word.setdefault(word, []).append(thing)
    pairs = [things for things in by_word.values() if len(things) == 2]
    assert len(pairs) == 6
    for a, b in pairs:
        rest = ("blue", "beside", "sun")
        one, other = ((0.0, rest[0], thing, *rest[1:]) for thing in (a, b))
        assert postcards.caption_en(*one) == postcards.caption_en(*other)
        assert postcards.caption_zh(*one) != postcards.caption_zh(*other)


def score(sentence: str) -> float:
    """The sentiment of a sentence, read by a second program that knows only the rules."""
    text = sentence.rstrip(".").lower()
    if text.startswith("although "):
        first, second = text.removeprefix("although ").split(", ", 1)
        return 0.3 * score(first) + 0.7 * score(second)
    for join, weights in ((" although ", (0.7, 0.3)), (" but ", (0.3, 0.7)), (" and ", (0.5, 0.5))):
        if join in text:
            first, second = text.split(join)
            return weights[0] * score(first) + weights[1] * score(second)
    if text.startswith("nobody would say that "):
        return -0.6 * score(text.removeprefix("nobody would say that "))
    *before, adjective = text.split(" was ")[1].split()
    value = postcards.ADJECTIVES[adjective]
    for word in reversed(before):
        if word in postcards.INTENSIFIERS:
            value = max(-1, min(1, postcards.INTENSIFIERS[word] * value))
        else:
            value *= postcards.NEGATIONS[word]
    return value


def without_opening(message: str) -> str:
    return re.sub(r"^(Dear \w+, )?(today is \w+day\. |\w+day\. )?", "", message)


def test_sentiment_by_hand():
    # 0.3 · terrible + 0.7 · (not · truly · lovely) = 0.3 · (-0.92) + 0.7 · (-0.6 · 0.952)
    sentence = "The food was terrible but the sea was not truly lovely."
    assert score(sentence) == pytest.approx(-0.276 + 0.7 * -0.6 * 0.952)


def test_ratings_are_what_the_messages_say(cards):
    for card in cards:
        assert score(without_opening(card.message)) == pytest.approx(card.sentiment, abs=1e-4), (
            card.message
        )


def test_a_message_is_the_nearest_of_400_sentences(monkeypatch):
    """No sentence is ever near enough, and the best comes last."""
    scores = iter([-k / 1000 for k in range(400, 0, -1)] + [0.5])
    monkeypatch.setattr(cards_module, "sentence_and_score", lambda rng: ("words", next(scores)))
    _, sentiment = postcards.message_for(0.5, random.Random(0), postcards.NAMES)
    assert sentiment == -0.001
    assert next(scores) == 0.5, "400 were drawn, and no more"


# --- drawing


def test_draw_gives_the_same_cards_however_many():
    assert postcards.draw(3, seed=7) == postcards.draw(10, seed=7)[:3]
    assert postcards.draw(3, seed=7) != postcards.draw(3, seed=8)
    assert all(not card.seen for card in postcards.draw(5, seed=1, combinations="unseen"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [((0, 1), "at least one"), ((3, 1, "new"), "Unknown combinations 'new'")],
)
def test_draw_refuses(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        postcards.draw(*arguments)


def test_cards_without_voice_or_clip_say_so():
    (card,) = postcards.draw(1, seed=0)
    with pytest.raises(ValueError, match="has no voice"):
        postcards.voice(card)
    with pytest.raises(ValueError, match="has no clip"):
        postcards.clip(card)


def test_the_tone_sets_pitch_and_pace(monkeypatch):
    """What the synthesizer is told; it is not needed here."""
    told = []

    def speak(command, check):
        told.append(command)
        soundfile.write(command[command.index("-w") + 1], np.zeros(220), 22_050)

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", speak)
    card = replace(postcards.draw(1, seed=0)[0], voice="en-us+m3")
    for tone, pitch, pace in ((0.0, "50", "175"), (1.0, "82", "220"), (-0.5, "34", "152")):
        assert len(postcards.voice(replace(card, tone=tone))) == 160, "at 16,000 a second"
        program, *settings, text = told.pop()
        assert (program, text) == ("/bin/espeak-ng", card.message)
        said = dict(zip(settings[::2], settings[1::2], strict=True))
        assert (said["-v"], said["-p"], said["-s"]) == ("en-us+m3", pitch, pace)


def test_a_synthesizer_that_fails_is_an_error(monkeypatch):
    """Python itself, which cannot speak."""
    (card,) = [postcards.with_voice(card, 1) for card in postcards.draw(1, seed=0)]
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    with pytest.raises(subprocess.CalledProcessError):
        postcards.voice(card)


def test_the_face_follows_the_expression():
    (card,) = postcards.draw(1, seed=3)
    sad, happy = (
        np.asarray(postcards.picture(replace(card, expression=e)), dtype=int) for e in (-1, 1)
    )
    assert (sad != happy).any(axis=2).mean() > 0.01


def test_resample_doubles_the_rate_and_keeps_the_tone():
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    resampled = postcards.resample(tone, 8000)
    assert len(resampled) == 16000
    spectrum = np.abs(np.fft.rfft(resampled))
    assert spectrum.argmax() == 440  # one second: bin number = hertz


def test_build_writes_what_load_reads(tmp_path):
    chosen = [postcards.with_clip(card, 1) for card in postcards.draw(3, seed=5)]
    out = tmp_path / "a new folder"
    postcards.build(out, chosen)
    loaded = datasets.load_postcards("all", ("image", "clip"), root=out)
    assert loaded.cards == chosen
    drawn = datasets.draw_postcards(3, seed=5)
    assert torch.equal(loaded.images, drawn.images)
    assert [tuple(clip.shape) for clip in loaded.clips] == [(8, 3, 64, 64)] * 3
    for path in (out / "clips").iterdir():
        film = Image.open(path)
        film.load()
        assert (film.info["duration"], film.info["loop"]) == (150, 0), "150 ms each, for ever"


def test_build_never_overwrites(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="name a new folder"):
        postcards.build(tmp_path, postcards.draw(1, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_build_needs_the_synthesizer_only_for_voices(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    silent = postcards.draw(1, seed=0)
    spoken = [postcards.with_voice(card, 1) for card in silent]
    with pytest.raises(FileNotFoundError, match="espeak-ng"):
        postcards.build(tmp_path / "spoken", spoken)
    assert not (tmp_path / "spoken").exists()
    postcards.build(tmp_path / "silent", silent)


@pytest.fixture
def tables(tmp_path):
    """A folder with the two tables of three cards, and the cards."""
    drawn = postcards.draw(3, seed=6)
    postcards.write_cards(drawn, tmp_path / "cards.csv")
    postcards.write_captions(drawn, tmp_path / "captions.txt")
    return tmp_path, drawn


def test_a_caption_is_what_captions_txt_says(tables):
    folder, drawn = tables
    assert postcards.read_cards(folder) == drawn
    assert drawn[1].caption not in (folder / "cards.csv").read_text(encoding="utf-8")
    text = 'image,caption\nfresh_0002.png,c\nfresh_0001.png,"b, edited"\nfresh_0000.png,a\n'
    (folder / "captions.txt").write_text(text, encoding="utf-8-sig")  # as Windows' editor saves
    captions = ("a", "b, edited", "c")
    edited = [replace(card, caption=said) for card, said in zip(drawn, captions, strict=True)]
    assert postcards.read_cards(folder) == edited


@pytest.mark.parametrize("name", ["cards.csv", "captions.txt"])
def test_a_table_that_is_missing_or_no_table(tables, name):
    folder, _ = tables
    lines = (folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
    wrong = {
        "does not have the columns": ["name,mood\n", *lines[1:]],
        "line 2, should have": [lines[0], "x,", *lines[1:]],
        "line 4, should have": [*lines[:3], "x\n"],
        'a quote " in the wrong place': [*lines, '"x'],
    }
    for sentence, text in wrong.items():
        (folder / name).write_text("".join(text), encoding="utf-8")
        with pytest.raises(ValueError, match=f"{name}.*{sentence}"):
            postcards.read_cards(folder)
    (folder / name).write_bytes(b"\xff")
    with pytest.raises(ValueError, match=f"{name} is not UTF-8"):
        postcards.read_cards(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        postcards.read_cards(folder)


@pytest.mark.parametrize("line", ["", "fresh_0002.png,\n", "fresh_0002.png, \n"])
def test_a_card_without_a_caption_is_named(tables, line):
    folder, _ = tables
    lines = (folder / "captions.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "captions.txt").write_text("".join([*lines[:3], line]), encoding="utf-8")
    with pytest.raises(ValueError, match="has no caption for fresh_0002.png"):
        postcards.read_cards(folder)
