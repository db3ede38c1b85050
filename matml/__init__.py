"""Few-shot learning for materials: crystal properties across families, kinetics across alloys."""

__version__ = "0.1.0"
