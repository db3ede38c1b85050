"""Which tables and columns of a run are missing in the reference of output files.

`python tests/docs/columns.py RESULTS` prints them, and ends with 1 where there is one.
"""

import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
from pyarrow import parquet

TABLE = Path(__file__).resolve().parents[2] / "docs" / "columns.toml"


def described(name: str) -> list[str] | None:
    """Return the columns, or patterns, that the first entry for a file describes."""
    for file in tomllib.loads(TABLE.read_text(encoding="utf-8")).values():
        if file["kind"] == "output" and any(fnmatch(name, pattern) for pattern in file["paths"]):
            return list(file["columns"])
    return None


def missing(results: Path) -> list[str]:
    """Return a line for every table, or column of one, that is not described."""
    found = []
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.suffix == ".csv":
            columns = list(pd.read_csv(path, nrows=0).columns)
        elif path.suffix == ".parquet":
            columns = parquet.read_schema(path).names
        else:
            continue
        patterns = described(name)
        if patterns is None:
            found.append(f"{name}: no entry")
            continue
        found += [
            f"{name}: column {column}"
            for column in columns
            if not any(fnmatch(column, pattern) for pattern in patterns)
        ]
    return found


if __name__ == "__main__":
    lines = missing(Path(sys.argv[1]))
    print("\n".join(lines) or "every column is described")
    sys.exit(bool(lines))
