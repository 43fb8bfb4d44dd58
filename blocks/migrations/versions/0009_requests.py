"""Publications, plans, replays, renames, clean-ups, removals and erasures are among the runs that the API submitted."""

from alembic import op

revision = "0009"
down_revision = "0008"


def _allow(kinds: str) -> None:
    op.execute("ALTER TABLE api_runs DROP CONSTRAINT api_runs_kind_check")
    op.execute(f"ALTER TABLE api_runs ADD CONSTRAINT api_runs_kind_check CHECK (kind IN ({kinds}))")


def upgrade() -> None:
    """Allow them."""
    _allow("'export', 'ingest', 'restore', 'publication', 'plan', 'replay', 'rename', 'cleanup', 'removal', 'erasure'")


def downgrade() -> None:
    """Forget those that were asked for; what they published or removed stays so."""
    kinds = "'publication', 'plan', 'replay', 'rename', 'cleanup', 'removal', 'erasure'"
    op.execute(f"DELETE FROM api_runs WHERE kind IN ({kinds})")  # noqa: S608 - ours
    _allow("'export', 'ingest', 'restore'")
