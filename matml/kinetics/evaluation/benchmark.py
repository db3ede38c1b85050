"""How well each method predicts a held-out alloy from K of its observations.

Alloys are split into grouped folds (whole composition groups, so that near-twins never stand on
both sides). For each fold everything is learned on the other folds; each held-out alloy is then
given K random observations, several times, and its other observations are predicted. Every method
gets the same draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.tasks import Columns, Tasks
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.compared import METHODS, Fold
from matml.kinetics.evaluation.gradient_start import learn_starts
from matml.kinetics.evaluation.methods import DEFAULT, HEAVY_TAILED, MEAN
from matml.kinetics.inference.population import TrainingAlloys, fit_training_alloys
from matml.kinetics.settings import KineticsSection


@dataclass(frozen=True)
class Split:
    """A grouped fold: alloys learned from, and those held out.

    Attributes
    ----------
    number
        From 1.
    training
        Fitted alloys of the other folds.
    unseen, tasks
        Held-out alloys.
    """

    number: int
    training: TrainingAlloys
    unseen: Observations
    tasks: Tasks


def splits(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    seed: int,
    least: int = 1,
) -> Iterator[Split]:
    """Yield the grouped folds; of the held-out alloys those with at least `least` observations."""
    counts = observations.points["alloy"].value_counts()
    for number, held in enumerate(grouped_folds(observations, settings.folds, seed), start=1):
        training = fit_training_alloys(observations, equation, settings.pseudo_tasks, without=held)
        unseen = observations.select([name for name in held if counts[name] >= least])
        tasks = to_tasks(unseen, equation, training.reference_temperature_K)
        yield Split(number, training, unseen, tasks)


def grouped_folds(observations: Observations, folds: int, seed: int) -> list[list[str]]:
    """Return the held-out alloys of each fold: whole composition groups, folds of similar size.

    Raises
    ------
    MatmlError
        With fewer groups than folds.
    """
    groups = observations.alloys.groupby("composition_group", sort=True)["alloy"].agg(list)
    if len(groups) < folds:
        raise MatmlError(
            f"{len(groups)} composition groups cannot make {folds} folds; lower `folds` or give "
            "more alloys"
        )
    order = np.random.default_rng([seed, 4]).permutation(len(groups))
    held: list[list[str]] = [[] for _ in range(folds)]
    # largest groups first, each to the smallest fold: sizes end up close
    for index in sorted(order, key=lambda i: -len(groups.iloc[i])):
        min(held, key=len).extend(groups.iloc[index])
    return held


def draw_points(counts: Sequence[int], shots: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return (alloy of each task [T], picked observations [T, shots]); nested in `shots`.

    Alloys with fewer than `shots` + 2 observations are left out. The picks of a larger `shots`
    begin with those of a smaller one.
    """
    rows, picks = [], []
    for row, count in enumerate(counts):
        if count < shots + 2:
            continue
        for draw in range(draws):
            order = np.random.default_rng([seed, 5, row, draw]).permutation(count)
            rows.append(row)
            picks.append(order[:shots])
    if not rows:
        return torch.zeros(0, dtype=torch.long), torch.zeros((0, shots), dtype=torch.long)
    return torch.tensor(rows), torch.from_numpy(np.stack(picks))


@dataclass(frozen=True)
class Episodes:
    """Tasks of K observations of alloys, and the alloys' other observations.

    Attributes
    ----------
    rows
        Alloy of each task, [T].
    support
        What a method sees.
    alloys
        The tasks' rows of the table of alloys.
    columns, mask
        All observations of each task's alloy, and which of them are to be predicted, [T, N].
    """

    rows: Tensor
    support: Tasks
    alloys: pd.DataFrame
    columns: Columns
    mask: Tensor

    @property
    def truth(self) -> Tensor:
        """Measured values, [T, N]."""
        return self.columns["target"]

    def errors(self, value: Tensor) -> Tensor:
        """Return each task's root mean square error on what was not seen, [T]."""
        return self._mean((value - self.truth).square()).sqrt()

    def coverage(self, low: Tensor, high: Tensor) -> Tensor:
        """Return which fraction of each task's unseen observations lies between two ends, [T]."""
        return self._mean((low <= self.truth) & (self.truth <= high))

    def _mean(self, values: Tensor) -> Tensor:
        return (self.mask * values).sum(1) / self.mask.sum(1)


def draw_episodes(
    tasks: Tasks, alloys: pd.DataFrame, shots: int, draws: int, seed: int
) -> Episodes | None:
    """Return the episodes of alloys; None where no alloy has enough observations."""
    rows, picks = draw_points(tasks.counts(), shots, draws, seed)
    if len(rows) == 0:
        return None
    whole = tasks[rows]
    mask = whole.mask.scatter(1, picks, 0.0)
    own = alloys.iloc[rows.tolist()]
    return Episodes(rows, tasks.pick(rows, picks), own, whole.columns, mask)


def learn_fold(training: TrainingAlloys, settings: KineticsSection, seed: int) -> Fold:
    """Return what the methods learn from training alloys.

    The methods without a posterior (meta-trained ones, the unadapted mean) get a band from the 90 %
    quantile of absolute errors on the training alloys, by shots; it is a little narrow, since the
    alloys were trained on.
    """
    equation, kind, tasks = training.equation, training.observations.kind, training.tasks
    prior = training.gaussian.prior
    fold = Fold(
        equation,
        kind,
        prior,
        {
            name: training.composition_prior(
                settings.pseudo_tasks, seed, use_composition=name == DEFAULT
            )
            for name in (HEAVY_TAILED, DEFAULT)
        },
        learn_starts(equation, kind, tasks, prior, settings, seed),
        average=float((tasks.mask * tasks.columns["target"]).sum() / tasks.mask.sum()),
    )
    alloys = training.observations.alloys
    for name in (MEAN, *fold.starts):
        for shots in settings.shots:
            episodes = draw_episodes(tasks, alloys, shots, 4, seed + 1)
            if episodes is not None:
                predict = METHODS[name](fold, episodes.support, episodes.alloys, seed)
                error = (predict(episodes.columns)[0] - episodes.truth).abs()[episodes.mask > 0]
                fold.widths[name, shots] = float(error.quantile(0.9))
    return fold


def score_alloys(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Return one row per method, shots and alloy: mean RMSE and coverage over the draws."""
    tables = []
    for split in splits(observations, equation, settings, seed):
        fold = learn_fold(split.training, settings, seed)
        count = len(split.training.tasks)
        report(f"fold {split.number} of {settings.folds}: learned from {count} alloys")
        cards = split.unseen.alloys
        for shots in settings.shots:
            episodes = draw_episodes(split.tasks, cards, shots, settings.draws, seed)
            if episodes is None:
                continue
            for name, fit in METHODS.items():
                predict = fit(fold, episodes.support, episodes.alloys, seed)
                value, low, high = predict(episodes.columns)
                coverage = episodes.coverage(low, high)
                coverage = torch.where(low.isnan().any(1), torch.nan, coverage)
                table = pd.DataFrame(
                    {
                        "row": episodes.rows.numpy(),
                        "rmse": episodes.errors(value).numpy(),
                        "coverage_90": coverage.numpy(),
                    }
                )
                table = table.groupby("row").mean()
                own = cards.iloc[table.index][["alloy", "composition_group"]]
                tables.append(
                    own.reset_index(drop=True).assign(
                        method=name,
                        shots=shots,
                        fold=split.number,
                        rmse=table["rmse"].to_numpy(),
                        coverage_90=table["coverage_90"].to_numpy(),
                    )
                )
    if not tables:
        raise MatmlError(
            f"no alloy has at least {min(settings.shots) + 2} observations, which "
            f"{min(settings.shots)} shots and a query need"
        )
    columns = ["method", "shots", "alloy", "composition_group", "fold", "rmse", "coverage_90"]
    return pd.concat(tables, ignore_index=True)[columns]
