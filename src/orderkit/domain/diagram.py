"""The life of an order as a Mermaid diagram, drawn from the rules that are enforced."""

from __future__ import annotations

from orderkit.domain.decisions import RULES
from orderkit.domain.status import OrderStatus


def state_diagram() -> str:
    """Return the states of an order and the commands that lead from one to another, as Mermaid text.

    Example:
        >>> print(state_diagram().splitlines()[0])
        stateDiagram-v2
    """
    lines = [
        "stateDiagram-v2",
        "    [*] --> draft: create_draft",
        "    [*] --> pending: place_order",
        "    [*] --> open: place_order",
    ]
    edges: dict[tuple[OrderStatus, OrderStatus], list[str]] = {}
    for rule in RULES.values():
        for source in rule.sources:
            for target in rule.targets:
                edges.setdefault((source, target), []).append(rule.kind)
    order = list(OrderStatus)
    for source, target in sorted(edges, key=lambda edge: (order.index(edge[0]), order.index(edge[1]))):
        lines.append(f"    {source.value} --> {target.value}: {', '.join(edges[source, target])}")
    lines.extend(f"    {status.value} --> [*]" for status in order if status.final)
    return "\n".join(lines)
