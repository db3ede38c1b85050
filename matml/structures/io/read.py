"""Inputs to documents: folders, zips, structure files and tables, nothing parsed yet."""

import gzip
import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from matml.core.errors import MatmlError
from matml.core.text.words import readable
from matml.structures.errors import BadCrystal
from matml.structures.io.documents import (
    Document,
    Documents,
    file_kind,
    is_archive,
    is_table,
    rejected,
)
from matml.structures.io.large_json import read_large_json
from matml.structures.io.tables import (
    Table,
    TooLarge,
    add_rows,
    json_table,
    read_text,
    text_of,
)
from matml.structures.settings import StructuresSection

MAX_ZIP_MEMBERS = 1_000_000


def read_inputs(inputs: Sequence[str | Path], settings: StructuresSection) -> Documents:
    """Collect the documents of all inputs.

    Raises
    ------
    MatmlError
        Where an input is missing or of no known kind, or nothing is found in any; where no table
        has a column that is to be renamed.
    """
    found = Documents()
    for item in walk(inputs, settings, found.ignored):
        if isinstance(item, Document):
            found.items.append(item)
            continue
        empty = True
        for part in item.parts(None):
            empty = False
            if isinstance(part, Document):
                found.items.append(part)
            else:
                add_rows(part, item.path, found, settings)
        if empty:
            found.ignored.append(readable(item.path.name))
    if not found.items:
        raise nothing_found(inputs, found.ignored)
    for name in settings.rename.keys() - found.renamed:
        raise MatmlError(
            f"structures.rename: no table of {', '.join(map(str, inputs))} has a column {name!r}"
        )
    found.label_names = list(dict.fromkeys(found.label_names))
    return _with_unique_ids(found)


def read_named(path: Path, settings: StructuresSection) -> list[Document]:
    """Return the document of a file that a table names, which may be a member of a zip."""
    if not (kind := file_kind(path.name)):
        return read_inputs([path], settings).items
    found = [item for item in _file(path, path.name, kind, settings) if isinstance(item, Document)]
    return found or read_inputs([path], settings).items


def nothing_found(inputs: Sequence[str | Path], ignored: Sequence[str] = ()) -> MatmlError:
    """Return what is said where no input holds anything to read, but for names left out."""
    more = f" and {len(ignored) - 3} more" if len(ignored) > 3 else ""
    there = f"; left out: {', '.join(ignored[:3])}{more}" if ignored else ""
    return MatmlError(
        f"{', '.join(str(entry) for entry in inputs)}: no structure found{there}; looked for .cif, "
        "POSCAR*, CONTCAR*, .vasp, .poscar, .json, .xyz, .extxyz, and tables with a `poscar` "
        "column"
    )


def walk(
    inputs: Sequence[str | Path], settings: StructuresSection, ignored: list[str]
) -> Iterator[Document | Table]:
    """Yield what the inputs hold, one after another; files of a folder in the order of their paths.

    Parameters
    ----------
    ignored
        The names of files that were passed over are appended.

    Raises
    ------
    MatmlError
        Where an input is missing, of no known kind, or is a zip that cannot be read.
    """
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            yield from _folder(path, settings, ignored)
        elif not path.is_file():
            raise MatmlError(f"{path}: no such file or folder")
        elif path.suffix.lower() == ".zip":
            yield from _zip(path, path.name, settings, ignored, required=True)
        elif is_table(path.name):
            yield Table(path, required=True)
        elif kind := file_kind(path.name):
            yield from _file(path, path.name, kind, settings)
        else:
            raise MatmlError(
                f"{path}: unknown kind of file; give a folder, a zip, a table (.csv, .csv.gz, "
                ".parquet) or structures (.cif, POSCAR, .vasp, .json, .xyz)"
            )


def _folder(
    folder: Path, settings: StructuresSection, ignored: list[str]
) -> Iterator[Document | Table]:
    """Yield all structures and tables below a folder, by path."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        if kind := file_kind(name):
            yield from _file(path, name, kind, settings)
        elif path.suffix.lower() == ".zip":
            yield from _zip(path, readable(name), settings, ignored, required=False)
        elif is_table(name):
            yield Table(path, required=False)
        elif is_archive(name):
            yield _unread_archive(readable(name))
        else:
            ignored.append(readable(name))


def _unread_archive(name: str) -> Document:
    kind = PurePosixPath(name).suffix
    if kind.lower() == ".zip":
        return rejected(name, name, "is a zip within a zip, which is not read", "unpack it")
    return rejected(
        name, name, f"{kind} is a kind of archive that is not read", "unpack it, or make it a zip"
    )


def _file(
    path: Path, name: str, kind: str, settings: StructuresSection
) -> Iterator[Document | Table]:
    """Yield the document of one file; JSON by pandas is a table, of large JSON each entry."""
    name = readable(name)
    try:
        text = read_text(path, settings.max_file_MB)
    except BadCrystal as bad:
        if kind == "json" and isinstance(bad, TooLarge):
            yield from read_large_json(path, name, settings)
        else:
            yield rejected(name, name, bad.reason, bad.remedy)
    else:
        yield _structure(name, name, kind, text, path)


def _structure(identity: str, source: str, kind: str, text: str, path: Path) -> Document | Table:
    frame = json_table(text) if kind == "json" else None
    if frame is None:
        return Document(identity, source, -1, kind, text)
    return Table(path.with_name(PurePosixPath(source).name), required=False, frame=frame)


def _zip(
    path: Path, name: str, settings: StructuresSection, ignored: list[str], *, required: bool
) -> Iterator[Document | Table]:
    """Yield the structures and tables of a zip, read in memory: nothing is extracted to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)
            if len(members) > MAX_ZIP_MEMBERS:
                raise BadCrystal(
                    f"{len(members)} members, more than {MAX_ZIP_MEMBERS}", "split the zip"
                )
            wanted = [m for m in members if file_kind(m.filename) or is_table(m.filename)]
            if sum(min(m.file_size, settings.max_file_MB * 1e6) for m in wanted) > 1e6 * (
                settings.max_zip_MB
            ):
                raise BadCrystal(
                    f"unpacks to {size / 1e6:.0f} MB, more than {settings.max_zip_MB:g} MB",
                    "split the zip, or raise structures.max_zip_MB",
                )
            left = int(settings.max_zip_MB * 1e6)
            for member in sorted(members, key=lambda item: item.filename):
                found = _member(path, name, archive, member, settings)
                if found is None:
                    ignored.append(f"{name}/{member.filename}")
                    continue
                # packed members unpack to more than the zip says
                left -= len(found.text if isinstance(found, Document) else found.content or "")
                if left < 0:
                    raise BadCrystal(
                        f"unpacks to more than {settings.max_zip_MB:g} MB, reached at "
                        f"{member.filename}: it and what follows are not read",
                        "split the zip, or raise structures.max_zip_MB",
                    )
                yield found
    except BadCrystal as bad:
        yield rejected(name, name, bad.reason, bad.remedy)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        if required:
            raise MatmlError(f"{path}: is not a readable zip ({error}); make it again") from None
        yield rejected(name, name, f"is not a readable zip ({error})", "make it again")


def _member(
    path: Path,
    zip_name: str,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    settings: StructuresSection,
) -> Document | Table | None:
    """Return what one member of a zip holds; None where it is no structure."""
    name = member.filename
    source = f"{zip_name}/{name}"
    pure = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if pure.is_absolute() or ".." in pure.parts or drive:
        reason = f"the path {name!r} climbs out of the zip"
        return rejected(name, source, reason, "make the zip again with paths inside its own folder")
    if any(part.startswith((".", "__MACOSX")) for part in pure.parts):
        return None
    kind = file_kind(name)
    if stat.S_ISLNK(member.external_attr >> 16) or not (kind or is_table(name)):
        return _unread_archive(source) if is_archive(name) else None
    limit = int(settings.max_file_MB * 1e6)
    try:
        with archive.open(member) as file:
            # the declared size may lie: never read beyond the limit
            content = file.read(limit + 1)
        if name.lower().endswith(".gz"):
            pure = pure.with_suffix("")
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(limit + 1)
        if not kind and len(content) <= limit:
            return Table(path.with_name(pure.name), required=False, content=content)
        return _structure(name, source, kind, text_of(content, settings.max_file_MB), path)
    except BadCrystal as bad:
        return rejected(name, source, bad.reason, bad.remedy)
    except Exception as error:  # zlib.error has no common base
        reason = f"cannot be unpacked ({error})"
        secret = ", without a password" if isinstance(error, RuntimeError) else ""
        return rejected(name, source, reason, f"pack it again{secret}")


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
