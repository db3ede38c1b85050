"""Meta-training: improve a starting point (and learned rates) over many tasks."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from matml.meta.checkpoint import (
    fingerprint,
    load_checkpoint,
    pack,
    pack_optimizer,
    save_checkpoint,
    unpack,
    unpack_optimizer,
)
from matml.meta.inner import Diverged, GradientSteps
from matml.meta.outer import MAML, TaskDiverged, accumulate_meta_gradient
from matml.meta.tasks import Loss, Task, draw_batches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetaTraining:
    """Settings of a meta-training run.

    Parameters
    ----------
    batches
        Meta-batches at most.
    tasks_per_batch
        Tasks in a meta-batch.
    learning_rate, rates_learning_rate
        Rates of the outer optimiser (Adam) for the weights and for the logarithms of the learned
        inner rates; both fall to zero along a half cosine.
    largest_gradient
        Bound on the norm of the outer gradient.
    validate_every, patience
        Validate after so many batches; stop after so many validations without a better one.
    seed
        Seed of the sequence of tasks.
    """

    batches: int = 200
    tasks_per_batch: int = 4
    learning_rate: float = 1e-3
    rates_learning_rate: float = 1e-2
    largest_gradient: float = 10.0
    validate_every: int = 25
    patience: int = 1_000_000
    seed: int = 0


@dataclass
class History:
    """What happened: one entry per validation.

    Attributes
    ----------
    batch, train_loss, validation_loss
        Batches done, mean query loss since the last validation (NaN before the first batch),
        mean query loss over the validation tasks (NaN where there are none).
    best_batch
        Where the validation loss was lowest; the module ends with the weights of that point.
    skipped
        Names of training tasks that diverged and were left out.
    """

    batch: list[int]
    train_loss: list[float]
    validation_loss: list[float]
    best_batch: int = 0
    skipped: list[str] | None = None


def validation_loss(
    module: nn.Module, loss: Loss, inner: GradientSteps, tasks: Sequence[Task]
) -> float:
    """Return the mean query loss after adaptation over tasks; a diverged one counts as infinite."""
    total = 0.0
    for task in tasks:
        try:
            model = inner.adapt(module, loss, task.support)
        except Diverged as error:
            log.warning("validation task %r: %s", task.name, error)
            return math.inf
        with torch.no_grad():
            total += loss(model, task.query).item()
    return total / len(tasks)


def meta_train(
    module: nn.Module,
    loss: Loss,
    inner: GradientSteps,
    outer: MAML,
    draw_task: Callable[[torch.Generator], Task],
    settings: MetaTraining,
    *,
    validation_tasks: Sequence[Task] = (),
    checkpoint: Path | None = None,
    title: str = "meta-training",
) -> History:
    """Meta-train `module` and the inner loop's learned rates in place.

    With validation tasks, the starting point itself counts as the first candidate and the best one
    is kept: meta-training returns what it was given where it does not help.

    Parameters
    ----------
    draw_task
        Draws one training task from a generator.
    validation_tasks
        Fixed tasks for early stopping; none of their families may occur in training.
    checkpoint
        File to resume from where it exists; rewritten at every validation and removed at the end
        by the caller, once the result is safe.

    Raises
    ------
    TaskDiverged
        Where every task of a meta-batch diverges; single ones are left out and noted.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    groups = [{"params": weights, "lr": settings.learning_rate}]
    if rates := [rate for rate in inner.parameters() if rate.requires_grad]:
        groups.append({"params": rates, "lr": settings.rates_learning_rate})
    optimizer = torch.optim.Adam(groups)
    initial_rates = [group["lr"] for group in optimizer.param_groups]
    history = History([], [], [], skipped=[])
    best, best_loss, done = _snapshot(module, inner), math.inf, 0
    # settings and starting point: another run's checkpoint is not continued
    signature = asdict(settings) | {"start": fingerprint(*best.values())}
    signature |= {"inner_steps": inner.steps, "outer": repr(outer)}

    if checkpoint is not None and checkpoint.exists():
        tensors, state = load_checkpoint(checkpoint)
        if state["settings"] != signature:
            log.info("%s: %s is of another run and is not continued", title, checkpoint)
        else:
            module.load_state_dict(unpack("module", tensors))
            inner.load_state_dict(unpack("inner", tensors))
            unpack_optimizer(optimizer, tensors)
            best = unpack("best", tensors)
            history, done = History(**state["history"]), state["done"]
            best_loss = state["best_loss"] if state["best_loss"] is not None else math.inf
            log.info("%s: resumed at batch %d of %d", title, done, settings.batches)

    def validate(train_loss: float) -> None:
        nonlocal best, best_loss
        value = validation_loss(module, loss, inner, validation_tasks) if validation_tasks else None
        history.batch.append(done)
        history.train_loss.append(train_loss)
        history.validation_loss.append(math.nan if value is None else value)
        if value is None or value < best_loss:
            best_loss = math.inf if value is None else value
            best, history.best_batch = _snapshot(module, inner), done
        if checkpoint is not None:
            tensors = pack("module", module.state_dict()) | pack("inner", inner.state_dict())
            tensors |= pack_optimizer(optimizer) | pack("best", best)
            state = {
                "settings": signature,
                "history": asdict(history),
                "done": done,
                "best_loss": best_loss if math.isfinite(best_loss) else None,
            }
            save_checkpoint(checkpoint, tensors, state)

    if not history.batch:
        validate(math.nan)
    losses: list[float] = []
    batches = draw_batches(draw_task, settings.tasks_per_batch, settings.seed, start=done)
    progress = tqdm(
        total=settings.batches, initial=done, desc=title, unit="batch", disable=None, leave=False
    )
    while done < settings.batches:
        optimizer.zero_grad()
        losses += _gradient_of_sound_tasks(module, loss, inner, outer, next(batches), history)
        for group, initial in zip(optimizer.param_groups, initial_rates, strict=True):
            group["lr"] = initial * 0.5 * (1 + math.cos(math.pi * done / settings.batches))
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], settings.largest_gradient)
        optimizer.step()
        done += 1
        progress.update()
        if done % settings.validate_every == 0 or done == settings.batches:
            validate(sum(losses) / len(losses))
            losses = []
            progress.set_postfix_str(f"validation {history.validation_loss[-1]:.4g}")
            since_best = (done - history.best_batch) // settings.validate_every
            if validation_tasks and since_best >= settings.patience:
                break
    progress.close()
    module.load_state_dict(unpack("module", best))
    inner.load_state_dict(unpack("inner", best))
    return history


def _gradient_of_sound_tasks(
    module: nn.Module,
    loss: Loss,
    inner: GradientSteps,
    outer: MAML,
    tasks: Sequence[Task],
    history: History,
) -> list[float]:
    """Accumulate the meta-gradient task by task, leaving out (and noting) those that diverge."""
    losses = []
    for task in tasks:
        try:
            losses += accumulate_meta_gradient(module, loss, inner, outer, [task])
        except TaskDiverged as error:
            log.warning("%s: left out", error)
            history.skipped.append(task.name)
    if not losses:
        raise TaskDiverged(f"all tasks of a meta-batch diverged, the last {tasks[-1].name!r}")
    for weight in [*module.parameters(), *inner.parameters()]:
        if weight.grad is not None:
            weight.grad /= len(losses)
    return losses


def _snapshot(module: nn.Module, inner: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of all weights of the learner and its inner loop."""
    tensors = pack("module", module.state_dict()) | pack("inner", inner.state_dict())
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
