"""Spaces by name: a file of that name in the folder first, then those that come with the package."""

from __future__ import annotations

import pytest

from aiq_search.space import SpaceError, load_space
from aiq_search.space.shipped import find_space, shipped_spaces


@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_each_shipped_space_has_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_space(name) == load_space(shipped_spaces()[name])


@pytest.mark.parametrize("file", ["digits", "digits.yaml"])
def test_a_file_of_that_name_goes_first(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text(shipped_spaces()["table"].read_text())
    assert load_space("digits").name == "table"


def test_a_folder_of_that_name_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load_space("digits").name == "digits"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digist", 'did you mean "digits"?'),
        ("mine2", 'did you mean "mine"?'),
        ("xyz", "valid names: cifar10_cnn, digits, fashion_mnist_cnn"),
        ("x" * 300, "valid names: "),
        ("a\x1bb", r"'a\\x1bb': no such file"),
    ],
)
def test_a_wrong_name_lists_the_names(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(SpaceError, match=said):
        find_space(name)


def test_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(find_space("digits.yaml")) == "digits.yaml"
    assert str(find_space("here/digits")) == "here/digits"
    with pytest.raises(SpaceError, match="no such file"):
        load_space("digits.yaml")
