"""A user's file to a table of text, as spreadsheets and instruments write them."""

import csv
import io
import itertools
import re
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.integrity.beside import check_beside
from matml.core.text.cells import BLANKED, BLANKS, each_text, to_number, unguarded
from matml.core.text.encoding import opened

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabulators", "|": "bars"}
SAMPLE = 65536
"""Characters from which the separator is found."""
FIRST_ROW = 2
"""What a table's first row is called wherever one is: as in a spreadsheet, the header is row 1."""
LONGEST_LINE = 64 * 10**6
"""Characters of a line, whose cells may hold structures."""
MOST_CELLS, MOST_CHARACTERS = 4 * 10**6, 200 * 10**6
"""Of a table that is read as a whole: 1 GB of memory, a quarter of a minute."""
MOST_EMPTY = 10**6
"""Lines without text, one after the other, of any table."""
REMARK = re.compile(r"#[^,;\t|]*\n")
"""A line of one text, which no header is."""
BROKEN_REMEDY = "check its quotes, and give each row the fields of the header"
TWO_LINES = re.compile(r"([^\n,;\t|]+)\n([^\n,;\t|]+)")
"""A name of a spreadsheet's column that breaks its line; others with a line end are a quote that is
not closed."""
LONGEST_NUMBER = 40
"""Characters of a cell that is one."""
DECIMAL_COMMA = r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?"
WHOLE = r"[+-]?\d+(?:[eE][+-]?\d+)?"


def read_text_table(path: str | Path, content: bytes | None = None) -> pd.DataFrame:
    """Return a table of text, as spreadsheets and programs write it, with every cell as text.

    Encoding, line ends, separator (comma, semicolon, tabulator, bar) and decimal commas are found
    from the text. Cells of one line and names of columns are stripped; lines without any text are
    left out, and the index goes on counting them.

    Returns
    -------
    pandas.DataFrame
        Texts, '' where a cell is empty. `attrs["notes"]` says what was understood that a plain
        comma-separated table would not need; `attrs["short"]` by its index which row has fewer
        fields than the header.

    Raises
    ------
    MatmlError
        Where it is no table: names the line, the column and the remedy.
    """
    [table] = text_table_parts(path, None, content)
    for why in table.attrs["broken"].values():
        title = f"delete what stands above the header, such as {table.columns[0][:60]!r}"
        raise MatmlError(f"{path}: {why}; {title if table.shape[1] == 1 else BROKEN_REMEDY}")
    return table


def text_table_parts(
    path: str | Path, size: int | None, content: bytes | None = None
) -> Iterator[pd.DataFrame]:
    """Yield a table as of `read_text_table`, some rows at a time (None: all at once).

    The file is read as the rows are needed. A broken line costs its own row only: that is empty,
    and `attrs["broken"]` says by its index what is wrong with it.

    Raises
    ------
    MatmlError
        Where it is no table, or cannot be read any further.
    """
    path = Path(path)
    try:
        if content is None:
            check_beside(path)
        with opened(path, content) as file:
            first, notes = "", list[str]()
            while not first.strip():
                if not (first := _line(file)):
                    raise MatmlError(f"{path}: is empty; give a table with a header line")
                # Excel's own note on its separator
                first = re.sub(r"\Asep=.\n", "", first)
                if REMARK.fullmatch(first):
                    notes.append(f"passed over above the header: {first.strip()[:60]!r}")
                    first = ""
            sample = first + file.read(SAMPLE)
            separator = _separator(sample)
            notes += [f"columns are separated by {SEPARATORS[separator]}"] * (separator != ",")
            rows = _bounded(path, _rows(_chained(sample, file), separator), whole=size is None)
            yield from _parts(path, rows, size, notes)
    except FileNotFoundError:
        raise MatmlError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MatmlError(
            f"{path}: cannot be read as a table of text ({reason}); export it as CSV with a header "
            "line"
        ) from None


def _parts(
    path: Path, rows: Iterator[tuple[list[str], str]], size: int | None, notes: list[str]
) -> Iterator[pd.DataFrame]:
    """Yield tables of some rows of a file, the first of which is the header."""
    header, why = next(rows, ([], ""))
    if why:
        raise MatmlError(f"{path}: {why}; {BROKEN_REMEDY}")
    names = [
        " ".join(name.split()) if TWO_LINES.fullmatch(name.strip()) else name.strip()
        for name in header
    ]
    _check_header(path, names)
    width = max(place for place, name in enumerate(names, 1) if name)
    numbered, first = enumerate(rows), True
    while (group := list(itertools.islice(numbered, size))) or first:
        cells, index, broken, short = [], [], {}, {}
        for number, (row, why) in group:
            if why:
                broken[number] = why
            elif not any(map(str.strip, row)):
                continue
            elif len(row) < width:
                short[number] = f"{len(row)} fields where the header has {width}"
            cells.append([*map(_stripped, row), *[""] * (len(names) - len(row))])
            index.append(number)
        table = pd.DataFrame(cells, index=index, columns=names, dtype=str)
        if "" in names:
            table.columns = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
            filled = table.ne("").any()
            table = table.loc[:, [bool(name) for name in names] | filled.to_numpy()]
        if first:
            _refuse_headless(path, table)
        own = list(notes)
        for name in table.columns:
            _join_thousands(table, name, own)
            _read_decimal_commas(path, table, name, own)
        if short:
            first_short, why = next(iter(short.items()))
            own.append(
                f"row {first_short + FIRST_ROW} has {why}, so that its last cells are empty"
                + (f"; {len(short)} rows are like it" if len(short) > 1 else "")
            )
        if any("'" in cell[:1] for row in (names, *cells) for cell in row):
            table = each_text(table, unguarded)
        table.attrs |= {"notes": own, "broken": broken, "short": short}
        yield table
        first = False


def _stripped(cell: str) -> str:
    # a text of several lines, such as a POSCAR, may begin with an empty one
    return cell if "\n" in cell and cell.strip() else cell.strip()


def _chained(sample: str, file: TextIO) -> Iterator[str]:
    """Yield the lines of what was read of a file already, and of the rest."""
    lines = sample.split("\n")
    yield from (line + "\n" for line in lines[:-1])
    if last := lines[-1] + _line(file):
        yield last
    while line := _line(file):
        yield line


def _line(file: TextIO) -> str:
    """Return the next line; raise `ValueError` for one without end, as of a bomb."""
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE and line[-1] != "\n":
        raise ValueError(f"a line of more than {LONGEST_LINE // 10**6} million characters")
    return line


class _Lines:
    """Lines with their numbers, which can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines, self.number = lines, 0
        self.returned: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else next(self.lines)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back_all_but_one(self) -> None:
        """Take the first of the lines taken only."""
        back = self.taken[1:]
        self.returned.extendleft(reversed(back))
        self.number -= len(back)


def _rows(text: Iterator[str], separator: str) -> Iterator[tuple[list[str], str]]:
    """Yield the rows of a table, and what is wrong with each; broken lines in a row are one.

    Where a row is broken only its first line is given up and reading begins anew behind it, so
    that a quote that is never closed costs one row and not the rest of the file.
    """
    csv.field_size_limit(2**31 - 1)
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    width = None
    broken: tuple[int, int, str] | None = None
    while True:
        lines.taken.clear()
        try:
            row, why = next(reader), ""
            while width is not None and len(row) > width and not row[-1].strip():
                row.pop()
            width = width or len(row)
            # behind a broken line, one with fewer fields is a part of it
            if len(row) > width or (broken and 0 < len(row) < width):
                why = f"{len(row)} fields where the header has {width}"
        except StopIteration:
            break
        except csv.Error as error:
            row, why = [], f"cannot be read ({error})"
        if why:
            lines.give_back_all_but_one()
            reader = csv.reader(lines, delimiter=separator, strict=True)
            broken = (
                (broken[0], lines.number, broken[2]) if broken else (lines.number,) * 2 + (why,)
            )
            continue
        if broken and row:
            yield [], _told(*broken)
            broken = None
        yield row, ""
    if broken:
        yield [], _told(*broken)


def _bounded(
    path: Path, rows: Iterator[tuple[list[str], str]], *, whole: bool
) -> Iterator[tuple[list[str], str]]:
    """Yield the rows of a file that is no bomb, and not too large where it is read as a whole."""
    cells = characters = empty = 0
    for row, why in rows:
        empty = 0 if row else empty + 1
        if empty > MOST_EMPTY:
            raise MatmlError(
                f"{path}: has more than {MOST_EMPTY} empty lines together; take them out"
            )
        if whole:
            cells += len(row)
            characters += sum(map(len, row))
            if cells > MOST_CELLS or characters > MOST_CHARACTERS:
                raise MatmlError(
                    f"{path}: has more than {MOST_CELLS // 10**6} million cells or "
                    f"{MOST_CHARACTERS // 10**6} million characters; split it, or thin it out"
                )
        yield row, why


def _told(first: int, last: int, why: str) -> str:
    return f"line {first}: {why}" if first == last else f"lines {first} to {last}: {why}"


def _separator(text: str) -> str:
    """Return the separator by which the first lines have equally many fields, the most of them."""
    best, fields = ",", 1
    for separator in SEPARATORS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
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


def _join_thousands(table: pd.DataFrame, name: str, notes: list[str]) -> None:
    """Write the numbers of a column without the blanks between their thousands."""
    first = next((x for x in table[name] if len(x) < LONGEST_NUMBER and BLANKED.fullmatch(x)), "")
    if not first:
        return
    joined = table[name].where(
        ~table[name].str.fullmatch(BLANKED), table[name].str.translate(BLANKS)
    )
    if joined[joined != ""].str.fullmatch(rf"{DECIMAL_COMMA}|{WHOLE}|[+-]?\d+\.\d+").all():
        table[name] = joined
        notes.append(f"column {name}: thousands are parted, as in {first!r}, and were joined")


def _read_decimal_commas(path: Path, table: pd.DataFrame, name: str, notes: list[str]) -> None:
    """Write the numbers of a column with points where all of them are written with commas."""
    if not any("," in cell for cell in table[name]):
        return
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
