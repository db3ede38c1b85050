"""Inputs to documents: folders, zips, structure files and tables, nothing parsed yet."""

import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from matml.core.errors import MatmlError
from matml.core.text import decode
from matml.structures.errors import BadCrystal
from matml.structures.io.documents import Document, Documents, file_kind, is_table
from matml.structures.io.tables import add_rows, json_table, read_table_documents
from matml.structures.settings import StructuresSection

MAX_ZIP_MEMBERS = 1_000_000


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
            read_table_documents(path, found, settings, required=True)
        elif kind := file_kind(path.name):
            _read_file(path, path.name, kind, found, settings)
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
            _read_file(path, name, kind, found, settings)
        elif path.suffix.lower() == ".zip":
            _read_zip(path, found, settings)
        elif not (is_table(name) and read_table_documents(path, found, settings, required=False)):
            found.ignored.append(name)


def _read_file(
    path: Path, name: str, kind: str, found: Documents, settings: StructuresSection
) -> None:
    """Add the documents of one file; JSON by pandas is a table, whose other columns are labels."""
    document = _file_document(path, name, kind, settings)
    table = json_table(document.text) if kind == "json" and document.bad is None else None
    if table is None:
        found.items.append(document)
    else:
        add_rows(table, path.with_name(name), found, settings)


def _file_document(path: Path, name: str, kind: str, settings: StructuresSection) -> Document:
    """The document of one file."""
    size = path.stat().st_size
    if size > settings.max_file_MB * 1e6:
        return _rejected(name, name, _too_large(size, settings))
    try:
        return _content_document(name, name, kind, path.read_bytes())
    except OSError as error:
        return _rejected(
            name,
            name,
            BadCrystal(f"cannot be read ({error.strerror})", "check the file's permissions"),
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
