"""From files to tensors: images, texts, sound and video (lesson 01).

Every modality ends as one tensor whose first dimension counts the examples: images (B, 3, H, W) in
[0, 1], tokens (B, T) padded with 0, log-mel (B, mels, frames), clips (B, T, 3, H, W).
"""

from __future__ import annotations

import html
import io
import json
import logging
import math
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from mbm_lab import arguments, atomic, endings, rows

IMAGE_SIZE = 64
"""Height and width, in pixels, of the images that the course's models see."""
PIXEL_MEAN = (0.501, 0.529, 0.565)
PIXEL_STD = (0.254, 0.261, 0.266)
"""Mean and standard deviation of red, green and blue over the training images (a test recomputes
them).
"""
SAMPLE_RATE = 16_000
"""Sound samples per second that the course's models hear."""
PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Indices of the special words: padding, unknown word, beginning and end of a sentence."""
SPECIAL_WORDS = ("<pad>", "<unk>", "<bos>", "<eos>")
WORD_END = "·"
"""What ends the last piece of a word, so that pieces can be joined to words again."""


# --- Images


LARGEST_IMAGE = 64_000_000
"""Pixels of the largest picture that is read."""
LARGE_IMAGE = 2_000_000
"""A JPEG with more pixels is decoded at a half, a quarter or an eighth of its size, where a small
picture is wanted."""

OTHER_FILES = [
    (rb".{4}ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "a HEIC photograph", "it as JPEG"),
    (rb".{4}ftypavi[fs]", "an AVIF picture", "it as PNG or JPEG"),
    (rb".{4}ftypcrx|II\*\0.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0", "a camera's raw file",
     "it as JPEG"),
    (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a film", "one picture of it as PNG or JPEG"),
    (rb"(.{0,4000}[^-\w])?<svg[\s/>]", "a drawing (SVG)", "it as PNG"),
    (rb"%PDF", "a PDF", "its page as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a drawing (EPS)", "it as PNG"),
    (rb"\s*<(!doctype html|html|head|body)", "a web page", "the picture itself, from that page"),
    (rb"version https://git-lfs", "a pointer of Git LFS",
     "the picture itself, with `git lfs pull`"),
    (rb"PK\x03\x04", "a packed folder (zip)", "the pictures in it, unpacked"),
]  # fmt: skip
"""How files begin that are no pictures to read: what they are, and what to save instead."""


class UnreadableError(ValueError):
    """A file that holds no picture or sound to read; why: half a sentence on the file, such as "is
    not a readable image (…): save it as JPEG"."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(f"{path} {why}.")
        self.why = why


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """A picture, not decoded yet; whatever goes wrong until it is closed is one sentence."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image at {path}: check the name and the folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says of odd files that it can read
            with Image.open(path, formats=picture_kinds()) as image:
                if image.width * image.height > LARGEST_IMAGE:
                    raise _too_large(path, image.width * image.height)
                tags = set(image.tag_v2) if image.format == "TIFF" else set()
                if 50706 in tags or {271, 330} <= tags:  # DNG; a camera's name and parts within
                    raise UnreadableError(path, _not_an_image("a camera's raw file", "it as JPEG"))
                yield image
    except UnreadableError:
        raise
    except PermissionError:
        raise UnreadableError(path, rows.FORBIDDEN) from None
    except Image.DecompressionBombError as error:
        counted = re.search(r"\((\d+) pixels", str(error))
        raise _too_large(path, int(counted[1]) if counted else LARGEST_IMAGE + 1) from None
    except Exception as error:  # decoders raise errors of every kind
        with open(path, "rb") as file:
            start = file.read(4096)
        for sign, what, instead in OTHER_FILES:
            if re.match(sign, start, re.I | re.S):
                raise UnreadableError(path, _not_an_image(what, instead)) from None
        raise UnreadableError(
            path,
            "is not a readable image (empty, cut off, or another kind of file): "
            "open it in an image viewer, and replace it by a whole copy",
        ) from error


def _not_an_image(what: str, instead: str) -> str:
    return f"is not a readable image, it looks like {what}: save {instead}"


def _too_large(path: Path, pixels: int) -> UnreadableError:
    most = LARGEST_IMAGE / 1e6
    return UnreadableError(
        path,
        f"has {max(pixels / 1e6, most + 1):,.0f} megapixels, and pictures of up to {most:.0f} are "
        "read: make it smaller",
    )


PICTURE_KINDS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The kinds of pictures that are read, as Pillow calls them, whatever a file's name ends with. (Of
others, some start another program: Ghostscript, for EPS.)"""


@cache
def picture_kinds() -> list[str]:
    """PICTURE_KINDS, those of them that Pillow can read on this computer."""
    Image.init()
    return [name for name in PICTURE_KINDS if name in Image.OPEN]


def read_image(path: str | Path) -> Tensor:
    """Reads an image file into a (3, H, W) uint8 tensor, whatever its own colour mode.

    A photograph that the camera says to turn (EXIF orientation) is turned. What is transparent is
    white. Pictures with more than 8 bits, or with fractions, are scaled by their own range
    (`_in_8_bits`). Of a film the first frame is read.

    Raises FileNotFoundError when there is no such file, ValueError when it is no readable image or
    has more than 64 megapixels.
    """
    return _pixels(path, None)


def _pixels(path: str | Path, wanted: int | None) -> Tensor:
    """As `read_image`; where only a small square of `wanted` pixels is needed, a large JPEG is
    decoded at reduced size."""
    with _opened(path) as image:
        if wanted is not None and image.width * image.height > LARGE_IMAGE:
            image.draft("RGB", (4 * wanted, 4 * wanted))
        image.load()
        pixels = np.array(_as_rgb(_upright(image)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""How to turn a picture upright, for each orientation that EXIF knows."""


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its camera says to turn it; as it is, if that cannot be read."""
    try:
        turn = _TURNS.get(image.getexif().get(0x0112))
    except Exception:  # damaged EXIF: the picture may be well
        turn = None
    return image if turn is None else image.transpose(turn)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Any picture in red, green and blue, on white where it is transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_in_8_bits(np.asarray(image)))
    elif image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _in_8_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of another range, (H, W), as 0 to 255, uint8.

    The range is the smallest usual one that holds them (whole numbers: 8, 10, 12, 14 or 16 bits;
    fractions: 0 to 1, 255 or 65,535), so that a dark picture stays dark. If they fill less than a
    quarter of it, or there is none, it is their own, from the least (or 0) to the most.
    """
    whole = values.dtype.kind in "iu"
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    low, high = (numbers[finite].min(), numbers[finite].max()) if finite.any() else (0.0, 0.0)
    usual = (255, 1023, 4095, 16_383, 65_535) if whole else (1, 255, 65_535)
    top = next((top for top in usual if high <= top), np.inf)
    if low < 0 or high < top / 4 and high > 0:
        low, top = min(low, 0), high
    else:
        low = 0
    numbers = np.nan_to_num(numbers, nan=low, posinf=top, neginf=low) - low
    return (255 * (numbers / max(top - low, 1e-300)).clip(0, 1)).round().astype(np.uint8)


def crop_square(image: Tensor) -> Tensor:
    """Cuts the largest centred square out of (..., H, W).

    Raises ValueError for what has no height and width, and where the colours stand last.
    """
    _check_picture(image, "crop_square", "(..., H, W)", 2)
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[..., top : top + side, left : left + side]


def resize(image: Tensor, size: int) -> Tensor:
    """Resizes a (3, H, W) uint8 image to (3, size, size), averaging when it shrinks.

    Raises ValueError for another shape or another kind of numbers, and for a size below 1.
    """
    _check_picture(image, "resize", "(3, H, W)", 3, channels=3)
    if image.ndim != 3:
        raise ValueError(f"resize takes one picture, (3, H, W), and got {tuple(image.shape)}: give "
                         "one after the other.")  # fmt: skip
    if image.dtype != torch.uint8:
        raise ValueError(
            f"resize takes the bytes that read_image gives, uint8 from 0 to 255, and got "
            f"{arguments.dtype(image)}: resize first, and then divide by 255."
        )
    arguments.check_count("size", size)
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def load_image(path: str | Path, size: int = IMAGE_SIZE) -> Tensor:
    """Reads, crops and resizes an image file to a (3, size, size) float32 tensor in [0, 1].

    Of a JPEG of more than 2 megapixels no more is decoded than the size needs. Raises as
    `read_image` does.
    """
    return resize(crop_square(_pixels(path, size)), size).float() / 255


def normalise(
    images: Tensor, mean: Sequence[float] = PIXEL_MEAN, std: Sequence[float] = PIXEL_STD
) -> Tensor:
    """Shifts and scales each colour of (..., 3, H, W) to about mean 0 and standard deviation 1.

    Raises ValueError for bytes from 0 to 255, for another shape, and for a standard deviation that
    is not above 0.
    """
    _check_picture(images, "normalise", "(..., 3, H, W)", 3, channels=len(mean))
    check_pixels(images, "normalise")
    if len(std) != len(mean) or not all(one > 0 for one in std):
        raise ValueError(f"The standard deviations are {std}: give one above 0 for each colour.")
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_brightest(images, "normalise")
    mean_, std_ = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (mean, std))
    return (images - mean_[:, None, None]) / std_[:, None, None]


def augment(images: Tensor, generator: torch.Generator, reach: int = 2) -> Tensor:
    """Moves a batch (B, 3, H, W) by up to `reach` pixels and mirrors it half of the time.

    One move is drawn for the whole batch, which is fast, and different for every batch. A mirrored
    face has the same expression, so the target stays true: augmentation must never change the
    answer. Raises ValueError for bytes from 0 to 255, for another shape, and for a reach below 0.
    """
    _check_picture(images, "augment", "(B, 3, H, W)", 4)
    if images.ndim != 4:
        raise ValueError(f"augment takes a batch (B, 3, H, W), and got {tuple(images.shape)}: give "
                         "one batch of pictures.")  # fmt: skip
    check_pixels(images, "augment")
    arguments.check_count("reach", reach, 0)
    padded = torch.nn.functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    height, width = images.shape[-2:]
    top, left = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    moved = padded[..., top : top + height, left : left + width]
    return moved.flip(-1) if torch.rand((), generator=generator) < 0.5 else moved


def _check_picture(
    image: Tensor, who: str, shape: str, dimensions: int, channels: int | None = None
) -> None:
    """Raises ValueError for what is no tensor of pictures, (..., channels, H, W)."""
    if not isinstance(image, Tensor):
        raise ValueError(f"{who} needs a tensor {shape}, and got {arguments.kind(image)}: read a "
                         "file with read_image, or convert it with torch.as_tensor.")  # fmt: skip
    own = tuple(image.shape)
    if image.ndim < dimensions or 0 in own[-2:]:
        raise ValueError(f"{who} needs pictures {shape} with at least one pixel, and got {own}: "
                         "check where they come from.")  # fmt: skip
    if image.ndim == 2:
        return
    last = own[-1] == (channels or 3) and own[-3] not in (1, 3, channels)
    if last:
        order = ", ".join(map(str, (*range(image.ndim - 3), -1, -3, -2)))
        raise ValueError(f"{who} needs pictures {shape}, and got {own}: put the colours before "
                         f"height and width, with permute({order}).")  # fmt: skip
    if channels is not None and own[-3] != channels:
        raise ValueError(f"{who} needs pictures {shape}, and got {own}: give them {channels} "
                         "colours.")  # fmt: skip


def check_pixels(images: Tensor, who: str) -> None:
    """Raises ValueError for pictures of whole numbers. who: the function that needs fractions."""
    if not images.is_floating_point():
        raise ValueError(
            f"{who} needs fractions between 0 and 1, and got {arguments.dtype(images)}: convert "
            "them with images.float() / 255."
        )


def _check_brightest(images: Tensor, who: str) -> None:
    """Raises ValueError for a forgotten division by 255. The first and the last picture are looked
    at, which costs nothing beside a model. (Noise may reach far beyond 1.)"""
    if not len(images):
        return
    for one in (images[0], images[-1]) if images.ndim > 3 else (images,):
        if one.numel() and (brightest := one.detach().max().item()) > arguments.FARTHEST:
            raise ValueError(f"{who} needs fractions between 0 and 1, and got pixels up to "
                             f"{brightest:,.0f}: divide them by 255.")  # fmt: skip


# --- Texts


def read_text(path: str | Path) -> str:
    """Reads a text file.

    Raises FileNotFoundError when there is none, ValueError when it is empty or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no text at {path}: check the name and the folder.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start} is wrong): "
            'save it as "UTF-8" in your editor.'
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty: write a text into it, or name another file.")
    return text


HTML_NAMES = (
    "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|font|h[1-6]|head|hr|html|"
    "i|img|ins|li|link|mark|meta|ol|p|pre|q|s|small|span|strike|strong|sub|sup|table|tbody|td|th|"
    "thead|title|tr|tt|u|ul"
)
_VALUE = r"""\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=]+)"""
HTML_TAG = re.compile(rf"<!--.*?-->|</?(?:{HTML_NAMES})(?:\s+[\w:-]+{_VALUE})*\s*/?>", re.I | re.S)
"""A tag of HTML, with its name and its attributes, or a comment."""
HTML_CODE = re.compile(r"&(?:#\d+|#x[\da-f]+|\w+);", re.I)
"""A character written as a code, which a semicolon ends, such as "&amp;"."""


def clean(text: str) -> str:
    """Takes out HTML tags, undoes HTML codes, unifies the ways to write a character (NFKC),
    lower-cases, joins white space.

    What is no tag and no code stays: "3 < 5 and 7 > 2", "<3", "sun&region". NFKC makes one of
    characters that look alike, and so "x²" becomes "x2".
    Raises ValueError when nothing is left.
    """
    text = HTML_CODE.sub(lambda code: html.unescape(code[0]), HTML_TAG.sub(" ", text))
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().lower()
    if not text:
        raise ValueError("The text is empty: write at least one word.")
    return text


def longest_match(text: str, words: Collection[str]) -> list[str]:
    """Cuts a text without spaces by always taking the longest word that fits next.

    A character that begins no known word is a word of its own. An old rule for Chinese (Chen and
    Liu, 1992), which takes 研究生 from 研究生命, where `segment` does not.
    """
    longest, out = max(map(len, words), default=1), []
    while text:
        size = min(longest, len(text))
        while size > 1 and text[:size] not in words:
            size -= 1
        out.append(text[:size])
        text = text[size:]
    return out


@cache
def _jieba():
    """jieba's cutter, its dictionary read from the package.

    Left to itself jieba reads a copy of it from the folder for temporary files, which anyone on
    the computer may have written, and executes what `marshal` makes of it. Without the copy it is
    as fast (a second).
    """
    import jieba

    jieba.setLogLevel(logging.WARNING)
    cutter = jieba.Tokenizer()
    with cutter.get_dict_file() as file:
        entries = [line.split(" ", 2) for line in file.read().decode().split("\n") if line]
    often = {word: int(count) for word, count, _ in entries}
    for word in list(often):
        for end in range(1, len(word)):
            often.setdefault(word[:end], 0)  # the beginning of a word
    cutter.FREQ, cutter.total = often, sum(int(count) for _, count, _ in entries)
    cutter.initialized = True
    return cutter


def segment(text: str, language: str = "en") -> list[str]:
    """Cuts a text into words; punctuation marks are words of their own.

    language: "en" and "de" cut at spaces and marks; "zh" (Chinese, written without spaces) asks
    jieba's dictionary.
    Raises ValueError for another language.
    """
    if language in ("en", "de"):
        return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text)
    if language == "zh":
        return [word for word in _jieba().lcut(text) if word.strip()]
    raise ValueError(f'Unknown language {language!r}: use "en", "de" or "zh".')


CHINESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""One Chinese character, or one of Japanese, which has no spaces either."""


def spaced(text: str) -> str:
    """A text that holds Chinese, cleaned and with spaces between its words (jieba's); any other as
    it is."""
    cleaned = clean(text) if has_word(text) else text
    return " ".join(segment(cleaned, "zh")) if CHINESE.search(cleaned) else text


def has_word(text: str) -> bool:
    """Whether a text holds a word when it is cleaned: a letter, a number, or a picture such as ☀.

    "...", "<b></b>" and "&nbsp;" hold none.
    """
    try:
        return any(unicodedata.category(c) in WORD_CATEGORIES for c in clean(text))
    except ValueError:
        return False


WORD_CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "So")
"""What Unicode calls letters, numbers and "other symbols", as pictures are."""


def language_of(texts: Iterable[str]) -> str:
    """The language for `tokenize`, by the script: "zh" if most texts hold Chinese, else "en"."""
    chinese = [bool(CHINESE.search(text)) for text in texts]
    return "zh" if 2 * sum(chinese) > len(chinese) else "en"


def tokenize(text: str, language: str = "en") -> list[str]:
    """Cleans a text and cuts it into words. Raises ValueError as `clean` and `segment` do."""
    return segment(clean(text), language)


def learn_merges(words: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Learns which pieces of words to join: byte-pair encoding (Sennrich, Haddow and Birch, 2016).

    Each word begins as its characters and WORD_END. The pair of neighbours that occurs most often
    is joined everywhere, and this is done `count` times, or until every word is one piece. Of
    pairs that occur equally often, the one that was met first is taken.
    Returns the pairs in the order in which they were joined.
    """
    counts = Counter(words)
    pieces, merges = {word: [*word, WORD_END] for word in counts}, []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in counts.items():
            for pair in pairwise(pieces[word]):
                pairs[pair] += times
        if not pairs:
            break
        merges.append(max(pairs, key=pairs.__getitem__))
        pieces = {word: _join(parts, merges[-1]) for word, parts in pieces.items()}
    return merges


def subwords(word: str, merges: Iterable[tuple[str, str]]) -> list[str]:
    """Cuts a word into pieces: its characters and WORD_END, joined as `learn_merges` learned.

    The pieces, joined, are the word with WORD_END behind it, whatever the word.
    """
    pieces = [*word, WORD_END]
    for pair in merges:
        pieces = _join(pieces, pair)
    return pieces


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Joins every occurrence of the pair, from left to right."""
    joined: list[str] = []
    open_ = False  # whether the last piece may still be joined
    for piece in pieces:
        if open_ and (joined[-1], piece) == pair:
            joined[-1] += piece
            open_ = False
        else:
            joined.append(piece)
            open_ = True
    return joined


class Vocabulary:
    """Numbers for words: word ↔ index, with indices 0 to 3 kept for the special words.

    Raises ValueError when the words do not begin with these, and when one comes twice.
    """

    def __init__(self, words: Sequence[str]):
        if isinstance(words, str) or tuple(words[:4]) != SPECIAL_WORDS:
            raise ValueError(
                f"A vocabulary begins with the special words {', '.join(SPECIAL_WORDS)}: make it "
                "with Vocabulary.build."
            )
        self.words = list(words)
        self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.index) < len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise ValueError(f"The word {twice!r} is in the vocabulary twice: make it with "
                             "Vocabulary.build, so that each word has one number.")  # fmt: skip

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]], min_count: int = 1) -> Vocabulary:
        """Numbers every word that occurs at least `min_count` times, most frequent first."""
        counts = Counter(word for sentence in sentences for word in sentence)
        for word in SPECIAL_WORDS:  # they have their numbers
            del counts[word]
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls([*SPECIAL_WORDS, *sorted(kept, key=lambda word: (-counts[word], word))])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Words to indices; a word that is not in the vocabulary becomes UNK."""
        return [self.index.get(word, UNK) for word in sentence]

    def decode(self, indices: Sequence[int]) -> list[str]:
        """Indices back to words, without padding. Raises ValueError for a number without a word."""
        for i in indices:
            if not 0 <= i < len(self.words):
                raise ValueError(f"There is no word with the number {int(i)} among "
                                 f"{len(self.words):,}: load the vocabulary that belongs to the "
                                 "model.")  # fmt: skip
        return [self.words[i] for i in indices if i != PAD]

    def save(self, path: str | Path) -> None:
        """Writes the words as a JSON list, whole or not at all.

        Raises OSError when the folder is missing, read-only or full.
        """
        text = json.dumps(self.words, ensure_ascii=False, indent=0)
        atomic.write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads the words that `save` wrote.

        Raises FileNotFoundError when there is no file, ValueError when it is not such a list.
        """
        text = read_text(path)
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):  # no JSON; or brackets within brackets, without end
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path} is not a JSON list of words: replace it by a whole copy.")
        try:
            return cls(words)
        except ValueError as error:
            why = str(error).rstrip(".")
            raise ValueError(
                f"{path} is no vocabulary ({why}): replace it by a whole copy."
            ) from None


def pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Writes lists of indices into one (B, T) int64 tensor, filled up with PAD on the right.

    T is the longest length. Raises ValueError when there is no sequence or one is empty.
    """
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise ValueError("Cannot pad an empty sequence: give every text at least one word.")
    tokens = torch.full((len(sequences), max(map(len, sequences))), PAD, dtype=torch.long)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = torch.as_tensor(sequence)
    return tokens


def lengths(tokens: Tensor) -> Tensor:
    """How many words each row of (B, T) holds: (B,) int64."""
    return (tokens != PAD).sum(dim=1)


def text_to_tensor(texts: Sequence[str], vocabulary: Vocabulary, language: str = "en") -> Tensor:
    """Cleans, cuts, numbers and pads texts: (B, T) int64.

    Raises ValueError as `tokenize` and `pad` do.
    """
    return pad([vocabulary.encode(tokenize(text, language)) for text in texts])


# --- Sound


LONGEST_SOUND = 3600.0
"""Seconds of the longest sound that is read."""
MOST_SAMPLES = 400_000_000
"""Samples in all channels of the largest sound that is read: an hour in stereo at 48,000 a second
has 346 million."""

OTHER_SOUNDS = [
    (rb".{4}ftyp", "m4a, mp4 or another kind of Apple's"),
    (rb"\x1aE\xdf\xa3", "webm, as browsers record it"),
    (rb"0&\xb2u", "wma"),
    (rb"#!AMR", "amr"),
    (rb"MThd", "midi, which holds notes and no sound"),
]
"""How files begin whose sound cannot be read, and what they are."""


def read_audio(
    path: str | Path, rate: int = SAMPLE_RATE, say: Callable[[str], None] = print
) -> Tensor:
    """Reads a sound file (wav, flac, ogg, opus, mp3 …) into (T,) float32 samples between -1 and 1.

    Any rate is converted to SAMPLE_RATE: T counts the samples afterwards. Of several channels the
    mean is taken. Whole numbers of 16 bits are divided by 32,768. say: is told so, in a sentence.
    rate: the samples a second that are expected, of which nothing is said.

    Raises FileNotFoundError when there is none, ValueError when it cannot be read, is empty, cut
    off (`endings`), silent or longer than an hour, or holds what is no number or far above 1.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no sound at {path}: check the name and the folder.")
    samples, own_rate = _samples(path)
    if len(samples) == 0:
        raise UnreadableError(path, "holds no sound, its length is zero: record it anew")
    if not np.isfinite(samples).all():
        raise UnreadableError(path, "holds samples that are no numbers (NaN or infinite): write it "
                              "anew from its source")  # fmt: skip
    if not samples.any():
        raise UnreadableError(path, "is silent, all of its samples are 0: record it anew")
    if (loudest := np.abs(samples).max()) > 2:  # a little above 1 is usual where it was packed
        if not 255 < loudest <= 32_768 or (samples % 1).any():
            raise UnreadableError(path, f"has samples up to {loudest:,.0f}, and 1 is the loudest "
                                  "that there is: divide all of them by one number, and write it "
                                  "anew")  # fmt: skip
        say(f"{path} has samples up to {loudest:,.0f}, as numbers of 16 bits: they are divided by "
            "32,768.")  # fmt: skip
        samples = samples / np.float32(32_768)
    if samples.shape[1] > 1:
        mean = samples.mean(1, keepdims=True, dtype=np.float32)
        opposed = not mean.any()  # one channel is the other, upside down
        what = "the first is taken, since they cancel out" if opposed else "their mean is taken"
        say(f"{path} has {samples.shape[1]} channels: {what}.")
        samples = samples[:, :1] if opposed else mean
    if own_rate != rate:
        say(f"{path} has {own_rate:,} samples a second: it is resampled to {SAMPLE_RATE:,}.")
    if own_rate != SAMPLE_RATE:
        from scipy.signal import resample_poly  # slow to import, and seldom needed

        samples = resample_poly(samples, SAMPLE_RATE, own_rate)  # cancels what both share
    return torch.from_numpy(samples[:, 0].astype(np.float32, copy=False))


SOUND_KINDS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
"""The kinds of sound files that are read, as soundfile calls them."""


def _samples(path: Path) -> tuple[np.ndarray, int]:
    """The samples of a sound file, (T, channels) float32, and how many there are in a second.

    They are read in pieces, since a header may promise more than there is.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        if (why := endings.sound_fault(path)) is not None:
            raise UnreadableError(path, why)
        with soundfile.SoundFile(_source(path)) as file:
            rate, pieces, count = file.samplerate, [], 0
            if file.format not in SOUND_KINDS:
                raise UnreadableError(path, f"is a sound file of the kind {file.format}, which is "
                                      "not read: save it as wav or flac")  # fmt: skip
            if not 1_000 <= rate <= 1_000_000:
                raise UnreadableError(path, f"says that it has {rate:,} samples a second, which no "
                                      "sound has: write it anew from its source")  # fmt: skip
            while len(piece := file.read(1 << 16, dtype="float32", always_2d=True)):
                pieces.append(piece)
                count += len(piece)
                if count > LONGEST_SOUND * rate:
                    raise UnreadableError(path, "is longer than an hour: cut it into pieces")
                if count * piece.shape[1] > MOST_SAMPLES:
                    raise UnreadableError(path, f"has more than {MOST_SAMPLES // 10**6} million "
                                          "samples in all channels: cut it into pieces, or save it "
                                          "with fewer samples a second")  # fmt: skip
            promised = file.frames
    except PermissionError:
        raise UnreadableError(path, rows.FORBIDDEN) from None
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        if isinstance(error, UnreadableError):
            raise
        for sign, what in OTHER_SOUNDS:
            if re.match(sign, start, re.S):
                raise UnreadableError(
                    path,
                    f"is not a readable sound file, it looks like {what}: convert it, for example "
                    "with `ffmpeg -i in.m4a out.wav`",
                ) from None
        raise UnreadableError(
            path, "is not a readable sound file: replace it by a whole wav, flac, ogg or mp3"
        ) from error
    if count < promised < 1 << 40:  # of a stream the decoder "promises" more than any disk holds
        raise UnreadableError(
            path,
            f"is cut off, its header promises more sound ({promised:,} samples) than it holds "
            f"({count:,} samples): fetch it again",
        )
    channels = pieces[0].shape[1] if pieces else 1
    return (np.concatenate(pieces) if pieces else np.zeros((0, channels), np.float32)), rate


def _source(path: Path) -> str | io.BytesIO:
    """What soundfile is to read: the file, or its bytes with the length that its writer did not
    fill in."""
    unfilled = endings.stream_data(path)
    if unfilled is None:
        return str(path)
    data = bytearray(path.read_bytes())
    data[unfilled.start - 4 : unfilled.start] = unfilled.promised.to_bytes(4, "little")
    return io.BytesIO(bytes(data))


def mel_filters(n_mels: int, n_fft: int, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Triangles that gather (n_fft // 2 + 1) frequencies into n_mels bands, evenly spaced for the
    ear.

    mel(f) = 2595 · log10(1 + f / 700), f in hertz (O'Shaughnessy, 1987). Returns (n_mels, n_fft //
    2 + 1). Raises ValueError for a number below 1.
    """
    for name, value in (("n_mels", n_mels), ("n_fft", n_fft), ("sample_rate", sample_rate)):
        arguments.check_count(name, value)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (
        10 ** (torch.linspace(0, float(top), n_mels + 2, dtype=torch.float64) / 2595) - 1
    )
    hertz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


LOUDEST = 255.0
"""A sample above this was never between -1 and 1: it is a whole number of 8 or 16 bits."""


def check_sound(sound: Tensor, who: str, least: int = 1) -> None:
    """Raises ValueError for what is no sound as `read_audio` gives it: (T,) float32, at least so
    many samples. who: the function that needs it."""
    if not isinstance(sound, Tensor):
        raise ValueError(f"{who} needs a tensor of samples, and got {arguments.kind(sound)}: "
                         "convert it with torch.as_tensor(samples).float().")  # fmt: skip
    if sound.ndim != 1 or len(sound) < least:
        cure = "take the mean of its channels" if sound.ndim == 2 else "take a longer part of it"
        enough = f"at least {least} samples" if least else "samples"
        raise ValueError(
            f"{who} needs one channel of {enough}, and got a tensor of shape "
            f"{tuple(sound.shape)}: {cure}."
        )
    if sound.dtype != torch.float32:
        whole = not sound.is_floating_point() and not sound.is_complex()
        bits = sound.element_size() * 8
        code = f".float() / {2 ** (bits - 1):,}".replace(",", "_") if whole else ".float()"
        raise ValueError(
            f"{who} needs float32 samples between -1 and 1, and got {arguments.dtype(sound)}: "
            f"convert it with sound{code}."
        )
    if len(sound) and not (loudest := sound.abs().max().item()) <= LOUDEST:
        if not math.isfinite(loudest):
            place = int((~sound.isfinite()).nonzero()[0])
            raise ValueError(f"{who} got a sound that is no number at sample {place:,} "
                             f"({sound[place].item()}): find out where it comes from.")  # fmt: skip
        raise ValueError(
            f"{who} needs samples between -1 and 1, and got some up to {loudest:,.0f}: divide them "
            "by 32_768, if they had 16 bits."
        )


def log_mel(waveform: Tensor, n_mels: int = 40, n_fft: int = 400, hop: int = 160) -> Tensor:
    """Turns (T,) samples into the logarithm of the energy in n_mels bands every 10 ms.

    Windows of n_fft = 400 samples (25 ms) start every hop = 160 samples (10 ms): (n_mels, 1 + T //
    hop). A floor of 1e-6 keeps the logarithm of silence finite.
    Raises ValueError when the sound is shorter than one window, no float32, no number somewhere or
    far above 1, and for a number of bands or samples below 1.
    """
    filters = mel_filters(n_mels, n_fft)
    arguments.check_count("hop", hop)
    check_sound(waveform, "log_mel", n_fft)
    here = waveform.device
    window = torch.hann_window(n_fft, device=here)
    spectrum = torch.stft(waveform, n_fft, hop, window=window, return_complex=True)
    return (filters.to(here) @ spectrum.abs().square() + 1e-6).log()


def pitch(waveform: Tensor, low: int = 60, high: int = 400) -> float:
    """How high a voice is, in hertz: the median over its louder stretches of 50 ms.

    waveform: (T,) samples. In each stretch the sound is compared with itself, moved by the time of
    one swing (autocorrelation); the time that fits best is taken. low, high: where to look, in
    hertz. Raises ValueError when the sound is silent, or shorter than 50 ms, or not as `log_mel`
    needs it.
    """
    if not 0 < low < high <= SAMPLE_RATE // 2:
        raise ValueError(f"pitch looks between {low} and {high} hertz: give low below high, and "
                         f"both between 1 and {SAMPLE_RATE // 2:,}.")  # fmt: skip
    check_sound(waveform, "pitch", 0)
    size = SAMPLE_RATE // 20
    stretches = waveform.unfold(0, size, size) if len(waveform) >= size else waveform[None, :0]
    energy = stretches.square().mean(1)  # (stretches,)
    stretches = stretches[energy > 0.1 * energy.mean()]
    if stretches.numel() == 0:
        silent = " of silence" if len(waveform) >= size else ""
        raise ValueError(
            "pitch needs at least 50 ms of sound that is not silent, and got "
            f"{1000 * len(waveform) / SAMPLE_RATE:,.0f} ms{silent}: take another part of it."
        )
    spectrum = torch.fft.rfft(stretches - stretches.mean(1, keepdim=True), 2 * size)
    likeness = torch.fft.irfft(spectrum.abs() ** 2)  # (stretches, 2 * size): by how far it is moved
    shortest, longest = SAMPLE_RATE // high, SAMPLE_RATE // low
    swing = likeness[:, shortest : longest + 1].argmax(1) + shortest  # samples
    return SAMPLE_RATE / swing.double().quantile(0.5).item()


# --- Video


MOST_FRAMES = 10_000
MOST_FILMED = 2_000_000_000
"""Frames, and pixels of all frames together, of the longest film that is read."""


def read_clip(path: str | Path, size: int = IMAGE_SIZE) -> Tensor:
    """Reads an animated image (webp, gif, png) into (T, 3, size, size) float32 in [0, 1].

    Raises as `read_image` does, and ValueError for a film of more than 10,000 frames, or of more
    than 2,000 megapixels in all.
    """
    frames = []
    with _opened(path) as film:
        if (why := endings.film_fault(Path(path))) is not None:
            raise UnreadableError(path, why)
        count = getattr(film, "n_frames", 1)
        if count > MOST_FRAMES or count * film.width * film.height > MOST_FILMED:
            raise UnreadableError(
                path,
                f"has {count:,} frames of {film.width:,} × {film.height:,} pixels, and films of up "
                f"to {MOST_FRAMES:,} frames and {MOST_FILMED // 10**6:,} megapixels in all are "
                "read: shorten it, or make it smaller",
            )
        for frame in ImageSequence.Iterator(film):
            pixels = torch.from_numpy(np.array(_as_rgb(_upright(frame)))).permute(2, 0, 1)
            frames.append(resize(crop_square(pixels), size))
    return torch.stack(frames).float() / 255
