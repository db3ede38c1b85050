"""Gather what was trained and chosen into one folder that `FewShotPredictor` reads."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.core.errors import MatmlError
from matml.core.files import TABLE, read_json, read_table, write_json
from matml.core.provenance import file_hash
from matml.core.settings import validate
from matml.meta.checkpoint import copy_checkpoint, save_checkpoint
from matml.properties.data.batches import GraphBatches
from matml.properties.data.descriptors import describe
from matml.properties.data.element_features import feature_names
from matml.properties.data.targets import PROPERTIES
from matml.properties.dataset import Workbench
from matml.properties.evaluation.layout import CHOICES
from matml.properties.networks.ensemble import load_network, nearest_distances
from matml.properties.networks.metatrain import METHODS
from matml.properties.networks.pretrain import embed
from matml.properties.predictor.layout import (
    CARD,
    CHECKS,
    FORMAT,
    NEW_PROPERTY,
    TRAINING,
    stack_file,
)
from matml.properties.predictor.training_set import compact
from matml.properties.settings import PropertiesSection
from matml.properties.stack.conformal import LEVEL, weighted_quantile
from matml.properties.stack.fit import network_predictions
from matml.structures.settings import StructuresSection

FAR = 0.95
"""Quantile of distances of unseen training families that counts as distance 1."""


def export_predictor(
    bench: Workbench,
    members: Sequence[Path],
    baselines: Sequence[Path],
    stacks: Sequence[Path],
    new_property: Path,
    evaluation: Path,
    out: Path,
    structures: Path,
    episodes: Path,
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
    new_property
        What `matml properties new-property` learned.
    evaluation
        Folder with `choices.json`, `scores.csv` and `predictions.parquet`.
    structures
        Folder of the ingested crystals, whose `summary.json` has the settings.
    """
    files = []

    def place(source: Path, target: Path) -> None:
        files.append(target)
        copy_checkpoint(source, target)

    recipe = bench.recipe(settings)
    labelled = (~np.isnan(bench.targets)).any(1)
    training = bench.split.training_rows(bench.families)
    training = training[labelled[training]]
    batches = GraphBatches(bench.crystals)
    tensors = {
        "descriptors": torch.from_numpy(describe(bench.crystals.subset(training))),
        "targets": torch.from_numpy(bench.targets[training]),
    }
    predictions = network_predictions(bench, members, settings, "cpu")
    off, seen = predictions - bench.targets, ~np.isin(bench.families, bench.split.test)
    if stacks:
        tensors["predictions"] = torch.from_numpy(predictions[training])
    distances = list[float]()
    of_property: dict[str, list[float]] = {name: [] for name in bench.names}
    for number, folder in enumerate(members):
        for name in ("pretrained", *METHODS, "residual_gp"):
            place(folder / f"{name}.safetensors", out / f"member-{number}/{name}.safetensors")
        # one member a fold tells distances: more would double the model's size
        if number >= bench.split.cross_folds:
            continue
        network, _ = load_network(folder / "pretrained.safetensors", recipe)
        embeddings = embed(network, batches, training)
        own_fold = np.isin(bench.families[training], bench.fold_families(number))
        # only crystals whose family this member has not seen tell what a new family's distance is
        distances.append(_far(embeddings, own_fold))
        for column, name in enumerate(bench.names):
            has = ~np.isnan(bench.targets[training, column])
            of_property[name].append(_far(embeddings[has], own_fold[has]))
        tensors[f"embeddings.{number}"] = torch.from_numpy(embeddings).half()
    for path in baselines:
        place(path, out / path.name)
    for path in stacks:
        place(path, out / stack_file(path.stem))
    place(new_property, out / NEW_PROPERTY)
    save_checkpoint(out / TRAINING, compact(tensors, bench.crystals.subset(training)), {})
    choices = read_json(evaluation / "choices.json", CHOICES)
    write_json(out / CHECKS, checked_episodes(evaluation, episodes, bench, choices))
    scores = read_table(evaluation / "scores.csv")
    write_json(
        out / CARD,
        {
            "recipe": asdict(recipe),
            "structures": _ingest_settings(structures),
            "element_features": feature_names(),
            "meta_trained": list(METHODS),
            "standardisation_mean": bench.standardisation.mean.tolist(),
            "standardisation_deviation": bench.standardisation.deviation.tolist(),
            "members": len(members),
            "far_distances": distances,
            "properties": {
                name: {
                    "unit": bench.properties[column].unit,
                    **({} if name in PROPERTIES else {"logarithmic": wide}),
                    **choice,
                    "expected_error": bench.standardisation.deviation[column]
                    * expected_error(bench.families[seen], off[seen, column], 1.0),
                    "far_distances": of_property[name],
                    "training_labels": int((~np.isnan(bench.targets[training, column])).sum()),
                    "scores": _scores(scores, name),
                }
                for name, choice in choices.items()
                for column in [bench.names.index(name)]
                for wide in [bench.properties[column].logarithmic]
            },
            "test_families": list(bench.split.test),
            "validation_families": list(bench.split.validation),
            "training_families": len(bench.split.folds),
            "folds": len(members),
            "training_crystals": len(training),
            "sources": bench.crystals.table["source"].iloc[training].value_counts().to_dict(),
            "seed": seed,
            "settings": settings.model_dump(mode="json", exclude=_unsaid(settings)),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("matml", "torch", "torch-geometric", "pymatgen", "scikit-learn")
            },
            "files": file_hashes(out, [*files, out / TRAINING, out / CHECKS]),
        },
        FORMAT,
    )


def checked_episodes(
    evaluation: Path, episodes: Path, bench: Workbench, choices: dict, shots: tuple = (0, 5, 10)
) -> list[dict]:
    """Return test episodes with the predictions of each property's default method.

    One of each test family and number of labels, by the crystals' ids: whoever has the crystals
    can adapt again and must find the same numbers.
    """
    drawn = read_table(episodes, TABLE)
    drawn = drawn[(drawn["part"] == "test") & (drawn["draw"] == 0) & drawn["shots"].isin(shots)]
    keys = ["property", "family", "shots"]
    support = dict(
        zip(drawn[keys].itertuples(index=False, name=None), drawn["support"], strict=True)
    )
    ids = bench.crystals.table["id"].to_numpy()
    found = read_table(evaluation / "predictions.parquet", TABLE)
    records = []
    for key, rows in found.groupby(keys, sort=True):
        name, family, shots_used = str(key[0]), str(key[1]), int(str(key[2]))
        rows = rows[rows["method"] == choices[name]["method"]]
        if (name, family, shots_used) not in support or rows.empty:
            continue
        chosen = np.asarray(support[name, family, shots_used], int)
        column = bench.names.index(name)
        labels = bench.properties[column].from_scale(bench.labels[chosen, column])
        records.append(
            {
                "property": name,
                "family": family,
                "shots": shots_used,
                "support": ids[chosen].tolist(),
                "labels": labels.tolist(),
                "query": rows["id"].tolist(),
                "truth": rows["truth"].tolist(),
                "prediction": rows["prediction"].tolist(),
            }
        )
    return records


def _unsaid(settings: PropertiesSection) -> set[str]:
    """Return the settings that a card does not name."""
    # whether Gaussian processes are exact is said by their own files
    usual = set() if settings.mixed_precision else {"mixed_precision"}
    return {"gp_exact_up_to", "processes"} | usual


def _ingest_settings(structures: Path) -> dict:
    """Return the settings with which crystals were ingested, the defaults where it is not said."""
    path = structures / "summary.json"
    known = read_json(path, shape=dict).get("settings", {}) if path.is_file() else {}
    section = validate(StructuresSection, known, f"{path}, settings")
    # where the crystals came from is no matter of how they are read
    return section.model_dump(mode="json", exclude={"inputs", "labels"})


def _far(embeddings: np.ndarray, own_fold: np.ndarray) -> float:
    """Return the distance of crystals of a member's own fold to the others that few exceed."""
    unseen = nearest_distances(embeddings[own_fold], embeddings[~own_fold])
    return float(np.quantile(unseen, FAR)) if len(unseen) and not own_fold.all() else 1.0


def expected_error(
    families: np.ndarray, errors: np.ndarray, spread: float, fewest: int = 4
) -> float:
    """Return the half width of the networks' 90 % interval before any label, learned scale.

    Over families that the networks have not seen, each of which counts the same; where fewer than
    `fewest` of them have as many labels, the spread of the training labels, which is wide.

    Parameters
    ----------
    families, errors
        Of crystals, [n]; an error is NaN where there is no label.
    """
    known = ~np.isnan(errors)
    _names, place, counts = np.unique(families[known], return_inverse=True, return_counts=True)
    if (counts >= fewest).sum() < fewest:
        return float(spread)
    weights = np.where(counts >= fewest, 1 / counts, 0)[place]
    return weighted_quantile(np.abs(errors[known]), weights, LEVEL)


def _scores(scores: pd.DataFrame, name: str) -> list[dict]:
    """Return the test scores of a property's default method."""
    own = scores[(scores["property"] == name) & scores["is_default"]]
    columns = ["shots", "metric", "unit", "value", "low", "high", "n_families"]
    return [
        {key: None if pd.isna(value) else value for key, value in record.items()}
        for record in own[columns].to_dict("records")
    ]


def file_hashes(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files of a model by their names in its folder."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)}


def check_files(folder: Path, card: dict) -> None:
    """Refuse a model whose files are not those that its card lists.

    Raises
    ------
    MatmlError
        Names the file.
    """
    for name, digest in card["files"].items():
        path = folder / name
        if not path.is_file() or file_hash(path) != digest:
            state = (
                "is not the file that the model's card lists" if path.is_file() else "is missing"
            )
            raise MatmlError(
                f"{path}: {state}; copy the model again, install matml again where it came with "
                "it, or export it again"
            )
