"""Meta-training: improve a starting point (and learned rates) over many tasks."""

import json
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from matml.core.files import remove_unfinished
from matml.core.parallel import progress_bar
from matml.core.provenance import package_hash
from matml.meta.checkpoint import (
    content,
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
from matml.meta.layers import batch_norms
from matml.meta.outer import Outer, TaskDiverged, accumulate_meta_gradient
from matml.meta.tasks import InnerLoop, Loss, Parameters, Task, draw_batches
from matml.meta.validation import MOST_NAMES, ValidationTasks, sound_tasks
from matml.meta.vectorised import Stacking, accumulate_meta_gradient_many

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetaTraining:
    """Settings of a meta-training run.

    Parameters
    ----------
    batches
        Meta-batches at most.
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
    skipped: list[str] = field(default_factory=list)


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
    inner: InnerLoop,
    outer: Outer,
    draw_task: Callable[[torch.Generator], Task],
    settings: MetaTraining,
    *,
    validation_tasks: Sequence[Task] = (),
    checkpoint: Path | None = None,
    made_with: Any = None,
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
        starting point, validation tasks, code or version of torch is not continued but kept beside,
        nor is one whose first meta-batch was another. Of random states only torch's own are kept.
    made_with
        What else the tasks come from: tensors, arrays and plain values, nested or not. A checkpoint
        that was made with something else is not continued.
    stacking
        Adapt the tasks of a meta-batch together, and those of validation where their shapes allow
        it, which is faster for small modules and takes the memory of all; by default one by one.
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
    for task in validation_tasks:
        refuse_seen(task, seen_groups, "the backbone")
    validation_groups = {task.group for task in validation_tasks if task.group is not None}

    def draw_unseen(generator: torch.Generator) -> Task:
        task = refuse_seen(draw_task(generator), seen_groups, "the backbone")
        return refuse_seen(task, validation_groups, "the validation of this meta-training")

    processes = Processes.of_this_run()
    if processes.first:
        _warn_of_batch_norm(module, inner, title)
    # training statistics are learned in here and nowhere else
    inner.train()
    processes.same_everywhere(module, inner)
    validation = ValidationTasks.of(validation_tasks, stacking)
    if validation_tasks:
        validation = sound_tasks(module, loss, inner, validation, processes.first)
    run = _Run(
        module, loss, inner, outer, settings, validation, stacking, checkpoint, title, processes
    )
    if checkpoint is not None:
        first = next(draw_batches(draw_unseen, settings.tasks_per_batch, settings.seed))
        run.signature |= {"first_batch": content(first), "made_with": content(made_with)}
    run.resume()
    if not run.history.batch:
        run.validate(math.nan)
    batches = draw_batches(draw_unseen, settings.tasks_per_batch, settings.seed, start=run.done)
    own = {} if processes.first else {"disable": True}
    progress = progress_bar(title, total=settings.batches, unit="batch", initial=run.done, **own)
    losses: list[float] = []
    while run.done < settings.batches and not run.stopped:
        losses += run.step(next(batches))
        progress.update()
        if run.done % settings.validate_every == 0 or run.done == settings.batches:
            run.validate(sum(losses) / len(losses))
            losses = []
            progress.set_postfix_str(f"validation {run.history.validation_loss[-1]:.4g}")
    progress.close()
    run.finish()
    return run.history


class _Run:
    """A meta-training run: the learner, its optimiser, and what was best so far.

    Attributes
    ----------
    best, best_loss
        Weights of the lowest validation loss, and that loss.
    signature
        Settings and starting point: the checkpoint of another run is not continued.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        inner: InnerLoop,
        outer: Outer,
        settings: MetaTraining,
        validation: ValidationTasks,
        stacking: Stacking | None,
        checkpoint: Path | None,
        title: str,
        processes: Processes,
    ) -> None:
        self.module, self.loss, self.inner, self.outer = module, loss, inner, outer
        self.settings, self.validation, self.stacking = settings, validation, stacking
        self.checkpoint, self.title, self.processes = checkpoint, title, processes
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        groups = [{"params": weights, "lr": settings.learning_rate}]
        if rates := [rate for rate in inner.parameters() if rate.requires_grad]:
            groups.append({"params": rates, "lr": settings.rates_learning_rate})
        self.optimizer = torch.optim.Adam(groups)
        self.initial_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.history = History([], [], [])
        self.best, self.best_loss, self.done = _snapshot(module, inner), math.inf, 0
        self.signature = asdict(settings) | {
            "start": fingerprint(*self.best.values()),
            "inner": _described(inner),
            "outer": repr(outer),
            "loss": getattr(loss, "__qualname__", type(loss).__name__),
            "validation_tasks": content(validation.tasks),
            "torch": torch.__version__,
            "sources": package_hash("meta", "bayes", "gp"),
        }

    @property
    def stopped(self) -> bool:
        """Whether validations have not become better for too long."""
        since_best = (self.done - self.history.best_batch) // self.settings.validate_every
        return bool(self.validation.tasks) and since_best >= self.settings.patience

    def step(self, tasks: Sequence[Task]) -> list[float]:
        """Take one outer step on a meta-batch; returns the query losses of all processes."""
        self.optimizer.zero_grad()
        self.processes.seed(self.settings.seed, self.done)
        own = self.processes.share(tasks)
        rule = self.outer.at(self.done)
        found, diverged = _gradients(self.module, self.loss, self.inner, rule, own, self.stacking)
        parameters = [*self.module.parameters(), *self.inner.parameters()]
        losses = self.processes.mean_gradient(parameters, found)
        self.processes.mean_buffers(self.inner)
        for name, reason in self.processes.gather(diverged):
            self.history.skipped.append(name)
            if self.processes.first and len(self.history.skipped) <= MOST_NAMES:
                log.warning("%s: left out", reason)
        fall = 0.5 * (1 + math.cos(math.pi * self.done / self.settings.batches))
        for group, initial in zip(self.optimizer.param_groups, self.initial_rates, strict=True):
            group["lr"] = initial * fall
            nn.utils.clip_grad_norm_(group["params"], self.settings.largest_gradient)
        self.optimizer.step()
        self.done += 1
        return losses

    def validate(self, train_loss: float) -> None:
        """Note the validation loss, keep the weights where it is the best, write the checkpoint."""
        value = math.nan
        if self.validation.tasks:
            losses = self.validation.losses(self.module, self.loss, self.inner)
            # one process decides for all
            value = self.processes.of_first(sum(losses) / len(losses))
        self.history.batch.append(self.done)
        self.history.train_loss.append(train_loss)
        self.history.validation_loss.append(value)
        if math.isnan(value) or value < self.best_loss:
            self.best_loss = math.inf if math.isnan(value) else value
            self.best, self.history.best_batch = _snapshot(self.module, self.inner), self.done
        if self.checkpoint is not None and self.processes.first:
            self._save(self.checkpoint)

    def _save(self, path: Path) -> None:
        tensors = _tensors(self.module, self.inner) | pack_optimizer(self.optimizer)
        tensors |= pack("best", self.best) | pack_random_state()
        state = {
            "settings": self.signature,
            "history": asdict(self.history),
            "done": self.done,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
        }
        save_checkpoint(path, tensors, state)

    def resume(self) -> None:
        """Go on from the checkpoint, if it is this run's; that of another one is kept beside."""
        path = self.checkpoint
        if path is not None and self.processes.first:
            remove_unfinished(path)
        if path is None or not path.exists():
            return
        tensors, state = load_checkpoint(path)
        known = state.get("settings", {})
        # through JSON, as the checkpoint went
        own = json.loads(json.dumps(self.signature))
        if differing := [key for key, value in own.items() if known.get(key) != value]:
            self._put_aside(path, differing)
            return
        self._load(unpack("module", tensors), unpack("inner", tensors))
        unpack_optimizer(self.optimizer, tensors)
        unpack_random_state(tensors)
        self.best, self.history = unpack("best", tensors), History(**state["history"])
        self.done = state["done"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        log.info("%s: resumed at batch %d of %d", self.title, self.done, self.settings.batches)

    def _put_aside(self, path: Path, differing: Sequence[str]) -> None:
        kept = path.with_suffix(f".old{path.suffix}")
        # every process must have seen the file before it goes
        self.processes.wait()
        if self.processes.first:
            log.warning(
                "%s: %s is of another run (%s differ) and is not continued; it is kept as %s",
                self.title,
                path,
                ", ".join(differing),
                kept.name,
            )
            path.replace(kept)

    def _load(self, module: Parameters, inner: Parameters) -> None:
        self.module.load_state_dict(module)
        self.inner.load_state_dict(inner)

    def finish(self) -> None:
        """Leave the learner with its best weights, ready for use."""
        if self.processes.first and len(self.history.skipped) > MOST_NAMES:
            log.warning(
                "%s: %d of %d training tasks diverged and were left out; lower the inner learning "
                "rate",
                self.title,
                len(self.history.skipped),
                self.done * self.settings.tasks_per_batch,
            )
        self._load(unpack("module", self.best), unpack("inner", self.best))
        # what follows is use, not training
        self.inner.eval()


def _warn_of_batch_norm(module: nn.Module, inner: InnerLoop, title: str) -> None:
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
    inner: InnerLoop,
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


def _tensors(module: nn.Module, inner: InnerLoop) -> Parameters:
    """Return all weights and buffers of the learner and its inner loop."""
    return pack("module", module.state_dict()) | pack("inner", inner.state_dict())


def _snapshot(module: nn.Module, inner: InnerLoop) -> Parameters:
    """Return copies of all weights and buffers of the learner and its inner loop."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(module, inner).items()}
