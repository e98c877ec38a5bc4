"""datasets.py: the Postcards loader, captions in folders, the digits."""

import shutil
import time

import pytest
import torch
from PIL import Image

from mbm_lab import datasets, postcards, preprocessing


@pytest.fixture
def folder(tmp_path):
    """A learner's own folder: two pictures with captions, in a path with spaces."""
    root = tmp_path / "my own pictures"
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 70), "red").save(root / "images" / name)
    (root / "captions.txt").write_text('image,caption\na.png,a red card\nb.png,"red, too"\n')
    return root


def test_sizes_types_and_ranges():
    cards = datasets.load_postcards("val")
    assert len(cards) == len(cards.messages) == len(cards.captions) == 800
    assert cards.images.shape == (800, 3, 64, 64)
    assert cards.images.dtype == cards.mood.dtype == torch.float32
    assert cards.images.min() >= 0
    assert cards.images.max() <= 1
    assert cards.voices is None
    assert cards.clips is None
    assert cards.seen.all()


def test_images_are_those_of_the_files():
    cards = datasets.load_postcards("test")
    path = datasets.POSTCARDS / "images" / f"{cards.names[123]}.png"
    assert torch.equal(cards.images[123], preprocessing.load_image(path))


def test_voices_and_clips():
    cards = datasets.load_postcards("test", parts=("voice", "clip"))[:3]
    assert cards.images is None
    assert all(voice.ndim == 1 and len(voice) > 8000 for voice in cards.voices)
    assert all(clip.shape == (8, 3, 64, 64) for clip in cards.clips)
    rest = datasets.load_postcards("test", parts=("voice",))
    assert rest.voices[postcards.VOICED["test"]] is None


def test_what_is_not_asked_for_is_not_looked_for(tmp_path):
    for name in ("cards.csv", "captions.txt"):
        shutil.copy(datasets.POSTCARDS / name, tmp_path)
    cards = datasets.load_postcards("val", parts=(), root=tmp_path)
    assert cards.cards == datasets.load_postcards("val", parts=()).cards
    assert cards.images is None
    with pytest.raises(FileNotFoundError, match="val_0000.png"):
        datasets.load_postcards("val", parts=("image",), root=tmp_path)


def test_captions_are_those_of_captions_txt(tmp_path):
    shutil.copy(datasets.POSTCARDS / "cards.csv", tmp_path)
    text = (datasets.POSTCARDS / "captions.txt").read_text(encoding="utf-8")
    text = text.replace("\nval_0000.png,", "\nval_0000.png,my own words on ")
    (tmp_path / "captions.txt").write_text(text, encoding="utf-8")
    cards = datasets.load_postcards("val", parts=(), root=tmp_path)
    before = datasets.load_postcards("val", parts=()).captions
    assert cards.captions == [f"my own words on {before[0]}", *before[1:]]
    assert cards.cards[0].caption == cards.captions[0]


def test_subsets_by_slice_index_and_mask():
    cards = datasets.load_postcards("test")
    assert cards[10:12].names == cards.names[10:12]
    assert cards.subset([5, 3]).messages == [cards.messages[5], cards.messages[3]]
    unseen = cards.subset(~cards.seen)
    assert len(unseen) == 300
    assert torch.equal(unseen.images[0], cards.images[~cards.seen][0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("training",), "Unknown split 'training'"),
        (("val", ("picture",)), "Unknown part 'picture'"),
    ],
)
def test_unknown_names(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        datasets.load_postcards(*arguments)


@pytest.mark.slow
def test_all_images_load_in_time():
    start = time.perf_counter()
    datasets.load_postcards("all")
    assert time.perf_counter() - start < 3 * 3


def test_drawn_cards_have_the_loader_s_shape():
    cards = datasets.draw_postcards(4, seed=2, combinations="unseen")
    assert cards.images.shape == (4, 3, 64, 64)
    assert not cards.seen.any()


def test_captions_of_an_own_folder(folder):
    assert datasets.read_captions(folder) == [("a.png", "a red card"), ("b.png", "red, too")]
    (folder / "images").rename(folder / "Images")
    (folder / "captions.txt").write_text("caption,image\nfirst,a.png\nsecond,a.png\n", "utf-8-sig")
    assert datasets.read_captions(folder) == [("a.png", "first"), ("a.png", "second")]


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("name;text\na.png;x\n", ValueError, 'must begin with the line "image,caption"'),
        ("image,caption\nc.png,x\n", FileNotFoundError, "line 2: the image c.png is not in"),
        ("image,caption\na.png,x\nb.png, \n", ValueError, "line 3: the caption of b.png is empty"),
        ("image,caption\na.png\n", ValueError, "line 2: the caption of a.png is empty"),
        ("", ValueError, "is empty"),
        (b"image,caption\na.png,caf\xe9\n", ValueError, "is not UTF-8"),
    ],
)
def test_a_caption_file_that_is_wrong(folder, text, error, sentence):
    path = folder / "captions.txt"
    path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    with pytest.raises(error, match=sentence):
        datasets.read_captions(folder)


def test_a_folder_without_captions_or_images(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no captions.txt"):
        datasets.read_captions(tmp_path)
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(FileNotFoundError, match="needs a folder `images`"):
        datasets.read_captions(folder)


def test_digits():
    images, digits, images_test, digits_test = datasets.load_digits()
    assert images.shape == (1347, 3, 64, 64)
    assert images_test.shape == (450, 3, 64, 64)
    assert images.min() == 0
    assert images.max() <= 1
    assert sorted(set(digits.tolist())) == sorted(set(digits_test.tolist())) == list(range(10))


def test_notes_are_read_where_there_are_any():
    cards = datasets.load_postcards("test", parts=("note",))
    with_note = [note for note in cards.notes if note is not None]
    assert len(with_note) == 120
    assert cards.notes[0].ndim == 1
    assert cards.note_texts[0].endswith(cards.captions[0])
    assert cards[:3].notes[2] is cards.notes[2]
