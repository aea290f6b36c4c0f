"""Writes docs/tables.md from loop/schema.py: `python docs/tables.py`. A test holds the two together."""

from __future__ import annotations

from pathlib import Path

from loop import schema

TARGET = Path(__file__).with_name("tables.md")


def page() -> str:
    """The reference of every table."""
    lines = [
        "# Tables",
        "",
        'Made from `loop/schema.py` by `make docs`. All of them can be asked with `loop sql "SELECT ..."`.',
        "Lake tables are Delta tables partitioned by day and workflow; state tables are in Postgres.",
    ]
    for table in schema.TABLES.values():
        lines += ["", f"## {table.name}", "", f"{table.store.value.title()}. {table.row[0].upper()}{table.row[1:]}."]
        lines += [f"Key: {', '.join(f'`{name}`' for name in table.key)}.", ""]
        lines += ["| column | type | meaning | privacy |", "|---|---|---|---|"]
        for c in table.columns:
            null = " (may be null)" if c.nullable else ""
            lines.append(f"| `{c.name}`{null} | {c.type} | {c.meaning} | {c.privacy} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page())
