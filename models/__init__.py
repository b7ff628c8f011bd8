"""Networks from model configs: `build`, `summarize`, `check_buildable`, `parameter_groups`, and the families in `MODELS`."""

from winnow.models.build import MODELS, build, parameter_groups
from winnow.models.custom import load_function
from winnow.models.summary import LayerSummary, Summary, check_buildable, summarize

__all__ = [
    "MODELS",
    "LayerSummary",
    "Summary",
    "build",
    "check_buildable",
    "load_function",
    "parameter_groups",
    "summarize",
]
