"""Tables of text in all the ways that spreadsheets and instruments write them."""

import gzip

import pytest

from matml.core.errors import MatmlError
from matml.core.text.cells import to_number, to_numbers
from matml.core.text.encoding import decode
from matml.core.text.table import read_text_table

ROWS = [["id", "härte_HV", "E"], ["a", "221,4", "1"], ["b", "157,1", ""], ["", "", ""]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_dialects_hold_the_same_table(encoding, ends, separator, tmp_path):
    content = ends.join(separator.join(row) for row in ROWS).encode(encoding)
    table = read_text_table(tmp_path / "t.csv", content)
    assert list(table.columns) == ROWS[0]
    assert table.to_numpy().tolist() == [["a", "221.4", "1"], ["b", "157.1", ""]]
    notes = table.attrs["notes"]
    assert "separated by" in notes[0]
    assert notes[1] == "column härte_HV: decimal commas read as points"
    packed = read_text_table(tmp_path / "t.csv.gz", gzip.compress(content))
    assert packed.equals(table)


def test_a_plain_table_needs_no_note_and_lines_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text('id, x \n\na,"1,5"\n"b\nc",2\n\nd,3,\n')
    table = read_text_table(tmp_path / "t.csv")
    assert list(table.columns) == ["id", "x"]
    assert table["id"].tolist() == ["a", "b\nc", "d"]
    # blank lines are left out and counted
    assert table.index.tolist() == [1, 2, 4]
    assert table["x"].tolist() == ["1.5", "2", "3"]
    (tmp_path / "t.csv").write_text("id,x\na,1\n")
    assert read_text_table(tmp_path / "t.csv").attrs["notes"] == []


def test_a_name_of_two_lines_is_one_name(tmp_path):
    (tmp_path / "t.csv").write_text('id,"hardness\n (HV)"\na,155\n')
    assert list(read_text_table(tmp_path / "t.csv")) == ["id", "hardness (HV)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("x,y\n1,2\n3,4,5\n", r"line 3: 3 fields where the header has 2; check its quotes"),
        ("x;y\n1;2\n3;4;5\n", r"line 3: 3 fields where the header has 2; "),
        ("id,K,K\na,1,2\n", r"column 'K' appears twice in the header \(fields 2 and 3\)"),
        ('"001",155\n"1",110\n', r"has no header line \(its first line is '001, 155'\)"),
        ('id,x\na,"1\nb,2\nc,3\n', r"line 2: cannot be read \(.*\); check its quotes"),
        ('"id,x\na,1\n', r"line 1: cannot be read \(.*\); check its quotes"),
        ('id,"x\na\nb",2\n', "the header runs over several lines; check its quotes"),
        ('id,"x\na,1\nb",2\n', "the header runs over several lines; check its quotes"),
        ('id,x\na,"1,234"\nb,"2,345"\n', "column 'x' holds '1,234': thousands or decimals"),
    ],
)
def test_what_is_no_table_is_told(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(MatmlError, match=rf"t\.csv: .*{message}"):
        read_text_table(tmp_path / "t.csv")


def test_columns_without_a_name_are_told_apart(tmp_path):
    (tmp_path / "t.csv").write_text(",,id,,x\n0,5,a,,1\n1,6,b,,2\n")
    columns = read_text_table(tmp_path / "t.csv").columns
    assert columns.tolist() == ["Unnamed: 0", "Unnamed: 1", "id", "x"]


def test_commas_in_texts_stay(tmp_path):
    (tmp_path / "t.csv").write_text('id,file\na,"mp-1,2.vasp"\nb,"3,4"\n')
    assert read_text_table(tmp_path / "t.csv")["file"].tolist() == ["mp-1,2.vasp", "3,4"]


def test_binary_and_missing_files_are_told(tmp_path):
    with pytest.raises(MatmlError, match="no such file"):
        read_text_table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(MatmlError, match="cannot be read as a table of text"):
        read_text_table(tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(MatmlError, match="cannot be read as a table of text"):
        read_text_table(tmp_path / "t.csv.gz")
    with pytest.raises(ValueError, match="no text"):
        decode(b"ab\x00\x00cdefgh")


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("matml.core.text.table.LONGEST_LINE", 100_000)
    (tmp_path / "t.csv").write_text("id,x\na,1\n" + "b" * 200_000 + ",2\n")
    with pytest.raises(MatmlError, match=r"t\.csv: .*a line of more than 0 million characters"):
        read_text_table(tmp_path / "t.csv")


def test_rows_of_numbers_are_finite_and_whole():
    assert to_numbers([["1", "-2.5e3"], ["0.5", ".25"]]).tolist() == [[1, -2500], [0.5, 0.25]]
    for bad in ("1_5", "inf", "nan", "x", "1e999"):
        with pytest.raises(ValueError, match=bad if bad != "1e999" else "not all finite"):
            to_numbers([["1", "2"], ["3", bad]])
    with pytest.raises(ValueError, match="inhomogeneous"):
        to_numbers([["1", "2"], ["3"]])


def test_underscores_make_no_number():
    assert to_number(" 1.5e3 ") == 1500.0
    for text in ("1_50", "", "1,5"):
        with pytest.raises(ValueError, match=r"number|float"):
            to_number(text)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("\n" * 110_000, "more than 100000 empty lines together"),
        ("a,1,2,3\n" * 260_000, "more than 1 million cells"),
        (f"a,{'x' * 10**6}\n" * 25, "20 million characters"),
    ],
)
def test_a_table_that_would_fill_the_memory_is_refused(lines, said, tmp_path, monkeypatch):
    # the limits that are shipped take seconds to reach
    for name, most in (("CELLS", 10**6), ("CHARACTERS", 20 * 10**6), ("EMPTY", 10**5)):
        monkeypatch.setattr(f"matml.core.text.table.MOST_{name}", most)
    content = gzip.compress(b"id,b,c,d\n" + lines.encode(), 1)
    with pytest.raises(MatmlError, match=said):
        read_text_table(tmp_path / "t.csv.gz", content)


@pytest.mark.parametrize("blank", [" ", "'", "\xa0", "\u202f"])
def test_blanks_part_thousands_where_all_of_a_column_are_numbers(blank, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id;a;b\nx 100;1 005,3;1 005\ny;36 000;low\nz;12,5;2\n".replace(" ", blank))
    table = read_text_table(path)
    assert table["a"].tolist() == ["1005.3", "36000", "12.5"]
    assert table["b"].tolist() == [f"1{blank}005", "low", "2"]
    assert table["id"][0] == f"x{blank}100"
    assert sum("thousands are parted" in note for note in table.attrs["notes"]) == 1


def test_a_remark_above_the_header_is_passed_over_and_a_title_is_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("# steel A\nid,a\nx,1\n")
    table = read_text_table(path)
    assert table.columns.tolist() == ["id", "a"]
    assert table.attrs["notes"] == ["passed over above the header: '# steel A'"]
    path.write_text("steel A\nid,a\nx,1\n")
    with pytest.raises(MatmlError, match="delete what stands above the header, such as 'steel A'"):
        read_text_table(path)
