"""Settings of reading crystals and of their graphs."""

from pathlib import Path

from pydantic import (
    Field,
)

from matml.core.integrity.formats import Format
from matml.core.settings import Section

STRUCTURES = Format("structures", 1, "run `matml structures ingest` again")
TABLE = "structures.parquet"
"""File of such a table in the folder that `matml structures ingest` writes."""
"""The table of ingested crystals."""


class StructuresSection(Section):
    """Reading and checking crystals (`matml structures ingest`)."""

    inputs: list[Path] = Field(
        default=[
            Path("data/crystals/formation_energy.csv.gz"),
            Path("data/crystals/elastic.csv.gz"),
            Path("data/crystals/dielectric.csv.gz"),
        ],
        min_length=1,
        description="Folders, zips, files or tables of crystals.",
    )
    labels: Path | None = Field(
        default=None, description="CSV of labels keyed by a column `id` or `file`."
    )
    rename: dict[str, str] = Field(
        default={},
        # settings that say nothing of it stay as they were written
        exclude_if=lambda names: not names,
        description="Columns of tables of crystals that are properties, to the property's name.",
    )
    symprec_A: float = Field(
        default=0.01,
        ge=1e-5,
        le=0.3,
        description="Symmetry tolerance in angstrom of the crystal and its graph, for a cell of "
        "15 cubic angstrom per atom (it scales with the cell).",
    )
    family_symprec_A: float = Field(
        default=0.1,
        ge=1e-5,
        le=0.3,
        description="Symmetry tolerance in angstrom for space group, prototype and family, "
        "scaled likewise.",
    )
    min_distance_ratio: float = Field(
        default=0.5,
        ge=0.1,
        le=0.9,
        description="Atoms nearer than this share of the sum of their covalent radii overlap.",
    )
    min_volume_per_atom_A3: float = Field(
        default=2.0, gt=0, le=10, description="Smallest volume per atom, cubic angstrom."
    )
    max_volume_per_atom_A3: float = Field(
        default=200.0, ge=20, le=10000, description="Largest volume per atom, cubic angstrom."
    )
    max_sites: int = Field(
        default=1000, ge=1, le=100000, description="Most atoms in a cell as it is read."
    )
    max_file_MB: float = Field(
        default=64.0, gt=0, le=10000, description="Largest structure file read, megabytes."
    )
    max_zip_MB: float = Field(
        default=512.0, gt=0, le=100000, description="Most that a zip may unpack to, megabytes."
    )


class GraphsSection(Section):
    """Crystal graphs (`matml structures graph`)."""

    neighbours: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Sum of the weights of an atom's neighbours, which fade out with distance "
        "(nearly twice as many have one).",
    )
    tie_tolerance_A: float = Field(
        default=1e-4,
        ge=1e-8,
        le=0.1,
        description="Distances (angstrom) that follow each other within this are one shell.",
    )
