"""Whether an operator is as the audit trail says that he was left."""

from __future__ import annotations

from smppd.audit.trail import AuditTrail
from smppd.operators.people import Operator, People


def vouched(people: People, trail: AuditTrail, operator: Operator) -> bool:
    """If not, somebody put an older document back, or a change broke off between the trail and the store. More recovery codes
    than the last login with one left are an older document too. VaultError."""
    told = trail.newest_of_operator(operator.name)
    if told is None or told.get("state") != people.state(operator):
        return False
    left = trail.recovery_codes_left(operator.name)
    return left is None or len(operator.recovery) <= left
