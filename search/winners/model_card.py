"""The model card of an exported winner: what it is, how well it does on the test images, and how to use it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow import reports
from winnow.reports.tables.front import columns_of_tests
from winnow.reports.text import wording as words
from winnow.reports.text.baseline import baseline_words, protocol_differences
from winnow.reports.text.earlier_tests import earlier_tests_text
from winnow.reports.text.seeds import ACCURACY, left_out, mean_of_repeats_text, seeds_text
from winnow.reports.text.summary import decisions, ensemble_sentence, keeps_validation
from winnow.reports.text.winner_recipe import training_command
from winnow.search.data.foreign import shown
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.epoch_figures import name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData
    from winnow.search.winners.winner import Winner


@dataclass(frozen=True)
class Checks:
    """Largest difference of a logit from the eager network's; `onnx` is None if onnxruntime is not installed."""

    program: float
    onnx: float | None
    onnx_any_batch: bool
    num_images: int


def model_card(folder: RunFolder, winner: Winner, title: str, checks: Checks | None) -> str:
    """Return the model card in Markdown. Every figure comes from the retraining and its single evaluation on the test images.

    Args:
        folder: The run.
        winner: The winner, with its network.
        title: Heading of the card.
        checks: Results of the checks of the exported files; None: they were not checked.
    """
    run = reports.read(folder.path)
    if winner.members:
        return _card_of_ensemble(run, winner, title, checks)
    rows = reports.winners_table(folder.path)
    row = next(row for row in rows if row["rank"] == winner.origin["rank"])
    baseline = next((row for row in rows if row["baseline"]), None)
    seed_line = next(
        line
        for line in run.retrain_rows()
        if line["rank"] == winner.origin["rank"] and line["seed"] == winner.origin["seed"]
    )
    return "\n".join(
        [
            f"# {title}",
            "",
            f"{_what(winner, run.study)} {_training(run, row)}",
            "",
            "## Accuracy",
            "",
            *_figures(run, winner, row, baseline, seed_line),
            "",
            "## Files",
            "",
            *_files(checks, training_command(run, "config.yaml", winner.origin["rank"])),
            "",
            "## Use",
            "",
            *_usage(winner, checks),
            "",
        ]
    )


def _card_of_ensemble(run: Any, winner: Winner, title: str, checks: Checks | None) -> str:
    networks = [
        f"- `member-{number}`: winner {each['rank']} (trial {each['trial']}), seed {each['seed']}"
        for number, each in enumerate(winner.origin["ensemble"], start=1)
    ]
    programs = _files(checks, None)[3:]
    rows = [row for row in run.winner_rows() if not row["baseline"]]
    members = [row for row in rows if any(each["rank"] == row["rank"] for each in winner.origin["ensemble"])]
    parts = [
        f"# {title}",
        f"The ensemble of {len(winner.members)} networks of the Winnow run `{winner.origin['run']}`: the mean of their probabilities.",
        "## Accuracy",
        f"{ensemble_sentence(run)} The search selected the winners on validation images; the test images selected nothing.",
        "\n".join(f"- {text}" for text in _cautions(run, members)),
        "## Files",
        "\n".join(networks),
        "\n".join(f"- Winner {row['rank']}: {_training(run, row)}" for row in members),
        "\n".join([*_files(checks, None)[2:3], *programs]),
        "## Use",
        "\n".join(_usage(winner, checks)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _what(winner: Winner, study: dict[str, Any]) -> str:
    channels, height, width = winner.image_shape
    origin, data = winner.origin, study["data"]
    classes = ", ".join(map(markdown, winner.class_names[:20])) + (", ..." if len(winner.class_names) > 20 else "")
    return (
        f"A {winner.config.model.name} network for images of {height} x {width} pixels (height x width) and {words.plural(channels, 'channel')}, "
        f"{len(winner.class_names)} classes ({classes}). It is winner {origin['rank']} (trial {origin['trial']}) of the Winnow "
        f"run `{origin['run']}` of {str(study.get('created'))[:10]}, trained on the data set `{data['name']}` "
        f"(fingerprint {data['fingerprint']})."
    )


def _training(run: RunData, row: dict[str, Any]) -> str:
    """Describe the images on which a winner was retrained, and what chose its epoch and its learning rates."""
    images = words.trained_images(keeps_validation(run, row["rank"]))
    return " ".join([f"It was trained on {images}.", *decisions(run, row)])


def _cautions(run: RunData, rows: list[dict[str, Any]]) -> list[str]:
    """Return what puts test accuracies into perspective.

    It is the largest class, retrainings without a value, earlier tests, and networks that answer one class only.
    """
    texts = [words.largest_class_text(run, "test"), *left_out(run, rows), earlier_tests_text(run)]
    return list(filter(None, [*texts, *map(words.one_class_warning, rows)]))


def markdown(text: str) -> str:
    """Escape a text of the user, so that Markdown shows it unchanged on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~$-])", r"\\\1", shown(text))


def _figures(
    run: RunData,
    winner: Winner,
    row: dict[str, Any],
    baseline: dict[str, Any] | None,
    seed_line: dict[str, Any],
) -> list[str]:
    study = run.study
    mean = words.interval_text(row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"])
    lines = [
        f"- Test accuracy of this recipe: **{mean}**, the mean of {seeds_text(row, 'training', ACCURACY)} with fresh seeds "
        f"and its 95 % interval {words.accuracy_basis(row)}.",
        f"- Test accuracy of these weights: {words.percent(seed_line['test_accuracy'])} (seed {winner.origin['seed']}; the "
        "seed with the lowest number was taken, not the best, so that the test images selected nothing).",
        f"- The test set: {study['data']['num_test']} images, which only retraining uses; the search selected on validation images.",
    ]
    if run.objective != "validation_accuracy":
        gain, low, high = (row[f"objective_gain{end}"] for end in ("", "_low", "_high"))
        ends = "" if low is None else f" (95 % interval {words.difference_ends(run, low, high)})"
        lines.append(
            f"- On the test images, by the objective of the search: {words.tested_name(run)} {words.objective_interval(run, row)}"
            + (
                "."
                if gain is None
                else f", which is {words.difference_text(run, gain)}{ends} better than the baseline's."
            )
        )
    lines += [
        f"- On the test images, by another objective of the search: {words.figure_words(name)} {words.figure_text(name, row[name])}."
        for name in columns_of_tests(run)[1:]
        if name != name_on_test_images(run.objective)
    ]
    if row["search_accuracy"] is not None:
        repeats = mean_of_repeats_text(row)
        lines.append(
            f"- The search measured {words.percent(row['search_accuracy'])} on its validation images"
            + (f" ({repeats})" if repeats else "")
            + "; the gap (search - test) is "
            f"{words.points(row['gap'])}."
            + (" The best of many trials tends to look better than it is." if row["gap"] > 0 else "")
            + (f" {views}" if (views := words.views_text(row)) else "")
        )
    if baseline is not None and row["gain"] is not None:
        interval = (
            ""
            if row["gain_low"] is None
            else f" (95 % interval {100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f})"
        )
        lines.append(
            f"- Test accuracy of {baseline_words(run, [row, baseline])}: {words.percent(baseline['test_accuracy'])}; this one differs by "
            f"{words.points(row['gain'])}{interval}."
        )
        lines += [f"- {text}" for text in protocol_differences(run, [row, baseline])]
    if baseline is not None and (text := words.other_loss(run, [row, baseline])):
        lines.append(f"- {text}")
    lines += [f"- {text}" for text in _cautions(run, [row] if baseline is None else [row, baseline])]
    for note in study["data"].get("notes") or []:
        lines.append(f"- {markdown(note)}")
    lines.append(
        "- Performance on other images is unknown, such as images from other cameras, with other crops or of other classes."
    )
    return lines


def _files(checks: Checks | None, again: str | None) -> list[str]:
    """Describe the files of the folder; `again` is the command that repeats the training."""
    lines = [
        "- `config.yaml`: the recipe. `winnow train config.yaml` trains it on the training images; `start_from: [config.yaml]` starts a search from it.",
        "- `weights.safetensors`: the weights, for images that were normalised as `model.json` says.",
        "- `model.json`: class names in the order of the outputs, image shape, normalisation, origin, versions.",
    ]
    if again is not None:
        lines.append(f"- To repeat the training, with the same weights on the same hardware and versions: `{again}`")
    if checks is not None:
        onnx = (
            f"differs by at most {checks.onnx:.1e}"
            if checks.onnx is not None
            else "not checked: onnxruntime was missing"
        )
        lines += [
            f"- `model.pt2`: a torch.export program (logits differ from the network's by at most {checks.program:.1e} on "
            f"{checks.num_images} random images).",
            f"- `model.onnx`: the same as ONNX ({onnx})"
            + ("." if checks.onnx_any_batch else ", for one image at a time."),
        ]
    return lines


def _usage(winner: Winner, checks: Checks | None) -> list[str]:
    channels, height, width = winner.image_shape
    lines = ["```sh", "winnow predict . image.png", "```"]
    if checks is not None:
        lines += [
            "",
            f"Both programs take `images`, float32 [N, {channels}, {height}, {width}] with pixels in [0, 1], normalise them and "
            "give `logits`:",
            "",
            "```python",
            "import torch",
            "",
            'network = torch.export.load("model.pt2").module()',
            f"logits = network(torch.rand(1, {channels}, {height}, {width}))",
            "```",
            "",
            "```python",
            "import numpy as np",
            "import onnxruntime",
            "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f'(logits,) = session.run(["logits"], {{"images": np.zeros((1, {channels}, {height}, {width}), np.float32)}})',
            "```",
        ]
    return lines
