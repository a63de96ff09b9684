"""The live page in headless Chromium, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from anyio.to_thread import run_sync
from browser import Browser, why_not
from contract_help import LONG, Gate
from loopworkers_asgi import Page, Workers, with_workers
from web_help import answer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.parametrize("server", ["uvicorn-asyncio"], indirect=True),
]

MARKUP = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>"
TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def browser(nothing_is_left: None) -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, status=404)


async def until(browser: Browser, condition: str, *args: Any) -> None:
    """Wait until a JavaScript expression is true."""
    with anyio.fail_after(LONG):
        while not await run_sync(browser.run, f"return Boolean({condition})", *args):  # noqa: ASYNC110
            await anyio.sleep(0.02)


async def text(browser: Browser, selector: str) -> str:
    return await run_sync(browser.text, selector)


async def shows(browser: Browser, selector: str, wanted: str) -> None:
    try:
        await until(
            browser,
            # With blanks around it, so that "0 %" is not found in "100 %".
            "` ${document.querySelector(arguments[0])?.innerText} `.includes(arguments[1])",
            selector,
            wanted,
        )
    except TimeoutError:
        raise AssertionError(f"{selector} shows {await text(browser, selector)!r}") from None


async def test_it_shows_what_the_workers_do(browser: Browser, gate: Gate, server: str) -> None:
    workers = Workers(max_workers=1, name="<i>shop</i>")

    def fail() -> None:
        raise ValueError(MARKUP)

    fail.__qualname__ = MARKUP
    async with serving(with_workers(nothing, workers, page=Page()), server) as port:
        await run_sync(browser.open, f"http://127.0.0.1:{port}/loopworkers")
        await shows(browser, "#status", "live")
        assert await text(browser, "#name") == "<i>shop</i>"
        await shows(browser, "#utilisation .value", " 0 %")
        await shows(browser, "#failures-title + .note", "None so far.")

        calls = [workers.run(work.hold, str(gate)), workers.run(work.echo, "a secret")]
        await gate.begun()
        await shows(browser, "#workers", "contract_gate.hold")
        await shows(browser, "#workers", "busy")
        await shows(browser, "#queue .value", " 1 ")
        await shows(browser, "#utilisation .value", " 100 %")
        gate.open()
        for call in calls:
            await call
        await shows(browser, "#utilisation .value", " 0 %")
        await shows(browser, "#queue .value", " 0 ")
        await shows(browser, "#outcomes", "completed\t2")

        with pytest.raises(ValueError, match="script"):
            await workers.run(fail)
        await shows(browser, "#failures summary .call", MARKUP)
        await shows(browser, "#failures summary .error", f"ValueError: {MARKUP}")
        await run_sync(browser.run, "document.querySelector('#failures details').open = true")
        await shows(browser, "#failures pre", "raise ValueError(MARKUP)")
        await shows(browser, "#failures pre", f"ValueError: {MARKUP}")
        assert not await run_sync(browser.run, "return document.querySelector('#failures img')")

        await until(browser, "document.querySelectorAll('#delay .line').length === 1")
        # Longer than one response takes: it goes on where that has ended, and tells nothing twice.
        await run_sync(browser.run, "window.points = series.queue.length")
        await until(browser, "series.queue.length >= window.points + 5")
        assert await text(browser, "#status") == "live"
        assert await run_sync(browser.run, "return $('failures').children.length") == 1
        assert await run_sync(browser.run, "return document.title") == "<i>shop</i> · loopworkers"
        assert "a secret" not in await run_sync(browser.run, "return document.body.innerHTML")
        assert await run_sync(browser.errors) == []
    await shows(browser, "#status", "disconnected")


async def test_it_finds_the_application_again(browser: Browser, server: str) -> None:
    port = 0
    for life in (1, 2):
        workers = Workers("thread", max_workers=1, name=f"life {life}")
        app = with_workers(nothing, workers, page=Page())
        async with serving(app, server, port=port) as port:
            with pytest.raises(ValueError, match="seven"):
                await workers.run(int, "seven")
            if life == 1:
                await run_sync(browser.open, f"http://127.0.0.1:{port}/loopworkers")
            await shows(browser, "#status", "live")
            await shows(browser, "#name", f"life {life}")
            await until(browser, "$('failures').children.length === 1")
        await shows(browser, "#status", "disconnected")


async def test_the_token_does_not_stay_in_the_address(browser: Browser, server: str) -> None:
    workers = Workers("thread", max_workers=1)
    app = with_workers(nothing, workers, page=Page("/in/pool", token=TOKEN))
    async with serving(app, server) as port:
        address = f"http://127.0.0.1:{port}/in/pool"
        await run_sync(browser.open, address)
        await shows(browser, "body", "This page needs its token")
        assert "401" in str(await run_sync(browser.errors))
        pages = await run_sync(browser.run, "return history.length")
        await run_sync(browser.open, f"{address}?token={TOKEN}")
        await shows(browser, "#status", "live")
        assert await run_sync(browser.url) == address
        assert await run_sync(browser.run, "return document.cookie") == ""
        assert await run_sync(browser.errors) == []
        assert await run_sync(browser.run, "return history.length") == pages + 1


@pytest.mark.parametrize("width", [360, 1200])
async def test_it_is_as_wide_as_the_window(browser: Browser, server: str, width: int) -> None:
    workers = Workers("thread", max_workers=2)

    def fail() -> None:
        raise ValueError("x" * 500)

    async with serving(with_workers(nothing, workers, page=Page()), server) as port:
        with pytest.raises(ValueError, match="x"):
            await workers.run(fail)
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        await run_sync(lambda: browser.devtools("Emulation.setDeviceMetricsOverride", **size))
        await run_sync(browser.open, f"http://127.0.0.1:{port}/loopworkers")
        await until(browser, "document.querySelector('#failures details')")
        await run_sync(browser.run, "document.querySelector('#failures details').open = true")
        assert await run_sync(browser.run, "return document.body.scrollWidth") <= width
