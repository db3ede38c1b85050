"""The whole diagram of a steel from its composition: published formulas amid the bands."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.kinetics.diagram import read_composition
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.diagrams.austenite import steel_diagram
from matml.kinetics.diagrams.steel import steel_figures
from matml.kinetics.equations.steels import (
    bainite_start_K,
    eutectoid_temperature_K,
    ferrite_start_K,
    li_time,
    martensite_start_K,
)

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
