"""JSON whose objects name each key once."""

import json
from typing import Any

MOST_PARTS = 3_000_000
"""Objects and lists of a text, each of which takes some two hundred bytes."""


def from_json(text: str) -> Any:
    """Return the value of a JSON text; a byte order mark before it is passed over.

    Raises
    ------
    ValueError
        Where it is no JSON, has too many parts for memory, or an object holds a key twice, of which
        json would drop the first.
    """
    if (parts := text.count("{") + text.count("[")) > MOST_PARTS:
        raise ValueError(f"{parts} objects and lists, more than {MOST_PARTS}; split the file")
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once_each)


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these members; raise `ValueError` where a key is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object; keep one")
    return found
