"""What a materials scientist would try in an hour: trees and a Gaussian process on descriptors.

Every baseline offers the same two verbs as the networks: a prediction without any label of the
family, and one after adaptation to a support set. All values are on the standardised scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from matml.core.errors import reading
from matml.gp.exact import GlobalGP
from matml.gp.residual import ResidualGP, learn_residual_gp
from matml.meta.checkpoint import TENSORS, load_checkpoint, pack, save_checkpoint, unpack

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

FOLDS = 3


def fit_extra_trees(
    features: np.ndarray, targets: np.ndarray, *, trees: int, seed: int, threads: int
) -> "ExtraTreesRegressor":
    """Return extra-trees (Geurts 2006, 10.1007/s10994-006-6226-1) fitted to [n, d] and [n]."""
    # a model that is only used needs neither this nor half a second of its start
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        trees, max_features=0.3, min_samples_leaf=1, random_state=seed, n_jobs=threads
    )
    return model.fit(features, targets)


@dataclass
class Baseline:
    """A fitted baseline with its residual Gaussian process.

    Attributes
    ----------
    model
        Has `predict(features)`; a `GlobalGP` has `adapt` too.
    residual_gp
        Learned on residuals cross-fitted by family.
    """

    model: "ExtraTreesRegressor | GlobalGP"
    residual_gp: ResidualGP

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return predictions without any label of the family, [n]."""
        return self.model.predict(features)


def fit_baseline(
    kind: str,
    features: np.ndarray,
    targets: np.ndarray,
    families: np.ndarray,
    *,
    trees: int,
    gp_subset: int,
    gp_steps: int,
    gp_exact_up_to: int,
    shots: Sequence[int],
    seed: int,
    threads: int,
) -> Baseline:
    """Return a fitted baseline.

    Parameters
    ----------
    kind
        "extra_trees" or "global_gp".
    features, targets, families
        Training rows: [n, d], [n] (standardised), [n] family names.
    """
    if kind == "extra_trees":
        model = fit_extra_trees(features, targets, trees=trees, seed=seed, threads=threads)

        def refit(rows: np.ndarray) -> "ExtraTreesRegressor | GlobalGP":
            return fit_extra_trees(
                features[rows], targets[rows], trees=trees, seed=seed, threads=threads
            )
    else:
        model = GlobalGP(
            subset=gp_subset, steps=gp_steps, seed=seed, exact_up_to=gp_exact_up_to
        ).fit(features, targets)

        def refit(rows: np.ndarray) -> "ExtraTreesRegressor | GlobalGP":
            return model.refit(features[rows], targets[rows])

    residuals = cross_fitted_residuals(refit, features, targets, families)
    episodes = residual_episodes(families, shots, seed=seed)
    return Baseline(model, learn_residual_gp(features, residuals, episodes))


def cross_fitted_residuals(
    refit: "Callable[[np.ndarray], ExtraTreesRegressor | GlobalGP]",
    features: np.ndarray,
    targets: np.ndarray,
    families: np.ndarray,
) -> np.ndarray:
    """Return residuals of models that had not seen the crystal's family, [n]."""
    from sklearn.model_selection import GroupKFold

    residuals = np.empty(len(targets))
    for train, held_out in GroupKFold(FOLDS).split(features, targets, families):
        residuals[held_out] = targets[held_out] - refit(train).predict(features[held_out])
    return residuals


def residual_episodes(
    families: np.ndarray, shots: Sequence[int], *, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (support, query) row numbers within families, for learning the residual model.

    Three of each family of at least eight, with at most twenty in a query.
    """
    generator = np.random.default_rng(seed)
    episodes = []
    for family in np.unique(families):
        rows = np.flatnonzero(families == family)
        if len(rows) < 8:
            continue
        for draw in range(3):
            k = min(shots[draw % len(shots)], len(rows) // 2)
            order = generator.permutation(rows)
            episodes.append((order[:k], order[k : k + 20]))
    return episodes


def save_baselines(path: Path, fitted: dict[str, Baseline]) -> None:
    """Write what is needed to fit the baselines of one property again, exactly.

    The Gaussian process keeps its hyper-parameters, the trees their recipe; both are fitted to the
    stored training rows when they are read.
    """
    tensors: dict[str, Tensor] = {}
    state: dict[str, dict[str, Any]] = {}
    for kind, baseline in fitted.items():
        tensors |= pack(f"{kind}.residual", baseline.residual_gp.tensors())
        if isinstance(baseline.model, GlobalGP):
            tensors |= pack(f"{kind}.model", baseline.model.hyper_parameters())
        else:
            chosen = ("n_estimators", "max_features", "min_samples_leaf", "random_state")
            state[kind] = {key: getattr(baseline.model, key) for key in chosen}
    save_checkpoint(path, tensors, state)


def load_baseline(path: Path, kind: str, features: np.ndarray, targets: np.ndarray) -> Baseline:
    """Return a baseline fitted again to its training rows, [n, d] and [n]."""
    tensors, state = load_checkpoint(path)
    with reading(path, TENSORS.remedy):
        residual = ResidualGP.from_tensors(unpack(f"{kind}.residual", tensors))
        if kind == "global_gp":
            process = GlobalGP.from_hyper_parameters(unpack(f"{kind}.model", tensors))
        else:
            from sklearn.ensemble import ExtraTreesRegressor

            trees = ExtraTreesRegressor(**state[kind])
    if kind == "global_gp":
        return Baseline(process.refit(features, targets), residual)
    return Baseline(trees.fit(features, targets), residual)
