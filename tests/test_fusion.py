"""fusion.py: the formula, the known best weights, the fusions of vectors, the whole model."""

import functools

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from torch import nn

from mbm_lab import datasets, fusion, postcards, stored, training, welcome

NAMES = ("image", "message")
FUSIONS = [
    fusion.WeightedSum,
    fusion.Concat,
    fusion.DotProduct,
    fusion.Gated,
    fusion.LowRankTensor,
    fusion.CrossAttention,
]


@pytest.fixture(scope="module")
def readings():
    """Real readings of the validation cards: f, g, mood."""
    val = datasets.load_postcards("val")
    f, g = welcome.read(val, *welcome.load_readers())
    return f, g, val.mood


@pytest.fixture
def features():
    torch.manual_seed(0)
    return {name: torch.randn(5, 32) for name in NAMES}


def drawn_readings(n=200_000, f_noise=postcards.PICTURE_NOISE, seed=0):
    """Perfect readers' readings of n moods, without any card."""
    rng = np.random.default_rng(seed)
    m = rng.normal(0, postcards.MOOD_SD, n)
    f, g = m + rng.normal(0, f_noise, n), m + rng.normal(0, postcards.MESSAGE_NOISE, n)
    return torch.tensor(f), torch.tensor(g), torch.tensor(m)


# --- the formula


def test_weighted_sum_is_the_formula_with_plus():
    f, g = torch.tensor([0.6, -0.2, 0.4]), torch.tensor([0.2, -0.6, 0.8])
    v = fusion.weighted_sum(f, g, alpha=0.5, beta=0.25)
    torch.testing.assert_close(v, torch.tensor([0.35, -0.25, 0.4]))


def test_weighted_sum_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"one shape.*\(3, 1\).*\(3,\)"):
        fusion.weighted_sum(torch.ones(3, 1), torch.ones(3), 1, 1)


def test_error_by_hand():
    v, m = torch.tensor([0.35, -0.25, 0.4]), torch.tensor([0.5, -0.5, 0.6])
    assert fusion.mean_squared_error(v, m).item() == pytest.approx(0.125 / 3)


# --- the known best


def test_best_weights_equal_linear_regression(readings):
    f, g, m = readings
    best = fusion.best_weights(f, g, m)
    library = LinearRegression().fit(torch.stack([f, g], 1).double(), m.double())
    assert best == pytest.approx((*library.coef_, library.intercept_), abs=1e-9)


def test_best_weights_have_the_least_error(readings):
    f, g, m = readings
    best = fusion.best_weights(f, g, m)

    def error(alpha, beta, intercept):
        return fusion.mean_squared_error(fusion.weighted_sum(f, g, alpha, beta) + intercept, m)

    least = error(*best)
    for step in (
        (0.01, 0, 0),
        (-0.01, 0, 0),
        (0, 0.01, 0),
        (0, -0.01, 0),
        (0, 0, 0.01),
        (0, 0, -0.01),
    ):
        assert error(*(w + s for w, s in zip(best, step, strict=True))) > least


def test_picture_and_message_have_the_weights_of_the_design(readings):
    alpha, beta, _ = fusion.best_weights(*readings)
    assert alpha == pytest.approx(0.33, abs=0.05)
    assert beta == pytest.approx(0.47, abs=0.05)


def test_no_best_weights_when_the_readings_say_the_same():
    f = torch.tensor([0.1, 0.2, 0.4])
    for g in (2 * f, torch.ones(3)):
        with pytest.raises(ValueError, match="no single α and β are best"):
            fusion.best_weights(f, g, f)


def test_bayes_is_least_squares_on_many_perfect_readings():
    for f_noise in (postcards.PICTURE_NOISE, 0.6):
        fitted = fusion.best_weights(*drawn_readings(f_noise=f_noise))
        bayes = fusion.bayes_weights(f_noise, postcards.MESSAGE_NOISE, postcards.MOOD_SD)
        assert fitted == pytest.approx(bayes, abs=0.01)


def test_inverse_variance_is_bayes_without_a_prior():
    rule = fusion.inverse_variance_weights(0.261, 0.218)
    assert rule == pytest.approx(fusion.bayes_weights(0.261, 0.218, mood_sd=1e6), abs=1e-9)
    assert rule.alpha + rule.beta == pytest.approx(1)


def test_gradient_descent_arrives_at_the_exact_best(readings):
    f, g, m = readings
    for start in ((0.0, 0.0), (-0.9, 0.6), (1.2, -1.0)):
        arrived = fusion.descend(f, g, m, start)[-1]
        assert arrived.tolist() == pytest.approx(fusion.best_weights(f, g, m), abs=1e-3)


def test_first_step_of_descent_by_hand():
    f, g, m = torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])
    path = fusion.descend(f, g, m, start=(0.0, 0.0), learning_rate=0.1, steps=1)
    # v = 0, so the slope of α is 2 · mean(-m f) = -2, and that of β and the intercept is 0
    assert path.tolist() == [[0.0, 0.0, 0.0], pytest.approx([0.2, 0.0, 0.0])]
    assert not path.requires_grad, "what came before is not kept"


def test_the_largest_rate_is_two_by_the_largest_curvature(readings):
    f = torch.tensor([1.0, -1.0, 0.0, 0.0])
    g = torch.tensor([0.0, 0.0, 0.5, -0.5])  # Var(f) = 1/2, so the curvature is 1; that of g is 1/4
    assert fusion.largest_rate(f, g) == pytest.approx(2)
    assert fusion.largest_rate(f + 3, g - 1) == pytest.approx(2), "the means play no part"
    assert fusion.largest_rate(*readings[:2]) == pytest.approx(4.05, abs=0.05)


def test_the_posterior_mean_is_bayes_inside_the_scale_and_more_at_its_ends():
    noises = (postcards.PICTURE_NOISE, postcards.MESSAGE_NOISE, postcards.MOOD_SD)
    alpha, beta, _ = fusion.bayes_weights(*noises)
    e, s = torch.tensor([0.3, -0.2, 0.0]), torch.tensor([0.1, 0.25, -0.3])
    inside = fusion.posterior_mean(e, s, *noises)
    torch.testing.assert_close(inside, alpha * e + beta * s, atol=2e-3, rtol=0)
    ends = fusion.posterior_mean(torch.tensor([0.999, 1.0, -1.0]), torch.full((3,), 0.5), *noises)
    assert ends[1] > ends[0] + 0.01, "what is cut off at 1 may have been more"
    assert ends[2] < fusion.posterior_mean(torch.tensor([-0.999]), torch.tensor([0.5]), *noises)


@pytest.mark.slow
def test_nobody_passes_the_limit_on_the_same_cards():
    """Readers without any fault, fitted in many ways, also on the very cards of the exam."""
    train, test = datasets.load_postcards("train"), datasets.load_postcards("test")
    limit = fusion.limit_of(test)
    assert 0.78 < limit < 0.82

    def features(cards, degree):
        pair = torch.stack([cards.expression, cards.sentiment], 1)
        return np.concatenate([pair.numpy() ** n for n in range(1, degree + 1)], 1)

    for degree in (1, 2, 3):
        for fitted in (train, test):  # the second has seen the moods, and still
            line = LinearRegression().fit(features(fitted, degree), fitted.mood)
            v = torch.tensor(line.predict(features(test, degree))).float()
            assert training.r_squared(v, test.mood) < limit
    near = KNeighborsRegressor(100).fit(features(train, 1), train.mood)
    assert training.r_squared(torch.tensor(near.predict(features(test, 1))), test.mood) < limit


def test_error_surface_is_the_error_at_each_point(readings):
    f, g, m = readings
    alphas, betas = torch.tensor([-0.5, 0.3]), torch.tensor([0.1, 0.4, 0.9])
    surface = fusion.error_surface(f, g, m, alphas, betas)
    assert surface.shape == (3, 2)
    for row, beta in enumerate(betas):
        for column, alpha in enumerate(alphas):
            v = fusion.weighted_sum(f, g, alpha, beta)
            assert surface[row, column].item() == pytest.approx(
                (v - m).var(correction=0).item(), abs=1e-6
            )


def test_random_search_knows_the_error_of_each_try(readings):
    f, g, m = readings
    points, errors = fusion.random_search(f, g, m, tries=50)
    assert points.shape == (50, 2)
    assert points.abs().max() <= 1
    alpha, beta = points[7]
    assert errors[7].item() == pytest.approx(
        (fusion.weighted_sum(f, g, alpha, beta) - m).var(correction=0).item(), abs=1e-6
    )
    assert torch.equal(points, fusion.random_search(f, g, m, tries=50)[0])


def test_scale_degeneracy(readings):
    f, g, m = readings
    best, scaled = fusion.best_weights(f, g, m), fusion.best_weights(10 * f, g, m)
    assert scaled.alpha == pytest.approx(best.alpha / 10)
    assert scaled.beta == pytest.approx(best.beta)
    standard = fusion.best_weights(fusion.standardise(f), g, m)
    assert standard.alpha == pytest.approx(best.alpha * f.std(correction=0).item(), rel=1e-4)


def test_standardise_uses_the_given_mean_and_sd():
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    torch.testing.assert_close(fusion.standardise(values), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    new = fusion.standardise(
        torch.tensor([[5.0, 5.0]]), values.mean(0), values.std(0, correction=0)
    )
    torch.testing.assert_close(new, torch.tensor([[3.0, 0.0]]))


# --- fusing vectors


def test_weighted_sum_layer_is_the_formula(features):
    layer = fusion.WeightedSum(NAMES, 32)
    with torch.no_grad():
        layer.alpha.fill_(0.3)
        layer.beta.fill_(-0.7)
    v = fusion.weighted_sum(features["image"], features["message"], 0.3, -0.7)
    torch.testing.assert_close(layer(features), v)
    assert [name for name, _ in layer.named_parameters()] == ["alpha", "beta"]


def test_weighted_sum_of_four_modalities():
    layer = fusion.WeightedSum(("a", "b", "c", "d"), 2)
    assert [name for name, _ in layer.named_parameters()] == ["alpha", "beta", "gamma", "delta"]
    v = layer(
        {
            name: torch.full((1, 2), value)
            for name, value in zip("abcd", (1.0, 2.0, 3.0, 4.0), strict=True)
        }
    )
    assert v.tolist() == [[10.0, 10.0]]
    with pytest.raises(ValueError, match="one to 4 modalities, and got 5"):
        fusion.WeightedSum(tuple("abcde"), 2)


def test_fusions_by_hand():
    given = {"image": torch.tensor([[1.0, 0.0, 2.0]]), "message": torch.tensor([[0.0, 3.0, 1.0]])}
    assert fusion.Concat(NAMES, 3)(given).tolist() == [[1, 0, 2, 0, 3, 1]]
    assert fusion.DotProduct(NAMES, 3)(given).item() == pytest.approx(2 / 3**0.5)
    gated = fusion.Gated(NAMES, 3)
    for gate in gated.gates.values():
        nn.init.zeros_(gate.weight)
        nn.init.zeros_(gate.bias)  # a gate of σ(0) = 1/2 lets half of each vector pass
    assert gated(given).tolist() == [[0.5, 1.5, 1.5]]


def test_low_rank_tensor_is_the_full_tensor_product(features):
    layer = fusion.LowRankTensor(NAMES, 32, rank=4)
    assert layer.out_dim == 16
    one = torch.ones(5, 1)
    f1, g1 = (torch.cat([features[name], one], 1) for name in NAMES)  # [f; 1], [g; 1]
    W, U = (
        torch.cat([layer.factors[name].weight, layer.factors[name].bias[:, None]], 1).view(
            4, -1, 33
        )
        for name in NAMES
    )
    full = torch.einsum("rof,rog->ofg", W, U)  # the tensor that the factors stand for
    torch.testing.assert_close(
        layer(features), torch.einsum("ofg,bf,bg->bo", full, f1, g1), rtol=1e-4, atol=1e-4
    )


def test_cross_attention_is_torch_attention(features):
    layer = fusion.CrossAttention(NAMES, 32)
    cut = {name: features[name].view(5, 4, 8) + layer.place[name] for name in NAMES}
    q, k, v = layer.query(cut["image"]), layer.key(cut["message"]), layer.value(cut["message"])
    heard = nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(layer(features)[:, :32], features["image"] + heard.flatten(1))


def test_cross_attention_hears_all_others_of_its_own_card(features):
    """With three modalities, each hears the pieces of both others, side by side."""
    names = (*NAMES, "voice")
    features["voice"] = torch.randn(5, 32)
    layer = fusion.CrossAttention(names, 32, pieces=4)
    cut = {name: features[name].view(5, 4, 8) + layer.place[name] for name in names}
    others = torch.cat([cut["image"], cut["voice"]], dim=1)  # (B, 8, size)
    q, k, v = layer.query(cut["message"]), layer.key(others), layer.value(others)
    heard = nn.functional.scaled_dot_product_attention(q, k, v)
    fused = layer(features)
    torch.testing.assert_close(fused[:, 32:64], features["message"] + heard.flatten(1))
    alone = layer({name: values[2:3] for name, values in features.items()})
    torch.testing.assert_close(alone, fused[2:3])


@pytest.mark.parametrize("make", FUSIONS)
def test_every_fusion_uses_both_modalities_and_trains_all_its_parameters(make, features):
    layer = make(NAMES, 32)
    for values in features.values():
        values.requires_grad_()
    v = layer(features)
    assert v.shape == (5, layer.out_dim)
    v.square().sum().backward()
    for name, values in features.items():
        assert values.grad.abs().sum() > 0, f"{make.__name__} ignores {name}"
    for name, parameter in layer.named_parameters():
        if name != "key.bias":  # softmax does not change when all scores of a query move together
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, f"{make.__name__}.{name} never learns"


@pytest.mark.parametrize("make", FUSIONS)
def test_matched_heads_have_the_budget(make):
    layer = make(NAMES, 32)
    size = fusion.parameter_count(layer) + fusion.parameter_count(fusion.matched_head(layer, 6000))
    assert size == pytest.approx(6000, rel=0.01)


def test_matched_head_says_when_the_fusion_is_too_large():
    with pytest.raises(ValueError, match="Gated alone has more than 1000"):
        fusion.matched_head(fusion.Gated(NAMES, 32), 1000)


def test_fusions_that_cannot_be():
    with pytest.raises(ValueError, match="two modalities, and got 3"):
        fusion.DotProduct(("a", "b", "c"), 4)
    with pytest.raises(ValueError, match="cannot be cut into 4 equal pieces"):
        fusion.CrossAttention(NAMES, 6)


# --- the whole model


def model_of(make=fusion.Concat, modality_dropout=0.0):
    torch.manual_seed(0)
    layer = make(NAMES, 32)
    return fusion.MultimodalModel(
        {name: nn.Linear(32, 32) for name in NAMES},
        layer,
        fusion.head(layer.out_dim, 8),
        modality_dropout,
    )


def test_model_gives_one_number_a_card(features):
    assert model_of()(features).shape == (5,)
    assert model_of()({name: values[:1] for name, values in features.items()}).shape == (1,)


def test_model_takes_three_modalities(features):
    names = (*NAMES, "voice")
    layer = fusion.WeightedSum(names, 32)
    model = fusion.MultimodalModel(
        {name: nn.Identity() for name in names}, layer, fusion.head(32, 8)
    )
    assert model({**features, "voice": torch.randn(5, 32)}).shape == (5,)


def test_missing_and_misspelt_modalities_are_named(features):
    with pytest.raises(ValueError, match='"message" is missing'):
        model_of()({"image": features["image"]})
    with pytest.raises(ValueError, match='no modality "massage": it has image and message'):
        model_of()({**features, "massage": features["message"]})


def test_model_with_modality_dropout_accepts_a_missing_modality(features):
    model = model_of(modality_dropout=0.3).eval()
    zeros = torch.zeros(5, 32)
    model.encoders["message"] = nn.Identity()  # so that its zeros arrive as zeros
    without = model({"image": features["image"]})
    torch.testing.assert_close(without, model({"image": features["image"], "message": zeros}))
    with pytest.raises(ValueError, match="is missing"):
        model({})


def test_drop_modalities_drops_at_the_rate_and_never_all():
    torch.manual_seed(0)
    ones = {name: torch.ones(4000, 3) for name in NAMES}
    dropped = fusion.drop_modalities(ones, 0.3)
    kept = torch.stack([dropped[name][:, 0] for name in NAMES])  # (2, 4000)
    assert kept.sum(0).min() == 1
    # each is lost with probability 0.3, less half of the cards (0.09) that would have lost both
    assert (1 - kept.mean(1)).tolist() == pytest.approx([0.255, 0.255], abs=0.03)
    assert all(torch.equal(values[:, 0], values[:, 2]) for values in dropped.values())
    untouched = fusion.drop_modalities(ones, 0.0)
    assert all(torch.equal(untouched[name], ones[name]) for name in NAMES)


def test_modality_dropout_is_off_in_evaluation(features):
    model = model_of(modality_dropout=0.9).eval()
    torch.testing.assert_close(model(features), model(features))


def test_hand_made_features_are_a_grey_picture_and_counts():
    cards = datasets.draw_postcards(3, seed=1)
    counter = CountVectorizer().fit(cards.messages)
    features = fusion.hand_made(cards, counter)
    assert features.shape == (3, 256 + len(counter.vocabulary_))
    grey = cards.images[1].mean(0)
    assert features[1, 17] == pytest.approx(grey[4:8, 4:8].mean().item())
    word = counter.vocabulary_["the"]
    assert features[2, 256 + word] == cards.messages[2].lower().split().count("the")


# --- what lesson 04 claims, on the worst of three seeds


@pytest.mark.slow
def test_claims_of_the_lesson(readings):
    val, test = datasets.load_postcards("val"), datasets.load_postcards("test")
    image_reader, message_reader, vocabulary = welcome.load_readers()
    vocabulary = stored.load("message_reader")[1]
    tokens = [
        welcome.preprocessing.text_to_tensor(cards.messages, vocabulary) for cards in (val, test)
    ]
    raw, raw_test = (
        {
            "image": training.predict(image_reader.encoder, cards.images),
            "message": training.predict(message_reader.encoder, t),
        }
        for cards, t in zip((val, test), tokens, strict=True)
    )
    inputs = {name: fusion.standardise(raw[name]) for name in NAMES}
    inputs_test = {
        name: fusion.standardise(raw_test[name], raw[name].mean(0), raw[name].std(0, correction=0))
        for name in NAMES
    }
    f, g, m = readings
    best = fusion.best_weights(f, g, m)
    f_test, g_test = welcome.read(test, image_reader, message_reader, vocabulary)
    v_test = fusion.weighted_sum(f_test, g_test, best.alpha, best.beta) + best.intercept
    two_numbers = training.r_squared(v_test, test.mood)
    assert two_numbers > 0.77

    def r2_of(make, used, seed, modality_dropout=0.0, hide=(), decay=3):
        torch.manual_seed(seed)
        layer = make(used, 32)
        head = fusion.matched_head(layer, 6000)
        model = fusion.MultimodalModel(
            {name: nn.Identity() for name in used}, layer, head, modality_dropout
        )
        training.fit(
            model, {name: inputs[name] for name in used}, m, nn.functional.mse_loss, epochs=20,
            learning_rate=2e-3, one_cycle=True, seed=seed, progress=False,
            optimizer=functools.partial(torch.optim.AdamW, weight_decay=decay),
        )  # fmt: skip
        shown = {name: inputs_test[name] * (name not in hide) for name in used}
        return training.r_squared(training.predict(model, shown), test.mood)

    both = [torch.cat(list(x.values()), 1).numpy() for x in (inputs, inputs_test)]
    line = RidgeCV(fusion.RIDGE).fit(both[0], m.numpy())
    ridge = training.r_squared(torch.tensor(line.predict(both[1])).float(), test.mood)
    assert 0 < two_numbers - ridge < 0.015, "the strongest cheap rival is nearly as good"
    assert two_numbers > training.r_squared((f_test + g_test) / 2, test.mood) + 0.02
    seeds = range(3)
    best_alone = max(r2_of(fusion.Concat, (name,), seed) for name in NAMES for seed in seeds)
    assert max(r2_of(fusion.DotProduct, NAMES, seed) for seed in seeds) < 0.2
    fused = {
        make: [r2_of(make, NAMES, seed) for seed in seeds]
        for make in (fusion.WeightedSum, fusion.Concat, fusion.Gated, fusion.LowRankTensor,
                     fusion.CrossAttention)
    }  # fmt: skip
    means = [sum(r2) / 3 for r2 in fused.values()]
    for make, r2 in fused.items():
        assert min(r2) > best_alone + 0.07, make.__name__
        assert two_numbers - 0.05 < min(r2) <= max(r2) < two_numbers, make.__name__
    assert max(means) - min(means) < 0.03, "fusions differ less than the second witness brings"
    for make in (fusion.Concat, fusion.LowRankTensor):
        free = [r2_of(make, NAMES, seed, decay=0) for seed in seeds]
        assert max(free) < min(fused[make]), "weight decay helps"
    for hidden in NAMES:
        with_dropout = [r2_of(fusion.Concat, NAMES, seed, 0.3, (hidden,)) for seed in seeds]
        without = [r2_of(fusion.Concat, NAMES, seed, 0.0, (hidden,)) for seed in seeds]
        assert min(with_dropout) > max(without), f"modality dropout should help without {hidden}"

    def learned(seed, standard):
        """|α| and |β| of two linear readers that learn beside them; both begin at 1."""
        torch.manual_seed(seed)
        last = [nn.BatchNorm1d(1, affine=False)] if standard else []
        readers = {name: nn.Sequential(nn.Linear(32, 1), *last) for name in NAMES}
        model = fusion.MultimodalModel(readers, fusion.WeightedSum(NAMES, 1), nn.Identity())

        def adam(_, lr):
            weights = {"params": model.fusion.parameters(), "lr": 0.02 if standard else lr}
            return torch.optim.AdamW(
                [{"params": model.encoders.parameters()}, weights], lr, weight_decay=0.0
            )

        training.fit(model, inputs, m - m.mean(), nn.functional.mse_loss, epochs=40, seed=seed,
                     learning_rate=2e-3, optimizer=adam, progress=False)  # fmt: skip
        return [weight.abs().item() for weight in model.fusion.parameters()]

    standard = fusion.best_weights(fusion.standardise(f), fusion.standardise(g), m)
    for seed in seeds:
        assert min(learned(seed, standard=False)) > 0.75, "they stay near their start"
        assert learned(seed, standard=True) == pytest.approx(standard[:2], abs=0.05)
