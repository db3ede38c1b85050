"""`matml properties ship`: a trained model, small and documented, as matml brings it along."""

import shutil
import tempfile
from pathlib import Path

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.properties.predictor.export import file_hashes
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.layout import CARD, FORMAT

MATERIALS_PROJECT = "A. Jain et al., APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323"
CITATIONS = {
    "formation_energy.csv.gz": "F. Faber, A. Lindmaa, O. A. von Lilienfeld, R. Armiento, Int. J. "
    "Quantum Chem. 115, 1094 (2015), doi:10.1002/qua.24917",
    "elastic.csv.gz": "M. de Jong et al., Sci. Data 2, 150009 (2015), doi:10.1038/sdata.2015.9",
    "dielectric.csv.gz": "I. Petousis et al., Sci. Data 4, 160134 (2017), "
    "doi:10.1038/sdata.2016.134",
}
"""Of the embedded tables, as in data/README.md."""
LICENCE = (
    "Weights and training rows derive from data of the Materials Project, Creative Commons "
    "Attribution 4.0 (CC BY 4.0); cite the works in `citations`. The code is under MIT."
)


def ship_model(model: Path, out: Path, *, licence: str | None, benchmark: Path | None) -> dict:
    """Write a copy of a model that holds what its default methods need; return its card.

    The copy predicts exactly what the model does. Networks that were meta-trained for methods
    which no property chose are left out; the card gets licence, citations and checksums.

    Parameters
    ----------
    licence
        Of the training data; may be left out for the embedded data.
    benchmark
        Tidy records of `matml properties benchmark --json`, for the card.

    Raises
    ------
    MatmlError
        Where the model cannot be loaded, its data have no known licence, or `out` holds
        something else than a model.
    """
    model, out = Path(model), Path(out)
    card = FewShotPredictor.load(model).card
    sources = card["sources"]
    unknown = [name for name in sources if name not in CITATIONS]
    if unknown and licence is None:
        raise MatmlError(
            f"{model / CARD}: trained on {', '.join(unknown)}, whose licence is not known; say it "
            "with --licence"
        )
    if out.exists() and not (out / CARD).is_file() and any(out.iterdir()):
        raise MatmlError(f"--out {out}: is not empty and holds no model; give another folder")
    if out.resolve() == model.resolve():
        raise MatmlError(f"--out {out}: is the model itself; give another folder")
    chosen = {entry["method"] for entry in card["properties"].values()}
    kept = [method for method in card["meta_trained"] if method in chosen]
    left_out = set(card["meta_trained"]) - set(kept)
    card["meta_trained"] = kept
    for entry in card["properties"].values():
        entry["half_widths"] = {
            method: widths
            for method, widths in entry["half_widths"].items()
            if method not in left_out
        }
    card["licence"] = licence or LICENCE
    card["citations"] = [
        *(CITATIONS[name] for name in sources if name in CITATIONS),
        *([] if len(unknown) == len(sources) else [MATERIALS_PROJECT]),
    ]
    if benchmark is not None:
        card["benchmark"] = read_json(benchmark)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        made = Path(folder) / "made"
        _copy(model, made, {f"{method}.safetensors" for method in left_out})
        files = (path for path in made.rglob("*") if path.is_file() and path.name != CARD)
        card["files"] = file_hashes(made, files)
        write_json(made / CARD, card, FORMAT)
        # what ships must load
        FewShotPredictor.load(made)
        if out.exists():
            out.replace(Path(folder) / "old")
        made.replace(out)
    return card


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy(model: Path, made: Path, left_out: set[str]) -> None:
    """Copy the files of a model but those left out of its members."""
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model)
        of_member = len(name.parts) > 1 and name.parts[0].startswith("member-")
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_dir() or hidden or (of_member and path.name in left_out):
            continue
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, made / name)
