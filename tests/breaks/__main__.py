"""Break the code on purpose, one fault at a time, and see which tests notice: ``python -m tests.breaks``.

Each break of `breaks.yaml` is made in a copy of the tree and undone after it. Of the tests that it names, the fast set
runs first, then the full one; the first test that fails has caught it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
#: Seconds for the tests of one break; one that makes them hang is caught, too.
MAX_WAIT = 900
#: pytest's exit codes: some failed, interrupted by an error while collecting; all passed, none was there to run.
FAILED, PASSED = {1, 2}, {0, 5}
#: By this variable all is found that tests of a copy started.
MARK = "TESTS_OF_BREAKS"
SETS = {"fast": "not full", "full": "full"}


@dataclass(frozen=True)
class Break:
    """A fault that is made on purpose.

    Attributes:
        name: what is broken, as a sentence.
        file: in which it is, from the top of the tree.
        find: the text that stands there once.
        replace: what it becomes.
        tests: files or folders of tests that may notice.
        missed: why no test notices it, where that is accepted.
    """

    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    missed: str = ""

    def made(self, text: str) -> str:
        """The text of the file with the fault in it.

        Raises:
            ValueError: what is to be replaced does not stand there exactly once.
        """
        if text.count(self.find) != 1:
            raise ValueError(f"{self.name}: {self.file} has its text {text.count(self.find)} times, not once")
        return text.replace(self.find, self.replace)


@dataclass(frozen=True)
class Result:
    """What became of a break: the set that caught it (or ``none``), the test that did, and the seconds that it took."""

    name: str
    caught: str
    test: str
    seconds: float


def read_breaks() -> list[Break]:
    """Read the list of breaks."""
    rows = yaml.safe_load((Path(__file__).parent / "breaks.yaml").read_text(encoding="utf-8"))
    return [Break(**(row | {"tests": tuple(row["tests"])})) for row in rows]


def copy_tree(folder: Path) -> Path:
    """Copy what git would take along into `folder`, with ../shared beside it; returns the copy."""
    copy = folder / "tree"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and ((ROOT / name).is_file() or (ROOT / name).is_symlink()):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    if (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return copy


def try_break(copy: Path, broken: Break, sets: Sequence[str]) -> Result:
    """Make a break in the copy of the tree, run its tests, undo it."""
    path, began = copy / broken.file, time.monotonic()
    text = path.read_text(encoding="utf-8")
    path.write_text(broken.made(text), encoding="utf-8")
    try:
        for name in sets:
            test = run_tests(copy, SETS[name], broken.tests)
            if test is not None:
                return Result(broken.name, name, test, round(time.monotonic() - began, 1))
        return Result(broken.name, "none", "", round(time.monotonic() - began, 1))
    finally:
        path.write_text(text, encoding="utf-8")


def run_tests(copy: Path, marks: str, tests: Sequence[str]) -> str | None:
    """Run tests up to the first that fails; returns its name, None where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marks, *tests]
    with subprocess.Popen(
        command,
        cwd=copy,
        # Not all that a test starts has the tree as its folder: it would find what is installed, which is not broken.
        env=os.environ | {MARK: str(copy), "PYTHONPATH": str(copy)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            printed, _ = process.communicate(timeout=MAX_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return "one that hangs"
        finally:
            end_all_of(copy)
    if process.returncode in PASSED:
        return None
    if process.returncode < 0:
        return f"one that died by signal {-process.returncode}"
    if process.returncode not in FAILED:
        raise RuntimeError(f"pytest ended with {process.returncode}: {printed[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", printed.rpartition("short test summary info")[2], re.MULTILINE)
    return failed[1] if failed else "one without a name"


def end_all_of(copy: Path) -> None:
    """End what tests left running in a copy of the tree: a server outlives the test that it hung."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(copy):
                process.kill()
        except psutil.Error:
            continue


def try_all(breaks: Sequence[Break], sets: Sequence[str], jobs: int) -> Iterator[Result]:
    """Try the breaks, `jobs` of them at once, each in a copy of its own; gives results as they come."""
    waiting: queue.SimpleQueue[Break] = queue.SimpleQueue()
    results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
    for one in breaks:
        waiting.put(one)

    def work(folder: Path) -> None:
        try:
            copy = copy_tree(folder)
            while not waiting.empty():
                results.put(try_break(copy, waiting.get(), sets))
        except BaseException as error:  # noqa: BLE001 - the loop below raises it
            results.put(error)

    with tempfile.TemporaryDirectory(prefix="lookbook-breaks-", ignore_cleanup_errors=True) as folder:
        for number in range(jobs):
            own = Path(folder, str(number))
            own.mkdir()
            threading.Thread(target=work, args=(own,), daemon=True).start()
        for _ in breaks:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result


def main() -> None:
    """Try the breaks and print what caught each."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaks", description=main.__doc__)
    parser.add_argument("--only", default="", help="try those whose name or file holds this text")
    parser.add_argument("--sets", default="fast,full", help="the sets of tests to run, in order (fast,full)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--out", type=Path, help="write the results into this file, as JSON")
    given = parser.parse_args()
    chosen = [one for one in read_breaks() if given.only in one.name or given.only in one.file]
    if not chosen or given.jobs < 1:
        parser.error("no break has that text in its name or file, or nothing is to be done at once")
    found: list[Result] = []
    for result in try_all(chosen, given.sets.split(","), given.jobs):
        found.append(result)
        print(f"{len(found):3}/{len(chosen)} {result.caught:5} {result.seconds:6.1f} s  {result.name}", flush=True)  # noqa: T201
        print(f"                      {result.test}", flush=True)  # noqa: T201
        if given.out:
            given.out.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
    print(dict(Counter(one.caught for one in found)))  # noqa: T201
    accepted = {one.name for one in chosen if one.missed}
    sys.exit(any(one.caught == "none" and one.name not in accepted for one in found))


if __name__ == "__main__":
    main()
