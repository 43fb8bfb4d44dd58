"""The settings of this machine: their defaults, and what is said of values that they cannot take."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.settings import make_home, read_settings


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand in an empty folder, with no setting made."""
    for name in [name for name in os.environ if name.upper().startswith("LOOKBOOK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_settings_the_home_lies_in_the_current_folder(tmp_path: Path) -> None:
    settings = read_settings()
    assert settings.home == tmp_path / ".lookbook"
    assert settings.threads == os.cpu_count()
    assert settings.batches_at_once >= 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/data/lookbook", "/data/lookbook"),
        ("/data/../lookbook/", "/lookbook"),
        ("here/below", "{cwd}/here/below"),
        ("./a/../b c ü", "{cwd}/b c ü"),
        ("~/photos", "{user}/photos"),
        ("~", "{user}"),
        ("a~b", "{cwd}/a~b"),
    ],
)
def test_a_home_becomes_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("LOOKBOOK_HOME", given)
    assert read_settings().home == Path(meant.format(cwd=tmp_path, user="/home/somebody"))


def test_links_in_a_home_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("LOOKBOOK_HOME", "link/home")
    assert read_settings().home == tmp_path / "link" / "home"


def test_numbers_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBOOK_THREADS", "7")
    monkeypatch.setenv("LOOKBOOK_BATCHES_AT_ONCE", "3")
    monkeypatch.setenv("LOOKBOOK_SOMETHING_ELSE", "ignored")
    monkeypatch.setenv("LOOKBOOK_CHILDREN_AT_ONCE", "")  # as a line of a compose file without a value leaves it
    assert (read_settings().threads, read_settings().batches_at_once) == (7, 3)


@pytest.mark.parametrize("variable", ["LOOKBOOK_THREADS", "LOOKBOOK_BATCHES_AT_ONCE"])
@pytest.mark.parametrize("value", ["0", "-1", "257", "1.5", "many"])
def test_a_wrong_number_is_a_usage_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"^{variable}: ") as caught:
        read_settings()
    assert "environment variable" in caught.value.way_out


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_for_its_owner_alone_also_one_that_was_open(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    make_home(home)
    assert mode(home) == 0o700
    (home / "lake").mkdir()
    home.chmod(0o755)
    make_home(home)
    assert mode(home) == 0o700


def test_a_folder_that_holds_more_than_a_home_stays_open_and_the_home_in_it_does_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    home = tmp_path / "mine"
    home.mkdir()
    (home / "prefect").mkdir()
    (home / "photos").mkdir()
    (home / "inbox").symlink_to(outside)
    for path in (home, home / "prefect", home / "photos", outside):
        path.chmod(0o755)
    make_home(home)
    assert [mode(path) for path in (home, home / "prefect", home / "photos", outside)] == [0o755, 0o700, 0o755, 0o755]


def test_a_home_that_is_shared_keeps_its_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBOOK_HOME_SHARED", "true")
    tmp_path.chmod(0o775)
    make_home(tmp_path)
    assert mode(tmp_path) == 0o775
