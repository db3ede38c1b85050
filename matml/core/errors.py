"""The one exception that a user is meant to read, and what the system's own errors mean."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = "free some space there and run the command again; what it had finished is kept"
LIMIT = "raise the limit (`ulimit -a` shows it) and run the command again"
ACCESS = "check the path and its permissions"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: LIMIT,
    errno.EMFILE: LIMIT,
    errno.ENFILE: LIMIT,
    errno.ENOMEM: "free some memory, or use fewer processes, and run the command again",
    errno.EIO: "the disk itself does not answer: look after it before anything else",
    errno.EROFS: "nothing can be written there: give another folder",
    errno.ENAMETOOLONG: "give a shorter path",
}
"""Remedy by error number; of all others the path is to be checked."""

AGAIN = "make the file again"


class MatmlError(Exception):
    """Input that cannot be used; the message names file, row, field, value and remedy.

    The command line prints it as one line, without a traceback, and exits with code 2. Notebooks
    show one line, too: they ask `_render_traceback_`.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def as_path(given: object, what: str) -> Path:
    """Return a path that a caller gives; `what` says of which file or folder.

    Raises
    ------
    MatmlError
        For what is no path.
    """
    if isinstance(given, str | Path):
        return Path(given)
    raise MatmlError(
        f"{what}: {in_one_line(repr(given), 60)} is of the type {type(given).__name__}; give a path"
    )


def reason_of(error: OSError) -> str:
    """Return what the system says of a file that cannot be read or written, and the remedy."""
    return (f"{error.filename}: " if error.filename else "") + _reason(error)


def _reason(error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    # tempfile's word for a full disk, which names no file
    if "temporary directory" in (error.strerror or ""):
        return f"{error.strerror}; free some space there, or set TMPDIR to a folder that has some"
    return f"{reason}; {REMEDIES.get(error.errno or 0, ACCESS)}"


@contextmanager
def reading(path: str | Path, remedy: str = AGAIN) -> Iterator[None]:
    """Say whatever the block stumbles on as one `MatmlError` that names the file.

    The one boundary of files that matml reads: their readers take apart what they expect, and a
    damaged or foreign file raises anything from a `KeyError` to torch's own kinds.

    Parameters
    ----------
    remedy
        How the file is made again.

    Raises
    ------
    MatmlError
        For every failure but the end of the program.
    """
    try:
        yield
    except MatmlError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MatmlError(f"{path}: no such file; {remedy}") from None
    except MemoryError:
        raise MatmlError(
            f"{path}: needs more memory than there is; {REMEDIES[errno.ENOMEM]}"
        ) from None
    except RecursionError:
        raise MatmlError(f"{path}: is nested too deep; {remedy}") from None
    except Exception as error:
        # libraries raise an OSError without a number for bytes that they cannot read
        if isinstance(error, OSError) and error.errno:
            raise MatmlError(f"{path}: {_reason(error)}") from None
        raise MatmlError(f"{path}: cannot be used ({in_one_line(error)}); {remedy}") from error


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put a file's path before the message of a `MatmlError` of the block that does not name it."""
    try:
        yield
    except MatmlError as error:
        if str(path) in str(error):
            raise
        raise MatmlError(f"{path}: {error}") from None


def in_one_line(error: BaseException | str, limit: int = 200) -> str:
    """Return a text, or what an exception says, as one short line.

    With its kind where that is all it says.
    """
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        text = f"{text} is missing"
    text = text or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
