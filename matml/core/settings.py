"""Typed settings: the base of every section, and their check."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from matml.core.errors import MatmlError


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Section)


def validate(model: type[Model], values: dict[str, Any], origin: str) -> Model:
    """Return `values` as a checked `model`.

    Parameters
    ----------
    origin
        Where the values come from (a file's path), named in the message.

    Raises
    ------
    MatmlError
        One line per bad key: the key, its value, and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                parent: Any = model
                for part in item["loc"][:-1]:
                    field = parent.model_fields.get(part)
                    parent = field.annotation if field else parent
                known = ", ".join(getattr(parent, "model_fields", {}))
                lines.append(f"{key}: unknown key; known keys here are {known}")
            else:
                lines.append(
                    f"{key} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
                )
        raise MatmlError(f"{origin}: " + "; ".join(lines)) from None


def read_section(model: type[Model], path: Path | None) -> Model:
    """Read one section's settings from a YAML file; all defaults where `path` is None."""
    if path is None:
        return model()
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MatmlError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise MatmlError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise MatmlError(f"{path}: must hold `key: value` lines, not a {type(values).__name__}")
    return validate(model, values, str(path))
