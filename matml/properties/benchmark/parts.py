"""The parts of one fold of the benchmark: each is skipped where its table is there already."""

import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.core.files import read_table, write_table
from matml.core.processors import keep_memory
from matml.properties.baselines.chgnet import potential_features
from matml.properties.baselines.linear_probe import by_frozen_features, by_support_alone
from matml.properties.data.descriptors import describe
from matml.properties.dataset import EPISODES, SETUP, Workbench, make_split
from matml.properties.evaluation.train_and_predict import (
    evaluate_baseline,
    evaluate_member,
    evaluate_stack,
    metatrain_member,
    train_member,
)
from matml.properties.networks.ensemble import load_network
from matml.properties.networks.pretrain import embed
from matml.properties.settings import PropertiesSection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldRun:
    """One fold, and how it is run.

    Attributes
    ----------
    out
        Folder of the fold.
    names
        Properties to score; the networks learn all those of the settings.
    methods, fine_tune
        As of `stages.evaluate_member`.
    potential
        File of the potential's features; None leaves them out.
    """

    structures: Path
    graphs: Path
    out: Path
    settings: PropertiesSection
    fold: int
    folds: int
    names: tuple[str, ...]
    methods: tuple[str, ...]
    fine_tune: bool
    potential: Path | None
    seed: int
    device: str
    threads: int

    @property
    def members(self) -> list[Path]:
        """Folders of the members."""
        return [self.out / "members" / str(i) for i in range(self.settings.members)]

    def table(self, kind: str, what: object) -> Path:
        """Return where the predictions of a part are."""
        return self.out / f"predictions/{kind}-{what}.parquet"

    def open(self) -> Workbench:
        """Return the crystals with the split of the fold."""
        return Workbench.open(self.structures, self.graphs, self.out, self.settings)

    def property_kinds(self) -> tuple[list[str], list[str]]:
        """Return what is done per property: what needs no member, and what needs all of them."""
        alone = ["baseline", "support", *(["potential"] if self.potential else [])]
        return alone, ["stack", "embedding", "one_embedding"]

    def tables(self) -> tuple[list[Path], list[Path]]:
        """Return the tables of the members and those of the rest."""
        alone, together = self.property_kinds()
        own = [self.table("member", i) for i in range(self.settings.members)]
        return own, [self.table(kind, n) for kind in (*alone, *together) for n in self.names]


def split_fold(run: FoldRun) -> None:
    """Set test and validation families aside, and draw the episodes of the scored properties."""
    if (run.out / SETUP).exists():
        return
    make_split(
        run.structures,
        run.graphs,
        run.out,
        run.settings,
        run.seed,
        fold=run.fold,
        folds=run.folds,
    )


def run_parts(run: FoldRun, pool: Executor | None) -> None:
    """Do all parts of a fold, by several processes where there is a pool."""
    split_fold(run)
    alone, together = run.property_kinds()
    members = [(run, "member", i) for i in range(run.settings.members)]
    # the longest first
    call_all(run_part, [*members, *((run, kind, n) for kind in alone for n in run.names)], pool)
    call_all(run_part, [(run, kind, n) for kind in together for n in run.names], pool)


def call_all(function: Callable, calls: Sequence[tuple], pool: Executor | None) -> None:
    """Call a function with each of some arguments, in the pool's processes where there is one."""
    if pool is None:
        for arguments in calls:
            function(*arguments)
        return
    futures = [pool.submit(function, *arguments) for arguments in calls]
    try:
        for future in as_completed(futures):
            future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def processes(jobs: int, threads: int) -> Iterator[Executor | None]:
    """Give so many processes; None for one, which is this one."""
    if jobs == 1:
        yield None
        return
    # a forked torch may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _prepare, (threads,)) as pool:
        yield pool


def _prepare(threads: int) -> None:
    """Set a new process up as the command line does."""
    keep_memory()
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def run_part(run: FoldRun, kind: str, what: int | str) -> None:
    """Write the table of one part: of a member by its number, else of a property by its name."""
    out = run.table(kind, what)
    if out.exists():
        return
    bench = run.open()
    if kind == "member":
        _member(run, bench, int(what), out)
    elif kind == "baseline":
        model = run.out / f"baselines/{what}.safetensors"
        own = {"name": str(what), "seed": run.seed, "threads": run.threads}
        evaluate_baseline(bench, run.out, out, model, run.settings, **own)
    elif kind == "stack":
        model = run.out / f"stacks/{what}.safetensors"
        own = {"name": str(what), "seed": run.seed, "device": run.device}
        evaluate_stack(bench, run.out, run.members, out, model, run.settings, **own)
    else:
        _by_features(run, bench, kind, str(what), out)


def _member(run: FoldRun, bench: Workbench, member: int, out: Path) -> None:
    """Train one member as far as that is not done, and let it predict."""
    folder = run.members[member]
    own = {"member": member, "seed": run.seed, "device": run.device}
    if not (folder / "pretraining.csv").exists():
        train_member(bench, folder, run.settings, **own)
    if run.methods and not (folder / "metatraining.csv").exists():
        metatrain_member(bench, folder, folder, run.settings, methods=run.methods, **own)
    evaluate_member(
        bench,
        run.out,
        folder,
        out,
        run.settings,
        member=member,
        shard=0,
        shards=1,
        device=run.device,
        methods=run.methods,
        fine_tune=run.fine_tune,
        names=run.names,
    )


def _by_features(run: FoldRun, bench: Workbench, kind: str, name: str, out: Path) -> None:
    """Predict the episodes of one property from the support alone, or with frozen features."""
    column = bench.names.index(name)
    targets = bench.targets[:, column]
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(targets[training])]
    episodes = read_table(run.out / EPISODES)
    own = targets, training, episodes[episodes["property"] == name]
    settings = run.settings
    options = {"subset": settings.gp_subset, "steps": settings.gp_steps, "seed": run.seed}
    if kind == "support":
        found: Iterable = by_support_alone(describe(bench.crystals), *own)
    elif kind in ("embedding", "one_embedding"):
        members = run.members if kind == "embedding" else run.members[:1]
        found = by_frozen_features(kind, _embeddings(run, bench, members), *own, **options)
    else:
        features = potential_features(bench.crystals, run.potential).features
        found = by_frozen_features(kind, features, *own, **options)
    write_table(out, pd.DataFrame(found, columns=["episode", "method", "prediction"]))


def _embeddings(run: FoldRun, bench: Workbench, members: Sequence[Path]) -> np.ndarray:
    """Return the members' embeddings of all crystals side by side, [crystals, members * width]."""
    recipe, batches = bench.recipe(run.settings), bench.batches(run.device)
    found = []
    for folder in members:
        network, _ = load_network(folder / "pretrained.safetensors", recipe)
        found.append(embed(network.to(run.device), batches, np.arange(len(bench.crystals))))
    return np.hstack(found).astype(float)
