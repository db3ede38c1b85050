"""Tags that are nearly ones that are read: their values would be passed over in silence."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from matml.structures.io.cif.tags import (
    ANGLES,
    EDGES,
    FORMULAS,
    MULTIPLICITY,
    SYMMETRY_ORDER,
    SYSTEM,
)
from matml.structures.io.minerals import TAGS
from matml.structures.io.space_groups import HALL, NUMBER, OPERATIONS, SETTING_CODE, SYMBOL

SITE = (
    *("label", "type_symbol", "fract_x", "fract_y", "fract_z", "cartn_x", "cartn_y", "cartn_z"),
    *("occupancy", "attached_hydrogens", "calc_flag", "disorder_assembly", "disorder_group"),
    "wyckoff_symbol",
)
KNOWN = frozenset(
    (
        *(*EDGES, *ANGLES, *FORMULAS, *MULTIPLICITY, SYMMETRY_ORDER, *SYSTEM, *dict(TAGS)),
        *(*OPERATIONS, *HALL, *SYMBOL, *NUMBER, SETTING_CODE),
        *(f"_atom_site_{name}" for name in SITE),
        *(f"_atom_type_{name}" for name in ("symbol", "oxidation_number", "number_in_cell")),
        *(f"_exptl_crystal_{name}" for name in ("density_diffrn", "density_meas", "f_000")),
        *("_cell_volume", "_cell_formula_units_z", "_chemical_formula_weight"),
    )
)


def _without_one(tag: str) -> Iterator[str]:
    return (tag[:i] + tag[i + 1 :] for i in range(1, len(tag)))


SHORTER = {short: tag for tag in sorted(KNOWN) for short in _without_one(tag)}
SHORT_FORMS = {"_atom_site_occ": "_atom_site_occupancy"}


@lru_cache(maxsize=4096)
def nearly(tag: str) -> str:
    """Return the tag that differs from one by a letter, by two exchanged or its short form."""
    if tag in SHORT_FORMS:
        return SHORT_FORMS[tag]
    for short in (tag, *_without_one(tag)):
        if short in KNOWN:
            return short
        if short in SHORTER:
            return SHORTER[short]
    return ""


def passed_over(block: Mapping[str, list[str]]) -> list[str]:
    """Return notes on the tags of a block that are no known ones, but nearly."""
    return [
        f"the tag {tag} was passed over: is {known} meant?"
        for tag in block
        if tag not in KNOWN and (known := nearly(tag)) and known not in block
    ]
