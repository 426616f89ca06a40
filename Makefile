# make demo     trains HalfCheetah-v5 and plots, evaluates and films the policy
# make test     runs all tests
# make check    runs the tests that are not marked slow, in two minutes
# make sanitize runs the tests of csrc under the sanitizers of GCC
# make lint     runs ruff, mypy and clang-format
# make format   formats the sources
# make docs     builds the documentation site in build/site
# make bench    measures speed, also against other libraries
# make install  installs the package from a wheel, into the virtual environment DIR
# make clean    removes builds and caches
#
# All of them need Python >= 3.11 with its venv module and a C++17 compiler. They
# make .venv, install the versions of constraints.txt and build the extension.
# PYTHON chooses the Python of a new .venv or DIR. ARGS is passed to pytest:
#   make test ARGS="-k fisher"
SHELL := /bin/bash
PYTHON ?= python3
CXX ?= c++
VENV := .venv
PY := $(VENV)/bin/python

export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check install sanitize sanitize_address sanitize_thread lint format docs bench clean
.DELETE_ON_ERROR:

# Continues where it stopped; rm -r runs/demo starts anew. A machine that cannot
# render says so and goes without the video.
demo: $(VENV)/built
	$(PY) -m trpo_tf.bin.train --flagfile=configs/v5/half_cheetah.flags \
	  --total_env_steps=2500000 --run_dir=runs/demo
	$(PY) -m trpo_tf.bin.plot runs/demo --out=runs/demo/curve.png
	$(PY) -m trpo_tf.bin.evaluate --run_dir=runs/demo --episodes=20 \
	  --video=runs/demo/episode.mp4 || test -s runs/demo/evaluation.json
	@echo "see runs/demo: curve.png, evaluation.json, episode.mp4, tensorboard/"

# A file's tests run in one process, as they share fixtures. The order is kept:
# the longest files come first.
SUITE := -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/built
	$(PY) -m pytest $(SUITE) $(ARGS)

check: $(VENV)/built
	$(PY) -m pytest $(SUITE) -m "not slow and not fuzz and not crash" $(ARGS)

# Compiled apart from the package, with checks of addresses and undefined
# behaviour and with checks of threads. MuJoCo, Python and TensorFlow are not:
# their leaks and races are not looked for. Preloaded, because Python itself is
# not linked against the sanitizers. -s shows their reports.
# The fuzzer forks, so it runs before other tests have started threads.
SANITIZED := tests/property/extension_fuzz_test.py \
  tests/unit/extension_test.py tests/unit/conv_test.py \
  tests/parity/native_sampler_test.py tests/parity/native_policy_test.py \
  tests/parity/branching_test.py tests/parity/atari_screen_test.py

sanitize: sanitize_address sanitize_thread
sanitize_address: CHECKS := address,undefined,float-cast-overflow
sanitize_address: RUNTIME := libasan.so
sanitize_thread: CHECKS := thread
sanitize_thread: RUNTIME := libtsan.so
sanitize_address sanitize_thread: $(VENV)/built
	CXX=$(CXX) $(VENV)/bin/cmake --fresh -S . -B build/$@ \
	  -DPython_EXECUTABLE=$(CURDIR)/$(PY) -DTRPO_TF_SANITIZE=$(CHECKS)
	$(VENV)/bin/cmake --build build/$@ -j 2
	env TRPO_TF_EXTENSIONS=build/$@ PYTHONMALLOC=malloc \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	  TSAN_OPTIONS=ignore_noninstrumented_modules=1:die_after_fork=0 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=$(RUNTIME)) \
	    $$($(CXX) -print-file-name=libstdc++.so)" \
	  $(PY) -m pytest -n 0 -x -s $(SANITIZED) $(ARGS)

lint: $(VENV)/built
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*.cc csrc/*.h

# The rows of other libraries need their own packages:
#   .venv/bin/pip install -c constraints.txt -e '.[bench]'
bench: $(VENV)/built
	$(PY) -m trpo_tf.bin.bench

format: $(VENV)/built
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i csrc/*.cc csrc/*.h

# Needs no network, as the site does not. The variable silences an advertisement
# of MkDocs forks.
docs: $(VENV)/built
	$(PY) docs/pages.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "see build/site/index.html; its search needs a server:" \
	  "python -m http.server -d build/site"

# With what Atari games and videos need. Other extras: see pyproject.toml.
DIR ?= $(HOME)/.local/share/trpo_tf
install:
	$(PYTHON) -m venv $(DIR)
	$(DIR)/bin/python -m pip install -q -c constraints.txt '.[atari,video]'
	@echo "installed: source $(DIR)/bin/activate, then trpo-train --help"

# Leaves .venv and runs/ alone.
clean:
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -r {} +

# Three stamps: the environment, the packages in it, the extension.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python >= 3.11 is missing: $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1 || true)." \
	    "Run: make PYTHON=/path/to/python3.11"; \
	  exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "The venv module of $(PYTHON) is missing." \
	    "On Debian or Ubuntu run: apt-get install python3-venv"; \
	  exit 1; } >&2
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt $(VENV)/made
	@$(PY) -c 'import tomllib; \
	  all = tomllib.load(open("pyproject.toml", "rb")); \
	  project = all["project"]; \
	  print(*all["build-system"]["requires"], *project["dependencies"], \
	        *(package for extra in ("atari", "docs", "video", "dev") \
          for package in project["optional-dependencies"][extra]), \
        sep="\n")' \
	  > $(VENV)/requirements.txt
	$(PY) -m pip install -q -c constraints.txt -r $(VENV)/requirements.txt
	@touch $@

# Without build isolation: compiled against the MuJoCo that it will run with.
$(VENV)/built: $(VENV)/installed CMakeLists.txt $(wildcard csrc/*.cc csrc/*.h)
	@echo 'int main() { if (int i = 0; i) return i; }' | \
	  $(CXX) -std=c++17 -fsyntax-only -x c++ - || { \
	  echo "A C++17 compiler is missing: '$(CXX)' does not compile C++17." \
	    "On Debian or Ubuntu run: apt-get install g++"; \
	  exit 1; } >&2
	$(PY) -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@
