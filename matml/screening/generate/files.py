"""The files of `matml candidates`: candidate table, its summary, and the default support CSV."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.core.settings import read_section
from matml.screening.data.known import read_known
from matml.screening.data.support import draw_supports
from matml.screening.generate import perovskites, prototypes
from matml.screening.generate.substitution import generate
from matml.screening.objectives import learned_properties, parse_objectives
from matml.screening.settings import ScreeningSection

log = logging.getLogger(__name__)


def find_prototype(
    family: str, table: pd.DataFrame, settings: ScreeningSection
) -> prototypes.Prototype:
    """The prototype of a family: from its known members where there are enough, else built in.

    Raises
    ------
    MatmlError
        Where the family is not the built-in one and too few known crystals support it.
    """
    try:
        return prototypes.from_family(table, family, settings.spin)
    except MatmlError as error:
        if family != perovskites.NAME:
            raise
        log.info("%s; taking the built-in prototype, its cell from ionic radii alone", error)
    return prototypes.built_in()


def make_candidates(
    out: Path,
    family: str | None,
    structures: Path,
    config: Path | None,
    relax: bool | None = None,
    threads: int | None = None,
) -> None:
    """Write `candidates.parquet` and `summary.json` into `out`.

    Parameters
    ----------
    relax
        Whether cells and positions are relaxed; None for what the settings say.
    """
    start = time.perf_counter()
    settings = read_section(ScreeningSection, config)
    family = family or settings.family
    table = read_known(structures)
    prototype = find_prototype(family, table, settings)
    made, summary = generate(prototype, settings)
    known = set(prototypes.family_rows(table, family)["formula"]) if prototype.members else ()
    summary["n_compositions_known_in_family"] = int(made["formula"].isin(known).sum())
    if settings.relax if relax is None else relax:
        from matml.screening.generate.relax import relax_candidates

        made, summary["relaxation"] = relax_candidates(made, settings, out, threads)
    write_table(out / "candidates.parquet", made)
    summary["settings"] = settings.model_dump(mode="json")
    summary["seconds"] = round(time.perf_counter() - start, 3)
    write_json(out / "summary.json", summary)
    counts = ", ".join(f"{name} {n:,}" for name, n in summary["counts"].items())
    log.info("%s candidates of %s (%s): %s", f"{len(made):,}", family, counts, out)
    if "relaxation" in summary:
        _tell_relaxation(summary["relaxation"])


def _tell_relaxation(found: dict[str, Any]) -> None:
    """Log how many candidates were relaxed and why others were not."""
    problems = "; ".join(f"{n} {why}" for why, n in found["problems"].items())
    log.info(
        "%d relaxed with %s%s",
        found["n_relaxed"],
        found["potential"],
        f", {found['n_not_relaxed']} keep the guessed cell ({problems})" if problems else "",
    )


def make_support(
    structures: Path,
    family: str | None,
    properties: Sequence[str],
    shots: int | None,
    seed: int,
    out: Path,
    config: Path | None,
) -> None:
    """Write a support CSV drawn from the ingested crystals; no property means the settings' own."""
    settings = read_section(ScreeningSection, config)
    family = family or settings.family
    names = list(properties) or [settings.property]
    if settings.objectives and not properties:
        names = learned_properties(parse_objectives(settings.objectives))
    drawn = draw_supports(read_known(structures), family, names, shots or settings.shots, seed)
    write_table(out, drawn)
    log.info("%d labelled members of %s drawn with seed %d: %s", len(drawn), family, seed, out)
