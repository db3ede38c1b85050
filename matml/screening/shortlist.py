"""`matml screen`: adapt to the support, predict the candidates, write the shortlist."""

import json
import logging
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from matml.config import GraphsSection, ScreeningSection, StructuresSection, read_section, validate
from matml.errors import MatmlError
from matml.files import atomic, read_json, write_json, write_table
from matml.properties.targets import PROPERTIES
from matml.screening.inputs import read_candidates, support_table
from matml.screening.make import read_known
from matml.screening.rank import check_on_known, flag_known, judge_domain, known_values, shortlist
from matml.screening.support import Support, read_support
from matml.structures.crystals import CrystalSet
from matml.structures.parallel import processors
from matml.structures.store import GraphStore

log = logging.getLogger(__name__)

# columns of structures.parquet that say nothing in a ranked table
CELL_COLUMNS = ["lattice", "frac_coords", "atomic_numbers", "orbit", "row", "material_id", "notes"]


class Adapted(Protocol):
    """A predictor adapted to a support set; `method` says how."""

    method: str

    def predict_table(self, crystals: CrystalSet) -> pd.DataFrame:
        """One row per crystal: prediction, low, high, distance, in_domain, unseen_elements."""


class Predictor(Protocol):
    """What screening asks of a model: `matml.properties.predictor.FewShotPredictor` or its like.

    `properties` gives units by name, `recipe.graphs` the settings of the graphs it knows,
    `held_out_families` the families whose labels it has not seen.
    """

    properties: dict[str, str]
    recipe: Any
    held_out_families: list[str]

    def adapt(
        self, crystals: CrystalSet, values: np.ndarray, property_name: str, *, check_units: bool
    ) -> Adapted:
        """The predictor adapted to labelled crystals."""


def check_property(predictor: Predictor, name: str) -> None:
    """Refuse a property that the predictor does not know."""
    if name not in predictor.properties:
        raise MatmlError(
            f"--property {name!r}: the model predicts {', '.join(predictor.properties)}; "
            "choose one of these"
        )


def rank_candidates(
    predictor: Predictor,
    support: Support,
    support_crystals: pd.DataFrame,
    candidates: pd.DataFrame,
    known: pd.DataFrame,
    property_name: str,
    goal: Literal["minimise", "maximise"],
    graphs: GraphsSection | None = None,
    fewest_examples: int = 5,
    check_units: bool = True,
) -> tuple[pd.DataFrame, CrystalSet, Adapted]:
    """Predict and rank candidates.

    Parameters
    ----------
    support_crystals, candidates, known
        Columns as in `structures.parquet`; candidates that repeat an earlier candidate are
        left out.
    fewest_examples
        See `matml.screening.rank.judge_domain`.
    check_units
        Refuse labels that only another unit explains.

    Returns
    -------
    table
        The shortlist with every candidate, best first.
    crystals
        The candidates' crystals, in the order of the shortlist.
    adapted
        The predictor adapted to the support.

    Raises
    ------
    MatmlError
        Where the predictor does not know the property.
    """
    check_property(predictor, property_name)
    graphs = graphs or GraphsSection()
    adapted = predictor.adapt(
        CrystalSet.from_table(support_crystals, graphs),
        support.labels,
        property_name,
        check_units=check_units,
    )
    crystals = CrystalSet.from_table(candidates[candidates["duplicate_of"] == ""], graphs)
    predictions = adapted.predict_table(crystals)
    # support given as files is known, too
    own = support_crystals[~support_crystals["id"].isin(known["id"])]
    own = own.assign(**{property_name: support.labels[own.index]})
    everything = pd.concat([known, own], ignore_index=True) if len(own) else known
    flags = flag_known(crystals.table, everything)
    predictions = judge_domain(
        predictions,
        crystals.table,
        labelled_crystals(
            known, support_crystals, support, property_name, predictor.held_out_families
        ),
        property_name,
        fewest_examples,
    )
    first = everything["duplicate_of"].where(everything["duplicate_of"] != "", everything["id"])
    in_support = set(first[everything["id"].isin(support_crystals["id"])])
    described = crystals.table.drop(columns=[*CELL_COLUMNS, "duplicate_of"], errors="ignore")
    described = described.drop(columns=property_name, errors="ignore").dropna(axis=1, how="all")
    described = described.assign(
        duplicate_of=flags["duplicate_of"],
        known_composition=flags["known_composition"],
        known_value=known_values(flags, everything, property_name),
        in_support=flags["duplicate_of"].isin(in_support),
    )
    unit = predictor.properties[property_name]
    table = shortlist(described, predictions, property_name, unit, goal)
    position = {name: index for index, name in enumerate(crystals.table["id"])}
    return table, crystals.subset([position[name] for name in table["id"]]), adapted


def labelled_crystals(
    known: pd.DataFrame,
    support_crystals: pd.DataFrame,
    support: Support,
    property_name: str,
    held_out: Collection[str],
) -> pd.DataFrame:
    """Crystals whose label the model has learned from: families not held out, and the support."""
    given = support_crystals.assign(**{property_name: support.labels})
    if property_name not in known:
        return given
    unseen = {*held_out, *given["family"]}
    rows = known[known[property_name].notna() & ~known["family"].isin(unseen)]
    wanted = ["atomic_numbers", property_name]
    return pd.concat([rows[wanted], given[wanted]], ignore_index=True)


def screen_candidates(
    model: Path,
    property_name: str | None,
    support: Path,
    inputs: tuple[Path, ...],
    known: Path,
    known_graphs: Path | None,
    out: Path,
    goal: Literal["minimise", "maximise"] | None,
    top: int | None,
    trust_labels: bool,
    config: Path | None,
    seed: int,
    threads: int | None,
    device: str,
) -> None:
    """Run `matml screen`: write `shortlist.csv`, `candidates/*.cif`, `crystals/`, `summary.json`.

    Raises
    ------
    MatmlError
        For unusable support, candidates, property or model.
    """
    start = time.perf_counter()
    settings = read_section(ScreeningSection, config)
    property_name, goal = property_name or settings.property, goal or settings.goal
    known_table = read_known(known)
    # errors of the user's own small file first, before anything costs time
    given = read_support(support, property_name, set(known_table["id"]))
    structure_settings = _ingest_settings(known)
    support_crystals = support_table(given, known_table, structure_settings)
    predictor = load_predictor(model, seed, threads, device)
    check_property(predictor, property_name)
    candidates = read_candidates(inputs, out / "crystals", structure_settings, threads)
    table, crystals, adapted = rank_candidates(
        predictor,
        given,
        support_crystals,
        candidates,
        known_table,
        property_name,
        goal,
        graph_section(predictor, known_graphs),
        settings.fewest_examples,
        not trust_labels,
    )
    written = write_structures(table, crystals, top or settings.top, out / "candidates")
    table["cif"] = pd.Series(written, dtype=str).reindex(table.index, fill_value="")
    write_table(out / "shortlist.csv", table)
    summary = summarise(table, given, support_crystals, property_name, goal)
    quarantine = out / "crystals" / "summary.json"
    summary |= {
        "n_candidates_read": len(candidates),
        "n_quarantined": read_json(quarantine)["quarantined_crystals"]
        if quarantine.is_file()
        else 0,
        "n_copies_left_out": int((candidates["duplicate_of"] != "").sum()),
        "n_structures_written": len(written),
        "model": str(model),
        "method": adapted.method,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_json(out / "summary.json", summary)
    for sentence in summary["notes"]:
        log.info(sentence)
    if summary["n_quarantined"]:
        where = out / "crystals" / "quarantine.csv"
        log.info("%d candidates could not be used: see %s", summary["n_quarantined"], where)
    log.info("%d candidates ranked: %s", len(table), out / "shortlist.csv")


def load_predictor(model: Path, seed: int, threads: int | None, device: str) -> Predictor:
    """The trained few-shot predictor of a folder, torch seeded and kept to its threads."""
    import torch

    from matml.properties.predictor import FewShotPredictor

    torch.set_num_threads(processors(threads))
    torch.manual_seed(seed)
    return FewShotPredictor.load(model, device)


def write_structures(
    table: pd.DataFrame, crystals: CrystalSet, top: int, folder: Path
) -> list[str]:
    """Write the first `top` crystals as CIF; return the file names in the order of the ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    names = []
    width = len(str(min(top, len(table))))
    for index, (rank, formula) in enumerate(
        zip(table["rank"].head(top), table["formula"].head(top), strict=True)
    ):
        name = f"{rank:0{width}d}_{formula.replace('(', '').replace(')', '')}.cif"
        with atomic(folder / name) as temporary:
            temporary.write_text(crystals.structure(index).to(fmt="cif"), encoding="utf-8")
        names.append(name)
    return names


def summarise(
    table: pd.DataFrame,
    support: Support,
    support_crystals: pd.DataFrame,
    property_name: str,
    goal: str,
) -> dict[str, Any]:
    """Counts, the best candidates and plain sentences for `summary.json`."""
    unit = table["unit"].iloc[0]
    shown_unit = "" if unit in ("", "1") else f" {unit}"
    new = table[~table["known_composition"]]
    check = check_on_known(table, float(support.labels.mean()))
    notes = [
        f"{len(table)} candidates ranked by {property_name} ({goal}) after adapting to "
        f"{len(support)} labelled crystals; {len(new)} of them are of unknown composition.",
        f"{int((~table['in_domain']).sum())} candidates are out of the model's domain and stand "
        f"last: {int((table['distance'] > 1).sum())} lie farther from the training data than 95 % "
        "of crystals of families left out in training, "
        f"{int((table['rare_elements'] != '').sum())} hold an element that hardly any labelled "
        f"crystal holds, {int(table['beyond_labels'].sum())} are predicted beyond all labels "
        "(one candidate may have several of these reasons).",
    ]
    if check["n"]:
        notes.append(
            f"{check['n']} candidates are known with a label that was not in the support: mean "
            f"absolute error {check['mean_absolute_error']:.3g}{shown_unit} (mean of the support: "
            f"{check['mean_absolute_error_of_support_mean']:.3g}), "
            f"{100 * check['share_inside_90_percent_interval']:.0f} % inside the 90 % interval."
        )
    if property_name in PROPERTIES and PROPERTIES[property_name].caveat:
        notes.append(PROPERTIES[property_name].caveat)
    best = new.head(5)[["rank", "id", "formula", "prediction", "low", "high"]]
    return {
        "property": property_name,
        "unit": unit,
        "goal": goal,
        "n_support": len(support),
        "support": [
            {"id": name, "formula": formula, "value": float(value)}
            for name, formula, value in zip(
                support_crystals["id"], support_crystals["formula"], support.labels, strict=True
            )
        ],
        "n_ranked": len(table),
        "n_duplicates_of_known": int((table["duplicate_of"] != "").sum()),
        "n_known_composition": int(table["known_composition"].sum()),
        "n_in_domain": int(table["in_domain"].sum()),
        # through JSON text, so that numpy's numbers become plain ones
        "best_new": json.loads(best.to_json(orient="records", double_precision=15)),
        "check_on_known": check,
        "notes": notes,
    }


def _ingest_settings(known: Path) -> StructuresSection:
    """The settings with which the known crystals were ingested, so that prototypes compare."""
    path = known / "summary.json"
    if not path.is_file():
        return StructuresSection()
    values = read_json(path).get("settings", {})
    return validate(StructuresSection, values, f"{path}, settings")


def graph_section(predictor: Predictor, known_graphs: Path | None) -> GraphsSection:
    """How graphs are built: as the known ones where given, else as those the model was trained on.

    Known graphs made otherwise are refused by the model when it adapts.
    """
    if known_graphs is not None:
        return validate(GraphsSection, GraphStore.open(known_graphs).settings, str(known_graphs))
    return validate(GraphsSection, predictor.recipe.graphs, "the model's graph settings")
