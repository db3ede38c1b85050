"""From files to predictions: adapt to labelled structures, keep that, predict structures."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError, as_path
from matml.core.files import TABLE, read_table, write_json, write_table
from matml.core.provenance import file_hash
from matml.properties.data.labelled import Labelled, with_values
from matml.properties.data.targets import find_property
from matml.properties.features.columns import beside, feature_names
from matml.properties.features.learn import FeatureStack
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import (
    ADAPTED,
    CARD,
    DEFAULT,
    SHIPPED,
    SUPPORT,
    model_checksum,
    open_adapted,
)
from matml.properties.predictor.new_property import Scale
from matml.structures.crystals import CrystalSet
from matml.structures.ingest import Gathered
from matml.structures.table import quarantine_row

REMEDY = "correct it, or ignore this: the crystal is left out"


def adapt_to_files(
    predictor: FewShotPredictor,
    labelled: Labelled,
    *,
    method: str | None = None,
    unit: str | None = None,
    scale: Scale = "auto",
    check_units: bool = True,
    inputs: Sequence[str] = (),
    features: FeatureStack | None = None,
) -> AdaptedPredictor:
    """Return the predictor adapted to labelled crystals; options as of `FewShotPredictor.adapt`."""
    crystals = CrystalSet.from_table(labelled.table, predictor.encoder.graphs)
    values = labelled.table[labelled.property_name].to_numpy(float)
    options: dict[str, Any] = {"unit": unit, "scale": scale, "check_units": check_units}
    options |= {"inputs": list(inputs) or None, "features": features}
    return predictor.adapt(crystals, values, labelled.property_name, method=method, **options)


def labelled_with_features(
    labelled: Labelled, table: pd.DataFrame, learned: FeatureStack | None, shown: Path
) -> tuple[Labelled, list[str]]:
    """Return labelled crystals with their features, and the names of those that are learned from.

    Crystals without features are in the quarantine.

    Parameters
    ----------
    learned
        The stack with features, of a property that the model knows; else all features are taken.
    shown
        File of the table, for messages.
    """
    names = feature_names(table)
    if learned is not None:
        names = list(learned.columns.names)
    usable, without = beside(labelled.table, table, names, str(shown))
    quarantine = pd.concat([labelled.quarantine, without], ignore_index=True)
    return replace(labelled, table=usable, quarantine=quarantine), names


def save_adapted(adapted: AdaptedPredictor, folder: Path) -> None:
    """Write an adapted predictor: its support, and which model it was adapted from.

    Adapting takes less time than reading what it would leave behind, so it is done again when
    the folder is loaded. The card is written last: a folder without one is unfinished.
    """
    folder = Path(folder)
    (folder / CARD).unlink(missing_ok=True)
    table = adapted.support_table.assign(**{adapted.property_name: adapted.support_values})
    write_table(folder / SUPPORT, table)
    shipped, features = adapted.model.resolve() == SHIPPED.resolve(), adapted.features
    write_json(
        folder / CARD,
        {
            "property": adapted.property_name,
            "unit": adapted.unit,
            "logarithmic": adapted.scale.property.logarithmic,
            "method": adapted.method,
            "shots": adapted.shots,
            "inputs": list(adapted.inputs),
            "features": None if features is None else str(features.resolve()),
            "features_sha256": None if features is None else file_hash(features),
            "warnings": list(adapted.warnings),
            "finding": None if adapted.finding is None else asdict(adapted.finding),
            "model": DEFAULT if shipped else str(adapted.model.resolve()),
            "model_sha256": model_checksum(adapted.model),
            "support_sha256": file_hash(folder / SUPPORT),
            "versions": {
                name: importlib.metadata.version(name) for name in ("matml", "torch", "pymatgen")
            },
        },
        ADAPTED,
    )


def load_adapted(
    folder: str | Path, model: Path | None = None, device: str = "cpu"
) -> AdaptedPredictor:
    """Return what `save_adapted` wrote; parameters and errors as of `open_adapted`."""
    folder = as_path(folder, "adapted predictor")
    card, path = open_adapted(folder, model)
    predictor = FewShotPredictor.load(path, device)
    table, name = read_table(folder / SUPPORT, TABLE), card["property"]
    item = find_property(name, card["unit"], card["logarithmic"])
    values = table[name].to_numpy(float)
    features = Path(card["features"]) if card.get("features") else None
    if features and not (features.is_file() and file_hash(features) == card["features_sha256"]):
        raise MatmlError(
            f"{features}: is not the stack with features that the predictor in {folder} was "
            "adapted from; put it back, or adapt again"
        )
    return predictor.adapt_again(table, values, item, card["method"], card["inputs"], features)


def predict_gathered(
    adapted: AdaptedPredictor,
    gathered: Gathered,
    inputs: Sequence[Path],
    labels: Path | None = None,
    features: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return predictions of structures that were read, and what could not be used.

    Parameters
    ----------
    inputs
        Where they were read from, for messages.
    labels
        CSV keyed by `id` or `file` with columns that the predictor takes beside the structures,
        which were read with it.
    features
        Table of features that has them.

    Returns
    -------
    predictions
        `id`, `formula`, `property`, `prediction`, `low`, `high`, `unit`, `distance`,
        `in_domain`, `unseen_elements`, `disordered`, `family`, `material_id`, `source`, `row`,
        `notes` (what was noted as the crystal was read); in the order of the inputs. The ids are
        those of `ingest`.
    quarantine
        Columns as in `quarantine.csv`; a crystal stands in one of the two.
    """
    quarantine = gathered.quarantine
    if labels is None:
        # labels that stand beside structures are none of a prediction's business
        quarantine = quarantine[quarantine["dropped"] == "crystal"]
    if gathered.table.empty:
        return pd.DataFrame(), quarantine
    shown = ", ".join(map(str, [*inputs, *filter(None, (labels, features))]))
    if features is None:
        usable, without = with_values(gathered.table, adapted.inputs, shown)
    else:
        usable, without = beside(gathered.table, read_table(features), adapted.inputs, shown)
    unfit = adapted.unfit(usable)
    rows = []
    for row, (name, reason) in unfit.items():
        own = usable.loc[row]
        place = own["id"], own["source"], own["row"], "crystal", name
        rows.append(quarantine_row(*place, reason, REMEDY))
    usable = usable.drop(index=list(unfit)).reset_index(drop=True)
    for more in (without, pd.DataFrame(rows)):
        quarantine = pd.concat([quarantine, more]) if len(more) else quarantine
    if usable.empty:
        return pd.DataFrame(), quarantine.reset_index(drop=True)
    crystals = CrystalSet.from_table(usable, adapted.encoder.graphs)
    found = adapted.predict_table(crystals)
    described = crystals.table[["family", "material_id", "source", "row", "notes"]]
    table = pd.concat([described, found], axis=1)
    table["property"], table["unit"] = adapted.property_name, adapted.unit
    columns = "id formula property prediction low high unit distance in_domain outside "
    columns += "unseen_elements labelled disordered family material_id source row notes"
    return table[columns.split()], quarantine.reset_index(drop=True)
