"""How the stack's cost and error grow with the training labels; prints tables and records.

    python tests/benchmarks/scaling.py [--json FILE]

*Agreement*: the stack of formation energies is learned from the labels that the shipped model was
trained on, with exact processes and with processes in blocks (`matml.gp.partition`), and both
predict the families that the model never saw. *Growth*: training and prediction at several numbers
of labels, each in a process of its own, by processor time of one thread and peak resident memory.
*Families*: the joint posterior over thousands of crystals of one family, as in evaluation and where
the next label is chosen.

There are fewer real crystals than that: beyond the 3,938 of the embedded table of formation
energies they come again, with every element replaced by a neighbour in its group and the cell by
that much larger, and with the label moved by as much as the networks' prediction. Such rows are
synthetic: they tell time and memory, not errors.
"""

import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
import pandas as pd
from pymatgen.core import Element, Structure

NAME = "formation_energy_eV_per_atom"
DATA = Path(__file__).parents[2] / "data" / "crystals" / "formation_energy.csv.gz"
SHOTS, DRAWS, FEWEST = (0, 5, 10, 20), 10, 5
FAR = 150_000
LARGE = 2000
"""Members of the largest training family."""


@dataclass(frozen=True)
class Rows:
    """Crystals as the stack takes them; `base` is the place of the real one each was made of."""

    inputs: "Inputs"  # noqa: F821
    labels: np.ndarray
    families: np.ndarray
    base: np.ndarray

    def save(self, path: Path) -> None:
        """Write them."""
        arrays = vars(self.inputs) | {k: v for k, v in vars(self).items() if k != "inputs"}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Rows":
        """Return what `save` wrote."""
        from matml.properties.stack.base_models import Inputs

        with np.load(path) as found:
            inputs = Inputs(found["descriptors"], found["predictions"])
            return cls(inputs, found["labels"], found["families"], found["base"])

    def __getitem__(self, rows: np.ndarray) -> "Rows":
        return Rows(self.inputs[rows], self.labels[rows], self.families[rows], self.base[rows])


def neighbour(symbol: str, steps: int) -> str:
    """Return the element so many periods below in its group, again from the top beyond the last."""
    own = Element(symbol)
    group = [e for e in Element if e.group == own.group and e.Z <= 83 and e.Z != 2]
    group.sort(key=lambda e: e.Z)
    if own not in group or own.is_lanthanoid:
        return symbol
    return group[(group.index(own) + steps) % len(group)].symbol


def changed(structure: Structure, cycle: int) -> Structure:
    """Return the structure with other elements, and a cell that fits their atomic radii."""
    found = structure.copy()
    found.replace_species({e.symbol: neighbour(e.symbol, cycle) for e in structure.composition})
    sizes = [sum(float(s.specie.atomic_radius or 1.5) ** 3 for s in x) for x in (found, structure)]
    found.scale_lattice(structure.volume * (sizes[0] / sizes[1]) ** 0.5 * (1 + 0.003 * cycle))
    return found


def make(number: int, out: Path) -> None:
    """Write so many labelled crystals, the real ones first, in the shipped model's terms."""
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.structures.crystals import CrystalSet

    logging.disable(logging.WARNING)
    predictor, table = FewShotPredictor.load(), pd.read_csv(DATA)
    column, scale = predictor.recipe.properties.index(NAME), predictor.scale(NAME)
    real = [Structure.from_str(text, fmt="poscar") for text in table["poscar"]]
    parts: list[Rows] = []
    for cycle in itertools.count():
        structures = [changed(each, cycle) for each in real] if cycle else real
        crystals = CrystalSet.from_structures(
            structures,
            settings=predictor.encoder.structures,
            graph_section=predictor.encoder.graphs,
        )
        base = crystals.table["row"].to_numpy(int)
        # replaced elements make some cells that nobody would take
        inputs = predictor.encode(crystals.subset(np.arange(len(crystals)))).inputs
        labels = scale.standardise(table[NAME].to_numpy(float))[base]
        if parts:
            labels += (inputs.predictions - parts[0].inputs.predictions[base])[:, column]
        parts.append(Rows(inputs, labels, crystals.table["family"].to_numpy(str), base))
        if sum(len(part.labels) for part in parts) >= number:
            break
    both = type(parts[0].inputs)(
        np.vstack([part.inputs.descriptors for part in parts]),
        np.vstack([part.inputs.predictions for part in parts]),
    )
    rest = (np.concatenate([getattr(p, n) for p in parts]) for n in ("labels", "families", "base"))
    Rows(both, *rest)[np.arange(number)].save(out)


def known_labels(rows: Rows) -> "TrainingLabels":  # noqa: F821
    """Return them as the stack learns from them, families dealt to five folds."""
    from matml.core.folds import deal
    from matml.properties.stack.fit import TrainingLabels

    names, counts = np.unique(rows.families, return_counts=True)
    dealt = deal(list(names[np.argsort(-counts, kind="stable")]), 5)
    folds = np.array([dealt[family] for family in rows.families])
    return TrainingLabels(rows.inputs, rows.labels, rows.families, folds, np.ones(len(folds), bool))


def learned(rows: Rows, exact_up_to: int) -> "StackedPredictor":  # noqa: F821
    """Return the stack learned from rows."""
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.properties.settings import PropertiesSection
    from matml.properties.stack.fit import learn_stacked

    column = FewShotPredictor.load().recipe.properties.index(NAME)
    settings = PropertiesSection(gp_exact_up_to=exact_up_to)
    return learn_stacked(known_labels(rows), NAME, column, settings, seed=0)


def errors(fitted, rows: Rows, shots: int) -> dict[str, float]:
    """Return the mean absolute error of each family that allows so many labels, standardised."""
    found = {}
    for family in np.unique(rows.families):
        own = np.flatnonzero(rows.families == family)
        if len(own) < shots + FEWEST:
            continue
        random, each = np.random.default_rng(0), []
        for _ in range(DRAWS if shots else 1):
            order = random.permutation(own)
            support, query = order[:shots], order[shots:]
            adapted = fitted.adapt(rows.inputs[support], rows.labels[support])
            mean, *_ = adapted.predict(rows.inputs[query])
            each.append(np.abs(mean - rows.labels[query]).mean())
        found[family] = float(np.mean(each))
    return found


def cross_fitted(predictor, rows: Rows) -> Rows:
    """Return the shipped model's training labels, with what networks say that have not seen them.

    Their families are those of the same crystals among the rows.
    """
    from scipy.spatial import cKDTree

    from matml.properties.stack.base_models import Inputs

    column, known = predictor.recipe.properties.index(NAME), predictor.training
    labels = known["targets"][:, column].numpy()
    kept = ~np.isnan(labels)
    inputs = Inputs(known["descriptors"].numpy()[kept], known["predictions"].numpy()[kept])
    far, base = cKDTree(rows.inputs.descriptors).query(inputs.descriptors, p=np.inf)
    assert far.max() < 1e-4
    return Rows(inputs, labels[kept], rows.families[base], base)


def agreement(path: Path) -> list[dict]:
    """Compare exact processes with those in blocks on families that the model never saw."""
    from matml.properties.predictor.few_shot import FewShotPredictor

    predictor, rows = FewShotPredictor.load(), Rows.load(path)
    deviation = predictor.scale(NAME).deviation
    rows = rows[np.arange(len(pd.read_csv(DATA)))]
    held = np.isin(rows.families, predictor.held_out_families)
    training, test, found = cross_fitted(predictor, rows), rows[np.flatnonzero(held)], []
    begin = time.process_time()
    exact = learned(training, len(training.labels))
    middle = time.process_time()
    blocks = learned(training, 10)
    click.echo(
        f"{len(training.labels)} real labels: learned in {middle - begin:.0f} s exactly, "
        f"in {time.process_time() - middle:.0f} s in blocks"
    )
    for shots in SHOTS:
        first, second = errors(exact, test, shots), errors(blocks, test, shots)
        pairs = np.array([(first[family], second[family]) for family in first])
        picks = np.random.default_rng(0).integers(0, len(pairs), (4000, len(pairs)))
        sums = pairs[picks].sum(1)
        low, high = np.percentile(sums[:, 1] / sums[:, 0], [2.5, 97.5])
        mean, ratio = pairs.mean(0) * deviation, pairs[:, 1].sum() / pairs[:, 0].sum()
        click.echo(
            f"  {shots:>2} labels, {len(pairs)} families: exact {mean[0]:.4f} eV/atom, "
            f"in blocks {mean[1]:.4f}; {ratio:.4f} times [{low:.4f}, {high:.4f}]"
        )
        found.append(record("error_over_exact", ratio, shots, len(pairs), low, high))
    return found


def peak_MB() -> float:
    """Return the peak resident memory of this process so far.

    `getrusage` would tell that of the process which started it, where that was larger.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def grow(path: Path, number: int, exact_up_to: int) -> dict:
    """Return what training and prediction with so many labels took."""
    rows = Rows.load(path)
    order = np.random.default_rng(0).permutation(len(rows.labels))
    training, query = rows[order[:number]], rows[order[number : number + 2000]]
    # one family of many members
    training.families[: min(LARGE, number // 10)] = "large"
    learned(rows[order[:200]], 10)
    before, begin = peak_MB(), time.process_time()
    fitted = learned(training, exact_up_to)
    seconds, peak = time.process_time() - begin, peak_MB()
    adapted = fitted.adapt(query.inputs[:10], query.labels[:10])
    adapted.predict(query.inputs)
    begin = time.process_time()
    adapted.predict(query.inputs)
    rate = len(query.labels) / (time.process_time() - begin)
    return loaded_again(fitted, training, query) | {
        "graphs_per_second": from_graphs(adapted),
        "labels": number,
        "seconds": seconds,
        "peak_MB": peak,
        "added_MB": peak - before,
        "per_second": rate,
        "predicting_MB": peak_MB(),
    }


def from_graphs(adapted) -> float:
    """Return predictions a second from graphs of real crystals: networks, descriptors, stack."""
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.structures.crystals import CrystalSet

    encoder = FewShotPredictor.load().encoder
    texts = pd.read_csv(DATA)["poscar"].sample(2048, random_state=0)
    crystals = CrystalSet.from_structures(
        [Structure.from_str(text, fmt="poscar") for text in texts],
        settings=encoder.structures,
        graph_section=encoder.graphs,
    )
    adapted.predict(encoder.encode(crystals).inputs)
    begin = time.process_time()
    adapted.predict(encoder.encode(crystals).inputs)
    return len(crystals) / (time.process_time() - begin)


def loaded_again(fitted, training: Rows, query: Rows) -> dict:
    """Return seconds to load what was learned, and to adapt to and predict a family thereafter."""
    names, counts = np.unique(query.families, return_counts=True)
    family = query[np.flatnonzero(query.families == names[counts.argmax()])]
    with tempfile.TemporaryDirectory() as folder:
        fitted.save(Path(folder) / "stack.safetensors")
        begin = time.process_time()
        again = type(fitted).load(
            Path(folder) / "stack.safetensors", training.inputs, training.labels
        )
        middle = time.process_time()
    said = again.adapt(family.inputs[:5], family.labels[:5]).predict(family.inputs)
    seconds = time.process_time() - middle
    own = fitted.adapt(family.inputs[:5], family.labels[:5]).predict(family.inputs)
    assert all(np.array_equal(*pair) for pair in zip(said, own, strict=True))
    return {
        "loading_seconds": middle - begin,
        "family_seconds": seconds,
        "family": len(family.labels),
    }


def families(path: Path, number: int, members: int) -> dict:
    """Return what a family of many members took, in evaluation and where labels are chosen."""
    from matml.properties.methods.encoded import EncodedCrystals
    from matml.properties.methods.make import make
    from matml.properties.methods.method import Episode, Trained
    from matml.properties.methods.registry import STACK
    from matml.screening.acquire.acquisition import choose_batch

    rows = Rows.load(path)
    order = np.random.default_rng(0).permutation(len(rows.labels))
    training, pool = rows[order[:number]], rows[order[-members:]]
    fitted = learned(training, 10)
    method = make(STACK, Trained(fitted.models.column, stack=lambda: fitted))
    crystals = EncodedCrystals(
        _Sized(members),
        pool.inputs.descriptors,
        np.zeros((1, members, 0)),
        pool.inputs.predictions[None],
        np.zeros(members),
    )
    random, before, begin = np.random.default_rng(0), peak_MB(), time.process_time()
    over = method.over(crystals)
    drawn = []
    for shots in SHOTS:
        for _ in range(DRAWS if shots else 1):
            some = random.permutation(members)
            drawn.append(Episode(some[:shots], pool.labels[some[:shots]], some[shots:]))
    over.predict(drawn)
    middle = time.process_time()
    known = np.arange(10)
    chosen = choose_batch("improvement", over, known, pool.labels[known], 5)
    chosen += choose_batch("information", over, known, pool.labels[known], 5)
    return {
        "members": members,
        "episodes": len(drawn),
        "seconds": middle - begin,
        "choosing_seconds": time.process_time() - middle,
        "added_MB": peak_MB() - before,
        "chosen": chosen,
    }


@dataclass(frozen=True)
class _Sized:
    """As many crystals as there are, of which nothing else is asked."""

    number: int

    def __len__(self) -> int:
        return self.number


def record(metric: str, value: float, shots: int, tasks: int, low=None, high=None) -> dict:
    """Return a tidy record."""
    return {
        "benchmark": "scaling",
        "setting": NAME,
        "method": "stack in blocks",
        "is_default": True,
        "shots": shots,
        "metric": metric,
        "value": float(value),
        "low": low,
        "high": high,
        "n_tasks": tasks,
        "seed": 0,
    }


def apart(function: str, *arguments) -> dict:
    """Return what a function of this file says in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([function, *map(str, arguments)])]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


@click.command()
@click.option("--size", "sizes", multiple=True, type=int, default=(2000, 5000, 10_000, 20_000))
@click.option("--members", type=int, default=7500, show_default=True, help="Of the large family.")
@click.option(
    "--rows",
    "given",
    type=click.Path(path_type=Path),
    help="File of rows, made where there is none.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write tidy records.")
@click.option("--one", hidden=True)
def main(sizes, members, given, json_file, one) -> None:
    """Measure the growth of the stack's cost."""
    if one:
        import torch

        torch.set_num_threads(1)
        logging.disable(logging.WARNING)
        name, path, *numbers = json.loads(one)
        found = {"make": make_rows, "grow": grow, "families": families}[name](
            Path(path), *map(int, numbers)
        )
        click.echo(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given or Path(folder) / "rows.npz"
        if not path.is_file():
            apart("make", path, max(sizes) + max(members, 2000))
        found = agreement(path)
        click.echo("\nGrowth, synthetic beyond the real rows; processor time of one thread")
        rows = []
        for size in sorted(sizes):
            rows.append(apart("grow", path, size, 10))
            row = rows[-1]
            click.echo(
                f"  {size:>6} labels: learned in {row['seconds']:.0f} s, peak {row['peak_MB']:.0f} "
                f"MB ({row['added_MB']:.0f} more than before), {row['per_second']:.0f} predictions "
                f"a second with 10 labels, {row['graphs_per_second']:.0f} from graphs; "
                f"loaded in {row['loading_seconds']:.1f} s, then "
                f"{row['family']} crystals of one family in {row['family_seconds']:.1f} s"
            )
            found += [
                record(f"{key} at {size}", row[key], 10, size)
                for key in ("seconds", "peak_MB", "per_second")
            ]
        for key in ("seconds", "peak_MB") if len(rows) > 1 else ():
            first, before, last = (rows[i] for i in (0, -2, -1))
            exponent = np.log(last[key] / first[key]) / np.log(last["labels"] / first["labels"])
            slope = (last[key] - before[key]) / (last["labels"] - before["labels"])
            click.echo(
                f"  {key}: labels to the power of {exponent:.2f}; extrapolated to {FAR} "
                f"{last[key] * (FAR / last['labels']) ** exponent:.0f} by that, "
                f"{last[key] + slope * (FAR - last['labels']):.0f} by the slope at the end"
            )
            found.append(record(f"exponent of {key}", exponent, 10, last["labels"]))
        row = apart("families", path, min(5000, max(sizes)), members)
        click.echo(
            f"\nA family of {members}: {row['episodes']} episodes in {row['seconds']:.0f} s, ten "
            f"next labels chosen in {row['choosing_seconds']:.0f} s, {row['added_MB']:.0f} MB more"
        )
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def make_rows(out: Path, number: int) -> dict:
    """Write so many rows; return their number."""
    make(number, out)
    return {"rows": number}


if __name__ == "__main__":
    main()
