# `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test bench run lint types check fuzz clean
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
export MAKECMDGOALS

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: export DEMO_BEGAN := $(shell date +%s.%N)
demo: ## the whole product until Ctrl+C (PORT=8000; STAND_IN=1: tables in memory, no lab)
	@lab/setup.sh run
	@.venv/bin/python -m lab.demo

test: ## every test there is, and figures at the end
	@lab/setup.sh dev
	@.venv/bin/python -m lab.run_tests

bench: ## speed and failed requests, beside ipvsadm, keepalived and a C program; 14 minutes and more
	@lab/setup.sh bench
	@.venv/bin/python -m bench

check: ## what a commit needs: the checks and the tests that need no lab
	@lab/setup.sh dev
	@.venv/bin/python -m lab.run_tests checks unit

lint: ## ruff and the layers
	@lab/setup.sh dev
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/lint-imports

types: ## mypy
	@lab/setup.sh dev
	@.venv/bin/python -m mypy

run: ## the development server, with your own Redis (LVSADMIN_REDIS_URL) and data in .data
	@lab/setup.sh run
	@LVSADMIN_DEBUG=1 LVSADMIN_PLAIN_HTTP=1 .venv/bin/python manage.py migrate --verbosity 0
	@LVSADMIN_DEBUG=1 LVSADMIN_PLAIN_HTTP=1 .venv/bin/python manage.py runserver $(or $(PORT),8000)

fuzz: ## look for texts that make a reader of formats fail, for SECONDS=300 (by hand; not part of test)
	@lab/setup.sh dev
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-fuzz.txt
	@mkdir -p .fuzz
	@.venv/bin/python -m tests.fuzz.corpus .fuzz
	@.venv/bin/python -m tests.fuzz.readers -max_total_time=$(or $(SECONDS),300) -timeout=30 -max_len=8000 \
		-artifact_prefix=.fuzz/ .fuzz

clean: ## remove what was installed and written into this folder, but not .data
	@flock --nonblock lab/demo.py true || { echo "A demo of this folder runs. End it first."; exit 1; }
.PHONY: help demo test bench run lint types check fuzz clean
	@find . -name __pycache__ -prune -exec rm -rf {} +
