"""The support CSV: what is refused, in words that name the row and the remedy; what is drawn."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from matml.cli.screening import candidates
from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.screening.data import known
from matml.screening.data.inputs import support_table
from matml.screening.data.support import draw_support, read_support
from matml.structures.settings import STRUCTURES, StructuresSection

KNOWN = {"elastic/mp-1", "elastic/mp-2", "elastic/mp-3"}
PROPERTY = "bulk_modulus_GPa"


def write(folder, text):
    path = folder / "support.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_ids_and_files_are_read(tmp_path):
    (tmp_path / "new.cif").write_text("data_new")
    path = write(
        tmp_path,
        f"id,file,{PROPERTY}\nelastic/mp-1,,100\n,new.cif,120.5\nelastic/mp-1,,100\n",
    )
    support = read_support(path, PROPERTY, KNOWN)
    assert support.ids == ["elastic/mp-1", ""]
    assert support.files == [None, (tmp_path / "new.cif").resolve()]
    np.testing.assert_array_equal(support.labels, [100, 120.5])


def test_crystals_may_stand_in_the_table_itself(tmp_path):
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    larger = salt.copy()
    larger.scale_lattice(90)
    rows = [
        {"id": "mine", "poscar": salt.to(fmt="poscar"), PROPERTY: 160, "structure": ""},
        {"id": "", "poscar": "", PROPERTY: 110, "structure": json.dumps(larger.as_dict())},
        {"id": "elastic/mp-1", "poscar": "", PROPERTY: 20, "structure": "rocksalt"},
    ]
    path = tmp_path / "support.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    support = read_support(path, PROPERTY, KNOWN)
    assert support.ids == ["", "", "elastic/mp-1"]
    known = pd.DataFrame({"id": ["elastic/mp-1"], "formula": ["KCl"]})
    table = support_table(support, known, StructuresSection())
    assert table["formula"].tolist() == ["MgO", "MgO", "KCl"]
    assert table["volume_per_atom_A3"][1] == pytest.approx(90 / 8)
    pd.DataFrame([rows[0] | {"poscar": "rocksalt", "id": ""}]).to_csv(path, index=False)
    with pytest.raises(MatmlError, match=r"line 2: the column poscar holds 'rocksalt'"):
        read_support(path, PROPERTY, KNOWN)


def test_files_are_looked_for_beside_the_table_and_then_among_the_candidates(tmp_path):
    cifs = tmp_path / "cifs"
    cifs.mkdir()
    (cifs / "new.cif").write_text("data_new")
    path = write(tmp_path, f"file,{PROPERTY}\nnew.cif,120.5\ncifs/new.cif,120.5\nold.cif,3\n")
    with pytest.raises(
        MatmlError, match=r"line 4: file 'old.cif' is not there \(looked in .*cifs\)"
    ):
        read_support(path, PROPERTY, KNOWN, [cifs])
    (tmp_path / "old.cif").write_text("data_old")
    support = read_support(path, PROPERTY, KNOWN, [cifs, tmp_path / "a.cif"])
    assert support.files == [(cifs / "new.cif").resolve(), (tmp_path / "old.cif").resolve()]
    with pytest.raises(MatmlError, match=r"'new.cif' is not there"):
        read_support(path, PROPERTY, KNOWN)


def test_a_row_of_another_formula_than_its_crystal_is_refused(tmp_path):
    text = f"id,formula,{PROPERTY}\nelastic/mp-1,ClNa,1\nelastic/mp-2,KBr,2\n"
    support = read_support(write(tmp_path, text), PROPERTY, KNOWN)
    known = pd.DataFrame({"id": sorted(KNOWN), "formula": ["NaCl", "KCl", "KBr"]})
    with pytest.raises(MatmlError, match=r"elastic/mp-2: the formula 'KBr' is decl.* KCl"):
        support_table(support, known, StructuresSection())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"id,{PROPERTY}\nelastic/mp-9,1\n", "line 2: id 'elastic/mp-9' is not among"),
        (f"id,{PROPERTY}\nelastic/mp-1 ,1\nelastic/mp-11,2\n", "mean 'elastic/mp-1'?"),
        (f"id,{PROPERTY}\n,1\n", "line 2: neither `id` nor `file` is given"),
        (f"id,{PROPERTY}\nelastic/mp-1,soft\n", "line 2: bulk_modulus_GPa = 'soft' is not a num"),
        (f"id,{PROPERTY}\nelastic/mp-1,1\nelastic/mp-2,\n", "line 3: bulk_modulus_GPa is empty"),
        (f"id,{PROPERTY}\nelastic/mp-1,nan\n", "bulk_modulus_GPa = nan is not finite"),
        (f"id,{PROPERTY}\nelastic/mp-1,1.8e11\n", "looks like Pa; divide by 1e+09"),
        ("id,bulk_modulus\nelastic/mp-1,1\n", "no column 'bulk_modulus_GPa', only id, bulk_mod"),
        (f"name,{PROPERTY}\nelastic/mp-1,1\n", "needs a column `id`"),
        (f"file,{PROPERTY}\ngone.cif,1\n", "line 2: file 'gone.cif' is not there"),
        (
            f"id,{PROPERTY}\nelastic/mp-1,1\nelastic/mp-1,2\n",
            "line 3: elastic/mp-1 is labelled 1 and 2; keep one",
        ),
        (f"id,{PROPERTY}\nelastic/mp-1,1\n", "at least 2 are needed"),
        (f"id,{PROPERTY}\nelastic/mp-1,5\nelastic/mp-2,5\n", "2 labelled crystals with 1 distinct"),
        ("", "is empty"),
    ],
)
def test_bad_support_is_refused_with_its_row(tmp_path, text, message):
    with pytest.raises(MatmlError, match=re.escape(message)) as caught:
        read_support(write(tmp_path, text), PROPERTY, KNOWN)
    assert "support.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_support_says_what_to_give(tmp_path):
    with pytest.raises(MatmlError, match="columns id and bulk_modulus_GPa"):
        read_support(tmp_path / "none.csv", PROPERTY, KNOWN)


@pytest.fixture
def labelled(known_table):
    """Every second crystal labelled; the first perovskite's label stands on a copy of it."""
    labels = np.where(np.arange(len(known_table)) % 2, 1.0 + np.arange(len(known_table)), np.nan)
    return known_table.assign(**{PROPERTY: labels})


def test_drawing_is_reproducible_and_never_repeats_a_composition(labelled):
    first = draw_support(labelled, "cubic perovskite", PROPERTY, shots=10, seed=3)
    again = draw_support(
        labelled.sample(frac=1, random_state=0), "cubic perovskite", PROPERTY, 10, 3
    )
    other = draw_support(labelled, "cubic perovskite", PROPERTY, shots=10, seed=4)
    assert first.to_dict("list") == again.to_dict("list")
    assert set(first["id"]) != set(other["id"])
    assert first["formula"].is_unique
    assert first[PROPERTY].notna().all()
    assert list(first.columns) == ["id", "formula", PROPERTY]


def test_a_label_on_a_copy_counts(labelled):
    family = labelled[labelled["common_name"] == "cubic perovskite"].head(3).copy()
    family["formula"] = ["KMgF3", "KMgF3", "SrTiO3"]
    family["duplicate_of"] = ["", family["id"].iloc[0], ""]
    family[PROPERTY] = [np.nan, 70.0, 180.0]
    drawn = draw_support(family, "cubic perovskite", PROPERTY, shots=2, seed=0)
    assert set(drawn["formula"]) == {"KMgF3", "SrTiO3"}


def test_too_few_labels_say_how_many_there_are(labelled):
    with pytest.raises(MatmlError, match=r"different members have a bulk_modulus_GPa, 500 were"):
        draw_support(labelled, "cubic perovskite", PROPERTY, shots=500, seed=0)
    with pytest.raises(MatmlError, match="no such label"):
        draw_support(labelled, "cubic perovskite", "colour", shots=5, seed=0)


def test_command_draws_the_default_support(tmp_path, labelled):
    write_table(tmp_path / "known" / "structures.parquet", labelled, STRUCTURES)
    arguments = ["support", "--structures", str(tmp_path / "known"), "--property", PROPERTY]
    arguments += ["--shots", "5", "--seed", "1", "--out", str(tmp_path / "support.csv")]
    result = CliRunner().invoke(candidates, arguments)
    assert result.exit_code == 0, result.output
    drawn = read_table(tmp_path / "support.csv")
    support = read_support(tmp_path / "support.csv", PROPERTY, set(labelled["id"]))
    assert support.ids == drawn["id"].tolist()
    assert len(support) == 5


def test_a_support_of_several_properties_has_a_column_of_each(tmp_path, labelled):
    second = "shear_modulus_GPa"
    write_table(
        tmp_path / "known" / "structures.parquet", labelled.assign(**{second: 50.0}), STRUCTURES
    )
    arguments = ["support", "--structures", str(tmp_path / "known"), "--shots", "5"]
    arguments += ["--property", PROPERTY, "--property", second, "--out", str(tmp_path / "s.csv")]
    result = CliRunner().invoke(candidates, arguments)
    assert result.exit_code == 0, result.output
    assert {PROPERTY, second} < set(read_table(tmp_path / "s.csv"))


def test_known_crystals_that_ship_are_read_once(dielectric, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(known, "input_path", lambda _: dielectric / "dielectric.csv")
    folder = known.known_folder(None)
    assert folder.parent == tmp_path / "matml"
    assert len(known.read_known(folder)) > 40
    # another time, and whatever stands beside it, nothing is read again
    monkeypatch.setattr(known, "ingest", None)
    assert known.known_folder(None) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert known.known_folder(dielectric) == dielectric
