"""The work of `matml kinetics reach` and its benchmark: read, compute, say so."""

import logging
from pathlib import Path

from matml.core.files import write_json
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.prepare import read_and_report
from matml.kinetics.design.pipeline import one_alloy
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.pipeline import DataSet
from matml.kinetics.inference.population import Population
from matml.kinetics.reach.furnace import Cost, Furnace
from matml.kinetics.reach.setting import reach
from matml.kinetics.reach.study import format_policies, score_policies, summarise_policies
from matml.kinetics.reach.target import Target
from matml.kinetics.settings import KineticsSection

log = logging.getLogger(__name__)


def reach_stage(
    prior: Path,
    observations: Observations | None,
    alloys: Path | None,
    name: str | None,
    target: Target,
    cost: Cost,
    furnace: Furnace,
    json_path: Path | None,
    seed: int,
    *,
    trust_equation: bool = False,
) -> None:
    """Print the next trial of one alloy, and write it as JSON if asked to."""
    population = Population.load(prior, trust_equation=trust_equation)
    own, row = one_alloy(observations, alloys, name)
    found = reach(population, row, own, target, cost=cost, furnace=furnace, seed=seed)
    for line in found.told():
        print(line)
    for note in found.notes:
        log.warning(note)
    if json_path is not None:
        record = {"alloy": str(row["alloy"].iloc[0]), "target": target.text, "cost_of": cost}
        write_json(json_path, record | found.setting | {"notes": found.notes, "seed": seed})


def reach_benchmark_stage(
    sets: list[DataSet],
    settings: KineticsSection,
    tolerance: float,
    json_path: Path | None,
    seed: int,
) -> None:
    """Print the policies' trials on measured series, and write the records if asked to."""
    records = []
    for name, data, alloys, equation in sets:
        observations = read_and_report(data, alloys)
        declared = equation_named(equation)
        scores, trials = score_policies(observations, declared, settings, tolerance, seed, log.info)
        summary = summarise_policies(scores, trials, f"{name}, +- {tolerance:g}", seed)
        count = len(scores) // scores.groupby(["policy", "spares"]).ngroups
        print(f"{name}: {scores['alloy'].nunique()} alloys, {count} alloys with their targets")
        print(format_policies(summary))
        records += summary.to_dict("records")
    if json_path is not None:
        write_json(json_path, records)
