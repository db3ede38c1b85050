"""Spoilt files: refused with a reason, or read as the crystal that they were; never anything else.

A few hundred in every run of the tests; more by hand: ``MATML_FUZZ=10000 pytest tests/fuzz``.
"""

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.crystal import Crystal
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.poscar import read_poscar
from matml.structures.settings import StructuresSection

sys.path.insert(0, str(Path(__file__).parent))
from mutations import DIALECTS, spoil

DATA = Path(__file__).parents[2] / "data" / "crystals"
SETTINGS = StructuresSection()
SPOILT = int(os.environ.get("MATML_FUZZ", "360"))
ROUND_TRIPS = int(os.environ.get("MATML_ROUND_TRIPS", "4"))
SLOWEST_S = 20


def embedded(step: int) -> list[Structure]:
    """Every `step`-th embedded crystal."""
    texts = pd.concat(
        [
            pd.read_csv(DATA / f"{name}.csv.gz")["poscar"]
            for name in ("formation_energy", "elastic", "dielectric")
        ]
    )
    cells = [read_poscar(text, 1000) for text in texts.iloc[::step]]
    return [Structure(Lattice(cell), numbers, places) for cell, places, numbers, _ in cells]


def read(kind: str, text: str) -> list[Crystal | BadCrystal]:
    """The crystals of a text."""
    document = Document("x", "x", -1, kind, text)
    return [found for _, found in document_crystals(document, SETTINGS)]


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
    kind, write = DIALECTS[dialect]
    for structure in embedded(max(1, 6175 // (ROUND_TRIPS * 10))):
        [plain] = read("poscar", DIALECTS["POSCAR"][1](structure))
        [back] = read(kind, write(structure))
        assert isinstance(plain, Crystal)
        assert isinstance(back, Crystal), (structure.formula, back)
        assert of_crystal(back) == of_crystal(plain) == content(structure)
        assert back.n_sites == plain.n_sites
        assert back.family == plain.family
        assert back.volume_per_atom_A3 == pytest.approx(plain.volume_per_atom_A3, rel=2e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_spoilt_files_are_refused_or_read_as_they_were(dialect):
    kind, write = DIALECTS[dialect]
    crystals = [s for s in embedded(97) if len(s) <= 24]
    rng = random.Random(f"{dialect} 7")
    for number in range(SPOILT // len(DIALECTS)):
        structure = crystals[number % len(crystals)]
        text = spoil(write(structure), rng)
        begin = time.process_time()
        found = read(kind, text)
        assert time.process_time() - begin < SLOWEST_S
        assert found
        for one in found:
            if isinstance(one, BadCrystal):
                assert one.reason
                assert one.remedy
            else:
                assert of_crystal(one) == content(structure), f"{text}\n{one}"
                assert np.isfinite(one.frac_coords).all()
