"""What the answers of a model mean: each shape that models of others have is read right, or one sentence says what is
missing and how to state it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FixableError
from tools.modeling.output import Asked, OutputReading, as_answer, check_order, labels_of, read_answer
from tools.modeling.output_rules import understand
from tools.modeling.output_settings import OutputSettings
from tools.modeling.predictor import Predictions

YES = np.array([0.9, 0.2, 0.7, 0.1])  # what the model knows: the probability of yes
SAID = np.where(YES > 0.5, "yes", "no")
BOTH = np.column_stack([1 - YES, YES])


def read(
    returned: Any, labels: list[Any] | None = None, classes: Any = None, task: str = "binary", **stated: Any
) -> tuple[OutputReading, Predictions]:
    answer = as_answer(returned, 4)
    if classes is not None:
        answer = type(answer)(answer.columns, None, np.array(classes))
    asked = Asked(task=task, labels=labels or ["no", "yes"], stated=OutputSettings(**stated))  # type: ignore[arg-type]
    reading = understand(answer, asked)
    kept = OutputReading.model_validate_json(reading.model_dump_json())
    return kept, read_answer(answer, kept)


PROBABILITIES: list[Any] = [
    YES,
    YES.tolist(),
    pd.Series(YES),
    YES.reshape(-1, 1),
    BOTH,
    pd.DataFrame({"score": YES}),
    pd.DataFrame(BOTH),
    pd.DataFrame({"score": YES, "label": SAID}),
    pd.DataFrame({"label": SAID, "risk": 1 - YES}),  # the probability of no, as its own labels tell
    pd.DataFrame({"yes": YES, "no": 1 - YES}),
    pd.DataFrame({"prob_no": 1 - YES, "prob_yes": YES, "prediction": SAID}),
    pd.DataFrame({"P(No)": 1 - YES, "P(Yes)": YES}),
    pd.DataFrame({"prediction": (YES > 0.5).astype(int), "probability_yes": YES}),
    {"label": SAID, "score": YES},
    [{"label": said, "score": chance} for said, chance in zip(SAID, YES, strict=True)],
]


@pytest.mark.parametrize("returned", PROBABILITIES, ids=range(len(PROBABILITIES)))
def test_each_shape_of_probabilities_is_read_as_the_probability_of_each_label(returned: Any) -> None:
    _, found = read(returned)
    assert found.positive_probability == pytest.approx(YES)
    assert found.values.tolist() == SAID.tolist()


@pytest.mark.parametrize(
    ("returned", "labels"),
    [
        (SAID, ["no", "yes"]),
        (SAID.tolist(), ["no", "yes"]),
        (pd.DataFrame({"prediction": SAID}), ["no", "yes"]),
        (np.char.upper(SAID), ["no", "yes"]),
        ((YES > 0.5).astype(int), ["no", "yes"]),
        ((YES > 0.5).astype(float), ["no", "yes"]),
        (np.where(YES > 0.5, "1", "0"), ["no", "yes"]),
        (YES > 0.5, ["no", "yes"]),
        (np.where(YES > 0.5, 1, -1), ["no", "yes"]),
        ((YES > 0.5).astype(float), [0, 1]),
        (YES > 0.5, [0, 1]),
        ((YES > 0.5).astype(int), [False, True]),
        (np.where(YES > 0.5, 2, 1), [1, 2]),
    ],
)
def test_labels_are_those_of_the_data_however_the_model_writes_them(returned: Any, labels: list[Any]) -> None:
    reading, found = read(returned, labels)
    assert found.values.tolist() == [labels[1] if yes else labels[0] for yes in YES > 0.5]
    assert found.positive_probability == pytest.approx((YES > 0.5).astype(float)), "a label alone counts as certain"
    assert "labels without probabilities" in reading.message


def test_what_was_supposed_is_said_and_what_was_stated_is_not() -> None:
    assert read((YES > 0.5).astype(int))[0].supposed == "0 as no and 1 as yes"
    assert read(YES)[0].supposed == "the numbers as the probability of yes"
    assert read(BOTH)[0].supposed == "column 0 as no, column 1 as yes"
    assert read(SAID)[0].supposed == read(BOTH, classes=["no", "yes"])[0].supposed == ""
    assert read(YES, probability=0, of="no")[0].supposed == ""


def test_classes_that_a_model_names_itself_are_taken_or_matched() -> None:
    for classes, labels in ((["no", "yes"], ["no", "yes"]), ([0, 1], ["no", "yes"]), ([False, True], ["no", "yes"]),
                            (["No", "Yes"], ["no", "yes"]), ([0, 1], [0, 1])):  # fmt: skip
        _, found = read(BOTH, labels, classes)
        assert found.positive_probability == pytest.approx(YES)
        assert [str(value) for value in found.values] == [str(labels[1] if yes else labels[0]) for yes in YES > 0.5]


def test_what_was_stated_decides() -> None:
    flipped = {"0": "yes", "1": "no"}
    _, found = read_stated((YES > 0.5).astype(int), {"labels": flipped})
    assert found.values.tolist() == np.where(YES > 0.5, "no", "yes").tolist()
    _, found = read_stated(BOTH, {"labels": flipped}, classes=[0, 1])
    assert found.positive_probability == pytest.approx(1 - YES)
    _, found = read_stated(1 - YES, {"probability": 0, "of": "no"})
    assert found.values.tolist() == SAID.tolist()
    table = pd.DataFrame({"a": YES * 100, "b": YES * 0})
    _, found = read_stated(table, {"probability": "a", "of": True, "scale": "percent"})
    assert found.positive_probability == pytest.approx(YES)
    _, found = read_stated(np.log(YES / (1 - YES)), {"scale": "logit"})
    assert found.positive_probability == pytest.approx(YES)
    _, found = read_stated(BOTH[:, ::-1], {"probabilities": {"yes": 0, "no": 1}})
    assert found.values.tolist() == SAID.tolist()
    _, found = read_stated(pd.DataFrame({"out": SAID, "n": YES, "m": YES}), {"label": "out"})
    assert found.values.tolist() == SAID.tolist()
    three = np.column_stack([1 - YES, YES / 2, YES / 2])
    _, found = read_stated(three, {"labels": {"a": "no", "b": "yes", "c": "yes"}}, classes=["a", "b", "c"])
    assert found.positive_probability == pytest.approx(YES), "two classes of the model are one label of the data"


def read_stated(returned: Any, stated: dict[str, Any], classes: Any = None) -> tuple[OutputReading, Predictions]:
    answer = as_answer(returned, 4)
    if classes is not None:
        answer = type(answer)(answer.columns, None, np.array(classes))
    asked = Asked(task="binary", labels=["no", "yes"], stated=OutputSettings(**stated))
    reading = understand(answer, asked)
    return reading, read_answer(answer, reading)


@pytest.mark.parametrize(
    ("returned", "labels", "said"),
    [
        (
            np.array(["a", "b", "a", "b"]),
            None,
            r"it answers a, b, and the data has the labels no, yes: .*output: \{labels",
        ),
        (pd.DataFrame({"x": YES, "z": YES}), None, r"the columns x, z.*output: \{probability: x, of: \"yes\"\}"),
        (
            pd.DataFrame({"label": SAID, "score": np.maximum(YES, 1 - YES)}),
            None,
            "the columns label, score.*what is what",
        ),
        (np.array([-3.0, 2.0, 1.5, -0.2]), None, "scale: logit"),
        (np.column_stack([BOTH, YES]), None, "3 columns without names, 0 to 2.*what is what"),
        (np.array([0, 1, 1, 0]), ["1", "2"], None),
        (YES, ["a", "b", "c"], "it answers one probability a row, and the data has 3 labels"),
    ],
)
def test_what_cannot_be_known_is_one_sentence_with_the_setting(returned: Any, labels: Any, said: str | None) -> None:
    task = "multiclass" if labels and len(labels) > 2 else "binary"
    if said is None:  # labels that overlap are taken as they are, where the model does not name all its classes
        assert read(returned, labels)[1].values.tolist()[1] == "1"
        return
    with pytest.raises(FixableError, match=said) as refused:
        read(returned, labels, task=task)
    assert "Error" not in refused.value.message


def test_classes_that_overlap_with_the_labels_by_chance_are_asked_about() -> None:
    with pytest.raises(FixableError, match="it answers 0, 1, and the data has the labels 1, 2: say which"):
        read(BOTH, [1, 2], classes=[0, 1])
    with pytest.raises(FixableError, match="it answers the classes maybe, no, yes, and the data has no, yes"):
        read(np.column_stack([BOTH, YES * 0]), classes=["no", "yes", "maybe"])


def test_more_than_two_labels() -> None:
    labels, chances = ["a", "b", "c"], np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
    for returned, classes in ((chances, None), (chances, [0, 1, 2]), (chances, labels), (chances.argmax(1), None),
                              (pd.DataFrame(chances, columns=labels), None)):  # fmt: skip
        assert read(returned, labels, classes, "multiclass")[1].values.tolist() == ["a", "b", "c", "b"]
    with pytest.raises(FixableError, match="it answers 0, 1, 2, and the data has the labels a, b"):
        read(chances, ["a", "b"], [0, 1, 2], "multiclass")


def test_a_regression_answers_numbers() -> None:
    for returned in (YES, YES.reshape(-1, 1), pd.DataFrame({"yhat": YES}), YES.tolist()):
        assert read(returned, task="regression")[1].values == pytest.approx(YES)
    two = pd.DataFrame({"low": YES - 1, "mean": YES})
    with pytest.raises(FixableError, match=r"the columns low, mean.*output: \{value: COLUMN\}"):
        read(two, task="regression")
    assert read(two, task="regression", value="mean")[1].values == pytest.approx(YES)
    with pytest.raises(FixableError, match=r"4 of 4 answers are no number, for example 'yes|2 of"):
        read(SAID, task="regression")


def test_a_reading_stands_for_one_row_that_could_be_read_otherwise() -> None:
    reading, _ = read(YES)
    found = read_answer(as_answer([1.0], 1), reading)
    assert found.positive_probability is not None and found.positive_probability.tolist() == [1.0]
    reading, _ = read((YES > 0.5).astype(int))
    assert read_answer(as_answer(np.array([0]), 1), reading).values.tolist() == ["no"]
    with pytest.raises(FixableError, match=r"1 of 1 answers are no probability, for example 37"):
        read_answer(as_answer([37.0], 1), read(YES)[0])


def test_a_supposed_order_that_the_labels_contradict_is_told_with_the_other_one() -> None:
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.5
    said = np.where(random.random(400) < 0.9, truth, ~truth).astype(int)  # 1 is "bad", which sorts first
    labels = np.where(truth, "bad", "good")
    asked = Asked(task="binary", labels=["bad", "good"])
    answer = as_answer(said, 400)
    reading = understand(answer, asked)
    with pytest.raises(FixableError, match=r'0 as bad and 1 as good.*roc_auc 0\..*labels: \{"0": "good", "1": "bad"\}'):
        check_order(reading, labels, read_answer(answer, reading))
    stated = Asked(task="binary", labels=["bad", "good"], stated=OutputSettings(labels={"0": "good", "1": "bad"}))
    reading = understand(answer, stated)
    check_order(reading, labels, read_answer(answer, reading))
    useless = random.integers(0, 2, 400)
    reading = understand(as_answer(useless, 400), asked)
    check_order(reading, labels, read_answer(as_answer(useless, 400), reading))


def test_labels_are_sorted_as_the_positive_one_is_found() -> None:
    assert labels_of(pd.Series(["yes", None, "no"])) == ["no", "yes"]
    assert labels_of(np.array([1, 0, 1])) == [0, 1]
    assert labels_of(pd.Series([1, "0", None], dtype=object)) == ["0", "1"]
    assert labels_of([]) == []


def test_settings_are_checked() -> None:
    for wrong in ({"of": "yes"}, {"probability": "a", "probabilities": {"yes": "a"}}, {"colunm": "a"}):
        with pytest.raises(ValueError):
            OutputSettings(**wrong)
    assert OutputSettings(labels={0: False, 1: True}).labels == {"0": "False", "1": "True"}  # type: ignore[dict-item]
    assert read_stated((YES > 0.5).astype(int), {"labels": {0: False, 1: True}})[1].values.tolist() == SAID.tolist()
