"""Adapting as a user does: plain structures in, numpy out, bad input named."""

import copy
import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element, IStructure, Lattice, Molecule, Structure

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.provenance import file_hash
from matml.meta.checkpoint import load_checkpoint, save_checkpoint
from matml.properties.data import label_checks
from matml.properties.data.batches import GraphBatches
from matml.properties.data.targets import find_property
from matml.properties.predictor import encode
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import FORMAT, TRAINING
from matml.structures.crystals import CrystalSet

NAME = "bulk_modulus_GPa"


@pytest.fixture(scope="module")
def labelled(family):
    """Structures of one family, and their bulk moduli in GPa."""
    structures = [family.structure(row) for row in range(len(family))]
    return structures, family.table[NAME].to_numpy()


def test_structures_in_numpy_out(predictor, labelled):
    structures, values = labelled
    adapted = predictor.adapt(structures[:8], values[:8].tolist(), NAME)
    before = [structure.copy() for structure in structures]
    mean, interval = adapted.predict(structures[8:])
    assert isinstance(mean, np.ndarray)
    assert mean.shape == (6,)
    assert interval.shape == (6, 2)
    assert (interval[:, 0] < mean).all()
    assert (mean < interval[:, 1]).all()
    assert adapted.unit == predictor.properties[NAME] == "GPa"
    # labels of the family move the prediction towards them, on the scale of GPa
    zero, _ = predictor.adapt([], [], NAME).predict(structures[8:])
    logs = [np.abs(np.log10(p / values[8:])).mean() for p in (mean, zero)]
    assert logs[0] < logs[1]
    assert structures == before


def test_predicting_changes_nothing(predictor, labelled):
    structures, values = labelled
    adapted = predictor.adapt(structures[:8], values[:8], NAME)
    first = adapted.predict(structures[8:])
    predictor.adapt(structures[8:], values[8:], NAME).predict(structures[:3])
    again = adapted.predict(iter(structures[8:]))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    # a crystal's prediction does not depend on what is asked for beside it
    alone, of_alone = adapted.predict(structures[10])
    np.testing.assert_allclose(alone, first[0][2:3], rtol=1e-5)
    np.testing.assert_allclose(of_alone, first[1][2:3], rtol=1e-5)


def test_copies_predict_the_same(predictor, labelled):
    """As joblib makes them for its processes."""
    structures, values = labelled
    adapted = predictor.adapt(structures[:8], values[:8], NAME)
    expected, _ = adapted.predict(structures[8:])
    for copied in (pickle.loads(pickle.dumps(adapted)), copy.deepcopy(adapted)):
        np.testing.assert_array_equal(copied.predict(structures[8:])[0], expected)


def test_several_processes_predict_the_same(predictor, labelled, monkeypatch):
    monkeypatch.setattr("matml.structures.crystals.FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr("matml.structures.crystals.AT_ONCE", 2)
    structures, values = labelled
    adapted = predictor.adapt(structures[:8], values[:8], NAME)
    alone, shared = adapted.predict_table(structures), adapted.predict_table(structures, 2)
    numbers = ["prediction", "low", "high", "distance"]
    np.testing.assert_allclose(shared[numbers], alone[numbers], rtol=1e-4)
    assert shared.index.tolist() == list(range(len(structures)))
    overlapping = Structure(np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]])
    with pytest.raises(MatmlError, match=r"structure 5: .*apart"):
        adapted.predict([*structures[:5], overlapping, *structures[5:]], 2)


def test_graphs_are_made_as_the_model_knows_them(predictor, folder, labelled, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    card = read_json(tmp_path / "model/card.json", FORMAT)
    card["recipe"]["graphs"]["neighbours"] = 6
    card["structures"]["symprec_A"] = 0.02
    write_json(tmp_path / "model/card.json", card, FORMAT)
    other = FewShotPredictor.load(tmp_path / "model")
    assert other.encode(labelled[0][0]).crystals.graphs.settings["neighbours"] == 6
    assert other.encoder.structures.symprec_A == 0.02
    mean, _ = other.adapt(labelled[0][:5], labelled[1][:5], NAME).predict(labelled[0][5:])
    assert np.isfinite(mean).all()
    with pytest.raises(MatmlError, match="neighbours is 8, the model was trained with 6"):
        other.adapt(predictor.encode(labelled[0][:5]).crystals, labelled[1][:5], NAME)


def test_the_property_must_be_named_among_several(predictor, labelled):
    structures, values = labelled
    units = r"the model predicts .*bulk_modulus_GPa \(GPa\)"
    with pytest.raises(MatmlError, match=f"no property is named: {units}"):
        predictor.adapt(structures, values)
    # a slip of the pen is no property of one's own
    with pytest.raises(MatmlError, match="is it 'bulk_modulus_GPa', which the model knows"):
        predictor.adapt(structures, values, "bulk_modulus_Gpa")


def test_labels_that_cannot_be_are_refused(predictor, labelled):
    structures, values = labelled

    def refused(value, match):
        changed = values[:5].copy()
        changed[3] = value
        with pytest.raises(MatmlError, match=match):
            predictor.adapt(structures[:5], changed, NAME)

    refused(np.nan, "support crystal 3: bulk_modulus_GPa = nan is not a finite number")
    refused(0.0, "support crystal 3: .* = 0: must be positive")
    refused(1.6e11, "support crystal 3: .*looks like Pa; divide by 1e")
    with pytest.raises(MatmlError, match="4 values for 5 structures"):
        predictor.adapt(structures[:5], values[:4], NAME)
    with pytest.raises(MatmlError, match="not a list of numbers"):
        predictor.adapt(structures[:2], ["soft", "hard"], NAME)
    with pytest.raises(MatmlError, match=r"structure 1: 'NaCl.cif': there is no such file; give"):
        predictor.adapt([structures[0], "NaCl.cif"], values[:2], NAME)
    overlapping = Structure(np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]])
    with pytest.raises(MatmlError, match="structure 1: "):
        predictor.adapt([structures[0], overlapping], values[:2], NAME)


def test_what_is_no_structure_is_named(predictor, labelled):
    structures, values = labelled
    adapted = predictor.adapt(structures[:8], values[:8], NAME)
    # an immutable structure is one structure, not a list of its sites
    mean, _ = adapted.predict(IStructure.from_sites(structures[9]))
    np.testing.assert_array_equal(mean, adapted.predict(structures[9])[0])
    with pytest.raises(MatmlError, match="0: is of the type Molecule, which has no cell"):
        adapted.predict(Molecule("O", [[0, 0, 0]]))
    with pytest.raises(MatmlError, match=r"structures: is of the type NoneType"):
        predictor.adapt(None, values, NAME)
    with pytest.raises(MatmlError, match=r"property \['bulk_modulus_GPa'\] is not known"):
        predictor.adapt(structures, values, [NAME])
    with pytest.raises(MatmlError, match=r"support crystal 1: .* is not a finite number"):
        predictor.adapt(structures[:3], np.ma.array(values[:3], mask=[0, 1, 0]), NAME)


def test_elements_without_features_are_refused_by_name(predictor, labelled):
    adapted = predictor.adapt(labelled[0][:8], labelled[1][:8], NAME)
    for symbol in ("Pu", "Am", "Lr"):
        simple = Structure(Lattice.cubic(3.3), [symbol], [[0, 0, 0]])
        if symbol == "Pu":
            assert adapted.predict_table(simple)["unseen_elements"].tolist() == ["Pu"]
            continue
        with pytest.raises(MatmlError, match=rf"structure 1: .*{symbol}.*up to Z = 94"):
            adapted.predict([labelled[0][9], simple])


def test_a_card_that_is_none_and_a_device_that_is_not_there_are_named(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    card = read_json(tmp_path / "model/card.json", FORMAT)
    without = {key: value for key, value in card.items() if key != "recipe"}
    other = {**card, "recipe": {**card["recipe"], "depth": 3}}
    for wrong, said in ((without, "'recipe'"), (other, "'depth'")):
        write_json(tmp_path / "model/card.json", wrong, FORMAT)
        with pytest.raises(MatmlError, match=rf"card\.json: .*{said}.*export it again"):
            FewShotPredictor.load(tmp_path / "model")
    (tmp_path / "model/card.json").write_text("[]")
    with pytest.raises(MatmlError, match=r"says no format.*export it again"):
        FewShotPredictor.load(tmp_path / "model")
    with pytest.raises(MatmlError, match=r"card\.json/card\.json: no such file"):
        FewShotPredictor.load(folder / "model/card.json")
    with pytest.raises(MatmlError, match=r"device 'abacus' cannot be used here"):
        FewShotPredictor.load(folder / "model", device="abacus")


def test_one_crystal_with_two_labels_is_refused(predictor, labelled, caplog):
    structures, values = labelled
    twice = [*structures[:4], structures[1] * (2, 1, 1)]
    with pytest.raises(MatmlError, match="support crystal 4 is the same crystal as 1, but"):
        predictor.adapt(twice, [*values[:4], values[1] + 1], NAME)
    # the same label twice counts once, and is said
    once = predictor.adapt(structures[:4], values[:4], NAME)
    with caplog.at_level(logging.WARNING):
        both = predictor.adapt(twice, [*values[:4], values[1]], NAME)
    assert "used once" in caplog.text
    assert both.shots == 4
    np.testing.assert_array_equal(both.predict(structures[5:])[0], once.predict(structures[5:])[0])
    # a strained copy is another crystal, whose label may differ
    strained = structures[1].copy()
    strained.apply_strain(0.02)
    adapted = predictor.adapt([*structures[:4], strained], [*values[:4], values[1] * 0.8], NAME)
    assert adapted.shots == 5


def test_few_distinct_labels(predictor, labelled, caplog):
    structures, values = labelled
    with caplog.at_level(logging.WARNING):
        assert predictor.adapt(structures[:1], values[:1], NAME).warnings == ()
        assert not caplog.records
        constant = predictor.adapt(structures[:5], np.full(5, 80.0), NAME, check_units=False)
    assert "all 5 labels of bulk_modulus_GPa are 80" in caplog.text
    assert constant.warnings
    assert np.isfinite(constant.predict(structures[5:])[0]).all()


def test_other_units_are_told_from_surprising_crystals(crystals):
    rows = np.flatnonzero(crystals.table[NAME].notna())[:12]
    chosen, item = crystals.subset(rows), find_property(NAME)
    values = chosen.table[NAME].to_numpy()
    generator = np.random.default_rng(0)
    predicted = np.log10(values) + generator.normal(0, 0.05, len(values))

    def judged(labels):
        return label_checks.check_units(chosen, labels, item, predicted, 0.1, 0.3)

    assert judged(values) == []
    one = values.copy()
    one[np.argmin(values)] *= 10
    with pytest.raises(MatmlError, match=r"looks like kbar: .*1 of 12 labels.*divide by 10"):
        judged(one)
    with pytest.raises(MatmlError, match=r"looks like Mbar: .*multiply by 100"):
        judged(values / 100)
    with pytest.raises(MatmlError, match="looks like log10 of the value"):
        judged(np.log10(values))
    # a factor of 40 is no unit, so it may be true: a warning
    odd = values.copy()
    odd[0] *= 40
    (note,) = judged(odd)
    assert "no common unit explains it" in note


def test_dielectric_constants_are_told_from_refractive_indices():
    """Real crystals; of the shipped model, which has not seen cubic perovskites."""
    table = pd.read_csv(Path(__file__).parents[2] / "data/crystals/dielectric.csv.gz")
    table = table[table["formula"].isin(["BaTiO3", "KTaO3", "KNbO3", "CsPbF3", "RbCaF3", "KMgF3"])]
    cells = table["poscar"].map(lambda text: Structure.from_str(text, fmt="poscar"))
    cubic = cells.map(lambda cell: len(cell) == 5 and cell.lattice.is_orthogonal)
    table = table.assign(cell=cells)[cubic].drop_duplicates("formula")
    cells, indices = table["cell"].tolist(), table["refractive_index"].to_numpy()
    assert len(cells) >= 4
    predictor = FewShotPredictor.load()
    assert predictor.adapt(cells, indices, "refractive_index").warnings == ()
    with pytest.raises(MatmlError, match=r"looks like the dielectric constant.*take the square"):
        predictor.adapt(cells, indices**2, "refractive_index")
    with pytest.raises(MatmlError, match=r"is outside 0\.5 to 50; check the value$"):
        predictor.adapt(cells, indices * 100, "refractive_index")


def test_energies_per_cell_are_told(crystals):
    name = "formation_energy_eV_per_atom"
    face_centred = crystals.table["prototype"].str.contains("_cF")
    rows = np.flatnonzero(crystals.table[name].notna() & face_centred)[:12]
    chosen, item = crystals.subset(rows), find_property(name)
    values = chosen.table[name].to_numpy()
    predicted = values + np.random.default_rng(0).normal(0, 0.05, len(values))

    def judged(labels):
        return label_checks.check_units(chosen, labels, item, predicted, 0.1, 1.0)

    assert judged(values) == []
    sites = chosen.table["n_sites"].to_numpy()
    with pytest.raises(MatmlError, match=r"per (primitive|conventional) cell|per formula unit"):
        judged(values * sites)
    # all of these are face-centred: four primitive cells make the conventional one
    assert set(chosen.table["prototype"].str.extract(r"_([a-z][A-Z])\d+_")[0]) == {"cF"}
    with pytest.raises(MatmlError, match=r"eV per conventional cell: .*divide by the number of"):
        judged(values * sites * 4)


def test_other_units_are_refused_when_adapting(predictor, labelled, monkeypatch):
    structures, values = labelled
    column = predictor.recipe.properties.index(NAME)
    mean, deviation = (
        part[column]
        for part in (predictor.standardisation.mean, predictor.standardisation.deviation)
    )
    # the tiny network of the tests knows too little; its place is taken by the labels
    known = np.zeros((len(values), 2))
    known[:, column] = (np.log10(values) - mean) / deviation
    whole = encode.encode

    def told(crystals, members, device):
        found = whole(crystals, members, device)
        return replace(found, outputs=np.repeat(known[None, : len(found)], len(members), 0))

    monkeypatch.setattr(encode, "encode", told)
    monkeypatch.setitem(predictor.card["properties"][NAME], "expected_error", 0.1)
    few = np.flatnonzero(values < 100)[:1]
    changed = values.copy()
    changed[few] *= 10
    with pytest.raises(MatmlError, match=f"support crystal {few[0]}: .* looks like kbar"):
        predictor.adapt(structures, changed, NAME)
    trusted = predictor.adapt(structures, changed, NAME, check_units=False, method="maml")
    assert trusted.shots == len(values)


def test_elements_that_no_label_holds_are_flagged(predictor):
    known = predictor.fitted(NAME).domain.elements
    assert 92 not in known
    strange = [z for z in range(1, 93) if z not in known][-1]
    familiar = sorted(known)[0], sorted(known)[-1]

    def salt(*numbers):
        symbols = [Element.from_Z(z).symbol for z in numbers]
        places = [[0, 0, 0], [0.5, 0.5, 0.5]]
        return Structure.from_spacegroup("Fm-3m", np.eye(3) * 5.6, symbols, places)

    plain = predictor.adapt([], [], NAME)
    table = plain.predict_table([salt(strange, familiar[1]), salt(*familiar)])
    assert table["unseen_elements"].tolist() == [Element.from_Z(strange).symbol, ""]
    assert not table["in_domain"][0]
    # with a label of it in the support it is no stranger any more
    adapted = predictor.adapt([salt(strange, familiar[1])], [100.0], NAME, check_units=False)
    assert adapted.predict_table(salt(strange, familiar[0]))["unseen_elements"].tolist() == [""]


def test_layers_in_a_vacuum_are_far_from_all_crystals():
    """Of the shipped model: the networks alone do not see the vacuum."""
    predictor = FewShotPredictor.load()
    carbon = ["C", "C"], [[0, 0, 0.5], [1 / 3, 2 / 3, 0.5]]
    graphene = Structure(Lattice.hexagonal(2.46, 20), *carbon)
    graphite = Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.46, 6.7), ["C", "C"], [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]]
    )
    table = predictor.adapt([], [], NAME).predict_table([graphene, graphite])
    assert table["in_domain"].tolist() == [False, True]
    assert table["distance"][0] > 1.2
    # the range is that of the labelled crystals
    domain = predictor.fitted(NAME).domain
    assert (domain.packing(domain.descriptors) <= 1 + 1e-12).all()


def test_other_element_features_are_refused(folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder / "model", model)
    tensors, _ = load_checkpoint(model / "training.safetensors")
    changed = dict(tensors)
    changed["element_features"] = tensors["element_features"].clone()
    changed["element_features"][26, 8] += 0.5
    card = read_json(model / "card.json", FORMAT)

    def write(tensors):
        save_checkpoint(model / TRAINING, tensors, {})
        card["files"][TRAINING] = file_hash(model / TRAINING)
        write_json(model / "card.json", card, FORMAT)

    write(changed)
    with pytest.raises(MatmlError, match=r"log bulk_modulus_GPa \(Fe\) differ by up to 0\.5"):
        FewShotPredictor.load(model)
    write(tensors)
    FewShotPredictor.load(model)
    card["element_features"][0] = "hardness"
    write(tensors)
    with pytest.raises(MatmlError, match="without hardness here; with electronegativity only here"):
        FewShotPredictor.load(model)


def test_training_crystals_are_kept_small(folder, predictor):
    tensors, _ = load_checkpoint(folder / "model/training.safetensors")
    assert "descriptors" not in tensors
    kept = sum(
        tensors[name].numel() * tensors[name].element_size()
        for name in ("elements", "amounts", "element_offset", "geometry")
    )
    descriptors = predictor.training["descriptors"]
    assert kept < descriptors.numel() * descriptors.element_size() / 10


def test_crystal_sets_and_structures_agree(predictor, crystals, labelled):
    adapted = predictor.adapt(labelled[0][:6], labelled[1][:6], NAME)
    plain = adapted.predict_table(labelled[0][6:])
    made = adapted.predict_table(CrystalSet.from_structures(labelled[0][6:]))
    np.testing.assert_array_equal(plain["prediction"], made["prediction"])


def test_networks_run_once_over_crystals(predictor, crystals, labelled, monkeypatch):
    adapted = [
        predictor.adapt(*labelled, NAME),
        predictor.adapt([], [], "formation_energy_eV_per_atom"),
    ]
    few, calls = crystals.subset(np.arange(20)), []
    network = predictor.encoder.members[0].pretrained
    whole = network.embedding
    monkeypatch.setattr(network, "embedding", lambda data: calls.append(1) or whole(data))
    encoded = predictor.encode(few)
    tables = [each.predict_table(encoded) for each in adapted]
    assert len(calls) == 1
    # each property has its own labelled crystals
    assert (tables[0]["distance"] != tables[1]["distance"]).any()


def test_what_is_told_of_a_crystal_does_not_depend_on_its_batch(predictor, crystals):
    from matml.properties.networks.pretrain import embed, predict

    told = predictor.encode(crystals)
    rows = np.arange(0, len(crystals), 7)
    batches = GraphBatches(crystals)
    members = [member.pretrained for member in predictor.encoder.members]
    np.testing.assert_allclose(
        told.inputs.predictions[rows],
        np.mean([predict(network, batches, rows) for network in members], 0),
        atol=1e-5,
    )
    far = predictor.card["properties"][NAME]["far_distances"]
    assert len(far) == len(members)
    each, domain = [], predictor.fitted(NAME).domain
    labelled = ~predictor.training["targets"][:, predictor.recipe.properties.index(NAME)].isnan()
    for number, network in enumerate(members):
        known = predictor.training[f"embeddings.{number}"][labelled].float().numpy()
        own = embed(network, batches, rows)
        square = ((own[:, None].astype(float) - known[None]) ** 2).sum(-1).min(1)
        each.append(np.sqrt(square) / far[number])
    packed = domain.packing(told.descriptors[rows]) <= 1
    placed = domain.placed(told).distance[rows]
    np.testing.assert_allclose(placed[packed], np.mean(each, 0)[packed], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shots", [0, 5])
def test_intervals_are_those_of_the_card(predictor, labelled, shots):
    """Beyond a distance of 1 in proportion wider, for methods that say no width of their own."""
    structures, values = labelled
    for method in ("support_mean", "extra_trees", "global_gp", "pretrained", "network_gp", "maml"):
        adapted = predictor.adapt(structures[:shots], values[:shots], NAME, method=method)
        found = adapted.predict_table(structures[8:])
        width = predictor.card["properties"][NAME]["half_widths"][method][str(shots)]
        half = (np.log10(found["high"]) - np.log10(found["low"])) / 2
        np.testing.assert_allclose(half, width * np.maximum(found["distance"], 1), rtol=1e-6)


@pytest.mark.parametrize("shots", [0, 5])
def test_intervals_of_the_stack_are_calibrated_in_its_deviations(predictor, labelled, shots):
    structures, values = labelled
    fitted = predictor.fitted(NAME, "gp_stack")
    labels, rows = fitted.scale.standardise(values[:shots]), np.arange(shots)
    crystals = predictor.encode(structures)
    distance = fitted.domain.with_support(crystals[rows]).placed(crystals).distance[8:]
    mean, deviation = (part[8:] for part in fitted.over(crystals).posterior(rows, labels))
    half = fitted.method.fitted.scale(shots) * deviation * np.maximum(distance, 1)
    found = fitted.adapt(structures[:shots], values[:shots]).predict_table(structures[8:])
    expected = fitted.scale.restore(np.stack([mean, mean - half, mean + half], 1))
    np.testing.assert_allclose(found[["prediction", "low", "high"]], expected, rtol=1e-5)


def test_a_fitted_method_adapts_to_one_family_after_another(predictor, labelled):
    structures, values = labelled
    fitted = predictor.fitted(NAME)
    for own in (slice(0, 5), slice(5, 10)):
        shared = fitted.adapt(structures[own], values[own])
        alone = predictor.adapt(structures[own], values[own], NAME)
        for found, expected in zip(
            shared.predict(structures[10:]), alone.predict(structures[10:]), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_the_public_face(predictor):
    import matml.properties

    assert isinstance(predictor, matml.properties.FewShotPredictor)
    assert isinstance(predictor.fitted(NAME), matml.properties.FittedPredictor)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = matml.properties.Nothing
