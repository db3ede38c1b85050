"""The method of a name, made by its class."""

from importlib import import_module

from matml.core.errors import MatmlError
from matml.properties.methods.method import Method, Trained
from matml.properties.methods.registry import ENTRIES, TITLES


def make(name: str, trained: Trained) -> Method:
    """Return a method of what was trained for a property.

    Raises
    ------
    MatmlError
        Where there is no such method.
    """
    if name not in ENTRIES:
        raise MatmlError(f"method {name!r} is not known; known are {', '.join(TITLES)}")
    module, made_by = ENTRIES[name].made_by.split(":")
    return getattr(import_module(f"{__package__}.{module}"), made_by)(name, trained)
