"""Alembic's entry: runs the steps on the connection that `blocks.migrations.upgrade` hands over."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
connection.execute(text("CREATE SCHEMA IF NOT EXISTS lookbook"))
context.configure(connection=connection, version_table_schema="lookbook")
with context.begin_transaction():
    context.run_migrations()
