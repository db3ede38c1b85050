"""Inputs to documents: folders, zips, structure files and tables, nothing parsed yet."""

import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import FIRST_ROW
from matml.core.text import decode, read_text_table
from matml.structures.errors import BadCrystal
from matml.structures.io.labels import check_label, label_columns
from matml.structures.settings import StructuresSection

KINDS = {".cif": "cif", ".vasp": "poscar", ".poscar": "poscar", ".json": "json", ".xyz": "xyz"}
KINDS |= {".extxyz": "xyz", ".contcar": "poscar"}
TABLES = (".csv", ".csv.gz", ".parquet")
MAX_ZIP_MEMBERS = 1_000_000


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
    """

    items: list[Document] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def file_kind(name: str) -> str:
    """Format of a structure file by its name; '' if it is none."""
    path = PurePosixPath(name.lower())
    if path.suffix in KINDS:
        return KINDS[path.suffix]
    # POSCAR, CONTCAR, POSCAR_NaCl, POSCAR.relaxed
    return "poscar" if path.name.startswith(("poscar", "contcar")) else ""


def is_table(name: str) -> bool:
    """Whether a file's name is that of a table."""
    return name.lower().endswith(TABLES)


def read_inputs(inputs: Sequence[str | Path], settings: StructuresSection) -> Documents:
    """Collect the documents of all inputs.

    Raises
    ------
    MatmlError
        Where an input is missing or of no known kind, or nothing is found in any.
    """
    found = Documents()
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            _read_folder(path, found, settings)
        elif not path.is_file():
            raise MatmlError(f"{path}: no such file or folder")
        elif path.suffix.lower() == ".zip":
            _read_zip(path, found, settings)
        elif is_table(path.name):
            _read_table(path, found, required=True)
        elif kind := file_kind(path.name):
            found.items.append(_file_document(path, path.name, kind, settings))
        else:
            raise MatmlError(
                f"{path}: unknown kind of file; give a folder, a zip, a table (.csv, .csv.gz, "
                ".parquet) or structures (.cif, POSCAR, .vasp, .json, .xyz)"
            )
    if not found.items:
        raise MatmlError(
            f"{', '.join(str(entry) for entry in inputs)}: no structure found; looked for .cif, "
            "POSCAR*, CONTCAR*, .vasp, .poscar, .json, .xyz, .extxyz, and tables with a `poscar` "
            "column"
        )
    found.label_names = list(dict.fromkeys(found.label_names))
    return _with_unique_ids(found)


def _read_folder(folder: Path, found: Documents, settings: StructuresSection) -> None:
    """All structure files and tables below a folder, by path."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        if kind := file_kind(name):
            found.items.append(_file_document(path, name, kind, settings))
        elif path.suffix.lower() == ".zip":
            _read_zip(path, found, settings)
        elif not (is_table(name) and _read_table(path, found, required=False)):
            found.ignored.append(name)


def _file_document(path: Path, name: str, kind: str, settings: StructuresSection) -> Document:
    """The document of one file."""
    size = path.stat().st_size
    if size > settings.max_file_MB * 1e6:
        return _rejected(name, name, _too_large(size, settings))
    try:
        return _content_document(name, name, kind, path.read_bytes())
    except OSError as error:
        return _rejected(
            name, name, BadCrystal(f"cannot be read ({error.strerror})", "check the file's rights")
        )


def _content_document(identity: str, source: str, kind: str, content: bytes) -> Document:
    """The document of a file's bytes."""
    try:
        text = decode(content)
    except ValueError:
        return _rejected(
            identity, source, BadCrystal("is binary, not text", "give the file uncompressed")
        )
    return Document(identity, source, -1, kind, text)


def _rejected(identity: str, source: str, bad: BadCrystal) -> Document:
    return Document(identity, source, -1, "", "", bad=bad)


def _too_large(size: float, settings: StructuresSection) -> BadCrystal:
    return BadCrystal(
        f"{size / 1e6:.0f} MB, more than {settings.max_file_MB:g} MB",
        "split the file, or raise structures.max_file_MB",
    )


def _read_zip(path: Path, found: Documents, settings: StructuresSection) -> None:
    """Structure files of a zip, read in memory: nothing is ever extracted to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MAX_ZIP_MEMBERS:
                raise MatmlError(
                    f"{path}: {len(members)} members, more than {MAX_ZIP_MEMBERS}; split it"
                )
            for member in sorted(members, key=lambda item: item.filename):
                found_document = _zip_document(path, archive, member, settings)
                if found_document is None:
                    found.ignored.append(f"{path.name}/{member.filename}")
                else:
                    found.items.append(found_document)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise MatmlError(f"{path}: is not a readable zip ({error}); make it again") from None


def _zip_document(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, settings: StructuresSection
) -> Document | None:
    """The document of one member of a zip; None where it is no structure."""
    name = member.filename
    pure = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if pure.is_absolute() or ".." in pure.parts or drive:
        bad = BadCrystal(
            f"the path {name!r} climbs out of the zip",
            "make the zip again with paths inside its own folder",
        )
        return _rejected(name, f"{path.name}/{name}", bad)
    if any(part.startswith((".", "__MACOSX")) for part in pure.parts):
        return None
    kind = file_kind(name)
    if not kind or stat.S_ISLNK(member.external_attr >> 16):
        return None
    source = f"{path.name}/{name}"
    limit = int(settings.max_file_MB * 1e6)
    try:
        with archive.open(member) as file:
            # the declared size may lie: never read beyond the limit
            content = file.read(limit + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        # RuntimeError: encrypted
        bad = BadCrystal(f"cannot be unpacked ({error})", "make the zip again, without a password")
        return _rejected(name, source, bad)
    except Exception as error:  # zlib.error has no common base
        bad = BadCrystal(f"cannot be unpacked ({error})", "make the zip again")
        return _rejected(name, source, bad)
    if len(content) > limit:
        return _rejected(name, source, _too_large(len(content), settings))
    return _content_document(name, source, kind, content)


def table_stem(name: str) -> str:
    """`elastic` for `elastic.csv.gz`."""
    lowered = name.lower()
    ending = next(ending for ending in (".csv.gz", ".csv", ".parquet") if lowered.endswith(ending))
    return name[: -len(ending)]


def _read_table(path: Path, found: Documents, required: bool) -> bool:
    """Rows of a table with a `poscar` column; False where it has none and is not `required`."""
    if path.name.lower().endswith(".parquet"):
        from matml.core.files import read_table

        table = read_table(path)
    else:
        table = read_text_table(path)
    if "poscar" not in table.columns:
        if required:
            raise MatmlError(
                f"{path}: has no column `poscar` (its columns are {', '.join(table.columns)}); "
                "a table of labels alone is given with --labels"
            )
        return False
    key = next((name for name in ("material_id", "id") if name in table.columns), None)
    labels, ignored = label_columns(table, {"poscar", "material_id", "id", "formula", "family"})
    found.label_names += labels
    found.ignored += [f"{path.name}: column {name}" for name in ignored]
    stem = table_stem(path.name)
    columns = {name: table[name].tolist() for name in [*labels, "poscar"]}
    names = _texts(table, key) if key else [""] * len(table)
    families = _texts(table, "family") if "family" in table.columns else [""] * len(table)
    for place, name in enumerate(names):
        good, dropped = {}, []
        for label in labels:
            value, reason, remedy = check_label(label, columns[label][place])
            if reason:
                dropped.append((label, reason, remedy))
            elif value == value:
                good[label] = value
        found.items.append(
            Document(
                id=f"{stem}/{name or place + FIRST_ROW}",
                source=path.name,
                row=place + FIRST_ROW,
                kind="poscar",
                text=str(columns["poscar"][place]),
                material_id=name,
                family=families[place],
                labels=good,
                dropped=tuple(dropped),
            )
        )
    return True


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    """A column as stripped text, '' where it is empty."""
    return ["" if pd.isna(cell) else str(cell).strip() for cell in table[name]]


def _with_unique_ids(found: Documents) -> Documents:
    """Tell equal ids apart by `~2`, `~3`, … in the order of the inputs."""
    from dataclasses import replace

    def unique(items: list[Document]) -> Iterator[Document]:
        taken: set[str] = set()
        for item in items:
            name, number = item.id, 1
            while name in taken:
                number += 1
                name = f"{item.id}~{number}"
            taken.add(name)
            yield item if name == item.id else replace(item, id=name)

    found.items = list(unique(found.items))
    return found
