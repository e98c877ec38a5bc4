"""preprocessing.py: by hand, against the libraries, and every error's sentence."""

import gc
import io
import math
import struct
import warnings
import zlib
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from mbm_lab import datasets, preprocessing


@pytest.fixture
def card():
    return datasets.POSTCARDS / "images" / "train_0054.png"


# --- images


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_read_image_whatever_its_mode(tmp_path, mode):
    picture = Image.new("RGB", (5, 4), (200, 100, 50)).convert(mode)
    picture.save(tmp_path / "x.png")
    image = preprocessing.read_image(tmp_path / "x.png")
    assert image.shape == (3, 4, 5)
    assert image.dtype == torch.uint8
    assert image[:, 0, 0].tolist() == list(picture.convert("RGB").getpixel((0, 0)))


def test_images_that_cannot_be_read(tmp_path, card):
    cases = {"empty.png": b"", "cut.png": card.read_bytes()[:500], "text.png": b"not an image"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a readable image"):
            preprocessing.load_image(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(FileNotFoundError, match="There is no image at"):
        preprocessing.read_image(tmp_path / "nowhere.png")


def test_crop_square_by_hand():
    wide = torch.tensor([[[10, 20, 30, 40], [50, 60, 70, 80]]])
    assert preprocessing.crop_square(wide).tolist() == [[[20, 30], [60, 70]]]
    assert preprocessing.crop_square(wide.mT).tolist() == [[[20, 60], [30, 70]]]
    odd = torch.arange(5).view(1, 1, 5)
    assert preprocessing.crop_square(odd).tolist() == [[[2]]]


def test_resize_by_hand_and_by_pillow():
    flat = torch.full((3, 7, 7), 90, dtype=torch.uint8)
    assert torch.equal(preprocessing.resize(flat, 3), torch.full((3, 3, 3), 90, dtype=torch.uint8))
    image = torch.randint(
        256, (3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (8, 8), Image.Resampling.BILINEAR
    )
    assert np.array_equal(preprocessing.resize(image, 8).permute(1, 2, 0), np.asarray(pillow))
    torchs = torch.nn.functional.interpolate(
        image[None].float(), (8, 8), mode="bilinear", antialias=True
    )
    assert (preprocessing.resize(image, 8) - torchs[0]).abs().max() <= 1.5  # Pillow rounds twice


def test_load_image(card):
    image = preprocessing.load_image(card)
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert preprocessing.load_image(card, size=32).shape == (3, 32, 32)


def test_normalise_by_hand_and_back():
    image = torch.tensor([2.0, 4.0, 6.0]).view(1, 3, 1, 1)
    normal = preprocessing.normalise(image, mean=(1, 2, 3), std=(1, 2, 3))
    assert normal.flatten().tolist() == [1, 1, 1]


def test_pixel_mean_and_std_are_those_of_the_training_images():
    images = datasets.load_postcards("train").images
    assert images.mean((0, 2, 3)).tolist() == pytest.approx(preprocessing.PIXEL_MEAN, abs=0.0006)
    assert images.std((0, 2, 3)).tolist() == pytest.approx(preprocessing.PIXEL_STD, abs=0.0006)


def test_augment_moves_and_mirrors_and_nothing_else():
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    found = set()
    for _ in range(60):
        variant = preprocessing.augment(image, generator, reach=1)
        assert variant.shape == image.shape
        inner = variant[..., 2:-2, 2:-2]
        for mirrored in (False, True):
            original = image.flip(-1) if mirrored else image
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if torch.equal(inner, original[..., 2 + dy : 62 + dy, 2 + dx : 62 + dx]):
                        found.add((mirrored, dy, dx))
    assert len(found) == 18


def test_augment_moves_by_two_pixels_unless_told_otherwise():
    """A picture of columns that count: the corner says how far it was moved."""
    image = torch.arange(64.0).expand(1, 1, 64, 64)
    generator, moves = torch.Generator().manual_seed(0), set()
    for _ in range(100):
        row = preprocessing.augment(image, generator)[0, 0, 0]
        row = row.flip(0) if row[0] > row[-1] else row
        moves.add(int(row[32]) - 32)
    assert moves == {-2, -1, 0, 1, 2}


# --- texts


def test_read_text(tmp_path):
    path = tmp_path / "message.txt"
    path.write_text("日本 ✓", encoding="utf-8-sig")
    assert preprocessing.read_text(path) == "日本 ✓"
    for content, sentence in (
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"caf\xe9", "byte 3 is wrong"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            preprocessing.read_text(path)
    with pytest.raises(FileNotFoundError, match="There is no text"):
        preprocessing.read_text(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  The FOOD\t was ", "the food was"),
        ("fish &amp; <b>chips</b>", "fish & chips"),
        ("Ｃａｆｅ\u0301", "café"),
        ("3 < 5 and 7 > 2", "3 < 5 and 7 > 2"),
        ("I <3 you, a<b", "i <3 you, a<b"),
        ("the <sea> and <b and c>", "the <sea> and <b and c>"),
        ("sun&region, AT&T", "sun&region, at&t"),
    ],
)
def test_clean(text, cleaned):
    assert preprocessing.clean(text) == cleaned
    assert preprocessing.clean(cleaned) == cleaned


def test_clean_takes_out_html_and_nothing_else():
    page = '<p class=x>a<br/>b <a href="y>z" title=\'t\'>c</a><!-- d > e --> &lt;b&gt; &#233;</P >'
    assert preprocessing.clean(page) == "a b c <b> é"


@given(st.text(st.characters(codec="ascii", exclude_characters="\x1c\x1d\x1e\x1f")))
def test_clean_loses_no_text_silently(text):
    """Without tags and codes everything stays but spaces and capitals."""
    if preprocessing.HTML_TAG.search(text) or preprocessing.HTML_CODE.search(text):
        return
    if not text.split():
        with pytest.raises(ValueError, match="The text is empty"):
            preprocessing.clean(text)
        return
    assert preprocessing.clean(text) == " ".join(text.lower().split())


@given(st.text(st.sampled_from("ab<>/!-&;# \"'=3"), max_size=24))
def test_what_clean_takes_for_html_begins_with_a_name_or_ends_with_a_semicolon(text):
    """Of a text full of signs, only whole tags, comments and codes go."""
    for found in preprocessing.HTML_TAG.findall(text):
        inside = found[1:-1].strip("/ ")
        assert inside.startswith("!--") or inside.split()[0] in ("a", "b"), found
    lost = preprocessing.HTML_TAG.sub("", preprocessing.HTML_CODE.sub("", text))
    if lost.split():
        kept = preprocessing.clean(text)
        assert all(kept.count(sign) >= lost.count(sign) for sign in "<>3&")


TEXTS = st.text(st.sampled_from("研究生命的起源,。a b3\u200b") | st.characters(codec="utf-8"))


@given(TEXTS, st.sampled_from(["en", "de", "zh"]))
def test_segmenting_loses_only_white_space(text, language):
    words = preprocessing.segment(text, language)
    assert "".join("".join(words).split()) == "".join(text.split())


@given(TEXTS, st.lists(st.text(st.sampled_from("研究生命的起源"), min_size=1, max_size=3)))
def test_longest_match_takes_the_longest_word_each_time(text, words):
    pieces = preprocessing.longest_match(text, words)
    assert "".join(pieces) == text
    for place, piece in enumerate(pieces):
        rest = "".join(pieces[place:])
        fitting = [word for word in words if rest.startswith(word)]
        assert piece == max(fitting, key=len, default=rest[0])


def test_longest_match_fails_where_jieba_does_not():
    words = ["研究", "研究生", "生命", "的", "起源"]
    assert preprocessing.longest_match("研究生命的起源", words) == ["研究生", "命", "的", "起源"]
    assert preprocessing.segment("研究生命的起源", "zh") == ["研究", "生命", "的", "起源"]


def test_merges_are_those_of_the_paper():
    """The example of Sennrich, Haddow and Birch (2016): low, lower, newest, widest."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    merges = preprocessing.learn_merges(words, 10)
    joined = ["es", "est", "est·", "lo", "low", "ne", "new", "newest·", "low·", "wi"]
    assert ["".join(pair) for pair in merges] == joined
    assert preprocessing.subwords("lowest", merges) == ["low", "est·"]
    assert preprocessing.subwords("west", merges) == ["w", "est·"]
    assert preprocessing.learn_merges(["ab"], 9) == [("a", "b"), ("ab", "·")]  # then it is whole
    assert preprocessing.learn_merges(["aaa"], 1) == [("a", "a")]
    assert preprocessing.subwords("aaa", [("a", "a")]) == ["aa", "a", "·"]
    assert preprocessing.subwords("aaaa", [("a", "a")]) == ["aa", "aa", "·"]


@given(
    st.lists(st.text(st.sampled_from("ab研·"), max_size=6), max_size=8),
    st.integers(0, 12),
    st.text(st.sampled_from("abc研") | st.characters(codec="utf-8"), max_size=8),
)
def test_merges_reproduce_every_text(words, count, new):
    merges = preprocessing.learn_merges(words, count)
    assert len(merges) <= count
    for word in [*words, new]:
        pieces = preprocessing.subwords(word, merges)
        assert "".join(pieces) == word + preprocessing.WORD_END
        made = {"".join(pair) for pair in merges}
        assert all(len(piece) == 1 or piece in made for piece in pieces)
    whole = preprocessing.learn_merges(words, 200)
    assert all(len(preprocessing.subwords(word, whole)) == 1 for word in words)


def test_the_chinese_part_of_the_lesson():
    """The numbers of its table, and that the test captions hold no new word."""
    captions = datasets.load_postcards("train", parts=()).captions_zh
    cut = [preprocessing.tokenize(text, "zh") for text in captions]
    vocabulary = preprocessing.Vocabulary.build(cut)
    test = datasets.load_postcards("test", parts=()).captions_zh
    in_test = {word for text in test for word in preprocessing.tokenize(text, "zh")}
    assert in_test <= set(vocabulary.words)
    for text, words in zip(captions[:300], cut, strict=False):
        cleaned = preprocessing.clean(text)
        assert preprocessing.longest_match(cleaned, vocabulary.words) == words
    assert vocabulary.encode(preprocessing.tokenize("一只老虎", "zh"))[-1] == preprocessing.UNK
    clauses = [clause for text in map(preprocessing.clean, captions) for clause in text.split(",")]
    merges = preprocessing.learn_merges(clauses, 40)
    known = {*"".join(clauses), preprocessing.WORD_END, *map("".join, merges)}
    assert set(preprocessing.subwords("一只老虎", merges)) - known == {"虎"}
    tokens = sum(len(preprocessing.subwords(clause, merges)) for clause in clauses)
    assert tokens / len(captions) < sum(map(len, cut)) / len(captions)


def test_an_empty_message_says_so():
    for text in ("", "  \n", "<br>"):
        with pytest.raises(ValueError, match="The text is empty"):
            preprocessing.tokenize(text)


def test_tokenize_english_and_chinese():
    assert preprocessing.tokenize("It wasn't bad.") == ["it", "wasn't", "bad", "."]
    chinese = preprocessing.tokenize("旁边有一只老鼠", language="zh")
    assert "".join(chinese) == "旁边有一只老鼠"
    assert "老鼠" in chinese
    with pytest.raises(ValueError, match="Unknown language 'fr'"):
        preprocessing.segment("ja", language="fr")


def test_vocabulary_by_hand(tmp_path):
    vocabulary = preprocessing.Vocabulary.build([["b", "a", "b"], ["c", "b", "a"]])
    assert vocabulary.words == ["<pad>", "<unk>", "<bos>", "<eos>", "b", "a", "c"]
    assert vocabulary.encode(["c", "x", "b"]) == [6, preprocessing.UNK, 4]
    assert vocabulary.decode([6, 0, 1, 4]) == ["c", "<unk>", "b"]
    assert len(vocabulary) == 7
    vocabulary.save(tmp_path / "words.json")
    assert preprocessing.Vocabulary.load(tmp_path / "words.json").words == vocabulary.words
    rare = preprocessing.Vocabulary.build([["b", "a", "b"]], min_count=2)
    assert rare.words[4:] == ["b"]
    with pytest.raises(ValueError, match="begins with the special words"):
        preprocessing.Vocabulary(["a", "b"])


WORDS = st.sampled_from(["a", "b", *preprocessing.SPECIAL_WORDS]) | st.text(
    st.characters(codec="utf-8"), max_size=4
)
SENTENCES = st.lists(st.lists(WORDS, max_size=6), max_size=6)


@given(SENTENCES, st.integers(1, 3), st.lists(WORDS))
def test_every_vocabulary_gives_its_words_back(tmp_path_factory, sentences, min_count, other):
    vocabulary = preprocessing.Vocabulary.build(sentences, min_count)
    special, words = vocabulary.words[:4], vocabulary.words[4:]
    assert special == list(preprocessing.SPECIAL_WORDS)
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = {word for word, count in counts.items() if count >= min_count} - set(special)
    assert sorted(words) == sorted(kept)  # each of them once
    assert words == sorted(words, key=lambda word: -counts[word])
    for sentence in [*sentences, other]:
        known = [word if word in kept or word in special else "<unk>" for word in sentence]
        read = vocabulary.decode(vocabulary.encode(sentence))
        assert read == [word for word in known if word != "<pad>"]
    path = tmp_path_factory.getbasetemp() / "words.json"
    vocabulary.save(path)
    loaded = preprocessing.Vocabulary.load(path)
    assert (loaded.words, loaded.index) == (vocabulary.words, vocabulary.index)


@pytest.mark.parametrize("text", ["5", "null", '{"<pad>": 0}', '["<pad>"', '"<pad>"', "[1, 2, 3]"])
def test_a_file_that_holds_no_list_of_words_is_one_sentence(tmp_path, text):
    (tmp_path / "words.json").write_text(text)
    with pytest.raises(ValueError, match="words.json is not a JSON list of words: replace it"):
        preprocessing.Vocabulary.load(tmp_path / "words.json")


@given(st.lists(st.lists(st.integers(1, 2**40), min_size=1, max_size=8), min_size=1, max_size=6))
def test_padding_keeps_every_sequence_and_its_length(sequences):
    tokens = preprocessing.pad(sequences)
    sizes = preprocessing.lengths(tokens).tolist()
    assert sizes == [len(sequence) for sequence in sequences]
    assert tokens.shape == (len(sequences), max(sizes))
    for row, sequence, size in zip(tokens.tolist(), sequences, sizes, strict=True):
        assert row[:size] == sequence
        assert set(row[size:]) <= {preprocessing.PAD}


def test_pad_and_lengths_by_hand():
    tokens = preprocessing.pad([[4, 7], [5, 9, 6]])
    assert tokens.tolist() == [[4, 7, 0], [5, 9, 6]]
    assert tokens.dtype == torch.long
    assert preprocessing.lengths(tokens).tolist() == [2, 3]
    for sequences in ([], [[4], []]):
        with pytest.raises(ValueError, match="Cannot pad an empty sequence"):
            preprocessing.pad(sequences)


def test_text_to_tensor():
    vocabulary = preprocessing.Vocabulary.build([["the", "sea"]])
    assert preprocessing.text_to_tensor(["The sea", "SEA?"], vocabulary).tolist() == [
        [5, 4],
        [4, 1],
    ]


# --- sound


def test_read_audio(tmp_path):
    path = tmp_path / "tone.wav"
    samples = np.sin(np.arange(4000) / 10).astype(np.float32) / 2
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert preprocessing.read_audio(path).numpy() == pytest.approx(samples)


TONE = 0.5 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 16_000)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((f"{kind}.wav", {"subtype": kind}) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")),
        ("float.wav", {"subtype": "FLOAT"}), ("double.wav", {"subtype": "DOUBLE"}),
        ("x.flac", {}), ("x.ogg", {}), ("x.mp3", {}), ("x.aiff", {}),
    ],
)  # fmt: skip
def test_sound_of_any_depth_and_kind_is_the_same_tone(tmp_path, name, options):
    soundfile.write(tmp_path / name, TONE, 16_000, **options)
    said = []
    sound = preprocessing.read_audio(tmp_path / name, say=said.append)
    assert (sound.shape, sound.dtype, said) == ((8000,), torch.float32, [])
    assert (sound[1000:7000] - torch.from_numpy(TONE)[1000:7000]).abs().max() < 0.06


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_any_rate_is_resampled_and_channels_are_averaged_and_both_are_said(tmp_path, rate, capsys):
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)
    soundfile.write(tmp_path / "x.wav", np.stack([0.6 * tone, 0.2 * tone], 1), rate)
    sound = preprocessing.read_audio(tmp_path / "x.wav")
    assert abs(len(sound) - 16_000) <= 1
    wanted = torch.sin(torch.arange(16_000) * 2 * math.pi * 440 / 16_000) * 0.4
    assert (sound[500:15_500] - wanted[500:15_500]).abs().max() < 0.01
    assert capsys.readouterr().out == (
        f"{tmp_path / 'x.wav'} has 2 channels: their mean is taken.\n"
        f"{tmp_path / 'x.wav'} has {rate:,} samples a second: it is resampled to 16,000.\n"
    )
    preprocessing.read_audio(tmp_path / "x.wav", rate)
    assert "samples a second" not in capsys.readouterr().out
    soundfile.write(tmp_path / "x.wav", np.stack([tone, -tone], 1) / 2, 16_000, subtype="FLOAT")
    assert preprocessing.read_audio(tmp_path / "x.wav").abs().max() > 0.4
    assert "the first is taken, since they cancel out" in capsys.readouterr().out


def test_audio_that_does_not_fit(tmp_path):
    path = tmp_path / "x.wav"
    cases = [
        (np.zeros((100, 2)), 16_000, "is silent, all of its samples are 0"),
        (np.zeros(0), 16_000, "holds no sound"),
        (np.array([0.1, np.nan]), 16_000, "samples that are no numbers"),
        (np.array([0.1, np.inf]), 16_000, "samples that are no numbers"),
        (TONE, 100, "100 samples a second, which no sound has"),
        (np.full(3_700_000, 0.1, np.float32), 1_000, "is longer than an hour"),
    ]
    for samples, rate, sentence in cases:
        soundfile.write(path, samples, rate, subtype="FLOAT")
        with pytest.raises(ValueError, match=sentence):
            preprocessing.read_audio(path)
    soundfile.write(path, TONE, 16_000)
    whole = path.read_bytes()
    soundfile.write(tmp_path / "x.flac", TONE, 16_000)
    lying = bytearray((tmp_path / "x.flac").read_bytes())
    lying[21:26] = b"\xff" * 5  # so many samples would not fit into any memory
    for data, sentence in [
        (b"no sound", "is not a readable sound file"), (b"", "is not a readable sound file"),
        (whole[:5000], "is cut off, its header promises more sound"),
        (whole[:24] + b"\0\0\0\0" + whole[28:], "is not a readable sound file"),
        (bytes(lying), "is not a readable sound file|is cut off"),
        (b"\0\0\0\x20ftypM4A ", "it looks like m4a"), (b"<html>", "not a readable sound file"),
    ]:  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ValueError, match=sentence):
            preprocessing.read_audio(path)
    path.write_bytes(whole[:40] + b"\xff\xff\xff\xff" + whole[44:])  # a stream's header
    assert len(preprocessing.read_audio(path)) == len(TONE)
    with pytest.raises(FileNotFoundError, match="There is no sound at"):
        preprocessing.read_audio(tmp_path / "nowhere.wav")


def test_mel_filters_by_hand():
    filters = preprocessing.mel_filters(n_mels=3, n_fft=8, sample_rate=8000)
    assert filters.shape == (3, 5)
    top = 2595 * math.log10(1 + 4000 / 700)
    edges = [700 * (10 ** (top * k / 4 / 2595) - 1) for k in range(5)]
    for band in range(3):
        left, centre, right = edges[band : band + 3]
        for bin_, hertz in enumerate((0, 1000, 2000, 3000, 4000)):
            height = min((hertz - left) / (centre - left), (right - hertz) / (right - centre))
            assert filters[band, bin_].item() == pytest.approx(max(0, height), abs=1e-6)


def test_log_mel_finds_a_tone_in_its_band():
    time = torch.arange(16_000) / 16_000
    mel = preprocessing.log_mel(torch.sin(2 * torch.pi * 1000 * time))
    assert mel.shape == (40, 101)
    filters = preprocessing.mel_filters(40, 400)
    assert mel[:, 50].argmax() == filters[:, 25].argmax()  # bin 25 of 40 Hz each is 1000 Hz
    silence = preprocessing.log_mel(torch.zeros(16_000))
    assert torch.allclose(silence, torch.tensor(1e-6).log())


def test_log_mel_is_the_fourier_transform_of_each_window():
    wave = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    start = 5 * 160 - 200  # frame 5 is centred on sample 800
    window = wave[start : start + 400] * torch.hann_window(400)
    angles = 2 * torch.pi * torch.arange(201)[:, None] * torch.arange(400) / 400
    energy = (window * torch.cos(angles)).sum(1) ** 2 + (window * torch.sin(angles)).sum(1) ** 2
    by_hand = (preprocessing.mel_filters(40, 400) @ energy + 1e-6).log()
    assert torch.allclose(preprocessing.log_mel(wave)[:, 5], by_hand, atol=1e-3)


@pytest.mark.parametrize("wave", [torch.zeros(100), torch.zeros(2, 1000)])
def test_log_mel_refuses(wave):
    with pytest.raises(ValueError, match="one channel of at least 400 samples"):
        preprocessing.log_mel(wave)


@pytest.mark.parametrize("hertz", [80, 123, 220, 350])
def test_pitch_of_a_known_tone(hertz):
    """A buzz with overtones, as of a voice, whose lowest tone is even missing."""
    time = torch.arange(8000) / 16_000
    wave = sum(torch.sin(2 * torch.pi * k * hertz * time) / k for k in (2, 3, 4, 5))
    assert preprocessing.pitch(wave) == pytest.approx(hertz, rel=0.02)
    quiet = torch.sin(2 * torch.pi * 300 * time) / 100  # another, soft tone does not count
    assert preprocessing.pitch(torch.cat([wave, quiet, quiet])) == pytest.approx(hertz, rel=0.02)
    assert preprocessing.pitch(wave + 0.5) == pytest.approx(hertz, rel=0.02)


@pytest.mark.parametrize("wave", [torch.zeros(8000), torch.ones(799), torch.zeros(0)])
def test_pitch_refuses(wave):
    with pytest.raises(ValueError, match="at least 50 ms of sound that is not silent"):
        preprocessing.pitch(wave)


@pytest.mark.slow
def test_a_happy_voice_is_higher_and_faster_than_the_same_voice_when_sad():
    """What lesson 01 shows: within each voice, not across them."""
    voiced = datasets.load_postcards("train", parts=("voice",))
    rows = [i for i, card in enumerate(voiced.cards) if card.voice]
    numbers = torch.tensor([
        [preprocessing.pitch(voiced.voices[i]), voiced.tone[i],
         sum(map(str.isalpha, voiced.messages[i])) * 16_000 / len(voiced.voices[i])]
        for i in rows
    ])  # fmt: skip
    names = [voiced.cards[i].voice for i in rows]
    assert torch.corrcoef(numbers.T)[0, 1] < 0.55
    for name in set(names):
        own = numbers[[one == name for one in names]]
        pitch_by_tone, _, pace_by_tone = torch.corrcoef(own.T)[1].tolist()
        assert pitch_by_tone > 0.95, name
        assert pace_by_tone > 0.75, name


# --- video


def test_read_clip(tmp_path):
    frames = [Image.new("RGB", (50, 40), (value, 0, 0)) for value in (0, 100, 200)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    clip = preprocessing.read_clip(tmp_path / "x.webp", size=16)
    assert clip.shape == (3, 3, 16, 16)
    assert (clip[:, 0, 0, 0] * 255).round().tolist() == [0, 100, 200]
    (tmp_path / "broken.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="is not a readable image"):
        preprocessing.read_clip(tmp_path / "broken.webp")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_photograph_is_turned_as_its_camera_says(tmp_path, orientation, ending):
    upright = Image.new("RGB", (32, 16), "blue")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("white", (0, 0, 16, 8))
    turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
             4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
             6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
             8: Image.Transpose.ROTATE_270}  # fmt: skip
    lying = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photograph.{ending}"
    lying.save(path, exif=exif, quality=95)
    pixels = preprocessing.read_image(path)
    assert pixels.shape == (3, 16, 32)
    wanted = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    for top, left in ((4, 4), (12, 4), (8, 24)):
        assert (pixels[:, top, left].int() - wanted[:, top, left].int()).abs().max() < 30


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "I", "F"])
def test_pictures_of_any_colour_mode_keep_light_and_dark(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 40), (30, 1))
    if mode in ("I;16", "I"):
        picture = Image.fromarray((grey * 257).astype(np.uint16))
        picture = picture.convert("I") if mode == "I" else picture
    else:
        picture = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    path = tmp_path / f"picture.{'tif' if mode in ('CMYK', 'F', 'I') else 'png'}"
    picture.save(path)
    row = preprocessing.read_image(path)[:, 15].float().mean(0)
    assert row[:4].mean() < 60
    assert row[-4:].mean() > 195
    if mode != "1":
        assert 90 < row[18:22].mean() < 165


def read_strictly(path, size=None):
    """Reads a picture with every warning an error, and all files closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = preprocessing.load_image(path, size or 16)
        pixels = preprocessing.read_image(path)
        gc.collect()  # a file left open warns here
    assert small.shape == (3, size or 16, size or 16)
    return pixels


def test_what_is_transparent_is_white(tmp_path):
    hidden = Image.new("RGBA", (6, 4), (255, 0, 0, 0))
    hidden.putpixel((2, 1), (0, 0, 255, 255))
    half = Image.new("RGBA", (6, 4), (100, 0, 0, 128))
    for name, picture, options in [
        ("a.png", hidden, {}), ("a.webp", hidden, {"lossless": True, "exact": True}),
        ("a.gif", hidden, {}), ("a.tif", hidden, {}),
        ("b.png", hidden.convert("LA"), {}),
        ("c.png", Image.new("RGB", (6, 4), (9, 8, 7)), {"transparency": (9, 8, 7)}),
        ("d.png", Image.new("L", (6, 4), 9), {"transparency": 9}),
        ("e.png", hidden.quantize(4), {}),
    ]:  # fmt: skip
        picture.save(tmp_path / name, **options)
        pixels = read_strictly(tmp_path / name)
        assert pixels[:, 3, 5].tolist() == [255] * 3, name
        if name.startswith("a"):
            assert pixels[:, 1, 2].tolist() == [0, 0, 255], name
    half.save(tmp_path / "half.png")
    assert read_strictly(tmp_path / "half.png")[:, 0, 0].tolist() == [177, 127, 127]


@pytest.mark.parametrize(
    ("top", "kind"),
    [(65_535, np.uint16), (16_383, np.uint16), (4_095, np.uint16), (255, np.uint16),
     (1, np.float32), (255, np.float32), (65_535, np.float32)],
)  # fmt: skip
def test_pictures_of_more_bits_look_as_those_of_eight(tmp_path, top, kind):
    grey = np.tile(np.linspace(0, 200, 40).round(), (8, 1))  # not up to white
    picture = Image.fromarray((grey / 255 * top).astype(kind))
    path = tmp_path / ("x.tif" if kind is np.float32 else "x.png")
    picture.save(path)
    assert np.abs(read_strictly(path)[1].numpy() - grey).max() <= 1


def test_pictures_of_no_usual_range_are_scaled_from_least_to_most(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 40), (8, 1))
    for values in (ramp * 1e6, ramp * 1e-6, 2 * ramp - 1, (ramp * 3).round()):
        Image.fromarray(values.astype(np.float32)).save(tmp_path / "x.tif")
        row = read_strictly(tmp_path / "x.tif")[0, 0]
        assert (row.min(), row.max()) == (0, 255)
    for values, wanted in [(ramp * np.nan, 0), (ramp * 0 + 0.5, 128), (ramp * 0, 0)]:
        Image.fromarray(values.astype(np.float32)).save(tmp_path / "x.tif")
        assert set(read_strictly(tmp_path / "x.tif").flatten().tolist()) == {wanted}
    values = np.where(ramp > 0.8, np.inf, ramp)
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "x.tif")
    assert read_strictly(tmp_path / "x.tif")[0, 0, -1] == 255


def png(width, height):
    """The head of a PNG file of this size, with hardly anything in it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts
    )


def test_what_is_no_picture_to_read_is_one_sentence_and_no_warning(tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((90, 90), 50).save(whole, "JPEG")
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    for name, data, part in [
        ("65.png", png(8_125, 8_000), "has 65 megapixels, and pictures of up to 64 are read"),
        ("100.png", png(10_000, 10_000), "has 100 megapixels"),
        ("400.png", png(20_000, 20_000), "has 400 megapixels"),
        ("cut.jpg", whole.getvalue()[:1500], "empty, cut off, or another kind of file"),
        ("cut.png", png(90, 90), "empty, cut off, or another kind of file"),
        ("empty.png", b"", "empty, cut off, or another kind of file"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0", "looks like a HEIC photograph: save it as JPEG"),
        ("a.png", b"\0\0\0\x18ftypheic\0\0", "looks like a HEIC photograph: save it as JPEG"),
        ("a.svg", svg, "a drawing (SVG): save it as PNG"), ("b.svg", b"<svg/>", "a drawing (SVG)"),
        ("a.pdf", b"%PDF-1.4", "a PDF"), ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "(EPS)"),
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0", "a camera's raw file: save it as JPEG"),
        ("a.cr3", b"\0\0\0\x18ftypcrx ", "a camera's raw file"),
        ("a.jpg", b"\n<!DOCTYPE html>", "a web page"), ("a.mp4", b"\0\0\0\x18ftypisom", "a film"),
        ("b.jpg", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name) as error:
            read_strictly(tmp_path / name)
        assert part in str(error.value)
        assert "\n" not in str(error.value)
        assert (tmp_path / name).read_bytes() == data
    gc.collect()


def test_a_raw_file_whose_first_page_is_a_thumbnail_is_not_taken_for_it(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[271], info[50706] = "A camera", b"\1\4\0\0"  # DNG
    Image.new("RGB", (16, 12)).save(tmp_path / "x.dng", format="TIFF", tiffinfo=info)
    with pytest.raises(ValueError, match="looks like a camera's raw file: save it as JPEG"):
        preprocessing.read_image(tmp_path / "x.dng")


def test_of_a_film_the_first_frame_is_read_and_every_file_is_closed(tmp_path):
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("red", "lime", "blue")]
    for ending in ("gif", "webp", "png", "tif"):
        path = tmp_path / f"x.{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert read_strictly(path)[0].min() > 240
        assert read_strictly(path)[1:].max() < 15


def test_a_large_photograph_is_decoded_at_reduced_size(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.linear_gradient("L").resize((2400, 1800)).convert("RGB")
    picture.save(tmp_path / "x.jpg", exif=exif, quality=95)
    decoded, load = [], ImageFile.ImageFile.load

    def spy(image):
        decoded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", spy)
    small = preprocessing.load_image(tmp_path / "x.jpg")
    assert decoded[0] == (600, 450)
    whole = preprocessing.resize(
        preprocessing.crop_square(preprocessing.read_image(tmp_path / "x.jpg")), 64
    )
    assert decoded[-1] == (2400, 1800)
    assert (small * 255 - whole).abs().max() < 4  # upright, too


def test_damaged_exif_harms_no_picture(tmp_path):
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    Image.new("RGB", (20, 10), "red").save(tmp_path / "x.jpg", exif=exif)
    assert read_strictly(tmp_path / "x.jpg").shape == (3, 10, 20)


def picture_files():
    """Small pictures of many kinds, as bytes."""
    grey = Image.linear_gradient("L").resize((20, 14))
    for mode, kind in [("RGB", "PNG"), ("RGBA", "WEBP"), ("P", "GIF"), ("L", "JPEG"),
                       ("F", "TIFF"), ("CMYK", "JPEG"), ("I;16", "PNG"), ("1", "BMP")]:  # fmt: skip
        data = io.BytesIO()
        grey.convert(mode).save(data, kind)
        yield data.getvalue()


@given(st.sampled_from(list(picture_files())), st.integers(0, 10**6), st.binary(max_size=9))
def test_any_damage_leaves_a_picture_or_one_sentence(tmp_path_factory, data, place, piece):
    path = tmp_path_factory.getbasetemp() / "damaged"
    place %= len(data)
    path.write_bytes(data[:place] + piece + data[place + len(piece) :])
    try:
        pixels = preprocessing.read_image(path)
    except ValueError:
        return
    assert pixels.dtype == torch.uint8
    assert pixels.ndim == 3
