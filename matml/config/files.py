"""The configuration as files: the commented defaults, the check of inputs, the sections."""

import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field
from pydantic.fields import FieldInfo

from matml.config.schema import Configuration
from matml.core.errors import FULL, MatmlError
from matml.core.project import input_path
from matml.core.settings import MOST_SEED, Section, read_yaml, validate
from matml.kinetics.equation_names import built_in_equations

HEADER = """\
# The default configuration of matml, written by `matml config defaults`.
# Every key may be left out; a second file given with `snakemake --configfile FILE` is laid over it.
# Its properties and data sets take the place of those here.
"""
BOUNDS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "min_length": "length at least",
    "max_length": "length at most",
}


class RunSection(Section):
    """The keys that stand at the top of the configuration."""

    output_dir: Path = Field(description="Folder of all results.")
    seed: int = Field(ge=0, le=MOST_SEED, description="Seed of every random choice.")
    device: str = Field(description="torch device.")


def section_models() -> dict[str, type[Section]]:
    """Return the model of every section by name; `run` holds the keys outside of any section."""
    sections: dict[str, type[Section]] = {"run": RunSection}
    for name, field in Configuration.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections[name] = field.annotation
    return sections


def section_values(configuration: Configuration) -> dict[str, dict[str, Any]]:
    """Return every section's values as JSON has them, by the names of `section_models`."""
    values = configuration.model_dump(mode="json")
    sections = {name: values[name] for name in section_models() if name != "run"}
    return sections | {"run": {name: values[name] for name in RunSection.model_fields}}


def check_inputs(configuration: Configuration, origin: str) -> str:
    """Return how the labels fit the crystals, after checking paths and equations, '' if none.

    Raises
    ------
    MatmlError
        Where a path does not exist, or an equation is not known; each is named with its key.
    """
    missing = [
        f"{key} = '{path}': no such file or folder"
        for key, path in _paths(configuration)
        if key != "output_dir" and not input_path(path).exists()
    ]
    for name, data in configuration.kinetics.datasets.items():
        key = f"kinetics.datasets.{name}.equation = {data.equation!r}"
        if data.equation.endswith(".py"):
            missing += [] if Path(data.equation).is_file() else [f"{key}: no such file"]
        elif data.equation not in (known := [one["name"] for one in built_in_equations()]):
            near = get_close_matches(data.equation, known, 1)
            told = f"did you mean {near[0]!r}?" if near else f"known ones are {', '.join(known)}"
            missing.append(f"{key}: is not known; {told}")
    if missing:
        raise MatmlError(f"{origin}: " + "; ".join(missing))
    if configuration.structures.labels is not None:
        from matml.structures.ingest import check_labels

        own = configuration.structures
        return check_labels(own.inputs, configuration.structures.labels, own)
    return ""


def load(values: dict[str, Any], origin: str = "configuration") -> Configuration:
    """Return the checked configuration whose input files exist; raise `MatmlError` otherwise.

    Inputs that the current folder lacks and matml ships are named by where they are.
    """
    configuration = located(validate(Configuration, values, origin))
    check_inputs(configuration, origin)
    return configuration


def with_own_names(
    values: dict[str, Any], files: Sequence[str | Path], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return merged settings whose tables of names are as the user gave them last.

    Snakemake adds the names of one file to those of another, so that the properties and data sets
    of the default would stay among a user's own.

    Parameters
    ----------
    values
        As Snakemake has laid them over each other.
    files, options
        The user's files, in their order, and what `--config` gave.
    """
    found = dict(values)
    for section, name in _tables_of_names():
        for layer in (*map(_read_or_nothing, files), options):
            own = layer.get(section)
            if isinstance(own, Mapping) and name in own:
                found[section] = {**found[section], name: own[name]}
    return found


def _tables_of_names() -> Iterator[tuple[str, str]]:
    """Yield section and key of the settings whose keys are names that a user chooses."""
    for section, model in section_models().items():
        for name, field in model.model_fields.items():
            if typing.get_origin(field.annotation) is dict:
                yield section, name


def _read_or_nothing(file: str | Path) -> dict[str, Any]:
    """Return the keys of a file; none where it is broken, which `load_or_exit` says."""
    try:
        return read_yaml(file)
    except MatmlError:
        return {}


def load_or_exit(values: dict[str, Any], files: Sequence[str | Path]) -> Configuration:
    """Return the checked configuration, or end the program with one line on stderr.

    For the Snakefile, where an exception would come with a traceback.

    Parameters
    ----------
    values
        As Snakemake has laid them over each other, which hides keys that one file gives twice.
    files
        Where they come from.
    """
    try:
        for file in files:
            read_yaml(file)
        return load(values, ", ".join(map(str, files)))
    except MatmlError as error:
        sys.exit(f"matml: error: {error}")


def room_or_exit(folder: Path) -> None:
    """End the program with one line where a full disk would end Snakemake with a traceback.

    Parameters
    ----------
    folder
        Where Snakemake keeps its locks and logs, for which it needs less than 1 MB.
    """
    free = shutil.disk_usage(folder).free
    if free < 2**20:
        sys.exit(
            f"matml: error: {folder.resolve()}: {free >> 10} kB are free on its disk, too little "
            f"for Snakemake's own locks and logs; {FULL}"
        )


def default_yaml() -> str:
    """Return the default configuration as YAML with a comment above every key."""
    return HEADER + "\n".join(_lines(Configuration())) + "\n"


def located(value: Any) -> Any:
    """Return a setting with every path of an input where it is (`input_path`)."""
    if isinstance(value, Path):
        return input_path(value)
    if isinstance(value, Section):
        inputs = [name for name in type(value).model_fields if name != "output_dir"]
        return value.model_copy(update={name: located(getattr(value, name)) for name in inputs})
    if isinstance(value, dict):
        return {name: located(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(located, value))
    return value


def _paths(value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every path inside a setting, with the dotted key that leads to it."""
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, f"{key}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _paths(item, f"{key}[{number}]")


def _bounds(field: FieldInfo) -> str:
    """Return what a field allows in words, such as ` (at least 0, at most 1)`."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return f" (one of {', '.join(map(str, typing.get_args(field.annotation)))})"
    found = [
        f"{word} {getattr(item, name):g}"
        for item in field.metadata
        for name, word in BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return f" ({', '.join(found)})" if found else ""


def _lines(section: Section, indent: str = "") -> Iterator[str]:
    """Yield the commented YAML lines of a section."""
    dumped = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            summary = " ".join((type(value).__doc__ or "").split("\n\n")[0].split())
            yield f"\n{indent}# {summary}"
            lines = list(_lines(value, indent + "  "))
            yield from [f"{indent}{name}:", *lines] if lines else [f"{indent}{name}: {{}}"]
        else:
            comment = f"{field.description or name}{_bounds(field)}"
            yield from textwrap.wrap(
                comment, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   "
            )
            said = dumped.get(name, value)
            text = yaml.safe_dump(
                {name: said},
                sort_keys=False,
                allow_unicode=True,
                default_flow_style=None if isinstance(said, (list, dict)) else False,
                width=100,
            )
            yield from (indent + line for line in text.rstrip().splitlines())
