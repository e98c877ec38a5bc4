"""tables.py: tables of one's own, what their columns hold, and everything that can be wrong."""

import builtins
import csv
import json
import math
import random
import wave

import pytest
import torch
from PIL import Image

from mbm_lab import datasets, tables

N = 36


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 8), colour).save(path)


def sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(random.Random(0).randbytes(3200))


def shop_rows(n=N):
    return [
        {
            "id": str(1000 + 3 * i),
            "photo": f"{i}.png",
            "review": f"a very good thing, number {i}",
            "weight": f"{i / 7:.2f}",
            "stars": f"{1 + 3.7 * ((i * 7) % n) / n:.1f}",
            "who": f"p{i % 6}",
        }
        for i in range(n)
    ]


def write(path, rows, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def shop(tmp_path):
    """A folder with rows of a photo, a review, a weight and stars."""
    root = tmp_path / "my shop"
    for i in range(N):
        picture(root / "pictures" / f"{i}.png")
    write(root / "rows.csv", shop_rows())
    return root


def said(table):
    return " ".join(table.notes)


# What a table holds


def test_named_columns_are_taken_and_the_others_are_mentioned(shop):
    table = datasets.load_table(shop, image="photo", text="review", target="stars")
    assert table.modalities == ("image", "text")
    assert table.images[3] == shop / "pictures" / "3.png"
    assert (table.texts[2], table.names[2], table.lines[2]) == (
        "a very good thing, number 2", "2.png", 4)  # fmt: skip
    wanted = torch.tensor([float(row["stars"]) for row in shop_rows()])
    assert torch.equal(table.target, wanted)
    assert table.classes == []
    assert "id, weight and who are not used" in said(table)


def test_columns_that_nobody_names_are_found_by_what_they_hold(shop):
    table = tables.load_table(shop, target="stars", group="who")
    assert table.modalities == ("image", "text", "numbers")
    assert table.columns == {"image": "photo", "text": "review", "numbers": ["weight"]}
    assert table.groups[:7] == ["p0", "p1", "p2", "p3", "p4", "p5", "p0"]
    for sentence in ("photo holds pictures", "review holds texts", "weight holds numbers",
                     "id looks like an id, and is left out"):  # fmt: skip
        assert sentence in said(table)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".csv"])
def test_the_same_rows_in_every_layout_are_the_same_table(shop, suffix):
    wanted = tables.load_table(shop, target="stars")
    rows = shop_rows()
    (shop / "rows.csv").unlink()
    if suffix == ".jsonl":
        numbers = [row | {"weight": float(row["weight"])} for row in rows]
        (shop / "a.jsonl").write_text("\n".join(map(json.dumps, numbers)))
    elif suffix == ".tsv":
        write(shop / "a.tsv", rows, "\t")
    else:  # a German spreadsheet
        german = [row | {"weight": row["weight"].replace(".", ","),
                         "stars": row["stars"].replace(".", ",")} for row in rows]  # fmt: skip
        write(shop / "a.csv", german, ";")
    table = tables.load_table(shop, target="stars")
    assert table.columns == wanted.columns
    assert torch.equal(table.target, wanted.target)
    assert torch.allclose(table.numbers, wanted.numbers)
    assert table.images == wanted.images


def test_class_folders_pair_files_of_one_name(tmp_path):
    for i in range(20):
        for kind in ("cats", "dogs"):
            picture(tmp_path / kind / f"{i}.png")
            sound(tmp_path / kind / f"{i}.wav")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "dogs" / "extra.png").write_bytes((tmp_path / "dogs" / "1.png").read_bytes())
    table = tables.load_table(tmp_path)
    assert table.modalities == ("image", "sound")
    assert (table.classes, len(table)) == (["cats", "dogs"], 40)
    assert table.target.tolist() == [0] * 20 + [1] * 20
    assert table.sounds[25].stem == table.images[25].stem
    assert "is left out" in said(table)
    texts = tmp_path / "texts"
    for i in range(40):
        file = texts / ("good" if i % 2 else "bad") / f"{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"text number {i}")
    assert tables.load_table(texts).texts[0] == "text number 0"
    new = tables.load_rows(texts / "bad", {"text": "text"})
    assert len(new) == 20
    assert new.target is None


def test_numbers_are_read_as_people_write_them():
    cases = {
        ("1,5", "2"): [1.5, 2], ("1.234,5", "2,25"): [1234.5, 2.25],
        ("1,234.5", "12"): [1234.5, 12], ("1,234", "1,234,567"): [1234, 1234567],
        ("1,234", "2.5"): [1234, 2.5], ("12 %", "7%"): [12, 7], ("−3", "+4e2"): [-3, 400],
        ("1 234", "5"): [1234, 5], ("0,001", "0,002"): [0.001, 0.002],
    }  # fmt: skip
    for texts, numbers in cases.items():
        assert tables.read_numbers(texts) == numbers
    mixed = tables.read_numbers(["1", "NA", "", "n/a"])
    assert mixed[0] == 1
    assert all(map(math.isnan, mixed[1:]))
    for texts in (("1", "x"), ("inf", "1"), ("", "NA"), ("12:30", "1"), ("1-2", "3")):
        assert tables.read_numbers(texts) is None


@pytest.mark.parametrize(
    ("values", "classes", "names", "note"),
    [
        (["yes", "no"], None, ["no", "yes"], "2 classes"),
        (["0", "1"], None, ["0", "1"], "classes=False takes it as a number"),
        (["0", "2", "10"], None, ["0", "2", "10"], "3 classes"),
        (["1", "2", "3", "4", "5"], None, [], "classes=True takes it as classes"),
        (["1", "2", "3", "4", "5"], True, ["1", "2", "3", "4", "5"], "5 classes"),
        (["0", "1"], False, [], "is taken as a number"),
        ([str(i) for i in range(12)], None, [], "is a number"),
        (["0.5", "1", "2"], None, [], "is a number"),
    ],
)
def test_the_content_decides_between_a_number_and_classes(tmp_path, values, classes, names, note):
    rows = [{"x": i * i, "y": values[i % len(values)]} for i in range(N)]
    table = tables.load_table(write(tmp_path / "a.csv", rows), target="y", classes=classes)
    assert table.classes == names
    assert note in said(table)
    if names:
        assert [names[i] for i in table.target] == [row["y"] for row in rows]
    else:
        assert table.target.tolist() == [float(row["y"]) for row in rows]


def test_chinese_is_found_by_its_script(tmp_path):
    rows = [{"text": f"这家酒店的早餐很好吃{i}", "y": i} for i in range(N)]
    path = write(tmp_path / "a.csv", rows)
    assert tables.load_table(path, text="text", target="y").language == "zh"
    assert tables.load_table(path, target="y", language="ja").language == "ja"


def test_a_subset_takes_the_rows_of_every_field(shop):
    table = tables.load_table(shop, target="stars", group="who")
    some = table.subset([5, 2])
    assert (some.names, some.lines, some.groups) == (["5.png", "2.png"], [7, 4], ["p5", "p2"])
    assert torch.equal(some.target, table.target[[5, 2]])
    assert torch.equal(some.numbers, table.numbers[[5, 2]])
    assert (some.texts, some.images) == (
        [table.texts[5], table.texts[2]], [table.images[5], table.images[2]])  # fmt: skip
    assert len(table.subset(table.target > 4)) == int((table.target > 4).sum())
    assert len(table.subset([])) == 0


# What is left out, and said


def test_rows_that_lack_something_are_left_out_with_line_and_reason(shop):
    rows = shop_rows()
    rows[0]["photo"] = "nothing.png"
    rows[1]["photo"] = "../../secret.png"
    rows[2]["review"] = "<b></b> ..."
    rows[3]["stars"] = "NA"
    rows[4]["weight"] = ""
    picture(shop.parent / "secret.png")
    write(shop / "rows.csv", rows)
    table = tables.load_table(shop, target="stars")
    assert table.lines == list(range(6, N + 2))
    assert sorted(table.left_out) == [2, 3, 4, 5]
    for sentence in ("Line 2 is left out: the picture nothing.png is not in",
                     "Line 3 is left out: ../../secret.png leads out of",
                     "Line 4 is left out: its review holds no word",
                     "Line 5 is left out: it has no stars",
                     "Numbers are missing in weight (1)"):  # fmt: skip
        assert sentence in said(table), said(table)
    assert table.numbers[0].isnan()


def test_rows_with_the_same_picture_stay_together(shop):
    rows = shop_rows()
    for i, row in enumerate(rows):
        row["photo"] = f"{i // 2}.png"
    write(shop / "rows.csv", rows)
    table = tables.load_table(shop, image="photo", text="review", target="stars")
    assert table.groups[0] == table.groups[1] != table.groups[2]
    assert "share a picture" in said(table)
    assert tables.load_table(shop, target="stars", group="who").groups[0] == "p0"


def test_pictures_are_found_without_their_suffix_and_in_folders(shop):
    rows = [row | {"photo": row["photo"].removesuffix(".png")} for row in shop_rows()]
    write(shop / "rows.csv", rows)
    table = tables.load_table(shop, image="photo", target="stars")
    assert table.images[7] == shop / "pictures" / "7.png"


def test_columns_that_only_seem_to_name_files_do_no_harm(shop):
    rows = change(shop_rows(), at=lambda i: str(N - 1 - i), url=lambda i: f"https://a.b/{i}.png",
                  copy=lambda i: float(shop_rows()[i]["stars"]) * 2)  # fmt: skip
    write(shop / "rows.csv", rows)
    table = tables.load_table(shop, target="stars")
    assert table.columns["image"] == "photo"
    assert table.number_names == ["weight", "copy"]
    assert "url names places on the web" in said(table)
    assert "copy says almost the same as stars" in said(table)
    assert "weight says" not in said(table)


def test_new_rows_need_no_target(shop):
    columns = tables.load_table(shop, target="stars").columns
    new = write(shop / "new.csv", [{k: row[k] for k in ("photo", "review", "weight")}
                                   for row in shop_rows(3)])  # fmt: skip
    table = tables.load_rows(new, columns)
    assert (len(table), table.target) == (3, None)
    assert table.modalities == ("image", "text", "numbers")
    with pytest.raises(ValueError, match="no column .photo. in .*did you mean foto"):
        tables.load_rows(write(shop / "b.csv", [{"foto": "1.png", "review": "a"}]), columns)


# What cannot be loaded: one sentence each


def change(rows, **columns):
    return [row | {name: make(i) for name, make in columns.items()} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "asked", "sentence"),
    [
        (shop_rows(), {"target": "star"}, "no column .star.*; there are id, .* did you mean stars"),
        (shop_rows(), {"target": "Reviews"}, "did you mean review"),
        (shop_rows(), {"target": "zebra"}, "there are id, photo, review, weight, stars and who"),
        (shop_rows(), {}, "Say which column is to be predicted"),
        (shop_rows(), {"target": "stars", "image": "review"}, "is the name of a picture"),
        (shop_rows(), {"target": "stars", "numbers": ["review"]}, "no column of numbers: line 2"),
        (shop_rows(), {"target": "stars", "text": "stars"}, "cannot be both text and target"),
        (shop_rows(), {"target": "review"}, "36 different values in 36 rows"),
        (shop_rows(), {"target": "stars", "classes": True}, "different values in 36 rows"),
        (shop_rows(), {"target": "who", "classes": False}, "cannot be a number, since it holds"),
        (change(shop_rows(), stars=lambda i: 3), {"target": "stars"}, "Every row has the same"),
        (change(shop_rows(), stars=lambda i: "a" if i else "b"), {"target": "stars"},
         'The class "b" of stars has one row only .line 2'),
        (change(shop_rows(), who=lambda i: i % 2), {"target": "stars", "group": "who"},
         "All rows are of 2 groups, who 0 and 1, and at least 3"),
        (change(shop_rows(), who=lambda i: "x"), {"target": "stars", "group": "who"},
         "All rows are of one group"),
        (shop_rows(20), {"target": "stars"}, "has 20 whole rows, and at least 30 are needed"),
        (change(shop_rows(), stars=lambda i: "" if i % 2 else i), {"target": "stars"},
         "has 18 whole rows .18 were left out.*at least 30"),
        (change(shop_rows(), second=lambda i: f"{i}.png"), {"target": "stars"},
         "several columns of pictures .photo and second.*image=.photo."),
        (change(shop_rows(), photo=lambda i: f"https://a.b/{i}.png"),
         {"target": "stars", "image": "photo"}, "address on the internet"),
        (change(shop_rows(), photo=lambda i: f"{i}.mp4"),
         {"target": "stars", "clip": "photo"}, "is the name of a clip"),
        ([{"y": i} for i in range(40)], {"target": "y"}, "nothing to predict y from"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_gets_one_sentence(shop, rows, asked, sentence):
    write(shop / "rows.csv", rows)
    with pytest.raises(ValueError, match=sentence) as error:
        tables.load_table(shop, **asked)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))


def test_folders_without_a_table_or_with_several(tmp_path, shop):
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        tables.load_table(tmp_path / "nowhere", target="y")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="There is no table in"):
        tables.load_table(tmp_path / "empty", target="y")
    write(shop / "more.csv", shop_rows())
    with pytest.raises(ValueError, match="several tables .more.csv and rows.csv"):
        tables.load_table(shop, target="stars")
    assert len(tables.load_table(shop / "rows.csv", target="stars")) == N
    for kind in ("cats", "dogs"):
        picture(tmp_path / "deep" / "train" / kind / "a.png")
    with pytest.raises(ValueError, match="train, with folders of their own"):
        tables.load_table(tmp_path / "deep")


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name, *more, **others):
        if name.split(".")[0] in ("pandas", "pyarrow"):
            raise ImportError(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="neither pandas nor pyarrow is installed"):
        tables.load_table(tmp_path, target="y")
