"""Secrets for a deployment: the empty values of its ``.env.example``, filled with random ones."""

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
    """Write ``.env`` from the ``.env.example`` beside it, with a random value where that has none.

    A value is 64 hexadecimal digits (256 bits): nothing in it means anything to a shell, to
    Compose, to Kustomize or in a URL. The file is readable by its owner alone from the moment that
    it exists, and one that exists is never touched, because its passwords are those with which the
    databases were made.

    Args:
        folder: Folder of the template: the repository's root for Compose, ``deploy/kubernetes``.

    Returns:
        The file written, and the names that got a random value.

    Raises:
        InputError: there is no template, or ``.env`` exists, or it cannot be written.
    """
    template, target = folder / TEMPLATE, folder / TARGET
    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"A deployment begins with the template {template}, but it cannot be read ({error.strerror}). "
            "Run this in a clone of the repository, or name the template's folder."
        ) from None
    filled = _EMPTY.sub(lambda line: f"{line[1]}={secrets.token_hex(32)}", text)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(
            f"{target} exists and was left as it is: the databases know its passwords. To begin anew, "
            "delete the deployment's volumes and this file first."
        ) from None
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(filled)
    return target, _EMPTY.findall(text)
