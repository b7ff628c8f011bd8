"""The search options as keyword arguments. Made from `winnow.search.settings` by `python -m docs.generate.commands`: do not edit."""

from __future__ import annotations

from typing import Literal, TypedDict


class SearchOptions(TypedDict, total=False):
    """The options of `search` and `plan`. An option that is not given is as the space says."""

    trials: int
    """Number of trials to run. At least 1. Default: 50."""

    objective: Literal[
        "validation_accuracy",
        "validation_loss",
        "validation_balanced_accuracy",
        "validation_macro_f1",
        "validation_top5_accuracy",
        "validation_auroc",
        "validation_calibration_error",
        "validation_own_metric",
    ]
    """Metric that ranks the trials, computed on the validation images. `validation_own_metric` is the value of the function that the key `own_metric` names; a space may also name the function here, as `package.module:function`. Default: validation_accuracy."""

    sampler: Literal["forecast", "tpe", "gp", "random", "qmc", "grid"]
    """Algorithm that suggests the configs. forecast: Resumes the paused trial with the most promising forecast; successive halving decides more often while forecasts are poor. tpe: Tree-structured Parzen estimator (Optuna), with successive halving. gp: Gaussian process over completed trials (Optuna), with successive halving. random: Independent random configs, with successive halving. qmc: Quasi-random configs that cover the space evenly (scrambled Sobol sequence), with successive halving. grid: Every config of a finite space once, in random order, with successive halving. Default: forecast."""

    grace_epochs: int
    """First rung, in epochs: no trial is paused or stopped earlier. If not set, it is a sixteenth of the training. Samplers that pause trials then also use earlier rungs, if their ranking agrees with that of later ones. At least 1."""

    reduction_factor: float
    """Ratio between the epochs of two rungs; about one trial in this many continues past each rung. Above 1. Default: 3.0."""

    repeats: int
    """How many times the same config may run, each time with another seed. At least 1. Default: 1."""

    checkpoint_quota: float
    """Disk space for the checkpoints of paused trials, in GB; beyond it, the worst paused trials are stopped. Above 0. Default: 20.0."""

    audit: float
    """Fraction of the stopped trials that is trained to the end, to measure how often early stopping was wrong. At least 0, at most 1. Default: 0.0."""

    learn_from: list[str]
    """Earlier runs, or folders of runs, to learn from, on the same or other data. Their best configs are tried first; their influence depends on how well they predict the first results of this search."""

    keep_predictions: bool
    """Keep the validation predictions of every trial that trains to the end, so that other metrics can be computed afterwards. Default: False."""

    checkpoint_seconds: float
    """Shortest time between two checkpoints of a trial or a retraining, in seconds. Checkpoints are also written at each rung and at the end of a trial. Epochs after the last checkpoint are trained again after an interruption, with the same figures. 0: a checkpoint after each epoch. At least 0. Default: 0.0."""

    trial_timeout: float
    """Seconds without a finished batch after which a trial ends as `timed_out`. If not set, 20 times the longest epoch so far, and at least 300. Values below 4 (40 with checkpoints on an object store) count as that. Above 0."""

    stop_when: str
    """End the search early if the best value improved too little over the last 70 % of the training time. `no gain`: not at all. A price such as `0.01 per hour`: less than this, in units of the objective per hour of training, summed over all trials. If not set, the search ends after `trials` or its time budget."""

    seed: int
    """Random seed of splits, suggestions, initial weights and data order. At least 0. Default: 0."""

    time_budget: float | str
    """Time limit, in seconds or as 90s, 5m, 2h; interrupted trials can be resumed. The last part of the time, at most half, completes as many trials as there should be winners. If not set, there is no limit."""


class RunOptions(SearchOptions, total=False):
    """The options of `run`: those of the search, and those of retraining."""

    top: int
    """Number of best configs to retrain. If not set, 3; with several objectives, all configs of the Pareto front. At least 1."""

    seeds: int
    """Number of fresh seeds per config. At least 1. Default: 3."""

    keep_validation: bool
    """Retrain on the training images only, so that early stopping, the plateau schedule and `weights` use the validation images as in the search. Otherwise retraining uses both, for as many epochs as the search chose. Default: False."""
