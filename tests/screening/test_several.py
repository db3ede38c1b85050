"""Several objectives at once, windows that nothing meets, and stability, from files to files."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from ridge_screening import PROPERTY, RidgePredictor, run

from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.core.statistics import NORMAL_90
from matml.core.text.words import interval_text, number_text
from matml.properties.data.targets import find_property
from matml.screening.data.reader import read_chunks
from matml.screening.data.support import read_supports
from matml.screening.objectives import parse_objectives
from matml.screening.select import run as shortlist
from matml.screening.select import shortlist as finish
from matml.screening.select.diversity import dominated_by
from matml.screening.select.summary import _window_notes
from matml.screening.select.top_k import Keeper, merge_states
from matml.structures.settings import STRUCTURES

ENERGY = "formation_energy_eV_per_atom"
HULL = "energy_above_hull_eV_per_atom"


class EnergyPredictor(RidgePredictor):
    """The ridge predictor with one more property; without labels it gives a constant."""

    properties = {**RidgePredictor.properties, ENERGY: "eV/atom"}  # noqa: RUF012

    def adapt(self, crystals, values, property_name, **options):
        if len(values):
            return super().adapt(crystals, values, property_name, **options)
        return Constant()


class Constant:
    """One value for all, which no label has shaped."""

    method, item, warnings = "constant", find_property(ENERGY), ()

    def predict_table(self, crystals):
        size = len(crystals)
        values = {"prediction": -2.0, "low": -2.5, "high": -1.5, "distance": 0.5}
        return pd.DataFrame({name: np.full(size, v) for name, v in values.items()}).assign(
            in_domain=True
        )


@pytest.fixture(autouse=True)
def predictor(monkeypatch):
    monkeypatch.setattr(shortlist, "load_predictor", lambda *_, **__: EnergyPredictor())


@pytest.fixture
def support(prepared, tmp_path):
    """Indices of all eight crystals; gaps of some."""
    known = read_table(prepared / "structures" / "structures.parquet").set_index("id")
    table = read_table(prepared / "support.csv")
    table["band_gap_eV"] = known.loc[table["id"], "band_gap_eV"].to_numpy()
    table.loc[2:3, "band_gap_eV"] = np.nan
    assert table["band_gap_eV"].notna().sum() > 3
    table.to_csv(tmp_path / "support.csv", index=False)
    return tmp_path / "support.csv"


def screen(prepared, out, support, *objectives, options=()):
    model = prepared / "model"
    model.mkdir(exist_ok=True)
    stated = [word for text in objectives for word in ("--objective", text)]
    run(
        "screen", "--model", model, "--known", prepared / "structures", "--support", support,
        "--out", out, "--threads", 1, "--candidates", prepared / "candidates",
        "--config", prepared / "screening.yaml", *stated, *options,
    )  # fmt: skip
    return read_table(out / "shortlist.csv"), json.loads((out / "summary.json").read_text())


def test_two_properties_with_gaps_in_the_support(prepared, tmp_path, support):
    table, summary = screen(
        prepared, tmp_path / "out", support, f"{PROPERTY} maximise", "band_gap_eV >= 5"
    )
    assert summary["properties"] == {PROPERTY: "", "band_gap_eV": "eV"}
    by_property = pd.DataFrame(summary["support"]).groupby("property").size()
    assert by_property[PROPERTY] == 8
    assert 3 < by_property["band_gap_eV"] < 8
    assert (table["property"] == PROPERTY).all()
    assert table["probability"].between(0, 1).all()
    # the probability of the window by its definition, from the columns given
    from scipy.stats import norm

    deviation = (table["band_gap_eV_high"] - table["band_gap_eV_low"]) / 2 / NORMAL_90
    expected = norm.sf(5, table["band_gap_eV"], deviation)
    np.testing.assert_allclose(table["probability"], expected, atol=1e-4)
    inside = table[table["in_domain"]]
    assert inside["score"].is_monotonic_decreasing
    criteria = np.column_stack([np.log(inside["prediction"]), norm.logsf(
        5, inside["band_gap_eV"], deviation[: len(inside)])])  # fmt: skip
    assert ((inside["pareto_front"] == 1) == ~dominated_by(criteria, criteria)).all()


def test_ranking_by_front_and_by_probability(prepared, tmp_path, support):
    stated = f"{PROPERTY} maximise", "band_gap_eV >= 5"
    table, _ = screen(prepared, tmp_path / "a", support, *stated, options=("--rank-by", "pareto"))
    assert table[table["in_domain"]]["pareto_front"].is_monotonic_increasing
    table, _ = screen(
        prepared, tmp_path / "b", support, *stated, options=("--rank-by", "probability")
    )
    assert table[table["in_domain"]]["probability"].is_monotonic_decreasing
    table, _ = screen(
        prepared, tmp_path / "c", support, *stated, options=("--rank-by", "expected_improvement")
    )
    worth = table["expected_improvement"] * table["probability"]
    assert worth[table["in_domain"]].is_monotonic_decreasing


def test_a_window_that_nothing_meets_names_the_nearest(prepared, tmp_path, support):
    table, summary = screen(prepared, tmp_path / "out", support, "band_gap_eV >= 60")
    assert summary["n_meet_all_windows"] == 0
    best = table[table["in_domain"]].loc[lambda t: t["prediction"].idxmax()]
    [note] = [n for n in summary["notes"] if "No candidate" in n]
    assert f"band gap (eV) ≥ 60: the nearest is {best['formula']}" in note
    assert f"{number_text(best['prediction'])} {interval_text(best['low'], best['high'])}" in note
    # though all probabilities vanish, the order still tells which come nearest
    assert table["probability"].max() < 1e-12
    assert table["formula"][0] == best["formula"]


def test_the_nearest_to_a_window_is_nearest_by_prediction_not_the_least_certain():
    table = pd.DataFrame({"in_domain": True, "id": ["sure", "vague"], "formula": ["A", "B"]})
    table = table.assign(probability=0.0, **{ENERGY: [-3.4, -2.5]})
    table[f"{ENERGY}_low"], table[f"{ENERGY}_high"] = [-3.41, -4.5], [-3.39, -0.5]
    windows = parse_objectives([f"{ENERGY} <= -30"])
    keeper = Keeper(10, ENERGY, windows)
    keeper._note_nearest(table, np.array([[2660.0], [14.0]]))
    assert keeper.nearest[str(windows[0])]["id"] == "sure"


def test_a_window_of_candidates_outside_the_domain_is_spoken_of_too():
    table = pd.DataFrame({"in_domain": False, "id": ["near", "far"], "formula": ["A", "B"]})
    table = table.assign(probability=0.0, **{ENERGY: [-3.4, -2.5]})
    table[f"{ENERGY}_low"], table[f"{ENERGY}_high"] = table[ENERGY] - 0.1, table[ENERGY] + 0.1
    state = {"properties": {ENERGY: "eV/atom"}}
    windows = parse_objectives([f"{ENERGY} <= -30"])
    shares = []
    for rows in (table, table.assign(in_domain=[False, True], id=["near", "trusted"])):
        keeper = Keeper(10, ENERGY, windows)
        keeper._note_nearest(rows, np.array([[260.0], [270.0]]))
        shares.append(keeper.state())
    [note] = _window_notes(windows, state | merge_states(shares[:1]))
    assert "none is trusted to meet formation energy (eV/atom) ≤ −30" in note
    assert "A (near) with −3.40 [−3.50, −3.30] comes nearest" in note
    # one candidate of the domain goes before nearer ones outside, in whatever order they come
    for order in (shares, shares[::-1]):
        [note] = _window_notes(windows, state | merge_states(order))
        assert "the nearest is B (trusted) with −2.50 [−2.60, −2.40]" in note
    # what is met outside of the domain only is said to be
    met = parse_objectives([f"{ENERGY} <= -3"])
    keeper = Keeper(10, ENERGY, met)
    keeper._note_nearest(table, np.array([[0.0], [0.5]]))
    [note] = _window_notes(met, state | keeper.state())
    assert "A (near) with −3.40 [−3.50, −3.30] is predicted to meet it" in note


def test_the_leading_property_may_be_without_a_column(prepared):
    path = prepared / "support.csv"
    known = set(read_table(prepared / "structures" / "structures.parquet")["id"])
    assert set(read_supports(path, [ENERGY, PROPERTY], known)) == {PROPERTY}
    with pytest.raises(MatmlError, match=f"no column '{ENERGY}'"):
        read_supports(path, [ENERGY], known)


def test_windows_that_exclude_each_other(prepared, tmp_path, support):
    _, summary = screen(
        prepared, tmp_path / "out", support, f"{PROPERTY} <= 1.45", f"{PROPERTY} maximise",
        "band_gap_eV <= 4",
    )  # fmt: skip
    notes = " ".join(summary["notes"])
    assert ("Each window is met" in notes) or ("No candidate within the domain" in notes)
    assert summary["n_meet_all_windows"] == 0


def test_an_objective_that_the_model_lacks(prepared, tmp_path, support):
    with pytest.raises(MatmlError, match="has no column 'bulk_modulus_GPa'"):
        screen(prepared, tmp_path / "out", support, "bulk_modulus_GPa >= 100")


def test_a_property_without_labels_is_predicted_as_it_is_and_told(prepared, tmp_path, support):
    known = read_table(prepared / "structures" / "structures.parquet")
    with_energies = known.assign(**{ENERGY: np.linspace(-3, -1, len(known))})
    folder = tmp_path / "known"
    folder.mkdir()
    write_table(folder / "structures.parquet", with_energies, STRUCTURES)
    (folder / "summary.json").write_text((prepared / "structures" / "summary.json").read_text())
    model = prepared / "model"
    run(
        "screen", "--model", model, "--known", folder, "--support", support, "--threads", 1,
        "--out", tmp_path / "out", "--candidates", prepared / "candidates",
        "--objective", f"{PROPERTY} maximise", "--objective", f"{HULL} <= 0.2",
        "--config", prepared / "screening.yaml",
    )  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert any("Formation energy: no label of this family was given" in n for n in summary["notes"])
    assert any("lower bounds" in n for n in summary["notes"])
    table = read_table(tmp_path / "out" / "shortlist.csv")
    np.testing.assert_allclose(table[ENERGY], -2)
    hull = table[ENERGY] - table[HULL]
    assert (hull <= 1e-9).all()
    # KMgF3 is known: the hull is at or below its energy
    energy = with_energies.set_index("formula")[ENERGY]["KMgF3"]
    assert hull[table["formula"] == "KMgF3"].iloc[0] <= np.min(energy) + 1e-5
    np.testing.assert_allclose(table[f"{HULL}_high"] - table[HULL], 0.5, atol=1e-5)


def test_stability_of_the_best_comes_unasked(prepared, tmp_path, support, monkeypatch):
    known = read_table(prepared / "structures" / "structures.parquet")
    folder = tmp_path / "known"
    folder.mkdir()
    write_table(folder / "structures.parquet", known.assign(**{ENERGY: -2.0}), STRUCTURES)
    model = prepared / "model"
    shared = (
        "screen", "--model", model, "--known", folder, "--support", support, "--threads", 1,
        "--candidates", prepared / "candidates", "--property", PROPERTY,
    )  # fmt: skip
    run(*shared, "--out", tmp_path / "with")
    table = read_table(tmp_path / "with" / "shortlist.csv")
    assert {HULL, f"{HULL}_low", "hull_entries", "decomposes_into", "nearest_known"} <= set(table)
    # each of several shares looks up its own best; the shortlist tells of as many as of one run
    monkeypatch.setattr(shortlist, "read_chunks", partial(read_chunks, size=10))
    for module in (shortlist, finish):
        monkeypatch.setattr(module, "DESCRIBED", 12)
    run(*shared, "--out", tmp_path / "one")
    merge = ["screen", "merge", "--out", tmp_path / "merged"]
    for number in range(2):
        run(*shared, "--out", tmp_path / f"{number}", "--shard", number, "--shards", 2)
        merge += ["--shard", tmp_path / f"{number}"]
    run(*merge)
    one, merged = (read_table(tmp_path / name / "shortlist.csv") for name in ("one", "merged"))
    assert len(one) > 12
    assert one[HULL].notna().sum() == 12
    pd.testing.assert_frame_equal(one, merged)
    (tmp_path / "off.yaml").write_text("stability: false\n")
    run(*shared, "--out", tmp_path / "without", "--config", tmp_path / "off.yaml")
    assert HULL not in read_table(tmp_path / "without" / "shortlist.csv")


def test_the_first_candidates_are_not_alike(prepared, tmp_path, support):
    stated = (f"{PROPERTY} maximise",)
    plain, told = screen(prepared, tmp_path / "a", support, *stated, options=("--diversity", 0))
    spread, _ = screen(prepared, tmp_path / "b", support, *stated, options=("--diversity", 0.6))
    assert plain["rank"].tolist() == plain["score_rank"].tolist()
    assert told["similarity_of_the_first"]["by_score"] == pytest.approx(
        told["similarity_of_the_first"]["as_chosen"]
    )
    found = json.loads((tmp_path / "b" / "summary.json").read_text())["similarity_of_the_first"]
    assert found["as_chosen"] < 0.9 * found["by_score"]
    assert spread["score_rank"][0] == 1
    assert set(spread["formula"]) == set(plain["formula"])
    assert spread["score_rank"][7:].is_monotonic_increasing
