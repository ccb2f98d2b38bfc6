"""The folder for Ray's sockets: short, and closed to other users."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from aiq_search import run_search
from aiq_search.cluster.connection import check_address
from aiq_search.cluster.scratch import _SHORT, check_scratch, make_scratch
from aiq_search.errors import InputError

SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A folder that is too deep for a socket, as the folder for temporary files."""
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_socket_fits_in_it_and_others_cannot_enter(monkeypatch):
    scratch = make_scratch()
    try:
        assert len(os.fsencode(scratch / SOCKET)) <= 107
        assert scratch.parent.stat().st_mode & 0o777 == 0o700
    finally:
        scratch.parent.rmdir()


def test_where_temporary_files_lie_too_deep_it_is_elsewhere(deep):
    assert check_scratch() != deep
    assert check_scratch() == Path(_SHORT[0])


def test_the_variable_s_folder_is_taken(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", _SHORT[1])
    assert check_scratch() == Path(_SHORT[1])


@pytest.mark.parametrize("folder", ["x" * 60, "missing"])
def test_a_folder_that_does_not_fit_is_refused_before_there_is_a_study(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("RAY_TMPDIR", str(deep_folder(tmp_path, folder)))
    with pytest.raises(InputError, match="set RAY_TMPDIR to a folder that you may write in, with a path of"):
        run_search("search_spaces/digits.yaml", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def deep_folder(tmp_path, name):
    if name == "missing":
        return Path("/missing")
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_where_no_folder_fits_the_variable_is_named(deep, monkeypatch):
    monkeypatch.setattr("aiq_search.cluster.scratch._SHORT", ())
    with pytest.raises(InputError, match="no folder fits Ray's sockets: set RAY_TMPDIR"):
        check_address(None)


def test_who_joins_a_cluster_needs_no_folder(deep, monkeypatch):
    monkeypatch.setattr("aiq_search.cluster.scratch._SHORT", ())
    check_address("127.0.0.1:6379")
