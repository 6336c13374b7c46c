"""SQLite deletes for an INSERT OR REPLACE without asking the triggers of DELETE. PostgreSQL has no such thing."""

from django.db import migrations

TRIGGER = (
    "CREATE TRIGGER audit_no_replace BEFORE INSERT ON cluster_auditentry WHEN EXISTS"
    " (SELECT 1 FROM cluster_auditentry WHERE id = NEW.id OR sequence = NEW.sequence)"
    " BEGIN SELECT RAISE(ABORT, 'The audit log is append-only.'); END"
)


def make_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(TRIGGER)


class Migration(migrations.Migration):
    dependencies = [("cluster", "0014_revision_triggers")]
    operations = [migrations.RunPython(make_trigger)]
