"""Time of one training epoch, error on unseen families, and inference, beside `cgcnn2`.

    pip install --no-deps --target FOLDER cgcnn2==0.6.0
    PYTHONPATH=FOLDER python tests/benchmarks/epoch_speed.py --results results [--json FILE]

`--results` is the folder of a run (`snakemake split` is enough). Both networks learn the formation
energies of the training families, 64 features wide with 3 convolutions on the 12 nearest neighbours
(ours keeps all ties, which is where symmetry makes neighbours equal), in batches of equal size.
cgcnn2 trains by its own loop: Adam, squared error, its items cached, the weights of the best
validation epoch; by its default rate and by a tenth of it. Epochs take turns, in processor time of
one thread, so that ratios are of times measured side by side. A few per cent of cgcnn2's edge
features are subnormal numbers, which slow its products down severalfold: it is timed as it is, and
with `torch.set_flush_denormal(True)` beside, by which it is then trained. Errors are means over
test families of the mean absolute error; budgets are chosen on validation families.
"""

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import cgcnn2
import numpy as np
import pandas as pd
import torch
from cgcnn2.data import CIFData, collate_pool
from cgcnn2.model import CrystalGraphConvNet
from pymatgen.core import Structure
from torch.utils.data import DataLoader, Subset

from matml.core.files import write_json
from matml.core.processors import keep_memory
from matml.core.statistics import bootstrap_interval
from matml.properties.data.batches import GraphBatches
from matml.properties.data.split import labelled_members
from matml.properties.dataset import Workbench
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.pretrain import Pretraining, predict, pretrain
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

NAME = "formation_energy_eV_per_atom"
NEIGHBOURS, RADIUS = 12, 8.0
RATES = (1e-2, 1e-3)
"""Of cgcnn2: its default, and a tenth."""


def seconds(function: Callable[..., object], *arguments: object) -> float:
    begun = time.process_time()
    function(*arguments)
    return time.process_time() - begun


class Peer:
    """cgcnn2 on some crystals, written as CIF files, which is what it reads."""

    def __init__(self, crystals: CrystalSet, values: np.ndarray, folder: Path, batch: int) -> None:
        ids = [f"{i}" for i in range(len(crystals))]
        for i in range(len(crystals)):
            crystals.structure(i).to(filename=str(folder / f"{i}.cif"))
        (folder / "id_prop.csv").write_text(
            "".join(f"{i},{value!r}\n" for i, value in zip(ids, values.tolist(), strict=True))
        )
        asset = Path(cgcnn2.__file__).parent / "asset/atom_init.json"
        (folder / "atom_init.json").write_bytes(asset.read_bytes())
        self.data = CIFData(str(folder), max_num_nbr=NEIGHBOURS, radius=RADIUS)
        self.batch = batch

    def load(self) -> None:
        for i in range(len(self.data)):
            self.data[i]

    def network(self) -> CrystalGraphConvNet:
        (atoms, edges, _), _, _ = self.data[0]
        return CrystalGraphConvNet(atoms.shape[-1], edges.shape[-1])

    def loader(self, rows: Sequence[int], shuffle: bool = False) -> DataLoader:
        chosen = Subset(self.data, [int(row) for row in rows])
        return DataLoader(chosen, self.batch, shuffle=shuffle, collate_fn=collate_pool)

    @staticmethod
    def epoch(network: CrystalGraphConvNet, optimizer, loader: DataLoader) -> None:
        network.train()
        for inputs, target, _ in loader:
            optimizer.zero_grad()
            loss = (network(*inputs)[0] - target).square().mean()
            loss.backward()
            optimizer.step()
            loss.item()

    def predict(self, network: CrystalGraphConvNet, rows: Sequence[int]) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            found = [network(*inputs)[0][:, 0] for inputs, _, _ in self.loader(rows)]
        return torch.cat(found).numpy()


class Ours:
    """Our network on the same crystals, standardised by the training ones."""

    def __init__(self, crystals: CrystalSet, values: np.ndarray, rows: np.ndarray) -> None:
        self.mean, self.deviation = values[rows].mean(), values[rows].std()
        targets = ((values - self.mean) / self.deviation)[:, None]
        self.batches = GraphBatches(crystals, targets.astype(np.float32))
        self.rows = rows

    def train(self, epochs: int, batch: int, seed: int) -> CrystalNetwork:
        torch.manual_seed(seed)
        network = CrystalNetwork(1)
        settings = Pretraining((1.0,), epochs=epochs, batch_size=batch, seed=seed)
        pretrain(network, self.batches, self.rows, settings, title=f"ours, {epochs} epochs")
        return network

    def predict(self, network: CrystalNetwork, rows: Sequence[int]) -> np.ndarray:
        return predict(network, self.batches, rows)[:, 0] * self.deviation + self.mean


def open_crystals(results: Path):
    """Return crystals with a formation energy, its values, and rows of each part."""
    section = PropertiesSection()
    bench = Workbench.open(
        results / "structures", results / "graphs", results / "properties", section
    )
    column = bench.names.index(NAME)
    single = labelled_members(bench.crystals.table, NAME).to_numpy()
    training = np.isin(np.arange(len(single)), bench.split.training_rows(bench.families))
    keep = ~np.isnan(bench.labels[:, column]) & (single | training)
    crystals, families = bench.crystals.subset(np.flatnonzero(keep)), bench.families[keep]
    parts = {
        "training": np.flatnonzero(training[keep]),
        "validation": np.flatnonzero(np.isin(families, bench.split.validation)),
        "test": np.flatnonzero(np.isin(families, bench.split.test)),
    }
    return crystals, bench.labels[keep, column], families, parts


def family_errors(prediction, values, families, rows) -> pd.Series:
    return pd.Series(np.abs(prediction - values[rows])).groupby(families[rows]).mean()


def parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def epoch_times(ours: Ours, peer: Peer, rows: np.ndarray, batch: int, rounds: int) -> list[tuple]:
    """Return the seconds of one epoch of ours, of cgcnn2, and of that without subnormals."""
    network = peer.network()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATES[0])
    loader = peer.loader(rows, shuffle=True)
    # operations are chosen and memory is taken at their first use
    ours.train(1, batch, 0)
    found = []
    for number in range(rounds):
        own = seconds(ours.train, 1, batch, number)
        theirs = []
        for flush in (False, True):
            torch.set_flush_denormal(flush)
            theirs.append(seconds(peer.epoch, network, optimizer, loader))
        torch.set_flush_denormal(False)
        found.append((own, *theirs))
    return found


def train_peer(
    peer: Peer, parts: dict, rate: float, epochs: int, error, seed: int
) -> tuple[list, pd.Series, pd.Series]:
    """Return validation errors by epoch; test errors of the best and of the last epoch."""
    torch.manual_seed(seed)
    network = peer.network()
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    loader = peer.loader(parts["training"], shuffle=True)
    history, best = [], copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        peer.epoch(network, optimizer, loader)
        found = error(peer.predict(network, parts["validation"]), "validation").mean()
        if not history or found < min(history):
            best = copy.deepcopy(network.state_dict())
        history.append(found)
    last = error(peer.predict(network, parts["test"]), "test")
    network.load_state_dict(best)
    return history, error(peer.predict(network, parts["test"]), "test"), last


def interval(values: np.ndarray) -> str:
    low, high = bootstrap_interval(np.asarray(values))
    return f"{np.mean(values):.4f} [{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--epochs", type=int, default=30, help="of cgcnn2, at each rate")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of cgcnn2")
    parser.add_argument("--budgets", type=int, nargs="+", default=[15, 30, 60], help="of ours")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are timed")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--infer", type=int, default=500, help="crystals of the inference")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    warnings.filterwarnings("ignore", message=".*not find enough neighbors.*")
    warnings.filterwarnings("ignore", category=UserWarning, module="pymatgen")
    crystals, values, families, parts = open_crystals(options.results)
    records = []

    def record(method, metric, found, n_tasks, low=None, high=None) -> None:
        records.append(
            {
                "benchmark": "epoch_speed",
                "setting": f"{NAME}, {len(parts['training'])} training crystals",
                "method": method,
                "is_default": method.startswith("ours"),
                "shots": 0,
                "metric": metric,
                "value": float(found),
                "low": low,
                "high": high,
                "n_tasks": n_tasks,
                "seed": options.seed,
            }
        )

    def error(prediction, part) -> pd.Series:
        return family_errors(prediction, values, families, parts[part])

    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(crystals, values, Path(folder), options.batch_size)
        loading = seconds(peer.load)
        ours = Ours(crystals, values, parts["training"])
        print(
            f"{len(crystals)} crystals, {len(parts['training'])} for training, "
            f"{len(np.unique(families[parts['test']]))} test families; batches of "
            f"{options.batch_size}; one thread, processor time; cgcnn2 read its files in "
            f"{loading:.0f} s, which is not in the epochs\n"
            f"weights: ours {parameters(CrystalNetwork(1))}, cgcnn2 {parameters(peer.network())}"
        )
        times = epoch_times(ours, peer, parts["training"], options.batch_size, options.rounds)
        kinds = ("ours", "cgcnn2", "cgcnn2, subnormals flushed")
        for method, each in zip(kinds, zip(*times, strict=True), strict=True):
            ends = min(each), max(each)
            middle = statistics.median(each)
            text = f"{method}: median {middle:.3f} s ({ends[0]:.3f} to {ends[1]:.3f})"
            record(method, "epoch_processor_seconds", middle, len(each), *ends)
            if method != "ours":
                ratios = [spent / own for spent, (own, *_) in zip(each, times, strict=True)]
                ends, middle = (min(ratios), max(ratios)), statistics.median(ratios)
                text += f", {middle:.1f} ({ends[0]:.1f} to {ends[1]:.1f}) times ours"
                record(method, "epoch_over_ours", middle, len(ratios), *ends)
            print(f"one epoch, {len(each)} rounds, {text}", flush=True)
        torch.set_flush_denormal(True)
        peers = {}
        for rate in options.rates:
            history, best, last = train_peer(peer, parts, rate, options.epochs, error, options.seed)
            peers[f"cgcnn2, rate {rate:g}"] = (
                min(history),
                history[-1],
                best,
                last,
                int(np.argmin(history)) + 1,
            )

        print("\nmean absolute error in eV/atom, mean over families [95 % over families]")
        found = {}
        for epochs in sorted({*options.budgets, options.epochs}):
            spent = time.process_time()
            network = ours.train(epochs, options.batch_size, options.seed)
            spent = time.process_time() - spent
            found[epochs] = [
                error(ours.predict(network, parts[p]), p) for p in ("validation", "test")
            ]
            print(
                f"ours, {epochs} epochs ({spent:.0f} s): validation "
                f"{found[epochs][0].mean():.4f}, test {interval(found[epochs][1])}"
            )
        for label, (low, end, best, last, epoch) in peers.items():
            print(
                f"{label}: after {options.epochs} epochs validation {end:.4f}, test "
                f"{interval(last)}; best epoch {epoch}: validation {low:.4f}, test {interval(best)}"
            )
        chosen = min(peers, key=lambda label: peers[label][0])
        budget = min(found, key=lambda epochs: found[epochs][0].mean())
        compared = {
            f"both {options.epochs} epochs": (found[options.epochs][1], peers[chosen][3]),
            "each at its best budget": (found[budget][1], peers[chosen][2]),
        }
        for heading, (own, theirs) in compared.items():
            gain = (theirs - own).to_numpy()
            low, high = bootstrap_interval(gain)
            print(
                f"{heading}: ours {own.mean():.4f}, {chosen} {theirs.mean():.4f}; "
                f"ours lower by {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            )
            for method, each in (("ours", own), ("cgcnn2", theirs)):
                ends = bootstrap_interval(each.to_numpy())
                record(method, f"mae_eV/atom, {heading}", each.mean(), len(each), *ends)
            record(
                "ours",
                f"mae_reduction_against_cgcnn2, {heading}",
                gain.mean(),
                len(gain),
                low,
                high,
            )

        rows = parts["training"][: options.infer]
        network, theirs = CrystalNetwork(1), peer.network()
        paths = [Path(folder) / f"{row}.cif" for row in rows]

        def from_files() -> None:
            structures = [Structure.from_file(path) for path in paths]
            made = CrystalSet.from_structures(structures)
            predict(network, GraphBatches(made), np.arange(len(made)))

        def from_files_theirs() -> None:
            peer.data.clear_cache()
            peer.predict(theirs, rows)

        print(f"\ninference, crystals a second, {len(rows)} crystals, one network")
        for heading, ways in {
            "graphs in memory": (
                lambda: ours.predict(network, rows),
                lambda: peer.predict(theirs, rows),
            ),
            "from CIF files": (from_files, from_files_theirs),
        }.items():
            rounds = [[len(rows) / seconds(way) for way in ways] for _ in range(3)]
            for method, each in zip(("ours", "cgcnn2"), zip(*rounds, strict=True), strict=True):
                print(
                    f"{heading}: {method:7} median {statistics.median(each):.0f} "
                    f"({min(each):.0f} to {max(each):.0f})"
                )
                ends = min(each), max(each)
                record(method, f"crystals_per_s, {heading}", statistics.median(each), 3, *ends)
    if options.json:
        write_json(options.json, records)


if __name__ == "__main__":
    main()
