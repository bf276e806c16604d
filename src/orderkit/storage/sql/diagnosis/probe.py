"""Ask a database something, in its own dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from orderkit.storage.sql.dialect import Dialect
from orderkit.storage.sql.execution import Executor, Rows
from orderkit.unit_of_work.changes import Value


@attrs.frozen
class Probe:
    """One connection on which questions are asked.

    Attributes:
        schema: The schema of the tables; None for the connection's own.
    """

    _executor: Executor
    _dialect: Dialect
    schema: str | None = None

    def rows(self, template: str, *values: Value) -> Rows:
        """Return the rows of a statement, which may name tables and kinds of parameters as templates do."""
        encoded = [self._dialect.encode(value) for value in values]
        return self._executor.execute(self._dialect.compile(template), encoded)

    def row(self, template: str, *values: Value) -> Sequence[object]:
        """Return the only row of a statement."""
        return self.rows(template, *values)[0]

    def settings(self, template: str) -> Mapping[str, str]:
        """Return names and values, the names in small letters."""
        return {str(name).lower(): str(value) for name, value in self.rows(template)}

    def time(self, value: object) -> datetime:
        """Return a time of a row, aware and in UTC."""
        return self._dialect.decode_time(value)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version.

    Example:
        >>> numbers("10.11.14-MariaDB-0+deb12u2")
        (10, 11, 14)
    """
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()


def whole(value: object) -> int:
    """Return a number that a driver gives as an integer, a decimal or text."""
    return int(str(value))
