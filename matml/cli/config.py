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
    """Check a configuration FILE: keys, values, bounds, and that its input files exist."""
    from matml.config.files import check_inputs
    from matml.config.schema import Configuration
    from matml.core.settings import read_section

    check_inputs(read_section(Configuration, file), str(file))
    click.echo(f"{file}: valid")


@config.command()
@click.argument("values", metavar="JSON")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the files.")
def sections(values: str, out: Path) -> None:
    """Write sections of the configuration as files for `--config`, and versions.json.

    JSON holds the keys and values of each by its name; `properties-mine` is another form of
    `properties`.
    """
    import json

    import yaml

    from matml.config.files import section_models
    from matml.core.errors import MatmlError
    from matml.core.files import write_json, write_text
    from matml.core.provenance import versions
    from matml.core.settings import validate

    models = section_models()
    try:
        given = json.loads(values)
    except ValueError as error:
        raise MatmlError(f"JSON: is not valid ({error})") from None
    for name, section in given.items():
        model = models.get(name.partition("-")[0])
        if model is None:
            raise MatmlError(f"{name}: no such section; sections are {', '.join(models)}")
        checked = validate(model, section, f"section {name}").model_dump(mode="json")
        text = yaml.safe_dump(checked, sort_keys=False, allow_unicode=True)
        write_text(out / f"{name}.yaml", f"# section `{name}` as it was used\n{text}")
    write_json(out / "versions.json", versions())


@config.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option(
    "--origin", type=click.Path(path_type=Path), help="JSON file for date, machine and commit."
)
def checksums(results: Path, out: Path, origin: Path | None) -> None:
    """Write size and SHA-256 of every file below RESULTS."""
    from matml.core.files import write_json
    from matml.core.provenance import origin as found
    from matml.core.provenance import write_checksums

    if origin is not None:
        write_json(origin, found())
    click.echo(f"{write_checksums(results, out)} files listed in {out}")


@config.command()
@click.argument("results", type=click.Path(path_type=Path))
def verify(results: Path) -> None:
    """Verify the files below RESULTS against its checksums.json."""
    from matml.core.provenance import verify_checksums

    click.echo(f"{results}: {verify_checksums(results)} files are as they were written")
