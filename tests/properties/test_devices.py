"""The same commands on a device that is not the processor; on a GPU, where there is one.

Without a GPU a second device made of the processor's memory finds what would mix the two.
"""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from other_device import NAME, OnDevice, SecondDevice

from matml.core.errors import MatmlError
from matml.core.settings import read_section
from matml.properties.data.batches import GraphBatches
from matml.properties.evaluation.member_job import member_job
from matml.properties.evaluation.train_and_predict import pretrain_member
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import load_network
from matml.properties.networks.pretrain import Pretraining, pretrain
from matml.properties.networks.segment import Edges
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.settings import PropertiesSection

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]
DEVICES = ["second", pytest.param("cuda", marks=GPU)]


def _unfused(optimizer, *given, fused=None, **more):
    return optimizer(*given, **more)


@pytest.fixture
def device(request, monkeypatch):
    """Name of a device that is not the processor."""
    if request.param == "cuda":
        yield "cuda"
        return
    for name in ("Adam", "AdamW"):
        # fused steps are there for real devices only
        monkeypatch.setattr(torch.optim, name, partial(_unfused, getattr(torch.optim, name)))
    # made from numbers without passing the dispatcher
    tensor = torch.tensor
    monkeypatch.setattr(
        torch, "tensor", lambda *given, device=None, **more: tensor(*given, **more).to(device)
    )
    # which subclasses of tensors do not know
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    torch.__future__.set_swap_module_params_on_conversion(True)
    with SecondDevice():
        yield NAME
    torch.__future__.set_swap_module_params_on_conversion(False)


def test_the_second_device_tells_what_is_mixed():
    with SecondDevice():
        here, there = torch.ones(3), torch.ones(3, device=NAME)
        assert isinstance(there + 1, OnDevice)
        assert (there + 1).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="is on the processor"):
            here + there
        with pytest.raises(RuntimeError):
            there.numpy()


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_a_member_is_trained_and_adapted_as_on_the_processor(bench, folder, tmp_path, device):
    run = tmp_path / "run"
    run.mkdir()
    for path in (folder / "properties").glob("*"):
        if path.is_file():
            shutil.copy(path, run)
    settings = read_section(PropertiesSection, folder / "properties.yaml")
    given = {"member": 0, "seed": 0, "made_with": {}, "methods": ["maml"], "fine_tune": False}
    member_job(bench, run, settings, device=device, names=["bulk_modulus_GPa"], **given)
    recipe = bench.recipe(settings)
    for method in ("pretrained", "maml"):
        networks = [
            load_network(place / "members/0" / f"{method}.safetensors", recipe)[0].state_dict()
            for place in (run, folder / "properties")
        ]
        for name, weight in networks[1].items():
            torch.testing.assert_close(networks[0][name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("method", ["gp_stack", "network_gp", "maml", "fomaml", "fine_tuned"])
def test_predictions_are_those_of_the_processor(folder, family, method, device):
    structures = [family.structure(i) for i in range(len(family))]
    values = family.table["bulk_modulus_GPa"].to_numpy(float)
    means = []
    for where in (device, "cpu"):
        predictor = FewShotPredictor.load(folder / "model", where)
        adapted = predictor.adapt(structures[:8], values[:8], "bulk_modulus_GPa", method=method)
        means.append(np.column_stack(adapted.predict(structures[8:])))
    np.testing.assert_allclose(*means, rtol=1e-4)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_mixed_precision_trains_nearly_the_same_network(crystals, targets, device, monkeypatch):
    """In bfloat16, which processors have, too; the settings allow it on a GPU only."""
    products, project = [], Edges.project

    def seen(edges, ends, weight):
        products.append((ends.dtype, weight.dtype, edges.features.dtype))
        return project(edges, ends, weight)

    monkeypatch.setattr(Edges, "project", seen)
    losses, moved = [], []
    for mixed in (False, True):
        torch.manual_seed(0)
        network = CrystalNetwork(targets.shape[1], width=16, layers=2).to(device)
        start = torch.cat([weight.flatten() for weight in network.parameters()]).detach().clone()
        settings = Pretraining((1.0,) * targets.shape[1], epochs=4, batch_size=32,
                               mixed_precision=mixed)  # fmt: skip
        batches, rows = GraphBatches(crystals, targets, device), np.arange(256)
        records = pretrain(network, batches, rows, settings, validate_every=1)
        losses.append([record["train_loss"] for record in records])
        assert set(products) == {(torch.bfloat16 if mixed else torch.float32,) * 3}
        products.clear()
        weights = torch.cat([weight.flatten() for weight in network.parameters()])
        assert weights.dtype == torch.float32
        moved.append(weights - start)
    np.testing.assert_allclose(*losses, rtol=0.03)
    assert losses[0] != losses[1]
    assert torch.cosine_similarity(*moved, dim=0) > 0.9


def test_mixed_precision_is_refused_on_the_processor(bench, folder):
    settings = read_section(PropertiesSection, folder / "properties.yaml")
    mixed = settings.model_copy(update={"mixed_precision": True})
    with pytest.raises(MatmlError, match=r"mixed_precision = true with device = cpu: .* GPU only"):
        pretrain_member(bench, mixed, member=0, seed=0, device="cpu")
