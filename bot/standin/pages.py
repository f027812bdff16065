"""Plain pages for people: what there is, an issue, a pull request with its diff, a check run. Read-only."""

from __future__ import annotations

from html import escape

import pygit2
from aiohttp import web

from bot.standin.state import Item, Json, Repository, State, stamp

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}
a{color:#0969da;text-decoration:none}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:1.8rem}
.box{border:1px solid #d1d9e0;border-radius:6px;margin:1rem 0}
.box header{background:#f6f8fa;padding:.4rem .8rem;
border-bottom:1px solid #d1d9e0}
.box pre{padding:.6rem .8rem;margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit}
.pill{border-radius:1rem;padding:.1rem .6rem;color:#fff;background:#59636e;font-size:.85rem}
.open,.success{background:#1a7f37}.closed,.failure{background:#cf222e}.merged{background:#8250df}
.action_required{background:#9a6700}
pre.diff{font:13px/1.4 ui-monospace,monospace;overflow-x:auto;white-space:pre}
.diff .a{background:#dafbe1}.diff .d{background:#ffebe9}
.diff .h{color:#59636e}table{border-collapse:collapse;width:100%}
td,th{padding:.3rem .6rem;border-bottom:1px solid #d1d9e0;text-align:left}
"""


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><body>{body}</body></html>"
    )
    return web.Response(text=text, content_type="text/html")


def _pill(text: str) -> str:
    return f'<span class="pill {escape(text)}">{escape(text.replace("_", " "))}</span>'


def _box(who: str, when: str | None, text: str) -> str:
    visible = "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))
    return (
        f'<div class="box"><header><b>{escape(who)}</b> · {escape(when or "")}</header>'
        f"<pre>{escape(visible)}</pre></div>"
    )


def _state(item: Item) -> str:
    return "merged" if item.merged else item.state


def _checks(repo: Repository, sha: str) -> str:
    rows = ""
    for check in repo.checks.values():
        if check["head_sha"] == sha:
            state = check.get("conclusion") or check["status"]
            title = (check.get("output") or {}).get("title") or ""
            link = f"/{repo.full_name}/runs/{check['id']}"
            name = f'<a href="{link}">{escape(check["name"])}</a>'
            rows += f"<tr><td>{_pill(state)}</td><td>{name}</td><td>{escape(title)}</td></tr>"
    return f"<h2>Checks</h2><table>{rows}</table>" if rows else ""


def _diff(repo: Repository, old: str, new: str) -> str:
    git = repo.git()
    fork = git.merge_base(old, new)
    if fork is None:
        return ""
    text = git.diff(git[fork].peel(pygit2.Commit), git[new].peel(pygit2.Commit)).patch or ""
    lines = []
    for line in text.splitlines()[:4000]:
        kind = {"+": "a", "-": "d", "@": "h"}.get(line[:1], "")
        lines.append(f'<span class="{kind}">{escape(line)}</span>')
    return f'<h2>Files changed</h2><pre class="diff">{chr(10).join(lines)}</pre>'


def routes(state: State) -> list[web.RouteDef]:
    """Overview, issue, pull request, commit and check run."""

    def find(request: web.Request) -> Repository:
        info = request.match_info
        for repo in state.repositories.values():
            if repo.full_name == f"{info['owner']}/{info['repo']}":
                return repo
        raise web.HTTPNotFound(text="no such repository")

    def item_of(request: web.Request, repo: Repository) -> Item:
        found = repo.items.get(int(request.match_info["number"]))
        if found is None:
            raise web.HTTPNotFound(text="no such issue")
        return found

    async def overview(request: web.Request) -> web.Response:
        body = "<h1>Stand-in GitHub</h1><p>A local GitHub for one machine. Nothing here leaves it.</p>"
        for repo in state.repositories.values():
            rows = ""
            for item in sorted(repo.items.values(), key=lambda i: -i.number):
                kind = "pull" if item.head_ref else "issues"
                labels = " ".join(escape(name) for name in item.labels)
                rows += (
                    f'<tr><td>{_pill(_state(item))}</td><td><a href="/{repo.full_name}/{kind}/{item.number}">'
                    f"#{item.number} {escape(item.title)}</a></td><td>{labels}</td></tr>"
                )
            body += f"<h2>{escape(repo.full_name)}</h2><table>{rows}</table>"
        return _page("Stand-in GitHub", body)

    async def issue(request: web.Request) -> web.Response:
        repo = find(request)
        item = item_of(request, repo)
        body = f"<h1>{escape(item.title)} #{item.number}</h1>{_pill(_state(item))} {escape(' '.join(item.labels))}"
        body += _box(item.user.login, stamp(item.created), item.body)
        for comment in item.comments:
            body += _box(comment["user"].login, stamp(comment["created"]), comment["body"])
        return _page(item.title, body)

    async def pull(request: web.Request) -> web.Response:
        repo = find(request)
        item = item_of(request, repo)
        branches = f"{escape(item.head_ref or '')} → {escape(item.base_ref)}"
        body = f"<h1>{escape(item.title)} #{item.number}</h1>{_pill(_state(item))} {branches}"
        body += _box(item.user.login, stamp(item.created), item.body)
        for review in item.reviews:
            body += _box(f"{review['user'].login}: {review['state'].lower()}", stamp(review["at"]), review["body"])
        body += _checks(repo, item.head_sha) + _diff(
            repo, item.base_sha if not item.merged else _before(item), item.head_sha
        )
        return _page(item.title, body)

    def _before(item: Item) -> str:
        return item.base_sha

    async def commit(request: web.Request) -> web.Response:
        repo = find(request)
        try:
            found = repo.git()[request.match_info["sha"]].peel(pygit2.Commit)
        except (KeyError, ValueError):
            raise web.HTTPNotFound(text="no such commit") from None
        parent = str(found.parent_ids[0]) if found.parent_ids else str(found.id)
        body = f"<h1>{escape(str(found.id)[:12])}</h1>{_box(found.author.name, None, found.message)}"
        return _page(
            found.message.split("\n")[0], body + _checks(repo, str(found.id)) + _diff(repo, parent, str(found.id))
        )

    async def run(request: web.Request) -> web.Response:
        repo = find(request)
        check: Json | None = repo.checks.get(int(request.match_info["number"]))
        if check is None:
            raise web.HTTPNotFound(text="no such check run")
        output = check.get("output") or {}
        buttons = " ".join(
            f'<button disabled title="{escape(a["description"])}">{escape(a["label"])}</button>'
            for a in check.get("actions", [])
        )
        body = f"<h1>{escape(check['name'])}</h1>{_pill(check.get('conclusion') or check['status'])} {buttons}"
        return _page(check["name"], body + _box(output.get("title") or "", None, output.get("summary") or ""))

    return [
        web.get("/", overview),
        web.get("/{owner}/{repo}/issues/{number:\\d+}", issue),
        web.get("/{owner}/{repo}/pull/{number:\\d+}", pull),
        web.get("/{owner}/{repo}/commit/{sha:[0-9a-f]{40}}", commit),
        web.get("/{owner}/{repo}/runs/{number:\\d+}", run),
    ]
