"""exercises/one_model.py: lesson 13's exercises against PyTorch, the course, and other answers."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mbm_lab import attention, one_model, preprocessing, writing
from mbm_lab.exercises import one_model as ours

# The solutions are what PyTorch and the course do


def test_attention_is_that_of_pytorch_and_of_the_course():
    for query, key, value, mask in (ours.attention.cases() | ours.attention.beyond()).values():
        found, weights = ours.my_attention(query, key, value, mask)
        theirs = functional.scaled_dot_product_attention(query, key, value, mask)
        torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)
        of_course = attention.dot_product_attention(query, key, value, mask)
        torch.testing.assert_close((found, weights), of_course)
        assert not bool(weights[~mask.expand_as(weights)].any())


def test_the_prefix_mask_is_that_of_the_course_and_what_the_task_says():
    for prefix, known in (ours.prefix_mask.cases() | ours.prefix_mask.beyond()).values():
        mask = ours.my_prefix_mask(prefix, known)
        length = known.shape[1]
        of_course = attention.hide_padding(attention.prefix_mask(prefix, length), known)
        assert torch.equal(mask, of_course[:, 0])
        for row, q, k in itertools.product(range(len(known)), range(length), range(length)):
            may = k == q or (bool(known[row, k]) and (k < prefix or k < q))
            assert bool(mask[row, q, k]) == may


def test_the_answers_loss_is_that_with_which_the_model_learns():
    words = [*preprocessing.SPECIAL_WORDS, *one_model.TASKS, "what", "is", "red", "a", "dog", "?"]
    vocabulary = preprocessing.Vocabulary(words)
    texts, answers = ["what is red ?", "is a dog red ?"], ["a dog", "red"]
    read, target = one_model.with_answers("<ask>", texts, answers, vocabulary)
    scores = torch.randn(*read.shape, len(words), generator=torch.Generator().manual_seed(1))
    wanted = writing.next_word_loss(scores, target)
    last = torch.zeros_like(read[:, :1])
    ahead = torch.where(target != 0, target, torch.cat([read[:, 1:], last], 1))
    whole = torch.cat([read[:, :1], ahead], 1)  # prompt, <bos>, answer, <eos>
    prompt = (target != 0).int().argmax(1) + 1  # with <bos>
    assert [whole[row, place] for row, place in enumerate(prompt)] == vocabulary.encode(
        ["a", "red"]
    )
    mine = ours.my_answer_loss(torch.cat([scores, scores[:, :1]], 1), whole, prompt)
    torch.testing.assert_close(mine, wanted)


def test_no_score_before_the_answer_gets_a_gradient():
    for scores, words, prompt in ours.answer_loss.cases().values():
        scores = scores.clone().requires_grad_()
        ours.my_answer_loss(scores, words, prompt).backward()
        place = torch.arange(words.shape[1])
        of_answer = (place >= prompt[:, None] - 1) & (place < (words != 0).sum(1)[:, None] - 1)
        assert not bool(scores.grad[~of_answer].any())
        if (
            float(scores.detach().abs().max()) < 10
        ):  # else a word can be so certain that nothing is learned
            assert bool((scores.grad[of_answer] != 0).all())


def read_in(answer, words, pieces, number=3):
    return ours.cache.call(answer, words, pieces, number)["found"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 9))
def test_reading_in_any_pieces_is_reading_at_once(pieces, rows, seed):
    words = torch.randint(
        12, (rows, min(sum(pieces), 12)), generator=torch.Generator().manual_seed(seed)
    )
    pieces = pieces if sum(pieces) <= 12 else [words.shape[1]]
    model = ours._reader(seed)
    with torch.no_grad():
        x = model.words(words) + model.places(torch.arange(words.shape[1]))
        wanted = functional.scaled_dot_product_attention(
            model.query(x), model.key(x), model.value(x), is_causal=True
        )
    got = read_in(ours.my_read, words, pieces, seed)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_given_cache_has_two_faults_that_only_pieces_show():
    words = torch.tensor([[3, 1, 4, 1, 5]])
    whole = read_in(ours.my_read, words, [5])
    faulty = [
        ours._given_read,
        ours._misread(sees=ours._tril),
        ours._misread(place=ours._from_zero),
    ]
    for answer in faulty:
        torch.testing.assert_close(read_in(answer, words, [5]), whole)
        assert not torch.allclose(read_in(answer, words, [2, 1, 2]), whole, atol=1e-3)
    assert ours.cache.judge(faulty[0]).word == "Not attempted yet."
    for answer in faulty[1:]:
        verdict = ours.cache.judge(answer)
        assert verdict.word == "Not yet."
        assert verdict.mistake is not None


def test_the_paper_model_gives_the_numbers_of_the_task():
    words = torch.tensor([[1, 2, 3]])
    assert read_in(ours.my_read, words, [1, 1, 1], 0).flatten().tolist() == [1.0, 6.5, 12.0]
    assert read_in(ours._given_read, words, [1, 1, 1], 0).flatten().tolist() == [1.0, 1.0, 1.0]


def test_top_p_is_that_of_the_course():
    for chances, top_p in (ours.top_p.cases() | ours.top_p.beyond()).values():
        mine = ours.top_p.call(ours.my_top_p, chances, top_p)
        torch.testing.assert_close(mine, ours.top_p.call(writing.likeliest, chances, top_p))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_top_p_keeps_the_smallest_set_that_has_enough(numbers, top_p):
    chances = torch.tensor([numbers], dtype=torch.float64) / sum(numbers)
    kept = set(ours.my_top_p(chances, top_p)[0].nonzero()[:, 0].tolist())
    words = range(len(numbers))
    enough = top_p - 1e-9
    sizes = [
        len(some)
        for count in range(1, len(numbers) + 1)
        for some in itertools.combinations(words, count)
        if sum(float(chances[0, word]) for word in some) >= enough
    ]
    assert sum(float(chances[0, word]) for word in kept) >= enough
    assert len(kept) - min(sizes) in (0, 1 if abs(near(chances, top_p)) < 1e-6 else 0)


def near(chances, top_p):
    """How near top_p is to what some of the likeliest words have together."""
    together = chances.sort(1, descending=True).values.cumsum(1)
    return float((together - top_p).abs().min())


# Other right answers


def answered(query, key, value, mask, *, root=0.5, hidden=float("-inf"), dim=-1, late=False):
    """Attention by einsum, with a mask that is added, or with a mistake."""
    scores = torch.einsum("...qd,...kd->...qk", query, key) / query.size(-1) ** root
    added = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, hidden)
    weights = scores.softmax(dim) * mask if late else (scores + added).softmax(dim)
    return torch.einsum("...qk,...ke->...qe", weights, value), weights


def prefix_mask(prefix, known, *, longer=0, both=False, rows=False, hide=True, alone=True):
    """The mask from two squares, filled in, or with a mistake."""
    count, length = known.shape
    mask = torch.zeros(count, length, length, dtype=torch.bool)
    for row in range(count):
        for q in range(length):
            mask[row, q, : q + 1] = True
            mask[row, q, : prefix + longer] = True
            if both and q < prefix:
                mask[row, q] = True
        if hide and rows:
            mask[row, ~known[row]] = False
        elif hide:
            mask[row, :, ~known[row]] = False
        if alone:
            mask[row].fill_diagonal_(True)
    return mask


def answer_loss(scores, words, prompt, *, ahead=1, first=0, reduction="mean", ignore=0, pad=True):
    """The loss by cross_entropy, which leaves PAD out, or with a mistake."""
    target = torch.zeros_like(words)
    for row, (sentence, told) in enumerate(zip(words, prompt.tolist(), strict=True)):
        for place in range(max(told + first, ahead), words.shape[1]):
            target[row, place - ahead] = sentence[place]
            if not pad and sentence[place] == 0:
                target[row, place - ahead] = 0
    return functional.cross_entropy(
        scores.flatten(0, 1), target.flatten(), ignore_index=ignore, reduction=reduction
    )


def read(model, words, cache, *, first=None, sees=None):
    """Reading word for word inside of a piece, or with a mistake."""
    keys, values = cache
    start, found = keys.shape[1], []
    for count in range(words.shape[1]):
        place = start + count if first is None else first(start, count)
        x = model.words(words[:, count]) + model.places(torch.tensor(place))
        keys = torch.cat([keys, model.key(x)[:, None]], 1)
        values = torch.cat([values, model.value(x)[:, None]], 1)
        seen = slice(None) if sees is None else sees(start, count)
        scores = torch.einsum("bd,bkd->bk", model.query(x), keys[:, seen]) * x.shape[-1] ** -0.5
        found.append((scores.softmax(1)[:, :, None] * values[:, seen]).sum(1))
    return torch.stack(found, 1), (keys, values)


def top_p(chances, top_p, *, reach=False, share=True, tie=1e-9, back=True):
    """Top-p by a loop, word after word, or with a mistake."""
    result = torch.zeros_like(chances)
    for row, numbers in enumerate(chances.tolist()):
        total = 0.0
        for place, word in enumerate(sorted(range(len(numbers)), key=lambda w: -numbers[w])):
            if (total + numbers[word] if reach else total + tie) > top_p and (place or reach):
                break
            total += numbers[word]
            result[row, word if back else place] = numbers[word]
    return result / result.sum(1, keepdim=True) if share else result


ANSWERS = [
    (ours.attention, answered),
    (ours.prefix_mask, prefix_mask),
    (ours.answer_loss, answer_loss),
    (ours.cache, read),
    (ours.top_p, top_p),
]


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS, ids=lambda one: getattr(one, "name", ""))
def test_another_way_to_write_it_is_correct_too(said, exercise, answer):
    assert f"Right. {exercise.title}" in said(exercise, answer)


def test_pytorchs_own_attention_with_its_weights_is_right_too(said):
    def by_pytorch(query, key, value, mask):
        eye = torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-1], key.shape[-2])
        both = torch.cat([value, eye], -1)  # the mean of the unit vectors is the weights
        found = functional.scaled_dot_product_attention(query, key, both, attn_mask=mask)
        return found[..., : value.shape[-1]], found[..., value.shape[-1] :]

    assert "Right." in said(ours.attention, by_pytorch)


def test_a_large_negative_number_instead_of_infinity_is_right_too(said):
    assert "Right." in said(ours.attention, lambda *x: answered(*x, hidden=-1e9))


def test_a_mask_by_tril_is_right_too(said):
    def by_tril(prefix, known):
        length = known.size(1)
        mask = torch.ones(length, length).tril().bool()
        mask[:, :prefix] = True
        mask = mask & known.unsqueeze(1)
        return torch.logical_or(mask, torch.eye(length).bool())

    assert "Right." in said(ours.prefix_mask, by_tril)


def test_a_loss_that_multiplies_by_the_mask_is_right_too(said):
    def by_product(scores, words, prompt):
        losses = functional.cross_entropy(
            scores[:, :-1].transpose(1, 2), words[:, 1:], reduction="none"
        )
        place = torch.arange(words.shape[1])[1:]
        counts = ((place >= prompt.unsqueeze(1)) & (words[:, 1:] > 0)).float()
        return (losses * counts).sum() / counts.sum()

    assert "Right." in said(ours.answer_loss, by_product)


def test_the_mended_lines_alone_are_enough(said):
    def mended(model, words, cache):
        old_keys, old_values = cache
        before = old_keys.shape[1]
        place = torch.arange(before, before + words.shape[1])
        x = model.words(words) + model.places(place)
        keys = torch.cat([old_keys, model.key(x)], 1)
        values = torch.cat([old_values, model.value(x)], 1)
        scores = model.query(x) @ keys.transpose(1, 2) / x.shape[2] ** 0.5
        mask = torch.ones(scores.shape[1:]).tril(diagonal=before) == 1
        found = scores.masked_fill(~mask, -torch.inf).softmax(2) @ values
        return found, [keys, values]

    assert "Right." in said(ours.cache, mended)


def test_it_does_not_matter_which_of_equally_likely_words_are_kept(said):
    def from_the_end(chances, top_p):
        return ours.my_top_p(chances.flip(1), top_p).flip(1)

    assert "Right." in said(ours.top_p, from_the_end)


# The same mistakes, written otherwise


MISTAKES = [
    (ours.attention, answered, {"root": 0}, "You forgot to divide by √D"),
    (ours.attention, answered, {"root": 1}, "You divided by D. It is the square root"),
    (ours.attention, answered, {"root": -0.5}, "You multiplied by √D"),
    (ours.attention, answered, {"hidden": 0.0}, "You let every query look at every key"),
    (ours.attention, answered, {"dim": -2}, "Your softmax runs over the queries"),
    (ours.attention, answered, {"dim": 1}, "Your softmax runs over dimension 1"),
    (ours.attention, answered, {"late": True}, "You hid the keys after the softmax"),
    (ours.prefix_mask, prefix_mask, {"longer": 1}, "Your prefix is one token too long"),
    (ours.prefix_mask, prefix_mask, {"longer": -99}, "see only what came before. They all"),
    (ours.prefix_mask, prefix_mask, {"both": True}, "The prefix sees the words"),
    (ours.prefix_mask, prefix_mask, {"rows": True}, "You hid the rows of padding instead"),
    (ours.prefix_mask, prefix_mask, {"hide": False}, "You hide nothing of the padding"),
    (ours.prefix_mask, prefix_mask, {"alone": False}, "Padding does not see itself"),
    (ours.answer_loss, answer_loss, {"ahead": 0}, "You compare each place with the word that was"),
    (ours.answer_loss, answer_loss, {"first": -99}, "The prompt counts in your loss"),
    (ours.answer_loss, answer_loss, {"first": 1}, "The first word of the answer does not count"),
    (ours.answer_loss, answer_loss, {"first": -1}, "Your answer begins one word too early"),
    (ours.answer_loss, answer_loss, {"reduction": "sum"}, "You took the sum"),
    (ours.cache, read, {"first": lambda start, count: count}, "The places still begin at 0"),
    (ours.cache, read, {"first": lambda start, count: start}, "that of its first word"),
    (ours.cache, read, {"first": lambda start, count: start + count + 1}, "one too large"),
    (ours.cache, read, {"sees": lambda start, count: slice(count + 1)}, "the first keys only"),
    (ours.cache, read, {"sees": lambda start, count: slice(start, None)}, "only the words of its"),
    (ours.top_p, top_p, {"share": False}, "The kept probabilities no longer sum to 1"),
    (ours.top_p, top_p, {"tie": -1e-9}, "you keep one more. They suffice"),
    (ours.top_p, top_p, {"back": False}, "Your probabilities come sorted"),
    (ours.top_p, top_p, {"reach": True}, "The word with which top_p is reached is missing"),
]


@pytest.mark.parametrize(("exercise", "answer", "wrong", "sentence"), MISTAKES)
def test_the_same_mistake_written_otherwise_is_found(said, exercise, answer, wrong, sentence):
    words = said(exercise, lambda *arguments: answer(*arguments, **wrong))
    assert sentence in words
    assert "Right." not in words


def test_a_cache_that_reads_everything_again_is_told_what_it_is_for(said):
    told = []

    def again(model, words, cache):
        told[:] = [*told, words] if cache[0].shape[1] else [words]
        whole = torch.cat(told, 1)
        nothing = torch.zeros(len(words), 0, cache[0].shape[2])
        found, kept = ours.my_read(model, whole, (nothing, nothing))
        return found[:, -words.shape[1] :], kept

    words = said(ours.cache, again)
    assert "You read all words again with every call" in words


def test_chances_that_are_written_into_are_told(said):
    def in_place(chances, top_p):
        answer = ours.my_top_p(chances.clone(), top_p)
        chances[:] = answer
        return answer

    assert "changes its input chances" in said(ours.top_p, in_place)


def test_what_an_answer_returns_in_another_form_is_judged_too(said):
    right = ours.my_attention
    assert "Right." in said(ours.attention, lambda *x: list(right(*x)))
    assert "Right." in said(ours.answer_loss, lambda *x: ours.my_answer_loss(*x).item())
    for exercise in (ours.attention, ours.prefix_mask, ours.answer_loss, ours.cache, ours.top_p):
        assert "Your function returns nothing" in said(exercise, lambda *x: None)
    assert "Not yet." in said(ours.top_p, lambda *x: ours.my_top_p(*x).tolist())
    assert "Not yet." in said(ours.prefix_mask, lambda *x: ours.my_prefix_mask(*x).tolist())
