# SPDX-License-Identifier: BSD-2-Clause
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
DEB := dist/ganeti-vcluster_$(VERSION)_all.deb
SOURCES := $(shell find ganeti_vc tools units os man debian -type f -not -name '*.pyc') README.md
# Programs without a suffix, by the interpreter that their first lines name.
programs = $(sort $(shell grep -lIrE '^\#!.*$(1)' tools man os tests debian --exclude='*.py' --exclude-dir=__pycache__))
PYTHON_TOOLS := $(call programs,python3)
PERL_TOOLS := $(call programs,perl)
SHELL_TOOLS := $(call programs,/(ba)?sh)

# Of check-vm, piuparts, qa, bench, crash and demo: bookworm or trixie.
RELEASE ?= bookworm

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

deb: $(DEB) ## build the package into dist/

# In a copy: dpkg-buildpackage writes beside and into the tree it builds.
$(DEB): $(SOURCES)
	tests/programs/need build
	rm -rf dist/work && mkdir -p dist/work/source
	cp -a ganeti_vc tools units os man debian README.md LICENSE dist/work/source/
	find dist/work -name __pycache__ -prune -exec rm -rf {} +
	cd dist/work/source && dpkg-buildpackage -b -us -uc -tc >../build.log 2>&1 || { tail -n 30 ../build.log; exit 1; }
	mv dist/work/*.deb dist/
	rm -rf dist/work

.venv/ready: tests/requirements.txt
	tests/programs/need check
	/usr/bin/python3 -m venv --system-site-packages .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

check-fast: .venv/ready ## lint, types and unit tests
	.venv/bin/ruff check ganeti_vc tests $(PYTHON_TOOLS)
	.venv/bin/ruff format --check ganeti_vc tests $(PYTHON_TOOLS)
	.venv/bin/mypy
	.venv/bin/mypy --scripts-are-modules $(PYTHON_TOOLS)
	shellcheck $(SHELL_TOOLS)
	perlcritic --quiet --severity 5 $(PERL_TOOLS)
	.venv/bin/pytest -q tests/unit

check: check-fast $(DEB) ## all of that, then the package in booted Debian 12 and 13
	tests/programs/need containers
	lintian --allow-root --pedantic --display-info --fail-on error,warning,info,pedantic $(DEB)
	tests/programs/run-system bookworm trixie

check-vm: $(DEB) ## a short list on Debian's own kernel, in an emulated machine (10 minutes)
	tests/programs/need vm
	/usr/bin/python3 tests/support/vm.py $(RELEASE) $(DEB)

piuparts: $(DEB) ## install, upgrade and purge the package in a chroot, by Debian's own tool
	tests/programs/need containers piuparts
	# These are logrotate's, which the test runs, and debconf's.
	piuparts --no-eatmydata --ignore=/var/lib/logrotate/status --ignore=/var/cache/debconf/tmp.ci/ -d $(RELEASE) \
	  -e "$$(/usr/bin/python3 tests/support/machine.py rootfs $(RELEASE))" $(DEB)

qa: $(DEB) ## Ganeti's own QA suite on a cluster of four virtual nodes
	tests/programs/need containers
	/usr/bin/python3 tests/support/machine.py qa $(RELEASE) $(DEB)

bench: $(DEB) ## costs, compared with upstream's method and with the goals; PARTS, SIZES and RUNS choose
	tests/programs/need containers
	RUNS="$(RUNS)" SIZES="$(SIZES)" /usr/bin/python3 tests/programs/bench.py $(RELEASE) $(DEB) $(PARTS)

crash: $(DEB) ## kills and power cuts at random moments; PARTS and ROUNDS choose (all of it: an hour)
	tests/programs/need containers
	ROUNDS="$(or $(ROUNDS),50)" /usr/bin/python3 tests/programs/crash.py $(RELEASE) $(DEB) $(PARTS)

demo: $(DEB) ## a throw-away sandbox with a Debian of its own, and a cluster in it; as root or not
	tests/programs/need sandboxes
	tests/programs/demo $(RELEASE) $(DEB)

.PHONY: help deb check-fast check check-vm piuparts qa bench crash demo
