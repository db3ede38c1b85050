"""What descriptors and networks tell of crystals before any label: made once, handed on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

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
        To what is known of a property, [n]; 0 until `Domain.placed` has said it.
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

    def with_columns(self, columns: pd.DataFrame | None) -> "EncodedCrystals":
        """Return the crystals with further columns of their table, one value a crystal."""
        if columns is None:
            return self
        return replace(self, crystals=self.crystals.with_columns(columns))

    @property
    def inputs(self) -> Inputs:
        """What the stack takes: descriptors and the mean predictions of the members."""
        return Inputs(self.descriptors, self.outputs.mean(0))


def encode(
    crystals: CrystalSet, members: Sequence[Member] = (), device: str = "cpu"
) -> EncodedCrystals:
    """Return crystals as descriptors and members tell of them; each network runs once over each."""
    networks = [member.pretrained.eval() for member in members]
    heads = [network.head for network in networks]
    size = len(networks), len(crystals)
    embeddings = np.zeros((*size, heads[0].in_features if heads else 0), np.float32)
    outputs = np.zeros((*size, heads[0].out_features if heads else 0))
    if all(size):
        batches = GraphBatches(crystals, device=device)
        for rows in np.array_split(np.arange(len(crystals)), -(-len(crystals) // BATCH)):
            data = batches.batch(rows)
            # what does not depend on the weights is the same for all
            data.graph = networks[0].prepare(data)
            with torch.inference_mode():
                for number, network in enumerate(networks):
                    embedding = network.embedding(data)
                    embeddings[number, rows] = embedding.cpu().numpy()
                    outputs[number, rows] = network.head(embedding).cpu().numpy()
    distance = np.zeros(len(crystals))
    return EncodedCrystals(crystals, describe(crystals), embeddings, outputs, distance)
