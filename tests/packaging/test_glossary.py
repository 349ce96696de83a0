"""docs/glossary.md has every noun that a module is named by, and no word that is not used."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/glossary.md"
ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
TERMS = {term: where for term, where in ROWS if term != "Term" and not term.startswith("---")}
PACKAGE = ROOT / "nullworker"

#: Module names that say what is in them without this project's glossary.
SELF_EXPLAINING = {
    *(
        "__init__",
        "__main__",
        "app",
        "base",
        "clock",
        "config",
        "config_overrides",
        "config_source",
        "decoding",
        "demo",
        "importing",
        "run",
        "timeouts",
    ),
    *("ending", "environment", "errors", "flags", "headers", "history", "http", "launch", "loading", "logs", "main"),
    *("messages", "models", "openapi", "output", "proc", "registry", "reporting", "server", "service", "settings"),
    *("settings_file", "status", "tasks", "tls", "tolerant", "types", "key_types", "wsgi_server"),
    # Standard constructs, and what operating systems and web servers have.
    *("auth_middleware", "fair_lock", "keyed_queue", "legacy_log_watch", "listening", "logtail", "request_context"),
    *("stderr_tail", "consume_command", "store_file", "store_writer", "supervisor_main"),
    # Parts of the simulator that are there once.
    *("compare", "context", "event_queue", "fault_injector", "known_worker", "memory_fleet", "network", "observer"),
    *("model", "process", "reduction", "truth", "worker_kind"),
}
#: Modules that are named for a command, a product or a promise.
NAMED_FOR_OTHERS = ("cli/", "queues/", "simulation/checkers/p")


def singular(name: str) -> str:
    return name.replace("_", " ").removesuffix("s")


def names(term: str) -> set[str]:
    return {singular(name.strip("` ")) for name in term.split(",")}


def module(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not module(path).startswith(NAMED_FOR_OTHERS)]
EXPLAINED = {name for term in TERMS for name in names(term)}


def test_the_name_of_a_module_is_explained() -> None:
    known = [path for path in MODULES if path.stem in SELF_EXPLAINING or singular(path.stem) in EXPLAINED]
    assert [module(path) for path in MODULES if path not in known and not is_listed(path)] == []


def is_listed(path: Path) -> bool:
    """Whether a term names the module as its place, as ``engine/state_dir.py`` for the state directory."""
    return any(f"`{module(path)}`" in where for where in TERMS.values())


def test_the_place_of_a_term_is_there() -> None:
    for term, where in TERMS.items():
        places = re.findall(r"`([^`]+)`", where)
        assert places, term
        for place in places:
            assert (PACKAGE / place).exists() or (ROOT / place).exists(), (term, place)


def test_every_term_is_used() -> None:
    pages = [page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if page != PAGE]
    text = "\n".join(page.read_text() for page in [*pages, *PACKAGE.rglob("*.py")])
    words = " ".join(re.sub(r"[_\W]+", " ", text.lower()).split())
    unused = [name for name in EXPLAINED if re.sub(r"[_\W]+", " ", name.lower()) not in words]
    assert not unused
