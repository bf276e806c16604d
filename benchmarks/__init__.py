"""What orderkit costs, measured beside what the same work costs without it.

`make bench` runs everything, writes `build/bench.json` and prints the table. The method is in
`benchmarks.measure`; there is a module for each family of figures.
"""

from __future__ import annotations
