"""Screening for properties that the model does not know, from their labels."""

import json

import numpy as np
import pytest
from pymatgen.io.vasp import Poscar
from ridge_screening import run

from matml.config.data import check_screened_inputs
from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.screening.evaluation import closed_loop, retrospective
from matml.screening.evaluation.held_out import held_out_families
from matml.screening.settings import ScreeningSection
from matml.structures.crystals import CrystalSet
from matml.structures.settings import StructuresSection

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


def test_a_column_is_an_input_on_families_that_no_network_has_seen(dielectric):
    predictor = FewShotPredictor.load()
    crystals = CrystalSet.open(dielectric / "structures", dielectric / "graphs")
    column = crystals.table["volume_per_atom_A3"].copy()
    own = {INDEX: 40 - 2 * column, "computed": column}
    # all that the largest family is known by is gone for one crystal of it
    families = crystals.table["family"]
    first = crystals.table.index[families == families.value_counts().index[0]][0]
    own["computed"][first] = np.nan
    crystals = CrystalSet(crystals.table.assign(**own), crystals.graphs)
    tasks = held_out_families(predictor, crystals, [INDEX], smallest=15, inputs=["computed"])
    assert not any(np.isnan(task.crystals.table["computed"]).any() for task in tasks)
    scores = retrospective.run(predictor, tasks, shots=[5], draws=2, inputs=["computed"])
    best, _ = retrospective.WITHIN
    shares = scores.groupby("method")[best].mean()
    # a line in the column
    assert shares["default"] > 0.95 > shares["label_process"]
    rows = retrospective.records(scores, 0)
    assert f"{best}_gain_over_label_process" in {row["metric"] for row in rows}
    loop = {"starts": 1, "start_size": 2, "strategies": ["mean"]}
    needed = closed_loop.run(predictor, [min(tasks, key=len)], inputs=["computed"], **loop)
    (metric, _) = closed_loop.METRICS
    own = needed.set_index("method")[metric]
    assert own["default"] <= 2 + 3 + 1
    assert {"default", "label_process", "random"} == set(own.index)
    said: list[str] = []
    closed_loop.print_records(closed_loop.records(needed, 0), said.append)
    assert "without the inputs" in "".join(said)
    with pytest.raises(MatmlError, match=r"--input T_K: is no column of the ingested crystals"):
        held_out_families(predictor, crystals, [INDEX], inputs=["T_K"])
    with pytest.raises(MatmlError, match=r"input computed: serves properties that the model does"):
        held_out_families(predictor, crystals, ["refractive_index"], inputs=["computed"])


@pytest.fixture(scope="module")
def computed(prepared, support):
    """A support and candidates with a column that follows the property: the volume per atom."""
    folder = support.parent
    known = read_table(prepared / "structures/structures.parquet").set_index("id")
    labels = read_table(support)
    own = labels.assign(computed=known.loc[labels["id"], "volume_per_atom_A3"].to_numpy())
    own["strength_K"] = 40 - 2 * own["computed"]
    write_table(folder / "with_column.csv", own[["id", "strength_K", "computed"]])
    made = read_table(prepared / "candidates/candidates.parquet").head(12)
    volumes = [abs(np.linalg.det(Poscar.from_str(text).structure.lattice.matrix)) / 5
               for text in made["poscar"]]  # fmt: skip
    made = made[["material_id", "poscar"]].assign(computed=volumes)
    made.loc[3, "computed"] = np.nan
    made.loc[5, "computed"] *= 1000  # another unit
    write_table(folder / "candidates.csv", made)
    return folder


def options(prepared, folder, *more):
    return (
        "--support", folder / "with_column.csv", "--candidates", folder / "candidates.csv",
        "--known", prepared / "structures", "--input", "computed", *more,
    )  # fmt: skip


def test_a_column_of_support_and_candidates_is_an_input(prepared, computed):
    out = computed / "with"
    # as the workflow gives it
    (computed / "own.yaml").write_text("inputs: [computed]\nproperty: strength_K\n")
    run("screen", "--config", computed / "own.yaml", "--out", out, "--threads", 1,
        *options(prepared, computed)[:-2])  # fmt: skip
    found = read_table(out / "shortlist.csv").set_index("material_id")
    made = read_table(computed / "candidates.csv").set_index("material_id")
    (aside,) = read_table(out / "crystals/quarantine.csv").itertuples()
    assert (aside.row, aside.reason) == (5, "has no value of the input computed")
    assert made.index[3] not in found.index
    assert len(found) == 11
    other = found.loc[made.index[5]]
    assert not other["in_domain"]
    assert "far from those of the labelled crystals" in other["outside"]
    assert not found.drop(index=other.name)["outside"].str.contains("computed", na=False).any()
    found = found.drop(index=other.name)
    # the property is a line in the column, which no crystal alone would tell so well
    made = made.loc[found.index]
    np.testing.assert_allclose(found["prediction"], 40 - 2 * made["computed"], atol=0.5)
    np.testing.assert_allclose(found["computed"], made["computed"], rtol=1e-5)
    run("report", out)
    assert "the labels go with the input computed" in (out / "report.html").read_text()
    run("screen", "suggest", "--property", "strength_K", "--goal", "maximise", "--number", 2,
        "--out", out / "next.csv", *options(prepared, computed))  # fmt: skip
    suggested = read_table(out / "next.csv")
    best = 40 - 2 * made["computed"].sort_values()[:4]
    assert (suggested["strength_K"] > best.min() - 0.5).all()
    assert len(read_table(out / "next_quarantine.csv")) == 1


def test_a_candidate_beyond_a_logarithm_is_set_aside_by_what_its_row_says(prepared, computed):
    known = read_table(computed / "with_column.csv")
    known["computed"] = np.logspace(0, 2, len(known))
    write_table(computed / "decades.csv", known)
    rows = read_table(computed / "candidates.csv").astype({"computed": object}).head(5)
    rows["computed"] = ["-1", "fast", "3", "", "7"]
    write_table(computed / "odd.csv", rows)
    run("screen", "suggest", "--property", "strength_K", "--goal", "maximise", "--number", 2,
        "--support", computed / "decades.csv", "--candidates", computed / "odd.csv",
        "--known", prepared / "structures", "--input", "computed",
        "--out", computed / "two.csv")  # fmt: skip
    assert len(read_table(computed / "two.csv")) == 2
    aside = read_table(computed / "two_quarantine.csv").set_index("row")["reason"]
    assert aside[2].startswith("computed = -1: must be positive")
    assert aside[3] == "computed = 'fast' is not a number"
    assert aside[5] == "has no value of the input computed"


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        ("refractive_index", "2\n3\n", "input computed: serves properties that the model does not"),
        ("computed", "2\n3\n", "input computed: is asked for as a property, too"),
        ("strength_K", "2\n\n", "has no value of the input computed; give one in a column"),
        ("strength_K", "2\nfast\n", r"line 3: computed = 'fast' is not a number"),
    ],
)
def test_inputs_that_no_screening_takes(prepared, computed, tmp_path, name, rows, reason):
    ids, own = read_table(computed / "with_column.csv")["id"], rows.split("\n")
    lines = [f"{ids[0]},1.5,{own[0]},1.4\n", f"{ids[1]},1.7,{own[1]},1.8\n"]
    text = "id,strength_K,computed,refractive_index\n" + "".join(lines)
    (tmp_path / "with_column.csv").write_text(text)
    (tmp_path / "candidates.csv").write_bytes((computed / "candidates.csv").read_bytes())
    with pytest.raises(MatmlError, match=reason):
        run("screen", "--property", name, "--goal", "maximise", "--out", tmp_path / "out",
            *options(prepared, tmp_path))  # fmt: skip


def test_the_configuration_is_held_against_columns_of_candidates(prepared, computed):
    own = ScreeningSection(inputs=["computed"], property="strength_K")
    with pytest.raises(MatmlError, match=r"candidates that are made have no computed"):
        check_screened_inputs(own, ["strength_K"], ["band_gap_eV"], StructuresSection())
    given = own.model_copy(update={"candidates": [computed / "candidates.csv"]})
    check_screened_inputs(given, ["strength_K"], ["band_gap_eV"], StructuresSection())
    other = given.model_copy(update={"inputs": ["T_K"]})
    with pytest.raises(MatmlError, match=r"candidates, .*: has no value of the input T_K; give"):
        check_screened_inputs(other, ["strength_K"], ["band_gap_eV"], StructuresSection())
