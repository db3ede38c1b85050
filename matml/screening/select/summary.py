"""What a screening found, in numbers and plain sentences."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from matml.core.text.words import interval_text, number_text, plural
from matml.properties.data.targets import PROPERTIES, split_unit
from matml.screening.data.known import check_on_known, compared
from matml.screening.objectives import COST, HULL, Objective, objective_words


def summarise(
    table: pd.DataFrame, objectives: Sequence[Objective], state: dict, alike: dict[str, float]
) -> dict[str, Any]:
    """Counts, the best candidates and plain sentences for `summary.json`."""
    counts, units = state["counts"], state["properties"]
    leading = next(iter(units))
    unit = units[leading]
    labels = [entry["value"] for entry in state["support"] if entry["property"] == leading]
    known = pd.DataFrame(state["known"])
    check: dict[str, Any] = {"n": 0}
    if len(known):
        check = check_on_known(known, float(np.mean(labels)) if labels else np.nan)
    new = table[~table["known_composition"].astype(bool)]
    columns = ["rank", "id", "formula", "prediction", "low", "high"]
    best = new.head(5)[columns]
    return {
        "property": leading,
        "unit": unit,
        "goal": objectives[0].kind,
        "objectives": [str(objective) for objective in objectives],
        "properties": units,
        "logarithmic": state["logarithmic"],
        "methods": state["methods"],
        "method": state["methods"][leading],
        "n_support": len({entry["id"] for entry in state["support"]}),
        "support": [
            {k: entry[k] for k in ("id", "formula", "property", "value")}
            for entry in state["support"]
        ],
        "n_candidates_read": counts["read"],
        "n_quarantined": counts["quarantined"],
        "n_copies_left_out": counts["copies"],
        "n_ranked": counts["ranked"],
        "n_in_shortlist": len(table),
        "n_duplicates_of_known": counts["duplicates_of_known"],
        "n_known_composition": counts["known_composition"],
        "n_in_domain": counts["in_domain"],
        "n_meet_all_windows": counts["meet_all_windows"],
        "nearest_to_windows": state["nearest"],
        "similarity_of_the_first": alike,
        # through JSON text, so that numpy's numbers become plain ones
        "best_new": json.loads(best.to_json(orient="records", double_precision=15)),
        "check_on_known": check,
        "notes": _notes(table, objectives, state, check, alike),
    }


def _notes(
    table: pd.DataFrame,
    objectives: Sequence[Objective],
    state: dict,
    check: dict,
    alike: dict[str, float],
) -> list[str]:
    counts, units = state["counts"], state["properties"]
    leading = next(iter(units))
    wanted = " and ".join(objective_words(str(objective)) for objective in objectives)
    predicted = [name for name in units if name != COST]
    labelled = {n: sum(e["property"] == n for e in state["support"]) for n in predicted}
    given = ", ".join(
        f"{labelled[n]:,} labelled {plural('crystal', labelled[n])}"
        + (f" of {split_unit(n)[0]}" if len(predicted) > 1 else "")
        for n in predicted
    )
    new = counts["ranked"] - counts["known_composition"]
    outside, others = counts["ranked"] - counts["in_domain"], counts["otherwise_outside"]
    known = pd.DataFrame(state["known"])
    notes = [
        f"{counts['ranked']:,} {plural('candidate', counts['ranked'])} ranked for {wanted} after "
        f"adapting to {given}. {new:,} {'has' if new == 1 else 'have'} a composition that no "
        "crystal in these data has.",
        f"{outside:,} {plural('candidate', outside)} outside the model's domain, ranked last: "
        f"{counts['far']:,} farther from the training data than 95 % of crystals of families left "
        f"out in training, {counts['rare']:,} with an element that hardly any labelled crystal "
        f"holds, {counts['beyond']:,} predicted beyond the known values of all families (one "
        "candidate may have several of these reasons)"
        + (f", {others:,} for others (column `outside`)." if others else "."),
    ]
    notes += state["labels_say"]
    if counts["copies"]:
        notes.append(
            f"{counts['copies']:,} of the {counts['read']:,} crystals read were found to equal "
            "another one and appear once in the shortlist; only the best were compared (`is_copy` "
            "in scores.parquet marks all of a share)."
        )
    notes += [
        f"{split_unit(name)[0].capitalize()}: no label of this family was given, so it is "
        "predicted as for any new family."
        for name in predicted
        if not labelled[name]
    ]
    notes += _window_notes(objectives, state)
    if COST in table:
        notes.append(_cost_note(table, state))
    if HULL in table:
        own = table[table[HULL].notna()]
        thin, below = (own["hull_missing"] != "").sum(), (own[HULL] < 0).sum()
        notes.append(
            "Energies above the hull are above the known entries only, so they are lower bounds: "
            f"of the {len(own):,} best candidates {thin:,} have a binary system or an element of "
            f"which the hull holds no compound, and {below:,} lie below the hull, which may be for "
            "that reason. Their interval is that of the predicted formation energy; the entries "
            "count as exact."
        )
    if alike["by_score"] - alike["as_chosen"] > 0.01:
        notes.append(
            "The first candidates were chosen to be both good and varied (diversity): mean "
            f"similarity to the nearest other one {alike['as_chosen']:.2f} instead of "
            f"{alike['by_score']:.2f} by score alone (1 means identical). The place by score "
            "is kept beside the rank."
        )
    if check["n"]:
        unit = "" if units[leading] in ("", "1") else f" {units[leading]}"
        support = check["mean_absolute_error_of_support_mean"]
        beside = ""
        if np.isfinite(support):
            beside = (
                f" (against {number_text(support)} of the constant mean of the "
                f"{labelled[leading]:,} labels)"
            )
        notes.append(
            f"{check['n']:,} candidate{'s are' if check['n'] > 1 else ' is'} known with a label "
            "that was not in the support: mean "
            f"absolute error {number_text(check['mean_absolute_error'])}{unit}{beside}, "
            f"{100 * check['share_inside_90_percent_interval']:.0f} % inside the 90 % interval"
            + _beyond(
                compared(known), [e["value"] for e in state["support"] if e["property"] == leading]
            )
            + _learned(check)
        )
        if not np.isfinite(support):
            check["mean_absolute_error_of_support_mean"] = None
    notes += [PROPERTIES[n].caveat for n in units if n in PROPERTIES and PROPERTIES[n].caveat][:1]
    return notes


def _cost_note(table: pd.DataFrame, state: dict) -> str:
    """What the cost is of, and how robust the order is to prices."""
    settings = state["settings"]
    first = table[table["score_rank"] <= settings["top"]]
    firm, least = int((first["stays_in_top"] >= 0.9).sum()), first["stays_in_top"].idxmin()
    years = settings["price_horizon_years"]
    return (
        f"Raw material cost: by mass fractions from the elements' prices in {state['prices']}, "
        "without making or refining, and not that of the compounds one would buy. Its 90 % band is "
        f"of prices after {years:g} {'year' if years == 1 else 'years'}. Robust to prices: of the "
        f"first {len(first)} by score, {firm} {'stays' if firm == 1 else 'stay'} there in at least "
        f"90 % of drawn prices; the least sure is "
        f"{first['formula'][least]} ({100 * first['stays_in_top'][least]:.0f} %)."
    )


def _beyond(unseen: pd.DataFrame, labels: list[float]) -> str:
    """How many of the known values lie above all labels given, and how many inside intervals."""
    above = unseen[unseen["known_value"] > max(labels, default=np.inf)]
    if above.empty:
        return ""
    inside = int(above["known_value"].between(above["low"], above["high"]).sum())
    lie = "lies" if len(above) == 1 else "lie"
    return (
        f" ({len(above):,} {lie} above the highest label of the support, {inside:,} of them inside)"
    )


def _learned(check: dict[str, Any]) -> str:
    """How the sentence on known candidates ends: what the model may have learned of them."""
    if not check["held_out"]:
        return (
            "; their families were not held out in training, so the model may have learned these "
            "labels, and this says nothing of new crystals."
        )
    if number := check["n_perhaps_learned"]:
        return f" ({number:,} more, of families not held out in training, are not counted)."
    return "."


def _window_notes(objectives: Sequence[Objective], state: dict) -> list[str]:
    """What to say of windows: how many candidates meet them, or how near the best comes."""
    windows = [objective for objective in objectives if objective.kind == "window"]
    nearest = state["nearest"]
    if not windows or not nearest:
        return []
    met = state["counts"]["meet_all_windows"]
    if met:
        are = "candidate within the domain is" if met == 1 else "candidates within the domain are"
        return [f"{met:,} {are} predicted to meet all windows."]
    if not nearest["all windows"]["in_domain"]:
        return [_outside_note(window, nearest[str(window)]) for window in windows]
    notes = []
    for window in windows:
        entry = nearest[str(window)]
        if entry["gap"] > 0:
            notes.append(
                "No candidate within the domain is predicted to meet "
                f"{objective_words(str(window))}: the nearest is "
                f"{_predicted(entry, window)}; widen the window or give other candidates."
            )
    if notes:
        return notes
    entry = nearest["all windows"]
    values = "; ".join(
        f"{split_unit(name)[0]} {number_text(v)} {interval_text(low, high)}"
        for name, (v, low, high) in entry["values"].items()
    )
    return [
        "Each window is met by some candidate, but no candidate within the domain is predicted to "
        "meet "
        f"all of them: the nearest is {entry['formula']} ({entry['id']}) with {values} and a "
        f"probability of {entry['probability']:.2g}."
    ]


def _predicted(entry: dict[str, Any], window: Objective) -> str:
    value, low, high = entry["values"][window.property]
    return (
        f"{entry['formula']} ({entry['id']}) with {number_text(value)} {interval_text(low, high)}"
    )


def _outside_note(window: Objective, entry: dict[str, Any]) -> str:
    """What to say of a window where the model knows none of the candidates well."""
    found = "is predicted to meet it" if entry["gap"] == 0 else "comes nearest"
    return (
        f"No candidate lies in the model's domain, so none is trusted to meet "
        f"{objective_words(str(window))}; of the "
        f"others {_predicted(entry, window)} {found}. Label some of them, or give other candidates."
    )
