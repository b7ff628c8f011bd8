"""Under `--json` standard output holds JSON alone, whatever a model or a library prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NOISY = """
import os
from torch import nn

def build(image_shape, num_classes):
    print("a print of the model")
    os.system("echo a program that the model starts")
    os.write(1, b"a write of a library in C\\n")
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))
"""
RECIPE = """
data: digits
epochs: 1
batch_size: 64
model: {name: "noisy_nets:build"}
optimizer: {name: adam, lr: 0.01}
"""


def test_what_a_model_prints_does_not_come_between_the_json(tmp_path: Path):
    (tmp_path / "noisy_nets.py").write_text(NOISY)
    (tmp_path / "noisy.yaml").write_text(RECIPE)
    script = (
        "from winnow.search.cli.main import main\n"
        "from winnow.search.cli import search_commands\n"
        "def checked(space, overrides, options):\n"
        "    from winnow.search.cli.common import execution, load_space\n"
        "    from winnow.search.operations.checks import load_checked\n"
        "    with execution(options) as here:\n"
        "        load_checked(load_space(space, overrides), here.new_source)\n"
        "        here.view.message('checked')\n"
        "    raise SystemExit(0)\n"
        "search_commands._search = checked\n"
        "main(['search', 'noisy.yaml', '--json'])\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [json.loads(line)["text"] for line in ended.stdout.splitlines()] == ["checked"]
    for noise in ("a print of the model", "a program that the model starts", "a write of a library in C"):
        assert noise in ended.stderr


def test_without_a_file_descriptor_too(capsys):
    from winnow.search.cli.json_output import reserved_output, write_json

    with reserved_output():
        print("noise")
        write_json({"one": 1})
    print("afterwards")
    output = capsys.readouterr()
    assert output.out == '{"one": 1}\nafterwards\n'
    assert output.err == "noise\n"
