"""Alembic's entry: writes the steps as SQL; `lookbook.blocks.migrations.upgrade` runs them in its schema."""

from alembic import context

context.configure(dialect_name="postgresql")
context.run_migrations()
