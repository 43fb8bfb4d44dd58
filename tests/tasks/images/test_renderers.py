"""Images are drawn in processes of their own: one that dies or hangs costs the image that did it, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from blocks.errors import LookbookError
from blocks.lake import FolderLake
from tasks.images import renderers
from tasks.images.batch import process_batch
from tasks.images.items import Item, Locator
from tasks.images.parquet import from_parquet, manifest_table, to_parquet
from tasks.images.recipe import Recipe
from tasks.images.render import Rejected, render
from tasks.images.renderers import Renderer, Renderers
from tests.support.deadly_renderer import BROKEN, DEADLY, DEADLY_ONCE, HANGING, HUNGRY
from tests.support.pipeline import SMALL, photo

HASTY = SMALL.model_copy(update={"max_seconds": 1.0})


@pytest.fixture
def pool() -> Iterator[Renderers]:
    pool = Renderers(2)
    yield pool
    pool.close()


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, pool: Renderers) -> Renderers:
    """Processes that die or hang where a file says so."""
    monkeypatch.setattr(renderers, "COMMAND", ("-P", "-m", "tests.support.deadly_renderer"))
    return pool


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
        child = next(p for p in psutil.Process().children() if "tasks.images.render_process" in p.cmdline())
        assert "secret" not in str(child.environ())
    finally:
        renderer.close()


def test_an_interrupt_of_the_terminal_leaves_the_processes_alone(pool: Renderers) -> None:
    pool.render(photo(1), SMALL, SMALL.outputs)
    child = next(p for p in psutil.Process().children() if "tasks.images.render_process" in p.cmdline())
    child.send_signal(signal.SIGINT)
    assert pool.render(photo(2), SMALL, SMALL.outputs) == render(photo(2), SMALL, SMALL.outputs)
    assert child.is_running()


def test_the_processes_end_with_the_one_that_started_them() -> None:
    script = (
        "import sys, time; from tasks.images.renderers import shared; from tasks.images.recipe import Recipe;"
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
    monkeypatch.setattr("tasks.images.batch.shared", lambda _: pool)
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
