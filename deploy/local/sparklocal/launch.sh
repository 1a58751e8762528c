# Finds a Python and hands over to the package. Sourced by up, down, status, env and spark-3.5; in sh, because it is what tells
# a machine without Python that Python is missing.

launch() {
    folder=$(cd "$(dirname "$0")" && pwd)
    for python in ${PYTHON3:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            PYTHONPATH=$folder PYTHONDONTWRITEBYTECODE=1 exec "$python" -m sparklocal "$@"
        fi
    done
    echo "this machine lacks Python 3.10 or newer: your distribution's package python3 and python3-venv," >&2
    echo "or name one with PYTHON3=/path/to/python3" >&2
    exit 1
}
