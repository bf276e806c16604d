"""What is released: the sdist, the wheel built from it, and the wheel in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distribution")]


class Distribution(NamedTuple):
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside of every environment variable of Python and return what it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    (sdist,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return Distribution(sdist, wheel)


def test_the_wheel_holds_the_package_alone(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "src" / "orderkit"
    expected = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert "orderkit/py.typed" in names
    assert names == expected


def test_the_wheel_says_what_it_is(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        information = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = HeaderParser().parsestr(archive.read(information["METADATA"]).decode())
        licence = archive.read(information["LICENSE"]).decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache License" in licence


def test_the_sdist_holds_what_it_takes_to_build_and_test(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "mkdocs.yml", "pyproject.toml"}
    assert not files - names
    rooms = {name.partition("/")[0] for name in names - files} - {"PKG-INFO", ".gitignore"}
    assert rooms <= {"src", "tests", "docs", "examples", "benchmarks", "tools"}
    assert {"src", "tests", "docs"} <= rooms
    assert not {name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db"))}


def test_the_wheel_works_where_nothing_else_is_installed(distribution: Distribution, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", distribution.wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(python, "-I", Path(__file__).with_name("smoke.py"), ROOT / "README.md", cwd=elsewhere)
