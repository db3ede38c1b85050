"""Labels find their crystals by any usual name, and never vanish."""

import builders
import pytest
import yaml
from click.testing import CliRunner

from matml.cli.config import config
from matml.config.files import load
from matml.core.errors import MatmlError
from matml.structures.ingest import gather
from matml.structures.io.read import read_inputs
from matml.structures.labels.names import CrystalNames
from matml.structures.settings import StructuresSection

NAMES = CrystalNames(
    [
        ("z.zip/in/salt.cif", "", "z.zip/in/salt.cif"),
        ("t/mp-22", "mp-22", "t.csv"),
        ("a/POSCAR", "", "a/POSCAR"),
        ("b/POSCAR", "", "b/POSCAR"),
    ]
)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("z.zip/in/salt.cif", [0]),
        ("in/salt.cif", [0]),
        ("./in/salt.cif", [0]),
        ("in\\salt.cif", [0]),
        ("/home/me/in/salt.cif", [0]),
        ("salt.cif", [0]),
        ("salt", [0]),
        ("mp-22", [1]),
        ("t/mp-22", [1]),
        ("a/POSCAR", [2]),
        ("POSCAR", [2, 3]),
        ("pepper", []),
    ],
)
def test_names(key, found):
    assert NAMES.find(key) == found


@pytest.fixture
def crystals(tmp_path):
    folder = tmp_path / "crystals"
    folder.mkdir()
    for name, structure in {
        "salt.cif": builders.rocksalt(),
        "periclase.cif": builders.rocksalt("Mg", "O", 4.21),
        "zincite.cif": builders.wurtzite(),
    }.items():
        structure.to(folder / name)
    return folder


def gathered(crystals, labels):
    settings = StructuresSection()
    return gather(read_inputs([crystals], settings), settings, labels, 1)


def test_labels_reach_their_crystals(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("file;bulk_modulus_GPa\ncrystals/salt.cif;25,1\nzincite;140,5\n")
    table = gathered(crystals, labels).table.set_index("id")
    assert table.loc["salt.cif", "bulk_modulus_GPa"] == 25.1
    assert table.loc["zincite.cif", "bulk_modulus_GPa"] == 140.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,bulk_modulus_GPa\nhalite,25\npepper,3\nzincite,140\n",
            r"2 of 3 rows name no crystal of the inputs by their `id` \('halite', 'pepper'\)",
        ),
        (
            "id,bulk_modulus_GPa,band_gap_eV\nsalt,1_50,8\nzincite,x,3\n",
            r"column bulk_modulus_GPa keeps no value; the first, in row 2: .*'1_50'",
        ),
    ],
)
def test_labels_that_would_vanish_end_the_run(crystals, tmp_path, text, message):
    labels = tmp_path / "l.csv"
    labels.write_text(text)
    with pytest.raises(MatmlError, match=message):
        gathered(crystals, labels)


def test_columns_that_nearly_name_a_property_are_told(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("id,Bulk modulus (GPa),shear_modulas_GPa,melting_point_K\nsalt,25,12,1074\n")
    found = gathered(crystals, labels)
    assert found.label_names == ["bulk_modulus_GPa", "shear_modulas_GPa", "melting_point_K"]
    assert found.notes == [
        "l.csv: column 'Bulk modulus (GPa)' read as bulk_modulus_GPa",
        "l.csv: column 'shear_modulas_GPa' is taken for a property of its own, whose values are "
        "not checked: if it is shear_modulus_GPa, call it so and give it in that unit",
    ]
    labels.write_text("id,Bulk modulus (GPa),bulk_modulus_GPa\nsalt,25,12\n")
    with pytest.raises(MatmlError, match=r"'bulk_modulus_GPa' and 'Bulk modulus .GPa.' are both"):
        gathered(crystals, labels)


def test_a_row_of_other_units_is_refused(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("id,bulk_modulus_GPa\n-,MPa\nsalt,25\n")
    with pytest.raises(MatmlError, match="is in GPa by its name, but row 2 says 'MPa'"):
        gathered(crystals, labels)


def test_rows_cut_short_are_not_filled(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("id,bulk_modulus_GPa,band_gap_eV\nsalt,25,8\nzincite,14\n")
    found = gathered(crystals, labels)
    assert found.table["bulk_modulus_GPa"].count() == 1
    [told] = found.quarantine.to_dict("records")
    assert (told["row"], told["reason"]) == (3, "2 fields where the header has 3")


def test_the_configuration_finds_them_before_anything_runs(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("id,bulk_modulus_GPa\nhalite,25\npepper,3\n")
    values = {"structures": {"inputs": [str(crystals)], "labels": str(labels)}}
    with pytest.raises(MatmlError, match=r"2 of 2 rows name no crystal"):
        load(values)
    labels.write_text("id,bulk_modulus_GPa\nsalt.cif#1,25\nzincite,3\n")
    load(values)
    labels.write_text("id,bulk_modulus_GPa\nsalt,25\nzincite,3\nzincit,3\n")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(config, ["check", str(tmp_path / "c.yaml")])
    assert "2 of 3 rows name a crystal of the inputs; 'zincit' is none" in result.output
    assert "'zincite.cif'" in result.output
