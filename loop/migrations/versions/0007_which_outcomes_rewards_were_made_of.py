"""which outcomes rewards were made of"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "landings",
        sa.Column(
            "rewarded",
            sa.Boolean(),
            nullable=True,
            comment="of outcomes: whether `rewards` were made of its rows; null of what is not outcomes",
        ),
    )
    # Nothing says which were: the rewards of those days are made once more.
    op.execute("UPDATE landings SET rewarded = false WHERE kind = 'outcomes'")
    op.create_index("ix_landings_rewarded", "landings", ["rewarded"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_landings_rewarded", table_name="landings")
    op.drop_column("landings", "rewarded")
