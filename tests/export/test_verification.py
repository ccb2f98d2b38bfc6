import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load, save

from aiq_search.datasets import Split
from aiq_search.errors import InputError
from aiq_search.export import BundleError, onnx_file, verify_bundle
from aiq_search.export.measurement import measure_split
from aiq_search.export.running import compare
from tests.export.hostile import edit_json, replace_file


def test_every_format_is_compared_with_every_other_on_the_test_split(exported, digits):
    names = {check.name for check in verify_bundle(exported, dataset=digits).checks}
    assert {
        "test split, safetensors and pt2",
        "test split, safetensors and onnx",
        "test split, pt2 and onnx",
    } <= names


@pytest.mark.parametrize("name", ["aiq", "accuracy", "efficiency", "loss"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_number_changed_by_a_rounding_error_is_found_on_the_exporting_machine(bundle, digits, split, name):
    edit_json(
        bundle,
        "metrics.json",
        lambda d: d["splits"][split].update({name: np.nextafter(d["splits"][split][name], 0)}),
    )
    with pytest.raises(BundleError, match=f"^{split}: {name} is "):
        verify_bundle(bundle, dataset=digits)


@pytest.mark.parametrize(("change", "found"), [(5e-5, False), (2e-4, True)])
def test_another_machine_may_differ_by_one_in_ten_thousand(bundle, digits, change, found, monkeypatch):
    def rounded_otherwise(*args, **kwargs):
        measured = measure_split(*args, **kwargs)
        return measured.model_copy(update={"efficiency": measured.efficiency + change})

    monkeypatch.setattr("aiq_search.export.verification.measure_split", rounded_otherwise)
    edit_json(bundle, "metrics.json", lambda d: d["environment"].update(processor="another"))
    if found:
        with pytest.raises(BundleError, match="another machine"):
            verify_bundle(bundle, dataset=digits)
    else:
        assert verify_bundle(bundle, dataset=digits, trusted=True).checks


def test_weights_that_are_not_those_of_the_other_formats_are_found(bundle):
    weights = load((bundle / "model.safetensors").read_bytes())
    weights["output.bias"][3] += 1e-3
    replace_file(bundle, "model.safetensors", save(weights))
    with pytest.raises(BundleError, match=r"^example_input\.npz and safetensors differ: logits of sample 0"):
        verify_bundle(bundle, with_data=False)


def test_a_card_that_shows_other_numbers_is_found(bundle):
    card = (bundle / "MODEL_CARD.md").read_text()
    replace_file(bundle, "MODEL_CARD.md", card.replace("| accuracy | 0.", "| accuracy | 1.").encode())
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
        verify_bundle(bundle, with_data=False)


def test_other_data_are_not_measured_on(exported, digits):
    other = replace(digits, digest=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(BundleError, match="measured on data with digest"):
        verify_bundle(exported, dataset=other)


def test_what_is_not_checked_is_said(exported):
    verification = verify_bundle(exported, with_data=False, trusted=True)
    checks = {check.name: check for check in verification.checks}
    assert checks["numbers"].passed is None


def test_without_the_extra_the_onnx_is_not_run_and_that_is_said(exported, monkeypatch):
    monkeypatch.setattr("aiq_search.export.running.onnx_available", lambda: False)
    verification = verify_bundle(exported, with_data=False, trusted=True)
    checks = {check.name: check for check in verification.checks}
    assert checks["onnx"].passed is None
    assert "pip install onnx" in checks["onnx"].detail


def test_loading_onnx_without_the_extra_is_one_sentence(monkeypatch):
    monkeypatch.setattr("aiq_search.lowering.onnx_extra._PACKAGES", ("a_package_that_nobody_has",))
    with pytest.raises(InputError, match="pip install onnx onnxruntime onnxscript"):
        onnx_file.load_onnx(b"")


def _outputs(logits):
    logits = np.asarray(logits, np.float32)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return {"logits": logits, "probabilities": exponentials / exponentials.sum(1, keepdims=True)}


def test_logits_are_compared_with_the_largest_of_their_sample():
    one = _outputs([[1000.0, 0.0], [1.0, 0.0]])
    difference = compare(("a", "b"), one, _outputs([[1000.0, 0.009], [1.0, 0.0]]))
    assert difference.logits == pytest.approx(9e-6, rel=1e-3)
    assert difference.each == pytest.approx(9e-3, rel=1e-3)
    with pytest.raises(BundleError, match=r"a and b differ: logits of sample 1, class 1: 0\.0 and "):
        compare(("a", "b"), one, _outputs([[1000.0, 0.0], [1.0, 2e-5]]))


def test_nan_is_never_equal():
    with pytest.raises(BundleError, match="differ"):
        compare(("a", "b"), _outputs([[1.0, 0.0]]), _outputs([[np.nan, 0.0]]))


def test_near_ties_may_fall_to_either_side_and_are_counted():
    one, other = _outputs([[1.0, 1.000005]]), _outputs([[1.000005, 1.0]])
    assert compare(("a", "b"), one, other).ties == 1


def test_probabilities_that_are_not_those_of_the_logits_are_found():
    one = _outputs([[1.0, 0.0]])
    with pytest.raises(BundleError, match="probabilities of sample 0"):
        compare(("a", "b"), one, {**one, "probabilities": np.array([[0.5, 0.5]], np.float32)})


def test_an_example_of_another_shape_is_refused(bundle):
    edit_json(bundle, "preprocessing.json", lambda d: d.update(input_dtype="float32"))
    with pytest.raises(BundleError, match=r"example_input\.npz: refused: its inputs are uint8"):
        verify_bundle(bundle, with_data=False)


def test_a_changed_normalisation_is_found(bundle):
    edit_json(bundle, "preprocessing.json", lambda d: d.update(shift=[d["shift"][0] + 1e-3]))
    with pytest.raises(BundleError, match="differ"):
        verify_bundle(bundle, with_data=False)


def test_a_smaller_test_split_is_not_silently_accepted(exported, digits):
    fewer = replace(digits, test=Split(digits.test.inputs[:100], digits.test.labels[:100]))
    with pytest.raises(BundleError, match="test: samples is 100"):
        verify_bundle(exported, dataset=fewer)


def test_no_file_names_this_machine(exported):
    home = str(exported.parent).encode()
    for path in exported.iterdir():
        content = path.read_bytes()
        assert home not in content
        assert b"site-packages" not in content, path.name


def test_checksums_are_those_of_sha256sum(exported):
    for line in (exported / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest


def test_metrics_say_what_they_mean(exported):
    metrics = json.loads((exported / "metrics.json").read_text())
    assert metrics["conventions"]["beta"] == 2
    assert metrics["conventions"]["capture"]["point"] == "after"
    assert metrics["splits"]["test"]["samples"] == 360
    assert set(metrics["splits"]["test"]["layers"]) == {"hidden1", "hidden2"}
