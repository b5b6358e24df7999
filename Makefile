# openstack-zeromq: `make` shows what there is to do.
#
# Everything lives below this checkout: .venv (tools), .local (the demo's three nodes), .lab (keys of
# the lab's machines; they are podman containers), .build (the rest).

PYTHON   ?= python3
VENV     := .venv
BIN      := $(VENV)/bin
PYTHONS  := 3.11 3.12 3.13
ANSIBLE_CODE := library filter_plugins callback_plugins
CODE     := openstack_zeromq tests benchmarks tools molecule extensions $(ANSIBLE_CODE)

# An explicit ansible.cfg also counts in a world-writable checkout; Ansible refuses locales other than UTF-8.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8
# What tests start a thousand times is compiled once, whatever the surroundings say.
unexport PYTHONDONTWRITEBYTECODE
# Tools that are called by name (molecule calls ansible-playbook) must be ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Further arguments of ansible-playbook, for instance ARGS="-e zeromq_local_root=/short/dir".
ARGS     ?=
# Scenarios of molecule/ that `make molecule` runs, all unless named, and how many at a time.
SCENARIOS ?=
AT_A_TIME ?= 2
# How many tests run at a time: most of them wait. Those that are marked `alone` hold something to the clock.
TESTERS  ?= 4
ALONE    := -m alone
TOGETHER := -m "not alone" -n $(TESTERS) --dist worksteal
# Options of the soak run; `SOAK=--help` shows them.
SOAK     ?=

define LOOK_AROUND

Three nodes run below .local. Look around:

  .local/venv/bin/zmqctl status --config-file .local/node1/etc/zeromq.conf    what a receiver is doing
  ls -l .local/node1/run                                                      its unix sockets, one per channel
  cat .local/node1/etc/matchmaker_ring.json                                   which hosts serve which topic
  tail -f .local/node*/log/receiver.log                                       the logs

Kill one receiver, see it heal, and prove it again:

  kill -9 $$(.local/venv/bin/supervisorctl -c .local/node2/supervisor/supervisord.conf pid receiver)
  .venv/bin/ansible-playbook playbooks/verify.yml

Stop it all: make demo-down
endef
export LOOK_AROUND

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## Show this list
	@echo "openstack-zeromq: a brokerless message bus for OpenStack, rolled out by Ansible"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: rollout-venv ## Roll out three nodes on this machine and send real RPC between them
	@$(BIN)/ansible-playbook site.yml $(ARGS)
	@echo "$$LOOK_AROUND"

.PHONY: demo-down
demo-down: rollout-venv ## Stop the demo and remove its files
	@$(BIN)/ansible-playbook playbooks/destroy.yml $(ARGS)

.PHONY: lab
lab: lab-packages stores rollout-venv ## Five machines with systemd in containers, and the bus rolled out to them over ssh; needs root
	@$(PYTHON) tools/lab.py up
	@$(BIN)/ansible-playbook --inventory inventories/lab site.yml $(ARGS)
	@echo
	@echo "Log in: ssh -F .lab/lab/ssh_config node1    Stop it all: make lab-down"

.PHONY: lab-down
lab-down: ## Remove the lab's machines
	@$(PYTHON) tools/lab.py down

.PHONY: test
test: packages stores lint molecule oslo-suite ## Everything: lint, molecule, oslo.messaging's suite, and all tests
	$(BIN)/pytest $(ALONE) tests
	$(BIN)/pytest $(TOGETHER) tests

# The inner loop: what most mistakes break, in a few lines. `make test` stays the judge.
QUICKLY  := --quiet --no-header --disable-warnings --tb=short
# What runs playbooks or pip, for minutes of a processor, is left to `make unit`.
NO_ROLES := $(patsubst %,--ignore=tests/rollout/test_%.py,gate matchmaker_role modules_by_ansible precheck service_role store_roles) \
            -k "not TestWheel"

.PHONY: quick
quick: dev-venv stores ## Lint, unit, and the functional tests that guard each promise: some minutes, before every commit
	@$(MAKE) --silent lint
	@echo "==> unit"
	@$(BIN)/pytest $(QUICKLY) $(TOGETHER) $(NO_ROLES) tests/unit tests/rollout
	@echo "==> a tenth of functional: those marked quick"
	@$(BIN)/pytest $(QUICKLY) -m "quick and alone" tests/functional tests/stores
	@$(BIN)/pytest $(QUICKLY) -m "quick and not alone" -n $(TESTERS) --dist worksteal tests/functional tests/stores
	@echo "==> good so far; left out: roles in playbooks (make unit), most functional tests, molecule, oslo.messaging's suite (make test)"

.PHONY: lint
lint: dev-venv ## ruff, mypy --strict, yamllint, ansible-lint (production), bandit
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline --strict
	$(BIN)/bandit --quiet --recursive --severity-level medium openstack_zeromq tools extensions $(ANSIBLE_CODE)

.PHONY: unit
unit: dev-venv ## Tests without sockets, and those of modules, filters and roles
	$(BIN)/pytest $(TOGETHER) tests/unit tests/rollout

.PHONY: functional
functional: dev-venv stores ## Tests with real receivers, real stores and real oslo.messaging
	$(BIN)/pytest $(ALONE) tests/functional tests/stores
	$(BIN)/pytest $(TOGETHER) tests/functional tests/stores

.PHONY: stores
stores: ## Fetch the Redis, Valkey and Consul that tests start, into .cache/stores
	@$(PYTHON) tools/stores.py

.PHONY: oslo-suite
oslo-suite: dev-venv ## The functional suite that ships with oslo.messaging, eventlet-patched and native
	$(BIN)/python -W ignore tests/oslo/run.py

.PHONY: soak
soak: dev-venv ## A quarter of an hour of load while receivers are killed and services restarted (SOAK="--minutes 2 --rate 500")
	$(BIN)/python -W ignore::DeprecationWarning tests/soak/run.py $(SOAK)

.PHONY: molecule
molecule: lab-packages stores dev-venv ## The rollout in each scenario of molecule/: check, converge, idempotence, break, verify, check
	@$(BIN)/python tools/scenarios.py --at-a-time $(AT_A_TIME) $(SCENARIOS)

.PHONY: test-pythons
test-pythons: stores ## Unit and functional tests under each Python of 3.11, 3.12, 3.13 that is here
	@failed=; for version in $(PYTHONS); do \
	    for python in python$$version $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python; do \
	        $$python -c '' 2>/dev/null && break; \
	    done; \
	    if ! $$python -c '' 2>/dev/null; then echo "==> Python $$version is not here, left out"; continue; fi; \
	    echo "==> Python $$version"; \
	    $$python tools/venv.py --extra test --dir .build/py$$version && \
	        .build/py$$version/bin/python -m pytest -p no:cacheprovider $(ALONE) tests/functional && \
	        .build/py$$version/bin/python -m pytest -p no:cacheprovider $(TOGETHER) tests/unit tests/functional || \
	        failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed under Python$$failed"; exit 1; fi

.PHONY: bench
bench: dev-venv ## Measure this driver, RabbitMQ's and a null transport side by side (BENCH="--quick")
	$(BIN)/python -W ignore -m benchmarks $(BENCH)

.PHONY: clean
clean: ## Remove all that was made, except a demo that still runs
	@if [ -n "$$(ls .local 2>/dev/null)" ]; then echo "the demo is still there: make demo-down first"; exit 1; fi
	@if [ -n "$$(ls .lab 2>/dev/null)" ]; then echo "a lab is still there: make lab-down first"; exit 1; fi
	rm -rf $(VENV) .lab .local .build .ansible .cache build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: rollout-venv dev-venv packages lab-packages
rollout-venv:
	@$(PYTHON) tools/venv.py --extra rollout

dev-venv:
	@$(PYTHON) tools/venv.py --extra dev

packages:
	@tools/packages.sh $(PYTHON)

lab-packages:
	@tools/packages.sh $(PYTHON) lab
