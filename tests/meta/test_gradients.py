"""The meta-gradient is the derivative it claims to be."""

import pytest
import torch
from torch import nn

from matml.meta import (
    FOMAML,
    MAML,
    BoundModel,
    GradientSteps,
    Task,
    TaskDiverged,
    accumulate_meta_gradient,
)


def mean_square(model, data):
    inputs, targets = data
    return (model(inputs) - targets).square().mean()


def make_tasks(count, seed=0, features=3):
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for number in range(count):
        x = torch.randn(12, features, generator=generator, dtype=torch.float64)
        slope = torch.randn(features, 1, generator=generator, dtype=torch.float64)
        y = torch.sin(x @ slope)
        tasks.append(Task(f"task {number}", (x[:5], y[:5]), (x[5:], y[5:])))
    return tasks


def make_net(norm):
    torch.manual_seed(1)
    layers = [nn.Linear(3, 8), norm(8), nn.Tanh(), nn.Linear(8, 1)]
    return nn.Sequential(*layers).double()


NORMS = {
    "none": lambda width: nn.Identity(),
    "layer": nn.LayerNorm,
    "batch": nn.BatchNorm1d,
    "group": lambda width: nn.GroupNorm(2, width),
}


def query_loss(net, inner, tasks, outer):
    return sum(outer.query_loss(net, mean_square, inner, t).item() for t in tasks) / len(tasks)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("learn_rates", [None, "entry", "tensor"])
@pytest.mark.parametrize("bound", [float("inf"), 0.2])
def test_maml_gradient_equals_finite_differences(norm, learn_rates, bound):
    net = make_net(NORMS[norm])
    options = {"learn_rates": learn_rates, "largest_gradient": bound}
    inner = GradientSteps(net, steps=3, learning_rate=0.1, **options).double()
    tasks = make_tasks(2)
    accumulate_meta_gradient(net, mean_square, inner, MAML(), tasks)
    step = 1e-6
    for weight in [*net.parameters(), *inner.parameters()]:
        flat, gradient = weight.data.view(-1), weight.grad.view(-1)
        for index in range(0, flat.numel(), max(1, flat.numel() // 3)):
            original = flat[index].item()
            flat[index] = original + step
            above = query_loss(net, inner, tasks, MAML())
            flat[index] = original - step
            below = query_loss(net, inner, tasks, MAML())
            flat[index] = original
            expected = (above - below) / (2 * step)
            assert gradient[index].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_step_meta_gradient_equals_the_closed_form():
    # linear model, one inner step: theta' = theta - a (A theta - b); gradient = (I - a A) g(theta')
    net = nn.Linear(3, 1, bias=False).double()
    rate = 0.05
    [task] = make_tasks(1)
    (x, y), (xq, yq) = task.support, task.query
    theta = net.weight.detach().T
    hessian = 2 * x.T @ x / len(x)
    fast = theta - rate * (hessian @ theta - 2 * x.T @ y / len(x))
    outer = 2 * xq.T @ (xq @ fast - yq) / len(xq)
    for rule, expected in (
        (MAML(), outer - rate * hessian @ outer),
        (FOMAML(), outer),
    ):
        net.zero_grad()
        inner = GradientSteps(net, steps=1, learning_rate=rate)
        accumulate_meta_gradient(net, mean_square, inner, rule, [task])
        torch.testing.assert_close(net.weight.grad.T, expected, rtol=1e-12, atol=1e-14)


def test_first_order_differs_from_second_order_but_starts_the_same():
    net = make_net(nn.LayerNorm)
    tasks = make_tasks(2)
    losses, gradients = {}, {}
    for name, rule in (("second", MAML()), ("first", FOMAML())):
        net.zero_grad()
        inner = GradientSteps(net, steps=3, learning_rate=0.3).double()
        losses[name] = accumulate_meta_gradient(net, mean_square, inner, rule, tasks)
        gradients[name] = net[0].weight.grad.clone()
    assert losses["first"] == pytest.approx(losses["second"], rel=1e-12)
    assert not torch.allclose(gradients["first"], gradients["second"], rtol=1e-3)


def test_meta_gradient_is_the_mean_over_tasks():
    net, tasks = make_net(nn.LayerNorm), make_tasks(3)
    inner = GradientSteps(net, steps=2, learning_rate=0.1).double()
    each = []
    for task in tasks:
        net.zero_grad()
        accumulate_meta_gradient(net, mean_square, inner, MAML(), [task])
        each.append(net[0].weight.grad.clone())
    net.zero_grad()
    accumulate_meta_gradient(net, mean_square, inner, MAML(), tasks)
    torch.testing.assert_close(net[0].weight.grad, sum(each) / 3, rtol=1e-12, atol=1e-14)


def test_running_statistics_do_not_leak_into_the_shared_module():
    net = make_net(nn.BatchNorm1d).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    inner = GradientSteps(net, steps=2, learning_rate=0.1).double()
    accumulate_meta_gradient(net, mean_square, inner, MAML(), make_tasks(2))
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    model = BoundModel(net, dict(net.named_parameters()))
    model(make_tasks(1)[0].support[0])
    assert not torch.equal(model.buffers["1.running_mean"], before["1.running_mean"])


def test_only_the_named_weights_adapt():
    net = make_net(nn.LayerNorm)
    inner = GradientSteps(net, steps=2, learning_rate=0.1, adapted=lambda name: name[0] == "3")
    fast = inner.double().adapt(net, mean_square, make_tasks(1)[0].support).parameters
    weights = dict(net.named_parameters())
    changed = {name for name in fast if not torch.equal(fast[name], weights[name])}
    assert changed == {"3.weight", "3.bias"}
    with pytest.raises(ValueError, match="no weight"):
        GradientSteps(net, adapted=lambda name: False)
    with pytest.raises(ValueError, match="'yes'"):
        GradientSteps(net, learn_rates="yes")


def test_gradient_bound_limits_the_step():
    net = make_net(nn.LayerNorm)
    inner = GradientSteps(net, steps=1, learning_rate=1.0, largest_gradient=0.01).double()
    fast = inner.adapt(net, mean_square, make_tasks(1)[0].support).parameters
    moved = sum((fast[n] - w).square().sum() for n, w in net.named_parameters()).sqrt()
    assert moved.item() == pytest.approx(0.01, rel=1e-6)


def test_divergence_names_the_task_and_the_remedy():
    net = make_net(nn.LayerNorm)
    inner = GradientSteps(net, steps=2, learning_rate=0.1).double()
    [task] = make_tasks(1)
    support = (task.support[0], task.support[1] * float("nan"))
    with pytest.raises(TaskDiverged, match=r"'steel 7'.*step 1.*support's data"):
        accumulate_meta_gradient(
            net, mean_square, inner, MAML(), [Task("steel 7", support, task.query)]
        )
