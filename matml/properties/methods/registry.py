"""The methods by name: what people read of each, and the class that makes it.

A method is added by its class and a line here. Titles are read without importing the classes,
which bring torch along.
"""

from dataclasses import dataclass

FINE_TUNED, STACK, LABEL_PROCESS = "fine_tuned", "gp_stack", "label_process"
HYPOTHETICAL = "gp_stack_hypothetical"
DESCRIPTORS, MEMBER, ALL_MEMBERS = "descriptors", "member", "all members"
"""What a method needs to be evaluated: the last, and the member, one stage each."""


@dataclass(frozen=True)
class Entry:
    """A method of the registry.

    Attributes
    ----------
    needs
        Descriptors alone, one member of the ensemble at a time, or all members together.
    made_by
        Module of this package, and class.
    offered
        Whether a predictor may choose it; others only the benchmarks compare.
    """

    title: str
    needs: str
    made_by: str
    offered: bool = True


ENTRIES = {
    "support_mean": Entry("mean of the support", DESCRIPTORS, "baselines:SupportMean"),
    "extra_trees": Entry("extra-trees", DESCRIPTORS, "baselines:Trees"),
    "extra_trees_gp": Entry(
        "extra-trees + GP on support residuals", DESCRIPTORS, "baselines:CorrectedTrees"
    ),
    "global_gp": Entry("global GP", DESCRIPTORS, "baselines:Process"),
    "global_gp_gp": Entry(
        "global GP + GP on support residuals", DESCRIPTORS, "baselines:CorrectedProcess"
    ),
    "pretrained": Entry("pre-trained network, no adaptation", MEMBER, "networks:Pretrained"),
    FINE_TUNED: Entry("pre-trained network, fine-tuned", MEMBER, "networks:FineTuned"),
    "network_gp": Entry(
        "pre-trained network + GP on support residuals", MEMBER, "networks:CorrectedNetwork"
    ),
    "fomaml": Entry("FOMAML", MEMBER, "networks:MetaTrained"),
    "maml": Entry("MAML", MEMBER, "networks:MetaTrained"),
    STACK: Entry("stacked Gaussian process", ALL_MEMBERS, "stack:Stacked"),
    HYPOTHETICAL: Entry(
        "stacked Gaussian process, of hypothetical crystals",
        ALL_MEMBERS,
        "stack:HypotheticalStacked",
        False,
    ),
    "anil": Entry("ANIL", MEMBER, "networks:MetaTrained", False),
    "meta_sgd": Entry("Meta-SGD", MEMBER, "networks:MetaTrained", False),
    "ridge_head": Entry("meta-learned ridge head", MEMBER, "networks:ClosedForm", False),
    "gp_head": Entry("meta-learned GP head", MEMBER, "networks:ClosedForm", False),
}
"""Methods by name, weakest idea first."""
TITLES = {name: entry.title for name, entry in ENTRIES.items() if entry.offered}
"""Methods that a predictor may choose, and their titles."""
ONE = "one_"
"""Before the name of a method that has one network instead of the ensemble of all members."""
SINGLE = ("pretrained", FINE_TUNED, "network_gp")
"""Methods whose predictions are means over the members; scored for single members, too."""
SEEN = {
    "potential_ridge": "CHGNet features + ridge (has seen such materials)",
    "potential_gp": "CHGNet features + GP (has seen such materials)",
}
"""Methods that know the test families' crystals, shown beside."""
COMPARED = {
    "support_ridge": "descriptors + ridge, support alone",
    "support_gp": "descriptors + GP, support alone",
    f"{ONE}embedding_ridge": "frozen features of one network + ridge",
    f"{ONE}embedding_gp": "frozen features of one network + GP",
    **{f"{ONE}{m}": TITLES[m].replace("pre-trained", "one pre-trained") for m in SINGLE},
    "embedding_ridge": "frozen network features + ridge",
    "embedding_gp": "frozen network features + GP",
    **SEEN,
    **{
        name: entry.title
        for name, entry in ENTRIES.items()
        if not entry.offered and entry.needs == MEMBER
    },
}
"""Methods that the benchmarks compare beside those that a predictor may choose."""
NEW_PROPERTY = {
    "network_shift": "network's formation energy, shifted",
    LABEL_PROCESS: "GP with meta-learned kernels",
}
"""Methods for a property of which no network has seen a value."""
WITH_FEATURES = "gp_stack_with_features"
BESIDE = {WITH_FEATURES: "stacked Gaussian process with further features"}
"""Methods that stand beside the default where a user gives more than crystals and labels."""


def method_title(method: str) -> str:
    """Return a method's title; for a method of a user's the name in words."""
    return (TITLES | COMPARED | NEW_PROPERTY | BESIDE).get(method, method.replace("_", " "))


def names_of(needs: str) -> list[str]:
    """Return the methods that need the same to be evaluated."""
    return [name for name, entry in ENTRIES.items() if entry.needs == needs]
