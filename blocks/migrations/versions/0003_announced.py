"""Which snapshot of a dataset was announced: one whose run was killed before is announced by the next run."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; what was published until now counts as announced."""
    op.execute("ALTER TABLE current_snapshots ADD COLUMN announced text")
    op.execute("UPDATE current_snapshots SET announced = snapshot_id")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE current_snapshots DROP COLUMN announced")
