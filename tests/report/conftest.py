"""A small folder of result files, as every stage writes them, with made-up numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matml.core.files import write_json, write_table, write_text

METHODS = {
    "support_mean": "mean of the support",
    "extra_trees": "extra-trees",
    "global_gp_gp": "global GP + GP on support residuals",
    "pretrained": "pre-trained network, no adaptation",
    "fine_tuned": "pre-trained network, fine-tuned",
    "maml": "MAML",
}
CIF = """data_SrTiO3
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_symmetry_equiv_pos_site_id
_symmetry_equiv_pos_as_xyz
1 'x, y, z'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Sr Sr0 0 0 0 1
Ti Ti1 0.5 0.5 0.5 1
O O2 0.5 0.5 0 1
O O3 0.5 0 0.5 1
O O4 0 0.5 0.5 1
"""


def write_structures(folder: Path) -> None:
    write_json(
        folder / "structures/summary.json",
        {
            "accepted": 1234,
            "quarantined_crystals": 2,
            "dropped_labels": 1,
            "duplicates": 34,
            "families": 56,
            "families_of_10_or_more": 7,
            "labels": {"bulk_modulus_GPa": 345, "band_gap_eV": 0},
            "sources": {"elastic.csv.gz": 1200, "mine.zip": 34},
            "seconds": 12.5,
        },
    )
    write_table(
        folder / "structures/families.csv",
        pd.DataFrame(
            {
                "family": ["ABC3_cP5_221_a_b_c", "AB_cF8_225_a_b", "A_x"],
                "common_name": ["cubic perovskite", "rocksalt", None],
                "prototype": ["ABC3_cP5_221_a_b_c", "AB_cF8_225_a_b", "A_x"],
                "n_crystals": [65, 52, 3],
                "n_bulk_modulus_GPa": [30, 20, 0],
                "n_band_gap_eV": [0, 0, 0],
            }
        ),
    )
    write_table(
        folder / "structures/quarantine.csv",
        pd.DataFrame(
            {
                "id": ["a.cif", "b.cif", "c"],
                "file": ["a.cif", "b.cif", "<script>alert(1)</script>"],
                "reason": ["two atoms overlap", "disordered site", "label is not a number"],
                "remedy": ["check the cell", "order the site", "give a number"],
            }
        ),
    )
    write_json(
        folder / "graphs/summary.json",
        {
            "graphs": 1234,
            "atoms": 9000,
            "nodes": 4000,
            "edges": 30000,
            "settings": {"neighbours": 8},
            "seconds": 1.5,
        },
    )


def write_properties(folder: Path) -> None:
    rows = []
    for name, unit, scale in (
        ("bulk_modulus_GPa", "log10(GPa)", 0.1),
        ("refractive_index", None, 0.02),
    ):
        for position, (method, title) in enumerate(METHODS.items()):
            for shots in (0, 5, 10):
                value = scale * (1.5 - 0.13 * position) / (1 + 0.04 * shots)
                rows.append(
                    {
                        "property": name,
                        "unit": unit,
                        "method": method,
                        "title": title,
                        "is_default": method == "global_gp_gp",
                        "shots": shots,
                        "n_families": 9 if shots < 10 else 6,
                        "n_episodes": 90,
                        "metric": "mae_family_mean",
                        "value": value,
                        "low": 0.8 * value,
                        "high": 1.25 * value,
                    }
                )
    gain = {**rows[8], "metric": "gain_over_zero_shot", "value": 0.0355, "low": 0.01, "high": 0.06}
    write_table(folder / "properties/evaluation/scores.csv", pd.DataFrame([*rows, gain]))
    write_json(
        folder / "properties/evaluation/summary.json",
        {
            "test_families": {"ABC3_cP5_221_a_b_c": "cubic perovskite", "A_x": ""},
            "validation_families": {"AB_cF8_225_a_b": "rocksalt"},
            "statements": ["Bulk modulus: the global GP won on the validation families."],
        },
    )
    random = np.random.default_rng(0)
    truth = random.uniform(50, 250, 60)
    prediction = truth + random.normal(0, 12, 60)
    write_table(
        folder / "properties/evaluation/predictions.parquet",
        pd.DataFrame(
            {
                "property": "bulk_modulus_GPa",
                "unit": "GPa",
                "method": np.where(np.arange(60) < 40, "global_gp_gp", "pretrained"),
                "shots": 10,
                "family": "ABC3_cP5_221_a_b_c",
                "common_name": "cubic perovskite",
                "id": [f"elastic/{i}" for i in range(60)],
                "formula": "SrTiO3",
                "truth": truth,
                "prediction": prediction,
                "low": prediction - 20,
                "high": prediction + 20,
            }
        ),
    )
    for member in (0, 1):
        epochs = np.arange(1, 11)
        loss = 1 / epochs + 0.1 * member
        table = pd.DataFrame({"epoch": epochs, "train_loss": loss, "validation_loss": 1.1 * loss})
        for name, stage in (("pretraining", "pretraining"), ("metatraining", "maml")):
            write_table(
                folder / f"properties/members/{member}/{name}.csv",
                table.assign(stage=stage, member=member),
            )


def write_screening(folder: Path) -> None:
    write_json(
        folder / "candidates/summary.json", {"n_candidates": 2, "family": "cubic perovskite"}
    )
    write_json(folder / "screening/summary.json", {"notes": ["2 candidates ranked."]})
    write_table(
        folder / "screening/shortlist.csv",
        pd.DataFrame(
            {
                "rank": [1, 2],
                "id": ["c/1", "c/2"],
                "formula": ["SrTiO3", "BaTiO3"],
                "property": "refractive_index",
                "prediction": [2.71828, 2.25],
                "low": [2.5, 2.0],
                "high": [2.9, 2.5],
                "unit": ["", ""],
                "distance": [0.4, 1.7],
                "in_domain": [True, False],
                "duplicate_of": ["", "dielectric/mp-1"],
                "known_composition": [False, True],
                "in_support": [False, False],
                "tolerance_factor": [1.0, 1.06],
                "cif": ["1_SrTiO3.cif", ""],
            }
        ),
    )
    write_text(folder / "screening/candidates/1_SrTiO3.cif", CIF)


def write_kinetics(folder: Path) -> None:
    place = folder / "kinetics/simulated_ttt"
    rows = [
        {
            "dataset": "simulated_ttt",
            "equation": "c_curve",
            "unit": "log10 s",
            "method": method,
            "is_default": method == "hierarchical posterior",
            "shots": shots,
            "metric": "rmse_mean",
            "value": error / shots**0.5,
            "low": 0.8 * error / shots**0.5,
            "high": 1.3 * error / shots**0.5,
            "n_tasks": 17,
            "seed": 0,
        }
        for method, error in (
            ("least squares, generic start", 1.4142),
            ("hierarchical posterior", 0.31),
        )
        for shots in (1, 5, 10)
    ]
    write_table(place / "scores.csv", pd.DataFrame(rows))
    write_json(
        place / "summary.json",
        {"equation": "c_curve", "simulated": True, "noise": {"time_log10_s": 0.05}, "seed": 0},
    )
    write_table(
        place / "observations.csv",
        pd.DataFrame({"alloy": ["X1", "X1", "X2"], "time_s": 1.0, "temperature_K": 900.0}),
    )
    alloy = place / "calibration/AISI_4340"
    write_json(
        alloy / "calibration.json",
        {
            "alloy": "AISI 4340",
            "observations": 5,
            "notes": ["The exponent was not determined by these points."],
            "other_points": {
                "other_observations": 21,
                "rmse": 0.1234,
                "rmse_least_squares_generic_start": 0.6543,
                "coverage_90": 0.9,
                "unit": "log10 s",
            },
        },
    )
    write_table(
        alloy / "parameters.csv",
        pd.DataFrame(
            {
                "parameter": ["nose_temperature", "exponent"],
                "unit": ["K", None],
                "median": [873.25, 2.1],
                "low_90": [860.0, 1.2],
                "high_90": [890.0, 3.4],
                "determined_by": ["data", "prior"],
            }
        ),
    )
    temperature = np.linspace(500, 700, 21)
    middle = 10 ** (1.5 + ((temperature - 600) / 60) ** 2)
    parts = [
        pd.DataFrame(
            {
                "fraction": fraction,
                "temperature_C": temperature,
                "time_s": middle * factor,
                "low_90_s": middle * factor / 2,
                "high_90_s": middle * factor * 2,
                "least_squares_time_s": middle * factor * 5,
            }
        )
        for fraction, factor in ((0.01, 0.2), (0.5, 1.0), (0.99, 3.0))
    ]
    write_table(alloy / "ttt.csv", pd.concat(parts))
    write_table(
        alloy / "observations.csv",
        pd.DataFrame(
            {"temperature_K": [850.0, 873.0], "time_s": [40.0, 30.0], "ttt_fraction": 0.5}
        ),
    )


def write_run(folder: Path) -> None:
    write_text(folder / "settings/run.yaml", "output_dir: results\nseed: 4711\ndevice: cpu\n")
    write_text(folder / "settings/report.yaml", "title: A title\n")
    # longer than a phone is wide
    write_text(folder / "settings/structures.yaml", f"labels: data/crystals/{'long_' * 20}.csv\n")
    write_json(folder / "settings/versions.json", {"python": "3.11.0", "torch": "2.13.0"})
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    for rule, seconds, memory in (("ingest", 61.5, 812.0), ("properties-pretrain-0", 33.0, "-")):
        write_text(
            folder / f"benchmarks/{rule}.tsv",
            f"{head}{seconds}\t0:01:01\t{memory}\t1\t1\t1\t0\t0\t98\t60.1\n",
        )


@pytest.fixture
def empty_results(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def write_results():
    """Write the results of a small run to a folder."""

    def write(folder):
        for part in (
            write_structures,
            write_properties,
            write_screening,
            write_kinetics,
            write_run,
        ):
            part(folder)

    return write


@pytest.fixture
def results(tmp_path, write_results):
    folder = tmp_path / "results"
    write_results(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, write_results):
    """The same; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    write_results(folder)
    return folder


FORMULAS = [
    *("PtPbO3", "BiSbS3", "LaScS3", "FeSnS3", "FeRuO3", "CdPdO3", "BaPbS3", "MnHgO3"),
    *("HgPbS3", "NiPbS3", "BaPdO3", "HgRuO3", "AgSbO3", "InRhO3", "PdPbO3", "ScBiS3"),
    *("LaRhO3", "HgIrO3", "TlRhO3", "InBiS3", "KMgF3", "CsCaBr3", "BaSnO3", "RbCdF3"),
]
HULL = "energy_above_hull_eV_per_atom"


def write_several(folder: Path) -> None:
    """A shortlist by two objectives, with stability, crystals, reasons and neighbours."""
    random = np.random.default_rng(7)
    n = len(FORMULAS)
    index, gap = random.uniform(1.5, 4, n), random.uniform(0.5, 5, n)
    hull = random.normal(0, 0.2, n)
    hull[-1] = np.nan
    table = pd.DataFrame(
        {
            "rank": np.arange(1, n + 1),
            "id": [f"c/{name}" for name in FORMULAS],
            "formula": FORMULAS,
            "property": "refractive_index",
            "prediction": index,
            "low": index - 0.3,
            "high": index + 0.4,
            "unit": "",
            "probability": random.uniform(0, 1, n),
            "score": np.linspace(4, 1, n),
            "score_rank": [2, 1, *range(3, n + 1)],
            "pareto_front": [1, 1, *[2] * (n - 2)],
            "band_gap_eV": gap,
            "band_gap_eV_low": gap - 0.5,
            "band_gap_eV_high": gap + 0.5,
            HULL: hull,
            f"{HULL}_low": hull - 0.1,
            f"{HULL}_high": hull + 0.1,
            "hull_entries": 4.0,
            "hull_missing": ["" if place % 3 else "S-Sb" for place in range(n)],
            "decomposes_into": "0.60 PbO2 + 0.40 Pt",
            "distance": random.uniform(0.3, 1.2, n),
            "in_domain": [place < n - 5 for place in range(n)],
            "rare_elements": ["" if place < n - 2 else "Rb" for place in range(n)],
            "duplicate_of": ["" if place < n - 3 else "dielectric/mp-9" for place in range(n)],
            "known_composition": [place >= n - 3 for place in range(n)],
            "nearest_known": "dielectric/mp-1 (PtO2)",
            "changed_atoms": 0.2,
            "in_support": False,
            "tolerance_factor": 0.95,
            "cif": [f"{place + 1:02d}.cif" if place < 3 else "" for place in range(n)],
        }
    )
    write_table(folder / "screening/shortlist.csv", table)
    for place, other in enumerate(("Pb", "Bi", "La")):
        text = CIF.replace("Sr", other)
        write_text(folder / f"screening/candidates/{place + 1:02d}.cif", text)
    write_json(
        folder / "screening/summary.json",
        {
            "notes": ["24 candidates ranked."],
            "objectives": ["refractive_index maximise", "band_gap_eV >= 2"],
            "properties": {"refractive_index": "", "band_gap_eV": "eV"},
            "n_ranked": 4242,
        },
    )
    explained = [
        {
            "rank": rank,
            "id": table["id"][rank - 1],
            "objectives": [
                {
                    "objective": "refractive_index maximise",
                    "property": "refractive_index",
                    "probability": None,
                    "place": rank,
                    "of": 4242,
                },
                {
                    "objective": "band_gap_eV >= 2",
                    "property": "band_gap_eV",
                    "probability": 0.87654 / rank,
                    "place": 3,
                    "of": 4242,
                },
            ],
            "nearest": [
                {
                    "id": "dielectric/mp-77",
                    "formula": "PtO2",
                    "family": "marcasite <b>",
                    "same_prototype": False,
                    "changed_atoms": 0.2,
                    "values": {"refractive_index": 4.625, "bulk_modulus_GPa": 203.5},
                },
                {
                    "id": "dielectric/mp-78",
                    "formula": "KTaO3",
                    "family": "cubic perovskite",
                    "same_prototype": True,
                    "changed_atoms": 0.4,
                    "values": {"refractive_index": 2.375},
                },
            ],
        }
        for rank in (1, 2, 3)
    ]
    write_json(folder / "screening/explained.json", explained)


@pytest.fixture(scope="session")
def several_results(tmp_path_factory):
    """Results as of a whole run, screened by two objectives; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("several") / "results"
    for write in (write_structures, write_properties, write_several, write_kinetics, write_run):
        write(folder)
    write_json(
        folder / "candidates/summary.json", {"n_candidates": 4242, "family": "cubic perovskite"}
    )
    return folder
