"""Use the installed wheel as a stranger would: run by `python -I smoke.py README.md` where nothing else is installed.

It imports nothing of the tests and leaves no trace outside the current directory.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

COLD = """
import sys
from orderkit import OrderKit, Line, Money
print(*sorted({"asyncio", "httpx", "jinja2", "sqlalchemy", *RESILIENCE} & set(sys.modules)))
"""

PLAIN = """
import sys
from orderkit import OrderKit, Line, Money
kit = OrderKit.from_url("memory://")
order = kit.orders.place(lines=[Line(sku="TEA-001", quantity=2, unit_price=Money("4.50", "EUR"))])
assert kit.orders.get(order.id) == order
print(*sorted({"httpx", "jinja2", "sqlalchemy", *RESILIENCE} & set(sys.modules)))
"""

RESILIENCE = 'RESILIENCE = {"cachetools", "limits", "pybreaker", "redis", "tenacity"}'
"""What only those load who call others, or keep what they look up."""


def loaded(program: str) -> list[str]:
    """Return which of the modules that it need not load a program has loaded."""
    command = [sys.executable, "-I", "-c", f"{RESILIENCE}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def main(readme: Path) -> None:
    """Check what is installed, what an import loads, and that the README's first example works."""
    import orderkit

    installed = Path(orderkit.__file__)
    assert "site-packages" in installed.parts, installed
    assert (installed.parent / "py.typed").is_file()
    for extra in ("psycopg", "asyncpg", "greenlet", "hypothesis", "pytest"):
        assert importlib.util.find_spec(extra) is None, f"{extra} is not a base dependency"

    assert not loaded(COLD), "importing the front door loads what it need not"
    assert not loaded(PLAIN), "a kit without a cache loads what only calls to others need"

    for name in orderkit.__all__:
        getattr(orderkit, name)

    example = re.search(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert example, "the README has no example"
    exec(compile(example[1], str(readme), "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
