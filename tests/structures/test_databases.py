"""OPTIMADE responses and Materials Project JSON, in the shapes that their servers send."""

import itertools
import json
import re

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.screening.data.reader import read_chunks
from matml.structures.crystal import Crystal
from matml.structures.ingest import document_crystals, gather
from matml.structures.io.documents import Document
from matml.structures.io.json.pages import warn_of_missing_pages
from matml.structures.io.read import read_inputs
from matml.structures.settings import StructuresSection

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


def optimade_entry(structure, identity="mp-22862", **changes):
    """An entry with the fields of the OPTIMADE specification."""
    names = [site.specie.symbol for site in structure]
    attributes = {
        "chemical_formula_reduced": "ClNa",
        "nsites": len(structure),
        "dimension_types": [1, 1, 1],
        "lattice_vectors": structure.lattice.matrix.tolist(),
        "cartesian_site_positions": structure.cart_coords.tolist(),
        "species_at_sites": names,
        "species": [
            {"name": name, "chemical_symbols": [name], "concentration": [1.0]}
            for name in sorted(set(names))
        ],
        "structure_features": [],
    }
    return {"id": identity, "type": "structures", "attributes": attributes | changes}


def response(*entries):
    return {"data": list(entries), "meta": {"api_version": "1.2.0", "more_data_available": False}}


def read(value):
    document = Document("file.json", "file.json", -1, "json", json.dumps(value))
    return dict(document_crystals(document, StructuresSection()))


def test_an_optimade_response():
    found = read(response(optimade_entry(SALT, "a/1"), optimade_entry(SALT, "a/2")))
    assert list(found) == ["file.json#a/1", "file.json#a/2"]
    for crystal in found.values():
        assert isinstance(crystal, Crystal)
        assert (crystal.formula, crystal.common_name) == ("NaCl", "rocksalt")
        assert crystal.volume_per_atom_A3 == pytest.approx(5.64**3 / 8)


def test_a_single_optimade_entry():
    found = read({"data": optimade_entry(SALT), "meta": {}})
    assert [crystal.formula for crystal in found.values()] == ["NaCl"]


def test_shared_and_vacant_sites_of_optimade_are_a_virtual_crystal():
    chlorine = {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]}
    symbols = {"chemical_symbols": ["Na", "K", "vacancy"], "concentration": [0.5, 0.25, 0.25]}
    facts = {
        "species": [{"name": "Na"} | symbols, chlorine],
        "structure_features": ["disorder"],
        "chemical_formula_reduced": "Cl4KNa2",
        "elements": ["Cl", "K", "Na"],
        "nelements": 3,
        "elements_ratios": [4 / 7, 1 / 7, 2 / 7],
    }
    [found] = read(response(optimade_entry(SALT, "a", **facts))).values()
    assert isinstance(found, Crystal), found
    assert (found.formula, found.common_name) == ("K0.25Na0.5Cl", "rocksalt")
    assert found.disordered
    for change, said in (
        ({"elements_ratios": [0.5, 0.25, 0.25]}, "elements_ratios"),
        ({"chemical_formula_reduced": "ClKNa"}, "the formula 'ClKNa' is declared"),
        ({"nsites": 3}, "2 sites, but 3 are declared"),
    ):
        [wrong] = read(response(optimade_entry(SALT, "a", **facts | change))).values()
        assert said in wrong.reason


BAD = {
    "no cartesian_site_positions": {"cartesian_site_positions": None},
    "not periodic": {"lattice_vectors": [[1, 0, 0], [0, 1, 0], [None, None, None]]},
    "1 species_at_sites for 2": {"species_at_sites": ["Na"]},
    "species 'Qq' is not described": {"species_at_sites": ["Na", "Qq"]},
    "Na0.7 K0.5, 1.2 atoms in all": {
        "species": [
            {"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.7, 0.5]},
            {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]},
        ]
    },
    "not a chemical element": {
        "species": [
            {"name": "Na", "chemical_symbols": ["X"], "concentration": [1.0]},
            {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]},
        ]
    },
    "overlapping atoms": {"cartesian_site_positions": [[0, 0, 0], [0.3, 0, 0]]},
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_entries_are_told_beside_good_ones(reason):
    found = read(response(optimade_entry(SALT, "bad", **BAD[reason]), optimade_entry(SALT, "good")))
    assert reason in found["file.json#bad"].reason
    assert found["file.json#bad"].remedy
    assert found["file.json#good"].formula == "NaCl"


@pytest.mark.parametrize("wrap", [lambda docs: docs, lambda docs: {"data": docs}])
def test_materials_project_documents(wrap):
    docs = [
        {"material_id": "mp-1", "formula_pretty": "NaCl", "structure": SALT.as_dict()},
        {"material_id": "mp-2", "cif": SALT.to(fmt="cif")},
        {"material_id": "mp-3", "structure": {"lattice": {}}},
        "nonsense",
    ]
    found = read(wrap(docs))
    assert list(found) == ["file.json#mp-1", "file.json#mp-2", "file.json#mp-3", "file.json#4"]
    one, two, three, four = found.values()
    assert np.isclose(one.volume_per_atom_A3, two.volume_per_atom_A3, rtol=1e-4)
    assert not isinstance(three, Crystal)
    assert not isinstance(four, Crystal)


def named(name):
    """The same salt, with one element called something else, as each kind of file has it."""
    species = [
        {"name": "Na", "chemical_symbols": [name], "concentration": [1.0]},
        {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]},
    ]
    structure = SALT.as_dict()
    structure["sites"][0] |= {"species": [{"element": name, "occu": 1}], "label": name}
    rows = "\n".join(f"{' '.join(map(str, row))}" for row in SALT.lattice.matrix)
    cell = " ".join(str(x) for x in SALT.lattice.matrix.ravel())
    return {
        "optimade": ("json", json.dumps(response(optimade_entry(SALT, species=species)))),
        "pymatgen": ("json", json.dumps(structure)),
        "poscar": ("poscar", f"x\n1.0\n{rows}\n{name} Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"),
        "xyz": ("xyz", f'2\nLattice="{cell}"\n{name} 0 0 0\nCl 2 2 2\n'),
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    # pymatgen reads no POSCAR whose names begin like an element
    [*itertools.product(["Qq", "Xx", "X"], named("")),
     *itertools.product(["vacancy", "Na3x"], ["optimade", "pymatgen", "xyz"])],
)  # fmt: skip
def test_a_name_that_is_no_element_is_told_as_it_was_given(name, kind):
    form, text = named(name)[kind]
    [(_, bad)] = document_crystals(Document("a", "a", -1, form, text), StructuresSection())
    assert re.fullmatch(f"site [12] holds {name}, which is not a chemical element", bad.reason)


def test_entries_of_one_name_are_numbered():
    found = read(response(optimade_entry(SALT, "same"), optimade_entry(SALT, "same")))
    assert list(found) == ["file.json#1", "file.json#2"]


def test_an_empty_response_says_so():
    [bad] = read(response()).values()
    assert "empty list" in bad.reason


def page(number, returned, more, *, linked=True, available=None):
    """A document with so many entries of `returned` that a query of a database found."""
    value = response(*[optimade_entry(SALT, f"a/{i}") for i in range(number)])
    link = {"href": "https://example.org/structures?page_offset=2"} if more else None
    value["links"] = {"next": link} if linked else {}
    value["meta"] |= {"more_data_available": more}
    for key, count in (("data_returned", returned), ("data_available", available)):
        if count is not None:
            value["meta"][key] = count
    return value


def written(folder, *values):
    for number, value in enumerate(values, start=1):
        (folder / f"page-{number}.json").write_text(json.dumps(value))
    return read_inputs([folder], StructuresSection()).items


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([page(2, 5, True)], "page-1.json: holds 2 entries .* 2 of 5 entries are read"),
        ([page(2, 5, True), page(2, 5, True)], "page-2.json: holds 2 .* 4 of 5 entries"),
        ([page(2, None, True)], "page-1.json: holds 2 entries .* only 2 entries are read"),
        ([page(2, 5, True, linked=False)], "2 of 5 entries are read"),
        ([page(2, 3, True), page(1, 3, False)], None),
        # what the database holds is not what the query asked for
        ([page(2, 3, True, available=154718), page(1, 3, False, available=154718)], None),
        ([page(2, 3, True, available=154718)], "2 of 3 entries"),
        ([page(2, None, True, available=9), page(1, None, False, available=9)], None),
        ([page(2, None, True, available=9)], r"only 2 \(of at most 9\) entries"),
        ([page(2, None, True, available=3), page(1, None, True, available=3)], None),
        ([page(2, None, True), page(1, None, False)], None),
        ([page(2, 2, False)], None),
        ([response(optimade_entry(SALT))], None),
    ],
)
def test_missing_pages_of_a_response_are_told(tmp_path, caplog, pages, said):
    items = written(tmp_path, *pages)
    warn_of_missing_pages(items)
    if said is None:
        assert not caplog.records
    else:
        (record,) = caplog.records
        assert re.search(said, record.getMessage())


def test_screening_and_ingestion_tell_of_missing_pages_once(tmp_path, caplog):
    settings = StructuresSection()
    written(tmp_path, page(2, 5, True), page(2, 5, True))
    assert sum(map(len, read_chunks([tmp_path], settings))) == 2
    assert len(caplog.records) == 1
    caplog.clear()
    assert len(list(read_chunks([tmp_path / "page-1.json"], settings))) == 1
    assert "2 of 5" in caplog.records[0].getMessage()
    caplog.clear()
    gather(read_inputs([tmp_path], settings), settings, None, 1)
    assert "4 of 5" in caplog.records[0].getMessage()
