"""Which families are for training, validation and test; and the episodes on which all are judged.

Everything is split by family: no crystal of a validation or test family is seen by any training
stage. All training families, small ones too, are further dealt into folds for cross-fitting: each
member of the ensemble is pre-trained without the families of one fold, and learns to adapt on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_matcher import StructureMatcher

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.folds import deal
from matml.core.integrity.formats import Format
from matml.structures.crystals import CrystalSet

SPLIT_FILE = Format("split of families", 1, "run `matml properties split` again")


@dataclass(frozen=True)
class Split:
    """Families of each part.

    Attributes
    ----------
    test, validation
        Families never trained on; validation ones choose methods and settings.
    folds
        Fold number of each training family.
    members
        Number of the ensemble's members; with more of them than folds, several share a fold.
    """

    test: tuple[str, ...]
    validation: tuple[str, ...]
    folds: dict[str, int]
    members: int

    def write(self, path: Path) -> None:
        """Write as JSON."""
        write_json(
            path,
            {
                "test": list(self.test),
                "validation": list(self.validation),
                "members": self.members,
                "folds": self.folds,
            },
            SPLIT_FILE,
        )

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Read from JSON."""
        record = read_json(path, SPLIT_FILE)
        return cls(
            tuple(record["test"]), tuple(record["validation"]), record["folds"], record["members"]
        )

    def fold_of(self, member: int) -> int:
        """Return the fold that a member's pre-training leaves out."""
        return member % self.cross_folds

    @property
    def cross_folds(self) -> int:
        """Number of folds that the training families are dealt to."""
        return 1 + max(self.folds.values())

    def training_rows(self, families: np.ndarray, without_fold: int | None = None) -> np.ndarray:
        """Return the row numbers to train on, optionally without the families of one fold."""
        held_out = {*self.test, *self.validation}
        held_out |= {name for name, fold in self.folds.items() if fold == without_fold}
        return np.flatnonzero(~np.isin(families, sorted(held_out)))


def split_families(
    table: pd.DataFrame,
    *,
    smallest_family: int,
    smallest_task: int,
    held_out: Sequence[str] = (),
    members: int,
    cross_folds: int,
    fold: int | None = None,
    folds: int = 5,
) -> Split:
    """Return the split of a table of crystals.

    Families with at least `smallest_family` crystals (duplicates counted once) are ordered by size;
    every fourth is for test, beginning with the fourth, and every fourth for validation, beginning
    with the second. The rest, and all smaller families, are for training.
    With `fold`, the ordered families are dealt into `folds` instead: fold `fold` is for test and
    the next one for validation, so that over all folds each family is for test exactly once.

    Parameters
    ----------
    held_out
        Families, or common names of families, that are for test in any case.
    smallest_task
        So many crystals make a family a task; each fold of cross-fitting needs one of its own.
    members, cross_folds
        Networks, and folds that they are dealt to: at most one fold a network.

    Raises
    ------
    MatmlError
        Where a held-out name is unknown, or no family is left for a part.
    """
    unique = table[table["duplicate_of"] == ""]
    sizes = unique.groupby("family").size()
    ordered = sorted(sizes.index, key=lambda family: (-sizes[family], family))
    common = unique.groupby("family")["common_name"].first()
    extra = []
    for name in held_out:
        named = [family for family in ordered if name in (family, common[family])]
        if not named:
            raise MatmlError(
                f"held-out family {name!r}: no crystal belongs to it; "
                "see families.csv of the ingested structures for the names"
            )
        extra += named
    large = [family for family in ordered if sizes[family] >= smallest_family]
    if fold is None:
        chosen, beside = large[3::4], large[1::4]
    else:
        if not 0 <= fold < folds or folds < 3:
            raise MatmlError(f"--fold {fold} of {folds}: must be from 0, below --folds, at least 3")
        dealt = deal(large, folds) if len(large) >= folds else {}
        chosen, beside = ([f for f in dealt if dealt[f] == (fold + i) % folds] for i in (0, 1))
    test = list(dict.fromkeys([*chosen, *extra]))
    validation = [family for family in beside if family not in test]
    if not validation or not test:
        raise MatmlError(
            f"{len(large)} families have at least {smallest_family} crystals: too few to set some "
            "aside for validation and test; lower `smallest_family` or give more crystals"
        )
    rest = [f for f in ordered if f not in {*test, *validation}]
    tasks = sum(sizes[f] >= smallest_task for f in rest)
    cross_folds = min(cross_folds, members)
    if tasks < cross_folds:
        raise MatmlError(
            f"{tasks} training families have at least {smallest_task} crystals, fewer than the "
            f"{cross_folds} folds of cross-fitting; lower `smallest_task` or `folds`"
        )
    dealt = deal(rest, cross_folds) if cross_folds > 1 else dict.fromkeys(rest, 0)
    return Split(tuple(test), tuple(validation), dealt, members)


def same_materials(crystals: CrystalSet, split: Split, tolerance: float = 0.1) -> list[str]:
    """Return ids of training crystals that are a held-out material in a slightly other form.

    A family is a prototype, and a small distortion makes another one of it: tetragonal barium
    titanate would tell about the cubic one. Training crystals that pymatgen's `StructureMatcher`,
    with its default tolerances, takes for a held-out crystal of the same formula are the same
    material, and so are those with its material id. Only pairs whose volumes per atom differ by
    less than `tolerance` are compared, to save time.
    """
    table = crystals.table.assign(position=np.arange(len(crystals)))
    held_out = table["family"].isin([*split.test, *split.validation])
    columns = ["id", "material_id", "formula", "volume_per_atom_A3", "position"]
    pairs = table.loc[~held_out, columns].merge(
        table.loc[held_out, columns], on="formula", suffixes=("", "_held_out")
    )
    ratio = np.log(pairs["volume_per_atom_A3"] / pairs["volume_per_atom_A3_held_out"]).abs()
    known = set(table.loc[held_out, "material_id"]) - {""}
    ids = set(table.loc[~held_out & table["material_id"].isin(known), "id"])
    matcher = StructureMatcher()
    for pair in pairs[ratio <= np.log1p(tolerance)].itertuples():
        if pair.id not in ids and matcher.fit(
            crystals.structure(pair.position), crystals.structure(pair.position_held_out)
        ):
            ids.add(pair.id)
    return sorted(ids)


def labelled_members(table: pd.DataFrame, property_name: str) -> pd.Series:
    """Return which rows carry a label of the property and do not repeat another row that does."""
    labelled = table[property_name].notna()
    original_labelled = table["duplicate_of"].map(dict(zip(table["id"], labelled, strict=True)))
    return labelled & ~original_labelled.eq(True)


def draw_episodes(
    table: pd.DataFrame,
    families: Sequence[str],
    properties: Sequence[str],
    *,
    shots: Sequence[int],
    draws: int,
    smallest_query: int,
    seed: int,
) -> pd.DataFrame:
    """Return the episodes of some families, the same for every method.

    In each draw the members of a family are shuffled once: the K-shot supports are the first K of
    the same order, and the query is what lies behind the largest of them. So a family's errors at
    different K differ by the labels added and by nothing else.

    Parameters
    ----------
    shots
        Support sizes; those that would leave fewer than `smallest_query` crystals are left out for
        that family.

    Returns
    -------
    DataFrame
        property, family, common_name, draw, shots, support (row numbers), query (row numbers).
    """
    rows = []
    for name in properties:
        labelled = labelled_members(table, name)
        for family in families:
            chosen = np.flatnonzero(labelled & (table["family"] == family))
            feasible = [k for k in shots if len(chosen) >= k + smallest_query]
            if not feasible or max(feasible) == 0:
                continue
            common_name = table["common_name"].iloc[chosen[0]]
            for draw in range(draws):
                key = [seed, draw, crc32(f"{name}/{family}".encode())]
                order = np.random.default_rng(key).permutation(chosen)
                for k in feasible:
                    rows.append(
                        {
                            "property": name,
                            "family": family,
                            "common_name": common_name,
                            "draw": draw,
                            "shots": k,
                            "support": order[:k].tolist(),
                            "query": order[max(feasible) :].tolist(),
                        }
                    )
    columns = ["property", "family", "common_name", "draw", "shots", "support", "query"]
    return pd.DataFrame(rows, columns=columns)
