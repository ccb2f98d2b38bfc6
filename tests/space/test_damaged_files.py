"""Search-space files with every kind of damage: a sentence about it, never a traceback."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiq_search.app.space import checked_space
from aiq_search.errors import InputError

SPACES = Path(__file__).parents[2] / "search_spaces"
WHOLE = (SPACES / "digits.yaml").read_text(encoding="utf-8")
LINES = WHOLE.splitlines()

VALUES = st.sampled_from(
    [
        *(
            "null",
            "[]",
            "{}",
            "-1",
            "0",
            "1e999",
            ".nan",
            "-.inf",
            "''",
            "yes",
            "2026-01-01",
            "~",
            "- a",
            "1 2 3",
        ),
        *(
            "!!python/object:os.system x",
            "&a [*a]",
            "*missing",
            "9" * 400,
            "\t",
            "'unclosed",
            "[1, 2",
            "{a: b",
        ),
        *("? x", "|", "\u0000", "é", "1_000", "0x1F", "$HOME", "{type: int, low: 5, high: 1}"),
        *("{name: os:system}", "{when: \"__import__('os')\"}"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file, harmed one to three times."""
    data = WHOLE.encode()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["cut", "flip", "insert", "drop line", "double line", "value", "key", "bytes"])
        )
        lines = data.split(b"\n")
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        place = draw(st.integers(0, max(0, len(data) - 1)))
        if kind == "cut":
            data = data[:place]
        elif kind == "flip":
            data = data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
        elif kind == "insert":
            data = data[:place] + draw(st.text(max_size=8)).encode() + data[place:]
        elif kind == "drop line":
            data = b"\n".join(lines[:at] + lines[at + 1 :])
        elif kind == "double line":
            data = b"\n".join([*lines[: at + 1], *lines[at:]])
        elif kind == "value":
            head, colon, _ = lines[at].partition(b":")
            data = b"\n".join([*lines[:at], head + colon + b" " + draw(VALUES).encode(), *lines[at + 1 :]])
        elif kind == "key":
            _, colon, tail = lines[at].partition(b":")
            key = draw(st.text(min_size=1, max_size=12)).encode()
            data = b"\n".join([*lines[:at], key + colon + tail, *lines[at + 1 :]])
        else:
            data = data[:place] + draw(st.binary(max_size=16)) + data[place:]
    return data


def refusal(path: Path) -> str | None:
    """What a file is refused with; None where it is understood. Anything but InputError is a bug."""
    try:
        checked_space(path)
    except InputError as error:
        return str(error)
    return None


def test_the_file_is_good_before_it_is_harmed() -> None:
    assert refusal(SPACES / "digits.yaml") is None
    assert InputError.exit_code == 2


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_a_damaged_file_is_understood_or_refused_with_a_sentence_and_left_as_it_is(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_bytes(data)
        said = refusal(path)
        assert said is None or (said.strip() and "Traceback" not in said)
        assert path.read_bytes() == data
        assert [p.name for p in Path(folder).iterdir()] == ["space.yaml"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_sentence(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_bytes(data)
        with pytest.raises(InputError):
            checked_space(path)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_file_without_one_of_its_lines_is_understood_or_refused(number: int, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("\n".join(LINES[:number] + LINES[number + 1 :]), encoding="utf-8")
    said = refusal(path)
    assert said is None or any(word in said for word in (str(path), "parameters", "model"))
