"""Concentrations of a drug after any doses, in one or two compartments, in closed form.

Linear kinetics: a dose's concentration is a sum of exponentials, and doses add up (superposition;
Gibaldi and Perrier, Pharmacokinetics, 2nd ed., 1982, chapters 1, 2 and appendix B). Parameters are
natural logarithms, so that individuals vary in proportion; CL and Q are volumes an hour.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from matml.bayes.tasks import Columns


@dataclass(frozen=True)
class Equation:
    """A compartment model.

    Attributes
    ----------
    name
        On the command line.
    parameters
        In the order of z = log(parameters), with the exponent of body weight that physiology
        suggests (clearances .75, volumes 1, rates -.25: Anderson and Holford, Annu. Rev.
        Pharmacol. Toxicol. 48 (2008) 303).
    oral
        Whether doses are absorbed at a rate; else they are boluses, or infusions where a duration
        is given.
    """

    name: str
    parameters: dict[str, float]
    oral: bool

    def predict(self, z: Tensor, columns: Columns) -> Tensor:
        """Return concentrations [...] for z [..., P].

        Columns, each [..., D] with D doses an observation (padded by amounts of zero): "elapsed"
        since the dose, negative before it, h; "amount"; "duration" of its infusion, 0: none, h;
        "interval" at which the dose was given ever before (steady state), 0: never, h.
        """
        given = (columns["elapsed"] > 0) & (columns["amount"] > 0)
        given = given.expand(torch.broadcast_shapes(given.shape, (*z.shape[:-1], 1)))
        # most of a padded table is no dose, or not given yet
        places = given.nonzero(as_tuple=True)
        t, amount, duration, interval = (
            columns[name].expand(given.shape)[places]
            for name in ("elapsed", "amount", "duration", "interval")
        )
        values = z.expand(*given.shape[:-1], -1)[places[:-1]].exp()
        p = dict(zip(self.parameters, values.unbind(-1), strict=True))
        total = torch.zeros_like(t)
        for weight, rate in _exponentials(p):
            if self.oral:
                shape = p["ka"] * _absorbed(rate, p["ka"], t, interval)
            else:
                shape = _infused(rate, t, duration, interval)
            total = total + weight * shape
        return z.new_zeros(given.shape).index_put(places, amount * total).sum(-1)


def _exponentials(p: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return weights and rates of the concentration after a unit bolus."""
    if "V" in p:
        return [(1 / p["V"], p["CL"] / p["V"])]
    out, there, back = p["CL"] / p["V1"], p["Q"] / p["V1"], p["Q"] / p["V2"]
    total = out + there + back
    # (total^2 - 4 out back) without the difference of large numbers
    root = ((out + there - back).square() + 4 * there * back).sqrt()
    fast = (total + root) / 2
    slow = out * back / fast
    share = (fast - back) / root
    return [(share / p["V1"], fast), ((1 - share) / p["V1"], slow)]


def _infused(rate: Tensor, t: Tensor, duration: Tensor, interval: Tensor) -> Tensor:
    """Return e^(-rate t) of a unit bolus; of an infusion, its mean over the doses' parts."""
    infused = duration > 0
    length = torch.where(infused, duration, 1.0)
    during = torch.minimum(t, length)
    after = t - during
    shape = -torch.expm1(-rate * during) / (rate * length) * torch.exp(-rate * after)
    steady = interval > 0
    period = torch.where(steady, interval, 1.0)
    earlier = (
        -torch.expm1(-rate * length) / (rate * length) * torch.exp(-rate * (t + period - length))
    )
    gone = -torch.expm1(-rate * period)
    shape = torch.where(steady, shape + earlier / gone, shape)
    bolus = torch.exp(-rate * t) / torch.where(steady, gone, torch.ones_like(gone))
    return torch.where(infused, shape, bolus)


def _absorbed(rate: Tensor, absorption: Tensor, t: Tensor, interval: Tensor) -> Tensor:
    """Return (e^(-rate t) - e^(-absorption t)) / (absorption - rate), summed over earlier doses."""
    steady = interval > 0
    period = torch.where(steady, interval, 1.0)
    once = t * _difference(rate * t, absorption * t)
    crossed = _difference(rate * t + absorption * period, absorption * t + rate * period)
    gone = torch.expm1(-rate * period) * torch.expm1(-absorption * period)
    return torch.where(steady, (once - (t - period) * crossed) / gone, once)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """Return (e^-a - e^-b) / (b - a), also where the two are equal."""
    gap = (b - a).abs()
    small = gap < 1e-4
    safe = torch.where(small, 1.0, gap)
    ratio = torch.where(small, 1 - gap / 2 + gap.square() / 6, -torch.expm1(-safe) / safe)
    return torch.exp(-torch.minimum(a, b)) * ratio


EQUATIONS = {
    one.name: one
    for one in (
        Equation("one-compartment", {"CL": 0.75, "V": 1.0}, oral=False),
        Equation("one-compartment-oral", {"CL": 0.75, "V": 1.0, "ka": -0.25}, oral=True),
        Equation("two-compartments", {"CL": 0.75, "V1": 1.0, "Q": 0.75, "V2": 1.0}, oral=False),
        Equation(
            "two-compartments-oral",
            {"CL": 0.75, "V1": 1.0, "Q": 0.75, "V2": 1.0, "ka": -0.25},
            oral=True,
        ),
    )
}
