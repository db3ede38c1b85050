"""Files of instruments made observations, and calibrated: simulated records of known kinetics."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.additivity import fraction_along
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named

TRUTH = {"half_time_s": 300.0, "activation_energy_kJ_mol": 180.0, "avrami_exponent": 1.8}
REFERENCE_K = 1000.0


def run(*arguments):
    return CliRunner().invoke(cli, ["kinetics", *map(str, arguments)], catch_exceptions=False)


def half_time(kelvin):
    energy = TRUTH["activation_energy_kJ_mol"] * 1000 / 8.31446261815324
    return np.log(TRUTH["half_time_s"]) + energy * (1 / kelvin - 1 / REFERENCE_K)


def ramp(rate, low=700.0, high=1250.0, rows=4001):
    """Return time, temperature and fraction of heating at a rate."""
    kelvin = np.linspace(low, high, rows)
    time = (kelvin - low) / rate
    fraction = fraction_along(
        torch.from_numpy(time), torch.from_numpy(half_time(kelvin)), TRUTH["avrami_exponent"]
    )
    return time, kelvin, fraction.numpy()


def length(kelvin, fraction, noise=2e-7):
    parent, product = 1e-3 + 14e-6 * kelvin, -6e-3 + 23e-6 * kelvin
    error = np.random.default_rng(0).normal(0, noise, len(kelvin))
    return (1 - fraction) * parent + fraction * product + error


@pytest.mark.parametrize("name", ["jmak", "jmak_incubation", "austin_rickett", "c_curve"])
def test_a_ramp_equals_its_isothermal_time(name):
    equation = equation_named(name)
    position = equation.start()
    kelvin = torch.linspace(850, 950, 2001, dtype=torch.float64)
    time = torch.linspace(0, 2000, 2001, dtype=torch.float64)
    scale = equation.observable("fraction").log_time_scale
    inputs = {
        "temperature_K": kelvin,
        "reference_temperature_K": torch.full_like(kelvin, 900.0),
        "time_s": time,
        "start_temperature_K": torch.full_like(kelvin, 850.0),
    }
    from matml.kinetics.data.additivity import consumed

    log_scale = scale(equation.values(position), inputs)
    equal = consumed(time, log_scale) * log_scale.exp()
    held = {k: v for k, v in inputs.items() if k != "start_temperature_K"} | {"time_s": equal}
    found = equation.predict("fraction", position, inputs)[1:]
    torch.testing.assert_close(
        found, equation.predict("fraction", position, held)[1:], rtol=1e-5, atol=1e-7
    )
    # a hold is a ramp that stays where it is
    held["start_temperature_K"] = held["temperature_K"]
    del inputs["start_temperature_K"]
    inputs["time_s"] = held["time_s"]
    torch.testing.assert_close(
        equation.predict("fraction", position, held)[1:],
        equation.predict("fraction", position, inputs)[1:],
    )


def test_equations_that_are_not_additive_refuse_ramps():
    inputs = {"temperature_K": torch.ones(1), "start_temperature_K": torch.ones(1)}
    with pytest.raises(MatmlError, match="cannot predict 'ttt' observations on a ramp"):
        equation_named("jmak").predict("ttt", equation_named("jmak").start(), inputs)


@pytest.fixture(scope="module")
def prior(fractions_population, tmp_path_factory):
    """A population of simulated alloys, as a file."""
    path = tmp_path_factory.mktemp("prior") / "population.json"
    fractions_population.save(path)
    return path


def test_dilatometer_ramps_are_converted_and_calibrated(tmp_path, prior):
    """Heating at three rates, in Celsius and minutes, as an instrument writes it."""
    files = []
    for rate in (0.02, 0.1, 1.0):
        time, kelvin, fraction = ramp(rate)
        table = pd.DataFrame(
            {
                "t/min": time / 60,
                "T/C": kelvin - 273.15,
                "dL": 1e3 * length(kelvin, fraction),
            }
        )
        files.append(tmp_path / f"rate_{rate:g}.txt")
        text = table.to_csv(index=False, sep=";", decimal=",")
        files[-1].write_text("Instrument XY\n" + text)
    out = tmp_path / "points.csv"
    run(
        *("convert", "dilatometer", *files, "--alloy", "D", "--temperature-unit", "C"),
        *("--temperature-column", "T/C", "--time-column", "t/min", "--time-unit", "min"),
        *("--length-column", "dL", "--separator", ";", "--decimal", ",", "--skip-lines", 1),
        *("--parent", 430, 560, "--product", 950, 975, "--most", 30, "--out", out),
    )
    points = pd.read_csv(out)
    assert set(points["run"]) == {"rate_0.02", "rate_0.1", "rate_1"}
    assert points.groupby("run").size().between(10, 30).all()
    assert (points["start_temperature_C"] == 560).all()
    for rate, own in points.groupby("run"):
        time, kelvin, fraction = ramp(float(rate.split("_")[1]))
        truth = np.interp(own["temperature_C"] + 273.15, kelvin, fraction)
        np.testing.assert_allclose(own["fraction_transformed"], truth, atol=0.01)
    stated = json.loads(out.with_suffix(".json").read_text())["runs"][0]
    assert stated["parent_baseline"]["slope_per_K"] == pytest.approx(14e-3, rel=1e-2)
    assert stated["rate_K_s"] == pytest.approx(0.02, rel=1e-3)
    alloys = tmp_path / "alloys.csv"
    alloys.write_text(f"alloy,reference_temperature_K\nD,{REFERENCE_K}\n")
    run(
        *("calibrate", "--prior", prior, "--data", out, "--alloys", alloys, "--out", tmp_path),
    )
    found = pd.read_csv(tmp_path / "D" / "parameters.csv").set_index("parameter")
    for name, value in TRUTH.items():
        # the baselines' errors are shared, so that the interval is not all of the uncertainty
        assert found.loc[name, "median"] == pytest.approx(value, rel=0.06)
    assert (tmp_path / "D" / "ttt.png").is_file()


def test_a_dilatometer_hold_takes_its_ends_for_the_phases(tmp_path):
    time = np.arange(0, 4000, 2.0)
    held = time >= 200
    kelvin = np.where(held, REFERENCE_K, 800 + time)
    age = np.clip(time - 200, 0, None) / 300
    fraction = 1 - np.exp(-np.log(2) * age**1.8)
    data = tmp_path / "hold.csv"
    pd.DataFrame({"time": time, "temperature": kelvin, "length": length(kelvin, fraction)}).to_csv(
        data, index=False
    )
    out = tmp_path / "points.csv"
    common = ("--alloy", "H", "--temperature-unit", "K", "--time-unit", "s", "--out", out)
    run("convert", "dilatometer", data, *common, "--hold", 200, 4000)
    observations = read_observations(out)
    points = observations.points
    assert (points["temperature_K"].sub(REFERENCE_K).abs() < 0.01).all()
    assert (points["start_temperature_K"] == points["temperature_K"]).all()
    truth = 1 - np.exp(-np.log(2) * (points["time_s"] / 300) ** 1.8)
    np.testing.assert_allclose(points["fraction_transformed"], truth, atol=0.01)
    stated = json.loads(out.with_suffix(".json").read_text())["runs"][0]
    assert "start of the hold" in stated["parent_baseline"]["from"]
    with pytest.raises(MatmlError, match="from its mean"):
        run("convert", "dilatometer", data, *common, "--hold", 100, 4000)


@pytest.mark.parametrize("hold", [True, False])
def test_calorimeter_peaks(tmp_path, hold):
    if hold:
        time = np.linspace(0, 3000, 3001)
        fraction = 1 - np.exp(-np.log(2) * (time / 300) ** 1.8)
        kelvin = np.full_like(time, REFERENCE_K)
        ends = ("--hold", 0, 2500)
    else:
        time, kelvin, fraction = ramp(0.1)
        ends = ("--peak", 780, 1150)
    rate = np.gradient(fraction, time)
    rate[0] = 0.0  # a difference is not yet zero there
    heat = -40 * rate + 0.02 + 1e-6 * time
    data = tmp_path / "dsc.csv"
    pd.DataFrame({"time": time, "temperature": kelvin, "heat_flow": heat}).to_csv(data, index=False)
    out = tmp_path / "points.csv"
    common = ("--alloy", "A", "--temperature-unit", "K", "--time-unit", "s", "--out", out)
    run("convert", "dsc", data, *common, *ends)
    points = read_observations(out).points
    if hold:
        truth = np.interp(points["time_s"], time, fraction)
    else:
        truth = np.interp(points["temperature_K"], kelvin, fraction)
        assert (points["start_temperature_K"] - 780).abs().max() < 1e-6
    np.testing.assert_allclose(points["fraction_transformed"], truth, atol=0.01)
    stated = json.loads(out.with_suffix(".json").read_text())["runs"][0]
    assert stated["peak_area_signal_s"] == pytest.approx(-40, rel=0.02)
    assert stated["notes"] == []
    early = ("--hold", 0, 3000) if hold else ("--peak", 780, 1249.9)
    run("convert", "dsc", data, *common, *early)
    notes = json.loads(out.with_suffix(".json").read_text())["runs"][0]["notes"]
    assert any("the record ends with the peak" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ("--length-column", "strain"), "column 'strain' is missing; there are time"),
        ({"time": "time_reversed"}, (), "does not rise"),
        ({"length": "words"}, (), "rows hold three numbers.*a decimal comma"),
        ({}, ("--product", 1500, 1600), "does not pass from"),
        ({}, ("--parent", 1240, 1245, "--product", 700, 1250), "overlap"),
        ({}, ("--parent", 900, 700), "give the lower one first"),
        ({"temperature": "jump"}, (), "strays by"),
        ({}, ("--parent", 700.0, 700.1), "needs at least 3"),
        ({"temperature": "far"}, (), "look at --temperature-unit"),
    ],
)
def test_bad_records_are_one_clear_error(tmp_path, change, arguments, message):
    time, kelvin, fraction = ramp(0.1, rows=401)
    table = pd.DataFrame({"time": time, "temperature": kelvin, "length": length(kelvin, fraction)})
    if "time" in change:
        table["time"] = time[::-1]
    if "length" in change:
        table["length"] = "-"
    if change.get("temperature") == "jump":
        table["temperature"] += np.where((kelvin > 900) & (kelvin < 1000), 60.0, 0.0)
    if change.get("temperature") == "far":
        table["temperature"] -= 800
    data, out = tmp_path / "d.csv", tmp_path / "p.csv"
    table.to_csv(data, index=False)
    common = ("--alloy", "A", "--temperature-unit", "K", "--time-unit", "s", "--out", out)
    ranges = ("--parent", 710, 830, "--product", 1220, 1250)
    with pytest.raises(MatmlError, match=message) as caught:
        run("convert", "dilatometer", data, *common, *ranges, *arguments)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_what_is_missing_is_said(tmp_path):
    common = (
        "--alloy",
        "A",
        "--temperature-unit",
        "K",
        "--time-unit",
        "s",
        "--out",
        tmp_path / "o",
    )
    with pytest.raises(MatmlError, match="a ramp needs --parent and --product"):
        run("convert", "dilatometer", tmp_path / "none.csv", *common)
    with pytest.raises(MatmlError, match="--peak LOW HIGH for a ramp, or --hold"):
        run("convert", "dsc", tmp_path / "none.csv", *common)
    with pytest.raises(MatmlError, match="no such file"):
        run("convert", "dsc", tmp_path / "none.csv", *common, "--hold", 0, 1)


def test_a_long_record_is_fast_and_thinned(tmp_path, within):
    time, kelvin, fraction = ramp(0.1, rows=100_000)
    data, out = tmp_path / "long.csv", tmp_path / "points.csv"
    pd.DataFrame({"time": time, "temperature": kelvin, "length": length(kelvin, fraction)}).to_csv(
        data, index=False, float_format="%.9g"
    )
    with within(20):
        run(
            *("convert", "dilatometer", data, "--alloy", "A", "--temperature-unit", "K"),
            *("--time-unit", "s", "--separator", ",", "--parent", 710, 830),
            *("--product", 1220, 1250, "--out", out),
        )
    assert len(pd.read_csv(out)) <= 100


def grain_rows(alloys=6):
    """Simulated grain growth with m = 3: rows of a tidy CSV, and the truth of each alloy."""
    rows, truth = [], {}
    generator = np.random.default_rng(3)
    for number in range(alloys):
        doubling, energy = 600 * math.exp(0.7 * generator.normal()), 240 + 20 * generator.normal()
        truth[f"G{number}"] = doubling, energy
        for start in (8.0, 20.0):
            for kelvin in (1273.15, 1323.15, 1373.15):
                for time in (120, 600, 3600, 14400):
                    rate = math.expm1(3 * math.log(2)) / (
                        doubling * math.exp(energy * 1e3 / 8.314462 * (1 / kelvin - 1 / 1320))
                    )
                    ratio = start / 10
                    size = 10 * (ratio**3 + rate * time) ** (1 / 3)
                    size *= 10 ** (0.02 * generator.normal())
                    rows.append(f"G{number},{kelvin - 273.15:g},{time},{start:g},{size:.3f}")
    return rows, truth


def test_grain_sizes_are_learned_and_calibrated(tmp_path):
    rows, truth = grain_rows()
    header = "alloy,temperature_C,time_s,initial_grain_size_um,grain_size_um"
    bad = ["G0,1000,600,,30", "G0,1000,600,8,0", "G0,1000,700,none,20", "G1,1000,600,8,-3"]
    data, alloys = tmp_path / "grains.csv", tmp_path / "alloys.csv"
    data.write_text("\n".join([header, *rows, *bad]) + "\n")
    lines = [f"{name},1320" for name in truth]
    alloys.write_text("\n".join(["alloy,reference_temperature_K", *lines]) + "\n")
    settings = tmp_path / "k.yaml"
    settings.write_text("meta_batches: 2\nmeta_tasks: 2\n")
    observations = read_observations(data, alloys)
    assert observations.kind == "grain_size"
    assert len(observations.points) == len(rows)
    assert observations.quarantine["reason"].tolist().count("is not a grain size in um") == 2
    common = ("--data", data, "--alloys", alloys, "--config", settings)
    run("learn", *common, "--equation", "grain_growth", "--out", tmp_path, "--held-out", 0)
    prior = tmp_path / "population.json"
    run("calibrate", "--prior", prior, *common, "--alloy", "G2", "--points", 8, "--out", tmp_path)
    found = pd.read_csv(tmp_path / "G2" / "parameters.csv").set_index("parameter")
    for name, value in zip(
        ("doubling_time_s", "activation_energy_kJ_mol"), truth["G2"], strict=True
    ):
        assert found.loc[name, "low_90"] * 0.9 < value < found.loc[name, "high_90"] * 1.1
    levels = pd.read_csv(tmp_path / "G2" / "ttt.csv")
    assert (levels["low_90_um"] <= levels["grain_size_um"]).all()
    assert levels["grain_size_um"].between(5, 500).all()
    assert (tmp_path / "G2" / "ttt.png").stat().st_size > 10_000
    region = ("--temperature", 1000, 1100, "--points", 2, "--out", tmp_path / "d")
    text = run("design", "--prior", prior, *common[:4], "--alloy", "G2", *region).output
    assert "of the variance expected to remain" in text
    with pytest.raises(MatmlError, match="needs initial_grain_size_um: give observations"):
        run("design", "--prior", prior, *region)


def test_grain_sizes_need_their_start(tmp_path):
    data = tmp_path / "grains.csv"
    data.write_text("alloy,temperature_C,time_s,grain_size_um\nG,1000,600,30\n")
    with pytest.raises(MatmlError, match="column 'initial_grain_size_um' is missing"):
        read_observations(data)


@pytest.mark.parametrize(("odd", "line"), [(9999.0, 22), (0.0, 22)])
def test_a_thermocouple_that_drops_out_is_left_out_and_said(tmp_path, odd, line):
    celsius = np.linspace(400, 900, 101)
    celsius[[20, 60]] = odd
    rows = [f"{n},{t:.1f},{n / 100:.3f}" for n, t in enumerate(celsius)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["Time (s),Temperature (°C),Length change (µm)", *rows]))
    said = run("inspect", path).output
    told = f"first in line {line}: {odd:g} between 495 and 505; the thermocouple?"
    assert told in said
    assert "2 rows are left out" in said
    assert "99 rows, 100 s" in said
    assert said.count("heating") == 1
