"""The whole diagram of a steel from its composition: published formulas amid the bands."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.kinetics.diagram import read_composition
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.observations import observations_of
from matml.kinetics.diagrams.austenite import steel_diagram
from matml.kinetics.diagrams.drawn import diagrams
from matml.kinetics.diagrams.steel import steel_figures
from matml.kinetics.equations import equation_named
from matml.kinetics.equations.steels import (
    bainite_start_K,
    eutectoid_temperature_K,
    ferrite_start_K,
    li_time,
    martensite_start_K,
)
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.population import Population, learn_population

STEEL = {"C": 0.4, "Mn": 0.7, "Cr": 1.0, "Mo": 0.2}


@pytest.fixture(scope="module")
def diagram():
    return steel_diagram(STEEL, 8.0, {})


def test_published_formulas_lie_in_the_middle(diagram):
    lines = diagram.lines.set_index("line")
    for name, formula in (
        ("Ae3", ferrite_start_K),
        ("Ae1", eutectoid_temperature_K),
        ("Bs", bainite_start_K),
        ("Ms", martensite_start_K),
    ):
        assert lines.loc[name, "temperature_C"] == pytest.approx(formula(STEEL) - 273.15, abs=3)
        assert lines.loc[name, "low_90_C"] < lines.loc[name, "temperature_C"] - 20
    start = diagram.ttt[(diagram.ttt["reaction"] == "bainite") & (diagram.ttt["fraction"] == 0.01)]
    # far below the start, where its shift hardly counts
    rows = start[start["temperature_C"].between(440, 500)]
    published = li_time(
        "bainite", STEEL, 8.0, bainite_start_K(STEEL), rows["temperature_C"] + 273.15, 0.01
    )
    np.testing.assert_allclose(np.log10(rows["time_s"]), np.log10(published), atol=0.1)
    assert (rows["high_90_s"] / rows["low_90_s"] > 10).all()


def test_faster_cooling_begins_later_and_bainite_ends_at_martensite(diagram):
    for _, rows in diagram.cct.groupby("reaction"):
        assert rows["temperature_C"].is_monotonic_decreasing
        assert (rows["low_90_C"] <= rows["temperature_C"]).all()
        assert rows["reached"].between(0.5, 1).all()
    start = float(diagram.lines.set_index("line").loc["Ms", "temperature_C"])
    assert diagram.ttt["temperature_C"].min() == pytest.approx(start, abs=0.5)


def test_austenite_that_pearlite_used_up_makes_no_bainite(diagram):
    rates = {name: rows["cooling_rate_K_s"] for name, rows in diagram.cct.groupby("reaction")}
    assert rates["pearlite"].min() == 0.01
    # pearlite takes some 1,000 s at its nose: slower cooling over 100 K ends it there
    assert 0.05 < rates["bainite"].min() < 1
    bainite = diagram.cct[diagram.cct["reaction"] == "bainite"]
    assert bainite["reached"].iloc[0] < 0.6
    assert bainite["reached"].max() > 0.85


def test_lines_carry_their_names(diagram):
    for figure in steel_figures(diagram, "a steel"):
        named = {
            part.end_label: part.y[0] for part in figure.parts if getattr(part, "dash", "") == "dot"
        }
        told = diagram.lines.set_index("line")["temperature_C"]
        assert named == pytest.approx(told.to_dict())


def test_points_pull_their_reaction_in(tmp_path, diagram):
    slower = diagram.ttt[(diagram.ttt["reaction"] == "bainite") & (diagram.ttt["fraction"] == 0.01)]
    slower = slower.iloc[20:60:10]
    data = tmp_path / "bainite.csv"
    pd.DataFrame(
        {
            "alloy": "S",
            "temperature_C": slower["temperature_C"],
            "time_s": 4 * slower["time_s"],
            "ttt_fraction": 0.01,
        }
    ).to_csv(data, index=False)
    text = ",".join(f"{element}={amount}" for element, amount in STEEL.items())
    arguments = ["kinetics", "diagram", "--composition", text, "--bainite", data, "--out", tmp_path]
    shown = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False).output
    assert "Ms 3" in shown
    found = pd.read_csv(tmp_path / "ttt.csv")
    at = float(slower["temperature_C"].iloc[1])
    for table, low, high in ((found, 2.5, 6.0), (diagram.ttt, 0.9, 1.1)):
        rows = table[(table["reaction"] == "bainite") & (table["fraction"] == 0.01)]
        rows = rows.sort_values("temperature_C")
        ratio = np.interp(at, rows["temperature_C"], rows["time_s"]) / slower["time_s"].iloc[1]
        assert low < ratio < high
    assert (tmp_path / "cct.png").stat().st_size > 10_000


def test_a_hardenable_steel_has_figures_too():
    figures = steel_figures(
        steel_diagram({"C": 0.4, "Ni": 3.0, "Mo": 1.0}, 4.0, {}), "a tool steel"
    )
    assert [figure.name for figure in figures] == ["ttt", "cct"]


@pytest.mark.parametrize(
    ("steel", "message"),
    [
        ({"C": 1.0, "Cr": 1.5}, "Ae3 is 69[01] C and Ae1 748 C at 1 % C: .* hypoeutectoid"),
        ({"C": 0.7, "Mn": 2.0}, "Ae3 is 680 C and Ae1 702 C"),
        # silicon raises Ae3, but not above the line of cementite
        ({"C": 1.2, "Si": 3.0}, "at 1.2 % C: .* up to 0.8 %"),
    ],
)
def test_hypereutectoid_steels_are_refused(steel, message):
    with pytest.raises(MatmlError, match=message):
        steel_diagram(steel, 8.0, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C=0.4,V=1", "'V=1': the formulas have C, Mn"),
        ("C=forty", "give wt %"),
        ("C", "give wt %"),
        ("Ni=5,Mn=5", "10 % in all"),
    ],
)
def test_compositions_are_checked(text, message):
    with pytest.raises(MatmlError, match=message):
        read_composition(text)


def starts(folder, column, *values):
    """Write start temperatures of one alloy."""
    path = folder / f"{column}.csv"
    path.write_text(f"{column}\n" + "".join(f"{value}\n" for value in values))
    return path


def test_measured_starts_pull_in_their_lines(tmp_path, diagram):
    composition = ",".join(f"{element}={amount}" for element, amount in STEEL.items())
    usual = diagram.lines.set_index("line")
    low, high = usual.loc["Ms", "temperature_C"] + 30, usual.loc["Bs", "temperature_C"] - 30
    files = (
        "--martensite",
        starts(tmp_path, "Ms_C", low),
        "--bainite",
        starts(tmp_path, "Bs_C", high),
    )
    arguments = ["kinetics", "diagram", "--composition", composition, "--out", tmp_path, *files]
    CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    lines = pd.read_csv(tmp_path / "temperatures.csv").set_index("line")
    for name, measured in (("Ms", low), ("Bs", high)):
        width, before = (t.loc[name, "high_90_C"] - t.loc[name, "low_90_C"] for t in (lines, usual))
        assert abs(lines.loc[name, "temperature_C"] - measured) < 12
        assert width < 0.9 * before
    assert lines.loc["Ae3", "temperature_C"] == pytest.approx(
        usual.loc["Ae3", "temperature_C"], abs=3
    )
    arguments[-1] = files[1]
    with pytest.raises(MatmlError, match=r"'martensite_start'.*--bainite is a CSV of TTT points"):
        CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)


def test_one_start_an_alloy_is_learned_from_and_one_in_another_unit_is_told(tmp_path):
    compositions = [{"C": c, "Mn": 0.7, "Cr": 1.0} for c in (0.2, 0.3, 0.4, 0.5)]
    rows = [martensite_start_K(steel) + 20 for steel in compositions]
    names = [f"S{i}" for i in range(4)]
    frame = pd.DataFrame({"alloy": names, "Ms_K": rows})
    frame.to_csv(tmp_path / "ms.csv", index=False)
    alloys = pd.DataFrame(compositions).add_suffix("_wt_pct").assign(alloy=names)
    observations, equation = observations_of(frame, alloys), equation_named("van_bohemen")
    assert observations.kind == "martensite_start"
    population, _ = learn_population(
        observations, equation, 2.0, 0, held_out=[], origin=tmp_path / "ms.csv"
    )
    shift = population.describe()[0]
    assert shift["name"] == "start_shift_K"
    assert shift["median"] == pytest.approx(20, abs=5)
    generic = Population.generic(equation, "martensite_start")
    right = calibrate(generic, observations, "S0", 0)
    assert right.parameters()["median"][0] == pytest.approx(20, abs=10)
    assert list(diagrams(right)) == []
    assert not any("in the unit" in note for note in right.notes)
    wrong = observations_of(frame.assign(Ms_K=frame["Ms_K"] - 273.15), alloys)
    notes = calibrate(generic, wrong, "S0", 0).notes
    assert any("Ms = " in note and "is it in the unit" in note for note in notes)
