"""`matml config …`: the configuration's defaults, its check, and its sections as files."""

from pathlib import Path

import click


@click.group()
def config() -> None:
    """Validate and write the workflow's configuration; verify its results."""


@config.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write instead of printing.")
def defaults(out: Path | None) -> None:
    """Print the default configuration with a description of every key (YAML)."""
    from matml.config.files import default_yaml
    from matml.core.files import write_text

    if out is None:
        click.echo(default_yaml(), nl=False)
    else:
        write_text(out, default_yaml())


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a configuration FILE: keys, values, input files, and whether the data suffice.

    All crystals are read and sorted into families, so that a label column that is missing, or too
    few labels, families or members of the screened family are found before a run.
    """
    from matml.config.files import check_inputs, located
    from matml.config.schema import Configuration
    from matml.core.settings import read_section

    configuration = located(read_section(Configuration, file))
    if said := check_inputs(configuration, str(file)):
        click.echo(said)
    from matml.config.data import check_data

    for line in check_data(configuration, str(file)):
        click.echo(line)
    click.echo(f"{file}: valid")


@config.command()
@click.argument("name")
@click.option("--values", required=True, help="The section's keys and values as JSON.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="YAML file to write.")
def section(name: str, values: str, out: Path) -> None:
    """Write the section NAME of the configuration as a file for `--config`.

    `properties-mine` is the section `properties` under another name.
    """
    import json

    import yaml

    from matml.config.files import section_models
    from matml.core.errors import MatmlError
    from matml.core.files import write_text
    from matml.core.settings import validate

    models = section_models()
    kind = name.partition("-")[0]
    if kind not in models:
        raise MatmlError(f"{name}: no such section; sections are {', '.join(models)}")
    try:
        given = json.loads(values)
    except (ValueError, RecursionError) as error:
        raise MatmlError(f"--values: is not valid JSON ({error})") from None
    checked = validate(models[kind], given, f"section {name}").model_dump(mode="json")
    text = yaml.safe_dump(checked, sort_keys=False, allow_unicode=True)
    write_text(out, f"# section `{name}` as it was used\n{text}")


@config.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
def versions(out: Path) -> None:
    """Write the versions of Python, the platform and the packages that shape results."""
    from matml.core.files import write_json
    from matml.core.provenance import versions as found

    write_json(out, found())


@config.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option(
    "--origin", type=click.Path(path_type=Path), help="JSON file for date, machine and commit."
)
@click.option("--started", default="matml run", help="Command by which the run was started.")
@click.option("--folder", "folders", multiple=True, help="Folder that a rule makes as one.")
def checksums(
    results: Path, out: Path, origin: Path | None, started: str, folders: tuple[str, ...]
) -> None:
    """Write size and SHA-256 of every file below RESULTS."""
    from matml.core.files import write_json
    from matml.core.provenance import origin as found
    from matml.core.provenance import write_checksums

    if origin is not None:
        inside = [Path(folder).relative_to(results).as_posix() for folder in folders]
        run = {"command": started, "results": results.as_posix(), "folders": inside}
        write_json(origin, found() | {"started": run})
    click.echo(f"{write_checksums(results, out)} files listed in {out}")


@config.command()
@click.argument("results", type=click.Path(path_type=Path))
def verify(results: Path) -> None:
    """Verify the files below RESULTS against its checksums.json."""
    from matml.core.provenance import verify_checksums

    click.echo(f"{results}: {verify_checksums(results)} files are as they were written")
