"""What must not happen: spoiled batches, silent wrong results, runs that are mixed up."""

import logging
import math
import re

import pytest
import torch
from torch import nn

from matml.meta import (
    FOMAML,
    MAML,
    TENSORS,
    GaussianHead,
    GradientSteps,
    HeadSteps,
    ImplicitMAML,
    MAMLPlusPlus,
    MaximumAPosteriori,
    MetaTraining,
    Reptile,
    StepStatistics,
    Task,
    TaskDiverged,
    TaskStatistics,
    Transductive,
    accumulate_meta_gradient,
    meta_train,
)
from matml.meta.checkpoint import fingerprint, load_checkpoint
from matml.meta.inner.gradient import Diverged
from matml.meta.layers import LayerNorm, Linear, takes_stacked_weights
from matml.meta.vectorised import accumulate_meta_gradient_many


def mean_square(model, data):
    return (model(data[0]) - data[1]).square().mean()


def draw(generator, scale=1.0):
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    y = torch.sin(x @ torch.randn(3, 1, generator=generator, dtype=torch.float64))
    return Task("sine", (x[:4], scale * y[:4]), (x[4:], y[4:]))


def network(*layers):
    torch.manual_seed(0)
    layers = layers or (nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    return nn.Sequential(*layers).double()


def fixed(count, seed=9):
    generator = torch.Generator().manual_seed(seed)
    return [draw(generator) for _ in range(count)]


def weights_of(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def root(model, data):
    # the root of zero has no derivative
    return mean_square(model, data).sqrt()


def test_a_task_without_a_finite_gradient_is_named_and_spoils_nothing():
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    x = torch.ones(3, 1, dtype=torch.float64)
    exact = Task("exact", (x, x), (x, 0 * x))
    inner = GradientSteps(net, steps=0)
    accumulate_meta_gradient(net, root, inner, MAML(), [Task("sound", (x, x), (x, x))])
    before = net.weight.grad.clone()
    assert before.abs().item() > 0
    with pytest.raises(TaskDiverged, match=r"'exact'.*meta-gradient has norm nan"):
        accumulate_meta_gradient(net, root, inner, MAML(), [exact])
    assert torch.equal(net.weight.grad, before)


def test_a_training_run_goes_on_without_such_a_task():
    x = torch.ones(3, 1, dtype=torch.float64)

    def draw_some(generator):
        exact = torch.rand((), generator=generator) < 0.3
        y = 0 * x if exact else x
        return Task("exact" if exact else "sound", (x, y), (x, y))

    for stacking in (None, TENSORS):
        net = nn.Linear(1, 1, bias=False).double()
        nn.init.zeros_(net.weight)
        inner = GradientSteps(net, steps=0)
        # the first step starts where the root has no derivative
        settings = MetaTraining(batches=1, tasks_per_batch=8)
        history = meta_train(net, root, inner, MAML(), draw_some, settings, stacking=stacking)
        assert set(history.skipped) == {"exact"}
        assert net.weight.item() > 0


def test_stackable_modules_need_one_loss_per_task():
    class Stackable(nn.Sequential):
        stackable = True

    net = Stackable(Linear(3, 1)).double()
    supports = TENSORS.stack([task.support for task in fixed(4)])
    queries = TENSORS.stack([task.query for task in fixed(4)])
    with pytest.raises(ValueError, match=r"one value per task.*mean\(\(-2, -1\)\)"):
        accumulate_meta_gradient_many(
            net, mean_square, GradientSteps(net), MAML(), supports, queries, TENSORS.rebuild
        )


def run(path, net=None, loss=mean_square, validation=3, settings=None, **options):
    net = net or network()
    inner = GradientSteps(net, **{"steps": 1, "learning_rate": 0.05} | options)
    settings = settings or MetaTraining(batches=6, validate_every=2)
    tasks = fixed(validation)
    history = meta_train(
        net, loss, inner, MAML(), draw, settings, validation_tasks=tasks, checkpoint=path
    )
    return net, history


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"proximal": 3.0}, "inner"),
        ({"largest_gradient": 1e-3}, "inner"),
        ({"adapted": lambda name: name.startswith("2")}, "inner"),
        ({"learning_rate": 0.1}, "start"),
        ({"validation": 2}, "validation_tasks"),
        ({"loss": root}, "loss"),
        ({"settings": MetaTraining(batches=8, validate_every=2)}, "batches"),
    ],
)
def test_a_checkpoint_of_another_run_is_kept_and_not_continued(tmp_path, caplog, change, named):
    path = tmp_path / "run.safetensors"
    run(path)
    _, before = load_checkpoint(path)
    with caplog.at_level(logging.WARNING):
        run(path, **change)
    [differing] = re.findall(r"is of another run \((.*) differ\)", caplog.text)
    assert named in differing.split(", ")
    assert load_checkpoint(tmp_path / "run.old.safetensors")[1] == before


def test_batch_norm_policy_is_part_of_the_run(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    for policy in (Transductive(), TaskStatistics()):
        run(path, network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), batch_norm=policy)
    [differing] = re.findall(r"is of another run \((.*) differ\)", caplog.text)
    assert "inner" in differing.split(", ")


def test_a_stopped_run_stays_stopped(tmp_path):
    path = tmp_path / "run.safetensors"
    settings = MetaTraining(batches=40, validate_every=1, patience=2, learning_rate=0.5)
    net, history = run(path, settings=settings)
    assert history.batch[-1] < 40
    assert history.batch[-1] - history.best_batch == 2
    again, more = run(path, settings=settings)
    assert more.batch == history.batch
    assert torch.equal(weights_of(again), weights_of(net))


def test_the_best_weights_survive_a_resumed_run(tmp_path):
    # the rate is absurd, so that the start stays the best; the second half must remember it
    path = tmp_path / "run.safetensors"
    start = weights_of(network())
    calls = 0

    class Killed(Exception):
        pass

    def draw_until(generator):
        nonlocal calls
        calls += 1
        if calls == 13:
            raise Killed
        return draw(generator)

    settings = MetaTraining(batches=6, validate_every=2, learning_rate=3.0)
    net = network()
    inner = GradientSteps(net, steps=1, learning_rate=0.05)
    with pytest.raises(Killed):
        meta_train(
            net, mean_square, inner, MAML(), draw_until, settings,
            validation_tasks=fixed(3), checkpoint=path,
        )  # fmt: skip
    net, history = run(path, settings=settings)
    assert history.best_batch == 0
    assert history.batch == [0, 2, 4, 6]
    assert torch.equal(weights_of(net), start)


def test_the_outer_gradient_is_bounded(monkeypatch):
    seen = []
    step = torch.optim.Adam.step

    def watched(self, *arguments):
        seen.append([p.grad.norm().item() for p in self.param_groups[0]["params"]])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    for bound in (1e-3, 1e3):
        net = network()
        settings = MetaTraining(batches=1, largest_gradient=bound)
        meta_train(net, mean_square, GradientSteps(net), MAML(), draw, settings)
    small, large = (math.hypot(*norms) for norms in seen)
    assert small == pytest.approx(1e-3, rel=1e-3)
    assert large > 1e-2


def test_rules_change_along_the_way():
    asked = []

    class Watched(MAMLPlusPlus):
        def at(self, batch):
            asked.append(batch)
            return super().at(batch)

    net = network()
    inner = GradientSteps(net, steps=2)
    meta_train(net, mean_square, inner, Watched(2), draw, MetaTraining(batches=3))
    assert asked == [0, 1, 2]


def test_validation_is_without_dropout_and_leaves_modes_alone():
    net = network(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    inner = GradientSteps(net, steps=1)
    settings = MetaTraining(batches=2, validate_every=1, learning_rate=1e-12)
    history = meta_train(net, mean_square, inner, MAML(), draw, settings, validation_tasks=fixed(2))
    assert max(history.validation_loss) - min(history.validation_loss) < 1e-9
    assert net[1].training
    assert not inner.training


def test_bad_validation_tasks_are_named_and_left_out(caplog):
    net = network()
    good, bad = fixed(1), Task("bad", fixed(1)[0].support, (torch.ones(2, 3).double(),) * 2)
    bad.query[1][0] = math.nan
    options = (net, mean_square, GradientSteps(net), MAML(), draw, MetaTraining(batches=1))
    history = meta_train(*options, validation_tasks=[*good, bad])
    assert "1 of 2 validation tasks have no finite loss at the start" in caplog.text
    assert "'bad'" in caplog.text
    assert all(math.isfinite(value) for value in history.validation_loss)
    with pytest.raises(TaskDiverged, match="'bad' and all others"):
        meta_train(*options, validation_tasks=[bad])


def test_batch_norm_without_a_policy_is_pointed_out(caplog):
    net = network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    meta_train(net, mean_square, GradientSteps(net), MAML(), draw, MetaTraining(batches=1))
    assert "BatchNorm layer '1' takes the statistics of each batch" in caplog.text


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 1)

    def forward(self, x):
        return self.out(self.norm(torch.tanh(self.norm(x))))


def test_a_batch_norm_layer_called_twice_is_refused_under_a_policy():
    net = Twice().double()
    inner = GradientSteps(net, batch_norm=TaskStatistics())
    with pytest.raises(ValueError, match="'norm' is called twice"):
        inner.adapt(net, mean_square, fixed(1)[0].support)


def test_queries_of_early_steps_are_not_learned_as_supports():
    net = network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    rows = []
    for shift in (0.0, 1000.0):
        policy = StepStatistics(net, 2)
        inner = GradientSteps(net, steps=2, batch_norm=policy)
        [task] = fixed(1)
        far = Task("far", task.support, (task.query[0] + shift, task.query[1]))
        rule = MAMLPlusPlus(2, multi_step_batches=10).at(0)
        accumulate_meta_gradient(net, mean_square, inner, rule, [far])
        rows.append(policy.mean_0.clone())
    assert torch.equal(rows[0][:2], rows[1][:2])
    assert not torch.allclose(rows[0][2], rows[1][2])
    with pytest.raises(ValueError, match="made for 2 inner steps"):
        policy.on_support(3)


@pytest.mark.parametrize("differentiable", [False, True])
def test_adapting_from_constants_and_without_gradients(differentiable):
    net, [task] = network(), fixed(1)
    inner = GradientSteps(net, steps=3, learning_rate=0.1)
    plain = inner.adapt(net, mean_square, task.support).parameters
    start = {name: weight.detach() for name, weight in net.named_parameters()}
    options = {"start": start, "differentiable": differentiable}
    constant = inner.adapt(net, mean_square, task.support, **options).parameters
    with torch.no_grad():
        without = inner.adapt(net, mean_square, task.support).parameters
    for name, weight in plain.items():
        assert torch.equal(constant[name], weight)
        assert torch.equal(without[name], weight)
        assert not without[name].requires_grad


def test_layer_norm_is_torchs_where_weights_are_not_stacked():
    x = torch.randn(3, 3, 4)
    for options in ({}, {"elementwise_affine": False}, {"bias": False}):
        own, theirs = LayerNorm((3, 4), **options), nn.LayerNorm((3, 4), **options)
        torch.testing.assert_close(own(x), theirs(x))
    module = nn.Sequential(LayerNorm((3, 4)))
    module.stackable = True
    assert not takes_stacked_weights(module)


class Line(nn.Module):
    def __init__(self, power=1.0):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
        self.power = power

    def forward(self, x):
        return torch.exp(self.power * self.slope * x)


def residuals(model, data):
    return model(data[0]) - data[1]


def test_a_posterior_without_an_optimum_is_told():
    net = Line(power=8.0)
    x = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    inner = MaximumAPosteriori(net, residuals, steps=1, noise=0.01)
    with pytest.raises(Diverged, match="no optimum after 1 steps"):
        inner.adapt(net, None, (x, torch.exp(3 * x)))
    x[2] = math.nan
    with pytest.raises(Diverged, match="nan"):
        MaximumAPosteriori(net, residuals).adapt(net, None, (x, torch.exp(3 * x)))


def test_implicit_maml_tells_when_it_did_not_converge():
    net = network()
    inner = GradientSteps(net, steps=50, learning_rate=0.05, proximal=0.1)
    tasks = fixed(1)
    with pytest.raises(TaskDiverged, match=r"'sine'.*conjugate-gradient iterations left"):
        accumulate_meta_gradient(net, mean_square, inner, ImplicitMAML(iterations=2), tasks)

    def hilly(model, data):
        return -mean_square(model, data)

    inner = GradientSteps(net, steps=1, learning_rate=1e-3, proximal=1e-6)
    with pytest.raises(TaskDiverged, match="curves downwards"):
        accumulate_meta_gradient(net, hilly, inner, ImplicitMAML(), tasks)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda net: MetaTraining(tasks_per_batch=0), ValueError, "tasks_per_batch = 0"),
        (lambda net: MetaTraining(validate_every=0), ValueError, "validate_every = 0"),
        (lambda net: MetaTraining(learning_rate=-1.0), ValueError, "learning_rate = -1"),
        (lambda net: GradientSteps(net, learning_rate=0.0), ValueError, "rate above 0"),
        (lambda net: HeadSteps(net, "2", batch_norm=Transductive()), ValueError, "batch_norm"),
        (
            lambda net: Reptile().backward(net, mean_square, GaussianHead(net, "2"), None, 1.0),
            TypeError,
            "Reptile needs gradient steps, not GaussianHead",
        ),
        (
            lambda net: accumulate_meta_gradient(
                net, mean_square, GradientSteps(net, steps=5), MAML(True, (0.5, 0.5)), fixed(1)
            ),
            ValueError,
            "2 step weights for 5 inner steps",
        ),
        (
            lambda net: GaussianHead(net, "2").adapt(
                net, None, (fixed(1)[0].support[0], torch.ones(4).double())
            ),
            ValueError,
            r"labels\[:, None\]",
        ),
        (
            lambda net: accumulate_meta_gradient(
                net,
                lambda model, data: (model(data[0]) - data[1]).square(),
                GradientSteps(net, steps=0),
                FOMAML(),
                fixed(1),
            ),
            ValueError,
            r"loss has shape \[5, 1\], not a scalar",
        ),
    ],
)
def test_wrong_settings_are_told_with_the_remedy(make, kind, message):
    with pytest.raises(kind, match=message):
        make(network())


def test_fingerprints_tell_types_apart():
    x = torch.arange(4, dtype=torch.float32)
    prints = {fingerprint(x.to(kind)) for kind in (torch.float32, torch.bfloat16, torch.float64)}
    assert len(prints) == 3
