"""C compilers: the C files of a bundle run on this machine, and what they take on a microcontroller."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.errors import InputError

__all__ = [
    "CompilerError",
    "compile_ahead",
    "compiler",
    "cross_compiler",
    "footprint",
    "run_c",
    "seconds_a_sample",
    "version",
]

_NO_COMPILER = "there is no C compiler here (cc, gcc or clang; apt-get install gcc)."
STANDARD = ("-std=c99", "-O2")
# The processor that flash and RAM are given for: one with single precision in hardware.
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_LINKED = (*CORTEX_M4, "-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections",
           "-nostartfiles", "-Wl,--entry=main", "--specs=nano.specs", "--specs=nosys.specs")  # fmt: skip
_COMPILING, _STARTING = 300, 60  # seconds
_KEPT = 8  # programs: those of two networks
_SLOWEST = 1e7  # multiply-accumulates a second that any machine makes
_MEASURED, _MOST_TURNS = 0.05, 10**6  # seconds, and calls, of a measurement
_SECTIONS = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s", re.MULTILINE)

# Reads raw samples until the end, and writes logits and probabilities of each; prints its processor seconds.
_MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "{name}.h"

int main(int argc, char **argv)
{{
    static {kind} inputs[{guard}_INPUTS];
    static float outputs[2 * {guard}_CLASSES];
    const long repeats = argc > 3 ? atol(argv[3]) : 1;
    FILE *source = argc > 2 ? fopen(argv[1], "rb") : NULL;
    FILE *target = argc > 2 ? fopen(argv[2], "wb") : NULL;
    if (source == NULL || target == NULL)
        return 1;
    while (fread(inputs, sizeof inputs, 1, source) == 1) {{
        for (long turn = 0; turn < repeats; turn++)
            {name}_logits(inputs, outputs);
        {name}_probabilities(outputs, outputs + {guard}_CLASSES);
        if (fwrite(outputs, sizeof outputs, 1, target) != 1)
            return 1;
    }}
    fclose(source);
    printf("%.9f\\n", (double)clock() / CLOCKS_PER_SEC);
    return fclose(target) != 0;
}}
"""
# What a network's use takes at least: both functions are called.
_BARE_MAIN = """\
#include "{name}.h"

static {kind} inputs[{guard}_INPUTS];
static float outputs[2 * {guard}_CLASSES];

int main(void)
{{
    {name}_logits(inputs, outputs);
    {name}_probabilities(outputs, outputs + {guard}_CLASSES);
    return (int)outputs[0];
}}
"""


class CompilerError(InputError):
    """There is no compiler here, or it cannot do what is asked of it: no fault of a bundle."""


def compiler() -> str | None:
    """The C compiler of this machine: ``CC``, or the first of cc, gcc and clang; None without one."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((path for name in names if (path := shutil.which(name))), None)


def cross_compiler() -> str | None:
    """The compiler for ARM microcontrollers, if it is installed."""
    return shutil.which("arm-none-eabi-gcc")


def compile_ahead(name: str, files: Mapping[str, bytes], dtype: np.dtype[Any]) -> None:
    """Have the compilers that are here begin, while this process does something else.

    Args:
        name: As of ``run_c``.
        files: See there.
        dtype: Of a raw input.
    """
    for command, flags, main in ((compiler(), (), _MAIN), (cross_compiler(), _LINKED, _BARE_MAIN)):
        if command is not None:
            _begin(command, flags, name, files, dtype, main)


@cache
def version(command: str) -> str:
    """Name and version of a compiler, as it prints them."""
    return _run([command, "--version"], _STARTING).splitlines()[0]


def run_c(
    name: str,
    files: Mapping[str, bytes],
    samples: NDArray[Any],
    classes: int,
    *,
    macs: int = 0,
    flags: Sequence[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Compile a C file that this package wrote, and run it on samples.

    Args:
        name: Of the file without its suffix.
        files: The bytes of the C file and of its header, by name: text of this package, never a stranger's.
        samples: Raw inputs.
        classes: Numbers that it gives for each.
        macs: Multiply-accumulates of one sample, for how long it may take.
        flags: More options of the compiler.

    Returns:
        Logits and probabilities, (N, classes) each.

    Raises:
        CompilerError: There is no compiler, or what it makes cannot be run here.
    """
    program = _build(name, files, samples.dtype, flags)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "inputs", Path(folder) / "outputs"
        source.write_bytes(np.ascontiguousarray(samples).tobytes())
        limit = _STARTING + math.ceil(len(samples) * macs / _SLOWEST)
        _run([str(program), str(source), str(target)], limit)
        numbers = np.fromfile(target, np.float32)
    if numbers.size != 2 * classes * len(samples):
        raise CompilerError(f"{name}.c: gives {numbers.size:,} numbers for {len(samples):,} samples.")
    logits, probabilities = numbers.reshape(len(samples), 2, classes).transpose(1, 0, 2)
    return {"logits": logits, "probabilities": probabilities}


def seconds_a_sample(name: str, files: Mapping[str, bytes], samples: NDArray[Any]) -> float:
    """How long the compiled file takes for one sample, on the average of many calls.

    Args:
        name: As of ``run_c``; likewise files and samples.
        files: See there.
        samples: See there.

    Raises:
        CompilerError: There is no compiler, or what it makes cannot be run here.
    """
    program = _build(name, files, samples.dtype, ())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "inputs"
        source.write_bytes(np.ascontiguousarray(samples).tobytes())
        turns = 1
        while True:  # until it takes long enough to be measured, its start included
            command = [str(program), str(source), str(Path(folder) / "outputs"), str(turns)]
            used = float(_run(command, _COMPILING))
            if used > _MEASURED or turns > _MOST_TURNS:
                return used / (turns * len(samples))
            turns *= 8


def footprint(name: str, files: Mapping[str, bytes], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Flash and RAM that a C file takes on a Cortex-M4, in bytes, linked with what it needs of math.h.

    The input and the outputs are in the RAM, and are the caller's; a stack and a start-up are not.

    Args:
        name: As of ``run_c``.
        files: See there.
        dtype: Of a raw input.

    Returns:
        Flash (code and constants), RAM (static variables).

    Raises:
        CompilerError: ``gcc-arm-none-eabi`` or its C library is not installed.
    """
    cross = cross_compiler()
    if cross is None:
        raise CompilerError("flash and RAM need a cross compiler: apt-get install gcc-arm-none-eabi.")
    program = _build(name, files, dtype, _LINKED, command=cross, main=_BARE_MAIN)
    size = shutil.which("arm-none-eabi-size") or "arm-none-eabi-size"
    printed = _run([size, str(program)], _STARTING)
    match = _SECTIONS.search(printed)
    if match is None:
        raise CompilerError(f"{Path(size).name} printed no sizes: {printed[:200]!r}.")
    text, data, zeros = map(int, match.groups())
    return text + data, data + zeros


def _build(
    name: str,
    files: Mapping[str, bytes],
    dtype: np.dtype[Any],
    flags: Sequence[str],
    *,
    command: str | None = None,
    main: str = _MAIN,
) -> Path:
    """Compile a C file with a main function; the program, which was perhaps begun ahead.

    Raises:
        CompilerError: There is no compiler, or it fails.
    """
    command = command or compiler()
    if command is None:
        raise CompilerError(_NO_COMPILER)
    return _begin(command, flags, name, files, dtype, main).result().path


def _begin(
    command: str,
    flags: Sequence[str],
    name: str,
    files: Mapping[str, bytes],
    dtype: np.dtype[Any],
    main: str,
) -> Future[_Program]:
    kind = "uint8_t" if dtype == np.uint8 else "float"
    written = main.format(name=name, kind=kind, guard=name.upper())
    return _begun((command, *STANDARD, *flags), name, files[f"{name}.c"], files[f"{name}.h"], written)


class _Program:
    """What a compiler made, in a folder that is there as long as this is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "network"
        weakref.finalize(self, _remove, folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=_KEPT)
def _begun(command: tuple[str, ...], name: str, source: bytes, header: bytes, main: str) -> Future[_Program]:
    """A compiler at work, or done: each text is compiled once in this process, however often it is run."""
    return _threads().submit(_compile, command, name, source, header, main)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="compiler")


def _compile(command: tuple[str, ...], name: str, source: bytes, header: bytes, main: str) -> _Program:
    folder = Path(tempfile.mkdtemp(prefix="aiq-"))
    program = _Program(folder)
    (folder / f"{name}.c").write_bytes(source)
    (folder / f"{name}.h").write_bytes(header)
    (folder / "main.c").write_text(main)
    sources = [str(folder / "main.c"), str(folder / f"{name}.c")]
    _run([*command, *sources, "-o", str(program.path), "-lm"], _COMPILING)
    return program


def _run(command: Sequence[str], seconds: float) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - a compiler, or what it made of our own text
            command, capture_output=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerError(f"{Path(command[0]).name} cannot be run ({type(error).__name__}).") from None
    if ended.returncode:
        reason = ended.stderr.decode(errors="replace").strip().splitlines() or [
            f"exit code {ended.returncode}"
        ]
        found = next((line for line in reason if "error" in line.lower()), reason[0])
        raise CompilerError(f"{Path(command[0]).name} failed: {found}")
    return ended.stdout.decode(errors="replace")
