"""datasets.py: the Postcards loader, the digits, and real data: small files in the publishers'
formats, and the real files where they are here."""

import gzip
import hashlib
import math
import shutil
import struct
import time

import numpy as np
import pytest
import soundfile
import torch

from mbm_lab import datasets, downloads, postcards, preprocessing


def needs(*names):
    """Skips a test of the real files where they are not here."""
    missing = [name for name in names if downloads.find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


# Postcards


def test_sizes_types_and_ranges():
    cards = datasets.load_postcards("val")
    assert len(cards) == len(cards.messages) == len(cards.captions) == 800
    assert cards.images.shape == (800, 3, 64, 64)
    assert cards.images.dtype == cards.mood.dtype == torch.float32
    assert cards.images.min() >= 0
    assert cards.images.max() <= 1
    assert cards.voices is None
    assert cards.clips is None
    assert cards.seen.all()


def test_images_are_those_of_the_files():
    cards = datasets.load_postcards("test")
    path = datasets.POSTCARDS / "images" / f"{cards.names[123]}.png"
    assert torch.equal(cards.images[123], preprocessing.load_image(path))


def test_voices_and_clips():
    cards = datasets.load_postcards("test", parts=("voice", "clip"))[:3]
    assert cards.images is None
    assert all(voice.ndim == 1 and len(voice) > 8000 for voice in cards.voices)
    assert all(clip.shape == (8, 3, 64, 64) for clip in cards.clips)
    rest = datasets.load_postcards("test", parts=("voice",))
    assert rest.voices[postcards.VOICED["test"]] is None


def test_what_is_not_asked_for_is_not_looked_for(tmp_path):
    for name in ("cards.csv", "captions.txt"):
        shutil.copy(datasets.POSTCARDS / name, tmp_path)
    cards = datasets.load_postcards("val", parts=(), root=tmp_path)
    assert cards.cards == datasets.load_postcards("val", parts=()).cards
    assert cards.images is None
    with pytest.raises(FileNotFoundError, match="val_0000.png"):
        datasets.load_postcards("val", parts=("image",), root=tmp_path)


def test_captions_are_those_of_captions_txt(tmp_path):
    shutil.copy(datasets.POSTCARDS / "cards.csv", tmp_path)
    text = (datasets.POSTCARDS / "captions.txt").read_text(encoding="utf-8")
    text = text.replace("\nval_0000.png,", "\nval_0000.png,my own words on ")
    (tmp_path / "captions.txt").write_text(text, encoding="utf-8")
    cards = datasets.load_postcards("val", parts=(), root=tmp_path)
    before = datasets.load_postcards("val", parts=()).captions
    assert cards.captions == [f"my own words on {before[0]}", *before[1:]]
    assert cards.cards[0].caption == cards.captions[0]


def test_subsets_by_slice_index_and_mask():
    cards = datasets.load_postcards("test")
    assert cards[10:12].names == cards.names[10:12]
    assert cards.subset([5, 3]).messages == [cards.messages[5], cards.messages[3]]
    unseen = cards.subset(~cards.seen)
    assert len(unseen) == 300
    assert torch.equal(unseen.images[0], cards.images[~cards.seen][0])
    for nothing in (cards[:0], cards.subset([]), cards.subset(torch.zeros(700).bool())):
        assert (nothing.names, nothing.mood.tolist()) == ([], [])
        assert nothing.images.shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("training",), "Unknown split 'training'"),
        (("val", ("picture",)), "Unknown part 'picture'"),
    ],
)
def test_unknown_names(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        datasets.load_postcards(*arguments)


@pytest.mark.slow
def test_all_images_load_in_time():
    start = time.perf_counter()
    datasets.load_postcards("all")
    assert time.perf_counter() - start < 3 * 3


def test_drawn_cards_have_the_loader_s_shape():
    cards = datasets.draw_postcards(4, seed=2, combinations="unseen")
    assert cards.images.shape == (4, 3, 64, 64)
    assert not cards.seen.any()


def test_a_painted_card_is_the_picture_in_its_file():
    cards = datasets.load_postcards("val")[:5]
    assert torch.equal(datasets.paint(cards.cards), cards.images)


def test_notes_are_read_where_there_are_any():
    cards = datasets.load_postcards("test", parts=("note",))
    with_note = [note for note in cards.notes if note is not None]
    assert len(with_note) == 120
    assert cards.notes[0].ndim == 1
    assert cards.note_texts[0] == postcards.note(cards.cards[0])
    assert cards[:3].notes[2] is cards.notes[2]


def test_the_fingerprint_is_of_all_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name, text in (("b/c.txt", "three"), ("a.txt", "one")):
        (tmp_path / name).write_text(text)
    by_hand = hashlib.sha256(b"a.txt 3 one" + b"b/c.txt 5 three").hexdigest()
    assert datasets.fingerprint(tmp_path) == by_hand
    (tmp_path / "a.txt").rename(tmp_path / "aa.txt")
    assert datasets.fingerprint(tmp_path) != by_hand


# Digits of scikit-learn


def test_digits():
    images, digits, images_test, digits_test = datasets.load_digits()
    assert images.shape == (1347, 3, 64, 64)
    assert images_test.shape == (450, 3, 64, 64)
    assert images.min() == 0
    assert images.max() <= 1
    assert sorted(set(digits.tolist())) == sorted(set(digits_test.tolist())) == list(range(10))


# MNIST


def idx(values: np.ndarray) -> bytes:
    """An array of bytes as an IDX file, gzipped."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


@pytest.fixture
def mnist(tmp_path):
    """A folder of three "handwritten" digits to train with and one to test with."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for prefix, count in (("train", 3), ("t10k", 1)):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images[:count]))
        digits = np.array([7, 0, 9], dtype=np.uint8)[:count]
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(digits))
    return tmp_path, images


def test_idx_files_are_read_as_they_are(mnist):
    folder, pixels = mnist
    images, digits = datasets.load_mnist("train", folder)
    assert images.shape == (3, 1, 28, 28)
    assert (images.dtype, digits.dtype) == (torch.float32, torch.int64)
    assert torch.equal((images[:, 0] * 255).round(), torch.tensor(pixels).float())
    assert digits.tolist() == [7, 0, 9]
    assert len(datasets.load_mnist("test", folder)[0]) == 1
    pictures = datasets.as_pictures(images)
    assert pictures.shape == (3, 3, 64, 64)
    assert torch.equal(pictures[:, 0], pictures[:, 2])
    with pytest.raises(ValueError, match="Unknown split 'val'"):
        datasets.load_mnist("val", folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda whole: b"<html>no such page</html>", "is not a whole gzip file"),
        (lambda whole: whole[: len(whole) // 2], "is not a whole gzip file"),
        (lambda whole: b"", "is not a whole IDX file"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:-1]), "is not a whole IDX file"),
        (lambda whole: gzip.compress(b"\1" + gzip.decompress(whole)[1:]), "not a whole IDX file"),
        (lambda whole: idx(np.zeros((2, 28, 28), np.uint8)), "do not belong together"),
    ],
)
def test_a_damaged_idx_file_is_one_sentence(mnist, damage, sentence):
    folder, _ = mnist
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=sentence) as caught:
        datasets.load_mnist("train", folder)
    assert str(folder) in str(caught.value)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        datasets.load_mnist("train", folder)


@needs("mnist")
def test_the_real_mnist_loads_in_time():
    start = time.perf_counter()
    images, digits = datasets.load_mnist("train")
    test_images, test_digits = datasets.load_mnist("test")
    assert time.perf_counter() - start < 2 * 3
    assert (len(images), len(test_images)) == (60_000, 10_000)
    assert digits[:5].tolist() == [5, 0, 4, 1, 9]  # the publisher's order
    assert torch.bincount(test_digits).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # fmt: skip
    assert images.mean().item() == pytest.approx(0.1307, abs=1e-3)  # a well-known figure


# Spoken digits


@pytest.fixture
def fsdd(tmp_path):
    """Four short recordings at 8,000 samples a second: a tone of 440 Hz."""
    (tmp_path / "recordings").mkdir()
    tone = 0.5 * np.sin(2 * math.pi * 440 * np.arange(2400) / 8000)
    for name in ("7_theo_12", "7_theo_4", "0_george_0", "3_theo_49"):
        soundfile.write(tmp_path / "recordings" / f"{name}.wav", tone, 8000)
    return tmp_path


def test_recordings_are_split_officially_and_brought_to_the_course_s_rate(fsdd):
    train = datasets.load_spoken_digits("train", fsdd)
    test = datasets.load_spoken_digits("test", fsdd)
    assert train.names == ["3_theo_49", "7_theo_12"]
    assert test.names == ["0_george_0", "7_theo_4"]
    assert len(datasets.load_spoken_digits("all", fsdd).names) == 4
    assert (train.digits.tolist(), test.speakers) == ([3, 7], ["george", "theo"])
    sound = train.sounds[0]
    assert (sound.dtype, len(sound)) == (torch.float32, 4800)
    wanted = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(4800) / 16_000)
    assert (sound - wanted)[200:-200].abs().max() < 0.01  # the same tone, twice as many samples


def test_recordings_that_do_not_fit(fsdd, tmp_path):
    odd = fsdd / "recordings" / "seven.wav"
    soundfile.write(odd, np.zeros(800), 8000)
    with pytest.raises(ValueError, match="should be named as 7_theo_12.wav"):
        datasets.load_spoken_digits("train", fsdd)
    odd.unlink()
    soundfile.write(fsdd / "recordings" / "7_theo_12.wav", np.zeros(800), 44_100)
    with pytest.raises(ValueError, match="7_theo_12.wav is silent"):
        datasets.load_spoken_digits("train", fsdd)
    with pytest.raises(ValueError, match="Unknown split 'val'"):
        datasets.load_spoken_digits("val", fsdd)
    with pytest.raises(FileNotFoundError, match="There are no recordings in"):
        datasets.load_spoken_digits("train", tmp_path / "nowhere")


@needs("fsdd")
@pytest.mark.slow
def test_the_real_recordings_become_log_mels_in_time():
    start = time.perf_counter()
    spoken = datasets.load_spoken_digits("all")
    mels = [preprocessing.log_mel(sound) for sound in spoken.sounds]
    assert time.perf_counter() - start < 10 * 3
    assert len(mels) == 3000
    assert all(mel.shape[0] == 40 and bool(mel.isfinite().all()) for mel in mels)
    assert torch.bincount(spoken.digits).tolist() == [300] * 10
    assert len(set(spoken.speakers)) == 6
    assert len(datasets.load_spoken_digits("test").names) == 300


# The sample of both


def test_the_sample_holds_what_its_card_says():
    seen = set()
    for split, pictures, recordings in (("train", 72, 6), ("val", 12, 2), ("test", 36, 3)):
        images, digits, spoken = datasets.load_digit_sample(split)
        assert images.shape == (10 * pictures, 1, 28, 28)
        assert torch.bincount(digits).tolist() == [pictures] * 10
        assert torch.bincount(spoken.digits).tolist() == [6 * recordings] * 10
        assert len(set(spoken.speakers)) == 6
        assert not seen & set(spoken.names), "a recording is in one split only"
        seen |= set(spoken.names)
        assert all(0.1 < sound.std() / sound.abs().mean() < 9 for sound in spoken.sounds)
        assert max(map(len, spoken.sounds)) <= preprocessing.SAMPLE_RATE
    with pytest.raises(ValueError, match="Unknown split 'all'"):
        datasets.load_digit_sample("all")
    size = sum(file.stat().st_size for file in datasets.SAMPLE.iterdir())
    assert size <= 450_000


def test_files_of_a_sample_that_do_not_belong_together(tmp_path):
    for file in datasets.SAMPLE.iterdir():
        shutil.copy(file, tmp_path)
    rows = (tmp_path / "spoken.csv").read_text().splitlines()
    (tmp_path / "spoken.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(ValueError, match="do not belong together"):
        datasets.load_digit_sample("val", tmp_path)


@needs("mnist", "fsdd")
@pytest.mark.slow
def test_the_sample_is_made_anew_from_the_whole(tmp_path):
    datasets.write_digit_sample(tmp_path)
    names = []
    for split in datasets.SAMPLE_PICTURES:
        images, _, spoken = datasets.load_digit_sample(split)
        again, _, spoken_again = datasets.load_digit_sample(split, tmp_path)
        assert torch.equal(images, again)
        assert spoken.names == spoken_again.names
        names += [(name, sound) for name, sound in zip(spoken.names, spoken.sounds, strict=True)]
    whole = datasets.load_spoken_digits("all")
    published = dict(zip(whole.names, whole.sounds, strict=True))
    for name, sound in names:
        both = torch.stack([sound, published[name][: len(sound)]])
        assert torch.corrcoef(both)[0, 1] > 0.7, name
    real = datasets.load_mnist("test")[0][:, 0]
    seven = datasets.load_digit_sample("test")[0][7 * 36, 0]
    assert (real - seven).abs().amax((1, 2)).min() < 0.04  # half a level of grey


# Sentences


@pytest.fixture
def multi30k(tmp_path):
    english, german = "A dog runs .\nTwo men .\n", "Ein Hund läuft .\nZwei Männer .\n"
    for prefix in ("train", "val", "test_2016_flickr"):
        (tmp_path / f"{prefix}.en.gz").write_bytes(gzip.compress(english.encode()))
        (tmp_path / f"{prefix}.de.gz").write_bytes(gzip.compress(german.encode()))
    return tmp_path


def test_sentences_come_in_pairs(multi30k):
    english, german = datasets.load_multi30k("test", multi30k)
    assert english == ["A dog runs .", "Two men ."]
    assert german == ["Ein Hund läuft .", "Zwei Männer ."]
    assert preprocessing.tokenize(german[1], "de") == ["zwei", "männer", "."]


def test_sentences_that_do_not_fit(multi30k):
    with pytest.raises(ValueError, match="Unknown split 'all'"):
        datasets.load_multi30k("all", multi30k)
    (multi30k / "val.de.gz").write_bytes(gzip.compress(b"Ein Hund .\n"))
    with pytest.raises(ValueError, match="2 English and 1 German sentences"):
        datasets.load_multi30k("val", multi30k)
    (multi30k / "val.de.gz").write_bytes(b"Ein Hund .\n")
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        datasets.load_multi30k("val", multi30k)
    (multi30k / "val.de.gz").write_bytes(gzip.compress("Männer\nx\n".encode("latin-1")))
    with pytest.raises(ValueError, match="is not UTF-8"):
        datasets.load_multi30k("val", multi30k)


@needs("multi30k")
@pytest.mark.slow
def test_the_real_sentences_become_indices_in_time():
    start = time.perf_counter()
    pairs = datasets.load_multi30k("train")
    for language, sentences in zip(("en", "de"), pairs, strict=True):
        words = [preprocessing.tokenize(sentence, language) for sentence in sentences]
        vocabulary = preprocessing.Vocabulary.build(words, min_count=2)
        assert len([vocabulary.encode(sentence) for sentence in words]) == 29_000
    assert time.perf_counter() - start < 3 * 3
    assert [len(datasets.load_multi30k(split)[0]) for split in ("val", "test")] == [1014, 1000]
