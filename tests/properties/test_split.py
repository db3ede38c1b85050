"""No test family leaks into training, and every method meets the same episodes."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.core.errors import MatmlError
from matml.properties.data.split import (
    Split,
    draw_episodes,
    labelled_members,
    same_materials,
    split_families,
)
from matml.structures.crystals import CrystalSet

SIZES = {"a": 40, "b": 30, "c": 25, "d": 20, "e": 19, "f": 18, "g": 18, "h": 18, "i": 10, "j": 9}


@pytest.fixture
def table():
    rows = []
    for family, size in SIZES.items():
        for number in range(size):
            rows.append(
                {
                    "id": f"{family}{number}",
                    "family": family,
                    "common_name": "rocksalt" if family == "i" else "",
                    "duplicate_of": "",
                    "energy": float(number),
                }
            )
    return pd.DataFrame(rows)


def make(table, **options):
    chosen = {"smallest_family": 18, "smallest_task": 8, "members": 2, "cross_folds": 5} | options
    return split_families(table, **chosen)


def test_every_fourth_family_by_size_is_for_test(table):
    split = make(table)
    assert split.test == ("d", "h")
    assert split.validation == ("b", "f")
    assert set(split.folds) == {"a", "c", "e", "g", "i", "j"}
    assert sorted(split.folds.values()) == [0, 0, 0, 1, 1, 1]


def test_more_members_than_folds_share_them(table):
    split = make(table, members=5, cross_folds=2)
    assert split.cross_folds == 2
    assert [split.fold_of(member) for member in range(5)] == [0, 1, 0, 1, 0]
    # and there are never more folds than members
    assert make(table, members=2, cross_folds=5).cross_folds == 2


def test_families_too_small_for_a_task_are_dealt_to_members_too(table):
    split = make(table, smallest_task=15)
    assert set(split.folds) == {"a", "c", "e", "g", "i", "j"}
    with pytest.raises(MatmlError, match="4 training families have at least 15"):
        make(table, smallest_task=15, members=5)


def test_over_the_folds_each_large_family_is_for_test_once_and_for_validation_once(table):
    splits = [make(table, fold=fold, folds=4) for fold in range(4)]
    large = sorted(name for name, size in SIZES.items() if size >= 18)
    assert sorted(sum((split.test for split in splits), ())) == large
    assert sorted(sum((split.validation for split in splits), ())) == large
    for split in splits:
        assert not set(split.test) & set(split.validation)
        assert set(split.folds) == set(SIZES) - {*split.test, *split.validation}
    with pytest.raises(MatmlError, match="--fold 4 of 4"):
        make(table, fold=4, folds=4)


def test_held_out_families_are_for_test_by_any_of_their_names(table):
    assert make(table, held_out=["rocksalt"]).test == ("d", "h", "i")
    assert make(table, held_out=["b"]).validation == ("f",)
    with pytest.raises(MatmlError, match="'garnet'"):
        make(table, held_out=["garnet"])


def test_training_rows_hold_no_test_validation_or_fold_family(table):
    split = make(table)
    families = table["family"].to_numpy()
    trained = set(families[split.training_rows(families)])
    assert trained == set(SIZES) - {"d", "h", "b", "f"}
    own = {family for family, fold in split.folds.items() if fold == 1}
    assert set(families[split.training_rows(families, without_fold=1)]) == trained - own


def test_duplicates_count_once(table):
    copies = table[table["family"] == "e"].assign(duplicate_of="e0", id=lambda t: t["id"] + "x")
    split = make(pd.concat([table, copies, copies.assign(id=lambda t: t["id"] + "y")]))
    assert split.test == ("d", "h")


def test_too_few_families_is_an_error(table):
    with pytest.raises(MatmlError, match="lower `smallest_family`"):
        make(table, smallest_family=31)
    with pytest.raises(MatmlError, match="folds"):
        make(table, members=9, cross_folds=9)


def test_split_survives_the_file(table, tmp_path):
    split = make(table)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split


def episodes(table, seed=0):
    return draw_episodes(
        table, ["a", "d", "j"], ["energy"], shots=[0, 5, 20], draws=3, smallest_query=5, seed=seed
    )


def test_supports_are_nested_and_queries_shared(table):
    drawn = episodes(table)
    family = table["family"].to_numpy()
    for (name, _), group in drawn.groupby(["family", "draw"]):
        supports = group.sort_values("shots")["support"].tolist()
        for small, large in pairwise(supports):
            assert large[: len(small)] == small
        queries = group["query"].map(tuple)
        assert len(set(queries)) == 1
        assert set(queries.iloc[0]).isdisjoint(supports[-1])
        assert set(family[[*queries.iloc[0], *supports[-1]]]) == {name}


def test_shots_that_leave_too_few_queries_are_left_out(table):
    largest = episodes(table).groupby("family")["shots"].max()
    # nine members leave four queries beside five shots: family j has no episode at all
    assert largest.to_dict() == {"a": 20, "d": 5}


def test_draws_depend_on_the_seed_only(table):
    pd.testing.assert_frame_equal(episodes(table), episodes(table))
    assert episodes(table)["support"].tolist() != episodes(table, seed=1)["support"].tolist()


def test_a_distorted_form_of_a_held_out_material_is_not_learned_from():
    def perovskite(a, c, shift=0.0, elements=("Ba", "Ti", "O")):
        sites = [[0, 0, 0], [0.5, 0.5, 0.5 + shift], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        species = [elements[0], elements[1], *[elements[2]] * 3]
        return Structure(Lattice.tetragonal(a, c), species, sites)

    made = CrystalSet.from_structures(
        [
            perovskite(4.03, 4.03),
            perovskite(4.0, 4.1, 0.01),
            perovskite(3.6, 3.6),
            perovskite(4.0, 4.1, 0.01, ("Sr", "Ti", "O")),
            perovskite(5.0, 5.1, 0.02, ("Cs", "Pb", "I")),
        ],
        ids=["cubic", "tetragonal", "dense", "other", "same_id"],
    )
    table = made.table.assign(
        family=["test", "rest", "rest", "rest", "rest"], material_id=["1", "2", "3", "4", "1"]
    )
    split = Split(("test",), (), {}, 2)
    assert same_materials(CrystalSet(table, made.graphs), split) == ["same_id", "tetragonal"]


def test_a_repeated_crystal_is_a_member_once():
    table = pd.DataFrame(
        {
            "id": ["x", "y", "z"],
            "duplicate_of": ["", "x", "x"],
            "energy": [1.0, 1.1, np.nan],
            "modulus": [np.nan, 5.0, np.nan],
        }
    )
    assert labelled_members(table, "energy").tolist() == [True, False, False]
    assert labelled_members(table, "modulus").tolist() == [False, True, False]
