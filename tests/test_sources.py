"""Which sources a command uses, and that their hash changes with them and with nothing else."""

import ast
import re
from pathlib import Path

import pytest

from matml.cli.sources import ROOT, _imports, command_sources, source_hash
from matml.core.errors import MatmlError
from matml.core.files import write_text

RULES = Path(__file__).resolve().parents[1] / "workflow/rules"
FILES = {
    "__init__.py": "",
    "cli.py": """
from matml.room import help
from matml.other.c import unused

STEPS = 3

def group(): pass

def deeper(): return STEPS

@group.command()
@help.option("--steps")
def used(steps, another):
    print(another)
    from matml.room.a import work
    return work(deeper())

@group.command()
def another():
    from matml.other import c
""",
    "room/__init__.py": '"""A room."""',
    "room/help.py": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from matml.other import c
""",
    "room/a.py": "def work(n):\n    from matml.room import b\n    return b.DATA",
    "room/b.py": 'import matml.named.names\nDATA = "table.csv", "web"',
    "room/table.csv": "1",
    "room/notes.txt": "1",
    "room/web/page.js": "1",
    "named/__init__.py": "",
    "named/names.py": "from importlib import import_module\nmade = import_module('d')",
    "named/d.py": "",
    "other/__init__.py": "",
    "other/c.py": "unused = 1",
}
USED = ["matml", "matml.named", "matml.named.d", "matml.named.names"]
USED += ["matml.room", "matml.room.a", "matml.room.b", "matml.room.help"]


def made(folder: Path, **changes: str) -> Path:
    for name, text in (FILES | changes).items():
        write_text(folder / "matml" / name, text)
    return folder / "matml"


def test_imports_are_followed_from_the_function(tmp_path):
    code, modules = command_sources("matml.cli:used", made(tmp_path))
    assert modules == USED
    assert "STEPS = 3" in code
    assert "def deeper" in code
    assert "--steps" in code
    assert "def another" not in code
    assert "def group" not in code


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_hash_changes_with_what_is_used(tmp_path, name):
    before = source_hash("matml.cli:used", root=made(tmp_path / "before"))
    assert before == source_hash("matml.cli:used", root=made(tmp_path / "same"))
    changed = made(tmp_path / "after", **{name: f"{FILES[name]}\n# edited"})
    unused = ("cli.py", "other/__init__.py", "other/c.py", "room/notes.txt")
    assert (source_hash("matml.cli:used", root=changed) == before) == (name in unused)


@pytest.mark.parametrize("edit", ["STEPS = 4", "return work(deeper() + 1)", "--stages"])
def test_the_hash_changes_with_the_functions_own_code(tmp_path, edit):
    old = {"STEPS = 4": "STEPS = 3", "--stages": "--steps"}.get(edit, "return work(deeper())")
    before = source_hash("matml.cli:used", root=made(tmp_path / "before"))
    after = made(tmp_path / "after", **{"cli.py": FILES["cli.py"].replace(old, edit)})
    assert source_hash("matml.cli:used", root=after) != before


def test_unknown_functions_are_refused(tmp_path):
    for name in ("matml.cli:nothing", "matml.nowhere:used", "matml.cli"):
        with pytest.raises(MatmlError, match="no such function"):
            source_hash(name, root=made(tmp_path))


@pytest.mark.parametrize(
    ("command", "used", "unused"),
    [
        (
            "properties.commands:pretrain",
            {"properties.networks.pretrain", "structures.graphs.graph", "core.files"},
            {"report", "screening", "studies", "kinetics", "properties.benchmark"},
        ),
        (
            "properties.commands:stack",
            {"gp.kernels", "properties.stack.fit"},
            {"report", "screening", "studies", "kinetics", "properties.predictor"},
        ),
        (
            "kinetics.commands:learn",
            {"bayes.empirical_bayes", "kinetics.equations.steels"},
            {"report", "screening", "studies", "properties", "structures"},
        ),
        (
            "report:report",
            {"report.page"},
            {"properties.networks", "meta", "bayes", "gp", "studies"},
        ),
        ("config:checksums", {"core.provenance"}, {"properties", "kinetics", "meta"}),
    ],
)
def test_real_commands_use_what_they_should(command, used, unused):
    modules = command_sources(f"matml.cli.{command}")[1]
    assert {f"matml.{name}" for name in used} <= set(modules)
    wrong = tuple(f"matml.{name}" for name in unused)
    assert not [m for m in modules if m in wrong or m.startswith(tuple(f"{w}." for w in wrong))]


def parsed(body):
    """What statements import, by the parser."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            yield from parsed(node.orelse)
        else:
            blocks = ("body", "orelse", "finalbody", "handlers", "cases")
            below = [getattr(node, block, []) for block in blocks]
            yield from (each for part in below if isinstance(part, list) for each in parsed(part))


def test_imports_of_the_whole_package_are_those_that_a_parser_finds():
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert sorted(_imports(text)) == sorted(parsed(ast.parse(text).body)), path


def test_hashes_of_all_rules_are_there_and_quick(within):
    texts = [path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.smk"))]
    commands = sorted({m for text in texts for m in re.findall(r'"(matml\.cli\.[\w.:]+)"', text)})
    assert len(commands) > 15
    command_sources.__globals__["_read"].cache_clear()
    with within(1):
        for command in commands:
            source_hash(command)
