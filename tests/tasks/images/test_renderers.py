"""Images are drawn in processes of their own: one that dies or hangs costs the image that did it, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.images import renderers
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.items import Item, Locator
from lookbook.tasks.images.parquet import from_parquet, manifest_table, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import Rejected, render
from lookbook.tasks.images.render_process import read_shared, write_shared
from lookbook.tasks.images.renderers import Renderer, RendererDiedError, Renderers
from tests.support.command import ROOT
from tests.support.deadly_renderer import BROKEN, DEADLY, DEADLY_ONCE, HANGING, HUNGRY
from tests.support.pipeline import SMALL, photo

HASTY = SMALL.model_copy(update={"max_seconds": 1.0})


@pytest.fixture
def pool() -> Iterator[Renderers]:
    for others in renderers._shared.values():  # which other tests of this process left idle
        others.close()
    pool = Renderers(2)
    yield pool
    pool.close()


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, pool: Renderers) -> Renderers:
    """Processes that die or hang where a file says so."""
    monkeypatch.setattr(renderers, "COMMAND", ("-P", "-m", "tests.support.deadly_renderer"))
    return pool


def drawing() -> list[psutil.Process]:
    """The processes that draw for this one."""
    return [p for p in psutil.Process().children() if "lookbook.tasks.images.render_process" in p.cmdline()]


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_another_process_gives_what_this_one_gives(pool: Renderers) -> None:
    for number in range(3):
        assert pool.render(photo(number), SMALL, {"standard", "grey"}) == render(
            photo(number), SMALL, {"standard", "grey"}
        )


def test_a_reject_comes_with_its_rule_and_message(pool: Renderers) -> None:
    for data in (b"", b"no image", photo(1)[:400]):
        with pytest.raises(Rejected) as here:
            render(data, SMALL, SMALL.outputs)
        with pytest.raises(Rejected) as there:
            pool.render(data, SMALL, SMALL.outputs)
        assert (there.value.rule, there.value.message) == (here.value.rule, here.value.message)


def test_one_process_serves_one_image_after_the_other(pool: Renderers) -> None:
    before = set(psutil.Process().children())
    for number in range(5):
        pool.render(photo(number), SMALL, SMALL.outputs)
    assert len(set(psutil.Process().children()) - before) == 1


def test_a_file_that_kills_its_decoder_is_a_decode_error(deadly: Renderers) -> None:
    with pytest.raises(Rejected, match=r"died.*Segmentation") as reject:
        deadly.render(DEADLY, SMALL, SMALL.outputs)
    assert reject.value.rule == "decode_error"
    assert deadly.render(photo(1), SMALL, SMALL.outputs).files


def test_a_file_that_makes_its_decoder_hang_in_c_is_a_timeout(deadly: Renderers) -> None:
    with pytest.raises(Rejected, match="1 s, the recipe's max_seconds") as reject:
        deadly.render(HANGING, HASTY, SMALL.outputs)
    assert reject.value.rule == "timeout"
    assert deadly.render(photo(1), HASTY, SMALL.outputs).files


def test_memory_that_does_not_suffice_twice_is_a_decode_error(deadly: Renderers) -> None:
    with pytest.raises(Rejected, match="memory") as reject:
        deadly.render(HUNGRY, SMALL, SMALL.outputs)
    assert reject.value.rule == "decode_error"


def test_an_innocent_victim_is_drawn_by_the_next_process(deadly: Renderers, tmp_path: Path) -> None:
    victim = photo(1) + DEADLY_ONCE + os.fsencode(tmp_path / "mark")
    assert deadly.render(victim, SMALL, {"thumb"}) == render(victim, SMALL, {"thumb"})
    assert (tmp_path / "mark").exists()


def test_processes_that_were_killed_while_they_were_idle_cost_no_image(pool: Renderers) -> None:
    drawn_at_once = [threading.Thread(target=pool.render, args=(photo(n), SMALL, {"thumb"})) for n in range(8)]
    for thread in drawn_at_once:
        thread.start()
    for thread in drawn_at_once:
        thread.join()
    for child in drawing():
        child.kill()
        child.wait()
    assert pool.render(photo(1), SMALL, {"thumb"}) == render(photo(1), SMALL, {"thumb"})


def test_the_second_attempt_is_a_new_process(pool: Renderers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that look alive may be about to die of what killed the first one."""
    pool._idle += [Renderer(), Renderer()]
    for one in pool._idle:
        one._process.kill()
        one._process.wait()
    monkeypatch.setattr(Renderer, "is_alive", lambda _: True)
    assert pool.render(photo(1), SMALL, {"thumb"}).files


def test_a_process_that_draws_for_too_long_ends_itself() -> None:
    """So does one that nobody waits for any more."""
    code = "import time; from lookbook.tasks.images.render_process import guarded; guarded(lambda: time.sleep(30), 0.1)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == -signal.SIGALRM


def test_a_process_that_stands_still_is_a_timeout(pool: Renderers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderers, "SECONDS_TO_ANSWER", 0.1)
    still = Renderer()
    still._process.send_signal(signal.SIGSTOP)
    with pytest.raises(RendererDiedError) as death:
        still.render(photo(1), SMALL.model_dump_json(), {"thumb"}, 0.1)
    assert death.value.code == -signal.SIGALRM
    assert still._process.returncode == -signal.SIGKILL
    pool._idle.append(still := Renderer())
    still._process.send_signal(signal.SIGSTOP)
    assert pool.render(photo(1), HASTY, {"thumb"}).files


def test_what_stops_a_service_leaves_the_processes_alone(pool: Renderers) -> None:
    pool.render(photo(1), SMALL, {"thumb"})
    (child,) = drawing()
    for number in (signal.SIGTERM, signal.SIGHUP):
        child.send_signal(number)
    assert pool.render(photo(2), SMALL, {"thumb"}).files
    assert drawing() == [child]


def test_a_time_limit_holds_where_the_alarm_was_ignored_and_blocked(deadly: Renderers) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with pytest.raises(Rejected, match="max_seconds"):
            deadly.render(HANGING, HASTY, SMALL.outputs)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.signal(signal.SIGALRM, before)


def test_images_are_drawn_where_there_are_no_standard_streams(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys; os.closerange(0, 3); from lookbook.tasks.images.renderers import Renderers;"
        "from tests.support.pipeline import SMALL, photo;"
        "pathlib.Path(sys.argv[1]).write_text(' '.join(Renderers(1).render(photo(1), SMALL, ['thumb']).files))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, tmp_path / "drawn"], check=True, env=environment, timeout=60)
    assert (tmp_path / "drawn").read_text() == "thumb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_gets_processes_of_its_own() -> None:
    """Two that ask one process would get each other's pictures."""
    here = renderers.shared(1)
    pid = os.fork()
    if not pid:
        os._exit(renderers.shared(1) is here)
    assert os.waitpid(pid, 0)[1] == 0
    assert renderers.shared(1) is here


def test_batches_that_begin_at_once_share_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Renderers):
        def __init__(self, most: int, command: tuple[str, ...] | None = None) -> None:
            super().__init__(most, command)
            with suppress(threading.BrokenBarrierError):
                both.wait(0.3)  # for another that makes them, too

    both = threading.Barrier(2)
    monkeypatch.setattr(renderers, "Renderers", Slow)
    monkeypatch.setattr(renderers, "_shared", {})
    with ThreadPoolExecutor(2) as batches:
        one, other = (batches.submit(renderers.shared, 7) for _ in range(2))
        assert one.result() is other.result()


def test_an_original_of_gigabytes_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives at most two gigabytes a call: here, a hundred bytes."""
    whole = os.pread
    with tempfile.TemporaryFile() as file:
        length = write_shared(file.fileno(), photo(1))
        monkeypatch.setattr(os, "pread", lambda descriptor, count, at: whole(descriptor, min(count, 100), at))
        assert read_shared(file.fileno(), length) == photo(1)


def test_processes_that_die_leave_no_descriptors_and_no_zombies(deadly: Renderers) -> None:
    def held() -> tuple[int, int]:
        return psutil.Process().num_fds(), len(psutil.Process().children())

    before = held()
    for _ in range(3):
        with pytest.raises(Rejected):
            deadly.render(DEADLY, SMALL, {"thumb"})
    assert held() == before


def test_a_fault_in_our_code_is_raised_with_its_place_and_is_no_images_outcome(deadly: Renderers) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a fault in our code"):
        deadly.render(BROKEN, SMALL, SMALL.outputs)


def test_a_process_that_cannot_start_says_why(pool: Renderers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderers, "COMMAND", ("-c", "raise SystemExit('numpy is not here')"))
    with pytest.raises(LookbookError, match="numpy is not here"):
        pool.render(photo(1), SMALL, SMALL.outputs)


@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux shows a process's environment")
def test_no_secret_of_this_process_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_secret")
    renderer = Renderer()
    try:
        child = next(p for p in psutil.Process().children() if "lookbook.tasks.images.render_process" in p.cmdline())
        assert "secret" not in str(child.environ())
    finally:
        renderer.close()


def test_an_interrupt_of_the_terminal_leaves_the_processes_alone(pool: Renderers) -> None:
    pool.render(photo(1), SMALL, SMALL.outputs)
    child = next(p for p in psutil.Process().children() if "lookbook.tasks.images.render_process" in p.cmdline())
    child.send_signal(signal.SIGINT)
    assert pool.render(photo(2), SMALL, SMALL.outputs) == render(photo(2), SMALL, SMALL.outputs)
    assert child.is_running()


def test_the_processes_end_with_the_one_that_started_them() -> None:
    script = (
        "import sys, time; from lookbook.tasks.images.renderers import shared;"
        "from lookbook.tasks.images.recipe import Recipe;"
        "shared(1).render(sys.stdin.buffer.read(), Recipe(), ['thumb']); print('drawn', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent:
        parent.stdin.write(photo(1))
        parent.stdin.close()
        assert parent.stdout.readline() == b"drawn\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child outlived its parent")


def test_of_a_batch_only_the_culprits_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderers, "COMMAND", ("-P", "-m", "tests.support.deadly_renderer"))
    pool = Renderers(2)
    monkeypatch.setattr("lookbook.tasks.images.batch.shared", lambda _: pool)
    files = {f"{number}.jpg": photo(number) for number in range(12)}
    files |= {"deadly.jpg": photo(20) + DEADLY, "hanging.jpg": photo(21) + HANGING, "hungry.jpg": photo(22) + HUNGRY}
    lake = FolderLake(root=tmp_path / "lake")
    rows = _done(lake, tmp_path, files, HASTY)
    pool.close()
    assert {key: row["rule"] for key, row in rows.items() if row["rule"]} == {
        "deadly.jpg": "decode_error",
        "hanging.jpg": "timeout",
        "hungry.jpg": "decode_error",
    }
    assert {row["status"] for key, row in rows.items() if key[0].isdigit()} == {"ok"}
    assert lake.get(rows["deadly.jpg"]["original_key"]) == files["deadly.jpg"]


def _done(lake: FolderLake, folder: Path, files: dict[str, bytes], recipe: Recipe) -> dict[str, dict[str, str]]:
    items = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        items.append(Item(name, name, Locator("file", os.fsencode(folder / name), size=len(data))))
    metadata = {"recipe": recipe.model_dump_json(), "recipe_digest": "r", "dataset": "things"}
    lake.put("batches/b/manifest.parquet", to_parquet(manifest_table(items), metadata))
    process_batch(lake, "batches/b", 2)
    return {row["key"]: row for row in from_parquet(lake.get("batches/b/part.parquet"))[0].to_pylist()}
