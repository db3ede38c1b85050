"""Setting B of the benchmark: a property that no network was trained on, from a few labels.

Networks are trained without one property and without the families that are for test. Its first
labels are then given: of K crystals of a family, or of K random crystals outside of the families
for test. Nothing is chosen on held-out families, since no label of theirs is known before, so that
those which other settings take for validation are for test too.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor

from matml.config import PropertiesSection
from matml.errors import MatmlError
from matml.files import read_json, read_table, write_table
from matml.properties.batches import GraphBatches
from matml.properties.benchmark import FAMILIES, rank_correlation
from matml.properties.descriptors import describe
from matml.properties.label_kernels import Episodes, LabelProcess, Likeness
from matml.properties.members import load_network
from matml.properties.network import CrystalNetwork
from matml.properties.potential import potential_view
from matml.properties.pretrain import embed, predict
from matml.properties.split import draw_episodes, labelled_members
from matml.properties.stages import SETUP, Workbench, learned_values, make_split, train_member
from matml.properties.support_models import support_gp, support_ridge
from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

OURS = "label_process"
SHOTS = (1, 2, 5, 10, 20)
POOLED_SHOTS = (10, 25, 50, 100)
WITHIN, POOLED = "within a family", "pooled over families"
LEARNING_DRAWS, QUERIES = 6, 4
"""Of each known property's family and number of labels; pooled tasks have five times the query."""

Episode = tuple[str, int, int, np.ndarray, np.ndarray]
"""Family, draw, number of labels, row numbers of support and query."""


@dataclass(frozen=True)
class NetworkViews:
    """What networks and descriptors say of n crystals.

    Attributes
    ----------
    predictions, embeddings
        Of all members, [members, n, properties] and [members, n, width].
    descriptors
        [n, features].
    """

    predictions: np.ndarray
    embeddings: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def of(
        cls, crystals: CrystalSet, networks: Sequence[CrystalNetwork], device: str
    ) -> "NetworkViews":
        """Return what networks say of all crystals."""
        rows, batches = np.arange(len(crystals)), GraphBatches(crystals, device=device)
        networks = [network.to(device) for network in networks]
        return cls(
            np.array([predict(network, batches, rows) for network in networks], float),
            np.array([embed(network, batches, rows) for network in networks], float),
            describe(crystals),
        )

    def standardised(self, by: "NetworkViews", rows: np.ndarray) -> "NetworkViews":
        """Return embeddings and descriptors in deviations of some crystals of a set."""
        found = {}
        for name in ("embeddings", "descriptors"):
            known = getattr(by, name)[..., rows, :]
            deviation = known.std(-2, keepdims=True)
            deviation = np.where(deviation < 1e-6, 1.0, deviation)
            found[name] = (getattr(self, name) - known.mean(-2, keepdims=True)) / deviation
        return replace(self, **found)

    def likeness(
        self, rows: np.ndarray, *, member: int | None = None, without: int | None = None
    ) -> Likeness:
        """Return how alike crystals are.

        Parameters
        ----------
        member
            Whose network speaks: the one that has not seen the family; all by default.
        without
            Property whose predictions are left out, since it plays the new one.
        """
        own = slice(None) if member is None else slice(member, member + 1)
        predictions = self.predictions[own, rows].mean(0)
        if without is not None and predictions.shape[1] > 1:
            predictions = np.delete(predictions, without, 1)
        embedding = np.hstack(list(self.embeddings[own][:, rows]))
        return Likeness.of([predictions, embedding, self.descriptors[rows]])

    def features(self) -> dict[str, np.ndarray]:
        """Return what baselines learn from: descriptors, and the members' embeddings."""
        return {"support": self.descriptors, "embedding": np.hstack(list(self.embeddings))}


def family_tasks(
    bench: Workbench,
    views: NetworkViews,
    settings: PropertiesSection,
    shots: Sequence[int],
    *,
    seed: int,
    known: bool = False,
) -> list[list[Episodes]]:
    """Return few-shot tasks within training families, per property of the networks.

    Parameters
    ----------
    known
        Whether the networks' predictions of a property may be used in its own tasks. They may not
        where the tasks stand for those of a property that networks do not predict.
    """
    found = []
    for column, name in enumerate(bench.names):
        labelled = labelled_members(bench.crystals.table, name).to_numpy()
        own: dict[int, list[tuple[Likeness, np.ndarray]]] = {}
        for family, fold in bench.split.folds.items():
            rows = np.flatnonzero(labelled & (bench.families == family))
            if len(rows) < settings.smallest_task:
                continue
            likeness = views.likeness(rows, member=fold, without=None if known else column)
            generator = np.random.default_rng([seed, crc32(f"{name}/{family}".encode())])
            for k in [k for k in shots if 1 < k <= len(rows) - QUERIES]:
                for _ in range(LEARNING_DRAWS):
                    order = generator.permutation(len(rows))[: k + QUERIES]
                    task = (likeness.among(order), bench.targets[rows[order], column])
                    own.setdefault(k, []).append(task)
        found.append([_stack(tasks, k) for k, tasks in own.items()])
    return found


def pooled_tasks(
    bench: Workbench, views: NetworkViews, shots: Sequence[int], *, seed: int
) -> list[list[Episodes]]:
    """Return tasks with labels of random crystals and a query of other families, per property."""
    folds = np.array([bench.split.folds.get(family, -1) for family in bench.families])
    generator, found = np.random.default_rng(seed), []
    for column in range(len(bench.names)):
        labelled = ~np.isnan(bench.targets[:, column])
        own = []
        for k in shots:
            tasks = []
            for member in range(bench.split.members):
                known = np.flatnonzero(labelled & (folds != member) & (folds >= 0))
                query = np.flatnonzero(labelled & (folds == member))
                if len(known) < k or len(query) < 5 * QUERIES:
                    continue
                for _ in range(LEARNING_DRAWS):
                    rows = np.r_[
                        generator.choice(known, k, replace=False),
                        generator.choice(query, 5 * QUERIES, replace=False),
                    ]
                    likeness = views.likeness(rows, member=member, without=column)
                    tasks.append((likeness, bench.targets[rows, column]))
            if tasks:
                own.append(_stack(tasks, k))
        found.append(own)
    return found


def _stack(tasks: Sequence[tuple[Likeness, np.ndarray]], shots: int) -> Episodes:
    import torch

    squares, inners = zip(*((own.square, own.inner) for own, _ in tasks), strict=True)
    labels = torch.from_numpy(np.stack([labels for _, labels in tasks]).astype(float))
    return Episodes(Likeness(torch.stack(squares), torch.stack(inners)), labels, shots)


def predict_episodes(
    process: LabelProcess,
    views: NetworkViews,
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
        for episode, own in zip(group, known, strict=True):
            support, query = episode[3:]
            yield episode, "support_mean", np.full(len(query), own.mean()), None
            if shifted is not None:
                shift = (own - shifted[support]).mean()
                yield episode, "network_shift", shifted[query] + shift, None
            forest = ExtraTreesRegressor(trees, max_features=0.3, random_state=seed)
            forest.fit(views.descriptors[support], own)
            yield episode, "extra_trees", forest.predict(views.descriptors[query]), None
            likeness = views.likeness(np.r_[support, query])
            yield episode, OURS, *process.predict(likeness, own)
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


def within_episodes(
    table: pd.DataFrame,
    families: Sequence[str],
    name: str,
    settings: PropertiesSection,
    shots: Sequence[int],
    seed: int,
) -> list[Episode]:
    """Return episodes within families, as `draw_episodes` draws them."""
    drawn = draw_episodes(
        table,
        families,
        [name],
        shots=shots,
        draws=settings.test_draws,
        smallest_query=settings.smallest_query,
        seed=seed,
    )
    return [
        (row.family, row.draw, row.shots, np.array(row.support), np.array(row.query))
        for row in drawn.itertuples()
    ]


def pooled_episodes(
    bench: Workbench, name: str, excluded: Sequence[str], draws: int, smallest: int, seed: int
) -> list[Episode]:
    """Return episodes with labels of random crystals outside the families for test."""
    table = bench.crystals.table
    labelled = labelled_members(table, name).to_numpy()
    held_out = [*bench.split.test, *bench.split.validation]
    known = labelled & ~np.isin(bench.families, held_out) & ~table["id"].isin(excluded).to_numpy()
    known = np.flatnonzero(known)
    episodes = []
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(known)
        for family in held_out:
            query = np.flatnonzero(labelled & (bench.families == family))
            if len(query) < smallest:
                continue
            for k in [k for k in POOLED_SHOTS if k <= len(known)]:
                episodes.append((family, draw, k, order[:k], query))
    return episodes


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
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return the scores of one fold's families, training what is not there yet."""
    if (out / FAMILIES).exists():
        return read_table(out / FAMILIES)
    rest = {n: weight for n, weight in settings.properties.items() if n != name}
    settings = settings.model_copy(update={"properties": rest})
    if not (out / SETUP).exists():
        make_split(structures, graphs, out, settings, seed, fold=fold, folds=folds)
    bench = Workbench.open(structures, graphs, out, settings)
    networks = []
    for member in range(settings.members):
        folder = out / "members" / str(member)
        if not (folder / "pretraining.csv").exists():
            train_member(bench, folder, settings, member=member, seed=seed, device=device)
        path = folder / "pretrained.safetensors"
        networks.append(load_network(path, bench.recipe(settings))[0])
    views = NetworkViews.of(bench.crystals, networks, device)
    views = views.standardised(views, bench.split.training_rows(bench.families))
    features = views.features()
    if potential is not None:
        features["potential"] = _standard(potential_view(bench.crystals, potential).features)
    labels = learned_values(bench.crystals.table, [name])[:, 0]
    held_out = [*bench.split.test, *bench.split.validation]
    excluded = read_json(out / SETUP)["excluded"]
    own = {"trees": settings.trees, "seed": seed}
    tables = []
    settings_of: tuple[tuple[str, Callable, Callable], ...] = (
        (
            WITHIN,
            lambda: family_tasks(bench, views, settings, SHOTS, seed=seed),
            lambda: within_episodes(bench.crystals.table, held_out, name, settings, SHOTS, seed),
        ),
        (
            POOLED,
            lambda: pooled_tasks(bench, views, POOLED_SHOTS, seed=seed),
            lambda: pooled_episodes(
                bench, name, excluded, settings.test_draws, settings.smallest_query, seed
            ),
        ),
    )
    for setting, tasks, episodes in settings_of:
        process = LabelProcess.learn(tasks())
        found = predict_episodes(process, views, features, labels, episodes(), **own)
        tables.append(score_episodes(found, labels).assign(setting=setting))
        log.info("%s, fold %d: %s done", name, fold, setting)
    scores = pd.concat(tables, ignore_index=True).assign(property=name, fold=fold)
    write_table(out / FAMILIES, scores)
    return scores


def _standard(features: np.ndarray) -> np.ndarray:
    deviation = features.std(0)
    return (features - features.mean(0)) / np.where(deviation < 1e-6, 1.0, deviation)


def run_new_property(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    names: Sequence[str],
    folds: int,
    potential: bool,
    seed: int,
    device: str,
) -> pd.DataFrame:
    """Return the scores of all large families, each property in turn being the new one.

    Every second of `folds` is run, since test and validation families of each are for test.
    """
    if folds % 2 or folds < 4:
        raise MatmlError(f"--folds {folds}: setting B takes an even number of at least 4")
    cache = out / "potential.safetensors"
    crystals = CrystalSet.open(structures, graphs)
    there = potential and potential_view(crystals, cache) is not None
    tables = []
    for name in names:
        for fold in range(0, folds, 2):
            log.info("without %s: fold %d of %d", name, fold // 2, folds // 2)
            tables.append(
                run_fold(
                    structures,
                    graphs,
                    out / f"without-{name}/fold-{fold // 2}",
                    settings,
                    name=name,
                    fold=fold,
                    folds=folds,
                    potential=cache if there else None,
                    seed=seed,
                    device=device,
                )
            )
    return pd.concat(tables, ignore_index=True)
