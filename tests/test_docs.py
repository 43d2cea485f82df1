"""What README, the docs and the docstrings show is run."""

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import kofn

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [module.name for module in pkgutil.walk_packages(kofn.__path__, "kofn.")]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "page"}
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), space)
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    import numpy as np

    module = import_module(name)
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_the_first_two_bash_blocks_of_the_readme_hold_one_line_each():
    first, second = blocks(ROOT / "README.md", "bash")[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert "kofn demo" in first
    assert "pytest" in second


def test_every_method_has_a_page_and_every_page_a_method():
    pages = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")}
    assert pages == {each.name for each in kofn.methods()}


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
