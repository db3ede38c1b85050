"""What a rule hands to the shell is quoted: a name with a blank or `; touch X` stays a name."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
COMMAND = re.compile(r"^ +shell:\n((?:\s*[a-z]*[\"'].*\n)+)", re.MULTILINE)
FIELD = re.compile(r"\{([^{}]+)\}")


def commands():
    return [(path.name, match[1]) for path in FILES for match in COMMAND.finditer(path.read_text())]


def test_all_shell_blocks_are_found():
    written = sum(len(re.findall(r"^ +shell:", path.read_text(), re.MULTILINE)) for path in FILES)
    assert len(commands()) == written > 15


@pytest.mark.parametrize(("file", "command"), commands())
def test_every_field_is_quoted(file, command):
    fields = FIELD.findall(command)
    assert fields, file
    # the number of threads is Snakemake's own
    assert [field for field in fields if not field.endswith(":q") and field != "threads"] == []


def test_quoting_holds_a_hostile_value():
    from snakemake.utils import format as formatted

    hostile = "jmak; touch X $(touch Y) `touch Z` 'a"
    seed = 7
    words = shlex.split(formatted("matml --equation {hostile:q} --seed {seed:q}"))
    assert words == ["matml", "--equation", hostile, "--seed", str(seed)]
