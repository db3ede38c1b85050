"""The predictor with scikit-learn's habits, and what a notebook shows of it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.properties import FewShotRegressor

NAME = "bulk_modulus_GPa"


@pytest.fixture(scope="module")
def labelled(family):
    """Structures by their ids, and their bulk moduli."""
    ids = family.table["id"]
    structures = [family.structure(row) for row in range(len(family))]
    table = pd.DataFrame({"structure": structures, NAME: family.table[NAME].to_numpy()}, index=ids)
    return table[["structure"]], table[NAME]


@pytest.fixture(scope="module")
def regressor(folder):
    return FewShotRegressor(NAME, model=folder / "model", check_units=False)


@pytest.fixture(scope="module")
def fitted(regressor, labelled):
    crystals, values = labelled
    return clone(regressor).fit(crystals[:8], values[:8])


def test_it_predicts_what_the_predictor_does(fitted, predictor, labelled):
    crystals, values = labelled
    adapted = predictor.adapt(crystals[:8], values[:8], NAME, check_units=False)
    expected, interval = adapted.predict(crystals[8:])
    mean, deviation = fitted.predict(crystals[8:], return_std=True)
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_allclose(2 * NORMAL_90 * deviation, interval[:, 1] - interval[:, 0])
    np.testing.assert_array_equal(fitted.predict(crystals[8:]), mean)
    residual = np.square(values[8:] - mean).sum()
    around = np.square(values[8:] - values[8:].mean()).sum()
    assert fitted.score(crystals[8:], values[8:]) == pytest.approx(1 - residual / around)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_it_passes_what_scikit_learn_checks_without_arrays(check, regressor):
    check("FewShotRegressor", clone(regressor))


def test_scikit_learn_clones_crosses_and_searches(regressor, labelled):
    crystals, values = labelled
    assert clone(regressor).get_params() == regressor.get_params()
    with pytest.raises(NotFittedError):
        clone(regressor).predict(crystals)
    folds = KFold(2, shuffle=True, random_state=0)
    scores = cross_val_score(
        regressor, crystals, values, cv=folds, scoring="neg_mean_absolute_error"
    )
    # as by hand, with the crystals in a list
    items = crystals["structure"].tolist()
    train, test = next(folds.split(items))
    own = clone(regressor).fit([items[i] for i in train], values.iloc[train])
    error = np.abs(own.predict([items[i] for i in test]) - values.iloc[test]).mean()
    assert scores[0] == pytest.approx(-error)
    sizes, _, curve = learning_curve(regressor, crystals, values, train_sizes=[2, 5], cv=folds)
    assert (sizes.tolist(), curve.shape) == ([2, 5], (2, 2))
    found = GridSearchCV(regressor, {"method": ["gp_stack", "pretrained"]}, cv=2)
    assert found.fit(crystals, values).best_params_["method"] in ("gp_stack", "pretrained")
    piped = make_pipeline(FunctionTransformer(lambda table: table["structure"]), regressor)
    assert len(piped.fit(crystals, values).predict(crystals)) == len(crystals)


def test_pickles_are_light_and_folders_are_read_again(fitted, labelled, tmp_path, folder):
    crystals, _ = labelled
    expected = fitted.predict(crystals)
    packed = pickle.dumps(fitted)
    assert len(packed) < 50_000
    np.testing.assert_allclose(pickle.loads(packed).predict(crystals), expected)
    fitted.save(tmp_path / "adapted")
    again = FewShotRegressor.load(tmp_path / "adapted", model=folder / "model")
    np.testing.assert_allclose(again.predict(crystals), expected)
    assert again.property_name == NAME


def test_labels_join_predictions_by_index(fitted, labelled):
    crystals, values = labelled
    table = fitted.adapted_.predict_table(crystals)
    assert table.index.equals(crystals.index)
    assert table["labelled"].tolist() == [True] * 8 + [False] * (len(table) - 8)
    assert table["id"].tolist() == crystals.index.tolist()
    joined = crystals.join(values).join(table)
    assert (joined["formula"] == [s.reduced_formula for s in crystals["structure"]]).all()
    # labels in another order are put right
    turned = values[:8][::-1]
    np.testing.assert_allclose(
        fitted.fit(crystals[:8], turned).predict(crystals[8:]), table["prediction"][8:]
    )


def test_what_a_notebook_shows(predictor, fitted, labelled):
    crystals, values = labelled
    adapted = fitted.adapted_
    assert repr(adapted).startswith("AdaptedPredictor(bulk_modulus_GPa in GPa, 8 labels, gp_stack")
    assert "<b>AdaptedPredictor(" in adapted._repr_html_()
    assert "bulk_modulus_GPa (GPa); 2 networks" in repr(predictor)
    page = predictor._repr_html_()
    assert "FewShotPredictor: 2 networks" in page
    assert page.count("<tr") == 1 + len(predictor.properties)
    assert max(map(len, (repr(predictor), repr(predictor.fitted(NAME)), repr(fitted)))) < 400
    ax = adapted.plot(crystals, values)
    assert ax.get_xlabel() == "known bulk modulus (GPa)"
    assert ax.get_xscale() == "linear"  # within a decade
    assert adapted.plot(crystals[:4], values[:4], ax=ax) is ax
    pyplot.close(ax.figure)


def test_a_learning_curve_says_which_crystals_the_model_was_trained_on(predictor, crystals, caplog):
    rows = crystals.table[NAME].notna().to_numpy().nonzero()[0][:40]
    own = crystals.subset(rows)
    trained = (~own.table["family"].isin(predictor.held_out_families)).sum()
    assert 0 < trained < 40
    predictor.fitted(NAME).learning_curve(own, own.table[NAME].to_numpy(), shots=(2,), draws=1)
    assert f"{trained} of 40 crystals are among those that the model was trained on" in caplog.text


def test_a_learning_curve_is_that_of_hand_made_supports(predictor, labelled):
    crystals, values = labelled
    fitted = predictor.fitted(NAME)
    curve = fitted.learning_curve(crystals, values, shots=(0, 4), draws=3, seed=1)
    assert curve.draws.groupby("labels").size().to_dict() == {0: 1, 4: 3}
    assert curve.item.error_unit == "log10(GPa)"
    # the second support of four, by the predictor itself
    generator = np.random.default_rng(1)
    order = [generator.permutation(len(crystals)) for _ in range(3)][2]
    known, others = np.sort(order[:4]), np.sort(order[4:])
    truth = np.asarray(values)
    adapted = fitted.adapt(crystals.iloc[known], truth[known], check_units=False)
    table = adapted.predict_table(crystals.iloc[others])
    error = np.abs(np.log10(table["prediction"] / truth[others])).mean()
    inside = table["low"].to_numpy() <= truth[others]
    inside &= truth[others] <= table["high"].to_numpy()
    drawn = curve.draws.query("labels == 4 and draw == 1").iloc[0]
    assert drawn["error"] == pytest.approx(error, rel=1e-3)
    assert drawn["coverage"] == pytest.approx(inside.mean())
    middle = np.log10(truth[known]).mean()
    assert drawn["mean_error"] == pytest.approx(np.abs(np.log10(truth[others]) - middle).mean())
    ax = curve.plot()
    assert curve.plot(ax) is ax
    assert ax.get_ylabel() == "mean absolute error (log10(GPa))"
    pyplot.close(ax.figure)
    assert "error in log10(GPa) by number of labels" in curve._repr_html_()
    # one that the model does not know: from two labels on, in its own unit
    new = predictor.fitted("hardness_GPa").learning_curve(crystals, truth / 10, draws=2)
    assert new.table["labels"].min() == 2
    assert (new.table["error"] > 0).all()
    for options, said in (
        ({"shots": (len(crystals),)}, "leave fewer than 3 to predict"),
        ({"shots": ()}, "give numbers of labels from 0 on"),
        ({"draws": 0}, "at least one draw"),
        ({"shots": (2.5,)}, "give whole numbers of labels"),
        ({"shots": 2}, "give whole numbers of labels"),
    ):
        with pytest.raises(MatmlError, match=said):
            fitted.learning_curve(crystals, values, **options)
