"""The course's stored models: each knows itself, and reaches what its lesson says."""

import json
import math
import re

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mbm_lab import (
    captioning,
    datasets,
    one_model,
    postcards,
    preprocessing,
    questions,
    stored,
    video,
    writing,
)

FILES = sorted(stored.WEIGHTS.glob("*.safetensors"))
WITH_WORDS = [path for path in FILES if path.stem != "image_reader_0"]


def named(path) -> tuple[str, int]:
    """A file's model and seed."""
    name, _, seed = path.stem.rpartition("_")
    return name, int(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", stored.SEEDS)
@pytest.mark.parametrize("lesson", [lesson for lesson in stored.LESSONS if lesson != "00"])
def test_the_models_of_every_seed_reach_their_results(lesson, seed, monkeypatch):
    """And a module reads the table of cards at most twice: for the test, and for a rival."""
    read, reads = postcards.read_cards, []
    monkeypatch.setattr(postcards, "read_cards", lambda root: reads.append(root) or read(root))
    results = stored.exam(lesson, seed)
    assert len(reads) <= 2 * len(stored.LESSONS[lesson])
    assert sum(bool(one.wanted) for one in results) >= 4
    rivals = [one for one in results if one.baseline is not None]
    assert rivals, "no result stands beside a cheap rival"
    assert all(one.rival for one in rivals)
    assert any(one.limit is not None for one in results), "no result stands beside a limit"
    for one in results:
        assert one.holds, f"{one.what}: {one.value:.3f}, should be {one.wanted}"


def test_there_is_a_model_of_every_seed():
    found = [path.stem for path in FILES]
    many = ("attention_decoder", "captioner", "dual_encoder", "answerers", "summariser",
            "recogniser", "translator", "one_model")  # fmt: skip
    wanted = ["image_reader_0", "message_reader_0"]
    wanted += [f"{name}_{seed}" for name in many for seed in stored.SEEDS]
    assert found == sorted(wanted)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_model_knows_itself(path):
    name, seed = named(path)
    model, words = stored.load(name, seed)
    facts = stored.described(path)
    lesson = facts["command"].removeprefix("mbm-lab weights ")
    assert type(model).__module__.removeprefix("mbm_lab.") in stored.LESSONS[lesson]
    assert not model.training
    assert path.stat().st_size < (2_000_000 if name == "one_model" else 400_000)
    sizes = json.loads(facts["sizes"])
    several = words if isinstance(words, tuple) else (words,)
    assert [len(one) for one in several if one] == list(sizes.values())


def test_the_models_were_made_from_the_data_that_are_here():
    data = datasets.fingerprint()
    assert {stored.described(path)["data"] for path in FILES} == {data}


def words_of_the_data() -> dict[str, list]:
    """What each model's words should be, built from the training cards as its lesson builds them.

    A card's number of a word is its row of the embedding, so the order counts.
    """
    cards = datasets.load_postcards("train", parts=())
    build, english = preprocessing.Vocabulary.build, [("en", cards.captions)]
    noted = cards.note_texts[: postcards.NOTED["train"]]
    return {
        "message_reader": build([preprocessing.tokenize(text) for text in cards.messages]),
        "attention_decoder": writing.build_vocabulary([("en", cards.captions)]),
        "captioner": writing.build_vocabulary(captioning.captions_of(cards)),
        "dual_encoder": build([preprocessing.tokenize(text) for text in cards.captions]),
        "answerers": questions.question_words(questions.ask_all(cards)),
        "summariser": writing.build_vocabulary([("en", video.filmed(cards).summaries)]),
        "recogniser": build([text.split() for text in noted]),
        "translator": (
            writing.build_vocabulary(english),
            writing.build_vocabulary([("zh", cards.captions_zh)]),
        ),
        "one_model": one_model.build_vocabulary(cards, questions.ask_all(cards)),
    }


def test_the_words_are_those_of_the_training_cards_in_their_order():
    wanted = words_of_the_data()
    for path in WITH_WORDS:
        name, seed = named(path)
        _, words = stored.load(name, seed)
        for ours, theirs in zip(lists(words), lists(wanted[name]), strict=True):
            assert ours == theirs, path.stem


def lists(words) -> list[list[str]]:
    """One or several vocabularies, or lists of answers, as lists."""
    several = words if isinstance(words, tuple) else (words,)
    return [one.words if isinstance(one, preprocessing.Vocabulary) else one for one in several]


def rewritten(path, out, **changes):
    """A copy of a stored model that says something else of itself."""
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    save_file(load_file(path), out / path.name, facts | changes)
    return facts


@pytest.mark.parametrize("path", WITH_WORDS[::3], ids=lambda path: path.stem)
def test_two_words_that_changed_places_are_an_error(path, tmp_path):
    """1,900 captions instead of 2,000 move eleven words: recall fell from 1.00 to 0.80 unseen."""
    words = json.loads(stored.described(path)["words"])
    one = words[0] if isinstance(words[0], list) else words
    one[-1], one[-2] = one[-2], one[-1]
    rewritten(path, tmp_path, words=json.dumps(words, ensure_ascii=False))
    with pytest.raises(ValueError, match="was changed after it was written: .* weights (0|1)"):
        stored.load(*named(path), tmp_path)


def test_what_differs_is_said(tmp_path):
    path = stored.WEIGHTS / "dual_encoder_1.safetensors"
    for changes, sentence in (
        ({"seed": "2"}, "holds another model: its seed is 2, not 1"),
        ({"name": "captioner"}, "its name is captioner, not dual_encoder"),
        ({"sizes": '{"vocabulary_size": 61}'}, "was changed after it was written"),
        ({"data": "0" * 64}, "was changed after it was written"),
    ):
        rewritten(path, tmp_path, **changes)
        with pytest.raises(ValueError, match=sentence):
            stored.load("dual_encoder", 1, tmp_path)


def test_weights_that_changed_are_an_error(tmp_path):
    path = stored.WEIGHTS / "dual_encoder_0.safetensors"
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    tensors = load_file(path)
    tensors["f.weight"][3, 5] += 0.01
    save_file(tensors, tmp_path / path.name, facts)
    with pytest.raises(ValueError, match="its words, sizes or weights are not those of its check"):
        stored.load("dual_encoder", 0, tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"class": "mbm_lab.lessons.refresh"}, "is a mbm_lab.lessons.refresh, which is no network"),
        ({"class": "mbm_lab.nothing.Here"}, "which is no network of this course"),
        ({"class": "mbm_lab.nothing.at.all.Here"}, "which is no network of this course"),
        ({"class": "torch.nn.Linear"}, "is a torch.nn.Linear, which is no network of this course"),
        ({"sizes": '{"width": 3}'}, "made for a DualEncoder of the sizes {'width': 3}"),
        ({"sizes": '{"vocabulary_size": 9}'}, 'differ at "g.0.embedding.weight"'),
    ],
)
def test_a_file_of_another_course_is_an_error(tmp_path, changes, sentence):
    """With a checksum that is right: so the file was written by somebody on purpose."""
    path = stored.WEIGHTS / "dual_encoder_0.safetensors"
    tensors, facts = load_file(path), stored.described(path) | changes
    facts.pop("checksum")
    facts["checksum"] = stored.checksum(facts, tensors)
    save_file(tensors, tmp_path / path.name, facts)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        stored.load("dual_encoder", 0, tmp_path)


def test_a_model_that_is_not_there_says_which_are(tmp_path):
    with pytest.raises(FileNotFoundError, match='no stored model "captioner" of seed 7 .*summaris'):
        stored.load("captioner", 7)
    with pytest.raises(FileNotFoundError, match="There are: none. `mbm-lab weights` trains"):
        stored.load("captioner", 0, tmp_path)
    save_file(load_file(FILES[0]), tmp_path / "captioner_0.safetensors")
    with pytest.raises(ValueError, match="does not say its name, so it is no stored model"):
        stored.load("captioner", 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", stored.LESSONS)
def test_what_is_trained_anew_can_be_loaded(lesson, tmp_path):
    """One epoch: not good, but whole, with the words that the stored model has."""
    paths = list(stored.retrain(lesson, tmp_path / "new", seeds=(0,), epochs=1))
    assert paths == sorted((tmp_path / "new").iterdir(), key=paths.index)
    for path in paths:
        model, words = stored.load(*named(path), path.parent)
        known, the_same = stored.load(*named(path))
        assert type(model) is type(known)
        if words is not None:
            assert lists(words) == lists(the_same)


def test_a_lesson_without_models_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="Lesson 04 has no stored models: the lessons 00, 06, 07"):
        list(stored.retrain("04", tmp_path))
    assert not list(tmp_path.iterdir())


# Results


def test_the_worst_of_several_runs_is_what_counts():
    """Of shares the least, of errors the largest, also where nothing is asked of them."""

    def run(right, errors, bleu, rate):
        return [
            stored.Result("right", right, at_least=0.8),
            stored.Result("errors", errors, at_most=0.2),
            stored.Result("BLEU", bleu),
            stored.Result("rate", rate, at_most=math.inf),
        ]

    runs = [run(0.9, 0.1, 50.0, 0.5), run(0.7, 0.3, 40.0, 0.6), run(0.8, 0.2, 45.0, 0.4)]
    worst = stored.worst(runs)
    assert [one.value for one in worst] == [0.7, 0.3, 40.0, 0.6]
    assert [one.holds for one in worst] == [False, False, True, True]
    assert [one.wanted for one in worst] == [">= 0.80", "<= 0.20", "", ""]
    assert all(one.holds for one in runs[2])
    with pytest.raises(ValueError, match="same results"):
        stored.worst([runs[0], runs[1][:2]])
    with pytest.raises(ValueError, match="one list of results a seed"):
        stored.worst([])
