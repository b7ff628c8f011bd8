"""Describes the winner in one sentence (network, optimizer, learning rate, epochs), and lists figures to compare its accuracy with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import are_comparable, largest_class
from winnow.reports.text import wording
from winnow.reports.text.config_words import backbone, epochs_text, layer_widths

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

FAMILIES = {
    "mlp": ("fully connected network", "hidden layer", "units"),
    "cnn": ("convolutional network", "stage", "filters"),
    "residual": ("residual network", "stage", "filters"),
    "mixture": ("mixture network", "block", "filters"),
    "convnext": ("ConvNeXt", "stage", "filters"),
    "vit": ("vision transformer", "block", "channels"),
}
"""The name of each family whose layers the config lists, the word for one of these layers, and the word for its width."""
OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "radam": "RAdam",
    "adamax": "Adamax",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "asgd": "ASGD",
    "rmsprop": "RMSprop",
    "lion": "Lion",
    "muon": "Muon",
}
"""The name of each built-in optimizer as its authors write it."""


def winner_sentence(config: Mapping[str, Any], num_parameters: int | None, num_epochs: Sequence[int] = ()) -> str:
    """Describe a config in one sentence.

    Args:
        config: The complete config.
        num_parameters: Number of weights; None if it is not known.
        num_epochs: As for `epochs_text`.

    Returns:
        The sentence, such as "A convolutional network with 2 stages (16 and 64 filters; 272,378 weights), trained for 18 epochs with
        Adam at a learning rate of 0.0045 (constant), in batches of 64.".
    """
    return (
        f"{_network(config['model'], num_parameters)}, trained for {epochs_text(config, num_epochs)} {_trained_by(config)}, "
        f"in batches of {config['batch_size']}."
    )


def _trained_by(config: Mapping[str, Any]) -> str:
    if config.get("train"):
        return f"by the loop {config['train']['name']}"
    optimizer, schedule = config["optimizer"], config["schedule"]["name"].replace("_", " ")
    name = OPTIMIZERS.get(optimizer["name"], optimizer["name"])
    return f"with {name} at a learning rate of {optimizer['lr']:.2g} ({schedule} schedule)"


def _network(model: Mapping[str, Any], num_parameters: int | None) -> str:
    weights = "" if num_parameters is None else f"{wording.count(num_parameters)} weights"
    if model["name"] in FAMILIES:
        family, layer, unit = FAMILIES[model["name"]]
        widths = layer_widths(model)
        network, sizes = f"A {family} with {wording.plural(len(widths), layer)}", wording.listed(widths)
        if model["name"] == "vit":
            sizes = f"{model['width']} {unit}, patches of {model['patch']}x{model['patch']} pixels"
        elif widths:
            sizes += f" {unit}"
    else:
        network, sizes = f"The network {backbone(model) or model['name']}", ""
    facts = "; ".join(filter(None, [sizes, weights]))
    return network + (f" ({facts})" if facts else "")


GUESSING = {
    "validation_accuracy": ("1 / {k}", lambda num_classes: 1 / num_classes),
    "validation_balanced_accuracy": ("1 / {k}", lambda num_classes: 1 / num_classes),
    "validation_top5_accuracy": ("least(1, 5 / {k})", lambda num_classes: min(1.0, 5 / num_classes)),
    "validation_auroc": ("0.5", lambda num_classes: 0.5),
}
"""The expected value of a metric if the class is guessed at random: as SQL of the number of classes, and as a function of it. For other
metrics it depends on the sizes of the classes or on the loss."""


def yardsticks(run: RunData) -> list[tuple[str, str]]:
    """Return (name, value) of the known figures to compare the winner with: guessing at random, the largest class, the baseline.

    If the objective is another metric than accuracy, the accuracy of the winner stands beside that of the largest class.

    Args:
        run: The run.
    """
    data = run.study.get("data") or {}
    rows = run.rows("winners")
    share = largest_class(run, "test" if any(row["test_accuracy"] is not None for row in rows) else "validation")
    baseline = next((row for row in rows if row["baseline"] and row["test_objective"] is not None), None)
    is_guessed = run.objective in GUESSING and data.get("num_classes")
    known = {"guessing at random": GUESSING[run.objective][1](data["num_classes"]) if is_guessed else None}
    if run.objective == "validation_accuracy":
        known |= {"always the largest class": share}
    else:
        accuracy = next((row["test_accuracy"] for row in rows if row["rank"] == 1), None)
        known |= {"its accuracy": accuracy, "accuracy of always the largest class": share}
    texts = [(name, wording.percent(value)) for name, value in known.items() if value is not None]
    if baseline is None or not all(are_comparable(run, row, baseline) for row in rows if row["rank"] == 1):
        return texts
    return [*texts, ("the baseline", wording.objective_text(run, baseline["test_objective"]))]
