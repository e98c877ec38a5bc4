"""albums.py: captions in folders, everything that can be wrong with them, and albums."""

import csv
import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from PIL import Image

from mbm_lab import albums, downloads, preprocessing
from mbm_lab.__main__ import main

# Captions


@pytest.fixture
def folder(tmp_path):
    """A learner's own folder: two pictures with captions, in a path with spaces."""
    root = tmp_path / "my own pictures"
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 70), "red").save(root / "images" / name)
    (root / "captions.txt").write_text('image,caption\na.png,a red card\nb.png,"red, too"\n')
    return root


def test_captions_of_an_own_folder(folder):
    assert albums.read_captions(folder) == [("a.png", "a red card"), ("b.png", "red, too")]
    (folder / "images").rename(folder / "Images")
    (folder / "captions.txt").write_text("caption,image\nfirst,a.png\nsecond,a.png\n", "utf-8-sig")
    assert albums.read_captions(folder) == [("a.png", "first"), ("a.png", "second")]


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("name;text\na.png;x\n", ValueError, 'must begin with the line "image,caption"'),
        ("image,caption\nc.png,x\n", FileNotFoundError, "line 2: the image c.png is not in"),
        ("image,caption\na.png,x\nb.png, \n", ValueError, "line 3: the caption of b.png is empty"),
        ("image,caption\na.png\n", ValueError, "line 2: the caption of a.png is empty"),
        ("", ValueError, "is empty"),
        (b"image,caption\na.png,caf\xe9\n", ValueError, "is not UTF-8"),
    ],
)
def test_a_caption_file_that_is_wrong(folder, text, error, sentence):
    path = folder / "captions.txt"
    path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    with pytest.raises(error, match=sentence):
        albums.read_captions(folder)


def test_a_folder_without_captions_or_images(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no captions.txt"):
        albums.read_captions(tmp_path)
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(FileNotFoundError, match="needs a folder `images`"):
        albums.read_captions(folder)


# Any captions at all

LETTERS = st.characters(codec="utf-8")  # all that a UTF-8 file can hold
FILE_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))
TRICKY = st.text(st.sampled_from('",\r\n \\é猫{'), min_size=1)
CAPTIONS = (st.text(LETTERS, min_size=1) | TRICKY).filter(str.strip)


def write_captions(path, pairs):
    """Writes pairs (image, caption) as Python's csv and json modules do."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for i, (image, caption) in enumerate(pairs):
                row = {"image": image, "caption": caption}
                file.write(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n")
        else:
            csv.writer(file).writerows([("image", "caption"), *pairs])


@given(
    st.lists(st.tuples(FILE_NAMES, CAPTIONS), min_size=1, max_size=5),
    st.sampled_from(albums.CAPTION_FILES),
)
def test_captions_are_read_as_they_were_written(pairs, name):
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        try:
            for image, _ in pairs:
                (images / image).touch()
        except OSError:  # a name that this system does not allow
            reject()
        assume(set(os.listdir(images)) == {image for image, _ in pairs})
        write_captions(Path(folder, name), pairs)
        assert albums.read_captions(folder) == pairs


@pytest.fixture(scope="module")
def dozen(tmp_path_factory):
    """A folder with twelve whole pictures, and no captions yet."""
    folder = tmp_path_factory.mktemp("dozen")
    (folder / "images").mkdir()
    for i in range(12):
        Image.new("RGB", (4, 4)).save(folder / "images" / f"{i}.png")
    return folder


def outcome(function, folder):
    """What the function returns, or the error that it may raise."""
    try:
        return function(folder)
    except (FileNotFoundError, ValueError) as error:
        return error


PIECES = ["", '"', '""', ",", "\n", "\r", '0.png,"', "0.png,", "{}", "[", '{"image": "0.png"}\n']
DAMAGE = st.tuples(
    st.integers(0, 20) | st.integers(0, 300),  # where
    st.integers(0, 30),  # so many bytes go
    st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=8),  # and this comes
)


@given(st.lists(DAMAGE, max_size=3), st.sampled_from(albums.CAPTION_FILES))
def test_the_check_and_the_reader_agree_on_any_damaged_file(dozen, damages, name):
    path = dozen / name
    write_captions(path, [(f"{i}.png", f'"{i}", a café') for i in range(12)])
    data = path.read_bytes()
    for start, cut, piece in damages:
        data = data[:start] + piece + data[start + cut :]
    path.write_bytes(data)
    problems, pairs = outcome(albums.check_folder, dozen), outcome(albums.read_captions, dozen)
    path.unlink()
    if isinstance(problems, Exception):  # the file is wrong as a whole
        assert (type(pairs), str(pairs)) == (type(problems), str(problems))
        return
    faults = [problem for problem in problems if problem.kind not in ("duplicate", "too few")]
    if faults:  # the reader tells the first of them
        assert str(faults[0]) in str(pairs)
        assert isinstance(pairs, FileNotFoundError) == (faults[0].kind == "missing")
    else:
        assert isinstance(pairs, list)


# A folder of one's own, with all that can be wrong in it


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
    loaded = albums.load_album(album)
    assert len(loaded) == 20
    assert loaded.images.shape == (20, 3, 64, 64)
    assert loaded.captions[3] == ["picture number 3", "one, two, 3"]
    assert torch.equal(
        loaded.images[3], preprocessing.load_image(album / "images" / loaded.names[3])
    )
    part = loaded[5:7]
    assert (part.names, part.captions[1][0]) == (["05.jpg", "06.jpg"], "picture number 6")
    assert torch.equal(part.images, loaded.images[5:7])
    for nothing in (loaded[:0], loaded[240:], loaded.subset([])):
        assert (nothing.names, nothing.captions, len(nothing)) == ([], [], 0)
        assert nothing.images.shape == (0, 3, 64, 64)
    assert len(albums.load_album(album, most=4)) == 4


def test_json_lines_and_csv_are_the_same_album(album):
    as_text = albums.read_captions(album)
    rows = [json.dumps({"image": i, "caption": c}) for i, c in as_text]
    (album / "captions.txt").rename(album / "captions.csv")
    assert albums.read_captions(album) == as_text
    (album / "captions.csv").unlink()
    (album / "captions.jsonl").write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    assert albums.read_captions(album) == as_text
    assert albums.check_folder(album) == []


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
    problems = albums.check_folder(album)
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
    (problem,) = albums.check_folder(album)
    assert problem.line is None
    assert "only 9 pairs are well, and a model needs at least 10" in str(problem)


def test_faults_in_json_lines_have_their_lines_too(album):
    rows = [{"image": f"{i:02}.jpg", "caption": f"number {i}"} for i in range(20)]
    text = [json.dumps(row).encode() for row in rows]
    text[3], text[5], text[7] = b"03.jpg,not JSON", b'{"image": "05.jpg"}', b'{"image": "\xff"}'
    text[9] = json.dumps({"image": "09.jpg", "caption": 9}).encode()
    (album / "captions.txt").unlink()
    (album / "captions.jsonl").write_bytes(b"\n".join(text))
    found = [(problem.line, problem.kind) for problem in albums.check_folder(album)]
    assert found == [(4, "form"), (6, "form"), (8, "encoding"), (10, "form")]


def test_quotes_and_columns_that_are_missing_have_their_lines(album):
    lines = (album / "captions.txt").read_text().splitlines()
    lines[4] = '01.jpg,"a "red" card"'  # line 5
    lines[10] = ",a caption of nothing"
    lines[20] = "09.jpg"
    lines[-1] = '19.jpg,"never closed'
    (album / "captions.txt").write_text("\n".join(lines) + "\n")
    problems = albums.check_folder(album)
    assert [(problem.line, problem.kind) for problem in problems] == [
        (5, "form"), (11, "form"), (21, "empty"), (41, "form")]  # fmt: skip
    assert 'a quote " opens in this line' in problems[0].what
    assert problems[1].what == "this line names no image"


def test_a_quoted_caption_may_go_over_two_lines(album):
    path = album / "captions.txt"
    path.write_text(path.read_text() + '05.jpg,"a long\ncaption"\nnowhere.jpg,x\n')
    (problem,) = albums.check_folder(album)
    assert (problem.line, "nowhere.jpg" in problem.what) == (44, True)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("image,caption\n".encode("utf-16"), r"is not UTF-8 text \(it is UTF-16\)"),
        (b"", "is empty"),
        (b"image;caption\na.png;x\n", 'it begins with "image;caption"'),
        (b'"image,caption\na.png,x\n', 'it begins with ""image,caption"'),
    ],
)
def test_a_file_of_captions_that_is_wrong_as_a_whole_is_one_sentence(album, data, sentence, capsys):
    (album / "captions.txt").write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        albums.check_folder(album)
    assert main(["data", "check", str(album)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_among_the_pictures_is_no_picture(album):
    (album / "images" / "more").mkdir()
    with open(album / "captions.txt", "a", encoding="utf-8") as file:
        file.write("more,a folder\n")
    (problem,) = albums.check_folder(album)
    assert str(problem) == "captions.txt, line 42: the image more is not in images."


def test_an_example_album_is_a_folder_without_faults():
    folder = albums.example_album()
    assert albums.check_folder(folder) == []
    assert len(albums.load_album(folder)) == 20
    assert albums.example_album() != folder  # nothing is overwritten


@pytest.mark.parametrize(
    ("photographs", "captions", "said"),
    [
        (2, 3, "2 of 8,091 photographs and 3 of 40,455 captions: a part, going by the numbers"),
        (8_091, 40_455, "8,091 of 8,091 photographs and 40,455 of 40,455 captions: all of it"),
        (8_091, 40_454, "40,454 of 40,455 captions: a part"),
    ],
)
def test_how_much_of_flickr8k_is_here(tmp_path, monkeypatch, photographs, captions, said):
    (tmp_path / "Images").mkdir()
    (tmp_path / "captions.txt").write_text("image,caption\n" + captions * "0.jpg,x\n")
    files = [Path(f"{i}.{'jpg' if i % 2 else 'JPG'}") for i in range(photographs)]
    monkeypatch.setattr(downloads, "path", lambda name: tmp_path)
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*files, Path("notes.txt")])
    assert said in albums.count_photographs()


@pytest.mark.skipif(not downloads.find("flickr8k"), reason="needs flickr8k")
def test_the_real_photographs_load():
    loaded = albums.load_flickr8k(most=200)
    assert len(loaded) == 200
    assert {len(captions) for captions in loaded.captions} == {5}
    assert loaded.images.std(0).mean() > 0.1  # they are not all the same
