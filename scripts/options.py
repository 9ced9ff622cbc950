"""Prints docs/options.md, made from the settings: `.venv/bin/python -m scripts.options > docs/options.md`."""

import sys

from assistant.settings import PREFIX, SECRETS, Settings

HEAD = """# Options

<!-- Generated from assistant/settings.py by `.venv/bin/python -m scripts.options > docs/options.md` -->

Give an option on the command line (`sh scripts/run --port 8000`), as an environment variable
(`TECH_ASSISTANT_PORT=8000`), or in a file `.env` in the directory where you start the application. The
command line has priority over the environment, and the environment over the file. In a variable, commas
separate the values of an option that may be repeated. Unknown options and variables are an error.
`sh scripts/run --help` prints the same descriptions.
"""
TABLE = """
## {group}

| option | environment variable | default | meaning |
|---|---|---|---|
{rows}
"""
GROUPS = {
    "Model": "model offline upstream upstream_model serving_url",
    "Server": "host port allowed_hosts proxies data open_browser",
    "Login": "login anonymous members operators oidc_issuer oidc_client_id oauth_endpoints user_header "
    "session_days",
    "Limits": "limit_questions limit_address_questions limit_tokens limit_conversations limit_megabytes "
    "limit_new_owners",
    "Frames and snapshots": "frame_ancestors snapshots",
    "Documentation": "documentation docs packages",
    "Answers": "prompt chat_template max_new_tokens temperature top_p repetition_penalty",
    "Embedded engine": "context parallel threads",
    "Load": "max_replies max_waiting",
    "Time limits in seconds": "connect_seconds first_seconds between_seconds total_seconds hang_seconds",
    "Direct use of the model by programs": "expose_serving serving_key",
    "Secrets": "secret_key upstream_key oidc_client_secret operator_key",
}


def page() -> str:
    tables = (
        TABLE.format(group=group, rows="\n".join(map(row, names.split()))) for group, names in GROUPS.items()
    )
    return HEAD + "".join(tables)


def row(name: str) -> str:
    field = Settings.model_fields[name]
    option = "" if name in SECRETS else f"`--{name.replace('_', '-')}`"
    if field.default is True:
        option += f", {option.replace('--', '--no-')}"
    shown = {"True": "on", "False": "off", "None": "", "()": ""}
    default = shown.get(str(field.default), f"`{field.default}`")
    if name == "data":
        default = "depends on the system"
    return f"| {option} | `{PREFIX}{name.upper()}` | {default} | {field.description} |"


if __name__ == "__main__":
    sys.stdout.write(page())
