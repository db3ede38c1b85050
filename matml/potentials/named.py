"""Potentials by name: CHGNet, SevenNet, and whatever else ASE can ask."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matml.core.errors import MatmlError, in_one_line

if TYPE_CHECKING:
    from chgnet.model import CHGNet

HOW = "install it with `pip install 'matml[potential]'`"
CHGNET = "chgnet"
SEVENN = {"sevenn": "7net-0", "sevenn-l3i5": "7net-l3i5"}
"""Models of SevenNet that its wheel holds, by the names that they have here."""
NAMES = (CHGNET, *SEVENN)


@dataclass(frozen=True)
class Potential:
    """A potential that describes crystals.

    Attributes
    ----------
    name
        As in the columns of its features.
    version
        All that its numbers depend on: package, model, parameters.
    calculator
        Of ASE, with energies and stresses.
    embed
        Returns features of `Atoms` after a calculation, [d]; None where the potential has none.
    """

    name: str
    version: str
    calculator: Any
    embed: Callable[[Any], np.ndarray] | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.version})"


def available(package: str) -> bool:
    """Return whether a potential's package is installed."""
    return importlib.util.find_spec(package) is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what a potential says: its size, and warnings of imports and of lone atoms."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def load_potential(potential: Any) -> Potential:
    """Return a potential.

    Parameters
    ----------
    potential
        `chgnet`; `sevenn` (SevenNet-0) or `sevenn-l3i5`; `module:factory`, a function without
        arguments that returns a calculator of ASE; such a calculator; or a `Potential`.

    Raises
    ------
    MatmlError
        Where ASE or the potential is not installed, or what is named cannot be used.
    """
    if isinstance(potential, Potential):
        return potential
    if not available("ase"):
        raise MatmlError(f"potentials need the package ase: {HOW}")
    if not isinstance(potential, str):
        return _of_calculator(potential)
    if potential == CHGNET:
        return _chgnet()
    if potential in SEVENN:
        return _sevenn(potential)
    if ":" in potential:
        return _of_factory(potential)
    raise MatmlError(
        f"potential {potential!r}: known are {', '.join(NAMES)}; give one, or `module:factory`, a "
        "function that returns a calculator of ASE"
    )


def load_chgnet() -> CHGNet:
    """Return CHGNet (Deng et al. 2023, 10.1038/s42256-023-00716-3), for evaluation."""
    with quiet():
        from chgnet.model import CHGNet

        return CHGNet.load(use_device="cpu", verbose=False).eval()


def _chgnet() -> Potential:
    _require(CHGNET, HOW)
    model = load_chgnet()
    with quiet():
        from chgnet.model.dynamics import CHGNetCalculator

        calculator = CHGNetCalculator(model, use_device="cpu", on_isolated_atoms="error")

    def embed(atoms: Any) -> np.ndarray:
        found = np.asarray(atoms.calc.results["crystal_fea"], float).ravel()
        # it sums over the atoms, but a crystal's features must not depend on the cell
        return found / len(atoms) if model.mlp_first else found

    version = f"{importlib.metadata.version(CHGNET)}, model {model.version}"
    return Potential(CHGNET, version, calculator, embed)


def _sevenn(name: str) -> Potential:
    """Return SevenNet-0 (Park et al. 2024, 10.1021/acs.jctc.4c00190), or its larger sister."""
    _require("sevenn", "install it with `pip install 'matml[sevenn]'`")
    with quiet():
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator(SEVENN[name], device="cpu")
    version = f"{importlib.metadata.version('sevenn')}, model {SEVENN[name]}"
    return Potential(name, version, calculator)


def _require(package: str, how: str) -> None:
    if not available(package):
        raise MatmlError(f"potential {package}: is not installed; {how}")


def _of_factory(place: str) -> Potential:
    """Return the potential that a function makes; its file is a part of the version."""
    module_name, _, function = place.partition(":")
    # a module beside the user's own files, as `python -m` finds it
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
        calculator = getattr(module, function)()
    except Exception as error:
        raise MatmlError(
            f"potential {place!r}: cannot be made ({in_one_line(error)}); give `module:factory`, a "
            "function without arguments that returns a calculator of ASE"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    own = _of_calculator(calculator)
    source = inspect.getsourcefile(module)
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12] if source else ""
    version = f"{own.version}, {place}" + (f" of SHA-256 {digest}" if digest else "")
    return Potential(re.sub(r"\W+", "_", function), version, calculator)


def _of_calculator(calculator: Any) -> Potential:
    """Return a potential of a calculator of ASE, named after its class."""
    kind = type(calculator)
    if not hasattr(calculator, "get_potential_energy") or not hasattr(calculator, "get_stress"):
        raise MatmlError(
            f"potential: {kind.__name__} is no calculator of ASE, which has get_potential_energy "
            "and get_stress"
        )
    package = kind.__module__.split(".")[0]
    # a script's own class belongs to no package
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        package = f"{package} {importlib.metadata.version(package)}"
    parameters = json.dumps(
        dict(getattr(calculator, "parameters", {})), sort_keys=True, default=str
    )
    said = f"{package}, {kind.__name__}" + (f" {parameters}" if parameters != "{}" else "")
    return Potential(kind.__name__.lower(), said, calculator)
