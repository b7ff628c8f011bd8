"""Builds networks from model configs: `build`, `summarize`, `check_buildable`, `parameter_groups`, and the families in `MODELS`."""

from winnow.models.build import MODELS, build, fit_images, parameter_groups
from winnow.models.custom import initialize_own
from winnow.models.summary import LayerSummary, Summary, check_buildable, summarize

__all__ = [
    "MODELS",
    "LayerSummary",
    "Summary",
    "build",
    "check_buildable",
    "fit_images",
    "initialize_own",
    "parameter_groups",
    "summarize",
]
