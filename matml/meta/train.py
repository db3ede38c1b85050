"""Meta-training: improve a starting point (and learned rates) over many tasks."""

import json
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from matml.core.files import remove_unfinished
from matml.meta.batch_norm import batch_norms
from matml.meta.checkpoint import (
    fingerprint,
    load_checkpoint,
    pack,
    pack_optimizer,
    pack_random_state,
    save_checkpoint,
    unpack,
    unpack_optimizer,
    unpack_random_state,
)
from matml.meta.crossfit import refuse_seen
from matml.meta.distributed import Processes
from matml.meta.inner.gradient import Diverged
from matml.meta.outer import Outer, TaskDiverged, accumulate_meta_gradient
from matml.meta.tasks import Loss, Task, draw_batches
from matml.meta.validation import MOST_NAMES, sound_tasks, validation_losses
from matml.meta.vectorised import Stacking, accumulate_meta_gradient_many

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
        Bound on the norm of the outer gradient, of the weights and of the rates each.
    validate_every, patience
        Validate after so many batches; stop after so many validations without a better one (by
        default never: the best weights are kept in any case).
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

    def __post_init__(self) -> None:
        for name, least in (
            ("batches", 0),
            ("tasks_per_batch", 1),
            ("validate_every", 1),
            ("patience", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least {least}")
        for name in ("learning_rate", "rates_learning_rate", "largest_gradient"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0")


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


def _described(thing: Any) -> Any:
    """Return the plain settings of an inner loop or policy, for telling runs apart."""
    plain = (bool, int, float, str, list, type(None))
    values = {
        name: value
        for name, value in vars(thing).items()
        if not name.startswith("_") and isinstance(value, plain) and name != "training"
    }
    parts = getattr(thing, "_modules", {})
    values |= {name: _described(part) for name, part in parts.items() if part is not None}
    return {"type": type(thing).__name__, **values}


def meta_train(
    module: nn.Module,
    loss: Loss,
    inner: nn.Module,
    outer: Outer,
    draw_task: Callable[[torch.Generator], Task],
    settings: MetaTraining,
    *,
    validation_tasks: Sequence[Task] = (),
    checkpoint: Path | None = None,
    stacking: Stacking | None = None,
    seen_groups: Collection[str] = (),
    title: str = "meta-training",
) -> History:
    """Meta-train `module` and the inner loop's learned rates in place.

    With validation tasks, the starting point itself counts as the first candidate and the best one
    is kept: meta-training returns what it was given where it does not help. Validation is done as
    the learner will be used: dropout does nothing. At the end the inner loop is in evaluation mode.

    Started by `torchrun`, the tasks of each meta-batch are shared among the processes, and all end
    with the same weights (`matml.meta.distributed`).

    Parameters
    ----------
    module, loss
        The learner: any module, and `loss(model, data)` with a scalar result.
    inner, outer
        How a task is adapted, and what of that is differentiated; chosen independently.
    draw_task
        Draws one training task from a generator.
    validation_tasks
        Fixed tasks for early stopping; none of their families may occur in training.
    checkpoint
        File to resume from where it exists; rewritten at every validation and removed at the end
        by the caller, once the result is safe. A checkpoint of other settings, inner loop, rule,
        starting point or validation tasks is not continued but kept beside; what `draw_task` draws
        is not compared. Of random states only torch's own are kept.
    stacking
        Adapt the tasks of a meta-batch together, which is faster for small modules and takes the
        memory of all of them; by default one by one.
    seen_groups
        Groups that the backbone was pre-trained on (cross-fitting, `matml.meta.crossfit`).

    Raises
    ------
    TaskDiverged
        Where every task of a meta-batch diverges, or every validation task at the start; single
        ones are left out and noted.
    Leak
        Where a training or validation task is of a group that the backbone has seen, or a training
        task of a validation task's group.

    Examples
    --------
    Your own module, on lines through the origin whose slopes lie near 3:

    >>> import torch
    >>> from matml.meta import MAML, GradientSteps, MetaTraining, Task, meta_train
    >>> _ = torch.manual_seed(0)
    >>> def draw_line(generator):
    ...     x = torch.rand(10, 1, generator=generator)
    ...     y = (3 + torch.randn(1, generator=generator) / 10) * x
    ...     return Task("line", support=(x[:5], y[:5]), query=(x[5:], y[5:]))
    >>> def mean_square(model, data):
    ...     return (model(data[0]) - data[1]).square().mean()
    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> inner = GradientSteps(net, steps=1, learning_rate=0.1, learn_rates="entry")
    >>> settings = MetaTraining(batches=300, learning_rate=0.05)
    >>> history = meta_train(net, mean_square, inner, MAML(), draw_line, settings)
    >>> abs(net.weight.item() - 3) < 0.2
    True
    """
    processes = Processes.of_this_run()
    for task in validation_tasks:
        refuse_seen(task, seen_groups, "the backbone")
    validation_groups = {task.group for task in validation_tasks} - {None}

    def draw_unseen(generator: torch.Generator) -> Task:
        task = refuse_seen(draw_task(generator), seen_groups, "the backbone")
        return refuse_seen(task, validation_groups, "the validation of this meta-training")

    if processes.first:
        _warn_of_batch_norm(module, inner, title)
    # training statistics are learned in here and nowhere else
    inner.train()
    processes.same_everywhere(module, inner)
    if validation_tasks:
        validation_tasks = sound_tasks(module, loss, inner, validation_tasks, processes.first)
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    groups = [{"params": weights, "lr": settings.learning_rate}]
    if rates := [rate for rate in inner.parameters() if rate.requires_grad]:
        groups.append({"params": rates, "lr": settings.rates_learning_rate})
    optimizer = torch.optim.Adam(groups)
    initial_rates = [group["lr"] for group in optimizer.param_groups]
    history = History([], [], [], skipped=[])
    best, best_loss, done = _snapshot(module, inner), math.inf, 0
    # settings and starting point: another run's checkpoint is not continued
    signature = asdict(settings) | {
        "start": fingerprint(*best.values()),
        "inner": _described(inner),
        "outer": repr(outer),
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "validation_tasks": [task.name for task in validation_tasks],
    }

    if checkpoint is not None and processes.first:
        remove_unfinished(checkpoint)
    if checkpoint is not None and checkpoint.exists():
        tensors, state = load_checkpoint(checkpoint)
        known = state.get("settings", {})
        # through JSON, as the checkpoint went
        differing = [k for k, v in json.loads(json.dumps(signature)).items() if known.get(k) != v]
        if differing:
            kept = checkpoint.with_suffix(f".old{checkpoint.suffix}")
            # every process must have seen the file before it goes
            processes.wait()
            if processes.first:
                log.warning(
                    "%s: %s is of another run (%s differ) and is not continued; it is kept as %s",
                    title,
                    checkpoint,
                    ", ".join(differing),
                    kept.name,
                )
                checkpoint.replace(kept)
        else:
            module.load_state_dict(unpack("module", tensors))
            inner.load_state_dict(unpack("inner", tensors))
            unpack_optimizer(optimizer, tensors)
            unpack_random_state(tensors)
            best = unpack("best", tensors)
            history, done = History(**state["history"]), state["done"]
            best_loss = state["best_loss"] if state["best_loss"] is not None else math.inf
            log.info("%s: resumed at batch %d of %d", title, done, settings.batches)

    def validate(train_loss: float) -> None:
        nonlocal best, best_loss
        value = None
        if validation_tasks:
            losses = validation_losses(module, loss, inner, validation_tasks)
            # one process decides for all
            value = processes.of_first(sum(losses) / len(losses))
        history.batch.append(done)
        history.train_loss.append(train_loss)
        history.validation_loss.append(math.nan if value is None else value)
        if value is None or value < best_loss:
            best_loss = math.inf if value is None else value
            best, history.best_batch = _snapshot(module, inner), done
        if checkpoint is not None and processes.first:
            tensors = pack("module", module.state_dict()) | pack("inner", inner.state_dict())
            tensors |= pack_optimizer(optimizer) | pack("best", best) | pack_random_state()
            state = {
                "settings": signature,
                "history": asdict(history),
                "done": done,
                "best_loss": best_loss if math.isfinite(best_loss) else None,
            }
            save_checkpoint(checkpoint, tensors, state)

    def stopped() -> bool:
        since_best = (done - history.best_batch) // settings.validate_every
        return bool(validation_tasks) and since_best >= settings.patience

    if not history.batch:
        validate(math.nan)
    losses: list[float] = []
    batches = draw_batches(draw_unseen, settings.tasks_per_batch, settings.seed, start=done)
    progress = tqdm(
        total=settings.batches,
        initial=done,
        desc=title,
        unit="batch",
        disable=None if processes.first else True,
        leave=False,
    )
    while done < settings.batches and not stopped():
        optimizer.zero_grad()
        processes.seed(settings.seed, done)
        rule, tasks = outer.at(done), processes.share(next(batches))
        found, diverged = _gradients(module, loss, inner, rule, tasks, stacking)
        losses += processes.mean_gradient([*module.parameters(), *inner.parameters()], found)
        processes.mean_buffers(inner)
        for name, reason in processes.gather(diverged):
            history.skipped.append(name)
            if processes.first and len(history.skipped) <= MOST_NAMES:
                log.warning("%s: left out", reason)
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
    progress.close()
    if processes.first and len(history.skipped) > MOST_NAMES:
        log.warning(
            "%s: %d of %d training tasks diverged and were left out; lower the inner learning rate",
            title,
            len(history.skipped),
            done * settings.tasks_per_batch,
        )
    module.load_state_dict(unpack("module", best))
    inner.load_state_dict(unpack("inner", best))
    # what follows is use, not training
    inner.eval()
    return history


def _warn_of_batch_norm(module: nn.Module, inner: nn.Module, title: str) -> None:
    """Say that running statistics are never updated, where BatchNorm has no policy."""
    trained = [name for name, layer in batch_norms(module).items() if layer.training]
    if trained and getattr(inner, "batch_norm", None) is None:
        log.warning(
            "%s: BatchNorm layer %r takes the statistics of each batch, and its running ones are "
            "not updated; choose a policy (`batch_norm=…`, see matml.meta.batch_norm)",
            title,
            trained[0],
        )


def _gradients(
    module: nn.Module,
    loss: Loss,
    inner: nn.Module,
    outer: Outer,
    tasks: Sequence[Task],
    stacking: Stacking | None,
) -> tuple[list[float], list[tuple[str, str]]]:
    """Add the sum of the tasks' meta-gradients to `.grad`.

    Returns
    -------
    tuple
        Query losses of the tasks that count; name and reason of those that diverged and do not.
    """
    if stacking is not None and len(tasks) > (most := stacking.at_once or len(tasks)):
        parts = [tasks[first : first + most] for first in range(0, len(tasks), most)]
        found = [_gradients(module, loss, inner, outer, part, stacking) for part in parts]
        losses, diverged = (list(chain.from_iterable(each)) for each in zip(*found, strict=True))
        return losses, diverged
    if stacking is not None and tasks:
        supports = stacking.stack([task.support for task in tasks])
        queries = stacking.stack([task.query for task in tasks])
        try:
            losses = accumulate_meta_gradient_many(
                module, loss, inner, outer, supports, queries, stacking.rebuild, mean=False
            )
            return losses, []
        except Diverged:
            # nothing was added; one by one tells which, and keeps the others
            pass
    losses, diverged = [], []
    for task in tasks:
        try:
            losses += accumulate_meta_gradient(module, loss, inner, outer, [task])
        except TaskDiverged as error:
            diverged.append((task.name, str(error)))
    return losses, diverged


def _snapshot(module: nn.Module, inner: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of all weights of the learner and its inner loop."""
    tensors = pack("module", module.state_dict()) | pack("inner", inner.state_dict())
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
