"""what the lake has of what landed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "landings",
        sa.Column(
            "lake_write",
            sa.BigInteger(),
            nullable=True,
            comment="number of the write that takes its rows to the lake: it is there if the table's log has that number, or a later one, for the partition",
        ),
    )


def downgrade() -> None:
    op.drop_column("landings", "lake_write")
