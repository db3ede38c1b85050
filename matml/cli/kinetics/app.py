"""`matml kinetics app`: the local page."""

import click


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8050, show_default=True, help="0: any free."
)
@click.option("--no-browser", is_flag=True, help="Print the address without opening it.")
def app(port: int, no_browser: bool) -> None:
    """Calibrate an alloy on a page in the browser, on this machine only (needs matml[app])."""
    from matml.core.errors import MatmlError

    try:
        import dash  # noqa: F401
    except ImportError:
        raise MatmlError('the page needs dash: pip install "matml[app]"') from None
    from matml.app.server import address, bind, serve

    try:
        server = bind(port)
    except OSError as error:
        raise MatmlError(
            f"--port {port}: cannot be listened on ({error.strerror}); give another, or 0 for any "
            "that is free"
        ) from None
    click.echo(f"{address(server)} is open to this machine only; stop it with Ctrl-C")
    serve(server, not no_browser)
