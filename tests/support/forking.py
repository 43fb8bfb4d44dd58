"""Python processes that import no packages of others: forks of one that has them, which spares each a second and more.

Each is a process of its own with its own arguments, environment, folder and standard streams, in which nothing of
Prefect or of ours is imported yet: only what asks none of them for anything when it is imported.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory

#: What Prefect and we import of others; all but Prefect's integrations, which few need.
PACKAGES = [
    "amplitude",
    "asyncpg",
    "cyclopts",
    "duckdb",
    "fsspec",
    "griffe",
    "httpx",
    "humanize",
    "jinja2",
    "jsonschema",
    "numpy",
    "pandas",
    "pendulum",
    "PIL.ImageDraw",
    "prometheus_client",
    "psutil",
    "pyarrow.compute",
    "pyarrow.parquet",
    "pydantic.v1",
    "pydantic_settings",
    "rich.progress",
    "sqlglot",
    "tests.support.forking",
    "websockets.asyncio.client",
    "yaml",
]
#: Seconds after which such a process is taken for one that hangs.
TIMEOUT = 500


def run_python(
    code: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path,
    given: str = "",
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -c code arguments`` in a fork to its end; `given` is its standard input.

    Raises:
        subprocess.TimeoutExpired: it hangs; it was killed.
    """
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for file, text in zip(files, (given, "", ""), strict=True):
            file.write_text(text, encoding="utf-8")
        _start_forkserver()
        context = multiprocessing.get_context("forkserver")
        process = context.Process(
            target=_run, args=(code, arguments, dict(env), str(cwd), [str(file) for file in files])
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["python", "-c", code, *arguments], timeout)
        said = [file.read_text(encoding="utf-8") for file in files[1:]]
        return subprocess.CompletedProcess(["python", "-c", code, *arguments], process.exitcode, *said)


def _start_forkserver() -> None:
    """Start what forks, unless it runs. It is no process of the test that happens to come first."""
    test = os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        forkserver.set_forkserver_preload(PACKAGES)
        forkserver.ensure_running()
    finally:
        if test is not None:
            os.environ["PYTEST_CURRENT_TEST"] = test


def _run(code: str, arguments: Sequence[str], env: Mapping[str, str], cwd: str, files: Sequence[str]) -> None:
    """Become the process that was asked for, up to its end."""
    for number, file in enumerate(files):
        opened = os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in enumerate(("r", "w", "w"))
    )
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    try:
        exec(compile(code, "<string>", "exec"), vars(main))  # noqa: S102 - of our own tests
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # as at the end of each Python; multiprocessing leaves it out
        atexit._run_exitfuncs()
