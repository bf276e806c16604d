"""Read JSON Lines: one object a line, of any number of lines, whatever is wrong with some of them."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

import attrs
import msgspec

from orderkit.cli.output import UnreadableFile

MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one line at most: beyond that it is no order, and would only fill the memory."""

_GZIP: Final = b"\x1f\x8b"
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_DAMAGE: Final = (OSError, EOFError, zlib.error)

_decode = msgspec.json.Decoder().decode


@attrs.frozen
class Line:
    """One line that is not blank.

    Attributes:
        number: Which line of the file, from 1.
        text: The line itself, cut off where it is too long.
        item: What it holds; None where it is bad.
        code: What is wrong with it, as a stable name.
        message: The same for people.
    """

    number: int
    text: bytes = attrs.field(repr=False)
    item: Mapping[str, object] | None = attrs.field(default=None, repr=False)
    code: str = ""
    message: str = ""


class JsonLines:
    """A file of JSON Lines, plain or gzip; `-` is stdin.

    Attributes:
        size: The bytes of the file; None where that cannot be known.
        broken: Why reading ended before the end of the file; None if it did not.
        stopped: Somebody stopped it.

    Raises:
        UnreadableFile: It cannot be opened, or is something else.
    """

    def __init__(self, path: str) -> None:
        self.size: int | None = None
        self.broken: UnreadableFile | None = None
        self._path = path
        self._closing = ExitStack()
        self.stopped = False
        self._waiting = False
        self._stream: BinaryIO

    def __enter__(self) -> Self:
        if self._path == "-":
            self._file: BinaryIO = sys.stdin.buffer
        else:
            self._file = self._closing.enter_context(self._opened())
            self.size = Path(self._path).stat().st_size if Path(self._path).is_file() else None
        # A second buffer over one that there is would wait for a pipe to fill it.
        buffered = cast("io.BufferedReader", self._file)
        if not hasattr(buffered, "peek"):
            buffered = io.BufferedReader(cast("io.RawIOBase", self._file))
            self._closing.callback(buffered.detach)
        compressed = buffered.peek(2)[:2] == _GZIP
        self._stream = cast("BinaryIO", gzip.GzipFile(fileobj=buffered)) if compressed else buffered
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def position(self) -> int:
        """How many bytes of the file were read, for a bar that shows how far it is."""
        return self._file.tell() if self.size is not None else 0

    def stop(self) -> None:
        """End after the line that is being read; a reader that waits for its next line ends at once."""
        self.stopped = True
        if self._waiting:
            raise KeyboardInterrupt

    def _opened(self) -> BinaryIO:
        try:
            return Path(self._path).open("rb", buffering=0)
        except IsADirectoryError:
            raise UnreadableFile(f"{self._path!r} is a directory; nothing was read. Give a file.") from None
        except FileNotFoundError:
            raise UnreadableFile(f"There is no file {self._path!r}; nothing was read.") from None
        except OSError as error:
            raise UnreadableFile(f"{self._path!r} cannot be opened: {error.strerror}. Nothing was read.") from None

    def __iter__(self) -> Iterator[Line]:
        number = 0
        while (text := self._next(number)) and not self.stopped:
            number += 1
            if number == 1:
                text = _beginning(text)
            if text.strip():
                yield self._read(number, text)

    def _next(self, number: int) -> bytes:
        """Return the next line; nothing at the end, whether that is the file's or somebody stopped it."""
        try:
            self._waiting = True
            return self._stream.readline(MAX_LINE + 1)
        except KeyboardInterrupt:
            self.stopped = True
        except _DAMAGE:
            self.broken = UnreadableFile(
                f"The file is damaged or cut off behind line {number}; what stands before that was read."
            )
        finally:
            self._waiting = False
        return b""

    def _read(self, number: int, text: bytes) -> Line:
        if len(text) > MAX_LINE:
            self._skip()
            message = f"The line is longer than {MAX_LINE // 1024**2} MiB; it was left out."
            return Line(number, text[:1000], code="line_too_long", message=message)
        try:
            item = _decode(text)
        except UnicodeDecodeError:
            return Line(number, text, code="not_utf8", message="The line is not UTF-8.")
        except (msgspec.DecodeError, RecursionError) as error:
            return Line(number, text, code="not_json", message=f"The line is no JSON that can be read: {error}.")
        if not isinstance(item, dict):
            return Line(number, text, code="not_an_object", message="The line is JSON, but no object.")
        return Line(number, text, item)

    def _skip(self) -> None:
        """Leave out the rest of a line."""
        while (rest := self._stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass


def _beginning(text: bytes) -> bytes:
    """Return the first line without a byte order mark, unless it shows that this is no file of JSON Lines."""
    if text.startswith(_UTF16_MARKS):
        raise UnreadableFile("The file is UTF-16; nothing was read. Save it as UTF-8.")
    text = text.removeprefix(_UTF8_MARK)
    if text.lstrip().startswith(b"["):
        raise UnreadableFile("The file is a JSON array; nothing was read. Give one object a line: jq -c '.[]' FILE.")
    return text
