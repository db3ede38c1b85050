"""Processes that share tasks take the steps that one process takes; stacked tasks too."""

import json
import runpy
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from matml.meta import (
    FOMAML,
    MAML,
    TENSORS,
    GradientSteps,
    MetaTraining,
    Task,
    TaskDiverged,
    meta_train,
)

SCRIPT = textwrap.dedent(
    """
    import json, os, sys
    from pathlib import Path

    import torch
    from torch import nn
    from matml.meta import MAML, GradientSteps, MetaTraining, Task, meta_train

    torch.set_num_threads(1)

    def draw(generator):
        x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
        y = torch.sin(x @ torch.randn(3, 1, generator=generator, dtype=torch.float64))
        spoiled = torch.rand((), generator=generator).item() < 0.1
        scale = torch.nan if spoiled else 1.0
        name = "spoiled" if spoiled else "sound"
        return Task(name, (x[:4], y[:4] * scale), (x[4:], y[4:]))

    def loss(model, data):
        return (model(data[0]) - data[1]).square().mean()

    rank = os.environ.get("RANK", "0")

    def train(settings, name="alike", dropout=0.0, seed=0):
        torch.manual_seed(seed)
        layers = [nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1)]
        layers.insert(3, nn.Dropout(dropout))
        net = nn.Sequential(*layers).double()
        inner = GradientSteps(net, steps=2, learning_rate=0.1, learn_rates="tensor")
        generator = torch.Generator().manual_seed(7)
        validation = [t for t in (draw(generator) for _ in range(6)) if t.name == "sound"]
        history = meta_train(net, loss, inner, MAML(), draw, settings,
                             validation_tasks=validation,
                             checkpoint=Path(f"{sys.argv[1]}-{name}.safetensors"))
        parameters = [*net.parameters(), *inner.parameters()]
        weights = torch.cat([p.detach().reshape(-1) for p in parameters]).tolist()
        return weights, history.train_loss[1:], len(history.skipped)

    found = [train(MetaTraining(batches=6, tasks_per_batch=5, validate_every=2))]
    if "RANK" in os.environ:
        # another training finds the checkpoint: kept aside by one process, seen by both
        for rate in (0.1, 0.05):
            settings = MetaTraining(batches=6, tasks_per_batch=5, validate_every=1, patience=2,
                                    learning_rate=rate)
            found.append(train(settings, "apart", 0.3, int(rank)))
    # a file each: lines that processes print at once may run into each other
    Path(f"{sys.argv[1]}.{rank}").write_text(json.dumps(found))
    """
)


def test_two_processes_equal_one_and_end_alike_whatever_they_start_with(
    tmp_path, monkeypatch, warm
):
    """Joined by the variables that torchrun sets, without its own process."""
    script, place = tmp_path / "train.py", tmp_path / "two"
    script.write_text(SCRIPT)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "one")])
    threads = torch.get_num_threads()
    (one,) = runpy.run_path(str(script))["found"]
    torch.set_num_threads(threads)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            ["python", str(script), str(place)],
            env=warm | joined | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    two, other = (json.loads(Path(f"{place}.{rank}").read_text()) for rank in range(2))
    assert two == other
    both, *apart = two
    assert both[2] == one[2] > 0
    for ours, theirs in zip(both[:2], one[:2], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-10, abs=1e-13)
    assert (tmp_path / "two-alike.safetensors").exists()
    assert apart[0] != apart[1]
    assert (tmp_path / "two-apart.old.safetensors").exists()


def draw(generator):
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    y = torch.sin(x @ torch.randn(3, 1, generator=generator, dtype=torch.float64))
    return Task("sine", (x[:4], y[:4]), (x[4:], y[4:]))


def spoil(generator):
    task = draw(generator)
    if torch.rand((), generator=generator) < 0.3:
        return Task("spoiled", (task.support[0], task.support[1] * torch.nan), task.query)
    return task


def mean_square(model, data):
    return (model(data[0]) - data[1]).square().mean()


@pytest.mark.parametrize("outer", [MAML(), FOMAML()])
@pytest.mark.parametrize("source", [draw, spoil])
def test_stacked_tasks_take_the_same_steps(outer, source):
    found = []
    for stacking in (None, TENSORS, replace(TENSORS, at_once=3)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1)).double()
        inner = GradientSteps(net, steps=2, learning_rate=0.1, learn_rates="entry")
        settings = MetaTraining(batches=5, tasks_per_batch=4)
        history = meta_train(net, mean_square, inner, outer, source, settings, stacking=stacking)
        weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        found.append((weights, history.skipped))
    for weights, skipped in found[1:]:
        torch.testing.assert_close(weights, found[0][0], rtol=1e-10, atol=1e-12)
        assert skipped == found[0][1]
    assert bool(found[0][1]) == (source is spoil)


def test_all_tasks_diverging_is_an_error():
    def hopeless(generator):
        task = draw(generator)
        return Task("hopeless", (task.support[0], task.support[1] * torch.nan), task.query)

    net = nn.Linear(3, 1).double()
    settings = MetaTraining(batches=1, tasks_per_batch=2)
    with pytest.raises(TaskDiverged, match="inner learning rate"):
        meta_train(net, mean_square, GradientSteps(net), MAML(), hopeless, settings)
