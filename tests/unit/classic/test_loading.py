from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.classic.loading import BackendError, load, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.classic.conftest import WriteBackend

COUNTER = """
    class Backend:
        def __init__(self, *args, **kwargs):
            self.count = 0

    def add(backend, request):
        backend.count += 1
        return "added"

    flask_dict = {"POST": {"add": add}, "GET": {"deep/er/value": lambda backend, request: {}}}
"""


def test_a_backend_is_its_class_and_its_handlers(write_backend: WriteBackend) -> None:
    loaded = load("counter", (write_backend("counter", backend=COUNTER),))
    assert loaded.backend_class.__name__ == "Backend"
    assert loaded.handlers["POST"].keys() == {"add"}
    assert loaded.endpoints == "POST /add, GET /deep/er/value"
    assert not loaded.thread_safe
    assert loaded.metrics_class is None
    assert loaded.log_watch_class is None


def test_the_first_folder_that_has_it_wins(write_backend: WriteBackend, tmp_path: Path) -> None:
    root = write_backend("counter", backend=COUNTER)
    (tmp_path / "empty" / "counter").mkdir(parents=True)
    assert load("counter", (tmp_path / "empty", root)).folder == root / "counter"


@pytest.mark.parametrize("where", ["thread_safe = True\n", "Backend.thread_safe = True\n"])
def test_a_backend_says_that_it_is_thread_safe(where: str, write_backend: WriteBackend) -> None:
    root = write_backend("safe", backend=COUNTER)
    with (root / "safe" / "backend.py").open("a") as file:
        file.write(where)
    assert load("safe", (root,)).thread_safe


def test_metrics_and_logwatch_beside_it_are_found(write_backend: WriteBackend) -> None:
    root = write_backend("full", backend=COUNTER, metrics="class Metrics: pass", logwatch="class LogWatch: pass")
    loaded = load("full", (root,))
    assert loaded.metrics_class is not None
    assert loaded.log_watch_class is not None


def test_each_classic_way_to_import_a_neighbour_works(write_backend: WriteBackend) -> None:
    root = write_backend(
        "friendly",
        backend="""
            from friendly.helper import VALUE as by_folder
            from .helper import VALUE as relative
            import helper
            import framework
            from friendly.metrics import Metrics as Mine

            class Backend:
                same = by_folder is relative and helper.VALUE == relative and framework.NAME == "fork"
                mine = Mine
            flask_dict = {"GET": {"x": lambda backend, request: ""}}
        """,
        helper="VALUE = [1]",
        metrics="class Metrics: pass",
    )
    (root / "framework.py").write_text("NAME = 'fork'\n")
    loaded = load("friendly", (root,))
    assert loaded.backend_class.same  # type: ignore[attr-defined]  # written above
    assert loaded.metrics_class is loaded.backend_class.mine  # type: ignore[attr-defined]  # as above


def test_a_folder_with_the_name_of_an_installed_module_hides_nothing(write_backend: WriteBackend) -> None:
    root = write_backend("colorsys", backend=COUNTER)
    loaded = load("colorsys", (root,))
    assert loaded.handlers["POST"]["add"] is not None
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_a_folder_may_be_a_package(write_backend: WriteBackend) -> None:
    root = write_backend("packed", __init__="", backend="from packed.other import *", other=COUNTER)
    assert "add" in load("packed", (root,)).handlers["POST"]


def test_a_second_loading_reads_the_files_again(write_backend: WriteBackend, tmp_path: Path) -> None:
    load("twice", (write_backend("twice", backend=COUNTER),))
    other = tmp_path / "more" / "twice"
    other.mkdir(parents=True)
    (other / "backend.py").write_text("class Backend: pass\nflask_dict = {'GET': {'y': lambda b, r: ''}}\n")
    assert load("twice", (tmp_path / "more",)).endpoints == "GET /y"
    assert sys.modules["twice.backend"].__file__ == str(other / "backend.py")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "backend 'broken' has no backend.py: there is none in "),
        ("flask_dict = {}", "backend.py defines no class Backend"),
        ("Backend = 3", "backend.py defines no class Backend"),
        ("class Backend: pass", "backend.py defines no dictionary flask_dict"),
        ("class Backend: pass\nflask_dict = []", "backend.py defines no dictionary flask_dict"),
        ("class Backend: pass\nflask_dict = {}", "backend.py has no handler in flask_dict"),
        (
            "class Backend: pass\nflask_dict = {'FETCH': {}}",
            "backend.py has 'FETCH' in flask_dict, which is none of GET",
        ),
        ("class Backend: pass\nflask_dict = {'GET': 3}", "no dictionary of endpoint to handler in flask_dict['GET']"),
        (
            "class Backend: pass\nflask_dict = {'GET': {3: print}}",
            "has 3 in flask_dict['GET'], which can be no endpoint",
        ),
        ("class Backend: pass\nflask_dict = {'GET': {'a<b>': print}}", "has 'a<b>' in flask_dict['GET']"),
        ("class Backend: pass\nflask_dict = {'GET': {'a': 'print'}}", "has no function for 'a' in flask_dict['GET']"),
        (
            "class Backend: pass\nflask_dict = {'GET': {'a': lambda request: ''}}",
            "a handler for 'a' in flask_dict['GET'] that does not take (backend, request)",
        ),
        ("import no_such_module", "could not be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n1 / 0", "could not be imported: ZeroDivisionError: division by zero (backend.py, line 2)"),
        ("def f(:", "could not be imported: SyntaxError"),
        ("raise SystemExit(3)", "could not be imported: SystemExit: 3 (backend.py, line 1)"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(source: str | None, message: str, write_backend: WriteBackend) -> None:
    root = write_backend("broken") if source is None else write_backend("broken", backend=source)
    with pytest.raises(BackendError) as caught:
        load("broken", (root,))
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_backend_that_is_nowhere_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"no backend 'absent': no folder of that name is in {tmp_path}"):
        load("absent", (tmp_path,))


@pytest.mark.parametrize(("stem", "name"), [("metrics", "Metrics"), ("logwatch", "LogWatch")])
def test_a_component_without_its_class_is_named(stem: str, name: str, write_backend: WriteBackend) -> None:
    root = write_backend("half", backend=COUNTER, **{stem: "x = 1"})
    with pytest.raises(BackendError, match=rf"{stem}\.py defines no class {name}"):
        load("half", (root,))


class TakesSome:
    def __init__(self, container_id: str, *, other: int = 3) -> None:
        self.given = (container_id, other)


class TakesAll:
    def __init__(self, **kwargs: object) -> None:
        self.given = kwargs


class TakesMore:
    def __init__(self, model_path: str) -> None: ...


def test_a_class_is_given_what_it_takes_by_name(tmp_path: Path) -> None:
    offered = {"container_id": "17", "send_data": False}
    assert make(TakesSome, "it", tmp_path, offered).given == ("17", 3)
    assert make(TakesAll, "it", tmp_path, offered).given == offered
    assert isinstance(make(object, "it", tmp_path, offered), object)


def test_a_class_that_can_not_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"Backend of x could not be made: TypeError: .*model_path"):
        make(TakesMore, "Backend of x", tmp_path, {})
