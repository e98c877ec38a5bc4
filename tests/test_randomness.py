"""Whatever draws by chance draws from a generator or seed of its own, in every module alike."""

import importlib
import inspect
import pkgutil
import random
import re
from pathlib import Path

import pytest
import torch

import mbm_lab
from mbm_lab import (
    albums,
    captioning,
    costs,
    fusion,
    one_model,
    postcards,
    preprocessing,
    real_data,
    retrieval,
    speech,
    stored,
    training,
    translation,
    video,
    writing,
)
from mbm_lab.device import seeded
from tests.small_runs import MSE, small_model, small_task

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
WAVE = torch.randn(4000, generator=torch.Generator().manual_seed(1))
RECORDINGS = {
    "mel": torch.ones(8, 40, 100),
    "frames": torch.full((8,), 100),
    "power": torch.ones(8),
    "image": torch.ones(8, 48),
}
VARIANTS = {"image": torch.zeros(20, 48), "texts": torch.arange(160).view(20, 8, 1)}
READINGS = tuple(torch.randn(3, 20, generator=torch.Generator().manual_seed(2)))


def shuffled(generator):
    batches = training.shuffled(torch.arange(20), torch.arange(20), 6, generator)
    return torch.cat([x for x, _ in batches])


def wandered(seed):
    """The weights after a random search that starts from the same model."""
    with torch.random.fork_rng():
        model = small_model().eval()
    training.least_loss(model, *small_task(20), MSE, "random", steps=9, seed=seed)
    return torch.nn.utils.parameters_to_vector(model.parameters())


class Coin:
    """A decoder for which five words are equally likely at any time."""

    def step(self, words, state):
        return torch.zeros(len(words), 5), state


def batches(seed):
    """The rows of the first batches of one model, without anything that is seen."""
    row = torch.arange(4, 24)[:, None]
    several = [one_model.Examples("<mood>", {}, row[:, 0], row, row)]
    return torch.cat([target for _, target in one_model.Batches(several, 3, 8, seed=seed)])


FROM_A_GENERATOR = {
    "training.shuffled": shuffled,
    "preprocessing.augment": lambda generator: preprocessing.augment(IMAGES, generator),
    "captioning.move_pictures": lambda generator: captioning.move_pictures(
        {"image": IMAGES}, generator
    )["image"],
    "retrieval.pick_variant": lambda generator: retrieval.pick_variant(VARIANTS, generator)["text"],
    "translation.exchange_pictures": lambda generator: translation.exchange_pictures(
        {"image": torch.arange(40.0).view(20, 2)}, generator
    )["image"],
    "speech.add_noise": lambda generator: speech.add_noise(WAVE, 0, generator),
    "speech.distort": lambda generator: speech.distort(RECORDINGS, generator)["mel"],
}
FROM_A_SEED = {
    "fusion.random_search": lambda seed: fusion.random_search(*READINGS, tries=9, seed=seed)[0],
    "training.least_loss": wandered,
    "video.shuffle_frames": lambda seed: video.shuffle_frames(IMAGES, seed),
    "speech.noisy": lambda seed: speech.noisy(Notes, 0, seed)[0],
    "writing.sample": lambda seed: writing.sample(Coin(), (IMAGES,), seed=seed),
    "one_model.Batches": batches,
    "postcards.draw": lambda seed: torch.tensor([card.mood for card in postcards.draw(3, seed)]),
}


class Notes:
    """What `speech.noisy` reads of cards."""

    names, notes = ["a card"], [WAVE]


def drawn(what, chance):
    if what in FROM_A_SEED:
        return FROM_A_SEED[what](chance)
    return FROM_A_GENERATOR[what](torch.Generator().manual_seed(chance))


@pytest.mark.parametrize("what", [*FROM_A_GENERATOR, *FROM_A_SEED])
def test_the_same_seed_draws_the_same_and_nothing_else_is_touched(what):
    speech.white_noise()  # is computed once
    first = drawn(what, 7)
    torch.manual_seed(3)
    random.seed(3)
    wanted = torch.rand(2), random.random()
    torch.manual_seed(3)
    random.seed(3)
    again = drawn(what, 7)
    assert torch.equal(torch.rand(2), wanted[0]), "PyTorch's own random numbers are the caller's"
    assert random.random() == wanted[1], "and so are Python's"
    assert torch.equal(first, again)
    others = [drawn(what, seed) for seed in range(8)]
    assert not all(first.shape == other.shape and torch.equal(first, other) for other in others)


def functions():
    """All functions of the course's modules."""
    for found in pkgutil.walk_packages(mbm_lab.__path__, "mbm_lab."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for name, one in inspect.getmembers(module, inspect.isfunction):
                if one.__module__ == module.__name__:
                    yield f"{module.__name__}.{name}", one


def test_a_seed_that_nobody_gives_is_zero():
    seeds = {
        name: inspect.signature(one).parameters["seed"].default
        for name, one in functions()
        if "seed" in inspect.signature(one).parameters
    }
    assert len(seeds) > 10
    assert set(seeds.values()) == {inspect.Parameter.empty, 0}


ALBUM = albums.Album(["a", "b"], IMAGES[:2], [["a red dog"], ["a cat at night"]])

with torch.random.fork_rng():
    WITH_DROPOUT = small_model()

BORROWS = {
    "costs.profile": lambda: costs.profile(
        WITH_DROPOUT, *small_task(), MSE, batch_size=8, batches=1
    ),
    "costs.trial": lambda: costs.trial("batches of 16", WITH_DROPOUT, *small_task(), MSE, 0.01),
    "costs.training_seconds": lambda: costs.training_seconds(WITH_DROPOUT, *small_task(), MSE, 64),
    "costs.activation_bytes": lambda: costs.activation_bytes(WITH_DROPOUT, *small_task(), MSE),
    "costs.wide": lambda: costs.wide(8),
    "stored.load": lambda: stored.load("captioner"),
    "captioning.new_captioner": lambda: captioning.new_captioner(stored.load("captioner")[1]),
    "captioning.image_features": lambda: captioning.image_features(IMAGES),
    "real_data.search_model": lambda: real_data.search_model(
        stored.load("captioner")[0].encoder, ALBUM, steps=1
    ),
}


@pytest.mark.parametrize("name", BORROWS)
def test_the_callers_random_numbers_go_on_as_if_nothing_had_been_drawn(name):
    """Models are made and trained from seeds of their own."""
    with seeded(11):
        wanted = torch.rand(3)
    with seeded(11):
        BORROWS[name]()
        assert torch.equal(torch.rand(3), wanted)


def test_training_leaves_the_callers_random_numbers_alone():
    model, state = small_model(), torch.get_rng_state()
    training.fit(model, *small_task(), MSE, progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_of_its_own_decides_what_is_drawn():
    def drawn(seed):
        with seeded(seed):
            return torch.rand(3)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_no_module_sets_the_random_numbers_of_everybody():
    """Only `device.seeded` and `identity.untouched` do, and give them back; `workers.Numbers`
    does, inside of the first."""
    found = {
        path.name
        for path in Path(mbm_lab.__file__).parent.rglob("*.py")
        if "exercises" not in path.parts
        and re.search(r"torch\.(manual_)?seed\(|np\.random\.seed|random\.seed\(", path.read_text())
    }
    assert found == {"device.py", "identity.py", "workers.py"}
