"""The loaders of real data, and `mbm-lab data check`, on small files in the publishers' formats;
and on the real files where they are here."""

import gzip
import json
import math
import struct
import time

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mbm_lab import datasets, downloads, preprocessing
from mbm_lab.__main__ import main


def needs(*names):
    """Skips a test of the real files where they are not here."""
    missing = [name for name in names if downloads.find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


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
        (lambda whole: b"", "is not a whole IDX file|is not a whole gzip file"),
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
    with pytest.raises(ValueError, match="44100 samples per second and should have 8000"):
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


# A folder of one's own


@pytest.fixture
def album(tmp_path):
    """Twenty pictures in a folder with spaces, two captions each."""
    folder = tmp_path / "my own album"
    (folder / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for i in range(20):
        Image.new("RGB", (90 + i, 70), (10 * i, 100, 0)).save(folder / "images" / f"{i:02}.jpg")
        lines += [f"{i:02}.jpg,picture number {i}", f'{i:02}.jpg,"one, two, {i}"']
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_an_album_has_pictures_and_all_their_captions(album):
    loaded = datasets.load_album(album)
    assert len(loaded) == 20
    assert loaded.images.shape == (20, 3, 64, 64)
    assert loaded.captions[3] == ["picture number 3", "one, two, 3"]
    assert torch.equal(
        loaded.images[3], preprocessing.load_image(album / "images" / loaded.names[3])
    )
    part = loaded[5:7]
    assert (part.names, part.captions[1][0]) == (["05.jpg", "06.jpg"], "picture number 6")
    assert torch.equal(part.images, loaded.images[5:7])
    assert len(datasets.load_album(album, most=4)) == 4


def test_json_lines_and_csv_are_the_same_album(album):
    as_text = datasets.read_captions(album)
    rows = [json.dumps({"image": i, "caption": c}) for i, c in as_text]
    (album / "captions.txt").rename(album / "captions.csv")
    assert datasets.read_captions(album) == as_text
    (album / "captions.csv").unlink()
    (album / "captions.jsonl").write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    assert datasets.read_captions(album) == as_text
    assert datasets.check_folder(album) == []


def plant(album):
    """Ten faults, one of each kind or more; returns where they are: file and line."""
    path = album / "captions.txt"
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"missing.jpg,a picture that is not there"  # line 3
    lines[4] = b"01.jpg,"  # line 5
    lines[6] = b"02.jpg,   "
    lines[9] = lines[8]  # line 10 repeats line 9
    lines[11] = b"05.jpg,a caf\xe9"  # Latin-1
    lines[13] = b"06.jpg,not, in quotes"
    lines[15] = b"07.JPG,large letters"
    (album / "images" / "08.jpg").write_bytes(b"")
    (album / "images" / "09.jpg").write_bytes((album / "images" / "10.jpg").read_bytes()[:200])
    (album / "images" / "11.jpg").write_text("<html>not found</html>")
    path.write_bytes(b"\n".join(lines))
    return [3, 5, 7, 10, 12, 14, 16, 18, 20, 24]


def test_a_check_lists_exactly_the_ten_faults_that_were_planted(album, capsys):
    assert main(["data", "check", str(album)]) == 0
    assert capsys.readouterr().out == f"0 problems found in {album}.\n"
    places = plant(album)
    problems = datasets.check_folder(album)
    assert [problem.line for problem in problems] == places
    assert {problem.file for problem in problems} == {"captions.txt"}
    assert [problem.kind for problem in problems] == [
        "missing", "empty", "empty", "duplicate", "encoding", "form", "missing", *["unreadable"] * 3
    ]  # fmt: skip
    for problem, part in zip(
        problems,
        ["missing.jpg is not in images", "caption of 01.jpg is empty", "of 02.jpg is empty",
         "03.jpg has the same caption as in line 9",
         "not UTF-8", "too many commas", "(07.jpg is: large and small letters differ)",
         "08.jpg cannot be read", "09.jpg cannot be read", "11.jpg cannot be read"],
        strict=True,
    ):  # fmt: skip
        assert part in str(problem)
    assert main(["data", "check", str(album)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said == [*map(str, problems), f"10 problems found in {album}."]


def test_too_few_pairs_are_a_problem_of_the_whole_file(album):
    lines = (album / "captions.txt").read_text().splitlines()
    (album / "captions.txt").write_text("\n".join(lines[:10]) + "\n")
    (problem,) = datasets.check_folder(album)
    assert problem.line is None
    assert "only 9 pairs are well, and a model needs at least 10" in str(problem)


def test_faults_in_json_lines_have_their_lines_too(album):
    rows = [{"image": f"{i:02}.jpg", "caption": f"number {i}"} for i in range(20)]
    text = [json.dumps(row).encode() for row in rows]
    text[3], text[5], text[7] = b"03.jpg,not JSON", b'{"image": "05.jpg"}', b'{"image": "\xff"}'
    text[9] = json.dumps({"image": "09.jpg", "caption": 9}).encode()
    (album / "captions.txt").unlink()
    (album / "captions.jsonl").write_bytes(b"\n".join(text))
    found = [(problem.line, problem.kind) for problem in datasets.check_folder(album)]
    assert found == [(4, "form"), (6, "form"), (8, "encoding"), (10, "form")]


def test_quotes_and_columns_that_are_missing_have_their_lines(album):
    lines = (album / "captions.txt").read_text().splitlines()
    lines[4] = '01.jpg,"a "red" card"'  # line 5
    lines[10] = ",a caption of nothing"
    lines[20] = "09.jpg"
    lines[-1] = '19.jpg,"never closed'
    (album / "captions.txt").write_text("\n".join(lines) + "\n")
    problems = datasets.check_folder(album)
    assert [(problem.line, problem.kind) for problem in problems] == [
        (5, "form"), (11, "form"), (21, "empty"), (41, "form")]  # fmt: skip
    assert 'a quote " opens in this line' in problems[0].what
    assert problems[1].what == "this line names no image"


def test_a_quoted_caption_may_go_over_two_lines(album):
    path = album / "captions.txt"
    path.write_text(path.read_text() + '05.jpg,"a long\ncaption"\nnowhere.jpg,x\n')
    (problem,) = datasets.check_folder(album)
    assert (problem.line, "nowhere.jpg" in problem.what) == (44, True)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("image,caption\n".encode("utf-16"), r"is not UTF-8 text \(it is UTF-16\)"),
        (b"", "is empty"),
        (b"image;caption\na.png;x\n", 'it begins with "image;caption"'),
    ],
)
def test_a_file_of_captions_that_is_wrong_as_a_whole_is_one_sentence(album, data, sentence, capsys):
    (album / "captions.txt").write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        datasets.check_folder(album)
    assert main(["data", "check", str(album)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@needs("flickr8k")
def test_the_real_photographs_load():
    loaded = datasets.load_flickr8k(most=200)
    assert len(loaded) == 200
    assert {len(captions) for captions in loaded.captions} == {5}
    assert loaded.images.std(0).mean() > 0.1  # they are not all the same
