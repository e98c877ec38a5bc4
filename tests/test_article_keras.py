"""article_keras.py: the article's program in Keras gives the same numbers, and learns the same.

Every trap on the way is stepped into once, to show that these tests would see it.
"""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mbm_lab import cnn, fusion, place, rnn

if not importlib.util.find_spec("keras"):
    pytest.skip("needs the package keras", allow_module_level=True)

from mbm_lab import article_keras
from mbm_lab.article_keras import keras, layers

WORDS, CARDS = 30, 8
MSE = nn.functional.mse_loss
pytestmark = [
    pytest.mark.skipif(keras.config.backend() != "torch", reason="is about Keras on PyTorch"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # in Keras
]


def cards(seed: int, count: int = CARDS) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pictures of any colours, messages of 1 to 6 words, and moods."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, WORDS, (count, 6), generator=generator)
    lengths = torch.randint(1, 7, (count, 1), generator=generator)
    lengths[0] = 6
    tokens[torch.arange(6) >= lengths] = 0
    images = torch.rand(count, 3, 64, 64, generator=generator)
    return {"image": images, "message": tokens}, torch.randn(count, generator=generator) / 3


def new_models(seed: int) -> tuple[fusion.MultimodalModel, article_keras.MultimodalModel]:
    """The course's model, no number in it as it starts, and Keras's with the same weights."""
    torch.manual_seed(seed)
    model = fusion.MultimodalModel(
        {"image": cnn.ImageEncoder(), "message": rnn.TextEncoder(WORDS)},
        fusion.WeightedSum(("image", "message"), 32),
        nn.Linear(32, 1),
    )
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.2 * (torch.rand_like(tensor) - 0.5))
    return model, copied(model)


def copied(model: fusion.MultimodalModel) -> article_keras.MultimodalModel:
    encoders = article_keras.ImageEncoder(), article_keras.TextEncoder(WORDS)
    keras_model = article_keras.MultimodalModel(*encoders)
    article_keras.same_weights(model, keras_model)
    return keras_model


def array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def apart(model: nn.Module, keras_model: keras.Model, inputs: dict[str, torch.Tensor]) -> float:
    """The largest difference between the two models' outputs."""
    with torch.no_grad():
        ours = model.eval()(inputs).numpy()
    return np.abs(ours - array(keras_model(article_keras.as_arrays(inputs)))).max()


def ten_steps(
    seed: int, dtype: torch.dtype, adam: type, steps: int = 10
) -> tuple[list[float], tuple[nn.Module, keras.Model]]:
    """How far the losses of each step are apart, and the two models."""
    model, _ = new_models(seed)
    model = model.to(dtype).train()
    keras_model = copied(model)
    keras_model.compile(optimizer=adam(0.001), loss="mse")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    differences = []
    for step in range(steps):
        inputs, moods = cards(100 * seed + step)
        inputs["image"], moods = inputs["image"].to(dtype), moods.to(dtype)
        loss = MSE(model(inputs), moods)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs = keras_model.train_on_batch(article_keras.as_arrays(inputs), moods.numpy())
        differences.append(abs(loss.item() - float(theirs)))
    return differences, (model, keras_model)


# --- The same weights, the same outputs


@pytest.mark.parametrize("seed", range(3))
def test_the_same_weights_give_the_same_outputs(seed):
    model, keras_model = new_models(seed)
    inputs, _ = cards(seed)
    assert apart(model, keras_model, inputs) < 1e-5
    assert apart(new_models(seed + 1)[0], keras_model, inputs) > 1e-2
    outputs = keras_model.predict(article_keras.as_arrays(inputs), verbose=0, batch_size=5)
    assert outputs.shape == (CARDS,)
    assert np.abs(outputs - model(inputs).detach().numpy()).max() < 1e-5


def test_so_it_is_after_our_training():
    model, keras_model = new_models(0)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    for step in range(4):
        inputs, moods = cards(step)
        optimizer.zero_grad()
        MSE(model(inputs), moods).backward()
        optimizer.step()
    assert apart(model, keras_model, inputs) > 1e-2
    article_keras.same_weights(model, keras_model)
    assert apart(model, keras_model, inputs) < 1e-5


def test_every_weight_of_ours_is_copied():
    model, keras_model = new_models(0)
    inputs, _ = cards(0, count=3)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    tensors = {name: tensor for name, tensor in tensors if tensor.is_floating_point()}
    assert len(tensors) == 29
    before = array(keras_model(article_keras.as_arrays(inputs)))
    for name, tensor in tensors.items():
        with torch.no_grad():
            tensor.add_(0.1)
            article_keras.same_weights(model, keras_model)
            tensor.sub_(0.1)
        after = array(keras_model(article_keras.as_arrays(inputs)))
        assert np.abs(after - before).max() > 1e-5, name


def test_a_message_is_read_the_same_with_and_without_padding():
    _, keras_model = new_models(0)
    tokens = np.array([[4, 7, 2]])
    padded = np.array([[4, 7, 2, 0, 0, 0, 0]])
    assert np.allclose(array(keras_model.g(tokens)), array(keras_model.g(padded)), atol=1e-6)


# --- The same training


def test_ten_steps_have_the_same_losses():
    with article_keras.double_precision():
        differences, (model, keras_model) = ten_steps(0, torch.float64, article_keras.Adam)
        ours, theirs = copied(model), keras_model
    assert max(differences) < 1e-5
    for a, b in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        if not ("conv2d" in a.path and "bias" in a.path):  # of these slopes only rounding is left
            assert np.abs(array(a) - array(b)).max() < 1e-4, a.path
    assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"


def test_ten_steps_in_single_precision_drift_no_further_than_rounding():
    differences, _ = ten_steps(0, torch.float32, article_keras.Adam)
    assert differences[0] < 1e-5
    assert max(differences) < 2e-3


def test_adam_counts_epsilon_as_pytorch_does_and_kerass_own_does_not():
    steps = {}
    for name, adam in {"course": article_keras.Adam, "keras": keras.optimizers.Adam}.items():
        value = keras.Variable(np.zeros(3, "float32"))
        optimizer = adam(0.001, epsilon=1e-8)
        optimizer.build([value])
        for _ in range(3):
            optimizer.apply([keras.ops.convert_to_tensor(np.array([1, 1e-7, 1e-8], "float32"))])
        steps[name] = array(value)
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter], lr=0.001)
    for _ in range(3):
        parameter.grad = torch.tensor([1, 1e-7, 1e-8])
        optimizer.step()
    ours = parameter.detach().numpy()
    assert np.allclose(steps["course"], ours, rtol=1e-4)
    assert np.allclose(steps["keras"][0], ours[0], rtol=1e-4), "large slopes do not show it"
    assert abs(steps["keras"][1] - ours[1]) > 0.3 * abs(ours[1])


def test_with_kerass_own_adam_the_losses_are_not_the_same():
    with article_keras.double_precision():
        differences, _ = ten_steps(0, torch.float64, keras.optimizers.Adam, steps=3)
    assert differences[0] < 1e-5 < max(differences)


# --- The traps, one by one


def test_the_gates_stand_in_another_order():
    gru, words = nn.GRU(5, 4, batch_first=True), torch.randn(3, 6, 5)
    ours = gru(words)[1][0].detach().numpy()
    layer = layers.GRU(4)
    layer.build((None, None, 5))
    layer.set_weights(article_keras.gru_weights(gru))
    assert np.abs(array(layer(words)) - ours).max() < 1e-5
    W, U, b, c = (p.detach().numpy() for p in gru.parameters())
    layer.set_weights([W.T, U.T, np.stack([b, c])])  # r, z, n where z, r, n should stand
    assert np.abs(array(layer(words)) - ours).max() > 1e-2
    layer = layers.GRU(4, reset_after=False)
    layer.build((None, None, 5))
    with pytest.raises(ValueError, match="shape"):  # there is no second bias
        layer.set_weights(article_keras.gru_weights(gru))


def test_same_padding_is_another_one_where_the_stride_is_two():
    conv, images = nn.Conv2d(3, 4, 5, stride=2, padding=2), torch.rand(2, 3, 64, 64)
    ours = conv(images).permute(0, 2, 3, 1).detach().numpy()
    pictures = images.permute(0, 2, 3, 1)
    outputs = {}
    for padding in ("valid", "same"):
        layer = layers.Conv2D(4, 5, strides=2, padding=padding)
        layer.build((None, None, None, 3))
        layer.set_weights(article_keras.conv_weights(conv))
        padded = layers.ZeroPadding2D(2)(pictures) if padding == "valid" else pictures
        outputs[padding] = array(layer(padded))
    assert outputs["valid"].shape == outputs["same"].shape == ours.shape
    assert np.abs(outputs["valid"] - ours).max() < 1e-5
    assert np.abs(outputs["same"] - ours).max() > 1e-2


def test_flattened_pictures_have_another_order():
    linear, maps = nn.Linear(24, 5), torch.randn(2, 4, 3, 2)
    ours = linear(maps.flatten(1)).detach().numpy()
    flat = maps.permute(0, 2, 3, 1).flatten(1).numpy()
    matrix, bias = article_keras.dense_weights(linear, grid=(4, 3, 2))
    assert np.abs(flat @ matrix + bias - ours).max() < 1e-5
    matrix, bias = article_keras.dense_weights(linear)
    assert np.abs(flat @ matrix + bias - ours).max() > 1e-2


def test_batch_normalisation_adds_another_epsilon():
    norm, maps = nn.BatchNorm2d(4).eval(), torch.randn(2, 4, 3, 3)
    norm.running_var.fill_(0.01)
    ours = norm(maps).permute(0, 2, 3, 1).detach().numpy()
    differences = []
    for layer in (article_keras.as_torch_does(), layers.BatchNormalization()):
        layer.build((None, 3, 3, 4))
        layer.set_weights(article_keras.norm_weights(norm))
        differences.append(np.abs(array(layer(maps.permute(0, 2, 3, 1))) - ours).max())
    assert differences[0] < 1e-5
    assert differences[1] > 1e-2


def test_momentum_is_the_other_share_and_the_variance_is_noted_differently():
    norm, maps = nn.BatchNorm2d(4).train(), 3 + torch.randn(2, 4, 3, 3)
    norm(maps)
    noted = []
    for layer in (article_keras.as_torch_does(), layers.BatchNormalization()):
        layer(maps.permute(0, 2, 3, 1), training=True)
        noted.append([array(layer.moving_mean), array(layer.moving_variance)])
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    assert np.abs(noted[0][0] - mean).max() < 1e-5
    assert np.abs(noted[1][0] - mean).max() > 0.1
    count = 2 * 3 * 3  # PyTorch divides by one less
    ratio = (variance - 0.9) / (noted[0][1] - 0.9)
    assert np.allclose(ratio, count / (count - 1), rtol=1e-3)


def test_without_the_mask_the_padding_is_read():
    _, keras_model = new_models(0)
    embedding = layers.Embedding(WORDS, 32)
    embedding.build()
    embedding.set_weights(keras_model.g.embedding.get_weights())
    padded = np.array([[4, 7, 2, 0, 0, 0]])
    right = array(keras_model.g(padded))
    assert np.abs(array(keras_model.g.gru(embedding(padded))) - right).max() > 1e-2
    assert np.abs(array(keras_model.g.gru(embedding(padded[:, :3]))) - right).max() < 1e-5


def test_training_is_told_to_every_layer():
    _, keras_model = new_models(0)
    arrays = article_keras.as_arrays(cards(0)[0])
    outputs = [array(keras_model(arrays, training=how)) for how in (True, False)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2
    assert np.array_equal(array(keras_model(arrays)), array(keras_model(arrays)))


# --- What is refused


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("image", "ImageEncoder as its image, and this has Flatten"),
        ("message", "TextEncoder as its message, and this has Flatten"),
        ("fusion", "WeightedSum as its fusion, and this has Concat"),
        ("head", "Linear as its head, and this has Sequential"),
    ],
)
def test_another_model_is_refused_with_the_name_of_its_part(part, says):
    model, keras_model = new_models(0)
    if part in model.encoders:
        model.encoders[part] = nn.Flatten()
    else:
        other = {"fusion": fusion.Concat(("image", "message"), 32), "head": fusion.head(32, 4)}
        setattr(model, part, other[part])
    before = [array(weight) for weight in keras_model.weights]
    with pytest.raises(ValueError, match=says):
        article_keras.same_weights(model, keras_model)
    assert all(
        np.array_equal(a, array(b)) for a, b in zip(before, keras_model.weights, strict=True)
    )


def test_other_sizes_are_refused_before_anything_is_copied():
    model, keras_model = new_models(0)
    before = [array(weight).copy() for weight in keras_model.weights]
    model.encoders["message"] = rnn.TextEncoder(WORDS + 1)
    with pytest.raises(ValueError, match=r"\(30, 32\) in Keras and \(31, 32\) in PyTorch"):
        article_keras.same_weights(model, keras_model)
    assert all(
        np.array_equal(a, array(b)) for a, b in zip(before, keras_model.weights, strict=True)
    )


def test_other_inputs_are_refused():
    images = torch.rand(2, 3, 64, 64)
    for wrong, says in (
        ({"voice": images}, "modality"),
        ({"image": images.permute(0, 2, 3, 1)}, r"shape \(B, 3, 64, 64\)"),
        ({"image": 255 * images}, "divide by 255"),
    ):
        with pytest.raises(ValueError, match=says):
            article_keras.as_arrays(wrong)


# --- Keras is optional


def test_without_keras_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "mbm_lab.article_keras")
    with pytest.raises(ModuleNotFoundError, match="run %pip install keras once"):
        importlib.import_module("mbm_lab.article_keras")


def test_without_the_backend_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match="KERAS_BACKEND is 'no_such_package'.*to torch"):
        article_keras._import_keras()


def test_no_other_module_imports_keras():
    modules = list((place.COURSE / "mbm_lab").rglob("*.py"))
    assert len(modules) > 50
    for module in modules:
        source = module.read_text(encoding="utf-8")
        asks = [line for line in source.splitlines() if "import" in line and "keras" in line]
        assert not asks or module.name in ("article_keras.py", "lessons.py"), asks


@pytest.mark.slow
def test_it_starts_in_silence_and_leaves_nothing_behind(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KERAS")}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "MPLCONFIGDIR": "/none"}
    program = (
        "import os, mbm_lab.article_keras as a; "
        "assert a.keras.config.backend() == 'torch' and 'KERAS_HOME' not in os.environ"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=place.COURSE, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
