"""C and eight bits as parts of a bundle: written, verified, and every changed byte found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from torch import nn

from aiq_search.errors import InputError
from aiq_search.export import BundleError, verify_bundle, write_bundle
from aiq_search.export.documents import MetricsDocument
from tests.export.hostile import edit_json, replace_file

NEW = ("model.c", "model.h", "model_int8.onnx", "model_int8.c", "model_int8.h")


def _details(verification):
    return {check.name: check for check in verification.checks}


def test_every_format_is_written_and_verifies(exported, digits):
    assert {path.name for path in exported.iterdir()} > set(NEW)
    checks = _details(verify_bundle(exported, dataset=digits))
    assert "test split, safetensors and c" in checks
    assert checks["int8, onnx and c"].detail == "360 samples: all logits equal"
    assert checks["int8"].detail.startswith("360 samples: accuracy ")
    assert checks["model.c"].passed


@pytest.mark.parametrize("name", NEW)
def test_a_changed_byte_is_found_by_the_checksums(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: damaged"):
        verify_bundle(bundle, with_data=False)


@pytest.mark.parametrize("name", [name for name in NEW if not name.endswith("onnx")])
def test_a_changed_byte_of_c_is_found_without_the_checksums_and_never_compiled(bundle, name, monkeypatch):
    def compiled(*args, **kwargs):
        raise AssertionError("text of a stranger reached the compiler")

    monkeypatch.setattr("aiq_search.export.device.compiler._build", compiled)
    content = (bundle / name).read_bytes()
    replace_file(bundle, name, content.replace(b" ", b"  ", 1))
    with pytest.raises(BundleError, match=f"{name}: refused: it is not the C"):
        verify_bundle(bundle, with_data=False)


def test_a_network_of_many_products_is_run_in_c_on_some_samples(exported, digits, monkeypatch):
    monkeypatch.setattr("aiq_search.export.device.verification._MOST_MACS", 1e4)
    checks = _details(verify_bundle(exported, dataset=digits, trusted=True))
    assert checks["test split, safetensors and onnx"].detail.startswith("360 samples")
    macs = 64 * 8 + 8 * 6 + 6 * 10
    assert checks["test split, safetensors and c"].detail.startswith(f"{int(1e4 / macs)} samples")
    assert checks["int8, onnx and c"].detail.startswith(f"{int(1e4 / macs)} samples")


def test_a_changed_weight_in_eight_bits_is_found_without_the_checksums(bundle, digits):
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string((bundle / "model_int8.onnx").read_bytes())
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight0_quantized")
    changed = numpy_helper.to_array(weight).copy()
    changed.flat[0] += 1
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    replace_file(bundle, "model_int8.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"model_int8\.c: refused"):
        verify_bundle(bundle, dataset=digits, trusted=True)


def test_c_of_another_version_is_not_compiled_and_that_is_said(bundle, monkeypatch):
    replace_file(bundle, "model.c", (bundle / "model.c").read_bytes() + b"\n")
    edit_json(bundle, "metrics.json", lambda d: d["environment"].update(aiq_search="0.0.1"))
    check = _details(verify_bundle(bundle, with_data=False, trusted=True))["model.c"]
    assert check.passed is None
    assert check.detail.startswith("not compared: written by aiq-search 0.0.1")


def test_a_missing_compiler_is_a_sentence(bundle, monkeypatch):
    monkeypatch.setenv("CC", "a-compiler-that-nobody-has")
    checks = _details(verify_bundle(bundle, with_data=False, trusted=True))
    assert checks["model.c"].passed
    assert checks["model.c, compiled"].passed is None
    assert "apt-get install gcc" in checks["model.c, compiled"].detail


def test_a_compiler_that_fails_is_no_fault_of_the_bundle(bundle, monkeypatch):
    monkeypatch.setenv("CC", "false")
    checks = _details(verify_bundle(bundle, with_data=False, trusted=True))
    assert checks["model_int8.c, compiled"].detail == "not run: false failed: exit code 1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["device"]["weights"].update(float32=1), "weights on a device take"),
        (lambda d: d["device"]["activations"].update(int8=1), "activations on a device take"),
        (lambda d: d["device"]["int8"].update(accuracy=0.5), "int8: accuracy is"),
        (lambda d: d["device"]["int8"].update(aiq=0.5), "int8: aiq is"),
    ],
)
def test_a_changed_number_of_the_device_is_found(bundle, digits, change, sentence):
    edit_json(bundle, "metrics.json", change)
    _card_again(bundle)
    with pytest.raises(BundleError, match=sentence):
        verify_bundle(bundle, dataset=digits, trusted=True)


def _card_again(bundle):
    """A card that fits the changed numbers: what remains is to measure them again."""
    from aiq_search.export import card, load_bundle

    loaded = load_bundle(bundle)
    metrics = MetricsDocument.model_validate_json((bundle / "metrics.json").read_bytes())
    text = card.numbers_table(metrics) + "\n\n" + card.device_table(metrics)
    assert loaded.metrics == metrics
    replace_file(bundle, "MODEL_CARD.md", text.encode())


def test_the_card_has_the_numbers_of_the_device(bundle, digits):
    edit_json(bundle, "metrics.json", lambda d: d["device"]["int8"].update(agreement=0.5))
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
        verify_bundle(bundle, with_data=False, trusted=True)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs gcc-arm-none-eabi")
def test_flash_and_ram_are_on_the_card_and_compiled_again(exported, bundle, digits):
    card = (exported / "MODEL_CARD.md").read_text()
    assert "| flash on a Cortex-M4, bytes | " in card
    assert "flash and RAM, int8" in _details(verify_bundle(exported, with_data=False, trusted=True))
    edit_json(bundle, "metrics.json", lambda d: d["device"]["builds"]["float32"].update(flash=1))
    _card_again(bundle)
    with pytest.raises(BundleError, match=r"takes .* bytes of flash .*, not 1 and"):
        verify_bundle(bundle, with_data=False, trusted=True)


def test_a_drop_beyond_the_bound_is_refused_if_asked_for_and_left_out_otherwise(contents, tmp_path):
    with pytest.raises(InputError, match=r"--format int8: in eight bits .* more than --max-drop -1 allows"):
        write_bundle(tmp_path / "champion", contents, formats=["int8"], max_drop=-1)
    assert not (tmp_path / "champion").exists()
    checks = _details(write_bundle(tmp_path / "champion", contents, max_drop=-1))
    assert "left out: in eight bits" in checks["int8"].detail
    assert not (tmp_path / "champion" / "model_int8.onnx").exists()
    assert (tmp_path / "champion" / "model.c").exists()


def test_c_and_eight_bits_are_written_by_themselves(contents, tmp_path):
    write_bundle(tmp_path / "c", contents, formats=["c"])
    assert {path.name for path in (tmp_path / "c").iterdir()} & set(NEW) == {"model.c", "model.h"}
    write_bundle(tmp_path / "int8", contents, formats=["int8"])
    assert {path.name for path in (tmp_path / "int8").iterdir()} & set(NEW) == {"model_int8.onnx"}


class Skip(nn.Module):
    """A network of one's own that is no sequence."""

    def __init__(self, classes):
        super().__init__()
        self.hidden, self.output = nn.Linear(64, 64), nn.Linear(64, classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.output(x + self.hidden(x))


def with_a_skip(input_shape, classes):
    return Skip(classes)


def test_a_residual_network_has_no_device_format_and_that_is_said(contents, digits, tmp_path):
    from aiq_search.models import Architecture
    from aiq_search.user_code import CodePolicy

    code = CodePolicy.for_running(["tests"])
    architecture = Architecture(f"{__name__}:with_a_skip", {}, digits.input_shape, 10, code)
    own = replace(contents, architecture=architecture, weights=architecture.build().state_dict(), expected={})
    checks = _details(write_bundle(tmp_path / "champion", own))
    for name in ("c", "int8"):
        assert "left out: network is a Skip, for which there is no device format" in checks[name].detail
    assert (tmp_path / "champion" / "model.onnx").exists()
