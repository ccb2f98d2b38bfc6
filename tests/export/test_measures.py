"""A bundle whose aIQ is not of plain accuracy says so, and is verified alike."""

import json
from dataclasses import replace

import pytest

from aiq_search.export import BundleError, load_bundle, verify_bundle, write_bundle
from aiq_search.export.files import CHECKSUMS, checksums
from aiq_search.statespace import aiq
from aiq_search.training.measures import Measures


@pytest.fixture(scope="module")
def measured(contents, tmp_path_factory):
    directory = tmp_path_factory.mktemp("measured") / "champion"
    measures = Measures("macro_f1", ("balanced_accuracy", "macro_f1", "top_5"))
    expected = {"validation": {"accuracy": contents.expected["validation"]["accuracy"]}}
    write_bundle(directory, replace(contents, measures=measures, expected=expected), formats=["safetensors"])
    return directory


def test_the_card_and_the_numbers_have_the_measures(measured):
    bundle = load_bundle(measured)
    test = bundle.metrics.splits["test"]
    assert set(test.measures) == {"balanced_accuracy", "macro_f1", "top_5"}
    assert test.aiq == aiq(test.measures["macro_f1"], test.efficiency, 2.0)
    card = (measured / "MODEL_CARD.md").read_text()
    assert "the accuracy in aIQ is macro_f1" in card
    assert f"| top_5 | {bundle.metrics.splits['validation'].measures['top_5']:.4f} |" in card
    verify_bundle(measured)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["splits"]["test"]["measures"].update(macro_f1=0.1), "its tables of numbers"),
        (lambda m: m["splits"]["test"]["measures"].pop("top_5"), "must have the same measures"),
        (lambda m: m["conventions"].update(accuracy="auroc"), "must be one of the measures"),
        (lambda m: [m["splits"][s]["measures"].update(auroc=0.5) for s in m["splits"]], "auroc for 10"),
    ],
)
def test_forged_measures_are_refused(measured, tmp_path, change, said):
    files = {file.name: file.read_bytes() for file in measured.iterdir()}
    document = json.loads(files["metrics.json"])
    change(document)
    files["metrics.json"] = json.dumps(document).encode()
    del files[CHECKSUMS]
    files[CHECKSUMS] = checksums(files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=said):
        verify_bundle(tmp_path)
