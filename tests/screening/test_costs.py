"""What raw material costs as an objective of a screening, and the table of prices."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from ridge_screening import PROPERTY, RidgePredictor, run

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.core.statistics import NORMAL_90
from matml.report.html.results import Results
from matml.report.sections.screening.shortlist import shortlist_section
from matml.report.settings import ReportSection
from matml.screening.data.prices import Prices, prices_of, read_prices, stays_in_top
from matml.screening.objectives import COST, parse_objectives
from matml.screening.select import run as shortlist

MgO = Prices({"Mg": 2.0, "O": 0.1, "Pt": 30000.0}, {"Mg": 0.2, "O": 0.0, "Pt": 0.3}, "EUR", "x.csv")


def test_a_cost_is_by_mass_and_its_band_grows_with_the_root_of_time():
    found = MgO.columns(["MgO", "Pt"], 4.0)
    magnesium, oxygen = 24.305, 15.9994
    parts = np.array([magnesium * 2.0, oxygen * 0.1]) / (magnesium + oxygen)
    np.testing.assert_allclose(found[COST], [parts.sum(), 30000], rtol=1e-4)
    deviation = np.array([parts[0] / parts.sum() * 0.2, 0.3]) * 2
    np.testing.assert_allclose(
        np.log(found[f"{COST}_high"] / found[COST]), NORMAL_90 * deviation, rtol=1e-4
    )
    np.testing.assert_allclose(found[f"{COST}_high"] * found[f"{COST}_low"], found[COST] ** 2)
    # the draws of one element have its band
    drawn = MgO.draws(["Pt"], 4.0, seed=0)[:, 0]
    assert np.log(drawn).std() == pytest.approx(0.6, rel=0.1)
    assert MgO.lacking("MgSiO3") == ["Si"]


def test_the_table_of_pymatgen_has_most_elements():
    found = prices_of(None)
    assert len(found.by_kg) > 80
    assert found.by_kg["Pt"] > 100 * found.by_kg["Cu"] > 0
    assert found.unit == "USD/kg"


def test_an_order_is_as_robust_as_prices_are_apart():
    costs = np.array([1.0, 100.0, 101.0])
    objectives = parse_objectives(["band_gap_eV maximise", f"{COST} minimise"])[1:]
    drawn = costs * np.exp(0.1 * np.random.default_rng(0).normal(size=(4000, 3)))
    found = stays_in_top(costs, drawn, -np.log10(costs), objectives, 2)
    assert found[0] == 1
    assert found.sum() == pytest.approx(2)
    # log 100 and log 101 are .01 apart, with .14 of noise between them
    assert found[1] == pytest.approx(0.528, abs=0.03)
    # a ceiling is met or not
    ceiling = parse_objectives(["band_gap_eV maximise", f"{COST} <= 50"])[1:]
    flat = stays_in_top(np.array([49.0, 10.0]), np.array([[51.0, 10.0]]), np.zeros(2), ceiling, 1)
    assert list(flat) == [0, 1]


@pytest.fixture
def prices(tmp_path):
    """Prices by which oxides of some elements are far dearer than others."""
    symbols = read_table_of_symbols()
    table = pd.DataFrame({"element": symbols, "price_per_kg": 1.0 + np.arange(len(symbols))})
    table["volatility"], table["currency"] = "", "EUR"
    table.loc[3, "volatility"] = "0.5"
    path = tmp_path / "prices.csv"
    table.to_csv(path, index=False)
    return path


def read_table_of_symbols():
    from pymatgen.core import Element

    return [element.symbol for element in Element if element.Z <= 94]


def screen(prepared, out, *options):
    model = prepared / "model"
    model.mkdir(exist_ok=True)
    run(
        "screen", "--model", model, "--known", prepared / "structures", "--support",
        prepared / "support.csv", "--out", out, "--threads", 1, "--candidates",
        prepared / "candidates", "--config", prepared / "screening.yaml",
        "--objective", f"{PROPERTY} maximise", *options,
    )  # fmt: skip
    return read_table(out / "shortlist.csv"), json.loads((out / "summary.json").read_text())


@pytest.fixture(autouse=True)
def predictor(monkeypatch):
    monkeypatch.setattr(shortlist, "load_predictor", lambda *_, **__: RidgePredictor())


def test_a_screening_with_costs_from_end_to_end(prepared, prices, tmp_path):
    out = tmp_path / "results" / "screening"
    words = "--objective", f"{COST} minimise", "--prices", prices, "--price-horizon", 2
    table, summary = screen(prepared, out, *words)
    own = read_prices(prices).columns(list(table["formula"]), 2.0)
    for name, values in own.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-5)
    assert summary["properties"] == {PROPERTY: "", COST: "EUR/kg"}
    inside = table[table["in_domain"]].sort_values("score_rank")
    worth = inside["score"] + np.log10(inside[COST])
    # what is left of the score without the cost is the prediction in units of its spread
    slope = np.polyfit(np.log10(inside["prediction"]), worth, 1)
    np.testing.assert_allclose(np.polyval(slope, np.log10(inside["prediction"])), worth, atol=1e-4)
    assert table["stays_in_top"].between(0, 1).all()
    [note] = [text for text in summary["notes"] if text.startswith("Raw material cost")]
    assert str(prices) in note
    assert "after 2 years" in note
    page = shortlist_section(Results(tmp_path / "results"), ReportSection())
    assert "raw material cost per kg" in page
    assert "EUR/kg" in page
    assert "Robust to prices: of the first" in page


def test_a_ceiling_of_the_cost_is_a_window(prepared, prices, tmp_path):
    table, _ = screen(prepared, tmp_path / "a", "--objective", f"{COST} <= 40", "--prices", prices)
    cheap = table[f"{COST}_high"] < 40
    assert 0 < cheap.sum() < len(table)
    assert (table["probability"][cheap] > 0.95).all()
    assert (table["probability"][table[COST] > 40] < 0.5).all()


def test_a_candidate_with_an_element_without_a_price_is_set_aside(prepared, prices, tmp_path):
    table, _ = screen(prepared, tmp_path / "a", "--objective", f"{COST} minimise")
    symbol = re.findall("[A-Z][a-z]?", table["formula"][0])[0]
    lines = prices.read_text().splitlines(keepends=True)
    prices.write_text("".join(line for line in lines if not line.startswith(f"{symbol},")))
    words = "--objective", f"{COST} minimise", "--prices", prices
    table, _ = screen(prepared, tmp_path / "b", *words)
    assert not table["formula"].str.contains(f"{symbol}(?![a-z])").any()
    refused = read_table(tmp_path / "b" / "crystals" / "quarantine.csv")
    told = refused[refused["field"] == COST]
    assert told["reason"].str.contains(f"{symbol} of .* has no price in {prices}").any()
    assert told["remedy"].str.contains("give .* a row for it").all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Mg,0,,EUR", "line 2: price_per_kg '0' of 'Mg'; give a number above 0"),
        ("Mg,-3,,EUR", "line 2: price_per_kg '-3' of 'Mg'"),
        ("Mg,3,-1,EUR", "line 2: volatility '-1' of 'Mg'; give a number from 0 on"),
        ("Mg,3,,EUR\nO,1,,USD", "line 3: currency 'USD' of 'O', and 'EUR' above; convert all"),
        ("Mg,3,,EUR\nOxygen,1,,EUR", "line 3: element: 'Oxygen' is no element"),
        ("Mg,3,,EUR\nMg,1,,EUR", "line 3: 'Mg' is there twice"),
    ],
)
def test_prices_that_cannot_be_name_their_line(tmp_path, text, told):
    path = tmp_path / "prices.csv"
    path.write_text(f"element,price_per_kg,volatility,currency\n{text}\n")
    with pytest.raises(MatmlError, match=told):
        read_prices(path)


def test_a_cost_does_not_lead():
    with pytest.raises(MatmlError, match="a cost is known and cannot lead; name what is"):
        parse_objectives([f"{COST} minimise", "band_gap_eV maximise"])
