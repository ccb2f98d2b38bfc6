"""Damage that any file may take, and what a file that is refused must look like from outside."""

from __future__ import annotations

import random
import resource
import struct
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from aiq_search.errors import InputError
from aiq_search.export import BundleMismatchError

SECONDS = 5.0
LONGEST_SENTENCE = 1500

NUMBERS = [0, 1, 2, 3, 7, 8, 9, 127, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]


def damaged(chance: random.Random, content: bytes) -> bytes:
    """The bytes, cut, overwritten, repeated, or with other numbers in them."""
    data = bytearray(content)
    if not data:
        return chance.randbytes(chance.randrange(20))
    place = chance.randrange(len(data))
    match chance.randrange(7):
        case 0:
            del data[place:]
        case 1:
            for _ in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(min(len(data), 64))] = chance.choice([0, 1, 127, 128, 255])
        case 3:
            data[place:place] = chance.randbytes(chance.randrange(1, 300))
        case 4:
            data[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(NUMBERS))
        case 5:
            del data[place : chance.randrange(len(data)) + 1]
        case 6:
            data += data[place:]
    return bytes(data)


def seconds_used() -> float:
    """Processor time of this process and the ones that it started and that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def outcome(number: int, call: Callable[[], Any], seconds: float = SECONDS) -> str:
    """Whether a file was taken or refused; anything else fails the test.

    Args:
        number: Of the file, for the message.
        call: What reads it.
        seconds: Processor time that it may take.
    """
    begun = seconds_used()
    result = "taken"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except InputError as error:
            result = "refused"
            text = str(error)
            mismatch = isinstance(error, BundleMismatchError)
            if len(text.splitlines()) != 1 or len(text) > LONGEST_SENTENCE:
                pytest.fail(f"file {number}: not a sentence: {text!r}")
            if error.exit_code != (1 if mismatch else 2):
                pytest.fail(f"file {number}: exit code {error.exit_code}: {text}")
        except Exception as error:
            pytest.fail(f"file {number}: {type(error).__name__}: {error}")
    used = seconds_used() - begun
    if used > seconds:
        pytest.fail(f"file {number}: {result} after {used:.1f} s")
    return result
