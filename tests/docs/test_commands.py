"""Every `matml` command that README and pages show exists, with the options that it is given."""

import re
import shlex
from pathlib import Path

import click
import pytest

from matml.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]


def shown(text: str) -> list[str]:
    """Return the command lines of a page: indented, in fences, or between back quotes."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^ *(?:\$ )?(matml [a-z].*)$", text, flags=re.M)
    quoted = re.findall(r"`(matml [a-z][^`]*)`", text)
    return [line for line in [*lines, *quoted] if "…" not in line and "*" not in line]


def problem(line: str) -> str | None:
    """Return what is wrong with a command line, if anything."""
    words = shlex.split(line, comments=True)[1:]
    # behind it stands what the command checks by itself
    words = words[: words.index("--")] if "--" in words else words
    command: click.Command = cli
    context = click.Context(cli, info_name="matml")
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        child = command.get_command(context, words[0])
        if child is None:
            return f"{line}: no command {words[0]!r}"
        command, words = child, words[1:]
    if command.name == "run":
        return None
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]}
    known |= {"--help", "--version"}
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    unknown = [option for option in options if option not in known]
    return f"{line}: no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_exist_with_their_options(page):
    found = [problem(line) for line in shown(page.read_text(encoding="utf-8"))]
    assert [line for line in found if line] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:matml|tests|docs|workflow|data)/[\w./-]+)`", page.read_text("utf-8"))
    # the folder inside of a wheel stands in no clone
    missing = [name for name in named if not (ROOT / name).exists()]
    assert [name for name in missing if name != "matml/project/"] == []
