CREATE OR REPLACE VIEW accounts AS
SELECT
    account_id,
    group_id,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM {database}.accounts_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
