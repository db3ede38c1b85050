"""The examples in docstrings do what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import matml.meta

MODULES = [m.name for m in pkgutil.iter_modules(matml.meta.__path__, "matml.meta.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.failed == 0


def test_a_module_of_ones_own_is_meta_trained_in_ten_lines():
    [example] = [
        t
        for t in doctest.DocTestFinder().find(importlib.import_module("matml.meta.train"))
        if t.name.endswith(".meta_train")
    ]
    own = [e for e in example.examples if not e.source.startswith(("import", "from"))]
    assert sum(len(e.source.splitlines()) for e in own) <= 12


def test_the_example_of_the_readme_runs():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    code = text.split("**Meta-train your own module.**")[1].split("```python\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    assert abs(names["net"].weight.item() - 3) < 0.2
