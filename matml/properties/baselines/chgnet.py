"""Frozen features of a published universal potential, for comparison.

CHGNet (Deng et al. 2023, 10.1038/s42256-023-00716-3) is trained on relaxations of the Materials
Project, the source of the embedded crystals too: it has seen such materials, most of the test
families' crystals among them. What stands on its features is shown beside the others and is no
baseline to beat.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matml.core.errors import MatmlError, reading
from matml.potentials.content import contents_of
from matml.potentials.named import CHGNET, available, load_chgnet, quiet
from matml.structures.disorder.atoms import are_disordered

# whether the potential is installed is asked where torch is not needed otherwise
if TYPE_CHECKING:
    from chgnet.model import CHGNet
    from torch import Tensor

    from matml.structures.crystals import CrystalSet

log = logging.getLogger(__name__)

MOST_ATOMS = 400
"""Atoms in a batch, which bounds the memory."""


@dataclass(frozen=True)
class PotentialFeatures:
    """What the potential says of crystals.

    Attributes
    ----------
    features
        Mean over the atoms of what its last layer takes, [crystals, 64].
    energy
        Its total energy in eV/atom, [crystals].
    """

    features: np.ndarray
    energy: np.ndarray


def potential_features(crystals: CrystalSet, cache: Path) -> PotentialFeatures | None:
    """Return features and energies of all crystals; None where they cannot be had.

    Parameters
    ----------
    cache
        File that keeps them; made where it does not exist, used by itself where it does, so that
        the potential need not be installed then.

    Raises
    ------
    MatmlError
        Where the file is of other crystals.
    """
    import torch

    from matml.meta.checkpoint import TENSORS, load_checkpoint, save_checkpoint

    if not cache.exists():
        if not available(CHGNET):
            return None
        started = time.perf_counter()
        found = compute(crystals)
        tensors = {"features": torch.from_numpy(found.features)}
        tensors["energy_eV_per_atom"] = torch.from_numpy(found.energy)
        save_checkpoint(cache, tensors, {"crystals": contents_of(crystals.table)})
        log.info("%d crystals: %s in %.0f s", len(crystals), CHGNET, time.perf_counter() - started)
    tensors, state = load_checkpoint(cache)
    with reading(cache, TENSORS.remedy):
        place = {content: i for i, content in enumerate(state["crystals"])}
        features, energy = tensors["features"], tensors["energy_eV_per_atom"]
    contents = contents_of(crystals.table)
    ids = zip(crystals.table["id"], contents, strict=True)
    missing = [name for name, content in ids if content not in place]
    if missing:
        raise MatmlError(
            f"{cache}: has no features of {missing[0]} and {len(missing) - 1} other crystals as "
            "they are now; "
            "delete it, so that it is made again"
        )
    rows = [place[content] for content in contents]
    return PotentialFeatures(
        features.numpy()[rows].astype(float),
        energy.numpy()[rows].astype(float),
    )


def compute(crystals: CrystalSet) -> PotentialFeatures:
    """Return what the potential says, computed in batches of crystals of like size.

    Raises
    ------
    MatmlError
        Names the first disordered crystal: the potential knows whole atoms only.
    """
    if len(disordered := crystals.table[are_disordered(crystals.table)]):
        raise MatmlError(
            f"{disordered['id'].iloc[0]}: is disordered, and CHGNet knows whole atoms only; leave "
            "out disordered crystals"
        )
    model = load_chgnet()
    with quiet():
        model.graph_converter.set_isolated_atom_response("ignore")
        sizes = crystals.table["n_sites"].to_numpy()
        features = np.zeros((len(crystals), model.atom_fea_dim), np.float32)
        energy = np.zeros(len(crystals), np.float32)
        for rows in _batches(sizes):
            graphs = [model.graph_converter(crystals.structure(row)) for row in rows]
            found = _predict(model, graphs)
            features[rows] = found[0].numpy()
            energy[rows] = found[1].numpy()
    return PotentialFeatures(features, energy)


def _predict(model: CHGNet, graphs: list) -> tuple[Tensor, Tensor]:
    """Return features and energies of some graphs."""
    import torch

    with torch.no_grad():
        found = model.forward(graphs, task="e", return_crystal_feas=True)
    atoms = torch.tensor([len(graph.atomic_number) for graph in graphs])
    features = found["crystal_fea"]
    # it sums over the atoms, but a crystal's features must not depend on the cell
    if model.mlp_first:
        features = features / atoms[:, None]
    return features, found["e"] if model.is_intensive else found["e"] / atoms


def _batches(sizes: np.ndarray) -> list[np.ndarray]:
    """Return row numbers in batches of at most `MOST_ATOMS` atoms, or one crystal."""
    batches: list[np.ndarray] = []
    own: list[int] = []
    atoms = 0
    for row in np.argsort(sizes, kind="stable").tolist():
        if own and atoms + sizes[row] > MOST_ATOMS:
            batches.append(np.array(own))
            own, atoms = [], 0
        own.append(row)
        atoms += sizes[row]
    return [*batches, np.array(own)] if own else batches
