# PYTHON= takes a path, a name or a version (make test PYTHON=3.15); without it .ci/choose-python
# picks one. ARGS= is added to the command (make test ARGS="-k cancel").
export PYTHON
ARGS =

.PHONY: help demo test bench lint types lock clean
.DEFAULT_GOAL := help

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: ## set up, then run examples/stdlib_census.py
	@python=$$(.ci/setup --no-default-groups) && "$$python" examples/stdlib_census.py $(ARGS)

# Four at a time whatever the machine has: most of a test is waiting for processes. Who has done its
# share takes from the others: the longest tests stand next to each other.
test: ## set up, then run the tests
	@python=$$(.ci/setup --no-default-groups --group test --all-packages) && "$$python" -m pytest -n 4 --dist worksteal $(ARGS)

bench: ## set up, then measure against other pools (minutes)
	@python=$$(.ci/setup --no-default-groups --group bench) && "$$python" tests/benchmarks $(ARGS)

lint: ## ruff: rules and format
	@python=$$(.ci/setup --only-group lint) && "$$python" -m ruff check && "$$python" -m ruff format --check

# Both checkers, for the oldest and the newest Python: what hangs on sys.version_info differs.
types: ## mypy and pyright, strict
	@python=$$(.ci/setup --no-default-groups --group test --group types --all-packages) && \
	for version in 3.11 3.15; do \
	    "$$python" -m mypy --python-version $$version && \
	    "$$python" -m pyright --pythonpath "$$python" --pythonversion $$version || exit; \
	done

# The index is named because a mirror in the user's settings would get into the lock.
lock: ## bring uv.lock up to date with pyproject.toml
	.ci/uv lock --default-index https://pypi.org/simple $(ARGS)

clean: ## remove what the commands above have made
	rm -rf .tools .venv .venv-* dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
