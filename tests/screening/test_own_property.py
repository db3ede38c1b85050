"""Screening for properties that the model does not know, from their labels."""

import json

import numpy as np
import pytest
from ridge_screening import run

from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.screening.evaluation import retrospective
from matml.screening.evaluation.held_out import held_out_families
from matml.structures.crystals import CrystalSet

INDEX, STRENGTH = "my_index", "breakdown_field_MPa"


@pytest.fixture(scope="module")
def support(prepared, tmp_path_factory):
    """Known crystals whose refractive index plays two properties, one of them over decades."""
    table = read_table(prepared / "support.csv")
    values = table["refractive_index"]
    own = {INDEX: values, STRENGTH: 10 ** (3 * (values - values.min()))}
    path = tmp_path_factory.mktemp("own") / "support.csv"
    write_table(path, table[["id"]].assign(**own))
    return path


@pytest.fixture(scope="module")
def screened(prepared, support):
    out = support.parent / "screening"
    run(
        "screen", "--objective", f"{INDEX} maximise", "--objective", f"{STRENGTH} >= 20",
        "--support", support, "--candidates", prepared / "candidates", "--unit", f"{INDEX}=au",
        "--known", prepared / "structures", "--out", out, "--threads", 1, "--top", 3,
    )  # fmt: skip
    return out


def test_several_own_properties_are_screened_for(prepared, support, screened):
    summary = json.loads((screened / "summary.json").read_text())
    assert summary["properties"] == {INDEX: "au", STRENGTH: "MPa"}
    assert summary["logarithmic"] == [STRENGTH]
    assert summary["methods"] == {INDEX: "label_process", STRENGTH: "label_process"}
    shortlist = read_table(screened / "shortlist.csv")
    # as a predictor that is adapted by hand has it
    made = read_table(prepared / "candidates/candidates.parquet").head(20)
    made = made.set_index("material_id", drop=False)
    known = read_table(prepared / "structures/structures.parquet").set_index("id", drop=False)
    labels = read_table(support)
    predictor = FewShotPredictor.load()
    crystals = CrystalSet.from_table(known.loc[labels["id"]], predictor.encoder.graphs)
    adapted = predictor.adapt(crystals, labels[INDEX], INDEX, unit="au")
    found = shortlist.set_index("material_id").reindex(made.index).dropna(subset=["prediction"])
    expected = adapted.predict_table(made.loc[found.index])
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=1e-4)
    # few labels tell no range, and elements that training has met are known; likeness decides
    assert shortlist["rare_elements"].isna().all()
    assert not shortlist["beyond_labels"].any()
    assert (shortlist["in_domain"] == (shortlist["distance"] <= 1)).all()


def test_its_page_is_made_of_its_folder(screened):
    run("report", screened)
    page = (screened / "report.html").read_text()
    assert "my index" in page
    assert "breakdown field (MPa)" in page
    for text in ("read no crystals", "calibrated no kinetic equation", "trained no property"):
        assert text not in page


def test_a_property_that_nobody_labelled(prepared, support, tmp_path):
    with pytest.raises(MatmlError, match=r"predict hardness_GPa .* no labels of it; give"):
        run(
            "screen", "--objective", f"{INDEX} maximise", "--objective", "hardness_GPa >= 3",
            "--support", support, "--candidates", prepared / "candidates",
            "--known", prepared / "structures", "--out", tmp_path,
        )  # fmt: skip


def test_what_to_label_next_of_an_own_property(prepared, support, tmp_path):
    run(
        "screen", "suggest", "--property", STRENGTH, "--goal", "maximise", "--support", support,
        "--candidates", prepared / "candidates", "--known", prepared / "structures", "--number", 3,
        "--out", tmp_path / "next.csv",
    )  # fmt: skip
    found = read_table(tmp_path / "next.csv")
    assert len(found) == 3
    # positive, since the logarithm is learned
    assert (found[f"{STRENGTH}_low"] > 0).all()
    assert (found[f"{STRENGTH}_low"] < found[STRENGTH]).all()


def test_an_own_property_is_tested_on_families_that_no_network_has_seen(dielectric):
    predictor = FewShotPredictor.load()
    crystals = CrystalSet.open(dielectric / "structures", dielectric / "graphs")
    table = crystals.table.assign(**{INDEX: crystals.table["refractive_index"]})
    crystals = CrystalSet(table, crystals.graphs)
    families = held_out_families(predictor, crystals, [INDEX], smallest=15)
    scores = retrospective.run(predictor, families, shots=[0, 5], draws=2)
    assert set(scores["shots"]) == {5}
    methods = {row["method"] for row in retrospective.records(scores, 0)}
    assert methods == {"default", "chance"}
    with pytest.raises(MatmlError, match="no label column 'hardness'"):
        held_out_families(predictor, crystals, ["hardness"])
