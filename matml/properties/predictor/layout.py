"""Names of the files of a model's folder, and where the model is that comes with matml."""

from pathlib import Path

from matml.core.errors import MatmlError, as_path
from matml.core.files import read_json
from matml.core.integrity.formats import Format

FORMAT = Format("model", 6, "train and export it again with `matml run`, or copy it again")
CARD, TRAINING, CHECKS = "card.json", "training.safetensors", "checks.json"
NEW_PROPERTY = "new-property.safetensors"
"""What properties that the model does not know take."""
SHIPPED = Path(__file__).parents[2] / "models" / "default"
"""Where the model is that comes with matml."""


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
