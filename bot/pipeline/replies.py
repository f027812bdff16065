"""What we answer to commands and presses that do nothing, or whose doing is seen nowhere else: see bot.pipeline.messages."""

from collections.abc import Sequence

from bot.pipeline.messages import your_turn
from schemas.plan import Plan
from schemas.ticket import Ticket

USAGE: dict[str, str] = {
    "approve": "approve <plan hash>", "accept": "accept", "replan": "replan [why]", "answer": "answer N ...",
    "stop": "stop [why]", "resume": "resume", "retry": "retry [task]", "release": "release <change>",
    "priority": "priority 0..9", "rollback": "rollback", "status": "status", "help": "help",
}  # fmt: skip
HELP = f"On the first line of a comment, `/interlock` knows: {', '.join(f'`{usage}`' for usage in USAGE.values())}."
UNKNOWN = f"That is no command. {HELP}"  # which is not repeated: it is somebody's text
NOT_STOPPED = "Nothing is stopped here."
STOPPED_ALREADY = "It is stopped already; `/interlock resume` goes on."
NO_SUCH_QUESTION = "No open question has that number. Say `/interlock answer 2 your answer`."
NOTHING_OFFERED = "The issue's author has left no answer to accept."
NO_PLAN = "There is no plan waiting for approval."
PLAN_AT_WORK = "There is no plan waiting for approval; a plan under work cannot be replaced."
PLANNING_NOW = "A plan is being made right now."
NO_SUCH_TASK = "No task of that name waits for another try."


def misused(verb: str) -> str:
    """A command with too little or too much behind it."""
    return f"That was not done: the line reads `/interlock {USAGE[verb]}` and nothing else."


def over(ticket: Ticket) -> str:
    """A command that comes after the end."""
    return your_turn(f"This is {ticket.state}: only `rollback`, `status` and `help` still do something.",
                "label the issue again for new work.")  # fmt: skip


def over_first(of: str) -> str:
    """A rollback that came too late: new work has begun on the issue."""
    return your_turn(
        f"{of} is not taken back, since new work has begun on the issue.", "take it back by a change of your own."
    )


def priority(given: int) -> str:
    """What became of the queue's order."""
    return f"Its changes now have priority {given} in the queue: each step is worth an hour of waiting."


def nothing_landed(ticket: Ticket) -> str:
    """There is nothing to roll back."""
    if not ticket.open:
        return f"Nothing of this was landed on `{ticket.base_ref}` by Interlock, so there is nothing to take back."
    return your_turn(
        "Nothing of this is on the base branch yet, so there is nothing to take back.", "`/interlock stop` ends it."
    )


def name_the_held(changes: Sequence[str]) -> str:
    """A release of nothing, or of nobody knows what."""
    if not changes:
        return "No change is held here."
    return your_turn(
        "Name the change to let go on.", "\n\n" + "\n".join(f"    /interlock release {one}" for one in changes[:5])
    )


def pressed_in_vain(who: str, why: str) -> str:
    """A button that did nothing."""
    return f"{who} pressed a button that did nothing: {why}."


def name_the_plan(made: Plan) -> str:
    """An approval of nobody knows which plan."""
    return f"Name the plan that you approve:\n\n    /interlock approve {made.hash[:12]}"


def other_plan(made: Plan) -> str:
    """An approval of another plan."""
    return f"That is not the hash of the plan above, which may have changed. Its hash is `{made.hash[:12]}`."
