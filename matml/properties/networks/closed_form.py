"""Predictions of networks whose head adapts in closed form, from features computed once."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from matml.meta import GaussianHead
from matml.meta.inner.closed_form import read_pair
from matml.properties.data.batches import GraphBatches
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.pretrain import embed


class _Head(nn.Module):
    """The last layer of a network by itself, under the name that it has there."""

    def __init__(self, network: CrystalNetwork) -> None:
        super().__init__()
        self.head = network.head

    def forward(self, features: Tensor) -> Tensor:
        """Return the network's output from its features."""
        return self.head(features)


class ClosedHead:
    """A meta-trained network whose head adapts in closed form and leaves the features as they are.

    Parameters
    ----------
    column
        Number of the property among the outputs.
    """

    def __init__(self, network: CrystalNetwork, inner: GaussianHead, column: int) -> None:
        self.network, self.module, self.column = network, _Head(network), column
        self.inner = copy.copy(inner)
        self.inner.read = read_pair

    def features(self, batches: GraphBatches) -> Tensor:
        """Return the features of crystals, [n, width]."""
        features = embed(self.network, batches, range(len(batches)))
        return torch.from_numpy(features).to(batches.device)

    def predict(self, support: Tensor, labels: np.ndarray, query: Tensor) -> np.ndarray:
        """Return standardised predictions at the query, [m], from features and labels [k]."""
        known = torch.full((len(support), self.network.head.out_features), torch.nan)
        known[:, self.column] = torch.from_numpy(labels.astype(np.float32))
        with torch.no_grad():
            model = self.inner.adapt(self.module, None, (support, known.to(support.device)))
            return model(query)[:, self.column].cpu().numpy()
