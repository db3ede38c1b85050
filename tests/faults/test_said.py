"""What is wrong is said where it begins, with its remedy."""

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli import main
from matml.cli.config import config
from matml.config.files import load, room_or_exit
from matml.config.schema import Configuration
from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, write_json, write_text
from matml.core.integrity.formats import open_sealed
from matml.core.provenance import (
    started_again,
    to_make_again,
    verify_checksums,
    write_checksums,
)
from matml.core.settings import validate
from matml.core.text import json_text
from matml.kinetics import Population
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.population import FORMAT
from matml.kinetics.listing import population_path
from matml.properties import FewShotPredictor, FewShotRegressor
from matml.screening import Shortlist
from matml.structures.errors import BadCrystal
from matml.structures.ingest import gather
from matml.structures.io import parse
from matml.structures.io.read import read_inputs
from matml.structures.settings import StructuresSection

ANGLES = ("alpha", "beta", "gamma")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/", "is the root of the disk"),
        (".", "whose other files would be taken for results"),
        ("..", "whose other files would be taken for results"),
        ("results/../.", "whose other files would be taken for results"),
        ("a.txt", "is a file"),
        ("a.txt/results", "is a file"),
        ("{run}", "holds braces"),
        ("a\nb", "control characters"),
        ("kept", "holds other files, which would be taken for results"),
        (None, "must be a path, as text"),
    ],
)
def test_results_have_a_folder_of_their_own(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").touch()
    for name in ("kept/data.csv", "old/report.html", "old/settings/run.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(MatmlError, match=f"mine.yaml: output_dir = .*{said}"):
        validate(Configuration, {"output_dir": given}, "mine.yaml")
    for good in ("results", "old", "new/results", str(tmp_path / "elsewhere")):
        assert str(validate(Configuration, {"output_dir": good}, "mine.yaml").output_dir) == good


def test_results_that_are_gone_are_asked_for_or_told(tmp_path, caplog):
    results = tmp_path / "results"
    assert to_make_again(results, lambda path: True) == []
    results.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (results / name).write_text(name)
    write_checksums(results, results / "checksums.json")
    assert to_make_again(results, lambda path: True) == []
    (results / "b.csv").unlink()
    (results / "c.csv").unlink()
    made = str(results / "b.csv")
    with caplog.at_level(logging.WARNING):
        assert to_make_again(results, lambda path: path == made) == [made]
    assert f"{results}: missing of the last whole run: c.csv; `matml run" in caplog.text
    assert f"--forcerun {results}/c.csv` makes it again" in caplog.text
    with pytest.raises(MatmlError, match=r"b\.csv is missing.*--forcerun"):
        verify_checksums(results)
    # what is no list of files is no reason for a run to end
    for text in ("[]", "{", '{"checksums": null}'):
        (results / "checksums.json").write_text(text)
        assert to_make_again(results, lambda path: True) == []


def test_the_command_names_configuration_and_folders(tmp_path, monkeypatch):
    """Snakemake knows a folder that a rule makes as one, and no file in it."""
    monkeypatch.chdir(tmp_path)
    names = ("figures/a b.png", "figures/c.png", "kinetics/x/calibration/y/z.csv", "report.html")
    for name in names:
        write_text(Path("out") / name, name)
    command = ["config", "checksums", "out", "--out", "out/checksums.json"]
    folders = ["--folder=out/figures", "--folder=out/kinetics/x/calibration"]
    started = started_again([tmp_path / "my settings.yaml"], {"seed": 3})
    more = ["--origin", "out/origin.json", "--started", started, *folders]
    assert CliRunner().invoke(config, [*command[1:], *more]).exit_code == 0
    for name in names:
        (Path("out") / name).write_text("other")
    with pytest.raises(MatmlError, match="4 of 4 files differ") as told:
        verify_checksums(tmp_path / "out")
    assert (
        "`matml run --configfile 'my settings.yaml' --config seed=3 --forcerun out/figures "
        "out/kinetics/x/calibration out/report.html`"
    ) in str(told.value)


def test_a_full_disk_ends_a_run_before_snakemake_does_with_a_traceback(tmp_path, monkeypatch):
    room_or_exit(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=12_345))
    with pytest.raises(SystemExit) as ended:
        room_or_exit(tmp_path)
    assert str(ended.value).startswith(f"matml: error: {tmp_path}: 12 kB are free on its disk")
    assert "free some space there" in str(ended.value)
    # a run asks before it does anything, and a log that cannot be written is no traceback
    assert "room_or_exit(Path())" in (ROOT / "workflow/rules/shell.smk").read_text()
    begin = (ROOT / "Snakefile").read_text().split("configfile")[0]
    assert "logging.raiseExceptions = False" in begin


def test_on_slurm_no_accounting_is_needed():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["slurm-status-command"] == "squeue"


def test_an_equation_that_is_not_known_is_named_before_a_run():
    for name, said in (("jmakk", "did you mean 'jmak'?"), ("jmak; touch X", "known ones are jmak")):
        data = {"mine": {"equation": name, "simulate": "jmak"}}
        with pytest.raises(MatmlError, match=re.escape(f"mine.equation = {name!r}: ")) as told:
            load({"kinetics": {"datasets": data}}, "mine.yaml")
        assert said in str(told.value)
    data = {"mine": {"equation": "none.py", "simulate": "jmak"}}
    with pytest.raises(MatmlError, match=r"mine\.equation = 'none\.py': no such file"):
        load({"kinetics": {"datasets": data}}, "mine.yaml")


def test_a_key_that_json_gives_twice_is_refused_as_in_yaml(tmp_path):
    path = tmp_path / "crystal.json"
    whole = json.dumps(Structure(4 * np.eye(3), ["Po"], [[0, 0, 0]]).as_dict())
    path.write_text(whole.replace('"matrix":', '"matrix": [[3,0,0],[0,3,0],[0,0,3]], "matrix":'))
    found = gather(read_inputs([path], StructuresSection()), StructuresSection())
    assert found.table.empty
    assert "the key 'matrix' is given twice in one object" in found.quarantine["reason"][0]
    path.write_text("\ufeff" + whole)
    assert len(gather(read_inputs([path], StructuresSection()), StructuresSection()).table) == 1
    path.write_text('{"a": 1, "a": 2}')
    with pytest.raises(MatmlError, match=r"'a' is given twice"):
        read_json(path)


def test_a_reason_does_not_repeat_a_cell_as_long_as_its_file():
    assert len(BadCrystal(f"space group {'P' * 200_000} is not known", "x").reason) < 300


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kind", [], "kind = []"),
        ("reference_temperature_K", "x", "reference_temperature_K = 'x'"),
        ("held_out_alloys", "x", "held_out_alloys = 'x'"),
        ("prior", [], "prior = []"),
    ],
)
def test_a_population_of_wrong_types_is_refused(tmp_path, key, value, said):
    path = tmp_path / "population.json"
    stored = open_sealed(read_json(population_path("tempering")), path, FORMAT)
    write_json(path, stored | {key: value}, FORMAT)
    with pytest.raises(MatmlError, match=re.escape(said)):
        Population.load(path)
    # the folder that `learn` filled will do
    write_json(path, stored, FORMAT)
    assert Population.load(tmp_path).kind == Population.load("tempering").kind
    with pytest.raises(MatmlError, match=r"no such file, and no population"):
        Population.load("")


def test_what_a_newer_matml_wrote_is_told_as_such(tmp_path):
    path = tmp_path / "population.json"
    newer = replace(FORMAT, version=FORMAT.version + 1)
    write_json(path, {}, newer)
    with pytest.raises(MatmlError, match="install the newer matml that wrote it"):
        Population.load(path)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libx.so: cannot allocate memory in static TLS block"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch, capsys, error):
    def asked(prog_name):
        raise error

    monkeypatch.setattr(main, "cli", asked)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("matml: error: there is too little memory; free some")
    with pytest.raises(MatmlError, match=r"a\.json: needs more memory than there is; free some"):
        read_with(MemoryError(), Path("a.json"))


def read_with(error, path):
    with reading(path):
        raise error


@pytest.mark.parametrize("given", [5, 3.5, ["a"], {}, b"x"])
def test_what_is_no_path_is_told(given):
    told = f"is of the type {type(given).__name__}; give a path"
    for kind in (FewShotPredictor, FewShotRegressor, Population, Shortlist):
        with pytest.raises(MatmlError, match=told):
            kind.load(given)


@pytest.mark.parametrize("given", [5, None, ["a"], {}])
def test_what_is_no_equation_and_no_table_is_told(given):
    with pytest.raises(MatmlError, match="is unknown; known ones are"):
        Population.typical(given, "fraction")
    with pytest.raises(MatmlError, match="give a DataFrame"):
        Population.typical("jmak", "fraction").calibrate(given)


def test_an_equation_of_matml_s_own_keeps_its_name(tmp_path):
    """Named by a user's file it was renamed, and a plateau then looked for in vain: a traceback."""
    path = tmp_path / "eq.py"
    path.write_text("from matml.kinetics.equations import EQUATIONS as E\nEQUATION = E['jmak']\n")
    assert equation_named(str(path)).name == str(path)
    assert equation_named("jmak").name == "jmak"


def test_files_of_countless_small_parts_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(json_text, "MOST_PARTS", 1000)
    with pytest.raises(ValueError, match="1001 objects and lists, more than 1000; split the file"):
        json_text.from_json("[" + "{}," * 999 + "{}]")
    monkeypatch.setattr(parse, "MOST_CRYSTALS", 3)
    [(_, bad, _)] = parse.parse("json", "[" + "{}," * 3 + "{}]", 1000)
    assert bad.reason == "holds more than 3 crystals"
    cell = "".join(
        f"_cell_length_{a} 5\n_cell_angle_{b} 90\n" for a, b in zip("abc", ANGLES, strict=True)
    )
    loop = "loop_\n_atom_site_label\n_atom_site_fract_x\n" + "Na1 0\n" * 100_001
    [(_, bad, _)] = parse.parse("cif", f"data_x\n{cell}{loop}", 1000)
    assert "a loop of 100001 rows (_atom_site_label), more than 100000" in bad.reason
