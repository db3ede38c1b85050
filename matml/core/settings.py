"""Typed settings: the base of every section, and their check; files that hold them."""

import re
import reprlib
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from matml.core.errors import MatmlError, reading
from matml.core.integrity.beside import check_beside
from matml.core.text.encoding import decode

SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxother = 80
MOST_SEED = 2**32 - 1
"""The largest that numpy, torch and scikit-learn all take."""
"""How bad values are shown: whole, unless they fill the screen."""


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic takes yes and no, which YAML reads as true and false, for 1 and 0
        field = cls.model_fields[info.field_name or ""]
        if not _may_hold_bool(field.annotation) and _holds_bool(value):
            raise ValueError("is yes or no (true or false), where another value is meant")
        return value


def _may_hold_bool(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, (bool, BaseModel)):
        return True
    return annotation is Any or any(map(_may_hold_bool, typing.get_args(annotation)))


def _holds_bool(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, bool) or (
        isinstance(value, (dict, list)) and any(isinstance(item, bool) for item in items)
    )


Model = TypeVar("Model", bound=Section)


def validate(model: type[Model], values: Any, origin: str) -> Model:
    """Return `values` as a checked `model`.

    Parameters
    ----------
    origin
        Where the values come from (a file's path), named in the message.

    Raises
    ------
    MatmlError
        One line: each bad key, its value, and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise MatmlError(f"{origin}: {_problems(error, model)}") from None


def check_shape(value: Any, shape: Any, path: Path, remedy: str) -> None:
    """Refuse what a file holds where it is not of the shape that its readers take it to be.

    Parameters
    ----------
    shape
        A type as pydantic knows them, such as a `TypedDict`.

    Raises
    ------
    MatmlError
        Names each bad key, its value, and what is allowed.
    """
    try:
        TypeAdapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        raise MatmlError(f"{path}: {_problems(error)}; {remedy}") from None


def _problems(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return what pydantic found, at most five items of it, in one line."""
    found = []
    for item in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"]) or "its content"
        if item["type"] == "extra_forbidden":
            parent: Any = model
            for part in item["loc"][:-1]:
                field = getattr(parent, "model_fields", {}).get(part)
                parent = field.annotation if field else parent
            known = ", ".join(getattr(parent, "model_fields", {}))
            found.append(f"{key}: unknown key; known keys here are {known}")
        elif item["type"] == "missing":
            found.append(f"{key} is missing")
        else:
            said = item["msg"].removeprefix("Value error, ")
            said = f"{said[0].lower()}{said[1:]}"
            if item["type"] == "path_type":
                said = "must be a path, as text"
            # what a check of the whole says names its keys and values itself
            whole = item["type"] == "value_error" and not item["loc"]
            found.append(said if whole else f"{key} = {SHOWN.repr(item['input'])}: {said}")
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join([*found[:5], *more])


UNLIKE_WRITTEN = re.compile(
    r"[-+]?(0[0-7_]*\d|[\d_]+(:[0-5]?\d)+(\.\d*)?|[\d_.]*_[\d_.]*)", re.ASCII
)
"""Numbers that YAML reads as others than they seem: 010 is 8, 1:30 is 90, 1_0 is 10."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without keys that are given twice, of which the first would vanish, and odd numbers."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and UNLIKE_WRITTEN.fullmatch(str(node.value)):
            raise yaml.constructor.ConstructorError(
                problem=f"{node.value} in line {node.start_mark.line + 1} is no plain number: "
                "write one, or quote what is a text"
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    first = seen[key.value]
                    where = f"line {line}" if first == line else f"lines {first} and {line}"
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} is given twice, in {where}"
                    )
                seen[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Raises
    ------
    MatmlError
        Where it is missing, no YAML, holds no keys, or one of them twice.
    """
    path = Path(path)
    with reading(path, "write `key: value` lines, as `matml config defaults` does"):
        check_beside(path)
        try:
            values = yaml.load(decode(path.read_bytes()), Loader=_PlainLoader)
        except yaml.YAMLError as error:
            raise MatmlError(
                f"{path}: is not valid YAML ({' '.join(str(error).split())})"
            ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise MatmlError(f"{path}: must hold `key: value` lines, not a {type(values).__name__}")
    if other := [key for key in values if not isinstance(key, str)]:
        raise MatmlError(f"{path}: the key {other[0]!r} is no text; known keys are words")
    return values


def read_section(model: type[Model], path: Path | None) -> Model:
    """Read one section's settings from a YAML file; all defaults where `path` is None."""
    return model() if path is None else validate(model, read_yaml(path), str(path))
