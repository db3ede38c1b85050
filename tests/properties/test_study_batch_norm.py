"""The study of BatchNorm on few crystals and barely trained networks."""

from matml.properties.data.targets import find_property
from matml.studies.batch_norm import METHODS, PLAIN, POLICIES, Settings, study


def test_policies_share_their_start_and_are_compared_on_the_same_families(crystals):
    settings = Settings(epochs=2, batches=2, tasks=2, draws=1, shots=(2, 3), smallest_family=8)
    item = find_property("formation_energy_eV_per_atom")
    found = {
        (r["method"], r["metric"], r["shots"]): r for r in study(crystals, item, settings, seed=0)
    }
    assert {method for method, _, _ in found} == set(METHODS)
    assert len({r["n_tasks"] for r in found.values()}) == 1
    assert found[PLAIN, "cost", 2]["value"] == 0
    # with BatchNorm they are one network before they adapt, and others afterwards
    assert len({found[method, "before", 2]["value"] for method in POLICIES}) == 1
    assert len({round(found[method, "mae", 2]["value"], 6) for method in POLICIES}) == 4
    own = "BatchNorm, the support's statistics"
    assert found[own, "mae", 2]["value"] > found[own, "before", 2]["value"]
