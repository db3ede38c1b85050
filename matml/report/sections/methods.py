"""The part of the page that tells how things were done, in a few sentences, and whom to cite."""

from typing import Any

from matml.core.statistics import FEWEST_TASKS
from matml.report.html.markup import bullets, count, escape, missing
from matml.report.html.results import Results
from matml.report.html.wording import HULL as HULL_ENERGY
from matml.report.html.wording import doi, property_title
from matml.report.sections.screening.candidate import FACTS

# what, citation, DOI or '' where there is none
SYMMETRY = (
    "symmetry (moyo)",
    "K. Shinohara, moyo: crystal symmetry in Rust, https://github.com/spglib/moyo",
    "",
)
PYMATGEN = (
    "crystals in Python (pymatgen)",
    "S. P. Ong et al., Comput. Mater. Sci. 68 (2013) 314",
    "10.1016/j.commatsci.2012.10.028",
)
NETWORK = (
    "graph networks of crystals",
    "T. Xie, J. C. Grossman, Phys. Rev. Lett. 120 (2018) 145301",
    "10.1103/PhysRevLett.120.145301",
)
MAML = (
    "MAML",
    "C. Finn, P. Abbeel, S. Levine, Proc. 34th Int. Conf. Machine Learning (2017) 1126",
    "",
)
TREES = (
    "extra-trees",
    "P. Geurts, D. Ernst, L. Wehenkel, Machine Learning 63 (2006) 3",
    "10.1007/s10994-006-6226-1",
)
HULL = (
    "convex hull",
    "S. P. Ong, L. Wang, B. Kang, G. Ceder, Chem. Mater. 20 (2008) 1798",
    "10.1021/cm702327g",
)
IMPROVEMENT = (
    "expected improvement",
    "D. R. Jones, M. Schonlau, W. J. Welch, J. Global Optim. 13 (1998) 455",
    "10.1023/A:1008306431147",
)
AVRAMI = ("JMAK", "M. Avrami, J. Chem. Phys. 7 (1939) 1103", "10.1063/1.1750380")
VIEWER = (
    "crystal viewer",
    "N. Rego, D. Koes, Bioinformatics 31 (2015) 1322",
    "10.1093/bioinformatics/btu829",
)
# as of Judgement.score
SPREADS = (
    "predictions on the scale on which they are learned (with a minus what is to be low; of a "
    "target, minus the distance to it), in standard deviations of the known labels, summed over "
    "the goals, plus the logarithm of the probability to meet all windows"
)
SCORES = {
    "prediction": f"Score: {SPREADS}. ",
    "pareto": f"Score, within each Pareto front: {SPREADS}. ",
    "probability": "Score: the logarithm of the probability to meet all windows. ",
    "expected_improvement": "Score: the logarithm of the expected improvement times the "
    "probability to meet all windows. ",
}
COLOURS = ("colours", "M. Okabe, K. Ito, Color Universal Design (2008)", "")


def methods_section(results: Results) -> str:
    """Return the section's markup, for the parts that this run has done."""
    told: list[tuple[str, str, list[tuple[str, str, str]]]] = []
    if results.names("structures/summary.json"):
        told.append(("Crystals", _crystals(results), [PYMATGEN, SYMMETRY]))
    if results.names("properties/evaluation/summary.json"):
        told.append(("Predictors", _predictors(results), [NETWORK, MAML, TREES]))
    if results.names("screening/summary.json"):
        told.append(("Candidates", _screening(results), [HULL, IMPROVEMENT, VIEWER]))
    if results.names("kinetics/*/summary.json") or results.place.startswith("kinetics"):
        told.append(("Kinetics", _kinetics(results), [AVRAMI]))
    if not told:
        return missing("This run has computed nothing whose methods could be described.")
    parts = [f"<h3>{title}</h3><p>{text}</p>" for title, text, _ in told]
    works = [item for _, _, items in told for item in items] + [COLOURS]
    items = "".join(
        f"<li>{escape(what)}: {escape(text)}{', ' + doi(link) if link else ''}</li>"
        for what, text, link in works
    )
    parts.append(f'<h3>Methods to cite</h3><ul class="findings">{items}</ul>')
    filters = (results.json("candidates/summary.json") or {}).get("sources")
    if filters:
        cited = (f"{FACTS.get(n, n.replace('_', ' '))}: {text}" for n, text in filters.items())
        parts.append(f"<h3>How candidates are made and filtered</h3>{bullets(cited)}")
    return "\n".join(parts)


def _settings(results: Results, name: str) -> dict[str, Any]:
    """Return a section of the configuration, empty where it was not kept."""
    return results.yaml(f"settings/{name}.yaml") or {}


def _crystals(results: Results) -> str:
    """Return how crystals were read and described."""
    given = _settings(results, "structures").get("family_symprec_A")
    within = f" within {given} Å" if given is not None else ""
    return (
        "Each crystal was read, checked (overlapping atoms, volume, occupancy), and assigned to a "
        f"prototype by its symmetry{within}: composition pattern, space group and occupied sites. "
        "It became a graph whose nodes are groups of symmetry-equal atoms and whose edges are "
        "distances to the nearest neighbours."
    )


def _predictors(results: Results) -> str:
    """Return how the predictors were trained and judged."""
    given = _settings(results, "properties")
    members, folds = given.get("members"), given.get("folds")
    many = f"{count(members)} graph networks" if members else "Graph networks"
    dealt = f" of {count(folds)} folds" if folds else ""
    return (
        "Families, not crystals, were split into training, validation and test, so that no stage "
        f"has seen a test family. {many} were pre-trained on all properties at once, each without "
        f"the training families of one{dealt}, and learned to adapt on those (MAML, first-order "
        "MAML). Extra-trees and Gaussian processes on composition and sites are the simple "
        "methods beside them; the stacked Gaussian process joins networks and simple methods, and "
        "is conditioned on the labels of a new family by exact Gaussian-process inference, with "
        "noise. Settings and default methods were chosen "
        "without the test families. All methods predict the same crystals from the same labels, "
        "drawn several times. Intervals: 90 % split-conformal half widths over validation "
        "families; their real coverage on the test families is given above. Errors are means "
        "over families with 95 % bootstrap intervals over families, where there are at least "
        f"{FEWEST_TASKS}."
    )


def _screening(results: Results) -> str:
    """Return how the candidates were ranked."""
    given = _settings(results, "screening")
    wanted = given.get("objectives") or []
    names = [property_title(str(given["property"]))] if not wanted and "property" in given else []
    ranked = f" by {escape(str(given['rank_by']).replace('_', ' '))}" if "rank_by" in given else ""
    of = f" of {escape(names[0])}" if names else ""
    return (
        f"The predictor{of} was adapted to the labels given and applied to all candidates, which "
        f"were ranked{ranked}. Candidates outside the model's domain are ranked last: those far "
        "from the training crystals, with elements that hardly any labelled crystal holds, or "
        "predicted beyond the known values of all families. The first were chosen to be both good "
        "and varied. "
        f"{SCORES.get(str(given.get('rank_by')), '')}"
        f"{_hull(results)}Nearest known crystals are those that need the fewest atoms exchanged. "
        f"{_cells(results)}For this list no candidate was calculated "
        "or made: its values are predictions."
    )


def _hull(results: Results) -> str:
    """Return what the energy above the hull is, where it was predicted."""
    rows = results.table("screening/shortlist.csv")
    if rows is None or HULL_ENERGY not in rows:
        return ""
    return (
        "The energy above the hull compares the predicted formation energy with the known entries "
        "alone. "
    )


def _cells(results: Results) -> str:
    """Return where the cells of the candidates come from, where matml made them."""
    made = results.json("candidates/summary.json")
    if made is None:
        return ""
    relaxed = "then relaxed with CHGNet" if "relaxation" in made else "not relaxed"
    return f"Cells were guessed by regression on ionic radii and {relaxed}. "


def _kinetics(results: Results) -> str:
    """Return how the kinetic equations were calibrated."""
    folds = _settings(results, "kinetics").get("folds")
    dealt = f" in {count(folds)} folds" if folds else ""
    tested = (
        f"Tested on alloys that were held out{dealt}, split by composition; compared with least "
        "squares from a generic start, which knows nothing of other alloys. "
    )
    return (
        "A kinetic equation with few physical parameters describes each alloy. What parameters "
        "are likely (the prior, given the composition) is learned from the other alloys; a few "
        "observations of a new alloy turn it into a posterior, whose width gives the bands. "
        f"{'' if results.place else tested}"
        "Simulated data are marked as such wherever they appear."
    )
