"""Kernels are compiled once on a machine, all of them before a search needs the first."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiq_search

TRAIN = """
import torch
from torch import nn
from aiq_search.training import TensorSplit, TrainingOptions
from aiq_search.training.engines import make_engine
torch.set_num_threads(1)
torch.manual_seed(0)
for width, norm, optimizer, kind in ((1, True, "sgd", "uint8"), (6, False, "adam", "float32")):
    model = nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1), *[nn.BatchNorm2d(width)] * norm, nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(width, width + 2, 1), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(16 * (width + 2), 23), nn.LeakyReLU(), nn.Linear(23, width), nn.ELU(), nn.Linear(width, 5),
    )
    inputs = torch.randint(0, 9, (70, 2, 8, 8)).to(getattr(torch, kind))
    labels = torch.randint(0, 5, (70,))
    split = TensorSplit(inputs, labels, torch.ones(2, 1, 1), torch.zeros(2, 1, 1))
    options = TrainingOptions(optimizer=optimizer, batch_size=40, engine="compiled")
    engine = make_engine(model, options, split, torch.device("cpu"))
    engine.train(split, torch.arange(70).split(40), [0.01, 0.01])
    loss = engine.evaluate(split, 2.0).loss
    print(loss, *(float(parameter.detach().norm()) for parameter in model.parameters()))
"""


@pytest.fixture
def python(tmp_path):
    """Runs Python code in a process whose kernels are kept in a folder of the test's own."""

    def run(*arguments, **environment):
        result = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def kernels(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*.nbc"))


@pytest.mark.slow
def test_all_kernels_are_compiled_ahead_and_by_one_process(python, tmp_path):
    start = "from aiq_search.training.kernel_cache import *\n"
    # The second call finds the first one's process at work; who needs kernels waits for it.
    twice = "print(start_compiling(), start_compiling()); wait_for_compiler(); print(are_compiled())"
    told = python("-c", start + twice)
    assert told.split() == ["True", "False", "True"]
    before = kernels(tmp_path)
    assert len(before) > 25
    assert python("-c", start + "print(start_compiling())").strip() == "False"
    python("-c", TRAIN)
    assert kernels(tmp_path) == before


def test_another_installation_does_not_take_its_kernels_for_compiled(python, tmp_path):
    """Numba would compile them again, in every process at the same time."""
    package = Path(aiq_search.__file__).parent
    code = "from aiq_search.training.kernel_cache import *; print(cache_folder())"
    folders = []
    for name in ("one", "other"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, tmp_path / name / "aiq_search", ignore=ignored)
        folders += [python("-P", "-c", code, PYTHONPATH=str(tmp_path / name)) for _ in range(2)]
    source = next((tmp_path / "one").rglob("compiled/products.py"))
    os.utime(source, (1, 1))
    folders.append(python("-P", "-c", code, PYTHONPATH=str(tmp_path / "one")))
    assert folders[0] == folders[1]
    assert folders[2] == folders[3]
    assert len(set(folders)) == 3


def test_looking_for_kernels_imports_neither_torch_nor_numba(python):
    code = "from aiq_search.training.kernel_cache import *; are_compiled(); import sys; print(*sys.modules)"
    modules = python("-c", code).split()
    assert not {"torch", "numba"} & set(modules)


@pytest.mark.slow
def test_without_a_place_for_them_kernels_are_compiled_in_each_process(python, tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "below")
    begin = f"import tempfile; tempfile.tempdir = {nowhere!r}\n"
    code = "from aiq_search.training.kernel_cache import *; print(cache_folder(), start_compiling())"
    assert python("-c", begin + code, XDG_CACHE_HOME=nowhere).split() == ["None", "False"]
    assert len(python("-c", begin + TRAIN, XDG_CACHE_HOME=nowhere).splitlines()) == 2
    assert kernels(tmp_path) == []


def test_kernels_of_somebody_else_are_not_run(python, tmp_path):
    (tmp_path / "aiq-search").mkdir()
    (tmp_path / "aiq-search").chmod(0o777)
    code = "from aiq_search.training.kernel_cache import *; print(cache_folder())"
    assert str(tmp_path) not in python("-c", code)


@pytest.mark.nightly
@pytest.mark.parametrize(("features", "lanes"), [("+avx,+avx2,+fma", "8"), ("+sse4.2", "4")])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the features are those of another processor")
def test_a_processor_with_narrower_registers_gives_the_same_numbers(python, features, lanes):
    code = TRAIN + "from aiq_search.training.engines.compiled.vectors import LANES; print(LANES)"
    *here, _ = python("-c", code).splitlines()
    *narrow, used = python("-c", code, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features).splitlines()
    assert used == lanes
    for line, other in zip(here, narrow, strict=True):
        assert [float(x) for x in line.split()] == pytest.approx([float(x) for x in other.split()], rel=1e-4)
