"""A stored ranking is never updated: an amendment is a new row. The database itself refuses."""

from django.db import migrations

SQLITE = (
    """
    CREATE TRIGGER annotation_ranking_immutable BEFORE UPDATE ON annotation_ranking
    BEGIN SELECT RAISE(ABORT, 'a ranking is immutable; store an amendment instead'); END
    """,
    "DROP TRIGGER annotation_ranking_immutable",
)
POSTGRESQL = (
    """
    CREATE FUNCTION annotation_ranking_refuse_update() RETURNS trigger AS $$
    BEGIN RAISE EXCEPTION 'a ranking is immutable; store an amendment instead' USING ERRCODE = '23000'; END
    $$ LANGUAGE plpgsql;
    CREATE TRIGGER annotation_ranking_immutable BEFORE UPDATE ON annotation_ranking
    FOR EACH ROW EXECUTE FUNCTION annotation_ranking_refuse_update();
    """,
    """
    DROP TRIGGER annotation_ranking_immutable ON annotation_ranking;
    DROP FUNCTION annotation_ranking_refuse_update();
    """,
)


def run_for_vendor(index):
    def run(apps, schema_editor):
        statements = {"sqlite": SQLITE, "postgresql": POSTGRESQL}[schema_editor.connection.vendor]
        schema_editor.execute(statements[index])

    return run


class Migration(migrations.Migration):
    dependencies = [("annotation", "0001_initial")]
    operations = [migrations.RunPython(run_for_vendor(0), run_for_vendor(1))]
