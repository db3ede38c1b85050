"""Real families that no training stage has seen, as tasks for testing a screening."""

import builtins
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.properties.benchmark.plan import PROPERTIES
from matml.properties.data.targets import LabelScale
from matml.properties.dataset import learned_properties
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Episode, Gaussian, Pool
from matml.properties.methods.registry import LABEL_PROCESS, TITLES
from matml.properties.new_property.inputs import Columns
from matml.properties.new_property.method import NewProperty
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.screening.acquire.acquisition import goal_sign
from matml.screening.data.inputs import check_inputs
from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

SMALLEST = 15
"""Labelled members below which a top tenth of three crystals says little."""
FEWEST_TOP = 3
DEFAULT = "default"
"""What a user gets: the method that the model names for the property."""
NAMES = TITLES | {DEFAULT: "default", LABEL_PROCESS: "without the inputs"}
"""Of methods, in tables: the label process stands by itself where the default has inputs."""


@dataclass(frozen=True)
class HeldOutFamily:
    """The labelled crystals of one family, one per formula, for one property.

    Attributes
    ----------
    labels
        Standardised, on the learned scale, turned so that larger is better, [n].
    sign
        1 where high values are wanted, else -1: `labels` times it are the standardised labels.
    """

    property: str
    family: str
    common_name: str
    crystals: CrystalSet
    labels: np.ndarray
    sign: int

    def __len__(self) -> int:
        return len(self.labels)

    # the field of that name hides the decorator
    @builtins.property
    def name(self) -> str:
        """Common name, else label."""
        return self.common_name or self.family


def held_out_families(
    predictor: FewShotPredictor,
    crystals: CrystalSet,
    properties: Sequence[str],
    *,
    part: str = "test",
    smallest: int = SMALLEST,
    inputs: Sequence[str] = (),
) -> list[HeldOutFamily]:
    """The families of a part of the split that have at least `smallest` labelled members.

    Parameters
    ----------
    part
        `test`: seen by no stage; `validation`: these chose the method, never the weights.
    inputs
        Columns from which properties of one's own are learned too: crystals without a value of
        one sit out for these properties.

    Raises
    ------
    MatmlError
        For a property without labels, and inputs that are no columns or that none takes; where no
        family is large enough.
    """
    found = []
    check_inputs(inputs, properties, predictor.properties)
    if absent := [name for name in inputs if name not in crystals.table]:
        raise MatmlError(
            f"--input {absent[0]}: is no column of the ingested crystals; give it beside their "
            "labels and ingest them again"
        )
    for name in properties:
        table = crystals.table
        if name in predictor.properties:
            scale = predictor.scale(name)
        else:
            scale = LabelScale(learned_properties(table, [name])[0], 0.0, 1.0)
            lacking = table[list(inputs)].isna().any(axis=1)
            if count := int((lacking & table[name].notna()).sum()):
                log.info(
                    "%s: %d labelled crystals without a value of an input sit out", name, count
                )
            table = table[~lacking]
        labelled = (
            table[table[name].notna()].sort_values("id").drop_duplicates(["family", "formula"])
        )
        sign = goal_sign(name)
        for family in predictor.card[f"{part}_families"]:
            rows = labelled.index[labelled["family"] == family].to_numpy()
            if len(rows) < smallest:
                continue
            own = crystals.table.loc[rows]
            labels = sign * scale.standardise(own[name].to_numpy())
            common = own["common_name"].iloc[0]
            found.append(
                HeldOutFamily(name, family, str(common or ""), crystals.subset(rows), labels, sign)
            )
    if not found:
        raise MatmlError(
            f"no {part} family of the model has {smallest} labelled members of "
            f"{', '.join(properties)}; lower --smallest-family"
        )
    return found


@dataclass(frozen=True)
class PoolWithInputs(Pool):
    """The label process over a family, learned from columns that are scaled by each support.

    Supports that cannot scale them, such as one label or equal values, do without, as one would.
    """

    method: NewProperty
    crystals: EncodedCrystals
    inputs: Sequence[str]

    def __len__(self) -> int:
        return len(self.crystals)

    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """As of `Pool`."""
        return [
            self._method(each.support).over(self.crystals).predict([each])[0] for each in episodes
        ]

    def _method(self, support: np.ndarray) -> NewProperty:
        table = self.crystals.crystals.table
        own = table.iloc[support]
        if len(own) < 2 or (own[list(self.inputs)].nunique() < 2).any():
            return self.method
        columns = Columns.of(self.inputs, own)
        return self.method if columns.unfit(table) else self.method.learning_from(columns)


def pools(
    predictor: FewShotPredictor,
    families: Sequence[HeldOutFamily],
    methods: Sequence[str],
    inputs: Sequence[str] = (),
) -> Iterator[tuple[HeldOutFamily, dict[str, Pool]]]:
    """Yield the families with what each method says of them; `DEFAULT` is what a user gets.

    A method is fitted once for all families of a property, and a family encoded once for all
    methods. Where a property of one's own is learned from inputs, too, the same without them stands
    beside.
    """
    for name in dict.fromkeys(task.property for task in families):
        # of others than the model's own there is nothing else that was fitted
        own = name in predictor.properties
        default = predictor.default_method(name) if own else LABEL_PROCESS
        fitted = {
            DEFAULT if method == default else method: predictor.fitted(name, method)
            for method in dict.fromkeys([default, *(methods if own else ())])
        }
        for task in families:
            if task.property == name:
                crystals = predictor.encode(task.crystals)
                found = {method: own.over(crystals) for method, own in fitted.items()}
                if inputs and isinstance(without := fitted[DEFAULT].method, NewProperty):
                    found[LABEL_PROCESS] = found[DEFAULT]
                    found[DEFAULT] = PoolWithInputs(without, crystals, inputs)
                yield task, found


class Study(Protocol):
    """A module that tests screening on held-out families."""

    @property
    def run(self) -> Callable[..., pd.DataFrame]:
        """Every draw of every family, given a predictor, families and the study's own options."""

    def records(self, table: pd.DataFrame, seed: int) -> list[dict]:
        """Tidy records."""

    def print_records(self, rows: Sequence[dict], echo: Callable[[str], None]) -> None:
        """Print them."""


def run_study(study: Study, options: dict[str, Any], **more: Any) -> None:
    """Run a study on the held-out families of one or several models; print and write its results.

    Parameters
    ----------
    options
        Of the command: models, structures, graphs, names, own_inputs, part, smallest_family,
        json_file, table, threads, seed, device.

    Raises
    ------
    MatmlError
        Where a family is a test family of two of the models.
    """
    import click
    import torch

    torch.set_num_threads(options["threads"])
    crystals = CrystalSet.open(options["structures"], options["graphs"])
    tables = []
    for number, folder in enumerate(options["models"]):
        predictor = FewShotPredictor.load(folder, options["device"])
        names = options["names"] or [n for n in PROPERTIES if n in predictor.properties]
        names = names or list(predictor.properties)
        tasks = held_out_families(
            predictor,
            crystals,
            names,
            part=options["part"],
            smallest=options["smallest_family"],
            inputs=options["own_inputs"],
        )
        more |= {"seed": options["seed"], "inputs": options["own_inputs"]}
        tables.append(study.run(predictor, tasks, **more))
        tables[-1]["model"] = number
    table = pd.concat(tables, ignore_index=True)
    twice = table.groupby(["property", "family"])["model"].nunique()
    if (twice > 1).any():
        _, family = twice.index[int(twice.argmax())]
        raise MatmlError(
            f"family {family}: is held out by two of the models, so it would count twice; give "
            "models of different folds"
        )
    rows = study.records(table, options["seed"])
    study.print_records(rows, click.echo)
    if options["json_file"]:
        write_json(options["json_file"], rows)
    if options["table"]:
        write_table(options["table"], table)


def top_rows(labels: np.ndarray) -> np.ndarray:
    """Rows of the best tenth, at least three, ties by row, larger is better."""
    number = min(len(labels), max(FEWEST_TOP, int(np.ceil(0.1 * len(labels) - 1e-9))))
    return np.argsort(-labels, kind="stable")[:number]
