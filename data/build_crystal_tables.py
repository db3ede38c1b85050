"""Rebuild the embedded crystal tables in data/crystals from their published source.

    python data/build_crystal_tables.py [--source FOLDER]

Without --source the source distribution of matminer 0.4.0 is downloaded with pip. Every row is
kept; nothing is corrected or filtered here (that is the job of `matml structures ingest`).
The output is byte-for-byte reproducible.
"""

import argparse
import ast
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from itertools import groupby
from pathlib import Path

import pandas as pd

PACKAGE = "matminer==0.4.0"
SHA256 = {
    "flla_2015": "35b8dbc0b92f4dc7e219fd6606c3a27bee18a9618f376cfee1ff731e306210bb",
    "elastic_tensor": "f7a18c91fe5dcd51012e5b7e3a37f73aaee9087a036d61bdf9d6464b6fca51a6",
    "dielectric_constant": "ecbd410d33c95d5b05822cff6c7c0ba809a024b4ede3855ec5efc48d5e29ea77",
}
OUT = Path(__file__).parent / "crystals"


def poscar_from_dict(record: dict) -> str:
    """POSCAR text of a pymatgen Structure dictionary; sites grouped by element, 6 decimals.

    1e-6 of a cell edge is below 3e-5 angstrom here, far under any symmetry tolerance.
    """
    sites = [(site["species"][0]["element"], site["abc"]) for site in record["sites"]]
    if any(len(s["species"]) != 1 or s["species"][0]["occu"] != 1 for s in record["sites"]):
        raise ValueError("disordered site in the source: POSCAR cannot hold it")
    order = list(dict.fromkeys(element for element, _ in sites))
    sites.sort(key=lambda site: order.index(site[0]))
    counts = [(element, len(list(group))) for element, group in groupby(s[0] for s in sites)]
    lines = [" ".join(f"{e}{n}" for e, n in counts), "1.0"]
    lines += [" ".join(f"{x:.6f}" for x in row) for row in record["lattice"]["matrix"]]
    lines += [" ".join(e for e, _ in counts), " ".join(str(n) for _, n in counts), "direct"]
    lines += [" ".join(f"{x:.6f}" for x in abc) for _, abc in sites]
    return "\n".join(lines) + "\n"


def strip_site_names(poscar: str) -> str:
    """The same POSCAR without the element repeated behind every coordinate line."""
    lines = poscar.strip().splitlines()
    return "\n".join(lines[:8] + [" ".join(x.split()[:3]) for x in lines[8:]]) + "\n"


def fetch(folder: Path) -> Path:
    """Download and unpack the source distribution; returns the folder of its data sets."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-binary", ":all:", "--dest", str(folder), PACKAGE], check=True)
    with tarfile.open(next(folder.glob("matminer-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("matminer-*/matminer/datasets"))


def read(folder: Path, name: str) -> pd.DataFrame:
    """One source table, after its checksum was verified."""
    content = (folder / f"{name}.csv").read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise SystemExit(f"{folder / name}.csv: SHA-256 {found}, expected {SHA256[name]}")
    return pd.read_csv(io.BytesIO(content), comment="#")


def write(table: pd.DataFrame, name: str) -> None:
    """Write one gzipped CSV, with no time stamp so that the same data give the same bytes."""
    text = table.to_csv(index=False, lineterminator="\n")
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    (OUT / f"{name}.csv.gz").write_bytes(packed)
    print(f"{name}.csv.gz: {len(table)} rows, {len(packed) / 1e6:.2f} MB")


def build(folder: Path) -> None:
    OUT.mkdir(exist_ok=True)
    source = read(folder, "flla_2015")
    structures = [ast.literal_eval(text) for text in source["structure"]]
    poscars = [poscar_from_dict(record) for record in structures]
    write(
        pd.DataFrame(
            {
                "material_id": source["material_id"],
                "formula": [p.split("\n", 1)[0].replace(" ", "") for p in poscars],
                "formation_energy_eV_per_atom": source["formation_energy_per_atom"].round(6),
                "energy_above_hull_eV_per_atom": source["e_above_hull"].round(6),
                "poscar": poscars,
            }
        ),
        "formation_energy",
    )
    for name, out, columns in (
        (
            "elastic_tensor",
            "elastic",
            {"K_VRH": "bulk_modulus_GPa", "G_VRH": "shear_modulus_GPa"},
        ),
        (
            "dielectric_constant",
            "dielectric",
            {"band_gap": "band_gap_eV", "n": "refractive_index"},
        ),
    ):
        source = read(folder, name)
        kept = source[["material_id", "formula", *columns]].rename(columns=columns)
        kept[list(columns.values())] = kept[list(columns.values())].round(6)
        kept["poscar"] = [strip_site_names(text) for text in source["poscar"]]
        write(kept, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="folder that holds the source CSV files")
    options = parser.parse_args()
    if options.source:
        build(options.source)
        return
    with tempfile.TemporaryDirectory() as folder:
        build(fetch(Path(folder)))


if __name__ == "__main__":
    main()
