"""Wheel and sdist are built and used away from the clone, in an environment of their own."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def call(*command: object, cwd: Path = ROOT) -> str:
    """Return what a command printed, both streams; fail with it where it failed."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
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


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory):
    """Run a script of the new environment in an empty folder, without this clone on the path."""
    empty = tmp_path_factory.mktemp("empty")

    def run(name: str, *arguments: object) -> str:
        return call("env", "-u", "PYTHONPATH", installed.parent / name, *arguments, cwd=empty)

    run.folder = empty
    return run


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


def test_the_shipped_model_is_there(run):
    code = "from matml.properties.predictor.few_shot import FewShotPredictor as P; "
    code += "print(sorted(P.load().properties))"
    assert "bulk_modulus_GPa" in run("python", "-W", "ignore", "-c", code)


def test_the_workflow_runs_from_an_empty_folder(run):
    assert "matml report results" in run("matml", "run", "-n")
    target = "results/kinetics/simulated_jmak/observations.csv"
    run("matml", "run", "--cores", 2, target)
    assert (run.folder / target).is_file()
    # its defaults, and the shipped file of longer settings
    longer = run("matml", "run", "-n", "--configfile", "workflow/config-long.yaml")
    assert "matml report results-long" in longer


def test_the_shipped_populations_are_there(run):
    assert "tempering: Hardness after tempering" in run("matml", "kinetics", "populations")


def test_a_command_finds_the_embedded_data(run):
    run("matml", "kinetics", "simulate", "--set", "ttt", "--out", "simulated")
    assert (run.folder / "simulated" / "observations.csv").is_file()


def test_ones_own_files_come_before_the_shipped_ones(run):
    settings = run.folder / "mine.yaml"
    settings.write_text("structures: {inputs: [data/crystals/elastic.csv.gz, mine.csv]}\n")
    (run.folder / "mine.csv").write_text("id,poscar\n")
    told = run("matml", "run", "-n", "--configfile", settings.name, "--printshellcmds")
    assert "mine.csv" in told
    assert "matml/project/data/crystals/elastic.csv.gz" in told
