"""Supervised pre-training of one network on all properties at once."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
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
from matml.properties.data.batches import GraphBatches

log = logging.getLogger(__name__)


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
    """

    weights: tuple[float, ...]
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    seed: int = 0


def mean_absolute_error(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean absolute error over the labels that exist.

    Parameters
    ----------
    output, target
        [crystals, properties]; NaN in `target` where there is no label.
    weights
        [properties].
    """
    share = (~target.isnan()) * weights
    return ((output - target.nan_to_num()).abs() * share).sum() / share.sum()


def pretrain(
    network: nn.Module,
    batches: GraphBatches,
    rows: Sequence[int],
    settings: Pretraining,
    *,
    validation_rows: Sequence[int] = (),
    validate_every: int = 10,
    checkpoint: Path | None = None,
    title: str = "pre-training",
) -> list[dict[str, float]]:
    """Train `network` in place; returns epoch, train_loss and validation_loss records.

    The order of crystals in an epoch depends on seed and epoch only, so that a run resumed from
    `checkpoint` ends with the weights of an uninterrupted one.

    Parameters
    ----------
    rows, validation_rows
        Crystals of `batches` to train on and to watch.
    """
    rows = np.asarray(rows)
    steps = -(-len(rows) // settings.batch_size)
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=settings.learning_rate,
        total_steps=settings.epochs * steps,
        # a quarter of four steps is a warm-up of no length, by which torch would divide
        pct_start=0.3 if settings.epochs * steps == 4 else 0.25,
        cycle_momentum=False,
    )
    weights = torch.tensor(settings.weights, device=batches.device)
    records: list[dict[str, float]] = []
    first = 0
    # settings, starting point and labels: another run's checkpoint is not continued
    start = fingerprint(*network.state_dict().values(), torch.from_numpy(batches.targets[rows]))
    signature = asdict(settings) | {"weights": list(settings.weights), "start": start}
    if checkpoint is not None and checkpoint.exists():
        tensors, state = load_checkpoint(checkpoint)
        if state["settings"] != signature:
            log.info("%s: %s is of another run and is not continued", title, checkpoint)
        else:
            network.load_state_dict(unpack("network", tensors))
            unpack_optimizer(optimizer, tensors)
            schedule.load_state_dict(state["schedule"])
            # the schedule writes the rates at its next step only
            for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
                group["lr"] = rate
            first, records = state["epoch"], state["records"]
            log.info("%s: resumed after epoch %d of %d", title, first, settings.epochs)
    progress = tqdm(range(first, settings.epochs), title, unit="epoch", disable=None, leave=False)
    for epoch in progress:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        order = rows[torch.randperm(len(rows), generator=generator).numpy()]
        network.train()
        total = 0.0
        for start in range(0, len(order), settings.batch_size):
            data = batches.batch(order[start : start + settings.batch_size])
            loss = mean_absolute_error(network(data), data.target, weights)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        done = epoch + 1
        if done % validate_every == 0 or done in (1, settings.epochs):
            value = _validation_loss(network, batches, validation_rows)
            records.append({"epoch": done, "train_loss": total / steps, "validation_loss": value})
            progress.set_postfix_str(f"validation {value:.3f}")
            log.info(
                "%s: epoch %d of %d, mean absolute error %.3f in training, %.3f on validation "
                "families (standardised)",
                title,
                done,
                settings.epochs,
                total / steps,
                value,
            )
            if checkpoint is not None:
                state = {
                    "settings": signature,
                    "epoch": done,
                    "records": records,
                    "schedule": schedule.state_dict(),
                }
                tensors = pack("network", network.state_dict()) | pack_optimizer(optimizer)
                save_checkpoint(checkpoint, tensors, state)
    network.eval()
    return records


def predict(network: nn.Module, batches: GraphBatches, rows: Sequence[int]) -> np.ndarray:
    """Return standardised predictions, [rows, properties]."""
    network.eval()
    with torch.no_grad():
        return _in_batches(network, batches, rows)


def embed(network: nn.Module, batches: GraphBatches, rows: Sequence[int]) -> np.ndarray:
    """Return the network's embeddings, [rows, width]."""
    network.eval()
    with torch.no_grad():
        return _in_batches(network.embedding, batches, rows)


def _in_batches(function, batches: GraphBatches, rows: Sequence[int], size: int = 512):
    rows = np.asarray(rows, dtype=int)
    parts = [
        function(batches.batch(rows[start : start + size])).cpu().numpy()
        for start in range(0, len(rows), size)
    ]
    return np.concatenate(parts)


def _validation_loss(network: nn.Module, batches: GraphBatches, rows: Sequence[int]) -> float:
    if len(rows) == 0:
        return float("nan")
    error = np.abs(predict(network, batches, rows) - batches.targets[np.asarray(rows)])
    return float(np.nanmean(error))
