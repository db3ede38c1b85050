"""The stages of the benchmarks: measured sets, methods, designs."""

import logging
import time
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json, write_table
from matml.kinetics.data.columns import alloys_of, counted
from matml.kinetics.data.prepare import read_and_report
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import score_alloys
from matml.kinetics.evaluation.design import format_designs, score_designs, summarise_designs
from matml.kinetics.evaluation.findings import findings
from matml.kinetics.evaluation.methods import DEFAULT
from matml.kinetics.evaluation.scores import format_table, summarise, tidy_records, winners
from matml.kinetics.settings import KineticsSection

log = logging.getLogger(__name__)

MEASURED_SETS = {"stainless_ttt": "c_curve", "tempering": "softening"}
"""Measured sets by the beginning of their files' names, with their equations."""


DataSet: TypeAlias = tuple[str, Path, Path | None, str]
"""Name, observations, alloys, equation."""


def measured_sets(folder: Path) -> list[DataSet]:
    """Return the measured sets of a folder; says which it lacks.

    Raises
    ------
    MatmlError
        Where it has none.
    """
    found: list[DataSet] = []
    for name, equation in MEASURED_SETS.items():
        points, alloys = folder / f"{name}_points.csv", folder / f"{name}_alloys.csv"
        missing = [path.name for path in (points, alloys) if not path.is_file()]
        if missing:
            log.info("%s skipped: %s has no %s", name, folder, " and no ".join(missing))
        else:
            found.append((name, points, alloys, equation))
    if not found:
        raise MatmlError(
            f"{folder}: holds none of the measured sets ({', '.join(MEASURED_SETS)}): their "
            "licences are not known, so matml ships no copy; give the folder that has "
            "stainless_ttt_points.csv and so on"
        )
    return found


def benchmark_stage(
    sets: list[DataSet],
    settings: KineticsSection,
    out: Path | None,
    json_path: Path | None,
    seed: int,
    *,
    nuts: bool = False,
) -> None:
    """Compare the methods on each data set, print the tables, write scores and summaries.

    Results of one set go to `out` itself, of several to a folder each. With `nuts` the default is
    compared with the No-U-Turn sampler too.
    """
    records = []
    for name, data, alloys, equation in sets:
        folder = out if out is None or len(sets) == 1 else out / name
        scores = _benchmark_set(name, data, alloys, equation, settings, folder, seed)
        records += tidy_records(scores)
        if nuts:
            records += _against_nuts(name, data, alloys, equation, settings, seed)
    if json_path is not None:
        write_json(json_path, records)


def _benchmark_set(
    name: str,
    data: Path,
    alloys: Path | None,
    equation: str,
    settings: KineticsSection,
    out: Path | None,
    seed: int,
) -> pd.DataFrame:
    """Compare the methods on one data set; returns the scores."""
    began = time.perf_counter()
    observations = read_and_report(data, alloys)
    declared = equation_named(equation)
    unit = declared.observable(observations.kind).unit
    per_alloy = score_alloys(observations, declared, settings, seed, log.info)
    scores = summarise(per_alloy, name, declared, unit, seed)
    print(f"{name}: {declared.title}, {counted(observations.names)}")
    print(format_table(scores))
    if out is None:
        return scores
    write_table(out / "scores.csv", scores)
    write_table(out / "scores_by_alloy.csv", per_alloy)
    groups = int(observations.alloys["composition_group"].nunique())
    origin = data.parent / "observations.json"
    described = read_json(origin, shape=dict) if origin.is_file() else {}
    write_json(
        out / "summary.json",
        {
            "dataset": name,
            "equation": equation,
            "title": declared.title,
            "kind": observations.kind,
            "unit": unit,
            "simulated": observations.simulated,
            "seed": seed,
            "noise": described.get("noise", "as measured"),
            "data": described,
            "alloys": len(alloys_of(observations.names)),
            "series": len(observations.names),
            "composition_groups": groups,
            "observations": len(observations.points),
            "folds": settings.folds,
            "draws": settings.draws,
            "default_method": DEFAULT,
            "lowest_mean_rmse": {str(shots): method for shots, method in winners(scores).items()},
            "findings": findings(scores, observations.names, groups),
            "warnings": observations.warnings,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )
    return scores


def _against_nuts(
    name: str,
    data: Path,
    alloys: Path | None,
    equation: str,
    settings: KineticsSection,
    seed: int,
) -> list[dict[str, object]]:
    """Compare the default with the No-U-Turn sampler on one data set; prints, returns records."""
    from matml.kinetics.evaluation.against_nuts import format_nuts, nuts_records, score_nuts

    observations, declared = read_and_report(data, alloys), equation_named(equation)
    scores = score_nuts(observations, declared, settings, seed, log.info)
    unit = declared.observable(observations.kind).unit
    records = nuts_records(scores, f"{name}, {declared.name}", unit, seed)
    print(format_nuts(records))
    return records


def design_benchmark_stage(
    sets: list[DataSet],
    settings: KineticsSection,
    most: int,
    draws: int,
    json_path: Path | None,
    seed: int,
) -> None:
    """Compare the strategies on each set, print the tables, write the records."""
    records = []
    for name, data, alloys, equation in sets:
        observations = read_and_report(data, alloys)
        declared = equation_named(equation)
        scores = score_designs(observations, declared, settings, most, draws, seed, log.info)
        unit = declared.observable(observations.kind).unit
        summary = summarise_designs(scores, f"{name}, {equation}", unit, seed)
        print(f"{name}: {scores['alloy'].nunique()} alloys")
        print(format_designs(summary))
        records += summary.to_dict("records")
    if json_path is not None:
        write_json(json_path, records)
