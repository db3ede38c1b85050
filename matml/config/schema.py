"""The configuration: one typed model per section, with description, unit, default and bounds.

`workflow/config.yaml` holds the defaults; a test keeps it in step with these models.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from matml.core.errors import MatmlError
from matml.core.settings import MOST_SEED, Section
from matml.kinetics.settings import KineticsSection
from matml.properties.settings import PropertiesSection
from matml.report.settings import ReportSection
from matml.screening.settings import ScreeningSection
from matml.structures.settings import GraphsSection, StructuresSection

DEVICE = r"^(cpu|mps|cuda(:\d+)?|xpu(:\d+)?)$"


class Configuration(Section):
    """The whole configuration of the workflow."""

    output_dir: Path = Field(default=Path("results"), description="Folder of all results.")
    seed: int = Field(default=0, ge=0, le=MOST_SEED, description="Seed of every random choice.")
    device: str = Field(
        default="cpu", pattern=DEVICE, description="torch device: cpu, cuda, cuda:0, mps, …"
    )
    structures: StructuresSection = StructuresSection()
    graphs: GraphsSection = GraphsSection()
    properties: PropertiesSection = PropertiesSection()
    screening: ScreeningSection = ScreeningSection()
    kinetics: KineticsSection = KineticsSection()
    report: ReportSection = ReportSection()

    @field_validator("output_dir")
    @classmethod
    def _is_a_folder_of_its_own(cls, path: Path) -> Path:
        whole = path.absolute().resolve()
        if whole in (here := Path.cwd().resolve(), *here.parents):
            raise ValueError(
                f"is {'the root of the disk' if whole == whole.parent else f'the folder {whole}'}, "
                "whose other files would be taken for results; name a folder of its own, such as "
                "`results`"
            )
        if any(character in str(path) for character in "{}") or not str(path).isprintable():
            raise ValueError(
                "holds braces or control characters, which Snakemake takes for wildcards or cannot "
                "name; give a plain name, such as `results`"
            )
        # a run writes its settings first
        if whole.is_dir() and any(whole.iterdir()) and not (whole / "settings").is_dir():
            raise ValueError(
                f"the folder {whole} holds other files, which would be taken for results; name a "
                "folder of its own, such as `results`"
            )
        there = next(place for place in (whole, *whole.parents) if place.exists())
        if not there.is_dir():
            raise ValueError(f"{there} is a file; name a folder, such as `results`")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(f"nothing can be written in {there}; name another folder")
        return path

    @model_validator(mode="after")
    def _mixed_precision_has_a_gpu(self) -> "Configuration":
        try:
            self.properties.check_device(self.device)
        except MatmlError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _screened_property_is_learned(self) -> "Configuration":
        if self.screening.support is not None:
            return self  # whose labels tell of what else is screened for
        wanted = {"screening.property": [self.screening.property]}
        if self.screening.objectives:
            from matml.screening.objectives import learned_properties, parse_objectives

            found = learned_properties(parse_objectives(self.screening.objectives))
            wanted = {"screening.objectives": found}
        for key, names in wanted.items():
            if missing := [name for name in names if name not in self.properties.properties]:
                learned = ", ".join(self.properties.properties)
                near = get_close_matches(missing[0], self.properties.properties, 1, 0.8)
                remedy = (
                    f"did you mean {near[0]!r}, or is that one misspelt?"
                    if near
                    else "set it to what candidates are to be ranked by"
                )
                raise ValueError(
                    f"{key} = {missing[0]}: is not among properties.properties ({learned}); "
                    + remedy
                )
        return self
