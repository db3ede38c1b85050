"""The whole diagram of a low-alloy steel from its composition, with bands.

Published formulas say where each curve lies (Li et al. 1998 or the growth term of Kirkaldy and
Venugopalan; Andrews 1965; van Bohemen 2012), and the typical ranges of what steels differ from them
by how far to trust that: those are the priors of `equations.austenite`, taken and not learned.
Points of a reaction's own curve pull it in.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.task_prior import TaskPriors
from matml.core.errors import MatmlError
from matml.kinetics.data.additivity import consumed
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.steel import FRACTIONS, RATES, SteelDiagram
from matml.kinetics.equations import EQUATIONS, Equation
from matml.kinetics.equations.austenite import ELEMENTS, LEAST_UNDERCOOLING_K, START
from matml.kinetics.equations.martensite import VAN_BOHEMEN
from matml.kinetics.equations.steels import (
    eutectoid_temperature_K,
    ferrite_start_K,
    martensite_start_K,
)
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.diagnostics import start_notes
from matml.kinetics.inference.population import Population

log = logging.getLogger(__name__)

LINES = {"ferrite": "Ae3", "pearlite": "Ae1", "bainite": "Bs"}
"""Where each reaction becomes possible."""
EUTECTOID_C = 0.8
"""wt % of carbon above which cementite comes first, whose line Andrews's Ac3 is not."""
COMPLETE = ("pearlite", "bainite")
"""Reactions that leave no austenite at their last fraction; ferrite's is of its equilibrium."""
DRAWS, TEMPERATURES = 1000, 81
INTERVAL = (0.05, 0.5, 0.95)


def steel_diagram(
    composition: Mapping[str, float],
    grain_size_ASTM: float,
    points: Mapping[str, Observations],
    integral: str = "li",
    seed: int = 0,
) -> SteelDiagram:
    """Return the diagram of a steel.

    Parameters
    ----------
    composition
        Element symbol to wt %; what is missing is zero.
    points
        Observations of one alloy by reaction, where there are any: TTT points, or where bainite
        starts; of "martensite" where it starts, or its fractions.
    integral
        "li" or "kirkaldy".

    Raises
    ------
    MatmlError
        Where the steel is hypereutectoid, or no reaction is possible above Ms.
    """
    ferrite, eutectoid = (
        float(of(composition)) for of in (ferrite_start_K, eutectoid_temperature_K)
    )
    carbon = composition.get("C", 0.0)
    if ferrite < eutectoid or carbon > EUTECTOID_C:
        raise MatmlError(
            f"by the formulas Ae3 is {ferrite - ZERO_CELSIUS:.0f} C and Ae1 "
            f"{eutectoid - ZERO_CELSIUS:.0f} C at {carbon:g} % C: they are of hypoeutectoid steels "
            f"(Andrews's Ac3 is where ferrite begins: Ae3 above Ae1, C up to {EUTECTOID_C:g} %), "
            "and have no cementite, which comes first above; check --composition"
        )
    generator = torch.Generator().manual_seed(seed)
    amounts = {f"{element}_wt_pct": float(composition.get(element, 0.0)) for element in ELEMENTS}
    given = amounts | {"grain_size_ASTM": grain_size_ASTM}
    equations = {reaction: EQUATIONS[f"{integral}_{reaction}"] for reaction in START}
    draws = {
        reaction: _draws(equation, points.get(reaction), given, seed, generator)
        for reaction, equation in equations.items()
    }
    plain = {
        name.removesuffix("_wt_pct"): torch.tensor(amount, dtype=torch.float64)
        for name, amount in amounts.items()
    }
    starts = {
        LINES[reaction]: START[reaction](plain) + equations[reaction].values(own)["start_shift_K"]
        for reaction, own in draws.items()
    }
    martensite = _draws(VAN_BOHEMEN, points.get("martensite"), given, seed, generator, "martensite")
    shift = VAN_BOHEMEN.values(martensite)["start_shift_K"]
    starts["Ms"] = martensite_start_K(plain) + shift
    lines = pd.DataFrame(
        [[name, *_ends(start - ZERO_CELSIUS)] for name, start in starts.items()],
        columns=["line", "low_90_C", "temperature_C", "high_90_C"],
    )
    middle = {name: float(start.median()) for name, start in starts.items()}
    ranges = {
        # ferrite and pearlite give way to bainite below Bs
        "ferrite": (middle["Ae3"], max(middle["Bs"], middle["Ms"])),
        "pearlite": (middle["Ae1"], max(middle["Bs"], middle["Ms"])),
        "bainite": (middle["Bs"], middle["Ms"]),
    }
    ttt, began, ended = [], {}, []
    for reaction, (high, low) in ranges.items():
        if high - low < 2 * LEAST_UNDERCOOLING_K:
            continue
        kelvin = torch.linspace(high - LEAST_UNDERCOOLING_K, low, TEMPERATURES, dtype=torch.float64)
        for fraction in FRACTIONS:
            log10_time = _log10_time(equations[reaction], draws[reaction], kelvin, fraction, given)
            time = 10 ** log10_time.clamp(-30, 30)
            low_time, time_s, high_time = time.quantile(time.new_tensor(INTERVAL), 0).numpy()
            ttt.append(
                pd.DataFrame(
                    {
                        "reaction": reaction,
                        "fraction": fraction,
                        "temperature_C": kelvin.numpy() - ZERO_CELSIUS,
                        "time_s": time_s,
                        "low_90_s": low_time,
                        "high_90_s": high_time,
                    }
                )
            )
            at = _cooled(kelvin, log10_time)
            if fraction == FRACTIONS[0]:
                began[reaction] = at, float(kelvin[-1])
            elif reaction in COMPLETE:
                ended.append(at)
    if not ttt:
        raise MatmlError(
            f"by the formulas Ae3 {middle['Ae3'] - ZERO_CELSIUS:.0f} C lies not above Ms "
            f"{middle['Ms'] - ZERO_CELSIUS:.0f} C: they are "
            "of low-alloy steels; check --composition"
        )
    cct = [
        _starts(reaction, *own, np.fmax.reduce([np.full_like(own[0], -np.inf), *ended]), middle)
        for reaction, own in began.items()
    ]
    curves, cooled = (pd.concat(parts, ignore_index=True) for parts in (ttt, cct))
    drawn = {name: own.points for name, own in points.items() if own.kind == "ttt"}
    return SteelDiagram(lines, curves, cooled, drawn, tuple(points))


def _draws(
    equation: Equation,
    own: Observations | None,
    given: Mapping[str, float],
    seed: int,
    generator: torch.Generator,
    kind: str = "ttt",
) -> Tensor:
    """Return draws of an equation's parameters [S, P], by the points of its reaction if any."""
    if own is None:
        return _typical(equation, kind, generator)
    steel = replace(own, alloys=own.alloys.assign(**given))
    found = calibrate(Population.generic(equation, own.kind), steel, own.names[0], seed)
    for note in start_notes(found.residual_table()):
        log.warning("%s", note)
    return found.draws


def _typical(equation: Equation, kind: str, generator: torch.Generator) -> Tensor:
    """Return draws from the typical ranges of an equation."""
    prior = Population.generic(equation, kind).prior.of(pd.DataFrame({"alloy": ["any"]}))
    return _prior_draws(prior, generator)


def _prior_draws(prior: TaskPriors, generator: torch.Generator) -> Tensor:
    """Return draws from the prior of one alloy [S, P]."""
    picks = torch.multinomial(prior.probabilities, DRAWS, replacement=True, generator=generator)
    size = prior.mean.shape[1]
    normal = torch.randn((DRAWS, size), generator=generator, dtype=torch.float64)
    found = torch.empty_like(normal)
    for c in picks.unique().tolist():
        mean, covariance = prior.component(c)
        factor = torch.linalg.cholesky(covariance[0])
        found[picks == c] = mean[0] + normal[picks == c] @ factor.mT
    return found


def _ends(values: Tensor) -> list[float]:
    return values.quantile(values.new_tensor(INTERVAL)).tolist()


def _log10_time(
    equation: Equation, draws: Tensor, kelvin: Tensor, fraction: float, given: Mapping[str, float]
) -> Tensor:
    """Return log10 of the times to a fraction, [S, T]."""
    inputs = {name: torch.full_like(kelvin, value)[None] for name, value in given.items()}
    inputs |= {"temperature_K": kelvin[None], "fraction": torch.full_like(kelvin, fraction)[None]}
    with torch.no_grad():
        return equation.predict("ttt", draws[:, None], inputs)


def _cooled(kelvin: Tensor, log10_time: Tensor) -> np.ndarray:
    """Return where cooling at each rate reaches a fraction, in K, [S, R]; NaN where it does not."""
    # at 1 K/s; a rate only divides it
    total = consumed(kelvin[0] - kelvin, log10_time * np.log(10.0)).numpy()
    return np.array([np.interp(RATES, own, kelvin.numpy(), right=np.nan) for own in total])


def _starts(
    reaction: str, at: np.ndarray, lowest_K: float, gone_K: np.ndarray, middle: Mapping[str, float]
) -> pd.DataFrame:
    """Return where cooling at each rate begins a reaction, of which most draws do.

    Parameters
    ----------
    at
        Where it would begin if all austenite were there, [S, R]; NaN where not above `lowest_K`.
    gone_K
        Where no austenite is left, [S, R].
    """
    known = np.where(np.isfinite(at), at, lowest_K)
    left = gone_K <= known
    reached = (np.isfinite(at) & left).mean(0)
    rows = []
    for rate, share, temperature in zip(
        RATES, reached, np.where(left, known, np.nan).T, strict=True
    ):
        if share < 0.5:
            continue
        low, median, high = np.nanquantile(temperature, INTERVAL) - ZERO_CELSIUS
        time = (middle["Ae3"] - ZERO_CELSIUS - median) / rate
        rows.append([reaction, rate, time, median, low, high, share])
    columns = ["reaction", "cooling_rate_K_s", "time_s", "temperature_C", "low_90_C", "high_90_C"]
    return pd.DataFrame(rows, columns=[*columns, "reached"])
