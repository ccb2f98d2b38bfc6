from dataclasses import replace

import pytest

from aiq_search.errors import InputError
from aiq_search.export import BundleError, load_bundle, verify_bundle, write_bundle


def test_a_bundle_gives_back_the_network_that_was_exported(contents, exported):
    bundle = load_bundle(exported)
    assert bundle.architecture == contents.architecture
    state = bundle.model.state_dict()
    assert all(state[name].equal(weight) for name, weight in contents.weights.items())
    assert bundle.metrics.splits["validation"].aiq == contents.expected["validation"]["aiq"]


def test_a_bundle_verifies(exported):
    assert all(check.passed for check in verify_bundle(exported).checks)


def test_an_existing_directory_is_never_overwritten(contents, bundle):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(InputError, match="already exists"):
        write_bundle(bundle, contents)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_force_replaces_a_bundle_and_nothing_else(contents, bundle):
    write_bundle(bundle, contents, force=True)
    verify_bundle(bundle, trusted=True)
    (bundle / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        write_bundle(bundle, contents, force=True)
    assert (bundle / "thesis.tex").exists()


def test_a_failure_half_way_leaves_nothing_behind(contents, tmp_path):
    with pytest.raises(BundleError, match="aiq"):
        write_bundle(tmp_path / "champion", replace(contents, expected={"validation": {"aiq": 0.123}}))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_bundle(contents, bundle):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(BundleError):
        write_bundle(bundle, replace(contents, expected={"validation": {"aiq": 0.123}}), force=True)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
