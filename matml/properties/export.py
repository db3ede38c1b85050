"""Gather what was trained and chosen into one folder that `FewShotPredictor` reads."""

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from matml.config import PropertiesSection
from matml.files import read_json, write_json
from matml.meta.checkpoint import save_checkpoint
from matml.properties.batches import GraphBatches
from matml.properties.descriptors import describe
from matml.properties.members import load_network, nearest_distances
from matml.properties.metatrain import METHODS
from matml.properties.pretrain import embed
from matml.properties.stacking import network_predictions
from matml.properties.stages import Workbench
from matml.properties.targets import find_property

FORMAT = 1
CARD, TRAINING = "card.json", "training.safetensors"
FAR = 0.95
"""Quantile of distances of unseen training families that counts as distance 1."""


def export_predictor(
    bench: Workbench,
    members: Sequence[Path],
    baselines: Sequence[Path],
    stacks: Sequence[Path],
    evaluation: Path,
    out: Path,
    settings: PropertiesSection,
    *,
    seed: int,
) -> None:
    """Write card, members, fitted baselines and training rows to `out`.

    Parameters
    ----------
    members
        Folders of the members, in the order of their numbers.
    baselines
        Fitted baselines, `<property>.safetensors`.
    stacks
        Fitted stacks, `<property>.safetensors`.
    evaluation
        Folder with `choices.json` and `summary.json`.
    """
    out.mkdir(parents=True, exist_ok=True)
    recipe = bench.recipe(settings)
    labelled = (~np.isnan(bench.targets)).any(1)
    training = bench.split.training_rows(bench.families)
    training = training[labelled[training]]
    batches = GraphBatches(bench.crystals)
    tensors = {
        "descriptors": torch.from_numpy(describe(bench.crystals.subset(training))),
        "targets": torch.from_numpy(bench.targets[training]),
    }
    if stacks:
        predictions = network_predictions(bench, members, settings, "cpu")
        tensors["predictions"] = torch.from_numpy(predictions[training])
    distances = []
    for number, folder in enumerate(members):
        target = out / f"member-{number}"
        target.mkdir(exist_ok=True)
        for name in ("pretrained", *METHODS, "residual_gp"):
            _copy(folder / f"{name}.safetensors", target / f"{name}.safetensors")
        network, _ = load_network(folder / "pretrained.safetensors", recipe)
        embeddings = embed(network, batches, training)
        own_fold = np.isin(bench.families[training], bench.fold_families(number))
        # only crystals whose family this member has not seen tell what a new family's distance is
        known = embeddings[~own_fold]
        unseen = nearest_distances(embeddings[own_fold], known)
        distances.append(float(np.quantile(unseen, FAR)) if len(unseen) else 1.0)
        tensors[f"embeddings.{number}"] = torch.from_numpy(embeddings).half()
    for path in baselines:
        _copy(path, out / path.name)
    for path in stacks:
        _copy(path, out / stack_file(path.stem))
    save_checkpoint(out / TRAINING, tensors, {})
    write_json(
        out / CARD,
        {
            "format": FORMAT,
            "recipe": asdict(recipe),
            "standardisation_mean": bench.standardisation.mean.tolist(),
            "standardisation_deviation": bench.standardisation.deviation.tolist(),
            "members": len(members),
            "far_distances": distances,
            "properties": {
                name: {"unit": find_property(name).unit, **choice}
                for name, choice in read_json(evaluation / "choices.json").items()
            },
            "test_families": list(bench.split.test),
            "validation_families": list(bench.split.validation),
            "training_crystals": len(training),
            "seed": seed,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("matml", "torch", "torch-geometric", "pymatgen", "scikit-learn")
            },
        },
    )


def stack_file(property_name: str) -> str:
    """Return the name of the file of a property's stack."""
    return f"{property_name}-stack.safetensors"


def _copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    temporary = target.with_suffix(".partial")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
