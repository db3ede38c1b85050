"""Several populations for one alloy: the observations say which counts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.observations import observations_of
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.population import Population
from matml.kinetics.inference.several import log_evidence, mixed


def glass(exponent, energy, count=8):
    """Return fractions of a reaction with a half time of 300 s at 750 K."""
    generator = np.random.default_rng(2)
    kelvin = np.resize([730.0, 750.0, 770.0], count)
    half = 300 * np.exp(energy / 8.314e-3 * (1 / kelvin - 1 / 750))
    time = half * np.exp(generator.uniform(-1, 1, count) / exponent)
    fraction = 1 - np.exp(-np.log(2) * (time / half) ** exponent)
    return pd.DataFrame(
        {
            "alloy": "G",
            "temperature_K": kelvin,
            "time_s": time,
            "fraction_transformed": fraction + generator.normal(0, 0.02, count),
        }
    )


def under(names, frame):
    observations = observations_of(frame, pd.DataFrame([{"alloy": "G"}]))
    return {name: calibrate(Population.load(name), observations, "G", 0) for name in names}


NAMES = ("recrystallisation", "metallic_glasses")


def test_the_population_that_the_observations_speak_for_is_used():
    result = mixed(under(NAMES, glass(3.0, 420.0)))
    assert "metallic_glasses is used" in result.notes[0]
    result = mixed(under(NAMES, glass(1.1, 120.0)))
    assert "recrystallisation is used" in result.notes[0]


def test_equal_populations_share_the_draws():
    [result] = under(NAMES[:1], glass(1.4, 200.0, 2)).values()
    both = mixed({"a": result, "b": replace(result, posterior=result.posterior)})
    assert "mixed by the evidence" in both.notes[0]
    assert "a 0.50, b 0.50" in both.notes[0]
    assert both.draws.shape == result.draws.shape
    np.testing.assert_allclose(both.draws.mean(0), result.draws.mean(0), atol=0.15)


def test_evidence_has_all_its_constants(monkeypatch):
    """As a density of the value of one observation it integrates to one."""
    monkeypatch.setattr("matml.kinetics.inference.several.PROPOSALS", 1000)
    [result] = under(NAMES[:1], glass(1.4, 200.0, 1)).values()
    logs = []
    for value in np.linspace(-0.15, 1.15, 27):
        points = result.observations.points.assign(fraction_transformed=value)
        changed = replace(result.observations, points=points)
        logs.append(log_evidence(replace(result, observations=changed)))
    assert np.exp(logs).sum() * 0.05 == pytest.approx(1, abs=0.1)


def test_the_command_takes_several(tmp_path):
    data = tmp_path / "glass.csv"
    glass(3.0, 420.0).to_csv(data, index=False)
    command = ["kinetics", "calibrate", "--data", str(data), "--out", str(tmp_path / "out")]
    priors = [part for name in NAMES for part in ("--prior", name)]
    CliRunner().invoke(cli, command + priors, catch_exceptions=False)
    text = (tmp_path / "out/G/calibration.json").read_text()
    assert "metallic_glasses is used" in text
    with pytest.raises(MatmlError, match="--robust goes with one --prior"):
        CliRunner().invoke(cli, [*command, *priors, "--robust"], catch_exceptions=False)
