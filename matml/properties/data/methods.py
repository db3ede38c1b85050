"""Names of the methods that predict properties, as files have them, and their titles for people."""

FINE_TUNED, STACK = "fine_tuned", "gp_stack"
ONE = "one_"
"""Before the name of a method that has one network instead of the ensemble of all members."""
SINGLE = ("pretrained", FINE_TUNED, "network_gp")
"""Methods whose predictions are means over the members; scored for single members, too."""

TITLES = {
    "support_mean": "mean of the support",
    "extra_trees": "extra-trees",
    "extra_trees_gp": "extra-trees + GP on support residuals",
    "global_gp": "global GP",
    "global_gp_gp": "global GP + GP on support residuals",
    "pretrained": "pre-trained network, as it is",
    FINE_TUNED: "pre-trained network, fine-tuned",
    "network_gp": "pre-trained network + GP on support residuals",
    "fomaml": "FOMAML",
    "maml": "MAML",
    STACK: "stacked Gaussian process",
}
"""Methods that a predictor may choose, weakest idea first."""

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
    "anil": "ANIL",
    "meta_sgd": "Meta-SGD",
    "ridge_head": "meta-learned ridge head",
    "gp_head": "meta-learned GP head",
}
"""Methods that the benchmarks compare beside those that a predictor may choose."""
NEW_PROPERTY = {
    "network_shift": "network's formation energy, shifted",
    "label_process": "GP with meta-learned kernels",
}
"""Methods for a property of which no network has seen a value."""


def method_title(method: str) -> str:
    """Return a method's title; for a method of a user's the name in words."""
    return (TITLES | COMPARED | NEW_PROPERTY).get(method, method.replace("_", " "))
