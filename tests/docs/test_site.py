"""The documentation builds without a warning, needs no network, and describes every public name."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import orderkit
from tests.docs.blocks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]

LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    # Never --quiet: it hides that --strict found broken links.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return directory


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    loaded = {f"{page.relative_to(site)}: {tag}" for page in pages for tag in LOADED.findall(page.read_text())}
    assert not loaded


def test_the_reference_describes_every_public_name(site: Path) -> None:
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    described = {entry.split()[0].rpartition(".")[2] for entry in entries}
    assert {"OrderKitError", "Clock"} <= described
    assert not set(orderkit.__all__) - described
