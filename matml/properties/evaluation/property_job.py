"""One job a property: what is fitted to it alone, and its predictions of all episodes."""

from pathlib import Path
from typing import Any

from matml.properties.dataset import Workbench
from matml.properties.evaluation.layout import member_folder, predictions_of
from matml.properties.evaluation.train_and_predict import evaluate_baseline, evaluate_stack
from matml.properties.settings import PropertiesSection


def property_job(
    bench: Workbench,
    run: Path,
    settings: PropertiesSection,
    *,
    name: str,
    seed: int,
    device: str,
    threads: int,
) -> None:
    """Fit the baselines and the stack of one property, and predict all its episodes with them."""
    common: dict[str, Any] = {"name": name, "seed": seed}
    table, model = predictions_of(run, "baseline", name), run / f"baselines/{name}.safetensors"
    evaluate_baseline(bench, run, table, model, settings, threads=threads, **common)
    members = [member_folder(run, i) for i in range(settings.members)]
    table, model = predictions_of(run, "stack", name), run / f"stacks/{name}.safetensors"
    evaluate_stack(bench, run, members, table, model, settings, device=device, **common)
