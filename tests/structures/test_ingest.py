"""Good and bad inputs of `matml structures ingest`, through the command line a user types."""

import json
import os
import re
import zipfile

import builders
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Composition

from matml.cli.structures import structures as command
from matml.core.errors import MatmlError
from matml.core.files import read_json


def run(*arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, MatmlError | SystemExit):
        raise result.exception
    return result


def ingest(*arguments, out):
    """Run and return table, quarantine and summary."""
    result = run("ingest", *arguments, "--out", out)
    assert result.exception is None, result.exception
    return (
        pd.read_parquet(out / "structures.parquet"),
        pd.read_csv(out / "quarantine.csv", keep_default_na=False),
        read_json(out / "summary.json"),
    )


def error_of(*arguments):
    result = run(*arguments)
    assert isinstance(result.exception, MatmlError)
    message = str(result.exception)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path):
    """Five crystals in five formats."""
    place = tmp_path / "crystals"
    (place / "deeper").mkdir(parents=True)
    builders.rocksalt().to(place / "salt.cif")
    builders.cubic_abx3().to(place / "deeper" / "POSCAR", fmt="poscar")
    (place / "pair.json").write_text(
        json.dumps([builders.spinel().as_dict(), builders.corundum().as_dict()])
    )
    cell = builders.rutile()
    numbers = " ".join(f"{x:.8f}" for x in cell.lattice.matrix.ravel())
    atoms = [f"{s.specie.symbol} {s.x:.8f} {s.y:.8f} {s.z:.8f}" for s in cell]
    (place / "rutile.xyz").write_text(
        f'{len(cell)}\nLattice="{numbers}" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
        + "\n".join(atoms)
        + "\n"
    )
    (place / "notes.txt").write_text("not a structure")
    return place


def test_a_folder_of_every_format(folder, tmp_path):
    table, quarantine, summary = ingest(folder, out=tmp_path / "out")
    found = dict(zip(table["id"], table["common_name"], strict=True))
    assert found == {
        "deeper/POSCAR": "cubic perovskite",
        "pair.json#1": "spinel",
        "pair.json#2": "corundum",
        "rutile.xyz": "rutile",
        "salt.cif": "rocksalt",
    }
    assert (table["row"] == -1).all()
    assert len(quarantine) == 0
    assert summary["ignored"] == ["notes.txt"]
    sites = dict(zip(table["id"], table["n_sites"], strict=True))
    assert sites["salt.cif"] == 2
    assert sites["pair.json#1"] == 14


def test_zip_list_and_table_together(folder, tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(folder / "salt.cif", "inner/salt.cif")
    rows = pd.DataFrame(
        {
            "material_id": ["a", "b"],
            "poscar": [builders.rocksalt().to(fmt="poscar"), builders.wurtzite().to(fmt="poscar")],
            "bulk_modulus_GPa": [25.0, 140.0],
            "my_number": [1.5, 2.5],
            "remark": ["text", "more"],
        }
    )
    rows.to_csv(tmp_path / "mine.csv.gz", index=False)
    rows.to_parquet(tmp_path / "same.parquet")
    table, _, summary = ingest(
        archive, folder / "rutile.xyz", tmp_path / "mine.csv.gz", tmp_path / "same.parquet",
        out=tmp_path / "out",
    )  # fmt: skip
    assert table["id"].tolist() == [
        "inner/salt.cif", "rutile.xyz", "mine/a", "mine/b", "same/a", "same/b"
    ]  # fmt: skip
    assert table["material_id"].tolist() == ["", "", "a", "b", "a", "b"]
    assert table["row"].tolist() == [-1, -1, 2, 3, 2, 3]
    assert table.loc[2, ["bulk_modulus_GPa", "my_number"]].tolist() == [25.0, 1.5]
    assert np.isnan(table.loc[0, "bulk_modulus_GPa"])
    assert "remark" not in table
    assert any("remark" in entry for entry in summary["ignored"])
    # the same crystal from three sources, and across formats
    assert table["duplicate_of"].tolist() == [
        "", "", "inner/salt.cif", "", "inner/salt.cif", "mine/b"
    ]  # fmt: skip


def test_families_csv_counts_what_it_says(folder, tmp_path):
    (tmp_path / "labels.csv").write_text("file,band_gap_eV\nsalt.cif,8.5\nrutile.xyz,3.0\n")
    table, _, _ = ingest(folder, "--labels", tmp_path / "labels.csv", out=tmp_path / "out")
    families = pd.read_csv(tmp_path / "out" / "families.csv", keep_default_na=False)
    assert families["n_crystals"].sum() == len(table)
    assert families["n_band_gap_eV"].sum() == 2
    row = families.set_index("common_name").loc["rocksalt"]
    assert (row["n_crystals"], row["n_band_gap_eV"]) == (1, 1)


def test_users_family_wins(folder, tmp_path):
    (tmp_path / "labels.csv").write_text("id,family\nsalt.cif,my salts\n")
    table, _, _ = ingest(folder, "--labels", tmp_path / "labels.csv", out=tmp_path / "out")
    assert table.set_index("id").loc["salt.cif", "family"] == "my salts"
    assert table.set_index("id").loc["rutile.xyz", "family"] == "AB2_tP6_136_a_f"
    rows = pd.DataFrame({"poscar": [builders.rocksalt().to(fmt="poscar")], "family": ["mine"]})
    rows.to_csv(tmp_path / "mine.csv", index=False)
    table, _, _ = ingest(tmp_path / "mine.csv", out=tmp_path / "out2")
    assert table["family"].tolist() == ["mine"]


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    message = error_of("ingest", tmp_path / "empty", "--out", tmp_path / "out")
    assert "no structure found" in message
    assert str(tmp_path / "empty") in message


def test_missing_input(tmp_path):
    assert "no such file" in error_of("ingest", tmp_path / "gone", "--out", tmp_path / "out")


CIF_HEAD = """data_test
_cell_length_a 3.35
_cell_length_b 3.35
_cell_length_c 3.35
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
GOOD_ATOMS = "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n"
XYZ_CELL = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\n'
BAD_FILES = {
    "syntax.cif": (CIF_HEAD + "Na1 Na 0 zero 0 1\nCl1 Cl 0.5 0.5\n", "cannot be read"),
    "no cell.cif": ("data_x\n_atom_site_label Na\n", "no CIF data block with a cell"),
    "not a cif.cif": ("hello", "no CIF data block"),
    "crowded.cif": (
        CIF_HEAD + "Na1 Na 0 0 0 .5\nK1 K 0 0 0 .6\nCl1 Cl .5 .5 .5 1\n",
        "one position holds Na 0.5, K 0.6, 1.1 atoms in all",
    ),
    "split.cif": (
        CIF_HEAD + "Na1 Na 0 0 0 .5\nNa2 Na 0 0 .1 .6\nCl1 Cl .5 .5 .5 1\n",
        "too near to be occupied at once, but 2 such positions hold 1.1 atoms together",
    ),
    "overlap.cif": (CIF_HEAD + "Na1 Na 0 0 0 1\nCl1 Cl 0.05 0 0 1\n", "overlapping atoms"),
    "doubled.cif": (CIF_HEAD + "Na1 Na 0 0 0 1\nNa2 Na 0.02 0 0 1\n", "overlapping atoms"),
    "vacancy.cif": (CIF_HEAD + "V1 Vac 0 0 0 1\nO1 O .5 .5 .5 1\n", "not a chemical element"),
    "dummy.cif": (CIF_HEAD + "X1 X 0 0 0 1\nO1 O .5 .5 .5 1\n", "not a chemical element"),
    "heavy.cif": (CIF_HEAD + "Li1 Li 0 0 0 1\nD1 D .5 .5 .5 1\n", "isotope D"),
    "many.cif": (
        CIF_HEAD + "".join(f"Na{i} Na 0 0 {i / 2000} 1\n" for i in range(2000)),
        "declares 2000 sites",
    ),
    "huge.cif": (
        CIF_HEAD.replace(
            "loop_", "_chemical_formula_sum 'Na1 Cl1'\n_cell_formula_units_Z 1000000000\nloop_"
        )
        + GOOD_ATOMS,
        "2000000000 sites",
    ),
    "huge formula.cif": (
        CIF_HEAD.replace("loop_", "_chemical_formula_sum 'Na1000000000'\nloop_") + GOOD_ATOMS,
        "1000000000 sites",
    ),
    "huge.vasp": (
        "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1000000000\ndirect\n0 0 0\n",
        "1000000000 sites",
    ),
    "huge.xyz": ('1000000000\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\n', "1000000000 sites"),
    "short.vasp": ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n12\ndirect\n0 0 0\n", "declares 12 sites"),
    "vasp4.vasp": (
        "x\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n",
        "does not name its elements",
    ),
    "flat.vasp": ("x\n1.0\n4 0 0\n0 4 0\n4 4 0\nNa\n1\ndirect\n0 0 0\n", "volume per atom"),
    "sparse.vasp": ("x\n1.0\n40 0 0\n0 40 0\n0 0 40\nNa\n1\ndirect\n0 0 0\n", "volume per atom"),
    "nan.vasp": ("x\n1.0\nnan 0 0\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 0 0\n", "line 3 of the POSCAR"),
    "nan position.vasp": (
        "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 nan 0\n",
        "line 9 of the POSCAR",
    ),
    "vacancy.xyz": (XYZ_CELL + "X 0 0 0\nCl 2 2 2\n", "not a chemical element"),
    "heavy.xyz": (XYZ_CELL + "Li 0 0 0\nD 2 2 2\n", "isotope D"),
    "molecule.xyz": ("2\nwater\nO 0 0 0\nH 0 0 1\n", "no Lattice"),
    "slab.xyz": (XYZ_CELL.replace("Prop", 'pbc="T T F" Prop') + "Na 0 0 0\nCl 2 2 2\n", "pbc"),
    "broken.json": ('{"lattice": ', "not valid JSON"),
    "other.json": ('{"a": 1}', "its keys: a"),
    "empty.cif": ("", "no CIF data block"),
    "binary.cif": ("data_\0\0", "binary"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_structure_is_quarantined_and_the_rest_goes_on(name, tmp_path):
    content, reason = BAD_FILES[name]
    place = tmp_path / "in"
    place.mkdir()
    (place / name).write_text(content)
    builders.wurtzite().to(place / "good.cif")
    table, quarantine, summary = ingest(place, out=tmp_path / "out")
    assert table["id"].tolist() == ["good.cif"]
    assert quarantine["id"].tolist() == [name]
    assert reason in quarantine.loc[0, "reason"]
    assert len(quarantine.loc[0, "remedy"]) > 10
    assert "\n" not in quarantine.loc[0, "reason"]
    assert summary["quarantined_crystals"] == 1


def test_all_bad_is_an_error_that_names_the_quarantine(tmp_path):
    (tmp_path / "bad.cif").write_text(BAD_FILES["crowded.cif"][0])
    message = error_of("ingest", tmp_path / "bad.cif", "--out", tmp_path / "out")
    assert "quarantine.csv" in message
    assert "1.1 atoms in all" in message
    assert len(pd.read_csv(tmp_path / "out" / "quarantine.csv")) == 1
    assert not (tmp_path / "out" / "structures.parquet").exists()


def test_oxidation_states_are_removed_and_noted(tmp_path):
    decorated = builders.rocksalt()
    decorated.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    (tmp_path / "salt.json").write_text(json.dumps(decorated.as_dict()))
    table, quarantine, _ = ingest(tmp_path / "salt.json", out=tmp_path / "out")
    assert table.loc[0, "common_name"] == "rocksalt"
    assert "oxidation states removed" in table.loc[0, "notes"]
    assert len(quarantine) == 0


def test_site_labels_of_tetrahedra_are_no_tritium(tmp_path):
    (tmp_path / "a.cif").write_text(CIF_HEAD + "T1 Si 0 0 0 1\nO1 O 0.5 0 0 1\n")
    table, _, _ = ingest(tmp_path / "a.cif", out=tmp_path / "out")
    assert table.loc[0, "formula"] == "SiO"


def test_a_cif_of_several_blocks_keeps_the_good_ones(tmp_path):
    bad = BAD_FILES["crowded.cif"][0].replace("data_test", "data_second")
    third = CIF_HEAD.replace("data_test", "data_third") + GOOD_ATOMS
    (tmp_path / "many.cif").write_text(CIF_HEAD + GOOD_ATOMS + bad + third)
    table, quarantine, _ = ingest(tmp_path / "many.cif", out=tmp_path / "out")
    assert table["id"].tolist() == ["many.cif#1", "many.cif#3"]
    assert quarantine["id"].tolist() == ["many.cif#2"]
    assert table["duplicate_of"].tolist() == ["", "many.cif#1"]


def test_zip_whose_paths_climb_out(tmp_path):
    salt = builders.rocksalt().to(fmt="cif")
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("../../escaped.cif", "/absolute.cif", "..\\windows.cif", "good.cif"):
            file.writestr(name, salt)
    before = sorted(os.listdir(tmp_path))
    table, quarantine, _ = ingest(archive, out=tmp_path / "out")
    assert table["id"].tolist() == ["good.cif"]
    assert len(quarantine) == 3
    assert quarantine["reason"].str.contains("climbs out").all()
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])


def test_zip_bomb_is_not_unpacked(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("max_file_MB: 1\n")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.cif", b" " * 20_000_000)
        file.writestr("good.cif", builders.rocksalt().to(fmt="cif"))
    table, quarantine, _ = ingest(tmp_path / "bomb.zip", "--config", settings, out=tmp_path / "out")
    assert table["id"].tolist() == ["good.cif"]
    assert "more than 1 MB" in quarantine.loc[0, "reason"]


def test_not_a_zip(tmp_path):
    (tmp_path / "no.zip").write_text("hello")
    assert "not a readable zip" in error_of("ingest", tmp_path / "no.zip", "--out", tmp_path / "o")


def test_labels_good_and_bad(folder, tmp_path):
    (tmp_path / "labels.csv").write_text(
        "id,bulk_modulus_GPa,band_gap_eV\n"
        "salt.cif,25.1,8.5\n"
        "rutile.xyz,2.1e11,3.0\n"
        "deeper/POSCAR,many,3.2\n"
        "pair.json#1,NaN,\n"
        "gone.cif,12,1\n"
        ",13,1\n"
        "salt.cif,99,1\n"
    )
    table, quarantine, summary = ingest(
        folder, "--labels", tmp_path / "labels.csv", out=tmp_path / "out"
    )
    assert len(table) == 5
    values = table.set_index("id")
    assert values.loc["salt.cif", "bulk_modulus_GPa"] == 25.1
    # one bad label leaves the crystal and its other labels
    assert np.isnan(values.loc["rutile.xyz", "bulk_modulus_GPa"])
    assert values.loc["rutile.xyz", "band_gap_eV"] == 3.0
    assert values.loc["deeper/POSCAR", "band_gap_eV"] == 3.2
    rows = quarantine.set_index("id")
    pascal = rows.loc["rutile.xyz"]
    assert pascal["dropped"] == "label"
    assert pascal["field"] == "bulk_modulus_GPa"
    assert "looks like Pa" in pascal["reason"]
    assert "divide by 1e+09" in pascal["remedy"]
    assert "'many' is not a number" in rows.loc["deeper/POSCAR", "reason"]
    assert "not finite" in rows.loc["pair.json#1", "reason"]
    assert "names no crystal" in rows.loc["gone.cif", "reason"]
    assert "is missing" in rows.loc["", "reason"]
    assert "stands in row 2 already" in rows.loc["salt.cif", "reason"]
    assert (rows.loc["salt.cif", "file"], rows.loc["salt.cif", "row"]) == ("labels.csv", 8)
    assert summary["dropped_labels"] == len(quarantine) == 6


def test_labels_of_a_table_column(tmp_path):
    poscar = builders.rocksalt().to(fmt="poscar")
    pd.DataFrame(
        {"id": ["a", "b"], "formation_energy_eV_per_atom": ["-2.1", "-200"], "poscar": [poscar] * 2}
    ).to_csv(tmp_path / "t.csv", index=False)
    table, quarantine, _ = ingest(tmp_path / "t.csv", out=tmp_path / "out")
    assert table["formation_energy_eV_per_atom"].tolist()[0] == -2.1
    assert quarantine.loc[0, "id"] == "t/b"
    assert quarantine.loc[0, "field"] == "formation_energy_eV_per_atom"
    assert "kJ/mol" in quarantine.loc[0, "reason"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("name,band_gap_eV\na,1\n", "no column `id` or `file`"),
        ("id,remark\na,b\n", "no column of numbers"),
        ("", "is empty"),
    ],
)
def test_label_files_that_cannot_be_used(folder, tmp_path, content, part):
    (tmp_path / "labels.csv").write_text(content)
    message = error_of(
        "ingest", folder, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out"
    )
    assert part in message
    assert "labels.csv" in message


def test_table_without_structures(tmp_path):
    (tmp_path / "t.csv").write_text("id,band_gap_eV\na,1\n")
    message = error_of("ingest", tmp_path / "t.csv", "--out", tmp_path / "o")
    assert "no column of crystals: `poscar`" in message


@pytest.mark.parametrize("content", ["max_site: 3\n", "max_sites: 0\n", "- 1\n", "a: [\n"])
def test_bad_configuration(folder, tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    message = error_of("ingest", folder, "--config", tmp_path / "c.yaml", "--out", tmp_path / "out")
    assert "c.yaml" in message


def test_nothing_already_computed_is_lost(folder, tmp_path):
    ingest(folder, out=tmp_path / "out")
    before = (tmp_path / "out" / "structures.parquet").read_bytes()
    (tmp_path / "bad.cif").write_text("hello")
    error_of("ingest", tmp_path / "bad.cif", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "structures.parquet").read_bytes() == before


def test_same_ids_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        builders.rocksalt().to(tmp_path / name / "salt.cif")
    table, _, _ = ingest(tmp_path / "one", tmp_path / "two", out=tmp_path / "out")
    assert table["id"].tolist() == ["salt.cif", "salt.cif~2"]


def test_embedded_rows_give_the_same_on_one_and_two_processes(tmp_path, repository, monkeypatch):
    monkeypatch.setattr("matml.core.parallel.MIN_PARALLEL", 100)
    source = pd.read_csv(repository / "data/crystals/elastic.csv.gz").iloc[:130]
    source.to_csv(tmp_path / "elastic.csv.gz", index=False)
    tables = []
    for threads in (1, 2):
        out = tmp_path / f"out{threads}"
        table, quarantine, summary = ingest(
            tmp_path / "elastic.csv.gz", "--threads", threads, out=out
        )
        assert summary["accepted"] == 130
        assert len(quarantine) == 0
        tables.append(table)
    pd.testing.assert_frame_equal(tables[0], tables[1])


@pytest.mark.parametrize("name", ["formation_energy", "elastic", "dielectric"])
def test_documented_lines_read_the_embedded_tables(name, repository, tmp_path):
    """The three lines of data/README.md, word for word; only the name of the table differs."""
    text = (repository / "data" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert len(code.strip().splitlines()) == 3
    small = tmp_path / f"{name}.csv.gz"
    pd.read_csv(repository / f"data/crystals/{name}.csv.gz").iloc[:25].to_csv(small, index=False)
    scope: dict = {}
    exec(code.replace("data/crystals/elastic.csv.gz", str(small)), scope)
    assert len(scope["structures"]) == 25
    for structure, formula in zip(scope["structures"], scope["table"]["formula"], strict=True):
        assert structure.composition.reduced_formula == Composition(formula).reduced_formula


def test_labels_that_may_be_in_another_unit_or_contradict_one_another_are_told(tmp_path):
    crystals = tmp_path / "in"
    crystals.mkdir()
    for name in "abcd":
        (crystals / f"{name}.cif").write_text(builders.rocksalt().to(fmt="cif"))
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "id,bulk_modulus_GPa,shear_modulus_kbar,band_gap_pbe_eV\n"
        "a.cif,1600,1,2\nb.cif,1100,1,2\nc.cif,700,1,2\nc.cif,70,1,2\n"
    )
    _, quarantine, summary = ingest(crystals, "--labels", labels, out=tmp_path / "out")
    notes = " ".join(summary["notes"])
    assert "2 values of column bulk_modulus_GPa look like MPa or kbar" in notes
    assert "the other 1 are possible as they stand" in notes
    assert "'shear_modulus_kbar' is taken for a property of its own" in notes
    assert "band_gap_pbe_eV" not in notes
    assert "row 4 already, with bulk_modulus_GPa = 700, here 70" in " ".join(quarantine["reason"])
