"""The configuration: one typed model per section, with description, unit, default and bounds.

`workflow/config.yaml` holds the defaults; a test keeps it in step with these models.
"""

from pathlib import Path

from pydantic import (
    Field,
    model_validator,
)

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

    @model_validator(mode="after")
    def _screened_property_is_learned(self) -> "Configuration":
        wanted = {"screening.property": [self.screening.property]}
        if self.screening.objectives:
            from matml.screening.objectives import learned_properties, parse_objectives

            found = learned_properties(parse_objectives(self.screening.objectives))
            wanted = {"screening.objectives": found}
        for key, names in wanted.items():
            if missing := [name for name in names if name not in self.properties.properties]:
                raise ValueError(
                    f"{key} = {missing[0]}: is not among "
                    f"properties.properties ({', '.join(self.properties.properties)})"
                )
        return self
