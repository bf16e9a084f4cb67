"""The verbs hash-key and hash-password: a key or a password for a client, and the line that knows it.

Intuition: a locksmith. He makes a key and its lock at once, hands the key over the counter, and keeps nothing.

The key goes to standard output once, and is written nowhere: what stands in the configuration is its SHA-256. A key
that is made here has 256 random bits, so that nobody finds it by trying; that is why no salt and no slow hash is
needed. One that is brought (`--stdin`) is taken as it is, if it is long enough.
"""

from __future__ import annotations

import json
import secrets
import sys
from hashlib import sha256
from typing import Final

import click

from sentinel.config.kinds import SUBJECT, USER_NAME, Unfit
from sentinel.core.passwords import PASSWORD_BYTES_MAX, SALT_BYTES, write_hash

PREFIX: Final = "sk-sentinel-"
"""By which a key is known for what it is: whoever finds one lying about, and whoever looks for lost ones."""
KEY_BYTES: Final = 32
KEY_CHARS_MIN: Final = 24
PASSWORD_CHARS_MIN: Final = 8


def made() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hashed(key: str) -> str:
    """As the configuration has it."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


@click.command("hash-key")
@click.argument("client", metavar="CLIENT", required=False, default="client")
@click.option("--stdin", "is_given", is_flag=True, help="Read the key from standard input instead of making one.")
@click.option("--json", "is_json", is_flag=True, help="Print for programs.")
def hash_key(client: str, is_given: bool, is_json: bool) -> None:
    """Make a key for CLIENT, and the line for an `api-key` filter that knows it.

    The key is printed once, and kept nowhere. The line has its hash.
    """
    try:
        SUBJECT.read(client)
    except Unfit as fault:
        raise click.UsageError(f"CLIENT: {fault}") from None
    key = _given() if is_given else made()
    line = f"key {json.dumps(client, ensure_ascii=False)} {json.dumps(hashed(key))}"
    if is_json:
        document = {"client": client, "hash": hashed(key), "line": line} | ({} if is_given else {"key": key})
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if not is_given:
        click.echo(f"key:   {key}")
        click.echo("       (give it to the client; it is shown once, and kept nowhere)")
    click.echo(f"line:  {line}")


def _given() -> str:
    key = sys.stdin.readline(1 << 16).rstrip("\r\n")
    if len(key) < KEY_CHARS_MIN or not key.isascii() or not key.isprintable() or " " in key or "," in key:
        what = f"a key has at least {KEY_CHARS_MIN} printable ASCII characters, without spaces and commas"
        raise click.UsageError(f"standard input: {what}, so that nobody finds it by trying")
    return key


@click.command("hash-password")
@click.argument("user", metavar="USER")
@click.option("--stdin", "is_given", is_flag=True, help="Read the password from standard input instead of asking.")
@click.option("--json", "is_json", is_flag=True, help="Print for programs.")
def hash_password(user: str, is_given: bool, is_json: bool) -> None:
    """Hash a password, and print the line for a `basic` filter that knows it.

    The password is asked for twice, and shown nowhere. The line has its hash by scrypt, with a salt of its own.
    """
    try:
        USER_NAME.read(user)
    except Unfit as fault:
        raise click.UsageError(f"USER: {fault}") from None
    if is_given:
        password = sys.stdin.readline(1 << 16).rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    octets = password.encode()
    if not len(password) >= PASSWORD_CHARS_MIN or len(octets) > PASSWORD_BYTES_MAX:
        raise click.UsageError(f"a password has {PASSWORD_CHARS_MIN} characters at least, and at most 1024 octets")
    hashed_text = write_hash(octets, secrets.token_bytes(SALT_BYTES))
    line = f"user {json.dumps(user, ensure_ascii=False)} {json.dumps(hashed_text)}"
    if is_json:
        click.echo(json.dumps({"user": user, "hash": hashed_text, "line": line}, indent=2, ensure_ascii=False))
    else:
        click.echo(f"line:  {line}")


COMMANDS: list[click.Command] = [hash_key, hash_password]
