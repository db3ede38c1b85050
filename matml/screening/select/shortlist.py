"""From the best rows of one or several shards to the shortlist, its structures and the summary."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import TABLE, atomic, read_json, read_table, write_json, write_table
from matml.core.settings import validate
from matml.core.standardise import Standardisation
from matml.core.text.words import plural
from matml.properties.data.element_features import element_features
from matml.screening.data.known import read_known
from matml.screening.data.prices import prices_of, stays_in_top
from matml.screening.objectives import (
    COST,
    FORMATION_ENERGY,
    HULL,
    Objective,
    learned_properties,
    normal,
    parse_objectives,
)
from matml.screening.score.convex_hull import KnownHull
from matml.screening.select.diversity import diverse_order, likeness, pareto_fronts
from matml.screening.select.explain import explain
from matml.screening.select.layout import DESCRIBED, KEPT, QUARANTINE, SHARD, STATE
from matml.screening.select.summary import summarise
from matml.screening.select.top_k import CELL_COLUMNS, best_first, merge_states, typed
from matml.screening.settings import ScreeningSection
from matml.structures.disorder.atoms import fractions, occupancies
from matml.structures.duplicates import copies
from matml.structures.elements import structure_of

log = logging.getLogger(__name__)

FRONT_COLUMNS = [
    *("rank", "id", "formula", "property", "prediction", "low", "high", "unit"),
    *("probability", "expected_improvement", "score", "score_rank", "pareto_front"),
]
LATER_COLUMNS = [
    "stays_in_top",
    *("distance", "in_domain", "outside", "rare_elements", "beyond_labels", "disordered"),
    "duplicate_of",
    *(
        "strained_copy_of",
        "known_composition",
        "nearest_known",
        "changed_atoms",
        "in_support",
        "known_value",
    ),
    *("family", "common_name", "prototype", "space_group_number", "n_sites", "volume_per_atom_A3"),
    *("notes", "material_id", "source"),
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
    states = [read_json(folder / STATE, SHARD) for folder in folders]
    same = ("objectives", "settings", "job", "seed", "shards")
    for folder, state in zip(folders, states, strict=True):
        if differing := [key for key in same if state.get(key) != states[0].get(key)]:
            raise MatmlError(
                f"{folder / STATE}: made with another {differing[0]} than {folders[0] / STATE}; "
                "screen all shards with the same options"
            )
    _refuse_other_shares(folders, states)
    state = states[0] | merge_states(states)
    parts = [rows for folder in folders if len(rows := read_table(folder / KEPT, TABLE))]
    if not parts:
        raise _nothing_left([folder / QUARANTINE for folder in folders], state["counts"]["read"])
    settings = validate(ScreeningSection, state["settings"], str(folders[0] / STATE))
    objectives = parse_objectives(state["objectives"], state["logarithmic"])
    known = read_known(Path(state["job"]["known"]))
    # a column that one share has as text and another as numbers
    kept = typed(best_first(pd.concat(parts, ignore_index=True)).fillna({"common_name": ""}))
    kept, left_out = without_copies(kept)
    state["counts"]["copies"] += left_out
    if FORMATION_ENERGY not in learned_properties(objectives):
        # each share looked up its own best
        looked_up = [name for name in STABILITY if name in kept]
        kept.loc[kept.index[DESCRIBED:], looked_up] = np.nan
    if COST in kept:
        kept = kept.assign(stays_in_top=_robustness(kept, objectives, settings, state["seed"]))
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
    shown = table.drop(columns=[*CELL_COLUMNS, "row"], errors="ignore")
    write_table(Path(out) / "shortlist.csv", _rounded(shown))
    summary = summarise(table, objectives, state, alike) | {
        "n_shards": len(folders),
        "ignored": state.get("ignored", [])[:100],
        "input_notes": state.get("input_notes", []),
        "n_structures_written": len(names),
        "model": state["job"]["model"],
        "seed": state["seed"],
        "seconds": round(sum(s["seconds"] + s["adaptation_seconds"] for s in states), 3),
    }
    write_json(Path(out) / "summary.json", summary)
    for sentence in summary["notes"]:
        log.info(sentence)
    if number := summary["n_quarantined"]:
        where = ", ".join(str(folder / QUARANTINE) for folder in folders)
        few = plural("candidate", number)
        log.info("%d %s could not be used: see %s", number, few, where)
    number = summary["n_ranked"]
    log.info("%d %s ranked: %s", number, plural("candidate", number), Path(out) / "shortlist.csv")


def _refuse_other_shares(folders: Sequence[Path], states: Sequence[dict]) -> None:
    """Refuse shares of which one is missing or appears twice."""
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
        features = composition_features(pool)
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
        first = rows.head(top)
        atoms = zip(first["atomic_numbers"], occupancies(first), strict=True)
        phases = [hull.decomposition(*own) for own in atoms]
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


def _robustness(
    rows: pd.DataFrame, objectives: Sequence[Objective], settings: ScreeningSection, seed: int
) -> np.ndarray:
    """How often each candidate is among the first by score when prices change, [n]."""
    prices = prices_of(settings.prices)
    drawn = prices.draws(list(rows["formula"]), settings.price_horizon_years, seed)
    # those outside the domain stand behind
    scores = rows["score"].to_numpy(float) - 1e6 * ~rows["in_domain"].to_numpy(bool)
    asked = [objective for objective in objectives if objective.property == COST]
    return stays_in_top(rows[COST].to_numpy(float), drawn, scores, asked, settings.top)


def _criteria(rows: pd.DataFrame, objectives: Sequence[Objective]) -> np.ndarray:
    """Utility of each goal and log-probability of each window, [n, objectives]."""
    found = []
    for objective in objectives:
        name = objective.property
        columns = [rows[name + suffix].to_numpy(float) for suffix in ("", "_low", "_high")]
        mean, deviation = normal(objective.logarithmic, *columns)
        if objective.kind == "window":
            found.append(objective.log_probability(mean, deviation))
        else:
            found.append(objective.utility(mean))
    return np.stack(found, 1)


def composition_features(table: pd.DataFrame) -> np.ndarray:
    """What a composition is like: mean and spread of its elements' features, standardised."""
    elements = element_features().astype(float)
    rows = []
    for numbers, shares in zip(table["atomic_numbers"], occupancies(table), strict=True):
        own = elements[np.asarray(numbers)]
        mean = np.average(own, 0, shares)
        rows.append(np.concatenate([mean, np.sqrt(np.average((own - mean) ** 2, 0, shares))]))
    features = np.array(rows)
    return Standardisation.of(features).apply(features)


def neighbours(rows: pd.DataFrame, known: pd.DataFrame) -> dict[str, pd.Series]:
    """The known crystal of the nearest composition, and how much of a candidate differs from it.

    `changed_atoms` is the share of atoms that would have to be exchanged (half the sum of the
    differences of atomic fractions): 0 for a known composition, 1 where no element is shared.
    A known crystal of the same prototype is preferred.
    """
    known = known[known["duplicate_of"] == ""]
    # by columns: of a candidate's few elements alone it is told
    found = np.asfortranarray(fractions(known))
    same = {p: np.flatnonzero(known["prototype"] == p) for p in rows["prototype"].unique()}
    ids, changed = [], []
    for own, prototype in zip(fractions(rows), rows["prototype"], strict=True):
        held = np.flatnonzero(own)
        shared = np.minimum(found[:, held], own[held]).sum(1)
        apart = np.maximum(np.round(1 - shared, 9), 0)
        nearest = apart.copy()
        nearest[same[prototype]] -= 1e-6
        place = int(np.argmin(nearest))
        ids.append(f"{known['id'].iloc[place]} ({known['formula'].iloc[place]})")
        changed.append(round(float(apart[place]), 4))
    return {
        "nearest_known": pd.Series(ids, rows.index, dtype=str),
        "changed_atoms": pd.Series(changed, rows.index, dtype=float),
    }


def write_structures(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Write crystals as CIF; return the file names in the order of the ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    names = []
    width = len(str(len(rows)))
    for row in rows.to_dict("records"):
        name = f"{row['rank']:0{width}d}_{row['formula'].replace('(', '').replace(')', '')}.cif"
        cell = ("lattice", "frac_coords", "atomic_numbers", "occupancy")
        structure = structure_of(*map(row.get, cell))
        with atomic(folder / name) as temporary:
            temporary.write_text(structure.to(fmt="cif"), encoding="utf-8")
        names.append(name)
    return names


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers to six digits."""
    numbers = table.select_dtypes(np.floating).columns
    return table.assign(**{n: table[n].map(lambda value: float(f"{value:.6g}")) for n in numbers})


def _nothing_left(files: Sequence[Path], n_read: int) -> MatmlError:
    for path in files:
        table = read_table(path)
        if len(table):
            first = table.iloc[0]
            return MatmlError(
                f"{path}: none of the {n_read} crystals can be used; the first, {first['id']}: "
                f"{first['reason']}; remedy: {first['remedy']}"
            )
    return MatmlError("--candidates: no structure found in the inputs")
