"""What the pages about records and people share: refusals in sentences, reasons, times and accounts of their forms."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import wraps
from typing import Final

from smppd.console.page import Answer, Asked, Handler, Refusal, show
from smppd.control.wire import ControlError
from smppd.office.access import REASONS, Why
from smppd.office.errors import ANOTHER_PERSON, WRONG, OfficeError
from smppd.office.times import Moment, moment_of
from smppd.store.api import StoreError
from smppd.vault.kek import VaultError
from smppd.vault.seal import SealError

NOTE_MAX: Final = 500
"""Characters of a note."""
PAGE: Final = 50
"""Rows of a list on one page."""

_OPTION: Final = re.compile(r"--([a-z-]+)")

log = logging.getLogger("smppd.console")


def said(handler: Handler) -> Handler:
    """The handler, with what cannot be done said in a sentence. What another person has to agree to first becomes a page that
    says so, with the form to be sent again."""

    @wraps(handler)
    def answered(asked: Asked) -> Answer:
        try:
            return handler(asked)
        except OfficeError as error:
            if error.status == ANOTHER_PERSON:
                return _waits(asked, error)
            raise Refusal(400 if error.status == WRONG else 409, sentence(str(error))) from None
        except SealError:
            raise Refusal(
                409, "This was altered and cannot be opened. `smppd log verify` says what else was."
            ) from None
        except ControlError as error:
            raise Refusal(503, sentence(str(error))) from None
        except (VaultError, StoreError, OSError) as error:
            log.error("a page cannot use the store: %s", error)
            raise Refusal(503, "The store cannot be used at the moment; the console's log says why.") from None

    return answered


def _waits(asked: Asked, error: OfficeError) -> Answer:
    again = {name: value for name, value in asked.form.items() if name != "form"}
    return show("waits", status=202, request=error.request, again=again, title="Another person has to agree")


def sentence(text: str) -> str:
    """A sentence for a page. Fields are called there as the options of commands are."""
    text = _OPTION.sub(r"\1", text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def why(form: Mapping[str, str], *, in_words: bool = False) -> Why:
    """The reason that a form gives. in_words: the note may not be empty. Refusal."""
    reason, note = form.get("reason", ""), form.get("note", "").strip()
    if reason not in REASONS:
        raise Refusal(400, "Choose a reason.")
    if len(note) > NOTE_MAX:
        raise Refusal(400, f"A note has {NOTE_MAX} characters at the most.")
    if in_words and not note:
        raise Refusal(400, "Say the reason in words too: a ticket, who asked.")
    return Why(reason, note)


def moment(asked: Asked, name: str) -> Moment | None:
    """A time of a form; None where the field is empty. Refusal."""
    text = asked.form.get(name, "").strip()
    if not text:
        return None
    try:
        return moment_of(text, asked.now)
    except ValueError:
        raise Refusal(400, f"{name.capitalize()}: give a date or a time (UTC), or an age like 24h.") from None


def account(asked: Asked, name: str = "account") -> str | None:
    """An account of a form that who asks may see; None where the field is empty. Refusal: one of another's is as if it did not
    exist."""
    text = asked.form.get(name, "").strip()
    if not text:
        return None
    if not asked.sees(text):
        raise Refusal(404, "There is no such account.")
    return text


def accounts(asked: Asked) -> list[str]:
    """The accounts that who asks may see, for a form to offer."""
    return sorted(one.system_id for one in asked.settings.accounts if asked.sees(one.system_id))


def whole_number(text: str, least: int, most: int) -> int:
    """A number of a form or a query. Refusal."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not least <= int(text) <= most:
        raise Refusal(404, "There is no such thing.")
    return int(text)
