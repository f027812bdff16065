#!/usr/bin/env python3
"""Verify an exported audit chain without Interlock: python3 verify_audit.py audit.jsonl [HEAD]

Exit 0 and the chain's newest hash if every row and text is what it was, 1 and the first fault otherwise. HEAD is a newest
hash that you noted down earlier (`interlock audit verify`): it must be in the chain, so that it was not made anew since.
"""

import hashlib
import json
import sys


def main(path: str, noted: str = "") -> int:
    previous, count, seen = "0" * 64, 0, {"0" * 64}
    with open(path, encoding="utf-8") as lines:
        for count, line in enumerate(lines, 1):
            try:
                item = json.loads(line)
                row = item["row"]
                content = {key: value for key, value in row.items() if key not in ("previous", "hash")}
                text = previous + "\n" + json.dumps(content, sort_keys=True, separators=(",", ":"))
                if row["seq"] != count or row["previous"] != previous:
                    return wrong(f"a row is missing before line {count}")
                if row["hash"] != hashlib.sha256(text.encode()).hexdigest():
                    return wrong(f"row {count} was changed")
                for name in ("event", "decision"):
                    body = item[name]
                    if (
                        body is not None
                        and hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() != row[name]
                    ):
                        return wrong(f"the {name} of row {count} was changed")
            except (ValueError, KeyError, TypeError) as error:
                return wrong(f"line {count} is no row of an export ({type(error).__name__})")
            previous = row["hash"]
            seen.add(previous)
    if noted and noted not in seen:
        return wrong(f"{noted} is not in this chain: it was made anew, or its end was cut off")
    print(f"{count} rows, newest hash {previous}")
    return 0


def wrong(what: str) -> int:
    print(f"NOT VERIFIED: {what}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
