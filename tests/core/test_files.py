import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from matml.core.errors import MatmlError
from matml.core.files import (
    atomic,
    read_json,
    read_table,
    write_json,
    write_table,
    write_text,
)


def test_a_failing_writer_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "deep/file.txt"
    write_text(path, "old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.csv"
    write_text(path, "old")
    code = (
        "import sys, time; from matml.core.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    stream = temporary.open('w'); stream.write('half' * 100_000); stream.flush()\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "writing\n"
    # what a living one writes stays
    write_text(path, "other")
    assert len(list(tmp_path.iterdir())) == 2
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    child.stdout.close()
    assert path.read_text() == "other"
    # what a killed one left is gone with the next writer
    write_text(path, "new")
    assert [left.name for left in tmp_path.iterdir()] == ["file.csv"]


def test_readers_see_old_or_new_never_half(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, [0] * 20_000)
    code = (
        "import sys; from matml.core.files import write_json\n"
        "print('ready', flush=True)\n"
        "for number in range(1, 60): write_json(sys.argv[1], [number] * 20_000)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    seen = set()
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        values = json.loads(path.read_text())
        assert len(values) == 20_000
        assert len(set(values)) == 1
        seen.add(values[0])
    child.stdout.close()
    assert child.wait() == 0
    assert len(seen) > 1


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_tables_come_back(tmp_path, name):
    table = pd.DataFrame({"text": ["a", "b"], "value": [1.5, 2.5]})
    write_table(tmp_path / name, table)
    pd.testing.assert_frame_equal(read_table(tmp_path / name), table)


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.csv", "", "cannot be used .No columns"),
        ("a.parquet", "PAR1", "cannot be used .*Parquet"),
        ("a.json", "[" * 100_000, "is nested too deep"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    read = read_json if name.endswith("json") else read_table
    with pytest.raises(MatmlError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_column_or_another_shape_of_content_is_named(tmp_path):
    write_table(tmp_path / "a.parquet", pd.DataFrame({"x": [1], "y": [2]}))
    assert len(read_table(tmp_path / "a.parquet", columns=("x", "y"))) == 1
    with pytest.raises(MatmlError, match=r"a\.parquet: .*lacks the column 'id' and has x, y"):
        read_table(tmp_path / "a.parquet", columns=("x", "id"))
    write_json(tmp_path / "a.json", {"set": {"sha256": 3}})
    shape = dict[str, dict[str, str]]
    with pytest.raises(MatmlError, match=r"a\.json: set\.sha256 = 3: input should be a valid str"):
        read_json(tmp_path / "a.json", shape=shape)
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(MatmlError, match=r"a\.json: its content = \[1\]: .*dictionary"):
        read_json(tmp_path / "a.json", shape=shape)


def test_missing_files_are_named(tmp_path):
    for read in (read_json, read_table):
        with pytest.raises(MatmlError, match="no such file"):
            read(tmp_path / "none.json")


def test_files_get_ordinary_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
