"""Making tables of staged tables: by SQL, and by Python functions."""

from lookbook.tasks.tables.transform.python_tasks import run_python
from lookbook.tasks.tables.transform.sql_tasks import run_sql

__all__ = ["run_python", "run_sql"]
