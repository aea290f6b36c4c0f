"""the tables of erasure"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('erasures',
    sa.Column('erasure_id', sa.Text(), nullable=False, comment='names the erasure'),
    sa.Column('kind', sa.Text(), nullable=False, comment='employee or interaction'),
    sa.Column('subject', sa.Text(), nullable=False, comment='keyed hash of the id that was given, which is kept nowhere'),
    sa.Column('reason', sa.Text(), nullable=False, comment='why; it may not name the person'),
    sa.Column('author', sa.Text(), nullable=False, comment='who asked for it'),
    sa.Column('asked_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('stage', sa.Text(), nullable=False, comment='the last stage that is done; after a kill it goes on behind it'),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True, comment='when it was done and verified'),
    sa.Column('report', sa.Text(), nullable=True, comment='JSON: what was removed where, in numbers'),
    sa.PrimaryKeyConstraint('erasure_id'),
    comment='one row per erasure of a person or of an interaction: who asked for it and why, and how far it is'
    )
    op.create_index('ix_erasures_subject', 'erasures', ['subject'], unique=False)
    op.create_table('taints',
    sa.Column('version', sa.Text(), nullable=False, comment='the model version'),
    sa.Column('rows', sa.BigInteger(), nullable=False, comment='rows of its own training set that were erased since'),
    sa.Column('of', sa.BigInteger(), nullable=False, comment='rows that its training set had'),
    sa.Column('share', sa.Double(), nullable=False, comment='rows / of; 0 where only an ancestor is tainted'),
    sa.Column('ancestor', sa.Text(), nullable=True, comment='the nearest tainted version that it was trained from'),
    sa.Column('tagged_at', sa.DateTime(timezone=True), nullable=False, comment='when this was last found'),
    sa.PrimaryKeyConstraint('version'),
    comment='one row per model version that learned from a row that was erased since, itself or through an ancestor'
    )


def downgrade() -> None:
    op.drop_table('taints')
    op.drop_index('ix_erasures_subject', table_name='erasures')
    op.drop_table('erasures')
