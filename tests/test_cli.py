import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd
import pytest

from matml.cli import main
from matml.cli.main import COMMANDS
from matml.core.errors import MatmlError
from matml.core.files import write_text
from matml.core.provenance import (
    verify_checksums,
    watched_files,
    write_checksums,
)

MATML = [sys.executable, "-c", "from matml.cli.main import main; main()"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process, as the script `matml` does."""

    def command(*arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["matml", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, *capsys.readouterr())

    return command


def test_help_answers_within_half_a_second(within):
    call = [*MATML, "--help"]
    subprocess.run(call, capture_output=True, check=True)  # byte-compiles
    with within(1.5):
        for _ in range(3):
            subprocess.run(call, capture_output=True, check=True)


def test_every_room_has_help(run):
    for name in COMMANDS:
        done = run(name, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage: matml" in done.stdout


def test_help_imports_nothing_heavy():
    heavy = ["torch", "pymatgen", "sklearn", "scipy", "matplotlib"]
    heavy += ["plotly", "pandas", "numpy"]
    code = (
        "import sys\nfrom matml.cli.main import COMMANDS, cli\n"
        "for name in COMMANDS: cli.get_command(None, name)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config", "check", "none.yaml"), "none.yaml: no such file"),
        (("config", "section", "grafs", "--values", "{}", "--out", "x"), "no such section"),
        (("config", "section", "graphs", "--values", "{", "--out", "x"), "not valid JSON"),
        (
            ("config", "section", "graphs", "--values", '{"neighbours": 0}', "--out", "x"),
            "neighbours = 0",
        ),
        (("config", "verify", "none"), "checksums.json: no such file"),
        (("report", "none"), "no such folder of results"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_errors_are_one_line_with_exit_code_two(arguments, message, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_section_file_holds_the_values(tmp_path, run):
    out = tmp_path / "graphs.yaml"
    done = run("config", "section", "graphs", "--values", '{"neighbours": 9}', "--out", out)
    assert done.returncode == 0, done.stderr
    assert "neighbours: 9" in out.read_text(encoding="utf-8")


def test_versions_are_written(tmp_path, run):
    out = tmp_path / "versions.json"
    assert run("config", "versions", "--out", out).returncode == 0
    assert {"python", "matml", "torch", "pymatgen"} <= set(json.loads(out.read_text()))


def test_truncated_changed_and_missing_results_are_noticed(tmp_path, run):
    for name in ("a.csv", "deep/b.csv", "deep/c.csv"):
        write_text(tmp_path / name, f"{name}\n1\n2\n3\n")
    for name in ("logs/x.log", "benchmarks/x.tsv", "deep/.hidden"):
        write_text(tmp_path / name, "not listed")
    out = tmp_path / "checksums.json"
    assert write_checksums(tmp_path, out) == 3
    assert verify_checksums(tmp_path) == 3
    done = run("config", "verify", tmp_path)
    assert (done.returncode, "3 files" in done.stdout) == (0, True)
    text = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(text[:-3])
    (tmp_path / "deep/b.csv").write_text("deep/b.csv\n1\n2\n4\n")
    (tmp_path / "deep/c.csv").unlink()
    done = run("config", "verify", tmp_path)
    assert done.returncode == 2
    assert "3 of 3 files differ" in done.stderr
    for told in ("a.csv has ", "deep/b.csv has changed", "deep/c.csv is missing", "--forcerun"):
        assert told in done.stderr


@pytest.mark.parametrize("content", ["{}", "[]", '"x"', "null", '{"a.csv": 1}', "[" * 100_000])
def test_checksums_that_are_none_do_not_pass(tmp_path, content):
    (tmp_path / "checksums.json").write_text(content)
    with pytest.raises(MatmlError, match=r"checksums\.json: .*; make it again") as told:
        verify_checksums(tmp_path)
    assert "\n" not in str(told.value)


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def fail(**_):
        raise MemoryError

    monkeypatch.setattr(main, "cli", fail)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("matml: error: there is too little memory; free some")


SLEEPS = (
    "import time, click; from matml.cli import main as m; "
    "m.cli = click.command()(lambda: (print('begun', flush=True), time.sleep(60))); m.main()"
)


def ended_by(number: signal.Signals, **job: str) -> int:
    """Exit code of a command that gets a signal; as a job where a run is given."""
    # ignored, where the tests run in the background of a shell
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {SLEEPS}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | job,
    ) as command:  # fmt: skip
        assert command.stdout.readline() == "begun\n"
        command.send_signal(number)
        _, told = command.communicate(timeout=60)
    assert "Traceback" not in told
    return command.returncode


def test_exit_codes_are_those_of_the_docs(tmp_path, run):
    page = (Path(__file__).parents[1] / "docs/pages/how-to/command-line.md").read_text("utf-8")
    documented = set(map(int, re.findall(r"^\| (\d+) \|", page, re.MULTILINE)))
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed: 1\n")
    found = {
        run("config", "defaults").returncode: 0,
        run("config", "verify", tmp_path / "none").returncode: 2,
        run("config", "verify", "--no-such-option").returncode: 2,
        # it becomes Snakemake's process
        subprocess.run(
            [*MATML, "run", "--configfile", mine, "no/such/result", "--cores", "1"], check=False
        ).returncode: 1,
        ended_by(signal.SIGINT): 1,
        ended_by(signal.SIGTERM, MATML_RUN=f"{os.getpid()} {tmp_path / 'lock'}"): 143,
    }
    assert all(code == expected for code, expected in found.items()), found
    assert set(found) == documented


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("matml kin", {"kinetics"}),
        ("matml kinetics cal", {"calibrate"}),
        ("matml kinetics calibrate --pri", {"--prior"}),
        ("matml screen --rank", {"--rank-by"}),
    ],
)
def test_the_shell_completes_words(words, offered):
    state = {
        "_MATML_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(MATML, env=os.environ | state, capture_output=True, text=True, check=True)
    assert {line.split(",")[1] for line in done.stdout.split()} == offered
    source = subprocess.run(
        MATML, env=os.environ | {"_MATML_COMPLETE": "bash_source"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "complete -o nosort -F _matml_completion matml" in source.stdout


def test_a_long_command_says_that_it_is_at_work():
    code = (
        "import logging, time, click; from matml.cli import main as m; m.SILENCE_S = 0.3\n"
        "command = click.command()(lambda: (time.sleep(1), logging.info('own'), time.sleep(0.1)))\n"
        "m.cli = command; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, own = done.stderr.splitlines()
    assert own == "own"
    assert lines
    assert all(re.fullmatch(r"at work for \d+ s", line) for line in lines)


def test_folders_are_watched_with_their_files(tmp_path):
    for name in ("a.cif", "deep/b.cif"):
        write_text(tmp_path / "crystals" / name, name)
    folder = tmp_path / "crystals"
    assert watched_files([folder]) == [
        folder.as_posix(),
        f"{folder.as_posix()}/a.cif",
        f"{folder.as_posix()}/deep/b.cif",
    ]
    assert watched_files([folder], most=1) == [folder.as_posix()]
    assert watched_files([Path("x.csv")]) == ["x.csv"]
    # Snakemake would look for a wildcard, and cannot write what is no UTF-8
    for name in ("{x}/c.cif", os.fsdecode(b"\xe9.cif")):
        write_text(folder / name, "c")
    assert watched_files([folder / "{x}"]) == [folder.as_posix()]
    assert watched_files([folder]) == [
        folder.as_posix(),
        f"{folder.as_posix()}/a.cif",
        f"{folder.as_posix()}/deep/b.cif",
    ]


REFUSED = [
    "structures ingest nowhere --out x",
    "structures graph nowhere --out x",
    "properties split --structures nowhere --graphs nowhere --out x",
    "properties adapt --support nowhere.csv --out x",
    "properties predict --property band_gap_eV --structures nowhere.cif --out x",
    "properties ship --model nowhere --out x",
    "screen --support nowhere.csv --candidates .",
    "screen suggest --property band_gap_eV --goal maximise --known . --candidates . --out x",
    "screen merge --shard . --out x",
    "candidates --structures . --out x",
    "properties predict --structures bad",
    "kinetics calibrate --prior tempering --data nowhere.csv --out x",
    "kinetics calibrate --data nowhere.csv",
    "kinetics calibrate --data nowhere.csv --equation unknown",
    "kinetics learn --data nowhere.csv --equation unknown --out x",
    "federated start --equation unknown --study s --out x",
    "study prices forecast --prices prices.csv",
    "kinetics learn --data nowhere.csv --equation jmak --out x",
    "kinetics design --prior tempering --data nowhere.csv --out x",
    "kinetics compare-equations --data nowhere.csv --out x",
    "kinetics inspect nowhere.asc",
    "report nowhere",
    "config check nowhere.yaml",
]
SCRIPT = """
import shlex, sys
from matml.cli.main import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["matml", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, (line, end.code)
    slow = {"torch", "snakemake"} & {*sys.modules}
    assert not slow, (line, slow)
"""


def test_what_cannot_be_used_is_refused_before_anything_slow_is_imported(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.cif").write_text("no crystal")
    (tmp_path / "prices.csv").write_text("a,b\n1,2\n")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input="\n".join(REFUSED),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_project_is_laid_down_and_nothing_of_it_is_written_over(tmp_path, run):
    from matml.config.schema import Configuration
    from matml.core.settings import read_section

    place = tmp_path / "mine"
    done = run("init", place)
    assert done.returncode == 0, done.stderr
    found = read_section(Configuration, place / "matml.yaml").structures
    assert str(found.inputs[0]) == "crystals"
    assert str(found.labels) == "labels.csv"
    assert (place / "candidates").is_dir()
    # what is commented out is valid, too
    text = (place / "matml.yaml").read_text()
    rest = text.replace("# properties", "properties").replace("# screening", "screening")
    (place / "all.yaml").write_text(rest.replace("#   ", "  "))
    assert read_section(Configuration, place / "all.yaml").screening.family == "rocksalt"
    (place / "labels.csv").write_text("file,band_gap_eV\ncrystals/a.cif,1\n")
    done = run("init", place)
    assert "labels.csv: is there already" in done.stdout
    assert "crystals/a.cif,1" in (place / "labels.csv").read_text()


def leaves(command, path=()):
    """All commands that do something, by the words that call them."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, command


def test_every_command_prints_json():
    without = {
        " ".join(path)
        for path, command in leaves(main.cli)
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {"run", "kinetics app", "federated flower supernode"}


def test_what_a_command_says_and_writes_is_one_json_document(tmp_path, run):
    out = tmp_path / "simulated"
    done = run("kinetics", "simulate", "--set", "jmak", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "matml kinetics simulate"
    written = {str(path) for path in out.rglob("*") if path.is_file()}
    assert set(document["files"]) == {path for path in written if "/." not in path}
    rows = document["files"][str(out / "observations.csv")]
    table = pd.read_csv(out / "observations.csv")
    assert [row["time_s"] for row in rows] == table["time_s"].tolist()
    assert set(rows[0]) == set(table.columns)


def test_words_of_a_command_are_in_the_document(run):
    words = run("data", "list").stdout.splitlines()
    document = json.loads(run("data", "list", "--json").stdout)
    assert document == {"command": "matml data list", "said": words, "files": {}}


def test_records_go_to_a_file_or_into_the_document(tmp_path, run):
    file = tmp_path / "jmak.json"
    words = run("kinetics", "equations", "jmak", "--json", file).stdout.splitlines()
    for alone in (["--json"], ["--json", "-"]):
        document = json.loads(run("kinetics", "equations", "jmak", *alone).stdout)
        assert document == {
            "command": "matml kinetics equations",
            "said": words,
            "records": json.loads(file.read_text()),
            "files": {},
        }


@pytest.mark.parametrize(
    ("word", "meant"),
    [("suggest", "matml screen suggest"), ("patients", "matml study patients")],
)
def test_a_word_of_a_room_is_found(run, word, meant):
    done = run(word)
    assert done.returncode == 2
    assert f"No such command '{word}'. Is it `{meant}`?" in done.stderr
    assert "Is it" not in run("nonsense").stderr


def test_a_command_that_fails_says_so_in_the_document(tmp_path, run):
    done = run("config", "verify", tmp_path / "none", "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["error"] in done.stderr
    assert set(document) == {"command", "error"}
