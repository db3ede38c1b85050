"""Quadrature along temperature histories.

A reaction that depends on temperature through a time scale tau(T) alone is additive: what counts of
a history is the integral of dt / tau(T(t)), that is, how long the specimen was at which temperature
and not in which order. The time spent at each temperature is a measure over temperature, and its
Gauss quadrature (Golub and Welsch, Math. Comput. 23 (1969) 221) of `NODES` nodes integrates every
polynomial of degree 2 NODES - 1 exactly, hence 1 / tau(T) of any smooth equation nearly to rounding
(`base.PATH`). For a constant rate the nodes are Gauss-Legendre's; for a hold there is one.
"""

import numpy as np
import pandas as pd

from matml.kinetics.data.thermal_history import History
from matml.kinetics.equations.form.history import NEAR, NEAR_STEP, NEAR_STEPS, NODES, PATH

SMALL_STEP_K = 5.0
"""Temperature steps up to which `FEW` Gauss-Legendre points are exact for any rate met here."""

FEW = 6
LEGENDRE = {count: np.polynomial.legendre.leggauss(count) for count in (FEW, NODES)}
NEGLIGIBLE = 1e-300
"""Share of nodes that are not used."""


def quadrature(history: History, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in K and times spent at them in s until each time, each [N, NODES].

    Goes along the history once: the nodes of one time and the steps after it make those of the
    next.
    """
    nodes = np.empty((len(time_s), NODES))
    spent = np.full((len(time_s), NODES), NEGLIGIBLE)
    reached, weights = np.empty(0), np.empty(0)
    before = float(history.time_s[0])
    for i in np.argsort(time_s, kind="stable"):
        now = float(time_s[i])
        if now > before:
            between = history.time_s[(history.time_s > before) & (history.time_s < now)]
            ends = np.r_[before, between, now]
            points, masses = _steps(history.at(ends), np.diff(ends))
            reached, weights = _gauss(np.r_[reached, points], np.r_[weights, masses])
            before = now
        nodes[i] = reached[0] if len(reached) else history.temperature_K[0]
        nodes[i, : len(reached)], spent[i, : len(weights)] = reached, weights
    return nodes, np.maximum(spent, NEGLIGIBLE)


def path_columns(points: pd.DataFrame, histories: dict[str, History]) -> pd.DataFrame:
    """Return the columns `base.PATH` of observations; ramps and holds count as paths, too.

    And the temperatures around, `base.NEAR`, where the points say in which steps.
    """
    nodes = np.repeat(points["temperature_K"].to_numpy(float)[:, None], NODES, 1)
    shares = np.full_like(nodes, NEGLIGIBLE)
    shares[:, 0] = 1.0
    if "start_temperature_K" in points:
        ramp, weights = LEGENDRE[NODES]
        start = points["start_temperature_K"].to_numpy(float)[:, None]
        nodes = start + (nodes - start) * (1 + ramp) / 2
        shares = np.repeat(weights[None] / 2, len(points), 0)
    for name, rows in points.reset_index(drop=True).groupby("path").groups.items():
        if name:
            time = points["time_s"].to_numpy(float)[rows]
            nodes[rows], spent = quadrature(histories[str(name)], time)
            shares[rows] = np.maximum(spent / time[:, None], NEGLIGIBLE)
    columns: dict[str, np.ndarray] = {}
    for i, (temperature, share) in enumerate(PATH):
        columns |= {temperature: nodes[:, i], share: shares[:, i]}
    if NEAR_STEP in points:
        columns |= dict(zip(NEAR, _around(points, histories).T, strict=True))
    return pd.DataFrame(columns, index=points.index)


def _around(points: pd.DataFrame, histories: dict[str, History]) -> np.ndarray:
    """Return the temperatures of ramps, paths and holds around their observations' times."""
    time = points["time_s"].to_numpy(float)[:, None]
    steps = np.arange(-(NEAR_STEPS // 2), NEAR_STEPS // 2 + 1)
    around = (time + steps * points[NEAR_STEP].to_numpy(float)[:, None]).clip(min=0)
    final = points["temperature_K"].to_numpy(float)[:, None]
    start = final
    if "start_temperature_K" in points:
        start = points["start_temperature_K"].to_numpy(float)[:, None]
    found = start + (final - start) * around / time
    for name, rows in points.reset_index(drop=True).groupby("path").groups.items():
        if name:
            found[rows] = histories[str(name)].at(around[rows])
    return found


def _steps(temperature_K: np.ndarray, duration_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points and masses of steps of constant rate, each by Gauss-Legendre."""
    first, change = temperature_K[:-1], np.diff(temperature_K)
    found, small = [], np.abs(change) <= SMALL_STEP_K
    for steps, (at, weight) in ((small, LEGENDRE[FEW]), (~small, LEGENDRE[NODES])):
        found.append(
            (
                (first[steps, None] + change[steps, None] * (1 + at) / 2).ravel(),
                (duration_s[steps, None] * weight / 2).ravel(),
            )
        )
    return np.concatenate([p for p, _ in found]), np.concatenate([m for _, m in found])


def _gauss(points: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gauss quadrature of a discrete measure, by Lanczos' tridiagonal matrix."""
    centre, half = (points.max() + points.min()) / 2, np.ptp(points) / 2
    total = masses.sum()
    if half <= 1e-9 * centre:
        return np.array([centre]), np.array([total])
    scaled = (points - centre) / half
    basis = np.zeros((NODES, len(points)))
    basis[0] = np.sqrt(masses / total)
    diagonal, beside = [], []
    for k in range(NODES):
        following = scaled * basis[k]
        diagonal.append(float(basis[k] @ following))
        # orthogonalised against all, twice: Lanczos' own recurrence loses it to rounding
        for _ in range(2):
            following -= basis[: k + 1].T @ (basis[: k + 1] @ following)
        length = float(np.linalg.norm(following))
        if k + 1 == NODES or length < 1e-13:
            break
        beside.append(length)
        basis[k + 1] = following / length
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    nodes, vectors = np.linalg.eigh(matrix)
    return centre + half * nodes, total * vectors[0] ** 2
