"""Names of the files of a model's folder, and where the model is that comes with matml."""

import hashlib
from pathlib import Path
from typing import Any

from matml.core.errors import MatmlError, as_path
from matml.core.files import read_json
from matml.core.integrity.formats import Format, open_sealed
from matml.core.provenance import file_hash

FORMAT = Format("model", 6, "train and export it again with `matml run`, or copy it again")
CARD, TRAINING, CHECKS = "card.json", "training.safetensors", "checks.json"
NEW_PROPERTY = "new-property.safetensors"
"""What properties that the model does not know take."""
SHIPPED = Path(__file__).parents[2] / "models" / "default"
"""Where the model is that comes with matml."""
ADAPTED = Format("adapted predictor", 4, "run `matml properties adapt` again")
SUPPORT = "support.parquet"
DEFAULT = "default"
"""Stands for the shipped model in the card of an adapted one."""


def read_card(folder: Path) -> dict:
    """Return the card of a model; raise MatmlError where it is missing or damaged."""
    return read_json(folder / CARD, FORMAT)


def stack_file(property_name: str) -> str:
    """Return the name of the file of a property's stack."""
    return f"{property_name}-stack.safetensors"


def model_folder(folder: str | Path | None) -> Path:
    """Return the folder of a model, that of the shipped one for None.

    Raises
    ------
    MatmlError
        Where none is given and none ships.
    """
    if folder is None and not (SHIPPED / CARD).is_file():
        raise MatmlError(
            "model: no trained model ships with this copy of matml; give the folder of one "
            "(`results/model` of the workflow)"
        )
    return SHIPPED if folder is None else as_path(folder, "model")


def open_adapted(folder: Path, model: str | Path | None) -> tuple[dict[str, Any], Path]:
    """Return the card of an adapted predictor, and the folder of the model it was adapted from.

    Parameters
    ----------
    model
        Where the model is now, if it was moved.

    Raises
    ------
    MatmlError
        Where the folder is unfinished or changed, or the model is not the one adapted from.
    """
    if not (folder / CARD).is_file():
        raise MatmlError(
            f"{folder}: holds no adapted predictor (no {CARD}); run `matml properties adapt`"
        )
    card = read_json(folder / CARD)
    if isinstance(card, dict) and "recipe" in card:
        raise MatmlError(f"{folder}: is a model, not an adapted one; give it with --model")
    card = open_sealed(card, folder / CARD, ADAPTED)
    if not (folder / SUPPORT).is_file() or file_hash(folder / SUPPORT) != card["support_sha256"]:
        raise MatmlError(f"{folder / SUPPORT}: is not the support that was adapted to; adapt again")
    named = None if card["model"] == DEFAULT else Path(card["model"])
    path = model_folder(model or named)
    if not (path / CARD).is_file():
        raise MatmlError(
            f"{folder / CARD}: the model {path} is no longer there; say where with --model, or "
            "adapt again"
        )
    if model_checksum(path) != card["model_sha256"]:
        raise MatmlError(
            f"{path}: is not the model that the predictor in {folder} was adapted from (the "
            "checksum differs); give that one with --model, or adapt again"
        )
    return card, path


def model_checksum(folder: Path) -> str:
    """Return a hash of all files of a model, which changes where any of them does."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()
