"""What the networks and the descriptors tell of crystals before any label, by one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from matml.properties.data.batches import GraphBatches
from matml.properties.data.descriptors import PACKING, describe
from matml.properties.networks.ensemble import Member, nearest_distances
from matml.properties.stack.base_models import Inputs
from matml.structures.crystals import CrystalSet

BATCH = 256
"""Crystals a network takes at once."""


@dataclass(frozen=True)
class Seen:
    """What is told of n crystals.

    Attributes
    ----------
    inputs
        Descriptors and the networks' mean predictions, as the stack takes them.
    distance
        To the nearest training crystal, [n]; see `FewShotPredictor.distance`.
    """

    inputs: Inputs
    distance: np.ndarray


def beyond_packing(descriptors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how far the packing of atoms lies from the middle of the known crystals' range, [n].

    In halves of that range: above 1 is denser, looser or more uneven than any known crystal. The
    networks' embeddings do not tell it: layers in a vacuum have the neighbours that they have in a
    solid.

    Parameters
    ----------
    descriptors, known
        [n, features] and [training crystals, features].
    """
    own, others = descriptors[:, PACKING], known[:, PACKING]
    low, high = others.min(0), others.max(0)
    return (np.abs(2 * own - low - high) / np.maximum(high - low, 1e-6)).max(1)


def see(
    crystals: CrystalSet,
    members: Sequence[Member],
    known: Sequence[np.ndarray],
    far: Sequence[float],
    known_descriptors: np.ndarray,
    device: str,
) -> Seen:
    """Return what the members tell of crystals; each network runs once over each of them.

    Parameters
    ----------
    members
        All of them predict.
    known, far
        Embeddings of the training crystals [training, width] and the unit of distances, for the
        first members: those that tell distances.
    known_descriptors
        Of the training crystals, [training, features].
    """
    batches = GraphBatches(crystals, device=device)
    predictions, distances = [], []
    for start in range(0, len(crystals), BATCH):
        data = batches.batch(np.arange(start, min(start + BATCH, len(crystals))))
        # what does not depend on the weights is the same for all
        data.graph = members[0].pretrained.prepare(data).for_inference()
        total, distance = 0.0, 0.0
        for number, member in enumerate(members):
            network = member.pretrained.eval()
            with torch.no_grad():
                embedding = network.embedding(data)
                total = total + network.head(embedding).cpu().numpy().astype(float)
            if number < len(known):
                nearest = nearest_distances(embedding.cpu().numpy(), known[number])
                distance = distance + nearest / far[number]
        predictions.append(total / len(members))
        distances.append(distance / len(known))
    inputs = Inputs(describe(crystals), np.concatenate(predictions))
    distance = np.concatenate(distances)
    packing = beyond_packing(inputs.descriptors, known_descriptors)
    return Seen(inputs, np.where(packing > 1, np.maximum(distance, packing), distance))
