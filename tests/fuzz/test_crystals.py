"""Spoilt files: refused with a reason, or read as the crystal that they were; never anything else.

A few hundred in every run of the tests; more by hand: ``MATML_FUZZ=10000 pytest tests/fuzz``,
and all crystals in every dialect: ``MATML_ROUND_TRIPS=6175``.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.crystal import Crystal
from matml.structures.errors import BadCrystal
from matml.structures.graphs.neighbours import fading_neighbours
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.poscar import read_poscar
from matml.structures.settings import StructuresSection

sys.path.insert(0, str(Path(__file__).parent))
from dialects import DIALECTS, Impossible, by_symbol, cif_of, poscar_of
from mutations import spoil

DATA = Path(__file__).parents[2] / "data" / "crystals"
SETTINGS = StructuresSection()
SPOILT = int(os.environ.get("MATML_FUZZ", "360"))
ROUND_TRIPS = int(os.environ.get("MATML_ROUND_TRIPS", "30"))
SLOWEST_S = 20


@cache
def embedded_texts() -> list[str]:
    """All 6,175 embedded crystals as POSCAR, well mixed."""
    names = ("formation_energy", "elastic", "dielectric")
    texts = pd.concat([pd.read_csv(DATA / f"{name}.csv.gz")["poscar"] for name in names])
    return texts.sample(frac=1, random_state=0).tolist()


@lru_cache(maxsize=2000)
def structure_of(text: str) -> Structure:
    """A crystal of the embedded ones."""
    cell, places, numbers, _ = read_poscar(text, 1000)
    return Structure(Lattice(cell), numbers, places)


@cache
def told(dialect: str, text: str) -> str | None:
    """A crystal in a dialect; nothing where that cannot express it."""
    with suppress(Impossible):
        return DIALECTS[dialect][1](structure_of(text))
    return None


def written(dialect: str, count: int, most_sites: int = 1000) -> Iterator[tuple[Structure, str]]:
    """So many embedded crystals in a dialect, of those that it can express."""
    for text in embedded_texts():
        structure = structure_of(text)
        if len(structure) > most_sites:
            continue
        if (own := told(dialect, text)) is not None:
            yield structure, own
            count -= 1
        if count == 0:
            return


def read(kind: str, text: str) -> list[Crystal | BadCrystal]:
    """The crystals of a text."""
    document = Document("x", "x", -1, kind, text)
    return [found for _, found in document_crystals(document, SETTINGS)]


def surroundings(crystal: Crystal) -> dict[int, np.ndarray]:
    """The twelve nearest distances of all atoms by element, angstrom, sorted."""
    lattice = np.ascontiguousarray(crystal.lattice)
    cartesian = np.ascontiguousarray(crystal.frac_coords @ lattice)
    atoms = np.arange(crystal.n_sites)
    centre, _, distance, _ = fading_neighbours(lattice, cartesian, atoms, 12)
    nearest = np.array([np.sort(distance[centre == atom])[:12] for atom in atoms])
    numbers = crystal.atomic_numbers
    return {int(z): np.sort(nearest[numbers == z], axis=None) for z in np.unique(numbers)}


def differ(one: Crystal | BadCrystal, other: Crystal | BadCrystal) -> str:
    """Say in what two readings of one crystal differ; nothing where they do not."""
    if isinstance(one, BadCrystal) or isinstance(other, BadCrystal):
        return f"refused: {one if isinstance(one, BadCrystal) else other}"
    names = ("formula", "n_sites", "space_group_number", "prototype", "family")
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    found = [f"{name} {a} and {b}" for name, a, b in pairs if a != b]
    change = other.volume_per_atom_A3 / one.volume_per_atom_A3 - 1
    found += [f"volume by {change:.1e}"] if abs(change) > 2e-3 else []
    if not found:
        here, there = surroundings(one), surroundings(other)
        far = max(float(np.abs(here[z] - there[z]).max()) for z in here)
        found += [f"distances by {far:.3f} A"] if far > 0.03 else []
    return "; ".join(found)


def content(structure: Structure) -> dict[str, int]:
    """Atoms by symbol in the smallest formula."""
    reduced = structure.composition.get_reduced_composition_and_factor()[0]
    return {symbol: round(amount) for symbol, amount in reduced.get_el_amt_dict().items()}


def of_crystal(crystal: Crystal) -> dict[str, int]:
    """The same of what was read."""
    numbers = Counter(crystal.atomic_numbers.tolist())
    sites = list(numbers.elements())
    return content(Structure(Lattice.cubic(9), sites, [[0, 0, 0]] * len(sites)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_reads_back(dialect):
    count = 0
    for structure, text in written(dialect, ROUND_TRIPS):
        [plain] = read("poscar", poscar_of(structure))
        [back] = read(DIALECTS[dialect][0], text)
        assert not differ(plain, back), (structure.formula, differ(plain, back), text)
        assert of_crystal(back) == content(structure)
        count += 1
    # of the embedded crystals 449 have a choice of origin, and some 300 one of axes
    assert count == ROUND_TRIPS or count >= 100


@pytest.mark.parametrize(
    ("formula", "write"),
    [
        # a formula that pymatgen does not reduce
        ("Na6 O6", cif_of),
        # atoms overlap by the other origin of the symbol
        ("Nd2 Tl2 Mo4 O16", lambda structure: by_symbol(cif_of(structure))),
        # -x+229/686 for -x+1/3
        ("Cu6 Sb2 S8", cif_of),
        # B m e m, which is B m a m or B m c m
        ("Gd2 Si4 Pt4", DIALECTS["CIF, another setting by symbol"][1]),
    ],
)
def test_what_did_not_read_back(formula, write):
    for text in (text for text in embedded_texts() if text.startswith(f"{formula}\n")):
        structure = structure_of(text)
        with suppress(Impossible):
            [plain] = read("poscar", poscar_of(structure))
            [back] = read("cif", write(structure))
            assert not differ(plain, back)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_spoilt_files_are_refused_or_read_as_they_were(dialect):
    crystals = list(written(dialect, 25, most_sites=24))
    rng = random.Random(f"{dialect} 7")
    for number in range(SPOILT // len(DIALECTS)):
        structure, good = crystals[number % len(crystals)]
        text = spoil(good, rng)
        begin = time.process_time()
        found = read(DIALECTS[dialect][0], text)
        assert time.process_time() - begin < SLOWEST_S
        assert found
        for one in found:
            if isinstance(one, BadCrystal):
                assert one.reason
                assert one.remedy
            else:
                assert of_crystal(one) == content(structure), f"{text}\n{one}"
                assert np.isfinite(one.frac_coords).all()
