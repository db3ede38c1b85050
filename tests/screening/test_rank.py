"""Ranking, on tables small enough to check by eye."""

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.screening.data.known import check_on_known, compared, flag_known, known_values
from matml.screening.score.applicability_domain import Domain
from matml.screening.select.summary import _beyond, _learned


def perovskite(a, b, x, edge, shift=0.0):
    positions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Structure(Lattice.cubic(edge), [a, b, x, x, x], positions + shift)


def table_of(structures, **columns):
    return pd.DataFrame(
        {
            "id": list(structures),
            "formula": [s.composition.reduced_formula for s in structures.values()],
            "prototype": "cubic",
            "duplicate_of": "",
            "lattice": [s.lattice.matrix.ravel() for s in structures.values()],
            "frac_coords": [s.frac_coords.ravel() for s in structures.values()],
            "atomic_numbers": [s.atomic_numbers for s in structures.values()],
        }
    ).assign(**columns)


KNOWN = {
    "known/0": perovskite("Sr", "Ti", "O", 3.9),
    "known/1": perovskite("Ba", "Ti", "O", 4.0),
    "known/2": perovskite("Sr", "Ti", "O", 3.95),
}


@pytest.fixture
def known():
    table = table_of(KNOWN, band_gap_eV=[np.nan, 1.8, 2.0])
    table["duplicate_of"] = ["", "", "known/0"]
    return table


def test_known_crystals_are_flagged(known):
    candidates = {
        # another origin, the same crystal
        "a": perovskite("Sr", "Ti", "O", 3.92, shift=0.5),
        # A and B exchanged: the composition is known, the crystal is not
        "b": perovskite("Ti", "Ba", "O", 4.1),
        "c": perovskite("Ca", "Ti", "O", 3.9),
        # the same crystal in a guessed cell, and with a mistyped edge
        "d": perovskite("Sr", "Ti", "O", 4.1, shift=0.5),
        "e": perovskite("Sr", "Ti", "O", 4.9),
        # of another prototype: no copy, but the composition is known
        "f": perovskite("Sr", "Ti", "O", 3.92),
    }
    table = table_of(candidates)
    table.loc[table["id"] == "f", "prototype"] = "hexagonal"
    flags = flag_known(table, known)
    assert flags["duplicate_of"].tolist() == ["known/0", "", "", "", "", ""]
    assert flags["strained_copy_of"].tolist() == ["", "", "", "known/0", "", ""]
    assert flags["known_composition"].tolist() == [True, True, False, True, True, True]
    # the label of a copy of the duplicate counts
    values = known_values(flags, known, "band_gap_eV")
    np.testing.assert_array_equal(values, [2.0, np.nan, np.nan, 2.0, np.nan, np.nan])
    # a strained copy of what the user has labelled checks nothing
    values = known_values(flags, known, "band_gap_eV", {"known/0"})
    np.testing.assert_array_equal(values, [2.0, *[np.nan] * 5])
    assert np.isnan(known_values(flags, known, "refractive_index")).all()


def predictions(values):
    values = np.asarray(values, dtype=float)
    return pd.DataFrame(
        {
            "prediction": values,
            "low": values - 1,
            "high": values + 1,
            "distance": 0.5,
            "in_domain": True,
        }
    )


def test_unmet_elements_and_predictions_beyond_all_labels_leave_the_domain():
    labelled = pd.DataFrame(
        {"atomic_numbers": [[8, 22, 38]] * 5 + [[8, 58]], "refractive_index": [1.5, 2, 2, 2, 2, 3]}
    )
    candidates = [[8, 22], [8, 58, 92], [22, 38], [8, 38]]
    found = predictions([2.0, 2.5, 3.5, 1.4]).assign(in_domain=True)
    judged = Domain.of(labelled, "refractive_index", 5).judge(found, candidates)
    assert judged["rare_elements"].tolist() == ["", "Ce U", "", ""]
    assert judged["beyond_labels"].tolist() == [False, False, True, True]
    assert judged["in_domain"].tolist() == [True, False, False, False]
    beyond = "predicted beyond the known values of all families"
    assert judged["outside"].tolist() == [
        "", "hardly any labelled crystal holds Ce U", beyond, beyond,
    ]  # fmt: skip
    # what the model finds too far stays out
    far = Domain.of(labelled, "refractive_index", 0).judge(
        found.assign(in_domain=False, outside="sites partly empty"), candidates
    )
    assert not far["in_domain"].any()
    assert far["outside"].str.startswith("sites partly empty").all()


def test_check_on_known_leaves_the_support_out():
    table = predictions([1.0, 2.0, 4.0, 9.0]).assign(
        known_value=[1.5, 2.5, 2.5, 9.0], in_support=[False, False, False, True], held_out=True
    )
    found = check_on_known(table, support_mean=2.0)
    assert found["n"] == 3
    assert found["mean_absolute_error"] == pytest.approx((0.5 + 0.5 + 1.5) / 3)
    assert found["mean_absolute_error_of_support_mean"] == pytest.approx(0.5)
    assert found["share_inside_90_percent_interval"] == pytest.approx(2 / 3)
    assert check_on_known(table.assign(known_value=np.nan), 2.0) == {"n": 0}
    assert (found["held_out"], found["n_perhaps_learned"]) == (True, 0)
    # 2.5 twice, inside the interval of one of the two
    told = " (2 lie above the highest label of the support, 1 of them inside)"
    assert _beyond(compared(table), [1.0, 2.0]) == told
    assert _beyond(compared(table), [2.5]) == ""


def test_labels_that_the_model_may_have_learned_are_no_check():
    table = predictions([1.0, 2.0, 4.0, 9.0]).assign(
        known_value=[1.5, 2.0, 4.0, 9.0], in_support=False, held_out=[True, False, False, False]
    )
    found = check_on_known(table, support_mean=2.0)
    assert (found["n"], found["n_perhaps_learned"], found["held_out"]) == (1, 3, True)
    assert found["mean_absolute_error"] == pytest.approx(0.5)
    learned = check_on_known(table[1:], support_mean=2.0)
    assert _learned(found) == " (3 more, of families not held out in training, are not counted)."
    assert "says nothing of new crystals" in _learned(learned)
    assert (learned["n"], learned["n_perhaps_learned"], learned["held_out"]) == (3, 3, False)
