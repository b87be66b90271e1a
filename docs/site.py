"""The pages of the site, from those that are read in the repository: `python docs/site.py OUT`.

Pages of the repository's root come along, and so does a reference of what packages export. Links
lead where the pages lie in the site; those to source files become the files' names.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).parents[1]
# Page of the site -> file at the repository's root.
PAGES = {
    "index.md": "README.md",
    "model-card.md": "MODEL_CARD.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}


# What programs use of pose_runtime; the models' own modules follow.
FIRST = ("skeleton", "spec", "letterbox", "images", "poses", "grouping", "errors")


def write_pages(out: Path) -> None:
    """Everything that the generator reads, in a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT / "docs", out, ignore=shutil.ignore_patterns("*.py", "*.toml", "__*"))
    for page, source in PAGES.items():
        shutil.copyfile(ROOT / source, out / page)
    for page in out.rglob("*.md"):
        page.write_text(_for_the_site(page.read_text(), page.parent, out))
    (out / "reference").mkdir()
    for package, make in (("bodypose_client", exported), ("pose_runtime", modules)):
        (out / "reference" / f"{package}.md").write_text(make(package))


def _for_the_site(text: str, folder: Path, out: Path) -> str:
    at = {source: page for page, source in PAGES.items()}

    def moved(link: re.Match[str]) -> str:
        words, target, _, anchor = link[1], *link[2].partition("#")
        target = re.sub(r"^(\.\./)*(docs/)?", lambda m: m[0].removesuffix("docs/"), target)
        inside = at.get(target.replace("../", ""), target)
        if inside and not (folder / inside).exists() and not (out / inside).exists():
            return f"`{words}`"
        return f"[{words}]({inside}{'#' if anchor else ''}{anchor})"

    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)\s]+)\)", moved, text)
    text = text.replace('src="docs/', 'src="')
    text = re.sub(r"^(<!-- .* -->)$", r"\n\1\n", text, flags=re.M)
    return "\n".join(_apart(text.splitlines())) + "\n"


def _apart(lines: list[str]) -> list[str]:
    """Lines as Python-Markdown needs them where CommonMark does not.

    A blank line stands before each list that follows a paragraph, and a list item's further
    paragraphs are indented by four.
    """
    apart: list[str] = []
    fenced = False
    for line in lines:
        before = apart[-1] if apart else ""
        starts = re.match(r"(\*|-|\d+\.) ", line) and not fenced
        if starts and before.strip() and not re.match(r"\s*(\*|-|\d+\.) |\s", before):
            apart.append("")
        if re.match(r"   \S", line) and not fenced and not before.strip():
            line = f" {line}"
        fenced ^= line.lstrip().startswith("```")
        apart.append(line)
    return apart


def exported(package: str) -> str:
    """What a package's `__all__` names, from the modules that hold it."""
    module = import_module(package)
    homes = vars(module)["_HOME"]
    names = (f"::: {homes[name]}.{name}" for name in module.__all__)
    return "\n\n".join([f"# {package}", f"{module.__doc__}", *names]) + "\n"


def modules(package: str) -> str:
    """Every module of a package, with its public names."""
    module = import_module(package)
    parts = [f"# {package}", f"{module.__doc__}"]
    others = (each.name for each in iter_modules(module.__path__) if each.name not in FIRST)
    for name in (*FIRST, *others):
        hidden = "      show_root_heading: false\n      show_root_toc_entry: false"
        parts += [f"## {name}", f"::: {package}.{name}\n    options:\n{hidden}"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
