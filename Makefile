# `make` alone lists the targets.

TARGET ?= decode
SEEDS ?= 1000
SEED ?= 0
SECS ?= 60
ROUNDS ?= 100
RUNS ?= 20
BUILT = $(or $(CARGO_TARGET_DIR),target)

# A binary that aborts never unwinds, and random addresses are of little use on a device with little flash: without both,
# the file is a sixth smaller, and less memory is touched at the start. The unwinding functions are never called then, so
# a function that does nothing replaces them and saves the library.
SMALLER = -C relocation-model=static -C link-arg=-Wl,-T,$(abspath $(BUILT))/minimal.ld
UNTOLD = SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame_hdr .gcc_except_table*) } } INSERT AFTER .text;
UNWOUND = GetDataRelBase GetIP GetIPInfo GetLanguageSpecificData GetRegionStart GetTextRelBase Resume SetGR SetIP

.PHONY: help run test check fuzz bench instructions interop minimal size cluster conformance sim crash powercut bridgecrash clustercrash pages packages

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## Run the broker; ARGS="..." are its flags
	cargo run --release -- $(ARGS)

test: ## Run the tests
	cargo test

check: ## Run everything that must pass before a change is accepted
	bash .ci/run

fuzz: ## Fuzz one TARGET (decode) for SECS seconds (60)
	@mkdir -p fuzz/corpus/$(TARGET)
	cargo +nightly fuzz run $(TARGET) fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) -- -max_total_time=$(SECS)

sim: ## Run SEEDS seeds (1000) of the simulator from SEED (0) on
	SEEDS=$(SEEDS) SEED=$(SEED) cargo test --release --test simulation -- --nocapture

crash: ## Kill the broker in ROUNDS rounds (100) from SEED (0) on, with clients that know what they were promised
	ROUNDS=$(ROUNDS) SEED=$(SEED) cargo test --release --test crash outlives_the_broker -- --nocapture

bridgecrash: ## Kill two brokers with a bridge between them in RUNS rounds (20) from SEED (0) on
	RUNS=$(RUNS) SEED=$(SEED) cargo test --release --test crash outlives_both_brokers -- --nocapture

clustercrash: ## Kill and freeze nodes of a cluster and their servers of NATS in ROUNDS rounds (100) from SEED (0) on
	NATS_SERVER=$$(tests/cluster/server) ROUNDS=$(ROUNDS) SEED=$(SEED) cargo test --release --features cluster \
	    --test cluster what_was_acknowledged -- --nocapture

powercut: ## Cut its power in RUNS rounds (20) from SEED (0) on; installs strace if it can
	@command -v strace >/dev/null || { apt-get update -qq && apt-get install -y -qq strace; }
	RUNS=$(RUNS) SEED=$(SEED) cargo test --release --test crash outlives_a_power_cut -- --nocapture
	cargo test --release --test crash a_disk_that_flushes_nothing -- --ignored

bench: ## Run the benchmarks
	cargo bench --bench brokers --bench trie

instructions: ## Count instructions per message with callgrind; SCENARIOS="..." selects; installs valgrind if it can
	@command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq valgrind; }
	cargo bench --quiet --bench instructions

interop: ## Test the broker with other MQTT clients
	bash tests/interop/run

minimal: ## Build the smallest binary
	@mkdir -p $(BUILT) && echo '$(UNTOLD) $(UNWOUND:%=_Unwind_% = _fini;)' > $(BUILT)/minimal.ld
	@cargo rustc --quiet --profile minimal --no-default-features --bin brooklet -- $(SMALLER)

size: minimal ## Check the sizes of the default and the minimal binary, their memory at the start, and what the cluster adds
	@cargo build --quiet --release --features cluster
	@mkdir -p $(BUILT)/cluster && cp $(BUILT)/release/brooklet $(BUILT)/cluster/brooklet
	@cargo build --quiet --release
	@bash tests/size $(BUILT)

cluster: ## Run three brokers as one on this machine, with servers of NATS, until Ctrl-C
	cargo build --release --features cluster
	@examples/cluster/run $(BUILT)/release/brooklet

conformance: ## List the normative statements that the tests cover
	python3 tests/conformance/coverage

pages: ## Write the manual pages and completions into packages/pages of the target directory
	cargo run --quiet --example pages $(BUILT)/packages/pages

packages: ## Build and try the packages that this machine can, and name those that it cannot
	bash packages/all
