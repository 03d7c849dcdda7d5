"""Charts as SVG, made here: they need no script, follow the theme and print. Each has a table that says the same for
who cannot see it, which is where the tooltip has its words from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from yatl.helpers import XML

LINES_Y, LABELS_X = 4, 5
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = 24


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    values: Sequence[float]


def lines(
    title: str, labels: Sequence[str], series: Sequence[Series], *, unit: str = "", labels_x: int = LABELS_X
) -> XML:
    """Values over time, two series at most to be told apart at a glance; the first one is filled below."""
    top = _nice(max((value for each in series for value in each.values), default=0))
    drawn = [
        f'<path class="axis" vector-effect="non-scaling-stroke" d="M0 {100 * n / LINES_Y:g}H1000"/>'
        for n in range(LINES_Y + 1)
    ]
    for n, each in enumerate(series, 1):
        points = "L".join(
            f"{1000 * i / max(1, len(each.values) - 1):.1f} {100 - 100 * value / top:.2f}"
            for i, value in enumerate(each.values)
        )
        if n == 1:
            drawn.append(f'<path class="area s{n}" d="M{points}L1000 100L0 100Z"/>')
        drawn.append(f'<path class="line s{n}{" dash" if n > 1 else ""}" d="M{points}"/>')
    y = "".join(f"<li>{short(top * (LINES_Y - n) / LINES_Y)}</li>" for n in range(LINES_Y + 1))
    places = [round(n * (len(labels) - 1) / (labels_x - 1)) for n in range(labels_x)] if labels else []
    x = "".join(f"<li>{escape(labels[place])}</li>" for place in dict.fromkeys(places))
    heights = ";".join(",".join(f"{value / top:.4f}" for value in each.values) for each in series)
    return XML(
        f'<figure class="chart" data-chart data-values="{heights}" tabindex="0" role="group"'
        f' aria-label="{escape(title)}. Use the arrow keys to read values."><div class="plot">'
        f'<ol class="y" aria-hidden="true">{y}</ol><div class="canvas"><svg viewBox="0 0 1000 100"'
        f' preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg></div></div>'
        f'<ol class="x" aria-hidden="true">{x}</ol>{_table(title, labels, series, unit)}</figure>'
    )


def _table(title: str, labels: Sequence[str], series: Sequence[Series], unit: str) -> str:
    head = "".join(f'<th scope="col">{escape(each.name)}</th>' for each in series)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{each.values[n]:,.0f}{unit}</td>" for each in series)
        + "</tr>"
        for n, label in enumerate(labels)
    )
    return (
        f'<div class="vh"><table><caption>{escape(title)}</caption>'
        f'<thead><tr><th scope="col">Day</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def bars(items: Sequence[tuple[str, int]], href: str) -> XML:
    """A ranking, longest first."""
    top = max((count for _, count in items), default=0) or 1
    return XML(
        '<ol class="bars">'
        + "".join(
            '<li><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{100 * count / top:.1f}" height="1"/></svg>'
            f'<a href="{escape(href)}">{escape(label)}</a><span class="v">{count:,}</span></li>'
            for label, count in items
        )
        + "</ol>"
    )


def columns(items: Sequence[tuple[str, int]]) -> XML:
    """A few days beside each other."""
    top = max((count for _, count in items), default=0) or 1
    return XML(
        '<ol class="cols7">'
        + "".join(
            f'<li><b>{count:,}</b><svg viewBox="0 0 1 100" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="1" height="{max(1.5, 100 * count / top):.1f}"/></svg>{escape(label)}</li>'
            for label, count in items
        )
        + "</ol>"
    )


def heat(counts: Mapping[tuple[int, int], int]) -> XML:
    """When people talk: by weekday (0 is Monday) and hour."""
    top = max(counts.values(), default=0)
    busiest = max(counts, key=lambda at: counts[at], default=None) if top else None
    words = f"; busiest on {DAYS[busiest[0]]} at {busiest[1]:02}:00" if busiest else ""
    cells = "".join(
        f'<rect class="h{math.ceil(4 * value / top) if top else 0}" x="{hour * 10 + 0.6:.1f}" y="{day * 10 + 0.8:.1f}"'
        f' width="8.8" height="8.4"><title>{DAYS[day]} {hour:02}:00, {value:,} messages</title></rect>'
        for day in range(len(DAYS))
        for hour in range(HOURS)
        for value in [counts.get((day, hour), 0)]
    )
    return XML(
        f'<svg viewBox="0 0 240 70" preserveAspectRatio="none" role="img"'
        f' aria-label="Messages by weekday and hour, UTC{words}">{cells}</svg>'
    )


def strip(days: Sequence[str]) -> XML:
    """Thirty days of a module: each "", "w" for some trouble, "b" for much, "n" for no use."""
    bad = sum(each in ("w", "b") for each in days)
    words = f"{bad} days with trouble" if bad else "no trouble"
    cells = "".join(
        f'<rect x="{n * 4.4:.1f}" width="3" height="22" rx="1" class="{each}"/>' for n, each in enumerate(days)
    )
    return XML(
        f'<svg class="up30" viewBox="0 0 {len(days) * 4.4 - 1.4:.1f} 22" role="img"'
        f' aria-label="{len(days)} days: {words}">{cells}</svg>'
    )


def _nice(top: float) -> float:
    # Four at least, so that each of the lines is a whole number.
    top = max(top, LINES_Y)
    power = 10.0 ** math.floor(math.log10(top))
    return next(factor * power for factor in (1, 2, 4, 5, 8, 10) if factor * power >= top)


def short(number: float) -> str:
    """A number as a label has room for."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f}".removesuffix(".0") + f" {letter}"
    return f"{number:g}"
