import pytest

from aiq_search.space import Constraint
from aiq_search.space.constraint import feasible


@pytest.mark.parametrize(
    ("text", "metrics", "met"),
    [
        ("accuracy >= 0.95", {"accuracy": 0.95}, True),
        ("accuracy >= 0.95", {"accuracy": 0.949}, False),
        ("parameters <= 1e4", {"parameters": 10_000}, True),
        ("parameters<=10000", {"parameters": 10_001}, False),
        ("efficiency/conv1 >= .5", {"efficiency/conv1": 0.6}, True),
        ("efficiency/conv9 >= .5", {"efficiency/conv1": 0.6}, True),
        ("int8/accuracy >= .9", {"int8/accuracy": 0.9, "accuracy": 0.1}, True),
        ("int8/accuracy >= .9", {"int8/accuracy": 0.8, "accuracy": 1.0}, False),
        ("int8/accuracy >= .9", {"accuracy": 0.8}, False),
    ],
)
def test_a_bound_itself_is_allowed_and_an_absent_number_misses_nothing(text, metrics, met):
    constraint = Constraint.parse(text)
    assert (constraint.violation(metrics) <= 0) is met
    assert feasible([constraint], metrics) is met


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy is good", "expected NAME >= NUMBER"),
        ("accuracy > 0.9", "expected NAME >= NUMBER"),
        ("accuracy >= nan", "expected NAME >= NUMBER"),
        ("accuracy >= inf", "expected NAME >= NUMBER"),
        ("accuracy >= much", "expected NAME >= NUMBER"),
        ("acuracy >= 0.9", 'did you mean "accuracy"'),
    ],
)
def test_a_constraint_that_cannot_be_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        Constraint.parse(text)
