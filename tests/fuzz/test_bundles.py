"""Bundles with correct checksums, as one who means harm writes them, and with wrong ones, as chance does."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiq_search.export import verify_bundle
from aiq_search.export.device.compiler import CompilerError
from aiq_search.export.onnx_file import checked_onnx
from aiq_search.export.pt2 import checked_pt2
from tests.export.conftest import contents, digits, exported  # noqa: F401 - fixtures
from tests.export.hostile import archive_of, members_of, npy_of, write_checksums
from tests.fuzz.damage import damaged, outcome, seconds_used

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

FILES, NIGHTLY = 200, 6_000
# A graph that passes every check is run in a process of its own, which needs three seconds and more to start.
RUNS = 3
SECONDS_OF_A_RUN = 20.0

TEXTS = ["model.c", "model.h", "model_int8.c", "model_int8.h"]
DEVICE = [*TEXTS, "model_int8.onnx"]
CHECKS = {"model.pt2": checked_pt2, "model_int8.onnx": checked_onnx}
DOCUMENTS = ["architecture.json", "preprocessing.json", "metrics.json"]
VALUES: list[Callable[[random.Random], Any]] = [
    lambda chance: None,
    lambda chance: chance.choice([True, False]),
    lambda chance: chance.choice([0, 1, -1, 2, 7, 10**6, 10**6 + 1, 2**31, 2**53, 2**63, 10**30]),
    lambda chance: int("9" * chance.choice([400, 4000])),
    lambda chance: chance.choice([0.5, -0.0, 1e-300, 1e39, 1e300, float("nan"), float("inf"), -1.5]),
    lambda chance: chance.choice(["", "a", "\x1b[2J", "x" * 100_000, "../../etc", "os:system", "mlp"]),
    lambda chance: [],
    lambda chance: {},
    lambda chance: [chance.choice([0, 1, 8, -1, 2**40, 2**70])] * chance.choice([1, 2, 3, 9, 1000, 100_000]),
    lambda chance: {f"hidden{i}": chance.choice([1, 10**6]) for i in range(1, chance.choice([3, 9, 2000]))},
    lambda chance: _nested(chance.choice([10, 150, 900])),
]  # fmt: skip
SHAPES = [
    "()", "(8,)", "(8, 1, 8, 8)", "(0,)", "(8, 10)", "(-1,)", f"(0, {2**62})", f"({10**15},)", "(True, 8)",
    f"({'9' * 4500},)", f"({'1,' * 100})", "(8.0,)", "None",
]  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every key and index of a document, with what holds it."""
    found = []
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            found += [(document, key), *_places(document[key])]
    return found


def edited(chance: random.Random, content: bytes) -> bytes:
    """A JSON document in which something has another value, is missing, is new or is moved."""
    document = json.loads(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        places = _places(document)
        if not places:
            break
        owner, key = chance.choice(places)
        match chance.randrange(6):
            case 0:
                del owner[key]
            case 1 if isinstance(owner, dict):
                owner[chance.choice(["new", "", "\x1b", "as_graph", "x" * 5000])] = owner[key]
            case 2:
                other, place = chance.choice(places)
                owner[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else None))
            case 3 if isinstance(owner[key], int) and not isinstance(owner[key], bool):
                owner[key] += chance.choice([1, -1, 7, 2**31, -(2**31)])
            case _:
                owner[key] = chance.choice(VALUES)(chance)
    return json.dumps(document).encode()


def safetensors(chance: random.Random, content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = edited(chance, content[8 : 8 + length])
    size = chance.choice([len(header)] * 9 + [0, 2**31, 2**63])
    return struct.pack("<Q", size) + header + content[8 + length :]


def example(chance: random.Random, content: bytes) -> bytes:
    members = members_of(content)
    name = chance.choice(sorted(members))
    match chance.randrange(5):
        case 0:
            members[name] = damaged(chance, members[name])
        case 1:
            descr = chance.choice(["<f4", "|u1", "<i8", "<U4", "|O", "<f8", "|b1", ">f4"])
            members[name] = npy_of(descr, chance.choice(SHAPES), bytes(chance.choice([0, 80, 320, 512])))
        case 2:
            array = np.load(io.BytesIO(members[name]))
            buffer = io.BytesIO()
            changes = [
                array[:1], array[:0], array[..., None], array.ravel(), array.astype("f8"), array.astype("U3"),
                array * 2, array * np.nan,
            ]  # fmt: skip
            np.save(buffer, chance.choice(changes))
            members[name] = buffer.getvalue()
        case 3:
            members[chance.choice(["a.npy", "../inputs.npy", "inputs", "/x.npy"])] = members.pop(name)
        case 4:
            return archive_of(members, chance.choice([8, 12, 14]))
    return archive_of(members)


def pt2(chance: random.Random, content: bytes) -> bytes:
    members = members_of(content)
    documents = [name for name in members if name.endswith(".json")]
    graph = next(name for name in documents if name.endswith("models/model.json"))
    name = chance.choice([graph, graph, graph, *documents, *members])
    members[name] = edited(chance, members[name]) if name in documents else damaged(chance, members[name])
    return archive_of(members)


def onnx_model(chance: random.Random, content: bytes) -> bytes:
    """An ONNX in which some fields have other values, whatever they are."""
    model = onnx.load_model_from_string(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        message = model
        for _ in range(chance.randrange(1, 6)):
            fields = [(field, value) for field, value in message.ListFields() if field.message_type]
            if not fields:
                break
            field, value = chance.choice(fields)
            message = chance.choice(value) if field.is_repeated and len(value) else value
            if not hasattr(message, "ListFields"):
                break
        if hasattr(message, "ListFields"):
            _change(chance, message)
    return model.SerializeToString()


def _change(chance: random.Random, message: Any) -> None:
    field = chance.choice(message.DESCRIPTOR.fields)
    if field.message_type:
        if field.is_repeated and len(getattr(message, field.name)):
            repeated = getattr(message, field.name)
            match chance.randrange(3):
                case 0:
                    del repeated[chance.randrange(len(repeated))]
                case 1:
                    repeated.add().CopyFrom(chance.choice(repeated))
                case 2:
                    repeated.extend([chance.choice(repeated)] * chance.choice([2, 500]))
        elif not field.is_repeated:
            message.ClearField(field.name)
        return
    values: list[Any] = [0, 1, -1, 2, 7, 64, 2**31 - 1, 2**40, 2**62]
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        values = [0.0, -1.0, 1e30, float("nan")]
    elif field.cpp_type == field.CPPTYPE_STRING:
        values = [b"", b"inputs", b"logits", b"x", b"\xff" * 10]
        if field.type == field.TYPE_STRING:
            values = ["", "inputs", "logits", "val_1", "Reshape", "Identity", "MatMul", "Loop", "ai.onnx.ml"]
    value = chance.choice(values)
    try:
        if field.is_repeated:
            getattr(message, field.name).extend([value] * chance.choice([1, 1, 3, 2000]))
        else:
            setattr(message, field.name, value)
    except (ValueError, TypeError):  # a number that the field cannot hold
        message.ClearField(field.name)


def c_text(chance: random.Random, content: bytes) -> bytes:
    """C in which a number, a name or a line is another, or which does something besides."""
    lines = content.decode().splitlines(keepends=True)
    at = chance.randrange(len(lines))
    match chance.randrange(5):
        case 0:
            lines.insert(at, chance.choice(ADDITIONS))
        case 1:
            del lines[at]
        case 2:
            lines[at] = lines[at].replace(*chance.choice([("0", "1"), ("f", ""), (" ", "  "), (";", ";;")]))
        case 3:
            lines.insert(at, chance.choice(lines))
        case 4:
            lines[at] = lines[at].rstrip("\n") + " " * chance.choice([1, 10**6]) + "\n"
    return "".join(lines).encode()


ADDITIONS = [
    '#include "/etc/passwd"\n',
    "__attribute__((constructor)) static void begin(void) { *(int *)0 = 1; }\n",
    "#define float double\n",
    "/*\n",
    '#pragma GCC diagnostic ignored "-Wall"\n',
]

KINDS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    **dict.fromkeys(DOCUMENTS, edited),
    "model.safetensors": safetensors,
    "example_input.npz": example,
    "model.pt2": pt2,
    "model.onnx": onnx_model,
    "model_int8.onnx": onnx_model,
    **dict.fromkeys(TEXTS, c_text),
}


def spoil(chance: random.Random, bundle: Path, name: str) -> None:
    """Change one of a bundle's files; most often the checksums are right afterwards."""
    path = bundle / name
    content = path.read_bytes()
    if name in KINDS and chance.random() < 0.8:
        path.write_bytes(KINDS[name](chance, content))
    else:
        path.write_bytes(damaged(chance, content))
    if name != "SHA256SUMS" and chance.random() < 0.95:
        write_checksums(bundle)
    if chance.random() > 0.03:
        return
    match chance.randrange(5):
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            path.symlink_to("/dev/zero")
        case 2:
            path.unlink()
            os.mkfifo(path)
        case 3:
            os.truncate(path, 2**32)
        case 4:
            (bundle / "more").mkdir()


def run(numbers: range, whole: Path, folder: Path, runs: int) -> None:
    """Spoil and verify; so many of the pt2 that pass every check are run, the others checked alone."""
    outcomes: Counter[tuple[str, str]] = Counter()
    bundle = folder / "bundle"
    for number in numbers:
        chance = random.Random(f"bundles {number}")
        name = chance.choice([*KINDS] * 3 + ["SHA256SUMS", "MODEL_CARD.md", "predict.py"])
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(whole, bundle)
        kept = {name, *(DEVICE if "int8" in name else ["model.c", "model.h"] if name in TEXTS else ())}
        for file in {"model.pt2", "model.onnx", *DEVICE} - kept:  # processes take seconds
            (bundle / file).unlink()
        write_checksums(bundle)
        spoil(chance, bundle, name)
        path = bundle / name
        if name in CHECKS and not runs and path.is_file() and path.stat().st_size < 2**24:
            result = outcome(number, partial(CHECKS[name], path.read_bytes()))
        else:
            begun = seconds_used()
            seconds = SECONDS_OF_A_RUN if name in (*CHECKS, "model.onnx") else 5.0
            result = outcome(number, lambda: verify_bundle(bundle, with_data=False), seconds)
            runs -= name in CHECKS and seconds_used() - begun > 1
            if name in TEXTS and result == "taken":
                assert path.read_bytes() == (whole / name).read_bytes(), f"file {number}: not found"
        outcomes[name, result] += 1
    print(dict(outcomes))
    assert sum(count for (_, result), count in outcomes.items() if result == "refused") > len(numbers) / 2
    assert all(outcomes[name, "refused"] for name in KINDS)
    assert any(outcomes[name, "taken"] for name in KINDS)


@pytest.fixture
def only_ours(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A compiler that fails the test where it is given C that this package did not write."""
    ours = {(exported / name).read_bytes() for name in TEXTS}

    def build(name: str, files: dict[str, bytes], *args: Any, **options: Any) -> Path:
        if not set(files.values()) <= ours:
            raise AssertionError(f"text of a stranger reached the compiler: {name}")
        raise CompilerError("nothing is compiled in this test.")

    monkeypatch.setattr("aiq_search.export.device.compiler._build", build)


@pytest.mark.usefixtures("only_ours")
def test_every_bundle_verifies_or_is_refused_in_a_sentence(
    exported: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    run(range(FILES), exported, tmp_path, RUNS)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("only_ours")
def test_so_does_every_one_of_many_more_bundles(exported: Path, tmp_path: Path) -> None:  # noqa: F811
    run(range(FILES, NIGHTLY), exported, tmp_path, NIGHTLY)
