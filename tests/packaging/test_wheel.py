"""Wheel and sdist are built, and the wheel is used as its users do, in an environment of its own.

Away from the clone: the workflow is started, every tutorial is run block by block, and own files
are taken from the first to the last command, timed.
"""

import gzip
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pandas as pd
import pytest
import served
from pymatgen.core import Structure

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "pages" / "tutorials"
# a fence of Python or shell, with the comment that takes it out
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(python|bash)\n(.*?)^```$", re.M | re.S)


def call(*command: object, cwd: Path = ROOT, bin: str = "") -> str:
    """Return what a command printed, both streams; fail with it where it failed.

    Parameters
    ----------
    bin
        Folders with the commands of the environment to run it in, without the clone on its path.
    """
    own = dict(os.environ)
    if bin:
        own.pop("PYTHONPATH", None)
        own["PATH"] = f"{bin}{os.pathsep}{own['PATH']}"
    words = list(map(str, command))
    done = subprocess.run(
        words, cwd=cwd, env=own, capture_output=True, text=True, timeout=900, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, f"{words}\n{told}"
    return told


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel made from it."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of a new environment that holds the wheel, and sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    # pip of the running environment, asked to install into the other one
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", built[1])
    # libraries only: links to this clone in that folder are not followed from here
    [packages] = (folder / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def run(installed, tmp_path, monkeypatch):
    """Run a command of the new environment in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return lambda *command: call(*command, cwd=tmp_path, bin=str(installed.parent))


@pytest.fixture(scope="module")
def commands(installed, tmp_path_factory):
    """Folders of the same commands, which need not import their libraries each."""
    with served.commands(tmp_path_factory.mktemp("commands"), installed) as folder:
        yield f"{folder}{os.pathsep}{installed.parent}"


@pytest.fixture
def warm_run(commands, tmp_path, monkeypatch):
    """As `run`, for the many commands of those who use the wheel."""
    monkeypatch.chdir(tmp_path)
    return lambda *command: call(*command, cwd=tmp_path, bin=commands)


def test_the_sdist_holds_every_tracked_file(built):
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    with tarfile.open(built[0]) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    # a link to a folder in git, the folder itself in the archive
    tracked = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    assert tracked - held == set()
    assert "profiles/default/config.yaml" in held


def test_the_command_answers(run):
    told = run("python", "-c", "import matml; print(matml.__file__)")
    assert str(ROOT) not in told
    assert "kinetics" in run("matml", "--help")
    assert "0." in run("matml", "--version")


def test_the_workflow_runs_from_an_empty_folder(run, tmp_path):
    (tmp_path / "one.yaml").write_text("structures: {inputs: [data/crystals/dielectric.csv.gz]}\n")
    target = "results/structures/structures.parquet"
    run("matml", "run", "--cores", 2, "--configfile", "one.yaml", target)
    assert len(pd.read_parquet(tmp_path / target)) > 1000
    # the whole of it, by the shipped file of longer settings
    longer = run("matml", "run", "-n", "--configfile", "workflow/config-long.yaml")
    assert "matml report results-long" in longer


def test_ones_own_files_come_before_the_shipped_ones(run, tmp_path):
    settings = tmp_path / "mine.yaml"
    settings.write_text("structures: {inputs: [data/crystals/elastic.csv.gz, mine.csv]}\n")
    (tmp_path / "mine.csv").write_text("id,poscar\n")
    told = run("matml", "run", "-n", "--configfile", settings.name, "--printshellcmds")
    assert "mine.csv" in told
    assert "matml/project/data/crystals/elastic.csv.gz" in told


def script(page: Path) -> str:
    """Return the blocks of a tutorial that are run, as one program."""
    lines = ["import subprocess as shell"]
    for skipped, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not skipped:
            command = f"shell.run(['bash', '-euo', 'pipefail', '-c', {text!r}], check=True)"
            lines.append(text if language == "python" else command)
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["crystals", "screening", "steel", "own-task"])
def test_a_tutorial_runs(name, warm_run, within):
    """Of these, `own-task` meta-trains, adapts and judges a torch module of one's own."""
    with within({"own-task": 60}.get(name, 180)):
        warm_run("python", "-c", script(TUTORIALS / f"{name}.md"))


def test_every_tutorial_is_run():
    tested = {"index", "crystals", "screening", "steel", "own-task"}
    assert {page.stem for page in TUTORIALS.glob("*.md")} == tested


def test_own_crystals_with_labels_become_a_ranked_page(warm_run, tmp_path, within):
    """Forty CIFs of real crystals in a folder, and a table of ten values that names them."""
    with gzip.open(ROOT / "data/crystals/elastic.csv.gz") as file:
        elastic = pd.read_csv(file)
    (tmp_path / "cifs").mkdir()
    labels: dict[str, float] = {}
    for poscar, value in zip(elastic["poscar"], elastic["bulk_modulus_GPa"], strict=True):
        structure = Structure.from_str(poscar, fmt="poscar")
        if len(labels) < 40 and structure.composition.anonymized_formula == "AB":
            file = f"{structure.composition.reduced_formula}-{len(labels)}.cif"
            structure.to(str(tmp_path / "cifs" / file))
            labels[file] = value
    values = pd.Series(labels, name="bulk_modulus_GPa").rename_axis("file")
    values[::4].to_csv(tmp_path / "labels.csv")
    with within(180):
        asked = ["--property", "bulk_modulus_GPa", "--support", "labels.csv"]
        warm_run("matml", "screen", *asked, "--candidates", "cifs", "--out", "ranked")
        warm_run("matml", "report", "ranked")
    ranked = pd.read_csv(tmp_path / "ranked/shortlist.csv").set_index("id")
    assert len(ranked) == 40
    assert ranked["in_support"].sum() == 10
    others = ranked[~ranked["in_support"]]
    error = (others["prediction"] - values[others.index]).abs().mean()
    assert error < (values[others.index] - values[::4].mean()).abs().mean() / 2
    assert "bulk_modulus" in (tmp_path / "ranked/report.html").read_text(encoding="utf-8")


def test_six_points_of_a_spreadsheet_become_a_diagram(warm_run, tmp_path, within):
    """As Excel saves them where commas are decimal."""
    rows = [
        "0,5;300;54,1",
        "0,5;400;49,8",
        "0,5;500;43,2",
        "4;300;53,0",
        "4;400;47,9",
        "4;500;40,1",
    ]
    text = "\n".join(["time_h;temperature_C;hardness_HRC", *rows, ""])
    (tmp_path / "points.csv").write_text(text, encoding="cp1252")
    with within(60):
        told = warm_run(
            "matml", "kinetics", "calibrate", "--prior", "tempering", "--data", "points.csv"
        )
    assert "warning" not in told.lower()
    [folder] = [path.parent for path in tmp_path.rglob("parameters.csv")]
    parameters = pd.read_csv(folder / "parameters.csv")
    assert (parameters["low_90"] < parameters["high_90"]).all()
    assert list(folder.glob("*.png"))
