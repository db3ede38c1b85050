"""What to label next, and the tests on held-out families, with processes small enough to check."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from pymatgen.core import Element, Structure
from scipy.stats import norm

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.gp import condition
from matml.gp.joint import JointProcess
from matml.gp.kernels import JITTER
from matml.gp.residual import ResidualGP
from matml.gp.sequences import Predictions
from matml.gp.stack import GPStack
from matml.properties.data.targets import LabelScale, find_property
from matml.properties.methods.baselines import CorrectedTrees
from matml.properties.methods.corrected import Plain
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Trained, ViewedPool
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import SHIPPED
from matml.screening.acquire.acquisition import (
    acquisition,
    choose_batch,
    goal_sign,
    labels_until_found,
    turned,
)
from matml.screening.acquire.suggest import suggest_labels
from matml.screening.evaluation import closed_loop, retrospective
from matml.screening.evaluation import held_out as heldout
from matml.screening.evaluation.held_out import held_out_families, top_rows
from matml.structures.crystals import CrystalSet

SIZE = 14


def random_predictions(generator, size=SIZE):
    def kernel():
        root = generator.normal(size=(size, size))
        return root @ root.T / size

    means = torch.from_numpy(generator.normal(size=(3, size)))
    return Predictions(means, torch.from_numpy(np.stack([kernel(), kernel()])))


def weights(generator):
    shares = generator.dirichlet(np.ones(3))
    return GPStack(
        torch.from_numpy(shares),
        torch.from_numpy(generator.uniform(0.2, 1, 2)),
        *(torch.tensor(value, dtype=torch.float64) for value in (0.1, 3.0, 0.7)),
    )


def stack_pool(stack, said):
    return JointPool(stack.joint(said), float(stack.noise), stack)


def process(mean, covariance):
    whole = JointProcess(torch.from_numpy(mean), 0.01 + JITTER, torch.from_numpy(covariance))
    return JointPool(whole, 0.01)


@pytest.fixture
def stack():
    generator = np.random.default_rng(0)
    said = random_predictions(generator)
    fitted = SimpleNamespace(stack=weights(generator))
    return fitted, said, generator.normal(size=SIZE)


@pytest.mark.parametrize("shots", [0, 1, 5])
def test_the_joint_posterior_is_that_of_the_stack(stack, shots):
    fitted, said, labels = stack
    order = np.random.default_rng(1).permutation(SIZE)
    rows, rest = order[:shots], order[shots:]
    joint = fitted.stack.joint(said[order])
    query = range(shots, SIZE)
    expected = fitted.stack.predict(joint, range(shots), labels[rows], query)
    mean, deviation = stack_pool(fitted.stack, said).posterior(rows, labels[rows])
    np.testing.assert_allclose(mean[rest], expected[0], atol=1e-9)
    np.testing.assert_allclose(deviation[rest], expected[1], atol=1e-6)


def test_the_labels_covariance_is_solved_once(stack, monkeypatch):
    fitted, said, labels = stack
    model, rows, solves = stack_pool(fitted.stack, said), [1, 4, 6], []
    residual = labels[rows] - model.process.mean.numpy()[rows]
    gram = model.process.covariance.numpy()[np.ix_(rows, rows)] + (model.noise + JITTER) * np.eye(3)
    factor = fitted.stack.factor(residual @ np.linalg.inv(gram) @ residual, 3)
    factorise = condition.factorise
    monkeypatch.setattr(
        condition, "factorise", lambda *x, **y: solves.append(1) or factorise(*x, **y)
    )
    mean, deviation = model.posterior(rows, labels[rows])
    assert len(solves) == 1
    joint_mean, covariance = model.joint(rows, labels[rows])
    np.testing.assert_array_equal(mean, joint_mean)
    expected = (covariance.diagonal() + model.noise) * float(factor)
    np.testing.assert_allclose(deviation, np.sqrt(expected), rtol=1e-10)


def test_a_turned_surrogate(stack):
    fitted, said, labels = stack
    model, rows = stack_pool(fitted.stack, said), [3, 8]
    for chosen in ([], rows):
        mean, deviation = model.posterior(chosen, labels[chosen])
        other = turned(model, -1).posterior(chosen, -labels[chosen])
        np.testing.assert_allclose(other[0], -mean)
        np.testing.assert_allclose(other[1], deviation)
    assert turned(model, 1) is model


def test_a_baseline_is_corrected_by_its_residual_process():
    generator = np.random.default_rng(2)
    features = generator.normal(size=(SIZE, 4))
    residual = ResidualGP(np.zeros(4), np.ones(4), 0.5, 0.3, 0.05, 0.7)
    plain, labels = generator.normal(size=SIZE), generator.normal(size=SIZE)
    trained = Trained(0, baseline=lambda _: SimpleNamespace(residual_gp=residual))
    method = CorrectedTrees("extra_trees_gp", trained)
    model = ViewedPool(method, Plain(plain[None], features[None]), np.zeros(SIZE))
    rows = [0, 4, 9]
    mean, _ = model.posterior(rows, labels[rows])
    shift, _ = residual.correct(features[rows], labels[rows] - plain[rows], features)
    np.testing.assert_allclose(mean, plain + shift)
    found = turned(model, -1).posterior(rows, -labels[rows])[0]
    np.testing.assert_allclose(found, -mean)


def test_information_is_the_variance_that_a_label_takes_away(stack):
    fitted, said, labels = stack
    model, rows = stack_pool(fitted.stack, said), [2, 5]
    found = acquisition("information", model, rows, labels[rows])

    def total(chosen):
        return model.joint(chosen, np.zeros(len(chosen)))[1].trace()

    expected = [total(rows) - total([*rows, n]) for n in range(SIZE) if n not in rows]
    np.testing.assert_allclose(np.delete(found, rows), expected, atol=1e-4)


def test_improvement_and_top_by_their_definitions(stack):
    fitted, said, labels = stack
    model, rows = stack_pool(fitted.stack, said), [1, 7, 10]
    mean, deviation = model.posterior(rows, labels[rows])
    samples = mean[:, None] + deviation[:, None] * np.random.default_rng(0).normal(size=200_000)
    gain = np.maximum(samples - labels[rows].max(), 0).mean(1)
    found = np.exp(acquisition("improvement", model, rows, labels[rows]))
    np.testing.assert_allclose(found, gain, atol=0.01)
    values = mean.copy()
    values[rows] = labels[rows]
    found = np.exp(acquisition("top", model, rows, labels[rows]))
    np.testing.assert_allclose(found, norm.sf(np.quantile(values, 0.9), mean, deviation))


def test_a_batch_does_not_ask_the_same_twice():
    # two pairs of twins: the better pair first, but not both of it
    covariance = np.kron(np.eye(3), [[1.0, 0.999], [0.999, 1.0]])
    model = process(np.array([1.0, 0.99, 0.5, 0.49, -3, -3]), covariance)
    batch = choose_batch("information", model, [], np.zeros(0), 3)
    assert {n // 2 for n in batch} == {0, 1, 2}
    assert choose_batch("mean", model, [0], np.array([1.0]), 2, pool=[2, 3, 4]) == [2, 3]
    assert len(choose_batch("top", model, [0, 1], np.zeros(2), 9)) == 4


def test_labels_are_counted_from_the_start():
    order = iter([7, 3, 1, 9])
    assert labels_until_found(lambda _: next(order), [5, 2], [2, 3, 9]) == [2, 4, 6]
    assert labels_until_found(lambda _: 0, [5, 2], [5]) == [2]


def test_the_top_is_a_tenth_but_three():
    values = np.arange(60.0)
    assert top_rows(values).tolist() == [59, 58, 57, 56, 55, 54]
    assert len(top_rows(values[:12])) == 3
    assert retrospective.found_share(values, -values, 1) == 0
    assert retrospective.found_share(values, values, 1) == 1
    half = values.copy()
    half[-3:] = -1
    assert retrospective.found_share(values, half, 1) == 0.5


class Predictor:
    """Stands for a trained one: a default method by name, two families held out."""

    properties = {"formation_energy_eV_per_atom": "eV/atom"}  # noqa: RUF012

    def __init__(self, families):
        self.card = {"test_families": families, "validation_families": []}

    def default_method(self, name):
        return "gp_stack"

    def scale(self, name):
        return LabelScale(find_property(name), mean=-1.0, deviation=2.0)

    def encode(self, crystals):
        return crystals

    def fitted(self, name, method):
        return SimpleNamespace(over=lambda crystals: process_on_elements(method, crystals))


@pytest.fixture(scope="module")
def salts(embedded):
    """Rocksalts with their energies, dealt into two families."""
    table = pd.read_csv(heldout_table())
    energy = table.set_index("material_id")["formation_energy_eV_per_atom"]
    found = {
        name.split("/")[1]: structure
        for name, structure in embedded["rocksalt"].items()
        if name.startswith("formation_energy")
    }
    crystals = CrystalSet.from_structures(
        list(found.values()), list(found), {"formation_energy_eV_per_atom": energy[list(found)]}
    )
    assert len(crystals) > 45
    halves = np.where(np.arange(len(crystals)) % 2, "odd", "even")
    return CrystalSet(crystals.table.assign(family=halves), crystals.graphs)


def heldout_table():
    from pathlib import Path

    return Path(__file__).parents[2] / "data" / "crystals" / "formation_energy.csv.gz"


def process_on_elements(method, crystals):
    """A Gaussian process on electronegativities and volume; the baselines know nothing."""
    strength = [[Element.from_Z(int(n)).X for n in z] for z in crystals.table["atomic_numbers"]]
    rows = np.column_stack(
        [np.min(strength, 1), np.max(strength, 1), crystals.table["volume_per_atom_A3"]]
    )
    rows = (rows - rows.mean(0)) / rows.std(0)
    apart = np.square(rows[:, None] - rows[None]).sum(-1)
    covariance = np.exp(-0.25 * apart) if method == "gp_stack" else np.eye(len(rows))
    return process(np.zeros(len(rows)), covariance)


def test_families_are_turned_so_that_more_is_better(salts):
    families = held_out_families(
        Predictor(["even", "odd"]), salts, ["formation_energy_eV_per_atom"]
    )
    assert [f.family for f in families] == ["even", "odd"]
    assert goal_sign("formation_energy_eV_per_atom") == -1 == families[0].sign
    assert goal_sign("bulk_modulus_GPa") == 1
    energies = families[0].crystals.table["formation_energy_eV_per_atom"].to_numpy()
    np.testing.assert_allclose(families[0].labels, -(energies + 1) / 2)
    with pytest.raises(MatmlError, match="no test family of the model has 900"):
        held_out_families(
            Predictor(["even"]), salts, ["formation_energy_eV_per_atom"], smallest=900
        )
    with pytest.raises(MatmlError, match="no label column 'hardness'"):
        held_out_families(Predictor(["even"]), salts, ["hardness"])


@pytest.fixture
def families(salts):
    return held_out_families(Predictor(["even", "odd"]), salts, ["formation_energy_eV_per_atom"])


def test_retrospective_on_real_salts(families):
    scores = retrospective.run(Predictor([]), families, shots=[0, 10], draws=6)
    again = retrospective.run(Predictor([]), families[1:], shots=[0, 10], draws=6)
    own = scores[scores["family"] == "odd"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, again)
    rows = pd.DataFrame(retrospective.records(scores, seed=3))
    cell = rows[(rows["shots"] == 10) & (rows["metric"] == next(iter(retrospective.WITHIN)))]
    share = cell.set_index("method")["value"]
    # the default is one row, under that name
    assert "gp_stack" not in share
    assert share["default"] > 2 * share["chance"]
    assert share["chance"] == pytest.approx(3 / (len(families[0]) - 10), abs=0.02)
    gain = rows[rows["metric"].str.endswith("tenth_gain_over_best_baseline")]
    gain = gain[(gain["shots"] == 10) & (gain["method"] == "default")]
    best = share[["extra_trees_gp", "global_gp", "global_gp_gp"]].max()
    assert gain["value"].iloc[0] == pytest.approx(share["default"] - best)
    assert (rows["seed"] == 3).all()
    assert set(rows["setting"]) == {"formation_energy_eV_per_atom"}


def test_closed_loop_on_real_salts(families):
    runs = closed_loop.run(Predictor([]), families, starts=4, start_size=2)
    needed = runs.groupby("method")["labels_to_find_the_top_tenth"].mean()
    top = [len(top_rows(task.labels)) for task in families]
    size = [len(task) for task in families]
    # the expected place of the last of t among n drawn at random
    expected = np.mean([t * (n + 1) / (t + 1) for t, n in zip(top, size, strict=True)])
    assert needed["random"] == pytest.approx(expected, rel=0.08)
    assert "gp_stack" not in needed
    assert needed["default"] < 0.7 * needed["random"]
    rows = pd.DataFrame(closed_loop.records(runs, seed=0))
    over = rows[rows["metric"] == "labels_to_find_the_top_tenth_over_random"]
    wide = runs.pivot_table(index="family", columns="method", values="labels_to_find_the_top_tenth")
    ratio = (wide["default"] / wide["random"]).mean()
    assert over.set_index("method")["value"]["default"] == pytest.approx(ratio)
    assert (runs["labels_to_find_half_of_it"] <= runs["labels_to_find_the_top_tenth"]).all()


def test_a_method_of_some_families_only_leaves_no_hole(families):
    runs = closed_loop.run(Predictor([]), families, starts=2, start_size=2)
    own = runs[runs["method"] == "default"].head(2)
    runs = pd.concat([runs, own.assign(method="network_gp")], ignore_index=True)
    rows = pd.DataFrame(closed_loop.records(runs, seed=0))
    assert rows["value"].notna().all()
    assert set(rows[rows["method"] == "network_gp"]["n_tasks"]) == {1}


def test_results_are_printed_and_written(families, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heldout.FewShotPredictor, "load", lambda *_: Predictor(["even", "odd"]))
    monkeypatch.setattr(heldout.CrystalSet, "open", lambda *_: None)
    monkeypatch.setattr(heldout, "held_out_families", lambda *_, **__: families)
    options = {
        "models": [tmp_path],
        "structures": tmp_path,
        "graphs": tmp_path,
        "names": ["formation_energy_eV_per_atom"],
        "own_inputs": (),
        "part": "test",
        "smallest_family": 15,
        "json_file": tmp_path / "r.json",
        "table": tmp_path / "r.csv",
        "threads": 1,
        "seed": 0,
        "device": "cpu",
    }
    heldout.run_study(retrospective, options, shots=[10], draws=2)
    heldout.run_study(closed_loop, options, starts=2, start_size=2)
    told = capsys.readouterr().out
    assert "families at each number of labels: 10: 2" in told
    assert "random choice" in told
    assert (tmp_path / "r.json").exists()
    assert len(pd.read_csv(tmp_path / "r.csv")) > 10
    with pytest.raises(MatmlError, match="held out by two of the models"):
        heldout.run_study(retrospective, options | {"models": [tmp_path] * 2}, shots=[10], draws=2)


def test_the_commands_are_there():
    for command in ("suggest", "retrospective", "closed-loop", "merge"):
        result = CliRunner().invoke(cli, ["screen", command, "--help"])
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(cli, ["screen"])
    assert result.exit_code == 2
    assert "Missing option '--support'" in result.output


def test_suggestions_have_the_intervals_of_predictions(prepared, tmp_path):
    structures, support = prepared / "structures", read_table(prepared / "support.csv")
    suggest_labels(
        SHIPPED, "refractive_index", "maximise", prepared / "support.csv", [structures],
        structures, None, 4, "top", tmp_path / "next.csv", "cpu",
    )  # fmt: skip
    found = read_table(tmp_path / "next.csv")
    predictor = FewShotPredictor.load()
    known = read_table(structures / "structures.parquet").set_index("id", drop=False)

    def crystals(ids):
        return CrystalSet.from_table(known.loc[ids], predictor.encoder.graphs)

    adapted = predictor.adapt(
        crystals(support["id"]), support["refractive_index"], "refractive_index", check_units=False
    )
    table = adapted.predict_table(crystals(found["id"]))
    for suffix, name in (("", "prediction"), ("_low", "low"), ("_high", "high")):
        np.testing.assert_allclose(found[f"refractive_index{suffix}"], table[name], rtol=1e-4)


def test_what_is_labelled_is_not_suggested_again(prepared, tmp_path, caplog):
    """A shortlist's CIFs stay where they are while their labels come in, round after round."""
    known = read_table(prepared / "structures" / "structures.parquet").set_index("id", drop=False)
    labelled = pd.read_csv(prepared / "support.csv")
    salts = {"first": ("K", 2.8), "again": ("K", 2.9), "other": ("Rb", 3.0)}
    cell = "{0}\n1.0\n0 {1} {1}\n{1} 0 {1}\n{1} {1} 0\n{0} Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"
    rows = [{"id": name, "poscar": cell.format(*salt)} for name, salt in salts.items()]
    for name in labelled["id"]:
        row = known.loc[name]
        # as a candidate has it: with a guessed cell, a little larger
        lattice = 1.02 * np.reshape(row["lattice"], (3, 3))
        crystal = Structure(
            lattice, list(row["atomic_numbers"]), np.reshape(row["frac_coords"], (-1, 3))
        )
        rows.append({"id": f"known {row['formula']}", "poscar": crystal.to(fmt="poscar")})
    pd.DataFrame(rows).to_csv(tmp_path / "own.csv", index=False)

    def suggest(support):
        with caplog.at_level("INFO"):
            suggest_labels(
                SHIPPED, "refractive_index", "maximise", support, [tmp_path / "own.csv"],
                prepared / "structures", None, 50, "top", tmp_path / "next.csv", "cpu",
            )  # fmt: skip
        return read_table(tmp_path / "next.csv").sort_values("id")

    first = suggest(prepared / "support.csv")
    assert first["id"].tolist() == ["own/first", "own/other"]
    assert f"{len(labelled) + 1} candidates equal a labelled crystal or another" in caplog.text
    assert "2 of 2 candidates to label next" in caplog.text
    # one of them was measured and given as a file
    (tmp_path / "POSCAR_K").write_text(rows[0]["poscar"])
    new = pd.DataFrame({"file": ["POSCAR_K"], "refractive_index": [1.5]})
    both = pd.concat([labelled[["id", "refractive_index"]], new])
    both.to_csv(tmp_path / "support.csv", index=False)
    assert suggest(tmp_path / "support.csv")["id"].tolist() == ["own/other"]
    # what the known crystals tell of a suggestion stands beside it
    two = pd.DataFrame(rows[-2:])
    two.to_csv(tmp_path / "own.csv", index=False)
    labelled[:-2].to_csv(tmp_path / "fewer.csv", index=False)
    found = suggest(tmp_path / "fewer.csv").sort_values("strained_copy_of")
    rest = labelled[-2:].sort_values("id")
    assert found["strained_copy_of"].tolist() == rest["id"].tolist()
    np.testing.assert_allclose(found["known_value"], rest["refractive_index"])
    with pytest.raises(MatmlError, match="each of the 2 crystals equals a labelled one"):
        suggest(prepared / "support.csv")


def test_what_cannot_be_suggested_is_reported(prepared, tmp_path, caplog):
    poscar = "{0}\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\n{0} Cl\n1 1\ndirect\n0 0 0\n{1}\n"
    rows = [
        ("salt", poscar.format("K", "0.5 0.5 0.5")),
        ("unknown", poscar.format("Qq", "0.5 0.5 0.5")),
        ("overlapping", poscar.format("K", "0.1 0 0")),
    ]

    def suggest(rows):
        pd.DataFrame(rows, columns=["id", "poscar"]).to_csv(tmp_path / "own.csv", index=False)
        caplog.clear()
        with caplog.at_level("INFO"):
            suggest_labels(
                SHIPPED, "refractive_index", "maximise", prepared / "support.csv",
                [tmp_path / "own.csv"], prepared / "structures", None, 4, "top",
                tmp_path / "next.csv", "cpu",
            )  # fmt: skip

    suggest(rows)
    assert read_table(tmp_path / "next.csv")["id"].tolist() == ["own/salt"]
    bad = read_table(tmp_path / "next_quarantine.csv")
    assert bad["id"].tolist() == ["own/unknown", "own/overlapping"]
    # the header is row 1, the first candidate row 2
    assert bad["row"].tolist() == [3, 4]
    assert bad[["reason", "remedy"]].notna().all(axis=None)
    assert "2 candidates could not be used: see" in caplog.text
    suggest(rows[:2])
    assert "1 candidate could not be used: see" in caplog.text
    suggest(rows[:1])
    assert not (tmp_path / "next_quarantine.csv").exists()
    assert "could not be used" not in caplog.text
    with pytest.raises(MatmlError, match=r"none of the 2 crystals .* first, own/unknown: .*Qq"):
        suggest(rows[1:])
