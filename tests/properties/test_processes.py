"""Processes that share the training of a member end with the weights of one."""

import shutil
import subprocess

import torch

from matml.core.settings import read_section
from matml.properties.networks.ensemble import load_network
from matml.properties.settings import PropertiesSection


def test_two_processes_end_with_the_weights_of_one(bench, folder, tmp_path, warm):
    """As the rule of the workflow starts them; one process has made the run."""
    run = tmp_path / "run"
    run.mkdir()
    for path in (folder / "properties").glob("*"):
        if path.is_file():
            shutil.copy(path, run)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = ["matml", "properties", "member"]
    options = [
        f"--run={run}",
        "--member=0",
        "--no-fine-tuning",
        "--method=maml",
        f"--structures={folder}/structures",
        f"--graphs={folder}/graphs",
        f"--config={folder}/properties.yaml",
    ]
    done = subprocess.run(
        ["python", *launch, "--", *command, *options],
        env=warm,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (run / "predictions/member-0.parquet").is_file()
    assert not (run / ".unfinished").exists()
    settings = read_section(PropertiesSection, folder / "properties.yaml")
    recipe = bench.recipe(settings)
    for name, method in (("pretrained", None), ("maml", "maml")):
        both = [
            load_network(place / "members/0" / f"{name}.safetensors", recipe, method)[0]
            for place in (run, folder / "properties")
        ]
        for key, weight in both[1].state_dict().items():
            own = both[0].state_dict()[key]
            torch.testing.assert_close(own, weight, rtol=1e-3, atol=1e-4)
