"""Supervised pre-training of one network on all properties at once."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from matml.core.parallel import progress_bar
from matml.core.provenance import package_hash
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
from matml.meta.distributed import Processes
from matml.properties.data.batches import CrystalBatch, GraphBatches
from matml.properties.networks.crystal_network import CrystalNetwork

log = logging.getLogger(__name__)
SOURCES = ("meta", "properties/networks", "properties/data", "structures/graphs")
"""Packages that the weights depend on."""

CHECKPOINT_EVERY_S = 60.0
"""Seconds after which there is a checkpoint within an epoch, too."""
EDGES_AT_ONCE = 500_000
"""Edges of a batch that are worked on together; what large cells have beyond is added up."""

Rows: TypeAlias = Sequence[int] | np.ndarray
"""Numbers of crystals."""


@dataclass(frozen=True)
class Pretraining:
    """Settings of pre-training.

    Parameters
    ----------
    weights
        Weight of each property's labels in the loss.
    epochs, batch_size
        Passes over the training crystals, and crystals in a batch.
    learning_rate
        Peak of the one-cycle schedule (Smith and Topin 2019, arXiv:1708.07120).
    weight_decay
        Decoupled weight decay (AdamW) of the weight matrices.
    seed
        Seed of the initial weights and of the order of crystals.
    mixed_precision
        Whether products of matrices are made in bfloat16; weights, sums and losses are not.
    """

    weights: tuple[float, ...]
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    seed: int = 0
    mixed_precision: bool = False


def mean_absolute_error(
    output: Tensor, target: Tensor, weights: Tensor, total: Tensor | None = None
) -> Tensor:
    """Return the weighted mean absolute error over the labels that exist.

    Parameters
    ----------
    output, target
        [crystals, properties]; NaN in `target` where there is no label.
    weights
        [properties].
    total
        Sum of the labels' weights in the whole batch, where this is a part of it.
    """
    share = (~target.isnan()) * weights
    total = share.sum() if total is None else total
    return ((output - target.nan_to_num()).abs() * share).sum() / total


def pretrain(
    network: nn.Module,
    batches: GraphBatches,
    rows: Rows,
    settings: Pretraining,
    *,
    validation_rows: Rows = (),
    validate_every: int = 10,
    checkpoint: Path | None = None,
    title: str = "pre-training",
) -> list[dict[str, float]]:
    """Train `network` in place; returns epoch, train_loss and validation_loss records.

    The order of crystals in an epoch depends on seed and epoch only, so that a run resumed from
    `checkpoint` ends with the weights of an uninterrupted one, bit for bit on one processor. There
    is one after each epoch and, in long ones, every `CHECKPOINT_EVERY_S`. Processes started by
    `torchrun` share each batch and end with the weights of one, but for rounding and what dropout
    draws; the first alone writes and prints.

    Parameters
    ----------
    rows, validation_rows
        Crystals of `batches` to train on and to watch.
    """
    rows = np.asarray(rows)
    run = _Run(network, batches, rows, settings, checkpoint, title, validation_rows)
    first = {} if run.processes.first else {"disable": True}
    progress = progress_bar(title, total=settings.epochs, unit="epoch", initial=run.epoch, **first)
    for epoch in range(run.epoch, settings.epochs):
        train_loss = run.train_epoch(epoch)
        progress.update()
        done = epoch + 1
        if done % validate_every and done not in (1, settings.epochs):
            run.save(done)
            continue
        value = _validation_loss(network, batches, validation_rows)
        run.records.append({"epoch": done, "train_loss": train_loss, "validation_loss": value})
        progress.set_postfix_str(f"validation {value:.3f}")
        if not run.processes.first:
            continue
        log.info(
            "%s: epoch %d of %d, mean absolute error %.3f in training, %.3f on validation "
            "families (standardised)",
            title,
            done,
            settings.epochs,
            train_loss,
            value,
        )
        run.save(done)
    progress.close()
    network.eval()
    return run.records


class _Run:
    """A pre-training run: the network, its optimiser and schedule, and its checkpoint."""

    def __init__(
        self,
        network: nn.Module,
        batches: GraphBatches,
        rows: np.ndarray,
        settings: Pretraining,
        checkpoint: Path | None,
        title: str,
        validation_rows: Rows,
    ) -> None:
        self.network, self.batches, self.rows = network, batches, rows
        self.processes = Processes.of_this_run()
        self.processes.same_everywhere(network)
        self.settings, self.checkpoint = settings, checkpoint
        self.steps = -(-len(rows) // settings.batch_size)
        matrices = [weight for weight in network.parameters() if weight.ndim > 1]
        others = [weight for weight in network.parameters() if weight.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            fused=True,
        )
        total = settings.epochs * self.steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=settings.learning_rate,
            total_steps=total,
            # a quarter of four steps is a warm-up of no length, by which torch would divide
            pct_start=0.3 if total == 4 else 0.25,
            cycle_momentum=False,
        )
        self.weights = torch.tensor(settings.weights, device=batches.device)
        self.records: list[dict[str, float]] = []
        # epochs that are done, and of the one that was begun the steps and this process's losses
        self.epoch, self.step, self.loss = 0, 0, 0.0
        self.random: dict[str, Tensor] = {}
        self.saved = time.monotonic()
        if checkpoint is not None:
            # another run's checkpoint is not continued
            self.signature = asdict(settings) | {
                "weights": list(settings.weights),
                "start": fingerprint(*network.state_dict().values()),
                "crystals": batches.content(rows),
                "validation": batches.content(validation_rows) if len(validation_rows) else "",
                "torch": torch.__version__,
                "sources": package_hash(*SOURCES),
            }
            if checkpoint.exists():
                self._resume(checkpoint, title)

    def _resume(self, path: Path, title: str) -> None:
        tensors, state = load_checkpoint(path)
        if differing := [k for k, own in self.signature.items() if state["settings"].get(k) != own]:
            said = ", ".join(differing)
            log.warning("%s: %s is of another run (%s differ): begun anew", title, path, said)
            return
        self.network.load_state_dict(unpack("network", tensors))
        unpack_optimizer(self.optimizer, tensors)
        self.schedule.load_state_dict(state["schedule"])
        # the schedule writes the rates at its next step only
        rates = self.schedule.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.epoch, self.records = state["epoch"], state["records"]
        self.step, self.random = state["step"], tensors
        self.loss = state["loss"] if self.processes.first else 0.0
        log.info(
            "%s: resumed after epoch %d of %d%s",
            title,
            self.epoch,
            self.settings.epochs,
            f", at step {self.step} of {self.steps} of the next" if self.step else "",
        )

    def train_epoch(self, epoch: int) -> float:
        """Take one pass over the crystals; returns the mean loss."""
        seed = self.settings.seed * 1_000_003 + epoch
        # dropout draws from torch's own generator
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = self.rows[torch.randperm(len(self.rows), generator=generator).numpy()]
        if self.step:
            unpack_random_state(self.random)
        self.network.train()
        first, total, self.step, self.loss = self.step, self.loss, 0, 0.0
        for step in range(first, self.steps):
            start = step * self.settings.batch_size
            self.optimizer.zero_grad()
            total += self._gradient(order[start : start + self.settings.batch_size])
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            due = time.monotonic() - self.saved >= CHECKPOINT_EVERY_S and step + 1 < self.steps
            # losses come from all processes, which therefore save at the same step
            if self.processes.of_first(due):
                self.save(epoch, step + 1, sum(self.processes.gather([total])))
        return sum(self.processes.gather([total])) / self.steps

    def _gradient(self, rows: np.ndarray) -> float:
        """Put the gradient of a batch beside the weights; returns this process's part of the loss.

        Processes share the batch, and the sum of their gradients is that of the whole; so it is
        with the parts of a batch of large cells.
        """
        whole, value = None, 0.0
        parts = list(self._parts(rows[self.processes.rank :: self.processes.size]))
        if self.processes.size > 1 or len(parts) > 1:
            labelled = torch.from_numpy(~np.isnan(self.batches.labels(rows)))
            whole = (labelled.to(self.weights.device) * self.weights).sum()
        for own in parts:
            data = self.batches.batch(own)
            mixed = self.settings.mixed_precision
            kind = self.weights.device.type
            with torch.autocast(kind, torch.bfloat16) if mixed else nullcontext():
                output = self.network(data)
            output = output.to(data.target.dtype)
            loss = mean_absolute_error(output, data.target, self.weights, whole)
            loss.backward()
            value += loss.item()
        self.processes.sum_gradients(list(self.network.parameters()))
        return value

    def _parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield crystals in parts of `EDGES_AT_ONCE`, or of one where it has more."""
        if len(rows):
            before = self.batches.edges(rows).cumsum()
            yield from np.split(rows, np.flatnonzero(np.diff(before // EDGES_AT_ONCE)) + 1)

    def save(self, epoch: int, step: int = 0, loss: float = 0.0) -> None:
        """Write the checkpoint after so many epochs, and steps of the next with their losses."""
        self.saved = time.monotonic()
        if self.checkpoint is None or not self.processes.first:
            return
        state = {
            "settings": self.signature,
            "epoch": epoch,
            "step": step,
            "loss": loss,
            "records": self.records,
            "schedule": self.schedule.state_dict(),
        }
        tensors = pack("network", self.network.state_dict()) | pack_optimizer(self.optimizer)
        save_checkpoint(self.checkpoint, tensors | pack_random_state(), state)


def predict(network: nn.Module, batches: GraphBatches, rows: Rows) -> np.ndarray:
    """Return standardised predictions, [rows, properties]."""
    network.eval()
    with torch.no_grad():
        return _in_batches(network, batches, rows)


def embed(network: CrystalNetwork, batches: GraphBatches, rows: Rows) -> np.ndarray:
    """Return the network's embeddings, [rows, width]."""
    network.eval()
    with torch.no_grad():
        return _in_batches(network.embedding, batches, rows)


AT_ONCE = 512
"""Crystals that are predicted together."""


def _in_batches(
    function: Callable[[CrystalBatch], Tensor], batches: GraphBatches, rows: Rows
) -> np.ndarray:
    rows = np.asarray(rows, dtype=int)
    parts = [
        function(batches.batch(rows[start : start + AT_ONCE])).cpu().numpy()
        for start in range(0, len(rows), AT_ONCE)
    ]
    return np.concatenate(parts)


def _validation_loss(network: nn.Module, batches: GraphBatches, rows: Rows) -> float:
    if len(rows) == 0:
        return float("nan")
    error = np.abs(predict(network, batches, rows) - batches.labels(rows))
    return float(np.nanmean(error))
