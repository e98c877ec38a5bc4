"""Albums: pictures with captions, in a folder of one's own or of a published data set (lesson 12).

The first part reads a folder and finds what is wrong in it; the second loads it; the third is
Flickr8k.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mbm_lab import arguments, atomic, datasets, downloads, preprocessing, rows, tables

# --- A folder of pictures and captions


class Problem(NamedTuple):
    """What is wrong in a learner's folder, and where: a file, and a line of it (or None).

    kind: "missing", "unreadable" (a picture), "outside" (a name that leads out of the folder),
    "empty" (a caption without a word), "long" (a caption), "duplicate", "encoding", "form" (of a
    line) or "too few".
    """

    file: str
    line: int | None
    kind: str
    what: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.what}."


class Pair(NamedTuple):
    """A picture's file name and a caption, where the file is, and the line that holds them (None
    where a file has no lines)."""

    line: int | None
    image: str
    caption: str
    path: Path


class Found(NamedTuple):
    """What a folder holds. A pair that is there twice is in both lists: it does no harm."""

    file: str  # the name of the file of captions
    pairs: list[Pair]
    problems: list[Problem]
    layout: str  # in words: "captions.txt, CSV with semicolons, UTF-16; pictures in images"
    unnamed: list[str]  # pictures that no line names


CAPTION_FILES = ("captions.txt", "captions.csv", "captions.jsonl")
"""The usual names of a file of captions; the first that is there is read."""

OTHER_CAPTION_FILES = re.compile(
    r"(image)?[ _-]?captions?([ _.-].*)?|results(_\d+)?\.(csv|token)|.*\.token(\.txt)?|"
    r"dataset(_.*)?\.json|(metadata|labels|annotations)\.(csv|tsv|jsonl?)",
    re.I,
)
"""Other names: captions.txt.txt, Captions.TSV, Flickr8k.token.txt, results.csv (Flickr30k),
dataset_coco.json (Karpathy), captions_val2017.json (COCO) …"""

TABLE_NAME = re.compile(r"(?!readme|licen[cs]e).*\.(csv|tsv|jsonl|ndjson)", re.I)
"""A file of rows of any other name, which is read where it is the only one."""

PICTURE_FOLDERS = ("images", "flicker8k_dataset", "flickr8k_dataset", "flickr30k_images",
                   "flickr30k-images", "train2014", "val2014", "train2017", "val2017")  # fmt: skip
"""Folders of pictures, in small letters. Without one, the pictures are beside the captions."""

IMAGE_COLUMNS = (
    "image image_name file_name filename file images picture photo path image_path bild bilddatei "
    "dateiname datei foto fichier image imagen archivo immagine 图片 图像 文件名"
).split()
CAPTION_COLUMNS = (
    "caption captions comment text sentence sentences description bildunterschrift beschreibung "
    "legende légende texte descripción didascalia 标题 描述 说明 文字"
).split()
"""What the two columns are called, whatever their large letters, spaces and lines."""

PICTURE_NAME = re.compile(
    r".+\.(jpe?g|jfif|png|gif|webp|bmp|tiff?|avif|heic|jp2|svg)(\.\d)?(#\d+)?\s*", re.I | re.S
)
"""A picture's file name, also with the number of its caption as in Flickr8k (name.jpg#0)."""

FEWEST_PAIRS = 10
"""With fewer pairs of pictures and captions there is nothing to learn from."""

MOST_WORDS = 200
"""Words of the longest caption: all captions are filled up to the length of the longest."""


def _folder_files(folder: Path) -> tuple[Path, Path]:
    """The file of captions and the folder of pictures.

    Raises FileNotFoundError without them, ValueError when they are not in the folder, or the folder
    is none, PermissionError when they may not be read.
    """
    name = rows.in_full(folder)
    if folder.is_file():
        raise ValueError(f"{name} is a file: name the folder that holds it.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {name}: check the name.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise rows.forbidden(folder)
    if found := _flickr8k_files(folder):
        return found
    names = sorted(os.listdir(folder))
    usual = [folder / name for name in CAPTION_FILES]
    other = sorted(
        (p for where in (folder, folder / "annotations") if where.is_dir()
         for p in where.iterdir() if OTHER_CAPTION_FILES.fullmatch(p.name)),
        key=lambda one: (".lemma." in one.name, one),  # whose words have lost their endings
    )  # fmt: skip
    any_rows = [folder / name for name in names if TABLE_NAME.fullmatch(name)]
    found = [*usual, *other, *(any_rows if len(any_rows) == 1 else [])]
    captions = next((path for path in found if path.is_file()), None)
    if captions is None:
        raise FileNotFoundError(
            f"There is no captions.txt in {rows.in_full(folder)}: write one line for each caption, "
            'below the line "image,caption".'
        )
    images = next((folder / name for name in ("images", "Images") if name in names), None)
    for name in names:
        if images is None and name.lower() in PICTURE_FOLDERS and (folder / name).is_dir():
            images = folder / name
    if images is None and any(PICTURE_NAME.fullmatch(name) for name in names):
        images = folder
    if images is None or not images.is_dir():
        raise FileNotFoundError(
            f"{rows.in_full(folder)} needs a folder `images` beside {captions.name}: put the "
            "pictures into one."
        )
    home = Path(os.path.realpath(folder))
    for one in (captions, images):
        if not Path(os.path.realpath(one)).is_relative_to(home):
            raise ValueError(
                f"{one} is a link that leads out of {folder}, and is not read: put what it points "
                "to into the folder."
            )
    if not os.access(images, os.R_OK | os.X_OK):
        raise rows.forbidden(images)
    return captions, images


def _flickr8k_files(folder: Path) -> tuple[Path, Path] | None:
    """The captions and the photographs of Flickr8k's own package, if the folder holds it: its
    archives may be unpacked beside one another, or each into a folder of its own."""
    captions = [one for depth in ("", "*/") for one in folder.glob(f"{depth}Flickr8k.token.txt")]
    folders = [
        one
        for depth in ("", "*/")
        for one in sorted(folder.glob(f"{depth}[Ff]lick[re]*8k_[Dd]ataset"))
        if one.is_dir() and any(one.glob("*.jpg"))
    ]
    home = Path(os.path.realpath(folder))
    for one in (*captions[:1], *folders[:1]):
        if not Path(os.path.realpath(one)).is_relative_to(home):
            return None
    return (captions[0], folders[0]) if captions and folders else None


class _Entry(NamedTuple):
    """An image's name and a caption as they are written, and where: a line, or words."""

    line: int | None
    image: str
    caption: str
    place: str = ""


def _entries(path: Path) -> tuple[list[_Entry], list[Problem], str]:
    """What a file of captions says, what is wrong with its other lines, and its layout in words.

    Raises ValueError when the file as a whole cannot be read.
    """
    text, encoding = rows.decode(path)
    if text.lstrip().startswith("{"):
        whole = rows.json_value(text)
        if twice := rows.name_twice(text) if whole is None else None:
            raise ValueError(
                f"{rows.in_full(path)} says {rows.shown(twice)} twice: give it once, with a list "
                "of its captions."
            )
        for read, layout in ((_coco, "the JSON of COCO"), (_karpathy, "the JSON of Karpathy"),
                             (_by_name, "JSON, captions by name")):  # fmt: skip
            if isinstance(whole, dict) and (found := read(path, whole)) is not None:
                return *found, f"{layout}, {encoding}"
    table = rows.parse(path, text, encoding)
    layout = table.layout
    if any(PICTURE_NAME.fullmatch(column) for column in table.columns):  # the first line is a row
        names = [f"column {number}" for number in range(1, len(table.columns) + 1)]
        table = rows.parse(path, text, encoding, names)
        layout += ", without a head"
    image, caption = _columns(path, table)
    problems = [Problem(path.name, *fault) for fault in table.problems]
    entries = []
    for row in table.rows:
        captions = row.several.get(caption) or [row.values[caption]]
        entries += [_Entry(row.line, row.values[image], one) for one in captions]
    return entries, problems, layout


def _columns(path: Path, table: rows.Rows) -> tuple[str, str]:
    """The columns of pictures and captions, by their names, or else by what they hold. Raises
    ValueError when they cannot be told."""
    image, caption = table.column(*IMAGE_COLUMNS), table.column(*CAPTION_COLUMNS)
    first = table.rows[:50]
    if image is None:
        for column in table.columns:
            named = sum(bool(PICTURE_NAME.fullmatch(row.values[column])) for row in first)
            if column != caption and named > len(first) / 2:
                image = image or column
    others = [column for column in table.columns
              if column != image and not _is_numbers(first, column)]  # fmt: skip
    if caption is None and len(others) == 1:
        (caption,) = others
    if image is None or caption is None or image == caption:
        names = rows.shown(_start(table))
        needs = f'must begin with the line "image,caption"; it begins with "{names}"'
        if "JSON" in table.layout:
            needs = f'needs "image" and "caption" in each of its objects; it has "{names}"'
        raise ValueError(
            f"{rows.in_full(path)} {needs} (it was read as {table.layout}): name the columns so."
        )
    return image, caption


def _is_numbers(first: Sequence[rows.Row], column: str) -> bool:
    """Whether a column holds whole numbers alone, as that of the captions' numbers does."""
    return bool(first) and all(re.fullmatch(r"\s*\d+\s*", row.values[column]) for row in first)


def _start(table: rows.Rows) -> str:
    sign = {words: sign for sign, words in rows.DELIMITERS.items()}
    words = table.layout.removeprefix("CSV with ").split(", ")[0]
    return sign.get(words, ", ").join(table.columns)


_Read = tuple[list[_Entry], list[Problem]]


def _coco(path: Path, whole: dict) -> _Read | None:
    """COCO's captions_*.json: images with numbers, and annotations that name these."""
    images, annotations = whole.get("images"), whole.get("annotations")
    if not (isinstance(images, list) and isinstance(annotations, list)):
        return None
    names = {
        str(image.get("id")): image.get("file_name")
        for image in images
        if isinstance(image, dict) and isinstance(image.get("file_name"), str)
    }
    entries, problems = [], []
    for number, one in enumerate(annotations, 1):
        place = f"annotation {number}"
        caption = one.get("caption") if isinstance(one, dict) else None
        name = names.get(str(one.get("image_id"))) if isinstance(one, dict) else None
        if name is None or not isinstance(caption, str):
            what = f"{place} has no caption, or no image_id that one of the images has: add it"
            problems.append(Problem(path.name, None, "form", what))
        else:
            entries.append(_Entry(None, name, caption, place))
    return entries, problems


def _karpathy(path: Path, whole: dict) -> _Read | None:
    """Karpathy's dataset_*.json: images with their sentences."""
    images = whole.get("images")
    if not isinstance(images, list) or "annotations" in whole:
        return None
    entries, problems = [], []
    for number, one in enumerate(images, 1):
        place = f"image {number}"
        name = one.get("filename", one.get("file_name")) if isinstance(one, dict) else None
        within = one.get("filepath") if isinstance(one, dict) else None
        if isinstance(name, str) and isinstance(within, str) and (path.parent / within).is_dir():
            name = f"{within}/{name}"
        sentences = one.get("sentences") if isinstance(one, dict) else None
        sentences = sentences if isinstance(sentences, list) else [None]
        raw = [one.get("raw") if isinstance(one, dict) else one for one in sentences]
        if isinstance(name, str) and all(isinstance(caption, str) for caption in raw):
            entries += [_Entry(None, name, caption, place) for caption in raw]
        else:
            what = f'{place} has no filename, or no sentences with "raw" text: add them'
            problems.append(Problem(path.name, None, "form", what))
    return entries, problems


def _by_name(path: Path, whole: dict) -> _Read | None:
    """{"a.png": "a caption", "b.png": ["one", "another"]}."""
    if not whole or not any(PICTURE_NAME.fullmatch(name) for name in whole):
        return None
    entries, problems = [], []
    for name, value in whole.items():
        captions = value if isinstance(value, list) else [value]
        if all(isinstance(caption, str) for caption in captions):
            entries += [_Entry(None, name, caption, f"the entry {name}") for caption in captions]
        else:
            what = f"the entry {rows.shown(name)} holds no text, and no list of texts: write one"
            problems.append(Problem(path.name, None, "form", what))
    return entries, problems


def _scan(folder: Path) -> Found:
    """The pairs of a folder that are well, what is wrong with the other lines, and the layout."""
    path, images = _folder_files(folder)
    entries, problems, layout = _entries(path)
    if not entries and not problems:
        raise ValueError(f"{rows.in_full(path)} holds no caption: write one line for each.")
    located: dict[str, Path | tuple[str, str]] = {}
    pairs, first_place = [], {}
    present = set(os.listdir(images))
    for line, image, caption, place in entries:
        bare = image if image in present else re.sub(r"#\d+\s*$", "", image)
        if bare.endswith(".jpg.1") and path.name == "Flickr8k.token.txt":
            continue  # the captions of one photograph that its authors never gave
        if bare not in located:
            located[bare] = _locate(folder, images, bare)
        found = located[bare]
        name = rows.shown(image)
        kind = what = None
        if not isinstance(found, Path):
            kind, what = found
            if not image.strip():
                kind, what = "form", "this line names no image: write its name, or delete the line"
        elif not caption.strip():
            kind, what = "empty", f"the caption of {name} is empty: write it, or delete the line"
        elif not preprocessing.has_word(caption):
            kind = "empty"
            what = f"the caption of {name} holds no word: write one, or delete the line"
        elif _words(caption) > MOST_WORDS:
            kind = "long"
            what = f"the caption of {name} is too long: shorten it to {MOST_WORDS} words"
        if what is not None:
            if place:
                fault, _, cure = what.rpartition(": ")
                what = f"{fault} ({place}): {cure}"
            problems.append(Problem(path.name, line, kind, what))
            continue
        said = (found, caption.strip())
        if said in first_place:
            what = f"{name} has the same caption as in {first_place[said]}: delete one of them"
            problems.append(Problem(path.name, line, "duplicate", what))
        first_place.setdefault(said, place or f"line {line}")
        base = images if found.is_relative_to(images) else folder
        pairs.append(Pair(line, found.relative_to(base).as_posix(), caption, found))
    problems.sort(key=lambda problem: problem.line or 0)
    used = {one.name for one in located.values() if isinstance(one, Path) and one.parent == images}
    unnamed = sorted(name for name in present - used if PICTURE_NAME.fullmatch(name))
    return Found(path.name, pairs, problems, _in_words(path, layout, images, folder), unnamed)


def _in_words(path: Path, layout: str, images: Path, folder: Path) -> str:
    where = "beside it" if images == folder else f"in {images.name}"
    return f"{path.name}, {layout}; pictures {where}"


def _words(caption: str) -> int:
    """About how many words a caption has: without spaces, a Chinese character or ten others are
    one."""
    return max(len(caption.split()) + len(preprocessing.CHINESE.findall(caption)),
               len(caption) // 10)  # fmt: skip


def _locate(folder: Path, images: Path, name: str) -> Path | tuple[str, str]:
    """The picture of this name; or, if there is none to read, the kind of the problem and what it
    is."""
    try:
        return rows.inside(images, name, "image")
    except FileNotFoundError as error:
        fault = "missing", str(error)
    except ValueError as error:
        return "outside", str(error)
    try:  # "images/a.png"
        return rows.inside(folder, name, "image") if re.search(r"[/\\]", name) else fault
    except FileNotFoundError:
        return fault
    except ValueError as error:
        return "outside", str(error)


def read_captions(folder: str | Path) -> list[tuple[str, str]]:
    """Reads a folder of pictures and captions: a folder `images`, and beside it a file of captions.

    The usual layout is that of the widely used Flickr8k download, captions.txt, CSV with the
    columns image and caption. Everything that `rows.read` knows will do (semicolons, tabs, JSON
    Lines, UTF-16 …), with other names of the columns, or without a head; Flickr8k's own token.txt,
    Flickr30k's results.csv, the JSON files of Karpathy and COCO; a list of captions a line in JSON;
    and pictures beside the file.

    Returns (file name, caption) pairs in the file's order; an image may have several captions.

    Raises FileNotFoundError when the file of captions, the folder or an image is missing;
    ValueError for everything else that `check_folder` calls a problem, but "duplicate" and "too
    few", which do no harm here, and "unreadable", since no picture is opened. Only the first
    problem is told; `check_folder` tells all of them.
    """
    return [(pair.image, pair.caption) for pair in _well(folder).pairs]


def _well(folder: str | Path, harmless: tuple[str, ...] = ("duplicate",)) -> Found:
    """What a folder holds, if nothing is wrong. harmless: kinds of problems that are passed over.
    Raises as `read_captions`."""
    found = _scan(rows.named(folder, "folder"))
    for problem in found.problems:
        if problem.kind not in harmless:
            raise _error(folder, problem)
    return found


def _error(folder: str | Path, problem: Problem) -> Exception:
    kind = FileNotFoundError if problem.kind == "missing" else ValueError
    return kind(f"In {rows.in_full(folder)}, {problem}")


def _picture(file: str, pair: Pair, size: int) -> Tensor | Problem:
    """The picture of a pair, (3, size, size), or why it cannot be read."""
    try:
        return preprocessing.load_image(pair.path, size)
    except FileNotFoundError:
        what = f"the image {rows.shown(pair.image)} has gone: put it there again"
        return Problem(file, pair.line, "missing", what)
    except preprocessing.UnreadableError as error:
        why = error.why
        why = why.replace("is not a readable image", "cannot be read")
        if why.startswith("cannot be read ("):
            why = "cannot be read (empty, cut off, or no picture): put a whole one there"
        return Problem(file, pair.line, "unreadable", f"the picture {rows.shown(pair.image)} {why}")


def check_folder(folder: str | Path) -> list[Problem]:
    """Everything that is wrong in a folder of pictures and captions; empty when all is well.

    Every line of the captions is looked at, and every picture that they name is opened. What is
    well here can be loaded, searched and trained with; what is not is refused by `load_album`,
    except for problems of the kinds "duplicate" and "too few". Raises FileNotFoundError,
    PermissionError and ValueError when the file of captions as a whole is missing or unreadable.
    """
    file, pairs, problems, *_ = _scan(rows.named(folder, "folder"))
    unreadable = set()
    for pair in {pair.path: pair for pair in reversed(pairs)}.values():  # each picture once
        if isinstance(problem := _picture(file, pair, preprocessing.IMAGE_SIZE), Problem):
            unreadable.add(pair.path)
            problems.append(problem)
    count = len({(p.path, p.caption.strip()) for p in pairs if p.path not in unreadable})
    problems.sort(key=lambda problem: problem.line or 0)
    if count < FEWEST_PAIRS:
        what = f"only {count} pairs are well, and a model needs at least {FEWEST_PAIRS}: add some"
        problems.append(Problem(file, None, "too few", what))
    return problems


def layout(folder: str | Path) -> str:
    """How a folder of pictures and captions is laid out, in words: "captions.txt, CSV with
    semicolons, UTF-16; pictures in images". Raises as `check_folder`."""
    folder = rows.named(folder, "folder")
    path, images = _folder_files(folder)
    return _in_words(path, _entries(path)[2], images, folder)


def unnamed(folder: str | Path) -> list[str]:
    """The files of pictures that no line of the captions names: they do no harm, and nobody sees
    them. Raises as `check_folder`."""
    return _scan(rows.named(folder, "folder")).unnamed


# --- An album


@dataclass(frozen=True)
class Album:
    """N pictures, each with one or more captions."""

    names: list[str]  # the files' names
    images: Tensor  # (N, 3, 64, 64) float32 in [0, 1]
    captions: list[list[str]]  # those of each picture
    layout: str = ""  # how its folder was laid out, in words

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | Tensor) -> Album:
        """The pictures at these indices, in this order. Raises TypeError or ValueError when these
        are no whole numbers, or no such pictures are here."""
        places = tables.places(indices, len(self), "pictures")
        return Album(
            [self.names[i] for i in places.tolist()],
            self.images[places],
            [self.captions[i] for i in places.tolist()],
            self.layout,
        )

    def __getitem__(self, which: slice) -> Album:
        try:
            return self.subset(range(*which.indices(len(self))))
        except (AttributeError, TypeError, ValueError):
            if isinstance(which, slice):
                said = f"{which.start}:{which.stop}:{which.step}"
            else:
                said = repr(which)
            raise TypeError(
                f"album[{rows.shown(said)}] is no part of an album: write album[3:4] for the "
                "picture 3, or album[:10] for the first ten."
            ) from None

    def split(self, share: float = 0.8) -> tuple[Album, Album]:
        """The first pictures, this share of all, and the others. Raises ValueError when one part
        would be empty. Lesson 12."""
        if not (isinstance(share, (int, float)) and 0 < share < 1):
            raise ValueError(
                f"The share is {rows.shown(repr(share))}: give a number between 0 and 1, as in "
                "album.split(0.8)."
            )
        first = round(share * len(self))
        if first in (0, len(self)):
            raise ValueError(
                f"{share} of an album of {len(self)} leaves one part without a picture: load more "
                "pictures, or change the share."
            )
        return self[:first], self[first:]


def load_album(
    folder: str | Path, most: int | None = None, size: int = preprocessing.IMAGE_SIZE
) -> Album:
    """Loads a folder of pictures and captions: Flickr8k, or one's own, in any of the layouts that
    `read_captions` knows; one that is not the usual is printed.

    most: only so many pictures, the first. size: of the pictures, in pixels, up to MOST_SIZE.
    Raises as `read_captions`, and ValueError for a picture that cannot be read, and for numbers
    that are none.
    """
    return _loaded(folder, most, size, _well(folder))


MOST_SIZE = 4096
"""Height and width, in pixels, of the largest pictures that an album holds."""


def _loaded(folder: str | Path, most: int | None, size: int, found: Found) -> Album:
    if most is not None:
        arguments.check_count("most", most)
    arguments.check_count("size", size, most=MOST_SIZE)
    file, pairs, layout = found.file, found.pairs, found.layout
    usual = layout.replace("; pictures in Images", "; pictures in images")
    if usual != f"{file}, CSV with commas, UTF-8; pictures in images":
        print(f"{folder} was read as {layout}.")
    captions: dict[str, list[str]] = {}
    for pair in pairs:
        captions.setdefault(pair.image, []).append(pair.caption)
    firsts: dict[str, Pair] = {}
    for pair in pairs:
        firsts.setdefault(pair.image, pair)
    firsts = list(firsts.values())[:most]
    images = torch.empty(len(firsts), 3, size, size)
    for row, pair in zip(images, firsts, strict=True):
        picture = _picture(file, pair, size)
        if isinstance(picture, Problem):
            raise _error(folder, picture)
        row.copy_(picture)
    names = [pair.image for pair in firsts]
    return Album(names, images, [captions[name] for name in names], layout)


def example_album(count: int = 20, seed: int = 0) -> Path:
    """Writes `count` postcards and their captions into a new folder, as one of your own could be:
    pictures in `images`, beside it captions.txt."""
    cards = datasets.load_postcards("test", parts=()).cards
    chosen = random.Random(seed).sample(cards, count)
    lines = ["image,caption"]
    with atomic.new_folder("mbm-album-") as folder:
        (folder / "images").mkdir()
        for card in chosen:
            shutil.copy(datasets.POSTCARDS / "images" / f"{card.name}.png", folder / "images")
            lines.append(f'{card.name}.png,"{card.caption}"')
        (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


# --- Flickr8k


def load_flickr8k(
    most: int | None = None,
    root: str | Path | None = None,
    size: int = preprocessing.IMAGE_SIZE,
) -> Album:
    """Flickr8k (Hodosh et al., 2013): photographs with five captions each, as an album.

    Its authors' own package will do as it is (Flicker8k_Dataset and Flickr8k.token.txt), and so
    will a part of the 8,091 photographs: captions of others are passed over. most: only so many
    photographs, the first. root: the folder of the captions; `downloads.path` finds it. size: of
    the pictures, in pixels. Raises as `load_album`, but for photographs that are not here, and
    FileNotFoundError when the data set, or every photograph of it, is not here.
    """
    folder = root or downloads.path("flickr8k")
    found = _well(folder, harmless=("duplicate", "missing"))
    if not found.pairs:
        raise _error(folder, found.problems[0])
    return _loaded(folder, most, size, found)


def count_photographs() -> str:
    """One sentence on how much of Flickr8k is here. Its authors publish no hash, so nothing but
    numbers can be checked. Raises FileNotFoundError as `load_flickr8k`."""
    captions, images = _folder_files(downloads.path("flickr8k"))
    photographs = sum(1 for file in images.iterdir() if file.suffix.lower() == ".jpg")
    entries, _, _ = _entries(captions)
    lines = sum(not re.search(r"\.jpg\.1#\d$", entry.image) for entry in entries)
    whole = (photographs, lines) == (8_091, 40_455)
    return (
        f"{photographs:,} of 8,091 photographs and {lines:,} of 40,455 captions: "
        f"{'all of it' if whole else 'a part'}, going by the numbers; no hash of it is published."
    )
