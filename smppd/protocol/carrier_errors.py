"""Names of the error codes with which India's carriers refuse what their registries (DLT) do not have. They come as a
command_status, or as ``err:`` of a receipt. Carriers do not all mean the same by them: an upstream names its table.

Sources, all pages of vendors, read 2026-11: [A] smsgatewayhub.freshdesk.com 3000129776 (2025), adwingsdigital.com and
yourbulksms.com, the same; [B] c2sms.com, *DLT platform error codes*; [C] authkey.io, *DLT error codes*, and
gulfnados.com, which give two meanings to some codes from 611 to 616.
"""

from __future__ import annotations

from typing import Final

_BOTH: Final[dict[int, str]] = {
    600: "ENTITY_NOT_FOUND",  # [A] [B] [C], as all up to 604
    601: "ENTITY_NOT_REGISTERED",
    602: "ENTITY_INACTIVE",
    603: "ENTITY_BLACKLISTED",
    604: "INVALID_ENTITY_ID",
    610: "TELEMARKETER_NOT_REGISTERED",  # [A] [B] [C]
    620: "HEADER_NOT_FOUND",  # [A] [B] [C], as all up to 623
    621: "HEADER_INACTIVE",
    622: "HEADER_BLACKLISTED",
    623: "PEID_NOT_MATCHED_WITH_HEADER",
    630: "TEMPLATE_NOT_FOUND",  # [C], as all below
    631: "TEMPLATE_INACTIVE",
    632: "TEMPLATE_BLACKLISTED",
    633: "TEMPLATE_NOT_MATCHED",
    634: "HEADER_NOT_REGISTERED_FOR_TEMPLATE",
    635: "TEMPLATE_VARIABLE_EXCEEDED_MAX_LENGTH",
    636: "ERROR_IDENTIFYING_TEMPLATE",
    637: "INVALID_TEMPLATE_ID",
    650: "PREFERENCE_NOT_MATCHED",
    660: "CONSENT_FAILED",
    670: "SCRUBBING_FAILED",
}

TABLES: Final[dict[str, dict[int, str]]] = {
    # [A]
    "dlt": {
        **_BOTH,
        605: "ENTITY_ID_NOT_ALLOWED_FOR_TM",
        611: "TELEMARKETER_INACTIVE",
        612: "TELEMARKETER_BLACKLISTED",
        613: "TELEMARKETER_NOT_ALLOWED_FOR_ENTITY",
        614: "PE_TM_HASH_NOT_RECEIVED",
        615: "PE_TM_HASH_NOT_REGISTERED",
        616: "PE_TM_HASH_INACTIVE",
        617: "PE_TM_HASH_BLACKLISTED",
        618: "PE_TM_HASH_SUSPENDED",
        624: "HEADER_SUSPENDED_DUE_TO_VALIDITY",
        625: "HEADER_SUSPENDED_DUE_TO_USAGE",
    },
    # [C]: of two meanings the one that [A] has not. [B] keeps 605 to 609, 613 to 619 and 624 to 629 for later.
    "dlt_other": {
        **_BOTH,
        611: "INVALID_ENTITY_OR_HEADER_ID",
        612: "INVALID_CLI",
        613: "INVALID_TEMPLATE_ID",
        614: "CLI_MISMATCH_WITH_TEMPLATE",
        615: "TEMPLATE_OR_HEADER_INVALID",
        616: "INVALID_CATEGORY",
        666: "SMS_CONTENT_MISMATCH",
        677: "INVALID_TM_ID",
        678: "TELEMARKETER_NOT_FOUND_OR_INACTIVE",
        680: "TELEMARKETER_BLACKLISTED",
        683: "HEADER_TYPE_NOT_OF_TEMPLATE",
        687: "SMS_TYPE_NOT_OF_HEADER_OR_TEMPLATE",
    },
}


def carrier_error(table: str | None, code: int) -> str:
    """What a carrier of this table calls an error code; empty where the table, or no table, does not name it."""
    return TABLES[table].get(code, "") if table is not None else ""
