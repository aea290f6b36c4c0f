"""what a day is compared with, and what became of rows that were set aside"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0003'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('profiles',
    sa.Column('day', sa.Date(), nullable=False, comment='the partition'),
    sa.Column('workflow', sa.Text(), nullable=False, comment='the partition'),
    sa.Column('digest', sa.Text(), nullable=False, comment='digest of the batch that was counted'),
    sa.Column('rows', sa.BigInteger(), nullable=False, comment='rows in interactions'),
    sa.Column('counts', sa.Text(), nullable=False, comment='JSON: decisions, lengths, languages, hashed words and n-grams, counted; no text'),
    sa.Column('made_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.PrimaryKeyConstraint('day', 'workflow'),
    comment='one row per day and workflow that was judged: its counts, against which later days are compared'
    )
    op.create_table('resolutions',
    sa.Column('quarantine_id', sa.Text(), nullable=False, comment='the row as it was set aside'),
    sa.Column('event_id', sa.Text(), nullable=True, comment="the client's key, which a replayed row keeps"),
    sa.Column('day', sa.Date(), nullable=False, comment='the partition of quarantine that it stood in'),
    sa.Column('workflow', sa.Text(), nullable=False, comment='the partition of quarantine that it stood in'),
    sa.Column('action', sa.Text(), nullable=False, comment='replayed (it has landed), duplicate (it had landed already) or dropped'),
    sa.Column('corrected', postgresql.ARRAY(sa.Text()), nullable=False, comment='fields that were corrected'),
    sa.Column('reason', sa.Text(), nullable=False, comment="why, in the author's words"),
    sa.Column('author', sa.Text(), nullable=False, comment='who did it'),
    sa.Column('resolved_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.PrimaryKeyConstraint('quarantine_id'),
    comment='one row per row that a person took out of quarantine, with the reason'
    )
    op.create_index('ix_resolutions_day_workflow', 'resolutions', ['day', 'workflow'], unique=False)


def downgrade() -> None:
    op.drop_index('ix_resolutions_day_workflow', table_name='resolutions')
    op.drop_table('resolutions')
    op.drop_table('profiles')
