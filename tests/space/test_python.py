"""A space as Python objects: made with completion, written as YAML and read back exactly."""

import inspect
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiq_search
from aiq_search import Categorical, Derived, Float, Int, ObjectiveOptions, SearchOptions, SearchSpace
from aiq_search.space import SpaceError, load_space
from aiq_search.space.shipped import shipped_spaces
from tests.space import grammar

PLAIN = {"model.hidden1": Int(2, 64, log=True)}


def space_of(parameters=PLAIN, **sections):
    return SearchSpace(name="tiny", model="mlp", dataset="digits", parameters=parameters, **sections)


def check_round_trip(space):
    again = SearchSpace.from_yaml(space.to_yaml())
    assert again == space
    assert again.to_yaml() == space.to_yaml()
    # True is 1 for Python, and 1.0 too: as JSON they differ.
    assert json.dumps(again.document()) == json.dumps(space.document())
    assert again.fingerprint == space.fingerprint


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_comes_back_from_yaml(name):
    check_round_trip(load_space(name))


@pytest.mark.parametrize("seed", range(20))
def test_a_space_of_the_fuzz_comes_back_from_yaml(seed):
    check_round_trip(load_space(grammar.document(random.Random(seed))))


WORDS = st.text(max_size=20) | st.sampled_from(
    ["yes", "null", "1e3", "0x1F", "2001-01-01", "- a", "#", "a: b"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | FLOATS | WORDS | st.none()
WHEN = st.none() | st.sampled_from(["model.a >= 2", "model.a == 'x' or model.a < 3"])


@st.composite
def ints(draw):
    low, high = sorted(draw(st.tuples(st.integers(1, 2**53), st.integers(1, 2**53))))
    scale = draw(st.sampled_from([{}, {"log": True}, {"step": 3}]))
    return Int(low, high, **scale, when=draw(WHEN))


@st.composite
def floats(draw):
    low, high = sorted(draw(st.tuples(*[st.floats(1e-300, 1e300)] * 2)))
    return Float(low, high, log=draw(st.booleans()), when=draw(WHEN))


CHOICES = st.lists(SCALARS, min_size=1, max_size=5, unique_by=lambda value: (hash(value), str(type(value))))


@st.composite
def categoricals(draw):
    choices = draw(CHOICES)
    return Categorical(list({choice: choice for choice in choices}), when=draw(WHEN))


DERIVED = st.builds(Derived, st.sampled_from(["2 * model.a", "max(model.a, 3)"]), when=WHEN)
NAMES = st.from_regex(r"(model|training)\.[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    "model.a".__ne__
)


@st.composite
def spaces(draw):
    parameters = {
        "model.a": Int(1, 9),
        **draw(st.dictionaries(NAMES, ints() | floats() | categoricals() | DERIVED)),
    }
    arguments = draw(
        st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter("name".__ne__), SCALARS)
    )
    goal = draw(st.sampled_from([{"maximize": "aiq"}, {"maximize": ["accuracy", "efficiency"]}, {}]))
    return SearchSpace(
        name="generated",
        model={"name": draw(st.text(min_size=1, max_size=30)), **arguments},
        dataset={"name": "digits", "label_noise": draw(st.floats(0, 1))},
        parameters=parameters,
        objective={**goal, "constraints": draw(st.sampled_from([[], ["accuracy >= 0.9", "model.a <= 5"]]))},
        search=draw(st.just({}) | st.just({"sampler": "random", "seed": 3})),
        enqueue=draw(st.just([]) | st.just([{"model.a": 2}])),
    )


@given(spaces())
@settings(max_examples=30)
def test_any_space_made_in_python_comes_back_from_yaml(space):
    check_round_trip(space)


def test_the_same_space_is_made_of_objects_of_mappings_and_of_a_file(tmp_path):
    objects = space_of(
        {"model.hidden1": Int(2, 64, log=True), "model.hidden2": Derived("2 * model.hidden1")},
        objective=ObjectiveOptions(constraints=["accuracy >= 0.9"]),
        search=SearchOptions(trials=3),
    )
    mappings = space_of(
        {
            "model.hidden1": {"type": "int", "low": 2, "high": 64, "log": True},
            "model.hidden2": {"type": "derived", "value": "2 * model.hidden1"},
        },
        objective={"constraints": ["accuracy >= 0.9"]},
        search={"trials": 3},
    )
    (tmp_path / "tiny.yaml").write_text(objects.to_yaml())
    assert objects == mappings == load_space(tmp_path / "tiny.yaml") == load_space(objects)
    assert objects.fingerprint == mappings.fingerprint


def test_yaml_has_what_was_given_and_no_defaults():
    text = space_of(search={"trials": 3}).to_yaml()
    assert text.splitlines() == [
        "schema_version: 1",
        "name: tiny",
        "model: {name: mlp}",
        "dataset: {name: digits}",
        "parameters:",
        "  model.hidden1: {type: int, low: 2, high: 64, log: true}",
        "search: {trials: 3}",
    ]


@pytest.mark.parametrize(
    "parameter",
    [
        Int(1, 8, powers_of=2),
        Int(0, 9, step=3, when="model.a >= 2"),
        Float(1e-5, 0.1, log=True),
        Float(0, 1, step=0.25),
        Categorical([False, True, "x", 3, 0.5]),
        Derived("2 * model.a", when="model.a < 4"),
    ],
    ids=repr,
)
def test_a_parameter_is_shown_as_it_is_made(parameter):
    names = {name: getattr(aiq_search, name) for name in ("Int", "Float", "Categorical", "Derived")}
    assert eval(repr(parameter), names) == parameter  # noqa: S307


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Int(5, 2), "Int: low <= high must hold, but got low=5, high=2."),
        (lambda: Int("2", 5), "Int: low: expected a whole number, but got '2'."),
        (lambda: Int(3, 8, powers_of=2), "Int: low and high must be powers of 2, but got 3."),
        (lambda: Float(0, math.nan), "Float: high: input should be a finite number, but got nan."),
        (lambda: Float(0, 1, log=True), "Float: a log range must start above 0"),
        (lambda: Categorical([]), "Categorical: choices: at least 1 item is required."),
        (lambda: Categorical([1, True]), "Categorical: choices: choices must differ, but got [1, True]."),
        (lambda: Derived("import os"), "Derived: value: "),
        (lambda: SearchOptions(trails=3), 'SearchOptions: trails: unknown key; did you mean "trials"?'),
        (lambda: ObjectiveOptions(constraints=["accuracy > 1"]), "ObjectiveOptions: constraints.0: "),
        (lambda: space_of({"hidden1": Int(1, 2)}), "SearchSpace: parameters.hidden1: the name"),
        (lambda: space_of({}), "SearchSpace: parameters: at least 1 item is required."),
        (lambda: space_of(search={"trails": 3}), "SearchSpace: search.trails: unknown key; did you mean"),
        (lambda: space_of({"model.a": Derived("model.b")}), "SearchSpace: parameters.model.a.value: 'mod"),
        (lambda: SearchSpace.from_yaml("name: x\nsearch: {trials: 0}"), "the YAML text:2: search.trials: "),
        (lambda: SearchSpace.from_yaml("- a"), "the YAML text: expected a mapping, but got ['a']."),
        (lambda: SearchSpace.from_yaml("name: ["), "the YAML text:1: not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence_that_names_the_field(make, said):
    with pytest.raises(SpaceError) as caught:
        make()
    assert any(line.startswith(said) for line in str(caught.value).splitlines()), str(caught.value)


def test_a_file_still_needs_what_python_fills_in():
    document = {
        "name": "tiny",
        "model": "mlp",
        "dataset": "digits",
        "parameters": {"model.a": {"low": 1, "high": 2}},
    }
    with pytest.raises(SpaceError) as caught:
        load_space(document)
    assert "schema_version: is required, but missing" in str(caught.value)
    assert "parameters.model.a.type: is required" in str(caught.value)


@pytest.mark.parametrize(
    "kind", [Int, Float, Categorical, Derived, SearchOptions, ObjectiveOptions, SearchSpace]
)
def test_an_editor_is_told_the_arguments(kind):
    names = set(inspect.signature(kind).parameters)
    assert names == set(kind.model_fields) - (
        {"type"} if kind in (Int, Float, Categorical, Derived) else set()
    )


def test_a_model_and_a_dataset_by_name_can_be_edited():
    space = load_space(space_of(), ["model.activation=relu", "dataset.validation=100"])
    assert (space.model.arguments, space.dataset.validation) == ({"activation": "relu"}, 100)
    document = {"schema_version": 1, "name": "t", "model": "mlp", "dataset": "digits"}
    document["parameters"] = {"model.hidden1": {"type": "int", "low": 1, "high": 2}}
    assert load_space(document, ["model.activation=relu"]).model.arguments == {"activation": "relu"}
