"""Draw the tables and what refers to what as SVG, from the models."""

from __future__ import annotations

from collections.abc import Iterator

from orderkit.storage.sql.migrations.documentation import relations
from orderkit.storage.sql.tables import PREFIX, metadata

WIDTH, HEAD, LINE, GAP = 200, 30, 18, 18
LEFT, RIGHT = 40, 400

STYLE = """\
:root { color: #24292f; }
@media (prefers-color-scheme: dark) { :root { color: #e2e4e9; } }
rect, line, path { fill: none; stroke: currentColor; stroke-width: 1.5; }
text { fill: currentColor; font: 12px system-ui, sans-serif; }
text.name { font-size: 14px; font-weight: 600; }"""


def table_chart() -> str:
    """Return the chart as SVG: each table with its primary key, each relation with a crow's foot at the many."""
    referring = [name for _, name in relations()]
    alone = [name for name in metadata.tables if name not in {*referring, PREFIX + "orders"}]
    tops = dict(_stacked(referring, GAP))
    height = max(tops.values()) + _height(referring[-1]) + GAP
    middle = (height - _height(PREFIX + "orders")) / 2
    parts = list(_box(PREFIX + "orders", LEFT, middle))
    for name, top in tops.items():
        parts += _box(name, RIGHT, top)
        parts += _relation(middle + _height(PREFIX + "orders") / 2, top + HEAD / 2)
    for name, top in _stacked(alone, GAP):
        parts += _box(name, LEFT, top)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + WIDTH + LEFT} {height:g}" role="img">',
            "<title>The tables and what refers to what</title>",
            f"<style>\n{STYLE}\n</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _stacked(names: list[str], top: float) -> Iterator[tuple[str, float]]:
    """Yield each table with where it begins, one below the other."""
    for name in names:
        yield name, top
        top += _height(name) + GAP


def _height(name: str) -> float:
    return HEAD + LINE * len(metadata.tables[name].primary_key.columns) + LINE / 2


def _box(name: str, x: float, y: float) -> Iterator[str]:
    yield f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{_height(name):g}" rx="6"/>'
    yield f'<line x1="{x:g}" y1="{y + HEAD:g}" x2="{x + WIDTH:g}" y2="{y + HEAD:g}"/>'
    yield f'<text class="name" x="{x + 10:g}" y="{y + 20:g}">{name.removeprefix(PREFIX)}</text>'
    for position, column in enumerate(metadata.tables[name].primary_key.columns, start=1):
        yield f'<text x="{x + 10:g}" y="{y + HEAD + LINE * position - 2:g}">{column.name}</text>'


def _relation(start: float, stop: float) -> Iterator[str]:
    left, right, bend = LEFT + WIDTH, RIGHT, (LEFT + WIDTH + RIGHT) / 2
    yield f'<path d="M {left} {start:g} H {bend:g} V {stop:g} H {right}"/>'
    for side in (-6, 6):
        yield f'<line x1="{right - 12}" y1="{stop:g}" x2="{right}" y2="{stop + side:g}"/>'
