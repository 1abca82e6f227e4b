"""What the name of a message's lane says of its class and its hours, where it is judged again after it was accepted."""

from __future__ import annotations

from smppd.message import Verdict
from smppd.policy.hours.screen import HoursScreen
from smppd.policy.screens import Question
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.relay.state.marks import marks_of
from smppd.relay.state.model import Message


def marks_again(context: Context, message: Message, sm: Sm, verdict: Verdict | None, now: float) -> str:
    """As at acceptance (`relay.state.marks`). ``sm``: as its customer gave it. A refusal does not count: it is accepted."""
    account = message.account
    usual = account.settings.class_
    question = Question(account.name, account.region, sm, verdict, usual, context.wall(), now, message.expires)
    for screen in account.screens:
        if isinstance(screen, HoursScreen):
            screen.look(question)
    return marks_of(question.message_class == "one_time_code", question.gate)
