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
    model = questions.Answerer(
        questions.ANSWERER_FUSIONS[name](questions.QUESTION_MODALITIES, 48), 30, 9
    )
    inputs = {"image": torch.randn(5, 48), "question": torch.randint(1, 30, (5, 6))}
    scores = model(inputs)
    assert scores.shape == (5, 9)
    scores.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_weighted_sum_is_additive_and_the_others_are_not():
    for name, fused in questions.ANSWERER_FUSIONS.items():
        torch.manual_seed(0)
        model = questions.Answerer(fused(questions.QUESTION_MODALITIES, 48), 30, 9).eval()
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
