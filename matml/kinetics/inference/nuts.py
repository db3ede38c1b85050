"""The posterior by the No-U-Turn sampler: a check of the draws that calibration makes.

Slow and independent of importance resampling (Hoffman and Gelman, J. Mach. Learn. Res. 15 (2014)
1593), by Pyro, which differentiates the equations as they are. Installed with `matml[mcmc]`.
"""

import pandas as pd
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit, Residual
from matml.bayes.importance_sampling import draw_task_noise, fit_quality, log_posterior
from matml.bayes.task_prior import TaskPriors
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import Series, residual_function, to_series
from matml.kinetics.inference.calibration import Calibration


def nuts_draws(
    residual: Residual,
    priors: TaskPriors,
    support: Series,
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
    priors, support
        Priors and observations of B tasks.
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
    data = support.columns, support.mask, support.known_variance, priors

    def at(white: Tensor) -> Tensor:
        return fit.position + (factor @ white[..., None]).squeeze(-1)

    def potential(values: dict[str, Tensor]) -> Tensor:
        points = at(values["white"])[:, None]
        fitness = fit_quality(residual, points, *data)
        parts = priors.log_components(points)
        return -log_posterior(points, parts, fitness, support.columns, support.mask, priors).sum()

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
        fitness = fit_quality(residual, points, *data)
    generator = torch.Generator().manual_seed(seed)
    return points, draw_task_noise(fitness, support.mask, priors, generator)


def check_by_mcmc(calibration: Calibration) -> pd.DataFrame:
    """Return medians and 90 % intervals of a calibrated alloy's parameters, both ways.

    Columns parameter, unit; median, low_90, high_90 of the calibration and the same with `_mcmc`;
    `shift`, the difference of the medians over the width of the interval, on the scale of the fit.
    """
    population, own = calibration.population, calibration.observations
    series = to_series(own, population.equation, calibration.reference_temperature_K)
    residual = residual_function(population.equation, population.kind)
    draws, _ = nuts_draws(
        residual, calibration.prior, series, calibration.fit, draws=1000, seed=calibration.seed
    )
    rows = []
    levels = draws.new_tensor([0.05, 0.5, 0.95])
    for i, parameter in enumerate(population.equation.parameters):
        mine = calibration.draws[:, i].quantile(levels)
        other = draws[0, :, i].quantile(levels)
        row = {"parameter": parameter.name, "unit": parameter.unit}
        for suffix, found in (("", mine), ("_mcmc", other)):
            low, middle, high = parameter.value(found).tolist()
            row |= {f"median{suffix}": middle, f"low_90{suffix}": low, f"high_90{suffix}": high}
        row["shift"] = float((mine[1] - other[1]) / (other[2] - other[0]))
        rows.append(row)
    return pd.DataFrame(rows)
