"""The layers of the house: imports point down, without a circle, and no folder is crowded."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs/architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_house_keeps_its_rules(architecture):
    assert architecture.problems() == []


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"core/a.py": "from matml.cli import main"}, "matml.core.a imports matml.cli.main"),
        ({"core/a.py": "def f():\n    import matml.gp.b"}, "matml.core.a imports matml.gp.b"),
        # rooms of one floor stand side by side and do not import one another
        ({"gp/b.py": "from matml.bayes.c import x"}, "matml.gp.b imports matml.bayes.c"),
        (
            {"gp/b.py": "import matml.gp.d", "gp/d.py": "def f():\n    from matml.gp import b"},
            "circle: matml.gp.b, matml.gp.d",
        ),
        (
            {
                "gp/b.py": "from matml.gp.low.e import x",
                "gp/low/__init__.py": "",
                "gp/low/e.py": "from matml.gp.b import x",
            },
            "circle: matml.gp.b, matml.gp.low",
        ),
        ({f"gp/m{i}.py": "" for i in range(12)}, "matml.gp has 13 modules, more than 12"),
        ({"cli/main.py": "from matml.core.a import x\nfrom matml.gp import b"}, ""),
    ],
)
def test_what_is_against_the_rules_is_found(architecture, tmp_path, files, told):
    rooms = {f"{room}/__init__.py": "" for room in ("core", "gp", "bayes", "cli")}
    plain = {"__init__.py": "", "core/a.py": "", "gp/b.py": "", "bayes/c.py": "", "cli/main.py": ""}
    for name, text in (rooms | plain | files).items():
        path = tmp_path / "matml" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = architecture.problems(tmp_path)
    assert [line.split(", which")[0] for line in found] == ([told] if told else [])
