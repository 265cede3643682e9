"""Where the demo keeps what it makes: everything below `.demo` in the checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
HOME = CHECKOUT / ".demo"
PGDATA = HOME / "pgdata"
DAGSTER_HOME = HOME / "dagster_home"
WORKSPACE = CHECKOUT / "workspace.yaml"
