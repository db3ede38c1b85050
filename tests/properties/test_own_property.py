"""A property that the model does not know, from its labels."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import read_json, write_table
from matml.properties.data.targets import own_property
from matml.properties.dataset import Workbench, make_split
from matml.properties.methods.registry import LABEL_PROCESS
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import SHIPPED
from matml.properties.settings import PropertiesSection
from matml.structures.settings import STRUCTURES

ENERGY = "formation_energy_eV_per_atom"


@pytest.fixture(scope="module")
def predictor(folder):
    return FewShotPredictor.load(folder / "model")


@pytest.fixture(scope="module")
def labelled(bench):
    """Crystals whose volume, a thing that can be told from them, plays a measured property."""
    crystals = bench.crystals.subset(np.arange(60))
    volume = crystals.table["volume_per_atom_A3"].to_numpy(float)
    noise = np.random.default_rng(0).normal(size=len(volume))
    return crystals, 100 * np.exp(0.1 * volume / volume.std() + 0.002 * noise)


def test_a_new_property_is_adapted_to(predictor, labelled):
    crystals, values = labelled
    adapted = predictor.adapt(crystals.subset(np.arange(40)), values[:40], "melting_point_K")
    assert (adapted.unit, adapted.method, adapted.shots) == ("K", LABEL_PROCESS, 40)
    table = adapted.predict_table(crystals.subset(np.arange(40, 60)))
    off = (table["prediction"] - values[40:]).abs()
    assert off.mean() < 0.6 * np.abs(values[40:] - values[:40].mean()).mean()
    assert (off <= (table["high"] - table["low"]) / 2).mean() > 0.7
    # others do not change a crystal's numbers
    alone = adapted.predict_table(crystals.subset(np.array([47])))
    np.testing.assert_allclose(alone["prediction"], table["prediction"][7], rtol=1e-6)


def test_a_linear_change_of_the_labels_changes_predictions_likewise(predictor, labelled):
    crystals, values = labelled
    support, query = crystals.subset(np.arange(20)), crystals.subset(np.arange(20, 30))
    first = predictor.adapt(support, values[:20], "own", scale="linear").predict(query)
    second = predictor.adapt(support, 7 - 3 * values[:20], "own", scale="linear").predict(query)
    np.testing.assert_allclose(second[0], 7 - 3 * first[0], rtol=1e-6)


@pytest.mark.parametrize(("power", "expected"), [(1.0, False), (30.0, True)])
def test_the_labels_tell_whether_their_logarithm_is_learned(predictor, labelled, power, expected):
    crystals, values = labelled
    given = (values / 100) ** power
    given = given.max() + 0.001 - given if power == 1 else given
    adapted = predictor.adapt(crystals, given, "conductivity_S_per_cm")
    assert adapted.scale.property.logarithmic == expected
    assert any("likelier than" in note for note in adapted.warnings)
    chosen = predictor.adapt(crystals, given, "conductivity_S_per_cm", scale="linear")
    assert not chosen.scale.property.logarithmic


@pytest.mark.parametrize("shape", ["log-normal", "narrow", "modulus"])
def test_the_unit_of_labels_decides_nothing(predictor, labelled, shape):
    """Synthetic labels: the choice of scale and all predictions are those in any unit."""
    crystals, values = labelled
    standard = np.random.default_rng(3).normal(size=14)
    values = {
        "log-normal": 1000 * np.exp(1.5 * standard),
        "narrow": 1000 + standard,
        "modulus": values[:14],
    }[shape]
    support, query = crystals.subset(np.arange(14)), crystals.subset(np.arange(14, 20))
    factors = (1e-9, 1.0, 1e9)
    found = [predictor.adapt(support, values * factor, "own") for factor in factors]
    assert len({own.warnings for own in found}) == 1
    assert len({own.item.logarithmic for own in found}) == 1
    first = found[0].predict(query)
    for own, factor in zip(found[1:], factors[1:], strict=True):
        for ours, others in zip(own.predict(query), first, strict=True):
            np.testing.assert_allclose(ours, others * factor / factors[0], rtol=1e-5)
    if shape == "log-normal":
        assert found[0].item.logarithmic
    if shape == "narrow":
        assert "about as likely" in found[0].warnings[0]


def test_a_run_learns_a_property_of_ones_own(crystals, labelled, tmp_path):
    _, values = labelled
    values = np.resize((values / 100) ** 30, len(crystals))
    table = crystals.table.assign(conductivity_S_per_cm=values)
    write_table(tmp_path / "structures/structures.parquet", table, STRUCTURES)
    crystals.graphs.save(tmp_path / "graphs")
    places = tmp_path / "structures", tmp_path / "graphs", tmp_path / "run"
    names = {"conductivity_S_per_cm": 1.0, ENERGY: 1.0}
    settings = PropertiesSection(properties=names, smallest_family=12, smallest_task=6, members=2)
    make_split(*places, settings, 0)
    bench = Workbench.open(*places, settings)
    learned, energy = bench.properties
    assert (learned.unit, learned.error_unit) == ("S/cm", "log10(S/cm)")
    assert not energy.logarithmic
    known = ~np.isnan(bench.labels[:, 0])
    np.testing.assert_allclose(10 ** bench.labels[known, 0], values[known])
    with pytest.raises(MatmlError, match=r"no label column .density., only .*conductivity"):
        make_split(*places, PropertiesSection(properties={"density": 1.0}), 0)


def test_a_model_of_ones_own_property_knows_its_unit_and_scale(predictor, monkeypatch):
    entry = predictor.card["properties"][ENERGY] | {"unit": "S/cm", "logarithmic": True}
    monkeypatch.setitem(predictor.card["properties"], "conductivity", entry)
    names = ("conductivity", *predictor.recipe.properties[1:])
    monkeypatch.setattr(predictor, "recipe", replace(predictor.recipe, properties=names))
    assert predictor.scale("conductivity").property.error_unit == "log10(S/cm)"


def test_an_odd_label_is_named(predictor, labelled):
    crystals, values = labelled
    wrong = values.copy()
    wrong[11] += 50 * values.std()
    adapted = predictor.adapt(crystals, wrong, "own", scale="linear")
    (note,) = [note for note in adapted.warnings if "check the value" in note]
    assert crystals.table["id"][11] in note
    assert f"{wrong[11]:g}" in note


@pytest.mark.parametrize(
    ("count", "values", "options", "reason"),
    [
        (1, [3.0], {}, "give at least 2"),
        (3, [2.0, 2.0, 2.0], {}, "all 3 labels are 2"),
        (2, [-1.0, 2.0], {"scale": "log"}, "must be positive"),
        (2, [1.0, 2.0], {"scale": "cubic"}, "must be one of"),
        (2, [1.0, float("nan")], {}, "not a finite number"),
        (2, [1.0, 2.0], {"method": "maml"}, "label_process"),
        (2, [1.0, 2.0], {"property_name": "own_K", "unit": "degC"}, "unit K, but .* 'degC'"),
    ],
)
def test_what_cannot_be_learned_is_refused(predictor, labelled, count, values, options, reason):
    with pytest.raises(MatmlError, match=reason):
        predictor.adapt(
            labelled[0].subset(np.arange(count)), values, **{"property_name": "own"} | options
        )


def test_a_known_property_keeps_its_unit(predictor, labelled):
    with pytest.raises(MatmlError, match="known to the model in GPa, not kbar"):
        predictor.adapt(
            labelled[0].subset(np.arange(2)), [1.0, 2.0], "bulk_modulus_GPa", unit="kbar"
        )


@pytest.mark.parametrize(
    ("name", "title", "unit"),
    [
        ("melting_point_K", "melting point", "K"),
        ("energy_meV_per_atom", "energy", "meV/atom"),
        ("hardness", "hardness", ""),
        ("stiffness_Pa", "stiffness", "Pa"),
    ],
)
def test_a_name_tells_the_unit(name, title, unit):
    assert (own_property(name).title, own_property(name).unit) == (title, unit)


def test_files_of_labels_make_a_predictor_that_is_kept(folder, tmp_path):
    pairs = [("Na", "Cl"), ("Mg", "O"), ("Li", "F"), ("K", "Br"), ("Ca", "S"), ("Rb", "I")]
    names, values = [], []
    for number, (a, b) in enumerate(pairs):
        cell, sites = Lattice.cubic(4.2 + 0.4 * number), [[0, 0, 0], [0.5, 0.5, 0.5]]
        crystal = Structure.from_spacegroup("Fm-3m", cell, [a, b], sites)
        crystal.to(str(tmp_path / f"{a}{b}.cif"))
        names.append(f"{a}{b}.cif")
        values.append(300 + 90 * number)
    rows = pd.DataFrame({"file": names, "melting_point_K": values})
    rows.to_csv(tmp_path / "labels.csv", index=False)

    def matml(*arguments):
        return CliRunner().invoke(properties, [*arguments, f"--model={folder}/model"])

    out = tmp_path / "adapted"
    given = ["adapt", f"--support={tmp_path}/labels.csv", f"--out={out}"]
    refused = matml(*given)
    assert isinstance(refused.exception, MatmlError)
    assert "to learn melting_point_K from its labels alone" in str(refused.exception)
    done = matml(*given, "--property=melting_point_K")
    assert done.exit_code == 0, done.output
    assert "6 labels of melting_point_K in K" in done.output
    assert read_json(out / "card.json")["unit"] == "K"
    table = tmp_path / "predictions.csv"
    done = matml(
        "predict", f"--adapted={out}", f"--structures={tmp_path}/NaCl.cif", f"--out={table}"
    )
    assert done.exit_code == 0, done.output
    row = pd.read_csv(table).iloc[0]
    assert (row["property"], row["unit"]) == ("melting_point_K", "K")
    assert row["low"] <= 300 <= row["high"]


@pytest.fixture(scope="module")
def family(pytestconfig):
    """The shipped model for formation energies, and a family that it has not seen."""
    predictor = FewShotPredictor.load()
    checks = [
        entry
        for entry in json.loads((SHIPPED / "checks.json").read_text())
        if entry["property"] == ENERGY and entry["shots"] == 10
    ]
    entry = max(checks, key=lambda entry: len(entry["query"]))
    source = pd.read_csv(pytestconfig.rootpath / "data/crystals/formation_energy.csv.gz", dtype=str)
    ids = [name.split("/")[1] for name in [*entry["support"], *entry["query"][:15]]]
    rows = source.set_index("material_id").loc[ids]
    crystals = predictor.encode([Structure.from_str(p, fmt="poscar") for p in rows["poscar"]])
    return predictor.fitted(ENERGY), crystals.crystals, rows[ENERGY].to_numpy(float)


def adapted_to(family, change):
    fitted, crystals, values = family
    labels = change(values[:10])
    adapted = fitted.adapt(crystals.subset(np.arange(10)), labels, check_units=False)
    found, _ = adapted.predict(crystals.subset(np.arange(10, len(values))))
    return adapted, found, values[10:]


def test_right_labels_leave_the_model_as_it_is(family):
    adapted, _, _ = adapted_to(family, lambda values: values)
    assert adapted.finding.as_learned > 0.9
    assert adapted.warnings == ()


def test_energies_against_another_reference_shift_the_model(family):
    _, before, _ = adapted_to(family, lambda values: values)
    adapted, after, _ = adapted_to(family, lambda values: values + 1.3)
    assert adapted.finding.shifted > 0.9
    (said,) = [note for note in adapted.warnings if "follow the model's predictions after" in note]
    assert re.search(r"adding 1\.[23]\d* eV/atom", said)
    np.testing.assert_allclose(after, before + 1.3, atol=0.1)


def test_another_property_under_the_same_name_is_learned_from_its_labels(family):
    crystals = family[1]
    volume = crystals.table["volume_per_atom_A3"].to_numpy(float)
    adapted, found, _ = adapted_to(family, lambda _: 3 + 0.2 * volume[:10])
    assert adapted.finding.as_learned < 0.1
    truth = 3 + 0.2 * volume[10:]
    mean_error = np.abs(truth - 3 - 0.2 * volume[:10].mean()).mean()
    assert np.abs(found - truth).mean() < 0.8 * mean_error
