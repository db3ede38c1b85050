"""The part of the page about the crystals that were read, and their families."""

from matml.figures.figure import columns
from matml.report.html.figure_set import Figures
from matml.report.html.markup import (
    count,
    count_cell,
    details,
    missing,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import (
    SOURCES,
    family_title,
    property_title,
    sentence,
    split_unit,
    unit_text,
)
from matml.report.settings import ReportSection

MOST_QUARANTINED = 200


def crystals_section(results: Results, figures: Figures, settings: ReportSection) -> str:
    """Return the section's markup."""
    summary = results.json("structures/summary.json")
    families = results.table(
        "structures/families.csv", ("family", "common_name", "prototype", "n_crystals")
    )
    if summary is None or families is None:
        return missing("This run has read no crystals, so there is nothing to show here.")
    parts = [
        "<p>"
        f"<b>{count(summary['accepted'])}</b> entries passed all checks: "
        f"{count(summary['accepted'] - summary['duplicates'])} distinct crystals, and "
        f"{count(summary['duplicates'])} that repeat another one (the tables below count all, "
        "the sizes of families that decide on training and test count them once); "
        f"<b>{count(summary['quarantined_crystals'])}</b> were set aside with a reason. "
        f"{_disordered(summary.get('disordered', 0))}"
        "A <dfn>family</dfn> is a set of crystals of one prototype (composition pattern, space "
        "group and occupied sites) whose anions, in the well-known types of compounds, are on the "
        "same sites: perovskites and antiperovskites share a prototype and are two families. "
        f"There are <b>{count(summary['families'])}</b>, of which "
        f"{count(summary['families_of_10_or_more'])} have ten members or more.</p>"
    ]
    graphs = results.json("graphs/summary.json")
    if graphs is not None:
        parts.append(
            "<p>Each crystal is described by its neighbouring atoms, with weights that fall with "
            f"distance and sum to {count(graphs['settings']['neighbours'])}. "
            "Symmetry-equivalent atoms are counted once: "
            f"{count(graphs['atoms'])} atoms became {count(graphs['nodes'])}, without loss, with "
            f"{count(graphs['edges'])} neighbour links.</p>"
        )
    largest = families.sort_values("n_crystals", ascending=False, kind="stable")
    largest = largest.head(settings.families_shown)
    names = [family_title(row.common_name, row.family) for row in largest.itertuples(index=False)]
    parts.append(
        figures.add(
            columns(
                "families",
                f"The {len(largest)} largest families",
                _distinct(names),
                largest["n_crystals"],
                "crystals",
                f"Names such as {families['prototype'].iloc[0]} are used where no common name is "
                "known: composition, Pearson symbol, space group, occupied sites.",
            )
        )
    )
    labels = [name for name in summary["labels"] if summary["labels"][name]]
    rows = []
    for name in labels:
        title, unit = split_unit(name)
        covered = families.get(f"n_{name}")
        known = 0 if covered is None else int((covered > 0).sum())
        rows.append(
            [
                text_cell(sentence(title) + unit_text(unit)),
                count_cell(summary["labels"][name]),
                count_cell(known),
            ]
        )
    parts.append(
        table(
            ["property (unit)", "crystals with a value", "families with a value"],
            rows,
            note="Values of quantum-mechanical calculations as published; see the sources below."
            if set(summary["sources"]) <= set(SOURCES)
            else "Values as they were given; see the sources below.",
            caption="Known values of each property",
        )
    )
    counts = [f"n_{name}" for name in labels if f"n_{name}" in families]
    family_rows = [
        [
            text_cell(family_title(row["common_name"], "")),
            text_cell(row["prototype"], "code"),
            count_cell(row["n_crystals"]),
            *(count_cell(row[column]) for column in counts),
        ]
        for row in largest.to_dict("records")
    ]
    titles = [sentence(property_title(column.removeprefix("n_"))) for column in counts]
    parts.append(
        details(
            "The largest families as a table",
            table(
                ["common name", "prototype", "crystals", *titles],
                family_rows,
                sortable=True,
                caption="The largest families",
            ),
        )
    )
    parts.append(_quarantine(results))
    return "\n".join(parts)


def _disordered(number: int) -> str:
    """Return the sentence on disordered crystals, '' where there are none."""
    if not number:
        return ""
    return (
        f"<b>{count(number)}</b> are disordered: they are taken as virtual crystals, the mean over "
        "the atoms that share their sites. "
    )


def _quarantine(results: Results) -> str:
    """Return the crystals and labels that were set aside, by reason."""
    quarantine = results.table("structures/quarantine.csv", ("id", "file", "reason", "remedy"))
    if quarantine is None:
        return missing("The list of crystals set aside is missing from the results.")
    if quarantine.empty:
        return "<p>No crystal and no value had to be set aside.</p>"
    rows = [
        [text_cell(row.id), text_cell(row.file), text_cell(row.reason), text_cell(row.remedy)]
        for row in quarantine.head(MOST_QUARANTINED).itertuples(index=False)
    ]
    note = ""
    if len(quarantine) > MOST_QUARANTINED:
        note = (
            f"The first {MOST_QUARANTINED} of {count(len(quarantine))}; all are in quarantine.csv."
        )
    return details(
        f"{count(len(quarantine))} crystals or values set aside, with reason and remedy",
        table(["crystal", "file", "reason", "remedy"], rows, sortable=True, note=note),
    )


def _distinct(names: list[str]) -> list[str]:
    """Return names made distinct by a trailing number, since bars of one name would be stacked."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct
