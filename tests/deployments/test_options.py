"""Options whose help and bounds come from the types that flows and forms use too."""

from __future__ import annotations

import io
from typing import Annotated

import pytest
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from lookbook.deployments.command.options import with_checked_options
from lookbook.tasks.runs.parameters import BatchSize, DatasetName, Limit, RejectLimit

app = App(name="try", help_format="plaintext")


@app.command
@with_checked_options
def draw(
    name: DatasetName,
    /,
    *,
    limit: Limit | None = None,
    batch_size: BatchSize = 10,
    reject_limit: RejectLimit = 0.1,
    own: Annotated[str, Parameter(help="An option of its own.")] = "x",
    bare: bool = False,
) -> tuple[object, ...]:
    """Draw NAME."""
    return name, limit, batch_size, reject_limit, own, bare


def called(*tokens: str) -> object:
    return app(["draw", *tokens], exit_on_error=False, print_error=False, result_action="return_value")


def test_defaults_and_values_within_their_bounds_are_taken() -> None:
    assert called("fashion") == ("fashion", None, 10, 0.1, "x", False)
    given = ["fashion", "--limit", "1", "--batch-size", "1000000", "--reject-limit", "1", "--own", "y", "--bare"]
    assert called(*given) == ("fashion", 1, 1_000_000, 1.0, "y", True)


@pytest.mark.parametrize(
    ("tokens", "option", "takes"),
    [
        (["fashion", "--limit", "0"], "--limit", "Take only so many images"),
        (["fashion", "--limit", "-3"], "--limit", "Take only so many images"),
        (["fashion", "--batch-size", "1000001"], "--batch-size", "Images in one batch"),
        (["fashion", "--reject-limit", "1.01"], "--reject-limit", "0 to 1"),
        (["fashion", "--reject-limit", "nan"], "--reject-limit", "0 to 1"),
        (["Fashion"], "NAME", "lower-case letters"),
        (["fashion\n"], "NAME", "lower-case letters"),
        (["x" * 64], "NAME", "63 at the most"),
    ],
)
def test_a_value_out_of_bounds_names_the_option_and_what_it_takes(tokens: list[str], option: str, takes: str) -> None:
    with pytest.raises(CycloptsError) as caught:
        called(*tokens)
    assert option in str(caught.value)
    assert takes in str(caught.value)


def test_what_is_no_number_names_the_option() -> None:
    with pytest.raises(CycloptsError, match="--limit"):
        called("fashion", "--limit", "many")


def test_the_help_says_what_the_types_say() -> None:
    page = io.StringIO()
    app(["draw", "--help"], console=Console(file=page, width=200), exit_on_error=False, result_action="return_value")
    text = page.getvalue()
    for description in ("63 at the most", "Take only so many images", "Images in one batch", "Fail if a larger share"):
        assert description in text
    assert "An option of its own." in text
