"""Checks of a user's few labels before anything is adapted to them."""

from collections.abc import Sequence

import numpy as np
from pymatgen.core import Composition

from matml.core.errors import MatmlError
from matml.properties.data.targets import Property
from matml.structures.crystals import CrystalSet
from matml.structures.duplicates import find_duplicates
from matml.structures.labels.values import RANGES, check_label

SURPRISING, EXPLAINED = 4.0, 0.2
"""A label is in another unit where it misses the prediction by more than so many scales, and in
that unit by less than this share of it and one scale. Of 8,360 supports of training families with
right labels, predicted by networks that had not seen the family, 3 are refused."""
PER_CELL, FEWEST_PER_CELL = 2.0, 3
"""The same for energies per cell, whose factor is small and the crystal's own: medians over the
labels, of which there must be so many."""
OUTLYING = 8.0
"""Scales beyond which a label gets a warning that no unit explains."""
LOGARITHM, MEGABAR = "log10 of the value", "Mbar"
SQUARE = "the dielectric constant, its square"
"""Of a refractive index; judged as energies per cell are, since it is not far off either. Of 2,580
right supports of 3, 5 or 10 labels, judged as above, 2 are refused, of 2,544 squared ones 2,202."""


def crystal_name(crystals: CrystalSet, row: int) -> str:
    """Return how messages name a crystal: with its label's file and row where they are known."""
    entry = crystals.table.iloc[row]
    return f"support crystal {entry.get('origin') or entry['id']}"


def to_numbers(values: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """Return labels as float64 [size].

    Raises
    ------
    MatmlError
        Where they are no numbers, or not `size` of them.
    """
    try:
        if np.ma.isMA(values):  # what is masked is no label
            values = np.ma.filled(values.astype(float), np.nan)
        numbers = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError) as error:
        raise MatmlError(
            f"values: not a list of numbers ({error}); give one number per structure"
        ) from None
    if numbers.shape != (size,):
        raise MatmlError(
            f"{' x '.join(map(str, numbers.shape))} values for {size} structures: give one value "
            "each"
        )
    return numbers


def check_values(crystals: CrystalSet, values: np.ndarray, item: Property) -> None:
    """Refuse labels that are not finite, not positive where that must be, or unphysical.

    Raises
    ------
    MatmlError
        Names the crystal, the value, and the unit that it seems to have.
    """
    for row, value in enumerate(values):
        where = crystal_name(crystals, row)
        if not np.isfinite(value):
            raise MatmlError(
                f"{where}: {item.name} = {value} is not a finite number; leave the crystal out"
            )
        try:
            item.to_scale(np.array([value]))
        except MatmlError as error:
            raise MatmlError(f"{where}: {error}") from None
        _, reason, remedy = check_label(item.name, value)
        if reason:
            raise MatmlError(f"{where}: {reason}; {remedy}")


def without_repeats(
    crystals: CrystalSet, values: np.ndarray, item: Property
) -> tuple[np.ndarray, list[str]]:
    """Return the rows that hold each crystal once, and what was left out.

    Raises
    ------
    MatmlError
        Where one crystal has two different labels; names both.
    """
    table = crystals.table
    first = dict(zip(table["id"], range(len(table)), strict=True))
    keep, notes = np.ones(len(table), bool), []
    for row, same in enumerate(find_duplicates(table, threads=1)[0]):
        if not same:
            continue
        names = f"{crystal_name(crystals, row)} is the same crystal as"
        other = crystal_name(crystals, first[same]).removeprefix("support crystal ")
        if values[row] != values[first[same]]:
            raise MatmlError(
                f"{names} {other}, but {item.name} is {values[row]:g} for the one and "
                f"{values[first[same]]:g} for the other; keep the right one"
            )
        notes.append(f"{names} {other}, with the same label: it is used once")
        keep[row] = False
    return np.flatnonzero(keep), notes


def constant_note(values: np.ndarray, item: Property) -> list[str]:
    """Return a warning where several different crystals all have one label."""
    if len(values) < 2 or len(np.unique(values)) > 1:
        return []
    return [
        f"all {len(values)} labels of {item.name} are {values[0]:g}, though the crystals differ: "
        "if this is a placeholder or the wrong column, the predictions are wrong, too"
    ]


def other_units(
    crystals: CrystalSet, values: np.ndarray, item: Property
) -> dict[str, tuple[np.ndarray, str]]:
    """Return what the labels would be if they were given in other units, and how to mend them."""
    known = RANGES.get(item.name)
    found = {}
    for unit, factor in (known.mistakes if known else {}).items():
        found[unit] = (values / factor, f"divide by {factor:g}")
    if item.unit == "GPa":
        found[MEGABAR] = (values * 100, "multiply by 100")
    if item.logarithmic:
        with np.errstate(over="ignore"):
            found[LOGARITHM] = (10.0**values, "give the value itself")
    if item.name == "refractive_index":
        found[SQUARE] = (np.sqrt(values), "take the square root")
    if item.unit.endswith("/atom"):
        atoms = {
            "primitive cell": crystals.table["n_sites"],
            # the Pearson symbol within the prototype, as cF8 of AB_cF8_225_a_b
            "conventional cell": crystals.table["prototype"].str.extract(r"_[a-z]+[A-Z](\d+)_")[0],
            "formula unit": [Composition(f).num_atoms for f in crystals.table["formula"]],
        }
        for whole, counts in atoms.items():
            unit = f"{item.unit.removesuffix('/atom')} per {whole}"
            converted = values / np.asarray(counts, dtype=float)
            found[unit] = (converted, "divide by the number of atoms")
    return found


def check_units(
    crystals: CrystalSet,
    values: np.ndarray,
    item: Property,
    predicted: np.ndarray,
    scale: float,
    deviation: float,
) -> list[str]:
    """Refuse labels that only another unit explains; return warnings for what nothing does.

    The measure is the prediction before any label: if a label misses it by far, and would fit it
    in a common other unit, then that is the unit.

    Parameters
    ----------
    predicted
        What the networks say of the crystals before adapting, on the learned scale.
    scale
        Half width of the 90 % interval of that prediction.
    deviation
        Standard deviation of the training labels, on the learned scale.

    Raises
    ------
    MatmlError
        Names label, prediction, likely unit and remedy.
    """
    wide = max(scale, deviation / 3)
    missed = np.abs(item.to_scale(values) - predicted)
    likely: dict[str, np.ndarray] = {}
    judged = {}
    units = other_units(crystals, values, item)
    for unit, (converted, _) in units.items():
        positive = converted > 0 if item.logarithmic else np.ones(len(values), bool)
        would_miss = np.full(len(values), np.inf)
        would_miss[positive] = np.abs(item.to_scale(converted[positive]) - predicted[positive])
        if " per " in unit or unit == SQUARE:
            whole = len(values) >= FEWEST_PER_CELL and np.median(missed) > PER_CELL * scale
            odd = (missed > scale) & (would_miss < missed) & whole
            odd &= np.median(would_miss) < EXPLAINED * np.median(missed)
        else:
            odd = (missed > SURPRISING * wide) & (would_miss < EXPLAINED * missed)
            odd &= would_miss < wide
            # any large factor brings a label near zero, which tells nothing where zero is expected
            odd &= item.logarithmic | (np.abs(predicted) > wide)
        if odd.any():
            likely[unit], judged[unit] = odd, (odd.sum(), -np.median(would_miss[odd]))
    if likely:
        unit = max(judged, key=judged.__getitem__)
        odd, (converted, remedy) = likely[unit], units[unit]
        worst = np.flatnonzero(odd)[np.argmax(missed[odd])]
        raise MatmlError(
            f"{crystal_name(crystals, worst)}: {item.name} = {values[worst]:g} looks like {unit}: "
            f"without any label {_shown(item, predicted[worst])} is expected, and as {unit} it "
            f"would be {converted[worst]:.3g}; {odd.sum()} of {len(values)} labels look so; "
            f"{remedy}, or, if they are right, adapt with check_units=False (--trust-labels)"
        )
    rest = missed - np.median(missed) if len(values) > 2 else missed
    notes = [
        f"{crystal_name(crystals, int(row))}: {item.name} = {values[row]:g} is far from what is "
        f"expected without any label ({_shown(item, predicted[row])}) and no common unit explains "
        "it: check the value"
        for row in np.flatnonzero((missed > OUTLYING * wide) & (rest > OUTLYING / 2 * wide))
    ]
    if not notes and len(values) > 2 and np.median(missed) > SURPRISING * wide:
        notes.append(
            f"the labels of {item.name} (median {np.median(values):g}) are all far from what is "
            f"expected without them (median {_shown(item, np.median(predicted))}) and no common "
            "unit explains it: check them"
        )
    return notes


def _shown(item: Property, predicted: float) -> str:
    """Return a prediction on the learned scale as text with its unit."""
    return f"{item.from_scale(predicted):.3g} {item.unit}".rstrip()
