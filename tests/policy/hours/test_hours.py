"""Which hours and zones count for a number: smppd's own data, what phonenumbers knows, and what the operator says.

Numbers of countries other than the United Kingdom and the North American plan are made of an area's digits and 5550100: no
range for fiction is known there, and nothing is sent to them.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from phonenumbers import PhoneNumberType
from phonenumbers.timezone import time_zones_for_number

from smppd.config.hours import CALENDARS, QuietHours
from smppd.policy.countries import country_of
from smppd.policy.hours.holidays import holidays
from smppd.policy.hours.hours import Hours, next_allowed
from smppd.policy.hours.pack import shipped
from smppd.policy.hours.windows import NEVER, Gate
from smppd.policy.hours.zones import ZoneTable, codes_of, name_of
from tests.policy.hours.test_windows import at, told
from tests.relay.fakes import settings

PROMO = "promotional"
SHIPPED = Hours(QuietHours())


def hours(**given: object) -> Hours:
    return Hours(QuietHours.model_validate(given))


def gate(number: str, of: Hours = SHIPPED, message_class: str = PROMO) -> Gate:
    digits = number.encode()
    found = of.gate(message_class, country_of(digits) or "", digits)
    assert found is not None
    return found


def names(one: Gate) -> set[str]:
    return {str(zone) for zone in one.zones}


# -- the data ----------------------------------------------------------------------------------------------------------


def test_every_line_says_where_it_comes_from() -> None:
    pack = shipped()
    told = [(one.source, one.date) for one in (*pack.countries.values(), *pack.areas.values())]
    told += [(one.source, one.date) for one in pack.zones.values()]
    assert len(told) > 60
    for source, day in told:
        assert len(source) > 3 and datetime.fromisoformat(day).year >= 2026
    for one in (*pack.countries.values(), *pack.areas.values()):
        assert one.stands in ("law", "practice", "open")
        assert set(one.schedule.calendars) <= set(CALENDARS)
        assert (one.stands == "open") <= (not one.confirmed), "what no two sources agree on is not confirmed"
    areas = [area for one in pack.areas.values() for area in one.areas]
    assert len(areas) == len(set(areas)) > 140
    assert all(country_of(area + b"5550100") == "US" for area in areas)
    assert all(ZoneInfo(name) for one in pack.zones.values() for name in one.zones if name != "*")


# As rules.md has them: (country, opens, closes) on a Wednesday.
RULES = [
    ("12025550100", "08:00", "21:00"),  # District of Columbia: the federal rule
    ("13055550100", "08:00", "20:00"),  # Florida
    ("12145550100", "09:00", "21:00"),  # Texas
    ("33155501000", "08:00", "22:00"),
    ("971555501000", "07:00", "21:00"),
    ("447700900123", "08:00", "20:00"),
    ("4915555501000", "08:00", "20:00"),
    ("31655550100", "08:00", "20:00"),
    ("64955550100", "08:00", "20:00"),
    ("61255550100", "08:00", "20:00"),
    ("919555501000", "10:00", "21:00"),
    ("5511955501000", "09:00", "20:00"),
    ("14165550100", "08:00", "20:00"),
]


@pytest.mark.parametrize(("number", "opens", "closes"), RULES)
def test_the_hours_of_each_country(number: str, opens: str, closes: str) -> None:
    one = gate(number)
    zone = str(one.zones[-1])
    midnight = at("2026-06-10 00:00", zone)
    assert told(one.opens(midnight), zone) == f"2026-06-10 {opens}"
    last = at(f"2026-06-10 {closes}", zone)
    assert one.opens(last - 1) == 0 < one.opens(last)


@pytest.mark.parametrize("message_class", ["transactional", "service", "one_time_code", "government", ""])
def test_only_promotional_messages_wait(message_class: str) -> None:
    assert SHIPPED.gate(message_class, "US", b"12125550100") is None
    assert next_allowed(SHIPPED, message_class, "US", b"12125550100", at("2026-06-10 06:00")) == 0


def test_a_country_without_hours() -> None:
    assert SHIPPED.gate(PROMO, "SE", b"46701740605") is None
    assert SHIPPED.gate(PROMO, "", b"1234") is None


@pytest.mark.parametrize("year", range(2024, 2031))
def test_france_is_silent_on_sundays_and_holidays(year: int) -> None:
    """Each day of a year at noon, in Paris and overseas, and what follows a long weekend."""
    paris, reunion = gate("33155501000"), gate("262692555010")
    assert names(paris) == {"Europe/Paris"} and names(reunion) == {"Indian/Reunion"}
    feasts = holidays("FR", year)
    day = datetime(year, 1, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    while day.year == year:
        number = day.toordinal() - 719163
        silent = day.weekday() == 6 or number in feasts
        assert (paris.opens(day.timestamp()) > 0) == silent, day
        day += timedelta(days=1)
    assert told(paris.opens(at("2026-04-04 22:00", "Europe/Paris")), "Europe/Paris") == "2026-04-07 08:00"
    assert reunion.opens(at(f"{year}-12-20 12:00", "Indian/Reunion")) > 0


def test_who_speaks_from_a_toll_free_number_has_few_hours() -> None:
    """Its zones reach from Guam to Newfoundland and to Samoa: less than three hours a day are left."""
    one = gate("18005550100")
    assert len(one.zones) >= 42
    for month, most in (("2026-01", 150), ("2026-07", 90)):
        wall = at(f"{month}-14 00:30")
        opens = one.opens(wall)
        closes = next(opens + 60 * minute for minute in range(1440) if one.opens(opens + 60 * minute))
        assert (closes - opens) / 60 == most


# -- zones -------------------------------------------------------------------------------------------------------------

ZONES = [
    # The United States: every zone, and what its area codes leave open.
    ("12125550100", {"America/New_York"}),
    ("13125550100", {"America/Chicago"}),
    ("13035550100", {"America/Denver"}),
    ("16025550100", {"America/Phoenix"}),
    ("12135550100", {"America/Los_Angeles"}),
    ("19075550100", {"America/Adak", "America/Anchorage"}),
    ("18085550100", {"Pacific/Honolulu"}),
    ("12085550100", {"America/Boise", "America/Los_Angeles"}),
    ("18505550100", {"America/Chicago", "America/New_York"}),
    ("14485550100", {"America/Chicago", "America/New_York"}),
    ("17015550100", {"America/Denver", "America/North_Dakota/Center"}),
    ("16055550100", {"America/Denver", "America/North_Dakota/Center"}),
    ("13085550100", {"America/Chicago", "America/Denver"}),
    ("12195550100", {"America/Chicago", "America/New_York"}),
    ("14235550100", {"America/Chicago", "America/New_York"}),
    ("19285550100", {"America/Denver", "America/Phoenix"}),
    ("15415550100", {"America/Boise", "America/Los_Angeles"}),
    ("17755550100", {"America/Boise", "America/Los_Angeles"}),
    ("17875550100", {"America/Puerto_Rico"}),
    ("16715550100", {"Pacific/Guam"}),
    ("16845550100", {"Pacific/Pago_Pago"}),
    ("16705550100", {"Pacific/Saipan"}),
    ("13405550100", {"America/St_Thomas"}),
    # Australia: by area, and mobiles that may be anywhere.
    ("61255550100", {"Australia/Sydney"}),
    ("61355550100", {"Australia/Sydney"}),
    ("61755550100", {"Australia/Brisbane", "Australia/Sydney"}),
    ("61865550100", {"Australia/Adelaide", "Australia/Darwin", "Australia/Perth"}),
    ("61895550100", {"Australia/Adelaide", "Australia/Darwin", "Australia/Perth"}),
    # Brazil: its four zones.
    ("5511955501000", {"America/Sao_Paulo"}),
    ("5592955501000", {"America/Manaus"}),
    ("5568955501000", {"America/Rio_Branco"}),
    ("5569955501000", {"America/Manaus"}),
    ("5581955501000", {"America/Noronha", "America/Recife"}),
    ("5597955501000", {"America/Eirunepe", "America/Manaus"}),
    ("919555501000", {"Asia/Calcutta"}),
    ("64215550100", {"Pacific/Auckland", "Pacific/Chatham"}),
    ("971555501000", {"Asia/Dubai"}),
]


@pytest.mark.parametrize(("number", "zones"), ZONES)
def test_zones(number: str, zones: set[str]) -> None:
    assert names(gate(number)) == zones


@pytest.mark.parametrize(("number", "count"), [("61491570006", 9), ("611800555010", 9), ("61155550100", 9), ("614", 9)])
def test_a_number_that_may_be_anywhere_in_australia(number: str, count: int) -> None:
    """+61 491 570 006 is of the range that the authority keeps for fiction."""
    one = gate(number.ljust(11, "0"))
    assert len(one.zones) == count and "Australia/Darwin" in names(one)
    # In summer from Eucla's and Perth's 08:00 to Lord Howe's and Sydney's 20:00, all on one clock.
    opens = one.opens(at("2026-01-14 12:00"))
    assert (
        told(opens, "Indian/Cocos") == "2026-01-15 08:00" and one.opens(at("2026-01-15 09:00", "Australia/Sydney")) > 0
    )


def test_each_zone_of_the_four_countries_opens_and_shuts_by_its_own_clock() -> None:
    """Over a year with both changes of the clocks, every day at four times, in every set of zones that a number may have."""
    countries = ("US", "AU", "BR", "IN")
    codes = frozenset(code for country in countries for code in codes_of(country))
    table = ZoneTable(codes, shipped().zones, {})
    sets = table.sets()
    assert len(sets) > 60
    seen = set()
    for zones in sets:
        line = shipped().countries["US"]
        one = Gate("", line.schedule, tuple(map(ZoneInfo, zones)))
        seen |= set(zones)
        for day in range(0, 365, 13):
            for hour in (3, 9, 15, 21):
                wall = at("2026-01-01") + day * 86400 + hour * 3600 + 59
                clocks = [datetime.fromtimestamp(wall, UTC).astimezone(ZoneInfo(zone)) for zone in zones]
                assert (one.opens(wall) == 0) == all(8 <= clock.hour < 21 for clock in clocks)
    assert {"America/New_York", "Australia/Lord_Howe", "America/Noronha", "Asia/Calcutta"} <= seen


def _types(country: str) -> list[phonenumbers.PhoneNumber]:
    kinds = [value for name, value in vars(PhoneNumberType).items() if name.isupper() and isinstance(value, int)]
    found = [phonenumbers.example_number_for_type(country, kind) for kind in kinds]
    return [one for one in found if one is not None]


def clocks(zones: set[str]) -> set[tuple[object, ...]]:
    """What the zones' clocks show: Jersey's show what London's do."""
    times = [datetime(2026, month, 15, tzinfo=UTC) for month in range(1, 13)]
    return {tuple(time.astimezone(ZoneInfo(zone)).utcoffset() for time in times) for zone in zones}


def test_never_fewer_zones_than_phonenumbers_names() -> None:
    """Of every kind of number of every country that has hours. Where its data is said to be wrong, ours counts; and in the
    North American plan the area code, which mobiles have too; as the island's digits behind +262."""
    wrong = {line for line, one in shipped().zones.items() if one.only}
    for country in shipped().countries:
        for number in _types(country):
            digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
            if (
                digits.startswith(("1", "262", *(one.decode() for one in wrong)))
                or country_of(digits.encode()) != country
            ):
                continue
            theirs = set(time_zones_for_number(number)) - {"Etc/Unknown"}
            assert clocks(theirs) <= clocks(names(gate(digits))), (country, digits[:4])


def test_the_zones_need_nothing_of_the_machine() -> None:
    script = (
        "import zoneinfo; zoneinfo.reset_tzpath([])\n"
        "from smppd.config.hours import QuietHours\nfrom smppd.policy.hours.hours import Hours\n"
        "hours = Hours(QuietHours()); hours.prepare(); print(len(hours.gate('promotional', 'US', b'18005550100').zones))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 42


# -- what the operator says --------------------------------------------------------------------------------------------


def test_the_operator_s_hours_count_and_the_states_go_with_them() -> None:
    of = hours(countries={"US": "10:00-18:00", "GB": "off", "SE": {"hours": "09:00-20:00", "classes": ["service"]}})
    assert gate("13055550100", of).key == "promotional.US.America/New_York"
    assert told(gate("13055550100", of).opens(at("2026-06-10 00:00", "America/New_York")), "America/New_York").endswith(
        "10:00"
    )
    assert of.gate(PROMO, "GB", b"447700900123") is None
    assert of.gate(PROMO, "SE", b"46701740605") is None and gate("46701740605", of, "service").key.startswith(
        "service.SE."
    )
    assert of.classes() == {PROMO, "service"}


def test_practice_may_be_ignored() -> None:
    of = hours(practice="ignore")
    assert of.gate(PROMO, "GB", b"447700900123") is None and of.gate(PROMO, "FR", b"33155501000") is not None


def test_zones_that_the_operator_says() -> None:
    of = hours(
        zones={"1850": "America/New_York", "+61": "Australia/Sydney"}, countries={"BR": {"hours": "all", "zone": "UTC"}}
    )
    assert names(gate("18505550100", of)) == {"America/New_York"}
    assert names(gate("61491570006", of)) == {"Australia/Sydney"}
    assert names(gate("5568955501000", of)) == {"UTC"}


def test_holidays_that_the_operator_says() -> None:
    entry = {"hours": "all", "days": {"holiday": "none"}, "holidays": ["12-25", "2026-06-04", "FR"], "zone": "UTC"}
    one = gate("5511955501000", hours(countries={"BR": entry}))
    for day, silent in (("2026-12-25", 1), ("2027-12-25", 1), ("2026-06-04", 1), ("2027-06-04", 0), ("2026-07-14", 1)):
        assert (one.opens(at(day)) > 0) == silent, day


# -- names that outlive the process ------------------------------------------------------------------------------------


def test_a_gate_is_found_again_by_its_name() -> None:
    for number in ("12125550100", "13055550100", "18005550100", "61491570006", "33155501000"):
        one = gate(number)
        again = Hours(QuietHours()).named(one.key)
        assert again is not None and names(again) == names(one) and again.schedule.week == one.schedule.week


def test_a_name_whose_zones_or_part_are_gone_has_the_country_s() -> None:
    of = hours()
    lost = of.named("promotional.US-ZZ.~00000000")
    assert lost is not None and len(lost.zones) >= 42
    assert of.named("promotional.US-FL.No/Where") is not None
    for nothing in ("promotional.SE.Europe/Stockholm", "service.US.America/New_York", "", "x", "promotional", "..."):
        assert of.named(nothing) is None
    assert hours(countries={"US": "off"}).named("promotional.US.America/New_York") is None


def test_the_name_of_a_set_of_zones_is_short() -> None:
    assert name_of(("Europe/Paris",)) == "Europe/Paris"
    assert len(name_of(tuple(sorted(names(gate("18005550100")))))) == 9


def test_nothing_is_read_for_a_configuration_without_such_messages() -> None:
    assert not Hours.of(settings()).ready
    assert Hours.of(settings(acme={"class": "promotional"})).ready
    rules = {"p": [{"name": "ads", "when": {"text": "sale"}, "do": {"class": "promotional"}}]}
    assert Hours.of(settings(policies=rules)).ready
    service = {"GB": {"hours": "all", "classes": "service"}}
    assert Hours.of(settings(acme={"class": "service"}, quiet_hours={"countries": service})).ready


def test_next_allowed() -> None:
    wall = at("2026-06-10 03:00")
    assert next_allowed(SHIPPED, PROMO, "US", b"12125550100", wall) == at("2026-06-10 12:00")
    assert next_allowed(SHIPPED, PROMO, "US", b"12125550100", at("2026-06-10 12:00")) == 0
    assert next_allowed(hours(countries={"US": "none"}), PROMO, "US", b"12125550100", wall) == NEVER
