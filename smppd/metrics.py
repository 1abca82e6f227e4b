"""Every Prometheus series of the daemon, declared once. Labels come from the configuration or from closed lists only.

Counters are added to once per chunk or commit, through children bound when a session or account begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
_SLOW: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)


class _Number:
    """What a child stands at to which one thread adds, without the library's lock."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def get(self) -> float:
        return self.value

    def get_exemplar(self) -> None:
        return None


class Tally(Counter):
    """A counter that is added to for each message: on the reactor thread only, and by nothing less than nothing. The library's
    way has three calls and a lock for each addition, at 500 messages a second a tenth of what the interpreter does for a
    message."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value: Any = _Number()

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Adds to it. There are no exemplars."""
        self._value.value += amount


class Spread(Histogram):
    """A histogram that is observed for each message: likewise."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._sum: Any = _Number()
        self._buckets: list[Any] = [_Number() for _ in self._upper_bounds]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Adds one value. There are no exemplars."""
        self._sum.value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)].value += 1


class Metrics:
    """One registry and all its series."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"smppd_{name}", text, labels, registry=registry)

        def tally(name: str, text: str, *labels: str) -> Tally:
            return Tally(f"smppd_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"smppd_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Spread:
            return Spread(f"smppd_{name}_seconds", text, labels, registry=registry, buckets=buckets)

        ProcessCollector(registry=registry)  # the usual series of a process: processor time, memory, files
        self.build = gauge("build_info", "1; its labels say what runs", "version", "compiled")
        self.connections = counter(
            "connections", "Connections taken, by listener port kind and outcome", "kind", "outcome"
        )
        self.sessions = gauge("sessions", "Bound customer sessions", "account")
        self.sessions_limit = gauge("sessions_limit", "Sessions that the account may have bound", "account")
        self.window_used = gauge(
            "window_used", "Requests of an account's sessions that are not answered yet", "account"
        )
        self.window_limit = gauge("window_limit", "How many its sessions' windows hold together", "account")
        self.binds = counter("binds", "Binds of customers that were accepted", "account", "mode")
        self.binds_refused = counter("binds_refused", "Binds refused, by reason", "reason")
        self.account_binds_refused = counter(
            "account_binds_refused", "Binds refused that named a configured account", "account", "reason"
        )
        self.bans = gauge("bans", "Bans that stand: of an address, or of a name from an address", "scope")
        self.handshakes_delayed = counter(
            "handshakes_delayed", "TLS handshakes of customers that had to wait their turn"
        )
        self.garbage = counter("garbage", "Connections closed because the peer did not speak SMPP")
        self.stray_responses = counter("stray_responses", "Responses to nothing that was asked, by side", "kind")
        self.bad_pdus = counter("bad_pdus", "Well-framed PDUs with a wrong body", "account")
        self.mended = counter(
            "pdus_mended", "Messages of a customer that were not to the letter and served, by fault", "account", "fault"
        )
        self.accepted = tally("messages_accepted", "Messages acknowledged, or stored for it", "account")
        self.rate_limit = gauge(
            "messages_per_second_limit",
            "Messages a second that the account may submit, where there is a limit",
            "account",
        )
        self.refused = counter("messages_refused", "Messages refused, by reason", "account", "reason")
        self.authorised_refused = counter(
            "authorised_sender_refused", "Messages that rules refused though their sender is authorised", "account"
        )
        self.text_nearest = counter(
            "text_nearest",
            "Texts passed on with the nearest letters, since the link's alphabet lacks some",
            "account",
            "direction",
        )
        self.text_refused = counter(
            "text_refused", "Texts refused since the link's alphabet lacks their letters", "account", "direction"
        )
        self.rule_hits = counter("rule_hits", "Messages matched by a rule", "policy", "rule", "mode")
        self.traffic_hits = counter(
            "traffic_hits",
            "Messages that something unusual in their account's traffic met",
            "account",
            "signal",
            "action",
        )
        self.traffic_decisions = gauge(
            "traffic_decisions", "Decisions about unusual traffic that stand", "account", "signal", "action"
        )
        self.suspensions = counter("suspensions", "Times that refusals ended an account's right to submit", "account")
        self.suspended = gauge("suspended", "1 for an account whose right to submit is suspended", "account")
        self.answer = histogram("answer", "From reading a submit_sm to handing its answer to the socket", "account")
        self.queued = gauge("messages_queued", "Messages waiting to be submitted", "account")
        self.queued_limit = gauge("messages_queued_limit", "Messages of the account that may wait", "account")
        self.hot = gauge("spool_memory_entries", "Messages, mail and parked receipts held in memory")
        self.hot_octets = gauge("spool_memory_bytes", "Memory that these take, with what was read back from rows")
        self.oldest = gauge("oldest_waiting_seconds", "Age of the oldest message waiting to be submitted", "account")
        self.held_for_hours = gauge(
            "messages_held_for_hours", "Messages waiting for the hour at which they may leave", "account"
        )
        self.submitted = tally("messages_submitted", "Messages accepted by an upstream", "upstream")
        self.ended = counter(
            "messages_ended", "Messages that a final receipt ended, by what it said", "upstream", "state"
        )
        self.rejected = counter("messages_rejected", "Messages an upstream refused for good", "upstream", "status")
        self.retried = counter("messages_retried", "Messages an upstream asked to send again later", "upstream")
        self.unanswered = counter("messages_unanswered", "Submits whose answer never came", "upstream")
        self.resent = counter("messages_resent", "Messages sent again after no answer, possible duplicates", "upstream")
        self.expired = counter("messages_expired", "Messages whose validity passed while waiting", "account")
        self.upstream_answer = histogram("upstream_answer", "From sending a submit_sm to its answer", "upstream")
        self.links = gauge("upstream_links", "Bound sessions to an upstream", "upstream")
        self.links_wanted = gauge("upstream_links_wanted", "Sessions that the configuration wants", "upstream")
        self.upstream_rate_limit = gauge(
            "upstream_messages_per_second_limit",
            "Messages a second that it is sent, where there is a limit",
            "upstream",
        )
        self.paused = gauge(
            "upstream_paused",
            '1 from an upstream\'s "later", or its silence, until it takes a message again',
            "upstream",
        )
        self.link_failures = counter(
            "upstream_link_failures", "Connections or binds to an upstream that failed", "upstream"
        )
        self.upstream_mended = counter(
            "upstream_pdus_mended",
            "deliver_sm and data_sm of an upstream that were not to the letter, by fault",
            "upstream",
            "fault",
        )
        self.nacks = counter(
            "generic_nacks", "generic_nacks from customers and upstreams, by what they are about", "request"
        )
        self.window = gauge("upstream_window_used", "Unanswered submits at an upstream", "upstream")
        self.upstream_window_limit = gauge(
            "upstream_window_limit", "How many the windows of its links hold together", "upstream"
        )
        self.receipts = tally("receipts", "Receipts from an upstream, by what became of them", "upstream", "outcome")
        self.receipt_words = counter(
            "receipt_own_words", "Receipts whose stat is a word that nobody knows, by its kind", "upstream", "kind"
        )
        self.receipt_forms = counter(
            "receipt_id_forms", "Receipts matched, by the form of their id", "upstream", "form"
        )
        self.receipt_age = histogram(
            "receipt_age", "From accepting a message to a receipt of it, one a chunk", "upstream", buckets=_SLOW
        )
        self.mo = counter("mo_messages", "Messages from handsets, by what became of them", "upstream", "outcome")
        self.opt_out_words = counter(
            "opt_out_words", "STOP, START, HELP and their like from handsets, by what was done", "account", "outcome"
        )
        self.opt_outs = gauge("opt_outs", "Entries of the register of opt-outs")
        self.opt_out_review = gauge(
            "opt_out_review", "Messages of handsets that look like a refusal and wait for a person"
        )
        self.delivered = tally("receipts_delivered", "deliver_sm acknowledged by a customer", "account")
        self.redelivered = counter("receipts_redelivered", "deliver_sm sent again to a customer", "account")
        self.mail_expired = counter("receipts_expired", "deliver_sm a customer never took", "account")
        self.mailbox = gauge("mailbox", "deliver_sm waiting for a customer", "account")
        self.commit = histogram("commit", "From handing a batch to the writer to its being durable")
        self.commit_records = Spread(
            "smppd_commit_records",
            "Records in a commit",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.store_full = gauge("store_full", "1 while the store has no space and nothing is accepted")
        self.integrity = gauge(
            "store_integrity_faults", "Signs that the store's files were altered or put back, found at the start"
        )
        self.audit_delays = counter(
            "audit_delays", "Times that the audit trail could not be written, so that its entries wait"
        )
        self.shipped = counter("shipping_entries", "Entries of the trail and checkpoints that a target took", "target")
        self.shipping_backlog = gauge("shipping_backlog", "Entries and checkpoints that a target has not yet", "target")
        self.shipping_oldest = gauge("shipping_oldest_seconds", "Age of the oldest of them", "target")
        self.shipping_failures = counter("shipping_failures", "Times that a target took nothing", "target")
        self.feed_lines = counter("feed_lines", "Lines of the event feed that were told", "target")
        self.feed_behind = gauge("feed_behind_seconds", "Age of the oldest commit that is not told", "target")
        self.feed_consumers = gauge("feed_consumers", "Consumers of the feed's socket")
        self.feed_gaps = counter(
            "feed_gaps", "Stretches that the feed could not tell since they were purged or put back"
        )
        self.feed_failures = counter("feed_failures", "Times that the feed could not go on")
        self.tracing_spans = counter("tracing_spans", "Spans that the collector took")
        self.tracing_dropped = counter(
            "tracing_dropped", "Spans that were not sent: `open`, `queue` (too many), `collector` (not taken)", "why"
        )
        self.tracing_failures = counter("tracing_failures", "Times that the collector took nothing, or tracing ended")
        self.tracing_open = gauge("tracing_open", "Sampled messages that are followed")
        self.no_login = counter(
            "acts_without_login", "Acts that need a login and were done without one, by anybody on this host", "event"
        )
        self.acts_in_force = gauge("acts_in_force", "Acts of operators that stand: `smppd show acts`", "act")
        self.consents = gauge("consents", "Consents that count, by person, class and sender")
        self.ready = gauge("ready", "1 while the daemon is ready to serve")
        self.nodes = gauge("nodes", "Nodes of the store, by how they stand; none where it is one node's alone", "life")
        self.node_lease = gauge("node_lease", "1 while this node's lease is renewed, where there can be several nodes")
        self.node_housekeeper = gauge("node_housekeeper", "1 where this node does what one of all does")
        self.node_takeovers = counter("node_takeovers", "Nodes that were dead, and whose place this one took over")
        self.node_beats_late = counter("node_beats_late", "Times that the lease was renewed later than it should be")
        self.clock_behind = gauge("clock_behind_seconds", "How far the clock is behind the newest message id")
        self.errors = counter("internal_errors", "Errors caught at the edge: each is a bug", "where")
        self.set_aside = counter("items_set_aside", "Items that raised an error and were set aside, by where", "place")
        self.chores_failed = counter("chores_failed", "Chores of the housekeeping that raised an error", "chore")
        self.unfiled = gauge("store_unfiled_bytes", "What is durable in the journal and not in data.db yet")
        self.damaged = gauge("damaged_items", "Items that lie set aside: `smppd damaged list`")
        self.certificates = gauge(
            "certificate_expiry_timestamp_seconds", "When the certificate of a listener ends, epoch seconds", "listener"
        )
        self.list_entries = gauge("list_entries", "Entries of a list as it is in force", "list")
        self.list_compiled = gauge(
            "list_compiled_timestamp_seconds", "When it was compiled, epoch seconds; 0 while it is absent", "list"
        )
        self.list_absent = gauge("list_absent", "1 while a list was never compiled, so that nobody can ask it", "list")
        self.list_stale = gauge(
            "list_stale", "1 while a list's file is another than the one it was compiled of, or is missing", "list"
        )
        self.list_compilations = counter("list_compilations", "Compilations of a list that ended", "list", "outcome")
        self.traces = gauge("traces", "Traces of PDUs that are on")
        self.reloads = counter("reloads", "Reloads of the configuration", "outcome")
        self.reload_good = gauge(
            "config_last_reload_successful", "1 unless the last reload that was asked for was refused"
        )
        self.reload_at = gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration in force was read, in epoch seconds"
        )
        self.config_files_changed = gauge(
            "config_files_changed", "1 while a file of the configuration is another on disk than the one in force"
        )
        self.config = gauge("config_info", "1, for the configuration in force: SHA-256 of its files", "hash")

    def forget_target(self, name: str) -> None:
        """Takes away how far a target is that is not configured any more; counters stay."""
        for gauge in (self.shipping_backlog, self.shipping_oldest):
            gauge.remove(name)

    def forget_lists(self, names: Iterable[str]) -> None:
        """Takes away how lists are that are not configured any more; counters stay."""
        for name in names:
            for gauge in (self.list_entries, self.list_compiled, self.list_absent, self.list_stale):
                gauge.remove(name)

    def forget_upstream(self, name: str) -> None:
        """Takes away what only says how an upstream is now; counters stay. For one that is disabled or not configured."""
        for gauge in (self.links, self.paused, self.window, *self._limits_of_upstreams()):
            gauge.remove(name)

    def forget_limits(self, account: str) -> None:
        """Takes away the limits of an account that is not configured any more."""
        for gauge in (self.sessions_limit, self.rate_limit, self.queued_limit):
            gauge.remove(account)

    def _limits_of_upstreams(self) -> tuple[Gauge, ...]:
        return self.links_wanted, self.upstream_rate_limit, self.upstream_window_limit


def total(counter: Counter) -> float:
    """What one child of a counter stands at. The library shows it by collecting only, which builds samples for each look."""
    return float(counter._value.get())


def totals(counter: Counter) -> dict[tuple[str, ...], float]:
    """What every child of a counter stands at, by its labels."""
    children: dict[Any, Any] = counter._metrics
    return {tuple(map(str, labels)): total(child) for labels, child in list(children.items())}
