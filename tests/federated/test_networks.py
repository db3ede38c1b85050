"""Laboratories that hold other crystals train one network by files; crystals are real ones."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import BayesianRidge

from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.federated.heads import Head, HeadSums, merged
from matml.federated.network_files import NetworkRound, load_answer, save_answer
from matml.federated.networks import Rounds, State, average, local_update, train_together
from matml.properties.data.batches import GraphBatches
from matml.properties.networks.pretrain import embed, mean_absolute_error
from matml.structures.crystals import CrystalSet
from matml.structures.settings import STRUCTURES

PROPERTY = "formation_energy_eV_per_atom"
NAMES = ("east", "north", "west")
SMALL = Rounds(rounds=3, local_steps=2, batch_size=8, seed=1)
NETWORK = {"width": 8, "layers": 1}


@pytest.fixture(scope="module")
def parts(crystals):
    """Each laboratory's crystals: whole families, dealt."""
    families = pd.Series(pd.factorize(crystals.table["family"])[0] % 3)
    found = {name: crystals.subset(np.flatnonzero(families == n)) for n, name in enumerate(NAMES)}
    assert min(len(part) for part in found.values()) >= 10
    return found


@pytest.fixture(scope="module")
def begun(crystals):
    return NetworkRound.begin("test", crystals, PROPERTY, -1.0, 1.0, SMALL, NETWORK)


def answers(begun, parts, folder):
    paths = []
    for name, part in parts.items():
        paths.append(folder / f"{name}.safetensors")
        save_answer(paths[-1], begun.answer(part, name, "graphs"), name, begun)
    return paths


def test_by_files_as_in_one_process_and_the_same_bits_again(begun, crystals, parts, tmp_path):
    """A laboratory is killed in a round: it is named, and the round done again ends alike."""
    path, shared = tmp_path / "round.safetensors", begun
    for number in range(SMALL.rounds):
        shared.save(path)
        shared = NetworkRound.load(path)
        files = answers(shared, parts, tmp_path)
        if number == 1:
            with pytest.raises(MatmlError, match=r"round 1: nothing of west; wait for them"):
                shared.step(files[:2])
            undisturbed = shared.step(files).key
            files = answers(NetworkRound.load(path), parts, tmp_path)
        shared = shared.step(files[::-1])
        if number == 1:
            assert shared.key == undisturbed
    with pytest.raises(MatmlError, match="all 3 rounds of the study are done"):
        shared.step(files)
    # the same crystals in one process
    families = crystals.table["family"].to_numpy()
    place = {id_: row for row, id_ in enumerate(crystals.table["id"])}
    held = {}
    for name, part in parts.items():
        rows = part.table["id"].map(place).to_numpy()
        held[name] = {f: rows[families[rows] == f] for f in np.unique(families[rows])}
    network = begun.network()
    state = train_together(network, begun.batches(crystals, "graphs"), held, SMALL)
    torch.testing.assert_close(shared.state.weights, state.weights, rtol=0, atol=2e-6)
    assert not torch.allclose(state.weights, begun.state.weights, atol=1e-4)


def test_one_laboratory_is_plain_adamw(begun, crystals):
    """Against torch's own optimiser, round after round: moments go on where they ended."""
    batches, rows = begun.batches(crystals, "graphs"), np.arange(len(crystals))
    settings = replace(SMALL, batch_size=len(crystals))
    network, state = begun.network(), begun.state
    own = begun.network().train()
    matrices = [p for p in own.parameters() if p.ndim > 1]
    others = [p for p in own.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    )
    data = batches.batch(rows)
    for number in range(settings.rounds):
        update = local_update(network, state, batches, {"all": rows}, settings, "all")
        state = average(state, [update])
        for step in range(settings.local_steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(number + step / settings.local_steps)
            optimizer.zero_grad()
            mean_absolute_error(own(data), data.target, torch.ones(1)).backward()
            torch.nn.utils.clip_grad_norm_(own.parameters(), 1.0)
            optimizer.step()
    expected = torch.nn.utils.parameters_to_vector(own.parameters())
    torch.testing.assert_close(state.weights, expected, rtol=1e-3, atol=1e-5)


def test_variants_do_what_they_say(begun, crystals):
    batches, rows = begun.batches(crystals, "graphs"), np.arange(len(crystals))
    state, network = begun.state, begun.network()
    begun_rate = replace(SMALL, local_steps=8, rounds=1)

    def moved(settings):
        update = local_update(network, state, batches, {"all": rows}, settings, "all")
        return update.weights - state.weights

    plain = moved(begun_rate)
    clipped = moved(replace(begun_rate, largest_update=0.01))
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), plain / plain.norm(), rtol=0, atol=1e-4)
    assert not torch.equal(moved(replace(begun_rate, inner_rate=0.01)), plain)
    update = local_update(network, state, batches, {"all": rows}, begun_rate, "all")
    # who has twice the crystals counts twice
    other = replace(update, crystals=2 * update.crystals, weights=state.weights)
    mean = average(state, [update, other]).weights
    torch.testing.assert_close(mean, state.weights + plain / 3, rtol=0, atol=1e-6)


def test_answers_that_cannot_be_are_refused(begun, parts, crystals, tmp_path):
    east, north, west = answers(begun, parts, tmp_path)
    _, update = load_answer(east, begun)
    with pytest.raises(MatmlError, match=r"east.*: the laboratory 'east' is there twice"):
        begun.step([east, east, north])
    with pytest.raises(MatmlError, match="nothing of south; wait for them, or go on with"):
        begun.step([east, north, west], expected=["south"])
    assert begun.step([east, north], expected=["west"], without=["west"]).roster == [
        "east",
        "north",
    ]
    later = begun.step([east, north, west])
    with pytest.raises(MatmlError, match="east answers to round 0 or to another study, not to"):
        later.step([east])
    bad = tmp_path / "bad.safetensors"
    far = update.weights.clone()
    far[3] += 10
    for changes, said in (
        ({"weights": update.weights * math.nan}, "weights are not finite"),
        ({"weights": far}, "a weight moved by 10, its steps can move it by"),
        ({"second": update.second - 1}, "moments of squares below 0"),
        ({"first": update.first[:-1]}, "first are not the network's"),
        ({"crystals": 3}, "3 crystals"),
    ):
        save_answer(bad, replace(update, **changes), "east", begun)
        with pytest.raises(MatmlError, match=rf"the answer of east cannot be one: {said}"):
            begun.step([bad, north, west])
    older = begun.study["settings"] | {"momentum": 0.0}
    replace(begun, study=begun.study | {"settings": older}).save(bad)
    with pytest.raises(MatmlError, match="is of another version of matml"):
        NetworkRound.load(bad)
    begun.save(bad)
    with pytest.raises(MatmlError, match=r"is 'round of a federated network', not the answer"):
        begun.step([bad])
    graphs = dict(crystals.graphs.settings)
    key = sorted(graphs)[0]
    other = replace(begun, study=begun.study | {"graphs": graphs | {key: "otherwise"}})
    with pytest.raises(MatmlError, match=rf"north: graphs are of {key} = .*'otherwise'; build"):
        other.answer(parts["north"], "north", "north")
    other = replace(begun, study=begun.study | {"element_features": "of another table"})
    with pytest.raises(MatmlError, match="describes elements otherwise"):
        other.answer(parts["north"], "north", "north")
    with pytest.raises(MatmlError, match=r"5 crystals have a label .* fewer than 10"):
        begun.answer(parts["north"].subset(np.arange(5)), "north", "north")


def test_predictions_follow_the_labels_of_a_new_family(begun, parts, tmp_path):
    labelled = parts["west"]
    told = begun.predict(labelled, "graphs")
    plain = begun.predict(labelled, "graphs", adapt=False)
    error, before = ((t["prediction"] - t["label"]).abs().mean() for t in (told, plain))
    assert error < before
    bare = CrystalSet(labelled.table.drop(columns=PROPERTY), labelled.graphs, labelled.quarantine)
    pd.testing.assert_series_equal(begun.predict(bare, "g")["prediction"], plain["prediction"])


def test_rates_rise_and_fall():
    rates = [Rounds().rate(place) for place in (0, 10, 20, 60, 100)]
    assert rates == pytest.approx([0, 2e-3, 4e-3, 2e-3, 0], abs=1e-9)
    assert State.of(torch.nn.Linear(2, 1)).weights.shape == (3,)


def test_commands_of_a_round(parts, tmp_path, matml):
    for name, part in parts.items():
        write_table(tmp_path / name / "structures/structures.parquet", part.table, STRUCTURES)
        part.graphs.save(tmp_path / name / "graphs")

    def of(name):
        return f"--structures {name}/structures --graphs {name}/graphs"

    matml(
        f"crystals start {of('east')} --study s --property {PROPERTY} --mean -1 --deviation 1 "
        "--rounds 1 --local-steps 1 --batch-size 4 --width 8 --layers 1 --out 0.safetensors"
    )
    for name in NAMES:
        said = matml(
            f"crystals answer 0.safetensors {of(name)} --laboratory {name} --out {name}.safetensors"
        )
        assert f"round 0, {name}: " in said
    files = " ".join(f"{name}.safetensors" for name in NAMES)
    said = matml(f"crystals step 0.safetensors {files} --out 1.safetensors")
    assert "round 1 of 1" in said
    said = matml(f"crystals predict 1.safetensors {of('west')} --out found.csv")
    assert f"found.csv: {len(parts['west'])} crystals, adapted to" in said
    for name in NAMES:
        matml(
            f"crystals head-sums 1.safetensors {of(name)} --property {PROPERTY} "
            f"--laboratory {name} --out {name}.safetensors"
        )
    said = matml(f"crystals head 1.safetensors {files} --out head.safetensors")
    assert "of 60 crystals" in said
    matml(f"crystals predict 1.safetensors {of('west')} --head head.safetensors --out found.csv")
    found = read_table(tmp_path / "found.csv")["prediction"]
    labels = parts["west"].table[PROPERTY]
    assert (found - labels).abs().mean() < 0.8 * (labels - labels.mean()).abs().mean()


def test_a_head_by_sums_is_that_of_the_pooled_crystals(begun, crystals, parts, tmp_path):
    paths = []
    for name, part in parts.items():
        paths.append(tmp_path / f"{name}.safetensors")
        HeadSums.of(begun, part, PROPERTY, name, "graphs").save(paths[-1])
    head = merged(paths, begun).solve()
    pooled = HeadSums.of(begun, crystals, PROPERTY, "all", "graphs").solve()
    torch.testing.assert_close(head.weights, pooled.weights, rtol=1e-10, atol=1e-10)
    head.save(tmp_path / "head.safetensors")
    read = Head.load(tmp_path / "head.safetensors", begun)
    assert np.array_equal(read.predict(begun, crystals, "g"), head.predict(begun, crystals, "g"))
    # against scikit-learn's evidence, which maximises over the penalty and the noise
    batches = GraphBatches(crystals, dtype=np.float64)
    features = embed(begun.network().double(), batches, np.arange(len(crystals)))
    labels = crystals.table[PROPERTY].to_numpy()
    other = BayesianRidge(max_iter=3000, tol=1e-8).fit(features, labels).predict(features)
    assert np.abs(head.predict(begun, crystals, "g") - other).mean() < 0.1 * labels.std()
    with pytest.raises(MatmlError, match="the laboratory 'east' is there twice"):
        merged([paths[0], paths[0]], begun)
    later = replace(begun, roster=["north"])
    with pytest.raises(MatmlError, match="are on the features of another network"):
        merged(paths, later)
    whole = HeadSums.load(paths[0], begun)
    for changes, said in (
        ({"x": whole.x * math.nan}, "not finite"),
        ({"x": 1e6 * whole.x}, "smaller than their means allow"),
        ({"xx": whole.xx[:-1]}, "not of 8 features"),
        ({"crystals": 2}, "2 crystals"),
    ):
        replace(whole, **changes).save(paths[0])
        with pytest.raises(MatmlError, match=rf"the sums of east cannot be sums: .*{said}"):
            merged(paths, begun)
