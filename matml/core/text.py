"""A user's file to text and to a table of text, as spreadsheets and instruments write them."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabulators", "|": "bars"}
SAMPLE = 65536
"""Characters from which the separator is found."""
DECIMAL_COMMA = r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?"
WHOLE = r"[+-]?\d+(?:[eE][+-]?\d+)?"

FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠].", re.DOTALL)
"""Beginning of a cell that a spreadsheet would run, or that was kept from it by an apostrophe."""
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|nan)", re.IGNORECASE)

MARKS = (
    # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes) -> str:
    """Return a file's text by its mark, else as UTF-8, else as Windows-1252.

    UTF-16 without a mark is told by the zero bytes of its plain characters.

    Raises
    ------
    ValueError
        For bytes that are no text.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content:
        head = content[:4000]
        even, odd = head[0::2].count(0), head[1::2].count(0)
        for zeros, others, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
            if zeros > 0.4 * (len(head) // 2) and others == 0:
                return content.decode(encoding)
        raise ValueError("bytes that are no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_text_table(path: str | Path, content: bytes | None = None) -> pd.DataFrame:
    """Return a table of text, as spreadsheets and programs write it, with every cell as text.

    Encoding, line ends, separator (comma, semicolon, tabulator, bar) and decimal commas are found
    from the text. Cells of one line and names of columns are stripped; lines without any text are
    left out, and the index goes on counting them.

    Returns
    -------
    pandas.DataFrame
        Texts, '' where a cell is empty. `attrs["notes"]` says what was understood that a plain
        comma-separated table would not need.

    Raises
    ------
    MatmlError
        Where it is no table: names the line, the column and the remedy.
    """
    path = Path(path)
    text = _table_text(path, content)
    notes: list[str] = []
    separator = _separator(text)
    if separator != ",":
        notes.append(f"columns are separated by {SEPARATORS[separator]}")
    csv.field_size_limit(2**31 - 1)
    # strict: a quote that nothing closes would swallow all rows behind it
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    quoted = '"' in text
    strip = _stripped if quoted else str.strip
    try:
        names = [name.strip() for name in next(lines, [])]
        rows, index = [], []
        _check_header(path, names)
        for number, row in enumerate(lines):
            while len(row) > len(names) and not row[-1].strip():
                row.pop()
            if len(row) > len(names):
                raise MatmlError(
                    f"{path}: line {lines.line_num} has {len(row)} fields, the header "
                    f"{len(names)}; remove the extra {SEPARATORS[separator].rstrip('s')}, or quote "
                    "the field"
                )
            cells = list(map(strip, row))
            if any(cells):
                rows.append(cells + [""] * (len(names) - len(cells)))
                index.append(number)
    except csv.Error as error:
        raise MatmlError(
            f"{path}: line {lines.line_num} cannot be read ({error}); check its quotes"
        ) from None
    table = pd.DataFrame(rows, index=index, columns=names, dtype=str)
    if "" in names:
        table.columns = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
        filled = table.ne("").any()
        table = table.loc[:, [bool(name) for name in names] | filled.to_numpy()]
    _refuse_headless(path, table)
    # without quotes, no cell of a comma-separated table holds a comma
    for name in table.columns if quoted or (separator != "," and "," in text) else ():
        _read_decimal_commas(path, table, name, notes)
    if "'" in text:
        table = each_text(table, unguarded)
    table.attrs["notes"] = notes
    return table


def _stripped(cell: str) -> str:
    # a text of several lines, such as a POSCAR, may begin with an empty one
    return cell if "\n" in cell and cell.strip() else cell.strip()


def guarded(text: object) -> object:
    """Return a cell so that no spreadsheet takes it for a formula: an apostrophe before it.

    Numbers, and what is no text, stay as they are. `unguarded` takes it back.
    """
    if isinstance(text, str) and FORMULA.match(text) and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def unguarded(text: object) -> object:
    """Return the text that `guarded` was given."""
    if isinstance(text, str) and text.startswith("'") and FORMULA.match(text):
        return text[1:]
    return text


def each_text(table: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    """Return a table with its texts and the names of its columns changed."""
    columns = {
        place: table.iloc[:, place].map(change)
        for place, kind in enumerate(table.dtypes)
        if not pd.api.types.is_numeric_dtype(kind)
    }
    parts = [columns.get(place, table.iloc[:, place]) for place in range(table.shape[1])]
    changed = pd.concat(parts, axis=1) if columns else table
    return changed.set_axis([change(name) for name in table.columns], axis=1)


def to_number(text: str) -> float:
    """Return a number as people write it; unlike `float`, no underscores.

    Raises
    ------
    ValueError
        For anything else.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _table_text(path: Path, content: bytes | None) -> str:
    """Return a table's text with plain line ends; `.gz` is unpacked."""
    try:
        content = path.read_bytes() if content is None else content
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
        text = decode(content).lstrip("\ufeff")
    except FileNotFoundError:
        raise MatmlError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MatmlError(
            f"{path}: cannot be read as a table of text ({reason}); export it as CSV with a header "
            "line"
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    # Excel's own note on its separator
    return re.sub(r"\Asep=.\n", "", text)


def _separator(text: str) -> str:
    """Return the separator by which the first lines have equally many fields, the most of them."""
    best, fields = ",", 1
    for separator in SEPARATORS:
        lines = csv.reader(io.StringIO(text[:SAMPLE], newline=""), delimiter=separator)
        try:
            widths = [len(row) for row, _ in zip(lines, range(20), strict=False) if row]
        except csv.Error:
            continue
        # the sample may end within a field
        same = widths[:1] * len(widths) == widths or widths[:-1] == widths[:1] * (len(widths) - 1)
        if widths and widths[0] > fields and (same or separator == ","):
            best, fields = separator, widths[0]
    return best


def _check_header(path: Path, names: list[str]) -> None:
    if not any(names):
        raise MatmlError(f"{path}: is empty; give a table with a header line")
    for name in names:
        if "\n" in name:
            raise MatmlError(f"{path}: the header runs over several lines; check its quotes")
        if name and names.count(name) > 1:
            first = names.index(name) + 1
            second = names.index(name, first) + 1
            raise MatmlError(
                f"{path}: column {name!r} appears twice in the header (fields {first} and "
                f"{second}); rename or delete one of them"
            )


def _refuse_headless(path: Path, table: pd.DataFrame) -> None:
    """Refuse a table whose first line holds data: a number above a column of numbers."""
    for name in table.columns:
        if _is_number(name) and len(table) and table[name].map(_is_number).all():
            raise MatmlError(
                f"{path}: has no header line (its first line is "
                f"{', '.join(map(str, table.columns))!r}); add one that names the columns, such as "
                "id,bulk_modulus_GPa"
            )


def _read_decimal_commas(path: Path, table: pd.DataFrame, name: str, notes: list[str]) -> None:
    """Write the numbers of a column with points where all of them are written with commas."""
    filled = table[name][table[name] != ""]
    commas = filled[filled.str.fullmatch(DECIMAL_COMMA)]
    if commas.empty or not filled.str.fullmatch(f"{DECIMAL_COMMA}|{WHOLE}").all():
        return
    if commas.str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}").all():
        raise MatmlError(
            f"{path}: column {name!r} holds {commas.iloc[0]!r}: thousands or decimals? Write "
            "numbers with a decimal point and without separators of thousands"
        )
    table[name] = table[name].str.replace(",", ".", regex=False)
    notes.append(f"column {name}: decimal commas read as points")


def _is_number(text: str) -> bool:
    try:
        to_number(text.replace(",", "."))
    except ValueError:
        return False
    return True
