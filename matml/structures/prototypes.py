"""Common names of well-known prototypes, and the slots where their anions usually are."""

from dataclasses import dataclass, field
from enum import Enum


class Usual(Enum):
    """Prototypes in which the place of the anion does not make a family of its own."""

    ANY = "any"


@dataclass(frozen=True)
class KnownPrototype:
    """A prototype with a name.

    Attributes
    ----------
    name
        Common name of the usual occupation.
    usual
        Slots (letters of the prototype's formula) that anions take in it; crystals with anions
        elsewhere are another family. `Usual.ANY` for intermetallic types, never split.
    others
        Name by the slots that anions take, for unusual occupations that have one.
    """

    name: str
    usual: str | Usual = Usual.ANY
    others: dict[str, str] = field(default_factory=dict)


PROTOTYPES: dict[str, KnownPrototype] = {
    "ABC3_cP5_221_a_b_c": KnownPrototype(
        "cubic perovskite", "C", {"B": "antiperovskite", "AB": "antiperovskite"}
    ),
}
