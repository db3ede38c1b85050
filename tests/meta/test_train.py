"""Meta-training improves the starting point, resumes exactly, and keeps the best."""

import math
import os
import signal
import subprocess
import textwrap

import pytest
import torch
from torch import nn

from matml.core.errors import MatmlError
from matml.meta import (
    MAML,
    GradientSteps,
    MetaTraining,
    Task,
    draw_batches,
    meta_train,
    split_support_query,
)
from matml.meta.checkpoint import load_checkpoint


def mean_square(model, data):
    return (model(data[0]) - data[1]).square().mean()


def draw_line(generator):
    """A line whose slope lies near 3: what meta-training should learn."""
    x = torch.rand(10, 1, generator=generator) * 2 - 1
    slope = 3 + 0.1 * torch.randn(1, generator=generator)
    return Task("line", (x[:3], slope * x[:3]), (x[3:], slope * x[3:]))


def make_learner(dropout=False):
    torch.manual_seed(0)
    layers = [nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1)]
    net = nn.Sequential(*layers) if dropout else nn.Linear(1, 1)
    return net, GradientSteps(net, steps=1, learning_rate=0.01, learn_rates="entry")


def validation():
    generator = torch.Generator().manual_seed(99)
    return [draw_line(generator) for _ in range(5)]


def test_meta_training_finds_the_population():
    net, inner = make_learner()
    settings = MetaTraining(batches=300, learning_rate=0.05, validate_every=50)
    history = meta_train(
        net, mean_square, inner, MAML(), draw_line, settings, validation_tasks=validation()
    )
    assert net.weight.item() == pytest.approx(3, abs=0.1)
    assert history.validation_loss[-1] < history.validation_loss[0] / 100
    assert all(rate.min() > 0 for rate in inner.rates())


def test_the_start_is_kept_where_training_does_not_help():
    net, inner = make_learner()
    before = net.weight.item()
    settings = MetaTraining(batches=10, learning_rate=0.5, validate_every=5)
    contrary = [Task("other", t.support, (t.query[0], -9 * t.query[0])) for t in validation()]
    history = meta_train(
        net, mean_square, inner, MAML(), draw_line, settings, validation_tasks=contrary
    )
    assert history.best_batch == 0
    assert net.weight.item() == before


def test_tasks_depend_on_seed_and_batch_number_only():
    def first(start):
        return next(draw_batches(draw_line, 2, seed=5, start=start))[0].support[0]

    stream = draw_batches(draw_line, 2, seed=5)
    batches = [next(stream) for _ in range(4)]
    torch.testing.assert_close(first(3), batches[3][0].support[0], rtol=0, atol=0)
    assert not torch.equal(first(2), first(3))


def test_support_and_query_are_disjoint():
    generator = torch.Generator().manual_seed(0)
    support, query = split_support_query(range(10), 4, 100, generator)
    assert len(support) == 4
    assert sorted(support + query) == list(range(10))
    with pytest.raises(ValueError, match="no query"):
        split_support_query(range(4), 4, 100, generator)


def train(checkpoint, draw=draw_line):
    """Train with dropout, so that the state of the random numbers counts; return the weights."""
    net, inner = make_learner(dropout=True)
    settings = MetaTraining(batches=60, learning_rate=0.05, validate_every=5)
    validated = {"validation_tasks": validation(), "checkpoint": checkpoint}
    meta_train(net, mean_square, inner, MAML(), draw, settings, **validated)
    return " ".join(x.hex() for p in net.parameters() for x in p.reshape(-1).tolist())


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {folder!r})
    from test_train import draw_line, train
    calls = 0
    def draw(generator):
        global calls
        calls += 1
        if calls == 130:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw_line(generator)
    train(Path(sys.argv[1]), draw)
"""


def test_a_killed_run_resumes_to_identical_weights(tmp_path, caplog, warm):
    caplog.set_level("INFO")
    whole = train(tmp_path / "whole.safetensors")
    assert "resumed" not in caplog.text
    code = textwrap.dedent(SCRIPT).format(folder=os.path.dirname(__file__))
    call = ["python", "-c", code, str(tmp_path / "killed.safetensors")]
    killed = subprocess.run(call, env=warm, capture_output=True, text=True, check=False)
    # as a shell tells it
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr
    _, state = load_checkpoint(tmp_path / "killed.safetensors")
    assert 0 < state["done"] < 60
    assert train(tmp_path / "killed.safetensors") == whole
    assert "resumed" in caplog.text


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(MatmlError, match=r"says no format.*delete it and run again"):
        load_checkpoint(path)
    with pytest.raises(MatmlError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    for batches in (5, 10):
        net, inner = make_learner()
        settings = MetaTraining(batches=batches, validate_every=5)
        history = meta_train(net, mean_square, inner, MAML(), draw_line, settings, checkpoint=path)
        assert history.batch == list(range(0, batches + 1, 5))
        assert math.isnan(history.validation_loss[-1])
