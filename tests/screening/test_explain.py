"""Why a candidate ranks there: objectives one by one, and the nearest known crystals."""

import json

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition
from ridge_screening import PROPERTY, RidgePredictor, screen

from matml.core.files import read_table
from matml.screening.objectives import parse_objectives
from matml.screening.select import run as shortlist
from matml.screening.select.explain import explain, nearest_known


@pytest.fixture(scope="module")
def screened(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortlist, "load_predictor", lambda *_, **__: RidgePredictor())
        screen(prepared, out, "--config", prepared / "screening.yaml",
               "--known-graphs", prepared / "graphs", "--objective", f"{PROPERTY} >= 1.6",
               "--top", "5")  # fmt: skip
    return out


def test_the_first_candidates_are_explained(screened):
    table = read_table(screened / "shortlist.csv")
    explained = json.loads((screened / "explained.json").read_text())
    assert [entry["rank"] for entry in explained] == [1, 2, 3, 4, 5]
    assert [entry["id"] for entry in explained] == table["id"].head(5).tolist()
    for entry, row in zip(explained, table.itertuples(), strict=False):
        [objective] = entry["objectives"]
        assert objective["objective"] == f"{PROPERTY} >= 1.6"
        assert objective["probability"] == pytest.approx(row.probability, rel=1e-4)
        assert objective["of"] == len(table)
        better = (table["probability"] > row.probability * (1 + 1e-4)).sum()
        assert objective["place"] >= better + 1


def test_nearest_by_atoms_exchanged(screened, prepared):
    known = read_table(prepared / "structures" / "structures.parquet")
    for entry in json.loads((screened / "explained.json").read_text()):
        own = Composition(entry["id"].rsplit("/", 1)[-1]).fractional_composition
        apart = {}
        for row in known[known["duplicate_of"] == ""].itertuples():
            other = Composition(row.formula).fractional_composition
            apart[row.id] = 0.5 * sum(abs(own[e] - other[e]) for e in {*own, *other})
        found = [neighbour["changed_atoms"] for neighbour in entry["nearest"]]
        assert found[0] == pytest.approx(min(apart.values()), abs=1e-4)
        assert found == sorted(found)
        assert 4 <= len(found) <= 8
        assert sum(neighbour["same_prototype"] for neighbour in entry["nearest"]) >= 4
        for neighbour in entry["nearest"]:
            assert neighbour["changed_atoms"] == pytest.approx(apart[neighbour["id"]], abs=1e-4)


def test_copies_count_once_with_the_mean_of_their_values():
    known = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "formula": ["NaCl", "NaCl", "KCl"],
            "family": "f",
            "common_name": ["rocksalt", "rocksalt", ""],
            "prototype": "p",
            "duplicate_of": ["", "a", ""],
            "atomic_numbers": [[11, 17], [11, 17], [19, 17]],
            "band_gap_eV": [np.nan, 5.0, 4.0],
            "bulk_modulus_GPa": [24.0, 26.0, np.nan],
        }
    )
    rows = pd.DataFrame({"prototype": ["p"], "atomic_numbers": [[37, 17]]})  # RbCl
    [found] = nearest_known(rows, known)
    # both need one atom of two exchanged; potassium is more like rubidium
    assert [(n["id"], n["changed_atoms"], n["family"]) for n in found] == [
        ("c", 0.5, "f"),
        ("a", 0.5, "rocksalt"),
    ]
    assert found[1]["values"] == {"band_gap_eV": 5.0, "bulk_modulus_GPa": 25.0}
    assert found[0]["values"] == {"band_gap_eV": 4.0}


def test_each_objective_has_its_own_place():
    objectives = parse_objectives(["band_gap_eV >= 2", "bulk_modulus_GPa maximise"])
    rows = pd.DataFrame(
        {"id": ["x", "y", "z"], "rank": [1, 2, 3], "prototype": "p", "atomic_numbers": [[3, 9]] * 3}
    )
    known = pd.DataFrame(
        {"id": ["k"], "formula": ["LiF"], "family": ["f"], "common_name": [""],
         "prototype": ["q"], "duplicate_of": [""], "atomic_numbers": [[3, 9]]}
    )  # fmt: skip
    criteria = np.array([[np.log(0.5), 1.0], [np.log(0.25), 3.0], [np.log(0.9), 2.0]])
    told = explain(rows, 2, objectives, criteria, known)
    assert [[o["place"] for o in entry["objectives"]] for entry in told] == [[2, 3], [3, 1]]
    assert told[0]["objectives"][0]["probability"] == pytest.approx(0.5)
    assert told[0]["objectives"][1]["probability"] is None
    assert told[0]["nearest"][0]["values"] == {}
