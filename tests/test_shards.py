"""shards.py: any number of cards in tar files, written and read with one shard in memory."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
import webdataset
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mbm_lab import (
    __main__,
    atomic,
    cnn,
    datasets,
    fusion,
    place,
    postcards,
    preprocessing,
    rnn,
    shards,
    stored,
    training,
)
from mbm_lab.device import seeded
from tests.small_runs import MSE, PowerCut, contents, cut_after, same

pytestmark = pytest.mark.usefixtures("on_one_thread")

CARDS, SIZE = 47, 20
"""Three shards: 20, 20 and 7 cards."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of shards, which no test changes."""
    made = tmp_path_factory.mktemp("shards") / "cards"
    shards.write(made, CARDS, cards_per_shard=SIZE, progress=False)
    return made


@pytest.fixture(scope="module")
def words():
    return stored.load("message_reader")[1]


@pytest.fixture(scope="module")
def cards():
    """The same cards, drawn in memory."""
    return [postcards.sample_card(0, number, "shards", "seen") for number in range(CARDS)]


def small_reader(words):
    """A picture reader and a message reader, as small as they can be; with dropout."""
    with seeded(0):
        image = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Dropout(0.3), nn.Linear(48, 4))
        return both(image, rnn.TextEncoder(len(words), 4))


def both(image, message):
    encoders, dim = {"image": image, "message": message}, message.dim
    return fusion.MultimodalModel(
        encoders, fusion.WeightedSum(tuple(encoders), dim), nn.Linear(dim, 1)
    )


def read(loader):
    """All that a loader gives, in order: images, messages padded to one length, moods."""
    batches = list(loader)
    longest = max(inputs["message"].shape[1] for inputs, _ in batches)
    messages = [nn.functional.pad(inputs["message"], (0, longest - inputs["message"].shape[1]))
                for inputs, _ in batches]  # fmt: skip
    moods = torch.cat([mood for _, mood in batches])
    return torch.cat([inputs["image"] for inputs, _ in batches]), torch.cat(messages), moods


# --- What is written


def test_a_card_is_three_files_that_hold_what_was_drawn(folder, cards):
    found = shards.find(folder)
    assert [path.name for path in found] == [f"cards-00000{k}.tar" for k in range(3)]
    with tarfile.open(found[1]) as tar:
        names = tar.getnames()
        picture, message, factors = (tar.extractfile(name).read() for name in names[3:6])
    assert len(names) == 3 * SIZE
    assert names[3:6] == ["00000021.ppm", "00000021.txt", "00000021.json"]
    card = cards[21]
    pixels = torch.tensor(list(Image.open(io.BytesIO(picture)).tobytes())).view(64, 64, 3)
    assert torch.equal(pixels.permute(2, 0, 1) / 255, datasets.paint([card])[0])
    assert message.decode() == card.message
    held = json.loads(factors)
    known = ("mood", "expression", "sentiment", "caption", "caption_zh", "colour", "object")
    assert {name: held[name] for name in known} == {name: getattr(card, name) for name in known}
    assert not {"voice", "change", "clip_from"} & held.keys()  # what this card has not


def test_the_cards_are_new_and_show_what_training_may_see(cards):
    fresh = {card.message for card in postcards.draw(CARDS, 0)}
    course = {card.message for card in postcards.read_cards(datasets.POSTCARDS)}
    assert len({card.message for card in cards} - fresh - course) > 0.9 * CARDS
    assert all(card.seen for card in cards)


def test_a_card_is_the_same_however_many_are_drawn_and_another_for_another_seed(folder, tmp_path):
    (few,) = shards.write(tmp_path / "few", 7, progress=False)
    (others,) = shards.write(tmp_path / "others", 7, seed=1, progress=False)
    with tarfile.open(few) as tar, tarfile.open(folder / "cards-000000.tar") as first:
        for name in tar.getnames():
            assert tar.extractfile(name).read() == first.extractfile(name).read()
    assert others.read_bytes() != few.read_bytes()


def test_the_bytes_tell_nothing_of_who_wrote_them_and_when(folder):
    with tarfile.open(folder / "cards-000000.tar") as tar:
        about = {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) for one in tar}
    assert about == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.parametrize("stop", [0, 13, 20, 33, 46])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, monkeypatch, stop):
    sample, drawn = postcards.sample_card, []

    def until(limit):
        def draw(seed, number, *rest):
            if len(drawn) == limit:
                raise PowerCut
            drawn.append(number)
            return sample(seed, number, *rest)

        return draw

    options = {"cards_per_shard": SIZE, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(postcards, "sample_card", until(stop))
        with pytest.raises(PowerCut):
            shards.write(tmp_path, CARDS, **options)
        assert len(list(tmp_path.glob("*.tar"))) == stop // SIZE
        with pytest.raises(FileNotFoundError, match="no shards" if stop < SIZE else "missing"):
            shards.find(tmp_path)
        drawn.clear()
        patch.setattr(postcards, "sample_card", until(None))
        shards.write(tmp_path, CARDS, **options)
    assert drawn == list(range(stop // SIZE * SIZE, CARDS))
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("writing", range(6))
def test_whatever_was_written_last_a_run_goes_on(folder, tmp_path, monkeypatch, writing):
    """A run that ends just before, or in, each of its six writings: of the recipe and of a shard,
    three times; with its unfinished file still there."""
    whole, count = atomic.write_whole, iter(range(6))

    def killed(path, write):
        if next(count) == writing:
            path.with_name(f"{path.name}.77.part").write_bytes(b"half")
            raise PowerCut
        whole(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_whole", killed)
        with pytest.raises(PowerCut):
            shards.write(tmp_path, CARDS, cards_per_shard=SIZE, progress=False)
    shards.write(tmp_path, CARDS, cards_per_shard=SIZE, progress=False)
    assert contents(tmp_path) == contents(folder)


WRITE = "from mbm_lab import shards; shards.write({folder!r}, 47, cards_per_shard=5)"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_run_that_is_killed_leaves_no_half_shard_and_goes_on(tmp_path):
    made = tmp_path / "made"
    words = [sys.executable, "-c", WRITE.format(folder=str(made))]
    run = subprocess.Popen(words, cwd=place.COURSE, stderr=subprocess.DEVNULL)
    while run.poll() is None and not (made / "cards-000003.tar").exists():
        time.sleep(0.002)
    time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    for path in made.glob("*.tar"):
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 3 * 5
    shards.write(made, CARDS, cards_per_shard=5, progress=False)
    undisturbed = tmp_path / "undisturbed"
    shards.write(undisturbed, CARDS, cards_per_shard=5, progress=False)
    assert contents(made) == contents(undisturbed)


def test_nothing_of_somebody_else_is_overwritten(folder, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds letter\.txt.* name a new or empty folder"):
        shards.write(tmp_path, 3)
    assert contents(tmp_path) == {"letter.txt": b"mine"}
    before = contents(folder)
    for options, wrong in (
        ({"cards": CARDS, "seed": 5}, "seed: 0, not 5"),
        ({"cards": 48}, "cards: 47, not 48"),
        ({"cards": CARDS, "cards_per_shard": 21}, "cards a shard: 20, not 21"),
    ):
        with pytest.raises(FileExistsError, match=wrong):
            shards.write(folder, **{"cards_per_shard": SIZE, **options})
    assert contents(folder) == before


def test_the_command_writes_says_so_and_goes_with_its_options(tmp_path, capsys):
    made = tmp_path / "made"
    assert __main__.main(["postcards", "--shards", str(made), "--cards", "3", "--seed", "4"]) == 0
    assert f"Written: 3 cards in 1 shards, in {made}" in capsys.readouterr().out
    (path,) = shards.find(made)
    (other,) = shards.write(tmp_path / "other", 3, seed=4, progress=False)
    assert path.read_bytes() == other.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"missing: write it .* {made} --cards 3 --seed 4`"):
        shards.find(made)
    for words, said in (
        (
            ["--shards", str(tmp_path / "x")],
            f"--shards {tmp_path / 'x'} lacks how many cards: add --cards",
        ),
        (["--out", str(tmp_path / "x"), "--cards", "3"], "--cards is 3, and goes with --shards"),
        (["--out", str(tmp_path / "x"), "--seed", "0"], "--seed is 0, and goes with --shards"),
        (["--shards", str(tmp_path / "x"), "--cards", "0"], "cards is 0: give a whole number"),
    ):
        assert __main__.main(["postcards", *words]) == 2
        assert capsys.readouterr().err.startswith(f"mbm-lab: {said}")
    with pytest.raises(SystemExit):
        __main__.main(["postcards", "--out", "x", "--shards", "y"])
    assert not (tmp_path / "x").exists()


# --- What is read


def test_examples_are_what_the_models_read_of_the_same_cards_in_memory(folder, words, cards):
    examples = list(shards.Shards(folder, words))
    assert len(examples) == len(shards.Shards(folder, words)) == CARDS
    pictures = datasets.paint(cards)
    for (inputs, mood), card, picture in zip(examples, cards, pictures, strict=True):
        assert torch.equal(inputs["image"], picture)
        assert inputs["image"].is_contiguous()
        tokens = preprocessing.text_to_tensor([card.message], words)[0]
        assert torch.equal(inputs["message"], tokens)
        assert inputs["message"].dtype == torch.long
        assert torch.equal(mood, torch.tensor(card.mood))


def test_collate_pads_the_messages_to_the_longest(folder, words, cards):
    (inputs, moods), *_ = DataLoader(
        shards.Shards(folder, words), batch_size=12, collate_fn=shards.collate
    )
    assert inputs["image"].shape == (12, 3, 64, 64)
    texts = [card.message for card in cards[:12]]
    assert torch.equal(inputs["message"], preprocessing.text_to_tensor(texts, words))
    assert moods.tolist() == pytest.approx([card.mood for card in cards[:12]])


@pytest.mark.parametrize("batch_size", [1, 6, 19, 20, 64])
def test_a_batch_is_of_one_shard_none_is_a_single_card_and_their_number_is_known(
    folder, words, batch_size
):
    loader = shards.loader(folder, words, batch_size=batch_size)
    counts = [len(moods) for _, moods in loader]
    assert len(counts) == len(loader)
    wanted = [n for size in (20, 20, 7) for n in training.batch_sizes(size, batch_size)]
    assert sorted(counts) == sorted(wanted)
    assert batch_size == 1 or 1 not in counts


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_every_card_comes_once_whoever_reads_it(folder, words, cards, workers):
    data = shards.loader(folder, words, batch_size=6, workers=workers)
    in_order = shards.loader(folder, words, batch_size=6, workers=workers, shuffle=False)
    known = torch.tensor([card.mood for card in cards]).sort().values
    for loader in (data, in_order):
        assert torch.equal(read(loader)[2].sort().values, known)
    if workers < 2:
        assert read(in_order)[2].tolist() == pytest.approx([card.mood for card in cards])


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides(folder, words, workers):
    def moods(loader):
        return read(loader)[2]

    options = {"batch_size": 6, "workers": workers}
    loader = shards.loader(folder, words, **options)
    first, second = moods(loader), moods(loader)
    assert not torch.equal(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(99)  # nobody else's draws matter: processes may have drawn differently
        again = shards.loader(folder, words, **options)
        assert torch.equal(moods(again), first)
        before = torch.get_rng_state()
        assert torch.equal(moods(again), second)
        assert torch.equal(torch.get_rng_state(), before)
    other = shards.loader(folder, words, seed=1, **options)
    assert not torch.equal(moods(other), first)
    shards_first = [set(one[:7].tolist()) & set(first.tolist()) for one in (first, second)]
    assert shards_first[0] != shards_first[1]


def test_shuffling_mixes_the_shards_and_the_cards_in_each(folder, words, cards):
    place_of = {round(card.mood, 4): number for number, card in enumerate(cards)}
    loader = shards.loader(folder, words, batch_size=64)
    orders = []
    for _ in range(8):
        numbers = [place_of[round(mood, 4)] for mood in read(loader)[2].tolist()]
        blocks = list(dict.fromkeys(number // SIZE for number in numbers))
        orders.append(tuple(blocks))
        for block in blocks:
            inside = [number for number in numbers if number // SIZE == block]
            assert inside != sorted(inside)
    assert len(set(orders)) > 2


def test_without_a_generator_the_order_is_drawn_from_pytorchs_own_numbers(folder, words):
    def moods():
        data = shards.Shards(folder, words, shuffle=True)
        return [float(mood) for _, mood in data]

    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = moods(), moods()
        torch.manual_seed(5)
        assert moods() == first != second


@pytest.mark.slow
def test_workers_that_begin_anew_read_the_same_as_copies_of_this_process(folder, words):
    """As they do on Windows and macOS, and on Linux from Python 3.14 on."""
    anew, copies = (shards.loader(folder, words, batch_size=6, workers=1) for _ in range(2))
    anew.multiprocessing_context = "spawn"
    for ours, theirs in zip(read(anew), read(copies), strict=True):
        assert torch.equal(ours, theirs)


def test_memory_is_pinned_where_there_is_a_gpu(folder, words, monkeypatch):
    assert shards.loader(folder, words).pin_memory is torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert shards.loader(folder, words).pin_memory is True
    assert shards.loader(folder, words, pin_memory=False).pin_memory is False


def test_other_cards_words_and_batches_are_described_in_other_words(folder, words, tmp_path):
    shards.write(tmp_path, 7, seed=3, progress=False)
    fewer = preprocessing.Vocabulary(words.words[:9])
    described = [
        shards.Shards(folder, words, batch_size=6, shuffle=True),
        shards.Shards(folder, words, batch_size=6),
        shards.Shards(folder, words, batch_size=7),
        shards.Shards(folder, fewer, batch_size=6),
        shards.Shards(tmp_path, words, batch_size=6),
    ]
    said = [one.in_words() for one in described]
    assert len(set(said)) == len(said)
    assert said[0] == shards.loader(folder, words, batch_size=6, seed=8).dataset.in_words()


# --- Training


def test_training_from_shards_is_training_from_the_same_batches_in_memory(folder, words):
    reader, other = small_reader(words), small_reader(words)
    options = {"epochs": 2, "one_cycle": True, "progress": False}
    training.fit(
        reader, shards.loader(folder, words, batch_size=6, shuffle=False), loss=MSE, **options
    )
    batches = list(shards.loader(folder, words, batch_size=6, shuffle=False))
    in_memory = DataLoader(batches, batch_size=None, generator=torch.Generator())
    training.fit(other, in_memory, loss=MSE, **options)
    assert same(reader, other)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_stopped(
    folder, words, tmp_path, workers
):
    def run(loss=MSE, **options):
        reader = small_reader(words)
        loader = shards.loader(folder, words, batch_size=6, workers=workers)
        training.fit(reader, loader, loss=loss, epochs=3, progress=False, seed=2, **options)
        return reader

    whole = run()
    with pytest.raises(PowerCut):
        run(cut_after(22), checkpoint=tmp_path)  # an epoch has ten batches: in its third
    assert same(run(checkpoint=tmp_path, resume=True), whole)


def test_a_run_does_not_go_on_with_other_cards_or_another_order(folder, words, tmp_path):
    def run(folder, **options):
        loader = shards.loader(folder, words, **{"batch_size": 6, **options})
        data = {"checkpoint": tmp_path / "run", "resume": (tmp_path / "run").exists()}
        training.fit(small_reader(words), loader, loss=MSE, epochs=1, progress=False, **data)

    run(folder)
    shards.write(tmp_path / "others", CARDS, seed=1, cards_per_shard=SIZE, progress=False)
    run(folder, seed=5)  # the order goes on from the checkpoint
    for other, options, wrong in (
        (tmp_path / "others", {}, "data set of the training data is Shards of 47 cards"),
        (folder, {"batch_size": 7}, "data set of the training data is .*batch size 6, shuffled"),
        (folder, {"shuffle": False}, "data set of the training data is .*, shuffled, not"),
        (folder, {"workers": 1}, "workers of the training data is 0, not 1"),
    ):
        with pytest.raises(ValueError, match=wrong):
            run(other, **options)


def test_a_real_model_learns_from_shards(folder, words):
    """Batch normalisation copes with every batch, also with a shard's last."""
    with seeded(0):
        model = both(cnn.ImageEncoder(32), rnn.TextEncoder(len(words), 32))
    history = training.fit(
        model, shards.loader(folder, words, batch_size=19), loss=MSE, epochs=8, progress=False
    )
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]


# --- What goes wrong


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the folder, to be damaged."""
    made = tmp_path / "cards"
    made.mkdir()
    for name, content in contents(folder).items():
        (made / name).write_bytes(content)
    return made


def damage(copied, change):
    path = copied / "cards-000001.tar"
    path.write_bytes(change(path.read_bytes()))


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "a flipped bit of a picture": lambda data: data[:5000] + bytes([data[5000] ^ 4]) + data[5001:],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
}


@pytest.mark.parametrize(("what", "workers"), [*((what, 0) for what in DAMAGES), ("cut", 1)])
def test_damage_is_told_in_one_sentence_also_by_a_worker(copied, words, what, workers):
    damage(copied, DAMAGES[what])
    loader = shards.loader(copied, words, batch_size=6, workers=workers, shuffle=False)
    with pytest.raises(shards.ShardError) as raised:
        list(loader)
    said = str(raised.value)
    assert said.startswith(f"{copied / 'cards-000001.tar'} is damaged, or another file than was")
    assert said.endswith("which writes it again.")
    assert "\n" not in said


def test_what_was_damaged_can_be_written_again(copied, folder):
    damage(copied, DAMAGES["cut"])
    options = {"cards_per_shard": SIZE, "progress": False}
    with pytest.raises(shards.ShardError, match="move it away"):
        shards.write(copied, CARDS, **options)
    (copied / "cards-000001.tar").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cards-000001\.tar is missing: call shards\.write"
    ):
        shards.find(copied)
    shards.write(copied, CARDS, **options)
    assert contents(copied) == contents(folder)


def test_a_flipped_bit_of_the_recipe_is_seen(copied):
    path = copied / shards.RECIPE
    data = path.read_bytes()
    for at in range(0, 8 * len(data), 7):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            assert len(shards.find(copied)) == 3  # a space that became another changes nothing
        except ValueError as error:
            assert "is damaged, or not of the course: put a whole copy" in str(error)  # noqa: PT017


def test_a_file_that_no_run_wrote_is_no_shard(copied, words):
    """A run that was stopped after its first shard, and a file where the second will come."""
    path = copied / shards.RECIPE
    recipe = shards._read_recipe(copied)
    del recipe["shards"]["cards-000001.tar"]
    shards._write_recipe(copied, recipe)
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"cards-000001\.tar is missing"):
        shards.loader(copied, words)
    with pytest.raises(shards.ShardError, match=r"cards-000001\.tar is damaged, or another file"):
        shards.write(copied, CARDS, cards_per_shard=SIZE, progress=False)
    assert path.read_bytes() == before


def test_what_is_no_folder_of_shards_is_told(tmp_path, words):
    with pytest.raises(FileNotFoundError, match="There is no folder .*: check the name"):
        shards.find(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="There are no shards in .*: check the name"):
        shards.loader(tmp_path, words)
    with pytest.raises(ValueError, match="vocabulary is a list: pass a preprocessing.Vocabulary"):
        shards.loader(tmp_path, ["sea"])
    with pytest.raises(ValueError, match="collate makes a batch of examples"):
        shards.collate([torch.ones(3)])


# --- Others


@pytest.mark.parametrize("kind", ["torchrgb", "pil"])
def test_webdataset_reads_the_same_cards(folder, words, cards, kind):
    """The package whose form it is, and so every tool that reads this form."""
    paths = [str(path) for path in shards.find(folder)]
    data = webdataset.WebDataset(paths, shardshuffle=False).decode(kind)
    found = list(data)
    pictures = datasets.paint(cards)
    assert [one["__key__"] for one in found] == [f"{number:08}" for number in range(CARDS)]
    for one, card, picture in zip(found, cards, pictures, strict=True):
        pixels = one["ppm"]
        if kind == "pil":
            assert isinstance(pixels, Image.Image)
            pixels = torch.tensor(list(pixels.tobytes())).view(64, 64, 3).permute(2, 0, 1) / 255
        assert torch.equal(pixels, picture)
        assert one["txt"] == card.message
        assert one["json"]["mood"] == card.mood


MEMORY = """
import sys
from mbm_lab import bench, shards, stored

words = stored.load("message_reader")[1]
def peak(folder, cards):
    shards.write(folder, cards, cards_per_shard=200, progress=False)
    for _ in shards.loader(folder, words):
        pass
    return int(bench.peak_megabytes())
print(peak(sys.argv[1], 400), peak(sys.argv[2], 1600))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs the module resource")
def test_memory_does_not_grow_with_the_cards(tmp_path):
    folders = [str(tmp_path / name) for name in ("few", "many")]
    done = subprocess.run([sys.executable, "-c", MEMORY, *folders], cwd=place.COURSE,
                          capture_output=True, text=True, check=True)  # fmt: skip
    few, many = map(int, done.stdout.split())
    bytes_more = sum(path.stat().st_size for path in Path(folders[1]).iterdir()) - sum(
        path.stat().st_size for path in Path(folders[0]).iterdir()
    )
    assert bytes_more > 18e6
    assert many - few < 8, f"{few} MB for 400 cards, {many} MB for 1,600"
