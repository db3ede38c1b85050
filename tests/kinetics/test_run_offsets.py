"""Errors that runs share, in learning a population and in the band of a new run (simulated)."""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.files import read_json
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import calibrate, held_out_scores
from matml.kinetics.inference.population import learn_population
from matml.kinetics.inference.run_offsets import NO_OFFSETS, RunOffsets
from matml.kinetics.settings import KineticsSection

REFERENCE_K, OFFSET_K, NOISE, SPREAD = 900.0, 12.0, 0.02, 0.35
OFFSETS = RunOffsets(temperature_K=OFFSET_K)
QUICK = KineticsSection(meta_batches=1, meta_tasks=1)


def simulate(folder, count, seed=0):
    """Write fractions of alloys in four specimens each, whose thermocouples are off."""
    rng, jmak = np.random.default_rng(seed), equation_named("jmak")
    rows, truth = [], {}
    for number in range(count):
        alloy = f"R{number:03d}"
        truth[alloy] = jmak.start() + SPREAD * torch.from_numpy(rng.standard_normal(3))
        half = float(jmak.values(truth[alloy])["half_time_s"])
        energy = float(jmak.values(truth[alloy])["activation_energy_kJ_mol"]) * 1000 / 8.314462618
        for run, kelvin in enumerate((860.0, 890.0, 910.0, 940.0)):
            time = half * np.exp(energy * (1 / kelvin - 1 / REFERENCE_K)) * np.geomspace(0.3, 3, 6)
            inputs = {
                "temperature_K": torch.full((6,), kelvin + OFFSET_K * rng.standard_normal()),
                "time_s": torch.from_numpy(time),
                "reference_temperature_K": torch.full((6,), REFERENCE_K),
            }
            inputs = {name: column.double() for name, column in inputs.items()}
            fraction = jmak.predict("fraction", truth[alloy], inputs).numpy()
            fraction = (fraction + rng.normal(0, NOISE, 6)).clip(0, 1)
            columns = {"temperature_K": kelvin, "time_s": time, "fraction_transformed": fraction}
            rows.append(
                pd.DataFrame({"alloy": alloy, "run": f"s{run}", "simulated": True} | columns)
            )
    pd.concat(rows).to_csv(folder / "points.csv", index=False)
    alloys = pd.DataFrame({"alloy": list(truth), "composition_group": list(truth)})
    alloys.assign(reference_temperature_K=REFERENCE_K).to_csv(folder / "alloys.csv", index=False)
    return truth


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Simulated data, the truth, and populations learned with and without offsets."""
    folder = tmp_path_factory.mktemp("runs")
    truth = simulate(folder, 36)
    data = read_observations(folder / "points.csv", folder / "alloys.csv")
    populations = {
        offsets: learn_population(
            data,
            equation_named("jmak"),
            2.0,
            0,
            held_out=data.names[24:],
            origin=folder / "points.csv",
            offsets=offsets,
        )
        for offsets in (NO_OFFSETS, OFFSETS)
    }
    return data, truth, populations


def test_offsets_do_not_count_as_noise_when_learning(learned):
    """Without them the noise is several times the truth's; with them it is the truth's."""
    data, truth, populations = learned
    prior = {offsets: training.gaussian.prior for offsets, (_, training) in populations.items()}
    assert prior[NO_OFFSETS].noise > 2.5 * NOISE
    assert prior[OFFSETS].noise == pytest.approx(NOISE, rel=0.15)
    assert populations[OFFSETS][0].data_card["offset_temperature_K"] == OFFSET_K
    assert "offset_temperature_K" not in populations[NO_OFFSETS][0].data_card
    spread = prior[OFFSETS].covariance.diagonal().sqrt()
    assert spread.tolist() == pytest.approx([SPREAD] * 3, rel=0.45)
    known = torch.stack([truth[name] for name in data.names[:24]]).mean(0)
    errors = (prior[OFFSETS].mean - known).abs()
    assert float(errors.max()) < 0.15


def test_the_band_of_a_new_run_holds_its_offset(learned):
    """Calibrated from two runs: others of the same runs and new runs are covered at their level."""
    data, _, populations = learned
    population, inside, widths = populations[OFFSETS][0], {"old": [], "new": []}, {}
    for alloy in population.held_out:
        own = data.select([alloy])
        rows = own.points
        used = rows["run"].isin(["s0", "s2"]) & (rows.groupby("run").cumcount() % 2 == 0)
        result = calibrate(population, own.keep(used), alloy, 0, offsets=OFFSETS)
        for name, kept in (("old", rows["run"].isin(["s0", "s2"])), ("new", ~used)):
            which = kept & ~used if name == "old" else ~rows["run"].isin(["s0", "s2"])
            inside[name].append(held_out_scores(result, own.keep(which))["coverage_90"])
        columns = {
            "temperature_K": torch.full((3,), 890.0).double(),
            "time_s": torch.full((3,), 100.0).double(),
            "reference_temperature_K": torch.full((3,), REFERENCE_K).double(),
            "run_number": torch.tensor([-1.0, 0.0, 2.0]).double(),
        }
        _, low, high = result.predict(columns)
        widths[alloy] = high - low
    assert 0.8 <= np.mean(inside["old"]) <= 1.0
    assert 0.8 <= np.mean(inside["new"]) <= 1.0
    none, _, new = np.array(list(widths.values())).T
    assert (new >= none * 0.98).all()
    assert new.mean() > 1.15 * none.mean()


def test_the_commands_carry_offsets_from_learning_to_calibration(tmp_path):
    simulate(tmp_path, 8)
    settings = tmp_path / "k.yaml"
    settings.write_text("meta_batches: 1\nmeta_tasks: 1\n")
    files = ["--data", tmp_path / "points.csv", "--alloys", tmp_path / "alloys.csv"]
    files += ["--out", tmp_path, "--config", settings]

    def run(*arguments):
        call = ["kinetics", *map(str, (*arguments, *files))]
        return CliRunner().invoke(cli, call, catch_exceptions=False)

    offset = ("--offset-temperature", OFFSET_K)
    run("learn", "--equation", "jmak", "--held-out", 0.25, *offset)
    run("calibrate", "--prior", tmp_path / "population.json", "--alloy", "R001", "--points", 4)
    names = [p["name"] for p in read_json(tmp_path / "population.json")["parameters"]]
    assert names == equation_named("jmak").parameter_names
    table = pd.read_csv(tmp_path / "R001" / "parameters.csv")
    assert table["parameter"].str.startswith("temperature_offset_K of run s").any()
