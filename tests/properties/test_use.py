"""From files to predictions by the command line, and the model that ships."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.properties.data.targets import find_property
from matml.properties.predictor.export import expected_error
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.from_files import load_adapted
from matml.properties.predictor.layout import FORMAT, SHIPPED
from matml.properties.predictor.ship import ship_model, size_of
from matml.structures.crystals import CrystalSet
from matml.structures.ingest import gather
from matml.structures.io.read import read_inputs

NAME = "bulk_modulus_GPa"


def matml(*arguments):
    result = CliRunner().invoke(properties, [str(a) for a in arguments])
    if isinstance(result.exception, MatmlError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="session")
def files(family, tmp_path_factory):
    """Twelve crystals of one family as CIF files: labels of the first eight in a CSV."""
    folder = tmp_path_factory.mktemp("files")
    names = []
    for row, formula in enumerate(family.table["formula"][:12]):
        name = f"{'known' if row < 8 else 'new'}/{formula}.cif"
        (folder / name).parent.mkdir(exist_ok=True)
        family.structure(row).to(filename=str(folder / name), fmt="cif")
        names.append(name)
    table = pd.DataFrame({"file": names[:8], NAME: family.table[NAME][:8].to_numpy()})
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "new/broken.cif").write_text("data_nothing\n")
    return folder


@pytest.fixture(scope="session")
def adapted(folder, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapted")
    said = matml(
        "adapt", "--model", folder / "model", "--support", files / "labels.csv", "--out", out
    )
    assert "adapted to 8 labels of bulk_modulus_GPa in GPa" in said
    return out


def test_files_to_predictions(predictor, family, files, adapted, tmp_path):
    out = tmp_path / "predictions.csv"
    said = matml("predict", "--adapted", adapted, "--structures", files / "new", "--out", out)
    assert "4 structures predicted: bulk_modulus_GPa in GPa, after 8 labels" in said
    assert "1 could not be used; the first, broken.cif" in said
    table = pd.read_csv(out, keep_default_na=False)
    wanted = "id formula property prediction low high unit distance in_domain outside "
    wanted += "unseen_elements labelled disordered family material_id source row notes"
    assert list(table.columns) == wanted.split()
    assert set(table["unit"]) == {"GPa"}
    quarantine = pd.read_csv(tmp_path / "quarantine.csv")
    assert quarantine["id"].tolist() == ["broken.cif"]
    # the same numbers as in Python, from the structures that the files were written from
    structures = [family.structure(row) for row in range(12)]
    direct = predictor.adapt(structures[:8], family.table[NAME][:8], NAME)
    position = {formula: row for row, formula in enumerate(family.table["formula"])}
    mean, interval = direct.predict([structures[position[f]] for f in table["formula"]])
    np.testing.assert_allclose(table["prediction"], mean, rtol=1e-3)
    np.testing.assert_allclose(table[["low", "high"]], interval, rtol=1e-3)


def test_forms_of_support_agree(folder, files, adapted, tmp_path):
    """A folder with its labels beside, and a table that holds structures and labels."""
    from pymatgen.core import Structure

    expected, _ = load_adapted(adapted).predict(
        Structure.from_file(next((files / "new").glob("[A-Z]*.cif")))
    )
    new = next((files / "new").glob("[A-Z]*.cif"))
    labels = pd.read_csv(files / "labels.csv")
    inside = labels.assign(file=labels["file"].str.removeprefix("known/"))
    inside.to_csv(tmp_path / "inside.csv", index=False)
    poscars = [Structure.from_file(files / name).to(fmt="poscar") for name in labels["file"]]
    table = pd.DataFrame({"poscar": poscars, NAME: labels[NAME]})
    table.to_csv(tmp_path / "table.csv", index=False)
    for number, support in enumerate(
        (
            ["--support", files / "known", "--labels", tmp_path / "inside.csv"],
            ["--support", files / "known", "--support", tmp_path / "inside.csv"],
            ["--support", tmp_path / "table.csv"],
        )
    ):
        out, predictions = tmp_path / f"adapted-{number}", tmp_path / f"{number}.parquet"
        matml("adapt", "--model", folder / "model", *support, "--property", NAME, "--out", out)
        matml("predict", "--adapted", out, "--structures", new, "--out", predictions)
        found = pd.read_parquet(predictions)["prediction"]
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_predicting_without_labels(folder, files, tmp_path):
    out = tmp_path / "zero.csv"
    options = ["--structures", files / "new", "--out", out, "--model", folder / "model"]
    assert "without any label" in matml("predict", *options, "--property", NAME)
    assert len(pd.read_csv(out)) == 4
    with pytest.raises(MatmlError, match="no property is named"):
        matml("predict", *options)
    options[1] = files / "new/broken.cif"
    out.unlink()
    with pytest.raises(MatmlError, match=r"quarantine\.csv: none of the 1 structures"):
        matml("predict", *options, "--property", NAME)
    assert not out.exists()


def test_bad_rows_are_set_aside_and_bad_files_refused(folder, files, tmp_path):
    labels = pd.read_csv(files / "labels.csv", dtype={NAME: str})
    labels["file"] = [str(files / name) for name in labels["file"]]

    def adapt(table, *options):
        table.to_csv(tmp_path / "labels.csv", index=False)
        options = [*options, "--model", folder / "model", "--out", tmp_path / "out"]
        return matml("adapt", "--support", tmp_path / "labels.csv", *options)

    some = labels.copy()
    some.loc[1, NAME], some.loc[2, NAME], some.loc[3, "file"] = "stiff", "1.6e11", "nowhere.cif"
    said = adapt(some)
    assert "adapted to 5 labels" in said
    aside = pd.read_csv(tmp_path / "out/quarantine.csv")
    assert sorted(aside["row"]) == [3, 4, 5]
    assert aside["remedy"].notna().all()
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["shots"] == 5

    twice = pd.concat([labels, labels.head(1).assign(**{NAME: "12"})])
    with pytest.raises(MatmlError, match=r"labels\.csv: file .* stands in rows 2 and 10, with"):
        adapt(twice)
    with pytest.raises(MatmlError, match=r"labels\.csv: label columns are hardness_GPa, of which"):
        adapt(labels.rename(columns={NAME: "hardness_GPa"}))
    with pytest.raises(MatmlError, match=r"the model's bulk_modulus_GPa, call the column so$"):
        adapt(labels.rename(columns={NAME: "bulk_modulus"}))
    with pytest.raises(MatmlError, match="no column 'formation_energy_eV_per_atom'"):
        adapt(labels, "--property", "formation_energy_eV_per_atom")
    # a column that is another property's is not taken for a misspelt one (of the shipped model)
    with pytest.raises(MatmlError, match=r"column 'shear_modulus_GPa' .* bulk_modulus_GPa; ask"):
        matml(
            "adapt",
            "--support",
            tmp_path / "labels.csv",
            "--property",
            "shear_modulus_GPa",
            "--out",
            tmp_path / "out",
        )
    with pytest.raises(MatmlError, match=r"row 2: .*looks like Pa; divide by 1e"):
        adapt(labels.assign(**{NAME: "1.6e11"}))
    shutil.copy(files / labels["file"][0], tmp_path / "copy.cif")
    copied = pd.concat([labels, pd.DataFrame({"file": ["copy.cif"], NAME: ["12"]})])
    with pytest.raises(
        MatmlError, match=r"copy\.cif \(.*labels\.csv, row 10\) is the same crystal"
    ):
        adapt(copied, "--trust-labels")


def test_an_unfinished_or_foreign_adapted_folder_is_refused(folder, adapted, tmp_path):
    copy = tmp_path / "adapted"
    shutil.copytree(adapted, copy)
    table = pd.read_parquet(copy / "support.parquet")
    table.assign(**{NAME: 100.0}).to_parquet(copy / "support.parquet")
    with pytest.raises(MatmlError, match=r"support\.parquet: is not the support"):
        load_adapted(copy)
    (copy / "card.json").unlink()
    with pytest.raises(MatmlError, match="holds no adapted predictor"):
        load_adapted(copy)
    with pytest.raises(MatmlError, match="is a model, not an adapted one; give it with --model"):
        load_adapted(folder / "model")
    moved = tmp_path / "moved"
    shutil.copytree(folder / "model", moved)
    assert load_adapted(adapted, moved).shots == 8
    card = json.loads((moved / "card.json").read_text())
    (moved / "card.json").write_text(json.dumps(card | {"seed": 99}))
    with pytest.raises(MatmlError, match="the checksum differs"):
        load_adapted(adapted, moved)


def test_a_shipped_model_is_small_and_says_what_it_is(folder, predictor, crystals, tmp_path):
    out = tmp_path / "models/default"
    with pytest.raises(MatmlError, match="say it with --licence"):
        ship_model(folder / "model", out, licence=None, benchmark=None)
    assert not out.exists()
    card = ship_model(folder / "model", out, licence="CC-BY", benchmark=None)
    assert card == read_json(out / "card.json", FORMAT)
    assert not [path for path in out.parent.iterdir() if path != out]
    for key in ("licence", "citations", "test_families", "folds", "versions", "seed", "settings"):
        assert key in card
    chosen = {entry["method"] for entry in card["properties"].values()}
    for method in ("maml", "fomaml"):
        assert (out / f"member-0/{method}.safetensors").exists() == (method in chosen)
    assert size_of(out) < size_of(folder / "model")
    shipped = FewShotPredictor.load(out)
    some = crystals.subset(np.arange(20))
    for name in shipped.properties:
        labelled = np.flatnonzero(crystals.table[name].notna())[:5]
        support, values = crystals.subset(labelled), crystals.table[name][labelled].to_numpy()
        expected = predictor.adapt(support, values, name, check_units=False).predict(some)
        found = shipped.adapt(support, values, name, check_units=False).predict(some)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    ship_model(folder / "model", out, licence="other", benchmark=None)
    assert json.loads((out / "card.json").read_text())["licence"] == "other"
    weights = out / "member-1/pretrained.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(
        MatmlError, match=r"pretrained\.safetensors: is not the file that the model"
    ):
        FewShotPredictor.load(out)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thesis.txt").write_text("mine")
    with pytest.raises(MatmlError, match="holds no model"):
        ship_model(folder / "model", tmp_path / "foreign", licence="x", benchmark=None)


def test_export_states_episodes_that_anyone_can_repeat(folder, predictor, crystals):
    checks = json.loads((folder / "model/checks.json").read_text())
    assert {entry["shots"] for entry in checks} == {0, 5}
    _repeat(predictor, crystals, checks, 1e-3)


def _repeat(predictor, crystals, checks, tolerance):
    """Adapt as the card's episodes say; return the mean absolute error of each."""
    position = {name: row for row, name in enumerate(crystals.table["id"])}
    fitted = {name: predictor.fitted(name) for name in {entry["property"] for entry in checks}}
    errors = []
    for entry in checks:
        item = find_property(entry["property"])
        column = predictor.recipe.properties.index(item.name)
        support = crystals.subset([position[name] for name in entry["support"]])
        query = crystals.subset([position[name] for name in entry["query"]])
        adapted = fitted[item.name].adapt(support, entry["labels"])
        found, expected, truth = (
            item.to_scale(values)
            for values in (adapted.predict(query)[0], entry["prediction"], entry["truth"])
        )
        deviation = predictor.standardisation.deviation[column]
        assert np.abs(found - expected).max() < tolerance * deviation
        errors.append(np.abs(found - truth).mean())
    return errors


@pytest.mark.skipif(
    not (SHIPPED / "card.json").is_file(),
    reason="no model ships yet: `matml properties ship` writes it to matml/models/default",
)
@pytest.mark.parametrize("name", ["bulk_modulus_GPa", "formation_energy_eV_per_atom"])
def test_the_shipped_model_reaches_its_stated_score(pytestconfig, tmp_path, name, shipped):
    """From the embedded tables: the same predictions on test families, and so the same error."""
    checks = [
        entry
        for entry in json.loads((SHIPPED / "checks.json").read_text())
        if entry["property"] == name and entry["shots"] == 5
    ]
    assert len(checks) >= 3
    wanted = {i for entry in checks for i in (*entry["support"], *entry["query"])}
    for table in sorted({i.split("/")[0] for i in wanted}):
        source = pd.read_csv(pytestconfig.rootpath / f"data/crystals/{table}.csv.gz", dtype=str)
        here = (table + "/" + source["material_id"]).isin(wanted)
        source[here].to_csv(tmp_path / f"{table}.csv", index=False)
    section = shipped.encoder.structures
    gathered = gather(read_inputs([tmp_path], section), section, threads=1)
    assert wanted <= set(gathered.table["id"])
    crystals = CrystalSet.from_table(gathered.table, shipped.encoder.graphs)
    errors = _repeat(shipped, crystals, checks, 1e-3)
    stated = [
        score
        for score in shipped.card["properties"][name]["scores"]
        if score["shots"] == 5 and score["metric"] == "mae_family_mean"
    ]
    # one draw of each family; the card's value is the mean over several draws
    assert np.mean(errors) == pytest.approx(stated[0]["value"], rel=0.25)


def test_families_that_were_not_seen_tell_the_expected_error():
    families = np.repeat(["a", "b", "c", "d", "e"], [4, 4, 4, 400, 1])
    errors = np.r_[np.full(12, -0.2), np.full(400, 0.1), 9.0]
    # each family counts the same, and one crystal is none
    assert expected_error(families, errors, 0.3) == 0.2
    # where too few tell, the spread of the labels
    errors[:4] = np.nan
    assert expected_error(families, errors, 0.3) == 0.3
