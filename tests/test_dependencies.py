"""Whatever is imported is declared in pyproject.toml: what comes with another package may go with it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"aiq_search", "tests", "benchmarks"}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^A-Za-z0-9_.-]", each, maxsplit=1)[0]) for each in requirements}


def imported(folder: Path) -> dict[str, Path]:
    """The top-level modules that the files of a folder import, wherever in the file, with one that does."""
    modules = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules[node.module.partition(".")[0]] = path
    return {name: path for name, path in modules.items() if name not in sys.stdlib_module_names | OURS}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("aiq_search", ["onnx", "cluster"]), ("tests", ["test"]), ("benchmarks", ["test"])],
)
def test_what_is_imported_is_declared(folder, extras):
    declared = names(PROJECT["dependencies"]).union(*(names(EXTRAS[extra]) for extra in extras))
    distributions = packages_distributions()
    undeclared = {}
    for module, path in imported(ROOT / folder).items():
        providers = {normal(name) for name in distributions.get(module, [module])}
        if not providers & declared and not (path.parent / f"{module}.py").exists():
            undeclared[module] = str(path.relative_to(ROOT))
    assert undeclared == {}, "declare these packages in pyproject.toml"
