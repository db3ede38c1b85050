"""Time and memory of one meta-gradient, beside `higher` and TorchOpt, in one run.

    python tests/benchmarks/meta_speed.py [--rounds 7] [--threads 1] [--json FILE]

Needs the test extra. Crystals are the first ones of the embedded tables. Methods take turns within
each round, so that ratios are of times measured side by side; with one thread it is processor time
that is measured, which other programs disturb less. All second-order meta-gradients are compared
before they are timed. learn2learn is left out: it does not build on Python 3.11.
"""

import argparse
import contextlib
import copy
import gzip
import os
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pymatgen.core import Structure

from matml.core.files import write_json
from matml.meta import FOMAML, MAML, GradientSteps, HeadSteps, Task, accumulate_meta_gradient
from matml.meta.vectorised import accumulate_meta_gradient_many
from matml.properties.data.batches import GraphBatches
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.episodes import (
    episode_batch,
    episode_loss,
    rebuild_batch,
    stack_batches,
)
from matml.structures.crystals import CrystalSet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import higher
    import torchopt

TABLE = Path(__file__).parents[2] / "data/crystals/elastic.csv.gz"
RATE = 0.01
SETUPS = {
    "A: 4 tasks x 10 support, 15 query, 3 steps, width 64, 3 layers": (4, 10, 15, 3, 64, 3),
    "B: 8 tasks x 5 support, 10 query, 5 steps, width 32, 2 layers": (8, 5, 10, 5, 32, 2),
}


def crystals(count: int) -> CrystalSet:
    with gzip.open(TABLE) as file:
        texts = pd.read_csv(file, nrows=count)["poscar"]
    return CrystalSet.from_structures([Structure.from_str(text, fmt="poscar") for text in texts])


def learner(setup, dtype=np.float32, tasks=None):
    number, shots, queries, steps, width, layers = setup
    number = tasks or number
    needed = min(number * (shots + queries), 120)
    made = crystals(needed)
    generator = np.random.default_rng(0)
    batches = GraphBatches(made, generator.normal(size=(len(made), 2)), dtype=dtype)
    torch.manual_seed(0)
    net = CrystalNetwork(2, width=width, layers=layers)
    net = net.double() if dtype == np.float64 else net
    found = []
    for i in range(number):
        order = generator.permutation(len(made))
        support, query = order[:shots], order[shots : shots + queries]
        found.append(
            Task(f"{i}", episode_batch(batches, support, 0), episode_batch(batches, query, 0))
        )
    return net, found, steps


def by_higher(net, tasks, steps):
    for task in tasks:
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
        with higher.innerloop_ctx(net, optimizer, copy_initial_weights=False) as (fast, descent):
            for _ in range(steps):
                descent.step(episode_loss(fast, task.support))
            (episode_loss(fast, task.query) / len(tasks)).backward()


def by_torchopt(net, tasks, steps):
    start = dict(net.named_parameters())
    optimizer = torchopt.MetaSGD(net, lr=RATE)
    before = [torchopt.extract_state_dict(x, by="reference") for x in (net, optimizer)]
    for task in tasks:
        for _ in range(steps):
            optimizer.step(episode_loss(net, task.support))
        loss = episode_loss(net, task.query) / len(tasks)
        found = torch.autograd.grad(loss, list(start.values()), allow_unused=True)
        for weight, gradient in zip(start.values(), found, strict=True):
            if gradient is not None:
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        for thing, state in zip((net, optimizer), before, strict=True):
            torchopt.recover_state_dict(thing, state)


def one_by_one(inner, outer):
    return lambda net, tasks, steps: accumulate_meta_gradient(
        net, episode_loss, inner(net, steps), outer, tasks
    )


def together(inner, outer):
    def run(net, tasks, steps):
        supports, queries = (
            stack_batches([getattr(task, part) for task in tasks], net)
            for part in ("support", "query")
        )
        accumulate_meta_gradient_many(
            net, episode_loss, inner(net, steps), outer, supports, queries, rebuild_batch
        )

    return run


def steps_of_all(net, steps):
    return GradientSteps(net, steps=steps, learning_rate=RATE)


def steps_of_head(net, steps):
    return HeadSteps(net, "head", steps=steps, learning_rate=RATE)


METHODS = {
    "higher, second order": by_higher,
    "TorchOpt, second order": by_torchopt,
    "second order, one by one": one_by_one(steps_of_all, MAML()),
    "second order, stacked": together(steps_of_all, MAML()),
    "first order, one by one": one_by_one(steps_of_all, FOMAML()),
    "first order, stacked": together(steps_of_all, FOMAML()),
    "head only, one by one": one_by_one(steps_of_head, MAML()),
    "head only, stacked": together(steps_of_head, MAML()),
}


def gradient(method, net, tasks, steps):
    net.zero_grad()
    METHODS[method](net, tasks, steps)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
    return torch.cat([part.reshape(-1) for part in parts])


def check_equal(setup):
    net, tasks, steps = learner(setup, np.float64)
    second = [name for name in METHODS if "second order" in name]
    reference = gradient(second[0], copy.deepcopy(net), tasks, steps)
    for name in second[1:]:
        off = (gradient(name, copy.deepcopy(net), tasks, steps) - reference).norm()
        assert off <= 1e-8 * reference.norm(), (name, off / reference.norm())


def time_all(setup, rounds):
    net, tasks, steps = learner(setup)
    times = {name: [] for name in METHODS}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for number in range(rounds + 1):
        for name in METHODS:
            started = clock()
            gradient(name, net, tasks, steps)
            if number:
                times[name].append(clock() - started)
    return times


@contextlib.contextmanager
def quiet():
    """Silence what torch's profiler prints from C++."""
    kept, nowhere = [os.dup(number) for number in (1, 2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, own in zip((1, 2), kept, strict=True):
            os.dup2(own, number)


def peak_memory(stacked: bool) -> tuple[float, float]:
    """Peak memory of tensors, in MB, of the largest of 16 single tasks and of all 16 together.

    Beyond what is there before the gradient, as torch's profiler counts it.
    """
    net, made, steps = learner(next(iter(SETUPS.values())), tasks=16)
    name = "second order, stacked" if stacked else "second order, one by one"

    def peak(tasks):
        net.zero_grad()
        with quiet(), torch.profiler.profile(profile_memory=True) as seen:
            gradient(name, net, tasks, steps)
        # running sum of allocations and releases, in the order of time
        events = sorted(
            (event.start_ns(), event.nbytes())
            for event in seen.profiler.kineto_results.events()
            if event.name() == "[memory]"
        )
        return max(np.cumsum([size for _, size in events])) / 2**20

    return max(peak([task]) for task in made), peak(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    records = []

    def record(setting, method, metric, values):
        middle = statistics.median(values)
        records.append(
            {
                "benchmark": "meta_speed",
                "setting": setting,
                "method": method,
                "is_default": False,
                "shots": None,
                "metric": metric,
                "value": middle,
                "low": min(values),
                "high": max(values),
                "n_tasks": len(values),
                "seed": 0,
            }
        )
        return middle

    for title, setup in SETUPS.items():
        check_equal(setup)
        times = time_all(setup, options.rounds)
        best = min(
            ("higher, second order", "TorchOpt, second order"),
            key=lambda name: statistics.median(times[name]),
        )
        print(f"\n{title}; {options.threads} thread(s), {options.rounds} rounds")
        print(f"{'':28}{'ms':>8}  times faster than {best} (min to max)")
        for name, own in times.items():
            ratios = [b / o for b, o in zip(times[best], own, strict=True)]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            ratio = record(title, name, "ratio", ratios)
            milliseconds = 1e3 * record(title, name, "seconds", own)
            print(f"{name:28}{milliseconds:8.1f}  {ratio:6.2f} {spread}")
    print("\npeak memory of a second-order meta-gradient, set-up A (MB)", flush=True)
    for stacked, name in ((False, "one by one"), (True, "stacked")):
        one, sixteen = peak_memory(stacked)
        ratio = record("memory of 16 tasks over 1", name, "ratio", [sixteen / one])
        print(f"{name:28}1 task {one:7.1f}, 16 tasks {sixteen:7.1f}, ratio {ratio:.2f}")
    if options.json:
        write_json(options.json, records)


if __name__ == "__main__":
    main()
