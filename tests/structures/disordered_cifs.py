"""Disordered CIFs written from crystals of the embedded data: kinds of disorder x dialects."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from pymatgen.core import Element, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matml.structures.elements import RADII_A

SHIFT_A = 0.25
"""How far positions of a split site lie from its middle."""


@dataclass(frozen=True)
class Row:
    """One orbit of sites: what it holds, where it is, in how many places; its disorder group."""

    content: dict[str, float]
    position: np.ndarray
    multiplicity: int
    wyckoff: str
    group: str = "."


@dataclass(frozen=True)
class Average:
    """A crystal by its space group, with the orbits of its conventional cell."""

    lattice: Lattice
    symbol: str
    number: int
    operations: list
    rows: list[Row]

    @classmethod
    def of(cls, structure: Structure) -> "Average":
        refined = SpacegroupAnalyzer(structure, 0.1).get_refined_structure()
        analyzer = SpacegroupAnalyzer(refined, 0.01)
        sites = analyzer.get_symmetrized_structure()
        rows = [
            Row({own[0].specie.symbol: 1.0}, own[0].frac_coords, len(own), letters[-1])
            for own, letters in zip(sites.equivalent_sites, sites.wyckoff_symbols, strict=True)
        ]
        operations = analyzer.get_space_group_operations()
        symbol = analyzer.get_space_group_symbol()
        return cls(
            refined.lattice, symbol, analyzer.get_space_group_number(), list(operations), rows
        )

    def images(self, position: np.ndarray) -> int:
        """Return the number of places equivalent to one."""
        found = np.array([op.operate(position) for op in self.operations])
        apart = found[:, None] - found[None]
        near = (np.abs(apart - np.rint(apart)) < 1e-4).all(2)
        return int((near.argmax(1) == np.arange(len(found))).sum())

    def amounts(self) -> dict[str, float]:
        """Return the atoms of the cell by symbol."""
        found: dict[str, float] = {}
        for row in self.rows:
            for symbol, share in row.content.items():
                found[symbol] = found.get(symbol, 0.0) + share * row.multiplicity
        return found


def _like(symbol: str, others: set[str], generator: np.random.Generator) -> str:
    """Return an element of the same group or, where there is none left, of the same row."""
    own = Element(symbol)
    known = [Element.from_Z(z) for z in range(3, 84) if not Element.from_Z(z).is_noble_gas]
    alike = [e.symbol for e in known if e.group == own.group and e.symbol not in others]
    alike = alike or [e.symbol for e in known if e.row == own.row and e.symbol not in others]
    return str(generator.choice(sorted(alike)))


def shared(crystal: Average, place: int, x: float, generator) -> list[Row]:
    """One more element on one orbit."""
    row = crystal.rows[place]
    [(symbol, _)] = row.content.items()
    other = _like(symbol, set(crystal.amounts()), generator)
    return [_with(row, {symbol: x, other: round(1 - x, 4)})]


def empty(crystal: Average, place: int, x: float, _) -> list[Row]:
    """Vacancies on one orbit."""
    row = crystal.rows[place]
    return [_with(row, dict.fromkeys(row.content, x))]


def shared_and_empty(crystal: Average, place: int, x: float, generator) -> list[Row]:
    """One more element on one orbit, and vacancies."""
    [row] = shared(crystal, place, x, generator)
    return [_with(row, {symbol: round(0.9 * share, 4) for symbol, share in row.content.items()})]


def many(crystal: Average, place: int, _: float, generator) -> list[Row]:
    """Five elements in equal shares on one orbit, as in alloys of high entropy."""
    row = crystal.rows[place]
    symbols = list(row.content)
    while len(symbols) < 5:
        symbols.append(_like(symbols[0], {*symbols, *crystal.amounts()}, generator))
    return [_with(row, dict.fromkeys(symbols, 0.2))]


def split(crystal: Average, place: int, x: float, _) -> list[Row]:
    """Positions about the sites of one orbit, moved along an edge, of which one is occupied."""
    row = crystal.rows[place]
    steps = np.diag(SHIFT_A / np.array(crystal.lattice.abc))[::-1]
    numbers = [crystal.images(row.position + step) for step in steps]
    # along the first edge that leaves the site's symmetry
    axis = int(np.argmax(np.array(numbers) > row.multiplicity))
    moved, number = row.position + steps[axis], numbers[axis]
    share = round((1.0 if x < 0.6 else 0.9) * row.multiplicity / number, 4)
    if share == 1:
        return []  # a general position
    return [
        Row(dict.fromkeys(row.content, share), moved, number, "", "-1" if share <= 0.5 else ".")
    ]


def alternatives(crystal: Average, place: int, x: float, generator) -> list[Row]:
    """Two elements near to each other, one of which is there: two disorder groups."""
    [row] = shared(crystal, place, x, generator)
    (first, share), (second, rest) = row.content.items()
    moved = row.position + np.array([0, 0, SHIFT_A]) / np.array(crystal.lattice.abc)
    number = crystal.images(moved)
    rest = round(rest * row.multiplicity / number, 4)
    return [
        Row({first: share}, row.position, row.multiplicity, row.wyckoff, "1"),
        Row({second: rest}, moved, number, "", "2"),
    ]


def _with(row: Row, content: dict[str, float]) -> Row:
    return Row(content, row.position, row.multiplicity, row.wyckoff)


KINDS = (shared, empty, shared_and_empty, many, split, alternatives)
SHARES = (0.5, 0.75, 0.333, 0.9, 0.62)


def disordered(crystal: Average, kind, number: int, generator) -> Average | None:
    """Return the crystal with one kind of disorder; None where it has no room for it."""
    x = SHARES[number % len(SHARES)]
    radius = [max(RADII_A[Element(s).Z] for s in row.content) for row in crystal.rows]
    # positions of a split site must be too near to be occupied at once
    fits = [i for i, r in enumerate(radius) if kind not in (split, alternatives) or r > 1.1]
    if not fits:
        return None
    place = int(generator.choice(fits))
    changed = kind(crystal, place, x, generator)
    if not changed:
        return None
    rows = [*crystal.rows[:place], *changed, *crystal.rows[place + 1 :]]
    return Average(crystal.lattice, crystal.symbol, crystal.number, crystal.operations, rows)


def head(crystal: Average, name: str) -> str:
    """Return the data block up to its symmetry."""
    lengths = zip("abc", crystal.lattice.abc, strict=True)
    angles = zip(("alpha", "beta", "gamma"), crystal.lattice.angles, strict=True)
    edges = "".join(f"_cell_length_{axis} {value:.5f}\n" for axis, value in lengths)
    return (
        f"data_{name}\n{edges}"
        + "".join(f"_cell_angle_{axis} {value:.4f}\n" for axis, value in angles)
    )  # fmt: skip


def operations_loop(crystal: Average) -> str:
    """Return the loop of operations."""
    listed = "".join(f"'{op.as_xyz_str()}'\n" for op in crystal.operations)
    return f"loop_\n_symmetry_equiv_pos_as_xyz\n{listed}"


def loop(columns: str, rows: list[list[str]]) -> str:
    """Return a loop of atom sites."""
    return (
        "loop_\n"
        + "".join(f"_atom_site_{name}\n" for name in columns.split())
        + "".join(" ".join(row) + "\n" for row in rows)
    )


def _entries(crystal: Average) -> Iterator[tuple[int, Row, str, float]]:
    """Yield number, orbit, symbol and share of every row to be written."""
    number = 0
    for row in crystal.rows:
        for symbol, share in row.content.items():
            number += 1
            yield number, row, symbol, share


def plain(crystal: Average, name: str) -> str:
    """Operations, labels and types; the formula of the cell."""
    formula = " ".join(f"{s}{n:.4g}" for s, n in sorted(crystal.amounts().items()))
    rows = [
        [f"{s}{i}", s, *(f"{x:.6f}" for x in row.position), f"{share:g}"]
        for i, row, s, share in _entries(crystal)
    ]
    return (
        f"{head(crystal, name)}_chemical_formula_sum '{formula}'\n_cell_formula_units_Z 1\n"
        f"{operations_loop(crystal)}"
        + loop("label type_symbol fract_x fract_y fract_z occupancy", rows)
    )


def database(crystal: Average, name: str) -> str:
    """As inorganic databases write: multiplicities, letters, uncertainties, oxidation states."""
    rows = [
        [
            f"{s}{i}", f"{s}0+", str(row.multiplicity), row.wyckoff or "?",
            *(f"{x:.5f}(2)" for x in row.position), f"{share:.4f}(9)" if share < 1 else "1.", "0",
        ]
        for i, row, s, share in _entries(crystal)
    ]  # fmt: skip
    columns = "label type_symbol symmetry_multiplicity Wyckoff_symbol fract_x fract_y fract_z "
    return (
        f"{head(crystal, name)}_symmetry_Int_Tables_number {crystal.number}\n"
        f"{operations_loop(crystal)}" + loop(f"{columns}occupancy attached_hydrogens", rows)
    )


def refined(crystal: Average, name: str) -> str:
    """As refinement programs write: assemblies and groups, no type symbols, displacements."""
    rows = [
        [
            f"{s}{i}", *(f"{x:.5f}" for x in row.position), "0.0123(4)", f"{share:.4f}",
            "." if row.group == "." else "A", row.group,
        ]
        for i, row, s, share in _entries(crystal)
    ]  # fmt: skip
    columns = "label fract_x fract_y fract_z U_iso_or_equiv occupancy "
    formula = " ".join(f"{s}{n:.3f}" for s, n in sorted(crystal.amounts().items()))
    return (
        f"{head(crystal, name)}_chemical_formula_sum '{formula}'\n_cell_formula_units_Z 1\n"
        f"{operations_loop(crystal)}" + loop(f"{columns}disorder_assembly disorder_group", rows)
    )


def vacancies(crystal: Average, name: str) -> str:
    """With a row for what is missing on a site, in digits of three."""
    rows = []
    for number, (i, row, s, share) in enumerate(_entries(crystal)):
        rows.append([f"{s}{i}", s, *(f"{x:.6f}" for x in row.position), f"{share:.3f}"])
        left = 1 - sum(row.content.values())
        if left > 0.01 and s == list(row.content)[-1] and not row.group.strip("."):
            place = (f"{x:.6f}" for x in row.position)
            rows.append([f"Vac{number}", "Vac", *place, f"{left:.3f}"])
    return f"{head(crystal, name)}{operations_loop(crystal)}" + loop(
        "label type_symbol fract_x fract_y fract_z occupancy", rows
    )


def pymatgen_style(crystal: Average, name: str) -> str:
    """All sites of the cell in P1, by pymatgen."""
    sites: list = []
    for row in crystal.rows:
        places = np.array([op.operate(row.position) for op in crystal.operations]) % 1
        apart = places[:, None] - places[None]
        first = (np.abs(apart - np.rint(apart)) < 1e-4).all(2).argmax(1) == np.arange(len(places))
        sites += [(row.content, place) for place in places[first]]
    structure = Structure(crystal.lattice, [c for c, _ in sites], [p for _, p in sites])
    return structure.to(fmt="cif")


DIALECTS = (plain, database, refined, vacancies, pymatgen_style)


def written(
    structures: list[Structure], number: int, seed: int = 0
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield name, text and atomic fractions by symbol of so many disordered CIFs."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(structures)).tolist()
    cases = list(product(KINDS, DIALECTS))
    made = 0
    while made < number:
        kind, dialect = cases[made % len(cases)]
        crystal = Average.of(structures[order.pop()])
        changed = disordered(crystal, kind, made, generator)
        if changed is None:
            continue
        amounts = changed.amounts()
        total = sum(amounts.values())
        name = f"{made}-{kind.__name__}-{dialect.__name__}"
        yield name, dialect(changed, name), {s: n / total for s, n in amounts.items()}
        made += 1
