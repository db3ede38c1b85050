"""Responses of databases saved to disk, and tables by pandas: the entries in them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

LISTS = ("structures", "data", "response", "results")
"""Keys under which responses hold their entries."""
NAMES = ("material_id", "task_id", "jid", "id")
STRUCTURES = ("structure", "atoms", "final_structure", "output")
"""Keys under which entries hold their crystal, those of task documents included."""


def entries_of(value: Any) -> list:
    """Return the entries of a response: a list, tables by pandas, ASE's database, crystals by name.

    What is a single entry, or nothing known, stands alone in the list.

    Raises
    ------
    ValueError
        Where rows of a table do not fit its columns or its index.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or is_crystal(value):
        return [value]
    columns, rows = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(rows, list):
        names = value.get("index") or range(1, len(rows) + 1)
        if len(names) != len(rows):
            raise ValueError(f"`index` has {len(names)} names, but `data` {len(rows)} rows")
        check_columns(columns)
        return [
            split_row(columns, row, str(name), number)
            for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1)
        ]
    if isinstance(value.get("ids"), list) and "nextid" in value:
        names = list(map(str, value["ids"]))
        rows = [name for name in value if name.isdigit()]
        if other := sorted({*names} ^ {*rows}, key=len):
            raise ValueError(
                f"`ids` lists {len(names)} rows, but there are {len(rows)}: {other[0]} is in one of"
                " the two only"
            )
        return [{"id": name, **value[name]} for name in names]
    for key in LISTS:
        if isinstance(value.get(key), list | dict):
            found = value[key]
            return found if isinstance(found, list) else [found]
    crystals = sum(map(is_crystal, value.values()))
    if crystals and crystals in (len(value), max(crystals, 2)):
        # what is no crystal among them is told by its name
        return [
            {**(item if isinstance(item, dict) else {}), "id": name} for name, item in value.items()
        ]
    for key in STRUCTURES:
        # pandas' default: columns of cells by row
        cells = value.get(key)
        if isinstance(cells, dict) and cells and all(map(is_crystal, cells.values())):
            return [{"id": row, key: cell} for row, cell in cells.items()]
    return [value]


def check_columns(columns: list) -> None:
    """Refuse columns, of a table by pandas with orient="split", that are no names or not distinct.

    Raises
    ------
    ValueError
        Says which.
    """
    for column in columns:
        if not isinstance(column, str | int):
            raise ValueError(f"`columns` holds {column!r:.60}, which is no name")
        if columns.count(column) > 1:
            raise ValueError(f"the column {column!r} is given twice; keep one")


def split_row(columns: list, cells: Any, name: str, number: int) -> dict[Any, Any]:
    """Return one row of such a table; raise `ValueError` where it has other cells than columns."""
    if not isinstance(cells, list) or len(cells) != len(columns):
        has = (
            f"{len(cells)} cells" if isinstance(cells, list) else f"{cells!r:.60}, no list of cells"
        )
        raise ValueError(f"row {number} of `data` has {has}, the table {len(columns)} columns")
    return {"id": name, **dict(zip(columns, cells, strict=True))}


def is_crystal(value: Any) -> bool:
    """Whether a dictionary is a crystal in one of the known forms, or holds one."""
    if not isinstance(value, dict):
        return False
    return (
        ("lattice" in value and "sites" in value)
        or {"lattice_mat", "coords", "elements"} <= value.keys()
        or ({"cell", "positions"} <= value.keys() and bool({"numbers", "symbols"} & value.keys()))
        or is_optimade(value)
        or any(isinstance(value.get(key), dict) and is_crystal(value[key]) for key in STRUCTURES)
    )


def crystal_records(entry: Any) -> list[Any]:
    """Return an entry, such as a task document, and what is inside of it down to its crystal."""
    found = [entry]
    for _ in range(4):
        record = found[-1]
        if not isinstance(record, dict) or "lattice" in record or is_optimade(record):
            break
        inner = next((record[key] for key in STRUCTURES if isinstance(record.get(key), dict)), None)
        if inner is None:
            break
        found.append(inner)
    return found


def entry_suffixes(entries: Sequence) -> list[str]:
    """What is put behind a file's name to tell its crystals apart: `#mp-149`, else `#1`, `#2`.

    '' where there is only one.
    """
    if len(entries) == 1:
        return [""]
    names = [entry_name(entry) for entry in entries]
    times = Counter(names)
    return [
        f"#{name}" if name and times[name] == 1 else f"#{number}"
        for number, name in enumerate(names, start=1)
    ]


def entry_name(entry: Any) -> str:
    """The identifier of an entry, '' if it has none."""
    if not isinstance(entry, dict):
        return ""
    return next((str(entry[key]) for key in NAMES if isinstance(entry.get(key), str | int)), "")


def is_optimade(entry: Any) -> bool:
    """Whether an entry is an OPTIMADE structure."""
    attributes = entry.get("attributes") if isinstance(entry, dict) else None
    return isinstance(attributes, dict) and (
        entry.get("type") == "structures" or "lattice_vectors" in attributes
    )
