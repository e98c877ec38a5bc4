"""endings: files of sound and film that are cut off are told from whole ones."""

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from mbm_lab import datasets, endings


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "file"
        path.write_bytes(data)
        return path

    return write


def sound(kind, subtype, rate=16_000):
    made = io.BytesIO()
    tone = 0.4 * np.sin(np.arange(3000) / 6)
    soundfile.write(made, tone, rate, format=kind, subtype=subtype)
    return made.getvalue()


def test_the_lengths_in_a_wav_header_by_hand(written):
    head = b"RIFF" + struct.pack("<I", 44) + b"WAVEfmt " + struct.pack(
        "<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)  # fmt: skip
    for promised, held, why in [
        (8, 8, None), (8, 9, None), (9, 9, None), (0xFFFF_FFFF, 8, None), (0x7FFF_FFFF, 8, None),
        (8, 7, "more sound (8 bytes) than it holds (7 bytes)"), (8, 0, "holds (0 bytes)"),
        (1_000, 8, "(1,000 bytes)"),
    ]:  # fmt: skip
        said = endings.sound_fault(written(head + b"data" + struct.pack("<I", promised)
                                           + bytes(held)))  # fmt: skip
        assert (said is None) if why is None else (why in said)
    assert "before its sound begins" in endings.sound_fault(written(head))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
     ("AU", "PCM_16"), ("NIST", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
     ("MP3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_a_sound_is_whole_with_its_last_byte_and_cut_off_without(written, kind, subtype):
    whole = sound(kind, subtype)
    assert endings.sound_fault(written(whole)) is None
    for cut in (1, 2, 9, len(whole) // 2, len(whole) - 200):
        assert "is cut off" in endings.sound_fault(written(whole[:-cut])), cut


def test_an_mp3_that_does_not_say_its_length_is_looked_at_frame_by_frame(written):
    whole = sound("MP3", "MPEG_LAYER_III")
    first = endings._mp3_length(whole)
    frames = whole[first:]  # without the frame that says how long all of it is
    assert endings.sound_fault(written(frames)) is None
    assert endings.sound_fault(written(frames + b"TAG" + bytes(125))) is None
    assert endings.sound_fault(written(b"ID3\4\0\0\0\0\1\0" + bytes(128) + frames)) is None
    assert "in the middle of a frame" in endings.sound_fault(written(frames[:-1]))
    # 128 kilobits a second at 44,100 samples: the figure that everybody knows
    assert endings._mp3_length(b"\xff\xfb\x90\x00") == 417
    assert endings._mp3_length(b"\xff\xfb\x92\x00") == 418


def test_the_checksum_of_ogg_is_that_of_the_course_s_own_voices(written):
    voice = next((datasets.POSTCARDS / "voices").iterdir())
    assert endings.sound_fault(voice) is None
    data = bytearray(voice.read_bytes())
    data[len(data) // 2] ^= 1
    assert "the checksum at byte" in endings.sound_fault(written(bytes(data)))


def test_a_wav_whose_writer_filled_nothing_in_is_read_to_its_end(written):
    whole = sound("WAV", "PCM_16")
    for size in (0, 36, 0xFFFF_FFFF):
        stream = whole[:4] + struct.pack("<I", size) + whole[8:40] + bytes(4) + whole[44:]
        assert endings.stream_data(written(stream)) == endings.Ending(44, 6000)
    assert endings.stream_data(written(whole)) is None
    empty = whole[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO"  # really no sound
    assert endings.stream_data(written(empty[:4] + struct.pack("<I", 48) + empty[8:])) is None


def film(kind):
    made = io.BytesIO()
    rng = np.random.default_rng(0)
    first, *rest = (Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)) for _ in range(3))
    first.save(made, kind, save_all=True, append_images=rest)
    return made.getvalue()


def test_a_gif_has_an_end_wherever_it_is_cut(written):
    whole = film("GIF")
    assert endings.film_fault(written(whole)) is None
    assert endings.film_fault(written(whole + b"more")) is None
    for cut in range(13, len(whole)):
        assert "last frames are missing" in endings.film_fault(written(whole[:cut])), cut


def test_every_part_of_a_png_has_its_checksum(written):
    whole = film("PNG")
    assert endings.film_fault(written(whole)) is None
    for place in range(8, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 8
        assert endings.film_fault(written(bytes(flipped))) is not None, place
    assert zlib.crc32(b"IEND").to_bytes(4, "big") == whole[-4:]
