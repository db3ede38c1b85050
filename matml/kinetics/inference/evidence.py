"""Which equation? The evidence of an alloy's observations for each, under its typical ranges.

The marginal likelihood: how probable the observations were before a parameter was fitted. What more
parameters explain counts for an equation, and the room that they take counts against it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.downsample import downsample
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import EQUATIONS, Equation
from matml.kinetics.equations.form.types import Inputs, Values
from matml.kinetics.equations.variants import JMAK_INCOMPLETE
from matml.kinetics.inference.population import Population

EXPONENTS = (1.0, 2.0, 3.0, 4.0)
"""At which the exponent of JMAK is held: growth in one to three dimensions, and nucleation."""
PROPOSALS = 8000
LEVEL_BELOW = 0.95
"""Highest fraction from which on nothing is said of a plateau."""
CLEAR = 5.0
"""Log ratio of evidence from which on a plateau is named."""


def held(equation: Equation, name: str, value: float) -> Equation:
    """Return an equation with one parameter held at a value."""

    def fixed(values: Values) -> Values:
        return {**values, name: next(iter(values.values())).new_tensor(value)}

    observables = {}
    for kind, observable in equation.observables.items():
        predict, scale = observable.predict, observable.log_time_scale

        def of(values: Values, inputs: Inputs, predict=predict) -> torch.Tensor:
            return predict(fixed(values), inputs)

        def at(values: Values, inputs: Inputs, scale=scale) -> torch.Tensor:
            return scale(fixed(values), inputs)

        observables[kind] = replace(
            observable, predict=of, log_time_scale=scale and at, unsaturated=None
        )
    return replace(
        equation,
        name=f"{equation.name}, {name} = {value:g}",
        parameters=tuple(p for p in equation.parameters if p.name != name),
        observables=observables,
    )


def candidates(observations: Observations) -> list[Equation]:
    """Return the built-in equations that describe the observations with the inputs that they have.

    JMAK with its exponent held, too.
    """
    kind, found = observations.kind, []
    there = {*observations.points, "reference_temperature_K"}
    there |= set(composition_columns(observations.alloys))
    moving = on_history(observations.points).any()
    for equation in EQUATIONS.values():
        if kind not in equation.observables:
            continue
        observable = equation.observable(kind)
        if not {i.name for i in observable.inputs} <= there:
            continue
        if moving and observable.log_time_scale is None:
            continue
        found.append(equation)
        if equation.name == "jmak":
            found += [held(equation, "avrami_exponent", n) for n in EXPONENTS]
    return found


def weigh(own: Observations, equations: Sequence[Equation], seed: int) -> pd.DataFrame:
    """Return the equations by the evidence of one alloy's observations, the best first.

    Returns
    -------
    table
        Columns equation, parameters (their number), log_evidence (the best has 0), probability (if
        all were equally probable before), rmse (of the median prediction, on the residual scale),
        unit, and estimates (medians by parameter).
    """
    rows = []
    column = equations[0].observable(own.kind).column
    points = downsample(own.points, column, on_history(own.points))
    own = replace(own, points=points)
    for equation in equations:
        population = Population.generic(equation, own.kind)
        reference, _ = population.reference_temperature(own)
        task = to_tasks(own, equation, reference)
        priors = population.prior.of(own.alloys)
        posterior = sample_posterior(task, priors, proposals=PROPOSALS, seed=seed)
        with torch.no_grad():
            residual = task.residual(posterior.draws[0][:, None], task.columns).quantile(0.5, 0)
        values = equation.values(posterior.draws[0])
        rows.append(
            {
                "equation": equation.name,
                "parameters": len(equation.parameters),
                "log_evidence": float(posterior.log_evidence[0]),
                "rmse": float(residual.square().mean().sqrt()),
                "unit": equation.observable(own.kind).unit,
                "estimates": {p.name: float(values[p.name].median()) for p in equation.parameters},
            }
        )
    return _ranked(pd.DataFrame(rows))


def hold_exponent(own: Observations, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a table of `weigh` with the best equation's exponent held, too, if it has one."""
    best = table["equation"][0]
    equation = EQUATIONS[best.split(",")[0]]
    is_held = table["equation"].str.startswith(f"{equation.name}, ").any()
    if is_held or "avrami_exponent" not in equation.parameter_names:
        return table
    variants = [held(equation, "avrami_exponent", n) for n in EXPONENTS]
    more = weigh(own, [equation, *variants], seed)
    known = more["equation"] == best
    more["log_evidence"] -= more.loc[known, "log_evidence"].item()
    return _ranked(pd.concat([table, more[~known]]))


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return equations from the best on, whose log evidence is 0, with their probabilities."""
    table = table.sort_values("log_evidence", ascending=False, ignore_index=True)
    table["log_evidence"] -= table["log_evidence"].iloc[0]
    odds = np.exp(table["log_evidence"])
    table = table.drop(columns="probability", errors="ignore")
    table.insert(3, "probability", odds / odds.sum())
    return table


def plateau_notes(own: Observations, equation: Equation, seed: int) -> list[str]:
    """Return a note where fractions level off below 1 and the equation makes them go on to 1."""
    if own.kind != "fraction" or "final_fraction" in equation.parameter_names:
        return []
    if own.points["fraction_transformed"].max() > LEVEL_BELOW or len(own.points) < 4:
        return []
    table = weigh(own, [EQUATIONS["jmak"], JMAK_INCOMPLETE], seed).set_index("equation")
    gain = table.loc["jmak_incomplete", "log_evidence"] - table.loc["jmak", "log_evidence"]
    if gain < CLEAR:
        return []
    found = table.loc["jmak_incomplete", "estimates"]
    return [
        f"the fractions level off at {found['final_fraction']:.2f}: with such a plateau "
        f"(--equation jmak_incomplete, n = {found['avrami_exponent']:.2f}) the observations are "
        f"e^{gain:.0f} times as probable; an equation that goes on to 1 mistakes it for a small "
        "exponent"
    ]
