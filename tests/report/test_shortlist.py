"""The shortlist as it stands in the page's markup: reasons, neighbours, files to save."""

import base64
import io
import json
import re
import zipfile
from shutil import copytree

import pandas as pd
import pytest

from matml.core.files import read_json, write_json
from matml.report.html.markup import number
from matml.report.html.results import Results
from matml.report.html.wording import ordinal
from matml.report.page import make_page
from matml.report.sections.overview import overview
from matml.report.sections.screening.candidate import (
    HULL,
    absent_words,
    candidate_template,
    charged,
    stability_words,
)
from matml.report.sections.screening.pareto import candidate_map_figures
from matml.report.sections.screening.shortlist import predicted_properties
from matml.report.settings import ReportSection
from matml.screening.objectives import objective_words


@pytest.fixture(scope="module")
def markup(several_results):
    return make_page(several_results, ReportSection())[0]


def template(markup: str, rank: int) -> str:
    [found] = re.findall(rf'<template id="candidate-{rank}">(.*?)</template>', markup, re.DOTALL)
    return found


def test_every_candidate_shown_opens(markup):
    opened = re.findall(r'data-open="(\d+)"', markup)
    assert opened == [str(rank) for rank in range(1, 25)]
    assert all(template(markup, int(rank)) for rank in opened)


def test_why_a_candidate_ranks_there(markup, several_results):
    row = pd.read_csv(several_results / "screening/shortlist.csv").iloc[1]
    text = re.sub(r"<.*?>", " ", template(markup, 2))
    for value in (row["prediction"], row["band_gap_eV"], row["energy_above_hull_eV_per_atom"]):
        assert number(value) in text
    assert f"{number(100 * 0.87654 / 2, 2)} %" in text  # chance of its window
    assert f"{number(100 * row['probability'], 2)} %" in text  # of all
    assert "2nd of 4,242" in text
    assert "By score alone it is 1st; it was moved down" in text
    assert "first Pareto front" in text
    gap = "The hull holds no binary compound of Sb–S (these data give no formation energy of one)"
    assert gap not in text
    assert gap in re.sub(r"<.*?>", " ", template(markup, 4))
    assert "Equal to the known crystal dielectric/mp-9" in template(markup, 24)
    assert "rare: Rb" in template(markup, 24)


def test_neighbours_with_their_known_values(markup):
    own = template(markup, 1)
    for value in ("4.625", "203.5", "2.375", "0.4"):
        assert f'data-value="{value}"' in own
    assert "marcasite &lt;b&gt;" in own
    assert "cubic perovskite (same prototype)" in own
    # of a candidate that was not explained, the nearest one of the shortlist is told
    assert "dielectric/mp-1 (PtO2): 20 % of the atoms" in template(markup, 9)


def test_files_to_save_are_those_of_the_run(markup, several_results):
    [data] = re.findall(
        r'download="candidates-cif.zip" href="data:application/zip;base64,(.*?)"', markup
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as archive:
        assert archive.namelist() == ["01.cif", "02.cif", "03.cif"]
        for name in archive.namelist():
            file = several_results / "screening/candidates" / name
            assert archive.read(name).decode() == file.read_text()
    [held] = re.findall(r'id="shortlist-data">(.*?)</script>', markup)
    held = json.loads(held)
    text = "\n".join([held["head"], *held["rows"].values(), ""])
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(text)), pd.read_csv(several_results / "screening/shortlist.csv")
    )


def test_the_same_results_make_the_same_page(markup, several_results):
    assert make_page(several_results, ReportSection())[0] == markup


def test_the_first_screen_names_the_best_new_candidate(markup):
    first = markup.split('<section id="shortlist"')[0]
    text = re.sub(r"<.*?>", "", first)
    # the list's second by its order, which is chosen to be diverse, and its first by score
    assert (
        "Of 4,242 candidates, the best by score whose composition is not in these data is BiSbS3"
        in text
    )
    assert "the rest follow by score; a click on “by score” sorts all best first" in re.sub(
        r"<.*?>", "", markup
    )
    assert "for this list nothing was calculated or made" in text
    assert "stability, eV/atom above the hull" in text
    assert "utside the domain" not in text
    assert "simulated data" in text
    # errors without a paired difference are shown, and nothing is claimed of them
    assert "For each property, its error beside that of the best simple method." in text


def test_the_first_screen_tells_of_candidates_outside_the_domain(results):
    file = results / "screening/shortlist.csv"
    pd.read_csv(file).assign(known_composition=False).to_csv(file, index=False)
    text = overview(Results(results))
    assert text.count("<br>outside the domain") == 1
    assert "BaTiO<sub>3</sub><br>outside the domain" in text
    assert "lies outside the model’s domain" not in text
    pd.read_csv(file).assign(in_domain=False).to_csv(file, index=False)
    assert "lies outside the model’s domain" in overview(Results(results))


def test_what_a_hull_lacks_is_named_as_formulas_are():
    assert absent_words("O-Cd") == "no binary compound of Cd–O"
    told = "no binary compound of Ca–O or Ca–Ru and no compound of Xe"
    assert absent_words("Xe O-Ca Ca-Ru") == told


def test_given_labels_stand_beside_what_is_expected_beyond_them(several_results):
    rows = pd.read_csv(several_results / "screening/shortlist.csv")
    row = rows.iloc[1].to_dict() | {"prediction": 2.5, "expected_improvement": 0.25}
    given = [{"property": "refractive_index", "value": value} for value in (1.5, 2.25, 2)]
    summary = {
        "objectives": ["refractive_index maximise"],
        "logarithmic": ["refractive_index"],
        "support": given,
        "n_in_domain": 19,
    }
    predicted = predicted_properties(rows, summary)

    def told(**changed):
        text = candidate_template(row, predicted, None, summary | changed)
        return re.sub(r"<.*?>", "", text)

    text = told()
    assert "over the best of the 3 given labels (2.25): 0.250 in log10 (a factor of 1.78)." in text
    assert "above all 3 given labels (1.50 to 2.25): an extrapolation within the family" in text
    assert "By score alone it is 1st of the 19 trusted candidates; it was moved down" in text
    lowest = told(objectives=["refractive_index minimise"])
    assert "over the best of the 3 given labels (1.50): 0.250 in log10" in lowest
    near = told(objectives=["refractive_index = 1.9"])
    assert "given labels (2.00), in the distance to 1.9: 0.250 in log10" in near
    gaps = [{"property": "band_gap_eV", "value": value} for value in (1.5, 2.25)]
    units = {"objectives": ["band_gap_eV maximise"], "properties": {"band_gap_eV": "eV"}}
    assert "given labels (2.25): 0.250 eV." in told(support=gaps, logarithmic=[], **units)
    wider = told(support=[*given, {"property": "refractive_index", "value": 3.0}])
    assert "an extrapolation" not in wider


def test_charges_are_written_as_usual():
    assert charged("Pb+2 K+1 O-2 Fe+2.5") == "Pb²⁺ K⁺ O²⁻ Fe+2.5"


@pytest.mark.parametrize(
    ("low", "high", "missing", "words"),
    [
        (0.1, 0.3, "", "above the hull"),
        (0.1, 0.3, "S-Sb", "above the hull"),  # what is missing could only bring the hull down
        (-0.1, 0.3, "S-Sb", "unknown: gaps"),
        (-0.3, -0.1, "S-Sb", "unknown: gaps"),
        (-0.1, 0.3, "", "near the hull"),
        (-0.3, -0.1, "", "below the hull"),
    ],
)
def test_stability_is_unknown_only_where_what_is_missing_could_change_it(low, high, missing, words):
    row = {HULL: (low + high) / 2, f"{HULL}_low": low, f"{HULL}_high": high}
    assert stability_words(row | {"hull_missing": missing}) == words


def test_the_first_interval_stands_beside_how_many_known_values_such_intervals_held(results):
    summary = read_json(results / "screening/summary.json")
    check = {"n": 12, "held_out": True, "share_inside_90_percent_interval": 8 / 12}
    write_json(results / "screening/summary.json", summary | {"check_on_known": check})
    text = re.sub(r"<.*?>", "", overview(Results(results)))
    told = "such intervals hold 8 of 12 known values of candidates that the model was not given"
    assert text.index("90 % interval") < text.index(told) < text.index("Predicted")
    # what the model may have learned says nothing of its intervals
    seen = check | {"held_out": False}
    write_json(results / "screening/summary.json", summary | {"check_on_known": seen})
    assert "was not given" not in overview(Results(results))


def test_a_hostile_formula_stays_text(results):
    file = results / "screening/shortlist.csv"
    table = pd.read_csv(file)
    table["formula"] = "<img src=x onerror=alert(1)>"
    table["oxidation_states"] = "</template><script>alert(2)</script>"
    table.to_csv(file, index=False)
    text = make_page(results, ReportSection())[0]
    assert "<img src=x" not in text
    assert "<script>alert(2)" not in text


def test_words():
    assert objective_words("bulk_modulus_GPa >= 150") == "bulk modulus (GPa) ≥ 150"
    assert objective_words("refractive_index maximise") == "highest refractive index"
    assert objective_words("band_gap_eV = 1.5") == "band gap (eV) near 1.5"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 22, 1003)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "22nd", "1,003rd",
    ]  # fmt: skip


def test_explained_of_an_older_run_may_be_missing(results):
    assert not (results / "screening/explained.json").exists()
    write_json(results / "screening/explained.json", [])
    assert read_json(results / "screening/explained.json") == []
    assert "Why it ranks here" in make_page(results, ReportSection())[0]


@pytest.mark.parametrize("met", [0, 3])
def test_the_first_screen_says_where_nothing_meets_the_window(several_results, tmp_path, met):
    """The first of a ranking by a window that nothing meets is no find."""
    copytree(several_results, tmp_path / "results")
    file = tmp_path / "results/screening/summary.json"
    write_json(file, read_json(file) | {"n_meet_all_windows": met})
    shortlist = tmp_path / "results/screening/shortlist.csv"
    table = pd.read_csv(shortlist)
    table.assign(probability=[1e-25, 2e-3, *table["probability"][2:]]).to_csv(
        shortlist, index=False
    )
    made = make_page(tmp_path / "results", ReportSection())[0]
    said = "is predicted to meet the window. Of 4,242 candidates, the best by score whose"
    assert (said in re.sub(r"<.*?>", "", made)) == (met == 0)
    # digits of a normal distribution's tail are no knowledge
    assert "&lt; 0.1 %" in template(made, 1)
    assert "at once: 0.20 %" in template(made, 2)
    assert "×10<sup>" not in template(made, 1)


def test_candidates_are_mapped_for_every_property(several_results, tmp_path):
    folder = tmp_path / "results"
    copytree(several_results, folder)
    table = pd.read_csv(folder / "screening/shortlist.csv")
    table = table.assign(common_name="rutile", family="AB2_tP6_136_a_f")
    table.to_csv(folder / "screening/shortlist.csv", index=False)
    maps = candidate_map_figures(Results(folder))
    assert [item.subject for item in maps] == ["refractive_index", "band_gap_eV"]
