"""JSON read value after value, for texts larger than memory should hold."""

from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, TextIO

from matml.core.text.json_text import once_each

PART = 1 << 22
"""Characters read at once."""
LONGEST_WORD = len("-Infinity")
BLANKS = " \t\r\n\ufeff"


class JsonStream:
    """The values of a JSON text, one after another; a container is walked or taken as one value.

    Parameters
    ----------
    file
        The text, at its beginning.
    most
        Characters of the largest value that is taken, which bounds memory.
    """

    def __init__(self, file: TextIO, most: int):
        self._file, self._most = file, most
        self._text, self._at, self._before = "", 0, 0
        self._ended = False
        self._decoder = JSONDecoder(object_pairs_hook=once_each)

    def peek(self) -> str:
        """Return the next character that is no blank, '' at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANKS:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read()

    def value(self) -> Any:
        """Take the next value as a whole.

        Raises
        ------
        ValueError
            Where it is no JSON, or longer than is taken.
        """
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                # a word such as Infinity may be cut where the text read so far ends
                cut = error.pos >= len(self._text) - LONGEST_WORD or "string" in error.msg
                if self._ended or not cut:
                    raise ValueError(self._told(error.msg, error.pos)) from None
            except ValueError as error:
                raise ValueError(self._told(str(error))) from None
            else:
                # a number may go on where the text read so far ends
                if end < len(self._text) or self._ended:
                    self._at = end
                    return found
            if len(self._text) - self._at > self._most:
                raise ValueError(self._told(f"a value of more than {self._most / 1e6:g} MB"))
            self._read()

    def elements(self) -> Iterator[None]:
        """Walk through an array; the caller takes or walks each element."""
        yield from self._inside("[]", lambda: None)

    def members(self) -> Iterator[str]:
        """Walk through an object by its keys; the caller takes or walks each value."""
        yield from self._inside("{}", self._key)

    def end(self) -> None:
        """Refuse what follows after the text's value."""
        if self.peek():
            raise ValueError(self._told("more follows after the end"))

    def _inside(self, ends: str, begin: Any) -> Iterator[Any]:
        self._take(ends[0])
        while self.peek() != ends[1]:
            yield begin()
            if self.peek() != ends[1]:
                self._take(",")
                if self.peek() == ends[1]:
                    raise ValueError(self._told(f"a comma before {ends[1]}"))
        self._take(ends[1])

    def _key(self) -> str:
        if self.peek() != '"':
            raise ValueError(self._told("no key in quotation marks"))
        key = self.value()
        self._take(":")
        return key

    def _take(self, character: str) -> None:
        if self.peek() != character:
            found = f"{self.peek()!r}" if self.peek() else "the end of the text"
            raise ValueError(self._told(f"{found} in the place of {character!r}"))
        self._at += 1

    def _read(self) -> None:
        """Read on: as much again as waits to be decoded, so that a long value is scanned thrice."""
        rest = self._text[self._at :]
        more = self._file.read(max(PART, len(rest)))
        self._before += self._at
        self._text, self._at, self._ended = rest + more, 0, not more

    def _told(self, what: str, at: int | None = None) -> str:
        place = self._before + (self._at if at is None else at) + 1
        return f"{what}, character {place:,}"
