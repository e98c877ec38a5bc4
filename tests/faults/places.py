"""Faults of places: where data lie, what a server sends, where data sets are written, and what
others may have put there."""

import contextlib
import functools
import gzip
import hashlib
import io
import os
import random
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from mbm_lab import beside, datasets, downloads, place, postcards, preprocessing
from mbm_lab.exercises import progress
from tests.faults import Fault, command, flipped, put


def faults(seed: int) -> Iterator[Fault]:
    rng = random.Random(f"places {seed}")
    yield from variables()
    yield from layouts()
    yield from servers()
    yield from archives(rng)
    yield from disks()
    yield from caches()


def told(variable: str, said: str, act: Callable[[], object]) -> Callable[[Path], object]:
    """What `act` gives, where an environment variable says this (FOLDER: the folder), and where the
    home folder is in the folder, too."""

    def run(folder: Path) -> object:
        settings = {variable: said.replace("FOLDER", str(folder)), "HOME": str(folder / "home"),
                    "SETS": str(folder / "home")}  # fmt: skip
        before = set(folder.iterdir())
        with mock.patch.dict(os.environ, settings), contextlib.chdir(folder):
            found = act()
        if made := {path.name for path in set(folder.iterdir()) - before}:
            raise AssertionError(f"it made {made}")
        return str(found).replace(str(folder), "FOLDER")

    return run


def prepared(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "a file").write_text("mine")


def variables() -> Iterator[Fault]:
    kind = "variables that name places"
    asked = {
        "MBM_DATA_HOME": lambda: downloads.home(),
        "MBM_PROGRESS": lambda: progress.path(),
    }
    for variable, act in asked.items():
        for said in ("sets", "./sets", "../sets", "~nobody-of-this-name/sets", "$NOT_SET_HERE/sets",
                     "sets/in/here", "'sets'", "."):  # fmt: skip
            yield Fault(kind, f"{variable}={said}", told(variable, said, act),
                        (variable, said.strip("'")), prepared)  # fmt: skip
        for said, wanted in [("~/sets", "FOLDER/home/sets"), ("$HOME/sets", "FOLDER/home/sets"),
                             ("${SETS}/x", "FOLDER/home/x"), ("~", "FOLDER/home"),
                             ("FOLDER/my sets", "FOLDER/my sets"), ('"~/sets"', "FOLDER/home/sets"),
                             ("'FOLDER/x'", "FOLDER/x"), (" ~/sets ", "FOLDER/home/sets"),
                             ]:  # fmt: skip
            yield Fault(kind, f"{variable}={said}", told(variable, said, act), plant=prepared,
                        right=lambda found, w=wanted: found == w)  # fmt: skip
    for said in ("", "  ", '""'):
        yield Fault(kind, f"MBM_DATA_HOME={said!r}",
                    told("MBM_DATA_HOME", said, lambda: downloads.home().name), plant=prepared,
                    right=lambda found: found == "mbm-lab")  # fmt: skip
    for arguments in (("list",), ("path", "mnist"), ("get", "mnist", "--agree")):
        for said, named in (("FOLDER/a file", "a file"), ("sets", "sets")):
            yield Fault(kind, f"data {arguments[0]} with MBM_DATA_HOME={said}",
                        told("MBM_DATA_HOME", said, lambda a=arguments: command("data", *a)),
                        (named, "MBM_DATA_HOME"), prepared)  # fmt: skip
    yield Fault(kind, "data get below a file", told(
        "MBM_DATA_HOME", "FOLDER/a file/sets", lambda: command("data", "get", "fsdd", "--agree")),
        ("a file/sets", "MBM_DATA_HOME"), prepared)  # fmt: skip
    for said in ("/proc/sets", "/dev/null", "/dev/null/sets"):
        yield Fault(kind, f"data get where nobody can write: {said}", told(
            "MBM_DATA_HOME", said, lambda: command("data", "get", "fsdd", "--agree")),
            (said, "MBM_DATA_HOME"), prepared)  # fmt: skip
    yield Fault(kind, "an unknown data set", lambda _: downloads.path("imagenet"), ("imagenet",))


def layouts() -> Iterator[Fault]:
    kind = "where data sets lie"

    def found(name: str) -> Callable[[Path], object]:
        def act(folder: Path) -> object:
            with mock.patch.dict(os.environ, {"MBM_DATA_HOME": str(folder / "home")}):
                return downloads.path(name)

        return act

    def laid(*files: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            put(folder / "home", dict.fromkeys(files, b"x"))

        return make

    for what, name, files in [
        ("as it is often passed on", "flickr8k",
         ["flickr8k/captions.txt", "flickr8k/Images/a.jpg"]),
        ("the authors' package", "flickr8k", [
            "flickr8k/Flickr8k.token.txt", "flickr8k/Flicker8k_Dataset/a.jpg",
            "flickr8k/Flickr_8k.trainImages.txt"]),
        ("recordings", "fsdd", ["fsdd/recordings/0_theo_0.wav"]),
    ]:  # fmt: skip
        yield Fault(kind, f"{name}: {what}", found(name), plant=laid(*files),
                    right=lambda path, n=name: path.name == n)  # fmt: skip
    for what, name, files in [
        ("photographs alone", "flickr8k", ["flickr8k/Images/a.jpg"]),
        ("nothing", "flickr8k", []), ("an empty folder", "fsdd", ["fsdd/readme"]),
        ("three of four files", "mnist", [f"mnist/{one}" for one in
                                          list(downloads.DATA_SETS["mnist"].hashes)[:3]]),
        ("nothing", "multi30k", []), ("nothing", "mnist", []),
    ]:  # fmt: skip
        yield Fault(kind, f"{name}: {what}", found(name), (name,), laid(*files))


# --- Servers

FILES = {"one.gz": gzip.compress(b"one" * 5000), "two.gz": gzip.compress(bytes(range(256)) * 90)}


@functools.cache
def server() -> str:
    """A server on this computer, which answers as the address asks it to: /html/one.gz."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            way, _, name = self.path.strip("/").partition("/")
            data = SERVED.get(name, FILES.get(name, b""))
            if way.isdigit():
                self.send_response(int(way))
                self.send_header("Location", "/well/" + name if way != "307" else self.path)
                self.end_headers()
                return
            self.send_response(200)
            if way == "html":
                data = b"<!DOCTYPE html><html>Please log in</html>"
            if way == "half":
                data = data[: len(data) // 2]
            if way == "packed":
                self.send_header("Content-Encoding", "gzip")
                data = b"\x1f\x8b\x08 this is not gzip at all"
            if way not in ("endless", "cut"):
                self.send_header("Content-Length", str(len(data)))
            if way == "cut":
                self.send_header("Content-Length", str(2 * len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)
                while way == "endless":
                    self.wfile.write(bytes(1 << 16))
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    return f"http://127.0.0.1:{running.server_port}"


SERVED: dict[str, bytes] = {}


def fetched(name: str, way: str, hashes: dict[str, str], file: str = "") -> Callable:
    """Fetches a small data set in this way; what then lies in its home."""

    def act(folder: Path) -> object:
        home = folder / "home"
        known = replace(downloads.DATA_SETS[name], address=f"{server()}/{way}/{file}",
                        hashes=hashes, megabytes=1)  # fmt: skip
        with (
            mock.patch.dict(os.environ, {"MBM_DATA_HOME": str(home)}),
            mock.patch.dict(downloads.DATA_SETS, {name: known}),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                downloads.get(name, lambda _: True)
            except Exception:
                if home.is_dir() and (left := sorted(p.name for p in home.rglob("*")
                                                     if p.name not in LEFT_ALONE)):  # fmt: skip
                    raise AssertionError(f"it left {left}") from None
                raise
        return sorted(p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file())

    return act


LEFT_ALONE = {"mnist", "mine.txt", "recordings", "fsdd"}
"""What the user had there before."""
HASHES = {name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in FILES.items()}
WHOLE = ["mnist/one.gz", "mnist/two.gz"]


def servers() -> Iterator[Fault]:
    kind = "what servers send"
    for way in ("html", "half", "cut", "packed", "endless", "307", "403", "404", "500", "503"):
        yield Fault(kind, f"a file: {way}", fetched("mnist", way, HASHES), ("one.gz",))
    for way in ("html", "half", "cut", "packed", "endless", "404"):
        yield Fault(kind, f"an archive: {way}", fetched("fsdd", way, {}, "two.gz"))
    for way in ("well", "301", "302", "308"):
        yield Fault(kind, f"a file: {way}", fetched("mnist", way, HASHES),
                    right=lambda there: there == WHOLE)  # fmt: skip
    for what, make in [
        ("remains of a run that was killed", lambda f: remains(f, dead())),
        ("remains of several runs that were killed",
         lambda f: [remains(f, dead() + n) for n in range(3)]),
    ]:
        yield Fault(kind, what, fetched("mnist", "well", HASHES), plant=make,
                    own=(r"home/\.mnist-.*",),
                    right=lambda there: there == WHOLE)  # fmt: skip
    yield Fault(kind, "the folder of a run that goes on", fetched("mnist", "well", HASHES),
                plant=lambda f: remains(f, os.getppid()),
                right=lambda there: len(there) == 3 and there[1:] == WHOLE)  # fmt: skip
    yield Fault(kind, "a file where the folder belongs", fetched("mnist", "well", HASHES),
                ("mnist",), lambda f: ((f / "home").mkdir(),
                                       (f / "home" / "mnist").write_text("mine")))  # fmt: skip
    yield Fault(kind, "other things where recordings belong", fetched("fsdd", "well", {}, "x"),
                ("recordings",), lambda f: things(f / "home" / "fsdd" / "recordings"))  # fmt: skip
    yield Fault(kind, "nobody agrees", lambda _: refuse(), ("licence",))


def things(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")


def refuse() -> None:
    with mock.patch.object(downloads, "find", return_value=None):
        downloads.get("mnist", lambda _: False)


def dead() -> int:
    """A number that no process has: beyond the largest that Linux gives."""
    return 2**22 + 1


def remains(folder: Path, process: int) -> None:
    left = folder / "home" / f".mnist-{beside._computer()}-{process}-abc_123"
    left.mkdir(parents=True)
    (left / "one.gz").write_bytes(b"half of")


# --- Archives

RECORDINGS = {f"{n}_theo_{n}.wav": bytes([n]) * 200 for n in range(3)}


def packed(files: list[tuple[str, bytes]], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", way) as out:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, data in files:
            out.writestr(name, data)
    return made.getvalue()


def marked(data: bytes, at: int, value: int) -> bytes:
    """A zip archive, a field of two bytes of every entry changed, in both of its lists."""
    changed = bytearray(data)
    for sign, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        place = changed.find(sign)
        while place >= 0:
            changed[place + at + shift : place + at + shift + 2] = struct.pack("<H", value)
            place = changed.find(sign, place + 4)
    return bytes(changed)


def archives(rng: random.Random) -> Iterator[Fault]:
    inside = [(f"top/recordings/{name}", data) for name, data in RECORDINGS.items()]
    listed = "".join(f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in RECORDINGS.items())
    whole = packed([("top/README.md", b"not a recording"), *inside])

    def fault(what: str, archive: Callable[[], bytes], named: str = "recording",
              right: Callable | None = None) -> Fault:  # fmt: skip
        def act(folder: Path) -> object:
            SERVED["all.zip"] = archive()
            (folder / "list.gz").write_bytes(gzip.compress(listed.encode()))
            with mock.patch.object(downloads, "RECORDINGS", folder / "list.gz"):
                there = fetched("fsdd", "well", {}, "all.zip")(folder)
            outside = {path.name for path in folder.parent.iterdir()} - {folder.name}
            assert not outside & {"evil.wav", "0_theo_0.wav"}, "it wrote outside of its folder"
            return there

        return Fault("archives", what, act, (named,), None, right, own=("list.gz",))

    all_there = [f"fsdd/recordings/{name}" for name in RECORDINGS]
    only = packed(inside)
    bomb = [("top/recordings/0_theo_0.wav", bytes(30_000_000)), *inside[1:]]
    for what, archive in [
        ("a recording is missing", lambda: packed(inside[1:])),
        ("a recording too many", lambda: packed([*inside, ("top/recordings/9_eve_0.wav", b"x")])),
        ("a recording is another", lambda: packed([(inside[0][0], b"x"), *inside[1:]])),
        ("a recording comes twice", lambda: packed([*inside, inside[0]])),
        ("a recording of 30 MB of zeros", lambda: packed(bomb)),
        ("nothing but 30 MB of zeros", lambda: packed([("top/recordings/zeros.wav",
                                                        bytes(30_000_000))])),
        ("9,000 entries", lambda: packed([(f"top/recordings/{n}_x_0.wav", b"")
                                          for n in range(9_000)], zipfile.ZIP_STORED)),
        ("no entry", lambda: packed([])), ("encrypted", lambda: marked(only, 6, 1)),
        ("an unknown compression", lambda: marked(only, 8, 77)),
        ("a compression of old", lambda: marked(only, 8, 6)),
        ("a compression of another kind (bz2)", lambda: marked(only, 8, 12)),
        ("a compression of another kind (lzma)", lambda: marked(only, 8, 14)),
        ("a lying size", lambda: marked(only, 22, 9)),
        ("a version of the future", lambda: marked(only, 4, 99)),
        ("half", lambda: only[: len(only) // 2]), ("no list at its end", lambda: only[:-22]),
        ("a name that leads out", lambda: packed(
            [("top/recordings/../../../../evil.wav", b"x"), *inside[1:]])),
        ("an absolute name", lambda: packed([("/tmp/recordings/0_theo_0.wav", b"x"), *inside[1:]])),
        ("a name with backslashes", lambda: packed(
            [("top/recordings/..\\..\\evil.wav", b"x"), *inside[1:]])),
        ("another letter case", lambda: packed(
            [("top/recordings/0_THEO_0.wav", inside[0][1]), *inside[1:]])),
        ("another form of Unicode", lambda: packed(
            [("top/recordings/0_théo_0.wav", inside[0][1]), *inside[1:]])),
        ("a folder deeper", lambda: packed([(f"top/{n}", d) for n, d in inside])),
        ("a newline in a name", lambda: packed([*inside, ("top/recordings/a\nb.wav", b"x")])),
    ]:  # fmt: skip
        yield fault(what, archive)
    for drawn in [rng.random() for _ in range(8)]:
        yield fault(f"a flipped bit at {drawn:.4f}", lambda d=drawn: flipped(only, d), "",
                    right=lambda there: there == all_there)  # fmt: skip
    for what, archive in [
        ("as it is published", lambda: whole), ("stored, not packed", lambda: packed(inside, 0)),
        ("something behind it", lambda: whole + b""),
        ("other folders in it", lambda: packed([*inside, ("top/recordings/", b""),
                                                ("top/code/recordings/x.wav", b"x")])),
    ]:  # fmt: skip
        yield fault(what, archive, "", right=lambda there: there == all_there)


# --- Full disks


def failing(after: int, act: Callable[[Path], object], number: int = 28) -> Callable:
    """Does something on a disk that is full (28), or broken (5), after so many files were opened
    for writing in the folder; then looks whether anything was left."""

    def run(folder: Path) -> object:
        left, real = [after], io.open

        def opened(file: object, mode: str = "r", *rest: object, **more: object) -> object:
            if "r" not in mode and str(folder) in str(file):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(number, os.strerror(number), str(file))
            return real(file, mode, *rest, **more)

        before = sorted(folder.rglob("*"))
        with mock.patch("builtins.open", opened), mock.patch("io.open", opened):
            try:
                return act(folder)
            finally:
                new = [p.name for p in sorted(folder.rglob("*")) if p not in before]
                assert not new or left[0] >= 0, f"it left {new}"

    return run


@functools.cache
def few_cards() -> list[postcards.Card]:
    return [postcards.with_clip(card, 1) for card in postcards.draw(2, seed=5)]


def built(folder: Path) -> object:
    with contextlib.redirect_stderr(io.StringIO()):
        postcards.build(folder / "new", few_cards())
    there = folder / "new"
    return sorted(p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file())


CARD_FILES = ["captions.txt", "cards.csv", "clips/fresh_0000.webp", "clips/fresh_0001.webp",
              "images/fresh_0000.png", "images/fresh_0001.png"]  # fmt: skip


def sampled(folder: Path) -> object:
    """Writes the sample of digits into a folder, from a little MNIST and few recordings."""
    import torch

    images = torch.zeros(1200, 1, 28, 28)
    read = images, torch.arange(10).repeat_interleave(120)
    sounds = [torch.full((2000,), 0.1)] * 3
    spoken = datasets.SpokenDigits(["0_a_0", "1_a_5", "2_a_11"], sounds, torch.arange(3), ["a"] * 3)
    with (
        mock.patch.object(datasets, "load_mnist", return_value=read),
        mock.patch.object(datasets, "load_spoken_digits", return_value=spoken),
    ):
        datasets.write_digit_sample(folder / "sample")
    return sorted(path.name for path in (folder / "sample").iterdir())


def disks() -> Iterator[Fault]:
    kind = "data sets written"
    for number, what in ((28, "full"), (5, "broken"), (30, "read-only")):
        for after in range(6):
            yield Fault(kind, f"postcards on a disk that is {what} after {after} files",
                        failing(after, built, number), ("new",))  # fmt: skip
    for after in range(3):
        yield Fault(kind, f"the sample on a disk that is full after {after} files",
                    failing(after, sampled), ("sample",),
                    lambda f: (f / "sample").mkdir())  # fmt: skip
        yield Fault(kind, f"words on a disk that is full after {after} files",
                    failing(0, lambda f: preprocessing.Vocabulary(
                        preprocessing.SPECIAL_WORDS).save(f / "words.json")), ("words.json",),
                    lambda f: (f / "words.json").write_text("old"))  # fmt: skip
    for what, make in [
        ("a folder with something in it", lambda p: (p.mkdir(), (p / "mine").write_text("mine"))),
        ("a file", lambda p: p.write_text("mine")),
        ("a link to a folder", lambda p: (p.with_name("real").mkdir(),
                                          p.symlink_to(p.with_name("real")))),
        ("a link to nowhere", lambda p: p.symlink_to(p.with_name("nowhere"))),
    ]:  # fmt: skip
        yield Fault(kind, f"postcards where {what} is", built, ("new",),
                    lambda f, m=make: m(f / "new"))  # fmt: skip
    yield Fault(kind, "postcards where nobody can write",
                lambda _: postcards.build("/proc/new", few_cards()), ("/proc/new",))  # fmt: skip
    yield Fault(kind, "postcards below a file", lambda f: postcards.build(
        f / "notes.txt" / "new", few_cards()), ("notes.txt",))  # fmt: skip
    for name in ("written.webp", "spoken.csv", "spoken.ogg"):
        yield Fault(kind, f"the sample where a folder is named {name}", sampled, (name,),
                    lambda f, n=name: (f / "sample" / n).mkdir(parents=True))  # fmt: skip
    yield Fault(kind, "the sample where a file is", sampled, ("sample",),
                lambda f: (f / "sample").write_text("mine"))  # fmt: skip
    yield Fault(kind, "postcards without a speech synthesizer", silent, ("espeak-ng",))
    right = lambda there: there == CARD_FILES  # noqa: E731
    yield Fault(kind, "postcards into a new folder", built, right=right)
    yield Fault(kind, "postcards into an empty folder", built, plant=lambda f: (f / "new").mkdir(),
                right=right)  # fmt: skip
    left = f".new-{beside._computer()}-{{}}-abc123"
    yield Fault(kind, "postcards where a run was killed", built, own=(r"\.new-.*",),
                plant=lambda f: (f / left.format(dead()) / "new").mkdir(parents=True),
                right=lambda there: there == CARD_FILES)  # fmt: skip
    yield Fault(kind, "the sample over an old one", sampled, own=("sample/spoken.csv",),
                plant=lambda f: ((f / "sample").mkdir(),
                                 (f / "sample" / "spoken.csv").write_text("old")),
                right=lambda names: names == ["spoken.csv", "spoken.ogg", "written.webp"],
                )  # fmt: skip


def silent(folder: Path) -> None:
    with mock.patch("shutil.which", return_value=None):
        postcards.build(folder / "new", [postcards.with_voice(card, 1) for card in few_cards()])


# --- What others put there


def caches() -> Iterator[Fault]:
    def cut(folder: Path) -> list[str]:
        """Cuts Chinese, where somebody has put a file of jieba's into the folder for temporary
        files."""
        preprocessing._jieba.cache_clear()
        read, real = [], io.open

        def opened(file: object, *rest: object, **more: object) -> object:
            read.append(str(file))
            return real(file, *rest, **more)

        with (
            mock.patch("tempfile.gettempdir", return_value=str(folder)),
            mock.patch("tempfile.tempdir", str(folder)),
            mock.patch("builtins.open", opened),
        ):
            words = preprocessing.segment("研究生命的起源", "zh")
        assert not [one for one in read if "jieba.cache" in one], "it read the planted file"
        return words

    yield Fault("what others put there", "jieba's file in the folder for temporary files", cut,
                plant=lambda f: (f / "jieba.cache").write_bytes(b"\xe9evil"),
                right=lambda words: words == ["研究", "生命", "的", "起源"])  # fmt: skip

    def opens(_: Path) -> set[str]:
        """The kinds that Pillow may open for the course."""
        return set(preprocessing.picture_kinds())

    yield Fault("what others put there", "kinds of pictures that start programs", opens,
                right=lambda kinds: not kinds & {"EPS", "WMF", "FITS", "IPTC", "PDF", "GRIB"},
                )  # fmt: skip

    def unnamed(_: Path) -> list[str]:
        """Where the course opens a picture without naming the kinds."""
        lines = [(path.name, line) for path in place.PACKAGE.rglob("*.py")
                 for line in path.read_text(encoding="utf-8").split("\n")]  # fmt: skip
        return [f"{name}: {line.strip()}" for name, line in lines
                if "Image.open(" in line and "formats=" not in line and "BytesIO" not in line
                ]  # fmt: skip

    yield Fault("what others put there", "a picture that is opened as any kind", unnamed,
                right=lambda found: found == [])  # fmt: skip
