"""A policy file's bytes, read as a policy or refused in a sentence."""

import yaml
from pydantic import ValidationError

from schemas.policy import Policy


def read(data: bytes) -> Policy | str:
    """The policy of these bytes (empty: the defaults), or what is wrong with them, with its key."""
    try:
        return Policy.model_validate(yaml.safe_load(data) or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        return f"{where}: {first['msg']}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return f"it is not YAML: {error}"
