"""`matml study patients …`: pharmacokinetics of new patients from few samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from matml.cli.options import FILE, RESULTS

if TYPE_CHECKING:
    import pandas as pd

    from matml.studies.patients.population import Assumptions
    from matml.studies.patients.records import Patient

EQUATIONS = (
    "one-compartment",
    "one-compartment-oral",
    "two-compartments",
    "two-compartments-oral",
)
SETS = ("phenobarbital", "theophylline", "quinidine", "indometacin")
data_option = click.option(
    "--data", type=FILE, required=True, help="CSV: ID, TIME, AMT, DV, and EVID, RATE, II, SS, WT …"
)
population_option = click.option(
    "--population", "population_file", type=FILE, required=True, help="From `learn`."
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of the draws.")


@click.group()
def patients() -> None:
    """Concentrations of a drug in patients, from 0 to 3 samples each. Not for clinical use."""


@patients.command()
@data_option
@click.option("--equation", type=click.Choice(EQUATIONS), required=True, help="Compartments.")
@click.option(
    "--noise",
    type=click.Choice(["constant", "proportional", "combined"]),
    default="proportional",
    show_default=True,
    help="How the error of a measurement grows with it.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    help="PARAMETER=EXPONENT: goes with WT to this power; repeatable.",
)
@click.option(
    "--reference-weight",
    default=70.0,
    show_default=True,
    type=click.FloatRange(1e-3),
    help="In kg.",
)
@click.option(
    "--covariate",
    "covariates",
    multiple=True,
    help="PARAMETER~COLUMN, ~log(COLUMN) or ~COLUMN<NUMBER; repeatable.",
)
@click.option("--fixed", multiple=True, help="Parameter that patients share; repeatable.")
@click.option("--correlated", is_flag=True, help="Variations of parameters go together.")
@click.option("--out", type=RESULTS, required=True, help="Folder.")
def learn(
    data: Path,
    equation: str,
    noise: str,
    weights: tuple[str, ...],
    reference_weight: float,
    covariates: tuple[str, ...],
    fixed: tuple[str, ...],
    correlated: bool,
    out: Path,
) -> None:
    """Learn a population: typical values, covariates, variation, noise, standard errors."""
    import pandas as pd

    from matml.core.files import write_table
    from matml.studies.patients.population import Assumptions, Covariate, Population

    assumptions = Assumptions(
        equation,
        noise,
        dict(_exponent(text) for text in weights),
        reference_weight,
        tuple(Covariate.of(text) for text in covariates),
        fixed,
        correlated,
    )
    people, aside = _read(data, assumptions)
    lacking = [person for person in people if assumptions.missing(person)]
    for person in lacking:
        column = assumptions.missing(person)
        row = [person.first_row, person.name, column, "", "is missing or not positive"]
        aside.loc[len(aside)] = [
            *row,
            f"give {column} of the patient, or leave it out of the model",
        ]
    population = Population.learn(people, assumptions)
    table = pd.DataFrame(population.table())
    population.save(out / "population.json")
    write_table(out / "population.csv", table)
    _tell_aside(aside, out / "set_aside.csv")
    click.echo(f"{population.patients} patients, {population.samples} samples")
    click.echo(f"{'quantity':24}{'value':>12}{'standard error':>16}{'variation %':>14}")
    for one in population.table():
        cells = [one["value"], one["standard_error"], one["variation_percent"]]
        texts = ["" if cell != cell else f"{cell:.3g}" for cell in cells]
        click.echo(f"{one['quantity']:24}{texts[0]:>12}{texts[1]:>16}{texts[2]:>14}")
    if not population.effects.converged:
        click.echo("not converged: take these numbers for a start only")
    _warn()


@patients.command()
@data_option
@population_option
@click.option("--until", type=float, help="End of the forecast; a quarter beyond the last row.")
@click.option("--out", type=RESULTS, required=True, help="Folder.")
@seed_option
def forecast(data: Path, population_file: Path, until: float | None, out: Path, seed: int) -> None:
    """Forecast concentrations with 90 % bands; rows without a sample may hold doses to come."""
    import pandas as pd

    from matml.core.errors import MatmlError
    from matml.core.files import write_table
    from matml.figures.static import write
    from matml.studies.patients import forecast as room
    from matml.studies.patients.population import Population

    population = Population.load(population_file)
    people, aside = _read(data, population.assumptions)
    good, others = room.usable_patients(population, people)
    aside = pd.concat([aside, pd.DataFrame(others)], ignore_index=True)
    _tell_aside(aside, out / "set_aside.csv")
    if not good:
        raise MatmlError(f"{data}: no patient can be used; see {out / 'set_aside.csv'}")
    table = room.forecast(population, good, [room.grid_of(p, until) for p in good], seed=seed)
    write_table(out / "forecast.csv", table)
    write(room.figure(table, good), [out / "forecast.png", out / "forecast.svg"])
    click.echo(f"{len(good)} patients: {out / 'forecast.csv'}, {out / 'forecast.png'}")
    _warn()


@patients.command()
@data_option
@population_option
@click.option("--id", "name", help="Of the patient; needed where the file holds several.")
@click.option("--target", nargs=2, type=float, required=True, help="Lowest, highest.")
@click.option("--give-at", type=float, required=True, help="Time of the first new dose.")
@click.option("--measure-at", type=float, required=True, help="When the target is to be reached.")
@click.option("--interval", default=0.0, type=click.FloatRange(0), help="Between new doses.")
@click.option("--doses", default=1, show_default=True, type=click.IntRange(1), help="New ones.")
@click.option("--duration", default=0.0, type=click.FloatRange(0), help="Of an infusion.")
@seed_option
def dose(
    data: Path,
    population_file: Path,
    name: str | None,
    target: tuple[float, float],
    give_at: float,
    measure_at: float,
    interval: float,
    doses: int,
    duration: float,
    seed: int,
) -> None:
    """Say which dose most likely brings a concentration into a target. Not for clinical use."""
    from matml.core.errors import MatmlError
    from matml.studies.patients.forecast import choose_dose, usable_patients
    from matml.studies.patients.population import Population

    population = Population.load(population_file)
    people, aside = _read(data, population.assumptions)
    good, others = usable_patients(population, people)
    for row in others:
        click.echo(f"{data}: row {row['row']}, {row['id']}: {row['reason']}; {row['remedy']}")
    _tell_aside(aside, None)
    chosen = [p for p in good if name is None or p.name == name]
    if len(chosen) != 1:
        known = ", ".join(p.name for p in good[:10]) or "none that can be used"
        raise MatmlError(f"--id {name!r}: give one of the patients in {data}: {known}")
    found = choose_dose(
        population,
        chosen[0],
        target,
        give_at=give_at,
        measure_at=measure_at,
        interval=interval,
        doses=doses,
        duration=duration,
        seed=seed,
    )
    low, high = target
    click.echo(f"patient {chosen[0].name}, {len(chosen[0].times)} samples")
    click.echo(f"without a further dose: median {found.without:.3g} at {measure_at:g}")
    click.echo(
        f"dose {found.amount:.3g}: in {low:g} to {high:g} with a chance of {found.chance:.0%}; "
        f"median {found.median:.3g}, 90 % band {found.low:.3g} to {found.high:.3g}"
    )
    click.echo(f"above {high:g} with at most 5 % chance: up to {found.careful:.3g}")
    if found.chance < 0.5:
        click.echo("no dose reaches the target more often than not: measure once more, or widen it")
    _warn()


@patients.command()
@click.option("--set", "sets", multiple=True, type=click.Choice(SETS), help="Default: all.")
@click.option("--folds", default=10, show_default=True, type=click.IntRange(2))
@seed_option
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def compare(sets: tuple[str, ...], folds: int, seed: int, json_file: Path | None) -> None:
    """Predict the next concentration of patients held out, beside the simple methods."""
    from matml.core.files import write_json
    from matml.core.project import input_path
    from matml.studies.patients import compare as room
    from matml.studies.patients.population import STUDIED

    records = []
    for name in sets or SETS:
        assumptions = STUDIED[name]
        people, _ = _read(input_path(Path(f"data/patients/{name}.csv")), assumptions)
        table = room.next_concentrations(
            people, assumptions, folds=min(folds, len(people)), seed=seed
        )
        records += (found := room.summarise(name, table, seed))
        click.echo(f"\n{name}: relative error of the next concentration, root mean square, %")
        for line in room.table_lines(found):
            click.echo(line)
        chance = room.ranks_are_uniform(table["rank"].dropna().to_numpy())
        click.echo(f"ranks of the measurements among draws are uniform: p = {chance:.2g}")
    if json_file:
        write_json(json_file, records)
    _warn()


def _read(data: Path, assumptions: Assumptions) -> tuple[list[Patient], pd.DataFrame]:
    from matml.core.errors import MatmlError
    from matml.studies.patients.records import read_patients

    records = read_patients(data, bolus=not assumptions.kinetics.oral)
    if not records.patients:
        first = records.aside.iloc[0] if len(records.aside) else None
        why = "" if first is None else f"; row {first['row']}: {first['reason']}"
        raise MatmlError(f"{data}: holds no patient that can be used{why}")
    return records.patients, records.aside


def _exponent(text: str) -> tuple[str, float]:
    from matml.core.errors import MatmlError

    name, _, number = text.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError:
        raise MatmlError(f"--weight {text!r}: write PARAMETER=EXPONENT, such as CL=0.75") from None


def _tell_aside(aside: pd.DataFrame, path: Path | None) -> None:
    from matml.core.files import write_table

    if not len(aside):
        return
    if path is not None:
        write_table(path, aside)
    for reason, own in aside.groupby("reason", sort=False):
        first = own.iloc[0]
        where = f"row {first['row']}, patient {first['id']}"
        click.echo(f"set aside, {len(own)} ({reason}; the first: {where}): {first['remedy']}")


def _warn() -> None:
    from matml.studies.patients.population import NOT_FOR_CLINICAL_USE

    click.echo(NOT_FOR_CLINICAL_USE)
