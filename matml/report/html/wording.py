"""Words for people: property names from column names, method titles, data sources."""

from matml.core.statistics import WORTH_NAMING
from matml.properties.data.targets import split_unit
from matml.report.html.markup import escape

# what the embedded tables are, where they come from, and whom to cite
SOURCES = {
    "formation_energy.csv.gz": (
        "formation energy and energy above the convex hull (density-functional theory, "
        "Materials Project)",
        "F. Faber et al., Int. J. Quantum Chem. 115 (2015) 1094",
        "10.1002/qua.24917",
    ),
    "elastic.csv.gz": (
        "bulk and shear modulus (density-functional theory, Materials Project)",
        "M. de Jong et al., Scientific Data 2 (2015) 150009",
        "10.1038/sdata.2015.9",
    ),
    "dielectric.csv.gz": (
        "band gap and refractive index (density-functional theory, Materials Project)",
        "I. Petousis et al., Scientific Data 4 (2017) 160134",
        "10.1038/sdata.2016.134",
    ),
}
LICENCE = "CC BY 4.0"
HULL = "energy_above_hull_eV_per_atom"
FORMATION_ENERGY = "formation_energy_eV_per_atom"


def ordinal(value: float) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th` …"""
    place = int(value)
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10)
    return f"{place:,}{ending or 'th'}"


def clearly(over: str) -> str:
    """Return what “clearly” means on the page, where differences are paired over such tasks."""
    return (
        f"“Clearly”: the 95 % interval of the paired difference over {over} excludes zero, and the "
        f"difference is {100 * WORTH_NAMING:.0f} % of the baseline’s error or more."
    )


def property_title(column: str) -> str:
    """Return a property's name in words, such as `bulk modulus`."""
    return split_unit(column)[0]


def unit_text(unit: object) -> str:
    """Return a unit for a title, ` (GPa)`, or nothing for a pure number."""
    text = "" if unit is None or unit != unit or str(unit) in ("", "1") else str(unit)
    return f" ({text})" if text else ""


ACRONYMS = {name.lower(): name for name in ("TTT", "JMAK", "MAML", "FOMAML", "HRC", "GP")}


def title_of(name: str) -> str:
    """Return the name of a data set or method in words, such as `Simulated TTT`."""
    words = [ACRONYMS.get(word.lower(), word) for word in name.replace("_", " ").split()]
    return sentence(" ".join(words))


def sentence(text: str) -> str:
    """Return text with a capital first letter."""
    return text[:1].upper() + text[1:]


def doi(identifier: str) -> str:
    """Return a link to a DOI; it is followed only when it is clicked."""
    return f'<a href="https://doi.org/{escape(identifier)}">doi:{escape(identifier)}</a>'


def family_title(common_name: object, label: str) -> str:
    """Return a family's common name, or its label where it has none."""
    name = "" if common_name is None or common_name != common_name else str(common_name)
    return name or label
