"""What SQLite tells of itself and of its file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from orderkit.storage.sql.diagnosis.facts import Files, Server
from orderkit.storage.sql.diagnosis.probe import Probe, numbers

_LEVELS = {"0": "off", "1": "normal", "2": "full", "3": "extra"}


def look(probe: Probe, path: str) -> Server:
    """Return what there is to know of the library and of the file."""
    version = str(probe.row("SELECT sqlite_version()")[0])
    (mode,) = probe.row("PRAGMA journal_mode")
    (level,) = probe.row("PRAGMA synchronous")
    settings = {"journal_mode": str(mode), "synchronous": _LEVELS.get(str(level), str(level))}
    file = Path(path)
    return Server(
        "SQLite",
        version,
        numbers(version),
        settings,
        read_only=file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)),
        files=_files(file) if file.exists() else None,
    )


def _files(file: Path) -> Files:
    log = file.with_name(f"{file.name}-wal")
    return Files(
        file.stat().st_size, log.stat().st_size if log.exists() else 0, shutil.disk_usage(file.absolute().parent).free
    )
