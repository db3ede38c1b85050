"""The executed notebooks are those of the tutorials, and hold what their cells gave."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "pages/notebooks").glob("*.ipynb"))


def test_every_tutorial_has_one():
    pages = {path.stem for path in (DOCS / "pages/tutorials").glob("*.md")} - {"index"}
    assert {path.stem for path in NOTEBOOKS} == pages


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_page_and_their_outputs(path, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    from make_notebooks import cells

    text = path.read_text(encoding="utf-8")
    found = json.loads(text)["cells"]
    page = (DOCS / f"pages/tutorials/{path.stem}.md").read_text(encoding="utf-8")
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in found] == cells(page)
    outputs = [output for cell in found for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
