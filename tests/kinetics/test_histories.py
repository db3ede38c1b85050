"""Temperature histories: against a solver, reading, errors, a curved record calibrated."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy.integrate import solve_ivp

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.additivity import fraction_along
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.prepare import prepare_dataset
from matml.kinetics.data.quadrature import path_columns
from matml.kinetics.data.thermal_history import History, read_history
from matml.kinetics.diagrams.curves import run_table
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.run_offsets import RunOffsets, with_run_offsets
from matml.kinetics.settings import KineticsDataset, KineticsSection

R = 8.31446261815324
HISTORY = History(
    np.array([0.0, 10.0, 60.0, 61.0, 200.0, 300.0, 1000.0]),
    np.array([300.0, 700.0, 950.0, 880.0, 870.0, 1000.0, 500.0]),
)
TIMES = np.array([20.0, 60.5, 150.0, 280.0, 500.0, 990.0])
TRUTH = {"half_time_s": 300.0, "activation_energy_kJ_mol": 250.0, "avrami_exponent": 1.7}


def along(history, time_s):
    """Inputs of observations on a history, by the columns that a table gets."""
    points = pd.DataFrame({"temperature_K": history.at(time_s), "time_s": time_s, "path": "p"})
    table = pd.concat([points.drop(columns="path"), path_columns(points, {"p": history})], axis=1)
    inputs = {name: torch.tensor(table[name].to_numpy(float)) for name in table}
    return inputs | {"reference_temperature_K": torch.full((len(time_s),), 900.0).double()}


def solved(history, time_s, log_scale):
    """Integral of dt / tau by scipy, step by step of the history."""
    found, total, before = [], 0.0, history.time_s[0]
    for now in time_s:
        between = history.time_s[(history.time_s > before) & (history.time_s < now)]
        ends = [before, *between, now]
        for first, last in pairwise(ends):
            step = solve_ivp(
                lambda t, _: [np.exp(-log_scale(history.at(t)))],
                (first, last),
                [total],
                method="DOP853",
                rtol=1e-11,
                atol=1e-30,
            )
            total, before = step.y[0, -1], last
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("energy", [100.0, 250.0, 600.0])
def test_a_path_agrees_with_a_solver(energy):
    jmak = equation_named("jmak")
    vector = jmak.standardise(TRUTH | {"activation_energy_kJ_mol": energy})
    found = jmak.predict("fraction", vector, along(HISTORY, TIMES)).numpy()
    age = solved(HISTORY, TIMES, lambda T: np.log(300) + energy * 1000 / R * (1 / T - 1 / 900))
    np.testing.assert_allclose(found, 1 - np.exp(-np.log(2) * age**1.7), rtol=1e-8, atol=1e-12)


def test_other_additive_processes_follow_a_path():
    """Grain growth d^m - d0^m = integral of K dt, by the solver."""
    growth = equation_named("grain_growth")
    values = {
        "doubling_time_s": 500.0,
        "activation_energy_kJ_mol": 300.0,
        "growth_exponent": 3.0,
    }
    inputs = along(HISTORY, TIMES) | {"initial_grain_size_um": torch.full((6,), 20.0).double()}
    found = 10 ** growth.predict("grain_size", growth.standardise(values), inputs).numpy()
    age = solved(HISTORY, TIMES, lambda T: np.log(500) + 300e3 / R * (1 / T - 1 / 900))
    np.testing.assert_allclose(found, (20**3 + (20**3 - 10**3) * age) ** (1 / 3), rtol=1e-8)


def test_ramps_and_holds_are_paths():
    jmak, time = equation_named("jmak"), np.array([50.0, 200.0, 900.0])
    vector = jmak.standardise(TRUTH)
    ramp = History(np.array([0.0, 400.0, 1000.0]), np.array([700.0, 820.0, 1000.0]))
    hold = History(np.array([0.0, 1000.0]), np.array([900.0, 900.0]))
    constant = {"reference_temperature_K": torch.full((3,), 900.0).double()}
    ramped = {
        "temperature_K": torch.from_numpy(ramp.at(time)),
        "time_s": torch.from_numpy(time),
        "start_temperature_K": torch.full((3,), 700.0).double(),
    }
    for history, usual in (
        (ramp, ramped),
        (hold, {"temperature_K": torch.full((3,), 900.0).double(), "time_s": ramped["time_s"]}),
    ):
        torch.testing.assert_close(
            jmak.predict("fraction", vector, along(history, time)),
            jmak.predict("fraction", vector, usual | constant),
            rtol=1e-9,
            atol=1e-12,
        )


def test_a_path_is_differentiable_and_batched():
    jmak, inputs = equation_named("jmak"), along(HISTORY, TIMES)
    vector = jmak.standardise(TRUTH)
    assert torch.autograd.gradcheck(
        lambda z: jmak.predict("fraction", z, inputs), vector.requires_grad_()
    )
    two = torch.stack([vector, vector + 0.3]).detach()
    together = jmak.predict("fraction", two[:, None], {k: v[None] for k, v in inputs.items()})
    for row in range(2):
        torch.testing.assert_close(together[row], jmak.predict("fraction", two[row], inputs))


def write_paths(folder, rows, path="time_s,temperature_C\n0,500\n100,600\n200,610\n"):
    (folder / "a.csv").write_text(path)
    table = folder / "points.csv"
    table.write_text("alloy,run,path,temperature_C,time_s,fraction_transformed\n" + rows)
    return table


def test_rows_with_and_without_a_path_stand_in_one_table(tmp_path):
    rows = "X,1,a.csv,,50,0.1\nX,1,a.csv,605,150,0.4\nX,2,,580,60,0.2\n"
    found = read_observations(write_paths(tmp_path, rows))
    assert found.points["temperature_K"].tolist() == pytest.approx([823.15, 878.15, 853.15])
    jmak = equation_named("jmak")
    tasks = to_tasks(found, jmak, 850.0)
    value = jmak.predict("fraction", jmak.start(), tasks.columns)[0]
    held = {
        name: tasks.columns[name][0, 2:]
        for name in ("temperature_K", "time_s", "reference_temperature_K")
    }
    torch.testing.assert_close(value[2:], jmak.predict("fraction", jmak.start(), held))


@pytest.mark.parametrize(
    ("path", "row", "field", "message"),
    [
        ("time_s,temperature_C\n0,500\n5,600\n5,610\n", "1,a.csv,,3,0.1", "path", "does not rise"),
        ("time_s,temperature_C\n0,500\n5,\n", "1,a.csv,,3,0.1", "path", "no finite"),
        ("time_s,temperature_C\n0,500\n5,nan\n", "1,a.csv,,3,0.1", "path", "no finite"),
        (
            "time_s,temperature\n0,500\n5,3\n",
            "1,a.csv,,3,0.1",
            "path",
            "'temperature' names",
        ),
        ("time_s,temperature_C\n0,500\n", "1,a.csv,,3,0.1", "path", "at least 2"),
        ("time_s,temperature_C\n0,500\n9,9999\n", "1,a.csv,,3,0.1", "path", "no temperature"),
        ("time_s,temperature_C\n0,500\n9,510\n", "1,b.csv,,3,0.1", "path", "no such file"),
        ("time_s,temperature_C\n0,500\n9,510\n", "1,a.csv,,10,0.1", "time_s", "runs from 0 to 9"),
        ("time_s,temperature_C\n0,500\n9,510\n", "1,a.csv,,0,0.1", "time_s", "runs from 0 to 9"),
        ("time_s,temperature_C\n0,500\n9,510\n", "1,a.csv,,nan,0.1", "time_s", "runs from 0 to 9"),
        (
            "time_s,temperature_C\n0,500\n9,510\n",
            "1,a.csv,700,3,0.1",
            "temperature_C",
            "is at 776.5",
        ),
    ],
)
def test_wrong_paths_are_named(tmp_path, path, row, field, message):
    table = write_paths(tmp_path, f"X,{row}\nX,2,,580,60,0.2\n", path)
    bad = read_observations(table).quarantine
    assert len(bad) == 1
    assert bad["line"].iloc[0] == 2
    assert message in bad["reason"].iloc[0]
    assert bad["remedy"].iloc[0]
    assert bad["field"].iloc[0] == field


def test_a_missing_file_alone_is_an_error_with_its_line(tmp_path):
    table = write_paths(tmp_path, "X,1,c.csv,,3,0.1\n")
    with pytest.raises(MatmlError, match=r"line 2, path = 'c.csv': .*no such file"):
        read_observations(table)
    with pytest.raises(MatmlError, match="no such file"):
        read_history(tmp_path / "c.csv")


def test_rows_lost_on_one_path_leave_those_of_the_next(tmp_path):
    rows = ["alloy,temperature_C,time_s,fraction_transformed,path"]
    rows += ["A,,50,0.2,missing.csv", "A,,900,0.9,a.csv", "A,,150,0.6,a.csv", "A,,160,0.7,b.csv"]
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("time_s,temperature_C\n0,500\n200,600\n")
    (tmp_path / "points.csv").write_text("\n".join(rows) + "\n")
    found = read_observations(tmp_path / "points.csv")
    assert found.points["line"].tolist() == [4, 5]
    assert found.points["temperature_K"].tolist() == pytest.approx([848.15, 853.15])
    assert found.quarantine["line"].tolist() == [3, 2]


def test_a_curved_record_is_converted_and_calibrated(tmp_path, fractions_population):
    """Simulated dilatometry whose heating slows down: refused as a ramp, calibrated as a path."""
    truth = {"half_time_s": 300.0, "activation_energy_kJ_mol": 180.0, "avrami_exponent": 1.8}
    records = []
    for duration in (300.0, 10_000.0):
        time = np.linspace(0, duration, 3001)
        kelvin = 700 + 550 * (time / duration) ** 0.6
        log_half = np.log(300) + 180e3 / R * (1 / kelvin - 1 / 1000)
        fraction = fraction_along(*map(torch.from_numpy, (time, log_half)), 1.8).numpy()
        parent, product = 1e-3 + 14e-6 * kelvin, -6e-3 + 23e-6 * kelvin
        noise = np.random.default_rng(3).normal(0, 2e-7, len(time))
        length = (1 - fraction) * parent + fraction * product + noise
        table = pd.DataFrame({"time": time, "temperature": kelvin, "length": length})
        records.append(tmp_path / f"{duration:g}.csv")
        table.to_csv(records[-1], index=False)
    out = tmp_path / "points.csv"
    arguments = [
        *("kinetics", "convert", "dilatometer", *records, "--alloy", "D", "--most", 20),
        *("--temperature-unit", "K", "--time-unit", "s", "--out", out),
        *("--parent", 710, 780, "--product", 1215, 1245),
    ]
    arguments = [str(part) for part in arguments]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code != 0
    assert "--own-path" in str(refused.exception) + refused.output
    CliRunner().invoke(cli, [*arguments, "--own-path"], catch_exceptions=False)
    found = read_observations(out)
    assert set(found.points["path"]) == {"points_paths/300.csv", "points_paths/10000.csv"}

    found.alloys["reference_temperature_K"] = 1000.0
    result = calibrate(fractions_population, found, "D", 0)
    table = result.parameters().set_index("parameter")
    for name, value in truth.items():
        assert table.loc[name, "median"] == pytest.approx(value, rel=0.1)
    # the curve along each record passes through what was measured on it
    for run, block in run_table(result).groupby("curve"):
        own = found.points[found.points["run"] == run]
        curve = np.interp(own["time_s"], block["time_s"], block["fraction_transformed"])
        np.testing.assert_allclose(curve, own["fraction_transformed"], atol=0.03)


def test_an_offset_of_temperature_shifts_a_whole_path():
    jmak = equation_named("jmak")
    runs = with_run_offsets(jmak, ["a"], RunOffsets(temperature_K=10.0))
    vector = torch.cat([jmak.standardise(TRUTH), torch.tensor([1.5]).double()])
    inputs = along(HISTORY, TIMES) | {"run_number": torch.zeros(6).double()}
    hotter = History(HISTORY.time_s, HISTORY.temperature_K + 15.0)
    torch.testing.assert_close(
        runs.predict("fraction", vector, inputs),
        jmak.predict("fraction", vector[:3], along(hotter, TIMES)),
        rtol=1e-9,
        atol=1e-12,
    )


def lagging(time_s, size):
    """Inputs on the history, whose clock may start late by some times `size`."""
    points = pd.DataFrame({"temperature_K": HISTORY.at(time_s), "time_s": time_s, "path": "p"})
    points["path_near_step_s"] = 8 * size / 64
    table = pd.concat(
        [points.drop(columns="path"), path_columns(points, {"p": HISTORY})],
        axis=1,
    )
    inputs = {name: torch.tensor(table[name].to_numpy(float)) for name in table}
    count = len(time_s)
    constant = {"reference_temperature_K": torch.full((count,), 900.0).double()}
    return inputs | constant | {"run_number": torch.zeros(count).double()}


@pytest.mark.parametrize("late", [-6.0, 1e-9, 2.5, 7.0])
def test_a_clock_that_starts_late_moves_the_whole_history(late):
    """Directly integrated to t - late; the history's bends lie on the steps around t, or not."""
    jmak = equation_named("jmak")
    runs = with_run_offsets(jmak, ["a"], RunOffsets(time_s=4.0))
    vector = torch.cat([jmak.standardise(TRUTH), torch.tensor([late / 4.0]).double()])
    found = runs.predict("fraction", vector, lagging(TIMES, 4.0)).numpy()
    arrhenius = 250e3 / R
    age = solved(HISTORY, TIMES - late, lambda T: np.log(300) + arrhenius * (1 / T - 1 / 900))
    exact = 1 - np.exp(-np.log(2) * age**1.7)
    np.testing.assert_allclose(found, exact, rtol=5e-3, atol=1e-6)
    # away from the bend at 60 and 61 s there is nothing but rounding
    straight = np.abs(TIMES - 60.5) > 20
    np.testing.assert_allclose(found[straight], exact[straight], rtol=1e-7, atol=1e-10)
    plain = jmak.predict("fraction", vector[:3], along(HISTORY, TIMES)).numpy()
    assert late < 1e-3 or np.abs(found - plain).max() > 0.005


def test_a_ramp_that_starts_late_keeps_its_rate():
    jmak, time, late = equation_named("jmak"), np.array([300.0, 500.0, 900.0]), 20.0
    runs = with_run_offsets(jmak, ["a", "b"], RunOffsets(temperature_K=5.0, time_s=20.0))
    vector = jmak.standardise(TRUTH)
    shifted = torch.cat([vector, torch.tensor([0.0, 1.0, 0.0, 1.0]).double()])

    def ramp(time_s, hotter=0.0):
        return {
            "temperature_K": torch.from_numpy(700 + 0.3 * time_s + hotter),
            "time_s": torch.from_numpy(time_s),
            "start_temperature_K": torch.full((3,), 700.0 + hotter).double(),
            "reference_temperature_K": torch.full((3,), 900.0).double(),
        }

    number = {"run_number": torch.ones(3).double()}
    found = runs.predict("fraction", shifted, ramp(time) | number)
    torch.testing.assert_close(found, jmak.predict("fraction", vector, ramp(time - late, 5.0)))
    # the other run has no offset
    number = {"run_number": torch.zeros(3).double()}
    same = runs.predict("fraction", shifted, ramp(time) | number)
    torch.testing.assert_close(same, jmak.predict("fraction", vector, ramp(time)))


def test_a_late_clock_is_differentiable_and_batched():
    jmak, inputs = equation_named("jmak"), lagging(TIMES, 4.0)
    runs = with_run_offsets(jmak, ["a"], RunOffsets(time_s=4.0))
    vector = torch.cat([jmak.standardise(TRUTH), torch.tensor([0.31]).double()])
    assert torch.autograd.gradcheck(
        lambda z: runs.predict("fraction", z, inputs), vector.requires_grad_()
    )
    two = torch.stack([vector, vector + 0.3]).detach()
    together = runs.predict("fraction", two[:, None], {k: v[None] for k, v in inputs.items()})
    for row in range(2):
        torch.testing.assert_close(together[row], runs.predict("fraction", two[row], inputs))


def test_a_prepared_set_takes_its_paths_along(tmp_path):
    table = write_paths(tmp_path, "X,1,a.csv,,50,0.1\nX,2,,580,60,0.2\n")
    dataset = KineticsDataset(equation="jmak", observations=table)
    prepare_dataset("own", KineticsSection(datasets={"own": dataset}), tmp_path / "out", 0)
    before, after = read_observations(table), read_observations(tmp_path / "out/observations.csv")
    columns = ["temperature_K", "time_s", "fraction_transformed"]
    pd.testing.assert_frame_equal(after.points[columns], before.points[columns])
    assert after.points["path"].tolist() == ["paths/0_a.csv", ""]
