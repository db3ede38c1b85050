"""`LabelNext`: ask which crystals to label next, tell what came out, and so on."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.properties.data.label_checks import check_values, to_numbers
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.fitted import with_inputs
from matml.screening.acquire.acquisition import STRATEGIES
from matml.screening.acquire.choice import choose
from matml.screening.acquire.constraints import allowed_rows
from matml.structures.given import Columns, column_names, given


class LabelNext:
    """Chooses which of some crystals to measure or compute next, batch by batch.

        campaign = LabelNext(crystals, "bulk_modulus_GPa", without_elements={"Pb", "Cd"})
        batch = campaign.ask(4)
        campaign.tell(batch["id"], measured)
        batch = campaign.ask(4)

    Parameters
    ----------
    structures
        Whatever `FewShotPredictor.adapt` takes; their ids are those of the table, index or mapping
        that they come in, else '0', '1', …
    property_name, unit
        Known to the model, or one's own, with its unit.
    goal
        `maximise` or `minimise`; by default energies are minimised, all else maximised.
    strategy
        `top` (probability of the best tenth), `improvement`, `mean` or `information`.
    model
        A predictor or its folder; by default the one that ships with matml.
    only_elements, without_elements
        Symbols of elements of which all must be, and none may be.
    prices, most_price
        Of elements by kg, and the highest of a crystal by its mass fractions.
    costs
        Of a label of each crystal, one value each in their order or by their ids; a label counts
        by what it brings per cost.
    inputs
        Columns of which each crystal has a value, from which a property of one's own is learned
        too; as of `FewShotPredictor.adapt`.

    Raises
    ------
    MatmlError
        For unusable structures, costs or elements, and where no crystal is left.
    """

    def __init__(
        self,
        structures: Any,
        property_name: str,
        *,
        goal: str | None = None,
        strategy: str = "top",
        model: FewShotPredictor | str | Path | None = None,
        unit: str | None = None,
        only_elements: Collection[str] = (),
        without_elements: Collection[str] = (),
        prices: Mapping[str, float] | None = None,
        most_price: float = np.inf,
        costs: Sequence[float] | Mapping[str, float] | None = None,
        inputs: Columns = None,
    ) -> None:
        if goal not in (None, "maximise", "minimise"):
            raise MatmlError(f"goal: {goal!r}; give 'maximise' or 'minimise'")
        if strategy not in STRATEGIES:
            raise MatmlError(f"strategy: {strategy!r}; give one of {', '.join(STRATEGIES)}")
        items = given(structures)
        self.ids, self.goal, self.strategy = items.ids, goal, strategy
        predictor = model if isinstance(model, FewShotPredictor) else FewShotPredictor.load(model)
        self.fitted = predictor.fitted(property_name, unit=unit).taking(inputs)
        names = column_names(inputs)
        self.crystals = with_inputs(predictor.encode(items), items, inputs, names)
        self.formulas = self.crystals.crystals.table["formula"].tolist()
        if most_price < np.inf and prices is None:
            raise MatmlError(f"most_price: {most_price:g} needs prices, which are not given")
        limits = (only_elements, without_elements, prices, most_price)
        self.allowed = allowed_rows(self.formulas, *limits)
        if not self.allowed.any():
            raise MatmlError(
                f"none of the {len(self.ids)} structures is left within the limits given "
                "(elements, price); allow more"
            )
        if isinstance(costs, Mapping):
            costs = pd.Series([costs.get(name, np.nan) for name in self.ids], items.index)
        self.costs = None if costs is None else to_numbers(items.aligned(costs), len(items))
        if self.costs is not None and not (self.costs > 0).all():
            row = int(np.argmin(self.costs > 0))
            raise MatmlError(
                f"costs: {self.costs[row]:g} of {self.ids[row]}; give positive numbers"
            )
        self.labels: dict[str, float] = {}

    def tell(self, ids: Sequence[str] | pd.Series, values: Sequence[float] | pd.Series) -> None:
        """Take labels, in the property's unit; one that was told before is replaced.

        Raises
        ------
        MatmlError
            For an id that is not there or given twice, and a label that cannot be.
        """
        names = [str(name) for name in ids]
        labels = to_numbers(values, len(names))
        if unknown := [name for name in names if name not in self.ids]:
            raise MatmlError(f"{unknown[0]!r} is none of the {len(self.ids)} structures' ids")
        if twice := [name for name in names if names.count(name) > 1]:
            raise MatmlError(f"{twice[0]!r} is told twice at once; give one label for each")
        rows = np.array([self.ids.index(name) for name in names], dtype=int)
        item = self.fitted.scale.property
        check_values(self.crystals.crystals.subset(rows), labels, item)
        self.labels |= dict(zip(names, labels.tolist(), strict=True))

    def ask(self, number: int = 1, budget: float = np.inf) -> pd.DataFrame:
        """Return the crystals to label next, the most wanted first.

        Each is chosen as if those before it had come out as predicted.

        Parameters
        ----------
        number
            At most so many.
        budget
            That the costs of all must not exceed together.

        Returns
        -------
        pandas.DataFrame
            id, formula, the property with the `_low` and `_high` of its 90 % interval,
            `acquisition` (larger is better: the natural logarithm of the probability of the best
            tenth for `top`, of the expected improvement for `improvement`), and `cost` where there
            are costs. Fewer rows than `number`, or none, where no more may be labelled.
        """
        if not (budget == np.inf or self.costs is not None):
            raise MatmlError(f"budget: {budget:g} needs costs, which LabelNext was not given")
        known = np.array([self.ids.index(name) for name in self.labels], dtype=int)
        pool = np.setdiff1d(np.flatnonzero(self.allowed), known)
        found = choose(
            self.fitted,
            self.crystals,
            known,
            np.array(list(self.labels.values())),
            number,
            pool,
            goal=self.goal,
            strategy=self.strategy,
            costs=self.costs,
            budget=budget,
        )
        rows = found.pop("row").to_numpy(dtype=int)
        found.insert(0, "id", [self.ids[row] for row in rows])
        found.insert(1, "formula", [self.formulas[row] for row in rows])
        return found if self.costs is None else found.assign(cost=self.costs[rows])

    def __repr__(self) -> str:
        return (
            f"LabelNext({self.fitted.scale.property.name}: {len(self.labels)} labels of "
            f"{len(self.ids)} crystals, {int(self.allowed.sum())} allowed, {self.strategy})"
        )
