"""Whatever a reader stumbles on is one line that names the file and the remedy."""

import importlib
import pickle
import re
from pathlib import Path

import pytest

import matml
from matml.core.errors import MatmlError, reading, reason_of
from matml.structures.errors import BadCrystal


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("members"), "'members' is missing"),
        (ValueError("two\nlines"), "two lines"),
        (AttributeError("'list' object has no attribute 'items'"), "has no attribute"),
        (RuntimeError("size mismatch"), "size mismatch"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (RecursionError("maximum recursion depth"), "nested too deep"),
        (FileNotFoundError(2, "No such file"), "no such file"),
        (OSError("Couldn't deserialize thrift"), "Couldn't deserialize thrift"),
    ],
)
def test_every_failure_of_a_reader_names_file_and_remedy(error, said):
    with pytest.raises(MatmlError) as told, reading("a/card.json", "export it again"):
        raise error
    message = str(told.value)
    assert message.startswith("a/card.json: ")
    assert message.endswith("export it again")
    assert said in message
    assert "\n" not in message


def test_of_a_file_that_is_whole_not_the_file_is_to_be_made_again():
    with pytest.raises(MatmlError) as told, reading("a/card.json", "export it again"):
        raise MemoryError
    message = "a/card.json: needs more memory than there is; free some memory, or use fewer"
    assert str(told.value).startswith(message)


def test_what_the_system_says_has_its_own_remedy():
    said = r"^x: Permission denied; check the path and its permissions$"
    with pytest.raises(MatmlError, match=said), reading("x"):
        raise PermissionError(13, "Permission denied", "other")


def test_a_message_of_ours_stays_and_so_does_the_end_of_the_program():
    with pytest.raises(MatmlError, match=r"^row 3$"), reading("x"):
        raise MatmlError("row 3")
    with pytest.raises(KeyboardInterrupt), reading("x"):
        raise KeyboardInterrupt


def test_a_notebook_shows_one_line():
    assert MatmlError("a.cif: no cell")._render_traceback_() == ["MatmlError: a.cif: no cell"]


def test_a_full_disk_for_temporary_files_is_said():
    error = FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
    assert reason_of(error).endswith(
        "; free some space there, or set TMPDIR to a folder that has some"
    )


def own_exceptions():
    """Every exception that matml defines; the modules that define some are imported."""
    root = Path(matml.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if re.search(r"^class \w+\(\w*(Error|Exception)\):", path.read_text(), re.MULTILINE):
            name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
            module = importlib.import_module(name)
            for each in vars(module).values():
                own = isinstance(each, type) and each.__module__ == name
                if own and issubclass(each, Exception):
                    yield each


def test_exceptions_travel_whole_between_processes():
    """One that cannot be read back ends the worker's pool, and with it the whole batch."""
    found = set(own_exceptions())
    assert {MatmlError, BadCrystal} <= found
    for kind in found:
        error = kind("why", "remedy") if kind is BadCrystal else kind("why")
        error.note = "kept"
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind
        assert (str(back), vars(back)) == ("why", vars(error))
