"""f(x): the convolutional network that reads a picture (lesson 02).

The first part is convolution by hand; the second the network; the third shows what it looks at; the
last has its strongest rival without a network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mbm_lab import arguments, datasets, postcards, preprocessing
from mbm_lab.device import device_of

# --- Convolution by hand


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """Slides kernels over pictures, one window after the other: what nn.Conv2d does.

    x: (B, C, H, W); weight: (O, C, K, L), one kernel of C x K x L numbers for each output channel;
    bias: (O,). Returns (B, O, H', W') with H' = (H + 2 * padding - K) // stride + 1, W' likewise.
    Mathematicians call this cross-correlation: their convolution first turns the kernel around.

    Raises ValueError when the shapes do not fit, or the kernel is larger than the padded picture.
    """
    _check_convolution(x, weight, bias, stride, padding)
    x = nn.functional.pad(x, (padding, padding, padding, padding))  # zeros on all four sides
    rows, columns = weight.shape[-2:]
    height = (x.shape[-2] - rows) // stride + 1
    width = (x.shape[-1] - columns) // stride + 1
    out = x.new_zeros(len(x), len(weight), height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            window = x[:, :, top : top + rows, left : left + columns]  # (B, C, K, L)
            for o in range(len(weight)):
                out[:, o, i, j] = (window * weight[o]).sum(dim=(1, 2, 3))
    return out if bias is None else out + bias[:, None, None]


def convolve_unfolded(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """The same as `convolve`, as one product of matrices.

    unfold writes every window as a column of C * K * L numbers (Chellapilla et al., 2006).
    """
    _check_convolution(x, weight, bias, stride, padding)
    columns = nn.functional.unfold(x, weight.shape[-2:], padding=padding, stride=stride)
    out = weight.flatten(1) @ columns  # (O, CKL) @ (B, CKL, windows) = (B, O, windows)
    height = (x.shape[-2] + 2 * padding - weight.shape[-2]) // stride + 1
    out = out.unflatten(-1, (height, -1))  # (B, O, H', W')
    return out if bias is None else out + bias[:, None, None]


def _check_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
) -> None:
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            "A convolution needs pictures (B, C, H, W) and kernels (O, C, K, L) with the same C, "
            f"and got {tuple(x.shape)} and {tuple(weight.shape)}: change the one that does not fit."
        )
    if x.dtype != weight.dtype:
        raise ValueError(
            f"The pictures hold {arguments.dtype(x)} and the kernels {arguments.dtype(weight)}: "
            f"write {arguments.as_float('x', x)}."
        )
    if stride < 1 or padding < 0:
        raise ValueError(
            "stride must be at least 1 and padding at least 0; they are "
            f"{stride} and {padding}: give larger numbers."
        )
    if any(x.shape[d] + 2 * padding < weight.shape[d] for d in (-2, -1)):
        raise ValueError(
            f"The kernel {tuple(weight.shape[-2:])} is larger than the picture "
            f"{tuple(x.shape[-2:])} with padding {padding}: use a smaller kernel or more padding."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"There must be one bias for each of the {len(weight)} kernels; the bias has the shape "
            f"{tuple(bias.shape)}: pass one of shape ({len(weight)},), or none."
        )


def compare(name: str, ours: Tensor, torchs: Tensor) -> str:
    """One line that says whether two results are the same: exactly, or up to rounding.

    Raises ValueError when their shapes differ, or there is nothing to compare.
    """
    arguments.check_tensor(name, ours)
    arguments.check_tensor(name, torchs)
    if ours.shape != torchs.shape:
        raise ValueError(
            f"{name}: the shapes differ, {tuple(ours.shape)} and {tuple(torchs.shape)}: check "
            "padding, stride and the order of the dimensions."
        )
    arguments.check_some("compare", ours)
    difference = (ours - torchs).abs().max().item()
    exact, close = torch.equal(ours, torchs), torch.allclose(ours, torchs, rtol=1e-4, atol=1e-5)
    return f"{name:20} exact: {exact!s:5}  close: {close!s:5}  largest difference: {difference:.0e}"


# --- The network


class ImageEncoder(nn.Module):
    """f: pictures (B, 3, 64, 64) in [0, 1] to feature vectors (B, dim).

    Three blocks of convolution, batch normalisation (Ioffe and Szegedy, 2015), ReLU and pooling
    shrink the picture while the channels grow, then one linear layer and a tanh look at all that is
    left (LeCun et al., 1998): features lie between -1 and 1, as those of `rnn.TextEncoder` do. The
    pixel normalisation is the first step of forward, so that nobody can forget it.

    last: what stands in the place of the tanh; lesson 06 says when another layer is better.

    Raises ValueError when the images have another shape, are no fractions (uint8), hold NaN, or are
    far outside of [0, 1], as where one forgot to divide by 255.
    """

    def __init__(self, dim: int = 32, last: nn.Module | None = None):
        super().__init__()
        self.dim = dim
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.BatchNorm2d(12), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.project = nn.Linear(32 * 8 * 8, dim)
        self.last = nn.Tanh() if last is None else last

    def forward(self, images: Tensor) -> Tensor:
        check_shape("ImageEncoder", images)
        arguments.check_pictures("ImageEncoder", images)
        x = preprocessing.normalise(images)  # (B, 3, 64, 64)
        x = self.convolutions(x)  # (B, 32, 8, 8)
        x = self.project(x.flatten(1))  # (B, dim)
        return self.last(x)


def check_shape(who: str, images: Tensor) -> None:
    """Raises ValueError unless images are (B, 3, 64, 64)."""
    size = preprocessing.IMAGE_SIZE
    if images.ndim != 4 or images.shape[1:] != (3, size, size):
        raise ValueError(
            f"{who} needs images of shape (B, 3, {size}, {size}) and got "
            f"{tuple(images.shape)}: load them with preprocessing.load_image."
        )


class Reader(nn.Module):
    """An encoder with a linear head that reads one number off its features: inputs to (B,)."""

    def __init__(self, encoder: nn.Module, dim: int = 32):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(dim, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.encoder(inputs)  # (B, dim)
        return self.head(features)[:, 0]  # (B,)


# --- What the network looks at


def receptive_field(layers: Iterable[nn.Module]) -> tuple[int, int]:
    """How many pixels, in height and width, one number after these layers can see; and its step.

    Going up, a kernel of K numbers adds (K - 1) * step pixels, and a stride multiplies the step:
    the distance, in pixels of the picture, between two neighbouring numbers.

    Raises ValueError for a layer that is not local (as nn.Linear, which sees everything), and for
    kernels that are not square.
    """
    size, step = 1, 1
    for layer in layers:
        if isinstance(layer, nn.ReLU | nn.BatchNorm2d):
            continue  # they change each number by itself
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            raise ValueError(
                f"{type(layer).__name__} has no receptive field that can be computed here: pass "
                "convolutions, poolings, batch normalisations and ReLUs only."
            )
        kernel, stride = _one_number(layer.kernel_size), _one_number(layer.stride)
        size, step = size + (kernel - 1) * step, step * stride
    return size, step


def _one_number(value: int | tuple[int, int]) -> int:
    sizes = {value} if isinstance(value, int) else set(value)
    if len(sizes) != 1:
        raise ValueError(
            f"receptive_field needs square kernels and strides, and found {value}: make the layer "
            "with one number."
        )
    return sizes.pop()


def seen_pixels(layers: nn.Module, row: int, column: int) -> Tensor:
    """Which pixels can move the output at (row, column), found by gradients: (64, 64) bool.

    A maximum and a ReLU let one gradient through and stop others, so 64 random pictures are asked.

    Raises ValueError when the layers are in training mode.
    """
    size = preprocessing.IMAGE_SIZE
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, size, size, generator=generator)
    images = images.to(_ready(layers)).requires_grad_()
    (gradient,) = torch.autograd.grad(layers(images)[:, :, row, column].sum(), images)
    return (gradient != 0).any(dim=1).any(dim=0).cpu()


def saliency(reader: nn.Module, images: Tensor) -> Tensor:
    """How strongly each pixel moves the reading: |gradient|, the largest of the three colours.

    images (B, 3, H, W) to (B, H, W) (Simonyan et al., 2014).

    Raises ValueError when the reader is in training mode, and for pictures as `ImageEncoder` does.
    """
    arguments.check_pictures("saliency", images)
    moved = images.detach().clone().to(_ready(reader)).requires_grad_()
    (gradient,) = torch.autograd.grad(reader(moved).sum(), moved)
    return gradient.abs().amax(dim=1).to(images.device)


def _ready(model: nn.Module) -> torch.device:
    """The device of a model in evaluation mode; else pictures would influence others."""
    if model.training:
        raise ValueError("The model is in training mode: call model.eval() before you look inside.")
    return device_of(model)


@torch.no_grad()
def occlusion_map(reader: nn.Module, image: Tensor, patch: int = 10, stride: int = 3) -> Tensor:
    """How far the reading of one image (3, H, W) moves when a square of `patch` pixels is covered.

    The square takes the image's mean colour and moves by `stride` pixels (Zeiler and Fergus, 2014).
    Returns (H, W): for each pixel the mean |change| over the squares that covered it.

    Raises ValueError when the image is not (3, H, W), when the patch or stride does not fit it, or
    when the reader is in training mode.
    """
    if image.ndim != 3 or not 1 <= stride <= patch <= min(image.shape[-2:]):
        raise ValueError(
            "occlusion_map needs one image (3, H, W) and 1 <= stride <= patch <= its sides; it got "
            f"the shape {tuple(image.shape)}, patch {patch} and stride {stride}: "
            "change the one that does not fit."
        )
    arguments.check_pictures("occlusion_map", image)
    height, width = image.shape[-2:]
    tops = sorted({*range(0, height - patch + 1, stride), height - patch})
    lefts = sorted({*range(0, width - patch + 1, stride), width - patch})
    squares = [(top, left) for top in tops for left in lefts]
    covered = image.repeat(len(squares), 1, 1, 1)
    for picture, (top, left) in zip(covered, squares, strict=True):
        picture[:, top : top + patch, left : left + patch] = image.mean(dim=(1, 2))[:, None, None]
    device = _ready(reader)
    change = (reader(covered.to(device)) - reader(image[None].to(device))).abs()
    total, times = image.new_zeros(height, width), image.new_zeros(height, width)
    for (top, left), value in zip(squares, change.to(image.device), strict=True):
        total[top : top + patch, left : left + patch] += value
        times[top : top + patch, left : left + patch] += 1
    return total / times


FACE_PARTS = {"mouth": (0.18, 0.52, 0.82, 0.9), "eyes": (0.14, 0.08, 0.86, 0.54)}
"""Left, top, right and bottom of what any expression may paint, as shares of a face's diameter."""

OBJECT_HALF = 0.23
"""Half the side of the square around any object, as a share of the picture: with its outlines an
object is a little larger than the `object_size` that `postcards.layout` gives it."""


def part_mask(card: postcards.Card, part: str) -> Tensor:
    """Which pixels the "mouth", the "eyes" (with the brows) or the "object" of a card may take.

    A rectangle around what `postcards.picture` draws; inside the face's outline for mouth and eyes.
    Returns (64, 64) bool, for analysis only: a model never sees it.

    Raises ValueError for another part.
    """
    if part not in (*FACE_PARTS, "object"):
        raise ValueError(f'Unknown part {part!r}: use "mouth", "eyes" or "object".')
    place = postcards.layout(card)
    size = preprocessing.IMAGE_SIZE
    centres = (torch.arange(size) + 0.5) / size
    down, across = centres[:, None], centres[None, :]  # each pixel's place, as a share of the side
    if part == "object":
        across, down = (across - place.object_x).abs(), (down - place.object_y).abs()
        return (across < OBJECT_HALF) & (down < OBJECT_HALF)
    diameter = 2 * place.face_radius
    across, down = (across - place.face_x) / diameter, (down - place.face_y) / diameter
    left, top, right, bottom = (share - 0.5 for share in FACE_PARTS[part])
    inside = (left < across) & (across < right) & (top < down) & (down < bottom)
    return inside & (across**2 + down**2 < 0.465**2)


def cover(images: Tensor, cards: Iterable[postcards.Card], part: str) -> Tensor:
    """Paints over one part of every picture with the colour of its face: (B, 3, 64, 64), a copy.

    Raises ValueError for a part that `part_mask` does not know, for pictures as `ImageEncoder`
    does, and unless there are as many cards as pictures.
    """
    arguments.check_pictures("cover", images)
    cards = list(cards)
    arguments.check_lists("cover", images=images, cards=cards)
    covered = images.clone()
    for picture, card in zip(covered, cards, strict=True):
        colour = torch.tensor(postcards.COLOURS[card.colour][0]) / 255
        picture[:, part_mask(card, part)] = colour[:, None]
    return covered


# --- The strongest rival without a network

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
"""The kernel that finds edges from bright to dark, left to right (Sobel and Feldman, 1968)."""
DIRECTIONS = 12
"""Into how many directions `edge_histograms` sorts the edges."""


def edge_histograms(images: Tensor, cell: int = 4) -> Tensor:
    """How strong the edges of each direction are, square by square of `cell` pixels.

    After the histograms of oriented gradients (Dalal and Triggs, 2005): both Sobel kernels give an
    edge's strength and direction at every pixel; its strength is shared between the two nearest of
    the DIRECTIONS; the squares' means are divided by their length.
    images (B, 3, H, W) to (B, DIRECTIONS, H / cell, W / cell), where H and W are multiples of cell.
    Raises ValueError for other shapes, and for pictures as `ImageEncoder` does.
    """
    arguments.check_pictures("edge_histograms", images)
    arguments.check_count("cell", cell, 1, 4)
    if images.ndim != 4 or images.shape[2] % cell or images.shape[3] % cell:
        raise ValueError(
            f"edge_histograms needs images (B, 3, H, W) with sides that are multiples of {cell}, "
            f"and got {tuple(images.shape)}: change their shape, or take another cell."
        )
    sobel = images.new_tensor(SOBEL)
    kernels = torch.stack([sobel, sobel.T])[:, None]  # (2, 1, 3, 3)
    grey = images.mean(1, keepdim=True)
    across, down = nn.functional.conv2d(grey, kernels, padding=1).unbind(1)  # (B, H, W) each
    strength = torch.hypot(across, down)[:, None]
    place = torch.atan2(down, across)[:, None] / (2 * math.pi) * DIRECTIONS  # from -6 to 6
    lower = place.floor()
    share = place - lower
    lower = lower.long() % DIRECTIONS
    edges = images.new_zeros(len(images), DIRECTIONS, *images.shape[-2:])
    edges.scatter_add_(1, lower, strength * (1 - share))
    edges.scatter_add_(1, (lower + 1) % DIRECTIONS, strength * share)
    squares = nn.functional.avg_pool2d(edges, cell)
    return squares / (squares.norm(dim=1, keepdim=True) + 0.05)  # plain squares stay near 0


BRAKES = (1, 3, 10, 30)
"""How strongly ridge regression may keep its weights small."""


def edge_ridge(train: datasets.Postcards, val: datasets.Postcards, images: Tensor) -> Tensor:
    """Reads the expression of images (B, 3, H, W) by a linear formula on their edges: (B,).

    Ridge regression on `edge_histograms` of the cards `train`; which of the BRAKES it takes is
    chosen on the cards `val`.
    """
    from sklearn.linear_model import Ridge

    train_edges, val_edges, edges = (
        edge_histograms(some).flatten(1).numpy() for some in (train.images, val.images, images)
    )
    ridges = [Ridge(alpha=brake).fit(train_edges, train.expression.numpy()) for brake in BRAKES]
    best = min(ridges, key=lambda r: ((r.predict(val_edges) - val.expression.numpy()) ** 2).mean())
    return torch.from_numpy(best.predict(edges)).float()
