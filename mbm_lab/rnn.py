"""g(y): the recurrent network that reads a message (lesson 03).

The first half is one recurrent step and one GRU step written out, and what lesson 03 measures with
them; the second half is the encoder that the course uses, built on PyTorch's own GRU; then what the
lesson looks at, its rival without a network, and its exam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mbm_lab import arguments, datasets, postcards, preprocessing
from mbm_lab.device import device_of

# --- By hand


def rnn_step(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """One step of a plain recurrent network, h' = tanh(W x + U h + b) (Elman, 1990).

    x: the word's vector (..., D); h: what is remembered so far (..., H); W: (H, D); U: (H, H); b:
    (H,).
    Returns the new h, (..., H), each number between -1 and 1.
    Raises ValueError when the sizes do not fit together.
    """
    _check_sizes(x, h, W, U, b, rows=len(b))
    return torch.tanh(x @ W.T + h @ U.T + b)


def run_rnn(xs: Tensor, W: Tensor, U: Tensor, b: Tensor, h: Tensor | None = None) -> Tensor:
    """Reads a whole sequence with `rnn_step`, one step after the other.

    xs: (..., T, D), for example (B, T, D); h: where to start, (..., H), zeros when None.
    Returns the state after each step, (..., T, H). Raises ValueError as `rnn_step` does.
    """
    h = xs.new_zeros(*xs.shape[:-2], len(b)) if h is None else h
    states = []
    for x in xs.unbind(-2):  # the steps, from the first word to the last
        h = rnn_step(x, h, W, U, b)
        states.append(h)
    return torch.stack(states, -2)


def gru_step(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One step of a gated recurrent unit (Cho et al., 2014), in PyTorch's form.

        r = σ(W_r x + b_r + U_r h + c_r)          reset: how much of h the candidate may see
        z = σ(W_z x + b_z + U_z h + c_z)          update: how much of h stays
        n = tanh(W_n x + b_n + r · (U_n h + c_n)) the candidate for the new state
        h' = (1 - z) · n + z · h

    Cho and others mix in the same way, but reset the memory before U_n looks at it, U_n (r · h).
    Chung et al. (2014) write z for the share of the candidate: h' = z · n + (1 - z) · h.

    x: (..., D); h: (..., H); the three parts r, z, n stand one above the other in W: (3H, D), U:
    (3H, H), b: (3H,) and c: (3H,), which are weight_ih_l0, weight_hh_l0, bias_ih_l0 and bias_hh_l0
    of nn.GRU.
    Returns the new h, (..., H). Raises ValueError when the sizes do not fit together.
    """
    _check_sizes(x, h, W, U, b, c, rows=3 * h.shape[-1])
    from_x, from_h = x @ W.T + b, h @ U.T + c  # (..., 3H) each
    r_x, z_x, n_x = from_x.chunk(3, -1)  # (..., H) each
    r_h, z_h, n_h = from_h.chunk(3, -1)
    r = torch.sigmoid(r_x + r_h)
    z = torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h


def run_gru(
    xs: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor, h: Tensor | None = None
) -> Tensor:
    """Reads a whole sequence with `gru_step`: xs (..., T, D) to the states (..., T, H).

    h: where to start, (..., H), zeros when None. Raises ValueError as `gru_step` does.
    """
    h = xs.new_zeros(*xs.shape[:-2], U.shape[1]) if h is None else h
    states = []
    for x in xs.unbind(-2):
        h = gru_step(x, h, W, U, b, c)
        states.append(h)
    return torch.stack(states, -2)


def _check_sizes(
    x: Tensor, h: Tensor, W: Tensor, U: Tensor, *biases: Tensor, rows: int
) -> None:
    if W.shape != (rows, x.shape[-1]) or U.shape != (rows, h.shape[-1]):
        raise ValueError(
            f"The sizes do not fit: x has {x.shape[-1]} numbers and h has {h.shape[-1]}, so with "
            f"b of {rows} W must be ({rows}, {x.shape[-1]}) and U ({rows}, {h.shape[-1]}), "
            f"but they are {tuple(W.shape)} and {tuple(U.shape)}: change these."
        )
    for bias in biases:
        if bias.shape != (rows,):
            raise ValueError(
                f"A bias must have one number for each of the {rows} rows of W, and has the shape "
                f"{tuple(bias.shape)}: change it to ({rows},)."
            )
    for name, values in {"x": x, "h": h}.items():
        if values.dtype != W.dtype:
            raise ValueError(
                f"{name} holds {arguments.dtype(values)} and W {arguments.dtype(W)}: write "
                f"{name}.float()."
            )


def gradient_by_distance(network: nn.RNN | nn.GRU | nn.LSTM, xs: Tensor) -> Tensor:
    """How strongly the last state depends on each step's input, however far back.

    network: an nn.RNN, nn.GRU or nn.LSTM with batch_first=True; xs: (B, T, D).
    Returns (T,): the size of the gradient of the last state's sum with respect to the input that
    came 0, 1, 2, … steps before the end, averaged over the batch (Bengio, Simard and Frasconi,
    1994). Raises ValueError when xs has another shape.
    """
    arguments.check_tensor("xs", xs)
    if xs.ndim != 3 or not xs.numel() or xs.shape[2] != network.input_size:
        raise ValueError(
            f"gradient_by_distance needs sequences (B, T, {network.input_size}), and got "
            f"{tuple(xs.shape)}: change their shape."
        )
    home = xs.device
    xs = xs.detach().clone().to(device_of(network)).requires_grad_()
    states, _ = network(xs)  # (B, T, H)
    (gradient,) = torch.autograd.grad(states[:, -1].sum(), xs)  # (B, T, D)
    return gradient.norm(dim=2).mean(0).flip(0).to(home)


# --- The encoder


class TextEncoder(nn.Module):
    """g: tokens (B, T), padded with 0, to feature vectors (B, dim).

    Words become vectors (an embedding), a GRU (Cho et al., 2014) reads them one by one, and its
    hidden state after the last word is the message's feature vector. Packing keeps the padding out
    of it.

    Raises ValueError when the tokens are not (B, T), when a row has no word, and when a word's
    number is beyond the vocabulary.
    """

    def __init__(self, vocabulary_size: int, dim: int = 32):
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(vocabulary_size, 32, padding_idx=preprocessing.PAD)
        self.gru = nn.GRU(32, dim, batch_first=True)

    def _read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        if (
            tokens.ndim != 2
            or tokens.numel() == 0
            or bool((tokens[:, 0] == preprocessing.PAD).any())
        ):
            raise ValueError(
                "TextEncoder needs tokens of shape (B, T) with at least one word in every row, the "
                f"padding after it; it got {tuple(tokens.shape)}. Leave empty rows out."
            )
        arguments.check_tokens("TextEncoder", tokens, self.embedding.num_embeddings)
        lengths = preprocessing.lengths(tokens)  # (B,)
        words = self.embedding(tokens)  # (B, T, 32)
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, last = self.gru(packed)  # packed states, and the last ones (1, B, dim)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=tokens.shape[1])
        return states, last[0]

    def forward(self, tokens: Tensor) -> Tensor:
        return self._read(tokens)[1]  # (B, dim)

    def states(self, tokens: Tensor) -> Tensor:
        """The hidden state after each word: (B, T, dim), zeros where there is padding."""
        return self._read(tokens)[0]


# --- What lesson 03 looks at


@torch.no_grad()
def read_along(reader: nn.Module, tokens: Tensor, stop: int | None = None) -> Tensor:
    """What a reader says after each word of a message.

    reader: a model with an `encoder` (a TextEncoder) and a linear `head`, as `cnn.Reader` is;
    tokens: (B, T). stop: the number of a word, such as the full stop, that is read after each
    beginning of the message as if it ended there; None: the head looks at the state as it is.
    Returns (B, T), NaN where there is padding, so that a plot stops at the last word.
    """
    words = tokens.to(device_of(reader))
    h = reader.encoder.states(words)  # (B, T, H)
    if stop is not None:
        x = reader.encoder.embedding.weight[stop].expand(*words.shape, -1)  # (B, T, 32)
        h = gru_step(x, h, *reader.encoder.gru.parameters())  # one step more from each state
    readings = reader.head(h)[..., 0]  # (B, T)
    return readings.masked_fill(words == preprocessing.PAD, torch.nan).to(tokens.device)


WORD_KINDS = {
    "the, our": {"the", "our"},
    "noun": {noun.split()[-1] for noun in postcards.NOUNS},
    "was": {"was"},
    "not, never": set(postcards.NEGATIONS) - {""},
    "really …": set(postcards.INTENSIFIERS) - {""},
    "adjective": set(postcards.ADJECTIVES),
    "and, but …": {"and", "but", "although"},
    "full stop": {"."},
}
"""The parts of a message's sentence, about in their order, and their words."""


def kinds_of_words(tokens: Tensor, vocabulary: preprocessing.Vocabulary) -> Tensor:
    """Which of the WORD_KINDS each word is, by its place there, or -1: tokens (B, T) to (B, T).

    Raises ValueError for numbers that the vocabulary does not have.
    """
    arguments.check_tokens("kinds_of_words", tokens, len(vocabulary))
    kinds = [
        next((k for k, words in enumerate(WORD_KINDS.values()) if word in words), -1)
        for word in vocabulary.words
    ]
    return torch.tensor(kinds, device=tokens.device)[tokens]


@torch.no_grad()
def update_gates(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """z, how much of the memory stays, at each word: tokens (B, T) to (B, T, dim).

    NaN where there is padding.
    """
    words = tokens.to(device_of(encoder))
    h = encoder.states(words)  # (B, T, H), after each word
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)  # before each word
    W, U, b, c = encoder.gru.parameters()
    both = encoder.embedding(words) @ W.T + b + before @ U.T + c  # (B, T, 3H)
    z = torch.sigmoid(both.chunk(3, -1)[1])
    return z.masked_fill((words == preprocessing.PAD)[..., None], torch.nan).to(tokens.device)


def shuffle_words(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The same messages with their words in random order: the same bag of words, no order.

    tokens: (B, T) padded with 0 on the right, and so is the result; the padding stays where it is.
    """
    keys = torch.rand(tokens.shape, generator=generator)  # in [0, 1): a random rank for each word
    keys = keys.to(tokens.device)
    keys = keys.masked_fill(tokens == preprocessing.PAD, 2.0)  # padding ranks last
    return tokens.gather(1, keys.argsort(dim=1))


# --- The rival without a network

BRAKES = (0.3, 1, 3, 10, 30, 100)
"""How strongly ridge regression may keep its weights small."""


def ngram_ridge(
    train: datasets.Postcards, val: datasets.Postcards, longest: int
) -> tuple[Callable[[list[str]], Tensor], int]:
    """The sentiment from counts of words, of pairs of neighbours, and so on: a linear formula.

    longest: how many neighbours the longest n-gram has, 1 for a bag of words. Ridge regression
    (Hoerl and Kennard, 1970) learns on the cards `train`; which of the BRAKES it takes is chosen on
    the cards `val`.
    Returns a function from N messages to (N,) readings, and the number of different n-grams.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge

    counter = CountVectorizer(analyzer=lambda text: _ngrams(preprocessing.tokenize(text), longest))
    counts = counter.fit_transform(train.messages)  # (cards, different n-grams)
    val_counts = counter.transform(val.messages)
    ridges = [Ridge(alpha=brake).fit(counts, train.sentiment.numpy()) for brake in BRAKES]
    best = min(ridges, key=lambda r: ((r.predict(val_counts) - val.sentiment.numpy()) ** 2).mean())

    def read(messages: list[str]) -> Tensor:
        return torch.from_numpy(best.predict(counter.transform(messages))).float()

    return read, counts.shape[1]


def _ngrams(words: list[str], longest: int) -> list[str]:
    """All runs of 1 to `longest` neighbouring words."""
    runs = range(1, longest + 1)
    return [" ".join(words[i : i + n]) for n in runs for i in range(len(words) - n + 1)]
