"""The configuration: one typed model per section, with description, unit, default and bounds.

`workflow/config.yaml` holds the defaults; a test keeps it in step with these models.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

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
    labels: Path | None = Field(
        default=None, description="CSV of labels keyed by a column `id` or `file`."
    )
    symprec_A: float = Field(
        default=0.01,
        ge=1e-5,
        le=0.3,
        description="Symmetry tolerance in angstrom of the crystal and its graph, for a cell of "
        "15 cubic angstrom per atom (it scales with the cell).",
    )
    family_symprec_A: float = Field(
        default=0.1,
        ge=1e-5,
        le=0.5,
        description="Symmetry tolerance in angstrom for space group, prototype and family, "
        "scaled likewise.",
    )
    min_distance_ratio: float = Field(
        default=0.5,
        ge=0.1,
        le=0.9,
        description="Atoms nearer than this share of the sum of their covalent radii overlap.",
    )
    min_volume_per_atom_A3: float = Field(
        default=2.0, gt=0, le=10, description="Smallest volume per atom, cubic angstrom."
    )
    max_volume_per_atom_A3: float = Field(
        default=200.0, ge=20, le=10000, description="Largest volume per atom, cubic angstrom."
    )
    max_sites: int = Field(
        default=1000, ge=1, le=100000, description="Most atoms in a cell as it is read."
    )
    max_file_MB: float = Field(
        default=64.0, gt=0, le=10000, description="Largest structure file read, megabytes."
    )


class GraphsSection(Section):
    """Crystal graphs (`matml structures graph`)."""

    neighbours: int = Field(
        default=12, ge=1, le=64, description="Nearest neighbours per atom; all ties are kept."
    )
    tie_tolerance_A: float = Field(
        default=1e-4,
        ge=1e-8,
        le=0.1,
        description="Distances (angstrom) that follow each other within this are one shell.",
    )


class PropertiesSection(Section):
    """Property predictors: split, training, evaluation (`matml properties …`)."""

    properties: dict[str, float] = Field(
        default={
            "formation_energy_eV_per_atom": 1.0,
            "bulk_modulus_GPa": 0.3,
            "shear_modulus_GPa": 0.3,
            "band_gap_eV": 0.3,
            "refractive_index": 0.3,
        },
        min_length=1,
        description="Properties learned together, with the weight of each in pre-training.",
    )
    smallest_family: int = Field(
        default=18,
        ge=3,
        description="Families of at least so many crystals take turns as test and validation.",
    )
    held_out: list[str] = Field(
        default=["cubic perovskite"],
        description="Families (label or common name) that are for test in any case.",
    )
    smallest_task: int = Field(
        default=8, ge=4, description="Fewest labelled crystals of a (family, property) task."
    )
    members: int = Field(default=10, ge=2, le=32, description="Networks of the ensemble.")
    folds: int = Field(
        default=5,
        ge=2,
        le=16,
        description="Folds of cross-fitting, at most one a member: member m is trained without the "
        "families of fold m modulo this number.",
    )
    width: int = Field(default=64, ge=8, le=1024, description="Features of a node.")
    layers: int = Field(default=3, ge=1, le=12, description="Convolutions.")
    epochs: int = Field(default=60, ge=1, description="Epochs of pre-training.")
    batch_size: int = Field(default=128, ge=1, description="Crystals in a training batch.")
    learning_rate: float = Field(
        default=4e-3, gt=0, le=1, description="Peak learning rate of pre-training."
    )
    weight_decay: float = Field(default=0.05, ge=0, le=10, description="AdamW weight decay.")
    inner_steps: int = Field(default=3, ge=1, le=50, description="Inner steps of MAML.")
    inner_learning_rate: float = Field(
        default=0.01, gt=0, le=10, description="Initial inner learning rate (then learned)."
    )
    meta_batches: int = Field(default=40, ge=0, description="Meta-batches of meta-training.")
    tasks_per_batch: int = Field(default=4, ge=1, description="Tasks in a meta-batch.")
    meta_learning_rate: float = Field(
        default=2e-5, gt=0, le=1, description="Outer learning rate of the starting weights."
    )
    rates_learning_rate: float = Field(
        default=0.1, gt=0, le=10, description="Outer learning rate of the inner rates' logarithms."
    )
    shots: list[int] = Field(
        default=[0, 5, 10, 20], min_length=2, description="Support sizes; 0 must be among them."
    )
    test_draws: int = Field(default=10, ge=1, description="Supports drawn per test family and K.")
    validation_draws: int = Field(
        default=3, ge=1, description="Supports drawn per validation family and K."
    )
    smallest_query: int = Field(
        default=5, ge=1, description="Fewest crystals left to predict in an episode."
    )
    fine_tuning_learning_rates: list[float] = Field(
        default=[3e-4], min_length=1, description="Adam rates tried in fine-tuning."
    )
    fine_tuning_steps: list[int] = Field(
        default=[3, 10], min_length=1, description="Numbers of steps tried in fine-tuning."
    )
    trees: int = Field(default=100, ge=1, description="Trees of the extra-trees baseline.")
    gp_subset: int = Field(
        default=800, ge=10, description="Crystals on which the global GP learns its kernel."
    )
    gp_steps: int = Field(default=60, ge=1, description="Adam steps of the global GP's kernel.")

    @field_validator("properties")
    @classmethod
    def _positive_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if bad := [name for name, weight in value.items() if not 0 < weight <= 100]:
            raise ValueError(f"the weight of {bad[0]} must be above 0 and at most 100")
        return value

    @field_validator("shots")
    @classmethod
    def _shots_start_at_zero(cls, value: list[int]) -> list[int]:
        if 0 not in value or min(value) < 0 or max(value) == 0:
            raise ValueError("must hold 0 and at least one positive number of labels")
        return sorted(set(value))


class ScreeningSection(Section):
    """Candidates and ranking (`matml candidates`, `matml screen`)."""

    family: str = Field(
        default="cubic perovskite",
        description="Family whose prototype the candidates take: a label or a common name.",
    )
    anions: list[Literal["N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"]] = Field(
        default=["O", "F", "S", "Cl", "Br", "I"],
        min_length=1,
        description="Elements allowed on anion sites (those whose anion Shannon lists).",
    )
    exclude_elements: list[str] = Field(
        default=[
            "Tc",
            "Pm",
            "Po",
            "At",
            "Rn",
            "Fr",
            "Ra",
            "Ac",
            "Pa",
            "Np",
            "Pu",
            "Am",
            "Cm",
            "Bk",
            "Cf",
            "Es",
            "Fm",
            "Md",
            "No",
            "Lr",
        ],
        description="Elements never put on a cation site; by default the strongly radioactive.",
    )
    oxidation_states: Literal["common", "icsd"] = Field(
        default="common",
        description="Oxidation states of cations: textbook ones, or those seen in the ICSD.",
    )
    spin: Literal["high", "low"] = Field(
        default="high", description="Spin state of the Shannon radius where both are listed."
    )
    max_coordination_gap: int = Field(
        default=4,
        ge=0,
        le=12,
        description="How far a site's coordination number may be from one that Shannon lists for "
        "the ion; its radius is scaled from there.",
    )
    pauling_margin: float = Field(
        default=0.0,
        ge=-2,
        le=3,
        description="Least electronegativity difference of any anion over any cation (Pauling).",
    )
    tolerance_factor: tuple[float, float] = Field(
        default=(0.81, 1.11), description="Lowest and highest Goldschmidt tolerance factor."
    )
    octahedral_factor: tuple[float, float] = Field(
        default=(0.37, 0.90), description="Lowest and highest r_B / r_X of a perovskite."
    )
    bartel_tau_max: float | None = Field(
        default=None,
        gt=0,
        description="Highest tau of Bartel 2019 (perovskites: 4.18); null: reported, not filtered.",
    )
    radius_margin: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Families other than perovskites: how far an ion's radius may lie outside "
        "the range of the known members on its site, as a fraction of it.",
    )
    max_candidates: int = Field(
        default=20_000, ge=1, le=1_000_000, description="More candidates than this are an error."
    )
    relax: bool = Field(
        default=False,
        description="Whether cells and positions of the candidates made are relaxed with CHGNet "
        "(needs `pip install 'matml[potential]'`).",
    )
    relax_force: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="Relaxation: largest force at convergence (eV/angstrom).",
    )
    relax_steps: int = Field(
        default=200, ge=1, le=100_000, description="Relaxation: steps after which it is given up."
    )
    candidates: list[Path] = Field(
        default=[],
        description="Your own candidate structures, in any form that ingest reads; empty: make "
        "them by substitution.",
    )
    support: Path | None = Field(
        default=None,
        description="CSV of labelled members of the new family; null: draw `shots` of them.",
    )
    property: str = Field(
        default="refractive_index", description="Property to rank by, as in the label columns."
    )
    goal: Literal["minimise", "maximise"] = Field(
        default="maximise", description="Whether low or high values rank first."
    )
    objectives: list[str] = Field(
        default=[],
        description="What is wanted of several properties: 'bulk_modulus_GPa >= 150', "
        "'1 <= band_gap_eV <= 2', 'band_gap_eV = 1.5', 'formation_energy_eV_per_atom minimise', "
        "'energy_above_hull_eV_per_atom <= 0.1'; the first leads. Empty: `property` and `goal`.",
    )
    rank_by: Literal["prediction", "probability", "expected_improvement", "pareto"] = Field(
        default="prediction",
        description="Predicted worth of the goals with the probability of meeting the windows; "
        "that probability alone; expected improvement over the labels times it; Pareto front.",
    )
    shots: int = Field(
        default=10, ge=2, le=1000, description="Labelled members drawn as the default support."
    )
    fewest_examples: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="Candidates with an element that fewer labelled crystals hold are out of the "
        "model's domain.",
    )
    top: int = Field(
        default=20, ge=1, le=100_000, description="Candidates whose structures are written as CIF."
    )
    keep: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Rows of the shortlist; all candidates' scores stand in scores.parquet.",
    )
    diversity: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="How much the first `top` are chosen to be unlike each other in composition "
        "and not by score alone (0).",
    )
    stability: bool = Field(
        default=True,
        description="Whether the best candidates get their energy above the hull of the known "
        "entries where no objective asks for it (needs known formation energies).",
    )
    shards: int = Field(
        default=1, ge=1, le=10_000, description="Jobs among which the candidates are dealt."
    )

    @field_validator("objectives")
    @classmethod
    def _understood(cls, texts: list[str]) -> list[str]:
        if texts:
            # imported here: settings without objectives need no numpy
            from matml.screening.objectives import parse_objectives

            try:
                parse_objectives(texts)
            except MatmlError as error:
                raise ValueError(str(error)) from None
        return texts

    @field_validator("tolerance_factor", "octahedral_factor")
    @classmethod
    def _rising(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not 0 < window[0] < window[1]:
            raise ValueError("must be [low, high] with 0 < low < high")
        return window


class KineticsDataset(Section):
    """One set of observations and the equation it is described by."""

    equation: str = Field(
        min_length=1,
        description="Kinetic equation by name, or a Python file that defines EQUATION.",
    )
    simulate: Literal["jmak", "ttt"] | None = Field(
        default=None, description="Simulate this set of published alloys instead of reading one."
    )
    observations: Path | None = Field(default=None, description="CSV of observations.")
    alloys: Path | None = Field(default=None, description="CSV with one row per alloy.")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        """Refuse a data set with no source or two."""
        if (self.simulate is None) == (self.observations is None):
            raise ValueError("give either `simulate` or `observations`")
        return self


class KineticsSimulation(Section):
    """Simulated observations of published alloys."""

    jmak_table: Path = Field(
        default=Path("data/kinetics/published_jmak.csv"),
        description="Published JMAK exponents and activation energies.",
    )
    steel_table: Path = Field(
        default=Path("data/kinetics/aisi_steels.csv"),
        description="Nominal compositions of steels, wt %.",
    )
    conditions: int = Field(
        default=2, ge=1, le=20, description="Simulated conditions (half times) per JMAK alloy."
    )
    fraction_noise: float = Field(
        default=0.03, ge=0, le=0.3, description="Standard deviation of a transformed fraction."
    )
    time_noise: float = Field(
        default=0.05, ge=0, le=1, description="Standard deviation of a TTT time, log10 of s."
    )
    temperature_noise: float = Field(
        default=1.5, ge=0, le=50, description="Standard deviation of a TTT temperature, K."
    )


class KineticsSection(Section):
    """Kinetic equations across alloys (`matml kinetics …`)."""

    datasets: dict[str, KineticsDataset] = Field(
        default={
            "simulated_jmak": KineticsDataset(equation="jmak", simulate="jmak"),
            "simulated_ttt": KineticsDataset(equation="c_curve", simulate="ttt"),
        },
        min_length=1,
        description="Data sets by name; the name is also the folder of their results.",
    )

    @field_validator("datasets")
    @classmethod
    def _names_are_folders(cls, value: dict[str, KineticsDataset]) -> dict[str, KineticsDataset]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise ValueError(f"the name {name!r} must be letters, digits, '_', '-' and '.'")
        return value

    simulation: KineticsSimulation = KineticsSimulation()
    pseudo_tasks: float = Field(
        default=2.0, ge=0, le=100, description="Weight of the generic covariance, in alloys."
    )
    meta_batches: int = Field(
        default=30, ge=1, le=100_000, description="Meta-batches of MAML and Meta-SGD."
    )
    meta_tasks: int = Field(default=3, ge=1, le=64, description="Alloys in a meta-batch.")
    inner_steps: int = Field(default=8, ge=1, le=100, description="Gradient steps on an alloy.")
    inner_rate: float = Field(
        default=0.5, gt=0, le=10, description="(Initial) rate of those steps; 1 is a full step."
    )
    held_out: float = Field(
        default=0.15, gt=0, lt=0.9, description="Share of composition groups kept from learning."
    )
    calibration_points: int = Field(
        default=5, ge=1, le=1000, description="Observations used to calibrate a held-out alloy."
    )
    calibrated_alloys: int = Field(
        default=2, ge=1, le=1000, description="Held-out alloys to calibrate, at most."
    )
    shots: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 2, 3, 5, 10], min_length=1, description="Observations given in the benchmark."
    )
    draws: int = Field(default=6, ge=1, le=1000, description="Random draws per alloy and shots.")
    folds: int = Field(default=3, ge=2, le=100, description="Grouped folds over alloys.")


class ReportSection(Section):
    """The report page (`matml report`)."""

    title: str = Field(
        default="New families and new alloys from a handful of points",
        min_length=1,
        description="Title of the page.",
    )
    families_shown: int = Field(
        default=20, ge=1, le=100, description="Largest families drawn in the bar chart."
    )
    candidates_shown: int = Field(
        default=100, ge=1, le=1000, description="Rows of the shortlist on the page (5 kB each)."
    )
    crystals_shown: int = Field(
        default=20, ge=0, le=200, description="Best candidates that can be looked at and turned."
    )


DEVICE = r"^(cpu|mps|cuda(:\d+)?|xpu(:\d+)?)$"


class Configuration(Section):
    """The whole configuration of the workflow."""

    output_dir: Path = Field(default=Path("results"), description="Folder of all results.")
    seed: int = Field(default=0, ge=0, description="Seed of every random choice.")
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
