"""The `waddlebot` command (contracts §10). Imports what a command needs only when that command runs."""

from __future__ import annotations

import csv
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import __version__
from ..base.chat import count_of
from ..base.errors import ConfigError, WaddleBotError
from ..base.wire import for_terminal, is_number
from ..fleet.home import Home, NoFleet, default_home, demo_home

if TYPE_CHECKING:
    from ..data.database import Database
    from ..web.auth import NewKey
    from .console import Console, Outcome

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("member", "subscriber", "vip", "moderator", "admin", "owner")
# Who the audit log says it was.
COMMAND_LINE = "command line"
GROUPS = ("collectors", "admins", "services", "api-users", "super-admins")
OVERLAYS = ("ticker", "media", "general")
NICKNAMES = {"sub": "subscription", "gift": "subgift", "bits": "cheer", "tip": "donation", "join": "member_join"}
NO_FLEET = 2

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Lifetime(click.ParamType):  # type: ignore[type-arg]
    """How long something lasts: 90d, 12h, 30m or 45s."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], value[-1:]
        if unit not in SECONDS or not is_number(number, digits=5):
            self.fail(f"{value!r} is not a time such as 90d, 12h, 30m or 45s.", param, ctx)
        return timedelta(seconds=int(number) * SECONDS[unit])


class Ending(Lifetime):
    """When something ends: after a lifetime, or at a date."""

    name = "ending"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # type: ignore[override]
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = datetime.now(UTC) + super().convert(value, param, ctx)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if at <= datetime.now(UTC):
            self.fail(f"{value!r} is over.", param, ctx)
        return at


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=default_home,
    show_default="$WADDLEBOT_HOME",
    help="The fleet's folder.",
)


def speaker_options(function: F) -> F:
    for option in (
        click.option("--channel", default="general", show_default=True, help="The console channel to speak in."),
        click.option(
            "--level", type=click.Choice(LEVELS), default="owner", show_default=True, help="Speak at this level."
        ),
        click.option("--as", "name", default=getpass.getuser, show_default="you", help="Speak as this person."),
        home_option,
    ):
        function = option(function)
    return function


def echo(text: str, *, nl: bool = True, **style: Any) -> None:
    """Print a text, whoever wrote it."""
    click.secho(for_terminal(text), nl=nl, **style)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="waddlebot")
def cli() -> None:
    """Run a WaddleBot fleet and talk to it."""


@cli.command()
@click.option("--home", type=click.Path(path_type=Path), show_default="$WADDLEBOT_HOME", help="The fleet's folder.")
@click.option("--demo", is_flag=True, help="Play Twitch, Discord and Slack too, with a page to see and try it all.")
@click.option("--port", type=int, default=8000, show_default=True, help="Port of the fleet; modules follow from it.")
@click.option("--ws-port", type=int, show_default="--port plus 28", help="Port of the overlays' sockets.")
@click.option("--per-module", is_flag=True, help="Run each module in a process of its own, as its container does.")
@click.option("--verbose", is_flag=True, help="Show the modules' log lines here too.")
def up(home: Path | None, demo: bool, port: int, ws_port: int | None, per_module: bool, verbose: bool) -> None:
    """Bring a whole fleet up and keep it up until Ctrl-C."""
    from ..fleet.fleet import Fleet, Options

    home = home or (demo_home() if demo else default_home())
    options = Options(home, port, ws_port, per_module, verbose, demo)
    sys.exit(Fleet(options, Home(home)).run())


@cli.command()
@speaker_options
@click.option("--json", "as_json", is_flag=True, help="Print the fleet's whole answer.")
@click.argument("text")
def say(home: Path, name: str, level: str, channel: str, as_json: bool, text: str) -> None:
    """Say one line in the demo community's chat and print what the bot answers.

    Exits with 0, with 1 when the command was refused, failed or is not known, and with 2 when no fleet runs.
    """
    with reporting():
        console = _console(home)
        sys.exit(_speak(console, console.event(text, _speaker(name, level, channel)), as_json=as_json))


@cli.command()
@speaker_options
@click.option("--json", "as_json", is_flag=True, help="Print the fleet's whole answer.")
@click.argument("event")
@click.argument("text", default="")
def simulate(home: Path, name: str, level: str, channel: str, as_json: bool, event: str, text: str) -> None:
    """Try an event (chatMessage, follow, raid, …) without any effect: nothing is stored, charged or sent.

    With ticker, media or general the text is shown on the demo community's overlay, marked TEST.
    """
    with reporting():
        console = _console(home)
        if event in OVERLAYS:
            console.show_test(event, text)
            echo(f"{console.shown_on(event)}, marked TEST")
            return
        kind = _message_type(event)
        made = console.event(text, _speaker(name, level, channel), simulate=True, kind=kind)
        status = _speak(console, made, as_json=as_json)
        echo("(simulated: nothing was changed)", dim=True, err=True)
        sys.exit(status)


@cli.command()
@speaker_options
def chat(home: Path, name: str, level: str, channel: str) -> None:
    """Talk to the fleet: a prompt with history, as anybody at any level."""
    with reporting():
        from .terminal import Chat

        Chat(Home(home), _speaker(name, level, channel)).run()


@cli.command()
@home_option
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Keep the recording's pace, so many times.")
@click.option("--fresh", is_flag=True, help="Give messages new ids: the fleet ignores those that it has seen.")
@click.option("--url", help="The webhook, if it is not that of the home's fleet.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(home: Path, speed: float | None, fresh: bool, url: str | None, file: Path) -> None:
    """Feed recorded notifications of a platform to the fleet's webhook, one JSON object on each line.

    What a line looks like says the README of the platform's module. Only channels that the fleet serves are answered.
    Exits with 1 when a line was refused or not understood, and with 2 when no fleet runs.
    """
    from ..base.manifest import all_manifests, load_part

    with reporting():
        manifest = next((each for each in all_manifests() if (each.folder / "replay.py").exists()), None)
        if manifest is None:
            raise ConfigError("No module of this checkout can replay anything.")
        open_replay = load_part(manifest.package, "replay").open_replay
        opened = open_replay(manifest, Home(home), url=url, speed=speed, fresh=fresh)
        with file.open("rb") as lines:
            for problem in opened.run(lines):
                echo(f"{file}: {problem}", fg="red", err=True)
        counts = opened.counts
        echo(f"{counts.taken} taken, {counts.refused} refused, {counts.not_understood} not understood.")
        sys.exit(0 if counts.ok else 1)


@cli.command()
@home_option
@click.option("--json", "as_json", is_flag=True)
def doctor(home: Path, as_json: bool) -> None:
    """Check everything about the running fleet and say what to do about what is wrong.

    Exits with 0, with 1 when something is wrong, and with 2 when no fleet runs.
    """
    from dataclasses import asdict

    from .doctor import examine

    with reporting():
        findings = []
        for each in examine(Home(home)):
            findings.append(each)
            if not as_json:
                mark, colour = {"ok": ("✓", "green"), "note": ("–", "yellow"), "bad": ("✗", "red")}[each.verdict]
                echo(mark, fg=colour, nl=False)
                echo(f" {each.what}: {each.detail}")
                if each.advice:
                    echo(f"    {each.advice}", dim=True)
        if as_json:
            echo(json.dumps([asdict(each) for each in findings]))
        sys.exit(1 if any(each.verdict == "bad" for each in findings) else 0)


@cli.command()
@home_option
@click.option("--post", is_flag=True, help="Also apply what only works with the new code.")
def migrate(home: Path, post: bool) -> None:
    """Bring the database's schema up to date. `up` does this by itself."""
    from ..data.migrate import migrate as apply

    with reporting():
        for name in apply(_database_url(home), post=post):
            echo(f"applied {name}")


passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the passphrase from this file's first line; else $WADDLEBOT_BACKUP_PASSPHRASE, else it is asked for.",
)


@cli.command()
@home_option
@passphrase_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(home: Path, passphrase_file: Path | None, file: Path) -> None:
    """Write the whole fleet into FILE: its database with all uploads, and its keys. It may go on working.

    Only the passphrase opens the file. With DATABASE_URL set it is that database that is written.
    """
    from ..fleet.backup import backup as write

    with reporting():
        write(Home(home), file, _passphrase(passphrase_file, is_new=True), echo)


@cli.command()
@home_option
@passphrase_option
@click.option("--force", is_flag=True, help="Put aside what is there, or with DATABASE_URL replace it.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(home: Path, passphrase_file: Path | None, force: bool, file: Path) -> None:
    """Make an empty home what a fleet was when FILE was written. No fleet may run in it meanwhile."""
    from ..fleet.backup import restore as read

    with reporting():
        read(Home(home), file, _passphrase(passphrase_file, is_new=False), echo, force=force)
        at = "" if home == default_home() else f" --home {home}"
        echo(f"Start it with: waddlebot up{at}")


def _passphrase(file: Path | None, *, is_new: bool) -> str:
    if file is not None:
        return file.read_text().splitlines()[0] if file.stat().st_size else ""
    known = os.environ.get("WADDLEBOT_BACKUP_PASSPHRASE")
    return known or str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new))


@cli.group()
def keys() -> None:
    """Keys of services and programs that may call the fleet."""


@keys.command("create")
@home_option
@click.option("--name", required=True, help="Who will use it.")
@click.option("--group", required=True, type=click.Choice(GROUPS), help="What it may do.")
@click.option("--platform", "platforms", multiple=True, help="For collectors: only this platform. May be repeated.")
@click.option("--module", "module_name", help="For services: the module that it speaks for.")
@click.option("--community", help="Confine it to a community, by slug or number.")
@click.option("--expires", type=Ending(), help="When it ends: 90d, 12h, or a date such as 2027-01-31.")
@click.option("--json", "as_json", is_flag=True)
def create_key(
    home: Path,
    name: str,
    group: str,
    platforms: tuple[str, ...],
    module_name: str | None,
    community: str | None,
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Make a key and show it, this once."""
    from ..community.communities import UnknownCommunity, find_community
    from ..web.auth import create_account

    with reporting(), database(home) as db, db.transaction() as transaction:
        community_id = find_community(transaction, community) if community else None
        if community and community_id is None:
            raise UnknownCommunity(f"There is no community {community}.")
        made = create_account(
            transaction,
            name=name,
            groups=[group],
            module_name=module_name,
            platforms=platforms,
            community_id=community_id,
            expires_at=expires,
        )
    _show_key(made, as_json=as_json)


@keys.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True)
def list_keys(home: Path, as_json: bool) -> None:
    """List the accounts, without their keys."""
    from ..web.auth import list_accounts

    with reporting(), database(home) as db, db.transaction() as transaction:
        rows = list_accounts(transaction)
    if as_json:
        echo(json.dumps(rows, default=str))
        return
    for row in rows:
        what = row["module_name"] or ",".join(row["platforms"])
        used = f"{row['last_used']:%Y-%m-%d %H:%M}" if row["last_used"] else "never used"
        ends = f", ends {row['expires_at']:%Y-%m-%d %H:%M}" if row["expires_at"] else ""
        echo(f"{row['id']}  {row['name']:<24} {','.join(row['groups']):<20} {what:<20} {used}{ends}")


@keys.command("revoke")
@home_option
@click.argument("key")
def revoke_key(home: Path, key: str) -> None:
    """End a key at once, by its id or its account's name."""
    from ..web.auth import ACCOUNTS, revoke_account

    with reporting(), database(home) as db:
        with db.transaction() as transaction:
            key_ids = revoke_account(transaction, key)
        for key_id in key_ids:
            _tell_processes(home, ACCOUNTS, key_id)
        Home(home).forget_keys(key_ids)
        echo(f"Revoked {key}.")


@keys.command("rotate")
@home_option
@click.argument("name")
@click.option("--overlap", default="1h", show_default=True, type=Lifetime(), help="How long the old key works on.")
@click.option("--expires", type=Ending(), help="When the new key ends: 90d, 12h, or a date such as 2027-01-31.")
@click.option("--json", "as_json", is_flag=True)
def rotate_keys(home: Path, name: str, overlap: timedelta, expires: datetime | None, as_json: bool) -> None:
    """Give an account another key and show it, this once; the old one ends after the overlap."""
    from ..web.auth import ACCOUNTS, rotate_key

    with reporting(), database(home) as db:
        with db.transaction() as transaction:
            made = rotate_key(transaction, name, overlap=overlap, expires_at=expires)
        for key_id in made.ended:
            _tell_processes(home, ACCOUNTS, key_id)
        is_ours = Home(home).replace_key(name, made.api_key)
    _show_key(made, as_json=as_json)
    if is_ours and not as_json:
        echo("The home has it: restart the fleet before the overlap is over, so that it is used.")


@cli.group()
def audit() -> None:
    """The log of what was done at the gateway's broker."""


@audit.command("verify")
@home_option
@click.option("--digest", help="A digest that was written down before, which the log must still hold.")
def verify_audit(home: Path, digest: str | None) -> None:
    """Say whether the broker's log is as it was written; exits with 1 when it is not."""
    from ..base.encryption import Keyring
    from ..base.settings import Settings
    from ..data.chain import verify

    with reporting(), database(home) as db:
        if Home(home).find_running() and not os.environ.get("WADDLEBOT_ENCRYPTION_KEYS"):
            os.environ["WADDLEBOT_ENCRYPTION_KEYS"] = Home(home).load_secrets()[0].encryption_keys
        os.environ.setdefault("DATABASE_URL", _database_url(home))
        found = verify(db, Keyring(Settings.load()), digest=digest)
    for problem in found.problems:
        echo(problem, fg="red")
    if not found.holds:
        sys.exit(1)
    if not found.rows:
        echo("The log is empty.")
        return
    sealed = "its end is sealed" if found.is_sealed else "its end is not sealed: WADDLEBOT_ENCRYPTION_KEYS is not set"
    echo(f"The log holds: {found.rows} rows, {sealed}. {found.digest}")


@cli.group()
def portal() -> None:
    """The portal, where communities are looked after in a browser."""


@portal.command("login")
@home_option
@click.argument("email")
def portal_login(home: Path, email: str) -> None:
    """Print a link that signs EMAIL in to the portal as an operator, once, within ten minutes."""
    from ..fleet.fleet import post

    with reporting():
        found = Home(home)
        running = found.get_running()
        base = running.environment.get("PORTAL_URL") or running.url
        made = post(f"{base}/portal/links", {"email": email}, found.console_key() or "")
        if not made.get("url"):
            raise ConfigError("The portal made no link: is it running, and is that an e-mail address?")
        echo(made["url"])


@cli.command("import")
@home_option
@click.option("--community", default="demo", show_default=True, help="Where it goes, by slug or number.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the fleet's whole answer.")
@click.argument("source", type=click.Choice(("nightbot", "streamelements", "csv")))
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_foreign(
    home: Path, community: str, dry_run: bool, as_json: bool, source: str, files: tuple[Path, ...]
) -> None:
    """Bring along what another bot had: the answers of its API as files, or CSV. All of it or nothing.

    What cannot be carried is listed, with why, and what works otherwise here. Exits with 0 also where it was all there
    already, with 1 when a file cannot be read, naming the place, and with 2 when no fleet runs.
    """
    from .importing import bring

    with reporting():
        answer = bring(Home(home), source, files, community=community, apply=not dry_run)
        if as_json:
            echo(json.dumps(answer))
            return
        for step in answer["steps"]:
            mark, colour = {"create": ("+", "green"), "update": ("~", "yellow"), "skip": ("=", None)}[step["action"]]
            echo(f"{mark} ", fg=colour, nl=False)
            echo(f"{step['kind'].replace('_', ' ')} {step['name']}: {step['why']}")
        for title, mark in (("left", "-"), ("differs", "!")):
            for each in answer[title]:
                echo(f"{mark} ", fg="red" if title == "left" else "yellow", nl=False)
                echo(f"{each['what']}: {each['why']}")
        counts = answer["counts"]
        words = "{create} made, {update} changed, {skip} there already, {left} not carried.".format(**counts)
        changes = counts["create"] + counts["update"]
        echo(words + ("" if changes else " Nothing was changed."), bold=True)
        if dry_run:
            echo("(dry run: nothing was changed)", dim=True, err=True)


@cli.group()
def servers() -> None:
    """Channels and servers that the fleet serves."""


@servers.command("add")
@home_option
@click.option("--platform", required=True, callback=lambda _context, _option, named: named.strip().lower())
@click.option("--channel", default="", help="The channel's id; none means the whole server.")
@click.option("--server", "server_id", default="", help="The server's, workspace's or team's id, where there is one.")
@click.option("--name", default="", help="What people call it.")
@click.option("--community", default="demo", show_default=True, help="The community that it belongs to.")
@click.option("--activation", is_flag=True, help="Serve it only once the key that is printed has been posted.")
def add_server(
    home: Path, platform: str, channel: str, server_id: str, name: str, community: str, activation: bool
) -> None:
    """Serve a channel."""
    from ..community.directory import add_server as add
    from ..community.directory import check_addable, make_activation_key

    key = make_activation_key() if activation else None
    with reporting(), database(home) as db:
        with db.transaction() as transaction:
            check_addable(transaction, platform, channel, server_id, community)
            entity_id = add(
                transaction,
                platform,
                channel,
                server_id=server_id,
                name=name,
                community=community,
                activation_key=key,
            )
        _tell_about_servers(home)
        if key:
            echo(f"{entity_id} waits for its activation key, which is shown only now:")
            echo(key)
        else:
            echo(f"{entity_id} is served in community {community}.")


@servers.command("import")
@home_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_servers(home: Path, file: Path) -> None:
    """Serve every channel of a CSV with the header platform,channel,name[,server_id][,community]. All or none."""
    from ..base.errors import Invalid
    from ..community.directory import add_server as add
    from ..community.directory import check_addable

    with reporting(), database(home) as db, file.open(newline="", encoding="utf-8-sig") as lines:
        with db.transaction() as transaction:
            count = 0
            for row in csv.DictReader(lines):
                if not {"platform", "channel", "name"} <= row.keys():
                    raise Invalid(f"{file}: the header must be platform,channel,name[,server_id][,community].")
                platform = row["platform"].strip().lower()
                where = platform, row["channel"], row.get("server_id") or ""
                check_addable(transaction, *where, row.get("community") or "demo")
                add(
                    transaction,
                    platform,
                    row["channel"],
                    name=row["name"],
                    server_id=row.get("server_id") or "",
                    community=row.get("community") or "demo",
                )
                count += 1
        _tell_about_servers(home)
        echo(f"{count_of(count, 'channel is', 'channels are')} served.")


@servers.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True)
def list_servers(home: Path, as_json: bool) -> None:
    """List what the fleet serves."""
    from ..community.directory import list_servers as read

    with reporting(), database(home) as db, db.transaction() as transaction:
        rows = read(transaction)
    if as_json:
        echo(json.dumps(rows, default=str))
        return
    for row in rows:
        place = f"{row['platform']:<9} {row['server_id'] or '-':<20} {row['channel'] or '-':<20}"
        waits = "" if row["is_active"] else "  (waits for its activation key)"
        echo(f"{place} {row['community']:<20} {row['name']}{waits}")


@servers.command("remove")
@home_option
@click.option("--platform", required=True, callback=lambda _context, _option, named: named.strip().lower())
@click.option("--channel", default="")
@click.option("--server", "server_id", default="")
def remove_server(home: Path, platform: str, channel: str, server_id: str) -> None:
    """Stop serving a channel. What its community owns stays."""
    from ..community.directory import remove_server as remove

    with reporting(), database(home) as db:
        with db.transaction() as transaction:
            remove(transaction, platform, channel, server_id=server_id)
        _tell_about_servers(home)
        echo("It is no longer served.")


@contextmanager
def reporting() -> Iterator[None]:
    """Turn an error of ours into one line and the exit status that the contracts give it."""
    try:
        yield
    except NoFleet as err:
        echo(err.message, fg="red", err=True)
        sys.exit(NO_FLEET)
    except WaddleBotError as err:
        echo(err.message, fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def database(home: Path) -> Iterator[Database]:
    from ..data.audit import Acting, acting_as, listed_entries
    from ..data.database import Database

    opened = Database(_database_url(home), pool_size=1)
    try:
        with acting_as(Acting(COMMAND_LINE)), listed_entries() as entries:
            yield opened
        if entries:
            _log_changes(home, opened, entries)
    finally:
        opened.close()


def _log_changes(home: Path, db: Database, entries: Sequence[int]) -> None:
    """Tell the fleet's log, too, what was changed from here."""
    from ..base.logs import AAALog, configure_logging, stop_logging
    from ..base.settings import Settings

    logs = Home(home).logs
    if not logs.is_dir():
        return
    configure_logging(Settings(database_url=_database_url(home), log_dir=logs, log_role="", log_console_level="ERROR"))
    log = AAALog("command-line", __version__)
    sql = "SELECT module, action, subject, community_id FROM audit WHERE id = ANY(%s) ORDER BY id"
    for row in db.statement(sql, (list(entries),)):
        log.audit(
            row["action"], actor=COMMAND_LINE, of=row["module"], subject=row["subject"], community=row["community_id"]
        )
    stop_logging()


def _database_url(home: Path) -> str:
    return os.environ.get("DATABASE_URL") or Home(home).get_running().environment["DATABASE_URL"]


def _show_key(made: NewKey, *, as_json: bool) -> None:
    account = made.account
    shown = {"id": made.key_id, "name": account.name, "group": sorted(account.groups)[0], "api_key": made.api_key}
    ends = account.expires_at
    if as_json:
        echo(json.dumps({**shown, "expires_at": ends.isoformat() if ends else None}))
        return
    until = f" It ends at {ends:%Y-%m-%d %H:%M} UTC." if ends else ""
    echo(f"{made.api_key}\n\nThis is {account.name}'s key; it is not shown again.{until}")


@cli.group()
def module() -> None:
    """Write a module of your own: begin one, look it through, try it, publish it."""


@module.command("init")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Where its folder goes.")
@click.argument("name")
def module_init(into: Path, name: str) -> None:
    """Make a folder with a module that works, and a test of it. NAME may be the folder's whole path."""
    from . import modules

    with reporting():
        folder = modules.init(into / name, Path(name).name)
        echo(f"Made {folder}. Next: waddlebot module validate {folder}")


@module.command("validate")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
def module_validate(folder: Path) -> None:
    """Look a module's folder through, as the marketplace will. Exits with 1 and says each line that is wrong."""
    from ..module.package import in_words
    from . import modules

    with reporting():
        package = modules.build(folder)
        manifest = package.manifest
        echo(f"✓ {manifest.name} {manifest.version}: {len(package.files)} files, {len(package.content)} bytes")
        echo(f"  {package.sha256}")
        for each in in_words(manifest.asks):
            echo(f"  it may {each}")


@module.command("test")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
@click.argument("lines", nargs=-1)
def test_module(folder: Path, lines: tuple[str, ...]) -> None:
    """Try a module's commands behind the fence in which communities run them. No fleet is needed.

    LINES are what is said in chat, such as '#dice 2d6'; without any the examples of module.toml are tried, one after
    the other in one community. Exits with 1 when one of them fails.
    """
    from ..sandbox.fence import CannotFence
    from .try_module import try_lines

    with reporting():
        try:
            manifest, fence, tried = try_lines(folder, lines)
        except CannotFence as err:
            raise ConfigError(f"Community modules cannot be run here: {err}.") from err
        echo(f"{manifest.name} {manifest.version}, behind {fence}", dim=True, err=True)
        for each in tried:
            echo(each.line, bold=True)
            for text in each.said:
                echo(f"  {text}")
            if each.output:
                echo("  printed: " + each.output.strip().replace("\n", "\n           "), dim=True)
            for host in each.refused_hosts:
                echo(f"  not let through to {host}", fg="yellow")
            if each.trouble:
                echo("  " + each.trouble.replace("\n", "\n  "), fg="red")
        sys.exit(1 if any(each.trouble for each in tried) else 0)


@module.command("publish")
@home_option
@click.option("--url", help="A fleet's address, if it is not that of the home's fleet.")
@click.option("--key", envvar="WADDLEBOT_API_KEY", help="The key to publish with: $WADDLEBOT_API_KEY, else the home's.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path())
def module_publish(home: Path, url: str | None, key: str | None, folder: Path) -> None:
    """Publish a module's folder as the version that its module.toml names."""
    from . import modules

    with reporting():
        answer = modules.publish(Home(home), modules.build(folder), url=url, key=key)
        echo(f"Published {answer['module_id']} {answer['version']}: {answer['state']}.")
        if answer.get("webhook_secret"):
            echo(f"Its calls are signed with {answer['webhook_secret']}; that is not shown again.")


def _tell_processes(home: Path, *invalidations: str) -> None:
    """Make the running processes forget what they have cached: name, key, name, key, …"""
    from ..base.settings import Settings
    from ..data.cache import Bus, open_redis

    running = Home(home).find_running()
    if running is not None:
        os.environ.update(running.environment)
    settings = Settings.load()
    bus = Bus(open_redis(settings), open_redis(settings, blocking=True))
    for name, key in zip(invalidations[::2], invalidations[1::2], strict=True):
        bus.invalidate(name, key)


def _tell_about_servers(home: Path) -> None:
    _tell_processes(home, "servers", "*", "entities", "*")


def _console(home: Path) -> Console:
    from .console import Console

    return Console(Home(home))


def _speaker(name: str, level: str, channel: str) -> Any:
    from ..base.contracts import Level
    from .console import Speaker

    return Speaker(name, Level.named(level), channel)


def _message_type(event: str) -> str:
    """Raises: UserError."""
    from ..base.contracts import MessageType
    from ..base.errors import UserError

    kind = NICKNAMES.get(event, event)
    if kind not in set(MessageType):
        known = ", ".join((*OVERLAYS, *MessageType))
        raise UserError(f"There is no event “{event}” to simulate. There are {known}.")
    return kind


def _speak(console: Console, event: dict[str, Any], *, as_json: bool) -> int:
    outcome = console.submit(event)
    said: set[int | None] = set()
    _print_responses(console, outcome, said, quiet=as_json)
    final = outcome
    for final in console.late(event, outcome):
        _print_responses(console, final, said, quiet=as_json)
    if as_json:
        echo(json.dumps({**final.answer, "duplicate": outcome.answer["duplicate"]}))
    is_unknown = not final.answer["executions"] and bool(final.answer["responses"])
    return 0 if final.ok and not final.is_pending and not is_unknown else 1


def _print_responses(console: Console, outcome: Outcome, said: set[int | None], *, quiet: bool) -> None:
    for response in outcome.answer["responses"]:
        outbox_id = response["outbox_id"]
        is_chat = response["response_action"] == "chat"
        if (outbox_id is not None and outbox_id in said) or (is_chat and not console.take(response)):
            continue
        said.add(outbox_id)
        if quiet:
            continue
        if is_chat:
            echo(response["response_data"]["message"])
        else:
            echo(console.shown_on(response["response_data"]["delivered_to"]))


def main() -> None:
    cli(prog_name="waddlebot")


if __name__ == "__main__":
    main()
