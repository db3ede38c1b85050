"""Adaptation is learned on groups that the backbone has not seen, or not at all."""

import pytest
import torch
from torch import nn

from matml.meta import MAML, CrossFit, GradientSteps, Leak, MetaTraining, Task, deal, meta_train


def test_groups_are_dealt_evenly():
    sizes = {f"g{i}": 100 - i for i in range(12)}
    folds = deal(list(sizes), 3)
    totals = [sum(sizes[g] for g, f in folds.items() if f == fold) for fold in range(3)]
    assert max(totals) - min(totals) <= 2
    plan = CrossFit(folds)
    assert len(plan) == 3
    for fold in range(3):
        assert not set(plan.seen(fold)) & set(plan.unseen(fold))
        assert set(plan.seen(fold)) | set(plan.unseen(fold)) == set(sizes)


@pytest.mark.parametrize("folds", [0, 1, 5])
def test_too_few_groups_are_an_error(folds):
    with pytest.raises(ValueError, match=f"{folds} folds"):
        deal(["a", "b", "c"], folds)


def draw_of(group):
    def draw(generator):
        x = torch.randn(6, 2, generator=generator)
        return Task(f"{group} / hardness", (x[:3], x[:3, :1]), (x[3:], x[3:, :1]), group=group)

    return draw


def train(draw, **options):
    net = nn.Linear(2, 1)
    loss = lambda model, data: (model(data[0]) - data[1]).square().mean()  # noqa: E731
    settings = MetaTraining(batches=2, validate_every=1)
    return meta_train(net, loss, GradientSteps(net), MAML(), draw, settings, **options)


def test_a_group_that_the_backbone_has_seen_is_refused():
    train(draw_of("spinel"), seen_groups={"rutile"})
    with pytest.raises(Leak, match=r"'spinel / hardness'.*the backbone has seen"):
        train(draw_of("spinel"), seen_groups={"spinel"})


def test_a_validation_task_of_a_group_in_use_is_refused():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(Leak, match="the backbone"):
        train(
            draw_of("spinel"), seen_groups={"beryl"}, validation_tasks=[draw_of("beryl")(generator)]
        )
    with pytest.raises(Leak, match="meta-training"):
        train(draw_of("spinel"), validation_tasks=[draw_of("spinel")(generator)])
