"""Draw the life of an order as SVG, from the diagram that the rules give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from orderkit.domain.diagram import state_diagram

WIDTH, HEIGHT = 130, 44
SIZE = (980, 400)

PLACES: Final = {
    "draft": (380, 50),
    "discarded": (700, 50),
    "pending": (230, 190),
    "open": (550, 190),
    "completed": (870, 190),
    "expired": (230, 340),
    "cancelled": (550, 340),
}
"""Where each state stands: the middle of its box."""

STARTS: Final = {"draft": (190, 50), "pending": (40, 190), "open": (690, 120)}
"""From where a new order enters a state."""

STYLE = """\
:root { color: #24292f; }
@media (prefers-color-scheme: dark) { :root { color: #e2e4e9; } }
rect, line { fill: none; stroke: currentColor; stroke-width: 1.5; }
rect.final { stroke-width: 3; }
text { fill: currentColor; font: 15px system-ui, sans-serif; text-anchor: middle; }
text.label { font-size: 12px; }
text.right { text-anchor: start; }
path, circle { fill: currentColor; }"""

HEAD = """\
<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M 0 1 L 10 5 L 0 9 z"/></marker>"""


class Arrow(NamedTuple):
    """A straight line with a head, and what is written beside it."""

    start: tuple[float, float]
    stop: tuple[float, float]
    label: str


def state_chart() -> str:
    """Return the chart as SVG. A state without a place of its own is a KeyError: give it one."""
    edges = re.findall(r"^ *(\S+) --> (\S+?)(?:: (.+))?$", state_diagram(), re.MULTILINE)
    finals = {source for source, target, _ in edges if target == "[*]"}
    parts = [_box(state, x, y, state in finals) for state, (x, y) in PLACES.items()]
    pairs = {(source, target) for source, target, _ in edges}
    for source, target, label in edges:
        if target != "[*]":
            parts.extend(_arrow(_between(source, target, label, (target, source) in pairs)))
    parts.extend(f'<circle cx="{x}" cy="{y}" r="6"/>' for x, y in STARTS.values())
    width, height = SIZE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>The life of an order</title>",
            f"<style>\n{STYLE}\n</style>",
            f"<defs>{HEAD}</defs>",
            *parts,
            "</svg>\n",
        ]
    )


def _box(state: str, x: float, y: float, final: bool) -> str:
    kind = ' class="final"' if final else ""
    return (
        f'<rect{kind} x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text x="{x}" y="{y + 5}">{state}</text>'
    )


def _between(source: str, target: str, label: str, both_ways: bool) -> Arrow:
    """Return the arrow between two boxes; two that run both ways keep to their own side."""
    x1, y1 = STARTS[target] if source == "[*]" else PLACES[source]
    x2, y2 = PLACES[target]
    side = (10 if x1 < x2 else -10) if both_ways else 0
    start = (x1, y1) if source == "[*]" else _edge(x1, y1, x2, y2)
    stop = _edge(x2, y2, x1, y1)
    return Arrow((start[0], start[1] - side), (stop[0], stop[1] - side), label)


def _edge(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Return where the line from the middle of a box towards a point leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(WIDTH / 2 / abs(dx) if dx else 1, HEIGHT / 2 / abs(dy) if dy else 1)
    return round(x + dx * scale, 1), round(y + dy * scale, 1)


def _arrow(arrow: Arrow) -> Iterator[str]:
    (x1, y1), (x2, y2) = arrow.start, arrow.stop
    yield f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" marker-end="url(#head)"/>'
    if y1 == y2:
        yield f'<text class="label" x="{(x1 + x2) / 2:g}" y="{y1 + (18 if x2 < x1 else -8):g}">{arrow.label}</text>'
    else:
        # Above the middle, where lines that meet further down are still apart.
        x, y = x1 + (x2 - x1) * 0.35, y1 + (y2 - y1) * 0.35
        yield f'<text class="label right" x="{x + 10:.1f}" y="{y:.1f}">{arrow.label}</text>'
