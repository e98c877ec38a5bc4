"""Real data sets for lesson 12: where they lie, and how they are fetched and verified.

A data set lies in a folder of its own, in the layout in which its publisher gives it out, under
`home()`. What lies there already is used as it is; only what was downloaded is verified.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pooch
import requests

from mbm_lab import beside, place, rows

RECORDINGS = Path(__file__).with_name("fsdd.sha256.gz")
"""The SHA-256 of each of the 3,000 published recordings, as `sha256sum` writes them."""

STALLED = 30.0
"""Seconds without a single byte after which a server is given up."""
MARGIN = 2
"""A file of more than twice the megabytes of its whole data set is not the published one."""
LONGEST_RECORDING = 1_000_000
"""Bytes of an entry that are unpacked; the longest published recording has 36,568."""


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    hashes: for each file its published hash, as pooch writes it ("md5:…"); empty where the data set
    comes as one archive, or where no hash is known.
    """

    what: str
    licence: str
    source: str
    megabytes: int
    address: str = ""
    hashes: dict[str, str] = field(default_factory=dict)


DATA_SETS = {
    "mnist": DataSet(
        what="70,000 handwritten digits, 28 × 28 pixels",
        licence="CC BY-SA 3.0",
        source="Yann LeCun, Corinna Cortes and Christopher Burges (1998)",
        megabytes=12,
        address="https://ossci-datasets.s3.amazonaws.com/mnist/",
        hashes={
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fsdd": DataSet(
        what="3,000 spoken digits, 6 speakers",
        licence="CC BY-SA 4.0",
        source="Zohar Jackson and others, Free Spoken Digit Dataset",
        megabytes=20,
        address="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
        "26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip",
    ),
    "multi30k": DataSet(
        what="29,000 image descriptions, English and German",
        licence="for research only",
        source="Desmond Elliott and others (2016)",
        megabytes=2,
        address="https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
        hashes={
            "train.en.gz": "sha256:"
            "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
            "train.de.gz": "sha256:"
            "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
            "val.en.gz": "sha256:14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
            "val.de.gz": "sha256:f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
            "test_2016_flickr.en.gz": "sha256:"
            "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
            "test_2016_flickr.de.gz": "sha256:"
            "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        },
    ),
    "flickr8k": DataSet(
        what="8,091 photographs with five captions each",
        licence="for research only, not to be passed on",
        source="Micah Hodosh, Peter Young and Julia Hockenmaier (2013)",
        megabytes=1100,
    ),
}


FLICKR8K_CAPTIONS = ("captions.txt", "Flickr8k.token.txt")
"""The file of captions: as it is often passed on, and as in the authors' own package."""


def home() -> Path:
    """The folder that holds the data sets: MBM_DATA_HOME (as `place.named` reads it), or the user's
    cache directory.

    Raises ValueError when that is a file, or not a whole path.
    """
    folder = place.named("MBM_DATA_HOME") or Path(pooch.os_cache("mbm-lab"))
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is no folder: let MBM_DATA_HOME name a folder for data sets.")
    return folder


def data_set(name: str) -> DataSet:
    """The data set of this name. Raises ValueError for an unknown one."""
    if name not in DATA_SETS:
        there = ", ".join(DATA_SETS)
        raise ValueError(f'There is no data set "{rows.shown(name)}": choose one of {there}.')
    return DATA_SETS[name]


def find(name: str) -> Path | None:
    """The folder of a data set that lies in `home()`, or None. Raises ValueError as `data_set`."""
    known = data_set(name)
    if name == "flickr8k":  # a part of the photographs will do
        folders = [home() / "flickr8k", home() / "flickr8k-sample"]
        whole = (f for f in folders if any((f / one).is_file() for one in FLICKR8K_CAPTIONS))
        return next(whole, None)
    folder = home() / name
    if name == "fsdd":
        here = any((folder / "recordings").glob("*.wav"))
    else:
        here = all((folder / file).is_file() for file in known.hashes)
    return folder if here else None


def how_to_get(name: str) -> str:
    """One sentence: what to do to have this data set."""
    known = data_set(name)
    if known.address:
        return f"type `mbm-lab data get {name}` in a terminal ({known.megabytes} MB)"
    return (
        "ask its authors for it (University of Illinois, Flickr8k), and unpack it so that the "
        f"folder Images and the file captions.txt lie in {home() / name}; or the folder "
        "Flicker8k_Dataset and the file Flickr8k.token.txt, as they come"
    )


def path(name: str) -> Path:
    """The folder of a data set. Raises FileNotFoundError, with what to do, when it is not here."""
    folder = find(name)
    if folder is None:
        raise FileNotFoundError(f"The data set {name} is not here: {how_to_get(name)}.")
    return folder


def overview() -> str:
    """A table of all data sets: name, what it is, licence, size, and where it lies."""
    rows = [("name", "what", "licence", "size", "where")]
    for name, known in DATA_SETS.items():
        where = str(find(name) or "not here")
        rows.append((name, known.what, known.licence, f"{known.megabytes:,} MB", where))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    return "\n".join([*lines, "", f"Data sets lie in {home()}; MBM_DATA_HOME names another place."])


# --- Fetching


def get(name: str, agree: Callable[[str], bool]) -> Path:
    """Fetches a data set into `home()` and returns its folder; what is there is left as it is.

    agree: is shown the licence, and says whether the user agrees to it. A data set arrives whole or
    not at all: files are fetched and verified in a folder beside, and then moved.

    Raises ValueError when the user does not agree, when a file is not the published one, and for a
    data set that no program may fetch; OSError when the server cannot be reached or stops sending,
    and when the folder cannot be written.
    """
    known = data_set(name)
    folder = find(name)
    if folder is not None:
        beside.remove_remains(home() / name)
        return folder
    if not known.address:
        raise ValueError(f"No program may fetch {name}: {how_to_get(name)}.")
    terms = f"{name}: {known.what}.\nFrom: {known.source}.\nLicence: {known.licence}."
    if not agree(terms):
        raise ValueError(f"{name} was not fetched, because you did not agree to its licence: type "
                         "yes (or add --agree), if you do.")  # fmt: skip
    folder = home() / name
    _check_way(folder)
    most = MARGIN * known.megabytes * 1_000_000
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with beside.folder(folder) as fetched:
            if known.hashes:
                for file, published in known.hashes.items():
                    if not (folder / file).is_file():
                        _fetch(known.address + file, fetched / file, published, folder, most)
            else:
                archive = fetched / "archive.zip"
                _fetch(known.address, archive, None, folder, most)
                _unpack_recordings(archive, fetched)
            made = not folder.exists()
            folder.mkdir(exist_ok=True)
            try:
                for file in fetched.iterdir():
                    os.replace(file, folder / file.name)
            except OSError:
                if made:
                    with contextlib.suppress(OSError):  # some files are there already
                        folder.rmdir()
                raise
    except OSError as error:
        if error.errno is None:  # a download's own sentence
            raise
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): make room in {home()} and make it "
            "writable, or name another folder in MBM_DATA_HOME."
        ) from None
    return folder


def _check_way(folder: Path) -> None:
    """Raises ValueError when something else is where a data set is to lie."""
    recordings = folder / "recordings"
    for there in (folder, recordings):
        if os.path.lexists(there) and not there.is_dir():
            raise ValueError(f"{there} is no folder: move it away, and then try again.")
    if recordings.is_dir() and any(recordings.iterdir()):
        raise ValueError(
            f"{recordings} holds no recordings but other things: move it away, and then try again."
        )


class _TooMuchError(Exception):
    """A server sends more than there can be."""


class _Bounded:
    """A file that is written no further than `most` bytes."""

    def __init__(self, file: BinaryIO, most: int):
        self.file, self.left = file, most

    def write(self, piece: bytes) -> None:
        self.left -= len(piece)
        if self.left < 0:
            raise _TooMuchError
        self.file.write(piece)

    def flush(self) -> None:
        self.file.flush()


def _fetch(address: str, file: Path, published: str | None, folder: Path, most: int) -> None:
    """Downloads one file of at most so many bytes and verifies it; on any failure nothing is left.
    """
    by_hand = f"or download it with a browser into {folder}"
    if published is None:
        by_hand = f"or download and unpack it so that its folder recordings lies in {folder}"
    over_http = pooch.HTTPDownloader(progressbar=True, timeout=STALLED)

    def load(url: str, output: str, _: object) -> None:
        with open(output, "wb") as whole:
            over_http(url, _Bounded(whole, most), None)

    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(address, published, file.name, file.parent, downloader=load)
    except requests.HTTPError as error:
        raise OSError(
            f"{address} cannot be had: the server answered {error.response.status_code}. "
            f"Try again later, {by_hand}."
        ) from None
    except requests.RequestException:
        raise OSError(
            f"{address} could not be fetched whole: there is no connection, or the server stopped "
            f"sending. Nothing is left of it. Try again, {by_hand}."
        ) from None
    except _TooMuchError:
        raise ValueError(
            f"{address} sends more than {most // 1_000_000} MB, which is not the published file, "
            f"and was given up. Nothing is left of it. Try again later, {by_hand}."
        ) from None
    except ValueError:  # pooch: the hash is another
        raise ValueError(
            f"What {address} sent is not the published file (its hash differs), and was thrown "
            f"away. Try again, {by_hand}."
        ) from None


def _unpack_recordings(archive: Path, folder: Path) -> None:
    """Takes the published recordings out of an archive, verifies each of them, and throws the
    archive away. Nothing else of it is unpacked, and of no entry more than a recording can have.

    Raises ValueError when it is no whole archive, and when a recording is missing, changed, there
    twice, or one too many.
    """
    lines = gzip.decompress(RECORDINGS.read_bytes()).decode().splitlines()
    published = dict(reversed(line.split("  ")) for line in lines)  # name: SHA-256
    target = folder / "recordings"
    target.mkdir()
    wrong, found = set(), set()
    for name, data in _recordings(archive, published):
        if name in found or hashlib.sha256(data).hexdigest() != published.get(name):
            wrong.add(name)
        else:
            (target / name).write_bytes(data)
        found.add(name)
    archive.unlink()
    if wrong := sorted(wrong | (published.keys() - found)):
        raise ValueError(
            f"{len(wrong):,} of {len(published):,} recordings are missing or not the published "
            f"ones, the first is {rows.shown(wrong[0])}; all were thrown away. Try again."
        )


def _recordings(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The recordings in a zip archive, one after the other: name, and what it holds, cut off behind
    LONGEST_RECORDING, and nothing of those that are not wanted or come again. Raises ValueError
    when it is no whole archive."""
    seen = set()
    try:
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                inside = re.fullmatch(r"[^/]+/recordings/([^/\\]+\.wav)", entry.filename)
                if not inside:
                    continue
                data, name = b"", inside[1]
                if name in wanted and name not in seen:
                    with packed.open(entry) as file:
                        data = file.read(LONGEST_RECORDING)
                seen.add(name)
                yield name, data
    except (
        zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, OSError, ValueError,
        NotImplementedError, RuntimeError,  # a compression that is not known; encrypted
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"What the server sent for the recordings is not a whole zip archive ({reason}), and "
            "was thrown away. Try again."
        ) from None
