"""Tables in a page of the documentation, between two marks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["publish"]


def publish(text: str, begin: str, end: str, page: Path | None) -> None:
    """Put a text between two marks of a page, in place of what is there; print it where there is no page."""
    if page is None:
        print(text)
        return
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
