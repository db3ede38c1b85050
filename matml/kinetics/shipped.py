"""The populations that come with matml: what each is learned from, and the making of their files.

A file holds what was learned (a prior over parameters, and the fitted parameters and compositions
that it is conditioned on) and no measured value.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from matml.core.files import read_table, write_table
from matml.core.project import input_path
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.prepare import simulate_dataset
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.population import Population, learn_population
from matml.kinetics.settings import KineticsSection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """A population that comes with matml.

    Attributes
    ----------
    equation
        By name.
    measured
        Beginning of the names of the measured files; "" where parameters are published.
    process
        In `published_jmak.csv`, where observations are simulated from published parameters.
    title, good_for, source
        For its card.
    """

    equation: str
    title: str
    good_for: str
    source: str
    measured: str = ""
    process: str = ""


PUBLISHED = (
    "published exponents and activation energies, a source each in data/kinetics/"
    "published_jmak.csv; half times are drawn, since no source gives them"
)
RECIPES = {
    "tempering": Recipe(
        "softening",
        "Hardness after tempering of carbon and low-alloy steels",
        "hardness (HRC, HV) of quenched steels within its composition, from one value on",
        "Grange and Baughman 1956; Hollomon and Jaffe 1945; Penha 2010",
        measured="tempering",
    ),
    "stainless": Recipe(
        "c_curve",
        "TTT start and end curves of stainless steels",
        "decomposition of austenite in stainless steels; not for low-alloy steels",
        "Wang 2019, doi 10.17632/k7zspbmyvf.1; paper doi 10.1016/j.commatsci.2019.109282; curves "
        "are taken for 1 and 99 %",
        measured="stainless_ttt",
    ),
    "recrystallisation": Recipe(
        "jmak",
        "Static recrystallisation of steels and brass",
        "exponent and Q of fractions after hot deformation; the half time must be measured",
        PUBLISHED,
        process="static recrystallisation",
    ),
    "metallic_glasses": Recipe(
        "jmak",
        "Crystallisation of metallic glasses",
        "exponent and Q of crystallised fractions; the half time must be measured",
        PUBLISHED,
        process="crystallisation of glass",
    ),
}
"""By name."""


def make_populations(real: Path, out: Path, seed: int = 0) -> None:
    """Learn all populations that come with matml and write `<name>.json` of each into a folder.

    Parameters
    ----------
    real
        Folder of the measured sets.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        with TemporaryDirectory() as folder:
            data = real / f"{recipe.measured}_points.csv"
            alloys = real / f"{recipe.measured}_alloys.csv"
            if recipe.process:
                data, alloys = _simulated(recipe.process, Path(folder), seed)
            population = _learned(recipe, data, alloys, seed)
        population.save(out / f"{name}.json")
        log.info("%s: %d alloys", out / f"{name}.json", population.data_card["alloys"])


def _learned(recipe: Recipe, data: Path, alloys: Path, seed: int) -> Population:
    population, _ = learn_population(
        read_observations(data, alloys),
        equation_named(recipe.equation),
        KineticsSection().pseudo_tasks,
        seed,
        held_out=[],
        origin=data,
    )
    told = {"title": recipe.title, "good_for": recipe.good_for, "source": recipe.source}
    # warnings name files of the machine on which it was learned
    return replace(population, data_card=population.data_card | {"warnings": []} | told)


def _simulated(process: str, folder: Path, seed: int) -> tuple[Path, Path]:
    """Write observations of the published alloys of a process; returns their file and alloys'."""
    settings = KineticsSection()
    table: pd.DataFrame = read_table(input_path(settings.simulation.jmak_table))
    write_table(folder / "published.csv", table[table["process"] == process])
    simulation = settings.simulation.model_copy(update={"jmak_table": folder / "published.csv"})
    simulate_dataset("jmak", settings.model_copy(update={"simulation": simulation}), folder, seed)
    return folder / "observations.csv", folder / "alloys.csv"
