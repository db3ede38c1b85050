"""Few-shot learning for materials: crystal properties across families, kinetics across alloys."""

import warnings

__version__ = "0.1.0"

# torch_geometric takes the bars of notebooks, which say so where their widgets are not installed
warnings.filterwarnings("ignore", "IProgress not found")
