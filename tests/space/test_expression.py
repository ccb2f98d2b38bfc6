import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiq_search.space.expression import Expression

VALUES = {"model.depth": 4, "model.hidden1": 16, "model.batch_norm": True, "model.activation": "elu"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 * model.hidden1 + 1", 33),
        ("model.hidden1 // 3", 5),
        ("-model.depth ** 2", -16),
        ("1 < model.depth <= 4", True),
        ("model.depth >= 3 and not model.batch_norm", False),
        ("model.depth > 9 or model.activation == 'elu'", True),
        ("min(model.depth, model.hidden1, 3)", 3),
        ("round(model.hidden1 / 3)", 5),
    ],
)
def test_an_expression_computes(text, value):
    assert Expression(text).evaluate(VALUES) == value


def test_an_expression_knows_what_it_reads():
    assert Expression("model.a <= model.b * 2").names == {"model.a", "model.b"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "model['a']",
        "open('file')",
        "(model.a := 3)",
        "model.a if model.b else 1",
        "f'{model.a}'",
        "min()",
        "max(*model.a)",
        "",
        "1 +",
        "a b",
    ],
)
def test_anything_but_arithmetic_is_refused(text):
    with pytest.raises(ValueError, match="expression"):
        Expression(text)


def test_a_power_cannot_exhaust_the_machine():
    with pytest.raises(OverflowError, match="over 64"):
        Expression("9 ** 9 ** 9").evaluate({})


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(ValueError):
        Expression(text)
