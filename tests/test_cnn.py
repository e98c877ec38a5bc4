"""cnn.py: convolution by hand, the network, and what it looks at."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from mbm_lab import cnn, datasets, postcards, preprocessing, training, welcome
from mbm_lab.postcards import painting


@pytest.fixture(scope="module")
def reader():
    return welcome.load_readers()[0]


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test")


# --- Convolution by hand


def test_convolution_by_hand():
    x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0]]).view(1, 1, 3, 3)
    kernel = torch.tensor([[1.0, -1.0], [0.0, 2.0]]).view(1, 1, 2, 2)
    # top left: 1·1 - 1·2 + 0·0 + 2·1 = 1; top right: 2 - 0 + 2·3 = 8; below: -1 + 0, then 1 - 3 + 2
    expected = [[1.0, 8.0], [-1.0, 0.0]]
    for convolve in (cnn.convolve, cnn.convolve_unfolded):
        assert convolve(x, kernel)[0, 0].tolist() == expected
        assert convolve(x, kernel, bias=torch.tensor([0.5]))[0, 0, 0].tolist() == [1.5, 8.5]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("batch", "channels", "kernels"), [(1, 1, 1), (2, 3, 4)])
def test_convolution_is_torchs(stride, padding, batch, channels, kernels):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, kernels, 3, stride=stride, padding=padding)
    x = torch.randn(batch, channels, 8, 7)
    for convolve in (cnn.convolve, cnn.convolve_unfolded):
        ours = convolve(x, layer.weight, layer.bias, stride, padding)
        torch.testing.assert_close(ours, layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((torch.ones(3, 3), torch.ones(1, 1, 2, 2)), "needs pictures"),
        ((torch.ones(1, 2, 3, 3), torch.ones(1, 1, 2, 2)), "with the same C"),
        ((torch.ones(1, 1, 3, 3), torch.ones(1, 1, 4, 4)), "is larger than the picture"),
        ((torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), None, 0), "stride must be at least 1"),
        ((torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), torch.ones(2)), "one bias for each"),
    ],
)
def test_convolutions_that_cannot_be(arguments, sentence):
    for convolve in (cnn.convolve, cnn.convolve_unfolded):
        with pytest.raises(ValueError, match=sentence):
            convolve(*arguments)


def test_compare_tells_exact_close_and_different():
    a = torch.tensor([1.0, 2.0])
    assert "exact: True" in cnn.compare("x", a, a.clone())
    near = cnn.compare("x", a, a + 1e-6)
    assert "exact: False" in near
    assert "close: True" in near
    assert "close: False" in cnn.compare("x", a, a + 1)
    with pytest.raises(ValueError, match="the shapes differ"):
        cnn.compare("x", a, a[None])


# --- The network


def test_encoder_gives_features_between_minus_one_and_one():
    encoder = cnn.ImageEncoder(dim=7).eval()
    for batch in (1, 4):
        features = encoder(torch.rand(batch, 3, 64, 64))
        assert features.shape == (batch, 7)
        assert features.abs().max() <= 1


def test_encoder_normalises_by_itself():
    encoder = cnn.ImageEncoder().eval()
    images = torch.rand(2, 3, 64, 64)
    x = encoder.convolutions(preprocessing.normalise(images))
    torch.testing.assert_close(encoder(images), torch.tanh(encoder.project(x.flatten(1))))


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 3, 32, 32), (2, 1, 64, 64)])
def test_encoder_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="needs images of shape"):
        cnn.ImageEncoder()(torch.zeros(shape))


def test_reader_gives_one_number_a_picture():
    assert cnn.Reader(cnn.ImageEncoder()).eval()(torch.rand(1, 3, 64, 64)).shape == (1,)


# --- What it looks at


def test_receptive_field_by_hand_and_by_gradient():
    layers = cnn.ImageEncoder().eval().convolutions
    assert cnn.receptive_field([nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)]) == (5, 1)
    size, step = cnn.receptive_field(layers)
    assert step == 8
    rows = cnn.seen_pixels(layers, row=4, column=4).any(dim=1).nonzero()[:, 0]
    assert rows[-1] - rows[0] + 1 == size
    with pytest.raises(ValueError, match="Linear has no receptive field"):
        cnn.receptive_field([nn.Linear(2, 2)])


def test_it_looks_at_the_mouth(reader, test_cards):
    """Covering the mouth moves the reading most; covering the object hardly."""
    cards, images = test_cards.cards[:60], test_cards.images[:60]
    before = training.predict(reader, images)
    moved = {}
    for part in ("mouth", "eyes", "object"):
        covered = cnn.cover(images, cards, part)
        assert not torch.equal(covered, images)
        moved[part] = (training.predict(reader, covered) - before).abs().mean().item()
    assert moved["mouth"] > moved["eyes"]
    assert moved["mouth"] > 3 * moved["object"]


def test_occlusion_and_saliency_have_the_picture_s_shape(reader, test_cards):
    image = test_cards.images[3]
    assert cnn.occlusion_map(reader, image).shape == (64, 64)
    assert cnn.saliency(reader, image[None]).shape == (1, 64, 64)
    with pytest.raises(ValueError, match="needs one image"):
        cnn.occlusion_map(reader, image[None])
    with pytest.raises(ValueError, match="Unknown part 'nose'"):
        cnn.part_mask(test_cards.cards[0], "nose")


def paint_nothing(*_):
    pass


def painted(card, part, monkeypatch):
    """The pixels of (64, 64) that change where a part is left out, for any expression or object."""
    nothing = dict.fromkeys(postcards.OBJECTS, paint_nothing)
    with monkeypatch.context() as patch:
        if part == "object":
            twins = [replace(card, object=thing) for thing in postcards.OBJECTS]
            images = datasets.paint(twins)
            patch.setattr(painting, "PAINTERS", nothing)
        else:
            twins = [replace(card, expression=expression) for expression in (-1, 0, 1)]
            patch.setattr(painting, "PAINTERS", nothing)  # on the head it hides some of the brows
            images = datasets.paint(twins)
            patch.setattr(painting, f"paint_{part}", paint_nothing)
        without = datasets.paint(twins)
    return ((images - without).abs().amax(1) > 0.05).any(0)  # less is the blur of the resizing


def box(mask):
    """The first row and column of what is true in a mask, and the last ones."""
    places = mask.nonzero()
    return torch.cat([places.amin(0), places.amax(0)])


@pytest.mark.parametrize("part", ["mouth", "eyes", "object"])
def test_a_mask_is_where_the_part_is_painted(part, monkeypatch):
    """No pixel of a part is more than one pixel outside its mask, and no edge of the mask is more
    than one pixel away from what is painted.

    The cards are larger than others, so that resizing blurs little. Their faces are larger, smaller
    and farther from the usual place than others are, so that what is forgotten shows."""
    kinds = itertools.product(postcards.RELATIONS, ("left", "right"), ((150, 128), (128, 161)))
    for seed, (relation, side, (width, height)) in enumerate(3 * list(kinds)):
        (card,) = postcards.draw(1, seed)
        card = replace(
            card,
            relation=relation,
            side=side,
            width=width,
            height=height,
            face_x=0.08 if card.face_x > 0 else -0.08,
            face_y=0.08 if card.face_y > 0 else -0.08,
            face_radius=0.29 if card.face_radius > 0.245 else 0.2,
        )
        pixels, mask = painted(card, part, monkeypatch), cnn.part_mask(card, part)
        around = nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
        assert not (pixels & ~around).any(), card
        assert (box(pixels) - box(mask)).abs().max() <= 1, card


@pytest.mark.parametrize("part", ["mouth", "eyes"])
def test_a_mask_stays_inside_the_outline_of_the_face(part, monkeypatch):
    """It takes no pixel of the face that has a neighbour outside the face."""
    for seed in range(8):
        (card,) = postcards.draw(1, seed)
        card = replace(card, width=128, height=128, face_radius=0.29)
        twins = [replace(card, colour=colour) for colour in postcards.COLOURS]
        with monkeypatch.context() as patch:
            patch.setattr(painting, "PAINTERS", dict.fromkeys(postcards.OBJECTS, paint_nothing))
            whole = datasets.paint(twins)
            patch.setattr(painting, "paint_face", paint_nothing)
            face = ((whole - datasets.paint(twins)).abs().amax(1) > 0.05).any(0)
        edge = nn.functional.max_pool2d(1 - face[None].float(), 3, 1, 1)[0] > 0
        assert not (cnn.part_mask(card, part) & edge).any(), card


def test_looking_inside_needs_evaluation_mode(test_cards):
    with pytest.raises(ValueError, match="training mode"):
        cnn.saliency(cnn.Reader(cnn.ImageEncoder()), test_cards.images[:1])


# --- What lesson 02 claims, on three seeds


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_f_reads_digits(seed):
    images, digits, images_test, digits_test = datasets.load_digits()
    torch.manual_seed(seed)
    model = nn.Sequential(cnn.ImageEncoder(), nn.Linear(32, 10))
    training.fit(model, images, digits, nn.functional.cross_entropy, epochs=8, learning_rate=6e-3,
                 one_cycle=True, seed=seed, progress=False)  # fmt: skip
    accuracy = (training.predict(model, images_test).argmax(1) == digits_test).float().mean()
    assert accuracy >= 0.97


@pytest.fixture(scope="module")
def cards():
    """Training, validation and test cards, with their pictures."""
    return [datasets.load_postcards(split, ("image",)) for split in datasets.SPLITS]


@pytest.fixture(scope="module")
def edges(cards):
    """What the linear formula on edge histograms reads on the test cards."""
    train, val, test = cards
    return cnn.edge_ridge(train, val, test.images)


def trained(seed, images, expression):
    """A reader, trained as in the lesson."""
    torch.manual_seed(seed)
    model = cnn.Reader(cnn.ImageEncoder())
    training.fit(model, images, expression, nn.functional.mse_loss, epochs=10, learning_rate=6e-3,
                 one_cycle=True, seed=seed, augment=preprocessing.augment,
                 progress=False)  # fmt: skip
    return model


def ends_against_middle(error, expression):
    """The typical error of the very sad and very happy faces, against that of the calm ones."""
    rmse = [error[which].square().mean().sqrt() for which in (
        expression < -0.7, expression > 0.7, (expression > -0.4) & (expression < 0.4))]  # fmt: skip
    return (rmse[0] + rmse[1]) / 2 / rmse[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_the_lesson_says_of_f(seed, cards, edges, monkeypatch):
    train, _, test = cards
    model = trained(seed, train.images, train.expression)
    reading = training.predict(model, test.images)
    for chosen in (test.seen, ~test.seen):
        r2 = training.r_squared(reading[chosen], test.expression[chosen])
        rival = training.r_squared(edges[chosen], test.expression[chosen])
        assert 0.94 < rival < r2
        assert r2 > 0.96
        assert 1 - r2 < 0.6 * (1 - rival)
    assert ends_against_middle(reading - test.expression, test.expression) > 1.35
    aside = torch.tensor([card.relation == "beside" for card in test.cards])

    def costs(images):
        squared = (training.predict(model, images) - test.expression).square()
        return squared[aside].mean().sqrt() - squared[~aside].mean().sqrt()

    monkeypatch.setattr(painting, "PAINTERS", dict.fromkeys(painting.PAINTERS, paint_nothing))
    assert costs(datasets.paint(test.cards)) > 0.5 * costs(test.images) > 0
    for pixels, low, high in ((2, 0.94, 1.0), (4, 0.75, 0.93), (12, -9, 0)):
        moved = nn.functional.pad(test.images, (pixels, 0, 0, 0), mode="replicate")[..., :64]
        assert low < training.r_squared(training.predict(model, moved), test.expression) < high


@pytest.mark.slow
def test_with_expressions_spread_evenly_the_ends_are_read_nearly_as_well(cards):
    train, _, test = cards
    expression = 2 * torch.rand(len(train), generator=torch.Generator().manual_seed(0)) - 1
    evenly = [
        replace(card, expression=round(value, 4))
        for card, value in zip(train.cards, expression.tolist(), strict=True)
    ]
    error = training.predict(trained(1, datasets.paint(evenly), expression), test.images)
    assert ends_against_middle(error - test.expression, test.expression) < 1.25


# --- The rival, and what is learned of a kernel


def ramp(degrees):
    """A picture that becomes darker in one direction: 0 is to the right, 90 downwards."""
    angle = torch.tensor(degrees).deg2rad()
    down, across = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    grey = 0.5 - 0.02 * (across * angle.cos() + down * angle.sin())
    return grey.expand(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("degrees", "shares"),
    [(0.0, {0: 1.0}), (90.0, {3: 1.0}), (180.0, {6: 1.0}), (270.0, {9: 1.0}),
     (45.0, {1: 0.5, 2: 0.5}), (352.5, {11: 0.25, 0: 0.75})],
)  # fmt: skip
def test_an_edge_counts_for_the_two_directions_next_to_its_own(degrees, shares):
    histograms = cnn.edge_histograms(ramp(degrees))
    assert histograms.shape == (1, 12, 4, 4)
    inner = histograms[0, :, 1:3, 1:3]
    inner = inner / inner.sum(0)
    wanted = torch.zeros(12)
    for direction, share in shares.items():
        wanted[direction] = share
    assert torch.allclose(inner, wanted[:, None, None].expand_as(inner), atol=1e-3)


def test_a_strong_edge_has_length_one_and_a_plain_square_none():
    plain = cnn.edge_histograms(torch.full((1, 3, 24, 24), 0.5))
    assert plain[..., 2:4, 2:4].abs().max() < 1e-3
    strong = cnn.edge_histograms(20 * ramp(0.0))[0, :, 1:3, 1:3]
    assert torch.allclose(strong.norm(dim=0), torch.ones(2, 2), atol=0.02)


def test_gradient_descent_finds_sobels_kernel_where_the_pictures_tell_kernels_apart():
    sobel = torch.tensor(cnn.SOBEL)[None, None]
    for seed in range(3):
        pictures = datasets.draw_postcards(4, seed).images.mean(1, keepdim=True)
        smooth = pictures - pictures.mean((2, 3), keepdim=True)
        generator = torch.Generator().manual_seed(seed)
        far = []
        for grain in (0.1, 0.0):
            noisy = smooth + grain * torch.randn(smooth.shape, generator=generator)
            edges, k = nn.functional.conv2d(noisy, sobel), torch.zeros(1, 1, 3, 3)
            for _ in range(300):
                k.requires_grad_()
                loss = (nn.functional.conv2d(noisy, k) - edges).square().mean()
                (slope,) = torch.autograd.grad(loss, k)
                k = (k - 1.5 * slope).detach()
            assert loss < 1e-3
            far.append((k - sobel).abs().max())
        assert far[0] < 0.01 < 0.05 < far[1]


def test_augment_makes_fifty_versions_of_which_twenty_epochs_show_sixteen_or_seventeen():
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    versions = {preprocessing.augment(picture, generator).numpy().tobytes() for _ in range(999)}
    assert len(versions) == 50
    assert 16 < 50 * (1 - (49 / 50) ** 20) < 17
