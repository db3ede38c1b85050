"""Features of anybody's beside the default: learned, weighed by the labels, kept, refused."""

import pickle
import subprocess

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import read_json, read_table, write_table
from matml.potentials.content import contents_of
from matml.properties.features import method
from matml.properties.features.columns import joined
from matml.properties.features.learn import FeatureStack
from matml.properties.new_property.inputs import Columns, are_embedded
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.from_files import load_adapted, save_adapted
from matml.structures.settings import STRUCTURES

BULK, SHEAR = "bulk_modulus_GPa", "shear_modulus_GPa"


@pytest.fixture(scope="module")
def predictor(folder):
    return FewShotPredictor.load(folder / "model")


@pytest.fixture(scope="module")
def elastic(crystals):
    """Crystals with both moduli; the shear modulus plays what somebody computed of each."""
    known = crystals.table[SHEAR].notna() & (crystals.table[SHEAR] > 0)
    return crystals.subset(np.flatnonzero(known))


@pytest.fixture(scope="module")
def table(elastic):
    """Features as somebody may have them, keyed by id."""
    return pd.DataFrame({"id": elastic.table["id"], "G_GPa": elastic.table[SHEAR]})


@pytest.fixture(scope="module")
def learned(predictor, elastic, table, tmp_path_factory):
    found = predictor.learn_features(elastic, table, BULK)
    return found.save(tmp_path_factory.mktemp("features") / "bulk.safetensors")


def held_out(predictor, elastic, fewest=9):
    """Yield the rows of each family that no training stage has seen."""
    for _, rows in elastic.table.groupby("family").indices.items():
        unseen = elastic.table["family"].iloc[rows[0]] in predictor.held_out_families
        if unseen and len(rows) >= fewest:
            yield rows


def errors(predictor, elastic, shots, **options):
    """Return the mean absolute error of log10 K in each held-out family, and the adapted."""
    values, found, all_adapted = elastic.table[BULK].to_numpy(float), [], []
    inputs = options.pop("inputs", None)
    fitted = predictor.fitted(BULK, **options)
    for rows in held_out(predictor, elastic):
        support, query = rows[:shots], rows[shots:]
        adapted = fitted.adapt(elastic.subset(support), values[support], inputs=inputs)
        mean, _ = adapted.predict(elastic.subset(query), inputs=inputs)
        found.append(np.abs(np.log10(mean / values[query])).mean())
        all_adapted.append(adapted)
    return np.array(found), all_adapted


def test_training_crystals_are_recognised(predictor, elastic, learned):
    own = predictor.training["targets"][:, predictor.recipe.properties.index(BULK)]
    # all that are labelled, but those whose shear modulus is not positive
    labelled = (~own.isnan()).numpy()
    assert 0.9 * labelled.sum() < len(learned.rows) <= labelled.sum()
    assert labelled[learned.rows].all()
    held = elastic.table["family"].isin(predictor.held_out_families)
    assert len(learned.rows) <= (~held).sum()
    assert learned.columns.names == ("G_GPa",)


def test_features_that_tell_lower_the_error_and_are_said_to(predictor, elastic, table, learned):
    without, _ = errors(predictor, elastic, 5)
    with_them, adapted = errors(predictor, elastic, 5, features=learned, inputs=table)
    assert len(without) >= 2
    assert with_them.mean() < without.mean()
    weights = [each.adapted.state.weight for each in adapted]
    assert max(weights) > 0.5
    for each, weight in zip(adapted, weights, strict=True):
        assert f"have weight {weight:.2g} against doing without" in each.warnings[0]
        finding = each.finding
        assert finding.as_learned + finding.shifted + finding.alone == pytest.approx(1)


def test_features_that_tell_nothing_cost_next_to_nothing(predictor, elastic, table):
    random = np.random.default_rng(0)
    noise = table.assign(G_GPa=random.permutation(table["G_GPa"].to_numpy()))
    learned = predictor.learn_features(elastic, noise, BULK)
    for shots in (0, 5):
        without, _ = errors(predictor, elastic, shots)
        with_them, _ = errors(predictor, elastic, shots, features=learned, inputs=noise)
        assert with_them.mean() < 1.1 * without.mean()


@pytest.mark.parametrize("shots", [0, 5])
def test_without_weight_the_prediction_is_the_defaults(
    predictor, elastic, table, learned, shots, monkeypatch
):
    monkeypatch.setattr(method, "ODDS", 1e-300)
    rows = next(held_out(predictor, elastic))
    values, query = elastic.table[BULK].to_numpy(float), elastic.subset(rows[shots:])
    support = elastic.subset(rows[:shots]) if shots else []
    options = {"features": learned, "inputs": table}
    own = predictor.adapt(support, values[rows[:shots]], BULK, **options)
    default = predictor.adapt(support, values[rows[:shots]], BULK)
    mean, interval = own.predict(query, inputs=table)
    expected, expected_interval = default.predict(query)
    assert mean == pytest.approx(expected, rel=1e-9)
    assert interval == pytest.approx(expected_interval, rel=1e-9)


def test_the_weight_goes_smoothly_from_the_default_to_the_features(
    predictor, elastic, table, learned, monkeypatch
):
    rows = next(held_out(predictor, elastic))
    support, query = elastic.subset(rows[:5]), elastic.subset(rows[5:])
    values = elastic.table[BULK].to_numpy(float)[rows[:5]]
    weights, means = [], []
    for odds in (1e-3, 1.0, 1e3):
        monkeypatch.setattr(method, "ODDS", odds)
        adapted = predictor.adapt(support, values, BULK, features=learned, inputs=table)
        weights.append(adapted.adapted.state.weight)
        means.append(adapted.predict(query, inputs=table)[0])
    assert weights == sorted(weights)
    # a mean of two, whatever the labels alone say: between its ends
    low, high = np.minimum(means[0], means[2]), np.maximum(means[0], means[2])
    assert (means[1] > low - 1e-9).all()
    assert (means[1] < high + 1e-9).all()


def test_a_kept_stack_is_the_same_and_of_one_model(predictor, elastic, table, learned):
    again = FeatureStack.load(learned.origin, predictor.training)
    assert again.columns.names == learned.columns.names
    rows = next(held_out(predictor, elastic))
    values = elastic.table[BULK].to_numpy(float)[rows[:5]]
    first, second = (
        predictor.adapt(elastic.subset(rows[:5]), values, BULK, features=each, inputs=table)
        for each in (learned, str(learned.origin))
    )
    query = elastic.subset(rows[5:])
    expected = first.predict(query, inputs=table)[0]
    assert second.predict(query, inputs=table)[0] == pytest.approx(expected, rel=1e-9)
    with pytest.raises(MatmlError, match="was learned with another model"):
        FeatureStack.load(learned.origin, {"targets": predictor.training["targets"] + 1})
    with pytest.raises(MatmlError, match="holds no stack with features"):
        FeatureStack.load(predictor.folder / f"{BULK}-stack.safetensors", predictor.training)
    with pytest.raises(MatmlError, match=f"were learned for {BULK}, not for formation_energy"):
        predictor.fitted("formation_energy_eV_per_atom", features=learned)
    with pytest.raises(MatmlError, match="stand beside the default method only"):
        predictor.fitted(BULK, "maml", features=learned)


def test_an_adapted_one_is_kept_with_its_features(predictor, elastic, table, learned, tmp_path):
    rows = next(held_out(predictor, elastic))
    values, query = elastic.table[BULK].to_numpy(float)[rows[:5]], elastic.subset(rows[5:])
    support = elastic.subset(rows[:5])
    adapted = predictor.adapt(support, values, BULK, features=learned, inputs=table)
    expected = adapted.predict(query, inputs=table)[0]
    copy = pickle.loads(pickle.dumps(adapted))
    assert copy.predict(query, inputs=table)[0] == pytest.approx(expected, rel=1e-9)
    own = FeatureStack.load(learned.origin, predictor.training).save(tmp_path / "own.safetensors")
    adapted = predictor.adapt(support, values, BULK, features=own, inputs=table)
    save_adapted(adapted, tmp_path / "adapted")
    again = load_adapted(tmp_path / "adapted")
    assert again.predict(query, inputs=table)[0] == pytest.approx(expected, rel=1e-9)
    own.origin.unlink()
    with pytest.raises(MatmlError, match="is not the stack with features"):
        load_adapted(tmp_path / "adapted")
    unsaved = predictor.learn_features(elastic, table, BULK)
    adapted = predictor.adapt(support, values, BULK, features=unsaved, inputs=table)
    with pytest.raises(MatmlError, match="are in no file yet"):
        save_adapted(adapted, tmp_path / "other")


def test_a_crystal_without_features_is_named(predictor, elastic, table, learned):
    rows = next(held_out(predictor, elastic))
    values = elastic.table[BULK].to_numpy(float)[rows[:5]]
    gone = elastic.table["id"].iloc[rows[2]]
    few = table[table["id"] != gone]
    with pytest.raises(MatmlError, match=f"{gone}: has no value of the input G_GPa"):
        predictor.adapt(elastic.subset(rows[:5]), values, BULK, features=learned, inputs=few)
    adapted = predictor.adapt(
        elastic.subset(rows[:5]), values, BULK, features=learned, inputs=table
    )
    with pytest.raises(MatmlError, match="come without it"):
        adapted.predict(elastic.subset(rows[5:]))


def test_a_table_that_does_not_fit_is_refused(predictor, elastic, table):
    with pytest.raises(MatmlError, match=r"0 of the \d+ crystals that the model was trained on"):
        predictor.learn_features(elastic, table.assign(id="other/" + table["id"]), BULK)
    with pytest.raises(MatmlError, match="stands in several rows"):
        predictor.learn_features(elastic, pd.concat([table, table[:1]]), BULK)
    with pytest.raises(MatmlError, match="no column of numbers"):
        predictor.learn_features(elastic, table[["id"]], BULK)
    with pytest.raises(MatmlError, match="'G_GPa' holds no numbers"):
        predictor.learn_features(elastic, table.astype(str), BULK)
    with pytest.raises(MatmlError, match="are the same for all training crystals"):
        predictor.learn_features(elastic, table.assign(G_GPa=1.0), BULK)
    with pytest.raises(MatmlError, match="no column `id`"):
        predictor.learn_features(elastic, table.drop(columns="id"), BULK)


def test_features_are_joined_by_what_a_crystal_is(elastic, table):
    shuffled = table.assign(content=contents_of(elastic.table)).sample(frac=1, random_state=0)
    renamed = elastic.table.assign(id=[f"x{i}" for i in range(len(elastic))])
    found = joined(shuffled, renamed)
    assert found["G_GPa"].tolist() == table["G_GPa"].tolist()
    changed = renamed.assign(lattice=[1.001 * each for each in renamed["lattice"]])
    assert joined(shuffled, changed)["G_GPa"].isna().all()


def test_an_embedding_is_told_by_its_many_numbers():
    names = ["K_GPa", *(f"f{i}" for i in range(13)), "g1", "g2"]
    assert are_embedded(names).tolist() == [False, *[True] * 13, False, False]
    # its numbers are positive by chance, those of a modulus are not
    values = np.logspace(0, 3, 6)
    scaling = Columns.of(
        names, pd.DataFrame({"id": list("abcdef"), **dict.fromkeys(names, values)})
    )
    assert scaling.logarithmic == (True, *[False] * 13, True, True)


def test_a_property_of_ones_own_takes_features(predictor, elastic, table):
    values = elastic.table[BULK].to_numpy(float)
    order = np.random.default_rng(1).permutation(len(elastic))
    support, query = order[:25], order[25:85]
    without = predictor.adapt(elastic.subset(support), values[support], "my_K_GPa")
    options = {"inputs": table}
    with_them = predictor.adapt(elastic.subset(support), values[support], "my_K_GPa", **options)
    assert any("the labels go with the input G_GPa" in note for note in with_them.warnings)
    first, second = (
        np.abs(np.log10(found / values[query])).mean()
        for found in (
            without.predict(elastic.subset(query))[0],
            with_them.predict(elastic.subset(query), **options)[0],
        )
    )
    assert second < first


def test_an_embedding_does_not_drown_what_stands_beside_it(predictor, elastic, table):
    values = elastic.table[BULK].to_numpy(float)
    numbers = np.random.default_rng(0).normal(size=(len(table), 40))
    both = table.assign(**{f"f{i}": column for i, column in enumerate(numbers.T)})
    order = np.random.default_rng(1).permutation(len(elastic))
    support, query = order[:25], order[25:85]
    found = []
    for inputs in (table, both, both.drop(columns="G_GPa")):
        own = elastic.subset(support)
        adapted = predictor.adapt(own, values[support], "my_K_GPa", inputs=inputs)
        mean, _ = adapted.predict(elastic.subset(query), inputs=inputs)
        found.append(np.abs(np.log10(mean / values[query])).mean())
        told = adapted.warnings
    assert any("f0 and f1 and f2 and 37 more" in note for note in told)
    alone, beside_noise, noise = found
    assert beside_noise < 1.1 * alone
    assert beside_noise < noise


def test_the_commands(folder, elastic, table, tmp_path):
    write_table(tmp_path / "known/structures.parquet", elastic.table, STRUCTURES)
    write_table(tmp_path / "G.csv", table)
    model = f"--model={folder}/model"

    def matml(*arguments, fails=False):
        result = CliRunner().invoke(properties, [*arguments, model])
        assert bool(result.exit_code) == fails, result.output
        return str(result.exception) if fails else result.output

    said = matml(
        *("learn-features", f"--structures={tmp_path}/known", f"--features={tmp_path}/G.csv"),
        *(f"--property={BULK}", f"--out={tmp_path}/bulk.safetensors"),
    )
    assert "1 features of" in said
    rows = next(held_out(FewShotPredictor.load(folder / "model"), elastic))
    own = elastic.table.iloc[rows]
    poscars = [elastic.structure(row).to(fmt="poscar") for row in rows]
    data = pd.DataFrame({"id": own["id"], "poscar": poscars, BULK: own[BULK]})
    write_table(tmp_path / "support.csv", data[:6])
    write_table(tmp_path / "new.csv", data[6:].drop(columns=BULK))
    read = read_ids(tmp_path)
    features = pd.DataFrame({"id": read, "G_GPa": own[SHEAR].to_numpy()})
    # one labelled crystal and one to predict have no features
    write_table(tmp_path / "own.csv", features.drop([1, 7]))
    given = (f"--support={tmp_path}/support.csv", f"--property={BULK}", f"--out={tmp_path}/adapted")
    with_them = f"--with-features={tmp_path}/bulk.safetensors"
    said = matml("adapt", *given, with_them, fails=True)
    assert "take both --with-features" in said
    said = matml("adapt", *given, with_them, f"--features={tmp_path}/own.csv")
    assert "adapted to 5 labels" in said
    assert "have weight" in said
    assert "has no value of the input G_GPa" in said
    assert read_json(tmp_path / "adapted/card.json")["inputs"] == ["G_GPa"]
    asked = (f"--adapted={tmp_path}/adapted", f"--structures={tmp_path}/new.csv")
    out = f"--out={tmp_path}/predictions.csv"
    said = matml("predict", *asked, out, fails=True)
    assert "no column 'G_GPa'" in said
    matml("predict", *asked, out, f"--features={tmp_path}/own.csv")
    found = read_table(tmp_path / "predictions.csv")
    assert len(found) == len(rows) - 7
    assert len(read_table(tmp_path / "quarantine.csv")) == 1


def read_ids(folder):
    """Return the ids under which `ingest` reads the two tables, in their order."""
    from matml.potentials.inputs import read_crystals

    return [
        name
        for file in ("support.csv", "new.csv")
        for name in read_crystals([folder / file])[0]["id"]
    ]


def test_no_potential_is_imported_where_none_is_asked_for(warm):
    code = (
        "import sys, matml.potentials, matml.cli.properties.potential\n"
        "import matml.properties.predictor.few_shot\n"
        "print([name for name in ('ase', 'chgnet', 'sevenn', 'e3nn') if name in sys.modules])"
    )
    call = ["python", "-c", code]
    done = subprocess.run(call, env=warm, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
