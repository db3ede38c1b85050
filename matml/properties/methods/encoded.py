"""What descriptors and networks tell of crystals before any label: made once, handed on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from matml.properties.data.batches import GraphBatches
from matml.properties.data.descriptors import describe
from matml.properties.networks.ensemble import Member
from matml.properties.stack.base_models import Inputs
from matml.structures.crystals import CrystalSet

BATCH = 256
"""Crystals a network takes at once."""


@dataclass(frozen=True)
class EncodedCrystals:
    """n crystals as the methods take them.

    Attributes
    ----------
    crystals
        The crystals with their graphs.
    descriptors
        [n, features].
    embeddings
        Of the members' pre-trained networks, [members, n, width].
    outputs
        Standardised predictions of the members' pre-trained networks, [members, n, properties].
    distance
        To what the model knows, [n]; 0 where it was not asked for. See `encode.KnownSpace`.
    """

    crystals: CrystalSet
    descriptors: np.ndarray
    embeddings: np.ndarray
    outputs: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.crystals)

    def __getitem__(self, rows: np.ndarray) -> "EncodedCrystals":
        """Return some of the crystals."""
        return EncodedCrystals(
            self.crystals.subset(rows),
            self.descriptors[rows],
            self.embeddings[:, rows],
            self.outputs[:, rows],
            self.distance[rows],
        )

    @property
    def inputs(self) -> Inputs:
        """What the stack takes: descriptors and the mean predictions of the members."""
        return Inputs(self.descriptors, self.outputs.mean(0))


def encode(
    crystals: CrystalSet, members: Sequence[Member] = (), device: str = "cpu"
) -> EncodedCrystals:
    """Return crystals as descriptors and members tell of them; each network runs once over each."""
    networks = [member.pretrained.eval() for member in members]
    if not len(crystals):
        return _nothing(crystals, [network.head for network in networks])
    batches = GraphBatches(crystals, device=device)
    embeddings: list[list[np.ndarray]] = [[] for _ in networks]
    outputs: list[list[np.ndarray]] = [[] for _ in networks]
    for start in range(0, len(crystals), BATCH) if networks else ():
        data = batches.batch(np.arange(start, min(start + BATCH, len(crystals))))
        # what does not depend on the weights is the same for all
        data.graph = networks[0].prepare(data).for_inference()
        with torch.inference_mode():
            for network, embedded, predicted in zip(networks, embeddings, outputs, strict=True):
                embedding = network.embedding(data)
                embedded.append(embedding.cpu().numpy())
                predicted.append(network.head(embedding).cpu().numpy())
    return EncodedCrystals(
        crystals,
        describe(crystals),
        _stacked(embeddings, len(crystals)),
        _stacked(outputs, len(crystals)).astype(float),
        np.zeros(len(crystals)),
    )


def _nothing(crystals: CrystalSet, heads: Sequence[nn.Linear]) -> EncodedCrystals:
    """Return what is told of no crystal at all."""
    width, properties = (heads[0].in_features, heads[0].out_features) if heads else (0, 0)
    return EncodedCrystals(
        crystals,
        describe(crystals),
        np.zeros((len(heads), 0, width), np.float32),
        np.zeros((len(heads), 0, properties)),
        np.zeros(0),
    )


def _stacked(parts: list[list[np.ndarray]], crystals: int) -> np.ndarray:
    """Return what each member says of each crystal, [members, crystals, …]."""
    if not parts:
        return np.zeros((0, crystals, 0), np.float32)
    return np.stack([np.concatenate(part) for part in parts])
