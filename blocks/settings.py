"""Settings of this machine, from environment variables that start with ``LOOKBOOK_``; and which machine this is."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lookbook.blocks.errors import UsageError

#: Beside this package, in a checkout as in an installed wheel.
_PIPELINES = Path(__file__).absolute().parents[1] / "deployments" / "pipelines"


class Settings(BaseSettings):
    """Where the ``local`` workspace lives, and how much of the machine a run may take."""

    model_config = SettingsConfigDict(env_prefix="LOOKBOOK_", env_ignore_empty=True, extra="ignore")

    home: Annotated[Path, Field(description="Folder of the local workspace.")] = Path(".lookbook")
    home_shared: Annotated[
        bool, Field(description="Leave the home's permissions as they are: other users of this machine work in it.")
    ] = False
    registry_url: Annotated[
        SecretStr | None,
        Field(description="PostgreSQL of the local workspace's registry, in place of the embedded one."),
    ] = None
    pipelines: Annotated[Path, Field(description="Folder of the specs of pipelines.")] = _PIPELINES
    threads: Annotated[
        int, Field(ge=1, le=256, description="Images drawn at the same time, each in a process of its own.")
    ] = Field(default_factory=lambda: os.cpu_count() or 1)
    batches_at_once: Annotated[
        int, Field(ge=1, le=256, description="Batches under way at the same time on this machine.")
    ] = 2
    children_at_once: Annotated[
        int,
        Field(ge=1, le=1000, description="Batches sent at the same time to a work pool, or to a given Dask cluster."),
    ] = 8
    dask_address: Annotated[
        str | None,
        Field(description="Address of a Dask scheduler (tcp://host:8786); without one a local cluster is started."),
    ] = None

    @field_validator("home", "pipelines")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        try:
            folder = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
            str(folder).encode()
        except UnicodeEncodeError as error:
            raise ValueError("its name is not UTF-8, and manifests could not say where it is") from error
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return folder


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UsageError: a variable has a value that it cannot take; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "LOOKBOOK_" + "_".join(map(str, first["loc"])).upper()
        raise UsageError(f"{name}: {first['msg']}.", "Correct or unset this environment variable.") from error


#: What lies in a home.
_PARTS = {
    *("inbox", "lake", "postgres", "postgres.lock", "postgres.new", "prefect", "scratch", "socket", ".id"),
    *("lookbook.duckdb", "lookbook.duckdb.wal"),
}


def make_home(home: Path) -> None:
    """Make the folder of a home, and keep the other users of this machine out of it, unless LOOKBOOK_HOME_SHARED.

    It holds secrets of blocks beside the key that encrypts them. A folder that holds more than a home keeps its
    permissions; what is the home's in it is closed.

    Raises:
        OSError: it can't be made.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if read_settings().home_shared:
        return
    inside = list(home.iterdir())
    ours = [path for path in inside if path.name in _PARTS]
    for path in [home] if len(ours) == len(inside) else ours:
        found = path.lstat()
        others = stat.S_IRWXG | stat.S_IRWXO
        if found.st_uid == os.geteuid() and found.st_mode & others and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) & ~others)


def this_host() -> str:
    """Return the machine's name and a mark of the kernel and the container: names are not unique.

    Two processes with the same mark see each other's process ids, and the same folders.
    """
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        inside = Path("/proc/self/ns/pid").readlink()
    except OSError:  # not Linux: the name has to do
        return socket.gethostname()
    return f"{socket.gethostname()}/{hashlib.sha256(f'{booted}{inside}'.encode()).hexdigest()[:8]}"
