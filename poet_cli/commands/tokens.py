"""`poet tokens create NAME`, `poet tokens list`, `poet tokens revoke ID`: who may use a service."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.command_group import CommandGroup
from poet_cli.options import json_option
from poet_cli.output import print_json, print_table, say
from poet_cli.service_options import loaded_settings, require_service, service_options
from poet_core.errors import UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_service.database.store import Store
    from poet_service.jobs.records import TokenRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.group(
    cls=CommandGroup, epilog="Example: poet tokens create laptop --scope plans --scope devices"
)
def tokens() -> None:
    """API tokens of the service whose database this is; `poet serve` need not run."""


@tokens.command(
    "create",
    epilog="Examples:\n\n"
    "\b\n"
    "  poet tokens create laptop\n"
    "  export POET_TOKEN=$(poet tokens create ci --tenant team-a)\n"
    "  poet tokens create prometheus --scope metrics",
)
@click.argument("name")
@click.option("--tenant", default="local", show_default=True, metavar="NAME",
              help="Tokens of a tenant share solved problems; others never see them.")  # fmt: skip
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE",
    help="plans, devices, metrics or admin (all); may be repeated. Default: plans and devices.",
)  # fmt: skip
@click.option(
    "--most-active-jobs", type=click.IntRange(1, 10**6), metavar="N",
    help="Jobs that it may have waiting and running, instead of the setting's.",
)  # fmt: skip
@service_options
@json_option
def create_token(
    name: str,
    tenant: str,
    scopes: tuple[str, ...],
    most_active_jobs: int | None,
    as_json: bool,
    config: Path | None,
    **given: Any,
) -> None:
    """Make a token. Its text is printed once and cannot be read again: the database has a hash."""
    asked = _named(name, "token"), _named(tenant, "tenant")
    require_service()
    from poet_service.security.scopes import read_scopes

    rights = read_scopes(scopes or ("plans", "devices"))
    store = _store(config, given)
    try:
        record, text = store.add_token(*asked, rights, most_active_jobs)
    finally:
        store.close()
    if as_json:
        print_json(_document(record) | {"token": text})
        return
    say(f"Token {record.id} for tenant {record.tenant}: {' '.join(sorted(record.scopes))}")
    click.echo(text)


@tokens.command("list", epilog="Example: poet tokens list --json")
@service_options
@json_option
def list_tokens(as_json: bool, config: Path | None, **given: Any) -> None:
    """All tokens, the revoked ones too; never their texts."""
    store = _store(config, given)
    try:
        records = store.list_tokens()
    finally:
        store.close()
    if as_json:
        print_json({"tokens": [_document(record) for record in records]})
        return
    print_table(
        ("id", "name", "tenant", "scopes", "jobs", "made", "revoked"),
        [
            (
                str(record.id),
                record.name,
                record.tenant,
                " ".join(sorted(record.scopes)),
                "" if record.most_active_jobs is None else str(record.most_active_jobs),
                _when(record.created_at) or "",
                _when(record.revoked_at) or "",
            )
            for record in records
        ],
        right=("id", "jobs"),
    )


@tokens.command("revoke", epilog="Example: poet tokens revoke 3")
@click.argument("token_id", type=click.IntRange(1, 2**53 - 1), metavar="ID")
@service_options
@json_option
def revoke_token(token_id: int, as_json: bool, config: Path | None, **given: Any) -> None:
    """End a token. Running services obey within seconds; its jobs stay until they are too old."""
    store = _store(config, given)
    try:
        revoked = store.revoke_token(token_id)
    finally:
        store.close()
    if not revoked:
        raise UsageError(
            f"There is no valid token {token_id}.",
            code="token_id_unknown",
            hint="`poet tokens list` shows them; was it revoked before?",
        )
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        say(f"Token {token_id} is revoked.")


def _store(config: Path | None, given: dict[str, Any]) -> Store:
    loaded = loaded_settings(config, **given)
    from poet_service.state_folder import open_service_store

    return open_service_store(loaded.settings)


def _named(text: str, what: str) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"Expected a {what}'s name of letters, digits, '.', '_' and '-', at most 64, got "
            f"{printable(text, 80)!r}.",
            code="name_invalid",
            hint="E.g. laptop or team-a.",
        )
    return text


def _document(record: TokenRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "tenant": record.tenant,
        "scopes": sorted(record.scopes),
        "most_active_jobs": record.most_active_jobs,
        "created_at": _when(record.created_at),
        "revoked_at": _when(record.revoked_at),
    }


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
