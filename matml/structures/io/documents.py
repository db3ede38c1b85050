"""What inputs hold, before anything is parsed: one document a text, with what is said about it."""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from matml.structures.errors import BadCrystal

KINDS = {".cif": "cif", ".vasp": "poscar", ".poscar": "poscar", ".json": "json", ".xyz": "xyz"}
KINDS |= {".extxyz": "xyz", ".contcar": "poscar"}
TABLES = (".csv", ".csv.gz", ".parquet")
REAL = r"-?[\d.][\d.eE+-]*"
VECTOR = rf"[ \t]*{REAL}[ \t]+{REAL}[ \t]+{REAL}[ \t]*\n"
CONTENTS = (
    (
        "",
        r"version https://git-lfs",
        "a pointer of Git LFS, not the file",
        "fetch it: git lfs pull",
    ),
    (
        "",
        r"<(!doctype|html|\?xml)",
        "a web page or XML",
        "save the file itself, not the page of it",
    ),
    ("json", r"\{\s*\"|\[\s*\{", "JSON", "let its name end in .json"),
    ("cif", r"(#.*\n\s*)*data_\S*\s+[_#l]", "a CIF", "let its name end in .cif"),
    (
        "poscar",
        rf".*\n[ \t]*{REAL}[ \t]*\n({VECTOR}){{3}}",
        "a POSCAR",
        "let its name end in .vasp",
    ),
    ("", r"(.*\n){0,9}CELL\s.*\n(.*\n){0,40}SFAC\s", "an input of SHELX", "give its CIF"),
    ("", r"('.*\n\s*)*(str|xdd)\s", "an input of TOPAS", "give its CIF (macro Out_CIF_STR)"),
)
"""By kind, how the text of a file begins that is called otherwise."""
BEGINNING = 4000
ARCHIVES = {".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar"}


@dataclass(frozen=True)
class Document:
    """One text that holds one or more crystals, with what its table says about it.

    Attributes
    ----------
    id, source, row
        Id before a suffix for several crystals; file name; row in a table, the header being row 1;
        -1 for files.
    kind, text
        Format (`poscar`, `cif`, `json`, `xyz`) and content; empty where `bad` is set.
    bad
        Why it cannot be read at all.
    labels, dropped
        Good label values; per bad one its name, reason and remedy.
    said
        What its row says of formula and symmetry, by column.
    """

    id: str
    source: str
    row: int
    kind: str
    text: str
    material_id: str = ""
    family: str = ""
    bad: BadCrystal | None = None
    labels: dict[str, float] = field(default_factory=dict)
    dropped: tuple[tuple[str, str, str], ...] = ()
    said: dict[str, Any] = field(default_factory=dict)


@dataclass
class Documents:
    """Everything found in the inputs.

    Attributes
    ----------
    items
        In the order of the inputs; files of a folder in the order of their paths.
    label_names
        Label columns met, in order.
    ignored
        Files and table columns that were left out.
    notes
        How tables were understood.
    renamed
        Columns that were called otherwise, as configured.
    """

    items: list[Document] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    renamed: set[str] = field(default_factory=set)


def file_kind(name: str) -> str:
    """Format of a structure file by its name, packed by gzip or not; '' if it is none."""
    path = PurePosixPath(name.lower().removesuffix(".gz"))
    if path.suffix in KINDS:
        return KINDS[path.suffix]
    # POSCAR, CONTCAR, POSCAR_NaCl, POSCAR.relaxed, but not poscars.zip
    other = is_table(name) or path.suffix in ARCHIVES
    return "poscar" if path.name.startswith(("poscar", "contcar")) and not other else ""


def other_content(kind: str, text: str) -> BadCrystal | None:
    """Return what a text that cannot be read as its name says is in truth, None if unknown."""
    beginning = text[:BEGINNING].lstrip("\ufeff")
    # an empty first line is part of a POSCAR
    found = [
        (own, BadCrystal(f"holds {what}, and cannot be read as {kind.upper()}", remedy))
        for own, pattern, what, remedy in CONTENTS
        if re.match(pattern, beginning if own == "poscar" else beginning.lstrip(), re.IGNORECASE)
    ]
    return found[0][1] if found and kind not in dict(found) else None


def is_table(name: str) -> bool:
    """Whether a file's name is that of a table."""
    return name.lower().endswith(TABLES)


def is_archive(name: str) -> bool:
    """Whether a file's name is that of a packed file, which may hold anything."""
    return PurePosixPath(name.lower()).suffix in ARCHIVES


def rejected(identity: str, source: str, reason: str, remedy: str) -> Document:
    """Return the document of a file that cannot be read at all."""
    return Document(identity, source, -1, "", "", bad=BadCrystal(reason, remedy))
