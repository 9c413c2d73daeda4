# Everything a developer needs: make demo, make test, make test-long, make check, make bench, make docs. The targets install what they need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo install test test-long test-fast browser network debian sharing integrations generators screenshots fuzz faults soak neighbour azure packages check format bench docs lock clean

demo: install
	$(BIN)/longshore demo

install: .venv/installed

# Tests with targets of their own.
ELSEWHERE := tests/azure tests/integrations tests/packages/test_extras.py tests/docs_site

# What breaks things on purpose has the machine for itself, as its workers count as lost after a second's silence. It
# waits more than it works, so two files at a time leave a core to spare. The longest one comes first.
FAULTS := tests/faults/test_hosts.py tests/faults tests/client/test_failures.py

# All tests but the long ones: under nine minutes on two processors.
test: .venv/installed-dev network debian
	$(BIN)/python -m pytest -m "not long" --numprocesses 3 --dist loadfile $(ELSEWHERE:%=--ignore %)

# The long ones: LONG_PLACES in tests/conftest.py.
test-long: .venv/installed-dev browser network debian sharing generators $(BIN)/promtool
	$(BIN)/python -m pytest -m long --numprocesses 3 --dist loadfile $(FAULTS:%=--ignore %) $(ELSEWHERE:%=--ignore %)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(FAULTS)

# Tests that start no service, server, browser or network: no root, under a minute.
test-fast: .venv/installed-dev
	$(BIN)/python -m pytest --fast --numprocesses 2 $(ELSEWHERE:%=--ignore %)

# $(call need,PROGRAM,PACKAGE): a program, from the system's packages where it is not there.
need = command -v $(1) > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(2) > /dev/null; }

# Installs what a package-lock.json names.
NPM_CI = $(call need,npm,npm) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error

# What the console's tests need beside Python: Chromium, from the system's packages, and axe-core, from npm.
browser: tests/console/node_modules/axe-core/axe.min.js
	@$(call need,chromium,chromium)

tests/console/node_modules/axe-core/axe.min.js: tests/console/package-lock.json
	@$(NPM_CI) --prefix tests/console
	@touch $@

# The generators of programs from the OpenAPI document: openapi-typescript with its compiler, from npm, and
# openapi-python-client, in an environment of its own. `make test-long` runs their tests.
generators: tests/generators/node_modules/.bin/tsc .venv/generators/installed

tests/generators/node_modules/.bin/tsc: tests/generators/package-lock.json
	@$(NPM_CI) --prefix tests/generators
	@touch $@

# $(call environment,NAME,LOCK): an environment of its own with what a lock names. It names all dependencies, of which
# older versions of pip cannot look up those with extras by their hashes.
environment = $(PYTHON) -m venv .venv/$(1) \
	&& .venv/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(2)

.venv/generators/installed: $(BIN)/python tests/generators/requirements.lock
	@$(call environment,generators,tests/generators/requirements.lock)
	@touch $@

# What the alert rules are tried with: promtool, from Debian's package of Prometheus, which is only unpacked, as its
# installation would start a server.
$(BIN)/promtool: $(BIN)/python
	@if command -v promtool > /dev/null; then ln -sf "$$(command -v promtool)" $@; else \
		folder=$$(mktemp -d) && apt-get update -qq && cd $$folder \
		&& apt-get download -qq -o APT::Sandbox::User=root prometheus \
		&& dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > promtool && chmod +x promtool \
		&& mv promtool $(CURDIR)/$@ && rm -r $$folder; fi

# What the tests with hosts of their own need: the program that makes network namespaces. They need root too.
network:
	@$(call need,ip,iproute2)

# PostgreSQL 15, PgBouncer and OpenSSH's server, from Debian's packages, which are only unpacked, as their installation
# would make a cluster and start servers; and the sources of locales.
DEBIAN := .venv/debian
debian: $(BIN)/python
	@test -d /usr/share/i18n/locales || $(call need,-,locales)
	@test -x $(DEBIAN)/usr/lib/postgresql/15/bin/postgres \
		|| { $(call unpack,postgresql-15 postgresql-client-15,libpq5 libxml2 libxslt1.1); }
	@test -x /usr/sbin/pgbouncer -o -x $(DEBIAN)/usr/sbin/pgbouncer || { $(call unpack,pgbouncer,libevent-2.1-7 libc-ares2); }
	@test -x /usr/sbin/sshd -o -x $(DEBIAN)/usr/sbin/sshd || { $(call unpack,openssh-server,libwrap0); }
	@$(call need,sftp,openssh-client)

# $(call unpack,PACKAGES,LIBRARIES): unpack packages into .venv/debian, and install the libraries that it needs.
unpack = folder=$$(mktemp -d) && apt-get update -qq \
	&& apt-get install -y -qq --no-install-recommends $(2) > /dev/null \
	&& (cd $$folder && apt-get download -qq -o APT::Sandbox::User=root $(1)) \
	&& mkdir -p $(DEBIAN) && for file in $$folder/*.deb; do dpkg-deb -x $$file $(DEBIAN) || exit; done && rm -r $$folder

# The Python client of the Delta Sharing protocol, in an environment of its own, as it fits older versions of pandas and
# pyarrow than ours.
sharing: .venv/sharing/installed

.venv/sharing/installed: tests/sharing/requirements.lock $(BIN)/python
	$(BIN)/python -m venv .venv/sharing
	.venv/sharing/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r tests/sharing/requirements.lock
	@touch $@

# The integrations in Airflow, Dagster and dlt, each in an environment of its own; takes some minutes, and 700 MB.
integrations: .venv/installed-dev .venv/airflow/installed .venv/dagster/installed .venv/dlt/installed
	$(BIN)/python -m pytest tests/integrations

.venv/airflow/installed .venv/dagster/installed .venv/dlt/installed: .venv/%/installed: tests/integrations/%.lock $(BIN)/python
	@$(call environment,$*,tests/integrations/$*.lock)
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# Results in Azure's store, against its emulator from npm.
azure: .venv/installed-dev tests/azure/node_modules/.bin/azurite-blob
	$(BIN)/python -m pytest tests/azure

tests/azure/node_modules/.bin/azurite-blob: tests/azure/package-lock.json
	@$(NPM_CI) --prefix tests/azure
	@touch $@

# The wheel with its extras in empty environments, and those of the integrations resolved; takes some minutes.
packages: .venv/installed-dev
	$(BIN)/python -m pytest --timeout=1800 tests/packages

# Each page of the console at three widths and in both themes, with 0, 30 and 2,000 tasks, in screenshots/.
screenshots: .venv/installed-dev browser
	$(BIN)/python -m tests.console.screenshots

# At least 20,000 requests that are made up, with and without credentials; takes some minutes. In a network namespace, as
# the addresses of webhooks are made up too.
fuzz: .venv/installed-dev network
	unshare --net sh -c 'ip link set lo up && exec $(BIN)/python -m tests.fuzz'

# 200 tasks and 100 workers killed, six hosts cut off 14 times, runs with deletes killed at 20 points, 100 files for each
# kind of destination; takes some minutes.
faults: .venv/installed-dev network debian
	FAULT_TASKS=200 FAULT_KILLS=100 FAULT_CUTS=8 FAULT_POINTS=20 FAULT_FILES=100 $(BIN)/python -m pytest -s \
		tests/faults/test_random_kills.py tests/faults/test_hosts.py tests/exports/test_changes_killed.py \
		tests/faults/test_destinations.py

# Schedules in all time zones; the model of copies with many examples; then half an hour of everything at once, with
# kills. SOAK_MINUTES changes that, SOAK_SEED repeats one.
soak: .venv/installed-dev
	$(BIN)/python -m tests.soak.zones
	CHANGES_EXAMPLES=2000 $(BIN)/python -m pytest tests/exports/test_changes_model.py --timeout=7200
	$(BIN)/python -m tests.soak

# One chain at its worst beside another one, whose polls, previews, webhooks and runs are to take twice their time at the
# most; some minutes, on a machine that does little else. NEIGHBOUR_ROUNDS and NEIGHBOUR_WORKERS change it.
neighbour: .venv/installed-dev
	$(BIN)/python -m tests.neighbour

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.check_language

# Also the client that blocks, which is made of the one that is awaited.
format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python -m tools.blocking_client

bench: .venv/installed-bench browser debian
	@$(call need,wrk,wrk)
	@$(call need,redis-server,redis-server)
	$(BIN)/python -m benchmarks

# The peers, and the S3 server that exports are measured with. DuckDB has a folder of its own, as its reader of PostgreSQL
# fits one version and the tests have another.
.venv/installed-bench: .venv/installed-dev benchmarks/requirements.lock benchmarks/duckdb.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade --target .venv/duckdb \
		-r benchmarks/duckdb.lock
	@touch $@

# The site, in docs/_build, its links and its looks on a phone; then the recipes of it that need what is too large for make test.
docs: .venv/installed-docs browser
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q docs docs/_build
	$(BIN)/python -m pytest tests/docs_site tests/client/test_integrations.py

# A new lock, for Python 3.11 and later alike; run it after changing the dependencies in pyproject.toml. What runs is
# locked within what is tested, so that all locks name the same versions.
COMPILE = $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes pyproject.toml
SERVER = $(COMPILE) --extra server
lock: .venv/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(SERVER) --extra dev -o requirements-dev.lock
	$(SERVER) -c requirements-dev.lock -o requirements.lock
	$(SERVER) --extra docs -c requirements-dev.lock -o requirements-docs.lock
	printf '%s\n' 'celery[redis]' procrastinate \
		| $(COMPILE:pyproject.toml=-) -c requirements-dev.lock -o benchmarks/requirements.lock
	printf '%s\n' delta-sharing duckdb | $(COMPILE:pyproject.toml=-) -o tests/sharing/requirements.lock
	for host in airflow dagster; do $(COMPILE) --extra $$host -o tests/integrations/$$host.lock; done
	echo duckdb | $(COMPILE) - --extra dlt -o tests/integrations/dlt.lock
	echo openapi-python-client | $(COMPILE:pyproject.toml=-) -o tests/generators/requirements.lock
	echo duckdb-extension-postgres-scanner | $(COMPILE:pyproject.toml=-) -o benchmarks/duckdb.lock

clean:
	rm -rf .venv data benchmarks/results docs/_build screenshots tests/*/node_modules

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Longshore needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.venv/installed-docs: .venv/installed-dev requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@
