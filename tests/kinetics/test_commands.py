"""The commands as a user types them."""

import json
import math
import sys

import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from matml.cli.main import cli, main
from matml.core.errors import MatmlError
from matml.kinetics.evaluation.pipeline import measured_sets


def run(*arguments):
    result = CliRunner().invoke(cli, ["kinetics", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def settings(tmp_path, few_alloys):
    path = tmp_path / "kinetics.yaml"
    path.write_text(
        "meta_batches: 2\nmeta_tasks: 2\nshots: [2, 5]\ndraws: 2\nfolds: 2\n"
        f"calibrated_alloys: 1\n{few_alloys}"
    )
    return path


@pytest.mark.parametrize(("dataset", "equation"), [("jmak", "jmak"), ("ttt", "c_curve")])
def test_the_whole_path(tmp_path, settings, dataset, equation):
    out = tmp_path / dataset
    data = ("--data", out / "observations.csv", "--alloys", out / "alloys.csv")
    common = ("--config", settings, "--seed", 3)
    run("prepare", "--dataset", f"simulated_{dataset}", "--out", out, *common)
    run("learn", *data, "--equation", equation, "--out", out, *common)
    prior = out / "population.json"
    run("calibrate", "--prior", prior, *data, "--held-out", "--out", out / "calibration", *common)
    done = json.loads((out / "calibration" / "summary.json").read_text())["alloys"]
    assert done
    for entry in done:
        folder = out / "calibration" / entry["folder"]
        assert json.loads((folder / "calibration.json").read_text())["simulated"] is True
        assert len(pd.read_csv(folder / "observations.csv")) == 5
        band = pd.read_csv(folder / "ttt.csv")
        assert (band["low_90_s"] <= band["time_s"]).all()
        assert (band["time_s"] <= band["high_90_s"]).all()
        with Image.open(folder / "ttt.png") as picture:
            assert picture.width > 500
        assert (folder / "ttt.svg").read_text().startswith("<?xml")
        assert (folder / "cct.csv").is_file() == (equation == "c_curve")
        if equation == "c_curve":
            cooling = pd.read_csv(folder / "cct.csv")
            assert len(cooling)
            for _, line in cooling.groupby("fraction"):
                # the band goes on where most of the posterior does not get there
                assert line["reached"].min() <= 0.1
                assert line["high_90_C"].iloc[-1] - line["low_90_C"].iloc[-1] < 10
                assert (line["temperature_C"].notna() == (line["reached"] >= 0.5)).all()
                # the faster, the colder; and a band around it
                line = line[line["temperature_C"].notna()]
                assert line["temperature_C"].is_monotonic_decreasing
                assert (line["low_90_C"] <= line["temperature_C"]).all()
            assert (folder / "cct.svg").read_text().startswith("<?xml")


def test_same_seed_same_files(tmp_path, settings):
    for folder in ("a", "b"):
        out = tmp_path / folder
        run("simulate", "--set", "ttt", "--out", out, "--config", settings)
        run(
            *("learn", "--data", out / "observations.csv", "--alloys", out / "alloys.csv"),
            *("--equation", "c_curve", "--out", out, "--config", settings),
        )
    for name in ("observations.csv", "alloys.csv", "population.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_hardness_of_the_users_own_steels(tmp_path, settings):
    """A user's tempering data without a table of alloys: learned, calibrated, drawn."""
    rows = ["alloy,temperature_C,time_s,hardness_HRC"]
    for number in range(6):
        for celsius in (300, 400, 500, 600):
            for time in (600, 3600, 36000):
                parameter = (celsius + 273.15) * (20 + math.log10(time / 3600))
                rows.append(f"S{number},{celsius},{time},{85 + number - 0.0034 * parameter:.2f}")
    data = tmp_path / "hardness.csv"
    data.write_text("\n".join(rows) + "\n")
    common = ("--config", settings)
    run("learn", "--data", data, "--equation", "softening", "--out", tmp_path, *common)
    run(
        *("calibrate", "--prior", tmp_path / "population.json", "--data", data),
        *("--alloy", "S2", "--points", 6, "--out", tmp_path / "c", *common),
    )
    record = json.loads((tmp_path / "c" / "S2" / "calibration.json").read_text())
    assert record["unit"] == "HRC"
    assert record["reference_temperature_K"] > 500
    assert (tmp_path / "c" / "S2" / "ttt.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "{none}", "--equation", "jmak"), "no such file"),
        (("--data", "{text}", "--equation", "jmak"), "no usable row"),
        (("--data", "{data}", "--equation", "softening"), "does not describe"),
        (("--data", "{data}", "--equation", "c_curve", "--config", "{bad}"), "unknown key"),
    ],
)
def test_bad_input_of_learn_is_one_line(tmp_path, arguments, message):
    files = {
        "none": tmp_path / "none.csv",
        "text": tmp_path / "text.csv",
        "data": tmp_path / "data.csv",
        "bad": tmp_path / "bad.yaml",
    }
    header = "alloy,temperature_C,time_s,ttt_fraction\n"
    files["text"].write_text(header + "A,600,-3,0.5\n")
    files["data"].write_text(header + "".join(f"{a},600,9,0.5\n" for a in "ABCDE"))
    files["bad"].write_text("shot: [1]\n")
    filled = [part.format(**files) for part in arguments]
    with pytest.raises(MatmlError, match=message) as caught:
        run("learn", *filled, "--out", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_shots_must_be_numbers(tmp_path):
    with pytest.raises(MatmlError, match="give whole numbers"):
        run(
            *("benchmark", "--data", tmp_path / "x.csv", "--equation", "jmak"),
            *("--out", tmp_path, "--shots", "one"),
        )


def test_an_error_exits_with_two_and_no_traceback(tmp_path, monkeypatch, capsys):
    command = ["matml", "kinetics", "prepare", "--dataset", "nothing", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "simulated_jmak" in told


def test_measured_sets_are_found_or_named_as_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("MATML_KINETICS_DATA", raising=False)
    with pytest.raises(MatmlError, match="holds none of the measured sets"):
        run("benchmark", "--real", tmp_path)
    with pytest.raises(MatmlError, match="--data FILE"):
        run("benchmark")
    for part in ("points", "alloys"):
        (tmp_path / f"tempering_{part}.csv").write_text("alloy\n")
    found = measured_sets(tmp_path)
    assert [item[0] for item in found] == ["tempering"]
    assert found[0][3] == "softening"
