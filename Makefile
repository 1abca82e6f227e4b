# smppd: set-up, demo, tests and checks. `make help` lists the targets.
# Everything runs in .venv, made from the locked requirements at the first call; nothing needs a network after that.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
VENV_STAMP := $(VENV)/.stamp-venv
NODE_STAMP := $(VENV)/.stamp-node
FUZZ_STAMP := $(VENV)/.stamp-fuzz
PACKAGES_STAMP := $(VENV)/.stamp-packages
CHART_STAMP := $(VENV)/.stamp-chart
SOURCES := smppd tests tools certs $(wildcard bench)
PYTEST_ARGS ?=
# Test files run side by side, two processes for each processor, since many tests wait for a daemon or a timer; a part of the
# tests runs in one, where -s and --pdb work.
TEST_WORKERS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))
SIDE_BY_SIDE = -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
IN_MEMORY = tools/in-memory.sh
COMPILED_TESTS ?= tests/test_native.py tests/protocol tests/policy tests/vault tests/relay tests/traffic tests/consent tests/lists \
	tests/e2e/test_golden.py tests/e2e/test_bulk.py::test_twenty_thousand_over_ten_tls_binds
BENCH_ARGS ?=
TORTURE_ARGS ?=
FUZZ_ARGS ?=
STACKS_ARGS ?=
FEED_ARGS ?=
PROMETHEUS_ARGS ?=
CONSOLE_ARGS ?=

export PYTHON
# The tests start hundreds of processes, and each would compile the sources anew.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv native node demo demo-nodes test test-compiled test-stores check lint format types bench bench-records bench-console bench-growth bench-limits bench-lists bench-commits bench-stores bench-traffic bench-micro bench-profile torture fuzz stacks feed-kills feed-rabbitmq console-check alerts prometheus haproxy-check trace-check coverage certs \
	lock lock-check wheel man completion sbom deb deb-steps chart import-samples install-steps docker-steps docker clean distclean native-if-possible

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV_STAMP) native-if-possible ## .venv with the locked requirements and smppd itself, compiled where there is a C compiler

native: $(VENV_STAMP) ## compiles the modules on a message's path, if they changed
	@$(BIN)/python -m tools.compile

native-if-possible: $(VENV_STAMP)
	@$(BIN)/python -m tools.compile --optional

node: $(NODE_STAMP) ## the node-smpp peer of the tests

demo: $(VENV_STAMP) native-if-possible ## smppd between a simulated customer and a simulated SMSC
	@$(BIN)/smppd demo

demo-nodes: $(VENV_STAMP) native-if-possible ## two smppd on one PostgreSQL (Debian: postgresql), one killed under load, nothing lost
	@$(BIN)/smppd demo --nodes --directory var/demo-nodes

# First everything on the sources, which needs no waiting for a compiler; then, unless a part was asked for, what the
# compiled modules could change.
test: $(VENV_STAMP) $(NODE_STAMP) ## the whole test suite; PYTEST_ARGS="tests/relay -k lanes": a part, on the sources
	@SMPPD_INTERPRETED=1 $(IN_MEMORY) $(BIN)/python -m pytest $(or $(PYTEST_ARGS),$(SIDE_BY_SIDE))
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(MAKE) --no-print-directory test-compiled
else
	@echo "smppd: this was a part, interpreted; make test-compiled runs the compiled pass"
endif

test-compiled: native $(NODE_STAMP) ## the tests of the message path and one end-to-end test, on the compiled modules
	@SMPPD_INTERPRETED= SMPPD_TEST_COMPILED=1 $(IN_MEMORY) $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(COMPILED_TESTS)

test-stores: $(VENV_STAMP) ## what is promised of records, by the same tests on PostgreSQL (`make test` has the rest of PostgreSQL)
	@SMPPD_INTERPRETED=1 SMPPD_EVERY_STORE=1 $(IN_MEMORY) $(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/records -k postgres

check: lint types test test-stores ## everything a change must pass

lint: $(VENV_STAMP) ## ruff: rules and format
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: $(VENV_STAMP) ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: $(VENV_STAMP) ## mypy, strict
	@$(BIN)/mypy $(SOURCES)

bench: native ## cost of a message, against the reference relay
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-growth: native ## what grows and what it costs; BENCH_ARGS="sessions rules": these curves only
	@$(BIN)/python -m bench.growth $(BENCH_ARGS)

bench-traffic: native ## what is found of artificial traffic, false alarms, memory: docs/traffic.md
	@$(BIN)/python -m bench.traffic --write $(BENCH_ARGS)

bench-records: native ## search, export, verification and purge over a big log: docs/records-benchmark.md; BENCH_ARGS="--records N"
	@$(BIN)/python -m bench.records $(BENCH_ARGS)

bench-console: native ## the console's pages about records and people over a big log with many accounts; BENCH_ARGS="--records N --accounts N"
	@$(BIN)/python -m bench.console $(BENCH_ARGS)

bench-limits: native ## fills what peers can pile up, asks for the longest turn: docs/limits.md; BENCH_ARGS="queue": this alone
	@$(BIN)/python -m bench.limits $(BENCH_ARGS)

bench-commits: $(VENV_STAMP) ## what one commit costs in each store, PostgreSQL's own work counted; BENCH_ARGS="--rounds N"
	@$(BIN)/python -m bench.commits $(BENCH_ARGS)

bench-stores: $(VENV_STAMP) $(NODE_STAMP) ## the embedded store, PostgreSQL and two nodes on it at five paces; writes docs/stores.md
	@$(BIN)/python -m bench.stores $(BENCH_ARGS)

bench-lists: native ## big lists: compiling 100 million numbers, look-ups, conditions, exchange; BENCH_ARGS="--entries N"
	@$(BIN)/python -m bench.lists $(BENCH_ARGS)

bench-micro: native ## cost of a message in the relay alone, compiled and interpreted; for A/B of small changes
	@$(BIN)/python -m bench.micro $(BENCH_ARGS)

bench-profile: native ## which lines cost a message what, compiled and interpreted: docs/profile.md
	@$(BIN)/python -m bench --profile $(BENCH_ARGS)

torture: $(VENV_STAMP) ## kill the daemon at bad moments, look for lost messages
	@$(BIN)/python -m tests.torture $(TORTURE_ARGS)

fuzz: $(FUZZ_STAMP) ## hostile bytes at everything that parses, guided by coverage, for 5 minutes; FUZZ_ARGS="wire --seconds 600"
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

stacks: $(VENV_STAMP) $(NODE_STAMP) ## other people's stacks meet through smppd, Jasmin among them (network)
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.stacks $(STACKS_ARGS)

feed-kills: $(VENV_STAMP) native-if-possible ## the event feed over twenty kills: each event once; FEED_ARGS="--kills 100"
	@$(BIN)/python -m tests.campaigns.feed $(FEED_ARGS)

feed-rabbitmq: $(VENV_STAMP) native-if-possible ## the same into a real RabbitMQ of Debian's packages (network, for aio-pika)
	@$(BIN)/python -m tests.campaigns.feed --rabbitmq $(FEED_ARGS)

console-check: $(VENV_STAMP) ## the web console in headless Chromium (Debian: chromium, chromium-driver; network for axe-core)
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.console $(CONSOLE_ARGS)

alerts: $(VENV_STAMP) ## docs/alerts.yml by Prometheus' promtool, fetched where there is none (network)
	@tools/promtool.sh
	@$(BIN)/promtool check rules docs/alerts.yml
	@$(BIN)/promtool test rules tests/alerts.yml

prometheus: $(VENV_STAMP) ## a real Prometheus reads the daemon; every panel and rule is asked (network, or a prometheus of the machine)
	@tools/promtool.sh prometheus
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.prometheus $(PROMETHEUS_ARGS)

haproxy-check: $(VENV_STAMP) ## docs/examples/haproxy.cfg before two nodes: HAProxy and PostgreSQL of the machine (Debian: haproxy, postgresql)
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.haproxy

trace-check: $(VENV_STAMP) ## traces of the daemon, dissected by tshark, which has to be on the machine
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.trace

coverage: $(VENV_STAMP) $(NODE_STAMP) ## the test suite with branch coverage
	@SMPPD_INTERPRETED=1 $(BIN)/python -m coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/python -m coverage report --skip-covered

certs: $(VENV_STAMP) ## development certificates in certs/
	@PYTHON=$(BIN)/python certs/make.sh certs

lock: ## new versions into requirements/*.txt (network; PYTHON must be 3.11 with pip-tools) and package-lock.json
	@$(or $(PYTHON),$(BIN)/python) tools/lock.py --upgrade
	@cd tests/peers && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund

lock-check: $(VENV_STAMP) ## do the locks install on every supported Python and processor? (network)
	@PYTHON=$(BIN)/python tools/lock-check.sh

wheel: native $(PACKAGES_STAMP) ## dist/: smppd with its compiled modules, man pages and completion, for this Python and processor
	@rm -rf build dist
	@$(BIN)/python -m tools.pages dist/pages
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir dist .
	@ls dist

man: $(PACKAGES_STAMP) ## dist/pages/man: a man page for each command
	@$(BIN)/python -m tools.pages dist/pages
	@ls dist/pages/man

completion: $(PACKAGES_STAMP) ## dist/pages: completion for bash (smppd) and zsh (_smppd)
	@$(BIN)/python -m tools.pages dist/pages
	@ls dist/pages

sbom: $(PACKAGES_STAMP) ## dist/smppd.cdx.json: what is inside, as CycloneDX
	@$(BIN)/python -m tools.sbom dist/smppd.cdx.json

deb: wheel sbom ## dist/smppd_VERSION_ARCH.deb, for the Debian that this is; REVISION=2: the package's own number
	@tools/deb.sh

deb-steps: ## builds two packages from a clean copy, installs, starts, upgrades, removes and purges them in a Debian root (network, root)
	@tools/deb-steps.sh

chart: $(CHART_STAMP) ## dist/: the Helm chart, rendered by Helm's engine and held against Kubernetes' schemas
	@$(VENV)/chart/bin/python tools/chart.py dist

import-samples: $(VENV_STAMP) ## `smppd import` on the samples that Kannel's and Jasmin's own packages ship (network)
	@SMPPD_INTERPRETED=1 $(BIN)/python -m tests.campaigns.imports

install-steps: $(VENV_STAMP) ## the installation of docs/operations.md, its systemd unit included, without systemd (network)
	@PYTHON=$(BIN)/python tools/install-steps.sh

docker-steps: $(VENV_STAMP) ## the Dockerfile's steps without Docker (network)
	@PYTHON=$(BIN)/python tools/docker-steps.sh

docker: ## the image
	docker build --tag smppd .

clean: ## caches and builds; keeps .venv, certificates and stores
	rm -rf build dist smppd/_native bench/build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov smppd.egg-info
	find smppd tests tools certs bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## also .venv and the Node peer
	rm -rf $(VENV) .venv.lock tests/peers/node_modules

$(VENV_STAMP): requirements/runtime.txt requirements/build.txt requirements/dev.txt requirements/peers.txt setup.cfg pyproject.toml smppd/__init__.py tools/venv.sh
	@tools/venv.sh $@

$(FUZZ_STAMP): $(VENV_STAMP) requirements/fuzz.txt
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: --no-deps -r requirements/fuzz.txt
	@touch $@

$(PACKAGES_STAMP): $(VENV_STAMP) requirements/packages.txt
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: --no-deps -r requirements/packages.txt
	@touch $@

$(CHART_STAMP): $(VENV_STAMP) requirements/chart.txt
	@$(BIN)/python -m venv --clear $(VENV)/chart
	@$(VENV)/chart/bin/python -m pip install --quiet --require-hashes --only-binary :all: --no-deps -r requirements/chart.txt
	@touch $@

$(NODE_STAMP): $(VENV_STAMP) requirements/node.txt tests/peers/package.json tests/peers/package-lock.json tools/node.sh
	@tools/node.sh $@
