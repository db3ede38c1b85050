"""The section on the benchmark of the properties, which is there when that was run."""

import pandas as pd

from matml.errors import MatmlError
from matml.report.markup import Cell, details, escape, interval, missing, number, table, text_cell
from matml.report.results import Results
from matml.report.words import sentence, split_unit, title_of

FOLDER = "properties-benchmark"
SETTINGS = {
    "A": "New families, the same property",
    "B": "A new property from its first labels",
    "C": "Energies relative to others of a kind",
}
COLUMNS = ("setting", "method", "is_default", "shots", "metric", "value", "low", "high", "n_tasks")


def has_benchmark(results: Results) -> bool:
    """Return whether any setting of the benchmark was run."""
    return bool(results.names(f"{FOLDER}/?.json"))


def benchmark_section(results: Results) -> str:
    """Return the section's markup: a table of errors per property, and all that was printed."""
    parts = []
    for setting, title in SETTINGS.items():
        name = f"{FOLDER}/{setting}.json"
        records = results.json(name)
        if records is None:
            continue
        found = pd.DataFrame(records)
        if lacking := [column for column in COLUMNS if column not in found]:
            raise MatmlError(
                f"{results.folder / name}: its records lack {lacking[0]!r}; make the file again "
                "with `matml properties benchmark --json`"
            )
        parts.append(f"<h3>{escape(title)}</h3>")
        errors = found[found["metric"].str.fullmatch("mae(_.*)?_family_mean")]
        for own_setting, own in errors.groupby("setting", sort=False):
            parts.append(_errors(str(own_setting), own))
        if printed := results.text(f"{FOLDER}/{setting}.txt"):
            parts.append(details("All tables of this setting", f"<pre>{escape(printed)}</pre>"))
    return "".join(parts) or missing("The benchmark has not been run.")


def _errors(setting: str, own: pd.DataFrame) -> str:
    """Return the table of one property's errors, methods by numbers of labels."""
    words = [sentence(split_unit(part)[0]) for part in setting.split(", ")[1:]]
    unit = own["metric"].iloc[0].removeprefix("mae_").removesuffix("family_mean").rstrip("_")
    shots = sorted(own["shots"].unique())
    cells = {(row.method, row.shots): row for row in own.itertuples()}
    rows = []
    for method in dict.fromkeys(own["method"]):
        mine = own[own["method"] == method]
        kind = "best" if mine["is_default"].any() else ""
        row = [text_cell(title_of(method), kind)]
        for k in shots:
            one = cells.get((method, k))
            if one is None:
                row.append(Cell("–", None, "num"))
                continue
            span = interval(one.low, one.high)
            shown = f'{number(one.value)} <span class="interval">{span}</span>'
            row.append(Cell(shown, float(one.value), f"num {kind}".strip()))
        rows.append(row)
    counts = own.groupby("shots")["n_tasks"].max()
    head = ["method", *(f"{k} labels" for k in shots)]
    note = (
        f"Mean absolute error{f', {escape(unit)}' if unit else ''}, with its 95 % interval "
        f"(bootstrap). Tested on {', '.join(f'{counts[k]} at {k}' for k in shots)}."
    )
    return f"<h4>{escape(', '.join(words))}</h4>" + table(head, rows, sortable=True, note=note)
