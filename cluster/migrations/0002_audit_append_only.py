"""The audit log refuses UPDATE and DELETE in the database itself, and has the head of its chain.

A later migration of AuditEntry has to make the triggers anew: SQLite drops them with the old table.
"""

from django.db import migrations

SQLITE = [
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON cluster_auditentry"
    " BEGIN SELECT RAISE(ABORT, 'The audit log is append-only.'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON cluster_auditentry"
    " BEGIN SELECT RAISE(ABORT, 'The audit log is append-only.'); END",
]
POSTGRESQL = [
    "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'The audit log is append-only.'; END $$",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON cluster_auditentry"
    " FOR EACH ROW EXECUTE FUNCTION audit_append_only()",
    "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON cluster_auditentry"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
]


def forwards(apps, schema_editor):
    apps.get_model("cluster", "AuditHead").objects.create(pk=1)
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("cluster", "0001_records")]
    operations = [migrations.RunPython(forwards)]
