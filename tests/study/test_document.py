"""study.json: typed, whole or the old one, and whatever is wrong in it is one sentence."""

from __future__ import annotations

import json
import random
import re
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiq_search.errors import InputError, StudyError
from aiq_search.space.schema import SearchSpace
from aiq_search.study import Study, list_studies, unreadable_studies
from aiq_search.study.document import StudyDocument
from aiq_search.study.provenance import Provenance
from tests.search.simulation import DATASET, new_study, simulated_space

PROVENANCE = Provenance(command=("aiq", "search", "a.yaml"), versions={"python": "3"}, platform="Linux")
DOCUMENT = StudyDocument.new(simulated_space(), DATASET, "one", provenance=PROVENANCE)


def replaced(*path, value):
    """The document's JSON with another value somewhere."""
    content = deepcopy(DOCUMENT.as_json())
    *way, last = path
    place = content
    for key in way:
        place = place[key]
    place[last] = value
    return content


def refusal(content):
    with pytest.raises(StudyError) as refused:
        StudyDocument.parse(content, "home/study.json")
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 500
    return message


# ---- what it is --------------------------------------------------------------------------------------


def test_it_comes_back_from_json_as_it_was():
    assert StudyDocument.parse(DOCUMENT.as_json(), "a") == DOCUMENT
    assert StudyDocument.parse(json.dumps(DOCUMENT.as_json()), "a") == DOCUMENT


def test_it_comes_back_from_its_file_and_the_file_is_the_owner_s_alone(tmp_path):
    path = tmp_path / "one" / "study.json"
    path.parent.mkdir()
    DOCUMENT.write(path)
    assert StudyDocument.read(path) == DOCUMENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_its_json_holds_the_space_as_the_space_writes_itself():
    assert DOCUMENT.as_json()["space"] == DOCUMENT.space.document()
    assert SearchSpace.model_validate(DOCUMENT.as_json()["space"]).fingerprint == DOCUMENT.fingerprint


def test_nobody_can_change_it():
    with pytest.raises(ValueError, match="frozen"):
        DOCUMENT.ended = "finished"  # type: ignore[misc]
    assert DOCUMENT.changed(ended="finished").ended == "finished"
    assert DOCUMENT.ended is None


def test_another_budget_leaves_the_question_the_same():
    more = DOCUMENT.extended(50)
    assert more.space.search.trials == 50
    assert more.space.fingerprint == more.fingerprint == DOCUMENT.fingerprint
    with pytest.raises(InputError, match=r"search\.trials: 0: "):
        DOCUMENT.extended(0)


# ---- what is wrong with it ---------------------------------------------------------------------------

DAY = 86_400
BEYOND = 253_402_300_800  # the year 10000


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["created"], "yesterday", "created: Input should be a valid number"),
        (["created"], "1764000000.5", "created: Input should be a valid number"),
        (["created"], float("nan"), "created: "),
        (["created"], float("inf"), "created: "),
        (["created"], 1e300, "created: Input should be less than"),
        (["created"], BEYOND, "created: Input should be less than"),
        (["created"], -DAY, "created: Input should be greater than"),
        (["created"], None, "created: Input should be a valid number"),
        (["schema_version"], 0, "schema_version: Input should be 1"),
        (["schema_version"], "1", "schema_version: Input should be 1"),
        (["study"], 7, "study: Input should be a valid string"),
        (["space"], {}, r"space\.\w+: Field required"),
        (["space", "search", "trials"], 10**400, r"space\.search\.trials: "),
        (["space", "objective", "beta"], float("nan"), r"space\.objective\.beta: "),
        (["space", "parameters"], [1], r"space\.parameters: "),
        (["seed"], 7, r"seed: expected that of the space, 0"),
        (["beta"], 3.0, r"beta: expected that of the space, 2"),
        (["dataset", "classes"], "abc", r"dataset\.classes: "),
        (["dataset", "train"], -1, r"dataset\.train: Input should be greater than or equal to 0"),
        (["dataset", "input_shape"], ["wide"], r"dataset\.input_shape\.0: "),
        (["provenance", "versions"], {"python": 3}, r"provenance\.versions\.python: "),
        (["ended"], "well", r"ended: Input should be 'finished', 'interrupted' or 'failed'"),
        (["capture"], "before", r"capture: expected that of the space"),
        (["\x1b[2J"], 1, r"\\x1b\[2J: Extra inputs are not permitted"),
    ],
)
def test_the_field_that_is_wrong_is_named(path, value, reason):
    message = refusal(replaced(*path, value=value))
    assert message.startswith("home/study.json: damaged (")
    assert message.endswith("); restore it from a copy.")
    assert re.search(reason, message), message


@pytest.mark.parametrize("field", ["study", "space", "fingerprint", "seed", "created", "dataset"])
def test_a_field_that_is_missing_is_named(field):
    content = DOCUMENT.as_json()
    del content[field]
    assert f"{field}: Field required" in refusal(content)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 5_000, b"\0" * 100]
)
def test_what_is_no_document_at_all_is_refused(content):
    assert "damaged" in refusal(content)


@pytest.mark.parametrize("version", [2, 10, 10**30])
def test_a_later_version_s_study_asks_for_an_upgrade(version):
    content = replaced("schema_version", value=version) | {"racing": {"new": True}}
    assert refusal(content).endswith(f"(schema_version {version}, this one reads 1); upgrade aiq_search.")


def test_a_document_of_another_study_is_refused(tmp_path):
    path = tmp_path / "two" / "study.json"
    path.parent.mkdir()
    DOCUMENT.write(path)
    with pytest.raises(StudyError, match=r"study: expected two, the folder's name, but got 'one'"):
        StudyDocument.read(path)


def test_one_that_cannot_be_read_hides_no_other(tmp_path):
    new_study(tmp_path, "good")
    for name, value in (("text", "now"), ("nan", float("nan")), ("huge", 1e300), ("later", 0)):
        study = new_study(tmp_path, name)
        content = study.document.as_json() | {"created": value}
        content |= {"schema_version": 2} if name == "later" else {}
        (study.directory / "study.json").write_text(json.dumps(content))
    (tmp_path / "studies" / "deep").mkdir()
    (tmp_path / "studies" / "deep" / "study.json").write_text("[" * 100_000)
    assert [study.id for study in list_studies(tmp_path)] == ["good"]
    unreadable = unreadable_studies(tmp_path)
    assert unreadable.keys() == {"text", "nan", "huge", "later", "deep"}
    assert "upgrade" in str(unreadable["later"])
    with pytest.raises(StudyError, match='did you mean "good"'):
        Study.open("goood", tmp_path)


# ---- hundreds of wrong ones --------------------------------------------------------------------------

WRONG = [
    *(None, True, False, 0, -1, 2, 1.5, 2**63, 10**400, -(10**400), 1e300, 5e-324),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "x", "1", "nan", "a" * 5_000, "\x1b[2J\x07", "\u202e", "9**9**9", "2 ** 64 ** 64", "os:system"),
    *("accuracy >= 0.9", "__import__('os')", "../x", "/etc/passwd", "sqlite:///x", "'%9999999999d' % 1"),
    *([], {}, [[]], {"a": 1}, [1] * 1_000, {"": None}, {"type": "int", "low": 1, "high": 2}),
]


def places(node, way=()):
    """The way to every value of a document."""
    if way:
        yield way
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*way, key))


PLACES = list(places(DOCUMENT.as_json()))


@st.composite
def wrong_documents(draw):
    """The document's JSON with one to three values replaced, removed or added."""
    content = deepcopy(DOCUMENT.as_json())
    for way in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        place = content
        try:
            for key in way[:-1]:
                place = place[key]
            place[way[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # gone with an earlier one
        if not isinstance(place, dict | list):
            continue
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if kind == "replace":
            place[way[-1]] = draw(st.sampled_from(WRONG) | st.text(max_size=9) | st.floats() | st.integers())
        elif kind == "remove":
            del place[way[-1]]
        elif isinstance(place, dict):
            place[draw(st.text(max_size=9))] = draw(st.sampled_from(WRONG))
        else:
            place.append(draw(st.sampled_from(WRONG)))
    return content


@settings(max_examples=400, derandomize=True, deadline=5_000, suppress_health_check=list(HealthCheck))
@given(wrong_documents())
def test_a_wrong_document_is_understood_or_refused_in_one_sentence(content):
    try:
        document = StudyDocument.parse(json.dumps(content).encode("utf-8", "surrogatepass"), "study.json")
    except StudyError as error:
        message = str(error)
        assert message.startswith("study.json: ")
        assert message.isprintable()
        assert len(message) < 600
    else:
        assert StudyDocument.parse(json.dumps(document.as_json()), "study.json") == document


@settings(max_examples=200, derandomize=True, deadline=5_000, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_damaged_bytes_are_understood_or_refused_in_one_sentence(chance: random.Random):
    data = bytearray(json.dumps(DOCUMENT.as_json()).encode())
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(data))
        data[place : place + chance.choice([0, 1, 20])] = chance.randbytes(chance.choice([0, 1, 20]))
    try:
        StudyDocument.parse(bytes(data), "study.json")
    except StudyError as error:
        message = str(error)
        assert message.startswith("study.json: damaged (")
        assert message.isprintable()
