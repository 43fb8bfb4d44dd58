"""Making tables of staged tables: by SQL, and by Python functions."""

from tasks.tables.transform.python_tasks import run_python
from tasks.tables.transform.sql_tasks import run_sql

__all__ = ["run_python", "run_sql"]
