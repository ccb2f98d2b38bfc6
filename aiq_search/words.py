"""Numbers in sentences."""

from __future__ import annotations

__all__ = ["compared", "counted", "duration", "ratio", "shown", "typeset"]

# How numbers of a trial are written that are not from 0 to 1.
_FORMS = dict.fromkeys(("activation_bytes", "macs", "parameters", "parameters_weights"), ",.0f")
_FORMS |= dict.fromkeys(("latency_ms", "latency_ms_iqr"), ".4g")


def counted(number: int, noun: str, verb: str = "") -> str:
    """A number of things, and what they do.

    >>> counted(1, "trial"), counted(1200, "trial", "lie")
    ('1 trial', '1,200 trials lie')
    >>> counted(1, "trial", "lie"), counted(1, "trial", "were")
    ('1 trial lies', '1 trial was')
    """
    if number == 1:
        one = {"": "", "were": " was"}.get(verb, f" {verb}s")
        return f"1 {noun}{one}"
    return f"{number:,} {noun}s {verb}".rstrip()


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(83.3), duration(300), duration(9000)
    ('83 s', '5 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def typeset(text: str) -> str:
    r"""Text of a space file as one prints it; a comparison stays on one line.

    >>> typeset("`mlp`, where accuracy >= 0.9")
    'mlp, where accuracy\xa0≥\xa00.9'
    """
    printed = text.replace("`", "")
    for typed, sign in ((" >= ", "≥"), (" <= ", "≤")):
        printed = printed.replace(typed, f"\u00a0{sign}\u00a0")
    return printed.replace("β = ", "β\u00a0=\u00a0")


def ratio(larger: float, smaller: float) -> str:
    """How many times larger one is, with a decimal while that says something.

    >>> ratio(43, 10), ratio(30_912, 1), ratio(5, 0)
    ('4.3', '30,912', '5.0')
    """
    times = larger / max(1.0, smaller)
    return f"{times:,.0f}" if times >= 20 else f"{times:.1f}"


def compared(ours: float, theirs: float) -> str:
    """How many things one has, compared with another.

    >>> compared(100, 250), compared(230, 100), compared(7, 7), compared(1000, 1001)
    ('2.5 times fewer', '2.3 times as many', 'as many', 'about as many')
    """
    if ours == theirs:
        return "as many"
    times = ratio(max(ours, theirs), min(ours, theirs))
    if times == "1.0":
        return "about as many"
    return f"{times} times fewer" if ours < theirs else f"{times} times as many"


def shown(name: str, value: float, sd: float | None = None, *, sign: bool = False) -> str:
    """A number of a trial, and its standard deviation if it has one; a difference with its sign.

    >>> shown("aiq", 0.8, 0.03), shown("activation_bytes", 1568.0, 0.0), shown("latency_ms", 0.00712, 0.0004)
    ('0.8000 ± 0.0300', '1,568', '0.00712 ± 0.0004')
    """
    form = _FORMS.get(name, ".4f")
    exact = form == ",.0f"  # no seed changes it
    deviation = "" if sd is None or exact else f" ± {sd:{form}}"
    return f"{value:{'+' if sign else ''}{form}}{deviation}"
