"""Faults in people's own folders and tables, and in what `mbm-lab train` leaves of them."""

import contextlib
import io
import json
import os
import random
import shutil
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mbm_lab import albums, plots, report, rows, tables, trained, two_step
from tests.faults import CURE, Fault, command, flipped, put


def faults(seed: int) -> Iterator[Fault]:
    yield from _entries()
    yield from _names()
    yield from _caption_files(seed)
    yield from _album_arguments()
    yield from _flickr()
    yield from _tables()
    yield from _table_arguments()
    yield from _models(seed)
    yield from _stopped(seed)
    yield from _words()


# --- Albums


def _picture(path: Path, colour: str = "red") -> None:
    Image.new("RGB", (8, 8), colour).save(path, path.suffix[1:].replace("jpg", "jpeg"))


def _album(folder: Path, *lines: str, head: str = "image,caption") -> Path:
    """Twelve pictures with their captions, and what these lines say."""
    (folder / "images").mkdir()
    said = [head]
    for number in range(12):
        _picture(folder / "images" / f"{number:02}.png")
        said.append(f"{number:02}.png,card number {number}")
    return _written(folder / "captions.txt", *said, *lines)


def _written(file: Path, *lines: str) -> Path:
    """Writes lines, in which surrogates may stand for bytes; the folder."""
    file.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
    return file.parent


def _told(problems: list[albums.Problem], *names: str) -> bool:
    """Whether exactly one problem was found, in line 14, and its sentence names this and a cure."""
    said = [str(one) for one in problems]
    return len(said) == 1 and all(n in said[0] for n in ("line 14", *names)) and (
        bool(CURE.search(said[0])) and len(said[0]) < 500 and said[0].isprintable()
    )


def _in_line_14(
    kind: str, what: str, plant: Callable[[Path], object], name: str, *said: str
) -> Iterator[Fault]:
    """A picture that line 14 names: the check says what is wrong, and so does the loader; a line
    behind it is looked at, too."""
    line = f"{name},an odd entry"

    def both(folder: Path) -> None:
        _album(folder, line, "11.png,another caption")
        plant(folder / "images")

    yield Fault(kind, f"check: {what}", albums.check_folder, plant=both,
                right=lambda problems: _told(problems, *said))  # fmt: skip
    yield Fault(kind, f"load: {what}", albums.load_album, ("line 14", *said), both)


def _entries() -> Iterator[Fault]:
    def link(to: str) -> Callable[[Path], object]:
        return lambda images: (images / "a.png").symlink_to(to)

    def bomb(images: Path) -> None:
        Image.new("1", (20_000, 10_000)).save(images / "a.png")

    def listening(images: Path) -> None:
        with contextlib.chdir(images), socket.socket(socket.AF_UNIX) as one:
            one.bind("a.png")  # the path of a socket must be short

    def loop(images: Path) -> None:
        (images / "a.png").symlink_to("b.png")
        (images / "b.png").symlink_to("a.png")

    for what, plant, *said in (
        ("a folder named as a picture", lambda images: (images / "a.png").mkdir(), "folder"),
        ("a dead link", link("nowhere.png"), "link"),
        ("a link to itself", link("a.png"), "link"),
        ("a loop of links", loop, "link"),
        ("a link to a folder", link("."), "a.png"),
        ("a link out of the folder", link("/etc/hostname"), "out of"),
        ("a link to a device", link("/dev/zero"), "a.png"),
        ("a pipe", lambda images: os.mkfifo(images / "a.png"), "pipe"),
        ("a socket", listening, "socket"),
        ("a picture of 200 megapixels", bomb, "200 megapixels"),
        ("an empty picture", lambda images: (images / "a.png").touch(), "cannot be read"),
        ("a text named as a picture",
         lambda images: (images / "a.png").write_text("hello"), "cannot be read"),
        ("a cut picture", lambda images: (images / "a.png").write_bytes(
            (images / "00.png").read_bytes()[:45]), "cannot be read"),
    ):  # fmt: skip
        yield from _in_line_14("folders of pictures", what, plant, "a.png", "a.png", *said)


def _names() -> Iterator[Fault]:
    def named(name: str) -> Callable[[Path], object]:
        return lambda images: _picture(images / name)

    for there, asked, said in (
        ("a.png", "A.PNG", "(a.png is"),
        ("a.png", "ａ.png", "(a.png is"),
        ("ａ.png", "a.png", "(ａ.png is"),
        ("a b.png", "a%20b.png", "(a b.png is"),
        ("a.jpg", "a.png", "(a.jpg is"),
        ("a .png", "a.png", "is"),
        ("a\u00a0b.png", "a b.png", "is"),
        ("a\u200bb.png", "ab.png", "is"),
        ("a  b.png", "a b.png", "is"),
        ("e\u0301.png", "É.png", "is"),
        ("ﬁ.png", "fi.png", "(ﬁ.png is"),
    ):
        yield from _in_line_14(
            "names", f"{ascii(asked)}, and {ascii(there)} is there", named(there), asked, said
        )
    for name, said in (
        ("", "names no"), ("..", ".."), ("../00.png", "out of"), ("/etc/passwd", "computer"),
        ("C:\\a.png", "computer"), ("https://x.org/a.png", "internet"), ("~/a.png", "computer"),
        ("nowhere.png", "nowhere.png"), ("." * 300, "..."), ("x" * 5000, "xxx"), ("a\tb.png", "a"),
        ("\u202egnp.a", "202e"), ("images", "images"),
    ):  # fmt: skip
        yield from _in_line_14("names", f"the name {ascii(name)[:40]}", lambda _: 0, name, said)
    for there, asked in (
        ("e\u0301.png", "\u00e9.png"), ("\u00e9.png", "e\u0301.png"), ("a.png", " a.png "),
        ("a.png", "images/a.png"), ("a.png", "images\\a.png"), ("a.png", "./a.png"),
        ("a.png ", "a.png "), ("a#1.png", "a#1.png"), ("猫.png", "猫.png"), ("$x$.png", "$x$.png"),
        ("a%20b.png", "a%20b.png"), ("-rf.png", "-rf.png"),
    ):  # fmt: skip
        def plant(folder: Path, there: str = there, asked: str = asked) -> None:
            _album(folder, f"{asked},an odd name")
            Image.new("RGB", (8, 8)).save(folder / "images" / there, "PNG")

        yield Fault("names", f"{ascii(asked)} is {ascii(there)}, legitimately",
                    albums.load_album, plant=plant,
                        right=lambda album: len(album) == 13)  # fmt: skip

    def alike(folder: Path, missing: bool) -> None:
        (folder / "images").mkdir()
        names = ["".join(c.upper() if number >> at & 1 else c for at,
            c in enumerate("abcdefghijklm"))
                 for number in range(2000)]  # fmt: skip
        for name in names:
            (folder / "images" / f"{name}.png").touch()
        asked = [f"{name}.PNG" if missing else f" {name}.png" for name in names]
        lines = [f"{name},card {at}" for at, name in enumerate(asked)]
        (folder / "captions.txt").write_text("\n".join(["image,caption", *lines]))

    def seconds(folder: Path) -> float:
        start = time.process_time()
        with_hint = sum(" is: " in str(one) for one in albums._scan(folder).problems)
        return (time.process_time() - start) * (1 if with_hint in (0, 2000) else 1000)

    for missing in (False, True):
        yield Fault("names", f"2,000 names that only letter case tells apart ({missing})", seconds,
                    plant=partial(alike, missing=missing), right=lambda took: took < 4)  # fmt: skip
    yield Fault("names", "a picture that no line names", lambda f: command("data", "check", str(f)),
                plant=lambda f: (_album(f), _picture(f / "images" / "left.png")),
                right=lambda said: "left.png" in said and "0 problems" in said)  # fmt: skip
    yield Fault("names", "pictures that no line names, by the thousand",
                lambda f: command("data", "check", str(f)),
                plant=lambda f: (_album(f), [(f / "images" / f"x{n}.png").touch()
                                             for n in range(1000)]),
                right=lambda said: "1,000 pictures" in said and len(said) < 500)  # fmt: skip


def _caption_files(seed: int) -> Iterator[Fault]:
    for what, line, *said in (
        ("empty", "00.png,", "empty"), ("spaces", "00.png,   ", "empty"),
        ("punctuation", "00.png,?!...", "no word"), ("a tag", "00.png,<b></b>", "no word"),
        ("zero-width characters", "00.png,\u200b\u200d\u2060", "no word"),
        ("a mark of order", "00.png,\ufeff", "no word"), ("an entity", "00.png,&nbsp;", "no word"),
        ("dashes", "00.png,———", "no word"),
        ("accents alone", "00.png,\u0301\u0308", "no word"),
        ("131,073 letters", "00.png," + "x" * 131_073, "too long"),
        ("300,000 words", "00.png," + "so " * 300_000, "too long"),
        ("200,000 letters in quotes", '00.png,"' + "x" * 200_000 + '"', "too long"),
        ("an open quote", '00.png,"an open', "quote"),
        ("too many commas", "00.png,one,two", "commas"),
        ("no UTF-8", "00.png,caf\udce9 d'été été", "UTF-8"), ("a zero byte", "00.png,a\0b",
        "zero byte"),
    ):  # fmt: skip
        for name, act in (("check", albums.check_folder), ("load", albums.load_album)):
            yield Fault(
                "captions", f"{name}: a caption of {what}", act,
                ("line 14", *said) if name == "load" else (), partial(_album_of, line),
                (lambda problems, said=said: _told(problems, *said)) if name == "check" else None,
            )  # fmt: skip
    for what, line, caption in (
        ("a form feed", "00.png,one\ftwo", "one\ftwo"), ("U+2028", "00.png,a\u2028b", "a\u2028b"),
        ("U+0085", "00.png,a\u0085b", "a\u0085b"), ("a formula", "00.png,$x_1^2$", "$x_1^2$"),
        ("a field separator", "00.png,a\x1cb", "a\x1cb"), ("a digit", "00.png,7", "7"),
        ("Chinese", "00.png,猫", "猫"), ("emoji", "00.png,\U0001f600", "\U0001f600"), ("two lines",
        '00.png,"a\nb"', "a\nb"),
        ("a formula of a spreadsheet", "00.png,=1+1", "=1+1"),
    ):  # fmt: skip
        yield Fault("captions", f"a caption with {what}, legitimately",
                    lambda f: dict(albums.read_captions(f))["00.png"], plant=partial(_album_of,
                        line),
                    right=lambda got, caption=caption: got == caption)  # fmt: skip
    deep = "[" * 100_000
    for what, text, *said in (
        ("nested 100,000 deep", '{"images": ' + deep, "captions.txt"),
        ("a list nested 100,000 deep", deep, "captions.txt"),
        ("only a head", "image,caption\n", "no caption"), ("nothing", "", "empty"),
        ("other columns", "x,y\n1,2\n", '"x,y"'),
        ("long columns", f"{'x' * 5000},{'y' * 5000}\n1,2\n", "xxx"),
        ("JSON of numbers", "[1, 2, 3]", "captions.txt"), ("JSON null", "null", "captions.txt"),
        ("zeros", "\0" * 5000, "empty"), ("a zip", _zip("a.txt"), "zip"),
        ("an Excel workbook", _zip("xl/workbook.xml"), "Excel"),
        ("an encrypted zip", _encrypted(), "zip"), ("a cut zip", _zip("a.txt")[:30], "zip"),
        ("a zip of an unknown compression", _compressed(99), "zip"),
        ("a pickle", b"\x80\x04\x95" + b"x" * 40, "pickle"), ("an image", b"\x89PNG\r\n",
        "picture"),
        ("a web page", "<!doctype html><p>404", "web page"),
        ("numbers of 10,000 digits", '{"images": [{"id": ' + "9" * 10_000 + "}]", "captions.txt"),
        ("random bytes", random.Random(seed).randbytes(2000), "captions.txt"),
        ("one line of 3 MB", "x" * 3_000_000, "captions.txt"),
    ):  # fmt: skip
        data = text.encode() if isinstance(text, str) else text

        def plant(folder: Path, data: bytes = data) -> None:
            (folder / "images").mkdir()
            (folder / "captions.txt").write_bytes(data)

        yield Fault("caption files", what, albums.check_folder, tuple(said), plant)
    for what, act in (
        ("captions.txt is a folder", lambda f: (f / "captions.txt").mkdir()),
        ("captions.txt is a pipe", lambda f: os.mkfifo(f / "captions.txt")),
        ("captions.txt is a dead link", lambda f: (f / "captions.txt").symlink_to("none")),
        ("captions.txt is a loop", lambda f: (f / "captions.txt").symlink_to("captions.txt")),
    ):
        yield Fault("caption files", what, albums.load_album, ("captions.txt",),
                    lambda f, act=act: (act(f), (f / "images").mkdir()))  # fmt: skip
    for what, act in (
        ("images is a file", lambda f: (f / "images").touch()), ("no images", lambda f: None),
        ("images is a pipe", lambda f: os.mkfifo(f / "images")),
        ("images is a dead link", lambda f: (f / "images").symlink_to("none")),
        ("images is a loop", lambda f: (f / "images").symlink_to("images")),
        ("images leads out", lambda f: (f / "images").symlink_to("/tmp")),
    ):  # fmt: skip
        yield Fault("caption files", what, albums.load_album, ("images",), lambda f, act=act: (
            (f / "captions.txt").write_text("image,caption\na.png,a card\n"), act(f)))  # fmt: skip
    twice = '{"00.png": "one", "01.png": "two", "00.png": "three"}'
    yield Fault("caption files", "JSON that names a picture twice", albums.load_album, ("00.png",),
                lambda f: ((_album(f) / "captions.txt").unlink(),
                           (f / "captions.json").write_text(twice)))  # fmt: skip


def _album_of(line: str, folder: Path) -> Path:
    return _album(folder, line)


def _zip(name: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        packed.writestr(name, "image,caption\n")
    return held.getvalue()


def _encrypted() -> bytes:
    """A zip whose entries say that they are encrypted."""
    data = bytearray(_zip("a.txt"))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _compressed(how: int) -> bytes:
    data = bytearray(_zip("a.txt"))
    data[8] = data[data.index(b"PK\x01\x02") + 10] = how
    return bytes(data)


def _album_arguments() -> Iterator[Fault]:
    @cache
    def album() -> albums.Album:
        return albums.Album([f"{n}.png" for n in range(4)], torch.rand(4, 3, 64, 64), [["a"]] * 4)

    for what, right, act in (
        ("album[:0]", (0, torch.float32), lambda a: a[:0]),
        ("album[240:]", (0, torch.float32), lambda a: a[240:]),
        ("album[-2:]", (2, torch.float32), lambda a: a[-2:]),
        ("album[::-1]", (4, torch.float32), lambda a: a[::-1]),
        ("subset([])", (0, torch.float32), lambda a: a.subset([])),
        ("subset of an empty tensor", (0, torch.float32), lambda a: a.subset(torch.tensor([]))),
        ("subset([-1])", (1, torch.float32), lambda a: a.subset([-1])),
        ("subset of an empty album", (0, torch.float32), lambda a: a[:0][:3]),
    ):
        yield Fault("slices of an album", what, lambda _, act=act: act(album()), right=(
            lambda got, right=right: (len(got), got.images.dtype) == right
            and got.images.shape[1:] == (3, 64, 64)))  # fmt: skip
    for what, names, act in (
        ("album[3]", ("3",), lambda a: a[3]), ("album['a']", ("a",), lambda a: a["a"]),
        ("album[0.5:]", ("0.5",), lambda a: a[0.5:]), ("album[::0]", ("0",), lambda a: a[::0]),
        ("album[None]", ("None",), lambda a: a[None]),
        ("subset([9])", ("9",), lambda a: a.subset([9])),
        ("subset([-9])", ("-9",), lambda a: a.subset([-9])),
        ("subset([0.5])", ("0.5",), lambda a: a.subset([0.5])),
        ("subset(['a'])", ("a",), lambda a: a.subset(["a"])),
        ("subset(2)", ("2",), lambda a: a.subset(2)),
        ("subset([[0], [1]])", (), lambda a: a.subset([[0], [1]])),
        ("split(0)", ("0",), lambda a: a.split(0)), ("split(1)", ("1",), lambda a: a.split(1)),
        ("split(240)", ("240",), lambda a: a.split(240)),
        ("split('half')", ("half",), lambda a: a.split("half")),
        ("split(nan)", ("nan",), lambda a: a.split(float("nan"))),
        ("split of one picture", ("1",), lambda a: a[:1].split(0.8)),
        ("split of nothing", ("0",), lambda a: a[:0].split(0.8)),
    ):  # fmt: skip
        yield Fault("slices of an album", what, lambda _, act=act: act(album()), names)
    yield Fault("slices of an album", "split by share", lambda _: album().split(0.8),
                right=lambda parts: [len(one) for one in parts] == [3, 1])  # fmt: skip
    for name, value in (
        ("most", -1), ("most", 0), ("most", 1.5), ("most", "3"), ("most", True), ("size", 0),
        ("size", -1), ("size", 1.5), ("size", "64"), ("size", None), ("size", 10**6),
    ):  # fmt: skip
        yield Fault("slices of an album", f"load_album({name}={value!r})",
                    lambda f, given={name: value}: albums.load_album(f, **given),  # noqa: B006
                    (name, str(value)), _album)  # fmt: skip
    for what, folder in _no_folders():
        yield Fault("slices of an album", f"load_album({what})",
                    lambda _, folder=folder: albums.load_album(folder))  # fmt: skip


def _no_folders() -> Iterator[tuple[str, object]]:
    yield from (("None", None), ("7", 7), ("b''", b"x"), ("a list", []), ("''", ""))
    yield from (("a zero byte", "a\0b"), ("a long name", "x" * 5000), ("half a character",
        "\udcff"))
    yield from (("a line feed", "a\nb"), ("a device", "/dev/null"))


def _flickr() -> Iterator[Fault]:
    def package(folder: Path, pictures: str, inner: str = "", captions: str = "") -> None:
        home = folder / inner
        (home / pictures).mkdir(parents=True)
        lines = []
        for number in range(12):
            _picture(home / pictures / f"{number}.jpg")
            lines += [f"{number}.jpg#{at}\tA dog , number {number} , runs ." for at in range(5)]
        lines += [f"22.jpg.1#{at}\tA dog of which there is no photograph ." for at in range(5)]
        where = folder / captions
        where.mkdir(exist_ok=True)
        (where / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
        (where / "Flickr8k.lemma.token.txt").write_text("\n".join(lines).lower() + "\n")
        for name in ("trainImages", "devImages", "testImages"):
            (where / f"Flickr_8k.{name}.txt").write_text("1.jpg\n")
        (where / "ExpertAnnotations.txt").write_text("1.jpg\t2.jpg#1\t1\t1\t1\n")
        (where / "readme.txt").write_text("Flickr8k\n")

    for what, plant in (
        ("Flicker8k_Dataset", partial(package, pictures="Flicker8k_Dataset")),
        ("Flickr8k_Dataset", partial(package, pictures="Flickr8k_Dataset")),
        ("nested twice", partial(package, pictures="Flicker8k_Dataset", inner="Flickr8k_Dataset")),
        ("its two archives, each in its folder",
         partial(package, pictures="Flicker8k_Dataset", inner="Flickr8k_Dataset",
                 captions="Flickr8k_text")),
    ):  # fmt: skip
        yield Fault("Flickr8k's own package", what, albums.load_album, plant=plant, right=(
            lambda a: len(a) == 12 and a.names[11] == "11.jpg"
            and a.captions[3] == ["A dog , number 3 , runs ."] * 5))  # fmt: skip

    def part(folder: Path) -> None:
        package(folder, "Flicker8k_Dataset")
        for number in range(6):
            (folder / "Flicker8k_Dataset" / f"{number}.jpg").unlink()

    yield Fault("Flickr8k's own package", "a part of it", lambda f: albums.load_flickr8k(root=f),
                plant=part, right=lambda a: len(a) == 6 and a.names[0] == "6.jpg")  # fmt: skip
    yield Fault("Flickr8k's own package", "a part, that nobody expects", albums.load_album,
                ("0.jpg", "line 1"), part)  # fmt: skip


# --- Tables


def _table(folder: Path, *lines: str, count: int = 40) -> Path:
    said = ["text,size,stars"]
    rng = random.Random(1)
    for _ in range(count):
        stars = rng.randint(1, 5)
        said.append(f"it was {'very ' * stars}good indeed,{stars + rng.random():.2f},{stars}")
    return _written(folder / "t.csv", *said, *lines)


def _tables() -> Iterator[Fault]:
    deep = "[" * 100_000
    for what, text, *said in (
        ("deep JSON", deep, "t.json"), ("deep objects", '{"a":' * 100_000, "t.json"),
        ("JSON Lines, all deep", ('{"a": ' + deep + "\n") * 3, "t.json"), ("null", "null",
        "t.json"),
        ("a number", "7", "t.json"), ("a list of lists", "[[1], [2]]", "t.json"),
        ("an object of lists", '{"a": [1, 2]}', "t.json"), ("empty list", "[]", "t.json"),
        ("nothing", "", "empty"), ("spaces", " \n\n", "empty"), ("zeros", "\0" * 100, "empty"),
        ("an encrypted zip", _encrypted(), "zip"), ("a zip", _zip("a.csv"), "zip"),
        ("an encrypted workbook", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "Office"),
        ("a cut workbook", _zip("xl/workbook.xml")[:50], "zip"),
        ("a workbook of an unknown compression", _compressed(98), "zip"),
        ("one line of 4 MB", "x" * 4_000_000, "t.json"),
        ("NaN", '[{"text": NaN, "stars": Infinity}]', "t.json"),
        ("one row", '[{"text": "a b c", "stars": 1}]', "1"),
    ):  # fmt: skip
        data = text.encode() if isinstance(text, str) else text
        yield Fault(
            "files of rows", what, lambda f: tables.load_table(f / "t.json", target="stars"),
            tuple(said), lambda f, data=data: (f / "t.json").write_bytes(data),
        )  # fmt: skip
    for what, line, left in (
        ("a deep row", '{"text": ' + deep + ', "size": 1, "stars": 2}', True),
        ("a number of 10,000 digits", '{"text": "a b c", "size": ' + "9" * 10_000 + "}", True),
        ("NaN", '{"text": "a b c", "size": NaN, "stars": 2}', False),
        ("infinity", '{"text": "a b c", "size": 1, "stars": Infinity}', None),
        ("a key twice", '{"text": "a", "text": "a b c", "size": 1, "stars": 2}', None),
        ("half a character", '{"text": "\\ud83d b c", "size": 1, "stars": 2}', True),
        ("a zero byte", '{"text": "a\0 b c", "size": 1, "stars": 2}', True),
        ("a list", '["a", 1, 2]', True), ("a blank line", "", False),
        ("a cut line", '{"text": "a b c", "si', True), ("no text", '{"size": 1, "stars": 2}', True),
    ):  # fmt: skip
        def plant(folder: Path, line: str = line) -> None:
            sheet = [{"text": f"it was {'very ' * (n % 5)}good", "size": n % 5 + n / 100,
                      "stars": n % 5 + 1} for n in range(40)]  # fmt: skip
            lines = [*map(json.dumps, sheet), line]
            (folder / "t.jsonl").write_text("\n".join(lines) + "\n", "utf-8")

        def right(table: tables.Table, left: bool | None = left) -> bool:
            noticed = any("41" in note for note in table.notes)
            return len(table) in (40, 41) and (left is None or noticed == left)

        yield Fault("rows", f"{what} in line 41",
                    lambda f: tables.load_table(f, target="stars", text="text", numbers="size"),
                    ("41",), plant, right)  # fmt: skip
    for what, line, right in (
        ("a number of 10,000 digits", "so it is," + "9" * 10_000 + ",2", None),
        ("infinity", "so it is,inf,2", None), ("nan", "so it is,nan,2", lambda t: len(t) == 41),
        ("a huge number", "so it is,1e400,2", None), ("a large number", "so it is,1e38,2", None),
        ("a number beyond float32", "so it is,1e39,2", None),
        ("a tab", "so it\tis,1,2", lambda t: len(t) == 41),
        ("a form feed", "so\fit is,1,2", lambda t: len(t) == 41 and t.texts[-1] == "so\fit is"),
        ("U+2028", "so\u2028it is,1,2", lambda t: len(t) == 41),
        ("no byte of UTF-8", "caf\udce9 d'été été,1,2", lambda t: len(t) == 40
         and any("42" in note for note in t.notes)),
        ("a word for a number", "so it is,seven,2", None),
    ):  # fmt: skip
        yield Fault(
            "rows", f"CSV: {what} in line 42",
            lambda f: tables.load_table(f, target="stars", text="text", numbers="size"),
            ("42",) if right is None else (), lambda f, line=line: _table(f, line),
            right or (lambda t: not t.numbers.isinf().any()),
        )  # fmt: skip
    for what, plant in (
        ("a pipe", lambda f: os.mkfifo(f / "t.csv")), ("a folder", lambda f: (f / "t.csv").mkdir()),
        ("a dead link", lambda f: (f / "t.csv").symlink_to("none")),
        ("a loop of links", lambda f: (f / "t.csv").symlink_to("t.csv")),
        ("nothing", lambda f: None), ("two tables", lambda f: (_table(f), shutil.copy(
            f / "t.csv", f / "u.csv"))),
    ):  # fmt: skip
        def own(folder: Path, plant: Callable[[Path], object] = plant) -> None:
            (folder / "own").mkdir()
            plant(folder / "own")

        yield Fault("files of rows", f"the table is {what}",
                    lambda f: tables.load_table(f / "own", target="stars"), plant=own)  # fmt: skip
        yield Fault("files of rows", f"the table is {what}, by name",
                    lambda f: tables.load_table(f / "own/t.csv", target="no"),
                        plant=own)  # fmt: skip

    def odd(plant: Callable[[Path], object], folder: Path) -> None:
        for number in range(40):
            _picture(folder / f"{number}.png")
        lines = [f"{n}.png,{n % 2}" for n in range(40)]
        (folder / "t.csv").write_text("\n".join(["photo,kind", *lines, "a.png,1"]))
        plant(folder / "a.png")

    for what, plant in (
        ("a folder", lambda p: p.mkdir()), ("a pipe", os.mkfifo),
        ("a dead link", lambda p: p.symlink_to("none")), ("a loop",
        lambda p: p.symlink_to("a.png")),
        ("a device", lambda p: p.symlink_to("/dev/zero")), ("not there", lambda p: None),
    ):  # fmt: skip
        yield Fault("rows", f"a picture that is {what}", lambda f: tables.load_table(f,
            target="kind"),
                    plant=partial(odd, plant), right=lambda t: len(t) == 40
                    and any("a.png" in note and "42" in note for note in t.notes))  # fmt: skip


def _table_arguments() -> Iterator[Fault]:
    for argument in ("image", "text", "audio", "clip", "numbers", "target", "group"):
        for value in ("colour", "", "x" * 5000, 7, ["size"] if argument != "numbers" else 7,
            "a\nb"):
            given = {"target": "stars", argument: value}
            names = (str(value)[:20].replace("\n", "\\n"),)
            yield Fault("arguments of tables", f"{argument}={str(value)[:20]!r}",
                        lambda f, given=given: tables.load_table(f, **given), names, _table,
                        (lambda t: len(t) == 40) if value == "" else None)  # fmt: skip
    for given in ({"target": None}, {"target": "size", "group": "stars",
                  "classes": True}, {"target": "stars", "text": "stars"}, {"target": "stars",
                  "classes": "yes"}, {"target": "stars", "language": 7}):  # fmt: skip
        yield Fault("arguments of tables", f"{given}",
                    lambda f, given=given: tables.load_table(f, **given), (), _table)  # fmt: skip
    for what, folder in _no_folders():
        yield Fault("arguments of tables", f"load_table({what})",
                    lambda _, folder=folder: tables.load_table(folder, target="a"))  # fmt: skip
        yield Fault("arguments of tables", f"rows.read({what})",
                    lambda _, folder=folder: rows.read(folder))  # fmt: skip


# --- Models of one's own


@cache
def _fitted() -> tuple[two_step.Fitted, bytes, list]:
    """A small model, its file, and what it answers."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = tables.load_table(_table(folder), target="stars", numbers="size")
        model = two_step.analyse(table, networks=False).model
        trained.save_model(model, folder / "model.safetensors")
        return model, (folder / "model.safetensors").read_bytes(), _answers(model, folder)


def _answers(model: two_step.Fitted, folder: Path) -> list:
    return trained.answers(model, tables.load_rows(folder / "t.csv", model.about()["columns"]))


def _models(seed: int) -> Iterator[Fault]:
    rng = random.Random(seed)

    def load(folder: Path) -> list:
        return _answers(trained.load_model(folder / "model.safetensors"), folder)

    def same(answers: list) -> bool:
        return answers == _fitted()[2]

    def plant(change: Callable[[bytes], bytes], folder: Path) -> None:
        _table(folder)
        (folder / "model.safetensors").write_bytes(change(_fitted()[1]))

    for number in range(40):
        at = rng.random() if number % 2 else rng.random() * 0.5
        yield Fault("models of tables", f"a bit flipped, {number}", load, ("model.safetensors",),
                    partial(plant, partial(flipped, place=at)), same)  # fmt: skip
    for number in range(8):
        part = rng.random()
        yield Fault("models of tables", f"cut, {number}", load, ("model.safetensors",), partial(
            plant, lambda data, part=part: data[: int(part * len(data))]))  # fmt: skip
    other = {"nothing": b"", "text": b"hello", "zeros": b"\0" * 500, "a pickle": b"\x80\x04K\x01.",
             "a deep head": (200_000).to_bytes(8, "little") + b"[" * 200_000,
             "a huge head": b"\xff" * 8 + b"{}"}  # fmt: skip
    for what, data in other.items():
        yield Fault("models of tables", what, load, ("model.safetensors",),
                    partial(plant, lambda _, data=data: data))  # fmt: skip

    def about(change: Callable[[dict], object], folder: Path) -> None:
        """A model whose description is another, with a right checksum."""
        _table(folder)
        said = json.loads(json.dumps(_fitted()[0].about()))
        said = change(said) or said
        facts = {"made by": trained.MADE_BY, "version": "9.9",
                 "about": said if isinstance(said, str) else json.dumps(said)}  # fmt: skip
        tensors = _fitted()[0].tensors()
        sealed = facts | {"checksum": trained.stored.checksum(facts, tensors)}
        trained.stored.save_tensors(tensors, folder / "model.safetensors", sealed)

    for what, change in (
        ("a list", lambda said: "[]"), ("a number", lambda said: "7"), ("null", lambda s: "null"),
        ("deep", lambda said: "[" * 100_000), ("no JSON", lambda said: "{"), ("empty",
        lambda s: "{}"),
        *((f"without {key}", lambda said, key=key: said.pop(key) and None)
          for key in ("modalities", "columns", "classes", "encoders")),
        *((f"{key} = {value!r}", lambda said, key=key, value=value: said.update({key: value}))
          for key in ("modalities", "columns", "classes", "encoders") for value in (7, None, "x")),
    ):  # fmt: skip
        yield Fault("models of tables", f"its description is {what}", load, ("model.safetensors",),
                    partial(about, change))  # fmt: skip
    for what, tensors, said in (
        ("of another program", {"a": torch.zeros(3)}, None),
        ("that says to be ours", {"a": torch.zeros(3)}, {"made by": trained.MADE_BY}),
    ):
        yield Fault(
            "models of tables", what, load, ("model.safetensors",),
            lambda f, tensors=tensors, said=said: (
                _table(f), trained.stored.save_tensors(tensors, f / "model.safetensors",
                    said or {})),
        )  # fmt: skip

    def model_and_rows(folder: Path) -> None:
        plant(bytes, folder)

    for what, model, rows_, out, names in (
        ("no model", "none", "t.csv", None, ("none",)),
        ("a table for a model", "t.csv", "t.csv", None, ("t.csv",)),
        ("no rows", "model.safetensors", "none.csv", None, ("none.csv",)),
        ("a model for rows", "model.safetensors", "model.safetensors", None,
        ("model.safetensors",)),
        ("out is there", "model.safetensors", "t.csv", "notes.txt", ("notes.txt",)),
        ("out is a folder", "model.safetensors", "t.csv", ".", ()),
        ("out is nowhere", "model.safetensors", "t.csv", "no/where/a.csv", ("a.csv",)),
        ("out is in a file", "model.safetensors", "t.csv", "notes.txt/a.csv", ("a.csv",)),
        ("out has a long name", "model.safetensors", "t.csv", "x" * 400, ("xxx",)),
    ):  # fmt: skip
        yield Fault("predict", what, lambda f, m=model, r=rows_, o=out: command(
            "predict", str(f / m), str(f / r), *(["--out", str(f / o)] if o else [])),
            names, model_and_rows)  # fmt: skip


def _stopped(seed: int) -> Iterator[Fault]:
    """A stopped training goes on to the same results, or makes anew what is damaged."""
    rng = random.Random(seed + 1)

    @cache
    def remains() -> tuple[dict[str, bytes], str]:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = tables.load_table(_table(folder), target="stars", numbers="size")
            table = table.__class__(**{**table.__dict__, "folder": Path("t")})
            found = two_step.analyse(table, networks=False, remember=folder / "steps")
            kept = {p.relative_to(folder).as_posix(): p.read_bytes()
                    for p in folder.rglob("*.npz")}  # fmt: skip
            return kept, _told_by(found)

    def again(folder: Path) -> str:
        table = tables.load_table(_table(folder), target="stars", numbers="size")
        return _told_by(two_step.analyse(table, networks=False, remember=folder / "steps"))

    def plant(change: Callable[[bytes], bytes], folder: Path) -> None:
        put(folder, {name: change(held) for name, held in remains()[0].items()})

    for number in range(12):
        yield Fault("stopped trainings", f"a bit flipped, {number}", again, (),
                    partial(plant, partial(flipped, place=rng.random())),
                    lambda said: said == remains()[1], (r"steps/.*",))  # fmt: skip
    for what, data in (("a pickle", b"\x80\x04K\x01."), ("text", b"hello")):
        yield Fault("stopped trainings", f"a step is {what}", again, (),
                    partial(plant, lambda _, data=data: data),
                    lambda said: said == remains()[1], (r"steps/.*",))  # fmt: skip
    other = io.BytesIO()
    np.savez(other, **{"said": np.zeros(3)})
    yield Fault("stopped trainings", "a step of other shapes", again, (),
                partial(plant, lambda _: other.getvalue()),
                lambda said: said == remains()[1], (r"steps/.*",))  # fmt: skip

    for what, plant_out, names in (
        ("a folder of somebody else's", lambda f: (f / "out").mkdir() or (f / "out/a.txt").touch(),
         ("out",)),
        ("a file", lambda f: (f / "out").touch(), ("out",)),
        ("a pipe", lambda f: os.mkfifo(f / "out"), ("out",)),
        ("unfinished, of somebody else", lambda f: (f / "out.unfinished").mkdir()
         or (f / "out.unfinished/a.txt").touch(), ("out.unfinished",)),
        ("a folder of deep settings", lambda f: (f / "out").mkdir()
         or (f / "out/settings.json").write_text("[" * 100_000), ("out",)),
        ("a folder of settings that are a list", lambda f: (f / "out").mkdir()
         or (f / "out/settings.json").write_text("[1]"), ("out",)),
        ("a folder whose settings are a folder", lambda f: (f / "out/settings.json").mkdir(
            parents=True), ("out",)),
    ):  # fmt: skip
        yield Fault("folders of reports", f"--out is {what}", lambda f: command(
            "train", str(f), "--target", "stars", "--out", str(f / "out")),
            names, lambda f, plant_out=plant_out: (_table(f), plant_out(f)))  # fmt: skip

    def with_a_file(folder: Path) -> None:
        """The remains of a run of another table, in which the user has put a file of her own."""
        _table(folder)
        (folder / "out.unfinished").mkdir()
        trained._write_settings(folder / "out.unfinished", {"key": "of another table"})
        (folder / "out.unfinished" / "my notes.txt").write_text("my own")

    yield Fault("folders of reports", "a file of one's own in an unfinished one",
                lambda f: trained.begin(trained.open_place(f / "out"), "key"), ("my notes.txt",),
                with_a_file)  # fmt: skip


def _told_by(found: two_step.Analysis) -> str:
    return "".join(found.sentences) + trained.as_csv(trained.predictions(found))


# --- Words of a learner's in figures


def _words() -> Iterator[Fault]:
    words = ["$", "$x", "$\\frac$", "costs 5$ or $7", "a_b^c", "\\alpha", "$$", "a\nb", "\x07",
        "猫",
             "\ud83d", "{", "$_$", "\\$x\\$", "x" * 300]  # fmt: skip
    pictures, one = torch.zeros(len(words), 3, 8, 8), two_step.Interval(0.5, 0.4, 0.6)
    for what, draw in (
        ("above pictures", lambda: plots.postcards(pictures, words)),
        ("above films", lambda: plots.strip(pictures[:, None], words)),
        ("beside scores",
         lambda: report.draw_scores(dict.fromkeys(words, one), words[2], report.LIGHT)),
        ("beside seeds", lambda: plots.seed_dots(
            dict.fromkeys(words, torch.rand(3)), 0.5, words[2], words[6])),
    ):  # fmt: skip
        yield Fault("words in figures", f"formulas that are none, {what}",
                    lambda _, draw=draw: _drawn(draw()), right=bool)  # fmt: skip


def _drawn(figure) -> int:
    import matplotlib.pyplot as plt

    held = io.BytesIO()
    try:
        figure.savefig(held, format="png", dpi=40)
    finally:
        plt.close(figure)
    return len(held.getvalue())
