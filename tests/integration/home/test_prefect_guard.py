"""The Prefect server of a home: no page of another site and no other user of the machine gets in."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.workspace import local_workspace
from tests.support.command import environment, lookbook
from tests.support.loopback import Request, Response, Route, serving
from tests.support.prefect_processes import HANG, Server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(shared_home: Path) -> Server:
    local_workspace(shared_home)
    return Server(shared_home, prefect_server.start(shared_home))


def asked(server: Server, *, key: bool, **headers: str) -> httpx.Response:
    """Make a flow, as a page could: without a Content-Type, which needs no consent of the server."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"name": "evil"}).encode()
    return httpx.post(f"{server.url}/flows/", content=body, headers=named, auth=server.auth() if key else None)


def flows(server: Server) -> list[str]:
    """The flows that the server knows."""
    return [flow["name"] for flow in server.post("/flows/filter")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://shop.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Host": "shop.example"}, 421),
        ({"Host": "127.0.0.1.shop.example"}, 421),
    ],
    ids=lambda value: "-".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else "",
)
def test_a_page_of_another_site_changes_nothing_though_it_has_the_key(
    server: Server, headers: dict[str, str], status: int
) -> None:
    assert asked(server, key=True, **headers).status_code == status
    assert "evil" not in flows(server)


def test_another_user_of_the_machine_has_no_key(server: Server) -> None:
    assert asked(server, key=False).status_code == 401
    body = {"include_secrets": True}
    assert httpx.post(f"{server.url}/block_documents/filter", json=body).status_code == 401
    assert "evil" not in flows(server)
    assert httpx.get(f"{server.url}/health").is_success


@pytest.mark.parametrize(("name", "origin"), [("127.0.0.1", "https://shop.example"), ("shop.example", None)])
def test_a_socket_of_another_site_is_refused(server: Server, name: str, origin: str | None) -> None:
    port = int(server.url.removesuffix("/api").rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as wire,
        pytest.raises(InvalidStatus, match="403"),
        connect(
            f"ws://{name}:{port}/api/events/out",
            sock=wire,
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol("prefect")],  # what the server itself takes
        ),
    ):
        pass


def test_what_a_home_holds_is_for_its_owner_alone(server: Server) -> None:
    home = server.home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o755)  # as older releases left it
    local_workspace(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("auth", "profiles.toml", "prefect.db"):
        assert stat.S_IMODE((home / "prefect" / name).stat().st_mode) == 0o600, name


def test_prefects_own_command_signs_in_by_the_profile_in_the_home(server: Server) -> None:
    own = environment(server.home, PREFECT_HOME=str(server.home / "prefect"))
    command = [sys.executable, "-m", "prefect", "work-pool", "ls"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr


@contextmanager
def site(html: str) -> Iterator[str]:
    """Another site with one page; gives its address."""

    def answer(_: Request) -> Response:
        return Response(200, html.encode(), {"Content-Type": "text/html"})

    with serving(Route("page", "GET", "/.*", answer)) as service:
        yield service.url


ATTACK = """<!doctype html><form id="f" method="post" enctype="text/plain" target="frame" action="URL/flows/">
<input name='{"name":"evil-form","x":"' value='"}'></form><iframe name="frame"></iframe>
<script>
const body = name => new Blob([JSON.stringify({name})]);
const told = {};
async function main() {
  document.getElementById("f").submit();
  for (const mode of ["cors", "no-cors"])
    told[mode] = await fetch("URL/flows/", {method: "POST", mode, body: body("evil-" + mode)})
      .then(answer => answer.type, () => "refused");
  told.read = await fetch("URL/flows/filter", {method: "POST", body: "{}"}).then(a => a.text(), () => "refused");
  told.socket = await new Promise(done => {
    const socket = new WebSocket("URL/events/out".replace("http", "ws"), "prefect");
    socket.onopen = () => done("open"); socket.onerror = () => done("refused");
  });
  document.title = "done";
}
main();
</script>"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_gets_nothing_done_in_a_browser(server: Server, browser: Browser, host: str) -> None:
    url = server.url.replace("127.0.0.1", host)
    with site(ATTACK.replace("URL", url)) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        expect(page).to_have_title("done")
        told: dict[str, Any] = page.evaluate("told")
    assert told["cors"] == told["read"] == told["socket"] == "refused"
    assert not [name for name in flows(server) if name.startswith("evil")]


def test_the_link_that_serve_prints_signs_a_browser_in(server: Server, browser: Browser) -> None:
    base = server.url.removesuffix("/api").replace("127.0.0.1", "localhost")  # as people type it
    with browser.new_context(base_url=base) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_placeholder("admin:pass")).to_be_visible()
        page.goto(prefect_server.sign_in_path(server.home))
        expect(page.get_by_role("link", name="Deployments")).to_be_visible()
        assert quote(server.auth()[1]) not in page.url


def test_a_saved_workspace_is_asked_of_the_homes_server_and_of_no_other(server: Server) -> None:
    done = lookbook(server.home, "datasets", "--workspace", "moon")
    assert "--workspace moon: no workspace of that name is saved." in done.stderr
