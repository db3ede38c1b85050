"""What a crystal is, whatever it is called: the key of what was computed of it."""

import hashlib

import numpy as np
import pandas as pd

CELL = ("lattice", "frac_coords", "atomic_numbers")


def contents_of(table: pd.DataFrame) -> list[str]:
    """Return a hash of the cell and atoms of each crystal of a table like `structures.parquet`."""
    return [
        hashlib.sha256(
            b"".join(np.asarray(part, np.float64).tobytes() for part in parts)
        ).hexdigest()
        for parts in zip(*(table[name] for name in CELL), strict=True)
    ]
