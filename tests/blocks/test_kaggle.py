"""Logging in at Kaggle, and its dataset calls, by its own client on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from lookbook.blocks.errors import LookbookError, MissingError, TransientError
from lookbook.blocks.kaggle import KaggleCredentials
from tests.support.kaggle_server import Dataset, KaggleServer, kaggle
from tests.support.loopback import Fault

pytestmark = pytest.mark.usefixtures("server")

FILES = {f"images/{number:03}.jpg": bytes([number]) * 10 for number in range(250)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KaggleServer]:
    """Kaggle, asked from a machine that is not logged in."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with kaggle(
        public=Dataset([FILES]), private=Dataset([FILES, FILES], private=True), terms=Dataset([FILES], consent=True)
    ) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.api.url)
        yield server


def token(value: str) -> KaggleCredentials:
    return KaggleCredentials(token=SecretStr(value))


def test_public_datasets_take_no_credentials_and_private_ones_do() -> None:
    assert KaggleCredentials().datasets().current_version("ann", "public") == 1
    with pytest.raises(LookbookError, match=r"403.*denied") as refused:
        KaggleCredentials().datasets().current_version("ann", "private")
    assert "Without credentials" in refused.value.way_out


@pytest.mark.parametrize(
    "credentials", [token("good-token"), KaggleCredentials(username="ann", key=SecretStr("good-key"))]
)
def test_a_token_or_a_user_with_key_reads_private_datasets(credentials: KaggleCredentials) -> None:
    assert credentials.datasets().current_version("ann", "private") == 2


def test_what_the_block_holds_goes_before_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kaggle's own client would take the token of the environment, whatever user and key it is given."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "another-token")
    given = KaggleCredentials(username="ann", key=SecretStr("good-key"))
    assert given.datasets().current_version("ann", "private") == 2
    with pytest.raises(LookbookError, match="401"):
        KaggleCredentials().datasets().current_version("ann", "private")


def test_a_machine_that_is_logged_in_needs_no_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "ann", "key": "good-key"}')
    assert KaggleCredentials().datasets().current_version("ann", "private") == 2
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    with pytest.raises(LookbookError, match="401"):
        KaggleCredentials().datasets().current_version("ann", "private")
    (tmp_path / ".kaggle" / "access_token").write_text("good-token\n")
    assert KaggleCredentials().datasets().current_version("ann", "private") == 2


@pytest.mark.parametrize("half", [{"username": "ann"}, {"key": "secret-key"}])
def test_half_a_login_is_refused_and_its_secret_not_told(half: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="go together") as refused:
        KaggleCredentials.model_validate(half)
    assert "secret-key" not in str(refused.value)


def test_each_refusal_has_its_name() -> None:
    with pytest.raises(LookbookError, match="401") as wrong:
        token("stale-token").datasets().current_version("ann", "public")
    with pytest.raises(LookbookError, match="403") as consent:
        token("good-token").datasets().current_version("ann", "terms")
    with pytest.raises(MissingError, match="404") as unknown:
        token("good-token").datasets().current_version("ann", "nothing")
    assert "settings" in wrong.value.way_out
    assert "https://www.kaggle.com/datasets/ann/terms" in consent.value.way_out
    assert "no such dataset" in unknown.value.way_out
    assert "stale-token" not in repr(wrong.value)


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (Fault(status=429, headers={"Retry-After": "7"}), 7.0),
        (Fault(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), 0.0),
        (Fault(status=429), None),
        (Fault(status=503), None),
        (Fault(cut=True), None),
    ],
)
def test_what_may_pass_says_how_long_to_wait(server: KaggleServer, fault: Fault, wait: float | None) -> None:
    server.api.inject(fault)
    with pytest.raises(TransientError) as passing:
        KaggleCredentials().datasets().current_version("ann", "public")
    assert passing.value.wait == wait


def test_files_are_listed_page_by_page(server: KaggleServer) -> None:
    assert list(KaggleCredentials().datasets().file_names("ann", "public", 1)) == list(FILES)
    assert server.api.calls["datasets.ListDatasetFiles"] == 2


def test_credentials_go_to_kaggle_and_not_to_the_storage_it_points_to(server: KaggleServer) -> None:
    """The stand-in of the storage refuses a request that carries both a signature and credentials."""
    datasets = token("good-token").datasets()
    with datasets.opened("ann", "private", 2) as whole:
        data = b"".join(whole.chunks)
    with datasets.opened("ann", "private", 2, start=100, validator=whole.validator) as rest:
        assert (rest.start, rest.size, rest.md5) == (100, whole.size, whole.md5)
        assert b"".join(rest.chunks) == data[100:]
    assert server.ranges() == ["", "", "bytes=100-"]


def test_another_file_by_now_is_read_from_its_start() -> None:
    with KaggleCredentials().datasets().opened("ann", "public", 1, start=100, validator='"old"') as whole:
        assert whole.start == 0


def test_a_file_that_changes_between_two_requests_is_read_anew(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address still shows the old one; its rest is asked for, and is another one's by then."""
    answers = iter([b"old" * 100, b"old" * 100, b"new" * 100])
    monkeypatch.setattr(server, "_bytes", lambda _: next(answers))
    datasets = KaggleCredentials().datasets()
    with datasets.opened("ann", "public", 1) as old:
        validator = old.validator
    with datasets.opened("ann", "public", 1, start=100, validator=validator) as new:
        assert (new.start, b"".join(new.chunks)) == (0, b"new" * 100)
        assert new.validator != validator


def test_a_signed_address_is_in_no_error(server: KaggleServer) -> None:
    server.storage.inject(Fault(status=400))
    with pytest.raises(TransientError) as failed, KaggleCredentials().datasets().opened("ann", "public", 1):
        pass
    assert "Signature" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_a_kaggle_that_stands_still_is_not_waited_for(server: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookbook.blocks.kaggle_api.TIMEOUT", (5.0, 0.1))
    server.api.inject(Fault(latency=2.0, count=1))
    with pytest.raises(TransientError):
        KaggleCredentials().datasets().current_version("ann", "public")


def test_a_page_that_is_no_answer_of_kaggles_is_a_fault_that_may_pass(server: KaggleServer) -> None:
    server.api.inject(Fault(status=200, headers={"Content-Type": "text/html"}))
    with pytest.raises((TransientError, LookbookError)):
        KaggleCredentials().datasets().current_version("ann", "public")
