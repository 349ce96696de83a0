"""The page in a real browser: signing in, watching, asking why, changing, draining, and losing the connection."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from nullworker.cli import main
from nullworker.client import NullClient, reserve
from nullworker.engine.auth.keys import Role
from nullworker.wire import tasks
from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.integration.page.browser import PHONE, Tab, chromium, tab
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser

    from nullworker.core.parameters import Parameters

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIEWS = ["/", "/lanes", "/waiting", "/worker?id=1", "/queues", "/cost", "/decisions", "/audit"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One engine for all tests here, with two workers at most."""
    parameters: Parameters = quick(max_workers=2, inactivity_timeout=120.0)
    prices = {"price_per_hour": 36.0, "storage_price_per_hour": 3.6}
    async with running(config(tmp_path_factory.mktemp("engine"), parameters, **prices)) as engine:
        yield engine


@contextlib.asynccontextmanager
async def signed_in(browser: Browser, engine: Running, path: str = "/", **settings: Any) -> AsyncIterator[Tab]:
    """A tab with the account key, whose console must stay silent."""
    async with tab(browser, engine.url, **settings) as opened:
        await opened.sign_in(engine.key, path)
        yield opened
        assert opened.complaints == []


@contextlib.asynccontextmanager
async def held(engine: Running) -> AsyncIterator[int]:
    """A reservation that is held; its request number."""
    async with NullClient(engine.url, engine.key) as client, reserve(ENDPOINT, client=client, cost=100):
        history = engine.server.keeper.history
        await until(lambda: any(r.stage == "session" for r in history.reservations.values()))
        yield next(r.request_idx for r in reversed(history.reservations.values()) if r.stage == "session")


async def test_a_wrong_key_is_refused_and_the_right_one_is_in_a_cookie_that_scripts_do_not_see(
    browser: Browser, engine: Running
) -> None:
    async with tab(browser, engine.url) as opened:
        await opened.open("/lanes?span=300")
        field = opened.page.get_by_label("Account key")
        await field.fill("wrong-key-000")
        await opened.page.get_by_role("button", name="Sign in").click()
        await opened.shows("The key is none of this engine's, or has ended.")
        await field.fill(engine.key)
        await opened.page.get_by_role("button", name="Sign in").click()
        await opened.page.get_by_role("heading", name="Lanes").wait_for()
        assert await opened.page.evaluate("document.cookie") == ""
        (cookie,) = await opened.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert engine.key not in str(await opened.page.evaluate("JSON.stringify([localStorage, sessionStorage])"))
        await opened.page.get_by_role("button", name="Sign out").click()
        await field.wait_for()
        assert not await opened.page.context.cookies()


async def test_a_reservation_goes_through_its_states_before_one_s_eyes(browser: Browser, engine: Running) -> None:
    async with signed_in(browser, engine) as opened:
        async with held(engine) as request_idx:
            await opened.page.get_by_text(re.compile("1 of [12] held")).wait_for()
            await opened.page.evaluate(f"history.pushState(null, '', '/reservation?id={request_idx}')")
            await opened.page.reload()
            await opened.shows(f"Request {request_idx} holds worker ")
            stages = {stage for _, stage, _ in engine.server.keeper.history.reservations[request_idx].stages}
            assert stages >= {"granted", "session"}  # it waits only where no worker is free
            for stage in stages:
                await opened.page.get_by_role("region", name="Stages").get_by_text(stage).wait_for()
        await opened.shows(f"Request {request_idx} is over")
        await opened.page.get_by_role("region", name="Stages").get_by_text("ended").wait_for()


async def test_why_one_waited_is_answered_for_a_past_moment(browser: Browser, engine: Running) -> None:
    async with held(engine), held(engine), NullClient(engine.url, engine.key) as client:
        third = tasks.start(_reserved_for_a_moment(client))
        history = engine.server.keeper.history
        await until(lambda: any(r.stage == "waiting" for r in history.reservations.values()))
        waiter = next(r.request_idx for r in history.reservations.values() if r.stage == "waiting")
        asked_at_s = history.reservations[waiter].asked_at_s
        async with signed_in(browser, engine, f"/waiting?endpoint={ENDPOINT}") as opened:
            await opened.shows("2 workers are held, and max_workers is 2")
            await opened.page.get_by_role("link", name=f"request {waiter}").click()
            await opened.shows("number 1 of 1")
            await until(lambda: engine.server.keeper.charts[engine.endpoint_id()][-1].waiting == 1)
            slider = opened.page.get_by_role("slider")
            await slider.focus()
            await opened.page.keyboard.press("ArrowLeft")
            await opened.page.wait_for_url(re.compile("at="))
            await opened.page.goto(f"{engine.url}/reservation?id={waiter}&at={asked_at_s + 1.5:.0f}")
            await opened.page.locator(".moment", has_text="because 2 workers are held, and max_workers is 2").wait_for()
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)


async def _reserved_for_a_moment(client: NullClient) -> None:
    async with reserve(ENDPOINT, client=client, cost=100):
        pass


async def test_a_parameter_is_previewed_refused_out_of_its_bounds_changed_and_written_down(
    browser: Browser, engine: Running
) -> None:
    async with signed_in(browser, engine) as opened:
        page = opened.page
        await page.get_by_text("Parameters", exact=True).click()
        field = page.get_by_label("target_util")
        await field.fill("7")
        await page.get_by_role("button", name="Preview").click()
        await opened.shows("target_util is 7, and must be from 0.01 to 1.")
        assert await field.get_attribute("aria-invalid") == "true"
        await field.fill("1.0")
        await page.get_by_label("min_load").fill("200")
        await page.get_by_role("button", name="Preview").click()
        await page.get_by_text(
            re.compile("This would create [12] worker|This would create, start and stop nothing")
        ).wait_for()
        await page.get_by_label("min_load").fill("0")
        await page.get_by_label("max_queue_time").fill("3")
        await page.get_by_label("Reason, for the audit log").last.fill("to see it change")
        await page.get_by_role("button", name="Apply").click()
        await opened.shows("Changed.")
        assert engine.server.catalog.by_name[ENDPOINT].parameters.max_queue_time == 3.0
        await page.get_by_role("link", name="Audit log").click()
        row = page.get_by_role("row").filter(has_text="to see it change")
        await row.get_by_text("max_queue_time 3").wait_for()
        await row.get_by_text("change an endpoint").wait_for()
        opened.complaints = [text for text in opened.complaints if "400" not in text]  # the value that was refused


async def test_a_drained_worker_keeps_its_job_and_goes_after_it(browser: Browser, engine: Running) -> None:
    async with signed_in(browser, engine) as opened:
        async with held(engine) as request_idx:
            worker_id = engine.server.keeper.history.reservations[request_idx].worker_id
            await opened.open(f"/worker?id={worker_id}")
            await opened.page.get_by_role("button", name="Drain").click()
            await opened.page.get_by_label("Reason, for the audit log").fill("its fan is loud")
            await opened.page.get_by_role("dialog").get_by_role("button", name="Drain").click()
            await opened.shows("It is drained: its fan is loud.")
            await until(lambda: engine.workers[worker_id] == "error")
            await opened.shows(f"is up because it holds request {request_idx}")
        await until(lambda: worker_id not in engine.workers)
        await opened.page.get_by_role("heading", name=f"Worker {worker_id} gone").wait_for()


async def test_what_a_job_costs_is_seen_and_an_operator_extends_and_ends_it(browser: Browser, engine: Running) -> None:
    async with signed_in(browser, engine) as opened, NullClient(engine.url, engine.key) as client:
        page = opened.page
        reservation = await client.open(ENDPOINT, cost=100, lifetime_s=60.0)
        number = reservation.request_idx
        await client.tell_job(reservation, "tile-17")
        await opened.open(f"/lanes?q=tile-17&worker={_worker_of(engine, number)}")
        await opened.shows(f"holds request {number} (tile-17)")
        await opened.open("/cost?by=job")
        await page.get_by_role("row").filter(has_text="tile-17").wait_for()
        await page.get_by_label("By").select_option("worker")
        await page.wait_for_url(re.compile("by=worker"))
        await page.get_by_role("row").filter(has_text=f"worker {_worker_of(engine, number)}").wait_for()
        await opened.open(f"/reservation?id={number}")
        await page.get_by_text(re.compile(r"^\d+\.\d{4}: held \d")).wait_for()
        extending = tasks.start(engine.call("POST", "/api/v0/extend/", {"request_idx": number, "seconds": 1_800}))
        await page.get_by_role("button", name="End this request").click()
        await page.get_by_label("Reason, for the audit log").fill("its job hangs")
        await page.get_by_role("dialog").get_by_role("button", name="End this request").click()
        assert await extending == (200, {"success": True})
        await opened.shows(f"Request {number} is over")
        assert not await reservation.is_open()
        _, audit = await engine.call("GET", "/api/v0/audit/?tail=5")
        acts = {row["what"]: (row["why"], row["outcome"]) for row in audit["rows"]}
        assert acts["extend a request"] == ("", "done")
        assert acts["end a request"] == ("its job hangs", "done")
        await reservation.release()


def _worker_of(engine: Running, request_idx: int) -> int:
    return engine.server.keeper.history.reservations[request_idx].worker_id


async def test_the_terminal_shows_and_does_the_same(engine: Running, capsys: pytest.CaptureFixture[str]) -> None:
    async def said(*arguments: str, code: int = 0) -> str:
        where = ("--instance", engine.url, "--api-key", engine.key)
        assert await asyncio.to_thread(main.run, main.build(), [*arguments, *where]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    async with held(engine) as request_idx:
        _, view = await engine.call("GET", "/api/v0/view/?view=cost&by=worker")
        assert float(view["whole"]["total"]) > 0
        assert re.search(r"null-test .* \d+\.\d{4}", await said("cost"))
        rows = list(csv.DictReader((await said("cost", "--by", "job", "--csv")).splitlines()))
        whole = json.loads(await said("cost", "--by", "day", "--since", "-1h", "--json"))["whole"]
        assert sum(Decimal(row["total"]) for row in rows) <= Decimal(whole["total"])
        assert f"request {request_idx}" in [row["job"] for row in rows]
        assert (await engine.call("GET", "/api/v0/view/?view=cost&by=colour"))[1]["field"] == "by"
        assert (await engine.call("GET", "/api/v0/view/?view=cost&since=soon"))[1]["field"] == "since"
        assert "would" in await said("change", ENDPOINT, "max_queue_time=4", "--preview")
        assert engine.server.catalog.by_name[ENDPOINT].parameters.max_queue_time != 4
        await said("change", ENDPOINT, "max_queue_time=4", "--reason", "by a command")
        assert engine.server.catalog.by_name[ENDPOINT].parameters.max_queue_time == 4
        assert "has no parameter speed" in await said("change", ENDPOINT, "speed=4", code=1)
        worker_id = _worker_of(engine, request_idx)
        told = await said("replace", str(worker_id), "--dry-run")
        assert told.startswith(f"Worker {worker_id} goes after request {request_idx}; ")
        assert await said("replace", "99999", code=1) == (
            "error: There is no worker 99999; `nullworker status` lists them.\n"
        )
        assert "There is no request 99999" in await said("end", "99999", code=1)
        assert "is no time up to 30 days" in await said("extend", "99999", "soon", code=2)
        assert "by a command" in await said("audit")
        story = await said("explain", "request", str(request_idx))
        assert re.search(r"It cost \d+\.\d{4}: \d+\.\d{4} held, ", story)
        assert "It cost" in await said("explain", "worker", str(worker_id))


async def test_a_key_to_read_with_sees_and_is_offered_nothing_to_do(browser: Browser, engine: Running) -> None:
    async with tab(browser, engine.url) as opened:
        _, key = engine.server.keys.ring.create("wall", Role.READ)
        await opened.sign_in(key.reveal())
        await opened.shows('key "wall", which changes nothing')
        await opened.page.get_by_role("heading", name=ENDPOINT).wait_for()
        for name in ("Suspend", "Apply", "Preview"):
            assert await opened.page.get_by_role("button", name=name).count() == 0
        status = await opened.page.evaluate(
            "fetch('/api/v0/endptjobs/1/', {method: 'PUT', body: '{\"max_workers\": 9}'}).then((a) => a.status)"
        )
        assert status == 403


async def test_what_is_filtered_is_in_the_address(browser: Browser, engine: Running) -> None:
    async with signed_in(browser, engine, "/decisions") as opened:
        await opened.page.get_by_label("Filter").fill("worker_ready")
        await opened.page.wait_for_url(re.compile(r"q=worker_ready"))
        await opened.page.get_by_label("Level").select_option("1")
        await opened.page.wait_for_url(re.compile(r"level=1"))
        await opened.page.reload()
        assert await opened.page.get_by_label("Filter").input_value() == "worker_ready"


async def test_by_keyboard_alone(browser: Browser, engine: Running) -> None:
    async with held(engine), signed_in(browser, engine) as opened:
        keys = opened.page.keyboard
        await opened.page.get_by_role("heading", name="Overview").wait_for()
        await keys.press("g")
        await keys.press("d")
        await opened.page.get_by_role("heading", name="Decisions").wait_for()
        await opened.shows("create")
        await keys.press("/")
        await keys.type("grant")
        await keys.press("Escape")
        await keys.press("j")
        assert await opened.page.evaluate("document.activeElement.tagName") == "A"
        await keys.press("?")
        await opened.page.get_by_role("dialog", name="Keys").wait_for()
        await keys.press("Escape")
        await opened.page.get_by_role("dialog").wait_for(state="hidden")
        await keys.press("Control+k")
        await opened.page.get_by_role("dialog", name="Go to").wait_for()
        await keys.type("worker 1")
        await keys.press("Enter")
        await opened.page.get_by_role("heading", name=re.compile("Worker 1")).wait_for()
        await keys.press("g")
        await keys.press("l")
        await opened.page.get_by_role("group", name=re.compile("Lanes of workers")).focus()
        await keys.press("ArrowDown")
        await keys.press("ArrowLeft")
        await opened.page.wait_for_url(re.compile(r"worker=\d+.*at=\d+|at=\d+.*worker=\d+"))
        await opened.page.locator(".moment", has_text="Worker").wait_for()


@pytest.mark.parametrize(("scheme", "size"), [pytest.param("light", "desk", marks=pytest.mark.long), ("dark", "phone")])
async def test_nothing_keeps_people_out(browser: Browser, engine: Running, scheme: Any, size: str) -> None:
    settings: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce"}
    if size == "phone":
        settings |= {"viewport": PHONE, "has_touch": True}
    async with held(engine) as request_idx, signed_in(browser, engine, **settings) as opened:
        for path in [*VIEWS, f"/reservation?id={request_idx}"]:
            await opened.open(path)
            await opened.page.get_by_role("heading").first.wait_for()
            await opened.page.get_by_text("Asking the engine…").wait_for(state="hidden")
            for summary in await opened.page.locator("summary").all():
                await summary.click()
            assert await opened.violations() == [], path
            wide = await opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} is {wide} px wider than the screen"


async def test_a_hidden_tab_asks_for_nothing_and_goes_on_when_it_is_seen(browser: Browser, engine: Running) -> None:
    async with signed_in(browser, engine) as opened:
        await opened.page.get_by_text(re.compile("data 0 s old")).wait_for()
        hide = (
            "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
            " document.dispatchEvent(new Event('visibilitychange')); }"
        )
        live = _live(engine)
        await until(lambda: live.streams == 1)
        await opened.page.evaluate(hide, True)
        await until(lambda: live.streams == 0)
        await opened.page.evaluate(hide, False)
        await until(lambda: live.streams == 1)


def _live(engine: Running) -> Any:
    return engine.server.surface._live


async def test_a_lost_connection_is_seen_and_comes_back_by_itself(browser: Browser, tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    port = str(free_port())
    try:
        process, said = await engines.start(port=port)
        async with tab(browser, said["url"]) as opened:
            await opened.sign_in(key_of(said))
            await opened.page.get_by_text(re.compile("data 0 s old")).wait_for()
            process.kill()
            await process.wait()
            await opened.shows("Connection lost, trying again")
            await engines.start(port=port)
            await opened.page.get_by_text("Connection lost, trying again").wait_for(state="hidden")
            await opened.page.get_by_text(re.compile("data 0 s old")).wait_for()
            assert await opened.page.get_by_role("button", name="Sign out").count() == 1
    finally:
        await engines.end()


async def test_what_came_before_a_restart_is_still_explained(tmp_path: Path) -> None:
    """Asked over HTTP alone: the lanes of the engine before, and why its endpoint was as it was."""
    settings = config(tmp_path, quick(max_workers=1))
    async with running(settings) as first, held(first):
        await until(lambda: first.server.keeper.charts[first.endpoint_id()][-1].held == 1)
        then = first.server.keeper.charts[first.endpoint_id()][-1].at_s
    async with running(settings) as second:
        status, lanes = await second.call("GET", "/api/v0/view/?view=lanes")
        assert status == 200
        assert [state for _, state in lanes["lanes"][0]["states"]][:1] == ["asked"]
        about = f"endpoint%20{second.endpoint_id()}"
        status, moment = await second.call("GET", f"/api/v0/moment/?about={about}&at={then}")
        assert status == 200
        assert "1 worker held" in moment["answer"]
