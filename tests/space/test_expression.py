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
    with pytest.raises(
        ValueError, match=r"cannot parse the expression|is not allowed|is not the name|takes 2 to 20"
    ):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-" * 2000 + "1", "at most 1,000"),
        (" + ".join(["1"] * 2000), "at most 1,000"),
        ("not " * 240 + "True", "nested more than 100 levels"),
        ("-" * 999 + "1", "nested more than 100 levels|cannot parse"),
        ("(" * 400 + "1" + ")" * 400, "cannot parse"),
        ("[" + "-" * 900 + "1]", "is not allowed"),
        ("9 ** 9 ** 9", "the exponent 387420489 is over 64"),
        ("2 ** 64 ** 64 ** 64", "more than 63 bits"),
        ("2 ** 63", "more than 63 bits"),
        ("2 ** -65", "the exponent -65 is over 64"),
        ("(-1) ** 0.5", "expected a number, but got"),
        ("1e200 * 1e200", "a number is too large"),
        ("1e999", "a number is too large"),
        ("10.0 ** 64 ** 1 * 1e300", "a number is too large"),
        ("9" * 30, "more than 63 bits"),
        ("9" * 900, "more than 63 bits"),
        ("9" * 5000, "at most 1,000"),
        ("round(1, -999999999)", "up to 20 digits, but got -999999999"),
        ("round(1, 0.5)", "up to 20 digits, but got 0.5"),
        ("round(1.5, 1, 2)", "takes 1 to 2 numbers, but got 3"),
        ("max(1)", "takes 2 to 20 numbers, but got 1"),
        ("min('a', 'b')", "expected a number, but got 'a'"),
        ("'a' * 10 ** 10", "expected a number, but got 'a'"),
        ("'%9999999999d' % 1", "expected a number, but got '%9999999999d'"),
        ("'a' + 'b'", "expected a number"),
        ("-'a'", "expected a number"),
        ("'a' < 'b'", "expected a number"),
        ("1 / 0", "division by zero"),
        ("1j", "is not allowed"),
        ("b'a'", "is not allowed"),
        ("...", "is not allowed"),
        ("None", "is not allowed"),
    ],
)
def test_what_takes_too_long_or_is_not_a_number_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model.hidden1 ** model.hidden1 ** model.depth", "the exponent 65536 is over 64"),
        ("model.hidden1 ** 16", "more than 63 bits"),
        ("round(model.hidden1, -model.hidden1 * 10)", "up to 20 digits"),
        ("model.activation * model.hidden1", "expected a number, but got 'elu'"),
        ("model.activation % model.hidden1", "expected a number, but got 'elu'"),
        ("max(model.activation, 3)", "expected a number, but got 'elu'"),
    ],
)
def test_values_are_held_to_the_same_bounds(text, reason):
    with pytest.raises((ArithmeticError, TypeError), match=reason):
        Expression(text).evaluate(VALUES)


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(ValueError):
        Expression(text)
