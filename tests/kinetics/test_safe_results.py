"""Names and files of others: no result is lost by a name, nothing is run without a word."""

import itertools
import json
import random
import string

import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import folder_name, read_json
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.equations.form.own_file import remembered
from matml.kinetics.inference.population import Population, learn_population

ALIKE = [
    *("Stahl Ä", "Stahl Ö", "Stahl A", "Stahl_A", "stahl_a", "STAHL_A", "Stahl  A", "Stahl/A"),
    *("α-Ti", "β-Ti", "-Ti", "Ti", "ti", "TI", "青铜", "黄铜", "сталь", "сплав", "a\u0301", "á"),
    *("..", ".", "", "~", "A.", "A", "CON", "con", "NUL.X", "COM1", "X" * 70, "X" * 71, "A\nB"),
    *("\udcff", "A~0123456789", "STAHL~0123456789", "$(touch X)", "`x`", "'", '"', "-rf"),
]


def random_names(seed, count):
    rng = random.Random(seed)
    letters = string.ascii_letters + string.digits + " ._-+~/\\:*?\"'<>|$&;\n\täÖßαβ鋼🔥"
    for _ in range(count):
        name = "".join(rng.choice(letters) for _ in range(rng.randint(1, 8)))
        yield from {name, name.upper(), name.lower(), name + rng.choice(letters)}


@pytest.mark.parametrize("seed", range(5))
def test_no_two_names_share_a_folder(seed):
    names = {*ALIKE, *random_names(seed, 2000)}
    folders = [folder_name(name) for name in names]
    # also on a file system that knows no capitals
    assert len({folder.casefold() for folder in folders}) == len(names)
    safe = set(string.ascii_letters + string.digits + ".+_-~")
    for folder in folders:
        assert set(folder) <= safe
        assert 0 < len(folder) <= 60
        assert folder[0] not in ".-~"
        assert folder[-1] != "."
        assert folder.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}


def test_plain_names_name_their_folder():
    for name in ("X", "S2", "316L", "100CR6", "A_1", "42CRMO4", "TI-6AL-4V"):
        assert folder_name(name) == name


def test_alloys_in_other_scripts_are_all_calibrated(fractions_population, tmp_path, monkeypatch):
    # their diagrams would take the most of the time
    monkeypatch.setattr("matml.figures.static.write", lambda *_, **__: None)
    names = ["Stahl Ä", "Stahl Ö", "α-Ti", "β-Ti", "x", "X"]
    fractions_population.save(tmp_path / "population.json")
    rows = [
        f"{name},{t},{s},{f}" for name in names for t, s, f in ((900, 60, 0.2), (900, 600, 0.8))
    ]
    (tmp_path / "points.csv").write_text(
        "alloy,temperature_C,time_s,fraction_transformed\n" + "\n".join(rows), encoding="utf-8"
    )
    call = ["kinetics", "calibrate", "--prior", tmp_path / "population.json"]
    call += ["--data", tmp_path / "points.csv", "--out", tmp_path / "out"]
    CliRunner().invoke(cli, [str(part) for part in call], catch_exceptions=False)
    done = read_json(tmp_path / "out/summary.json")["alloys"]
    assert [entry["alloy"] for entry in done] == names
    found = [read_json(tmp_path / "out" / e["folder"] / "calibration.json")["alloy"] for e in done]
    assert found == names


def test_what_a_calibration_wrote_is_a_table_of_observations(tmp_path, monkeypatch):
    monkeypatch.setattr("matml.figures.static.write", lambda *_, **__: None)
    points = [(600, 100, 0.01), (650, 50, 0.01), (700, 200, 0.01), (600, 600, 0.99)]
    given = tmp_path / "points.csv"
    pd.DataFrame(points, columns=["temperature_C", "time_s", "ttt_fraction"]).assign(
        alloy="X"
    ).to_csv(given, index=False)
    written = []
    for name in ("first", "again"):
        call = ["kinetics", "calibrate", "--prior", "stainless", "--data", given]
        call = [str(part) for part in (*call, "--out", tmp_path / name)]
        done = CliRunner().invoke(cli, call, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        given = tmp_path / name / "X" / "observations.csv"
        written.append((tmp_path / name / "X" / "parameters.csv").read_bytes())
    assert written[0] == written[1]


OWN = """
from pathlib import Path
Path({mark!r}).touch()
from matml.kinetics.equations import Equation, Input, Observable, Parameter

def log10_time(values, inputs):
    return values["intercept"] + 1000 * values["slope"] / inputs["temperature_K"]

EQUATION = Equation("mine", "Straight Arrhenius line", "own", (
    Parameter("intercept", "log10 s", -20, 0, -10), Parameter("slope", "kK", 2, 30, 12, "log")),
    {{"ttt": Observable("time_s", "log10 s", (Input("temperature_K", "K"),), log10_time,
                       lambda measured: measured.log10(), 0.1)}})
"""


@pytest.fixture
def own(tmp_path):
    """File of an equation, the file that it makes when it is run, population and data."""
    path, mark, data = tmp_path / "mine.py", tmp_path / "was run", tmp_path / "points.csv"
    path.write_text(OWN.format(mark=str(mark)))
    rows = [
        f"A{i},{t},{10 ** (-9 - 0.2 * i + 12000 / t)},0.5"
        for i, t in itertools.product(range(4), (800, 900, 1000))
    ]
    data.write_text("alloy,temperature_K,time_s,ttt_fraction\n" + "\n".join(rows) + "\n")
    population, _ = learn_population(
        read_observations(data), equation_named(str(path)), 2.0, 0, held_out=[], origin=data
    )
    population.save(tmp_path / "population.json")
    mark.unlink()
    return path, mark, tmp_path / "population.json", data


def test_who_learned_with_a_file_may_load_it_and_a_change_asks_anew(own, monkeypatch):
    path, mark, population, _ = own
    # another process
    monkeypatch.setattr("matml.kinetics.equations.form.own_file._agreed", set())
    assert Population.load(population).equation.title == "Straight Arrhenius line"
    assert mark.exists()
    mark.unlink()
    path.write_text(path.read_text() + "\n# changed\n")
    with pytest.raises(MatmlError, match=r"population\.json: .*mine\.py.*--trust-equation"):
        Population.load(population)
    assert not mark.exists()


@pytest.mark.parametrize("command", ["calibrate", "design"])
def test_a_population_of_others_runs_nothing_before_consent(own, command):
    _, mark, population, data = own
    # somebody else's machine
    remembered().unlink()
    from matml.kinetics.equations.form import own_file

    own_file._agreed.clear()
    out = population.parent / "out"
    call = ["kinetics", command, "--prior", population, "--data", data, "--alloy", "A0"]
    call = [str(part) for part in [*call, "--out", out]]
    with pytest.raises(MatmlError, match=r"mine\.py, which would be run .*--trust-equation once"):
        CliRunner().invoke(cli, call, catch_exceptions=False)
    assert not mark.exists()
    for options in (["--trust-equation"], []):
        # the second time it is remembered
        mark.unlink(missing_ok=True)
        own_file._agreed.clear()
        assert CliRunner().invoke(cli, call + options, catch_exceptions=False).exit_code == 0
        assert mark.exists()
    (known,) = json.loads(remembered().read_text()).values()
    assert known.endswith("mine.py")


def test_consent_that_cannot_be_remembered_holds_for_the_process(own, monkeypatch):
    path, _, population, _ = own
    blocked = path.parent / "blocked"
    blocked.write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(blocked))
    assert Population.load(population).equation.title == "Straight Arrhenius line"
    monkeypatch.setattr("matml.kinetics.equations.form.own_file._agreed", set())
    with pytest.raises(MatmlError, match="trust-equation"):
        Population.load(population)
    assert Population.load(population, trust_equation=True).kind == "ttt"


def test_formulas_in_names_reach_no_spreadsheet(fractions_population, tmp_path):
    fractions_population.save(tmp_path / "population.json")
    rows = "=HYPERLINK(1),900,60,0.2\n=HYPERLINK(1),900,600,0.8\n@SUM(1),900,-1,0.8\n"
    (tmp_path / "points.csv").write_text("alloy,temperature_C,time_s,fraction_transformed\n" + rows)
    call = ["kinetics", "calibrate", "--prior", tmp_path / "population.json"]
    call += ["--data", tmp_path / "points.csv", "--out", tmp_path / "out"]
    CliRunner().invoke(cli, [str(part) for part in call], catch_exceptions=False)
    written = list((tmp_path / "out").rglob("*.csv"))
    assert len(written) >= 4
    for path in written:
        table = pd.read_csv(path, dtype=str, header=None, keep_default_na=False)
        for cell in table.to_numpy().ravel():
            assert cell[:1] not in ("=", "@"), path
    assert "'@SUM(1)" in (tmp_path / "out/quarantine.csv").read_text()
