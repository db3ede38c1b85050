"""What all stages of `matml properties` work on: crystals, their split into families, scales."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json, write_table
from matml.core.standardise import Standardisation
from matml.properties.data.split import (
    SPLIT_FILE,
    Split,
    draw_episodes,
    same_materials,
    split_families,
)
from matml.properties.data.targets import PROPERTIES, Property, find_property, spans_decades
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet
from matml.structures.labels.values import RESERVED, label_columns

# splitting families and comparing predictions need no torch
if TYPE_CHECKING:
    from matml.properties.data.batches import GraphBatches
    from matml.properties.networks.ensemble import NetworkRecipe
    from matml.properties.networks.metatrain import FamilyTasks

log = logging.getLogger(__name__)

SPLIT, EPISODES, SETUP = "split.json", "episodes.parquet", "setup.json"
FEWEST_LABELS = 10
"""Of training crystals, from which a property can be learned."""


@dataclass
class Workbench:
    """What all stages share: crystals, split, targets on the learned and standardised scale.

    Attributes
    ----------
    properties
        In the order of the networks' outputs.
    labels, targets
        [crystals, properties], learned scale and standardised; NaN where there is no label.
    """

    crystals: CrystalSet
    properties: list[Property]
    labels: np.ndarray
    targets: np.ndarray
    standardisation: Standardisation
    split: Split

    @classmethod
    def open(
        cls,
        structures: Path,
        graphs: Path,
        folder: Path,
        settings: PropertiesSection,
        *,
        whole: bool = True,
    ) -> Workbench:
        """Read the ingested crystals and the split made by `make_split`.

        Parameters
        ----------
        whole
            As of `CrystalSet.open`.
        """
        crystals = CrystalSet.open(structures, graphs, whole=whole)
        names = list(settings.properties)
        split = Split.read(folder / SPLIT)
        setup = read_json(folder / SETUP, SPLIT_FILE)
        complete = "excluded" in setup and "logarithmic" in setup
        if sorted(names) != sorted(setup.get("properties", [])) or not complete:
            raise MatmlError(
                f"{folder / SETUP}: made for {', '.join(setup.get('properties', []))}, or by "
                f"another version of matml; the settings name {', '.join(names)}: run "
                "`matml properties split` again"
            )
        # the networks' outputs stand in the order of the split, whatever that of the settings
        own = set(setup["logarithmic"])
        items = [find_property(name, logarithmic=name in own) for name in setup["properties"]]
        crystals = without_labels(crystals, setup["excluded"], names)
        values = learned_values(crystals.table, items)
        standardisation = Standardisation(
            np.array(setup["standardisation_mean"]), np.array(setup["standardisation_deviation"])
        )
        targets = standardisation.apply(values)
        return cls(crystals, items, values, targets, standardisation, split)

    @property
    def names(self) -> list[str]:
        """Columns of the properties."""
        return [item.name for item in self.properties]

    @property
    def families(self) -> np.ndarray:
        """Family of each crystal."""
        return self.crystals.table["family"].to_numpy()

    def batches(self, device: str) -> GraphBatches:
        """Return batches with targets."""
        from matml.properties.data.batches import GraphBatches

        return GraphBatches(self.crystals, self.targets, device)

    def content(self) -> str:
        """Return a hash of all graphs and targets, to tell what a result was made of."""
        return self.batches("cpu").content(range(len(self.crystals)))

    def recipe(self, settings: PropertiesSection) -> NetworkRecipe:
        """Return the recipe of the networks that the settings describe."""
        from matml.properties.networks.ensemble import NetworkRecipe

        return NetworkRecipe(
            tuple(self.names),
            {"width": settings.width, "layers": settings.layers},
            self.crystals.graphs.settings,
            settings.inner_steps,
            settings.inner_learning_rate,
        )

    def tasks(self, families: list[str], settings: PropertiesSection, device: str) -> FamilyTasks:
        """Return the few-shot tasks of some families."""
        from matml.properties.networks.metatrain import FamilyTasks

        return FamilyTasks.of(
            self.batches(device),
            self.crystals.table,
            families,
            self.names,
            settings.shots,
            settings.smallest_task,
        )

    def fold_families(self, member: int) -> list[str]:
        """Return the training families that a member's pre-training leaves out."""
        left_out = self.split.fold_of(member)
        return [family for family, fold in self.split.folds.items() if fold == left_out]


def without_labels(crystals: CrystalSet, ids: list[str], names: list[str]) -> CrystalSet:
    """Return the crystals with the labels of some of them taken out."""
    table = crystals.table.copy()
    table.loc[table["id"].isin(ids), names] = np.nan
    return replace(crystals, table=table)


def learned_properties(table: pd.DataFrame, names: Iterable[str]) -> list[Property]:
    """Return the properties of label columns; those of a user's own on the scale they ask for.

    Raises
    ------
    MatmlError
        Where the table has no such column.
    """
    found = []
    for name in names:
        if name not in table:
            known, _ = label_columns(table, set(RESERVED))
            near = get_close_matches(name, known, 1, 0.8)
            raise MatmlError(
                f"the crystals have no label column {name!r}, only {', '.join(known) or 'none'}; "
                + (f"did you mean {near[0]!r}?" if near else "learn one of these, or add labels")
            )
        wide = name not in PROPERTIES and spans_decades(table[name].to_numpy(float))
        found.append(find_property(name, logarithmic=wide))
    return found


def learned_values(table: pd.DataFrame, properties: Sequence[Property]) -> np.ndarray:
    """Return labels on the learned scale, [crystals, properties]."""
    return np.stack([item.to_scale(table[item.name].to_numpy(float)) for item in properties], 1)


def make_split(
    structures: Path,
    graphs: Path,
    out: Path,
    settings: PropertiesSection,
    seed: int,
    *,
    fold: int | None = None,
    folds: int = 5,
) -> None:
    """Write the split by family, the episodes, and the standardisation of the targets.

    Parameters
    ----------
    fold, folds
        Of a cross-validation over families; by default the one split of `split_families`.
    """
    crystals = CrystalSet.open(structures, graphs)
    table, names = crystals.table, list(settings.properties)
    items = learned_properties(table, names)
    split, episodes = plan_split(table, settings, seed, fold=fold, folds=folds)
    excluded = same_materials(crystals, split)
    values = learned_values(without_labels(crystals, excluded, names).table, items)
    training = values[split.training_rows(table["family"].to_numpy())]
    refuse_few(names, training)
    standardisation = Standardisation.of(training)
    split.write(out / SPLIT)
    write_table(out / EPISODES, episodes)
    write_json(
        out / SETUP,
        {
            "properties": names,
            "logarithmic": [item.name for item in items if item.logarithmic],
            "standardisation_mean": standardisation.mean.tolist(),
            "standardisation_deviation": standardisation.deviation.tolist(),
            "training_crystals": int((~np.isnan(training)).any(1).sum()),
            "excluded": excluded,
            "seed": seed,
        },
        SPLIT_FILE,
    )
    pairs = episodes.groupby(["part", "property"])["family"].nunique()
    log.info("%d test and %d validation families", len(split.test), len(split.validation))
    log.info(
        "%d training crystals are other forms of a held-out material and are not learned from",
        len(excluded),
    )
    for item in items:
        if item.name not in PROPERTIES:
            log.info("  %s: learned on the scale of %s", item.name, item.scale_in_words)
    for (part, name), count in pairs.items():
        log.info("  %s: %d %s families with enough labels", name, count, part)


def plan_split(
    table: pd.DataFrame,
    settings: PropertiesSection,
    seed: int,
    *,
    fold: int | None = None,
    folds: int = 5,
) -> tuple[Split, pd.DataFrame]:
    """Return split and episodes of `make_split`, from the table of the crystals alone.

    Raises
    ------
    MatmlError
        Where families or their labels are too few.
    """
    known = {*table["family"], *table["common_name"]}
    held_out = settings.held_out
    if held_out == PropertiesSection().held_out:
        # of the embedded crystals; others need not have them
        held_out = [name for name in held_out if name in known]
    split = split_families(
        table,
        smallest_family=settings.smallest_family,
        smallest_task=settings.smallest_task,
        held_out=held_out,
        members=settings.members,
        cross_folds=settings.folds,
        fold=fold,
        folds=folds,
    )
    parts, names = [], list(settings.properties)
    for part, families, draws in (
        ("validation", split.validation, settings.validation_draws),
        ("test", split.test, settings.test_draws),
    ):
        drawn = draw_episodes(
            table,
            families,
            names,
            shots=settings.shots,
            draws=draws,
            smallest_query=settings.smallest_query,
            seed=seed,
        )
        if drawn.empty and fold is None:
            least = min(k for k in settings.shots if k) + settings.smallest_query
            raise MatmlError(
                f"none of the {len(families)} {part} families ({', '.join(families)}) has {least} "
                f"crystals labelled with {' or '.join(names)} (the fewest of `shots`, and "
                "`smallest_query`); lower these, or give more labels"
            )
        parts.append(drawn.assign(part=part))
    episodes = pd.concat(parts, ignore_index=True)
    episodes.insert(0, "episode", np.arange(len(episodes)))
    return split, episodes


def refuse_few(names: Sequence[str], training: np.ndarray) -> None:
    """Refuse a property with too few labels, [crystals, properties], to be learned from."""
    for name, known in zip(names, (~np.isnan(training)).sum(0), strict=True):
        if known < FEWEST_LABELS:
            raise MatmlError(
                f"{name}: {known} crystals of training families carry this label, fewer than "
                f"{FEWEST_LABELS}; give more labels, or take it out of `properties.properties`"
            )
