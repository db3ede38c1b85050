"""The whole page: style, script and data in one file that loads nothing."""

from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from matml import __version__
from matml.config import ReportSection
from matml.report.benchmark import benchmark_section, has_benchmark
from matml.report.crystals import crystals_section
from matml.report.kinetics import badge, kinetics_headlines, kinetics_section, method_words
from matml.report.markup import (
    Cell,
    Figures,
    count,
    escape,
    interval,
    missing,
    number,
    table,
    text_cell,
)
from matml.report.predictors import Scores, few_shot_table, findings, predictors_section
from matml.report.provenance import run_section, sources_section
from matml.report.results import Results
from matml.report.shortlist import candidate_headline, shortlist_section
from matml.report.words import title_of

# nothing may be fetched, from anywhere
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)


def make_page(folder: Path, settings: ReportSection) -> tuple[str, int]:
    """Return the page of a folder of results, and the number of files it was made of.

    Raises
    ------
    MatmlError
        Where the folder does not exist or one of its files cannot be used.
    """
    results, figures = Results(folder), Figures()
    sections = [
        ("found", "What was found", _overview(results)),
        ("crystals", "Crystals and their families", crystals_section(results, figures, settings)),
        ("predictors", "Properties of a new family", predictors_section(results, figures)),
        ("shortlist", "Candidates, best first", shortlist_section(results, settings)),
        ("kinetics", "Transformations of a new alloy", kinetics_section(results, figures)),
        ("sources", "Data, licences, citations", sources_section(results)),
        ("run", "How this was computed", run_section(results, figures)),
    ]
    if has_benchmark(results):
        benchmark = ("benchmark", "Benchmark of the predictors", benchmark_section(results))
        sections.insert(3, benchmark)
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>'
        for name, title, content in sections
    )
    assets = files("matml.report") / "assets"
    read = [(assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")]
    libraries = [get_plotlyjs()] if figures.specs else []
    if 'id="crystal-data"' in body:
        libraries.append((assets / "3Dmol-min.js").read_text(encoding="utf-8"))
    scripts = "".join(f"<script>{_inline(code)}</script>" for code in [*libraries, read[1]])
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(settings.title)}</title><style>{read[0]}</style></head><body>"
        f"<header><p class='kicker'>matml {__version__}</p><h1>{escape(settings.title)}</h1>"
        f"<nav>{links}</nav></header><main>{body}</main>"
        "<footer><p>Every number on this page was read from a file of the run's results. The page "
        "holds all it needs and loads nothing. Figures: plotly.js (MIT licence); crystals: "
        f"3Dmol.js (BSD-3-Clause).</p></footer>{scripts}</body></html>\n"
    )
    return page, len(set(results.used))


def _inline(code: str) -> str:
    """Return a script that cannot end its own script element."""
    return code.replace("</script", "<\\/script")


def _overview(results: Results) -> str:
    """Return the first screen: what was read, and the main results."""
    parts = [_cards(results)]
    scores = Scores.read(results)
    if scores is not None:
        parts.append(findings(scores))
        parts.append("<h3>Error on families that were never seen, by number of known values</h3>")
        parts.append(few_shot_table(scores))
    headlines = kinetics_headlines(results)
    if headlines:
        parts.append("<h3>Error on an alloy that was never seen</h3>")
        rows = []
        for item in headlines:
            unit = f" {item['unit']}" if item["unit"] else ""
            name = title_of(item["dataset"])
            cells = [
                Cell(
                    f'{number(row["value"])}{escape(unit)} <span class="interval">'
                    f"{interval(row['low'], row['high'])}</span>",
                    float(row["value"]),
                    "num",
                )
                for row in (item["default"], item["generic"])
            ]
            rows.append(
                [
                    Cell(f"{escape(name)} {badge(item['simulated'])}", name),
                    text_cell(str(item["shots"]), "num"),
                    text_cell(method_words(item["default"]["method"])),
                    *cells,
                ]
            )
        head = ["data set", "observations given", "method", "its error"]
        parts.append(
            table(
                [*head, "least squares, generic start"],
                rows,
                note="Root-mean-square error on the alloy's other observations, averaged over "
                "alloys, with its 95 % interval over alloys (bootstrap).",
            )
        )
    if scores is None and not headlines:
        parts.append(missing("This run holds no scores yet."))
    return "\n".join(parts)


def _cards(results: Results) -> str:
    """Return the few numbers that tell the size of the run."""
    cards = []
    structures = results.json("structures/summary.json")
    if structures is not None:
        cards.append((count(structures["accepted"]), "crystals read and checked"))
        cards.append((count(structures["families"]), "families of like structure"))
    summary = results.json("properties/evaluation/summary.json")
    if summary is not None and summary.get("test_families"):
        cards.append((count(len(summary["test_families"])), "families kept aside for the test"))
    best = candidate_headline(results)
    if best is not None:
        cards.append((best[0], f"first of the new candidates; {best[1]}"))
    if not cards:
        return ""
    return (
        '<div class="cards">'
        + "".join(f"<div><b>{value}</b><span>{text}</span></div>" for value, text in cards)
        + "</div>"
    )
