"""Figures as SVG, which a document shows without a program that draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from plotly.colors import qualitative, sample_colorscale

__all__ = ["Panel", "colours", "figure"]

_WIDTH, _HEIGHT = 420, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 30, 48
_TICKS = 5


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
    """

    title: str
    x: str
    y: str
    across: tuple[float, float]
    upwards: tuple[float, float]
    log: str = ""
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

    def label(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Words beside a point."""
        self._marks.append(
            f'<text x="{self._at_x(x) + 7:.1f}" y="{self._at_y(y) - 7:.1f}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self, left: int) -> str:
        """Its marks and axes, so many units from the left."""
        frame = f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" ' + (
            f'height="{_HEIGHT - _TOP - _BOTTOM}" fill="none" stroke="#888"/>'
        )
        middle = (_TOP + _HEIGHT - _BOTTOM) / 2
        words = [
            f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(self.title)}</text>',
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" '
            f'text-anchor="middle">{escape(self.x)}</text>',
            f'<text transform="translate(14 {middle}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.y)}</text>',
        ]
        ticks = [
            f'<text x="{self._at_x(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{_shown(value)}</text>'
            for value in _ticks(self.across, "x" in self.log)
        ]
        ticks += [
            f'<text x="{_LEFT - 6}" y="{self._at_y(value) + 4:.1f}" text-anchor="end">{_shown(value)}</text>'
            for value in _ticks(self.upwards, "y" in self.log)
        ]
        return (
            f'<g transform="translate({left} 0)">' + "".join([*self._marks, frame, *words, *ticks]) + "</g>"
        )

    def _at_x(self, value: float) -> float:
        share = _share(value, self.across, "x" in self.log)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        share = _share(value, self.upwards, "y" in self.log)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def figure(panels: Sequence[Panel], legend: Mapping[str, str] | None = None) -> str:
    """Panels side by side as one SVG, with the colour of each name in the legend below."""
    entries = list((legend or {}).items())
    width, height = _WIDTH * len(panels), _HEIGHT + 20 * math.ceil(len(entries) / (3 * len(panels)))
    keys = []
    for number, (name, colour) in enumerate(entries):
        x, y = 40 + 140 * (number % (3 * len(panels))), _HEIGHT + 12 + 20 * (number // (3 * len(panels)))
        keys.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        keys.append(f'<text x="{x + 15}" y="{y}">{escape(name)}</text>')
    drawn = [panel.svg(_WIDTH * number) for number, panel in enumerate(panels)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="#222"><rect width="{width}" height="{height}" fill="white"/>'
        + "".join([*drawn, *keys])
        + "</svg>\n"
    )


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
        base = 2.0 if high / low < 2000 else 10.0
        powers = range(math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9) + 1)
        every = max(1, len(powers) // 7)
        return [base**power for power in powers][::every]
    return [low + (high - low) * step / (_TICKS - 1) for step in range(_TICKS)]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"
