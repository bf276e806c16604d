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
print(*sorted({"asyncio", "httpx", "jinja2", "sqlalchemy"} & set(sys.modules)))
"""


def main(readme: Path) -> None:
    """Check what is installed, what an import loads, and that the README's first example works."""
    import orderkit

    installed = Path(orderkit.__file__)
    assert "site-packages" in installed.parts, installed
    assert (installed.parent / "py.typed").is_file()
    for extra in ("psycopg", "asyncpg", "greenlet", "hypothesis", "pytest"):
        assert importlib.util.find_spec(extra) is None, f"{extra} is not a base dependency"

    cold = subprocess.run([sys.executable, "-I", "-c", COLD], capture_output=True, text=True, check=False)
    assert cold.returncode == 0, cold.stderr
    assert not cold.stdout.split(), f"importing the front door loads {cold.stdout.strip()}"

    for name in orderkit.__all__:
        getattr(orderkit, name)

    example = re.search(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert example, "the README has no example"
    exec(compile(example[1], str(readme), "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
