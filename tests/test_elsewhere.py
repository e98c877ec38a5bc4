"""The make-believe GPU computes as the CPU does, and refuses what CUDA refuses."""

import contextlib
import copy
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from mbm_lab.device import describe_device, pick_device
from tests import elsewhere
from tests.elsewhere import is_elsewhere

MIXED = "found at least two devices, cuda:0 and cpu!"
INDEX = "indices should be either on cpu or on the same device as the indexed tensor"


@pytest.fixture
def gpu():
    with elsewhere.borders() as device:
        yield device


@pytest.fixture
def pair(gpu):
    """The same numbers twice: on the CPU and on the GPU."""
    torch.manual_seed(0)
    here = torch.rand(3, 4)
    return here, here.to(gpu)


class Cnn(nn.Module):
    """A picture (B, 1, 8, 8) -> (B,)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1), nn.Flatten(0),
        )  # fmt: skip

    def forward(self, pictures):
        return self.layers(pictures)


class Gru(nn.Module):
    """Words (B, T), 0 for none -> (B,)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 5, padding_idx=0)
        self.gru = nn.GRU(5, 6, batch_first=True)
        self.head = nn.Linear(6, 1)

    def forward(self, words):
        lengths = (words != 0).sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        return self.head(self.gru(packed)[1][0])[:, 0]


def examples(kind):
    torch.manual_seed(1)
    if kind is Cnn:
        return torch.rand(6, 1, 8, 8), torch.rand(6)
    words = torch.randint(1, 9, (6, 5))
    words[2, 3:] = 0
    return words, torch.rand(6)


def train(kind, device, **options):
    """Three steps of Adam; returns the weights, on the CPU."""
    inputs, targets = (tensor.to(device) for tensor in examples(kind))
    torch.manual_seed(2)
    model = kind().to(device)
    adam = torch.optim.Adam(model.parameters(), lr=0.01, **options)
    for _ in range(3):
        adam.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adam.step()
    assert next(model.parameters()).device.type == torch.device(device).type
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}


# Numbers


@pytest.mark.parametrize("foreach", [False, True], ids=["one by one", "foreach"])
@pytest.mark.parametrize("kind", [Cnn, Gru])
def test_training_gives_the_same_bits_as_on_the_cpu(kind, foreach):
    here = train(kind, "cpu", foreach=foreach)
    with elsewhere.borders() as gpu:
        there = train(kind, gpu, foreach=foreach)
        assert not any(is_elsewhere(tensor) for tensor in there.values())
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_what_comes_from_the_gpu_is_there_and_what_does_not_is_not(pair):
    here, there = pair
    assert (here.device.type, here.is_cpu, here.is_cuda) == ("cpu", True, False)
    assert (str(there.device), there.is_cpu, there.is_cuda) == ("cuda:0", False, True)
    assert (here.get_device(), there.get_device()) == (-1, 0)
    assert torch.equal(there.cpu(), here)
    assert is_elsewhere(there * 2 + 1)
    assert is_elsewhere(there.new_zeros(2))
    assert is_elsewhere(torch.zeros_like(there))
    assert is_elsewhere(torch.zeros_like(here, device="cuda"))
    assert is_elsewhere(there.double())
    assert is_elsewhere(nn.functional.one_hot(torch.arange(3, device="cuda")))
    assert not is_elsewhere(there.new_zeros(2, device="cpu"))
    assert not is_elsewhere(torch.zeros(2))
    assert not is_elsewhere(here * 2)
    assert there.tolist() == here.tolist()
    assert there.sum().item() == here.sum().item()
    assert str(there).startswith("tensor([[0.4963, 0.7682")


@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.zeros(2, 3, device=device),
        lambda device: torch.full((2,), 7.0, device=device),
        lambda device: torch.arange(4, device=device),
        lambda device: torch.tensor([1.0, 2.0], device=device),
        lambda device: torch.as_tensor(np.arange(3), device=device),
        lambda device: torch.linspace(0, 1, 3, device=device),
        lambda device: torch.eye(3, device=device),
        lambda device: torch.randn(3, device=device),
        lambda device: torch.randint(5, (3,), device=device),
        lambda device: torch.randperm(5, device=device),
        lambda device: torch.ones(3).to(device),
        lambda device: torch.ones(3).to(device, torch.float64),
        lambda device: torch.ones(3).to(torch.zeros(1, dtype=torch.int32, device=device)),
        lambda device: torch.ones(3).to(device=device, dtype=torch.int64, copy=True),
        lambda device: nn.Linear(2, 3, device=device).weight.data,
    ],
)
def test_a_tensor_is_made_where_it_is_wanted(gpu, make):
    torch.manual_seed(0)
    here = make("cpu")
    torch.manual_seed(0)
    for device in (gpu, "cuda", "cuda:0"):
        torch.manual_seed(0)
        there = make(device)
        assert is_elsewhere(there)
        assert there.dtype == here.dtype
        assert torch.equal(there.cpu(), here)
    assert not is_elsewhere(here)


def test_to_gives_the_tensor_itself_only_where_it_is_already(pair):
    here, there = pair
    assert here.to("cpu") is here
    assert here.cpu() is here
    assert there.to("cuda") is there
    assert there.to("cuda", copy=True) is not there
    there.cpu().zero_()
    here.cuda().zero_()
    assert there.sum() > 0
    assert here.sum() > 0
    numbers = np.ones(3)
    torch.as_tensor(numbers, device="cuda").zero_()
    assert numbers.sum() == 3


# Mixtures


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there * here[0],
        lambda here, there: here.add_(there[0, 0]),
        lambda here, there: here[0, 0].clone().add_(there[0, 0]),
        lambda here, there: here @ there.T,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.stack([there, here]),
        lambda here, there: torch.where(here > 0.5, there, there),
        lambda here, there: torch.equal(here, there),
        lambda here, there: nn.functional.mse_loss(there, here),
        lambda here, there: nn.functional.cross_entropy(there, here.argmax(1)),
        lambda here, there: nn.functional.embedding(torch.tensor([0]), there),
        lambda here, there: nn.functional.embedding(torch.tensor(0), there),
        lambda here, there: there.index_select(0, torch.tensor([0])),
        lambda here, there: there.gather(1, torch.zeros(3, 1, dtype=torch.long)),
        lambda here, there: there.masked_fill(here > 0.5, 0.0).cpu(),
        lambda here, there: there.masked_fill(torch.tensor(True), 0.0),
        lambda here, there: nn.Linear(4, 1)(there),
        lambda here, there: nn.Linear(4, 1, device="cuda")(here),
        lambda here, there: nn.GRU(4, 2)(there),
        lambda here, there: torch._foreach_add_([there, here], [there, there]),
        lambda here, there: torch.add(here, here, out=there),
    ],
)
def test_operators_refuse_a_mixture(pair, mix):
    with pytest.raises(RuntimeError, match="same device"):
        mix(*pair)


def test_a_mixture_names_the_devices_and_the_operator(pair):
    with pytest.raises(RuntimeError, match=rf"{MIXED} \(in the operator aten.mul.Tensor\)"):
        pair[0] * pair[1]


def test_what_was_refused_is_kept_even_if_the_error_is_caught():
    with elsewhere.borders() as gpu:
        assert elsewhere.refused == []
        for use in (lambda one: one + torch.ones(3), np.asarray):
            with contextlib.suppress(RuntimeError, TypeError):
                use(torch.ones(3, device=gpu))
    assert [text.split(" (")[0][:20] for text in elsewhere.refused] == [
        "Expected all tensors",
        "can't convert cuda:0",
    ]


def test_one_number_of_the_cpu_may_come_along(pair):
    here, there = pair
    number = torch.tensor(2.0)
    assert torch.equal((number * there).cpu(), 2 * here)
    assert torch.equal((there + number).cpu(), here + 2)
    assert is_elsewhere(torch.where(there > 0.5, number, torch.tensor(0.0)))
    assert is_elsewhere(there.masked_fill(there > 0.5, number))
    assert is_elsewhere(there.clamp(min=torch.tensor(0.2)))
    with pytest.raises(RuntimeError, match="too many CPU scalars"):
        torch.addcmul(there, number, number)
    with pytest.raises(RuntimeError, match=MIXED):
        number.to("cuda") * here


def test_copies_go_from_either_side_and_stay_where_they_were_asked(pair):
    here, there = pair
    there.copy_(torch.zeros(3, 4))
    assert is_elsewhere(there)
    assert there.sum() == 0
    here.copy_(there + 1)
    here[0] = there[0]
    there[1] = torch.ones(4)
    there[2, 0] = 5.0
    assert not is_elsewhere(here)
    assert here.tolist() == [[0] * 4, [1] * 4, [1] * 4]
    assert there.tolist() == [[0] * 4, [1] * 4, [5, 0, 0, 0]]
    here.fill_(there[2, 0])
    assert here.sum() == 60


def test_an_index_may_be_on_the_cpu_but_not_on_the_gpu_alone(pair):
    here, there = pair
    rows, mask = torch.tensor([2, 0]), here > 0.5
    assert torch.equal(there[rows].cpu(), here[rows])
    assert torch.equal(there[mask].cpu(), here[mask])
    assert torch.equal(there[[2, 0]].cpu(), here[[2, 0]])
    assert torch.equal(there[rows.cuda(), 1].cpu(), here[rows, 1])
    for index in (rows.cuda(), mask.cuda()):
        with pytest.raises(RuntimeError, match=INDEX):
            here[index]
        with pytest.raises(RuntimeError, match=INDEX):
            here[index] = 0.0
    there[mask] = 0.0
    there[rows] = torch.tensor(3.0)
    here[rows] = torch.tensor(4.0, device="cuda")
    with pytest.raises(RuntimeError, match=MIXED):
        there[rows] = torch.ones(2, 4)
    with pytest.raises(RuntimeError, match=MIXED):
        here[rows] = torch.ones(2, 4, device="cuda")
    assert there[0].tolist() == [3.0] * 4
    assert here[0].tolist() == [4.0] * 4
    assert is_elsewhere(there)
    assert not is_elsewhere(here)


def test_numpy_cannot_look_elsewhere(pair):
    here, there = pair
    for look in (lambda tensor: tensor.numpy(), np.asarray):
        look(here)
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            look(there)


def test_a_generator_of_the_cpu_draws_nothing_elsewhere(gpu):
    generator = torch.Generator().manual_seed(0)
    for draw in (
        lambda: torch.rand(3, generator=generator, device=gpu),
        lambda: torch.zeros(3, device=gpu).normal_(generator=generator),
        lambda: torch.bernoulli(torch.full((3,), 0.5, device=gpu), generator=generator),
    ):
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
            draw()
    assert is_elsewhere(torch.rand(3, generator=generator).to(gpu))


def test_lengths_of_packed_sequences_stay_on_the_cpu(pair):
    here, there = pair
    lengths = torch.tensor([4, 3, 1])
    pack, pad = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence
    with pytest.raises(RuntimeError, match="'lengths' argument should be a 1D CPU int64 tensor"):
        pack(there[..., None], lengths.cuda(), batch_first=True)
    packed = pack(there[..., None].requires_grad_(), lengths, batch_first=True)
    assert is_elsewhere(packed.data)
    assert not is_elsewhere(packed.batch_sizes)
    padded, back = pad(nn.GRU(1, 2, device="cuda")(packed)[0], batch_first=True)
    assert is_elsewhere(padded)
    assert not is_elsewhere(back)
    assert back.tolist() == [4, 3, 1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_loss_of_sequences_takes_lengths_from_anywhere(gpu, device):
    torch.manual_seed(0)
    logs = torch.randn(5, 2, 4, device=gpu).log_softmax(2).requires_grad_()
    targets = torch.tensor([[1, 2], [3, 3]])
    lengths = torch.tensor([5, 5], device=device), torch.tensor([2, 1], device=device)
    loss = nn.functional.ctc_loss(logs, targets.to(gpu), *lengths)
    loss.backward()
    assert is_elsewhere(loss)
    assert is_elsewhere(logs.grad)
    alone = nn.functional.ctc_loss(logs.cpu(), targets, *(n.cpu() for n in lengths))
    assert loss.item() == alone.item()
    with pytest.raises(RuntimeError, match=MIXED):
        nn.functional.ctc_loss(logs, targets, *lengths)


# Gradients and optimizers


def test_gradients_go_back_over_the_border(gpu):
    weight = torch.ones(3, requires_grad=True)
    (weight.to(gpu) * torch.arange(3.0, device=gpu)).sum().cpu().backward()
    assert weight.grad.tolist() == [0, 1, 2]
    assert not is_elsewhere(weight.grad)
    place = torch.zeros(3, device=gpu)
    place.copy_(weight)
    place.square().sum().backward()
    assert weight.grad.tolist() == [2, 3, 4]
    assert not is_elsewhere(weight.grad)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x[torch.tensor([0, 0, 2])],
        lambda x: x[:, 1:],
        lambda x: x.std(1),
        lambda x: x.cumsum(1).max(1).values,
        lambda x: nn.functional.embedding(torch.tensor([1, 1], device=x.device), x),
        lambda x: nn.functional.layer_norm(x, (4,)),
        lambda x: nn.functional.max_pool1d(x[None], 2),
        lambda x: nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
        lambda x: nn.functional.normalize(x).norm(dim=1),
        lambda x: torch.cdist(x, x + 1),
        lambda x: nn.functional.cosine_similarity(x, x + 1),
        lambda x: x.unfold(1, 2, 1).logsumexp(-1),
    ],
)
def test_gradients_inside_pytorch_are_no_mixture(gpu, use):
    torch.manual_seed(0)
    here = torch.rand(3, 4, requires_grad=True)
    there = here.detach().to(gpu).requires_grad_()
    (use(here) ** 2).sum().backward()
    (use(there) ** 2).sum().backward()
    assert is_elsewhere(there.grad)
    assert not is_elsewhere(here.grad)
    assert torch.equal(there.grad.cpu(), here.grad)


def test_a_mixture_in_backward_is_refused(gpu):
    mask = torch.ones(3)
    there = torch.ones(3, device=gpu, requires_grad=True)
    doubled = there * 2
    doubled.register_hook(lambda gradient: gradient * mask)
    with pytest.raises(RuntimeError, match=MIXED):
        doubled.sum().backward()


@pytest.mark.parametrize("foreach", [False, True], ids=["one by one", "foreach"])
def test_a_mixture_in_a_step_is_refused(gpu, foreach):
    model = nn.Linear(2, 1)
    adam = torch.optim.Adam(model.parameters(), foreach=foreach)
    model(torch.ones(1, 2)).sum().backward()
    adam.step()  # its averages are on the CPU
    model.to(gpu)
    model(torch.ones(1, 2, device=gpu)).sum().backward()
    with pytest.raises(RuntimeError, match=MIXED):
        adam.step()


def test_a_gradient_of_the_other_side_cannot_be_set(gpu):
    weight = torch.ones(3, device=gpu, requires_grad=True)
    with pytest.raises(RuntimeError, match="assign a gradient with device type 'cpu'"):
        weight.grad = torch.ones(3)
    weight.grad = torch.ones(3, device=gpu)
    weight.grad = None


# What shares memory, and copies


def test_views_and_changes_in_place_stay_where_they_are(pair):
    here, there = pair
    for view in (there[0], there.T, there.view(-1), there.detach(), there.unbind()[1], there.data):
        assert is_elsewhere(view)
    there += 1
    there.data = there.data * 2
    assert is_elsewhere(there)
    there.data = here
    assert not is_elsewhere(there)


def test_models_move_as_a_whole_and_back(gpu):
    model = Cnn().to(gpu)
    tensors = [*model.parameters(), *model.buffers(), *model.state_dict().values()]
    assert all(is_elsewhere(tensor) for tensor in tensors)
    model.load_state_dict({name: t.cpu() for name, t in model.state_dict().items()})
    assert all(is_elsewhere(tensor) for tensor in model.parameters())
    model.cpu()
    assert not any(is_elsewhere(tensor) for tensor in model.parameters())
    model.cuda()
    assert all(is_elsewhere(tensor) for tensor in model.buffers())


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_are_where_the_original_is(gpu, again):
    model = nn.Linear(2, 1)
    assert not is_elsewhere(again(model).weight)
    assert not is_elsewhere(again(torch.ones(3)))
    model.to(gpu)
    assert is_elsewhere(again(model).weight)
    assert all(is_elsewhere(tensor) for tensor in again(model.state_dict()).values())
    there = again(torch.arange(3.0, device=gpu))
    assert is_elsewhere(there)
    assert there.tolist() == [0, 1, 2]


def test_files_remember_the_place_unless_told_another(pair, tmp_path):
    file = io.BytesIO()
    torch.save({"here": pair[0], "there": pair[1]}, file)

    def load(**options):
        file.seek(0)
        loaded = torch.load(file, weights_only=True, **options)
        assert torch.equal(loaded["here"].cpu(), loaded["there"].cpu())
        return [is_elsewhere(loaded[name]) for name in ("here", "there")]

    assert load() == [False, True]
    assert load(map_location="cpu") == [False, False]
    assert load(map_location=torch.device("cuda")) == [True, True]
    save_file({"there": pair[1]}, tmp_path / "one.safetensors")
    loaded = load_file(tmp_path / "one.safetensors")["there"]
    assert not is_elsewhere(loaded)
    assert torch.equal(loaded, pair[0])


# The borders themselves


def test_nothing_is_left_behind():
    packages = list(torch.serialization._package_registry)
    run = threading.Thread.run
    with elsewhere.borders() as gpu:
        (places,) = elsewhere._open
        there = torch.ones(3, device=gpu)
        with pytest.raises(RuntimeError, match="open already"), elsewhere.borders():
            pass
        assert places.known
    assert places.known == {}
    assert elsewhere._open == []
    assert _get_current_function_mode_stack() == []
    assert _get_current_dispatch_mode_stack() == []
    assert torch.serialization._package_registry == packages
    assert threading.Thread.run is run
    assert not is_elsewhere(there)
    assert torch.equal(there + torch.ones(3), torch.full((3,), 2.0))


def test_the_borders_close_after_an_error():
    with pytest.raises(ZeroDivisionError), elsewhere.borders():
        torch.ones(3, device="cuda").sum() / (1 / 0)
    assert elsewhere._open == []
    assert _get_current_dispatch_mode_stack() == []


def test_the_table_forgets_what_is_no_longer_used(gpu):
    (places,) = elsewhere._open
    for _ in range(3000):
        torch.zeros(1, device=gpu)
    assert len(places.known) <= 1001


def test_a_pointer_that_is_used_again_is_not_taken_for_the_old_one(gpu):
    for _ in range(300):
        assert is_elsewhere(torch.zeros(5, device=gpu))
        assert not is_elsewhere(torch.zeros(5))


def test_threads_are_inside_too(pair):
    found = []

    def mix():
        try:
            pair[0] + pair[1]
        except RuntimeError as error:
            found.append(str(error))

    thread = threading.Thread(target=mix)
    thread.start()
    thread.join()
    assert MIXED in found[0]


def test_what_is_outside_is_not_watched(pair):
    here, there = pair
    with elsewhere.outside():
        assert torch.equal(here + there, 2 * here)
    with pytest.raises(RuntimeError, match=MIXED):
        here + there


def test_the_course_picks_the_make_believe_gpu():
    before = pick_device()
    with elsewhere.course() as gpu:
        assert pick_device() == gpu
        assert describe_device() == "GPU cuda: make-believe, 16 GB"
        assert is_elsewhere(torch.zeros(2, device=pick_device()))
    assert pick_device() == before
