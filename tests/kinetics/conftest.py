"""Small shared populations, so that learning is paid for once."""

import pytest
import torch

from matml.kinetics.settings import KineticsSection


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
    from matml.kinetics.data.prepare import simulate_dataset

    folder = tmp_path_factory.mktemp("simulated")
    for name in ("jmak", "ttt"):
        simulate_dataset(name, quick, folder / name, seed=4)
    return folder


@pytest.fixture(scope="session")
def fractions_population(simulated):
    """Population of the simulated JMAK set, fractions, no alloy held out; not to be changed."""
    from matml.kinetics.data.observations import read_observations
    from matml.kinetics.equations import equation_named
    from matml.kinetics.inference.population import learn_population

    path = simulated / "jmak/observations.csv"
    observations = read_observations(path, simulated / "jmak/alloys.csv")
    return learn_population(observations, equation_named("jmak"), 2.0, 0, held_out=[], origin=path)[
        0
    ]


@pytest.fixture(scope="session")
def learned_steels(simulated):
    """Observations and population of the simulated TTT set; not to be changed."""
    from matml.kinetics.data.observations import read_observations
    from matml.kinetics.equations import equation_named
    from matml.kinetics.inference.population import learn_population, split_groups

    path = simulated / "ttt/observations.csv"
    observations = read_observations(path, simulated / "ttt/alloys.csv")
    _, held = split_groups(observations, 0.2, seed=0)
    population, _ = learn_population(
        observations, equation_named("c_curve"), 2.0, 0, held_out=held, origin=path
    )
    return observations, population


@pytest.fixture(scope="session")
def few_alloys(tmp_path_factory):
    """Lines of a configuration that simulates nine published alloys of each set, not all."""
    folder = tmp_path_factory.mktemp("published")
    lines = []
    for key, path in (
        ("jmak_table", KineticsSection().simulation.jmak_table),
        ("steel_table", KineticsSection().simulation.steel_table),
    ):
        rows = path.read_text().splitlines(keepends=True)
        (folder / path.name).write_text("".join(rows[:10]))
        lines.append(f"  {key}: {folder / path.name}\n")
    return "simulation:\n" + "".join(lines)


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory, monkeypatch):
    """What is remembered of the user's consent stays within the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
    monkeypatch.setattr("matml.kinetics.equations.form.own_file._agreed", set())
