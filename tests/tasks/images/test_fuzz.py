"""Damaged files of every kind: each is rendered, sanely, or rejected by a documented rule, and nothing else.

LOOKBOOK_FUZZ_SEED says where to start (anywhere).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import image_rules
from tests.support.fuzz import LONGEST_SECONDS, mutated
from tests.support.kinds import kinds
from tests.support.sets import sampled

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seconds", sampled([3, 60], fast=[3]))
@pytest.mark.timeout(60 + 3 * LONGEST_SECONDS)
def test_damaged_files_are_rendered_or_rejected_by_a_documented_rule(seconds: int) -> None:
    seed = os.environ.get("LOOKBOOK_FUZZ_SEED") or str(random.SystemRandom().randrange(10**9))
    command = [sys.executable, "-m", "tests.support.fuzz", str(seconds), seed]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 2 * LONGEST_SECONDS,
        check=False,
    )
    *cases, last = ended.stdout.splitlines()
    if ended.returncode:
        kind, case = json.loads(last)
        again = f"python -m tests.support.fuzz 1 {seed} {kind!r} {case}"
        pytest.fail(f"It ended with {ended.returncode}; again with: {again}\n{ended.stderr[-4000:]}")
    counts = json.loads(last)
    assert set(counts) - {"rendered"} <= image_rules(), f"seed {seed}"
    assert len(cases) == sum(counts.values())
    assert {json.loads(case)[0] for case in cases} == set(kinds()), "every kind had its turn"


def test_a_case_is_the_same_each_time_and_damages_something() -> None:
    files = {name: kind.data for name, kind in kinds().items()}
    for kind, data in files.items():
        cases = [mutated(files, kind, f"1 {kind} {number}") for number in range(8)]
        assert cases == [mutated(files, kind, f"1 {kind} {number}") for number in range(8)]
        assert sum(case != data for case in cases) >= 6
        assert len(set(cases)) >= 6
