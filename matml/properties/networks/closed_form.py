"""Predictions of networks whose head adapts in closed form, from features computed once."""

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
    """What a meta-trained network with a closed-form head says of crystals after a support.

    Adapting leaves the features as they are, so that they are computed once for all supports.

    Parameters
    ----------
    network, inner
        As meta-trained.
    batches, rows
        Crystals that will be asked for.
    """

    def __init__(
        self, network: CrystalNetwork, inner: GaussianHead, batches: GraphBatches, rows: np.ndarray
    ) -> None:
        self.module, self.inner, self.targets = _Head(network), inner, batches.targets
        inner.read = read_pair
        self.features = torch.zeros(len(batches), network.head.weight.shape[1])
        self.features[rows] = torch.from_numpy(embed(network, batches, rows))
        self.device = batches.device

    def predict(self, support: np.ndarray, query: np.ndarray, column: int) -> np.ndarray:
        """Return standardised predictions of one property at the query, [m]."""
        # a tensor of one element would index numpy's array as an integer does
        labels = torch.full((len(support), self.targets.shape[1]), float("nan"))
        labels[:, column] = torch.from_numpy(self.targets[np.asarray(support), column])
        # arrays read from a table cannot be written to, which torch warns of
        support, query = (
            torch.tensor(rows.tolist(), dtype=torch.long) for rows in (support, query)
        )
        data = (self.features[support].to(self.device), labels.to(self.device))
        with torch.no_grad():
            model = self.inner.adapt(self.module, None, data)
            output = model(self.features[query].to(self.device))
        return output[:, column].cpu().numpy()
