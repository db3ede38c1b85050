"""Figures hold the right numbers, filter them as told, and carry nobody's markup."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from matml.core.files import read_table, write_json, write_table, write_text
from matml.figures.figure import columns, mark_of
from matml.figures.figure import matches as agrees
from matml.figures.plotly import specification
from matml.report.html.figure_set import Figures
from matml.report.html.results import Results
from matml.report.page import make_page
from matml.report.sections.kinetics.overview import kinetics_section
from matml.report.sections.kinetics.transformations import kinetics_figures
from matml.report.sections.properties.benchmark import benchmark_section, difference_figures
from matml.report.sections.properties.calibration import LEVELS, calibration_figures, coverage
from matml.report.sections.properties.chemistry import (
    by_element,
    candidate_maps,
    candidates_words,
    elements_of,
    family_maps,
)
from matml.report.sections.properties.learning_curves import curve_figures
from matml.report.sections.properties.parity import parity_figures, read_predictions
from matml.report.sections.properties.scores import Scores
from matml.report.sections.screening.pareto import aims, circles, front_of, pareto_figures
from matml.report.sections.screening.shortlist import shortlist_section
from matml.report.settings import ReportSection


def matches(trace, chosen):
    """Whether a trace of plotly is drawn for a choice."""
    return agrees(trace.get("meta", {}), chosen)


NORMAL = {0.5: 0.6745, 0.9: 1.6449, 0.95: 1.96}
PREDICTIONS = "properties/evaluation/predictions.parquet"


def predictions(**columns):
    """Two families of two crystals each, one method, five labels."""
    given = {
        "property": "formation_energy_eV_per_atom",
        "unit": "eV/atom",
        "method": "global_gp_gp",
        "shots": 5,
        "family": ["f1", "f1", "f2", "f2"],
        "common_name": ["rocksalt", "rocksalt", "spinel", "spinel"],
        "id": ["a/1", "a/2", "b/1", "b/2"],
        "formula": ["NaCl", "MgO", "MgAl2O4", "ZnFe2O4"],
        "truth": [0.0, 0.0, 0.0, 0.0],
        "prediction": [0.3, 0.5, 1.2, 0.0],
        "low": [-0.7, -0.5, 0.2, -1.0],
        "high": [1.3, 1.5, 2.2, 1.0],
    }
    return pd.DataFrame(given | columns)


def scores_of(name, method="global_gp_gp", more=()):
    row = {
        "property": name,
        "unit": "eV/atom",
        "method": method,
        "is_default": True,
        "shots": 5,
        "n_families": 2,
        "metric": "mae_family_mean",
        "value": 0.1,
        "low": 0.05,
        "high": 0.2,
    }
    return Scores(pd.DataFrame([row, *({**row, **extra} for extra in more)]), [method], {})


def titled(rows):
    return rows.assign(family_title=rows["common_name"])


def test_coverage_by_hand():
    table = coverage(predictions(), logarithmic=False).set_index("level")
    # half widths are 1 at 90 %, so a deviation of 0.608: errors 0.3, 0.5 | 1.2, 0
    assert table.loc[0.5, "value"] == pytest.approx(0.5 * (1 / 2 + 1 / 2))  # within 0.410
    assert table.loc[0.8, "value"] == pytest.approx(0.5 * (2 / 2 + 1 / 2))  # within 0.779
    assert table.loc[0.9, "value"] == pytest.approx(0.75)  # within 1
    assert table.loc[0.95, "value"] == pytest.approx(0.75)  # within 1.192
    assert table.loc[0.95, "n_families"] == 2
    # of two families no interval is told
    assert table["low"].isna().all()


def test_coverage_is_judged_on_the_logarithm_of_a_modulus():
    # symmetric in log10 about 100: 90 % interval from 50 to 200, a value at 190 is inside
    rows = predictions(
        property="bulk_modulus_GPa", truth=[190.0, 52.0, 210.0, 100.0], prediction=100.0,
        low=50.0, high=200.0,
    )  # fmt: skip
    table = coverage(rows, logarithmic=True).set_index("level")
    reach = math.log(2) / NORMAL[0.9]
    inside_50 = [abs(math.log(v / 100)) <= NORMAL[0.5] * reach for v in rows["truth"]]
    assert inside_50 == [False, False, False, True]
    assert table.loc[0.5, "value"] == pytest.approx(0.25)
    assert table.loc[0.9, "value"] == pytest.approx(0.75)
    assert table.loc[0.95, "value"] == pytest.approx(1.0)


def test_interval_over_families_holds_the_mean_and_narrows():
    random = np.random.default_rng(3)

    def table(families):
        n = 20 * families
        error = random.normal(0, 1 / 1.6449, n)
        rows = pd.DataFrame(
            {
                "family": np.repeat([f"f{i}" for i in range(families)], 20),
                "truth": 0.0, "prediction": error, "low": error - 1, "high": error + 1,
            }
        )  # fmt: skip
        return coverage(rows, logarithmic=False)

    few, many = table(5), table(80)
    for found in (few, many):
        assert (found["low"] <= found["value"]).all()
        assert (found["value"] <= found["high"]).all()
    # normal errors with right deviations are calibrated at every level
    assert np.abs(many["value"] - np.array(LEVELS)).max() < 0.04
    assert (many["high"] - many["low"]).mean() < (few["high"] - few["low"]).mean()


def test_the_evaluations_own_coverage_replaces_that_of_one_draw():
    name = "formation_energy_eV_per_atom"
    rows = titled(predictions())
    measured = [
        {"metric": f"coverage_{100 * level:.0f}", "value": 0.123 + level / 2, "n_families": 6}
        for level in LEVELS
    ]
    drawn = specification(calibration_figures(rows, scores_of(name, more=measured))[0])["data"][1]
    assert drawn["y"] == pytest.approx([100 * (0.123 + level / 2) for level in LEVELS], rel=1e-4)
    # an evaluation that measured one level only does not
    older = specification(calibration_figures(rows, scores_of(name, more=measured[4:5]))[0])[
        "data"
    ][1]
    assert older["y"][0] == pytest.approx(50)


def test_parity_holds_every_prediction_once_and_menus_part_them(results):
    found, scores = read_predictions(Results(results)), Scores.read(Results(results))
    spec = specification(parity_figures(found, scores)[0])
    marks = [trace for trace in spec["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == len(found)
    chosen = [t for t in marks if matches(t, {"shots": "10", "method": "chosen"})]
    own = found[found["method"] == "global_gp_gp"]
    assert sorted(v for t in chosen for v in t["x"]) == pytest.approx(
        sorted(own["truth"]), rel=1e-4
    )
    bar = chosen[0]["error_y"]
    assert bar["array"] == pytest.approx([20.0] * len(own), rel=1e-3)
    assert [t for t in marks if t["visible"]] == chosen


def test_many_crystals_are_thinned_and_it_is_said(results):
    file = results / PREDICTIONS
    rows = read_table(file)
    write_table(file, pd.concat([rows.head(40)] * 50))
    drawing = parity_figures(read_predictions(Results(results)), Scores.read(Results(results)))[0]
    marks = [trace for trace in specification(drawing)["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == 800
    assert "800 drawn of 2,000 crystals" in json.dumps(specification(drawing))


def test_families_of_one_name_stay_apart(results):
    file = results / PREDICTIONS
    table = read_table(file)
    half = np.where(np.arange(len(table)) % 2, "X1", "X2")
    write_table(file, table.assign(family=half, common_name="CdI2"))
    assert set(read_predictions(Results(results))["family_title"]) == {"CdI2 X1", "CdI2 X2"}


def test_marks_of_forty_nine_groups_differ():
    assert len({mark_of(i) for i in range(49)}) == 49


def test_hover_text_is_escaped(results):
    file = results / PREDICTIONS
    evil = "<img src=x onerror=alert(1)>"
    write_table(file, read_table(file).assign(formula=evil, common_name=evil, id=evil))
    rows = pd.read_csv(results / "screening/shortlist.csv").assign(formula=evil, rare_elements=evil)
    write_table(results / "screening/shortlist.csv", rows)
    text, _ = make_page(results, ReportSection())
    assert "<img" not in text
    # plotly, too, gets it as text: its own tags alone are markup
    for drawing in parity_figures(
        read_predictions(Results(results)), Scores.read(Results(results))
    ):
        told = [t for t in specification(drawing)["data"] if t["mode"] == "markers"]
        words = json.dumps([[t["customdata"], t["hovertemplate"]] for t in told])
        assert "<img" not in words
        assert "&lt;img" in words
    for drawing in pareto_figures(Results(results)):
        assert "<img" not in json.dumps([t["customdata"] for t in specification(drawing)["data"]])


def test_elements_of_formulas():
    assert elements_of("MgAl2O4") == ["Mg", "Al", "O"]
    assert elements_of("Ca0.5Sr0.5TiO3") == ["Ca", "Sr", "Ti", "O"]
    assert elements_of("Xx2O") == ["O"]
    assert elements_of("") == []


def test_map_by_hand():
    rows = titled(predictions()).assign(group=lambda table: table["family_title"])
    table = by_element(rows, ["prediction", "truth"]).set_index(["group", "element"])
    assert table.loc[("spinel", "O"), "prediction"] == pytest.approx((1.2 + 0.0) / 2)
    assert table.loc[("spinel", "O"), "n"] == 2
    assert table.loc[("spinel", "Mg"), "prediction"] == pytest.approx(1.2)
    assert table.loc[("rocksalt", "Mg"), "prediction"] == pytest.approx(0.5)
    # no crystal, no cell
    assert ("rocksalt", "Al") not in table.index
    drawing = family_maps(titled(predictions()), scores_of("formation_energy_eV_per_atom"))[0]
    assert specification(drawing)["layout"]["xaxis"]["categoryarray"] == [
        "O", "Na", "Mg", "Al", "Cl", "Fe", "Zn",
    ]  # fmt: skip
    shown = [t for t in specification(drawing)["data"] if t["visible"]]
    assert len(shown) == 1
    cells = dict(zip(zip(shown[0]["y"], shown[0]["x"], strict=True), shown[0]["z"], strict=True))
    assert cells[("spinel", "Fe")] == 0.0
    assert len(cells) == 4 + 5  # Na, Cl, Mg, O of rocksalt; Mg, Al, Zn, Fe, O of spinel


def test_candidates_of_one_family_are_mapped_by_site():
    rows = pd.DataFrame(
        {
            "formula": ["SrTiO3", "BaTiO3"], "common_name": "cubic perovskite", "family": "p",
            "site_A": ["Sr2+", "Ba2+"], "site_B": ["Ti4+", "Ti4+"], "prediction": [2.0, 3.0],
        }
    )  # fmt: skip
    [drawn] = candidate_maps(rows, [("refractive_index", "", "prediction")], "Of 10 labels.")
    assert drawn.title == "Refractive index of the cubic perovskite candidates by element"
    assert drawn.note.endswith("candidate. Of 10 labels.")
    trace = specification(drawn)["data"][0]
    cells = dict(zip(zip(trace["y"], trace["x"], strict=True), trace["z"], strict=True))
    assert cells == {("site A", "Sr"): 2.0, ("site A", "Ba"): 3.0, ("site B", "Ti"): 2.5}
    rows = rows.assign(common_name=["cubic perovskite", "other"])
    trace = specification(candidate_maps(rows, [("refractive_index", "", "prediction")])[0])[
        "data"
    ][0]
    assert set(trace["y"]) == {"cubic perovskite", "other"}
    assert candidates_words(rows) == "candidates"


def shortlist(n=60, seed=5, **columns):
    random = np.random.default_rng(seed)
    prediction = random.normal(2, 0.4, n)
    return pd.DataFrame(
        {
            "rank": np.arange(1, n + 1),
            "id": [f"c/{i}" for i in range(n)],
            "formula": [f"Sr{i + 1}TiO3" for i in range(n)],
            "property": "refractive_index",
            "prediction": prediction,
            "low": prediction - 0.2,
            "high": prediction + 0.2,
            "unit": "",
            "distance": random.uniform(0, 1.5, n).round(1),
            "in_domain": random.uniform(size=n) < 0.6,
        }
        | columns
    )


def write_shortlist(folder, rows, objectives):
    write_table(folder / "screening/shortlist.csv", rows)
    write_json(
        folder / "screening/summary.json",
        {"objectives": objectives, "properties": {"refractive_index": ""}, "notes": []},
    )


def brute_force(first, second):
    """Rows that no other is at least as good as in both, and better in one; larger is better."""
    pairs = list(zip(first, second, strict=True))
    return {
        i
        for i, (a, b) in enumerate(pairs)
        if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in pairs)
    }


@pytest.mark.parametrize("goal", ["maximise", "minimise"])
def test_pareto_front_equals_brute_force(empty_results, goal):
    rows = shortlist()
    write_shortlist(empty_results, rows, [f"refractive_index {goal}"])
    drawing = pareto_figures(Results(empty_results))[0]
    sign = 1 if goal == "maximise" else -1
    for trust, mask in (("all", np.ones(len(rows), bool)), ("inside", rows["in_domain"])):
        own = rows[mask].reset_index(drop=True)
        front = [
            t
            for t in specification(drawing)["data"]
            if t["name"] == "Pareto front" and matches(t, {"trust": trust})
        ]
        assert len(front) == 1
        wanted = own.loc[sorted(brute_force(sign * own["prediction"], -own["distance"]))]
        assert sorted(row[1] for row in front[0]["customdata"]) == sorted(wanted["rank"])
        # connected from one end to the other
        assert front[0]["x"] == sorted(front[0]["x"])
        # every candidate is there, lighter
        points = [
            t
            for t in specification(drawing)["data"]
            if t["mode"] == "markers" and matches(t, {"trust": trust})
        ]
        assert sum(len(t["x"]) for t in points) == len(own)
        assert all(t["marker"]["opacity"] < 1 for t in points)


def test_two_objectives_are_the_axes_and_a_window_is_met_or_not(empty_results):
    rows = shortlist(formation_energy_eV_per_atom=np.linspace(-3, 0, 60))
    wanted = ["refractive_index maximise", "formation_energy_eV_per_atom <= -1"]
    write_shortlist(empty_results, rows, wanted)
    found = aims(rows, {"objectives": wanted, "properties": {}})
    assert [aim.column for aim in found] == ["prediction", "formation_energy_eV_per_atom"]
    met = rows["formation_energy_eV_per_atom"] <= -1
    assert (found[1].worth[met] == 0).all()
    assert (found[1].worth[~met] < 0).all()
    drawings = pareto_figures(Results(empty_results))
    assert len(drawings) == 1
    assert "at most -1" in specification(drawings[0])["layout"]["xaxis"]["title"]["text"]


def test_known_crystals_are_left_out_of_the_front(empty_results):
    rows = shortlist(in_domain=True, duplicate_of="", strained_copy_of="", in_support=False)
    best, second = rows["prediction"].nlargest(2).index
    rows.loc[best, ["duplicate_of", "in_support"]] = "dielectric/mp-1", True
    rows.loc[second, "strained_copy_of"] = "dielectric/mp-2"
    write_shortlist(empty_results, rows, ["refractive_index maximise"])
    [drawing] = pareto_figures(Results(empty_results))
    drawn = {row[1] for t in specification(drawing)["data"] for row in t["customdata"]}
    assert drawn == set(rows["rank"]) - {rows["rank"][best], rows["rank"][second]}
    made = {"n_candidates": 60, "family": "cubic perovskite"}
    write_json(empty_results / "candidates/summary.json", made)
    text = shortlist_section(Results(empty_results), ReportSection())
    told = "2 equal a known crystal (1 but for its volume), 1 of them with a label that"
    assert told in text
    write_shortlist(empty_results, rows.loc[[best, second]], ["refractive_index maximise"])
    assert pareto_figures(Results(empty_results)) == []


def test_a_front_of_well_known_systems_is_shown_first_where_there_are_enough(empty_results):
    absent = ["Sr-Ti" if i % 2 else "" for i in range(60)]
    rows = shortlist(
        in_domain=True, energy_above_hull_eV_per_atom=np.linspace(0, 1, 60), hull_missing=absent,
        hull_entries=3,
    )  # fmt: skip
    write_shortlist(empty_results, rows, ["refractive_index maximise"])
    assert {name: int(mask.sum()) for name, mask in circles(rows).items()} == {
        "known": 30, "inside": 60, "all": 60,
    }  # fmt: skip
    drawings = pareto_figures(Results(empty_results))
    assert [d.subject.split(" (")[0] for d in drawings] == [
        "Energy above the hull of known phases", "Distance to the training data",
    ]  # fmt: skip
    traces = specification(drawings[0])["data"]
    (front,) = (t for t in traces if t["visible"] and t["name"] == "Pareto front")
    assert all(row[1] % 2 == 1 for row in front["customdata"])
    text = json.dumps(specification(drawings[0]), ensure_ascii=False)
    assert "no binary compound of Sr–Ti" in text


def test_no_candidate_inside_and_one_candidate_only(empty_results):
    write_shortlist(empty_results, shortlist(n=1, in_domain=False), ["refractive_index maximise"])
    drawing = pareto_figures(Results(empty_results))[0]
    assert [t["name"] for t in specification(drawing)["data"] if t["visible"]] == [
        "candidates not trusted", "Pareto front",
    ]  # fmt: skip


def test_paired_differences_and_what_they_mean():
    records = [
        {
            "setting": "B, within a family, bulk_modulus_GPa", "method": "ours",
            "is_default": True, "shots": shots, "metric": metric, "value": value,
            "low": value - 0.02, "high": value + 0.02, "n_tasks": 7,
        }
        for metric, value in (
            ("mae_reduction_against_extra_trees", 0.05),
            ("mae_reduction_against_support_gp", -0.03),
            ("mae_reduction_against_support_mean", 0.01),
            ("mae_reduction_against_0_shots", 0.5),
            ("mae_log10(GPa)_family_mean", 0.2),
        )
        for shots in (5, 10)
    ]  # fmt: skip
    drawing = difference_figures(pd.DataFrame(records))[0]
    trace = next(t for t in specification(drawing)["data"] if t["meta"]["shots"] == 10)
    assert trace["visible"]
    assert trace["x"] == [0.05, -0.03, 0.01]
    assert [row[2] for row in trace["customdata"]] == ["better", "worse", "no clear difference"]
    assert len(set(trace["marker"]["symbol"])) == 3  # not by colour alone
    assert "log10(GPa)" in specification(drawing)["layout"]["xaxis"]["title"]["text"]


def test_rounding_is_drawn_as_zero_on_the_axis_of_the_others_and_few_tasks_have_no_interval():
    records = [
        {
            "setting": "B, within a family, bulk_modulus_GPa", "method": "ours",
            "is_default": True, "shots": shots, "metric": "mae_reduction_against_extra_trees",
            "value": value, "low": value - wide, "high": value + wide, "n_tasks": tasks,
        }
        for shots, value, wide, tasks in ((1, 3e-18, 2e-17, 9), (5, 0.2, 0.1, 9), (20, 0.4, 0.3, 3))
    ]  # fmt: skip
    drawing = difference_figures(pd.DataFrame(records))[0]
    one, five, twenty = specification(drawing)["data"]
    assert one["x"] == one["error_x"]["array"] == one["error_x"]["arrayminus"] == [0]
    assert one["customdata"][0][2] == "no clear difference"
    assert five["error_x"]["array"] == pytest.approx([0.1])
    assert twenty["x"] == [0.4]
    assert twenty["error_x"]["array"] == [None]
    assert twenty["customdata"][0] == ["", 3, "too few tasks"]
    left, right = specification(drawing)["layout"]["xaxis"]["range"]
    assert -0.1 < left < 0 < 0.4 < right < 0.5
    # where all methods say the same, an axis that does not show rounding
    drawing = difference_figures(pd.DataFrame(records[:1]))[0]
    assert specification(drawing)["data"][0]["x"] == [0]
    left, right = specification(drawing)["layout"]["xaxis"]["range"]
    assert left < -0.1 < 0.1 < right


def test_intervals_over_two_families_are_not_drawn(results):
    file = results / "properties/evaluation/scores.csv"
    rows = pd.read_csv(file)
    rows["n_families"] = np.where(rows["shots"] == rows["shots"].max(), 3, 4)
    rows.to_csv(file, index=False)
    drawings = curve_figures(Scores.read(Results(results)))
    assert drawings
    shown = 0
    for drawing in drawings:
        for trace in specification(drawing)["data"]:
            ends = zip(trace["customdata"], trace["error_y"]["array"], strict=True)
            for (shots, words), end in ends:
                few = shots is None or shots == rows["shots"].max()
                assert (end is None) == (words == "") == few
                shown += not few
    assert shown


def level_files(folder, column, unit, observed):
    place = folder / "kinetics/mine/calibration/A1"
    temperature = np.linspace(900.0, 1200.0, 7)
    parts = [
        pd.DataFrame(
            {
                "time_s": time, "temperature_C": temperature, column: level,
                f"low_90_{unit}": 0.8 * level, f"high_90_{unit}": 1.2 * level,
                f"least_squares_{unit}": 1.1 * level,
            }
        )
        for time, level in ((60.0, 12.5), (3600.0, 47.25))
    ]  # fmt: skip
    write_table(place / "ttt.csv", pd.concat(parts))
    write_json(place / "calibration.json", {"alloy": "A1", "observations": 1})
    write_table(
        place / "observations.csv",
        pd.DataFrame({"temperature_K": [1273.15], "time_s": [60.0], column: [observed]}),
    )
    write_json(folder / "kinetics/mine/summary.json", {"simulated": False})
    write_table(
        folder / "kinetics/mine/observations.csv",
        pd.DataFrame(
            {
                "alloy": ["A1", "A1", "A2"], "temperature_C": [1000.0, 1100.0, 1000.0],
                "time_s": [60.0, 60.0, 60.0], column: [observed, 2 * observed, 1.0],
            }
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("column", "unit", "shown", "scale"),
    [
        ("grain_size_um", "um", "grain size (µm)", "log"),
        ("hardness_HRC", "HRC", "hardness (HRC)", None),
    ],
)
def test_grain_growth_and_hardness_have_a_diagram(empty_results, column, unit, shown, scale):
    level_files(empty_results, column, unit, 15.5)
    (drawing,) = kinetics_figures(Results(empty_results))
    layout = specification(drawing)["layout"]
    assert layout["yaxis"]["title"]["text"] == shown
    assert layout["yaxis"].get("type") == scale
    named = {t["name"]: t for t in specification(drawing)["data"]}
    assert named["60 s"]["y"] == [12.5] * 7
    assert named["60 s, 90 % band"]["y"] == pytest.approx([10.0] * 7 + [15.0] * 7)
    assert named["observed, used"]["y"] == [15.5]
    assert named["observed, not used"]["y"] == [31.0]  # of this alloy, and not the used one
    assert "simulated" not in drawing.title + drawing.note


def test_cooling_starts_where_the_table_counts_from(empty_results):
    place = empty_results / "kinetics/mine/calibration/A1"
    rates = np.array([0.1, 1.0, 10.0])
    at = np.array([650.0, 600.0, 550.0])
    write_table(
        place / "cct.csv",
        pd.DataFrame(
            {
                "fraction": 0.5, "cooling_rate_K_s": rates, "time_s": (720 - at) / rates,
                "temperature_C": at, "low_90_C": at - 5, "high_90_C": at + 5,
            }
        ),
    )  # fmt: skip
    write_json(place / "calibration.json", {"alloy": "A1"})
    (drawing,) = kinetics_figures(Results(empty_results))
    assert "from 720 °C" in drawing.note
    named = {t["name"]: t for t in specification(drawing)["data"]}
    line = named["cooling at 1 K/s"]
    assert np.allclose(np.array(line["x"]) * 1.0 + np.array(line["y"]), 720, atol=1e-3)
    assert named["50 %"]["y"] == [650.0, 600.0, 550.0]
    # what is not told to be measured is labelled as simulated
    assert "A1 (simulated data)" in drawing.title


def test_menus_are_labelled_and_figures_described(finished):
    text, _ = make_page(finished, ReportSection())
    menus = re.findall(r'<select id="(menu-[^"]+)"', text)
    assert len(menus) == len(set(menus)) > 0
    assert sorted(menus) == sorted(re.findall(r'<label for="(menu-[^"]+)"', text))
    assert 'aria-label="Bulk modulus, predicted against calculated: 40 crystals' in text


def test_older_predictions_without_intervals_are_drawn_and_told(results):
    file = results / PREDICTIONS
    write_table(file, read_table(file).drop(columns=["low", "high", "formula", "unit"]))
    text, _ = make_page(results, ReportSection())
    assert "The single predictions of this run have no intervals." in text
    assert "predicted against calculated: 40 crystals" in text
    file.unlink()
    text, _ = make_page(results, ReportSection())
    assert "This run has kept no single predictions." in text


def test_a_broken_calibration_folder_gets_a_sentence(results):
    place = next(results.glob("kinetics/*/calibration/*"))
    write_text(place / "ttt.csv", "temperature_C,unknown\n500,1\n")
    text, _ = make_page(results, ReportSection())
    assert "No diagram was made for this alloy" in text


def test_no_number_of_labels_leaves_a_figure_of_the_benchmark_empty(empty_results):
    records = [
        {
            "setting": f"B, {kind}, bulk_modulus_GPa", "method": "ours", "is_default": True,
            "shots": k, "metric": metric, "value": 0.1, "low": 0.05, "high": 0.2, "n_tasks": 7,
        }
        for kind, shots in (("within a family", (1, 5)), ("pooled over families", (10, 25)))
        for k in shots
        for metric in ("mae_reduction_against_extra_trees", "mae_log10(GPa)_family_mean")
    ]  # fmt: skip
    write_json(empty_results / "properties-benchmark/B.json", records)
    markup = benchmark_section(Results(empty_results), Figures())
    menus = re.findall(r"<select.*?</select>", markup, re.DOTALL)
    assert [re.findall(r'<option value="(\d+)"', menu) for menu in menus] == [
        ["1", "5"],
        ["10", "25"],
    ]


def test_a_legend_shows_each_line_as_it_is_drawn(results):
    """More methods than colours differ by dashes alone."""
    file = results / "kinetics/simulated_ttt/scores.csv"
    scores = pd.read_csv(file)
    plain = scores[~scores["is_default"]]
    more = [
        plain.assign(method=f"method {n}", value=plain["value"] * (1.1 + n / 10)) for n in range(10)
    ]
    write_table(file, pd.concat([scores, *more], ignore_index=True))
    figures = Figures()
    text = kinetics_section(Results(results), figures)
    lines = {
        trace["meta"]["method"]: (trace["line"]["color"], trace["line"]["dash"])
        for trace in figures.specs[0]["data"]
    }
    found = re.findall(r'data-method="([^"]*)" style="--colour:(#\w+);--dash:(\w+)"', text)
    words = {"dashed": "dash", "dotted": "dot", "solid": "solid"}
    assert {name: (colour, words[dash]) for name, colour, dash in found} == lines
    assert len(set(lines.values())) == len(lines)
    assert {dash for _, dash in lines.values()} == {"solid", "dash"}


def test_a_long_name_of_a_bar_is_broken():
    names = ["properties-stack-formation_energy_eV_per_atom", "report"]
    spec = specification(columns("times", "Run times", names, [2.0, 1.0], "seconds"))
    assert spec["data"][0]["y"] == names
    broken = ["properties-stack-<br>formation_energy_eV_per_atom", "report"]
    assert spec["layout"]["yaxis"]["ticktext"] == broken


def test_methods_that_gave_the_same_numbers_are_one_row_and_one_line(results):
    file = results / "kinetics/simulated_ttt/scores.csv"
    assert "gave the same numbers" not in kinetics_section(Results(results), Figures())
    scores = pd.read_csv(file)
    twin = scores[~scores["is_default"]].assign(method="maml")
    write_table(file, pd.concat([scores, twin], ignore_index=True))
    figures = Figures()
    text = kinetics_section(Results(results), figures)
    assert "Methods joined by “=” gave the same numbers." in text
    names = [trace["name"] for trace in figures.specs[0]["data"]]
    assert names[1:] == ["least squares, generic start = MAML"]
    assert figures.specs[0]["data"][1]["meta"]["method"] == ["least squares, generic start", "maml"]
    assert text.count("least squares, generic start = MAML") == 4  # legend, line, row and its value
    assert 'data-method="maml"' not in text


def test_a_front_is_that_of_the_definition():
    generator = np.random.default_rng(0)
    for size in range(40):
        one, other = generator.integers(0, 6, (2, size)).astype(float)
        one[generator.random(size) < 0.1] = np.nan
        rows = np.flatnonzero(generator.random(size) < 0.8)
        criteria = np.stack([one, other], 1)[rows]
        whole = rows[np.isfinite(criteria).all(1)]
        expected = [
            i
            for i in whole
            if not any(
                one[j] >= one[i]
                and other[j] >= other[i]
                and (one[j], other[j]) != (one[i], other[i])
                for j in whole
            )
        ]
        aims = (SimpleNamespace(worth=worth) for worth in (one, other))
        assert front_of(*aims, rows).tolist() == expected
