"""The benchmark tests every large family once, resumes, and counts families alike."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark_jobs import InProcess
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import write_table
from matml.core.statistics import rank_correlation
from matml.meta.checkpoint import save_checkpoint
from matml.potentials.content import contents_of
from matml.properties.benchmark.new_family import DEFAULT
from matml.properties.benchmark.report import (
    ENSEMBLES,
    OURS,
    best_baseline_ratios,
    learning_gains,
    mean_ratios,
    tidy_records,
)
from matml.properties.data.descriptors import describe
from matml.structures.settings import STRUCTURES

NAME = "formation_energy_eV_per_atom"
SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}
smallest_task: 6
members: 2
width: 16
layers: 2
batch_size: 32
epochs: 2
validation_draws: 2
smallest_query: 3
trees: 10
gp_subset: 60
gp_steps: 5
meta_batches: 1
"""
OPTIONS = [
    "--folds=3",
    "--smallest-family=12",
    "--shots=0",
    "--shots=5",
    "--draws=2",
    f"--property={NAME}",
    "--skip=fine-tuning",
    "--skip=potential",
    "--skip=meta-learning",
]


@pytest.fixture(scope="module")
def place(crystals, tmp_path_factory):
    place = tmp_path_factory.mktemp("benchmark")
    write_table(place / "structures/structures.parquet", crystals.table, STRUCTURES)
    crystals.graphs.save(place / "graphs")
    (place / "properties.yaml").write_text(SETTINGS)
    return place


def run(place, *more, out="out", options=OPTIONS, jobs=None):
    common = [
        f"--structures={place}/structures",
        f"--graphs={place}/graphs",
        f"--config={place}/properties.yaml",
        f"--out={place}/{out}",
        f"--json={place}/{out}.json",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matml.cli.properties.benchmark.subprocess", jobs or InProcess())
        result = CliRunner().invoke(
            properties, ["benchmark", *options, *common, *more], catch_exceptions=False
        )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def first(place):
    return run(place)


@pytest.fixture(scope="module")
def scores(place, first):
    return pd.concat(
        [pd.read_csv(place / f"out/fold-{fold}/families.csv") for fold in range(3)],
        ignore_index=True,
    )


def test_each_large_family_is_for_test_once(crystals, scores):
    unique = crystals.table[crystals.table["duplicate_of"] == ""]
    unique = unique[unique["family"].map(unique["family"].value_counts()) >= 12]
    labelled = unique.groupby("family")[NAME].count()
    own = scores[(scores["method"] == "gp_stack") & (scores["shots"] == 5)]
    assert sorted(own["family"]) == sorted(labelled.index[labelled >= 8])
    assert not own["family"].duplicated().any()


def test_every_method_has_every_family(scores):
    counts = scores.pivot_table(index="method", columns="shots", values="family", aggfunc="count")
    assert (counts == counts.iloc[0]).all(axis=None)
    expected = {"gp_stack", "network_gp", "global_gp", "extra_trees_gp"}
    expected |= {"support_ridge", "support_gp", "embedding_ridge", "embedding_gp"}
    expected |= {"one_pretrained", "one_network_gp", "one_embedding_ridge", "one_embedding_gp"}
    assert expected <= set(counts.index)
    assert scores["inside"].between(0, 1).all()
    assert (scores["width"] > 0).all()


def test_errors_of_one_network_are_means_over_the_members(place, first, scores):
    """A mean of predictions is never farther off than its parts are on average."""
    error = scores.pivot_table(index=["family", "shots"], columns="method", values="error")
    for method in ("pretrained", "network_gp"):
        assert (error[f"one_{method}"] >= error[method] - 1e-12).all()
        assert (error[f"one_{method}"] > error[method] + 1e-6).any()


def test_a_finished_benchmark_only_prints_again(place, first):
    jobs = InProcess()
    assert run(place, jobs=jobs) == first
    assert not jobs.done


def test_a_fold_goes_on_from_what_is_there(place, first, scores, warm, monkeypatch):
    """By Snakemake itself, in processes of its own."""
    monkeypatch.setenv("PATH", warm["PATH"])
    (place / "out/fold-1/families.csv").unlink()
    (place / f"out/fold-1/predictions/features-{NAME}.parquet").unlink()
    member = place / "out/fold-1/members/0/pretrained.safetensors"
    before = member.stat().st_mtime_ns
    assert run(place, "--fold=1", "--jobs=2", jobs=subprocess) == first
    assert member.stat().st_mtime_ns == before
    logs = sorted(path.name for path in (place / "out/logs").glob("*.log"))
    assert logs == [f"fold-1-features-{NAME}.log", "fold-1-score.log"]


def test_what_fails_is_told_with_its_log(place, first, warm, monkeypatch):
    monkeypatch.setenv("PATH", warm["PATH"])
    options = [*OPTIONS, "--smallest-family=1000"]
    with pytest.raises(MatmlError, match="a job of the benchmark has failed"):
        run(place, out="fails", options=options, jobs=subprocess)


def test_methods_are_taken_by_name_and_a_potential_from_its_file(place, crystals):
    # some of the descriptors, in place of what a potential says of the same crystals
    features = torch.from_numpy(describe(crystals)[:, :6]).float()
    tensors = {"features": features, "energy_eV_per_atom": features[:, 0]}
    own_state = {"crystals": contents_of(crystals.table)}
    save_checkpoint(place / "more/potential.safetensors", tensors, own_state)
    own = [option for option in OPTIONS if "potential" not in option and "meta" not in option]
    run(place, "--methods=anil,gp_head", "--fold=0", "--draws=1", out="more", options=own)
    scores = pd.read_csv(place / "more/fold-0/families.csv")
    assert {"anil", "gp_head", "potential_ridge", "potential_gp"} <= set(scores["method"])
    adapted = scores[scores["shots"] == 5].set_index(["method", "family"])["error"]
    before = scores[scores["shots"] == 0].set_index(["method", "family"])["error"]
    for method in ("anil", "gp_head", "potential_gp"):
        assert not np.allclose(adapted[method], before[method])
    with pytest.raises(MatmlError, match="--methods 'mammal'"):
        run(place, "--methods=mammal", out="more", options=own)
    own_state["crystals"][0] = "?"
    save_checkpoint(place / "more/potential.safetensors", tensors, own_state)
    with pytest.raises(MatmlError, match="has no features of"):
        run(place, "--methods=anil,gp_head", "--fold=0", "--draws=1", out="more", options=own)


def test_gains_are_those_of_the_same_families():
    rows = [("a", 0, 4.0), ("b", 0, 1.0), ("a", 5, 3.0), ("b", 5, 1.0), ("a", 10, 2.5)]
    table = pd.DataFrame(rows, columns=["family", "shots", "error"])
    table = table.assign(property=NAME, method=DEFAULT)
    none, fewer = (learning_gains(table, DEFAULT, than) for than in ("none", "fewer"))
    np.testing.assert_allclose(none[NAME, 10], [1.5])
    np.testing.assert_allclose(fewer[NAME, 10], [0.5])
    np.testing.assert_allclose(none[NAME, 5], [1.0, 0.0])


def test_a_folder_made_otherwise_is_refused(place, first):
    with pytest.raises(MatmlError, match="made with another settings"):
        run(place, "--draws=3")
    with pytest.raises(MatmlError, match="made with another seed"):
        run(place, "--seed=1")


def test_records_average_over_families_and_pair_them(place, first, scores):
    records = pd.DataFrame(json.loads((place / "out.json").read_text()))
    own = records[(records["shots"] == 5) & (records["method"] == "gp_stack")]
    own = own.set_index("metric")
    errors = scores[scores["shots"] == 5]
    errors = errors.pivot_table(index="family", columns="method", values="error")
    value = own.loc["mae_eV/atom_family_mean"]
    assert value["value"] == pytest.approx(errors["gp_stack"].mean())
    assert value["low"] < value["value"] < value["high"]
    gain = own.loc["mae_reduction_against_global_gp", "value"]
    assert gain == pytest.approx((errors["global_gp"] - errors["gp_stack"]).mean())
    assert set(records[records["is_default"]]["method"]) == {DEFAULT}


def test_ratios_take_the_best_baseline_of_each_cell():
    rows = [
        {"property": NAME, "shots": k, "method": m, "family": f, "error": e, "fold": 0}
        for k, errors in ((5, (1.0, 2.0, 0.5, 0.1, 0.2)), (10, (3.0, 2.0, 1.0, 0.1, 0.2)))
        for m, e in zip(
            ("global_gp", "pretrained", "gp_stack", "potential_gp", "anil"), errors, strict=True
        )
        for f in ("a", "b")
    ]
    ratios = best_baseline_ratios(pd.DataFrame(rows), "gp_stack")
    assert ratios.loc[NAME].to_dict() == {5: 0.5, 10: 0.5}
    ratios = best_baseline_ratios(pd.DataFrame(rows), "gp_stack", ENSEMBLES)
    assert ratios.loc[NAME].to_dict() == {5: 0.5, 10: pytest.approx(1 / 3)}
    means = mean_ratios(pd.DataFrame(rows), "gp_stack")
    assert means.index.tolist()[0] == "potential_gp"
    assert means.loc["global_gp", "ratio"] == pytest.approx((0.5 / 1 + 1 / 3) / 2)
    assert means.loc["pretrained", "ratio"] == pytest.approx((0.5 / 2 + 1 / 2) / 2)
    # families do not differ
    np.testing.assert_allclose(means["low"], means["high"])
    assert "global_gp" not in OURS
    table = pd.DataFrame(rows).assign(spearman=0.0, inside=1.0, width=1.0)
    assert all(record["low"] <= record["high"] for record in tidy_records(table, 0))


def test_rank_correlation_is_spearmans():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0])
    assert rank_correlation(x, y) == pytest.approx(0.8)
    assert np.isnan(rank_correlation(np.ones(4), y))
