"""From a chunk of candidates to scored rows: read, build graphs, predict, judge."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.screening.data.inputs import read_chunk, support_table, without_values
from matml.screening.data.known import flag_known, known_values, read_known
from matml.screening.data.prices import Prices, prices_of
from matml.screening.data.reader import Chunk
from matml.screening.data.support import Support, read_supports
from matml.screening.objectives import (
    COST,
    FORMATION_ENERGY,
    HULL,
    Judgement,
    Objective,
    judge,
    learned_properties,
    normal,
    parse_objectives,
    to_scale,
)
from matml.screening.score.applicability_domain import Domain
from matml.screening.score.convex_hull import KnownHull
from matml.screening.score.predictor import (
    Adapted,
    Predictor,
    check_properties,
    graph_section,
    labelled_crystals,
)
from matml.screening.settings import ScreeningSection
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.disorder.atoms import occupancies
from matml.structures.duplicates import find_duplicates, note_undecided
from matml.structures.settings import StructuresSection
from matml.structures.table import quarantine_row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """All that a process needs to score chunks; paths and settings only, so that it can be sent.

    Attributes
    ----------
    objectives
        What is wanted, the leading one first.
    load
        Returns the predictor, given `model`.
    trust_labels
        Take labels of the support that only another unit explains.
    candidates
        What is screened, where files of the support may lie, too.
    """

    model: Path
    support: Path
    known: Path
    known_graphs: Path | None
    objectives: tuple[Objective, ...]
    settings: ScreeningSection
    structures: StructuresSection
    load: Callable[[Path], Predictor]
    trust_labels: bool = False
    candidates: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Scored:
    """One chunk, scored.

    Attributes
    ----------
    table
        One row per good candidate, copies within the chunk left out: its identity, cell and
        predictions (`{property}`, `…_low`, `…_high`), what `judge` and `Domain` say, what is known.
    extra
        Further columns of the input, for the same rows.
    quarantine
        Rows of `quarantine.csv`.
    n_read, n_copies
        Candidates found, and copies left out.
    criteria, gaps
        As of `Judgement`, for the rows of `table`.
    """

    table: pd.DataFrame
    extra: pd.DataFrame
    quarantine: list[dict]
    n_read: int
    n_copies: int
    criteria: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    gaps: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


class Scorer:
    """A predictor adapted to the support of each property, with what judges its predictions.

    Raises
    ------
    MatmlError
        For an unusable support, or an objective on a property that the model lacks.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.names = learned_properties(job.objectives)
        known = read_known(job.known)
        ids = set(known["id"])
        inputs = self.settings.inputs
        self.supports = read_supports(job.support, self.names, ids, job.candidates, inputs)
        self.predictor = job.load(job.model)
        check_properties(self.predictor, job.objectives, self.supports, job.support, inputs)
        self.support_crystals = {
            name: support_table(support, known, job.structures, self.inputs_of(name))
            for name, support in self.supports.items()
        }
        self.graphs = graph_section(self.predictor, job.known_graphs)
        self.adapted = {name: self.adapt(name) for name in self.names}
        # the scale of a user's own property is known when its labels are
        self.objectives = parse_objectives(list(map(str, job.objectives)), self.logarithmic)
        self.domains: dict[str, Domain] = {}
        self.best: dict[str, float] = {}
        self.spreads: dict[str, float] = {}
        for name in self.names:
            self.add(name, known)
        self.hull = KnownHull.of(known) if FORMATION_ENERGY in self.names else None
        self.known = self._with_own_support(known)
        self.leading = self.names[0]
        self.prices: Prices | None = None
        if any(objective.property == COST for objective in self.objectives):
            self.prices = prices_of(self.settings.prices)
            self._note_cheapest()
        first = self.known["duplicate_of"].where(self.known["duplicate_of"] != "", self.known["id"])
        given = pd.concat([rows["id"] for rows in self.support_crystals.values()])
        self.in_support = set(first[self.known["id"].isin(given)])

    @property
    def logarithmic(self) -> list[str]:
        """Properties that are learned as their logarithm."""
        return [name for name, adapted in self.adapted.items() if adapted.item.logarithmic]

    def inputs_of(self, name: str) -> list[str]:
        """Columns from which a property is learned too: none of one that the model knows."""
        return [] if name in self.predictor.properties else self.settings.inputs

    def adapt(self, name: str) -> Adapted:
        """Adapt to one property; without labels of it the predictor is taken as it is."""
        if name not in self.supports:
            return self.predictor.adapt([], np.zeros(0), name, check_units=False)
        return self.predictor.adapt(
            CrystalSet.from_table(self.support_crystals[name], self.graphs),
            self.supports[name].labels,
            name,
            check_units=not self.job.trust_labels,
            unit=self.settings.units.get(name),
            **({"inputs": inputs} if (inputs := self.inputs_of(name)) else {}),
        )

    def add(self, name: str, known: pd.DataFrame) -> None:
        """Note where labels of one property reach, how they spread, and the best of them."""
        crystals, labels = known[:0], np.zeros(0)
        if name in self.supports:
            crystals, labels = self.support_crystals[name], self.supports[name].labels
        item = self.adapted[name].item
        if name in self.predictor.properties:
            labelled = labelled_crystals(
                known, crystals, labels, name, self.predictor.held_out_families
            )
            self.domains[name] = Domain.of(labelled, name, self.settings.fewest_examples)
            spread = np.std(to_scale(labelled[name].to_numpy(), item.logarithmic))
        else:
            self.domains[name] = Domain.unbounded()
            spread = np.std(to_scale(labels, item.logarithmic))
        self.spreads[name] = float(spread) if spread > 0 else 1.0
        if name == FORMATION_ENERGY:
            self.spreads[HULL] = self.spreads[name]
        for objective in self.objectives:
            if objective.property == name and objective.kind != "window" and len(labels):
                self.best[name] = float(objective.utility(objective.to_scale(labels)).max())

    def _note_cheapest(self) -> None:
        """Note the cost of the cheapest labelled crystal whose elements all have a price."""
        assert self.prices is not None
        rows = self.support_crystals.get(self.leading)
        formulas = (
            [] if rows is None else [f for f in rows["formula"] if not self.prices.lacking(f)]
        )
        for objective in self.objectives:
            if objective.property == COST and objective.kind != "window" and formulas:
                costs = np.log10(self.prices.shares(formulas).sum(1))
                self.best[COST] = float(objective.utility(costs).max())

    def _with_own_support(self, known: pd.DataFrame) -> pd.DataFrame:
        """The known crystals and those that the support gives as files, which are known, too."""
        own: dict[str, dict] = {}
        for name, crystals in self.support_crystals.items():
            rows = crystals[~crystals["id"].isin(known["id"])]
            labels = self.supports[name].labels[rows.index]
            for row, label in zip(rows.to_dict("records"), labels, strict=True):
                own.setdefault(row["id"], row)[name] = label
        if not own:
            return known
        given = pd.DataFrame(list(own.values()))
        given["duplicate_of"] = find_duplicates(given, threads=1)[0]
        # one that is known under another id is that crystal, whose label the user has given
        same = flag_known(given, known)["duplicate_of"]
        renamed = dict(zip(given["id"], same.where(same != "", given["id"]), strict=True))
        given["duplicate_of"] = same.where(
            same != "", given["duplicate_of"].map(renamed).fillna("")
        )
        return pd.concat([known, given], ignore_index=True)

    def score(self, chunk: Chunk) -> Scored:
        """Score one chunk."""
        table, extra, quarantine = read_chunk(chunk, self.job.structures, self.settings.inputs)
        n_read = len(table) + sum(row["dropped"] == "crystal" for row in quarantine)
        if self.settings.inputs and len(table):
            lacking, refused = without_values(table, self.settings.inputs, self.unfit(table))
            quarantine, table = quarantine + refused, table[~lacking].reset_index(drop=True)
            extra = extra[~lacking].reset_index(drop=True)
        if self.prices is not None and len(table):
            refused, kept = without_price(table, self.prices)
            quarantine, table = quarantine + refused, table[kept].reset_index(drop=True)
            extra = extra[kept].reset_index(drop=True)
        if len(table):
            table["duplicate_of"], undecided = find_duplicates(table, threads=1)
            note_undecided(table, undecided)
            single = (table["duplicate_of"] == "").to_numpy()
            n_copies = int((~single).sum())
            table, extra = (
                table[single].reset_index(drop=True),
                extra[single].reset_index(drop=True),
            )
        if not len(table):
            return Scored(table, extra, quarantine, n_read, 0)
        crystals = self.predictor.encode(CrystalSet.from_table(table, self.graphs))
        predictions = {
            name: self.domains[name].judge(
                self.adapted[name].predict_table(crystals), list(table["atomic_numbers"])
            )
            for name in self.names
        }
        table, judgement = self.judged(table, predictions)
        return Scored(
            table, extra, quarantine, n_read, n_copies, judgement.criteria, judgement.gaps
        )

    def unfit(self, table: pd.DataFrame) -> dict[int, tuple[str, str]]:
        """Rows whose inputs some property cannot take, with the column and the reason."""
        own = [name for name in self.names if self.inputs_of(name)]
        return {row: why for n in own for row, why in self.adapted[n].unfit(table).items()}

    def judged(
        self, table: pd.DataFrame, predictions: dict[str, pd.DataFrame]
    ) -> tuple[pd.DataFrame, Judgement]:
        """The table with predictions and what they are worth, and the judgement itself."""
        distributions: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        columns: dict[str, Any] = {}
        for name, found in predictions.items():
            columns[name] = found["prediction"]
            columns[f"{name}_low"], columns[f"{name}_high"] = found["low"], found["high"]
            distributions[name] = normal(
                self.adapted[name].item.logarithmic,
                *(found[c].to_numpy() for c in ("prediction", "low", "high")),
            )
        if self.hull is not None:
            columns |= hull_columns(self.hull, table, predictions[FORMATION_ENERGY])
            mean, deviation = distributions[FORMATION_ENERGY]
            shift = columns[HULL] - mean
            distributions[HULL] = mean + shift, deviation
        if self.prices is not None:
            costs = self.prices.columns(list(table["formula"]), self.settings.price_horizon_years)
            columns |= costs
            distributions[COST] = normal(True, *costs.values())
        judgement = judge(self.objectives, distributions, self.best, self.spreads)
        columns["probability"] = np.exp(judgement.log_probability)
        columns["expected_improvement"] = np.exp(judgement.log_improvement)
        columns["score"] = judgement.score(self.settings.rank_by)
        each = list(predictions.values())
        columns["distance"] = np.max([found["distance"] for found in each], 0)
        columns["in_domain"] = np.all([found["in_domain"] for found in each], 0)
        said = zip(*(found["outside"] for found in each), strict=True)
        columns["outside"] = ["; ".join(filter(None, dict.fromkeys(own))) for own in said]
        columns["rare_elements"] = _united([found["rare_elements"] for found in each])
        columns["beyond_labels"] = np.any([found["beyond_labels"] for found in each], 0)
        flags = flag_known(table, self.known)
        columns |= {name: flags[name] for name in flags}
        columns["in_support"] = flags["duplicate_of"].isin(self.in_support)
        columns["known_value"] = known_values(flags, self.known, self.leading, self.in_support)
        return table.drop(columns="duplicate_of").assign(**columns), judgement

    def stability(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with their energy above the hull, where no objective has asked for it.

        The formation energy is adapted to what is known of the support's crystals. Rows come back
        as they are where the model has no formation energy or no known crystal has one.
        """
        known = self.known
        if (
            not len(rows)
            or HULL in rows
            or FORMATION_ENERGY not in self.predictor.properties
            or FORMATION_ENERGY not in known
            or not known[FORMATION_ENERGY].notna().any()
        ):
            return rows
        given = known[known["id"].isin(self.in_support)]
        same = pd.DataFrame({"duplicate_of": given["id"], "strained_copy_of": ""})
        labels = known_values(same, known, FORMATION_ENERGY)
        given, labels = given[~np.isnan(labels)], labels[~np.isnan(labels)]
        support: Structures = []
        if len(given):
            support = CrystalSet.from_table(given, self.graphs)
        adapted = self.predictor.adapt(support, labels, FORMATION_ENERGY, check_units=False)
        crystals = self.predictor.encode(CrystalSet.from_table(rows, self.graphs))
        predictions = adapted.predict_table(crystals)
        columns = {
            f"{FORMATION_ENERGY}{suffix}": predictions[name].to_numpy()
            for suffix, name in (("", "prediction"), ("_low", "low"), ("_high", "high"))
        }
        return rows.assign(**columns, **hull_columns(KnownHull.of(known), rows, predictions))


def hull_columns(
    hull: KnownHull, table: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, np.ndarray | list]:
    """Energy above the hull of the known entries with its interval, and how well it is covered."""
    atoms = zip(table["atomic_numbers"], occupancies(table), strict=True)
    found = [hull.energy(*own) for own in atoms]
    energy = np.array([each for each, _ in found])
    columns: dict[str, np.ndarray | list] = {
        HULL + suffix: predictions[name].to_numpy() - energy
        for suffix, name in (("", "prediction"), ("_low", "low"), ("_high", "high"))
    }
    columns["hull_entries"] = [coverage.n_entries for _, coverage in found]
    columns["hull_missing"] = [str(coverage) for _, coverage in found]
    return columns


def without_price(table: pd.DataFrame, prices: Prices) -> tuple[list[dict], np.ndarray]:
    """Rows of the quarantine of candidates with an element without a price, and which stay, [n]."""
    lacking = [prices.lacking(formula) for formula in table["formula"]]
    remedy = f"give {prices.source} a row for it, or leave the candidate out"
    quarantine = [
        quarantine_row(
            row["id"],
            row["source"],
            row["row"],
            "crystal",
            COST,
            f"{', '.join(missing)} of {row['formula']} has no price in {prices.source}",
            remedy,
        )
        for row, missing in zip(table.to_dict("records"), lacking, strict=True)
        if missing
    ]
    return quarantine, np.array([not missing for missing in lacking], dtype=bool)


def _united(columns: Sequence[pd.Series]) -> list[str]:
    """Words of several texts, each once, row by row."""
    return [
        " ".join(dict.fromkeys(" ".join(texts).split())) for texts in zip(*columns, strict=True)
    ]


def support_summary(supports: dict[str, Support], crystals: dict[str, pd.DataFrame]) -> list[dict]:
    """The labelled crystals: id, formula, property, value."""
    return [
        {"id": row["id"], "formula": row["formula"], "property": name, "value": float(value)}
        for name, support in supports.items()
        for row, value in zip(crystals[name].to_dict("records"), support.labels, strict=True)
    ]
