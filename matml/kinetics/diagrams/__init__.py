"""TTT and CCT diagrams and the curves on them."""
