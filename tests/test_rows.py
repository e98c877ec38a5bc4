"""rows.py: files of rows as spreadsheets, programs and editors write them, and names in them."""

import csv
import io
import json
import os
import unicodedata
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbm_lab import rows
from tests.faults import CURE

CELLS = [["Bild", "Wert"], ["a.png", "ein Hund, 3,5 kg; läuft"], ["b.png", 'zwei "Hunde"\nim Café']]
TEXT = "\n".join(["name;text", "a;grüne Äpfel", "b;un café, s'il vous plaît", "c;x"])


def read(path, data, columns=None):
    """The rows of a file with these bytes, as a list of texts."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = rows.read(path, columns)
    return found, [list(row.values.values()) for row in found.rows]


@pytest.mark.parametrize(("sign", "words"), rows.DELIMITERS.items())
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_program_is_read_as_it_was_written(tmp_path, sign, words, end):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sign, lineterminator=end).writerows(CELLS)
    for name in ("rows.csv", "rows.TXT", "rows"):
        found, cells = read(tmp_path / name, text.getvalue())
        assert (found.columns, cells) == (CELLS[0], CELLS[1:])
        assert found.layout == f"CSV with {words}, UTF-8"
        assert [row.line for row in found.rows] == [2, 3]


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        ("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"), ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16 without a mark"), ("utf-16-be", "UTF-16 without a mark"),
        ("cp1252", "Windows-1252"), ("latin-1", "Windows-1252"),
    ],
)  # fmt: skip
def test_the_encoding_is_told_by_the_bytes(tmp_path, codec, said):
    found, cells = read(tmp_path / "x", TEXT.encode(codec))
    assert cells == [line.split(";") for line in TEXT.split("\n")[1:]]
    assert found.layout == f"CSV with semicolons, {said}"


def test_chinese_encodings_are_told_from_each_other_or_refused(tmp_path):
    text = "name,text\r\na,一只红色的狗在雪地里\r\nb,两只猫在沙发上\r\n"
    wanted = [["a", "一只红色的狗在雪地里"], ["b", "两只猫在沙发上"]]
    for codec in ("gbk", "gb18030", "utf-16-le", "utf-16-be", "utf-8"):
        assert read(tmp_path / "x", text.encode(codec))[1] == wanted
    for codec, line in {
        "big5": "一隻紅色的狗在雪地裡", "cp1251": "собака бежит по снегу", "cp850": "Köln",
        "shift-jis": "犬が雪の中を走る", "mac-roman": "très bien", "cp1253": "ένας σκύλος",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match='encoding cannot be told: save it as "UTF-8"'):
            read(tmp_path / "x", f"name,text\r\na,{line}\r\n".encode(codec))


def test_a_line_in_another_encoding_than_the_file_is_a_fault_of_this_line(tmp_path):
    data = "name,text\na,ein Café\nb,caf".encode() + b"\xe9\nc,x\0y\nd,gut\n"
    found, cells = read(tmp_path / "x", data)
    assert cells == [["a", "ein Café"], ["d", "gut"]]
    assert [(fault.line, fault.kind) for fault in found.problems] == [
        (3, "encoding"), (4, "encoding")]  # fmt: skip
    assert "not UTF-8" in found.problems[0].what
    assert "zero byte" in found.problems[1].what
    cut = TEXT.encode("utf-16")[:-1]
    assert [fault.line for fault in read(tmp_path / "x", cut)[0].problems] == [4]


def test_json_in_all_of_its_forms(tmp_path):
    objects = [{"n": 3.50, "t": ["x", "y"]}, {"t": "ü", "z": None}, {"n": True, "t": {"deep": "1"}}]
    for text, layout, lines in [
        ("\n".join(map(json.dumps, objects)), "JSON Lines", [1, 2, 3]),
        (json.dumps(objects), "a JSON list", [1, 1, 1]),
        (json.dumps(objects, indent=1, ensure_ascii=False), "a JSON list", [2, 9, 13]),
    ]:
        found, cells = read(tmp_path / "x.csv", text)
        assert found.columns == ["n", "t", "z"]
        assert cells == [["3.5", '["x", "y"]', ""], ["", "ü", ""], ["true", '{"deep": "1"}', ""]]
        assert [row.line for row in found.rows] == lines
        assert found.rows[0].several == {"t": ["x", "y"]}
        assert found.layout == f"{layout}, UTF-8"
    for text, columns in [('{"a": "b"}', ["a"]), ('{\n"a": "b",\n"c": 1.50}', ["a", "c"])]:
        assert read(tmp_path / "x", text)[0].columns == columns


def test_json_with_faults_is_read_around_them(tmp_path):
    text = '[\n {"a": "1"},\n {"a": oops},\n {"a": "2"},\n "b",\n {"a": "\\ud83d"},\n {"a": "3"}]'
    for one in (text, text.replace(",\n", "\n").replace("[\n", "").replace("]", "")):
        found, cells = read(tmp_path / "x", one)
        first = found.rows[0].line
        assert cells == [["1"], ["2"], ["3"]]
        assert [fault.line - first for fault in found.problems] == [1, 3, 4]
    for text, sentence in [
        ('{"a": {"0": "x"}, "b": {"0": "y"}}', "one JSON object, and not a list"),
        ("{\n" + '"images": [{"a": 1}]}', 'pandas with `orient="records"`'),
        ('["a", "b"]', "a JSON list, but not of objects"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / "x", text)
    for deep in ('{"a": ' * 5000 + "1" + "}" * 5000, "[" * 5000, '{"a": ' + "9" * 5000 + "}"):
        said = str(tmp_path)
        try:  # how deep Python itself can read differs from version to version
            read(tmp_path / "x", deep)
        except ValueError as error:
            said = str(error)
        assert said.startswith(str(tmp_path))  # a sentence, and no error of Python's own


def test_what_spreadsheets_leave_behind_is_passed_over(tmp_path):
    found, cells = read(tmp_path / "x", "sep=;\n\n \ufeffImage ; Caption ;;\na;b;;\n;;;\n\nc;d\n")
    assert (found.columns, cells) == (["Image", "Caption"], [["a", "b"], ["c", "d"]])
    assert [row.line for row in found.rows] == [4, 7]
    assert found.column("caption") == "Caption"
    assert found.column("IM_AGE", "x") == "Image"
    assert found.column("x") is None
    assert read(tmp_path / "x", 'a, b, c\n1, "2, 3", 4\n')[1] == [["1", "2, 3", "4"]]
    assert read(tmp_path / "x", ",a,a\n0,b,c\n")[0].columns == ["column 1", "a", "a (3)"]
    assert read(tmp_path / "x", "text\nred, blue\nx\n")[1] == [["red, blue"], ["x"]]
    assert read(tmp_path / "x", "a\tb\nc\t\n", ["one", "two"])[1] == [["a", "b"], ["c", ""]]


def test_quotes_are_letters_where_no_program_wrote_them(tmp_path):
    text = '1.jpg#0\tA child in "pink" .\n1.jpg#1\t"Two girls" go\n2.jpg#0\t"red", "blue"\n'
    _, cells = read(tmp_path / "x", text, ["image", "caption"])
    assert cells == [line.split("\t") for line in text.splitlines()]
    text = 'name| number| comment\n1.jpg| 0| Two "young" men , here\n1.jpg| 1| "x" y\n'
    found, cells = read(tmp_path / "x", text)
    assert found.columns == ["name", "number", "comment"]
    assert cells == [["1.jpg", "0", 'Two "young" men , here'], ["1.jpg", "1", '"x" y']]


def test_every_line_that_is_no_row_is_told_and_the_others_are_read(tmp_path):
    text = 'a,b\n1,"never closed\n2,"red, too"\n3,ok\n4,x,y\n5,"a "red" one"\n6,"x\ny"\n7,"open\n'
    found, cells = read(tmp_path / "x", text)
    assert cells == [["2", "red, too"], ["3", "ok"], ["6", "x\ny"]]
    assert [(fault.line, fault.what[:30]) for fault in found.problems] == [
        (2, 'a quote " opens in this line, '), (5, "this line has too many commas:"),
        (6, 'a quote " opens in this line, '), (9, 'a quote " opens in this line, ')]  # fmt: skip


def test_other_kinds_of_files_are_named_in_one_sentence(tmp_path):
    def packed(name):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as file:
            file.writestr(name, "x")
        return data.getvalue()

    for data, what in [
        (packed("xl/workbook.xml"), "an Excel workbook"), (packed("word/x.xml"), "a Word document"),
        (packed("a.csv"), "a packed folder"), (packed("content.xml"), "an OpenDocument file"),
        (packed("a")[:20], "not whole"), (b"PAR1\0\0", "a Parquet table"), (b"\x1f\x8b\0", "gzip"),
        (b"\n<!DOCTYPE html><p>", "a web page"), (b"%PDF-1.7", "a PDF"), (b"\x89PNG\r\n", "a pict"),
        (b"<?xml version='1.0'?>", "XML"), (b"\xd0\xcf\x11\xe0\0", "an old Office file"),
        (b"", "is empty"), (b"\xff\xfe", "is empty"), (b" \n\0", "is empty"),
        (bytes(range(256)) * 4, "holds no text"), (b"\0\1\2\3" * 99, "holds no text"),
        (b'"a,b\n1,2\n', "should begin with a line that names its columns"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=what) as error:
            read(tmp_path / "x.csv", data)
        assert str(error.value).startswith(str(tmp_path / "x.csv"))
        assert str(error.value).count("\n") == 0
        assert CURE.search(str(error.value))
    with pytest.raises(ValueError, match="is a folder"):
        rows.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        rows.read(tmp_path / "nowhere")


@given(st.binary(max_size=60) | st.text('a,;\t|"\n\r{}[]: é猫', max_size=60).map(str.encode))
def test_any_file_is_rows_or_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    try:
        found, cells = read(path, data)
    except ValueError as error:
        found, sentence = None, str(error)
    if found is None:
        assert "\n" not in sentence
        return
    assert all(len(row) == len(found.columns) for row in cells)
    lines = len(io.StringIO(rows.decode(path).text, newline=None).readlines())
    assert all(1 <= one.line <= lines for one in [*found.rows, *found.problems])


# Names


@pytest.fixture
def folder(tmp_path):
    """A folder with files, folders and links, beside a file that nobody may reach through it."""
    root = tmp_path / "album"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_text("secret")
    for name in ("a.png", "sub/b.png", unicodedata.normalize("NFD", "café.png"), "beach.jpeg",
                 "name.with.dots.png"):  # fmt: skip
        (root / name).touch()
    os.symlink(root / "a.png", root / "in.png")
    os.symlink(tmp_path / "secret.png", root / "out.png")
    os.symlink(tmp_path, root / "up")
    os.symlink("nowhere", root / "broken.png")
    os.symlink("loop.png", root / "loop.png")
    return root


def test_names_are_found_whatever_their_spelling(folder):
    for name, file in {
        "a.png": "a.png", " a.png ": "a.png", "./a.png": "a.png", ".\\sub\\b.png": "sub/b.png",
        "sub/b.png": "sub/b.png", "in.png": "in.png", "\ufeffa.png": "a.png",
        unicodedata.normalize("NFC", "café.png"): unicodedata.normalize("NFD", "café.png"),
    }.items():  # fmt: skip
        assert rows.inside(folder, name) == folder / file


def test_nothing_outside_of_the_folder_is_found_by_any_name(folder):
    for name, part in {
        "../secret.png": "leads out of album", "sub/../../secret.png": "leads out",
        "..\\secret.png": "leads out", "..": "leads out", "sub\\..\\a.png": "leads out",
        str(folder / "a.png"): 'on one computer, and is not read: write the name alone, "a.png"',
        "/etc/passwd": "on one computer", "C:\\x\\a.png": 'the name alone, "a.png"',
        "c:a.png": "on one computer", "~/a.png": "on one computer", "\\\\srv\\a": "on one computer",
        "https://x.org/a.png": "an address on the internet", "file:///etc/passwd": "an address",
        "out.png": "a link that leads out", "up/secret.png": "a link that leads out",
        "up\\secret.png": "a link that leads out",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match="leads out|one computer|internet") as error:
            rows.inside(folder, name)
        assert part in str(error.value)


def test_a_name_without_a_file_says_what_is_alike(folder):
    for name, part in {
        "A.png": "(a.png is: large and small letters differ)", "beach.jpg": "(beach.jpeg is)",
        "CAFÉ.png": "letters differ)", "nowhere.png": "the picture nowhere.png is not in album",
        "sub": "sub is a folder in album", "up": "link", "broken.png": "a link to a file that is",
        "loop.png": "a link to a file that is", "": "no picture is named", "a\0b": r"a\x00b is not",
        "\ud800": r"\ud800 is not", "x" * 5000: "x… is not", "a.png/x": "is not",
        "two\nlines": r"two\nlines is not",
    }.items():  # fmt: skip
        with pytest.raises((FileNotFoundError, ValueError)) as error:
            rows.inside(folder, name, "picture")
        assert part in str(error.value)
        str(error.value).encode()
        assert "\n" not in str(error.value)


NAMES = st.lists(
    st.sampled_from(
        ["..", ".", "/", "\\", "a.png", "up", "out.png", "sub", "~", "C:", "secret.png"]
    )
    | st.text(max_size=2),
    max_size=5,
).map("".join)


@given(NAMES)
def test_no_name_at_all_leads_outside(folder_of_all, name):
    try:
        found = rows.inside(folder_of_all, name)
    except (ValueError, FileNotFoundError):
        return
    assert os.path.realpath(found).startswith(os.path.realpath(folder_of_all) + os.sep)
    assert found.read_text() != "secret"


@pytest.fixture(scope="module")
def folder_of_all(tmp_path_factory):
    root = tmp_path_factory.mktemp("all") / "album"
    (root / "sub").mkdir(parents=True)
    (root.parent / "secret.png").write_text("secret")
    (root / "a.png").touch()
    os.symlink(root.parent, root / "up")
    os.symlink(root.parent / "secret.png", root / "out.png")
    return root
