"""`make` without a target tells what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_help_tells_every_target_that_people_use() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^make (\w+) {2,}\S", told, re.MULTILINE))
    assert listed >= {"help", "demo", "test", "check", "bench", "torture", "docs", "build", "clean"}
    assert listed <= set(re.findall(r"[\w.-]+", (ROOT / "Makefile").read_text().partition(".PHONY:")[2]))
