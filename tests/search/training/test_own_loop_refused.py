"""What is refused of a user's own training loop: before anything starts, and during the training."""

from __future__ import annotations

import pytest

from tests.helpers.own_loops import SHAPE, device_data, own_config, path
from tests.helpers.tiny import CPU
from winnow.search.operations.build_check import check_own_parts
from winnow.search.training.loop import train
from winnow.search.training.own_parts import check_own_part
from winnow.spaces.errors import InputError
from winnow.spaces.own_code import own_parts

REFUSED: dict[str, str] = {
    "no_generator": r"train \S+ \(own_loops.py:\d+\): must be a generator",
    "three_arguments": r"must take \(config, data, device, checkpoint\), but too many positional arguments",
    "no_epochs": r"\(own_loops.py:\d+\): must loop over checkpoint.epochs\(model=",
    "unknown_figure": r"yielded 'validation_acuracy', which is not one of .*; did you mean validation_accuracy\?",
    "no_number": r"must yield numbers, but train_loss is '0.5'",
    "no_dict": r"must yield a dict of figures, but yielded float",
    "another_network": r"must be that of the space's `model` section",
    "other_answers": r"gives other outputs than that of the `model` section",
    "raises": r"\(own_loops.py:\d+\) raised AttributeError: the config of the loop has no momentum, only epochs",
    "divides": r"\(own_loops.py:\d+\) raised ZeroDivisionError: .*, in retraining, which has no validation images",
    "strange_state": r"the state of its parts cannot be stored",
    "stateless_part": r"best must have state_dict\(\) and load_state_dict\(\), but a int has not",
    "opens_the_test": r"there is no split 'test' for a loop",
}


@pytest.mark.parametrize("function", REFUSED)
def test_refused_before_anything_starts(function: str) -> None:
    config = own_config(function)
    ((what, part),) = own_parts(config)
    with pytest.raises(InputError, match=REFUSED[function]) as error:
        check_own_part(what, part, config, SHAPE, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("twice", r"must yield once in every epoch, but yield 2 came in epoch 1"),
        ("too_short", r"ended after 1 of 4 epochs"),
        ("too_good", r"yielded a validation_accuracy of 1.0000 in epoch 1, but the network classifies 0\.\d+"),
    ],
)
def test_refused_during_the_training(function: str, message: str) -> None:
    config = own_config(function)
    with pytest.raises(InputError, match=message):
        list(train(config, device_data(config), CPU, 0))


def test_good_loops_pass_the_check_in_a_process_of_its_own() -> None:
    check_own_parts(
        [own_config("adam", {"lr": 0.01}), own_config("average_and_global_draws", {"lr": 0.01}, epochs=1)], SHAPE, 3
    )
    with pytest.raises(InputError, match=REFUSED["no_dict"]):
        check_own_parts([own_config("no_dict")], SHAPE, 3)


@pytest.mark.slow
def test_a_key_that_no_tried_loop_reads_is_told() -> None:
    used, misspelt = own_config("adam", {"lr": 0.01}), own_config("adam", {"lr": 0.02, "momentun": 0.9})
    assert check_own_parts([used], SHAPE, 3).notes == []
    (note,) = check_own_parts([misspelt], SHAPE, 3).notes
    assert note == f"{path('adam')} did not read momentun in the epochs that were tried; is it misspelt in `train`?"


def test_parts_without_effect_are_refused() -> None:
    own_config("adam", early_stopping={"patience": 2})
    for key, value in {"optimizer": {"name": "adam", "lr": 0.1}, "schedule": "cosine", "mix": "mixup"}.items():
        with pytest.raises(ValueError, match=f"in which these keys have no effect: {key}; leave them out"):
            own_config("adam", **{key: value})
    with pytest.raises(ValueError, match="`train` must not have the keys epochs"):
        own_config("adam", {"epochs": 3})
