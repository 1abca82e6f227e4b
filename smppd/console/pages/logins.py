"""Somebody's own logins: where he is logged in, and a button that ends one."""

from __future__ import annotations

from smppd.console.gate import Gate
from smppd.console.page import Answer, Asked, Page, Refusal, go, show


def pages(gate: Gate) -> tuple[Page, ...]:
    """The page, for the logins that `gate` knows."""

    def logins(asked: Asked) -> Answer:
        operator = asked.authority.operator
        if asked.method == "POST":
            if not gate.end(operator, asked.form.get("id", "")):
                raise Refusal(404, "That login has ended already.")
            return go("/logins", "The login was ended.")
        return show("logins", logins=gate.logins(operator, asked.session))

    return (Page("/logins", "My logins", None, logins, owners=True, posts=True),)
