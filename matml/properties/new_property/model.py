"""What ships for properties that training did not know: the label process, and its features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from matml.core.standardise import Standardisation
from matml.meta.checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from matml.properties.dataset import Workbench
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.networks.ensemble import load_network
from matml.properties.new_property.process import AdaptedProcess, LabelProcess
from matml.properties.new_property.tasks import (
    POOLED_SHOTS,
    SHOTS,
    FeatureSets,
    Scales,
    family_tasks,
    pooled_tasks,
)
from matml.properties.settings import PropertiesSection


def learn_process(
    bench: Workbench, sets: FeatureSets, settings: PropertiesSection, *, seed: int
) -> LabelProcess:
    """Return the process that training families tell, on tasks within and over families.

    Parameters
    ----------
    sets
        Standardised features of all crystals.
    """
    within = family_tasks(bench, sets, settings, SHOTS, seed=seed)
    return LabelProcess.learn([*within, *pooled_tasks(bench, sets, POOLED_SHOTS, seed=seed)])


@dataclass(frozen=True)
class NewPropertyModel:
    """Learned on known properties, each of which played a new one.

    Attributes
    ----------
    process
        Its experts know tasks of one family and of many; the labels tell which suits.
    scales
        Of the features.
    """

    process: LabelProcess
    scales: Scales

    @classmethod
    def learn(
        cls,
        bench: Workbench,
        members: Sequence[Path],
        settings: PropertiesSection,
        *,
        seed: int,
        device: str,
    ) -> "NewPropertyModel":
        """Return what training families tell.

        Parameters
        ----------
        members
            Folders of the members, in the order of their numbers.
        """
        recipe = bench.recipe(settings)
        networks = [load_network(f / "pretrained.safetensors", recipe)[0] for f in members]
        sets = FeatureSets.of(bench.crystals, networks, device)
        scales = sets.scales(bench.split.training_rows(bench.families))
        return cls(learn_process(bench, sets.standardised(scales), settings, seed=seed), scales)

    def features(self, crystals: EncodedCrystals) -> list[np.ndarray]:
        """Return the standardised features of crystals, [n, features] each."""
        sets = FeatureSets(crystals.outputs, crystals.embeddings, crystals.descriptors)
        return sets.standardised(self.scales).features(np.arange(len(crystals)))

    def labels_alone(self, support: EncodedCrystals, labels: np.ndarray) -> "LabelsAlone":
        """Return what labels of crystals say of others."""
        given = self.process.given(self.features(support), labels)
        return LabelsAlone(self, given, given.evidence)

    def save(self, path: Path) -> None:
        """Write all to one file."""
        tensors = pack("process", self.process.tensors())
        for name in ("embeddings", "descriptors"):
            known = getattr(self.scales, name)
            own = {"mean": known.mean, "deviation": known.deviation}
            tensors |= pack(name, {key: torch.from_numpy(x) for key, x in own.items()})
        save_checkpoint(path, tensors, {})

    @classmethod
    def load(cls, path: Path) -> "NewPropertyModel":
        """Return what `save` wrote."""
        tensors, _ = load_checkpoint(path)

        def scale(name: str) -> Standardisation:
            own = unpack(name, tensors)
            return Standardisation(own["mean"].numpy(), own["deviation"].numpy())

        return cls(
            LabelProcess.from_tensors(unpack("process", tensors)),
            Scales(scale("embeddings"), scale("descriptors")),
        )


@dataclass(frozen=True)
class LabelsAlone:
    """The label process given a support; see `matml.properties.methods.method.LabelsAlone`."""

    model: NewPropertyModel
    given: AdaptedProcess
    evidence: float

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.given)

    def predict(self, query: EncodedCrystals) -> tuple[np.ndarray, np.ndarray]:
        """Return means and half widths of 90 % intervals, each [m]."""
        return self.given.at(self.model.features(query))
