"""Telling people: through blocks of any type, and never in the way of why a run failed."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import prefect.blocks.core
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.flows import endings


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []

    def send(name: str, subject: str, body: str) -> None:
        if name == "broken":
            raise ConnectionError("https://hooks.example/secret-token refused")
        found.append((name, subject, body))

    monkeypatch.setattr(endings, "_send", send)
    run = SimpleNamespace(name="pipeline-prices", ui_url="http://ui/runs/1")
    monkeypatch.setattr(endings, "runtime", SimpleNamespace(flow_run=run))
    return found


def fail(error: Exception, *blocks: str) -> None:
    with pytest.raises(type(error)), endings.telling("prices", blocks):
        raise error


def test_each_block_hears_of_a_failure_with_its_cause_and_the_link(sent: list[tuple[str, str, str]]) -> None:
    fail(LookbookError("a.csv is gone.", "Put it back."), "mail", "chat")
    assert [name for name, *_ in sent] == ["mail", "chat"]
    _, subject, body = sent[0]
    assert subject == "Lookbook: pipeline-prices failed"
    assert all(part in body for part in ("a.csv is gone.", "Put it back.", "http://ui/runs/1"))


def test_what_others_say_stays_in_the_log_because_it_may_name_a_secret(sent: list[tuple[str, str, str]]) -> None:
    fail(ValueError("postgresql://me:hush@host refused"), "mail")
    assert "ValueError" in sent[0][2]
    assert "hush" not in sent[0][2]


def test_a_block_that_breaks_hides_no_failure_and_names_no_address(
    sent: list[tuple[str, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        logger = logging.getLogger("prefect.lookbook.notifying")
        logger.propagate = True
        fail(LookbookError("It fails."), "broken", "mail")
    assert [name for name, *_ in sent] == ["mail"]
    assert "secret-token" not in caplog.text


def test_an_error_is_told_once_however_many_runs_it_passes_through(sent: list[tuple[str, str, str]]) -> None:
    error = LookbookError("It fails.")
    fail(error, "mail")
    fail(error, "mail")
    assert len(sent) == 1
    fail(LookbookError("Nobody is named."))
    assert len(sent) == 1


@pytest.mark.parametrize("awaitable", [False, True])
def test_blocks_that_know_one_way_only_are_called_in_that(monkeypatch: pytest.MonkeyPatch, awaitable: bool) -> None:
    heard: list[tuple[str, str]] = []

    class Block:
        def notify(self, body: str, subject: str) -> Any:
            async def later() -> None:
                heard.append((body, subject))

            return later() if awaitable else heard.append((body, subject))

    answer = SimpleNamespace(
        json=lambda: [
            {"block_schema": {"capabilities": ["get"]}, "block_type": {"slug": "secret"}},
            {"block_schema": {"capabilities": ["notify"]}, "block_type": {"slug": "chat"}},
        ]
    )
    client = SimpleNamespace(request=lambda *_, **__: answer)

    class Client:
        def __enter__(self) -> Any:
            return client

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(endings, "get_client", lambda **_: Client())
    monkeypatch.setattr(endings, "load_prefect_collections", lambda: None)
    loaded: list[str] = []

    def load(name: str, **_: Any) -> Block:
        loaded.append(name)
        return Block()

    monkeypatch.setattr(prefect.blocks.core.Block, "load", load)
    endings.notify(["mine"], "subject", "body")
    assert (loaded, heard) == (["chat/mine"], [("body", "subject")])
