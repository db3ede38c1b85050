"""Labels find their crystals by any usual name, and never vanish."""

import builders
import pytest

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


def test_the_configuration_finds_them_before_anything_runs(crystals, tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("id,bulk_modulus_GPa\nhalite,25\npepper,3\n")
    values = {"structures": {"inputs": [str(crystals)], "labels": str(labels)}}
    with pytest.raises(MatmlError, match=r"2 of 2 rows name no crystal"):
        load(values)
    labels.write_text("id,bulk_modulus_GPa\nsalt.cif#1,25\nzincite,3\n")
    load(values)
