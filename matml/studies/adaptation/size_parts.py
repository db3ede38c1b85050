"""The parts of the study of sizes: how many crystals, which sample of them, how many epochs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

FRACTIONS, SAMPLINGS, EPOCHS, SEEDS = (0.1, 0.2, 0.5), ("crystals",), (5, 15, 30), 2
"""What is studied unless something else is asked for."""


@dataclass(frozen=True)
class Part:
    """One training of everything.

    Attributes
    ----------
    sampling
        "crystals": crystals are drawn at random; "families": whole families are.
    fraction
        Share of the training crystals that is kept.
    seed
        Of the sample, the weights and all else.
    """

    sampling: str
    fraction: float
    epochs: int
    seed: int

    def __str__(self) -> str:
        return f"{self.sampling}-{self.fraction:g}-{self.epochs}-epochs-seed-{self.seed}"


def plan(
    fractions: Sequence[float],
    samplings: Sequence[str],
    epochs: Sequence[int],
    full_epochs: int,
    seeds: Sequence[int],
) -> list[Part]:
    """Return the parts: sizes at full epochs, and fewer epochs on all training crystals.

    All crystals, which come first, are one sample however they are drawn: they are trained on with
    the first seed alone.
    """
    everything = Part("crystals", 1.0, full_epochs, seeds[0])
    thinned = [
        Part(sampling, fraction, full_epochs, seed)
        for sampling in samplings
        for seed in seeds
        for fraction in fractions
        if fraction < 1
    ]
    shorter = [replace(everything, epochs=count) for count in epochs if count != full_epochs]
    return [everything, *thinned, *shorter]
