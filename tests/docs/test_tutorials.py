"""The tutorials do what they say: every block of them is run, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "pages" / "tutorials"
# a fence of Python or shell, with the comment that takes it out
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(python|bash)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and text of the blocks that are run."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, text) for skipped, language, text in found if not skipped]


@pytest.fixture
def shell(tmp_path):
    """Run shell commands in the tutorial's folder, with the `matml` of this Python."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "matml").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from matml.cli.main import main; main()" "$@"\n'
    )
    (scripts / "matml").chmod(0o755)
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    source = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

    def shell(text: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env={**os.environ, "PATH": path, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"

    return shell


@pytest.mark.parametrize("name", ["crystals", "screening", "steel", "own-task"])
def test_a_tutorial_runs(name, shell, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for language, text in blocks(TUTORIALS / f"{name}.md"):
        if language == "bash":
            shell(text)
        else:
            exec(compile(text, f"{name}.md", "exec"), names)


def test_every_tutorial_is_run():
    tested = {"index", "crystals", "screening", "steel", "own-task"}
    assert {page.stem for page in TUTORIALS.glob("*.md")} == tested
