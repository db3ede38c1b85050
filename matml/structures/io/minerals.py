"""What well-known names of minerals and structure types mean, held against a crystal.

Only names that mean one structure, or one at each temperature, are listed: 25 of them stand in the
AFLOW prototype library (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)), of which a test takes
formulas and space groups; 44 agree with crystals of `data/crystals`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pymatgen.core.periodic_table import Element

from matml.structures.elements import MAX_ATOMIC_NUMBER
from matml.structures.io.declared import other_ratio, parse_formula
from matml.structures.symmetry.subgroups import subgroups

COMPOUNDS = {
    **{"Anatase": "TiO2 141", "Brookite": "TiO2 61", "Baddeleyite": "ZrO2 14"},
    **{"Quartz": "SiO2 152 154 180 181", "Coesite": "SiO2 15", "Stishovite": "SiO2 136"},
    **{"Alpha quartz": "SiO2 152 154", "Beta quartz": "SiO2 180 181"},
    **{"Cristobalite": "SiO2 92 96 122 227", "Cassiterite": "SnO2 136", "Pyrolusite": "MnO2 136"},
    **{"Halite": "NaCl 225", "Sylvite": "KCl 225", "Villiaumite": "NaF 225", "Lime": "CaO 225"},
    **{"Periclase": "MgO 225", "Bunsenite": "NiO 225", "Manganosite": "MnO 225"},
    **{"Galena": "PbS 225", "Alabandite": "MnS 225", "Zincite": "ZnO 186", "Tenorite": "CuO 15"},
    **{"Sphalerite": "ZnS 216", "Greenockite": "CdS 186", "Hawleyite": "CdS 216"},
    **{"Metacinnabar": "HgS 216", "Cinnabar": "HgS 152 154", "Covellite": "CuS 194"},
    **{"Hematite": "Fe2O3 167", "Haematite": "Fe2O3 167", "Eskolaite": "Cr2O3 167"},
    **{"Karelianite": "V2O3 167", "Magnetite": "Fe3O4 227", "Hausmannite": "Mn3O4 141"},
    **{"Calcite": "CaCO3 167", "Aragonite": "CaCO3 62", "Magnesite": "MgCO3 167"},
    **{"Siderite": "FeCO3 167", "Rhodochrosite": "MnCO3 167", "Smithsonite": "ZnCO3 167"},
    **{"Dolomite": "CaMg(CO3)2 148", "Cuprite": "Cu2O 224", "Uraninite": "UO2 225"},
    **{"Thorianite": "ThO2 225", "Brucite": "Mg(OH)2 164", "Portlandite": "Ca(OH)2 164"},
    **{"Molybdenite": "MoS2 160 194", "Forsterite": "Mg2SiO4 62", "Fayalite": "Fe2SiO4 62"},
    **{"Hercynite": "FeAl2O4 227", "Gahnite": "ZnAl2O4 227", "Zincochromite": "ZnCr2O4 227"},
    **{"Goethite": "FeOOH 62", "Lepidocrocite": "FeOOH 63", "Diaspore": "AlOOH 62"},
    **{"Boehmite": "AlOOH 63", "Chalcopyrite": "CuFeS2 122"},
    **{"Andalusite": "Al2SiO5 58", "Kyanite": "Al2SiO5 2", "Sillimanite": "Al2SiO5 62"},
    **{"Lonsdaleite": "C 194", "Graphite": "C 186 194 166"},
}
TYPES = {
    **{"Rutile": "TiO2 136", "Fluorite": "CaF2 225", "Antifluorite": "Li2O 225"},
    **{"Rocksalt": "NaCl 225", "Rock salt": "NaCl 225", "Cesium chloride": "CsCl 221"},
    **{"Wurtzite": "ZnS 186", "Zincblende": "ZnS 216", "Zinc blende": "ZnS 216"},
    **{"Corundum": "Al2O3 167", "Ilmenite": "FeTiO3 148", "Spinel": "MgAl2O4 227"},
    **{"Pyrite": "FeS2 205", "Marcasite": "FeS2 58", "Diamond": "C 227", "Zircon": "ZrSiO4 141"},
    **{"Scheelite": "CaWO4 88", "Bixbyite": "Mn2O3 206", "Cubic perovskite": "SrTiO3 221"},
}
"""Names that other compounds are called by, too: of the formula only the ratio is compared."""
ASIDE = re.compile(
    r"#.*|\b(mp-\d+|structure|type|phase|bulk|(unit|primitive|conventional) cell|relaxed|synthetic|"
    r"poscar|contcar)\b|\(\d+\)",
    re.IGNORECASE,
)
"""What a name is written with."""
GREEK = {"α": "alpha ", "β": "beta "}
ANIONS = {
    **{"oxide": "O", "fluoride": "F", "chloride": "Cl", "bromide": "Br", "iodide": "I"},
    **{"sulfide": "S", "sulphide": "S", "selenide": "Se", "telluride": "Te", "nitride": "N"},
    **{"phosphide": "P", "carbide": "C", "hydride": "H", "hydroxide": "OH", "hydrate": "H2O"},
    **{"carbonate": "CO3", "nitrate": "NO3", "sulfate": "SO4", "sulphate": "SO4"},
    **{"phosphate": "PO4", "aluminium": "Al", "caesium": "Cs", "sulphur": "S"},
}
"""Ends of words in systematic names, with what they name."""
FORMULA = re.compile(r"(?=.*[a-z\d])(?:[A-Z][a-z]?[\d.]*|[()])+")
"""A word that is a formula; `BCC` and `LNO` are not."""
TAGS = (
    ("_chemical_name_mineral", False),
    ("_chemical_name_systematic", False),
    ("_pd_phase_name", False),
    ("_chemical_name_common", False),
    ("_chemical_name_structure_type", True),
)
KEYS = (("mineral", False), ("mineral_name", False), ("structure_type", True))
"""Where CIFs and entries or rows of tables have names, and whether of the type alone."""
NAMES = "declared_names"
OTHER_NAME = "correct the name, or give the crystal that it means"


@dataclass(frozen=True)
class Name:
    """A name that a crystal is called by.

    Attributes
    ----------
    text
        As it is written.
    of_type
        Whether it says the structure type alone.
    confirmed
        Whether a formula is declared beside it.
    comment
        Whether it stands in a comment, which may be stale.
    """

    text: str
    of_type: bool = False
    confirmed: bool = False
    comment: bool = False


@dataclass(frozen=True)
class Meaning:
    """What a name says; `of_any` where elements may be others."""

    name: str
    formula: str
    groups: frozenset[int]
    of_any: bool

    @property
    def amounts(self) -> dict[str, float]:
        """Atoms by symbol of the formula."""
        return parse_formula(self.formula) or {}


MEANINGS = {
    name.lower().replace("-", " "): Meaning(
        name, text.split()[0], frozenset(map(int, text.split()[1:])), of_any
    )
    for names, of_any in ((COMPOUNDS, False), (TYPES, True))
    for name, text in names.items()
}


def meaning_of(text: str) -> Meaning | None:
    """Return what a name says, which may stand beside a formula; None for all but known ones."""
    for letter, word in GREEK.items():
        text = text.replace(letter, word)
    words = re.split(r"[\s_,-]+", ASIDE.sub(" ", text))
    left = (word for word in words if not (word.isdigit() or parse_formula(word)))
    return MEANINGS.get(" ".join(left).strip().lower())


@cache
def _words() -> dict[str, str]:
    """Return what English words name, longer ones first."""
    elements = map(Element.from_Z, range(1, MAX_ATOMIC_NUMBER + 1))
    words = {**ANIONS, **{element.long_name.lower(): element.symbol for element in elements}}
    return dict(sorted(words.items(), key=lambda item: -len(item[0])))


def not_named(text: str, formula: str) -> str:
    """Return the elements that a systematic name tells and a formula lacks, '' where it has all."""
    named: dict[str, float] = {}
    for word in re.findall("[a-z]+", text.lower()):
        # hexahydrate, trioxide; but of elements the whole word
        end = next((x for x in _words() if word == x or (x in ANIONS and word.endswith(x))), "")
        named |= parse_formula(_words().get(end, "")) or {}
    return " and ".join(sorted(named.keys() - (parse_formula(formula) or named).keys()))


def names_in(
    held: Mapping[str, Any], keys: Iterable[tuple[str, bool]], *, confirmed: bool
) -> list[Name]:
    """Return the names that tags of a CIF or columns of a row hold."""
    found = [(held.get(key), of_type) for key, of_type in keys]
    texts = [(value[0] if isinstance(value, list) and value else value, x) for value, x in found]
    return [Name(text, of_type, confirmed) for text, of_type in texts if isinstance(text, str)]


def other_than_named(name: Name, formula: str, space_group: int) -> tuple[str, bool] | None:
    """Return what contradicts a name, and whether one of the two is certainly wrong.

    Where a formula confirms the crystal, only its polymorph can be another.
    """
    meaning, amounts = meaning_of(name.text), parse_formula(formula)
    systematic = meaning is None and not (name.comment or name.of_type)
    if systematic and (more := not_named(name.text, formula)):
        return f"it is called {name.text.strip()!r}, but {formula} holds no {more}", False
    if systematic and amounts:
        words = filter(FORMULA.fullmatch, re.split(r"[\s_,;]+", name.text))
        held = {word: atoms for word in words if len(atoms := parse_formula(word) or {}) > 1}
        if held and all(other_ratio(atoms, word, amounts) for word, atoms in held.items()):
            return f"it is called {name.text.strip()!r}, but the crystal is {formula}", False
    if meaning is None or not amounts:
        return None
    said = (
        f"it is called {name.text.strip()!r}, which is {meaning.formula} in space group "
        f"{' or '.join(map(str, sorted(meaning.groups)))}, but the crystal is {formula} in space "
        f"group {space_group}"
    )
    any_elements = meaning.of_any or name.of_type
    if not _may_be(meaning, amounts, any_elements=any_elements):
        return said, not (any_elements or name.confirmed or name.comment)
    if space_group in meaning.groups:
        return None
    others = [
        other.name
        for other in MEANINGS.values()
        if space_group in other.groups and _is(other, amounts, any_elements=other.of_any)
    ]
    related = any(
        space_group in subgroups(group) or group in subgroups(space_group)
        for group in meaning.groups
    )
    certain = bool(others) and not (related or name.comment)
    return said + (f", as {others[0].lower()}" if others else ""), certain


def _is(meaning: Meaning, amounts: Mapping[str, float], *, any_elements: bool) -> bool:
    """Whether atoms by symbol are in the ratio of a name's."""
    expected, scale = meaning.amounts, sum(amounts.values()) / sum(meaning.amounts.values())
    if any_elements:
        pairs = list(zip(sorted(expected.values()), sorted(amounts.values()), strict=False))
        same = len(expected) == len(amounts)
    else:
        pairs = [(n, amounts.get(symbol, 0.0)) for symbol, n in expected.items()]
        same = expected.keys() == amounts.keys()
    return same and all(abs(n * scale - other) < 0.02 for n, other in pairs)


def _may_be(meaning: Meaning, amounts: Mapping[str, float], *, any_elements: bool) -> bool:
    """Whether atoms by symbol may be of a name; mixed crystals with further elements are."""
    expected = meaning.amounts
    if not any_elements:
        further = expected.keys() < amounts.keys()
        return further or _is(meaning, amounts, any_elements=False)
    if any(abs(amount - round(amount)) > 1e-6 for amount in amounts.values()):
        return True
    # LiMn2O4 has three elements as MgAl2O4 has, Fe3O4 two and Li2NiMn3O8 four
    one, other = list(expected.values()), list(amounts.values())
    return _merges(one, other) or _merges(other, one)


def _merges(fine: list[float], coarse: list[float]) -> bool:
    """Whether amounts, of one element or of several together, are in the ratio of others."""
    if not len(coarse) <= len(fine) <= 6:
        return len(fine) > 6
    scale = sum(coarse) / sum(fine)

    def fill(left: list[float], rest: list[float]) -> bool:
        if not rest:
            return all(abs(amount) < 0.02 for amount in left)
        return any(
            fill([x - rest[0] * (i == place) for i, x in enumerate(left)], rest[1:])
            for place in range(len(left))
            if left[place] > rest[0] - 0.02
        )

    return fill(coarse, [amount * scale for amount in fine])
