"""`interlock doctor`: everything that the server needs, one line a check, each failing one with how to mend it.

It looks and changes nothing, and works beside a running server.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import click
import yaml
from pydantic import TypeAdapter

from bot.app import bundled_cli, checked, policy_of
from bot.cli.configuration import MANIFEST, read_model, read_settings
from bot.cli.text import echo_json, one_line, plain
from bot.clock import SystemClock
from bot.errors import InterlockError, Misconfigured, Rejected, Transient
from bot.github.app import API_VERSION, Api, GitHubApp
from bot.github.survey import Survey, greet
from bot.github.tokens import Keeper
from bot.rules import doctor as judge
from bot.rules import policy
from bot.rules.doctor import Finding, fail, ok, warn
from bot.runners.sandbox import Sandbox, stage
from bot.server import MIN_FREE_BYTES
from bot.store.database import examined
from schemas.policy import ServerPolicy
from schemas.settings import Provider, Settings

MOST = 25
"""Repositories looked at, unless they are named."""
SECONDS = 30.0


@click.command()
@click.option("--repo", "named", multiple=True, metavar="OWNER/REPO", help="look at this one only (may be repeated)")
@click.option("--json", "as_json", is_flag=True)
def doctor(named: tuple[str, ...], as_json: bool) -> None:
    """Check everything that the server needs; exit 1 if a check fails."""
    report = Report(as_json)
    asyncio.run(_examine(report, named))
    if as_json:
        checks = [finding.model_dump() for finding in report.findings]
        echo_json({"ok": not report.failed, "checks": checks, "policies": report.policies})
    sys.exit(1 if report.failed else 0)


class Report:
    """What was found; said at once, unless all of it will be one document."""

    def __init__(self, quiet: bool) -> None:
        self.findings: list[Finding] = []
        self.policies: dict[str, dict[str, dict[str, Any]]] = {}
        self._quiet = quiet

    @property
    def failed(self) -> bool:
        """Whether any check has."""
        return any(finding.status == "fail" for finding in self.findings)

    def add(self, *found: Finding) -> None:
        """Take findings."""
        self.findings += found
        for finding in found if not self._quiet else ():
            click.echo(plain(" / ".join(str(finding).splitlines())))

    def hold(self, name: str, held: policy.Effective) -> None:
        """Take a repository's effective policy; only what somebody has set is said."""
        values = TypeAdapter(dict[str, Any]).dump_python(policy.leaves(held.policy), mode="json")
        self.policies[name] = {key: {"value": value, "source": held.sources[key]} for key, value in values.items()}
        for key in () if self._quiet else sorted(values):
            value = one_line(policy.shown(policy.leaves(held.policy)[key]))
            click.echo(f"      {name} {key} = {value}  ({held.sources[key]})")


async def _examine(report: Report, named: Sequence[str]) -> None:
    try:
        settings, provider = read_settings(), read_model()
        server = policy_of(settings)
    except Misconfigured as error:
        report.add(fail("settings", str(error), "mend it there; docs/settings.md has all keys"))
        return
    async for finding in _here(settings, provider):
        report.add(finding)
    try:
        app_id, key, _ = checked(settings)
    except Misconfigured as error:
        report.add(fail("settings", str(error), "run interlock setup"))
        return
    assert settings.private_key_file is not None
    report.add(
        warn("settings", f"{settings.private_key_file} can be read by others", "chmod 600")
        if settings.private_key_file.stat().st_mode & 0o077
        else ok("settings", f"App {app_id}, data in {settings.data_dir.resolve()}")
    )
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        keeper = Keeper(key, app_id)
        try:
            await _there(report, settings, server, session, app_id, keeper, named)
        except Misconfigured as error:
            report.add(fail("app", str(error), "a new one is made on the App's page"))
        except Transient as error:
            report.add(fail("github", str(error), "look at GITHUB_API_URL and the network, or try later"))
        except Rejected as error:
            mend = "do APP_ID and PRIVATE_KEY_FILE belong together? Make a new key on the App's page"
            report.add(fail("app", str(error), mend))
        finally:
            await keeper.close()


async def _here(settings: Settings, provider: Provider | None) -> AsyncIterator[Finding]:
    """This machine."""
    data = settings.data_dir.resolve()
    there = next(place for place in (data, *data.parents) if place.exists())
    yield judge.disk(shutil.disk_usage(there).free, MIN_FREE_BYTES)
    if not os.access(there, os.W_OK):
        yield fail("data", f"{there} cannot be written", f"chown it to the server's user, or set DATA_DIR (now {data})")
    seen = await asyncio.to_thread(examined, data / "interlock.db")
    yield judge.sqlite(seen.version)
    if seen.trouble:
        yield fail("database", seen.trouble, "docs/operations.md, Restore")
    else:
        yield ok("database", seen.said)
    if settings.sandbox == "off":
        yield warn("sandbox", "off", "agents and checks run as the server does: only for tests")
    else:
        async for finding in _sandboxed(settings):
            yield finding
    if settings.harness == "copilot":
        yield await _model(provider)


async def _sandboxed(settings: Settings) -> AsyncIterator[Finding]:
    """Whether agents can run confined, and the CLI in there, as a run's user."""
    with tempfile.TemporaryDirectory(prefix="interlock-doctor-", dir="/var/tmp", ignore_cleanup_errors=True) as place:
        os.chmod(place, 0o711)
        try:
            sandbox = Sandbox(settings.sandbox, Path(place) / "runs")
            if problems := await sandbox.self_test():
                yield fail("sandbox", "; ".join(problems), "docs/operations.md, Sandbox")
                return
        except Misconfigured as error:
            yield fail("sandbox", str(error), "docs/operations.md, Sandbox")
            return
        reduced = settings.sandbox == "reduced"
        yield (
            warn("sandbox", "reduced", "SANDBOX=required is safer")
            if reduced
            else ok("sandbox", "its probe gets nowhere")
        )
        if settings.harness != "copilot":
            return
        cli = settings.copilot_bin or bundled_cli()
        if cli is None or not cli.exists():
            yield fail("copilot", "there is no Copilot CLI", "run python3 dev.py setup, or set COPILOT_BIN")
            return
        cli = stage(cli, "copilot")
        folder = sandbox.area / "version"
        folder.mkdir()
        done = await sandbox.run(f"exec {cli} --version", folder, SECONDS, read_only=[cli.parent])
        yield judge.cli(done.exit_code, done.output)


async def _model(provider: Provider | None) -> Finding:
    """The model's list, which costs nothing."""
    if provider is None:
        return fail(
            "model", "there is none", "set COPILOT_PROVIDER_BASE_URL (your own) or COPILOT_GITHUB_TOKEN (Copilot's)"
        )
    key = provider.api_key.get_secret_value()
    name = {"openai": "Authorization", "azure": "api-key", "anthropic": "x-api-key"}[provider.type]
    headers = dict(provider.headers) | ({name: f"Bearer {key}" if provider.type == "openai" else key} if key else {})
    status, offered = 0, None
    try:
        async with aiohttp.request("GET", f"{provider.base_url.rstrip('/')}/models", headers=headers) as answer:
            status = answer.status
            offered = (
                [str(one["id"]) for one in (await answer.json(content_type=None))["data"]] if status == 200 else None
            )
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        pass
    return judge.model(provider.base_url, provider.model, status, offered)


async def _there(
    report: Report, settings: Settings, server: ServerPolicy, session: aiohttp.ClientSession, app_id: int, keeper: Keeper,
    named: Sequence[str],
) -> None:  # fmt: skip
    """GitHub. Raises what the first call that everything else needs raises."""
    clock, url = SystemClock(), settings.github_api_url
    greeting = await greet(session, url)
    report.add(judge.clock((clock.wall() - greeting.date).total_seconds()), judge.api(API_VERSION, greeting.versions))
    app = GitHubApp(app_id=app_id, sign=keeper.sign, api_url=url, session=session, clock=clock)
    survey = Survey(app, Api(session, clock, "doctor", url))
    wanted = yaml.safe_load(MANIFEST.read_text("utf-8"))
    permissions = wanted["default_permissions"]
    found = await survey.as_app("/app")
    page = f"{settings.github_web_url}/settings/apps/{found['slug']}"
    if found["owner"].get("type") == "Organization":
        page = f"{settings.github_web_url}/organizations/{found['owner']['login']}/settings/apps/{found['slug']}"
    report.add(*judge.app(found, permissions, wanted["default_events"], page))
    config, last = await survey.as_app("/app/hook/config"), await survey.as_app("/app/hook/deliveries?per_page=30")
    report.add(judge.webhook(config, last, page))
    installations = await survey.installations()
    if not installations:
        report.add(fail("installed", "nowhere", f"install it at {found['html_url']}/installations/new"))
    looked = 0
    for one in installations:
        report.add(judge.installation(one, found["permissions"], permissions))
        if one.get("suspended_at"):
            continue
        try:
            async for token, repo in survey.repositories(one):
                if repo["full_name"] in named or (not named and looked < MOST):
                    await _repository(report, survey, token, repo, server, app_id)
                looked += 1
        except InterlockError as error:
            report.add(fail("installed", f"on {one['account']['login']}: {error}", "try again, or install it anew"))
    if unseen := sorted(set(named) - set(report.policies)):
        report.add(
            fail("installed", f"not on {', '.join(unseen)}", f"install it at {found['html_url']}/installations/new")
        )
    if not named and looked > MOST:
        report.add(warn("repositories", f"{looked - MOST} more were not looked at", "name them with --repo"))


async def _repository(
    report: Report, survey: Survey, token: str, repo: dict[str, Any], server: ServerPolicy, app_id: int
) -> None:
    seen = await survey.look(token, repo)
    held = policy.effective(seen.policy, server)
    name, broken = repo["full_name"], isinstance(policy.read(seen.policy), str)
    report.add(*judge.repository(name, repo, empty=seen.empty, blocked=seen.blocked, note=held.note, broken=broken))
    if not seen.empty:
        where = f"{name}:{repo['default_branch']}"
        report.add(*judge.branch(where, seen.rules, seen.rulesets, seen.classic, app_id))
    report.hold(name, held)
