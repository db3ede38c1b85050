"""Candidates' cells and positions relaxed with a universal potential, where one is installed."""

import hashlib
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp import Poscar

import matml.structures.elements  # noqa: F401  (silences noble gases)
from matml.core.errors import MatmlError
from matml.core.files import TABLE, read_table, write_table
from matml.core.parallel import SECONDS_BETWEEN_LINES, processors
from matml.screening.settings import ScreeningSection

log = logging.getLogger(__name__)

DONE = "relaxation.parquet"
SECONDS_BETWEEN_SAVES = 20.0
LARGEST_CHANGE = 1.5
"""Volumes that change by more than this factor are not taken: guess and potential disagree."""
SYMMETRY_TOLERANCE = 0.01
FEWEST = 32
"""Candidates below which starting processes costs more than it saves."""


@dataclass(frozen=True)
class Relaxed:
    """Where a relaxation ended: the structure, whether it converged, and after how many steps."""

    structure: Structure
    converged: bool
    steps: int


class Relaxer(Protocol):
    """A potential that relaxes structures; `name` says which, with its version."""

    name: str

    def __call__(self, structure: Structure) -> Relaxed:
        """Relax cell and positions, the order of the atoms kept."""


class ChgnetRelaxer:
    """CHGNet (Deng et al. 2023, 10.1038/s42256-023-00716-3) with ASE's BFGS.

    The symmetry of the prototype is kept, so that a candidate stays a member of its family and
    single precision does not break it. Forces on the cell are those of ASE's `FrechetCellFilter`.

    Parameters
    ----------
    force
        Largest force at convergence, eV/angstrom.
    steps
        Steps after which it is given up.

    Raises
    ------
    MatmlError
        Where CHGNet is not installed.
    """

    def __init__(self, force: float, steps: int) -> None:
        from matml.potentials.named import CHGNET, HOW, available, load_chgnet, quiet

        if not available(CHGNET):
            raise MatmlError(
                f"relaxing candidates needs the package {CHGNET}: {HOW}, or leave out --relax "
                "(screening: {relax: false})"
            )
        import torch

        torch.set_num_threads(1)
        model = load_chgnet()
        with quiet():
            from chgnet.model.dynamics import CHGNetCalculator

            self.calculator = CHGNetCalculator(model, use_device="cpu", on_isolated_atoms="error")
        self.force, self.steps = force, steps
        self.name = f"{CHGNET}, model {model.version}"

    def __call__(self, structure: Structure) -> Relaxed:
        """Relax cell and positions, the order of the atoms kept."""
        from ase.constraints import FixSymmetry
        from ase.filters import FrechetCellFilter
        from ase.optimize import BFGS

        from matml.potentials.named import quiet

        with quiet():
            atoms = AseAtomsAdaptor.get_atoms(structure)
            atoms.set_constraint(FixSymmetry(atoms, symprec=SYMMETRY_TOLERANCE))
            atoms.calc = self.calculator
            # a filter stands in for atoms, which not every version of ASE declares
            cell: Any = FrechetCellFilter(atoms)
            optimizer = BFGS(cell, logfile=None)
            converged = optimizer.run(fmax=self.force, steps=self.steps)
        relaxed = Structure(
            atoms.cell.array, structure.species, atoms.positions, coords_are_cartesian=True
        )
        return Relaxed(relaxed, bool(converged), optimizer.nsteps)


def relax_candidates(
    table: pd.DataFrame,
    settings: ScreeningSection,
    folder: Path,
    threads: int | None = None,
    load: Callable[[float, int], Relaxer] = ChgnetRelaxer,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Relax the structures of a candidate table.

    What is done is kept in `folder / "relaxation.parquet"`, every 20 s: an interrupted run goes on
    from there, and candidates that have not changed are not relaxed again.

    Parameters
    ----------
    table
        As of `candidates.generate`.
    load
        Makes the potential from force and steps; called once in every process.

    Returns
    -------
    table
        With `poscar` (and `lattice_parameter_angstrom`, where it stands) relaxed, `relaxed`
        (`yes` or `no`), `relaxation_steps`, `relaxation_problem` ('' if none) and
        `relaxed_over_guessed_volume` (NaN where not relaxed). Where a relaxation fails, the
        unrelaxed cell stays.
    summary
        Counts, and how far volumes moved.

    Raises
    ------
    MatmlError
        Where the potential is not installed, or a process dies.
    """
    limits = settings.relax_force, settings.relax_steps
    relaxer = load(*limits)
    keys = [_key(poscar, relaxer.name, *limits) for poscar in table["poscar"]]
    path = Path(folder) / DONE
    found: dict[str, dict[str, Any]] = {}
    if path.exists():
        done = read_table(path, TABLE).to_dict("records")
        found = {str(row["key"]): {str(name): value for name, value in row.items()} for row in done}
    before = found.keys() & set(keys)
    if before:
        log.info("%d of %d candidates were relaxed before", len(before), len(table))
    # only what is asked for stays, else the file would grow with every change of the settings
    found = {key: found[key] for key in keys if key in before}
    todo = {k: p for k, p in zip(keys, table["poscar"], strict=True) if k not in found}
    last_saved = last_told = time.monotonic()
    for key, row in zip(
        todo, _relax_all(list(todo.values()), relaxer, partial(load, *limits), threads), strict=True
    ):
        found[key] = {"key": key} | row
        now = time.monotonic()
        if now - last_saved > SECONDS_BETWEEN_SAVES:
            write_table(path, pd.DataFrame(list(found.values())))
            last_saved = now
        if now - last_told > SECONDS_BETWEEN_LINES:
            log.info("relaxing: %d of %d", len(found), len(table))
            last_told = now
    if todo:
        write_table(path, pd.DataFrame(list(found.values())))
    rows = pd.DataFrame([found[key] for key in keys], index=table.index)
    good = rows["problem"] == ""
    relaxed = table.assign(
        poscar=rows["poscar"].where(good, table["poscar"]),
        relaxed=np.where(good, "yes", "no"),
        relaxation_steps=rows["steps"],
        relaxation_problem=rows["problem"],
        relaxed_over_guessed_volume=rows["ratio"].where(good),
    )
    if "lattice_parameter_angstrom" in relaxed:
        stretch = np.cbrt(relaxed["relaxed_over_guessed_volume"].fillna(1))
        relaxed["lattice_parameter_angstrom"] *= stretch
    ratio = rows["ratio"][good]
    return relaxed, {
        "potential": relaxer.name,
        "n_relaxed": int(good.sum()),
        "n_not_relaxed": int((~good).sum()),
        "problems": rows["problem"][~good].value_counts().to_dict(),
        "volume_change_percent": {
            f"{100 * q:.0f} % of the candidates below": float(100 * (ratio.quantile(q) - 1))
            for q in (0.05, 0.5, 0.95)
            if len(ratio)
        },
    }


def _key(poscar: str, *of: object) -> str:
    """What a relaxation depends on, in short."""
    return hashlib.sha256("\0".join([poscar, *map(str, of)]).encode()).hexdigest()[:32]


def relax_one(poscar: str, relaxer: Relaxer) -> dict[str, Any]:
    """Return `poscar`, `steps`, `ratio` of volumes, and `problem`, '' where all went well."""
    start = Poscar.from_str(poscar)
    failed = {"poscar": poscar, "steps": 0, "ratio": np.nan}
    try:
        end = relaxer(start.structure)
    except Exception as error:  # whatever it stumbles over costs one candidate only
        said = " ".join(str(error).split())[:120]
        return failed | {"problem": f"the potential failed ({type(error).__name__}: {said})"}
    failed["steps"] = end.steps
    ratio = end.structure.volume / start.structure.volume
    if not np.isfinite(end.structure.frac_coords).all() or not np.isfinite(ratio):
        return failed | {"problem": "the potential gives no finite structure"}
    if not end.converged:
        return failed | {"problem": "not converged"}
    if not 1 / LARGEST_CHANGE <= ratio <= LARGEST_CHANGE:
        return failed | {"problem": f"volume changed by a factor beyond {LARGEST_CHANGE:g}"}
    text = Poscar(end.structure, comment=start.comment).get_str(significant_figures=6)
    return {"poscar": text, "steps": end.steps, "ratio": ratio, "problem": ""}


def _relax_all(
    poscars: Sequence[str], relaxer: Relaxer, load: Callable[[], Relaxer], threads: int | None
) -> Iterator[dict[str, Any]]:
    """Yield what became of each, in order."""
    workers = min(processors(threads), 1 + len(poscars) // FEWEST)
    if workers == 1:
        yield from (relax_one(poscar, relaxer) for poscar in poscars)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (load,)) as pool:
        try:
            yield from pool.map(_relax_in_worker, poscars, chunksize=4)
        except BrokenProcessPool:
            raise MatmlError(
                "relaxing: a worker process died, most likely out of memory; use fewer --threads"
            ) from None


_relaxer: Relaxer


def _start(load: Callable[[], Relaxer]) -> None:
    global _relaxer
    _relaxer = load()


def _relax_in_worker(poscar: str) -> dict[str, Any]:
    return relax_one(poscar, _relaxer)
