"""The benchmark: new families, cross-validated, every method on the same episodes.

Families of at least a given size are dealt into folds; each is for test exactly once, with the next
fold for validation and all else for training. Each fold runs the stages of the workflow in a folder
of its own; what is there is not made again, so that a stopped run goes on where it was.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_json, read_table, write_json, write_table
from matml.core.statistics import rank_correlation
from matml.properties.baselines.chgnet import HOW, PACKAGE, potential_features
from matml.properties.benchmark.layout import FAMILIES, POTENTIAL, RUN
from matml.properties.benchmark.parts import FoldRun, processes, run_parts
from matml.properties.dataset import EPISODES, Workbench
from matml.properties.evaluation.compare import (
    choose,
    episode_errors,
    family_errors,
    with_chosen_fine_tuning,
)
from matml.properties.evaluation.summarise import half_width_of, join_predictions, to_learned_scale
from matml.properties.methods.registry import COMPARED, ONE, SINGLE, STACK, TITLES
from matml.properties.settings import PropertiesSection
from matml.properties.stack.conformal import half_widths
from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

DEFAULT = STACK
"""What a user gets."""
ALL = {m: (TITLES | COMPARED)[m] for m in [*list(TITLES)[:1], *COMPARED, *list(TITLES)[1:]]}
"""All methods with their titles."""
PROPERTIES = (
    "formation_energy_eV_per_atom",
    "bulk_modulus_GPa",
    "shear_modulus_GPa",
    "refractive_index",
)


def check_run(out: Path, run: dict) -> None:
    """Write what a benchmark's folder is made with; refuse a folder made with something else.

    Raises
    ------
    MatmlError
        Names what differs.
    """
    path = out / RUN
    if not path.exists():
        write_json(path, run)
        return
    before = read_json(path)
    if differing := [key for key in run if before.get(key) != run[key]]:
        raise MatmlError(
            f"{path}: made with another {', '.join(differing)}; give the same, or another --out"
        )


def run_fold(run: FoldRun, pool: Executor | None) -> pd.DataFrame:
    """Return the scores of the test families of one fold, running what is not there yet."""
    if (run.out / FAMILIES).exists():
        return read_table(run.out / FAMILIES)
    run_parts(run, pool)
    scores = score_fold(run.open(), run.out, *run.tables(), run.names).assign(fold=run.fold)
    write_table(run.out / FAMILIES, scores)
    return scores


def score_fold(
    bench: Workbench,
    run: Path,
    members: Sequence[Path],
    others: Sequence[Path],
    names: Sequence[str],
) -> pd.DataFrame:
    """Return property, shots, method, family and the draws' mean scores on the test families.

    Scores: `error`, `spearman`, `inside` (share of 90 % intervals that hold the truth), `width`.
    Those of a single network are means over the members.
    """
    episodes = read_table(run / EPISODES)
    episodes = episodes[episodes["property"].isin(names)]
    single, rest = ([read_table(path) for path in paths] for paths in (members, others))
    of_all = _score(bench, episodes, join_predictions(single, rest), names)
    single = [own[own["method"].str.startswith(SINGLE)] for own in single]
    of_one = _score(bench, episodes, pd.concat(single), names)
    of_one = of_one.assign(method=ONE + of_one["method"])
    keys = ["property", "shots", "method", "family", "common_name"]
    scores = pd.concat([of_all, of_one], ignore_index=True)
    return scores.groupby(keys, as_index=False)[["error", "spearman", "inside", "width"]].mean()


def _score(
    bench: Workbench, episodes: pd.DataFrame, predictions: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """Return the scores of each prediction for an episode of a test family."""
    predictions = predictions[predictions["episode"].isin(episodes["episode"])]
    predictions = to_learned_scale(predictions, episodes, bench)
    truth = {name: bench.labels[:, i] for i, name in enumerate(bench.names)}
    errors = episode_errors(episodes, predictions, truth)
    validation, test = (errors[errors["part"] == part] for part in ("validation", "test"))
    choices = choose(family_errors(validation), names)
    widths = half_widths(with_chosen_fine_tuning(validation, choices, ALL), truth)
    test = with_chosen_fine_tuning(test, choices, ALL)
    found = []
    for row in test.itertuples():
        label, half = truth[row.property][np.asarray(row.query)], half_width_of(row, widths)
        off = np.abs(np.asarray(row.prediction) - label)
        found.append((rank_correlation(row.prediction, label), (off <= half).mean(), 2 * half))
    rank, inside, width = zip(*found, strict=True)
    return test.assign(spearman=rank, inside=inside, width=[each.mean() for each in width])


def run_benchmark(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    which: Sequence[int],
    folds: int,
    names: Sequence[str],
    methods: Sequence[str],
    fine_tune: bool,
    potential: bool,
    seed: int,
    device: str,
    threads: int,
    jobs: int,
) -> pd.DataFrame:
    """Return the scores of the test families of all finished folds.

    Parameters
    ----------
    which
        Folds to run now.
    methods, fine_tune
        As of `stages.evaluate_member`.
    potential
        Whether to have the potential's features, if it is installed.
    jobs
        Processes to run members and properties in.

    Raises
    ------
    MatmlError
        For a property that the settings do not learn, or a folder made otherwise.
    """
    if unknown := [name for name in names if name not in settings.properties]:
        raise MatmlError(
            f"--property {unknown[0]}: the settings learn {', '.join(settings.properties)}"
        )
    made_with = {
        "settings": settings.model_dump(mode="json"),
        "folds": folds,
        "properties": list(names),
        "methods": list(methods),
        "fine_tune": fine_tune,
        "seed": seed,
    }
    cache = out / POTENTIAL
    if potential:
        crystals = CrystalSet.open(structures, graphs)
        if potential_features(crystals, cache) is None:
            log.info("features of %s are left out; to have them, %s", PACKAGE, HOW)
            potential = False
    check_run(out, made_with | {"potential": potential})
    with processes(jobs, threads) as pool:
        for fold in which:
            log.info("fold %d of %d", fold, folds)
            run = FoldRun(
                structures,
                graphs,
                out / f"fold-{fold}",
                settings,
                fold=fold,
                folds=folds,
                names=tuple(names),
                methods=tuple(methods),
                fine_tune=fine_tune,
                potential=cache if potential else None,
                seed=seed,
                device=device,
                threads=threads,
            )
            run_fold(run, pool)
    finished = [out / f"fold-{fold}" / FAMILIES for fold in range(folds)]
    return pd.concat([read_table(p) for p in finished if p.exists()], ignore_index=True)
