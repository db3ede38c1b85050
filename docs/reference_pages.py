"""Reference pages that are written from the code: commands, configuration, equations, files."""

import inspect
import json
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from matml.cli.main import cli
from matml.config.files import BOUNDS
from matml.config.schema import Configuration
from matml.core.settings import Section
from matml.kinetics.equation_names import BUILT_IN

HERE = Path(__file__).parent


def _cell(text: object) -> str:
    """Return text that may stand in a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def commands(
    command: click.Command = cli, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command that can be given, with its path such as `matml screen suggest`."""
    context = click.Context(command, info_name=command.name if parent else "matml", parent=parent)
    group = isinstance(command, click.Group)
    if not group or command.invoke_without_command:
        yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from commands(child, context)


def commands_page() -> str:
    """Return the page of all commands with their options."""
    parts = ["# Commands\n\nEvery command and option, as `--help` tells them.\n"]
    for path, command, context in commands():
        help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
        parts.append(f"## `{path}`\n\n{help_text}\n")
        rows = []
        for option in command.params:
            if isinstance(option, click.Argument):
                name = f"`{option.make_metavar(context)}`"
                rows.append([name, "", "", "yes" if option.required else ""])
            elif isinstance(option, click.Option):
                names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
                default = option.to_info_dict()["default"]
                shown = "" if option.is_flag or default in (None, (), []) else f"`{default}`"
                kind = option.type
                choices = ""
                if isinstance(kind, click.Choice):
                    choices = " One of " + ", ".join(f"`{item}`" for item in kind.choices) + "."
                text = (option.help or "") + choices
                rows.append([names, text, shown, "yes" if option.required else ""])
        if rows:
            parts.append(_table(["option", "meaning", "default", "required"], rows))
    return "\n".join(parts)


def configuration_page() -> str:
    """Return the page of all keys of the configuration, by section."""
    parts = [
        "# Configuration\n",
        "Write only the keys that differ into a file of your own and name it: "
        "`matml run --configfile mine.yaml`. An unknown key, a value out of bounds or a missing "
        "input file is an error before anything runs. `matml config check mine.yaml` checks a "
        "file, `matml config defaults` prints all defaults.\n",
        "A dictionary in your file is merged with the default one key by key: "
        "`properties: {properties: {mine: 1}}` adds a property to the five that are there.\n",
    ]
    parts += list(_section(Configuration(), "", "Top level"))
    return "\n".join(parts)


def _section(section: Section, prefix: str, title: str) -> Iterator[str]:
    dumped = section.model_dump(mode="json")
    rows, nested = [], []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        key = f"{prefix}{name}"
        if isinstance(value, Section):
            nested.append((value, key))
            continue
        allowed = [
            f"{word} {getattr(item, bound):g}"
            for item in field.metadata
            for bound, word in BOUNDS.items()
            if getattr(item, bound, None) is not None
        ]
        if typing.get_origin(field.annotation) is typing.Literal:
            allowed = ["one of " + ", ".join(map(str, typing.get_args(field.annotation)))]
        # a setting may be left out of the file while it is the default
        default = dumped.get(name, value)
        default = yaml.safe_dump(default, default_flow_style=True, width=10_000).strip()
        default = default.removesuffix("...").strip()
        rows.append([f"`{name}`", field.description, f"`{default}`", ", ".join(allowed)])
    yield f"## {title}\n"
    if prefix:
        yield f"{' '.join((type(section).__doc__ or '').split())}\n"
    if rows:
        yield _table(["key", "meaning", "default", "allowed"], rows)
    for value, key in nested:
        yield from _section(value, f"{key}.", f"`{key}`")


def equations_page() -> str:
    """Return the page of the built-in equations."""
    parts = [
        "# Kinetic equations\n",
        "As `matml kinetics equations` lists them. *Inputs* are columns of the observations or of "
        "the table of alloys; the limits are those of the declaration, wider than any prior. "
        "[An equation of your own](../how-to/own-equation.md) is used in the same way.\n",
    ]
    for equation in json.loads(BUILT_IN.read_text(encoding="utf-8")):
        parts.append(f"## `{equation['name']}`\n\n{equation['title']}. {equation['source']}.\n")
        observed = [
            [
                kind,
                item["measured"],
                ", ".join(
                    f"`{i['name']}`" + (f" ({i['unit']})" if i["unit"] else "")
                    for i in item["inputs"]
                ),
                item["residual_unit"],
                "yes" if item["histories"] else "",
            ]
            for kind, item in equation["observations"].items()
        ]
        head = ["observation", "measured", "inputs", "unit of the residual", "any history"]
        parts.append(_table(head, observed))
        parameters = [
            [f"`{p['name']}`", p["unit"], f"{p['low']:g} to {p['high']:g}", p["description"]]
            for p in equation["parameters"]
        ]
        parts.append(_table(["parameter", "unit", "range", "meaning"], parameters))
    return "\n".join(parts)


def columns() -> dict[str, dict[str, typing.Any]]:
    """Return the described files of `columns.toml`, by name."""
    return tomllib.loads((HERE / "columns.toml").read_text(encoding="utf-8"))


def files_page(kind: str, introduction: str) -> str:
    """Return the page of the input or output files with all of their columns."""
    parts = [introduction]
    for name, file in columns().items():
        if file["kind"] != kind:
            continue
        where = ", ".join(f"`{path}`" for path in file["paths"])
        parts.append(f"## {name}\n\n{where}\n\n{file.get('about', '')}\n")
        rows = [[f"`{column}`", text] for column, text in file.get("columns", {}).items()]
        if rows:
            parts.append(_table(["column", "meaning and unit"], rows))
    return "\n".join(parts)


INPUTS = """# Input files

Tables are CSV (a comma between cells, a point in numbers) or Parquet; `.gz` is read as it is. Rows
that cannot be used are set aside in a `quarantine.csv` with reason and remedy.
"""
OUTPUTS = """# Output files

`results/` is the folder of the workflow (`output_dir`); single commands write the same files into
their `--out`. Tables are CSV or Parquet, models are safetensors with JSON beside them. Units stand
in the names of columns. A test compares this page with the files of a run.
"""


def pages() -> dict[str, str]:
    """Return the text of every generated page by its path among the pages."""
    return {
        "reference/commands.md": commands_page(),
        "reference/configuration.md": configuration_page(),
        "reference/equations.md": equations_page(),
        "reference/inputs.md": files_page("input", INPUTS),
        "reference/outputs.md": files_page("output", OUTPUTS),
    }
