# Sourced by the other scripts: make .venv and install into it, once per state of the requirements.
# Usage: . scripts/setup.sh EXTRA[,EXTRA]
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1
stamp=.venv/.installed-${extras//,/-}
if [ ! -x .venv/bin/python ]; then
  "${PYTHON:-python3}" -m venv .venv
fi
if ! cmp -s <(cat pyproject.toml constraints.txt) "$stamp"; then
  echo "Installing bitdraft[$extras] into .venv: two to five minutes, about 2 GB." >&2
  pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"; }
  wheels=()
  if [[ ,$extras, = *,llama-cpp,* ]]; then
    # llama.cpp is compiled for the processor that it is built on: a wheel is kept for each kind
    kind=$(grep -m1 ^flags /proc/cpuinfo 2>/dev/null | sha256sum | cut -c1-12)
    kept=${BITDRAFT_CACHE:-$HOME/.cache/bitdraft}/wheels/$kind
    package=$(grep ^llama-cpp-python== constraints.txt)
    if ! ls "$kept/llama_cpp_python-${package#*==}"-*.whl > /dev/null 2>&1; then
      echo "Compiling llama.cpp: five to ten minutes on two cores." >&2
      CMAKE_ARGS="${CMAKE_ARGS:-} -DLLAVA_BUILD=OFF" pip wheel --no-deps --no-cache-dir -w "$kept" "$package"
    fi
    wheels=(--find-links "$kept")
  fi
  pip install "${wheels[@]}" -c constraints.txt -e ".[$extras]"
  cat pyproject.toml constraints.txt > "$stamp"
fi
