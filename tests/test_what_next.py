"""what_next.py: names instead of labels, encoders adapted, and encoders from elsewhere."""

import importlib.machinery
import sys
import types

import pytest
import torch
from torch import nn

from mbm_lab import (
    captioning,
    cnn,
    datasets,
    one_model,
    postcards,
    preprocessing,
    questions,
    stored,
    what_next,
)


@pytest.fixture(scope="module")
def cards():
    return datasets.draw_postcards(120, seed=77)


@pytest.fixture(scope="module")
def dual():
    return stored.load("dual_encoder")


@pytest.fixture(scope="module")
def encoder():
    return stored.load("captioner")[0].encoder


# Zero-shot


def test_the_number_of_a_name_is_that_of_the_card(cards):
    for what, names in what_next.NAMES.items():
        for card, number in zip(cards.cards, what_next.names_of(cards, what), strict=True):
            assert names[number] in card.caption
    drawn = {card.object for card in cards.cards}
    assert {"bat (animal)", "bat (sport)"} <= drawn
    both = [place for place, card in enumerate(cards.cards) if card.object.startswith("bat")]
    assert len(what_next.names_of(cards, "object")[both].unique()) == 1


@pytest.mark.parametrize("what", what_next.NAMES)
def test_the_stored_dual_encoder_names_what_it_was_never_asked(cards, dual, what):
    model, vocabulary = dual
    features = captioning.image_features(cards.images)
    names, target = what_next.NAMES[what], what_next.names_of(cards, what)
    templates = what_next.TEMPLATES[what]
    answers = what_next.zero_shot(model, features, names, vocabulary, templates)
    assert (answers == target).float().mean() > 0.9
    turned = names[1:] + names[:1]  # the same names under other numbers
    again = what_next.zero_shot(model, features, turned, vocabulary, templates)
    assert [turned[i] for i in again] == [names[i] for i in answers]
    shuffled = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))]
    wrong = what_next.zero_shot(model, shuffled, names, vocabulary, templates)
    assert (wrong == target).float().mean() < 0.5, "the picture decides"


def test_the_order_of_prompts_does_not_matter_and_one_prompt_is_its_text(dual):
    model, vocabulary = dual
    names, templates = what_next.NAMES["object"], what_next.TEMPLATES["object"]
    vectors = what_next.class_vectors(model, names, vocabulary, templates)
    back = what_next.class_vectors(model, names, vocabulary, templates[::-1])
    assert torch.allclose(vectors, back, atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(names)))
    one = what_next.class_vectors(model, names[:2], vocabulary, ["beside {}"])
    tokens = preprocessing.text_to_tensor([f"beside {name}" for name in names[:2]], vocabulary)
    with torch.no_grad():
        assert torch.allclose(one, model.text(tokens), atol=1e-6)
    mean = what_next.class_vectors(model, names[:1], vocabulary, templates[:2])
    texts = [template.format(names[0]) for template in templates[:2]]
    with torch.no_grad():
        g = model.text(preprocessing.text_to_tensor(texts, vocabulary)).mean(0)
    assert torch.allclose(mean[0], g / g.norm(), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "templates", "said"),
    [
        (["a boat", "a zebra"], ["{}"], '"zebra" was in no training text.* train a probe'),
        (["a boat", "..."], ["{}"], "was in no training text"),
        (["a boat", "a boat"], ["{}"], 'Two classes have the name "a boat": give'),
        (["a boat"], ["beside"], 'The template "beside" needs one {}'),
        (["a boat"], ["{} beside {}"], "needs one {}, where the name goes: write"),
        (["a boat"], ["{name}"], "needs one {}"),
        ([], ["{}"], "names is empty: pass"),
        ("a boat", ["{}"], "needs a list as names"),
    ],
)
def test_names_and_templates_that_cannot_be_right(dual, names, templates, said):
    with pytest.raises(ValueError, match=said):
        what_next.class_vectors(dual[0], names, dual[1], templates)


def test_words_of_a_template_may_be_unknown(dual):
    model, vocabulary = dual
    assert "photograph" not in vocabulary.words
    found = what_next.class_vectors(model, ["a boat"], vocabulary, ["a photograph of {}"])
    assert found.isfinite().all()


def test_cards_that_show_an_object(cards):
    some = what_next.showing(cards, ["a boat", "a bat"])
    assert {card.object for card in some.cards} == {"boat", "bat (animal)", "bat (sport)"}
    with pytest.raises(ValueError, match="Unknown object 'a zebra': use"):
        what_next.showing(cards, ["a zebra"])
    with pytest.raises(ValueError, match="None of the 1 cards shows a boat: pass more"):
        what_next.showing(
            cards.subset([[card.object for card in cards.cards].index("key")]), ["a boat"]
        )


def test_what_was_left_out_of_training_is_in_no_vocabulary(cards):
    _, model, vocabulary = what_next.train_without(cards, epochs=1)
    words = {name.split()[1] for name in what_next.LEFT_OUT}
    assert not words & set(vocabulary.words)
    assert {name.split()[1] for name in what_next.KNOWN} <= set(vocabulary.words)
    with pytest.raises(ValueError, match='"boat" was in no training text'):
        what_next.class_vectors(model, what_next.LEFT_OUT, vocabulary)
    drawn = [postcards.OBJECTS[name.split()[1]] for name in what_next.LEFT_OUT]
    assert [name for name, _ in drawn] == list(what_next.LEFT_OUT), "one drawing each"


# Labels


def test_few_takes_so_many_of_each_class():
    target = torch.tensor([0] * 9 + [1] * 4 + [2] * 7)
    places = what_next.few(target, 4)
    assert torch.bincount(target[places]).tolist() == [4, 4, 4]
    assert len(places.unique()) == 12
    with pytest.raises(ValueError, match="Class 1 has 4 examples, and per_class is 5: ask"):
        what_next.few(target, 5)


def test_more_labels_help_and_shuffled_ones_do_not():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 4
    features = torch.eye(6)[target] * 2 + torch.randn(400, 6, generator=generator)
    known, new = slice(200), slice(200, None)
    given = (features[known], target[known], features[new], target[new])
    curve = what_next.label_curve(*given, counts=[1, 30], draws=4)
    assert curve.shape == (2, 4)
    assert curve[1].mean() > curve[0].mean() + 0.1
    wrong = target[known][torch.randperm(200, generator=generator)]
    lost = what_next.label_curve(given[0], wrong, *given[2:], counts=[30], draws=4)
    assert lost.mean() < 0.5 < curve[1].mean()
    with pytest.raises(ValueError, match="got 199 of features and 200 of target"):
        what_next.label_curve(features[:199], target[known], *given[2:], counts=[1])


def test_a_probe_reads_what_is_linear_and_nothing_else():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 90, generator=generator)  # more columns than rows
    y = (x[:, 0] > 0).long()
    new = torch.randn(300, 90, generator=generator)
    wide = what_next.probe(3 * x[:, :2] + 7, y).predict((3 * new[:, :2] + 7).numpy())
    assert (torch.tensor(wide) == (new[:, 0] > 0)).float().mean() > 0.9
    narrow = what_next.probe(x, y).predict(new.numpy())
    assert 0.5 < (torch.tensor(narrow) == (new[:, 0] > 0)).float().mean() < 0.9
    crossed = (x[:, 0] * x[:, 1] > 0).long()
    other = what_next.probe(x[:, :2], crossed).predict(new[:, :2].numpy())
    assert (torch.tensor(other) == (new[:, 0] * new[:, 1] > 0)).float().mean() < 0.65
    with pytest.raises(ValueError, match=r"got \[59, 1\] examples of its classes: bring"):
        what_next.probe(x, torch.arange(60) == 0)


# The low-rank addition


def low_rank(rank=3):
    torch.manual_seed(0)
    layer = nn.Linear(11, 7)
    return layer, what_next.LowRank(layer, rank)


def test_a_low_rank_addition_changes_nothing_at_the_start():
    layer, added = low_rank()
    x = torch.randn(5, 11)
    assert torch.equal(added(x), layer(x))


def test_only_the_addition_gets_slopes_and_the_merged_layer_is_the_same():
    layer, added = low_rank()
    before = layer.weight.clone()
    x, wanted = torch.randn(20, 11), torch.randn(20, 7)
    adam = torch.optim.Adam([p for p in added.parameters() if p.requires_grad], lr=0.1)
    for _ in range(5):
        adam.zero_grad()
        nn.functional.mse_loss(added(x), wanted).backward()
        adam.step()
    assert {n for n, p in added.named_parameters() if p.grad is not None} == {"a", "b"}
    assert all(p.grad.abs().sum() > 0 for p in (added.a, added.b))
    assert torch.equal(layer.weight, before)
    merged = added.merged()
    assert torch.allclose(merged(x), added(x), atol=1e-6)
    assert not torch.allclose(layer(x), added(x), atol=1e-2), "it has learned"
    change = merged.weight - before
    assert torch.linalg.matrix_rank(change.detach(), tol=1e-5) == 3
    assert torch.equal(layer.weight, before), "merging makes a layer of its own"
    assert what_next.learned(added) == 3 * (11 + 7)


@pytest.mark.parametrize(
    ("layer", "rank", "said"),
    [
        (nn.Linear(11, 7), 7, "rank is 7: give a whole number from 1 to 6"),
        (nn.Linear(11, 7), 0, "rank is 0: give"),
        (nn.Linear(11, 7), 1.5, "rank is 1.5: give"),
        (nn.Conv2d(3, 4, 3), 2, "goes around a linear layer, and got a Conv2d: pass"),
    ],
)
def test_a_rank_or_layer_that_does_not_fit(layer, rank, said):
    with pytest.raises(ValueError, match=said):
        what_next.LowRank(layer, rank)


# Ways to adapt


def test_each_way_learns_its_own_parameters_and_leaves_the_encoder_alone(cards, encoder):
    before = {name: one.clone() for name, one in encoder.state_dict().items()}
    images, target = cards.images[:8], torch.arange(8) % 2
    counts = {}
    for way in what_next.WAYS:
        model = what_next.new_classifier(encoder, 2, way)
        counts[way] = what_next.learned(model)
        first = {name: one.detach().clone() for name, one in model.named_parameters()}
        what_next.fine_tune(model, images, target, epochs=2)
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, first[n])}
        if way == "low-rank":
            assert moved == {"encoder.project.a", "encoder.project.b", "head.weight", "head.bias"}
            means = model.encoder.convolutions[1].running_mean
            assert torch.equal(means, before["convolutions.1.running_mean"])
        else:
            assert moved == set(first)
    assert counts["scratch"] == counts["full"] > 10 * counts["low-rank"]
    assert counts["low-rank"] == 4 * (2048 + 48) + 2 * 49
    assert all(torch.equal(one, before[name]) for name, one in encoder.state_dict().items())


def test_from_scratch_nothing_of_the_encoder_is_left_and_full_begins_with_it(encoder):
    weight = encoder.convolutions[0].weight
    scratch, full = (what_next.new_classifier(encoder, 2, way) for way in ("scratch", "full"))
    assert not torch.equal(scratch.encoder.convolutions[0].weight, weight)
    assert torch.equal(full.encoder.convolutions[0].weight, weight)
    fresh = nn.BatchNorm2d(12)
    assert torch.equal(scratch.encoder.convolutions[1].running_var, fresh.running_var)


def test_a_way_or_encoder_that_is_not_known(encoder):
    with pytest.raises(ValueError, match="Unknown way 'half': use one of"):
        what_next.new_classifier(encoder, 2, "half")
    with pytest.raises(ValueError, match="and got a Linear: pass a cnn.ImageEncoder, or use"):
        what_next.new_classifier(nn.Linear(3, 2), 2, "full")


def test_tasks_ask_what_they_say(cards):
    side = what_next.task("side", cards)
    beside = [card for card in cards.cards if card.relation == "beside"]
    assert side.target.tolist() == [int(card.side == "right") for card in beside]
    drawing = what_next.task("drawing", cards)
    double = [card.object for card in cards.cards if "(" in card.object]
    assert (len(drawing.images), drawing.classes) == (len(double), 10)
    pairs = set(zip(drawing.target.tolist(), double, strict=True))
    assert len(pairs) == len(set(double))
    digit = what_next.task("digit", cards, "val")
    assert digit.images.shape == (120, 3, 64, 64)
    assert digit.classes == 10
    on = cards.subset([[card.relation for card in cards.cards].index("on")])
    with pytest.raises(ValueError, match='None of the 1 cards can be asked for its "side": draw'):
        what_next.task("side", on)


@pytest.mark.slow
def test_the_probe_is_blind_for_the_side_and_the_low_rank_addition_is_not(encoder):
    pool, test = (datasets.draw_postcards(n, seed) for n, seed in ((150, 78), (200, 79)))
    scores = what_next.compare(encoder, what_next.task("side", pool), what_next.task("side", test))
    right = {score.way: score.right for score in scores}
    assert list(right) == [what_next.PIXELS, what_next.PROBE, *what_next.WAYS]
    assert right[what_next.PROBE] < 0.75
    assert all(0 <= score.right <= 1 and score.known >= 0.5 for score in scores)
    assert {score.way: score.learned for score in scores}[what_next.PROBE] == 2 * 49
    assert min(right[way] for way in (*what_next.WAYS, what_next.PIXELS)) > 0.85
    with pytest.raises(ValueError, match="labels is 3: give a whole number of at least 4"):
        what_next.compare(encoder, what_next.task("side", pool), None, labels=3)


# Encoders from elsewhere. The packages are not needed here: fakes that have their names and answer
# as they do stand in. So these tests show what the course does with the answers, and no more.


def network(dim=5):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dim))


def test_an_encoder_brings_pictures_to_the_size_and_scale_that_it_knows():
    seen = []

    class Watch(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.mean((2, 3))

    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    encoder = what_next.Pretrained(Watch(), 32, mean, std)
    assert (encoder.dim, encoder.training) == (3, False)
    features = encoder(torch.full((2, 3, 64, 64), 0.5))
    assert seen[-1].shape == (2, 3, 32, 32)
    assert torch.allclose(features, torch.tensor([0.0, 1.0, 0.5]).expand(2, 3), atol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        encoder(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match="and this Conv2d returned a tensor of shape"):
        what_next.Pretrained(nn.Conv2d(3, 4, 3), 32, mean, std)


def fake(monkeypatch, name, **parts):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(parts)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_an_unknown_package_and_one_that_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="Unknown package 'keras': use one of"):
        what_next.pretrained("keras", "x")
    with pytest.raises(ValueError, match="download is None: give True or False"):
        what_next.pretrained("timm", "x", download=None)
    for package in what_next.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match="is not installed here: type `pip install"):
            what_next.pretrained(package, "resnet18")


def test_a_package_of_another_pytorch_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"timm does not work with PyTorch .*: install the ver"):
        what_next.pretrained("timm", "resnet18")


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    prepare = types.SimpleNamespace(crop_size=[32], mean=(0.5,) * 3, std=(0.5,) * 3)
    one = types.SimpleNamespace(url="https://x.org/net-1.pth", transforms=lambda: prepare)

    class Kinds(dict):
        __members__ = {"V1": one, "DEFAULT": one}

    asked = []
    models = fake(
        monkeypatch,
        "torchvision.models",
        list_models=lambda module: ["resnet18", "vit"],
        get_model_weights=lambda name: Kinds(Kinds.__members__),
        get_model=lambda name, weights: asked.append((name, weights)) or network(),
    )
    fake(monkeypatch, "torchvision", models=models)
    return asked, tmp_path / "hub" / "checkpoints" / "net-1.pth", one


def test_torchvision_fetches_nothing_unasked(torchvision):
    asked, path, one = torchvision
    with pytest.raises(FileNotFoundError, match=r"net-1.pth\): pass download=True to let torchv"):
        what_next.pretrained("torchvision", "resnet18")
    assert asked == [], "no network was asked for, so nothing could be fetched"
    path.parent.mkdir(parents=True)
    path.touch()
    encoder = what_next.pretrained("torchvision", "resnet18")
    assert asked == [("resnet18", one)]
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 3), "without the last linear layer"
    path.unlink()
    assert what_next.pretrained("torchvision", "resnet18", download=True).dim == 3


def test_names_that_torchvision_does_not_have(torchvision):
    with pytest.raises(ValueError, match='no "resnet19": choose one of its 2, such as resnet18'):
        what_next.pretrained("torchvision", "resnet19")
    with pytest.raises(ValueError, match='torchvision\'s resnet18 has no "V9": choose'):
        what_next.pretrained("torchvision", "resnet18", weights="V9")


@pytest.fixture
def hub(monkeypatch):
    """The cache of the Hub: {(repository, file): path}."""
    there = {}
    fake(
        monkeypatch,
        "huggingface_hub",
        try_to_load_from_cache=lambda repository, file: there.get((repository, file)),
    )
    return there


def test_timm_reads_the_file_that_is_here(monkeypatch, hub):
    asked = []
    source = types.SimpleNamespace(
        hf_hub_id="timm/r.a1", input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    fake(
        monkeypatch,
        "timm",
        list_models=lambda pretrained: ["r.a1"],
        get_pretrained_cfg=lambda name: source,
        create_model=lambda name, **options: asked.append((name, options)) or network(),
    )
    with pytest.raises(FileNotFoundError, match="of timm/r.a1, in the cache of the Hub"):
        what_next.pretrained("timm", "r")
    assert asked == []
    hub["timm/r.a1", "model.safetensors"] = "/here"
    assert what_next.pretrained("timm", "r").dim == 5
    overlay = {"pretrained_cfg_overlay": {"file": "/here"}}
    assert asked == [("r", {"pretrained": True, "num_classes": 0, **overlay})]
    with pytest.raises(ValueError, match='timm has no "r.a2": choose'):
        what_next.pretrained("timm", "r", weights="a2")


@pytest.mark.parametrize("pooled", [True, False])
def test_transformers_looks_only_at_what_is_here(monkeypatch, pooled):
    here, asked = [], []

    class Eye(nn.Module):
        def forward(self, pixel_values):
            states = torch.stack([pixel_values.mean((2, 3))] * 4, 1)  # (B, places, dim)
            pooler = states[:, 0] if pooled else None
            return types.SimpleNamespace(pooler_output=pooler, last_hidden_state=states)

    class Auto:
        @staticmethod
        def from_pretrained(name, **options):
            asked.append(options["local_files_only"])
            if not here:
                raise OSError("nothing")
            return here[0] if len(asked) % 2 else here[1]

    fake(monkeypatch, "transformers", AutoModel=Auto, AutoImageProcessor=Auto)
    with pytest.raises(FileNotFoundError, match="pass download=True to let transformers fetch"):
        what_next.pretrained("transformers", "a/b")
    with pytest.raises(ValueError, match='finds no model "a/b" .*: check its name'):
        what_next.pretrained("transformers", "a/b", download=True)
    assert asked == [True, False]
    size = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    prepare = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "do_center_crop": True, **size}
    here += [Eye(), types.SimpleNamespace(**prepare)]
    encoder = what_next.pretrained("transformers", "a/b")
    assert encoder.size == 32
    images = torch.rand(2, 3, 1, 1).expand(2, 3, 64, 64)
    assert torch.allclose(encoder(images), images[:, :, 0, 0], atol=1e-5)


def test_open_clip_needs_the_name_of_its_weights(monkeypatch, hub):
    asked = []
    source = {"hf_hub": "a/clip/", "mean": (0.5,) * 3, "std": (0.5,) * 3, "quick_gelu": True}
    eye = network()
    eye.image_size = (32, 32)
    fake(
        monkeypatch,
        "open_clip",
        list_models=lambda: ["ViT"],
        list_pretrained_tags_by_model=lambda name: ["big"],
        get_pretrained_cfg=lambda name, tag: source,
        create_model=lambda name, **options: (
            asked.append(options) or types.SimpleNamespace(visual=eye)
        ),
    )
    with pytest.raises(ValueError, match='open_clip\'s ViT has no "": choose one of its 1'):
        what_next.pretrained("open_clip", "ViT")
    with pytest.raises(FileNotFoundError, match="of a/clip"):
        what_next.pretrained("open_clip", "ViT", weights="big")
    hub["a/clip", "open_clip_pytorch_model.bin"] = "/here"
    encoder = what_next.pretrained("open_clip", "ViT", weights="big")
    assert (encoder.dim, encoder.size) == (5, 32)
    what_next.pretrained("open_clip", "ViT", weights="big", download=True)
    assert asked == [{"pretrained": "/here", "force_quick_gelu": True}] * 2


def test_the_encoders_of_the_course_are_what_a_probe_reads(cards):
    """Any nn.Module that returns (B, dim) will do."""
    for eye in (cnn.ImageEncoder(8).eval(), what_next.Flat()):
        with torch.no_grad():
            features = eye(cards.images[:20])
        assert features.ndim == 2
        reader = what_next.probe(features, torch.arange(20) % 2)
        assert reader.predict(features.numpy()).shape == (20,)


# What is not there


def test_a_card_without_its_object_differs_where_the_object_was():
    cards = datasets.draw_postcards(12, seed=3)
    bare = what_next.without_object(cards)
    changed = (bare.images != cards.images).any(1)  # (N, 64, 64)
    assert changed.flatten(1).any(1).all(), "each card has lost something"
    for row, card in zip(changed, cards.cards, strict=True):
        place = postcards.layout(card)
        middle = [int(64 * place.object_y), int(64 * place.object_x)]
        away = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij"))
        far = (away - torch.tensor(middle)[:, None, None]).abs().amax(0) > 64 * place.object_size
        assert not (row & far).any(), "and nothing else"
    assert bare.captions == cards.captions
    assert torch.equal(what_next.without_object(bare).images, bare.images)


def test_the_question_for_the_object_is_that_of_its_place():
    cards = datasets.draw_postcards(30, seed=5)
    asked = what_next.object_questions(cards)
    for card, text in zip(cards.cards, asked, strict=True):
        assert ("beside" in text) == (card.relation == "beside") == (text in {
            "what is beside the face?"
        })  # fmt: skip
    of_lesson_07 = {one.text for one in questions.ask_all(cards) if one.kind == "object"}
    assert set(asked) == of_lesson_07


def test_objects_are_found_in_captions_and_answers():
    texts = ["hat", "no", "a red face beside a bat at night", "a hatter", "glasses", "a Hat!", "?"]
    found = what_next.name_objects(texts)
    assert found.tolist() == [True, False, True, False, True, True, False]
    cards = datasets.draw_postcards(40, seed=6)
    assert what_next.name_objects(cards.captions).all()
    with pytest.raises(ValueError, match="name_objects"):
        what_next.name_objects([])


def test_the_interval_is_wilsons():
    """As in his formula: (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)."""
    for count, total in ((0, 10), (3, 10), (10, 10), (291, 300)):
        p, z = count / total, 1.959964
        middle, room = (
            p + z**2 / (2 * total),
            z * (p * (1 - p) / total + z**2 / (4 * total**2)) ** 0.5,
        )
        low, high = ((middle + sign * room) / (1 + z**2 / total) for sign in (-1, 1))
        assert what_next.interval(count, total) == pytest.approx((low, high), abs=1e-6)
    for count, total in ((4, 3), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="give a whole number"):
            what_next.interval(count, total)


@pytest.fixture(scope="module")
def small_model():
    """An untrained one model, its vocabulary, and pictures of six cards."""
    cards = datasets.draw_postcards(6, seed=8)
    vocabulary = one_model.course_vocabulary()
    model = one_model.new_model(vocabulary, width=16, blocks=1).eval()
    return model, vocabulary, cards


def test_confidence_is_the_probability_of_the_word_that_is_written(small_model):
    model, vocabulary, cards = small_model
    seen, asked = {"picture": torch.randn(6, 16, 128)}, what_next.object_questions(cards)
    sure = what_next.confidence(model, seen, vocabulary, asked)
    inputs = one_model.ask(model, "<ask>", seen, vocabulary, asked)
    words = torch.nn.functional.pad(inputs["words"], (0, 1), value=preprocessing.BOS)
    with torch.no_grad():
        chances = model(seen | {"words": words})[:, -1].softmax(1)
    assert torch.allclose(sure, chances.max(1).values, atol=1e-6)
    with pytest.raises(ValueError, match="<ask> is without its picture"):
        what_next.confidence(model, {}, vocabulary, asked)


def test_refusals_say_no_to_pictures_without_the_object(small_model):
    _, vocabulary, cards = small_model
    *others, asked = what_next.refusals(cards, vocabulary)
    assert {one.task for one in others} >= {"<caption en>", "<translate>", "<mood>"}
    assert asked.task == "<ask>"
    first = len(asked) - 6
    assert first > 5 * 6, "the other questions are there, too"
    bare = one_model.picture_patches(what_next.without_object(cards).images)
    whole = one_model.picture_patches(cards.images)
    before, _ = asked.take(torch.arange(first))
    assert torch.equal(before["picture"].unique(dim=0), whole.unique(dim=0))
    seen, target = asked.take(torch.arange(first, len(asked)))
    assert torch.equal(seen["picture"], bare)
    said = [[word for word in row if word] for row in target.tolist()]
    assert said == [[vocabulary.index["no"], preprocessing.EOS]] * 6
