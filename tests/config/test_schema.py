"""The JSON Schema: of the same keys as reading, and JSON."""

from __future__ import annotations

import json
from typing import Any

from regrow.config import keys
from regrow.config.schema import json_schema
from regrow.config.spec import Strategy


def test_schema_is_json() -> None:
    """The schema can be written as JSON and read back."""
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_schema_has_every_key() -> None:
    """Every table has exactly the keys that reading knows, each with a description."""
    properties: dict[str, Any] = json_schema()["properties"]
    families = {"supervisor": keys.SUPERVISOR, "worker": keys.WORKER, "workflow": keys.WORKFLOW}
    families["socket"] = keys.SOCKET
    sections = {"daemon": keys.DAEMON, "access": keys.ACCESS, "commands": keys.COMMANDS, "hub": keys.HUB}
    for name, table in {**sections, **families}.items():
        schema = properties[name]
        if name in families:
            (schema,) = schema["patternProperties"].values()
        assert set(schema["properties"]) == set(table.keys)
        assert all(entry["description"] for entry in schema["properties"].values())
        assert schema["additionalProperties"] is False


def test_schema_has_the_words_of_the_vocabulary() -> None:
    """Words come from the enumerations."""
    (supervisor,) = json_schema()["properties"]["supervisor"]["patternProperties"].values()
    assert supervisor["properties"]["strategy"]["enum"] == [str(word) for word in Strategy]
