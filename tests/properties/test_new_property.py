"""Settings B and C of the benchmark on few real crystals, and the process behind them."""

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark_jobs import InProcess
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.errors import MatmlError
from matml.core.files import write_table
from matml.core.settings import read_section
from matml.gp.residual import descend
from matml.meta.checkpoint import save_checkpoint
from matml.potentials.content import contents_of
from matml.properties.baselines.support_only import support_ridge
from matml.properties.benchmark.new_property_report import best_baseline
from matml.properties.benchmark.zeolites import read_frameworks
from matml.properties.dataset import Workbench
from matml.properties.methods.registry import LABEL_PROCESS
from matml.properties.new_property import networks as new_networks
from matml.properties.new_property.kernels import Episodes, LabelKernel, Likeness, learn_kernel
from matml.properties.new_property.networks import NewReadOuts, member_tasks, ridge_read_out
from matml.properties.new_property.process import Expert, LabelProcess, Outliers
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet
from matml.structures.settings import STRUCTURES

NAME = "bulk_modulus_GPa"
SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}
smallest_task: 6
members: 2
width: 16
layers: 2
batch_size: 32
epochs: 2
smallest_query: 3
trees: 5
meta_batches: 2
"""


@pytest.fixture
def sets():
    numbers = np.random.default_rng(1)
    return [numbers.normal(size=(14, width)) for width in (3, 5, 4)]


def test_the_posterior_is_a_gaussian_process_with_a_flat_mean(sets):
    kernel, likeness = LabelKernel([0, 2]), Likeness.of(sets)
    gram = kernel.gram(likeness)
    labels = torch.linspace(-1, 2, 8, dtype=torch.float64)
    mean, deviation, evidence = kernel.posterior(gram, labels)
    # the same with a very wide prior on the mean, written out
    wide = gram + 1e7
    noisy = wide[:8, :8] + kernel.noise * torch.eye(8)
    expected = wide[8:, :8] @ torch.linalg.solve(noisy, labels)
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-5)
    left = wide + kernel.noise * torch.eye(14)
    left = left[8:, 8:] - left[8:, :8] @ torch.linalg.solve(noisy, wide[:8, 8:])
    square = labels @ torch.linalg.solve(noisy, labels) / 7
    torch.testing.assert_close(deviation, (left.diagonal() * square).sqrt(), rtol=1e-4, atol=1e-6)
    # labels in other units, from another zero
    moved, wider, same = kernel.posterior(gram, 10 * labels + 3)
    torch.testing.assert_close(moved, 10 * mean + 3)
    torch.testing.assert_close(wider, 10 * deviation)
    assert same - evidence == pytest.approx(-7 * np.log(10))


def test_labels_may_have_noise_of_their_own(sets):
    kernel, likeness = LabelKernel([0, 2]), Likeness.of(sets)
    gram, labels = kernel.gram(likeness), torch.linspace(-1, 2, 8, dtype=torch.float64)
    further = torch.tensor([0, 0, 3.0, 0, 0, 0.5, 0, 0], dtype=torch.float64)
    mean, deviation, evidence = kernel.posterior(gram, labels, further)
    # the same variances as part of the covariance
    own = gram + torch.diag(torch.cat([further, torch.zeros(6, dtype=torch.float64)]))
    for found, expected in zip(
        (mean, deviation, evidence), kernel.posterior(own, labels), strict=True
    ):
        torch.testing.assert_close(found, expected)
    # and all cases at once
    cases, _ = Outliers(0.1, 10.0).cases(8)
    assert len(cases) == 1 + 8 + 28
    together = kernel.posterior(gram, labels, cases)
    for i in (0, 3, 20):
        alone = kernel.posterior(gram, labels, cases[i])
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[i], expected)


def test_an_outlier_among_the_labels_is_told(sets):
    prior = torch.zeros(1, dtype=torch.float64)
    labels = np.sin(sets[2] @ [1, 0.3, 0, 0.2])
    wrong = labels[:10].copy()
    wrong[4] += 20
    errors = {}
    for share in (0.0, 0.02):
        process = LabelProcess([Expert(LabelKernel([2]), False)], prior, Outliers(share))
        for name, given in (("right", labels[:10]), ("wrong", wrong)):
            mean, half = process.predict(sets, given)
            assert np.isfinite(half).all()
            errors[share, name] = np.abs(mean - labels[10:]).mean()
    assert errors[0.02, "wrong"] < 0.5 * errors[0.0, "wrong"]
    assert errors[0.02, "right"] < 1.2 * errors[0.0, "right"]
    assert Outliers(0.02).cases(2)[0] is None


@pytest.mark.parametrize("wrong", [False, True])
def test_how_many_labels_are_outliers_is_learned(sets, wrong):
    likeness, generator = Likeness.of(sets), np.random.default_rng(0)
    orders = np.stack([generator.permutation(14) for _ in range(30)])
    network = torch.from_numpy(generator.normal(size=(30, 14)))
    labels = network + 0.1 * torch.from_numpy(generator.normal(size=(30, 14)))
    if wrong:
        labels[::6, 2] += 10
    process = LabelProcess.learn([[Episodes(likeness.among(orders), labels, 10, network)]])
    assert (process.outliers.share > 0) == wrong


def test_a_kernel_learns_which_features_tell_the_labels(sets):
    likeness = Likeness.of(sets)
    generator, tasks = np.random.default_rng(0), []
    orders = [generator.permutation(14) for _ in range(20)]
    first = orders[0]
    for order in orders:
        slope = generator.normal(size=3)
        tasks.append((likeness.among(order), torch.from_numpy(sets[0][order] @ slope)))
    together = Likeness(
        torch.stack([own.square for own, _ in tasks]), torch.stack([own.inner for own, _ in tasks])
    )
    episodes = [Episodes(together, torch.stack([labels for _, labels in tasks]), 8)]
    learned = learn_kernel([0, 1, 2], episodes, steps=60)
    variance, _, linear = learned.logarithms[:-1].exp().reshape(-1, 3).T
    assert (variance + linear).argmax() == 0
    process = LabelProcess.learn([episodes])
    assert len(set(process.log_prior.tolist())) == 1
    mean, half = process.predict([x[first] for x in sets], tasks[0][1][:8].numpy())
    off = np.abs(mean - tasks[0][1][8:].numpy())
    assert off.mean() < 0.3 * tasks[0][1].std()
    assert (off <= half).mean() > 0.5


def test_experts_that_follow_the_network_take_over_where_it_is_right(sets):
    kernel = LabelKernel([2])
    prior = torch.log(torch.tensor([0.5, 0.5], dtype=torch.float64))
    process = LabelProcess([Expert(kernel, False), Expert(kernel, True)], prior)
    network = np.sin(np.arange(14.0) * 7)
    right, _ = process.predict(sets, network[:6] + 5, network)
    np.testing.assert_allclose(right, network[6:] + 5, atol=1e-3)
    flat, _ = process.predict(sets, network[:6] + 5, 100 * network[::-1].copy())
    assert np.abs(flat - (network[6:] + 5)).mean() < 2


def test_how_often_an_expert_is_right_is_learned_where_networks_know_the_property(sets):
    likeness, generator = Likeness.of(sets), np.random.default_rng(0)
    orders = np.stack([generator.permutation(14) for _ in range(12)])
    network = torch.from_numpy(generator.normal(size=(12, 14)))
    labels = network + 0.01 * torch.from_numpy(generator.normal(size=(12, 14)))
    process = LabelProcess.learn([[Episodes(likeness.among(orders), labels, 6, network)]])
    follows = torch.tensor([expert.follows for expert in process.experts])
    assert process.log_prior.exp()[follows].sum() > 0.7
    assert process.experts[int(process.log_prior.argmax())].follows


@pytest.fixture(scope="module")
def place(crystals, tmp_path_factory):
    place = tmp_path_factory.mktemp("new-property")
    write_table(place / "structures/structures.parquet", crystals.table, STRUCTURES)
    crystals.graphs.save(place / "graphs")
    (place / "properties.yaml").write_text(SETTINGS)
    return place


def run(place, *more, jobs=None):
    common = [
        f"--structures={place}/structures",
        f"--graphs={place}/graphs",
        f"--config={place}/properties.yaml",
        f"--json={place}/records.json",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matml.cli.properties.benchmark.subprocess", jobs or InProcess())
        arguments = ["benchmark", *common, *more]
        result = CliRunner().invoke(properties, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def setting_b(place):
    options = ["--setting=B", f"--property={NAME}", "--smallest-family=10", "--draws=2"]
    options += ["--skip=potential", "--folds=4", f"--out={place}/b"]
    options += ["--methods=maml,ridge_head"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CHOOSING_TASKS", "STOPPING_TASKS"):
            patch.setattr(new_networks, name, 2)
        patch.setattr(new_networks, "STEPS", (0, 2))
        for module in ("gp.residual", "properties.new_property.kernels"):
            patch.setattr(f"matml.{module}.descend", few_steps)
        return options, run(place, *options)


def few_steps(loss, start, *, steps):
    return descend(loss, start, steps=min(steps, 5))


def test_setting_b_trains_without_the_property_and_tests_every_large_family(
    place, crystals, setting_b
):
    options, printed = setting_b
    unique = crystals.table[crystals.table["duplicate_of"] == ""]
    large = unique["family"].value_counts()
    labelled = (
        unique[unique["family"].isin(large[large >= 10].index)].groupby("family")[NAME].count()
    )
    scores = pd.concat(
        [pd.read_csv(place / f"b/without-{NAME}/fold-{fold}/families.csv") for fold in (0, 1)]
    )
    own = scores[(scores["method"] == LABEL_PROCESS) & (scores["setting"] == "within a family")]
    own = own[own["shots"] == 5]
    assert sorted(own["family"]) == sorted(labelled.index[labelled >= 8])
    setup = json.loads((place / f"b/without-{NAME}/fold-0/setup.json").read_text())
    assert NAME not in setup["properties"]
    counts = scores.pivot_table(
        index=["setting", "shots"], columns="method", values="family", aggfunc="count"
    )
    assert (counts[LABEL_PROCESS] == counts.T).all(axis=None)
    assert {"support_ridge", "embedding_gp", "extra_trees"} <= set(counts.columns)
    assert {"fine_tuned", "maml", "ridge_head"} <= set(counts.columns)
    assert "network fine-tuned, new read-out" in printed
    assert "best baseline" in printed
    # what is meta-learned is ours, however good
    errors = pd.DataFrame(
        {LABEL_PROCESS: [0.3], "maml": [0.1], "potential_gp": [0.1], "extra_trees": [0.4]}
    )
    assert best_baseline(errors) == "extra_trees"
    records = pd.DataFrame(json.loads((place / "records.json").read_text()))
    assert set(records.loc[records["is_default"], "method"]) == {LABEL_PROCESS}
    assert {s.split(",")[0] for s in records["setting"]} == {"B"}
    assert {"fine_tuned", "maml", "ridge_head"} <= set(records["method"])
    # what is there is not made again
    jobs = InProcess()
    assert run(place, *options, jobs=jobs) == printed
    assert not jobs.done


@pytest.fixture(scope="module")
def bench_of_b(place, setting_b):
    settings = read_section(PropertiesSection, place / "properties.yaml")
    settings = settings.model_copy(update={"properties": {"formation_energy_eV_per_atom": 1.0}})
    out = place / f"b/without-{NAME}/fold-0"
    return Workbench.open(place / "structures", place / "graphs", out, settings), settings, out


@pytest.mark.parametrize("pooled", [False, True])
def test_tasks_of_known_properties_are_of_families_that_the_member_has_not_seen(bench_of_b, pooled):
    bench, settings, _ = bench_of_b
    seen = set(
        bench.families[bench.split.training_rows(bench.families, bench.split.fold_of(1))]
    ) | {*bench.split.test, *bench.split.validation}
    learning, watched = member_tasks(bench, settings, 1, "cpu")
    own = set(bench.fold_families(1))
    generator, families = torch.Generator().manual_seed(0), {}
    for name, source in (("learning", learning), ("watched", watched)):
        if not source:
            continue
        families[name] = set()
        for _ in range(20):
            family, column, support, query = source.rows(generator, pooled=pooled)
            of_support, of_query = set(bench.families[support]), set(bench.families[query])
            assert of_query == {family}
            assert (family in of_support) is not pooled
            assert (of_support | of_query) <= own
            assert not (of_support | of_query) & seen
            assert not set(support) & set(query)
            assert np.isfinite(bench.targets[[*support, *query], column]).all()
            families[name] |= of_support | of_query
    assert families["learning"]
    assert not families["learning"] & families.get("watched", set())
    # a new property has the mean and the scale of its support
    task = learning.draw(generator)
    assert task.support.label.mean().abs() < 1e-5
    assert task.support.label.std(correction=0) == pytest.approx(1, abs=1e-4)


def test_networks_take_up_a_new_property(bench_of_b, monkeypatch):
    monkeypatch.setattr(new_networks, "CHOOSING_TASKS", 4)
    bench, settings, out = bench_of_b
    read_outs = NewReadOuts.open(
        bench,
        [out / "members/0", out / "members/1"],
        settings,
        methods=["maml", "ridge_head"],
        fine_tune=True,
        shots=(1, 6),
        pooled=False,
        seed=0,
        device="cpu",
    )
    # synthetic labels: what the networks tell apart most
    rows = np.flatnonzero(bench.families == bench.split.test[0])
    embedding = np.hstack(read_outs.embeddings)
    centred = embedding - embedding[rows].mean(0)
    labels = centred @ np.linalg.svd(centred[rows], full_matrices=False)[2][0]
    episodes = [("f", draw, k, rows[draw : draw + k], rows[-4:]) for draw in (0, 1) for k in (1, 6)]
    found = {(e[1:3], m): p for e, m, p, _ in read_outs.predict(episodes, labels)}
    assert {m for _, m in found} == {"fine_tuned", "maml", "ridge_head"}
    for (key, _), prediction in found.items():
        support = episodes[[e[1:3] for e in episodes].index(key)][3]
        if key[1] == 1:
            np.testing.assert_array_equal(prediction, labels[support].mean())
    # in other units, from another zero
    moved = {(e[1:3], m): p for e, m, p, _ in read_outs.predict(episodes, 10 * labels + 3)}
    for key, prediction in found.items():
        np.testing.assert_allclose(moved[key], 10 * prediction + 3, rtol=1e-3, atol=1e-3)

    def error(prediction_of):
        return np.mean(
            [np.abs(prediction_of(e) - labels[e[4]]).mean() for e in episodes if e[2] == 6]
        )

    assert error(lambda e: found[e[1:3], "fine_tuned"]) < error(lambda e: labels[e[3]].mean())


def test_a_read_out_by_ridge_says_what_ridge_says():
    numbers = np.random.default_rng(0)
    embeddings = numbers.normal(2, 3, (20, 5))
    supports, labels = np.arange(12).reshape(2, 6), numbers.normal(size=(2, 6))
    found = ridge_read_out(embeddings, supports, labels)
    standard = (embeddings - embeddings.mean(0)) / embeddings.std(0)
    expected = support_ridge(standard[supports], labels, [standard[12:]] * 2)
    for weight, bias, each in zip(found["head.weight"], found["head.bias"], expected, strict=True):
        said = embeddings[12:] @ weight[0].numpy() + bias.numpy()
        np.testing.assert_allclose(said, each, atol=1e-5)


def test_setting_c_takes_trained_members_and_labels_of_the_potential(place, crystals, setting_b):
    # a table as ASE writes it
    path = place / "frameworks.db"
    silica = [crystals.structure(i) for i in range(9)]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE systems (id, numbers, positions, cell)")
        connection.execute("CREATE TABLE text_key_values (key, value, id)")
        for number, structure in enumerate(silica):
            blobs = (
                np.array(structure.atomic_numbers, "<i4").tobytes(),
                structure.cart_coords.astype("<f8").tobytes(),
                structure.lattice.matrix.astype("<f8").tobytes(),
            )
            connection.execute("INSERT INTO systems VALUES (?, ?, ?, ?)", (number, *blobs))
            connection.execute(
                "INSERT INTO text_key_values VALUES ('fw', ?, ?)", (f"F{number}", number)
            )
    read = read_frameworks(path)
    assert list(read) == [f"F{i}" for i in range(9)]
    assert read["F3"].composition == silica[3].composition
    np.testing.assert_allclose(read["F3"].distance_matrix, silica[3].distance_matrix, atol=1e-8)
    (place / "wrong.db").write_text("no table")
    with pytest.raises(MatmlError, match=r"wrong.db: is not the table of frameworks"):
        read_frameworks(place / "wrong.db")
    with pytest.raises(MatmlError, match="setting C takes trained members: give --run"):
        run(place, "--setting=C", f"--out={place}/c")
    # energies are made up: nothing is said of their errors
    energy = torch.linspace(-8, -7, 9)
    tensors = {"features": torch.zeros(9, 4), "energy_eV_per_atom": energy}
    own = {"crystals": contents_of(CrystalSet.from_structures(list(read.values())).table)}
    save_checkpoint(place / "c/zeolites-potential.safetensors", tensors, own)
    settings = SETTINGS.replace(", bulk_modulus_GPa: 0.3", "")
    (place / "properties.yaml").write_text(settings)
    printed = run(
        place,
        "--setting=C",
        f"--out={place}/c",
        f"--run={place}/b/without-{NAME}/fold-0",
        f"--frameworks={path}",
        "--draws=2",
    )
    (place / "properties.yaml").write_text(SETTINGS)
    assert "zeolites (surrogate labels)" in printed
    scores = pd.read_csv(place / "c/frameworks.csv")
    assert scores["setting"].str.contains("surrogate").any()
    assert {LABEL_PROCESS, "network_shift", "support_mean"} <= set(scores["method"])
    assert np.isfinite(scores["error"]).all()
