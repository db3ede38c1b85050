"""Data sets in checked, tidy form: simulated, or read from the user's files."""

import logging
import time
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.kinetics.data.columns import alloys_of
from matml.kinetics.data.observations import Observations, read_observations
from matml.kinetics.settings import KineticsSection

log = logging.getLogger(__name__)


def simulate_dataset(name: str, settings: KineticsSection, out: Path, seed: int) -> None:
    """Write a simulated set of published alloys."""
    # imported here: it pulls in torch, which an error about the configuration need not wait for
    from matml.kinetics.data.simulate import SIMULATIONS

    began = time.perf_counter()
    simulation = SIMULATIONS[name](settings.simulation, seed)
    write_table(out / "observations.csv", simulation.observations)
    write_table(out / "alloys.csv", simulation.alloys)
    write_table(out / "truth.csv", simulation.truth)
    description = simulation.description | {
        "alloys": len(alloys_of(simulation.alloys["alloy"])),
        "series": len(simulation.alloys),
        "observations": len(simulation.observations),
        "seconds": round(time.perf_counter() - began, 3),
    }
    write_json(out / "observations.json", description)
    log.info("%s: %d simulated observations", out, len(simulation.observations))


def prepare_dataset(name: str, settings: KineticsSection, out: Path, seed: int) -> None:
    """Write a configured data set in tidy form; what is quarantined is written beside it.

    Raises
    ------
    MatmlError
        Where the configuration has no such data set, or its files cannot be used.
    """
    if name not in settings.datasets:
        raise MatmlError(
            f"data set {name!r} is not in the configuration; there are "
            f"{', '.join(settings.datasets)}"
        )
    dataset = settings.datasets[name]
    if dataset.simulate is not None:
        simulate_dataset(dataset.simulate, settings, out, seed)
        return
    assert dataset.observations is not None  # a data set has one of both
    from matml.kinetics.equations import equation_named

    began = time.perf_counter()
    observations = read_and_report(dataset.observations, dataset.alloys)
    equation_named(dataset.equation).observable(observations.kind)
    points = observations.points.drop(columns="line")
    if observations.kind == "ttt":
        points = points.rename(columns={"fraction": "ttt_fraction"})
    if observations.paths:
        points["path"] = points["path"].map(_copy_paths(observations, out)).fillna("")
    points["simulated"] = observations.simulated
    write_table(out / "observations.csv", points)
    write_table(out / "alloys.csv", observations.alloys)
    write_table(out / "quarantine.csv", observations.quarantine)
    write_json(
        out / "observations.json",
        {
            "simulated": observations.simulated,
            "noise": "as measured",
            "files": [p.name for p in (dataset.observations, dataset.alloys) if p],
            "alloys": len(observations.alloys),
            "observations": len(points),
            "quarantined": len(observations.quarantine),
            "warnings": observations.warnings,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )
    log.info("%s: %d observations of %d alloys", out, len(points), len(observations.alloys))


def _copy_paths(observations: Observations, out: Path) -> dict[str, str]:
    """Write the temperature histories in the folder `paths` of `out`; returns old to new names."""
    names = {}
    for number, (name, history) in enumerate(observations.paths.items()):
        names[name] = f"paths/{number}_{Path(name).stem}.csv"
        columns = {"time_s": history.time_s, "temperature_K": history.temperature_K}
        write_table(out / names[name], pd.DataFrame(columns))
    return names


def read_and_report(data: Path, alloys: Path | None) -> Observations:
    """Read observations, and say what was left out or looks wrong."""
    observations = read_observations(data, alloys)
    for warning in observations.warnings:
        log.info("please check: %s", warning)
    for note in observations.notes:
        log.info("%s: %s", data, note)
    for (field, reason), rows in observations.quarantine.groupby(["field", "reason"], sort=False):
        row = rows.iloc[0]
        log.info(
            "%s: %d row(s) left out: %s: %s; %s (first: line %d, %r)",
            *(data, len(rows), field or "row", reason, row["remedy"], row["line"], row["value"]),
        )
    return observations
