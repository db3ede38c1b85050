"""Setting A of the benchmark: new families, cross-validated, every method on the same episodes."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.files import TABLE, read_table
from matml.core.statistics import rank_correlation
from matml.properties.baselines.chgnet import potential_features
from matml.properties.baselines.linear_probe import by_frozen_features, by_support_alone
from matml.properties.data.descriptors import describe
from matml.properties.dataset import EPISODES, Workbench
from matml.properties.evaluation.compare import (
    choose,
    episode_errors,
    family_errors,
    with_chosen_fine_tuning,
)
from matml.properties.evaluation.intervals import half_width_of
from matml.properties.evaluation.layout import member_folder, predictions_of
from matml.properties.evaluation.summarise import join_predictions, to_learned_scale
from matml.properties.methods.registry import COMPARED, ONE, SINGLE, STACK, TITLES
from matml.properties.networks.ensemble import load_network
from matml.properties.networks.pretrain import embed
from matml.properties.settings import PropertiesSection
from matml.properties.stack.conformal import half_widths

DEFAULT = STACK
"""What a user gets."""
ALL = {m: (TITLES | COMPARED)[m] for m in [*list(TITLES)[:1], *COMPARED, *list(TITLES)[1:]]}
"""All methods with their titles."""
FEATURES = "features"
"""Kind of the predictions from the support alone and with frozen features."""


def predict_by_features(
    bench: Workbench,
    run: Path,
    settings: PropertiesSection,
    *,
    name: str,
    potential: Path | None,
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return the predictions of a property's episodes by models of few labels and fixed features.

    These are descriptors, embeddings of one network and of all members, and what a potential says.

    Parameters
    ----------
    potential
        File of the potential's features, if they are taken.
    """
    column = bench.names.index(name)
    targets = bench.targets[:, column]
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(targets[training])]
    episodes = read_table(run / EPISODES, TABLE)
    own = targets, training, episodes[episodes["property"] == name]
    probe = partial(
        by_frozen_features, subset=settings.gp_subset, steps=settings.gp_steps, seed=seed
    )
    embeddings = [_embedding(bench, run, settings, i, device) for i in range(settings.members)]
    features = {"embedding": np.hstack(embeddings), f"{ONE}embedding": embeddings[0]}
    said = None if potential is None else potential_features(bench.crystals, potential)
    if said is not None:
        features["potential"] = said.features
    found: list[Iterable] = [by_support_alone(describe(bench.crystals), *own)]
    found += [probe(kind, x, *own) for kind, x in features.items()]
    columns = ["episode", "method", "prediction"]
    return pd.DataFrame([row for rows in found for row in rows], columns=columns)


def _embedding(
    bench: Workbench, run: Path, settings: PropertiesSection, member: int, device: str
) -> np.ndarray:
    """Return a member's embeddings of all crystals, [crystals, width]."""
    path = member_folder(run, member) / "pretrained.safetensors"
    network, _ = load_network(path, bench.recipe(settings))
    rows = np.arange(len(bench.crystals))
    return embed(network.to(device), bench.batches(device), rows).astype(float)


def run_predictions(
    run: Path, members: int, names: Sequence[str]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Return the predictions of a run: of each member, and of what is fitted to a property."""
    kinds = ("baseline", "stack", FEATURES)
    return (
        [read_table(predictions_of(run, "member", i), TABLE) for i in range(members)],
        [read_table(predictions_of(run, kind, name), TABLE) for kind in kinds for name in names],
    )


def score_run(bench: Workbench, run: Path, members: int, names: Sequence[str]) -> pd.DataFrame:
    """Return property, shots, method, family and the draws' mean scores on the test families.

    Scores: `error`, `spearman`, `inside` (share of 90 % intervals that hold the truth), `width`.
    Those of a single network are means over the members.
    """
    episodes = read_table(run / EPISODES, TABLE)
    episodes = episodes[episodes["property"].isin(names)]
    single, rest = run_predictions(run, members, names)
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
