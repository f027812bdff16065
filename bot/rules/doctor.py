"""What doctor makes of what it found: pure judgements, each one a line that says how to mend what is wrong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from schemas.base import Frozen

Json = Mapping[str, Any]

CHECK = "interlock"
"""The aggregate check run, which a protected branch should require."""
CLI_VERSION = "1.0.102"
"""The Copilot CLI that the pinned SDK was made with."""
GIB = 2**30
_LEVELS = {"read": 1, "write": 2, "admin": 3}
_BLOCKS = ("pull_request", "required_status_checks", "update")
"""Rules that stop a push unless whoever pushes is let by."""
_REVIEWS = {
    "dismiss_stale_reviews_on_push": "approvals outlive a push",
    "require_last_push_approval": "whoever pushed last may approve",
}
_SANDBOX = (
    (
        ("new namespace", "uid map", "user namespace", "RTM_NEWADDR"), "user namespaces are blocked",
        "allow them (sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces; on Ubuntu an AppArmor profile "
        "with userns, or kernel.apparmor_restrict_unprivileged_userns=0; in a container --security-opt seccomp=seccomp.json)",
    ),
    (("mount proc",), "a fresh /proc cannot be mounted", "in a container: --security-opt systempaths=unconfined"),
    (
        ("/ slave", "mount", "pivot_root"), "mounts are blocked",
        "in a container: --security-opt apparmor=unconfined and seccomp=seccomp.json",
    ),
)  # fmt: skip
"""Bubblewrap's words, what they mean, and what to do (docs/operations.md has the whole command lines)."""


class Finding(Frozen):
    """One check of doctor's."""

    check: str
    status: Literal["ok", "warn", "fail"]
    said: str
    mend: str = ""

    def __str__(self) -> str:
        word = "FAIL" if self.status == "fail" else self.status
        return f"{word:<5} {self.check:<12} {self.said}{f': {self.mend}' if self.mend else ''}"


def ok(check: str, said: str) -> Finding:
    return Finding(check=check, status="ok", said=said)


def warn(check: str, said: str, mend: str) -> Finding:
    return Finding(check=check, status="warn", said=said, mend=mend)


def fail(check: str, said: str, mend: str) -> Finding:
    return Finding(check=check, status="fail", said=said, mend=mend)


# --- this machine -----------------------------------------------------------------------------------------------------
def sandbox_trouble(output: str) -> str:
    """Why bubblewrap did not start, told apart by its own words, with what to do."""
    for words, meaning, mend in _SANDBOX:
        if any(word in output for word in words):
            return f"bubblewrap does not start, since {meaning} ({output[:160]}): {mend}"
    return f"bubblewrap does not start here ({output}): allow user namespaces, or run as root"


def disk(free: int, least: int) -> Finding:
    """Bytes free where DATA_DIR is; under `least` the server takes no deliveries."""
    said = f"{free / GIB:.1f} GiB free"
    if free < least:
        return fail("disk", f"{said}, deliveries are refused", "make room, or move DATA_DIR")
    return warn("disk", said, "mirrors and runs need some GiB") if free < 2 * GIB else ok("disk", said)


def sqlite(version: str) -> Finding:
    """Whether this SQLite can damage a WAL file when two connections checkpoint at once (sqlite.org/wal.html)."""
    parts = tuple(int(part) for part in version.split("."))
    mended = parts >= (3, 51, 3) or (3, 50, 7) <= parts < (3, 51) or (3, 44, 6) <= parts < (3, 45)
    if mended:
        return ok("sqlite", version)
    return fail("sqlite", f"{version} can damage the database (WAL reset)", "install as python3 dev.py setup does")


def cli(exit_code: int, output: str) -> Finding:
    """What `copilot --version` said in a sandbox, as a run's user."""
    said = " ".join(output.split())[:120]
    if exit_code != 0:
        return fail("copilot", f"the CLI does not run in the sandbox ({exit_code}: {said})", "run python3 dev.py setup")
    if f"{CLI_VERSION}." not in f"{said}.":
        return warn("copilot", f"{said}, tested with {CLI_VERSION}", "run python3 dev.py setup, or unset COPILOT_BIN")
    return ok("copilot", f"{CLI_VERSION}, run in the sandbox as a run's user")


def model(base_url: str, name: str, status: int, offered: Sequence[str] | None) -> Finding:
    """The answer to a listing of models, which costs nothing. Status 0: nothing answered."""
    if status == 0:
        return fail("model", f"{base_url} does not answer", "look at COPILOT_PROVIDER_BASE_URL, and at the network")
    if status in (401, 403):
        mend = "set COPILOT_PROVIDER_API_KEY or COPILOT_GITHUB_TOKEN anew"
        return fail("model", f"{base_url} refuses the key ({status})", mend)
    if status != 200 or offered is None:
        return warn("model", f"{base_url} answers ({status}) but lists no models", f"try {name} with a first ticket")
    if name not in offered:
        return fail("model", f"{base_url} has no {name}", f"set COPILOT_MODEL to one it has ({', '.join(offered[:5])})")
    return ok("model", f"{name} at {base_url}")


# --- the App ----------------------------------------------------------------------------------------------------------
def clock(ahead: float) -> Finding:
    """Seconds by which this machine's clock is ahead of GitHub's: the App's tokens name a minute ago and nine ahead."""
    side = "ahead of" if ahead > 0 else "behind"
    said = f"{abs(ahead):.0f} s {side} GitHub's"
    if ahead > 55 or ahead < -500:
        return fail("clock", f"{said}, so GitHub refuses the App's tokens", "set it by NTP (timedatectl set-ntp true)")
    return warn("clock", said, "set it by NTP (timedatectl set-ntp true)") if abs(ahead) > 20 else ok("clock", said)


def api(version: str, offered: Sequence[str] | None) -> Finding:
    """Whether GitHub still speaks the version that we are pinned to."""
    if offered is None:
        return warn("api", "GitHub does not list its API versions", f"{version} is asked for; an old GHES may lack it")
    if version not in offered:
        return fail("api", f"GitHub has {', '.join(offered)}, not {version}", "upgrade Interlock, or your GitHub")
    return ok("api", version)


def short_of(wanted: Mapping[str, str], granted: Mapping[str, str]) -> list[str]:
    """Each permission that is not granted as far as it is wanted."""
    return [
        f"{name}: {level} (is {granted.get(name, 'none')})"
        for name, level in sorted(wanted.items())
        if _LEVELS.get(granted.get(name, ""), 0) < _LEVELS[level]
    ]


def app(found: Json, wanted: Mapping[str, str], events: Iterable[str], settings_url: str) -> Iterator[Finding]:
    """The App as it is registered, against app.yml."""
    name, place = f"{found['slug']} (id {found['id']})", f"{settings_url}/permissions"
    yield ok("app", name)
    if lacking := short_of(wanted, found["permissions"]):
        yield fail("permissions", f"the App lacks {', '.join(lacking)}", f"grant them at {place}")
    else:
        yield ok("permissions", f"{name} has what app.yml names")
    if unheard := sorted(set(events) - set(found["events"])):
        yield fail("events", f"the App does not hear {', '.join(unheard)}", f"tick them at {place}")


def installation(found: Json, app_permissions: Mapping[str, str], wanted: Mapping[str, str]) -> Finding:
    """One installation: suspended, or its owner has not yet accepted what the App asks for now."""
    who, place = f"on {found['account']['login']}", f"at {found['html_url']}"
    if found.get("suspended_at"):
        return fail("installed", f"{who}, suspended", f"unsuspend it {place}")
    asked = {name: level for name, level in wanted.items() if not short_of({name: level}, app_permissions)}
    if pending := short_of(asked, found["permissions"]):
        return fail("installed", f"{who}, waits to be granted {', '.join(pending)}", f"an owner accepts it {place}")
    return ok("installed", who)


def webhook(config: Json, deliveries: Sequence[Json], settings_url: str) -> Finding:
    """Where GitHub sends deliveries, how, and what became of the last ones."""
    url, place = str(config.get("url") or ""), f"at {settings_url}"
    if not url or "//example." in url:
        return ok("webhook", "none is set: run interlock serve --poll")
    if config.get("content_type") != "json":
        return fail("webhook", f"{url} gets {config.get('content_type')}", f"choose application/json {place}")
    if not config.get("secret"):
        return fail("webhook", f"{url} gets unsigned deliveries", f"set WEBHOOK_SECRET, and the same {place}")
    if str(config.get("insecure_ssl", "0")) != "0":
        return fail("webhook", f"{url} is sent to without checking its certificate", f"enable SSL verification {place}")
    last = {one["guid"]: one for one in reversed(deliveries)}.values()
    failed = [one for one in last if one["status"] != "OK"]
    if not failed:
        said = f"the last {len(last)} deliveries arrived" if last else "nothing was sent yet"
        return ok("webhook", f"{url}, {said}")
    said = f"{url}, {len(failed)} of the last {len(last)} deliveries failed ({failed[-1]['status']})"
    if failed[-1].get("status_code") == 401:
        return fail("webhook", said, f"the secrets differ: set it anew {place} and as WEBHOOK_SECRET")
    if len(failed) < len(last):
        return warn("webhook", said, "they are asked for again by themselves while the server runs")
    return fail("webhook", said, "is the server running, and can GitHub reach its public listener? Else use --poll")


# --- a repository -----------------------------------------------------------------------------------------------------
def branch(name: str, rules: Sequence[Json], rulesets: Mapping[int, Json], classic: Json, app_id: int) -> list[Finding]:
    """A base branch's protection against the gates that we rely on, and whether we can land there."""
    way = "through GitHub's merge queue" if any(rule["type"] == "merge_queue" for rule in rules) else "by push"
    return list(_holes(name, rules, rulesets, classic, app_id)) or [ok(name, f"protected; lands {way}")]


def _holes(
    name: str, rules: Sequence[Json], rulesets: Mapping[int, Json], classic: Json, app_id: int
) -> Iterator[Finding]:
    parameters: dict[str, list[Json]] = {}
    for rule in rules:
        parameters.setdefault(rule["type"], []).append(rule.get("parameters") or {})
    checks = [one for found in parameters.get("required_status_checks", ()) for one in found["required_status_checks"]]
    if classic.get("enabled"):
        listed = (classic.get("required_status_checks") or {}).get("checks", ())
        checks += [{"context": one["context"], "integration_id": one.get("app_id")} for one in listed]
        mend = "dismiss stale approvals there, ask for approval of the last push and let the App by; or use a ruleset"
        yield warn(name, "classic branch protection holds too, which only admins see whole", mend)
    reviews = parameters.get("pull_request", [])
    for key, what in _REVIEWS.items():
        if reviews and not any(one.get(key) for one in reviews):
            yield fail(name, what, f"set {key} in the ruleset")
    ours = [one for one in checks if one["context"] == CHECK]
    if ours and not any(one.get("integration_id") == app_id for one in ours):
        yield fail(
            name, f"anybody may report the required check {CHECK}", f"choose the App (id {app_id}) as its source"
        )
    queued = "merge_queue" in parameters
    for number in sorted({rule["ruleset_id"] for rule in rules if rule["type"] in _BLOCKS and not queued}):
        ruleset = rulesets.get(number, {})
        if ruleset.get("current_user_can_bypass") not in ("always", "exempt"):
            which = f"ruleset {ruleset.get('name', number)!r}"
            yield fail(name, f"{which} stops the App's push", "add the App to its bypass list, for always")
    if not (reviews or ours or classic.get("enabled")):
        mend = f"require a review and the check {CHECK}"
        yield warn(name, "no rule of GitHub's keeps people from pushing past a review", mend)


def repository(name: str, found: Json, *, empty: bool, blocked: bool, note: str, broken: bool) -> Iterator[Finding]:
    """Whether work may start there at all, and what is said of its policy file."""
    if found.get("archived"):
        yield fail(name, "is archived", "unarchive it, or take it out of the installation")
    if empty:
        yield fail(name, f"has no commit on {found['default_branch']}", "push one")
    if blocked:
        yield fail(name, "a branch named `interlock` is in the way of interlock/...", "rename that branch")
    if broken:
        yield fail(name, note, "mend it on the default branch")
    elif note:
        yield warn(name, note, "so it is meant")
