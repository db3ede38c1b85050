"""What a spreadsheet would run is kept from it in every CSV, and read back as it was."""

import random
import re
from pathlib import Path

import pandas as pd
import pytest

import matml
from matml.core.files import csv_text, read_table, write_table
from matml.core.text.cells import guarded, unguarded
from matml.core.text.table import read_text_table

FORMULAS = ["=1+1", "+A1", "-2+3|cmd", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "＝1"]
HARMLESS = ["-0.5", "+3", "-1e-7", "-inf", "-", "=", "alloy", "'quoted'", "1+1", " =1", "", "é"]


def texts(seed, count):
    rng = random.Random(seed)
    letters = "=+-@'＝\t\r\nab1,;\" "
    return ["".join(rng.choices(letters, k=rng.randint(0, 6))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_guarding_is_taken_back_and_leaves_no_formula(seed):
    for text in [*FORMULAS, *HARMLESS, *(f"'{f}" for f in FORMULAS), *texts(seed, 3000)]:
        safe = guarded(text)
        assert unguarded(safe) == text
        first = safe[:1]
        number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", safe, re.I)
        assert len(safe) < 2 or number or first not in set("=+-@\t\r＝＋－＠")


def test_harmless_cells_and_numbers_stay_as_they_are():
    assert [guarded(text) for text in HARMLESS] == HARMLESS
    assert [guarded(value) for value in (1, -2.5, None, True)] == [1, -2.5, None, True]


def test_tables_are_written_guarded_and_read_as_they_were(tmp_path):
    table = pd.DataFrame({"id": [*FORMULAS[:4], "a"], "=x": [1.5, -2.0, 3.0, -4.0, 5.0]})
    table["value"] = ["-0.5", "x", "-y", "'-z", "z"]
    path = tmp_path / "t.csv"
    write_table(path, table)
    lines = path.read_text().splitlines()
    assert lines[0] == "id,'=x,value"
    assert lines[1] == "'=1+1,1.5,-0.5"
    pd.testing.assert_frame_equal(read_table(path), table, check_dtype=False)
    again = read_text_table(path)
    assert list(again.columns) == list(table.columns)
    assert again["id"].tolist() == table["id"].tolist()
    assert again["value"].tolist() == table["value"].tolist()
    assert csv_text(table.iloc[:1], header=False) == "'=1+1,1.5,-0.5\n"
    write_table(tmp_path / "t.csv.gz", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv.gz"), table, check_dtype=False)
    write_table(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), table, check_dtype=False)


def test_every_csv_is_written_in_one_place():
    place = Path(matml.__file__).parent
    writers = {
        path.relative_to(place).as_posix()
        for path in place.rglob("*.py")
        if re.search(r"\.to_csv\(|csv\.(?:writer|DictWriter)\(", path.read_text(encoding="utf-8"))
    }
    assert writers == {"core/files.py"}
