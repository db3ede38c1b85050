"""Where the files of a run are."""

from pathlib import Path

from matml.core.integrity.formats import Format

CHOICES = Format("chosen methods", 1, "run `matml properties compare` again")
PRETRAINING, METATRAINING = "pretraining.csv", "metatraining.csv"
"""Histories of a member's training, in its folder."""


def member_folder(run: Path, member: int) -> Path:
    """Return the folder of a member."""
    return run / f"members/{member}"


def predictions_of(run: Path, kind: str, what: object) -> Path:
    """Return the table of predictions of a member or, by a kind of methods, of a property."""
    return run / f"predictions/{kind}-{what}.parquet"
