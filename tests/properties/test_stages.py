"""The whole chain on few crystals: split, train, meta-train, evaluate, compare, export, predict."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.settings import read_section
from matml.properties.data.descriptors import describe
from matml.properties.dataset import Workbench
from matml.properties.evaluation.train_and_predict import train_member
from matml.properties.networks.pretrain import predict
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

WRITTEN = ("pretrained", "residual_gp")
"""Files of a member."""


def test_scores_are_those_of_the_predictions(folder, bench):
    scores = pd.read_csv(folder / "properties/evaluation/scores.csv")
    episodes = pd.read_parquet(folder / "properties/episodes.parquet")
    table = pd.concat(
        [pd.read_parquet(folder / f"properties/predictions/{m}.parquet") for m in ("0", "1")]
    )
    name = "formation_energy_eV_per_atom"
    wanted = episodes[(episodes["part"] == "test") & (episodes["property"] == name)]
    wanted = wanted[wanted["shots"] == 5]
    column = bench.names.index(name)
    by_family = {}
    for episode in wanted.itertuples():
        own = table[(table["episode"] == episode.episode) & (table["method"] == "maml")]
        mean = np.mean(own["prediction"].to_list(), 0)
        mean = mean * bench.standardisation.deviation[column] + bench.standardisation.mean[column]
        error = np.abs(mean - bench.labels[episode.query, column]).mean()
        by_family.setdefault(episode.family, []).append(error)
    expected = np.mean([np.mean(errors) for errors in by_family.values()])
    row = scores[
        (scores["property"] == name)
        & (scores["shots"] == 5)
        & (scores["method"] == "maml")
        & (scores["metric"] == "mae_family_mean")
    ]
    assert row["value"].item() == pytest.approx(expected, rel=1e-9)
    assert row["n_families"].item() == len(by_family)


def test_every_method_meets_every_episode(folder):
    scores = pd.read_csv(folder / "properties/evaluation/scores.csv")
    errors = scores[scores["metric"] == "mae_family_mean"]
    counts = errors.groupby(["property", "shots"])["method"].nunique()
    assert set(counts) == {11}
    assert errors["value"].between(0, 5).all()
    summary = json.loads((folder / "properties/evaluation/summary.json").read_text())
    assert len(summary["statements"]) >= 2
    assert set(summary["test_families"]).isdisjoint(summary["validation_families"])


def test_no_test_family_is_trained_on(folder, bench, predictor):
    families = bench.families
    held_out = {*bench.split.test, *bench.split.validation}
    rows = bench.split.training_rows(families)
    assert held_out.isdisjoint(families[rows])
    labelled = (~np.isnan(bench.targets[rows])).any(1)
    stored = predictor.training["descriptors"].numpy()
    np.testing.assert_array_equal(stored, describe(bench.crystals.subset(rows[labelled])))


METHODS = [
    "support_mean",
    "extra_trees",
    "extra_trees_gp",
    "global_gp",
    "global_gp_gp",
    "pretrained",
    "fine_tuned",
    "network_gp",
    "fomaml",
    "maml",
    "gp_stack",
]


@pytest.mark.parametrize("method", METHODS)
def test_the_exported_predictor_repeats_the_evaluation(folder, bench, predictor, method):
    name = "formation_energy_eV_per_atom"
    episodes = pd.read_parquet(folder / "properties/episodes.parquet")
    chosen = episodes[(episodes["property"] == name) & (episodes["shots"] == 5)].iloc[0]
    column = bench.names.index(name)
    stored = method
    if method == "fine_tuned":
        stored = predictor.card["properties"][name]["fine_tuning"]
    tables = [
        pd.read_parquet(path) for path in (folder / "properties/predictions").glob("[01].parquet")
    ]
    tables += [pd.read_parquet(folder / f"properties/predictions/{name}.parquet")]
    tables += [pd.read_parquet(folder / f"properties/predictions/stack-{name}.parquet")]
    found = [
        table[(table["episode"] == chosen["episode"]) & (table["method"] == stored)]
        for table in tables
    ]
    expected = np.mean([own["prediction"].item() for own in found if len(own)], 0)
    mean, deviation = bench.standardisation.mean[column], bench.standardisation.deviation[column]
    values = bench.labels[chosen["support"], column]
    adapted = predictor.adapt(bench.crystals.subset(chosen["support"]), values, name, method=method)
    result = adapted.predict_table(bench.crystals.subset(chosen["query"]))
    np.testing.assert_allclose(
        (result["prediction"] - mean) / deviation, expected, rtol=1e-4, atol=2e-4
    )
    assert (result["low"] < result["prediction"]).all()
    assert (result["prediction"] < result["high"]).all()


def test_predicts_plain_structures_without_labels(predictor):
    salt = Structure.from_spacegroup(
        "Fm-3m", [[5.64, 0, 0], [0, 5.64, 0], [0, 0, 5.64]], ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    table = predictor.adapt([], [], "bulk_modulus_GPa", method="maml").predict_table([salt])
    wanted = "id formula prediction low high distance in_domain unseen_elements outside labelled"
    assert list(table.columns) == [*wanted.split(), "disordered"]
    # a logarithmic property: positive, and an interval that is wider above
    row = table.iloc[0]
    assert 0 < row["low"] < row["prediction"] < row["high"]
    assert row["high"] - row["prediction"] > row["prediction"] - row["low"]


def test_a_training_crystal_is_at_distance_zero(bench, predictor):
    rows = bench.split.training_rows(bench.families)
    labelled = ~np.isnan(bench.targets[rows, bench.names.index("bulk_modulus_GPa")])
    domain = predictor.fitted("bulk_modulus_GPa").domain
    near = bench.crystals.subset(rows[labelled][:5])
    distance = domain.placed(predictor.encode(near)).distance
    assert (distance < 0.05).all()
    strange = Structure([[3, 0, 0], [0, 3, 0], [0, 0, 30]], ["Xe", "H"], [[0, 0, 0], [0.5] * 3])
    far = domain.placed(predictor.encode(CrystalSet.from_structures([strange]))).distance
    assert far[0] > 10 * distance.max()


def test_bad_requests_are_refused(bench, predictor):
    crystals = bench.crystals.subset([0, 1])
    with pytest.raises(MatmlError, match=r"the model predicts .*bulk_modulus_GPa \(GPa\)"):
        predictor.adapt(crystals, [1.0, 2.0])
    with pytest.raises(MatmlError, match="not a finite number"):
        predictor.adapt(crystals, [1.0, np.nan], "bulk_modulus_GPa")
    with pytest.raises(MatmlError, match="3 values for 2"):
        predictor.adapt(crystals, [1.0, 2.0, 3.0], "bulk_modulus_GPa")
    with pytest.raises(MatmlError, match="must be positive"):
        predictor.adapt(crystals, [1.0, -2.0], "bulk_modulus_GPa")
    with pytest.raises(MatmlError, match="method 'magic'"):
        predictor.adapt(crystals, [1.0, 2.0], "bulk_modulus_GPa", method="magic")


def test_graphs_of_other_settings_are_refused(bench, predictor):
    from dataclasses import replace

    crystals = bench.crystals.subset([0, 1])
    other = replace(crystals.graphs, settings=crystals.graphs.settings | {"neighbours": 9})
    with pytest.raises(MatmlError, match=r"neighbours is 9, the model was trained with 8"):
        predictor.adapt(CrystalSet(crystals.table, other), [1.0, 2.0], "bulk_modulus_GPa")


def test_a_damaged_predictor_is_refused(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder / "model", copy)
    file = copy / "member-1/maml.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(MatmlError, match=r"maml\.safetensors"):
        FewShotPredictor.load(copy)
    (copy / "card.json").write_text('{"format": "matml model, version 99"}')
    with pytest.raises(MatmlError, match=r"version 99', .*reads matml model.*matml run"):
        FewShotPredictor.load(copy)


def test_pretraining_resumes_to_the_same_weights(bench, folder, tmp_path, monkeypatch):
    from matml.core.settings import read_section
    from matml.properties.networks import pretrain as module
    from matml.properties.networks.ensemble import load_network

    settings = read_section(PropertiesSection, folder / "properties.yaml")
    options = {"member": 0, "seed": 0, "device": "cpu"}
    real, calls = module.save_checkpoint, []

    def die_after_first(path, tensors, state):
        real(path, tensors, state)
        calls.append(state["epoch"])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_checkpoint", die_after_first)
    with pytest.raises(KeyboardInterrupt):
        train_member(bench, tmp_path, settings, **options)
    assert calls == [1]
    monkeypatch.setattr(module, "save_checkpoint", real)
    train_member(bench, tmp_path, settings, **options)
    recipe = bench.recipe(settings)
    resumed, _ = load_network(tmp_path / "pretrained.safetensors", recipe)
    whole, _ = load_network(folder / "properties/members/0/pretrained.safetensors", recipe)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])
    assert not list(tmp_path.glob("*checkpoint*"))


def test_training_lowers_the_error(bench, folder):
    records = pd.read_csv(folder / "properties/members/0/pretraining.csv")
    assert records["epoch"].tolist() == [1, 6]
    assert records["train_loss"].iloc[1] < 0.95 * records["train_loss"].iloc[0]
    network = bench.recipe(PropertiesSection(width=16, layers=2)).build()
    assert predict(network, bench.batches("cpu"), [0, 3]).shape == (2, 2)


def test_labels_that_are_missing_or_too_few_are_named(folder, tmp_path):
    settings = (folder / "properties.yaml").read_text()
    settings = settings.replace("bulk_modulus_GPa", "band_gap_eV")
    (tmp_path / "properties.yaml").write_text(settings)
    result = CliRunner().invoke(
        properties,
        [
            "split",
            f"--out={tmp_path}",
            f"--structures={folder}/structures",
            f"--graphs={folder}/graphs",
            f"--config={tmp_path}/properties.yaml",
        ],
    )
    assert isinstance(result.exception, MatmlError)
    assert "no label column 'band_gap_eV'" in str(result.exception)


def test_crystals_streamed_from_disk_train_the_same_network_as_in_memory(folder, bench, tmp_path):
    """What is opened in part, with graphs left on disk, against copies of everything."""
    settings = read_section(PropertiesSection, folder / "properties.yaml")
    given = folder / "structures", folder / "graphs", folder / "properties", settings
    streamed = Workbench.open(*given, whole=False)
    assert "lattice" not in streamed.crystals.table
    # a mapped file cannot be written to
    assert not streamed.crystals.graphs.edge_distance.flags.writeable
    everything = bench.crystals.subset(range(len(bench.crystals)))
    assert everything.graphs.edge_distance.flags.writeable
    weights = []
    for one in (streamed, replace(bench, crystals=everything)):
        out = tmp_path / str(len(weights))
        train_member(one, out, settings, member=0, seed=0, device="cpu")
        weights.append([(out / f"{name}.safetensors").read_bytes() for name in WRITTEN])
    assert weights[0] == weights[1]
    rows = [7, 3, 300, 3]
    part, known = streamed.crystals.subset(rows), everything.subset(rows)
    pd.testing.assert_frame_equal(part.table[known.table.columns], known.table)
    assert streamed.crystals.structure(300) == everything.structure(300)
