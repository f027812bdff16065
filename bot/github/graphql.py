"""The few things that only GitHub's GraphQL API can do: its documents, and what its errors mean."""

from typing import Any, Final

from bot.errors import Rejected, Transient
from bot.github.app import GitHubApp
from bot.rules.sanitise import redacted
from schemas.base import RepoRef

RULES: Final = """query LandingRules($owner: String!, $name: String!, $ref: String!, $branch: String!) {
  repository(owner: $owner, name: $name) {
    ref(qualifiedName: $ref) { refUpdateRule { requiresSignatures } }
    mergeQueue(branch: $branch) { id }
  }
}"""
"""Classic branch protection as somebody without administration sees it. Rulesets are read over REST."""

MOVE: Final = "mutation MoveRef($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"

PULL: Final = """query QueuedPull($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) { pullRequest(number: $number) {
    id state isInMergeQueue mergeCommit { oid } mergeQueueEntry { headCommit { oid } baseCommit { oid } }
    timelineItems(last: 1, itemTypes: [REMOVED_FROM_MERGE_QUEUE_EVENT]) { nodes { ... on RemovedFromMergeQueueEvent {
      id reason actor { login } beforeCommit { statusCheckRollup { contexts(first: 50) { nodes {
        ... on CheckRun { name conclusion } ... on StatusContext { context state } } } } } } } } } } }"""

_ENQUEUE = "enqueuePullRequest(input: $input) { clientMutationId }"
ENQUEUE: Final = f"mutation Enqueue($input: EnqueuePullRequestInput!) {{ {_ENQUEUE} }}"

_DEQUEUE = "dequeuePullRequest(input: $input) { clientMutationId }"
DEQUEUE: Final = f"mutation Dequeue($input: DequeuePullRequestInput!) {{ {_DEQUEUE} }}"


async def ask(app: GitHubApp, repo: RepoRef, installation: int, document: str, **variables: Any) -> dict[str, Any]:
    """The answer's data. Raises Rejected with GitHub's words, or Transient when GitHub could not say."""
    answer = await app.graphql(repo, installation, {"query": document, "variables": variables})
    errors = answer.get("errors")
    if not errors:
        data: dict[str, Any] = answer["data"]
        return data
    said = redacted("; ".join(str(error.get("message", "")) for error in errors))
    kinds = {error.get("type") or (error.get("extensions") or {}).get("code") for error in errors}
    if kinds & {None, "RATE_LIMITED", "STALE_DATA"}:  # an error of GitHub's own has no type; what is stale is read anew
        raise Transient(f"GitHub's GraphQL API: {said}")
    raise Rejected(said)
