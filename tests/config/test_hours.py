"""`quiet_hours` in the file: what may stand there, and where its mistakes are told."""

from __future__ import annotations

from pathlib import Path

from tests.config.helpers import BASE, faults, loaded


def test_all_that_may_be_said(tmp_path: Path) -> None:
    text = (
        BASE
        + """
quiet_hours:
  unknown: hold
  practice: ignore
  zones: {1850: America/Chicago, +44: Europe/London}
  countries:
    BR: {hours: 08:00-20:00, days: {sunday: none, holiday: none}, holidays: [12-25, 2026-06-04, fr], zone: America/Sao_Paulo}
    gb: off
    US: 09:00-20:00
    IN: [{hours: 10:00-21:00}, {classes: service, hours: 06:00-02:00}]
"""
    )
    hours = loaded(tmp_path, text).quiet_hours
    assert (hours.unknown, hours.practice) == ("hold", "ignore")
    assert hours.zones == {"1850": "America/Chicago", "44": "Europe/London"}
    assert list(hours.countries) == ["BR", "GB", "US", "IN"] and hours.countries["GB"] == ()
    assert hours.countries["BR"][0].holidays == ("12-25", "2026-06-04", "FR")
    assert [one.classes for one in hours.countries["IN"]] == [("promotional",), ("service",)]


def test_mistakes_are_told_where_they_stand(tmp_path: Path) -> None:
    text = (
        BASE
        + """
quiet_hours:
  zones: {1850: America/Chicag}
  countries:
    BR: {hours: 25:00-20:00, days: {sonday: none}, holidays: [13-25]}
    XX: off
    US: 09-20
"""
    )
    told = [(one.line, one.path) for one in faults(tmp_path, text)]
    assert told == [
        (11, "quiet_hours.zones.1850"),
        (13, "quiet_hours.countries.BR.hours"),
        (13, "quiet_hours.countries.BR.days.sonday"),
        (13, "quiet_hours.countries.BR.holidays[0]"),
        (14, "quiet_hours.countries.XX"),
        (15, "quiet_hours.countries.US"),
    ]


def test_one_class_has_one_set_of_hours(tmp_path: Path) -> None:
    twice = "quiet_hours: {countries: {IN: [{hours: all}, {classes: [service, promotional], hours: none}]}}\n"
    assert "IN gives one class twice" in str(faults(tmp_path, BASE + twice)[0])
    digits = "quiet_hours: {zones: {x1: Europe/London}}\n"
    assert "must be the digits" in str(faults(tmp_path, BASE + digits)[0])


def test_shares(tmp_path: Path) -> None:
    for share, percent in (("10%", 10), ("0", 0), ("99 %", 99)):
        text = BASE.replace("password: {env: PW}}", f"password: {{env: PW}}, reserve_for_codes: {share}}}")
        assert loaded(tmp_path, text).upstreams[0].reserve_for_codes == percent
    for share in ("100%", "10", "0.1", "-1%", "ten"):
        text = BASE.replace("password: {env: PW}}", f"password: {{env: PW}}, reserve_for_codes: {share}}}")
        assert "must be a share such as 10%" in str(faults(tmp_path, text)[0])


def test_an_account_s_own(tmp_path: Path) -> None:
    text = BASE.replace("networks: any}", "networks: any, quiet_hours: off, one_time_codes: {expire_after: null}}")
    account = loaded(tmp_path, text).accounts[0]
    assert account.quiet_hours == "off" and account.one_time_codes.expire_after is None
    usual = loaded(tmp_path, BASE).accounts[0]
    assert usual.quiet_hours == "hold" and usual.one_time_codes.expire_after == 300


def test_holidays_and_their_hours_go_together(tmp_path: Path) -> None:
    for days, told in (
        ("days: {sunday: none}, holidays: [12-25]", "holidays without their hours"),
        ("days: {holiday: none}", "hours of a holiday, and no holidays"),
    ):
        text = BASE + "quiet_hours: {countries: {BR: {hours: 08:00-20:00, " + days + "}}}\n"
        assert told in str(faults(tmp_path, text)[0])
