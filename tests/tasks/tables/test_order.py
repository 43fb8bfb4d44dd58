"""Which tasks run, in which order, and which need not."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookbook.tasks.tables.planning import Order
from lookbook.tasks.tables.spec.pipeline import Pipeline


def made(**after: list[str]) -> Pipeline:
    """A pipeline of SQL tasks and, without `after`, of extracts; names that begin with m are models."""
    tasks: dict[str, Any] = {}
    for name, before in after.items():
        if name.startswith("m"):
            tasks[name] = {"after": before, "models": {"a": {"sql": "a.sql", "key": "k"}}}
        else:
            tasks[name] = {"after": before, "sql": "a.sql"} if before else {"source": {"type": "file", "path": "a"}}
    return Pipeline.model_validate({"name": "p", "tasks": tasks})


def run(pipeline: Pipeline, unchanged: set[str], chance: random.Random | None = None) -> tuple[list[str], set[str]]:
    """Run all that is ready, in any order; gives what was done, and what was left."""
    order, done, waiting = Order(pipeline), list[str](), list[str]()
    while True:
        waiting += order.ready()
        if not waiting:
            return done, set(order.left)
        name = waiting.pop(chance.randrange(len(waiting)) if chance else 0)
        assert set(pipeline.tasks[name].after) <= set(done)
        done.append(name)
        order.done(name, unchanged=name in unchanged)


def test_all_run_after_those_that_they_take_from() -> None:
    done, left = run(made(a=[], b=["a"], c=["a"], d=["b", "c"]), set())
    assert (done[0], done[-1], left) == ("a", "d", set())


def test_what_nothing_new_reaches_is_left_and_the_rest_is_not() -> None:
    pipeline = made(a=[], b=[], a1=["a"], b1=["b"], a2=["a1"])
    assert run(pipeline, {"a"})[1] == {"a1", "a2"}
    assert run(pipeline, {"a", "b"})[1] == {"a1", "a2", "b1"}


def test_what_is_unchanged_is_made_anyhow_for_what_needs_it() -> None:
    """A join of a new file with an old look-up table needs both."""
    pipeline = made(trips=[], zones=[], tidy=["zones"], only=["tidy"], joined=["trips", "tidy"])
    done, left = run(pipeline, {"zones"})
    assert "tidy" in done
    assert left == {"only"}


def test_models_alone_run_always_and_behind_a_load_only_when_that_runs() -> None:
    assert run(made(m=[]), set()) == (["m"], set())
    assert run(made(a=[], b=["a"], m=["b"]), {"a"})[1] == {"b", "m"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_task_runs_if_and_only_if_something_that_it_serves_has_a_new_extract(data: st.DataObject) -> None:
    names = [f"t{number}" for number in range(data.draw(st.integers(1, 8)))]
    after = {
        name: data.draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        for n, name in enumerate(names)
    }
    pipeline = made(**after)
    roots = {name for name, before in after.items() if not before}
    unchanged = data.draw(st.sets(st.sampled_from(sorted(roots))))
    done, left = run(pipeline, unchanged, random.Random(data.draw(st.integers())))  # noqa: S311 - an order, no secret
    new = {name for name in names if (set(pipeline.upstream(name)) & roots) - unchanged and name not in roots}
    wanted = roots | new | {before for name in new for before in pipeline.upstream(name)}
    assert set(done) == wanted
    assert left == set(names) - wanted
    assert len(done) == len(set(done))
