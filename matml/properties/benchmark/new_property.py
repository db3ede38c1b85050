"""Setting B of the benchmark: a property that no network was trained on, from a few labels.

Networks are trained without one property and without the families that are for test. Its first
labels are then given: of K crystals of a family, or of K random crystals outside of the families
for test. Nothing is chosen on held-out families, since no label of theirs is known before, so that
those which other settings take for validation are for test too.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor

from matml.core.errors import MatmlError
from matml.core.files import read_json, read_table, write_table
from matml.core.standardise import Standardisation
from matml.core.statistics import rank_correlation
from matml.properties.baselines.chgnet import potential_features
from matml.properties.baselines.support_only import support_gp, support_ridge
from matml.properties.benchmark.layout import FAMILIES
from matml.properties.benchmark.parts import call_all, processes
from matml.properties.dataset import SETUP, Workbench, learned_values, make_split
from matml.properties.evaluation.train_and_predict import train_member
from matml.properties.networks.ensemble import load_network
from matml.properties.new_property.kernels import LabelProcess
from matml.properties.new_property.networks import NewReadOuts, metatrain_new
from matml.properties.new_property.tasks import (
    POOLED_SHOTS,
    SHOTS,
    Episode,
    FeatureSets,
    family_tasks,
    pooled_episodes,
    pooled_tasks,
    within_episodes,
)
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

OURS = "label_process"
WITHIN, POOLED = "within a family", "pooled over families"


def predict_episodes(
    process: LabelProcess,
    sets: FeatureSets,
    features: dict[str, np.ndarray],
    labels: np.ndarray,
    episodes: Sequence[Episode],
    *,
    trees: int,
    seed: int,
    shifted: np.ndarray | None = None,
) -> Iterator[tuple[Episode, str, np.ndarray, np.ndarray | None]]:
    """Yield episode, method, prediction, and the half width of its interval where there is one.

    Parameters
    ----------
    features
        Prefix of the baselines' names to what they learn from, [n, d] each.
    labels
        Of all crystals, [n].
    shifted
        A network's prediction of the same quantity up to a constant, [n].
    """
    by_shots: dict[int, list[Episode]] = {}
    for episode in episodes:
        by_shots.setdefault(episode[2], []).append(episode)
    for group in by_shots.values():
        known = np.stack([labels[support] for _, _, _, support, _ in group])
        # pooled supports serve several families
        forests: dict[bytes, ExtraTreesRegressor] = {}
        for episode, own in zip(group, known, strict=True):
            support, query = episode[3:]
            yield episode, "support_mean", np.full(len(query), own.mean()), None
            if shifted is not None:
                shift = (own - shifted[support]).mean()
                yield episode, "network_shift", shifted[query] + shift, None
            if (forest := forests.get(support.tobytes())) is None:
                forest = ExtraTreesRegressor(trees, max_features=0.3, random_state=seed)
                forest.fit(sets.descriptors[support], own)
                forests[support.tobytes()] = forest
            yield episode, "extra_trees", forest.predict(sets.descriptors[query]), None
            likeness = sets.likeness(np.r_[support, query])
            said = None if shifted is None else shifted[np.r_[support, query]]
            yield episode, OURS, *process.predict(likeness, own, said)
        for prefix, x in features.items():
            supports = np.stack([x[support] for _, _, _, support, _ in group])
            queries = [x[query] for *_, query in group]
            for kind, model in (("ridge", support_ridge), ("gp", support_gp)):
                for episode, found in zip(group, model(supports, known, queries), strict=True):
                    yield episode, f"{prefix}_{kind}", found, None


def score_episodes(predictions: Iterator, labels: np.ndarray) -> pd.DataFrame:
    """Return shots, method, family and the draws' mean scores."""
    rows = []
    for (family, _, shots, _, query), method, prediction, half in predictions:
        truth = labels[query]
        off = np.abs(prediction - truth)
        rows.append(
            {
                "shots": shots,
                "method": method,
                "family": family,
                "error": off.mean(),
                "spearman": rank_correlation(prediction, truth),
                "inside": np.nan if half is None else (off <= half).mean(),
                "width": np.nan if half is None else 2 * half.mean(),
            }
        )
    scores = pd.DataFrame(rows)
    return scores.groupby(["shots", "method", "family"], as_index=False).mean()


def run_fold(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    name: str,
    fold: int,
    folds: int,
    potential: Path | None,
    methods: Sequence[str],
    fine_tune: bool,
    seed: int,
    device: str,
    pool: Executor | None,
) -> pd.DataFrame:
    """Return the scores of one fold's families, training what is not there yet."""
    if (out / FAMILIES).exists():
        return read_table(out / FAMILIES)
    rest = {n: weight for n, weight in settings.properties.items() if n != name}
    settings = settings.model_copy(update={"properties": rest})
    if not (out / SETUP).exists():
        make_split(structures, graphs, out, settings, seed, fold=fold, folds=folds)
    bench = Workbench.open(structures, graphs, out, settings)
    call_all(
        _train,
        [
            (structures, graphs, out, settings, i, methods, seed, device)
            for i in range(settings.members)
        ],
        pool,
    )
    recipe = bench.recipe(settings)
    members = [out / "members" / str(i) for i in range(settings.members)]
    networks = [load_network(f / "pretrained.safetensors", recipe)[0] for f in members]
    sets = FeatureSets.of(bench.crystals, networks, device)
    sets = sets.standardised(sets, bench.split.training_rows(bench.families))
    features = sets.for_baselines()
    if potential is not None:
        known = potential_features(bench.crystals, potential).features
        features["potential"] = Standardisation.of(known).apply(known)
    labels = learned_values(bench.crystals.table, [name])[:, 0]
    held_out = [*bench.split.test, *bench.split.validation]
    excluded = read_json(out / SETUP)["excluded"]
    own = {"trees": settings.trees, "seed": seed}
    tables = []
    adapting = {"methods": methods, "fine_tune": fine_tune, "seed": seed, "device": device}
    settings_of: tuple[tuple[str, Sequence[int], Callable, Callable], ...] = (
        (
            WITHIN,
            SHOTS,
            lambda: family_tasks(bench, sets, settings, SHOTS, seed=seed),
            lambda: within_episodes(bench.crystals.table, held_out, name, settings, SHOTS, seed),
        ),
        (
            POOLED,
            POOLED_SHOTS,
            lambda: pooled_tasks(bench, sets, POOLED_SHOTS, seed=seed),
            lambda: pooled_episodes(
                bench, name, excluded, settings.test_draws, settings.smallest_query, seed
            ),
        ),
    )
    for setting, shots, tasks, episodes in settings_of:
        process = LabelProcess.learn(tasks())
        drawn = episodes()
        found = predict_episodes(process, sets, features, labels, drawn, **own)
        options = adapting | {"shots": shots, "pooled": setting == POOLED}
        read_outs = NewReadOuts.open(bench, members, settings, **options)
        found = chain(found, read_outs.predict(drawn, labels))
        tables.append(score_episodes(found, labels).assign(setting=setting))
        log.info("%s, fold %d: %s done", name, fold, setting)
    scores = pd.concat(tables, ignore_index=True).assign(property=name, fold=fold)
    write_table(out / FAMILIES, scores)
    return scores


def _train(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    member: int,
    methods: Sequence[str],
    seed: int,
    device: str,
) -> None:
    """Train and meta-train one member of a fold, as far as that is not done."""
    folder = out / "members" / str(member)
    bench = Workbench.open(structures, graphs, out, settings)
    own = {"member": member, "seed": seed, "device": device}
    if not (folder / "pretraining.csv").exists():
        train_member(bench, folder, settings, **own)
    metatrain_new(bench, folder, settings, methods=methods, **own)


def run_new_property(
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
    device: str,
    threads: int,
    jobs: int,
) -> pd.DataFrame:
    """Return the scores of all large families, each property in turn being the new one.

    Every second of `folds` is run, since test and validation families of each are for test.

    Parameters
    ----------
    methods, fine_tune
        Of meta-learning, from `metatrain.ALL_METHODS`; whether networks are fine-tuned too.
    """
    if folds % 2 or folds < 4:
        raise MatmlError(f"--folds {folds}: setting B takes an even number of at least 4")
    cache = out / "potential.safetensors"
    crystals = CrystalSet.open(structures, graphs)
    there = potential and potential_features(crystals, cache) is not None
    tables = []
    with processes(jobs, threads) as pool:
        for name, fold in product(names, range(0, folds, 2)):
            log.info("without %s: fold %d of %d", name, fold // 2, folds // 2)
            scores = run_fold(
                structures,
                graphs,
                out / f"without-{name}/fold-{fold // 2}",
                settings,
                name=name,
                fold=fold,
                folds=folds,
                potential=cache if there else None,
                methods=methods,
                fine_tune=fine_tune,
                seed=seed,
                device=device,
                pool=pool,
            )
            tables.append(scores)
    return pd.concat(tables, ignore_index=True)
