"""when annotations were recorded"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    meaning = "when it was stored here; a cycle reads up to its cut-off by it"
    op.add_column("annotations", sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True, comment=meaning))
    # Nothing else says when they came, and cycles until now read them by this.
    op.execute("UPDATE annotations SET recorded_at = answered_at")
    op.alter_column("annotations", "recorded_at", nullable=False)


def downgrade() -> None:
    op.drop_column("annotations", "recorded_at")
