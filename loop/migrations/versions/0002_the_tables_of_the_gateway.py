"""the tables of the gateway"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('audit',
    sa.Column('audit_id', sa.Text(), nullable=False, comment='names the act'),
    sa.Column('happened_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('actor', sa.Text(), nullable=False, comment="who: a user of the machine, or a token's id"),
    sa.Column('action', sa.Text(), nullable=False, comment='what: token.create, token.revoke, pseudonym.rotate'),
    sa.Column('subject', sa.Text(), nullable=False, comment='to what'),
    sa.Column('detail', sa.Text(), nullable=False, comment='JSON; never a secret, never a person'),
    sa.PrimaryKeyConstraint('audit_id'),
    comment='one row per administrative act'
    )
    op.create_index('ix_audit_happened_at', 'audit', ['happened_at'], unique=False)
    op.create_table('builds',
    sa.Column('day', sa.Date(), nullable=False, comment='the partition'),
    sa.Column('workflow', sa.Text(), nullable=False, comment='the partition'),
    sa.Column('landed', sa.BigInteger(), nullable=False, comment='landed events that were read'),
    sa.Column('digest', sa.Text(), nullable=False, comment="digest of the batch's content"),
    sa.Column('built_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.PrimaryKeyConstraint('day', 'workflow'),
    comment='one row per day and workflow that was made from what has landed; compared with landings and batches, it tells what waits to be read or judged'
    )
    op.create_table('tokens',
    sa.Column('token_id', sa.Text(), nullable=False, comment='the public half of the token'),
    sa.Column('tool', sa.Text(), nullable=False, comment='which tool holds it'),
    sa.Column('secret_hash', sa.Text(), nullable=False, comment='SHA-256 of the secret half; the secret itself is shown once and never stored'),
    sa.Column('workflows', postgresql.ARRAY(sa.Text()), nullable=False, comment='what it may speak of'),
    sa.Column('scopes', postgresql.ARRAY(sa.Text()), nullable=False, comment='suggest, feedback, outcomes, admin, erase'),
    sa.Column('purposes', postgresql.ARRAY(sa.Text()), nullable=False, comment='what its people consented to, where an event does not say: training, evaluation'),
    sa.Column('per_minute', sa.BigInteger(), nullable=False, comment='most requests a minute'),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('created_by', sa.Text(), nullable=False, comment='who made it'),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True, comment='when it ended'),
    sa.Column('revoked_by', sa.Text(), nullable=True, comment='who ended it'),
    sa.PrimaryKeyConstraint('token_id'),
    comment='one row per token with which a tool may speak to the gateway'
    )


def downgrade() -> None:
    op.drop_table('tokens')
    op.drop_table('builds')
    op.drop_index('ix_audit_happened_at', table_name='audit')
    op.drop_table('audit')
