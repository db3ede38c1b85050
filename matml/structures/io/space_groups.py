"""Symmetry operations that a CIF declares: by a list, a Hall symbol, a Hermann-Mauguin symbol, a
number.

Symbols are looked up in gemmi's table of the 530 settings of the International Tables.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import gemmi
import numpy as np

from matml.structures.errors import BadCrystal

OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
SYMBOL = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref",
    "_symmetry_space_group_name_h-m_alt",
)
NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
SETTING_CODE = "_space_group_it_coordinate_system_code"
MAGNETIC = ("_space_group_magn", "_space_group_symop_magn")
TYPESET = re.compile(
    r"~|</?su[bp]>|\$|_\{|(?<=\d)\}(?=[/\sa-d])|\s*\((?:no\.?\s*)?\d{2,3}\)\s*$|(?<=\d)\(([1-5])\)",
    re.IGNORECASE,
)
"""How CIF, HTML and TeX lower the screw of an axis; and the number behind a symbol."""
FULL_AXES = re.compile(r"(?<=\s)(?:2|21)/(?=[a-n])|(?<=^[A-Z]\s)4\d?/(?=[a-n]\s-3)")
"""Axes that the short symbol leaves out: of `P 42/m 21/n 2/m` and `F 4/m -3 2/m`."""
MINUS = str.maketrans(dict.fromkeys("−–—‐‑﹣-", "-"))
# what programs write behind a symbol: S, Z (ICSD's origins 1 and 2), H, R, HR, axes in words
ORIGIN = {"s": "1", "z": "2", "1": "1", "2": "2"}
AXES = {"h": "H", "hr": "H", "r": "R", "rs": "R", "hexagonal": "H", "rhombohedral": "R"}
SYSTEMS: dict[str, range] = {
    "triclinic": range(1, 3),
    "monoclinic": range(3, 16),
    "orthorhombic": range(16, 75),
    "tetragonal": range(75, 143),
    "trigonal": range(143, 168),
    "rhombohedral": range(143, 168),
    # of axes and lattices, trigonal ones are called so, too
    "hexagonal": range(143, 195),
    "cubic": range(195, 231),
}
"""Space groups by crystal system."""
TRANSLATION_TOLERANCE = 4e-3
"""Of operations, in fractions of an edge."""
METRIC_TOLERANCE = 2e-2
"""Relative change of a cell's metric by an operation, above rounding of edges and angles."""


@dataclass(frozen=True)
class Operations:
    """One reading of a crystal's symmetry.

    Attributes
    ----------
    origin
        What declares it, in words.
    rotations, translations
        In fractional coordinates, [operations, 3, 3] and [operations, 3].
    number
        Of the space group in the International Tables, 0 where the table has no such setting.
    """

    origin: str
    rotations: np.ndarray
    translations: np.ndarray
    number: int

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def kinds(self) -> Counter:
        """Kinds of rotations by determinant and trace: equal for equal point groups."""
        turns = np.rint(np.linalg.det(self.rotations)), self.rotations.trace(axis1=1, axis2=2)
        return Counter(zip(*(map(float, turn) for turn in turns), strict=True))


@lru_cache(maxsize=1024)
def _of_group(name: str, origin: str) -> Operations:
    """Return the operations of a setting by gemmi's extended symbol, worked out once."""
    group = gemmi.find_spacegroup_by_name(name)
    return _of_ops(list(group.operations()), origin, group.number)


def _of_ops(operations: Sequence[gemmi.Op], origin: str, number: int) -> Operations:
    return Operations(
        origin,
        np.array([op.rot for op in operations], dtype=np.float64) / gemmi.Op.DEN,
        np.array([op.tran for op in operations], dtype=np.float64) / gemmi.Op.DEN,
        number,
    )


def _in_24ths(triplet: str) -> str:
    """Return an operation whose translations miss a crystallographic one by rounding with that.

    Programs that search symmetry within a tolerance write -x+229/686 for -x+1/3.
    """

    def exact(found: re.Match) -> str:
        above, below = int(found[2]), int(found[3])
        parts = round(24 * above / below) if below else 0
        if not below or abs(above / below - parts / 24) > TRANSLATION_TOLERANCE:
            return found[0]
        return f"{found[1]}{parts}/24"

    return re.sub(r"([+-]?)(\d+)/(\d+)", exact, triplet)


@lru_cache(maxsize=4096)
def _listed(triplets: tuple[str, ...]) -> Operations:
    """Return listed operations, completed to the group that they generate.

    Raises
    ------
    BadCrystal
        For one that is no operation.
    """
    operations = []
    for triplet in dict.fromkeys(triplets):
        try:
            operations.append(gemmi.Op(_in_24ths(triplet.translate(MINUS).strip())).wrap())
        except RuntimeError as error:
            raise BadCrystal(
                f"the symmetry operation {triplet!r} cannot be read ({error})",
                "write operations as x,y,z in quotes, such as '-x,y+1/2,-z'",
            ) from None
    try:
        group = gemmi.GroupOps(operations)
        closed = list(group)
    except RuntimeError as error:
        raise BadCrystal(
            f"the {len(operations)} symmetry operations form no group ({error})",
            "give all operations of the space group",
        ) from None
    # gemmi completes what is listed, but for the steps of the centring
    steps = np.array(group.cen_ops)
    sums = (steps[:, None] + steps).reshape(-1, 3) % gemmi.Op.DEN
    size = len(group.sym_ops) * len({tuple(step) for step in sums.tolist()})
    if len({op.triplet() for op in operations}) != size:
        raise BadCrystal(
            f"the {len(operations)} symmetry operations form no group"
            + (f": with their products they are {size}" if closed else ""),
            "give all operations of the space group, each once",
        )
    known = gemmi.find_spacegroup_by_ops(group)
    return _of_ops(closed, "the list of operations", known.number if known else 0)


def declared_operations(
    block: dict[str, list[str]], angles: tuple[float, float, float], notes: list[str]
) -> list[Operations]:
    """Return the symmetries that a block declares, the likeliest first, without repeats.

    Parameters
    ----------
    block
        Values by lower-case tag.
    angles
        Of the cell, degrees: they tell hexagonal from rhombohedral axes.
    notes
        What was passed over is appended.

    Raises
    ------
    BadCrystal
        Where operations cannot be read, or the only symbol is unknown.
    """
    found: list[Operations] = []
    for triplets in _given(block, OPERATIONS):
        if any(part.endswith(",") for part in triplets):
            # x, y, z without quotes
            triplets = re.sub(r",\s+", ",", " ".join(triplets)).split()
        found.append(_listed(tuple(triplets)))
    listed, unknown = bool(found), []
    for first, *_ in _given(block, HALL):
        hall = first.translate(MINUS)
        named = _by_hall(hall)
        found += [named] if named else []
        unknown += [] if named else [f"Hall symbol {hall!r}"]
    symbols = list(dict.fromkeys(cell for tag in SYMBOL for cell in block.get(tag, []) if cell))
    code = next((cell.upper() for cell in block.get(SETTING_CODE, [])), "")
    for symbol in symbols:
        settings = _by_symbol(symbol, angles, code)
        found += settings
        unknown += [] if settings else [f"space-group symbol {symbol!r}"]
    for number, *_ in _given(block, NUMBER):
        if not (number.isdigit() and 1 <= int(number) <= 230):
            raise BadCrystal(
                f"space-group number {number!r}", "give a number from 1 to 230, or leave it out"
            )
        if not any(one.number == int(number) for one in found):
            found += _by_number(int(number), code)
    if not found:
        if unknown:
            raise BadCrystal(
                f"{unknown[0]} is not known, and no operations are listed",
                "list the operations (_space_group_symop_operation_xyz), or write the symbol as in "
                "the International Tables, such as 'P 1 21/c 1' or 'F d -3 m :2'",
            )
        if magnetic := next((tag for tag in block if tag.startswith(MAGNETIC)), ""):
            raise BadCrystal(
                f"only the magnetic symmetry is given ({magnetic}), and that is not read",
                "list the operations of the crystal without moments, with their centring "
                "(_space_group_symop_operation_xyz)",
            )
        return []
    notes += [f"{text} is not known; {found[0].origin} was used" for text in unknown]
    return _without_repeats(found, listed)


def number_of_symbol(symbol: str) -> int:
    """Return the number of the space group that a Hermann-Mauguin symbol means, 0 if unknown."""
    names = _settings(symbol, "H", 90.0, 90.0)
    return gemmi.find_spacegroup_by_name(names[0]).number if names else 0


def number_of_hall(symbol: str) -> int:
    """Return the number of the space group that a Hall symbol means, 0 where it is unknown."""
    found = _by_hall(symbol)
    return found.number if found else 0


def number_of_operations(triplets: tuple[str, ...]) -> int:
    """Return the number of the space group of listed operations, 0 where its setting is unknown.

    Raises
    ------
    BadCrystal
        Where they cannot be read, or form no group.
    """
    return _listed(triplets).number


def has_other_origin(operations: Operations) -> bool:
    """Whether the group of operations has a second origin in the International Tables."""
    return any(
        one.number == operations.number and one.ext in "12" for one in gemmi.spacegroup_table()
    )


def keep_metric(operations: Operations, lattice: np.ndarray) -> bool:
    """Whether all operations leave the lengths and angles of a cell as they are."""
    metric = lattice @ lattice.T
    turned = np.swapaxes(operations.rotations, 1, 2) @ metric @ operations.rotations
    return bool(np.abs(turned - metric).max() <= METRIC_TOLERANCE * np.abs(metric).max())


def _given(block: dict[str, list[str]], tags: Sequence[str]) -> list[list[str]]:
    """Return the values of each tag that has any."""
    values = ([v for v in block.get(tag, []) if v.strip()] for tag in tags)
    return [value for value in values if value]


def _without_repeats(found: list[Operations], listed: bool) -> list[Operations]:
    """Leave out symmetries that say what an earlier one says.

    A symbol seldom tells origin and setting, so a list of operations of the same space group, or of
    the same size and kinds of rotations, is taken for it.
    """
    kept = found[:1]
    for one in found[1:]:
        if listed and (
            (one.number == kept[0].number and len(one) == len(kept[0]))
            or (kept[0].number == 0 and one.kinds == kept[0].kinds)
        ):
            continue
        if any(_equal(one, other) for other in kept):
            continue
        kept.append(one)
    return kept


def _equal(one: Operations, other: Operations) -> bool:
    def members(operations: Operations) -> set[bytes]:
        steps = np.rint(np.mod(operations.translations, 1) * gemmi.Op.DEN) % gemmi.Op.DEN
        rows = np.concatenate([operations.rotations.reshape(-1, 9), steps], axis=1)
        return {row.tobytes() for row in rows.astype(np.int8)}

    return len(one) == len(other) and members(one) == members(other)


@lru_cache(maxsize=1024)
def _by_hall(hall: str) -> Operations | None:
    """Return the operations of a Hall symbol; None where it cannot be read."""
    try:
        group = gemmi.symops_from_hall(hall)
    except RuntimeError:
        return None
    known = gemmi.find_spacegroup_by_ops(group)
    return _of_ops(list(group), f"the Hall symbol {hall!r}", known.number if known else 0)


def _by_symbol(symbol: str, angles: tuple[float, float, float], code: str) -> list[Operations]:
    """Return the settings that a Hermann-Mauguin symbol may mean; none where it is unknown.

    `code` is that of origin or axes in the International Tables, '' where it is not declared.
    """
    alpha, _, gamma = angles
    # a rhombohedral cell has three equal angles, a hexagonal one 120 degrees
    rhombohedral = max(angles) - min(angles) < 0.5
    axes = "R" if rhombohedral else "H"
    names = _coded(_settings(symbol, axes, round(alpha, 2), round(gamma, 2)), code)
    said = f"the space-group symbol {symbol!r}"
    return [
        _of_group(name, said if len(names) == 1 else f"{said} (setting {name!r})") for name in names
    ]


def _coded(names: Sequence[str], code: str) -> Sequence[str]:
    """Return the settings of a code, all where none has it."""
    return [name for name in names if code and name.endswith(f":{code}")] or names


@lru_cache(maxsize=4096)
def _settings(symbol: str, axes: str, alpha: float, gamma: float) -> tuple[str, ...]:
    """Return gemmi's extended symbols of the settings that a symbol may mean."""
    text = TYPESET.sub(r"\1", symbol.translate(MINUS)).replace("_", "").strip()
    text = re.sub(r"\bbar\b|-\s+(?=\d)", "-", text)
    choice, stem = "", text
    found = re.search(
        r"(?i)[\s:({\[]+(?:origin\s*(?:choice)?\s*)?([szhr12]|hr|rs|hexagonal|rhombohedral)(?:\s*axes)?[\s)}\]]*$",
        text,
    )
    group = gemmi.find_spacegroup_by_name(text, alpha, gamma)
    if found and (group is None or ":" in text or found.group(0).strip()[:1] in "({["):
        word = found.group(1).lower()
        stem = text[: found.start()].strip()
        choice = ORIGIN.get(word, "") or AXES.get(word, "")
        group = gemmi.find_spacegroup_by_name(stem, alpha, gamma)
    if group is None:
        short = FULL_AXES.sub("", text) if "1" not in text.split() else text
        return _settings(short, axes, alpha, gamma) if short != text else ()
    # e stands for two glide planes at once; away from C m m e and C c c e, the standard settings,
    # such a symbol has two origins, which gemmi's table names by either plane
    plain = "".join(stem.split())
    either = re.compile(plain.replace("e", "[abc]") if plain[:1] in "AB" else "(?!)")
    settings = [
        one.xhm()
        for one in gemmi.spacegroup_table()
        if one.number == group.number
        and (one.hm == group.hm or either.fullmatch("".join(one.hm.split())))
    ]
    if choice:
        chosen = tuple(name for name in settings if name.endswith(f":{choice}"))
        return chosen or (tuple(settings) if len(settings) == 1 else ())
    if group.number in RHOMBOHEDRAL and len(settings) > 1:
        return tuple(name for name in settings if name.endswith(f":{axes}"))
    return tuple(settings)


RHOMBOHEDRAL = (146, 148, 155, 160, 161, 166, 167)


@lru_cache(maxsize=256)
def _by_number(number: int, code: str) -> list[Operations]:
    """Return the settings of a number's standard symbol that have a code."""
    standard = gemmi.get_spacegroup_reference_setting(number)
    table = gemmi.spacegroup_table()
    settings = _coded([x.xhm() for x in table if x.number == number and x.hm == standard.hm], code)
    said = f"the space-group number {number}"
    return [
        _of_group(name, said if len(settings) == 1 else f"{said} (setting {name!r})")
        for name in settings
    ]
