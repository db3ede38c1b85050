"""Small shared populations, so that learning is paid for once."""

import pytest
import torch

from matml.config import KineticsSection


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick():
    return KineticsSection(meta_batches=3, meta_tasks=2, shots=[2, 5], draws=2, folds=2)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory, quick):
    """Folder with both simulated sets, in `jmak` and `ttt`."""
    from matml.kinetics.prepare import simulate_dataset

    folder = tmp_path_factory.mktemp("simulated")
    for name in ("jmak", "ttt"):
        simulate_dataset(name, quick, folder / name, seed=4)
    return folder
