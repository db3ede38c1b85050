"""Candidate crystals: ions exchanged in a prototype, filtered by charge, chemistry and size."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Element, Lattice, Structure

from matml.core.errors import MatmlError
from matml.screening.generate import perovskites
from matml.screening.generate.ions import Ion, electronegativity_gap, ion, oxidation_states
from matml.screening.generate.prototypes import Prototype
from matml.screening.generate.volume import VolumeModel, fit_volume, guess_sizes, site_radii
from matml.screening.settings import ScreeningSection

BARTEL_LIMIT = 4.18
MOST_COMBINATIONS = 2_000_000
SOURCES = {
    "oxidation_states": "pymatgen element data (common or ICSD-derived)",
    "ionic_radii": "R. D. Shannon, Acta Cryst. A32 (1976) 751",
    "electronegativity": "L. Pauling; test as in D. W. Davies et al., Chem 1 (2016) 617",
    "tolerance_factor": "V. M. Goldschmidt, Naturwissenschaften 14 (1926) 477; window of "
    "M. A. Green, A. Ho-Baillie, H. J. Snaith, Nature Photonics 8 (2014) 506",
    "octahedral_factor": "upper bound from M. A. Green et al. (2014); the lower one lies below "
    "sqrt(2) - 1 of rigid spheres, since LaAlO3 (0.38) is a perovskite",
    "bartel_tau": "C. J. Bartel et al., Science Advances 5 (2019) eaav0693",
}


@dataclass(frozen=True)
class Candidate:
    """Ions on the sites of the prototype, in the order of its sites."""

    ions: tuple[Ion, ...]

    def factors(self) -> dict[str, float]:
        """Tolerance factor, octahedral factor and Bartel's tau of ions on A, B and X."""
        a, b, x = self.ions
        return {
            "tolerance_factor": perovskites.tolerance_factor(a.radius, b.radius, x.radius),
            "octahedral_factor": perovskites.octahedral_factor(b.radius, x.radius),
            "bartel_tau": perovskites.bartel_tau(a.radius, b.radius, x.radius, a.charge),
        }


def site_options(prototype: Prototype, settings: ScreeningSection) -> list[list[Ion]]:
    """Ions that may go on each site, ordered by atomic number and charge.

    For a perovskite the tolerance and octahedral factors judge the size later; elsewhere an ion
    must be within `radius_margin` of the range that the known members span on that site.
    """
    cations = [
        (element.symbol, charge)
        for element in Element
        if element.symbol not in settings.exclude_elements
        for charge in sorted(oxidation_states(element.symbol, settings.oxidation_states))
        if charge > 0
    ]
    anions = [
        (symbol, charge)
        for symbol in settings.anions
        for charge in oxidation_states(symbol, "common")
        if charge < 0
    ]
    options = []
    for index, site in enumerate(prototype.sites):
        pairs = anions if site.is_anion else cations
        found = [ion(symbol, charge, site.coordination, settings.spin) for symbol, charge in pairs]
        # an ion never met near that coordination (Pt2+ among twelve O) is left out
        ions = [
            entry
            for entry in found
            if entry is not None and entry.coordination_gap <= settings.max_coordination_gap
        ]
        if not prototype.is_perovskite:
            radii = [member.ions[index].radius for member in prototype.members]
            low = min(radii) * (1 - settings.radius_margin)
            high = max(radii) * (1 + settings.radius_margin)
            ions = [entry for entry in ions if low <= entry.radius <= high]
        options.append(ions)
    return options


def neutral_combinations(
    options: Sequence[Sequence[Ion]], counts: Sequence[int]
) -> Iterator[tuple[Ion, ...]]:
    """Yield ions on the sites such that charges cancel and all elements differ.

    Raises
    ------
    MatmlError
        Where there are more than two million combinations.
    """
    by_charge: list[dict[int, list[Ion]]] = []
    for ions in options:
        groups = defaultdict(list)
        for entry in ions:
            groups[entry.charge].append(entry)
        by_charge.append(groups)
    neutral = [
        charges
        for charges in itertools.product(*by_charge)
        if sum(n * q for n, q in zip(counts, charges, strict=True)) == 0
    ]
    total = sum(
        math.prod(len(groups[q]) for groups, q in zip(by_charge, charges, strict=True))
        for charges in neutral
    )
    if total > MOST_COMBINATIONS:
        raise MatmlError(
            f"{total:,} charge-neutral combinations are more than {MOST_COMBINATIONS:,}: give "
            "fewer `anions`, more `exclude_elements` or a smaller `radius_margin`"
        )
    for charges in neutral:
        pools = (groups[q] for groups, q in zip(by_charge, charges, strict=True))
        for ions in itertools.product(*pools):
            if len({entry.symbol for entry in ions}) == len(ions):
                yield ions


def generate(
    prototype: Prototype, settings: ScreeningSection
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make the candidates of a prototype.

    Returns
    -------
    table
        One row per candidate, a table that `matml structures ingest` reads: `material_id`,
        `formula`, `poscar`, then what is known of it (`oxidation_states`, one `site_…` element
        and one `radius_…_angstrom` per site, `electronegativity_gap`, `guessed_size_angstrom`:
        cube root of the volume per atom; for perovskites `tolerance_factor`,
        `octahedral_factor`, `bartel_tau`, `lattice_parameter_angstrom`).
    summary
        Counts after each filter and the quality of the volume guess.

    Raises
    ------
    MatmlError
        Where no candidate is left (names the filter that took the last) or too many are.
    """
    options = site_options(prototype, settings)
    counts: dict[str, int] = {}
    for site, ions in zip(prototype.sites, options, strict=True):
        counts[f"ions_for_site_{site.name}"] = len(ions)
    stages = ["charge_neutral", "pauling_test"]
    if prototype.is_perovskite:
        stages += ["tolerance_factor", "octahedral_factor"]
        stages += ["bartel_tau"] if settings.bartel_tau_max is not None else []
    counts |= dict.fromkeys(stages, 0)
    best: dict[frozenset[tuple[str, int]], tuple[float, Candidate]] = {}
    typical = _typical_radii(prototype)
    amounts = [site.count for site in prototype.sites]
    for combination in neutral_combinations(options, amounts):
        candidate = Candidate(combination)
        passed = _passes(candidate, prototype, settings)
        for stage in stages[: 1 + passed]:
            counts[stage] += 1
        if passed < len(stages) - 1:
            continue
        # the same elements in the same amounts are one crystal-to-be: keep the best arrangement
        key = frozenset((entry.symbol, n) for entry, n in zip(combination, amounts, strict=True))
        misfit = _misfit(candidate, prototype, typical)
        if key not in best or misfit < best[key][0]:
            best[key] = misfit, candidate
    kept = [candidate for _, candidate in best.values()]
    counts["one_per_composition"] = len(kept)
    if not kept:
        emptied = next(name for name, n in counts.items() if n == 0)
        raise MatmlError(
            f"no candidate of {prototype.family!r} is left after the step {emptied!r} "
            f"({counts}); widen its setting in the screening section"
        )
    if len(kept) > settings.max_candidates:
        raise MatmlError(
            f"{len(kept):,} candidates are more than max_candidates = {settings.max_candidates:,}: "
            "raise it, or give fewer `anions` or a smaller `radius_margin`"
        )
    model = fit_volume(prototype)
    table = _table(kept, prototype, model)
    summary = {
        "family": prototype.family,
        "n_candidates": len(table),
        "counts": counts,
        "sites": [
            {"name": s.name, "atoms": s.count, "coordination": s.coordination, "anion": s.is_anion}
            for s in prototype.sites
        ],
        "volume": _volume_summary(model, prototype),
        "sources": _sources(prototype, settings),
    }
    if prototype.is_perovskite:
        summary["n_below_bartel_limit"] = int((table["bartel_tau"] < BARTEL_LIMIT).sum())
        inside = [_passes(Candidate(m.ions), prototype, settings) for m in prototype.members]
        summary["n_known_members_that_pass_all_filters"] = sum(
            passed >= len(stages) - 1 for passed in inside
        )
    return table, summary


def _sources(prototype: Prototype, settings: ScreeningSection) -> dict[str, str]:
    """Whom to cite for what candidates are filtered by, or told to have."""
    found = dict(SOURCES)
    if not prototype.is_perovskite:
        for name in ("tolerance_factor", "octahedral_factor", "bartel_tau"):
            del found[name]
    elif settings.bartel_tau_max is None:
        found["bartel_tau"] += " (reported for each candidate; not used as a filter)"
    return found


def _passes(candidate: Candidate, prototype: Prototype, settings: ScreeningSection) -> int:
    """How many filters after charge neutrality a candidate passes, in their order."""
    if electronegativity_gap(candidate.ions) < settings.pauling_margin:
        return 0
    if not prototype.is_perovskite:
        return 1
    factors = candidate.factors()
    low, high = settings.tolerance_factor
    if not low <= factors["tolerance_factor"] <= high:
        return 1
    low, high = settings.octahedral_factor
    if not low <= factors["octahedral_factor"] <= high:
        return 2
    limit = settings.bartel_tau_max
    return 4 if limit is None or factors["bartel_tau"] < limit else 3


def _typical_radii(prototype: Prototype) -> np.ndarray | None:
    if not prototype.members:
        return None
    return np.mean([site_radii(member.ions) for member in prototype.members], axis=0)


def _misfit(candidate: Candidate, prototype: Prototype, typical: np.ndarray | None) -> float:
    """How badly ions suit their sites: |t - 1| in a perovskite, else distance to typical radii."""
    if prototype.is_perovskite:
        return abs(candidate.factors()["tolerance_factor"] - 1)
    return float(np.abs(np.array(site_radii(candidate.ions)) - typical) @ prototype.counts)


def _table(kept: list[Candidate], prototype: Prototype, model: VolumeModel | None) -> pd.DataFrame:
    # which takes as long to import as all the rest
    from pymatgen.io.vasp import Poscar

    radii = np.array([site_radii(candidate.ions) for candidate in kept])
    sizes = guess_sizes(prototype, model, radii)
    # cell edges scale with the cube root of the volume per atom
    parent_size = np.cbrt(prototype.parent.volume / len(prototype.parent))
    rows = []
    for candidate, size in zip(kept, sizes, strict=True):
        structure = _substitute(prototype, candidate, float(size / parent_size))
        formula = structure.composition.reduced_formula
        row: dict[str, Any] = {
            "material_id": formula,
            "formula": formula,
            "poscar": Poscar(structure, comment=formula).get_str(significant_figures=6),
            "oxidation_states": " ".join(str(entry) for entry in candidate.ions),
            "extrapolated_radii": " ".join(str(e) for e in candidate.ions if e.extrapolated),
        }
        for site, entry in zip(prototype.sites, candidate.ions, strict=True):
            row[f"site_{site.name}"] = entry.symbol
            row[f"radius_{site.name}_angstrom"] = entry.radius
        row["electronegativity_gap"] = electronegativity_gap(candidate.ions)
        row["guessed_size_angstrom"] = float(size)
        if prototype.is_perovskite:
            row |= candidate.factors()
            row["lattice_parameter_angstrom"] = float(size * np.cbrt(5))
        rows.append(row)
    return pd.DataFrame(rows)


def _substitute(prototype: Prototype, candidate: Candidate, stretch: float) -> Structure:
    """The parent with other ions on its sites, all cell edges multiplied by `stretch`."""
    parent = prototype.parent
    # atoms of one element together, as POSCAR wants them
    order = sorted(range(len(parent)), key=lambda atom: prototype.site_of_atom[atom])
    return Structure(
        Lattice(parent.lattice.matrix * stretch),
        [candidate.ions[prototype.site_of_atom[atom]].symbol for atom in order],
        [parent[atom].frac_coords for atom in order],
    )


def _volume_summary(model: VolumeModel | None, prototype: Prototype) -> dict[str, Any]:
    if model is None:
        return {"method": "contact of ionic radii, not calibrated", "n_members": 0}
    errors = 100 * np.abs(model.errors)
    return {
        "method": "ridge regression of the cube root of the volume per atom on ionic radii",
        "n_members": len(errors),
        "n_known_crystals": prototype.n_known,
        "length_error_percent_mean_leave_one_out": float(errors.mean()),
        "length_error_percent_median_leave_one_out": float(np.median(errors)),
        "length_error_percent_largest_leave_one_out": float(errors.max()),
    }
