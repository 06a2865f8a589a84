CREATE OR REPLACE VIEW identity_conflicts AS
SELECT
    event_id,
    subject_id,
    subject,
    other_id,
    other,
    occurred_at,
    status
FROM {database}.identity_conflicts_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
