"""`matml report`: the page, and its figures as files."""

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="HTML file to write; by default report.html in the folder.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    help="Folder for every figure as PNG, SVG and CSV; it is replaced. By default none.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML with the keys of the report section."
)
def report(results: Path, out: Path | None, figures: Path | None, config: Path | None) -> None:
    """Make one page of the results in FOLDER that needs no network; missing parts are left out.

    FOLDER is that of a whole run, or what `matml screen`, `matml properties adapt` or `matml
    kinetics` `calibrate`, `design` or `diagram` wrote.
    """
    from matml.core.errors import MatmlError
    from matml.core.files import write_text
    from matml.core.settings import read_section
    from matml.report.page import make_page
    from matml.report.settings import ReportSection

    page, used = make_page(results, read_section(ReportSection, config))
    if not used:
        raise MatmlError(
            f"{results}: holds no results; give the folder of a run, of `matml screen --out` "
            "(shortlist.csv), of `matml kinetics calibrate --out` (a folder for each alloy), or of "
            "`matml kinetics design`, `matml kinetics diagram` or `matml properties adapt`"
        )
    out = out or results / "report.html"
    write_text(out, page)
    size = len(page.encode())
    shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    click.echo(f"{out}: {shown} from {used} result files")
    if figures is not None:
        from matml.report.figure_files import write_figures
        from matml.report.html.results import Results

        written = write_figures(Results(results), figures)
        click.echo(f"{figures}: {written} figures, each as PNG, SVG and CSV")
