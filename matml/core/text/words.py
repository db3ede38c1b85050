"""Words of messages, and names of files in them."""

import os


def plural(what: str, number_of: int) -> str:
    """Return a word in the singular for one, else in the plural."""
    return what if number_of == 1 else f"{what}s"


def readable(name: str) -> str:
    """Return a name without the marks that stand for bytes that are no UTF-8, which no file takes.

    Such bytes are taken as Windows-1252.
    """
    if name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name):
        return name
    try:
        return os.fsencode(name).decode("cp1252", errors="replace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "replace").decode()
