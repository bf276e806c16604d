"""What must not stand in any file, and how large a module may grow."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(ROOT.glob("src/**/*.py"))

# Written so that this file does not hold what it looks for.
REGISTRIES = ("pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)", "debian" + r"\.org")
REGISTRY = re.compile("|".join(REGISTRIES))
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(root|work|home|Users|tmp|farm|opt)/")


def files() -> list[Path]:
    """Return the files of the repository, those not yet added included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def places(pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield where a pattern stands in the repository."""
    for path in files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        for match in pattern.finditer(text):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"


@pytest.mark.parametrize("pattern", [REGISTRY, MACHINE_PATH], ids=["package registry", "machine path"])
def test_no_file_names_a(pattern: re.Pattern[str]) -> None:
    assert list(places(pattern)) == []


def test_the_patterns_find_what_they_look_for() -> None:
    assert REGISTRY.search("https://files.python" + "hosted.org/packages")
    assert MACHINE_PATH.search('"/' + 'home/ada/orders.db"')
    assert not MACHINE_PATH.search("docs/home/index.md")


def test_modules_stay_within_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_functions_stay_within_30_lines() -> None:
    assert {place: length for place, length in function_lengths() if length > 30} == {}


def function_lengths() -> Iterator[tuple[str, int]]:
    """Yield the lines of every function's body, its docstring not counted."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length
