"""The documents name what is there: files, links, scripts, and what may import what."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "serve_app"
PAGES = sorted(
    path
    for folder in ("", "docs", "docs/decisions", "cluster", "scripts", "serve_app/assets/demo")
    for path in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FILE = re.compile(r"(?<![\w/])(?:scripts|serve_app|tests|configs|cluster)/[\w/.-]+\.\w+")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def parts() -> set[str]:
    """Modules and packages directly below serve_app."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def imports(part: str) -> set[str]:
    """Full names of a part's imports, including late ones and those for types only."""
    module = PACKAGE / f"{part}.py"
    found = set()
    for path in [module] if module.is_file() else (PACKAGE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_names_of_files_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, anchor in LINK.findall(text):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
    for name in FILE.findall(text):
        assert (ROOT / name).exists(), name


def test_the_readme_names_every_module_and_package() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    for part in parts():
        name = f"{part}.py" if (PACKAGE / f"{part}.py").is_file() else f"{part}/"
        assert re.search(rf"(?<!\w){re.escape(name)}", tree), name


def test_every_page_is_in_the_readme_and_every_decision_in_its_list() -> None:
    for folder, index in (("docs", "README.md"), ("docs/decisions", "docs/decisions/README.md")):
        text = (ROOT / index).read_text()
        for page in (ROOT / folder).glob("*.md"):
            assert page.name == "README.md" or f"{page.name})" in text, page


def test_every_script_has_a_line_in_the_list_of_scripts() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.suffix in (".py", ".sh")}
    listed = re.findall(
        r"^\| `([\w.]+)` \|", (ROOT / "scripts/README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(scripts)


def test_imports_go_downwards_in_the_architectures_table() -> None:
    section = (ROOT / "docs/architecture.md").read_text().split("## What may import what")[1]
    rows = re.findall(r"^\| (`.*?) \|", section.split("\n## ")[0], re.MULTILINE)
    row_of = {
        part: number for number, row in enumerate(rows) for part in re.findall(r"`(\w+)`", row)
    }
    assert row_of.keys() == parts()
    upwards = [
        f"{part} imports {other}"
        for part in parts()
        for other in {name.split(".")[1] for name in imports(part) if name.startswith("serve_app.")}
        if row_of.get(other, len(rows)) < row_of[part]
    ]
    assert not upwards


@pytest.mark.parametrize(
    ("package", "parts_that_may"),
    [
        (
            "ray",
            {"app", "autoscaling", "batch", "deployments", "doctor"}
            | {"ray_start", "serve_config", "server"},
        ),
        ("vllm", {"batch", "engine", "model"}),
    ],
)
def test_no_other_part_imports_ray_or_vllm(package: str, parts_that_may: set[str]) -> None:
    found = {
        part for part in parts() if any(name.split(".")[0] == package for name in imports(part))
    }
    assert found == parts_that_may
