"""The encoding of a file of text, and the text in it."""

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

MARKS = (
    # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes) -> str:
    """Return a file's text in its encoding (`encoding_of`).

    Raises
    ------
    ValueError
        For bytes that are no text.
    """
    encoding = encoding_of(content)
    return content.decode(encoding, errors="replace" if encoding == "cp1252" else "strict")


def encoding_of(content: bytes) -> str:
    """Return the encoding of a file by its mark, else UTF-8 if it may be, else Windows-1252.

    UTF-16 without a mark is told by the zero bytes of its plain characters.

    Raises
    ------
    ValueError
        For bytes that are no text.
    """
    return _encoding(io.BytesIO(content))


def plain_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked where its name ends in `.gz`."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.lower().endswith(".gz") else content


def _unmarked(head: bytes) -> str:
    """Return the encoding of a text with zero bytes by where they stand."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > 0.4 * (len(head) // 2) and others == 0:
            return encoding
    raise ValueError("bytes that are no text")


@contextmanager
def opened(path: Path, content: bytes | None) -> Iterator[TextIO]:
    """Open a text of any encoding, with plain line ends; `.gz` is unpacked."""

    def binary() -> BinaryIO:
        source = path if content is None else io.BytesIO(content)
        if path.name.lower().endswith(".gz"):
            return cast(BinaryIO, gzip.open(source))
        return source.open("rb") if isinstance(source, Path) else source

    with binary() as file:
        encoding = _encoding(file)
    with io.TextIOWrapper(binary(), encoding=encoding, errors="replace") as text:
        yield cast(TextIO, text)


def _encoding(file: BinaryIO) -> str:
    """Return the encoding of a file as `decode` finds it, without keeping the whole."""
    head = file.read(4000)
    marked = next((name for mark, name in MARKS if head.startswith(mark)), "")
    if marked or b"\0" in head:
        return marked or _unmarked(head)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while head:
            decoder.decode(head)
            head = file.read(1 << 20)
            if b"\0" in head:
                raise ValueError("bytes that are no text")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
