# SPDX-License-Identifier: BSD-2-Clause
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
DEB := dist/ganeti-vcluster_$(VERSION)_all.deb
SOURCES := $(shell find ganeti_vc tools units os man debian -type f -not -name '*.pyc') README.md
PYTHON_TOOLS := tools/renew-views tools/seed tools/forked tools/forkserver tools/local-confd tools/launch tools/wait-nodes tools/sshd-listen tools/enter tools/hang-up tools/manager tools/gnt-vcluster tools/sandbox man/generate
PERL_TOOLS := tools/launch-forked tools/wait-stopped
SHELL_TOOLS := tools/daemon-util tools/is-master tools/watcher-wanted tools/master-ip-off tools/ssh-entry tools/node-systemctl tools/node-socat tools/node-fping \
	tools/node-gnt-cluster tools/node-gnt-node tools/node-ganeti-watcher \
	tools/oob tools/power tools/thaw tools/sandbox-init os/dummy/script tests/need tests/run-system tests/demo tests/vm-stages

# Of check-vm, qa, bench and demo: bookworm or trixie.
RELEASE ?= bookworm

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

deb: $(DEB) ## build the package into dist/

# In a copy: dpkg-buildpackage writes beside and into the tree it builds.
$(DEB): $(SOURCES)
	tests/need build
	rm -rf dist/work && mkdir -p dist/work/source
	cp -a ganeti_vc tools units os man debian README.md LICENSE dist/work/source/
	find dist/work -name __pycache__ -prune -exec rm -rf {} +
	cd dist/work/source && dpkg-buildpackage -b -us -uc -tc >../build.log 2>&1 || { tail -n 30 ../build.log; exit 1; }
	mv dist/work/*.deb dist/
	rm -rf dist/work

.venv/ready: tests/requirements.txt
	tests/need check
	/usr/bin/python3 -m venv --system-site-packages .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

check-fast: .venv/ready ## lint, types and unit tests
	.venv/bin/ruff check ganeti_vc tests $(PYTHON_TOOLS)
	.venv/bin/ruff format --check ganeti_vc tests $(PYTHON_TOOLS)
	.venv/bin/mypy
	shellcheck $(SHELL_TOOLS)
	for tool in $(PERL_TOOLS); do perl -wc $$tool || exit; done
	.venv/bin/pytest -q tests/unit

check: check-fast $(DEB) ## all of that, then the package in booted Debian 12 and 13
	tests/need containers
	lintian --allow-root --fail-on error,warning $(DEB)
	tests/run-system bookworm trixie

check-vm: $(DEB) ## a short list on Debian's own kernel, in an emulated machine (10 minutes)
	tests/need vm
	/usr/bin/python3 tests/vm.py $(RELEASE) $(DEB)

qa: $(DEB) ## Ganeti's own QA suite on a cluster of four virtual nodes
	tests/need containers
	/usr/bin/python3 tests/machine.py qa $(RELEASE) $(DEB)

bench: $(DEB) ## costs beside upstream's way and beside the goals; PARTS, SIZES and RUNS choose
	tests/need containers
	RUNS="$(RUNS)" SIZES="$(SIZES)" /usr/bin/python3 tests/bench.py $(RELEASE) $(DEB) $(PARTS)

demo: $(DEB) ## a throw-away sandbox with a Debian of its own, and a cluster in it; as root or not
	tests/need sandboxes
	tests/demo $(RELEASE) $(DEB)

.PHONY: help deb check-fast check check-vm qa bench demo
