"""The whole page: style, script and data in one file that loads nothing."""

import base64
import gzip
from functools import cache
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from matml import __version__
from matml.report.html.figure_set import Figures
from matml.report.html.markup import escape
from matml.report.html.results import PLACES, Results
from matml.report.sections.crystals import crystals_section
from matml.report.sections.folders import folder_section
from matml.report.sections.kinetics.overview import kinetics_section
from matml.report.sections.methods import methods_section
from matml.report.sections.overview import overview
from matml.report.sections.properties.benchmark import benchmark_section, has_benchmark
from matml.report.sections.properties.overview import predictors_section
from matml.report.sections.provenance import run_section, sources_section
from matml.report.sections.screening.pareto import candidate_figures
from matml.report.sections.screening.shortlist import shortlist_section
from matml.report.sections.studies import has_studies, studies_section
from matml.report.settings import ReportSection

# nothing may be fetched, from anywhere
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)
# in the bar that stays while one reads
SHORT = {
    "folder": "Result",
    "found": "Found",
    "shortlist": "Candidates",
    "predictors": "Properties",
    "benchmark": "Benchmark",
    "kinetics": "Kinetics",
    "studies": "Other fields",
    "crystals": "Crystals",
    "methods": "Methods",
    "sources": "Data and licences",
    "run": "Run",
}
# what says how, and not what: folded until one asks
FOLDED = ("crystals", "methods", "sources", "run")
# of a folder that is not that of a whole run
SECTIONS = {
    "screening": ("found", "shortlist", "methods"),
    "kinetics": ("kinetics", "methods"),
    **dict.fromkeys(PLACES, ("folder", "methods")),
}
# before the first paint, so that a dark page does not flash white
EARLY = """(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("matml-theme"); } catch { /* storage may be forbidden */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen || (dark ? "dark" : "light");
})();"""


def make_page(folder: Path, settings: ReportSection) -> tuple[str, int]:
    """Return the page of a folder of results, and the number of files it was made of.

    Raises
    ------
    MatmlError
        Where the folder does not exist or one of its files cannot be used.
    """
    results, figures = Results(folder), Figures()
    sections = [
        ("found", "What was found", overview(results)),
        (
            "shortlist",
            "Candidates",
            shortlist_section(results, settings) + candidate_figures(results, figures),
        ),
        ("predictors", "Properties of a new family", predictors_section(results, figures)),
        ("kinetics", "Transformations of a new alloy", kinetics_section(results, figures)),
        ("crystals", "Crystals and their families", crystals_section(results, figures, settings)),
        ("methods", "Methods", methods_section(results)),
        ("sources", "Data, licences, citations", sources_section(results)),
        ("run", "How this was computed", run_section(results, figures)),
    ]
    if has_benchmark(results):
        benchmark = benchmark_section(results, figures)
        sections.insert(3, ("benchmark", "Benchmark of the predictors", benchmark))
    if has_studies(results):
        place = [name for name, _, _ in sections].index("crystals")
        sections.insert(place, ("studies", "Other fields", studies_section(results)))
    if results.place.strip("/") in PLACES:
        title, content = folder_section(results, figures)
        sections.insert(0, ("folder", title, content))
    if results.place:
        part = results.place.partition("/")[0]
        sections = [item for item in sections if item[0] in SECTIONS[part]]
    links = "".join(f'<a href="#{name}">{SHORT[name]}</a>' for name, _, _ in sections)
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f"<details{'' if name in FOLDED else ' open'}><summary>"
        f'<h2 id="{name}-title">{escape(title)}</h2></summary>{content}</details></section>'
        for name, title, content in sections
    )
    assets = files("matml.report") / "assets"
    style, script, viewer = (
        (assets / name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js", "3Dmol-min.js")
    )
    style += (assets / "figures.css").read_text(encoding="utf-8")
    menus = (assets / "figures.js").read_text(encoding="utf-8")
    # the libraries are kept packed and run when the first figure or crystal is to be drawn
    kept = {
        "plotly-code": get_plotlyjs() if figures.specs else "",
        "viewer-code": viewer if 'id="crystal-data"' in body else "",
    }
    libraries = "".join(
        f'<script type="text/plain" id="{name}">{_packed(code)}</script>'
        for name, code in kept.items()
        if code
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(settings.title)}</title><script>{EARLY}</script>"
        f'<style>{style}</style></head><body><a class="skip" href="#main">Skip to the content</a>'
        f"<header><p class='kicker'>matml {__version__}</p><h1>{escape(settings.title)}</h1>"
        '<button type="button" id="theme" aria-pressed="false">Dark theme</button>'
        f'</header><nav aria-label="Sections">{links}</nav>'
        f'<main id="main" tabindex="-1"><noscript><p class="missing">Figures, crystals and '
        "sorting need JavaScript; all tables are here without it.</p></noscript>"
        f"{body}</main>"
        "<footer><p>Every number on this page was read or computed from files of the run's "
        "results. The page holds all it needs and loads nothing. Figures: plotly.js (MIT "
        f"licence); crystals: 3Dmol.js (BSD-3-Clause).</p></footer>{libraries}"
        f"<script>{_inline(menus)}</script>"
        f"<script>{_inline(script)}</script>"
        "</body></html>\n"
    )
    return page, len(set(results.used))


@cache
def _packed(code: str) -> str:
    """Return a script as base64 of gzip, a third of its size; the same text each time."""
    return base64.b64encode(gzip.compress(code.encode("utf-8"), mtime=0)).decode("ascii")


def _inline(code: str) -> str:
    """Return a script that cannot end its own script element."""
    return code.replace("</script", "<\\/script")
