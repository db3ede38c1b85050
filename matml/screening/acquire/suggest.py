"""`matml screen suggest`: which candidates to label next."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_table
from matml.core.text.words import plural
from matml.screening.acquire.constraints import Limits
from matml.screening.data.inputs import read_chunk, support_table, without_values
from matml.screening.data.known import (
    GUESSED_VOLUME,
    flag_known,
    known_folder,
    known_values,
    read_known,
)
from matml.screening.data.reader import crystals_of, ids_of_shortlist, read_chunks
from matml.screening.data.support import read_supports
from matml.screening.objectives import objective_words, parse_objectives, usual_goal
from matml.screening.score.predictor import check_properties, graph_section
from matml.screening.select.run import ingest_settings
from matml.structures.crystals import CrystalSet
from matml.structures.duplicates import copies
from matml.structures.settings import StructuresSection
from matml.structures.table import QUARANTINE_COLUMNS

log = logging.getLogger(__name__)

ANY = Limits()
MOST_CANDIDATES = 2000
"""The joint posterior grows with the square of their number."""


def suggest_labels(
    model: Path | None,
    property_name: str,
    goal: str | None,
    support: Path | None,
    inputs: Sequence[Path],
    known: Path | None,
    known_graphs: Path | None,
    number: int,
    strategy: str,
    out: Path,
    device: str,
    unit: str | None = None,
    own_inputs: Sequence[str] = (),
    limits: Limits = ANY,
) -> None:
    """Write the candidates to label next, in order, with what was expected of each.

    Columns: `order`, `id`, `formula`, the property's prediction and 90 % interval before any of
    the batch is known, the `acquisition` value at that time (larger is better), and the known
    crystal that it equals (`duplicate_of`), or would at another volume (`strained_copy_of`), with
    its `known_value`, where there is one. Candidates of a shortlist have its ids, and a `file`
    that a support may name. Candidates equal to a labelled crystal or to one before them
    are left out; those that cannot be used stand in `{out}_quarantine.csv` beside it.

    Parameters
    ----------
    own_inputs
        Columns of support and candidates from which a property of one's own is learned too.
    limits
        Of the candidates; what a label costs stands in a column `cost` of the result, too.

    Raises
    ------
    MatmlError
        For an unusable support, unknown property, more than 2,000 candidates or none without a
        label.
    """
    inputs = [crystals_of(Path(path)) for path in inputs]
    goal = goal or usual_goal(property_name)
    objectives = parse_objectives([f"{property_name} {goal}"])
    known = known_folder(known)
    known_table, settings = read_known(known), ingest_settings(known)
    labels, labelled = np.zeros(0), known_table[:0]
    if support is not None:
        ids = set(known_table["id"])
        given = read_supports(support, [property_name], ids, inputs, own_inputs)[property_name]
        labels = given.labels
        labelled = support_table(given, known_table, settings, own_inputs)
    candidates, quarantine = _candidates(inputs, settings, own_inputs, labelled)
    files = {own: file for path in inputs for file, own in ids_of_shortlist(path).items()}
    if len(candidates) > MOST_CANDIDATES:
        raise MatmlError(
            f"--candidates: {len(candidates):,} crystals; give at most {MOST_CANDIDATES:,}, such "
            "as the structures of a shortlist (screen the rest first)"
        )
    table = _unlike(pd.concat([labelled, candidates], ignore_index=True), len(labelled))
    known_rows, pool = np.arange(len(labels)), np.arange(len(labels), len(table))
    left = pool[limits.allowed(table["formula"].iloc[pool])]
    if not len(left):
        raise MatmlError(
            f"--candidates: of {len(pool)} none is left within the limits given (elements, price); "
            "allow more, or give other candidates"
        )
    each = None
    if (cost := limits.cost(table["id"].iloc[left])) is not None:
        each = np.ones(len(table))
        each[left] = cost
    # what cannot be used is told before torch is there, which takes seconds
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.screening.acquire.choice import choose

    predictor = FewShotPredictor.load(model, device)
    told_of = [property_name] if support else []
    check_properties(predictor, objectives, told_of, support, own_inputs)
    fitted = predictor.fitted(property_name, unit=unit).taking(own_inputs or None)
    encoded = predictor.encode(CrystalSet.from_table(table, graph_section(predictor, known_graphs)))
    found = choose(
        fitted,
        encoded,
        known_rows,
        labels,
        number,
        left,
        goal=goal,
        strategy=strategy,
        costs=each,
        budget=np.inf if limits.budget is None else limits.budget,
    )
    chosen = found.pop("row").to_numpy()
    rows = table.iloc[chosen].reset_index(drop=True)
    flags = flag_known(rows, known_table)
    told = pd.DataFrame(
        {
            "order": np.arange(1, len(chosen) + 1),
            "id": rows["id"].to_numpy(),
            "formula": rows["formula"].to_numpy(),
            **({"file": [files.get(name, "") for name in rows["id"]]} if files else {}),
            **found,
            "duplicate_of": flags["duplicate_of"],
            "strained_copy_of": flags["strained_copy_of"],
            "known_value": known_values(flags, known_table, property_name),
        }
    )
    if each is not None:
        told["cost"] = each[chosen]
    write_table(out, told)
    _tell_quarantine(Path(out), quarantine)
    log.info(
        "%d of %d candidates to label next for %s (%s, %s, %d labels so far): %s",
        *(len(told), len(left), objective_words(f"{property_name} {goal}")),
        *(strategy, fitted.method.name, len(labels), out),
    )


def _unlike(table: pd.DataFrame, n_labelled: int) -> pd.DataFrame:
    """The labelled crystals, then the candidates that equal none of the rows before them."""
    # cells of candidates may be guessed
    repeated = copies(table, GUESSED_VOLUME)
    repeated[:n_labelled] = False
    if repeated[n_labelled:].all():
        raise MatmlError(
            f"--candidates: each of the {len(table) - n_labelled} crystals equals a labelled one; "
            "nothing is left to label"
        )
    if number := int(repeated.sum()):
        log.info("%d candidates equal a labelled crystal or another and are left out", number)
    return table[~repeated].reset_index(drop=True)


def _candidates(
    inputs: Sequence[Path],
    settings: StructuresSection,
    columns: Sequence[str],
    labelled: pd.DataFrame,
) -> tuple[pd.DataFrame, list[dict]]:
    """The good crystals of the inputs, columns as in `structures.parquet`, one per id; the bad."""
    tables, quarantine = [], []
    learned = None
    if columns and len(labelled):
        from matml.properties.new_property.inputs import Columns

        learned = Columns.of(columns, labelled)
    for chunk in read_chunks(inputs, settings, columns=columns):
        table, _, refused = read_chunk(chunk, settings, columns)
        quarantine += refused
        if columns and len(table):
            unfit = learned.unfit(table) if learned else {}
            lacking, refused = without_values(table, columns, unfit)
            quarantine, table = quarantine + refused, table[~lacking]
        if len(table):
            tables.append(table)
        if sum(map(len, tables)) > MOST_CANDIDATES:
            break
    if not tables and quarantine:
        first = quarantine[0]
        raise MatmlError(
            f"--candidates: none of the {len(quarantine)} crystals can be used; the first, "
            f"{first['id']}: {first['reason']}; remedy: {first['remedy']}"
        )
    if not tables:
        raise MatmlError("--candidates: no structure found in the inputs")
    table = pd.concat(tables, ignore_index=True).drop_duplicates("id", ignore_index=True)
    return table, quarantine


def _tell_quarantine(out: Path, quarantine: list[dict]) -> None:
    """Write what could not be used beside `out` and say so; an older file of that name goes."""
    path = out.with_name(f"{out.stem}_quarantine.csv")
    path.unlink(missing_ok=True)
    if quarantine:
        write_table(path, pd.DataFrame(quarantine, columns=QUARANTINE_COLUMNS))
        few = plural("candidate", len(quarantine))
        log.info("%d %s could not be used: see %s", len(quarantine), few, path)
