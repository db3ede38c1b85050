"""The section on other fields that the core serves, which is there when their studies were run."""

from matml.report.html.markup import bullets, escape, preformatted
from matml.report.html.results import Results

FOLDER = "studies"
STUDIES = {
    "navigation": "A policy that finds its goal",
    "reach": "A target hardness in the fewest trials",
    "furnace": "Policies that learn the furnace by trials, beside planning",
    "patients/compare": "The next concentration of a patient (not for clinical use)",
    "prices/volatility-60": "Volatility of an asset from its first 60 days",
    "prices/volatility-250": "Volatility of an asset from its first 250 days",
    "prices/returns": "The next day's return",
    "prices/policy": "Trading by what was learned, with costs",
    "batch-norm": "What each treatment of BatchNorm costs on new families",
}
"""What each study asks, by its file."""


def has_studies(results: Results) -> bool:
    """Return whether any study was run."""
    return any(results.names(f"{FOLDER}/{name}.txt") for name in STUDIES)


def studies_section(results: Results) -> str:
    """Return the section's markup: what each study printed, with those that were not run."""
    parts, lacking = [], []
    for name, title in STUDIES.items():
        printed = results.text(f"{FOLDER}/{name}.txt")
        if printed is None:
            lacking.append(title)
        else:
            parts.append(f"<h3>{escape(title)}</h3>{preformatted(printed, title)}")
    if lacking:
        parts.append(f"<p>Not run:</p>{bullets(lacking)}")
    return "".join(parts)
