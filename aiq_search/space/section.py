"""What all parts of a search space have in common: fixed fields, and mistakes in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from aiq_search.space.errors import SpaceError
from aiq_search.space.mistakes import mistakes
from aiq_search.space.source import Source

__all__ = ["NamedSection", "Section", "checks_as_pydantic"]

Init = TypeVar("Init", bound=Callable[..., None])


def checks_as_pydantic(init: Init) -> Init:
    """Mark an ``__init__`` that only gives its arguments other names or an order.

    Without the mark, which pydantic's own models bear, it would also be called for each mapping of a file,
    and a mistaken key there would be Python's TypeError.
    """
    init.__pydantic_base_init__ = True  # type: ignore[attr-defined]
    return init


class Section(BaseModel):
    """A mapping with fixed keys: no other key, no number written as text, no infinity.

    Raises:
        SpaceError: A field is wrong; the message says which, what was expected and what was given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @checks_as_pydantic
    def __init__(self, /, **data: Any) -> None:  # noqa: ANN401
        try:
            super().__init__(**data)
        except ValidationError as error:
            kind = type(self)
            raise SpaceError(mistakes(kind, data, Source(kind.__name__), error)) from None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What was given; the rest are the defaults."""
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)


class NamedSection(Section):
    """A name, and options that depend on it.

    Attributes:
        name: The name.
    """

    model_config = ConfigDict(extra="allow")

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})
