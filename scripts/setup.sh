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
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
  cat pyproject.toml constraints.txt > "$stamp"
fi
