import json

import pytest

from matml.report.html.markup import Cell, bullets, formula, interval, number, script_json, table
from matml.report.html.wording import property_title, split_unit, title_of, unit_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0783, "0.0783"),
        (1234.5, "1,234"),
        (-0.5, "−0.500"),
        (0, "0"),
        (float("nan"), "–"),
        (None, "–"),
        (float("inf"), "–"),
        (2.5e8, "2.50×10<sup>8</sup>"),
        (9.996, "10.0"),
        (999.6, "1,000"),
        (3e-7, "3.00×10<sup>-7</sup>".replace("-", "−")),
    ],
)
def test_numbers_are_written_for_people(value, shown):
    assert number(value) == shown


def test_an_interval_without_ends_is_left_out():
    assert interval(0.1, 0.25) == "[0.100, 0.250]"
    assert interval(float("nan"), 1.0) == ""


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("SrTiO3", "SrTiO<sub>3</sub>"),
        ("Ca(OH)2", "Ca(OH)<sub>2</sub>"),
        ("Fe0.5Ni0.5", "Fe<sub>0.5</sub>Ni<sub>0.5</sub>"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_formulas_have_subscripts(text, markup):
    assert formula(text) == markup


def test_json_cannot_end_its_script_and_has_no_nan():
    text = script_json({"a": "</script>", "b": [float("nan"), 1.5]})
    assert "</" not in text
    assert json.loads(text) == {"a": "</script>", "b": [None, 1.5]}


def test_tables_carry_the_full_value_for_sorting():
    text = table(["x"], [[Cell("0.1", 0.123456, "num")]], sortable=True)
    assert 'data-value="0.123456"' in text
    assert "<button" in text


def test_words():
    assert split_unit("formation_energy_eV_per_atom") == ("formation energy", "eV/atom")
    assert property_title("refractive_index") == "refractive index"
    assert title_of("simulated_ttt") == "Simulated TTT"
    assert unit_text(float("nan")) == unit_text("1") == ""


def test_sentences_of_results_have_true_minus_signs():
    told = bullets(["less by -0.34 [-.5, 1] at -12 °C", "mp-123, 10-20, 2026-11-29, -Hg, a<b"])
    assert "−0.34 [−.5, 1] at −12 °C" in told
    assert "mp-123, 10-20, 2026-11-29, -Hg, a&lt;b" in told
    assert bullets([]) == ""
