"""The documentation holds: commands, files, links and generated pages here; test_docs_followed.py runs the blocks."""

from __future__ import annotations

import re
import shlex

import click
import pytest

import docs.generate.spaces
from docs.generate import commands as search_docs
from docs.generate import reports as reports_docs
from tests.conftest import REPOSITORY
from tests.docs.test_docs_followed import BY_ANOTHER_TEST, BY_LINE, BY_SECTION, FOLLOWED
from tests.helpers.doc_blocks import NOT_FOLLOWED, PAGES, blocks, command_of, commands
from winnow.search.cli.main import cli
from winnow.spaces import catalog, schema
from winnow.spaces.schema.json_schema import described, section

LINES = [(str(block), line) for block in blocks() if block.language == "sh" for line in commands(block.text)]
IN_TEXT = [
    (page, found)
    for page, path in PAGES.items()
    if page != "docs/history.md"  # a diary: commands of their day
    for found in re.findall(r"`(winnow [^`\n]+)`", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M))
]
# A page whose patch brings a new key is followed in a patched copy.
SPACES = [b for b in blocks() if b.language == "yaml" and FOLLOWED.get(b.page) != "copy"]
HEADING = re.compile(r"^#+ (.*)$", re.M)


@pytest.mark.parametrize(("place", "line"), LINES)
def test_commands_parse(place, line):
    words = shlex.split(line.partition(" | ")[0], comments=True)
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, words[1]
    command.make_context(words[1], words[2:])


@pytest.mark.parametrize(("page", "line"), IN_TEXT)
def test_commands_in_the_text_exist(page, line):
    """Their arguments are placeholders or left out; command and options are held."""
    words = re.findall(r"--?[\w-]+|\S+", line.split(" | ")[0])
    if words[1].startswith("-") or words[1] in ("...", "COMMAND"):
        return
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, words[1]
    parameters = command.get_params(click.Context(command))
    known = {"--help", "-h", *(name for option in parameters for name in option.opts)}
    given = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line))
    assert given <= known


@pytest.mark.parametrize("block", SPACES, ids=str)
def test_a_space_loads(block, tmp_path):
    assert block.file, f"{block}: the first line of a space says how to save it: # NAME.yaml"
    (tmp_path / block.file).write_text(block.text)
    catalog.load(tmp_path / block.file)


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python"], ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")


def test_every_block_is_run():
    there = {(block.page, block.section) for block in blocks() if block.language not in NOT_FOLLOWED}
    whole = {*FOLLOWED, *BY_ANOTHER_TEST}
    assert {(page, section) for page, section in there if page not in whole} <= {*BY_SECTION}, (
        "a new page or section: put it into test_docs_followed.py"
    )
    assert {*BY_SECTION} <= there, "no such section, or no block in it any more"
    assert whole <= {page for page, _ in there}, "no such page, or no block in it any more"
    for file in BY_ANOTHER_TEST.values():
        assert (REPOSITORY / "tests" / file).is_file()
    for (page, heading), test in BY_SECTION.items():
        assert heading in _source(test), f"{test} does not ask for the section {heading!r} of {page}"
    for (page, line), test in BY_LINE.items():
        assert _source(test)
        found = [each for block in blocks(page) for each in block.text.splitlines() if command_of(each) == line]
        assert len(found) == 1, f"{page}: {len(found)} lines say {line!r}"


def _source(tests: str) -> str:
    """The file of `file.py::test`, or of `file.py::test, test`, in which they must be."""
    file, _, names = tests.partition("::")
    source = (REPOSITORY / "tests" / file).read_text()
    for name in names.split(", "):
        assert f"\ndef {name}(" in source, tests
    return source


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page):
    """A fence that is indented, or says no language, would be no block for the tests."""
    fences = re.findall(r"^\s*(```|~~~)", PAGES[page].read_text(encoding="utf-8"), re.M)
    assert len(fences) == 2 * len(blocks(page)), (
        "each block begins at the left edge with its language: sh, python, text, ..."
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{page}: {target}"
        if anchor:
            headings = {_anchor(heading) for heading in HEADING.findall(file.read_text(encoding="utf-8"))}
            assert anchor in headings, f"{page}: {target}"


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("docs/reports.md", reports_docs.markdown),
        ("docs/reference/spaces.md", docs.generate.spaces.markdown),
        ("docs/reference/commands.md", search_docs.commands_markdown),
        ("docs/reference/python.md", search_docs.python_markdown),
    ],
)
def test_generated_pages_are_as_generated(page, made):
    assert PAGES[page].read_text(encoding="utf-8") == made(), "make docs"


def test_typed_options_are_those_of_the_schema():
    """Editors and type checkers read this module; the functions themselves read the schema."""
    assert search_docs.OPTION_TYPES.read_text(encoding="utf-8") == search_docs.option_types(), "make docs"


GENERATED = ("docs/reports.md", "docs/reference/spaces.md", "docs/reference/commands.md", "docs/reference/python.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_lines_are_short(page):
    text = re.sub(r"^```.*?^```", "", PAGES[page].read_text(encoding="utf-8"), flags=re.S | re.M)
    long = [line for line in text.splitlines() if len(line) > 160 and not line.startswith("|")]
    assert not long


def test_readme_is_short():
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/history.md"])  # a diary: files of their day
def test_files_and_benchmarks_exist(page):
    text = re.sub(r"^```.*?^```", "", PAGES[page].read_text(encoding="utf-8"), flags=re.S | re.M)
    folders = "spaces|models|search|reports|tests|benchmarks|docs"
    for file in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", text):
        missing = file == "benchmarks/results/gpu-cuda.json"  # written by whoever has a GPU
        assert missing or (REPOSITORY / file).exists(), file
    for file in re.findall(r"`R/([\w./-]+)`", text):  # measurements.md says what R/ and B. stand for
        assert (REPOSITORY / "benchmarks" / "results" / file).exists(), file
    for module in re.findall(r"(?:python -m benchmarks|`B)\.([\w.]+)", text):
        path = REPOSITORY.joinpath("benchmarks", *module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def earlier_numbers(record: str) -> list[str]:
    """The numbers of the records that a decision includes, supersedes or refines, by its status."""
    status = record.split("\n\n")[1]
    return re.findall(r"(?:[Ii]ncludes what was|[Ss]upersedes|refines) (\d{4})", status)


def test_each_decision_has_a_status_and_is_in_the_index():
    folder = REPOSITORY / "docs" / "decisions"
    records = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")
    numbers = [record.name[:4] for record in records]
    # A merged record keeps its number, in the status of its successor and in the index; no number is used twice.
    gone = [number for record in records for number in earlier_numbers(record.read_text(encoding="utf-8"))]
    assert sorted(numbers + gone) == [f"{n:04d}" for n in range(1, int(numbers[-1]) + 1)]
    assert sorted(gone) == sorted(re.findall(r"(?:includes|supersedes|refines) (\d{4})", index))
    for record in records:
        text = record.read_text(encoding="utf-8")
        title, status = re.match(r"# (.+)\n\nStatus: (.+)\.\n\n## Context\n", text).groups()
        headings = [heading for heading in re.findall(r"^## (.+)$", text, re.M) if heading != "Before"]
        assert headings == ["Context", "Decision", "Evidence"], record.name
        kind, date = re.match(r"(accepted|superseded by \[\d{4}\]\(.+\)).*?(\d{4}-\d\d-\d\d)", status).groups()
        row = next(line for line in index.splitlines() if line.startswith(f"| [{record.name[:4]}]({record.name}) |"))
        assert title.startswith(f"{record.name[:4]}: ")
        assert {title[6:], kind.split()[0], date} == {
            each for each in (title[6:], kind.split()[0], date) if each in row
        }


def test_every_key_has_a_meaning():
    config, definitions = described()
    sections = {
        each.__name__: section(each) for each in (schema.SearchSettings, schema.RetrainSettings, schema.Reference)
    }
    for name, definition in {**definitions, **sections, "Config": config}.items():
        about = definition.get("description", "")
        for key, value in definition["properties"].items():
            is_told = value.get("description") or re.search(rf"\b{key}\b", about) or "const" in value
            assert is_told, f"{name}.{key}: write what it means in a string under the field"


def test_readers_find_the_pages():
    """Every page is linked from README, or from one that is."""
    found, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        found.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", PAGES[page].read_text(encoding="utf-8")):
            file = (PAGES[page].parent / target).resolve()
            todo += [name for name, path in PAGES.items() if path == file and name not in found]
    assert found == set(PAGES)
