"""Kinetics from Python, and the populations that come with matml."""

import io
import json
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib import pyplot
from matplotlib.figure import Figure

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.figures.static import write
from matml.kinetics import Population
from matml.kinetics.diagrams.drawn import diagrams
from matml.kinetics.listing import population_cards, shipped_populations
from matml.kinetics.shipped import RECIPES, make_populations


def tempered():
    """Hardness after tempering for one hour, near that of a plain steel of 0.4 % carbon."""
    return pd.DataFrame(
        {
            "temperature_C": [205, 425, 595],
            "time_h": [1.0, 1.0, 1.0],
            "hardness_HRC": [54.0, 41.0, 27.0],
        }
    )


@pytest.fixture(scope="module")
def steel():
    return Population.load("tempering").calibrate(tempered(), composition={"C": 0.4, "Mn": 0.7})


def test_five_lines_of_python(steel, tmp_path):
    shown = repr(steel)
    assert "alloy: JMAK softening, 3 observations" in shown
    assert "softening_exponent" in shown
    conditions = pd.DataFrame({"temperature_C": [300.0, 500.0], "time_min": [60, 600]})
    found = steel.predict(conditions)
    assert list(found) == ["temperature_C", "time_min", "hardness_HRC", "low_90", "high_90"]
    assert (found["low_90"] < found["hardness_HRC"]).all()
    assert (found["hardness_HRC"] < found["high_90"]).all()
    assert 27 < found["hardness_HRC"][1] < found["hardness_HRC"][0] < 54
    ax = Figure().subplots()
    assert steel.plot(temperature_C=(150, 650), ax=ax) is ax
    shown = steel.plot(tmp_path / "steel.png", temperature_C=(150, 650))
    assert (tmp_path / "steel.png").stat().st_size > 10_000
    assert shown.get_title() == ax.get_title()
    assert steel.calibration.alloy in ax.get_title()
    assert "calibrated from 3 observations" in " ".join(ax.texts[0].get_text().split())
    assert len(ax.lines) == len(shown.lines) > 0
    pyplot.close(shown.figure)
    proposals = steel.suggest(2, temperature_C=(200, 600), time_s=(600, 36_000))
    assert proposals["temperature_C"].between(200, 600).all()
    assert proposals["variance_left"].is_monotonic_decreasing


@pytest.mark.parametrize("ends", [(-300, 500), (-273.15, 500), (500, 300), (20, 9000)])
def test_a_diagram_spans_temperatures_that_can_be(steel, ends):
    with pytest.raises(MatmlError, match=r"temperature_C: from .* °C; give two that rise, above"):
        steel.plot(temperature_C=ends)


def test_nothing_is_predicted_of_no_conditions(steel):
    found = steel.predict(pd.DataFrame({"temperature_C": [300.0], "time_h": [1.0]}).iloc[:0])
    assert list(found) == ["temperature_C", "time_h", "hardness_HRC", "low_90", "high_90"]
    assert found.empty
    assert steel.predict(pd.DataFrame()).empty


@pytest.mark.parametrize("name", ["_42CrMo4_", "$\\frac{1", "a$b$c_d^e", "100% {x} \\alpha"])
def test_names_of_alloys_are_drawn_as_they_are(steel, name, tmp_path):
    calibration = replace(steel.calibration, alloy=name)
    alloy = replace(steel, calibration=calibration)
    for usetex in (False, True):
        ax = Figure().subplots()
        with mpl.rc_context({"text.usetex": usetex}):
            alloy.plot(temperature_C=(150, 650), ax=ax)
            write(next(diagrams(calibration, None))[1], [tmp_path / "drawn.svg"])
        shown, is_tex = ax.title._preprocess_math(ax.title.get_text())
        assert not is_tex
        assert name in shown
    ax.figure.savefig(io.BytesIO(), format="png")


def test_the_composition_counts(steel):
    richer = Population.load("tempering").calibrate(tempered(), composition={"C_wt_pct": 0.9})
    expected = [
        alloy.parameters.set_index("parameter").loc["hard_hardness_HRC", "prior_median"]
        for alloy in (steel, richer)
    ]
    assert expected[0] + 1 < expected[1]


def test_elements_that_count_for_nothing_are_told(steel):
    note = "composition: Po_wt_pct counts for nothing here"
    population = Population.load("tempering")
    assert note in population.calibrate(tempered(), composition={"C": 0.4, "Po": 1}).notes
    assert not any("counts for nothing" in each for each in steel.notes)
    typical = Population.typical("softening", "hardness").calibrate(tempered(), {"C": 0.4})
    assert "composition: C_wt_pct counts for nothing here" in typical.notes


def test_rows_left_out_are_told():
    frame = tempered().assign(hardness_HRC=[54.0, "soft", 27.0])
    alloy = Population.load("tempering").calibrate(frame, name="<b>40Mn")
    assert "line 3: is not a number (hardness_HRC = soft); left out" in alloy.notes
    page = alloy._repr_html_()
    assert "<b>&lt;b&gt;40Mn: JMAK softening, 2 observations</b><table" in page
    assert "<li>line 3: is not a number" in page
    assert page.count("<tr") == 1 + len(alloy.parameters)
    assert "learned from" in alloy.population._repr_html_()
    assert len(alloy.observations.points) == 2


def test_many_rows_left_out_are_counted():
    frame = pd.concat([tempered(), pd.concat([tempered()] * 7)], ignore_index=True)
    notes = Population.load("tempering").calibrate(frame).notes
    assert "line 5: repeats line 2; left out" in notes
    assert sum("repeats line" in note for note in notes) == 10
    assert any(note.startswith("11 more lines are left out") for note in notes)


@pytest.mark.parametrize("header", ["Alloy", "ALLOY ", "steel", "Legierung"])
def test_a_column_of_alloys_by_another_name_is_one(header):
    population = Population.load("tempering")
    assert population.calibrate(tempered().assign(**{header: "40Mn"})).observations.names == [
        "40Mn"
    ]
    with pytest.raises(MatmlError, match=r"holds 2 alloys \(A, B\)"):
        population.calibrate(tempered().assign(**{header: ["A", "B", "A"]}))
    # where both stand, the one that is called so
    both = tempered().assign(steel=["A", "B", "A"], alloy="40Mn")
    assert population.calibrate(both).observations.names == ["40Mn"]


@pytest.mark.parametrize(("header", "names"), [("Probe", [1, 1, 2]), ("Güte", ["A", "B", "A"])])
def test_alloys_under_an_unknown_header_are_asked_for(header, names):
    population, frame = Population.load("tempering"), tempered().assign(**{header: names})
    with pytest.raises(MatmlError, match=rf"{header!r} \(.*\) may name several.*`name=`"):
        population.calibrate(frame)
    assert population.calibrate(frame, name="40Mn").observations.names == ["40Mn"]
    # numbers of rows, and one name throughout, part nothing
    for same in ([1, 2, 3], ["A", "A", "A"]):
        assert population.calibrate(frame.assign(**{header: same})).observations.names == ["alloy"]


def test_times_of_a_diagram_are_predicted_in_seconds():
    stainless = Population.load("stainless")
    frame = pd.DataFrame(
        {"temperature_C": [650, 750], "time_min": [15, 20], "ttt_fraction": [0.01, 0.01]}
    )
    alloy = stainless.calibrate(frame, composition={"C": 0.1, "Cr": 13})
    found = alloy.predict(pd.DataFrame({"temperature_C": [700, 700], "ttt_fraction": [0.01, 0.5]}))
    assert (found["low_90"] < found["time_s"]).all()
    assert 100 < found["time_s"][0] < found["time_s"][1]


def test_a_reference_temperature_far_from_the_data_is_named():
    frame = pd.DataFrame(
        {
            "temperature_C": [600, 650, 700],
            "time_s": [100.0, 50.0, 30.0],
            "fraction_transformed": [0.3, 0.4, 0.6],
        }
    )
    population = Population.typical("jmak", "fraction")
    notes = population.calibrate(frame, composition={"reference_temperature_K": 650}).notes
    assert any("reference_temperature_K = 650 lies outside" in n and "in C" in n for n in notes)
    notes = population.calibrate(frame, composition={"reference_temperature_K": 930}).notes
    assert not any("lies outside" in note for note in notes)


def test_without_a_population():
    peaks = pd.DataFrame(
        {"heating_rate_K_per_min": [5, 10, 20, 40], "peak_temperature_C": [531, 544, 558, 572]}
    )
    alloy = Population.typical("kissinger").calibrate(peaks)
    energy = alloy.parameters.set_index("parameter").loc["activation_energy_kJ_mol"]
    assert energy["low_90"] < 270 < energy["high_90"]
    assert "the prior is generic" in repr(alloy)
    with pytest.raises(MatmlError, match="describes ttt, fraction: give kind="):
        Population.typical("c_curve")


def test_what_cannot_be_calibrated_is_refused():
    population = Population.load("tempering")
    with pytest.raises(MatmlError, match=r"holds 2 alloys \(A, B\)"):
        population.calibrate(tempered()[:2].assign(alloy=["A", "B"]))
    with pytest.raises(MatmlError, match="has no row below its header"):
        population.calibrate(tempered()[:0])
    with pytest.raises(MatmlError, match="has no measured column"):
        population.calibrate(tempered().drop(columns="hardness_HRC"))
    with pytest.raises(MatmlError, match="no population of that name comes with matml"):
        Population.load("temperature")
    with pytest.raises(MatmlError, match="needs the column 'time_s'"):
        population.calibrate(tempered()).predict(pd.DataFrame({"temperature_C": [500]}))


@pytest.mark.parametrize("path", shipped_populations(), ids=lambda path: path.stem)
def test_shipped_populations_hold_what_was_learned(path):
    population = Population.load(path.stem)
    card, recipe = population.data_card, RECIPES[path.stem]
    assert population.equation.name == recipe.equation
    assert card["simulated"] == bool(recipe.process)
    assert card["title"] == recipe.title
    assert len(population.prior.prior.positions) == card["alloys"]
    for row in population.describe():
        assert row["low_90"] < row["median"] < row["high_90"]


def test_all_are_listed():
    shown = CliRunner().invoke(cli, ["kinetics", "populations"], catch_exceptions=False).output
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.title}" in shown
    text = CliRunner().invoke(cli, ["kinetics", "populations", "--json"]).output
    assert json.loads(text) == population_cards()


def test_the_shipped_file_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "matml.kinetics.shipped.RECIPES", {"recrystallisation": RECIPES["recrystallisation"]}
    )
    make_populations(tmp_path, tmp_path)
    again = Population.load(tmp_path / "recrystallisation.json").prior.prior
    shipped = Population.load("recrystallisation").prior.prior
    np.testing.assert_allclose(again.positions, shipped.positions, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(again.covariance, shipped.covariance, rtol=1e-2, atol=1e-3)
