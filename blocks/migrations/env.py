"""Alembic's entry: writes the steps as SQL, for `blocks.migrations.upgrade` to run in a transaction of its own."""

from alembic import context

context.configure(dialect_name="postgresql", version_table_schema="lookbook")
context.run_migrations()
