"""Write the tables of the default run from its result files.

    python docs/make_benchmarks.py results

writes `docs/pages/benchmarks/default-run.md`, and the table between the two marks of README.md,
with the date, the machine and the commit that the results came from (`results/origin.json`).
Nothing on that page is typed by hand.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from matml.core.files import read_json, read_table, write_text
from matml.properties.data.targets import find_property

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "pages" / "benchmarks" / "default-run.md"
README = ROOT / "README.md"
MARKS = ("<!-- table of the default run -->", "<!-- end of the table -->")
# rows of the README's table: besides the method that is used, what one would try first
SHOWN_IN_README = ("global_gp", "pretrained", "fine_tuned", "maml")
FEWEST_FAMILIES = 4


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(row: pd.Series, digits: int, with_interval: bool) -> str:
    """Return a value, with its interval where one is asked for and known."""
    text = f"{row['value']:.{digits}f}"
    few = "n_families" in row and row["n_families"] < FEWEST_FAMILIES
    if not with_interval or few or pd.isna(row["low"]):
        return text
    return f"{text} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def property_table(scores: pd.DataFrame, methods: tuple[str, ...] | None = None) -> str:
    """Return the errors on unseen families by number of labels, all properties below each other."""
    errors = scores[scores["metric"] == "mae_family_mean"]
    shots = sorted(errors["shots"].unique())
    rows = []
    for name, own in errors.groupby("property", sort=False):
        counts = own.groupby("shots")["n_families"].max()
        unit = own["unit"].dropna()
        families = " / ".join(str(counts.get(k, "–")) for k in shots)
        title = find_property(name).title + (f", {unit.iloc[0]}" if len(unit) else "")
        title = f"{title} ({families})"
        for method, group in own.groupby("method", sort=False):
            used = bool(group["is_default"].any())
            if methods is not None and not used and method not in methods:
                continue
            by_shots = group.set_index("shots")
            text = group["title"].iloc[0] + (" (used)" if used else "")
            cells = [cell(by_shots.loc[k], 3, used) if k in by_shots.index else "" for k in shots]
            rows.append([title, text, *cells])
            title = ""
    head = ["property (test families by number of labels)", "method", *map(str, shots)]
    return markdown(head, rows)


INTERVALS = {
    "coverage_90": "coverage, mean over families",
    "coverage_90_lowest_tenth": "coverage, lowest tenth of the predictions",
    "coverage_90_highest_tenth": "coverage, highest tenth of the predictions",
    "widest_over_first": "largest half width over that without labels",
    "interval_score": "interval score",
    "crps": "CRPS",
}


def interval_table(scores: pd.DataFrame) -> str:
    """Return how good the 90 % intervals of the method that is used are."""
    own = scores[scores["metric"].isin(list(INTERVALS)) & scores["is_default"].astype(bool)]
    shots = sorted(own["shots"].unique())
    rows = []
    for name, group in own.groupby("property", sort=False):
        title = find_property(name).title
        for metric, words in INTERVALS.items():
            by_shots = group[group["metric"] == metric].set_index("shots")
            digits = 2 if metric.startswith(("coverage", "widest")) else 3
            at_end = metric.endswith("tenth")
            cells = [
                cell(by_shots.loc[k], digits, at_end) if k in by_shots.index else "" for k in shots
            ]
            rows.append([title, words, *cells])
            title = ""
    return markdown(["property", "90 % intervals", *map(str, shots)], rows)


def kinetics_table(scores: pd.DataFrame) -> str:
    """Return the errors on the other observations of an alloy by number of its observations."""
    errors = scores[scores["metric"] == "rmse_mean"]
    shots = sorted(errors["shots"].unique())
    rows = []
    for method, group in errors.groupby("method", sort=False):
        used = bool(group["is_default"].any())
        by_shots = group.set_index("shots")
        cells = [cell(by_shots.loc[k], 3, used) if k in by_shots.index else "" for k in shots]
        rows.append([method + (" (used)" if used else ""), *cells])
    return markdown(["method", *map(str, shots)], rows)


def time_table(folder: Path) -> str:
    """Return the processor time of the jobs by rule, the longest first."""
    times: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.tsv")):
        seconds = pd.to_numeric(pd.read_csv(path, sep="\t")["cpu_time"], errors="coerce").sum()
        times.setdefault(re.sub(r"-\d+$", "", path.stem), []).append(float(seconds))
    ordered = sorted(times.items(), key=lambda item: -sum(item[1]))
    rows = [[name, str(len(own)), f"{sum(own):.0f}"] for name, own in ordered if sum(own) >= 1]
    total = sum(map(sum, times.values()))
    rows.append(["all jobs", str(sum(map(len, times.values()))), f"{total:.0f}"])
    return markdown(["rule", "jobs", "processor time, s"], rows)


def page(results: Path) -> tuple[str, str]:
    """Return the page, and the README's part, from a folder of results."""
    origin = read_json(results / "origin.json")
    scores = read_table(results / "properties" / "evaluation" / "scores.csv")
    summary = read_json(results / "properties" / "evaluation" / "summary.json")
    came = f"Commit {origin['commit']}, {origin['date']}; {origin['machine']}."
    parts = [
        "# The default run\n",
        "<!-- written by docs/make_benchmarks.py; not to be edited -->\n",
        f"{came} Written from the result files by `python docs/make_benchmarks.py results`.\n",
        "## Properties of crystals\n",
        "Mean absolute error on families that no training stage has seen, averaged over families, "
        "by the number of labels of the new family; brackets: 95 % bootstrap over families at the "
        "method that is used. Families with enough members become fewer to the right, so columns "
        "are means over different families; paired gains are below and on the report page. "
        "Training crystals that are a held-out material in a distorted form are left out.\n",
        property_table(scores),
        *(f"- {sentence}" for sentence in summary["statements"]),
        "\n### Intervals\n",
        "On test families, by the number of labels: the share of crystals inside; and the interval "
        "score and the continuous ranked probability score (CRPS), which reward sharpness, too: "
        "lower is better, on the scale of the errors above. Tenths are of all predictions "
        "together; few families may fill them, as the 95 % bootstrap over families (brackets) "
        "tells.\n",
        interval_table(scores),
        "## Kinetics of alloys, simulated observations\n",
        "*Simulated* observations of published alloys, held out by composition group: "
        "root-mean-square error on the other observations of an alloy, by the number of its "
        "observations; brackets: 95 % bootstrap over composition groups. Measured alloys are on "
        "[their own page](kinetics.md).\n",
    ]
    for path in sorted((results / "kinetics").glob("*/scores.csv")):
        about = read_json(path.parent / "summary.json")
        parts += [f"### {about['title']}, in {about['unit']}\n", kinetics_table(read_table(path))]
    parts += ["## Processor time\n", time_table(results / "benchmarks")]
    readme = f"{property_table(scores, SHOWN_IN_README)}\n{came}\n"
    return "\n".join(parts), readme


def main() -> None:
    """Read the results that are named and write page and README."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, help="folder of a default run")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    given = parser.parse_args()
    text, part = page(given.results)
    write_text(given.page, text)
    readme = given.readme.read_text(encoding="utf-8")
    before, rest = readme.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    write_text(given.readme, f"{before}{MARKS[0]}\n{part}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
