"""Models on one device and data on another: every function that takes a model copes, and leaves
everything where it was. On computers without a GPU, too: `tests/elsewhere.py` makes one believe."""

import copy
import functools
import importlib
import inspect
import pkgutil
import typing
from unittest import mock

import pytest
import torch
from torch import nn

import mbm_lab
from mbm_lab import (
    albums,
    captioning,
    cnn,
    costs,
    datasets,
    fusion,
    growth,
    one_model,
    preprocessing,
    questions,
    real_data,
    retrieval,
    rnn,
    scaling,
    speech,
    stored,
    training,
    translation,
    two_step,
    video,
    welcome,
    what_next,
    widgets,
    writing,
)
from mbm_lab.device import lent
from tests import elsewhere

CPU = torch.device("cpu")
MSE = nn.functional.mse_loss


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("MBM_DEVICE", "cpu")


# --- Every function that takes a model


def takes_a_model(hint) -> bool:
    """Whether a parameter of this type can be a network."""
    parts = [hint, *typing.get_args(hint)]
    return any(inspect.isclass(part) and issubclass(part, nn.Module) for part in parts)


ONLY_TYPES = {"CountVectorizer": object, "Pipeline": object}
"""What modules import for their annotations alone."""


def functions_with_models() -> set[str]:
    """All public functions and classes (but networks) of the course with a model as parameter."""
    found = set()
    for module in pkgutil.walk_packages(mbm_lab.__path__, "mbm_lab."):
        if module.name.endswith("__main__") or ".exercises" in module.name:
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.name:
                continue
            if inspect.isclass(value):
                if issubclass(value, nn.Module) or "__init__" not in vars(value):
                    continue
                value = value.__init__
            elif not inspect.isfunction(value):
                continue
            hints = typing.get_type_hints(value, localns=ONLY_TYPES)
            hints.pop("return", None)
            if any(takes_a_model(hint) for hint in hints.values()):
                found.add(f"{module.name.removeprefix('mbm_lab.')}.{name}")
    return found


NEEDS_NO_DATA = {
    "scaling.average_gradients",
    "scaling.largest_difference",
    "workers.inside",  # these three do nothing where one process is alone
    "workers.same_buffers",
    "workers.spread",
    "arguments.explained",  # looks on
    "article_keras.conv_weights",  # these five read weights
    "article_keras.dense_weights",
    "article_keras.gru_weights",
    "article_keras.norm_weights",
    "article_keras.same_weights",
    "bench.bare_loop",  # the yardstick, on the CPU
    "checkpoints.Checkpoint",  # is a part of fit
    "cnn.receptive_field",
    "costs.bytes_moved",  # counts what a layer has read and written
    "costs.compile_trial",  # compiles a copy, which the make-believe GPU cannot follow
    "costs.flops",  # counts what a layer has computed
    "costs.what_helps",  # trials, one after the other
    "fusion.matched_head",
    "fusion.parameter_count",
    "identity.of_model",  # describes it
    "identity.of_run",  # describes it
    "one_model.check_inputs",  # these three compare shapes and numbers
    "one_model.check_size",
    "one_model.check_step",
    "one_model.table_of_films_and_voices",  # film_scores and voice_scores, one after the other
    "identity.outputs",  # brings a probe to where the model is, as a part of fit
    "real_data.new_reader",  # makes one
    "spoilt.LastGood",  # is a part of fit
    "stored.check_fit",  # compares names, shapes and kinds of numbers
    "stored.load_tensors",  # reads a file
    "training.evaluating",
    "training.train_mode",
    "what_next.learned",  # counts parameters
}
"""Functions that look at a model but bring no tensors to it."""


@functools.cache
def few_cards(*parts: str) -> datasets.Postcards:
    """Four cards; with `parts`, the first four of the test files that have these."""
    if not parts:
        return datasets.draw_postcards(4, seed=5)
    return datasets.load_postcards("test", parts=parts)[:4]


class Case(typing.NamedTuple):
    """What to try of a function: a model, and a call that puts its tensors with `put`."""

    model: nn.Module
    call: typing.Callable
    trains: bool = False


def small_reader():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 1), nn.Flatten(0))


X, Y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20.0)
ONE = {"epochs": 1, "progress": False}


def fit_case():
    model = small_reader()
    options = {"one_cycle": True, "patience": 1, **ONE}

    def call(put):
        return training.fit(model, put(X), put(Y), MSE, val=(put(X), put(Y)), **options)

    return Case(model, call, True)


def one_epoch_case():
    model = small_reader().eval()

    def call(put):
        adam = torch.optim.Adam(model.parameters())
        return training.one_epoch(model, [(put(X), put(Y))], MSE, adam, clip_norm=1.0)

    return Case(model, call, True)


def least_loss_case(method="random"):
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    return Case(
        model, lambda put: training.least_loss(model, put(X), put(Y), MSE, method, steps=3), True
    )


def captioner_case(call, trains=False):
    model, vocabulary = stored.load("captioner")
    cards = few_cards()
    return Case(model, lambda put: call(model, cards, vocabulary, put), trains)


def own_encoder_case():
    """The pictures come from files, so nothing is put: features are always NumPy's."""
    table = datasets.load_table(real_data.example_table(32), image="photo", target="mood")
    encoder = stored.load("captioner")[0].encoder

    def call(put):
        return put(torch.from_numpy(two_step.features_of(table, "image", encoder)))

    return Case(encoder, call)


def decoder_case(call):
    model, vocabulary = stored.load("captioner")
    features = captioning.image_features(few_cards().images)
    state = model.decoder.start(features)
    return Case(model.decoder, lambda put: call(model.decoder, state, vocabulary, put))


def dual_case(call, trains=False):
    model, vocabulary = stored.load("dual_encoder")
    gallery = retrieval.draw_gallery(few_cards())
    features = captioning.image_features(gallery.images)
    return Case(model, lambda put: call(model, gallery, features, vocabulary, put), trains)


def quiz_case(call, trains=False):
    answerers, (words, answers) = stored.load("answerers")
    cards = few_cards()
    asked = questions.ask_all(cards)
    features = captioning.image_features(cards.images)
    quiz = questions.question_tensors(asked, features, words, answers)
    return Case(answerers, lambda put: call(answerers, quiz, put), trains)


def film_case(call, trains=False):
    model, vocabulary = stored.load("summariser")
    cards = few_cards("clip")
    features = video.frame_features(torch.stack(cards.clips))
    return Case(model, lambda put: call(model, features, cards, vocabulary, put), trains)


def speech_case(call, trains=False):
    model, vocabulary = stored.load("recogniser")
    cards = few_cards("image", "note")
    features = captioning.image_features(cards.images)
    return Case(model, lambda put: call(model, cards, features, vocabulary, put), trains)


def translation_case(call, trains=False):
    model, vocabularies = stored.load("translator")
    cards = few_cards()
    features = captioning.image_features(cards.images)
    source = translation.encode_source(cards.captions, vocabularies[0])
    return Case(model, lambda put: call(model, source, features, cards, vocabularies, put), trains)


def rivals_case(call):
    model, vocabularies = stored.load("translator")
    captioner, known = stored.load("captioner")
    cards = few_cards()
    features = captioning.image_features(cards.images)
    return Case(
        nn.ModuleList([model, captioner]),
        lambda put: call(model, captioner, cards, put(features), (*vocabularies, known), put),
    )


def digits_case(call, trains=False):
    torch.manual_seed(0)
    model = real_data.new_reader(real_data.DIGIT_MODALITIES, fusion.WeightedSum)
    inputs = {name: torch.rand(6, 3, 64, 64) for name in real_data.DIGIT_MODALITIES}
    pairs = real_data.Pairs(inputs, torch.arange(6), ["theo"] * 6)
    return Case(model, lambda put: call(model, pairs, put), trains)


def added_case(call, trains=False):
    torch.manual_seed(0)
    readers = [real_data.new_reader([name], fusion.WeightedSum).eval()
               for name in real_data.DIGIT_MODALITIES]  # fmt: skip
    model = real_data.add_readers(readers)
    inputs = {name: torch.rand(6, 3, 64, 64) for name in real_data.DIGIT_MODALITIES}
    pairs = real_data.Pairs(inputs, torch.arange(6), ["theo"] * 6)
    return Case(model, lambda put: call(model, pairs, put), trains)


def encoder_case(call):
    encoder = stored.load("captioner")[0].encoder
    return Case(encoder, lambda put: call(encoder, put))


def side_task(put, each):
    images = few_cards().images.repeat(each, 1, 1, 1)[: 2 * each]
    return what_next.Task(put(images), put(torch.arange(2 * each) % 2), 2)


def adapted_case():
    model = what_next.new_classifier(stored.load("captioner")[0].encoder, 2, "full")

    def call(put):
        task = side_task(put, 2)
        return what_next.fine_tune(model, task.images, task.target, epochs=1)

    return Case(model, call, True)


class ShortlyTrainedAlbum(widgets.AlbumPlayground):
    """Where its model learns is what is looked at, not what it learns."""

    STEPS = 3


def album_case(call):
    encoder, (model, vocabulary) = stored.load("captioner")[0].encoder, stored.load("dual_encoder")
    cards = few_cards()
    album = albums.Album(cards.names, cards.images, [[caption] for caption in cards.captions])
    both = nn.ModuleList([encoder, model])
    return Case(both, lambda put: call(*both, vocabulary, album, put))


def reader_case(name, call):
    model, vocabulary = stored.load(name)
    return Case(model, lambda put: call(model, vocabulary, put))


def readers_case(call):
    f, g, vocabulary = welcome.load_readers()
    cards = few_cards()
    return Case(nn.ModuleList([f, g]), lambda put: call(f, g, vocabulary, cards, put))


def two_readers_case(call, trains=False):
    readers = {name: nn.Linear(3, 1) for name in ("image", "message")}
    model = fusion.MultimodalModel(readers, fusion.WeightedSum(tuple(readers), 1), nn.Identity())

    def both(put):
        return call(model, {"image": put(X), "message": put(X**2)}, put)

    return Case(model, both, trains)


def one_model_case(call, trains=False):
    words = "a blue face is it night ? no yes".split()
    known = [*preprocessing.SPECIAL_WORDS, *one_model.TASKS, *one_model.MOODS, *words]
    vocabulary = preprocessing.Vocabulary(known)
    torch.manual_seed(0)
    model = one_model.OneModel(len(vocabulary), width=16, blocks=2)
    seen = {"picture": torch.randn(3, 16, 128)}
    return Case(model, lambda put: call(model, seen, vocabulary, put), trains)


def heard_case():
    """What a voice says has its length beside it."""
    seen = {"voice": torch.randn(3, 50, 128), "frames": torch.tensor([50, 7, 31])}
    return one_model_case(
        lambda model, _, words, put: one_model.answer(
            model, "<transcribe>", {name: put(values) for name, values in seen.items()}, words
        )
    )


def shortly_trained_one_model(model, seen, vocabulary, put):
    """Where it learns is what is looked at, not what it learns."""
    seen = {name: put(values) for name, values in seen.items()}
    asked, answers = ["is it night", "a face?", "is it blue"], ["no", "yes", "no"]
    made = one_model.examples("<ask>", seen, asked, answers, vocabulary)
    with mock.patch.object(one_model, "STEPS", 2):
        return one_model.train(model, [made], epochs=1, batch_size=4)


def judged_case(call, *parts):
    """A small untrained model, and four cards with the words of which it writes."""
    cards = few_cards(*parts)
    asked = questions.ask_all(cards, 2)
    vocabulary = one_model.build_vocabulary(cards, asked)
    torch.manual_seed(0)
    model = one_model.OneModel(len(vocabulary), width=16, blocks=1)
    return Case(model, lambda put: call(model, vocabulary, cards, asked, put))


def table_without_chance(model, vocabulary, cards):
    """Chance needs no model."""
    with mock.patch.object(one_model, "by_chance", one_model.written_by_specialists):
        return one_model.table(model, vocabulary, cards)


def cached_case():
    """The state is where the prompts were; the words are drawn where the model is."""
    return one_model_case(
        lambda model, seen, words, put: (
            writing.sample(model, tuple(map(put, started(seen, words))), temperature=0.7)
        )
    )


def started(seen, vocabulary):
    """The state of the same model, read on the CPU."""
    model = one_model_case(None).model
    told = one_model.prompts("<ask>", ["is it night", "a face?", "is it"], vocabulary)
    with training.evaluating(model):
        return model.start({**seen, "words": told})


IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))



def normed_case():
    model = scaling.synchronise(nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU()))
    return Case(model, lambda put: training.predict(model, put(IMAGES)))


CASES = {
    "scaling.synchronise": normed_case,
    "training.fit": fit_case,
    "training.one_epoch": one_epoch_case,
    "training.least_loss": least_loss_case,
    "training.predict": lambda: Case(m := small_reader(), lambda put: training.predict(m, put(X))),
    "training.readings": lambda: two_readers_case(
        lambda model, inputs, put: torch.stack(training.readings(model, inputs))
    ),
    "training.fit_weights": lambda: two_readers_case(
        lambda model, inputs, put: training.fit_weights(model, inputs, put(Y)).alpha, True
    ),
    "device.lent": lambda: Case(m := small_reader(), lambda put: training.predict(m, put(X))),
    "stored.save_weights": lambda: Case(small_reader(), lambda put: None),
    "stored.load_weights": lambda: Case(small_reader(), lambda put: None),
    "cnn.seen_pixels": lambda: Case(
        m := cnn.ImageEncoder().convolutions.eval(), lambda put: cnn.seen_pixels(m, 3, 3)
    ),
    "cnn.saliency": lambda: reader_case(
        "image_reader", lambda model, _, put: cnn.saliency(model, put(IMAGES))
    ),
    "cnn.occlusion_map": lambda: reader_case(
        "image_reader",
        lambda model, _, put: cnn.occlusion_map(model, put(IMAGES[0]), patch=30, stride=30),
    ),
    "costs.learner": lambda: Case(
        m := small_reader(),
        lambda put: costs.learner(m, put(X), put(Y), MSE, costs.Way(batch_size=8))(),
    ),
    "costs.profile": lambda: Case(
        m := small_reader(),
        lambda put: costs.profile(m, put(X), put(Y), MSE, batch_size=8, batches=1)[-1].name,
    ),
    "costs.layers": lambda: Case(
        m := small_reader(),
        lambda put: [one[:4] for one in costs.layers(m, put(X), seconds=1e-3)],
    ),
    "costs.trial": lambda: Case(
        m := small_reader(),
        lambda put: costs.trial(
            "batches of 16", m, put(X.repeat(4, 1)), put(Y.repeat(4)), MSE, seconds=1e-3
        ).name,
    ),
    "costs.training_seconds": lambda: Case(
        m := small_reader(),
        lambda put: costs.training_seconds(m, put(X), put(Y), MSE, 16, batch_size=8) > 0,
    ),
    "costs.activation_bytes": lambda: Case(
        m := small_reader(), lambda put: costs.activation_bytes(m, put(X), put(Y), MSE)
    ),
    "costs.state_bytes": lambda: Case(m := small_reader(), lambda put: costs.state_bytes(m)),
    "rnn.gradient_by_distance": lambda: Case(
        m := nn.GRU(3, 4, batch_first=True),
        lambda put: rnn.gradient_by_distance(m, put(X.view(2, 10, 3))),
    ),
    "rnn.read_along": lambda: reader_case(
        "message_reader",
        lambda model, words, put: rnn.read_along(model, put(torch.tensor([[4, 9, 0]])), 7),
    ),
    "rnn.update_gates": lambda: reader_case(
        "message_reader",
        lambda model, words, put: rnn.update_gates(model.encoder, put(torch.tensor([[4, 9, 0]]))),
    ),
    "welcome.read": lambda: readers_case(
        lambda f, g, vocabulary, cards, put: welcome.read(cards, f, g, vocabulary)
    ),
    "writing.greedy": lambda: decoder_case(
        lambda decoder, state, _, put: writing.greedy(decoder, tuple(map(put, state)))
    ),
    "writing.beam_search": lambda: decoder_case(
        lambda decoder, state, _, put: writing.beam_search(
            decoder, tuple(put(values[:1]) for values in state)
        )[0][0]
    ),
    "writing.write": lambda: decoder_case(
        lambda decoder, state, words, put: writing.write(
            decoder, tuple(map(put, state)), words, "en"
        )
    ),
    "writing.sample": cached_case,
    "one_model.answer": heard_case,
    "one_model.ask": lambda: one_model_case(
        lambda model, seen, words, put: one_model.ask(
            model, "<ask>", {name: put(values) for name, values in seen.items()}, words,
            ["is it night", "a face?", "is it"],
        )
    ),
    "one_model.look_and_cover": lambda: one_model_case(
        lambda model, _, words, put: one_model.look_and_cover(
            model, words, torch.rand(2, 3, 64, 64), ["a blue face", "a face"], ["blue", "face"]
        )
    ),
    "one_model.first_scores": lambda: one_model_case(
        lambda model, seen, words, put: one_model.first_scores(
            model,
            {
                **{name: put(values) for name, values in seen.items()},
                "words": put(one_model.prompts("<mood>", [None] * 3, words)),
            },
        )
    ),
    "one_model.read_mood": lambda: one_model_case(
        lambda model, seen, words, put: one_model.read_mood(
            model, {name: put(values) for name, values in seen.items()}, words
        )
    ),
    "what_next.confidence": lambda: one_model_case(
        lambda model, seen, words, put: what_next.confidence(
            model,
            {name: put(values) for name, values in seen.items()},
            words,
            ["is it night ?"] * 3,
        )
    ),
    "one_model.written_by": lambda: judged_case(
        lambda model, words, cards, asked, put: one_model.written_by(
            model, words, cards, put(one_model.picture_patches(cards.images)), asked
        )
    ),
    "one_model.mood_row": lambda: judged_case(
        lambda model, vocabulary, cards, asked, put: (
            one_model.mood_row(model, vocabulary, cards).one_model
        )
    ),
    "one_model.table": lambda: judged_case(
        lambda model, words, cards, asked, put: table_without_chance(model, words, cards)
    ),
    "one_model.film_scores": lambda: judged_case(
        lambda model, words, cards, asked, put: one_model.film_scores(model, words, cards), "clip"
    ),
    "one_model.voice_scores": lambda: judged_case(
        lambda model, words, cards, asked, put: one_model.voice_scores(model, words, cards),
        "image", "note",
    ),
    "growth.exact_captions": lambda: judged_case(
        lambda model, words, cards, asked, put: growth.exact_captions(
            model, words, growth.Pool(cards, put(one_model.picture_patches(cards.images)))
        ).sum().item()
    ),
    "growth.right_answers": lambda: judged_case(
        lambda model, words, cards, asked, put: growth.right_answers(
            model, words, growth.Pool(cards, put(one_model.picture_patches(cards.images))), asked
        )
    ),
    "one_model.train": lambda: one_model_case(shortly_trained_one_model, True),
    "captioning.caption": lambda: captioner_case(
        lambda model, cards, words, put: captioning.caption(model, put(cards.images), "zh", words)
    ),
    "captioning.train_captioner": lambda: captioner_case(
        lambda model, cards, words, put: captioning.train_captioner(model, cards, words, 1), True
    ),
    "two_step.features_of": lambda: own_encoder_case(),
    "captioning.image_cells": lambda: captioner_case(
        lambda model, cards, words, put: captioning.image_cells(model.encoder, put(cards.images))
    ),
    "captioning.train_decoder": lambda: captioner_case(
        lambda model, cards, words, put: captioning.train_decoder(
            model.decoder, put(torch.ones(4, 48)), cards.captions, words, epochs=1
        ),
        True,
    ),
    "captioning.train_attention": lambda: captioner_case(
        lambda model, cards, words, put: torch.cat(
            [p.detach().flatten() for p in captioning.train_attention(
                model.encoder, cards, epochs=1).model.parameters()]
        )
    ),
    "captioning.quality": lambda: captioner_case(
        lambda model, cards, words, put: captioning.quality(model, cards, words)
    ),
    "retrieval.image_vectors": lambda: dual_case(
        lambda model, gallery, features, words, put: retrieval.image_vectors(model, put(features))
    ),
    "retrieval.text_vectors": lambda: dual_case(
        lambda model, gallery, features, words, put: retrieval.text_vectors(
            model, put(retrieval.query_tokens("at night", words))
        )
    ),
    "retrieval.train_dual_encoder": lambda: dual_case(
        lambda model, gallery, features, words, put: retrieval.train_dual_encoder(
            model, put(features), gallery.captions, words, epochs=1
        ),
        True,
    ),
    "retrieval.quality": lambda: dual_case(
        lambda model, gallery, features, words, put: retrieval.quality(
            model, gallery, features, words
        )
    ),
    "questions.train_answerer": lambda: quiz_case(
        lambda models, quiz, put: questions.train_answerer(models["low-rank"], quiz, 1), True
    ),
    "questions.quality": lambda: quiz_case(
        lambda models, quiz, put: questions.quality(models, quiz, torch.arange(20) < 9)
    ),
    "video.summarise": lambda: film_case(
        lambda model, features, cards, words, put: video.summarise(model, put(features), words)
    ),
    "video.train_summariser": lambda: film_case(
        lambda model, features, cards, words, put: video.train_summariser(
            model, put(features), cards.summaries, words, epochs=1
        ),
        True,
    ),
    "video.quality": lambda: film_case(
        lambda model, features, cards, words, put: video.quality(model, features, cards, words)
    ),
    "speech.recognise": lambda: speech_case(
        lambda model, cards, features, words, put: speech.recognise(
            model, cards.notes, features, words
        )
    ),
    "speech.train_picture": lambda: speech_case(
        lambda model, cards, features, words, put: speech.train_picture(
            model, cards, features, words
        ),
        True,
    ),
    "speech.picture_words": lambda: speech_case(
        lambda model, cards, features, words, put: speech.picture_words(model, features, words)
    ),
    "speech.rivals": lambda: speech_case(
        lambda model, cards, features, words, put: speech.rivals(model, cards, words, features, 0)
    ),
    "speech.train_recogniser": lambda: speech_case(
        lambda model, cards, features, words, put: speech.train_recogniser(
            model, cards, features, words, 1
        ),
        True,
    ),
    "speech.quality": lambda: speech_case(
        lambda model, cards, features, words, put: speech.quality(model, cards, words)
    ),
    "translation.translate": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.translate(
            model, put(source), put(features), words[1]
        )
    ),
    "translation.trace": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.trace(
            model, put(source[:1]), put(features[:1]), put(torch.tensor([[5, 6]]))
        )
    ),
    "translation.cover": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.cover(
            model, put(source[:1]), put(features[:1]), put(torch.tensor([[4, 9, 8, 2]]))
        )
    ),
    "translation.write_rivals": lambda: rivals_case(
        lambda model, captioner, cards, features, words, put: translation.write_rivals(
            model, captioner, put(translation.encode_source(cards.captions, words[0])), features,
            words,
        )
    ),
    "translation.exact_shares": lambda: rivals_case(
        lambda model, captioner, cards, features, words, put: translation.exact_shares(
            model, captioner, cards, [features], words
        )
    ),
    "translation.both_meanings": lambda: rivals_case(
        lambda model, captioner, cards, features, words, put: translation.both_meanings(
            model, captioner, cards, features, words
        )
    ),
    "translation.train_text": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.train_text(
            model, cards.captions, cards.captions_zh, words, 1
        ),
        True,
    ),
    "translation.train_picture": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.train_picture(
            model, cards, put(features), words, 1
        ),
        True,
    ),
    "translation.quality": lambda: translation_case(
        lambda model, source, features, cards, words, put: translation.quality(
            model, cards, features, words
        )
    ),
    "real_data.answers": lambda: digits_case(lambda m, pairs, put: real_data.answers(m, pairs)),
    "real_data.accuracy": lambda: digits_case(lambda m, pairs, put: real_data.accuracy(m, pairs)),
    "real_data.train_reader": lambda: digits_case(
        lambda model, pairs, put: real_data.train_reader(model, pairs, epochs=1), True
    ),
    "real_data.search_model": lambda: album_case(
        lambda encoder, model, words, album, put: retrieval.image_vectors(
            real_data.search_model(encoder, album, steps=2)[0], torch.ones(1, 48)
        )
    ),
    "real_data.album_recall": lambda: album_case(
        lambda encoder, model, words, album, put: real_data.album_recall(
            model, words, encoder, album, ks=(1, 2)
        )
    ),
    "real_data.add_readers": lambda: added_case(
        lambda model, pairs, put: real_data.accuracy(model, pairs)
    ),
    "real_data.fit_weights": lambda: added_case(
        lambda model, pairs, put: real_data.fit_weights(model, pairs), True
    ),
    "real_data.shuffled_accuracy": lambda: added_case(
        lambda model, pairs, put: real_data.shuffled_accuracy(model, pairs, 2)
    ),
    "real_data.surer_accuracy": lambda: added_case(
        lambda model, pairs, put: real_data.surer_accuracy(model, pairs)
    ),
    "what_next.class_vectors": lambda: dual_case(
        lambda model, gallery, features, words, put: what_next.class_vectors(
            model, ["a boat", "a hat"], words
        )
    ),
    "what_next.zero_shot": lambda: dual_case(
        lambda model, gallery, features, words, put: what_next.zero_shot(
            model, put(features), ["a boat", "a hat"], words
        )
    ),
    "what_next.new_classifier": lambda: encoder_case(
        lambda encoder, put: training.predict(
            what_next.new_classifier(encoder, 2, "low-rank"), put(few_cards().images)
        )
    ),
    "what_next.fine_tune": lambda: adapted_case(),
    "what_next.compare": lambda: encoder_case(
        lambda encoder, put: what_next.compare(
            encoder, side_task(put, 4), side_task(put, 2), labels=4
        )
    ),
    "widgets.search.AlbumPlayground": lambda: album_case(
        lambda encoder, model, words, album, put: ShortlyTrainedAlbum(album, encoder).said
    ),
    "widgets.digits.DigitsPlayground": lambda: digits_case(
        lambda model, pairs, put: widgets.DigitsPlayground(model, pairs).said
    ),
    "widgets.film.FilmPlayground": lambda: film_case(
        lambda model, features, cards, words, put: (
            widgets.FilmPlayground(model, words, torch.stack(cards.clips)).said
        )
    ),
    "widgets.next_word.NextWordPlayground": lambda: captioner_case(
        lambda model, cards, words, put: widgets.NextWordPlayground(model, words, cards.images).said
    ),
    "widgets.one_model.SamplingPlayground": lambda: one_model_case(
        lambda model, seen, words, put: widgets.SamplingPlayground(
            model, words, torch.rand(3, 3, 64, 64), seen["picture"]
        ).said
    ),
    "widgets.one_model.TokensPlayground": lambda: one_model_case(
        lambda model, seen, words, put: widgets.TokensPlayground(
            model, words, torch.rand(3, 3, 64, 64), seen["picture"], "<mood>", ["a face"] * 3
        ).said
    ),
    "widgets.search.ComposePlayground": lambda: dual_case(
        lambda model, gallery, features, words, put: (
            widgets.ComposePlayground(model, words, gallery, features).said
        )
    ),
    "widgets.sentence.SentencePlayground": lambda: reader_case(
        "message_reader", lambda model, words, put: widgets.SentencePlayground(model, words).said
    ),
    "widgets.witnesses.Witnesses": lambda: readers_case(
        lambda f, g, words, cards, put: widgets.witnesses.Witnesses(
            cards, (torch.zeros(4), torch.zeros(4)), (f, g), words
        ).read(0.5, 0.5)
    ),
}


def test_every_function_that_takes_a_model_is_tried():
    assert set(CASES) | NEEDS_NO_DATA == functions_with_models()


def flat(result) -> list:
    """The tensors, numbers and texts of a result."""
    if isinstance(result, training.History):
        return [result.train_loss, result.val_loss]
    if isinstance(result, list | tuple):
        return [one for part in result for one in flat(part)]
    if isinstance(result, dict):
        return [one for part in result.values() for one in flat(part)]
    return [result]


def same(ours, theirs) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours.cpu().nan_to_num(), theirs.nan_to_num())
    return ours == theirs or (ours != ours and theirs != theirs)


class Put:
    """Puts tensors on a device, and remembers whether it was asked to."""

    def __init__(self, device: torch.device | None):
        self.device, self.used = device, False

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        self.used = True
        return tensor if self.device is None else tensor.to(self.device)


def built(name: str) -> Case:
    torch.manual_seed(0)
    return CASES[name]()


@functools.cache
def on_the_cpu_alone(name: str) -> list:
    """What a call gives when everything is on the CPU."""
    return flat(built(name).call(Put(None)))


def placed(model: nn.Module) -> list[tuple]:
    """Every tensor of a model, itself and where it is; and every part's mode."""
    tensors = [*model.parameters(), *model.buffers()]
    return [(id(one), elsewhere.is_elsewhere(one)) for one in tensors]


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def check(name: str, case: Case, put: Put) -> None:
    """Calls, and compares with the CPU alone, and with where everything was."""
    where, mode = placed(case.model), modes(case.model)
    results = flat(case.call(put))
    assert placed(case.model) == where
    assert case.trains or modes(case.model) == mode
    for one in results:
        if isinstance(one, torch.Tensor):
            assert elsewhere.is_elsewhere(one) == (put.used and put.device is not None)
    for ours, theirs in zip(results, on_the_cpu_alone(name), strict=True):
        assert same(ours, theirs)


@pytest.mark.parametrize("name", CASES)
def test_a_model_on_another_device_than_its_data(name):
    on_the_cpu_alone(name)
    with elsewhere.borders() as gpu:
        case = built(name)
        case.model.to(gpu)
        check(name, case, Put(None))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_data_on_another_device_than_the_model(name):
    on_the_cpu_alone(name)
    with elsewhere.borders() as gpu:
        check(name, built(name), Put(gpu))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_on_a_computer_with_a_gpu_everything_comes_back(name):
    """`pick_device()` says the GPU, the learner said nothing: model and data are on the CPU."""
    on_the_cpu_alone(name)
    with elsewhere.course():
        check(name, built(name), Put(None))


# --- Lending


def test_a_model_that_was_nowhere_is_as_it_was():
    """The device "meta" holds no values, so that a model that stayed there would be lost."""
    model, _ = stored.load("dual_encoder")
    before = {name: values.clone() for name, values in model.state_dict().items()}
    inputs = {"image": torch.ones(3, 48), "texts": torch.ones(3, 2, 4, dtype=torch.long)}
    meta = torch.device("meta")
    training.fit(model, inputs, torch.arange(3), retrieval.info_nce, epochs=0, device=meta)
    assert model.image(torch.ones(2, 48)).device == CPU
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


def test_a_lent_model_learns_and_keeps_its_tensors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    model[0].weight.grad = gradient = torch.ones(4, 3)
    tensors = [*model.parameters(), *model.buffers()]
    with elsewhere.borders() as gpu, lent(model, gpu):
        assert all(elsewhere.is_elsewhere(one) for one in model.parameters())
        model(torch.ones(5, 3, device=gpu)).sum().backward()
        with torch.no_grad():
            model[0].weight += 1
    again = [*model.parameters(), *model.buffers()]
    assert all(one is other for one, other in zip(tensors, again, strict=True))
    assert model[0].weight.grad is gradient
    assert model[1].num_batches_tracked == 1
    torch.manual_seed(0)
    assert torch.equal(model[0].weight, nn.Linear(3, 4).weight + 1)


def test_a_model_of_which_only_a_part_could_be_lent_comes_back(monkeypatch):
    """A GPU that is full takes the first layer and refuses the second."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    before = copy.deepcopy(model)

    def full(device):
        model[0].to(device)
        raise MemoryError

    with elsewhere.borders() as gpu:
        monkeypatch.setattr(model, "to", full)
        with pytest.raises(MemoryError), lent(model, gpu):
            pass
        assert not any(elsewhere.is_elsewhere(one) for one in model.parameters())
    assert all(map(torch.equal, model.parameters(), before.parameters()))


def test_a_lent_model_comes_back_from_an_error():
    model = nn.Linear(3, 4)
    with elsewhere.borders() as gpu:
        with pytest.raises(KeyError), lent(model, gpu):
            raise KeyError
        assert not any(elsewhere.is_elsewhere(one) for one in model.parameters())


def test_a_function_that_left_its_model_elsewhere_would_be_found():
    """The check itself: `model.to(device)`, as it once stood in fit, turns it red."""

    def fit_and_leave(model, put):
        model.to("cuda")
        return training.fit(model, put(X), put(Y), MSE, **ONE)

    with elsewhere.course():
        torch.manual_seed(0)
        model = small_reader()
        with pytest.raises(AssertionError):
            check(
                "training.fit", Case(model, lambda put: fit_and_leave(model, put), True), Put(None)
            )
