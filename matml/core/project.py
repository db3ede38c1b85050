"""Where the project's own files are: the Snakefile, `workflow/` and `data/`.

In a clone, and so in an editable install, they stand beside the package; a wheel carries them
inside it, in `matml/project`.
"""

from pathlib import Path

import matml


def project_root() -> Path:
    """Return the folder that holds the Snakefile, `workflow/`, `profiles/` and `data/`."""
    package = Path(matml.__file__).resolve().parent
    packaged = package / "project"
    return packaged if packaged.is_dir() else package.parent


def input_path(path: Path) -> Path:
    """Return where to read `path`: as given, or from the project where nothing is there.

    A relative path is the user's own, from the current folder. Only where that holds no such file
    does the one that comes with matml stand in, as for `data/crystals/elastic.csv.gz` of the
    default configuration. A path that neither has is returned as given.
    """
    shipped = project_root() / path
    return path if path.is_absolute() or path.exists() or not shipped.exists() else shipped
