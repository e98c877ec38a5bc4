"""Faults in files that the course reads: sounds, pictures, films, data sets, tables, words."""

import csv
import functools
import gzip
import io
import json
import os
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
from PIL import Image

from mbm_lab import datasets, postcards, preprocessing, real_data
from tests.faults import Fault, flipped


def faults(seed: int) -> Iterator[Fault]:
    rng = random.Random(f"files {seed}")
    yield from sound_files(rng)
    yield from sounds_in_memory()
    yield from pictures(rng)
    yield from pictures_in_memory()
    yield from digits(rng)
    yield from sentences(rng)
    yield from samples_and_cards(rng)
    yield from vocabularies()


# --- Sounds

COUNT = 2000
TONE = (0.4 * np.sin(np.arange(COUNT) * 0.17) + 0.05 * np.cos(np.arange(COUNT) * 1.9)).astype(
    np.float32
)
KINDS = [
    ("wav", "WAV", "PCM_16"), ("wav", "WAV", "PCM_U8"), ("wav", "WAV", "PCM_24"),
    ("wav", "WAV", "PCM_32"), ("wav", "WAV", "FLOAT"), ("wav", "WAV", "DOUBLE"),
    ("wav", "WAV", "ULAW"), ("wav", "WAVEX", "PCM_16"), ("wav", "RF64", "PCM_16"),
    ("w64", "W64", "PCM_16"), ("aiff", "AIFF", "PCM_16"), ("au", "AU", "PCM_16"),
    ("caf", "CAF", "PCM_16"), ("wav", "NIST", "PCM_16"), ("flac", "FLAC", "PCM_16"),
    ("flac", "FLAC", "PCM_24"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@functools.cache
def sound(kind: str, subtype: str, channels: int = 1, rate: int = 16_000) -> bytes:
    """A tone as a file of this kind."""
    made = io.BytesIO()
    soundfile.write(made, np.stack([TONE] * channels, 1), rate, format=kind, subtype=subtype)
    return made.getvalue()


def heard(data: Callable[[], bytes], kind: str, what: str, name: str = "x.wav",
          right: Callable[[object], bool] | None = None) -> Fault:  # fmt: skip
    """A fault of a sound file that `read_audio` reads."""
    return Fault(
        kind,
        what,
        lambda folder: preprocessing.read_audio(folder / name, say=lambda _: None),
        (name,),
        lambda folder: (folder / name).write_bytes(data()),
        right,
    )


def is_tone(read: object) -> bool:
    """Whether the whole tone was read, about as it was."""
    return read.shape == (COUNT,) and (read - torch.from_numpy(TONE))[50:-50].abs().max() < 0.1


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
SAMPLES = (TONE * 32_767).astype("<i2").tobytes()


def data_chunk(promised: int) -> bytes:
    return b"data" + struct.pack("<I", promised) + SAMPLES


def floats(values: np.ndarray, subtype: str = "FLOAT") -> bytes:
    made = io.BytesIO()
    soundfile.write(made, values, 16_000, format="WAV", subtype=subtype)
    return made.getvalue()


def sound_files(rng: random.Random) -> Iterator[Fault]:
    for ending, kind, subtype in KINDS:
        drawn = rng.random()
        for share in (0.02, 0.3, 0.5, 0.97, drawn, None):

            def cut(kind=kind, subtype=subtype, share=share) -> bytes:
                whole = sound(kind, subtype)
                return whole[: -1 if share is None else 1 + int(share * (len(whole) - 2))]

            where = "before its last byte" if share is None else f"at {share:.3f} of its length"
            yield heard(cut, "sounds cut off", f"{kind} {subtype} {where}", f"x.{ending}")
        yield heard(lambda k=kind, s=subtype: sound(k, s), "sounds, odd and right",
                    f"{kind} {subtype}", f"x.{ending}", is_tone)  # fmt: skip
    for kind, subtype, name in (("FLAC", "PCM_16", "x.flac"), ("OGG", "VORBIS", "x.ogg"),
                                ("OGG", "OPUS", "x.opus")):  # fmt: skip
        for drawn in [rng.random() for _ in range(8)]:

            def data(kind=kind, subtype=subtype, drawn=drawn) -> bytes:
                return flipped(sound(kind, subtype), drawn)

            yield heard(data, "sounds with a flipped bit", f"{kind} {subtype} at {drawn:.4f}",
                        name, is_tone)  # fmt: skip
    for what, data in [
        ("a header that promises 2 bytes more", lambda: wav(FORMAT, data_chunk(len(SAMPLES) + 2))),
        ("a header that promises 44 bytes more",
         lambda: wav(FORMAT, data_chunk(len(SAMPLES) + 44))),
        ("a header that promises twice as much", lambda: wav(FORMAT, data_chunk(2 * len(SAMPLES)))),
        ("three samples behind the header", lambda: wav(FORMAT, data_chunk(len(SAMPLES)))[:50]),
        ("a header and nothing else", lambda: wav(FORMAT, data_chunk(len(SAMPLES)))[:44]),
        ("no sound chunk", lambda: wav(FORMAT)),
        ("a sound chunk of length 0, and names behind it",
         lambda: wav(FORMAT, chunk(b"data", b""), chunk(b"LIST", b"INFO" + b"x" * 40))),
        ("NaN", lambda: floats(np.where(np.arange(COUNT) == 700, np.nan, TONE))),
        ("infinity", lambda: floats(np.where(np.arange(COUNT) == 700, np.inf, TONE))),
        ("minus infinity", lambda: floats(np.where(np.arange(COUNT) == 9, -np.inf, TONE),
                                          "DOUBLE")),
        ("peaks of 25", lambda: floats(TONE * 60)),
        ("peaks of 3", lambda: floats(TONE * 8)),
        ("peaks of 1e30", lambda: floats(TONE * 1e30, "DOUBLE")),
        ("samples beyond float32", lambda: floats(TONE.astype(np.float64) * 1e300, "DOUBLE")),
        ("silence", lambda: floats(TONE * 0)), ("no sample", lambda: floats(TONE[:0])),
        ("a kind that is not named (VOC)", lambda: sound("VOC", "PCM_16")),
        ("a kind that is not named (SVX)", lambda: sound("SVX", "PCM_16")),
        ("a kind that is not named (MAT4)", lambda: sound("MAT4", "PCM_16")),
        ("a web page", lambda: b"<!DOCTYPE html><html>log in"), ("nothing", lambda: b""),
        ("midi", lambda: b"MThd\0\0\0\x06\0\1\0\1\0\x60"), ("text", lambda: b"sound" * 99),
        ("m4a", lambda: b"\0\0\0\x20ftypM4A " + b"\0" * 50),
        ("0 samples a second", lambda: wav(FORMAT[:12] + bytes(4) + FORMAT[16:],
                                           data_chunk(len(SAMPLES)))),
        ("0 channels", lambda: wav(FORMAT[:10] + bytes(2) + FORMAT[12:],
                                   data_chunk(len(SAMPLES)))),
    ]:  # fmt: skip
        yield heard(data, "sounds that are none", what)
    stream, half = 0xFFFF_FFFF, 0x7FFF_F000
    names = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"Lavf\0\0")
    for what, data in [
        ("a stream: the largest number", lambda: wav(FORMAT, data_chunk(stream), size=stream)),
        ("a stream: half of the largest", lambda: wav(FORMAT, data_chunk(half), size=half + 36)),
        ("a stream: nothing filled in", lambda: wav(FORMAT, data_chunk(0), size=0)),
        ("a stream: the header's length alone", lambda: wav(FORMAT, data_chunk(0), size=36)),
        ("names before the sound", lambda: wav(FORMAT, names, data_chunk(len(SAMPLES)))),
        ("names behind the sound", lambda: wav(FORMAT, data_chunk(len(SAMPLES)), names)),
        ("names behind the sound, cut off",
         lambda: wav(FORMAT, data_chunk(len(SAMPLES)), names)[:-7]),
        ("a wrong length of the whole", lambda: wav(FORMAT, data_chunk(len(SAMPLES)), size=9)),
        ("an odd chunk with its padding",
         lambda: wav(FORMAT, chunk(b"junk", b"xyz"), data_chunk(len(SAMPLES)))),
        ("16 bits as fractions", lambda: floats((TONE * 32_767).round())),
        ("two channels", lambda: sound("WAV", "PCM_16", 2)),
        ("mp3 with names before and behind it", lambda: b"ID3\4\0\0\0\0\1\0" + bytes(128)
         + sound("MP3", "MPEG_LAYER_III") + b"TAG" + bytes(125)),
    ]:  # fmt: skip
        yield heard(data, "sounds, odd and right", what, right=is_tone)
    for rate in (8_000, 11_025, 22_050, 24_000, 44_100, 48_000):
        for channels in (1, 2):
            yield heard(
                lambda r=rate, c=channels: sound("MP3", "MPEG_LAYER_III", c, r),
                "sounds, odd and right", f"mp3, {rate} samples a second, {channels} channels",
                "x.mp3", lambda read, r=rate: abs(len(read) - COUNT * 16_000 / r) < 2,
            )  # fmt: skip
    yield Fault("sounds that are none", "a folder",
                lambda f: preprocessing.read_audio(f / "x.wav"), ("x.wav",),
                lambda f: (f / "x.wav").mkdir())  # fmt: skip
    yield Fault("sounds that are none", "a link to nowhere",
                lambda f: preprocessing.read_audio(f / "x.wav"), ("x.wav",),
                lambda f: (f / "x.wav").symlink_to(f / "nowhere"))  # fmt: skip


def sounds_in_memory() -> Iterator[Fault]:
    good = torch.from_numpy(TONE)
    nan = good.clone()
    nan[5] = torch.nan
    wrong = {
        "int16": ((good * 32_767).short(), "int16"), "int32": (good.int(), "int32"),
        "uint8": (good.byte(), "uint8"), "double": (good.double(), "float64"),
        "half": (good.half(), "float16"), "bool": (good > 0, "bool"),
        "complex": (good.to(torch.complex64), "complex64"),
        "two channels": (good.view(2, -1), "(2, 1000)"),
        "a column": (good[:, None], "(2000, 1)"), "a single number": (good[0], "()"),
        "NaN": (nan, "sample 5"), "infinity": (nan.nan_to_num(torch.inf), "inf"),
        "NumPy": (TONE, "NumPy array"), "a list": (TONE.tolist(), "list"), "None": (None, "None"),
    }  # fmt: skip
    for what, (value, named) in wrong.items():
        for name, act in (
            ("log_mel", preprocessing.log_mel),
            ("pitch", preprocessing.pitch),
            ("sound_pictures", lambda one: real_data.sound_pictures([one], 10.0)),
        ):
            yield Fault("sounds in memory", f"{name} of {what}",
                        lambda _, a=act, v=value: a(v), (name, named))  # fmt: skip
    scaled = (good * 32_767).round()
    for what, act, named in [
        ("log_mel of nothing", lambda _: preprocessing.log_mel(good[:0]), "(0,)"),
        ("log_mel of 399 samples", lambda _: preprocessing.log_mel(good[:399]), "(399,)"),
        ("log_mel of 16 bits as fractions", lambda _: preprocessing.log_mel(scaled), "32_768"),
        ("log_mel with 0 bands", lambda _: preprocessing.log_mel(good, 0), "n_mels is 0"),
        ("log_mel with -3 bands", lambda _: preprocessing.log_mel(good, -3), "n_mels is -3"),
        ("log_mel with 2.5 bands", lambda _: preprocessing.log_mel(good, 2.5), "n_mels is 2.5"),
        ("log_mel with a window of 0", lambda _: preprocessing.log_mel(good, n_fft=0), "n_fft"),
        ("log_mel with a hop of 0", lambda _: preprocessing.log_mel(good, hop=0), "hop is 0"),
        ("log_mel with a hop of -1", lambda _: preprocessing.log_mel(good, hop=-1), "hop is -1"),
        ("mel_filters of a text", lambda _: preprocessing.mel_filters("40", 400), "'40'"),
        ("pitch of silence", lambda _: preprocessing.pitch(good * 0), "50 ms"),
        ("pitch of nothing", lambda _: preprocessing.pitch(good[:0]), "50 ms"),
        ("pitch from 0 hertz", lambda _: preprocessing.pitch(good, 0), "between 0 and 400"),
        ("pitch, low above high", lambda _: preprocessing.pitch(good, 500, 400), "500 and 400"),
        ("sound_pictures of nothing", lambda _: real_data.sound_pictures([], 10.0), "no sounds"),
        ("sound_pictures of silence", lambda _: real_data.sound_pictures([good * 0], 10.0),
         "Sound 0 is silent"),
        ("sound_pictures in noise of NaN", lambda _: real_data.sound_pictures([good], np.nan),
         "nan"),
    ]:  # fmt: skip
        yield Fault("sounds in memory", what, act, (named,))
    yield Fault("sounds in memory", "resample of two channels", lambda _: postcards.resample(
        np.zeros((9, 2), np.float32), 8_000), ("(9, 2)",))  # fmt: skip
    yield Fault("sounds in memory", "resample from 0 samples a second",
                lambda _: postcards.resample(TONE, 0), ("0",))  # fmt: skip
    yield Fault("sounds in memory", "resample of int16", lambda _: postcards.resample(
        (TONE * 32_767).astype(np.int16), 8_000), ("int16",))  # fmt: skip
    loud = good + 2 * torch.sin(torch.arange(COUNT))
    yield Fault("sounds, odd and right", "log_mel of noise above 1",
                lambda _: preprocessing.log_mel(loud),
                right=lambda mel: mel.shape == (40, 13) and bool(mel.isfinite().all()))  # fmt: skip


# --- Pictures


@functools.cache
def picture(kind: str, frames: int = 1, **options: object) -> bytes:
    """A noisy picture, or film, as a file of this kind."""
    made = io.BytesIO()
    rng = np.random.default_rng(0)
    first, *rest = (
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)) for _ in range(frames)
    )
    if rest:
        options |= {"save_all": True, "append_images": rest}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first.save(made, kind, **options)
    return made.getvalue()


def seen(data: Callable[[], bytes], kind: str, what: str, name: str = "x.jpg",
         right: Callable[[object], bool] | None = None, film: bool = False) -> Fault:  # fmt: skip
    """A fault of a file that `read_image`, or `read_clip`, reads."""
    read = preprocessing.read_clip if film else preprocessing.read_image
    return Fault(kind, what, lambda folder: read(folder / name), (name,),
                 lambda folder: (folder / name).write_bytes(data()), right)  # fmt: skip


def png(width: int, height: int, *parts: tuple[bytes, bytes]) -> bytes:
    """A PNG file whose header promises this size, with hardly anything in it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), *parts, (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts
    )


def started(folder: Path) -> object:
    """Reads a picture where every program that Pillow may start leaves a mark."""
    mark, programs = folder / "started", folder / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "ffmpeg", "convert", "djpeg", "xv", "inkscape"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> '{mark}'\n")
        (programs / name).chmod(0o755)
    with mock.patch.dict(os.environ, {"PATH": f"{programs}:{os.environ['PATH']}"}):
        try:
            return preprocessing.read_image(folder / "x.jpg")
        except ValueError as error:
            if mark.exists():
                raise AssertionError(f"it started {mark.read_text()}") from None
            raise error


EPS = (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 9 9 rectfill\n"
       b"showpage\n%%EOF\n")  # fmt: skip
FITS = b"".join(line.ljust(80) for line in (
    b"SIMPLE  =                    T", b"BITPIX  =                    8",
    b"NAXIS   =                    2", b"NAXIS1  =                    4",
    b"NAXIS2  =                    4", b"END")).ljust(2880) + bytes(2880)  # fmt: skip


def pictures(rng: random.Random) -> Iterator[Fault]:
    kinds = [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}),
             ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}), ("TIFF", {}),
             ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {})]  # fmt: skip
    for kind, options in kinds:
        for share in (0.1, 0.5, 0.95, rng.uniform(0, 0.98)):

            def cut(kind=kind, options=options, share=share) -> bytes:
                whole = picture(kind, **options)
                return whole[: int(share * len(whole))]

            named = " ".join([kind, *map(str, options.values())])
            yield seen(cut, "pictures cut off", f"{named} at {share:.3f} of its length")
    for kind in ("PNG", "GIF", "WEBP"):
        for share in (0.3, 0.6, 0.9, rng.uniform(0, 0.99)):

            def cut_film(kind=kind, share=share) -> bytes:
                whole = picture(kind, 4)
                return whole[: int(share * len(whole))]

            yield seen(cut_film, "pictures cut off", f"film {kind} at {share:.3f} of its length",
                       film=True)  # fmt: skip
    yield seen(lambda: picture("GIF", 2)[: len(picture("GIF"))], "pictures cut off",
               "a gif between two frames", film=True)  # fmt: skip
    for drawn in [rng.random() for _ in range(8)]:
        yield seen(lambda drawn=drawn: flipped(picture("PNG", 4), drawn), "pictures cut off",
                   f"a film (PNG) with a flipped bit at {drawn:.4f}", film=True)  # fmt: skip
    for what, data in [("EPS", EPS), ("EPS for DOS", b"\xc5\xd0\xd3\xc6" + EPS),
                       ("PostScript", b"%!PS\n" + EPS), ("PDF", b"%PDF-1.4\n%%EOF"),
                       ("WMF", b"\xd7\xcd\xc6\x9a" + bytes(80)),
                       ("EMF", b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60))]:  # fmt: skip
        yield Fault("pictures that are none", f"{what}, where its program is installed", started,
                    ("x.jpg",), lambda f, d=data: (f / "x.jpg").write_bytes(d),
                    own=("started", "programs/.*"))  # fmt: skip
    for what, data in [
        ("FITS", lambda: FITS), ("TGA", lambda: picture("TGA")), ("ICO", lambda: picture("ICO")),
        ("PCX", lambda: picture("PCX")), ("SGI", lambda: picture("SGI")), ("nothing", lambda: b""),
        ("a web page", lambda: b"<html>log in</html>"), ("svg", lambda: b"<svg/>"),
        ("a zip", lambda: b"PK\3\4" + bytes(99)), ("random bytes", lambda: rng.randbytes(999)),
        ("0 pixels", lambda: png(0, 0)), ("0 pixels wide", lambda: png(0, 9)),
        ("65 megapixels", lambda: png(8_125, 8_000)), ("4 gigapixels", lambda: png(65_000, 65_000)),
        ("the largest size", lambda: png(2**31 - 1, 2**31 - 1)),
        ("a film of 1,000,000 frames",
         lambda: png(9, 9, (b"acTL", struct.pack(">II", 1_000_000, 0)))),
        ("16 megapixels of which hardly any is there", lambda: png(4_000, 4_000)),
    ]:  # fmt: skip
        yield seen(data, "pictures that are none", what)
    yield seen(lambda: png(6_000, 6_000, (b"acTL", struct.pack(">II", 9_000, 0))),
               "pictures that are none", "a film of 324,000 megapixels", film=True)  # fmt: skip
    for what, make in (("a folder", Path.mkdir), ("a link to itself", lambda p: p.symlink_to(p)),
                       ("nothing there", lambda p: None)):  # fmt: skip
        yield Fault("pictures that are none", what, lambda f: preprocessing.read_image(f / "x.jpg"),
                    ("x.jpg",), lambda f, m=make: m(f / "x.jpg"))  # fmt: skip
    grey = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))
    for what, made, options in [
        ("16 bits", lambda: Image.fromarray(grey.astype(np.uint16) * 257), {}),
        ("grey", lambda: Image.fromarray(grey), {}),
        ("a palette", lambda: Image.fromarray(grey).convert("P"), {}),
        ("a palette with a colour to see through",
         lambda: Image.fromarray(grey).convert("P"), {"transparency": 255}),
        ("grey to see through", lambda: Image.fromarray(grey).convert("LA"), {}),
    ]:  # fmt: skip

        def saved(made=made, options=options) -> bytes:
            out = io.BytesIO()
            made().save(out, "PNG", **options)
            return out.getvalue()

        yield seen(saved, "pictures, odd and right", what, "x.png", right=lambda read: (
            np.abs(read[1].numpy().astype(int) - grey).max() <= 1))  # fmt: skip
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        yield seen(lambda k=kind: picture(k), "pictures, odd and right", f"{kind} named x.jpg",
                   right=lambda read: read.shape == (3, 20, 30))  # fmt: skip
    for kind in ("PNG", "GIF", "WEBP"):
        yield seen(lambda k=kind: picture(k, 4), "pictures, odd and right", f"a film {kind}",
                   right=lambda read: read.shape == (4, 3, 64, 64), film=True)  # fmt: skip
        yield seen(lambda k=kind: picture(k, 4) + b"\0" * 9, "pictures, odd and right",
                   f"a film {kind} with something behind it",
                   right=lambda read: read.shape == (4, 3, 64, 64), film=True)  # fmt: skip


def pictures_in_memory() -> Iterator[Fault]:
    byte = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    part, batch = byte / 255, torch.rand(2, 3, 20, 30)
    draw = torch.Generator()
    kind = "pictures in memory"
    for what, value, named in [
        ("uint8", byte, "uint8"), ("0 to 255", byte.float(), "up to 2"),
        ("(H, W)", part[0], "(20, 30)"), ("colours last", part.permute(1, 2, 0), "(20, 30, 3)"),
        ("one colour", part[:1], "(1, 20, 30)"), ("NumPy", part.numpy(), "NumPy array"),
        ("no pixels", part[..., :0], "(3, 20, 0)"), ("int64", byte.long(), "int64"),
        ("a text", "a.jpg", "a.jpg"),
    ]:  # fmt: skip
        yield Fault(kind, f"normalise of {what}", lambda _, v=value: preprocessing.normalise(v),
                    ("normalise", named))  # fmt: skip
    for what, value, named in [
        ("fractions", part, "float32"), ("double", part.double(), "float64"),
        ("(H, W)", byte[0], "(20, 30)"), ("colours last", byte.permute(1, 2, 0), "(20, 30, 3)"),
        ("a batch", byte[None], "(1, 3, 20, 30)"), ("four colours", byte[[0, 1, 2, 2]], "(4, 20"),
        ("NumPy", byte.numpy(), "NumPy array"), ("no pixels", byte[:, :0], "(3, 0, 30)"),
    ]:  # fmt: skip
        yield Fault(kind, f"resize of {what}", lambda _, v=value: preprocessing.resize(v, 8),
                    ("resize", named))  # fmt: skip
    for size in (0, -4, 2.5, "64", None):
        yield Fault(kind, f"resize to {size!r}", lambda _, s=size: preprocessing.resize(byte, s),
                    (repr(size),))  # fmt: skip
    for what, value, named in [
        ("one row", byte[0, 0], "(30,)"), ("colours last", byte.permute(1, 2, 0), "(20, 30, 3)"),
        ("NumPy", byte.numpy(), "NumPy array"), ("no pixels", byte[:, :0], "(3, 0, 30)"),
    ]:  # fmt: skip
        yield Fault(kind, f"crop_square of {what}",
                    lambda _, v=value: preprocessing.crop_square(v),
                    ("crop_square", named))  # fmt: skip
    for what, value, reach, named in [
        ("uint8", byte[None], 2, "uint8"), ("one picture", part, 2, "(3, 20, 30)"),
        ("colours last", batch.permute(0, 2, 3, 1), 2, "(2, 20, 30, 3)"),
        ("a reach of -1", batch, -1, "-1"), ("a reach of 1.5", batch, 1.5, "1.5"),
    ]:  # fmt: skip
        yield Fault(kind, f"augment of {what}",
                    lambda _, v=value, r=reach: preprocessing.augment(v, draw, r),
                    (named,))  # fmt: skip
    yield Fault(kind, "normalise with a deviation of 0",
                lambda _: preprocessing.normalise(part, std=(0, 1, 1)), ("(0, 1, 1)",))  # fmt: skip
    for what, value, named in [
        ("(N, H, W)", part, "(3, 20, 30)"), ("three colours", batch, "(2, 3"),
        ("uint8", byte[:1, None], "uint8"),
    ]:  # fmt: skip
        yield Fault(kind, f"as_pictures of {what}", lambda _, v=value: datasets.as_pictures(v),
                    (named,))  # fmt: skip
    yield Fault(kind, "noisy_pictures of uint8",
                lambda _: real_data.noisy_pictures(byte[:1, None], 1.0), ("uint8",))  # fmt: skip
    yield Fault(kind, "noisy_pictures with noise of -1",
                lambda _: real_data.noisy_pictures(part[:1, None], -1.0), ("-1",))  # fmt: skip
    for what, act in [
        ("normalise of double", lambda _: preprocessing.normalise(part.double())),
        ("normalise of noise",
         lambda _: preprocessing.normalise(part + 3 * torch.randn(part.shape))),
        ("normalise of films", lambda _: preprocessing.normalise(batch[:, None])),
        ("crop_square of (H, W)", lambda _: preprocessing.crop_square(part[0])),
        ("crop_square of 3 pixels", lambda _: preprocessing.crop_square(part[..., :3])),
        ("augment of double", lambda _: preprocessing.augment(batch.double(), draw)),
    ]:  # fmt: skip
        yield Fault("pictures, odd and right", what, act,
                    right=lambda out: out.ndim > 1 and bool(out.isfinite().all()))  # fmt: skip


# --- Digits


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    """An array of bytes as an IDX file."""
    head = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def mnist(folder: Path, images: bytes | None = None, labels: bytes | None = None) -> None:
    """A little MNIST, of which one file may be another."""
    written = np.random.default_rng(0).integers(0, 256, (4, 28, 28))
    whole = {"images-idx3": gzip.compress(idx(written)),
             "labels-idx1": gzip.compress(idx(np.array([7, 0, 9, 3])))}  # fmt: skip
    changed = {"images-idx3": images, "labels-idx1": labels}
    for kind, data in whole.items():
        path = folder / f"train-{kind}-ubyte.gz"
        path.write_bytes(data if changed[kind] is None else changed[kind])


def digits(rng: random.Random) -> Iterator[Fault]:
    def fault(what: str, named: str, right: Callable | None = None, **files: bytes) -> Fault:
        return Fault("digits, written and spoken", what, lambda f: datasets.load_mnist("train", f),
                     (named,), lambda f: mnist(f, **files), right)  # fmt: skip

    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28))
    labels = np.array([7, 0, 9, 3])

    def same_pictures(read: tuple) -> bool:
        return torch.equal((read[0][:, 0] * 255).round().long(), torch.as_tensor(images))

    picked, written, many = "train-images", gzip.compress(idx(images)), np.zeros((4, 3, 32, 32))
    said = gzip.compress(idx(labels))
    for label in (10, 23, 255):
        wrong = gzip.compress(idx(np.array([7, 0, label, 3])))
        yield fault(f"a label of {label}", f"a {label}", labels=wrong)
    for side in (27, 29, 32, 64):
        big = gzip.compress(idx(np.zeros((4, side, side))))
        yield fault(f"images of {side} × {side}", f"{side} × {side}", images=big)
    for count in (0, 3, 5):
        yield fault(f"{count} images and 4 labels", f"({count}, 28, 28)" if count else picked,
                    images=gzip.compress(idx(np.zeros((count, 28, 28)))))  # fmt: skip
    for what, data in [
        ("colours, as CIFAR has them", gzip.compress(idx(many))), ("labels for images", said),
        ("a header that promises more", gzip.compress(idx(images)[:-9])),
        ("a header that promises less", gzip.compress(idx(images) + b"more")),
        ("whole numbers of 32 bits", gzip.compress(idx(images, 12))),
        ("another beginning", gzip.compress(b"\1" + idx(images)[1:])),
        ("not packed", idx(images)), ("a web page", b"<html>"),
        ("cut", written[: len(written) // 2]),
        ("cut before its checksum", written[:-8]), ("cut before its last byte", written[:-1]),
        ("something behind it", written + b"rubbish"), ("twice", written + written),
        ("nothing", b""), ("an empty gzip", gzip.compress(b"")),
        ("sizes that overflow", gzip.compress(b"\0\0\x08\3" + b"\xff" * 12)),
        ("255 dimensions", gzip.compress(b"\0\0\x08\xff" + bytes(1020))),
    ]:  # fmt: skip
        yield fault(what, picked, images=data)
    yield fault("images for labels", "train-labels", labels=written)
    for place in [rng.randrange(10, len(written)) for _ in range(6)]:
        damaged = flipped(written, (place + rng.random()) / len(written))
        yield fault(f"a flipped bit in byte {place}", picked, same_pictures, images=damaged)
    yield fault("zeros behind it", "", lambda read: read[1].tolist() == [7, 0, 9, 3],
                images=written + b"\0" * 20)  # fmt: skip

    def spoken(what: str, named: str, plant: Callable, right: Callable | None = None) -> Fault:
        def make(folder: Path) -> None:
            (folder / "recordings").mkdir()
            for name in ("7_theo_12", "7_theo_4", "0_george_0", "3_theo_49"):
                (folder / "recordings" / f"{name}.wav").write_bytes(sound("WAV", "PCM_16", 1, 8000))
            plant(folder / "recordings")

        return Fault("digits, written and spoken", what,
                     lambda f: datasets.load_spoken_digits("train", f), (named,), make, right,
                     )  # fmt: skip

    whole = ["3_theo_49", "7_theo_12"]
    for name in ("seven.wav", "7_theo.wav", "12_theo_3.wav", "7_Theo_3.wav", "x_theo_3.wav"):
        yield spoken(f"a recording named {name}", name,
                     lambda f, n=name: (f / n).write_bytes(b""))  # fmt: skip
    for what, data in (("cut", sound("WAV", "PCM_16", 1, 8000)[:900]), ("empty", b""),
                       ("a web page", b"<html>")):  # fmt: skip
        yield spoken(f"a recording that is {what}", "7_theo_12",
                     lambda f, d=data: (f / "7_theo_12.wav").write_bytes(d))  # fmt: skip
    yield spoken("none of this split", "train", lambda f: [
        (f / f"{name}.wav").unlink() for name in whole])  # fmt: skip
    yield spoken("none at all", "recordings", lambda f: [p.unlink() for p in f.iterdir()])
    yield spoken("what macOS puts beside files", "", lambda f: (f / "._7_theo_12.wav").write_bytes(
        b"\0\5\x16\7"), lambda read: read.names == whole)  # fmt: skip


# --- Sentences, tables, words


def sentences(rng: random.Random) -> Iterator[Fault]:
    english = [f"A dog number {n} runs ." for n in range(6)]
    german = [f"Ein Hund Nummer {n} läuft ." for n in range(6)]

    def fault(what: str, named: str, en: bytes | None = None, de: bytes | None = None,
              right: bool = False) -> Fault:  # fmt: skip
        def make(folder: Path) -> None:
            texts = {"en": english, "de": german}
            for language, given in (("en", en), ("de", de)):
                whole = gzip.compress(("\n".join(texts[language]) + "\n").encode())
                (folder / f"val.{language}.gz").write_bytes(whole if given is None else given)

        def aligned(pairs: object) -> bool:
            return len(pairs[0]) == 6 and all(
                a.split()[3] == b.split()[3] for a, b in zip(*pairs, strict=True)
            )

        return Fault("sentences in two languages", what, lambda f: datasets.load_multi30k("val", f),
                     (named,), make, aligned if right else None)  # fmt: skip

    def joined(lines: list[str], end: str = "\n", code: str = "utf-8") -> bytes:
        return gzip.compress((end.join(lines) + end).encode(code))

    for name, sign in (("a form feed", "\f"), ("U+0085", "\x85"), ("U+2028", "\u2028"),
                       ("U+2029", "\u2029"), ("a vertical tab", "\v"), ("U+001C", "\x1c"),
                       ("a carriage return", "\r")):  # fmt: skip
        place = rng.randrange(6)
        odd = [*german]
        odd[place] = odd[place].replace(" läuft", f"{sign} läuft")
        yield fault(f"{name} within line {place + 1}", "", de=joined(odd), right=True)
    yield fault("Windows' ends of lines", "", en=joined(english, "\r\n"), right=True)
    yield fault("a mark of order of bytes", "", en=joined(english, code="utf-8-sig"), right=True)
    unended = gzip.compress("\n".join(english).encode())
    yield fault("no last end of line", "", en=unended, right=True)
    for place in (0, 3, 5):
        blank = [*english]
        blank[place] = rng.choice(["", "  ", "\t"])
        yield fault(f"line {place + 1} blank", f"Line {place + 1} of", en=joined(blank))
    yield fault("a line too few", "6 English and 5 German", de=joined(german[:-1]))
    yield fault("a line too many", "6 English and 7 German", de=joined([*german, "mehr"]))
    for code in ("latin-1", "utf-16"):
        yield fault(code, "val.de.gz", de=joined(german, code=code))
    whole = joined(german)
    for what, data in [("not packed", b"Ein Hund\n"), ("cut", whole[:30]), ("nothing", b""),
                       ("cut before its checksum", whole[:-8]), ("a web page", b"<html>"),
                       ("rubbish behind it", whole + b"x" * 9)]:  # fmt: skip
        yield fault(what, "val.de.gz", de=data)
    for place in [rng.randrange(10, len(whole)) for _ in range(4)]:
        damaged = flipped(whole, (place + rng.random()) / len(whole))
        yield fault(f"a flipped bit in byte {place}", "val.de.gz", de=damaged, right=True)
    yield Fault("sentences in two languages", "a file is missing", lambda f: (
        (f / "val.de.gz").unlink(), datasets.load_multi30k("val", f)), ("val.de.gz",),
        lambda f: [(f / f"val.{la}.gz").write_bytes(whole) for la in ("en", "de")],
        own=("val.de.gz",))  # fmt: skip


def samples_and_cards(rng: random.Random) -> Iterator[Fault]:
    def sample(what: str, plant: Callable, named: str = "", right: Callable | None = None) -> Fault:
        def make(folder: Path) -> None:
            for file in datasets.SAMPLE.iterdir():
                (folder / file.name).symlink_to(file)
            plant(folder)

        return Fault("the data of the course", what, lambda f: datasets.load_digit_sample("val", f),
                     (named,), make, right)  # fmt: skip

    def replaced(path: Path, data: bytes) -> None:
        path.unlink()
        path.write_bytes(data)

    def rows(change: Callable) -> Callable:
        def make(folder: Path) -> None:
            lines = (datasets.SAMPLE / "spoken.csv").read_text().split("\n")
            replaced(folder / "spoken.csv", "\n".join(change(lines)).encode())

        return make

    for name in ("written.webp", "spoken.csv", "spoken.ogg"):
        yield sample(f"{name} is missing", lambda f, n=name: (f / n).unlink(), name)
        yield sample(f"{name} is empty", lambda f, n=name: replaced(f / n, b""), name)
    for name in ("written.webp", "spoken.ogg"):
        for drawn in [rng.random() for _ in range(2)]:

            def flip(folder: Path, name=name, drawn=drawn) -> None:
                replaced(folder / name, flipped((datasets.SAMPLE / name).read_bytes(), drawn))

            yield sample(f"a flipped bit in {name} at {drawn:.4f}", flip,
                         right=lambda read: real_sample(read))  # fmt: skip
    for what, change in [
        ("two lines of spoken.csv are swapped", lambda lines: [*lines[:3], lines[4], lines[3],
                                                                *lines[5:]]),
        ("a line of spoken.csv is missing", lambda lines: [*lines[:3], *lines[4:]]),
        ("other columns in spoken.csv", lambda lines: ["a,b", *lines[1:]]),
        ("a text for a number in spoken.csv",
         lambda lines: [lines[0], lines[1].split(",")[0] + ",many", *lines[2:]]),
        ("another name in spoken.csv", lambda lines: [lines[0], "eight,4000", *lines[2:]]),
        ("a relabelled recording in spoken.csv",
         lambda lines: [lines[0], "9" + lines[1][1:], *lines[2:]]),
    ]:  # fmt: skip
        yield sample(what, rows(change))

    drawn_cards = functools.cache(lambda: postcards.draw(3, seed=6))

    def cards(what: str, plant: Callable, named: str, right: Callable | None = None) -> Fault:
        def make(folder: Path) -> None:
            postcards.write_cards(drawn_cards(), folder / "cards.csv")
            postcards.write_captions(drawn_cards(), folder / "captions.txt")
            (folder / "images").mkdir()
            for card in drawn_cards():
                postcards.picture(card).save(folder / "images" / f"{card.name}.png")
            plant(folder)

        return Fault("the data of the course", what,
                     lambda f: datasets.load_postcards("all", root=f), (named,), make, right,
                     )  # fmt: skip

    def cell(column: str, value: str) -> Callable:
        def make(folder: Path) -> None:
            with open(folder / "cards.csv", newline="", encoding="utf-8") as file:
                table = list(csv.DictReader(file))
            table[1][column] = value
            with open(folder / "cards.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, table[0].keys())
                writer.writeheader()
                writer.writerows(table)

        return make

    for column, value in [("mood", "much"), ("mood", "nan"), ("mood", "inf"), ("mood", "7"),
                          ("sentiment", ""), ("width", "12.5"), ("width", ""), ("seen", "yes"),
                          ("split", "tset"), ("face_x", "1e9"), ("clip_from", "first"),
                          ("tone", "-1.5")]:  # fmt: skip
        yield cards(f"{column} is {value!r}", cell(column, value), column)
    yield cards("two cards of one name", cell("name", "fresh_0000"), "fresh_0000")
    yield cards("a picture is missing", lambda f: (f / "images" / "fresh_0001.png").unlink(),
                "fresh_0001.png")  # fmt: skip
    yield cards("a picture is cut", lambda f: os.truncate(f / "images" / "fresh_0001.png", 400),
                "fresh_0001.png")  # fmt: skip
    for drawn in [rng.random() for _ in range(5)]:

        def flip_picture(folder: Path, drawn=drawn) -> None:
            path = folder / "images" / "fresh_0001.png"
            data = path.read_bytes()
            path.write_bytes(flipped(data, drawn * (1 - 12 / len(data))))  # the end says nothing

        yield cards(f"a flipped bit in a picture at {drawn:.4f}", flip_picture, "fresh_0001.png",
                    lambda read: torch.equal(read.images, datasets.paint(read.cards)))  # fmt: skip
    for what, text in [
        ("a caption's file in another coding", b"image,caption\nfresh_0000.png,\xe4\n"),
        ("a caption's file that names a card twice",
         b"image,caption\nfresh_0000.png,a\nfresh_0000.png,b\nfresh_0001.png,c\nfresh_0002.png,d\n"),
        ("a caption's file that opens a quote", b'image,caption\nfresh_0000.png,"a\n'),
        ("an empty file of captions", b""),
    ]:  # fmt: skip
        yield cards(what, lambda f, t=text: (f / "captions.txt").write_bytes(t), "captions.txt")
    yield cards("captions with a mark of order of bytes and Windows' ends of lines",
                lambda f: (f / "captions.txt").write_bytes(
                    b"\xef\xbb\xbf" + (f / "captions.txt").read_bytes().replace(b"\n", b"\r\n")),
                "", lambda read: len(read) == 3)  # fmt: skip
    few = functools.cache(lambda: datasets.draw_postcards(3, 0))
    for what, which in [("a place too far", [0, 3]), ("a fraction", [0.5]), ("texts", ["a"]),
                        ("a mask of another length", [True, False]), ("a table", [[0, 1]]),
                        ("a place too far from the end", [-4])]:  # fmt: skip
        yield Fault("the data of the course", f"subset of {what}",
                    lambda _, w=which: few().subset(w))  # fmt: skip
    yield Fault("the data of the course", "one card by its number", lambda _: few()[1], ("[1]",))
    for what, which, count in [("nothing", [], 0), ("a mask", [True, False, True], 2),
                               ("from the end", [-1], 1),
                               ("NumPy", np.array([2, 0]), 2)]:  # fmt: skip
        yield Fault("the data of the course", f"subset of {what}",
                    lambda _, w=which: few().subset(w),
                    right=lambda read, c=count: len(read) == c)  # fmt: skip


def real_sample(read: tuple) -> bool:
    """Whether this is the course's own sample, as it is."""
    own = datasets.load_digit_sample("val")
    return torch.equal(read[0], own[0]) and torch.equal(read[1], own[1])


def vocabularies() -> Iterator[Fault]:
    special = list(preprocessing.SPECIAL_WORDS)
    for what, text in [
        ("deeply nested", "[" * 100_000), ("nothing", ""), ("white space", "  \n"),
        ("no list", '{"words": []}'), ("numbers", "[1, 2, 3, 4]"), ("NaN", "[NaN]"),
        ("no special words", '["dog"]'), ("an empty list", "[]"),
        ("a word twice", json.dumps([*special, "dog", "dog"])),
        ("cut", json.dumps([*special, "dog"])[:-4]),
        ("a number without end", "[" + "9" * 9999 + "]"),
        ("null", "null"), ("lists within", json.dumps([*special, ["dog"]])),
    ]:  # fmt: skip
        yield Fault("words", what, lambda f: preprocessing.Vocabulary.load(f / "words.json"),
                    ("words.json",),
                    lambda f, t=text: (f / "words.json").write_text(t))  # fmt: skip
    yield Fault("words", "another coding", lambda f: preprocessing.Vocabulary.load(f / "w.json"),
                ("w.json",), lambda f: (f / "w.json").write_bytes(b'["\xe4"]'))  # fmt: skip
    yield Fault("words", "a mark of order of bytes",
                lambda f: preprocessing.Vocabulary.load(f / "w.json").words,
                plant=lambda f: (f / "w.json").write_text(json.dumps(special), "utf-8-sig"),
                right=lambda words: words == special)  # fmt: skip
    vocabulary = preprocessing.Vocabulary([*special, "dog"])
    for number in (5, -1, 10**12):
        yield Fault("words", f"decode of {number}", lambda _, n=number: vocabulary.decode([4, n]),
                    (str(number),))  # fmt: skip
    yield Fault("words", "a text for a list of words",
                lambda _: preprocessing.Vocabulary("<pad>"), ("<pad>",))  # fmt: skip
    yield Fault("words", "saved where a folder is",
                lambda f: vocabulary.save(f / "words"), ("words",),
                lambda f: (f / "words").mkdir())  # fmt: skip

    def full(folder: Path) -> None:
        def write(path: Path, text: str, **_: object) -> None:
            with open(path, "w") as file:
                file.write(text[:9])
            raise OSError(28, "No space left on device")

        with mock.patch.object(Path, "write_text", write):
            vocabulary.save(folder / "words.json")

    yield Fault("words", "saved on a full disk", full, ("words.json",),
                lambda f: (f / "words.json").write_text("[]"))  # fmt: skip
    for what, act in [
        ("an unknown language", lambda _: preprocessing.segment("a", "fr")),
        ("a text of nothing but tags", lambda _: preprocessing.tokenize("<b> </b>")),
        ("padding nothing", lambda _: preprocessing.pad([])),
        ("padding an empty sentence", lambda _: preprocessing.pad([[1], []])),
    ]:
        yield Fault("words", what, act)
