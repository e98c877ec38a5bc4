"""albums.py: captions in folders, everything that can be wrong with them, and albums."""

import csv
import io
import json
import os
import random
import shutil
import tempfile
import unicodedata
from pathlib import Path

import ipywidgets
import pytest
import torch
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from PIL import Image

from mbm_lab import (
    albums,
    captioning,
    datasets,
    downloads,
    preprocessing,
    real_data,
    retrieval,
    widgets,
    writing,
)
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
        (
            "name;text\nx;y\n",
            ValueError,
            'must begin with the line "image,caption"; it begins with "name;text"',
        ),
        ('{"x": "a.png"}\n{"x": "b.png"}', ValueError, 'needs "image" and "caption" in each of'),
        ("image,caption\n", ValueError, "holds no caption"),
        ("image,caption\nc.png,x\n", FileNotFoundError, "line 2: the image c.png is not in"),
        ("image,caption\na.png,x\nb.png, \n", ValueError, "line 3: the caption of b.png is empty"),
        ("image,caption\na.png\n", ValueError, "line 2: the caption of a.png is empty"),
        ("", ValueError, "is empty"),
        ("image,caption\na.png,é\n".encode() + b"b.png,caf\xe9\n", ValueError, "not UTF-8"),
        ("image,caption\na.png,...\n", ValueError, "line 2: the caption of a.png holds no word"),
        ("image,caption\na.png,<b></b>\n", ValueError, "the caption of a.png holds no word"),
        ("image,caption\na.png," + "so " * 300, ValueError, "too long: shorten it to 200 words"),
        ("image,caption\n../b.png,x\n", ValueError, "../b.png leads out of images, and"),
    ],
)
def test_a_caption_file_that_is_wrong(folder, text, error, sentence):
    path = folder / "captions.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=sentence):
        albums.read_captions(folder)


def test_a_folder_without_captions_or_images(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no captions.txt"):
        albums.read_captions(tmp_path)
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(FileNotFoundError, match="needs a folder `images`"):
        albums.read_captions(folder)
    with pytest.raises(ValueError, match="is a file: name the folder that holds it"):
        albums.check_folder(folder / "captions.txt")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        albums.check_folder(folder / "nowhere")
    (folder / "images").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="images is a link that leads out of"):
        albums.check_folder(folder)


# Any captions at all

LETTERS = st.characters(codec="utf-8", exclude_characters="\0")  # what a UTF-8 file can hold
FILE_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))
TRICKY = st.text(st.sampled_from('",\r\n \\é猫{'), min_size=1)
CAPTIONS = (st.text(LETTERS, min_size=1) | TRICKY).filter(preprocessing.has_word)


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


# Every layout


PAIRS = [(f"{i}.png", f"card, {word} {i}") for i in range(12) for word in ("red", "“blue”")]


def as_csv(pairs, sign=",", head=("image", "caption"), end="\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sign, lineterminator=end).writerows(
        [head, *pairs] if head else pairs
    )
    return text.getvalue()


def numbered(pairs):
    """The pairs with the number of each caption of its picture: (name, number, caption)."""
    seen = {}
    return [(n, seen.setdefault(n, []).append(c) or len(seen[n]) - 1, c) for n, c in pairs]


def by_name(pairs):
    several = {}
    for name, caption in pairs:
        several.setdefault(name, []).append(caption)
    return several


def coco(pairs):
    ids = {name: 7 * i for i, name in enumerate(dict(pairs))}
    return {
        "images": [{"id": ids[name], "file_name": name} for name in ids],
        "annotations": [
            {"id": i, "image_id": ids[n], "caption": c} for i, (n, c) in enumerate(pairs)
        ],
    }


def karpathy(pairs):
    return {
        "dataset": "mine",
        "images": [
            {
                "filename": name,
                "split": "train",
                "sentences": [{"raw": c, "tokens": []} for c in all_],
            }
            for name, all_ in by_name(pairs).items()
        ],
    }


LAYOUTS = {  # a name of the file, how it is written, and what is said of it
    "course": ("captions.txt", as_csv, "CSV with commas"),
    "German": ("captions.csv", lambda p: as_csv(p, ";", end="\r\n"), "CSV with semicolons"),
    "tabs": ("captions.tsv", lambda p: as_csv(p, "\t"), "CSV with tabs"),
    "bars": ("captions.txt.txt", lambda p: as_csv(p, "|"), "CSV with vertical bars"),
    "capitals": ("Captions.TXT", lambda p: as_csv(p, head=("Image", "Caption")), "with commas"),
    "spaces": ("captions.txt", lambda p: as_csv(p, head=(" image ", " caption")), "with commas"),
    "other words": ("captions", lambda p: as_csv(p, ";", ("Bild", "Beschreibung")), "semicolons"),
    "turned": ("captions.csv", lambda p: as_csv([x[::-1] for x in p], head=("x", "y")), "commas"),
    "no head": ("captions.txt", lambda p: as_csv(p, head=None), "without a head"),
    "numbers": ("my photographs.csv", lambda p: as_csv([(i, *x) for i, x in enumerate(p)],
                                                 head=("", "image", "caption")), "with commas"),
    "Flickr8k": ("Flickr8k.token.txt", lambda p: "".join(
        f"{n}#{i}\t{c}\n" for n, i, c in numbered(p)), "CSV with tabs"),
    "Flickr30k": ("results.csv", lambda p: "image_name| comment_number| comment\n" + "".join(
        f"{n}| {i}| {c}\n" for n, i, c in numbered(p)), "CSV with vertical bars"),
    "JSON Lines": ("captions.jsonl", lambda p: "\n".join(
        json.dumps({"image": n, "caption": c}) for n, c in p), "JSON Lines"),
    "several": ("captions.jsonl", lambda p: "\n".join(
        json.dumps({"image": n, "captions": c}) for n, c in by_name(p).items()), "JSON Lines"),
    "JSON": ("captions.json", lambda p: json.dumps(
        [{"file_name": n, "text": c} for n, c in p], indent=2), "a JSON list"),
    "by name": ("captions.json", lambda p: json.dumps(by_name(p)), "JSON, captions by name"),
    "COCO": ("captions_val2017.json", lambda p: json.dumps(coco(p)), "the JSON of COCO"),
    "Karpathy": ("dataset_flickr8k.json", lambda p: json.dumps(karpathy(p)), "JSON of Karpathy"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_album(dozen, layout, capsys):
    name, write, said = LAYOUTS[layout]
    for codec in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        (dozen / name).write_bytes(write(PAIRS).encode(codec))
        assert sorted(albums.read_captions(dozen)) == sorted(PAIRS), codec
        assert albums.check_folder(dozen) == []
        loaded = albums.load_album(dozen)
        assert (loaded.names, len(loaded.captions[3])) == ([f"{i}.png" for i in range(12)], 2)
        assert said in loaded.layout
        usual = "CSV with commas, UTF-8; pictures in" in loaded.layout
        told = f"{dozen} was read as {loaded.layout}.\n"
        assert capsys.readouterr().out == ("" if usual else told)
        (dozen / name).unlink()


def test_pictures_may_be_beside_the_captions_or_in_folders_of_well_known_names(folder):
    text = (folder / "captions.txt").read_text()
    (folder / "captions.txt").write_text(text.replace("a.png", "images/a.png"))
    assert albums.read_captions(folder) == [("a.png", "a red card"), ("b.png", "red, too")]
    (folder / "captions.txt").write_text(text)
    for name in ("IMAGES", "Flicker8k_Dataset", "val2017"):
        shutil.copytree(folder / "images", folder.parent / "copy" / name)
        shutil.copy(folder / "captions.txt", folder.parent / "copy")
        assert albums.layout(folder.parent / "copy").endswith(f"; pictures in {name}")
        shutil.rmtree(folder.parent / "copy")
    for file in (folder / "images").iterdir():
        file.rename(folder / file.name)
    (folder / "images").rmdir()
    assert albums.read_captions(folder) == [("a.png", "a red card"), ("b.png", "red, too")]
    assert albums.layout(folder) == "captions.txt, CSV with commas, UTF-8; pictures beside it"


def test_what_is_wrong_in_the_json_of_others_is_told(dozen):
    damaged = coco(PAIRS)
    damaged["annotations"][3]["image_id"], damaged["annotations"][5]["caption"] = 999, None
    damaged["images"][8]["file_name"] = "../8.png"
    other = karpathy(PAIRS)
    del other["images"][2]["sentences"]
    other["images"][4]["filename"] = "nowhere.png"
    for name, data, parts in [
        ("captions_val.json", damaged, ["annotation 4 has no", "annotation 6 has no",
         "../8.png leads out of images", "../8.png leads out of images"]),
        ("dataset.json", other, ["image 3 has no", "nowhere.png is not in images (image 5)",
         "nowhere.png is not in images (image 5)"]),
        ("captions.json", {"0.png": "x", "1.png": None, "2.png": [None]},
         ["1.png holds no text", "2.png holds no text", "only 1 pairs are well"]),
    ]:  # fmt: skip
        (dozen / name).write_text(json.dumps(data))
        problems = [str(problem) for problem in albums.check_folder(dozen)]
        assert len(problems) == len(parts)
        for part, text in zip(parts, problems, strict=True):
            assert part in text
        (dozen / name).unlink()


# Folders at random


def picture(kind):
    """A small picture file of some kind, as bytes."""
    grey, exif, data = Image.linear_gradient("L").resize((9, 7)), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    mode, options = {
        "png": ("RGB", {"format": "PNG"}), "jpg": ("L", {"format": "JPEG"}),
        "turned": ("RGB", {"format": "JPEG", "exif": exif}),
        "clear": ("RGBA", {"format": "WEBP"}), "cmyk": ("CMYK", {"format": "JPEG"}),
        "deep": ("I;16", {"format": "PNG"}), "float": ("F", {"format": "TIFF"}),
        "palette": ("P", {"format": "GIF"}), "1 bit": ("1", {"format": "PNG"}),
    }[kind]  # fmt: skip
    grey.convert(mode).save(data, **options)
    return data.getvalue()


WELL = ("png", "jpg", "turned", "clear", "cmyk", "deep", "float", "palette", "1 bit")
EVIL = "<img src=x onerror=alert(1)>"
GOOD = ["a red card", "Ein Hund, der läuft", "一只红色的狗在雪地里", "☀", "犬が走る", f"{EVIL}dog",
        "<b>bold</b> &amp; x", "&lt;b&gt;", "don't", "=1+1", "a\tb c", "3", "the"]  # fmt: skip
BAD = ["...", "<b></b>", " ", "&nbsp;", "\u200b", "?!", "so " * 300]
NAMES = ["{}.png", "card {}.JPG", "café{}.png", "名{}.webp", EVIL + "{}.png", "a;b|{}.gif"]
SPELLINGS = [str, str, lambda n: unicodedata.normalize("NFD", n), "images/{}".format, " {} ".format,
             ".\\{}".format]  # fmt: skip
FAULTS = {
    "missing": lambda images, name: (images / name).unlink(),
    "broken link": lambda images, name: (
        (images / name).unlink(), (images / name).symlink_to("no")),
    "folder": lambda images, name: ((images / name).unlink(), (images / name).mkdir()),
    "link outside": lambda images, name: (
        (images / name).unlink(), (images / name).symlink_to(Path(__file__))),
    "cut off": lambda images, name: (images / name).write_bytes(picture("png")[:50]),
    "empty": lambda images, name: (images / name).write_bytes(b""),
    "heic": lambda images, name: (images / name).write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99),
    "web page": lambda images, name: (images / name).write_text("<html>not found"),
}  # fmt: skip


def random_folder(root, rng):
    """Writes a folder of 10 to 13 pictures with captions, in which something may be wrong."""
    images = root / rng.choice(("images", "Images", "."))
    images.mkdir(parents=True, exist_ok=True)
    names = [rng.choice(NAMES).format(i) for i in range(rng.randint(10, 13))]
    pairs = []
    for name in names:
        (images / name).write_bytes(picture(rng.choice(WELL)))
        spelled = rng.choice(SPELLINGS if images.name == "images" else SPELLINGS[:3])(name)
        pairs += [(spelled, c) for c in rng.sample(GOOD, rng.randint(1, 2))]
    if rng.random() < 0.5:
        place = rng.randrange(len(pairs))
        pairs[place] = (pairs[place][0], rng.choice(BAD))
    if rng.random() < 0.3:
        FAULTS[rng.choice(list(FAULTS))](images, rng.choice(names))
    if rng.random() < 0.2:
        place = rng.randrange(len(pairs))
        pairs[place] = (rng.choice(("../x.png", "/etc/passwd", "C:\\x.png", "no.png")), "a card")
    name, write, _ = LAYOUTS[rng.choice(list(LAYOUTS))]
    data = write(pairs).encode(rng.choice(("utf-8", "utf-8", "utf-16", "utf-16-be")))
    if rng.random() < 0.2:
        cut = rng.randrange(len(data))
        data = (
            data[:cut]
            + rng.choice((b"", b'"', b"\n", b"\0", b"\xff", b";", b"{"))
            + data[cut + 1 :]
        )
    (root / name).write_bytes(data)


@pytest.mark.slow
@given(st.integers(0, 10**9))
def test_the_check_and_the_loader_agree_on_any_folder(tmp_path_factory, seed):
    root = tmp_path_factory.mktemp("any") / "album"
    random_folder(root, random.Random(seed))
    problems, loaded = outcome(albums.check_folder, root), outcome(albums.load_album, root)
    pairs = outcome(albums.read_captions, root)
    if isinstance(problems, Exception):  # the file is wrong as a whole
        assert type(loaded) is type(pairs) is type(problems)
        assert str(loaded) == str(pairs) == str(problems)
        return
    assert all(len(str(problem).splitlines()) == 1 for problem in problems)
    faults = [problem for problem in problems if problem.kind not in ("duplicate", "too few")]
    if faults:  # the loader tells the first, those of lines before those of pictures
        faults.sort(key=lambda fault: fault.kind == "unreadable")
        assert str(loaded) == f"In {root}, {faults[0]}"
        assert isinstance(loaded, FileNotFoundError) == (faults[0].kind == "missing")
        assert isinstance(pairs, list) == (faults[0].kind == "unreadable")
        return
    assert [name for name, _ in pairs if name not in loaded.names] == []
    assert loaded.images.min() >= 0
    assert loaded.images.max() <= 1
    encoder = real_data.ColourGrid()
    model, vocabulary = real_data.search_model(encoder, loaded, steps=1)
    for caption in loaded.captions[0]:
        query = retrieval.query_tokens(caption, vocabulary)
        assert retrieval.text_vectors(model, query).isfinite().all()
    assert real_data.album_recall(model, vocabulary, encoder, loaded)
    gallery = real_data.album_gallery(loaded)
    assert all(wish.text for wish in gallery.wishes)
    captions = captioning.captions_of(loaded)
    prefix, target = writing.teacher_forcing(captions, writing.build_vocabulary(captions))
    assert len(prefix) == len(target) == len(loaded)


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
    lines[10], lines[11] = "05.jpg,a café".encode(), b"05.jpg,a caf\xe9"  # UTF-8 and Latin-1
    lines[13] = b"06.jpg,not, in quotes"
    lines[15] = b"07.JPG,large letters"
    (album / "images" / "08.jpg").write_bytes(b"")
    (album / "images" / "09.jpg").write_bytes((album / "images" / "10.jpg").read_bytes()[:200])
    (album / "images" / "11.jpg").write_text("<html>not found</html>")
    path.write_bytes(b"\n".join(lines))
    return [3, 5, 7, 10, 12, 14, 16, 18, 20, 24]


def test_a_check_lists_exactly_the_ten_faults_that_were_planted(album, capsys):
    assert main(["data", "check", str(album)]) == 0
    layout = "Read as captions.txt, CSV with commas, UTF-8; pictures in images."
    assert capsys.readouterr().out == f"{layout}\n0 problems found in {album}.\n"
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
    assert said[:11] == [layout, *map(str, problems)]
    assert said[11] == "1 picture is named by no line, and left out: 04.jpg."
    assert said[12:] == [f"10 problems found in {album}."]


def test_too_few_pairs_are_a_problem_of_the_whole_file(album):
    lines = (album / "captions.txt").read_text().splitlines()
    (album / "captions.txt").write_text("\n".join(lines[:10]) + "\n")
    (problem,) = albums.check_folder(album)
    assert problem.line is None
    assert "only 9 pairs are well, and a model needs at least 10" in str(problem)


def test_faults_in_json_lines_have_their_lines_too(album):
    rows = [{"image": f"{i:02}.jpg", "caption": f"number {i}"} for i in range(20)]
    text = [json.dumps(row).encode() for row in rows]
    text[2] = '{"image": "02.jpg", "caption": "ein Café"}'.encode()
    text[3], text[5], text[7] = b"03.jpg,not JSON", b'{"image": "05.jpg"}', b'{"image": "\xff"}'
    text[9] = json.dumps({"image": "09.jpg", "caption": []}).encode()
    (album / "captions.txt").unlink()
    (album / "captions.jsonl").write_bytes(b"\n".join(text))
    found = [(problem.line, problem.kind) for problem in albums.check_folder(album)]
    assert found == [(4, "form"), (6, "empty"), (8, "encoding"), (10, "empty")]


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
    assert problems[1].what.startswith("this line names no image: ")


def test_a_quoted_caption_may_go_over_two_lines(album):
    path = album / "captions.txt"
    path.write_text(path.read_text() + '05.jpg,"a long\ncaption"\nnowhere.jpg,x\n')
    (problem,) = albums.check_folder(album)
    assert (problem.line, "nowhere.jpg" in problem.what) == (44, True)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("image,caption\n".encode("utf-16"), "holds no caption"),
        (b"", "is empty"),
        (b"name;caption;text\nx;y;z\n", 'it begins with "name;caption;text"'),
        (b"PK\x03\x04", r"looks like a packed file \(zip\) that is not whole"),
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
        file.write("broken.png,a link\n")
    (album / "images" / "broken.png").symlink_to("nowhere")
    assert [str(problem).split(", line ")[1] for problem in albums.check_folder(album)] == [
        "42: more is a folder in images, and not a file: put a file there, or name another.",
        "43: broken.png is a link to a file that is not there: put the file there.",
    ]


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


@pytest.mark.slow
def test_chinese_captions_find_their_pictures_as_english_ones_do():
    folder = albums.example_album(count=20)
    cards = {f"{card.name}.png": card for card in datasets.load_postcards("test", parts=()).cards}
    pairs = [(name, cards[name].caption_zh) for name, _ in albums.read_captions(folder)]
    (folder / "captions.txt").write_bytes(as_csv(pairs, ";").encode("utf-16"))
    assert albums.check_folder(folder) == []
    search = widgets.AlbumPlayground(albums.load_album(folder))
    found = 0
    for name, caption in pairs:
        search.words.value = caption
        assert "Has the words: " in search.said
        found += pairs[search.found[0]][0] == name
        assert search.found[0] in search.fulfilled or pairs[search.found[0]][0] != name
    assert found >= 18
    captions = captioning.captions_of(search_album := albums.load_album(folder))
    assert captions[0][0] == "zh"
    vocabulary = writing.build_vocabulary(captions)
    captioner = captioning.new_captioner(vocabulary)
    captioning.train_captioner(captioner, search_album, vocabulary, epochs=2)
    (text,) = captioning.caption(captioner, search_album.images[:1], "zh", vocabulary)
    assert " " not in text


def test_no_caption_and_no_name_runs_as_html(tmp_path, capsys):
    lines = ["image,caption"]
    for i in range(10):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{EVIL}{i}.png")
        lines.append(f"{EVIL}{i}.png,{EVIL} dog {i}")
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    assert albums.check_folder(tmp_path) == []
    search = widgets.AlbumPlayground.__new__(widgets.AlbumPlayground)
    search.STEPS = 1
    search.__init__(albums.load_album(tmp_path), real_data.ColourGrid())
    search.alpha.value = 0.5
    search.words.value = "dog"
    assert len(search.found) == 5
    assert "&lt;img src=x onerror=alert(1)&gt; dog" in search.figures.value
    assert "<img src=x" not in search.figures.value
    assert EVIL in search.said  # a Label, whose text the browser never takes for HTML
    assert isinstance(search.text, ipywidgets.Label)
