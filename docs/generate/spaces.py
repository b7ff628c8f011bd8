"""Generator of docs/reference/spaces.md: `python -m docs.generate.spaces` writes it, and a test keeps page and schema equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from winnow.spaces import schema
from winnow.spaces.schema.json_schema import REFERENCE, described, section

DOCS_FILE = Path(__file__).resolve().parents[1] / "reference" / "spaces.md"
Json = dict[str, Any]

_INTRODUCTION = """# Keys of a space

This page is generated from `spaces/schema/` by `python -m docs.generate.spaces`. `winnow spaces --json-schema` prints the same as a JSON schema, for
editors.

A recipe gives every key one value. A space leaves some keys open: a [domain](#domains) may be used in place of any value. Names and the keys
that select the images cannot be searched; to search over names, use a choice of sub-spaces. Unknown keys are refused. Durations are in epochs, rates
are fractions.

## Domains

| domain | draws |
|---|---|
| `{choice: [relu, elu]}` | one of the values, which may be lists or mappings |
| `{choice: {adam: {...}, sgd: {...}}}` | one of the sub-spaces; only the keys of the chosen one exist |
| `{int: [2, 6]}`, `{int: [16, 64], step: 16}` | an integer in the range, both ends included |
| `{float: [0.0, 0.5]}`, `{float: [0.0, 0.5], step: 0.1}` | a number in the range, both ends included |
| `{log: [0.0001, 0.1]}`, `{log: [16, 256], step: 2}` | a number, uniform on a logarithmic scale; `step` is the ratio of neighbouring values |
| `{repeat: depth, of: {...}}` | a list of `depth` items, each drawn independently |
"""

_TITLES = {
    "Stage": "An item of `stages`",
    "ResidualStage": "An item of `stages`",
    "MixtureBlock": "An item of `blocks`",
    "Normalization": "`normalize` as a mapping",
    "ExtraCopies": "`extra`",
    "TrainedBackbone": "`backbone` as a mapping",
    "Custom": "A custom model",
    "OwnOptimizer": "A custom optimizer",
    "OwnSchedule": "A custom schedule",
    "OwnLoss": "A custom loss",
    "OwnAugmentation": "A custom augmentation",
    "OwnInitialization": "A custom initialization",
    "OwnMetric": "A custom metric",
}
_BESIDE = """
A space may also have the sections `search`, `retrain` and `reference` (below), and these keys:

| key | meaning |
|---|---|
| `start_from` | Known-good recipes, tried first; the sampler `forecast` trains them to the end. A list of names or files, or a mapping `{name: config}`. |
| `baseline` | The recipe that winners are compared with; defaults to the first of `start_from`. |
"""
_SECTIONS: dict[str, type[BaseModel]] = {
    "search": schema.SearchSettings,
    "search.limits": schema.Limits,
    "retrain": schema.RetrainSettings,
    "reference": schema.Reference,
}


def markdown() -> str:
    """Return the whole page: the keys of a config, then each class under the key that leads to it."""
    config, definitions = described()
    parts = [_INTRODUCTION, "\n## Top level\n", _table("Config", config), _BESIDE]
    for key, value in config["properties"].items():
        names = _reached(value, definitions)
        parts += [f"\n## {key}\n"] * bool(names) + [_table(name, definitions[name]) for name in names]
        if key == "data":
            presets = (f"`{name}` = {json.dumps(steps)}" for name, steps in schema.AUGMENTATION_PRESETS.items())
            parts.append(f"\nPresets of `augment`: {', '.join(presets)}.\n")
    for key, model in _SECTIONS.items():
        parts += [f"\n## {key}\n", _table(model.__name__, section(model))]
    return "".join(parts)


def _reached(value: Any, definitions: Json) -> list[str]:
    """Names of the definitions that a value refers to, each before those that it refers to itself."""
    names: dict[str, None] = {}
    open_parts = [value]
    while open_parts:
        part = open_parts.pop(0)
        if isinstance(part, list):
            open_parts[:0] = part
        elif isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix(REFERENCE)
            below = [each for key, each in part.items() if key != "discriminator"]
            if name in definitions and name not in names:
                names[name] = None
                below.append(definitions[name]["properties"])
            open_parts[:0] = below
    return list(names)


def _table(class_name: str, definition: Json) -> str:
    properties = definition["properties"]
    constant = properties.get("name", {}).get("const")
    title = _TITLES.get(class_name) or (constant and f"`name: {constant}`")
    lines = [f"\n### {title}"] if title else []
    about = definition.get("description", "")
    if about:
        lines += ["", " ".join(about.split())]
    keys = {key: value for key, value in properties.items() if not (key == "name" and constant)}
    if keys:
        lines += ["", "| key | type | default | range | meaning |", "|---|---|---|---|---|"]
        required = definition.get("required", [])
        lines += [_row(key, value, key in required) for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _row(key: str, value: Json, required: bool) -> str:
    default = "required" if required else f"`{json.dumps(value.get('default'))}`"
    cells = (f"`{key}`", _type(value), default, _range(value), " ".join(value.get("description", "").split()))
    return f"| {' | '.join(cells)} |"


def _type(value: Json) -> str:
    options = value.get("anyOf") or value.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if "$ref" in value:
        return _of_class(value["$ref"].removeprefix(REFERENCE))
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    names = {"integer": "int", "number": "float", "boolean": "bool", "string": "text", "null": "null"}
    return names.get(value.get("type", ""), "mapping")


def _of_class(name: str) -> str:
    owner = getattr(schema, name)
    constant = owner.model_fields["name"].annotation if "name" in owner.model_fields else None
    literals = get_args(constant)
    return f"`{literals[0]}`" if len(literals) == 1 else "mapping"


def _range(value: Json) -> str:
    """The bounds as an inequality; for a list, the bounds of its items."""
    options = [value, *value.get("anyOf", []), *([value["items"]] if "items" in value else [])]
    bounds = [text for text in map(_bounds, options) if text]
    if "minItems" in value:
        bounds.append(f"at least {value['minItems']} item")
    return ", ".join(bounds)


def _bounds(value: Json) -> str:
    low = [f"{value[key]:g} {sign} " for key, sign in (("minimum", "<="), ("exclusiveMinimum", "<")) if key in value]
    high = [f" {sign} {value[key]:g}" for key, sign in (("maximum", "<="), ("exclusiveMaximum", "<")) if key in value]
    return f"{''.join(low)}x{''.join(high)}" if low or high else ""


if __name__ == "__main__":
    DOCS_FILE.parent.mkdir(exist_ok=True)
    DOCS_FILE.write_text(markdown(), encoding="utf-8")
