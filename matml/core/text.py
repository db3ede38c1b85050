"""Bytes of a user's file to text: the encodings that spreadsheets and instruments write."""

import codecs

MARKS = (
    # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes) -> str:
    """Return a file's text by its mark, else as UTF-8, else as Windows-1252.

    UTF-16 without a mark is told by the zero bytes of its plain characters.

    Raises
    ------
    ValueError
        For bytes that are no text.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content:
        head = content[:4000]
        even, odd = head[0::2].count(0), head[1::2].count(0)
        for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
            if zeros > 0.4 * (len(head) // 2) and others == 0:
                return content.decode(encoding)
        raise ValueError("bytes that are no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
