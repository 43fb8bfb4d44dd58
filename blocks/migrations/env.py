"""Alembic's entry: writes the steps as SQL, for `blocks.migrations.upgrade` to run in the schema that it is in."""

from alembic import context

context.configure(dialect_name="postgresql")
context.run_migrations()
