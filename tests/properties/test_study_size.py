"""Training-set size: samples are nested, everything is trained on them alone, parts are kept."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.properties.dataset import EPISODES
from matml.properties.methods.registry import STACK
from matml.studies.adaptation import sizes
from matml.studies.adaptation.size_parts import Part, plan
from matml.studies.adaptation.sizes import sample, thinned
from matml.studies.adaptation.sizes_report import summarise

NAME = "formation_energy_eV_per_atom"
FAMILIES = np.repeat([f"family {i}" for i in range(30)], np.arange(30) % 7 + 1)


@pytest.mark.parametrize("sampling", ["crystals", "families"])
def test_smaller_samples_lie_in_larger_ones(sampling):
    kept = [
        set(sample(FAMILIES, Part(sampling, fraction, 1, 3)).tolist())
        for fraction in (0.1, 0.4, 1.0)
    ]
    assert kept[0] < kept[1] < kept[2] == set(range(len(FAMILIES)))
    assert kept[1] != set(sample(FAMILIES, Part(sampling, 0.4, 1, 4)).tolist())
    off = abs(len(kept[1]) - 0.4 * len(FAMILIES))
    assert off <= (0.5 if sampling == "crystals" else 7)


def test_a_family_is_kept_whole_or_not_at_all():
    kept = sample(FAMILIES, Part("families", 0.3, 1, 0))
    inside = np.isin(np.arange(len(FAMILIES)), kept)
    shares = pd.Series(inside).groupby(FAMILIES).mean()
    assert set(shares) == {0.0, 1.0}


def test_a_sample_of_everything_is_planned_once():
    parts = plan((0.1, 1.0), ("crystals", "families"), (5, 60), 60, (0, 1))
    assert parts[0] == Part("crystals", 1.0, 60, 0)
    assert parts[-1] == Part("crystals", 1.0, 5, 0)
    assert {(p.sampling, p.seed) for p in parts[1:-1]} == {
        (sampling, seed) for sampling in ("crystals", "families") for seed in (0, 1)
    }
    assert len(parts) == len(set(parts)) == 1 + 4 + 1


def test_only_training_labels_are_taken_away(bench):
    own = thinned(bench, Part("crystals", 0.5, 1, 0), 2)
    training = np.isin(np.arange(len(bench.crystals)), bench.split.training_rows(bench.families))
    for known, of_table in ((own.labels, own.crystals.table), (bench.labels, bench.crystals.table)):
        there = of_table[bench.names].notna().to_numpy()
        np.testing.assert_array_equal(~np.isnan(known), there)
    lost = np.isnan(own.labels) & ~np.isnan(bench.labels)
    assert not lost[~training].any()
    labelled = (~np.isnan(bench.labels[training])).any(1)
    assert lost[training].any(1).sum() == labelled.sum() - round(0.5 * labelled.sum())
    # standardised by what is left alone
    np.testing.assert_allclose(np.nanmean(own.targets[training], 0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(own.targets[training], 0), 1)


def test_too_small_a_sample_is_refused(bench):
    with pytest.raises(MatmlError, match=r"training labels are left of 2% .* larger --fraction"):
        thinned(bench, Part("crystals", 0.02, 1, 0), 2)


def study(folder, tmp_path, *more):
    common = [
        f"--structures={folder}/structures",
        f"--graphs={folder}/graphs",
        f"--config={folder}/properties.yaml",
        f"--run={folder}/properties",
        f"--out={tmp_path}/out",
    ]
    return CliRunner().invoke(properties, ["study-size", *common, *more])


OPTIONS = ["--fraction=0.5", "--sampling=crystals", "--epochs=2", "--seeds=1", f"--property={NAME}"]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("sizes")
    more = [f"--json={place}/r.json", f"--figure={place}/f.png", "--figure-shots=5"]
    result = study(folder, place, *OPTIONS, *more)
    assert result.exit_code == 0, result.output
    return place, result.output


def test_all_methods_are_scored_at_every_size_and_time(finished):
    place, output = finished
    records = pd.DataFrame(json.loads((place / "r.json").read_text()))
    errors = records[records["metric"] == "mae_eV/atom_family_mean"]
    assert set(errors["shots"]) == {0, 5}
    assert errors["value"].between(0, 3).all()
    methods = errors.groupby(["fraction", "epochs"])["method"].agg(set)
    assert {STACK, "pretrained", "global_gp", "extra_trees_gp"} < methods[0.5, 6]
    assert methods[1.0, 6] == methods[0.5, 6]
    # the baselines know of no epochs
    assert methods[1.0, 2] == {STACK, "pretrained"}
    labels = records.groupby("fraction")["training_labels"].first()
    assert labels[0.5] < 0.75 * labels[1.0]
    seconds = records[records["metric"] == "training_processor_seconds"]
    spent = seconds.groupby(["fraction", "epochs", "method"])["value"].first()
    assert spent[1.0, 6, STACK] > spent[1.0, 6, "pretrained"] > spent[1.0, 2, "pretrained"] > 0
    assert "training crystals kept" in output
    assert "2 epochs" in output
    assert (place / "f.png").read_bytes()[:4] == b"\x89PNG"
    assert "training labels of the property" in (place / "f.svg").read_text()


def test_a_full_sample_predicts_as_the_run_does(finished, folder):
    # the members are the run's own: same seed, same crystals, as many
    place, _ = finished
    episodes = pd.read_parquet(place / "out" / EPISODES)
    assert set(episodes["part"]) == {"test"}
    ours, theirs = (
        pd.read_parquet(path).set_index("episode")["prediction"]
        for path in (
            place / f"out/crystals-1-6-epochs-seed-0/stack-{NAME}.parquet",
            folder / f"properties/predictions/stack-{NAME}.parquet",
        )
    )
    for episode in episodes["episode"]:
        np.testing.assert_allclose(ours[episode], theirs[episode], rtol=1e-4, atol=1e-4)


def test_finished_parts_are_kept_and_other_settings_refused(finished, folder, monkeypatch):
    place, output = finished
    monkeypatch.setattr(sizes, "pretrain_member", None)
    again = study(folder, place, *OPTIONS)
    assert again.output == output
    other = study(folder, place, *OPTIONS, "--members=3")
    assert isinstance(other.exception, MatmlError)
    assert "made with another members" in str(other.exception)
    few = study(folder, place, *OPTIONS, "--members=1")
    assert "--members 1: fewer than the 2 folds" in str(few.exception)


def test_gain_is_paired_with_the_best_baseline_of_all_data():
    rows = []
    for fraction, of_baseline, of_ours in ((1.0, 0.4, 0.3), (0.1, 0.6, 0.5)):
        for seed in (0, 1):
            for i, family in enumerate("abc"):
                shared = 0.1 * i + 0.02 * seed
                common = {"property": NAME, "shots": 5, "family": family, "seed": seed}
                common |= {"sampling": "crystals", "fraction": fraction, "epochs": 60}
                common |= {"labels": 100, "seconds": 1.0}
                for method, error in (("global_gp", of_baseline), (STACK, of_ours)):
                    rows.append({**common, "method": method, "error": error + shared})
                rows.append({**common, "method": "support_mean", "error": 1.0, "seconds": np.nan})
    records = pd.DataFrame(summarise(pd.DataFrame(rows), 0))
    gains = records[records["metric"].str.startswith("mae_reduction")]
    found = gains.set_index(["fraction", "metric"])
    name = "mae_reduction_against_best_baseline"
    assert found["value"].to_dict() == pytest.approx(
        {
            (1.0, name): 0.1,
            (1.0, f"{name}_on_all_data"): 0.1,
            (0.1, name): 0.1,
            (0.1, f"{name}_on_all_data"): -0.1,
        }
    )
    # the families' own levels and the seeds' do not enter a paired interval
    assert (found["high"] - found["low"]).max() < 1e-9
    ranges = records[records["metric"] == "mae_range_over_seeds"].set_index("method")["value"]
    assert ranges[STACK].to_numpy() == pytest.approx(0.02)
