CREATE OR REPLACE VIEW customers AS
SELECT
    customer_id,
    user_ids,
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
FROM {database}.customers_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
