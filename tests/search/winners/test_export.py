"""A winner in a folder of its own gives what the retrained network gave, whatever reads it; bad input is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from tests.helpers.tiny import tiny_config
from tests.models.test_registries import FAMILIES
from winnow import search
from winnow.models import MODELS, build
from winnow.search.cli.main import main
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import open_run
from winnow.search.training.checkpoint import save
from winnow.search.winners import predicting
from winnow.search.winners.exporting import _write_programs, export
from winnow.search.winners.model_card import markdown
from winnow.search.winners.predicting import expanded, predict, predict_each
from winnow.search.winners.weight_files import check_exported_weights
from winnow.search.winners.winner import Pixels, Winner, load_export
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

torch.set_num_threads(1)
NORMALIZATION = {"mean": [0.3], "std": [0.4]}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A made-up run whose first winner has real weights, others for every seed."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made")
    for line in read_json_lines(folder / "retrain.jsonl"):
        if line["rank"] == 1:
            torch.manual_seed(line["seed"])
            weights = build(Config.model_validate(line["config"]).model, (1, 8, 8), 10).state_dict()
            save(folder / line["weights"], {"weights": weights, "normalization": NORMALIZATION})
    return folder


@pytest.fixture(scope="module")
def exported(run) -> Path:
    return export(open_run(run), output=run.parent / "out", weights_only=True)


def images(count: int, channels: int = 1, size: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def test_load_winner_is_the_lowest_seed_and_normalises(run):
    winner = search.load_winner(run)
    assert winner.origin["seed"] == 101
    torch.manual_seed(101)
    network = build(winner.config.model, (1, 8, 8), 10).eval()
    pixels = torch.from_numpy(images(3)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = network((pixels - 0.3) / 0.4).softmax(1).numpy()
    np.testing.assert_allclose(winner.predict(images(3)), expected, rtol=1e-5)
    assert winner.predict(images(0)).shape == (0, 10)
    with pytest.raises(InputError, match=r"uint8 \[N, 8, 8, 1\], but got uint8 \[2, 8, 8, 3\]"):
        winner.predict(images(2, channels=3))


def test_a_folder_of_weights_is_the_same_network(run, exported):
    ours, theirs = search.load_winner(run), load_export(exported)
    np.testing.assert_array_equal(ours.predict(images(4)), theirs.predict(images(4)))
    assert theirs.class_names == tuple("0123456789")
    recipe = catalog.load(exported / "config.yaml")
    assert recipe.is_recipe
    assert recipe.example() == ours.config
    assert len({file.stat().st_mode for file in exported.iterdir()}) == 1, "who may read one may read all"
    card = (exported / "README.md").read_text()
    assert "the mean of 3 trainings" in card
    assert "seed 101" in card
    assert "95 % interval" in card
    assert "model.onnx" not in card


def test_a_winner_starts_the_next_search(exported, tmp_path):
    tree = "data: digits\nepochs: 20\nbatch_size: {int: [8, 512]}\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: adam, lr: 0.01}\n"
    (tmp_path / "next.yaml").write_text(tree + f"baseline: {exported / 'config.yaml'}\n")
    baseline = catalog.load(tmp_path / "next.yaml").baseline
    assert baseline is not None
    assert Config.model_validate(baseline).model == load_export(exported).config.model
    same = {**catalog.load("digits").tree, "start_from": [str(exported / "config.yaml")]}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(same))
    again = catalog.load(tmp_path / "again.yaml")
    ((name, start),) = again.start_from_named()
    assert "config" in name
    assert again.encode(start)["optimizer"] == load_export(exported).config.optimizer.name


@pytest.mark.parametrize("family", MODELS)
def test_programs_give_what_the_network_gives(family, tmp_path):
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    config = tiny_config(model=FAMILIES[family])
    shape = (3, 16, 16)
    torch.manual_seed(0)
    network = Pixels(build(config.model, shape, 4), shape, [0.5] * 3, [0.2] * 3).eval()
    origin = {"run": "r", "rank": 1, "trial": 0, "seed": 0, "data_fingerprint": "f"}
    winner = Winner(network, config, ("a", "<b>bold", "c\n", "ünï 🐱"), origin, shape)
    checks = _write_programs(winner, tmp_path)
    assert checks.onnx is not None
    assert checks.onnx_any_batch == (family != "mixture")
    stored = runtime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
    program_stores = dict.fromkeys(("class_names", "image_shape", "normalization"), "")
    torch.export.load(tmp_path / "model.pt2", extra_files=program_stores)
    for facts in (stored, program_stores):
        assert json.loads(facts["class_names"]) == list(winner.class_names)
        assert json.loads(facts["image_shape"]) == [3, 16, 16]
        assert json.loads(facts["normalization"])["mean"] == pytest.approx([0.5] * 3)
    for count in (1, 9):  # another batch size than the one it was traced with
        expected = winner.predict(images(count, 3, 16))
        batch = torch.from_numpy(images(count, 3, 16)).permute(0, 3, 1, 2).float() / 255
        program = torch.export.load(tmp_path / "model.pt2").module()
        with torch.inference_mode():
            np.testing.assert_allclose(program(batch).softmax(1).numpy(), expected, atol=1e-4)
        session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
        parts = [batch] if checks.onnx_any_batch else batch.split(1)
        logits = np.concatenate([session.run(["logits"], {"images": part.numpy()})[0] for part in parts])
        np.testing.assert_allclose(torch.from_numpy(logits).softmax(1).numpy(), expected, atol=1e-4)


def winnow(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_predict_reads_files_as_training_did(run, exported, tmp_path, capsys):
    array = images(1)[0, :, :, 0]
    Image.fromarray(array).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([array] * 3, axis=2)).resize((30, 30)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_text("no image")
    assert winnow("predict", exported, tmp_path / "grey.png", tmp_path / "large.png", "--json") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    expected = search.load_winner(run).predict(images(1))[0]
    np.testing.assert_allclose(list(first["probabilities"].values()), expected, rtol=1e-5)
    assert first["class"] == str(expected.argmax())
    assert (first["resized_from"], second["resized_from"]) == (None, [30, 30])
    # What can be read is answered; what cannot is named, and the exit code says so.
    assert winnow("predict", exported, tmp_path, tmp_path / "absent.png") == 2
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        str(tmp_path / n) for n in ("grey.png", "large.png")
    ]
    assert f"{tmp_path / 'text.png'}: not a readable image" in captured.err
    assert f"{tmp_path / 'absent.png'}: no such file" in captured.err


def test_predict_counts_what_it_leaves_out_of_a_folder(exported, tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "sub" / ".git").mkdir(parents=True)
    for name in ("a.png", "sub/b.PNG"):
        Image.new("L", (8, 8), 3).save(folder / name)
    for name in ("notes.txt", "sub/c.heic", "sub/d.txt", ".hidden.png"):
        (folder / name).write_bytes(b"x")
    capsys.readouterr()
    assert winnow("predict", exported, folder, "--json") == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["file"] for line in shown.out.splitlines()] == [
        str(folder / "a.png"),
        str(folder / "sub" / "b.PNG"),
    ]
    assert shown.err == (
        "winnow: left out: .heic files, which the installed Pillow does not decode: 1, .txt files, which the installed Pillow does "
        "not decode: 2, hidden and system folders: 1, hidden files: 1\n"
    )
    (folder / "a.png").unlink()
    (folder / "sub" / "b.PNG").unlink()
    assert winnow("predict", exported, folder) == 2
    assert "can read; left out: .heic files, which the installed Pillow does not decode: 1" in capsys.readouterr().err


def test_predict_turns_images_upright(exported, tmp_path):
    image = Image.fromarray(images(1)[0, :, :, 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "upright.png")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright, turned = predict(exported, [tmp_path / "upright.png", tmp_path / "turned.png"])
    assert upright.probabilities == turned.probabilities


def test_predict_answers_before_the_last_image_is_read(exported, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    for k, image in enumerate(images(100)):
        Image.fromarray(image[..., 0]).save(tmp_path / "deep" / f"{k:03}.bmp")
    files = expanded([tmp_path])
    assert len(files) == 100
    decoded: list[str] = []

    def counting(item: Any, rules: Any) -> Any:
        decoded.append(item.where)
        return decode_one(item, rules)

    decode_one = predicting.decode_one
    monkeypatch.setattr(predicting, "decode_one", counting)
    answers = predict_each(exported, files)
    assert next(answers).file == str(files[0])
    assert len(decoded) == 1
    next(answers)
    assert len(decoded) <= 1 + predicting.BATCH
    assert [answer.file for answer in answers] == [str(file) for file in files[2:]]


def test_names_stand_in_markdown_as_they_are():
    assert markdown("<b>*x*_y`[z](u)\n") == r"\<b\>\*x\*\_y\`\[z\]\(u\)\\n"


def test_bad_input_is_named(run, exported, tmp_path, capsys, monkeypatch):
    def refused(*arguments: Any) -> str:
        assert winnow(*arguments) == 2
        return capsys.readouterr().err

    assert "has the winners 1, 2, 3" in refused("export", run, "--winner", "7")
    assert "exists already" in refused("export", run, "--output", exported)
    assert "no run here" in refused("export", tmp_path)
    assert "the weights of winner 2 cannot be read" in refused("export", run, "--winner", "2", "--weights-only")
    assert not (run / "winner-2").exists()
    searched = make_run(tmp_path / "searched", stage="searched")
    assert f"winnow retrain {searched}" in refused("export", searched)
    assert "no exported winner here" in refused("predict", tmp_path, "x.png")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "model.json").write_text('{"export_version": 99}')
    assert "export_version 99" in refused("predict", tmp_path / "newer", "x.png")
    (tmp_path / "empty").mkdir()
    assert "the folder contains no image files" in refused("predict", exported, tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = refused("export", run)
    assert "onnxscript" in message
    assert "winnow-search[export]" in message


RECORDS = {
    "a device": (
        {"weights": "/dev/zero"},
        "its records name '/dev/zero', which is not the path of a file in this folder",
    ),
    "another folder": ({"weights": "../made/a.pt"}, r"its records name '\.\./made/a\.pt', which is not"),
    "a pipe": ({"weights": "pipe"}, "pipe: not a file"),
    "a bomb": ({"weights": "bomb"}, r"bomb: unpacks to 1\.1 GB from .* MB"),
    "no weights in it": ({"weights": "empty"}, "empty: the weights of winner 1 cannot be read"),
    "no weights": ({"weights": None}, "no retraining of winner 1 was completed, so it has no weights"),
    "no config": ({"config": None}, r"retrain\.jsonl: damaged: "),
    "an odd config": ({"config": {"epochs": "many"}}, r"retrain\.jsonl: damaged: "),
    "an odd rank": ({"rank": "1"}, "has the winners 2, 3"),
    "an odd status": ({"status": "fine"}, r"retrain\.jsonl: damaged: unknown status 'fine'"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_hostile_records_of_a_run_are_refused(run, tmp_path, capsys, case):
    change, message = RECORDS[case]
    copy = shutil.copytree(run, tmp_path / "received")
    os.mkfifo(copy / "pipe")
    save(copy / "empty", {"epoch": 1})
    with zipfile.ZipFile(copy / "bomb", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("data.pkl", "w") as member:
        for _ in range(1100):
            member.write(bytes(10**6))
    lines = [line | change if line["rank"] == 1 else line for line in read_json_lines(copy / "retrain.jsonl")]
    (copy / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert winnow("export", copy, "--weights-only") == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


@pytest.mark.parametrize("key", ["fingerprint", "class_names", "image_shape"])
def test_a_run_without_facts_about_its_data_is_refused(run, tmp_path, key):
    copy = shutil.copytree(run, tmp_path / "received")
    study = yaml.safe_load((copy / "study.yaml").read_text())
    del study["data"][key]
    (copy / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(InputError, match=rf"study\.yaml: damaged or cut short: data\.{key} is missing"):
        search.load_winner(copy)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "mlp", "hidden": [200_000, 200_000]},
        {"name": "transfer", "backbone": "resnet18", "head": [200_000, 200_000]},
    ],
    ids=lambda model: model["name"],
)
def test_an_export_of_a_huge_network_is_refused_before_it_is_built(exported, tmp_path, monkeypatch, model):
    copy = shutil.copytree(exported, tmp_path / "received")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["model"] = model
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("winnow.models.build", lambda *_: pytest.fail("it is built"))
    with pytest.raises(InputError, match=r"it has 40,0[0-9,]+ parameters, but there are weights for [0-9]{1,3},"):
        load_export(copy)


@pytest.mark.parametrize(
    "error", [RuntimeError("not enough memory: you tried to allocate"), ValueError("no such width")]
)
def test_an_export_whose_network_cannot_be_built_is_refused(exported, monkeypatch, error):
    def build(*_: Any) -> None:
        raise error

    monkeypatch.setattr("winnow.models.build", build)
    with pytest.raises(InputError, match=rf"the weights do not fit the network of the config \({error}\)"):
        load_export(exported)


def test_a_torn_weights_file_is_named(exported, tmp_path):
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="incomplete safetensors file"):
        load_export(tmp_path)


HEADERS = {
    "a length of 4 exabytes": (1 << 62, b"{}"),
    "brackets without end": (1_000_000, b"[" * 1_000_000),
    "a tensor outside the file": (None, b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 8]}}'),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_refused_before_torch_is_imported(name, tmp_path):
    """An import of torch takes seconds."""
    length, header = HEADERS[name]
    raw = struct.pack("<Q", len(header) if length is None else length) + header
    (tmp_path / "weights.safetensors").write_bytes(raw)
    code = (
        f"import sys\nfrom winnow.search.cli.main import main\ntry: main(['predict', {str(tmp_path)!r}, 'a.png'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert done.stderr.startswith(f"winnow: {tmp_path / 'weights.safetensors'}: incomplete safetensors file (")
    assert done.stderr.count("\n") == 1


RECEIVED = """
data: {{name: digits}}
epochs: 2
batch_size: 64
model: {{name: transfer, {weights}}}
optimizer: {{name: sgd, lr: {rate}}}
"""


@pytest.mark.parametrize(("command", "rate"), [("search", "{log: [0.001, 0.1]}"), ("train", "0.1")])
@pytest.mark.parametrize("key", ["backbone: resnet18, weights: FILE", "backbone: {weights: FILE}"])
def test_a_space_with_a_hostile_header_is_refused_before_torch_is_imported(command, rate, key, tmp_path):
    length, header = HEADERS["brackets without end"]
    file = tmp_path / "received.safetensors"
    file.write_bytes(struct.pack("<Q", length) + header)
    (tmp_path / "space.yaml").write_text(RECEIVED.format(weights=key.replace("FILE", str(file)), rate=rate))
    code = (
        f"import sys\nfrom winnow.search.cli.main import main\ntry: main([{command!r}, {str(tmp_path / 'space.yaml')!r}])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["2", "False"], done.stderr
    path = "model.backbone.weights" if "{" in key else "model.weights"
    assert f"winnow: {path}: {file}: incomplete safetensors file (" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_pipe_in_place_of_the_weights_is_refused(tmp_path):
    os.mkfifo(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors: not a file"):
        check_exported_weights(tmp_path)


def test_importing_search_costs_nothing():
    code = "import winnow.search, sys; print(sorted({'torch', 'ray', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
