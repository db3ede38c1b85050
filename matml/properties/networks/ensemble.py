"""Members of the ensemble: networks on disk, with the settings they were made with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from matml.core.errors import MatmlError, reading
from matml.gp.residual import ResidualGP
from matml.meta import GaussianHead, GradientSteps, HeadSteps, InnerLoop
from matml.meta.checkpoint import TENSORS, load_checkpoint, pack, save_checkpoint, unpack
from matml.properties.data.batches import CrystalBatch
from matml.properties.networks.crystal_network import CrystalNetwork

HEADS: dict[str, Literal["linear", "rbf"]] = {"ridge_head": "linear", "gp_head": "rbf"}
"""Methods that adapt by a closed form, and their kernels on the network's features."""


def read_labels(data: CrystalBatch) -> tuple[tuple[CrystalBatch], Tensor]:
    """Return a batch and the labels of its one property, [crystals, properties], else NaN."""
    own = torch.arange(data.target.shape[-1], device=data.target.device) == data.column
    return (data,), torch.where(own, data.label[:, None], float("nan"))


@dataclass(frozen=True)
class NetworkRecipe:
    """What is needed to build a network again, and to refuse crystals described otherwise.

    Attributes
    ----------
    properties
        Names, in the order of the outputs.
    network
        Keyword arguments of `CrystalNetwork`.
    graphs
        Settings of the graphs it was trained on.
    inner_steps, inner_learning_rate
        Of the meta-trained inner loops.
    """

    properties: tuple[str, ...]
    network: dict[str, Any]
    graphs: dict[str, Any]
    inner_steps: int
    inner_learning_rate: float

    def build(self) -> CrystalNetwork:
        """Return a network with fresh weights."""
        return CrystalNetwork(len(self.properties), **self.network)

    def build_inner(self, network: CrystalNetwork, method: str = "maml") -> InnerLoop:
        """Return the inner loop of a meta-trained network, with initial rates or variances."""
        if method in HEADS:
            # what a label and a family differ by from the network, in standard deviations
            kernel = HEADS[method]
            return GaussianHead(
                network, "head", kernel=kernel, read=read_labels, noise=0.3, scale=0.3
            )
        loop = partial(HeadSteps, head="head") if method == "anil" else GradientSteps
        return loop(
            network,
            steps=self.inner_steps,
            learning_rate=self.inner_learning_rate,
            learn_rates="entry" if method == "meta_sgd" else "tensor",
            largest_gradient=5.0,
        )

    def check_graphs(self, settings: dict[str, Any], origin: object) -> None:
        """Refuse graphs made with other settings.

        Raises
        ------
        MatmlError
            Names each setting that differs, and both values.
        """
        differing = [
            f"{key} is {settings.get(key)!r}, the model was trained with {value!r}"
            for key, value in self.graphs.items()
            if settings.get(key) != value
        ]
        if differing:
            raise MatmlError(
                f"{origin}: graphs do not fit the model: {'; '.join(differing)}; "
                "build the graphs again with the model's settings"
            )


@dataclass
class Member:
    """One cross-fitted network with everything it learned about adaptation.

    Attributes
    ----------
    pretrained
        The network, pre-trained without the families of its fold.
    meta_trained
        Method of `metatrain.ALL_METHODS` to (network, inner loop).
    residual_gp
        Property number to the Gaussian process on residuals over the embedding.
    """

    pretrained: CrystalNetwork
    meta_trained: dict[str, tuple[CrystalNetwork, InnerLoop]]
    residual_gp: dict[int, ResidualGP]


def save_network(path: Path, network: CrystalNetwork, inner: InnerLoop | None = None) -> None:
    """Write a network's weights, with what its inner loop has learned where there is one."""
    tensors = pack("network", network.state_dict())
    if inner is not None:
        tensors |= pack("inner", inner.state_dict())
    save_checkpoint(path, tensors, {})


def load_network(
    path: Path, recipe: NetworkRecipe, method: str = "maml"
) -> tuple[CrystalNetwork, InnerLoop]:
    """Return a network in evaluation mode, and the inner loop of a method.

    Raises
    ------
    MatmlError
        Where the file's weights do not fit the recipe.
    """
    tensors, _ = load_checkpoint(path)
    network = recipe.build()
    inner = recipe.build_inner(network, method)
    try:
        network.load_state_dict(unpack("network", tensors))
        if rates := unpack("inner", tensors):
            inner.load_state_dict(rates)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise MatmlError(
            f"{path}: weights do not fit the network that the settings describe ({first}); "
            "train again, or use the settings it was trained with"
        ) from None
    return network.eval(), inner


def save_residual_gps(path: Path, models: dict[int, ResidualGP]) -> None:
    """Write the residual models of a member."""
    tensors: dict[str, Tensor] = {}
    for column, model in models.items():
        tensors |= pack(str(column), model.tensors())
    save_checkpoint(path, tensors, {"columns": list(models)})


def load_residual_gps(path: Path) -> dict[int, ResidualGP]:
    """Return the residual models of a member."""
    tensors, state = load_checkpoint(path)
    with reading(path, TENSORS.remedy):
        return {
            column: ResidualGP.from_tensors(unpack(str(column), tensors))
            for column in state["columns"]
        }


def load_member(folder: Path, recipe: NetworkRecipe, methods: Sequence[str]) -> Member:
    """Return a member from its folder."""
    pretrained, _ = load_network(folder / "pretrained.safetensors", recipe)
    meta_trained = {
        method: load_network(folder / f"{method}.safetensors", recipe, method) for method in methods
    }
    return Member(pretrained, meta_trained, load_residual_gps(folder / "residual_gp.safetensors"))


def to_device(member: Member, device: str) -> Member:
    """Move a member's networks to a device; returns it."""
    member.pretrained.to(device)
    for network, inner in member.meta_trained.values():
        network.to(device)
        inner.to(device)
    return member


def nearest_distances(embeddings: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the distance of each embedding [n, width] to the nearest known one [m, width]."""
    a = torch.from_numpy(np.asarray(embeddings, np.float32))
    b = torch.from_numpy(np.asarray(known, np.float32))
    half_squares = b.square().sum(1) / 2
    # the nearest one by squares, its distance without their rounding
    parts = [
        (part - b[torch.addmm(half_squares, part, b.mT, alpha=-1).min(1).indices]).norm(dim=1)
        for part in a.split(256)
    ]
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)
