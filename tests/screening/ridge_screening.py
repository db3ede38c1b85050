"""A small real predictor, ridge on a few features, and the commands run with it."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from click.testing import CliRunner
from sklearn.linear_model import Ridge

from matml.cli.main import cli
from matml.properties.data.targets import find_property
from matml.structures.settings import GraphsSection

DATA = Path(__file__).parents[2] / "data" / "crystals"
PROPERTY = "refractive_index"


class RidgePredictor:
    """Ridge regression on mean atomic number and volume per atom, taught by the support alone."""

    properties = {PROPERTY: "", "band_gap_eV": "eV"}  # noqa: RUF012
    held_out_families = ()
    recipe = SimpleNamespace(graphs=GraphsSection().model_dump())
    method = "ridge"
    warnings = ()

    def features(self, crystals):
        mean = [np.mean(numbers) for numbers in crystals.table["atomic_numbers"]]
        return np.column_stack([mean, crystals.table["volume_per_atom_A3"]])

    def encode(self, crystals):
        return crystals

    def adapt(self, crystals, values, property_name, *, check_units, unit=None):
        assert len(crystals.graphs) == len(crystals) == len(values)
        assert property_name in self.properties
        known = self.features(crystals)
        adapted = copy.copy(self)
        adapted.item = find_property(property_name)
        adapted.model = Ridge().fit(known, values)
        adapted.centre, adapted.spread = known.mean(axis=0), known.std(axis=0)
        adapted.error = np.std(values - adapted.model.predict(known)) + 0.1
        return adapted

    def predict_table(self, crystals):
        assert len(crystals.graphs) == len(crystals)
        rows = self.features(crystals)
        value = self.model.predict(rows)
        distance = np.abs((rows - self.centre) / self.spread).max(axis=1) / 4
        return pd.DataFrame(
            {
                "prediction": value,
                "low": value - 1.645 * self.error,
                "high": value + 1.645 * self.error,
                "distance": distance,
                "in_domain": distance <= 1,
            }
        )


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def screen(prepared, out, *more, candidates=None, support=None):
    model = prepared / "model"
    model.mkdir(exist_ok=True)
    return run(
        "screen", "--model", model, "--property", PROPERTY, "--known", prepared / "structures",
        "--support", support or prepared / "support.csv", "--out", out, "--threads", 1,
        "--candidates", candidates or prepared / "candidates", *more,
    )  # fmt: skip
