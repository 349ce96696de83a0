"""``make docs``: the documentation site, from the pages as they are in the repository.

    python -m tools.docs_site            into build/site
    python -m tools.docs_site --check    builds it as well, into a folder that is removed again

Pages are copied into one folder, in which MkDocs wants them all. A link to another page is changed to where that page
is now; of a link to a file of code only the text is kept. MkDocs then fails for any link that leads nowhere. The
reference of the Python interface is made from docstrings.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"

#: The site's four kinds of pages, which are kept apart; each page by its path in the repository, with its title.
NAVIGATION: dict[str, dict[str, str]] = {
    "Learn": {"README.md": "nullworker", "docs/tutorial.md": "Tutorial"},
    "Questions": {
        "docs/how-to/README.md": "All questions",
        "docs/how-to/install.md": "Install it",
        "docs/how-to/one-gpu-for-each-worker.md": "One GPU for each worker",
        "docs/how-to/service.md": "Run it as a service",
        "docs/how-to/upgrade.md": "Upgrade without killing jobs",
        "docs/how-to/move-the-engine.md": "Move the engine",
        "docs/how-to/secrets.md": "Pass secrets to consumers",
        "docs/how-to/limit-spending.md": "Limit spending",
        "docs/how-to/what-it-cost.md": "What did yesterday cost",
        "docs/how-to/why-not-starting.md": "Why is my job not starting",
        "docs/how-to/ci.md": "Use it in CI",
    },
    "Reference": {
        "docs/README.md": "All pages",
        "docs/up.md": "nullworker up",
        "docs/configuration.md": "Configuration",
        "docs/dispatcher.md": "The dispatcher",
        "docs/queues.md": "Queues",
        "docs/consumer.md": "The consumer",
        "docs/null-pyworker.md": "The Null PyWorker",
        "docs/client.md": "The client",
        "docs/fleets.md": "Fleets",
        "docs/fleets-ssh.md": "Your own machines, by SSH",
        "docs/fleets-slurm.md": "Jobs of Slurm",
        "docs/fleets-ray.md": "Jobs of Ray",
        "docs/fleets-vast.md": "Machines rented from Vast",
        "docs/command-line.md": "The vastai command line",
        "docs/classic-backends.md": "Classic backends",
        "docs/page.md": "The page",
        "docs/cost.md": "Cost",
        "docs/metrics.md": "Metrics",
        "docs/running.md": "Running it for good",
        "docs/security.md": "Security, line by line",
        "docs/glossary.md": "Glossary",
    },
    "Explanation": {
        "ARCHITECTURE.md": "Architecture",
        "docs/promises.md": "Promises",
        "docs/scaling.md": "Scaling",
        "docs/choosing-parameters.md": "Choosing parameters",
        "docs/simulation.md": "The simulator",
        "docs/exhaustive.md": "Every state of a small world",
        "docs/chaos.md": "Faults on real processes",
        "docs/mutation.md": "Does anything notice a bug?",
        "docs/why-the-nets-missed.md": "Why the tests did not catch it",
        "SECURITY.md": "Security",
        "CONTRIBUTING.md": "Contributing",
        "CHANGELOG.md": "Changelog",
    },
}
#: The Python interface: what a program may import, by its title.
INTERFACE = {
    "The client": ("nullworker.client.client", "nullworker.client.reservation", "nullworker.client.errors"),
    "Jobs in SQLite": ("nullworker.queues.sqlite_jobs",),
    "Queue adapters": ("nullworker.queues.base", "nullworker.testing.queues"),
    "Fleets": ("nullworker.fleets.base", "nullworker.testing.fleets"),
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Each page of the repository, by its path, with its path on the site."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    on_site = {}
    for path in sorted(found):
        name = path.relative_to(ROOT).as_posix()
        on_site[name] = {"README.md": "index.md", "docs/README.md": "pages.md"}.get(name, name.removeprefix("docs/"))
    return on_site


def moved(text: str, page: str, on_site: dict[str, str]) -> str:
    """A page's text with links as they must be on the site.

    Args:
        text: of the page.
        page: its path in the repository.
        on_site: as `pages` returns it.
    """
    folder = PurePosixPath(on_site[page]).parent

    def link(match: re.Match[str]) -> str:
        picture, words, target, place = match.groups()
        if picture:
            where = (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT / "docs").as_posix()
            return f"![{words}]({_relative(where, folder)})"
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        where = (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
        there = on_site.get(where) or on_site.get(f"{where}/README.md") or on_site.get(_first_below(where, on_site), "")
        if not there:
            return words if (ROOT / where).exists() else match[0]  # MkDocs says that it leads nowhere
        return f"[{words}]({_relative(there, folder)}{place or ''})"

    return _LINK.sub(link, text)


def _first_below(folder: str, on_site: dict[str, str]) -> str:
    """The first page in a folder that has no list of its pages."""
    return next((name for name in on_site if name.startswith(f"{folder}/")), "")


def _relative(there: str, folder: PurePosixPath) -> str:
    ups = [".."] * len(folder.parts)
    return "/".join([*ups, there])


def settings(source: Path, target: Path) -> dict[str, object]:
    """MkDocs' own file."""
    on_site = pages()
    listed: list[dict[str, object]] = [
        {kind: [{title: on_site[page]} for page, title in titles.items()]} for kind, titles in NAVIGATION.items()
    ]
    decisions = sorted(name for name in on_site if name.startswith("docs/decisions/"))
    listed[-1]["Explanation"] += [{"Decisions": [on_site[name] for name in decisions]}]  # type: ignore[operator]
    listed[2]["Reference"] += [{"Python": [{title: _interface_page(title)} for title in INTERFACE]}]  # type: ignore[operator]
    return {
        "site_name": "nullworker",
        "docs_dir": str(source),
        "site_dir": str(target),
        "theme": {"name": "material", "font": False, "features": ["navigation.tabs", "navigation.top"]},
        "plugins": ["search", {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)]}}}}],
        "markdown_extensions": [
            "admonition",
            "pymdownx.highlight",
            "pymdownx.superfences",
            {"toc": {"permalink": True}},
        ],
        "validation": {"links": {"not_found": "warn", "anchors": "warn", "unrecognized_links": "warn"}},
        "nav": listed,
    }


def _interface_page(title: str) -> str:
    return f"python/{title.lower().replace(' ', '-')}.md"


def assemble(source: Path) -> None:
    """Copies all pages, and makes those of the interface."""
    on_site = pages()
    for name, there in on_site.items():
        page = source / there
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(moved((ROOT / name).read_text(encoding="utf-8"), name, on_site), encoding="utf-8")
    for picture in [path for kind in ("svg", "png") for path in (ROOT / "docs").rglob(f"*.{kind}")]:
        copied = source / picture.relative_to(ROOT / "docs")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copied)
    for title, modules in INTERFACE.items():
        page = source / _interface_page(title)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# {title}\n\n" + "\n".join(f"::: {module}\n" for module in modules), encoding="utf-8")


def build(target: Path) -> int:
    """Builds the site; returns MkDocs' exit code, which is not 0 where a link leads nowhere."""
    with tempfile.TemporaryDirectory(prefix="nullworker-docs-") as work:
        source, file = Path(work) / "pages", Path(work) / "mkdocs.yml"
        assemble(source)
        file.write_text(json.dumps(settings(source, target)), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(file)]
        environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of its theme, about other programs
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:  # its warnings count, and are lost with --quiet
            print(
                *(line for line in done.stderr.splitlines() if not line.startswith("INFO")), sep="\n", file=sys.stderr
            )
        return done.returncode


def main() -> int:
    """Builds it where it is wanted."""
    if sys.argv[1:] == ["--check"]:
        with tempfile.TemporaryDirectory(prefix="nullworker-site-") as folder:
            return build(Path(folder))
    code = build(BUILD / "site")
    if code == 0:
        print(f"The site is in {(BUILD / 'site').relative_to(ROOT)}: open index.html there.")
    return code


if __name__ == "__main__":
    sys.exit(main())
