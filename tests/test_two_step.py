"""two_step.py: readings of unseen rows, honest weights, and what an honest analyst says."""

import csv
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import soundfile
import torch
from PIL import Image
from sklearn.datasets import load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from torch import nn

from mbm_lab import albums, datasets, downloads, fusion, speech, stored, tables, two_step
from mbm_lab.two_step import Target

# Tables


def drawn_table(n=150, seed=0, noise=0.3, classes=0, groups=None):
    """Numbers that tell one half of the target, and texts that tell the other."""
    g = np.random.default_rng(seed)
    x, good = g.normal(size=(n, 4)), g.integers(0, 3, n)
    filler = [f"word{i}" for i in range(30)]
    texts = [
        " ".join([*g.choice(filler, 5), ["awful", "plain", "lovely"][level], *g.choice(filler, 2)])
        for level, _ in zip(good, range(n), strict=True)
    ]
    y = 0.8 * x[:, 0] + 0.7 * (good - 1) + noise * g.normal(size=n)
    if classes:
        y = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    return in_memory(x, texts, y, classes, groups)


def in_memory(x, texts, y, classes=0, groups=None):
    n = len(y)
    return tables.Table(
        Path("."), [f"row {i}" for i in range(n)], list(range(2, n + 2)), texts=list(texts),
        numbers=torch.tensor(x).float(), number_names=[f"x{i}" for i in range(x.shape[1])],
        target=torch.tensor(y) if classes else torch.as_tensor(y).float(), target_name="y",
        classes=[f"class {i}" for i in range(classes)], groups=groups,
    )  # fmt: skip


def noise_table(n, seed, classes=0):
    """A table whose target has nothing to do with its rows."""
    g = np.random.default_rng([seed, 5])
    y = g.integers(0, classes, n) if classes else g.normal(size=n)
    other = drawn_table(n, seed)
    return in_memory(other.numbers.numpy(), other.texts, y, classes)


def write(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def postcards_folder(folder, count):
    """Postcards as a table of one's own: picture, message, mood."""
    cards = datasets.load_postcards("train", parts=()).cards[:count]
    rows = [{"photo": str(c.name) + ".png", "message": c.message, "mood": c.mood} for c in cards]
    write(folder, rows)
    (folder / "images").mkdir()
    for row in rows:
        shutil.copy(datasets.POSTCARDS / "images" / row["photo"], folder / "images")
    return folder


def digits_folder(folder, count):
    """Written and spoken digits: those of MNIST and FSDD, or of the sample of the course."""
    if downloads.find("mnist") and downloads.find("fsdd"):
        (images, digits), spoken = datasets.load_mnist("test"), datasets.load_spoken_digits("test")
    else:
        images, digits, spoken = datasets.load_digit_sample("test")
    places = [(digits == d).nonzero()[:, 0].tolist() for d in range(10)]
    rows = []
    (folder / "files").mkdir(parents=True)
    for i in torch.randperm(len(spoken.names), generator=torch.Generator().manual_seed(0))[:count]:
        digit = int(spoken.digits[i])
        grey = images[places[digit].pop(), 0]
        generator = torch.Generator().manual_seed(int(i))
        pixels = grey + 0.5 * torch.randn(28, 28, generator=generator)
        noisy = speech.add_noise(spoken.sounds[i], 0.0, generator)
        Image.fromarray((pixels.clamp(0, 1) * 255).byte().numpy()).save(folder / f"files/{i}.png")
        soundfile.write(folder / f"files/{i}.flac", noisy.clamp(-1, 1).numpy(), 16_000)
        rows.append({"written": f"files/{i}.png", "spoken": f"files/{i}.flac", "digit": digit,
                     "speaker": spoken.speakers[i]})  # fmt: skip
    return write(folder, rows)


def wine_folder(folder):
    """scikit-learn's wines: some measures as numbers, others described in words."""
    wine = load_wine()
    named = dict(zip(wine.feature_names, wine.data.T, strict=True))
    middle = {name: np.quantile(values, [1 / 3, 2 / 3]) for name, values in named.items()}
    words = ("low", "medium", "high")
    rows = []
    for i, kind in enumerate(wine.target_names[wine.target]):
        said = [f"{words[np.searchsorted(middle[name], named[name][i])]} {name.replace('_', ' ')}"
                for name in ("color_intensity", "hue", "ash")]  # fmt: skip
        row = {name: round(named[name][i], 3) for name in ("malic_acid", "magnesium", "alcohol")}
        rows.append(row | {"description": f"A wine of {', '.join(said)}.", "kind": kind})
    return write(folder, rows)


def score_of(analysis, name):
    return next(one.value for one in analysis.scores if one.name == name)


# Matrices


def test_the_vocabulary_and_its_weights_come_from_the_training_part_only():
    texts = [two_step.words(t) for t in drawn_table(120).texts]
    train = np.arange(100)
    texts[-1] = ["a", "word", "that", "training", "never", "had"]
    design = two_step.Design(two_step.count_words(texts), "text", False)
    x, made = design.matrix(train)
    vectorizer = TfidfVectorizer(analyzer=lambda text: text, min_df=2).fit(texts[:100])
    assert sorted(made["words"]) == sorted(vectorizer.vocabulary_)
    order = [vectorizer.vocabulary_[word] for word in made["words"]]
    assert np.allclose(x.toarray(), vectorizer.transform(texts).toarray()[:, order])


def test_words_behind_a_negation_are_other_words():
    assert two_step.words("The hotel was NOT really nice, but cheap.") == [
        "the", "hotel", "was", "not", "not:really", "not:nice", "but", "cheap",
        "the hotel", "hotel was", "was not", "not not:really", "not:really not:nice",
        "not:nice but", "but cheap",
    ]  # fmt: skip


@pytest.mark.slow
def test_chinese_negations_are_found_too():
    assert "not:好吃" in two_step.words("早餐不好吃")


@pytest.mark.parametrize("shape", [(80, 12), (30, 90)])
def test_ridge_along_principal_axes_is_ridge(shape):
    g = np.random.default_rng(0)
    x, y = g.normal(size=shape), g.normal(size=shape[0])
    axes = two_step.principal_axes(x)
    z = two_step._along(x, axes)
    for penalty, along in zip(
        two_step.RIDGE[:-1], two_step.ridge_path(z, axes.squares, y - y.mean()), strict=False
    ):
        theirs = Ridge(penalty).fit(x, y).predict(x)
        assert np.allclose((z @ along)[:, 0] + y.mean(), theirs, atol=1e-6)


def test_numbers_that_are_missing_count_as_the_mean_and_are_flagged():
    x = np.array([[1.0, 5], [3, np.nan], [np.nan, 7], [100, 100]], np.float32)
    made, how = two_step.Design(x, "numbers", False).matrix(np.arange(3))
    assert np.allclose(how["mean"], [2, 6])
    assert made.shape == (4, 4)
    assert made[2, 0] == made[1, 1] == 0
    assert made[1, 3] > 0 > made[0, 3]


# Weights


def test_the_weights_are_those_of_lesson_04():
    g = np.random.default_rng(1)
    f, y = 3 + g.normal(size=(2, 60)), g.normal(size=60)
    f[1] += 1e-3 * f[0]
    ours = two_step.best_weights(f, y)
    assert np.allclose(ours, fusion.best_weights(*map(torch.tensor, f), torch.tensor(y)))
    three = np.vstack([f, f[0] * g.normal(size=60)])
    theirs = LinearRegression().fit(three.T, y)
    assert np.allclose(two_step.best_weights(three, y), [*theirs.coef_, theirs.intercept_])
    counts = g.multinomial(60, np.ones(60) / 60, 3).astype(float)
    again = LinearRegression().fit(f.T, y, counts[2])
    assert np.allclose(two_step.best_weights(f, y, counts)[2], [*again.coef_, again.intercept_])
    dead = np.vstack([f[0], np.full(60, 0.3)])
    alone = LinearRegression().fit(f[:1].T, y)
    assert np.allclose(two_step.best_weights(dead, y), [alone.coef_[0], 0, alone.intercept_])


def test_the_weights_of_classes_are_the_most_likely():
    g = np.random.default_rng(2)
    f = g.normal(size=(2, 90, 3))
    y = (0.9 * f[0] + 0.3 * f[1] + g.gumbel(size=(90, 3))).argmax(1)

    def minus_log(theta):
        scores = theta[0] * f[0] + theta[1] * f[1] + np.append(theta[2:], 0)
        scores = scores - scores.max(1, keepdims=True)
        return -(scores[np.arange(90), y] - np.log(np.exp(scores).sum(1))).sum()

    theirs = scipy.optimize.minimize(minus_log, np.zeros(4)).x
    ours = two_step.best_class_weights(f, y)
    assert np.allclose(ours[:2], theirs[:2], atol=2e-3)
    assert np.allclose(ours[2:] - ours[4], [*theirs[2:], 0], atol=2e-3)
    sure = two_step.best_class_weights(50 * np.eye(3)[y][None], y)  # told apart without a fault
    assert np.isfinite(sure).all()


def test_the_interval_covers_known_weights_in_90_of_100_draws():
    covered = np.zeros(2)
    for seed in range(100):
        g = np.random.default_rng(seed)
        f = g.normal(size=(2, 200, 1))
        f[1] += 0.5 * f[0]
        y = 0.6 * f[0, :, 0] + 0.3 * f[1, :, 0] + g.normal(size=200)
        bounds, _ = two_step.weight_intervals(f, Target(y, 1), seed=seed, draws=300)
        known = zip(bounds, (0.6, 0.3), strict=True)
        covered += [one.low <= weight <= one.high for one, weight in known]
    assert covered.min() >= 90


@pytest.mark.slow
def test_the_interval_covers_the_weights_of_perfect_readers_in_90_of_100_tables():
    """The mood is m; a number tells m + noise, and a text another m + noise, beside rubbish."""
    m_variance, f_noise, g_noise = 1 / 9, 0.26**2, 0.22**2
    f_share, g_share = (m_variance / (m_variance + noise) for noise in (f_noise, g_noise))
    total = 1 / f_noise + 1 / g_noise + 1 / m_variance
    known = (1 / f_noise / total / f_share, 1 / g_noise / total / g_share)  # of E[m | witness]
    covered = np.zeros(2)
    for seed in range(100):
        g = np.random.default_rng([seed, 3])
        m = g.normal(size=120) * m_variance**0.5
        first = m + g.normal(size=120) * f_noise**0.5
        second = m + g.normal(size=120) * g_noise**0.5
        target, folds = Target(m, 1), np.arange(120) % 5
        read = [
            two_step.read_all(two_step.Design(x, "numbers", False), target, folds).outer
            for x in (np.column_stack([first, g.normal(size=(120, 2))]), second[:, None])
        ]
        bounds, _ = two_step.weight_intervals(np.stack(read), target, seed=seed, draws=300)
        covered += [b.low <= weight <= b.high for b, weight in zip(bounds, known, strict=True)]
    assert covered.min() >= 90


# Nothing leaks


@pytest.mark.parametrize("classes", [0, 3])
def test_what_a_row_is_told_does_not_depend_on_its_own_fold(classes, monkeypatch):
    monkeypatch.setattr(two_step, "DRAWS", 10)
    monkeypatch.setattr(two_step, "CLASS_DRAWS", 5)
    table = drawn_table(60, classes=classes)
    folds = np.arange(60) % 3
    monkeypatch.setattr(two_step, "make_folds", lambda *more: folds)
    before = two_step.analyse(table)
    changed = table.target.clone()
    changed[folds == 2] = changed[folds == 2].flip(0) if classes else 100.0
    after = two_step.analyse(tables.replace(table, target=changed))
    same = torch.from_numpy(folds == 2)
    assert torch.allclose(after.v[same], before.v[same], atol=1e-6)
    assert not torch.allclose(after.v[~same], before.v[~same], atol=1e-3)


def test_two_folds_are_too_few():
    with pytest.raises(ValueError, match="three folds or more"):
        two_step.analyse(drawn_table(60), folds=2)


def test_groups_stay_on_one_side():
    for classes in (0, 2):
        groups = [f"p{i // 5}" for i in range(60)]
        table = drawn_table(60, classes=classes, groups=groups)
        folds = two_step.make_folds(table)
        assert len(set(zip(groups, folds.tolist(), strict=True))) == 12
        assert folds.max() == 4
    for counts in two_step.draw_again(60, groups, 0, 5):
        assert (counts.reshape(5, 12, 5).std(2) == 0).all()
        assert (counts.reshape(5, 12, 5)[:, :, 0].sum(1) == 12).all()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "classes"), [(60, 0), (90, 2)])
def test_noise_helps_nothing_in_20_of_20_tables(n, classes, monkeypatch):
    monkeypatch.setattr(two_step, "DRAWS", 400)
    monkeypatch.setattr(two_step, "CLASS_DRAWS", 10)
    monkeypatch.setattr(two_step, "LOGISTIC", two_step.LOGISTIC[1::2])
    for seed in range(20):
        found = two_step.analyse(noise_table(n, seed, classes), seed=seed)
        assert any(s.startswith("Nothing helps") for s in found.sentences), found.sentences
        assert not any("helps: without" in s or "help: without" in s for s in found.sentences)


# The analysis


@pytest.fixture(scope="module")
def number():
    return two_step.analyse(drawn_table(150))


@pytest.fixture(scope="module")
def classes():
    return two_step.analyse(drawn_table(120, classes=3))


def test_the_figures_are_those_of_plain_code(number):
    y, v = number.table.target.double().numpy(), number.v.numpy()
    f, g = number.readings["numbers"].numpy(), number.readings["text"].numpy()
    assert list(number.readings) == ["text", "numbers"]
    fit = LinearRegression().fit(np.column_stack([g, f]), y)
    weights = [number.weights[name].value for name in ("text", "numbers")]
    assert np.allclose(weights, fit.coef_)
    assert np.isclose(number.intercept, fit.intercept_)
    for name, said in (("constant guess", np.full_like(y, y.mean())), ("text alone", g),
                       ("numbers alone", f), ("untrained sum", f + g - y.mean()),
                       ("v", v)):  # fmt: skip
        assert np.isclose(score_of(number, name).value, r2_score(y, said), atol=1e-9)
        assert score_of(number, name).low <= r2_score(y, said) <= score_of(number, name).high
    for name, reading in (("text", g), ("numbers", f)):
        ours = number.contributions[name]
        assert np.isclose(ours.value, abs(number.weights[name].value) * reading.std())
        assert ours.low < ours.value < ours.high
    assert number.worst == np.argsort(-abs(y - v), kind="stable")[:10].tolist()
    # v of a fold by hand: other folds' α and β are close to those of all rows
    assert np.corrcoef(v, fit.predict(np.column_stack([g, f])))[0, 1] > 0.99
    gain = number.gains["constant guess"]
    assert np.isclose(gain.value, r2_score(y, v))
    generator, lost = np.random.default_rng(5), []
    for _ in range(40):
        order = generator.permutation(len(y))
        lost.append(r2_score(y, v) - r2_score(y, fit.predict(np.column_stack([g, f[order]]))))
    assert np.isclose(number.shuffled["numbers"].value, np.mean(lost), rtol=0.1)


def test_the_sentences_say_what_the_figures_say(number):
    said = " ".join(number.sentences)
    v, gain = score_of(number, "v"), number.gains
    assert v.value > score_of(number, "text alone").value + 0.1
    assert f"R² {v.value:.2f}, 95 %: {v.low:.2f} to {v.high:.2f}" in said
    assert gain["text"].low > 0 < gain["numbers"].low
    assert "Your text helps" in said
    assert "Your numbers help" in said
    assert "150 rows are few" in said
    assert "Nothing helps" not in said
    useless = drawn_table(150).numbers.numpy() * 0 + np.random.default_rng(9).normal(size=(150, 4))
    other = two_step.analyse(in_memory(useless, drawn_table(150).texts, number.table.target))
    said = " ".join(other.sentences)
    assert "Your numbers do not help" in said
    assert "Your text helps" in said
    assert "β, the weight of your numbers, could be anything between" in said


def test_modalities_that_say_the_same_are_told_so():
    x = np.random.default_rng(0).normal(size=60)
    texts = [f"it is {'lovely' if one > 0 else 'awful'}" for one in x]
    found = two_step.analyse(in_memory(np.sign(x)[:, None], texts, np.sign(x)))
    said = " ".join(found.sentences)
    assert "Your text and your numbers say much the same" in said
    assert "Nothing helps" not in said


@pytest.mark.filterwarnings("error")
def test_strange_tables_get_finite_answers(monkeypatch):
    monkeypatch.setattr(two_step, "DRAWS", 20)
    monkeypatch.setattr(two_step, "CLASS_DRAWS", 5)
    g = np.random.default_rng(0)
    n = 30
    x, y, same = g.normal(size=(n, 2)), g.normal(size=n), ["the same words"] * n
    holes = np.where(g.random((n, 2)) < 0.5, np.nan, x)
    strange = [
        in_memory(np.ones((n, 2)), same, y),
        in_memory(holes, same, np.append(y[1:], 1e9)),
        in_memory(x * 1e12 + 1e15, same, y * 1e-9),
        in_memory(x, same, y, groups=["a"] * 25 + list("bcdef")),
        in_memory(x, same, np.repeat(np.arange(15), 2), 15),
        in_memory(x, same, np.arange(n) % 3, 3, groups=[str(i % 3) for i in range(n)]),
        in_memory((np.arange(n) % 2)[:, None] * 10.0, same, np.arange(n) % 2, 2),
    ]
    for table in strange:
        found = two_step.analyse(table)
        intervals = [one.value for one in found.scores]
        for some in (found.weights, found.gains, found.shuffled, found.contributions):
            intervals += some.values()
        assert np.isfinite(intervals).all()
        assert two_step.predict(found.model, table).isfinite().all()


def test_classes_are_told_by_probabilities(classes):
    y, v = classes.table.target.numpy(), classes.v.numpy()
    assert classes.metric == "accuracy"
    assert np.allclose(v.sum(1), 1)
    assert np.isclose(score_of(classes, "v").value, accuracy_score(y, v.argmax(1)))
    for name, reading in classes.readings.items():
        assert np.allclose(reading.mean(1), 0)
        right = accuracy_score(y, reading.argmax(1))
        assert np.isclose(score_of(classes, f"{two_step.NOUNS[name]} alone").value, right)
    assert score_of(classes, "v").value > 0.45
    ours = [one.value for one in classes.weights.values()]
    f = np.stack([reading.numpy() for reading in classes.readings.values()])
    assert np.allclose(ours, two_step.best_class_weights(f, y)[:2], atol=1e-4)


@pytest.mark.parametrize("kind", ["number", "classes"])
def test_a_fitted_model_is_the_same_when_it_was_saved(kind, request, tmp_path):
    found = request.getfixturevalue(kind)
    stored.save_tensors(found.model.tensors(), tmp_path / "m.safetensors")
    tensors, _ = stored.read_tensors(tmp_path / "m.safetensors")
    again = two_step.Fitted.rebuild(tensors, json.loads(json.dumps(found.model.about())))
    ours = two_step.predict(found.model, found.table)
    assert torch.equal(two_step.predict(again, found.table), ours)
    if kind == "number":
        assert r2_score(found.table.target, ours) > score_of(found, "v").value
        new = found.table.subset([0, 1])
        new.numbers[0, 0], new.texts[1] = float("nan"), "unknown words only"
        assert two_step.predict(again, new).isfinite().all()
    else:
        assert torch.allclose(ours.sum(1), torch.ones(len(ours), dtype=torch.float64))
        right = (ours.argmax(1) == found.table.target).float().mean()
        assert right > score_of(found, "v").value + 0.1
    with pytest.raises(ValueError, match="and the rows have no text"):
        two_step.predict(again, tables.replace(found.table, texts=None))
    with pytest.raises(ValueError, match="no model of a table"):
        two_step.Fitted.rebuild({}, again.about())


def test_an_interrupted_analysis_goes_on(tmp_path, monkeypatch):
    postcards_folder(tmp_path / "cards", 40)
    table = tables.load_table(tmp_path / "cards", target="mood")
    monkeypatch.setattr(two_step, "BATCH", 16)
    monkeypatch.setattr(two_step, "DRAWS", 20)
    read, real = [], two_step.preprocessing.load_image
    monkeypatch.setattr(
        two_step.preprocessing, "load_image", lambda path: read.append(path) or real(path)
    )

    def stop(what, done, total):
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two_step.analyse(table, progress=stop, remember=tmp_path / "steps")
    assert len(read) == 32
    steps = []
    found = two_step.analyse(
        table, progress=lambda *s: steps.append(s), remember=tmp_path / "steps"
    )
    assert read == table.images
    assert ("reading pictures", 40, 40) in steps
    monkeypatch.setattr(two_step, "read_all", None)  # not needed any more
    again = two_step.analyse(table, remember=tmp_path / "steps")
    assert torch.equal(again.v, found.v)
    assert again.sentences == found.sentences
    assert two_step.key_of(table, {}) != two_step.key_of(table.subset(range(39)), {})


def test_pictures_that_cannot_be_read_count_as_average_and_are_named(tmp_path):
    postcards_folder(tmp_path / "cards", 40)
    (tmp_path / "cards" / "broken.png").write_bytes(b"no picture")
    table = tables.load_table(tmp_path / "cards", target="mood")
    table.images[3] = tmp_path / "cards" / "broken.png"
    features = two_step.features_of(table, "image")
    assert np.isnan(features).all(1).nonzero()[0].tolist() == [3]
    found = two_step.analyse(table, networks=False)
    assert any("1 picture cannot be read (train_0003.png)" in s for s in found.sentences)


# Encoders of one's own


def test_encoders_of_ones_own(tmp_path):
    table = drawn_table(60)
    found = two_step.analyse(table, encoders={"text": lambda texts: [[len(t)] for t in texts]})
    assert found.model.about()["encoders"]["text"].endswith("<lambda>")
    with pytest.raises(ValueError, match="an encoder of your own"):
        two_step.predict(found.model, table)
    said = two_step.predict(found.model, table, {"text": lambda texts: [[len(t)] for t in texts]})
    assert said.isfinite().all()
    postcards_folder(tmp_path / "cards", 40)
    cards = tables.load_table(tmp_path / "cards", target="mood")
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    assert two_step.features_of(cards, "image", network).shape == (40, 12)
    sizes = two_step.features_of(cards, "image", lambda pictures: [p.size for p in pictures])
    with Image.open(cards.images[0]) as first:
        assert sizes[0].tolist() == list(first.size)
    for wrong in (lambda texts: [1], lambda texts: np.zeros((2, 2, 2)), lambda texts: ["a"] * 60):
        with pytest.raises(ValueError, match="An encoder must give"):
            two_step.features_of(table, "text", wrong)
    with pytest.raises(ValueError, match='an encoder for "image", and this table has text'):
        two_step.analyse(table, encoders={"image": network})


@pytest.mark.parametrize(
    ("name", "package"),
    [("timm:resnet18", "timm"), ("open_clip:ViT-B-32/openai", "open_clip_torch"),
     ("sentence-transformers:all-MiniLM-L6-v2", "sentence-transformers")],
)  # fmt: skip
def test_an_encoder_that_is_not_installed_says_how_to_get_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, name.partition(":")[0].replace("-", "_"), None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        two_step.encoder_named(name)
    with pytest.raises(ValueError, match="There is no encoder"):
        two_step.encoder_named("resnet18")


def test_encoders_by_name_are_called_as_their_packages_want(monkeypatch):
    ready = lambda picture: torch.ones(3, 2, 2) * picture.size[0]  # noqa: E731
    network = nn.Flatten()
    timm = types.ModuleType("timm")
    timm.create_model = lambda name, pretrained, num_classes: network
    timm.data = types.SimpleNamespace(
        resolve_model_data_config=lambda model: {"size": 2},
        create_transform=lambda size, is_training: ready,
    )
    clip = types.ModuleType("open_clip")
    clip_network = nn.Identity()
    clip_network.encode_image = lambda batch: batch.flatten(1)
    clip_network.encode_text = lambda tokens: tokens.float()
    clip.create_model_and_transforms = lambda name, pretrained: (clip_network, None, ready)
    clip.get_tokenizer = lambda name: lambda texts: torch.tensor([[len(t)] for t in texts])
    sentences = types.ModuleType("sentence_transformers")
    sentences.SentenceTransformer = lambda name: types.SimpleNamespace(
        encode=lambda texts: np.array([[len(t), 0] for t in texts])
    )
    for module in (timm, clip, sentences):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    pictures = [Image.new("RGB", (5, 4)), Image.new("RGB", (6, 4))]
    assert two_step.encoder_named("timm:resnet18")(pictures)[1].tolist() == [6] * 12
    assert two_step.encoder_named("open_clip:ViT-B-32/x")(pictures).shape == (2, 12)
    assert two_step.encoder_named("open_clip:ViT-B-32")(["ab", "c"]).tolist() == [[2], [1]]
    found = two_step.analyse(drawn_table(60), encoders={"text": "sentence-transformers:mini"})
    assert found.model.about()["encoders"] == {"text": "sentence-transformers:mini"}
    assert two_step.predict(found.model, drawn_table(60)).isfinite().all()


@pytest.mark.parametrize(("kinds", "folds"), [(3, 3), pytest.param(0, 4, marks=pytest.mark.slow)])
def test_networks_are_tried_where_rows_allow(kinds, folds, monkeypatch):
    few = {"NETWORK_ROWS": 50, "EPOCHS": 2, "BATCHES": 1, "DECAYS": (0.1,), "CLASS_DRAWS": 5}
    for name, value in few.items():
        monkeypatch.setattr(two_step, name, value)
    found = two_step.analyse(drawn_table(60, classes=kinds), folds=folds)
    names = [one.name for one in found.scores if one.name.startswith("network: ")]
    assert names == [f"network: {name}" for name in two_step.FUSIONS]
    best = max(names, key=lambda name: score_of(found, name).value)
    assert np.isclose(
        found.gains[best].value, score_of(found, "v").value - score_of(found, best).value
    )
    assert any(best.removeprefix("network: ") in s for s in found.sentences) or any(
        s.startswith("Nothing helps") for s in found.sentences
    )


# Real tables


@pytest.mark.slow
def test_450_postcards_are_read_better_together_than_alone(tmp_path):
    table = tables.load_table(postcards_folder(tmp_path / "cards", 450), target="mood")
    found = two_step.analyse(table, networks=False)
    alone = max(score_of(found, f"{name} alone").value for name in ("picture", "text"))
    assert alone > 0.35
    assert score_of(found, "v").value > alone + 0.08
    assert min(found.gains[name].low for name in ("image", "text", "untrained sum")) > 0


@pytest.mark.slow
def test_spoken_and_written_digits(tmp_path):
    folder = digits_folder(tmp_path / "digits", 150)
    table = tables.load_table(folder, target="digit", classes=True)
    assert table.modalities == ("image", "sound")
    found = two_step.analyse(table)
    alone = max(score_of(found, f"{name} alone").value for name in ("picture", "sound"))
    assert score_of(found, "constant guess").value < 0.2 < alone
    assert score_of(found, "v").value > alone
    assert min(found.gains[name].low for name in ("image", "sound")) > 0


@pytest.mark.slow
def test_wines_measured_and_described(tmp_path):
    table = tables.load_table(wine_folder(tmp_path / "wine"), target="kind")
    assert table.modalities == ("text", "numbers")
    found = two_step.analyse(table)
    alone = max(score_of(found, f"{name} alone").value for name in ("text", "numbers"))
    assert score_of(found, "v").value > max(alone, 0.85)
    assert found.gains["text"].low > 0


@pytest.mark.slow
@pytest.mark.skipif(downloads.find("flickr8k") is None, reason="Flickr8k is not here")
def test_photographs_whose_target_is_in_a_held_back_caption(tmp_path):
    """Does the last caption tell of a dog? From the photograph and the first caption."""
    root = downloads.path("flickr8k")
    captions = {}
    for name, caption in albums.read_captions(root):
        captions.setdefault(name, []).append(caption)
    rows = [
        {"photo": name, "caption": said[0], "dog": "dog" in said[-1].lower().split()}
        for name, said in list(captions.items())[:300]
    ]
    folder = write(tmp_path / "photos", rows)
    (folder / "Images").mkdir()
    for row in rows:
        shutil.copy(root / "Images" / row["photo"], folder / "Images")
    found = two_step.analyse(tables.load_table(folder, target="dog"))
    assert score_of(found, "v").value > score_of(found, "constant guess").value + 0.03
    assert found.gains["text"].low > 0
    assert "Your text helps" in " ".join(found.sentences)
    assert "Your picture does not help" in " ".join(found.sentences)
