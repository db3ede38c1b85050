"""What is wrong is said where it begins, with its remedy."""

import logging
from pathlib import Path

import pytest
import yaml

from matml.config.schema import Configuration
from matml.core.errors import MatmlError
from matml.core.provenance import say_missing, verify_checksums, write_checksums
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
    assert f"{results}: b.csv of the last whole run is missing" in caplog.text
    assert f"`matml config verify {results}` names each and how to make it" in caplog.text
    with pytest.raises(MatmlError, match=r"b\.csv is missing.*--forcerun"):
        verify_checksums(results)
    # what is no list of files is no reason for a run to end
    for text in ("[]", "{", '{"checksums": null}'):
        (results / "checksums.json").write_text(text)
        say_missing(results)


def test_on_slurm_no_accounting_is_needed():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["slurm-status-command"] == "squeue"
