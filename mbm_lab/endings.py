"""Whether a file of sound or film ends where it says that it ends (lesson 01, `read_audio` and
`read_clip` of `preprocessing`).

A sound that is cut off still plays, and a model would hear half a word and learn from it. So the
header's promise is compared with what is there. A single missing byte of sound counts; what
stands behind the sound (names, notes, padding) may be missing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple


class Ending(NamedTuple):
    """Where a file's sound begins and how many bytes of it are promised: None where the file does
    not say, as of a stream, whose writer did not know."""

    start: int
    promised: int | None


def sound_fault(path: Path) -> str | None:
    """What is wrong with the ending of a sound file: half a sentence, or None.

    Looked at: wav (also RF64 and Wave64), aiff, au, caf and NIST by the length in the header; Ogg
    by its last page, and every page by its checksum; mp3 by the length that its encoder wrote down,
    or else by its last frame. (FLAC is looked at by its decoder.)
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(16)
        for sign, look in LOOKS.items():
            if re.match(sign, start, re.S):
                return look(file, size)
    return None


def stream_data(path: Path) -> Ending | None:
    """Where the sound of a wav file begins whose writer stopped before it filled in the lengths: a
    header that promises nothing, with sound behind it. None for every other file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if not re.match(rb"RIFF.{4}WAVE", head, re.S):
            return None
        whole = int.from_bytes(head[4:8], "little")
        for name, start, promised in _chunks(file, size, "little"):
            if name == b"data":
                unfilled = whole == 0xFFFF_FFFF or 8 + whole <= start
                return Ending(start, size - start) if promised == 0 and unfilled else None
    return None


def film_fault(path: Path) -> str | None:
    """What is wrong with an animated gif or png, where Pillow would not see it: a gif that ends
    between two frames, a png with a part whose checksum is another. Half a sentence, or None."""
    data = path.read_bytes()
    if data[:6] in (b"GIF87a", b"GIF89a"):
        ends = _gif_ends(data)
        return None if ends else "is cut off, its last frames are missing: fetch it again"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(data)
    return None


def _gif_ends(data: bytes) -> bool:
    """Whether a gif has an end, behind its blocks."""

    def table(flags: int) -> int:  # the bytes of a table of colours
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = 13 + table(data[10])
    while at + 10 < len(data) and data[at] in b"!,":
        at += 2 if data[at] == ord("!") else 11 + table(data[at + 9])
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return data[at : at + 1] == b";"


def _png(data: bytes) -> str | None:
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"is damaged, the checksum at byte {end:,} is another: fetch it again"
        if data[at + 4 : at + 8] == b"IEND":
            return None
        at = end + 4
    return "is cut off, its end is missing: fetch it again"


def _missing(ending: Ending | None, size: int) -> str | None:
    """The half sentence on sound of which less is here than was promised."""
    if ending is None:
        return "is cut off, it ends before its sound begins: fetch it again"
    held = size - ending.start
    if ending.promised is None or held >= ending.promised:
        return None
    return (
        f"is cut off, its header promises more sound ({ending.promised:,} bytes) than it holds "
        f"({max(held, 0):,} bytes): fetch it again"
    )


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """The parts of a file after its first 12 bytes: name, where it begins, and its length."""
    at = 12
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], order)
        yield head[:4], at + 8, length
        at += 8 + length + length % 2


def _wav(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    order = "big" if file.read(4) == b"RIFX" else "little"
    long_promise = None
    for name, start, promised in _chunks(file, size, order):
        if name == b"ds64":  # RF64: lengths of more than four bytes
            file.seek(start + 8)
            long_promise = int.from_bytes(file.read(8), "little") or None
        if name == b"data":
            if promised == 0xFFFF_FFFF and long_promise is not None:
                return _missing(Ending(start, long_promise), size)
            # a stream's writer says the largest number, about half of it, or nothing
            unknown = promised == 0 or promised >= 0x7FFF_0000
            return _missing(Ending(start, None if unknown else promised), size)
    return _missing(None, size)


def _wave64(file: BinaryIO, size: int) -> str | None:
    at = 40
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            return _missing(Ending(at + 24, length - 24 if length > 24 else None), size)
        at += max(length + -length % 8, 24)
    return _missing(None, size)


def _aiff(file: BinaryIO, size: int) -> str | None:
    for name, start, promised in _chunks(file, size, "big"):
        if name == b"SSND":
            return _missing(Ending(start, promised or None), size)
    return _missing(None, size)


def _au(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    order = "big" if file.read(4) == b".snd" else "little"
    start, promised = (int.from_bytes(file.read(4), order) for _ in range(2))
    return _missing(Ending(start, None if promised == 0xFFFF_FFFF else promised), size)


def _caf(file: BinaryIO, size: int) -> str | None:
    at = 8
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] == b"data":
            return _missing(Ending(at + 12, length if length >= 0 else None), size)
        at += 12 + max(length, 0)
    return _missing(None, size)


def _nist(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(4096)
    length = re.match(rb"NIST_1A\s+(\d+)", head)
    said = [re.search(rb"\b%s -i (\d+)" % name, head)
            for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]  # fmt: skip
    if length is None or None in said[:2] or b"shorten" in head:
        return None
    count, width, channels = (int(one[1]) if one else 1 for one in said)
    return _missing(Ending(int(length[1]), count * width * channels), size)


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in the opposite order."""


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Pages: 27 bytes, a table of lengths, and what these say. The last one says that it is the
    last."""
    file.seek(0)
    last = False
    at = 0
    while at < size:
        head = file.read(27)
        if head[:4] != b"OggS"[: len(head)]:
            return None if last else "is damaged, a page of it does not begin: fetch it again"
        table = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(table))
        if len(head) < 27 or len(table) < head[26] or len(body) < sum(table):
            return "is cut off in the middle of a page: fetch it again"
        page = head[:22] + b"\0\0\0\0" + head[26:] + table + body
        if _ogg_checksum(page) != int.from_bytes(head[22:26], "little"):
            return f"is damaged, the checksum at byte {at:,} is another: fetch it again"
        last = bool(head[5] & 4)
        at += len(page)
    return None if last else "is cut off, its last page is missing: fetch it again"


def _ogg_checksum(page: bytes) -> int:
    """Ogg's checksum (RFC 3533): the CRC-32 of zlib, but for the order of bits and the ends."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{crc:032b}"[::-1], 2)


MP3_KILOBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second of layer III, of MPEG 1 (True), 2 and 2.5."""
MP3_RATES = (44_100, 48_000, 32_000)


def _mp3(file: BinaryIO, size: int) -> str | None:
    """Frames, each with its own length. The first may say how many bytes all of them are."""
    file.seek(0)
    head = file.read(10)
    at = 0
    while head[:3] == b"ID3":  # names and pictures before the sound
        at += 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        at += 10 if head[5] & 0x10 else 0
        file.seek(at)
        head = file.read(10)
    first = at
    while at < size:
        file.seek(at)
        frame = file.read(200)
        length = _mp3_length(frame)
        if length is None:  # names behind the sound, or a kind of frame unknown here
            return None
        if at == first and (mark := re.search(rb"(Xing|Info)(....)", frame, re.S)):
            flags, place = mark[2][3], mark.end() + (4 if mark[2][3] & 1 else 0)
            if flags & 2 and len(frame) >= place + 4:
                promised = int.from_bytes(frame[place : place + 4], "big")
                return _missing(Ending(first, promised), size)
        if at + length > size:
            return "is cut off in the middle of a frame: fetch it again"
        at += length
    return None


def _mp3_length(frame: bytes) -> int | None:
    """The bytes of a frame of layer III that begins so; None if it is none."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        return None
    version, kilobits, rate = frame[1] >> 3 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    if version == 1 or kilobits in (0, 15) or rate == 3:
        return None
    first = version == 3
    per_second = MP3_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = frame[2] >> 1 & 1
    return (144 if first else 72) * MP3_KILOBITS[first][kilobits] * 1000 // per_second + padding


LOOKS: dict[bytes, Callable[[BinaryIO, int], str | None]] = {
    rb"(RIFF|RIFX|RF64|BW64).{4}WAVE": _wav,
    rb"riff\x2e\x91\xcf\x11": _wave64,
    rb"FORM.{4}AIF[FC]": _aiff,
    rb"\.snd|dns\.": _au,
    rb"caff": _caf,
    rb"NIST_1A": _nist,
    rb"OggS": _ogg,
    rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]": _mp3,
}
"""How a file begins, and who looks at its ending."""
