"""Settings of candidates and screening."""

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    field_validator,
)

from matml.core.errors import MatmlError
from matml.core.settings import Section


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
        "'energy_above_hull_eV_per_atom <= 0.1', 'raw_material_cost_per_kg minimise'; the first "
        "leads. Empty: `property` and `goal`.",
    )
    units: dict[str, str] = Field(
        default={},
        description="Units of properties of your own whose names do not end in them, as "
        "`{melting_point: K}`.",
    )
    inputs: list[str] = Field(
        default=[],
        description="Columns that are known of labelled crystals and candidates alike, such as a "
        "computed value, from which properties of your own are learned too.",
    )
    prices: Path | None = Field(
        default=None,
        description="CSV of elements' prices (element, price_per_kg and, if known, volatility per "
        "year and currency) for objectives on raw_material_cost_per_kg; null: pymatgen's of 2013.",
    )
    price_horizon_years: float = Field(
        default=1.0,
        gt=0,
        le=30,
        description="Years ahead to which the band of the raw material's cost refers.",
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

    @field_validator("exclude_elements")
    @classmethod
    def _elements(cls, symbols: list[str]) -> list[str]:
        import gemmi  # which few settings need

        for symbol in symbols:
            if symbol == "X" or gemmi.Element(symbol).name != symbol:
                raise ValueError(f"{symbol!r} is not an element; give symbols such as 'Pb'")
        return symbols

    @field_validator("tolerance_factor", "octahedral_factor")
    @classmethod
    def _rising(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not 0 < window[0] < window[1]:
            raise ValueError("must be [low, high] with 0 < low < high")
        return window
