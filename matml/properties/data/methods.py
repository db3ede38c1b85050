"""Names of the methods, and their titles."""

FINE_TUNED, STACK = "fine_tuned", "gp_stack"


TITLES = {
    "support_mean": "mean of the support",
    "extra_trees": "extra-trees",
    "extra_trees_gp": "extra-trees + GP on support residuals",
    "global_gp": "global GP",
    "global_gp_gp": "global GP + GP on support residuals",
    "pretrained": "pre-trained network, as it is",
    "fine_tuned": "pre-trained network, fine-tuned",
    "network_gp": "pre-trained network + GP on support residuals",
    "fomaml": "FOMAML",
    "maml": "MAML",
    STACK: "stacked Gaussian process",
}
"""Methods, weakest idea first; the titles are shown to people."""
