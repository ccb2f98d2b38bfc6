"""A bundle spoilt by one who can write correct checksums."""

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_checksums(bundle: Path) -> None:
    """Make the checksums those of the files as they are now."""
    files = sorted(path for path in bundle.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (bundle / "SHA256SUMS").write_text("".join(lines))


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Put other bytes in a file's place, with a correct checksum."""
    (bundle / name).write_bytes(content)
    write_checksums(bundle)


def edit_json(bundle: Path, name: str, edit: Callable[[Any], object]) -> None:
    """Change a JSON document of the bundle in place."""
    document = json.loads((bundle / name).read_text())
    edit(document)
    replace_file(bundle, name, json.dumps(document).encode())


def members_of(content: bytes) -> dict[str, bytes]:
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of some members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_of(descr: str, shape: str, data: bytes) -> bytes:
    """An array in the npy format, whose header has these texts."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def edit_pt2(bundle: Path, edit: Callable[[dict[str, bytes], str], object]) -> None:
    """Change the members of the pt2; ``edit`` is given them and the name of the root folder."""
    members = members_of((bundle / "model.pt2").read_bytes())
    edit(members, next(iter(members)).partition("/")[0])
    replace_file(bundle, "model.pt2", archive_of(members))


def edit_pt2_json(bundle: Path, name: str, edit: Callable[[Any], object]) -> None:
    """Change one JSON member of the pt2."""

    def change(members: dict[str, bytes], root: str) -> None:
        document = json.loads(members[f"{root}/{name}"])
        edit(document)
        members[f"{root}/{name}"] = json.dumps(document).encode()

    edit_pt2(bundle, change)
