"""MkDocs hook: pages and pictures that are made from the code while the site is built."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# the theme asks for this beside its search where a site is read from disk
SHIM, OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "javascripts/iframe-worker.js"

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import architecture  # noqa: E402
import reference_pages  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated reference, the drawings of the house, and two files of the root."""
    texts = dict(reference_pages.pages())
    texts |= {f"images/{name}": svg for name, svg in architecture.drawings(ROOT).items()}
    for page, name in (("changelog.md", "CHANGELOG.md"), ("contributing.md", "CONTRIBUTING.md")):
        texts[page] = (ROOT / name).read_text(encoding="utf-8")
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_page(output: str, page: Any, config: MkDocsConfig) -> str:
    """Let the search load its help from the site itself: nothing comes from the network."""
    return output.replace(SHIM, "../" * page.url.count("/") + OWN_SHIM)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Do the same in pages that are no Markdown, such as the one of missing pages."""
    return output_content.replace(SHIM, OWN_SHIM)
