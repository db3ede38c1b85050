"""Plain files of results have their checksum beside them, and whoever reads them compares it."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from matml.core.errors import MatmlError
from matml.core.files import (
    move,
    read_json,
    read_table,
    resumable,
    write_json,
    write_table,
    write_text,
)
from matml.core.integrity import beside
from matml.core.provenance import write_checksums
from matml.core.settings import read_yaml
from matml.core.text.table import read_text_table
from matml.report.html.results import Results

TABLE = pd.DataFrame({"id": ["a", "b"], "value": [0.25, 4e-9]})
# how each kind is written, and by whom it is read
KINDS = {
    "scores.csv": (lambda path: write_table(path, TABLE), [read_table, read_text_table]),
    "summary.json": (lambda path: write_json(path, {"seed": 31}), [read_json]),
    "settings.yaml": (lambda path: write_text(path, "seed: 31\n"), [read_yaml]),
    "1_NaCl.cif": (
        lambda path: write_text(path, "data_x\n_cell_length_a 5.64\n"),
        [lambda path: Results(path.parent).text(path.name)],
    ),
}
COMMAND = ["matml", "kinetics", "calibrate", "--data", "my points.csv"]


@pytest.fixture
def job(monkeypatch):
    """As in a job of the workflow."""
    monkeypatch.setattr(beside, "_wanted", True)
    monkeypatch.setattr(sys, "argv", COMMAND)


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_refused_with_the_command_that_makes_it_again(tmp_path, job, name):
    path, (write, readers) = tmp_path / name, KINDS[name]
    write(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        for read in readers:
            with pytest.raises(MatmlError) as told:
                read(path)
            assert str(told.value).startswith(f"{path}: is damaged, or was changed")
            assert "`matml kinetics calibrate --data 'my points.csv'`" in str(told.value)
    # a copy is its owner's, and what is written anew is as it was written
    copy = tmp_path / f"copy-{name}"
    copy.write_bytes(whole)
    write(path)
    for read in readers:
        read(copy)
        read(path)


def test_other_tools_know_the_checksum(tmp_path, job):
    write_table(tmp_path / "scores.csv", TABLE)
    call = ["sha256sum", "--check", "--strict", ".scores.csv.sha256"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "scores.csv: OK\n"


def test_a_process_killed_between_checksum_and_file_spoils_neither(tmp_path, job, monkeypatch):
    path = tmp_path / "scores.csv"
    write_table(path, TABLE)
    replace = Path.replace

    def killed(own, to):
        if to == path:
            raise KeyboardInterrupt
        return replace(own, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_table(path, TABLE.head(1))
    assert read_table(path).equals(TABLE)
    write_table(path, TABLE.head(1))
    assert len(read_table(path)) == 1


def test_a_file_that_moves_takes_its_checksum_along(tmp_path, job):
    path, to = tmp_path / "history.csv", tmp_path / "metatraining.csv"
    write_table(path, TABLE)
    move(path, to)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".metatraining.csv.sha256",
        "metatraining.csv",
    ]
    to.write_text(to.read_text().replace("4e-09", "5e-09"))
    with pytest.raises(MatmlError, match="is damaged"):
        read_table(to)


def test_elsewhere_nothing_lies_beside(tmp_path):
    for name, (write, _) in KINDS.items():
        write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(KINDS)


def test_a_long_job_whose_record_is_damaged_or_another_begins_anew_and_says_so(tmp_path, caplog):
    folder = tmp_path / "work"
    with suppress(OSError), resumable(folder, {"seed": 1}) as work:
        (work / "part").touch()
        raise OSError
    record = folder / "made_with.json"
    record.write_bytes(b"\xff" + record.read_bytes()[1:])
    with suppress(OSError), resumable(folder, {"seed": 1}) as work:
        assert not (work / "part").exists()
        raise OSError
    assert "begun anew, since what is there does not say" in caplog.text
    with resumable(folder, {"seed": 2}):
        assert "begun anew, since what is there was made with other seed" in caplog.text


def test_a_result_whose_checksum_beside_is_lost_is_held_against_the_list_of_the_run(tmp_path, job):
    path = tmp_path / "results" / "deep" / "scores.csv"
    write_table(path, TABLE)
    write_checksums(tmp_path / "results", tmp_path / "results" / "checksums.json")
    beside.beside(path).unlink()
    assert read_table(path).equals(TABLE)
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.26"))
    with pytest.raises(MatmlError, match=r"scores\.csv: is damaged.*; delete it and start"):
        read_table(path)
    copy = tmp_path / "scores.csv"
    copy.write_bytes(path.read_bytes())
    assert read_table(copy)["value"][0] == 0.26


def test_a_command_too_long_to_be_shown_is_named_by_its_place(tmp_path, job, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["matml", "x" * 2000])
    path = tmp_path / "scores.csv"
    write_table(path, TABLE)
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.26"))
    with pytest.raises(MatmlError, match=r"in the last line of .*/\.scores\.csv\.sha256"):
        read_table(path)
