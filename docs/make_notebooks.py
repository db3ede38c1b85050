"""Make the executed notebooks of the tutorials from their pages.

    python docs/make_notebooks.py [NAME…]

needs `pip install -e ".[notebooks]"`. Every block that a test runs becomes a cell, run in an empty
folder; what stands between them becomes text. A test holds notebooks and pages together.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent / "pages"
NAMES = ("crystals", "screening", "steel", "own-task")
LINK, SITE = re.compile(r"\]\((?!https?:|\.\./|#)"), "](../tutorials/"
FENCE = re.compile(r"^(<!-- not run: .+ -->\n)?```(python|bash)\n(.*?)^```$", re.M | re.S)
WAITING = re.compile(r"^at work for .*\n|^.*\r(?!\n)", re.M)


def cells(page: str) -> list[tuple[str, str]]:
    """Return kind (`markdown` or `code`) and source of the cells of a tutorial."""
    found, place = [], 0
    for block in FENCE.finditer(page):
        skipped, language, source = block.groups()
        if skipped:
            continue
        found.append(("markdown", page[place : block.start()]))
        found.append(("code", source if language == "python" else f"%%bash\n{source}"))
        place = block.end()
    found.append(("markdown", page[place:]))
    # links and pictures are named from the folder of the pages
    found = [(kind, text if kind == "code" else LINK.sub(SITE, text)) for kind, text in found]
    return [(kind, text.strip()) for kind, text in found if text.strip()]


def executed(name: str) -> Any:
    """Return the notebook of a tutorial with what its cells print and show."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    notebook = new_notebook()
    makers = {"markdown": new_markdown_cell, "code": new_code_cell}
    for number, (kind, source) in enumerate(cells((PAGES / f"tutorials/{name}.md").read_text())):
        # ids would be drawn at random
        notebook.cells.append(makers[kind](source, id=f"{name}-{number}"))
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1800, resources=place, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if "outputs" in cell:
            cell.outputs = _tidy(cell.outputs)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "name": "python3"}}
    return notebook


def _tidy(outputs: list[Any]) -> list[Any]:
    """Return outputs with each stream in one piece, and of a progress bar its last state."""
    found: list[Any] = []
    for output in outputs:
        same = found and output.output_type == "stream" and found[-1].get("name") == output.name
        if same:
            found[-1].text += output.text
        else:
            found.append(output)
    for output in found:
        if output.output_type == "stream":
            output.text = WAITING.sub("", output.text)
            if sys.prefix in output.text:
                raise SystemExit(f"a cell names a folder of this machine: {output.text}")
    return [output for output in found if output.get("text", "kept").strip()]


if __name__ == "__main__":
    import nbformat

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in sys.argv[1:] or NAMES:
        out = PAGES / f"notebooks/{name}.ipynb"
        out.parent.mkdir(exist_ok=True)
        nbformat.write(executed(name), out)
        print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
