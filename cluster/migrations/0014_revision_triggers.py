"""Revisions are immutable in the database too: their columns never change, and they go after their cluster alone.

An author whose account is removed becomes empty; the name beside it stays. TRUNCATE is left to the database's
owner. A later migration of Revision has to make the triggers anew: SQLite drops them with the old table.
"""

import django.db.models.deletion
from django.db import migrations, models

COLUMNS = 'id, cluster_id, number, "table", traffic, fingerprint, author_name, reason, ticket, created'
CHANGED = "A revision never changes; make a new one."
DELETED = "A revision is deleted with its cluster alone, after it."
SQLITE = [
    f"CREATE TRIGGER revision_no_update BEFORE UPDATE OF {COLUMNS} ON cluster_revision"
    f" BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END",
    "CREATE TRIGGER revision_no_author BEFORE UPDATE OF author_id ON cluster_revision"
    f" WHEN NEW.author_id IS NOT NULL BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END",
    "CREATE TRIGGER revision_no_delete BEFORE DELETE ON cluster_revision"
    " WHEN EXISTS (SELECT 1 FROM cluster_cluster WHERE id = OLD.cluster_id)"
    f" BEGIN SELECT RAISE(ABORT, '{DELETED}'); END",
    # INSERT OR REPLACE deletes without asking the triggers of DELETE.
    "CREATE TRIGGER revision_no_replace BEFORE INSERT ON cluster_revision WHEN EXISTS"
    " (SELECT 1 FROM cluster_revision WHERE id = NEW.id OR (cluster_id, number) = (NEW.cluster_id, NEW.number))"
    f" BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END",
]
POSTGRESQL = [
    "CREATE FUNCTION revision_never_changes() RETURNS trigger LANGUAGE plpgsql AS"
    f" $$ BEGIN RAISE EXCEPTION '{CHANGED}'; END $$",
    "CREATE FUNCTION revision_goes_last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF EXISTS (SELECT 1 FROM cluster_cluster WHERE id = OLD.cluster_id) THEN"
    f" RAISE EXCEPTION '{DELETED}'; END IF; RETURN OLD; END $$",
    f"CREATE TRIGGER revision_no_update BEFORE UPDATE OF {COLUMNS} ON cluster_revision"
    " FOR EACH ROW EXECUTE FUNCTION revision_never_changes()",
    "CREATE TRIGGER revision_no_author BEFORE UPDATE OF author_id ON cluster_revision"
    " FOR EACH ROW WHEN (NEW.author_id IS NOT NULL) EXECUTE FUNCTION revision_never_changes()",
    "CREATE TRIGGER revision_no_delete BEFORE DELETE ON cluster_revision"
    " FOR EACH ROW EXECUTE FUNCTION revision_goes_last()",
]


def make_triggers(apps, schema_editor):
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("cluster", "0013_untold_drift")]
    operations = [
        migrations.AlterField(
            model_name="revision",
            name="cluster",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="revisions",
                to="cluster.cluster",
            ),
        ),
        migrations.RunPython(make_triggers),
    ]
