"""questions.py: questions to a picture have true answers, and who can answer them."""

import pytest
import torch

from mbm_lab import datasets, fusion, questions


@pytest.fixture(scope="module")
def test_cards():
    return datasets.load_postcards("test", parts=())


def test_questions_have_true_answers(test_cards):
    asked = questions.ask_all(test_cards, per_card=10)
    both = [question for question in asked if question.kind == "both"]
    assert 0.4 < sum(question.answer == "yes" for question in both) / len(both) < 0.6
    for question in asked:
        card = test_cards.cards[question.place]
        if question.kind == "colour":
            assert question.answer == card.colour
        elif question.kind == "weather":
            assert question.answer == card.weather
        elif question.kind == "object":
            assert question.answer in card.caption
            assert ("beside" in question.text) == (card.relation == "beside")
        else:
            weather = questions.SAY_WEATHER[card.weather] in question.text
            true = weather and question.text.endswith(f"the face {card.colour}?")
            assert question.answer == ("yes" if true else "no")


def test_no_sum_of_two_scores_answers_all_four():
    yes = torch.tensor([[True, False], [False, True]])
    a, b = torch.randn(2, 20_000, 2)
    right = ((a[:, :, None] + b[:, None, :] > 0) == yes).flatten(1).sum(1)
    assert right.max() == 3


@pytest.mark.parametrize("name", questions.ANSWERER_FUSIONS)
def test_every_parameter_of_an_answerer_learns(name):
    torch.manual_seed(0)
    model = questions.Answerers(30, 9)[name]
    inputs = {"image": torch.randn(5, 48), "question": torch.randint(1, 30, (5, 6))}
    scores = model(inputs)
    assert scores.shape == (5, 9)
    scores.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_weighted_sum_is_additive_and_the_others_are_not():
    torch.manual_seed(0)
    for name, model in questions.Answerers(30, 9).eval().items():
        pictures, texts = torch.randn(2, 48), torch.tensor([[5, 6, 7], [8, 9, 10]])
        with torch.no_grad():
            table = torch.stack(
                [
                    model({"image": pictures[i, None], "question": texts[j, None]})[0]
                    for i in range(2)
                    for j in range(2)
                ]
            )
        interaction = (table[0] + table[3] - table[1] - table[2]).abs().max().item()
        assert (interaction < 1e-5) == (name == "weighted sum")
    assert fusion.WeightedSum is questions.ANSWERER_FUSIONS["weighted sum"]


def test_a_hidden_layer_is_as_large_as_the_products():
    sizes = {name: fusion.parameter_count(one) for name, one in questions.Answerers(30, 27).items()}
    assert sizes["sum, hidden layer"] == pytest.approx(sizes["low-rank"], rel=0.01)


def test_products_by_hand_are_every_feature_times_every_word():
    inputs = {"image": torch.randn(1, 48), "question": torch.tensor([[5, 7, 0]])}
    table = questions.products(inputs, 9)[0].unflatten(0, (49, 9))
    assert torch.equal(table[:48, 5], inputs["image"][0])
    assert torch.equal(table[:48, 7], inputs["image"][0])
    assert table[48].tolist() == [1, 0, 0, 0, 0, 1, 0, 1, 0], "the words, and a 1"
    assert not table[:, [1, 2, 3, 4, 6, 8]].any()


def test_ridge_on_products_answers_what_no_sum_can():
    picture = torch.zeros(4, 48)
    picture[:, 0] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    question = torch.tensor([[4], [5], [4], [5]])
    target = torch.tensor([1, 0, 0, 1])
    quiz = questions.Quiz({"image": picture, "question": question}, target, ["both"] * 4)
    weights = questions.fit_products(quiz, 6, 2, weight=0.01)
    assert torch.equal((questions.products(quiz.inputs, 6) @ weights).argmax(1), target)
