"""attention.py: by hand and by PyTorch the same; masks through which nothing leaks; the block."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mbm_lab import attention

WIDTH, HEADS = 16, 4


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block(**options):
    torch.manual_seed(0)
    made = attention.Block(WIDTH, HEADS, **options)
    for parameter in made.parameters():  # biases and norms that are not 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def some_mask(*shape, seed=0):
    """True and False by chance, and in each row at least one True."""
    drawn = numbers(*shape, seed=seed) > 0
    return (
        drawn | nn.functional.one_hot(numbers(*shape, seed=seed + 1).argmax(-1), shape[-1]).bool()
    )


# Attention


def test_three_tokens_on_paper():
    """q · k = (2, 0, 2) by √4 is (1, 0, 1); the values 0, 3 and 6 weigh e, 1 and e."""
    query = torch.tensor([[1.0, 1, 0, 0]])
    key = torch.tensor([[2.0, 0, 0, 0], [0, 0, 5, 1], [1, 1, 7, 0]])
    found, weights = attention.dot_product_attention(query, key, torch.tensor([[0.0], [3], [6]]))
    e = math.e
    assert weights[0].tolist() == pytest.approx([e / (2 * e + 1), 1 / (2 * e + 1), e / (2 * e + 1)])
    assert found.item() == pytest.approx(3)
    masked, weights = attention.dot_product_attention(
        query, key, torch.tensor([[0.0], [3], [6]]), torch.tensor([[True, True, False]])
    )
    assert weights[0].tolist() == pytest.approx([e / (e + 1), 1 / (e + 1), 0])
    assert masked.item() == pytest.approx(3 / (e + 1))


def by_the_loop(query, key, value, mask):
    """The same for one sequence, number by number."""
    found = torch.zeros(len(query), value.shape[1])
    for q in range(len(query)):
        seen = [k for k in range(len(key)) if mask[q, k]]
        likes = [math.exp(float(query[q] @ key[k]) / math.sqrt(query.shape[1])) for k in seen]
        for like, k in zip(likes, seen, strict=True):
            found[q] += like / sum(likes) * value[k]
    return found


@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    masked=st.sampled_from(["no", "one for all", "one each"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_by_hand_and_by_pytorch_are_the_same(batch, sizes, masked, seed):
    queries, keys, dim, out = sizes
    query, key = numbers(*batch, queries, dim, seed=seed), numbers(*batch, keys, dim, seed=seed + 1)
    value = numbers(*batch, keys, out, seed=seed + 2)
    mask = {
        "no": None,
        "one for all": some_mask(queries, keys, seed=seed),
        "one each": some_mask(*batch, queries, keys, seed=seed),
    }[masked]
    found, weights = attention.dot_product_attention(query, key, value, mask)
    theirs = nn.functional.scaled_dot_product_attention(query, key, value, mask)
    assert torch.allclose(found, theirs, atol=1e-5)
    assert weights.shape == (*batch, queries, keys)
    assert torch.allclose(weights.sum(-1), torch.ones(*batch, queries))
    allowed = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    allowed = allowed.expand_as(weights)
    assert bool((weights[~allowed] == 0).all())
    assert bool((weights[allowed] > 0).all())
    if not batch:
        loop = by_the_loop(query, key, value, allowed)
        assert torch.allclose(found, loop, atol=1e-5)


def test_large_scores_overflow_nothing():
    query = key = torch.tensor([[300.0, 0], [0, 300]])
    found, _ = attention.dot_product_attention(query, key, torch.eye(2))
    assert torch.equal(found, torch.eye(2))


# Masks


def test_masks_as_one_draws_them():
    t, f = True, False
    assert attention.causal_mask(3).tolist() == [[t, f, f], [t, t, f], [t, t, t]]
    assert attention.causal_mask(1).tolist() == [[t]]
    assert attention.prefix_mask(2, 4).tolist() == [
        [t, t, f, f], [t, t, f, f], [t, t, t, f], [t, t, t, t],
    ]  # fmt: skip
    assert attention.prefix_mask(3, 3).tolist() == [[t, t, t]] * 3
    known = torch.tensor([[t, t, f], [t, t, t]])
    hidden = attention.hide_padding(attention.causal_mask(3), known)
    assert hidden.tolist() == [
        [[[t, f, f], [t, t, f], [t, t, t]]],
        [[[t, f, f], [t, t, f], [t, t, t]]],
    ]
    early = attention.hide_padding(attention.causal_mask(3), torch.tensor([[t, f, t]]))
    assert early.tolist() == [[[[t, f, f], [t, t, f], [t, f, t]]]]


@given(st.integers(1, 9), st.data())
@settings(max_examples=30, deadline=None)
def test_a_prefix_sees_itself_and_words_what_came_before(length, data):
    prefix = data.draw(st.integers(0, length))
    mask = attention.prefix_mask(prefix, length)
    for q in range(length):
        for k in range(length):
            assert bool(mask[q, k]) == (k <= q or k < prefix)
    if prefix < 2:  # nobody is let to look ahead
        assert torch.equal(mask, attention.causal_mask(length))


def looks(read, x):
    """Which token's result depends on which token: (T, T) bool, asked by gradients."""
    x = x.clone().requires_grad_()
    result = read(x)
    rows = [
        torch.autograd.grad(result[0, q].square().sum(), x, retain_graph=True)[0][0].abs().sum(-1)
        for q in range(x.shape[1])
    ]
    return torch.stack(rows) > 1e-9


@pytest.mark.parametrize("mask", [
    attention.causal_mask(5),
    attention.prefix_mask(3, 5),
    attention.prefix_mask(5, 5),
    attention.hide_padding(attention.causal_mask(5), torch.tensor([[1, 1, 1, 0, 0]]) > 0)[0, 0],
    attention.hide_padding(attention.prefix_mask(3, 5), torch.tensor([[1, 1, 0, 1, 1]]) > 0)[0, 0],
])  # fmt: skip
def test_a_block_looks_exactly_where_its_mask_lets_it(mask):
    assert torch.equal(looks(lambda x: block()(x, mask), numbers(1, 5, WIDTH)), mask)


@pytest.mark.parametrize("cut", range(1, 6))
def test_no_word_sees_a_later_one(cut):
    x, mask, one = numbers(2, 6, WIDTH), attention.causal_mask(6), block()
    changed = x.clone()
    changed[:, cut:] = numbers(2, 6 - cut, WIDTH, seed=1)
    before, after = one(x, mask), one(changed, mask)
    assert torch.allclose(before[:, :cut], after[:, :cut], atol=1e-6)
    assert not torch.allclose(before[:, cut:], after[:, cut:], atol=1e-2)
    open_to_all = torch.ones(6, 6, dtype=torch.bool)  # the test itself: without the mask it is seen
    seen = (one(x, open_to_all) - one(changed, open_to_all))[:, :cut].abs().max()
    assert seen > 1e-3


def test_padding_changes_nothing_for_the_others():
    x, one = numbers(2, 5, WIDTH), block()
    known = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    mask = attention.hide_padding(attention.prefix_mask(5, 5), known)
    alone = one(x[:1, :3], attention.prefix_mask(3, 3))
    assert torch.allclose(one(x, mask)[:1, :3], alone, atol=1e-6)
    changed = x.clone()
    changed[0, 3:] = 9.0
    assert torch.allclose(one(changed, mask)[:, :3], one(x, mask)[:, :3], atol=1e-6)
    assert one(x, mask).isfinite().all()


# The block


def as_pytorch(ours):
    """`nn.TransformerEncoderLayer` with the same weights."""
    hidden = ours.feed_forward[0].out_features
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, hidden, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = {
        theirs.self_attn.in_proj_weight: ours.query_key_value.weight,
        theirs.self_attn.in_proj_bias: ours.query_key_value.bias,
        theirs.self_attn.out_proj.weight: ours.out.weight,
        theirs.self_attn.out_proj.bias: ours.out.bias,
        theirs.linear1.weight: ours.feed_forward[0].weight,
        theirs.linear1.bias: ours.feed_forward[0].bias,
        theirs.linear2.weight: ours.feed_forward[2].weight,
        theirs.linear2.bias: ours.feed_forward[2].bias,
        theirs.norm1.weight: ours.norm_1.weight,
        theirs.norm1.bias: ours.norm_1.bias,
        theirs.norm2.weight: ours.norm_2.weight,
        theirs.norm2.bias: ours.norm_2.bias,
    }
    assert len(pairs) == len(list(theirs.parameters())) == len(list(ours.parameters()))
    for target, source in pairs.items():
        target.data.copy_(source.data)
    return theirs


MASKS = {
    "causal": attention.causal_mask(6),
    "prefix": attention.prefix_mask(4, 6),
    "all": torch.ones(6, 6, dtype=torch.bool),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_block_is_pytorchs(name, training):
    ours = block(hidden=24).train(training)
    theirs = as_pytorch(ours).train(training)
    x = numbers(3, 6, WIDTH)
    wanted = theirs(x, src_mask=~MASKS[name])  # there True forbids
    assert torch.allclose(ours(x, MASKS[name]), wanted, atol=1e-5)
    others = [mask for other, mask in MASKS.items() if other != name]
    assert all(not torch.allclose(ours(x, mask), wanted, atol=1e-2) for mask in others)


def test_a_block_with_padding_is_pytorchs():
    ours = block()
    known = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    mask = attention.hide_padding(attention.causal_mask(6), known)
    x = numbers(2, 6, WIDTH)
    wanted = as_pytorch(ours)(x, src_mask=~MASKS["causal"], src_key_padding_mask=~known)
    assert torch.allclose(ours(x, mask)[known], wanted[known], atol=1e-5)


def test_the_weights_are_those_with_which_the_block_looks():
    one, x, mask = block(), numbers(2, 6, WIDTH), MASKS["prefix"]
    weights = one.weights(x, mask)
    assert weights.shape == (2, HEADS, 6, 6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, HEADS, 6))
    assert bool((weights[..., ~mask] == 0).all())
    _, _, value = one.project(x)
    assert torch.allclose(one.finish(x, weights @ value), one(x, mask), atol=1e-5)
    theirs = as_pytorch(one)
    normed = theirs.norm1(x)
    _, wanted = theirs.self_attn(
        normed, normed, normed, attn_mask=~mask, average_attn_weights=False
    )
    assert torch.allclose(weights, wanted, atol=1e-5)


def test_heads_look_at_different_places_and_one_head_is_plain_attention():
    torch.manual_seed(0)
    one, x = attention.Block(WIDTH, 1), numbers(2, 5, WIDTH)
    mask = attention.causal_mask(5)
    query, key, value = one.query_key_value(one.norm_1(x)).chunk(3, -1)
    _, wanted = attention.dot_product_attention(query, key, value, mask)
    assert torch.allclose(one.weights(x, mask)[:, 0], wanted, atol=1e-6)
    four = block().weights(x, mask)
    assert not torch.allclose(four[:, 0], four[:, 1], atol=1e-3)


def test_reading_in_pieces_with_a_cache_is_reading_at_once():
    one, x, mask = block(), numbers(2, 6, WIDTH), MASKS["causal"]
    whole, (keys, values) = one.read(x, mask)
    for cut in (1, 3, 5):
        first, cache = one.read(x[:, :cut], mask[:cut, :cut])
        second, (key, value) = one.read(x[:, cut:], mask[cut:], cache)
        assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-5)
        assert torch.allclose(key, keys, atol=1e-5)
        assert torch.allclose(value, values, atol=1e-5)
    assert keys.shape == values.shape == (2, HEADS, 6, WIDTH // HEADS)
    turned, _ = one.read(x[:, 5:], mask[5:], (values[:, :, :5], keys[:, :, :5]))
    assert not torch.allclose(turned, whole[:, 5:], atol=1e-2)


def test_a_set_has_no_order():
    """Without places, a token finds the same in whatever order the others stand."""
    one, x = block(), numbers(1, 6, WIDTH)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert torch.allclose(one(x[:, order], MASKS["all"]), one(x, MASKS["all"])[:, order], atol=1e-5)
    assert not torch.allclose(
        one(x[:, order], MASKS["causal"]), one(x, MASKS["causal"])[:, order], atol=1e-2
    )


def test_parts_can_be_taken_out():
    x, mask = numbers(2, 6, WIDTH), MASKS["causal"]
    bare = block(norm=False)
    assert not any(isinstance(part, nn.LayerNorm) for part in bare.modules())
    assert len(list(block().parameters())) - len(list(bare.parameters())) == 4

    alone = block(residual=False)
    nn.init.zeros_(alone.feed_forward[2].weight)
    nn.init.zeros_(alone.feed_forward[2].bias)
    assert torch.equal(alone(x, mask), torch.zeros_like(x))  # nothing of x goes past the parts

    kept = block()
    for part in (kept.out, kept.feed_forward[2]):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    assert torch.equal(kept(x, mask), x)  # each part adds to what was there


def test_the_feed_forward_part_has_four_times_the_width_unless_one_says_else():
    assert block().feed_forward[0].out_features == 4 * WIDTH
    assert block(hidden=5).feed_forward[0].out_features == 5


def test_every_parameter_gets_a_gradient():
    one = block()
    one(numbers(2, 6, WIDTH), MASKS["causal"]).square().sum().backward()
    for name, parameter in one.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


# What is refused

TWO = torch.ones(2, 2)
TRUE = torch.ones(2, 2, dtype=torch.bool)
CAUSAL = attention.causal_mask(3)
dot = attention.dot_product_attention

REFUSED = {
    "query is a list and must be a tensor: make one": lambda: dot([[1.0]], TWO, TWO),
    "value is None and must be a tensor: pass one": lambda: dot(TWO, TWO, None),
    r"got \(2, 2\), \(2, 3\) and \(2, 2\): change": lambda: dot(TWO, torch.ones(2, 3), TWO),
    r"got \(2, 2\), \(2, 2\) and \(3, 2\): change": lambda: dot(TWO, TWO, torch.ones(3, 2)),
    r"got \(2,\), \(2, 2\) and \(2, 2\): change": lambda: dot(TWO[0], TWO, TWO),
    r"got \(4, 2, 2\), \(3, 2, 2\) and \(3, 2, 2\): change": lambda: dot(
        torch.ones(4, 2, 2), torch.ones(3, 2, 2), torch.ones(3, 2, 2)
    ),
    r"got \(2, 2\), \(0, 2\) and \(0, 2\): change": lambda: dot(TWO, TWO[:0], TWO[:0]),
    r"got \(0, 2\), \(2, 2\) and \(2, 2\): change": lambda: dot(TWO[:0], TWO, TWO),
    r"got \(2, 0\), \(2, 0\) and \(2, 2\): change": lambda: dot(TWO[:, :0], TWO[:, :0], TWO),
    r"query holds int64: write query.float\(\)": lambda: dot(TWO.long(), TWO, TWO),
    r"value holds float64: write value.float\(\)": lambda: dot(TWO, TWO, TWO.double()),
    r"this is \(2, 2\) of float32: make it with": lambda: dot(TWO, TWO, TWO, TWO),
    r"2 queries and 2 keys is .* this is \(3, 3\) of bool": lambda: dot(TWO, TWO, TWO, CAUSAL),
    r"this is \(1, 2, 2\) of bool": lambda: dot(TWO, TWO, TWO, TRUE[None]),
    r"this is \(3, 2, 2\) of bool": lambda: dot(*[torch.ones(4, 2, 2)] * 3, TRUE.expand(3, 2, 2)),
    "lets query 1 look at no key.* let each token": lambda: dot(
        TWO, TWO, TWO, torch.tensor([[True, False], [False, False]])
    ),
    "length is 0: give a whole number of at least 1": lambda: attention.causal_mask(0),
    "length is the text '3': give": lambda: attention.causal_mask("3"),
    "length is 2.5: give": lambda: attention.prefix_mask(1, 2.5),
    "prefix is -1: give a whole number of at least 0": lambda: attention.prefix_mask(-1, 3),
    "prefix has 4 tokens and the whole sequence 3: give": lambda: attention.prefix_mask(4, 3),
    "known is None and must be": lambda: attention.hide_padding(CAUSAL, None),
    "mask is None and must be": lambda: attention.hide_padding(None, TRUE),
    r"got \(3, 3\) of bool and \(2, 2\) of bool: make": lambda: attention.hide_padding(
        CAUSAL, TRUE
    ),
    r"\(2, 3\) of int64: make": lambda: attention.hide_padding(
        CAUSAL, torch.ones(2, 3, dtype=torch.long)
    ),
    r"got \(3, 3\) of float32 and": lambda: attention.hide_padding(CAUSAL.float(), CAUSAL),
    r"got \(3, 3\) of bool and \(3,\) of bool": lambda: attention.hide_padding(CAUSAL, CAUSAL[0]),
    "width of 15 cannot be divided among 4 heads: choose a multiple of 4, such as 16": lambda: (
        attention.Block(15, 4)
    ),
    "width is 0: give": lambda: attention.Block(0, 4),
    "heads is 0: give": lambda: attention.Block(16, 0),
    "hidden is 0: give": lambda: attention.Block(16, 4, 0),
    r"width 16 takes tokens \(B, T, 16\), and got \(1, 3, 9\): pass": lambda: block()(
        torch.ones(1, 3, 9), CAUSAL
    ),
    r"got \(3, 16\): pass a batch": lambda: block()(torch.ones(3, 16), CAUSAL),
    "3 queries and 3 keys is .* float32: make it": lambda: block()(
        torch.ones(1, 3, 16), CAUSAL.float()
    ),
    r"this is \(2, 2\) of bool: make it": lambda: block()(torch.ones(1, 3, 16), TRUE),
    "query 0 look at no key, so": lambda: block()(torch.ones(1, 3, 16), ~CAUSAL & False),
    "1 queries and 4 keys": lambda: block().read(
        torch.ones(1, 1, 16), TRUE[:1], 2 * (torch.ones(1, HEADS, 3, 4),)
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_right_is_one_sentence(said):
    with pytest.raises(ValueError, match=said) as caught:
        REFUSED[said]()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
