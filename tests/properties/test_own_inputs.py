"""Columns of a user's own as inputs beside the crystals: taken where the labels go with them."""

import pickle

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.from_files import load_adapted, save_adapted
from matml.properties.predictor.regressor import FewShotRegressor
from matml.screening.acquire.label_next import LabelNext

BULK, SHEAR = "bulk_modulus_GPa", "shear_modulus_GPa"


@pytest.fixture(scope="module")
def predictor(folder):
    return FewShotPredictor.load(folder / "model")


@pytest.fixture(scope="module")
def moduli(crystals):
    """Crystals with both moduli; the shear modulus plays a property of one's own."""
    known = crystals.table[SHEAR].notna() & (crystals.table[SHEAR] > 0)
    found = crystals.subset(np.flatnonzero(known))
    return found, found.table[SHEAR].to_numpy(float)


def episodes(moduli, shots, draws=6):
    """Yield random supports and queries."""
    order = np.random.default_rng(0)
    for _ in range(draws):
        rows = order.permutation(len(moduli[0]))
        yield rows[:shots], rows[shots : shots + 60]


def errors(predictor, moduli, shots, inputs):
    """Return the mean absolute errors of log10(G) per episode, and the notes."""
    crystals, values = moduli
    found, notes = [], []
    for support, query in episodes(moduli, shots):
        given = {} if inputs is None else {"inputs": inputs.iloc[support]}
        asked = {} if inputs is None else {"inputs": inputs.iloc[query]}
        adapted = predictor.adapt(
            crystals.subset(support), values[support], "my_G_GPa", scale="log", **given
        )
        mean, _ = adapted.predict(crystals.subset(query), **asked)
        found.append(np.abs(np.log10(mean / values[query])).mean())
        notes += adapted.warnings
    return np.array(found), notes


def test_a_real_column_that_helps_is_used(predictor, moduli):
    inputs = moduli[0].table[[BULK]]
    with_it, notes = errors(predictor, moduli, 15, inputs)
    without, _ = errors(predictor, moduli, 15, None)
    assert with_it.mean() < 0.95 * without.mean()
    assert sum("go with the input bulk_modulus_GPa" in note for note in notes) >= 5


def test_a_column_that_tells_nothing_costs_next_to_nothing(predictor, moduli):
    """Synthetic: random numbers."""
    inputs = pd.DataFrame({"dice": np.random.default_rng(1).normal(size=len(moduli[0]))})
    with_it, notes = errors(predictor, moduli, 15, inputs)
    without, _ = errors(predictor, moduli, 15, None)
    assert with_it.mean() < 1.05 * without.mean()
    assert sum("hardly go with the input dice" in note for note in notes) >= 5


def test_a_computed_value_of_the_same_thing_is_followed(predictor, moduli):
    """Synthetic: the property itself with another slope, an offset and noise."""
    noise = np.random.default_rng(2).normal(size=len(moduli[0]))
    inputs = pd.DataFrame({"computed": 0.8 * np.log10(moduli[1]) + 2 + 0.02 * noise})
    with_it, _ = errors(predictor, moduli, 10, inputs)
    without, _ = errors(predictor, moduli, 10, None)
    assert with_it.mean() < 0.4 * without.mean()


def test_columns_are_given_in_any_way_and_kept(predictor, moduli, tmp_path):
    crystals, values = moduli
    structures = [crystals.structure(i) for i in range(14)]
    index = [f"s{i}" for i in range(14)]
    frame = pd.DataFrame({"structure": structures, BULK: crystals.table[BULK][:14].array}, index)
    support, query = frame[:10], frame[10:]
    labels = pd.Series(values[:10], index[:10])
    adapted = predictor.adapt(support, labels[::-1], "my_G_GPa", inputs=[BULK])
    assert adapted.inputs == (BULK,)
    expected, interval = adapted.predict(query)
    apart = predictor.adapt(structures[:10], values[:10], "my_G_GPa", inputs={BULK: support[BULK]})
    np.testing.assert_allclose(
        apart.predict(structures[10:], inputs=query[[BULK]])[0], expected, rtol=1e-6
    )
    shuffled = adapted.predict(query["structure"], inputs=query[[BULK]][::-1])[0]
    np.testing.assert_allclose(shuffled, expected, rtol=1e-6)
    save_adapted(adapted, tmp_path / "kept")
    for again in (load_adapted(tmp_path / "kept"), pickle.loads(pickle.dumps(adapted))):
        np.testing.assert_allclose(again.predict(query)[1], interval, rtol=1e-6)
    regressor = FewShotRegressor("my_G_GPa", model=predictor.folder, inputs=[BULK])
    np.testing.assert_allclose(regressor.fit(support, labels).predict(query), expected, rtol=1e-6)
    with pytest.raises(MatmlError, match=f"input {BULK}: the crystals come without it"):
        adapted.predict(structures[10:])


@pytest.mark.parametrize(
    ("name", "inputs", "reason"),
    [
        ("own", {"x": [1.0, 1.0, 1.0]}, "input x: is 1 for all 3 labelled crystals"),
        ("own", {"x": [1.0, np.nan, 2.0]}, "has no value of the input x"),
        ("own", {"x": [1.0, "fast", 2.0]}, "crystal .*: input x = 'fast' is not a number; write"),
        ("own", {"x": ["1,5", "2,5", "3,5"]}, "input x = '1,5' is not a number"),
        ("own", {"id": [1.0, 2.0, 3.0]}, "input id: every crystal's row has a column of that"),
        ("own", ["frac_coords"], "input frac_coords: every crystal's row has a column of"),
        ("family", None, "property 'family': every crystal's row has a column of that name"),
        ("own", {"x": [1.0, 2.0]}, "2 values of x for 3 structures"),
        ("own", ["x"], "input x: the crystals come without it"),
        ("own", {"own": [1.0, 2.0, 3.0]}, "input own: is the property itself"),
        (BULK, {"x": [1.0, 2.0, 3.0]}, "the model does not know, and it knows bulk_modulus"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(predictor, moduli, name, inputs, reason):
    support = moduli[0].subset(np.arange(3))
    with pytest.raises(MatmlError, match=reason):
        predictor.adapt(support, [50.0, 60.0, 75.0], name, inputs=inputs)


def test_what_an_input_is_worth_takes_two_labels(predictor, moduli):
    crystals, values = moduli
    frame = pd.DataFrame({"structure": [crystals.structure(i) for i in range(4)], "x": range(4)})
    campaign = LabelNext(frame, "own_GPa", model=predictor, inputs="x")
    for told in range(2):
        campaign.tell(campaign.ids[:told], values[:told])
        with pytest.raises(MatmlError, match=f"input x: {told} labelled crystals?; what it is"):
            campaign.ask()
    campaign.tell(campaign.ids[:2], values[:2])
    assert len(campaign.ask()) == 1


def test_a_column_in_another_unit_is_out_of_the_domain(predictor, moduli):
    crystals, values = moduli
    support, query = crystals.subset(np.arange(20)), crystals.subset(np.arange(20, 50))
    adapted = predictor.adapt(support, values[:20], "own_GPa", inputs=[BULK, BULK])
    assert adapted.inputs == (BULK,)
    known, asked = (x.table[BULK].to_numpy() for x in (support, query))
    inside = known.min() <= asked, asked <= known.max()
    same, kbar = (
        adapted.predict_table(query, inputs={BULK: asked * unit, "remark": ["ours"] * 30})
        for unit in (1.0, 1000.0)
    )
    assert not same["outside"].str.contains(BULK)[inside[0] & inside[1]].any()
    assert (same["in_domain"] & inside[0] & inside[1]).any()
    assert kbar["outside"].str.contains(f"{BULK} = .* far from those of the labelled").all()
    assert not kbar["in_domain"].any()
    assert not adapted.predict_table(support)["outside"].str.contains(BULK).any()


@pytest.mark.parametrize("copy", [lambda y: y, lambda y: 1000 * y + 3, np.log10])
def test_a_copy_of_the_labels_is_noticed(predictor, moduli, copy):
    support, labels = moduli[0].subset(np.arange(12)), moduli[1][:12]
    noise = 1 + 0.02 * np.random.default_rng(4).normal(size=12)
    copied, alike = (
        predictor.adapt(support, labels, "own", inputs={"x": copy(y)}).warnings
        for y in (labels, labels * noise)
    )
    assert any("input x: is own but for a straight line" in each for each in copied)
    assert not any("straight line" in each for each in alike)


def test_a_query_beyond_a_logarithm_is_named(predictor, moduli):
    crystals, values = moduli
    decades = {"x": 10.0 ** np.arange(6)}
    adapted = predictor.adapt(crystals.subset(np.arange(6)), values[:6], "own", inputs=decades)
    with pytest.raises(MatmlError, match=r"x = -1: must be positive, as it is for all labelled"):
        adapted.predict(crystals.subset(np.array([7])), inputs={"x": [-1.0]})


def test_files_of_labels_and_of_columns(folder, tmp_path):
    for number, (a, b) in enumerate([("Na", "Cl"), ("Mg", "O"), ("Li", "F"), ("K", "Br")]):
        cell, sites = Lattice.cubic(4.2 + 0.4 * number), [[0, 0, 0], [0.5, 0.5, 0.5]]
        Structure.from_spacegroup("Fm-3m", cell, [a, b], sites).to(str(tmp_path / f"{a}{b}.cif"))
    rows = "file,T_melt_K,T_computed_K\nNaCl.cif,300,280\nMgO.cif,390,371\nLiF.cif,480,\n"
    (tmp_path / "labels.csv").write_text(rows + "KBr.cif,570,550\n")

    def matml(*arguments):
        done = CliRunner().invoke(properties, [*arguments, f"--model={folder}/model"])
        if done.exception:
            raise done.exception
        return done.output

    out, table = tmp_path / "adapted", tmp_path / "out/predictions.csv"
    given = [
        f"--support={tmp_path}/labels.csv",
        f"--out={out}",
        "--property=T_melt_K",
    ]
    with pytest.raises(MatmlError, match=r"no column 'T_comp' of numbers, only .*T_computed_K"):
        matml("adapt", *given, "--input=T_comp")
    assert "adapted to 3 labels" in matml("adapt", *given, "--input=T_computed_K")
    assert read_json(out / "card.json")["inputs"] == ["T_computed_K"]
    (row,) = pd.read_csv(out / "quarantine.csv").itertuples()
    assert (row.id, row.reason) == ("LiF.cif", "has no value of the input T_computed_K")
    asked = [f"--adapted={out}", f"--structures={tmp_path}/LiF.cif", f"--out={table}"]
    asked += [f"--structures={tmp_path}/KBr.cif"]
    with pytest.raises(MatmlError, match=r"no column 'T_computed_K' of numbers, only none; give"):
        matml("predict", *asked)
    matml("predict", *asked, f"--labels={tmp_path}/labels.csv")
    assert pd.read_csv(table)["id"].tolist() == ["KBr.cif"]
    aside = pd.read_csv(tmp_path / "out/quarantine.csv")
    assert "LiF.cif" in aside["id"].tolist()
    # where the logarithm of an input is taken, a crystal without one is set aside alone
    rows = "file,T_melt_K,sigma\nNaCl.cif,300,0.001\nMgO.cif,390,0.1\nLiF.cif,480,20\n"
    (tmp_path / "labels.csv").write_text(rows)
    matml("adapt", *given, "--input=sigma")
    (tmp_path / "own.csv").write_text("file,sigma\nKBr.cif,3\nLiF.cif,0\n")
    matml("predict", *asked, f"--labels={tmp_path}/own.csv")
    assert pd.read_csv(table)["id"].tolist() == ["KBr.cif"]
    (row,) = pd.read_csv(tmp_path / "out/quarantine.csv").itertuples()
    assert (row.id, row.field) == ("LiF.cif", "sigma")
    assert row.reason.startswith("sigma = 0: must be positive, as it is for all labelled crystals")
