"""Adapting many tasks at once gives what adapting each alone gives."""

import pytest
import torch
from torch import nn

from matml.meta import BoundModel, Diverged, GradientSteps
from matml.meta.parallel import adapt_many, call_many, repeat_weights, stack_padded


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
