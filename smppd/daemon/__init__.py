"""The daemon: wiring, reload, drain, health, http, logs, systemd."""
