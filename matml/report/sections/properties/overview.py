"""The part of the page about property predictors: few-shot errors, parity, intervals, training."""

from matml.report.html.figure_set import Figures, FigureSet
from matml.report.html.markup import count, details, missing
from matml.report.html.results import Results
from matml.report.sections.properties.calibration import calibration_note, calibration_set
from matml.report.sections.properties.chemistry import family_map_set, map_note
from matml.report.sections.properties.learning_curves import (
    curve_figures,
    curve_legend,
    method_tables,
    training_figures,
)
from matml.report.sections.properties.parity import (
    parity_section_note,
    parity_set,
    read_predictions,
)
from matml.report.sections.properties.scores import Scores, coverage_table, label_gain_table


def predictors_section(results: Results, figures: Figures) -> str:
    """Return the section's markup."""
    scores = Scores.read(results)
    if scores is None:
        return missing("This run has trained no property predictor.")
    summary = results.json("properties/evaluation/summary.json") or {}
    parts = [_setting(summary)]
    parts += [
        label_gain_table(scores),
        "<h3>Error by number of labels</h3>",
        curve_legend(scores),
        FigureSet(curve_figures(scores)).markup(figures),
        details("All numbers", method_tables(scores)),
        *_single_predictions(results, scores, figures),
        "<h3>Training</h3>",
        FigureSet(training_figures(results)).markup(figures)
        or missing("This run has kept no training curves."),
    ]
    return "\n".join(parts)


def _single_predictions(results: Results, scores: Scores, figures: Figures) -> list[str]:
    """Return what is drawn from single predictions: parity, calibration, map of chemistry."""
    rows = read_predictions(results)
    if rows is None:
        absent = missing("This run has kept no single predictions.")
        return ["<h3>Predicted against calculated</h3>", absent, coverage_table(scores)]
    calibration = calibration_set(rows, scores).markup(figures)
    return [
        "<h3>Predicted against calculated</h3>",
        parity_section_note(),
        parity_set(rows, scores).markup(figures),
        "<h3>How far the intervals can be trusted</h3>",
        calibration_note() + calibration
        if calibration
        else missing("The single predictions of this run have no intervals."),
        coverage_table(scores),
        "<h3>Families and elements</h3>",
        map_note(),
        family_map_set(rows, scores).markup(figures)
        or missing("The single predictions of this run have no formulas."),
    ]


def _setting(summary: dict) -> str:
    """Return what was asked of the predictors, with the families counted."""
    test, validation = summary.get("test_families", {}), summary.get("validation_families", {})
    counted = (
        f" Here {count(len(test))} families were kept for the test, and {count(len(validation))} "
        "more for choosing methods and settings."
        if test and validation
        else ""
    )
    return (
        "<p>The question: how well is a property of a <em>new</em> family predicted when only a "
        f"few of its members have a known value?{counted} "
        "All methods got the same known values (<dfn>labels</dfn>) of a new family and predicted "
        "its other members. The <dfn>pre-trained network</dfn> learned from the other families "
        "and uses labels of the new one only where it is fine-tuned or corrected; <dfn>MAML</dfn> "
        "and <dfn>FOMAML</dfn> were trained to learn from a few labels; a <dfn>GP</dfn> (Gaussian "
        "process) corrects what is left.</p>"
    )
