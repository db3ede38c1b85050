"""Training goes on from a checkpoint of the very same work only."""

import logging
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch import nn

from matml.core.errors import MatmlError
from matml.meta import MAML, GradientSteps, MetaTraining, Task, meta_train
from matml.meta.checkpoint import load_checkpoint, save_checkpoint
from matml.potentials.content import contents_of
from matml.properties.baselines.chgnet import potential_features
from matml.properties.data.batches import GraphBatches
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.pretrain import Pretraining, _Run, pretrain
from matml.structures.crystals import CrystalSet

ROWS = range(6)


class Stopped(Exception):
    """Stands for whatever ends a training."""


@pytest.fixture(scope="module")
def crystals():
    metals = ("Li", "Na", "K", "Rb", "Cs", "Ag", "Tl", "Cu")
    return CrystalSet.from_structures(
        [
            Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [m, "Cl"], [[0] * 3, [0.5] * 3])
            for m, a in zip(metals, np.linspace(5.1, 7.0, len(metals)), strict=True)
        ]
    )


def trained(crystals, path, monkeypatch, *, stop=False, targets=None):
    """Epochs that a pre-training took, which is stopped after its first where asked for."""
    torch.manual_seed(0)
    targets = np.linspace(-1, 1, len(crystals))[:, None] if targets is None else targets
    network = CrystalNetwork(1, width=4, layers=1)
    settings = Pretraining(weights=(1.0,), epochs=3, batch_size=4)
    epochs = []
    with monkeypatch.context() as patch:
        train_epoch = _Run.train_epoch

        def one(run, epoch):
            if stop and epoch:
                raise Stopped
            epochs.append(epoch)
            return train_epoch(run, epoch)

        patch.setattr(_Run, "train_epoch", one)
        options = {"validation_rows": [6, 7], "validate_every": 1, "checkpoint": path}
        pretrain(network, GraphBatches(crystals, targets), ROWS, settings, **options)
    return epochs


def test_features_of_a_potential_are_those_of_the_same_crystals(crystals, tmp_path):
    cache = tmp_path / "potential.safetensors"
    energy = torch.arange(8.0)
    tensors = {"features": energy[:, None], "energy_eV_per_atom": energy}
    save_checkpoint(cache, tensors, {"crystals": contents_of(crystals.table)})
    renamed = replace(crystals, table=crystals.table.assign(id=list("abcdefgh"))).subset([5, 2])
    assert potential_features(renamed, cache).energy.tolist() == [5, 2]
    table = crystals.table.assign(lattice=[1.01 * cell for cell in crystals.table["lattice"]])
    with pytest.raises(MatmlError, match="has no features of 0 and 7 other crystals as they are"):
        potential_features(replace(crystals, table=table), cache)


def test_pretraining_goes_on_with_the_same_crystals_only(crystals, tmp_path, monkeypatch, caplog):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stopped):
        trained(crystals, path, monkeypatch, stop=True)
    stopped = path.read_bytes()

    def epochs(crystals=crystals, **options):
        path.write_bytes(stopped)
        caplog.clear()
        return trained(crystals, path, monkeypatch, **options)

    assert epochs() == [1, 2]
    graphs = crystals.graphs
    distance = graphs.edge_distance.copy()
    distance[3] += 1e-3
    moved = replace(crystals, graphs=replace(graphs, edge_distance=distance))
    assert epochs(moved) == [0, 1, 2]
    assert "is of another run (crystals differ): begun anew" in caplog.text
    larger = crystals.table.assign(volume_per_atom_A3=crystals.table["volume_per_atom_A3"] * 1.01)
    assert epochs(replace(crystals, table=larger)) == [0, 1, 2]
    other = np.linspace(-1, 1, len(crystals))[:, None]
    other[7] = 0
    assert epochs(targets=other) == [0, 1, 2]
    assert "(validation differ)" in caplog.text
    monkeypatch.setattr("matml.properties.networks.pretrain.package_hash", lambda *_: "other")
    assert epochs() == [0, 1, 2]
    assert "(sources differ)" in caplog.text


def weights_of(crystals, path, gradients):
    """Weights and losses after three epochs of two steps; `gradients` counts the steps' begins."""
    torch.manual_seed(0)
    network = CrystalNetwork(1, width=4, layers=1, dropout=0.2)
    settings = Pretraining(weights=(1.0,), epochs=3, batch_size=3)
    batches = GraphBatches(crystals, np.linspace(-1, 1, len(crystals))[:, None])
    gradient = _Run._gradient

    def counted(run, rows):
        gradients(run)
        return gradient(run, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matml.properties.networks.pretrain.CHECKPOINT_EVERY_S", 0.0)
        patch.setattr(_Run, "_gradient", counted)
        records = pretrain(
            network, batches, ROWS, settings, validation_rows=[6, 7], validate_every=1,
            checkpoint=path,
        )  # fmt: skip
    return network.state_dict(), records


@pytest.mark.parametrize("begun", range(1, 6))
def test_a_killed_pretraining_ends_with_the_same_bits(crystals, tmp_path, begun):
    path, steps = tmp_path / "checkpoint.safetensors", []
    whole, losses = weights_of(crystals, tmp_path / "whole.safetensors", steps.append)
    assert len(steps) == 6

    number = iter(range(6))

    def kill(run):
        if next(number) == begun:
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        try:
            weights_of(crystals, path, kill)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    _, state = load_checkpoint(path)
    assert (state["epoch"], state["step"]) == divmod(begun, 2)
    steps = []
    resumed, again = weights_of(crystals, path, steps.append)
    assert len(steps) == 6 - begun
    assert again == losses
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name


def test_a_batch_of_large_cells_is_worked_on_in_parts(crystals, monkeypatch):
    """As many parts as there are crystals give the gradient of the whole, but for rounding."""
    found = []
    for most in (500_000, 1):
        monkeypatch.setattr("matml.properties.networks.pretrain.EDGES_AT_ONCE", most)
        torch.manual_seed(0)
        network = CrystalNetwork(2, width=4, layers=1)
        targets = np.linspace(-1, 1, 16).reshape(8, 2)
        targets[::3, 0] = np.nan
        batches = GraphBatches(crystals, targets)
        run = _Run(network, batches, np.arange(8), Pretraining((1.0, 0.3)), None, "", ())
        assert len(list(run._parts(run.rows))) == (1 if most > 1 else 8)
        loss = run._gradient(run.rows)
        found.append([torch.tensor(loss), *(weight.grad for weight in network.parameters())])
    for one, several in zip(*found, strict=True):
        torch.testing.assert_close(several, one, rtol=1e-4, atol=1e-6)


def mean_square(model, data):
    return (model(data[0]) - data[1]).square().mean()


def meta_trained(path, *, slope=3.0, validated=3.0, made_with="crystals"):
    """What a meta-training on lines of some slope says of the checkpoint that it finds."""

    def line(generator, slope=slope, name="line"):
        x = torch.rand(8, 1, generator=generator)
        return Task(name, support=(x[:4], slope * x[:4]), query=(x[4:], slope * x[4:]))

    torch.manual_seed(0)
    module = nn.Linear(1, 1)
    fixed = [line(torch.Generator().manual_seed(1), validated, "fixed")]
    meta_train(
        *(module, mean_square, GradientSteps(module, steps=1, learning_rate=0.1), MAML(), line),
        MetaTraining(batches=2, validate_every=1),
        validation_tasks=fixed,
        checkpoint=path,
        made_with=made_with,
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, None),
        ({"slope": 4.0}, "first_batch"),
        ({"validated": 4.0}, "validation_tasks"),
        ({"made_with": {"crystals": np.arange(3), "labels": torch.zeros(2)}}, "made_with"),
    ],
)
def test_meta_training_goes_on_with_the_same_tasks_only(tmp_path, caplog, change, named):
    path = tmp_path / "checkpoint.safetensors"
    meta_trained(path)
    _, before = load_checkpoint(path)
    with caplog.at_level(logging.INFO):
        meta_trained(path, **change)
    found = re.findall(r"is of another run \((.*) differ\)", caplog.text)
    assert found == ([] if named is None else [named])
    assert ("resumed at batch 2 of 2" in caplog.text) == (named is None)
    kept = path.with_suffix(".old.safetensors")
    assert kept.exists() == (named is not None)
    assert named is None or load_checkpoint(kept)[1] == before
