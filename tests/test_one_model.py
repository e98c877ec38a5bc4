"""one_model.py: everything as tokens, prompts, the cache, what the loss sees, what is refused."""

import copy
import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mbm_lab import (
    captioning,
    datasets,
    one_model,
    postcards,
    preprocessing,
    questions,
    speech,
    stored,
    training,
    video,
    writing,
)
from mbm_lab.one_model import MOODS, TASKS
from mbm_lab.preprocessing import BOS, EOS, PAD, SPECIAL_WORDS, UNK

WORDS = (
    "a blue face fish happy is it night no red the was what with yes ? , 一张 红色 脸 的".split()
)
VOCABULARY = preprocessing.Vocabulary([*SPECIAL_WORDS, *TASKS, *MOODS, *WORDS])
OTHER = preprocessing.Vocabulary([*VOCABULARY.words[:-1], "another"])
SIZE = len(VOCABULARY)
ASKED = ["is it night?", "is the face red", "what is it"]
SEEN = {
    "picture": {"picture": (16, 128)},
    "film": {"film": (8, 512)},
    "voice": {"voice": (50, 128), "frames": torch.tensor([50, 7, 31])},
    "": {},
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_as(name, seed=0):
    """What three prompts of this modality see: random numbers."""
    return {
        part: size if isinstance(size, torch.Tensor) else numbers(3, *size, seed=seed)
        for part, size in SEEN[name].items()
    }


def new_model(seed=0, **options):
    """A small model whose parameters are all random, so that it writes one word after another."""
    torch.manual_seed(seed)
    model = one_model.OneModel(SIZE, width=16, **{"blocks": 2, "heads": 4} | options)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


MODEL = new_model()
PICTURE = seen_as("picture")
PROMPTS = one_model.prompts("<ask>", ASKED, VOCABULARY)
ANSWERS = torch.tensor([[BOS, 40, 33, 46], [BOS, 52, 39, 39], [BOS, 4, 45, 51]])


def joined(prompts=PROMPTS, answers=ANSWERS):
    """Each prompt with its answer behind it, padded at the end."""
    rows = [
        row[row != PAD].tolist() + answer.tolist()
        for row, answer in zip(prompts, answers, strict=True)
    ]
    return preprocessing.pad(rows)


def of_answers(scores, prompts=PROMPTS, count=4):
    """The scores (N, T, V) of `joined` at the words of the answers: (N, count, V)."""
    starts = preprocessing.lengths(prompts).tolist()
    return torch.stack([row[at : at + count] for row, at in zip(scores, starts, strict=True)])


def stepped(model, inputs, answers=ANSWERS):
    """The scores after each word of the answers, with the cache."""
    state, found = model.start(inputs), []
    for words in answers.T:
        scores, state = model.step(words, state)
        found.append(scores)
    return torch.stack(found, 1)


# Everything becomes tokens


@pytest.fixture(scope="module")
def cards():
    return datasets.draw_postcards(4, seed=5)


def test_a_picture_becomes_16_patches_row_by_row(cards):
    images = cards.images[:2]
    found = one_model.picture_patches(images)
    assert found.shape == (2, 16, 128)
    encoder = one_model.stored.load("captioner")[0].encoder
    cells = captioning.image_cells(encoder, images).unflatten(1, (8, 8))  # (2, 8, 8, 32)
    for row in range(4):
        for column in range(4):
            four = cells[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]  # (2, 2, 2, 32)
            assert torch.equal(found[:, 4 * row + column], four.permute(0, 3, 1, 2).flatten(1))


def test_raw_patches_are_squares_of_pixels_row_by_row(cards):
    found = one_model.raw_patches(cards.images)
    assert found.shape == (4, 16, 768)
    pixels = preprocessing.normalise(cards.images)
    for row in range(4):
        for column in range(4):
            square = pixels[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert torch.equal(found[:, 4 * row + column], square.flatten(1))


def test_a_voice_becomes_frames_and_silence_after_its_end_is_zero():
    recordings = [0.1 * numbers(size, seed=size) for size in (64_000, 9_000, 20_000)]
    found = one_model.voice_frames(speech.mels_of(recordings))
    assert found["voice"].shape == (3, 50, 128)
    assert found["frames"].tolist() == [50, 8, 16]
    for row, end in zip(found["voice"], found["frames"], strict=True):
        assert bool((row[end:] == 0).all())
        assert bool((row[:end].abs().sum(1) > 0).all())
    alone = one_model.voice_frames(speech.mels_of(recordings[1:2]))
    assert alone["frames"].tolist() == [8]
    assert torch.allclose(alone["voice"], found["voice"][1:2], atol=1e-5)
    one_model.check_inputs(MODEL, {"words": PROMPTS, **found})


@pytest.mark.parametrize(
    ("mood", "word"),
    [(0.234, "<+0.2>"), (-1, "<-1.0>"), (1, "<+1.0>"), (0, "<+0.0>"), (-0.04, "<+0.0>"),
     (0.96, "<+1.0>"), (-0.26, "<-0.3>")],
)  # fmt: skip
def test_a_mood_is_a_word_from_a_list(mood, word):
    assert one_model.mood_word(mood) == word
    assert one_model.MOOD_VALUES[MOODS.index(word)] == pytest.approx(mood, abs=0.05)


def test_the_list_of_moods_is_in_the_order_of_its_values():
    assert len(MOODS) == 21
    values = torch.tensor([float(word.strip("<>")) for word in MOODS])
    assert torch.allclose(values, one_model.MOOD_VALUES)


def test_one_vocabulary_knows_all_words_of_all_tasks(cards):
    asked = questions.ask_all(cards)
    vocabulary = one_model.build_vocabulary(cards, asked)
    assert vocabulary.words[: 4 + len(TASKS) + 21] == [*SPECIAL_WORDS, *TASKS, *MOODS]
    texts = [("en", one.text) for one in asked] + [("en", one.answer) for one in asked]
    texts += [("en", text) for text in (*cards.captions, *cards.messages)]
    texts += [("zh", text) for text in cards.captions_zh]
    texts += [("en", text) for text in (*cards.summaries, *cards.note_texts) if text]
    for language, text in texts:
        assert UNK not in vocabulary.encode(preprocessing.tokenize(text, language)), text
    assert one_model.build_vocabulary(cards, asked).words == vocabulary.words


# Prompts, and what the loss sees


def words_of(row):
    return " ".join(VOCABULARY.words[number] for number in row)


def test_a_prompt_is_the_instruction_and_what_is_told():
    assert words_of(one_model.prompt("<ask>", "Is it NIGHT?", VOCABULARY)) == "<ask> is it night ?"
    assert words_of(one_model.prompt("<mood>", None, VOCABULARY)) == "<mood>"
    assert words_of(one_model.prompt("<ask>", "a cat", VOCABULARY)) == "<ask> a <unk>"
    padded = one_model.prompts("<ask>", ["it", "it is it"], VOCABULARY)
    assert [words_of(row) for row in padded] == ["<ask> it <pad> <pad>", "<ask> it is it"]
    longest = one_model.prompt("<ask>", "is " * (one_model.LONGEST_PROMPT - 1), VOCABULARY)
    assert len(longest) == one_model.LONGEST_PROMPT


@given(
    st.lists(st.sampled_from([*TASKS, *MOODS, *SPECIAL_WORDS, "＜mood＞", "it", " "]), max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_an_instruction_inside_of_a_text_is_none(parts):
    """Nor is any other word that only the course writes: a text makes ordinary words."""
    number, *told = one_model.prompt("<ask>", "is " + "".join(parts), VOCABULARY)
    assert VOCABULARY.words[number] == "<ask>"
    ours = {VOCABULARY.index[word] for word in (*TASKS, *MOODS, *SPECIAL_WORDS)} - {UNK}
    assert not ours & set(told)


def test_the_target_is_the_answer_one_word_ahead_and_nothing_of_the_prompt():
    words, target = one_model.with_answers(
        "<ask>", ["is it night", "it"], ["no", "a red face"], VOCABULARY
    )
    assert [words_of(row) for row in words] == [
        "<ask> is it night <bos> no",
        "<ask> it <bos> a red face",
    ]
    assert [words_of(row) for row in target] == [
        "<pad> <pad> <pad> <pad> no <eos>",
        "<pad> <pad> a red face <eos>",
    ]
    words, target = one_model.with_answers("<mood>", [None], ["<-0.3>"], VOCABULARY)
    assert [words_of(words[0]), words_of(target[0])] == [
        "<mood> <bos> <-0.3>",
        "<pad> <-0.3> <eos>",
    ]
    words, target = one_model.with_answers("<caption zh>", [None], ["一张红色的脸"], VOCABULARY)
    assert words_of(target[0]) == "<pad> 一张 红色 的 脸 <eos>"


def test_the_loss_asks_for_the_answers_words_alone():
    words, target = one_model.with_answers("<ask>", ASKED, ["no", "yes", "a red face"], VOCABULARY)
    scores = MODEL({**PICTURE, "words": words}).detach().requires_grad_()
    loss = writing.next_word_loss(scores, target)
    loss.backward()
    starts = preprocessing.lengths(one_model.prompts("<ask>", ASKED, VOCABULARY)).tolist()
    answers = torch.zeros_like(words, dtype=torch.bool)
    log_p, said = scores.log_softmax(-1), []
    for row, (start, answer) in enumerate(zip(starts, ["no", "yes", "a red face"], strict=True)):
        for at, word in enumerate([*answer.split(), "<eos>"], start):  # <bos> stands at `start`
            answers[row, at] = True
            said.append(log_p[row, at, VOCABULARY.index[word]])
    assert loss.item() == pytest.approx(-torch.stack(said).mean().item(), abs=1e-6)
    asked = scores.grad.abs().sum(-1)
    assert bool((asked[~answers] == 0).all())
    assert bool((asked[answers] > 0).all())
    whole = nn.functional.pad(words[:, 1:], (0, 1))  # the test itself: the next word, everywhere
    assert abs(writing.next_word_loss(scores, whole) - loss) > 0.01


def test_the_shuffled_picture_and_the_answer_do_not_leak_into_the_prompt():
    words = joined()
    before = MODEL({**PICTURE, "words": words})
    changed = words.clone()
    ends = preprocessing.lengths(PROMPTS)
    for row, end in enumerate(ends):
        changed[row, end + 2 :] = 7
    after = MODEL({**PICTURE, "words": changed})
    for row, end in enumerate(ends):
        assert torch.allclose(before[row, : end + 2], after[row, : end + 2], atol=1e-6)
        assert not torch.allclose(before[row, end + 2 :], after[row, end + 2 :], atol=1e-2)


# The model


def test_shapes_and_the_sizes_of_the_course():
    assert MODEL({**PICTURE, "words": PROMPTS}).shape == (*PROMPTS.shape, SIZE)
    course = one_model.OneModel(225)
    assert (len(course.blocks), course.blocks[0].heads, course.embedding.weight.shape[1]) == (
        3, 4, 96,
    )  # fmt: skip
    assert (course.alpha, course.beta) == (1, 1)
    assert {name: len(places) for name, places in course.places.items()} == {
        "picture": 16, "film": 8, "voice": 50, "words": 56,
    }  # fmt: skip
    raw = one_model.OneModel(SIZE, width=16, patch=768)
    assert raw({"picture": numbers(3, 16, 768), "words": PROMPTS}).isfinite().all()


def test_the_tokens_are_projected_scaled_placed_and_joined():
    model = new_model()
    model.alpha, model.beta = 0.5, -2.0
    x, known, prefix = model.tokens({**seen_as("voice"), "words": PROMPTS})
    voice = 0.5 * model.projectors["voice"](seen_as("voice")["voice"]) + model.places["voice"]
    words = -2 * model.embedding(PROMPTS) + model.places["words"][: PROMPTS.shape[1]]
    assert torch.allclose(x, torch.cat([voice, words], 1), atol=1e-5)
    assert prefix == 50
    assert known[:, :50].sum(1).tolist() == [50, 7, 31]
    assert torch.equal(known[:, 50:], PROMPTS != PAD)


@pytest.mark.parametrize("name", SEEN)
def test_forward_is_attention_as_the_masks_say(name):
    """The same, with the weights of `attention` and by hand."""
    inputs = {**seen_as(name), "words": joined()}
    x, known, prefix = MODEL.tokens(inputs)
    weights = MODEL.attention(inputs)
    length = x.shape[1]
    assert weights.shape == (3, 2, 4, length, length)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, 4, length), atol=1e-5)
    for row in range(3):
        for q in range(length):
            allowed = [k for k in range(length)
                       if k == q or known[row, k] and (k < prefix or k < q)]  # fmt: skip
            seen = weights[row, :, :, q] > 0
            assert bool((seen.sum(-1) == len(allowed)).all())
            assert bool(seen[..., allowed].all())
    for number, block in enumerate(MODEL.blocks):
        value = block.project(x)[2]
        x = block.finish(x, weights[:, number] @ value)
    wanted = MODEL.norm(x[:, prefix:]) @ MODEL.embedding.weight.T
    assert torch.allclose(MODEL(inputs), wanted, atol=1e-4)


@pytest.mark.parametrize("name", SEEN)
def test_prompts_of_several_lengths_in_one_batch_are_as_each_alone(name):
    inputs = {**seen_as(name), "words": joined()}
    together = MODEL(inputs)
    for row in range(3):
        one = {part: values[row : row + 1] for part, values in inputs.items()}
        length = int((one["words"] != PAD).sum())
        one["words"] = one["words"][:, :length]
        if name == "voice":
            one["voice"] = one["voice"][:, : int(one["frames"])]
        assert torch.allclose(MODEL(one)[0], together[row, :length], atol=1e-5)


def test_what_stands_after_the_end_of_a_voice_or_a_prompt_is_not_heard():
    inputs = {**seen_as("voice"), "words": joined()}
    noisy = {**inputs, "voice": inputs["voice"].clone()}
    for row, end in enumerate(inputs["frames"]):
        noisy["voice"][row, end:] = 99.0
    known = inputs["words"] != PAD
    assert torch.allclose(MODEL(noisy)[known], MODEL(inputs)[known], atol=1e-5)
    longer = {**inputs, "words": nn.functional.pad(inputs["words"], (0, 5))}
    assert torch.allclose(
        MODEL(longer)[:, : known.shape[1]][known], MODEL(inputs)[known], atol=1e-5
    )
    noisy["voice"][0, 49] = 0.0  # the test itself: the last frame of the longest is heard
    assert not torch.allclose(MODEL(noisy)[0], MODEL(inputs)[0], atol=1e-2)


def test_sentences_of_a_batch_do_not_see_each_other():
    inputs = {**PICTURE, "words": joined()}
    changed = {name: values.clone() for name, values in inputs.items()}
    changed["picture"][1], changed["words"][1, 1:4] = 5.0, 7
    assert torch.allclose(MODEL(changed)[[0, 2]], MODEL(inputs)[[0, 2]], atol=1e-6)
    assert not torch.allclose(MODEL(changed)[1], MODEL(inputs)[1], atol=1e-2)
    turned = {name: values[[2, 0, 1]] for name, values in inputs.items()}
    assert torch.allclose(MODEL(turned), MODEL(inputs)[[2, 0, 1]], atol=1e-5)


def test_every_parameter_gets_a_gradient():
    model = new_model().train()
    words, target = one_model.with_answers("<ask>", ASKED, ["no", "yes", "a red face"], VOCABULARY)
    losses = [
        writing.next_word_loss(model({**seen_as(name), "words": words}), target) for name in SEEN
    ]
    torch.stack(losses).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    for name, (most, _) in one_model.SIZES.items():
        used = model.places[name].grad.abs().sum(1) > 0
        assert len(used) == most
        assert bool(used.all()), name


def test_alpha_and_beta_scale_what_is_seen_and_the_words():
    inputs, other = {**PICTURE, "words": joined()}, seen_as("picture", seed=9)
    model = new_model()
    model.alpha = 0.0  # nothing of the picture is left
    assert torch.allclose(model(inputs), model({**inputs, **other}), atol=1e-6)
    assert not torch.allclose(MODEL(inputs), MODEL({**inputs, **other}), atol=1e-2)
    model.alpha = 2.5
    scaled = copy.deepcopy(MODEL)
    scaled.projectors["picture"].weight.data *= 2.5
    scaled.projectors["picture"].bias.data *= 2.5
    assert torch.allclose(model(inputs), scaled(inputs), atol=1e-5)
    model.alpha, model.beta = 1.0, 0.0  # nothing of the words is left, but for how many they are
    known = joined() != PAD
    reworded = {**inputs, "words": torch.where(known, joined().roll(1, 0).clamp(min=4), PAD)}
    assert torch.allclose(model(inputs), model(reworded), atol=1e-6)
    assert not torch.allclose(MODEL(inputs)[known], MODEL(reworded)[known], atol=1e-2)
    assert torch.allclose(
        stepped(model, {**PICTURE, "words": PROMPTS}), of_answers(model(inputs)), atol=1e-5
    )


# Places


def last(model, words, picture=PICTURE):
    """The scores after <bos>."""
    told = torch.cat([words, torch.full((len(words), 1), BOS)], 1)
    return model({**picture, "words": told})[:, -1]


SENTENCE = one_model.prompts("<ask>", ["the red face was happy with a fish"] * 3, VOCABULARY)
SHUFFLED = SENTENCE[:, [0, 4, 2, 8, 1, 6, 3, 7, 5]]
PATCHES = {"picture": PICTURE["picture"].roll(5, 1).flip(1)}


def test_without_places_a_shuffled_sentence_gives_the_same_answer():
    """To one block: in two, the causal mask itself tells the second how much each has seen."""
    with_places, without = (new_model(blocks=1, positions=on) for on in (1, 0))
    assert torch.allclose(last(without, SENTENCE), last(without, SHUFFLED), atol=1e-5)
    assert not torch.allclose(last(with_places, SENTENCE), last(with_places, SHUFFLED), atol=1e-2)
    two = new_model(blocks=2, positions=0)
    assert not torch.allclose(last(two, SENTENCE), last(two, SHUFFLED), atol=1e-2)


def test_without_places_shuffled_patches_give_the_same_answer():
    """To any number of blocks, since a picture's tokens all see each other."""
    with_places, without = (new_model(blocks=2, positions=on) for on in (1, 0))
    words = SENTENCE
    assert torch.allclose(last(without, words), last(without, words, PATCHES), atol=1e-4)
    assert not torch.allclose(
        last(with_places, words), last(with_places, words, PATCHES), atol=1e-2
    )


def test_first_scores_are_those_of_the_first_step():
    scores = one_model.first_scores(MODEL, {**PICTURE, "words": SENTENCE})
    assert torch.allclose(scores, last(MODEL, SENTENCE), atol=1e-4)
    with pytest.raises(ValueError, match="without words: pass what one_model.ask gives"):
        one_model.first_scores(MODEL, PICTURE)


def test_parts_can_be_taken_out():
    for part in ("residual", "norm"):
        whole, without = new_model(), new_model(**{part: 0})
        assert all(block.residual for block in whole.blocks)
        if part == "residual":
            assert not any(block.residual for block in without.blocks)
        else:
            assert not any(isinstance(one, nn.LayerNorm) for one in without.modules())
            assert any(isinstance(one, nn.LayerNorm) for one in whole.modules())
        seen = {"picture": PICTURE["picture"].double()}
        without.double()  # its numbers may be in the hundreds
        wanted = of_answers(without({**seen, "words": joined()}))
        assert torch.allclose(stepped(without, {**seen, "words": PROMPTS}), wanted, atol=1e-9)
    without = new_model(positions=0)
    before = last(without, SENTENCE)
    for places in without.places.values():
        places.data += 1
    assert torch.equal(last(without, SENTENCE), before)


# The cache


@pytest.mark.parametrize("positions", [1, 0])
@pytest.mark.parametrize("name", SEEN)
def test_word_by_word_with_the_cache_is_reading_everything_at_once(name, positions):
    model, seen = new_model(positions=positions), seen_as(name)
    at_once = of_answers(model({**seen, "words": joined()}))
    assert torch.allclose(stepped(model, {**seen, "words": PROMPTS}), at_once, atol=1e-5)


def test_the_state_says_where_each_sentence_stands():
    keys, values, known, place = MODEL.start({**seen_as("voice"), "words": PROMPTS})
    length = 50 + PROMPTS.shape[1]
    assert keys.shape == values.shape == (3, 2, 4, length, 4)
    assert known.sum(1).tolist() == [50 + 5, 7 + 5, 31 + 4]
    assert place.tolist() == [5, 5, 4]
    _, state = MODEL.step(ANSWERS[:, 0], (keys, values, known, place))
    assert state[0].shape == state[1].shape == (3, 2, 4, length + 1, 4)
    assert state[2].sum(1).tolist() == [50 + 6, 7 + 6, 31 + 5]
    assert state[3].tolist() == [6, 6, 5]
    assert torch.equal(state[0][..., :length, :], keys)


def test_a_cache_that_forgets_places_is_seen():
    state = MODEL.start({**PICTURE, "words": PROMPTS})
    right, _ = MODEL.step(ANSWERS[:, 0], state)
    for wrong in (torch.zeros(3, dtype=torch.long), state[3] + 1):
        assert not torch.allclose(
            MODEL.step(ANSWERS[:, 0], (*state[:3], wrong))[0], right, atol=1e-2
        )


EQUAL = one_model.prompts("<ask>", ["is it night", "the red face", "what is it"], VOCABULARY)


@pytest.mark.parametrize("name", SEEN)
def test_reading_again_at_each_step_is_the_same(name):
    inputs = {**seen_as(name), "words": EQUAL}
    again = one_model.ReadAgain(MODEL)
    state, other = MODEL.start(inputs), again.start(inputs)
    for words in torch.cat([ANSWERS, torch.tensor([[PAD, 4, EOS]]).T, ANSWERS], 1).T:
        scores, state = MODEL.step(words, state)
        wanted, other = again.step(words, other)
        assert torch.allclose(scores, wanted, atol=1e-4)
    with training.evaluating(MODEL):
        written = writing.greedy(MODEL, MODEL.start(inputs))
        assert torch.equal(written, writing.greedy(again, again.start(inputs)))
    assert len(written.unique()) > 2  # it says something


def test_a_batch_is_written_as_each_alone():
    inputs = {**seen_as("voice"), "words": PROMPTS}
    together = writing.greedy(MODEL, MODEL.start(inputs))
    for row, prompt in enumerate(PROMPTS):
        one = {name: values[row : row + 1] for name, values in inputs.items()}
        one["words"] = prompt[prompt != PAD][None]
        alone = writing.greedy(MODEL, MODEL.start(one))[0]
        assert torch.equal(together[row, : len(alone)], alone)


def test_a_beam_writes_with_the_cache_as_without():
    inputs = {"picture": PICTURE["picture"][:1], "words": EQUAL[:1]}
    again = one_model.ReadAgain(MODEL)
    with torch.no_grad():
        ours = writing.beam_search(MODEL, MODEL.start(inputs), width=3, longest=6)
        theirs = writing.beam_search(again, again.start(inputs), width=3, longest=6)
        assert [words for words, _ in ours] == [words for words, _ in theirs]
        for (words, log_p), (_, other) in zip(ours, theirs, strict=True):
            assert log_p == pytest.approx(other, abs=1e-4)
            told = torch.tensor([[*EQUAL[0].tolist(), BOS, *words]])
            log = MODEL({**inputs, "words": told})[0, EQUAL.shape[1] :].log_softmax(-1)
            said = words if len(words) == 6 else [*words, EOS]  # 6: stopped before its end
            assert log[range(len(said)), said].sum().item() == pytest.approx(log_p, abs=1e-3)


def test_the_longest_prompt_and_the_longest_answer_fit():
    told = one_model.prompts("<ask>", ["is " * (one_model.LONGEST_PROMPT - 1)], VOCABULARY)
    state = MODEL.start({"words": told})
    for _ in range(writing.LONGEST):
        _, state = MODEL.step(torch.tensor([4]), state)
    with pytest.raises(ValueError, match="56 places, and this is word 57: give a shorter prompt"):
        MODEL.step(torch.tensor([4]), state)


# Answers


def test_an_answer_is_what_is_written_greedily_in_the_tasks_language():
    model = new_model().train()
    for task, texts in (("<ask>", ASKED), ("<caption zh>", None), ("<caption en>", None)):
        told = one_model.ask(model, task, PICTURE, VOCABULARY, texts)
        wanted = one_model.prompts(task, texts or [None] * 3, VOCABULARY)
        assert torch.equal(told["words"], wanted)
        assert torch.equal(told["picture"], PICTURE["picture"])
        written = writing.greedy(model, model.start(told))
        said = one_model.answer(model, task, PICTURE, VOCABULARY, texts)
        assert said == writing.read_out(written, VOCABULARY, TASKS[task].writes)
        assert all((" " in one) == (TASKS[task].writes != "zh") for one in said if len(one) > 9)
    assert model.training
    assert len(one_model.answer(model, "<mood>", PICTURE, VOCABULARY)) == 3
    assert one_model.answer(model, "<mood>", {}, VOCABULARY, ASKED, blind=True)
    for name, task in (("film", "<film>"), ("voice", "<transcribe>")):
        assert len(one_model.answer(model, task, seen_as(name), VOCABULARY)) == 3


@pytest.mark.parametrize("told", [None, ASKED])
@pytest.mark.parametrize("seen", [PICTURE, {}])
def test_a_mood_is_the_mean_of_all_moods_by_their_probability(seen, told):
    if not seen and told is None:
        with pytest.raises(ValueError, match="<mood> reads a text .* pass texts"):
            one_model.read_mood(MODEL, seen, VOCABULARY, told)
        return
    found = one_model.read_mood(MODEL, seen, VOCABULARY, told)
    words, _ = one_model.with_answers("<mood>", told or [None] * 3, ["<+0.0>"] * 3, VOCABULARY)
    scores = MODEL({**seen, "words": words})
    starts = (words == BOS).int().argmax(1)
    first = VOCABULARY.index["<-1.0>"]
    chances = scores[range(3), starts, first : first + 21].softmax(1)
    wanted = sum(chance * (-1 + k / 10) for k, chance in enumerate(chances.T))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not found.requires_grad


def test_weights_of_another_vocabulary_are_refused():
    model = new_model()
    one_model.answer(model, "<caption en>", PICTURE, OTHER)  # nobody has said which words it knows
    assert model.knows(VOCABULARY) is model
    one_model.answer(model, "<caption en>", PICTURE, VOCABULARY)
    shorter = preprocessing.Vocabulary(VOCABULARY.words[:-1])
    turned = preprocessing.Vocabulary([*VOCABULARY.words[:-2], *VOCABULARY.words[:-3:-1]])
    loaded = new_model(seed=1)
    loaded.load_state_dict(model.state_dict())
    for one in (model, loaded):
        for words in (OTHER, shorter, turned):
            for call in (
                lambda one=one, words=words: one_model.answer(one, "<caption en>", PICTURE, words),
                lambda one=one, words=words: one_model.read_mood(one, PICTURE, words),
                lambda one=one, words=words: one.knows(words),
            ):
                with pytest.raises(ValueError, match=f"{SIZE} words are those of another .*: load"):
                    call()
    assert one_model.fingerprint(VOCABULARY) != one_model.fingerprint(OTHER)
    assert one_model.fingerprint(preprocessing.Vocabulary(VOCABULARY.words)) == int(
        loaded.vocabulary
    )


# What it learns from


def some_examples(task, count=5, cards=3):
    """Examples whose words and pictures say which row and which card they are."""
    texts = [" ".join(["it"] * (1 + row)) for row in range(count)] if TASKS[task].reads else None
    answers = [MOODS[row] for row in range(count)]
    answers = answers if task == "<mood>" else ["red face " * row + "no" for row in range(count)]
    if TASKS[task].writes == "zh":
        answers = ["脸"] * count
    seen = {"picture": torch.arange(float(cards)).view(cards, 1, 1).expand(cards, 16, 128)}
    card = torch.arange(count) % cards
    return one_model.examples(task, seen, texts, answers, VOCABULARY, card)


def test_a_batch_takes_its_rows_their_cards_and_no_more_words_than_it_needs():
    made = some_examples("<ask>")
    assert len(made) == 5
    rows = torch.tensor([3, 0, 3])
    inputs, target = made.take(rows)
    assert inputs["picture"][:, 0, 0].tolist() == [0, 0, 0]
    assert made.take(torch.tensor([4, 1, 2]))[0]["picture"][:, 0, 0].tolist() == [1, 1, 2]
    words, wanted = one_model.with_answers(
        "<ask>", ["it it it it", "it"], ["red face red face red face no", "no"], VOCABULARY
    )
    assert torch.equal(inputs["words"], words[[0, 1, 0]])
    assert torch.equal(target, wanted[[0, 1, 0]])
    blind, same = made.take(rows, blind=True)
    assert list(blind) == ["words"]
    assert torch.equal(blind["words"], inputs["words"])
    assert torch.equal(same, target)


def batches(tasks=("<ask>", "<mood>"), steps=40, **options):
    made = one_model.Batches([some_examples(one) for one in tasks], steps, 4, **options)
    return made, list(made)


def same(ours, theirs):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) and torch.equal(x, y)
        for (a, x), (b, y) in zip(ours, theirs, strict=True)
    )


def instruction(inputs):
    first = inputs["words"][:, 0].unique()
    assert len(first) == 1, "each batch is of one task"
    return VOCABULARY.words[first]


def test_the_same_seed_gives_the_same_batches_and_the_next_epoch_others():
    made, first = batches(seed=3)
    assert len(made) == len(first) == 40
    again, other = batches(seed=3)[1], batches(seed=4)[1]
    assert same(first, again)
    second = list(made)
    assert not same(first[:5], second[:5])
    assert not same(first[:5], other[:5])
    state = torch.get_rng_state()
    list(made)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(len(target) == 4 for _, target in first)


def test_tasks_come_by_their_shares_and_two_of_one_task_share_its_share():
    tasks = ("<ask>", "<mood>", "<mood>", "<caption en>")
    _, drawn = batches(tasks, 1500)
    came = [instruction(inputs) for inputs, _ in drawn]
    total = sum(one_model.SHARES[task] for task in set(tasks))
    for task in set(tasks):
        share = one_model.SHARES[task] / total
        spread = math.sqrt(share * (1 - share) / 1500)
        assert came.count(task) / 1500 == pytest.approx(share, abs=4 * spread)


def test_every_row_is_drawn_and_only_tasks_that_can_do_without_are_blindfolded():
    tasks = ("<ask>", "<mood>", "<translate>")
    _, drawn = batches(tasks, 400, blindfold=0.3)
    hidden = {task: [] for task in tasks}
    for inputs, _ in drawn:
        hidden[instruction(inputs)].append("picture" not in inputs)
    assert not any(hidden["<ask>"])
    for task in one_model.BLIND:
        count = len(hidden[task])
        share = sum(hidden[task]) / count
        assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / count))
    lengths = {int(n) for inputs, _ in drawn if instruction(inputs) == "<ask>"
               for n in preprocessing.lengths(inputs["words"])}  # fmt: skip
    whole = preprocessing.lengths(some_examples("<ask>").words)
    assert lengths == set(whole.tolist())
    assert not any("picture" not in inputs for inputs, _ in batches(tasks, 60, blindfold=0)[1])
    every = batches(("<mood>",), 9, blindfold=1)[1]
    assert all("picture" not in inputs for inputs, _ in every)


def test_training_learns_and_the_same_seed_learns_the_same(monkeypatch):
    monkeypatch.setattr(one_model, "STEPS", 8)
    several = [some_examples("<ask>"), some_examples("<mood>")]

    def trained(seed, epochs):
        torch.manual_seed(0)
        model = one_model.OneModel(SIZE, width=16, blocks=1)
        return model, one_model.train(model, several, epochs, seed, batch_size=8).train_loss

    model, losses = trained(0, 3)
    assert len(losses) == 3
    assert losses[-1] < 0.9 * losses[0]
    assert not model.training
    first, again, other = trained(0, 1)[1], trained(0, 1)[1], trained(1, 1)[1]
    assert again == first
    assert other != first


def test_pictures_make_examples_of_five_tasks(cards):
    asked = questions.ask_all(cards, 2, seed=7)
    vocabulary = one_model.build_vocabulary(cards, asked)
    picture = numbers(4, 16, 128)
    made = one_model.picture_examples(cards, picture, vocabulary, 2, seed=7)
    simple = one_model.simple_questions(cards, seed=7)
    asked += simple
    tasks = ["<caption en>", "<caption zh>", "<translate>", "<mood>", "<mood>", "<ask>"]
    assert [one.task for one in made] == tasks
    assert [len(one) for one in made] == [4, 4, 4, 4, 4, 8 + 16]
    wanted = {
        "<caption en>": (None, cards.captions),
        "<caption zh>": (None, cards.captions_zh),
        "<translate>": (cards.captions, cards.captions_zh),
        "<mood>": (cards.messages, [one_model.mood_word(mood) for mood in cards.mood.tolist()]),
        "<ask>": ([one.text for one in asked], [one.answer for one in asked]),
    }
    for one in (*made[:4], made[5]):
        texts, answers = wanted[one.task]
        words, target = one_model.with_answers(one.task, texts or [None] * 4, answers, vocabulary)
        assert torch.equal(one.words, words)
        assert torch.equal(one.target, target)
        assert torch.equal(one.seen["picture"], picture)
    assert preprocessing.lengths(made[4].words).tolist() == [3] * 4  # the mood without its message
    assert made[5].card.tolist() == [one.place for one in asked]
    without = one_model.picture_examples(cards, picture, vocabulary, 2, seed=7, simple=0)
    assert len(without[5]) == 8
    assert made[0].card.tolist() == [0, 1, 2, 3]


def test_simple_questions_ask_for_one_thing_and_half_are_to_be_answered_with_yes():
    cards = datasets.of_cards(postcards.draw(300, seed=12))
    asked = one_model.simple_questions(cards, 3, seed=1)
    assert [one.place for one in asked] == [place for place in range(300) for _ in range(3)]
    for one in asked:
        card = cards.cards[one.place]
        if one.kind == "colour":
            true = one.text == f"is the face {card.colour}?"
        else:
            true = one.text == f"{questions.SAY_WEATHER[card.weather]}?"
        assert one.answer == ("yes" if true else "no"), (one, card)
        assert " and " not in one.text
    for counted in ([one.answer == "yes" for one in asked], [o.kind == "colour" for o in asked]):
        assert 0.42 < sum(counted) / len(asked) < 0.58
    assert asked == one_model.simple_questions(cards, 3, seed=1)
    assert asked != one_model.simple_questions(cards, 3, seed=2)
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="per_card"):
            one_model.simple_questions(cards, wrong)


def test_films_and_voices_make_examples(monkeypatch):
    (card,) = postcards.draw(1, 1)
    to = next(one for one in postcards.WEATHERS if one != card.weather)
    card = dataclasses.replace(card, change="weather", change_to=to)
    filmed = SimpleNamespace(clips=[torch.rand(8, 3, 64, 64)], cards=[card])
    noted = SimpleNamespace(
        notes=[0.1 * numbers(20_000), 0.1 * numbers(30_000)], note_texts=["red fish", "a blue face"]
    )
    monkeypatch.setattr(datasets, "load_postcards", lambda split, parts: (split, parts))
    monkeypatch.setattr(video, "filmed", {("train", ("clip",)): filmed}.get)
    monkeypatch.setattr(speech, "noted", {"train": noted}.get)
    frames, told = video.turned_around(torch.stack(filmed.clips), filmed.cards, 0)
    words = {word for text in (*told, *noted.note_texts) for word in text.split()}
    vocabulary = preprocessing.Vocabulary([*SPECIAL_WORDS, *TASKS, *sorted(words)])
    films = one_model.film_examples(0, vocabulary)
    assert films.task == "<film>"
    assert torch.equal(films.seen["film"], frames)
    _, target = one_model.with_answers("<film>", [None] * 4, told, vocabulary)
    assert torch.equal(films.target, target)
    assert len({tuple(row) for row in target.tolist()}) > 1

    voices = one_model.voice_examples(1, vocabulary, times=3)
    assert voices.task == "<transcribe>"
    assert len(voices) == 6
    assert voices.seen["voice"].shape == (6, 50, 128)
    assert not torch.equal(voices.seen["voice"][2:4], voices.seen["voice"][4:])
    _, target = one_model.with_answers("<transcribe>", [None] * 6, noted.note_texts * 3, vocabulary)
    assert torch.equal(voices.target, target)
    as_is = one_model.voice_examples(0, vocabulary, times=1)
    plain = one_model.voice_frames(speech.mels_of(noted.notes), 0)
    assert torch.equal(as_is.seen["voice"], plain["voice"])
    assert torch.equal(as_is.seen["frames"], plain["frames"])
    again = one_model.voice_examples(1, vocabulary, times=3)
    assert torch.equal(again.seen["voice"], voices.seen["voice"])
    heard = one_model.voice_frames(speech.mels_of(noted.notes), 1)  # by the seed's recogniser
    assert torch.equal(voices.seen["voice"][:2], heard["voice"])


# What is refused

FILM, VOICE = seen_as("film"), seen_as("voice")
IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
NAN = PICTURE["picture"].clone()
NAN[1, 2, 3] = math.nan


def ask(task="<ask>", seen=PICTURE, texts=None, vocabulary=VOCABULARY, blind=False, model=MODEL):
    return one_model.answer(model, task, seen, vocabulary, texts, blind)


def read(words=PROMPTS, **seen):
    return MODEL({"words": words, **seen})


def step(words=ANSWERS[:, 0], state=None, model=MODEL):
    return model.step(words, MODEL.start({"words": PROMPTS}) if state is None else state)


def with_weight(name, value):
    model = copy.deepcopy(MODEL)
    setattr(model, name, value)
    return model


def example(seen=PICTURE, texts=("it",), answers=("no",), card=None, task="<ask>"):
    return one_model.examples(task, seen, texts, answers, VOCABULARY, card)


def answers(task, answer):
    text = "is it" if TASKS.get(task, TASKS["<ask>"]).reads else None
    return one_model.with_answers(task, [text], answer, VOCABULARY)


def draw(several=None, steps=3, **options):
    return one_model.Batches(
        [some_examples("<ask>")] if several is None else several, steps, **options
    )


REFUSED = {
    # the instruction, and what it goes with
    "Unknown instruction '<sing>': use one of \"<caption en>\"": lambda: ask("<sing>"),
    "Unknown instruction 'ask': use one of": lambda: ask("ask"),
    "Unknown instruction None: use": lambda: ask(None),
    "Unknown instruction '<speak>': use": lambda: one_model.prompt("<speak>", "it", VOCABULARY),
    "Unknown instruction '<draw>': use": lambda: answers("<draw>", ["no"]),
    "Unknown instruction '<dream>': use": lambda: example(task="<dream>"),
    "has no instruction <ask>: make it with": lambda: one_model.prompt(
        "<ask>", "it", preprocessing.Vocabulary([*SPECIAL_WORDS, "it"])
    ),
    "<caption en> is without its picture: pass": lambda: ask("<caption en>", {}),
    "<film> is without its film: pass": lambda: ask("<film>", PICTURE),
    "<transcribe> is without its voice: pass": lambda: ask("<transcribe>", {}),
    "<ask> got None as what is seen: pass": lambda: ask("<ask>", None, ASKED),
    "<ask> got a tensor of shape .* as what is seen: pass": lambda: ask(seen=IMAGES, texts=ASKED),
    "what <caption en> sees 'film': use one of \"picture\"": lambda: ask(
        "<caption en>", {**PICTURE, **FILM}
    ),
    "what <caption zh> sees 'words': use": lambda: ask(
        "<caption zh>", {**PICTURE, "words": PROMPTS}
    ),
    "what <film> sees 'frames': use": lambda: ask("<film>", {**FILM, "frames": VOICE["frames"]}),
    '"picture" is None and must be a tensor': lambda: ask("<caption en>", {"picture": None}),
    "got 0 of picture: pass at least one": lambda: ask(
        "<caption en>", {"picture": PICTURE["picture"][:0]}
    ),
    'comes with a voice alone .here with "voice".: pass': lambda: ask(
        "<transcribe>", {"voice": VOICE["voice"]}
    ),
    "<caption en> cannot do without its picture: pass it, or try": lambda: ask(
        "<caption en>", {}, None, blind=True
    ),
    "<mood> got picture although it is blind: pass {}": lambda: ask(
        "<mood>", texts=ASKED, blind=True
    ),
    "<mood> got film although": lambda: ask("<mood>", FILM, ASKED, blind=True),
    "blind is the text 'yes': give True or False": lambda: ask("<mood>", {}, ASKED, blind="yes"),
    "<mood> is blind, and one of its texts is None": lambda: ask(
        "<mood>", {}, ["it", None], blind=True
    ),
    "<translate> reads a text for each picture: pass texts": lambda: ask(
        "<translate>", {}, None, blind=True
    ),
    # the texts
    "<ask> reads a text for each picture: pass texts": lambda: ask(),
    "<ask> reads a text, and got None: pass": lambda: ask(texts=[None] * 3),
    "<ask> reads a text, and got the number 3: pass": lambda: ask(texts=[3] * 3),
    "<caption zh> reads no text, and got 'a face': leave the text out": lambda: ask(
        "<caption zh>", texts=["a face"] * 3
    ),
    "<ask> needs a list as texts, and got the text 'is it'": lambda: ask(texts="is it"),
    "<mood> needs a list as texts, and got the text": lambda: one_model.read_mood(
        MODEL, {}, VOCABULARY, "a red face"
    ),
    "<ask> needs a list as texts, and got the number 4": lambda: ask(texts=4),
    "<ask> has nothing to do, since texts is empty": lambda: ask(texts=[]),
    "<ask> got 3 of picture and 2 texts: pass as many": lambda: ask(texts=ASKED[:2]),
    "The text is empty: write": lambda: ask(texts=["is it", "", "is"]),
    'knows no word of "qwerty zxcv": write': lambda: ask(texts=["is it", "qwerty zxcv", "is"]),
    'knows no word of "<mood>": write': lambda: ask(texts=["<mood>"] * 3),
    r'knows no word of "\?, \?": write': lambda: ask(texts=["?, ?"] * 3),
    'knows no word of "红色的脸": write': lambda: ask(texts=["红色的脸"] * 3),
    "at most 32 words, .* makes 33: shorten it": lambda: ask(texts=["is it", "is " * 32, "is"]),
    "prompts needs a list as texts, and got the text": lambda: one_model.prompts(
        "<ask>", "is it", VOCABULARY
    ),
    "prompts has nothing to do": lambda: one_model.prompts("<ask>", [], VOCABULARY),
    # the answers
    "2 of texts and 1 of answers: pass": lambda: one_model.with_answers(
        "<ask>", ["is", "it"], ["no"], VOCABULARY
    ),
    "with_answers needs a list as answers, and got the text 'no'": lambda: answers("<ask>", "no"),
    r"answers\[0\] is None: pass": lambda: answers("<ask>", [None]),
    'knows no word of "zxcv": write': lambda: answers("<ask>", ["zxcv"]),
    "Unknown mood '0.2': use one of \"<-1.0>\"": lambda: answers("<mood>", ["0.2"]),
    "Unknown mood 'no': use": lambda: answers("<mood>", ["no"]),
    "at most 23 words, .* makes 24: shorten": lambda: answers("<ask>", ["face " * 24]),
    "mood is between -1 and 1, and this is 2: divide": lambda: one_model.mood_word(2),
    "mood is nan: give a finite number": lambda: one_model.mood_word(math.nan),
    "mood is the text '0.2': give": lambda: one_model.mood_word("0.2"),
    # the model, and its vocabulary
    "The vocabulary is None: pass the Vocabulary": lambda: ask("<caption en>", vocabulary=None),
    "The vocabulary is a list: pass": lambda: MODEL.knows(VOCABULARY.words),
    "The model is None: pass a OneModel": lambda: ask("<caption en>", model=None),
    "The model is a Linear: pass": lambda: ask("<caption en>", model=nn.Linear(2, 2)),
    "vocabulary_size is 3: give a whole number of at least 4": lambda: one_model.OneModel(3),
    "vocabulary_size is a Vocabulary: give": lambda: one_model.OneModel(VOCABULARY),
    "width is 0: give": lambda: one_model.OneModel(50, 0),
    "width of 15 cannot be divided among 4 heads: choose": lambda: one_model.OneModel(50, 15),
    "blocks is 0: give": lambda: one_model.OneModel(50, 16, 0),
    "heads is 0: give": lambda: one_model.OneModel(50, 16, heads=0),
    "patch is 0: give": lambda: one_model.OneModel(50, 16, patch=0),
    # what the model reads
    r"and got a tensor of shape \(3, 16, 128\) without words: pass": lambda: MODEL(
        PICTURE["picture"]
    ),
    "and got a dict without words: pass": lambda: MODEL(PICTURE),
    "The tokens is a list": lambda: read([[4, 5]]),
    "OneModel needs the numbers of each word.* got float32": lambda: read(PROMPTS.float()),
    r"got int64 of shape \(5,\): pass": lambda: read(PROMPTS[0]),
    f"number 900, and OneModel knows {SIZE} words": lambda: read(PROMPTS.clamp(min=900)),
    "number -1, and OneModel knows": lambda: read(PROMPTS - 1),
    r"begins with a word, and not all of these \(3, 6\) do: make": lambda: read(
        nn.functional.pad(PROMPTS, (1, 0))
    ),
    r"begins with a word, and not all of these \(0, 5\)": lambda: read(PROMPTS[:0]),
    r"begins with a word, and not all of these \(3, 0\)": lambda: read(PROMPTS[:, :0]),
    "learned 56 places for words, and these are 60: shorten": lambda: read(PROMPTS.repeat(1, 12)),
    "Unknown modality 'image': use one of \"picture\"": lambda: read(image=PICTURE["picture"]),
    "sees one thing at a time, and got picture and film: pass one": lambda: read(**PICTURE, **FILM),
    '"picture" is a list and must be a tensor': lambda: read(picture=[[0.0]]),
    r"this is \(3, 3, 64, 64\) of float32: pass": lambda: read(picture=IMAGES),
    r"this is \(2, 16, 128\) of float32: pass": lambda: read(picture=PICTURE["picture"][:2]),
    r"this is \(3, 16, 100\) of": lambda: read(picture=PICTURE["picture"][..., :100]),
    r"this is \(3, 17, 128\) of": lambda: read(picture=numbers(3, 17, 128)),
    r"this is \(3, 0, 128\) of": lambda: read(picture=PICTURE["picture"][:, :0]),
    r"this is \(3, 16, 128\) of int64": lambda: read(picture=PICTURE["picture"].long()),
    r'"film" of 3 prompts is \(3, 8, 512\) .* this is \(3, 9, 512\)': lambda: read(
        film=numbers(3, 9, 512)
    ),
    '"picture" hold nan in example 1': lambda: read(picture=NAN),
    '"film" hold -?inf in example 0': lambda: read(film=FILM["film"] / 0),
    '"picture" hold nan in example 1 .counted': lambda: ask("<caption en>", {"picture": NAN}),
    'comes with a voice alone .here with "picture"': lambda: read(
        **PICTURE, frames=VOICE["frames"]
    ),
    'comes with a voice alone .here with "words"': lambda: read(frames=VOICE["frames"]),
    '"frames" is a list and must be a tensor': lambda: read(**VOICE | {"frames": [50] * 3}),
    r"how long each of 3 voices is.* got int64 of shape \(2,\): pass": lambda: read(
        **VOICE | {"frames": VOICE["frames"][:2]}
    ),
    r"got int64 of shape \(3, 1\): pass": lambda: read(
        **VOICE | {"frames": VOICE["frames"][:, None]}
    ),
    r"got float32 of shape \(3,\): pass": lambda: read(**VOICE | {"frames": torch.ones(3)}),
    '"frames" goes from 6 to 49, and a voice here has 1 to 48: pass': lambda: read(
        frames=VOICE["frames"] - 1, voice=VOICE["voice"][:, :48]
    ),
    '"frames" goes from 0 to 43, and': lambda: read(**VOICE | {"frames": VOICE["frames"] - 7}),
    "alpha is nan: give a finite number": lambda: with_weight("alpha", math.nan)(
        {**PICTURE, "words": PROMPTS}
    ),
    "alpha is the text '1': give": lambda: with_weight("alpha", "1")({**PICTURE, "words": PROMPTS}),
    "beta is None: give": lambda: with_weight("beta", None)({"words": PROMPTS}),
    "beta is inf: give": lambda: step(model=with_weight("beta", math.inf)),
    # the cache
    "The state is None and must be": lambda: MODEL.step(ANSWERS[:, 0], None),
    r"holds four tensors, the first \(B, 2, 4, T, 4\), and this one has 1, .* \(3, 5\)": lambda: (
        step(state=(torch.ones(3, 5),))
    ),
    r"the first \(B, 1, 4, T, 4\), and this one has 4": lambda: step(model=new_model(blocks=1)),
    r"the first \(B, 2, 2, T, 8\), and this one has 4": lambda: step(model=new_model(heads=2)),
    r"one word for each of 3 sentences, \(3,\), and got \(2,\): pass": lambda: step(ANSWERS[:2, 0]),
    r"for each of 3 sentences, \(3,\), and got \(1,\)": lambda: step(ANSWERS[:1, 0]),
    r"for each of 3 sentences, \(3,\), and got \(3, 1\)": lambda: step(ANSWERS[:, :1]),
    "words is the number 2 and must be": lambda: step(2),
    "number 999, and OneModel": lambda: step(torch.full((3,), 999)),
    "got float32 of shape .3, 1.": lambda: step(torch.ones(3)),
    "prompts of one length, and these have 4 to 5 words: pass": lambda: one_model.ReadAgain(
        MODEL
    ).start({"words": PROMPTS[:, :5]}),
    # what it learns from
    "number 9, and examples knows 3 places": lambda: example(card=torch.tensor([9])),
    r"each of the 1 rows, and got places of shape \(2,\)": lambda: example(
        card=torch.tensor([1, 2])
    ),
    "number 3, and examples knows 3 places": lambda: example(texts=["it"] * 4, answers=["no"] * 4),
    "<ask> is without its picture": lambda: example({}),
    "<ask> reads a text, and got None": lambda: example(texts=None),
    "examples has nothing to do, since answers is empty": lambda: example(texts=None, answers=[]),
    "Batches has nothing to do, since several is empty": lambda: draw([]),
    "several Examples, and got a tensor of shape": lambda: draw([IMAGES]),
    "needs a list as several, and got an Examples": lambda: draw(some_examples("<ask>")),
    "Unknown instruction '<hum>': use": lambda: draw(
        [one_model.Examples("<hum>", PICTURE, torch.arange(1), PROMPTS, PROMPTS)]
    ),
    "steps is 0: give": lambda: draw(steps=0),
    "batch_size is 0: give": lambda: draw(batch_size=0),
    "seed is -1: give": lambda: draw(seed=-1),
    "blindfold is 2, and is a share: choose one from 0 to 1": lambda: draw(blindfold=2),
    "blindfold is nan: give": lambda: draw(blindfold=math.nan),
    "blindfold is the text": lambda: draw(blindfold="half"),
    "Batches has nothing": lambda: one_model.train(MODEL, [], 1),
    # pictures and voices
    "raw_patches needs images of shape .B, 3, 64, 64. and got .1, 3, 32, 32.": lambda: (
        one_model.raw_patches(torch.rand(1, 3, 32, 32))
    ),
    "raw_patches needs images of shape .* and got .3, 64, 64.": lambda: one_model.raw_patches(
        IMAGES[0]
    ),
    "raw_patches needs pictures with numbers from 0 to 1 .* uint8": lambda: one_model.raw_patches(
        (255 * IMAGES).byte()
    ),
    "divide by 255": lambda: one_model.picture_patches(255 * IMAGES),
    "needs images of shape .* got .3, 64, 64.": lambda: one_model.picture_patches(IMAGES[0]),
    'got a dict without "mel" and "frames": pass speech.mels_of': lambda: one_model.voice_frames(
        VOICE
    ),
    '"mel" hold nan in example 0': lambda: one_model.voice_frames(
        {"mel": torch.full((1, 40, 50), math.nan), "frames": torch.tensor([50])}
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_right_is_one_sentence(said):
    with pytest.raises(ValueError, match=said) as caught:
        REFUSED[said]()
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


# Where it looks, and what it needs


SQUARES = [(0, 0, 0), (3, 0, 48), (4, 16, 0), (15, 48, 48)]


@pytest.mark.parametrize(("patch", "top", "left"), SQUARES)
def test_grey_covers_one_of_sixteen_squares_row_by_row(patch, top, left):
    images = torch.rand(2, 3, 64, 64)
    covered = one_model.cover(images, patch)
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[top : top + 16, left : left + 16] = True
    assert (covered[..., square] == 0.5).all()
    assert torch.equal(covered[..., ~square], images[..., ~square])
    assert not torch.equal(covered, images)  # a copy


@pytest.mark.parametrize("patch", [-1, 16, 1.5, "one"])
def test_there_are_sixteen_squares_to_cover(patch):
    with pytest.raises(ValueError, match="patch is .*: give a whole number from 0 to 15"):
        one_model.cover(torch.rand(1, 3, 64, 64), patch)


@pytest.fixture(scope="module")
def looked():
    cards = datasets.draw_postcards(2, 5)
    captions = ["a blue face beside a fish", "a happy face"]
    words = ["fish", "happy"]
    result = one_model.look_and_cover(MODEL, VOCABULARY, cards.images, captions, words)
    return cards.images, captions, words, result


def test_where_it_looks_is_the_place_that_writes_the_word(looked):
    images, captions, words, (shares, _, _) = looked
    picture = one_model.picture_patches(images)
    for row, (caption, word) in enumerate(zip(captions, words, strict=True)):
        told = VOCABULARY.encode(["<caption en>", "<bos>", *caption.split()])
        inputs = {"picture": picture[row : row + 1], "words": torch.tensor([told])}
        with torch.no_grad():
            weights = MODEL.attention(inputs)[0].mean((0, 1))
        writes = 16 + 1 + caption.split().index(word)  # the token before the word
        assert torch.allclose(shares[row], weights[writes, :16], atol=1e-6)


def test_what_a_word_needs_is_what_it_loses_when_covered(looked):
    images, captions, words, (_, falls, others) = looked
    for row, (caption, word) in enumerate(zip(captions, words, strict=True)):
        before = caption.split()[: caption.split().index(word)]
        told = torch.tensor([VOCABULARY.encode(["<caption en>", "<bos>", *before])])
        for patch in (0, 6, 15):
            log_p = []
            for shown in (images[row : row + 1], one_model.cover(images[row : row + 1], patch)):
                inputs = {"picture": one_model.picture_patches(shown), "words": told}
                with torch.no_grad():
                    log_p.append(MODEL(inputs)[0, -1].log_softmax(0))
            number = VOCABULARY.index[word]
            assert falls[row, patch] == pytest.approx(
                float(log_p[0][number] - log_p[1][number]), abs=1e-4
            )
            assert bool(others[row, patch]) == (log_p[0].argmax() != log_p[1].argmax())


def test_a_word_that_its_caption_has_not_is_one_sentence():
    with pytest.raises(ValueError, match="\"a face\" has no word 'fish': choose one"):
        one_model.look_and_cover(MODEL, VOCABULARY, torch.rand(1, 3, 64, 64), ["a face"], ["fish"])


# The stored model


@pytest.mark.slow
def test_with_other_pictures_or_other_words_every_task_falls():
    """What it says comes from what it sees and reads, not from the frequency of answers."""
    model, vocabulary = stored.load("one_model")
    cards = datasets.draw_postcards(100, seed=1_313, combinations="unseen")
    rows = {row.what: row for row in one_model.table(model, vocabulary, cards)}
    rows["mood, R²"] = one_model.mood_row(model, vocabulary, cards)
    for what, row in rows.items():
        assert row.one_model - row.other_pictures > 0.25, what
        assert (row.other_words is None) == what.startswith("caption")
    for what in ("question, one thing", "question, two at once", "mood, R²", "translation, exact"):
        assert rows[what].one_model - rows[what].other_words > 0.25, what
    assert rows["mood, R²"].one_model <= rows["mood, R²"].limit
    specialists = {what: row.specialist for what, row in rows.items()}
    assert min(specialists.values()) > 0.6, "the rivals are trained models"
    assert rows["translation, ambiguous word"].chance < 0.7
