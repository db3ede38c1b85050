"""The page's figures as files for papers: PNG, SVG, and a CSV of the numbers drawn."""

import shutil
import tempfile
from pathlib import Path

from matml.core.files import write_table
from matml.figures import static
from matml.figures.figure import Figure
from matml.report.html.results import Results
from matml.report.sections.folders import design_figures, diagram_figures
from matml.report.sections.kinetics.overview import error_figures
from matml.report.sections.kinetics.transformations import kinetics_figures
from matml.report.sections.properties.benchmark import benchmark_figures
from matml.report.sections.properties.calibration import calibration_figures
from matml.report.sections.properties.chemistry import family_maps
from matml.report.sections.properties.learning_curves import curve_figures, training_figures
from matml.report.sections.properties.parity import parity_figures, read_predictions
from matml.report.sections.properties.scores import Scores
from matml.report.sections.screening.pareto import candidate_map_figures, pareto_figures


def all_figures(results: Results) -> list[Figure]:
    """Return all figures that a folder of results allows."""
    figures: list[Figure] = []
    scores = Scores.read(results)
    if scores is not None:
        figures += curve_figures(scores)
        rows = read_predictions(results)
        if rows is not None:
            figures += parity_figures(rows, scores)
            figures += calibration_figures(rows, scores)
            figures += family_maps(rows, scores)
        figures += training_figures(results)
    figures += pareto_figures(results) + candidate_map_figures(results)
    figures += benchmark_figures(results)
    figures += error_figures(results) + kinetics_figures(results)
    return figures + diagram_figures(results) + design_figures(results)


def write_figures(results: Results, folder: Path) -> int:
    """Write all figures to a folder, which is replaced whole; return their number.

    Each as `<name>.png`, `<name>.svg` and `<name>.csv`.
    """
    folder = Path(folder)
    figures = all_figures(results)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for figure in figures:
            place = unfinished / figure.name
            write_table(place.with_name(f"{figure.name}.csv"), static.table(figure))
            static.write(figure, [place.with_name(f"{figure.name}.{kind}") for kind in KINDS])
        unfinished.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(figures)


KINDS = ("png", "svg")
