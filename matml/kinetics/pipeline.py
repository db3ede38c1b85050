"""The work of learn, calibrate and benchmark: read, compute, write result files, say so."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import folder_name, write_json, write_table
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.drawn import diagrams
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import (
    ROBUST_DOF,
    calibrate,
    calibrate_without_outliers,
    held_out_scores,
    pick_points,
)
from matml.kinetics.inference.calibration import Calibration
from matml.kinetics.inference.diagnostics import untypical_notes
from matml.kinetics.inference.population import Population, learn_population, split_groups
from matml.kinetics.inference.run_offsets import NO_OFFSETS, RunOffsets
from matml.kinetics.inference.several import mixed
from matml.kinetics.settings import KineticsSection

log = logging.getLogger(__name__)


def learn_stage(
    data: Path,
    observations: Observations,
    equation: str,
    settings: KineticsSection,
    out: Path,
    held_out: float,
    seed: int,
    offsets: RunOffsets = NO_OFFSETS,
) -> None:
    """Learn a population from the observations of the file `data`, and write it.

    `held_out` is the fraction of composition groups that are held out.
    """
    began = time.perf_counter()
    kept_out = split_groups(observations, held_out, seed)[1] if held_out > 0 else []
    population, training = learn_population(
        observations,
        equation_named(equation),
        settings.pseudo_tasks,
        seed,
        held_out=kept_out,
        origin=data,
        offsets=offsets,
    )
    middles = [(row["median"], row["median"]) for row in population.describe()]
    for note in untypical_notes(population.equation, middles, training.observations):
        log.warning("%s: the population's %s", data, note)
    population.save(out / "population.json")
    names, fitted = training.observations.names, training.gaussian
    values = {k: v.numpy() for k, v in population.equation.values(fitted.fit.position).items()}
    write_table(out / "training_parameters.csv", pd.DataFrame({"alloy": names} | values))
    write_table(out / "quarantine.csv", observations.quarantine)
    learned, unit = population.prior.prior, population.observable.unit
    write_json(
        out / "learn.json",
        {
            "equation": equation,
            "source": population.equation.source,
            "simulated": observations.simulated,
            "seed": seed,
            "training_alloys": len(names),
            "held_out_alloys": kept_out,
            "parameters": population.describe(),
            "noise": learned.noise,
            "noise_unit": unit,
            "em_rounds": fitted.rounds,
            "em_converged": fitted.converged,
            "log_score_by_setting": learned.scores,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )
    log.info(
        "%s: learned from %d alloys, %d held out, noise %.3g %s",
        out / "population.json",
        len(names),
        len(kept_out),
        learned.noise,
        unit,
    )


def calibrate_stage(
    priors: Sequence[Path],
    data: Path,
    observations: Observations,
    out: Path,
    names: list[str],
    held_out: bool,
    points: int | None,
    settings: KineticsSection,
    seed: int,
    *,
    without_outliers: bool = False,
    mcmc: bool = False,
    robust: bool = False,
    offsets: RunOffsets | None = None,
    trust_equation: bool = False,
    equation: str | None = None,
    temperature: tuple[float, float] | None = None,
) -> None:
    """Calibrate alloys one by one; an alloy that cannot be calibrated stops nothing but itself.

    `observations` are those of the file `data`. Without a population the prior is the generic one
    of the equation that is named; several are mixed by evidence. Without `offsets` they are those
    that the first population was learned with, if the data name runs. `temperature` is the lowest
    and highest in C of the diagrams.

    Raises
    ------
    MatmlError
        Where no alloy could be calibrated.
    """
    began = time.perf_counter()
    if priors and equation is not None:
        raise MatmlError(
            f"--prior {priors[0]} and --equation {equation} were both given: a population brings "
            "its own equation; leave one out"
        )
    if robust and len(priors) > 1:
        raise MatmlError("--robust goes with one --prior: evidence is compared for normal errors")
    populations = {
        str(path): Population.load(path, trust_equation=trust_equation) for path in priors
    }
    if equation is not None:
        populations[equation] = Population.generic(equation_named(equation), observations.kind)
    population = next(iter(populations.values()))
    if offsets is None:
        named = "run" in observations.points
        offsets = RunOffsets.of_card(population.data_card) if named else NO_OFFSETS
    if held_out:
        present = [name for name in population.held_out if name in observations.names]
        names = names or one_per_group(observations, present)[: settings.calibrated_alloys]
        points = points or settings.calibration_points
        if not names:
            raise MatmlError(f"{priors[0]}: none of its held-out alloys is in {data}")
    wanted = names or observations.names
    shown = _kelvin(temperature)
    one = partial(
        calibrate_without_outliers if without_outliers else calibrate,
        point_dof=ROBUST_DOF if robust else math.inf,
        offsets=offsets,
    )

    def method(population: Population, used: Observations, name: str, seed: int) -> Calibration:
        if len(populations) == 1:
            return one(population, used, name, seed)
        return mixed({said: one(p, used, name, seed) for said, p in populations.items()})

    done, failed = [], {}
    for name in wanted:
        try:
            done.append(
                _calibrate_one(
                    population, observations, name, points, out, seed, method, mcmc, shown
                )
            )
        except MatmlError as error:
            if len(wanted) == 1:
                raise
            failed[name] = str(error)
            log.info("alloy %s: not calibrated: %s", name, error)
    if not done:
        raise MatmlError(f"{data}: no alloy could be calibrated; the first: {failed[wanted[0]]}")
    write_table(out / "quarantine.csv", observations.quarantine)
    write_json(
        out / "summary.json",
        {
            "equation": population.equation.name,
            "simulated": observations.simulated,
            "seed": seed,
            "alloys": done,
            "failed": failed,
            "warnings": observations.warnings,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )


def _kelvin(celsius: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a range of temperatures in K.

    Raises
    ------
    MatmlError
        Where it is upside down, or colder than anything.
    """
    if celsius is None:
        return None
    low, high = (value + ZERO_CELSIUS for value in celsius)
    if not 0 < low < high:
        raise MatmlError(
            f"--temperature {celsius[0]:g} {celsius[1]:g}: give the lower one first, in C"
        )
    return low, high


def one_per_group(observations: Observations, names: list[str]) -> list[str]:
    """Return the first alloy of each composition group: others are near-twins that show no more."""
    group = observations.alloys.set_index("alloy")["composition_group"]
    return group.loc[names].drop_duplicates().index.tolist()


def _calibrate_one(
    population: Population,
    observations: Observations,
    name: str,
    points: int | None,
    out: Path,
    seed: int,
    method: Callable[..., Calibration],
    mcmc: bool,
    temperature_K: tuple[float, float] | None,
) -> dict[str, object]:
    """Calibrate one alloy and write its folder; returns its line of the summary."""
    if name not in observations.names:
        raise MatmlError(
            f"alloy {name!r} has no usable observation; there are {', '.join(observations.names)}"
        )
    own = observations.select([name])
    used = own if points is None else pick_points(observations, name, points, seed)
    result = method(population, used, name, seed)
    # by what was given: averages of a long record and outliers left out were seen, too
    rest = own.points[~own.points["line"].isin(set(used.points["line"]))]
    scores = held_out_scores(result, replace(own, points=rest))
    folder = out / folder_name(name)
    _write_calibration(result, folder, rest, temperature_K)
    write_json(folder / "calibration.json", result.record() | {"other_points": scores})
    if mcmc:
        from matml.kinetics.inference.nuts import check_by_mcmc

        checked = check_by_mcmc(result)
        write_table(folder / "mcmc.csv", checked)
        worst = checked.iloc[int(checked["shift"].abs().to_numpy().argmax())]
        log.info(
            "%s: by MCMC the medians differ by at most %.2f interval widths (%s)",
            folder / "mcmc.csv",
            abs(worst["shift"]),
            worst["parameter"],
        )
    for note in result.notes:
        log.info("alloy %s: %s", name, note)
    log.info("%s: %s calibrated from %d observation(s)", folder, name, len(used.points))
    return {"alloy": name, "folder": folder.name, "notes": result.notes, **scores}


def _write_calibration(
    result: Calibration,
    folder: Path,
    rest: pd.DataFrame,
    temperature_K: tuple[float, float] | None,
) -> None:
    """Write parameters, observations with residuals, and the diagrams with their tables."""
    # imported here: matplotlib need not be there before the file is looked at
    from matml.figures import static

    write_table(folder / "parameters.csv", result.parameters())
    # called as in a table of observations, so that it may be given as one
    observations = result.residual_table().rename(columns={"fraction": "ttt_fraction"})
    write_table(folder / "observations.csv", observations)
    for table, figure in diagrams(result, rest, temperature_K):
        write_table(folder / f"{figure.name}.csv", table)
        static.write(figure, [folder / f"{figure.name}.png", folder / f"{figure.name}.svg"])
