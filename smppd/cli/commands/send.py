"""`smppd send`: a test message through a real bind, as a customer would send it; prints ids, statuses and receipts."""

from __future__ import annotations

import argparse
import getpass
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from smppd.cli.client import Client, ClientError
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Account, Settings, split_address
from smppd.config.units import parse_duration
from smppd.protocol.longmessage import split
from smppd.protocol.text import Alphabet, TextError
from smppd.protocol.wire import Command, Fields, address_field, build_sm


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "send",
        description="Send a test message through a bind of an account, as its owner would. A long text goes in parts."
        " Prints the message id and the status of each part.",
        epilog="Without --address the first listener of the configuration is taken; its certificate is then checked against"
        " the file in the configuration, with --address against --ca.",
    )
    add_config(parser)
    parser.add_argument("--account", metavar="ID", required=True, help="the system_id to bind as")
    parser.add_argument("--from", dest="sender", metavar="SENDER", required=True, help="sender: a number or a name")
    parser.add_argument("--to", metavar="NUMBER", required=True, help="destination")
    parser.add_argument("--text", metavar="TEXT", required=True, help="the text")
    parser.add_argument("--receipt", action="store_true", help="ask for a delivery receipt and wait for it")
    parser.add_argument("--wait", metavar="TIME", default="30s", help="how long to wait for it (default: %(default)s)")
    parser.add_argument(
        "--password-file", metavar="F", help="file with the account's password, `-` for standard input (default: ask)"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="another smppd, or an SMSC")
    parser.add_argument("--plain", action="store_true", help="no TLS; without --address: the first plain listener")
    parser.add_argument("--ca", metavar="F", type=Path, help="PEM file of the CA to trust (default: the system's)")
    parser.add_argument("--timeout", metavar="TIME", default="10s", help="for connecting and each answer")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """0 when every part was accepted and, with --receipt, its receipt came and says delivered."""
    settings = load_settings(args)
    account = next((a for a in settings.accounts if a.system_id == args.account), None)
    if account is None:
        raise CommandError(f"the configuration has no account {args.account}")
    wait, timeout = _seconds(args.wait, "--wait"), _seconds(args.timeout, "--timeout")
    frames = _frames(args, account)
    host, port, context, name = _target(args, settings)
    password = read_password(args.password_file)
    try:
        with Client(host, port, context, name, timeout) as client:
            client.bind(account.system_id, password)
            answers = [client.submit(frame) for frame in frames]
            ids = {answer.message_id for answer in answers if not answer.status}
            receipts = client.wait_receipts(ids, wait) if args.receipt and ids else {}
    except ClientError as error:
        raise CommandError(str(error)) from None
    parts = [
        {"part": number, "status": answer.name, "id": answer.message_id, "receipt": receipts.get(answer.message_id)}
        for number, answer in enumerate(answers, 1)
    ]
    if args.json:
        print(json.dumps({"account": account.system_id, "parts": parts}))
    else:
        for part in parts:
            line = f"part {part['part']} of {len(parts)}: " if len(parts) > 1 else ""
            line += f"{part['status']}" + (f", id {part['id']}" if part["id"] else "")
            if args.receipt and part["id"]:
                line += f", receipt {part['receipt'] or 'none'}"
            print(line)
    return _judge(parts, args.receipt, wait)


def _judge(parts: list[dict[str, Any]], wanted: bool, wait: float) -> int:
    refused = sum(part["status"] != "ESME_ROK" for part in parts)
    if refused:
        say(f"smppd: {refused} of {len(parts)} refused")
        return 1
    if not wanted:
        say("accepted")
        return 0
    missing = sum(part["receipt"] is None for part in parts)
    if missing:
        say(f"smppd: accepted, but {missing} of {len(parts)} receipts did not come within {wait:g} s")
        return 1
    if any(part["receipt"] != "DELIVRD" for part in parts):
        say("smppd: accepted, but the receipt does not say delivered")
        return 1
    say("accepted and delivered")
    return 0


def _seconds(text: str, option: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}", 2) from None


def _frames(args: argparse.Namespace, account: Account) -> list[bytes]:
    """The submit_sm frames of the message, one a part (8-bit reference, 3GPP TS 23.040 section 9.2.3.24.1)."""
    try:
        pieces = split(args.text, ref=1, default=Alphabet[account.default_alphabet.upper()])
        source, destination = _address(args.sender, 11), _address(args.to, 20)
    except TextError as error:
        raise CommandError(f"the text cannot be sent: {error}") from None
    return [
        build_sm(
            Command.SUBMIT_SM,
            0,
            source,
            destination,
            piece.udh + piece.body,
            Fields(
                esm_class=0x40 if piece.udh else 0, registered=1 if args.receipt else 0, data_coding=piece.data_coding
            ),
        )
        for piece in pieces
    ]


def _address(text: str, longest_name: int) -> bytes:
    """A field with TON and NPI as customers usually set them: +number 1/1, short code 3/0, name 5/0."""
    bare = text.removeprefix("+").replace(" ", "")
    if bare.isascii() and bare.isdigit():
        if len(bare) > 20:
            raise CommandError("a number has at most 20 digits", 2)
        return address_field(*((1, 1) if len(bare) > 6 else (3, 0)), bare.encode())
    if not text.isascii() or not 0 < len(text) <= longest_name or "\0" in text or longest_name > 11:
        raise CommandError("a sender is a number or 1 to 11 ASCII characters, a destination is a number", 2)
    return address_field(5, 0, text.encode())


def _target(args: argparse.Namespace, settings: Settings) -> tuple[str, int, ssl.SSLContext | None, str]:
    """Host, port, TLS context (None: plain) and the name to check."""
    if args.address is not None:
        try:
            host, port = split_address(args.address)
        except ValueError as error:
            raise CommandError(f"--address: {error}", 2) from None
        if args.plain:
            return host, port, None, host
        try:
            return host, port, ssl.create_default_context(cafile=args.ca), host
        except (OSError, ssl.SSLError):
            raise CommandError(f"--ca: {args.ca} cannot be read as PEM certificates") from None
    host, port, certificate = target(settings, plain=args.plain)
    return host, port, None if certificate is None else _pinned(certificate), host


def target(settings: Settings, *, plain: bool) -> tuple[str, int, Path | None]:
    """Host and port of the configuration's first TLS (or plain) listener, and the file of its certificate.
    CommandError when there is none that can be connected to."""
    listener = next((each for each in settings.listeners if (each.tls is None) == plain), None)
    if listener is None:
        kind = "plain" if plain else "TLS"
        raise CommandError(f"the configuration has no {kind} listener; try {'without ' if plain else ''}--plain")
    if listener.port == 0:
        raise CommandError("the listener takes any free port: name it with --address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listener.host, listener.host)
    return host, listener.port, None if listener.tls is None else listener.tls.certificate


def _pinned(certificate: Path) -> ssl.SSLContext:
    """A context that accepts the listener's own certificate and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError):
        raise CommandError(f"the certificate {certificate} cannot be read") from None
    return context


def read_password(source: str | None) -> bytes:
    """A password from the file `source`, from standard input (`-`), or asked for at the terminal. CommandError otherwise."""
    if source is None:
        if not sys.stdin.isatty():
            raise CommandError("no terminal to ask for the password at: use --password-file", 2)
        try:
            text = getpass.getpass("Password: ").encode()
        except EOFError:
            raise CommandError("no password was given") from None
    else:
        try:
            text = sys.stdin.buffer.readline(4096) if source == "-" else Path(source).read_bytes()[:4096]
        except OSError as error:
            raise CommandError(f"the password file {source} cannot be read: {error.strerror}") from None
    text = text.removesuffix(b"\n").removesuffix(b"\r")
    if not text or b"\0" in text or b"\n" in text:
        raise CommandError("the password is empty or more than one line")
    return text
