"""``help(aiq_search)``, and what an editor or a notebook completes behind ``aiq_search.``."""

import pydoc
import subprocess
import sys

import aiq_search


def test_help_begins_with_a_tour_and_has_every_public_name():
    page = pydoc.plain(pydoc.render_doc(aiq_search))
    tour = page[: page.index("PACKAGE CONTENTS")]
    for step in ("SearchSpace(", "run_search(space)", "Study.open(", "measure(model, batches)", "aiq --help"):
        assert step in tour
    assert [name for name in aiq_search.__all__ if name not in page] == []


def test_names_are_completed_before_they_are_imported():
    code = "import sys, aiq_search; print('torch' in sys.modules, *dir(aiq_search))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, *names = done.stdout.split()
    assert imported == "False"
    assert {*aiq_search.__all__, "__version__"} <= set(names)


def test_each_public_name_is_where_the_package_says():
    assert len(set(aiq_search.__all__)) == len(aiq_search.__all__)
    assert {name for names in aiq_search._HOMES.values() for name in names} == set(aiq_search.__all__)
    assert all(getattr(aiq_search, name).__doc__ for name in aiq_search.__all__)
