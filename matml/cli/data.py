"""`matml data …`: public data sets by name."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
registry_option = click.option(
    "--registry",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own list of sets, as matml/core/public_data.toml.",
)


@click.group()
def data() -> None:
    """Download public data: sets checked by SHA-256, and crystals of OPTIMADE servers."""


@data.command("list")
@registry_option
def list_sets(registry: Path | None) -> None:
    """Show the sets: name, what it is, page, licence, citation."""
    from matml.core.public_data import read_registry

    for item in read_registry(registry).values():
        pinned = f"SHA-256 from {item.checksum_from}" if item.sha256 else "no published SHA-256"
        licence = item.licence or "see the page"
        click.echo(
            f"{item.name}: {item.title}\n    {item.page}\n    licence: {licence}\n"
            f"    cite {item.cite}\n    {pinned}"
        )
        if item.note:
            click.echo(f"    {item.note}")


@data.command()
@click.argument("name")
@click.option("--to", type=FOLDER, default=Path("downloads"), show_default=True)
@click.option("--sha256", help="Checksum to expect, where none was published.")
@registry_option
def fetch(name: str, to: Path, sha256: str | None, registry: Path | None) -> None:
    """Download one set, or check the file that is there."""
    from matml.core.errors import MatmlError
    from matml.core.public_data import fetch as fetch_set
    from matml.core.public_data import read_registry

    known = read_registry(registry)
    if name not in known:
        raise MatmlError(f"data set {name!r} is unknown; there are {', '.join(known)}")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise MatmlError(f"--sha256 {sha256!r}: must be 64 hexadecimal digits")
    if known[name].note:
        click.echo(known[name].note, err=True)
    path, done = fetch_set(known[name], to, sha256)
    click.echo(f"{path}: {done}; cite {known[name].cite}")


@data.command()
@click.argument("server")
@click.option("--filter", "query", default="", help='Such as \'elements HAS ALL "Mg","O"\'.')
@click.option("--most", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="PROPERTY=FIELD: a field of the server that goes to labels.csv; repeatable.",
)
@click.option("--to", type=FOLDER, required=True, help="Folder for the pages.")
def optimade(server: str, query: str, most: int, labels: tuple[str, ...], to: Path) -> None:
    """Save crystals of an OPTIMADE SERVER: alexandria, cod, jarvis, mp, oqmd, or an address.

    Pages are saved as they come; a run that ended goes on where it was. `matml structures ingest`
    reads the folder.
    """
    from matml.structures.io.json.fetch_pages import LABELS, fetch_pages

    fields = dict(text.partition("=")[::2] for text in labels)
    if not all((*fields, *fields.values())):
        raise click.UsageError(f"--label {' '.join(labels)}: give PROPERTY=FIELD")
    done = fetch_pages(server, query, to, most, fields)
    of = f" of {done['found']:,} that the query has" if done["found"] else ""
    click.echo(f"{to}: {done['entries']:,} entries{of} on {done['pages']} pages")
    if labels:
        click.echo(f"  labels: {to / LABELS}")
