"""What the benchmark trains: runs, each with a split of the families of its own.

In setting A families of at least a given size are dealt into folds; each is for test exactly once,
with the next fold for validation and all else for training. In setting B each of some properties
in turn is unknown to all networks; every second fold is run, since test and validation families of
each are for test. The workflow makes all runs by the same rules.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.settings import Section, validate
from matml.properties.settings import PropertiesSection

log = logging.getLogger(__name__)

FAMILIES, MADE_WITH, POTENTIAL = "families.csv", "benchmark.json", "potential.safetensors"
"""Names in the benchmark's folder, and in those of its runs."""
META_METHODS = ("maml", "fomaml", "anil", "meta_sgd", "ridge_head", "gp_head")
"""All methods of meta-learning."""
PROPERTIES = (
    "formation_energy_eV_per_atom",
    "bulk_modulus_GPa",
    "shear_modulus_GPa",
    "refractive_index",
)
"""Properties that setting A scores, unless others are asked for."""
ABSENT = ("bulk_modulus_GPa", "refractive_index")
"""Properties that take the part of the new one in setting B, unless others are asked for."""
SHOTS = (0, 1, 2, 5, 10, 20)
FOLDS = {"A": 5, "B": 6}


@dataclass(frozen=True)
class Run:
    """A split of the families, and how networks are trained and tested on it.

    Attributes
    ----------
    settings
        File of the settings of the section `properties`, and their number of `members`.
    properties
        Those that are tested.
    split, member, scores
        Further options of the commands `matml properties split`, `member`, and of that which
        scores the run.
    potential
        File of the potential's features, if they are taken.
    new_property
        Whether the networks are to take up a property that they were trained without.
    processes
        That share the training of a member.
    """

    settings: str
    members: int
    properties: tuple[str, ...]
    split: tuple[str, ...] = ()
    member: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    potential: tuple[str, ...] = ()
    new_property: bool = False
    processes: int = 1

    @property
    def launch(self) -> list[str]:
        """What starts the command of a member in several processes; nothing for one."""
        if self.processes == 1:
            return []
        # behind -- no option is taken for one of torchrun's
        number = f"--nproc-per-node={self.processes}"
        return ["torchrun", "--standalone", number, "--no-python", "--"]


class Benchmark(Section):
    """What a benchmark is made with; its folder holds the same as `benchmark.json`."""

    setting: Literal["A", "B"] = "A"
    settings: PropertiesSection
    properties: list[str]
    folds: int = Field(ge=3)
    methods: list[str]
    fine_tune: bool
    potential: bool
    seed: int

    @classmethod
    def of(
        cls,
        setting: str,
        settings: PropertiesSection,
        seed: int,
        *,
        folds: int | None = None,
        properties: Sequence[str] = (),
        methods: Sequence[str] = META_METHODS,
        fine_tune: bool = True,
        potential: bool = True,
        **own: Any,
    ) -> "Benchmark":
        """Return the benchmark of a setting.

        Parameters
        ----------
        settings
            Of the networks; families, labels and draws are the benchmark's own.
        folds, properties
            By default those of the setting, as far as the networks learn them.
        own
            Settings that the benchmark is to have otherwise: `smallest_family`, `shots`, `draws`.

        Raises
        ------
        MatmlError
            For a property that is not learned, an odd number of folds, or a single property in
            setting B, where no other would be left to train on.
        """
        learned = list(settings.properties)
        wanted = [n for n in (PROPERTIES if setting == "A" else ABSENT) if n in learned]
        names = list(properties) or wanted or learned[:1]
        if unknown := [name for name in names if name not in learned]:
            raise MatmlError(f"--property {unknown[0]}: the settings learn {', '.join(learned)}")
        folds = folds or FOLDS[setting]
        if setting == "B" and len(learned) < 2:
            raise MatmlError("setting B trains on the other properties: name at least two in all")
        if setting == "B" and (folds % 2 or folds < 4):
            raise MatmlError(f"--folds {folds}: setting B takes an even number of at least 4")
        changed = {
            "smallest_family": own.get("smallest_family", 15),
            "held_out": [],
            "shots": list(own.get("shots") or SHOTS),
            "test_draws": own.get("draws", 20),
        }
        values = {
            "setting": setting,
            "settings": settings.model_dump() | changed,
            "properties": names,
            "folds": folds,
            "methods": list(methods),
            "fine_tune": fine_tune,
            "potential": potential,
            "seed": seed,
        }
        return validate(cls, values, "benchmark")

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the networks by what their file's name ends in."""
        everything = self.settings.model_dump(mode="json")
        if self.setting == "A":
            return {"": everything}
        return {
            f"-without-{name}": everything
            | {"properties": {n: w for n, w in everything["properties"].items() if n != name}}
            for name in self.properties
        }

    def runs(self, folder: str, settings: str, potential: str) -> dict[str, Run]:
        """Return all runs by their folders.

        Parameters
        ----------
        folder
            Where they are; empty or with a slash at its end.
        settings
            What the names of the files of settings begin with.
        potential
            File of the potential's features.
        """
        features = (potential,) if self.potential else ()
        methods = [f"--method={method}" for method in self.methods] or ["--no-meta-learning"]
        tuning = [] if self.fine_tune else ["--no-fine-tuning"]
        names = tuple(f"--property={name}" for name in self.properties)
        members = self.settings.members
        if self.setting == "A":
            return {
                f"{folder}fold-{fold}": Run(
                    f"{settings}.yaml",
                    members,
                    tuple(self.properties),
                    (f"--fold={fold}", f"--folds={self.folds}"),
                    (*methods, *tuning, *names),
                    (f"--fold={fold}", *names),
                    features,
                )
                for fold in range(self.folds)
            }
        return {
            f"{folder}without-{name}/fold-{fold // 2}": Run(
                f"{settings}-without-{name}.yaml",
                members,
                (name,),
                (f"--fold={fold}", f"--folds={self.folds}"),
                tuple(methods),
                (f"--fold={fold}", f"--property={name}", *methods, *tuning),
                features,
                new_property=True,
            )
            for name, fold in product(self.properties, range(0, self.folds, 2))
        }


def check_made_with(out: Path, values: Mapping[str, Any]) -> None:
    """Write what a folder is made with; refuse a folder that was made with something else.

    Raises
    ------
    MatmlError
        Names what differs.
    """
    path = out / MADE_WITH
    if not path.exists():
        write_json(path, values)
        return
    before = read_json(path, shape=dict)
    if differing := [key for key in values if before.get(key) != values[key]]:
        raise MatmlError(
            f"{path}: made with another {', '.join(differing)}; give the same, or another --out"
        )


def with_potential(plan: Benchmark, features: Path) -> Benchmark:
    """Return the benchmark without the potential where its features cannot be had."""
    from matml.potentials.named import CHGNET, HOW, available

    if not plan.potential or features.exists() or available(CHGNET):
        return plan
    log.info("features of %s are left out; to include them, %s", CHGNET, HOW)
    return plan.model_copy(update={"potential": False})


def default_benchmarks(settings: PropertiesSection, seed: int) -> dict[str, Benchmark]:
    """Return the benchmarks of a configuration by their settings."""
    possible = ("A", "B") if len(settings.properties) > 1 else ("A",)
    return {setting: Benchmark.of(setting, settings, seed) for setting in possible}


def benchmark_sections(benchmarks: Mapping[str, Benchmark]) -> dict[str, dict[str, Any]]:
    """Return the settings of the networks of several benchmarks by their files' names."""
    return {
        f"properties-{setting}{name}": section
        for setting, plan in benchmarks.items()
        for name, section in plan.sections().items()
    }
