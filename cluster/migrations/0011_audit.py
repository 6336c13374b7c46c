"""The audit log's second format, its checkpoints, and the searches that people keep.

SQLite makes the table anew for each new column and drops the triggers with the old one.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

SQLITE_TRIGGERS = {"audit_no_update": "UPDATE", "audit_no_delete": "DELETE"}


def drop_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        for name in SQLITE_TRIGGERS:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}")


def make_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        for name, verb in SQLITE_TRIGGERS.items():
            schema_editor.execute(
                f"CREATE TRIGGER {name} BEFORE {verb} ON cluster_auditentry"
                " BEGIN SELECT RAISE(ABORT, 'The audit log is append-only.'); END"
            )


class Migration(migrations.Migration):

    dependencies = [
        ('cluster', '0010_confirm'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(drop_triggers),
        migrations.CreateModel(
            name='AuditCheckpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.BigIntegerField()),
                ('key', models.CharField(max_length=64)),
                ('at', models.DateTimeField()),
                ('envelope', models.JSONField()),
            ],
            options={
                'ordering': ['-sequence'],
            },
        ),
        migrations.CreateModel(
            name='AuditSearch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64)),
                ('query', models.CharField(blank=True, max_length=400)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.AddField(
            model_name='auditentry',
            name='format',
            field=models.PositiveSmallIntegerField(default=1),
        ),
        migrations.AddField(
            model_name='auditentry',
            name='object_id',
            field=models.CharField(blank=True, max_length=40),
        ),
        migrations.AddField(
            model_name='auditentry',
            name='object_kind',
            field=models.CharField(blank=True, max_length=16),
        ),
        migrations.AddField(
            model_name='auditentry',
            name='role',
            field=models.CharField(blank=True, max_length=40),
        ),
        migrations.AddField(
            model_name='auditentry',
            name='session',
            field=models.CharField(blank=True, max_length=24),
        ),
        migrations.AddConstraint(
            model_name='auditcheckpoint',
            constraint=models.UniqueConstraint(fields=('key', 'sequence'), name='one_checkpoint_per_entry'),
        ),
        migrations.AddField(
            model_name='audithead',
            name='rechecked_sequence',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='audithead',
            name='broken',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='audithead',
            name='sealed_hash',
            field=models.CharField(default="0" * 64, max_length=64),
        ),
        migrations.AddField(
            model_name='audithead',
            name='sealed_sequence',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddIndex(
            model_name='auditentry',
            index=models.Index(fields=['object_kind', 'object_id', '-sequence'], name='audit_by_object'),
        ),
        migrations.AddIndex(
            model_name='auditentry',
            index=models.Index(fields=['request_id', '-sequence'], name='audit_by_request'),
        ),
        migrations.AddIndex(
            model_name='auditentry',
            index=models.Index(fields=['result', '-sequence'], name='audit_by_result'),
        ),
        migrations.AddIndex(
            model_name='auditentry',
            index=models.Index(fields=['at', 'sequence'], name='audit_by_time'),
        ),
        migrations.AddField(
            model_name='auditsearch',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='audit_searches', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='auditsearch',
            constraint=models.UniqueConstraint(fields=('user', 'name'), name='one_search_per_name'),
        ),
        migrations.RunPython(make_triggers),
    ]
