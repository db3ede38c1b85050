"""Settings B and C of the properties' benchmark, resumable like setting A."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.properties.benchmark.new_family import check_run
from matml.properties.benchmark.new_property import run_new_property
from matml.properties.benchmark.zeolites import run_frameworks, shipped_frameworks
from matml.properties.settings import PropertiesSection

ABSENT = ("bulk_modulus_GPa", "refractive_index")
"""Properties that take the part of the new one, unless others are asked for."""


def run_setting_b(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    names: Sequence[str],
    folds: int,
    potential: bool,
    methods: Sequence[str],
    fine_tune: bool,
    seed: int,
    **running: Any,
) -> pd.DataFrame:
    """Return the scores of setting B: each of some properties in turn is new.

    Parameters
    ----------
    methods, fine_tune, running
        As of `run_new_property`; running is device, threads and jobs.

    Raises
    ------
    MatmlError
        Where no property would be left to train on, or the folder was made otherwise.
    """
    names = list(names or ABSENT)
    if len(settings.properties) < 2:
        raise MatmlError("setting B trains on the other properties: name at least two in all")
    made_with = {
        "setting": "B",
        "settings": settings.model_dump(mode="json"),
        "folds": folds,
        "potential": potential,
        "methods": list(methods),
        "fine_tune": fine_tune,
        "seed": seed,
    }
    check_run(out, made_with)
    scores = run_new_property(
        structures,
        graphs,
        out,
        settings,
        names=names,
        folds=folds,
        potential=potential,
        methods=methods,
        fine_tune=fine_tune,
        seed=seed,
        **running,
    )
    return scores.assign(setting="B, " + scores["setting"])


def run_setting_c(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    run: Path | None,
    frameworks: Path | None,
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return the scores of setting C.

    Raises
    ------
    MatmlError
        Where the trained members or the zeolites are missing, or the folder was made otherwise.
    """
    if run is None:
        raise MatmlError("setting C takes trained members: give --run, results/properties")
    frameworks = frameworks or shipped_frameworks()
    if frameworks is None:
        raise MatmlError(
            "setting C takes the frameworks of `zeose`: install it with "
            "`pip install 'matml[zeolites]'`, or give --frameworks"
        )
    check_run(out, {"setting": "C", "settings": settings.model_dump(mode="json"), "seed": seed})
    options = {"frameworks": frameworks, "seed": seed, "device": device}
    return run_frameworks(structures, graphs, run, out, settings, **options)
