"""Secrets for a deployment: its ``.env.example``, with a random value for each empty one."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from aiq_search.errors import InputError

__all__ = ["init_environment"]

TEMPLATE, TARGET = ".env.example", ".env"
_EMPTY = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=[ \t]*$", re.MULTILINE)


def init_environment(folder: Path = Path()) -> tuple[Path, list[str]]:
    """Write ``.env`` from the ``.env.example`` next to it, with a random value for each empty one.

    A value is 64 hexadecimal digits (256 bits), none of which means anything to a shell, to Compose, to
    Kustomize or in a URL. The file is readable by its owner alone from the moment that it exists. An existing
    file is never changed, because the databases were created with its passwords.

    Args:
        folder: Folder of the template: the repository's root for Compose, ``deploy/kubernetes``.

    Returns:
        The file written, and the names that got a random value.

    Raises:
        InputError: There is no template, or ``.env`` exists, or it cannot be written.
    """
    template, target = folder / TEMPLATE, folder / TARGET
    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{template}: expected the template of a deployment, but it cannot be read ({error.strerror}). "
            "Run this in a clone of the repository, or name the template's folder."
        ) from None
    filled = _EMPTY.sub(lambda line: f"{line[1]}={secrets.token_hex(32)}", text)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(
            f"{target} exists and was left as it is: the databases were created with its passwords. To start "
            "over, delete the deployment's volumes and this file first."
        ) from None
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(filled)
    return target, _EMPTY.findall(text)
