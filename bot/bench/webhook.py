"""What taking a webhook in costs: `interlock serve` beside Probot with a handler that does nothing, on the same deliveries.

Ours has each delivery on disk (synchronous=FULL) before it answers; Probot keeps nothing. Both check the signature and
parse the JSON. GitHub cannot be reached here, so what a delivery means is not worked out by ours meanwhile, nor by Probot.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.bench.laps import Watch, share
from bot.bench.load import paced, saturate
from bot.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools" / "tests" / "node_modules"
SECRET = "bench"
PER_SECOND = 200
TICKS = os.sysconf("SC_CLK_TCK")
PROBOT = """import {{ createServer }} from "node:http";
import {{ createNodeMiddleware, createProbot }} from "{probot}";
const app = (robot) => {{ robot.on("issues.labeled", async () => {{}}); }};
const take = await createNodeMiddleware(app, {{ probot: createProbot(), webhooksPath: "/webhook" }});
const server = createServer((request, answer) => take(request, answer));
server.listen(0, "127.0.0.1", () => console.log("http://127.0.0.1:" + server.address().port + "/webhook"));
"""


class Contestant(NamedTuple):
    """A server that runs: its process, and where it takes deliveries."""

    name: str
    pid: int
    url: str


def example() -> dict[str, Any]:
    """GitHub's own example of a label put on an issue. Raises Misconfigured."""
    try:
        events = json.loads((TOOLS / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json").read_text())
    except OSError:
        raise Misconfigured("GitHub's webhook examples and Probot are not here: run python3 dev.py setup") from None
    named: list[dict[str, Any]] = next(event["examples"] for event in events if event["name"] == "issues")
    return next(one for one in named if one["action"] == "labeled") | {"installation": {"id": 1, "node_id": "MQ=="}}


class Deliveries:
    """Signed deliveries without end, each with a body of its own: a repeat would not be stored."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self._payload, self._count = payload, 0

    def make(self, count: int) -> list[bytes]:
        """The next of them, as they go over the wire."""
        return [self._next() for _ in range(count)]

    def _next(self) -> bytes:
        self._count += 1
        body = json.dumps(self._payload | {"delivery": self._count}, separators=(",", ":")).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        lines = (
            "POST /webhook HTTP/1.1", "Host: bench", "User-Agent: GitHub-Hookshot/bench", "Accept: */*",
            "Content-Type: application/json", f"Content-Length: {len(body)}", "X-GitHub-Event: issues",
            f"X-GitHub-Delivery: {self._count:08d}-0000-4000-8000-000000000000", f"X-Hub-Signature-256: sha256={signature}",
        )  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def contestants(scratch: Path) -> AsyncIterator[list[Contestant]]:
    """Both servers, until the block ends. Raises Misconfigured."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = key.private_bytes(*form)
    for name, text in (("app.pem", pem), ("playbook.json", b'{"rules": []}')):
        (scratch / name).write_bytes(text)
    (scratch / "probot.mjs").write_text(PROBOT.format(probot=TOOLS / "probot" / "lib" / "index.js"))
    node = shutil.which("node") or str(ROOT / ".tools" / "node" / "bin" / "node")
    plain = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(scratch)}  # noqa: TID251
    settings = {
        "DATA_DIR": scratch / "data", "PORT": 0, "ADMIN_PORT": 0, "GITHUB_API_URL": "http://127.0.0.1:9", "APP_ID": 1,
        "PRIVATE_KEY_FILE": scratch / "app.pem", "WEBHOOK_SECRET": SECRET, "SANDBOX": "off", "HARNESS": "scripted",
        "PLAYBOOK": scratch / "playbook.json",
    }  # fmt: skip
    ours = plain | {f"INTERLOCK_{name}": str(value) for name, value in settings.items()}
    theirs = plain | {"APP_ID": "1", "PRIVATE_KEY": pem.decode(), "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "fatal"}
    theirs["NODE_ENV"] = "production"
    async with contextlib.AsyncExitStack() as stack:
        commands = (
            ("interlock", [sys.executable, "-m", "bot.cli.main", "serve"], ours),
            ("probot", [node, str(scratch / "probot.mjs")], theirs),
        )
        found = []
        for name, command, env in commands:
            pid, line = await stack.enter_async_context(_process(scratch, name, command, env))
            found.append(Contestant(name, pid, next(word for word in line.split() if word.startswith("http"))))
        yield found


@contextlib.asynccontextmanager
async def _process(scratch: Path, name: str, command: list[str], env: dict[str, str]) -> AsyncIterator[tuple[int, str]]:
    with (scratch / f"{name}.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *command, env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=log, stdin=asyncio.subprocess.DEVNULL
        )
    try:
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        if not line:
            said = (scratch / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
            raise Misconfigured(f"{name} did not start: {said[-1] if said else 'it said nothing'}")
        yield child.pid, line
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        await child.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def spin() -> float:
    """CPU milliseconds of a fixed piece of work: how steady the machine is."""
    watch = Watch()
    with watch:
        for _ in range(200):
            hashlib.sha256(b"x" * 100_000).digest()
    return watch.cpu * 1000


async def measure(scratch: Path, *, deliveries: int, rounds: int, seconds: int, say: Callable[[str], None]) -> Any:
    """Interleaved rounds, then ours at a steady pace. Raises Misconfigured."""
    made = Deliveries(example())
    async with contestants(scratch) as found:
        for one in found:  # caches, JIT and buffers of both
            await saturate(one.url, made.make(min(deliveries, 1000)))
        laps: dict[str, list[tuple[float, float]]] = {one.name: [] for one in found}
        spins = []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            spins.append(spin())
            for one in found if number % 2 else found[::-1]:
                requests, before, watch = made.make(deliveries), cpu_seconds(one.pid), Watch()
                with watch:
                    statuses = await saturate(one.url, requests)
                if any(status >= 300 for status in statuses):
                    raise Misconfigured(f"{one.name} did not take the deliveries: {dict(statuses)}")
                laps[one.name].append((deliveries / (cpu_seconds(one.pid) - before), deliveries / watch.walls[0]))
        say(f"{PER_SECOND} deliveries a second for {seconds} s")
        waits, _ = await paced(found[0].url, made.make(PER_SECOND * seconds), PER_SECOND)
    return _report(laps, spins, waits, len(made.make(1)[0]))


def _report(laps: dict[str, list[tuple[float, float]]], spins: list[float], waits: list[float], size: int) -> Any:
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(laps["interlock"], laps["probot"], strict=True)]
    rows = [
        {"name": name, "per_cpu_second": round(median(cpu for cpu, _ in rows)),
         "wall_per_second": round(median(wall for _, wall in rows)),
         "lowest": round(min(cpu for cpu, _ in rows)), "highest": round(max(cpu for cpu, _ in rows))}
        for name, rows in laps.items()
    ]  # fmt: skip
    return {
        "bytes": size, "rounds": len(ratios), "cores": os.cpu_count(), "rows": rows,
        "times_probot": {"ratio": round(median(ratios), 2), "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)},
        "noise": {"spin_ms": round(median(spins), 1), "lowest": round(min(spins), 1), "highest": round(max(spins), 1)},
        "paced": {
            "per_second": PER_SECOND, "deliveries": len(waits), "p50_ms": round(share(waits, 0.5) * 1000, 1),
            "p99_ms": round(share(waits, 0.99) * 1000, 1), "worst_ms": round(max(waits) * 1000, 1),
        },
    }  # fmt: skip


def text(found: Any) -> str:
    """For people."""
    lines = [f"Deliveries of {found['bytes']} bytes, {found['rounds']} rounds in turns, {found['cores']} cores:"]
    for row in found["rows"]:
        lines.append(
            f"  {row['name']:10} {row['per_cpu_second']:6} per CPU second ({row['lowest']} to {row['highest']}), "
            f"{row['wall_per_second']} per second"
        )
    times, noise, pace = found["times_probot"], found["noise"], found["paced"]
    lines += [
        f"  ours, durable: {times['ratio']} times Probot ({times['lowest']} to {times['highest']} over the rounds)",
        f"  the machine: a fixed piece of work took {noise['lowest']} to {noise['highest']} ms of CPU",
        f"At {pace['per_second']} a second, {pace['deliveries']} deliveries: answered in {pace['p50_ms']} ms (median), "
        f"{pace['p99_ms']} ms (p99), {pace['worst_ms']} ms (worst)",
    ]
    return "\n".join(lines)
