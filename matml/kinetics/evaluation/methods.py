"""Names of the methods that are compared on new alloys, as files have them, and for people."""

MEAN = "mean of the training alloys"
LEAST_SQUARES = "least squares, generic start"
LEAST_SQUARES_FROM_MEAN = "least squares, population mean"
GRADIENT_METHODS = ("maml", "meta_sgd", "cavia")
REFERENCE = "hierarchical map"
HEAVY_TAILED = "heavy-tailed posterior"
DEFAULT = "conditioned posterior"
"""What `calibrate` uses."""

TITLES = {
    MEAN: "mean of the training alloys, no adaptation",
    LEAST_SQUARES: LEAST_SQUARES,
    LEAST_SQUARES_FROM_MEAN: "least squares, population mean as start",
    "maml": "MAML",
    "meta_sgd": "Meta-SGD",
    "cavia": "CAVIA, two context parameters",
    REFERENCE: "Gaussian prior, most probable parameters",
    "hierarchical map, in window": "Gaussian prior, most probable, within range",
    "hierarchical posterior": "Gaussian prior, posterior mean",
    "heavy-tailed posterior, no window": "heavy-tailed prior, posterior mean",
    HEAVY_TAILED: "heavy-tailed prior, within range",
    DEFAULT: "heavy-tailed prior given composition",
}
"""“Within range”: predictions are cut to the range of what was ever measured."""


def method_title(method: str) -> str:
    """Return a method's name for people."""
    return TITLES.get(method, method)
