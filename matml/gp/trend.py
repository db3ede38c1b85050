"""Errors that grow or fall with the predicted value.

Far predictions err more than usual ones: refractive indices that are predicted to be high, moduli
that are predicted to be low. A deviation therefore carries a factor exp(slope * prediction) (a
variance function, Carroll and Ruppert 1988, chapter 3), which is held where few crystals were.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

ENDS = 0.02
"""Share of the predictions at either end beyond which the factor no longer changes."""
STRENGTH = 2.0
"""Of the prior on the slope about 0, in families with errors of one deviation."""
STEEPEST = 2.0


@dataclass(frozen=True)
class Trend:
    """The factor of a deviation by the prediction; 1 by default.

    Attributes
    ----------
    slope
        Of its logarithm.
    low, high
        Predictions between which it changes.
    """

    slope: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def factor(self, prediction: np.ndarray) -> np.ndarray:
        """Return the factor for some predictions, [n]."""
        return np.exp(self.slope * np.clip(prediction, self.low, self.high))

    @classmethod
    def learn(
        cls,
        prediction: np.ndarray,
        error: np.ndarray,
        deviation: np.ndarray,
        weights: np.ndarray,
        families: int,
    ) -> "Trend":
        """Return the most probable trend, by the likelihood of Laplace distributions.

        Parameters
        ----------
        prediction, error, deviation, weights
            Of crystals of families that had no part in the predictions, [n].
        families
            Number of independent ones among them.
        """
        low, high = np.quantile(prediction, [ENDS, 1 - ENDS])
        share = weights / weights.sum()
        scaled = np.sqrt(2) * np.abs(error) / deviation

        def cost(slope: float) -> float:
            rise = slope * np.clip(prediction, low, high)
            # the best common factor in closed form
            common = np.log(share @ (scaled * np.exp(-rise)))
            return float(common + share @ rise + STRENGTH / families * slope**2)

        found = minimize_scalar(cost, bounds=(-STEEPEST, STEEPEST), method="bounded")
        return cls(float(found.x), float(low), float(high))


FLAT = Trend()
"""No trend."""
