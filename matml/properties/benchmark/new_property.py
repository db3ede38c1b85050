"""Setting B of the benchmark: a property that no network was trained on, from a few labels.

Networks are trained without one property and without the families that are for test. Its first
labels are then given: of K crystals of a family, or of K random crystals outside of the families
for test. Nothing is chosen on held-out families, since no label of theirs is known before, so that
those which other settings take for validation are for test too.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor

from matml.core.files import read_json, resumable
from matml.core.standardise import Standardisation
from matml.core.statistics import rank_correlation
from matml.properties.baselines.chgnet import potential_features
from matml.properties.baselines.support_only import support_gp, support_ridge
from matml.properties.data.split import SPLIT_FILE
from matml.properties.dataset import SETUP, Workbench, learned_properties, learned_values
from matml.properties.evaluation.layout import member_folder
from matml.properties.evaluation.member_job import keep, pretrain_once, unfinished
from matml.properties.methods.registry import LABEL_PROCESS
from matml.properties.networks.ensemble import load_network
from matml.properties.new_property.model import learn_process
from matml.properties.new_property.networks import NewReadOuts, metatrain_new
from matml.properties.new_property.process import LabelProcess
from matml.properties.new_property.tasks import (
    POOLED_SHOTS,
    SHOTS,
    Episode,
    FeatureSets,
    pooled_episodes,
    within_episodes,
)
from matml.properties.settings import PropertiesSection

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
            rows = np.r_[support, query]
            said = None if shifted is None else shifted[rows]
            yield episode, LABEL_PROCESS, *process.predict(sets.features(rows), own, said)
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


def new_property_member(
    bench: Workbench,
    run: Path,
    settings: PropertiesSection,
    *,
    member: int,
    seed: int,
    device: str,
    methods: Sequence[str],
    made_with: dict[str, Any],
) -> None:
    """Train one member of a run, and meta-train it to take up a property that it does not know.

    Parameters
    ----------
    methods
        Of meta-learning.
    """
    own: dict[str, Any] = {"member": member, "seed": seed, "device": device}
    with resumable(unfinished(run, member), made_with) as work:
        pretrain_once(bench, work, settings, **own)
        metatrain_new(bench, work, settings, methods=methods, **own)
        keep(work, member_folder(run, member))


def score_new_property(
    bench: Workbench,
    run: Path,
    settings: PropertiesSection,
    *,
    name: str,
    potential: Path | None,
    methods: Sequence[str],
    fine_tune: bool,
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return the scores of a run's held-out families on a property that it was trained without.

    Parameters
    ----------
    potential
        File of the potential's features, if they are taken.
    methods, fine_tune
        Of meta-learning, by which the members were trained; whether networks are fine-tuned too.
    """
    recipe = bench.recipe(settings)
    members = [member_folder(run, i) for i in range(settings.members)]
    networks = [load_network(f / "pretrained.safetensors", recipe)[0] for f in members]
    sets = FeatureSets.of(bench.crystals, networks, device)
    sets = sets.standardised(sets.scales(bench.split.training_rows(bench.families)))
    features = sets.for_baselines()
    table = bench.crystals.table
    said = None if potential is None else potential_features(bench.crystals, potential)
    if said is not None:
        features["potential"] = Standardisation.of(said.features).apply(said.features)
    labels = learned_values(table, learned_properties(table, [name]))[:, 0]
    held_out = [*bench.split.test, *bench.split.validation]
    excluded = read_json(run / SETUP, SPLIT_FILE)["excluded"]
    tables = []
    adapting: dict[str, Any] = {
        "methods": methods,
        "fine_tune": fine_tune,
        "seed": seed,
        "device": device,
    }
    process = learn_process(bench, sets, settings, seed=seed)
    within = within_episodes(bench.crystals.table, held_out, name, settings, SHOTS, seed)
    pooled = pooled_episodes(
        bench, name, excluded, settings.test_draws, settings.smallest_query, seed
    )
    for setting, shots, drawn in ((WITHIN, SHOTS, within), (POOLED, POOLED_SHOTS, pooled)):
        found = predict_episodes(
            process, sets, features, labels, drawn, trees=settings.trees, seed=seed
        )
        options = adapting | {"shots": shots, "pooled": setting == POOLED}
        read_outs = NewReadOuts.open(bench, members, settings, **options)
        found = chain(found, read_outs.predict(drawn, labels))
        tables.append(score_episodes(found, labels).assign(setting=setting))
    return pd.concat(tables, ignore_index=True).assign(property=name)
