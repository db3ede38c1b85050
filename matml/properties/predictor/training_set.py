"""What a predictor keeps of the crystals it was trained on, small and exact.

Nearly all of a crystal's descriptors follow from its composition and the element features, so
elements and amounts are kept with the few geometric ones, and the rest is made again: exactly the
same numbers in a thirtieth of the space. The elements also tell what the model never met.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from matml.core.errors import MatmlError
from matml.properties.data.descriptors import GEOMETRIC, compositions_of, describe_compositions
from matml.properties.data.element_features import element_features, feature_names
from matml.structures.crystals import CrystalSet
from matml.structures.elements import element_of

TOLERANCE = 1e-3
"""Deviations by which an element feature may differ, far above rounding, below any new datum."""


def compact(tensors: Mapping[str, Tensor], crystals: CrystalSet) -> dict[str, Tensor]:
    """Return the tensors of the training crystals with `descriptors` in their short form.

    Parameters
    ----------
    tensors
        `descriptors` [n, features] and others, which stay.
    crystals
        The training crystals, in the same order.
    """
    found = dict(tensors)
    descriptors = found.pop("descriptors")
    elements, amounts, offset = compositions_of(crystals.table)
    found |= {
        "elements": torch.from_numpy(elements.astype(np.int16)),
        # of disordered crystals they are no whole numbers
        "amounts": torch.from_numpy(amounts if (amounts % 1).any() else amounts.astype(np.int16)),
        "element_offset": torch.from_numpy(offset),
        "geometry": descriptors[:, -GEOMETRIC:],
        "element_features": torch.from_numpy(element_features()),
    }
    return found


def restore(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `compact` was given, with the elements beside it."""
    found = dict(tensors)
    elements, offset = (found[name].numpy().astype(int) for name in ("elements", "element_offset"))
    amounts = found["amounts"].numpy().astype(float)
    of_composition = describe_compositions(elements, amounts, offset)
    geometry = found.pop("geometry").numpy()
    found["descriptors"] = torch.from_numpy(np.hstack([of_composition, geometry]))
    return found


def elements_of(tensors: Mapping[str, Tensor]) -> list[frozenset[int]]:
    """Return the elements of each training crystal, by atomic number."""
    elements, ends = tensors["elements"].tolist(), tensors["element_offset"].tolist()
    return [frozenset(elements[a:b]) for a, b in pairwise(ends)]


def check_element_features(
    names: list[str], features: np.ndarray, versions: Mapping[str, str], origin: object
) -> None:
    """Refuse a model whose element features were others than those made here.

    Parameters
    ----------
    names, features
        Columns and table [elements, features] that the model was trained with.
    versions
        Those that it was trained with, by package.

    Raises
    ------
    MatmlError
        Names the columns, the elements and the version of pymatgen, whose table they come from.
    """
    here, own = feature_names(), element_features()
    if list(names) != here or features.shape != own.shape:
        missing = [name for name in names if name not in here]
        added = [name for name in here if name not in names]
        parts = [
            *([f"without {', '.join(missing)} here"] if missing else []),
            *([f"with {', '.join(added)} only here"] if added else []),
        ]
        if not parts:
            parts.append(
                f"a table of {features.shape} there and of {own.shape} here, or in another order"
            )
        raise MatmlError(
            f"{origin}: the model was trained with other element features ({'; '.join(parts)}); "
            "train and export it again, or use the version of matml that made it "
            f"({versions.get('matml', 'unknown')})"
        )
    difference = np.abs(features - own)
    if not (difference > TOLERANCE).any():
        return
    columns = []
    for name, column in zip(here, difference.T, strict=True):
        elements = _symbols(np.flatnonzero(column > TOLERANCE))
        if elements:
            more = ", …" if len(elements) > 4 else ""
            columns.append(f"{name} ({', '.join(elements[:4])}{more})")
    shown = "; ".join(columns[:5]) + (f"; and {len(columns) - 5} more" if len(columns) > 5 else "")
    raise MatmlError(
        f"{origin}: the model was trained with other element features: {shown} differ by up to "
        f"{difference.max():.3g} standard deviations. They come from pymatgen's table of elements: "
        f"{importlib.metadata.version('pymatgen')} here, {versions.get('pymatgen', 'unknown')} "
        "when it was trained; install that version, or train and export the model again"
    )


def _symbols(numbers: Iterable[int]) -> list[str]:
    """Return the symbols of atomic numbers."""
    return [element_of(int(z)).symbol for z in numbers]
