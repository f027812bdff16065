"""The composition root: every port gets its real part here, and nothing decides anything."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

import handlers
from bot import server
from bot.clock import SystemClock
from bot.errors import InterlockError, Misconfigured, Rejected, Transient
from bot.github.app import GitHubApp
from bot.github.catchup import catch_up
from bot.github.ci import GitHubCi, Place
from bot.github.forge import KINDS, Forge
from bot.github.landing import GitHubLanding
from bot.github.people import GitHubConfirmer, GitHubPeople, ReviewReader
from bot.github.read import RepositoryReader
from bot.github.remote import Mirrors
from bot.github.tokens import Keeper
from bot.loop import Loop
from bot.merge.lander import Lander
from bot.merge.rollback import RollbackPerformer
from bot.merge.trial import TrialPerformer
from bot.metrics import Metrics
from bot.pipeline import prompts
from bot.ports import Clock, Faults, Harness, Remote, no_faults
from bot.rules import policy
from bot.runners.checks import SandboxChecker
from bot.runners.environment import Environments
from bot.runners.harnesses.copilot import CopilotHarness
from bot.runners.harnesses.scripted import ScriptedHarness
from bot.runners.layers import Trees
from bot.runners.performer import AgentRuns, RunCanceller
from bot.runners.sandbox import Sandbox, area_for, emptied, stage, tools_for
from bot.store.store import SqliteStore, open_store
from schemas.policy import ServerPolicy
from schemas.settings import Provider, Settings

log = logging.getLogger("interlock.app")

CATCH_UP_SECONDS = 300.0
IDENTITY_RETRY_SECONDS = 5.0


class Ports(NamedTuple):
    """What a test replaces: time and fault points."""

    clock: Clock = SystemClock()
    faults: Faults = no_faults


class Addresses(NamedTuple):
    """Where the listeners are, once they listen."""

    public: str
    admin: str


async def learn_name(app: GitHubApp) -> None:
    """Ask which App we are until GitHub answers; deliveries already come in meanwhile."""
    while True:
        try:
            found, _ = await app.as_app("GET", "/app")
            app.slug = found["slug"]
            return
        except (Transient, Rejected) as error:
            log.warning("app.unknown", extra={"error": str(error)})
            await asyncio.sleep(IDENTITY_RETRY_SECONDS)


def make_harness(settings: Settings, sandbox: Sandbox, provider: Provider | None) -> Harness:
    """The agent that the settings name. Raises Misconfigured with what to do."""
    if settings.harness == "scripted":
        if settings.playbook is None:
            raise Misconfigured("HARNESS=scripted needs PLAYBOOK, the file that it plays")
        return ScriptedHarness(json.loads(settings.playbook.read_text("utf-8")), sandbox)
    if provider is None:
        way = "set COPILOT_PROVIDER_BASE_URL (your own) or COPILOT_GITHUB_TOKEN (Copilot's)"
        raise Misconfigured(f"there is no model: {way}")
    cli = settings.copilot_bin or bundled_cli()
    if cli is None or not cli.exists():
        way = "run python3 dev.py setup, or set COPILOT_BIN to its native binary"
        raise Misconfigured(f"there is no Copilot CLI: {way}")
    cache = tools_for(settings.data_dir.resolve()) / f"copilot-cache-{cli.stat().st_size}"
    return CopilotHarness(cli=stage(cli, "copilot"), sandbox=sandbox, cache=cache, provider=provider)


def bundled_cli() -> Path | None:
    """The binary that dev.py put under .tools."""
    root = Path(__file__).resolve().parent.parent
    return min(root.glob(".tools/**/node_modules/@github/copilot-linux-*/copilot"), default=None)


def checked(settings: Settings) -> tuple[int, Path, str]:
    """App id, the key's file and the webhook secret. Raises Misconfigured naming what is missing (nothing starts without)."""
    secret = settings.webhook_secret.get_secret_value()
    if not secret:
        raise Misconfigured("WEBHOOK_SECRET is not set: without it anybody could give orders")
    if settings.app_id is None or settings.private_key_file is None:
        raise Misconfigured("APP_ID and PRIVATE_KEY_FILE are not set: register the App first (docs/operations.md)")
    if settings.sandbox == "off" and urlsplit(settings.github_api_url).hostname not in ("127.0.0.1", "localhost"):
        raise Misconfigured("SANDBOX=off is for a GitHub on loopback only")
    if not os.access(settings.private_key_file, os.R_OK):
        raise Misconfigured(f"PRIVATE_KEY_FILE cannot be read: {settings.private_key_file}")
    return settings.app_id, settings.private_key_file, secret


def policy_of(settings: Settings) -> ServerPolicy:
    """The server's policy. Raises Misconfigured naming its first wrong key."""
    try:
        found = policy.read_server(settings.policy.read_bytes()) if settings.policy else ServerPolicy()
    except OSError as error:
        raise Misconfigured(f"POLICY cannot be read: {error}") from None
    if isinstance(found, str):
        raise Misconfigured(f"POLICY {settings.policy}: {found}")
    return found


@contextlib.asynccontextmanager
async def running(settings: Settings, ports: Ports, provider: Provider | None) -> AsyncIterator[Addresses]:
    """The whole server until the block ends. Raises Misconfigured before anything is touched."""
    app_id, key, secret = checked(settings)
    server_policy = policy_of(settings)
    clock, faults = ports.clock, ports.faults
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    sandbox = Sandbox(settings.sandbox, area_for(settings.data_dir.resolve()))
    if problems := await sandbox.self_test():
        raise Misconfigured("; ".join(problems))
    harness = make_harness(settings, sandbox, provider)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        keeper = Keeper(key, app_id)
        stack.push_async_callback(keeper.close)
        store = await stack.enter_async_context(open_store(settings.data_dir / "interlock.db", clock, faults))
        stack.enter_context(emptied(sandbox.area))
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)))
        await keeper.sign(clock.wall())
        app = GitHubApp(
            app_id=app_id, sign=keeper.sign, api_url=settings.github_api_url, session=session, clock=clock
        )  # fmt: skip
        people = GitHubPeople(app)
        mirrors = Mirrors(app, settings.git_url, settings.data_dir / "mirrors")
        trees = Trees(sandbox)
        environments = Environments(sandbox, trees, sandbox.area.parent / "environments", settings.registries)
        checker = SandboxChecker(sandbox, trees, environments, clock)
        named = asyncio.Event()
        runs = AgentRuns(
            harness=harness, remotes=mirrors.remote, area=sandbox.area, trees=trees, environments=environments, checker=checker,
            logs=settings.data_dir / "logs", clock=clock, faults=faults, write_prompt=prompts.write,
        )  # fmt: skip
        place = partial(place_of, store, mirrors)
        lander = Lander(
            queue=store, remote=lambda lane: remote_of(store, mirrors, lane), checker=checker, clock=clock,
            owner=store.owner, confirmer=GitHubConfirmer(app, people, store.ticket), faults=faults,
            driver=settings.merge_driver, prober=SandboxChecker(sandbox, trees, environments, clock),
            ci=GitHubCi(app, place), landing=GitHubLanding(app, place, store.ticket, clock),
            on_step=lambda _, event: metrics.lane_steps.labels(event.kind).inc(),
        )  # fmt: skip
        loop = Loop(
            store=store, queue=store, people=people, drive=lander.drive, clock=clock, metrics=metrics, owner=store.owner,
            slots=settings.runners,
            translate=lambda event, payload: handlers.translate(event, payload, slug=app.slug, app_id=app_id),
            performers=[
                *(Forge(app, faults, kinds) for kinds in KINDS), 
                RepositoryReader(app, people, mirrors.remote, server_policy),
                TrialPerformer(mirrors.remote, store.open_tickets), RollbackPerformer(mirrors.remote), ReviewReader(app),
                RunCanceller(runs), runs,
            ],
        )  # fmt: skip

        async def work() -> None:
            """Nothing can be told apart, or done, before GitHub has said who we are; what arrives meanwhile is stored."""
            await learn_name(app)
            named.set()
            await loop.run()

        public = server.public(store, clock, secret, settings.data_dir, metrics, arrived=loop.deliveries.set)

        def operated() -> None:
            loop.events.set()
            loop.lanes.set()

        token = settings.api_token.get_secret_value()
        admin = server.admin(store, clock, metrics, token, named, operated)
        public_url = await _listen(stack, public, settings.host, settings.port)
        admin_url = await _listen(stack, admin, settings.admin_host, settings.admin_port)
        background = [asyncio.create_task(work()), asyncio.create_task(_keep_up(app, store, clock))]
        for task in background:
            task.add_done_callback(_said_why)
        try:
            yield Addresses(public_url, admin_url)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


async def remote_of(store: SqliteStore, mirrors: Mirrors, lane: str) -> Remote:
    """The remote of the repository whose lane it is."""
    return (await place_of(store, mirrors, lane))[2]


async def place_of(store: SqliteStore, mirrors: Mirrors, lane: str) -> Place:
    """The repository whose lane it is, as its newest ticket says. Raises Transient if no ticket is known."""
    repo_id = int(lane.split(":", 1)[0])
    known = await store.open_tickets(repo_id) or [one for one in await store.tickets() if one.repo.id == repo_id]
    if not known:
        raise Transient(f"no ticket of repository {repo_id} is known")
    newest = max(known, key=lambda ticket: ticket.opened_at)
    return newest.repo, newest.installation, await mirrors.remote(newest.repo, newest.installation)


async def _listen(stack: contextlib.AsyncExitStack, app: web.Application, host: str, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise Misconfigured(f"{host}:{port} cannot be listened on ({error.strerror}): set another PORT") from None
    return f"http://{host}:{runner.addresses[0][1]}"


async def _keep_up(app: GitHubApp, store: SqliteStore, clock: Clock) -> None:
    """GitHub repeats no delivery by itself: ask for those that we missed, at start and now and then."""
    while True:
        try:
            if asked := await catch_up(app, store.known_delivery):
                log.info("deliveries.asked_again", extra={"count": asked})
        except InterlockError as error:
            log.warning("deliveries.unknown", extra={"error": str(error)})
        await clock.sleep(CATCH_UP_SECONDS)


def _said_why(task: asyncio.Task[None]) -> None:
    """A loop that ends by itself is a defect: say so and leave, so that whoever supervises us starts us anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("loop.died", exc_info=error)
        logging.shutdown()
        # Crash recovery is the only start path; half a server would be worse than none.
        os._exit(70)
