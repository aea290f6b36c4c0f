"""adjudication is a source of annotations"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BEFORE = {
    "annotations": "page, studio, vendor, import or function",
    "annotators": "page, studio, vendor, import or function (a labelling function)",
}


def upgrade() -> None:
    for table, told in BEFORE.items():
        comment = told.replace("import or function", "import, adjudication or function")
        op.alter_column(table, "source", existing_type=sa.Text(), comment=comment, existing_comment=told)


def downgrade() -> None:
    for table, told in BEFORE.items():
        op.alter_column(table, "source", existing_type=sa.Text(), comment=told)
