"""the tables of labelling"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0006'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('annotations',
    sa.Column('label_task_id', sa.Text(), nullable=False, comment='the task'),
    sa.Column('annotator', sa.Text(), nullable=False, comment='pseudonym'),
    sa.Column('version', sa.BigInteger(), nullable=False, comment='from 1; a later one replaces the earlier and does not delete it'),
    sa.Column('day', sa.Date(), nullable=False, comment="the task's partition"),
    sa.Column('workflow', sa.Text(), nullable=False, comment="the task's partition"),
    sa.Column('action', sa.Text(), nullable=False, comment='answer, skip or undo'),
    sa.Column('label', sa.Text(), nullable=True, comment='first, second, tie or neither; a category; a rating'),
    sa.Column('content', sa.Text(), nullable=True, comment='JSON: spans, a written text, an attempt with outcome and severity'),
    sa.Column('reason', sa.Text(), nullable=True, comment='why it was skipped, or what the person adds'),
    sa.Column('swapped', sa.Boolean(), nullable=False, comment="whether the second text stood first on the person's page"),
    sa.Column('counts', sa.Boolean(), nullable=False, comment='false where it came after the deadline or from nobody who may: kept, not counted'),
    sa.Column('source', sa.Text(), nullable=False, comment='page, studio, vendor, import or function'),
    sa.Column('source_id', sa.Text(), nullable=True, comment='its id there, by which it is taken over once'),
    sa.Column('shown_at', sa.DateTime(timezone=True), nullable=True, comment='when the task appeared'),
    sa.Column('answered_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('seconds', sa.Double(), nullable=True, comment='time taken'),
    sa.PrimaryKeyConstraint('label_task_id', 'annotator', 'version'),
    comment="one row per version of an annotator's answer to a task; never changed, the last version counts"
    )
    op.create_index('ix_annotations_annotator_answered_at', 'annotations', ['annotator', 'answered_at'], unique=False)
    op.create_index('ix_annotations_day_workflow', 'annotations', ['day', 'workflow'], unique=False)
    op.create_table('annotators',
    sa.Column('annotator', sa.Text(), nullable=False, comment="pseudonym: keyed hash of the person's id"),
    sa.Column('source', sa.Text(), nullable=False, comment='page, studio, vendor, import or function (a labelling function)'),
    sa.Column('token_id', sa.Text(), nullable=True, comment='the public half of the token; null where there is no login'),
    sa.Column('secret_hash', sa.Text(), nullable=True, comment="SHA-256 of the token's secret half; null where there is no login"),
    sa.Column('workflows', postgresql.ARRAY(sa.Text()), nullable=False, comment='whose tasks the person is asked'),
    sa.Column('kinds', postgresql.ARRAY(sa.Text()), nullable=False, comment='which kinds of task'),
    sa.Column('harmful', sa.Boolean(), nullable=False, comment='whether the person agreed to see harmful texts'),
    sa.Column('daily_minutes', sa.BigInteger(), nullable=False, comment='most minutes of labelling a day'),
    sa.Column('daily_harmful', sa.BigInteger(), nullable=False, comment='most harmful texts a day'),
    sa.Column('pay_per_hour', sa.Double(), nullable=True, comment='what an hour is paid, in the currency of the setting'),
    sa.Column('joined_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('joined_by', sa.Text(), nullable=False, comment='who asked the person in'),
    sa.Column('removed_at', sa.DateTime(timezone=True), nullable=True, comment='from then on answers are refused'),
    sa.Column('removed_by', sa.Text(), nullable=True, comment='who ended it'),
    sa.PrimaryKeyConstraint('annotator'),
    comment='one row per person or machine that answers label tasks'
    )
    op.create_table('appeals',
    sa.Column('appeal_id', sa.Text(), nullable=False, comment='names the appeal'),
    sa.Column('label_task_id', sa.Text(), nullable=False, comment='the gold task'),
    sa.Column('annotator', sa.Text(), nullable=False, comment='pseudonym'),
    sa.Column('argument', sa.Text(), nullable=False, comment='why the known answer is wrong'),
    sa.Column('opened_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.Column('verdict', sa.Text(), nullable=True, comment='upheld (the gold was wrong) or dismissed; null while open'),
    sa.Column('answer', sa.Text(), nullable=True, comment='what the person was told'),
    sa.Column('closed_by', sa.Text(), nullable=True, comment='who decided'),
    sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True, comment='when'),
    sa.PrimaryKeyConstraint('appeal_id'),
    comment='one row per contest of a known answer by an annotator who was told to be wrong'
    )
    op.create_index('ix_appeals_label_task_id', 'appeals', ['label_task_id'], unique=False)
    op.create_table('gold',
    sa.Column('label_task_id', sa.Text(), nullable=False, comment='the task'),
    sa.Column('version', sa.BigInteger(), nullable=False, comment='from 1'),
    sa.Column('label', sa.Text(), nullable=True, comment='what is right; null where the task is gold no more'),
    sa.Column('hidden', sa.Boolean(), nullable=False, comment='whether it is put among the tasks to measure, unknown to whoever answers'),
    sa.Column('reason', sa.Text(), nullable=False, comment='where the answer is known from, or why it was corrected'),
    sa.Column('author', sa.Text(), nullable=False, comment='who said so'),
    sa.Column('changed_at', sa.DateTime(timezone=True), nullable=False, comment='when'),
    sa.PrimaryKeyConstraint('label_task_id', 'version'),
    comment='one row per version of the known answer of a task; never changed, the last version counts'
    )


def downgrade() -> None:
    op.drop_table('gold')
    op.drop_index('ix_appeals_label_task_id', table_name='appeals')
    op.drop_table('appeals')
    op.drop_table('annotators')
    op.drop_index('ix_annotations_day_workflow', table_name='annotations')
    op.drop_index('ix_annotations_annotator_answered_at', table_name='annotations')
    op.drop_table('annotations')
