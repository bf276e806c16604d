"""Every block of the README, of the documentation and of the docstrings runs; `blocks.py` has the convention."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, Page, blocks_of, check_commands, run_doctest

PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCE = ROOT / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>> " in (text := path.read_text()) or "```python" in text
)

ALONE = {"docs/how-to/django.md"}
"""Pages that set up what a process can set up only once."""

OpenPage = Callable[[str], Page]


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Open a page in an empty directory, a fresh module and an environment without settings."""
    for name in os.environ:
        if name.startswith("ORDERKIT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def open_page(name: str) -> Page:
        # Type hints are resolved through `sys.modules`.
        module = types.ModuleType("page")
        monkeypatch.setitem(sys.modules, "page", module)
        return Page(name, module)

    return open_page


@pytest.mark.parametrize("path", PAGES)
def test_the_blocks_of_a_page_run(path: str, open_page: OpenPage) -> None:
    text = (ROOT / path).read_text()
    assert text.count("```") % 2 == 0, "a fence is not closed"
    if path in ALONE:
        run_alone(path)
        return
    with open_page(path) as page:
        for block in blocks_of(text):
            page.run(block)


def run_alone(path: str) -> None:
    """Run a page in a process of its own."""
    script = "import sys, types; from tests.docs.blocks import *; sys.modules['page'] = types.ModuleType('page')\n"
    script += "with Page('page', sys.modules['page']) as page:\n"
    script += f"    for block in blocks_of((ROOT / {path!r}).read_text()): page.run(block)\n"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name: str, open_page: OpenPage) -> None:
    tests = doctest.DocTestFinder(exclude_empty=False).find(importlib.import_module(name))
    for test in tests:
        run_doctest(test)
        with open_page(test.name) as page:
            for block in blocks_of(inspect.cleandoc(test.docstring or "")):
                page.run(block)


class TestTheConvention:
    def test_blocks_share_a_namespace_and_may_await(self, open_page: OpenPage) -> None:
        text = """
```python
import asyncio
value = 1
```

- In a list:

    ```python
    value += await asyncio.sleep(0, 41)
    print("value is", value)
    ```

    ```text title="output"
    value ... 42
    ```

```pycon
>>> value
42
```
"""
        with open_page("page.md") as page:
            blocks = list(blocks_of(text))
            assert [block.language for block in blocks] == ["python", "python", "text", "pycon"]
            for block in blocks:
                page.run(block)

    @pytest.mark.parametrize(
        "block",
        [
            Block("python", False, "assert False", 1),
            Block("pycon", False, ">>> 1 + 1\n3\n", 1),
            Block("text", True, "something", 1),
            Block("", False, "value = 1", 1),
            Block("mermaid", False, "graph TD", 1),
        ],
    )
    def test_what_is_wrong_fails(self, block: Block, open_page: OpenPage) -> None:
        with open_page("page.md") as page, pytest.raises(AssertionError):
            page.run(block)

    def test_a_failure_names_the_line_of_the_page(self, open_page: OpenPage) -> None:
        with open_page("page.md") as page, pytest.raises(ZeroDivisionError) as caught:
            page.run(Block("python", False, "\n1 / 0", 7))
        last = caught.traceback[-1]
        assert (str(last.path).rpartition(os.sep)[2], last.lineno + 1) == ("page.md", 8)

    def test_commands_of_the_command_line_run(self, open_page: OpenPage) -> None:
        source = "$ export ORDERKIT_DATABASE_URL=sqlite:///shop.db\n$ orderkit db upgrade\n"
        with open_page("page.md") as page:
            page.run(Block("console", False, source, 1))
            page.run(Block("console", False, "$ orderkit orders list\nNo order is ...\n$ orderkit sweep\n", 1))
            with pytest.raises(AssertionError, match="No order"):
                page.run(Block("console", False, "$ orderkit orders list\nA-1 and A-2\n", 1))

    @pytest.mark.parametrize(
        "command",
        [
            "make demo test",
            "pip install 'orderkit[postgresql,async]'",
            "$ make test\n12 passed",
            "zcat old.gz | orderkit orders import - --json | jq .bad",
            "orderkit doctor --strict && echo well",
            "orderkit --version",
        ],
    )
    def test_commands_that_exist(self, command: str) -> None:
        check_commands(command)

    @pytest.mark.parametrize(
        "command",
        [
            "make coffee",
            "pip install 'orderkit[kitchen]'",
            "python examples/none.py",
            "rm -rf data",
            "orderkit orders lost",
            "orderkit orders list --colour red",
            "zcat old.gz | orderkit orders imprt -",
        ],
    )
    def test_commands_that_do_not(self, command: str) -> None:
        with pytest.raises(AssertionError):
            check_commands(command)
