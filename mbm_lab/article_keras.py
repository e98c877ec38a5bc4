"""The article's program in Keras: its three classes, completed (lesson 14).

The article writes for TensorFlow's Keras, and leaves open what is inside of its two encoders. Here
they are, layer for layer those of `cnn.ImageEncoder` and `rnn.TextEncoder`. After `same_weights`
they give the same numbers, and learn the same.

Keras (Chollet et al., 2015) leaves the computing to PyTorch, TensorFlow or JAX since version 3. The
environment variable KERAS_BACKEND says to which, and is read when Keras is imported; this module
makes it `torch` unless you have set it. Keras is optional: nothing else in the course imports it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import arguments, cnn, fusion, preprocessing, rnn
from mbm_lab.device import pick_device


def _import_keras() -> ModuleType:
    """Keras, without a trace: its file of settings does not go into the learner's home.

    Raises ModuleNotFoundError unless Keras is here, and the backend that it is to use.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_TORCH_DEVICE", str(pick_device()))  # else Keras takes any GPU
    if importlib.util.find_spec("keras") is None:
        raise ModuleNotFoundError("The package keras is missing here: run %pip install keras once.")
    if importlib.util.find_spec(backend) is None:
        raise ModuleNotFoundError(
            f"KERAS_BACKEND is {backend!r}, and there is no such package here: install it, or set "
            "KERAS_BACKEND to torch."
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = os.environ.setdefault("KERAS_HOME", folder)
        try:
            return importlib.import_module("keras")
        finally:
            if settings == folder:
                del os.environ["KERAS_HOME"]


keras = _import_keras()
layers, ops = keras.layers, keras.ops

# --- The article's three classes


class ImageEncoder(keras.Model):
    """f: pictures (B, 64, 64, 3) in [0, 1] to feature vectors (B, dim). In Keras colours come last.

    Stride 2 with padding="same" would pad on the right and below by one more than on the left and
    above, so the first convolution is padded by a layer of its own, as PyTorch pads.
    """

    def __init__(self, dim: int = 32):
        super().__init__()
        self.convolutions = keras.Sequential([
            layers.ZeroPadding2D(2),
            layers.Conv2D(12, 5, strides=2), as_torch_does(), layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(24, 3, padding="same"), as_torch_does(), layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same"), as_torch_does(), layers.ReLU(),
            layers.Flatten(),
        ])  # fmt: skip
        self.project = layers.Dense(dim, activation="tanh")

    def call(self, images, training=False):
        mean = ops.convert_to_tensor(preprocessing.PIXEL_MEAN, images.dtype)
        sd = ops.convert_to_tensor(preprocessing.PIXEL_STD, images.dtype)
        x = self.convolutions((images - mean) / sd, training=training)  # (B, 8 * 8 * 32)
        return self.project(x)  # (B, dim)


def as_torch_does() -> layers.BatchNormalization:
    """Batch normalisation with PyTorch's settings.

    Keras adds 0.001 to the variance, PyTorch 0.00001. Keras's momentum is the share of the old mean
    that stays (0.99 if nothing is said); PyTorch's is the share of the new one (0.1).
    """
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


class TextEncoder(keras.Model):
    """g: tokens (B, T), padded with 0, to feature vectors (B, dim).

    With mask_zero=True the GRU stands still where there is padding; without, it would read on.
    """

    def __init__(self, vocabulary_size: int, dim: int = 32):
        super().__init__()
        self.embedding = layers.Embedding(vocabulary_size, 32, mask_zero=True)
        self.gru = layers.GRU(dim)

    def call(self, tokens, training=False):
        words = self.embedding(tokens)  # (B, T, 32)
        return self.gru(words, training=training)  # (B, dim), after the last word


class MultimodalModel(keras.Model):
    """The article's whole model: v = αf(x) + βg(y), and a head that reads one number off it.

    Inputs as `as_arrays` gives them: {"image": (B, 64, 64, 3), "message": (B, T)}. Returns (B,).
    """

    def __init__(self, f: ImageEncoder, g: TextEncoder):
        super().__init__()
        self.f, self.g = f, g
        self.alpha = self.add_weight(shape=(), initializer="ones", name="alpha")
        self.beta = self.add_weight(shape=(), initializer="ones", name="beta")
        self.head = layers.Dense(1)

    def call(self, inputs, training=False):
        f = self.f(inputs["image"], training=training)  # (B, dim)
        g = self.g(inputs["message"], training=training)  # (B, dim)
        v = self.alpha * f + self.beta * g
        return self.head(v)[:, 0]  # (B,)


# --- The same training


class Adam(keras.optimizers.Adam):
    """Adam (Kingma and Ba, 2015) as PyTorch computes it, where slopes are tiny, too.

    Both divide by √q + ε, where q is the running mean of the squared slopes. PyTorch first makes q
    fair (lesson 05); Keras does so at the end, and so its ε counts 30 times as much in step 1.
    On TensorFlow, Keras squares the slopes of a word that stands twice one by one; here they are
    added first.
    """

    def __init__(self, learning_rate: float = 0.001, epsilon: float = 1e-8, **others):
        super().__init__(learning_rate, epsilon=epsilon, **others)

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.add(gradient, ops.zeros_like(variable))  # now one slope for each number
        step = ops.cast(self.iterations + 1, variable.dtype)
        epsilon = self.epsilon
        self.epsilon = epsilon * ops.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = epsilon


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Within it, Keras makes models of float64, as `model.double()` does in PyTorch."""
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)


# --- The same weights


def as_arrays(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The course's inputs as Keras wants them: pictures (B, 3, 64, 64) become (B, 64, 64, 3).

    Arrays of NumPy, which every backend takes. Raises ValueError for pictures of another shape or
    far outside of [0, 1], and for a modality other than "image" and "message".
    """
    arrays = {}
    for name, values in inputs.items():
        arguments.check_choice("modality", name, ("image", "message"))
        if name == "image":
            cnn.check_shape("as_arrays", values)
            arguments.check_pictures("as_arrays", values)
            values = values.permute(0, 2, 3, 1)
        arrays[name] = _array(values)
    return arrays


def conv_weights(conv: nn.Conv2d) -> list[np.ndarray]:
    """Kernels (O, C, K, L) as (K, L, C, O), and the biases (O,)."""
    return [_array(conv.weight.permute(2, 3, 1, 0)), _array(conv.bias)]


def norm_weights(norm: nn.BatchNorm2d) -> list[np.ndarray]:
    """Scale and shift, which are learned; mean and variance, which are noted. Each (C,)."""
    return [_array(t) for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]


def dense_weights(linear: nn.Linear, grid: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """The matrix (out, in) as (in, out), and the biases (out,).

    grid: (C, H, W) where the inputs were flattened out of channels, rows and columns. PyTorch
    flattens channel by channel, Keras pixel by pixel, so the rows of the matrix change places.
    """
    weight = linear.weight
    if grid is not None:
        weight = weight.unflatten(1, grid).permute(0, 2, 3, 1).flatten(1)  # C, H, W to H, W, C
    return [_array(weight.T), _array(linear.bias)]


def gru_weights(gru: nn.GRU) -> list[np.ndarray]:
    """W (3H, D), U (3H, H) and the biases b, c (3H,) as (D, 3H), (H, 3H) and (2, 3H).

    PyTorch stacks the gates as reset r, update z, new memory n; Keras as z, r, n.
    """
    W, U, b, c = (_update_first(parameter) for parameter in gru.parameters())
    return [_array(W.T), _array(U.T), _array(torch.stack([b, c]))]


def _update_first(stacked: Tensor) -> Tensor:
    r, z, n = stacked.chunk(3)
    return torch.cat([z, r, n])


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def same_weights(model: fusion.MultimodalModel, keras_model: MultimodalModel) -> None:
    """Gives a Keras model the weights of the course's model; that one stays as it is.

    model: with cnn.ImageEncoder as "image", rnn.TextEncoder as "message", fusion.WeightedSum over
    the two, and as its head nn.Linear(dim, 1). Raises ValueError for another model, and where the
    two have different sizes.
    """
    _check_parts(model)
    f, g = model.encoders["image"], model.encoders["message"]
    keras_model(as_arrays({"image": torch.zeros(1, 3, 64, 64), "message": torch.ones(1, 1).int()}))
    copies = []  # what each layer of Keras gets; it has weights now that it has seen an input
    ours = [layer for layer in f.convolutions if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    theirs = keras_model.f.convolutions.layers
    theirs = [one for one in theirs if isinstance(one, layers.Conv2D | layers.BatchNormalization)]
    for layer, keras_layer in zip(ours, theirs, strict=True):
        weights = conv_weights if isinstance(layer, nn.Conv2d) else norm_weights
        copies.append((keras_layer, weights(layer)))
    copies.append((keras_model.f.project, dense_weights(f.project, grid=(32, 8, 8))))
    copies.append((keras_model.g.embedding, [_array(g.embedding.weight)]))
    copies.append((keras_model.g.gru, gru_weights(g.gru)))
    copies.append((keras_model.head, dense_weights(model.head)))
    for keras_layer, arrays in copies:
        _check_sizes(keras_layer, arrays)
    for keras_layer, arrays in copies:
        keras_layer.set_weights(arrays)
    keras_model.alpha.assign(_array(model.fusion.alpha))
    keras_model.beta.assign(_array(model.fusion.beta))


def _check_parts(model: fusion.MultimodalModel) -> None:
    parts = {"fusion": model.fusion, "head": model.head, **model.encoders}
    wanted = {
        "image": cnn.ImageEncoder,
        "message": rnn.TextEncoder,
        "fusion": fusion.WeightedSum,
        "head": nn.Linear,
    }
    for name, kind in wanted.items():
        if type(parts.get(name)) is not kind:
            raise ValueError(
                f"same_weights copies a model with {kind.__name__} as its {name}, and this has "
                f"{type(parts.get(name)).__name__}: build it as lesson 14 does."
            )


def _check_sizes(layer: layers.Layer, arrays: list[np.ndarray]) -> None:
    for weight, array in zip(layer.weights, arrays, strict=True):
        if tuple(weight.shape) != array.shape:
            raise ValueError(
                f"{weight.path} has the shape {tuple(weight.shape)} in Keras and {array.shape} in "
                "PyTorch: make both models with the same dim and the same number of words."
            )
