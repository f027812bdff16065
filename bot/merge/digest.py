"""The patch digest: what an approval is bound to. It stays the same over a rebase that changes nothing.

SHA-256 over sorted (path, modes, byte-exact hunks with three context lines; whole oids for binary files), without
line numbers and without folding white space; `git patch-id` gives one id to a statement inside and outside an `if`.
"""

import hashlib

import pygit2

VERSION = b"interlock-digest-1\0"


def tree_digest(old: pygit2.Tree, new: pygit2.Tree) -> str:
    """The digest of the patch between two trees, in hex."""
    diff = old.diff_to_tree(new, context_lines=3, interhunk_lines=0)
    total = hashlib.sha256(VERSION)
    for part in sorted(_part(patch) for patch in diff if patch is not None):
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def _part(patch: pygit2.Patch) -> bytes:
    delta = patch.delta
    old, new = delta.old_file, delta.new_file
    head = b"\0".join((new.raw_path, b"%o" % int(old.mode), b"%o" % int(new.mode)))
    if delta.is_binary or not patch.hunks:
        return b"\0".join((head, b"binary", str(old.id).encode(), str(new.id).encode()))
    body = [head]
    for hunk in patch.hunks:
        body.append(b"@@")
        body.extend(line.origin.encode() + line.raw_content for line in hunk.lines)
    return b"\0".join(body)
