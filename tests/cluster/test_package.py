"""What goes to the cluster with a study."""

from __future__ import annotations

import json

import pytest

from aiq_search.cluster.package import DOCUMENT, user_modules, write_package
from aiq_search.errors import InputError


@pytest.fixture
def here(tmp_path):
    """A user's folder: a network that imports a sibling and a package, and what has nothing to do with it."""
    (tmp_path / "nets").mkdir()
    files = {
        "mynet.py": "import math\nimport torch\nimport layers\nfrom nets import deep\n",
        "layers.py": "import json\n",
        "nets/__init__.py": "",
        "nets/deep.py": "from . import shared\n",
        "nets/shared.py": "",
        "nets/unused.py": "",
        "secret.py": "TOKEN = 'x'\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_module_brings_what_it_imports_from_its_folder_and_nothing_else(here):
    assert set(user_modules(["mynet"], here)) == {
        "mynet.py",
        "layers.py",
        "nets/__init__.py",
        "nets/deep.py",
        "nets/shared.py",
    }


def test_a_folder_without_an_init_is_a_package_too(here):
    (here / "plain" / "deep").mkdir(parents=True)
    (here / "plain" / "unused.py").touch()
    (here / "plain" / "blocks.py").write_text("from . import norms\n")
    (here / "plain" / "norms.py").touch()
    (here / "plain" / "deep" / "net.py").write_text("from plain import blocks\nimport plain.deep\n")
    files = {"plain/blocks.py", "plain/norms.py", "plain/deep/net.py"}
    assert set(user_modules(["plain.deep.net"], here)) == files


def test_a_folder_that_only_has_an_imports_name_brings_nothing(here):
    """What a tool leaves behind in the folder that it runs in."""
    (here / "wandb" / "run-1").mkdir(parents=True)
    (here / "wandb" / "debug.py").touch()
    (here / "json").mkdir()
    imports = "import json, wandb\nimport wandb.sdk\nfrom wandb import *\nfrom wandb.sdk import wandb_run\n"
    (here / "noting.py").write_text(imports)
    assert set(user_modules(["noting"], here)) == {"noting.py"}


def test_an_installed_module_stays_at_home(here):
    assert user_modules(["torchvision.models"], here) == {}


@pytest.mark.parametrize("text", ["def (", "\0"])
def test_a_module_that_is_no_python_is_a_sentence(here, text):
    (here / "broken.py").write_text(text)
    with pytest.raises(InputError, match="module broken: "):
        user_modules(["broken"], here)


def test_the_package_holds_the_files_and_the_document(here, tmp_path):
    (target := tmp_path / "package").mkdir()
    write_package(target, {"study": "a"}, user_modules(["nets.deep"], here))
    assert json.loads((target / DOCUMENT).read_text()) == {"study": "a"}
    assert (target / "nets" / "deep.py").read_text() == "from . import shared\n"


def test_what_is_too_large_is_named(here, tmp_path):
    (here / "data.npz").write_bytes(bytes(3_000_000))
    (target := tmp_path / "package").mkdir()
    files = {"data.npz": here / "data.npz", "mynet.py": here / "mynet.py"}
    with pytest.raises(InputError, match=r"have 3 MB, and at most 1 MB .* largest is data\.npz"):
        write_package(target, {}, files, largest=1_000_000)
    assert not list(target.iterdir())
