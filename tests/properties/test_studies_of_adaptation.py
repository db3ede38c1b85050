"""Forgetting, and bias and variance: the studies on few crystals and barely trained networks."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from matml.cli.properties.commands import properties
from matml.core.files import write_table
from matml.core.settings import read_section
from matml.properties.data.batches import GraphBatches
from matml.properties.dataset import Workbench, make_split
from matml.properties.evaluation.train_and_predict import metatrain_member, train_member
from matml.properties.networks.adaptation import fine_tuned_weights, gradient_step_weights
from matml.properties.networks.ensemble import load_network, save_network
from matml.properties.networks.metatrain import episode_batch, episode_loss
from matml.properties.settings import PropertiesSection
from matml.structures.settings import STRUCTURES
from matml.studies.adaptation.forgetting import (
    Outcome,
    Way,
    distance_of_starts,
    draw_orders,
    family_means,
    measures,
    study,
    unseen_families,
)
from matml.studies.adaptation.shots import comparable_families, decompose, predict_draws

NAME = "formation_energy_eV_per_atom"
SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0, bulk_modulus_GPa: 0.3}
smallest_family: 8
smallest_task: 6
members: 2
width: 16
layers: 2
batch_size: 32
epochs: 6
inner_steps: 2
meta_batches: 4
meta_learning_rate: 1.0e-3
tasks_per_batch: 2
shots: [0, 5]
smallest_query: 3
"""


@pytest.fixture(scope="module")
def run(crystals, tmp_path_factory):
    """Folder of a run with its first member trained and meta-trained."""
    folder = tmp_path_factory.mktemp("studies")
    write_table(folder / "structures/structures.parquet", crystals.table, STRUCTURES)
    crystals.graphs.save(folder / "graphs")
    # families with labels of the property, so that several are there to adapt to
    sizes = crystals.table.groupby("family")[NAME].count().sort_values(kind="stable")
    held_out = {"held_out": sizes.index[::-1][1:6:2].tolist()}
    (folder / "properties.yaml").write_text(SETTINGS + yaml.safe_dump(held_out))
    settings = read_section(PropertiesSection, folder / "properties.yaml")
    make_split(folder / "structures", folder / "graphs", folder / "run", settings, 0)
    bench = Workbench.open(folder / "structures", folder / "graphs", folder / "run", settings)
    member = folder / "run/members/0"
    options = {"member": 0, "seed": 0, "device": "cpu"}
    train_member(bench, member, settings, **options)
    metatrain_member(bench, member, member, settings, **options)
    return folder, bench, settings, member


def invoke(folder, *arguments):
    common = [
        f"--structures={folder}/structures",
        f"--graphs={folder}/graphs",
        f"--config={folder}/properties.yaml",
        f"--run={folder}/run",
    ]
    return CliRunner().invoke(properties, [*arguments, *common])


def test_error_is_squared_bias_plus_variance():
    generator = np.random.default_rng(0)
    labels = generator.normal(size=7)
    predictions = labels + 0.3 + generator.normal(0, 0.5, (25, 7))
    predictions[generator.random((25, 7)) < 0.3] = np.nan
    parts = decompose(predictions, labels)
    assert parts.mse == pytest.approx(parts.squared_bias + parts.variance, rel=1e-12)
    errors = [np.nanmean((predictions[:, i] - labels[i]) ** 2) for i in range(7)]
    assert parts.mse == pytest.approx(np.mean(errors), rel=1e-12)
    spread = [np.nanvar(predictions[:, i]) for i in range(7)]
    assert parts.variance == pytest.approx(np.mean(spread), rel=1e-12)


def test_a_crystal_predicted_once_has_no_spread_and_is_left_out():
    predictions = np.array([[1.0, 5.0], [3.0, np.nan]])
    assert vars(decompose(predictions, np.zeros(2))) == {
        "mse": 5.0,
        "squared_bias": 4.0,
        "variance": 1.0,
    }


def test_fewer_labels_are_studied_on_the_same_families_as_more():
    sizes = {"a": 40, "b": 16, "c": 17, "d": 20, "e": 9}
    families = {name: np.arange(size) for name, size in sizes.items()}
    chosen = comparable_families(families, [1, 5, 10, 20, 99], 5)
    assert chosen == {1: list("abcd"), 5: list("abcd"), 10: list("abcd"), 20: ["a"]}


def in_double(bench):
    return GraphBatches(bench.crystals, bench.targets, dtype=np.float64)


def test_stacked_steps_from_a_start_equal_one_task_alone(run):
    _, bench, settings, member = run
    network, inner = load_network(member / "maml.safetensors", bench.recipe(settings))
    # in double precision: Adam makes whole steps of what rounding leaves of a zero gradient
    network, inner = network.double(), inner.double()
    batches, column = in_double(bench), bench.names.index(NAME)
    rows = np.flatnonzero(~np.isnan(bench.targets[:, column]))
    first, second = (
        [episode_batch(batches, rows[i : i + 4], column) for i in starts]
        for starts in ((0, 10), (20, 30))
    )
    # two families in turn, in one go for two orders, and by the loop that meta-training used
    once = gradient_step_weights(network, inner, first, checkpoints=[2])[2]
    twice = gradient_step_weights(network, inner, second, checkpoints=[1, 2], start=once)
    for order in (0, 1):
        model = inner.adapt(network, episode_loss, first[order])
        start = {
            name: weight.detach().requires_grad_() for name, weight in model.parameters.items()
        }
        for steps in (1, 2):
            alone = inner.adapt(network, episode_loss, second[order], start=start, steps=steps)
            for name, weight in alone.parameters.items():
                torch.testing.assert_close(twice[steps][name][order], weight.detach())
    options = {"learning_rate": 1e-3, "checkpoints": [3]}
    tuned = fine_tuned_weights(network, second, start=once, **options)[3]
    one = {name: weight[1:] for name, weight in once.items()}
    alone = fine_tuned_weights(network, second[1:], start=one, **options)[3]
    for name, weight in alone.items():
        torch.testing.assert_close(tuned[name][1], weight[0])
        assert not torch.equal(weight[0], once[name][1])


def test_backward_transfer_by_hand():
    # one order of three families: errors after 0, 1, 2, 3 of them
    error = np.array([[[9.0, 8, 7], [1, 8, 7], [2, 3, 7], [4, 2, 5]]])
    order = np.array([["a", "b", "c"]])
    ones = np.array([[0.0, 1, 2, 3]])
    found = measures(Outcome(order, error, ones, ones, ones / 10))
    assert found["error_before"].tolist() == [9, 8, 7]
    assert found["error_when_adapted"].tolist() == [1, 3, 5]
    assert found["error_at_end"].tolist() == [4, 2, 5]
    # the first family was forgotten, the second gained
    assert found["backward_transfer"].tolist() == [-3, 1]
    assert found["pretraining_change"].tolist() == [3]
    assert family_means(np.array([["a", "b"], ["b", "c"]]), np.eye(2)).tolist() == [1, 0, 1]


def test_orders_hold_no_query_crystal_in_a_support():
    families = {name: np.arange(20) + 100 * i for i, name in enumerate("abcd")}
    orders = draw_orders(families, shots=5, orders=6, length=3, most_queries=10, seed=1)
    assert len({tuple(turn.family for turn in order) for order in orders}) > 1
    for order in orders:
        assert len({turn.family for turn in order}) == 3
        for turn in order:
            assert len(turn.support) == 5
            assert len(turn.query) == 10
            assert not set(turn.support) & set(turn.query)
            assert set(turn.support) | set(turn.query) <= set(families[turn.family])


def test_forgetting_starts_from_the_starts(run, tmp_path):
    _, bench, settings, trained = run
    member = tmp_path / "0"
    shutil.copytree(trained, member)
    # so short a meta-training may keep the weights that it began with
    network, inner = load_network(trained / "maml.safetensors", bench.recipe(settings))
    for weight in network.parameters():
        weight.data.mul_(1.01)
    save_network(member / "maml.safetensors", network, inner)
    outcomes = study(
        bench, [member], settings, NAME, shots=3, steps=[2], orders=3, length=3, retained=10
    )
    assert list(outcomes) == [
        Way(start, rule, 2) for rule in ("inner", "adam") for start in ("maml", "pretrained")
    ]
    adam, inner = (outcomes[Way("pretrained", rule, 2)] for rule in ("adam", "inner"))
    # before any step the rule does not matter
    np.testing.assert_array_equal(adam.error[:, 0], inner.error[:, 0])
    np.testing.assert_array_equal(adam.distance[:, 0], 0)
    assert (adam.distance[:, 1:] > 0).all()
    assert not np.allclose(adam.error[:, 1], adam.error[:, 0])
    start = outcomes[Way("maml", "inner", 2)]
    assert not np.allclose(start.error[:, 0], inner.error[:, 0])
    moved = distance_of_starts(bench, [trained], settings)
    assert distance_of_starts(bench, [member], settings) == pytest.approx(
        0.01, abs=1.01 * moved + 1e-5
    )
    test_families = set(bench.split.test)
    assert set(adam.families.ravel()) <= test_families
    # steps of Adam are as long as its rate, whatever the support: at most two of them
    network, _ = load_network(member / "pretrained.safetensors", bench.recipe(settings))
    entries = sum(weight.numel() for weight in network.parameters())
    rate = settings.fine_tuning_learning_rates[0]
    assert (adam.distance[:, 1] <= 2 * rate * entries**0.5 * (1 + 1e-5)).all()


def test_the_spread_over_draws_comes_from_the_supports(run):
    from matml.properties.networks.ensemble import load_member

    _, bench, settings, folder = run
    member = load_member(folder, bench.recipe(settings), ["maml"])
    for module in (member.pretrained, *member.meta_trained["maml"]):
        module.double()
    column = bench.names.index(NAME)
    rows = next(iter(unseen_families(bench, NAME, 6).values()))
    supports = [np.array([0, 1, 2]), np.array([0, 1, 2]), np.array([3, 4, 5])]
    found = predict_draws(member, in_double(bench), column, rows, supports, [0, 1, 4], settings)
    assert set(found) == {("network_gp", -1)} | {
        (method, step) for method in ("maml", "fine_tuned") for step in (0, 1, 4)
    }
    for (method, step), values in found.items():
        assert values.shape == (3, len(rows))
        np.testing.assert_allclose(values[0], values[1], atol=1e-5, err_msg=f"{method} {step}")
        assert np.allclose(values[0], values[2], atol=1e-5) == (step == 0)


def test_forgetting_command(run, tmp_path):
    folder, _, _, member = run
    arguments = [f"--member={member}", f"--property={NAME}", "--shots=3", "--orders=2"]
    arguments += ["--length=3", "--steps=1", "--steps=2"]
    written = [f"--json={tmp_path}/records.json", f"--figure={tmp_path}/figure.png"]
    result = invoke(folder, "study-forgetting", *arguments, *written)
    assert result.exit_code == 0, result.output
    assert "backward transfer" in result.output
    records = json.loads((tmp_path / "records.json").read_text())
    metrics = {record["metric"] for record in records if record["setting"] == NAME}
    assert {"backward_transfer [eV/atom]", "relative_distance"} <= metrics
    assert sum(r["is_default"] and r["setting"] == NAME for r in records) == len(metrics)
    difference = [r for r in records if r["method"].startswith("meta-learned less pre-trained")]
    assert {r["method"].rsplit(", ", 1)[1] for r in difference} == {"1 steps", "2 steps"}
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    again = invoke(folder, "study-forgetting", *arguments)
    assert again.output == result.output


def test_shots_command(run, tmp_path):
    folder, _, _, member = run
    arguments = [f"--member={member}", f"--property={NAME}", "--shots=1", "--shots=4"]
    arguments += ["--draws=5", "--steps=1", "--steps=3"]
    written = [f"--json={tmp_path}/records.json", f"--figure={tmp_path}/figure.png"]
    result = invoke(folder, "study-shots", *arguments, *written)
    assert result.exit_code == 0, result.output
    assert "4 labels" in result.output
    records = json.loads((tmp_path / "records.json").read_text())
    value = {(r["method"], r["shots"], r["metric"].split(" ")[0]): r["value"] for r in records}
    checked = 0
    for (method, shots, metric), error in value.items():
        if metric == "mse":
            parts = [value[method, shots, part] for part in ("squared_bias", "variance")]
            assert error == pytest.approx(sum(parts), rel=1e-9)
            assert (parts[1] < 1e-12) == method.endswith(" 0 steps")
            checked += 1
    assert checked == 2 * (2 * 3 + 1)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study-forgetting", "--member={}", "--property=hardness"], "the run learned"),
        (["study-forgetting", "--member={}", "--shots=500"], "lower the number of shots"),
        (["study-forgetting", "--member={}/x"], "no such file"),
        (["study-shots", "--member={}", "--property=hardness"], "the run learned"),
    ],
)
def test_bad_requests_name_the_remedy(run, arguments, message):
    folder, _, _, member = run
    result = invoke(folder, *(part.format(member) for part in arguments))
    assert message in str(result.exception)


def test_fine_tuning_of_stacked_weights_is_adam_on_each_network_alone(run):
    _, bench, settings, member = run
    recipe = bench.recipe(settings)
    batches, column = in_double(bench), bench.names.index(NAME)
    rows = np.flatnonzero(~np.isnan(bench.targets[:, column]))
    supports = [episode_batch(batches, rows[i : i + 4], column) for i in (0, 10)]
    network = load_network(member / "pretrained.safetensors", recipe)[0].double()
    tuned = fine_tuned_weights(network, supports, learning_rate=1e-3, checkpoints=[3])[3]
    for number, support in enumerate(supports):
        alone = load_network(member / "pretrained.safetensors", recipe)[0].double()
        optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            episode_loss(alone, support).backward()
            optimizer.step()
        for name, weight in alone.named_parameters():
            torch.testing.assert_close(tuned[name][number], weight.detach(), rtol=1e-6, atol=1e-8)
