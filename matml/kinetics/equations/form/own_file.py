"""An equation in a Python file of the user's: run when the user names it, or after consent.

Who names the file on the command line or in the configuration asks for it to be run. A population
names one, too, and may come from others: its file is run only where the hash of its content is
known, since the user named that file before or has said `--trust-equation` to it.
"""

import copy
import hashlib
import json
import logging
import os
from pathlib import Path
from types import ModuleType

from matml.core.errors import MatmlError
from matml.core.files import write_json
from matml.kinetics.equations.form.declaration import Equation

log = logging.getLogger(__name__)

_agreed: set[str] = set()
"""Hashes of files that this process may run, also where nothing can be remembered."""


def remembered() -> Path:
    """Return the file of hashes that the user has agreed to, by the convention for settings."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "matml/trusted_equations.json"


def content_hash(path: Path) -> str:
    """Return the hash of an equation's file.

    Raises
    ------
    MatmlError
        Where there is none.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def agree(path: Path) -> None:
    """Remember that this content may be run, wherever it lies."""
    found = content_hash(path)
    known = _known()
    _agreed.add(found)
    if found not in known:
        try:
            write_json(remembered(), known | {found: str(path.resolve())})
        except OSError as error:
            log.info("%s: consent holds for this run only (%s)", remembered(), error.strerror)


def agreed(path: Path) -> bool:
    """Return whether the file's content may be run."""
    return content_hash(path) in _agreed | set(_known())


def read_equation(path: Path) -> Equation:
    """Return the `EQUATION` that a Python file defines, by running it.

    Raises
    ------
    MatmlError
        Where the file is missing, fails or defines none.
    """
    content, module = _content(path), ModuleType(f"equation_{path.stem}")
    module.__file__ = str(path)
    log.info("%s: running it for its EQUATION", path)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise MatmlError(f"{path}: cannot be run ({type(error).__name__}: {error})") from None
    equation = getattr(module, "EQUATION", None)
    if not isinstance(equation, Equation):
        raise MatmlError(
            f"{path}: defines no EQUATION; set EQUATION = Equation(...) "
            "from matml.kinetics.equations"
        )
    # found again by the same path when a population is loaded; it may be one of matml's own
    equation = copy.copy(equation)
    object.__setattr__(equation, "name", str(path))
    return equation


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise MatmlError(f"{path}: {reason}; give the file that defines EQUATION") from None


def _known() -> dict[str, str]:
    """Return the remembered hashes, and where each file lay; none where nothing can be read."""
    try:
        stored = json.loads(remembered().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return stored if isinstance(stored, dict) else {}
