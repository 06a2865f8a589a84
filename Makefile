# Sojourn. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LIBDIR   := warehouse/chdb/lib
LIB      := $(LIBDIR)/node_modules/.package-lock.json
GO       ?= go
export CGO_ENABLED ?= 0

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(LIB): $(LIBDIR)/package.json $(LIBDIR)/package-lock.json
	npm ci --prefix $(LIBDIR) --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: lib
lib: $(LIB) ## Fetch the ClickHouse library (npm, once)

.PHONY: build
build: $(LIB) ## Build bin/sojourn
	$(GO) build -ldflags '-X main.version=$(VERSION)' -o bin/sojourn ./cmd/sojourn

.PHONY: run
run: build ## Start Sojourn, fill it with a demo shop, and print what to try
	@deploy/run-demo.sh

# The tests make and drop many small files: in memory, where 8 GiB are free and programs
# may run from it. Garbage is collected less often, up to a limit. The packages that take
# longest begin first, what go vet finds, make lint finds, and no symbols are linked that
# only debuggers read. Tests wait for their children, so that more of them run at once
# than there are cores.
SHM = $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 >= 8 * 2^20' | grep -q . && \
  ! grep -q ' /dev/shm .*noexec' /proc/mounts && echo TMPDIR=/dev/shm GOTMPDIR=)

.PHONY: test
test: build ## Run every test
	@deploy/test-setup.sh
	$(SHM) GOGC=400 GOMEMLIMIT=2GiB SOJOURN_E2E_BINARY=$(CURDIR)/bin/sojourn \
	  $(GO) test -vet=off -ldflags=-s -parallel 3 -timeout 20m ./projections ./e2e ./cmd/sojourn ./warehouse ./...

.PHONY: race
race: $(LIB) ## Run every test with the race detector (needs a C compiler)
	@deploy/test-setup.sh
	CGO_ENABLED=1 $(GO) test -race -timeout 40m ./...

.PHONY: lint
lint: ## Check formatting, imports and the usual mistakes
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

.PHONY: bench
bench: build ## Measure the figures of docs/performance.md (takes minutes)
	bin/sojourn bench

.env: .env.example
	@deploy/secrets.sh

.PHONY: up
up: .env ## Start Sojourn, EventStoreDB, Kafka, ClickHouse and Grafana (needs Docker with Compose)
	SOJOURN_VERSION=$(VERSION) docker compose up --detach --build --wait

.PHONY: down
down: .env ## Stop them; the data stays in Docker's volumes (needs Docker)
	docker compose down

.PHONY: demo-cluster
demo-cluster: up ## Start them and send the history of a demo shop (needs Docker)
	docker compose exec api sojourn demo --collector http://collect:8080 --customers 2000 --days 365
	@echo "Grafana is at http://127.0.0.1:3000, user admin, password GRAFANA_PASSWORD of .env; the API is at http://127.0.0.1:8080, the collector at http://127.0.0.1:8081."

TOUCHPOINTS ?= 2000000
.PHONY: test-workers
test-workers: build ## Hold many workers against one server over 2 million touchpoints (TOUCHPOINTS=60000: fewer)
	SOJOURN_TEST_TOUCHPOINTS=$(TOUCHPOINTS) SOJOURN_E2E_BINARY=$(CURDIR)/bin/sojourn $(GO) test -count 1 -timeout 90m -v -run '^TestWorkers$$' ./e2e/

SOAK ?= 10m
.PHONY: soak
soak: $(LIB) ## Hold generated organisations against the oracle for 10 minutes (SOAK=1h: longer)
	SOJOURN_SOAK=$(SOAK) $(GO) test -count 1 -timeout 0 -v -run '^TestOrganisations$$' ./projections/

.PHONY: fuzz
fuzz: $(LIB) ## Fuzz each endpoint and parser for a minute
	deploy/fuzz.sh 60s

.PHONY: kafka-up
kafka-up: ## Start a Kafka broker for development, at 127.0.0.1:9092
	@deploy/dev/kafka/broker.sh up

.PHONY: kafka-down
kafka-down: ## Stop it and delete what it holds
	@deploy/dev/kafka/broker.sh wipe

.PHONY: test-kafka
test-kafka: build ## Run the tests that need a real Kafka broker, which they start themselves
	SOJOURN_TEST_KAFKA=1 $(GO) test -count 1 -timeout 10m ./ingest/kafkasource/
	deploy/dev/kafka/with-broker.sh $(GO) test -count 1 -timeout 10m ./ingest/collector/ ./automation/kafkaout/
	SOJOURN_TEST_KAFKA=1 SOJOURN_E2E_BINARY=$(CURDIR)/bin/sojourn $(GO) test -count 1 -timeout 20m -v -run '^(TestKafka|TestComposedCluster$$)' ./e2e/

.PHONY: bench-engines
bench-engines: ## Measure Sojourn on EventStoreDB's protocol and a real Kafka broker (FIGURES=kafka: some of it)
	@deploy/dev/kafka/with-broker.sh $(GO) run ./internal/enginebench -figures '$(FIGURES)' -rounds $(or $(ROUNDS),3)

.PHONY: bench-kafka
bench-kafka: ## Measure the way from a real Kafka broker to the log
	@$(MAKE) --no-print-directory bench-engines FIGURES=kafka

.PHONY: clean
clean: ## Remove what was built (not ./data)
	rm -rf bin
