import builders
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli.structures import structures as command
from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.build import build_graphs
from matml.structures.graphs.store import GraphStore
from matml.structures.ingest import ingest
from matml.structures.settings import GraphsSection, StructuresSection

MAKERS = [
    builders.rocksalt,
    builders.cubic_abx3,
    builders.rutile,
    builders.wurtzite,
    builders.triclinic,
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ingested structures and their graphs."""
    root = tmp_path_factory.mktemp("store")
    table = pd.DataFrame(
        {
            "material_id": [f"m{i}" for i in range(len(MAKERS))],
            "bulk_modulus_GPa": [24.0, 170.0, 210.0, 140.0, np.nan],
            "poscar": [make().to(fmt="poscar") for make in MAKERS],
        }
    )
    table.to_csv(root / "set.csv", index=False)
    ingest([root / "set.csv"], root / "structures", StructuresSection(), threads=1)
    build_graphs(root / "structures", root / "graphs", GraphsSection(), threads=1)
    return root / "structures", root / "graphs"


def test_what_is_opened_is_what_was_built(folders):
    crystals = CrystalSet.open(*folders)
    memory = CrystalSet.from_structures(
        [make() for make in MAKERS], ids=[f"set/m{i}" for i in range(len(MAKERS))]
    )
    assert crystals.graphs.ids == memory.graphs.ids
    assert crystals.graphs.settings == {"neighbours": 8, "tie_tolerance_A": 1e-4}
    for name in ("node_atomic_number", "node_multiplicity", "node_offset", "edge_source"):
        np.testing.assert_array_equal(
            getattr(crystals.graphs, name), getattr(memory.graphs, name), err_msg=name
        )
    for name in ("edge_distance", "edge_weight"):
        np.testing.assert_allclose(
            getattr(crystals.graphs, name), getattr(memory.graphs, name), atol=1e-5, err_msg=name
        )
    assert crystals.table["family"].tolist() == memory.table["family"].tolist()


def test_arrays_have_the_types_of_the_contract(folders):
    store = GraphStore.open(folders[1])
    assert len(store) == len(MAKERS)
    assert store.node_atomic_number.dtype == np.int16
    assert store.edge_distance.dtype == np.float32
    assert store.node_offset[-1] == len(store.node_atomic_number)
    assert store.edge_offset[-1] == len(store.edge_source)
    assert isinstance(np.asarray(store.edge_source).base, np.ndarray)
    index = pd.read_parquet(folders[1] / "index.parquet")
    assert index.columns.tolist() == ["id", "n_nodes", "n_edges", "node_start", "edge_start"]
    assert index["n_edges"].sum() == len(store.edge_source)


def test_gather_equals_a_loop(folders):
    store = GraphStore.open(folders[1])
    indices = [3, 0, 3, 4]
    batch = store.gather(indices)
    numbers, graph, source, target, distance = [], [], [], [], []
    for place, i in enumerate(indices):
        nodes = slice(store.node_offset[i], store.node_offset[i + 1])
        edges = slice(store.edge_offset[i], store.edge_offset[i + 1])
        shift = len(numbers)
        source += (store.edge_source[edges] + shift).tolist()
        target += (store.edge_target[edges] + shift).tolist()
        distance += store.edge_distance[edges].tolist()
        numbers += store.node_atomic_number[nodes].tolist()
        graph += [place] * (nodes.stop - nodes.start)
    assert batch["atomic_number"].tolist() == numbers
    assert batch["graph"].tolist() == graph
    assert batch["edge_source"].tolist() == source
    assert batch["edge_target"].tolist() == target
    assert batch["edge_distance"].tolist() == distance
    assert (batch["graph"][batch["edge_source"]] == batch["graph"][batch["edge_target"]]).all()


def test_subset(folders):
    crystals = CrystalSet.open(*folders)
    part = crystals.subset([4, 1])
    assert part.table["id"].tolist() == part.graphs.ids == ["set/m4", "set/m1"]
    whole, small = crystals.graphs.gather([4, 1]), part.graphs.gather([0, 1])
    for name, values in whole.items():
        np.testing.assert_array_equal(small[name], values, err_msg=name)
    assert len(crystals.subset([])) == 0
    assert crystals.graphs.gather([])["edge_source"].shape == (0,)


def test_structure_gives_the_crystal_back(folders):
    crystals = CrystalSet.open(*folders)
    for index, make in enumerate(MAKERS):
        original, found = make(), crystals.structure(index)
        assert isinstance(found, Structure)
        assert found.composition.reduced_formula == original.composition.reduced_formula
        assert found.volume / len(found) == pytest.approx(original.volume / len(original))
        assert found.matches(original)


def test_from_structures_sets_bad_ones_aside_and_keeps_labels():
    overlapping = builders.caesium_chloride(a=0.9)
    shared = builders.caesium_chloride()
    shared.replace(0, {"D": 0.5, "Rb": 0.5})
    crystals = CrystalSet.from_structures(
        [builders.rocksalt(), overlapping, shared, builders.rutile()],
        ids=["a", "b", "c", "d"],
        labels={"band_gap_eV": [8.5, 1.0, 2.0, 3.0]},
    )
    assert crystals.table["id"].tolist() == ["a", "d"]
    assert crystals.table["band_gap_eV"].tolist() == [8.5, 3.0]
    assert crystals.quarantine["id"].tolist() == ["b", "c"]
    assert len(crystals) == len(crystals.graphs) == 2
    assert len(CrystalSet.from_structures([overlapping])) == 0


def test_from_structures_refuses_equal_ids():
    with pytest.raises(MatmlError, match="distinct"):
        CrystalSet.from_structures([builders.rocksalt()] * 2, ids=["a", "a"])


def test_damaged_and_foreign_files_are_named(folders, tmp_path):
    structures, graphs = folders
    with pytest.raises(MatmlError, match=r"no such file.*matml structures graph"):
        GraphStore.open(tmp_path)
    content = (graphs / "graphs.safetensors").read_bytes()
    for damaged in (content[:100], content[:-50], b"", b"\xff" * 64):
        (tmp_path / "graphs.safetensors").write_bytes(damaged)
        with pytest.raises(MatmlError, match="damaged"):
            GraphStore.open(tmp_path)
    crystals = CrystalSet.open(structures, graphs)
    crystals.graphs.subset([0, 1]).save(tmp_path / "other")
    with pytest.raises(MatmlError, match="not those of"):
        CrystalSet.open(structures, tmp_path / "other")


def test_graph_command(folders, tmp_path):
    settings = tmp_path / "graphs.yaml"
    settings.write_text("neighbours: 6\n")
    result = CliRunner().invoke(
        command, ["graph", str(folders[0]), "--out", str(tmp_path / "g"), "--config", str(settings)]
    )
    assert result.exit_code == 0, result.exception
    assert "structures/s" in result.output
    summary = read_json(tmp_path / "g" / "summary.json")
    assert summary["graphs"] == len(MAKERS)
    assert summary["nodes"] < summary["atoms"]
    store = GraphStore.open(tmp_path / "g")
    assert store.settings["neighbours"] == 6
    assert summary["edges"] == len(store.edge_source)


def test_same_input_gives_the_same_bytes(folders, tmp_path):
    build_graphs(folders[0], tmp_path / "again", GraphsSection(), threads=1)
    for name in ("graphs.safetensors", "index.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (folders[1] / name).read_bytes()
