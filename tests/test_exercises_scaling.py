"""exercises/scaling.py: lesson 11's exercises against PyTorch, the course, and other answers."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from mbm_lab import costs, scaling, training
from mbm_lab.exercises import scaling as ours

# The solutions are what PyTorch and the course do


def test_the_least_time_is_that_of_two_queues_that_work_side_by_side():
    for flops, moved, peak, bandwidth in ours.least_time.cases().values():
        times, waits = ours.my_least_time(flops, moved, peak, bandwidth)
        for layer, (operations, bytes_moved) in enumerate(zip(flops, moved, strict=True)):
            first, second = float(operations) / peak, float(bytes_moved) / bandwidth
            assert float(times[layer]) == pytest.approx(1000 * max(first, second))
            assert bool(waits[layer]) == (float(operations) * bandwidth < float(bytes_moved) * peak)


def test_collate_is_what_pytorch_pads_and_a_dataloader_takes_it():
    for examples, pad in ours.collate.cases().values():
        tokens, lengths, moods = next(
            iter(
                DataLoader(
                    examples, len(examples), collate_fn=lambda e, p=pad: ours.my_collate(e, p)
                )
            )
        )
        sentences = [words for words, _ in examples]
        padded = nn.utils.rnn.pad_sequence(sentences, batch_first=True, padding_value=pad)
        assert torch.equal(tokens, padded)
        assert tokens.dtype == lengths.dtype == torch.int64
        assert moods.dtype == torch.float32
        assert moods.tolist() == pytest.approx([mood for _, mood in examples])
        for row, length, words in zip(tokens, lengths, sentences, strict=True):
            assert torch.equal(row[:length], words)


@pytest.mark.parametrize("counts", [[10, 10, 10], [13, 4, 13], [1, 28, 1], [30, 0, 0]])
def test_the_gradient_of_uneven_shares_is_that_of_the_large_batch(counts):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(30, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()

    def gradient(x, y):
        if len(y) == 0:
            return [torch.zeros_like(one) for one in model.parameters()]
        loss = functional.mse_loss(model(x)[:, 0], y)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    of_workers = [gradient(*part) for part in zip(x.split(counts), y.split(counts), strict=True)]
    gradients = [list(parts) for parts in zip(*of_workers, strict=True)]
    for mine, whole in zip(ours.my_whole_gradient(gradients, counts), gradient(x, y), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-14)


def accumulated(*arguments):
    """The weights to which the solution of "many small batches, one step" leads."""
    return ours.accumulate.call(ours.my_accumulate, *arguments)["weights"]


def test_the_mended_accumulation_is_descent_with_large_batches():
    for start, old, batches, accumulate, rate in ours.accumulate.cases().values():
        weights = start.clone()
        for first in range(0, len(batches), accumulate):
            group = batches[first : first + accumulate]
            x, y = (torch.cat(parts) for parts in zip(*group, strict=True))
            weights = weights - rate * 2 * x.T @ (x @ weights - y) / len(y)
        got = accumulated(start, old, batches, accumulate, rate)
        torch.testing.assert_close(got, weights, rtol=1e-5, atol=1e-6)


def test_the_mended_accumulation_is_that_of_fit():
    for start, old, batches, accumulate, rate in ours.accumulate.cases().values():
        model = nn.Linear(len(start), 1, bias=False)
        with torch.no_grad():
            model.weight.copy_(start[None])
        pairs = DataLoader([(x, y[:, None]) for x, y in batches], batch_size=None)
        training.fit(
            model, pairs, loss=functional.mse_loss, epochs=1, learning_rate=rate,
            optimizer=torch.optim.SGD, accumulate=accumulate, progress=False,
        )  # fmt: skip
        got = accumulated(start, old, batches, accumulate, rate)
        torch.testing.assert_close(got, model.weight.detach()[0], rtol=1e-5, atol=1e-6)


def test_each_of_the_three_faults_of_the_given_accumulation_shows():
    """And none of them alone explains the results of the code as given."""
    given = ours.accumulate.judge(ours.accumulate.given)
    assert given.word == "Not attempted yet."
    for fault in ({"weigh": ours._undivided}, {"weigh": ours._by_batches}, {"rest": "lost"}):
        verdict = ours.accumulate.judge(ours._wrong(**fault))
        assert verdict.word == "Not yet."
        assert "as given" not in verdict.paragraphs[0]


def test_thirty_steps_of_loss_scaling_are_those_of_gradscaler():
    generator = torch.Generator().manual_seed(2)
    for interval, start in itertools.product([1, 2, 5], [2.0, 65536.0]):
        theirs = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=interval)
        parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
        optimizer = torch.optim.SGD(parameters, lr=1.0)
        scale, good_steps, skipped = start, 0, 0
        for step in range(30):
            gradients = [torch.randn(one.shape, generator=generator).half() for one in parameters]
            if step % 4 == 3:
                bad = [float("inf"), -float("inf"), float("nan")][step // 4 % 3]
                gradients[step % 2].view(-1)[step % 3] = bad
            before = [one.detach().clone() for one in parameters]
            for one, gradient in zip(parameters, gradients, strict=True):
                one.grad = gradient.float()
            theirs.scale(torch.zeros(()))  # GradScaler begins with its first loss
            theirs.step(optimizer)
            theirs.update()
            unscaled, scale, good_steps = ours.my_unscale(gradients, scale, good_steps, interval)
            skipped += unscaled is None
            assert scale == theirs.get_scale(), (interval, step)
            assert good_steps == theirs._get_growth_tracker(), (interval, step)
            for place, (one, old) in enumerate(zip(parameters, before, strict=True)):
                moved = old - (0 if unscaled is None else unscaled[place])
                torch.testing.assert_close(one.detach(), moved, rtol=1e-6, atol=0)
        assert skipped == 7


def test_small_gradients_survive_in_float16_only_with_the_scale():
    true = torch.tensor([3e-8, -1e-8, 2e-9])
    assert true.half().tolist()[1:] == [0, 0]
    unscaled, _, _ = ours.my_unscale([(true * 65536).half()], 65536.0, 0, 10)
    torch.testing.assert_close(unscaled[0], true, rtol=1e-3, atol=0)


# Other right answers


def least_time(flops, moved, peak, bandwidth, *, longest=max, slow=1000, tie=False):
    """The roofline, layer by layer, or with a mistake."""
    times, waits = [], []
    for operations, numbers in zip(flops.tolist(), moved.tolist(), strict=True):
        both = slow * operations / peak, slow * numbers / bandwidth
        times.append(longest(both))
        waits.append(both[1] >= both[0] if tie else both[1] > both[0])
    return torch.tensor(times), torch.tensor(waits)


def collate(examples, pad, *, value=None, first=True, left=False, count=len, sort=False):
    """The batch by pad_sequence, or with a mistake."""
    if sort:
        examples = sorted(examples, key=lambda one: len(one[0]), reverse=True)
    sentences, moods = zip(*examples, strict=True)
    tokens = nn.utils.rnn.pad_sequence(
        sentences, batch_first=first, padding_value=pad if value is None else value,
        padding_side="left" if left else "right",
    )  # fmt: skip
    lengths = torch.tensor([count(words) for words in sentences])
    return tokens, lengths, torch.tensor(moods).float()


def whole_gradient(gradients, counts, *, total=sum, power=1):
    """The mean over all cards by a product, or with a mistake."""
    weights = torch.tensor([count**power for count in counts]) / total(counts)
    return [torch.tensordot(weights, torch.stack(parts), dims=1) for parts in gradients]


def accumulate(model, batches, many, rate, *, divide="cards", rest=True, forget=True):
    """Accumulation without an optimizer, batch after batch, or with a mistake."""
    model.zero_grad()
    for count, (x, y) in enumerate(batches):
        group = batches[count // many * many :][:many]
        parts = {"cards": sum(len(other) for _, other in group) / len(y), "many": many, "none": 1}
        loss = (model(x).flatten() - y).pow(2).mean() / parts[divide]
        loss.backward()
        if count % many == many - 1 or (rest and count == len(batches) - 1):
            for weight in model.parameters():
                weight.data -= rate * weight.grad
            if forget:
                model.zero_grad()


def unscale(gradients, scale, good, interval, *, wide=True, late=0, test="isfinite", back=0.5):
    """Loss scaling in another order, or with a mistake."""
    numbers = torch.cat([one.flatten() for one in gradients])
    bad = {"isfinite": ~numbers.isfinite(), "isnan": numbers.isnan(), "isinf": numbers.isinf()}
    if bad[test].any():
        return None, scale * back, 0
    unscaled = [one.double() if wide else one for one in gradients]
    unscaled = [one * (1 / scale) for one in unscaled]
    full = good + 1 >= interval + late
    return [one.float() for one in unscaled], scale * 2**full, 0 if full else good + 1


ANSWERS = [
    (ours.least_time, least_time),
    (ours.collate, collate),
    (ours.whole_gradient, whole_gradient),
    (ours.accumulate, accumulate),
    (ours.unscale, unscale),
]


@pytest.mark.parametrize(("exercise", "answer"), ANSWERS, ids=lambda one: getattr(one, "name", ""))
def test_another_way_to_write_it_is_correct_too(said, exercise, answer):
    assert f"Right. {exercise.title}" in said(exercise, answer)


def test_a_roofline_by_operations_per_byte_is_right_too(said):
    def by_intensity(flops, moved, peak, bandwidth):
        intensity = flops / moved
        moving, calculating = moved / bandwidth, flops / peak
        waits = intensity < peak / bandwidth
        return 1e3 * torch.where(waits, moving, calculating), waits

    assert "Right." in said(ours.least_time, by_intensity)


def test_a_batch_filled_word_by_word_is_right_too(said):
    def by_lists(examples, pad):
        longest = max(len(words) for words, _ in examples)
        rows = [[*words.tolist(), *[pad] * (longest - len(words))] for words, _ in examples]
        return (
            torch.tensor(rows, dtype=torch.long).reshape(len(examples), longest),
            torch.LongTensor([len(words) for words, _ in examples]),
            torch.Tensor([mood for _, mood in examples]),
        )

    assert "Right." in said(ours.collate, by_lists)


def test_accumulation_by_the_gradients_themselves_is_right_too(said):
    def by_hand(model, batches, many, rate):
        (weight,) = model.parameters()
        for start in range(0, len(batches), many):
            total, cards = torch.zeros_like(weight), 0
            for x, y in batches[start : start + many]:
                loss = functional.mse_loss(model(x)[:, 0], y, reduction="sum")
                total, cards = total + torch.autograd.grad(loss, weight)[0], cards + len(y)
            weight.data -= rate * total / cards

    assert "Right." in said(ours.accumulate, by_hand)


# The same mistakes, written otherwise


MISTAKES = [
    (ours.least_time, least_time, {"longest": min}, "the shorter of the two times"),
    (ours.least_time, least_time, {"longest": sum}, "You added the two times"),
    (ours.least_time, least_time, {"slow": 1}, "Your times are in seconds"),
    (ours.least_time, least_time, {"slow": 10**6}, "Your times are in microseconds"),
    (ours.least_time, least_time, {"tie": True}, "A tie: where both times are equal"),
    (ours.collate, collate, {"value": 0}, "You always pad with 0"),
    (ours.collate, collate, {"first": False}, "batch_first=True"),
    (ours.collate, collate, {"left": True}, "You pad on the left"),
    (ours.collate, collate, {"count": lambda w: len(w) - 1}, "Your lengths are one too small"),
    (ours.collate, collate, {"sort": True}, "You sorted the examples by length"),
    (ours.whole_gradient, whole_gradient, {"total": len, "power": 0}, "the plain mean over the"),
    (ours.whole_gradient, whole_gradient, {"total": len}, "You divided by the number of workers"),
    (ours.whole_gradient, whole_gradient, {"power": 0}, "as if the workers had handed in sums"),
    (ours.whole_gradient, whole_gradient, {"total": max}, "You divided by the greatest count"),
    (ours.whole_gradient, whole_gradient, {"total": lambda n: 1}, "You have the sum over all"),
    (ours.accumulate, accumulate, {"divide": "many"}, "by `accumulate` everywhere"),
    (ours.accumulate, accumulate, {"divide": "none"}, "the losses are still added up"),
    (ours.accumulate, accumulate, {"rest": False}, "The full groups are right"),
    (ours.accumulate, accumulate, {"forget": False}, "at the beginning only"),
    (ours.accumulate, accumulate, {"divide": "none", "rest": False}, "still those of the code as"),
    (ours.accumulate, accumulate, {"divide": "many", "rest": False}, "divide by `accumulate` now"),
    (ours.unscale, unscale, {"wide": False}, "You divided in float16"),
    (ours.unscale, unscale, {"late": 1}, "does not grow when this step fills the interval"),
    (ours.unscale, unscale, {"late": -1}, "The scale grows one step too early"),
    (ours.unscale, unscale, {"test": "isnan"}, "You look for nan only"),
    (ours.unscale, unscale, {"test": "isinf"}, "You look for inf only"),
    (ours.unscale, unscale, {"back": 2}, "The scale is doubled after an overflow"),
    (ours.unscale, unscale, {"back": 1}, "The scale stays as it is after an overflow"),
]  # fmt: skip


@pytest.mark.parametrize(("exercise", "answer", "wrong", "sentence"), MISTAKES)
def test_the_same_mistake_written_otherwise_is_found(said, exercise, answer, wrong, sentence):
    words = said(exercise, lambda *arguments: answer(*arguments, **wrong))
    assert sentence in words
    assert "Right." not in words


def test_lengths_that_are_counted_in_the_padded_table_are_told(said):
    def counted(examples, pad):
        tokens, _, moods = collate(examples, pad)
        return tokens, tokens.count_nonzero(1), moods

    assert "Your lengths count the tokens that are not 0" in said(ours.collate, counted)


def test_the_large_batch_itself_is_told_what_accumulation_is_for(said):
    def joined(model, batches, many, rate):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        waiting = []
        for count, batch in enumerate(batches, start=1):
            waiting.append(batch)
            if len(waiting) == many or count == len(batches):
                x, y = (torch.cat(parts) for parts in zip(*waiting, strict=True))
                optimizer.zero_grad()
                functional.mse_loss(model(x)[:, 0], y).backward()
                optimizer.step()
                waiting = []

    assert "You put the batches of a group together" in said(ours.accumulate, joined)


def test_unscaling_the_tensors_that_were_handed_in_is_told(said):
    def in_place(gradients, scale, good_steps, interval):
        answer = ours.my_unscale(copy.deepcopy(gradients), scale, good_steps, interval)
        for one in gradients:
            one /= scale
        return answer

    assert "changes its input gradients" in said(ours.unscale, in_place)


def test_what_an_answer_returns_in_another_form_is_judged_too(said):
    right = ours.my_unscale
    assert "Right." in said(ours.unscale, lambda *x: list(right(*x)))
    as_double = lambda *x: (x[0] and [one.double() for one in x[0]], *x[1:])  # noqa: E731
    assert "Right." in said(ours.unscale, lambda *x: as_double(*right(*x)))
    assert "Not yet." in said(ours.unscale, lambda *x: right(*x)[:2])
    assert "Not yet." in said(ours.unscale, lambda *x: None)


def test_the_least_time_is_what_the_course_predicts():
    for flops, moved, peak, bandwidth in ours.least_time.cases().values():
        machine = costs.Machine(peak, bandwidth)
        times, _ = ours.my_least_time(flops, moved, peak, bandwidth)
        for time, operations, many in zip(times, flops, moved, strict=True):
            layer = costs.Layer("", "", float(operations), float(many), 0.0)
            assert float(time) == pytest.approx(1000 * costs.predicted(layer, machine))


def test_the_gradient_of_uneven_shares_is_that_of_all_reduce_by_hand():
    for gradients, counts in ours.whole_gradient.cases().values():
        workers = [
            nn.ParameterList([torch.zeros_like(part[0]) for part in gradients]) for _ in counts
        ]
        for w, worker in enumerate(workers):
            for parameter, parts in zip(worker, gradients, strict=True):
                parameter.grad = parts[w].clone()
        scaling.average_gradients(workers, counts)
        wanted = ours.my_whole_gradient(gradients, counts)
        for worker in workers:
            for parameter, whole in zip(worker, wanted, strict=True):
                torch.testing.assert_close(parameter.grad, whole)
