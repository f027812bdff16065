"""A scripted model server that drives every role of Interlock's agent protocol. Standard library only.

    python3 model.py PORT [JOURNAL.jsonl]

Stateless: a role's script is a generator that yields actions and gets the results of the turn. Every request plays the
generator again over the turns already in the conversation, and answers with the next action. So any number of runs may
be under way at the same time.
"""

import base64
import json
import re
import shlex
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MARKER = re.compile(
    r"^\[interlock role=(?P<role>\S+) ticket=(?P<ticket>.+?) task=(?P<task>\S+) attempt=(?P<attempt>\d+)\]", re.M
)
LOCK = threading.Lock()
JOURNAL = None


SEEN = set()


def log(text):
    with LOCK:
        if " turn " not in text:  # scripts are played again for every request: say each thing once
            if text in SEEN:
                return
            SEEN.add(text)
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def text_of(content):
    if isinstance(content, list):
        return "\n".join(p if isinstance(p, str) else str(p.get("text") or "") for p in content)
    return content or ""


# ---------------------------------------------------------------- what a script may do


class Say:
    """A final text without a tool call."""

    def __init__(self, text):
        self.text, self.calls = text, []


class Do:
    """One turn with one or more tool calls."""

    def __init__(self, *calls, say=None):
        self.text, self.calls = say, calls


class Results(list):
    """The tool results of a turn, in the order of the calls; `.text` is all of it, with what users said after."""

    text = ""


class Run:
    def __init__(self, body):
        self.messages = body.get("messages") or []
        self.tools = {}
        for tool in body.get("tools") or []:
            f = tool.get("function") or tool.get("custom") or tool
            if f.get("name"):
                self.tools[f["name"]] = f.get("parameters") or {}
        self.marker = self.prompt = None
        newest = None
        for m in self.messages:
            if m.get("role") == "user":
                hit = self._marker(text_of(m.get("content")))
                newest = hit or newest
        if newest is None:
            return
        # the first message with the newest marker line begins the run; a later one with the same line is the nudge
        for start, m in enumerate(self.messages):
            if m.get("role") == "user":
                hit = self._marker(text_of(m.get("content")))
                if hit and hit.group(0) == newest.group(0):
                    break
        self.marker = newest.groupdict()
        self.line = newest.group(0)
        self.attempt = int(self.marker["attempt"])
        self.prompt = text_of(self.messages[start].get("content"))
        self.cwd = "."
        for m in self.messages:
            if m.get("role") in ("system", "developer", "user"):
                found = re.search(r"Current working directory:\s*`?([^\n`<]+)", text_of(m.get("content")))
                if found:
                    self.cwd = found.group(1).strip().rstrip("/")
                    break
        else:
            log(f"WARNING {self.line} no 'Current working directory:' line in the conversation")
        self.turns = []
        for m in self.messages[start + 1 :]:
            if m.get("role") == "assistant":
                self.turns.append(Results())
                ids = [c.get("id") for c in m.get("tool_calls") or []]
                answers = {}
            elif self.turns:
                turn, text = self.turns[-1], text_of(m.get("content"))
                if m.get("role") == "tool":
                    answers[m.get("tool_call_id")] = text
                    turn[:] = [answers.get(i, "") for i in ids]
                turn.text += text + "\n"

    @staticmethod
    def _marker(text):
        hit = MARKER.search(text)
        # people's and files' texts stand below our line, so only the first line that is not the CLI's counts
        return hit if hit and hit.start() < 2000 and "~~~" not in text[: hit.start()] else None

    def path(self, relative):
        return f"{self.cwd}/{relative}"

    # -------------------------------------------------------- tools, by whatever name they are offered

    def name(self, wanted):
        for name in (wanted, *{"grep": ("rg",)}.get(wanted, ())):
            if name in self.tools:
                return name
            for offered in self.tools:
                if offered.endswith(("-" + name, "_" + name, "." + name, "/" + name)):
                    return offered
        return None

    def call(self, wanted, **args):
        name = self.name(wanted)
        if name is None and wanted in ("create", "edit"):
            log(f"NOTE {self.line} no tool {wanted}; offered: {sorted(self.tools)}; by bash instead")
            return self.call("bash", command=self._by_bash(wanted, args), description=f"{wanted} a file")
        if name is None:
            log(f"WARNING {self.line} no tool {wanted}; offered: {sorted(self.tools)}")
            return wanted, args
        schema = self.tools[name]
        known = schema.get("properties") or {}
        if known:
            dropped = {k: args.pop(k) for k in list(args) if k not in known}
            if dropped:
                log(f"NOTE {self.line} {name} knows no {sorted(dropped)}, only {sorted(known)}")
            for key in schema.get("required") or []:
                if key not in args:
                    args[key] = self._fill(key, known.get(key) or {})
                    log(f"NOTE {self.line} {name} requires {key}; filled with {args[key]!r}")
        return name, args

    @staticmethod
    def _fill(key, schema):
        kind = schema.get("type")
        if schema.get("enum"):
            return schema["enum"][0]
        if kind == "boolean":
            return False
        if kind in ("integer", "number"):
            return 60
        if kind == "array":
            return []
        return {"description": "run a command", "mode": "sync"}.get(key, "main")

    @staticmethod
    def _by_bash(wanted, args):
        data = base64.b64encode(json.dumps(args).encode()).decode()
        body = (
            "import base64,json,pathlib;a=json.loads(base64.b64decode('%s'));p=pathlib.Path(a['path']);" % data
            + (
                "p.write_text(a['file_text'])"
                if wanted == "create"
                else "t=p.read_text();assert t.count(a['old_str'])==1;p.write_text(t.replace(a['old_str'],a['new_str']))"
            )
        )
        return f"python3 -c {shlex.quote(body)}"

    def create(self, path, text):
        return self.call("create", path=self.path(path), file_text=text)

    def edit(self, path, old, new):
        return self.call("edit", path=self.path(path), old_str=old, new_str=new)

    def view(self, path):
        return self.call("view", path=self.path(path))

    def bash(self, command, description="look"):
        return self.call("bash", command=f"cd {shlex.quote(self.cwd)} && {command}", description=description)

    # -------------------------------------------------------- the prompt

    def task(self):
        """The task's JSON: the first block between lines of tildes that is JSON with title and owns."""

        def find(value):
            if isinstance(value, dict):
                if "owns" in value and "title" in value:
                    return value
                value = list(value.values())
            if isinstance(value, list):
                for v in value:
                    if (hit := find(v)) is not None:
                        return hit
            return None

        lines, i = self.prompt.splitlines(), 0
        while i < len(lines):
            fence = re.match(r"^(~{3,})", lines[i])
            if fence:
                j = i + 1
                while j < len(lines) and lines[j].rstrip() != fence.group(1):
                    j += 1
                try:
                    hit = find(json.loads("\n".join(lines[i + 1 : j])))
                    if hit:
                        return hit
                except ValueError:
                    pass
                i = j
            i += 1
        title = re.search(r'"title":\s*"((?:[^"\\]|\\.)*)"', self.prompt)
        log(f"WARNING {self.line} no JSON of the task between tildes; by its title {title and title.group(1)!r}")
        return {"title": title.group(1) if title else "", "owns": []}


# ---------------------------------------------------------------- decisions that travel through the prompts

Q_MASK = "What should stand in place of a secret value in the log?"
Q_BARE = "What does a time without a unit mean, such as '90' in a settings file?"


def decided(prompt):
    mask = re.search(r"masked value is shown as `([^`\n]+)`", prompt)
    bare = re.search(r"time without a unit is in (seconds|minutes)", prompt)
    return (mask.group(1) if mask else None, bare.group(1) if bare else None)


def need_decisions(run):
    mask, bare = decided(run.prompt)
    if mask is None or bare is None:
        log(f"WARNING {run.line} the scope's decisions are not in the prompt: mask={mask!r} bare={bare!r}")
    return mask or "***", bare or "seconds"


# ---------------------------------------------------------------- Engineer


def engineer(run):
    yield Do(
        run.view("src/flask/helpers.py"),
        run.call("grep", pattern="slugify|parse_duration|mask_headers", path=run.path("src")),
        run.call("glob", pattern="src/flask/*.py", path=run.cwd),
        say="I look at what there is already.",
    )
    if Q_MASK not in run.prompt and Q_BARE not in run.prompt:
        yield Do(
            run.call(
                "ask_questions",
                questions=[
                    {"id": "mask", "text": Q_MASK, "why": "It decides the output that people's log tools will see."},
                    {
                        "id": "bare-number",
                        "text": Q_BARE,
                        "why": "Both readings are common, and a wrong guess is off by a factor of 60.",
                        "options": ["seconds", "minutes", "refuse it"],
                    },
                ],
            )
        )
        while True:
            yield Say("The questions are asked.")
    mask = re.search(r"[Ss]how (?:them|it) as (\[[^\]\n]+\]|[^\s,.]+)", run.prompt)
    bare = re.search(r"bare number counts as (seconds|minutes)", run.prompt)
    assumptions = ["Python 3.10 and later, as pyproject.toml says."]
    if not mask:
        assumptions.append("Nobody said what stands in place of a secret value: three asterisks.")
    if not bare:
        assumptions.append("Nobody said what a time without a unit means: seconds.")
    log(f"ENGINEER {run.line} answers: mask={mask and mask.group(1)!r} bare={bare and bare.group(1)!r}")
    yield Do(
        run.call(
            "submit_scope",
            goal="Three small helpers in Flask (parse_duration, mask_headers, slugify), each in a module of its own, "
            "documented, and importable from flask.",
            kind="feature",
            acceptance=[
                "parse_duration('1h30m') is 5400; units are d, h, m and s, each at most once; the rest is a ValueError.",
                f"A time without a unit is in {bare.group(1) if bare else 'seconds'}.",
                f"In mask_headers a masked value is shown as `{mask.group(1) if mask else '***'}`.",
                "slugify('Hello, World!') is 'hello-world'.",
                "Each module imports the standard library only, and has a test that runs without any package.",
                "A page docs/small-helpers.rst is reachable from the documentation's index.",
                "CHANGES.rst and docs/api.rst name the three functions, and flask exports them.",
            ],
            out_of_scope=["Use of the helpers inside Flask", "Transliteration of other scripts in slugify"],
            assumptions=assumptions,
        )
    )
    while True:
        yield Say("The scope is submitted.")


# ---------------------------------------------------------------- Orchestrator

SHARED_TEST = "tests/test_durations_alone.py"


def plan(run, faulty=False, new_reads=True):
    mask, bare = need_decisions(run)
    made = ["src/flask/durations.py", "src/flask/masking.py", "src/flask/slugs.py", "docs/small-helpers.rst"]
    tasks = [
        {
            "key": "durations",
            "title": "parse_duration: read times such as 1h30m",
            "kind": "feature",
            "brief": f"src/flask/durations.py with parse_duration(text) -> int (seconds). Units d, h, m, s. A time "
            f"without a unit is in {bare}. Everything else is a ValueError. With a test that loads it by path.",
            "owns": ["src/flask/durations.py", "tests/test_durations_alone.py"],
            "reads": ["src/flask/helpers.py"],
            "checks": [
                {"name": "compile", "command": "python3 -m compileall -q src/flask/durations.py"},
                {"name": "durations", "command": "python3 tests/test_durations_alone.py"},
            ],
        },
        {
            "key": "masking",
            "title": "mask_headers: no secret values in logs",
            "kind": "feature",
            "brief": f"src/flask/masking.py with mask_headers(headers) -> dict, where a masked value is shown as "
            f"`{mask}`. With a test that loads it by path.",
            "owns": ["src/flask/masking.py", SHARED_TEST if faulty else "tests/test_masking_alone.py"],
            "reads": ["src/flask/helpers.py", "src/flask/logging.py"],
            "checks": [
                {"name": "compile", "command": "python3 -m compileall -q src/flask/masking.py"},
                {"name": "masking", "command": "python3 tests/test_masking_alone.py"},
            ],
        },
        {
            "key": "slugs",
            "title": "slugify: a readable piece of URL from a title",
            "kind": "feature",
            "brief": "src/flask/slugs.py with slugify(text, max_length=None) -> str. With a test that loads it by path.",
            "owns": ["src/flask/slugs.py", "tests/test_slugs_alone.py"],
            "checks": [
                {"name": "compile", "command": "python3 -m compileall -q src/flask/slugs.py"},
                {"name": "slugs", "command": "python3 tests/test_slugs_alone.py"},
            ],
        },
        {
            "key": "page",
            "title": "A page about the small helpers",
            "kind": "docs",
            "brief": "docs/small-helpers.rst explains the three helpers. It must be reachable: ask for docs/index.rst.",
            "owns": ["docs/small-helpers.rst"],
            "reads": ["docs/logging.rst"],
            "checks": [
                {
                    "name": "page names all three",
                    "command": "for n in parse_duration mask_headers slugify; do grep -q $n docs/small-helpers.rst || exit 1; done",
                }
            ],
        },
        {
            "key": "join",
            "title": "Export the helpers, API page and changelog",
            "kind": "feature",
            "brief": "Once the modules exist: export the three from flask, name them in docs/api.rst and in CHANGES.rst "
            "under 3.2.0, and a test over all three modules.",
            "owns": ["src/flask/__init__.py", "docs/api.rst", "CHANGES.rst", "tests/test_small_helpers_alone.py"],
            "reads": made if new_reads else [],
            "after": ["durations", "masking", "slugs", "page"],
            "checks": [
                {"name": "compile", "command": "python3 -m compileall -q src/flask/__init__.py"},
                {"name": "together", "command": "python3 tests/test_small_helpers_alone.py"},
            ],
        },
    ]
    return run.call("submit_plan", tasks=tasks, shared=["CHANGES.rst"])


def orchestrator(run):
    yield Do(run.call("glob", pattern="tests/test_*.py", path=run.cwd), run.view("src/flask/__init__.py"))
    answer = yield Do(plan(run, faulty=run.attempt == 1))
    for tries in range(4):
        if re.match(r"\W*(ok\b|accepted|the plan is (accepted|complete|submitted|recorded))", answer.text, re.I):
            break
        log(f"ORCHESTRATOR {run.line} the tool says: {answer.text.strip()[:600]!r}")
        if tries == 0 and SHARED_TEST not in answer.text:
            log(f"WARNING {run.line} the error does not name {SHARED_TEST}")
        answer = yield Do(plan(run, new_reads=tries == 0), say="I correct what was found.")
    while True:
        yield Say("The plan is submitted.")


# ---------------------------------------------------------------- Developers

LOAD = '''"""Runs alone: python3 {me}"""

import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True


def load(name):
    spec = importlib.util.spec_from_file_location(f"alone_{{name}}", ROOT / "src" / "flask" / f"{{name}}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

'''


def finishing(run, summary, undo=None, also=()):
    """Call finish until it is content; after an error put right what it names, and only that."""
    undo = dict(undo or {})
    for _ in range(5):
        answer = yield Do(run.call("finish", summary=summary))
        named = [path for path in undo if path in answer.text]
        if named:
            log(f"MEND {run.line} finish says: {answer.text.strip()[:400]!r}; mending {named}")
            for path in named:
                yield Do(*undo.pop(path), say=f"{path} is not mine, I take it back.")
        elif "__pycache__" in answer.text:
            log(f"NOTE {run.line} finish complains about __pycache__: {answer.text.strip()[:300]!r}")
            yield Do(run.bash("find . -name __pycache__ -prune -exec rm -rf {} +", "remove byte code"))
        else:
            log(f"FINISH {run.line} {answer.text.strip()[:300]!r}")
            break
    while True:
        yield Say("Nothing is left to do.")


DURATIONS = '''from __future__ import annotations

import re

_UNITS = {{"d": 86400, "h": 3600, "m": 60, "s": 1}}
_TIME = re.compile(r"(?:(\\d+)d)?(?:(\\d+)h)?(?:(\\d+)m)?(?:(\\d+)s)?")


def parse_duration(text: str) -> int:
    """Read a time such as ``"1h30m"`` or ``"2d"`` and return it in seconds. A number
    without a unit is in {bare}.

    :param text: Numbers with the units ``d``, ``h``, ``m`` and ``s``, in this order.

    .. versionadded:: 3.2
    """
    text = text.strip().lower()

    if text.isascii() and text.isdigit():
        return int(text) * {factor}

    match = _TIME.fullmatch(text)

    if not text or match is None:
        raise ValueError(f"not a time: {{text!r}}")

{body}
'''
BODY_FIRST_ONLY = """    for number, factor in zip(match.groups(), _UNITS.values()):
        if number is not None:
            return int(number) * factor

    raise ValueError(f"not a time: {text!r}")"""
BODY_SUM = """    return sum(
        int(number or 0) * factor
        for number, factor in zip(match.groups(), _UNITS.values())
    )"""
DURATIONS_TEST = '''
def test_durations():
    parse_duration = load("durations").parse_duration
    wrong = []
    cases = [("45s", 45), ("2h", 7200), ("1h30m", 5400), ("1d2h3m4s", 93784), ("90", {bare90})]

    for text, expected in cases:
        if (got := parse_duration(text)) != expected:
            wrong.append(f"FAIL parse_duration({{text!r}}): expected {{expected}}, got {{got}}")

    for text in ["", "h", "1x", "30m1h", "-5s"]:
        try:
            wrong.append(f"FAIL parse_duration({{text!r}}): expected ValueError, got {{parse_duration(text)}}")
        except ValueError:
            pass

    assert not wrong, "\\n".join(wrong)


if __name__ == "__main__":
    try:
        test_durations()
    except AssertionError as e:
        print(e, file=sys.stderr)
        sys.exit(1)
'''


def durations(run):
    _, bare = need_decisions(run)
    factor = 60 if bare == "minutes" else 1
    body, summary = BODY_FIRST_ONLY, "parse_duration, with a test."
    if run.marker["role"] == "rework" or run.attempt > 1:
        failed = re.search(r"FAIL parse_duration\('([^'\n]*)'\): expected (\w+), got (\w+)", run.prompt)
        if failed and len(re.findall(r"\d+[dhms]", failed.group(1))) > 1:
            log(f"REWORK {run.line} from the evidence: {failed.group(0)}")
            summary = f"parse_duration adds all parts up; the check said: {failed.group(0)}"
        else:
            log(f"WARNING {run.line} the evidence of the failed check is not in the prompt")
            summary = "parse_duration adds all parts up (no evidence was in the prompt)."
        body = BODY_SUM
    yield Do(run.view("src/flask/helpers.py"))
    yield Do(
        run.create("src/flask/durations.py", DURATIONS.format(bare=bare, factor=factor, body=body)),
        run.create(
            "tests/test_durations_alone.py",
            LOAD.format(me="tests/test_durations_alone.py") + DURATIONS_TEST.format(bare90=90 * factor),
        ),
        say="Two files, at once.",
    )
    if body is BODY_SUM:
        done = yield Do(run.bash("python3 tests/test_durations_alone.py; echo exit $?", "run the check"))
        log(f"BASH {run.line} {done.text.strip()[:200]!r}")
    yield from finishing(run, summary)


MASKING = '''from __future__ import annotations

import typing as t

MASK = {mask!r}
SECRET = frozenset(
    {{"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"}}
)


def mask_headers(headers: t.Mapping[str, str]) -> dict[str, str]:
    """Copy headers for a log, with the values of those that carry secrets replaced.

    :param headers: The headers of a request or response.

    .. versionadded:: 3.2
    """
    return {{k: MASK if k.lower() in SECRET else v for k, v in headers.items()}}
'''
MASKING_TEST = '''
def test_masking():
    module = load("masking")
    got = module.mask_headers({{"Accept": "*/*", "AUTHORIZATION": "Bearer abc", "Cookie": "a=b"}})
    assert got == {{"Accept": "*/*", "AUTHORIZATION": {mask!r}, "Cookie": {mask!r}}}, got


if __name__ == "__main__":
    test_masking()
'''


def masking(run):
    mask, _ = need_decisions(run)
    yield Do(
        run.create("src/flask/masking.py", MASKING.format(mask=mask)),
        run.create(
            "tests/test_masking_alone.py",
            LOAD.format(me="tests/test_masking_alone.py") + MASKING_TEST.format(mask=mask),
        ),
    )
    undo = {}
    if run.marker["role"] == "developer" and run.attempt == 1:
        old = "from __future__ import annotations\n\nimport importlib.util\n"
        new = "from __future__ import annotations\n\n# See masking.py for headers in logs.\nimport importlib.util\n"
        yield Do(run.bash("mkdir -p notes", "a folder"))
        yield Do(run.create("notes/masking.md", "Which headers are secret: see src/flask/masking.py.\n"))
        yield Do(run.edit("src/flask/helpers.py", old, new))
        undo = {
            "notes/masking.md": [run.bash("rm -rf notes", "remove the note")],
            "src/flask/helpers.py": [run.edit("src/flask/helpers.py", new, old)],
        }
    done = yield Do(run.bash("python3 tests/test_masking_alone.py; echo exit $?", "run the check"))
    log(f"BASH {run.line} {done.text.strip()[:200]!r}")
    yield from finishing(run, "mask_headers, with a test.", undo)


SLUGS = '''from __future__ import annotations

import re
import unicodedata


def slugify(text: str, max_length: int | None = None) -> str:
    """Make a readable piece of URL from a title.

    :param text: Any text. Accents are dropped, other scripts are left out.
    :param max_length: Cut the result, between words where that is possible.

    .. versionadded:: 3.2
    """
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = "-".join(re.findall(r"[a-z0-9]+", text.lower()))

    if max_length is not None and len(slug) > max_length:
        cut = slug[: max_length + 1].rpartition("-")[0]
        slug = cut or slug[:max_length]

    return slug
'''
SLUGS_TEST = '''
def test_slugs():
    slugify = load("slugs").slugify
    assert slugify("Hello, World!") == "hello-world"
    assert slugify("  Crème brûlée — 2x ") == "creme-brulee-2x"
    assert slugify("one two three", 8) == "one-two"
    assert slugify("abcdefgh", 3) == "abc"
    assert slugify("!?") == ""


if __name__ == "__main__":
    test_slugs()
'''


def slugs(run):
    yield Do(
        run.create("src/flask/slugs.py", SLUGS),
        run.create("tests/test_slugs_alone.py", LOAD.format(me="tests/test_slugs_alone.py") + SLUGS_TEST),
    )
    done = yield Do(
        run.bash("python3 -m compileall -q src/flask/slugs.py && python3 tests/test_slugs_alone.py; echo exit $?", "run the checks")
    )
    log(f"BASH {run.line} {done.text.strip()[:200]!r}")
    if run.marker["role"] == "developer" and run.attempt == 1:
        nudge = yield Say("slugify is written and its test passes. Tell me if you want anything else.")
        log(f"NUDGE {run.line} {nudge.text.strip()[:400]!r}")
        if run.line not in nudge.text:
            log(f"WARNING {run.line} the reminder does not carry the marker line")
    yield from finishing(run, "slugify, with a test.")


PAGE = '''Small Helpers
=============

.. currentmodule:: flask

Three functions that many projects need. Each is in a module of its own and uses the
standard library only.


Times in the Configuration
--------------------------

:func:`parse_duration` reads a time and returns seconds. A number without a unit is in
{bare}.

.. code-block:: python

    from flask import parse_duration

    app.config["CACHE_TIME"] = parse_duration("1h30m")  # 5400


Headers in Logs
---------------

:func:`mask_headers` copies headers and shows ``{mask}`` in place of secrets.

.. code-block:: python

    from flask import mask_headers

    app.logger.info("headers: %r", mask_headers(request.headers))


Readable URLs
-------------

:func:`slugify` makes a piece of URL from a title.

.. code-block:: python

    from flask import slugify

    slugify("Hello, World!")  # 'hello-world'
'''


def page(run):
    mask, bare = need_decisions(run)
    yield Do(run.view("docs/logging.rst"))
    yield Do(run.create("docs/small-helpers.rst", PAGE.format(mask=mask, bare=bare)))
    answer = yield Do(
        run.call("request_file", path="docs/index.rst", why="A page that no toctree names cannot be reached, and Sphinx warns.")
    )
    log(f"REQUEST {run.line} {answer.text.strip()[:400]!r}")
    undo, summary = {}, "A page about the small helpers."
    if re.search(r"\bnot\b|refus|cannot|denied|is (protected|shared|owned)", answer.text, re.I):
        summary += " docs/index.rst was not granted, so nothing links to it yet."
    else:
        look = yield Do(run.bash("sed -n 30,70p docs/index.rst", "the index"))
        if "   small-helpers" not in look.text:
            old, new = "   web-security\n", "   web-security\n   small-helpers\n"
            yield Do(run.edit("docs/index.rst", old, new))
            undo = {"docs/index.rst": [run.edit("docs/index.rst", new, old)]}
        summary += " It is in the index."
    yield from finishing(run, summary, undo)


JOIN_TEST = '''
def test_together():
    durations, masking, slugs = load("durations"), load("masking"), load("slugs")
    assert durations.parse_duration("1h30m") == 5400
    assert masking.mask_headers({{"Cookie": "a"}}) == {{"Cookie": {mask!r}}}
    assert slugs.slugify("Hello, World!") == "hello-world"
    exported = (ROOT / "src/flask/__init__.py").read_text()

    for module, name in [("durations", "parse_duration"), ("masking", "mask_headers"), ("slugs", "slugify")]:
        assert f"from .{{module}} import {{name}} as {{name}}\\n" in exported, name
        assert f".. autofunction:: {{name}}\\n" in (ROOT / "docs/api.rst").read_text(), name
        assert name in (ROOT / "CHANGES.rst").read_text(), name


if __name__ == "__main__":
    test_together()
'''
CHANGE = """-   Add ``parse_duration``, ``mask_headers`` and ``slugify``, small helpers that use
    the standard library only.
"""


def join(run):
    mask, _ = need_decisions(run)
    look = yield Do(
        run.bash("head -n 60 CHANGES.rst", "the changelog"),
        run.bash("grep -n 'autofunction' docs/api.rst | head -n 5", "the API page"),
        run.bash("cat src/flask/__init__.py", "the exports"),
        run.bash("ls src/flask/durations.py src/flask/masking.py src/flask/slugs.py", "what came before"),
    )
    if "No such file" in look.text:
        log(f"WARNING {run.line} a module of an earlier task is missing: {look[-1][:300]!r}")
    unreleased = None
    for where, text in (("bash", look.text), ("prompt", run.prompt)):
        unreleased = re.search(r"Version 3\.2\.0\n-+\n\nUnreleased\n\n(.*?)\n\n\nVersion", text, re.S)
        if unreleased:
            break
        log(f"NOTE {run.line} CHANGES.rst is not readable from the {where}")
    if not unreleased:
        yield Do(run.call("give_up", reason="CHANGES.rst has no unreleased section that I can find."))
        while True:
            yield Say("I gave up.")
    last = unreleased.group(1).splitlines()[-1] + "\n"
    yield Do(
        run.edit("CHANGES.rst", last, last + CHANGE),
        run.edit(
            "docs/api.rst",
            ".. autofunction:: has_request_context\n",
            ".. autofunction:: parse_duration\n\n.. autofunction:: mask_headers\n\n.. autofunction:: slugify\n\n"
            ".. autofunction:: has_request_context\n",
        ),
        run.create(
            "tests/test_small_helpers_alone.py",
            LOAD.format(me="tests/test_small_helpers_alone.py") + JOIN_TEST.format(mask=mask),
        ),
    )
    for before, line in [
        ("from .globals import current_app as current_app\n", "from .durations import parse_duration as parse_duration\n"),
        ("from .signals import appcontext_popped as appcontext_popped\n", "from .masking import mask_headers as mask_headers\n"),
        ("from .templating import render_template as render_template\n", "from .slugs import slugify as slugify\n"),
    ]:
        yield Do(run.edit("src/flask/__init__.py", before, line + before))
    done = yield Do(run.bash("python3 tests/test_small_helpers_alone.py; echo exit $?", "run the check"))
    log(f"BASH {run.line} {done.text.strip()[:200]!r}")
    yield from finishing(run, "Exported, documented, in the changelog.")


DEVELOPERS = {
    "src/flask/durations.py": durations,
    "src/flask/masking.py": masking,
    "src/flask/slugs.py": slugs,
    "docs/small-helpers.rst": page,
    "CHANGES.rst": join,
}
TITLES = {"parse_duration:": durations, "mask_headers:": masking, "slugify:": slugs, "A page": page, "Export": join}


def developer(run):
    task = run.task()
    for path, script in DEVELOPERS.items():
        if path in task["owns"]:
            return script(run)
    for start, script in TITLES.items():
        if task["title"].startswith(start):
            return script(run)
    log(f"WARNING {run.line} a task that I do not know: {task}")
    return unknown(run)


def unknown(run):
    yield Do(run.call("give_up", reason="I do not know this task."))
    while True:
        yield Say("I gave up.")


def answer(run):
    if run.marker is None:
        return Say("Interlock")  # a title, a summary: something that the CLI asks for itself
    scripts = {"engineer": engineer, "orchestrator": orchestrator, "developer": developer, "rework": developer}
    script = scripts.get(run.marker["role"], unknown)(run)
    action = next(script)
    for turn in run.turns:
        action = script.send(turn)
    return action


# ---------------------------------------------------------------- HTTP


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _json(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path.split("?")[0].endswith("/models"):
            return self._json(200, {"object": "list", "data": [{"id": "stranger", "object": "model", "owned_by": "me"}]})
        self._json(404, {"error": {"message": f"nothing at {self.path}", "type": "invalid_request_error"}})

    def do_POST(self):
        try:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.split("?")[0].endswith("/chat/completions"):
                log(f"WARNING POST {self.path} is not spoken here")
                return self._json(404, {"error": {"message": f"nothing at {self.path}", "type": "invalid_request_error"}})
            body = json.loads(raw)
            run = Run(body)
            action = answer(run)
        except Exception as e:  # a fault of this script: say so loudly, on both sides
            log(f"ERROR {type(e).__name__}: {e}")
            return self._json(400, {"error": {"message": f"{type(e).__name__}: {e}", "type": "invalid_request_error"}})
        calls = [
            {
                "id": f"call_{uuid.uuid4().hex[:20]}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(args)},
            }
            for name, args in action.calls
        ]
        did = ", ".join(name for name, _ in action.calls) or f"text {action.text[:60]!r}"
        turn = len(run.turns) if run.marker else 0
        log(f"{run.line if run.marker else '(no marker)'} turn {turn}{' stream' if body.get('stream') else ''}: {did}")
        if JOURNAL:
            entry = {"marker": run.marker, "turn": turn, "model": body.get("model"), "tools": sorted(run.tools)}
            entry["prompt" if turn == 0 else "result"] = run.prompt if turn == 0 else run.turns[-1].text
            entry |= {"text": action.text, "calls": [[n, a] for n, a in action.calls]}
            with LOCK, open(JOURNAL, "a") as f:
                f.write(json.dumps(entry) + "\n")
        size = len(raw) // 4
        out = max(1, len(json.dumps(calls) + (action.text or "")) // 4)
        usage = {"prompt_tokens": size, "completion_tokens": out, "total_tokens": size + out}
        base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.get("model") or "stranger"}
        reason = "tool_calls" if calls else "stop"
        if not body.get("stream"):
            message = {"role": "assistant", "content": action.text} | ({"tool_calls": calls} if calls else {})
            choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
            return self._json(200, base | {"object": "chat.completion", "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

        def event(delta, finish=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            send(base | {"object": "chat.completion.chunk", "choices": [choice]})

        def send(value):
            self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
            self.wfile.flush()

        try:
            event({"role": "assistant", "content": ""})
            for part in re.findall(r"(?s).{1,24}", action.text or ""):
                event({"content": part})
            for i, c in enumerate(calls):
                f = c["function"]
                event({"tool_calls": [{"index": i, "id": c["id"], "type": "function", "function": {"name": f["name"], "arguments": ""}}]})
                for part in re.findall(r"(?s).{1,400}", f["arguments"]):
                    event({"tool_calls": [{"index": i, "function": {"arguments": part}}]})
            event({}, reason)
            if (body.get("stream_options") or {}).get("include_usage"):
                send(base | {"object": "chat.completion.chunk", "choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            log("the client went away")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not sys.argv[1].isdigit():
        sys.exit("usage: python3 model.py PORT [JOURNAL.jsonl]")
    JOURNAL = sys.argv[2] if len(sys.argv) == 3 else None
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    log(f"listening on http://127.0.0.1:{server.server_address[1]}/v1")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
