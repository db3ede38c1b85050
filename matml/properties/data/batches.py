"""From stored graphs to batches that the network takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from matml.meta.checkpoint import content
from matml.structures.crystals import CrystalSet

if TYPE_CHECKING:
    from torch_geometric.data import Data

HASHED_AT_ONCE = 512
"""Crystals whose graphs are in memory together while they are hashed."""


class CrystalBatch(dict[str, Any]):
    """Tensors of some crystals by name, which are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def to_data(self) -> "Data":
        """Return the same tensors as `Data` of PyTorch Geometric, for its networks and poolings.

        Edges run from neighbour to centre. matml's own networks take either; they are given this
        class, since to import torch_geometric takes two seconds.
        """
        from torch_geometric.data import Data

        return Data(**self, num_nodes=len(self.atomic_number))


class GraphBatches:
    """Batches of crystals, made without a Python loop over crystals.

    Parameters
    ----------
    crystals
        Crystals with their graphs.
    targets
        Standardised values [crystals, properties]; NaN where there is no label.
    device
        torch device of the batches.
    dtype
        numpy type of all floating-point fields.
    """

    def __init__(
        self,
        crystals: CrystalSet,
        targets: np.ndarray | None = None,
        device: str = "cpu",
        dtype: type[np.floating] = np.float32,
    ) -> None:
        self.crystals = crystals
        self.volume = crystals.table["volume_per_atom_A3"].to_numpy(dtype)
        self.targets = None if targets is None else targets.astype(dtype)
        self.device, self.dtype = device, dtype

    def __len__(self) -> int:
        return len(self.crystals)

    def labels(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return standardised values of some crystals, [rows, properties]; NaN where there is none.

        Raises
        ------
        ValueError
            Where the batches were made without targets.
        """
        if self.targets is None:
            raise ValueError("these batches have no targets: give them to GraphBatches")
        return self.targets[np.asarray(rows, dtype=int)]

    def edges(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the number of edges of some crystals' graphs, [rows]."""
        rows, offset = np.asarray(rows, dtype=int), self.crystals.graphs.edge_offset
        return offset[rows + 1] - offset[rows]

    def content(self, rows: Sequence[int] | np.ndarray) -> str:
        """Return a hash of the graphs, volumes and targets of some crystals."""
        rows = np.asarray(rows, dtype=int)
        # in parts, so that memory does not grow with the crystals
        starts = range(0, len(rows), HASHED_AT_ONCE)
        return content([content(self.batch(rows[i : i + HASHED_AT_ONCE])) for i in starts])

    def batch(self, indices: Sequence[int] | np.ndarray) -> CrystalBatch:
        """Return one batch; see `CrystalNetwork.embedding` for its fields.

        Where targets are known, `target` [crystals, properties] holds them.
        """
        indices = np.asarray(indices)
        flat = self.crystals.graphs.gather(indices)
        graph, centre = flat["graph"], flat["edge_target"]
        atoms = flat["node_multiplicity"].astype(self.dtype)
        all_atoms = np.bincount(graph, weights=atoms, minlength=len(indices))
        data = CrystalBatch(
            atomic_number=torch.from_numpy(flat["atomic_number"].astype(np.int64)),
            node_weight=torch.from_numpy((atoms / all_atoms[graph]).astype(self.dtype)),
            batch=torch.from_numpy(graph.astype(np.int64)),
            edge_index=torch.from_numpy(np.stack([flat["edge_source"], centre]).astype(np.int64)),
            edge_distance=torch.from_numpy(flat["edge_distance"].astype(self.dtype)),
            edge_weight=torch.from_numpy(flat["edge_weight"].astype(self.dtype)),
            volume_per_atom=torch.from_numpy(self.volume[indices]),
        )
        if self.targets is not None:
            data.target = torch.from_numpy(self.labels(indices))
        if self.device == "cpu":
            return data
        return CrystalBatch({name: tensor.to(self.device) for name, tensor in data.items()})
