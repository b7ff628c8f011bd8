"""What a user reads when a space is wrong: whole messages, as golden text."""

from __future__ import annotations

from pathlib import Path

import pytest

from winnow.spaces import catalog
from winnow.spaces.errors import SpaceError

BASE = """\
data: digits
epochs: 5
batch_size: 32
model:
  name: cnn
  stages: [{filters: 8}]
optimizer: {name: adam, lr: 1e-3}
"""
LR, STAGES, OPTIMIZER = "lr: 1e-3", "stages: [{filters: 8}]", "optimizer: {name: adam, lr: 1e-3}"
TOP_KEYS = (
    "data, epochs, stop_after, batch_size, model, initialization, train, optimizer, schedule, loss, mix, averaging, gradient_clip, "
    "early_stopping, weights, test_flip, test_shift, own_metric, precision, cuda_graphs, search, retrain, start_from, baseline, reference"
)
OPTIMIZERS = "sgd, adam, adamw, nadam, radam, adamax, adagrad, adadelta, adafactor, asgd, rmsprop, lion, muon, package.module:function"
ADAM_KEYS = "name, lr, norm_bias_lr_factor, head_lr_factor, layer_decay, decay_biases, beta1, beta2, eps, weight_decay"
NO_POOL = "leaves nothing; use `pool: none` here or earlier, or fewer stages"

# What is replaced in BASE, by what, and the message.
WRONG = {
    "misspelt key": (
        LR,
        "lr: 1e-3, weight_deca: 0.1",
        f"s.yaml:7: optimizer.weight_deca: unknown key 'weight_deca'; allowed: {ADAM_KEYS}; did you mean weight_decay?",
    ),
    "misspelt key at the top": (
        "epochs: 5",
        "epoch: 5",
        "s.yaml: epochs: is missing but required\n"
        f"s.yaml:2: epoch: unknown key 'epoch'; allowed: {TOP_KEYS}; did you mean epochs?",
    ),
    "missing key": (LR, "beta1: 0.9", "s.yaml:7: optimizer.lr: is missing but required"),
    "unknown optimizer": (
        "name: adam",
        "name: adm",
        f"s.yaml:7: optimizer.name: unknown name 'adm'; allowed: {OPTIMIZERS}; did you mean adam?",
    ),
    "unknown optimizer among good ones": (
        OPTIMIZER,
        "optimizer:\n  choice:\n    adam: {lr: 0.1}\n    sdg: {lr: 0.1}",
        f"s.yaml:10: optimizer.sdg: unknown name 'sdg'; allowed: {OPTIMIZERS}; did you mean sgd?",
    ),
    "unknown option": (
        STAGES,
        "stages: [{filters: 8, pool: {choice: [max, avgg]}}]",
        "s.yaml:6: model.stages.0.pool: must be one of max, avg, none, but got 'avgg'; did you mean avg?",
    ),
    "unknown short name": (
        "epochs: 5",
        "epochs: 5\nschedule: cosin",
        "s.yaml:3: schedule: unknown name 'cosin'; allowed: constant, step, multistep, exponential, cosine, one_cycle, "
        "plateau, package.module:function; did you mean cosine?",
    ),
    "inverted range": (
        LR,
        "lr: {log: [1e-2, 1e-4]}",
        "s.yaml:7: optimizer.lr: `low < high` must hold, but got low=0.01, high=0.0001; are they swapped?",
    ),
    "empty range": (
        "epochs: 5",
        "epochs: {int: [5, 5]}",
        "s.yaml:2: epochs: the range from 5 to 5 contains a single value; write 5",
    ),
    "an end that the schema refuses": (
        LR,
        "lr: {float: [-1, 1]}",
        "s.yaml:7: optimizer.lr: must be above 0, but got -1.0",
    ),
    "views of the final test": (
        "epochs: 5",
        "epochs: 5\ntest_flip: {choice: [false, true]}\ntest_shift: {int: [0, 2]}",
        "s.yaml:3: test_flip: needs one value, but is open: it changes only the final test and predictions, so the validation images cannot tell "
        "which value is better\n"
        "s.yaml:4: test_shift: needs one value, but is open: it changes only the final test and predictions, so the validation images cannot tell "
        "which value is better",
    ),
    "a rate as text": (LR, "lr: fast", "s.yaml:7: optimizer.lr: must be a number, but got 'fast'"),
    "a list is not a range": (
        LR,
        "lr: [1e-4, 1e-2]",
        "s.yaml:7: optimizer.lr: must be a number, but got [0.0001, 0.01]; to search over it write "
        "{choice: [0.0001, 0.01]}, or a range as {float: [low, high]}",
    ),
    "misspelt domain": (
        LR,
        "lr: {logg: [1e-4, 1e-2]}",
        "s.yaml:7: optimizer.lr: must be a number, but got {logg: [0.0001, 0.01]}; a domain is one of choice, int, float, "
        "log, repeat; did you mean log?",
    ),
    "two kinds of domain": (
        LR,
        "lr: {float: [1e-4, 1e-2], log: true}",
        "s.yaml:7: optimizer.lr: a domain has one kind, but got float and log",
    ),
    "unknown key of a domain": (
        LR,
        "lr: {log: [1e-4, 1e-2], stp: 10}",
        "s.yaml:7: optimizer.lr.stp: unknown key 'stp' beside `log`; allowed: step; did you mean step?",
    ),
    "whole numbers by accident": (
        LR,
        "lr: {log: [1, 10]}",
        "s.yaml:7: optimizer.lr: [1, 10] draws whole numbers only; write [1.0, 10.0] for real ones",
    ),
    "one bound": (LR, "lr: {log: [1e-3]}", "s.yaml:7: optimizer.lr: log needs [low, high], but got [0.001]"),
    "a step that misses the end": (
        "epochs: 5",
        "epochs: {int: [5, 10], step: 2}",
        "s.yaml:2: epochs: high must be a whole number of steps above low, but got low=5, high=10, step=2; "
        "nearest are 9 and 11",
    ),
    "a domain in an option": (
        LR,
        "lr: {choice: [0.1, {log: [1e-3, 1e-2]}]}",
        "s.yaml:7: optimizer.lr: an option cannot hold a domain; give the options names: choice: {a: {...}, b: {...}}",
    ),
    "choice forgotten": (
        OPTIMIZER,
        "optimizer: {adam: {lr: 1e-3}}",
        "s.yaml:7: optimizer: needs a `name`, but got {adam: {lr: 0.001}}; a choice of sub-spaces is written "
        "{choice: {adam: {...}}}",
    ),
    "a sub-space named twice": (
        OPTIMIZER,
        "optimizer: {choice: {adam: {name: adam, lr: 0.1}}}",
        "s.yaml:7: optimizer.adam.name: a sub-space is named by its key, 'adam'; leave `name` out",
    ),
    "a sub-space without keys": (
        OPTIMIZER,
        "optimizer: {choice: {adam: }}",
        "s.yaml:7: optimizer.adam: a sub-space is a mapping of its keys ({} if it has none), but got null",
    ),
    "pools to nothing": (
        STAGES,
        "stages:\n    - {filters: 8}\n    - {filters: 8}\n    - {filters: 8}\n    - {filters: 8}",
        f"s.yaml:10: model.stages.3.pool: pooling 2x2 of a 1x1 feature map {NO_POOL}",
    ),
    "pools to nothing whatever is chosen": (
        STAGES,
        "depth: {int: [1, 6]}\n  stages: {repeat: depth, of: {filters: 8, pool: {choice: [max, avg]}}}",
        "s.yaml:6: model.depth: no config with 6 can be built (61 combinations tried): model.stages.3.pool: "
        f"pooling 2x2 of a 1x1 feature map {NO_POOL}",
    ),
    "a kernel larger than the image": (
        STAGES,
        "stages: [{filters: 8, kernel: 9, padding: 0}]",
        "s.yaml:6: model.stages.0.kernel: kernel 9x9 with padding 0 on a 8x8 feature map leaves nothing; "
        "use a larger padding, a smaller kernel or fewer stages",
    ),
    "an option that goes with nothing": (
        OPTIMIZER,
        "optimizer: {name: sgd, lr: 0.1, nesterov: {choice: [true, false]}}",
        "s.yaml:7: optimizer.nesterov: no config with true can be built (1 combination tried): "
        "optimizer: nesterov needs a momentum above 0",
    ),
    "a count that is not there": (
        STAGES,
        "depth: {int: [1, 2]}\n  stages: {repeat: dept, of: {filters: 8}}",
        "s.yaml:7: model.stages: no key 'dept' beside it to count; there are: name, depth; did you mean depth?",
    ),
    "a count that is no whole number": (
        STAGES,
        "depth: {float: [1, 2]}\n  stages: {repeat: depth, of: {filters: 8}}",
        "s.yaml:7: model.stages: `depth` must be a whole number, an int or a choice of whole numbers to be a count",
    ),
    "named repeat in a list": (
        STAGES,
        "stages: [{repeat: depth, of: {filters: 8}}]",
        "s.yaml:6: model.stages.0: no key beside it can set the count; give a number from 0 to 1000 instead of 'depth'",
    ),
    "named repeat of a repeat": (
        STAGES,
        "stages: {repeat: 2, of: {repeat: depth, of: {filters: 8}}}",
        "s.yaml:6: model.stages: no key beside it can set the count; give a number from 0 to 1000 instead of 'depth'",
    ),
    "repeat of nothing": (
        STAGES,
        "stages: {repeat: 2}",
        "s.yaml:6: model.stages: `repeat` needs `of`, which is repeated",
    ),
    "an open data set": (
        "data: digits",
        "data: {name: digits, limit: {int: [10, 20]}}",
        "s.yaml:1: data.limit: must be fixed, because it selects the images; in `data` only augment, normalize and sampling may be open",
    ),
    "unknown data set": (
        "data: digits",
        "data: cifar11",
        "s.yaml:1: data: must be one of digits, cifar10, cifar100, parquet, npz, image_folder or package.module:function, but got 'cifar11'; "
        "did you mean cifar10?",
    ),
    "no path": ("data: digits", "data: {name: parquet}", "s.yaml:1: data: data set parquet needs `path`"),
    "statistics of other channels": (
        "data: digits",
        "data: {name: digits, normalize: {mean: [0.1, 0.2, 0.3], std: [1, 1, 1]}}",
        "s.yaml:1: data.normalize.mean: needs one value for each of the 1 channels, but got 3",
    ),
    "a union": (
        "data: digits",
        "data: {name: digits, validation: half}",
        "s.yaml:1: data.validation: must be a number or given, but got 'half'",
    ),
    "settings of the search": (
        "epochs: 5",
        "epochs: 5\nsearch: {trails: 5, sampler: tpee}",
        "s.yaml:3: search.sampler: must be one of forecast, tpe, gp, random, qmc, grid, but got 'tpee'; did you mean tpe?\n"
        "s.yaml:3: search.trails: unknown key 'trails'; allowed: trials, objective, objectives, sampler, grace_epochs, "
        "reduction_factor, repeats, checkpoint_quota, audit, limits, learn_from, keep_predictions, checkpoint_seconds, trial_timeout, stop_when; did you mean trials?",
    ),
    "several at once, in the order of the file": (
        BASE,
        BASE.replace("epochs: 5", "epochs: 0").replace(LR, "lrr: 1"),
        "s.yaml:2: epochs: must be at least 1, but got 0\n"
        "s.yaml:7: optimizer.lr: is missing but required\n"
        f"s.yaml:7: optimizer.lrr: unknown key 'lrr'; allowed: {ADAM_KEYS}; did you mean lr?",
    ),
    "a start point outside": (
        "epochs: 5",
        "epochs: 5\nstart_from: [recipes/digits-baseline]",
        "s.yaml:3: start_from.0: recipes/digits-baseline: batch_size: the space has 32 here, but the config has 64",
    ),
    "start_from is a list": (
        "epochs: 5",
        "epochs: 5\nstart_from: recipes/digits-baseline",
        "s.yaml:3: start_from: must be a list of recipe names, or a mapping {name: config}, but got "
        "'recipes/digits-baseline'",
    ),
    "a recipe that leaves something open": (
        "epochs: 5",
        "epochs: 5\nbaseline: digits",
        "s.yaml:3: baseline: digits: a recipe must fix every value, but batch_size is open",
    ),
    "no mapping": (BASE, "- 1\n- 2\n", "s.yaml:1: a space is a mapping of keys, but got [1, 2]"),
    "not YAML": (
        LR,
        "lr: [1",
        "s.yaml:7: not readable as YAML: while parsing a flow sequence, expected ',' or ']', but got '}'",
    ),
    "a key twice": (
        "epochs: 5",
        "epochs: 5\nepochs: 6",
        "s.yaml:3: not readable as YAML: the key `epochs` occurs twice; the first is on line 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, message = WRONG[case]
    assert old in BASE
    assert complaint(tmp_path, monkeypatch, BASE.replace(old, new)) == message


# An override of BASE, and the message.
WRONG_OVERRIDES = {
    "optimizer.lr=fast": "--set optimizer.lr=fast: optimizer.lr: must be a number, but got 'fast'",
    "optimizer.lr={log: [1, 0.1]}": "--set optimizer.lr={log: [1, 0.1]}: optimizer.lr: `low < high` must hold, but got "
    "low=1, high=0.1; are they swapped?",
    "optimizr.lr=0.1": f"--set optimizr.lr=0.1: optimizr: unknown key 'optimizr'; allowed: {TOP_KEYS}; "
    "did you mean optimizer?",
    "optimizer.lr": "--set optimizer.lr: must be path=value, such as optimizer.lr=0.01",
    "=3": "--set =3: must be path=value, such as optimizer.lr=0.01",
    "optimizer.lr=[1": "--set optimizer.lr=[1: not readable as YAML: while parsing a flow sequence, expected ',' or ']', "
    "but got '<stream end>'",
    "model.stages.3.filters=9": "--set model.stages.3.filters=9: model.stages: is a list; its items are 0 to 0, but got '3'",
    "epochs.x=1": "--set epochs.x=1: epochs: is 5 and has no key 'x'",
    "model.stages.0.pool_size=9": f"s.yaml:6: model.stages.0.pool: pooling 9x9 of a 8x8 feature map {NO_POOL}",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_wrong_overrides(override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint(tmp_path, monkeypatch, BASE, override) == WRONG_OVERRIDES[override]


def test_wrong_overrides_of_choices() -> None:
    with pytest.raises(SpaceError) as error:
        catalog.load("digits", ["optimizer.name=sgdd"])
    assert str(error.value) == (
        "--set optimizer.name=sgdd: optimizer: has no sub-space 'sgdd'; there are: adam, adamw, sgd; did you mean sgd?"
    )
    with pytest.raises(SpaceError, match="is a repeat; leave the number 1 out to set all of them"):
        catalog.load("digits", ["model.stages.1.filters=9"])
    with pytest.raises(SpaceError, match=r"batch_size: is \{choice: \[32, 64, 128\]\}; set all of it"):
        catalog.load("digits", ["batch_size.x=9"])


def test_wrong_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, end in {
        "digit": "did you mean digits?",
        "cifar100-a3": "did you mean recipes/cifar100-a3?",
        "recipes/cifar100-a33": "did you mean recipes/cifar100-a3?",
    }.items():
        with pytest.raises(SpaceError) as error:
            catalog.load(name)
        assert str(error.value).startswith(f"{name}: no space or file of this name; the catalog has: cifar10-cnn, ")
        assert str(error.value).endswith(end)
    with pytest.raises(SpaceError, match=r"^nowhere\.yaml: no such file$"):
        catalog.load("nowhere.yaml")
    with pytest.raises(SpaceError, match="is a folder, but a space is a YAML file"):
        catalog.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("epochs: \xe9".encode("latin-1"))
    with pytest.raises(SpaceError, match=r"^latin\.yaml: not readable as YAML: not UTF-8 text \(byte 8\)$"):
        catalog.load("latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"epochs: 1 #" + bytes(1_000_000).replace(b"\0", b" "))
    with pytest.raises(SpaceError, match=r"^large\.yaml: larger than 1 MB, which no space is"):
        catalog.load("large.yaml")


def complaint(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, *overrides: str) -> str:
    """The message that loading `text` as s.yaml ends with."""
    monkeypatch.chdir(folder)
    Path("s.yaml").write_text(text)
    with pytest.raises(SpaceError) as error:
        catalog.load("s.yaml", overrides)
    return str(error.value)
