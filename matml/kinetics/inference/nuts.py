"""The posterior by the No-U-Turn sampler: a check of the draws that calibration makes.

Slow and independent of importance resampling (Hoffman and Gelman, J. Mach. Learn. Res. 15 (2014)
1593), by Pyro, which differentiates the equations as they are. Installed with `matml[mcmc]`.
"""

import pandas as pd
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit
from matml.bayes.likelihood import draw_noise, evaluate
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.inference.calibration import Calibration


def nuts_draws(
    tasks: Tasks,
    priors: TaskPriors,
    fit: Fit,
    *,
    draws: int = 400,
    warmup: int = 300,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return posterior draws [B, S, P] and noises [B, S] of tasks.

    All tasks go in one chain, since evaluating many costs hardly more than one; their posteriors
    are independent. Coordinates are whitened by Laplace's approximation.

    Parameters
    ----------
    tasks, priors
        Observations and priors of B tasks.
    fit
        Where the chain begins, and Laplace's covariances.
    draws, warmup
        Of the chain.

    Raises
    ------
    MatmlError
        Where Pyro is not installed.
    """
    try:
        import pyro
        from pyro.infer import MCMC, NUTS
    except ImportError:
        raise MatmlError(
            "the check by MCMC needs Pyro: pip install 'matml[mcmc]', or leave the check out"
        ) from None
    pyro.set_rng_seed(seed)
    factor = torch.linalg.cholesky((fit.covariance + fit.covariance.mT) / 2)

    def at(white: Tensor) -> Tensor:
        return fit.position + (factor @ white[..., None]).squeeze(-1)

    def potential(values: dict[str, Tensor]) -> Tensor:
        return -evaluate(tasks, priors, at(values["white"])[:, None]).log_posterior.sum()

    chain = MCMC(
        NUTS(potential_fn=potential, max_tree_depth=6),
        num_samples=draws,
        warmup_steps=warmup,
        initial_params={"white": torch.zeros_like(fit.position)},
        disable_progbar=True,
    )
    chain.run()
    points = at(chain.get_samples()["white"]).transpose(0, 1)
    with torch.no_grad():
        misfits = evaluate(tasks, priors, points).misfits
    generator = torch.Generator().manual_seed(seed)
    return points, draw_noise(misfits, tasks, priors, generator)


def check_by_mcmc(calibration: Calibration) -> pd.DataFrame:
    """Return medians and 90 % intervals of a calibrated alloy's parameters, both ways.

    Columns parameter, unit; median, low_90, high_90 of the calibration and the same with `_mcmc`;
    `shift`, the difference of the medians over the width of the interval, on the scale of the fit.
    """
    population, own = calibration.population, calibration.observations
    task = to_tasks(own, population.equation, calibration.reference_temperature_K)
    draws, _ = nuts_draws(
        task, calibration.prior, calibration.fit, draws=1000, seed=calibration.seed
    )
    rows = []
    levels = draws.new_tensor([0.05, 0.5, 0.95])
    for i, parameter in enumerate(population.equation.parameters):
        mine = calibration.draws[:, i].quantile(levels)
        other = draws[0, :, i].quantile(levels)
        row: dict[str, object] = {"parameter": parameter.name, "unit": parameter.unit}
        for suffix, found in (("", mine), ("_mcmc", other)):
            low, middle, high = parameter.value(found).tolist()
            row |= {f"median{suffix}": middle, f"low_90{suffix}": low, f"high_90{suffix}": high}
        row["shift"] = float((mine[1] - other[1]) / (other[2] - other[0]))
        rows.append(row)
    return pd.DataFrame(rows)
