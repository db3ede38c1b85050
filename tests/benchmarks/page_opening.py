"""How soon the page of a run opens in Chromium, as it is and with many candidates; its size.

    python tests/benchmarks/page_opening.py [--results results] [--candidates 20000]

The second page is that of the same results with the rows of the shortlist repeated up to the given
number, each round with predictions 1 % lower and ids of its own. Each page is opened in a browser
context of its own, offline, as often as `--rounds` says; the seconds are those from the start of
the navigation to the end of the load event, by the clock, so that other work on the machine counts;
beside them the processor time of the page's main thread (parsing, style, layout, scripts).
"""

import json
import shutil
import tempfile
from pathlib import Path

import click
import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.report.page import make_page
from matml.report.settings import ReportSection

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
ELEMENTS = "document.querySelectorAll('*').length"
SHORTLIST = "screening/shortlist.csv"


def with_candidates(results: Path, number: int, folder: Path) -> Path:
    """Return a copy of results whose shortlist has so many rows."""
    copy = folder / "results"
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("report.html", "figures"))
    table = pd.read_csv(copy / SHORTLIST, keep_default_na=False, na_values={"prediction": [""]})
    parts, made = list[pd.DataFrame](), 0
    while made < number:
        part = table.head(number - made).copy()
        part["prediction"] *= 0.99 ** len(parts)
        part["id"] = part["id"].astype(str) + f"-{len(parts)}" * bool(parts)
        parts.append(part)
        made += len(part)
    whole = pd.concat(parts, ignore_index=True)
    # places by score in the order of the rounds, so that each is there once
    for column in {"rank", "score_rank"} & set(whole):
        rounds = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        whole[column] = whole[column] + rounds * len(table)
    write_table(copy / SHORTLIST, whole)
    summary = json.loads((copy / "screening/summary.json").read_text(encoding="utf-8"))
    counts = {key: number for key in ("n_ranked", "n_in_shortlist") if key in summary}
    write_json(copy / "screening/summary.json", summary | counts)
    return copy


def size_of(folder: Path) -> float:
    """Return how many megabytes the tables and JSON files of results hold."""
    kinds = (".csv", ".json", ".parquet")
    files = (path for path in folder.rglob("*") if path.suffix in kinds)
    return sum(path.stat().st_size for path in files) / 1e6


@click.command()
@click.option("--results", type=click.Path(exists=True, path_type=Path), default="results")
@click.option("--candidates", default=20_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(results: Path, candidates: int, rounds: int) -> None:
    """Print size, elements and seconds of both pages."""
    executable = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        executable = None
    if executable is None:
        raise SystemExit("needs Chromium and playwright: apt install chromium; matml[test]")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        pages = {"as it is": results}
        try:
            many = with_candidates(results, candidates, Path(folder))
        except (FileNotFoundError, MatmlError) as error:
            raise SystemExit(f"{results}: {error}") from None
        pages[f"{candidates:,} candidates"] = many
        for name, place in pages.items():
            text, _ = make_page(place, ReportSection())
            file = Path(folder) / "page.html"
            file.write_text(text, encoding="utf-8")
            seconds, busy, elements = [], [], 0
            for _ in range(rounds):
                context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
                page = context.new_page()
                meter = context.new_cdp_session(page)
                meter.send("Performance.enable", {"timeDomain": "threadTicks"})
                page.goto(file.as_uri())
                seconds.append(page.evaluate(LOADED))
                found = meter.send("Performance.getMetrics")["metrics"]
                busy.append(next(each["value"] for each in found if each["name"] == "TaskDuration"))
                elements = page.evaluate(ELEMENTS)
                context.close()
            print(
                f"{name}: {size_of(place):.0f} MB of tables, page {file.stat().st_size / 1e6:.1f} "
                f"MB, {elements:,} elements, opens in {np.median(seconds):.2f} s "
                f"({min(seconds):.2f} to {max(seconds):.2f}), main thread {np.median(busy):.2f} s"
            )
        browser.close()


if __name__ == "__main__":
    main()
