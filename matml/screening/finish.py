"""From the best rows of one or several shards to the shortlist, its structures and the summary."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from matml.config import ScreeningSection, validate
from matml.errors import MatmlError
from matml.files import atomic, read_json, read_table, write_json, write_table
from matml.properties.elements import element_features
from matml.properties.targets import PROPERTIES
from matml.screening.choice import diverse_order, likeness, pareto_fronts
from matml.screening.explain import explain
from matml.screening.hull import KnownHull
from matml.screening.keep import CELL_COLUMNS, best_first, merge_states, typed
from matml.screening.make import read_known
from matml.screening.objectives import (
    FORMATION_ENERGY,
    HULL,
    Objective,
    learned_properties,
    normal,
    parse_objectives,
)
from matml.screening.rank import check_on_known
from matml.screening.shortlist import DESCRIBED, KEPT, QUARANTINE, STATE
from matml.structures.duplicates import copies

log = logging.getLogger(__name__)

FRONT_COLUMNS = [
    *("rank", "id", "formula", "property", "prediction", "low", "high", "unit"),
    *("probability", "expected_improvement", "score", "score_rank", "pareto_front"),
]
LATER_COLUMNS = [
    *("distance", "in_domain", "rare_elements", "beyond_labels", "duplicate_of"),
    *("known_composition", "nearest_known", "changed_atoms", "in_support", "known_value"),
    *("family", "common_name", "prototype", "space_group_number", "n_sites", "volume_per_atom_A3"),
]
STABILITY = [
    *(name + suffix for name in (FORMATION_ENERGY, HULL) for suffix in ("", "_low", "_high")),
    *("hull_entries", "hull_missing"),
]
VALUES = ("prediction", "low", "high")
POOL = 20
"""How many times as many candidates as are shown the diverse ones are chosen from."""


def finish(folders: Sequence[Path], out: Path) -> None:
    """Write the shortlist of one or several streamed shards.

    `shortlist.csv`, `candidates/*.cif`, `explained.json` (of the first) and `summary.json`.

    Raises
    ------
    MatmlError
        Where the shards are of different runs, one is missing or given twice, or not one candidate
        could be used.
    """
    states = [read_json(folder / STATE) for folder in folders]
    same = ("objectives", "settings", "job", "seed", "shards")
    for folder, state in zip(folders, states, strict=True):
        if differing := [key for key in same if state.get(key) != states[0].get(key)]:
            raise MatmlError(
                f"{folder / STATE}: made with another {differing[0]} than {folders[0] / STATE}; "
                "screen all shards with the same options"
            )
    _refuse_other_shares(folders, states)
    state = states[0] | merge_states(states)
    parts = [rows for folder in folders if len(rows := read_table(folder / KEPT))]
    if not parts:
        raise _nothing_left([folder / QUARANTINE for folder in folders], state["counts"]["read"])
    settings = validate(ScreeningSection, state["settings"], str(folders[0] / STATE))
    objectives = parse_objectives(state["objectives"])
    known = read_known(Path(state["job"]["known"]))
    # a column that one share has as text and another as numbers
    kept = typed(best_first(pd.concat(parts, ignore_index=True)).fillna({"common_name": ""}))
    kept, left_out = without_copies(kept)
    state["counts"]["copies"] += left_out
    if FORMATION_ENERGY not in learned_properties(objectives):
        # each share looked up its own best
        looked_up = [name for name in STABILITY if name in kept]
        kept.loc[kept.index[DESCRIBED:], looked_up] = np.nan
    table, alike = ranked(kept, objectives, state["properties"], settings, known)
    table["cif"] = ""
    names = write_structures(table.head(settings.top), Path(out) / "candidates")
    leading = next(iter(state["properties"]))
    values = {f"{leading}{s}": table[n] for n, s in zip(VALUES, ("", "_low", "_high"), strict=True)}
    criteria = _criteria(table.assign(**values), objectives)
    write_json(
        Path(out) / "explained.json", explain(table, settings.top, objectives, criteria, known)
    )
    table.loc[table.index[: len(names)], "cif"] = names
    shown = table.drop(columns=[*CELL_COLUMNS, "row", "material_id", "notes"], errors="ignore")
    write_table(Path(out) / "shortlist.csv", _rounded(shown))
    summary = summarise(table, objectives, state, alike) | {
        "n_shards": len(folders),
        "n_structures_written": len(names),
        "model": state["job"]["model"],
        "seed": state["seed"],
        "seconds": round(sum(s["seconds"] + s["adaptation_seconds"] for s in states), 3),
    }
    write_json(Path(out) / "summary.json", summary)
    for sentence in summary["notes"]:
        log.info(sentence)
    if summary["n_quarantined"]:
        where = ", ".join(str(folder / QUARANTINE) for folder in folders)
        log.info("%d candidates could not be used: see %s", summary["n_quarantined"], where)
    log.info("%d candidates ranked: %s", summary["n_ranked"], Path(out) / "shortlist.csv")


def _refuse_other_shares(folders: Sequence[Path], states: Sequence[dict]) -> None:
    """Refuse shares of which one is missing or stands twice."""
    given = [state.get("shard", 0) for state in states]
    for place, number in enumerate(given):
        if number in given[:place]:
            raise MatmlError(
                f"{folders[place]}: holds share {number}, as does {folders[given.index(number)]}; "
                "give each share once"
            )
    if missing := sorted(set(range(states[0].get("shards", 1))) - {*given}):
        raise MatmlError(
            f"--shard: of {states[0]['shards']} shares, {len(missing)} are missing, the first "
            f"{missing[0]}; run `matml screen --shard {missing[0]} --shards {states[0]['shards']}` "
            "with the same options and give its folder, too"
        )


def without_copies(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Rows without those equal to an earlier one, with distinct ids, and how many were equal."""
    repeated = copies(rows)
    rows = rows[~repeated].reset_index(drop=True)
    number = rows.groupby("id").cumcount() + 1
    ids = rows["id"].where(number == 1, rows["id"] + "~" + number.astype(str))
    return rows.assign(id=ids), int(repeated.sum())


def ranked(
    rows: pd.DataFrame,
    objectives: Sequence[Objective],
    units: dict[str, str],
    settings: ScreeningSection,
    known: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The rows in their final order, with fronts and neighbours, columns in order.

    Returns
    -------
    table
        The first `top` are chosen to be good and not alike; the others follow by score.
    alike
        Mean similarity to the nearest other shown candidate, by score alone and as chosen.
    """
    criteria = _criteria(rows, objectives)
    if len(objectives) > 1:
        # those outside the domain stand behind, whatever they promise
        inside = rows["in_domain"].to_numpy(bool)
        front = np.zeros(len(rows), dtype=int)
        front[inside] = pareto_fronts(criteria[inside])
        last = front.max(initial=0)
        front[~inside] = last + pareto_fronts(criteria[~inside])
        rows = rows.assign(pareto_front=front)
        if settings.rank_by == "pareto":
            rows = rows.sort_values("pareto_front", kind="stable")
    rows = rows.reset_index(drop=True).assign(score_rank=np.arange(1, len(rows) + 1))
    top = min(settings.top, len(rows))
    pool = rows[rows["in_domain"]].head(POOL * top)
    alike = {"by_score": 0.0, "as_chosen": 0.0}
    if len(pool) > 1:
        features = composition_features(pool["atomic_numbers"])
        picks = diverse_order(-np.arange(len(pool)), features, top, settings.diversity)
        alike = {
            "by_score": likeness(features, range(len(picks))),
            "as_chosen": likeness(features, picks),
        }
        order = [*pool.index[picks], *rows.index.difference(pool.index[picks], sort=True)]
        rows = rows.loc[order].reset_index(drop=True)
    leading = next(iter(units))
    values = {
        "prediction": rows[leading],
        "low": rows[f"{leading}_low"],
        "high": rows[f"{leading}_high"],
    }
    rows = rows.assign(
        rank=np.arange(1, len(rows) + 1), property=leading, unit=units[leading], **values
    )
    if not any(o.kind == "window" for o in objectives):
        rows = rows.drop(columns="probability")
    rows = rows.assign(**neighbours(rows.head(DESCRIBED), known))
    if HULL in rows:
        hull = KnownHull.of(known)
        phases = [hull.decomposition(z) for z in rows["atomic_numbers"].head(top)]
        rows["decomposes_into"] = pd.Series(phases, dtype=str).reindex(rows.index, fill_value="")
    measured = [
        n + s
        for n in [*list(units)[1:], FORMATION_ENERGY, HULL]
        for s in ("", "_low", "_high")
        if n + s in rows
    ]
    hull_columns = [n for n in ("hull_entries", "hull_missing", "decomposes_into") if n in rows]
    order = [*FRONT_COLUMNS, *measured, *hull_columns, *LATER_COLUMNS]
    order = [name for name in order if name in rows]
    repeated = [leading, f"{leading}_low", f"{leading}_high"]
    order = list(dict.fromkeys(name for name in order if name not in repeated))
    rest = [name for name in rows if name not in {*order, *repeated}]
    return rows[order + rest].dropna(axis=1, how="all"), alike


def _criteria(rows: pd.DataFrame, objectives: Sequence[Objective]) -> np.ndarray:
    """Utility of each goal and log-probability of each window, [n, objectives]."""
    found = []
    for objective in objectives:
        name = objective.property
        columns = [rows[name + suffix].to_numpy(float) for suffix in ("", "_low", "_high")]
        mean, deviation = normal(name, *columns)
        if objective.kind == "window":
            found.append(objective.log_probability(mean, deviation))
        else:
            found.append(objective.utility(mean))
    return np.stack(found, 1)


def composition_features(atomic_numbers: pd.Series) -> np.ndarray:
    """What a composition is like: mean and spread of its elements' features, standardised."""
    elements = element_features().astype(float)
    rows = []
    for numbers in atomic_numbers:
        own = elements[np.asarray(numbers)]
        rows.append(np.concatenate([own.mean(0), own.std(0)]))
    features = np.array(rows)
    deviation = features.std(0)
    return (features - features.mean(0)) / np.where(deviation > 1e-9, deviation, 1)


def neighbours(rows: pd.DataFrame, known: pd.DataFrame) -> dict[str, pd.Series]:
    """The known crystal of the nearest composition, and how much of a candidate differs from it.

    `changed_atoms` is the share of atoms that would have to be exchanged (half the sum of the
    differences of atomic fractions): 0 for a known composition, 1 where no element is shared.
    A known crystal of the same prototype is preferred.
    """
    known = known[known["duplicate_of"] == ""]
    fractions = _fractions(known["atomic_numbers"])
    same = {p: np.flatnonzero(known["prototype"] == p) for p in rows["prototype"].unique()}
    ids, changed = [], []
    for own, prototype in zip(_fractions(rows["atomic_numbers"]), rows["prototype"], strict=True):
        apart = 0.5 * np.abs(fractions - own).sum(1)
        nearest = apart.copy()
        nearest[same[prototype]] -= 1e-6
        place = int(np.argmin(nearest))
        ids.append(f"{known['id'].iloc[place]} ({known['formula'].iloc[place]})")
        changed.append(round(float(apart[place]), 4))
    return {
        "nearest_known": pd.Series(ids, rows.index, dtype=str),
        "changed_atoms": pd.Series(changed, rows.index, dtype=float),
    }


def _fractions(atomic_numbers: pd.Series) -> np.ndarray:
    """Atomic fractions, [n, 119]."""
    return np.array([np.bincount(z, minlength=119) / len(z) for z in atomic_numbers])


def write_structures(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Write crystals as CIF; return the file names in the order of the ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    names = []
    width = len(str(len(rows)))
    for row in rows.to_dict("records"):
        name = f"{row['rank']:0{width}d}_{row['formula'].replace('(', '').replace(')', '')}.cif"
        lattice = Lattice(np.reshape(row["lattice"], (3, 3)))
        positions = np.reshape(row["frac_coords"], (-1, 3))
        structure = Structure(lattice, [int(z) for z in row["atomic_numbers"]], positions)
        with atomic(folder / name) as temporary:
            temporary.write_text(structure.to(fmt="cif"), encoding="utf-8")
        names.append(name)
    return names


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers to six digits."""
    numbers = table.select_dtypes("floating").columns
    return table.assign(**{n: table[n].map(lambda value: float(f"{value:.6g}")) for n in numbers})


def _nothing_left(files: Sequence[Path], n_read: int) -> MatmlError:
    for path in files:
        table = pd.read_csv(path)
        if len(table):
            first = table.iloc[0]
            return MatmlError(
                f"{path}: none of the {n_read} crystals can be used; the first, {first['id']}: "
                f"{first['reason']}; remedy: {first['remedy']}"
            )
    return MatmlError("--candidates: no structure found in the inputs")


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
    wanted = " and ".join(f"'{objective}'" for objective in objectives)
    labelled = {n: sum(e["property"] == n for e in state["support"]) for n in units}
    given = ", ".join(
        f"{labelled[n]} labelled crystals" + (f" of {n}" if len(units) > 1 else "") for n in units
    )
    new = counts["ranked"] - counts["known_composition"]
    notes = [
        f"{counts['ranked']} candidates ranked by {wanted} after adapting to {given}; {new} of "
        "them are of unknown composition.",
        f"{counts['ranked'] - counts['in_domain']} candidates are out of the model's domain and "
        f"stand last: {counts['far']} lie farther from the training data than 95 % of crystals of "
        f"families left out in training, {counts['rare']} hold an element that hardly any labelled "
        f"crystal holds, {counts['beyond']} are predicted beyond all labels (one candidate may "
        "have several of these reasons).",
    ]
    if counts["copies"]:
        notes.append(
            f"{counts['copies']} of the {counts['read']} crystals read were found to equal another "
            "and stand once in the shortlist; only the best were compared (`is_copy` in "
            "scores.parquet marks all of a share)."
        )
    notes += [
        f"{name}: no label of this family was given, so it is predicted as for any new family."
        for name in units
        if not labelled[name]
    ]
    notes += _window_notes(objectives, state)
    if HULL in table:
        own = table[table[HULL].notna()]
        thin, below = (own["hull_missing"] != "").sum(), (own[HULL] < 0).sum()
        notes.append(
            "Energies above the hull are above the known entries only, so they are lower bounds: "
            f"of the {len(own)} best candidates {thin} have a binary system or an element without "
            f"any known compound (hull_missing), and {below} lie below the hull, mostly for that "
            "reason. Their interval is that of the predicted formation energy; the entries count "
            "as exact."
        )
    if alike["by_score"] - alike["as_chosen"] > 0.01:
        notes.append(
            "The first candidates were chosen to be good and not all alike (diversity): mean "
            f"similarity to the nearest other one {alike['as_chosen']:.2f} in place of "
            f"{alike['by_score']:.2f} by score alone (1 is equal); score_rank is the rank by "
            "score alone."
        )
    if check["n"]:
        unit = "" if units[leading] in ("", "1") else f" {units[leading]}"
        support = check["mean_absolute_error_of_support_mean"]
        beside = f" (mean of the support: {support:.3g})" if np.isfinite(support) else ""
        notes.append(
            f"{check['n']} candidates are known with a label that was not in the support: mean "
            f"absolute error {check['mean_absolute_error']:.3g}{unit}{beside}, "
            f"{100 * check['share_inside_90_percent_interval']:.0f} % inside the 90 % interval"
            + _learned(check)
        )
        if not np.isfinite(support):
            check["mean_absolute_error_of_support_mean"] = None
    notes += [PROPERTIES[n].caveat for n in units if n in PROPERTIES and PROPERTIES[n].caveat][:1]
    return notes


def _learned(check: dict[str, Any]) -> str:
    """How the sentence on known candidates ends: what the model may have learned of them."""
    if not check["held_out"]:
        return (
            "; their families were not held out in training, so the model may have learned these "
            "labels, and this says nothing of new crystals."
        )
    if number := check["n_perhaps_learned"]:
        return f" ({number} more, of families not held out in training, are not counted)."
    return "."


def _window_notes(objectives: Sequence[Objective], state: dict) -> list[str]:
    """What to say of windows: how many candidates meet them, or how near the best comes."""
    windows = [objective for objective in objectives if objective.kind == "window"]
    nearest = state["nearest"]
    if not windows or not nearest:
        return []
    met = state["counts"]["meet_all_windows"]
    if met:
        return [f"{met} candidates of the domain are predicted to meet all windows."]
    if not nearest["all windows"]["in_domain"]:
        return [_outside_note(window, nearest[str(window)]) for window in windows]
    notes = []
    for window in windows:
        entry = nearest[str(window)]
        if entry["gap"] > 0:
            notes.append(
                f"No candidate of the domain is predicted to meet '{window}': the nearest is "
                f"{_predicted(entry, window)}; widen the window or give other candidates."
            )
    if notes:
        return notes
    entry = nearest["all windows"]
    values = "; ".join(
        f"{name} {v:.4g} [{low:.4g}, {high:.4g}]"
        for name, (v, low, high) in entry["values"].items()
    )
    return [
        "Each window is met by some candidate, but no candidate of the domain is predicted to meet "
        f"all of them: the nearest is {entry['formula']} ({entry['id']}) with {values} and a "
        f"probability of {entry['probability']:.2g}."
    ]


def _predicted(entry: dict[str, Any], window: Objective) -> str:
    value, low, high = entry["values"][window.property]
    return f"{entry['formula']} ({entry['id']}) with {value:.4g} [{low:.4g}, {high:.4g}]"


def _outside_note(window: Objective, entry: dict[str, Any]) -> str:
    """What to say of a window where the model knows none of the candidates well."""
    found = "is predicted to meet it" if entry["gap"] == 0 else "comes nearest"
    return (
        f"No candidate lies in the model's domain, so none is trusted to meet '{window}'; of the "
        f"others {_predicted(entry, window)} {found}. Label some of them, or give other candidates."
    )
