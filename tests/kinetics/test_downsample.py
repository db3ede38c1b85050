"""Long records: thinned without favouring the tails of the noise, no part lost (simulated)."""

import numpy as np
import pandas as pd
import pytest
import torch

from matml.kinetics.data.additivity import fraction_along
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.downsample import MOST_POINTS, downsample
from matml.kinetics.data.observations import read_observations
from matml.kinetics.inference.calibrate import calibrate

R, NOISE = 8.31446261815324, 0.02
TRUTH = {"half_time_s": 300.0, "activation_energy_kJ_mol": 180.0, "avrami_exponent": 1.8}


def heated(rows, duration=10_000.0, seed=0):
    """A specimen whose heating slows down: its path, and noisy fractions along it."""
    seconds = np.linspace(0, duration, rows + 1)
    kelvin = 500 + 850 * (seconds / duration) ** 0.6
    log_half = np.log(300) + 180e3 / R * (1 / kelvin - 1 / 1000)
    exact = fraction_along(*map(torch.from_numpy, (seconds, log_half)), 1.8).numpy()
    noisy = exact + np.random.default_rng(seed).normal(0, NOISE, len(exact))
    path = pd.DataFrame({"time_s": seconds, "temperature_K": kelvin})
    points = {"time_s": seconds[1:], "temperature_K": kelvin[1:]}
    table = pd.DataFrame({"alloy": "X", "run": "1", "path": "p.csv"} | points)
    lines = np.arange(2, rows + 2)
    return path, table.assign(fraction_transformed=noisy[1:], sigma=np.nan, line=lines), exact[1:]


def averaged(points, measured):
    return downsample(points, measured, on_history(points))


def test_cells_do_not_follow_the_noise():
    """What is averaged is off by what is left of its noise, and nowhere by a tail of it."""
    _, points, exact = heated(100_000)
    few = averaged(points, "fraction_transformed")
    assert 100 < len(few) <= MOST_POINTS
    off = few["fraction_transformed"] - np.interp(few["time_s"], points["time_s"], exact)
    assert float(np.sqrt((off**2).mean())) < 0.45 * NOISE
    assert float(off.abs().max()) < 3.5 * NOISE
    # single rows at the very start, where a step of log time is longer than one of the record
    assert (off.abs() > 1.5 * NOISE).mean() < 0.03
    assert few["fraction_transformed"].between(0.05, 0.95).sum() > 0.25 * len(few)


def test_a_record_over_hundreds_of_kelvin_keeps_its_end():
    """850 K are more steps of 2 K than there are cells."""
    _, points, _ = heated(5_000)
    few = averaged(points, "fraction_transformed")
    assert few["time_s"].max() > 0.95 * points["time_s"].max()
    assert few["temperature_K"].max() > points["temperature_K"].max() - 20
    assert len(few) <= MOST_POINTS


def test_a_mean_of_a_ramp_lies_on_it_and_ramps_are_told_apart():
    parts = []
    for rate in (0.2, 2.0):
        kelvin = np.linspace(710, 1100, 2000)
        seconds = (kelvin - 700) / rate
        parts.append(pd.DataFrame({"time_s": seconds, "temperature_K": kelvin}))
    points = pd.concat(parts, ignore_index=True).assign(
        alloy="X",
        start_temperature_K=700.0,
        fraction_transformed=lambda rows: (rows["temperature_K"] - 700) / 500,
        sigma=np.nan,
        line=range(4000),
    )
    few = averaged(points, "fraction_transformed")
    rates = (few["temperature_K"] - 700) / few["time_s"]
    assert (np.minimum(abs(rates - 0.2), abs(rates - 2.0)) < 1e-9).all()
    assert (rates < 1).sum() > 50
    assert (rates > 1).sum() > 50


def test_more_specimens_than_cells_are_all_kept():
    count = 2 * MOST_POINTS
    points = pd.DataFrame(
        {
            "alloy": "X",
            "run": [f"s{number}" for number in range(count)],
            "temperature_K": 900.0,
            "time_s": np.geomspace(1, 1e4, count),
            "fraction_transformed": np.linspace(0, 1, count),
            "sigma": np.nan,
            "line": range(count),
        }
    )
    twice = pd.concat([points, points.assign(time_s=points["time_s"] * 1.01)], ignore_index=True)
    few = averaged(twice, "fraction_transformed")
    assert few["run"].tolist() == points["run"].tolist()


def test_a_ttt_curve_of_many_points_keeps_its_nose():
    """Times are measured there; a temperature has one, and it falls and rises along the curve."""
    kelvin = np.linspace(800, 1100, 3000)
    log_time = 2 + ((kelvin - 950) / 80) ** 2
    points = pd.DataFrame(
        {
            "alloy": "X",
            "temperature_K": np.tile(kelvin, 2),
            "time_s": np.exp(np.r_[log_time, log_time + 2]),
            "fraction": np.repeat([0.01, 0.99], 3000),
            "sigma": np.nan,
            "line": range(6000),
        }
    )
    few = averaged(points, "time_s")
    assert 250 < len(few) <= MOST_POINTS
    expected = 2 + ((few["temperature_K"] - 950) / 80) ** 2 + 2 * (few["fraction"] == 0.99)
    assert float((np.log(few["time_s"]) - expected).abs().max()) < 0.01
    assert few["time_s"].min() == pytest.approx(np.exp(2), rel=0.01)


def test_a_hundred_thousand_points_on_a_path(fractions_population, tmp_path, within):
    parts = []
    for run, duration in enumerate((300.0, 10_000.0)):
        path, points, _ = heated(50_000, duration, run)
        path.to_csv(tmp_path / f"{run}.csv", index=False)
        parts.append(points.assign(run=f"r{run}", path=f"{run}.csv"))
    points = pd.concat(parts).assign(
        fraction_transformed=lambda rows: rows["fraction_transformed"].clip(0, 1)
    )
    kept = ["alloy", "run", "path", "time_s", "fraction_transformed"]
    points[kept].to_csv(tmp_path / "points.csv", index=False)
    (tmp_path / "alloys.csv").write_text("alloy,reference_temperature_K\nX,1000\n")
    with within(20):
        found = read_observations(tmp_path / "points.csv", tmp_path / "alloys.csv")
        result = calibrate(fractions_population, found, "X", 0)
    assert len(found.points) == 100_000
    table = result.parameters().set_index("parameter")
    for name, value in TRUTH.items():
        assert table.loc[name, "median"] == pytest.approx(value, rel=0.03)
