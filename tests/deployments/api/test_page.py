"""The page's files: served with what protects them, from a fixed list, complete in themselves."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from lookbook.deployments.api.routes.page import FILES
from tests.support.api import Api, problem

#: By which a text could become a script, or the key stay behind.
WAYS = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "cookie",
    "localStorage",
)
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))


@pytest.mark.parametrize("path", ["/", *(f"/static/{name}" for name in FILES)])
def test_each_file_comes_with_its_type_a_policy_and_a_tag(api: Api, path: str) -> None:
    answer = api.http.get(path)
    assert answer.status_code == 200
    kind = {"css": "text/css", "js": "text/javascript"}.get(path.rpartition(".")[2], "text/html")
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    again = api.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == policy


def test_scripts_and_styles_of_its_own_alone_may_run(api: Api) -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in api.http.get("/").headers["content-security-policy"].split(";")
    )
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"


@pytest.mark.parametrize("name", ["none.js", "__init__.py", "..%2Fpage.py", "%2e%2e/app.py", "index.html%00.js"])
def test_what_is_no_file_of_the_page_is_not_there(api: Api, name: str) -> None:
    problem(api.http.get(f"/static/{name}"), 404, "not-found")


def test_all_files_of_the_folder_are_served_or_python() -> None:
    names = {file.name for file in resources.files("lookbook.deployments.page").iterdir()} - {"__pycache__"}
    assert names - set(FILES) == {"__init__.py"}
    assert len(SCRIPTS) > 8


def test_nothing_comes_from_elsewhere_and_nothing_stands_inline() -> None:
    for name, file in FILES.items():
        text = file.content.decode()
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text), name
    page = FILES["index.html"].content.decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "<style" not in page
    assert re.findall(r"\s(?:on\w+|style)=", page) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_make_no_html_of_texts_and_import_what_is_there(name: str) -> None:
    text = FILES[name].content.decode()
    for way in WAYS:
        assert way not in text, way
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert imported in FILES
    assert len(text.splitlines()) <= 220
