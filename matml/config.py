"""The configuration: one typed model per section, with description, unit, default and bounds.

`workflow/config.yaml` holds the defaults; a test keeps it in step with these models.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from matml.errors import MatmlError


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Section)


class StructuresSection(Section):
    """Reading and checking crystals (`matml structures ingest`)."""

    inputs: list[Path] = Field(
        default=[
            Path("data/crystals/formation_energy.csv.gz"),
            Path("data/crystals/elastic.csv.gz"),
            Path("data/crystals/dielectric.csv.gz"),
        ],
        min_length=1,
        description="Folders, zips, files or tables of crystals.",
    )


class GraphsSection(Section):
    """Crystal graphs (`matml structures graph`)."""

    neighbours: int = Field(
        default=12, ge=1, le=64, description="Nearest neighbours per atom; all ties are kept."
    )


class PropertiesSection(Section):
    """Property predictors: split, training, evaluation (`matml properties …`)."""


class ScreeningSection(Section):
    """Candidates and ranking (`matml candidates`, `matml screen`)."""


class KineticsSection(Section):
    """Kinetic equations across alloys (`matml kinetics …`)."""


class ReportSection(Section):
    """The report page (`matml report`)."""

    title: str = Field(default="matml report", description="Title of the page.")


class Configuration(Section):
    """The whole configuration of the workflow."""

    output_dir: Path = Field(default=Path("results"), description="Folder of all results.")
    seed: int = Field(default=0, ge=0, description="Seed of every random choice.")
    device: str = Field(default="cpu", description="torch device: cpu, cuda, cuda:0, mps, …")
    structures: StructuresSection = StructuresSection()
    graphs: GraphsSection = GraphsSection()
    properties: PropertiesSection = PropertiesSection()
    screening: ScreeningSection = ScreeningSection()
    kinetics: KineticsSection = KineticsSection()
    report: ReportSection = ReportSection()


def validate(model: type[Model], values: dict[str, Any], origin: str) -> Model:
    """Return `values` as a checked `model`.

    Parameters
    ----------
    origin
        Where the values come from (a file's path), named in the message.

    Raises
    ------
    MatmlError
        One line per bad key: the key, its value, and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                parent: Any = model
                for part in item["loc"][:-1]:
                    field = parent.model_fields.get(part)
                    parent = field.annotation if field else parent
                known = ", ".join(getattr(parent, "model_fields", {}))
                lines.append(f"{key}: unknown key; known keys here are {known}")
            else:
                lines.append(
                    f"{key} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
                )
        raise MatmlError(f"{origin}: " + "; ".join(lines)) from None


def read_section(model: type[Model], path: Path | None) -> Model:
    """Read one section's settings from a YAML file; all defaults where `path` is None."""
    if path is None:
        return model()
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MatmlError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise MatmlError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise MatmlError(f"{path}: must hold `key: value` lines, not a {type(values).__name__}")
    return validate(model, values, str(path))
