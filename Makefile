# Two commands do everything: `make demo` and `make test`.
.PHONY: demo test test-fast check venv venv-test lock screenshots bench up down clean

PYTEST = .venv/bin/python -m pytest

demo: venv            ## two products, from raw data to an answered request
	.venv/bin/roadworthy demo

test: venv-test check ## everything; SUITES="fast services families sim browser containers" names the ones to run
	.ci/packages $(SUITES)
	.ci/suites $(SUITES)

test-fast: venv-test  ## under a minute, no server
	$(PYTEST) -q -m "not services and not families and not sim and not browser and not containers"

check: venv-test      ## style, types, floor plan
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

venv:
	@infra/deploy/venv.sh requirements.lock

venv-test:
	@infra/deploy/venv.sh requirements.lock requirements-test.lock

lock: venv            ## resolve again; needs uv in .tools
	infra/deploy/lock.sh

bench: venv-test      ## after `make demo`: what compression bought; serving beside its peers
	.venv/bin/python -m bench.compression --product freeway
	.venv/bin/python -m bench.serving

screenshots: venv-test  ## after `make demo` and `make up`: the README's pictures
	.venv/bin/python docs/screenshots.py

up: venv
	.venv/bin/roadworthy up

down: venv
	.venv/bin/roadworthy down

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache
