"""Adapting many tasks at once gives what adapting each alone gives."""

import pytest
import torch
from torch import nn

from matml.meta import FOMAML, MAML, BoundModel, Diverged, GradientSteps, HeadSteps
from matml.meta.layers import LayerNorm, Linear, takes_stacked_weights
from matml.meta.vectorised import (
    TENSORS,
    accumulate_meta_gradient_many,
    adapt_many,
    call_many,
    repeat_weights,
    stack_padded,
)


def mean_square(model, data):
    return (model(data["x"].T) - data["y"].T).square().mean()


def tasks(count=4):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "x": torch.randn(3, 6, generator=generator, dtype=torch.float64),
            "y": torch.randn(1, 6, generator=generator, dtype=torch.float64),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.Identity, lambda n: nn.GroupNorm(2, n)])
@pytest.mark.parametrize("bound", [float("inf"), 0.05])
@pytest.mark.parametrize("learn_rates", [None, "tensor", "entry"])
def test_equals_one_by_one(norm, bound, learn_rates):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), norm(8), nn.Tanh(), nn.Linear(8, 1)).double()
    inner = GradientSteps(
        net, steps=4, learning_rate=0.2, learn_rates=learn_rates, largest_gradient=bound
    )
    items = tasks()
    together = adapt_many(inner, net, mean_square, stack_padded(items, {}), dict)
    outputs = call_many(net, together, {"x": stack_padded(items, {})["x"].mT}, lambda d: d["x"])
    for number, item in enumerate(items):
        alone = inner.adapt(net, mean_square, item).parameters
        for name, weight in alone.items():
            torch.testing.assert_close(together[name][number], weight, rtol=1e-12, atol=1e-13)
        expected = BoundModel(net, alone)(item["x"].T)
        torch.testing.assert_close(outputs[number], expected, rtol=1e-12, atol=1e-13)


class Stackable(nn.Sequential):
    stackable = True


def mean_square_of_each(model, data):
    return (model(data["x"].mT) - data["y"].mT).square().mean((-2, -1))


@pytest.mark.parametrize("inner_kind", ["steps", "head"])
@pytest.mark.parametrize("outer", [MAML(), FOMAML()])
def test_layers_that_take_stacked_weights_equal_vmap(inner_kind, outer):
    torch.manual_seed(0)
    net = Stackable(Linear(3, 8), LayerNorm(8), nn.Tanh(), Linear(8, 2), Linear(2, 1, bias=False))
    net.double()
    nn.init.normal_(net[1].weight)
    options = {"steps": 3, "learning_rate": 0.2, "largest_gradient": 0.5}
    inner = (
        HeadSteps(net, "4", **options) if inner_kind == "head" else GradientSteps(net, **options)
    )
    assert takes_stacked_weights(net)
    found = []
    for stackable in (True, False):
        net.stackable = stackable
        net.zero_grad()
        data = stack_padded(tasks(), {})
        losses = accumulate_meta_gradient_many(
            net, mean_square_of_each, inner, outer, data, stack_padded(tasks(4), {}), dict
        )
        gradient = [p.grad.reshape(-1) for p in net.parameters() if p.grad is not None]
        found.append((torch.tensor(losses), torch.cat(gradient)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-13)


def test_a_layer_that_is_not_ours_is_left_to_vmap():
    assert not takes_stacked_weights(Stackable(Linear(3, 8), nn.BatchNorm1d(8)))
    assert not takes_stacked_weights(nn.Sequential(Linear(3, 8)))


def test_a_bare_parameter_of_a_stackable_module_is_left_to_vmap_and_adapts_as_it_would_alone():
    class Shifted(nn.Module):
        stackable = True

        def __init__(self):
            super().__init__()
            self.layer = Linear(3, 2)
            self.shift = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return self.layer(x) + self.shift

    module = Shifted()
    assert not takes_stacked_weights(module)

    def loss(model, data):
        return (model(data[0]) - data[1]).square().mean((-2, -1))

    generator = torch.Generator().manual_seed(0)
    tasks = [[torch.randn(5, n, generator=generator) for n in (3, 2)] for _ in range(4)]
    inner = GradientSteps(module, steps=2, learning_rate=0.1)
    many = adapt_many(inner, module, loss, TENSORS.stack(tasks), TENSORS.rebuild)
    for number, task in enumerate(tasks):
        for name, weight in inner.adapt(module, loss, task).parameters.items():
            torch.testing.assert_close(many[name][number], weight.detach())


@pytest.mark.parametrize("layer", [nn.Linear, Linear])
def test_a_loss_that_draws_draws_anew_for_each_task(layer):
    """Inputs that are noise of variance s^2: the expected gradient of w (at 1) is 2 s^2 w."""
    module = layer(1, 1, bias=False)
    module.stackable = True
    with torch.no_grad():
        module.weight.fill_(1.0)

    def loss(model, data):
        (like,) = data
        return model(0.5 * torch.randn_like(like)).square().mean((-2, -1))

    torch.manual_seed(0)
    inner = GradientSteps(module, steps=1, learning_rate=1.0)
    tasks = TENSORS.stack([(torch.zeros(20, 1),)] * 500)
    found = 1 - adapt_many(inner, module, loss, tasks, TENSORS.rebuild)["weight"].flatten()
    # a chi^2 of 20 degrees: relative spread sqrt(2 / 20)
    assert float(found.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(found.std()) == pytest.approx(0.5 * 0.1**0.5, rel=0.15)


def test_only_adapted_weights_move():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    inner = GradientSteps(net, learning_rate=0.1, adapted=lambda name: name.startswith("2"))
    weights = adapt_many(inner, net, mean_square, stack_padded(tasks(), {}), dict)
    start = repeat_weights(dict(net.named_parameters()), 4)
    moved = {name for name in weights if not torch.equal(weights[name], start[name])}
    assert moved == {"2.weight", "2.bias"}


def test_padding_fills_the_last_dimension():
    stacked = stack_padded([{"a": torch.ones(2, 3)}, {"a": torch.ones(2, 1)}], {"a": 7})
    assert stacked["a"].shape == (2, 2, 3)
    assert stacked["a"][1].tolist() == [[1, 7, 7], [1, 7, 7]]


def test_a_task_that_diverges_is_named():
    net = nn.Linear(3, 1).double()
    items = tasks()
    items[2]["y"] = items[2]["y"] * float("nan")
    with pytest.raises(Diverged, match="task 2 of 4"):
        adapt_many(GradientSteps(net), net, mean_square, stack_padded(items, {}), dict)
