"""Features of crystals from a table of anybody's: joined to crystals, scaled, put to the inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.potentials.content import contents_of
from matml.potentials.features import KEYS
from matml.properties.data.labelled import with_values
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.new_property.inputs import Columns, are_embedded
from matml.properties.stack.base_models import Inputs


def feature_names(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of features that are features.

    Raises
    ------
    MatmlError
        Where there is none, or one holds no numbers.
    """
    names = [str(name) for name in table if name not in KEYS]
    if not names:
        raise MatmlError("features: the table has no column of numbers beside `id`; add some")
    for name in names:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise MatmlError(f"features: column {name!r} holds no numbers; leave it out")
    return names


def are_features(inputs: Any) -> TypeGuard[pd.DataFrame]:
    """Return whether inputs are a table of features: rows that name their crystals."""
    return isinstance(inputs, pd.DataFrame) and bool({"id", "content"} & {*inputs})


def joined(table: pd.DataFrame, crystals: pd.DataFrame) -> pd.DataFrame:
    """Return the features of crystals, in their order; NaN where the table has none.

    By the column `content`, what a crystal is, where the table has it; else by `id`.

    Parameters
    ----------
    crystals
        Columns as in `structures.parquet`.

    Raises
    ------
    MatmlError
        Where the table has no key, or names a crystal twice.
    """
    key = next((name for name in ("content", "id") if name in table), None)
    if key is None:
        raise MatmlError("features: the table has no column `id`; name the crystals by one")
    names, keys = feature_names(table), table[key].astype(str)
    if (twice := keys[keys.duplicated()]).size:
        raise MatmlError(
            f"features: {key} {twice.iloc[0]!r} stands in several rows; keep the right one"
        )
    asked = contents_of(crystals) if key == "content" else crystals["id"].astype(str)
    return table[names].set_axis(keys).reindex(asked).reset_index(drop=True)


def with_any(table: pd.DataFrame, crystals: pd.DataFrame) -> pd.DataFrame:
    """Return the crystals of which a table holds all features."""
    return crystals[joined(table, crystals).notna().all(axis=1).to_numpy()]


def beside(
    crystals: pd.DataFrame, table: pd.DataFrame, names: Sequence[str], shown: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the crystals that have features, with these as columns, and the others.

    Parameters
    ----------
    names
        Features that are wanted.
    shown
        The files, for messages.

    Raises
    ------
    MatmlError
        Where the table lacks a feature, or no crystal has any.
    """
    if missing := [name for name in names if name not in table]:
        raise MatmlError(
            f"{shown}: the features lack {missing[0]!r}; describe the crystals by the same "
            "potential, with the same settings"
        )
    return with_values(crystals.assign(**joined(table, crystals)[list(names)]), names, shown)


@dataclass(frozen=True)
class FeatureColumns:
    """Features as the base models take them.

    An embedding, many columns of one name and a number, stands with the descriptors. Others, such
    as a modulus that a potential predicts, stand with the networks' predictions, where they count
    for as much as each of these.

    Attributes
    ----------
    scaling
        Of all columns, by the training crystals.
    embedded
        Which of them are of an embedding, [columns].
    """

    scaling: Columns
    embedded: np.ndarray

    @classmethod
    def of(cls, features: pd.DataFrame) -> "FeatureColumns":
        """Return those of training crystals; columns that are the same for all tell nothing."""
        names = [name for name in features if np.ptp(features[name].to_numpy(float)) > 0]
        if not names:
            raise MatmlError("features: are the same for all training crystals; give others")
        # names of crystals, for messages, are not to be had
        scaling = Columns.of(names, features.assign(id=features.index.astype(str)))
        return cls(scaling, are_embedded(names))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.scaling.names

    def extend(self, inputs: Inputs, table: pd.DataFrame) -> Inputs:
        """Return inputs of crystals with the features that their table holds.

        Raises
        ------
        MatmlError
            Names the crystal that has none.
        """
        return self.put(inputs, self.scaling.of_table(table))

    def put(self, inputs: Inputs, scaled: np.ndarray) -> Inputs:
        """Return inputs with scaled features, [n, columns]."""
        return Inputs(
            np.hstack([inputs.descriptors, scaled[:, self.embedded]]),
            np.hstack([inputs.predictions, scaled[:, ~self.embedded]]),
        )

    def inputs(self, crystals: EncodedCrystals) -> Inputs:
        """Return the inputs of encoded crystals; errors as of `extend`."""
        return self.extend(crystals.inputs, crystals.crystals.table)
