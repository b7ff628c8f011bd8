"""Describes a space for the terminal: its parameters, conditions, fixed values and size."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from winnow.spaces.catalog import listing
from winnow.spaces.grammar.domains import Choice, Domain
from winnow.spaces.grammar.nodes import AtLeast, Node, Parameter, Repeat, Series
from winnow.spaces.grammar.nodes import Fixed as FixedNode
from winnow.spaces.grammar.nodes import Group as GroupNode
from winnow.spaces.grammar.problems import show_value
from winnow.spaces.schema.objectives import name_of
from winnow.spaces.shapes import known_image_shape
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import ProbeTrial

NUM_SAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One parameter; the items of a repeat share a row."""

    name: str
    values: str
    condition: str


def render(space: Space) -> RenderableType:
    """Return the description of a space, to print on a rich console."""
    described = dict(listing()).get(space.source.removeprefix("catalog/").removesuffix(".yaml"), "")
    parts: list[RenderableType] = [Text.assemble((space.name, "bold"), f"  {described}" if described else "")]
    parts.append(Text(f"from {space.source}", style="dim"))
    if not space.is_recipe:
        parts += [_parameter_table(rows(space)), Text(size_text(space))]
    parts += [_fixed_table(space), *(Text(line) for line in _settings_lines(space))]
    return Group(*parts)


def rows(space: Space) -> list[Row]:
    """Return the parameters in the order in which they are drawn; those of repeated items share a row."""
    by_name: dict[str, Row] = {}
    for parameter in space.parameters():
        name = _without_numbers(parameter.study_name)
        # The last item of a repeat has all conditions: its existence is one of them.
        by_name[name] = Row(name, domain_text(parameter.domain), _condition_text(parameter))
    return list(by_name.values())


def domain_text(domain: Domain) -> str:
    """Return a domain in words, such as `log 0.001 to 0.1`."""
    if isinstance(domain, Choice):
        return ", ".join(option if isinstance(option, str) else show_value(option) for option in domain.options)
    ((kind, bounds), *more) = domain.to_tree().items()
    step = f", step {more[0][1]:g}" if more else ""
    return f"{kind} {bounds[0]:g} to {bounds[1]:g}{step}"


def size_text(space: Space) -> str:
    """Return the number of parameters and configs, and the share of combinations that cannot be built, in words."""
    size = space.size()
    shown = "infinitely many configs" if math.isinf(size) else f"{size:,} configs"
    if not math.isinf(size) and size >= 10**15:
        shown = f"about 10^{len(str(size)) - 1} configs"
    share = infeasible_share(space)
    noted = f"; about {share:.0%} of them cannot be built and are never run" if share and share >= 0.005 else ""
    return f"{len(space.parameters())} parameters, {shown}{noted}"


def infeasible_share(space: Space, num_samples: int = NUM_SAMPLES, seed: int = 0) -> float | None:
    """Estimate the share of combinations that cannot be built.

    Args:
        space: The space.
        num_samples: Number of random combinations. Default: 1000.
        seed: Seed of the draws. Default: 0.

    Returns:
        A share in [0, 1]; None if the image shape is known only from the data.
    """
    image_shape = known_image_shape(space.tree.get("data"))
    if image_shape is None:
        return None
    rng = random.Random(seed)
    samples = (space.suggest(ProbeTrial({}, rng.choice, rng)) for _ in range(num_samples))
    return sum(space.infeasible(raw, image_shape) is not None for raw in samples) / num_samples


def fixed_values(space: Space) -> dict[str, str]:
    """Return the values that are not searched, by key path."""
    values: dict[str, str] = {}
    _collect_fixed(space.root, "", values)
    return values


def _collect_fixed(node: Node, path: str, values: dict[str, str]) -> None:
    match node:
        case FixedNode(value=value):
            values[path] = value if isinstance(value, str) else show_value(value)
        case GroupNode(children=children):
            for key, child in children.items():
                _collect_fixed(child, f"{path}.{key}" if path else key, values)
        case Repeat(of=of):
            _collect_fixed(of, f"{path}.*", values)
        case Series(items=items):
            for index, item in enumerate(items):
                _collect_fixed(item, f"{path}.{index}", values)
        case _:
            for name, option in getattr(node, "options", {}).items():
                _collect_fixed(option, f"{path}.{name}", values)


def _without_numbers(study_name: str) -> str:
    """Replace the item numbers of a name, as in `model.stages.*.filters`."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", study_name)


def _condition_text(parameter: Parameter) -> str:
    parts = []
    for name, value in parameter.conditions:
        shown = _without_numbers(name)
        parts.append(f"for each of {shown}" if isinstance(value, AtLeast) else f"{shown} = {value}")
    return ", ".join(parts)


def _parameter_table(parameters: list[Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("parameter", no_wrap=True, min_width=max((len(row.name) for row in parameters), default=0))
    table.add_column("values")
    table.add_column("only where")
    for row in parameters:
        table.add_row(Text(row.name), Text(row.values), Text(row.condition, style="dim"))
    return table


def _fixed_table(space: Space) -> Table:
    table = Table("fixed", "", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for path, value in fixed_values(space).items():
        table.add_row(Text(path), Text(value))
    return table


def _settings_lines(space: Space) -> list[str]:
    if space.is_recipe:
        return []
    settings, retrain = space.settings, space.retrain
    top = retrain.top if settings.objectives else retrain.num_wanted
    retrained = "the whole front" if top is None else f"the best {top}"
    lines = [
        f"search: {settings.trials} trials of up to {space.max_epochs} epochs, {settings.ranked_by[0]}, sampler {settings.sampler}",
        f"retrain: {retrained}, {retrain.seeds} seeds each",
    ]
    if settings.objectives is not None:
        lines.append(f"objectives: {', '.join(map(name_of, settings.objectives))}; the winners are the Pareto front")
    if settings.limits is not None:
        lines.append(f"limits: {settings.limits}")
    start = ", ".join(name for name, _ in space.start_from_named())
    baseline = space.baseline_named()
    if start:
        lines.append(f"tried first: {start}")
    return [*lines, *([f"baseline: {baseline[0]}"] if baseline else []), *space.notes]
