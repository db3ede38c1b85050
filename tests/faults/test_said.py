"""What is wrong is said where it begins, with its remedy."""

import logging
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from matml.cli.config import config
from matml.config.schema import Configuration
from matml.core.errors import MatmlError
from matml.core.files import write_text
from matml.core.provenance import (
    say_missing,
    started_again,
    verify_checksums,
    write_checksums,
)
from matml.core.settings import validate

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
    ],
)
def test_results_have_a_folder_of_their_own(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(MatmlError, match=f"mine.yaml: output_dir = .*{said}.*such as `results`"):
        validate(Configuration, {"output_dir": given}, "mine.yaml")
    for good in ("results", "new/results", str(tmp_path / "elsewhere")):
        assert str(validate(Configuration, {"output_dir": good}, "mine.yaml").output_dir) == good


def test_results_that_are_gone_are_told(tmp_path, caplog):
    results = tmp_path / "results"
    say_missing(results)
    results.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (results / name).write_text(name)
    write_checksums(results, results / "checksums.json")
    say_missing(results)
    assert not caplog.text
    (results / "b.csv").unlink()
    with caplog.at_level(logging.WARNING):
        say_missing(results)
    assert f"{results}: missing of the last whole run: b.csv; where" in caplog.text
    assert f"`matml run --forcerun {results}/b.csv` makes it again" in caplog.text
    assert f"`matml config verify {results}` names each" in caplog.text
    with pytest.raises(MatmlError, match=r"b\.csv is missing.*--forcerun"):
        verify_checksums(results)
    # what is no list of files is no reason for a run to end
    for text in ("[]", "{", '{"checksums": null}'):
        (results / "checksums.json").write_text(text)
        say_missing(results)


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


def test_on_slurm_no_accounting_is_needed():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["slurm-status-command"] == "squeue"
