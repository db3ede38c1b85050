"""The benchmark: new families, cross-validated, every method on the same episodes.

Families of at least a given size are dealt into folds; each is for test exactly once, with the next
fold for validation and all else for training. Each fold runs the stages of the workflow in a folder
of its own; what is there is not made again, so that a stopped run goes on where it was.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from matml.config import PropertiesSection
from matml.errors import MatmlError
from matml.files import read_json, read_table, write_json, write_table
from matml.properties.compare import (
    choose,
    episode_errors,
    family_errors,
    with_chosen_fine_tuning,
)
from matml.properties.intervals import half_widths
from matml.properties.metatrain import METHODS
from matml.properties.stacking import evaluate_stack
from matml.properties.stages import (
    EPISODES,
    SETUP,
    Workbench,
    evaluate_baseline,
    evaluate_member,
    make_split,
    metatrain_member,
    train_member,
)
from matml.properties.summarise import half_width_of, join_predictions, to_learned_scale

log = logging.getLogger(__name__)

FAMILIES, RUN = "families.csv", "benchmark.json"
DEFAULT = "default"
"""What a user gets: the method chosen, per fold and property, on validation families."""
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


def run_fold(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    fold: int,
    folds: int,
    names: Sequence[str],
    methods: Sequence[str] = tuple(METHODS),
    fine_tune: bool = True,
    seed: int,
    device: str,
    threads: int,
) -> pd.DataFrame:
    """Return the scores of the test families of one fold, running what is not there yet.

    Parameters
    ----------
    out
        Folder of the fold.
    names
        Properties to score; the networks learn all those of the settings.
    methods, fine_tune
        As of `stages.evaluate_member`.
    """
    if (out / FAMILIES).exists():
        return read_table(out / FAMILIES)
    if not (out / SETUP).exists():
        make_split(structures, graphs, out, settings, seed, fold=fold, folds=folds)
    bench = Workbench.open(structures, graphs, out, settings)
    chance = {"seed": seed, "device": device}
    members = [out / "members" / str(member) for member in range(settings.members)]
    tables = []
    for member, folder in enumerate(members):
        if not (folder / "pretraining.csv").exists():
            train_member(bench, folder, settings, member=member, **chance)
        if methods and not (folder / "metatraining.csv").exists():
            metatrain_member(bench, folder, folder, settings, member=member, **chance)
        tables.append(out / f"predictions/member-{member}.parquet")
        if not tables[-1].exists():
            evaluate_member(
                bench,
                out,
                folder,
                tables[-1],
                settings,
                member=member,
                shard=0,
                shards=1,
                device=device,
                methods=methods,
                fine_tune=fine_tune,
            )
    others = []
    for name in names:
        table, model = out / f"predictions/baseline-{name}.parquet", f"{name}.safetensors"
        if not table.exists():
            own = {"name": name, "seed": seed, "threads": threads}
            evaluate_baseline(bench, out, table, out / "baselines" / model, settings, **own)
        others.append(table)
        table = out / f"predictions/stack-{name}.parquet"
        if not table.exists():
            stack = out / "stacks" / model
            evaluate_stack(bench, out, members, table, stack, settings, name=name, **chance)
        others.append(table)
    scores = score_fold(bench, out, tables, others, names).assign(fold=fold)
    write_table(out / FAMILIES, scores)
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
    The method `DEFAULT` repeats the one that the validation families chose, named in `chosen`.
    """
    episodes = read_table(run / EPISODES)
    episodes = episodes[episodes["property"].isin(names)]
    predictions = join_predictions(*([read_table(path) for path in p] for p in (members, others)))
    predictions = predictions[predictions["episode"].isin(episodes["episode"])]
    predictions = to_learned_scale(predictions, episodes, bench)
    truth = {name: bench.labels[:, i] for i, name in enumerate(bench.names)}
    errors = episode_errors(episodes, predictions, truth)
    validation, test = (errors[errors["part"] == part] for part in ("validation", "test"))
    choices = choose(family_errors(validation), names)
    widths = half_widths(with_chosen_fine_tuning(validation, choices), truth)
    test = with_chosen_fine_tuning(test, choices)
    found = []
    for row in test.itertuples():
        label, half = truth[row.property][np.asarray(row.query)], half_width_of(row, widths)
        off = np.abs(np.asarray(row.prediction) - label)
        found.append((rank_correlation(row.prediction, label), (off <= half).mean(), 2 * half))
    rank, inside, width = zip(*found, strict=True)
    test = test.assign(spearman=rank, inside=inside, width=[each.mean() for each in width])
    keys = ["property", "shots", "method", "family", "common_name"]
    scores = test.groupby(keys, as_index=False)[["error", "spearman", "inside", "width"]].mean()
    chosen = scores["property"].map({name: choice.method for name, choice in choices.items()})
    default = scores[scores["method"] == chosen].assign(method=DEFAULT)
    return pd.concat([scores, default], ignore_index=True).assign(
        chosen=lambda table: table["property"].map({n: c.method for n, c in choices.items()})
    )


def rank_correlation(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's correlation; NaN where one of both does not vary, which ranks nothing."""
    ranks = rankdata(prediction), rankdata(truth)
    if min(r.std() for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


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
    seed: int,
    device: str,
    threads: int,
) -> pd.DataFrame:
    """Return the scores of the test families of all finished folds.

    Parameters
    ----------
    which
        Folds to run now.

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
    check_run(out, made_with)
    for fold in which:
        log.info("fold %d of %d", fold, folds)
        run_fold(
            structures,
            graphs,
            out / f"fold-{fold}",
            settings,
            fold=fold,
            folds=folds,
            names=names,
            methods=methods,
            fine_tune=fine_tune,
            seed=seed,
            device=device,
            threads=threads,
        )
    finished = [out / f"fold-{fold}" / FAMILIES for fold in range(folds)]
    return pd.concat([read_table(p) for p in finished if p.exists()], ignore_index=True)
