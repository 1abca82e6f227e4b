"""The configuration described for editors (JSON Schema) and for people (docs/configuration.md), both from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from smppd.config import units
from smppd.config.loader import DEFAULTS_SECTION, OWN_KEYS, PRIVATE_SECTION
from smppd.config.settings import Settings

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_UNITS: Final = {
    units.DURATION_PATTERN: "duration",
    units.RATE_PATTERN: "rate",
    units.SIZE_PATTERN: "size",
}


def json_schema() -> str:
    """The JSON Schema of the configuration file, as text that ends with a newline."""
    schema = {"$schema": _DRAFT, **Settings.model_json_schema(), "title": "smppd configuration"}
    account = schema["$defs"]["Account"]
    schema["properties"] = {
        **schema["properties"],
        DEFAULTS_SECTION: {
            "type": "object",
            "description": "Keys that every account has which does not name them itself.",
            "properties": {key: value for key, value in account["properties"].items() if key not in OWN_KEYS},
            "additionalProperties": False,
        },
    }
    schema["patternProperties"] = {f"^{PRIVATE_SECTION}": {"description": "The writer's own: anchors stand there."}}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_WORDS: Final = {"path": "path", "regex": "RE2 pattern", "string": "text", "boolean": "true or false"}


_HEAD: Final = """\
# Configuration: every key

Generated from the settings' own descriptions by `smppd schema --markdown`; a test holds it current.
`smppd check --config F` finds every mistake in a file at once, with line and column. `config/smppd.schema.json`
(`smppd schema`) gives editors completion and the same descriptions. `config/smppd.yaml` is a commented example.

- **duration**: `500ms`, `30s`, `5m`, `72h`, `30d`, `1w`; a number without its unit is refused, except `0`.
- **rate**: `100/s`, `3000/m`, `50000/h`. **size**: `512B`, `10kB` (1000), `64KiB` (1024), `16MiB`.
- **path**: relative paths are relative to the configuration file.
- **list**: where a list is expected, one value may stand alone: `policies: house`.
- **Secrets are never in the file**: `{file: path}`, `{credential: NAME}`, `{env: NAME}`, or an Argon2id hash from
  `smppd passwd`.
- YAML as in its version 1.2: `off`, `no` and `12:30` are text, and so is a number with a leading `0` or `+`.
  Anchors, aliases and `<<` work, tags do not; a key given twice and an unknown key are faults. Top-level keys that begin
  with `x-` are yours: a place for anchors.
- **`account_defaults`**: keys that every account has which does not name them itself, `account_defaults: {networks: any,
  throughput: 20/s}`. An account's own key replaces the default whole, sections such as `receipts` too. `system_id`,
  `password_hash`, `numbers` and `keywords` are of one account only.
- **`include`**: further files with `accounts`, `upstreams`, `routes`, `policies`, `lists` and `brands`: paths, or patterns
  such as `accounts.d/*.yaml`. Lists are joined, this file's entries first, then file by file, sorted by name; mappings are
  merged; the same name twice is a fault. Anchors and `x-` keys are of one file, `account_defaults` are every account's.
- **Files with secrets** (passwords, private keys) are refused when others can read them or write to them: mode 0600 or 0640.
  Wherever a file is named, `{credential: NAME}` names a systemd credential instead.
- A reload (SIGHUP) applies everything or nothing. Addresses of `listeners` and their TLS on or off, `store`, `keys`,
  `http`, `control` and `node` need a restart, and a reload that would change them is refused.
"""

# Where each section's table goes, and the heading that says where its keys stand in the file.
_ORDER: Final = (
    ("Settings", "The file"),
    ("Listener", "listeners[]"),
    ("ListenerTls", "listeners[].tls"),
    ("Account", "accounts[]"),
    ("AccountDlt", "accounts[].dlt"),
    ("Basis", "accounts[].basis"),
    ("Retain", "accounts[].retain"),
    ("Floor", "accounts[].retain.at_least, retention.at_least"),
    ("OneTimeCodes", "accounts[].one_time_codes"),
    ("ReceiptSettings", "accounts[].receipts"),
    ("ClientCertificate", "accounts[].client_certificate"),
    ("AccountOptOut", "accounts[].opt_out"),
    ("Traffic", "accounts[].traffic"),
    ("Signal", "accounts[].traffic.new_countries"),
    ("Runs", "accounts[].traffic.runs"),
    ("Velocity", "accounts[].traffic.velocity"),
    ("SameText", "accounts[].traffic.same_text"),
    ("ReceiptSignal", "accounts[].traffic.receipts"),
    ("SuspendAfter", "accounts[].suspend_after"),
    ("Upstream", "upstreams[]"),
    ("UpstreamTls", "upstreams[].tls"),
    ("SecretRef", "upstreams[].password"),
    ("Backoff", "upstreams[].reconnect, upstreams[].retry"),
    ("Route", "routes[]"),
    ("Weighted", "routes[].upstreams[]"),
    ("ProtectedBrand", "brands.NAME"),
    ("Policy", "policies.NAME"),
    ("Rule", "policies.NAME[]: rules"),
    ("Condition", "when, unless"),
    ("Action", "do"),
    ("Refuse", "do.refuse"),
    ("ReplaceSender", "do.replace_sender"),
    ("ListSource", "lists.NAME"),
    ("OptOut", "opt_out"),
    ("NumberHearing", "opt_out.numbers[]"),
    ("OwnWords", "opt_out.words"),
    ("Answers", "opt_out.answers"),
    ("QuietHours", "quiet_hours"),
    ("Allowed", "quiet_hours.countries.CODE"),
    ("Senders", "senders"),
    ("ConsentRegister", "consent"),
    ("Dlt", "dlt"),
    ("Registry", "dlt.registries.NAME"),
    ("Retention", "retention"),
    ("Ceiling", "retention.at_most"),
    ("Store", "store"),
    ("KeyRef", "keys"),
    ("Http", "http"),
    ("Console", "console"),
    ("ConsoleTls", "console.tls"),
    ("Control", "control"),
    ("Limits", "limits"),
    ("DelayGrowth", "limits.id_delay"),
    ("Log", "log"),
    ("Shipping", "shipping"),
    ("Traces", "traces"),
    ("ShippedFile", "shipping.file"),
    ("SyslogServer", "shipping.syslog"),
    ("SyslogTls", "shipping.syslog.tls"),
    ("Feed", "feed"),
    ("FeedFile", "feed.file"),
    ("FeedSocket", "feed.socket"),
    ("Tracing", "tracing"),
)


def markdown() -> str:
    """docs/configuration.md: a table for each section with every key, its type, default and meaning."""
    schema = Settings.model_json_schema()
    models: dict[str, Any] = {"Settings": schema, **schema["$defs"]}
    missing = models.keys() - {name for name, _ in _ORDER}
    if missing:
        raise ValueError(f"sections without a place in the page: {', '.join(sorted(missing))}")
    return _HEAD + "".join(_section(title, models[name]) for name, title in _ORDER)


def _section(title: str, model: dict[str, Any]) -> str:
    body = next(branch for branch in reversed([model, *model.get("anyOf", ())]) if "properties" in branch)
    lines = [
        f"\n## {title}\n",
        model.get("description", ""),
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for key, field in body["properties"].items():
        required = key in body.get("required", ())
        default = "**required**" if required else _default(field)
        lines.append(f"| `{key}` | {_cell(_type(field))} | {default} | {_cell(_meaning(field))} |")
    return "\n".join(lines) + "\n"


def _meaning(field: dict[str, Any]) -> str:
    """A field with the same description as its section has none of its own."""
    if "description" in field or "$ref" not in field:
        return str(field.get("description", ""))
    return str(Settings.model_json_schema()["$defs"][field["$ref"].rsplit("/", 1)[1]].get("description", ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""  # a section: its own table has the defaults
    value = field["default"]
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, list):
        return "`" + ", ".join(map(str, value)) + "`"
    return f"`{json.dumps(value) if isinstance(value, bool) else value}`"


def _type(field: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_types(field)))


def _types(field: dict[str, Any]) -> Iterator[str]:
    if "$ref" in field:
        yield _anchor(field["$ref"].rsplit("/", 1)[1])
    elif "anyOf" in field:
        branches = list(field["anyOf"])
        lists = [branch["items"] for branch in branches if branch.get("type") == "array"]
        for branch in branches:
            if branch.get("type") != "null" and branch not in lists and branch.get("const") != 0:
                yield from _types(branch)
        if any(branch.get("type") == "null" for branch in branches):
            yield "null"
    elif field.get("type") == "array":
        yield f"list of {_type(field['items'])}"
    elif "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        yield "ESME_ name" if len(values) > 20 else " ".join(dict.fromkeys(f"`{value}`" for value in values))
    elif field.get("pattern") in _UNITS:
        yield _UNITS[field["pattern"]]
    elif field.get("type") == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        yield f"{low} to {high}" if high is not None else f"number from {low}" if low is not None else "number"
    elif field.get("type") == "object":
        inner = field.get("patternProperties") or {}
        if isinstance(field.get("additionalProperties"), dict):
            inner = {"": field["additionalProperties"]}
        if "matches" in field.get("properties", {}):
            yield "{matches: RE2 pattern}"
        elif inner:
            key, of = next(iter(inner.items()))
            yield f"{'tag' if '0[xX]' in key else 'name'}: {_type(of)}"
        else:
            yield "{file: path}"
    else:
        kind = str(field.get("type", ""))
        yield _WORDS.get(field.get("format", kind), kind)


def _anchor(name: str) -> str:
    title = dict(_ORDER)[name]
    slug = "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")
    return f"[{title}](#{slug})"
