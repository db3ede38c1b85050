"""Small tables cut from the embedded ones, for a whole run of the workflow in a few minutes.

`python tests/workflow/small_tables.py build/small` writes what workflow/config-small.yaml reads.
Crystals are taken from the largest groups of like composition pattern and number of atoms, so that
several families have enough members to be tasks. The shear moduli bear a name that matml does not
know, so that a whole run learns a property of a user's own. The first of these crystals are also a
support of another property, with a computed column that the others, its candidates, have too.
"""

import csv
import gzip
import io
import re
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd

from matml.core.files import atomic

CRYSTALS = Path(__file__).resolve().parents[2] / "data" / "crystals"
# table: (groups, crystals of each)
SIZES = {"formation_energy": (16, 12), "elastic": (8, 12), "dielectric": (5, 14)}
PEROVSKITE = ("1,1,3", 5)
KNOWN, OWN = "shear_modulus_GPa", "my_stiffness_GPa"
LABELLED = 12


def pattern(formula: str) -> str:
    """Return the sorted amounts of a formula, such as `1,1,3`."""
    amounts = [int(digits or 1) for _, digits in re.findall(r"([A-Z][a-z]?)(\d*)", formula)]
    return ",".join(str(amount) for amount in sorted(amounts))


def n_sites(poscar: str) -> int:
    """Return the number of atoms of a POSCAR."""
    lines = poscar.splitlines()
    counts = next(line for line in lines[5:7] if line.split()[0].isdigit())
    return sum(int(count) for count in counts.split())


def cut(name: str, groups: int, each: int) -> str:
    """Return the CSV text of a small version of a table."""
    with gzip.open(CRYSTALS / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        comments, body = [], []
        for line in stream:
            (comments if line.startswith("#") and not body else body).append(line)
    reader = csv.DictReader(body)
    members = defaultdict(list)
    for row in reader:
        members[pattern(row["formula"]), n_sites(row["poscar"])].append(row)
    # perovskites first: screening asks for labelled ones
    order = sorted(members, key=lambda key: (key != PEROVSKITE, -len(members[key]), key))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, reader.fieldnames, lineterminator="\n")
    writer.writeheader()
    for key in order[:groups]:
        writer.writerows(members[key][:each])
    return "".join(comments) + out.getvalue()


def packed(path: Path, text: str) -> None:
    """Write a text, compressed."""
    with (
        atomic(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        file.write(text.encode("utf-8"))


def make(folder: Path) -> None:
    """Write the small tables into a folder."""
    for name, (groups, each) in SIZES.items():
        packed(folder / f"{name}.csv.gz", cut(name, groups, each).replace(KNOWN, OWN))
    rows = csv.DictReader(
        x for x in cut("elastic", 1, 2 * LABELLED).splitlines(True) if x[0] != "#"
    )
    screened = pd.DataFrame(rows)[["poscar", KNOWN, "bulk_modulus_GPa"]]
    screened.columns = ["poscar", "measured_G_GPa", "computed_K_GPa"]
    screened[:LABELLED].to_csv(folder / "support.csv", index=False)
    others = screened[LABELLED:].drop(columns="measured_G_GPa")
    others.to_csv(folder / "candidates.csv", index=False)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
