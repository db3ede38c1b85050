"""Types of the values and inputs of an equation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Values: TypeAlias = Mapping[str, Tensor]
"""Parameter values by name, each in its own unit."""


Inputs: TypeAlias = Mapping[str, Tensor]
"""Columns of observations by name; all of one shape."""


@dataclass(frozen=True)
class Input:
    """An independent variable of an equation, with its unit."""

    name: str
    unit: str
