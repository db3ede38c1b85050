"""Everything else that matml reads, spoilt: refused in one line, or read as the file has it.

Some hundred files in every run of the tests; more by hand: ``MATML_FUZZ=10000 pytest tests/fuzz``.
"""

import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from matml.config.schema import Configuration
from matml.core.errors import naming
from matml.core.settings import read_section, read_yaml
from matml.kinetics.data.alloys import read_alloys
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.thermal_history import read_history
from matml.kinetics.instruments.fractions import dilatometer_ramp
from matml.kinetics.instruments.records import read_records
from matml.structures.io.read import read_inputs
from matml.structures.labels.files import read_label_file
from matml.structures.settings import StructuresSection

sys.path.insert(0, str(Path(__file__).parent))
from bounds import SPOILT, refused_or_read
from mutations import spoil, spoil_cells

ROOT = Path(__file__).parents[2]


def numbers_in(text: str) -> np.ndarray:
    """Every number that stands in a text, decimal commas too, also in kelvin if in Celsius."""
    words = re.findall(r"[^\s,;|\"]+", text) + re.findall(r"[^\s;|\"]+", text.replace(",", "."))
    found = pd.to_numeric(pd.Series(words, dtype=str), errors="coerce").dropna().to_numpy(float)
    return np.concatenate([found, found + 273.15])


def stand_in(values: Any, text: str) -> None:
    """Assert that numbers are what a file says."""
    said = numbers_in(text)
    for value in np.asarray(values, float).ravel():
        if np.isfinite(value):
            assert np.isclose(said, value, rtol=1e-9, atol=1e-9).any(), (value, text)


# ---- texts: what is accepted stands in the file


def read_labels(path: Path) -> bool:
    found = read_label_file(path)
    text = path.read_text()
    for entry in found.entries:
        if entry.labels:
            assert entry.key in text
            stand_in(list(entry.labels.values()), text)
    return True


def read_table_of_crystals(path: Path) -> bool:
    for item in read_inputs([path], StructuresSection()).items:
        stand_in(list(item.labels.values()), path.read_text())
    return True


def read_points(path: Path) -> bool:
    points = read_observations(path).points
    text = path.read_text()
    stand_in(points[["temperature_K", "time_s", "fraction_transformed"]], text)
    assert points["time_s"].between(1e-9, 1e12).all()
    return True


def read_alloy_table(path: Path) -> bool:
    alloys, _ = read_alloys(path, ["AISI 1030", "AISI 1040"])
    stand_in(alloys.select_dtypes("number"), path.read_text())
    return True


def read_path(path: Path) -> bool:
    history = read_history(path)
    stand_in([history.time_s, history.temperature_K], path.read_text())
    return True


def read_instrument(path: Path) -> bool:
    for record in read_records(path, "length", ("T", "t", "dL"), "C", "s"):
        # times that repeat are spread, and said so
        moved = any("repeat" in note for note in record.notes)
        read = [record.temperature_K, record.signal, *[record.time_s] * (not moved)]
        stand_in(read, path.read_text())
        with naming(path):
            dilatometer_ramp(record, (1000.0, 1100.0), (400.0, 600.0))
    return True


def read_configuration(path: Path) -> bool:
    found = read_section(Configuration, path).model_dump(mode="json")
    written = read_yaml(path)
    for key in written:
        if not isinstance(written[key], dict):
            assert found[key] == written[key] or str(found[key]) == str(written[key])
    return True


def labels_text() -> str:
    rows = [f"crystal-{n}.cif,{40 + 7.25 * n},{n % 3}" for n in range(12)]
    return "\n".join(["file,bulk_modulus_GPa,band_gap_eV", *rows]) + "\n"


def crystals_text() -> str:
    table = pd.read_csv(ROOT / "data/crystals/elastic.csv.gz").head(3)
    return table.to_csv(index=False)


def points_text() -> str:
    rows = [
        f"steel {a},{700 + 10 * t},{s},{f},{n}"
        for a in "ABC"
        for t in (1, 2)
        for n, (s, f) in enumerate(((10, 0.1), (100.5, 0.45), (1e3, 0.93)))
    ]
    return "\n".join(["alloy,temperature_C,time_s,fraction_transformed,run", *rows]) + "\n"


def path_text() -> str:
    rows = [f"{10 * n},{900 - 12.5 * n}" for n in range(12)]
    return "\n".join(["time_s,temperature_C", *rows]) + "\n"


def record_text() -> str:
    """A specimen of 10 mm cooled at 1 K/s, which grows by 30 um between 500 and 650 C."""
    rows = []
    for second in range(0, 860, 10):
        celsius = 900.0 - second
        share = min(max((650.0 - celsius) / 150.0, 0.0), 1.0)
        rows.append(f"{second},{celsius},{1e-1 * celsius + 30 * share:.4f}")
    return "\n".join(["t,T,dL", *rows]) + "\n"


@dataclass(frozen=True)
class Text:
    """A text file: its name, its good content, how it is spoilt and read."""

    name: str
    content: Callable[[], str]
    spoil: Callable[[str, random.Random], str]
    read: Callable[[Path], bool]


TEXTS = {
    "labels": Text("labels.csv", labels_text, spoil_cells, read_labels),
    "crystals": Text("crystals.csv", crystals_text, spoil_cells, read_table_of_crystals),
    "observations": Text("points.csv", points_text, spoil_cells, read_points),
    "alloys": Text(
        "alloys.csv",
        lambda: (ROOT / "data/kinetics/aisi_steels.csv").read_text(),
        spoil_cells,
        read_alloy_table,
    ),
    "path": Text("path.csv", path_text, spoil_cells, read_path),
    "record": Text("record.csv", record_text, spoil_cells, read_instrument),
    "configuration": Text(
        "config.yaml",
        lambda: (ROOT / "workflow/config.yaml").read_text(),
        spoil,
        read_configuration,
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_spoilt_texts_are_refused_or_read_as_they_stand(kind, tmp_path):
    text = TEXTS[kind]
    good, path = text.content(), tmp_path / text.name
    path.write_text(good)
    text.read(path)
    rng = random.Random(f"{kind} 11")
    read = 0
    for _ in range(SPOILT // len(TEXTS)):
        path.write_bytes(text.spoil(good, rng).encode())
        read += refused_or_read(text.read, path) is not None
    # neither everything nor nothing
    assert 0 < read < SPOILT // len(TEXTS)
