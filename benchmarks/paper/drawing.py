"""Figures as SVG, which a document shows without a program that draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from plotly.colors import qualitative, sample_colorscale

__all__ = ["Panel", "Scale", "colours", "distinct", "figure"]

_WIDTH, _HEIGHT = 420, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 30, 48
_TICKS = 5
_IN_A_ROW = 3  # panels


@dataclass(frozen=True)
class Scale:
    """What the colours from dark to bright mean."""

    name: str
    low: float
    high: float


@dataclass
class Panel:
    """One pair of axes, in whose units everything is drawn.

    Attributes:
        title: Above it.
        x: What is to the right.
        y: What is upwards.
        across: Smallest and largest x.
        upwards: Smallest and largest y.
        log: Which axes are logarithmic, of x and y.
        wide: Whether it is twice as wide.
        names: What is written below the x axis in place of numbers, by x.
    """

    title: str
    x: str
    y: str
    across: tuple[float, float]
    upwards: tuple[float, float]
    log: str = ""
    wide: bool = False
    names: Mapping[float, str] | None = None
    _marks: list[str] = field(default_factory=list)

    def dot(self, x: float, y: float, colour: str, size: float = 3.5, ring: bool = False) -> None:
        """A point, or a ring around one."""
        style = f'fill="none" stroke="{colour}" stroke-width="2"' if ring else f'fill="{colour}"'
        self._marks.append(f'<circle cx="{self._at_x(x):.1f}" cy="{self._at_y(y):.1f}" r="{size}" {style}/>')

    def cell(self, left: float, right: float, low: float, high: float, colour: str) -> None:
        """A rectangle."""
        x, y = self._at_x(left), self._at_y(high)
        width, height = self._at_x(right) - x, self._at_y(low) - y
        self._marks.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, dashed: bool = False) -> None:
        """Points that are connected."""
        path = " ".join(f"{self._at_x(x):.1f},{self._at_y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        self._marks.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )

    def label(self, x: float, y: float, text: str, at: float, anchor: str = "start") -> None:
        """Words below a point, at another height, with a line up to it."""
        left, top, bottom = self._at_x(x), self._at_y(y) + 9, self._at_y(at)
        self._marks.append(
            f'<line x1="{left:.1f}" y1="{top:.1f}" x2="{left:.1f}" y2="{bottom - 13:.1f}" stroke="#d62728"/>'
            f'<text x="{left:.1f}" y="{bottom:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    @property
    def width(self) -> int:
        """Of the whole panel."""
        return _WIDTH * (2 if self.wide else 1)

    def svg(self, left: int, above: int = 0) -> str:
        """Its marks and axes, so many units from the left and the top."""
        frame = f'<rect x="{_LEFT}" y="{_TOP}" width="{self.width - _LEFT - _RIGHT}" ' + (
            f'height="{_HEIGHT - _TOP - _BOTTOM}" fill="none" stroke="#888"/>'
        )
        middle = (_TOP + _HEIGHT - _BOTTOM) / 2
        words = [
            f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(self.title)}</text>',
            f'<text x="{(_LEFT + self.width - _RIGHT) / 2}" y="{_HEIGHT - 10}" '
            f'text-anchor="middle">{escape(self.x)}</text>',
            f'<text transform="translate(14 {middle}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.y)}</text>',
        ]
        ticks = [
            f'<text x="{self._at_x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{escape(text)}</text>'
            for value, text in self._below()
        ]
        ticks += [
            f'<text x="{_LEFT - 6}" y="{self._at_y(value) + 4:.1f}" text-anchor="end">{_shown(value)}</text>'
            for value in _ticks(self.upwards, "y" in self.log)
        ]
        return (
            f'<g transform="translate({left} {above})">'
            + "".join([frame, *self._marks, *words, *ticks])
            + "</g>"
        )

    def _below(self) -> list[tuple[float, str]]:
        """What is written below the x axis, and where."""
        if self.names is not None:
            return list(self.names.items())
        return [(value, _shown(value)) for value in _ticks(self.across, "x" in self.log)]

    def _at_x(self, value: float) -> float:
        share = _share(value, self.across, "x" in self.log)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        share = _share(value, self.upwards, "y" in self.log)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def figure(
    panels: Sequence[Panel], legend: Mapping[str, str] | None = None, scale: Scale | None = None
) -> str:
    """Panels in rows of three as one SVG; below, the colour of each name or the scale of the colours."""
    rows = [panels[start : start + _IN_A_ROW] for start in range(0, len(panels), _IN_A_ROW)]
    width = max(sum(panel.width for panel in row) for row in rows)
    bottom, drawn = _HEIGHT * len(rows), []
    for number, row in enumerate(rows):
        lefts = [sum(panel.width for panel in row[:before]) for before in range(len(row))]
        drawn += [panel.svg(left, _HEIGHT * number) for panel, left in zip(row, lefts, strict=True)]
    keys = [] if scale is None else [_scale(scale, bottom)]
    a_line = max(1, (width - _LEFT) // 140)
    for number, (name, colour) in enumerate((legend or {}).items()):
        x, y = _LEFT + 140 * (number % a_line), bottom + 14 + 20 * (number // a_line)
        keys.append(f'<rect x="{x}" y="{y - 10}" width="10" height="10" fill="{colour}"/>')
        keys.append(f'<text x="{x + 15}" y="{y}">{escape(name)}</text>')
    height = bottom + 24 * (scale is not None) + 22 * math.ceil(len(legend or {}) / a_line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="#222"><rect width="{width}" height="{height}" fill="white"/>'
        + "".join([*drawn, *keys])
        + "</svg>\n"
    )


def _scale(scale: Scale, above: int) -> str:
    """Colours from dark to bright, and what the first and the last mean."""
    steps = 40
    parts = [
        f'<rect x="{_LEFT + 5 * step}" y="{above + 2}" width="5.5" height="12" fill="{colour}"/>'
        for step, colour in enumerate(colours(list(range(steps))))
    ]
    text = f"{escape(scale.name)}: {scale.low:.2f} (left) to {scale.high:.2f} (right)"
    return "".join(parts) + f'<text x="{_LEFT + 5 * steps + 10}" y="{above + 13}">{text}</text>'


def colours(values: Sequence[float]) -> list[str]:
    """A colour for each number, from dark (the smallest) to bright."""
    low, high = min(values), max(values)
    return list(
        sample_colorscale("Viridis", [(v - low) / (high - low) if high > low else 0.5 for v in values])
    )


def distinct(number: int) -> str:
    """The colour of a series."""
    return str(qualitative.D3[number % len(qualitative.D3)])


def _share(value: float, bounds: tuple[float, float], log: bool) -> float:
    low, high = map(math.log, bounds) if log else bounds
    at = math.log(value) if log else value
    return (at - low) / (high - low) if high > low else 0.5


def _ticks(bounds: tuple[float, float], log: bool) -> list[float]:
    low, high = bounds
    if log:
        base = 2.0 if high / low < 300 else 10.0
        powers = range(math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9) + 1)
        every = max(1, len(powers) // 7)
        return [base**power for power in powers][::every]
    return [low + (high - low) * step / (_TICKS - 1) for step in range(_TICKS)]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"
