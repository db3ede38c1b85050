"""Files spoilt at random: text by lines, words and characters, JSON by values, any by bytes."""

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

ODD = ["", ".", "?", "nan", "1e20", "-1", "1_5", "0,5", "x", "Qq", "inf", "999999999", "data_", ";"]
ODD_VALUES = [
    *(None, True, -1, 0, 1e308, 10**30, float("nan"), float("inf"), 0.5),
    *("", "x", "../../x", [], {}, [[]], {"x": 1}, [None], "1"),
]


def spoil(text: str, rng: random.Random) -> str:
    """Return a text with one thing wrong, as bad luck has it."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(
        ["drop", "double", "blank", "cut", "swap", "digit", "character", "word", "join", "repeat"]
    )
    if kind == "drop":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "blank":
        lines[at] = ""
    elif kind == "cut":
        text = "\n".join(lines)
        return text[: rng.randrange(len(text))]
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "digit":
        return _at_random(text, r"\d", lambda _: rng.choice("0123456789"), rng)
    elif kind == "character":
        place = rng.randrange(len(text))
        return text[:place] + rng.choice(["", "x", "0", "'", ";", "\0", "é"]) + text[place + 1 :]
    elif kind == "word":
        return _at_random(text, r"\S+", lambda _: rng.choice(ODD), rng)
    elif kind == "join":
        lines[at : at + 2] = [" ".join(lines[at : at + 2])]
    else:
        return text + text
    return "\n".join(lines)


def spoil_cells(text: str, rng: random.Random) -> str:
    """Return a table of text with a cell changed, moved, lost or added, or as `spoil` does."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    cell = rng.randrange(len(cells))
    kind = rng.choice(["odd", "odd", "drop", "add", "swap", "column", "separator", "end", "spoil"])
    if kind == "odd":
        cells[cell] = rng.choice([*ODD, '"', "1e308", "-0", "=1+1", "1;2", " ", "0x10", "1e-400"])
    elif kind == "drop":
        del cells[cell]
    elif kind == "add":
        cells.insert(cell, rng.choice(ODD))
    elif kind == "swap":
        other = rng.randrange(len(cells))
        cells[cell], cells[other] = cells[other], cells[cell]
    elif kind == "column":
        rows = [line.split(",") for line in lines]
        return "\n".join(",".join(row[:cell] + row[cell + 1 :]) for row in rows)
    elif kind == "separator":
        return text.replace(",", rng.choice([";", "\t", "|", " ", ", ", ",,"]))
    elif kind == "end":
        return text.replace("\n", rng.choice(["\r\n", "\r", "\n\n", " "]))
    else:
        return spoil(text, rng)
    lines[at] = ",".join(cells)
    return "\n".join(lines)


def spoil_value(value: Any, rng: random.Random) -> Any:
    """Return a JSON value of which one part is replaced, left out or given another name."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(ODD_VALUES)
    holder, key = rng.choice(places)
    kind = rng.choice(["odd", "odd", "odd", "drop", "double", "root"])
    if kind == "root":
        return rng.choice(ODD_VALUES)
    if kind == "drop":
        del holder[key]
    elif kind == "double":
        if isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[f"{key}2"] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return value


def spoil_json(text: str, rng: random.Random) -> str:
    """Return a JSON text of which a part, or the text, is wrong."""
    if rng.random() < 0.2:
        return spoil(text, rng)
    return json.dumps(spoil_value(json.loads(text), rng))


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return a file's bytes with some changed, lost or added, as bad discs have it."""
    kind = rng.choice(["flip", "flip", "cut", "zeros", "add", "lose", "empty", "start"])
    at = rng.randrange(len(content))
    if kind == "start":
        at = rng.randrange(min(64, len(content)))
    if kind in ("flip", "start"):
        changed = content[at] ^ (1 << rng.randrange(8))
        return content[:at] + bytes([changed]) + content[at + 1 :]
    if kind == "cut":
        return content[:at]
    if kind == "zeros":
        return content[:at] + bytes(len(content[at : at + 512])) + content[at + 512 :]
    if kind == "lose":
        return content[:at] + content[at + rng.choice([1, 8, 512]) :]
    return b"" if kind == "empty" else content + bytes(rng.choice([1, 512]))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every part of a JSON value, as what holds it and its key there."""
    items: list[Any] = [value]
    found = []
    while items:
        holder = items.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        items += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
    return found


def _at_random(text: str, pattern: str, change: Callable[[str], str], rng: random.Random) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = rng.choice(found)
    return text[: one.start()] + change(one.group()) + text[one.end() :]
