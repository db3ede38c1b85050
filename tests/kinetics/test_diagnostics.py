"""Bad input of a calibration: what is said of it, and that it does no harm."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.files import read_json
from matml.figures import static
from matml.kinetics.data.downsample import MOST_POINTS, downsample
from matml.kinetics.data.observations import observations_of, read_observations
from matml.kinetics.diagrams.figures import (
    cct_figure,
)
from matml.kinetics.diagrams.quantities import (
    Subject,
)
from matml.kinetics.equations import equation_named
from matml.kinetics.inference import calibrate as module
from matml.kinetics.inference.calibrate import calibrate, calibrate_without_outliers
from matml.kinetics.inference.diagnostics import (
    contradiction_notes,
    correlation_notes,
    range_notes,
)
from matml.kinetics.inference.population import Population


def test_a_range_that_celsius_would_mend_is_said_to_be_one():
    points = pd.DataFrame({"peak_temperature_K": [274.8, 285.9, 297.4]})
    known = {"peak_temperature_K": [479.1, 736.4]}
    [note] = range_notes(points, known, {})
    assert "(in C it would lie inside, peak temperature 54" in note
    [note] = range_notes(points, known, {"peak_temperature_K": "peak_temperature_C"})
    assert "it would lie inside" not in note


@pytest.fixture(scope="module")
def population(fractions_population):
    return fractions_population


def fraction_at(temperature_K, time_s, half_time=300.0, energy=200.0, exponent=1.5):
    inverse = energy * 1000 / 8.314462618 * (1 / temperature_K - 1 / 1173.15)
    return 1 - np.exp(-np.log(2) * (time_s / (half_time * np.exp(inverse))) ** exponent)


def calibrated(population, tmp_path, rows, extra="", seed=0):
    """Calibration of rows (temperature_K, time_s, fraction)."""
    path = tmp_path / "new.csv"
    lines = [f"X,{t},{s},{f}" for t, s, f in rows]
    path.write_text("alloy,temperature_K,time_s,fraction_transformed\n" + "\n".join(lines) + extra)
    alloys = tmp_path / "alloys.csv"
    alloys.write_text("alloy,reference_temperature_K\nX,1173.15\n")
    return calibrate(population, read_observations(path, alloys), "X", seed)


def row_of(calibration, name):
    return calibration.parameters().set_index("parameter").loc[name]


def test_one_temperature_leaves_the_activation_energy_to_the_prior(population, tmp_path):
    times = [60.0, 150.0, 300.0, 500.0, 900.0]
    one = [(1173.15, t, fraction_at(1173.15, t)) for t in times]
    result = calibrated(population, tmp_path, one)
    assert any("one temperature" in note for note in result.notes)
    energy = row_of(result, "activation_energy_kJ_mol")
    assert energy["determined_by"] == "prior"
    assert energy["data_over_prior"] > 100
    assert energy["width_over_prior"] > 0.5  # narrower only as far as the exponent tells of it
    assert row_of(result, "half_time_s")["determined_by"] == "data"
    both = one + [(1123.15, 4 * t, fraction_at(1123.15, 4 * t)) for t in times]
    assert row_of(calibrated(population, tmp_path, both), energy.name)["determined_by"] == "data"


def test_zeros_ones_and_wrong_times_do_no_harm(population, tmp_path):
    rows = [(1173.15, 1.0, 0.0), (1173.15, 1e5, 1.0)]
    extra = "\nX,1173.15,0,0.3\nX,1173.15,nan,0.4\nX,1173.15,30,\nX,nan,30,0.4\n"
    result = calibrated(population, tmp_path, rows, extra)
    assert any("only bounds on the time" in note for note in result.notes)
    reasons = result.observations.quarantine["reason"].tolist()
    assert reasons == ["time must be positive", "is not finite", "is empty", "is not finite"]
    table = result.parameters()
    assert np.isfinite(table[["median", "low_90", "high_90"]].to_numpy()).all()
    # two bounds on the half time: it lies between, with room
    assert row_of(result, "half_time_s")["low_90"] > 1
    assert row_of(result, "half_time_s")["high_90"] < 1e5


def test_contradictory_points_are_improbable_not_impossible(population, tmp_path):
    rows = [(1173.15, t, fraction_at(1173.15, t)) for t in np.geomspace(60, 1500, 12)]
    rows.append((1173.15, 1e5, 0.0))
    notes = [n for n in calibrated(population, tmp_path, rows).notes if "given the others" in n]
    assert any("less than 1e-06 probable" in note for note in notes)
    assert not any(", 0 probable" in note for note in notes)


def test_an_outlier_is_named_by_its_line_and_only_it(population, tmp_path):
    times = np.geomspace(60, 1500, 7)
    rows = [(t, s, fraction_at(t, s)) for t in (1143.15, 1173.15) for s in times]
    generator = np.random.default_rng(2)
    rows = [(t, s, float(np.clip(f + generator.normal(0, 0.02), 0, 1))) for t, s, f in rows]
    clean = calibrated(population, tmp_path, rows)
    assert not clean.residual_table()["outlier"].any()
    wrong = rows.copy()
    wrong[9] = (*rows[9][:2], 1 - rows[9][2])
    spoilt = calibrated(population, tmp_path, wrong)
    flagged = spoilt.residual_table().query("outlier")["line"].tolist()
    assert flagged == [11]
    assert any("line 11" in note and "given the others" in note for note in spoilt.notes)
    assert not any(", 0 probable" in note for note in spoilt.notes)
    # without it the estimate is that of the clean record
    robust = calibrate_without_outliers(population, spoilt.observations, "X", 0)
    assert robust.notes[0].endswith("line(s) 11")
    good, pulled, kept = (row_of(c, "half_time_s")["median"] for c in (clean, spoilt, robust))
    assert abs(kept / good - 1) < 0.05 < abs(pulled / good - 1)
    same = calibrate_without_outliers(population, clean.observations, "X", 0)
    assert len(same.observations.points) == 14


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"time_s": [1.0, 9.0, 99.0], "fraction_transformed": [0.1, 0.8, 0.3]}, "falls with time"),
        ({"time_s": [1.0, 9.0, 99.0], "fraction_transformed": [0.1, 0.5, 0.48]}, None),
        ({"time_s": [9.0, 1000.0], "fraction": [0.5, 0.5]}, "times at one temperature"),
        ({"time_s": [9.0, 1000.0], "fraction": [0.01, 0.99]}, None),
        ({"time_s": [60.0, 600.0], "hardness_HRC": [30.0, 40.0]}, "rises with time"),
        ({"time_s": [60.0, 600.0], "hardness_HRC": [40.0, 30.0]}, None),
        (
            {"heating_rate_K_per_s": [0.1, 0.2, 0.4], "peak_temperature_K": [840.0, 825.0, 810.0]},
            "contradictory observations: the peak comes earlier at a higher heating rate by 30",
        ),
        ({"heating_rate_K_per_s": [0.1, 0.2], "peak_temperature_K": [825.0, 840.0]}, None),
    ],
)
def test_contradictions_are_named(table, expected):
    points = pd.DataFrame(
        {"temperature_K": 900.0, "line": range(2, 2 + len(next(iter(table.values()))))} | table
    )
    notes = contradiction_notes(points, 1.0 if "hardness_HRC" in table else 0.05)
    if expected is None:
        assert notes == []
    else:
        assert expected in notes[0]
        assert any(f"lines {lines}" in notes[0] for lines in ("2 and 3", "3 and 4", "2 and 4"))


def test_correlated_pairs_are_named():
    matrix = np.array([[1, 0.2, -0.95], [0.2, 1, 0], [-0.95, 0, 1]])
    (note,) = correlation_notes(["a", "b", "c"], matrix)
    assert "c and a" in note
    assert "-0.95" in note


def test_a_hundred_thousand_points_of_a_dilatometer(population, tmp_path, within):
    generator = np.random.default_rng(0)
    tables = []
    for temperature in (1143.15, 1173.15):
        times = np.linspace(0.5, 2500, 50_000)
        fraction = fraction_at(temperature, times) + generator.normal(0, 0.02, len(times))
        tables.append(
            pd.DataFrame(
                {
                    "alloy": "X",
                    "temperature_K": temperature + generator.normal(0, 0.2, len(times)),
                    "time_s": times,
                    "fraction_transformed": fraction.clip(0, 1),
                }
            )
        )
    path = tmp_path / "long.csv"
    pd.concat(tables).to_csv(path, index=False)
    alloys = tmp_path / "alloys.csv"
    alloys.write_text("alloy,reference_temperature_K\nX,1173.15\n")
    with within(20):
        observations = read_observations(path, alloys)
        result = calibrate(population, observations, "X", 0)
    assert len(observations.points) == 100_000
    assert len(result.observations.points) <= MOST_POINTS
    assert any("averaged to" in note for note in result.notes)
    for name, true in (
        ("half_time_s", 300),
        ("activation_energy_kJ_mol", 200),
        ("avrami_exponent", 1.5),
    ):
        assert row_of(result, name)["median"] == pytest.approx(true, rel=0.06)


def test_averaging_keeps_the_curve_and_short_records_as_they_are():
    times = np.geomspace(1, 1e4, 5000)
    points = pd.DataFrame(
        {
            "alloy": "X",
            "temperature_K": 900.0,
            "time_s": times,
            "fraction_transformed": 1 - np.exp(-((times / 300) ** 2)),
            "sigma": np.nan,
            "line": np.arange(2, 5002),
        }
    )
    held = np.zeros(len(points), dtype=bool)
    few = downsample(points, "fraction_transformed", held)
    assert 50 < len(few) <= MOST_POINTS
    expected = 1 - np.exp(-((few["time_s"] / 300) ** 2))
    assert (few["fraction_transformed"] - expected).abs().max() < 0.01
    # the steep part, a fiftieth of the record's log time, keeps a good share
    steep = few["fraction_transformed"].between(0.1, 0.9).sum()
    assert steep > 0.25 * len(few)
    assert list(few.columns) == list(points.columns)
    short = downsample(points[:200], "fraction_transformed", held[:200])
    pd.testing.assert_frame_equal(short, points[:200])


def test_nothing_that_was_averaged_counts_as_another_observation(population, tmp_path):
    """400 given points are thinned; none is left to score the calibration on."""
    population.save(tmp_path / "population.json")
    times = np.geomspace(20, 3000, 400)
    noise = np.random.default_rng(0).normal(0, 0.02, 400)
    fraction = (fraction_at(1173.15, times) + noise).clip(0, 1)
    rows = [f"X,1173.15,{t:.6g},{f:.4f}" for t, f in zip(times, fraction, strict=True)]
    header = "alloy,temperature_K,time_s,fraction_transformed"
    (tmp_path / "points.csv").write_text("\n".join([header, *rows]) + "\n")
    call = ["kinetics", "calibrate", "--prior", tmp_path / "population.json"]
    call += ["--data", tmp_path / "points.csv", "--out", tmp_path]
    CliRunner().invoke(cli, [str(part) for part in call], catch_exceptions=False)
    record = read_json(tmp_path / "X" / "calibration.json")
    assert record["observations"] <= MOST_POINTS
    assert record["other_points"] == {}


def test_a_cooling_diagram_that_nothing_reaches_is_drawn(tmp_path):
    columns = ["fraction", "cooling_rate_K_s", "time_s", "temperature_C", "low_90_C", "high_90_C"]
    nothing = pd.DataFrame(columns=[*columns, "reached"], dtype=float)
    out = tmp_path / "cct.png"
    static.write(cct_figure("cct", Subject("slow", simulated=False), nothing, 826.85), [out])
    assert out.stat().st_size > 5_000


@pytest.fixture(scope="module")
def precise():
    """Simulated holds so precise that few of the first draws fall where the posterior is."""
    generator, parts = np.random.default_rng(0), []
    for kelvin in (950.0, 1000.0, 1050.0):
        half = 100 * np.exp(200e3 / 8.31446 * (1 / kelvin - 1 / 1000))
        time = half * np.geomspace(0.1, 4, 200)
        fraction = 1 - np.exp(-np.log(2) * (time / half) ** 2) + generator.normal(0, 5e-4, 200)
        part = {"temperature_K": kelvin, "time_s": time, "fraction_transformed": fraction}
        parts.append(pd.DataFrame(part))
    table = pd.concat(parts)
    return observations_of(table[table["fraction_transformed"].between(0, 1)].assign(alloy="S"))


TRUTH = {"half_time_s": 100.0, "activation_energy_kJ_mol": 200.0, "avrami_exponent": 2.0}


def test_too_few_draws_are_drawn_again_around_the_mode(precise):
    population = Population.generic(equation_named("jmak"), "fraction")
    found = calibrate(population, precise, "S", 0)
    assert float(found.posterior.effective[0]) > 1000
    assert not any("interval" in note for note in found.notes)
    table = found.parameters().set_index("parameter")
    for name, value in TRUTH.items():
        assert table.loc[name, "low_90"] < value < table.loc[name, "high_90"]
        assert len(found.draws[:, 0].unique()) > 500


def test_where_that_does_not_help_the_normal_approximation_is_said(precise, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_EFFECTIVE", 1e9)
    population = Population.generic(equation_named("jmak"), "fraction")
    few = precise.keep(precise.points["line"] % 9 == 0)
    found = calibrate(population, few, "S", 0)
    assert any("those of the normal approximation" in note for note in found.notes)
    assert not any("intervals are rough" in note for note in found.notes)
    wanted = found.fit.covariance[0].diagonal().sqrt()
    np.testing.assert_allclose(found.draws.std(0), wanted, rtol=0.1)


def test_words_at_cooling_lines_stand_clear_of_the_curves_and_within_the_picture():
    rates = np.geomspace(0.02, 50, 30)
    cooled = pd.DataFrame({"fraction": 0.5, "cooling_rate_K_s": rates, "time_s": 285 / rates})
    cooled = cooled.assign(temperature_C=430.0, low_90_C=420.0, high_90_C=440.0, reached=1.0)
    figure = cct_figure("cct", Subject("steel", simulated=False), cooled, 715)
    lines = [part for part in figure.parts if getattr(part, "name", "").startswith("cooling")]
    named = [line for line in lines if line.end_label]
    assert 2 < len(named) < len(lines)
    first, last = figure.x.ends
    assert all(line.y[-1] < 400 and 4 * first < line.x[-1] < last for line in named)
