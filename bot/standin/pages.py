"""Pages for people: look at everything, and act as whoever was picked (no passwords; this machine alone).

What a person does goes through the same functions as the REST calls, with that person's permissions. A form counts only
if it comes from a page of this origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pygit2
from aiohttp import web
from jinja2 import Environment, FileSystemLoader

from bot.standin import markup, rest, verdicts, views
from bot.standin.access import Caller
from bot.standin.rest import Call
from bot.standin.state import ApiError, Item, Json, Repository, State, User

SITE = Path(__file__).with_name("site")
COOKIE = "who"
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip
_API = "app|apps|users|user|orgs|repos|repositories|installation|app-manifests|graphql|search|settings|_standin|-"
_REPO = rf"/{{owner:(?!(?:{_API})/)[^/]+}}/{{repo:[^/]+}}"
_ISSUE, _PULL = rf"{_REPO}/issues/{{number:\d+}}", rf"{_REPO}/pull/{{number:\d+}}"

Page = Callable[[web.Request], Awaitable[web.Response]]


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(SITE), autoescape=True, trim_blocks=True)
    made.filters["markdown"] = markup.markdown
    made.filters["document"] = partial(markup.markdown, breaks=False)
    made.filters["clock"] = lambda moment: f"{moment:%d %b %H:%M:%S}"
    made.filters["instant"] = datetime.isoformat
    made.filters["path"] = quote
    made.filters["roles"] = lambda roles: ", ".join(f"{login} {role}" for login, role in sorted(roles.items()))
    return made


class Site:
    """Pages over one state. Line comments of a review that is still being written are kept here."""

    def __init__(self, state: State) -> None:
        self.state, self._jinja = state, _environment()
        self._pending: dict[tuple[int, int, str], list[Json]] = {}

    # --- looking -----------------------------------------------------------------------------------------------------
    def who(self, request: web.Request) -> User | None:
        """Who was picked."""
        login = request.cookies.get(COOKIE, "")
        return self.state.users[login] if login in views.people(self.state) else None

    def repo(self, request: web.Request) -> Repository:
        """The repository of the path."""
        return self.state.repository(request.match_info["owner"], request.match_info["repo"])

    def item(self, request: web.Request, *, pull: bool) -> tuple[Repository, Item]:
        """The issue or pull request of the path."""
        repo = self.repo(request)
        return repo, self.state.item(repo, int(request.match_info["number"]), pull=pull)

    def page(self, request: web.Request, template: str, status: int = 200, **shown: Any) -> web.Response:
        """A template with what every page needs."""
        repo = shown.get("repo")
        text = self._jinja.get_template(template).render(
            seq=self.state.seq, who=self.who(request), people=views.people(self.state), this=request.path_qs,
            root=f"/{repo.full_name}" if repo else "", **shown,
        )  # fmt: skip
        return web.Response(text=text, content_type="text/html", status=status, headers=SAFE)

    async def home(self, request: web.Request) -> web.Response:
        return self.page(request, "home.html", repositories=self.state.repositories.values(), still=True)

    async def code(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        shown = views.tree(repo, f"/{repo.full_name}", request.match_info.get("rest", ""))
        return self.page(request, "code.html", repo=repo, tab="code", still=True, **shown)

    async def branches(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        found = [(ref.removeprefix("refs/heads/"), sha) for ref, sha in sorted(repo.refs().items())
                 if ref.startswith("refs/heads/")]  # fmt: skip
        return self.page(request, "branches.html", repo=repo, tab="code", branches=found, still=True)

    async def commits(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        ref, sha, _ = views.split_ref(repo, request.match_info["rest"])
        return self.page(request, "commits.html", repo=repo, tab="code", ref=ref, found=views.commits(repo, sha))

    async def commit(self, request: web.Request) -> web.Response:
        repo, sha = self.repo(request), request.match_info["sha"]
        try:
            found = views.commit(repo.git()[sha].peel(pygit2.Commit))
        except (KeyError, ValueError, pygit2.GitError):
            raise ApiError(404, f"There is no commit {sha[:10]} here") from None
        files = markup.diff(repo.git(), next(iter(found["parents"]), None), sha)
        runs = views.runs(repo, sha)
        return self.page(
            request, "commit.html", repo=repo, tab="code", commit=found, files=files, runs=runs, still=True
        )

    async def issues(self, request: web.Request) -> web.Response:
        return self._listing(request, pulls=False)

    async def pulls(self, request: web.Request) -> web.Response:
        return self._listing(request, pulls=True)

    def _listing(self, request: web.Request, *, pulls: bool) -> web.Response:
        repo, shown = self.repo(request), "closed" if request.query.get("state") == "closed" else "open"
        listed = views.listing(repo, shown, pulls=pulls)
        return self.page(request, "items.html", repo=repo, tab="pulls" if pulls else "issues", still=True, **listed)

    async def new(self, request: web.Request) -> web.Response:
        return self.page(request, "new.html", repo=self.repo(request), tab="issues")

    async def issue(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        item = self.state.item(repo, int(request.match_info["number"]))
        if item.head_ref is not None:
            raise web.HTTPSeeOther(f"/{repo.full_name}/pull/{item.number}")
        return self.page(request, "issue.html", repo=repo, tab="issues", **views.issue(repo, item))

    async def pull(self, request: web.Request) -> web.Response:
        repo, item = self.item(request, pull=True)
        part, me = request.match_info.get("part", "talk"), self.who(request)
        shown = views.pull(self.state, repo, item, part, me, self._comments(repo, item, me))
        shown |= {"at": request.query.get("at", ""), "here": f"/{repo.full_name}/pull/{item.number}"}
        return self.page(request, "pull.html", repo=repo, tab="pulls", still=part == "commits", **shown)

    async def run(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        check = verdicts.check_of(repo, request.match_info["check"])
        actions = check["actions"] if check["status"] == "completed" else []
        output = check.get("output") or {}
        return self.page(
            request, "run.html", repo=repo, tab="code", check=check, output=output, actions=actions, still=True
        )

    # --- acting ------------------------------------------------------------------------------------------------------
    def _comments(self, repo: Repository, item: Item, me: User | None) -> list[Json]:
        return self._pending.setdefault((repo.id, item.number, me.login if me else ""), [])

    async def pick(self, request: web.Request) -> web.Response:
        form = await request.post()
        login, back = str(form.get("login", "")), str(form.get("back", "/"))
        if login not in views.people(self.state):
            raise ApiError(404, f"There is no {login} here")
        answer = web.HTTPSeeOther(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/")
        answer.set_cookie(COOKIE, login, httponly=True, samesite="Strict")
        raise answer

    async def _call(self, request: web.Request, handler: Any, body: Json) -> web.Response:
        """What a REST call of the picked person would do. Raises ApiError."""
        me = self.who(request)
        if me is None:
            raise ApiError(403, "Pick who you are at the top of the page first")
        answer: web.Response = await handler(Call(self.state, request, Caller(user=me), body))
        return answer

    async def open(self, request: web.Request) -> web.Response:
        form = await request.post()
        body = {"title": str(form.get("title", "")), "body": _lines(form.get("body"))}
        await self._call(request, rest.create_issue, body)
        raise web.HTTPSeeOther(f"{request.path}/{max(self.repo(request).items)}")

    async def comment(self, request: web.Request) -> web.Response:
        form = await request.post()
        await self._call(request, rest.create_comment, {"body": _lines(form.get("body"))})
        return self._back(request)

    async def change_state(self, request: web.Request) -> web.Response:
        form = await request.post()
        if _lines(form.get("body")).strip():
            await self._call(request, rest.create_comment, {"body": _lines(form.get("body"))})
        await self._call(request, rest.patch_issue, {"state": str(form.get("state"))})
        return self._back(request)

    async def label(self, request: web.Request) -> web.Response:
        name = str((await request.post()).get("label", "")).strip()
        await self._call(request, rest.add_labels, {"labels": [name] if name else []})
        return self._back(request)

    async def unlabel(self, request: web.Request) -> web.Response:
        await self._call(request, rest.remove_label, {})
        return self._back(request)

    async def line(self, request: web.Request) -> web.Response:
        repo, item = self.item(request, pull=True)
        form = await request.post()
        path, _, number = str(form.get("at", "")).rpartition(":")
        if not path or not number.lstrip("-").isdigit():
            raise ApiError(422, "A line comment needs a file and a line")
        side = "LEFT" if number.startswith("-") else "RIGHT"
        made = {"path": path, "line": abs(int(number)), "side": side, "body": _lines(form.get("body"))}
        await self._call(request, verdicts.may_review, {})
        self._comments(repo, item, self.who(request)).append(made)
        raise web.HTTPSeeOther(f"/{repo.full_name}/pull/{item.number}/files#{quote(path)}:{number}")

    async def review(self, request: web.Request) -> web.Response:
        repo, item = self.item(request, pull=True)
        form = await request.post()
        pending = self._comments(repo, item, self.who(request))
        body = {"event": str(form.get("event")), "body": _lines(form.get("body")), "comments": list(pending),
                "commit_id": str(form.get("commit_id"))}  # fmt: skip
        await self._call(request, verdicts.create_review, body)
        pending.clear()
        raise web.HTTPSeeOther(f"/{repo.full_name}/pull/{item.number}")

    async def press(self, request: web.Request) -> web.Response:
        await self._call(
            request, verdicts.press_as_caller, {"identifier": str((await request.post()).get("identifier"))}
        )
        raise web.HTTPSeeOther(request.path)

    def _back(self, request: web.Request) -> web.Response:
        repo = self.repo(request)
        item = self.state.item(repo, int(request.match_info["number"]))
        raise web.HTTPSeeOther(f"/{repo.full_name}/{'pull' if item.head_ref else 'issues'}/{item.number}")

    def shown(self, page: Page) -> Page:
        """With errors as pages, and forms from elsewhere refused."""

        async def answer(request: web.Request) -> web.Response:
            try:
                if request.method == "POST" and request.headers.get("Origin") != f"http://{request.host}":
                    raise ApiError(403, "This form did not come from a page of this site")
                if request.host != self.state.url.partition("//")[2]:
                    raise ApiError(403, f"This site is {self.state.url}")  # another name may be somebody's rebinding
                return await page(request)
            except ApiError as error:
                found = error.body.get("errors", [])
                errors = [one if isinstance(one, str) else one.get("message") or one["code"] for one in found]
                back = request.path if request.method == "GET" else request.headers.get("Referer", "/")
                back = "/" if back == request.path else back
                return self.page(request, "error.html", error.status, error=error, errors=errors, back=back)

        return answer


def _lines(value: object) -> str:
    """A form's text with the line ends that everybody else uses."""
    return str(value or "").replace("\r\n", "\n")


def routes(state: State) -> list[web.RouteDef]:
    """All pages, their style, and the script that keeps them current."""
    site = Site(state)

    def asset(name: str) -> Page:
        async def answer(request: web.Request) -> web.Response:
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            return web.Response(text=(SITE / name).read_text("utf-8"), content_type=kind, headers=SAFE)

        return answer

    look: list[tuple[str, Page]] = [
        ("/", site.home), ("/-/style.css", asset("style.css")), ("/-/live.js", asset("live.js")), (_REPO, site.code),
        (f"{_REPO}/{{kind:tree|blob}}/{{rest:.+}}", site.code), (f"{_REPO}/branches", site.branches),
        (f"{_REPO}/commits/{{rest:.+}}", site.commits), (f"{_REPO}/commit/{{sha:[0-9a-f]{{40}}}}", site.commit),
        (f"{_REPO}/issues", site.issues), (f"{_REPO}/issues/new", site.new), (_ISSUE, site.issue),
        (f"{_REPO}/pulls", site.pulls), (_PULL, site.pull), (f"{_PULL}/{{part:commits|files}}", site.pull),
        (rf"{_REPO}/runs/{{check:\d+}}", site.run),
    ]  # fmt: skip
    act: list[tuple[str, Page]] = [
        ("/-/who", site.pick), (f"{_REPO}/issues", site.open), (f"{_ISSUE}/comments", site.comment),
        (f"{_ISSUE}/state", site.change_state), (f"{_ISSUE}/labels", site.label),
        (f"{_ISSUE}/labels/{{label:.+}}/remove", site.unlabel), (f"{_PULL}/line", site.line),
        (f"{_PULL}/reviews", site.review), (rf"{_REPO}/runs/{{check:\d+}}", site.press),
    ]  # fmt: skip
    return [web.get(path, site.shown(page)) for path, page in look] + [
        web.post(path, site.shown(page)) for path, page in act
    ]
