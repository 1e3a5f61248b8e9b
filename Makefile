# What there is to do here; `make` alone lists it.

GO     ?= go
ARGS   ?=
BIN    := bin/mini-k8s
ARCH   := $(shell $(GO) env GOARCH 2>/dev/null)
# Packet rules need root; a cluster of simulated pods does not.
HOLLOW := $(findstring hollow,$(ARGS))
SUDO   := $(if $(HOLLOW),,$(shell [ "$$(id -u)" = 0 ] || echo sudo))
NEEDS  := $(if $(HOLLOW),build,docker)

.PHONY: help up down build demo-autoscale test mistakes bench fuzz chaos crash docker clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'

up: ## install what is missing, build, start a cluster (ARGS="--nodes 5 --name big")
	@scripts/setup.sh $(NEEDS)
	@$(MAKE) --no-print-directory build
	@$(SUDO) $(BIN) up $(ARGS)

down: ## stop the cluster and remove all that it made (ARGS="--name big")
	@test -x $(BIN) || $(MAKE) --no-print-directory build
	@$(SUDO) $(BIN) down $(ARGS)

build: ## make bin/mini-k8s and the programs of the container images
	@scripts/setup.sh build
	@test -x $(BIN) || echo "Building; the first time takes a minute or two"
	@$(GO) build -o $(BIN) ./mini-k8s
	@for program in pause hello; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) $(GO) build -trimpath -ldflags='-s -w' -o bin/images/$(ARCH)/$$program ./mini-k8s/images/$$program || exit 1; \
	done

demo-autoscale: ## watch an autoscaler: pods grow from 1 to 6 under load, and go back
	@scripts/setup.sh docker
	@$(MAKE) --no-print-directory build
	@$(SUDO) scripts/demo-autoscale.sh

test: ## install what is missing, run all tests
	@scripts/setup.sh test
	$(GO) vet -race ./...
	$(GO) test -race -vet=off -p 3 -parallel 3 -timeout 20m ./...

mistakes: ## have the labs' tests catch all plausible mistakes; `make test` tries every fourth
	@scripts/setup.sh test
	$(GO) test -race -run Mistakes -timeout 30m ./labs/contract -all

bench: ## measure: times, memory, and ratios to peers in the same run
	@scripts/setup.sh docker
	$(GO) test -run '^$$' -bench 'Up|Pod' -benchtime 5x -timeout 30m ./mini-k8s/bench
	$(GO) test -run '^$$' -bench Worker -benchtime 3x -timeout 30m ./mini-k8s/bench
	$(GO) test -run '^$$' -bench 'Master|Growth' -benchtime 1x -timeout 30m ./mini-k8s/bench
	$(GO) test -run '^$$' -bench API -benchtime 500x -timeout 30m ./mini-k8s/bench
	$(GO) test -run '^$$' -bench . ./mini-k8s/master/store
	$(GO) test -run '^$$' -bench 'Services|Connection' ./mini-k8s/worker/proxy
	$(GO) test -run '^$$' -bench 'Service$$' -benchtime 50x ./mini-k8s/worker/proxy
	$(GO) test -run '^$$' -bench . -benchtime 5x ./mini-k8s/worker/dns

fuzz: ## look for requests that the servers fail at, 30 seconds each; what it finds stays as a test
	for target in Object Patch Path Selector; do $(GO) test -run '^$$' -fuzz "^Fuzz$$target\$$" -fuzztime 30s ./mini-k8s/master/apiserver || exit 1; done
	$(GO) test -run '^$$' -fuzz '^FuzzKey$$' -fuzztime 30s ./mini-k8s/master/store
	$(GO) test -run '^$$' -fuzz '^FuzzServeDNS$$' -fuzztime 30s ./mini-k8s/worker/dns

chaos: ## random faults for the whole control plane, 10 minutes; a failure tells its seed
	$(GO) test -race -run 'Chaos|Crash' -chaos 10m -count 1 -timeout 30m ./mini-k8s/master/chaos

crash: ## kill -9 the store in a write load, 50 times
	MINI_K8S_CRASH_ROUNDS=50 $(GO) test -run Crash -v -count 1 -timeout 30m ./mini-k8s/master/store

docker: ## install and start Docker
	@scripts/setup.sh docker

clean: ## remove what was built
	rm -rf bin
