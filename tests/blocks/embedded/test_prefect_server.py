"""The Prefect server of a home: found again by the next command, and stopped."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from prefect.settings import Settings

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.errors import LookbookError
from tests.support.homes import remove_home
from tests.support.loopback import Response, Route, serving
from tests.support.prefect_processes import Server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("prefect") / "home"
    folder.mkdir()
    yield folder
    remove_home(folder)


@pytest.mark.full
@pytest.mark.integration
def test_it_starts_is_found_again_and_stops(home: Path) -> None:
    url = prefect_server.start(home)
    assert prefect_server.is_on_sqlite(home)
    assert prefect_server.answers(url)
    pid = json.loads((home / "prefect" / "server.json").read_text())["pid"]
    assert prefect_server.start(home) == url
    assert prefect_server.running(home) == url
    assert prefect_server.stop(home) is True
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert prefect_server.running(home) is None


@pytest.mark.full
@pytest.mark.integration
def test_a_run_keeps_its_place_under_a_limit_when_the_server_is_started_again(home: Path) -> None:
    server = Server(home, prefect_server.start(home))
    server.post("/v2/concurrency_limits/", {"name": "places", "limit": 1})
    lease = server.post("/v2/concurrency_limits/increment-with-lease", {"names": ["places"], "slots": 1})["lease_id"]
    prefect_server.stop(home)
    server = Server(home, prefect_server.start(home))
    server.post(f"/v2/concurrency_limits/leases/{lease}/renew", {"lease_duration": 300})  # an error of HTTP raises
    assert prefect_server.stop(home) is True


def test_a_recorded_port_that_another_program_took_is_not_our_server(tmp_path: Path) -> None:
    class Imposter(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Imposter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path / "prefect"
    folder.mkdir()
    # The process of the record is this one, but it was started at another time: the id was used again.
    record = {"pid": psutil.Process().pid, "created": 1.0, "port": server.server_port}
    (folder / "server.json").write_text(json.dumps(record))
    try:
        assert prefect_server.answers(f"http://127.0.0.1:{server.server_port}/api")
        assert prefect_server.running(tmp_path) is None
        assert prefect_server.stop(tmp_path) is False
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "created": 0, "port": 1}'])
def test_a_damaged_record_is_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "server.json").write_text(text)
    assert prefect_server.running(tmp_path) is None


def recorded(home: Path, port: int, **more: bool) -> None:
    """Make this process the server of a home."""
    folder = home / "prefect"
    folder.mkdir(parents=True)
    own = psutil.Process()
    record = {"pid": own.pid, "created": own.create_time(), "port": port, "home": str(home), **more}
    (folder / "server.json").write_text(json.dumps(record))


def test_only_the_homes_own_server_is_known_to_be_on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not prefect_server.is_on_sqlite(tmp_path / "none")
    for kind in (True, False):
        recorded(tmp_path / str(kind), 4200, sqlite=kind)
        assert prefect_server.is_on_sqlite(tmp_path / str(kind)) is kind
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")  # as a worker of this home has it
    assert prefect_server.is_on_sqlite(tmp_path / "True")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    assert not prefect_server.is_on_sqlite(tmp_path / "True")


def test_a_server_too_busy_to_answer_is_waited_for_and_gets_no_twin(tmp_path: Path) -> None:
    answers = iter([Response(503), Response(503), Response(200)])
    with serving(Route("health", "GET", "/api/health", lambda _: next(answers))) as busy:
        recorded(tmp_path, int(busy.url.rpartition(":")[2]))
        assert prefect_server.start(tmp_path) == f"{busy.url}/api"
    assert next(answers, None) is None


def test_a_server_that_lives_and_never_answers_is_named_and_gets_no_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_server, "START_TIMEOUT", 0.2)
    recorded(tmp_path, prefect_server.free_port())
    before = (tmp_path / "prefect" / "server.json").read_text()
    with pytest.raises(LookbookError, match=rf"process {psutil.Process().pid}\) does not answer") as told:
        prefect_server.start(tmp_path)
    assert "lookbook stop" in told.value.way_out
    assert (tmp_path / "prefect" / "server.json").read_text() == before
    assert prefect_server.running(tmp_path) is not None


def test_the_users_own_server_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    home = tmp_path / "home"
    assert prefect_server.configured_api_url(home) is None
    (tmp_path / "profiles.toml").write_text(
        'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://team/api"\n[profiles.local]\n'
    )
    assert prefect_server.configured_api_url(home) == "http://team/api"
    monkeypatch.setenv("PREFECT_PROFILE", "local")
    assert prefect_server.configured_api_url(home) is None
    monkeypatch.setenv("PREFECT_API_URL", "http://mine/api")
    assert prefect_server.configured_api_url(home) == "http://mine/api"


def test_a_homes_own_server_is_none_that_the_user_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path, 4321)
    for url in ("http://127.0.0.1:4321/api", "http://localhost:4321/api/"):
        monkeypatch.setenv("PREFECT_API_URL", url)
        assert prefect_server.configured_api_url(tmp_path) is None
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect" / "profiles.toml").write_text(
        'active = "lookbook"\n[profiles.lookbook]\nPREFECT_API_URL = "http://127.0.0.1:4321/api"\n'
    )
    assert prefect_server.configured_api_url(tmp_path) is None


def test_clients_of_a_homes_server_read_one_authority_and_not_those_of_the_whole_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in prefect_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert len(ssl.create_default_context(cafile=Settings().api.ssl_cert_file).get_ca_certs()) == 1


def test_what_is_kept_for_how_long_is_what_prefect_understands_and_the_user_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in prefect_server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    kept = Settings().server
    assert kept.services.db_vacuum.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert kept.services.db_vacuum.retention_period == timedelta(days=30)
    assert kept.services.db_vacuum.event_retention_overrides == {"prefect.flow-run.heartbeat": timedelta(days=1)}
    assert kept.events.retention_period == timedelta(days=7)
    assert Settings().flows.heartbeat_frequency == 60
    monkeypatch.setenv("PREFECT_SERVER_EVENTS_RETENTION_PERIOD", "P2D")
    assert prefect_server.environment(tmp_path)["PREFECT_SERVER_EVENTS_RETENTION_PERIOD"] == "P2D"
