"""A kinetic population that laboratories learn together: expectation-maximisation by sums.

Each round all laboratories fit their own alloys under the shared prior and hand over `Sums`; their
sum is that over all alloys, so that the next prior is the one that the pooled data would give
(`matml.bayes.empirical_bayes`). The result is a Gaussian prior without composition: what depends on
single alloys does not travel.
"""

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from matml.bayes.empirical_bayes import EStep, for_a_new_task, m_step, penalised_evidence
from matml.bayes.task_prior import ConditionedPrior
from matml.core.errors import MatmlError
from matml.federated.files import LaboratorySums, SharedPrior, merged
from matml.federated.masks import MaskedSums, load_and_merge
from matml.federated.participants import refuse_missing
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.inference.composition_prior import CompositionPrior, Features
from matml.kinetics.inference.population import Population, generic_prior

FEWEST_ALLOYS = 3
"""Of a laboratory: the sums over one alloy are that alloy, and over two their mean."""
HOTTEST_K = 5000.0
TOLERANCE = 1e-4
"""Rise of the log evidence per alloy in a round at which the prior is learned."""
DOF, NOISE_DOF = 8.0, 8.0
"""Of the prior's and the noise's tails, which sums do not tell: usual values."""
NO_WINDOW = -1e300, 1e300
"""What was ever measured does not travel."""
KNOWN_CENTRE = 1e12
"""Weight of a centre that is known: its uncertainty is in the covariance already."""


def begin(
    equation: Equation,
    kind: str,
    reference_temperature_K: float | None,
    study: str,
    pseudo_tasks: float = 2.0,
) -> SharedPrior:
    """Return the prior of round 0: the equation's typical ranges.

    Raises
    ------
    MatmlError
        Where the equation needs a reference temperature and none is given, or the reverse.
    """
    if not study.strip():
        raise MatmlError("--study: is empty; give a name that no other study has")
    if reference_temperature_K is not None and not 0 < reference_temperature_K < HOTTEST_K:
        raise MatmlError(f"--reference-temperature {reference_temperature_K:g}: give kelvin")
    if equation.needs_reference_temperature and reference_temperature_K is None:
        raise MatmlError(
            f"equation {equation.name!r} refers to a temperature: give --reference-temperature in "
            "K, the same for all laboratories"
        )
    if not equation.needs_reference_temperature and reference_temperature_K is not None:
        raise MatmlError(f"equation {equation.name!r} has no reference temperature: leave it out")
    prior = generic_prior(equation, kind)
    return SharedPrior(equation, kind, reference_temperature_K, pseudo_tasks, study, 0, prior)


class Laboratory:
    """One that keeps its observations: what it tells of a prior are sums over its alloys.

    Parameters
    ----------
    study
        The prior of any round.
    name
        Of the laboratory.
    without
        Alloys that are left out.

    Raises
    ------
    MatmlError
        For another kind of observation, and for too few alloys to hide any of them.
    """

    def __init__(
        self, study: SharedPrior, observations: Observations, name: str, without: Sequence[str] = ()
    ) -> None:
        if observations.kind != study.kind:
            raise MatmlError(
                f"{name}: has {observations.kind} observations, the study is of {study.kind}"
            )
        if unknown := sorted({*without} - {*observations.names}):
            raise MatmlError(f"--without {unknown[0]}: is none of {', '.join(observations.names)}")
        kept = [alloy for alloy in observations.names if alloy not in {*without}]
        if len(kept) < FEWEST_ALLOYS:
            raise MatmlError(
                f"{name}: {len(kept)} alloy(s); sums over fewer than {FEWEST_ALLOYS} would tell "
                "single alloys"
            )
        if not name.strip():
            raise MatmlError("--laboratory: is empty; give its name")
        self.name, own = name, observations.select(kept)
        self._tasks = to_tasks(own, study.equation, study.reference_temperature_K)
        self._groups = int(own.alloys["composition_group"].nunique())
        self._prints = dict.fromkeys(fingerprints(own, study.study), name)

    def sums(self, prior: SharedPrior) -> LaboratorySums:
        """Return the sums over its alloys under a prior."""
        # from the prior alone, so that it is the same in a process of its own; and not by the last
        # digit which of two starts that end alike is taken
        sums = EStep(self._tasks, preference=1e-6)(prior.normal)
        told = ([self.name], self._groups, sums, self._prints)
        return LaboratorySums(prior.study, prior.key, prior.round, *told)


def learn_together(
    prior: SharedPrior, laboratories: Sequence[Laboratory], rounds: int = 200
) -> SharedPrior:
    """Return the prior of all laboratories, in one process: what the files do, at once."""
    names = [laboratory.name for laboratory in laboratories]
    while not prior.converged and prior.round < rounds:
        prior = step(prior, merged([each.sums(prior) for each in laboratories], names))
    return prior


def fingerprints(observations: Observations, study: str) -> list[str]:
    """Return a fingerprint of each alloy's name and composition, of no use in another study."""
    amounts = composition_columns(observations.alloys)
    found = []
    for row in observations.alloys.to_dict("records"):
        told = [f"{name} {row[name]:.3g}" for name in sorted(amounts) if row[name] > 0]
        name = "".join(filter(str.isalnum, str(row["alloy"]).casefold()))
        text = "; ".join([study, name, *told])
        found.append(hashlib.sha256(text.encode()).hexdigest()[:24])
    return found


def step(prior: SharedPrior, whole: LaboratorySums) -> SharedPrior:
    """Return the prior of the next round; the same one, as `converged`, where it is learned.

    Where other data take part than before, evidences are not compared.
    """
    sums = whole.sums
    if sums.tasks < 2:
        raise MatmlError(f"{sums.tasks} alloy(s) cannot show how alloys differ: give at least 2")
    initial = generic_prior(prior.equation, prior.kind)
    evidence = penalised_evidence(sums, initial, prior.pseudo_tasks)
    told = [*sorted(whole.fingerprints), str(sums.observations), *sorted(whole.laboratories)]
    data = hashlib.sha256("; ".join(told).encode()).hexdigest()
    history = prior.history if data == prior.data else []
    rise = (evidence - history[-1]) / sums.tasks if history else math.inf
    # it may fall by what the approximation is worth, not by more
    converged = abs(rise) < TOLERANCE
    following = prior.normal if converged else m_step(sums, initial, prior.pseudo_tasks)
    return replace(
        prior,
        round=prior.round + 1,
        normal=following,
        history=[*history, evidence],
        data=data,
        roster=sorted({*prior.roster, *whole.laboratories}),
        laboratories=sorted(whole.laboratories),
        alloys=sums.tasks,
        composition_groups=whole.composition_groups,
        observations=sums.observations,
        converged=converged,
    )


def next_round(
    prior: SharedPrior,
    paths: Sequence[Path],
    *,
    expected: Collection[str] = (),
    without: Collection[str] = (),
) -> SharedPrior:
    """Return the prior of the next round, of all laboratories' files.

    Parameters
    ----------
    expected, without
        Laboratories that must be there besides those that took part before, and those that the
        round goes on without.

    Raises
    ------
    MatmlError
        Where a file is refused, or a laboratory is missing.
    """
    whole = load_and_merge(paths, prior)
    refuse_missing(prior.round, prior.roster, whole.laboratories, expected, without)
    if isinstance(whole, MaskedSums):
        whole = whole.total(prior, paths[0])
    return step(prior, whole)


def population(prior: SharedPrior) -> Population:
    """Return the population that `matml kinetics calibrate` takes.

    Heavy-tailed around one centre, widened for the uncertainty that few alloys leave.

    Raises
    ------
    MatmlError
        Before any round.
    """
    if not prior.alloys:
        raise MatmlError("round 0 is the generic prior: nothing was learned yet")
    wide = for_a_new_task(prior.normal, prior.composition_groups)
    centre = wide.mean[None]
    learned = ConditionedPrior(
        wide.mean,
        wide.covariance,
        centre.new_zeros(1, 0),
        centre,
        torch.full((1,), KNOWN_CENTRE, dtype=centre.dtype),
        *(0.0, 1.0, DOF, prior.normal.noise),
        noise_dof=NOISE_DOF,
    )
    card = {
        "file": "sums of laboratories",
        "alloys": prior.alloys,
        "composition_groups": prior.composition_groups,
        "observations": prior.observations,
        "laboratories": prior.laboratories,
        "rounds": prior.round,
        "converged": prior.converged,
        "reference_temperatures_given": False,
        "composition": {},
        "simulated": False,
    }
    conditioned = CompositionPrior(
        learned,
        Features([], [], []),
        NO_WINDOW,
        *(prior.equation, prior.kind, prior.composition_groups),
    )
    return Population(
        prior.equation, prior.kind, conditioned, prior.reference_temperature_K, [], card
    )
