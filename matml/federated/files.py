"""What travels between laboratories: the shared prior of a round, and sums over alloys.

Both are small JSON files with a checksum; numbers are written so that they read back bit by bit.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypedDict

from matml.bayes.empirical_bayes import Sums
from matml.bayes.gauss_newton import GaussianPrior
from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, write_json
from matml.core.integrity.formats import Format
from matml.core.settings import check_shape
from matml.kinetics.equations import Equation, equation_of_file
from matml.kinetics.inference.population import same_scales, scales

PRIOR = Format(
    "federated prior", 1, "ask the coordinator for it again, or begin with `matml federated start`"
)
SUMS = Format("federated sums", 1, "ask the laboratory to run `matml federated sums` again")


class StoredPrior(TypedDict):
    """What the file of a shared prior holds."""

    equation: str
    kind: str
    parameters: list[dict[str, Any]]
    reference_temperature_K: float | None
    pseudo_tasks: float
    study: str
    round: int
    mean: list[float]
    covariance: list[list[float]]
    noise: float
    history: list[float]
    laboratories: list[str]
    alloys: int
    composition_groups: int
    observations: int
    converged: bool


class StoredSums(TypedDict):
    """What the file of sums holds."""

    prior: str
    round: int
    laboratories: list[str]
    alloys: int
    composition_groups: int
    observations: int
    offset: list[float]
    outer: list[list[float]]
    squared_noise: float
    log_evidence: float
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class SharedPrior:
    """The prior of a round, which all laboratories work under.

    Attributes
    ----------
    equation, kind
        Equation and kind of observation.
    reference_temperature_K
        For alloys that give none; None where the equation has no reference temperature.
    pseudo_tasks
        Weight of the generic covariance, in alloys.
    study
        The same in all rounds; fingerprints of alloys depend on it.
    round
        From 0, the generic prior.
    normal
        Over standardised parameters, with the noise.
    history
        Penalised log evidence of the rounds before, of the same laboratories.
    laboratories, alloys, composition_groups, observations
        Of whom the last step was made.
    converged
        Whether the evidence rose by no more than the tolerance.
    """

    equation: Equation
    kind: str
    reference_temperature_K: float | None
    pseudo_tasks: float
    study: str
    round: int
    normal: GaussianPrior
    history: list[float] = field(default_factory=list)
    laboratories: list[str] = field(default_factory=list)
    alloys: int = 0
    composition_groups: int = 0
    observations: int = 0
    converged: bool = False

    @property
    def key(self) -> str:
        """What sums under this prior name it by."""
        numbers = [self.study, self.round, *_numbers(self.normal)]
        return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the file that goes to all laboratories."""
        mean, covariance, noise = _numbers(self.normal)
        stored: StoredPrior = {
            "equation": self.equation.name,
            "kind": self.kind,
            "parameters": scales(self.equation),
            "reference_temperature_K": self.reference_temperature_K,
            "pseudo_tasks": self.pseudo_tasks,
            "study": self.study,
            "round": self.round,
            "mean": mean,
            "covariance": covariance,
            "noise": noise,
            "history": self.history,
            "laboratories": self.laboratories,
            "alloys": self.alloys,
            "composition_groups": self.composition_groups,
            "observations": self.observations,
            "converged": self.converged,
        }
        write_json(path, stored, PRIOR)

    @staticmethod
    def load(path: Path, *, trust_equation: bool = False) -> "SharedPrior":
        """Read a shared prior.

        Raises
        ------
        MatmlError
            Where it is none, is damaged, or its equation has other parameters here.
        """
        stored = read_json(path, PRIOR)
        check_shape(stored, StoredPrior, path, PRIOR.remedy)
        with reading(path, PRIOR.remedy):
            equation = equation_of_file(stored["equation"], path, trust=trust_equation)
            if not same_scales(stored["parameters"], scales(equation)):
                raise MatmlError(
                    f"{path}: was made with other parameters of equation {equation.name!r} than "
                    "this version of matml has; let all laboratories use one version"
                )
            equation.observable(stored["kind"])
            covariance = _tensor(stored["covariance"])
            normal = GaussianPrior(_tensor(stored["mean"]), covariance, stored["noise"])
            size = len(equation.parameters)
            if normal.mean.shape != (size,) or covariance.shape != (size, size):
                raise MatmlError(f"{path}: mean and covariance are not of {size} parameters")
            left = ("equation", "parameters", "mean", "covariance", "noise")
            given = {name: value for name, value in stored.items() if name not in left}
            return SharedPrior(equation=equation, normal=normal, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LaboratorySums:
    """Sums over the alloys of one laboratory, or of several that were merged.

    Attributes
    ----------
    prior, round
        Key of the prior that they are under, and its round.
    laboratories
        Names.
    composition_groups
        How many independent alloys there are: near-twins count once.
    sums
        Under that prior.
    fingerprints
        Of each alloy, with its laboratory's name: by them an alloy is found that two hold.
    """

    prior: str
    round: int
    laboratories: list[str]
    composition_groups: int
    sums: Sums
    fingerprints: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the file that travels."""
        sums = self.sums
        stored: StoredSums = {
            "prior": self.prior,
            "round": self.round,
            "laboratories": self.laboratories,
            "alloys": sums.tasks,
            "composition_groups": self.composition_groups,
            "observations": sums.observations,
            "offset": sums.offset.tolist(),
            "outer": sums.outer.tolist(),
            "squared_noise": sums.squared_noise,
            "log_evidence": sums.log_evidence,
            "fingerprints": self.fingerprints,
        }
        write_json(path, stored, SUMS)

    @staticmethod
    def load(path: Path, prior: SharedPrior) -> "LaboratorySums":
        """Read sums under a prior.

        Raises
        ------
        MatmlError
            Where they are none, of another prior or an earlier round, or cannot be sums.
        """
        stored = read_json(path, SUMS)
        check_shape(stored, StoredSums, path, SUMS.remedy)
        names = ", ".join(stored["laboratories"])
        if stored["prior"] != prior.key:
            stale = stored["round"] < prior.round
            what = f"round {stored['round']}" if stale else "another prior"
            raise MatmlError(
                f"{path}: the sums of {names} are under {what}, not under round {prior.round} of "
                "this study; ask for sums under the file that was sent last"
            )
        size, count = len(prior.normal.mean), stored["alloys"]
        offset, outer = _tensor(stored["offset"]), _tensor(stored["outer"])
        wrong = _absurd(offset, outer, stored, size)
        if wrong:
            raise MatmlError(f"{path}: the sums of {names} cannot be sums: {wrong}; {SUMS.remedy}")
        sums = Sums(
            prior.normal,
            *(count, stored["observations"], offset, outer),
            *(stored["squared_noise"], stored["log_evidence"]),
        )
        return LaboratorySums(
            *(stored["prior"], stored["round"], stored["laboratories"]),
            *(stored["composition_groups"], sums, stored["fingerprints"]),
        )


def merged(parts: Sequence[LaboratorySums], names: Sequence[Path | str]) -> LaboratorySums:
    """Return the sums over all parts, under one prior.

    Parameters
    ----------
    names
        Of the parts, for messages.

    Raises
    ------
    MatmlError
        Where a laboratory or an alloy is in two of them.
    """
    whole = parts[0]
    for part, name in zip(parts[1:], names[1:], strict=True):
        if twice := sorted({*whole.laboratories} & {*part.laboratories}):
            raise MatmlError(f"{name}: the laboratory {twice[0]!r} is there twice; give one file")
        if both := whole.fingerprints.keys() & part.fingerprints.keys():
            alloy = min(both)
            raise MatmlError(
                f"{name}: {len(both)} of the alloys of {part.fingerprints[alloy]!r} are those of "
                f"{whole.fingerprints[alloy]!r} (same name and composition) and would count "
                "twice; let one of the two leave them out (--without)"
            )
        whole = replace(
            whole,
            laboratories=[*whole.laboratories, *part.laboratories],
            composition_groups=whole.composition_groups + part.composition_groups,
            sums=whole.sums + part.sums,
            fingerprints=whole.fingerprints | part.fingerprints,
        )
    return whole


def _absurd(offset: Tensor, outer: Tensor, stored: StoredSums, size: int) -> str:
    """Return why numbers cannot be sums over alloys; '' where they can."""
    count = stored["alloys"]
    if offset.shape != (size,) or outer.shape != (size, size):
        return f"they are not of {size} parameters"
    if count < 1 or stored["observations"] < 1 or not 1 <= stored["composition_groups"] <= count:
        return f"{count} alloys, {stored['observations']} observations"
    numbers = torch.cat([offset, outer.flatten(), _tensor([stored["log_evidence"]])])
    if not bool(torch.isfinite(numbers).all()) or not 0 <= stored["squared_noise"] < 1e300:
        return "numbers that are not finite"
    if float(numbers.abs().max()) > 1e12:
        return f"a number of {float(numbers.abs().max()):.2g}"
    # outer products of distances spread at least as far as their mean does
    spread = (outer + outer.mT) / 2 - torch.outer(offset, offset) / count
    if float(torch.linalg.eigvalsh(spread)[0]) < -1e-6 * float(outer.diagonal().abs().sum()):
        return "their outer products are smaller than their means allow"
    return ""


def _numbers(prior: GaussianPrior) -> tuple[list[float], list[list[float]], float]:
    return prior.mean.tolist(), prior.covariance.tolist(), prior.noise


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
