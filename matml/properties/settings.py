"""Settings of the property predictors."""

from pydantic import (
    Field,
    field_validator,
)

from matml.core.errors import MatmlError
from matml.core.settings import Section


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
        description="Families of at least this many crystals take turns as test and validation.",
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
    processes: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that share the training of one member (started by `torchrun`).",
    )
    mixed_precision: bool = Field(
        default=False,
        description="Whether pre-training multiplies matrices in bfloat16, on a GPU only.",
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
    gp_exact_up_to: int = Field(
        default=4000,
        ge=10,
        description="Training labels of a property up to which its global GPs are exact; with more "
        "they are exact within blocks of neighbours, so that cost grows with the labels.",
    )

    def check_device(self, device: str) -> None:
        """Refuse mixed precision on the processor, where it would be slower and less exact.

        Raises
        ------
        MatmlError
        """
        if self.mixed_precision and device == "cpu":
            raise MatmlError(
                "properties.mixed_precision = true with device = cpu: bfloat16 saves time on a GPU "
                "only; set device: cuda (or another GPU), or mixed_precision: false"
            )

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
